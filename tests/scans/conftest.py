"""Files for the readers: raw files of known content, and damaged files of every kind.

1. The same lines written as Siemens twix (VB and VD) and as ISMRMRD.
2. Damaged copies of a file, each read in a child process of limited memory and time. The process that has read the
   undamaged file forks a child for every mutant, as many at a time as there are cores. RLIMIT_AS allows a child 2 GiB
   beyond what it has at its beginning, so that no mutant of a 3 MB file can take more than that, and RLIMIT_CPU 20 s.
   A child that neither ends nor works, as one can that was forked while a thread of a library held a lock, tells where
   it stands after three minutes and is begun once more.
"""

import faulthandler
import functools
import gc
import hashlib
import itertools
import logging
import os
import struct
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest

from sn2nlib.errors import Sn2nError

TWIX_FLAGS = {"image": 0, "acs": 1 << 22, "both": 1 << 23, "noise": 1 << 25, "navigator": 1 << 21, "even": 1 << 55,
              "noise and acs": 1 << 25 | 1 << 22}  # fmt: skip
MRD_FLAGS = {"image": 0, "acs": 1 << 19, "both": 1 << 20, "noise": 1 << 18, "navigator": 1 << 22,
             "noise and acs": 1 << 18 | 1 << 19}  # fmt: skip
QUATERNION = (0.5, 0.5, 0.5, 0.5)  # w, x, y, z: phase → y, readout → z, slice → x (left, posterior, head)
DIRECTIONS = ((0, 0, 1), (0, 1, 0), (1, 0, 0))  # rows readout, phase, slice; see test_geometry
POSITION = (10.0, -20.0, 30.0)

MEMORY, SECONDS = 2 * 2**30, 20  # of a child
PATIENCE = 180  # seconds, of the clock
Mutant = tuple[str, bytes]  # name, content
Child = tuple[int, int]  # its number, and where to read from
Read = Callable[[Path], str | None]  # what is wrong with what a file was read as, or None


@dataclass(frozen=True)
class Line:
    """A readout: samples (coil, sample), numbers, and what it is for."""

    samples: np.ndarray
    ky: int = 0
    kz: int = 0
    role: str = "image"
    slice: int = 0
    average: int = 0
    repetition: int = 0
    contrast: int = 0
    set: int = 0
    phase: int = 0
    reversed: bool = False
    before: int = 0
    centre: int | None = None
    position: tuple[float, float, float] = POSITION


@dataclass(frozen=True)
class RawFile:
    """Header values, with matrix and field of view (z, y, x) as encoded."""

    lines: Sequence[Line]
    matrix: tuple[int, int, int]
    fov: tuple[float, float, float] = (8.0, 20.0, 48.0)
    oversampling: float = 2.0
    centre: tuple[int, int] = (0, 0)
    acceleration: tuple[int, int] = (1, 1)
    calibration: str = "embedded"
    sequence: str = "%SiemensSeq%\\gre"
    dwell_us: float = 5.0
    vendor: str = "Nobody"  # of ISMRMRD files
    extra: dict[str, str] = field(default_factory=dict)


def twix_protocol(file: RawFile) -> bytes:
    """The header of a measurement, with its length first."""
    z, y, x = file.matrix
    meas = {
        "flReadoutOSFactor": f"{file.oversampling}", "tSequenceFileName": f'"{file.sequence}"',
        "iPEFTLength": y, "i3DFTLength": z, "iNoOfFourierColumns": x, "flMagneticFieldStrength": "2.89",
        "alRegridMode": "1 1", "SoftwareVersions": '"syngo MR E11"', **file.extra,
    }  # fmt: skip
    yaps = {
        "sKSpace.lBaseResolution": round(x / file.oversampling), "sKSpace.ucTrajectory": 1,
        "sKSpace.ucDimension": 4 if z > 1 else 2,
        "sPat.lAccelFactPE": file.acceleration[0], "sPat.lAccelFact3D": file.acceleration[1],
        "sPat.ucRefScanMode": {"embedded": 2, "separate": 4}.get(file.calibration, 1),
        "sRXSPEC.alDwellTime[0]": round(1000 * file.dwell_us),
        "sSliceArray.asSlice[0].dThickness": file.fov[0], "sSliceArray.asSlice[0].dPhaseFOV": file.fov[1],
        "sSliceArray.asSlice[0].dReadoutFOV": file.fov[2] / file.oversampling,
    }  # fmt: skip
    parameters = "\n".join(f'<ParamString."{name}">  {{ {value}  }}' for name, value in meas.items())
    table = "\n".join(f"{name}\t = \t{value}" for name, value in yaps.items())
    buffers = {
        "Config": '<ParamString."tPatientName">  { "DOE, JANE"  }',
        "Meas": parameters,
        "MeasYaps": f"### ASCCONV BEGIN ###\n{table}\n### ASCCONV END ###\n",
    }
    body = struct.pack("<I", len(buffers))
    for name, text in buffers.items():
        body += name.encode() + b"\0" + struct.pack("<I", len(text)) + text.encode()
    body += bytes(-(len(body) + 4) % 32 + 10016)  # VB is told from VD by a header longer than 10000 bytes
    return struct.pack("<I", len(body) + 4) + body


