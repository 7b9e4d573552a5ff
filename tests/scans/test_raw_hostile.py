"""Damaged raw files, each read in a child process of limited memory and time: an error in words, or a sound scan."""

import itertools
import re
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans import save_scan
from sn2nlib.scans.raw import convert_raw, inspect_raw, is_scan_file, read_raw
from sn2nlib.scans.scan import Scan, load_scan

# Mutants: 500 twix and 500 ISMRMRD headers of our own, half of them of files with separate calibration and repetitions;
# 160 of the four measured files, which are larger: one takes 60 ms of processor time, all of them 10 s; and 80 of a
# scan file and of a public layout.
N_OWN, N_MEASURED = {"VB": 50, "VD": 200, "MRD": 250}, 40
MEASURED = [  # name, coils, lines
    ("brain16ch_pulseq_164128.dat", 16, 128),
    ("phantom16ch_pulseq_160052.dat", 16, 128),
    ("phantom2ch_2reps_twixtools_gre.dat", 2, 160),
    ("phantom14ch_R3_gadgetron.h5", 14, 68),
]

ABOUT = {  # what a sentence has to be about, besides naming the number, to explain that a quantity is not the file's
    "coils": re.compile("coil|channel"),
    "lines": re.compile("line"),
    "matrix": re.compile("matrix|samples|column|lines|central"),
}
BEGINNINGS: dict[str, tuple[str, ...]] = {  # of sentences that explain it without the number, a leading count left out
    "coils": (),
    "lines": (
        "missing between acquired lines: ",
        "lines are navigators, phase correction or dummies: left out",
        "lines are flagged as noise and as something else: taken for noise",
        "lines belong to another encoding than the first: left out",
        "lines follow the mark of the measurement's end",
        "of the lines that the scanner counted are not in the file",
        *(f"the file holds {n} {axis}s (" for n in range(2, 9) for axis in ("slice", "contrast", "set", "phase")),
        *(f"of {n} repetitions, " for n in range(2, 9)),
        "the averages hold different lines",
    ),
    "matrix": (
        "the header lacks a field of view along the readout: its oversampling is unknown, taken as 1",
        "Meas.flReadoutOSFactor is missing: oversampling 1 is taken from no header value",
        "encoded over reconstructed is ",
        "lines follow the mark of the measurement's end: they are not read, and the matrix may be too small for them",
    ),
}

_PLACED = "discarded|reversed|central|averages|lines follow the mark"  # sentences about what becomes of any line
VALUES = {  # what a sentence has to be about to explain that an array is not the file's
    "kspace": re.compile(f"missing|{_PLACED}"),
    "repeat": re.compile(f"repetition|missing|{_PLACED}"),
    "acs": re.compile(f"calibration|{_PLACED}"),
    "noise": re.compile("noise|coils"),
}

REMOVAL = re.compile(r"readout oversampling (\S+) \(from .*\) removed: ")  # which explains a matrix if it is right

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
    scan: Scan
    options: dict[str, int]  # of reading


