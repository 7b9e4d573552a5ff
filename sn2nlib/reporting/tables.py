"""Table 2 and the gains, as data frames beside the published numbers.

Units: PSNR in dB, SSIM without, NRMSE in percent; `noise_sigma` is the added noise in units
of the acquired noise SD per channel. Empty (NaN) means "not defined", as the SD and the p-value of a single
scan.
"""

import math
import os
from collections.abc import Sequence
from typing import Any

import pandas as pd

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.statistics import paired_t
from sn2nlib.provenance import atomic_write
from sn2nlib.reporting.published import LOWER_IS_BETTER, Published

METRICS = {"PSNR_dB": "psnr", "SSIM": "ssim", "NRMSE_percent": "nrmse"}
ARMS = ("original", "sN2N", "truth")

_CELL = ["set", "reference", "region", "metric", "noise_sigma"]


def per_scan(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per scan, level, arm and metric (``table2_per_scan.csv``).

    Parameters
    ----------
    rows
        One row per measurement: set, scan, noise_sigma, arm, reference, region, psnr (dB), ssim, nrmse
        (percent). Other columns are ignored.

    Returns
    -------
    set, scan, metric, arm, reference, region, noise_sigma, value.

    Raises
    ------
    StudyError
        For a missing column, an arm of another name, or a scan measured twice.
    """
    keys = ["set", "scan", "arm", "reference", "region", "noise_sigma"]
    missing = [name for name in (*keys, *METRICS.values()) if name not in rows]
    if missing:
        raise StudyError(f"The measurements lack the columns {', '.join(missing)}")
    unknown = sorted(set(rows["arm"]) - set(ARMS))
    if unknown:
        raise StudyError(f"Unknown arm {', '.join(map(repr, unknown))}; known: {', '.join(ARMS)}")
    twice = rows[rows.duplicated(keys)]
    if len(twice):
        raise StudyError(f"Measured twice: {', '.join(f'{key} {twice.iloc[0][key]}' for key in keys)}")
    long = rows.rename(columns={column: metric for metric, column in METRICS.items()})
    long = long.melt(id_vars=keys, value_vars=list(METRICS), var_name="metric", value_name="value")
    return _ordered(long)[["set", "scan", "metric", "arm", "reference", "region", "noise_sigma", "value"]]


def table2(values: pd.DataFrame) -> pd.DataFrame:
    """Mean ± SD over scans, and the paired t-test of sN2N against the original (``table2.csv``).

    Parameters
    ----------
    values
        As returned by `per_scan`.

    Returns
    -------
    set, metric, arm, reference, region, noise_sigma, n, mean, sd, p_value. The p-value stands on both arms
    of its pair, as in the paper, and is empty for the truth; SD and p-value of a single scan are empty. A
    truth that is its own reference has an infinite PSNR.

    Raises
    ------
    StudyError
        If a scan lacks one of the two arms.
    """
    rows = []
    for key, cell in values.groupby(_CELL, sort=False):
        p_value = _p_value(cell)
        for arm, group in cell.groupby("arm", sort=False):
            rows.append(dict(zip(_CELL, key, strict=True)) | {
                "arm": arm, "n": len(group), "mean": float(group["value"].mean()), "sd": _sd(group["value"]),
                "p_value": math.nan if arm == "truth" else p_value,
            })  # fmt: skip
    columns = ["set", "metric", "arm", "reference", "region", "noise_sigma", "n", "mean", "sd", "p_value"]
    return _ordered(pd.DataFrame(rows, columns=columns))


def gains(values: pd.DataFrame, published: Published) -> pd.DataFrame:
    """Improvement of sN2N over the original beside the published one, the bar and the ceiling.

    Parameters
    ----------
    values
        As returned by `per_scan`.
    published
        The paper's numbers and the bars.

    Returns
    -------
    set, reference, region, metric, noise_sigma, n, gain, lowest, ceiling, published, bar, statistic,
    verdict. Gains are in dB for PSNR, without unit for SSIM, and for NRMSE in percent of the original's (how
    much lower); positive is better. `gain` compares the means over scans, `lowest` is the smallest gain of
    any scan, `ceiling` the gain of the exact truth, `published` the paper's (against the full-sampled image
    over the volume, else empty). `verdict`:

    - "reached": the gain is at least the bar (and above 0);
    - "ceiling reached": the truth itself stays below the bar, and sN2N gains at least as much as the truth;
    - "below ceiling": the truth itself stays below the bar, and sN2N gains less than the truth;
    - "missed": the truth reaches the bar, sN2N does not; or there is no truth to ask;
    - empty: no bar is set.
    """
    wide = values.pivot(index=[*_CELL, "scan"], columns="arm", values="value").reindex(columns=list(ARMS))
    rows: list[dict[str, object]] = []
    for key, scans in wide.groupby(level=_CELL, sort=False):
        cell: dict[str, Any] = dict(zip(_CELL, key, strict=True))
        metric, means = cell["metric"], scans.mean(skipna=False)
        gain = _gain(metric, means["original"], means["sN2N"])
        lowest = min(_gain(metric, scan["original"], scan["sN2N"]) for _, scan in scans.iterrows())
        ceiling = _gain(metric, means["original"], means["truth"])
        bar, statistic = _bar(published, cell)
        rows.append(cell | {
            "n": len(scans), "gain": gain, "lowest": lowest, "ceiling": ceiling,
            "published": _published_gain(published, cell), "bar": bar, "statistic": statistic,
            "verdict": verdict(lowest if statistic == "lowest" else gain, bar, ceiling),
        })  # fmt: skip
    return _ordered(pd.DataFrame(rows))


def verdict(gain: float, bar: float, ceiling: float) -> str:
    """One of the words explained in `gains`; a bar of NaN has none, a ceiling of NaN is not known."""
    if math.isnan(bar):
        return ""
    if gain >= bar and gain > 0:
        return "reached"
    if ceiling < bar:
        return "ceiling reached" if gain >= ceiling else "below ceiling"
    return "missed"


def save_csv(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table as CSV with full precision, whole or not at all.

    Raises
    ------
    OSError
        If the disk is full.
    """
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def _sd(values: pd.Series) -> float:
    # an image that is its own reference has an infinite PSNR, and no spread
    return float(values.std()) if len(values) > 1 and values.abs().max() < math.inf else math.nan


