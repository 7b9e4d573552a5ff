"""PSNR, SSIM, NRMSE and Dice with the conventions of the study, over a whole volume or inside a mask.

Images are real magnitude volumes (z, y, x); slices are taken along z, the partition axis. A region is a
boolean volume; None means every voxel, and gives the same number as a mask that is True everywhere. All sums
are in float64.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from sn2nlib.errors import ImageError
from sn2nlib.scans.finite import not_finite

Volume = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

# The sentences that stand under every table.
CONVENTIONS: dict[str, str] = {
    "PSNR_dB": "PSNR: 10·log10(range² / mean squared error), range = maximum of the reference volume.",
    "SSIM": (
        "SSIM: Gaussian window (σ = 1.5 voxels, 11×11) in each slice, range = maximum of the reference "
        "volume; mean over the windows that lie inside the slice and are centred in the region, then over "
        "slices with at least 10 % of the fullest slice's windows."
    ),
    "NRMSE_percent": (
        "NRMSE: 100·‖image − reference‖ / ‖reference‖ in each slice, mean over slices whose reference norm "
        "is at least 10 % of the largest."
    ),
}

_SIGMA = 1.5
_BORDER = 5  # half of the 11×11 window: scikit-image cuts the Gaussian at 3.5 σ
_ENOUGH = 0.1  # of the fullest slice


def psnr(image: Volume, reference: Volume, *, data_range: float, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB: 10·log10(data_range² / mean |image − reference|²).

    Parameters
    ----------
    image, reference
        (z, y, x), any one unit of intensity.
    data_range
        The peak, in that unit; the study takes the maximum of the reference volume.
    mask
        (z, y, x) bool, the voxels that count. All by default.

    Returns
    -------
    dB; infinite for identical images.

    Raises
    ------
    ImageError
        For shapes that differ, values that are not finite, an empty mask or a data range that is not above 0.
    """
    image, reference = _pair(image, reference)
    return _psnr(_squared_error(image, reference), _range(data_range), _mask(mask, reference))


def ssim(image: Volume, reference: Volume, *, data_range: float, mask: Mask | None = None) -> float:
    """Structural similarity per slice (Gaussian window, σ = 1.5, 11×11), averaged over slices.

    Parameters
    ----------
    image, reference
        (z, y, x), any one unit of intensity, at least 11 voxels along y and x.
    data_range
        As in `psnr`.
    mask
        (z, y, x) bool, the centres of the windows that count. All by default.

    Returns
    -------
    Mean over slices of the slice's mean. Windows that leave the slice do not count, so that without a mask a
    slice's value is scikit-image's own; slices with fewer than 10 % of the fullest slice's windows do not
    count either.

    Raises
    ------
    ImageError
        As `psnr`, and for slices smaller than the window.

    References
    ----------
    Wang Z, Bovik AC, Sheikh HR, Simoncelli EP. IEEE Trans Image Process 2004;13:600-612.
    """
    image, reference = _pair(image, reference)
    return _ssim(_ssim_map(image, reference, _range(data_range)), _mask(mask, reference))


def nrmse(image: Volume, reference: Volume, *, mask: Mask | None = None) -> float:
    """Normalised root-mean-square error in percent: the mean of `nrmse_slices`.

    Parameters
    ----------
    image, reference
        (z, y, x), any one unit of intensity.
    mask
        (z, y, x) bool, the voxels that count. All by default.

    Raises
    ------
    ImageError
        As `psnr`, and for a reference that is zero throughout.
    """
    return float(nrmse_slices(image, reference, mask=mask).mean())


def nrmse_slices(image: Volume, reference: Volume, *, mask: Mask | None = None) -> NDArray[np.float64]:
    """100·‖image − reference‖ / ‖reference‖ of every slice that counts.

    A slice counts if its reference norm is at least 10 % of the largest: slices of air, where the quotient
    is of noise and noise, would dominate the mean. Parameters and errors as `nrmse`.

    Returns
    -------
    (n,) percent, in the order of the slices.
    """
    image, reference = _pair(image, reference)
    return _nrmse_slices(_squared_error(image, reference), reference, _mask(mask, reference))


def image_quality(
    image: Volume,
    reference: Volume,
    *,
    regions: Mapping[str, Mask | None],
    data_range: float | None = None,
) -> list[dict[str, Any]]:
    """All measures in several regions; what they share is computed once.

    Parameters
    ----------
    image, reference
        (z, y, x), any one unit of intensity.
    regions
        Name to mask (z, y, x) bool; None for every voxel.
    data_range
        The maximum of the reference by default.

    Returns
    -------
    One row per region: region, psnr (dB), ssim, nrmse (percent, mean over slices), nrmse_volume (percent),
    n_slices (slices that nrmse averages).

    Raises
    ------
    ImageError
        As `psnr`, `ssim` and `nrmse`.
    """
    image, reference = _pair(image, reference)
    data_range = _range(float(reference.max()) if data_range is None else data_range)
    error = _squared_error(image, reference)
    similarity = _ssim_map(image, reference, data_range)
    rows = []
    for name, region in regions.items():
        mask = _mask(region, reference)
        slices = _nrmse_slices(error, reference, mask)
        rows.append({
            "region": name,
            "psnr": _psnr(error, data_range, mask),
            "ssim": _ssim(similarity, mask),
            "nrmse": float(slices.mean()),
            "nrmse_volume": _nrmse_volume(error, reference, mask),
            "n_slices": len(slices),
        })  # fmt: skip
    return rows


