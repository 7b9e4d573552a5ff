"""Figures of volumetry: DSC over the noise, structures one by one, volumes, and label contours on the images."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.volumetry.engine import SUBCORTICAL, TISSUES
from sn2nlib.evaluation.volumetry.measures import agreement
from sn2nlib.reporting.figures.planes import AXES, GREY_TOP, Plane, cut, draw, head_box, shape_ratio, view, window
from sn2nlib.reporting.figures.sheet import (
    ARM_STYLES,
    BLUE,
    BOTTOM,
    GREEN,
    GREY,
    LINE,
    ORANGE,
    PUBLISHED_STYLE,
    PURPLE,
    SIDE,
    SMALL,
    TOP,
    VERMILION,
    WIDTH,
    Sheet,
    add_legend,
)
from sn2nlib.reporting.html import NAMES
from sn2nlib.reporting.published import Published
from sn2nlib.reporting.volumetry import DSC_METRICS
from sn2nlib.reporting.wording import sentence, signed

_KINDS = {"tissue": "GM, WM, CSF", "subcortical": "15 subcortical structures"}
_ARMS = ("original", "sN2N")
_SKY, _YELLOW, _WHITE = "#56B4E9", "#F0E442", "#FFFFFF"
_TISSUE_COLOURS = {"CSF": _SKY, "GM": _YELLOW, "WM": VERMILION}
# one colour for both sides of a structure
_DEEP_COLOURS = {
    "thalamus": _SKY, "caudate": ORANGE, "putamen": GREEN, "pallidum": _YELLOW, "brainstem": _WHITE,
    "hippocampus": VERMILION, "amygdala": PURPLE, "accumbens": BLUE,
}  # fmt: skip
_COLOURS = {"tissue": _TISSUE_COLOURS, "subcortical": _DEEP_COLOURS}
_ENOUGH = 3  # scans that limits of agreement need
_PITCH, _LETTERS = 4.0, 128  # mm, and letters that fit, of a line below the graphs
_PLANES = {"tissue": "axial", "subcortical": "coronal"}


def dsc_curves(
    table: pd.DataFrame,
    gains: pd.DataFrame,
    published: Published,
    *,
    engines: Mapping[str, str],
    set_name: str = "quantitative",
) -> Sheet:
    """DSC over the added noise, and the share of 1 − DSC that sN2N removes, beside the published ones.

    Parameters
    ----------
    table, gains
        From `sn2nlib.reporting.volumetry`; other sets than `set_name` are ignored.
    published
        The paper's numbers.
    engines
        Kind → name and version of its engine.
    set_name
        "quantitative" or "real_head"; never both in one figure.

    Raises
    ------
    StudyError
        If the table has no rows of this set.
    """
    rows = table[(table["set"] == set_name) & (table["reference"] == "full_sampled")]
    kinds = [kind for kind in _KINDS if DSC_METRICS[kind] in set(rows["metric"])]
    if not kinds:
        raise StudyError(f"the table has no DSC of the set {set_name!r}")
    n, lines = int(rows["n"].max()), _engine_lines({kind: engines[kind] for kind in kinds})
    plural = "s" if n > 1 else ""
    digital = f"{n} digital phantom{plural}, simulated scan{plural}"
    what = "real head, simulated scan" if set_name == "real_head" else digital
    sheet = Sheet(
        "Agreement of segmentations with the fully sampled image’s",
        label=f"{what}; mean{' ± SD' if n > 1 else ''}; published: mean of 19 patients, FSL",
        height=20 + 58 * len(kinds) + _PITCH * len(lines),
    )
    grid = _graphs_above(sheet, len(kinds), 2, lines)
    told = []
    for row, kind in enumerate(kinds):
        part = rows[rows["metric"] == DSC_METRICS[kind]]
        gain = gains[(gains["set"] == set_name) & (gains["metric"] == DSC_METRICS[kind])].sort_values("noise_sigma")
        _draw_dsc(grid[row, 0], part, published, DSC_METRICS[kind])
        _draw_share(grid[row, 1], gain)
        grid[row, 0].set_title(sentence(kind), loc="left", fontsize=8)
        grid[row, 1].set_title("Removed", loc="left", fontsize=8)
        told.append(f"{_KINDS[kind]}: gain " + ", ".join(
            f"{signed(value, 3)} at {level:g} σ" for level, value in zip(gain["noise_sigma"], gain["gain"], strict=True)
        ))  # fmt: skip
    for axes in grid[-1]:
        axes.set_xlabel("added noise (σ)")
    _legends(grid)
    truth = "Truth: the noise-free image, segmented alike."
    sheet.caption = f"{sentence(what)}. {'; '.join(told)}. {truth} {_ran(engines)}"
    return sheet


def structure_plot(
    rows: pd.DataFrame, *, levels: Sequence[float], engines: Mapping[str, str], label: str
) -> Sheet:
    """DSC of every structure at some noise levels: original and sN2N joined by a line.

    Parameters
    ----------
    rows
        From `sn2nlib.evaluation.volumetry.measures.complete_pairs`, of one set.
    levels
        A panel each.
    engines
        Kind → name and version of its engine.
    label
        Second line of the figure.

    Raises
    ------
    StudyError
        If there are no rows.
    """
    rows = rows[(rows["reference"] == "full_sampled") & rows["kind"].isin(list(_KINDS))]
    means = rows.groupby(["structure", "noise_sigma", "arm"])["dice"].mean()
    names = [name for name in (*TISSUES.values(), *_by_side()) if name in set(rows["structure"])]
    levels = [level for level in levels if level in set(rows["noise_sigma"])]
    if not names or not levels:
        raise StudyError("there is no structure to show")
    lines = _engine_lines(engines)
    height = 32 + 5.2 * len(names) + _PITCH * len(lines)
    sheet = Sheet("DSC of every structure with the fully sampled image’s", label=label, height=height)
    grid = _graphs_above(sheet, 1, len(levels), lines, sharey=True)
    places = np.arange(len(names))[::-1]
    worst: list[str] = []
    for axes, level in zip(grid[0], levels, strict=True):
        both = [np.array([means.get((name, level, arm), math.nan) for name in names]) for arm in _ARMS]
        axes.hlines(places, *both, color=GREY, linewidth=0.8)
        for arm, values in zip(_ARMS, both, strict=True):
            style = {key: value for key, value in ARM_STYLES[arm].items() if key != "linestyle"}
            axes.plot(values, places, linestyle="none", label=NAMES[arm], markersize=4.5, **style)
        axes.set_title(f"+{level:g} σ", loc="left", fontsize=8)
        axes.set_xlabel("DSC")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        lost = [name for name, before, after in zip(names, *both, strict=True) if after < before]
        worst.append(f"at {level:g} σ {', '.join(lost) or 'none'}")
    grid[0, 0].set_yticks(places, names)
    add_legend(grid[0, -1])
    sheet.caption = f"{sentence(label)}. Structures whose DSC sN2N lowers: {'; '.join(worst)}. {_ran(engines)}"
    return sheet


def bland_altman_plot(
    rows: pd.DataFrame, *, levels: Sequence[float], engines: Mapping[str, str], label: str
) -> Sheet:
    """Difference of volumes from the reference’s over their mean, with bias and limits of agreement per level and arm.

    Parameters
    ----------
    rows
        As `structure_plot`; all levels, the lighter the marker the less noise was added.
    levels
        Those above 0 get a line at their bias and, of at least 3 scans, at the limits of agreement: images of one head
        at several levels are no sample of heads.
    engines, label
        As `structure_plot`.

    Raises
    ------
    StudyError
        If there are no rows.
    """
    rows = rows[(rows["reference"] == "full_sampled") & rows["arm"].isin(_ARMS)]
    panels = {name: rows[rows["structure"] == name] for name in TISSUES.values()}
    panels["15 subcortical structures"] = rows[rows["kind"] == "subcortical"]
    panels = {name: part for name, part in panels.items() if len(part)}
    if not panels:
        raise StudyError("there are no volumes to show")
    shown = [level for level in levels if level in set(rows["noise_sigma"])]
    lined = [level for level in shown if level > 0] or shown
    limits = rows["scan"].nunique() >= _ENOUGH
    drawn = "bias" + ("; dashed or dotted: limits of agreement, bias ± 1.96 SD" if limits else "")
    shades = f"Fainter = less added noise. Lines at {' and '.join(f'{level:g}' for level in lined)} σ: {drawn}."
    lines = [shades, *_engine_lines(engines)]
    title = "Volumes against those of the fully sampled image (Bland–Altman)"
    sheet = Sheet(title, label=label, height=128 + _PITCH * len(lines))
    grid = _graphs_above(sheet, 2, 2, lines)
    told = []
    for axes, (name, part) in zip(grid.flat, panels.items(), strict=False):
        found = _draw_differences(axes, part, lined)
        axes.set_title(name, loc="left", fontsize=8)
        told.append(f"{name}: " + ", ".join(f"{NAMES[arm]} {text}" for arm, text in found.items()))
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("volume − reference (%)")
    for axes in grid[-1]:
        axes.set_xlabel("mean of both volumes (mL)")
    add_legend(grid[0, 1])
    sheet.caption = (
        f"{sentence(label)}. Every level of added noise. {shades} They describe these images, not a population. "
        f"Bias in percent{' (limits)' if limits else ''}: {'; '.join(told)}. {_ran(engines)}"
    )
    return sheet


def label_overlay(
    images: Mapping[float, Mapping[str, Plane]],
    labels: Mapping[float, Mapping[str, Plane | None]],
    reference: Plane,
    reference_labels: Plane | None,
    *,
    kind: str,
    voxel_size: tuple[float, float, float],
    engine: str,
    label: str,
) -> Sheet:
    """Contours of the labels on original, sN2N and fully sampled image, per noise level.

    Parameters
    ----------
    images, labels : level → arm ("original", "sN2N") → (z, y, x)
        A level's arm without labels, because its segmentation failed, is shown without contours.
    reference, reference_labels : (z, y, x)
        The fully sampled image, and its own labels; None if its segmentation failed.
    kind
        "tissue" (an axial plane) or "subcortical" (a coronal one, enlarged).
    voxel_size
        (z, y, x) in mm.
    engine
        Name and version.
    label
        Second line of the figure.

    Raises
    ------
    StudyError
        If a level lacks an arm, or the reference is empty.
    """
    plane = _PLANES[kind]
    if reference_labels is None:
        reference_labels = np.zeros(reference.shape, np.uint8)
    index = _busiest(reference_labels, plane, kind, cut(reference, plane))
    box = head_box(reference, plane)
    lines = _engine_lines({kind: engine})
    if kind == "subcortical" and reference_labels.any():
        box = _around(np.asarray(reference_labels.any(axis=AXES[plane])).T[::-1, ::-1])
    left, gap = SIDE + 7, 1.0
    width = (WIDTH - left - SIDE - 2 * gap) / 3
    height = width * shape_ratio(box, plane, voxel_size)
    sheet = Sheet(
        f"Labels of {_KINDS[kind]} on original, sN2N and fully sampled image, {plane}",
        label=f"{label}; grey from 0 to the fully sampled image’s {GREY_TOP}",
        height=TOP + 6 + len(images) * (height + gap) + 8 + _PITCH * len(lines) + BOTTOM,
    )
    _write_lines(sheet, lines)
    for column, name in enumerate((*_ARMS, "full_sampled")):
        sheet.write(left + column * (width + gap) + width / 2, TOP + 1.5, _title(name), ha="center")
    limits, failed = (0.0, window(reference)), []
    outlined: set[str] = set()
    for row, (level, arms) in enumerate(images.items()):
        if set(_ARMS) - set(arms):
            raise StudyError(f"the images at {level:g} σ lack an arm; needed are {', '.join(_ARMS)}")
        shown = {name: (arms[name], labels.get(level, {}).get(name)) for name in _ARMS}
        shown["full_sampled"] = reference, reference_labels
        top = TOP + 6 + row * (height + gap)
        sheet.write(SIDE, top + height / 2, f"+{level:g} σ", rotation=90, va="center")
        for column, (name, (image, found)) in enumerate(shown.items()):
            axes = sheet.panel(left + column * (width + gap), top, width, height)
            draw(axes, view(image, plane, index=index)[box], plane=plane, voxel_size=voxel_size, limits=limits)
            if found is None or not found.any():
                failed.append(f"{_title(name)} at {level:g} σ")
            else:
                outlined |= _contours(axes, view(found, plane, index=index)[box], kind)
    _colour_legend(sheet, kind, outlined, bottom=BOTTOM + _PITCH * len(lines) + 0.5)
    without = f" Without labels, since the segmentation was not plausible: {', '.join(failed)}." if failed else ""
    sheet.caption = (
        f"{sentence(label)}, {plane} plane. Every image with the labels found in itself alone; the fully sampled "
        f"image is the same in every row. Engine: {engine}.{without}"
    )
    return sheet


def _engine_lines(engines: Mapping[str, str]) -> list[str]:
    """Lines that name the engines, short enough for the width of the sheet."""
    texts = [f"Engine, {kind.replace('_', ' ')}: {name}" for kind, name in engines.items()]
    return [line for text in texts for line in textwrap.wrap(text, _LETTERS, subsequent_indent="    ")]


def _graphs_above(sheet: Sheet, rows: int, columns: int, lines: Sequence[str], **options: Any) -> Any:
    """Graphs, and below them, above the footer, some lines of text."""
    grid = sheet.graphs(rows, columns, **options)
    low = BOTTOM + _PITCH * len(lines)
    engine: Any = sheet.get_layout_engine()
    engine.set(rect=(0, low / sheet.height, 1, 1 - (TOP + low) / sheet.height))
    _write_lines(sheet, lines)
    return grid


def _write_lines(sheet: Sheet, lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        place = sheet.height - BOTTOM - _PITCH * (len(lines) - number) + 0.5
        sheet.write(SIDE, place, line, size=SMALL, color=GREY)


def _ran(engines: Mapping[str, str]) -> str:
    return "Engines: " + "; ".join(f"{kind.replace('_', ' ')}: {name}" for kind, name in engines.items()) + "."


def _legends(grid: Any) -> None:
    """Legends in the first row; what is published, for which it has no room, below it where there is a second row."""
    rest = grid[-1, 0]
    for line in rest.lines if len(grid) > 1 else []:
        if line.get_label() != "published":
            line.set_label("_")
    for line in grid[0, 0].lines if len(grid) > 1 else []:
        if line.get_label() == "published":
            line.set_label("_")
    for axes in {id(axes): axes for axes in (*grid[0], rest)}.values():
        add_legend(axes)


def _draw_dsc(axes: Axes, rows: pd.DataFrame, published: Published, metric: str) -> None:
    for arm in ("original", "sN2N", "truth"):
        ours = rows[rows["arm"] == arm].sort_values("noise_sigma")
        if ours.empty:
            continue
        style = {**ARM_STYLES[arm], **LINE}
        axes.plot(ours["noise_sigma"], ours["mean"], label=NAMES[arm], **style)
        if arm != "truth":
            yerr = ours["sd"].fillna(0)
            axes.errorbar(ours["noise_sigma"], ours["mean"], yerr=yerr, fmt="none", ecolor=style["color"])
    for arm in _ARMS:
        theirs = published.table2[(published.table2["metric"] == metric) & (published.table2["arm"] == arm)]
        marker = ARM_STYLES[arm]["marker"]
        axes.plot(theirs["noise_sigma"], theirs["mean"], label="published", marker=marker, **PUBLISHED_STYLE)
    axes.set_ylabel("DSC", size=8)


def _draw_share(axes: Axes, gains: pd.DataFrame) -> None:
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.plot(gains["noise_sigma"], gains["share"], label="sN2N", **ARM_STYLES["sN2N"], **LINE)
    axes.plot(gains["noise_sigma"], gains["published_share"], label="published", marker="o", **PUBLISHED_STYLE)
    flat: dict[str, Any] = {"marker": "_", "markersize": 9, "markeredgewidth": 1.6, "linestyle": "none"}
    axes.plot(gains["noise_sigma"], gains["share_bar"], label="bar", color=VERMILION, **flat)
    axes.set_ylabel("% of 1 − DSC", size=8)


def _draw_differences(axes: Axes, rows: pd.DataFrame, levels: Sequence[float]) -> dict[str, str]:
    """Draw one panel; returns each arm's bias and limits at the levels as text."""
    told, top = {}, max(float(rows["noise_sigma"].max()), 1.0)
    axes.axhline(0, color=GREY, linewidth=0.6)
    for arm in _ARMS:
        part, style, texts = rows[rows["arm"] == arm], ARM_STYLES[arm], []
        marks: dict[str, Any] = {"s": 9, "marker": style["marker"], "color": style["color"], "linewidths": 0}
        for level in sorted(set(part["noise_sigma"])):
            same, shade = part[part["noise_sigma"] == level], 0.25 + 0.75 * level / top
            axes.scatter((same["volume_ml"] + same["reference_ml"]) / 2, same["bias_percent"], alpha=shade, **marks)
            if level not in levels:
                continue
            found = agreement(same["bias_percent"].to_numpy())
            line = {"color": style["color"], "linewidth": 1.1, "alpha": shade}
            axes.axhline(found.bias, **line)
            limits = ""
            if same["scan"].nunique() >= _ENOUGH:
                for limit in (found.low, found.high):
                    axes.axhline(limit, linestyle=":" if arm == "sN2N" else "--", **line)
                limits = f" ({signed(found.low, 1)} to {signed(found.high, 1)})"
            texts.append(f"{signed(found.bias, 1)}{limits} at {level:g} σ")
        axes.plot([], [], label=NAMES[arm], marker=style["marker"], color=style["color"], markersize=4, linewidth=1.1)
        told[arm] = ", ".join(texts)
    if rows["volume_ml"].max() > 20 * max(rows["volume_ml"].min(), 1e-3):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    return told


