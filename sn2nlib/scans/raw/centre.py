"""Does the centre of k-space lie where it was assumed to? Asked of the samples where no header names it.

At the centre all spins of an object are in phase along the lines, so that the line through it is by far the brightest.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from sn2nlib.scans.raw.placement import Axis

_STANDS_OUT = 5.0  # energy of the brightest line over that of the median one: of noise it is hardly 2
_NEAR = 2.0  # lines, and beside them
_NEAR_SHARE = 1 / 32  # of the matrix: field inhomogeneity moves the echo a little


def watched(partitions: Iterable[NDArray[np.complex64]], energies: NDArray[np.float32]) -> Iterator[NDArray]:
    """The partitions (coil, ky, kx) as they are; the energies (kz, ky) of their lines are noted as they pass."""
    for kz, partition in enumerate(partitions):
        floats = partition.view(np.float32)
        energies[kz] = np.einsum("cyx,cyx->y", floats, floats)
        yield partition


def centre_doubts(energies: NDArray[np.float32], kz: Axis, ky: Axis) -> list[str]:
    """Along which axes the brightest line is far from a centre that was assumed, a sentence each.

    Parameters
    ----------
    energies : (kz, ky)
        Of the lines; 0 where none was acquired.
    kz, ky
    """
    acquired = energies[energies > 0]
    if not acquired.size or not energies.max() >= _STANDS_OUT * np.median(acquired):  # of NaN nothing is said
        return []
    brightest, doubts = np.unravel_index(energies.argmax(), energies.shape), []
    for axis, name, index in ((kz, "kz", int(brightest[0])), (ky, "ky", int(brightest[1]))):
        if axis.assumed and abs(index - axis.n // 2) > _NEAR + _NEAR_SHARE * axis.n:
            number = index - axis.n // 2 + axis.centre
            doubts.append(
                f"the brightest line is {name} number {number}, but {axis.centre} of {axis.n} was assumed to be the "
                "central one, since the header names none: is one side of k-space missing?"
            )
    return doubts
