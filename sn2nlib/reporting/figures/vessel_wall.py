"""Vessel walls: images with magnified vessels, every measure, and sharpness against noise reduction."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.vessel_sites import Site
from sn2nlib.reporting.figures.planes import (
    AXES,
    GREY_TOP,
    Box,
    Plane,
    draw,
    mark,
    pixel_size,
    shape_ratio,
    view,
    window,
)
from sn2nlib.reporting.figures.sheet import (
    BLACK,
    BLUE,
    BOTTOM,
    GREEN,
    ORANGE,
    PURPLE,
    SIDE,
    SMALL,
    TOP,
    VERMILION,
    WIDTH,
    Sheet,
    add_legend,
)
from sn2nlib.reporting.vessel_wall import ARM_NAMES, EDGE_WIDER, MEASURES, SD_LESS
from sn2nlib.reporting.wording import sentence, signed
from sn2nlib.scans.images import voxel_size_of
from sn2nlib.scans.vessels import voxel_positions

_STYLES: dict[str, tuple[str, str]] = {
    "original": (ORANGE, "s"), "sN2N": (BLUE, "o"), "fine_tuned": (GREEN, "D"), "vwi_only": (PURPLE, "v"),
    "blur": (VERMILION, "X"), "noise_free": (BLACK, "^"),
}  # fmt: skip
_SHORT = {
    "original": "Original", "sN2N": "sN2N", "fine_tuned": "Fine-tuned", "vwi_only": "VWI alone", "blur": "Blur"
}  # fmt: skip
_SHOWN = ("cnr_lumen", "cnr_csf", "psnr", "sd_csf", "lumen", "edge_inner_mm", "wall_mm", "lumen_mm2")
_OF_SIGNAL = ("sd_csf", "lumen")  # measured in the units of the image, which have no name
_GAP = 1.0  # mm between panels
_AROUND = (6.0, 9.0)  # mm above and below, and to either side of a vessel that is magnified
_ARROW = (0.4, 3.4)  # mm from the wall: its tip, and its end
_IN_PLANE = 0.3  # of a plaque's direction: what a plane must show of it for the arrow to follow


def vessel_views(
    images: Mapping[str, Plane],
    reference: Plane,
    *,
    affine: np.ndarray,
    marks: Mapping[str, Site],
    named: Mapping[str, str | None],
    label: str,
) -> Sheet:
    """Coronal and axial views of one scan with magnified vessels, as in Figure 6 of the paper.

    Parameters
    ----------
    images
        Arm → (z, y, x), axes right, anterior, superior; one unit.
    reference
        Noise-free image; it sets the grey scale and stands in the last column.
    affine : (4, 4)
        RAS+ affine of the images stored as (x, y, z).
    marks
        Plane ("coronal", "axial") → the vessel that is magnified there and that the arrow points at.
    named
        Plane → the site that the manifest marks; the caption says of any other that a rule chose it.
    label
        Second line of the figure: whose head it is.

    Raises
    ------
    StudyError
        If the images differ in shape, or a marked vessel lies outside of them.
    """
    shown = {**images, "noise_free": reference}
    if any(np.shape(image) != np.shape(reference) for image in images.values()):
        raise StudyError("the images of the vessel wall figure differ in shape")
    voxel_size = voxel_size_of(affine)
    width = (WIDTH - 2 * SIDE - (len(shown) - 1) * _GAP) / len(shown)
    rows = [_Row(plane, site, reference.shape, affine, voxel_size) for plane, site in marks.items()]
    heights = [width * shape_ratio(box, row.plane, voxel_size) for row in rows for box in (row.whole, row.part)]
    label = f"{label}; grey from 0 to the {GREY_TOP}, noise-free image"
    title = "Vessel walls: coronal and axial views, each with a magnified vessel"
    sheet = Sheet(title, label=label, height=TOP + 6 + sum(heights) + len(heights) * _GAP + 2 + BOTTOM)
    for column, arm in enumerate(shown):
        sheet.write(SIDE + column * (width + _GAP) + width / 2, TOP + 1.5, ARM_NAMES[arm], ha="center")
    above, limits = TOP + 6.0, (0.0, window(reference))
    for row in rows:
        for box, whole in ((row.whole, True), (row.part, False)):
            height = width * shape_ratio(box, row.plane, voxel_size)
            for column, volume in enumerate(shown.values()):
                axes = sheet.panel(SIDE + column * (width + _GAP), above, width, height)
                image = view(volume, row.plane, index=row.index)[box]
                draw(axes, image, plane=row.plane, voxel_size=voxel_size, limits=limits, letters=whole)
                if whole:
                    mark(axes, row.part)
                else:
                    row.point(axes, box)
            above += height + _GAP
    sheet.caption = _views_caption(label, rows, named, [arm for arm in ARM_NAMES if arm not in shown])
    return sheet


class _Row:
    """One plane of a scan: where it is cut, the whole of it, and the part around a vessel."""

    def __init__(
        self, plane: str, site: Site, shape: tuple[int, ...], affine: np.ndarray, voxel_size: tuple[float, float, float]
    ) -> None:
        position = voxel_positions(np.array(site.centre), affine)
        if (position < 0).any() or (position > np.array(shape) - 1).any():
            raise StudyError(f"the vessel site {site.name} lies outside of the images")
        axis = AXES[plane]
        self.plane, self.site, self.index = plane, site, round(float(position[axis]))
        across, along = (other for other in range(3) if other != axis)  # columns and rows of the view
        self.row, self.column = shape[along] - 1 - position[along], shape[across] - 1 - position[across]
        self.pixel = pixel_size(plane, voxel_size)
        self.whole: Box = (slice(0, shape[along]), slice(0, shape[across]))
        self.part: Box = (
            _around(self.row, _AROUND[0] / self.pixel[0], shape[along]),
            _around(self.column, _AROUND[1] / self.pixel[1], shape[across]),
        )

    def point(self, axes: Axes, box: Box) -> None:
        """An arrow at the vessel's wall: at its plaque as far as the plane shows it, else from the upper right."""
        row, column = self.row - box[0].start, self.column - box[1].start
        down, right = np.array([-1.0, 1.0]) / np.sqrt(2)
        if self.site.direction is not None:
            # the view runs from superior (or anterior) downwards, and from the patient's right to the left
            seen = np.array([-value for axis, value in enumerate(self.site.direction) if axis != AXES[self.plane]])
            if np.linalg.norm(seen) > _IN_PLANE:
                right, down = seen / np.linalg.norm(seen)
        reach = [self.site.radius + self.site.wall + gap for gap in _ARROW]
        ends = [(column + d * right / self.pixel[1], row + d * down / self.pixel[0]) for d in reach]
        arrow: dict[str, Any] = {"arrowstyle": "-|>", "color": "white", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
        arrow["path_effects"] = [withStroke(linewidth=2.4, foreground="black")]
        axes.annotate("", xy=ends[0], xytext=ends[1], arrowprops=arrow, annotation_clip=False)


def _around(centre: float, reach: float, n: int) -> slice:
    size = min(int(2 * reach), n)
    first = int(np.clip(round(centre - size / 2), 0, n - size))
    return slice(first, first + size)


def _views_caption(label: str, rows: list[_Row], named: Mapping[str, str | None], absent: list[str]) -> str:
    told = [
        f"{row.plane}, {row.site.kind if row.site.kind != 'wall' else 'plain wall'} of {row.site.name.split('-')[0]}, "
        f"{row.site.wall:.2f} mm thick, "
        + ("marked in the manifest" if row.site.name == named.get(row.plane) else "chosen by rule")
        for row in rows
    ]
    left_out = f" Not shown: {'; '.join(ARM_NAMES[arm] for arm in absent)}." if absent else ""
    return f"{sentence(label)}. Boxes are magnified below. Arrows: {'; '.join(told)}.{left_out}"


def vessel_measures(values: pd.DataFrame, *, label: str) -> Sheet:
    """Every scan's measures over the arms, and the level of the noise-free image.

    Parameters
    ----------
    values
        From `sn2nlib.reporting.vessel_wall.per_scan`.
    label
        Second line of the figure.
    """
    arms = [arm for arm in _STYLES if arm != "noise_free" and arm in set(values["arm"])]
    sheet = Sheet("Vessel walls: what is measured, scan by scan", label=label, height=TOP + 95 + BOTTOM)
    grid = sheet.graphs(2, len(_SHOWN) // 2, sharex=True)
    for axes, measure in zip(grid.flat, _SHOWN, strict=True):
        part = values[values["measure"] == measure].pivot(index="scan", columns="arm", values="value")
        known = part.reindex(columns=arms).dropna(how="all")
        axes.plot(range(len(arms)), known.to_numpy().T, color="0.7", linewidth=0.7)
        for place, arm in enumerate(arms):
            colour, marker = _STYLES[arm]
            axes.plot(place, known[arm].mean(), marker=marker, color=colour, markersize=5, linestyle="none")
        if part["noise_free"].notna().any():
            axes.axhline(part["noise_free"].mean(), color=BLACK, linestyle=":", linewidth=1)
        unit = " (a.u.)" if measure in _OF_SIGNAL else ""
        axes.set_title(MEASURES[measure][0].replace(" 10–90 %", "") + unit, size=SMALL)
        axes.set_xticks(range(len(arms)), [_SHORT[arm] for arm in arms], rotation=60, ha="right")
    n = values["scan"].nunique()
    sheet.caption = (
        f"{sentence(label)}. Grey lines: {n} scans; symbols: their means; dotted: the mean of the noise-free images. "
        "Walls under 1.5 voxels enter CNR and noise alone."
    )
    return sheet


def sharpness_plot(values: pd.DataFrame, *, label: str) -> Sheet:
    """Edge width against noise reduction: whoever removes noise by blurring climbs.

    Parameters and errors as `vessel_measures`.
    """
    wide = {name: part.pivot(index="scan", columns="arm", values="value") for name, part in values.groupby("measure")}
    arms = [arm for arm in _STYLES if arm not in ("original", "noise_free") and arm in set(values["arm"])]
    sheet = Sheet("Vessel walls: sharpness against noise reduction", label=label, height=TOP + 85 + BOTTOM)
    axes = sheet.graphs(1, 1)[0, 0]
    told: list[str] = []
    taken: dict[str, float] = {}
    for arm in ("original", *arms):
        colour, marker = _STYLES[arm]
        noise = [wide[name][arm] / wide[name]["original"] for name in ("sd_lumen", "sd_csf")]
        edges = [wide[name][arm] / wide[name]["noise_free"] for name in ("edge_inner_mm", "edge_outer_mm")]
        less, wider = 100 * (1 - (noise[0] + noise[1]) / 2), 100 * ((edges[0] + edges[1]) / 2 - 1)
        known = wider.notna()
        axes.plot(less[known], wider[known], marker=marker, color=colour, markersize=3, alpha=0.5, linestyle="none")
        style: dict[str, Any] = {"marker": marker, "color": colour, "markersize": 8, "linestyle": "none"}
        axes.plot(less[known].mean(), wider[known].mean(), markeredgecolor="black", label=ARM_NAMES[arm], **style)
        taken[arm] = less[known].mean()
        told.append(f"{ARM_NAMES[arm]} {taken[arm]:.0f} % less noise, edges {signed(wider.mean(), 1)} %")
    for level in (-EDGE_WIDER, EDGE_WIDER):
        axes.axhline(level, color="0.5", linestyle="--", linewidth=0.8)
    axes.axvline(SD_LESS, color="0.5", linestyle="--", linewidth=0.8)
    axes.set_xlabel("Noise SD in lumen and CSF, percent below the original’s")
    axes.set_ylabel("Edge width, percent above the noise-free image’s")
    axes.set_title(" ", size=SMALL)  # room for the legend
    add_legend(axes)
    sheet.caption = (
        f"{sentence(label)}. Small symbols: scans with walls of at least 1.5 voxels; large ones: their means. Dashed: "
        f"what the study asks for, at least {SD_LESS:g} % less noise and edges within {EDGE_WIDER:g} %. "
        f"Means: {'; '.join(told)}."
    )
    if {"blur", "sN2N"} <= taken.keys():
        sheet.caption += (
            " The blur’s noise is sN2N’s as the median over the whole object; in lumen and CSF it takes "
            f"{taken['blur']:.0f} % where sN2N takes {taken['sN2N']:.0f} %."
        )
    return sheet
