"""A study that is to be read: what ``study.yaml`` says, and what is wrong with it.

The folder holds ``study.yaml``::

    readers: [reader1, reader2]
    repeats: 2                       # cases that every reader reads twice, unannounced
    parameters: [image_quality]      # names or groups of data_manifest/readers/, for cases that name none
    cases:
      - case: P01
        images: {original: P01_original.nii.gz, sN2N: P01_sn2n.nii.gz}
        parameters: [image_quality, hippocampus]
        marks:
          - {name: left hippocampus, position: [-28, -20, -14], radius: 9, parameter: hippocampus}
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from sn2nlib.errors import ReadingError
from sn2nlib.evaluation.readers.criteria import Criteria
from sn2nlib.evaluation.readers.session import Mark, Part, ScoredParameter

STUDY = "study.yaml"
_READER = r"\w[\w-]*"
_SHAPE = "it needs `readers: [reader1, reader2]` and a list of `cases:`, see the README under Readers"
# what pydantic finds, by its name for it, as the end of a sentence that begins with the key
_ENDINGS = {
    "missing": "is missing",
    "extra_forbidden": "is unknown; it may be {known}",
    "model_type": "must have the keys {known}, got {given}",
    "dict_type": "must name a file for each arm, as in {{original: FILE, sN2N: FILE}}, got {given}",
    "tuple_type": "must be a list, as [a, b] or as lines that begin with -, got {given}",
    "string_type": "must be text, got {given}; put it in quotes",
    "string_too_short": "is empty; fill it in",
    "too_short": "is empty; fill it in",
    "int_parsing": "must be a whole number, got {given}",
    "int_from_float": "must be a whole number, got {given}",
    "int_type": "must be a whole number, got {given}",
    "float_parsing": "must be a number, got {given}",
    "float_type": "must be a number, got {given}",
    "greater_than": "must be above 0, got {given}",
    "greater_than_equal": "must be 0 or more, got {given}",
}
# what PyYAML finds, in its words, what we say, and whether its end or its beginning is the place
_YAML_FAULTS = {
    r"\\t": ("a tab; indent with spaces, and put a space after a colon", "end"),
    r"mapping values are not allowed": ("a colon too many, or a line that is not indented like its neighbours", "end"),
    r"expected <block end>": ("a line that is not indented like its neighbours", "end"),
    r"could not find expected ':'": ("a key needs a colon and a space after it", "beginning"),
    r"unknown escape character": ("a backslash in double quotes; write / between folders", "end"),
    r"expected ',' or|stream end|end of stream": ("a bracket or quotation mark that is not closed", "beginning"),
}


class StudyCase(Part):
    """A case of the study folder: an image of every arm, what is scored, and structures to look at."""

    case: str = Field(min_length=1)
    images: dict[str, str]
    parameters: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()


class ReadingStudy(Part):
    """What ``study.yaml`` says."""

    readers: tuple[str, ...] = Field(min_length=1)
    cases: tuple[StudyCase, ...] = Field(min_length=1)
    parameters: tuple[str, ...] = ()
    repeats: int = Field(default=0, ge=0)


_PARTS: dict[int | str, type[Part]] = {"cases": StudyCase, "marks": Mark}


def most_repeats(n_cases: int) -> int:
    """How many of so many cases can be read twice: half of them, since another case must come between."""
    return n_cases // 2


def load_study(folder: str | os.PathLike[str], criteria: Criteria) -> ReadingStudy:
    """Read ``study.yaml`` of a folder, with the parameters of every case by name.

    Raises
    ------
    ReadingError
        Naming all that is wrong.
    """
    path = Path(folder, STUDY)
    content = _read(path)
    try:
        study = ReadingStudy.model_validate(content)
    except ValidationError as error:
        raise _problems(path, list(dict.fromkeys(_sentence(each) for each in _own(error)))) from error
    cases = tuple(
        case.model_copy(update={"parameters": tuple(_expand(case.parameters or study.parameters, criteria))})
        for case in study.cases
    )
    study = study.model_copy(update={"cases": cases})
    if problems := list(_wrong(study, Path(folder), criteria)):
        raise _problems(path, problems)
    return study


def scored_parameters(study: ReadingStudy, criteria: Criteria) -> Iterator[ScoredParameter]:
    """What is scored in any case of a study, in the order of the criteria."""
    used = {name for case in study.cases for name in case.parameters}
    look_for = {structure.name: structure.look_for for structure in criteria.structures}
    for each in criteria.parameters:
        if each.name in used:
            told = look_for.get(each.structure or "", "")
            yield ScoredParameter(name=each.name, title=each.title, look_for=told, scale=each.scale)


def _read(path: Path) -> dict[str, Any]:
    """The keys and values of the file; their names and kinds are not checked yet."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ReadingError(f"there is no {path}, which says what is read") from None
    except UnicodeDecodeError as error:
        raise ReadingError(f"{path} is not text in UTF-8; let an editor save it in this encoding") from error
    except OSError as error:
        raise ReadingError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ReadingError(f"{path}{_not_yaml(error)}") from error
    if not isinstance(content, dict):
        raise ReadingError(f"{path} is {'empty' if content is None else _given(content)}; {_SHAPE}")
    return content