def _p_value(cell: pd.DataFrame) -> float:
    """Two-sided p of sN2N against the original over the scans of one cell."""
    pairs = cell.pivot(index="scan", columns="arm", values="value").reindex(columns=["sN2N", "original"])
    if pairs.isna().any(axis=None):
        scan = pairs.index[pairs.isna().any(axis=1)][0]
        first = cell.iloc[0]
        raise StudyError(
            f"Scan {scan} lacks an arm for {first['metric']} at {first['noise_sigma']:g} σ "
            f"({first['reference']}, {first['region']}); measure original and sN2N of every scan"
        )
    return paired_t(pairs["sN2N"], pairs["original"]).p


def _gain(metric: str, original: float, other: float) -> float:
    if metric in LOWER_IS_BETTER:
        return 100 * (1 - other / original)
    return other - original


def _bar(published: Published, cell: dict[str, Any]) -> tuple[float, str]:
    rows = published.bars
    for column in _CELL:
        rows = rows[rows[column] == cell[column]]
    return (float(rows["bar"].iloc[0]), str(rows["statistic"].iloc[0])) if len(rows) else (math.nan, "")


def _published_gain(published: Published, cell: dict[str, Any]) -> float:
    metric, level, rows = cell["metric"], cell["noise_sigma"], published.table2
    known = ((rows["metric"] == metric) & (rows["noise_sigma"] == level)).any()
    if (cell["reference"], cell["region"]) != ("full_sampled", "volume") or not known:
        return math.nan
    return (published.gain_percent if metric in LOWER_IS_BETTER else published.gain)(metric, level)


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Sort rows as the paper does: metrics and arms in their order, levels upward."""
    ranks: dict[str, Sequence[str]] = {
        "set": ("quantitative", "real_head"), "reference": ("full_sampled", "noise_free"),
        "region": ("volume", "head"), "metric": tuple(METRICS), "arm": ARMS,
    }  # fmt: skip

    def rank(column: pd.Series) -> pd.Series:
        known = ranks.get(str(column.name))
        if known is None:
            return column
        return column.map(lambda word: known.index(word) if word in known else len(known))

    keys = [name for name in (*_CELL, "arm", "scan") if name in table]
    return table.sort_values(keys, key=rank, kind="stable", ignore_index=True)
