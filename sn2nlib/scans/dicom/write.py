"""A volume → a new DICOM series in a folder of its own, in the number format of the input."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sn2nlib.errors import ImageError
from sn2nlib.provenance import atomic_folder
from sn2nlib.scans.images import is_image_name, to_stored, turn_back, warn_clipped
from sn2nlib.scans.silence import silenced

from .derive import NewUids, derive, is_derived
from .files import read_headers
from .series import DicomSeries, read_pixels

if TYPE_CHECKING:
    from pydicom import Dataset

_NAME = "IM{:05d}.dcm"
_OWN_NAME = re.compile(r"IM\d{5,}\.dcm")  # what _NAME makes


def check_dicom_output(
    path: str | os.PathLike[str], *, source: str | os.PathLike[str], overwrite: bool = False
) -> None:
    """Refuse a folder that `write_dicom` could not write, before anything is computed for it.

    Raises
    ------
    FileExistsError
        If `path` exists and is not empty, and `overwrite` is false.
    ImageError
        If `path` is the name of a file, overlaps with `source`, or holds files that are not of this module's making,
        which are never removed.
    """
    out, given = Path(path).resolve(), Path(source).resolve()
    if is_image_name(out) or out.is_file():
        raise ImageError(f"{path}: a DICOM series becomes a folder of files; give the name of a folder")
    if (given.is_dir() and (out == given or given in out.parents)) or out in given.parents:
        raise ImageError(f"{path}: overlaps with the input; choose a folder outside of it")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(
            f"{path} exists and is not empty; choose another folder or allow overwriting (--overwrite)"
        )
    if not all(_is_result(file) for file in out.iterdir()):
        raise ImageError(f"{path}: holds other files than an earlier result; choose another folder")


def _is_result(path: Path) -> bool:
    """Whether a file has a name that `write_dicom` gives, and the header of a derived image: others use such names."""
    if not (path.is_file() and _OWN_NAME.fullmatch(path.name)):
        return False
    try:
        return all(is_derived(header.dataset) for header in read_headers(path))
    except ImageError:
        return False


def write_dicom(
    volume: np.ndarray,
    path: str | os.PathLike[str],
    *,
    like: DicomSeries,
    derivation: str,
    suffix: str = "sN2N",
    overwrite: bool = False,
) -> None:
    """Write a volume as a new series, one file per file it came from; the folder appears whole or not at all.

    The stored numbers are rounded and clipped to what the input's files can hold; a warning tells if any had to be
    clipped. Compressed input is written uncompressed. UIDs are random (2.25 and a UUID), so that two results never
    share one, even if they differ only in the model or the machine.

    Parameters
    ----------
    volume : (z, y, x) float
        In the unit of the input.
    path
        Folder; must not exist, or be empty.
    like
        From `read_dicom`; its files are read again.
    derivation
        What was done, in ASCII, for DerivationDescription.
    suffix
        Added to the series description.
    overwrite
        Replace the folder of an earlier result.

    Raises
    ------
    FileExistsError
    ImageError
        As `check_dicom_output`; or if the volume does not fit `like`.
    OSError
        If the disk is full.
    """
    check_dicom_output(path, source=like.path, overwrite=overwrite)
    stored = _stored_numbers(volume, like)
    slices: dict[Path, list[int]] = {}
    for number, frame in enumerate(like.frames):
        slices.setdefault(frame.path, []).append(number)
    uids = NewUids()
    with atomic_folder(path) as folder:
        for count, (file, numbers) in enumerate(slices.items(), 1):
            frames = {like.frames[number].number: stored[number] for number in numbers}
            place = like.frames[numbers[0]].place
            dataset, _ = read_pixels(file, place)
            try:
                with silenced("pydicom"):
                    _leave_compression(dataset)
                    derive(dataset, sorted(frames), uids, derivation=derivation, suffix=suffix)
                    _replace_pixels(dataset, frames)
                    _update_extremes(dataset, np.stack(list(frames.values())), stored)
                    dataset.save_as(folder / _NAME.format(count), enforce_file_format=True)
            except (OSError, MemoryError):
                raise
            except Exception:  # a broken element that nobody had looked at; the message may quote it
                raise ImageError(f"{place}: its header is damaged and cannot be passed on; export it again") from None


def _stored_numbers(volume: np.ndarray, like: DicomSeries) -> np.ndarray:
    """(slice, row, column) int64, padding as it was."""
    if volume.shape != like.shape:
        raise ImageError(f"a volume of shape {volume.shape} does not fit the series of shape {like.shape}")
    if not np.isfinite(volume).all():
        raise ImageError("the volume holds NaN or Inf, which DICOM cannot store")
    values = turn_back(volume, like.stored).transpose(2, 1, 0)
    stored, outside = np.empty(values.shape, np.int64), 0
    stored[like.padding] = like.padding_numbers
    for place, frame in enumerate(like.frames):
        image = ~like.padding[place]
        numbers, clipped = to_stored(values[place][image], scaling=frame.scaling, limits=frame.limits)
        stored[place][image], outside = numbers, outside + clipped
    warn_clipped(outside, stored.size)
    return stored


def _leave_compression(dataset: "Dataset") -> None:
    from pydicom.uid import ExplicitVRLittleEndian

    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _replace_pixels(dataset: "Dataset", frames: Mapping[int, np.ndarray]) -> None:
    signed = "i" if int(dataset.PixelRepresentation) else "u"
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    kind = np.dtype(f"{order}{signed}{int(dataset.BitsAllocated) // 8}")
    content = np.stack([frames[number] for number in sorted(frames)]).astype(kind).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW"
    dataset["PixelData"].is_undefined_length = False


def _update_extremes(dataset: "Dataset", own: np.ndarray, series: np.ndarray) -> None:
    """Smallest and largest stored numbers, where the input gives them."""
    for keyword, numbers, extreme in (
        ("SmallestImagePixelValue", own, np.min), ("LargestImagePixelValue", own, np.max),
        ("SmallestPixelValueInSeries", series, np.min), ("LargestPixelValueInSeries", series, np.max),
    ):  # fmt: skip
        if keyword in dataset:
            dataset[keyword].value = int(extreme(numbers))
