"""Halves at a coarser resolution."""

from types import SimpleNamespace

import numpy as np
import pytest

from sn2nlib.denoiser import coarser_pair, training_volume
from sn2nlib.denoiser.coarser import FEWEST, coarser_shape
from sn2nlib.errors import ImageError
from sn2nlib.fourier import ifft, pad

FINE, COARSE, SHARE = (20, 25, 30), (16, 20, 24), 0.8


def normal(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]


def pair(*images: np.ndarray, noise_sd: float = 1.0) -> SimpleNamespace:
    names = ("original", "half_a", "half_b")
    maps = np.full(images[0].shape, noise_sd, np.float32)
    return SimpleNamespace(
        **dict(zip(names, images, strict=True)), noise_sd=maps, noise_sd_half=np.float32(1.5) * maps, scale=2.0
    )


def test_an_object_without_fine_detail_keeps_its_intensities() -> None:
    kspace = normal(COARSE, 0)  # nothing beyond what the coarse image can hold
    gain = np.sqrt(np.prod(FINE) / np.prod(COARSE))
    fine = (gain * ifft(pad(kspace, FINE))).astype(np.complex64)
    coarse = coarser_pair(pair(fine, 2 * fine, 3 * fine), SHARE)
    np.testing.assert_allclose(coarse.original, ifft(kspace), atol=1e-5)
    np.testing.assert_allclose(coarse.half_b, 3 * coarse.original, atol=1e-5)
    assert coarse.scale == 2.0


def test_the_noise_map_tells_the_noise_and_the_halves_share_none() -> None:
    coarse = coarser_pair(pair(normal(FINE, 1), normal(FINE, 2), normal(FINE, 3)), SHARE)
    sd = np.sqrt(np.mean(np.abs(coarse.original) ** 2) / 2)
    assert coarse.noise_sd.shape == COARSE
    np.testing.assert_allclose(coarse.noise_sd, SHARE**1.5, rtol=1e-5)
    np.testing.assert_allclose(coarse.noise_sd_half, 1.5 * SHARE**1.5, rtol=1e-5)
    assert sd == pytest.approx(SHARE**1.5, rel=0.03)
    correlation = np.vdot(coarse.half_a, coarse.half_b).real / np.vdot(coarse.half_a, coarse.half_a).real
    assert abs(correlation) < 4 / np.sqrt(2 * np.prod(COARSE))


def test_a_share_of_1_changes_nothing_and_the_input_stays() -> None:
    fine = pair(normal(FINE, 1), normal(FINE, 2), normal(FINE, 3), noise_sd=0.4)
    before = fine.half_a.copy()
    same = coarser_pair(fine, 1.0)
    np.testing.assert_allclose(same.half_a, fine.half_a, atol=1e-6)
    np.testing.assert_allclose(same.noise_sd, fine.noise_sd, rtol=1e-6)
    np.testing.assert_array_equal(fine.half_a, before)


def test_training_takes_it() -> None:
    fine = pair(*(normal(FINE, seed) for seed in range(3)))
    volume = training_volume(coarser_pair(fine, 0.5))
    assert volume.half_a.shape == volume.variance.shape == (10, 12, 15)
    assert volume.half_a.dtype == np.float32


@pytest.mark.parametrize("share", [0, -0.5, 1.2, float("nan")])
def test_a_share_out_of_range(share: float) -> None:
    with pytest.raises(ImageError, match="share of k-space above 0 and at most 1"):
        coarser_pair(pair(*(normal(FINE, seed) for seed in range(3))), share)


@pytest.mark.parametrize(
    ("shape", "smallest"), [(FINE, 0.33), ((40, 48, 48), 0.17), ((64, 20, 96), 0.38), ((13, 15, 17), 0.51)]
)
def test_a_share_that_leaves_too_little_is_refused_with_the_smallest_that_serves(
    shape: tuple[int, int, int], smallest: float
) -> None:
    assert all(n >= fewest for n, fewest in zip(coarser_shape(shape, smallest), FEWEST, strict=True))
    told = rf"\(--coarser\) leaves .* and a network learns from 7 × 8 × 8 or more; take {smallest:g} or more"
    for share in (smallest - 0.01, 0.05):
        with pytest.raises(ImageError, match=told):
            coarser_shape(shape, share)


def test_a_scan_too_small_for_coarser_copies() -> None:
    with pytest.raises(ImageError, match="no share does here: leave --coarser out"):
        coarser_shape((6, 40, 40), 0.9)
