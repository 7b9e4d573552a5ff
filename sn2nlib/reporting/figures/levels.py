"""Figure of Table 2: image quality over the added noise, and what sN2N gains, beside the published numbers."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from sn2nlib.errors import StudyError
from sn2nlib.reporting.figures.sheet import ARM_STYLES, GREY, LINE, PUBLISHED_STYLE, VERMILION, Sheet, add_legend
from sn2nlib.reporting.html import NAMES
from sn2nlib.reporting.published import LOWER_IS_BETTER, Published
from sn2nlib.reporting.tables import METRICS
from sn2nlib.reporting.wording import sentence, signed

_PAPER, _INSIDE = ("full_sampled", "volume"), ("noise_free", "head")  # what is compared, and where
_GAIN_AXIS = {"PSNR_dB": "PSNR gain (dB)", "SSIM": "SSIM gain", "NRMSE_percent": "NRMSE reduction (%)"}


def noise_level_curves(
    table: pd.DataFrame, published: Published, *, set_name: str = "quantitative", label: str | None = None
) -> Sheet:
    """PSNR, SSIM and NRMSE over the added noise, and the gains with bar and truth, beside the published ones.

    The first two rows are the paper's: over the whole volume, against the fully sampled image. The third is what
    counts for a reader: inside the head, against the noise-free image.

    Parameters
    ----------
    table
        As returned by `sn2nlib.reporting.tables.table2`; other sets than `set_name` are ignored.
    published
        The paper's numbers and the bars.
    set_name
        "quantitative" or "real_head"; never both in one figure.
    label
        Second line of the figure; by default what the set is.

    Raises
    ------
    StudyError
        If the table has no rows of this set against both references.
    """
    rows = table[table["set"] == set_name]
    volume, inside = _cells(rows, _PAPER), _cells(rows, _INSIDE)
    if volume.empty or inside.empty:
        raise StudyError(f"the table lacks rows of the set {set_name!r} against one of the references")
    n = int(rows["n"].max())
    what = "real head, simulated scan" if set_name == "real_head" else f"{n} digital phantoms, simulated scans"
    sheet = Sheet(
        "Image quality over the noise level, and the gain of sN2N",
        label=f"{label or what}; {'mean ± SD' if n > 1 else 'a single scan'}; published: mean of 19 patients",
        height=190,
    )
    grid = sheet.graphs(3, 3)
    bars = published.bars[published.bars["set"] == set_name]
    for column, metric in enumerate(METRICS):
        _draw_quality(grid[0, column], volume, published, metric)
        _draw_gain(grid[1, column], volume, metric, bar=_cells(bars, _PAPER), published=published)
        _draw_gain(grid[2, column], inside, metric, bar=_cells(bars, _INSIDE), published=None)
        grid[2, column].set_xlabel("added noise (σ)")
    for row, (text, (reference, region)) in enumerate((("Quality", _PAPER), ("Gain", _PAPER), ("Gain", _INSIDE))):
        grid[row, 0].set_title(f"{text}: {NAMES[region]}, against the {NAMES[reference]}", loc="left", fontsize=8)
        add_legend(grid[row, 2])
    gains = [_told(part) for part in (volume, inside)]
    sheet.caption = (
        f"{sentence(label or what)}. PSNR gain of sN2N over the original: over the whole volume, against the fully "
        f"sampled image, {gains[0]}; inside the head, against the noise-free image, {gains[1]}. "
        "Truth: the gain of the exact truth; where it leaves a panel it lies above. Against the fully sampled image "
        "sN2N may gain more than the truth: what it keeps of the original shares noise with that reference."
    )
    return sheet


def _cells(rows: pd.DataFrame, where: tuple[str, str]) -> pd.DataFrame:
    return rows[(rows["reference"] == where[0]) & (rows["region"] == where[1])]


def _means(rows: pd.DataFrame, metric: str, arm: str) -> pd.Series:
    part = rows[(rows["metric"] == metric) & (rows["arm"] == arm)]
    return part.set_index("noise_sigma").sort_index()["mean"]


def _gain(rows: pd.DataFrame, metric: str, arm: str) -> pd.Series:
    """Improvement of an arm over the original, by level; NRMSE in percent of the original's."""
    original, other = _means(rows, metric, "original"), _means(rows, metric, arm)
    return 100 * (1 - other / original) if metric in LOWER_IS_BETTER else other - original


def _draw_quality(axes: Axes, rows: pd.DataFrame, published: Published, metric: str) -> None:
    for arm in ("original", "sN2N"):
        ours = rows[(rows["metric"] == metric) & (rows["arm"] == arm)].sort_values("noise_sigma")
        style = {**ARM_STYLES[arm], **LINE}
        axes.plot(ours["noise_sigma"], ours["mean"], label=NAMES[arm], **style)
        # a single scan has no SD
        axes.errorbar(ours["noise_sigma"], ours["mean"], yerr=ours["sd"].fillna(0), fmt="none", ecolor=style["color"])
    for arm in ("original", "sN2N"):
        theirs = _means(published.table2, metric, arm)
        marker = ARM_STYLES[arm]["marker"]
        axes.plot(theirs.index, theirs, label="published", marker=marker, **PUBLISHED_STYLE)
    axes.set_ylabel(NAMES[metric], size=8)


def _draw_gain(axes: Axes, rows: pd.DataFrame, metric: str, *, bar: pd.DataFrame, published: Published | None) -> None:
    gain, ceiling = _gain(rows, metric, "sN2N"), _gain(rows, metric, "truth").dropna()
    bar = bar[(bar["metric"] == metric) & bar["noise_sigma"].isin(gain.index)].sort_values("noise_sigma")
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.plot(gain.index, gain, label="sN2N", **ARM_STYLES["sN2N"], **LINE)
    shown = [gain, bar["bar"]]
    if len(ceiling):
        axes.plot(ceiling.index, ceiling, label="truth", **ARM_STYLES["truth"], **LINE)
    if published is not None:
        theirs = _gain(published.table2, metric, "sN2N")
        axes.plot(theirs.index, theirs, label="published", marker="o", **PUBLISHED_STYLE)
        shown.append(theirs)
    flat: dict[str, Any] = {
        "marker": "_",
        "markersize": 9,
        "markeredgewidth": 1.6,
        "linestyle": "none",
        "color": VERMILION,
    }
    axes.plot(bar["noise_sigma"], bar["bar"], label="bar", **flat)
    # the ceiling rises to many times the gains at high noise; the panel is theirs
    values = np.concatenate([part.to_numpy(dtype=float) for part in shown])
    high, low = (
        max(float(values.max()), 0.0),
        min(float(values.min()), float(ceiling.min()) if len(ceiling) else 0.0, 0.0),
    )
    room = 0.08 * (high - low) or 1.0
    axes.set_ylim(low - room, high + (6 if len(ceiling) else 1) * room)
    axes.set_ylabel(_GAIN_AXIS[metric], size=8)


def _told(rows: pd.DataFrame) -> str:
    gain = _gain(rows, "PSNR_dB", "sN2N")
    levels = [level for level in (gain.index[0], 1.0, gain.index[-1]) if level in gain.index]
    return ", ".join(f"{signed(gain[level], 1)} dB at {level:g} σ" for level in dict.fromkeys(levels))
