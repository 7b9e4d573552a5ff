"""A trained model on an image from elsewhere: slice axis, background, negative values, anisotropic voxels."""

import warnings
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from sn2nlib import __version__
from sn2nlib.errors import ImageError

from .apply import Denoiser

Axis = Literal["sagittal", "coronal", "axial"]
AXES: tuple[Axis, ...] = ("sagittal", "coronal", "axial")  # the planes across z, y, and x
PARTITIONS = "partitions"
ISOTROPIC = 1.25  # longest over shortest side of a voxel: ADNI's 1.2 still counts, the paper's VWI has 1.12
_SLAB = 0.9  # extent of a slab over the next longer side of the field of view, at most


class VolumeDenoiser(Protocol):
    """What `denoise_image` needs of a `Denoiser`."""

    def denoise(self, volume: np.ndarray, alpha: float | None = None) -> np.ndarray:
        """The denoised volume, (z, y, x), z the slice axis of the network."""
        ...


def denoise_image(
    denoiser: VolumeDenoiser,
    volume: np.ndarray,
    *,
    voxel_size: tuple[float, float, float],
    alpha: float | None = None,
    axis: str | None = None,
) -> np.ndarray:
    """Denoise an image whose acquisition is not known in detail.

    1. **Axis.** The network slides over the partitions, as in training, where they are known: of a raw scan, and of
       an image that was reconstructed here from one. Elsewhere over the planes that `choose_axis` takes, or of `axis`.
    2. **Negative values** (real-valued or phase-corrected images, intercepts): the volume is shifted by its minimum
       before the network, and back after it. The network was trained on magnitudes and cuts its answer at zero;
       clipping the input instead would lose what is below zero and lift the mean of noise that is centred on zero.
    3. **Background.** Exact zeros (where there are negative values, exact minima too) that fill a region, as a mask or
       padding leaves them, come out exactly as they were. Single zeros in air, which rounding makes, do not.

    Parameters
    ----------
    denoiser
        A `Denoiser`.
    volume : (z, y, x) float
        In acquisition order, as `read_image` and `read_dicom` give it.
    voxel_size : (z, y, x) mm
    alpha
        Share of the input; None: the model's own.
    axis : "sagittal", "coronal", "axial" or "partitions"
        Planes to slide over, the last being those across z of a volume as it was acquired; None: from the geometry.

    Returns
    -------
    (z, y, x) float32, in the unit of `volume`.

    Raises
    ------
    ImageError
        If the volume is unusable, or `axis` unknown.
    """
    volume = np.asarray(volume)
    if volume.ndim != 3 or volume.size == 0 or np.iscomplexobj(volume):
        raise ImageError(f"needs a real volume (z, y, x), got {volume.dtype} of shape {volume.shape}")
    planes = settled_planes(axis, voxel_size=voxel_size, shape=volume.shape)
    place = 0 if planes == PARTITIONS else AXES.index(planes)
    _warn_anisotropic(voxel_size, planes)
    if volume.shape[place] == 1:
        warnings.warn(
            "the image has one plane: the network, which looks at the neighbours of a plane too, is shown the same one "
            "in their place, as no training does",
            stacklevel=2,
        )
    floor = min(float(volume.min()), 0.0)
    if floor < 0:
        warnings.warn(
            f"the image holds values down to {floor:.4g}; it is shifted by its minimum for the network and back",
            stacklevel=2,
        )
    across = np.ascontiguousarray(np.moveaxis(volume, place, 0)) - np.float32(floor)
    denoised = np.moveaxis(denoiser.denoise(across, alpha), 0, place) + np.float32(floor)
    background = empty_region(volume, 0.0)
    if floor < 0:
        background |= empty_region(volume, floor)
    return np.where(background, volume, denoised).astype(np.float32)


def settled_planes(axis: str | None, *, voxel_size: tuple[float, float, float], shape: Sequence[int]) -> str:
    """The planes that `denoise_image` takes: those of `axis`, or, if it is None, of `choose_axis`.

    Parameters
    ----------
    axis : "sagittal", "coronal", "axial", "partitions" or None
    voxel_size : (z, y, x) mm
    shape : (z, y, x)

    Raises
    ------
    ImageError
        If `axis` is unknown.
    """
    planes = choose_axis(voxel_size, shape) if axis is None else axis
    if planes not in (*AXES, PARTITIONS):
        raise ImageError(f"the planes are {', '.join(AXES[:-1])} or {AXES[-1]}; got {axis!r}")
    return planes


