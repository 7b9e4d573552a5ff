"""The tables of the reader study: scores of both arms and agreement of the readers, beside the published numbers.

A `ReaderTable` holds the cells as text, as they are printed: `to_html` makes a `great_tables.GT` of it,
`sn2nlib.reporting.document` a page of a word processor, and its frame is a CSV file.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from great_tables import GT

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.readers.summary import ALL, AVERAGING, BOTH, FAMILY, POOLING, Summary
from sn2nlib.evaluation.signed_rank import ONE_TEST
from sn2nlib.reporting.html import PAPER
from sn2nlib.reporting.published import Published
from sn2nlib.reporting.wording import NOTHING, fixed, format_p, mean_sd, signed

SYNTHETIC = "Synthetic readers: a model observer gave these scores, no person did; p-values and κ describe the model."
MPRAGE = ("image_quality", "fine_structures")
# every table that scores may give, in order; also the names of their files
NAMES = (
    "reader_scores", "reader_lesions", "reader_vessel_wall", "table_s3", "table_s4", "intra_reader", "cases_needed",
)  # fmt: skip
OWN_NAMES = ("agreement", "agreement_vessel_wall")  # instead of table_s3 and table_s4, without the paper's numbers

GROUP_TITLES = {
    "image_quality": "Image quality",
    "fine_structures": "Delineation of fine structures",
    "lesions": "Lesion conspicuity",
    "vessel_wall": "Image quality of vessel wall images",
}
SCORE_NOTE = (
    "Scores from 1 to 5, 5 is best; mean ± SD over cases. p: Wilcoxon’s signed-rank test of sN2N against the original "
    "(two-sided, asymptotic, zeros dropped, ties corrected, no continuity correction, as SPSS). r: matched-pairs "
    "rank-biserial correlation, positive where sN2N is better."
)
EXACT_NOTE = "p (exact): from all signs that the same ranks could have; shown where a group has ten cases or fewer."
FEW = 10  # cases; the normal distribution is a poor stand-in for the test's own up to here
KAPPA_NOTE = (
    "κ: Cohen’s κ with {weights} weights over the scale from 1 to 5, both arms pooled (two ratings a case and reader); "
    "[…]: 95 % confidence interval. Bootstrap: 95 % interval from resampled cases, the two arms of a case together. "
    "p: of κ = 0. Same grade: percent of images. AC2: Gwet’s, with the same weights, to be read where κ is undefined "
    "or paradoxical (*). Bands: poor ≤ 0.20, fair ≤ 0.40, moderate ≤ 0.60, substantial ≤ 0.80, almost perfect ≤ 1."
)

_PLUS_MINUS = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
_PUBLISHED_MEANS = {
    "image_quality": "mean image-quality score MP-RAGE", "fine_structures": "mean fine-structure score MP-RAGE",
    "lesions": "lesion conspicuity MP-RAGE", "vessel_wall": "mean image-quality score VWI",
}  # fmt: skip
_OF_READER = {
    "original": "Original", "sN2N": "sN2N", "p": "p", "p_exact": "p (exact)", "p_holm": "p (Holm)", "r": "r",
}  # fmt: skip
_SINGLE = ("lesions",)  # groups of one parameter, whose mean is the group's
_PUBLISHED_KAPPA = {"image_quality": "weighted kappa MP-RAGE", "vessel_wall": "weighted kappa VWI"}


@dataclass(frozen=True)
class Column:
    """A column of numbers: its key in the rows, its heading, and what stands over it and its neighbours."""

    key: str
    heading: str
    over: str = ""


@dataclass(frozen=True)
class ReaderTable:
    """A table as it is printed.

    Attributes
    ----------
    name
        Of its files.
    title, subtitle
        Above it.
    rows
        section, label, and the text of every column.
    columns
        In order.
    notes
        Sentences below it.
    source
        human or synthetic.
    """

    name: str
    title: str
    subtitle: str
    rows: pd.DataFrame
    columns: tuple[Column, ...]
    notes: tuple[str, ...]
    source: str

    @property
    def frame(self) -> pd.DataFrame:
        """The cells under headings of one row, and in the first column who the readers were."""
        headings = {column.key: f"{column.over}: {column.heading}".removeprefix(": ") for column in self.columns}
        named = self.rows.rename(columns={"section": "Group", "label": "Parameter", **headings})
        named = named[["Group", "Parameter", *headings.values()]]
        named.insert(0, "Readers", self.source)
        return named.replace(_PLUS_MINUS, " ± ", regex=True)


def reader_tables(summary: Summary, published: Published | None = None) -> list[ReaderTable]:
    """Every table that the scores give, in the order of the paper.

    Parameters
    ----------
    summary
        As returned by `sn2nlib.evaluation.readers.summary.summarise`.
    published
        The paper's numbers; they, the paper's names of the tables, and what is unclear in it are left out if None.

    Returns
    -------
    Of those with rows: scores of MP-RAGE, lesions, vessel wall images; Table S3 and S4 (agreement of the readers);
    intra-reader agreement; cases needed.
    """
    own = published is None
    scores = {
        "reader_scores": (MPRAGE, "Reader scores" if own else "Reader scores, MP-RAGE (numbers of Figure 2)"),
        "reader_lesions": (("lesions",), "Lesion conspicuity" if own else "Lesion conspicuity, MP-RAGE"),
        "reader_vessel_wall": (
            ("vessel_wall",), f"Reader scores, vessel wall imaging{'' if own else ' (numbers of Figure S7)'}",
        ),
    }  # fmt: skip
    agreement = {
        "agreement" if own else "table_s3": (
            (*MPRAGE, "lesions"), "Agreement of the readers" if own else "Table S3. Agreement of the readers, MP-RAGE",
        ),
        "agreement_vessel_wall" if own else "table_s4": (
            ("vessel_wall",), f"{'' if own else 'Table S4. '}Agreement of the readers, vessel wall imaging",
        ),
    }  # fmt: skip
    made = [scores_table(summary, published, each, name=name, title=title) for name, (each, title) in scores.items()]
    made += [
        agreement_table(summary, published, each, name=name, title=title) for name, (each, title) in agreement.items()
    ]
    made += [intra_reader_table(summary), needed_table(summary)]
    return [table for table in made if len(table.rows)]


def scores_table(
    summary: Summary, published: Published | None, groups: Sequence[str], *, name: str, title: str
) -> ReaderTable:
    """Scores of both arms, reader by reader and together, and of each whole group beside the published means.

    Parameters
    ----------
    summary, published
        As in `reader_tables`.
    groups
        Groups of parameters; they should have the same readers.
    name, title
        Of the table; it has a column of published means only with `published`.
    """
    scored = [group for group in groups if group in summary.readers]
    readers = list(dict.fromkeys(reader for group in scored for reader in summary.readers[group]))
    rows = []
    for group in scored:
        pooled = summary.pooled[summary.pooled["group"] == group]
        names = list(dict.fromkeys(pooled["parameter"]))[1:]  # the first is the whole group
        theirs = _published_means(published, group) if published else {}
        for parameter in names:
            together = _row(pooled, parameter=parameter, reader=ALL)
            row = {"section": GROUP_TITLES[group], "label": str(together["title"])}
            for reader in readers:
                row |= _reader_cells(reader, summary.comparison, parameter=parameter, reader=reader)
            rows.append(row | _together(together) | (theirs if group in _SINGLE else dict.fromkeys(theirs, NOTHING)))
        if group not in _SINGLE:
            row = {"section": GROUP_TITLES[group], "label": "All parameters"}
            for reader in readers:
                row |= _reader_cells(reader, pooled, parameter=ALL, reader=reader)
            rows.append(row | _together(_row(pooled, parameter=ALL, reader=ALL)) | theirs)
    few = min((summary.n_cases[group] for group in scored), default=0) <= FEW
    columns = [
        Column(f"{reader}_{key}", heading, reader)
        for reader in readers
        for key, heading in _OF_READER.items()
        if few or key != "p_exact"
    ]
    columns += [Column(arm, _OF_READER[arm], "Readers together") for arm in ("original", "sN2N")]
    comparison = summary.comparison[summary.comparison["group"].isin(scored)]
    notes = [SCORE_NOTE, *([EXACT_NOTE] if few else []), *_fewer(summary, comparison), FAMILY]
    notes += [AVERAGING if published else POOLING, *_told(comparison)]
    if published:
        columns += [
            Column("p_original", "Original", "Published"), Column("p_sN2N", "sN2N", "Published"),
            Column("p_detail", "p", "Published"),
        ]  # fmt: skip
        notes += [*_inconsistencies(published, scored), PAPER]
    return _table(summary, name, title, scored, rows, columns, notes)


def agreement_table(
    summary: Summary, published: Published | None, groups: Sequence[str], *, name: str, title: str
) -> ReaderTable:
    """κ, its intervals, p and band, percent agreement and AC2 of every two readers; parameters as in `scores_table`."""
    part = summary.agreement[summary.agreement["group"].isin(groups)]
    pairs = part[["first", "second"]].drop_duplicates()
    rows = []
    for (group, first, second, _), cells in part.groupby(["group", "first", "second", "parameter"], sort=False):
        both = _row(cells, arm=BOTH)
        between = f", {first} and {second}" if len(pairs) > 1 else ""
        row = {"section": GROUP_TITLES[str(group)] + between, "label": str(both["title"])}
        rows.append(row | _kappa_cells(both) | {arm: _kappa(_row(cells, arm=arm)) for arm in ("original", "sN2N")})
    columns = [
        *_kappa_columns(),
        Column("original", "Original", "κ of one arm"),
        Column("sN2N", "sN2N", "κ of one arm"),
    ]
    notes = [KAPPA_NOTE.format(weights=summary.weights), *_range_notes(part, published, groups), *_told(part)]
    notes += [PAPER] if published else []
    return _table(summary, name, title, [group for group in groups if group in summary.readers], rows, columns, notes)


def intra_reader_table(summary: Summary) -> ReaderTable:
    """Agreement of each reader's repeated readings with the first ones, all parameters of a group pooled."""
    part = summary.intra_reader
    alone = part.groupby("group")["parameter"].transform("nunique") == 1
    part = part[alone | (part["parameter"] == ALL)]
    rows = [
        {"section": GROUP_TITLES[row["group"]], "label": row["reader"]} | _kappa_cells(row)
        for _, row in part.iterrows()
    ]
    notes = [KAPPA_NOTE.format(weights=summary.weights), "Parameters of a group are pooled.", *_told(part)]
    title = "Agreement of repeated readings with the first ones"
    return _table(summary, "intra_reader", title, [], rows, _kappa_columns(), notes)


