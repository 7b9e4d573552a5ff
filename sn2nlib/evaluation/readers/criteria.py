"""What readers score: parameters, their five-point scales and the fine structures, from ``data_manifest/readers/``."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sn2nlib.errors import ManifestError
from sn2nlib.scans.manifest import manifest_folder, read_entries

ARMS = ("original", "sN2N")
GROUPS = ("image_quality", "fine_structures", "lesions", "vessel_wall")
CASE_SETS = ("qualitative", "lesions", "generalisation")
SCORES = (1, 2, 3, 4, 5)
LESION = "lesion_conspicuity"  # the parameter that lesions are scored on

_PARAMETER_KEYS = ("name", "title", "group", "case_set", "scale")
_STRUCTURE_KEYS = ("name", "title", "look_for")


@dataclass(frozen=True)
class Parameter:
    """One thing that is scored.

    Attributes
    ----------
    name
        In score tables; unique.
    title
        For people: "Sharpness".
    group
        One of `GROUPS`.
    case_set
        The cases that are scored, one of `CASE_SETS`.
    scale
        (5,) what the scores 1 to 5 mean; 5 is best.
    structure
        Name of the fine structure, for the group fine_structures; None for the others.
    """

    name: str
    title: str
    group: str
    case_set: str
    scale: tuple[str, ...]
    structure: str | None = None


@dataclass(frozen=True)
class Structure:
    """A fine structure: name, title, and what a reader looks for."""

    name: str
    title: str
    look_for: str


@dataclass(frozen=True)
class Criteria:
    """All that is scored.

    Attributes
    ----------
    parameters
        In the order in which they are read and printed.
    structures
        The fine structures.
    arms
        The two images of a case.
    scores
        The grades, worst first.
    """

    parameters: tuple[Parameter, ...]
    structures: tuple[Structure, ...]
    arms: tuple[str, str] = ARMS
    scores: tuple[int, ...] = SCORES

    @property
    def by_group(self) -> dict[str, tuple[Parameter, ...]]:
        """Parameters of each group; groups without any are left out."""
        groups = {name: tuple(each for each in self.parameters if each.group == name) for name in GROUPS}
        return {name: parameters for name, parameters in groups.items() if parameters}

    @property
    def by_name(self) -> dict[str, Parameter]:
        """Every parameter by its name."""
        return {parameter.name: parameter for parameter in self.parameters}


def load_criteria(folder: str | os.PathLike[str] | None = None) -> Criteria:
    """Read ``readers/parameters.yaml`` and ``readers/structures.yaml``.

    Parameters
    ----------
    folder
        The ``data_manifest`` folder; found from the working folder by default.

    Returns
    -------
    The criteria; an entry with ``per_structure`` has become one parameter for each structure, named after it.

    Raises
    ------
    ManifestError
        Naming every entry that is incomplete, unknown or doubled.
    """
    readers = Path(manifest_folder() if folder is None else folder, "readers")
    structures = _entries(readers / "structures.yaml", _STRUCTURE_KEYS)
    found = tuple(Structure(**entry) for entry in structures)
    path = readers / "parameters.yaml"
    entries = _entries(path, _PARAMETER_KEYS, optional=("per_structure",))
    problems = [problem for number, entry in enumerate(entries, 1) for problem in _wrong(number, entry)]
    _raise(path, problems)
    parameters = tuple(parameter for entry in entries for parameter in _parameters(entry, found))
    names = [parameter.name for parameter in parameters]
    doubled = dict.fromkeys(name for name in names if names.count(name) > 1)
    _raise(path, [f"{name!r} stands for more than one parameter" for name in doubled])
    return Criteria(parameters, found)


def _entries(path: Path, keys: tuple[str, ...], *, optional: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The entries of a YAML list that have these keys, and no others."""
    entries, problems = read_entries(path, keys), []
    for number, entry in enumerate(entries, 1):
        problems += [f"entry {number}: no value for {key!r}" for key in keys if not entry.get(key)]
        problems += [f"entry {number}: unknown key {key!r}" for key in entry if key not in keys + optional]
        if entry.get("name") in [other.get("name") for other in entries[: number - 1]]:
            problems.append(f"entry {number}: name = {entry['name']!r} stands there twice")
    _raise(path, problems)
    return entries


def _wrong(number: int, entry: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values of one parameter."""
    problems = []
    for key, allowed in (("group", GROUPS), ("case_set", CASE_SETS)):
        if entry[key] not in allowed:
            problems.append(f"entry {number}: {key} = {entry[key]!r}, allowed: one of {', '.join(allowed)}")
    scale = entry["scale"]
    if not isinstance(scale, dict) or sorted(scale, key=str) != list(SCORES) or not all(scale.values()):
        problems.append(f"entry {number}: scale must say what 1, 2, 3, 4 and 5 mean")
    if bool(entry.get("per_structure")) != (entry["group"] == "fine_structures"):
        problems.append(f"entry {number}: per_structure must be true for the group fine_structures, and only there")
    return problems


def _parameters(entry: Mapping[str, Any], structures: tuple[Structure, ...]) -> list[Parameter]:
    scale = tuple(str(entry["scale"][score]) for score in SCORES)
    group, case_set = str(entry["group"]), str(entry["case_set"])
    if entry.get("per_structure"):
        return [Parameter(each.name, each.title, group, case_set, scale, each.name) for each in structures]
    return [Parameter(str(entry["name"]), str(entry["title"]), group, case_set, scale)]


def _raise(path: Path, problems: list[str]) -> None:
    if problems:
        raise ManifestError(f"{path}: {len(problems)} problem(s)\n" + "\n".join(f"  {line}" for line in problems))
