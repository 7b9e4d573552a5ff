"""Planes of a volume as a radiologist looks at them: upright, the patient's right on the image's left."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from sn2nlib.errors import StudyError
from sn2nlib.reporting.figures.sheet import SMALL

Plane = NDArray[Any]
Box = tuple[slice, slice]

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}  # of (z, y, x) = (right, anterior, superior)
LETTERS = {"sagittal": "AP", "coronal": "RL", "axial": "RL"}  # at the image's left and right
PERCENTILE = 99.5  # of the reference in the middle of the head: top of an image's window
GREY_TOP = f"{PERCENTILE}th percentile in the middle of the head"
_MIDDLE = 0.18  # share of the head's extent that is left out at either end of every axis
# where the head is cut when nobody says, as a share of its extent from its left, posterior, inferior end
_USUAL_CUT = {"sagittal": 0.5, "coronal": 0.5, "axial": 0.62}
_SMALL_IMAGE = 200  # pixels


def view(volume: Plane, plane: str, *, index: int | None = None) -> Plane:
    """A plane of a volume, upright and in radiological convention.

    Parameters
    ----------
    volume : (z, y, x)
        Axes right, anterior, superior.
    plane
        "sagittal" (anterior at the left), "coronal" or "axial" (the patient's right at the left).
    index
        Slice along z, y or x; None: the middle one.

    Returns
    -------
    (row, column), row 0 at the top: superior, in an axial plane anterior.

    Raises
    ------
    StudyError
        For another plane, another number of axes, or a slice outside the volume.
    """
    axis = _axis(plane)
    if volume.ndim != 3:
        raise StudyError(f"a figure shows volumes (z, y, x); got an array of shape {volume.shape}")
    n = volume.shape[axis]
    index = n // 2 if index is None else index
    if not 0 <= index < n:
        raise StudyError(f"there is no {plane} slice {index}; the volume has {n}")
    return np.take(volume, index, axis=axis).T[::-1, ::-1]


def pixel_size(plane: str, voxel_size: tuple[float, float, float]) -> tuple[float, float]:
    """Height and width in mm of a pixel of `view`, from voxels (z, y, x)."""
    column, row = (size for axis, size in enumerate(voxel_size) if axis != _axis(plane))
    return row, column


def cut(volume: Plane, plane: str) -> int:
    """The slice of a head that shows most, for a figure whose caller names none."""
    inside = np.flatnonzero(_bright(volume).any(axis=_others(_axis(plane))))
    return int(inside[0] + round(_USUAL_CUT[plane] * (inside[-1] - inside[0])))


def head_box(volume: Plane, plane: str, *, margin: int = 2) -> Box:
    """Rows and columns of `view` that hold the head, with a margin in pixels."""
    seen = np.asarray(_bright(volume).any(axis=_axis(plane))).T[::-1, ::-1]
    return _extent(np.asarray(seen.any(axis=1)), margin), _extent(np.asarray(seen.any(axis=0)), margin)


def window(reference: Plane) -> float:
    """Top of the grey scale, whose bottom is 0: the 99.5th percentile in the middle of the head.

    Fat close to the coils is far brighter than the brain: over the whole volume it would set the window, and the
    brain be dark.
    """
    bright = _above(reference)
    if not bright.any():
        return 1.0
    z, y, x = (_middle(np.asarray(bright.any(axis=_others(axis)))) for axis in range(3))
    return float(np.percentile(np.abs(reference[z, y, x]), PERCENTILE)) or 1.0


def shape_ratio(box: Box, plane: str, voxel_size: tuple[float, float, float]) -> float:
    """Height over width of a box on paper."""
    row, column = pixel_size(plane, voxel_size)
    rows, columns = (part.stop - part.start for part in box)
    return rows * row / (columns * column)


def draw(
    axes: Axes,
    image: Plane,
    *,
    plane: str,
    voxel_size: tuple[float, float, float],
    limits: tuple[float, float],
    cmap: str = "gray",
    letters: bool = True,
) -> AxesImage:
    """Draw a plane as `view` returns it, in true proportions, with the letters of its two sides.

    Parameters
    ----------
    image : (row, column)
    limits
        Values at the bottom and the top of the colour scale.
    letters
        Whether to write A/P or R/L; an enlarged part goes without, and an image that does not say how it lies.
    """
    row, column = pixel_size(plane, voxel_size)
    # whole pixels stay sharp and compress well; large images would alias
    smooth = "nearest" if max(image.shape) <= _SMALL_IMAGE else "auto"
    shown = axes.imshow(image, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect=row / column, interpolation=smooth)
    axes.set_axis_off()
    if letters:
        on_white = cmap != "gray" or bool(np.isnan(image[0, 0]))
        for letter, x, side in zip(LETTERS[plane], (0.02, 0.98), ("left", "right"), strict=True):
            write_on(axes, x, 0.98, letter, ha=side, va="top", on_white=on_white)
    return shown


def write_on(axes: Axes, x: float, y: float, text: str, *, on_white: bool = False, **style: Any) -> None:
    """White text on a dark veil, readable on any grey, or dark text on a light one; x and y as shares of the panel."""
    ink, edge = ("black", "white") if on_white else ("white", "black")
    outline = [withStroke(linewidth=1.5, foreground=edge)]
    veil = {"boxstyle": "square,pad=0.12", "facecolor": edge, "alpha": 0.5, "linewidth": 0}
    axes.text(x, y, text, transform=axes.transAxes, color=ink, size=SMALL, path_effects=outline, bbox=veil, **style)


def mark(axes: Axes, box: Box) -> None:
    """Draw the outline of a box, white on black."""
    rows, columns = box
    corner = (columns.start - 0.5, rows.start - 0.5)
    size = (columns.stop - columns.start, rows.stop - rows.start)
    for colour, width in (("black", 1.8), ("white", 0.8)):
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=width))


def _axis(plane: str) -> int:
    if plane not in AXES:
        raise StudyError(f"there is no plane {plane!r}; known: {', '.join(AXES)}")
    return AXES[plane]


def _bright(volume: Plane) -> NDArray[np.bool_]:
    bright = _above(volume)
    if not bright.any():
        raise StudyError("the image is empty: there is no head to show")
    return bright


def _above(volume: Plane) -> NDArray[np.bool_]:
    """Voxels that are not background, by the brightest of the whole volume."""
    magnitude = np.abs(volume)
    return np.asarray(magnitude > 0.15 * float(np.percentile(magnitude, PERCENTILE)))


def _others(axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(3) if other != axis)


def _middle(inside: Plane) -> slice:
    where = np.flatnonzero(inside)
    first, last = int(where[0]), int(where[-1])
    margin = int(_MIDDLE * (last + 1 - first))
    return slice(first + margin, last + 1 - margin)


def _extent(inside: Plane, margin: int) -> slice:
    where = np.flatnonzero(inside)
    return slice(max(int(where[0]) - margin, 0), min(int(where[-1]) + margin + 1, len(inside)))
