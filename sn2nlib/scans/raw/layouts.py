"""Public HDF5 layouts of k-space → `Scan`, each described as data (`sn2nlib.scans.raw.layout_table`).

1. Samples into the order (coil, kz, ky, kx), complex64, without the readout oversampling that a header declares.
2. Mask: from the file where it has one, else the lines that are not zero; fill beyond the collected share is not
   sampled.
3. DC to n//2; axes that are images already transformed back; the image's origin to n//2 by a phase in k-space.
4. Geometry, as far as the file knows it; where it does not, the axes are taken in order and ``info`` says
   that it is unknown.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sn2nlib.errors import ImageError, SamplingError, ScanError
from sn2nlib.provenance import disk_is_full
from sn2nlib.sampling import MOST_REDUCTION, infer_lattice
from sn2nlib.scans.raw.geometry import GIVEN_SIDES, unknown_affine
from sn2nlib.scans.raw.given import Geometry, check_lengths, settle_geometry
from sn2nlib.scans.raw.heaps import check_heaps, heap_of
from sn2nlib.scans.raw.layout_header import Encoding, LayoutReadout, place_layout_readout, read_encoding
from sn2nlib.scans.raw.layout_samples import (
    arranged,
    check_readout,
    probed_mask,
    read_extra,
    read_mask,
    read_samples,
    stored_kind,
    target_shape,
    to_kspace,
)
from sn2nlib.scans.raw.layout_table import Layout, load_layouts
from sn2nlib.scans.raw.lines import Lengths
from sn2nlib.scans.scan import FORMAT, ONE_PARTITION, Scan, check_stored, settle_lattice, tell_doubts, type_told


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


def almost_known(path: str | os.PathLike[str]) -> str | None:
    """The datasets of which each alone keeps a file from being of a layout, in one phrase; None if it lacks more."""
    told = []
    with _opened(Path(path)) as file:
        for layout in _of_hdf5():
            missing = [name for name in layout.recognise["datasets"] if name not in file]
            rest = {name: wanted for name, wanted in layout.recognise["datasets"].items() if name not in missing}
            fits = _misfit(file, replace(layout, recognise={**layout.recognise, "datasets": rest})) is None
            if len(missing) == 1 and rest and fits:
                told.append(f"the dataset {missing[0]} for the layout {layout.name}")
    return f"missing is {' or '.join(told)}, see data_manifest/README.md" if told else None


@dataclass(frozen=True)
class LayoutOptions:
    """What the user gives or switches for a file of a public layout; see `read_raw`."""

    remove_oversampling: bool = True
    noise_scan: bool = True
    voxel_size: Lengths | None = None
    affine: np.ndarray | None = None
    affine_from: str | os.PathLike[str] | None = None


@dataclass(frozen=True)
class LayoutFacts:
    """What a file of a public layout holds, without its samples.

    Attributes
    ----------
    layout
    n_coils, shape
        Of the k-space; (kz, ky, kx).
    mask : (kz, ky) bool
        In the order of the scan.
    acceleration, caipi_shift, not_for_training
        As of the scan.
    geometry
        As far as it is known.
    readout
        Samples as stored and as kept.
    noise_samples
        Per coil; None: there is no noise scan, or it is left aside.
    acs_size
        (kz, ky) of a separate calibration scan, or None.
    has_repeat
    kx_acquired
        As of the scan.
    doubts
        Contradictions in the file, and what was assumed, a sentence each.
    """

    layout: Layout
    n_coils: int
    shape: tuple[int, int, int]
    mask: np.ndarray
    acceleration: tuple[int, int]
    caipi_shift: int
    not_for_training: str | None
    geometry: Geometry
    readout: LayoutReadout
    noise_samples: int | None
    acs_size: tuple[int, int] | None
    has_repeat: bool
    kx_acquired: tuple[float, float] | None
    doubts: tuple[str, ...]


def names_told(file: h5py.File) -> str:
    """What lies at the root of a file: the names that layouts know, and how many others, which may tell much."""
    known = {name for layout in _of_hdf5() for name in layout.recognise["datasets"]}
    others = len(set(file) - known)
    told = [", ".join(sorted(known & set(file))), f"{others} of no known name" if others else ""]
    return " and ".join(part for part in told if part) or "nothing"


def needed_bytes(
    path: str | os.PathLike[str], layout: Layout | None = None, options: LayoutOptions | None = None
) -> int:
    """Bytes that the arrays of `read_layout` take, k-space and all others; no samples are read."""
    path, options = Path(path), options or LayoutOptions()
    layout = _chosen(path, layout)
    with _opened(path) as file:
        _check(file, layout, path)
        shape, _, _ = _placed_readout(file, layout, options)
        extras = (file[layout.extras[name]].size for name in _extras(file, layout, options))
        return 8 * (math.prod(shape) + sum(size or 0 for size in extras))


def read_layout(
    path: str | os.PathLike[str],
    layout: Layout | None = None,
    options: LayoutOptions | None = None,
    *,
    folder: Path | None = None,
) -> Scan:
    """Read a file of a public layout.

    Parameters
    ----------
    path
    layout
        From `find_layout`, which is asked if it is not given.
    options
    folder
        For arrays that do not fit into memory: they are files in it, one of which is mapped for each.

    Returns
    -------
    Scan
        `not_for_training` says the reason where the layout or the file cannot serve for training.

    Raises
    ------
    FileNotFoundError
    ChoiceError
        If an option contradicts the file.
    ScanError
        If the file does not fit the layout, is damaged, or its samples do not fit the axis contract.

    Warns
    -----
    UserWarning
        If the file declares an acceleration that its mask contradicts, or its header contradicts itself.
    """
    path, options = Path(path), options or LayoutOptions()
    layout = _chosen(path, layout)
    with _opened(path) as file:
        _check(file, layout, path)
        shape, readout, encoding = _placed_readout(file, layout, options)
        geometry = _geometry(file, layout, options, encoding, shape)  # before the samples, which take longer
        kspace = read_samples(file, layout, readout=readout.n if readout.n < readout.full else None,
                              folder=folder)  # fmt: skip
        kspace, mask = arranged(kspace, read_mask(file, layout, kspace), layout)
        to_kspace(kspace, layout)
        if "collected" in layout.sampled:  # what a filter left beyond; other samples off the mask are refused
            kspace *= mask[:, :, None]
        kx_acquired = _kx_acquired(file, layout, kspace.shape[3])
        check_readout(kspace, kx_acquired if readout.n == readout.full else None)
        names = _extras(file, layout, options)
        arrays: dict[str, Any] = {name: read_extra(file, layout.extras[name], folder) for name in names}
        sampling, doubts = _sampling(file, layout, mask)
        scan = Scan(
            kspace=kspace, mask=mask, **arrays, **sampling, **_placed(geometry, kspace.shape[1:]),
            not_for_training=_bar_to_training(file, layout, kspace.shape),
            kx_acquired=kx_acquired,
            info={"source": layout.name, "geometry": geometry.source, "done": list(readout.told)},
        )  # fmt: skip
    tell_doubts(path, (*doubts, *readout.doubts))
    return scan


def inspect_layout(
    path: str | os.PathLike[str], layout: Layout | None = None, options: LayoutOptions | None = None
) -> LayoutFacts:
    """What a file of a public layout holds, without reading its samples.

    Where it has no sampling mask, one slab of the samples is looked at: the central one of the axis that is stored
    first, which tells for every line whether it was acquired.

    Raises
    ------
    FileNotFoundError, ChoiceError, ScanError
        As `read_layout`.
    """
    path, options = Path(path), options or LayoutOptions()
    layout = _chosen(path, layout)
    with _opened(path) as file:
        _check(file, layout, path)
        (n_coils, *shape), readout, encoding = _placed_readout(file, layout, options)
        mask = probed_mask(file, layout)
        (sampling, doubts), extras = _sampling(file, layout, mask), _extras(file, layout, options)
        acs = file[layout.extras["acs"]].shape if "acs" in extras else None
        return LayoutFacts(
            layout, n_coils, tuple(shape), mask, **sampling,  # type: ignore[arg-type]
            not_for_training=_bar_to_training(file, layout, (n_coils, *shape)),
            geometry=_geometry(file, layout, options, encoding, (n_coils, *shape)),
            readout=readout,
            noise_samples=int(file[layout.extras["noise"]].shape[-1]) if "noise" in extras else None,
            acs_size=None if acs is None else (int(acs[1]), int(acs[2])),
            has_repeat="repeat" in extras,
            kx_acquired=_kx_acquired(file, layout, shape[2]),
            doubts=(*doubts, *readout.doubts, *([] if options.affine_from is None else [GIVEN_SIDES])),
        )  # fmt: skip


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
            told = str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
            raise type(error)(told) from error
        except (ImageError, FileNotFoundError):  # of the image that the geometry is taken from
            raise
        except MemoryError:
            raise
        except Exception as error:  # h5py raises many kinds for damaged files; what they say may quote the file
            if isinstance(error, OSError) and disk_is_full(error):
                raise
            raise ScanError(f"{path}: the file is damaged or incomplete; copy it once more") from None


def _misfit(file: h5py.File, layout: Layout) -> str | None:
    """What the file lacks for the layout; None if nothing."""
    for name, wanted in layout.recognise["datasets"].items():
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            return f"no dataset {name}"
        shape, kind = dataset.shape or (), stored_kind(dataset.dtype)
        if len(shape) != wanted.get("ndim", len(shape)):
            return f"{name} has shape {shape}, not {wanted['ndim']} axes"
        if kind != wanted.get("kind", kind):
            needed = "complex" if wanted["kind"] == "c" else "real"
            return f"{name} holds {type_told(dataset.dtype)}, not {needed} numbers"
        if any(n is not None and n != size for n, size in zip(wanted.get("shape", shape), shape, strict=True)):
            return f"{name} has shape {shape}, not {wanted['shape']}"
        if any(size % n for n, size in zip(wanted.get("multiple", [1] * len(shape)), shape, strict=True)):
            return f"{name} has shape {shape}, whose last axis holds no pairs"
    present = [name for name in layout.recognise.get("absent", []) if name in file]
    return f"has a dataset {present[0]}" if present else None


def _check(file: h5py.File, layout: Layout, path: Path) -> None:
    lacks = _misfit(file, layout)
    if lacks:
        raise ScanError(f"not of the layout {layout.name}: {lacks}")
    shape = target_shape(file, layout)
    if 0 in shape:
        raise ScanError(f"the k-space is empty: (coil, kz, ky, kx) = {shape}")
    optional = [name for name in (layout.sampled.get("dataset"), *layout.extras.values()) if name is not None]
    present = [file[name] for name in dict.fromkeys([*layout.recognise["datasets"], *optional]) if name in file]
    arrays = {dataset.name.lstrip("/"): dataset for dataset in present if isinstance(dataset, h5py.Dataset)}
    check_stored(arrays, path)


def _extras(file: h5py.File, layout: Layout, options: LayoutOptions) -> list[str]:
    """Names in `Scan` of the further arrays that are in the file and not left aside."""
    kept = (name for name in layout.extras if name != "noise" or options.noise_scan)
    return [name for name in kept if layout.extras[name] in file]


def _placed_readout(
    file: h5py.File, layout: Layout, options: LayoutOptions
) -> tuple[tuple[int, ...], LayoutReadout, Encoding | None]:
    """Shape of the k-space that is read, how its readout becomes as long, and what the header says, if there is one.

    A header that cannot be understood is left aside if the user gives the voxel size.
    """
    *others, full = target_shape(file, layout)
    try:
        encoding = _encoding(file, layout)
    except ScanError:
        if options.voxel_size is None:
            raise
        encoding = None
    readout = place_layout_readout(encoding, full, remove_oversampling=options.remove_oversampling)
    return (*others, readout.n), readout, encoding


def _encoding(file: h5py.File, layout: Layout) -> Encoding | None:
    if not layout.has_header:
        return None
    header = file[layout.voxel_size["xml"]]
    check_heaps(Path(file.filename), heap_of(header))
    return read_encoding(header[()])


def _geometry(
    file: h5py.File, layout: Layout, options: LayoutOptions, encoding: Encoding | None, shape: tuple[int, ...]
) -> Geometry:
    affine = _attribute(file, layout, "affine", lambda value: np.asarray(value, dtype=float))
    try:
        voxel_size = _voxel_size(file, layout) if encoding is None else encoding.voxel_size
    except ScanError:
        if options.voxel_size is None:
            raise
        voxel_size = None
    if affine is not None and affine.shape == (4, 4) and np.isfinite(affine).all() and voxel_size is not None:
        check_lengths(voxel_size, affine)
    known = Geometry(voxel_size, affine, "position and orientation unknown" if affine is None else "from the file")
    settled = settle_geometry(
        known, shape=shape[1:], voxel_size=options.voxel_size,  # type: ignore[arg-type]
        affine=options.affine, affine_from=options.affine_from,
    )  # fmt: skip
    if settled.voxel_size is None:
        name = layout.voxel_size.get("attribute", "voxel_size")
        raise ScanError(f"the attribute {name} must say the voxel size (z, y, x) in mm: three numbers; or give them "
                        "(--voxel-size)")  # fmt: skip
    return settled


def _placed(geometry: Geometry, shape: tuple[int, ...]) -> dict[str, Any]:
    """Voxel size and affine; without an affine the axes in order."""
    assert geometry.voxel_size is not None
    affine = unknown_affine(geometry.voxel_size, shape) if geometry.affine is None else geometry.affine  # type: ignore[arg-type]
    return {"voxel_size": geometry.voxel_size, "affine": affine}


def _bar_to_training(file: h5py.File, layout: Layout, shape: tuple[int, ...]) -> str | None:
    if layout.reason_against_training:
        return layout.reason_against_training
    reason: str | None = _attribute(file, layout, "not_for_training", str)
    return reason or (ONE_PARTITION if shape[1] == 1 else None)


def _kx_acquired(file: h5py.File, layout: Layout, n: int) -> tuple[float, float] | None:
    """`Scan.kx_acquired` within n samples, as the file says: it is never guessed from zeros."""
    found = _attribute(file, layout, "kx_acquired", lambda value: tuple(float(kx) for kx in value))
    if found is not None and not (len(found) == 2 and 0 <= found[0] < found[1] <= n):
        raise ScanError(f"kx_acquired: needs (first, end) within the {n} samples of kx, the file says {found}")
    if found is not None and not math.ceil(found[0]) <= n // 2 < math.floor(found[1]):
        raise ScanError(f"kx_acquired: {found} leaves out the centre of kx, {n // 2}, without which there is no image")
    return found


def _sampling(file: h5py.File, layout: Layout, mask: np.ndarray) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Acceleration and shift, as declared or from the mask, and what is in doubt about them."""
    declared = _attribute(file, layout, "caipi_shift", int)
    given = _attribute(file, layout, "acceleration", lambda value: tuple(int(r) for r in value))
    if given is not None and (len(given) != 2 or min(given) < 1):
        raise ScanError(f"acceleration: needs (Ry, Rz), two whole numbers above 0, the file says {given}")
    most = MOST_REDUCTION if given is None else given[1]
    first: Exception | None = None
    for shift in range(most) if declared is None else [declared]:
        try:
            return settle_lattice(mask, given or infer_lattice(mask, shift).acceleration, shift)
        except (SamplingError, ScanError) as error:
            first = first or error
    raise ScanError(f"mask: {str(first).removeprefix('mask: ')}") from first


def _voxel_size(file: h5py.File, layout: Layout) -> Lengths | None:
    """(z, y, x) in mm; None where the file has no place for it, or nothing in it."""
    source = layout.voxel_size
    if "constant" in source:
        z, y, x = source["constant"]
    elif "attribute" not in source or source["attribute"] not in file.attrs:
        return None
    else:
        name = source["attribute"]
        if np.shape(file.attrs[name]) != (3,):
            raise ScanError(f"the attribute {name} must say the voxel size (z, y, x) in mm: three numbers")
        z, y, x = file.attrs[name]
    return float(z), float(y), float(x)


def _attribute(file: h5py.File, layout: Layout, name: str, convert: Any) -> Any:
    stored = layout.attributes.get(name)
    if stored is None or stored not in file.attrs:
        return None
    try:
        return convert(file.attrs[stored])
    except (TypeError, ValueError, OverflowError):  # what they say may quote the file
        raise ScanError(f"the attribute {stored} cannot be understood, see data_manifest/README.md") from None