def _not_yaml(error: yaml.YAMLError) -> str:
    """Where a text is no YAML, and why, as the end of a sentence that begins with the file."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " holds what is not text; write it anew in a text editor"
    told, where = next(
        (ours for theirs, ours in _YAML_FAULTS.items() if re.search(theirs, error.problem or "")),
        (f"not YAML ({error.problem})", "end"),
    )
    mark = (error.context_mark if where == "beginning" else None) or error.problem_mark
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return f"{place}: {told}"


def _own(error: ValidationError) -> list[Mapping[str, Any]]:
    """The faults, without lists that are empty only because all that is in them is at fault."""
    faults = error.errors()
    inner = {fault["loc"][:-1] for fault in faults}
    return [fault for fault in faults if fault["type"] != "too_short" or fault["loc"] not in inner]


def _sentence(fault: Mapping[str, Any]) -> str:
    """What is wrong, and where: "cases, entry 2: images is missing"."""
    path, ending = fault["loc"], _ENDINGS.get(fault["type"], "is wrong: {message}")
    if "position" in path and (path[-1], fault["type"]) != ("position", "missing"):
        path, ending = path[: path.index("position") + 1], "must be three numbers, as in [-28, -20, -14]"
    *around, what = [f"entry {part + 1}" if isinstance(part, int) else part for part in path]
    if fault["type"] == "invalid_key":  # a number, but no place in a list
        what = str(path[-1])
    section = next((_PARTS[part] for part in reversed(path[:-1]) if part in _PARTS), ReadingStudy)
    told = ending.format(given=_given(fault["input"]), known=", ".join(section.model_fields), message=fault["msg"])
    return ", ".join(around) + (": " if around else "") + f"{what} {told}"


def _given(value: Any) -> str:
    kinds = {type(None): "nothing", list: "a list", dict: "keys and values"}
    return kinds.get(type(value)) or (repr(value) if isinstance(value, str) else str(value))


def _expand(names: Sequence[str], criteria: Criteria) -> Iterator[str]:
    """Parameters by name, groups replaced by their parameters, each once."""
    groups = {group: [each.name for each in parameters] for group, parameters in criteria.by_group.items()}
    yield from dict.fromkeys(name for given in names for name in groups.get(given, [given]))


def _wrong(study: ReadingStudy, folder: Path, criteria: Criteria) -> Iterator[str]:
    """Everything that is wrong with a study, a sentence each."""
    yield from (f"reader {name!r} is named twice" for name in _doubled(study.readers))
    yield from (f"case {name!r} stands there twice" for name in _doubled([case.case for case in study.cases]))
    for name in study.readers:
        if not re.fullmatch(_READER, name):
            yield f"reader {name!r}: a name has letters, digits, - and _ alone"
    if study.repeats > most_repeats(len(study.cases)):
        yield f"repeats: {study.repeats} of {len(study.cases)} case(s); at most half of them can be read twice"
    for case in study.cases:
        yield from (f"case {case.case}: {problem}" for problem in _wrong_case(case, folder, criteria))
    seen = [*study.readers, *(mark.name for case in study.cases for mark in case.marks)]
    seen += [text for each in scored_parameters(study, criteria) for text in (each.title, each.look_for, *each.scale)]
    for text in dict.fromkeys(seen):
        for arm in criteria.arms:
            if re.search(rf"(?<!\w){re.escape(arm)}(?!\w)", text, re.IGNORECASE):
                yield f"readers would see the arm {arm!r} in {text!r}; put it in other words"


def _wrong_case(case: StudyCase, folder: Path, criteria: Criteria) -> Iterator[str]:
    for arm in criteria.arms:
        if arm not in case.images:
            yield f"no image of the arm {arm!r}"
    for arm, name in case.images.items():
        if arm not in criteria.arms:
            yield f"unknown arm {arm!r}; there are {', '.join(criteria.arms)}"
        elif not (folder / name).is_file():
            kind = ", but a folder; images are NIfTI files" if (folder / name).is_dir() else ""
            yield f"there is no image {folder / name}{kind}"
    if not case.parameters:
        yield "no parameters, neither here nor for the whole study"
    for name in case.parameters:
        if name not in criteria.by_name:
            yield f"unknown parameter or group {name!r}; parameters are {', '.join(criteria.by_name)}"
    for mark in case.marks:
        if mark.parameter is not None and mark.parameter not in case.parameters:
            yield f"mark {mark.name!r} belongs to {mark.parameter!r}, which is not scored here"


def _doubled(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name for name in names if names.count(name) > 1))


def _problems(path: Path, problems: Sequence[str]) -> ReadingError:
    if len(problems) == 1:
        return ReadingError(f"{path}: {problems[0]}")
    return ReadingError(f"{path}: {len(problems)} problem(s)\n" + "\n".join(f"  {problem}" for problem in problems))
