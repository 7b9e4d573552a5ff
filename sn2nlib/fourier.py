"""Centred orthonormal Fourier transforms, and cropping about the centre.

DC sits at index n//2 of every axis, in k-space and in the image, for odd and even n.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

SPATIAL = (-3, -2, -1)
_WORKERS = -1  # every core; pocketfft gives the same bits for any number of them


def fft(x: npt.ArrayLike, axes: Sequence[int] = SPATIAL) -> np.ndarray:
    """Image → k-space: centred, orthonormal, over `axes`; complex64 stays complex64."""
    shifted = scipy.fft.ifftshift(np.asarray(x), axes=axes)
    return scipy.fft.fftshift(scipy.fft.fftn(shifted, axes=axes, norm="ortho", workers=_WORKERS), axes=axes)


def ifft(x: npt.ArrayLike, axes: Sequence[int] = SPATIAL) -> np.ndarray:
    """k-space → image: centred, orthonormal, over `axes`; the inverse of `fft`."""
    shifted = scipy.fft.ifftshift(np.asarray(x), axes=axes)
    return scipy.fft.fftshift(scipy.fft.ifftn(shifted, axes=axes, norm="ortho", workers=_WORKERS), axes=axes)


def crop(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Central part of the last len(shape) axes, DC staying at n//2. A view.

    Raises
    ------
    ValueError
        If a requested size exceeds the array's.
    """
    axes = x.shape[x.ndim - len(shape):]
    if any(new > old for new, old in zip(shape, axes, strict=True)):
        raise ValueError(f"cannot crop axes of size {axes} to {tuple(shape)}; use pad for larger sizes")
    starts = [old // 2 - new // 2 for new, old in zip(shape, axes, strict=True)]
    window: Any = (..., *(slice(start, start + new) for start, new in zip(starts, shape, strict=True)))
    return x[window]


def pad(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Zeros around the last len(shape) axes, DC staying at n//2; the inverse of `crop`."""
    axes = x.shape[x.ndim - len(shape):]
    if any(new < old for new, old in zip(shape, axes, strict=True)):
        raise ValueError(f"cannot pad axes of size {axes} to {tuple(shape)}; use crop for smaller sizes")
    padded = np.zeros((*x.shape[: x.ndim - len(shape)], *shape), dtype=x.dtype)
    crop(padded, axes)[...] = x
    return padded
