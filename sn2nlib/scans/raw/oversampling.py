"""Readout oversampling: how far the header of an ISMRMRD file declares it, and its removal."""

import numpy as np
from numpy.typing import NDArray

from sn2nlib import fourier


def declared_oversampling(fov: tuple[float, float], matrix: tuple[int, int]) -> tuple[float, list[str]]:
    """Oversampling of the readout, and what is in doubt about it.

    Parameters
    ----------
    fov
        Field of view along the readout in mm, as encoded and as reconstructed; 0 where the header has none.
    matrix
        Samples along the readout, as encoded and as reconstructed; 0 where the header has none.
    """
    encoded, reconstructed = fov
    if not encoded or not reconstructed:
        return 1.0, ["the header lacks a field of view along the readout: its oversampling is unknown, taken as 1"]
    oversampling = encoded / reconstructed
    by_matrix = matrix[0] / max(1, matrix[1])
    if not by_matrix or abs(by_matrix / oversampling - 1) <= 0.01:
        return oversampling, []
    return oversampling, [
        f"encoded over reconstructed is {oversampling:g} in the field of view, {by_matrix:g} in the matrix "
        "(interpolation, or a contradiction): the field of view is believed"
    ]


def without_oversampling(full: NDArray[np.complex64], n: int, *, axis: int = -1) -> NDArray[np.complex64]:
    """The `n` central pixels of the readout's image, as k-space: the noise per sample stays.

    Parameters
    ----------
    full : (…, kx, …) complex64
    n
        Samples that are left; as many as there are: nothing is done.
    axis
        The readout.
    """
    if n == full.shape[axis]:
        return full
    image = fourier.ifft(np.moveaxis(full, axis, -1), axes=(-1,))
    return np.moveaxis(fourier.fft(fourier.crop(image, (n,)), axes=(-1,)), -1, axis)


def removal_told(oversampling: float, source: str, full: int, n: int) -> str:
    """That it is removed, in a sentence."""
    return f"readout oversampling {oversampling:g} (from {source}) removed: {full} → {n} samples"
