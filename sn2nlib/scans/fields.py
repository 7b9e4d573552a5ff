"""Random fields from which digital heads get their variety: smooth warps, folds, texture."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter


def smooth_field(
    shape: Sequence[int], spacing: Sequence[float], wavelength: float, rng: np.random.Generator
) -> np.ndarray:
    """Gaussian random field of mean 0 and SD about 1, smooth over `wavelength`.

    White noise on a grid of pitch `wavelength`, interpolated by cubic B-splines, axis by axis.

    Parameters
    ----------
    shape
        (z, y, x) of the grid.
    spacing
        Voxel size (z, y, x) in mm.
    wavelength
        Pitch of the control points in mm; finer detail does not occur.
    rng
        Source of randomness.

    Returns
    -------
    (z, y, x) float32
    """
    bases = [_spline_basis(n, size / wavelength) for n, size in zip(shape, spacing, strict=True)]
    field = rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    # three matrix products from the coarse to the fine grid; the last one is the only large one
    for axis, basis in enumerate(bases):
        field = np.moveaxis(np.tensordot(basis, field, axes=(1, axis)), 0, axis)
    field = np.ascontiguousarray(field)
    return field / max(float(field.std()), 1e-6)


def _spline_basis(n: int, step: float) -> np.ndarray:
    """(n, n_control) uniform cubic B-spline weights at positions i·step."""
    position = np.arange(n) * step
    cell, t = np.floor(position).astype(int), position % 1
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    basis = np.zeros((n, cell[-1] + 4), dtype=np.float32)
    np.put_along_axis(basis, cell[:, None] + np.arange(4), weights.astype(np.float32), axis=1)
    return basis


def texture(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Fine texture of mean 0 and SD 1 whose power reaches the Nyquist frequency: white plus finely smoothed noise."""
    white = rng.standard_normal(shape, dtype=np.float32)
    fine = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.0, truncate=3)
    coarse = gaussian_filter(white, 2.0, truncate=3)
    mixed = 0.35 * white + fine / fine.std() + 0.8 * coarse / coarse.std()
    return mixed / mixed.std()
