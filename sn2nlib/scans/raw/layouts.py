"""Public HDF5 layouts of k-space → `Scan`, each described as data (`sn2nlib.scans.raw.layout_table`).

1. Samples into the order (coil, kz, ky, kx), complex64.
2. Mask: from the file where it has one, else the lines that are not zero; fill beyond the collected share is not
   sampled.
3. DC to n//2; axes that are images already transformed back; the image's origin to n//2 by a phase in k-space.
4. Geometry, as far as the file knows it; where it does not, the axes are taken in order and ``info`` says
   that it is unknown.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np

from sn2nlib.errors import SamplingError, ScanError
from sn2nlib.fourier import fft
from sn2nlib.sampling import infer_lattice
from sn2nlib.scans.raw.layout_table import AXES, Layout, layout_named, load_layouts
from sn2nlib.scans.raw.mrd_variants import apply_variant, mrd_variant
from sn2nlib.scans.scan import FORMAT, Scan

__all__ = [
    "Layout", "apply_variant", "find_layout", "inspect_layout", "layout_named", "load_layouts", "mrd_variant",
    "read_layout", "why_unknown",
]  # fmt: skip

ONE_PARTITION = "one partition: the kz split needs a 3D scan with at least two acquired partitions"
_MOST_EXPANSION = 40  # bytes of samples per byte of the file: HDF5 compresses, but noise hardly
_ALWAYS_ALLOWED = 2**26


def find_layout(path: str | os.PathLike[str]) -> Layout | None:
    """The layout that recognises a file, from the names, shapes and types in it; no samples are read.

    Returns
    -------
    Layout or None
        None for whatever is no HDF5 file or of no known layout: scans of this package and ISMRMRD files among it.
    """
    path = Path(path)
    if not path.is_file() or not h5py.is_hdf5(path):
        return None
    with _opened(path) as file:
        if file.attrs.get("format") == FORMAT:
            return None
        return next((layout for layout in _of_hdf5() if _misfit(file, layout) is None), None)


def why_unknown(path: str | os.PathLike[str]) -> str:
    """One sentence: what an HDF5 file lacks for each of the known layouts."""
    with _opened(Path(path)) as file:
        reasons = [f"{layout.name}: {_misfit(file, layout)}" for layout in _of_hdf5()]
    return "an HDF5 file of no known k-space layout (" + "; ".join(reasons) + "); see data_manifest/README.md"


def kspace_bytes(path: str | os.PathLike[str], layout: Layout | None = None) -> int:
    """Bytes that the k-space of `read_layout` takes; no samples are read."""
    path = Path(path)
    layout = _chosen(path, layout)
    with _opened(path) as file:
        _check(file, layout, path)
        return 8 * int(np.prod(_target_shape(file, layout)))


def read_layout(path: str | os.PathLike[str], layout: Layout | None = None) -> Scan:
    """Read a file of a public layout.

    Parameters
    ----------
    path
    layout
        From `find_layout`, which is asked if it is not given.

    Returns
    -------
    Scan
        `not_for_training` says the reason where the layout or the file cannot serve for training.

    Raises
    ------
    FileNotFoundError
    ScanError
        If the file does not fit the layout, is damaged, or its samples do not fit the axis contract.
    """
    path = Path(path)
    layout = _chosen(path, layout)
    with _opened(path) as file:
        _check(file, layout, path)
        kspace = _samples(file, layout)
        mask = _mask(file, layout, kspace)
        if not mask.any():
            raise ScanError("the sampling mask is empty: no sample was acquired")
        kspace, mask = _centred(kspace, mask, layout)
        mask = _collected(mask, layout)
        _transform(kspace, layout)
        kspace *= mask[:, :, None]
        facts = _facts(file, layout, mask)
        extras: dict[str, Any] = {
            name: _extra(file, dataset) for name, dataset in layout.extras.items() if dataset in file
        }
        return Scan(kspace=kspace, mask=mask, **extras, **facts)


def inspect_layout(path: str | os.PathLike[str], layout: Layout | None = None) -> dict[str, Any]:
    """What a file of a public layout holds, without reading its samples.

    Returns
    -------
    dict
        Label → value, to be printed.

    Raises
    ------
    FileNotFoundError
    ScanError
        If the file does not fit the layout.
    """
    path = Path(path)
    layout = _chosen(path, layout)
    with _opened(path) as file:
        _check(file, layout, path)
        shape = _target_shape(file, layout)
        mask = _stored_mask(file, layout, shape)
        if mask is None:
            shares = layout.sampled.get("collected", {}).items()
            sampling = ", ".join(["lines that are not zero", *(f"{axis} up to {100 * f:.0f} %" for axis, f in shares)])
            acceleration = None
        else:
            sampling = f"{100 * float(mask.mean()):.1f} %"
            acceleration = _sampling(file, layout, mask)["acceleration"]
        mebibytes = 8 * prod(shape) / 2**20
        affine, noise = layout.attributes.get("affine", ""), layout.extras.get("noise", "")
        return {
            "format": layout.title,
            "coils": shape[0],
            "matrix (kz, ky, kx)": shape[1:],
            "voxel size (z, y, x) mm": _voxel_size(file, layout),
            "geometry": "from the file" if affine and affine in file.attrs else "unknown",
            "sampled": sampling,
            "acceleration (Ry, Rz)": acceleration,
            "axes already in image space": ", ".join(name[1:] for name in layout.image_axes) or "none",
            "noise samples per coil": int(file[noise].shape[-1]) if noise and noise in file else None,
            "not for training": _bar_to_training(file, layout, shape),
            "k-space MiB": round(mebibytes, 1),
            "memory for reconstruction MiB": round(5 * mebibytes),
            "licence": layout.licence,
        }


def _of_hdf5() -> list[Layout]:
    return [layout for layout in load_layouts() if layout.container == "hdf5"]


def _chosen(path: Path, layout: Layout | None) -> Layout:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    layout = layout or find_layout(path)
    if layout is None:
        what = why_unknown(path) if h5py.is_hdf5(path) else "not an HDF5 file"
        raise ScanError(f"{path}: {what}")
    return layout


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The open file; whatever goes wrong while it is read becomes a `ScanError` that names it."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ScanError(f"{path}: not an HDF5 file, or damaged") from error
    with file:
        try:
            yield file
        except ScanError as error:
            raise ScanError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
        except MemoryError:
            raise
        except Exception as error:  # h5py raises many kinds for damaged files
            raise ScanError(f"{path}: the file is damaged or incomplete ({error}); copy it once more") from error


def _misfit(file: h5py.File, layout: Layout) -> str | None:
    """What the file lacks for the layout; None if nothing."""
    for name, wanted in layout.recognise["datasets"].items():
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            return f"no dataset {name}"
        shape, kind = dataset.shape or (), _kind(dataset.dtype)
        if len(shape) != wanted.get("ndim", len(shape)):
            return f"{name} has shape {shape}, not {wanted['ndim']} axes"
        if kind != wanted.get("kind", kind):
            return f"{name} holds {dataset.dtype}, not {'complex' if wanted['kind'] == 'c' else 'real'} numbers"
        if any(n is not None and n != size for n, size in zip(wanted.get("shape", shape), shape, strict=True)):
            return f"{name} has shape {shape}, not {wanted['shape']}"
        if any(size % n for n, size in zip(wanted.get("multiple", [1] * len(shape)), shape, strict=True)):
            return f"{name} has shape {shape}, whose last axis holds no pairs"
    present = [name for name in layout.recognise.get("absent", []) if name in file]
    return f"has a dataset {present[0]}" if present else None


def _kind(dtype: np.dtype) -> str:
    """c for complex numbers, native or as a compound of two equal floats; the dtype's own kind otherwise."""
    if dtype.names and len(dtype.names) == 2 and all(dtype[name].kind == "f" for name in dtype.names):
        return "c"
    return dtype.kind


