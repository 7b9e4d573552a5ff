"""Geometry that the user gives for a raw file whose own is unknown, checked against what the file says."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sn2nlib.errors import ChoiceError, ScanError
from sn2nlib.scans.dicom import is_dicom, series_affine
from sn2nlib.scans.images import Known, stored_affine
from sn2nlib.scans.raw.lines import Lengths, Sizes

_TOLERANCE = 0.01  # of a length: headers round


_OPTIONS = {
    "slice_number": "--slice", "set_number": "--set", "remove_oversampling": "--keep-oversampling",
    "noise_scan": "--no-noise-scan", "regrid": "--no-regridding", "affine": "affine",
}  # fmt: skip


def option_names(parameters: Iterable[str]) -> str:
    """Parameters of `read_raw` as the command line calls them, in one phrase."""
    return ", ".join(_OPTIONS.get(name, "--" + name.replace("_", "-")) for name in parameters)


@dataclass(frozen=True)
class Geometry:
    """Voxel size (z, y, x) in mm and affine of a scan, None where unknown; `source` says whose they are."""

    voxel_size: Lengths | None
    affine: NDArray[np.float64] | None
    source: str


def settle_geometry(
    known: Geometry,
    *,
    shape: Sizes,
    voxel_size: Lengths | None = None,
    affine: ArrayLike | None = None,
    affine_from: str | os.PathLike[str] | None = None,
) -> Geometry:
    """What the file says, filled up with what the user gives.

    Parameters
    ----------
    known
        Of the file.
    shape
        (kz, ky, kx) of the scan.
    voxel_size
        (z, y, x) in mm.
    affine : (4, 4)
        NIfTI affine (RAS+ mm) of the image stored as (x, y, z) = (readout, lines, partitions).
    affine_from
        NIfTI image stored so, or DICOM series, of the same matrix: its affine.

    Raises
    ------
    ChoiceError
        If the file knows better, or sizes contradict each other.
    """
    if affine is not None and affine_from is not None:
        raise ChoiceError("affine and affine_from (--affine-from) are two ways to say the same; give one of them")
    if (affine is not None or affine_from is not None) and known.affine is not None:
        raise ChoiceError("the file says where the image lies; an affine is for files that do not")
    voxels, remark = known.voxel_size, ""
    if voxel_size is not None:
        given = _lengths(voxel_size)
        if voxels is not None and not _same(given, voxels):
            raise ChoiceError(f"the file says that its voxels are {_told(voxels)} mm, not {_told(given)} mm; "
                              "--voxel-size is for files that do not say it")  # fmt: skip
        if voxels is not None and not np.allclose(given, voxels, rtol=1e-4):
            remark = f" (its voxel size {_told(voxels)} mm is taken, not the {_told(given)} mm given)"
        voxels = voxels or given
    if affine is not None or affine_from is not None:
        placed = _checked(affine) if affine is not None else image_affine(Path(affine_from), shape)  # type: ignore[arg-type]
        x, y, z = (float(length) for length in np.linalg.norm(placed[:3, :3], axis=0))
        if voxels is not None and not _same((z, y, x), voxels):
            raise ChoiceError(
                f"the voxels of the affine are {_told((z, y, x))} mm, those of the scan {_told(voxels)} mm (z, y, x): "
                "they are not of one scan"
            )
        return Geometry((z, y, x), placed, "an image that was given" if affine is None else "given")
    source = "the voxel size given; position and orientation unknown"
    return Geometry(voxels, known.affine, known.source + remark if voxels == known.voxel_size else source)


def check_lengths(voxel_size: Lengths, affine: NDArray[np.float64]) -> None:
    """Raise ScanError if a file's voxel size (z, y, x) in mm is not that of its affine (x, y, z)."""
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    if not _same((z, y, x), voxel_size):
        raise ScanError(
            f"the file contradicts itself: its voxels are {_told(voxel_size)} mm by their size, {_told((z, y, x))} mm "
            "(z, y, x) by its affine; mend one of the two"
        )


def geometry_doubts(settled: Geometry, unknown: str | None, *, shape: Sizes, declared: Lengths) -> list[str]:
    """What is unknown of a scan, why, and how to give it; or what does not fit in what was given.

    Parameters
    ----------
    settled
        From `settle_geometry`.
    unknown
        Why the file does not tell the geometry; None: it does.
    shape
        (kz, ky, kx) of the scan.
    declared
        Field of view (z, y, x) in mm that the header names, right or not; 0 where it names none.
    """
    if unknown is None:
        return []
    if settled.voxel_size is None:
        return [f"the geometry is unknown: {unknown}; give it with --voxel-size or --affine-from"]
    told = []
    if settled.affine is None:
        told.append(f"position and orientation are unknown: {unknown}; --affine-from gives them")
    z, y, x = (n * size for n, size in zip(shape, settled.voxel_size, strict=True))
    if min(declared) > 0 and not _same((z, y, x), declared):
        told.append(
            f"what was given makes a field of view of {_told((z, y, x))} mm (z, y, x), the header names "
            f"{_told(declared)} mm, which may be left over from another scan: look whether both belong together"
        )
    return told


def known_geometry(source: object) -> Known:
    """How much of a scan's affine is true, from ``Scan.info["geometry"]``; all of it where none is told."""
    if not isinstance(source, str) or "unknown" not in source:
        return "place"
    return "nothing" if source == "unknown" else "size"


def image_affine(path: Path, shape: Sizes) -> NDArray[np.float64]:
    """Affine of an image of the matrix (z, y, x) = `shape`, for the axes (readout, lines, partitions).

    The axes of a NIfTI are taken as they are stored. Those of a DICOM series are columns, rows and slices, of which
    the columns count the lines if the header calls the direction of the rows its phase encoding. In which direction an
    axis of the raw data runs, the image cannot tell: it is taken to be that of the image.

    Raises
    ------
    FileNotFoundError, ImageError
        If there is no such image, or it does not say where it lies.
    ChoiceError
        If its matrix is another one.
    """
    affine, stored = series_affine(path) if is_dicom(path) else stored_affine(path)
    if stored != shape[::-1]:
        raise ChoiceError(
            f"{path}: has (x, y, z) = {stored} voxels, the scan {shape[::-1]} (readout, lines, partitions): take an "
            "image of this scan with the matrix and the order of axes of the raw data, or give the voxel size alone"
        )
    return affine


def _checked(affine: ArrayLike | None) -> NDArray[np.float64]:
    values = np.asarray(affine, dtype=float)
    if values.shape != (4, 4) or not np.isfinite(values).all() or abs(np.linalg.det(values)) < 1e-12:
        raise ChoiceError("affine: needs a finite 4×4 matrix whose axes span the space")
    return values


def _lengths(values: Lengths) -> Lengths:
    lengths = tuple(float(value) for value in values)
    if len(lengths) != 3 or not all(0 < length < 1e4 for length in lengths):
        raise ChoiceError(f"--voxel-size: needs three numbers (z, y, x) in mm above 0, got {_told(lengths)}")
    return lengths


def _same(some: Lengths, others: Lengths) -> bool:
    return bool(np.allclose(some, others, rtol=_TOLERANCE))


def _told(lengths: tuple[float, ...]) -> str:
    return " × ".join(f"{length:.4g}" for length in lengths)
