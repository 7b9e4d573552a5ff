"""Samples and mask of a file of a public layout, as its entry in ``layouts.yaml`` describes them."""

from math import ceil, floor
from pathlib import Path

import h5py
import numpy as np

from sn2nlib.errors import ScanError
from sn2nlib.fourier import fft
from sn2nlib.scans.raw.layout_table import AXES, Layout
from sn2nlib.scans.raw.oversampling import without_oversampling
from sn2nlib.scans.room import zeros
from sn2nlib.scans.scan import type_told


def target_shape(file: h5py.File, layout: Layout) -> tuple[int, ...]:
    """(coil, kz, ky, kx)."""
    stored = layout.kspace["complex"]
    shape = list(file[layout.kspace["dataset"] + ("_real" if stored == "separate" else "")].shape)
    if stored == "interleaved":
        shape[-1] //= 2
    return tuple(int(shape[layout.kspace["axes"].index(axis)]) for axis in AXES)


def read_samples(
    file: h5py.File, layout: Layout, slab: int | None = None, *, readout: int | None = None, folder: Path | None = None
) -> np.ndarray:
    """(coil, kz, ky, kx) complex64; slab by slab of the stored first axis, so that no second copy is needed.

    With a number, that slab alone, the axis having the size 1; with `readout`, so many samples of it, the oversampling
    removed; with a folder, in a file there.
    """
    axes, shape = layout.kspace["axes"], list(target_shape(file, layout))
    _check_parts(file, layout)
    slabs = range(shape[AXES.index(axes[0])]) if slab is None else [slab]
    shape[AXES.index(axes[0])] = len(slabs)
    shape[-1] = readout or shape[-1]
    kspace = zeros(tuple(shape), folder)
    stored = kspace.transpose([AXES.index(axis) for axis in axes])  # a view in the order of the file
    for row, place in enumerate(slabs):
        samples = _slab(file, layout, place)
        stored[row] = samples if readout is None else without_oversampling(samples, readout, axis=axes.index("kx") - 1)
    return kspace


def _check_parts(file: h5py.File, layout: Layout) -> None:
    """Raise ScanError unless real and imaginary parts in two datasets are of one shape."""
    if layout.kspace["complex"] == "separate":
        name = layout.kspace["dataset"]
        real, imaginary = (file[f"{name}_{part}"].shape for part in ("real", "imag"))
        if real != imaginary:
            raise ScanError(f"{name}_real has shape {real}, {name}_imag {imaginary}: they must be equal")


def _slab(file: h5py.File, layout: Layout, place: int) -> np.ndarray:
    """One place of the stored first axis, complex64."""
    name, form = layout.kspace["dataset"], layout.kspace["complex"]
    if form == "compound":
        return _complex(file[name][place])
    if form == "separate":
        real, imaginary = file[f"{name}_real"][place], file[f"{name}_imag"][place]
    else:
        values = file[name][place]
        real, imaginary = values[..., ::2], values[..., 1::2]
    samples = np.empty(real.shape, np.complex64)
    samples.real, samples.imag = real, imaginary
    return samples


