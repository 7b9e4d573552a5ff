"""A figure for a scan that has no reference: before, after, and what was taken away."""

import numpy as np

from sn2nlib.errors import StudyError
from sn2nlib.reporting.figures.planes import (
    GREY_TOP,
    PERCENTILE,
    Box,
    Plane,
    cut,
    draw,
    head_box,
    shape_ratio,
    view,
    window,
)
from sn2nlib.reporting.figures.sheet import BOTTOM, SIDE, SMALL, TOP, WIDTH, Sheet
from sn2nlib.reporting.wording import sentence

PLANES = ("sagittal", "coronal", "axial")
_GAP = 1.0  # mm between panels
_MAP = "viridis"  # of the noise
_FEWEST, _TALLEST = 8, 3.0  # voxels along a side of a plane that is shown, and its height over its width
_SPREAD = 3.0  # noise SDs at either end of the window of what was removed


def before_after(
    original: Plane,
    sn2n: Plane,
    noise_sd: Plane | None = None,
    *,
    voxel_size: tuple[float, float, float],
    label: str,
    title: str = "Before and after, and what was taken away",
    letters: bool = True,
) -> Sheet:
    """Original, sN2N, their difference and the noise map in three planes, or those that a slab or a slice fills.

    Anatomy in the difference is what a radiologist looks for: noise alone should have been taken away.

    Parameters
    ----------
    original, sn2n : (z, y, x)
        Magnitudes of one unit.
    noise_sd : (z, y, x), optional
        Predicted noise SD of the original. With it the difference is shown in noise SDs, and the map beside it; without
        it, for an image whose k-space is gone, in percent of the grey scale.
    voxel_size
        (z, y, x) in mm.
    label, title
        Second and first line of the figure.
    letters
        Whether to write A/P and R/L; False for an image that does not say how it lies.

    Raises
    ------
    StudyError
        If the arrays differ in shape.
    """
    if not all(np.shape(image) == np.shape(original) for image in (sn2n, noise_sd) if image is not None):
        raise StudyError("original, sN2N and noise map of the figure differ in shape")
    top = window(original)
    removed, limit, unit = _removed(original, sn2n, noise_sd, top)
    columns = ["Original", "sN2N", "Original − sN2N"] + ([] if noise_sd is None else ["Noise SD"])
    width = (WIDTH - 2 * SIDE - (len(columns) - 1) * _GAP) / len(columns)
    boxes = _boxes(original, voxel_size)
    heights = {plane: width * shape_ratio(box, plane, voxel_size) for plane, box in boxes.items()}
    label = f"{label}; grey from 0 to the original’s {GREY_TOP}; difference ±{limit:.2g} {unit}"
    sheet = Sheet(title, label=label, height=TOP + 6 + sum(heights.values()) + len(boxes) * _GAP + 10 + BOTTOM)
    for column, text in enumerate(columns):
        sheet.write(SIDE + column * (width + _GAP) + width / 2, TOP + 1.5, text, ha="center")
    above = TOP + 6
    for plane, box in boxes.items():
        images = [(original, (0.0, top)), (sn2n, (0.0, top)), (removed, (-limit, limit))]
        for column, (volume, limits) in enumerate(images):
            axes = sheet.panel(SIDE + column * (width + _GAP), above, width, heights[plane])
            image = view(volume, plane, index=cut(original, plane))[box]
            draw(axes, image, plane=plane, voxel_size=voxel_size, limits=limits, letters=letters)
        if noise_sd is not None:
            axes = sheet.panel(SIDE + 3 * (width + _GAP), above, width, heights[plane])
            image = 100 / top * view(noise_sd, plane, index=cut(original, plane))[box]
            limits = (0.0, 100 / top * float(np.percentile(noise_sd, PERCENTILE)))
            drawn = draw(
                axes, image, plane=plane, voxel_size=voxel_size, limits=limits, cmap=_MAP, letters=letters
            )
        above += heights[plane] + _GAP
    if noise_sd is not None:
        sheet.colour_map = _MAP
        place = sheet.panel(SIDE + 3 * (width + _GAP) + 2, above + 1, width - 4, 2)
        more = "max" if 100 / top * noise_sd.max() > limits[1] else "neither"
        bar = sheet.colorbar(drawn, cax=place, orientation="horizontal", extend=more)
        bar.ax.tick_params(labelsize=SMALL, pad=1.5, length=2)
        bar.set_label("% of the grey scale", size=SMALL, labelpad=1.5)
    sheet.caption = _caption(label, removed, original, noise_sd is not None)
    return sheet


def _boxes(original: Plane, voxel_size: tuple[float, float, float]) -> dict[str, Box]:
    """Where the head is in the planes that are worth a picture; in the flattest one if none is."""
    boxes = {plane: head_box(original, plane) for plane in PLANES}
    ratios = {plane: shape_ratio(box, plane, voxel_size) for plane, box in boxes.items()}
    sides = {plane: min(part.stop - part.start for part in box) for plane, box in boxes.items()}
    shown = [plane for plane in PLANES if sides[plane] >= _FEWEST and ratios[plane] <= _TALLEST]
    return {plane: boxes[plane] for plane in shown or [min(ratios, key=ratios.__getitem__)]}


def _removed(original: Plane, sn2n: Plane, noise_sd: Plane | None, top: float) -> tuple[Plane, float, str]:
    """What was taken away, half the width of its window, and its unit."""
    difference = np.asarray(original, np.float32) - np.asarray(sn2n, np.float32)
    if noise_sd is not None:
        sd = np.asarray(noise_sd, np.float32)
        return np.divide(difference, sd, out=np.zeros_like(difference), where=sd > 0), _SPREAD, "noise SDs"
    percent = 100 / top * difference
    return percent, float(np.percentile(np.abs(percent), PERCENTILE)) or 1.0, "% of the grey scale"


def _caption(label: str, removed: Plane, original: Plane, in_noise_sds: bool) -> str:
    inside = original > 0.1 * original.max()
    rms = float(np.sqrt(np.mean(np.square(removed[inside], dtype=np.float64))))
    unit = "noise SDs" if in_noise_sds else "% of the grey scale"
    caption = (
        f"{sentence(label)}. Mid-grey in the difference is 0. Inside the head it is {rms:.2f} {unit} (RMS); "
        "edges or structures in it were taken from the image together with noise."
    )
    return caption + (" The noise map is computed from GRAPPA kernels and coil weights." if in_noise_sds else "")
