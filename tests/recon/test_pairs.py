"""The whole chain: absolute scale, independence of the halves, what is frozen."""

from dataclasses import replace

import numpy as np
import pytest

from sn2nlib.errors import CalibrationError, SamplingError, ScanError
from sn2nlib.recon import (
    apply_chain,
    apply_halves,
    intensity_scale,
    make_pair,
    reconstruct,
    systematic_difference,
    whiten,
)


def _truth(head) -> np.ndarray:
    return head.image * np.linalg.norm(head.maps, axis=0)


@pytest.mark.parametrize(
    "shape, sampling",
    [
        ((6, 24, 40, 38), {"acceleration": (1, 1), "acs": None}),
        ((6, 24, 40, 38), {"acceleration": (2, 1), "acs": 16}),
        ((6, 27, 41, 35), {"acceleration": (2, 1), "acs": 16, "offset": (1, 0)}),
        ((6, 24, 40, 38), {"acceleration": (2, 2), "caipi_shift": 1, "acs": 16}),
        ((6, 1, 64, 60), {"acceleration": (2, 1), "acs": (24, 1)}),
    ],
)
@pytest.mark.parametrize("sigma", [1.0, 3e-6])
def test_image_is_the_truth_in_units_of_the_noise_sd(shape, sampling, sigma, phantom, scan_of) -> None:
    head = phantom(shape, signal=100 * sigma)
    scan = scan_of(head, sigma=sigma, **sampling)
    kspace_before = scan.kspace.copy()
    image = np.abs(reconstruct(scan))
    assert image.shape == shape[1:] and np.array_equal(scan.kspace, kspace_before)
    inside, expected = image[head.head], _truth(head)[head.head] / sigma
    assert np.linalg.norm(inside - expected) / np.linalg.norm(expected) < 0.07
    assert np.median(inside / expected) == pytest.approx(1, abs=0.01)


def test_noise_of_all_three_images_is_the_predicted_one(phantom, scan_of) -> None:
    head = phantom((6, 24, 40, 38))
    images = {name: [] for name in ("original", "half_a", "half_b")}
    for seed in range(12):
        pair = make_pair(scan_of(head, seed=seed, acceleration=(2, 1), acs=16))
        for name, collected in images.items():
            collected.append(np.abs(getattr(pair, name)))
    for name, collected in images.items():
        predicted = pair.noise_sd if name == "original" else pair.noise_sd_half
        spread = np.std(collected, axis=0, ddof=1)
        assert np.median((spread / predicted)[head.head]) == pytest.approx(0.976, abs=0.06)  # SD of 12: bias 0.977


def test_pair_is_made_of_one_chain(phantom, scan_of) -> None:
    head = phantom((6, 24, 40, 38))
    scan = scan_of(head, acceleration=(2, 1), acs=16)
    pair = make_pair(scan)
    kspace = whiten(scan.kspace, pair.whitening)
    assert not (pair.mask_a & pair.mask_b).any()
    assert np.array_equal(pair.mask_a | pair.mask_b, scan.mask)
    assert pair.kernel_original.acceleration == (2, 1) and pair.kernel_half.acceleration == (2, 2)
    assert np.array_equal(pair.original, reconstruct(scan))
    assert np.array_equal(pair.original, apply_chain(kspace, scan.mask, pair.kernel_original, pair.weights))
    for half, again in zip((pair.half_a, pair.half_b), apply_halves(kspace, pair), strict=True):
        assert np.array_equal(half, again)
        assert half.shape == pair.noise_sd.shape == pair.noise_sd_half.shape == (24, 40, 38)
    assert pair.scale == intensity_scale(np.abs(pair.original))


def test_halves_see_the_same_intensity(phantom, scan_of) -> None:
    head = phantom((6, 24, 40, 38))
    pair = make_pair(scan_of(head, acceleration=(2, 1), acs=16))
    original = pair.original[head.head]
    regression = [
        np.vdot(original, half[head.head]) / np.vdot(original, original) for half in (pair.half_a, pair.half_b)
    ]
    assert regression == pytest.approx([1, 1], abs=0.06)  # noise in the ACS shrinks the kernel by some percent
    assert np.abs(regression[0] - regression[1]) < 0.04


def test_noise_of_the_halves_is_independent(phantom, scan_of, white_noise) -> None:
    """Kernel and weights from a scan with signal, frozen; noise alone through them; over 10⁶ voxels."""
    head = phantom((6, 40, 64, 60))
    pair = make_pair(scan_of(head, acceleration=(2, 1), acs=24))
    rng = np.random.default_rng(11)
    products, powers_a, powers_b, voxels = [], [], [], 0
    while voxels < 1_000_000:
        half_a, half_b = apply_halves(white_noise(head.kspace.shape, rng), pair)
        products.append(np.vdot(half_b, half_a))
        powers_a.append(np.vdot(half_a, half_a).real)
        powers_b.append(np.vdot(half_b, half_b).real)
        voxels += half_a.size
    correlation = abs(np.real(np.sum(products))) / np.sqrt(np.sum(powers_a) * np.sum(powers_b))
    assert correlation <= 0.01


