"""Radial power against spectra that are known."""

import numpy as np
import pytest

from sn2nlib.evaluation.spectrum import radial_power


@pytest.mark.parametrize("shape", [(20, 24, 28), (21, 25, 23)])
def test_white_noise_is_flat_without_its_mean(shape: tuple[int, ...]) -> None:
    found = radial_power(np.random.default_rng(0).standard_normal(shape))
    assert found.shape == (10,)
    assert found[0] == 0
    # shells hold few frequencies near the centre
    np.testing.assert_allclose(found[3:], found[3:].mean(), atol=0.1)


def test_a_wave_has_its_power_in_its_shell() -> None:
    x = np.arange(40)
    image = np.ones((40, 40, 40)) + 0.1 * np.cos(2 * np.pi * 0.325 * x)
    found = radial_power(image)
    assert int(np.argmax(found[1:])) + 1 == 6
    # 0.325 cycles per voxel lie between 0.30 and 0.35
    assert found[6] > found[5] + 10


def test_scale_does_not_matter() -> None:
    image = np.random.default_rng(1).random((16, 16, 16))
    np.testing.assert_allclose(radial_power(5 * image), radial_power(image), atol=1e-6)
