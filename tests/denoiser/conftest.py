"""Small pairs with a known truth: blocks of tissue in air, white complex noise of a known SD in each half."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sn2nlib.denoiser import TrainingVolume, training_volume


def noise(shape: tuple[int, ...], sd: float, rng: np.random.Generator) -> np.ndarray:
    return (sd * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))).astype(np.complex64)


def make_pair(
    *, shape: tuple[int, int, int] = (16, 41, 46), sd: float = 0.1, seed: int = 0, gain: float = 1.0
) -> SimpleNamespace:
    """Halves with independent noise of `sd`·`gain`; the original is their mean; `truth` is noise-free."""
    rng = np.random.default_rng(seed)
    truth = np.where(gaussian_filter(rng.standard_normal(shape), 2.5) > 0, 1.0, 0.6)
    truth[:, :10] = 0  # air
    half_a, half_b = (gain * (truth + noise(shape, sd, rng)).astype(np.complex64) for _ in range(2))
    return SimpleNamespace(
        original=(half_a + half_b) / 2, half_a=half_a, half_b=half_b, scale=gain, truth=gain * truth,
        noise_sd=np.full(shape, gain * sd / np.sqrt(2), np.float32),
        noise_sd_half=np.full(shape, gain * sd, np.float32),
    )


@pytest.fixture(scope="session")
def pair() -> SimpleNamespace:
    return make_pair()


@pytest.fixture(scope="session")
def volumes() -> list[TrainingVolume]:
    return [training_volume(make_pair(seed=seed, shape=(12, 40 + seed, 33))) for seed in range(2)]
