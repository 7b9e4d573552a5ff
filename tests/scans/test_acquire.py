"""Simulated acquisition on the absolute scale: signal, coils, noise, sampling, geometry."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.fourier import ifft
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans.acquire import NOISE_SAMPLES, acquire, add_noise, undersample, with_noise, without_noise
from sn2nlib.scans.coils import noise_correlation, sensitivities
from sn2nlib.scans.heads import Head
from sn2nlib.scans.scan import Scan, load_scan, save_scan
from sn2nlib.scans.sequence import MpRage

FULL: dict[str, Any] = {"acceleration": (1, 1), "acs": None}
PLACES = np.array([[-12.0, 9.0, 5.0], [14.0, -10.0, -8.0]])  # mm from the centre, (z, y, x)
HEIGHTS = (1.0, 0.6)
WIDTH = 9.0  # mm


def blobs(shape: tuple[int, ...], voxel_size: tuple[float, ...]) -> np.ndarray:
    """Two Gaussians of different height, off centre: nothing beyond Nyquist, nothing at the borders."""
    axes = [(np.arange(n) - n // 2) * size for n, size in zip(shape, voxel_size, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return sum(
        height * np.exp(-((grid - place) ** 2).sum(axis=-1) / (2 * WIDTH**2))
        for height, place in zip(HEIGHTS, PLACES, strict=True)
    )


def smooth_head(
    shape: tuple[int, int, int] = (48, 55, 53), voxel_size: tuple[float, float, float] = (2.0, 2.0, 2.0), **changes: Any
) -> Head:
    affine = np.array([[0, 0, voxel_size[0], -40], [0, voxel_size[1], 0, 5], [voxel_size[2], 0, 0, 7], [0, 0, 0, 1.0]])
    content = {"intensity": (250 * blobs(shape, voxel_size)).astype(np.float32)}
    return Head(name="blobs", voxel_size=voxel_size, affine=affine, **(content | changes))


def brightness(head: Head) -> float:
    """What becomes 1: the 99th percentile of the voxels above a tenth of the maximum."""
    signal = head.signal()
    return float(np.percentile(signal[signal > 0.1 * signal.max()], 99))


MATRIX, VOXEL_SIZE = (23, 30, 27), (4.2, 3.7, 3.9)


def simulate(head: Head | None = None, **changes: Any) -> Scan:
    settings = {"matrix": MATRIX, "voxel_size": VOXEL_SIZE, "n_coils": 4, "seed": 5, **FULL, "noise_sd": 0.0}
    return acquire(head or smooth_head(), **(settings | changes))


@pytest.fixture(scope="module")
def clean() -> Scan:
    return simulate()


@pytest.fixture(scope="module")
def noisy(clean: Scan) -> Scan:
    return with_noise(clean, 0.05, seed=5)


def covariance(noise: np.ndarray) -> np.ndarray:
    """E[n nᴴ] / 2 of (coil, …): the mean diagonal is the variance per component."""
    flat = noise.reshape(noise.shape[0], -1).astype(np.complex128)
    return flat @ flat.conj().T / (2 * flat.shape[1])


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel().astype(np.complex128), b.ravel().astype(np.complex128)
    return float(abs(np.vdot(a, b)) / (np.linalg.norm(a) * np.linalg.norm(b)))


def expected_covariance(scan: Scan, seed: int) -> np.ndarray:
    fov = [n * size for n, size in zip(scan.shape, scan.voxel_size, strict=True)]
    return noise_correlation(scan.n_coils, fov, seed)


# signal


@pytest.mark.parametrize(
    ("matrix", "voxel_size", "n_coils"),
    [(MATRIX, VOXEL_SIZE, 4), ((24, 29, 30), (4.1, 3.9, 3.6), 1), ((25, 25, 25), (4.0, 4.5, 4.3), 9)],
)
def test_coil_images_are_signal_times_sensitivities(
    matrix: tuple[int, int, int], voxel_size: tuple[float, float, float], n_coils: int
) -> None:
    """Root sum of squares and coil ratios, voxel by voxel, without any free scale or shift."""
    head = smooth_head()
    scan = simulate(head, matrix=matrix, voxel_size=voxel_size, n_coils=n_coils)
    assert scan.shape == matrix and scan.kspace.dtype == np.complex64
    np.testing.assert_allclose(scan.voxel_size, voxel_size, rtol=0.02)  # whole voxels of the head

    images = ifft(scan.kspace)
    maps = np.stack(list(sensitivities(scan.shape, scan.voxel_size, n_coils)))
    signal = blobs(scan.shape, scan.voxel_size) * 250 / brightness(head)
    assert signal.max() > 0.8
    root = np.sqrt((np.abs(images) ** 2).sum(axis=0))
    np.testing.assert_allclose(root, signal * np.sqrt((np.abs(maps) ** 2).sum(axis=0)), atol=3e-3)
    # the image phase is common to the coils and smooth
    combined = (maps.conj() * images).sum(axis=0) / (np.abs(maps) ** 2).sum(axis=0)
    np.testing.assert_allclose(np.abs(combined), signal, atol=3e-3)
    bright = signal > 0.1
    turn = np.angle(combined[:, :, 1:] * combined[:, :, :-1].conj())[bright[:, :, 1:] & bright[:, :, :-1]]
    assert np.abs(turn).max() < 0.5 and np.ptp(np.angle(combined * combined[11, 15, 13].conj())[bright]) > 0.05


def test_a_digital_head_is_seen_by_its_sequence() -> None:
    shape, size = (40, 42, 44), (2.0, 2.0, 2.0)
    pd = blobs(shape, size).astype(np.float32)
    t1 = np.broadcast_to(np.where(np.arange(44) < 22, 850.0, 1400.0).astype(np.float32), shape)
    head = smooth_head(shape, size, intensity=None, t1=t1, pd=pd, t2_star=np.full(shape, 50, np.float32))
    for sequence in (MpRage(), MpRage(flip_angle=12, ti=900)):
        as_real = replace(head, intensity=sequence.signal(t1, pd, 50.0))
        settings = {"matrix": (20, 21, 22), "voxel_size": (4.0, 4.0, 4.0), "sequence": sequence}
        np.testing.assert_array_equal(simulate(head, **settings).kspace, simulate(as_real, **settings).kspace)
    assert not np.allclose(simulate(head, **settings).kspace, simulate(head, **settings | {"sequence": None}).kspace)


def test_intensity_units_do_not_matter_but_a_head_without_signal_is_refused() -> None:
    head = smooth_head()
    assert head.intensity is not None
    scaled = simulate(replace(head, intensity=1000 * head.intensity)).kspace
    np.testing.assert_allclose(scaled, simulate(head).kspace, rtol=1e-4, atol=1e-5)
    with pytest.raises(ScanError, match="the head has no signal"):
        simulate(replace(head, intensity=np.zeros_like(head.intensity)))


@pytest.mark.parametrize("noise_sd", [-0.01, np.nan, np.inf])
def test_an_impossible_noise_level_is_refused(noise_sd: float) -> None:
    with pytest.raises(ScanError, match="noise_sd: needs a finite number of at least 0"):
        simulate(noise_sd=noise_sd)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matrix": (0, 30, 27)}, r"matrix: needs three whole numbers of at least 1 \(z, y, x\), got \(0, 30, 27\)"),
        ({"matrix": (23, -30, 27)}, "matrix: needs three whole numbers"),
        ({"matrix": (23, 30, 27.5)}, "matrix: needs three whole numbers"),
        ({"matrix": (23, 30)}, "matrix: needs three whole numbers"),
        ({"voxel_size": (4.2, 0, 3.9)}, r"voxel_size: needs three positive numbers \(z, y, x\) in mm, got"),
        ({"voxel_size": (4.2, 3.7, -3.9)}, "voxel_size: needs three positive numbers"),
        ({"voxel_size": (np.nan, 3.7, 3.9)}, "voxel_size: needs three positive numbers"),
        ({"voxel_size": (4.2, np.inf, 3.9)}, "voxel_size: needs three positive numbers"),
        ({"voxel_size": (4.2, 3.7)}, "voxel_size: needs three positive numbers"),
        ({"n_coils": 0}, "n_coils: needs a whole number of at least 1, got 0"),
    ],
)
def test_an_impossible_scanner_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScanError, match=message):
        simulate(**changes)
    # numbers of other libraries are numbers too
    assert simulate(matrix=tuple(np.array([12, 14, 13])), voxel_size=(8, 8, 8), n_coils=np.int64(1)).n_coils == 1


def test_everything_follows_from_the_arguments(clean: Scan, noisy: Scan) -> None:
    head = smooth_head()
    assert head.intensity is not None
    before = head.intensity.copy()
    np.random.seed(5)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    again = simulate(head, noise_sd=0.05)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    np.testing.assert_array_equal(head.intensity, before)
    np.testing.assert_array_equal(again.kspace, noisy.kspace)
    np.testing.assert_array_equal(again.noise, noisy.noise)
    assert again.info == {**noisy.info, "noise_sd": 0.05, "noise_seed": 5}
    other = simulate(seed=6)
    np.testing.assert_allclose(np.abs(ifft(other.kspace)), np.abs(ifft(clean.kspace)), atol=3e-3)
    assert not np.allclose(other.kspace, clean.kspace, atol=0.1)  # another image phase


def test_memory_does_not_grow_by_a_map_of_the_fine_grid_for_every_coil() -> None:
    head, peaks = smooth_head((64, 72, 70)), []
    for n_coils in (2, 12):
        tracemalloc.start()
        scan = simulate(head, matrix=(12, 14, 13), voxel_size=(10.0, 10.0, 10.0), n_coils=n_coils)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    one_map = 8 * 64 * 72 * 70
    assert scan.n_coils == 12 and peaks[0] > 2 * one_map
    assert peaks[1] - peaks[0] < one_map


# noise


def test_noise_has_the_stated_sd_and_covariance(clean: Scan, noisy: Scan) -> None:
    noise = noisy.kspace - clean.kspace
    assert noisy.noise is not None and noisy.noise.shape == (4, NOISE_SAMPLES) and noisy.noise.dtype == np.complex64
    expected = 0.05**2 * expected_covariance(clean, seed=5)
    for samples in (noise, noisy.noise):
        found = covariance(samples)
        tolerance = 5 / np.sqrt(samples[0].size)  # five standard errors
        np.testing.assert_allclose(found, expected, atol=tolerance * 0.05**2)
        components = np.concatenate([samples.real.ravel(), samples.imag.ravel()])
        assert np.sqrt(np.mean(components**2)) == pytest.approx(0.05, rel=2 * tolerance)
        assert abs(components.mean()) < 5 * 0.05 / np.sqrt(components.size) * 2
    assert abs(expected[0, 1]) > 0.02 * 0.05**2  # there is a correlation to be found


def test_noise_is_white_over_kspace_and_independent_of_the_noise_scan(clean: Scan, noisy: Scan) -> None:
    noise = noisy.kspace - clean.kspace
    limit = 5 / np.sqrt(noise[0].size)
    for axis in (1, 2, 3):
        n = noise.shape[axis]
        assert correlation(noise.take(range(1, n), axis), noise.take(range(n - 1), axis)) < limit
    assert noisy.noise is not None
    flat = noise.reshape(4, -1)[:, :NOISE_SAMPLES]
    assert correlation(flat, noisy.noise[:, : flat.shape[1]]) < limit


def test_noise_scales_with_its_sd_and_other_seeds_give_other_noise(clean: Scan, noisy: Scan) -> None:
    before = clean.kspace.copy()
    twice = with_noise(clean, 0.1, seed=5)
    np.testing.assert_allclose(twice.kspace - clean.kspace, 2 * (noisy.kspace - clean.kspace), atol=2e-5)
    other = with_noise(clean, 0.05, seed=6)
    assert correlation(other.kspace - clean.kspace, noisy.kspace - clean.kspace) < 0.05
    np.testing.assert_array_equal(clean.kspace, before)
    assert other.info["noise_seed"] == 6 and other.info["noise_sd"] == 0.05


def test_a_scan_gets_its_noise_once(clean: Scan, noisy: Scan) -> None:
    measured = replace(clean, noise=noisy.noise)
    without_its_noise_scan = replace(noisy, noise=None)
    for scan in (noisy, measured, without_its_noise_scan):
        with pytest.raises(ScanError, match=r"has noise already; begin with acquire"):
            with_noise(scan, 0.05, seed=6)


@pytest.mark.parametrize("n_coils", [1, 5])
def test_the_noise_free_kspace_is_found_again(tmp_path: Path, n_coils: int) -> None:
    clean = simulate(n_coils=n_coils)
    noisy = simulate(n_coils=n_coils, noise_sd=0.05)
    tolerance = 4 * np.finfo(np.float32).eps * np.abs(clean.kspace).max()
    np.testing.assert_allclose(without_noise(noisy), clean.kspace, atol=tolerance)

    half = undersample(noisy, acceleration=(2, 1), acs=8)
    save_scan(half, tmp_path / "half.h5")
    direct = simulate(n_coils=n_coils, noise_sd=0.05, acceleration=(2, 1), acs=8)
    for scan in (half, load_scan(tmp_path / "half.h5"), direct):
        found = without_noise(scan)
        np.testing.assert_allclose(found, clean.kspace * half.mask[:, :, None], atol=tolerance)
        assert not found[:, ~half.mask].any()

    found = without_noise(clean)
    np.testing.assert_array_equal(found, clean.kspace)
    assert not np.shares_memory(found, clean.kspace)


def test_the_noise_free_kspace_of_other_scans_is_not_known(clean: Scan, noisy: Scan) -> None:
    with pytest.raises(ScanError, match="only a simulated scan without added noise levels"):
        without_noise(add_noise(noisy, 1.0, seed=1))
    with pytest.raises(ScanError, match="only a simulated scan"):
        without_noise(replace(clean, info={"source": "scanner"}))


# noise levels


@pytest.mark.parametrize("level", [0.5, 1.0, 3.0])
def test_added_noise_is_a_multiple_of_the_scans_own(noisy: Scan, level: float) -> None:
    undersampled = undersample(noisy, acceleration=(2, 1), acs=8)
    before = undersampled.kspace.copy()
    louder = add_noise(undersampled, level, seed=3)
    np.testing.assert_array_equal(undersampled.kspace, before)
    assert louder.kspace.dtype == np.complex64 and louder.info["added_noise_sigma"] == level

    added = (louder.kspace - undersampled.kspace)[:, undersampled.mask]
    assert noisy.noise is not None
    own = covariance(noisy.noise)
    np.testing.assert_allclose(covariance(added), level**2 * own, atol=5 / np.sqrt(added[0].size) * level**2 * 0.05**2)
    assert not louder.kspace[:, ~louder.mask].any()
    assert louder.noise is undersampled.noise  # pre-whitening stays that of the scan
    # nothing of the scan's own noise comes again
    own_noise = (noisy.kspace - without_noise(noisy))[:, undersampled.mask]
    assert correlation(added, own_noise) < 5 / np.sqrt(added.size)


def test_levels_and_seeds_are_independent_draws(noisy: Scan) -> None:
    def added(level: float, seed: int) -> np.ndarray:
        return add_noise(noisy, level, seed=seed).kspace - noisy.kspace

    limit = 5 / np.sqrt(noisy.kspace.size)
    assert correlation(added(1.0, 100), added(1.0, 50)) < limit
    assert correlation(added(1.0, 100), added(1.5, 150)) < limit
    np.testing.assert_allclose(added(2.0, 7), 2 * added(1.0, 7), atol=1e-5)
    # not the scan's own stream either, should the seeds be the same: neither its noise scan nor its noise
    assert noisy.noise is not None
    first = added(1.0, 5)[0, 0]
    assert correlation(first, noisy.noise[0, : first.size]) < 5 / np.sqrt(first.size)
    assert correlation(added(1.0, 5), noisy.kspace - without_noise(noisy)) < limit
    assert add_noise(noisy, 0, seed=1) is noisy


def test_a_negative_level_or_an_unknown_sigma_is_refused(clean: Scan, noisy: Scan) -> None:
    with pytest.raises(ScanError, match=r"level: a noise level is at least 0, got -0\.5"):
        add_noise(noisy, -0.5, seed=0)
    with pytest.raises(ScanError, match="needs its noise scan"):
        add_noise(clean, 1.0, seed=0)


def test_a_second_repetition_gets_noise_of_its_own_and_is_undersampled_too(noisy: Scan) -> None:
    twice = replace(noisy, repeat=2 * noisy.kspace)
    louder = add_noise(twice, 1.5, seed=3)
    np.testing.assert_array_equal(louder.kspace, add_noise(noisy, 1.5, seed=3).kspace)
    added, also = louder.kspace - twice.kspace, louder.repeat - twice.repeat
    assert np.linalg.norm(also) == pytest.approx(np.linalg.norm(added), rel=0.02)
    assert abs(np.vdot(added, also)) < 0.02 * np.vdot(added, added).real
    few = undersample(louder, acceleration=(2, 1), acs=9)
    np.testing.assert_array_equal(few.repeat, louder.repeat * few.mask[:, :, None])
    np.testing.assert_array_equal(twice.repeat, 2 * noisy.kspace)


# sampling


@pytest.mark.parametrize(
    "sampling",
    [
        {"acceleration": (2, 1), "acs": 9},
        {"acceleration": (2, 2), "caipi_shift": 1, "acs": (10, 8)},
        {"acceleration": (3, 1), "acs": None},
        {"acceleration": (2, 1), "acs": 9, "partial_fourier": (0.75, 0.8)},
    ],
)
def test_undersampling_keeps_the_samples_and_drops_the_rest(noisy: Scan, sampling: dict[str, Any]) -> None:
    before = noisy.kspace.copy()
    undersampled = undersample(noisy, **sampling)
    mask = lattice_mask(MATRIX[:2], **sampling)
    np.testing.assert_array_equal(undersampled.mask, mask)
    np.testing.assert_array_equal(undersampled.kspace[:, mask], noisy.kspace[:, mask])
    assert not undersampled.kspace[:, ~mask].any()
    assert undersampled.acceleration == sampling["acceleration"]
    assert undersampled.caipi_shift == sampling.get("caipi_shift", 0)
    assert undersampled.noise is noisy.noise and undersampled.voxel_size == noisy.voxel_size
    np.testing.assert_array_equal(noisy.kspace, before)
    # acquired so from the start, it is the same scan
    direct = simulate(noise_sd=0.05, **sampling)
    np.testing.assert_array_equal(direct.kspace, undersampled.kspace)
    with pytest.raises(ScanError, match="needs a fully sampled scan"):
        undersample(undersampled)


def test_partial_fourier_leaves_out_the_low_lines() -> None:
    scan = simulate(acceleration=(2, 1), acs=8, partial_fourier=(0.75, 0.8), noise_sd=0.05)
    missing_y, missing_z = round(0.25 * 30), round(0.2 * 23)
    assert not scan.mask[:, :missing_y].any() and not scan.mask[:missing_z, : 30 // 2 - 4].any()
    assert scan.mask[missing_z:, 8::2].all()
    assert not scan.kspace[:, ~scan.mask].any() and scan.kspace[:, scan.mask].any(axis=(0, 2)).all()


# geometry


def peak(scan: Scan) -> np.ndarray:
    """RAS mm of the brightest point of the first blob, to a fraction of a voxel, from the scan's affine."""
    root = np.sqrt((np.abs(ifft(scan.kspace)) ** 2).sum(axis=0))
    maps = np.stack(list(sensitivities(scan.shape, scan.voxel_size, scan.n_coils)))
    image = root / np.sqrt((np.abs(maps) ** 2).sum(axis=0))
    z, y, x = (int(i) for i in np.unravel_index(image.argmax(), image.shape))
    log = np.log(image[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2])
    centre = [log[:, 1, 1], log[1, :, 1], log[1, 1, :]]
    shift = [(line[0] - line[2]) / (2 * (line[0] - 2 * line[1] + line[2])) for line in centre]  # of the parabola
    return scan.affine[:3, :3] @ np.array([x + shift[2], y + shift[1], z + shift[0]]) + scan.affine[:3, 3]


