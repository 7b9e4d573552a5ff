"""Sampling masks on the (kz, ky) plane: lattice, ACS, and the kz split of self Noise2Noise.

The acquired lattice is ky = y0 + Ry·i, kz ≡ z0 + shift·i (mod Rz); shift > 0 is CAIPIRINHA.
"""

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from sn2nlib.errors import SamplingError

Mask = npt.NDArray[np.bool_]
MOST_REDUCTION = 8  # per axis: of lattices that are looked for, and of matrices with fewer lines


@dataclass(frozen=True)
class Lattice:
    """ky = y0 + Ry·i, kz ≡ z0 + shift·i (mod Rz); `acceleration` = (Ry, Rz), `offset` = (y0, z0)."""

    acceleration: tuple[int, int]
    caipi_shift: int = 0
    offset: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if min(self.acceleration) < 1:
            raise SamplingError(f"acceleration must be at least 1 on both axes, got (Ry, Rz) = {self.acceleration}")

    def points(self, shape: tuple[int, int]) -> Mask:
        """All lattice points of a (kz, ky) plane of this shape."""
        (ry, rz), (y0, z0) = self.acceleration, self.offset
        kz, ky = np.ogrid[: shape[0], : shape[1]]
        row = (ky - y0) // ry
        return ((ky - y0) % ry == 0) & ((kz - z0 - self.caipi_shift * row) % rz == 0)

    def halves(self) -> tuple["Lattice", "Lattice"]:
        """The two Ry×2Rz lattices of the kz split, same shift: A holds (y0, z0), B starts Rz later."""
        (ry, rz), (y0, z0) = self.acceleration, self.offset
        return (
            Lattice((ry, 2 * rz), self.caipi_shift, (y0, z0)),
            Lattice((ry, 2 * rz), self.caipi_shift, (y0, z0 + rz)),
        )


def lattice_mask(
    shape: tuple[int, int],
    *,
    acceleration: tuple[int, int] = (2, 1),
    caipi_shift: int = 0,
    offset: tuple[int, int] = (0, 0),
    acs: int | tuple[int, int] | None = 24,
    partial_fourier: tuple[float, float] = (1.0, 1.0),
) -> Mask:
    """Sampling mask of a regularly undersampled scan with integrated calibration lines.

    Parameters
    ----------
    shape
        (kz, ky).
    acceleration
        (Ry, Rz).
    caipi_shift
        Shift of the kz positions from one acquired ky to the next, 0 ≤ shift < Rz; above 0 it is CAIPIRINHA.
    offset
        (y0, z0) of the lattice.
    acs
        Lines of the fully sampled centre: one number along ky (all acquired kz where Rz = 1, the same number
        along kz otherwise), or (along ky, along kz). None or 0: no calibration lines.
    partial_fourier
        Acquired fraction of ky and of kz, 0.5 < f ≤ 1; the missing part is at the low indices.

    Returns
    -------
    mask : (kz, ky) bool

    Raises
    ------
    SamplingError
        If an acceleration, the shift or a partial Fourier fraction is outside its range.

    References
    ----------
    Breuer FA, et al. Controlled aliasing in volumetric parallel imaging (2D CAIPIRINHA). MRM 2006;55:549-556.
    """
    nz, ny = shape
    if not 0 <= caipi_shift < max(1, acceleration[1]):
        raise SamplingError(
            f"the CAIPIRINHA shift lies between 0 and Rz - 1 for R = {acceleration[0]}×{acceleration[1]} (ky×kz), "
            f"got {caipi_shift}"
        )
    mask = Lattice(acceleration, caipi_shift, offset).points(shape)
    missing = []
    for axis, (n, fraction) in enumerate(zip((nz, ny), partial_fourier[::-1], strict=True)):
        if not 0.5 < fraction <= 1:
            raise SamplingError(f"partial Fourier fractions lie in (0.5, 1], got {partial_fourier}")
        missing.append(round((1 - fraction) * n))
        mask[(slice(None),) * axis + (slice(0, missing[axis]),)] = False
    if acs:
        every_kz = isinstance(acs, int) and acceleration[1] == 1
        wide_y, wide_z = (acs, acs) if isinstance(acs, int) else acs
        rows = slice(missing[0], nz) if every_kz else _centred(nz, min(wide_z, nz))
        mask[rows, _centred(ny, min(wide_y, ny))] = True
    return mask


def _centred(n: int, size: int) -> slice:
    start = n // 2 - size // 2
    return slice(start, start + size)


