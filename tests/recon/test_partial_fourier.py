"""Partial Fourier: with a known object, the filled image is closer to it than the zero-filled one."""

from dataclasses import replace

import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.fourier import fft, ifft
from sn2nlib.recon import apply_halves, fill_partial, image_pair, make_pair, phase_map, reconstruct, whiten
from sn2nlib.recon.partial_fourier import homodyne_weights, known_region, missing_side
from sn2nlib.sampling import asymmetric_readout, lattice_mask
from sn2nlib.scans import save_scan


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
    assert pairs["zero"].noise_estimator == "zero filling"
    assert pairs["pocs"].noise_estimator == "zero filling, lower than that of POCS"
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


@pytest.mark.parametrize("shape", [(16, 24, 30), (15, 23, 31)])
@pytest.mark.parametrize("method", ["homodyne", "pocs"])
def test_a_side_of_kx_is_filled_like_one_of_ky(shape, method) -> None:
    """The same image with ky and kx exchanged gives the same, exchanged; kz ends early too."""
    truth = object_with_phase(shape)
    along_ky = known_plane((shape[0], shape[2]), (0.7, 0.8))  # (kz, ky) of the exchanged image
    turned = np.ascontiguousarray(truth.swapaxes(1, 2))
    expected = ifft(fft(turned) * along_ky[:, :, None])
    expected = fill_partial(expected, along_ky, phase_map(expected, along_ky), method)
    readout, rows = along_ky.any(axis=0), along_ky.any(axis=1)
    mask = np.broadcast_to(rows[:, None], shape[:2])
    known = known_region(mask, None, readout)
    assert known.shape == shape and np.array_equal(known.any(axis=1), along_ky)
    zero = ifft(fft(truth) * known)
    filled = fill_partial(zero, known, phase_map(zero, known), method)
    apart, inside = np.abs(filled.swapaxes(1, 2) - expected), np.abs(turned) > 0
    # outside the phase may be that of rounding, which the turns of "pocs" spread
    assert apart[inside].max() < (2e-6 if method == "homodyne" else 1e-4) * np.abs(expected).max()
    assert error(filled, truth) < 0.8 * error(zero, truth)


@pytest.mark.parametrize(("acquired", "side"), [
    (None, False), ((0.0, 48.0), False), ((16.0, 48.0), True), ((0.0, 30.5), True), ((10.0, 38.0), False),
    ((25.0, 48.0), False), ((0.0, 24.0), False), ((23.9, 24.1), False),
])  # fmt: skip
def test_kx_is_filled_where_one_side_and_not_the_centre_is_left_out(acquired, side) -> None:
    readout = asymmetric_readout(acquired, 48)
    assert (readout is not None) == side
    assert readout is None or (readout[24] and readout.sum() == int(acquired[1]) - acquired[0])


@pytest.mark.filterwarnings("ignore:the median g-factor")  # few coils
@pytest.mark.parametrize("method", ["homodyne", "pocs"])
def test_an_asymmetric_echo_is_filled_in_scans_and_their_halves(method, phantom, scan_of, tmp_path) -> None:
    head = phantom((6, 24, 40, 48), signal=400.0)
    whole = scan_of(head, acceleration=(2, 1), acs=16)
    kspace = whole.kspace.copy()
    kspace[..., :16] = 0
    scan = replace(whole, kspace=kspace, kx_acquired=(16.0, 48.0))
    full, zero, pair = (make_pair(scan, partial_fourier=fill) for scan, fill in
                        ((whole, "zero"), (scan, "zero"), (scan, method)))  # fmt: skip
    for name in ("original", "half_a", "half_b"):
        truth = np.abs(getattr(full, name))[head.head]
        left, without = (
            np.linalg.norm(np.abs(getattr(one, name))[head.head] - truth) / np.linalg.norm(truth)
            for one in (pair, zero)
        )
        assert left < 0.8 * without, name
    again = apply_halves(whiten(scan.kspace, pair.whitening), pair)
    assert np.array_equal(again[0], pair.half_a) and np.array_equal(again[1], pair.half_b)
    assert np.array_equal(pair.original, reconstruct(scan, partial_fourier=method))
    save_scan(scan, tmp_path / "scan.h5")
    found = image_pair(tmp_path / "scan.h5", partial_fourier=method, memory_limit=0, scratch=tmp_path)
    for name in ("original", "half_a", "half_b", "noise_sd", "noise_sd_half"):
        expected = getattr(pair, name)
        difference = np.linalg.norm(getattr(found, name) - expected) / np.linalg.norm(expected)
        assert difference < 1e-5, name
    assert found.noise_estimator == pair.noise_estimator
    both = replace(scan, kx_acquired=(16.0, 32.0), kspace=kspace * (np.arange(48) < 32))
    assert np.array_equal(reconstruct(both, partial_fourier=method), reconstruct(both))


def test_the_noise_map_of_a_filled_echo_is_that_of_the_component_along_the_phase(phantom, scan_of, white_noise) -> None:
    head = phantom((6, 16, 40, 30), signal=400.0)
    scan = scan_of(head, acceleration=(2, 1), acs=14)
    acquired = np.arange(30) >= 9
    scan = replace(scan, kspace=scan.kspace * acquired, kx_acquired=(9.0, 30.0))
    pair = make_pair(scan, partial_fourier="homodyne")
    rng = np.random.default_rng(3)
    noise = (white_noise(head.kspace.shape, rng) * acquired for _ in range(30))
    along = [(apply_halves(one, pair)[0] * np.exp(-1j * pair.phase)).real for one in noise]
    spread = np.sqrt(np.mean(np.square(along), axis=0)) / pair.noise_sd_half
    assert np.median(spread[head.head]) == pytest.approx(1, abs=0.12)


def test_an_unknown_filling_is_refused(phantom, scan_of) -> None:
    scan = scan_of(phantom((4, 12, 20, 16)), acceleration=(2, 1), acs=12)
    for function in (reconstruct, make_pair):
        with pytest.raises(ScanError, match="one of zero, homodyne, pocs"):
            function(replace(scan), partial_fourier="magic")
