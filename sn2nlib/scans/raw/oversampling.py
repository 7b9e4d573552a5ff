"""Readout oversampling: how far the header of an ISMRMRD file declares it, and its removal."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sn2nlib import fourier
from sn2nlib.scans.raw.lines import RawHeader


@dataclass(frozen=True)
class Oversampling:
    """Of the readout as its lines show it.

    Attributes
    ----------
    factor, source
        By which the lines are oversampled, and where that comes from.
    fov
        In mm along the lines as they are; 0: unknown.
    notes, doubts
        What was found about it, and contradictions, a sentence each.
    """

    factor: float
    source: str
    fov: float
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


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


def settle_oversampling(header: RawHeader, samples: int, *, whole: bool) -> Oversampling:
    """What is left of the declared oversampling in lines of so many samples.

    Nothing is where a whole line has the reconstructed number of samples instead of the declared one, or the declared
    one without the oversampling: it was removed before. Any other number than the declared one is believed, as sampled
    with the declared oversampling.

    Parameters
    ----------
    header
    samples
        Of a line.
    whole
        Whether the line lies evenly about its centre: otherwise fewer samples are those of an asymmetric echo.
    """
    factor, source, declared = header.oversampling, header.oversampling_source, header.matrix[2]
    fov = header.fov[2]
    if not 1 <= factor <= samples:
        doubt = f"the header declares a readout oversampling of {factor:g}: ignored"
        return Oversampling(1.0, "ignored", fov, doubts=(doubt,))
    if not declared or samples == declared or (samples < declared and not whole):
        return Oversampling(factor, source, fov)
    told = f"the header declares {declared} samples per line, the lines hold {samples}"
    without = round(declared / factor)
    if whole and factor != 1 and samples in (without, header.reconstructed):
        told += f", as many as without the oversampling of {factor:g}: it was removed before, and is not removed again"
        agrees = without == header.reconstructed
        return Oversampling(1.0, "removed before", fov / factor, *(((told,), ()) if agrees else ((), (told,))))
    told += ": these are believed"
    if factor != 1:
        told += f", and taken to be oversampled by {factor:g}, as declared (--keep-oversampling keeps all of them)"
    return Oversampling(factor, source, fov, doubts=(told,))


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