def _check(file: h5py.File, layout: Layout, path: Path) -> None:
    lacks = _misfit(file, layout)
    if lacks:
        raise ScanError(f"not of the layout {layout.name}: {lacks}")
    shape = _target_shape(file, layout)
    if 0 in shape:
        raise ScanError(f"the k-space is empty: (coil, kz, ky, kx) = {shape}")
    names = [*layout.recognise["datasets"], *layout.extras.values()]
    needed = sum(file[name].size * file[name].dtype.itemsize for name in names if name in file and file[name].shape)
    if needed > max(_ALWAYS_ALLOWED, _MOST_EXPANSION * path.stat().st_size):
        there = path.stat().st_size / 2**20
        raise ScanError(f"claims {needed / 2**20:.0f} MiB of samples in a file of {there:.1f} MiB: damaged")


def _target_shape(file: h5py.File, layout: Layout) -> tuple[int, ...]:
    """(coil, kz, ky, kx)."""
    stored = layout.kspace["complex"]
    shape = list(file[layout.kspace["dataset"] + ("_real" if stored == "separate" else "")].shape)
    if stored == "interleaved":
        shape[-1] //= 2
    return tuple(int(shape[layout.kspace["axes"].index(axis)]) for axis in AXES)


def _samples(file: h5py.File, layout: Layout) -> np.ndarray:
    """(coil, kz, ky, kx) complex64; slab by slab of the stored first axis, so that no second copy is needed."""
    name, axes = layout.kspace["dataset"], layout.kspace["axes"]
    kspace = np.empty(_target_shape(file, layout), np.complex64)
    stored = kspace.transpose([AXES.index(axis) for axis in axes])  # a view in the order of the file
    if layout.kspace["complex"] == "separate":
        parts = file[f"{name}_real"], file[f"{name}_imag"]
        if parts[0].shape != parts[1].shape:
            raise ScanError(f"{name}_real has shape {parts[0].shape}, {name}_imag {parts[1].shape}: they must be equal")
        for row in range(len(stored)):
            stored[row].real, stored[row].imag = parts[0][row], parts[1][row]
        return kspace
    for row in range(len(stored)):
        slab = file[name][row]
        if layout.kspace["complex"] == "interleaved":
            stored[row].real, stored[row].imag = slab[..., ::2], slab[..., 1::2]
        else:
            stored[row] = _complex(slab)
    return kspace


