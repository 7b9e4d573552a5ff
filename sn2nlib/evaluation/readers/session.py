"""A reading session: one reader's way through a reading room, and the log that keeps every score.

A room (made by `sn2nlib.evaluation.readers.rooms`) knows its images by random tokens alone. A reader's scores are
lines of JSON in ``scores/READER.jsonl``: the first names room and reader, every other is one score, or null where it
was taken back; the last line about the same image and parameter counts.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import nibabel as nib
import numpy as np
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sn2nlib.errors import ReadingError
from sn2nlib.evaluation.readers.criteria import SCORES

PLAN = "room.json"
SIDES = ("left", "right")
Key = tuple[str, str, str]  # reading, image, parameter
_PATIENCE = 5.0  # seconds that a score waits for another page to write its own


class Part(BaseModel):
    """A part of what a room or a study is read from; a key that it does not know is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Mark(Part):
    """A structure to look at: where it lies (RAS mm), how far it reaches (mm), and the parameter it belongs to.

    Without a parameter it belongs to all.
    """

    name: str = Field(min_length=1)
    position: tuple[float, float, float]
    radius: float = Field(default=8, gt=0)
    parameter: str | None = None


class ScoredParameter(Part):
    """What is scored: its name in score tables, its title, what to look for, and what the scores 1 to 5 mean."""

    name: str
    title: str
    look_for: str = ""
    scale: tuple[str, str, str, str, str]


class RoomCase(Part):
    """Two images of one head, in an order that says nothing, the parameters that are scored, and its marks."""

    images: tuple[str, str]
    parameters: tuple[str, ...]
    marks: tuple[Mark, ...] = ()


class Reading(Part):
    """One reading of a case: which image is shown where. A case that is read twice has two readings."""

    token: str
    case: str
    left: str
    right: str


class RoomPlan(Part):
    """All that the room knows: parameters, cases by their tokens, and every reader's readings in order."""

    format: Literal[1] = 1
    room: str
    parameters: tuple[ScoredParameter, ...]
    cases: dict[str, RoomCase]
    readings: dict[str, Annotated[tuple[Reading, ...], Field(min_length=1)]]


@dataclass(frozen=True)
class Place:
    """Where a reader is: number of the reading and of the parameter, from 0, and the side that is scored next."""

    reading: int = 0
    parameter: int = 0
    side: Literal["left", "right"] = "left"


def load_plan(folder: str | os.PathLike[str]) -> RoomPlan:
    """Read the plan of a room.

    Raises
    ------
    ReadingError
        If the folder is no room, or its plan is damaged.
    """
    path = Path(folder, PLAN)
    if not path.is_file():
        raise ReadingError(f"{folder} is no reading room, it has no {PLAN}; make one with `sn2n reading prepare`")
    try:
        return RoomPlan.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ReadingError(f"{path} is damaged: {place}: {first['msg']}") from error


def image_path(folder: str | os.PathLike[str], image: str) -> Path:
    """File of an image of the room."""
    return Path(folder, "images", f"{image}.nii")


def log_path(folder: str | os.PathLike[str], reader: str) -> Path:
    """File of a reader's scores."""
    return Path(folder, "scores", f"{reader}.jsonl")


@contextmanager
def hold_room(folder: str | os.PathLike[str], reader: str) -> Iterator[None]:
    """Keep others from opening a room for the same reader.

    ``READER.lock``, an empty file beside the scores, is locked by the operating system, which lets it go when the
    process ends, whatever ends it.

    Raises
    ------
    ReadingError
        If the room is open for the reader already.
    """
    path = log_path(folder, reader).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ReadingError(
            f"{folder} is open for {reader} already, in another window or on another machine; go on there, or end "
            "that one first (Ctrl+C)"
        ) from error
    try:
        yield
    finally:
        lock.release()


