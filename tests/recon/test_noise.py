"""Whitening against known covariances; noise maps against many replicas."""

import numpy as np
import pytest

from sn2nlib.errors import SamplingError, ScanError
from sn2nlib.fourier import fft, ifft
from sn2nlib.recon import (
    calibrate,
    combine,
    corner_noise,
    covariance,
    fill,
    g_factor,
    noise_map,
    walsh,
    whiten,
    whitening_matrix,
)
from sn2nlib.sampling import acs_region, lattice_mask, split_kz
from sn2nlib.scans.coils import sensitivities


def _mixing(n_coils: int, rng: np.random.Generator) -> np.ndarray:
    """Well-conditioned correlation of coils with very different gains."""
    mixing = np.eye(n_coils) + 0.2 * (rng.standard_normal((n_coils, n_coils, 2)) @ [1, 1j])
    return np.geomspace(1e-6, 1e-4, n_coils)[:, None] * mixing


def test_covariance_is_the_mean_outer_product_on_an_absolute_scale(white_noise) -> None:
    rng = np.random.default_rng(0)
    mixing = _mixing(5, rng)
    noise = (mixing @ white_noise((5, 200_000), rng)).astype(np.complex64)
    expected = 2 * mixing @ mixing.conj().T
    size = np.sqrt(np.outer(expected.diagonal().real, expected.diagonal().real))
    assert np.abs((covariance(noise) - expected) / size).max() < 0.01
    direct = sum(np.outer(n, n.conj()) for n in noise.T[:500].astype(complex)) / 500
    assert np.allclose(covariance(noise[:, :500]), direct, rtol=1e-6, atol=0)


def test_whitened_noise_has_unit_sd_in_each_component(white_noise) -> None:
    rng = np.random.default_rng(1)
    mixing = _mixing(6, rng)
    matrix = whitening_matrix((mixing @ white_noise((6, 100_000), rng)).astype(np.complex64))
    fresh = (mixing @ white_noise((6, 40_000), rng)).astype(np.complex64)
    before = fresh.copy()
    white = whiten(fresh.reshape(6, 4, 100, 100), matrix)
    assert white.shape == (6, 4, 100, 100) and white.dtype == np.complex64
    assert np.array_equal(fresh, before)
    assert white.real.std(axis=(1, 2, 3)) == pytest.approx(np.ones(6), rel=0.015)
    assert white.imag.std(axis=(1, 2, 3)) == pytest.approx(np.ones(6), rel=0.015)
    assert np.abs(covariance(white.reshape(6, -1)) - 2 * np.eye(6)).max() < 0.05


@pytest.mark.parametrize("name, correlation", [("noise34ch.npy", 0.39), ("noise16ch.npy", 0.53)])
def test_measured_noise_is_whitened(name: str, correlation: float, require) -> None:
    noise = np.load(require("data", name))
    matrix = covariance(noise)
    sd = np.sqrt(matrix.diagonal().real)
    off_diagonal = np.abs(matrix / np.outer(sd, sd) - np.eye(len(sd)))
    assert off_diagonal.max() == pytest.approx(correlation, abs=0.01)
    white = whiten(noise.astype(np.complex64), whitening_matrix(noise))
    assert np.abs(covariance(white) - 2 * np.eye(len(sd))).max() < 1e-4


def test_corners_of_the_kspace_stand_in_for_a_noise_scan(phantom, white_noise) -> None:
    rng = np.random.default_rng(2)
    for shape in ((4, 20, 36, 34), (4, 1, 96, 80)):
        mask = lattice_mask(shape[1:3], acceleration=(2, 1), acs=8, offset=(1, 0))
        clean = phantom(shape, signal=10.0).kspace
        noisy = (clean + white_noise(shape, rng)).astype(np.complex64) * mask[:, :, None]
        samples = corner_noise(noisy, mask)
        assert samples.shape[0] == 4 and samples.shape[1] >= 200
        assert (np.abs(samples) > 0).all()
        assert samples.real.std() == pytest.approx(1, rel=0.12)


