"""A DICOM MR series as a volume in the axis order of the scans; `write` makes a new series of it."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sn2nlib.errors import ImageError
from sn2nlib.scans.images import turn_to_acquired, voxel_size_of

from .derive import is_derived
from .files import MULTI_FRAME, FileOfItsSize, Header, parsing, read_headers
from .frames import Frame, check_lengths, read_frames
from .geometry import split_volumes, stack

if TYPE_CHECKING:
    from pydicom import Dataset

_PHASE = {"P", "PHASE", "PHASE MAP", "I", "IMAGINARY", "MIXED"}  # values of ImageType and ComplexImageComponent


@dataclass(frozen=True)
class DicomSeries:
    """Where a volume lies, and which slices of which files it came from.

    Attributes
    ----------
    path
        The file or folder that was read.
    frames
        The slices, sorted along their normal.
    affine : (4, 4) float64
        RAS+ mm affine of the volume stored as (x, y, z) = volume.transpose(2, 1, 0).
    stored
        nibabel orientation (axis, flip) of the array (column, row, slice).
    shape
        (z, y, x) of the volume.
    padding : (slice, row, column) bool
        Pixels that their file marks as no part of the image (PixelPaddingValue, PixelPaddingRangeLimit).
    padding_numbers : (pixel,) int64
        What is stored there, in the order of `padding`.
    denoised
        Whether `write_dicom` made it.
    """

    path: Path
    frames: tuple[Frame, ...]
    affine: np.ndarray
    stored: np.ndarray
    shape: tuple[int, int, int]
    padding: np.ndarray
    padding_numbers: np.ndarray
    denoised: bool = False

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """(z, y, x) in mm."""
        return voxel_size_of(self.affine)


def read_dicom(
    path: str | os.PathLike[str], *, series: int | None = None, volume: int | None = None
) -> tuple[np.ndarray, DicomSeries]:
    """Read an MR series: a folder of single slices, be it one alone, or an enhanced multi-frame file.

    1. Headers of all files; other kinds of objects in the folder are passed over.
    2. The one series, or that with the number `series`.
    3. Its one volume, or that with the number `volume` (echoes, time points, magnitude and phase).
    4. Slices sorted by ImagePositionPatient along the normal of ImageOrientationPatient, and checked.
    5. Stored numbers · slope + intercept, turned by axis swaps and flips into acquisition order.

    Parameters
    ----------
    path
        A folder (searched with its sub-folders) or a multi-frame file.
    series
        SeriesNumber, where there are several series.
    volume
        Counted from 1, where the series holds several volumes.

    Returns
    -------
    volume : (z, y, x) float32
        As `sn2nlib.scans.images.read_image` gives it. Padding is 0.
    series
        For `write_dicom`.

    Raises
    ------
    FileNotFoundError
    ImageError
        If there is no MR image, or a choice is needed, or the slices make no volume, hold colour or phase, or are
        compressed by a method that no installed decoder knows. No message holds patient data or the name of a file
        inside a folder.
    """
    path = Path(path)
    headers = _chosen_series(read_headers(path), series, path)
    frames, alone = _chosen_volume(read_frames(headers), volume, path)
    check_lengths(headers)
    _refuse_part(headers, frames, path, alone=alone)
    _refuse_mixed(headers, frames, path)
    sorted_frames, affine = stack(frames, where=str(path), alone=alone)
    _refuse_phase(sorted_frames, path)
    values, padding, padding_numbers = _read_values(sorted_frames)
    turned, turned_affine, stored = turn_to_acquired(values.transpose(2, 1, 0), affine)
    found = DicomSeries(
        path=path, frames=tuple(sorted_frames), affine=turned_affine, stored=stored, shape=turned.shape,
        padding=padding, padding_numbers=padding_numbers,
        denoised=any(is_derived(header.dataset) for header in headers),
    )  # fmt: skip
    return turned, found


def series_affine(path: str | os.PathLike[str]) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Where the one volume of a series lies, with the axes (readout, lines, slices).

    Lines are the rows, but the columns where the header names the direction of the rows as that of phase encoding.
    Files without pixels suffice; where there are pixels, they have to be as many as the header says.

    Returns
    -------
    affine : (4, 4) float64
        RAS+ mm.
    shape
        Number of voxels along the axes.

    Raises
    ------
    FileNotFoundError, ImageError
        As `read_dicom`, but pixels may be absent, and are not decoded.
    """
    path = Path(path)
    headers = _chosen_series(read_headers(path), None, path)
    frames, alone = _chosen_volume(read_frames(headers), None, path)
    _refuse_part(headers, frames, path, alone=alone)
    _refuse_mixed(headers, frames, path)
    sorted_frames, affine = stack(frames, where=str(path), alone=alone)
    for file, place in {frame.path: frame.place for frame in frames}.items():
        _read_whole(file, place)
    n_rows, n_columns = sorted_frames[0].size
    if sorted_frames[0].facts["phase encoding"].upper() == "ROW":
        return affine[:, [1, 0, 2, 3]], (n_rows, n_columns, len(frames))
    return affine, (n_columns, n_rows, len(frames))


