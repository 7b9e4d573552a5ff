"""Pairs from two repetitions, separate calibration scans, and scans that must not be trained on."""

from dataclasses import replace

import numpy as np
import pytest

from sn2nlib.denoiser.slices import training_volume
from sn2nlib.errors import ImageError, ScanError
from sn2nlib.recon import image_pair, make_pair, reconstruct
from sn2nlib.scans import save_scan
from sn2nlib.scans.scan import ONE_PARTITION

SAMPLING = {"acceleration": (2, 1), "acs": 16}


def repeated(head, scan_of, seed: int = 0, **sampling):
    first, second = (scan_of(head, seed=2 * seed + i, **sampling) for i in range(2))
    return replace(first, repeat=second.kspace)


@pytest.mark.parametrize("sampling", [SAMPLING, {"acceleration": (1, 1), "acs": None}])
def test_repetitions_are_two_images_of_one_chain(sampling, phantom, scan_of) -> None:
    head = phantom((6, 24, 40, 38))
    scan = repeated(head, scan_of, **sampling)
    pair = make_pair(scan, pairing="repetitions")
    assert np.array_equal(pair.original, reconstruct(scan)) and np.array_equal(pair.half_a, pair.original)
    assert np.array_equal(pair.mask_a, scan.mask) and np.array_equal(pair.mask_b, scan.mask)
    assert pair.kernel_half is pair.kernel_original and np.array_equal(pair.noise_sd, pair.noise_sd_half)
    inside = head.head
    noise = ((pair.half_b - pair.half_a) / np.sqrt(2))[inside] / pair.noise_sd[inside]
    assert np.std(noise.real) == pytest.approx(1, abs=0.05)
    assert np.vdot(pair.half_a[inside], pair.half_b[inside]).real / np.vdot(
        pair.half_a[inside], pair.half_a[inside]
    ).real == pytest.approx(1, abs=0.02)


def test_repetitions_out_of_core_are_those_of_the_whole_scan(phantom, scan_of, tmp_path) -> None:
    scan = repeated(phantom((5, 21, 36, 33)), scan_of, acceleration=(2, 1), acs=15)
    save_scan(scan, tmp_path / "scan.h5")
    expected = make_pair(scan, pairing="repetitions", virtual_coils=4)
    for memory_limit in (None, 0):
        pair = image_pair(
            tmp_path / "scan.h5", pairing="repetitions", virtual_coils=4, memory_limit=memory_limit, scratch=tmp_path
        )
        for name in ("original", "half_a", "half_b", "noise_sd_half"):
            value, wanted = getattr(pair, name), getattr(expected, name)
            assert np.abs(value - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.filterwarnings("ignore:the median g-factor")
@pytest.mark.parametrize("sampling", [{"acceleration": (2, 1), "acs": 16}, {"acceleration": (1, 1), "acs": None}])
def test_two_repetitions_of_one_partition_make_halves_but_no_training(sampling, phantom, scan_of, tmp_path) -> None:
    """Nothing is split: the noise of the halves is independent and of the SD that the map says, as in 3D."""
    head = phantom((6, 1, 64, 60))
    scan = replace(repeated(head, scan_of, **sampling), not_for_training=ONE_PARTITION)
    pair = make_pair(scan, pairing="repetitions")
    assert np.array_equal(pair.half_a, reconstruct(scan)) and np.array_equal(pair.noise_sd, pair.noise_sd_half)
    noise = ((pair.half_b - pair.half_a) / np.sqrt(2))[head.head] / pair.noise_sd[head.head]
    assert np.std(noise.real) == pytest.approx(1, abs=0.06) and np.std(noise.imag) == pytest.approx(1, abs=0.06)
    save_scan(scan, tmp_path / "scan.h5")
    disk = image_pair(tmp_path / "scan.h5", pairing="repetitions", memory_limit=0, scratch=tmp_path)
    for name in ("original", "half_a", "half_b", "noise_sd_half"):
        value, wanted = getattr(disk, name), getattr(pair, name)
        assert np.abs(value - wanted).max() < 1e-5 * np.abs(wanted).max()
    for function, source in ((make_pair, scan), (image_pair, tmp_path / "scan.h5")):
        with pytest.raises(ScanError, match=r"one partition.*two repetitions of it, these make halves"):
            function(source)
    with pytest.raises(ScanError, match="so that it cannot be trained on: made up; without halves"):
        make_pair(replace(scan, not_for_training="made up"), pairing="repetitions")
    with pytest.raises(ScanError, match=r"second repetition, which --repeat reads from a raw file that holds one$"):
        make_pair(replace(scan, repeat=None), pairing="repetitions")
    with pytest.raises(ImageError, match="one partition: a 2D scan is not trained on, since the network learns"):
        training_volume(pair)


def test_without_a_second_repetition_there_is_no_pairing_by_repetitions(phantom, scan_of, tmp_path) -> None:
    scan = scan_of(phantom((4, 12, 24, 20)), **SAMPLING)
    save_scan(scan, tmp_path / "scan.h5")
    for function, source in ((make_pair, scan), (image_pair, tmp_path / "scan.h5")):
        with pytest.raises(ScanError, match="second repetition"):
            function(source, pairing="repetitions")
        with pytest.raises(ScanError, match="'kz' or 'repetitions'"):
            function(source, pairing="coils")


def test_what_must_not_be_trained_on_is_refused_with_the_reason_and_still_reconstructed(
    phantom, scan_of, tmp_path
) -> None:
    scan = scan_of(phantom((4, 12, 24, 20)), **SAMPLING)
    barred = replace(scan, not_for_training="its lines were synthesised")
    save_scan(barred, tmp_path / "scan.h5")
    for function, source in ((make_pair, barred), (image_pair, tmp_path / "scan.h5")):
        with pytest.raises(ScanError, match="so that it cannot be trained on: its lines were synthesised; without"):
            function(source)
    assert np.array_equal(reconstruct(barred), reconstruct(scan))
    assert image_pair(tmp_path / "scan.h5", halves=False).half_a is None


@pytest.mark.parametrize("acceleration", [(2, 1), (2, 2)])
@pytest.mark.filterwarnings("ignore:the median g-factor")
def test_a_separate_calibration_scan_takes_the_place_of_the_integrated_one(
    acceleration, phantom, scan_of, tmp_path
) -> None:
    head = phantom((6, 24, 40, 38), signal=400.0)
    whole = scan_of(head, acceleration=(1, 1), acs=None)
    bare = scan_of(head, seed=1, acceleration=acceleration, acs=None)
    scan = replace(bare, acs=whole.kspace[:, 4:20, 10:30, 6:32])
    truth = np.abs(head.image) * np.linalg.norm(head.maps, axis=0)
    pair = make_pair(scan, virtual_coils=5)
    inside = head.head
    assert np.median(np.abs(pair.original)[inside] / truth[inside]) == pytest.approx(1, abs=0.03)
    save_scan(scan, tmp_path / "scan.h5")
    for method in ("svd", "gcc"):
        expected = make_pair(scan, virtual_coils=5, compression=method)
        found = image_pair(
            tmp_path / "scan.h5", virtual_coils=5, compression=method, memory_limit=0, scratch=tmp_path
        )
        for name in ("original", "half_a", "half_b"):
            value, wanted = getattr(found, name), getattr(expected, name)
            assert np.abs(value - wanted).max() < 1e-5 * np.abs(wanted).max()
