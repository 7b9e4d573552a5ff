"""A figure of page width with title, footer and caption, and the PNG file that carries them along."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy.spatial import KDTree

from sn2nlib import __version__
from sn2nlib.provenance import atomic_write

WIDTH = 180.0  # mm: the text width of an A4 page
TOP, BOTTOM, SIDE = 12.0, 6.0, 2.0  # mm for title, footer, margins
SMALL, NORMAL, LARGE = 7.0, 7.5, 9.0  # pt: nothing is smaller than 7 pt in print
GREY = "#444444"

# Okabe & Ito: told apart with any colour vision; line style and marker say the same once more
BLUE, ORANGE, GREEN, PURPLE, VERMILION, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#000000"
LINE: dict[str, Any] = {"linewidth": 1.3, "markersize": 4}
PUBLISHED_STYLE: dict[str, Any] = {"linestyle": "none", "fillstyle": "none", "color": GREY, "markersize": 5}
ARM_STYLES: dict[str, dict[str, Any]] = {
    "original": {"color": ORANGE, "linestyle": "--", "marker": "s"},
    "sN2N": {"color": BLUE, "linestyle": "-", "marker": "o"},
    "truth": {"color": BLACK, "linestyle": ":", "marker": "^"},
    "full_sampled": {"color": GREEN, "linestyle": "-.", "marker": "^"},
}

DIGITAL_LABEL = "digital phantom, simulated scan"
_PRINT_DPI, _SCREEN_DPI = 150, 110
_GREYS = 128  # levels in a figure without colour: a bit less of noise to store than 256, and none to see
_MM_PER_INCH = 25.4


class Sheet(Figure):
    """A figure 180 mm wide; positions are mm from the top left corner.

    Parameters
    ----------
    title
        What is shown, in one line.
    label
        Whose head it is, for example "digital phantom D167, simulated scan"; and the windows, where needed.
    height
        mm.

    Attributes
    ----------
    title : str
    caption : str
        What is to be seen, with the numbers of the data; plain text.
    line_colours : tuple of str
        Thin coloured lines on grey images, whose colours the file must not merge.
    colour_map : str
        Name of matplotlib's colour map of images beside grey ones, whose colours the file must not merge. A sheet has
        either lines or a map.
    """

    def __init__(self, title: str, *, label: str, height: float) -> None:
        super().__init__(figsize=(WIDTH / _MM_PER_INCH, height / _MM_PER_INCH), dpi=_SCREEN_DPI)
        FigureCanvasAgg(self)
        self.title, self.caption, self.height = title, "", height
        self.line_colours: tuple[str, ...] = ()
        self.colour_map = ""
        self.write(SIDE, 1.5, title, size=LARGE, weight="bold")
        self.write(SIDE, 6.5, label, size=NORMAL, color=GREY)
        self._footer = self.write(SIDE, height - 1.2, "", size=SMALL, color=GREY, va="bottom")

    def write(self, left: float, top: float, text: str, **style: Any) -> Any:
        """Text at a place on the sheet."""
        style = {"va": "top", "size": NORMAL, **style}
        return self.text(left / WIDTH, 1 - top / self.height, text, **style)

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at a place on the sheet."""
        bottom = self.height - top - height
        return self.add_axes((left / WIDTH, bottom / self.height, width / WIDTH, height / self.height))

    def graphs(self, rows: int, columns: int, **options: Any) -> Any:
        """A grid (rows, columns) of axes for graphs, between title and footer, in the style of the study."""
        self.set_layout_engine(
            "constrained",
            rect=(0, BOTTOM / self.height, 1, 1 - (TOP + BOTTOM) / self.height),
            w_pad=0.06,
            h_pad=0.06,
        )
        grid = self.subplots(rows, columns, squeeze=False, **options)
        for axes in grid.flat:
            axes.tick_params(which="both", labelsize=SMALL)
            axes.xaxis.label.set_size(NORMAL)
            axes.yaxis.label.set_size(NORMAL)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25, linewidth=0.5)
        return grid

    def stamp(self, text: str) -> None:
        """Set the footer."""
        self._footer.set_text(text)

    def png(self, *, dpi: int = _SCREEN_DPI) -> bytes:
        """The figure as PNG, with 128 greys or 256 colours; title and caption are in its text fields."""
        self.set_dpi(dpi)
        canvas = FigureCanvasAgg(self)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        self.set_dpi(_SCREEN_DPI)
        fields = PngInfo()
        fields.add_itxt("Title", self.title)
        fields.add_itxt("Description", self.caption)
        stream = io.BytesIO()
        _few_colours(pixels, self._colours()).save(stream, "PNG", optimize=True, pnginfo=fields, dpi=(dpi, dpi))
        return stream.getvalue()

    def _colours(self) -> np.ndarray | None:
        """The palette of the file; None: chosen by the number of pixels, which would merge those of few."""
        if self.colour_map:
            return _palette(colormaps[self.colour_map](np.linspace(0, 1, 256 - _GREYS))[:, :3])
        return _palette(_lines_on_grey(self.line_colours)) if self.line_colours else None

    def _repr_png_(self) -> bytes:
        return self.png()


