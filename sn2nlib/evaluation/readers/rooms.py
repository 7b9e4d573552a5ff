"""From a study folder to a blinded reading room, and from its scores and its key to a score table."""

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from sn2nlib.errors import ImageError, ReadingError
from sn2nlib.evaluation.readers.criteria import Criteria, load_criteria
from sn2nlib.evaluation.readers.scores import COLUMNS, OPTIONAL_COLUMNS
from sn2nlib.evaluation.readers.session import (
    PLAN,
    Reading,
    RoomCase,
    RoomPlan,
    ScoreLog,
    image_path,
    load_plan,
    log_path,
)
from sn2nlib.evaluation.readers.studies import ReadingStudy, StudyCase, load_study, scored_parameters
from sn2nlib.provenance import atomic_folder, atomic_write, write_json
from sn2nlib.scans.images import read_image

_LETTERS = list("bcdfghjkmnpqrstvwxz23456789")  # no vowels: a token is never a word
_ALIKE = 1.5  # how far brightness may differ between the images of a case


def prepare_room(
    study: str | os.PathLike[str],
    room: str | os.PathLike[str],
    *,
    key: str | os.PathLike[str],
    seed: int,
    criteria: Criteria | None = None,
) -> RoomPlan:
    """Make a blinded reading room of a study folder, and the key to it.

    Parameters
    ----------
    study
        Folder with ``study.yaml``.
    room
        New folder outside `study`. Nothing in it tells which arm an image belongs to: names are random, headers bare,
        and all images of a case have the same number format.
    key
        New JSON file outside `room`; it tells, and is for whoever evaluates the study alone.
    seed
        Decides names, and for every reader the order of cases, sides, and which cases are repeated.
    criteria
        What can be scored; that of ``data_manifest/readers/`` by default.

    Raises
    ------
    ReadingError
        Naming all that is wrong with the study or its images, or if readers of the room could open study or key.
    FileExistsError
        If the room or its key is there already.
    FileNotFoundError
        If the folder that one of them is to lie in does not exist; its name may be mistyped.
    """
    room, key = Path(room), Path(key)
    criteria = load_criteria() if criteria is None else criteria
    content = load_study(study, criteria)
    _check_places(Path(study), room, key)
    rng = np.random.default_rng(seed)
    tokens = _tokens(rng)
    names = {case.case: next(tokens) for case in content.cases}
    images = {(case.case, arm): next(tokens) for case in content.cases for arm in criteria.arms}
    readings, told = _readings(content, names, images, rng, tokens)
    plan = RoomPlan(
        room=next(tokens),
        parameters=tuple(scored_parameters(content, criteria)),
        cases={names[case.case]: _room_case(case, images, criteria) for case in _shuffled(content.cases, rng)},
        readings=readings,
    )
    try:
        with atomic_folder(room) as folder:
            _write_images(content.cases, Path(study), folder, images)
            with atomic_write(folder / PLAN) as temporary:
                temporary.write_text(plan.model_dump_json(indent=1), encoding="utf-8")
            write_json(key, {
                "room": plan.room,
                "seed": seed,
                "images": {token: {"case": case, "arm": arm} for (case, arm), token in images.items()},
                "readings": told,
            })  # fmt: skip
            os.chmod(key, 0o600)
    except BaseException:  # Ctrl+C among it
        if not room.exists():  # a key to nothing, which would be refused next time
            key.unlink(missing_ok=True)
        raise
    return plan