def read_pixels(path: Path, place: str) -> tuple["Dataset", np.ndarray]:
    """A file and its stored numbers, decompressed: (frame, row, column) integer.

    Raises
    ------
    ImageError
        If the pixels are incomplete or more than the header says, or no installed decoder knows how they are
        compressed.
    """
    dataset = _read_whole(path, place)
    if "PixelData" not in dataset:
        raise ImageError(f"{place}: holds no pixels; export the series again")
    with parsing(place, "its pixels are damaged or incomplete; export the series again"):
        _check_decoder(dataset, place)
        pixels = dataset.pixel_array
    return dataset, pixels.reshape(-1, *pixels.shape[-2:])


def _read_whole(path: Path, place: str) -> "Dataset":
    """A file with its pixels as they are stored, as many of them as its header says, or none."""
    import pydicom

    with FileOfItsSize(path) as file, parsing(place):
        dataset = pydicom.dcmread(file)
        stored = len(dataset.PixelData) if "PixelData" in dataset else None
        counted = not dataset.file_meta.TransferSyntaxUID.is_encapsulated
    if counted and stored is not None:
        _check_amount(dataset, stored, place)
    return dataset


def _check_amount(dataset: "Dataset", stored: int, place: str) -> None:
    """Refuse bytes that are fewer than the header says, or more by a line of pixels: less than that may be padding."""
    rows, columns, bytes_each = int(dataset.Rows), int(dataset.Columns), int(dataset.BitsAllocated) // 8
    surplus = stored - int(dataset.get("NumberOfFrames") or 1) * rows * columns * bytes_each
    if surplus < 0:
        raise ImageError(f"{place}: its pixels are damaged or incomplete; export the series again")
    if surplus >= max(2, min(rows, columns) * bytes_each):
        raise ImageError(f"{place}: holds more pixels than its header says; export the series again")


def _chosen_series(headers: Sequence[Header], series: int | None, path: Path) -> list[Header]:
    groups: dict[str, list[Header]] = {}
    for header in headers:
        groups.setdefault(header.series, []).append(header)
    numbers = {uid: _integer(group[0], "SeriesNumber") for uid, group in groups.items()}
    fitting = [uid for uid, number in numbers.items() if series is None or number == series]
    if len(fitting) == 1:
        return groups[fitting[0]]
    in_order = sorted(numbers.items(), key=lambda item: (item[1] is None, item[1]))
    told = "; ".join(_described(groups[uid], number) for uid, number in in_order)
    if not fitting:
        raise ImageError(f"{path}: has no series {series}, but {told}; choose one with --series")
    if len({numbers[uid] for uid in fitting}) < len(fitting):
        raise ImageError(
            f"{path}: holds {len(fitting)} series of which some carry the same number or none: {told}; "
            "put each into a folder of its own"
        )
    raise ImageError(f"{path}: holds {len(fitting)} series: {told}; choose one with --series")


def _integer(header: Header, keyword: str) -> int | None:
    try:
        return int(header.dataset[keyword].value)
    except (KeyError, TypeError, ValueError):
        return None


def _described(group: Sequence[Header], number: int | None) -> str:
    images, first = 0, group[0].dataset
    for header in group:
        try:
            images += int(header.dataset.get("NumberOfFrames") or 1)
        except (TypeError, ValueError):
            images += 1
    name = "without a number" if number is None else str(number)
    return f"series {name} ({images} images of {first.get('Rows')} × {first.get('Columns')})"


def _chosen_volume(frames: list[Frame], volume: int | None, path: Path) -> tuple[list[Frame], bool]:
    """The slices of the chosen volume, and whether it is the only one."""
    volumes = split_volumes(frames, where=str(path))
    if (volume is None and len(volumes) > 1) or (volume is not None and not 1 <= volume <= len(volumes)):
        told = "; ".join(
            f"{number}: {name} ({len(group)} slices)"
            for number, (name, group) in enumerate(volumes.items(), 1)
        )
        if len(volumes) == 1:
            raise ImageError(f"{path}: has no volume {volume}, but one alone; leave --volume out")
        lacking = "holds" if volume is None else f"has no volume {volume}, but"
        raise ImageError(f"{path}: {lacking} {len(volumes)} volumes: {told}; choose one with --volume")
    return list(volumes.values())[(volume or 1) - 1], len(volumes) == 1


