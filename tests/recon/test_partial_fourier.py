"""Partial Fourier: with a known object, the filled image is closer to it than the zero-filled one."""

from dataclasses import replace

import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.fourier import fft, ifft
from sn2nlib.recon import apply_halves, fill_partial, make_pair, phase_map, reconstruct, whiten
from sn2nlib.recon.partial_fourier import homodyne_weights, missing_side
from sn2nlib.sampling import lattice_mask


def object_with_phase(shape: tuple[int, int, int]) -> np.ndarray:
    """Textured ellipsoid with a smooth phase of some radians."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = (z / 0.8) ** 2 + (y / 0.85) ** 2 + (x / 0.7) ** 2 < 1
    magnitude = inside * (1 + 0.4 * np.sign(np.sin(11 * y) * np.cos(9 * z)))
    return (magnitude * np.exp(1j * (0.8 * y + 0.5 * z * x + 0.4))).astype(np.complex64)


def known_plane(shape: tuple[int, int], fractions: tuple[float, float], acs: int | None = None) -> np.ndarray:
    return lattice_mask(shape, acceleration=(1, 1), acs=acs, partial_fourier=fractions)


def error(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(np.abs(image) - np.abs(truth)) / np.linalg.norm(truth))


@pytest.mark.parametrize("shape", [(32, 48, 20), (31, 47, 21)])
@pytest.mark.parametrize("fractions", [(0.7, 1.0), (1.0, 0.7)])
@pytest.mark.parametrize("method, share, acs", [("homodyne", 0.7, None), ("pocs", 0.7, None), ("homodyne", 0.7, 16)])
def test_filling_comes_closer_to_the_truth(shape, fractions, method, share, acs) -> None:
    truth, known = object_with_phase(shape), known_plane(shape[:2], fractions, acs)
    zero = ifft(fft(truth) * known[:, :, None])
    before = zero.copy()
    filled = fill_partial(zero, known, phase_map(zero, known), method)
    assert np.array_equal(zero, before) and filled.dtype == np.complex64
    assert error(filled, truth) < share * error(zero, truth)


def test_projection_keeps_the_measured_samples() -> None:
    truth, known = object_with_phase((24, 36, 18)), known_plane((24, 36), (0.7, 1.0))
    zero = ifft(fft(truth) * known[:, :, None])
    filled = fft(fill_partial(zero, known, phase_map(zero, known), "pocs"))
    assert np.allclose(filled[known], fft(zero)[known], atol=1e-4)
    assert np.linalg.norm(filled[~known]) > 0.3 * np.linalg.norm(fft(truth)[~known])


def test_a_real_object_is_exact_under_homodyne_weights() -> None:
    truth, known = np.abs(object_with_phase((20, 30, 8))).astype(np.complex64), known_plane((20, 30), (0.7, 1.0))
    weights = homodyne_weights(known, missing_side(known, (-1, 0)))
    weighted = ifft(fft(truth) * known[:, :, None] * weights[:, :, None])
    # all but the line without a mirror image, index 0, which is missing
    assert error(weighted.real, truth) < 0.05


@pytest.mark.parametrize("method", ["homodyne", "pocs"])
def test_filling_is_linear_once_the_phase_is_frozen(method) -> None:
    truth, known = object_with_phase((16, 24, 10)), known_plane((16, 24), (0.7, 1.0))
    zero = ifft(fft(truth) * known[:, :, None])
    phase = phase_map(zero, known)
    other = ifft(fft(truth[::-1].copy()) * known[:, :, None])
    both = fill_partial(zero + other, known, phase, method)
    assert np.allclose(both, fill_partial(zero, known, phase, method) + fill_partial(other, known, phase, method),
                       atol=1e-4)


@pytest.mark.parametrize("method", ["zero", "homodyne", "pocs"])
def test_nothing_happens_where_nothing_is_missing(method) -> None:
    image = object_with_phase((16, 24, 10))
    known = np.ones((16, 24), bool)
    assert np.array_equal(fill_partial(image, known, phase_map(image, known), method), image)


@pytest.mark.parametrize("method", ["homodyne", "pocs"])
@pytest.mark.parametrize(("low", "high"), [(6, 27), (5, 26), (7, 25)])
def test_nothing_is_filled_where_both_sides_end_before_the_matrix(method, low, high) -> None:
    """Truncation: the lines from `low` to `high` of 32, as many or nearly as many on either side of line 16."""
    truth, known = object_with_phase((20, 32, 10)), np.zeros((20, 32), bool)
    known[2:18, low : high + 1] = True
    image = ifft(fft(truth) * known[:, :, None])
    assert np.array_equal(fill_partial(image, known, phase_map(image, known), method), image)


def test_margins_stay_empty_beside_a_side_that_is_filled() -> None:
    """Partial Fourier along ky of a scan that ends before the matrix along kz, and on the far side of ky."""
    truth, known = object_with_phase((20, 36, 10)), np.zeros((20, 36), bool)
    known[4:16, 14:31] = True
    zero = ifft(fft(truth) * known[:, :, None])
    missing = missing_side(known, (-1, 0))
    filled = fft(fill_partial(zero, known, phase_map(zero, known), "pocs"))
    assert np.flatnonzero(missing.any(axis=0)).tolist() == list(range(6, 14))  # mirror images of 23 to 30 about 18
    assert np.flatnonzero(missing.any(axis=1)).tolist() == list(range(5, 17))  # of 4 to 15 about 10
    assert np.allclose(filled[~missing], fft(zero)[~missing], atol=1e-4)
    assert np.linalg.norm(filled[missing]) > 0.3 * np.linalg.norm(fft(truth)[missing])
    weights = homodyne_weights(known, missing)
    assert np.allclose(weights[4:16, 26:31], 2, atol=0.01) and not weights[~known].any()
    assert np.allclose(weights[4, 16:21], weights[9, 16:21], atol=0.01)  # whether or not it has a partner along kz


def test_a_truncated_scan_is_left_as_it_is_and_so_are_its_halves(phantom, scan_of) -> None:
    scan = scan_of(phantom((8, 24, 48, 30), signal=400.0), acceleration=(2, 1), acs=16)
    mask = scan.mask.copy()
    mask[:, :6] = mask[:, 41:] = False
    scan = replace(scan, kspace=scan.kspace * mask[:, :, None], mask=mask)
    zero = make_pair(scan, raw_filter=0.25)
    for method in ("homodyne", "pocs"):
        pair = make_pair(scan, partial_fourier=method, raw_filter=0.25)
        for name in ("original", "half_a", "half_b", "noise_sd", "noise_sd_half"):
            assert np.array_equal(getattr(pair, name), getattr(zero, name))
        assert pair.noise_estimator == "zero filling, raw filter"


def test_a_scan_is_filled_and_its_fill_does_not_count_as_sampled(phantom, scan_of) -> None:
    head = phantom((6, 24, 48, 30), signal=400.0)
    sampling = {"acceleration": (2, 1), "acs": 16}
    full = np.abs(reconstruct(scan_of(head, **sampling)))
    scan = scan_of(head, **sampling, partial_fourier=(0.7, 1.0))
    pairs = {method: make_pair(scan, partial_fourier=method) for method in ("zero", "homodyne", "pocs")}
    inside = head.head
    errors = {
        name: np.linalg.norm((np.abs(pair.original) - full)[inside]) / np.linalg.norm(full[inside])
        for name, pair in pairs.items()
    }
    assert max(errors["homodyne"], errors["pocs"]) < 0.8 * errors["zero"]
    for name, pair in pairs.items():
        assert np.array_equal(pair.mask_a | pair.mask_b, scan.mask)
        assert np.array_equal(pair.original, reconstruct(scan, partial_fourier=name))
        again = apply_halves(whiten(scan.kspace, pair.whitening), pair)
        assert np.array_equal(again[0], pair.half_a) and np.array_equal(again[1], pair.half_b)
    assert pairs["zero"].noise_estimator == pairs["pocs"].noise_estimator == "zero filling"
    assert pairs["homodyne"].noise_estimator == "homodyne, component along the phase"


def test_the_noise_map_of_homodyne_is_that_of_the_component_along_the_phase(phantom, scan_of, white_noise) -> None:
    """Noise alone through everything frozen, the phase map too."""
    head = phantom((6, 16, 40, 30), signal=400.0)
    pair = make_pair(
        scan_of(head, acceleration=(2, 1), acs=14, partial_fourier=(0.7, 1.0)), partial_fourier="homodyne"
    )
    rng = np.random.default_rng(3)
    images = [apply_halves(white_noise(head.kspace.shape, rng), pair)[0] for _ in range(30)]
    along = [(image * np.exp(-1j * pair.phase)).real for image in images]
    assert np.allclose([(image * np.exp(-1j * pair.phase)).imag for image in images], 0, atol=1e-5)
    spread = np.sqrt(np.mean(np.square(along), axis=0)) / pair.noise_sd_half
    assert np.median(spread[head.head]) == pytest.approx(1, abs=0.12)  # zero-filled: 0.95


def test_an_unknown_filling_is_refused(phantom, scan_of) -> None:
    scan = scan_of(phantom((4, 12, 20, 16)), acceleration=(2, 1), acs=12)
    for function in (reconstruct, make_pair):
        with pytest.raises(ScanError, match="one of zero, homodyne, pocs"):
            function(replace(scan), partial_fourier="magic")