def test_bad_noise_scans_are_refused(white_noise) -> None:
    noise = white_noise((4, 100), np.random.default_rng(3))
    dead, twins, broken = noise.copy(), noise.copy(), noise.copy()
    dead[2], twins[3], broken[0, 5] = 0, noise[0], np.nan
    with pytest.raises(ScanError, match="coil 2 has no noise"):
        whitening_matrix(dead)
    with pytest.raises(ScanError, match="singular"):
        whitening_matrix(twins)
    with pytest.raises(ScanError, match="NaN or Inf; leave out their coil, or the noise scan"):
        covariance(broken)
    with pytest.raises(ScanError, match="too few for the covariance of 4 coils"):
        covariance(noise[:, :7])
    with pytest.raises(ScanError, match=r"complex \(coil, n\)"):
        covariance(noise[None])
    with pytest.raises(ScanError, match="for 4 coils, the array has 3"):
        whiten(noise[:3], whitening_matrix(noise))


def _replica_sd(kernel, mask, weights, white_noise, *, periodic: bool, n: int = 200) -> np.ndarray:
    """Noise SD per component over `n` complex replicas through the frozen reconstruction."""
    rng = np.random.default_rng(4)
    power = np.zeros(weights.shape[1:])
    for _ in range(n):
        noise = white_noise(weights.shape, rng)
        power += np.abs(combine(ifft(fill(noise, mask, kernel, periodic=periodic)), weights)) ** 2
    return np.sqrt(power / (2 * n))


@pytest.fixture
def calibrated(phantom, white_noise):
    """Kernel of an acceleration, and Walsh weights, from a noisy phantom (6, 16, 24, 20)."""
    shape = (6, 16, 24, 20)
    head = phantom(shape)
    noisy = (head.kspace + white_noise(shape, np.random.default_rng(5))).astype(np.complex64)
    weights = walsh(ifft(noisy))

    def of(acceleration: tuple[int, int], shift: int = 0):
        return calibrate(noisy, acceleration=acceleration, caipi_shift=shift), weights, head.head

    return of


@pytest.mark.parametrize(
    "acceleration, shift, offset",
    [((2, 1), 0, (1, 0)), ((2, 2), 0, (0, 1)), ((2, 2), 1, (0, 0)), ((3, 1), 0, (2, 0)), ((2, 4), 1, (1, 3))],
)
def test_analytic_noise_equals_replicas_on_a_periodic_lattice(
    acceleration, shift, offset, calibrated, white_noise
) -> None:
    kernel, weights, head = calibrated(acceleration, shift)
    mask = lattice_mask((16, 24), acceleration=acceleration, caipi_shift=shift, offset=offset, acs=None)
    replicas = _replica_sd(kernel, mask, weights, white_noise, periodic=True)
    analytic = noise_map(kernel, weights)
    assert np.median(np.abs(analytic / replicas - 1)[head]) < 0.04  # 200 complex replicas: 2.4 % expected
    assert np.median((analytic / replicas)[head]) == pytest.approx(1, abs=0.01)
    assert np.allclose(analytic, noise_map(kernel, weights, mask=mask), rtol=1e-5)
    g_map = g_factor(analytic, acceleration[0] * acceleration[1])
    assert 0.98 < np.median(g_map[head]) < 4


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("acceleration, shift", [((2, 1), 0), ((2, 2), 1)])
def test_reinserted_acs_is_accounted_for(acceleration, shift, half, calibrated, white_noise) -> None:
    mask = lattice_mask((16, 24), acceleration=acceleration, caipi_shift=shift, acs=8)
    if half:
        mask = split_kz(mask, acceleration=acceleration, caipi_shift=shift)[0]
        acceleration = (acceleration[0], 2 * acceleration[1])
    kernel, weights, head = calibrated(acceleration, shift)
    analytic = noise_map(kernel, weights, mask=mask)
    periodic = _replica_sd(kernel, mask, weights, white_noise, periodic=True)
    assert np.median(np.abs(analytic / periodic - 1)[head]) < 0.04
    assert np.median((analytic / periodic)[head]) == pytest.approx(1, abs=0.025)
    assert np.median((noise_map(kernel, weights) / periodic)[head]) > 1.03  # what ignoring the ACS would give
    # without periodic edges the outermost cells lack neighbours and noise: most on this tiny matrix
    bounded = _replica_sd(kernel, mask, weights, white_noise, periodic=False, n=60)
    assert 0.98 < np.median((analytic / bounded)[head]) < 1.15


