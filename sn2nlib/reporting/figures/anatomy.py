"""Figures of heads: the cohort, original beside sN2N and reference, the whole-brain montage."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.metrics import psnr
from sn2nlib.reporting.figures.planes import (
    GREY_TOP,
    PERCENTILE,
    Box,
    Plane,
    cut,
    draw,
    head_box,
    mark,
    shape_ratio,
    view,
    window,
    write_on,
)
from sn2nlib.reporting.figures.sheet import BOTTOM, DIGITAL_LABEL, SIDE, TOP, WIDTH, Sheet
from sn2nlib.reporting.wording import sentence, signed

Voxel = tuple[float, float, float]
ARMS = {"original": "Original", "sN2N": "sN2N"}
_GAP = 1.0  # mm between panels
# mm from the vertex of the head to below the cerebellum, and the shares of it left out at the lower and the upper end
_BRAIN, _BELOW, _ABOVE = 150.0, 0.1, 0.15
# middle (row, column) and height of the zoomed part, as shares of the head; it is 3:2
_ZOOM = {"sagittal": (0.42, 0.47, 0.30), "coronal": (0.42, 0.5, 0.30), "axial": (0.5, 0.5, 0.32)}


def cohort(
    volumes: Mapping[str, Plane],
    *,
    voxel_size: Voxel,
    label: str = "simulated scans; D: digital phantom, S: real head",
    per_row: int = 3,
    title: str = "Heads of the cohort: a sagittal and an axial plane of each",
) -> Sheet:
    """A sagittal and an axial plane per scan, all at one scale.

    Parameters
    ----------
    volumes : name → (z, y, x)
        Magnitude images, each in its own unit; the name is written above, for example "D001 (training), noisy".
    voxel_size
        (z, y, x) in mm, the same for all.
    label, title
        Second and first line of the figure.
    per_row
        Scans per row.
    """
    if not volumes:
        raise StudyError("there is no scan to show")
    boxes = {p: _union([head_box(volume, p) for volume in volumes.values()]) for p in ("sagittal", "axial")}
    # one scale in mm for both planes, so that a pair of panels fills its share of the width
    width = (WIDTH - 2 * SIDE) / per_row
    extents = {plane: _extent_mm(box, plane, voxel_size) for plane, box in boxes.items()}
    scale = (width - 3 * _GAP) / sum(extent[1] for extent in extents.values())
    height = max(extent[0] for extent in extents.values()) * scale
    pitch = height + 5.5
    rows = math.ceil(len(volumes) / per_row)
    sheet = Sheet(
        title,
        label=f"{label}; grey from 0 to each scan’s {GREY_TOP}",
        height=TOP + BOTTOM + rows * pitch,
    )
    for number, (name, volume) in enumerate(volumes.items()):
        left, top = SIDE + number % per_row * width, TOP + number // per_row * pitch
        sheet.write(left, top + 0.8, name)
        for plane, (_, extent) in extents.items():
            axes = sheet.panel(left, top + 4.5, extent * scale, height)
            image = view(volume, plane, index=cut(volume, plane))[boxes[plane]]
            draw(axes, image, plane=plane, voxel_size=voxel_size, limits=(0, window(volume)))
            left += extent * scale + _GAP
    sheet.caption = (
        f"{len(volumes)} scans ({', '.join(volumes)}), {label}: magnitude images, sagittal and axial, "
        "at one scale; R right, L left, A anterior, P posterior."
    )
    return sheet


def comparison(
    images: Mapping[float, Mapping[str, Plane]],
    reference: Plane,
    *,
    voxel_size: Voxel,
    plane: str = "sagittal",
    index: int | None = None,
    zoom: tuple[float, float, float] | None = None,
    label: str = DIGITAL_LABEL,
    title: str | None = None,
    noise_free: Plane | None = None,
    head: Plane | None = None,
) -> Sheet:
    """Original, sN2N and fully sampled image with their residuals, per noise level (Figures 3, 5, S4-S6).

    Parameters
    ----------
    images : level → arm ("original", "sN2N") → (z, y, x)
        Magnitudes in the unit of `reference`; the level is the added noise in σ.
    reference : (z, y, x)
        The fully sampled image.
    voxel_size
        (z, y, x) in mm.
    plane, index
        Which plane; None: a middle one of the head.
    zoom
        Middle (row, column) and height of the enlarged part, as shares of the head in this plane.
    label, title
        Second and first line of the figure.
    noise_free, head : (z, y, x)
        The truth in the unit of `reference`, and where the head is; with both, the PSNR inside the head against
        the truth is printed too.

    Raises
    ------
    StudyError
        If a level lacks an arm, or the reference is empty.
    """
    _check_arms(images)
    box = head_box(reference, plane)
    part = _zoom_box(box, plane, voxel_size, zoom or _ZOOM[plane])
    index = cut(reference, plane) if index is None else index
    cutting = _Cut(plane, index, voxel_size, box, part, window(reference))
    truth = None if noise_free is None or head is None else (noise_free, head)
    left = SIDE + 7
    width = (WIDTH - left - SIDE - 4 * _GAP) / 5
    pitch = sum(cutting.heights(width)) + 2 * _GAP + 1.5
    sheet = Sheet(
        title or f"Original, sN2N and fully sampled image over the added noise, {plane}",
        label=f"{label}; grey from 0 to the reference’s {GREY_TOP} (100 %)",
        height=TOP + 6 + len(images) * pitch + BOTTOM,
    )
    for column, text in enumerate([*ARMS.values(), "Fully sampled", "Original − full", "sN2N − full"]):
        sheet.write(left + column * (width + _GAP) + width / 2, TOP + 1.5, text, ha="center")
    scores = []
    for row, (level, arms) in enumerate(images.items()):
        top = TOP + 6 + row * pitch
        shown = [arms[arm] for arm in ARMS]
        told = [_scores(volume, shown[0], reference, truth) for volume in shown]
        spread = _draw_level(sheet, (left, top, width), shown, reference, cutting, told)
        text = f"{_added(level)}, residuals ±{100 * spread:.2g} %"
        sheet.write(SIDE, top + sum(cutting.heights(width)) / 2, text, rotation=90, va="center")
        scores.append(
            f"{_added(level)}, " + " and ".join(f"{_psnr(volume, reference):.1f}" for volume in shown) + " dB"
        )
    sheet.caption = (
        f"{sentence(label)}, {plane} plane, the framed part enlarged below. Residuals against the fully sampled image: "
        "mid-grey is 0, bright where the image is brighter; their window, in percent of the images’ own, is one for a "
        "level, in all planes. σ: noise SD of the acquired k-space samples. PSNR of original and sN2N over the whole "
        f"volume, against the fully sampled image: {'; '.join(scores)}."
        f"{'' if truth is None else ' “Head”: PSNR inside it, against the noise-free image; in brackets the gain.'}"
    )
    return sheet


def montage(
    original: Plane,
    sn2n: Plane,
    *,
    voxel_size: Voxel,
    slices: int = 12,
    per_row: int = 6,
    label: str = DIGITAL_LABEL,
    title: str = "The whole brain, original and sN2N",
) -> Sheet:
    """Axial planes through the whole head, original above, sN2N below (Figure S3).

    Parameters
    ----------
    original, sn2n : (z, y, x)
        Magnitudes of one unit.
    voxel_size
        (z, y, x) in mm.
    slices, per_row
        Number of planes, evenly spaced from below the cerebellum to the vertex of the brain, and how many stand in
        a row.
    label, title
        Second and first line of the figure.
    """
    positions = _brain_planes(original, voxel_size[2], slices)
    box, limits = head_box(original, "axial"), (0.0, window(original))
    width = (WIDTH - 2 * SIDE - (per_row - 1) * _GAP) / per_row
    height = width * shape_ratio(box, "axial", voxel_size)
    block = math.ceil(slices / per_row) * (height + _GAP) + 5
    sheet = Sheet(
        title,
        label=f"{label}; axial, grey from 0 to the original’s {GREY_TOP}",
        height=TOP + 2 * block + BOTTOM,
    )
    for number, volume in enumerate((original, sn2n)):
        top = TOP + number * block
        sheet.write(SIDE, top + 0.5, list(ARMS.values())[number], weight="bold")
        for count, position in enumerate(positions):
            row, column = divmod(count, per_row)
            axes = sheet.panel(SIDE + column * (width + _GAP), top + 4.5 + row * (height + _GAP), width, height)
            image = view(volume, "axial", index=int(position))[box]
            draw(axes, image, plane="axial", voxel_size=voxel_size, limits=limits)
    spacing = float(np.mean(np.diff(positions))) * voxel_size[2] if slices > 1 else 0.0
    sheet.caption = (
        f"{sentence(label)}: {slices} axial planes, {spacing:.0f} mm apart, from the cerebellum upward, of the "
        "original (above) and of sN2N (below), in one window."
    )
    return sheet


@dataclass(frozen=True)
class _Cut:
    """Where volumes are cut, what is shown of the cut, and the top of the grey scale."""

    plane: str
    index: int
    voxel_size: Voxel
    box: Box
    part: Box
    top: float

    def heights(self, width: float) -> tuple[float, float]:
        """Heights on paper of the whole panel and of the enlarged one, both `width` wide."""
        whole, enlarged = (width * shape_ratio(box, self.plane, self.voxel_size) for box in (self.box, self.part))
        return whole, enlarged

    def view(self, volume: Plane) -> Plane:
        """The plane of a volume."""
        return view(volume, self.plane, index=self.index)


def _draw_level(
    sheet: Sheet,
    place: tuple[float, float, float],
    arms: list[Plane],
    reference: Plane,
    cutting: _Cut,
    scores: list[str],
) -> float:
    """One noise level: arms, reference, residuals, each whole and enlarged. Returns the residuals' window."""
    residuals = [arm - reference for arm in arms]
    # over the whole volumes, so that figures of other planes have the same window
    spread = _spread(np.stack(residuals) / cutting.top)
    left, top, width = place
    whole, enlarged = cutting.heights(width)
    for column, volume in enumerate([*arms, reference, *residuals]):
        limits = (0.0, cutting.top) if column < 3 else (-spread * cutting.top, spread * cutting.top)
        options: dict[str, Any] = {"plane": cutting.plane, "voxel_size": cutting.voxel_size, "limits": limits}
        image, x = cutting.view(volume), left + column * (width + _GAP)
        axes = sheet.panel(x, top, width, whole)
        draw(axes, image[cutting.box], **options)
        mark(axes, _inside(cutting.part, cutting.box))
        if column < len(arms):
            write_on(axes, 0.02, 0.02, scores[column], va="bottom")
        draw(sheet.panel(x, top + whole + _GAP, width, enlarged), image[cutting.part], letters=False, **options)
    return spread