def _refuse_part(headers: Sequence[Header], frames: Sequence[Frame], path: Path, *, alone: bool) -> None:
    """Refuse one slice of a series that has or may have more, as far as its header tells."""
    header = next(header for header in headers if header.path == frames[0].path)
    if len(frames) > 1 or header.dataset.SOPClassUID in MULTI_FRAME:
        return
    number, images = _integer(header, "InstanceNumber") or 1, _integer(header, "ImagesInAcquisition") or 1
    told = None
    if header.dataset.get("MRAcquisitionType") == "3D":
        told = "of a 3D acquisition, which has several"
    elif alone and max(number, images) > 1:
        told = f"number {number} of several" if number > 1 else f"of an acquisition of {images} images"
    elif path.is_file():
        told = "and cannot say whether its series has more"
    if told is not None:
        raise ImageError(f"{path}: holds one slice only, {told}; give the folder of the whole series")


def _refuse_mixed(headers: Sequence[Header], frames: Sequence[Frame], path: Path) -> None:
    """Refuse files under one series UID whose frames cannot be of one series, and warn where they may not be."""
    taken = {frame.path for frame in frames}
    headers = [header for header in headers if header.path in taken]

    studies, images, places = (
        {str(header.dataset.get(keyword) or "") for header in headers}
        for keyword in ("StudyInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
    )
    if len(studies) > 1:
        told = f"its files name {len(studies)} studies"
        told = "some of its files name a study, others none" if "" in studies else told
        raise ImageError(f"{path}: {told}, but one series; keep those of one study, or export the series again")
    if len(images) < len(headers):
        raise ImageError(f"{path}: some of its images carry the same UID, as no two may; export the series again")
    if len(places - {""}) > 1:
        warnings.warn(f"{path}: its slices name {len(places)} frames of reference; are two series mixed?", stacklevel=4)


def _refuse_phase(frames: Sequence[Frame], path: Path) -> None:
    for frame in frames:
        kinds = {*frame.facts["image type"].upper().split("/")[2:], frame.facts["component"].upper()}
        if kinds & _PHASE:
            raise ImageError(f"{path}: holds phase or imaginary parts; the network works on magnitude images")
        if "MOSAIC" in kinds:
            raise ImageError(f"{path}: holds mosaics of slices; export the series as enhanced multi-frame DICOM")


def _check_decoder(dataset: "Dataset", place: str) -> None:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    if not syntax:
        raise ImageError(f"{place}: does not say how its pixels are encoded; export the series again")
    try:
        readable = not syntax.is_compressed or get_decoder(syntax).is_available
    except NotImplementedError:
        readable = False  # so pydicom answers for a syntax that it can name, but not decode: video
    if not readable:
        raise ImageError(
            f"{place}: compressed as {syntax.name}, for which no decoder is installed; run "
            "\"pip install 'pylibjpeg[all]'\", or decompress the series with dcmdjpeg or gdcmconv --raw"
        )


def _read_values(frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (slice, row, column) float32, which of them are padding, and the numbers that are stored there."""
    values = np.zeros((len(frames), *frames[0].size), np.float32)
    padding = np.zeros(values.shape, bool)
    padding_numbers = [np.empty(0, np.int64)] * len(frames)
    places: dict[Path, list[int]] = {}
    for place, frame in enumerate(frames):
        places.setdefault(frame.path, []).append(place)
    for path, slices in places.items():
        _, pixels = read_pixels(path, frames[slices[0]].place)
        for place in slices:
            frame = frames[place]
            if frame.number >= len(pixels) or pixels.shape[1:] != frame.size:
                raise ImageError(f"{frame.place}: holds fewer pixels than its header says; export the series again")
            stored, (slope, intercept) = pixels[frame.number], frame.scaling
            values[place] = slope * stored.astype(np.float64) + intercept
            if frame.padding is not None:
                lowest, highest = frame.padding
                padding[place] = (lowest <= stored) & (stored <= highest)
                padding_numbers[place] = stored[padding[place]].astype(np.int64)
    values[padding] = 0
    return values, padding, np.concatenate(padding_numbers)
