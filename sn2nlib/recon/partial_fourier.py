"""Partial Fourier: the side of k-space that was not acquired, from the conjugate symmetry of a real object.

Homodyne: Noll DC, Nishimura DG, Macovski A. IEEE Trans Med Imaging 1991;10:154-163. Projection onto convex sets:
Haacke EM, Lindskog ED, Lin W. J Magn Reson 1991;92:126-145.

Both need the phase of the object, φ, and both are linear in the data once φ is frozen. They work on the combined
image, whose coil weights vary too slowly to move samples across k-space. Lines that were left out on both sides alike,
before the edge of the matrix, have no mirror image that was acquired, and stay empty.

What is known is a plane (kz, ky), the same for every kx, or, of an asymmetric echo, the whole (kz, ky, kx).
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, uniform_filter

from sn2nlib.errors import ScanError
from sn2nlib.fourier import fft, ifft
from sn2nlib.recon.cells import acquired_lattice, support
from sn2nlib.recon.grappa import GrappaKernel
from sn2nlib.sampling import Mask, open_sides

PartialFourier = Literal["zero", "homodyne", "pocs"]
ITERATIONS = 20
_SLAB = 16  # readout positions that the phase map is made of at a time
_RAMP = 5  # lines over which the homodyne weights change

_Complex = NDArray[np.complex64]
_Real = NDArray[np.float32]
_Known = NDArray[np.bool_]


def check_method(method: str) -> None:
    """Raise ScanError unless the method is known."""
    if method not in get_args(PartialFourier):
        raise ScanError(f"partial Fourier filling is one of {', '.join(get_args(PartialFourier))}, got {method!r}")


def known_region(mask: Mask, kernel: GrappaKernel | None, readout: NDArray[np.bool_] | None = None) -> _Known:
    """Positions (kz, ky) whose values are acquired, or filled by GRAPPA; with a `readout` (kx,), (kz, ky, kx)."""
    known = mask
    if kernel is not None and not mask.all():
        known = mask | support(mask, acquired_lattice(mask, kernel.acceleration, kernel.caipi_shift))
    return known if readout is None else known[:, :, None] & readout


def sides_of(mask: Mask, kernel: GrappaKernel | None) -> tuple[int, int]:
    """`open_sides` of the acquired samples of a scan: those that its halves are filled on too."""
    return open_sides(mask, (1, 1) if kernel is None else kernel.acceleration)


def missing_side(known: _Known, sides: tuple[int, int]) -> _Known:
    """Positions on the sides that were left out whose mirror image is known.

    Parameters
    ----------
    known : (kz, ky) or (kz, ky, kx) bool
        From `known_region`.
    sides
        (along ky, along kz) from `sides_of`; that of kx shows.
    """
    sides_of_axes = [sides[1], sides[0]]
    if known.ndim == 3:
        sides_of_axes.append(open_sides(_along_axis(known, 2)[None], (1, 1))[0])
    beyond = np.zeros_like(known)
    for axis, side in enumerate(sides_of_axes):
        lines, index = np.flatnonzero(_along_axis(known, axis)), np.arange(known.shape[axis])
        if side:
            outside = index < lines[0] if side < 0 else index > lines[-1]
            beyond |= _spread(outside, axis, known.ndim)
    return beyond & _mirrored(known) & ~known


def phase_map(image: _Complex, known: _Known) -> _Real:
    """Phase of the image at the resolution of the symmetric centre of k-space.

    Computed in double precision, slab by slab where kx is complete. Where the image at that resolution vanishes, its
    phase follows the last digit of the single-precision image, whatever the precision here. Two reconstructions that
    agree to 2e-7 of the maximum agree to 1e-6 after filling with one phase map; with each its own, some voxels differ
    by more than 1e-5, up to 1e-4: after "homodyne" one or two of ten thousand, where the image at that resolution is
    below 2e-4 of its maximum, and after "pocs", whose turns spread them, up to six of ten thousand. Over all it is some
    1e-6 of the norm.

    Parameters
    ----------
    image : (z, y, x) complex64
        Combined image with zeros where nothing is known.
    known : (kz, ky) or (kz, ky, kx) bool

    Returns
    -------
    (z, y, x) float32
    """
    window = np.ones((1,) * known.ndim, np.float32)
    for axis, n in enumerate(known.shape):
        lines = np.flatnonzero(_along_axis(known, axis))
        reach = min(n // 2 - lines[0], lines[-1] - n // 2) + 1
        # a symmetric axis keeps its whole width: the mirror of line 0 does not exist for even n
        reach = n if reach >= (n - 1) // 2 + 1 else reach
        distance = np.minimum(np.abs(np.arange(n) - n // 2) / reach, 1)
        profile = np.cos(np.pi / 2 * distance) ** 2 if reach < n else np.ones(n)
        window = window * _spread(profile, axis, known.ndim).astype(np.float32)
    phase = np.empty(image.shape, np.float32)
    width = _SLAB if known.ndim == 2 else image.shape[2]
    for start in range(0, image.shape[2], width):
        part = np.s_[:, :, start : start + width]
        phase[part] = np.angle(_weighted(image[part].astype(np.complex128), window))
    return phase


def homodyne_weights(known: _Known, missing: _Known) -> _Real:
    """Weights with w(k) + w(-k) = 2 where both are known or one is missing: 2 where the mirrored one is.

    They change over a few lines, not at once, which would ring; 0 where nothing is known. `missing` is that of
    `missing_side`: a sample whose mirror image lacks for another reason weighs 1.
    """
    paired = known | (_mirrored(known) & ~missing)
    soft = paired.astype(np.float32)
    ramp = np.ones(_RAMP, np.float32) / _RAMP
    for axis in range(known.ndim):
        if not _along_axis(paired, axis).all():
            soft = correlate1d(soft, ramp, axis=axis, mode="nearest")
    soft *= paired
    both = soft + _mirrored(soft)
    return np.where(known & (both > 0), 2 * soft / np.maximum(both, 1e-6), 0).astype(np.float32)


def fill_partial(
    image: _Complex, known: _Known, phase: _Real, method: PartialFourier, *, sides: tuple[int, int] | None = None
) -> _Complex:
    """Image with the missing side of k-space filled.

    "homodyne": the known samples weighted by `homodyne_weights`, then the component along the phase.
    "pocs": 20 times in turn, the component along the phase, and all but the missing side as it was.

    Parameters
    ----------
    image : (z, y, x) complex64
        Combined image with zeros where nothing is known.
    known : (kz, ky) or (kz, ky, kx) bool
        From `known_region`.
    phase : (z, y, x) float32
        From `phase_map` of the original image, for its halves too.
    method : "zero", "homodyne" or "pocs"
    sides
        (along ky, along kz) from `sides_of` the original, for its halves too; None: as the known region shows.

    Returns
    -------
    (z, y, x) complex64
        The image itself for "zero", and where no side was left out and nothing can be filled.
    """
    check_method(method)
    plane: Mask = np.any(known, axis=2) if known.ndim == 3 else known
    missing = missing_side(known, open_sides(plane, (1, 1)) if sides is None else sides)
    if method == "zero" or not missing.any():
        return image
    rotation = np.exp(1j * phase).astype(np.complex64)
    if method == "homodyne":
        return _along(_weighted(image, homodyne_weights(known, missing)), rotation)
    axes = range(known.ndim)
    measured = fft(image, axes=axes)
    filled = image
    for _ in range(ITERATIONS):
        estimate = fft(_along(filled, rotation), axes=axes)
        estimate[~missing] = measured[~missing]
        filled = ifft(estimate, axes=axes)
    return filled


def fill_volumes(
    volumes: dict[str, Any],
    made_of: Mapping[str, tuple[Mask, GrappaKernel | None]],
    method: PartialFourier,
    taper: _Real | None = None,
    readout: NDArray[np.bool_] | None = None,
) -> tuple[_Real | None, str]:
    """Fill the missing side of k-space in all images of one scan, and scale their noise maps: in place.

    Parameters
    ----------
    volumes
        "original", "half_a", "half_b" : (z, y, x) complex64, zero-filled; "noise_sd" and "noise_sd_half" : (z, y, x)
        float32; the original, and of the others as many as there are.
    made_of
        Acquired samples (kz, ky) of the images, and the kernel that filled in others.
    method : "zero", "homodyne" or "pocs"
    taper : (kz, ky) float32, optional
        Raw filter.
    readout : (kx,) bool, optional
        From `asymmetric_readout`.

    Returns
    -------
    phase : (z, y, x) float32 or None
        Phase map of the original that was used for all images.
    noise_estimator : str
        The reconstruction that the noise maps describe.
    """
    known, sides = known_region(*made_of["original"], readout), sides_of(*made_of["original"])
    factor, estimator = noise_factor(known, *made_of["original"], method, taper, sides=sides)
    if method == "zero":
        return None, estimator
    phase = phase_map(volumes["original"], known)
    for name in made_of.keys() & volumes.keys():
        volumes[name] = fill_partial(volumes[name], known_region(*made_of[name], readout), phase, method, sides=sides)
    if "noise_sd" in volumes:
        volumes["noise_sd"] *= np.float32(factor)
    if "noise_sd_half" in volumes:
        half = made_of["half_a"]
        half_factor, _ = noise_factor(known_region(*half, readout), *half, method, taper, sides=sides)
        volumes["noise_sd_half"] *= np.float32(half_factor)
    return phase, estimator


def noise_factor(
    known: _Known,
    mask: Mask,
    kernel: GrappaKernel | None,
    method: PartialFourier,
    taper: _Real | None = None,
    *,
    sides: tuple[int, int],
) -> tuple[float, str]:
    """Factor on the noise map of the zero-filled image, and the estimator that the map then describes.

    For "homodyne" the root mean square of the weights over the known positions, each counted by the noise power there,
    which is as many times higher as samples are thinner: noise SD of the component along the frozen phase, to some
    percent for the original and a tenth for the halves, since the g-factor is left out.
    "pocs" has no such number, and 1.5 to 1.7 times the noise: the map stays that of zero filling. A raw filter, which
    the map already holds, only says how much the positions count.
    """
    told = "" if taper is None else ", raw filter"
    missing = missing_side(known, sides)
    if method != "homodyne" or not missing.any():
        more = ", lower than that of POCS" if method == "pocs" and missing.any() else ""
        return 1.0, f"zero filling{more}{told}"
    cell = (1, 1) if kernel is None else kernel.acceleration[::-1]
    density = uniform_filter(mask.astype(np.float64), cell, mode="nearest")
    power = 1 / np.maximum(density, 1 / (cell[0] * cell[1]))
    if taper is not None:
        power *= taper**2
    power = np.broadcast_to(power.reshape(*power.shape, *(1,) * (known.ndim - 2)), known.shape)[known]
    factor = np.sqrt(np.average(homodyne_weights(known, missing)[known] ** 2, weights=power))
    return float(factor), f"homodyne, component along the phase{told}"


def _along_axis(known: _Known, axis: int) -> NDArray[np.bool_]:
    """Lines across an axis of which anything is known."""
    return np.asarray(known.any(axis=tuple(other for other in range(known.ndim) if other != axis)))


def _spread(values: NDArray, axis: int, ndim: int) -> NDArray:
    """Values along an axis, to be broadcast along all others."""
    return values.reshape([-1 if other == axis else 1 for other in range(ndim)])


def _mirrored(plane: NDArray) -> NDArray:
    """The plane at -k; the line without a partner (index 0 of an even axis) is its own."""
    flipped = plane
    for axis, n in enumerate(plane.shape):
        index = (2 * (n // 2) - np.arange(n)) % n if n % 2 == 0 else np.arange(n)[::-1]
        flipped = np.take(flipped, index, axis=axis)
    return flipped


def _weighted(image: NDArray[np.complexfloating], weights: _Real) -> _Complex:
    axes, spread = range(weights.ndim), weights.reshape(*weights.shape, *(1,) * (3 - weights.ndim))
    return ifft(fft(image, axes=axes) * spread, axes=axes).astype(np.complex64)


def _along(image: _Complex, rotation: _Complex) -> _Complex:
    """The component of the image along a unit phasor."""
    return (image * rotation.conj()).real * rotation
