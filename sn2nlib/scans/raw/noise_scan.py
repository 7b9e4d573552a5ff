"""The noise scan of a raw file: which one serves, and how its samples compare with those of the lines."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from sn2nlib.errors import ScanError
from sn2nlib.scans.proportion import believable
from sn2nlib.scans.raw.in_words import NO_NOISE_SCAN, corners_told, noise_scan_told
from sn2nlib.scans.raw.lines import NOISE, LineTable, RawSource, of_equal_size
from sn2nlib.scans.raw.placement import Readout


@dataclass(frozen=True)
class NoiseScan:
    """What becomes of the noise readouts.

    Attributes
    ----------
    where
        "this measurement", "another measurement", or None: none is used.
    factor
        Noise samples times this have the noise of a sample of k-space.
    does, notes, doubts
        What will be done; why there is none; what was assumed. A sentence each.
    """

    where: str | None = None
    factor: float = 1.0
    does: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def find_noise_scan(source: RawSource, lines: LineTable, readout: Readout, *, averages: int, wanted: bool) -> NoiseScan:
    """Noise readouts, and their factor √(noise dwell / image dwell / bandwidth ratio / averages).

    Of regridded readouts it is that of the mean noise along kx.

    Parameters
    ----------
    source
    lines
        Of the image.
    readout
    averages
        Lines per position, of which the mean is taken.
    wanted
        Whether to look for them at all.

    Raises
    ------
    ScanError
        If they differ in size, or cannot be in the file.
    """
    without = corners_told(readout)
    if not wanted:
        told = "the noise scan is left aside, as asked; the noise is taken from the corners of k-space"
        return NoiseScan(notes=(told, *without))
    noise, where = source.lines[source.lines["role"] == NOISE], "this measurement"
    if not noise.size and source.noise is not None:
        noise, where = source.noise[0], "another measurement"
    if not noise.size:
        return NoiseScan(notes=(NO_NOISE_SCAN, *without))
    coils, samples = of_equal_size(noise, "noise")
    if not believable(8 * len(noise) * coils * samples, source.file_bytes):
        raise ScanError(
            f"a file of {source.file_bytes / 2**20:.1f} MiB cannot hold {len(noise)} noise lines of {coils} coils × "
            f"{samples} samples: its line headers are damaged"
        )
    if coils != readout.coils:
        told = f"the noise scan has {coils} coils, the image {readout.coils}: it is not used"
        return NoiseScan(notes=(told, *without))
    own, image = float(np.median(noise["dwell_us"])), float(np.median(lines["dwell_us"]))
    factor, doubts = 1.0, []
    if own > 0 and image > 0 and 0.01 < own / image < 1000:
        factor = sqrt(own / image / source.header.bandwidth_ratio)
        scaling = (f", scaled by {factor:.2f} = √({own:.3g} µs / {image:.3g} µs / {source.header.bandwidth_ratio:.3g})"
                   ", from dwell times and receiver bandwidth")  # fmt: skip
    elif source.header.record is not None:  # with its noise in the units of the lines
        scaling = ", not scaled, since it was exported so"
    else:
        scaling = ", not scaled, since the dwell times do not tell how"
        doubts.append(_unscaled(own, image))
    factor *= readout.regridding.noise_gain if readout.regridding is not None else 1
    does = (noise_scan_told(where, len(noise) * samples, scaling),)
    return NoiseScan(where, factor / sqrt(averages), does, doubts=tuple(doubts))


def _unscaled(own: float, image: float) -> str:
    """What is in doubt where the dwell times (µs) do not tell how noise readouts compare with lines."""
    of_noise, of_image = (f"{dwell:.4g} µs" if 0 < dwell < np.inf else "unknown" for dwell in (own, image))
    return (f"the dwell times of the noise scan ({of_noise}) and of the image lines ({of_image}) do not tell how their "
            "noise compares: it is taken as equal, so that SNR and noise maps may be off by one factor; with "
            "--no-noise-scan the noise is taken from the corners of k-space")  # fmt: skip
