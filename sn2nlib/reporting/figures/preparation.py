"""Figures of what comes before the network: preprocessing step by step, the half images, their noise."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.regions import head_mask
from sn2nlib.fourier import crop, ifft
from sn2nlib.recon.grappa import GrappaKernel, fill
from sn2nlib.recon.noise import whiten
from sn2nlib.recon.pairs import Pair
from sn2nlib.reporting.figures.planes import GREY_TOP, PERCENTILE, Plane, cut, draw, head_box, shape_ratio, view, window
from sn2nlib.reporting.figures.sheet import BOTTOM, DIGITAL_LABEL, GREY, SIDE, SMALL, TOP, WIDTH, Sheet
from sn2nlib.reporting.wording import sentence
from sn2nlib.scans.scan import Scan

Voxel = tuple[float, float, float]
ROWS = {"original": "Original", "half_a": "Half A", "half_b": "Half B"}
STEPS = {
    "mask": "Sampling", "kspace": "k-space, one coil", "zero_filled": "Zero-filled, one coil",
    "filled_kspace": "GRAPPA, k-space", "filled": "GRAPPA, one coil", "combined": "Walsh, all coils",
}  # fmt: skip
_FOURIER = ("mask", "kspace", "filled_kspace")
_CENTRE = 40  # samples along ky and kz that are shown: the pattern would not be seen in more
_DECADES = 4.0
_GAP = 1.0  # mm between panels
_MOST_MAPS, _TALLEST_MAP = 6, 75.0  # side by side on a page; mm
# half widths of the windows of the random and of the systematic difference, in noise SDs
_RANDOM, _SYSTEMATIC = 4.0, 1.5


def preprocessing_panels(scan: Scan, pair: Pair, *, coil: int | None = None) -> dict[str, dict[str, Plane]]:
    """What every step of the preprocessing made of a scan and of its halves, for `preprocessing`.

    Parameters
    ----------
    scan
        Undersampled.
    pair
        Made of it by `sn2nlib.recon.make_pair`; kernels and weights are taken from there.
    coil
        The coil to show; None: the one with the most signal.

    Returns
    -------
    "original", "half_a", "half_b" → step → array: "mask" (kz, ky) bool; "kspace" and "filled_kspace"
    (kz, ky) magnitude at the centre of kx; "zero_filled", "filled", "combined" (z, y, x) magnitude.
    """
    kspace = whiten(scan.kspace, pair.whitening)
    if coil is None:
        coil = int(np.argmax([np.linalg.norm(samples) for samples in kspace]))
    sources = {
        "original": (scan.mask, pair.kernel_original, pair.original),
        "half_a": (pair.mask_a, pair.kernel_half, pair.half_a),
        "half_b": (pair.mask_b, pair.kernel_half, pair.half_b),
    }
    return {name: _steps(kspace, *source, coil=coil) for name, source in sources.items()}


def preprocessing(
    panels: Mapping[str, Mapping[str, Plane]],
    *,
    voxel_size: Voxel,
    plane: str = "axial",
    index: int | None = None,
    label: str = DIGITAL_LABEL,
    title: str = "From k-space to half images, step by step",
) -> Sheet:
    """The preprocessing of a scan and its halves with the real intermediate images (Figure 1a).

    Parameters
    ----------
    panels
        As returned by `preprocessing_panels`.
    voxel_size
        (z, y, x) in mm.
    plane, index
        Of the images; the axial plane shows aliasing along both phase-encode axes.
    label, title
        Second and first line of the figure.

    Raises
    ------
    StudyError
        If a row or a step is missing.
    """
    missing = [f"{row}/{step}" for row in ROWS for step in STEPS if step not in panels.get(row, {})]
    if missing:
        raise StudyError(f"the preprocessing figure lacks {', '.join(missing)}")
    combined = panels["original"]["combined"]
    index, box = cut(combined, plane) if index is None else index, head_box(combined, plane, margin=6)
    left = SIDE + 6
    width = (WIDTH - left - SIDE - 5 * _GAP) / 6
    height = width * max(1.0, shape_ratio(box, plane, voxel_size))
    sheet = Sheet(
        title,
        label=f"{label}; {plane} plane; sampling and k-space: central samples, ky →, kz ↓, logarithmic",
        height=TOP + 6 + 3 * (height + _GAP) + BOTTOM,
    )
    for column, text in enumerate(STEPS.values()):
        sheet.write(left + column * (width + _GAP) + width / 2, TOP + 1.5, text, ha="center", size=SMALL)
    for row, name in enumerate(ROWS):
        top = TOP + 6 + row * (height + _GAP)
        sheet.write(SIDE, top + height / 2, ROWS[name], rotation=90, va="center")
        for column, step in enumerate(STEPS):
            axes = sheet.panel(left + column * (width + _GAP), top, width, height)
            image, original = panels[name][step], panels["original"][step]
            if step in _FOURIER:
                _draw_fourier(axes, image, original)
                continue
            # a zero-filled image is dimmer by the share of samples it lacks
            limits = (0.0, window(original if step != "zero_filled" else image))
            shown = view(image, plane, index=index)[box]
            draw(axes, shown, plane=plane, voxel_size=voxel_size, limits=limits)
    sheet.caption = _preprocessing_caption(panels, label)
    return sheet


def pairs(
    original: Plane,
    half_a: Plane,
    half_b: Plane,
    systematic: Plane | None,
    *,
    noise_sd: Plane,
    voxel_size: Voxel,
    plane: str = "axial",
    index: int | None = None,
    label: str = DIGITAL_LABEL,
    title: str = "A pair of half images, and what differs between them",
) -> Sheet:
    """Original, half images, and their random and systematic difference in units of the noise SD.

    Parameters
    ----------
    original, half_a, half_b : (z, y, x)
        Of a `Pair`; complex, or magnitudes.
    systematic : (z, y, x)
        E[A] − E[B], from `sn2nlib.recon.pairs.systematic_difference`; its part in phase with the original is
        shown, the part that magnitudes see. None where it is not known, as in real scans.
    noise_sd : (z, y, x)
        Noise SD per component of a half (`Pair.noise_sd_half`).
    voxel_size
        (z, y, x) in mm.
    plane, index
        Which plane; None: a middle one of the head.
    label, title
        Second and first line of the figure.
    """
    magnitudes = [np.abs(image) for image in (original, half_a, half_b)]
    index, box = cut(magnitudes[0], plane) if index is None else index, head_box(magnitudes[0], plane)
    head = head_mask(magnitudes[0])
    sd = np.maximum(noise_sd, np.finfo(np.float32).tiny)
    limits = (0.0, window(magnitudes[0]))
    titles = ("Original", "Half A", "Half B")
    shown = [(text, image, limits) for text, image in zip(titles, magnitudes, strict=True)]
    shown.append(("(|A| − |B|) / σ", (magnitudes[1] - magnitudes[2]) / sd, (-_RANDOM, _RANDOM)))
    if systematic is not None:
        # in air the image's phase, and with it the sign, is random
        seen = np.where(head, _in_phase(systematic, original) / sd, np.nan)
        shown.append(("(E[A] − E[B]) / σ", seen, (-_SYSTEMATIC, _SYSTEMATIC)))
    width = (WIDTH - 2 * SIDE - (len(shown) - 1) * _GAP) / len(shown)
    height = width * shape_ratio(box, plane, voxel_size)
    text = f"{label}; {plane} plane, grey from 0 to the original’s {GREY_TOP}"
    sheet = Sheet(title, label=text, height=TOP + 6 + height + 11 + BOTTOM)
    for column, (text, image, window_) in enumerate(shown):
        left = SIDE + column * (width + _GAP)
        sheet.write(left + width / 2, TOP + 1.5, text, ha="center", size=SMALL)
        plane_image = view(image, plane, index=index)[box]
        axes = sheet.panel(left, TOP + 6, width, height)
        drawn = draw(axes, plane_image, plane=plane, voxel_size=voxel_size, limits=window_)
        if column >= 3:
            _colour_bar(sheet, drawn, left, TOP + 6 + height + 1.5, width, "noise SD σ of a half")
    sheet.caption = _pairs_caption(
        label,
        random=_rms(shown[3][1][head]),
        systematic=None if systematic is None else _rms(np.abs(systematic[head])) / _rms(sd[head]),
    )
    return sheet


def noise_maps(
    noise_sd: Plane,
    noise_sd_half: Plane,
    g_original: Plane,
    g_half: Plane,
    head: Plane,
    *,
    voxel_size: Voxel,
    scale: float | None = None,
    plane: str = "axial",
    index: int | None = None,
    label: str = DIGITAL_LABEL,
    title: str = "Noise and g-factor of the original and of a half",
) -> Sheet:
    """Analytic noise-SD and g-factor maps inside the head.

    Parameters
    ----------
    noise_sd, noise_sd_half : (z, y, x)
        Noise SD per component of the original and of a half.
    g_original, g_half : (z, y, x)
        Their g-factors.
    head : (z, y, x) bool
        Where to show them.
    voxel_size
        (z, y, x) in mm.
    scale
        Intensity scale of the scan: noise is then shown in percent of it.
    plane, index
        Which plane; None: a middle one of the head.
    label, title
        Second and first line of the figure.
    """
    factor, unit = (1.0, "SD in units of the image") if scale is None else (100 / scale, "SD, % of intensity scale")
    maps = [noise_sd * factor, noise_sd_half * factor, g_original, g_half]
    names = ["Noise, original", "Noise, a half", "g-factor, original", "g-factor, a half"]
    medians = [float(np.median(values[head])) for values in maps]
    outline = head.astype(np.float32)
    index, box = cut(outline, plane) if index is None else index, head_box(outline, plane)
    inside, gap = view(head, plane, index=index)[box], 3.0
    width = (WIDTH - 2 * SIDE - 3 * gap) / 4
    height = width * shape_ratio(box, plane, voxel_size)
    sheet = Sheet(title, label=f"{label}; {plane} plane, inside the head", height=TOP + 6 + height + 11 + BOTTOM)
    sheet.colour_map = "viridis"
    for column, (name, values) in enumerate(zip(names, maps, strict=True)):
        left, kind = SIDE + column * (width + gap), maps[:2] if column < 2 else maps[2:]
        # both maps of a kind share one scale, so that they can be compared
        limits = _common_limits(kind, head)
        sheet.write(left + width / 2, TOP + 1.5, f"{name}: median {medians[column]:.3g}", ha="center")
        image = np.where(inside, view(values, plane, index=index)[box], np.nan)
        axes = sheet.panel(left, TOP + 6, width, height)
        drawn = draw(axes, image, plane=plane, voxel_size=voxel_size, limits=limits, cmap=sheet.colour_map)
        _colour_bar(sheet, drawn, left, TOP + 6 + height + 1.5, width, unit if column < 2 else "g-factor")
    sheet.caption = (
        f"{sentence(label)}: noise maps computed from GRAPPA kernels and coil weights alone. Median inside the head: "
        f"{unit}, {medians[0]:.3g} in the original and {medians[1]:.3g} in a half; g-factor {medians[2]:.2f} and "
        f"{medians[3]:.2f}."
    )
    return sheet


def g_factors(
    maps: Mapping[str, Plane],
    head: Plane | None,
    *,
    voxel_size: Voxel,
    plane: str = "axial",
    index: int | None = None,
    label: str = DIGITAL_LABEL,
    title: str = "g-factor of several samplings of the same head",
) -> Sheet:
    """Analytic g-factor maps side by side, on one scale: what a CAIPIRINHA shift gains, for example.

    Parameters
    ----------
    maps
        Name of the sampling → (z, y, x) g-factor; one to six of them.
    head : (z, y, x) bool
        Where to show them; None: in the whole field of view, which a head fills.
    voxel_size
        (z, y, x) in mm.
    plane, index
        Which plane; None: a middle one of the head. The axial plane shows both phase-encode axes.
    label, title
        Second and first line of the figure.

    Raises
    ------
    StudyError
        If there is no map, or more than six.
    """
    if not 1 <= len(maps) <= _MOST_MAPS:
        raise StudyError(f"the figure holds one to {_MOST_MAPS} g-factor maps, not {len(maps)}")
    where = "whole field of view" if head is None else "inside the head"
    head = np.ones(next(iter(maps.values())).shape, bool) if head is None else head
    outline = head.astype(np.float32)
    index, box = cut(outline, plane) if index is None else index, head_box(outline, plane)
    inside, gap, limits = view(head, plane, index=index)[box], 3.0, _common_limits(list(maps.values()), head)
    ratio = shape_ratio(box, plane, voxel_size)
    width = min(_TALLEST_MAP / ratio, (WIDTH - 2 * SIDE - (len(maps) - 1) * gap) / len(maps))
    height = width * ratio
    sheet = Sheet(title, label=f"{label}; {plane} plane, {where}", height=TOP + 6 + height + 11 + BOTTOM)
    sheet.colour_map = "viridis"
    for column, (name, values) in enumerate(maps.items()):
        left = SIDE + column * (width + gap)
        sheet.write(left + width / 2, TOP + 1.5, f"{name}: median {np.median(values[head]):.3g}", ha="center")
        image = np.where(inside, view(values, plane, index=index)[box], np.nan)
        axes = sheet.panel(left, TOP + 6, width, height)
        drawn = draw(axes, image, plane=plane, voxel_size=voxel_size, limits=limits, cmap=sheet.colour_map)
        _colour_bar(sheet, drawn, left, TOP + 6 + height + 1.5, width, "g-factor")
    told = "; ".join(
        f"{name}, {np.median(values[head]):.2f} and {np.percentile(values[head], 95):.2f}"
        for name, values in maps.items()
    )
    sheet.caption = (
        f"{sentence(label)}: g-factors computed from GRAPPA kernels and coil weights alone, on one scale. Median and "
        f"95th percentile, {where}: {told}."
    )
    return sheet


def _steps(
    kspace: NDArray[np.complex64], mask: NDArray[np.bool_], kernel: GrappaKernel | None, image: Plane, *, coil: int
) -> dict[str, Plane]:
    """All steps of one row, of one coil but for the last."""
    acquired = kspace[coil] * mask[..., None]
    whole = acquired if kernel is None else fill(kspace, mask, kernel)[coil]
    centre = kspace.shape[-1] // 2
    return {
        "mask": mask,
        "kspace": np.abs(acquired[..., centre]),
        "zero_filled": np.abs(ifft(acquired)),
        "filled_kspace": np.abs(whole[..., centre]),
        "filled": np.abs(ifft(whole)),
        "combined": np.abs(image),
    }


def _draw_fourier(axes: Axes, image: Plane, original: Plane) -> None:
    """Central part of a mask or of a k-space plane (kz, ky), ky to the right."""
    image = crop(image, [min(n, _CENTRE) for n in image.shape])
    if image.dtype == bool:
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        top = float(np.log10(max(original.max(), np.finfo(np.float32).tiny)))
        floor = 10 ** (top - _DECADES)
        axes.imshow(
            np.log10(np.maximum(image, floor)), cmap="gray", vmin=top - _DECADES, vmax=top, interpolation="nearest"
        )
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(GREY)


def _colour_bar(sheet: Sheet, shown: Any, left: float, top: float, width: float, text: str) -> None:
    bar = sheet.colorbar(shown, cax=sheet.panel(left + 2, top, width - 4, 2), orientation="horizontal")
    bar.ax.tick_params(labelsize=SMALL, pad=1.5, length=2)
    bar.set_label(text, size=SMALL, labelpad=1.5)


def _in_phase(difference: Plane, original: Plane) -> Plane:
    """The part of a complex difference that changes the magnitude of the image."""
    if not np.iscomplexobj(difference):
        return difference
    if not np.iscomplexobj(original):
        raise StudyError("a complex difference needs the complex original image, whose phase it is seen against")
    return np.real(difference * np.exp(-1j * np.angle(original)))


def _common_limits(maps: list[Plane], head: Plane) -> tuple[float, float]:
    values = np.concatenate([values[head] for values in maps])
    low, high = np.percentile(values, [100 - PERCENTILE, PERCENTILE])
    return float(low), float(high)


def _rms(values: Plane) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _preprocessing_caption(panels: Mapping[str, Mapping[str, Plane]], label: str) -> str:
    kept = {name: 100 * float(np.mean(panels[name]["mask"])) for name in ROWS}
    shared = int(np.count_nonzero(panels["half_a"]["mask"] & panels["half_b"]["mask"]))
    return (
        f"{sentence(label)}: the central samples of mask and k-space (ky to the right, kz downward; k-space on a "
        f"logarithmic scale of {_DECADES:g} decades), one coil’s zero-filled image, k-space and image after GRAPPA, "
        "and all coils combined with one set of Walsh weights. "
        f"The original holds {kept['original']:.0f} % of all (kz, ky), half A {kept['half_a']:.0f} %, half B "
        f"{kept['half_b']:.0f} %; samples in both halves: {shared}. "
        f"Grey from 0 to the original’s {GREY_TOP}, zero-filled images each to their own."
    )


def _pairs_caption(label: str, *, random: float, systematic: float | None) -> str:
    caption = (
        f"{sentence(label)}. The halves share no sample. The magnitudes’ difference in the head is {random:.2f} "
        "noise SDs of a half (RMS; √2 for nothing but independent noise, full size everywhere)."
    )
    if systematic is not None:
        caption += (
            " Without any noise there remains what GRAPPA leaves of the aliasing, of opposite sign in A and B: "
            f"E[A] − E[B] is {systematic:.2f} noise SDs (RMS in the head); shown is its part in phase with the image, "
            f"the part that magnitudes see, in the head, in a narrower window of ±{_SYSTEMATIC:g} σ."
        )
    return caption + f" Mid-grey is 0, the window of the random difference ±{_RANDOM:g} σ."
