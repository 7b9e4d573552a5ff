"""ISMRMRD (MRD 1) raw files in HDF5: the XML header, and all acquisitions at once.

Acquisition headers are read in bulk without the samples; these follow in blocks of lines.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ScanError
from sn2nlib.scans.proportion import believable
from sn2nlib.scans.raw.given import known_geometry
from sn2nlib.scans.raw.heaps import check_heaps, heap_of
from sn2nlib.scans.raw.lines import (
    ACS,
    ACS_AND_IMAGE,
    IMAGE,
    LINE,
    NOISE,
    OTHER,
    Lengths,
    LineTable,
    RawHeader,
    RawSource,
    Sizes,
    two_roles,
)
from sn2nlib.scans.raw.mrd_heads import read_heads
from sn2nlib.scans.raw.mrd_variants import mrd_variant, user_parameters
from sn2nlib.scans.raw.oversampling import declared_oversampling
from sn2nlib.scans.scan import check_size
from sn2nlib.scans.sidecar import described, record_of
from sn2nlib.scans.silence import silenced

_COUNTERS = {
    "ky": "kspace_encode_step_1", "kz": "kspace_encode_step_2", "slice": "slice", "average": "average",
    "repetition": "repetition", "contrast": "contrast", "set": "set", "phase": "phase", "segment": "segment",
}  # fmt: skip
_COPIED = {
    "coils": "active_channels", "samples": "number_of_samples", "centre": "center_sample", "before": "discard_pre",
    "after": "discard_post", "dwell_us": "sample_time_us",
}  # fmt: skip
_NOISE, _ACS, _ACS_AND_IMAGE, _REVERSE = 19, 20, 21, 22  # flags, counted from 1
# navigator, phase correction, feedback, dummy, coil correction, phase stabilisation
_OTHERS = (23, 24, 26, 27, 28, 29, 30, 31)
_TRAJECTORIES = {
    "cartesian": "cartesian", "epi": "cartesian", "radial": "radial", "goldenangle": "golden-angle radial",
    "spiral": "spiral",
}  # fmt: skip
_RAMPS = {
    "ramp-up time": "rampUpTime", "flat-top time": "flatTopTime", "ramp-down time": "rampDownTime",
    "delay of the first sample": "acqDelayTime", "number of samples": "numSamples",
}  # name of `ramp.read_trapezoid` → user parameter of the trajectory
_CHUNK = 256  # lines read at a time


def find_group(file: h5py.File) -> str | None:
    """Name of the group with an ISMRMRD header and acquisitions; None if there is none."""
    for name in ("dataset", *file):
        group = file.get(name)
        if isinstance(group, h5py.Group) and {"xml", "data"} <= set(group):
            fields = group["data"].dtype.names or () if isinstance(group["data"], h5py.Dataset) else ()
            if {"head", "data"} <= set(fields):
                return str(name)
    return None


def open_mrd(path: Path) -> RawSource:
    """Header, lines and reader of the first ISMRMRD group of a file.

    Raises
    ------
    ScanError
        If it holds none, or is truncated or damaged.
    """
    with _guarded(), h5py.File(path, "r") as file:
        name = find_group(file)
        if name is None:
            raise ScanError("the file holds no ISMRMRD group with header and acquisitions")
        for part in ("xml", "data"):
            _check_lengths(file[name][part].id.get_type())
        check_heaps(path, heap_of(file[name]["xml"]))
        xml, heads = file[name]["xml"][()], _heads(file[name]["data"])
        header = _header(_text(xml))
        sd_name = header.variant.noise_sd if header.variant is not None else None
        if sd_name is not None and sd_name in file[name]:
            header = replace(header, noise_sd=np.ravel(file[name][sd_name][()]))
    lines, notes, doubts = _table(heads)
    if header.variant is not None and "kz" in header.variant.image_axes:
        lines["kz"], lines["slice"] = lines["slice"], 0  # slices in the place of partitions
    if header.record is not None and not _recorded_info(header.record).get("dwell_us"):
        lines["dwell_us"] = 0  # the record knows none: earlier versions wrote a nominal one
    header = replace(header, notes=tuple(notes), doubts=(*header.doubts, *doubts))
    return RawSource(header, lines, partial(_read_samples, path, f"{name}/data", lines), path.stat().st_size)


class _guarded:
    """h5py raises many kinds for damaged files; what they say may quote the file, and is not repeated."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, ScanError) or not isinstance(error, Exception) or isinstance(error, MemoryError):
            return
        raise ScanError("the HDF5 file is damaged or incomplete; copy it once more") from None


def _text(xml: Any) -> str:
    content = xml.flat[0] if isinstance(xml, np.ndarray) and xml.size else xml
    if not isinstance(content, bytes):
        raise ScanError("the ISMRMRD header is empty: the file is damaged")
    return content.decode("utf-8", errors="replace")