def read_with_words(path: Path, **options: int) -> tuple[Scan, frozenset[str]]:
    """The scan, and all that is said about it: warnings and notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scan = read_raw(path, **options)
    told = {str(warning.message).removeprefix(f"{path.name}: ") for warning in caught}
    return scan, frozenset(told | set(scan.info.get("notes", ())))


def undamaged(content: bytes, folder: Path, *, coils: int, lines: int, **options: int) -> Whole:
    """Read in this process, so that the children find everything loaded."""
    path = folder / "whole.raw"
    path.write_bytes(content)
    scan, words = read_with_words(path, **options)
    assert (scan.n_coils, int(scan.mask.sum())) == (coils, lines) and str(inspect_raw(path, **options))
    done = frozenset(scan.info.get("done", ()))
    return Whole(coils, lines, scan.shape, len(content), words, done, scan, options)


def tried(hostile: Any, path: Path, whole: Whole) -> str:
    """What inspecting and reading a file comes to, and for every fifth one, told by its content, converting it."""
    scans: list[Scan] = []

    def inspected(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inspect_raw(path, **whole.options)

    def read(path: Path) -> str | None:
        scan, words = read_with_words(path, **whole.options)
        scans.append(scan)
        return disagreement(scan, words, whole)

    def converted(path: Path) -> str | None:
        return difference(path, scans[0] if scans else None, **whole.options)

    reads = (inspected, read, converted) if zlib.crc32(path.read_bytes()) % 5 == 0 else (inspected, read)
    return str(hostile.tried(path, reads, secrets=SECRETS))


def difference(path: Path, scan: Scan | None, **options: int) -> str | None:
    """How the scan file made of a raw file differs from the scan that was read, None if that was refused."""
    out = path.with_name(f"converted {path.stem}.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if is_scan_file(path):
            return None
        try:
            convert_raw(path, out, **options)
        except ScanError as error:
            if out.exists() or scan is not None:
                return f"read, but converting {'leaves a file' if out.exists() else 'is refused'}: {error}"
            raise
        made = load_scan(out)
    out.unlink()
    if scan is None:
        return "converted, though reading is refused"
    ours, theirs = vars(scan), vars(made)
    differ = [name for name in ours if not np.array_equal(ours[name], theirs[name])]
    return f"converting changes {', '.join(differ)}" if differ else None


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
    if scan.n_coils != whole.coils and not explained("coils", {scan.n_coils, whole.coils}, new):
        return f"{scan.n_coils} coils without a word of it, {whole.coils} in the file: {sorted(new)}"
    if lines != whole.lines and not explained("lines", {lines, whole.lines}, new):
        return f"{lines} lines without a word of it, {whole.lines} in the file: {sorted(new)}"
    new |= trusted(frozenset(scan.info.get("done", ())) - whole.done, new, whole)
    for n, once in zip(scan.shape, whole.shape, strict=True):
        if n != once and not explained("matrix", {n, once}, new):
            return f"a matrix (kz, ky, kx) of {scan.shape} without a word of it, not {whole.shape}: {sorted(new)}"
    for name, about in VALUES.items():
        if not alike(name, scan, whole.scan) and not any(about.search(sentence) for sentence in new):
            return f"{name} is not that of the file, without a word of it: {sorted(new)}"
    return None


def alike(name: str, scan: Scan, whole: Scan) -> bool:
    """Whether an array is that of the undamaged file, but for a matrix of another size, which is told otherwise.

    Of the lines that both hold, each has to be the same in one coil at least, to 1 %: damaged samples are of a single
    one, and nothing tells them from others.
    """
    now, once = getattr(scan, name), getattr(whole, name)
    if now is None or once is None or now.shape != once.shape:
        same_lines = name == "acs" and now is not None and once is not None and now.shape[1:3] == once.shape[1:3]
        return now is once or same_lines or (name in ("kspace", "repeat") and now is not None and once is not None)
    misread = (np.abs(now - once) > 0.01 * np.abs(once)).any(axis=-1).all(axis=0)
    return not (misread & scan.mask & whole.mask if name in ("kspace", "repeat") else misread).any()


def trusted(done: frozenset[str], words: frozenset[str], whole: Whole) -> frozenset[str]:
    """Corrections without removals of an oversampling that is neither the undamaged file's nor named by a doubt.

    Nor does the size of a calibration explain itself.
    """
    believed = {match[1] for sentence in whole.done if (match := REMOVAL.match(sentence))}
    about = (word for word in words if "oversampl" in word or "encoded over reconstructed" in word)
    believed |= {number for word in about for number in re.findall(r"\d+\.?\d*(?:e[-+]\d+)?", word)}
    done = frozenset(sentence for sentence in done if not sentence.startswith("a separate calibration scan of"))
    return frozenset(told for told in done if not (match := REMOVAL.match(told)) or match[1] in believed)


def explained(quantity: str, counts: set[int], words: frozenset[str]) -> bool:
    """Whether one of these sentences is about what differs: it names the number of either file, or begins so."""
    return any(
        (ABOUT[quantity].search(sentence) and counts & {int(number) for number in re.findall(r"\d+", sentence)})
        or re.sub(r"^\d+ ", "", sentence).startswith(BEGINNINGS[quantity])
        for sentence in words
    )


def header_ranges(content: bytes) -> list[tuple[int, int]]:
    """Where the headers are: the table of measurements, lengths, interesting words of the protocol, line headers."""
    if content.startswith(b"\x89HDF"):
        xml = content.index(b"<ismrmrdHeader")
        ranges = [(0, 2048), (xml, content.index(b"</ismrmrdHeader>"))]
        words = (b"<matrixSize>", b"<fieldOfView_mm>", b"<kspace_encoding_step_1>", b"<encodingLimits>")
        ranges += [(content.index(word), content.index(word) + 60) for word in words]
        return ranges + [(xml_end, xml_end + 4096) for xml_end in (2048, max(2048, len(content) - 8192))]
    words = (b"flReadoutOSFactor", b"iNoOfFourierColumns", b"alRegridMode", b"iPEFTLength", b"lBaseResolution",
             b"alDwellTime", b"MeasYaps\0")  # fmt: skip
    ranges = [(0, 64)] + [(at, at + 60) for word in words if (at := content.find(word)) >= 0]
    vb = int.from_bytes(content[:4], "little") > 10000
    start = 0 if vb else int.from_bytes(content[16:24], "little")
    header = int.from_bytes(content[start : start + 4], "little")
    ranges.append((start, start + 24))
    at = start + header
    for _ in range(40):
        if vb:  # every channel of a line has a header of its own
            samples, coils = (int.from_bytes(content[at + n : at + n + 2], "little") for n in (28, 30))
            ranges += [(at + n * (128 + 8 * samples), at + n * (128 + 8 * samples) + 96) for n in range(min(coils, 2))]
            at += max(coils * (128 + 8 * samples), 128)
        else:
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


def full_file(raw: Any, folder: Path, kind: str) -> tuple[bytes, Whole]:
    """Noise, a separate calibration and two repetitions, whose lines take turns; and what it holds."""
    rng, shape = np.random.default_rng(7), (4, 6, 20, 24)
    acs, first, second = rng.standard_normal((3, *shape, 2), np.float32).view(np.complex64)[..., 0]
    mask, box = lattice_mask(shape[1:3], acceleration=(2, 1), acs=None), np.zeros(shape[1:3], bool)
    box[:, 6:14] = True
    groups = raw.lines(acs, box, role="acs"), raw.lines(first, mask), raw.lines(second, mask, repetition=1)
    lines = [line for turn in itertools.zip_longest(*groups) for line in turn if line is not None]
    noise = raw.Line(acs[:, 0, 0], role="noise")
    file = raw.File([noise, *lines], shape[1:], centre=(3, 10), acceleration=(2, 1), calibration="separate")
    content = raw.write(folder / "full", file, kind).read_bytes()
    whole = undamaged(content, folder, coils=4, lines=int(mask.sum()), repeat=1)
    sizes = [None if part is None else part.shape for part in (whole.scan.acs, whole.scan.noise, whole.scan.repeat)]
    assert sizes == [(4, 6, 8, 12), (4, 24), (4, 6, 20, 12)]
    return content, whole


@pytest.mark.parametrize("make", [own_file, full_file])
@pytest.mark.parametrize(("kind", "n"), N_OWN.items())
def test_damaged_headers_of_our_own_files(
    tmp_path: Path, raw: Any, hostile: Any, kind: str, n: int, make: Callable[..., tuple[bytes, Whole]]
) -> None:
    content, whole = make(raw, tmp_path, kind)
    outcomes = check(hostile, hostile.flipped(content, header_ranges(content), n, seed=11), tmp_path, whole)
    assert len(outcomes) == n
    refused = sum(line != "ok" for line in outcomes.values())
    assert 0.1 * n < refused < 0.95 * n  # the fuzz hits something, and not only what kills


@pytest.mark.parametrize("kind", ["VB", "VD", "MRD"])
def test_numbers_of_the_readout_that_are_other_ones(tmp_path: Path, raw: Any, kind: str) -> None:
    """One after the other: samples, factor and field of view, each as long as it was."""
    content, whole = own_file(raw, tmp_path, kind)
    names = rb"<x>" if kind == "MRD" else rb"(?:flReadoutOSFactor|iNoOfFourierColumns|lBaseResolution)\W+"
    path, told, numbers = tmp_path / "other", 0, list(re.finditer(names + rb"(24\.0|48\.0|24|12|2\.0)\b", content))
    for number in numbers:
        for other in (b"1.0", b"1.6", b"3.0", b"4.0", b"10", b"12", b"24", b"36", b"48", b"12.0", b"24.0", b"96.0"):
            if len(other) == len(number[1]) and other != number[1] and (b"." in other) == (b"." in number[1]):
                path.write_bytes(content[: number.start(1)] + other + content[number.end(1) :])
                scan, words = read_with_words(path)
                assert disagreement(scan, words, whole) is None and words - whole.words, (number[0], other)
                told += 1
    assert len(numbers) == (4 if kind == "MRD" else 3) and told >= 12


def own_array(folder: Path, kind: str) -> tuple[bytes, Whole, list[tuple[int, int]]]:
    """A scan file with all that it can hold, or oversampled slices as fastMRI stores them; the rest is a header."""
    rng, path = np.random.default_rng(3), folder / "own.h5"
    kspace = rng.standard_normal((4, 6, 20, 12, 2), np.float32).view(np.complex64)[..., 0]
    mask = np.repeat(lattice_mask((1, 20), acceleration=(2, 1), acs=8), 6, axis=0)
    if kind == "scan file":
        save_scan(Scan(kspace * mask[:, :, None], mask, (2, 1), noise=kspace[:, 0, 0], acs=kspace[:, 1:5, 6:14],
                       repeat=kspace * mask[:, :, None], info={"seed": 3}), path)  # fmt: skip
    else:
        sizes = "<{0}><x>{1}</x><y>20</y><z>1</z></{0}>"
        spaces = (("encodedSpace", 12), ("reconSpace", 6))
        xml = "".join(f"<{name}>{sizes.format('matrixSize', x)}{sizes.format('fieldOfView_mm', x)}</{name}>"
                      for name, x in spaces)  # fmt: skip
        with h5py.File(path, "w") as file:
            file["kspace"] = (kspace * mask[:, :, None]).transpose(1, 0, 3, 2)  # slice, coil, kx, ky
            file["mask"] = mask[0].astype(np.uint8)
            file["ismrmrd_header"] = f"<ismrmrdHeader><encoding>{xml}</encoding></ismrmrdHeader>".encode()
    with h5py.File(path) as file:
        arrays = sorted((a.id.get_offset(), a.id.get_storage_size()) for a in file.values() if a.ndim)
    content = path.read_bytes()
    starts, stops = [0, *(at + size for at, size in arrays)], [*(at for at, _ in arrays), len(content)]
    ranges = [(start, stop) for start, stop in zip(starts, stops, strict=True) if stop > start]
    return content, undamaged(content, folder, coils=4, lines=int(mask.sum())), ranges


@pytest.mark.parametrize("kind", ["scan file", "layout"])
def test_damaged_headers_and_truncation_of_arrays_in_hdf5(tmp_path: Path, hostile: Any, kind: str) -> None:
    content, whole, ranges = own_array(tmp_path, kind)
    outcomes = check(hostile, hostile.flipped(content, ranges, N_MEASURED, seed=2), tmp_path, whole)
    refused = sum(line != "ok" for line in outcomes.values())
    assert len(outcomes) == N_MEASURED and 0.1 * N_MEASURED < refused < 0.95 * N_MEASURED
    outcomes = check(hostile, hostile.truncated(content), tmp_path, whole)
    assert len(outcomes) == 11 and "ok" not in outcomes.values()


@pytest.mark.parametrize("kind", ["scan file", "layout", "MRD"])
def test_a_heap_of_texts_that_has_no_end(tmp_path: Path, raw: Any, hostile: Any, kind: str) -> None:
    """The last object of a heap, the space that is left, declares no size: HDF5 would go round in circles."""
    content, whole = own_file(raw, tmp_path, kind) if kind == "MRD" else own_array(tmp_path, kind)[:2]
    mutant = bytearray(content)
    heaps = [match.start() for match in re.finditer(b"GCOL", content)]
    text = next(at for at in heaps if (b'"seed"' if kind == "scan file" else b"<encoding>") in content[at : at + 4096])
    at = text + 16
    while number := int.from_bytes(mutant[at : at + 2], "little"):
        at += 16 + -(-int.from_bytes(mutant[at + 8 : at + 16], "little") // 8) * 8
    assert number == 0 and int.from_bytes(mutant[at + 8 : at + 16], "little") > 0
    mutant[at + 8 : at + 16] = bytes(8)
    outcomes = check(hostile, iter([("no end", bytes(mutant))]), tmp_path, whole)
    assert "the HDF5 file is damaged or incomplete" in outcomes["no end"]


@pytest.mark.parametrize("chunks", [None, 64])
def test_a_small_scan_file_that_claims_to_be_huge(tmp_path: Path, hostile: Any, chunks: int | None) -> None:
    """Arrays of 4 GiB that were never written, in one piece or in pieces, and fit all the others."""
    content, whole, _ = own_array(tmp_path, "scan file")
    huge = {"kspace": (4, 6, 20, 9 * 2**17), "mask": (2**16, 2**16), "noise": (4, 2**27)}
    mutants = {}
    for name, shape in huge.items():
        (tmp_path / "bomb.h5").write_bytes(content)
        with h5py.File(tmp_path / "bomb.h5", "a") as file:
            kind = file[name].dtype
            del file[name], file["repeat"]
            pieces = None if chunks is None else tuple(min(n, chunks) for n in shape)
            file.create_dataset(name, shape, kind, chunks=pieces)
        mutants[name] = (tmp_path / "bomb.h5").read_bytes()
    assert max(map(len, mutants.values())) < 2**20
    outcomes = check(hostile, iter(mutants.items()), tmp_path, whole)
    assert set(outcomes) == set(huge)
    assert all(re.search(r"claims 4\d{3} MiB of samples in a file of 0\.\d MiB", said) for said in outcomes.values())


def test_a_field_whose_name_is_damaged(tmp_path: Path, raw: Any) -> None:
    """Of every field of an acquisition header: refused in words, or not needed."""
    content, whole = own_file(raw, tmp_path, "MRD")
    with h5py.File(tmp_path / "whole.raw") as file:
        fields = file["dataset/data"].dtype["head"].names
    path, refused = tmp_path / "renamed", set()
    for name in fields:
        path.write_bytes(content.replace(name.encode() + b"\0", name[:-1].encode() + b"~\0"))
        try:
            assert disagreement(*read_with_words(path), whole) is None
        except ScanError as error:
            refused |= {name} if "the acquisition headers are not those of ISMRMRD 1" in str(error) else set()
    assert len(fields) == 24 and refused >= {"flags", "idx", "number_of_samples", "trajectory_dimensions"}


def what_is_said(read: Any, path: Path) -> str:
    """The error, or the report, which tells of some errors."""
    try:
        return str(read(path))
    except ScanError as error:
        return str(error)


@pytest.mark.parametrize(("kind", "shape"), [("scan file", (4, 6, 20, 12)), ("layout", (6, 4, 12, 20)), ("MRD", (85,))])
def test_an_array_whose_shape_does_not_fit_what_is_stored_of_it(
    tmp_path: Path, raw: Any, kind: str, shape: tuple[int, ...]
) -> None:
    """A size that is damaged where HDF5 has it: one less, of which it says nothing itself, and one more."""
    content = own_file(raw, tmp_path, kind)[0] if kind == "MRD" else own_array(tmp_path, kind)[0]
    path, stored = tmp_path / "resized", np.array([*shape, *shape], "<u8").tobytes()  # now, and at most
    assert content.count(stored) >= 1
    for axis in range(len(shape)):
        for change in (-1, 1):
            sizes = np.array(shape, "<i8")
            sizes[axis] += change
            path.write_bytes(content.replace(stored, np.tile(sizes, 2).tobytes()))
            with pytest.raises(ScanError, match="does not fit what is stored of it" if change < 0 else "resized: "):
                read_raw(path)
            assert change > 0 or "does not fit what is stored of it" in what_is_said(inspect_raw, path)


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
    lines = int(mask.sum())
    for less, told in ((fewer, f"only {lines} lines are there"), (coilless, "3 coils, yet 4 are declared")):
        assert "without a word" in str(disagreement(less, words, whole))
        for unrelated in (
            "the lines disagree about where they lie (by up to 20.3 mm along an axis): the first one is believed",
            "the file holds a position of the slice that cannot be: phase and partition are believed",
            "a line, a coil, a matrix is missing", f"of {lines} and of 3 nothing is known",
        ):  # fmt: skip
            assert "without a word" in str(disagreement(less, words | {unrelated}, whole))
        assert disagreement(less, words | {told}, whole) is None
    for told in ("missing between acquired lines: 6, the first at", "of 2 repetitions, 0 is read",
                 "6 lines are flagged as noise and as something else: taken for noise"):  # fmt: skip
        assert disagreement(fewer, words | {told}, whole) is None
    for axis in range(3):  # an axis that is one longer than in the file
        size = [(0, int(axis == other)) for other in range(3)]
        larger = replace(scan, kspace=np.pad(scan.kspace, [(0, 0), *size]), mask=np.pad(scan.mask, size[:2]))
        assert "a matrix (kz, ky, kx) of" in str(disagreement(larger, words | {"the matrix is larger"}, whole))
        assert disagreement(larger, words | {f"a matrix of {larger.shape[axis]} is used"}, whole) is None
    assert "k-space" in str(disagreement(scan, words, replace(whole, coils=3)))
    smaller = replace(scan, kspace=scan.kspace[..., :6])
    for factor, doubt, ok in (("4", (), False), ("2", (), True), ("4", ("oversampled by 4, as declared",), True)):
        done = f"readout oversampling {factor} (from encodedSpace and reconSpace) removed: 24 → 6 samples"
        removed = replace(smaller, info={**scan.info, "done": [done]})
        assert (disagreement(removed, words | set(doubt), whole) is None) == ok


def test_the_check_of_what_is_beside_kspace_can_fail(tmp_path: Path, raw: Any) -> None:
    """A calibration, a noise scan or a repetition that is another one, and nobody says so."""
    _, whole = full_file(raw, tmp_path, "MRD")
    scan, words = read_with_words(tmp_path / "whole.raw", repeat=1)
    assert disagreement(scan, words, whole) is None
    assert scan.acs is not None and scan.noise is not None and scan.repeat is not None
    swapped = {name: getattr(scan, name).copy() for name in ("kspace", "repeat", "acs")}
    for array in swapped.values():
        array[:, :, 2], array[:, :, 4] = array[:, :, 4].copy(), array[:, :, 2].copy()
    done = [*scan.info["done"], "a separate calibration scan of (kz, ky) = (6, 5) lines is taken along"]
    for changes, told in (
        ({"acs": scan.acs[:, :, :5], "info": {**scan.info, "done": done}}, "3 of 48 calibration lines lie outside"),
        ({"acs": None}, "the separate calibration does not hold the centre"),
        ({"acs": swapped["acs"]}, "the calibration is another"),
        ({"noise": 2 * scan.noise}, "the dwell times of the noise scan do not tell"),
        ({"noise": None}, "no noise scan"),
        ({"repeat": swapped["repeat"]}, "of 2 repetitions, 0 is read"),
        ({"repeat": None}, "of 2 repetitions, 0 is read"),
        ({"kspace": swapped["kspace"]}, "central ky line 9 moved to 10 of 20"),
    ):
        less = replace(scan, **changes)
        assert f"{next(iter(changes))} is not that of the file" in str(disagreement(less, words, whole))
        assert "is not that of" in str(disagreement(less, words | {"the header declares 24 samples per line"}, whole))
        assert disagreement(less, words | {told}, whole) is None
    damaged = scan.acs.copy()
    damaged[1, 3, 2] += 1  # samples of one coil, which no header tells of
    assert disagreement(replace(scan, acs=damaged), words, whole) is None


def test_the_check_of_converting_can_fail(tmp_path: Path, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own_file(raw, tmp_path, "MRD")
    path, (scan, _) = tmp_path / "whole.raw", read_with_words(tmp_path / "whole.raw")
    assert difference(path, scan) is None and not list(tmp_path.glob("converted*"))
    assert difference(path, replace(scan, noise=None, voxel_size=(1.0, 1.0, 2.0))) == (
        "converting changes voxel_size, noise"
    )
    assert difference(path, None) == "converted, though reading is refused"

    def refused(*_: Path) -> None:
        raise ScanError(f"{path}: is refused")

    monkeypatch.setitem(globals(), "convert_raw", refused)
    assert "read, but converting is refused" in str(difference(path, scan))
    with pytest.raises(ScanError):
        difference(path, None)


def test_memory_that_runs_out_is_no_damaged_header(tmp_path: Path, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(_: str) -> None:
        raise MemoryError

    own_file(raw, tmp_path, "MRD")
    monkeypatch.setattr("ismrmrd.xsd.CreateFromDocument", greedy)
    with pytest.raises(MemoryError):
        read_raw(tmp_path / "own")
