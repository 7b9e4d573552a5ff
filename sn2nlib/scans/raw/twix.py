"""Siemens twix measurement files (.dat): VB in one piece, VD, VE and XA as a list of measurements.

The protocol is parsed by pymapvbvd. The chain of line headers is walked here, every length checked against the file
before it is believed: pymapvbvd and twixtools trust them, and a damaged one sends them round in circles.
Layout: the MDH structures as described by both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ChoiceError, ScanError
from sn2nlib.scans.raw.geometry import quaternion_directions
from sn2nlib.scans.raw.lines import ACS, ACS_AND_IMAGE, IMAGE, LINE, NOISE, OTHER, LineTable, RawSource, two_roles
from sn2nlib.scans.raw.protocol import read_protocol, twix_header

_COUNTERS = np.dtype([(name, "<u2") for name in (
    "ky", "average", "slice", "kz", "contrast", "phase", "repetition", "set", "segment", "a", "b", "c", "d", "e",
)])  # fmt: skip
_START = [("length", "<u4"), ("uid", "<i4"), ("number", "<u4"), ("times", "<u4", 2)]
_SIZES = [("flags", "<u8"), ("samples", "<u2"), ("coils", "<u2"), ("counters", _COUNTERS), ("before", "<u2"),
          ("after", "<u2"), ("centre", "<u2"), ("coil_select", "<u2"), ("offcentre", "<f4"), ("since_rf", "<u4"),
          ("centre_ky", "<u2"), ("centre_kz", "<u2")]  # fmt: skip
_PLACE = [("position", "<f4", 3), ("quaternion", "<f4", 4)]
MDH_VB = np.dtype([*_START, *_SIZES, ("parameters", "<u2", 8), *_PLACE, ("channel", "<u2"), ("table", "<u2")])
MDH_VD = np.dtype([*_START, ("system", "<u4"), ("table", "<i4", 4), *_SIZES, *_PLACE, ("parameters", "<u2", 30),
                   ("check", "<u4")])  # fmt: skip
_CHANNEL_BYTES = 32  # VD: header of every channel of a line
_RAID = np.dtype([("id", "<u4"), ("file", "<u4"), ("offset", "<u8"), ("length", "<u8"), ("names", "V128")])
_MOST_MEASUREMENTS = 64

_END, _FEEDBACK, _SYNC = 1 << 0, 1 << 1 | 1 << 2, 1 << 5
_STABILISATION, _PHASE_CORRECTION = 1 << 14 | 1 << 15, 1 << 21
_REFERENCE, _REFERENCE_AND_IMAGE, _REFLECTED, _NOISE = 1 << 22, 1 << 23, 1 << 24, 1 << 25
_DUMMY, _EVEN = 1 << 51, 1 << 55  # even: SKIP_REGRIDDING
_NOT_IMAGE = _FEEDBACK | _STABILISATION | _PHASE_CORRECTION | _DUMMY
_LENGTH, _PACKED = 0x1FFFFFF, 1 << 26
# a noise adjustment readout lasts so long, whatever its number of samples: as siemens_to_ismrmrd has it; no twix file
# with a noise scan was at hand to confirm it
_NOISE_READOUT_US = 7680.0


@dataclass(frozen=True)
class Measurement:
    """Where one measurement of a twix file lies, in bytes."""

    start: int
    end: int
    is_vb: bool


def is_twix(head: bytes) -> bool:
    """Whether the first bytes are those of a twix file."""
    if len(head) < 24:
        return False
    first, second = (int(n) for n in np.frombuffer(head, "<u4", 2))
    listed = first < 10000 and 1 <= second <= _MOST_MEASUREMENTS
    return listed or (1 <= second <= 32 and head[8:9].isalpha() and b"\0" in head[8:40] and first >= 1024)


def find_measurements(path: Path) -> list[Measurement]:
    """The measurements of a twix file, in its order; the last is usually the scan itself.

    Raises
    ------
    ScanError
        If one lies outside the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8 + _MOST_MEASUREMENTS * _RAID.itemsize)
    first, count = (int(n) for n in np.frombuffer(head, "<u4", 2))
    if not (first < 10000 and count <= _MOST_MEASUREMENTS):
        return [Measurement(0, size, is_vb=True)]
    if len(head) < 8 + count * _RAID.itemsize:
        raise ScanError("the file ends within its table of measurements: it is truncated")
    found = []
    for entry in np.frombuffer(head, _RAID, count, offset=8):
        start, length = int(entry["offset"]), int(entry["length"])
        # the length is missing where the file was taken from the scanner while it was being written
        end = start + length if length else size
        if not 0 < start < size:
            raise ScanError(f"a measurement begins at byte {start} of {size}: the file is truncated or damaged")
        found.append(Measurement(start, min(end, size), is_vb=False))
    return found