def test_fully_sampled_noise_is_the_norm_of_the_weights(calibrated) -> None:
    kernel, weights, _ = calibrated((2, 1))
    full = np.ones((16, 24), dtype=bool)
    assert noise_map(None, weights) == pytest.approx(np.ones((16, 20, 24)).transpose(0, 2, 1), rel=1e-5)
    assert np.allclose(noise_map(kernel, weights, mask=full), 1, rtol=1e-5)
    partial = lattice_mask((16, 24), acceleration=(1, 1), acs=None, partial_fourier=(0.75, 1))
    assert np.allclose(noise_map(None, weights, mask=partial), np.sqrt(0.75), rtol=1e-5)
    with pytest.raises(SamplingError, match="does not fit the weights"):
        noise_map(kernel, weights, mask=full[:, :20])


def test_g_is_one_where_every_sample_is_measured_by_another_coil() -> None:
    """Two coils that see the object with 0 and 1 cycles of phase: R = 2 loses nothing but the samples."""
    rng = np.random.default_rng(6)
    image = rng.standard_normal((1, 32, 20)) + 1j * rng.standard_normal((1, 32, 20))
    ramp = np.exp(2j * np.pi * (np.arange(32) - 16) / 32)[:, None]
    maps = np.stack([np.ones_like(image), np.broadcast_to(ramp, image.shape)])
    weights = (maps / np.sqrt(2)).astype(np.complex64)
    mask = lattice_mask((1, 32), acceleration=(2, 1), acs=(24, 1))
    _, lines = acs_region(mask)
    kspace = fft(np.stack([image, image * ramp])).astype(np.complex64)
    kernel = calibrate(kspace[:, :, lines], acceleration=(2, 1), ridge=1e-8)
    g_map = g_factor(noise_map(kernel, weights), 2)
    assert np.median(g_map) == pytest.approx(1, abs=0.05)


def _g_inside(kspace: np.ndarray, inside: np.ndarray, shift: int, ridge: float) -> tuple[float, float]:
    """Median and 95th percentile of the analytic g-factor of R = 2×2, from 24 ACS lines along ky and kz at most."""
    box = tuple(slice(max(n // 2 - 12, 0), n // 2 + 12) for n in kspace.shape[1:3])
    kernel = calibrate(kspace[(slice(None), *box)], acceleration=(2, 2), caipi_shift=shift, ridge=ridge)
    g_map = g_factor(noise_map(kernel, walsh(ifft(kspace))), 4)
    return float(np.median(g_map[inside])), float(np.percentile(g_map[inside], 95))


@pytest.mark.parametrize("shape", [(8, 16, 24, 20), (8, 17, 25, 21)])
def test_the_caipirinha_shift_lowers_the_g_factor_of_two_by_two(shape, phantom) -> None:
    head = phantom(shape)
    plain, shifted = (_g_inside(head.kspace.astype(np.complex64), head.head, shift, 1e-3) for shift in (0, 1))
    assert shifted[0] < 0.99 * plain[0] and shifted[1] < 0.9 * plain[1]  # most where noise is worst


@pytest.mark.parametrize("shape", [(32, 40, 32), (33, 39, 31)])
def test_the_shift_pays_in_the_simulated_helmet_too(shape) -> None:
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = sum((axis / extent) ** 2 for axis, extent in zip(axes, (0.8, 0.85, 0.7), strict=True)) < 1
    image = inside * (1 + 0.5 * np.sin(9 * axes[2]) * np.cos(7 * axes[1]) * np.cos(5 * axes[0]))
    coils = np.stack(list(sensitivities(shape, (4.3, 4.0, 4.0), 8)))
    kspace = fft((coils * image).astype(np.complex64))
    plain, shifted = (_g_inside(kspace, inside, shift, 1e-4) for shift in (0, 1))
    assert shifted[0] < 0.95 * plain[0] and shifted[1] < 0.9 * plain[1]