def dice(a: NDArray[Any], b: NDArray[Any], *, label: int | None = None) -> float:
    """Dice similarity coefficient 2|A∩B| / (|A| + |B|).

    Parameters
    ----------
    a, b
        Boolean maps of one shape, or label maps if `label` is given.
    label
        Compares the voxels of both maps that hold this label.

    Returns
    -------
    From 0 (apart) to 1 (identical); NaN if both are empty, since there is nothing to compare: a mean over
    structures leaves such a structure out.

    Raises
    ------
    ImageError
        For shapes that differ, or label maps without `label`.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise ImageError(f"The maps differ in shape: {a.shape} and {b.shape}")
    if label is not None:
        a, b = a == label, b == label
    if a.dtype != np.bool_ or b.dtype != np.bool_:
        raise ImageError(f"Maps of type {a.dtype} and {b.dtype} need a label; boolean maps need none")
    both = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / both if both else float("nan")


def _pair(image: Volume, reference: Volume) -> tuple[Volume, Volume]:
    image, reference = np.asarray(image), np.asarray(reference)
    if image.shape != reference.shape:
        raise ImageError(f"Image and reference differ in shape: {image.shape} and {reference.shape}")
    for name, volume in (("image", image), ("reference", reference)):
        if volume.ndim != 3 or volume.size == 0:
            raise ImageError(f"The {name} must have the axes (z, y, x), not shape {volume.shape}")
        if volume.dtype.kind not in "fiu":
            raise ImageError(f"The {name} must be real, not {volume.dtype}; take the magnitude first")
        if damage := not_finite(volume, "z, y, x"):
            raise ImageError(f"The {name} holds {damage}; leave that scan out, or find out where they come from")
    return image, reference


def _range(data_range: float) -> float:
    if not (np.isfinite(data_range) and data_range > 0):
        raise ImageError(f"The data range must be finite and above 0, not {data_range}")
    return float(data_range)


def _mask(mask: Mask | None, reference: Volume) -> Mask:
    if mask is None:
        return np.ones(reference.shape, dtype=bool)
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.shape != reference.shape:
        found = f"{mask.dtype} of shape {mask.shape}"
        raise ImageError(f"The mask must be bool of shape {reference.shape}, not {found}")
    if not mask.any():
        raise ImageError("The mask is empty: there is no voxel to measure")
    return mask


def _squared_error(image: Volume, reference: Volume) -> NDArray[np.float64]:
    error = np.subtract(image, reference, dtype=np.float64)
    return np.square(error, out=error)


def _psnr(error: NDArray[np.float64], data_range: float, mask: Mask) -> float:
    mean = float(error.mean(where=mask))
    return float("inf") if mean == 0 else 10 * float(np.log10(data_range**2 / mean))


def _ssim_map(image: Volume, reference: Volume, data_range: float) -> NDArray[np.float64]:
    """SSIM of every window (z, y, x) that lies inside its slice: (z, y − 10, x − 10)."""
    window = 2 * _BORDER + 1
    if min(image.shape[1:]) < window:
        raise ImageError(f"SSIM needs slices of at least {window}×{window} voxels, not {image.shape[1:]}")
    maps = [
        structural_similarity(
            one.astype(np.float64), other.astype(np.float64), data_range=data_range, gaussian_weights=True,
            sigma=_SIGMA, use_sample_covariance=False, full=True,
        )[1]
        for one, other in zip(image, reference, strict=True)
    ]  # fmt: skip
    return np.stack(maps)[:, _BORDER:-_BORDER, _BORDER:-_BORDER]


def _ssim(similarity: NDArray[np.float64], mask: Mask) -> float:
    inside = mask[:, _BORDER:-_BORDER, _BORDER:-_BORDER]
    counts = np.count_nonzero(inside, axis=(1, 2))
    if not counts.any():
        raise ImageError(f"The mask lies within {_BORDER} voxels of the edges, where SSIM has no window")
    kept = counts >= _ENOUGH * counts.max()
    return float(np.mean(similarity[kept].mean(axis=(1, 2), where=inside[kept])))


def _nrmse_slices(error: NDArray[np.float64], reference: Volume, mask: Mask) -> NDArray[np.float64]:
    norms = np.sqrt(_energy(reference).sum(axis=(1, 2), where=mask))
    if not norms.any():
        raise ImageError("The reference is zero throughout the region; NRMSE has no meaning there")
    kept = norms >= _ENOUGH * norms.max()
    return 100 * np.sqrt(error[kept].sum(axis=(1, 2), where=mask[kept])) / norms[kept]


def _nrmse_volume(error: NDArray[np.float64], reference: Volume, mask: Mask) -> float:
    return 100 * float(np.sqrt(error.sum(where=mask) / _energy(reference).sum(where=mask)))


def _energy(reference: Volume) -> NDArray[np.float64]:
    return np.square(reference, dtype=np.float64)