def test_noise_of_a_half_has_mean_zero_over_replicas(phantom, scan_of, white_noise) -> None:
    head = phantom((6, 16, 32, 30))
    pair = make_pair(scan_of(head, acceleration=(2, 1), acs=16))
    clean = apply_halves(whiten(head.kspace, pair.whitening), pair)
    rng = np.random.default_rng(12)
    means = []
    for _ in range(32):
        noisy = (head.kspace + white_noise(head.kspace.shape, rng)).astype(np.complex64)
        halves = apply_halves(whiten(noisy, pair.whitening), pair)
        means.append([np.mean((half - free)[head.head]) for half, free in zip(halves, clean, strict=True)])
    for component in (np.real(means), np.imag(means)):
        z = component.mean(axis=0) / (component.std(axis=0, ddof=1) / np.sqrt(32))
        assert np.abs(z).max() < 4


def test_systematic_difference_is_what_the_noise_free_halves_differ_by(phantom, scan_of) -> None:
    head = phantom((6, 24, 40, 38))
    pair = make_pair(scan_of(head, acceleration=(2, 1), acs=16))
    before = head.kspace.copy()
    difference = systematic_difference(head.kspace, pair)
    assert np.array_equal(head.kspace, before)
    assert np.allclose(systematic_difference(2 * head.kspace, pair), 2 * difference, atol=1e-3)
    inside, noise_sd = difference[head.head], pair.noise_sd_half[head.head]
    assert 0.05 < np.sqrt(np.mean(np.abs(inside) ** 2) / 2 / np.mean(noise_sd**2)) < 0.8
    one_scan = (pair.half_a - pair.half_b)[head.head]
    assert np.vdot(inside, one_scan).real / np.vdot(inside, inside).real == pytest.approx(1, abs=0.1)


def test_a_fully_sampled_scan_makes_a_pair(phantom, scan_of) -> None:
    head = phantom((6, 24, 40, 38), signal=400.0)
    pair = make_pair(scan_of(head, acceleration=(1, 1), acs=None))
    assert pair.kernel_original is None and pair.kernel_half.acceleration == (1, 2)
    assert np.allclose(pair.noise_sd, 1, atol=1e-4)
    assert np.median(np.abs(pair.half_b)[head.head] / _truth(head)[head.head]) == pytest.approx(1, abs=0.03)


def test_a_caipirinha_scan_makes_a_pair_and_its_noisy_halves_are_announced(phantom, scan_of) -> None:
    head = phantom((6, 24, 40, 38), signal=400.0)
    with pytest.warns(UserWarning, match=r"median g-factor of a half image is \d\.\d in the object.*--g-factor"):
        pair = make_pair(scan_of(head, acceleration=(2, 2), caipi_shift=1, acs=16))
    assert pair.kernel_half.acceleration == (2, 4) and pair.kernel_half.caipi_shift == 1
    assert np.median(np.abs(pair.half_b)[head.head] / _truth(head)[head.head]) == pytest.approx(1, abs=0.05)


def test_without_a_noise_scan_the_corners_give_the_scale(phantom, scan_of) -> None:
    scan = scan_of(phantom((4, 24, 48, 46), signal=15.0), acceleration=(2, 1), acs=16)
    measured, guessed = (np.abs(reconstruct(s)) for s in (scan, replace(scan, noise=None)))
    assert np.median(guessed / measured) == pytest.approx(1, abs=0.1)


def test_scale_is_a_percentile_of_the_object() -> None:
    magnitude = np.concatenate([np.full(1000, 0.5), np.linspace(10, 20, 101)]).reshape(1, 1, -1)
    assert intensity_scale(magnitude) == pytest.approx(19.9)
    with pytest.raises(ScanError, match="zero everywhere"):
        intensity_scale(np.zeros((2, 3, 4)))


def test_a_scan_that_cannot_be_split_or_calibrated_is_refused(phantom, scan_of) -> None:
    flat = scan_of(phantom((6, 1, 64, 60)), acceleration=(2, 1), acs=(24, 1))
    with pytest.raises(SamplingError, match="half without samples"):
        make_pair(flat)
    bare = scan_of(phantom((4, 12, 24, 20)), acceleration=(2, 1), acs=None)
    with pytest.raises((SamplingError, CalibrationError), match=r"ACS|calibration"):
        reconstruct(bare)
