"""What the reconstruction promises, measured: value, goal and verdict of every check (``checks.csv``)."""

import math
from collections.abc import Iterable, Mapping
from operator import le, lt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sn2nlib.fourier import ifft
from sn2nlib.recon.grappa import calibrate, fill
from sn2nlib.sampling import acs_region, lattice_mask
from sn2nlib.scans.measured import Brain

COLUMNS = ("check", "scan", "value", "goal", "verdict", "note")
ABSENT = "not on this machine"
# relative RSS errors at R = 2×1 with 24 calibration lines
_BRAIN_GOALS = {"brain8ch_jiawang66.mat": "≤ 0.030", "brain16ch_pulseq_164128.npy": "≤ 0.040"}
_RELATIONS = {"≤": le, "<": lt}


def check(name: str, value: float, *, goal: str = "", scan: str = "", note: str = "") -> dict[str, Any]:
    """One row of the table.

    Parameters
    ----------
    name
        What is measured.
    value
        NaN: could not be measured here, as `note` explains.
    goal
        Relation and bound, as "≤ 0.8" or "< 4"; empty: the value is reported, nothing is asked of it.
    scan, note
        Of which scan; what else there is to know.

    Returns
    -------
    check, scan, value, goal, verdict, note. The verdict is "reached", "missed", "reported", or "not on this machine".
    """
    return dict(zip(COLUMNS, (name, scan, float(value), goal, _verdict(value, goal), note), strict=True))


def difference_checks(ratios: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row per scan: systematic difference E[A] − E[B] over the noise SD of a half.

    Parameters
    ----------
    ratios
        Scan → `sn2nlib.evaluation.participants.pair_numbers`' ``systematic_over_noise``; NaN, for real scans whose
        noise-free k-space nobody knows, gets no row.
    """
    name = "systematic difference of the halves / noise SD of a half (RMS)"
    known = {scan: ratio for scan, ratio in ratios.items() if not math.isnan(ratio)}
    return [check(name, ratio, scan=scan, goal="≤ 0.8") for scan, ratio in known.items()]


def map_checks(errors: Mapping[str, float], *, n_replicas: int) -> list[dict[str, Any]]:
    """Rows for `sn2nlib.recon.map_errors`, in percent: goals for the lattices, none where ACS is used too."""
    scatter = f"{n_replicas} replicas alone scatter by {34 / math.sqrt(n_replicas):.1f} %"
    rows = []
    for image, error in errors.items():
        goal = "" if image.endswith("with ACS") else "< 4"
        name = f"analytic noise map (g-factor) against replicas, {image}, median difference in %"
        rows.append(check(name, 100 * error, goal=goal, scan="small scan", note=scatter))
    return rows


def brain_checks(brains: Iterable[Brain]) -> list[dict[str, Any]]:
    """A row per real brain: what GRAPPA loses of its fully sampled image."""
    rows = []
    for brain in brains:
        error = math.nan if brain.kspace is None else rss_error(brain.kspace)
        note = brain.remedy if brain.kspace is None else "real k-space, R = 2×1 with 24 calibration lines"
        name = "relative RSS error of a real brain"
        rows.append(check(name, error, goal=_BRAIN_GOALS.get(brain.name, ""), scan=brain.name, note=note))
    return rows


def rss_error(kspace: NDArray[np.complex64], *, acceleration: tuple[int, int] = (2, 1), acs: int = 24) -> float:
    """Error of GRAPPA on a fully sampled scan, undersampled: ‖RSS − RSS of all samples‖ / ‖RSS of all samples‖.

    Parameters
    ----------
    kspace : (coil, kz, ky, kx) complex64
        Fully sampled; its coils are combined by the root sum of squares (RSS).
    acceleration, acs
        As in `sn2nlib.sampling.lattice_mask`.
    """
    mask = lattice_mask((kspace.shape[1], kspace.shape[2]), acceleration=acceleration, acs=acs)
    rows, lines = acs_region(mask)
    kernel = calibrate(np.ascontiguousarray(kspace[:, rows, lines]), acceleration=acceleration)
    reference = np.linalg.norm(ifft(kspace), axis=0)
    found = np.linalg.norm(ifft(fill(kspace, mask, kernel)), axis=0)
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))


def _verdict(value: float, goal: str) -> str:
    if math.isnan(value):
        return ABSENT
    if not goal:
        return "reported"
    relation, bound = goal.split()
    return "reached" if _RELATIONS[relation](value, float(bound)) else "missed"
