"""Damaged raw files, each read in a child process of limited memory and time: an error in words, or a sound scan."""

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sn2nlib.sampling import lattice_mask
from sn2nlib.scans.raw import inspect_raw, read_raw
from sn2nlib.scans.scan import Scan

# Mutants per file: 500 twix and 500 ISMRMRD headers of our own, 160 of the four measured files, which are larger: one
# takes 60 ms of processor time, all of them 10 s.
N_OWN, N_MEASURED = 500, 40
MEASURED = [  # name, coils, lines
    ("brain16ch_pulseq_164128.dat", 16, 128),
    ("phantom16ch_pulseq_160052.dat", 16, 128),
    ("phantom2ch_2reps_twixtools_gre.dat", 2, 160),
    ("phantom14ch_R3_gadgetron.h5", 14, 68),
]

ABOUT = {  # what a sentence has to name to explain that a quantity is not the file's
    "coils": re.compile("coil|channel"),
    "lines": re.compile("line|partition|repetition|average|contrast|slice|segment|phase"),
    "matrix": re.compile("matrix|column|oversampl|field of view|line|partition|partial Fourier"),
}

SECRETS = ("DOE", "ISMRM, DS-Test")


@dataclass(frozen=True)
class Whole:
    """What the undamaged file holds, and what is said of it."""

    coils: int
    lines: int
    shape: tuple[int, int, int]
    n_bytes: int
    words: frozenset[str]
    done: frozenset[str]  # the corrections, which name the sizes that they lead to