def _check_arms(images: Mapping[float, Mapping[str, Plane]]) -> None:
    lacking = [f"{arm} at {level:g} σ" for level, arms in images.items() for arm in ARMS if arm not in arms]
    if lacking or not images:
        raise StudyError(f"the comparison lacks {', '.join(lacking) or 'images'}")


def _psnr(volume: Plane, reference: Plane) -> float:
    return psnr(volume, reference, data_range=float(reference.max()))


def _scores(volume: Plane, original: Plane, reference: Plane, truth: tuple[Plane, Plane] | None) -> str:
    """What is written on a panel: PSNR of the whole volume and, where the truth is known, in the head."""
    text = f"PSNR {_psnr(volume, reference):.1f} dB, volume"
    if truth is None:
        return text
    noise_free, head = truth
    options: dict[str, Any] = {"data_range": float(noise_free.max()), "mask": head}
    score = psnr(volume, noise_free, **options)
    gain = "" if volume is original else f" ({signed(score - psnr(original, noise_free, **options), 1)})"
    return f"{text}\n{score:.1f} dB{gain}, head"


def _added(level: float) -> str:
    return f"+{level:g} σ of noise" if level else "no noise added"


def _brain_planes(volume: Plane, spacing: float, count: int) -> NDArray[np.int_]:
    """Axial slices from below the cerebellum to the top of the brain, as far as the head goes; neck and scalp are not
    the brain's.
    """
    inside = head_box(volume, "sagittal", margin=0)[0]
    n = volume.shape[2]
    bottom, top = n - inside.stop, n - 1 - inside.start
    height = min(_BRAIN / spacing, float(top - bottom))
    return np.rint(np.linspace(top - (1 - _BELOW) * height, top - _ABOVE * height, count)).astype(int)