def _contours(axes: Axes, labels: Plane, kind: str) -> set[str]:
    """Outline what the plane holds; returns whose colours were needed."""
    names, outlined = TISSUES if kind == "tissue" else SUBCORTICAL, set()
    colours = _COLOURS[kind]
    for number, name in names.items():
        mask = labels == number
        # the outer tissues' inner boundary is their neighbour's own: three lines, not five
        if kind == "tissue":
            mask = labels >= number
        if mask.any() and not mask.all():
            whose = name if kind == "tissue" else name.split()[-1]
            axes.contour(mask.astype(float), levels=[0.5], colors=[colours[whose]], linewidths=0.8)
            outlined.add(whose)
    return outlined


def _colour_legend(sheet: Sheet, kind: str, outlined: set[str], *, bottom: float) -> None:
    """Whose outlines have which colour, `bottom` mm above the lower edge."""
    colours = {name: colour for name, colour in _COLOURS[kind].items() if name in outlined}
    sheet.line_colours = tuple(colours.values())
    handles = [Line2D([], [], color=colour, linewidth=2, label=name) for name, colour in colours.items()]
    sheet.legend(
        handles=handles, ncols=len(handles), loc="lower left", bbox_to_anchor=(SIDE / WIDTH, bottom / sheet.height),
        fontsize=SMALL, frameon=True, facecolor="#888888", labelcolor="white", handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip


def _busiest(labels: Plane, plane: str, kind: str, usual: int) -> int:
    """The plane with the most subcortical structures and, of those, voxels; the usual cut for tissue."""
    if kind == "tissue" or not labels.any():
        return usual
    others = tuple(other for other in range(3) if other != AXES[plane])
    present = sum((labels == number).any(axis=others).astype(int) for number in SUBCORTICAL)
    voxels = np.count_nonzero(labels, axis=others)
    return int(np.lexsort((voxels, present))[-1])


def _around(mask: Plane, margin: int = 6) -> tuple[slice, slice]:
    """Rows and columns that hold what is True, with a margin in pixels."""
    extents = []
    for axis in (1, 0):
        where = np.flatnonzero(mask.any(axis=axis))
        extents.append(slice(max(int(where[0]) - margin, 0), int(where[-1]) + margin + 1))
    return extents[0], extents[1]


def _title(name: str) -> str:
    return "Fully sampled" if name == "full_sampled" else NAMES[name]


def _by_side() -> list[str]:
    """Subcortical names with left and right beside each other."""
    order = list(_DEEP_COLOURS)
    return sorted(SUBCORTICAL.values(), key=lambda name: (order.index(name.split()[-1]), name))
