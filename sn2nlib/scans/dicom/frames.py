"""DICOM headers → frames: one record per slice, the same for classic and for enhanced multi-frame files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sn2nlib.errors import ImageError

from .files import FACTS, MULTI_FRAME, Header, check_proportion, parsing

if TYPE_CHECKING:
    from pydicom import Dataset

# bytes of memory for each pixel of a compressed file while it is read: values, padding and the volume, and then the
# stored number, which is held four times where pydicom unpacks a deflated file
_FIXED, _COPIES = 9, 4
_DAMAGE = "its header is damaged or incomplete; export the series again"


@dataclass(frozen=True)
class Frame:
    """One slice in a DICOM file.

    Attributes
    ----------
    path, number
        The file, and the slice's number in it, from 0.
    place
        What to call the file in a message.
    instance
        InstanceNumber of the file, or None.
    position : (x, y, z) mm
        Centre of the first pixel, in patient coordinates (towards left, posterior, superior).
    orientation
        Direction cosines of a row (first to last column), then of a column.
    spacing : (rows, columns) mm
        Distance between neighbouring rows, and between columns.
    between : mm or None
        Distance between slices as the header says it; not all scanners say it right.
    thickness : mm or None
        Of the slice, as the header says it.
    size : (rows, columns)
    scaling
        Slope and intercept: value = slope · stored number + intercept.
    limits
        Lowest and highest number that the file can store.
    padding
        The stored number that marks a pixel as no part of the image, or None.
    facts
        Values of `FACTS` as text, by name.
    """

    path: Path
    number: int
    place: str
    instance: int | None
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    between: float | None
    thickness: float | None
    size: tuple[int, int]
    scaling: tuple[float, float]
    limits: tuple[int, int]
    padding: int | None
    facts: dict[str, str]


def read_frames(headers: Sequence[Header]) -> list[Frame]:
    """All slices of some files.

    Raises
    ------
    ImageError
        If a file holds colour, no pixel format or geometry that is understood, or is damaged.
    """
    frames = []
    for header in headers:
        _check_header(header)
        with parsing(header.place, _DAMAGE):
            frames += list(_frames(header))
    return frames


def check_lengths(headers: Sequence[Header]) -> None:
    """Refuse pixels that their file cannot hold before memory is asked for them.

    Raises
    ------
    ImageError
    """
    for header in headers:
        with parsing(header.place, _DAMAGE):
            _check_length(header)


def _check_header(header: Header) -> None:
    dataset, place = header.dataset, header.place
    if not (dataset.get("SOPInstanceUID") and dataset.get("SeriesInstanceUID")):
        raise ImageError(f"{place}: lacks the UID of the image or of its series; export the series again")
    try:
        samples, kind = int(dataset.get("SamplesPerPixel", 1)), str(dataset.PhotometricInterpretation)
        allocated, stored, high = int(dataset.BitsAllocated), int(dataset.BitsStored), int(dataset.HighBit)
    except (AttributeError, TypeError, ValueError):
        raise ImageError(f"{place}: does not say how its pixels are stored; export the series again") from None
    if samples != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"{place}: holds colour ({kind[:16]}); take the original magnitude images")
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or high != stored - 1:
        raise ImageError(
            f"{place}: its pixels have {stored} of {allocated} bits up to bit {high}, which is not supported; "
            "convert the series, for example with dcmconv"
        )


def _check_length(header: Header) -> None:
    dataset, stored = header.dataset, header.path.stat().st_size
    pixels = int(dataset.get("NumberOfFrames") or 1) * int(dataset.Rows) * int(dataset.Columns)
    bytes_each, syntax = int(dataset.BitsAllocated) // 8, dataset.file_meta.TransferSyntaxUID
    squeezed = syntax.is_compressed or syntax.is_deflated
    if not squeezed and pixels * bytes_each > stored:
        raise ImageError(f"{header.place}: holds fewer pixels than its header says; export the series again")
    if squeezed:
        check_proportion(pixels * (_FIXED + _COPIES * bytes_each), stored, header.place)


def _frames(header: Header) -> Iterator[Frame]:
    dataset = header.dataset
    enhanced = dataset.SOPClassUID in MULTI_FRAME
    count = int(dataset.get("NumberOfFrames") or 1)
    own = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    shared = (list(dataset.get("SharedFunctionalGroupsSequence") or []) or [None])[0]
    if (enhanced and len(own) != count) or (not enhanced and count != 1):
        raise ImageError(f"{header.place}: {count} frames, but {len(own)} descriptions of one; export the series again")
    low, high = 0, 2 ** int(dataset.BitsStored) - 1
    if int(dataset.PixelRepresentation):
        low, high = -(high + 1) // 2, high // 2
    padding, instance = dataset.get("PixelPaddingValue"), dataset.get("InstanceNumber")
    for number in range(count):
        groups = (own[number], shared) if enhanced else None
        yield Frame(
            path=header.path,
            number=number,
            place=header.place,
            instance=None if instance is None or enhanced else int(instance),
            limits=(low, high),
            padding=None if padding is None else int(padding),
            size=(int(dataset.Rows), int(dataset.Columns)),
            facts={
                name: _text(_value(dataset, groups, classic, group, keyword))
                for name, classic, group, keyword in FACTS
            },
            **_geometry(dataset, groups, header.place),
        )


def _geometry(dataset: "Dataset", groups: Sequence[Any] | None, place: str) -> dict[str, Any]:
    def numbers(keyword: str, group: str, length: int) -> tuple[float, ...]:
        value = _value(dataset, groups, keyword, group, keyword)
        found = tuple(float(part) for part in np.atleast_1d(value)) if value is not None else ()
        if len(found) != length or not np.isfinite(found).all():
            raise ImageError(f"{place}: lacks {keyword}, which puts a slice in its place; take the original images")
        return found

    transformation = "PixelValueTransformationSequence"
    slope, intercept, between, thickness = (
        _value(dataset, groups, keyword, group, keyword)
        for keyword, group in (
            ("RescaleSlope", transformation), ("RescaleIntercept", transformation),
            ("SpacingBetweenSlices", "PixelMeasuresSequence"), ("SliceThickness", "PixelMeasuresSequence"),
        )
    )  # fmt: skip
    scaling = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    if not np.isfinite(scaling).all() or scaling[0] == 0:
        raise ImageError(f"{place}: its rescale slope and intercept are {scaling}; the slope must not be 0")
    return {
        "position": numbers("ImagePositionPatient", "PlanePositionSequence", 3),
        "orientation": numbers("ImageOrientationPatient", "PlaneOrientationSequence", 6),
        "spacing": numbers("PixelSpacing", "PixelMeasuresSequence", 2),
        "between": None if between is None else abs(float(between)),
        "thickness": None if thickness is None else abs(float(thickness)),
        "scaling": scaling,
    }


def _value(dataset: "Dataset", groups: Sequence[Any] | None, classic: str, group: str, keyword: str) -> Any:
    """A value of a frame: from the file, or, enhanced, from the frame's functional groups, else the shared ones."""
    if groups is None:
        return dataset.get(classic)
    for level in groups:
        items = level.get(group) if level is not None else None
        if items:
            return items[0].get(keyword)
    return None


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) or not np.iterable(value):
        return str(value)
    return "/".join(str(part) for part in value)
