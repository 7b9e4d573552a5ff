"""Radial power spectrum: how much fine detail an image has."""

import numpy as np

from sn2nlib.fourier import fft


def radial_power(image: np.ndarray, *, bins: int = 10) -> np.ndarray:
    """Mean power of the frequencies in shells from 0 to 0.5 cycles per voxel, log10 relative to the first shell.

    Parameters
    ----------
    image : (z, y, x)
        Magnitude or complex.
    bins
        Number of shells.

    Returns
    -------
    (bins,) float64
    """
    power = np.abs(fft(np.asarray(image))).astype(np.float64) ** 2
    squares = [((np.arange(n) - n // 2) / n) ** 2 for n in image.shape]
    frequency = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    # the corners beyond 0.5 cycles per voxel go into one last shell, which is left out
    shell = np.minimum((2 * bins * frequency).astype(int), bins).ravel()
    mean = np.bincount(shell, power.ravel(), bins + 1)[:bins] / np.bincount(shell, minlength=bins + 1)[:bins]
    return np.log10(mean / mean[0])
