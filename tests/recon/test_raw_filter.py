"""Raw filter: its window, what it does to a bright edge, and that the noise maps know of it."""

import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.fourier import fft
from sn2nlib.recon import apply_chain, apply_halves, make_pair, reconstruct, reconstruct_with_noise, whiten
from sn2nlib.recon.raw_filter import raw_filter_window
from sn2nlib.scans.scan import Scan

SHAPE = (6, 24, 40, 38)


def test_the_window_spans_the_measured_lines_of_either_side() -> None:
    mask = np.zeros((1, 20), bool)
    mask[0, 3:18] = True  # k = -7 to 7
    window = raw_filter_window(mask, 0.5)
    assert window is not None and window.shape == (1, 20) and window.dtype == np.float32
    distance = np.abs(np.arange(20) - 10) / 8
    expected = np.where(distance < 0.5, 1, np.cos(np.pi * (np.minimum(distance, 1) - 0.5)) ** 2)
    np.testing.assert_allclose(window[0], expected, atol=1e-6)
    mask[0, :6] = False  # k = -4 to 7: that side is tapered where it ends, unless it is filled from the other
    shorter = raw_filter_window(mask, 0.5)
    assert shorter is not None and shorter[0, 6] == pytest.approx(np.cos(np.pi * 0.3) ** 2, abs=1e-6)
    np.testing.assert_allclose(shorter[0, 10:], window[0, 10:])
    for method in ("homodyne", "pocs"):
        np.testing.assert_allclose(raw_filter_window(mask, 0.5, method), window)


def test_a_whole_window_is_that_of_hann_along_both_axes() -> None:
    window = raw_filter_window(np.ones((9, 15), bool), 1.0)
    assert window is not None
    np.testing.assert_allclose(window[4], np.hanning(17)[1:-1], atol=1e-6)
    np.testing.assert_allclose(window[:, 7], np.hanning(11)[1:-1], atol=1e-6)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_beyond_all_lines_is_refused(share, phantom, scan_of) -> None:
    assert raw_filter_window(np.ones((4, 4), bool), 0) is None
    with pytest.raises(ScanError, match=r"tapers a share of the lines from 0 to 1 \(0.25: the outer quarter\), got"):
        reconstruct(scan_of(phantom((4, 12, 24, 20)), acceleration=(1, 1), acs=None), raw_filter=share)


def test_a_bright_edge_rings_less() -> None:
    """A box through 41 of 80 lines: beside it, energy falls more than fivefold, and its middle keeps its value."""
    box = np.zeros((2, 1, 80, 40), np.complex64)
    box[:, :, 25:56] = np.array([100, 60])[:, None, None, None]
    mask = np.zeros((1, 80), bool)
    mask[0, 20:61] = True
    noise = np.random.default_rng(0).standard_normal((2, 500, 2)).view(complex)[..., 0]
    scan = Scan(
        kspace=fft(box) * mask[:, :, None], mask=mask, acceleration=(1, 1), caipi_shift=0,
        noise=noise.astype(np.complex64),
    )  # fmt: skip
    plain, tapered = (np.abs(reconstruct(scan, raw_filter=share))[0, :, 20] for share in (0, 0.4))
    beside = np.r_[:16, 65:80]  # beyond the edge itself, which the window makes softer
    assert (tapered[beside] ** 2).sum() < 0.2 * (plain[beside] ** 2).sum()
    assert tapered[40] == pytest.approx(plain[40], rel=0.03)


@pytest.mark.parametrize("sampling", [
    {"acceleration": (2, 1), "acs": 16},
    {"acceleration": (2, 2), "caipi_shift": 1, "acs": 16},
    {"acceleration": (1, 1), "acs": None},
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:the median g-factor")
def test_noise_maps_are_those_of_the_filtered_images(sampling, phantom, scan_of, white_noise) -> None:
    head = phantom(SHAPE)
    scan = scan_of(head, **sampling)
    pair, plain = make_pair(scan, raw_filter=0.25), make_pair(scan)
    rng = np.random.default_rng(1)
    power = {name: np.zeros(SHAPE[1:]) for name in ("original", "half")}
    n = 60
    for _ in range(n):
        noise = white_noise(SHAPE, rng)
        original = apply_chain(noise, scan.mask, pair.kernel_original, pair.weights, pair.taper)
        power["original"] += np.abs(original) ** 2
        power["half"] += np.abs(apply_halves(noise, pair)[0]) ** 2
    for name, noise_sd, without in (
        ("original", pair.noise_sd, plain.noise_sd), ("half", pair.noise_sd_half, plain.noise_sd_half)
    ):  # fmt: skip
        measured = np.sqrt(power[name] / (2 * n))
        # without the filter up to 1.08: cells at the edge of this tiny matrix lack neighbours
        assert np.median((noise_sd / measured)[head.head]) == pytest.approx(1, abs=0.05), name
        assert np.median((without / measured)[head.head]) > 1.13
    assert pair.noise_estimator == "zero filling, raw filter"


def test_all_images_of_a_scan_share_the_window(phantom, scan_of) -> None:
    scan = scan_of(phantom(SHAPE), acceleration=(2, 1), acs=16)
    pair = make_pair(scan, raw_filter=0.25)
    image, noise_sd, estimator = reconstruct_with_noise(scan, raw_filter=0.25)
    np.testing.assert_array_equal(pair.original, image)
    np.testing.assert_array_equal(pair.noise_sd, noise_sd)
    assert estimator == pair.noise_estimator
    for half, again in zip(
        (pair.half_a, pair.half_b), apply_halves(whiten(scan.kspace, pair.whitening), pair), strict=True
    ):
        np.testing.assert_array_equal(half, again)
    assert pair.taper is not None and make_pair(scan).taper is None