def _few_colours(pixels: np.ndarray, palette: np.ndarray | None = None) -> Image.Image:
    """An image that compresses well, from (row, column, RGB) uint8; of colours, the palette's nearest."""
    if (pixels == pixels[..., :1]).all():
        step = 255 / (_GREYS - 1)
        return Image.fromarray(np.round(np.round(pixels[..., 0] / step) * step).astype(np.uint8))
    if palette is None:
        return Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE)
    packed, places = np.unique(pixels @ np.array([2**16, 2**8, 1]), return_inverse=True)
    seen = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)
    nearest = KDTree(palette.astype(float)).query(seen)[1].astype(np.uint8)
    found = Image.fromarray(nearest[places].reshape(pixels.shape[:2]), mode="P")
    found.putpalette(palette.ravel().tolist())
    return found


def _palette(colours: np.ndarray) -> np.ndarray:
    """Half greys, half these colours (n, RGB) between 0 and 1: (256, RGB) uint8."""
    greys = np.repeat(np.linspace(0, 255, _GREYS)[:, None], 3, axis=1)
    entries = np.concatenate([greys, 255 * colours])
    return np.rint(np.pad(entries, ((0, 256 - len(entries)), (0, 0)), mode="edge")).astype(np.uint8)


def _lines_on_grey(line_colours: Sequence[str]) -> np.ndarray:
    """The colours (n, RGB) of lines, and what their soft edges make of them on grey."""
    share = (256 - _GREYS) // len(line_colours)
    cover, under = np.linspace(1, 0.3, max(share // 5, 1)), np.linspace(0, 1, 5)
    mixed = [
        part * np.array(to_rgb(colour)) + (1 - part) * grey
        for colour in line_colours
        for part in cover
        for grey in under
    ]
    return np.reshape(mixed, (-1, 3))


def stamp_text(provenance: Mapping[str, Any]) -> str:
    """One line for a figure's footer: profile, version, commit, seed.

    Parameters
    ----------
    provenance
        As returned by `sn2nlib.provenance.provenance`.
    """
    known = {"profile": provenance.get("profile"), "sn2n": __version__}
    known |= {name: provenance.get(name) for name in ("commit", "seed")}
    return " · ".join(f"{name} {value}" for name, value in known.items() if value is not None)


def add_legend(axes: Axes, *, of: Axes | None = None, beside: bool = False) -> None:
    """A legend in one line above the axes, flush right, or beside them; never among the curves.

    matplotlib's own choice of a free place warns where the machine is slow, and there may be none. Curves of one
    label share an entry.

    Parameters
    ----------
    axes
        Where the legend stands. Above them a title must make the room.
    of
        The axes whose curves it explains, if others.
    beside
        To the right, one under the other.
    """
    named: dict[str, list[Any]] = {}
    for handle, name in zip(*(of or axes).get_legend_handles_labels(), strict=True):
        named.setdefault(name, []).append(handle)
    handles, labels = [tuple(each) if len(each) > 1 else each[0] for each in named.values()], list(named)
    style: dict[str, Any] = {"fontsize": SMALL, "frameon": False, "borderpad": 0.2, "handlelength": 2.2}
    style["handler_map"] = {tuple: HandlerTuple(ndivide=None)}
    if beside:
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), labelspacing=1.0, **style)
        return
    style |= {"ncols": max(len(labels), 1), "columnspacing": 1.0}
    axes.legend(handles, labels, loc="lower right", bbox_to_anchor=(1.0, 1.0), **style).set_in_layout(False)


def save_figure(figure: Sheet, path: str | os.PathLike[str], *, stamp: str) -> Path:
    """Write a figure as PNG for print, whole or not at all.

    Parameters
    ----------
    figure
        As returned by a function of `sn2nlib.reporting.figures`.
    path
        Ends in ``.png``.
    stamp
        Footer, from `stamp_text`.

    Raises
    ------
    OSError
        If the disk is full.
    """
    figure.stamp(stamp)
    content = figure.png(dpi=_PRINT_DPI)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)
