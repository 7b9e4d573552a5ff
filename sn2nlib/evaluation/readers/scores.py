"""The table of readers' scores: one long CSV, one row per reader, case, arm, parameter and reading.

| column | holds |
|---|---|
| reader | a name for the reader |
| case | a name for the case |
| arm | original or sN2N |
| parameter | name in ``data_manifest/readers/`` |
| score | whole number from 1 to 5, 5 is best |
| reading_order | place of the case in the reader's session, from 1; empty if unknown (may be missing) |
| time | when it was scored, ISO 8601 or 25.11.2026 14:03; empty if unknown (may be missing) |
| reading | 1, or 2 where the case was read again (may be missing: 1) |
| source | human or synthetic, the same in the whole file (may be missing: human) |
"""

import os
from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import Any

import pandas as pd

from sn2nlib.errors import ScoreError
from sn2nlib.evaluation.readers.criteria import CASE_SETS, Criteria
from sn2nlib.evaluation.readers.rules import (
    SOURCES,
    Cases,
    mark_problems,
    missing_problems,
    read_time,
    repeat_problems,
    set_problems,
    source_problems,
    suspects,
    value_problems,
)
from sn2nlib.evaluation.readers.spreadsheets import Problem, Sheet, raise_problems, read_sheet, whole_number
from sn2nlib.provenance import atomic_write

COLUMNS = ("reader", "case", "arm", "parameter", "score", "reading_order", "time")
OPTIONAL_COLUMNS = ("reading", "source")

NEEDED = COLUMNS[:5]  # the others may be unknown

_DEFAULTS = {"reading_order": "", "time": "", "reading": "1", "source": "human"}
_WHAT = ("arm", "parameter", "score")  # a table without any of them is of another kind


def read_scores(
    path: str | os.PathLike[str],
    *,
    criteria: Criteria,
    cases: Cases | None = None,
    readers: Collection[str] | None = None,
    complete: bool = True,
) -> pd.DataFrame:
    """Read and check a score table, CSV (also of a European Excel) or .xlsx.

    Parameters
    ----------
    path
        The file.
    criteria
        What may be scored.
    cases
        Names of the cases, or the names in each of the `sn2nlib.evaluation.readers.criteria.CASE_SETS`; then a
        parameter must be scored on all cases of its set and on no other. None: any case.
    readers
        Names of the readers; None: any.
    complete
        Whether every reader of a group of parameters must have scored both arms of all of its cases; False for a
        session that is not at its end.

    Returns
    -------
    One row per score, in the file's order: reader, case, arm, parameter (str), score (int), reading_order (Int64),
    time (UTC), reading (int), source (str).

    Raises
    ------
    ScoreError
        Naming every bad row: its line, column, value, and what is allowed.
    """
    sheet = read_sheet(path)
    if not set(_WHAT) & set(map(str.lower, sheet.rows[0])):
        raise ScoreError(
            f"{path} has no columns {', '.join(_WHAT)}; a spreadsheet with a row for every case becomes a table of "
            "scores by `sn2n scores import`"
        )
    text, problems = _text_table(sheet)
    if text.empty:
        raise_problems(path, problems)
    problems += value_problems(text.drop(_lines(problems, text)), criteria, cases=cases, readers=readers)
    if not set(NEEDED) <= set(text):  # rows cannot be told apart
        raise_problems(path, problems)
    good = text.drop(_lines(problems, text))
    problems += mark_problems(good) + source_problems(good) + set_problems(good, criteria, cases=cases)
    doubtful = suspects(text, problems)
    problems += repeat_problems(good, doubtful)
    if complete:
        problems += missing_problems(good, criteria, doubtful, cases=cases)
    raise_problems(path, problems)
    return _typed(text)


