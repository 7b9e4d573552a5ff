"""Read and check ``data_manifest/``: who takes part, who is in which set, which files come from elsewhere.

Every table is checked whole, and every bad row is named in one `ManifestError`: the line of the file, the
column, the value, and what is allowed. `fetch` (from `sn2nlib.scans.sources`) gets a file by its checksum.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pandas as pd
import pandera.pandas as pa
import yaml

from sn2nlib.errors import ManifestError
from sn2nlib.scans.raw.layout_table import load_layouts
from sn2nlib.scans.sources import Source, SourceUnavailable, data_folders, fetch, find, locate

__all__ = [
    "Source", "SourceUnavailable", "choose_sources", "data_folders", "fetch", "fetch_each", "find", "load_howto",
    "load_marks", "load_participants", "load_sources", "load_splits", "locate", "manifest_folder",
]  # fmt: skip

HOWTO_KEYS = ("name", "title", "where", "licence", "layout", "get", "read", "training")
SETS = ("training", "validation", "qualitative", "quantitative", "generalisation", "real_head")


def _one_of(*allowed: str) -> pa.Check:
    return pa.Check.isin(allowed, error="one of " + ", ".join(repr(word) for word in allowed))


def _matches(pattern: str, meaning: str) -> pa.Check:
    return pa.Check(lambda column: column.str.fullmatch(pattern), error=meaning)


def _is_url(column: pd.Series) -> pd.Series:
    def good(text: str) -> bool:
        parts = urlsplit(text)
        encoded = quote(parts.path, safe="/%~") == parts.path
        return not text or (parts.scheme in ("http", "https") and bool(parts.netloc) and encoded)

    return column.map(good).astype(bool)


_NAME = r"[A-Za-z]\w*"
_FILLED = r"\S(.*\S)?"
_AGE = r"|1[89]|[2-9]\d|1[01]\d"

# Columns are checked as text, so that a message shows what the file says, not what pandas made of it.
_PARTICIPANTS = pa.DataFrameSchema(
    {
        "participant": pa.Column(str, _matches(_NAME, "a letter, then letters, digits or _"), unique=True),
        "kind": pa.Column(str, _one_of("digital", "real")),
        "set": pa.Column(str, _one_of(*SETS)),
        "age": pa.Column(str, _matches(_AGE, "whole years, 18 to 119, or empty if not stated")),
        "sex": pa.Column(str, _matches(r"[FM]?", "'F', 'M', or empty if not stated")),
        "condition": pa.Column(str, _matches(_FILLED, "words; 'not stated' if unknown")),
        "seed": pa.Column(str, _matches(r"\d*", "a whole number, or empty for a real head")),
        "synthetic": pa.Column(str, _one_of("true", "false")),
    },
    strict=True,
)
_SPLITS = pa.DataFrameSchema(
    {
        "profile": pa.Column(str, _matches(_NAME, "the name of a profile")),
        "participant": pa.Column(str, _matches(_FILLED, "a participant of participants.csv")),
        "set": pa.Column(str, _one_of(*SETS)),
    },
    strict=True,
)
_MARKS = pa.DataFrameSchema(
    {
        "participant": pa.Column(str, _matches(_FILLED, "a participant of participants.csv")),
        "plane": pa.Column(str, _one_of("sagittal", "coronal", "axial")),
        "site": pa.Column(str, _matches(_FILLED, "the name of a vessel site")),
    },
    strict=True,
)
_SOURCES = pa.DataFrameSchema(
    {
        "name": pa.Column(str, _matches(_FILLED, "a name"), unique=True),
        "kind": pa.Column(str, _one_of("package", "pypi", "url")),
        "file": pa.Column(str, _matches(r"[\w][\w.-]*", "a plain file name"), unique=True),
        "sha256": pa.Column(str, _matches(r"[0-9a-f]{64}", "64 hex digits in lower case")),
        "size": pa.Column(str, _matches(r"[1-9]\d*", "bytes, a whole number above 0")),
        "licence": pa.Column(str, _matches(_FILLED, "the licence; what has none is not listed")),
        "used_for": pa.Column(str, _matches(_FILLED, "what the study does with it")),
        "package": pa.Column(str),
        "version": pa.Column(str),
        "member": pa.Column(str, _matches(r"|(?!/)(?!.*\.\.).+", "a path inside the package, without '..'")),
        "url": pa.Column(str, pa.Check(_is_url, error="an http(s) address, percent-encoded")),
    },
    strict=True,
)


def manifest_folder(start: str | os.PathLike[str] | None = None) -> Path:
    """Find ``data_manifest/`` in `start` (the working folder by default), above it, or in this checkout.

    Raises
    ------
    ManifestError
        If there is none.
    """
    begin = Path.cwd() if start is None else Path(start).resolve()
    for folder in (begin, *begin.parents, Path(__file__).resolve().parents[2]):
        if (folder / "data_manifest" / "participants.csv").is_file():
            return folder / "data_manifest"
    raise ManifestError(f"No data_manifest/participants.csv in {begin} or above; run in the study's folder")


def load_participants(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Read ``participants.csv``.

    Parameters
    ----------
    folder
        The ``data_manifest`` folder.

    Returns
    -------
    One row per participant: participant (name), kind (digital or real), set, age (years, Int64, missing if
    not stated), sex ('F', 'M' or missing), condition, seed (Int64, missing for real heads), synthetic (bool:
    age, sex and condition were invented).

    Raises
    ------
    ManifestError
        Naming every bad row.
    """
    path = Path(folder, "participants.csv")
    table = _read_csv(path, _PARTICIPANTS)
    problems = _schema_problems(table, _PARTICIPANTS)
    digital = table["kind"] == "digital"
    problems += _rows(table, digital & (table["seed"] == ""), "seed", "a whole number for a digital head")
    problems += _rows(
        table, digital & (table["synthetic"] == "false"), "synthetic", "'true': a digital head is nobody's"
    )
    problems += _rows(
        table, digital == (table["set"] == "real_head"), "set",
        "'real_head' for real heads and for them alone: none is trained on",
    )  # fmt: skip
    repeated = table["seed"].duplicated(keep=False) & (table["seed"] != "")
    problems += _rows(table, repeated, "seed", "a number of its own for every head")
    _raise(path, problems)
    return table.assign(
        age=pd.to_numeric(table["age"]).astype("Int64"),
        sex=table["sex"].where(table["sex"] != "", None),
        seed=pd.to_numeric(table["seed"]).astype("Int64"),
        synthetic=table["synthetic"] == "true",
    )


