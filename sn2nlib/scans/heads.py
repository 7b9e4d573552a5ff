"""Heads: what lies in the scanner. Digital ones with known T1, PD and labels, real ones with their intensity."""

import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sn2nlib.errors import ImageError
from sn2nlib.scans.details import Details, Placed
from sn2nlib.scans.digital import build_maps
from sn2nlib.scans.images import is_image_name, read_image
from sn2nlib.scans.sequence import MpRage, Space

_NEEDED = "needed is a T1-weighted NIfTI image of a whole head, .nii or .nii.gz"
_EXTENT = 60.0, 400.0  # mm along any axis of an image of a head, its neck, or the bed that it lies on
TISSUES = ("air", "CSF", "GM", "WM", "other")


@dataclass(frozen=True)
class Head:
    """A head on a grid finer than the scan, axes (z, y, x) = (right, anterior, superior).

    Attributes
    ----------
    name
    voxel_size
        (z, y, x) in mm.
    affine : (4, 4)
        NIfTI affine (RAS+) of the maps stored as (x, y, z).
    intensity : (z, y, x) float32 or None
        A real head's image, taken as its signal; its own scanner noise counts as signal.
    t1, pd, t2_star : (z, y, x) float32 or None
        Digital heads: T1 and T2* in ms, proton density relative to water.
    tissue : (z, y, x) uint8 or None
        Digital heads: index into `TISSUES`; "other" is skull, scalp, fat, muscle, vessels, eyes.
    structures : (z, y, x) uint8 or None
        Digital heads: `sn2nlib.scans.atlas.STRUCTURES`, 0 elsewhere.
    lesions : (z, y, x) bool or None
    placed
        Fine structures and lesions that were asked for, on the same grid; None where none were.
    """

    name: str
    voxel_size: tuple[float, float, float]
    affine: np.ndarray
    intensity: np.ndarray | None = None
    t1: np.ndarray | None = None
    pd: np.ndarray | None = None
    t2_star: np.ndarray | None = None
    tissue: np.ndarray | None = None
    structures: np.ndarray | None = None
    lesions: np.ndarray | None = None
    placed: Placed | None = None

    @property
    def is_digital(self) -> bool:
        """Whether truth (T1, PD, labels) is known."""
        return self.intensity is None

    def signal(self, sequence: MpRage | Space | None = None) -> np.ndarray:
        """Signal magnitude, (z, y, x) float32: the sequence's equation, or a real head's intensity.

        Raises
        ------
        ImageError
            For a spin echo of a head whose T2 is not known.
        """
        if self.intensity is not None:
            return self.intensity
        if isinstance(sequence, Space):
            raise ImageError(f"{self.name}: SPACE needs a head with T2; make one with black_blood_head")
        assert self.t1 is not None and self.pd is not None and self.t2_star is not None
        return (sequence or MpRage()).signal(self.t1, self.pd, self.t2_star)


def digital_head(
    seed: int,
    *,
    matrix: tuple[int, int, int] = (128, 160, 160),
    voxel_size: tuple[float, float, float] = (1.35, 1.35, 1.35),
    age: float = 55.0,
    sex: str | None = None,
    lesions: int = 0,
    details: Details | None = None,
    name: str | None = None,
) -> Head:
    """A random head: nilearn's ICBM152 maps, warped, with hard tissue boundaries, skull, scalp and fine texture.

    The head is built on a grid 1.35 times finer than the scan (at most 1.25 mm), so that the scan's own k-space
    cropping, not an interpolation, sets its resolution.

    Parameters
    ----------
    seed
        Decides everything but what is said below.
    matrix, voxel_size
        (z, y, x) of the scan, and its voxels in mm; together the field of view.
    age
        Years: the ventricles and sulci widen with it.
    sex
        "F" or "M": mean head size; None draws one.
    lesions
        Number of white-matter lesions of random size.
    details
        Fine structures and lesions of known size to put into the head; all else stays what the seed gives.

    Returns
    -------
    Head
    """
    fov = [n * size for n, size in zip(matrix, voxel_size, strict=True)]
    nz, ny, nx = (math.ceil(extent / min(size / 1.35, 1.25)) for extent, size in zip(fov, voxel_size, strict=True))
    spacing = (fov[0] / nz, fov[1] / ny, fov[2] / nx)
    rng = np.random.default_rng(seed)
    maps = build_maps(rng, (nz, ny, nx), spacing, age=age, sex=sex, lesions=lesions, details=details)
    centre = np.array(maps.pop("centre"))
    del maps["material"]
    return Head(
        name=name or f"digital-{seed}",
        voxel_size=spacing,
        affine=centred_affine((nz, ny, nx), spacing, centre),
        **maps,
    )


