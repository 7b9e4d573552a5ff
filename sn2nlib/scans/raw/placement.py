"""Where readout lines belong: matrix, centre and sampling lattice from their numbers and the header."""

from dataclasses import dataclass, replace
from math import gcd

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import SamplingError, ScanError
from sn2nlib.sampling import MOST_REDUCTION, acs_region, calibration_region, find_lattice, missing_points
from sn2nlib.scans.raw.lines import LineTable, RawHeader, of_equal_size
from sn2nlib.scans.raw.oversampling import Oversampling, settle_oversampling
from sn2nlib.scans.raw.ramp import WHY, Regridding, make_regridding, read_trapezoid
from sn2nlib.scans.sidecar import described

_MOST_PADDING = 8  # a declared matrix this many times what the lines need is not believed
_SAME_DWELL = 1e-3  # of the dwell time: headers round
_NEARLY_ALL = 0.95  # of the lines: a few may lose more of their samples


@dataclass(frozen=True)
class Axis:
    """One phase-encoding axis: line `centre` lies at index n // 2; `assumed`: no header names it."""

    n: int
    centre: int
    doubts: tuple[str, ...] = ()
    assumed: bool = False

    def index(self, numbers: NDArray[np.int32]) -> NDArray[np.int64]:
        """Indices of line numbers."""
        return numbers.astype(np.int64) - self.centre + self.n // 2


@dataclass(frozen=True)
class Readout:
    """The readout: samples as acquired, with zeros around them, and after removal of the oversampling.

    Attributes
    ----------
    coils, samples
        Of every line.
    full
        Samples with the centre at full // 2; those before `start` and from `start + samples` on are zeros, and what
        reaches beyond them is left out.
    n
        kx of the scan.
    acquired
        `Scan.kx_acquired`, on the grid of the n samples.
    oversampling
        Of the samples.
    doubts
        Contradictions, a sentence each.
    regridding
        Of the samples to `full`, if their distances are unequal.
    """

    coils: int
    samples: int
    full: int
    start: int
    n: int
    oversampling: Oversampling
    acquired: tuple[float, float] | None = None
    doubts: tuple[str, ...] = ()
    regridding: Regridding | None = None


def place_axis(numbers: NDArray[np.int32], *, declared: int, centre: int | None, name: str) -> Axis:
    """Matrix size and centre of a phase-encoding axis.

    Parameters
    ----------
    numbers
        Line numbers of the file, of any order.
    declared
        Matrix size of the header, 0 if it has none. Used if the lines fit into it about their centre.
    centre
        Number of the line through the centre of k-space, None if unknown: then the middle of the matrix.
    name
        ky or kz, for the doubts.

    Raises
    ------
    ScanError
        If a number is negative.
    """
    low, high, doubts = int(numbers.min()), int(numbers.max()), []
    if low < 0:
        raise ScanError(f"the lines hold the negative {name} number {low}: the file is damaged")
    if centre is not None and high > low and not low < centre <= high:
        doubts.append(f"the file names {centre} as its central {name} number, but acquired {low} … {high}: ignored")
        centre = None
    if centre is None:
        n = declared if high < declared <= _MOST_PADDING * (high + 1) else high + 1
        if declared and declared != n:
            doubts.append(
                f"the header declares {declared} {name} lines, those of the file are numbered {low} … {high}: a matrix "
                f"of {n} is used"
            )
        return _middle(numbers, n, name, doubts)
    if high == low:
        centre = low
    below, above = centre - low, high - centre
    needed = min(2 * max(below, above + 1), 2 * max(below, above) + 1)
    if needed <= declared <= _MOST_PADDING * needed:
        return Axis(declared, centre, tuple(doubts))
    if declared:
        doubts.append(
            f"the header declares a matrix of {declared} along {name}, the lines {low} … {high} about {centre} need "
            f"{needed}: {needed} is used"
        )
    return Axis(needed, centre, tuple(doubts))


def _middle(numbers: NDArray[np.int32], n: int, name: str, doubts: list[str]) -> Axis:
    """An axis about the middle of its matrix of n; in doubt if the lines do not lie evenly about it."""
    acquired = np.unique(numbers)
    low, high = int(acquired[0]), int(acquired[-1])
    centre = n // 2 if high else 0
    step = int(np.diff(acquired).max(initial=1))  # a lattice need not end where it begins
    if high > low and abs(centre - low - (high - centre)) > step:
        doubts = [*doubts, f"no central {name} number is known: the middle of the matrix, {centre} of {n}, is taken, "
                           f"yet the lines {low} … {high} do not lie evenly about it"]  # fmt: skip
    return Axis(n, centre, tuple(doubts), assumed=high > low)