def _complex(array: np.ndarray) -> np.ndarray:
    """Complex64 of native complex numbers or of a compound (real, imaginary)."""
    if array.dtype.names:
        real, imaginary = (array[name] for name in array.dtype.names)
        array = real + 1j * imaginary
    return np.ascontiguousarray(array, dtype=np.complex64)


def _extra(file: h5py.File, name: str) -> np.ndarray:
    if _kind(file[name].dtype) != "c":
        raise ScanError(f"{name}: needs complex numbers, holds {file[name].dtype}")
    return _complex(file[name][()])


def _mask(file: h5py.File, layout: Layout, kspace: np.ndarray) -> np.ndarray:
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
    energy = np.sum([(coil.real**2 + coil.imag**2).sum(axis=others, dtype=float) for coil in kspace], axis=0)
    n = len(energy)
    near = max(1, n // 8)
    first = np.roll(energy, near)[: 2 * near + 1].sum()
    return bool(first > energy[n // 2 - near : n // 2 + near + 1].sum())


def _collected(mask: np.ndarray, layout: Layout) -> np.ndarray:
    """Mask without the lines beyond the collected share, unless they are missing already (at whichever end)."""
    mask = mask.copy()
    for name, share in layout.sampled.get("collected", {}).items():
        axis = AXES.index(name) - 1
        last = ceil(share * mask.shape[axis])
        if np.count_nonzero(mask.any(axis=1 - axis)) > last:
            np.moveaxis(mask, axis, 0)[last:] = False
    return mask


def _transform(kspace: np.ndarray, layout: Layout) -> None:
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


def _facts(file: h5py.File, layout: Layout, mask: np.ndarray) -> dict[str, Any]:
    shape, voxel_size = _target_shape(file, layout), _voxel_size(file, layout)
    affine = _attribute(file, layout, "affine", lambda value: np.asarray(value, dtype=float))
    info = {"source": layout.name, "geometry": "unknown" if affine is None else "from the file"}
    if affine is None:
        affine = np.diag([*voxel_size[::-1], 1.0])
        affine[:3, 3] = -affine[:3, :3] @ [n // 2 for n in shape[:0:-1]]
    return {
        **_sampling(file, layout, mask),
        "voxel_size": voxel_size,
        "affine": affine,
        "not_for_training": _bar_to_training(file, layout, shape),
        "info": info,
    }


def _bar_to_training(file: h5py.File, layout: Layout, shape: tuple[int, ...]) -> str | None:
    if layout.reason_against_training:
        return layout.reason_against_training
    reason: str | None = _attribute(file, layout, "not_for_training", str)
    return reason or (ONE_PARTITION if shape[1] == 1 else None)


def _sampling(file: h5py.File, layout: Layout, mask: np.ndarray) -> dict[str, Any]:
    shift = _attribute(file, layout, "caipi_shift", int) or 0
    given = _attribute(file, layout, "acceleration", lambda value: tuple(int(r) for r in value))
    if given is not None and (len(given) != 2 or min(given) < 1):
        raise ScanError(f"acceleration: needs (Ry, Rz), two whole numbers above 0, the file says {given}")
    try:
        return {"acceleration": given or infer_lattice(mask, shift).acceleration, "caipi_shift": shift}
    except SamplingError as error:
        raise ScanError(f"mask: {error}") from error


def _voxel_size(file: h5py.File, layout: Layout) -> tuple[float, float, float]:
    source = layout.voxel_size
    if "constant" in source:
        z, y, x = source["constant"]
    elif "xml" in source:
        z, y, x = _header_voxels(file[source["xml"]][()])
    else:
        name = source["attribute"]
        if np.shape(file.attrs.get(name, ())) != (3,):
            raise ScanError(f"the attribute {name} must say the voxel size (z, y, x) in mm: three numbers")
        z, y, x = file.attrs[name]
    return float(z), float(y), float(x)


def _header_voxels(header: bytes | str) -> tuple[float, float, float]:
    """Voxel size (z, y, x) from the encoded space of an ISMRMRD header; read leniently, since not all are valid."""
    if b"<!DOCTYPE" in (header if isinstance(header, bytes) else header.encode()):  # entities can grow without bound
        raise ScanError("ismrmrd_header: holds a document type declaration, which no ISMRMRD header has")
    try:
        space = ElementTree.fromstring(header).find("{*}encoding/{*}encodedSpace")
        sizes = [
            float(space.findtext(f"{{*}}fieldOfView_mm/{{*}}{axis}"))  # type: ignore[union-attr, arg-type]
            / float(space.findtext(f"{{*}}matrixSize/{{*}}{axis}"))  # type: ignore[union-attr, arg-type]
            for axis in "zyx"
        ]
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ScanError("ismrmrd_header: names no field of view and matrix of the encoded space") from error
    return sizes[0], sizes[1], sizes[2]


def _attribute(file: h5py.File, layout: Layout, name: str, convert: Any) -> Any:
    stored = layout.attributes.get(name)
    if stored is None or stored not in file.attrs:
        return None
    try:
        return convert(file.attrs[stored])
    except (TypeError, ValueError) as error:
        raise ScanError(f"the attribute {stored} cannot be understood: {error}") from error
