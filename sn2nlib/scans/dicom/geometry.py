"""Frames → one volume in its place: volumes told apart, slices sorted by position, nothing missing or mixed."""

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np

from sn2nlib.errors import ImageError

from .files import FACTS
from .frames import Frame

_PARALLEL = 1e-3  # difference of direction cosines
_SPACING = (0.02, 0.01)  # mm, and share of the distance between slices, by which slices may stray
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM counts towards left and posterior, NIfTI towards right and anterior


def split_volumes(frames: Sequence[Frame], *, where: str) -> dict[str, list[Frame]]:
    """Tell the volumes of one series apart: echoes, time points, magnitude and phase, b-values.

    Frames at one place must differ in one of `FACTS`; the first that differs splits them, and again, until no
    volume has two frames at one place.

    Returns
    -------
    Description of a volume, made of technical values → its frames.

    Raises
    ------
    ImageError
        If a slice is there twice and nothing tells the two apart.
    """
    groups: dict[tuple[str, ...], list[Frame]] = {(): list(frames)}
    told: list[str] = []
    while (crowded := next((group for group in groups.values() if _crowded(group)), None)) is not None:
        fact = next((name for name, *_ in FACTS if name not in told and _separates(crowded, name)), None)
        if fact is None:
            count = sum(number - 1 for number in Counter(map(_place, crowded)).values())
            raise ImageError(
                f"{where}: slices lie where another slice of the series lies ({count} of {len(crowded)}), and nothing "
                "tells them apart; remove the duplicates"
            )
        told.append(fact)
        groups = {}
        for frame in frames:
            groups.setdefault(tuple(frame.facts[name] for name in told), []).append(frame)
    described = {
        ", ".join(f"{name} {value or 'unknown'}" for name, value in zip(told, key, strict=True)): group
        for key, group in groups.items()
    }
    return dict(sorted(described.items(), key=lambda item: _order(item[1][0], told)))


def stack(frames: Sequence[Frame], *, where: str, alone: bool = True) -> tuple[list[Frame], np.ndarray]:
    """Sort the slices of one volume along their normal, and check that they make a volume.

    Parameters
    ----------
    frames
        Of one volume.
    where
        What to call the series in a message.
    alone
        Whether these are all slices of the series, whose numbers then begin with 1.

    Returns
    -------
    frames
        In order.
    affine : (4, 4) float64
        RAS+ mm affine of the array (column, row, slice).

    Raises
    ------
    ImageError
        If slices are missing, unevenly spaced or shifted sideways, or differ in size, spacing or orientation; or if
        there is one, whose thickness is not known.
    """
    _check_alike(frames, where=where)
    first = frames[0]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = np.cross(row, column)
    frames = sorted(frames, key=lambda frame: float(normal @ np.array(frame.position)))
    positions = np.array([frame.position for frame in frames])
    if len(frames) == 1:
        step = normal * _thickness(first, where=where)
    else:
        step = _step(positions, normal, where=where)
        _warn_doubtful(frames, float(np.linalg.norm(step)), where=where, alone=alone)
    affine = np.eye(4)
    affine[:3, 0] = row * first.spacing[1]
    affine[:3, 1] = column * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return frames, _FLIP @ affine


def _thickness(frame: Frame, *, where: str) -> float:
    """In mm, of the only slice of a volume: a distance to others, which a header may name too, there is not."""
    known = [value for value in (frame.thickness, frame.between) if value is not None and 0 < value < np.inf]
    if not known:
        raise ImageError(f"{where}: does not say how thick its only slice is (SliceThickness); export the series again")
    return known[0]


def _step(positions: np.ndarray, normal: np.ndarray, *, where: str) -> np.ndarray:
    """From one slice to the next (x, y, z) in mm, of sorted positions (slice, 3), which have to lie in a row."""
    _check_even(positions @ normal, where=where)
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    astray = np.abs(positions - positions[0] - np.outer(np.arange(len(positions)), step)).max()
    sideways = np.linalg.norm(step - (step @ normal) * normal)
    allowed = _SPACING[0] + _SPACING[1] * np.linalg.norm(step)
    if astray > allowed or sideways > allowed:
        raise ImageError(
            f"{where}: the slices do not lie straight above each other (off by {max(astray, sideways):.2g} mm); "
            "a sheared stack cannot be denoised as a volume"
        )
    return np.asarray(step)