def needed_table(summary: Summary) -> ReaderTable:
    """How many cases a study with one reader needs to find differences as large as those found here."""
    rows = [
        {
            "section": GROUP_TITLES[row["group"]], "label": row["title"],
            "difference": signed(row["mean_difference"], 2),
            "needed": "more than 1000" if pd.isna(row["n_needed"]) else str(row["n_needed"]),
            "noether": NOTHING if pd.isna(row["n_noether"]) else str(row["n_noether"]),
        }
        for _, row in summary.needed.iterrows()
    ]  # fmt: skip
    columns = [
        Column("difference", "sN2N − original"), Column("needed", "Simulation", "Cases for a power of 80 %"),
        Column("noether", "Noether", "Cases for a power of 80 %"),
    ]  # fmt: skip
    notes = [
        "Two-sided signed-rank test at the level 0.05 of one reader’s scores. Simulation: 4,000 studies drawn from the "
        "differences found here; up to 25 pairs that differ, the exact p must be below 0.05 too. Noether: formula of "
        "1987, which does not know how many pairs are equal. Both are for a study to come, and say nothing about this "
        "one.",
        ONE_TEST,
    ]
    return _table(summary, "cases_needed", "Cases that a study like this one needs", [], rows, columns, notes)


def to_html(table: ReaderTable, *, notes: Iterable[str] = ()) -> GT:
    """The table as HTML that needs nothing from outside.

    Parameters
    ----------
    table
        Any table of this module.
    notes
        Further sentences below it, such as `sn2nlib.reporting.html.provenance_note`.

    Raises
    ------
    StudyError
        If the table has no rows.
    """
    if table.rows.empty:
        raise StudyError(f"There are no scores for the table “{table.title}”")
    keys = [column.key for column in table.columns]
    shown = GT(table.rows[["section", "label", *keys]], groupname_col="section", rowname_col="label", id=table.name)
    shown = shown.tab_header(table.title, table.subtitle)
    shown = shown.cols_label({column.key: column.heading for column in table.columns}).cols_align("right", columns=keys)
    for over in dict.fromkeys(column.over for column in table.columns if column.over):
        shown = shown.tab_spanner(over, columns=[column.key for column in table.columns if column.over == over])
    for note in (*table.notes, *notes):
        shown = shown.tab_source_note(note)
    return shown