def twix_line(file: RawFile, line: Line, number: int, *, vb: bool) -> bytes:
    """Line header, and samples with a header per channel."""
    coils, samples = line.samples.shape
    flags = TWIX_FLAGS[line.role] | (1 << 24 if line.reversed else 0)
    length = coils * (128 + 8 * samples) if vb else 192 + coils * (32 + 8 * samples)
    centre = samples // 2 if line.centre is None else line.centre
    start = struct.pack("<5I", length, 1, number, 0, 0)
    counters = (line.ky, line.average, line.slice, line.kz, line.contrast, line.phase, line.repetition,
                line.set, *[0] * 6)  # fmt: skip
    sizes = struct.pack("<Q2H14H4HfI2H", flags, samples, coils, *counters, line.before, 0, centre, 0, 0.0, 0,
                        file.centre[1], file.centre[0])  # fmt: skip
    place = struct.pack("<7f", *line.position, *QUATERNION)
    data = [channel.astype(np.complex64).tobytes() for channel in line.samples]
    if vb:
        head = start + sizes + bytes(16) + place
        return b"".join(head + struct.pack("<2H", channel, 0) + values for channel, values in enumerate(data))
    head = start + bytes(20) + sizes + place + bytes(64)
    return head + b"".join(struct.pack("<I", length) + bytes(28) + values for values in data)


def twix_end(*, vb: bool) -> bytes:
    """The mark of the end, and a block of synchronisation data before it."""
    size = 128 if vb else 192
    at = 20 if vb else 40
    sync, end = bytearray(size + 64), bytearray(size + 160)
    sync[:4], end[:4] = struct.pack("<I", len(sync)), struct.pack("<I", len(end))
    sync[at : at + 8], end[at : at + 8] = struct.pack("<Q", 1 << 5), struct.pack("<Q", 1)
    return bytes(sync + end)


def write_twix(path: Path, *files: RawFile, vb: bool = False) -> Path:
    """One measurement (VB), or a list of them (VD)."""
    pieces = []
    for file in files:
        lines = b"".join(twix_line(file, line, n, vb=vb) for n, line in enumerate(file.lines))
        pieces.append(twix_protocol(file) + lines + twix_end(vb=vb))
    if vb:
        path.write_bytes(pieces[0])
        return path
    content = bytearray(10240)
    content[:8] = struct.pack("<2I", 0, len(pieces))
    for number, piece in enumerate(pieces):
        content += bytes(-len(content) % 512)
        entry = struct.pack("<2I2Q", number, number, len(content), len(piece)) + b"DOE, JANE".ljust(128, b"\0")
        content[8 + 152 * number : 160 + 152 * number] = entry
        content += piece
    path.write_bytes(content)
    return path