def _spread(residuals: Plane) -> float:
    """Half width of a symmetric window: a high percentile, rounded to two digits."""
    return float(f"{np.percentile(np.abs(residuals), PERCENTILE):.2g}") or 0.01


def _union(boxes: list[Box]) -> Box:
    rows, columns = zip(*boxes, strict=True)
    return _hull(rows), _hull(columns)


def _hull(parts: tuple[slice, ...]) -> slice:
    return slice(min(part.start for part in parts), max(part.stop for part in parts))


def _extent_mm(box: Box, plane: str, voxel_size: Voxel) -> tuple[float, float]:
    """Height and width of a box in mm of the head."""
    ratio = shape_ratio(box, plane, voxel_size)
    column = voxel_size[1] if plane == "sagittal" else voxel_size[0]
    width = (box[1].stop - box[1].start) * column
    return ratio * width, width


def _zoom_box(box: Box, plane: str, voxel_size: Voxel, zoom: tuple[float, float, float]) -> Box:
    """The part to enlarge, half as high again wide on paper, kept inside the head's box."""
    heights, widths = (part.stop - part.start for part in box)
    height = max(round(zoom[2] * heights), 2)
    # shape_ratio of a box of `heights` by `widths` gives the pixels' own ratio
    pixel = shape_ratio(box, plane, voxel_size) * widths / heights
    width = min(max(round(1.5 * height * pixel), 2), widths)
    rows = _placed(box[0].start + zoom[0] * heights, height, box[0])
    return rows, _placed(box[1].start + zoom[1] * widths, width, box[1])


def _placed(middle: float, size: int, within: slice) -> slice:
    start = min(max(round(middle - size / 2), within.start), within.stop - size)
    return slice(start, start + size)


def _inside(part: Box, box: Box) -> Box:
    """A box in the coordinates of the box that holds it."""
    rows, columns = (slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
    return rows, columns