def probed_mask(file: h5py.File, layout: Layout) -> np.ndarray:
    """(kz, ky) bool as `read_layout` finds it; of the samples at most one slab is read."""
    shape = target_shape(file, layout)
    mask = _stored_mask(file, layout, shape)
    if layout.sampled["rule"] == "dataset" and mask is not None and "either" not in layout.dc.values():
        return arranged(np.empty((0, *shape[1:]), np.complex64), mask, layout)[1]
    first = layout.kspace["axes"][0]
    kspace = read_samples(file, layout, shape[AXES.index(first)] // 2)
    lines = np.zeros(kspace.shape[1:3], bool)
    for coil in kspace:
        lines |= coil.any(axis=-1)
    lines = np.broadcast_to(lines, shape[1:3]) if mask is None else lines & mask
    return arranged(kspace, np.array(lines), layout)[1]


def arranged(kspace: np.ndarray, mask: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """DC to n//2, and nothing sampled beyond the collected share."""
    if not mask.any():
        raise ScanError("the sampling mask is empty: no sample was acquired")
    kspace, mask = _centred(kspace, mask, layout)
    return kspace, _collected(mask, layout)


def _complex(array: np.ndarray) -> np.ndarray:
    """Complex64 of native complex numbers or of a compound (real, imaginary)."""
    if array.dtype.names:
        real, imaginary = (array[name] for name in array.dtype.names)
        array = real + 1j * imaginary
    return np.ascontiguousarray(array, dtype=np.complex64)


def read_extra(file: h5py.File, name: str, folder: Path | None = None) -> np.ndarray:
    """A further array of the file, complex64; with a folder, in a file there."""
    if stored_kind(file[name].dtype) != "c":
        raise ScanError(f"{name}: needs complex numbers, holds {type_told(file[name].dtype)}")
    extra = zeros(file[name].shape, folder)
    for row in np.ndindex(extra.shape[:1]):  # one by one, so that no second copy is needed
        extra[row] = _complex(file[name][row])
    return extra


def read_mask(file: h5py.File, layout: Layout, kspace: np.ndarray) -> np.ndarray:
    """(kz, ky) bool in the order of the file; axes that are images already have one answer for all their planes."""
    mask = _stored_mask(file, layout, kspace.shape)
    if layout.sampled["rule"] == "dataset" and mask is not None:
        return mask
    lines = np.zeros(kspace.shape[1:3], bool)
    for coil in kspace:
        lines |= coil.any(axis=-1)
    if "kz" in layout.image_axes:
        lines[:] = lines.any(axis=0)
    return lines if mask is None else lines & mask


def _stored_mask(file: h5py.File, layout: Layout, shape: tuple[int, ...]) -> np.ndarray | None:
    rule, name = layout.sampled["rule"], layout.sampled.get("dataset")
    if rule == "nonzero" or name not in file:
        return None
    stored, axes = file[name][()], layout.sampled["axes"]
    wanted = tuple(shape[AXES.index(axis)] for axis in axes)
    if np.shape(stored) != wanted:
        names = ", ".join(axes)
        raise ScanError(f"{name}: needs shape ({names}) = {wanted} to fit the k-space, has {np.shape(stored)}")
    if not np.isin(stored, (0, 1)).all():
        raise ScanError(f"{name}: a sampling mask holds 0 and 1 alone")
    mask = np.empty(shape[1:3], bool)
    mask[:] = stored != 0  # a mask along ky alone holds for every kz
    return mask


def check_readout(kspace: np.ndarray, kx_acquired: tuple[float, float] | None) -> None:
    """Raise ScanError if there are samples where the file says that kx was not acquired."""
    if kx_acquired is None:
        return
    first, end = floor(kx_acquired[0]), ceil(kx_acquired[1])
    if any(coil[..., :first].any() or coil[..., end:].any() for coil in kspace):
        told = f"the file holds samples beyond {kx_acquired}; set them to zero, or mend the numbers"
        raise ScanError(f"kx_acquired: {told}")


def _centred(kspace: np.ndarray, mask: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """DC to n//2."""
    for name, place in layout.dc.items():
        axis = AXES.index(name)
        if place == "first" or (place == "either" and _dc_is_first(kspace, axis)):
            for coil in kspace:
                coil[:] = np.fft.fftshift(coil, axes=axis - 1)
            mask = np.fft.fftshift(mask, axes=axis - 1) if axis < 3 else mask
    return kspace, mask


def _dc_is_first(kspace: np.ndarray, axis: int) -> bool:
    """Whether more energy lies about index 0 than about n//2, cyclically."""
    others = tuple(other for other in range(3) if other != axis - 1)
    with np.errstate(over="ignore"):  # of damaged samples; the reconstruction refuses them
        energy = np.sum([(coil.real**2 + coil.imag**2).sum(axis=others, dtype=float) for coil in kspace], axis=0)
    n = len(energy)
    near = max(1, n // 8)
    first = np.roll(energy, near)[: 2 * near + 1].sum()
    return bool(first > energy[n // 2 - near : n // 2 + near + 1].sum())


def _collected(mask: np.ndarray, layout: Layout) -> np.ndarray:
    """Mask without the lines beyond the collected share, unless they are missing already (at whichever end).

    Raises
    ------
    ScanError
        If those beside the centre are missing, so that no image can be made.
    """
    mask = mask.copy()
    for name, share in layout.sampled.get("collected", {}).items():
        axis = AXES.index(name) - 1
        last = ceil(share * mask.shape[axis])
        acquired = np.asarray(mask.any(axis=1 - axis))
        if acquired[0] and acquired[-1] and not acquired[len(acquired) // 2 - 1]:
            raise ScanError(
                f"the {name} lines beside the centre of k-space hold zeros, as only those farthest from it may (where "
                "the centre is at index 0 of the file, the last lines are those beside it): no image can be made of it"
            )
        if np.count_nonzero(acquired) > last:
            np.moveaxis(mask, axis, 0)[last:] = False
    return mask


def to_kspace(kspace: np.ndarray, layout: Layout) -> None:
    """Image axes → k-space, and image origins → n//2, coil by coil and in place."""
    images = tuple(AXES.index(name) - 4 for name in layout.image_axes)
    ramps = []
    for name, origin in layout.image_origin.items():
        n, axis = kspace.shape[AXES.index(name)], AXES.index(name) - 4
        if origin == "first":
            frequency = np.arange(n) - n // 2
            ramp = np.exp(2j * np.pi * frequency * (n // 2) / n).astype(np.complex64)
            ramps.append(ramp.reshape([-1 if place == axis else 1 for place in (-3, -2, -1)]))
    for coil in kspace:
        if images:
            coil[:] = fft(coil, axes=images)
        for ramp in ramps:
            coil *= ramp


def stored_kind(dtype: np.dtype) -> str:
    """c for complex numbers, native or as a compound of two equal floats; the dtype's own kind otherwise."""
    if dtype.names and len(dtype.names) == 2 and all(dtype[name].kind == "f" for name in dtype.names):
        return "c"
    return dtype.kind