def centred_affine(
    shape: tuple[int, int, int], voxel_size: tuple[float, float, float], centre: np.ndarray
) -> np.ndarray:
    """Affine of a (z, y, x) = (right, anterior, superior) grid, stored as (x, y, z), whose voxel n//2 lies at `centre`.

    `centre` is in RAS mm.
    """
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, voxel_size[0]], [0, voxel_size[1], 0], [voxel_size[2], 0, 0]])
    affine[:3, 3] = centre - affine[:3, :3] @ np.array([n // 2 for n in shape[::-1]])
    return affine


def read_head(path: str | os.PathLike[str], *, name: str | None = None) -> Head:
    """A T1-weighted NIfTI as a head: turned by `read_image`, intensity as signal.

    Negative intensities are set to zero. Empty borders are cut off (the neck may be cut by the image's edge).

    Raises
    ------
    ImageError
        If `read_image` refuses the file, or it holds no head: nothing positive, the same value everywhere but in
        zeros, as a mask does, or a single slice.

    Warns
    -----
    UserWarning
        If it is smaller or larger than a head can be.
    """
    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path}: a folder; {_NEEDED}, which dcm2niix makes of a DICOM series")
    try:
        volume, geometry = read_image(path)
    except ImageError as error:
        if is_image_name(path):
            raise
        raise ImageError(f"{error}; {_NEEDED}") from error
    if not (volume > 0).any():
        raise ImageError(f"{path}: holds no positive intensity, so there is no head in it; {_NEEDED}")
    volume, first = _trim(path, np.maximum(volume, 0))
    _check_head(path, volume, geometry.voxel_size)
    affine = geometry.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ first[::-1]
    return Head(
        name=name or path.name.split(".")[0], voxel_size=geometry.voxel_size, affine=affine, intensity=volume
    )


def _check_head(path: Path, volume: np.ndarray, voxel_size: tuple[float, float, float]) -> None:
    """Refuse what plainly is no head, and doubt what has not the size of one."""
    if min(volume.shape) == 1:
        raise ImageError(f"{path}: holds a single slice; {_NEEDED}")
    highest = volume.max()
    if ((volume == 0) | (volume == highest)).all():
        raise ImageError(f"{path}: holds no value but {highest:g} (and 0), as a mask does, so no tissue; {_NEEDED}")
    extent = [n * size for n, size in zip(volume.shape, voxel_size, strict=True)]
    if min(extent) < _EXTENT[0] or max(extent) > _EXTENT[1]:
        told = " × ".join(f"{length:.3g}" for length in extent)
        warnings.warn(
            f"{path}: what it holds measures {told} mm (left-right, back-front, up-down), which a whole head does not; "
            "look at the image and at the voxel size in its header",
            stacklevel=3,
        )


def _trim(path: Path, volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box of the head, and its first voxel; planes that hold specks alone do not count."""
    inside = volume > 0.1 * np.percentile(volume[volume > 0], 99)
    bounds = []
    for axis in range(3):
        filled = inside.sum(axis=tuple(other for other in range(3) if other != axis))
        occupied = np.flatnonzero(filled > max(3, 0.005 * filled.max()))
        if occupied.size == 0:
            raise ImageError(f"{path}: holds no object of more than a few voxels")
        bounds.append((int(occupied[0]), int(occupied[-1]) + 1))
    window = tuple(slice(low, high) for low, high in bounds)
    return volume[window], np.array([low for low, _ in bounds], dtype=float)