def read_with_words(path: Path) -> tuple[Scan, frozenset[str]]:
    """The scan, and all that is said about it: warnings and notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scan = read_raw(path)
    told = {str(warning.message).removeprefix(f"{path.name}: ") for warning in caught}
    return scan, frozenset(told | set(scan.info["notes"]))


def undamaged(content: bytes, folder: Path, *, coils: int, lines: int) -> Whole:
    """Read in this process, so that the children find everything loaded."""
    path = folder / "whole.raw"
    path.write_bytes(content)
    scan, words = read_with_words(path)
    assert (scan.n_coils, int(scan.mask.sum())) == (coils, lines) and str(inspect_raw(path))
    return Whole(coils, lines, scan.shape, len(content), words, frozenset(scan.info["done"]))


def tried(hostile: Any, path: Path, whole: Whole) -> str:
    """What inspecting and reading a file comes to."""

    def read(path: Path) -> str | None:
        return disagreement(*read_with_words(path), whole)

    return str(hostile.tried(path, (inspected, read), secrets=SECRETS))


def inspected(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inspect_raw(path)


def check(hostile: Any, mutants: Any, folder: Path, whole: Whole) -> dict[str, str]:
    """Name of the mutant → outcome, all of them; fails if any outcome is a fault."""
    outcomes: dict[str, str] = hostile.check(
        mutants, lambda number: folder / f"mutant{number}.raw", lambda path: tried(hostile, path, whole)
    )
    return outcomes


def disagreement(scan: Scan, words: frozenset[str], whole: Whole) -> str | None:
    """A scan may be less than the file once was, but not without a word, and never more."""
    if scan.n_coils > whole.coils or scan.kspace.nbytes > max(40 * whole.n_bytes, 2**26):
        return f"k-space {scan.kspace.shape}"
    filled = int(np.count_nonzero(np.abs(scan.kspace).sum(axis=(0, 3))))
    lines = int(scan.mask.sum())
    if lines > whole.lines or filled > lines:
        return f"{lines} lines in the mask, {filled} with samples, {whole.lines} in the file"
    new = words - whole.words
    if scan.n_coils != whole.coils and not named("coils", new):
        return f"{scan.n_coils} coils without a word of it, {whole.coils} in the file: {sorted(new)}"
    if lines != whole.lines and not named("lines", new):
        return f"{lines} lines without a word of it, {whole.lines} in the file: {sorted(new)}"
    new |= set(scan.info["done"]) - whole.done
    if scan.shape != whole.shape and not named("matrix", new):
        return f"a matrix (kz, ky, kx) of {scan.shape} without a word of it, {whole.shape} in the file: {sorted(new)}"
    return None


def named(quantity: str, words: frozenset[str]) -> bool:
    """Whether one of these sentences is about what differs."""
    return any(ABOUT[quantity].search(sentence) for sentence in words)


def header_ranges(content: bytes) -> list[tuple[int, int]]:
    """Where the headers are: the table of measurements, lengths, interesting words of the protocol, line headers."""
    if content.startswith(b"\x89HDF"):
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


def own_file(raw: Any, folder: Path, kind: str) -> tuple[bytes, Whole]:
    """Four coils, undersampled, with noise scan; and what it holds."""
    rng = np.random.default_rng(3)
    shape = (4, 6, 20, 24)
    kspace = rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]
    mask = lattice_mask(shape[1:3], acceleration=(2, 1), acs=8)
    noise = raw.Line(kspace[:, 0, 0], role="noise")
    file = raw.File([noise, *raw.lines(kspace, mask)], shape[1:], centre=(3, 10), acceleration=(2, 1))
    content = raw.write(folder / "own", file, kind).read_bytes()
    return content, undamaged(content, folder, coils=4, lines=int(mask.sum()))


@pytest.mark.parametrize("kind", ["VD", "MRD"])
def test_damaged_headers_of_our_own_files(tmp_path: Path, raw: Any, hostile: Any, kind: str) -> None:
    content, whole = own_file(raw, tmp_path, kind)
    outcomes = check(hostile, hostile.flipped(content, header_ranges(content), N_OWN, seed=11), tmp_path, whole)
    assert len(outcomes) == N_OWN
    refused = sum(line != "ok" for line in outcomes.values())
    assert 0.1 * N_OWN < refused < 0.95 * N_OWN  # the fuzz hits something, and not only what kills


@pytest.mark.parametrize(("name", "coils", "lines"), MEASURED)
def test_damaged_headers_of_measured_files(
    tmp_path: Path, require: Any, hostile: Any, name: str, coils: int, lines: int
) -> None:
    path = require("data", name)
    before, content = hostile.state(path), path.read_bytes()
    whole = undamaged(content, tmp_path, coils=coils, lines=lines)
    outcomes = check(hostile, hostile.flipped(content, header_ranges(content), N_MEASURED, seed=5), tmp_path, whole)
    assert len(outcomes) == N_MEASURED
    assert hostile.in_child(lambda: tried(hostile, path, whole)) == "ok" and hostile.state(path) == before


@pytest.mark.parametrize("kind", ["VB", "VD", "MRD"])
def test_truncated_files_of_our_own(tmp_path: Path, raw: Any, hostile: Any, kind: str) -> None:
    content, whole = own_file(raw, tmp_path, kind)
    outcomes = check(hostile, hostile.truncated(content), tmp_path, whole)
    assert len(outcomes) == 11 and not any(line == "ok" for line in outcomes.values())


@pytest.mark.parametrize(("name", "coils", "lines"), MEASURED)
def test_truncated_measured_files(
    tmp_path: Path, require: Any, hostile: Any, name: str, coils: int, lines: int
) -> None:
    content = require("data", name).read_bytes()
    outcomes = check(
        hostile, hostile.truncated(content), tmp_path, undamaged(content, tmp_path, coils=coils, lines=lines)
    )
    assert len(outcomes) == 11 and not any(line == "ok" for line in outcomes.values())


def test_the_checks_can_fail(tmp_path: Path, raw: Any) -> None:
    """Lines or coils that are missing without a word, or a matrix of another size."""
    _, whole = own_file(raw, tmp_path, "MRD")
    scan, words = read_with_words(tmp_path / "whole.raw")
    mask = scan.mask.copy()
    mask[:, np.flatnonzero(mask[0])[-1]] = False
    fewer = replace(scan, kspace=scan.kspace * mask[:, :, None], mask=mask)
    coilless = replace(scan, kspace=scan.kspace[:3], noise=None)
    assert disagreement(scan, words, whole) is None
    for less, name, other in ((fewer, "line", "coil"), (coilless, "coil", "line")):
        assert "without a word" in str(disagreement(less, words, whole))
        assert "without a word" in str(disagreement(less, words | {f"a {other} is missing"}, whole))
        assert disagreement(less, words | {f"a {name} is missing"}, whole) is None
    for axis in range(3):  # an axis that is one longer than in the file
        size = [(0, int(axis == other)) for other in range(3)]
        larger = replace(scan, kspace=np.pad(scan.kspace, [(0, 0), *size]), mask=np.pad(scan.mask, size[:2]))
        assert "a matrix (kz, ky, kx) of" in str(disagreement(larger, words, whole))
        assert disagreement(larger, words | {"the matrix is larger"}, whole) is None
    assert "k-space" in str(disagreement(scan, words, replace(whole, coils=3)))
