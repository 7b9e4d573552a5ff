"""Geometry of GRAPPA: the cells of a sampling lattice, their sources and targets, the region they enclose.

The acquired lattice is ky = y0 + Ry·i, kz = z0 + shift·i (mod Rz). Every lattice sample owns the cell 0 ≤ dy
< Ry, s(dy) ≤ dz < s(dy) + Rz with s(dy) = ⌈shift·dy / Ry⌉; the other positions of the cell are its targets. The
cell is sheared as the lattice is: the two acquired neighbours along ky and the two along kz are the corners of a
parallelogram, and every target lies inside of it. kernel = (kx, ky, kz) counts acquired neighbours, not grid
points: along a phase-encode axis with n neighbours the sources are -((n-1)//2) … n//2 lattice steps away (n = 2:
the cell's own sample and the next one), along the readout -(n//2) … n-1-n//2 samples.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_dilation

from sn2nlib.errors import SamplingError
from sn2nlib.sampling import Lattice, Mask, find_lattice, missing_points, without_gaps

Offsets = NDArray[np.int64]


def source_offsets(size: tuple[int, int, int], acceleration: tuple[int, int], caipi_shift: int = 0) -> Offsets:
    """Offsets (source, 3) = (dz, dy, dx) of a cell's source samples, readout fastest.

    The lattice row j steps away begins (j·shift) mod Rz further up.
    """
    (kx, ky, kz), (ry, rz) = size, acceleration
    offsets = [
        ((j * caipi_shift) % rz + m * rz, j * ry, dx - kx // 2)
        for m in _steps(kz)
        for j in _steps(ky)
        for dx in range(kx)
    ]
    return np.array(offsets, dtype=np.int64)


def target_offsets(acceleration: tuple[int, int], caipi_shift: int = 0) -> Offsets:
    """Offsets (target, 3) = (dz, dy, 0) of the positions of a cell that are not on the lattice."""
    (ry, rz), shift = acceleration, caipi_shift % acceleration[1]
    cell = [(dz - (-shift * dy // ry), dy, 0) for dz in range(rz) for dy in range(ry)]
    offsets = [offset for offset in cell if offset != (0, 0, 0)]
    return np.array(offsets, dtype=np.int64).reshape(-1, 3)


def _steps(neighbours: int) -> range:
    return range(-((neighbours - 1) // 2), neighbours // 2 + 1)


def acquired_lattice(mask: Mask, acceleration: tuple[int, int], caipi_shift: int = 0) -> Lattice:
    """The lattice of this acceleration that the mask acquires, whatever else it acquires.

    Unlike `sampling.find_lattice` it takes the masks of half scans too, whose calibration lines are
    themselves undersampled. Where calibration lines cover nearly all of the mask, so that other offsets have nearly as
    many samples, it is the lattice that `find_lattice` finds, else the one that lacks the fewest points.

    Raises
    ------
    SamplingError
        The mask lacks points of every such lattice, or is denser than the acceleration says.
    """
    (ry, rz), shift = acceleration, caipi_shift
    lattices = [Lattice((ry, rz), shift, (y0, z0)) for y0 in range(ry) for z0 in range(rz)]
    hits = np.array([np.count_nonzero(mask & lattice.points(mask.shape)) for lattice in lattices])
    best = int(hits.argmax())
    rival = np.delete(hits, best).max(initial=0)
    if rival > 0.98 * hits[best]:
        if (found := _whole_lattice(mask, acceleration, shift)) is not None:
            return found
        near = np.flatnonzero(hits > 0.98 * hits[best])
        lacking = np.array([np.count_nonzero(missing_points(mask, lattices[number])) for number in near])
        best = int(near[lacking.argmin()])
        if np.count_nonzero(lacking == lacking.min()) > 1:
            raise SamplingError(
                f"the mask does not show which lattice of R = {ry}×{rz} (ky×kz) was acquired: two offsets have "
                f"{hits.max()} and {rival} samples, and lack as many; if it was sampled more densely, declare the "
                "acceleration that it has, and 1×1 if nothing was left out"
            )
    return find_lattice(mask & lattices[best].points(mask.shape), acceleration, shift)


def _whole_lattice(mask: Mask, acceleration: tuple[int, int], caipi_shift: int) -> Lattice | None:
    """The lattice of a mask that shows its calibration region; None of a half, or where nothing was left out."""
    if without_gaps(mask):
        return None
    try:
        return find_lattice(mask, acceleration, caipi_shift)
    except SamplingError:
        return None


@dataclass(frozen=True)
class Cells:
    """The cells of a lattice: row i, position m hold the sample ky = y0 + Ry·i, kz = base(i) + Rz·m.

    Attributes
    ----------
    shape : (kz, ky, kx)
    lattice : Lattice
    """

    shape: tuple[int, int, int]
    lattice: Lattice

    @property
    def n_rows(self) -> int:
        """Lattice rows (ky) in the matrix."""
        return -(-(self.shape[1] - self.lattice.offset[0]) // self.lattice.acceleration[0])

    @property
    def n_positions(self) -> int:
        """Positions (kz) per row, at most."""
        return -(-self.shape[0] // self.lattice.acceleration[1])

    @property
    def n_classes(self) -> int:
        """Rows i and i + n_classes begin at the same kz; 1 without CAIPIRINHA."""
        rz = self.lattice.acceleration[1]
        return rz // gcd(self.lattice.caipi_shift, rz)

    def base(self, row: int) -> int:
        """First kz of a row."""
        return (self.lattice.offset[1] + self.lattice.caipi_shift * row) % self.lattice.acceleration[1]

    def neighbour(self, row: int, offset: tuple[int, int, int]) -> tuple[int, int, int]:
        """A source's offset (dz, dy, dx) from a cell in this row, as steps in (position, row, kx)."""
        (dz, dy, dx), (ry, rz) = offset, self.lattice.acceleration
        return (self.base(row) + dz - self.base(row + dy // ry)) // rz, dy // ry, dx

    def first_position(self, row: int) -> int:
        """Position of a row's first cell that reaches into the matrix: 0, or −1 or −2 where it begins before."""
        rz = self.lattice.acceleration[1]
        targets = target_offsets(self.lattice.acceleration, self.lattice.caipi_shift)
        return -((self.base(row) + int(targets[:, 0].max(initial=0))) // rz)

    def check_periodic(self) -> None:
        """Raise SamplingError unless the lattice continues itself across the matrix edge."""
        (nz, ny, _), (ry, rz), shift = self.shape, self.lattice.acceleration, self.lattice.caipi_shift
        if ny % ry or nz % rz or (shift * (ny // ry)) % rz:
            raise SamplingError(
                f"periodic filling needs a lattice that closes on itself; R = {ry}×{rz} (ky×kz) with shift "
                f"{shift} does not on (kz, ky) = {(nz, ny)}"
            )


def support(mask: Mask, lattice: Lattice, *, periodic: bool = False) -> Mask:
    """Region (kz, ky) that the acquired samples enclose: what GRAPPA may fill.

    The morphological closing of the mask by one cell. Where the lattice was acquired up to the matrix edge it
    is thought to go on for one cell beyond, so that a full lattice fills the whole matrix for any size and
    offset, while the outside of a partial-Fourier or elliptical acquisition stays empty.
    """
    ry, rz = lattice.acceleration
    margin = ((2 * rz, 2 * rz), (2 * ry, 2 * ry))
    if periodic:
        extended = np.pad(mask, margin, mode="wrap")
    else:
        extended = np.pad(mask, margin)
        beyond = ~np.pad(np.ones_like(mask), margin)
        (y0, z0), shift = lattice.offset, lattice.caipi_shift
        reach = rz if shift == 0 else 2 * rz - 1  # kz distance of samples in neighbouring rows
        near = binary_dilation(extended, structure=np.ones((2 * reach + 1, 2 * ry + 1), dtype=bool))
        # counted from the corner of the extended plane, the lattice begins two rows earlier
        continued = Lattice((ry, rz), shift, (y0, (z0 - 2 * shift) % rz))
        extended |= continued.points(extended.shape) & beyond & near
    closed = binary_closing(extended, structure=np.ones((rz, ry), dtype=bool))
    return closed[2 * rz : -2 * rz, 2 * ry : -2 * ry]