def _check_lengths(kind: h5py.h5t.TypeID) -> None:
    """Refuse types of variable length that are neither sequence nor text: HDF5 2.0 crashes on reading them."""
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        for number in range(kind.get_nmembers()):
            _check_lengths(kind.get_member_type(number))
        return
    # version of the encoding, then class (9: of variable length) and its bits, of which the first four say which kind
    stored = kind.encode()
    if stored[2] & 0x0F == 9 and stored[3] & 0x0F > 1:
        raise ScanError("the HDF5 file is damaged or incomplete; copy it once more")


def _heads(data: h5py.Dataset) -> np.ndarray:
    """Acquisition headers (line,), the samples left where they are."""
    if data.ndim != 1 or data.shape[0] == 0:
        raise ScanError("the file holds no acquisitions: it is empty or truncated")
    stored = data.id.get_storage_size()
    if data.compression is None and stored < data.shape[0] * data.id.get_type().get_size():
        raise ScanError(f"the file declares {data.shape[0]} acquisitions, but does not hold them: truncated file")
    needed = data.shape[0] * data.dtype["head"].itemsize
    if data.shape[0] > 2**24 or not believable(needed, Path(data.file.filename).stat().st_size):
        raise ScanError(f"the file declares {data.shape[0]} acquisitions: it is damaged")
    check_size(data, "the table of acquisitions")
    heads = read_heads(data)
    fields = {"flags", "idx", "position", "read_dir", "phase_dir", "slice_dir", "encoding_space_ref",
              "trajectory_dimensions", *_COPIED.values()}  # fmt: skip
    if not fields <= set(heads.dtype.names or ()) or not set(_COUNTERS.values()) <= set(heads["idx"].dtype.names or ()):
        raise ScanError("the acquisition headers are not those of ISMRMRD 1")
    return heads


def _table(heads: np.ndarray) -> tuple[LineTable, list[str], list[str]]:
    """Table of all lines, notes and doubts."""
    lines = np.zeros(len(heads), dtype=LINE)
    for ours, theirs in _COUNTERS.items():
        lines[ours] = heads["idx"][theirs]
    with np.errstate(invalid="ignore"):
        for ours, theirs in _COPIED.items():
            lines[ours] = np.nan_to_num(heads[theirs], nan=0, posinf=0, neginf=0)
        for row, name in enumerate(("read_dir", "phase_dir", "slice_dir")):
            lines["directions"][:, row] = np.nan_to_num(heads[name], nan=0, posinf=0, neginf=0)
        lines["position"] = np.where(np.abs(heads["position"]) < np.inf, heads["position"], np.nan)
    flags = heads["flags"].astype(np.uint64)

    def flagged(*numbers: int) -> NDArray[np.bool_]:
        return (flags & np.uint64(sum(1 << (number - 1) for number in numbers))) != 0

    lines["role"] = np.select(
        [flagged(_NOISE), flagged(*_OTHERS), flagged(_ACS_AND_IMAGE), flagged(_ACS)],
        [NOISE, OTHER, ACS_AND_IMAGE, ACS],
        IMAGE,
    )
    lines["reversed"] = flagged(_REVERSE)
    notes, doubts = [], two_roles(flagged(_NOISE) & flagged(*_OTHERS, _ACS_AND_IMAGE, _ACS))
    foreign = (heads["encoding_space_ref"] != 0) & (lines["role"] != NOISE)
    if foreign.any():
        lines["role"][foreign] = OTHER
        notes.append(f"{np.count_nonzero(foreign)} lines belong to another encoding than the first: left out")
    if heads["trajectory_dimensions"].any():
        notes.append("the lines carry a trajectory, which is not used: the header calls them Cartesian")
    return lines, notes, doubts


def _parsed(xml: str) -> tuple[Any, Any]:
    """The header as the library reads it, and its first encoding."""
    try:
        from ismrmrd.xsd import CreateFromDocument
    except ImportError as error:
        raise ScanError("reading ISMRMRD files needs ismrmrd: pip install 'sn2n[raw]'") from error
    try:
        with silenced("xsdata.logger"):  # every value is checked afterwards
            header = CreateFromDocument(xml)
        return header, header.encoding[0]
    except MemoryError:
        raise
    except Exception:  # the parser raises many kinds, and quotes the header, which may hold the patient's name
        raise ScanError("the XML header of the file is damaged, or not that of ISMRMRD 1") from None


