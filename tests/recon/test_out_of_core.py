"""Scan files larger than memory: the answer is that of the whole scan at once."""

import errno
import os
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.recon import fits_memory, image_pair, make_pair, out_of_core, reconstruct, reconstruct_with_noise
from sn2nlib.recon.chain import calibration_box, compression_box
from sn2nlib.recon.partial_fourier import fill_partial, known_region, phase_map, sides_of
from sn2nlib.scans import load_scan, save_scan
from sn2nlib.scans.needs import BLOCK
from sn2nlib.scans.stream import PartitionReader, read_header, read_partitions, write_partitions

SHAPE = (6, 24, 40, 38)
ODD = (5, 27, 41, 35)
SMALL = (5, 18, 32, 29)
GCC = {"virtual_coils": 4, "compression": "gcc"}
REPEATED = {"pairing": "repetitions"}
PAIR = ("original", "half_a", "half_b", "noise_sd", "noise_sd_half")


def difference(value: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest value."""
    assert value.shape == expected.shape and value.dtype == expected.dtype
    return float(np.abs(value - expected).max() / np.abs(expected).max())


def on_disk(scan, folder: Path) -> Path:
    save_scan(scan, folder / "scan.h5", overwrite=True)
    return folder / "scan.h5"


# few coils; what is compared is the same
@pytest.mark.filterwarnings("ignore:the median g-factor", "ignore:R = 2×3 .ky×kz. folds 6 voxels")
@pytest.mark.parametrize(
    "shape, sampling, options",
    [
        (SHAPE, {"acceleration": (2, 1), "acs": 16}, {}),
        (ODD, {"acceleration": (2, 1), "acs": 17, "offset": (1, 0)}, {"virtual_coils": 4}),
        (SHAPE, {"acceleration": (2, 2), "caipi_shift": 1, "acs": 16}, GCC),
        (ODD, {"acceleration": (2, 2), "acs": 17}, {"kernel": (5, 2, 2), "window": 5}),
        (ODD, {"acceleration": (2, 3), "caipi_shift": 1, "acs": 19, "offset": (1, 2)}, {}),
        (SHAPE, {"acceleration": (1, 1), "acs": None}, {}),
        (ODD, {"acceleration": (2, 1), "acs": 17}, {"raw_filter": 0.4}),
        (SMALL, {"acceleration": (2, 1), "acs": 14}, GCC | {"raw_filter": 0.4}),
        (SMALL, {"acceleration": (1, 1), "acs": None}, {"raw_filter": 0.4}),
        (SMALL, {"acceleration": (2, 1), "acs": 14}, REPEATED | {"raw_filter": 0.4}),
        (SMALL, {"acceleration": (1, 1), "acs": None}, REPEATED | {"raw_filter": 0.4}),
        (SMALL, {"acceleration": (2, 1), "acs": 14}, REPEATED | GCC | {"raw_filter": 0.4}),
    ],
)
def test_the_answer_is_that_of_the_whole_scan(shape, sampling, options, phantom, scan_of, tmp_path) -> None:
    head = phantom(shape, signal=400.0)
    scan = scan_of(head, **sampling)
    if options.get("pairing") == "repetitions":
        scan = replace(scan, repeat=scan_of(head, seed=1, **sampling).kspace)
    path = on_disk(scan, tmp_path)
    expected = make_pair(scan, **options)
    for memory_limit in (None, 0):  # all in memory, all on disk
        pair = image_pair(path, memory_limit=memory_limit, scratch=tmp_path, **options)
        assert max(difference(getattr(pair, name), getattr(expected, name)) for name in PAIR) < 1e-5
    assert pair.scale == pytest.approx(expected.scale, rel=1e-5)
    if "raw_filter" in options:  # is not the same with and without it
        plain = make_pair(scan, **options | {"raw_filter": 0.0})
        assert min(difference(getattr(plain, name), getattr(expected, name)) for name in PAIR) > 0.02
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.h5"]  # nothing is left of the scratch files


def nearly_all_agree(value: np.ndarray, expected: np.ndarray) -> bool:
    """To 1e-5 of the largest value, but for one voxel of a thousand: where its phase is nobody's, it is of rounding."""
    apart = np.abs(value - expected) / np.abs(expected).max()
    norm = np.linalg.norm(value - expected) / np.linalg.norm(expected)
    return bool(np.mean(apart > 1e-5) < 1e-3 and apart.max() < 1e-3 and norm < 1e-5)


def test_the_conventional_image_alone_and_partial_fourier(phantom, scan_of, tmp_path) -> None:
    scan = scan_of(phantom(SHAPE, signal=400.0), acceleration=(2, 1), acs=16, partial_fourier=(0.8, 1.0))
    path = on_disk(scan, tmp_path)
    for method in ("zero", "homodyne", "pocs"):
        options = {"partial_fourier": method, "memory_limit": 0, "scratch": tmp_path}
        found = image_pair(path, halves=False, noise_maps=False, **options)
        expected = reconstruct(scan, partial_fourier=method)
        assert nearly_all_agree(found.original, expected)
        assert method != "zero" or difference(found.original, expected) < 1e-5
        assert found.half_a is None and found.noise_sd is None
    for raw_filter in (0.0, 0.4):
        options = {"partial_fourier": "homodyne", "raw_filter": raw_filter}
        pair, expected = image_pair(path, **options), make_pair(scan, **options)
        for name in PAIR:
            assert nearly_all_agree(getattr(pair, name), getattr(expected, name))
        assert difference(pair.noise_sd, expected.noise_sd) < 1e-5
        assert pair.noise_estimator == expected.noise_estimator


@pytest.mark.parametrize("shape, fraction", [(SHAPE, 0.8), (ODD, 0.75)])
def test_partial_fourier_differs_by_the_phase_map_alone(shape, fraction, phantom, scan_of, tmp_path) -> None:
    """With one phase map the two agree in every voxel; with each its own, where the phase is that of rounding, not."""
    scan = scan_of(phantom(shape, signal=400.0), acceleration=(2, 1), acs=17, partial_fourier=(fraction, 1.0))
    path = on_disk(scan, tmp_path)
    plain, expected = image_pair(path, memory_limit=0, scratch=tmp_path), make_pair(scan)
    whole = known_region(scan.mask, expected.kernel_original)
    phase, sides = phase_map(expected.original, whole), sides_of(scan.mask, expected.kernel_original)
    known = {"original": whole}
    for name, mask in (("half_a", expected.mask_a), ("half_b", expected.mask_b)):
        known[name] = known_region(mask, expected.kernel_half)
    for method in ("homodyne", "pocs"):
        ours = image_pair(path, partial_fourier=method, memory_limit=0, scratch=tmp_path)
        theirs = make_pair(scan, partial_fourier=method)
        for name, region in known.items():
            filled = fill_partial(getattr(plain, name), region, phase, method, sides=sides)
            assert difference(filled, getattr(theirs, name)) < 2e-6
            assert nearly_all_agree(getattr(ours, name), getattr(theirs, name))


def test_without_a_noise_scan_the_corners_are_read(phantom, scan_of, tmp_path) -> None:
    scan = replace(scan_of(phantom(SHAPE, signal=15.0), acceleration=(2, 1), acs=16), noise=None)
    found = image_pair(on_disk(scan, tmp_path), halves=False)
    image, noise_sd, estimator = reconstruct_with_noise(scan)
    assert difference(found.original, image) < 1e-5 and difference(found.noise_sd, noise_sd) < 1e-5
    assert found.noise_sd_half is None and estimator == found.noise_estimator == "zero filling"
    np.testing.assert_array_equal(reconstruct(scan), image)


def test_a_damaged_sample_is_found_and_named(phantom, scan_of, tmp_path) -> None:
    scan = scan_of(phantom((4, 12, 24, 20)), acceleration=(2, 1), acs=12)
    path = on_disk(scan, tmp_path)
    with h5py.File(path, "r+") as file:
        file["kspace"][2, 7, 12, 3] = np.nan
    with pytest.raises(ScanError, match=r"scan\.h5: kspace: coil 2 holds NaN or Inf"):
        image_pair(path)
    with h5py.File(path, "r+") as file:
        file["kspace"][2] = 0
    with pytest.raises(ScanError, match="coil 2 has no signal"):
        image_pair(path, scratch=tmp_path)


def test_a_full_disk_is_told_before_it_is_full(phantom, scan_of, tmp_path, monkeypatch) -> None:
    path = on_disk(scan_of(phantom((4, 12, 24, 20)), acceleration=(2, 1), acs=12), tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**10))
    with pytest.raises(OSError, match="GiB are needed for intermediate results"):
        image_pair(path, memory_limit=0, scratch=tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.h5"]


def test_room_on_disk_is_taken_at_once(phantom, scan_of, tmp_path, monkeypatch) -> None:
    """What another program has taken since the look at the disk is missing then, and not in the middle of the work."""
    path = on_disk(scan_of(phantom((4, 12, 24, 20)), acceleration=(2, 1), acs=12), tmp_path)
    reserved = []

    def full(_file: int, start: int, size: int) -> None:
        reserved.append((start, size))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)  # some systems have none
    with pytest.raises(OSError, match="GiB are needed for intermediate results"):
        image_pair(path, memory_limit=0, scratch=tmp_path)
    acquired = int(read_header(path).mask.any(axis=0).sum())
    assert reserved[0][0] == 0 and reserved[0][1] >= 8 * 4 * 12 * acquired * 20  # the samples of the file's coils
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.h5"]


