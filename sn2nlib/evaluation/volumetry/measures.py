"""How well two label maps of one head agree: overlap, volumes, distance of surfaces; and what sets of them say.

    DSC     2|A∩B| / (|A| + |B|) of a structure; an engine's DSC is the mean over its structures, as in the paper
    bias    100·(V − V_ref) / V_ref in percent of the reference's volume
    HD95    95th percentile of the distances from each surface to the other, the larger of the two directions, in mm

References
----------
Dice LR. Ecology 1945;26:297-302. Bland JM, Altman DG. Lancet 1986;327:307-310.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import binary_erosion, distance_transform_edt

from sn2nlib.errors import ImageError, StudyError
from sn2nlib.evaluation.volumetry.engine import TISSUES

_PERCENTILE = 95
_LIMIT = 1.96  # SDs on either side of the mean difference: 95 % of normal differences
_CELL = ["set", "kind", "reference", "noise_sigma", "arm"]
INSIDE = "truth_in_mask"  # as a reference: the true tissues where the image's own labels are
_PAIR = ("original", "sN2N")


def compare(
    labels: np.ndarray,
    reference: np.ndarray,
    structures: Mapping[int, str],
    *,
    voxel_size: tuple[float, float, float],
    surfaces: bool = True,
) -> list[dict[str, Any]]:
    """A row per structure.

    Parameters
    ----------
    labels, reference : (z, y, x) integer
    structures
        Label → name.
    voxel_size
        (z, y, x) in mm.
    surfaces
        Whether to measure the distance of the surfaces, which takes most of the time.

    Returns
    -------
    structure, dice, volume_ml, reference_ml, bias_percent, hd95_mm. A structure that both maps lack has NaN for all but
    its volumes; one that a single map lacks has the DSC 0 and no distance.

    Raises
    ------
    ImageError
        For maps of different shape.
    """
    if labels.shape != reference.shape:
        raise ImageError(f"the label maps differ in shape: {labels.shape} and {reference.shape}")
    box = _box((labels != 0) | (reference != 0))
    labels, reference = labels[box], reference[box]
    millilitre = math.prod(voxel_size) / 1000
    rows = []
    for label, name in structures.items():
        a, b = labels == label, reference == label
        n_a, n_b = int(np.count_nonzero(a)), int(np.count_nonzero(b))
        rows.append({
            "structure": name,
            "dice": 2 * int(np.count_nonzero(a & b)) / (n_a + n_b) if n_a + n_b else math.nan,
            "volume_ml": n_a * millilitre,
            "reference_ml": n_b * millilitre,
            "bias_percent": 100 * (n_a - n_b) / n_b if n_b else math.nan,
            "hd95_mm": surface_distance(a, b, voxel_size=voxel_size) if surfaces else math.nan,
        })  # fmt: skip
    return rows


def surface_distance(
    a: np.ndarray, b: np.ndarray, *, voxel_size: tuple[float, float, float], percentile: float = _PERCENTILE
) -> float:
    """Percentile of the distances from each surface to the nearest point of the other, the larger of the directions.

    A surface is the voxels of a structure that touch what is not of it, along z, y or x.

    Parameters
    ----------
    a, b : (z, y, x) bool
    voxel_size
        (z, y, x) in mm.
    percentile
        95 is robust against single voxels; 100 is the Hausdorff distance.

    Returns
    -------
    mm; NaN if a map is empty.
    """
    if not a.any() or not b.any():
        return math.nan
    box = _box(a | b, margin=1)
    surfaces = [_surface(each[box]) for each in (a, b)]
    distances = [distance_transform_edt(~surface, sampling=voxel_size) for surface in surfaces]
    there, back = distances[1][surfaces[0]], distances[0][surfaces[1]]
    return float(max(np.percentile(there, percentile), np.percentile(back, percentile)))


def per_engine(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean DSC over the structures of each image, as in the paper.

    Parameters
    ----------
    rows
        set, scan, kind, reference, noise_sigma, arm, dice; one row per structure.

    Returns
    -------
    set, scan, kind, reference, noise_sigma, arm, dice, n_structures (that one of the two maps has).
    """
    keys = ["set", "scan", "kind", "reference", "noise_sigma", "arm"]
    means = rows.groupby(keys, sort=False)["dice"].agg(["mean", "count"]).reset_index()
    return means.rename(columns={"mean": "dice", "count": "n_structures"})


@dataclass(frozen=True)
class Agreement:
    """Bland and Altman's numbers of differences: their mean, and where 95 % of them are to be expected.

    Attributes
    ----------
    n
        Number of differences.
    bias, sd
        Mean and sample SD; NaN for none, or for one.
    low, high
        Limits of agreement: bias ∓ 1.96 SD.
    """

    n: int
    bias: float
    sd: float
    low: float
    high: float


def agreement(differences: np.ndarray) -> Agreement:
    """Bland and Altman's numbers.

    Parameters
    ----------
    differences
        (n,) in any unit; NaN, of structures without a reference, do not count.
    """
    values = np.asarray(differences, float)
    values = values[np.isfinite(values)]
    bias = float(values.mean()) if len(values) else math.nan
    sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return Agreement(len(values), bias, sd, bias - _LIMIT * sd, bias + _LIMIT * sd)


def bland_altman(rows: pd.DataFrame) -> pd.DataFrame:
    """Bias and limits of agreement of the volumes, per structure, level and arm, in percent of the reference.

    Parameters
    ----------
    rows
        set, scan, kind, reference, noise_sigma, arm, structure, bias_percent.

    Returns
    -------
    set, kind, reference, noise_sigma, arm, structure, n, bias, sd, low, high (percent). Limits need two scans.
    """
    table = []
    for key, cell in rows.groupby([*_CELL, "structure"], sort=False):
        found = agreement(cell["bias_percent"].to_numpy())
        table.append(dict(zip([*_CELL, "structure"], key, strict=True)) | vars(found))
    return pd.DataFrame(table, columns=[*_CELL, "structure", "n", "bias", "sd", "low", "high"])


