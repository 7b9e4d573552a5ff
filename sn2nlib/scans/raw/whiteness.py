"""Is the noise along kz white? Asked of k-space that was made from slices, before it is split for training.

A scanner that interpolates, filters or combines slices leaves noise that differs between partitions or is shared by
them; the two halves of a kz split then are not independent, and the network learns the noise. Noise is taken from the
corners of the (ky, kx) plane. Its power P(kz) must be flat (no filter, no zero-filling) and neighbouring partitions
must be uncorrelated (no slice-wise weighting); the central eighth of kz on either side is left out, where signal
reaches the corners.
"""

import numpy as np
from numpy.typing import NDArray

_TOLERANCE = 0.1  # of power and of correlation, beside what chance does
_CHANCE = 4.0  # standard errors
_FEWEST = 8  # partitions
_CORNER_SHARE = 0.02


def why_not_white(kspace: NDArray[np.complex64], mask: NDArray[np.bool_]) -> str | None:
    """Why the noise along kz is not white; None if it is.

    Parameters
    ----------
    kspace : (coil, kz, ky, kx) complex64
    mask : (kz, ky) bool
        Only lines of ky that were acquired for every kz are looked at.
    """
    n_kz = kspace.shape[1]
    if n_kz < _FEWEST:
        return f"{n_kz} partitions are too few to tell whether the noise along kz is white"
    noise = _corners(kspace, mask)
    power = (noise.real**2 + noise.imag**2).astype(float).mean(axis=1)
    outer = np.abs(np.arange(n_kz) - n_kz // 2) > n_kz // 8
    mean = power[outer].mean()
    if not mean > 0:
        return "there is no noise in the corners of k-space: they were zero-filled"
    # |n|² of complex noise has the SD of its mean; twice the chance, since the largest of many is looked at
    chance = _CHANCE / np.sqrt(noise.shape[1])
    off = np.abs(power[outer] / mean - 1).max()
    if off > _TOLERANCE + 1.5 * chance:
        return f"the noise along kz is not white: its power differs by up to {100 * off:.0f} % between partitions"
    pairs = outer[:-1] & outer[1:]
    products = (noise[1:] * noise[:-1].conj()).mean(axis=1)[pairs]
    shared = abs(products.mean()) / mean
    if shared > _TOLERANCE + chance / np.sqrt(np.count_nonzero(pairs)):
        return f"the noise along kz is not white: neighbouring partitions share {100 * shared:.0f} % of it"
    return None


def _corners(kspace: NDArray[np.complex64], mask: NDArray[np.bool_]) -> NDArray[np.complex64]:
    """(kz, coil · n) samples of the outermost 2 % of the (ky, kx) plane, coil by coil on one scale."""
    ky = np.flatnonzero(mask.all(axis=0))
    n_ky, n_kx = kspace.shape[2:]
    far_y = np.abs(ky - n_ky // 2) / max(1, n_ky // 2)
    far_x = np.abs(np.arange(n_kx) - n_kx // 2) / max(1, n_kx // 2)
    distance = np.minimum.outer(far_y, far_x)
    n_samples = min(distance.size, max(32, round(_CORNER_SHARE * distance.size)))
    line, kx = np.unravel_index(np.argsort(-distance, axis=None, kind="stable")[:n_samples], distance.shape)
    samples = kspace[:, :, ky[line], kx]  # (coil, kz, n)
    level = np.sqrt((samples.real**2 + samples.imag**2).mean(axis=(1, 2), keepdims=True))
    scaled = samples / np.where(level > 0, level, 1)
    return scaled.transpose(1, 0, 2).reshape(kspace.shape[1], -1)
