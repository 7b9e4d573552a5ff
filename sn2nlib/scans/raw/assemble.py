"""Readout lines → `Scan`: samples put where the plan says, oversampling removed, averages taken."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ScanError
from sn2nlib.scans.raw.lines import NOISE, LineTable, RawSource
from sn2nlib.scans.raw.oversampling import without_oversampling
from sn2nlib.scans.raw.placement import Readout
from sn2nlib.scans.raw.plan import Plan, Rows
from sn2nlib.scans.room import zeros
from sn2nlib.scans.scan import Scan

_CHUNK_BYTES = 2**26  # of lines at a time

Reader = Callable[[Rows], NDArray[np.complex64]]


def assemble(source: RawSource, plan: Plan, folder: Path | None = None) -> Scan:
    """Read the lines of a plan into a scan, its k-space into files in a folder if there is one.

    1. Reversed lines are flipped, discarded samples zeroed, asymmetric echoes filled with zeros about their centre,
       readouts sampled on gradient ramps regridded.
    2. Readout oversampling is removed by cropping the image of the readout: the noise per sample stays.
    3. Lines go to their places, the mean of the averages is taken.
    4. Noise readouts are scaled to the noise of a sample of k-space.

    Raises
    ------
    ScanError
        If samples are missing from the file, or are no numbers.
    """
    return Scan(
        kspace=_gathered(source, plan, plan.rows, folder=folder),
        repeat=_gathered(source, plan, plan.repeat_rows, folder=folder) if plan.repeat_rows.size else None,
        **besides_kspace(source, plan),
    )


def besides_kspace(source: RawSource, plan: Plan) -> dict[str, Any]:
    """All other arguments of `Scan`."""
    info = {
        "source": source.header.kind,
        "geometry": plan.geometry,
        "field_strength": source.header.field_strength,
        "dwell_us": plan.dwell_us,
        "done": list(plan.does),
        "notes": [*plan.notes, *plan.doubts],
    }
    return {
        "mask": plan.mask,
        "acceleration": plan.acceleration,
        "caipi_shift": plan.caipi_shift,
        "voxel_size": plan.voxel_size,
        "affine": plan.affine,
        "noise": _noise(source, plan),
        "info": info,
        "acs": _calibration(source, plan),
        "not_for_training": plan.not_for_training,
        "kx_acquired": plan.readout.acquired,
    }


def partitions(source: RawSource, plan: Plan, rows: Rows) -> Iterator[NDArray[np.complex64]]:
    """One partition (coil, ky, kx) after the other, in the order of kz: for scans larger than memory."""
    order = plan.kz.index(source.lines["kz"][rows])
    for z in range(plan.shape[0]):
        yield _gathered(source, plan, rows[order == z], only=z)[:, 0]


def _gathered(
    source: RawSource, plan: Plan, rows: Rows, *, only: int | None = None, folder: Path | None = None
) -> NDArray[np.complex64]:
    """K-space of these lines, or the one partition `only` that they belong to; with a folder, in a file there."""
    nz, ny, nx = plan.shape
    kspace = zeros((plan.readout.coils, nz if only is None else 1, ny, nx), folder)
    step = max(1, _CHUNK_BYTES // (8 * plan.readout.coils * plan.readout.full))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        lines = source.lines[part]
        samples = placed_samples(source.read(part), lines, plan.readout)
        z, y = plan.kz.index(lines["kz"]) - (only or 0), plan.ky.index(lines["ky"])
        for number, line in enumerate(samples):  # one by one: averages of a position may meet in one chunk
            kspace[:, z[number], y[number]] += line
    if plan.averages > 1:
        kspace /= np.float32(plan.averages)
    return kspace


def placed_samples(samples: NDArray[np.complex64], lines: LineTable, readout: Readout) -> NDArray[np.complex64]:
    """Lines (line, coil, sample) as acquired → (line, coil, kx), centre at n // 2.

    Parameters
    ----------
    samples : (line, coil, sample) complex64
    lines : (line,)
        Their rows of the table.
    readout
    """
    if samples.shape[1:] != (readout.coils, readout.samples):
        raise ScanError(f"a line holds {samples.shape[1:]} samples (coil, kx), not {(readout.coils, readout.samples)}")
    if readout.regridding is not None:
        return without_oversampling(readout.regridding.apply(samples, lines["reversed"]), readout.n)
    number = np.arange(readout.samples)
    kept = (number >= lines["before"][:, None]) & (number < readout.samples - lines["after"][:, None])
    untouched = kept.all() and not lines["reversed"].any()
    forwards = samples if untouched else np.where(kept[:, None], samples, np.complex64(0))
    forwards[lines["reversed"]] = forwards[lines["reversed"]][..., ::-1]
    full = np.zeros((*samples.shape[:2], readout.full), dtype=np.complex64)
    first, end = max(0, readout.start), min(readout.full, readout.start + readout.samples)
    full[..., first:end] = forwards[..., first - readout.start : end - readout.start]
    return without_oversampling(full, readout.n)


def _calibration(source: RawSource, plan: Plan) -> NDArray[np.complex64] | None:
    if plan.acs_box is None or plan.acs_readout is None:
        return None
    (z_box, y_box), rows = plan.acs_box, plan.acs_rows
    lines = source.lines[rows]
    samples = placed_samples(source.read(rows), lines, plan.acs_readout)
    acs = np.zeros((samples.shape[1], z_box.stop - z_box.start, y_box.stop - y_box.start, samples.shape[2]),
                   dtype=np.complex64)  # fmt: skip
    z, y = plan.kz.index(lines["kz"]) - z_box.start, plan.ky.index(lines["ky"]) - y_box.start
    acs[:, z, y] = samples.transpose(1, 0, 2)
    return acs


def _noise(source: RawSource, plan: Plan) -> NDArray[np.complex64] | None:
    if plan.noise_from is None:
        return None
    if plan.noise_from == "this measurement":
        lines, read = source.lines, source.read
    else:
        assert source.noise is not None
        lines, read = source.noise
    samples = read(np.flatnonzero(lines["role"] == NOISE))
    return samples.transpose(1, 0, 2).reshape(samples.shape[1], -1) * np.float32(plan.noise_factor)