def load_splits(folder: str | os.PathLike[str], profile: str) -> pd.DataFrame:
    """Read ``splits.csv`` (checked whole) and return the rows of one profile, joined with the participants.

    Parameters
    ----------
    folder
        The ``data_manifest`` folder.
    profile
        Name of the profile.

    Returns
    -------
    The columns of `load_participants`, one row per participant of the profile, in the file's order.

    Raises
    ------
    ManifestError
        Naming every bad row: an unknown participant, one listed twice or in two sets of a profile, one in
        another set than ``participants.csv`` says; or if no row is of this profile.
    """
    participants = load_participants(folder)
    path = Path(folder, "splits.csv")
    table = _read_csv(path, _SPLITS)
    problems = _schema_problems(table, _SPLITS)
    home = table["participant"].map(participants.set_index("participant")["set"])
    problems += _rows(table, home.isna(), "participant", "a participant of participants.csv")
    twice = table.duplicated(["profile", "participant"], keep=False)
    for _, rows in table[twice].groupby(["profile", "participant"], sort=False):
        name, who = rows.iloc[0][["profile", "participant"]]
        lines = ", ".join(f"line {row + 2} ({table.at[row, 'set']!r})" for row in rows.index)
        problems.append((rows.index[0], f"{who!r} is in more than one split of profile {name!r}: {lines}"))
    problems += _rows(
        table, home.notna() & (home != table["set"]), "set",
        "the set of participants.csv, so that nobody trains in one profile and tests in another",
    )  # fmt: skip
    _raise(path, problems)
    chosen = table.loc[table["profile"] == profile, ["participant"]]
    if chosen.empty:
        known = ", ".join(dict.fromkeys(table["profile"]))
        raise ManifestError(f"{path}: no participant for profile {profile!r}; listed profiles: {known}")
    return chosen.merge(participants, on="participant", how="left", validate="one_to_one")


def load_marks(folder: str | os.PathLike[str]) -> dict[tuple[str, str], str]:
    """Read ``marks.csv``: (participant, plane) → the vessel site that a figure magnifies and points at.

    Raises
    ------
    ManifestError
        Naming every bad row: an unknown participant or plane, or one marked twice.
    """
    participants = load_participants(folder)
    path = Path(folder, "marks.csv")
    table = _read_csv(path, _MARKS)
    problems = _schema_problems(table, _MARKS)
    known = table["participant"].isin(participants["participant"])
    problems += _rows(table, ~known, "participant", "a participant of participants.csv")
    problems += _rows(table, table.duplicated(["participant", "plane"]), "plane", "each plane of a participant once")
    _raise(path, problems)
    return {(who, plane): site for who, plane, site in table.to_numpy(str).tolist()}


def load_sources(folder: str | os.PathLike[str]) -> dict[str, Source]:
    """Read ``sources.yaml``: the files that the study takes from elsewhere, by name.

    Raises
    ------
    ManifestError
        Naming every bad entry.
    """
    path = Path(folder, "sources.yaml")
    columns = list(_SOURCES.columns)
    entries = read_entries(path, columns)
    unknown = [
        (row, f"unknown key {key!r}")
        for row, entry in enumerate(entries) for key in entry if key not in columns
    ]  # fmt: skip
    table = pd.DataFrame([[str(entry.get(key, "")) for key in columns] for entry in entries], columns=columns)
    problems = unknown + _schema_problems(table, _SOURCES)
    for column in ("package", "version", "member"):
        needed = (table["kind"] != "url") & (table[column] == "")
        problems += _rows(table, needed, column, "a value, for kinds 'package' and 'pypi'")
    wrong = (table["kind"] == "url") != (table["url"] != "")
    problems += _rows(table, wrong, "url", "an address for kind 'url', nothing for the others")
    _raise(path, problems, unit="entry", first=1)
    records: list[dict[Any, Any]] = table.assign(size=table["size"].astype(int)).to_dict("records")
    return {record["name"]: Source(**record) for record in records}