def find_lattice(
    mask: Mask,
    acceleration: tuple[int, int],
    caipi_shift: int = 0,
    *,
    region: tuple[slice, slice] | None = None,
) -> Lattice:
    """The lattice of this acceleration that explains the mask, ACS aside.

    Parameters
    ----------
    mask : (kz, ky) bool
    acceleration, caipi_shift
        As declared with the scan. A mask without gaps fits any: it may all be calibration region.
    region
        From `calibration_region`, where many accelerations are tried on one mask; None: it is asked.

    Raises
    ------
    SamplingError
        If no offset of the lattice leaves the mask with all samples outside the calibration region on it,
        or if lattice points between acquired ones are missing (the true acceleration is higher).
    """
    mask = _checked(mask)
    rz_lines, ry_lines = calibration_region(mask) if region is None else region
    outside = mask.copy()
    outside[rz_lines, ry_lines] = False
    (ry, rz), best = acceleration, None
    for y0 in range(ry):
        for z0 in range(rz):
            lattice = Lattice(acceleration, caipi_shift, (y0, z0))
            points = lattice.points(mask.shape)
            if np.any(outside & ~points):
                continue
            hits = int(np.count_nonzero(points & mask))
            if best is None or hits > best[0]:
                best = (hits, lattice, points)
    declared = f"R = {ry}×{rz} (ky×kz)" + (f" with shift {caipi_shift}" if caipi_shift else "")
    if best is None:
        raise SamplingError(
            f"the mask has samples off every lattice of the declared acceleration {declared}, outside its calibration "
            "region; correct the acceleration or the mask"
        )
    _, lattice, points = best
    missing = int(np.count_nonzero(missing_points(mask, lattice)))
    if missing > 0.02 * int(np.count_nonzero(points & _hull(mask))):
        raise SamplingError(
            f"the mask lacks {missing} of the points that the declared acceleration {declared} "
            "acquires within the sampled area; correct the acceleration or the mask"
        )
    return lattice


def missing_points(mask: Mask, lattice: Lattice) -> Mask:
    """Points of the lattice between acquired ones, (kz, ky), that were not acquired: `find_lattice` forgives a few."""
    return lattice.points(mask.shape) & _hull(mask) & ~mask


def _hull(mask: Mask) -> Mask:
    """Positions between the first and the last acquired sample of their row or of their column.

    Row or column, not both: of a lattice sparser than declared, whole rows and columns were never acquired.
    """
    spans = []
    for axis in (0, 1):
        before = np.maximum.accumulate(mask, axis=axis)
        after = np.flip(np.maximum.accumulate(np.flip(mask, axis), axis=axis), axis)
        spans.append(before & after)
    return spans[0] | spans[1]


def open_sides(mask: Mask, acceleration: tuple[int, int]) -> tuple[int, int]:
    """Which side of k-space partial Fourier left out, along ky and along kz.

    Where both sides end at the same distance from the centre, be it at the edge of the matrix or before it, none was
    left out; a lattice need not end where it begins, so that a step more on one side, or two lines, says nothing.

    Parameters
    ----------
    mask : (kz, ky) bool
        Acquired samples.
    acceleration
        (Ry, Rz).

    Returns
    -------
    (along ky, along kz)
        -1: the side of the low indices, 1: that of the high ones, 0: neither.
    """
    sides = []
    for n, acquired, step in zip(mask.shape[::-1], (mask.any(axis=0), mask.any(axis=1)), acceleration, strict=True):
        lines = np.flatnonzero(acquired)
        below, above = n // 2 - int(lines[0]), int(lines[-1]) - n // 2 + 1
        sides.append(0 if abs(above - below) <= max(2, step) else -1 if below < above else 1)
    return sides[0], sides[1]


