"""Raw files made into scan files, which may be larger than memory."""

import errno
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans import Scan, convert_raw, export_scan, is_scan_file, load_scan, open_raw, opened_raw, read_raw, room
from sn2nlib.scans.scan import scan_bytes

ARRAYS = ("kspace", "mask", "noise", "acs", "repeat", "affine")


def scan(*, with_repeat: bool = False, with_acs: bool = False) -> Scan:
    """Random samples on a lattice of odd and unequal sizes."""
    rng = np.random.default_rng(3)
    mask = lattice_mask((7, 18), acceleration=(2, 1), acs=None if with_acs else 6)
    kspace, again, acs, noise = (
        rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        for shape in ((3, 7, 18, 9), (3, 7, 18, 9), (3, 7, 6, 9), (3, 200))
    )
    sampled = mask[None, :, :, None]
    return Scan(
        kspace=kspace * sampled, mask=mask, acceleration=(2, 1), noise=noise, acs=acs if with_acs else None,
        repeat=again * sampled if with_repeat else None, not_for_training="a reason" if with_repeat else None,
    )  # fmt: skip


@pytest.mark.parametrize("given", [scan(), scan(with_repeat=True), scan(with_acs=True)])
def test_a_converted_file_is_the_scan_that_is_read(given: Scan, tmp_path: Path) -> None:
    export_scan(given, tmp_path / "raw.h5")
    convert_raw(tmp_path / "raw.h5", tmp_path / "scan.h5")
    read, converted = read_raw(tmp_path / "raw.h5"), load_scan(tmp_path / "scan.h5")
    for name in ARRAYS:
        expected = getattr(read, name)
        assert expected is not None or getattr(converted, name) is None
        np.testing.assert_array_equal(getattr(converted, name), expected)
    np.testing.assert_array_equal(converted.kspace, given.kspace)
    rest = ("acceleration", "caipi_shift", "voxel_size", "not_for_training", "info")
    assert all(getattr(converted, name) == getattr(read, name) for name in rest)


def test_a_twix_file_is_converted(tmp_path: Path, require) -> None:  # type: ignore[no-untyped-def]
    path = require("data", "phantom2ch_2reps_twixtools_gre.dat")
    convert_raw(path, tmp_path / "scan.h5", repetition=1)
    np.testing.assert_array_equal(load_scan(tmp_path / "scan.h5").kspace, read_raw(path, repetition=1).kspace)


@pytest.mark.filterwarnings("ignore:.*left and right follow Siemens")
@pytest.mark.parametrize("kind", ["VB", "VD", "MRD"])
@pytest.mark.parametrize(("name", "fault"), [
    ("kspace", "NaN"), ("kspace", "silent"), ("repeat", "NaN"), ("repeat", "silent"), ("noise", "NaN"), ("acs", "NaN"),
])  # fmt: skip
def test_what_is_not_read_is_not_converted(tmp_path: Path, raw: Any, kind: str, name: str, fault: str) -> None:
    """Samples that are no numbers, and coils without signal: as `read_raw` says it, and nothing half-written stays."""
    shape, rng = (2, 4, 12, 8), np.random.default_rng(5)
    lattice, box = lattice_mask(shape[1:3], acceleration=(2, 1), acs=None), np.zeros((4, 12), bool)
    box[:, 3:9] = True
    arrays = {
        part: rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]
        for part in ("kspace", "repeat", "noise", "acs")
    }
    where = np.s_[1] if fault == "silent" else np.s_[1, 0, 0, 5] if name == "noise" else np.s_[1, 2, 6, 5]
    arrays[name][where] = 0 if fault == "silent" else np.nan
    lines = [
        raw.Line(arrays["noise"][:, 0, 0], role="noise"),
        *raw.lines(arrays["acs"], box, role="acs"), *raw.lines(arrays["kspace"], lattice),
        *raw.lines(arrays["repeat"], lattice, repetition=1),
    ]  # fmt: skip
    file = raw.File(lines, shape[1:], centre=(2, 6), oversampling=1.0, acceleration=(2, 1), calibration="separate")
    path = raw.write(tmp_path / "raw", file, kind)
    with pytest.raises(ScanError) as said:
        read_raw(path, repeat=1)
    assert f"{name}: " in str(said.value)
    with pytest.raises(ScanError, match=re.escape(str(said.value))):
        convert_raw(path, tmp_path / "scan.h5", repeat=1)
    assert [file.name for file in tmp_path.iterdir()] == ["raw"]