def write_scores(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a score table as a CSV file that `read_scores` reads, whole or not at all.

    Parameters
    ----------
    table
        reader, case, arm, parameter, score, and whatever else of the table's columns is known.
    path
        The file; one that exists is replaced.

    Raises
    ------
    ScoreError
        If one of the first five columns is missing, or the scores of humans and of models are mixed.
    """
    lacking = [column for column in NEEDED if column not in table]
    if lacking:
        raise ScoreError(f"{path}: a score table needs the column(s) {', '.join(lacking)}")
    times = table["time"] if "time" in table else [""] * len(table)
    columns: dict[str, Any] = {"time": [_time_text(value) for value in times], "source": source_of(table)}
    if "reading" not in table:
        columns["reading"] = 1
    written = table.assign(**columns).reindex(columns=[*COLUMNS, *OPTIONAL_COLUMNS])
    with atomic_write(path) as temporary:
        written.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def source_of(table: pd.DataFrame) -> str:
    """Who scored: human (also where the table does not say) or synthetic.

    Raises
    ------
    ScoreError
        If the scores of humans and of models are mixed, or there are none.
    """
    found = list(dict.fromkeys(table["source"])) if "source" in table else ["human"]
    if len(found) != 1 or found[0] not in SOURCES:
        told = ", ".join(map(str, found)) or "nothing"
        raise ScoreError(f"The source of a score table must be {' or '.join(SOURCES)} throughout, not {told}")
    return str(found[0])


def describe_scores(table: pd.DataFrame, criteria: Criteria) -> str:
    """One line for each group of parameters: how many scores there are, of how many readers and cases."""
    groups = table["parameter"].map({name: parameter.group for name, parameter in criteria.by_name.items()})
    lines = [f"{len(table)} scores, source {source_of(table)}"]
    for group, part in table.groupby(groups, sort=False):
        numbers = {name: part[name].nunique() for name in ("reader", "case", "parameter")}
        told = ", ".join(f"{number} {name}{'s' if number > 1 else ''}" for name, number in numbers.items())
        again = int((part["reading"] == 2).sum())
        lines.append(f"{group}: {told}" + (f", {again} scores from repeated readings" if again else ""))
    return "\n".join(lines)


def read_cases(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Read which cases are scored: a table with the columns case and case_set, one line for each set of a case.

    Returns
    -------
    The names of the cases in each case set.

    Raises
    ------
    ScoreError
        For other columns, and naming every line with an unknown set or without a name.
    """
    sheet = read_sheet(path)
    if sheet.rows[0] != ("case", "case_set"):
        raise ScoreError(f"{path}: the columns must be case,case_set, not {','.join(sheet.rows[0])}")
    problems, sets = list(sheet.problems), defaultdict(list)
    for line, row in zip(sheet.lines[1:], sheet.rows[1:], strict=True):
        case, case_set, *more = *row, "", ""
        if not case or case_set not in CASE_SETS or any(more):
            problems.append(Problem(line, f"{','.join(row)!r}, allowed: a case and one of {', '.join(CASE_SETS)}"))
        sets[case_set].append(case)
    raise_problems(path, problems)
    return dict(sets)


def _text_table(sheet: Sheet) -> tuple[pd.DataFrame, list[Problem]]:
    """The rows as text, by line, with the columns that are there, and what is wrong with header and rows."""
    names = [name.lower() for name in sheet.rows[0]]
    while not names[-1]:  # empty columns of a spreadsheet
        names.pop()
    known = (*COLUMNS, *OPTIONAL_COLUMNS)
    line, problems = sheet.lines[0], list(sheet.problems)
    problems += [Problem(line, f"there is no column {name!r}") for name in NEEDED if name not in names]
    odd = [name for place, name in enumerate(names) if name not in known or name in names[:place]]
    problems += [Problem(line, f"column {name!r}, allowed: {', '.join(known)}, each once") for name in odd]
    if len(sheet.rows) == 1:
        problems.append(Problem(None, "no scores below the header"))
        return pd.DataFrame(), problems
    rows = []
    for line, row in zip(sheet.lines[1:], sheet.rows[1:], strict=True):
        if len(row) < len(names) or any(row[len(names) :]):
            problems.append(Problem(line, f"{len(row)} values, the header has {len(names)}"))
        first = dict(reversed(list(zip(names, row + ("",) * len(names), strict=False))))  # of a column that is doubled
        rows.append(first)
    table = pd.DataFrame(rows, index=list(sheet.lines[1:]), dtype=str)
    for name, default in _DEFAULTS.items():
        table[name] = table[name].replace("", default) if name in table else default
    return table[[name for name in known if name in table]], problems


def _lines(problems: Collection[Problem], text: pd.DataFrame) -> pd.Index:
    """Lines of the table that have a problem."""
    return text.index.intersection(pd.Index([problem.line for problem in problems if problem.line]))


def _typed(text: pd.DataFrame) -> pd.DataFrame:
    table = text.reset_index(drop=True)
    numbers = {name: table[name].map(whole_number).astype("Int64") for name in ("score", "reading_order", "reading")}
    times = [pd.NaT if (time := read_time(value)) is None else pd.Timestamp(time) for value in table["time"]]
    aware = [time if pd.isna(time) or time.tzinfo else time.tz_localize("UTC") for time in times]
    typed = table.assign(**numbers, time=pd.to_datetime(pd.Series(aware, dtype=object), utc=True))
    return typed.astype({"score": "int64", "reading": "int64"})


def _time_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if pd.isna(value) else datetime.isoformat(pd.Timestamp(value))
