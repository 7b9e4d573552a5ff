"""A small multi-coil object whose image, coil maps and k-space are known."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from sn2nlib.fourier import fft
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans.scan import Scan


@dataclass(frozen=True)
class Phantom:
    """image (z, y, x), maps (coil, z, y, x) with Σ|s|² ≤ 1, kspace (coil, kz, ky, kx) without noise."""

    image: np.ndarray
    maps: np.ndarray
    kspace: np.ndarray

    @property
    def head(self) -> np.ndarray:
        return self.image > 0


def complex_noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Whitened noise: SD 1 in the real and in the imaginary part."""
    return (rng.standard_normal((*shape, 2), np.float32).view(np.complex64))[..., 0]


def make_phantom(shape: tuple[int, int, int, int], signal: float = 40.0) -> Phantom:
    """A textured ellipsoid of intensity about `signal`, seen by loops at two heights around it."""
    n_coils, *size = shape
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in size), indexing="ij")
    inside = (z / 0.8) ** 2 + (y / 0.85) ** 2 + (x / 0.7) ** 2 < 1
    image = signal * inside * (1 + 0.5 * np.sin(9 * x) * np.cos(7 * y) * np.cos(5 * z))
    maps = []
    for coil, angle in enumerate(2 * np.pi * np.arange(n_coils) / n_coils):
        height = 0.45 - 0.9 * (coil % 2)
        distance = (x - 1.3 * np.cos(angle)) ** 2 + (y - 1.3 * np.sin(angle)) ** 2 + (z + height) ** 2
        phase = 2 * x * np.cos(angle) + 2 * y * np.sin(angle) + angle
        maps.append((1 + distance) ** -1.5 * np.exp(1j * phase))
    sensitivities = np.stack(maps)
    sensitivities /= np.sqrt((np.abs(sensitivities) ** 2).sum(axis=0)).max()
    kspace = fft((sensitivities * image).astype(np.complex64))
    return Phantom(image, sensitivities, kspace)


def make_scan(phantom: Phantom, *, seed: int = 0, sigma: float = 1.0, **sampling: object) -> Scan:
    """The phantom with noise of `sigma` per component and a noise scan; `sampling` as for `lattice_mask`."""
    rng = np.random.default_rng(seed)
    mask = lattice_mask(phantom.kspace.shape[1:3], **sampling)  # type: ignore[arg-type]
    noisy = (phantom.kspace + sigma * complex_noise(phantom.kspace.shape, rng)).astype(np.complex64)
    noise = sigma * complex_noise((phantom.kspace.shape[0], 20000), rng)
    return Scan(
        kspace=noisy * mask[:, :, None],
        mask=mask,
        acceleration=sampling.get("acceleration", (2, 1)),  # type: ignore[arg-type]
        caipi_shift=sampling.get("caipi_shift", 0),  # type: ignore[arg-type]
        noise=noise.astype(np.complex64),
    )


@pytest.fixture
def phantom() -> Callable[..., Phantom]:
    return make_phantom


@pytest.fixture
def scan_of() -> Callable[..., Scan]:
    return make_scan


@pytest.fixture
def white_noise() -> Callable[..., np.ndarray]:
    return complex_noise
