"""MP-RAGE against a simulation of Mz, excitation by excitation, and against closed forms."""

from typing import Any

import numpy as np
import pytest

from sn2nlib.scans.sequence import MpRage

T1 = np.array([250.0, 420.0, 850.0, 1400.0, 2100.0, 4000.0, 5000.0])


def simulated(sequence: MpRage, t1: np.ndarray, n_cycles: int = 40) -> np.ndarray:
    """|Mz| sin α when the excitation at TI comes, M0 = 1, after many cycles: nothing but rotations and relaxation."""

    def relaxed(m: np.ndarray, time: float) -> np.ndarray:
        return 1 - (1 - m) * np.exp(-time / t1)

    alpha = np.deg2rad(sequence.flip_angle)
    train = sequence.turbo * sequence.echo_spacing
    m = np.ones_like(t1)
    for _ in range(n_cycles):
        m = relaxed(-m, sequence.ti - train / 2)
        for excitation in range(sequence.turbo):
            if 2 * excitation == sequence.turbo:
                at_centre = m
            m = relaxed(m * np.cos(alpha), sequence.echo_spacing)
        m = relaxed(m, sequence.tr - sequence.ti - train / 2)
    return np.abs(at_centre) * np.sin(alpha)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"flip_angle": 12.0, "ti": 900.0},
        {"tr": 1700.0, "ti": 800.0, "turbo": 128, "echo_spacing": 9.1},
        {"flip_angle": 90.0, "turbo": 2},
        {"tr": 1320.0, "ti": 660.0},  # no waiting at all
    ],
)
def test_signal_is_that_of_the_bloch_simulation(settings: dict[str, Any]) -> None:
    sequence = MpRage(**settings)
    signal = sequence.signal(T1, np.ones_like(T1))
    expected = simulated(sequence, T1)
    # close to the null the relative error means nothing: 1e-4 of the tissue's own scale then
    np.testing.assert_allclose(signal, expected, rtol=1e-4, atol=1e-4 * 0.05 * np.sin(np.deg2rad(sequence.flip_angle)))


def test_the_default_is_not_close_to_a_null_so_that_its_relative_error_counts() -> None:
    np.testing.assert_allclose(MpRage().signal(T1, np.ones_like(T1)), simulated(MpRage(), T1), rtol=1e-4)


def test_long_repetition_gives_plain_inversion_recovery() -> None:
    sequence = MpRage(tr=1e6, ti=1000, flip_angle=5, turbo=2, echo_spacing=1e-3)
    expected = np.sin(np.deg2rad(5)) * np.abs(1 - 2 * np.exp(-1000 / T1))
    np.testing.assert_allclose(sequence.signal(T1, np.ones_like(T1)), expected, rtol=5e-3)


def test_white_matter_is_brighter_than_grey_and_grey_than_fluid() -> None:
    wm, gm, csf = MpRage().signal(np.array([850.0, 1400, 4000]), np.array([0.70, 0.82, 1.0]))
    assert wm > 1.2 * gm and gm > 1.2 * csf > 0


def test_density_scales_and_t2_star_decays() -> None:
    sequence, pd = MpRage(te=3.2), np.full(T1.shape, 0.3)
    unit = sequence.signal(T1, np.ones_like(T1))
    np.testing.assert_allclose(sequence.signal(T1, pd), 0.3 * unit, rtol=1e-6)
    t2_star = np.linspace(2, 80, len(T1))
    np.testing.assert_allclose(sequence.signal(T1, pd, t2_star), 0.3 * unit * np.exp(-3.2 / t2_star), rtol=1e-5)


def test_shape_precision_and_inputs() -> None:
    t1, pd = np.full((2, 3, 5), 900.0), np.ones((2, 3, 5))
    pd[0] = 0
    given = t1.copy(), pd.copy()
    signal = MpRage().signal(t1, pd, 50.0)
    assert signal.shape == (2, 3, 5) and signal.dtype == np.float32
    assert np.all(signal[0] == 0) and np.all(signal[1] > 0)
    np.testing.assert_array_equal(t1, given[0])
    np.testing.assert_array_equal(pd, given[1])


@pytest.mark.parametrize("settings", [{"ti": 600.0}, {"tr": 1600.0}, {"turbo": 400}, {"echo_spacing": 12.0}])
def test_a_train_that_does_not_fit_is_an_error(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"a train of \d+ ms does not fit around TI = \d+ ms within TR = \d+ ms"):
        MpRage(**settings)


@pytest.mark.parametrize(
    "settings", [{"tr": -1.0}, {"te": 0.0}, {"turbo": 0}, {"flip_angle": 0.0}, {"flip_angle": 120.0}]
)
def test_impossible_values_are_an_error(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs positive times, a positive turbo factor and a flip angle"):
        MpRage(**settings)
