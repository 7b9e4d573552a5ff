"""Pseudo-multiple replicas: the noise of a reconstruction, measured by sending noise through its frozen chain.

Robson PM et al. Comprehensive quantification of signal-to-noise ratio and g-factor for image-based and k-space-based
parallel imaging reconstructions. MRM 2008;60:895-907.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sn2nlib.fourier import ifft
from sn2nlib.recon.cells import Cells, acquired_lattice
from sn2nlib.recon.coils import combine
from sn2nlib.recon.grappa import GrappaKernel, fill
from sn2nlib.recon.noise import noise_map
from sn2nlib.recon.pairs import Pair, object_region

Mask = NDArray[np.bool_]


def white_noise(shape: Sequence[int], rng: np.random.Generator) -> NDArray[np.complex64]:
    """Noise of whitened k-space: complex64 of SD 1 in the real and 1 in the imaginary part."""
    return rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]


def map_errors(pair: Pair, *, n_replicas: int, rng: np.random.Generator) -> dict[str, float]:
    """How far the analytic noise maps, and with them the g-factors, are from what replicas of noise show.

    Parameters
    ----------
    pair : Pair
        Its kernels and weights are frozen; of its images only the original's object region enters.
    n_replicas : int
        Draws of noise. n of them have a scatter of their own, of 0.34 / √n: 0.024 for 200.
    rng : numpy.random.Generator

    Returns
    -------
    dict
        Median over the object of |analytic SD / SD of the replicas − 1|. ``original`` and ``half``: their lattices
        alone, without calibration lines, continued across the matrix edge where they can be (what g-factors refer to).
        ``original with ACS`` and ``half with ACS``: their samples, reconstructed as the images are.
    """
    chains = _chains(pair)
    power = {name: np.zeros(pair.original.shape, np.float32) for name in chains}
    for _ in range(n_replicas):
        noise = white_noise(pair.weights.shape, rng)
        for name, (kernel, mask, periodic) in chains.items():
            kspace = noise * mask[:, :, None] if kernel is None else fill(noise, mask, kernel, periodic=periodic)
            power[name] += np.abs(combine(ifft(kspace), pair.weights)) ** 2
    inside = object_region(np.abs(pair.original))
    errors = {}
    for name, (kernel, mask, _) in chains.items():
        measured = np.sqrt(power[name][inside] / (2 * n_replicas))
        errors[name] = float(np.median(np.abs(noise_map(kernel, pair.weights, mask=mask)[inside] / measured - 1)))
    return errors


def _chains(pair: Pair) -> dict[str, tuple[GrappaKernel | None, Mask, bool]]:
    """Kernel, samples, and whether they are filled across the edge, for every map that is asked for."""
    chains: dict[str, tuple[GrappaKernel | None, Mask, bool]] = {}
    images = (("original", pair.kernel_original, pair.mask_a | pair.mask_b), ("half", pair.kernel_half, pair.mask_a))
    for name, kernel, mask in images:
        chains[name] = (kernel, *_lattice(mask, kernel))
        chains[f"{name} with ACS"] = (kernel, mask, False)
    return chains


def _lattice(mask: Mask, kernel: GrappaKernel | None) -> tuple[Mask, bool]:
    """The whole lattice that the mask lies on, and whether it continues itself across the matrix edge."""
    if kernel is None:
        return np.ones_like(mask), False
    nz, ny = mask.shape
    lattice = acquired_lattice(mask, kernel.acceleration, kernel.caipi_shift)
    return lattice.points((nz, ny)), Cells((nz, ny, 1), lattice).is_closed
