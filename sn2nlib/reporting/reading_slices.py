"""One slice of a volume as a PNG of the size it has on the screen, drawn in milliseconds: the reading room's eyes."""

import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sn2nlib.reporting.figures.planes import AXES, LETTERS, pixel_size, view

UPRIGHT = {"axial": "AP", "coronal": "SI", "sagittal": "SI"}  # letters at the top and the bottom
_BLUE, _PALE, _GREY = (110, 195, 255), (225, 242, 255), (190, 190, 190)


@dataclass(frozen=True)
class Look:
    """How both images of a case are looked at.

    Attributes
    ----------
    plane, index
        Slice `index` along the axis that is perpendicular to sagittal, coronal or axial.
    low, high
        Values shown black and white.
    zoom
        1: the whole slice fits the canvas.
    centre
        What lies in the middle of the canvas: mm right of and below the middle of the slice, on the screen.
    """

    plane: str
    index: int
    low: float
    high: float
    zoom: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Circle:
    """A sphere around a structure, at a voxel (z, y, x); radius in mm."""

    name: str
    voxel: tuple[float, float, float]
    radius: float


def draw_slice(
    volume: np.ndarray,
    look: Look,
    *,
    voxel_size: tuple[float, float, float],
    canvas: tuple[int, int],
    circles: Iterable[Circle] = (),
) -> bytes:
    """Draw a slice, upright and in radiological convention, with the letters of its sides.

    Parameters
    ----------
    volume : (z, y, x) float
        Axes right, anterior, superior.
    look
        Plane, slice, window, zoom and centre.
    voxel_size
        (z, y, x) in mm.
    canvas
        Width and height in pixels.
    circles
        Structures to mark, where they meet the slice.

    Returns
    -------
    PNG: nothing is lost but beyond 8 bits of the window.
    """
    grey = _to_grey(view(volume, look.plane, index=look.index), look)
    place = Placement(grey.shape, look, voxel_size, canvas)
    picture = Image.new("RGB" if circles else "L", canvas)
    if place.is_visible:
        shown = Image.fromarray(grey).resize(place.size, Image.Resampling.BICUBIC, box=place.source)
        picture.paste(shown, place.corner)
    pen = ImageDraw.Draw(picture)
    for circle in circles:
        _draw_circle(pen, circle, look, place, volume.shape, voxel_size)
    _write_letters(pen, look, canvas, volume.shape)
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return file.getvalue()


def slice_count(volume: np.ndarray, plane: str) -> int:
    """How many slices a volume (z, y, x) has in a plane."""
    return volume.shape[AXES[plane]]


def along(plane: str, voxel: tuple[float, float, float]) -> float:
    """Slice number of a voxel (z, y, x)."""
    return voxel[AXES[plane]]


def offset(
    voxel: tuple[float, float, float], plane: str, shape: tuple[int, ...], voxel_size: tuple[float, float, float]
) -> tuple[float, float]:
    """How far a voxel (z, y, x) lies right of and below the middle of a slice on the screen, in mm."""
    column, row = (axis for axis in range(3) if axis != AXES[plane])
    # both axes of a view run against those of the volume
    right, down = (((shape[axis] - 1) / 2 - voxel[axis]) * voxel_size[axis] for axis in (column, row))
    return right, down


class Placement:
    """Where a slice lies on the canvas.

    Attributes
    ----------
    scale
        Pixels of the canvas per mm.
    middle
        Of the slice, on the canvas.
    corner, size, source
        The visible part: its corner and size on the canvas, and its box in the slice.
    """

    def __init__(
        self, shape: tuple[int, ...], look: Look, voxel_size: tuple[float, float, float], canvas: tuple[int, int]
    ) -> None:
        """Place a slice of `shape` (rows, columns), for the other parameters see `draw_slice`."""
        height, width = pixel_size(look.plane, voxel_size)
        rows, columns = shape
        self.scale = look.zoom * min(canvas[0] / (columns * width), canvas[1] / (rows * height))
        pixel = width * self.scale, height * self.scale
        x, y = (n / 2 - away * self.scale for n, away in zip(canvas, look.centre, strict=True))
        self.middle = x, y
        corner = x - columns * pixel[0] / 2, y - rows * pixel[1] / 2
        starts, stops, boxes = [], [], []
        for start, n, size, limit in zip(corner, (columns, rows), pixel, canvas, strict=True):
            first, last = max(0, round(start)), min(limit, round(start + n * size))
            starts.append(first)
            stops.append(last)
            boxes.append((max(0.0, (first - start) / size), min(float(n), (last - start) / size)))
        self.corner = starts[0], starts[1]
        self.size = stops[0] - starts[0], stops[1] - starts[1]
        self.source = boxes[0][0], boxes[1][0], boxes[0][1], boxes[1][1]

    @property
    def is_visible(self) -> bool:
        """Whether any of the slice lies on the canvas."""
        return min(self.size) > 0


def _to_grey(plane: np.ndarray, look: Look) -> np.ndarray:
    share = (plane - look.low) * (255.0 / max(look.high - look.low, 1e-12))
    return np.clip(share + 0.5, 0, 255).astype(np.uint8)


def _draw_circle(
    pen: ImageDraw.ImageDraw,
    circle: Circle,
    look: Look,
    place: Placement,
    shape: tuple[int, ...],
    voxel_size: tuple[float, float, float],
) -> None:
    """A circle where the sphere meets the slice."""
    axis = AXES[look.plane]
    away = abs(look.index - circle.voxel[axis]) * voxel_size[axis]
    if away >= circle.radius:
        return
    right, down = offset(circle.voxel, look.plane, shape, voxel_size)
    x, y = place.middle[0] + right * place.scale, place.middle[1] + down * place.scale
    radius = (circle.radius**2 - away**2) ** 0.5 * place.scale
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_BLUE, width=2)
    pen.text((x, y + radius + 4), circle.name, fill=_PALE, font=_font(15), anchor="mt", stroke_width=2, stroke_fill=0)


def _write_letters(
    pen: ImageDraw.ImageDraw, look: Look, canvas: tuple[int, int], shape: tuple[int, ...]
) -> None:
    width, height = canvas
    ink = 255 if pen.mode == "L" else (255, 255, 255)
    dim = _GREY[0] if pen.mode == "L" else _GREY
    left, right, top, bottom = tuple(LETTERS[look.plane] + UPRIGHT[look.plane])
    places = {left: (10, height // 2, "lm"), right: (width - 10, height // 2, "rm")}
    places |= {top: (width // 2, 6, "mt"), bottom: (width // 2, height - 6, "mb")}
    for letter, (x, y, anchor) in places.items():
        pen.text((x, y), letter, fill=ink, font=_font(20), anchor=anchor, stroke_width=2, stroke_fill=0)
    told = f"{look.plane} {look.index + 1}/{shape[AXES[look.plane]]}"
    pen.text((10, height - 8), told, fill=dim, font=_font(14), anchor="lb", stroke_width=2, stroke_fill=0)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
