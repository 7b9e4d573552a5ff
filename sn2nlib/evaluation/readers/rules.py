"""The rules of a score table: what single values, rows and the whole table can be wrong about.

Rows are text, indexed by their line in the file. A row that breaks a rule is not judged by the next ones, and what it
may have been meant to be is not reported as missing: one mistake gives one sentence.
"""

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import pandas as pd
import pandera.pandas as pa

from sn2nlib.evaluation.readers.criteria import SCORES, Criteria
from sn2nlib.evaluation.readers.spreadsheets import Problem, decimal_mark, whole_number

SOURCES = ("human", "synthetic")
READINGS = (1, 2)

Cases = Collection[str] | Mapping[str, Collection[str]]

_SCORED = ["reader", "case", "arm", "parameter"]
_DOTTED = ("%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S")  # with slashes, day and month might change places


def value_problems(
    text: pd.DataFrame, criteria: Criteria, *, cases: Cases | None, readers: Collection[str] | None
) -> list[Problem]:
    """What a value alone can be wrong about; arguments as those of `sn2nlib.evaluation.readers.scores.read_scores`."""
    names = [name for part in cases.values() for name in part] if isinstance(cases, Mapping) else cases
    time = "ISO 8601 such as 2026-03-05T14:30:00+00:00, or 05.03.2026 14:30, or empty if unknown"
    columns = {
        "reader": pa.Column(str, _known(readers, "reader")),
        "case": pa.Column(str, _known(names, "case")),
        "arm": pa.Column(str, _known(criteria.arms, "arm")),
        "parameter": pa.Column(str, _known(list(criteria.by_name), "parameter")),
        "score": pa.Column(str, _each(lambda value: whole_number(value) in SCORES, "a whole number from 1 to 5")),
        "reading_order": pa.Column(str, _each(_is_place, "a whole number from 1, or empty if unknown")),
        "time": pa.Column(str, _each(lambda value: not value or read_time(value) is not None, time)),
        "reading": pa.Column(str, _each(lambda value: whole_number(value) in READINGS, "1, or 2 where read again")),
        "source": pa.Column(str, _known(SOURCES, "source")),
    }  # fmt: skip
    titles = [(parameter.title, parameter.name) for parameter in criteria.parameters]
    spelled = {
        "reader": [(name, name) for name in readers or ()], "case": [(name, name) for name in names or ()],
        "arm": [(arm, arm) for arm in criteria.arms],
        "parameter": [*((name, name) for name in criteria.by_name), *titles],
    }  # fmt: skip
    try:
        pa.DataFrameSchema({name: columns[name] for name in columns if name in text}).validate(text, lazy=True)
    except pa.errors.SchemaErrors as error:
        return [
            Problem(
                int(index),
                f"{column} = {value!r}, allowed: {allowed}{_meant(str(value), spelled.get(column, ()))}",
                str(column),
            )
            for index, column, value, allowed in error.failure_cases[
                ["index", "column", "failure_case", "check"]
            ].values
        ]
    return []


def mark_problems(good: pd.DataFrame) -> list[Problem]:
    """Scores whose decimal mark is not the one of most scores."""
    marks = good["score"].map(decimal_mark).dropna()
    if marks.nunique() < 2:
        return []
    usual = marks.value_counts().idxmax()
    allowed = f"the decimal mark {usual!r} in the whole file, as on line {marks.index[marks == usual][0]}"
    others = marks.index[marks != usual]
    return [Problem(int(line), f"score = {good.at[line, 'score']!r}, allowed: {allowed}") for line in others]


def source_problems(good: pd.DataFrame) -> list[Problem]:
    """Scores of models among those of humans, or the other way round."""
    sources = good["source"]
    first = sources.drop_duplicates()
    if len(first) < 2:
        return []
    lines = sources.index[sources == first.iloc[1]]
    told = f"source = {first.iloc[1]!r}, allowed: {first.iloc[0]!r} as on line {first.index[0]}"
    return [Problem(int(lines[0]), f"{told}; humans and models are never mixed ({len(lines)} line(s) with it)")]


def set_problems(good: pd.DataFrame, criteria: Criteria, *, cases: Cases | None) -> list[Problem]:
    """Parameters scored on cases that are not of their case set."""
    if not isinstance(cases, Mapping):
        return []
    problems = []
    for line, case, name in zip(good.index, good["case"], good["parameter"], strict=True):
        case_set = criteria.by_name[name].case_set
        if case not in cases.get(case_set, ()):
            told = f"parameter = {name!r}, allowed: on cases of the set {case_set!r}, which {case!r} is not in"
            problems.append(Problem(int(line), told))
    return problems