@pytest.mark.parametrize("cores", [1, 8])
def test_any_number_of_threads_gives_the_same_bits(cores, phantom, scan_of, tmp_path, monkeypatch) -> None:
    path = on_disk(scan_of(phantom((4, 27, 24, 20)), acceleration=(2, 1), acs=12), tmp_path)  # 27: in four blocks
    expected = image_pair(path)
    monkeypatch.setattr("sn2nlib.recon.out_of_core.n_threads", lambda: cores)
    for memory_limit in (None, 0):
        found = image_pair(path, memory_limit=memory_limit, scratch=tmp_path)
        for name in PAIR:
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_ctrl_c_ends_the_reading_within_a_block(phantom, scan_of, tmp_path, monkeypatch) -> None:
    path = on_disk(scan_of(phantom((4, 40, 24, 20)), acceleration=(2, 1), acs=12), tmp_path)
    partitions, read, told = PartitionReader.partitions, [], Event()

    def counted(reader, numbers):
        for kz, measured in partitions(reader, numbers):
            read.append(kz)
            if len(read) > BLOCK + 2:
                told.wait(60)
            yield kz, measured

    class Telling(Event):
        def set(self) -> None:
            super().set()
            told.set()

    def stopped(blocks, *_, **__):
        yield next(iter(blocks))
        raise KeyboardInterrupt

    monkeypatch.setattr(PartitionReader, "partitions", counted)
    monkeypatch.setattr("sn2nlib.recon.out_of_core.reported", stopped)
    monkeypatch.setattr("sn2nlib.recon.out_of_core.n_threads", lambda: 1)
    monkeypatch.setattr(out_of_core, "_Job", partial(out_of_core._Job, failed=Telling()))
    with pytest.raises(KeyboardInterrupt):
        image_pair(path, memory_limit=0, scratch=tmp_path)
    assert BLOCK <= len(read) <= BLOCK + 3  # of 40: the first block, and the beginning of another one
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.h5"]


