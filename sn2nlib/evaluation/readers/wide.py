"""Score sheets as people make them: one row per case, one column per reader, arm and parameter.

The first column names the case. The headers of the others name reader, arm and parameter, in any order, in one row:

| case | reader1_original_sharpness | reader1_sN2N_sharpness | reader2_original_sharpness | … |
|---|---|---|---|---|
| D147 | 3 | 5 | 3 | … |

or in several, one above the other, where an empty cell (merged cells are saved so) continues the one to its left:

| | reader1 | | reader2 | |
|---|---|---|---|---|
| | original | sN2N | original | sN2N |
| case | Sharpness | Sharpness | Sharpness | Sharpness |
| D147 | 3 | 5 | 3 | 4 |

Parts are separated by anything but letters and digits; upper and lower case are the same. A parameter goes by its name
or its title, an arm by its name ("conventional" and "denoised" will do), and the word "repeat" marks a second reading;
what is left names the reader. Rows above the first one with a number are headers, so that no header may be a bare
number. A case that was not read a second time has none of a reader's second scores of a group of parameters; a row of
means or sums is no case, and is refused.
"""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

import pandas as pd

from sn2nlib.errors import ScoreError
from sn2nlib.evaluation.readers.criteria import GROUPS, SCORES, Criteria
from sn2nlib.evaluation.readers.scores import COLUMNS, NEEDED, OPTIONAL_COLUMNS
from sn2nlib.evaluation.readers.spreadsheets import Problem, raise_problems, read_sheet, whole_number

_OTHER_NAMES = {"conventional": "original", "denoised": "sN2N"}
_REPEAT = "repeat"
_RESULTS = {
    "mean", "average", "avg", "median", "sd", "std", "stdev", "standard", "deviation", "sem", "total", "sum",
    "min", "max", "minimum", "maximum", "mittelwert", "durchschnitt", "standardabweichung", "summe", "gesamt", "stabw",
    "moyenne", "écart", "type", "somme", "media", "promedio", "desviación", "suma", "totale",
}  # fmt: skip


class _Column(NamedTuple):
    """What a column of the sheet holds."""

    reader: str
    arm: str
    parameter: str
    reading: int


def read_wide(
    path: str | os.PathLike[str],
    *,
    criteria: Criteria,
    group: str | None = None,
    ignore: Collection[str] = (),
    source: str = "human",
    complete: bool = True,
) -> pd.DataFrame:
    """Read a wide score sheet, CSV (also of a European Excel) or .xlsx.

    Parameters
    ----------
    path
        The file; the module's docstring says how it may look.
    criteria
        What may be scored.
    group
        Parameters of this group alone; so that "Sharpness" can stand for that of vessel wall images.
    ignore
        Headers of columns that hold something else, such as "comment".
    source
        human or synthetic.
    complete
        Whether an empty cell is a mistake; else it is a score that was not given.

    Returns
    -------
    As `sn2nlib.evaluation.readers.scores.read_scores`; reading order and time are not known.

    Raises
    ------
    ScoreError
        Naming every column that is not understood, every row of means or sums, and every bad value with its line and
        column.
    """
    if group is not None and group not in criteria.by_group:
        raise ScoreError(f"There is no group {group!r} of parameters; there are {', '.join(GROUPS)}")
    sheet = read_sheet(path)
    if set(NEEDED) <= set(map(str.lower, sheet.rows[0])):
        raise ScoreError(f"{path} has a row for every score already; `sn2n scores check` reads it as it is")
    width = max(map(len, sheet.rows))
    rows = [row + ("",) * (width - len(row)) for row in sheet.rows]
    n_headers = next((place for place, row in enumerate(rows) if any(map(_is_number, row[1:]))), len(rows))
    if n_headers in (0, len(rows)):
        raise ScoreError(f"{path}: needs headers, and scores below them; {n_headers} row(s) of {len(rows)} are headers")
    headers = _headers(rows[:n_headers])
    columns, problems = _columns(headers, criteria, group=group, ignore=ignore, line=sheet.lines[n_headers - 1])
    blocks = _repeated(columns, criteria)
    scores: list[tuple[object, ...]] = []
    first: dict[str, int] = {}
    for line, (case, *values) in zip(sheet.lines[n_headers:], rows[n_headers:], strict=True):
        if not case or case in first:
            told = f"case {case!r} stands on line {first[case]} already" if case else "there is no case in column 1"
            problems.append(Problem(line, told))
        first.setdefault(case, line)
        if case and set(_key(case)) <= _RESULTS:
            problems.append(Problem(line, f"{case!r} is a row of results, not a case; leave it out"))
            continue
        once = {place for block in blocks if not any(values[place] for place in block) for place in block}
        for place, column in columns.items():
            value = values[place]
            if place in once:
                continue
            if whole_number(value) in SCORES:
                scores.append((column.reader, case, column.arm, column.parameter, whole_number(value), column.reading))
            elif value or complete:
                told = f"{headers[place]} = {value!r}, allowed: a whole number from 1 to 5"
                problems.append(Problem(line, told))
    raise_problems(path, [*sheet.problems, *problems])
    table = pd.DataFrame(scores, columns=[*NEEDED, "reading"])
    table["source"], table["reading_order"], table["time"] = source, pd.NA, pd.NaT
    kinds = {"score": "int64", "reading": "int64", "reading_order": "Int64"}
    return table.astype(kinds)[[*COLUMNS, *OPTIONAL_COLUMNS]]


