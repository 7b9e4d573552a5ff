"""Raw files of known content, in every format: each correction on its own, and what is refused."""

import hashlib
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sn2nlib.errors import ChoiceError, ScanError
from sn2nlib.recon import make_pair, reconstruct
from sn2nlib.sampling import acs_region, infer_lattice, lattice_mask
from sn2nlib.scans import save_scan
from sn2nlib.scans.export import save_ismrmrd
from sn2nlib.scans.raw import inspect_raw, read_raw
from sn2nlib.scans.raw.geometry import UNVERIFIED_SIDES
from sn2nlib.scans.raw.placement import find_acceleration, place_axis
from sn2nlib.scans.raw.report import cannot
from sn2nlib.scans.scan import Scan

pytestmark = pytest.mark.filterwarnings("ignore:.*left and right follow Siemens")  # has a test of its own
KINDS = ("VB", "VD", "MRD")
SHAPE = (3, 4, 10, 16)  # coil, kz, ky, samples with twofold oversampling


def samples(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]


def cropped(kspace: np.ndarray, n: int) -> np.ndarray:
    """Oversampling removed along the last axis, by the sum that the Fourier transform is."""
    full = kspace.shape[-1]
    k, x = np.arange(full) - full // 2, np.arange(n) - n // 2
    image = kspace @ np.exp(2j * np.pi * np.outer(k, x) / full) / np.sqrt(full)
    return image @ np.exp(-2j * np.pi * np.outer(x, np.arange(n) - n // 2) / n) / np.sqrt(n)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_scan_with_all_that_is_in_its_header(tmp_path: Path, raw: Any, kind: str) -> None:
    kspace = samples()
    file = raw.File(raw.lines(kspace), matrix=SHAPE[1:], centre=(2, 5))
    path = raw.write(tmp_path / "scan.bin", file, kind)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    scan = read_raw(path)
    assert close(scan.kspace, cropped(kspace, 8)) and scan.kspace.dtype == np.complex64
    assert scan.mask.all() and scan.acceleration == (1, 1) and scan.not_for_training is None
    assert scan.voxel_size == pytest.approx((2, 2, 3))
    # voxel (4, 5, 2) of (x, y, z) at the position; readout runs to the head, lines to the back, partitions to the left,
    # but in the files of Siemens the other way round, since their directions are those of a forward transform
    expected = np.array([[0, 0, -2, -10 + 2 * 2], [0, -2, 0, 20 + 2 * 5], [3, 0, 0, 30 - 3 * 4], [0, 0, 0, 1]])
    turned = np.array([[0, 0, 2, -10 - 2 * 2], [0, 2, 0, 20 - 2 * 5], [-3, 0, 0, 30 + 3 * 4], [0, 0, 0, 1]])
    assert np.allclose(scan.affine, expected if kind == "MRD" else turned, atol=1e-4)
    if kind == "MRD":
        siemens = raw.write(tmp_path / "siemens.h5", replace(file, vendor="SIEMENS Healthineers"), kind)
        with pytest.warns(UserWarning, match="left and right follow Siemens's rule"):
            assert np.allclose(read_raw(siemens).affine, turned, atol=1e-4)
    assert close(read_raw(path, remove_oversampling=False).kspace, kspace)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


@pytest.mark.parametrize(("kind", "vendor"), [("VB", ""), ("VD", ""), ("MRD", "SIEMENS"), ("MRD", "Nobody")])
def test_unverified_sides_of_siemens_are_told(tmp_path: Path, raw: Any, kind: str, vendor: str) -> None:
    """Of files with partitions, and of no others."""
    told = {}
    for name, shape in (("volume", SHAPE), ("slice", (3, 1, *SHAPE[2:]))):
        file = raw.File(raw.lines(samples(shape)), shape[1:], centre=(shape[1] // 2, 5), vendor=vendor)
        path = raw.write(tmp_path / name, file, kind)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read_raw(path)
        told[name] = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    assert told == {"volume": [] if vendor == "Nobody" else [f"volume: {UNVERIFIED_SIDES}"], "slice": []}
    assert (UNVERIFIED_SIDES in inspect_raw(tmp_path / "volume").doubts) == (vendor != "Nobody")


@pytest.mark.parametrize("kind", KINDS)
def test_undersampling_partial_fourier_and_a_centre_elsewhere(tmp_path: Path, raw: Any, kind: str) -> None:
    shape = (2, 6, 24, 8)
    kspace = samples(shape)
    mask = lattice_mask(shape[1:3], acceleration=(2, 1), acs=8, partial_fourier=(0.75, 1))
    acs = np.zeros_like(mask)
    acs[:, 8:16] = True
    lattice = mask & (np.arange(24) % 2 == 0)
    first = (0, 6)  # the first acquired line has the number 0
    lines = [
        *raw.lines(kspace, mask & ~acs, first=first),
        *raw.lines(kspace, lattice & acs, first=first, role="both"),
        *raw.lines(kspace, mask & acs & ~lattice, first=first, role="acs"),
    ]
    file = raw.File(lines, matrix=shape[1:], centre=(3, 6), oversampling=1.0, acceleration=(2, 1))
    scan = read_raw(raw.write(tmp_path / "scan", file, kind))
    assert np.array_equal(scan.mask, mask) and scan.acceleration == (2, 1) and scan.acs is None
    assert np.array_equal(scan.kspace, kspace * mask[:, :, None])
    report = inspect_raw(tmp_path / "scan")
    assert report.values["partial Fourier (ky, kz)"] == (0.75, 1.0)
    assert report.values["calibration"] == "integrated, (kz, ky) = (6, 9) fully sampled"
    assert any("central ky line 6 moved to 12 of 24" in told for told in report.does)
    assert any("acquired from -6 to" in told for told in report.does)
    assert set(report.doubts) <= {UNVERIFIED_SIDES}


@pytest.mark.parametrize("kind", KINDS)
def test_caipirinha_is_found_from_the_lines(tmp_path: Path, raw: Any, kind: str) -> None:
    shape = (2, 12, 16, 8)
    mask = lattice_mask(shape[1:3], acceleration=(2, 2), caipi_shift=1, acs=6)
    file = raw.File(raw.lines(samples(shape), mask), shape[1:], oversampling=1.0, centre=(6, 8), acceleration=(2, 2))
    scan = read_raw(raw.write(tmp_path / "scan", file, kind))
    assert (scan.acceleration, scan.caipi_shift) == ((2, 2), 1)
    assert np.array_equal(scan.mask, mask)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("declared", ["separate", "other"])
def test_a_calibration_scan_of_its_own(tmp_path: Path, raw: Any, kind: str, declared: str) -> None:
    shape, box = (2, 4, 12, 8), np.zeros((4, 12), bool)
    box[:, 3:9] = True
    mask = lattice_mask(shape[1:3], acceleration=(2, 1), acs=None)
    kspace, acs = samples(shape), samples(shape, seed=1)
    lines = [*raw.lines(acs, box, role="acs"), *raw.lines(kspace, mask)]
    file = raw.File(lines, shape[1:], centre=(2, 6), oversampling=1.0, acceleration=(2, 1), calibration=declared)
    path = raw.write(tmp_path / "scan", file, kind)
    scan = read_raw(path)
    assert np.array_equal(scan.mask, mask) and np.array_equal(scan.kspace, kspace * mask[:, :, None])
    assert scan.acs is not None and np.array_equal(scan.acs, acs[:, :, 3:9])
    assert not any("calibration lines" in doubt for doubt in inspect_raw(path).doubts)

    box[1, 7] = False
    fewer = replace(file, lines=[*raw.lines(acs, box, role="acs"), *raw.lines(kspace, mask)])
    told = re.escape("7 of 23 calibration lines lie outside the largest fully sampled box, (kz, ky) = (4, 4): they are")
    path = raw.write(tmp_path / "fewer", fewer, kind)
    with pytest.warns(UserWarning, match=told):
        scan = read_raw(path)
    assert scan.acs is not None and np.array_equal(scan.acs, acs[:, :, 3:7])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("declared", ["embedded", "other", "separate"])
def test_calibration_lines_of_another_size_are_no_part_of_the_image(
    tmp_path: Path, raw: Any, kind: str, declared: str
) -> None:
    shape, between = (2, 4, 12, 8), np.zeros((4, 12), bool)
    between[:, 5:8:2] = True
    mask = lattice_mask(shape[1:3], acceleration=(2, 1), acs=None)
    kspace = samples(shape)
    lines = [*raw.lines(samples((2, 4, 12, 6), seed=1), between, role="acs"), *raw.lines(kspace, mask)]
    file = raw.File(lines, shape[1:], centre=(2, 6), oversampling=1.0, acceleration=(2, 1), calibration=declared)
    path = raw.write(tmp_path / "scan", file, kind)
    with pytest.warns(UserWarning, match="the separate calibration does not hold the centre of k-space"):
        scan = read_raw(path)
    assert np.array_equal(scan.mask, mask) and np.array_equal(scan.kspace, kspace * mask[:, :, None])
    assert scan.acs is None and scan.acceleration == (2, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "centre", "kept"), [
    (16, 8, (8, 16)), (16, 7, (8, 16)),  # of 32: the middle; its centre may be off by one, as that of the image may
    (18, 9, (7, 18)), (22, 6, (10, 12)),  # 22 samples about the sixth: 12 of them lie evenly about it
    (32, 12, (4, 24)), (40, 20, (0, 32)),  # as many as those of the image, and more
])  # fmt: skip
def test_a_calibration_scan_may_have_a_readout_of_its_own(
    tmp_path: Path, raw: Any, kind: str, n: int, centre: int, kept: tuple[int, int]
) -> None:
    """What lies evenly about the centre is kept, oversampling removed: `kept` is where it begins, and its length."""
    shape, box = (3, 4, 12, 32), np.zeros((4, 12), bool)
    box[:, 3:9] = True
    everything, mask = samples((3, 4, 12, 64)), lattice_mask(shape[1:3], acceleration=(2, 1), acs=None)
    image, first = everything[..., 16:48], 32 - (8 if centre == 7 else centre)
    own = [replace(line, centre=centre) for line in raw.lines(everything[..., first : first + n], box, role="acs")]
    file = raw.File([*own, *raw.lines(image, mask)], shape[1:], centre=(2, 6), acceleration=(2, 1),
                    calibration="separate")  # fmt: skip
    path = raw.write(tmp_path / "scan", file, kind)
    told = 8 if n == 16 else centre
    message = f"hold {n} samples (centre {told}), those of the image 32 (centre 16): both are taken to be of one field"
    with pytest.warns(UserWarning, match=re.escape(message)):
        scan = read_raw(path)
    expected = image[:, :, 3:9, kept[0] : kept[0] + kept[1]]
    assert scan.acs is not None and close(scan.acs, cropped(expected, kept[1] // 2))
    assert scan.kspace.shape == (3, 4, 12, 16) and scan.acceleration == (2, 1)
    assert any(message in doubt for doubt in inspect_raw(path).doubts)
    assert reconstruct(scan).shape == (4, 12, 16)


def test_calibration_beside_an_asymmetric_echo_and_read_backwards(tmp_path: Path, raw: Any) -> None:
    shape, box = (3, 4, 12, 32), np.zeros((4, 12), bool)
    box[:, 3:9] = True
    everything, mask = samples(shape), lattice_mask(shape[1:3], acceleration=(2, 1), acs=None)
    echo = [replace(line, centre=8) for line in raw.lines(everything[..., 8:], mask)]
    whole = [replace(line, reversed=True) for line in raw.lines(everything[..., ::-1], box, role="acs")]
    file = raw.File([*whole, *echo], shape[1:], centre=(2, 6), acceleration=(2, 1), calibration="separate")
    with pytest.warns(UserWarning, match=r"hold 32 samples \(centre 16\), those of the image 24 \(centre 8\): both"):
        scan = read_raw(raw.write(tmp_path / "scan", file, "VD"))
    assert scan.acs is not None and close(scan.acs, cropped(everything[:, :, 3:9], 16))


def test_a_shorter_calibration_of_another_dwell_time_is_not_used(tmp_path: Path, raw: Any) -> None:
    shape, box = (3, 4, 12, 32), np.zeros((4, 12), bool)
    box[:, 3:9] = True
    mask = lattice_mask(shape[1:3], acceleration=(2, 1), acs=None)
    lines = [*raw.lines(samples((3, 4, 12, 16)), box, role="acs"), *raw.lines(samples(shape), mask)]
    file = raw.File(lines, shape[1:], centre=(2, 6), acceleration=(2, 1), calibration="separate")
    path = raw.write(tmp_path / "scan.h5", file, "MRD")
    with h5py.File(path, "r+") as stored:
        rows = stored["dataset/data"][()]
        rows["head"]["sample_time_us"][:24] *= 2
        stored["dataset/data"][...] = rows
    with pytest.warns(UserWarning, match="of another dwell time, so that their field of view may be another: they"):
        assert read_raw(path).acs is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_acs", [5, 12])  # of 12 lines: some of them, and all
def test_calibration_lines_between_the_others_are_no_scan_of_their_own(
    tmp_path: Path, raw: Any, kind: str, n_acs: int
) -> None:
    shape = (2, 4, 12, 8)
    mask, lattice = (lattice_mask(shape[1:3], acceleration=(3, 1), acs=acs) for acs in (n_acs, None))
    kspace = samples(shape) * mask[:, :, None]
    lines = [*raw.lines(kspace, lattice, role="both"), *raw.lines(kspace, mask & ~lattice, role="acs")]
    file = raw.File(lines, shape[1:], centre=(2, 6), oversampling=1.0, acceleration=(3, 1), calibration="separate")
    path = raw.write(tmp_path / "scan", file, kind)
    with pytest.warns(UserWarning, match="scan: ") as warned:
        scan = read_raw(path)
    assert any("scan: the header calls the calibration separate, yet its lines" in str(w.message) for w in warned)
    assert np.array_equal(scan.kspace, kspace) and np.array_equal(scan.mask, mask) and scan.acs is None
    assert scan.acceleration == ((1, 1) if n_acs == 12 else (3, 1))
    report = inspect_raw(path)
    assert report.cannot == () and any("calls the calibration separate" in doubt for doubt in report.doubts)
    assert any("R = 3×1" in doubt for doubt in report.doubts) == (n_acs == 12)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_readouts_are_scaled_to_the_lines(tmp_path: Path, raw: Any, kind: str) -> None:
    noise = [raw.Line(samples((3, 64), seed=n), role="noise") for n in (1, 2)]
    file = raw.File([*noise, *raw.lines(samples())], SHAPE[1:], centre=(2, 5), dwell_us=5)
    path = raw.write(tmp_path / "scan", file, kind)
    scan = read_raw(path)
    expected = np.concatenate([line.samples for line in noise], axis=1) * np.sqrt(7680 / 64 / 5 / 0.793)
    assert scan.noise is not None and np.allclose(scan.noise, expected, rtol=1e-5)
    assert read_raw(path, noise_scan=False).noise is None
    assert inspect_raw(path).values["noise scan"] == "this measurement"


@pytest.mark.parametrize(("dwell_us", "told"), [(0.0, "unknown"), (9000.0, "9000 µs")])
@pytest.mark.parametrize("kind", KINDS)
def test_noise_readouts_that_cannot_be_scaled_are_in_doubt(
    tmp_path: Path, raw: Any, kind: str, dwell_us: float, told: str
) -> None:
    noise = raw.Line(samples((3, 128), seed=1), role="noise")
    file = raw.File([noise, *raw.lines(samples())], SHAPE[1:], centre=(2, 5), dwell_us=dwell_us)
    path = raw.write(tmp_path / "scan", file, kind)
    told = re.escape(f"the dwell times of the noise scan (60 µs) and of the image lines ({told}) do not tell how")
    with pytest.warns(UserWarning, match=f"{told} .* it is taken as equal, .* with --no-noise-scan the noise"):
        scan = read_raw(path)
    assert np.array_equal(scan.noise, noise.samples)
    report = inspect_raw(path)
    assert any("not scaled, since the dwell times do not tell how" in sentence for sentence in report.does)
    assert any("the dwell times of the noise scan" in doubt for doubt in report.doubts)
    assert not any("dwell times" in sentence for sentence in inspect_raw(path, noise_scan=False).doubts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_ismrmrd(scan, tmp_path / "scan.mrd")
    assert not any("dwell times of" in doubt for doubt in inspect_raw(tmp_path / "scan.mrd").doubts)


@pytest.mark.parametrize("kind", KINDS)
def test_averages_and_repetitions_are_kept_apart(tmp_path: Path, raw: Any, kind: str) -> None:
    data = samples((2, 2, *SHAPE))  # repetition, average
    lines = [
        line
        for repetition in (0, 1) for average in (0, 1)
        for line in raw.lines(data[repetition, average], repetition=repetition, average=average)
    ]  # fmt: skip
    noise = raw.Line(samples((3, 64), seed=1), role="noise")
    file = raw.File([noise, *lines], SHAPE[1:], centre=(2, 5), oversampling=1.0)
    path = raw.write(tmp_path / "scan", file, kind)
    scan = read_raw(path, repeat=1)
    assert close(scan.kspace, data[0].mean(axis=0)) and close(scan.repeat, data[1].mean(axis=0))
    single = read_raw(path, repetition=1, average=1)
    assert np.array_equal(single.kspace, data[1, 1]) and single.repeat is None
    assert scan.noise is not None and single.noise is not None
    assert np.allclose(scan.noise * np.sqrt(2), single.noise)  # the mean of two is that much quieter
    report = inspect_raw(path)
    assert (report.values["repetitions"], report.values["averages"]) == (2, 2)
    with pytest.raises(ScanError, match=r"scan: there is no repetition 2; the file holds 0, 1"):
        read_raw(path, repetition=2)
    with pytest.raises(ScanError, match="there is no average 5"):
        read_raw(path, average=5)
    with pytest.raises(ScanError, match="repetition 0 was asked for twice"):
        read_raw(path, repeat=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_averages", [(2, 1), (1, 2)])
def test_repetitions_of_unequal_averages_make_no_pair(
    tmp_path: Path, raw: Any, kind: str, n_averages: tuple[int, int]
) -> None:
    data = samples((2, 2, *SHAPE))  # repetition, average
    lines = [
        line
        for repetition, n in enumerate(n_averages) for average in range(n)
        for line in raw.lines(data[repetition, average], repetition=repetition, average=average)
    ]  # fmt: skip
    path = raw.write(tmp_path / "scan", raw.File(lines, SHAPE[1:], centre=(2, 5), oversampling=1.0), kind)
    for repetition, n in enumerate(n_averages):  # each alone is what it is
        assert close(read_raw(path, repetition=repetition).kspace, data[repetition, :n].mean(axis=0))
    told = f"scan: one repetition has {n_averages[0]} averages to take the mean of, the other {n_averages[1]}, so that"
    with pytest.raises(ScanError, match=f"{told} their noise differs and they cannot make a pair; choose .* --average"):
        read_raw(path, repeat=1)
    assert "cannot make a pair" in inspect_raw(path, repeat=1).cannot[0]
    scan = read_raw(path, repeat=1, average=0)
    assert close(scan.kspace, data[0, 0]) and close(scan.repeat, data[1, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_averages_of_the_second_repetition_that_hold_different_lines_are_told(
    tmp_path: Path, raw: Any, kind: str
) -> None:
    data = samples((3, *SHAPE))
    lines = [*raw.lines(data[0]), *raw.lines(data[1], repetition=1), *raw.lines(data[2], repetition=1, average=1)[1:]]
    path = raw.write(tmp_path / "scan", raw.File(lines, SHAPE[1:], centre=(2, 5), oversampling=1.0), kind)
    scan = read_raw(path, repeat=1)
    assert close(scan.kspace, data[0]) and close(scan.repeat, data[1])
    (told,) = (note for note in scan.info["notes"] if "average" in note)
    assert told.startswith("of the second repetition, the averages hold different lines") and "0 is read" in told


@pytest.mark.parametrize("kind", KINDS)
def test_slices_and_contrasts_are_chosen_and_one_partition_is_not_for_training(
    tmp_path: Path, raw: Any, kind: str
) -> None:
    data = samples((2, 2, 3, 1, 10, 16))  # slice, contrast
    lines = [line for s in (0, 1) for c in (0, 1) for line in raw.lines(data[s, c], slice=s, contrast=c)]
    path = raw.write(tmp_path / "scan", raw.File(lines, (1, 10, 16), centre=(0, 5), oversampling=1.0), kind)
    assert np.array_equal(read_raw(path).kspace, data[0, 0])
    scan = read_raw(path, slice_number=1, contrast=1)
    assert np.array_equal(scan.kspace, data[1, 1]) and scan.shape == (1, 10, 16)
    assert scan.not_for_training is not None and "one partition" in scan.not_for_training
    report = inspect_raw(path)
    assert (report.values["slices"], report.values["contrasts"]) == (2, 2)
    assert any("one partition" in told for told in report.cannot)
    with pytest.raises(ScanError, match="there is no slice 4; the file holds 0, 1"):
        read_raw(path, slice_number=4)


@pytest.mark.parametrize("kind", KINDS)
def test_contrasts_that_are_numbered_as_sets_or_phases(tmp_path: Path, raw: Any, kind: str) -> None:
    data = samples((2, 3, *SHAPE[:3], 8))  # set, phase
    lines = [line for s in (0, 1) for p in (0, 1, 2) for line in raw.lines(data[s, p], set=s, phase=p)]
    path = raw.write(tmp_path / "scan", raw.File(lines, (4, 10, 8), centre=(2, 5), oversampling=1.0), kind)
    assert np.array_equal(read_raw(path).kspace, data[0, 0])
    assert np.array_equal(read_raw(path, set_number=1, phase=2).kspace, data[1, 2])
    report = inspect_raw(path, phase=1)
    assert (report.values["sets"], report.values["phases"]) == (2, 3)
    assert {"the file holds 2 sets (0, 1); set 0 is read", "the file holds 3 phases (0, 1, 2); phase 1 is read"} <= set(
        report.notes
    )
    for options, message in ({"set_number": 2}, "no set 2; the file holds 0, 1"), ({"phase": 5}, "no phase 5"):
        with pytest.raises(ChoiceError, match=f"there is {message}"):
            read_raw(path, **options)  # type: ignore[arg-type]
    save_scan(read_raw(path, set_number=1), tmp_path / "scan.h5")
    with pytest.raises(ChoiceError, match="--set: for twix and ISMRMRD files"):
        read_raw(tmp_path / "scan.h5", set_number=1)


@pytest.mark.parametrize("kind", KINDS)
def test_reversed_lines_asymmetric_echoes_and_discarded_samples(tmp_path: Path, raw: Any, kind: str) -> None:
    kspace = samples()
    lines = raw.lines(kspace)
    turned = [replace(line, samples=line.samples[:, ::-1], reversed=True) for line in lines[::2]]
    path = raw.write(tmp_path / "turned", raw.File([*turned, *lines[1::2]], SHAPE[1:], centre=(2, 5)), kind)
    assert close(read_raw(path).kspace, cropped(kspace, 8))

    short = [replace(line, samples=line.samples[:, 6:], centre=2) for line in lines]
    path = raw.write(tmp_path / "short", raw.File(short, SHAPE[1:], centre=(2, 5)), kind)
    filled = kspace.copy()
    filled[..., :6] = 0
    assert close(read_raw(path).kspace, cropped(filled, 8))
    assert any("asymmetric echo: 6 of 16 samples" in told for told in inspect_raw(path).does)

    cut = [replace(line, before=6) for line in lines]
    path = raw.write(tmp_path / "cut", raw.File(cut, SHAPE[1:], centre=(2, 5)), kind)
    assert close(read_raw(path).kspace, cropped(filled, 8))
    assert any("up to 6 samples at the beginning and 0 at the end" in told for told in inspect_raw(path).does)

    whole = [replace(lines[0], before=16), *lines[1:]]
    path = raw.write(tmp_path / "whole", raw.File(whole, SHAPE[1:], centre=(2, 5)), kind)
    with pytest.raises(ScanError, match="line kz 0, ky 0 is to lose 16 of its 16 samples"):
        read_raw(path)


@pytest.mark.parametrize("kind", KINDS)
def test_navigators_are_left_out_and_odd_sizes_served(tmp_path: Path, raw: Any, kind: str) -> None:
    kspace = samples((2, 3, 7, 9))
    lines = [raw.Line(samples((2, 30)), role="navigator"), *raw.lines(kspace)]
    path = raw.write(tmp_path / "scan", raw.File(lines, (3, 7, 9), centre=(1, 3), oversampling=1.0), kind)
    assert np.array_equal(read_raw(path).kspace, kspace)
    assert any("1 lines are navigators" in note for note in inspect_raw(path).notes)


@pytest.mark.parametrize("kind", KINDS)
def test_contradictions_are_named(tmp_path: Path, raw: Any, kind: str) -> None:
    path = raw.write(
        tmp_path / "scan", raw.File(raw.lines(samples()), (4, 8, 16), centre=(2, 5), acceleration=(2, 1)), kind
    )
    doubts = inspect_raw(path).doubts
    assert any("a matrix of 8 along ky" in doubt and "10 is used" in doubt for doubt in doubts)
    assert any("declares R = 2×1 (ky×kz), the acquired lines show 1×1" in doubt for doubt in doubts)
    with pytest.warns(UserWarning, match="scan: ") as warned:
        assert read_raw(path).shape == (4, 10, 8)
    assert len([warning for warning in warned if UNVERIFIED_SIDES not in str(warning.message)]) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_lattice_that_ends_before_the_matrix_is_told_from_lines_that_lack(
    tmp_path: Path, raw: Any, kind: str
) -> None:
    shape = (2, 4, 32, 8)
    lattice, told = lattice_mask(shape[1:3], acceleration=(2, 1), acs=8), {}
    for name, last in (("whole", 30), ("short", 28)):
        mask = lattice & (np.arange(32) <= last)
        file = raw.File(raw.lines(samples(shape), mask), shape[1:], oversampling=1, centre=(2, 16), acceleration=(2, 1))
        does = inspect_raw(raw.write(tmp_path / name, file, kind)).does
        told[name] = [sentence for sentence in does if sentence.startswith("ky acquired")]
    assert told["whole"] == [
        "ky acquired from -16 to 14 in steps of 2, but for calibration lines: up to both ends of the matrix of 32"
    ]
    assert told["short"] == ["ky acquired from -16 to 12, zeros beyond: they count as not sampled"]


@pytest.mark.parametrize("kind", KINDS)
def test_lines_that_are_missing_between_others_are_told(tmp_path: Path, raw: Any, kind: str) -> None:
    shape = (2, 12, 32, 8)
    z, y = np.mgrid[:12, :32]
    ellipse = ((z - 5.5) / 6) ** 2 + ((y - 15.5) / 16) ** 2 < 1
    for name, mask in (("full", np.ones((12, 32), bool)), ("ellipse", ellipse),
                       ("half", lattice_mask((12, 32), acceleration=(2, 1), acs=12))):  # fmt: skip
        for hole in (False, True):
            acquired = mask & ~(hole & (z == 2) & (y == 10))
            file = raw.File(raw.lines(samples(shape), acquired), shape[1:], oversampling=1.0, centre=(6, 16))
            path = raw.write(tmp_path / name, file, kind)
            told = [doubt for doubt in inspect_raw(path).doubts if "missing between acquired lines" in doubt]
            assert len(told) == hole and all("1, the first at (kz, ky) = (2, 10) of (12, 32)" in line for line in told)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the missing line, and of the declared acceleration
                assert np.array_equal(read_raw(path).mask, acquired)


@pytest.mark.parametrize("kind", KINDS)
def test_positions_that_are_no_numbers_or_disagree(tmp_path: Path, raw: Any, kind: str) -> None:
    lines = raw.lines(samples())
    for x in (np.nan, np.inf, 1e30):
        lost = [replace(line, position=(x, 0.0, 0.0)) for line in lines]
        path = raw.write(tmp_path / "lost", raw.File(lost, SHAPE[1:], centre=(2, 5)), kind)
        with pytest.warns(UserWarning, match="position and orientation are unknown"):
            scan = read_raw(path)
        assert "unknown" in scan.info["geometry"] and np.isfinite(scan.affine).all()
    moved = [*lines[:-1], replace(lines[-1], position=(raw.position[0] + 3, *raw.position[1:]))]
    path = raw.write(tmp_path / "moved", raw.File(moved, SHAPE[1:], centre=(2, 5)), kind)
    with pytest.warns(UserWarning, match=r"disagree about where they lie \(by up to 3 mm along an axis"):
        read_raw(path)


@pytest.mark.parametrize("kind", KINDS)
def test_lines_that_are_flagged_as_noise_and_calibration(tmp_path: Path, raw: Any, kind: str) -> None:
    lines = raw.lines(samples())
    odd = [replace(lines[0], role="noise and acs"), *lines[1:]]  # a corner of the matrix, which nobody misses
    path = raw.write(tmp_path / "scan", raw.File(odd, SHAPE[1:], centre=(2, 5)), kind)
    with pytest.warns(UserWarning, match="1 lines are flagged as noise and as something else: taken for noise"):
        scan = read_raw(path)
    assert scan.mask.sum() == 39 and scan.noise is not None and scan.noise.shape == (3, 16)


def test_the_parser_of_the_header_says_nothing(
    tmp_path: Path, raw: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    path = raw.write(tmp_path / "scan.h5", raw.File(raw.lines(samples()), SHAPE[1:], centre=(2, 5)), "MRD")
    with h5py.File(path, "r+") as file:
        whole = file["dataset/xml"][0]
        damaged = whole.replace(b"</kspace_encoding_step_2></enc", b"</kspace_encod _step_2></enc")
        assert damaged != whole
        del file["dataset/xml"]
        file.create_dataset("dataset/xml", data=[damaged], dtype=h5py.special_dtype(vlen=bytes))
    inspect_raw(path)
    told = capfd.readouterr()
    assert caplog.text == told.out == told.err == ""


def test_a_header_without_fields_of_view_along_the_readout(tmp_path: Path, raw: Any) -> None:
    path = raw.write(tmp_path / "scan.h5", raw.File(raw.lines(samples()), SHAPE[1:], centre=(2, 5)), "MRD")
    with h5py.File(path, "r+") as file:
        whole = file["dataset/xml"][0]
        damaged = whole.replace(b"<fieldOfView_mm><x>24.0<", b"<fieldOfView_mm><x>0.0<")
        assert damaged != whole
        del file["dataset/xml"]
        file.create_dataset("dataset/xml", data=[damaged], dtype=h5py.special_dtype(vlen=bytes))
    with pytest.warns(UserWarning, match="its oversampling is unknown, taken as 1"):
        assert read_raw(path).shape == SHAPE[1:]


def test_a_type_that_crashes_hdf5_is_refused_before_it_is_read(tmp_path: Path, raw: Any) -> None:
    path = raw.write(tmp_path / "scan.h5", raw.File(raw.lines(samples()), SHAPE[1:], centre=(2, 5)), "MRD")
    content = bytearray(path.read_bytes())
    sequence = content.index(b"data", 2000) + 12  # name, offset, then the type: of variable length
    assert content[sequence] == 0x19 and content[sequence + 1] == 0
    content[sequence + 1] = 90
    path.write_bytes(content)
    with pytest.raises(ScanError, match=r"scan\.h5: the HDF5 file is damaged"):
        inspect_raw(path)


def test_the_calibration_region_of_a_hopeless_mask_is_sought_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line far off makes the mask of a damaged file so large that seeking it for every lattice takes 10 s."""
    asked: list[object] = []
    monkeypatch.setattr("sn2nlib.sampling.acs_region", lambda mask: asked.append(mask) or acs_region(mask))
    mask = np.zeros((6, 512), bool)
    mask[:, 246:266:2] = mask[2, 7] = True
    with pytest.raises(ScanError, match="fit no regular lattice"):
        find_acceleration(mask, None)
    assert len(asked) == 1


@pytest.mark.parametrize("kind", ["VD", "MRD"])
def test_calibration_lines_that_cover_all_but_one_line(tmp_path: Path, raw: Any, kind: str) -> None:
    """Which R the protocol has, the lines no longer show: declared, it is believed, and reconstructed."""
    shape = (2, 4, 256, 8)
    mask = np.ones((4, 256), bool)
    mask[:, 1] = False
    for declared, missing in (((2, 1), 0), ((1, 1), 4)):
        file = raw.File(raw.lines(samples(shape), mask), shape[1:], oversampling=1, centre=(2, 128),
                        acceleration=declared)  # fmt: skip
        path = raw.write(tmp_path / "scan", file, kind)
        told = [doubt for doubt in inspect_raw(path).doubts if "lines" in doubt]
        assert all(f"missing between acquired lines: {missing}, the first at (kz, ky) = (0, 1)" in d for d in told)
        assert len(told) == bool(missing)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the missing line, and of noise in the place of an object
            scan = read_raw(path)
            pair = make_pair(scan)
        assert scan.acceleration == declared and np.isfinite(pair.half_a).all()
    assert find_acceleration(mask, None)[:2] == ((1, 1), 0) and infer_lattice(mask).acceleration == (1, 1)
    assert infer_lattice(mask[:, :40]).acceleration == (2, 1)  # without line 1 of 40, more than 2 % are missing


@pytest.mark.parametrize(("kind", "line", "flags"), [("VB", 3 * (128 + 128), 20), ("VD", 192 + 3 * (32 + 128), 40)])
def test_lines_after_the_mark_of_the_end_are_told(tmp_path: Path, raw: Any, kind: str, line: int, flags: int) -> None:
    path = raw.write(tmp_path / "scan", raw.File(raw.lines(samples()), SHAPE[1:], centre=(2, 5)), kind)
    content = bytearray(path.read_bytes())
    start = int.from_bytes(content[16:24], "little") if kind == "VD" else 0
    at = start + int.from_bytes(content[start : start + 4], "little") + 30 * line
    content[at + flags] |= 1  # the flag of the end, in the 31st of 40 lines
    path.write_bytes(content)
    told = "lines follow the mark of the measurement's end: they are not read, and the matrix may be too small for them"
    with pytest.warns(UserWarning, match=told):
        assert read_raw(path).mask.sum() == 30


@pytest.mark.parametrize(("kind", "line", "flags"), [("VB", 3 * (128 + 128), 20), ("VD", 192 + 3 * (32 + 128), 40)])
def test_a_line_that_the_scanner_counted_and_the_file_lacks_is_told(
    tmp_path: Path, raw: Any, kind: str, line: int, flags: int
) -> None:
    """The last line of a partition, which no lattice misses, became a block of other data by a flag or is not there."""
    whole = raw.write(tmp_path / "scan", raw.File(raw.lines(samples()), SHAPE[1:], centre=(2, 5)), kind).read_bytes()
    start = int.from_bytes(whole[16:24], "little") if kind == "VD" else 0
    at = start + int.from_bytes(whole[start : start + 4], "little") + 9 * line  # kz 0, ky 9

    def doubts(content: bytes) -> list[str]:
        (tmp_path / "scan").write_bytes(content)
        return [doubt for doubt in inspect_raw(tmp_path / "scan").doubts if "that the scanner counted" in doubt]

    flagged, renumbered = bytearray(whole), bytearray(whole)
    flagged[at + flags] |= 1 << 5
    for row in range(10, 40):  # every second number from there on: another way of counting
        place = at + (row - 9) * line + 8
        renumbered[place : place + 4] = (2 * row).to_bytes(4, "little")
    told = "1 of the lines that the scanner counted are not in the file, the first after kz 0, ky 8: is it damaged?"
    assert doubts(bytes(flagged)) == [told]
    flagged[at - 3 * line + 8 : at - 3 * line + 12] = b"\xff" * 4  # a number that is damaged itself
    assert doubts(bytes(flagged)) == [told]
    if kind == "VB":  # of VD, the table of measurements would have to be another one
        assert doubts(whole[:at] + whole[at + line :]) == [told]
    other = bytearray(flagged)
    other[at + flags + 8 : at + flags + 12] = bytes(4)  # neither samples nor coils: a block that has its own number
    assert doubts(bytes(other)) == doubts(bytes(renumbered)) == doubts(whole) == []


@pytest.mark.parametrize("kind", ["VD", "MRD"])
def test_a_scan_that_was_truncated_alike_on_both_sides_has_nothing_to_fill(tmp_path: Path, raw: Any, kind: str) -> None:
    shape = (2, 4, 64, 8)
    mask = lattice_mask(shape[1:3], acceleration=(3, 1), acs=16)
    mask[:, :9] = mask[:, 55:] = False
    file = raw.File(raw.lines(samples(shape), mask), shape[1:], oversampling=1.0, centre=(2, 32), acceleration=(3, 1))
    path = raw.write(tmp_path / "scan", file, kind)
    for method, told in (("zero", []), ("homodyne", ["homodyne has nothing"]), ("pocs", ["pocs has nothing"])):
        report = inspect_raw(path, partial_fourier=method)
        sentences = [sentence for sentence in report.does if sentence.startswith("partial Fourier")]
        assert len(sentences) == len(told) and all(words in line for words, line in zip(told, sentences, strict=True))
        assert report.values["partial Fourier (ky, kz)"] == (1.0, 1.0)
        assert any("ky ends at 46 of 64 lines" in note for note in report.notes)


def test_a_matrix_that_is_not_believed_has_its_centre_within() -> None:
    axis = place_axis(np.arange(14, dtype=np.int32), declared=160, centre=80, name="ky")
    assert (axis.n, axis.centre) == (14, 7)
    assert axis.index(np.arange(14, dtype=np.int32)).tolist() == list(range(14))
    assert any("declares 160 ky lines" in doubt and "a matrix of 14 is used" in doubt for doubt in axis.doubts)


def test_a_small_file_that_declares_many_acquisitions(tmp_path: Path, raw: Any) -> None:
    path = raw.write(tmp_path / "scan.h5", raw.File(raw.lines(samples()), SHAPE[1:], centre=(2, 5)), "MRD")
    with h5py.File(path, "r+") as file:
        kind = file["dataset/data"].dtype
        del file["dataset/data"]
        file.create_dataset("dataset/data", (2**23,), dtype=kind, chunks=(1024,), compression="gzip")
    with pytest.raises(ScanError, match="declares 8388608 acquisitions: it is damaged"):
        inspect_raw(path)


def test_noise_lines_that_declare_more_than_the_file_holds(tmp_path: Path, raw: Any) -> None:
    noise = [raw.Line(samples((3, 4), seed=n), role="noise") for n in range(300)]
    path = raw.write(tmp_path / "scan.h5", raw.File([*noise, *raw.lines(samples())], SHAPE[1:], centre=(2, 5)), "MRD")
    with h5py.File(path, "r+") as file:
        rows = file["dataset/data"][()]
        rows["head"]["number_of_samples"][:300] = 65535  # 450 MiB
        file["dataset/data"][...] = rows
    message = "cannot hold 300 noise lines of 3 coils × 65535 samples: its line headers are damaged"
    with pytest.raises(ScanError, match=rf"scan\.h5: a file of 0\.\d MiB {message}"):
        read_raw(path)
    assert message in inspect_raw(path).cannot[0]


def test_noise_of_an_earlier_measurement_of_the_file(tmp_path: Path, raw: Any) -> None:
    noise = raw.File([raw.Line(samples((3, 64)), role="noise")], (1, 1, 64))
    path = raw.twix(tmp_path / "two.dat", noise, raw.File(raw.lines(samples()), SHAPE[1:], centre=(2, 5)))
    scan = read_raw(path)
    assert scan.noise is not None and scan.noise.shape == (3, 64)
    report = inspect_raw(path)
    assert report.values["noise scan"] == "another measurement" and "2 measurements" in report.notes[0]
    with pytest.raises(ScanError, match="none of the 1 lines of this measurement belongs to an image"):
        read_raw(path, measurement=0)
    with pytest.raises(ScanError, match=r"two\.dat: there is no measurement 2; the file holds 2"):
        inspect_raw(path, measurement=2)


@pytest.mark.parametrize("vb", [False, True])
def test_pymapvbvd_and_twixtools_read_the_same_from_these_files(tmp_path: Path, raw: Any, vb: bool) -> None:
    import mapvbvd
    import twixtools

    kspace = samples()
    noise = raw.Line(samples((3, 64)), role="noise")
    path = raw.twix(tmp_path / "scan.dat", raw.File([noise, *raw.lines(kspace)], SHAPE[1:], centre=(2, 5)), vb=vb)
    image = mapvbvd.mapVBVD(str(path), quiet=True).image
    image.flagRemoveOS, image.squeeze = False, True
    assert np.array_equal(image[""].transpose(1, 3, 2, 0), kspace)  # Col, Cha, Lin, Par
    (twix,) = twixtools.read_twix(str(path), verbose=False, parse_pmu=False, parse_geometry=False)
    blocks = [block for block in twix["mdb"] if block.is_image_scan() and not block.is_flag_set("SYNCDATA")]
    assert all(np.array_equal(block.data, kspace[:, block.cPar, block.cLin]) for block in blocks) and len(blocks) == 40
    assert close(read_raw(path).kspace, cropped(kspace, 8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": {"alRegridMode": "2 2"}}, "sampled on its gradient ramps"),
        ({"lines": 0}, "holds no lines with samples"),
        ({"lines": "twice"}, "line kz 0, ky 0 was acquired 2 times under the same numbers"),
        ({"lines": "gaps"}, "fit no regular lattice up to 8×8"),
        ({"lines": "sizes"}, "the image lines differ in size"),
        ({"lines": "far"}, "cannot fill a k-space of 3 × 4 × 120011 × 16"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, raw: Any, changes: dict[str, Any], message: str) -> None:
    lines = raw.lines(samples())
    shorter = replace(lines[0], samples=lines[0].samples[:, :12])
    gaps = [line for line in lines if (line.ky * 7 + line.kz * 3) % 5 > 1]
    chosen = {
        0: [], "twice": [*lines, lines[0]], "gaps": gaps, "sizes": [*lines, shorter],
        "far": [*lines, replace(lines[0], ky=60010)],
    }.get(changes.get("lines"), lines)  # type: ignore[arg-type]
    file = raw.File(chosen, SHAPE[1:], centre=(2, 5), extra=changes.get("extra", {}))
    path = raw.twix(tmp_path / "scan.dat", file)
    with pytest.raises(ScanError, match=rf"scan\.dat: .*{message}"):
        read_raw(path)
    if changes.get("lines") == 0:  # nothing to be told of
        with pytest.raises(ScanError, match=rf"scan\.dat: .*{message}"):
            inspect_raw(path)
        return
    report = inspect_raw(path)
    assert len(report.cannot) == 1 and message in report.cannot[0]
    assert report.cannot[0].startswith("reading, and so reconstruction and training: ")
    assert report.values["coils"] == "3" and report.values["declared field of view mm"] == (8.0, 20.0, 48.0)
    assert f"{len(chosen)} image" in report.values["lines"]


def test_the_content_tells_the_format_and_not_the_name(tmp_path: Path, raw: Any) -> None:
    file = raw.File(raw.lines(samples()), SHAPE[1:], centre=(2, 5))
    for kind, name in (("VD", "scan.h5"), ("MRD", "scan.dat"), ("VB", "scan.nii.gz")):
        assert read_raw(raw.write(tmp_path / name, file, kind)).shape == (4, 10, 8)
    ours = Scan(samples(), np.ones((4, 10), bool), not_for_training="made up")
    save_scan(ours, tmp_path / "ours.dat")
    assert np.array_equal(read_raw(tmp_path / "ours.dat").kspace, ours.kspace)
    refused = ("training: made up", "halves (recon --halves): for the same reason")
    assert inspect_raw(tmp_path / "ours.dat").cannot == refused
    with pytest.raises(ScanError, match=r"ours\.dat: --repetition: for twix and ISMRMRD files"):
        read_raw(tmp_path / "ours.dat", repetition=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"no raw file at all, only words", "not an HDF5 file, nor another known raw file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "the HDF5 file is damaged or incomplete"),
    ],
)
def test_files_of_no_use(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file.dat").write_bytes(content)
    for read in (read_raw, inspect_raw):
        with pytest.raises(ScanError, match=rf"file\.dat: .*{message}"):
            read(tmp_path / "file.dat")
        with pytest.raises(ScanError, match="a folder; give one raw file in it"):
            read(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"there is no scan file .*none\.dat"):
            read(tmp_path / "none.dat")


@pytest.mark.parametrize(("kind", "trajectory", "told"), [
    ("MRD", "radial", "a radial acquisition"), ("MRD", "spiral", "a spiral acquisition"),
    ("MRD", "epi", "sampled on its gradient ramps"), ("MRD", "other", "a non-Cartesian acquisition"),
    ("VD", 2, "a radial acquisition"), ("VB", 4, "a spiral acquisition"), ("VD", 8, "a PROPELLER"),
])  # fmt: skip
def test_other_trajectories_are_inspected_and_not_read(
    tmp_path: Path, raw: Any, kind: str, trajectory: Any, told: str
) -> None:
    noise = raw.Line(samples((3, 64), seed=1), role="noise")
    file = raw.File([noise, *raw.lines(samples())], SHAPE[1:], centre=(2, 5), acceleration=(2, 1))
    path = raw.write(tmp_path / "scan", file, kind)
    before, after = (b"<trajectory>cartesian<", f"<trajectory>{trajectory}<".encode()) if kind == "MRD" else (
        b"ucTrajectory\t = \t1", f"ucTrajectory\t = \t{trajectory}".encode())  # fmt: skip
    if kind == "MRD":
        with h5py.File(path, "r+") as content:
            content["dataset/xml"][0] = content["dataset/xml"][0].replace(before, after)
    else:
        assert before in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(before, after))
    with pytest.raises(ScanError, match=told):
        read_raw(path)
    report = inspect_raw(path)
    assert told in report.cannot[0] and report.values["lines"] == "40 image, 1 noise"
    assert report.values["coils"] == "3" and report.values["declared acceleration"] == (2, 1)
    assert report.values["noise scan"] == "this measurement"
    if kind != "MRD":  # an ISMRMRD line counter says what it says
        assert report.values["declared matrix (z, y, x)"] == SHAPE[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_inspecting_takes_the_options_of_reading(tmp_path: Path, raw: Any, kind: str) -> None:
    data = samples((2, *SHAPE))
    lines = [line for repetition in (0, 1) for line in raw.lines(data[repetition], repetition=repetition)]
    noise = raw.Line(samples((3, 64), seed=1), role="noise")
    path = raw.write(tmp_path / "scan", raw.File([noise, *lines], SHAPE[1:], centre=(2, 5)), kind)
    for options in ({}, {"remove_oversampling": False}, {"noise_scan": False}, {"repetition": 1}, {"repeat": 1}):
        report, scan = inspect_raw(path, **options), read_raw(path, **options)  # type: ignore[arg-type]
        assert report.values["matrix (kz, ky, kx)"] == scan.shape
        assert (report.values["noise scan"] != "none") == (scan.noise is not None)
        assert report.values["voxel size (z, y, x) mm"] == scan.voxel_size
        told = [sentence for sentence in report.does if not sentence.startswith("partial Fourier")]
        assert told == scan.info["done"]
    assert any("1 as the second of a pair" in note for note in inspect_raw(path, repeat=1).notes)
    with pytest.raises(ChoiceError, match="there is no repetition 7"):
        inspect_raw(path, repetition=7)


@pytest.mark.parametrize(
    ("content", "kind", "advice"),
    [
        (b"\x03\x00\x40\x00\x00\x00<?xml version='1.0'?><ismrmrdHeader>", "streaming form", "ismrmrd_stream_to_hdf5"),
        (b"yardl" + bytes(40), "MRD version 2", "convert it to ISMRMRD HDF5 first"),
    ],
)
def test_forms_that_are_known_but_not_read(tmp_path: Path, content: bytes, kind: str, advice: str) -> None:
    (tmp_path / "file.dat").write_bytes(content)
    with pytest.raises(ScanError, match=rf"file\.dat: .*{kind}.*{advice}"):
        read_raw(tmp_path / "file.dat")
    report = inspect_raw(tmp_path / "file.dat")
    assert kind in report.values["format"] and advice in report.cannot[0]


def test_the_samples_of_a_file_are_checked_once(tmp_path: Path, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass over all of k-space, which takes its time of a large scan."""
    path = raw.write(tmp_path / "scan", raw.File(raw.lines(samples(SHAPE)), SHAPE[1:], centre=(2, 5)), "MRD")
    checked: list[Scan] = []
    monkeypatch.setattr("sn2nlib.scans.scan._check_values", checked.append)
    read_raw(path)
    assert len(checked) == 1


def test_an_hdf5_file_of_another_layout(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["pictures of DOE, JANE"] = np.zeros(3)
    with pytest.raises(ScanError, match=r"other\.h5: an HDF5 file of no known layout; it holds 1 of no known name; S"):
        read_raw(tmp_path / "other.h5")
    with h5py.File(tmp_path / "other.h5", "a") as file:
        file["kspace"] = np.zeros(3)
    with pytest.raises(ScanError, match="it holds kspace and 1 of no known name; Siemens"):
        read_raw(tmp_path / "other.h5")
    for names in (("kspace",), ("kspace_real", "kspace_imag"), ("kspace_real", "mask")):
        with h5py.File(tmp_path / "near.h5", "w") as file:
            for name in names:
                kind = bool if name == "mask" else np.complex64 if name == "kspace" else np.float32
                file[name] = np.ones((4, 4) if name == "mask" else (2, 4, 4, 6), kind)
        missing = "mask" if "mask" not in names else "kspace_imag"
        with pytest.raises(ScanError, match=rf"missing is .*the dataset {missing} for the layout plain"):
            read_raw(tmp_path / "near.h5")


@pytest.mark.parametrize("kind", KINDS)
def test_a_geometry_that_is_known_is_not_replaced(tmp_path: Path, raw: Any, kind: str) -> None:
    path = raw.write(tmp_path / "scan", raw.File(raw.lines(samples()), SHAPE[1:], centre=(2, 5)), kind)
    assert read_raw(path, voxel_size=(2, 2.001, 3)).voxel_size == (2, 2, 3)  # what the header says too
    for read in (read_raw, inspect_raw):
        with pytest.raises(ChoiceError, match=r"scan: .* its voxels are 2 × 2 × 3 mm, not 1 × 2 × 3 mm"):
            read(path, voxel_size=(1, 2, 3))
        with pytest.raises(ChoiceError, match="scan: the file says where the image lies"):
            read(path, affine=np.diag([3.0, 2, 1, 1]))
    near = read_raw(path, voxel_size=(2.01, 2, 3))  # rounded: the file's own is taken, and that is told
    assert near.voxel_size == pytest.approx((2, 2, 3), abs=1e-6)
    told = "from the header (its voxel size 2 × 2 × 3 mm is taken, not the 2.01 × 2 × 3 mm given)"
    assert near.info["geometry"] == inspect_raw(path, voxel_size=(2.01, 2, 3)).values["geometry"] == told


def test_pulseq_files_tell_neither_geometry_nor_matrix(tmp_path: Path, raw: Any) -> None:
    sequence = "%CustomerSeq%\\pulseq"
    file = raw.File(raw.lines(samples()), (1, 64, 64), centre=(0, 0), oversampling=1.0, sequence=sequence)
    path = raw.twix(tmp_path / "scan.dat", file)
    with pytest.warns(
        UserWarning, match="the geometry is unknown: a Pulseq sequence.*give it with --voxel-size or --affine-from"
    ):
        scan = read_raw(path)
    assert scan.shape == SHAPE[1:] and np.array_equal(scan.kspace, samples()) and scan.voxel_size == (1, 1, 1)
    assert scan.info["geometry"] == "unknown" and inspect_raw(path).values["geometry"] == "unknown"
    affine = np.diag([3.0, 2, 2, 1])  # of the 8 × 20 × 48 mm that the header names, left over or not
    scan = read_raw(path, affine=affine)
    assert np.array_equal(scan.affine, affine) and scan.voxel_size == (2, 2, 3) and scan.info["geometry"] == "given"
    doubt = "a field of view of 12 × 20 × 48 mm (z, y, x), the header names 8 × 20 × 48 mm, which may be left over"
    with pytest.warns(UserWarning, match=re.escape(doubt)):
        assert read_raw(path, affine=np.diag([3.0, 2, 3, 1])).voxel_size == (3, 2, 3)
    with pytest.warns(UserWarning, match="position and orientation are unknown: a Pulseq sequence.*--affine-from"):
        assert read_raw(path, voxel_size=(2, 2, 3)).voxel_size == (2, 2, 3)
    with pytest.warns(UserWarning, match="the geometry is unknown"):  # nor does an export of it know
        save_ismrmrd(read_raw(path), tmp_path / "scan.mrd")
        assert read_raw(tmp_path / "scan.mrd").info["geometry"] == "unknown"
    assert np.array_equal(read_raw(tmp_path / "scan.mrd", affine=affine).affine, affine)
    report = inspect_raw(path, voxel_size=(3, 2, 1))
    assert report.values["voxel size (z, y, x) mm"] == (3, 2, 1) and "orientation unknown" in report.values["geometry"]
    for options, message in (
        ({"affine": np.eye(3)}, "affine: needs a finite 4×4 matrix"),
        ({"affine": np.diag([0.0, 1, 1, 1])}, "whose axes span the space"),
        ({"affine": affine, "affine_from": tmp_path}, "give one of them"),
        ({"affine": affine, "voxel_size": (1, 2, 3)}, "the voxels of the affine are 2 × 2 × 3 mm"),
        ({"voxel_size": (1, 0, 3)}, "three numbers"),
    ):  # fmt: skip
        with pytest.raises(ChoiceError, match=message):
            read_raw(path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_about_the_patient(tmp_path: Path, raw: Any, kind: str) -> None:
    path = raw.write(tmp_path / "scan", raw.File(raw.lines(samples()), SHAPE[1:], centre=(2, 5)), kind)
    assert b"DOE, JANE" in path.read_bytes()
    scan = read_raw(path)
    save_scan(scan, tmp_path / "saved.h5")
    told = f"{inspect_raw(path)}{scan.info}".encode()
    assert b"DOE" not in told + (tmp_path / "saved.h5").read_bytes()


def test_two_repetitions_make_up_for_a_split_that_fails() -> None:
    mask = np.zeros((4, 8), bool)
    mask[2] = True
    pairs = "its two repetitions make them (--pairing repetitions)"
    training, halves = cannot(mask, (1, 1), 0, has_acs=True, not_for_training=None, pairs=pairs)
    assert training.startswith("training: ") and training.endswith("; but its two repetitions make halves for it "
                                                                   "(--pairing repetitions)")  # fmt: skip
    assert halves == f"halves (recon --halves): for the same reason; but {pairs}"
    for pair, reason in ((None, None), (pairs, "its lines were synthesised")):
        told = cannot(mask, (1, 1), 0, has_acs=True, not_for_training=reason, pairs=pair)
        assert "; but" not in " ".join(told)