def place_readout(lines: LineTable, header: RawHeader, *, remove_oversampling: bool) -> Readout:
    """Size of the readout, asymmetric echoes, ramp sampling and oversampling considered.

    Raises
    ------
    ScanError
        If the lines disagree in their sizes or centres, or were sampled on gradient ramps and cannot be regridded.
    """
    coils, samples = of_equal_size(lines, "image")
    doubts = []
    centres = _centres(lines)
    if len(centres) > 1:
        raise ScanError(f"the image lines differ in their central sample ({centres[0]} … {centres[-1]}): damaged file")
    centre = int(centres[0])
    if not 0 < centre < samples:
        if centre:
            doubts.append(f"the central sample {centre} lies outside the {samples} samples of a line: ignored")
        centre = samples // 2
    full, start, whole = samples, 0, abs(centre - samples // 2) <= 1
    ramps = None if lines["even"].all() else header.ramp_sampling
    if ramps is not None:
        _refuse_parts(lines, centre, samples)
        trapezoid = read_trapezoid(ramps, n_samples=samples, dwell_us=float(np.median(lines["dwell_us"])))
        full = trapezoid.n
    elif not whole:
        needed = min(2 * max(centre, samples - centre), 2 * max(centre, samples - centre - 1) + 1)
        declared = header.matrix[2]
        full = declared if needed <= declared <= _MOST_PADDING * needed else needed
        start = full // 2 - centre
    held = samples if ramps is None else full
    oversampling = settle_oversampling(header, held, whole=whole and ramps is None)
    n = round(full / oversampling.factor) if remove_oversampling else full
    regridding = None
    if ramps is not None:
        kept = round(full / oversampling.factor)
        regridding = make_regridding(trapezoid, kept=kept, offset=_off_centre(lines, header))
    acquired = None if ramps is not None else _acquired(lines, full, start, n)
    if header.record is not None:
        acquired = described(header.record)["kx_acquired"]  # its lines hold the zeros too
    doubts += oversampling.doubts
    return Readout(coils, samples, full, start, n, oversampling, acquired, tuple(doubts), regridding)


def place_calibration(
    lines: LineTable, image: LineTable, readout: Readout, *, exported: bool = False
) -> tuple[Readout | None, list[str]]:
    """The readout of separate calibration lines, and what is in doubt of it; None if they cannot be used.

    They may hold other numbers of samples than the image lines, and are then taken for those of the same field of view,
    unless their dwell time is another (of which twix files tell nothing). Kept is what lies evenly about the centre:
    zeros are no calibration.

    Parameters
    ----------
    lines, image
        Calibration lines, and those of the image.
    readout
        Of the image.
    exported
        Whether this package wrote the file, so that the field of view is the same.

    Raises
    ------
    ScanError
        If the calibration lines differ in their sizes.
    """
    if not lines.size:
        return None, []
    coils, samples = of_equal_size(lines, "calibration")
    if coils != readout.coils:
        return None, [f"the calibration lines hold {coils} coils, those of the image {readout.coils}: they stay unused"]
    centres = _centres(lines)
    if len(centres) > 1:
        return None, ["the calibration lines differ in their central sample: they stay unused"]
    centre = int(centres[0]) if 0 < centres[0] < samples else samples // 2
    full = 2 * min(centre, samples - centre)
    if abs(centre - samples // 2) <= 1:
        centre, full = samples // 2, samples
    if samples == readout.samples and (readout.regridding or centre == readout.full // 2 - readout.start):
        return readout, []
    told = f"the calibration lines hold {samples} samples (centre {centre}), those of the image {readout.samples} "
    told += f"(centre {readout.full // 2 - readout.start})"
    own, theirs = (float(np.median(part["dwell_us"])) for part in (lines, image))
    step = readout.full // gcd(readout.full, readout.n)  # so that the oversampling is removed as from the image
    full = min(full, readout.full) // step * step
    if readout.regridding is not None or not full:
        return None, [f"{told}, and cannot be placed beside them: they stay unused"]
    if not abs(own - theirs) <= _SAME_DWELL * theirs:
        return None, [f"{told}, of another dwell time, so that their field of view may be another: they stay unused"]
    placed = replace(readout, samples=samples, full=full, start=full // 2 - centre, n=full * readout.n // readout.full)
    return placed, [] if exported else [f"{told}: both are taken to be of one field of view"]


def _centres(lines: LineTable) -> NDArray[np.int32]:
    """Central samples of the lines that run forwards, of all if none does."""
    forward = lines[~lines["reversed"]] if not lines["reversed"].all() else lines
    return np.unique(forward["centre"])


def _acquired(lines: LineTable, full: int, start: int, n: int) -> tuple[float, float] | None:
    """What nearly all lines hold of the readout, without what they lose; None if that is all, or nothing."""
    flipped = lines["reversed"]
    low, high = (np.where(flipped, lines[b], lines[a]) for a, b in (("before", "after"), ("after", "before")))
    first = start + int(np.quantile(low, _NEARLY_ALL, method="higher"))
    end = start + int(lines["samples"][0]) - int(np.quantile(high, _NEARLY_ALL, method="higher"))
    return None if (first, end) == (0, full) or end <= first else (first * n / full, end * n / full)


def check_discarded(lines: LineTable) -> str | None:
    """What becomes of samples that lines are to lose at their ends, in a sentence; None if they lose none.

    Raises
    ------
    ScanError
        If nothing would be left of a line.
    """
    lost = lines["before"] + lines["after"]
    empty = np.flatnonzero(lost >= lines["samples"])
    if empty.size:
        line = lines[empty[0]]
        raise ScanError(
            f"line kz {line['kz']}, ky {line['ky']} is to lose {lost[empty[0]]} of its {line['samples']} samples: the "
            "file is damaged"
        )
    if not lost.any():
        return None
    return (f"up to {lines['before'].max()} samples at the beginning and {lines['after'].max()} at the end of a line "
            f"are to be discarded: zeros in {np.count_nonzero(lost)} of {len(lines)} lines")  # fmt: skip


def _refuse_parts(lines: LineTable, centre: int, samples: int) -> None:
    """Of ramp-sampled readouts, only whole ones are regridded."""
    if lines["even"].any():
        raise ScanError(f"{WHY}, but only in some of the lines")
    if abs(centre - samples // 2) > 1:
        raise ScanError(f"{WHY}, and its echo is asymmetric (sample {centre} of {samples}): such are not regridded")
    if lines["before"].any() or lines["after"].any():
        raise ScanError(f"{WHY}, and some of the samples are to be discarded: such lines are not regridded")


def _off_centre(lines: LineTable, header: RawHeader) -> float:
    """Distance of the image's centre from the magnet's, the way voxels follow each other, over the encoded FOV."""
    if header.geometry_unknown is not None or not header.fov[2] > 0:
        raise ScanError(f"{WHY}; to regrid it, its field of view must be known")
    distances = np.einsum("lx,lx->l", lines["position"], lines["directions"][:, 0])
    if not np.ptp(distances) <= 0.1:
        raise ScanError(f"{WHY}, and the lines disagree in their position along it")
    return float(distances[0] / header.fov[2]) * (-1 if header.forward_transform else 1)


def find_acceleration(
    mask: NDArray[np.bool_], declared: tuple[int, int] | None
) -> tuple[tuple[int, int], int, tuple[str, ...]]:
    """(Ry, Rz), CAIPIRINHA shift and doubts, from the mask; what the header declares is tried first.

    Else the densest lattice that explains it: where calibration lines cover nearly everything, the few other lines fit
    many sparse ones, and one of 1×1 lacks a line or two, which the doubts tell.

    Raises
    ------
    ScanError
        If no regular lattice up to 8×8 explains the mask.
    """
    try:
        rows, columns = acs_region(mask)
        gapless = np.count_nonzero(mask) == mask[rows, columns].size
    except SamplingError:
        gapless = False
    found: tuple[tuple[int, int], int] | None = ((1, 1), 0) if gapless else None
    region = calibration_region(mask)  # once for all: of the large mask of a damaged file it takes longest
    most_z, most_y = (min(MOST_REDUCTION, n) for n in mask.shape)
    ordered = sorted(
        ((ry, rz) for ry in range(1, most_y + 1) for rz in range(1, most_z + 1)), key=lambda r: (r[0] * r[1], r[1])
    )
    for acceleration in [*([declared] if declared else []), *ordered]:
        if found is not None:
            break
        shifts = (s for s in range(acceleration[1]) if _explains(mask, acceleration, s, region))
        found = next(((acceleration, s) for s in shifts), None)
    if found is None:
        raise ScanError(
            "the acquired lines fit no regular lattice up to 8×8 (random or variable-density sampling): "
            "this package reconstructs regular undersampling only"
        )
    doubts = []
    if declared and found[0] != declared:
        doubts.append(
            f"the header declares R = {declared[0]}×{declared[1]} (ky×kz), the acquired lines show "
            f"{found[0][0]}×{found[0][1]}: the lines are believed"
        )
    missing = np.argwhere(missing_points(mask, find_lattice(mask, *found, region=region)))
    if missing.size:
        doubts.append(
            f"missing between acquired lines: {len(missing)}, the first at (kz, ky) = {tuple(missing[0].tolist())} of "
            f"{mask.shape}; they stay empty: is the file damaged?"
        )
    return *found, tuple(doubts)


def _explains(
    mask: NDArray[np.bool_], acceleration: tuple[int, int], shift: int, region: tuple[slice, slice]
) -> bool:
    try:
        find_lattice(mask, acceleration, shift, region=region)
    except SamplingError:
        return False
    return True
