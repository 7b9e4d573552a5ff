"""Scans for other programs: ISMRMRD (MRD) files, and BART files.

An exported ISMRMRD file holds, in this order: noise acquisitions, a separate calibration scan, the lines of the scan kz
by kz, the lines of its second repetition. Counters are those of the matrix with DC at n//2, there is no readout
oversampling, and noise and lines have the same dwell time and bandwidth, so that nothing is to be scaled. The user
parameter ``sn2n_scan`` holds what the format has no place for or stores in single precision (`sn2nlib.scans.sidecar`).
Where field strength and dwell time are unknown, the first, which is optional, is left out, and the second is 0, with
which acquisition headers begin, and which Gadgetron too takes for unknown. The resonance frequency is always 0.
The vendor of the scanner is left out on purpose: positions and directions are written as those of the inverse transform
of `sn2nlib.fourier`, whoever made the scanner, and a reader that finds Siemens there would turn them a second time
(`sn2nlib.scans.raw.geometry`).

Inati SJ et al. ISMRM Raw data format: a proposed standard for MRI raw datasets. MRM 2017;77:411-421.
"""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np

from sn2nlib.errors import SamplingError, ScanError
from sn2nlib.provenance import atomic_write, check_absent
from sn2nlib.sampling import acs_region, find_lattice
from sn2nlib.scans.bart import save_bart
from sn2nlib.scans.scan import Scan, check_space, tell_doubts
from sn2nlib.scans.sidecar import RECORD, describe
from sn2nlib.scans.stream import ScanHeader, held, one_partition, read_header

FORMATS = ("ismrmrd", "bart")
_LONGEST = 65535  # samples of an acquisition
_MOST = 1e6  # tesla, or µs between samples: what is more is no measured value
_LPS = np.array([-1.0, -1.0, 1.0])  # RAS → the patient coordinates of ISMRMRD


Samples = Callable[[], Iterator[np.ndarray]]  # of some acquisitions, (coil, n) each, taken when they are asked for


def export_scan(
    scan: Scan | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    format: str = "ismrmrd",
    overwrite: bool = False,
) -> list[Path]:
    """Write a scan in one of `FORMATS`; the files written, as `save_ismrmrd` and `save_bart` do.

    Parameters
    ----------
    scan
        In memory, or the path of a scan file, which may be larger than memory.
    """
    if format not in FORMATS:
        raise ScanError(f"unknown export format {format!r}; known: {', '.join(FORMATS)}")
    source = scan if isinstance(scan, Scan) else read_header(scan)
    if isinstance(source, ScanHeader):
        tell_doubts(source.path, source.doubts)
    if format == "bart":
        return save_bart(source, path, overwrite=overwrite)
    save_ismrmrd(source, path, overwrite=overwrite)
    return [Path(path)]