def open_twix(path: Path, *, measurement: int = -1) -> RawSource:
    """Header, lines and reader of one measurement.

    Parameters
    ----------
    path
    measurement
        Which of several, counted from 0, or from -1 backwards.

    Raises
    ------
    ScanError
        If there is no such measurement, or the file is truncated or damaged.
    """
    found = find_measurements(path)
    if not -len(found) <= measurement < len(found):
        raise ChoiceError(f"there is no measurement {measurement}; the file holds {len(found)}, counted from 0")
    chosen = measurement % len(found)
    protocol = read_protocol(path, found[chosen].start, found[chosen].end)
    lines, read, centre, doubts = _read_lines(path, found[chosen], protocol)
    header = twix_header(protocol, lines, centre, kind=_kind(found[chosen], protocol), n_measurements=len(found))
    header = replace(header, doubts=(*header.doubts, *doubts))
    noise = None
    if not (lines["role"] == NOISE).any():
        noise = _noise_of_others(path, found[:chosen])
    return RawSource(header, lines, read, path.stat().st_size, noise)


def _kind(measurement: Measurement, protocol: Mapping[str, Any]) -> str:
    software = str(protocol["Meas"].get("SoftwareVersions", "")) or str(protocol["Dicom"].get("SoftwareVersions", ""))
    line = "VB" if measurement.is_vb else "XA" if " XA" in software else "VE" if " E" in software else "VD/VE/XA"
    return f"Siemens twix ({line})"


def _noise_of_others(path: Path, others: list[Measurement]) -> tuple[LineTable, Any] | None:
    for other in reversed(others):
        try:
            lines, read, *_ = _read_lines(path, other, read_protocol(path, other.start, other.end))
        except ScanError:
            continue  # an adjustment that cannot be read is no worse than none: the plan says that there is no noise
        noise = np.flatnonzero(lines["role"] == NOISE)
        if noise.size:
            return lines[noise], lambda rows, numbers=noise, read=read: read(numbers[rows])
    return None


def _read_lines(
    path: Path, measurement: Measurement, protocol: Mapping[str, Any]
) -> tuple[LineTable, Any, tuple[int | None, int | None], list[str]]:
    """Table of all lines with samples, their reader, the (kz, ky) centre that the lines name, and doubts."""
    mdh = MDH_VB if measurement.is_vb else MDH_VD
    bytes_ = np.memmap(path, dtype=np.uint8, mode="r")
    places, others, more = _walk(bytes_, measurement, int(protocol["bytes"]), mdh)
    if not places.size:
        raise ScanError("the measurement holds no lines with samples: the file is truncated, or an adjustment")
    heads = np.concatenate([bytes_[place : place + mdh.itemsize] for place in places]).view(mdh)
    lines = _table(heads, protocol)
    image = np.isin(lines["role"], (IMAGE, ACS_AND_IMAGE))
    centre: tuple[int | None, int | None] = (None, None)
    if image.any():
        centre = (_common(heads["centre_kz"][image]), _common(heads["centre_ky"][image]))
    flags = heads["flags"]
    doubts = two_roles(((flags & _NOISE) != 0) & ((flags & (_NOT_IMAGE | _REFERENCE | _REFERENCE_AND_IMAGE)) != 0))
    doubts += _uncounted(lines, heads["number"].astype(np.int64), others)
    if more:
        doubts.append("lines follow the mark of the measurement's end: they are not read, and the matrix may be too "
                      "small for them; is the file damaged?")  # fmt: skip
    return lines, partial(_read_samples, bytes_, places, lines, mdh), centre, doubts


def _common(values: NDArray[np.uint16]) -> int | None:
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