def test_a_complete_scan_is_not_kept_a_second_time(phantom, scan_of, tmp_path, monkeypatch) -> None:
    """Its calibration lines are the 24 middle ones, and are read where halves are made alone."""
    for module in ("recon.out_of_core", "recon.coils"):
        monkeypatch.setattr(f"sn2nlib.{module}.n_threads", lambda: 2)
    path = on_disk(scan_of(phantom((8, 48, 48, 64)), acceleration=(1, 1), acs=None), tmp_path)
    header, peaks = read_header(path), []
    for halves in (False, True):
        tracemalloc.start()
        try:
            image_pair(path, halves=halves, noise_maps=False, memory_limit=0, scratch=tmp_path)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert header.mask.all()
    assert peaks[0] < header.nbytes and peaks[1] - peaks[0] < header.nbytes
    assert calibration_box(header) == (slice(0, 48), slice(12, 36))


@pytest.mark.filterwarnings("ignore:the median g-factor")  # few coils
def test_a_scan_of_three_quarters_is_calibrated_about_its_centre(phantom, scan_of, tmp_path) -> None:
    """Nothing left out but a side of ky: the lines about ny//2, not those in the middle of the acquired ones."""
    head = phantom((8, 16, 128, 24), signal=400.0)
    scan = scan_of(head, acceleration=(1, 1), acs=None, partial_fourier=(0.75, 1.0))
    first = np.flatnonzero(scan.mask.any(axis=0))[0]
    assert scan.acceleration == (1, 1) and first == 32
    header = read_header(on_disk(scan, tmp_path))
    for one in (scan, header):
        assert calibration_box(one) == (slice(0, 16), slice(52, 76))
        assert compression_box(one) == (slice(0, 16), slice(52, 76))
    original = np.abs(reconstruct(scan))[head.head]
    pair, found = make_pair(scan), image_pair(header.path, memory_limit=0, scratch=tmp_path)
    for name in ("half_a", "half_b"):
        half = np.abs(getattr(pair, name))[head.head]
        error = np.linalg.norm(half - original) / np.linalg.norm(original)
        assert error < 0.15
        assert difference(getattr(found, name), getattr(pair, name)) < 1e-5


def test_a_part_that_is_not_there_is_damage(phantom, scan_of, tmp_path) -> None:
    header = read_header(on_disk(scan_of(phantom((4, 12, 24, 20)), acceleration=(2, 1), acs=12), tmp_path))
    with pytest.raises(ScanError, match="the file is damaged"), PartitionReader(header, "repeat"):
        pytest.fail("opened")


def test_a_header_tells_all_but_the_samples(phantom, scan_of, tmp_path) -> None:
    scan = scan_of(phantom((4, 12, 24, 20)), acceleration=(2, 1), acs=12)
    header = read_header(on_disk(scan, tmp_path))
    assert header.shape == scan.shape and header.n_coils == 4 and header.nbytes == scan.kspace.nbytes
    assert np.array_equal(header.mask, scan.mask) and np.array_equal(header.noise, scan.noise)
    assert fits_memory(header) and not fits_memory(header, 6 * header.nbytes - 1)
    read = np.stack([partition.copy() for _, partition in read_partitions(header)], axis=1)
    assert np.array_equal(read, scan.kspace)
    write_partitions(
        tmp_path / "again.h5", scan.kspace.shape, np.moveaxis(scan.kspace, 1, 0), mask=scan.mask,
        acceleration=scan.acceleration, noise=scan.noise, info={"seed": 1},
    )
    again = load_scan(tmp_path / "again.h5")
    assert np.array_equal(again.kspace, scan.kspace) and again.info == {"seed": 1}
