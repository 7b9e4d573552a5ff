"""MP-RAGE against a simulation of Mz, excitation by excitation, and against closed forms."""

from typing import Any

import numpy as np
import pytest

from sn2nlib.scans.sequence import MpRage, Space, echo_train

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


def isochromats(flip_angles: np.ndarray, echo_spacing: float, t1: float, t2: float, n: int = 512) -> np.ndarray:
    """Echoes of a CPMG train from rotations and relaxation of spins that dephase evenly; complex (echo,)."""
    phase, magnetisation, echoes = 2 * np.pi * np.arange(n) / n, np.zeros((3, n)), []
    magnetisation[0] = 1
    e1, e2 = np.exp(-echo_spacing / 2 / t1), np.exp(-echo_spacing / 2 / t2)

    def wait(m: np.ndarray) -> np.ndarray:
        turned = (m[0] + 1j * m[1]) * np.exp(1j * phase) * e2
        return np.stack([turned.real, turned.imag, 1 - (1 - m[2]) * e1])

    for angle in np.deg2rad(flip_angles):
        x, y, z = wait(magnetisation)
        c, s = np.cos(angle), np.sin(angle)
        magnetisation = wait(np.stack([x, c * y - s * z, s * y + c * z]))
        echoes.append(np.mean(magnetisation[0] + 1j * magnetisation[1]))
    return np.array(echoes)


@pytest.mark.parametrize("flips", [Space().flip_angles, np.full(12, 180.0), np.linspace(170, 20, 15)])
def test_echoes_are_those_of_dephasing_spins(flips: np.ndarray) -> None:
    echoes = echo_train(flips, echo_spacing=5.84, t1=1000, t2=55)
    np.testing.assert_allclose(echoes, isochromats(flips, 5.84, 1000, 55), atol=1e-12)


def test_full_refocusing_decays_with_t2() -> None:
    echoes = echo_train(np.full(9, 180.0), echo_spacing=6, t1=700, t2=40)
    np.testing.assert_allclose(echoes, np.exp(-6 * np.arange(1, 10) / 40), rtol=1e-12)
    # a single pulse gives the echo of Hahn
    np.testing.assert_allclose(echo_train(np.array([60.0]), echo_spacing=6, t1=700, t2=40), 0.25 * np.exp(-6 / 40))


def test_space_recovers_from_nothing_and_decays() -> None:
    signal = Space().signal(np.array([850.0, 4000.0]), np.array([0.7, 0.5]), np.array([70.0, 2000.0]))
    recovery = 800 - 40 * 5.84
    expected = np.array([0.7 * -np.expm1(-recovery / 850) * np.exp(-23 / 70),
                         0.5 * -np.expm1(-recovery / 4000) * np.exp(-23 / 2000)])  # fmt: skip
    np.testing.assert_allclose(signal, expected, rtol=1e-5)
    assert signal.dtype == np.float32 and signal[0] > 3 * signal[1]  # bright brain, dark CSF


@pytest.mark.parametrize("shape", [(16, 20), (15, 17), (1, 9)])
def test_modulation_falls_from_the_centre_along_the_train(shape: tuple[int, int]) -> None:
    sequence = Space()
    weight = sequence.modulation(shape)
    centre = tuple(n // 2 for n in shape)
    assert weight.shape == shape and weight.dtype == np.float32 and weight[centre] == 1
    echoes = echo_train(sequence.flip_angles, echo_spacing=5.84, t1=1000, t2=55)
    assert sequence.centre_echo == 4
    np.testing.assert_allclose(weight.min(), echoes[-1] / echoes[3], rtol=0.1)
    kz, ky = (2 * (np.arange(n) - n // 2) / n for n in shape)
    distance = np.hypot(kz[:, None], ky[None, :]).ravel()
    order = np.argsort(distance)
    # early echoes swing a little on their way into the steady state
    assert weight.max() < 1.06
    late = weight.ravel()[order][len(order) // 3 :]
    assert late[0] > 4 * late[-1]
    np.testing.assert_allclose(np.sort(late)[::-1], late, atol=1e-6)
    # samples at one distance have one weight, so that the blur is real and even
    np.testing.assert_array_equal(weight[1 - shape[0] % 2 :, 1 - shape[1] % 2 :],
                                  weight[1 - shape[0] % 2 :, 1 - shape[1] % 2 :][::-1, ::-1])  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"tr": 200.0}, "a train of 40 echoes"), ({"te": 300.0}, "a train of 40 echoes"), ({"turbo": 0}, "positive times"),
     ({"flip_low": 150.0}, "refocusing angles"), ({"flip_high": 190.0}, "refocusing angles")],
)  # fmt: skip
def test_an_impossible_space_is_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Space(**settings)