def _place(frame: Frame) -> tuple[float, ...]:
    return tuple(np.round(frame.position, 2) + 0.0)


def _crowded(group: Sequence[Frame]) -> bool:
    return len({_place(frame) for frame in group}) < len(group)


def _separates(group: Sequence[Frame], fact: str) -> bool:
    """Whether a fact differs between frames at one place."""
    places = {_place(frame) for frame in group}
    return len({(_place(frame), frame.facts[fact]) for frame in group}) > len(places)


def _order(frame: Frame, told: Sequence[str]) -> list[tuple[float, str]]:
    """Sort by number where a value is one, else by name."""
    keys = []
    for name in told:
        try:
            keys.append((float(frame.facts[name]), ""))
        except ValueError:
            keys.append((np.inf, frame.facts[name]))
    return keys


def _check_alike(frames: Sequence[Frame], *, where: str) -> None:
    sizes = sorted({frame.size for frame in frames})
    if len(sizes) > 1 or 0 in sizes[0]:
        raise ImageError(f"{where}: slices of different size, {_listed(sizes)}; give one series at a time")
    if not np.allclose([frame.orientation for frame in frames], frames[0].orientation, atol=_PARALLEL):
        raise ImageError(
            f"{where}: the slices are not parallel, as in a localizer or in two mixed series; give one series at a time"
        )
    directions = np.array(frames[0].orientation).reshape(2, 3)
    if not np.allclose(directions @ directions.T, np.eye(2), atol=_PARALLEL):
        raise ImageError(f"{where}: rows and columns are not at right angles; the header is damaged")
    spacings = np.array([frame.spacing for frame in frames])
    if (spacings <= 0).any() or not np.allclose(spacings, spacings[0], rtol=1e-3):
        found = sorted({tuple(row) for row in spacings.round(4).tolist()})
        raise ImageError(f"{where}: pixels of different or impossible size, {_listed(found)} mm")


def _check_even(distances: np.ndarray, *, where: str) -> None:
    steps = np.diff(distances)
    typical = float(np.median(steps))
    allowed = _SPACING[0] + _SPACING[1] * typical
    odd = np.flatnonzero(np.abs(steps - typical) > allowed)
    if odd.size == 0:
        return
    ratios = steps[odd] / typical
    whole = np.rint(ratios)
    if (whole >= 2).all() and (np.abs(steps[odd] - whole * typical) <= allowed * whole).all():
        raise ImageError(
            f"{where}: slices are missing ({int((whole - 1).sum())}), the first after slice {odd[0] + 1} of the "
            f"{len(distances)} found (every {typical:.3g} mm, {steps[odd[0]]:.3g} mm there); export the whole series"
        )
    raise ImageError(
        f"{where}: the slices are spaced unevenly, {steps.min():.3g} to {steps.max():.3g} mm; "
        "slices are missing, or two series are mixed"
    )


def _warn_doubtful(frames: Sequence[Frame], step: float, *, where: str, alone: bool) -> None:
    between = frames[0].between
    if between and not between / 1.5 <= step <= 1.5 * between:
        why = "are some missing" if step > between else "are two series mixed"
        warnings.warn(
            f"{where}: slices lie {step:.3g} mm apart where the header says {between:.3g} mm; {why}?", stacklevel=4
        )
    numbers = sorted(frame.instance for frame in frames if frame.instance is not None)
    if alone and 1 < len(set(numbers)) < len(numbers):
        warnings.warn(f"{where}: some slices carry the same number; are two series mixed?", stacklevel=4)
    if alone and len(numbers) == len(frames) and numbers[0] > 1 and set(np.diff(numbers)) == {1}:
        warnings.warn(
            f"{where}: the slices are numbered from {numbers[0]}; are some missing at the beginning?", stacklevel=4
        )


def _listed(values: Sequence[Sequence[float]]) -> str:
    return ", ".join(" × ".join(f"{part:g}" for part in value) for value in values[:4])