def _table(
    summary: Summary,
    name: str,
    title: str,
    groups: Sequence[str],
    rows: Sequence[dict[str, str]],
    columns: Sequence[Column],
    notes: Sequence[str],
) -> ReaderTable:
    frame = pd.DataFrame(rows, columns=["section", "label", *(column.key for column in columns)], dtype=str)
    counts = dict.fromkeys(f"{summary.n_cases[group]} cases" for group in groups)
    subtitle = " · ".join([*(["Synthetic readers"] if summary.source == "synthetic" else []), *counts])
    if len(counts) > 1:
        subtitle = subtitle.replace(" · ".join(counts), " · ".join(
            f"{GROUP_TITLES[group]}: {summary.n_cases[group]} cases" for group in groups
        ))  # fmt: skip
    told = [SYNTHETIC, *notes] if summary.source == "synthetic" else list(notes)
    return ReaderTable(name, title, subtitle, frame, tuple(columns), tuple(told), summary.source)


def _mean_sd(row: pd.Series, arm: str) -> str:
    return mean_sd(row[f"{arm}_mean"], row[f"{arm}_sd"], 1, between=_PLUS_MINUS)


def _row(table: pd.DataFrame, **values: str) -> pd.Series:
    """The first row with these values."""
    return table[(table[list(values)] == list(values.values())).all(axis=1)].iloc[0]