def write_mrd(path: Path, file: RawFile) -> Path:
    """HDF5 with the group dataset."""
    from ismrmrd.hdf5 import acquisition_dtype

    rows = np.zeros(len(file.lines), dtype=acquisition_dtype)
    for row, line in zip(rows, file.lines, strict=True):
        head, (coils, samples) = row["head"], line.samples.shape
        head["flags"] = MRD_FLAGS[line.role] | (1 << 21 if line.reversed else 0)
        head["number_of_samples"], head["active_channels"], head["available_channels"] = samples, coils, coils
        head["center_sample"] = samples // 2 if line.centre is None else line.centre
        head["discard_pre"] = line.before
        head["sample_time_us"] = 7680 / samples if line.role == "noise" else file.dwell_us
        head["position"] = line.position
        head["read_dir"], head["phase_dir"], head["slice_dir"] = DIRECTIONS
        index = head["idx"]
        index["kspace_encode_step_1"], index["kspace_encode_step_2"] = line.ky, line.kz
        for name in ("slice", "average", "repetition", "contrast", "set", "phase"):
            index[name] = getattr(line, name)
        row["data"] = line.samples.astype(np.complex64).ravel().view(np.float32)
        row["traj"] = np.zeros(0, np.float32)
    with h5py.File(path, "w") as output:
        group = output.create_group("dataset")
        group.create_dataset("data", data=rows, dtype=acquisition_dtype)
        group.create_dataset("xml", data=[mrd_header(file)], dtype=h5py.special_dtype(vlen=bytes))
    return path


def mrd_header(file: RawFile) -> bytes:
    """The XML header."""
    def sizes(values: Sequence[float]) -> str:
        return "".join(f"<{axis}>{value}</{axis}>" for axis, value in zip("xyz", values[::-1], strict=True))

    def space(name: str, factor: float) -> str:
        matrix, fov = list(file.matrix), list(file.fov)
        matrix[2], fov[2] = round(matrix[2] / factor), fov[2] / factor
        return (f"<{name}><matrixSize>{sizes(matrix)}</matrixSize>"
                f"<fieldOfView_mm>{sizes(fov)}</fieldOfView_mm></{name}>")  # fmt: skip

    limits = "".join(
        f"<kspace_encoding_step_{n}><minimum>0</minimum><maximum>9</maximum><center>{centre}</center>"
        f"</kspace_encoding_step_{n}>" for n, centre in ((1, file.centre[1]), (2, file.centre[0]))
    )  # fmt: skip
    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        "<subjectInformation><patientName>DOE, JANE</patientName></subjectInformation>"
        f"<acquisitionSystemInformation><systemVendor>{file.vendor}</systemVendor><systemFieldStrength_T>2.89</systemFieldStrength_T>"
        "<relativeReceiverNoiseBandwidth>0.793</relativeReceiverNoiseBandwidth></acquisitionSystemInformation>"
        "<experimentalConditions><H1resonanceFrequency_Hz>123</H1resonanceFrequency_Hz></experimentalConditions>"
        f"<encoding>{space('encodedSpace', 1)}{space('reconSpace', file.oversampling)}"
        f"<encodingLimits>{limits}</encodingLimits><trajectory>cartesian</trajectory><parallelImaging>"
        f"<accelerationFactor><kspace_encoding_step_1>{file.acceleration[0]}</kspace_encoding_step_1>"
        f"<kspace_encoding_step_2>{file.acceleration[1]}</kspace_encoding_step_2></accelerationFactor>"
        f"<calibrationMode>{file.calibration}</calibrationMode></parallelImaging></encoding></ismrmrdHeader>"
    ).encode()


def write_any(path: Path, file: RawFile, kind: str) -> Path:
    """In the format `kind`: VB, VD or MRD."""
    return write_mrd(path, file) if kind == "MRD" else write_twix(path, file, vb=kind == "VB")


def lines_of(
    kspace: np.ndarray, mask: np.ndarray | None = None, *, first: tuple[int, int] = (0, 0), **changes: object
) -> list[Line]:
    """Lines of the acquired positions of (coil, kz, ky, sample), numbered from `first` (kz, ky)."""
    acquired = np.ones(kspace.shape[1:3], bool) if mask is None else mask
    return [
        Line(kspace[:, z, y], ky=int(y) - first[1], kz=int(z) - first[0], **changes)  # type: ignore[arg-type]
        for z, y in np.argwhere(acquired)
    ]


class Raw:
    """The above in one fixture."""

    Line, File, position = Line, RawFile, POSITION
    lines, write = staticmethod(lines_of), staticmethod(write_any)
    twix, mrd = staticmethod(write_twix), staticmethod(write_mrd)


@pytest.fixture(scope="session")
def raw() -> Raw:
    """Builders of raw files."""
    return Raw()