def choose_axis(voxel_size: tuple[float, float, float], shape: Sequence[int]) -> Axis:
    """The planes to slide over: those of the acquisition, as far as the geometry tells.

    Voxels that are not isotropic: the squarest planes, be the slices thicker or thinner than a pixel is wide; what the
    network knows about edges and noise within a plane holds there. Isotropic ones: the planes across the shortest side
    of the field of view, along which 3D scans have their partitions (of the paper's vessel wall slab, 180×180×80 mm,
    the coronal ones); sagittal as in the paper where no side is clearly the shortest. How the file stores the image
    does not matter.

    Parameters
    ----------
    voxel_size : (z, y, x) mm
    shape : (z, y, x)
    """
    if max(voxel_size) <= ISOTROPIC * min(voxel_size):
        extent = [n * size for n, size in zip(shape, voxel_size, strict=True)]
        shortest, next_longer = sorted(extent)[:2]
        return AXES[int(np.argmin(extent))] if shortest <= _SLAB * next_longer else "sagittal"
    sides = [[size for other, size in enumerate(voxel_size) if other != place] for place in range(3)]
    ratios = [round(max(pair) / min(pair), 3) for pair in sides]
    return AXES[int(np.argmin(ratios))]


def empty_region(volume: np.ndarray, value: float) -> np.ndarray:
    """Voxels of exactly `value` that belong to a region of it.

    A region is what 5×5 squares along any two axes fill, be it one plane thick, and what of the value lies within two
    voxels of that. Where rounding makes half of the air zero, chance fills such a square in 1 of 3·10⁷ places.

    Parameters
    ----------
    volume : (z, y, x)

    Returns
    -------
    (z, y, x) bool
    """
    equal = volume == np.asarray(value, volume.dtype)
    if not equal.any():
        return equal
    # beyond the volume counts as equal, so that the region may touch its edge
    along = [_within_two(equal, axis, np.logical_and) for axis in range(3)]
    near = _within_two(along[0], 1, np.logical_and)
    near |= _within_two(along[0], 2, np.logical_and)
    near |= _within_two(along[1], 2, np.logical_and)
    for axis in range(3):
        near = _within_two(near, axis, np.logical_or)
    return equal & near


def short_derivation(denoiser: Denoiser, alpha: float | None, planes: str) -> str:
    """What is done to an image, in ASCII and short enough for a NIfTI header (79 bytes).

    Parameters
    ----------
    denoiser, alpha
        As for `denoise_image`.
    planes
        From `settled_planes`.
    """
    share = denoiser.settled_alpha(alpha)
    taken = planes if planes == PARTITIONS else f"{planes} planes"
    return f"{share:.2f} x original + {1 - share:.2f} x output of a network over {taken}"


def derivation(denoiser: Denoiser, alpha: float | None, planes: str) -> str:
    """`short_derivation`, and which network and program that were: for a DICOM header."""
    weights = str(denoiser.description.get("weights_sha256", "unknown"))[:16]
    return (
        f"{short_derivation(denoiser, alpha, planes)}, trained by MR-self Noise2Noise (sn2n {__version__}, "
        f"weights sha256 {weights})"
    )


def _within_two(mask: np.ndarray, axis: int, combine: np.ufunc) -> np.ndarray:
    """All (logical_and) or any (logical_or) of a voxel and its two neighbours on each side along an axis.

    Many times quicker than a filter of scipy, which does not know that the values are bits.
    """
    width = [(2, 2) if other == axis else (0, 0) for other in range(3)]
    padded = np.moveaxis(np.pad(mask, width, constant_values=combine is np.logical_and), axis, 0)
    length = mask.shape[axis]
    found = padded[:length].copy()
    for shift in range(1, 5):
        combine(found, padded[shift : shift + length], out=found)
    return np.moveaxis(found, 0, axis)


def _warn_anisotropic(voxel_size: tuple[float, float, float], planes: str) -> None:
    if max(voxel_size) > ISOTROPIC * min(voxel_size):
        size = " × ".join(f"{side:.3g}" for side in voxel_size)
        axes, taken = "left-right, back-front, up-down", f"{planes} planes"
        if planes == PARTITIONS:
            axes, taken = "partitions, lines, readout", "the partitions, as in training"
        warnings.warn(
            f"voxels of {size} mm ({axes}) are not isotropic: a network that was trained on isotropic ones knows less "
            f"about them; it takes {taken}",
            stacklevel=3,
        )
