"""Figures of the reader study: bars of scores, fine structures and lesions, original beside sN2N."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, Patch

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.readers.criteria import ARMS, LESION
from sn2nlib.reporting.figures.planes import AXES, Plane, draw, pixel_size, view, write_on
from sn2nlib.reporting.figures.sheet import BOTTOM, GREY, NORMAL, SIDE, SMALL, TOP, VERMILION, WIDTH, Sheet
from sn2nlib.reporting.wording import mean_sd, sentence

# from bad (dark, warm) to good (dark, cold), told apart with any colour vision and by their place in a bar
SCORE_COLOURS = ("#8C510A", "#D8A54A", "#E8E3D3", "#8CC4D6", "#0F5A8A")
_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
_BAR = 3.1  # mm, height of a bar; the arms of a parameter touch
_PITCH = 9.0  # mm from one parameter to the next
_HEADS = 5.0  # mm for the readers' names
_BARS = 0.62  # share of a reader's width that the bars and the arms' names have
_NAMES = 39.0  # mm for the parameters' names
_GAP = 1.0
_ARROW = 9.0  # mm of the head: length of an arrow
_LARGEST = 0.42  # of a panel: radius of a ring around what fills the panel
# top of a window: a little above this percentile of the original in the middle of the panel, where no fat is
_TOP, _ABOVE = 99.0, 1.1
_WINDOW = f"both arms in one window, from 0 to {_ABOVE:g} times the original’s {_TOP:g}th percentile in its middle"


def stars(p: float) -> str:
    """Significance as printed: *** p < 0.001, ** p < 0.01, * p < 0.05, else "n.s."; empty where p is not defined."""
    if math.isnan(p):
        return ""
    return next((mark for limit, mark in _STARS if p < limit), "n.s.")


def score_bars(
    counts: pd.DataFrame, comparison: pd.DataFrame, *, groups: Sequence[str], title: str, label: str
) -> Sheet:
    """How often each score was given, per parameter, reader and arm (Figure 2; S7).

    Parameters
    ----------
    counts
        Of `sn2nlib.evaluation.readers.summary.score_counts`.
    comparison
        Of `compare_arms`: means, SDs and p.
    groups
        Which groups of parameters are shown, one under the other.
    title, label
        First and second line of the figure; the label says whose scores they are.

    Raises
    ------
    StudyError
        If no parameter of these groups was scored.
    """
    shown = comparison[comparison["group"].isin(groups)]
    if shown.empty:
        raise StudyError(f"nobody scored {', '.join(groups)}, so there are no bars to draw")
    parameters, readers = shown.drop_duplicates("parameter"), list(dict.fromkeys(shown["reader"]))
    sheet = Sheet(title, label=label, height=TOP + _HEADS + len(parameters) * _PITCH + 8 + BOTTOM)
    width = (WIDTH - _NAMES - SIDE) / len(readers)
    height = len(parameters) * _PITCH
    for row, name in enumerate(parameters["title"]):
        sheet.write(SIDE, TOP + _HEADS + (row + 0.5) * _PITCH, name, va="center")
    for column, reader in enumerate(readers):
        left = _NAMES + column * width
        sheet.write(left + 0.18 * _BARS * width, TOP + 1, reader, weight="bold")
        sheet.write(left + _BARS * width + 1, TOP + 1, "mean ± SD", color=GREY, size=SMALL)
        axes = sheet.panel(left, TOP + _HEADS, _BARS * width, height)
        own = counts[counts["reader"] == reader]
        for row, parameter in enumerate(parameters["parameter"]):
            _draw_bars(axes, own[own["parameter"] == parameter], row)
            found = shown[(shown["reader"] == reader) & (shown["parameter"] == parameter)]
            _write_numbers(sheet, found, left + _BARS * width + 1, TOP + _HEADS + (row + 0.5) * _PITCH)
        _finish_bars(axes, height)
    handles = [Patch(facecolor=colour, edgecolor=GREY, linewidth=0.4) for colour in SCORE_COLOURS]
    names = [f"score {score}" for score in range(1, 6)]
    sheet.legend(
        handles, names, loc="lower left", bbox_to_anchor=(_NAMES / WIDTH, (BOTTOM - 1) / sheet.height), ncols=5,
        fontsize=SMALL, frameon=False, handlelength=1.2, columnspacing=1.2, borderpad=0,
    )  # fmt: skip
    sheet.caption = _bars_caption(shown, label)
    return sheet


def fine_structures(
    images: Mapping[str, Plane],
    marks: Sequence[Mapping[str, Any]],
    *,
    voxel_size: tuple[float, float, float],
    label: str,
    title: str = "Fine structures, original and sN2N",
    planes: Mapping[str, str] | None = None,
    extent: float = 56.0,
) -> Sheet:
    """Each structure magnified in both arms, its place ringed in a third panel (Figure 3).

    Parameters
    ----------
    images : arm → (z, y, x)
        Magnitudes of one unit.
    marks
        Of `sn2nlib.evaluation.readers.cases.load_marks`; of each structure the first side is shown.
    voxel_size
        (z, y, x) in mm.
    label, title
        Second and first line of the figure.
    planes
        Parameter → plane; coronal for those that are not named.
    extent
        mm of the head that a panel shows.
    """
    first = {str(mark["parameter"]): mark for mark in reversed(marks) if mark["parameter"] != LESION}
    chosen = list(reversed(first.values()))
    if not chosen:
        raise StudyError("no fine structure can be shown: the scan is too coarse for all of them")
    columns, per_row = 3, 2
    width = (WIDTH - 2 * SIDE - 4) / (columns * per_row) - _GAP
    pitch = width + 6
    rows = math.ceil(len(chosen) / per_row)
    sheet = Sheet(title, label=label, height=TOP + rows * pitch + BOTTOM + 1)
    sheet.line_colours = (VERMILION,)
    for number, mark in enumerate(chosen):
        plane = (planes or {}).get(str(mark["parameter"]), "coronal")
        left = SIDE + number % per_row * (columns * (width + _GAP) + 4)
        above = TOP + number // per_row * pitch
        sheet.write(left, above + 0.6, f"{mark['name']}, {plane}")
        for column, (arm, ringed) in enumerate((("original", False), ("sN2N", False), ("sN2N", True))):
            axes = sheet.panel(left + column * (width + _GAP), above + 4.5, width, width)
            image, (row, col) = _part(images[arm], mark["index"], plane, voxel_size, extent)
            limits = _limits(images["original"], mark["index"], plane, voxel_size, extent)
            draw(axes, image, plane=plane, voxel_size=voxel_size, limits=limits, letters=False)
            write_on(axes, 0.03, 0.03, arm, va="bottom")
            if ringed:
                radius = min(float(mark["radius"]), _LARGEST * extent)
                high, wide = (2 * radius / size for size in pixel_size(plane, voxel_size))
                axes.add_patch(Ellipse((col, row), wide, high, fill=False, edgecolor=VERMILION, linewidth=0.9))
    told = ", ".join(str(mark["name"]) for mark in chosen)
    sheet.caption = (
        f"{sentence(label)}: {told}; {extent:g} mm of the head in each panel, {_WINDOW}; the ring in the third panel "
        "shows where to look. Radiological convention: the patient’s right at the left."
    )
    return sheet


def lesion_examples(
    cases: Sequence[tuple[str, Mapping[str, Plane], Mapping[str, Any], str]],
    *,
    voxel_size: tuple[float, float, float],
    label: str,
    title: str = "Lesions, original and sN2N",
    extent: float = 50.0,
) -> Sheet:
    """Lesions magnified in both arms, an arrow at each (Figures 4 and S2).

    Parameters
    ----------
    cases
        (name, arm → (z, y, x), mark of the lesion, what is written below) of every lesion. Whose measures are written
        there must be said in the label.
    voxel_size
        (z, y, x) in mm.
    label, title
        Second and first line of the figure.
    extent
        mm of the head that a panel shows.
    """
    if not cases:
        raise StudyError("there is no lesion to show")
    per_row = 3
    width = (WIDTH - 2 * SIDE - 2 * 3) / (2 * per_row) - _GAP
    pitch = width + 10
    sheet = Sheet(title, label=label, height=TOP + math.ceil(len(cases) / per_row) * pitch + BOTTOM)
    sheet.line_colours = (VERMILION,)
    for number, (name, images, mark, told) in enumerate(cases):
        left = SIDE + number % per_row * (2 * (width + _GAP) + 3)
        above = TOP + number // per_row * pitch
        sheet.write(left, above + 0.6, f"{name}, {mark['name']}")
        limits = _limits(images["original"], mark["index"], "axial", voxel_size, extent)
        for column, arm in enumerate(ARMS):
            axes = sheet.panel(left + column * (width + _GAP), above + 4.5, width, width)
            image, (row, col) = _part(images[arm], mark["index"], "axial", voxel_size, extent)
            draw(axes, image, plane="axial", voxel_size=voxel_size, limits=limits, letters=column == 0)
            write_on(axes, 0.03, 0.03, arm, va="bottom")
            _point(axes, row, col, float(mark["radius"]), pixel_size("axial", voxel_size)[1])
        sheet.write(left, above + 5.2 + width, told, size=SMALL, color=GREY)
    heads = len({name for name, *_ in cases})
    sheet.caption = (
        f"{sentence(label)}: {len(cases)} lesions of {heads} head{'s' if heads > 1 else ''}, axial, {extent:g} mm of "
        f"the head in each panel, {_WINDOW}; the arrow points at the lesion. "
        + "; ".join(f"{name}, {mark['name']}: {told}" for name, _, mark, told in cases)
        + "."
    )
    return sheet


def _part(
    volume: Plane, index: Sequence[float], plane: str, voxel_size: tuple[float, float, float], extent: float
) -> tuple[Plane, tuple[float, float]]:
    """The surroundings of a place (z, y, x) in a plane, and where in them (row, column) it is."""
    axis = AXES[plane]
    shown = view(volume, plane, index=int(np.clip(round(index[axis]), 0, volume.shape[axis] - 1)))
    column_at, row_at = (place for number, place in enumerate(index) if number != axis)
    row, column = shown.shape[0] - 1 - row_at, shown.shape[1] - 1 - column_at
    parts = []
    for place, n, size in zip((row, column), shown.shape, pixel_size(plane, voxel_size), strict=True):
        length = min(max(round(extent / size), 4), n)
        start = int(np.clip(round(place - length / 2), 0, n - length))
        parts.append(slice(start, start + length))
    return shown[parts[0], parts[1]], (row - parts[0].start, column - parts[1].start)


def _limits(
    original: Plane, index: Sequence[float], plane: str, voxel_size: tuple[float, float, float], extent: float
) -> tuple[float, float]:
    """The window of a panel, the same for both arms."""
    middle, _ = _part(original, index, plane, voxel_size, extent / 2)
    return 0.0, _ABOVE * float(np.percentile(middle, _TOP)) or 1.0


def _point(axes: Axes, row: float, column: float, radius: float, pixel: float) -> None:
    """An arrow from the lower right to the rim of a lesion."""
    near, far = (length / pixel / math.sqrt(2) for length in (radius, radius + _ARROW))
    for colour, line in (("white", 2.4), (VERMILION, 1.2)):
        axes.annotate(
            "", (column + near, row + near), (column + far, row + far), annotation_clip=True,
            arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": line, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def _draw_bars(axes: Axes, counts: pd.DataFrame, row: int) -> None:
    for number, arm in enumerate(ARMS):
        place = (row + 0.5) * _PITCH + (number - 0.5) * (_BAR + 0.3)
        left = 0.0
        own = counts[counts["arm"] == arm].sort_values("score")
        for score, count, fraction in zip(own["score"], own["count"], own["fraction"], strict=True):
            share = 100 * float(fraction)
            colour = SCORE_COLOURS[int(score) - 1]
            axes.barh(place, share, _BAR, left, color=colour, edgecolor="white", linewidth=0.4)
            if share >= 9:
                ink = "white" if int(score) in (1, 5) else "black"
                axes.text(left + share / 2, place, str(count), ha="center", va="center", size=SMALL, color=ink)
            left += share
        axes.text(-2, place, arm, ha="right", va="center", size=SMALL, color=GREY)


def _finish_bars(axes: Axes, height: float) -> None:
    axes.set(xlim=(-22, 100), ylim=(height, 0), yticks=[], xticks=[0, 50, 100])
    axes.set_xticklabels(["0", "50", "100 %"])
    axes.tick_params(labelsize=SMALL, length=2, pad=1)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_bounds(0, 100)


def _write_numbers(sheet: Sheet, found: pd.DataFrame, left: float, middle: float) -> None:
    for row in found.to_dict("records"):
        for number, arm in enumerate(ARMS):
            place = middle + (number - 0.5) * (_BAR + 0.3)
            told = mean_sd(row[f"{arm}_mean"], row[f"{arm}_sd"], 1)
            sheet.write(left, place, told, va="center", size=NORMAL)
        sheet.write(left + 15.5, middle, stars(float(row["p"])), va="center", size=NORMAL)


def _bars_caption(shown: pd.DataFrame, label: str) -> str:
    cases = ", ".join(f"{n}" for n in sorted(set(shown["n"])))
    parts = []
    for reader, rows in shown.groupby("reader", sort=False):
        better = int((rows["p"] < 0.05).sum())
        parts.append(f"{reader}: p < 0.05 in {better} of {len(rows)} parameters")
    return (
        f"{sentence(label)}. Share of cases with each score from 1 (worst) to 5; their number stands in the bars; "
        f"n = {cases} cases. Two-sided Wilcoxon signed-rank test as SPSS computes it, sN2N against original: "
        f"* p < 0.05, ** p < 0.01, *** p < 0.001, not adjusted; n.s. otherwise. {'; '.join(parts)}."
    )
