"""`Scan`: k-space with its mask, noise scan, geometry and provenance; HDF5 files of it."""

import errno
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np

from sn2nlib.errors import SamplingError, ScanError
from sn2nlib.provenance import atomic_write, check_absent
from sn2nlib.sampling import MOST_REDUCTION, Mask, find_lattice, readout_share, without_gaps
from sn2nlib.scans.info import check_info
from sn2nlib.scans.proportion import believable

FORMAT = "sn2n-scan"
ONE_PARTITION = "one partition: a 2D scan is neither split into halves nor trained on"  # in files too
OPTIONAL = ("noise", "acs", "repeat")  # arrays that a file may lack
FORMAT_VERSION = 3  # 1 had no acs, no repeat, no not_for_training; 2 no kx_acquired
_FLAT = 1e-3  # volume that the axes of an affine span, over that of a box: below, they lie in a plane


def format_version(kx_acquired: Sequence[float] | None) -> int:
    """The version that a scan file is written in: the lowest that has what the scan has, for earlier sn2n to read."""
    return 2 if kx_acquired is None else FORMAT_VERSION


@dataclass(frozen=True)
class Scan:
    """One acquisition.

    Attributes
    ----------
    kspace : (coil, kz, ky, kx) complex64
        Zero where not acquired, which is checked; which samples were acquired is said by `mask` alone.
    mask : (kz, ky) bool
    acceleration
        (Ry, Rz) of the lattice; (1, 1) of a mask without gaps, whatever is given (`settle_lattice`).
    caipi_shift
        CAIPIRINHA shift of the lattice.
    voxel_size
        (z, y, x) in mm.
    affine : (4, 4) float
        NIfTI affine (RAS+ mm) of the image stored as (x, y, z).
    noise : (coil, n) complex64, optional
        Noise-only samples in the units of `kspace`.
    acs : (coil, kz, ky, kx) complex64, optional
        A separate, fully sampled calibration scan in the units of `kspace`, of the same FOV and at most its size.
        None: the calibration lines are those in `kspace`.
    repeat : (coil, kz, ky, kx) complex64, optional
        A second repetition with the mask of `kspace`: the same object, independent noise.
    not_for_training
        Why the scan may be denoised but not trained on; None: it may.
    kx_acquired
        (first, end): samples of `kspace` along kx from `first` up to `end`, without it, that were acquired of an
        asymmetric echo; beyond them lie zeros. It is that of the k-space as it stands, after regridding and removal of
        the oversampling: these mix neighbouring samples, so that a sample or two beside the border hold a part of the
        noise alone, and the border may lie between two. None: all of kx was acquired.
    info
        Provenance: JSON-serialisable, free of patient data; what is read of it must be as `check_info` says. Of
        measured scans among it, where known and else 0, `field_strength` in T and `dwell_us`, the µs from one sample of
        a line of `kspace` to the next.

    Raises
    ------
    ScanError
        If the arrays do not fit the axis contract, hold NaN or Inf, or samples that `mask` says were not acquired.

    Warns
    -----
    UserWarning
        If an acceleration is given with a mask without gaps.
    """

    kspace: np.ndarray
    mask: np.ndarray
    acceleration: tuple[int, int] = (1, 1)
    caipi_shift: int = 0
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    noise: np.ndarray | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    acs: np.ndarray | None = None
    repeat: np.ndarray | None = None
    not_for_training: str | None = None
    kx_acquired: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_shapes(self)
        check_info(self.info)
        sampling, doubts = settle_lattice(self.mask, self.acceleration, self.caipi_shift)
        for doubt in doubts:
            warnings.warn(doubt, stacklevel=3)
        for name, value in sampling.items():
            object.__setattr__(self, name, value)  # the scan is frozen
        _check_values(self)

    @property
    def n_coils(self) -> int:
        """Number of coils."""
        return int(self.kspace.shape[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(kz, ky, kx)."""
        return tuple(int(n) for n in self.kspace.shape[1:])  # type: ignore[return-value]

    @property
    def kx_share(self) -> float:
        """Share of kx that was acquired."""
        return readout_share(self.kx_acquired, self.shape[2])


def settle_lattice(
    mask: Mask, acceleration: tuple[int, int], caipi_shift: int = 0
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The sampling of a scan, from its mask and what is declared of it.

    Of a mask without gaps nothing was left out, whatever acceleration is declared: where the calibration lines of an
    accelerated protocol cover everything, the scan is fully sampled, and is reconstructed and split as such.

    Parameters
    ----------
    mask : (kz, ky) bool
    acceleration, caipi_shift
        As declared.

    Returns
    -------
    sampling
        `acceleration` and `caipi_shift` of the `Scan`.
    doubts
        The contradiction in a sentence, if there is one.

    Raises
    ------
    ScanError
        If no lattice of the declared acceleration explains the mask.
    """
    # a number of a damaged file would keep the search for its lattice busy for ages
    if any(r > max(n, MOST_REDUCTION) for r, n in zip(acceleration, mask.shape[::-1], strict=True)):
        raise ScanError(
            f"acceleration: R = {acceleration[0]}×{acceleration[1]} (ky×kz) is more than the {mask.shape[1]} × "
            f"{mask.shape[0]} lines of the matrix; correct it"
        )
    try:
        find_lattice(mask, acceleration, caipi_shift)
    except SamplingError as error:
        raise ScanError(f"mask: {error}") from error
    if tuple(acceleration) == (1, 1) or not without_gaps(mask):
        return {"acceleration": acceleration, "caipi_shift": caipi_shift}, ()
    told = f"R = {acceleration[0]}×{acceleration[1]} (ky×kz) is declared, but no line is missing between the acquired "
    return {"acceleration": (1, 1), "caipi_shift": 0}, (f"{told}ones: taken as fully sampled, R = 1×1",)


def check_shapes(scan: Any) -> None:
    """Raise unless all parts fit the axis contract and each other, as far as their values do not matter.

    Parameters
    ----------
    scan
        A `Scan`, or anything with its attributes, whose arrays may be HDF5 datasets.

    Raises
    ------
    ScanError
    """
    kspace, mask, noise = scan.kspace, scan.mask, scan.noise
    if kspace.ndim != 4 or kspace.size == 0:
        raise ScanError(f"kspace: needs 4 axes (coil, kz, ky, kx), none empty, got {kspace.ndim}: shape {kspace.shape}")
    _check_complex("kspace", kspace)
    if mask.dtype != np.bool_ or mask.shape != kspace.shape[1:3]:
        raise ScanError(
            f"mask: needs bool of shape (kz, ky) = {kspace.shape[1:3]} to fit the k-space, "
            f"got {type_told(mask.dtype)} of shape {mask.shape}"
        )
    if noise is not None and (noise.ndim != 2 or noise.shape[0] != kspace.shape[0]):
        raise ScanError(f"noise: needs shape (coil, n) with {kspace.shape[0]} coils, got {noise.shape}")
    if noise is not None:
        _check_complex("noise", noise)
    _check_affine(np.asarray(scan.affine))
    if len(scan.voxel_size) != 3 or not all(0 < size < np.inf for size in scan.voxel_size):
        raise ScanError(f"voxel_size: needs three positive numbers (z, y, x) in mm, got {scan.voxel_size}")
    _check_extras(scan)


def _check_complex(name: str, array: Any) -> None:
    if array.dtype != np.complex64:
        told = type_told(array.dtype)
        raise ScanError(f"{name}: needs complex64, got {told}; convert with {name}.astype(numpy.complex64)")


def _check_affine(affine: np.ndarray) -> None:
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ScanError("affine: needs a finite 4×4 matrix")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(affine[3], (0, 0, 0, 1)) or not abs(np.linalg.det(affine[:3, :3])) > _FLAT * np.prod(sizes):
        raise ScanError(f"affine: its axes do not span the space, or its last row is not 0 0 0 1: {affine.tolist()}")


def _check_extras(scan: Any) -> None:
    acs, repeat, shape = scan.acs, scan.repeat, scan.kspace.shape
    for name, array in (("acs", acs), ("repeat", repeat)):
        if array is not None:
            _check_complex(name, array)
    if acs is not None:
        fits = acs.ndim == 4 and acs.size and acs.shape[0] == shape[0]
        if not fits or any(few > many for few, many in zip(acs.shape[1:], shape[1:], strict=True)):
            raise ScanError(f"acs: needs shape (coil, kz, ky, kx) within that of the k-space {shape}, got {acs.shape}")
    if repeat is not None and repeat.shape != shape:
        raise ScanError(f"repeat: needs the shape of the k-space {shape}, got {repeat.shape}")
    reason = scan.not_for_training
    if reason is not None and not (isinstance(reason, str) and reason.strip()):
        raise ScanError("not_for_training: needs the reason in words, or None")
    kx = scan.kx_acquired
    if kx is not None and not (len(kx) == 2 and 0 <= kx[0] < kx[1] <= shape[3]):
        raise ScanError(f"kx_acquired: needs (first, end) within the {shape[3]} samples of kx, or None, got {kx}")


def type_told(dtype: np.dtype) -> str:
    """The type of an array in words; the names of the fields of a compound, which are a file's own, are left out."""
    return "a compound" if dtype.kind == "V" else str(dtype)


def check_acquired(samples: np.ndarray, mask: np.ndarray, name: str) -> None:
    """Raise ScanError unless samples (…, *mask, kx) are zero wherever nothing was acquired."""
    if not mask.all() and samples[..., ~mask, :].any():
        raise ScanError(
            f"{name}: holds samples where the mask of the scan has none; set them to zero, or give the mask they have"
        )


def check_noise(noise: np.ndarray | None) -> None:
    """Raise ScanError if a noise scan (coil, n) holds NaN or Inf."""
    bad = [] if noise is None else [coil for coil, samples in enumerate(noise) if not np.isfinite(samples).all()]
    if bad:
        raise ScanError(
            f"noise: the noise scan holds NaN or Inf in coil {', '.join(map(str, bad))}; leave out that coil, or read "
            "the raw file without its noise scan (--no-noise-scan)"
        )


def _check_values(scan: Scan) -> None:
    for name, array in (("kspace", scan.kspace), ("acs", scan.acs), ("repeat", scan.repeat)):
        for coil, samples in enumerate(() if array is None else array):
            if not np.isfinite(samples).all():
                raise ScanError(f"{name}: coil {coil} holds NaN or Inf; repair or leave out that coil")
            if name == "acs":  # fully sampled; of a coil without signal the k-space tells
                continue
            if not samples.any():
                raise ScanError(f"{name}: coil {coil} has no signal at all; leave out that coil")
            check_acquired(samples, scan.mask, name)
    check_noise(scan.noise)


def save_scan(scan: Scan, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a scan as HDF5; the file appears whole or not at all.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is false.
    OSError
        If the disk is full.
    """
    path = Path(path)
    check_absent(path, overwrite=overwrite)
    info = json.dumps(dict(scan.info))
    with atomic_write(path) as temporary:
        check_space(temporary, scan_bytes(scan))
        with h5py.File(temporary, "w") as file:
            file.attrs.update({
                "format": FORMAT,
                "version": format_version(scan.kx_acquired),
                "acceleration": scan.acceleration,
                "caipi_shift": scan.caipi_shift,
                "voxel_size": scan.voxel_size,
                "affine": np.asarray(scan.affine, dtype=float),
                "info": info,
            })
            for name in ("not_for_training", "kx_acquired"):
                if (value := getattr(scan, name)) is not None:
                    file.attrs[name] = value
            file["mask"] = scan.mask
            file["kspace"] = scan.kspace
            for name in OPTIONAL:
                if (array := getattr(scan, name)) is not None:
                    file[name] = array


def scan_bytes(scan: Scan) -> int:
    """Size of k-space, noise scan, calibration scan and second repetition."""
    extras = [array for name in OPTIONAL if (array := getattr(scan, name)) is not None]
    return scan.kspace.nbytes + sum(array.nbytes for array in extras)


def check_space(path: Path, nbytes: int) -> None:
    """Raise OSError unless files of this size can be written beside `path`, with 1 MiB for their headers.

    HDF5 crashes the process when the disk fills up while it writes its own tables, so it must not come to that.
    """
    needed, free = nbytes + 2**20, shutil.disk_usage(path.parent).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"needs {needed / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free")


def load_scan(path: str | os.PathLike[str]) -> Scan:
    """Read and validate a scan written by `save_scan`.

    Raises
    ------
    FileNotFoundError
    ScanError
        If the file is not a scan, is of a newer format, or its content does not fit the axis contract; the message
        names the file.

    Warns
    -----
    UserWarning
        If the file declares an acceleration that its mask contradicts; the message names the file.
    """
    with opened_scan(path) as file:
        mask = file["mask"][()]
        mask = mask.astype(bool) if mask.dtype == np.uint8 else mask
        attributes, doubts = checked_attributes(file, mask, file.get("noise"))  # told before all of it is read
        arrays = {name: file[name][()] for name in OPTIONAL if name in file}
        scan = Scan(kspace=file["kspace"][()], mask=mask, **arrays, **attributes)
    tell_doubts(path, doubts)
    return scan


def tell_doubts(path: str | os.PathLike[str], doubts: Iterable[str]) -> None:
    """Warn of what is in doubt about a file, which is named."""
    for doubt in doubts:
        warnings.warn(f"{Path(path).name}: {doubt}", stacklevel=3)


def checked_attributes(file: h5py.File, mask: np.ndarray, noise: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Attributes of a scan file, checked against its arrays, with the sampling and the doubts of `settle_lattice`."""
    attributes, extras = _attributes(file), {"acs": file.get("acs"), "repeat": file.get("repeat")}
    check_shapes(SimpleNamespace(kspace=file["kspace"], mask=mask, noise=noise, **extras, **attributes))
    sampling, doubts = settle_lattice(mask, attributes["acceleration"], attributes["caipi_shift"])
    return attributes | sampling, doubts


def _attributes(file: h5py.File) -> dict[str, Any]:
    attributes, info = file.attrs, json.loads(file.attrs["info"])
    check_info(info)
    return {
        "acceleration": tuple(int(r) for r in attributes["acceleration"]),
        "caipi_shift": int(attributes["caipi_shift"]),
        "voxel_size": tuple(float(size) for size in attributes["voxel_size"]),
        "affine": np.asarray(attributes["affine"]),
        "info": info,
        "not_for_training": attributes.get("not_for_training"),
        "kx_acquired": tuple(float(kx) for kx in attributes["kx_acquired"]) if "kx_acquired" in attributes else None,
    }


@contextmanager
def opened_scan(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """The open file; whatever goes wrong while it is read becomes a `ScanError` that names it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no scan file {path}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ScanError(
            f"{path}: not an HDF5 file, or damaged; expected a scan file of `sn2n simulate` or `sn2n convert`"
        ) from error
    with file, telling_damage(path):
        _check_format(file, path)
        yield file


@contextmanager
def telling_damage(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a scan file is read becomes a `ScanError` that names it."""
    try:
        yield
    except ScanError as error:
        raise ScanError(f"{path}: {error}") from error
    except MemoryError:
        raise
    except Exception:  # h5py raises many kinds for damaged files; what they say may quote the file
        raise ScanError(f"{path}: the file is damaged or incomplete; copy it once more") from None


def check_stored(arrays: Mapping[str, h5py.Dataset], path: Path) -> None:
    """Raise ScanError if arrays of a file cannot be as large as their shapes say: before anything is allocated.

    Parameters
    ----------
    arrays
        By their names in the message.
    path
        Of the file: one far smaller than what its arrays take, since they were never written, is refused too.
    """
    for name, array in arrays.items():
        check_size(array, name)
    needed, there = sum((array.size or 0) * array.dtype.itemsize for array in arrays.values()), path.stat().st_size
    if not believable(needed, there):
        raise ScanError(
            f"claims {needed / 2**20:.0f} MiB of samples in a file of {there / 2**20:.1f} MiB: the file is damaged"
        )


def check_size(dataset: h5py.Dataset, name: str) -> None:
    """Raise ScanError if the file holds more or less of an array than its shape says: one of the two is damaged.

    Nothing can be said of arrays that were never written, or lie in another file, and of texts.
    """
    properties, shape, kind = dataset.id.get_create_plist(), dataset.shape, dataset.id.get_type()
    if shape is None or isinstance(kind, h5py.h5t.TypeStringID):
        return
    layout, fits = properties.get_layout(), True
    if layout == h5py.h5d.CHUNKED:
        most = math.prod(-(-n // chunk) for n, chunk in zip(shape, dataset.chunks, strict=True))
        fits = dataset.id.get_num_chunks() <= most
    elif layout == h5py.h5d.CONTIGUOUS and not properties.get_external_count():
        needed = math.prod(shape) * kind.get_size()
        fits = dataset.id.get_storage_size() in (0, needed)
    if not fits:
        raise ScanError(f"{name}: its shape {shape} does not fit what is stored of it: the file is damaged")


def _check_format(file: h5py.File, path: Path) -> None:
    ours = file.attrs.get("format") == FORMAT
    if ours and (version := int(file.attrs.get("version", 0))) > FORMAT_VERSION:  # whatever else it may lack
        raise ScanError(
            f"a scan of format version {version}, and this sn2n reads up to {FORMAT_VERSION}; install a newer one"
        )
    needed = {"kspace", "mask"} - set(file)
    lacking = {"acceleration", "caipi_shift", "voxel_size", "affine", "info", "version"} - set(file.attrs)
    if not ours or needed or lacking:
        missing = ", ".join(sorted(needed | lacking)) or f"the attribute format = {FORMAT}"
        raise ScanError(f"an HDF5 file, but not a scan of this package; it lacks {missing}")
    present = {name: file.get(name) for name in ("kspace", "mask", *OPTIONAL)}
    check_stored({name: array for name, array in present.items() if isinstance(array, h5py.Dataset)}, path)