def _uncounted(lines: LineTable, numbers: NDArray[np.int64], others: set[int]) -> list[str]:
    """What is in doubt if the scanner's own count of its lines, one more for each, has a gap or two.

    Nothing is said where there are many: then the sequence counts what it does not keep, or not in order. A number
    that fits neither the one before nor the one after is damaged itself, and passed over.

    Parameters
    ----------
    lines, numbers
        All lines of the measurement, and their numbers in the count.
    others
        Numbers of blocks that are no lines.
    """
    ahead = np.pad(numbers - np.arange(len(numbers)), 1, mode="edge")
    numbers = np.median([ahead[:-2], ahead[1:-1], ahead[2:]], axis=0).astype(np.int64) + np.arange(len(numbers))
    steps = np.diff(numbers)
    most = max(2, len(lines) // 50)
    if (steps < 1).any() or int(steps.sum()) - len(steps) > most + len(others):
        return []
    lost = [(row, number) for row in np.flatnonzero(steps > 1)
            for number in range(numbers[row] + 1, numbers[row + 1]) if number not in others]  # fmt: skip
    if not 0 < len(lost) <= most:
        return []
    kz, ky = lines[["kz", "ky"]][lost[0][0]].tolist()
    return [f"{len(lost)} of the lines that the scanner counted are not in the file, the first after kz {kz}, ky {ky}: "
            "is it damaged?"]  # fmt: skip


def _walk(
    bytes_: np.memmap, measurement: Measurement, header_bytes: int, mdh: np.dtype
) -> tuple[NDArray[np.int64], set[int], bool]:
    """What follows the header of a measurement.

    Returns
    -------
    places
        Byte offsets of the headers of all lines with samples.
    others
        Numbers of blocks of other data; one as large as a line with its numbers of coils and samples is left out,
        since it may be a line whose flags are damaged.
    more
        Whether lines follow the mark of the end.
    """
    at, end = measurement.start + header_bytes, measurement.end
    found: list[int] = []
    others: set[int] = set()
    while True:
        if at + mdh.itemsize > end:
            raise ScanError(f"the file ends after {len(found)} lines without a mark of its end: it is truncated")
        head = bytes_[at : at + mdh.itemsize].view(mdh)[0]
        flags, length = int(head["flags"]), int(head["length"]) & _LENGTH
        if flags & _END:
            places = np.array(found, dtype=np.int64)
            return places, others, _is_line(bytes_, at + max(length, mdh.itemsize), end, mdh, last=found[-1:])
        if flags & _SYNC:
            step = length
            if step != _line_bytes(head, mdh):
                others.add(int(head["number"]))
        else:
            step = _line_bytes(head, mdh)
            packed = int(head["length"]) & _PACKED
            if mdh is MDH_VD and length != step and not packed:
                raise ScanError(f"line {len(found)} declares {length} bytes, its samples need {step}: damaged file")
            found.append(at)
        if step < mdh.itemsize or at + step > end:
            raise ScanError(f"line {len(found)} at byte {at} reaches beyond the end: the file is truncated or damaged")
        at += step


def _is_line(bytes_: np.memmap, at: int, end: int, mdh: np.dtype, *, last: list[int]) -> bool:
    """Whether a whole line stands there, told by its length, or, of VB, by being as large as the last one before."""
    if at + mdh.itemsize > end:
        return False
    head = bytes_[at : at + mdh.itemsize].view(mdh)[0]
    step = _line_bytes(head, mdh)
    if mdh is MDH_VB:
        same = any(step == _line_bytes(bytes_[place : place + mdh.itemsize].view(mdh)[0], mdh) for place in last)
    else:
        same = step == int(head["length"]) & _LENGTH
    return same and step > mdh.itemsize and at + step <= end


def _line_bytes(head: np.void, mdh: np.dtype) -> int:
    coils, samples = int(head["coils"]), int(head["samples"])
    if mdh is MDH_VB:
        return coils * (MDH_VB.itemsize + 8 * samples)
    return MDH_VD.itemsize + coils * (_CHANNEL_BYTES + 8 * samples)


def _table(heads: np.ndarray, protocol: Mapping[str, Any]) -> LineTable:
    lines = np.zeros(len(heads), dtype=LINE)
    for name in ("ky", "kz", "slice", "average", "repetition", "contrast", "set", "phase", "segment"):
        lines[name] = heads["counters"][name]
    for name in ("coils", "samples", "centre", "before", "after"):
        lines[name] = heads[name]
    flags = heads["flags"]
    reference, both = (flags & _REFERENCE) != 0, (flags & _REFERENCE_AND_IMAGE) != 0
    lines["role"] = np.select(
        [
            (flags & _NOISE) != 0,
            (flags & _NOT_IMAGE) != 0,
            both,
            reference,
        ],
        [NOISE, OTHER, ACS_AND_IMAGE, ACS],
        IMAGE,
    )
    lines["reversed"] = (flags & _REFLECTED) != 0
    lines["even"] = (flags & _EVEN) != 0
    lines["dwell_us"] = protocol["dwell_us"]
    noise = lines["role"] == NOISE
    lines["dwell_us"][noise] = _NOISE_READOUT_US / np.maximum(1, heads["samples"][noise])
    lines["position"] = _finite(heads["position"], np.nan)
    lines["directions"] = quaternion_directions(_finite(heads["quaternion"], 0))
    return lines


def _finite(values: NDArray[np.float32], other: float) -> NDArray[np.float64]:
    """Values of a damaged header that are no numbers, or absurd, become `other`: 0 for what no direction is made of."""
    doubles = values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(doubles) < 1e6, doubles, other)


def _read_samples(
    bytes_: np.memmap, places: NDArray[np.int64], lines: LineTable, mdh: np.dtype, rows: NDArray[np.int64]
) -> NDArray[np.complex64]:
    """Samples (line, coil, sample) of lines of equal size."""
    coils, samples = int(lines["coils"][rows[0]]), int(lines["samples"][rows[0]])
    skip, own = (0, MDH_VB.itemsize) if mdh is MDH_VB else (MDH_VD.itemsize, _CHANNEL_BYTES)
    block = coils * (own + 8 * samples)
    out = np.empty((len(rows), coils, samples), dtype=np.complex64)
    for number, row in enumerate(rows):
        at = int(places[row]) + skip
        channels = bytes_[at : at + block].reshape(coils, own + 8 * samples)
        if mdh is MDH_VB and not (channels[:, 28:30] == channels[0, 28:30]).all():
            raise ScanError(f"the channels of line {row} declare different numbers of samples: damaged file")
        out[number] = np.ascontiguousarray(channels[:, own:]).view(np.complex64)
    return out


