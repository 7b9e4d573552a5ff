"""Simulated participants: scans at the noise that the protocol asks for.

Training and validation scans get the σ at which the noise SD in the head over the intensity scale is a drawn number;
quantitative scans the σ at which the conventional image has a drawn PSNR. Both are found by reconstructing.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from sn2nlib.errors import ScanError
from sn2nlib.evaluation.metrics import psnr
from sn2nlib.recon.pairs import Pair, make_pair, object_region, reconstruct
from sn2nlib.scans.acquire import undersample, with_noise
from sn2nlib.scans.scan import Scan

FIRST_GUESS = 0.02  # noise SD in intensity units where the search begins


def noise_over_scale(pair: Pair) -> float:
    """Median noise SD of the original inside the head, over its intensity scale."""
    inside = object_region(np.abs(pair.original))
    return float(np.median(pair.noise_sd[inside]) / pair.scale)


def scan_at_noise_ratio(
    clean: Scan, ratio: float, *, seed: int, acceleration: tuple[int, int] = (2, 1), acs: int = 24, **recon: Any
) -> tuple[Scan, float]:
    """The fully sampled scan with the noise at which its undersampled reconstruction has this `noise_over_scale`.

    Parameters
    ----------
    clean
        Fully sampled, from `acquire(…, noise_sd=0)`.
    ratio
        Noise SD in the head over intensity scale, for example 0.03.
    seed
        Of the noise.
    acceleration, acs
        Of the retrospective undersampling.
    recon
        Passed to `make_pair`.

    Returns
    -------
    scan, ratio
        Fully sampled scan, and the ratio reached: within 2 %, after at most three reconstructions.
    """
    noise_sd = FIRST_GUESS
    for _ in range(3):
        scan = with_noise(clean, noise_sd, seed=seed)
        found = noise_over_scale(make_pair(undersample(scan, acceleration=acceleration, acs=acs), **recon))
        if abs(found / ratio - 1) < 0.02:
            break
        noise_sd *= ratio / found
    return scan, found


def scan_at_psnr(
    clean: Scan, target: float, *, seed: int, acceleration: tuple[int, int] = (2, 1), acs: int = 24, **recon: Any
) -> tuple[Scan, float]:
    """The fully sampled scan with the noise at which its undersampled reconstruction has the PSNR `target`.

    Parameters
    ----------
    clean
        Fully sampled, from `acquire(…, noise_sd=0)`.
    target
        PSNR in dB of the conventional image against the fully sampled one, whole volume.
    seed
        Of the noise.
    acceleration, acs
        Of the retrospective undersampling.
    recon
        Passed to `reconstruct`.

    Returns
    -------
    scan, psnr
        Fully sampled scan, and the PSNR reached: within 0.1 dB, after at most four pairs of reconstructions.

    Raises
    ------
    ScanError
        If even without noise the conventional image stays below the target.
    """
    noise_sd, best = FIRST_GUESS, None
    for _ in range(4):
        scan = with_noise(clean, noise_sd, seed=seed)
        reference = np.abs(reconstruct(scan, **recon))
        original = np.abs(reconstruct(undersample(scan, acceleration=acceleration, acs=acs), **recon))
        found = psnr(original, reference, data_range=float(reference.max()))
        if best is None or abs(found - target) < abs(best[1] - target):
            best = (scan, found)
        if abs(found - target) < 0.1:
            break
        noise_sd *= 10 ** ((found - target) / 20)
    assert best is not None
    if best[1] < target - 3:
        raise ScanError(
            f"a PSNR of {target:.1f} dB is out of reach: the conventional image has {best[1]:.1f} dB at best; "
            "ask for a lower PSNR, more coils or more ACS lines"
        )
    return best


def noise_free_image(clean: Scan, scan: Scan, **recon: Any) -> np.ndarray:
    """Magnitude of the fully sampled noise-free scan, in the intensity units of `scan` (same whitening).

    Parameters
    ----------
    clean
        Fully sampled, without noise.
    scan
        The same with noise and its noise scan.

    Returns
    -------
    (z, y, x) float32
    """
    return np.abs(reconstruct(replace(clean, noise=scan.noise), **recon))
