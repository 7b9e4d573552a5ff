"""Tables as people save them: CSV of any country's Excel, or .xlsx, as rows of text with their line numbers."""

import csv
import io
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sn2nlib.errors import ScoreError

_DELIMITERS = (",", ";", "\t")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")  # byte-order marks
_ALLOWED = ", allowed: "
_NAMED = 3  # lines of one mistake, and values of it, that are named when there are more
_ALIKE = 20  # wrong values of one column, above which they are one problem


class Problem(NamedTuple):
    """What is wrong, on which line of the file (None: with the file as a whole), and in which column, if in one."""

    line: int | None
    sentence: str
    column: str | None = None


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes
    ----------
    lines
        (n,) line of the file on which each row begins, from 1.
    rows
        (n,) the values of each row, without blanks around them; rows without any value are left out.
    problems
        What could not be read as it should.
    """

    lines: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...]
    problems: tuple[Problem, ...]


def read_sheet(path: str | os.PathLike[str]) -> Sheet:
    """Read the values of a CSV file, or of the first sheet of an .xlsx file.

    A CSV file may be in UTF-8 with or without byte-order mark, or in Excel's UTF-16; its values may be separated by
    commas, semicolons or tabs (what the first line has most of, or what ``sep=`` says there), and its lines may end as
    on any system. Other encodings are a problem of the line where they show.

    Raises
    ------
    ScoreError
        If the file cannot be read as a table at all (a picture, an archive), or holds nothing.
    OSError
        If it is not there.
    """
    path = Path(path)
    problems: list[Problem] = []
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        numbered = _workbook_rows(path)
    else:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b") or (b"\0" in data and not data.startswith(_UTF16)):
            raise ScoreError(f"{path} is no table of text; save the scores as CSV UTF-8 or as .xlsx")
        text, problems = _decode(data)
        numbered = _csv_rows(path, text)
    kept = [(line, row) for line, row in numbered if any(row)]
    if not kept:
        raise ScoreError(f"{path} holds no table")
    return Sheet(tuple(line for line, _ in kept), tuple(row for _, row in kept), tuple(problems))


def raise_problems(path: str | os.PathLike[str], problems: Iterable[Problem]) -> None:
    """Say all that is wrong with a file in one message, in the order of its lines.

    A sentence that more than three lines earn stands there once, with their number; so do more than twenty wrong values
    of one column.

    Raises
    ------
    ScoreError
        If there is any problem.
    """
    ordered = sorted(problems, key=lambda problem: (problem.line is None, problem.line or 0))
    told = _collapsed(ordered)
    if told:
        raise ScoreError(f"{path}: {len(told)} problem(s)\n" + "\n".join(f"  {sentence}" for sentence in told))


def whole_number(text: str) -> int | None:
    """The number that "4", "4.0" or "4,0" stands for; None for anything else."""
    found = re.fullmatch(r"(\d{1,9})([.,]0+)?", text, re.ASCII)
    return int(found[1]) if found else None


def decimal_mark(text: str) -> str | None:
    """The mark in "4.0" or "4,0"; None for a text that is not a number with decimals."""
    found = re.fullmatch(r"\d+([.,])\d+", text)
    return found[1] if found else None


def _collapsed(problems: Sequence[Problem]) -> list[str]:
    alike = Counter(_rule(problem) for problem in problems if problem.line)
    together: dict[tuple[str, str], list[Problem]] = {}
    for place, problem in enumerate(problems):
        same = _rule(problem) if alike[_rule(problem)] > _ALIKE else (problem.sentence, "")
        together.setdefault(same if problem.line else (problem.sentence, str(place)), []).append(problem)
    told = []
    for group in together.values():
        if len(group) > _NAMED:
            told.append((group[0].line, _several(group)))
        else:
            told += [(line, f"line {line}: {sentence}" if line else sentence) for line, sentence, _ in group]
    return [sentence for _, sentence in sorted(told, key=lambda each: (each[0] is None, each[0] or 0))]


def _rule(problem: Problem) -> tuple[str, str]:
    """What is wrong, without the value."""
    before, _, allowed = problem.sentence.partition(_ALLOWED)
    return before.partition(" = ")[0], allowed


def _several(problems: Sequence[Problem]) -> str:
    """One sentence for many lines, with the first of them and of their values."""
    lines = ", ".join(str(problem.line) for problem in problems[:_NAMED])
    values = list(dict.fromkeys(problem.sentence.partition(_ALLOWED)[0] for problem in problems))
    shown = values[:1] + [value.partition(" = ")[2] for value in values[1:_NAMED]]
    more = f" and {len(values) - _NAMED} other values" if len(values) > _NAMED else ""
    _, mark, allowed = problems[0].sentence.partition(_ALLOWED)
    return f"lines {lines} and {len(problems) - _NAMED} more: {', '.join(shown)}{more}{mark}{allowed}"


def _decode(data: bytes) -> tuple[str, list[Problem]]:
    if data.startswith(_UTF16):
        return data.decode("utf-16", errors="replace"), []
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        sentence = "a letter that is not UTF-8; save the table as “CSV UTF-8”"
        return data.decode("cp1252", errors="replace"), [Problem(line, sentence)]


def _csv_rows(path: Path, text: str) -> list[tuple[int, tuple[str, ...]]]:
    first, _, rest = text.partition("\n")
    told = re.fullmatch(r"sep=(.)\r?", first.strip("\ufeff"))
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = told[1] if told else max(_DELIMITERS, key=re.sub(r'"[^"]*"', "", head).count)
    before = 1 if told else 0
    reader = csv.reader(io.StringIO(rest if told else text, newline=""), delimiter=delimiter)
    rows, line = [], before + 1
    try:
        for row in reader:
            rows.append((line, _stripped(row)))
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise ScoreError(f"{path}, line {line}: not a CSV table ({error})") from error
    return rows


def _workbook_rows(path: Path) -> list[tuple[int, tuple[str, ...]]]:
    import openpyxl  # 0.3 s, and few tables are workbooks

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ScoreError(f"{path} is not an Excel workbook ({error})") from error
    try:
        rows = book.worksheets[0].iter_rows(values_only=True)
        return [(line, _stripped([_cell(value) for value in row])) for line, row in enumerate(rows, 1)]
    finally:
        book.close()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _stripped(row: Sequence[str]) -> tuple[str, ...]:
    return tuple(value.strip().strip("\ufeff") for value in row)