def unblind(room: str | os.PathLike[str], key: str | os.PathLike[str]) -> tuple[pd.DataFrame, dict[str, int]]:
    """The scores of a room with case and arm, by its key.

    Returns
    -------
    table
        With the columns of `sn2nlib.evaluation.readers.scores`, by reader in the order of reading.
    missing
        How many scores every reader has left out.

    Raises
    ------
    ReadingError
        If the key is damaged or that of another room, a log is damaged, or nobody has scored.
    """
    plan, opened = load_plan(room), _load_key(key)
    if opened["room"] != plan.room:
        raise ReadingError(f"{key} is the key to another room than {room}")
    rows, missing = [], {}
    for reader, readings in plan.readings.items():
        log = ScoreLog(log_path(room, reader), room=plan.room, reader=reader)
        wanted = [
            (reading.token, image, parameter)
            for reading in readings
            for parameter in plan.cases[reading.case].parameters
            for image in (reading.left, reading.right)
        ]
        missing[reader] = sum(entry not in log.scores for entry in wanted)
        for entry in wanted:
            if entry in log.scores:
                rows.append(_row(reader, entry, log, opened))
    if not rows:
        raise ReadingError(f"nobody has scored in {room} yet")
    return pd.DataFrame(rows)[[*COLUMNS, *OPTIONAL_COLUMNS]], missing


def _row(reader: str, entry: tuple[str, str, str], log: ScoreLog, opened: Mapping[str, Any]) -> dict[str, Any]:
    token, image, parameter = entry
    try:
        reading = opened["readings"][token]
        told = {**opened["images"][image], "reading_order": reading["order"], "reading": reading["reading"]}
    except KeyError as error:
        raise ReadingError(f"the key does not know {error.args[0]!r}; it is damaged") from error
    given = {"reader": reader, "parameter": parameter, "score": log.scores[entry], "time": log.times[entry]}
    return {**told, **given, "source": "human"}