def _reader_cells(name: str, table: pd.DataFrame, **values: str) -> dict[str, str]:
    """Cells of one reader, if there are any; a row of pooled means has neither adjusted p nor effect."""
    cells = dict.fromkeys(_OF_READER, NOTHING)
    if (table[list(values)] == list(values.values())).all(axis=1).any():
        row = _row(table, **values)
        cells |= {"original": _mean_sd(row, "original"), "sN2N": _mean_sd(row, "sN2N"), "p": format_p(row["p"])}
        if "effect" in row:
            exact, adjusted = format_p(row["p_exact"]), format_p(row["p_holm"])
            cells |= {"p_exact": exact, "p_holm": adjusted, "r": signed(row["effect"], 2)}
    return {f"{name}_{key}": cell for key, cell in cells.items()}


def _together(pooled: pd.Series) -> dict[str, str]:
    return {arm: _mean_sd(pooled, arm) for arm in ("original", "sN2N")}


def _published_means(published: Published, group: str) -> dict[str, str]:
    row = _published_row(published, _PUBLISHED_MEANS[group])
    cells = {f"p_{arm}": str(row[arm]).replace("±", _PLUS_MINUS) for arm in ("original", "sN2N")}
    return cells | {"p_detail": str(row["detail"])}


def _published_row(published: Published, quantity: str) -> pd.Series:
    found = published.figures[published.figures["quantity"] == quantity]
    if found.empty:
        raise StudyError(f"published.csv has no row “{quantity}”")
    return found.iloc[0]