def choose_sources(
    sources: Mapping[str, Source],
    names: Sequence[str] = (),
    *,
    everything: bool = False,
    by_hand: Iterable[Mapping[str, str]] = (),
) -> list[Source]:
    """The sources of these names, each once, or all of them.

    Parameters
    ----------
    sources, names, everything
        What there is, and what is wanted.
    by_hand
        From `load_howto`: what cannot be fetched.

    Raises
    ------
    ManifestError
        Naming every unknown name, and the known ones; or where to get by hand what cannot be fetched.
    """
    for entry in by_hand:
        if entry["name"] in names:
            raise ManifestError(f"{entry['name']} is to be got by hand: {entry['where']}")
    unknown = [name for name in names if name not in sources]
    if unknown:
        raise ManifestError(f"no source is called {', '.join(unknown)}; listed are {', '.join(sources)}")
    return list(sources.values()) if everything else [sources[name] for name in dict.fromkeys(names)]


def fetch_each(sources: Iterable[Source]) -> Iterator[tuple[Source, Path]]:
    """`fetch` each source; one that cannot be had does not keep the others.

    Raises
    ------
    SourceUnavailable
        At the end: one sentence for each that could not be had.
    """
    failures = []
    for source in sources:
        try:
            yield source, fetch(source)
        except SourceUnavailable as error:
            failures.append(str(error))
    if failures:
        raise SourceUnavailable("\n".join(failures))


def load_howto(folder: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Read ``howto.yaml``: public sets of raw scans that are too large, or not allowed, to be fetched by this package.

    Returns
    -------
    One entry per set, with the keys `HOWTO_KEYS`; `layout` is a name of ``sn2nlib/scans/raw/layouts.yaml``.

    Raises
    ------
    ManifestError
        Naming every bad entry.
    """
    path = Path(folder, "howto.yaml")
    entries = read_entries(path, HOWTO_KEYS, may_be_empty=True)
    known = {layout.name for layout in load_layouts()}
    problems = [
        (row, f"the keys must be {', '.join(HOWTO_KEYS)}, each with words, not {', '.join(map(str, entry))}")
        for row, entry in enumerate(entries)
        if tuple(entry) != HOWTO_KEYS or not all(isinstance(words, str) and words.strip() for words in entry.values())
    ]
    problems += [
        (row, f"layout = {entry.get('layout')!r}, allowed: one of {', '.join(sorted(known))}")
        for row, entry in enumerate(entries) if entry.get("layout") not in known
    ]  # fmt: skip
    _raise(path, problems, unit="entry", first=1)
    return [{key: " ".join(words.split()) for key, words in entry.items()} for entry in entries]


def read_entries(path: Path, keys: Sequence[str], *, may_be_empty: bool = False) -> list[dict[Any, Any]]:
    """The entries of a YAML file that is a list of them; their keys are not checked.

    Parameters
    ----------
    path
        The file.
    keys
        What the entries are to have, as the error message says.
    may_be_empty
        Whether a list without entries will do.

    Raises
    ------
    ManifestError
        If the file cannot be read, or is no such list.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    is_list = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
    if not is_list or not (entries or may_be_empty):
        raise ManifestError(f"{path} must be a list of entries with the keys {', '.join(keys)}")
    return list(entries)


def _read_csv(path: Path, schema: pa.DataFrameSchema) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    expected = list(schema.columns)
    if list(table.columns) != expected:
        found = ",".join(table.columns)
        raise ManifestError(f"{path}: the columns must be {','.join(expected)}, not {found}")
    return table


def _schema_problems(table: pd.DataFrame, schema: pa.DataFrameSchema) -> list[tuple[int, str]]:
    """(row, sentence) for everything that one column alone can be wrong about."""
    try:
        schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases.to_dict("records")
        return [(int(case["index"]), _sentence(case)) for case in cases]
    return []


def _sentence(case: dict[Any, Any]) -> str:
    allowed = "every value once" if case["check"] == "field_uniqueness" else case["check"]
    return f"{case['column']} = {case['failure_case']!r}, allowed: {allowed}"


def _rows(table: pd.DataFrame, bad: pd.Series, column: str, allowed: str) -> list[tuple[int, str]]:
    return [(row, f"{column} = {table.at[row, column]!r}, allowed: {allowed}") for row in table.index[bad]]


def _raise(path: Path, problems: Iterable[tuple[int, str]], *, unit: str = "line", first: int = 2) -> None:
    # line 1 of a CSV file is its header
    lines = [f"  {unit} {row + first}: {sentence}" for row, sentence in sorted(problems)]
    if lines:
        raise ManifestError(f"{path}: {len(lines)} problem(s)\n" + "\n".join(lines))