@pytest.mark.parametrize("shape", [(48, 55, 53), (51, 50, 56)])
@pytest.mark.parametrize("tilt", [0.0, 0.2])
def test_things_stay_where_they_are_in_the_room(shape: tuple[int, int, int], tilt: float) -> None:
    head = smooth_head(shape)
    turn = np.array([[np.cos(tilt), 0, -np.sin(tilt)], [0, 1, 0], [np.sin(tilt), 0, np.cos(tilt)]])
    affine = head.affine.copy()
    affine[:3, :3] = turn @ affine[:3, :3]
    head = replace(head, affine=affine)
    index = np.array([n // 2 for n in shape]) + PLACES[0] / 2.0
    expected = affine[:3, :3] @ index[::-1] + affine[:3, 3]
    for matrix, voxel_size in ((MATRIX, VOXEL_SIZE), ((30, 31, 32), (4.0, 4.0, 4.0)), ((26, 24, 27), (4.1, 4.9, 4.4))):
        scan = simulate(head, matrix=matrix, voxel_size=voxel_size)
        np.testing.assert_allclose(np.linalg.norm(scan.affine[:3, :3], axis=0), scan.voxel_size[::-1])
        np.testing.assert_allclose(peak(scan), expected, atol=0.15)


@pytest.mark.parametrize(("matrix", "size"), [((21, 37, 39), 0.7), ((49, 22, 30), 0.7), ((23, 20, 25), 1.35)])
def test_a_digital_head_fits_its_own_field_of_view_exactly(matrix: tuple[int, int, int], size: float) -> None:
    """Whatever the rounding of its voxel size: the matrix is the one asked for."""
    fine = tuple(int(np.ceil(n * size / (size / 1.35))) for n in matrix)
    voxel_size = tuple(n * size / n_fine for n, n_fine in zip(matrix, fine, strict=True))
    head = smooth_head(fine, voxel_size, intensity=np.ones(fine, np.float32))  # type: ignore[arg-type]
    scan = simulate(head, matrix=matrix, voxel_size=(size, size, size), n_coils=1)
    assert scan.shape == matrix
    np.testing.assert_allclose(scan.voxel_size, size, rtol=1e-12)


def test_a_head_larger_than_the_field_of_view_gets_a_larger_matrix() -> None:
    head = smooth_head((48, 55, 53))  # 96 × 110 × 106 mm
    scan = simulate(head, matrix=(20, 40, 20), voxel_size=(4.0, 3.0, 4.1))
    assert scan.shape == (24, 40, 26)  # even, and enough for 96 and 106 mm
    np.testing.assert_allclose(scan.voxel_size, (96 / 24, 120 / 40, 106 / 26))
    maps = np.stack(list(sensitivities(scan.shape, scan.voxel_size, 4)))
    root = np.sqrt((np.abs(ifft(scan.kspace)) ** 2).sum(axis=0))
    signal = blobs(scan.shape, scan.voxel_size) * 250 / brightness(head)
    np.testing.assert_allclose(root, signal * np.sqrt((np.abs(maps) ** 2).sum(axis=0)), atol=3e-3)  # nothing wraps


@pytest.mark.parametrize(
    ("n_head", "native", "n", "asked", "expected"),
    [
        (22, 4.5, 30, 3.6, 24),  # 108 mm asked for: 24 voxels of 4.5 mm, as wide
        (21, 5.0, 30, 3.6, 22),  # 108 mm are 21.6 such voxels
        (20, 5.0, 64, 1.5, 20),  # 96 mm, less than the head's 100
        (21, 5.0, 64, 1.5, 21),  # an odd head that is larger than 96 mm
        (16, 6.0, 110, 1.0, 18),  # much coarser
    ],
)
def test_voxels_of_the_head_that_are_coarser_than_the_scans_are_kept_and_the_extent_too(
    n_head: int, native: float, n: int, asked: float, expected: int
) -> None:
    head = smooth_head((n_head, 55, 53), (native, 2.0, 2.0))
    scan = simulate(head, matrix=(n, 30, 30), voxel_size=(asked, 3.8, 3.7), n_coils=2)
    assert scan.shape == (expected, 30, 30)
    np.testing.assert_allclose(scan.voxel_size, (native, 3.8, 112 / 30), rtol=1e-12)  # 112 mm: whole voxels of 2 mm
    assert abs(expected * native - max(n * asked, n_head * native)) <= native / 2
    maps = np.stack(list(sensitivities(scan.shape, scan.voxel_size, 2)))
    root = np.sqrt((np.abs(ifft(scan.kspace)) ** 2).sum(axis=0))
    signal = blobs(scan.shape, scan.voxel_size) * 250 / brightness(head)
    np.testing.assert_allclose(root, signal * np.sqrt((np.abs(maps) ** 2).sum(axis=0)), atol=3e-3)


def test_a_scan_says_where_it_comes_from_but_not_the_name_of_a_real_head(noisy: Scan) -> None:
    assert noisy.info == {
        "source": "simulated", "head": "real head", "seed": 5, "noise_sd": 0.05, "coils": 4, "noise_seed": 5
    }  # fmt: skip