def state(path: Path) -> list[tuple[str, str, int]]:
    """Of a file, or of all files of a folder, to tell whether one was touched."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(file.name, hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns) for file in files]


def tried(path: Path, reads: Sequence[Read], *, secrets: Sequence[str]) -> str:
    """What reading a path in several ways comes to: ok, the package's own sentence, or FAULT and what is wrong."""
    before, said = state(path), "ok"
    with overheard() as records:
        for read in reads:
            try:
                fault = read(path)
            except Sn2nError as error:
                said = str(error)
                if str(path) not in said or "\n" in said or any(secret in said for secret in secrets):
                    return f"FAULT a poor message: {said}"
            except MemoryError:
                return "FAULT too much memory"
            except BaseException:
                return "FAULT " + traceback.format_exc()
            else:
                if fault:
                    return f"FAULT {fault}"
    if records:
        return f"FAULT a library says {records}"
    return said if state(path) == before else "FAULT the file was changed"


@contextmanager
def overheard() -> Iterator[list[str]]:
    """What is logged meanwhile: libraries would quote headers."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield records
    finally:
        logging.getLogger().removeHandler(handler)


def begun(work: Callable[[], str]) -> Child:
    """A forked process of limited address space and time that does the work."""
    import resource  # not on Windows

    receiver, sender = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which are idle here
        child = os.fork()
    if child == 0:
        try:
            gc.disable()  # which would touch, and so copy, the parent's memory
            faulthandler.dump_traceback_later(PATIENCE, exit=True, file=sys.__stderr__)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            told = work().replace("\n", " ⏎ ").encode()
            os.write(sender, told[:60_000])  # less than a pipe holds
        finally:
            os._exit(0)
    os.close(sender)
    return child, receiver


def ended(child: Child, work: Callable[[], str] | None = None) -> str:
    """What the work came to, on one line; work that stood still is begun once more."""
    with os.fdopen(child[1], "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child[0], 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 1 and work is not None:
        return ended(begun(work))
    return told.decode(errors="replace") if told and not status else f"FAULT the child ended with status {status}"


def in_child(work: Callable[[], str]) -> str:
    """One piece of work, done."""
    return ended(begun(work), work)


def check(mutants: Iterator[Mutant], place: Callable[[int], Path], work: Callable[[Path], str]) -> dict[str, str]:
    """Name of the mutant → outcome of the work on it, all of them; fails if any outcome is a fault.

    `place` names the file of the children that run at one time, by their number.
    """
    outcomes: dict[str, str] = {}
    while batch := list(itertools.islice(mutants, os.cpu_count() or 1)):
        children = {}
        for number, (name, content) in enumerate(batch):
            path = place(number)
            path.write_bytes(content)
            task = functools.partial(work, path)
            children[name] = begun(task), task
        outcomes |= {name: ended(*child) for name, child in children.items()}
    faults = {name: line for name, line in outcomes.items() if line.startswith("FAULT")}
    assert not faults, f"{len(faults)} of {len(outcomes)}: {dict(list(faults.items())[:3])}"
    return outcomes


def flipped(content: bytes, ranges: Sequence[tuple[int, int]], n: int, seed: int) -> Iterator[Mutant]:
    """Copies with one to four bytes of the ranges changed: a bit, a byte, or a whole word of ones or zeros."""
    rng = np.random.default_rng(seed)
    for number in range(n):
        mutant = bytearray(content)
        for _ in range(rng.integers(1, 5)):
            low, high = ranges[rng.integers(len(ranges))]
            at = int(rng.integers(low, high))
            kind = rng.integers(4)
            if kind == 0:
                mutant[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                mutant[at] = int(rng.integers(256))
            else:
                mutant[at : at + 4] = (b"\xff" if kind == 2 else b"\0") * len(mutant[at : at + 4])
        yield f"mutant {number}", bytes(mutant)


def truncated(content: bytes) -> Iterator[Mutant]:
    """Nothing at all, and ten copies cut at places spread from the beginning to the end."""
    yield "empty", b""
    for part in range(1, 11):
        yield f"{part} elevenths", content[: part * len(content) // 11 + 7]


class Hostile:
    """The second half of the above in one fixture."""

    state, tried, in_child, check = map(staticmethod, (state, tried, in_child, check))
    flipped, truncated = staticmethod(flipped), staticmethod(truncated)


@pytest.fixture(scope="session")
def hostile() -> Hostile:
    """Damaged files, and children that read them."""
    pytest.importorskip("resource", reason="systems without it, as Windows, cannot limit a process")
    return Hostile()