def volume_error(rows: pd.DataFrame) -> pd.DataFrame:
    """Sum over GM, WM and CSF of |volume − reference| / reference, averaged over scans, per level and arm.

    Parameters
    ----------
    rows
        Of tissues: set, scan, reference, noise_sigma, arm, structure, bias_percent.

    Returns
    -------
    set, reference, noise_sigma, arm, n, total_percent, and the mean signed bias of each tissue in percent, by its name.
    """
    tissues = rows[(rows["kind"] == "tissue") & (rows["reference"] != INSIDE)]
    table = []
    for key, cell in tissues.groupby(["set", "reference", "noise_sigma", "arm"], sort=False):
        wide = cell.pivot(index="scan", columns="structure", values="bias_percent")
        row = dict(zip(["set", "reference", "noise_sigma", "arm"], key, strict=True))
        total = wide.abs().sum(axis=1, skipna=False).mean()
        table.append(row | {"n": len(wide), "total_percent": float(total)} | wide.mean().to_dict())
    columns = ["set", "reference", "noise_sigma", "arm", "n", "total_percent", *TISSUES.values()]
    return pd.DataFrame(table, columns=columns)


def sign_crossings(levels: np.ndarray, bias: np.ndarray) -> list[tuple[float, float]]:
    """Between which neighbouring levels a bias changes its sign: there it is small by chance, not by merit.

    Parameters
    ----------
    levels, bias
        (n,) rising levels, and the mean bias at each.

    Returns
    -------
    (level before, level after) of each change; a bias of exactly 0 counts with what follows it.
    """
    signs, found = np.sign(np.asarray(bias, float)), []
    last: tuple[float, float] | None = None
    for level, sign in zip(levels, signs, strict=True):
        if sign == 0 or math.isnan(sign):
            continue
        if last is not None and sign != last[1]:
            found.append((float(last[0]), float(level)))
        last = (float(level), float(sign))
    return found


def surface_distances(rows: pd.DataFrame) -> pd.DataFrame:
    """95th-percentile surface distance to the fully sampled image's labels, averaged over structures, then over scans.

    Parameters
    ----------
    rows
        set, scan, kind, reference, noise_sigma, arm, hd95_mm; one row per structure.

    Returns
    -------
    set, kind, noise_sigma, n, original, sN2N, truth (mm; NaN where no scan has the arm).
    """
    rows = rows[rows["reference"] == "full_sampled"]
    keys = ["set", "kind", "noise_sigma"]
    scans = rows.groupby([*keys, "scan", "arm"], sort=False)["hd95_mm"].mean().unstack("arm")
    scans = scans.reindex(columns=[*_PAIR, "truth"])
    cells = scans.groupby(keys, sort=False)
    return cells.mean().assign(n=cells.size()).reset_index()[[*keys, "n", *_PAIR, "truth"]]


def share_removed(original: float, denoised: float) -> float:
    """Share of 1 − DSC that denoising removes, in percent: (DSC_sN2N − DSC_original) / (1 − DSC_original).

    Engines lose differently with noise: of what an engine has lost, this much comes back.

    Returns
    -------
    Percent; NaN where the original lacks nothing.
    """
    return 100 * (denoised - original) / (1 - original) if original < 1 else math.nan


def complete_pairs(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows without failed cases; where one arm fails the other is left out too, so that their means stay comparable.

    Parameters
    ----------
    rows
        set, scan, kind, reference, noise_sigma, arm, failure, …: failure is empty, or says why the image or the one it
        is compared with could not be segmented.

    Returns
    -------
    kept
        Rows of scans and levels whose two arms, original and sN2N, are both plausible.
    excluded
        set, scan, kind, reference, noise_sigma, reason: one row for every pair left out.

    Raises
    ------
    StudyError
        If a scan lacks an arm.
    """
    keys = ["set", "scan", "kind", "reference", "noise_sigma"]
    kept, excluded = [], []
    for key, cell in rows.groupby(keys, sort=False):
        pair = cell[cell["arm"].isin(_PAIR)]
        lacking = [arm for arm in _PAIR if arm not in set(pair["arm"])]
        if lacking:
            where = f"{key[1]} at {key[4]:g} σ ({key[2]}, against {key[3]})"
            raise StudyError(f"{where} lacks the arm {', '.join(lacking)}; segment both arms of every scan")
        failed = pair[pair["failure"] != ""].drop_duplicates(["arm", "failure"])
        if failed.empty:
            kept.append(cell[cell["failure"] == ""])
        else:
            reason = "; ".join(f"{arm}: {failure}" for arm, failure in failed[["arm", "failure"]].to_numpy())
            excluded.append(dict(zip(keys, key, strict=True)) | {"reason": reason})
    together = pd.concat(kept, ignore_index=True) if kept else rows.iloc[:0]
    return together, pd.DataFrame(excluded, columns=[*keys, "reason"])


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~binary_erosion(mask)


def _box(mask: np.ndarray, *, margin: int = 0) -> tuple[slice, ...]:
    """The box of what is True; the whole volume where nothing is."""
    if not mask.any():
        return tuple(slice(None) for _ in mask.shape)
    bounds = []
    for axis in range(mask.ndim):
        where = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        bounds.append(slice(max(int(where[0]) - margin, 0), int(where[-1]) + 1 + margin))
    return tuple(bounds)
