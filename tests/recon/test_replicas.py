"""The analytic noise maps against replicas, and replicas against what is known."""

import numpy as np
import pytest

from sn2nlib.recon import make_pair, noise_map, replicas
from sn2nlib.recon.replicas import map_errors, white_noise

NAMES = ["original", "original with ACS", "half", "half with ACS"]


def test_white_noise_has_unit_sd_in_each_component() -> None:
    noise = white_noise((3, 40, 50, 60), np.random.default_rng(0))
    assert noise.shape == (3, 40, 50, 60) and noise.dtype == np.complex64
    assert [noise.real.std(), noise.imag.std()] == pytest.approx([1, 1], abs=0.005)
    assert np.mean(noise**2) == pytest.approx(0, abs=0.01)  # circular: equal and uncorrelated parts


def test_analytic_maps_agree_with_replicas_and_wrong_ones_do_not(
    phantom, scan_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = make_pair(scan_of(phantom((6, 32, 40, 8)), acceleration=(2, 1), acs=20))
    before = pair.weights.copy()
    errors = map_errors(pair, n_replicas=100, rng=np.random.default_rng(1))
    assert list(errors) == NAMES and np.array_equal(pair.weights, before)
    for name in ("original", "half"):
        assert errors[name] == pytest.approx(0.034, abs=0.005)  # the scatter of 100 replicas, and nothing else
        assert errors[f"{name} with ACS"] < 0.08  # on so small a matrix the edge shows

    def noise_map_without_acs(kernel, weights, mask):
        return noise_map(kernel, weights)

    monkeypatch.setattr(replicas, "noise_map", noise_map_without_acs)
    blind = map_errors(pair, n_replicas=100, rng=np.random.default_rng(1))
    assert blind["half"] == pytest.approx(errors["half"], abs=1e-4)
    assert blind["half with ACS"] > 1.5 * errors["half with ACS"]
    monkeypatch.setattr(replicas, "noise_map", lambda *given, **masks: np.float32(1.15) * noise_map(*given, **masks))
    wrong = map_errors(pair, n_replicas=20, rng=np.random.default_rng(1))
    assert min(wrong.values()) > 0.1


@pytest.mark.parametrize("sampling", [{"partial_fourier": (0.75, 1.0)}, {"offset": (1, 0)}])
def test_lattices_that_do_not_close_and_partial_fourier(sampling, phantom, scan_of) -> None:
    pair = make_pair(scan_of(phantom((6, 21, 33, 8)), acceleration=(2, 1), acs=16, **sampling))
    errors = map_errors(pair, n_replicas=40, rng=np.random.default_rng(3))
    assert list(errors) == NAMES and all(0.03 < error < 0.15 for error in errors.values()), errors


def test_a_fully_sampled_scan_has_the_map_of_its_weights(phantom, scan_of) -> None:
    pair = make_pair(scan_of(phantom((6, 16, 24, 8), signal=400.0), acceleration=(1, 1), acs=None))
    errors = map_errors(pair, n_replicas=50, rng=np.random.default_rng(2))
    assert errors["original"] == errors["original with ACS"] == pytest.approx(0.34 / np.sqrt(50), rel=0.1)
