"""Any segmentation program as an engine: a command template, and which of its labels are whose structures.

A template is a YAML file, for example for SynthSeg:

    name: SynthSeg
    version: "2.0"
    command: mri_synthseg --i {input} --o {output} --cpu --threads 1
    tissue: {CSF: [4, 5, 14, 15, 24, 43, 44], GM: [3, 8, 42, 47, 10, 11, 12, 49, 50, 51], WM: [2, 7, 16, 41, 46]}
    subcortical: {left thalamus: 10, right thalamus: 49, …}

The command is run without a shell. `{input}` is a NIfTI file of the whole head, `{output}` the NIfTI file that the
program is to write, `{folder}` an empty folder for one that writes several; then `result: "{folder}/seg.mgz"` says
which of them holds the labels.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sn2nlib.errors import ProfileError, SegmentationError
from sn2nlib.evaluation.volumetry.checked_yaml import read_yaml
from sn2nlib.evaluation.volumetry.engine import SUBCORTICAL, TISSUES, last_line
from sn2nlib.evaluation.volumetry.grids import read_labels
from sn2nlib.scans.images import write_image

_KINDS = {"tissue": TISSUES, "subcortical": SUBCORTICAL}
_PLACES = {"input": "", "output": "", "folder": ""}
_TOLD = 300  # characters of a program's complaint


class Template(BaseModel):
    """What a template file holds.

    Attributes
    ----------
    name, version
        As they shall stand on tables and figures.
    command
        With the places {input} and {output}, or {folder} and `result`.
    result
        The file that holds the labels.
    tissue, subcortical
        Our structure → the program's label or labels; whole tables, or none.
    note
        What must be told wherever the numbers appear.
    minutes
        How long the program may take for an image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    command: str = Field(min_length=1)
    result: str = "{output}"
    tissue: dict[str, int | list[int]] = {}
    subcortical: dict[str, int | list[int]] = {}
    note: str = ""
    minutes: float = Field(default=240, gt=0)

    @model_validator(mode="after")
    def _complete(self) -> "Template":
        if not self.kinds:
            raise ValueError("needs a table of labels, tissue or subcortical")
        for kind in self.kinds:
            theirs, ours = set(getattr(self, kind)), set(_KINDS[kind].values())
            if theirs != ours:
                raise ValueError(
                    f"{kind} needs exactly the structures {', '.join(_KINDS[kind].values())}; "
                    f"missing: {', '.join(sorted(ours - theirs)) or 'none'}, "
                    f"unknown: {', '.join(sorted(theirs - ours)) or 'none'}"
                )
            listed = [label for labels in self.labels(kind).values() for label in labels]
            if len(set(listed)) != len(listed) or min(listed) < 1:
                raise ValueError(f"{kind}: a label stands there twice, or is below 1")
        if "{input}" not in self.command or ("{output}" not in self.command and "{folder}" not in self.command):
            raise ValueError("command needs the places {input}, and {output} or {folder}")
        for text in (self.command, self.result):
            try:
                [part.format_map(_PLACES) for part in _words(text)]
            except (KeyError, ValueError, IndexError, AttributeError) as error:
                raise ValueError(f"{text!r} has a place that is none of {{input}}, {{output}}, {{folder}}") from error
        return self

    @property
    def kinds(self) -> list[str]:
        """Those of "tissue" and "subcortical" that the program gives."""
        return [kind for kind in _KINDS if getattr(self, kind)]

    def labels(self, kind: str) -> dict[str, list[int]]:
        """Our structure → the program's labels."""
        table: dict[str, int | list[int]] = getattr(self, kind)
        return {name: [labels] if isinstance(labels, int) else list(labels) for name, labels in table.items()}


def load_template(path: str | os.PathLike[str]) -> Template:
    """Read a template.

    Raises
    ------
    ProfileError
        If there is no such file, or something in it is wrong; every fault is listed.
    """
    path = Path(path)
    return read_yaml(path, Template, missing=f"there is no command template {path}", raised=ProfileError)


class CommandSegmenter:
    """A program that a template describes, as an engine for one kind of structures.

    Parameters
    ----------
    template
        From `load_template`.
    kind
        "tissue" or "subcortical".

    Raises
    ------
    SegmentationError
        If the program is not installed.
    """

    def __init__(self, template: Template, kind: str) -> None:
        program = _words(template.command)[0]
        if shutil.which(program) is None:
            raise SegmentationError(f"the program {program} of the template {template.name} is not installed")
        self.template, self.kind = template, kind
        self.name, self.version, self.note = template.name, template.version, template.note
        self.structures = dict(_KINDS[kind])
        numbers = {name: label for label, name in self.structures.items()}
        self.table = {label: numbers[name] for name, labels in template.labels(kind).items() for label in labels}
        self.settings = {"command": template.command, "result": template.result, "table": sorted(self.table.items())}

    def __call__(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Labels (z, y, x) uint8 of an image (z, y, x); see `sn2nlib.evaluation.volumetry.engine.Segmenter`."""
        with tempfile.TemporaryDirectory(prefix="sn2n-segment-") as name:
            places = {place: str(Path(name, file)) for place, file in
                      (("input", "image.nii.gz"), ("output", "labels.nii.gz"), ("folder", "results"))}
            Path(places["folder"]).mkdir()
            write_image(image, places["input"], affine=affine)
            self._run([part.format_map(places) for part in _words(self.template.command)])
            result = Path(self.template.result.format_map(places))
            if not result.is_file():
                raise SegmentationError(f"{self.name} ended without writing {self.template.result}")
            return read_labels(
                result, shape=image.shape, affine=affine, table=self.table, by=self.name, others_are_background=True
            )

    def _run(self, command: list[str]) -> None:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        try:
            running = subprocess.Popen(command, errors="replace", start_new_session=True, **pipes)
        except OSError as error:
            raise SegmentationError(f"{self.name} could not be run: {error}") from error
        with running:
            try:
                said, complaint = running.communicate(timeout=60 * self.template.minutes)
            except subprocess.TimeoutExpired as error:
                _kill(running.pid)
                raise SegmentationError(f"{self.name} did not end within {self.template.minutes:g} min") from error
        if running.returncode != 0:
            last = last_line(said, complaint)[:_TOLD]
            raise SegmentationError(f"{self.name} failed with code {running.returncode}: {last}")


def _words(command: str) -> list[str]:
    """A command's program and arguments; on Windows a backslash is part of a path."""
    if os.name != "nt":
        return shlex.split(command)
    return [word.strip('"') for word in shlex.split(command, posix=False)]


def _kill(number: int) -> None:
    """End a process and all that it started."""
    try:
        program = psutil.Process(number)
        doomed = [*program.children(recursive=True), program]
    except psutil.NoSuchProcess:
        return
    for process in doomed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