def _repeated(columns: dict[int, _Column], criteria: Criteria) -> list[list[int]]:
    """Places of the second readings that are made together: those of one reader and group of parameters."""
    blocks: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, column in columns.items():
        if column.reading > 1:
            blocks[column.reader, criteria.by_name[column.parameter].group].append(place)
    return list(blocks.values())


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?\d+([.,]\d+)?", text) is not None


def _headers(rows: Sequence[Sequence[str]]) -> list[str]:
    """What stands above each column but the first: the parts of all header rows, upper ones continued to the right."""
    above: list[list[str]] = [[] for _ in rows[0][1:]]
    for number, row in enumerate(rows):
        last = ""
        for place, cell in enumerate(row[1:]):
            last = cell or ("" if number == len(rows) - 1 else last)
            above[place].append(last)
    return [" ".join(filter(None, parts)) for parts in above]


def _columns(
    headers: Sequence[str], criteria: Criteria, *, group: str | None, ignore: Collection[str], line: int
) -> tuple[dict[int, _Column], list[Problem]]:
    """What each column holds, by its place, and what is wrong with the headers."""
    known = _known_parameters(criteria, group)
    unwanted = {_key(header) for header in ignore}
    columns: dict[int, _Column] = {}
    problems = []
    for place, header in enumerate(headers):
        if not header or _key(header) in unwanted:
            continue
        found = _column(header, known, criteria)
        if isinstance(found, str):
            problems.append(Problem(line, f"column {header!r} {found}"))
        elif found in columns.values():
            problems.append(Problem(line, f"column {header!r}: {', '.join(found[:3])} stands there twice"))
        else:
            columns[place] = found
    arms: dict[tuple[str, str, int], list[str]] = defaultdict(list)
    for reader, arm, parameter, reading in columns.values():
        arms[reader, parameter, reading].append(arm)
    for (reader, parameter, _), there in arms.items():
        lacking = [arm for arm in criteria.arms if arm not in there]
        problems += [Problem(line, f"no column for {parameter} of {reader} with arm {arm!r}") for arm in lacking]
    if not columns:
        problems.append(Problem(line, "no column holds scores"))
    return columns, problems


def _column(header: str, known: dict[tuple[str, ...], str], criteria: Criteria) -> _Column | str:
    """What a header says, or what it does not say."""
    words = re.findall(r"[^\W_]+", header)
    arms = {arm.lower(): arm for arm in criteria.arms} | _OTHER_NAMES
    given = [arms[word.lower()] for word in words if word.lower() in arms]
    if len(given) != 1:
        return f"names {'no' if not given else 'more than one'} arm, allowed: one of {', '.join(arms)}"
    rest = [word for word in words if word.lower() not in arms and word.lower() != _REPEAT]
    reading = 2 if _REPEAT in map(str.lower, words) else 1
    for key in sorted(known, key=len, reverse=True):
        for start in range(len(rest) - len(key) + 1):
            if tuple(map(str.lower, rest[start : start + len(key)])) == key:
                reader = "_".join(rest[:start] + rest[start + len(key) :])
                return _Column(reader, given[0], known[key], reading) if reader else "names no reader"
    allowed = [parameter.name for parameter in criteria.parameters if parameter.name in known.values()]
    return f"names no parameter, allowed: one of {', '.join(allowed)}"


def _known_parameters(criteria: Criteria, group: str | None) -> dict[tuple[str, ...], str]:
    """Words of names and titles → name of the parameter; names go before titles."""
    chosen = [each for each in criteria.parameters if group in (None, each.group)]
    titles = {_key(each.title): each.name for each in reversed(chosen)}
    return titles | {_key(each.name): each.name for each in chosen}


def _key(text: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in re.findall(r"[^\W_]+", text))