def save_ismrmrd(scan: Scan | ScanHeader, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a scan as an ISMRMRD file (HDF5, group ``dataset``); it appears whole or not at all.

    Acquired samples are written bit for bit. Calibration lines off the lattice are flagged as parallel calibration,
    those on it as parallel calibration and imaging. Positions and directions are in patient coordinates (LPS, mm); the
    position is that of voxel n//2.

    Parameters
    ----------
    scan
        In memory, or the header of a scan file (`sn2nlib.scans.stream.read_header`), which is copied partition by
        partition: it may be larger than memory.
    path
        Usually ends in .h5 or .mrd.
    overwrite
        Replace a file that exists.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is false.
    ScanError
        If the package ismrmrd is not installed, or an axis is longer than the format allows.
    OSError
        If the disk is full.
    """
    ismrmrd = _library()
    path = Path(path)
    check_absent(path, overwrite=overwrite)
    if max(held(scan)["kspace"]) > _LONGEST:
        raise ScanError(f"kspace: ISMRMRD counts to {_LONGEST} at most, the shape is {held(scan)['kspace']}")
    header = _xml(ismrmrd, scan)
    blocks = _blocks(ismrmrd, scan)
    n_lines = sum(len(heads) for heads, _ in blocks)
    with atomic_write(path) as temporary:
        check_space(temporary, 8 * sum(int(np.prod(shape)) for shape in held(scan).values()) + 512 * n_lines)
        with h5py.File(temporary, "w") as file:
            group = file.create_group("dataset")
            group.create_dataset("xml", (1,), dtype=h5py.special_dtype(vlen=bytes))[0] = header
            kind = ismrmrd.hdf5.acquisition_dtype
            data = group.create_dataset("data", (n_lines,), maxshape=(None,), dtype=kind)
            written = 0
            for heads, samples in blocks:
                heads["scan_counter"] = written + np.arange(len(heads))
                if written + len(heads) == n_lines:
                    heads["flags"][-1] |= _flag(ismrmrd.ACQ_LAST_IN_MEASUREMENT)
                data[written : written + len(heads)] = _records(kind, heads, samples)
                written += len(heads)


def _library() -> ModuleType:
    try:
        import ismrmrd
        import ismrmrd.hdf5
        import ismrmrd.xsd
    except ImportError as error:
        raise ScanError("ISMRMRD needs the package ismrmrd; pip install 'sn2n[raw]'") from error
    return ismrmrd


def _xml(ismrmrd: ModuleType, scan: Scan | ScanHeader) -> bytes:
    xsd, (nz, ny, nx) = ismrmrd.xsd, scan.shape
    dz, dy, dx = scan.voxel_size
    space = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=nx, y=ny, z=nz),
        fieldOfView_mm=xsd.fieldOfViewMm(x=nx * dx, y=ny * dy, z=nz * dz),
    )
    last = int("repeat" in held(scan))
    limits = xsd.encodingLimitsType(
        kspace_encoding_step_0=xsd.limitType(minimum=0, maximum=nx - 1, center=nx // 2),
        kspace_encoding_step_1=xsd.limitType(minimum=0, maximum=ny - 1, center=ny // 2),
        kspace_encoding_step_2=xsd.limitType(minimum=0, maximum=nz - 1, center=nz // 2),
        repetition=xsd.limitType(minimum=0, maximum=last, center=0),
    )
    ry, rz = scan.acceleration
    mode = "other" if scan.mask.all() else "separate" if "acs" in held(scan) else "embedded"
    encoding = xsd.encodingType(
        encodedSpace=space,
        reconSpace=space,
        encodingLimits=limits,
        trajectory=xsd.trajectoryType.CARTESIAN,
        parallelImaging=xsd.parallelImagingType(
            accelerationFactor=xsd.accelerationFactorType(kspace_encoding_step_1=ry, kspace_encoding_step_2=rz),
            calibrationMode=xsd.calibrationModeType(mode),
        ),
    )
    header = xsd.ismrmrdHeader(
        acquisitionSystemInformation=xsd.acquisitionSystemInformationType(
            receiverChannels=scan.n_coils,
            relativeReceiverNoiseBandwidth=1.0,
            systemFieldStrength_T=_known(scan, "field_strength"),
        ),
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=0),  # required; not known
        encoding=[encoding],
        userParameters=xsd.userParametersType(
            userParameterString=[xsd.userParameterStringType(name=RECORD, value=describe(scan))]
        ),
    )
    return str(xsd.ToXML(header)).encode()


def _known(scan: Scan | ScanHeader, name: str) -> float | None:
    """A number of `Scan.info` above 0, and not too large for single precision; None where it is unknown."""
    value = scan.info.get(name)
    return float(value) if isinstance(value, int | float) and 0 < value < _MOST else None


def _blocks(ismrmrd: ModuleType, scan: Scan | ScanHeader) -> list[tuple[np.ndarray, Samples]]:
    """Heads (acquisition) and samples of everything in the file, in pieces small enough to be copied."""
    blocks, shapes = [*_noise_blocks(ismrmrd, scan)], held(scan)
    if "acs" in shapes:
        everything = np.ones(shapes["acs"][1:3], bool)
        blocks += _line_blocks(ismrmrd, scan, "acs", everything, calibration=True)
    blocks += _line_blocks(ismrmrd, scan, "kspace", scan.mask)
    if "repeat" in shapes:
        blocks += _line_blocks(ismrmrd, scan, "repeat", scan.mask, repetition=1)
    return blocks


def _noise_blocks(ismrmrd: ModuleType, scan: Scan | ScanHeader) -> Iterator[tuple[np.ndarray, Samples]]:
    if scan.noise is None:
        return
    n = scan.noise.shape[1]
    for start in range(0, n, _LONGEST):
        part = scan.noise[:, start : start + _LONGEST]
        heads = _heads(ismrmrd, scan, 1, part.shape[1])
        heads["flags"] = _flag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
        heads["center_sample"] = 0
        yield heads, functools.partial(iter, [part])


def _line_blocks(
    ismrmrd: ModuleType,
    scan: Scan | ScanHeader,
    name: str,
    mask: np.ndarray,
    *,
    repetition: int = 0,
    calibration: bool = False,
) -> list[tuple[np.ndarray, Samples]]:
    """One block for every kz of an array of the scan, which may be smaller than it, about the same DC."""
    first_z, first_y = (n // 2 - few // 2 for n, few in zip(scan.shape, mask.shape, strict=False))
    only_acs = np.full(mask.shape, _flag(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION))
    flags = only_acs if calibration else _acs_flags(ismrmrd, scan)
    blocks: list[tuple[np.ndarray, Samples]] = []
    for kz in np.flatnonzero(mask.any(axis=1)).tolist():
        ky = np.flatnonzero(mask[kz])
        heads = _heads(ismrmrd, scan, len(ky), held(scan)[name][-1])
        heads["idx"]["kspace_encode_step_1"] = ky + first_y
        heads["idx"]["kspace_encode_step_2"] = kz + first_z
        heads["idx"]["repetition"] = repetition
        heads["flags"] = flags[kz, ky]
        blocks.append((heads, functools.partial(_lines, scan, name, kz, ky)))
    if not calibration:
        starts, ends = (_flag(getattr(ismrmrd, f"ACQ_{end}_IN_REPETITION")) for end in ("FIRST", "LAST"))
        blocks[0][0]["flags"][0] |= starts | _flag(ismrmrd.ACQ_FIRST_IN_SLICE)
        blocks[-1][0]["flags"][-1] |= ends | _flag(ismrmrd.ACQ_LAST_IN_SLICE)
    return blocks


def _lines(scan: Scan | ScanHeader, name: str, kz: int, ky: np.ndarray) -> Iterator[np.ndarray]:
    partition = one_partition(scan, name, kz)
    for line in ky:
        yield partition[:, line]


def _acs_flags(ismrmrd: ModuleType, scan: Scan | ScanHeader) -> np.ndarray:
    """(kz, ky) uint64: which lines of an undersampled scan calibrate, and which of them are on the lattice too."""
    flags = np.zeros(scan.mask.shape, np.uint64)
    if scan.acceleration == (1, 1):
        return flags
    lattice = find_lattice(scan.mask, scan.acceleration, scan.caipi_shift).points(scan.mask.shape)
    flags[scan.mask & ~lattice] = _flag(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)
    try:
        region = acs_region(scan.mask)
    except SamplingError:
        return flags
    both = flags[region]
    if both.any():  # the central line of a bare lattice is no calibration region
        both[lattice[region]] = _flag(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)
    return flags


def _heads(ismrmrd: ModuleType, scan: Scan | ScanHeader, n_lines: int, n_samples: int) -> np.ndarray:
    heads = np.zeros(n_lines, dtype=ismrmrd.hdf5.acquisition_header_dtype)
    heads["version"] = 1
    heads["number_of_samples"] = n_samples
    heads["center_sample"] = n_samples // 2
    heads["available_channels"] = heads["active_channels"] = scan.n_coils
    heads["sample_time_us"] = _known(scan, "dwell_us") or 0
    affine = np.asarray(scan.affine, dtype=float)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    centre = affine[:3, :3] @ [n // 2 for n in scan.shape[::-1]] + affine[:3, 3]
    heads["position"] = centre * _LPS
    for name, direction in zip(("read_dir", "phase_dir", "slice_dir"), directions.T, strict=True):
        heads[name] = direction * _LPS
    return heads


def _records(kind: np.dtype, heads: np.ndarray, samples: Samples) -> np.ndarray:
    records = np.empty(len(heads), dtype=kind)
    records["head"] = heads
    for row, line in enumerate(samples()):
        records["data"][row] = np.ascontiguousarray(line).view(np.float32).ravel()
        records["traj"][row] = np.empty(0, np.float32)
    return records


def _flag(number: int) -> np.uint64:
    return np.uint64(1 << (number - 1))
