"""How the method works: the network and its training, and what becomes of a conventional image, with real images."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from sn2nlib.errors import StudyError
from sn2nlib.reporting.figures.planes import GREY_TOP, Plane, cut, draw, head_box, shape_ratio, view, window
from sn2nlib.reporting.figures.sheet import (
    BLUE,
    BOTTOM,
    DIGITAL_LABEL,
    GREY,
    ORANGE,
    SIDE,
    SMALL,
    TOP,
    VERMILION,
    WIDTH,
    Sheet,
)
from sn2nlib.reporting.wording import sentence

IMAGES = ("half_a", "half_b", "output_a", "original", "output", "sN2N")
LOSSES = {"l2": "mean squared error", "l1": "mean absolute error"}
_PLANE = "sagittal"  # of the partitions
# mm: width of an image in training and at the test; from one partition of a window to the next; room for a line of text
_SMALL, _LARGE, _STEP, _LINE = 25.0, 34.0, 1.3, 3.2
_FIRST, _LAST, _SUM = 54.0, 133.0, 146.5  # mm from the left: first and last block of the network, and the sum after it
# mm: height and width of the finest level's blocks; then, on paper, of a level over that above it
_TALL, _THIN, _LOWER, _WIDER = 22.0, 1.5, 0.6, 1.3
_GAP = 0.5  # mm between blocks of a level
_UNDER = 8.2  # mm under a level, for its numbers

Voxel = tuple[float, float, float]
Level = tuple[int, int, int]
Point = tuple[float, float]


def method(
    images: Mapping[str, Plane],
    *,
    architecture: Mapping[str, Any],
    alpha: float,
    mirrors: int = 1,
    loss: str = "l2",
    voxel_size: Voxel,
    index: int | None = None,
    label: str = DIGITAL_LABEL,
    title: str = "The network in training and at the test",
) -> Sheet:
    """The 2.5D U-Net between its real input and target, and the α blend of a conventional image (Figure 1b and c).

    Parameters
    ----------
    images
        (z, y, x) magnitudes of one scan, one unit: half_a, half_b, output_a (the network's answer to half A),
        original, output (its answer to the original), sN2N (their blend).
    architecture
        `UNet25D.architecture`: width, depth, slices, bias, unshuffle; the drawing follows from it.
    alpha
        Share of the original in the blend.
    mirrors
        Over how many mirror images an answer is averaged at the test.
    loss
        "l2" or "l1".
    voxel_size
        (z, y, x) in mm.
    index
        Which sagittal partition; None: a middle one of the head.
    label, title
        Second and first line of the figure.

    Raises
    ------
    StudyError
        If an image is missing, the images differ in shape, or the loss is another.
    """
    missing = [name for name in IMAGES if name not in images]
    if missing:
        raise StudyError(f"the drawing of the method lacks {', '.join(missing)}")
    if len({np.shape(images[name]) for name in IMAGES}) > 1:
        raise StudyError("the images in the drawing of the method differ in shape")
    if loss not in LOSSES:
        raise StudyError(f"there is no loss {loss!r}; known: {', '.join(LOSSES)}")
    levels = network_levels(architecture, np.shape(images["original"])[1:])
    drawing = _Drawing(images, index, voxel_size, title, label, levels)
    drawing.training(levels, architecture, LOSSES[loss])
    drawing.test(alpha, mirrors)
    drawing.sheet.caption = _caption(label, levels, architecture, alpha, mirrors, LOSSES[loss])
    return drawing.sheet


def network_levels(architecture: Mapping[str, Any], shape: tuple[int, ...]) -> list[Level]:
    """Channels, rows and columns of the network's levels for a partition (y, x), the finest first."""
    width, depth, unshuffle = (int(architecture[name]) for name in ("width", "depth", "unshuffle"))
    multiple = unshuffle * 2**depth
    y, x = (-(-n // multiple) * multiple for n in shape)
    sizes = [unshuffle * 2**level for level in range(depth + 1)]
    return [(width * 2**level, y // size, x // size) for level, size in enumerate(sizes)]


class _Place(NamedTuple):
    """Where a level stands, in mm: top and height, left and right end of its blocks on the way down and up."""

    top: float
    tall: float
    down: Point
    up: Point


class _Drawing:
    """The sheet, a canvas in mm over all of it, and the images that stand on both."""

    def __init__(
        self, images: Mapping[str, Plane], index: int | None, voxel_size: Voxel, title: str, label: str,
        levels: list[Level],
    ) -> None:  # fmt: skip
        original = images["original"]
        self.images, self.voxel_size = images, voxel_size
        self.index = cut(original, _PLANE) if index is None else index
        self.box, self.limits = head_box(original, _PLANE), (0.0, window(original))
        self.ratio = shape_ratio(self.box, _PLANE, voxel_size)
        network = sum(_TALL * _LOWER**level + _UNDER for level in range(len(levels)))
        self.second = TOP + max(network + 22, 2 * _SMALL * self.ratio + 36)
        text = f"{label}; {_PLANE} partitions, grey from 0 to the original’s {GREY_TOP}"
        self.sheet = Sheet(title, label=text, height=self.second + _LARGE * self.ratio + 21 + BOTTOM)
        self.sheet.line_colours = (BLUE, ORANGE, VERMILION)
        self.canvas = self.sheet.panel(0, 0, WIDTH, self.sheet.height)
        self.canvas.set(xlim=(0, WIDTH), ylim=(self.sheet.height, 0))
        self.canvas.set_axis_off()

    def training(self, levels: list[Level], architecture: Mapping[str, Any], loss: str) -> None:
        """A window of one half, the network, its answer, and the other half as its target."""
        self.sheet.write(
            SIDE, TOP + 0.8, "b   Training: one half in, the other half as its target; and the reverse", weight="bold"
        )
        slices, tall = int(architecture["slices"]), _SMALL * self.ratio
        reach, top = (slices - 1) * _STEP, TOP + 17.0
        middle = top + (tall + reach) / 2
        self._window(SIDE, top, slices)
        told = f"Half A: {slices} partitions around z\n(framed) as channels" if slices > 1 else "Half A: partition z"
        self._write(SIDE, top + tall + reach + 1, told, ha="left")
        right, answer = WIDTH - SIDE - _SMALL, middle - tall / 2
        target = answer + tall + 15
        self._image("output_a", right, answer, _SMALL)
        self._image("half_b", right, target, _SMALL)
        self._write(right + _SMALL / 2, answer - 1.0, "Answer, partition z", va="baseline")
        self._write(right + 4, target - 1.0, "Target: half B", ha="left", va="baseline")
        self._arrow((right + 2, answer + tall + 0.4), (right + 2, target - 0.4), style="<|-|>", color=VERMILION)
        told = f"loss: {loss}".replace("mean ", "mean\n")
        self._write(right + 4, answer + tall + 1.6, told, ha="left", color=VERMILION)
        blocks = self._network(levels, middle)
        self._arrow((SIDE + _SMALL + reach + 0.6, middle), (blocks[0], middle))
        self._write(
            (SIDE + _SMALL + reach + blocks[0]) / 2, middle - _LINE, str(slices * architecture["unshuffle"] ** 2)
        )
        self._arrow((blocks[1], middle), (_SUM - 1.8, middle))
        self._add(_SUM, middle)
        self._arrow((_SUM + 1.8, middle), (right - 0.4, middle))
        centre = SIDE + slices // 2 * _STEP + _SMALL / 2
        over = top - 5.5
        self._path([(centre, top + reach - slices // 2 * _STEP), (centre, over), (_SUM, over), (_SUM, middle - 1.8)])
        self._write((_FIRST + _LAST) / 2, over - _LINE + 0.1, "partition z itself: the network learns its correction")
        self._legend(top + tall + reach + 12, architecture)

    def test(self, alpha: float, mirrors: int) -> None:
        """A conventional image, the network's answer, and the blend of both."""
        heading = "c   Test: the conventional image in, nothing is split"
        self.sheet.write(SIDE, self.second + 0.8, heading, weight="bold")
        top, tall, second, third = self.second + 9.5, _LARGE * self.ratio, 86.0, WIDTH - SIDE - _LARGE
        middle, below, plus = top + tall / 2, top + tall + 5.0, (second + _LARGE + third) / 2
        texts = {"original": "Original", "output": "Network output", "sN2N": "sN2N"}
        for (name, text), left in zip(texts.items(), (SIDE, second, third), strict=True):
            self._write(left + _LARGE / 2, top - 1.0, text, va="baseline")
            self._image(name, left, top, _LARGE)
        glyph = (SIDE + _LARGE + second) / 2
        self._arrow((SIDE + _LARGE + 0.5, middle), (glyph - 12, middle))
        self._arrow((glyph + 12, middle), (second - 0.5, middle))
        self._glyph(glyph, middle)
        mean = f"mean of {mirrors}\nmirror images" if mirrors > 1 else ""
        self._write(glyph, middle + 9, f"the network of b\n{mean}")
        self._arrow((second + _LARGE + 0.5, middle), (plus - 1.8, middle))
        self._write((second + _LARGE + plus - 1) / 2, middle - _LINE - 0.4, f"× {1 - alpha:.2f}")
        self._add(plus, middle)
        self._arrow((plus + 1.8, middle), (third - 0.5, middle))
        start = SIDE + _LARGE / 2
        self._path([(start, top + tall + 0.4), (start, below), (plus, below), (plus, middle + 1.8)])
        formula = f"× α = {alpha:.2f}:   sN2N = {alpha:.2f} · original + {1 - alpha:.2f} · network output"
        self._write(start + 2, below + 0.8, formula, ha="left")

    def _window(self, left: float, top: float, slices: int) -> None:
        """The partitions of a window one behind the other, the last at the back, the centre one framed."""
        reach = slices - 1
        for place in reversed(range(slices)):
            beside = min(max(self.index + place - slices // 2, 0), self.images["half_a"].shape[0] - 1)
            at = left + place * _STEP, top + (reach - place) * _STEP
            frame = VERMILION if place == slices // 2 else "white"
            self._image("half_a", *at, _SMALL, index=beside, frame=frame, letters=place == 0)

    def _image(
        self, name: str, left: float, top: float, width: float, *, index: int | None = None, frame: str = "",
        letters: bool = True,
    ) -> None:  # fmt: skip
        axes = self.sheet.panel(left, top, width, width * self.ratio)
        image = view(self.images[name], _PLANE, index=self.index if index is None else index)[self.box]
        draw(axes, image, plane=_PLANE, voxel_size=self.voxel_size, limits=self.limits, letters=letters)
        if frame:
            style: dict[str, Any] = {"transform": axes.transAxes, "fill": False, "clip_on": False}
            axes.add_patch(Rectangle((0, 0), 1, 1, edgecolor=frame, linewidth=1.0, **style))

    def _network(self, levels: list[Level], middle: float) -> Point:
        """Blocks of all levels with their numbers and paths; the left and right end of the finest."""
        deepest, top, centre = len(levels) - 1, middle - _TALL / 2, (_FIRST + _LAST) / 2
        placed: list[_Place] = []
        for level, (channels, rows, columns) in enumerate(levels):
            tall, thin = _TALL * _LOWER**level, _THIN * _WIDER**level
            left = _FIRST + (centre - _FIRST) * level / deepest if deepest else centre
            down = (left - thin - _GAP / 2, left + thin + _GAP / 2)
            up = down
            numbers = f"{channels}\n{rows} × {columns}"
            self._blocks(down[0], top, thin, tall, [BLUE, BLUE])
            self._write(left, top + tall + 0.7, numbers)
            if level < deepest:
                right, half = _FIRST + _LAST - left, 2 * thin + 1.5 * _GAP
                up = (right - half, right + half)
                self._blocks(up[0], top, thin, tall, ["white", ORANGE, BLUE, BLUE])
                self._write(right, top + tall + 0.7, numbers)
                ends = (down[1] + 0.3, top + tall / 2), (up[0] - 0.3, top + tall / 2)
                self._arrow(*ends, color=GREY, dashed=True)
            placed.append(_Place(top, tall, down, up))
            top += tall + _UNDER
        for upper, lower in pairwise(placed):
            self._between(upper, lower)
        return placed[0].down[0] - 0.4, placed[0].up[1] + 0.4

    def _between(self, upper: _Place, lower: _Place) -> None:
        """The way down from a level to the next, and up again."""
        at, into = upper.top + upper.tall - 1.0, lower.top - 0.3
        left, right = sum(lower.down) / 2, sum(lower.up) / 2
        if left == right:  # the coarsest: both ways end at the same blocks
            apart = (lower.down[1] - lower.down[0]) / 4
            left, right = left - apart, right + apart
        self._path([(upper.down[1], at), (left, at), (left, into)])
        self._path([(right, into), (right, at), (upper.up[0] - 0.2, at)], color=ORANGE)

    def _blocks(self, left: float, top: float, thin: float, tall: float, colours: list[str]) -> None:
        for place, colour in enumerate(colours):
            edge = BLUE if colour == "white" else colour
            at = left + place * (thin + _GAP), top
            self.canvas.add_patch(Rectangle(at, thin, tall, facecolor=colour, edgecolor=edge, linewidth=0.6))

    def _glyph(self, middle: float, at: float) -> None:
        """The network in small: its blocks go down and up."""
        heights = (13.0, 8.0, 5.0, 3.0, 5.0, 8.0, 13.0)
        for place, tall in enumerate(heights):
            self._blocks(middle - 10.5 + 3 * place, at - 6.5 + (13.0 - tall) / 2, 2.0, tall, [BLUE])

    def _legend(self, top: float, architecture: Mapping[str, Any]) -> None:
        blocks, bias = int(architecture["unshuffle"]), "" if architecture["bias"] else ", no bias"
        texts = {BLUE: f"3×3 convolution, ReLU{bias}"}
        if architecture["depth"]:
            texts |= {
                "black": "mean of 2×2",
                ORANGE: "2×2 transposed convolution",
                "white": "copied, joined as channels",
            }
        texts["into ⊕:"] = "into ⊕: 1×1 convolution"
        if blocks > 1:
            texts["before:"] = f"before all: {blocks}×{blocks} voxels as channels"
        for line, (sign, text) in enumerate(texts.items()):
            at = top + 4 * line
            if sign == "black":
                self._path([(SIDE + 0.7, at - 0.4), (SIDE + 0.7, at + 2.9)])
            elif ":" not in sign:
                self._blocks(SIDE, at, 1.4, 2.4, [sign])
            self._write(SIDE + 3.5 if ":" not in sign else SIDE, at - 0.1, text, ha="left")

    def _add(self, x: float, y: float) -> None:
        self.canvas.add_patch(Circle((x, y), 1.8, facecolor="white", edgecolor="black", linewidth=0.9))
        self.canvas.plot([x - 1.1, x + 1.1], [y, y], color="black", linewidth=0.9)
        self.canvas.plot([x, x], [y - 1.1, y + 1.1], color="black", linewidth=0.9)

    def _arrow(
        self, start: Point, end: Point, *, style: str = "-|>", color: str = "black", dashed: bool = False
    ) -> None:
        line = (0, (3, 2)) if dashed else "-"
        options: dict[str, Any] = {"shrinkA": 0, "shrinkB": 0, "linewidth": 0.9, "linestyle": line}
        self.canvas.add_patch(FancyArrowPatch(start, end, arrowstyle=style, mutation_scale=6, color=color, **options))

    def _path(self, points: list[Point], *, color: str = "black") -> None:
        """Straight lines from point to point, with a head at the end."""
        x, y = zip(*points[:-1], strict=True)
        self.canvas.plot(x, y, color=color, linewidth=0.9, solid_capstyle="butt")
        self._arrow(points[-2], points[-1], color=color)

    def _write(self, x: float, y: float, text: str, **style: Any) -> None:
        self.sheet.write(x, y, text, **{"ha": "center", "size": SMALL, "linespacing": 1.25, **style})


def _caption(
    label: str, levels: list[Level], architecture: Mapping[str, Any], alpha: float, mirrors: int, loss: str
) -> str:
    slices, unshuffle = int(architecture["slices"]), int(architecture["unshuffle"])
    told = "; ".join(f"{channels} channels of {rows} × {columns}" for channels, rows, columns in levels)
    first = f", in blocks of {unshuffle}×{unshuffle} voxels as channels," if unshuffle > 1 else ""
    mean = f", averaged over {mirrors} mirror images," if mirrors > 1 else ""
    return (
        f"{sentence(label)}. Training: {slices} neighbouring partitions of half A{first} go into a 2.5D U-Net of "
        f"{len(levels)} levels ({told}), which adds a correction to the centre one; its target is that partition of "
        f"half B, by the {loss}, and the same the other way round. Under the blocks: channels, and rows × columns of a "
        f"whole partition. Test: the conventional image goes in as it is; the answer{mean} is blended with it: sN2N = "
        f"{alpha:.2f} · original + {1 - alpha:.2f} · network output."
    )