def _load_key(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        opened = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReadingError(f"there is no key {path}") from None
    except (OSError, ValueError) as error:
        raise ReadingError(f"{path} cannot be read as a key: {error}") from error
    if not isinstance(opened, dict) or not {"room", "images", "readings"} <= set(opened):
        raise ReadingError(f"{path} is no key to a reading room")
    return opened


def _check_places(study: Path, room: Path, key: Path) -> None:
    if room.resolve().is_relative_to(study.resolve()):
        raise ReadingError(
            f"the room {room} would lie in the study folder {study}, whose images readers could open by the names of "
            "their arms; put it elsewhere"
        )
    if key.resolve().is_relative_to(room.resolve()):
        raise ReadingError(f"the key {key} would lie in the room, where readers could open it; put it elsewhere")
    for path in (room, key):
        place = path.resolve().parent
        if not place.is_dir():
            raise FileNotFoundError(f"there is no folder {place} for {path.name}; make it first, or mend its name")
        if path.exists():
            raise FileExistsError(f"{path} exists; scores may hang on it, so it is not replaced. Choose another name")


def _tokens(rng: np.random.Generator) -> Iterator[str]:
    used: set[str] = set()
    while True:
        token = "".join(rng.choice(_LETTERS, 6))
        if token not in used:
            used.add(token)
            yield token


def _shuffled(cases: Sequence[StudyCase], rng: np.random.Generator) -> list[StudyCase]:
    return [cases[number] for number in rng.permutation(len(cases))]


def _room_case(case: StudyCase, images: Mapping[tuple[str, str], str], criteria: Criteria) -> RoomCase:
    # sorted by token: the order of the arms would tell
    first, second = sorted(images[case.case, arm] for arm in criteria.arms)
    return RoomCase(images=(first, second), parameters=case.parameters, marks=case.marks)


def _readings(
    study: ReadingStudy,
    names: Mapping[str, str],
    images: Mapping[tuple[str, str], str],
    rng: np.random.Generator,
    tokens: Iterator[str],
) -> tuple[dict[str, tuple[Reading, ...]], dict[str, dict[str, Any]]]:
    """Every reader's readings, and what the key tells about them."""
    readings, told = {}, {}
    for reader in study.readers:
        made = []
        for order, (case, reading, flipped) in enumerate(_sequence(study, rng), 1):
            token = next(tokens)
            left, right = (image for (name, _), image in images.items() if name == case)
            if flipped:
                left, right = right, left
            made.append(Reading(token=token, case=names[case], left=left, right=right))
            told[token] = {"reader": reader, "case": case, "reading": reading, "order": order}
        readings[reader] = tuple(made)
    return readings, told


def _sequence(study: ReadingStudy, rng: np.random.Generator) -> list[tuple[str, int, bool]]:
    """Case, reading 1 or 2, and whether sides are exchanged, in a random order.

    Cases of the first half are read again after the first readings of the second half have begun, so that a repetition
    never follows at once. Sides are balanced.
    """
    first = [case.case for case in _shuffled(study.cases, rng)]
    half = (len(first) + 1) // 2
    again = rng.permutation(first[:half])[: study.repeats]
    sequence = [(case, 1) for case in first]
    for case in again:
        sequence.insert(int(rng.integers(half + 1, len(sequence) + 1)), (str(case), 2))
    flips = rng.permutation(np.arange(len(sequence)) % 2 == 0)
    return [(case, reading, bool(flip)) for (case, reading), flip in zip(sequence, flips, strict=True)]


def _write_images(
    cases: Sequence[StudyCase], study: Path, room: Path, images: Mapping[tuple[str, str], str]
) -> None:
    """Write every image under its token, as bare float32.

    In the order of the tokens, which are random, and with equal times: file systems remember the order in which files
    were made, and that of the arms would tell.
    """
    affines = {case.case: _check_images(case, study) for case in cases}
    sources = {images[case.case, arm]: (case.case, name) for case in cases for arm, name in case.images.items()}
    for token in sorted(sources):
        case, name = sources[token]
        _write_bare(read_image(study / name)[0], image_path(room, token), affines[case])
    for path in sorted((room / "images").iterdir()):
        os.utime(path, (0, 0))


def _check_images(case: StudyCase, study: Path) -> np.ndarray:
    """(4, 4) the affine of a case's images, if they fit each other and its marks."""
    arms = list(case.images)
    read = [read_image(study / case.images[arm]) for arm in arms]
    (first, geometry), (second, other) = read
    if first.shape != second.shape:
        shapes = ", ".join(f"{arm} {volume.shape}" for arm, (volume, _) in zip(arms, read, strict=True))
        raise ImageError(f"case {case.case}: its images have different shapes (z, y, x): {shapes}")
    if not np.allclose(geometry.affine, other.affine, atol=1e-3):
        raise ImageError(f"case {case.case}: its images lie in different places, their affines differ")
    if np.array_equal(first, second):
        raise ImageError(f"case {case.case}: {' and '.join(arms)} are the same image")
    _check_marks(case, first.shape, geometry.affine)
    _compare_brightness(case, dict(zip(arms, (first, second), strict=True)))
    return np.asarray(geometry.affine)


def _write_bare(volume: np.ndarray, path: Path, affine: np.ndarray) -> None:
    """Without a word in the header, not even the name of the program, which is that of an arm; never compressed,
    since a smooth image would be the smaller file.
    """
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(volume.transpose(2, 1, 0).astype(np.float32), affine), path)


def _compare_brightness(case: StudyCase, volumes: Mapping[str, np.ndarray]) -> None:
    """Warn of images that one window cannot show alike, by which readers could tell the arms apart."""
    bright = {arm: float(np.sqrt(np.mean(np.square(volume, dtype=np.float64)))) for arm, volume in volumes.items()}
    low, high = sorted(bright.values())
    if high > _ALIKE * low:
        told = ", ".join(f"{arm} {value:.4g}" for arm, value in bright.items())
        warnings.warn(
            f"case {case.case}: its images differ in scale (root mean square: {told}), while the room shows both in "
            "one window; bring them to one scale first",
            stacklevel=2,
        )


def _check_marks(case: StudyCase, shape: Sequence[int], affine: np.ndarray) -> None:
    for mark in case.marks:
        voxel = np.linalg.solve(affine, [*mark.position, 1])[2::-1]
        if (voxel < -0.5).any() or (voxel > np.array(shape) - 0.5).any():
            raise ImageError(f"case {case.case}: mark {mark.name!r} at {mark.position} mm lies outside the image")
