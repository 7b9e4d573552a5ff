"""Damaged raw files, read in child processes of limited memory and time: an error in words, or a sound scan.

To save the forks, 25 mutants share a child: RLIMIT_AS allows 2 GiB beyond what the child has at its beginning, so that
no mutant of a 3 MB file can take more than that, and RLIMIT_CPU 20 s for all of them together. If a child dies, its
mutants are read again, each in a child of its own, and the one at fault is named.
"""

import os
import resource
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sn2nlib.errors import Sn2nError
from sn2nlib.scans.raw import inspect_raw, read_raw
from sn2nlib.scans.scan import Scan

MEMORY, SECONDS = 2 * 2**30, 20
BATCH = 25  # mutants per child
N_OWN, N_MEASURED = 500, 20  # mutants per file: 500 twix and 500 ISMRMRD headers of our own, 60 of measured files

Mutant = tuple[str, bytes]


def tried(path: Path, sizes: dict[str, int]) -> str:
    """What reading and inspecting a file comes to: ok, or what is wrong with that."""
    said = "ok"
    for read in (inspect_raw, read_raw):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = read(path)
        except Sn2nError as error:
            said = str(error)
            if str(path) not in said or "DOE" in said or "ISMRM, DS-Test" in said or "\n" in said:
                return f"FAULT a poor message: {said}"
        except MemoryError:
            return "FAULT too much memory"
        except BaseException:
            return "FAULT " + traceback.format_exc()
        else:
            if isinstance(found, Scan) and (fault := disagreement(found, sizes)):
                return f"FAULT {fault}"
    return said


def disagreement(scan: Scan, sizes: dict[str, int]) -> str | None:
    """A scan may be less than the file once was, never more."""
    if scan.n_coils > sizes["coils"] or scan.kspace.nbytes > max(40 * sizes["bytes"], 2**26):
        return f"k-space {scan.kspace.shape}"
    filled = int(np.count_nonzero(np.abs(scan.kspace).sum(axis=(0, 3))))
    lines = int(scan.mask.sum())
    if lines > sizes["lines"] or filled > lines:
        return f"{lines} lines in the mask, {filled} with samples, {sizes['lines']} in the file"
    return None


def in_child(work: Callable[[], list[str]], folder: Path) -> list[str]:
    """Results of `work` in a forked process of limited address space and time; a line per result."""
    report = folder / "report.txt"
    report.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which are idle here
        child = os.fork()
    if child == 0:
        try:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            report.write_text("\n".join(line.replace("\n", " ⏎ ") for line in work()))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if status or not report.is_file():
        return [f"FAULT the child ended with status {status}"]
    return report.read_text().split("\n")


def check(mutants: Iterator[Mutant], folder: Path, sizes: dict[str, int]) -> dict[str, str]:
    """Name of the mutant → outcome, all of them; fails if any outcome is a fault."""
    everything, outcomes = list(mutants), {}
    path = folder / "mutant.raw"

    def work(batch: list[Mutant]) -> list[str]:
        told = []
        for _, content in batch:
            path.write_bytes(content)
            told.append(tried(path, sizes))
        return told

    for start in range(0, len(everything), BATCH):
        batch = everything[start : start + BATCH]
        told = in_child(lambda batch=batch: work(batch), folder)  # type: ignore[misc]
        if len(told) != len(batch):  # a child died: find out of which
            told = [in_child(lambda one=one: work([one]), folder)[0] for one in batch]  # type: ignore[misc]
        outcomes |= {name: line for (name, _), line in zip(batch, told, strict=True)}
    faults = {name: line for name, line in outcomes.items() if line.startswith("FAULT")}
    assert not faults, f"{len(faults)} of {len(outcomes)}: {dict(list(faults.items())[:3])}"
    return outcomes