def test_scan_files_stay_files(tmp_path: Path) -> None:
    export_scan(scan(), tmp_path / "raw.h5")
    convert_raw(tmp_path / "raw.h5", tmp_path / "scan.h5")
    assert is_scan_file(tmp_path / "scan.h5") and not is_scan_file(tmp_path / "raw.h5")
    assert open_raw(tmp_path / "scan.h5", largest=1) == tmp_path / "scan.h5"
    opened = open_raw(tmp_path / "raw.h5", noise_scan=False)
    assert isinstance(opened, Scan) and opened.noise is None
    with pytest.raises(ScanError, match="--repetition: for twix and ISMRMRD files"):
        open_raw(tmp_path / "scan.h5", repetition=1)
    with pytest.raises(ScanError, match="is a scan file already"):
        convert_raw(tmp_path / "scan.h5", tmp_path / "again.h5")


def test_what_would_not_fit_is_refused_with_the_way_out(tmp_path: Path) -> None:
    export_scan(scan(), tmp_path / "raw.h5")
    size = scan().kspace.nbytes
    with pytest.raises(ScanError, match=r"raw\.h5: its samples take .* GiB, more than .*make a scan file of it"):
        open_raw(tmp_path / "raw.h5", largest=size - 1)
    assert isinstance(open_raw(tmp_path / "raw.h5", largest=size), Scan)
    export_scan(replace(scan(with_repeat=True)), tmp_path / "two.h5")
    with pytest.raises(ScanError, match="make a scan file of it"):
        open_raw(tmp_path / "two.h5", largest=2 * size - 1)


def write_plain(given: Scan, path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in ("kspace", "mask", "noise", "acs", "repeat"):
            if (array := getattr(given, name)) is not None:
                file[name] = array
        file.attrs["voxel_size"], file.attrs["affine"] = given.voxel_size, given.affine


@pytest.mark.parametrize("options", [{}, {"with_repeat": True, "with_acs": True}])
def test_a_layout_larger_than_memory_is_put_together_on_disk(
    options: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, mapped = scan(**options), []
    write_plain(given, tmp_path / "plain.h5")
    with pytest.raises(ScanError, match=r"plain\.h5: its samples take .* make a scan file of it with sn2n convert"):
        open_raw(tmp_path / "plain.h5", largest=given.kspace.nbytes - 1)

    def noted(*place: Any) -> np.ndarray:
        array = room.zeros(*place)
        mapped.append(isinstance(array, np.memmap))
        return array

    monkeypatch.setattr("sn2nlib.scans.raw.layout_samples.zeros", noted)
    convert_raw(tmp_path / "plain.h5", tmp_path / "scan.h5", largest=given.kspace.nbytes - 1)
    assert mapped and all(mapped)
    made = load_scan(tmp_path / "scan.h5")
    for name in ARRAYS:
        if getattr(given, name) is not None:
            np.testing.assert_array_equal(getattr(made, name), getattr(given, name))
    mapped.clear()
    convert_raw(tmp_path / "plain.h5", tmp_path / "scan.h5")
    assert mapped and not any(mapped)
    with opened_raw(tmp_path / "plain.h5", largest=1, scratch=tmp_path) as source:
        assert isinstance(source, Path)
        np.testing.assert_array_equal(load_scan(source).kspace, given.kspace)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["plain.h5", "scan.h5"]


def test_a_full_disk_is_told_before_it_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_plain(scan(), tmp_path / "plain.h5")
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)  # some systems have none
    with pytest.raises(OSError, match=f"{tmp_path.name} has no room for .* MiB of intermediate results"):
        convert_raw(tmp_path / "plain.h5", tmp_path / "scan.h5", largest=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["plain.h5"]


def test_all_arrays_of_a_layout_count_against_the_memory(tmp_path: Path) -> None:
    given = scan(with_repeat=True, with_acs=True)
    assert given.repeat is not None and given.acs is not None and given.noise is not None
    write_plain(given, tmp_path / "plain.h5")
    needed = scan_bytes(given)
    assert needed > 2 * given.kspace.nbytes
    with pytest.raises(ScanError, match=r"plain\.h5: its samples take"):
        open_raw(tmp_path / "plain.h5", largest=needed - 1)
    read_whole = open_raw(tmp_path / "plain.h5", largest=needed)
    assert isinstance(read_whole, Scan) and scan_bytes(read_whole) == needed
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(read_whole, name), getattr(given, name))
    assert isinstance(open_raw(tmp_path / "plain.h5", largest=needed - given.noise.nbytes, noise_scan=False), Scan)
