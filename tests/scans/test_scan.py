"""Scan files: exact round trip, whole or absent, and a clear word about everything that does not fit."""

import errno
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.recon import scan_images
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans.raw import inspect_raw
from sn2nlib.scans.scan import FORMAT_VERSION, Scan, load_scan, save_scan
from sn2nlib.scans.sidecar import describe, described
from sn2nlib.scans.stream import read_header, read_partitions, write_partitions

SHAPE = (3, 5, 21, 4)  # (coil, kz, ky, kx)


def arrays(seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Keyword arguments of a valid scan, some of them replaced."""
    rng = np.random.default_rng(seed)
    mask = lattice_mask(SHAPE[1:3], acceleration=(2, 1), acs=7)
    kspace = rng.standard_normal((*SHAPE, 2), np.float32).view(np.complex64)[..., 0] * mask[:, :, None]
    content = {
        "kspace": kspace,
        "mask": mask,
        "acceleration": (2, 1),
        "voxel_size": (1.1, 0.9, 0.7),
        "affine": np.array([[0, 0, 1.1, -3], [0, 0.9, 0, 5], [0.7, 0, 0, 1 / 3], [0, 0, 0, 1]]),
        "noise": rng.standard_normal((3, 50, 2), np.float32).view(np.complex64)[..., 0],
        "info": {"source": "simulated", "seed": 3, "noise_sd": 0.1},
    }
    return content | changes


def make_scan(**changes: Any) -> Scan:
    return Scan(**arrays(**changes))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_scan(make_scan(), tmp_path / "scan.h5")
    return tmp_path / "scan.h5"


@pytest.mark.parametrize(
    "changes",
    [{}, {"noise": None}, {"info": {}}, {"voxel_size": (0.7, 1 / 3, 2.0)}, {"affine": np.diag([-1.0, 2, 3, 1])}],
)
def test_round_trip_is_bit_identical(tmp_path: Path, changes: dict[str, Any]) -> None:
    scan = make_scan(**changes)
    before = scan.kspace.copy()
    save_scan(scan, tmp_path / "new folder" / "scan.h5")
    loaded = load_scan(str(tmp_path / "new folder" / "scan.h5"))

    for name in ("kspace", "mask", "affine"):
        stored, given = getattr(loaded, name), getattr(scan, name)
        assert stored.dtype == given.dtype
        np.testing.assert_array_equal(stored, given)
    if scan.noise is None:
        assert loaded.noise is None
    else:
        np.testing.assert_array_equal(loaded.noise, scan.noise)
    assert (loaded.acceleration, loaded.caipi_shift, loaded.voxel_size, loaded.info) == (
        scan.acceleration, scan.caipi_shift, scan.voxel_size, scan.info
    )  # fmt: skip
    assert loaded.n_coils == 3 and loaded.shape == SHAPE[1:]
    np.testing.assert_array_equal(scan.kspace, before)


def test_caipirinha_and_two_dimensional_scans_round_trip(tmp_path: Path) -> None:
    mask = lattice_mask((6, 21), acceleration=(2, 2), caipi_shift=1, acs=5)
    kspace = np.ones((1, 6, 21, 3), np.complex64)
    save_scan(Scan(kspace * mask[:, :, None], mask, (2, 2), 1), tmp_path / "caipi.h5")
    assert load_scan(tmp_path / "caipi.h5").caipi_shift == 1
    flat = lattice_mask((1, 21), acs=5)
    save_scan(Scan(kspace[:, :1] * flat[:, :, None], flat, (2, 1)), tmp_path / "flat.h5")
    assert load_scan(tmp_path / "flat.h5").shape == (1, 21, 3)


def test_a_file_holds_what_the_scan_holds_and_nothing_about_a_patient(saved: Path) -> None:
    with h5py.File(saved) as file:
        assert set(file) == {"kspace", "mask", "noise"}
        assert set(file.attrs) == {
            "format", "version", "acceleration", "caipi_shift", "voxel_size", "affine", "info"
        }  # fmt: skip
        assert json.loads(file.attrs["info"]) == make_scan().info
        assert all(not dataset.attrs for dataset in file.values())


def test_calibration_second_repetition_and_the_bar_to_training_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    acs = rng.standard_normal((3, 5, 9, 8), np.float32).view(np.complex64)
    scan = make_scan(acs=acs, repeat=arrays(seed=1)["kspace"], not_for_training="one partition")
    save_scan(scan, tmp_path / "scan.h5")
    loaded = load_scan(tmp_path / "scan.h5")
    for name in ("acs", "repeat"):
        stored = getattr(loaded, name)
        assert stored.dtype == np.complex64
        np.testing.assert_array_equal(stored, getattr(scan, name))
    assert loaded.not_for_training == "one partition"
    header = read_header(tmp_path / "scan.h5")
    assert (header.acs_shape, header.has_repeat, header.not_for_training) == ((5, 9, 4), True, "one partition")
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        del file["acs"]
        file["acs"] = acs[:2]
    with pytest.raises(ScanError, match=r"scan\.h5: acs: needs shape"):
        load_scan(tmp_path / "scan.h5")


def test_a_file_of_the_first_format_is_still_read(saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        file.attrs["version"] = 1  # what version 2 added is optional, so that nothing else differs
    loaded = load_scan(saved)
    np.testing.assert_array_equal(loaded.kspace, make_scan().kspace)
    assert (loaded.acs, loaded.repeat, loaded.not_for_training) == (None, None, None)
    assert read_header(saved).version == 1


def test_an_existing_file_is_kept_unless_told_otherwise(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(FileExistsError, match=r"scan\.h5 exists; choose another name"):
        save_scan(make_scan(seed=1), saved)
    assert saved.read_bytes() == before
    save_scan(make_scan(seed=1), saved, overwrite=True)
    np.testing.assert_array_equal(load_scan(saved).kspace, make_scan(seed=1).kspace)


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["h5py.Group.__setitem__", "sn2nlib.provenance.os.replace", "no room"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, overwrite: bool
) -> None:
    target = tmp_path / "scan.h5"
    if overwrite:
        save_scan(make_scan(), target)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if step == "no room":
        usage = type("Usage", (), {"free": 1000})
        monkeypatch.setattr("sn2nlib.scans.scan.shutil.disk_usage", lambda _: usage)
    else:
        monkeypatch.setattr(step, full_disk)
    with pytest.raises(OSError, match=r"The disk is full; .*scan\.h5 was not written") as caught:
        save_scan(make_scan(seed=1), target, overwrite=overwrite)
    assert caught.value.errno == errno.ENOSPC
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_provenance_that_json_cannot_hold_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_scan(make_scan(info={"array": np.zeros(2)}), tmp_path / "scan.h5")
    assert list(tmp_path.iterdir()) == []


def with_value(value: complex, *, coil: int, name: str = "kspace") -> dict[str, Any]:
    array = arrays()[name].copy()
    array[coil, 1, ...] = value
    return {name: array}


def without_coil(coil: int) -> dict[str, Any]:
    kspace = arrays()["kspace"].copy()
    kspace[coil] = 0
    return {"kspace": kspace}


def nowhere_finite() -> np.ndarray:
    """NaN in all acquired samples."""
    kspace = arrays()["kspace"].copy()
    kspace[:, arrays()["mask"]] = np.nan
    return kspace


BAD_INFO: list[tuple[Any, str]] = [
    ([1, 2], "info: needs names and their values"),
    ("words", "info: needs names and their values"),
    ({"geometry": 5}, "info: geometry needs words"),
    ({"source": None}, "info: source needs words"),
    ({"done": 5}, "info: done needs a list of sentences"),
    ({"notes": "all in one"}, "info: notes needs a list of sentences"),
    ({"done": ["flipped", 5]}, "info: done needs a list of sentences"),
    ({"noise_sd": "DOE"}, "info: noise_sd needs a finite number"),
    ({"replica": float("nan")}, "info: replica needs a finite number"),
]

BAD: list[tuple[dict[str, Any], str]] = [
    (with_value(np.nan, coil=1), "kspace: coil 1 holds NaN or Inf"),
    (with_value(complex(0, np.inf), coil=2), "kspace: coil 2 holds NaN or Inf"),
    ({"kspace": np.ones(SHAPE, np.complex64)}, "kspace: holds samples where the mask of the scan has none; set them"),
    (without_coil(1), "kspace: coil 1 has no signal at all; leave out that coil"),
    ({"kspace": arrays()["kspace"].astype(np.complex128)}, r"kspace: needs complex64, got complex128; convert"),
    ({"kspace": arrays()["kspace"].real}, "kspace: needs complex64, got float32"),
    ({"kspace": arrays()["kspace"][0]}, r"kspace: needs 4 axes \(coil, kz, ky, kx\).* got 3: shape \(5, 21, 4\)"),
    ({"kspace": arrays()["kspace"][None]}, "kspace: needs 4 axes .* got 5"),
    ({"kspace": arrays()["kspace"][:0], "noise": None}, r"none empty, got 4: shape \(0, 5, 21, 4\)"),
    ({"mask": arrays()["mask"].T}, r"mask: needs bool of shape \(kz, ky\) = \(5, 21\).*got bool of shape \(21, 5\)"),
    ({"mask": arrays()["mask"].astype(float)}, "mask: needs bool .*got float64"),
    ({"mask": np.zeros((5, 21), bool)}, "mask: the sampling mask is empty"),
    ({"acceleration": (3, 1)}, "mask: the mask has samples off every lattice of the declared acceleration R = 3×1"),
    ({"acceleration": (1, 1)}, "mask: the mask lacks .* declared acceleration R = 1×1"),
    ({"mask": lattice_mask((5, 21), acceleration=(4, 1), acs=7)}, "mask: the mask lacks .* R = 2×1"),
    (with_value(np.nan, coil=0, name="noise"), r"noise scan holds NaN or Inf in coil 0; leave out .*--no-noise-scan"),
    ({"noise": arrays()["noise"][:2]}, r"noise: needs shape \(coil, n\) with 3 coils, got \(2, 50\)"),
    ({"noise": arrays()["noise"][0]}, r"noise: needs shape \(coil, n\)"),
    ({"noise": arrays()["noise"].astype(np.complex128)}, "noise: needs complex64, got complex128"),
    ({"affine": np.eye(3)}, "affine: needs a finite 4×4 matrix"),
    ({"affine": np.full((4, 4), np.nan)}, "affine: needs a finite 4×4 matrix"),
    ({"affine": np.diag([1.0, 0, 1, 1])}, "affine: its axes do not span the space"),
    ({"affine": np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])}, "affine: its axes do not span"),
    ({"affine": np.diag([1.0, 1, 1, 2])}, "affine: .*last row is not 0 0 0 1"),
    ({"voxel_size": (1.0, 0.0, 1.0)}, "voxel_size: needs three positive numbers"),
    ({"voxel_size": (1.0, np.nan, 1.0)}, "voxel_size: needs three positive numbers"),
    ({"voxel_size": (1.0, 1.0)}, "voxel_size: needs three positive numbers"),
    ({"acs": np.ones((3, 5, 9, 4))}, "acs: needs complex64, got float64; convert"),
    ({"acs": np.ones((2, 5, 9, 4), np.complex64)}, r"acs: needs shape .* \(3, 5, 21, 4\), got \(2, 5, 9, 4\)"),
    ({"acs": np.ones((3, 5, 22, 4), np.complex64)}, "acs: needs shape"),
    ({"acs": np.ones((3, 9, 4), np.complex64)}, "acs: needs shape"),
    ({"acs": np.ones((3, 0, 9, 4), np.complex64)}, "acs: needs shape"),
    ({"acs": np.full((3, 5, 9, 4), np.nan, np.complex64)}, "acs: coil 0 holds NaN or Inf"),
    ({"repeat": arrays()["kspace"].astype(complex)}, "repeat: needs complex64, got complex128"),
    ({"repeat": arrays()["kspace"][:, :4]}, r"repeat: needs the shape of the k-space \(3, 5, 21, 4\), got"),
    ({"repeat": np.ones(SHAPE, np.complex64)}, "repeat: holds samples where the mask of the scan has none"),
    ({"repeat": nowhere_finite()}, "repeat: coil 0 holds NaN or Inf"),
    ({"repeat": without_coil(2)["kspace"]}, "repeat: coil 2 has no signal at all"),
    ({"not_for_training": " "}, "not_for_training: needs the reason in words"),
    ({"not_for_training": b"2D"}, "not_for_training: needs the reason in words"),
    *[({"info": info}, message) for info, message in BAD_INFO],
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScanError, match=message):
        make_scan(**changes)


# values that a header does not hold, and a mask whose type does not matter there
VALUES = ("kspace: coil", "kspace: holds", "acs: coil", "repeat: coil", "repeat: holds", "float64", "needs the reason",
          "info: ")  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), [pair for pair in BAD if not any(v in pair[1] for v in VALUES)])
def test_a_header_is_checked_as_a_scan_is(saved: Path, changes: dict[str, Any], message: str) -> None:
    with h5py.File(saved, "a") as file:
        for name, value in changes.items():
            if name in ("affine", "voxel_size", "acceleration"):
                file.attrs[name] = value
                continue
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value
    with pytest.raises(ScanError, match=message):
        read_header(saved)


# an array of another shape or type is nothing that partitions are written of, and bytes become words in a file
STREAMED = [
    (changes, message) for changes, message in BAD
    if not re.search(r"(kspace|repeat): needs|none empty", message) and changes.get("not_for_training") != b"2D"
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), STREAMED)
def test_what_is_written_partition_by_partition_is_checked_as_a_scan_is(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    given = arrays(**changes)
    streams = {name: np.moveaxis(given.pop(name), 1, 0) for name in ("kspace", "repeat") if name in given}
    (tmp_path / "scan.h5").write_bytes(b"what was there")
    with pytest.raises(ScanError, match=message):
        write_partitions(tmp_path / "scan.h5", SHAPE, streams.pop("kspace"), **given, **streams)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("scan.h5", b"what was there")]


@pytest.mark.parametrize("name", ["kspace", "repeat"])
def test_partitions_with_samples_off_the_mask_are_refused(tmp_path: Path, name: str) -> None:
    save_scan(make_scan(repeat=arrays(seed=1)["kspace"]), tmp_path / "scan.h5")
    assert len(list(read_partitions(read_header(tmp_path / "scan.h5"), name))) == 5
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        file[name][2, 3, np.flatnonzero(~make_scan().mask[3])[0], 1] = 1e-3
    seen = []
    with pytest.raises(ScanError, match=rf"scan\.h5: {name}: holds samples where the mask of the scan has none"):
        seen.extend(kz for kz, _ in read_partitions(read_header(tmp_path / "scan.h5"), name))
    assert seen == [0, 1, 2]


def test_an_array_that_is_not_contiguous_is_checked_too() -> None:
    flipped = np.ascontiguousarray(arrays()["kspace"][..., ::-1])[..., ::-1]
    assert not flipped.flags.c_contiguous
    assert make_scan(kspace=flipped).shape == SHAPE[1:]
    flipped[1, 1, 0, 0] = np.nan
    with pytest.raises(ScanError, match="coil 1 holds NaN"):
        make_scan(kspace=flipped)


def test_a_scan_cannot_be_changed_but_replaced_and_is_then_checked_again() -> None:
    scan = make_scan()
    with pytest.raises(AttributeError):
        scan.mask = np.ones_like(scan.mask)  # type: ignore[misc]
    with pytest.raises(ScanError, match="coil 0 holds NaN"):
        replace(scan, kspace=scan.kspace * np.float32(np.nan))


def test_a_file_that_is_no_scan(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no scan file .*absent\.h5"):
        load_scan(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(ScanError, match=r"text\.h5: not an HDF5 file, or damaged; .* or `sn2n convert`"):
        load_scan(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(ScanError, match=r"other\.h5: .* not a scan .*lacks acceleration, .*kspace, mask"):
        read_header(tmp_path / "other.h5")


def test_a_file_of_a_newer_format_is_refused(saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        file.attrs["version"] = FORMAT_VERSION + 1
    for read in (load_scan, read_header):
        with pytest.raises(ScanError, match=r"scan\.h5: a scan of format version 4, .* reads up to 3; install"):
            read(saved)
    with h5py.File(saved, "a") as file:  # a newer format may lack what this one has
        del file["mask"]
    with pytest.raises(ScanError, match="a scan of format version 4"):
        load_scan(saved)


@pytest.mark.parametrize(
    ("name", "lacks"),
    [(name, name) for name in ("kspace", "mask", "affine", "info")] + [("format", "the attribute format")],
)
def test_a_file_that_lacks_something(saved: Path, name: str, lacks: str) -> None:
    with h5py.File(saved, "a") as file:
        if name in file:
            del file[name]
        else:
            del file.attrs[name]
    for read in (load_scan, read_header):
        with pytest.raises(ScanError, match=rf"scan\.h5: .*it lacks {lacks}"):
            read(saved)


def put(file: h5py.File, name: str, value: object) -> None:
    """An array in place of that of the name, or an attribute."""
    if name in file:
        del file[name]
        file[name] = value
    else:
        file.attrs[name] = value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("kspace", arrays()["kspace"].astype(np.complex128), "kspace: needs complex64, got complex128"),
        ("kspace", arrays()["kspace"][0], "needs 4 axes"),
        ("kspace", with_value(np.nan, coil=2)["kspace"], "coil 2 holds NaN or Inf"),
        ("mask", np.ones((4, 21), bool), r"mask: needs bool of shape \(kz, ky\) = \(5, 21\)"),
        ("noise", np.zeros((2, 9), np.complex64), "noise: needs shape"),
        ("acceleration", (4, 1), "declared acceleration R = 4×1"),
        ("acceleration", (2**48, 1), "acceleration: R = 281474976710656×1 .* is more than the 21 × 5 lines"),
        ("acceleration", "fast", "damaged or incomplete"),
        ("info", "{not json", "damaged or incomplete"),
    ],
)
def test_a_files_content_is_checked_and_the_file_named(saved: Path, name: str, value: object, message: str) -> None:
    with h5py.File(saved, "a") as file:
        put(file, name, value)
    with pytest.raises(ScanError, match=rf"scan\.h5: .*{message}"):
        load_scan(saved)


@pytest.mark.parametrize(("info", "message"), BAD_INFO)
def test_provenance_that_is_something_else_is_refused_by_every_reader(saved: Path, info: Any, message: str) -> None:
    with h5py.File(saved, "a") as file:
        file.attrs["info"] = json.dumps(info)
    for read in (load_scan, read_header, inspect_raw, scan_images):
        with pytest.raises(ScanError, match=rf"scan\.h5: {message}") as caught:
            read(saved)
        assert "DOE" not in str(caught.value)
    record = json.loads(describe(make_scan())) | {"info": info}
    with pytest.raises(ScanError, match=message):
        described(json.dumps(record))


@pytest.mark.parametrize("read", [load_scan, read_header])
def test_no_word_of_a_file_is_repeated_in_an_error(saved: Path, read: Callable[[Path], object]) -> None:
    named = np.zeros((3, 9), [("DOE", "f4"), ("JANE", "f4")])
    for name, value in (("acceleration", "DOE, JANE"), ("caipi_shift", "DOE"), ("voxel_size", ["DOE"] * 3),
                        ("affine", "DOE"), ("info", "DOE"), ("not_for_training", ["DOE"]), ("noise", named),
                        ("version", "DOE")):  # fmt: skip
        content = saved.read_bytes()
        with h5py.File(saved, "a") as file:
            put(file, name, value)
        with pytest.raises(ScanError, match=r"scan\.h5: ") as caught:
            read(saved)
        assert "DOE" not in str(caught.value)
        saved.write_bytes(content)


def written_by_others(path: Path, mask: np.ndarray) -> Path:
    """A scan file of this mask that declares R = 2×1, as earlier versions wrote it too."""
    save_scan(make_scan(), path)
    with h5py.File(path, "a") as file:
        file["mask"][...] = mask
        file["kspace"][...] = np.ones(SHAPE, np.complex64) * mask[:, :, None]
    return path


@pytest.mark.parametrize("first", [0, 5])  # the whole matrix, and a side of ky never acquired
def test_of_a_mask_without_gaps_a_declared_acceleration_is_not_believed(tmp_path: Path, first: int) -> None:
    mask = np.zeros(SHAPE[1:3], bool)
    mask[:, first:] = True
    with pytest.warns(UserWarning, match=r"^R = 2×1 \(ky×kz\) is declared, .* fully sampled, R = 1×1") as told:
        scan = make_scan(mask=mask, kspace=np.ones(SHAPE, np.complex64) * mask[:, :, None])
    assert scan.acceleration == (1, 1) and len(told) == 1 and told[0].filename == __file__
    path = written_by_others(tmp_path / "scan.h5", mask)
    with pytest.warns(UserWarning, match=r"^scan\.h5: R = 2×1 \(ky×kz\) is declared, but no line is missing") as told:
        loaded = load_scan(path)
    header = read_header(path)
    assert loaded.acceleration == header.acceleration == (1, 1) and len(told) == 1
    assert header.doubts == (str(told[0].message).removeprefix("scan.h5: "),)
    assert replace(loaded, info={}).acceleration == (1, 1)  # and nothing more is in doubt
    save_scan(loaded, tmp_path / "again.h5")
    assert load_scan(tmp_path / "again.h5").acceleration == (1, 1)


def test_a_mask_stored_as_bytes_is_read(saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        del file["mask"]
        file["mask"] = make_scan().mask.astype(np.uint8)
    np.testing.assert_array_equal(load_scan(saved).mask, make_scan().mask)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_truncated_file(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    for read in (load_scan, read_header):
        with pytest.raises(ScanError, match=r"scan\.h5: not an HDF5 file, or damaged"):
            read(saved)


@pytest.mark.parametrize("start", [0, 96, 600, 800, 1200, 2048])
def test_a_damaged_file(saved: Path, start: int) -> None:
    """Zeros written over a piece of the tables that say where everything is."""
    content = bytearray(saved.read_bytes())
    content[start : start + 400] = bytes(400)
    saved.write_bytes(content)
    with pytest.raises(ScanError, match=r"scan\.h5: "):
        load_scan(saved)


@pytest.mark.parametrize("read", [load_scan, read_header])
def test_running_out_of_memory_is_not_called_damage(
    saved: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    def too_much(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(h5py.Dataset, "__getitem__", too_much)
    with pytest.raises(MemoryError):
        read(saved)


def test_the_header_is_read_without_samples(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(saved, "a") as file:
        file["kspace"][...] = np.nan  # nobody looks
    read, names = h5py.Dataset.__getitem__, []

    def recorded(dataset: h5py.Dataset, *arguments: object) -> object:
        names.append(dataset.name)
        return read(dataset, *arguments)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", recorded)
    header, scan = read_header(saved), make_scan()
    assert names == ["/mask", "/noise"]
    assert (header.version, header.n_coils, header.shape) == (2, 3, (5, 21, 4))
    assert (header.acs_shape, header.has_repeat, header.not_for_training) == (None, False, None)
    for name in ("acceleration", "caipi_shift", "voxel_size", "info"):
        assert getattr(header, name) == getattr(scan, name)
    for name in ("mask", "affine", "noise"):
        np.testing.assert_array_equal(getattr(header, name), getattr(scan, name))