def flipped(content: bytes, ranges: list[tuple[int, int]], n: int, seed: int) -> Iterator[Mutant]:
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
    for tenth in range(10):
        yield f"{tenth} tenths", content[: tenth * len(content) // 10 + (7 if tenth else 0)]


def header_ranges(content: bytes, kind: str) -> list[tuple[int, int]]:
    """Where the headers are: the table of measurements, lengths, interesting words of the protocol, line headers."""
    if kind == "MRD":
        xml = content.index(b"<ismrmrdHeader")
        ranges = [(0, 2048), (xml, content.index(b"</ismrmrdHeader>"))]
        words = (b"<matrixSize>", b"<fieldOfView_mm>", b"<kspace_encoding_step_1>", b"<encodingLimits>")
        ranges += [(content.index(word), content.index(word) + 60) for word in words]
        return ranges + [(xml_end, xml_end + 4096) for xml_end in (2048, max(2048, len(content) - 8192))]
    words = (b"flReadoutOSFactor", b"alRegridMode", b"iPEFTLength", b"lBaseResolution", b"alDwellTime", b"MeasYaps\0")
    ranges = [(0, 64)] + [(at, at + 60) for word in words if (at := content.find(word)) >= 0]
    start = int.from_bytes(content[16:24], "little")
    header = int.from_bytes(content[start : start + 4], "little")
    ranges.append((start, start + 24))
    at = start + header
    for _ in range(40):
        length = int.from_bytes(content[at : at + 4], "little") & 0x1FFFFFF
        ranges += [(at, at + 8), (at + 40, at + 116)]
        at += max(length, 192)
        if at + 192 > len(content):
            break
    return ranges


def own_file(raw: Any, folder: Path, kind: str) -> tuple[bytes, dict[str, int]]:
    """Four coils, undersampled, with noise scan; and its sizes."""
    from sn2nlib.sampling import lattice_mask

    rng = np.random.default_rng(3)
    shape = (4, 6, 20, 24)
    kspace = rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]
    mask = lattice_mask(shape[1:3], acceleration=(2, 1), acs=8)
    noise = raw.Line(kspace[:, 0, 0], role="noise")
    file = raw.File([noise, *raw.lines(kspace, mask)], shape[1:], centre=(3, 10), acceleration=(2, 1))
    content = raw.write(folder / "own", file, kind).read_bytes()
    return content, {"coils": 4, "lines": int(mask.sum()), "bytes": len(content)}


@pytest.mark.parametrize("kind", ["VD", "MRD"])
def test_damaged_headers_of_our_own_files(tmp_path: Path, raw: Any, kind: str) -> None:
    content, sizes = own_file(raw, tmp_path, kind)
    outcomes = check(flipped(content, header_ranges(content, kind), N_OWN, seed=11), tmp_path, sizes)
    assert len(outcomes) == N_OWN
    refused = sum(line != "ok" for line in outcomes.values())
    assert 0.1 * N_OWN < refused < 0.95 * N_OWN  # the fuzz hits something, and not only what kills


@pytest.mark.parametrize(
    ("name", "kind", "coils", "lines"),
    [
        ("brain16ch_pulseq_164128.dat", "VD", 16, 128),
        ("phantom2ch_2reps_twixtools_gre.dat", "VD", 2, 320),
        ("phantom14ch_R3_gadgetron.h5", "MRD", 14, 68),
    ],
)
def test_damaged_headers_of_measured_files(
    tmp_path: Path, require: Any, name: str, kind: str, coils: int, lines: int
) -> None:
    content = require("data", name).read_bytes()
    sizes = {"coils": coils, "lines": lines, "bytes": len(content)}
    outcomes = check(flipped(content, header_ranges(content, kind), N_MEASURED, seed=5), tmp_path, sizes)
    assert len(outcomes) == N_MEASURED


@pytest.mark.parametrize("kind", ["VB", "VD", "MRD"])
def test_truncated_files_of_our_own(tmp_path: Path, raw: Any, kind: str) -> None:
    content, sizes = own_file(raw, tmp_path, kind)
    outcomes = check(truncated(content), tmp_path, sizes)
    assert len(outcomes) == 10 and not any(line == "ok" for line in outcomes.values())


@pytest.mark.parametrize("name", ["brain16ch_pulseq_164128.dat", "phantom14ch_R3_gadgetron.h5"])
def test_truncated_measured_files(tmp_path: Path, require: Any, name: str) -> None:
    content = require("data", name).read_bytes()
    outcomes = check(truncated(content), tmp_path, {"coils": 16, "lines": 128, "bytes": len(content)})
    assert not any(line == "ok" for line in outcomes.values())


def test_the_child_is_limited(tmp_path: Path) -> None:
    """That the checks above can fail: memory, time, and a fault in words."""
    assert "Error" in in_child(lambda: [_greedy()], tmp_path)[0]
    assert "FAULT" in in_child(lambda: [str(os.kill(os.getpid(), 9))], tmp_path)[0]
    assert sys.platform == "linux"


def _greedy() -> str:
    try:
        return str(np.ones(3 * 2**30 // 8).sum())
    except MemoryError as error:
        return type(error).__name__
