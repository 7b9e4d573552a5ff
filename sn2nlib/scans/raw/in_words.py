"""What is done to the lines of a raw file, in words: sentences of the plan that `sn2n inspect` prints."""

import numpy as np

from sn2nlib.scans.raw.lines import LineTable
from sn2nlib.scans.raw.oversampling import removal_told
from sn2nlib.scans.raw.placement import Axis, Readout

NO_NOISE_SCAN = "no noise scan: the noise is taken from the corners of k-space, where signal may be left"


def placements_told(readout: Readout, ky: Axis, kz: Axis, lines: LineTable, acceleration: tuple[int, int]) -> list[str]:
    """What is done to put samples and lines where they belong; `acceleration` (Ry, Rz) of the lattice."""
    does = []
    regridding = readout.regridding
    if regridding is not None:
        sd, correlation = regridding.noise_sd, regridding.correlation
        does.append(
            f"ramp sampling: {readout.samples} samples at unequal distances regridded to {readout.full}; the noise "
            f"along the readout is then not white (SD {sd.min():.2f} to {sd.max():.2f} of a sample's, "
            f"{regridding.noise_gain:.2f} on the whole, neighbours correlated up to {correlation:.2f}); between "
            "lines it is as before"
        )
    elif readout.full > readout.samples:
        does.append(f"asymmetric echo: {readout.full - readout.samples} of {readout.full} samples filled with zeros")
    if readout.n < readout.full:
        does.append(removal_told(readout.oversampling.factor, readout.oversampling.source, readout.full, readout.n))
    for axis, name, step in zip((ky, kz), ("ky", "kz"), acceleration, strict=True):
        if axis.n == 1:
            continue
        if axis.centre != axis.n // 2:
            does.append(f"central {name} line {axis.centre} moved to {axis.n // 2} of {axis.n}")
        low, high = int(lines[name].min()) - axis.centre, int(lines[name].max()) - axis.centre
        first, last = -(axis.n // 2), (axis.n - 1) // 2
        if (low, high) != (first, last) and max(low - first, last - high) < step:
            does.append(f"{name} acquired from {low} to {high} in steps of {step}, but for calibration lines: up to "
                        f"both ends of the matrix of {axis.n}")  # fmt: skip
        elif (low, high) != (first, last):
            does.append(f"{name} acquired from {low} to {high}, zeros beyond: they count as not sampled")
    if lines["reversed"].any():
        does.append(f"{np.count_nonzero(lines['reversed'])} reversed lines flipped")
    return does


def repetitions_told(repetitions: list[int], lines: LineTable, repeat: int | None) -> list[str]:
    """Which of several repetitions the lines are of, and which one makes a pair with it."""
    if len(repetitions) < 2:
        return []
    second = "" if repeat is None else f", and {repeat} as the second of a pair"
    return [f"of {len(repetitions)} repetitions, {lines['repetition'][0]} is read{second}"]


def corners_told(readout: Readout) -> list[str]:
    """What regridding does to the noise in the corners of k-space, where it is taken from them."""
    if readout.regridding is None:
        return []
    share = readout.regridding.noise_sd[0] / readout.regridding.noise_gain
    return [f"in the corners of k-space, regridding leaves {100 * share:.0f} % of the noise's mean SD"]


def calibration_told(acs_size: tuple[int, ...] | None) -> list[str]:
    """How large (kz, ky) a separate calibration scan is, if there is one."""
    return [] if acs_size is None else [f"a separate calibration scan of (kz, ky) = {acs_size} lines is taken along"]


def noise_scan_told(where: str, samples: int, scaling: str = "") -> str:
    """What becomes of a noise scan of so many samples per coil."""
    return (f"the noise scan of {where} is kept, {samples} samples per coil{scaling}: reconstruction pre-whitens with "
            "it, the samples themselves are not whitened")  # fmt: skip