def open_image(folder: str | os.PathLike[str], image: str) -> tuple[np.ndarray, np.ndarray]:
    """An image of the room, read from the disk slice by slice as it is looked at.

    Returns
    -------
    volume : (z, y, x) float32
        Axes right, anterior, superior.
    affine : (4, 4) float
        RAS+ affine of the volume stored as (x, y, z).

    Raises
    ------
    ReadingError
        If it is missing or damaged.
    """
    path = image_path(folder, image)
    try:
        stored = nib.load(path)
        return np.asanyarray(stored.dataobj).T, np.asarray(stored.affine)  # type: ignore[attr-defined]
    except (OSError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise ReadingError(f"{path} is missing or damaged ({error}); prepare the room again") from error


class ScoreLog:
    """A reader's scores on the disk: append-only, every line on the disk before `append` returns.

    A line that a crash has cut short is no score: it is left out when the log is read, and cut off before the next
    line is written. Of two pages of the same reader one can write: who has not seen what the other wrote, does not.
    ``READER.jsonl.lock``, an empty file beside the log, lets one after the other.

    Attributes
    ----------
    scores
        Score by (reading, image, parameter), the latest last; what was taken back is left out.
    times
        When it was given, ISO 8601 in UTC.
    elsewhere
        Whether another page has taken over; this one then writes no more.
    """

    def __init__(self, path: str | os.PathLike[str], *, room: str, reader: str) -> None:
        """Read the log, which need not exist.

        Raises
        ------
        ReadingError
            If a whole line is no score, or the log belongs to another room or reader.
        """
        self.path = Path(path)
        self.scores: dict[Key, int] = {}
        self.times: dict[Key, str] = {}
        self.elsewhere = False
        self._opening = {"room": room, "reader": reader}
        self._end = 0  # of the last whole line that was read, in bytes
        self._n_lines = 0
        self.refresh()

    def refresh(self) -> bool:
        """Read what was added since, by another page perhaps; whether there was anything."""
        if not self.path.is_file():
            return False
        with self.path.open("rb") as file:
            file.seek(self._end)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._n_lines += 1
            self._take(line)
        self._end += len(whole)
        return bool(whole)

    def append(self, key: Key, score: int | None) -> None:
        """Keep a score, or take it back; it is on the disk when this returns.

        Raises
        ------
        ReadingError
            If another page has written since this one last looked; nothing is written, nor will be.
        OSError
            If it cannot be written, or another page does not let it for some seconds.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock", timeout=_PATIENCE):
            self.elsewhere |= self.refresh()
            if self.elsewhere:
                raise ReadingError(f"{self.path}: another page has scored since; open this one anew to go on here")
            self._write(key, score)
            self.refresh()

    def _write(self, key: Key, score: int | None) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"time": now, **dict(zip(("reading", "image", "parameter"), key, strict=True)), "score": score}
        lines = [entry] if self._end else [self._opening, entry]
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        with open(handle, "r+b") as file:
            file.truncate(self._end)  # what a crash has cut short
            file.seek(self._end)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(self.path.parent)

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ReadingError(f"{self.path}, line {self._n_lines}: damaged, it holds no JSON ({error})") from error
        if self._n_lines == 1:
            if entry != self._opening:
                raise ReadingError(f"{self.path} is the log of another room or reader; move it away")
            return
        try:
            key = entry["reading"], entry["image"], entry["parameter"]
            score, time = entry["score"], entry["time"]
        except (KeyError, TypeError) as error:
            raise ReadingError(f"{self.path}, line {self._n_lines}: damaged, it is no score") from error
        if score is not None and score not in SCORES:
            raise ReadingError(f"{self.path}, line {self._n_lines}: score {score!r}, allowed: 1 to 5")
        self.scores.pop(key, None)
        self.times.pop(key, None)
        if score is not None:
            self.scores[key] = score
            self.times[key] = time


class Session:
    """A reader's way through the room.

    Attributes
    ----------
    folder, reader, plan
        Room and reader.
    readings
        In the reader's order.
    place
        Where the reader is; at first where they stopped.
    log
        Their scores.
    """

    def __init__(self, folder: str | os.PathLike[str], reader: str) -> None:
        """Open the room for a reader.

        Raises
        ------
        ReadingError
            If there is no such room or reader, or the log is damaged.
        """
        self.folder, self.reader, self.plan = Path(folder), reader, load_plan(folder)
        if reader not in self.plan.readings:
            raise ReadingError(f"there is no reader {reader!r} in {folder}; it has {', '.join(self.plan.readings)}")
        self.readings = self.plan.readings[reader]
        self._parameters = {parameter.name: parameter for parameter in self.plan.parameters}
        self.log = ScoreLog(log_path(folder, reader), room=self.plan.room, reader=reader)
        self.place = self.first_open()

    @property
    def reading(self) -> Reading:
        """The reading of the place."""
        return self.readings[self.place.reading]

    @property
    def case(self) -> RoomCase:
        """The case of the place."""
        return self.plan.cases[self.reading.case]

    @property
    def parameters(self) -> list[ScoredParameter]:
        """What is scored in this case."""
        return self._of(self.place.reading)

    @property
    def parameter(self) -> ScoredParameter:
        """The parameter of the place."""
        return self.parameters[self.place.parameter]

    @property
    def marks(self) -> list[Mark]:
        """Structures to look at for the parameter of the place."""
        return [mark for mark in self.case.marks if mark.parameter in (None, self.parameter.name)]

    def score(self, *, parameter: int | None = None, side: str | None = None) -> int | None:
        """Score of a parameter and side of this case, by default those of the place."""
        number = self.place.parameter if parameter is None else parameter
        return self.log.scores.get(self._key(self.place.reading, number, side or self.place.side))

    def give(self, score: int) -> bool:
        """Score the place, and go on to the next place of this case that has no score, if there is one.

        Returns
        -------
        Whether the case still had one.
        """
        if score not in SCORES:
            raise ReadingError(f"a score is 1, 2, 3, 4 or 5, got {score!r}")
        self.log.append(self._here(), score)
        here = self.place
        places = self._places(here.reading)
        at = places.index(here) + 1
        # the other image first, then the next parameters, then those left out before
        ahead = sorted(places[at:] + places[:at], key=lambda place: place.parameter != here.parameter)
        following = next(filter(self._is_open, ahead), None)
        self.place = following or here
        return following is not None

    def take_back(self) -> bool:
        """Take back the latest score and go to its place; whether there was one."""
        if not self.log.scores:
            return False
        latest = next(reversed(self.log.scores))
        self.log.append(latest, None)
        everywhere = (place for number in range(len(self.readings)) for place in self._places(number))
        self.place = next(place for place in everywhere if self._key_of(place) == latest)
        return True

    def go_to_reading(self, number: int) -> None:
        """Go to a case, by its number from 0, and there to the first place without a score."""
        number = min(max(number, 0), len(self.readings) - 1)
        self.place = next(filter(self._is_open, self._places(number)), Place(number))

    def go_to_parameter(self, number: int) -> None:
        """Go to a parameter of this case, by its number from 0, to the side without a score if there is one."""
        number = min(max(number, 0), len(self.parameters) - 1)
        both = [place for place in self._places(self.place.reading) if place.parameter == number]
        self.place = next(filter(self._is_open, both), both[0])

    def go_to_side(self, side: Literal["left", "right"]) -> None:
        """Go to the image on this side."""
        self.place = Place(self.place.reading, self.place.parameter, side)

    def first_open(self) -> Place:
        """Where to go on: the first place without a score; when there is none, the end of the last case."""
        places = (place for number in range(len(self.readings)) for place in self._places(number))
        return next(filter(self._is_open, places), self._places(len(self.readings) - 1)[-1])

    def progress(self, *, reading: int | None = None) -> tuple[int, int]:
        """How many scores were given, and how many there are to give: in one reading, or in all."""
        numbers = range(len(self.readings)) if reading is None else [reading]
        places = [place for number in numbers for place in self._places(number)]
        return sum(not self._is_open(place) for place in places), len(places)

    def _of(self, reading: int) -> list[ScoredParameter]:
        return [self._parameters[name] for name in self.plan.cases[self.readings[reading].case].parameters]

    def _places(self, reading: int) -> list[Place]:
        numbers = range(len(self._of(reading)))
        return [Place(reading, number, side) for number in numbers for side in ("left", "right")]

    def _key(self, reading: int, parameter: int, side: str) -> Key:
        shown = self.readings[reading]
        image = shown.left if side == "left" else shown.right
        return shown.token, image, self._of(reading)[parameter].name

    def _key_of(self, place: Place) -> Key:
        return self._key(place.reading, place.parameter, place.side)

    def _here(self) -> Key:
        return self._key_of(self.place)

    def _is_open(self, place: Place) -> bool:
        return self._key_of(place) not in self.log.scores


def _sync_folder(folder: Path) -> None:
    """Bring a new file's name onto the disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