def _header(xml: str) -> RawHeader:
    """The header without what only the lines tell."""
    header, encoding = _parsed(xml)
    space, limits, parallel = encoding.encodedSpace, encoding.encodingLimits, encoding.parallelImaging
    matrix, fov = _sizes(space), _lengths(space)
    system = header.acquisitionSystemInformation
    bandwidth = _number(getattr(system, "relativeReceiverNoiseBandwidth", None), 0.0, 2.0)
    doubts = [] if bandwidth else ["the receiver's relative noise bandwidth is not in the header: taken as 1"]
    recon = encoding.reconSpace
    oversampling, told = declared_oversampling((fov[2], _lengths(recon)[2]), (matrix[2], _sizes(recon)[2]))
    doubts += told
    factors = getattr(parallel, "accelerationFactor", None)
    reduction = tuple(_count(getattr(factors, f"kspace_encoding_step_{n}", None)) for n in (1, 2))
    variant = mrd_variant(header)
    centre = (_centre(limits, 2), _centre(limits, 1))
    if variant is not None and "kz" in variant.image_axes:
        n_slices = _count(getattr(getattr(limits, "slice", None), "maximum", None)) + 1
        fov = (fov[0] * (n_slices if matrix[0] <= 1 else 1), *fov[1:])  # of 2D slices the header has the thickness
        matrix, centre = (n_slices, *matrix[1:]), (None, centre[1])
    mode = getattr(getattr(parallel, "calibrationMode", None), "value", None)
    trajectory = getattr(encoding.trajectory, "value", encoding.trajectory)
    record = record_of(header)
    known = known_geometry(_recorded_info(record).get("geometry"))
    unknown = "that of the exported scan was"
    return RawHeader(
        kind="ISMRMRD",
        matrix=matrix,
        fov=(0.0, 0.0, 0.0) if known == "nothing" else fov,
        oversampling=oversampling,
        oversampling_source="encodedSpace and reconSpace",
        reconstructed=_sizes(recon)[2],
        centre=centre,
        acceleration=(reduction[0], reduction[1]) if all(1 <= r <= 8 for r in reduction) else None,
        calibration={"embedded": "embedded", "separate": "separate", "external": "separate"}.get(str(mode)),
        bandwidth_ratio=bandwidth or 1.0,
        field_strength=round(_number(getattr(system, "systemFieldStrength_T", None), 0.0, 30.0), 2),
        trajectory=_TRAJECTORIES.get(trajectory, "non-Cartesian"),
        ramp_sampling=_ramps(encoding.trajectoryDescription, matrix[2]) if trajectory == "epi" else None,
        record=record,
        forward_transform="siemens" in str(getattr(system, "systemVendor", None)).lower(),
        geometry_unknown=unknown if known == "nothing" else None,
        place_unknown=unknown if known == "size" else None,
        variant=variant,
        parameters=user_parameters(header) if variant is not None else {},
        doubts=tuple(doubts),
    )


def _ramps(description: Any, n: int) -> dict[str, float]:
    """What the header of an echo-planar scan says about the gradient of its readout, to be regridded to n samples."""
    lists = (getattr(description, f"userParameter{kind}", None) or () for kind in ("Long", "Double"))
    values = {entry.name: entry.value for entries in lists for entry in entries}
    told = {name: values[key] for name, key in (*_RAMPS.items(), ("dwell", "dwellTime")) if key in values}
    known = {name: float(v) for name, v in told.items() if isinstance(v, int | float) and math.isfinite(v)}
    if {"dwell", "number of samples"} <= set(known):
        known["duration of the readout"] = known["dwell"] * known["number of samples"]
    return known | ({"number of samples after regridding": float(n)} if n else {})


def _recorded_info(record: str | None) -> dict[str, Any]:
    """`Scan.info` of an exported file; empty in others' files and in damaged ones, which is told when they are read."""
    try:
        return dict(described(record)["info"]) if record else {}
    except ScanError:
        return {}


def _read_samples(path: Path, name: str, lines: LineTable, rows: NDArray[np.int64]) -> NDArray[np.complex64]:
    """Samples (line, coil, sample) of lines of equal size."""
    coils, samples = int(lines["coils"][rows[0]]), int(lines["samples"][rows[0]])
    out = np.empty((len(rows), coils, samples), dtype=np.complex64)
    with _guarded(), h5py.File(path, "r") as file:
        data = file[name].fields("data")
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            order = np.argsort(part)  # HDF5 wants them ascending
            low, high = int(part[order[0]]), int(part[order[-1]]) + 1
            block = data[low:high][part - low] if high - low <= 4 * len(part) else data[part[order]][np.argsort(order)]
            for number, values in enumerate(block):
                if values.dtype != np.float32 or values.size != 2 * coils * samples:
                    raise ScanError(
                        f"line {part[number]} holds {values.size} numbers, {coils} coils × {samples} complex samples "
                        f"need {2 * coils * samples}: the file is damaged"
                    )
                out[start + number] = values.view(np.complex64).reshape(coils, samples)
    return out


def _number(value: Any, low: float, high: float) -> float:
    """A number in (low, high), else 0."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and low < value < high else 0.0


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**16 else 0


def _of(space: Any, what: str, convert: Callable[[Any], Any]) -> tuple[Any, Any, Any]:
    part = getattr(space, what, None)
    return convert(getattr(part, "z", None)), convert(getattr(part, "y", None)), convert(getattr(part, "x", None))


def _sizes(space: Any) -> Sizes:
    return _of(space, "matrixSize", _count)


def _lengths(space: Any) -> Lengths:
    return _of(space, "fieldOfView_mm", lambda value: _number(value, 0.0, 1e4))


def _centre(limits: Any, step: int) -> int | None:
    value = getattr(getattr(limits, f"kspace_encoding_step_{step}", None), "center", None)
    return value if isinstance(value, int) and 0 <= value < 2**16 else None