def acs_region(mask: Mask) -> tuple[slice, slice]:
    """Largest fully sampled rectangle that holds the centre of k-space.

    Parameters
    ----------
    mask : (kz, ky) bool

    Returns
    -------
    (slice along kz, slice along ky)

    Raises
    ------
    SamplingError
        If the centre (nz//2, ny//2) itself was not acquired.
    """
    mask = _checked(mask)
    cz, cy = (n // 2 for n in mask.shape)
    if not mask[cz, cy]:
        raise SamplingError(
            f"no calibration region: the centre of k-space (kz, ky) = ({cz}, {cy}) was not acquired; "
            "give a scan with ACS lines, integrated or separate"
        )
    # contiguous run [low, high) around the central kz, for every ky
    low = cz - np.logical_and.accumulate(mask[cz::-1], axis=0).sum(axis=0) + 1
    high = cz + np.logical_and.accumulate(mask[cz:], axis=0).sum(axis=0)
    # tightest run over ky ranges that grow from the centre to the left (first axis) and right (second axis)
    low_left, high_left = np.maximum.accumulate(low[cy::-1]), np.minimum.accumulate(high[cy::-1])
    low_right, high_right = np.maximum.accumulate(low[cy:]), np.minimum.accumulate(high[cy:])
    height = np.minimum.outer(high_left, high_right) - np.maximum.outer(low_left, low_right)
    width = np.add.outer(np.arange(len(low_left)), np.arange(len(low_right))) + 1
    left, right = np.unravel_index(np.argmax(np.maximum(height, 0) * width), width.shape)
    z0 = max(int(low_left[left]), int(low_right[right]))
    return slice(z0, z0 + int(height[left, right])), slice(cy - int(left), cy + int(right) + 1)


def calibration_region(mask: Mask) -> tuple[slice, slice]:
    """`acs_region`, or nothing where there is none; the central line of a lattice alone is none."""
    try:
        region = acs_region(mask)
    except SamplingError:
        return slice(0, 0), slice(0, 0)
    single = any(part.stop - part.start == 1 < n for part, n in zip(region, mask.shape, strict=True))
    return (slice(0, 0), slice(0, 0)) if single else region


def without_gaps(mask: Mask, region: tuple[slice, slice] | None = None) -> bool:
    """Whether nothing lies outside the fully sampled rectangle, so that no line was left out.

    Parameters
    ----------
    mask : (kz, ky) bool
    region
        From `calibration_region`, where it is known; None: it is asked.
    """
    rows, columns = calibration_region(mask) if region is None else region
    return int(np.count_nonzero(mask)) == mask[rows, columns].size


def readout_share(kx_acquired: tuple[float, float] | None, n: int) -> float:
    """Share of the n samples along kx that was acquired: `Scan.kx_acquired`, None for all."""
    return 1.0 if kx_acquired is None else (kx_acquired[1] - kx_acquired[0]) / n


def asymmetric_readout(kx_acquired: tuple[float, float] | None, n: int) -> npt.NDArray[np.bool_] | None:
    """Samples (kx,) that were acquired wholly, if one side of kx was left out: `Scan.kx_acquired`; else None.

    Without the centre of kx there is nothing to fill from: None too.
    """
    if kx_acquired is None:
        return None
    acquired = np.zeros(n, bool)
    acquired[ceil(kx_acquired[0]) : floor(kx_acquired[1])] = True
    return acquired if acquired[n // 2] and open_sides(acquired[None], (1, 1))[0] else None


def split_kz(
    mask: Mask, *, acceleration: tuple[int, int] | None = None, caipi_shift: int = 0
) -> tuple[Mask, Mask]:
    """Split one acquisition along kz into two disjoint ones with independent noise.

    On the lattice ky = y0 + Ry·i, kz ≡ z0 + shift·i (mod Rz), half A takes kz ≡ z0 + shift·i (mod 2Rz) and half B
    the rest, so that both are Ry×2Rz lattices of the same shift. Samples off the lattice (ACS) go by the parity of kz.
    For Rz = 1 and z0 = 0 this is the paper's rule: even kz → A, odd kz → B (Jung et al. 2023, Fig. 1a).

    Parameters
    ----------
    mask : (kz, ky) bool
    acceleration
        (Ry, Rz); None finds the lattice that explains the mask, for a shift of `caipi_shift`. A mask without
        gaps is split as the fully sampled one that it is.

    Returns
    -------
    mask_a, mask_b : (kz, ky) bool
        Disjoint; their union is `mask`.

    Raises
    ------
    SamplingError
        If a half would be empty, or the mask contradicts the acceleration.
    """
    mask = _checked(mask)
    if acceleration is None or without_gaps(mask):
        lattice = infer_lattice(mask, caipi_shift)
    else:
        lattice = find_lattice(mask, acceleration, caipi_shift)
    half_a, _ = lattice.halves()
    on_lattice = lattice.points(mask.shape)
    even = np.arange(mask.shape[0])[:, None] % 2 == 0
    mask_a = mask & np.where(on_lattice, half_a.points(mask.shape), even)
    mask_b = mask & ~mask_a
    if not mask_a.any() or not mask_b.any():
        raise SamplingError(
            f"the kz split leaves a half without samples (kz has {mask.shape[0]} partitions); "
            "training needs a 3D scan with at least two acquired partitions"
        )
    return mask_a, mask_b


def infer_lattice(mask: Mask, caipi_shift: int = 0) -> Lattice:
    """The densest lattice with Ry, Rz ≤ 8 that explains the mask; 1×1 if nothing lies outside a full rectangle.

    Where the rectangle covers nearly everything, the few samples outside fit many sparse ones too.

    Raises
    ------
    SamplingError
        If there is none.
    """
    region = calibration_region(mask)
    if without_gaps(mask, region):
        return Lattice((1, 1))
    most_z, most_y = (min(MOST_REDUCTION, n) for n in mask.shape)
    candidates = [(ry, rz) for ry in range(1, most_y + 1) for rz in range(1, most_z + 1)]
    for acceleration in sorted(candidates, key=lambda r: (r[0] * r[1], r[1])):
        if caipi_shift and acceleration[1] <= caipi_shift:
            continue
        try:
            return find_lattice(mask, acceleration, caipi_shift, region=region)
        except SamplingError:
            continue
    raise SamplingError(
        "the mask fits no regular lattice up to 8×8 with fully sampled lines about its centre; zero frequency belongs "
        "at index n//2 of every axis, and acceleration (Ry, Rz) and CAIPIRINHA shift can be declared with the mask"
    )


def _checked(mask: npt.ArrayLike) -> Mask:
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise SamplingError(f"a sampling mask is a (kz, ky) array of bool, got {mask.ndim} axes of {mask.dtype}")
    if not mask.any():
        raise SamplingError("the sampling mask is empty: no sample was acquired")
    return mask