def repeat_problems(good: pd.DataFrame, suspects: Collection[tuple[str | None, ...]]) -> list[Problem]:
    """Scores that stand there twice, and second readings without a first."""
    problems = []
    first: dict[tuple[Any, ...], int] = {}
    for line, key in _keyed(good):
        if key in first:
            told = ", ".join(map(str, key[:4]))
            problems.append(Problem(line, f"{told} (reading {key[4]}) stands on line {first[key]} already"))
        first.setdefault(key, line)
    lone = [(line, key) for key, line in first.items() if key[4] == 2 and (*key[:4], 1) not in first]
    told = "reading = '2', allowed: where the same score has a reading 1"
    return problems + [Problem(line, told) for line, key in lone if not _suspected(key, suspects)]


def missing_problems(
    good: pd.DataFrame, criteria: Criteria, suspects: Collection[tuple[str | None, ...]], *, cases: Cases | None
) -> list[Problem]:
    """Pairs without one of their arms, and cases that a reader of the parameter's group has not scored at all."""
    pairs: dict[tuple[str, str, str, int], dict[str, int]] = defaultdict(dict)
    for line, (reader, case, arm, parameter, reading) in _keyed(good):
        pairs[reader, case, parameter, reading][arm] = line
    problems = []
    for (reader, case, parameter, reading), lines in pairs.items():
        for arm in (arm for arm in criteria.arms if arm not in lines):
            if not _suspected((reader, case, arm, parameter), suspects):
                told = f"{reader} has no score of {parameter} for arm {arm!r} of case {case!r} (reading {reading})"
                problems.append(Problem(next(iter(lines.values())), told))
    absent: dict[tuple[str, str], list[str]] = defaultdict(list)
    for reader, case, parameter in _expected(good, criteria, cases):
        wanted = [(reader, case, arm, parameter) for arm in criteria.arms]
        if (reader, case, parameter, 1) not in pairs and not any(_suspected(key, suspects) for key in wanted):
            absent[reader, parameter].append(case)
    together: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (reader, parameter), unread in absent.items():
        together[reader, ", ".join(unread)].append(parameter)
    return problems + [
        Problem(None, f"{reader} has no scores of {', '.join(parameters)} for the case(s) {unread}")
        for (reader, unread), parameters in together.items()
    ]


def read_time(text: str) -> datetime | None:
    """The time that a text stands for, ISO 8601 or with dots as in 25.11.2026 14:03; None if it is none."""
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    for form in _DOTTED:
        with suppress(ValueError):
            return datetime.strptime(text, form)
    return None


def suspects(text: pd.DataFrame, problems: Collection[Problem]) -> list[tuple[str | None, ...]]:
    """Reader, case, arm and parameter of the faulty rows; None where the value itself is wrong."""
    wrong: dict[int, set[str | None]] = defaultdict(set)
    for problem in problems:
        if problem.line is not None and problem.line in text.index:
            wrong[problem.line].add(problem.column)
    return [
        tuple(None if column in columns else str(text.at[line, column]) for column in _SCORED)
        for line, columns in wrong.items()
    ]


def _suspected(key: tuple[Any, ...], suspects: Collection[tuple[str | None, ...]]) -> bool:
    """Whether a faulty row may be this score: whatever is not wrong in it agrees."""
    return any(all(mine in (theirs, None) for theirs, mine in zip(key, other, strict=False)) for other in suspects)


def _keyed(good: pd.DataFrame) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Line, and (reader, case, arm, parameter, reading)."""
    for line, *scored, reading in good[[*_SCORED, "reading"]].itertuples(name=None):
        yield int(line), (*scored, whole_number(reading))


def _expected(good: pd.DataFrame, criteria: Criteria, cases: Cases | None) -> Iterator[tuple[str, str, str]]:
    """(reader, case, parameter): whoever scores a group of parameters scores all of its cases."""
    groups = good["parameter"].map(lambda name: criteria.by_name[name].group)
    for name in dict.fromkeys(good["parameter"]):
        parameter = criteria.by_name[name]
        if isinstance(cases, Mapping):
            wanted = list(cases.get(parameter.case_set, ()))
        else:
            wanted = list(dict.fromkeys(good.loc[good["parameter"] == name, "case"]))
        for reader in dict.fromkeys(good.loc[groups == parameter.group, "reader"]):
            yield from ((reader, case, name) for case in wanted)


def _known(names: Collection[str] | None, what: str) -> pa.Check:
    if names is None:
        return _each(bool, f"the name of a {what}")
    return _each(lambda value: value in names, f"one of {', '.join(dict.fromkeys(names))}")


def _each(good: Callable[[str], object], allowed: str) -> pa.Check:
    return pa.Check(lambda column: column.map(lambda value: bool(good(value))).astype(bool), error=allowed)


def _is_place(text: str) -> bool:
    return not text or (whole_number(text) or 0) >= 1


def _meant(value: str, spelled: Collection[tuple[str, str]]) -> str:
    """The names that a value may have been meant to be; `spelled` has how a name or its title is written, and it."""
    keys = [(_letters(text), name) for text, name in spelled]
    close = difflib.get_close_matches(_letters(value), [key for key, _ in keys], n=1, cutoff=0.8)
    meant = dict.fromkeys(name for key, name in keys if key in close)
    return f"; did you mean {' or '.join(meant)}?" if meant else ""


def _letters(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))