def _inconsistencies(published: Published, groups: Sequence[str]) -> list[str]:
    topics = {"fine_structures": "fine structures", "lesions": "lesion conspicuity"}
    chosen = [topics[group] for group in groups if group in topics]
    rows = published.inconsistencies[published.inconsistencies["topic"].isin(chosen)]
    return [
        f"In the paper, {row['topic']}: {row['first']}, but {row['second']}; {row['comment']}."
        for _, row in rows.iterrows()
    ]


def _kappa_columns() -> list[Column]:
    return [
        Column("n", "Images"), Column("same", "Same grade (%)"), Column("kappa", "κ [95 % CI]"),
        Column("bootstrap", "Bootstrap"), Column("p", "p"), Column("band", "Band"), Column("ac2", "AC2 [95 % CI]"),
    ]  # fmt: skip


def _kappa_cells(row: pd.Series) -> dict[str, str]:
    return {
        "n": str(row["n"]), "same": f"{row['percent_agreement']:.0f}",
        "kappa": _kappa(row) if math.isnan(row["kappa"]) else f"{_kappa(row)} {_interval(row['low'], row['high'])}",
        "bootstrap": _interval(row["boot_low"], row["boot_high"]), "p": format_p(row["p"]), "band": row["band"],
        "ac2": f"{fixed(row['ac2'], 2)} {_interval(row['ac2_low'], row['ac2_high'])}",
    }  # fmt: skip


def _kappa(row: pd.Series) -> str:
    if math.isnan(row["kappa"]):
        return "undefined*"
    return fixed(row["kappa"], 3) + ("*" if row["doubtful"] else "")


def _interval(low: float, high: float) -> str:
    return NOTHING if math.isnan(low) else f"[{fixed(low, 2)}, {fixed(high, 2)}]"


def _range_notes(part: pd.DataFrame, published: Published | None, groups: Sequence[str]) -> list[str]:
    """The range of κ over the parameters, here and in the paper."""
    if published is None:
        return []
    kappas = part.loc[part["arm"] == BOTH, "kappa"].dropna()
    quantity = next(_PUBLISHED_KAPPA[group] for group in groups if group in _PUBLISHED_KAPPA)
    theirs = _published_row(published, quantity)
    here = f"from {fixed(kappas.min(), 3)} to {fixed(kappas.max(), 3)}" if len(kappas) else "undefined throughout"
    return [
        f"κ over the parameters, both arms pooled: {here}; published: from {theirs['low']} to {theirs['high']} "
        f"({theirs['detail']}). (Whether the paper pooled the arms is not stated in it; we chose.)"
    ]


def _fewer(summary: Summary, comparison: pd.DataFrame) -> list[str]:
    """Which rows are of fewer cases than their group has, because scores are missing."""
    rows = comparison[comparison["n"] < comparison["group"].map(summary.n_cases)]
    if rows.empty:
        return []
    numbers = [f"{row['title']} ({row['reader']}) n = {row['n']}" for _, row in rows.iterrows()]
    return [
        "Scores are missing. A case counts where a reader scored both of its images, so that these rows are of fewer "
        f"cases: {', '.join(numbers)}."
    ]


def _told(rows: pd.DataFrame) -> list[str]:
    """What the rows must say with them: each sentence once, after the parameters it concerns."""
    concerned: dict[str, list[str]] = {}
    for _, row in rows[rows["note"] != ""].iterrows():
        who = [str(row[key]) for key in ("reader", "arm") if key in row and row[key] != BOTH]
        concerned.setdefault(str(row["note"]), []).append(" ".join([str(row["title"]), *(f"({name})" for name in who)]))
    return [f"{', '.join(names)}: {note}" for note, names in concerned.items()]
