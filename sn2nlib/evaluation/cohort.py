"""Simulated participants: scans at the noise that the protocol asks for.

Training and validation scans get the σ at which the noise SD in the head over the intensity scale is a drawn number;
quantitative scans the σ at which the conventional image has a drawn PSNR. Both are found by reconstructing a few trial
scans of every fourth or fifth image plane.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sn2nlib.errors import ScanError
from sn2nlib.evaluation.metrics import psnr
from sn2nlib.fourier import fft, ifft
from sn2nlib.recon.noise import whiten, whitening_matrix
from sn2nlib.recon.pairs import Pair, make_pair, object_region, reconstruct
from sn2nlib.scans.acquire import undersample, with_noise
from sn2nlib.scans.scan import Scan

FIRST_GUESS = 0.02  # noise SD in intensity units where the search begins
MAX_STEP = 5  # of the readout planes that trial scans keep
TOLERANCE = 0.1  # dB
NEAR = 0.3  # dB: a scan that misses its PSNR by more is told about
_TRIALS = 6


def readout_step(n: int) -> int:
    """Largest divisor of `n`, at most 5, that leaves 16 planes or more."""
    return max(step for step in range(1, MAX_STEP + 1) if n % step == 0 and (step == 1 or n // step >= 16))


def readout_planes(n: int, step: int) -> slice:
    """Every `step`-th of `n` planes, the centre n//2 among them, in the place of the thinned readout's own centre."""
    return slice(n // 2 - step * (n // step // 2), None, step)


def thin_readout(scan: Scan, step: int) -> Scan:
    """Every `step`-th image plane along the readout, as a scan of its own: the same problem, `step` times smaller.

    The readout is fully sampled, so its Fourier transform separates the planes x. A GRAPPA kernel meets the plane x as
    the phase e^(2πi·o·x/N) of its readout offset o, and x = step·x' on N = step·N' is the plane x' on N': the kernel is
    the same. Intensities and noise SD per voxel stay what they are.

    Parameters
    ----------
    scan
        kx of a length that `step` divides.
    step
        Which planes are kept: see `readout_planes`.

    Returns
    -------
    Scan

    Raises
    ------
    ScanError
        If `step` does not divide the readout.
    """
    n = scan.shape[2]
    if n % step:
        raise ScanError(f"{n} readout planes cannot be thinned {step} times; take a divisor")
    kept = readout_planes(n, step)
    planes = ifft(scan.kspace, axes=(-1,))[..., kept]
    affine = np.array(scan.affine, dtype=float)
    affine[:3, 3] += kept.start * affine[:3, 0]
    affine[:3, 0] *= step
    return replace(
        scan,
        kspace=np.ascontiguousarray(fft(planes, axes=(-1,)), np.complex64),
        voxel_size=(scan.voxel_size[0], scan.voxel_size[1], scan.voxel_size[2] * step),
        affine=affine,
    )


def noise_over_scale(pair: Pair) -> float:
    """Median noise SD of the original inside the head, over its intensity scale."""
    inside = object_region(np.abs(pair.original))
    return float(np.median(pair.noise_sd[inside]) / pair.scale)


def trial_pair(scan: Scan, **recon: Any) -> Pair:
    """`make_pair` of a scan whose original alone is of interest: without its warning about noisy halves."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the median g-factor of a half image", category=UserWarning)
        return make_pair(scan, **recon)


def scan_at_noise_ratio(
    clean: Scan,
    ratio: float,
    *,
    seed: int,
    recon: Mapping[str, Any] | None = None,
    **sampling: Any,
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
    recon
        Keyword arguments of `sn2nlib.recon.make_pair`.
    sampling
        Keyword arguments of `sn2nlib.scans.acquire.undersample`.

    Returns
    -------
    scan, ratio
        Fully sampled scan, and the ratio reached: within 1 %, on trial scans of every fourth or fifth image plane.
    """
    trial = _trials(clean, seed)
    recon, noise_sd = dict(recon or {}), FIRST_GUESS
    for _ in range(_TRIALS):
        found = noise_over_scale(trial_pair(undersample(trial(noise_sd), **sampling), **recon))
        if abs(found / ratio - 1) < 0.01:
            break
        noise_sd *= ratio / found
    return with_noise(clean, noise_sd, seed=seed), found


def scan_at_psnr(
    clean: Scan,
    target: float,
    *,
    seed: int,
    recon: Mapping[str, Any] | None = None,
    **sampling: Any,
) -> tuple[Scan, float]:
    """The fully sampled scan with the noise at which its undersampled reconstruction has the PSNR `target`.

    The mean squared error is followed as a + b σ² (aliasing and noise) until it gives the target: first on trial scans
    of every fourth or fifth image plane, with the data range of all planes, then, with the aliasing found there, on
    the whole scan, to 0.1 dB or at most three times.

    Parameters
    ----------
    clean
        Fully sampled, from `acquire(…, noise_sd=0)`.
    target
        PSNR in dB of the conventional image against the fully sampled one, whole volume.
    seed
        Of the noise.
    recon
        Keyword arguments of `sn2nlib.recon.reconstruct`.
    sampling
        Keyword arguments of `sn2nlib.scans.acquire.undersample`.

    Returns
    -------
    scan, psnr
        Fully sampled scan, and the PSNR reached.

    Raises
    ------
    ScanError
        If the conventional image stays 3 dB or more below the target; a miss of more than 0.3 dB is a warning.
    """
    trial = _trials(clean, seed)
    recon = dict(recon or {})
    headroom = _brightest(clean, trial(1.0).noise) / _brightest(trial(0.0), trial(1.0).noise)

    def psnr_of(scan: Scan, headroom: float = 1.0) -> float:
        reference = np.abs(reconstruct(scan, **recon))
        original = np.abs(reconstruct(undersample(scan, **sampling), **recon))
        return psnr(original, reference, data_range=headroom * float(reference.max()))

    found = _noise_for(lambda sd: psnr_of(trial(sd), headroom), target, FIRST_GUESS, evaluations=5)
    found = _noise_for(
        lambda sd: psnr_of(with_noise(clean, sd, seed=seed)), target, found.noise_sd, floor=found.floor, evaluations=3
    )
    if found.psnr < target - 3:
        raise ScanError(
            f"a PSNR of {target:.1f} dB is out of reach: the conventional image has {found.psnr:.1f} dB at best; "
            "ask for a lower PSNR, more coils or more ACS lines"
        )
    if abs(found.psnr - target) > NEAR:
        warnings.warn(
            f"the conventional image has a PSNR of {found.psnr:.2f} dB where {target:.2f} dB were asked for; what "
            "GRAPPA leaves of the aliasing may stand in the way: ask for a lower PSNR, more coils or more ACS lines",
            stacklevel=2,
        )
    return with_noise(clean, found.noise_sd, seed=seed), found.psnr


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


def _trials(clean: Scan, seed: int) -> Callable[[float], Scan]:
    """Noise SD → thinned scan, from one noise draw: that of `with_noise(clean, …, seed=seed)`."""
    step = readout_step(clean.shape[2])
    thin, unit = thin_readout(clean, step), thin_readout(with_noise(clean, 1.0, seed=seed), step)
    noise, noise_scan = unit.kspace - thin.kspace, unit.noise
    assert noise_scan is not None

    def trial(noise_sd: float) -> Scan:
        sd = np.float32(noise_sd)
        return replace(thin, kspace=thin.kspace + sd * noise, noise=sd * noise_scan)

    return trial


def _brightest(scan: Scan, noise: np.ndarray | None) -> float:
    """Largest root sum of squares of the coil images, whitened by `noise`."""
    assert noise is not None
    power = np.zeros(scan.shape, np.float32)
    for coil in whiten(scan.kspace, whitening_matrix(noise)):
        power += np.abs(ifft(coil)) ** 2
    return float(np.sqrt(power.max()))


class _Found(NamedTuple):
    noise_sd: float
    psnr: float
    floor: float  # mean squared error without noise, over the squared data range


def _noise_for(
    psnr_at: Callable[[float], float], target: float, noise_sd: float, *, evaluations: int, floor: float = 0.0
) -> _Found:
    """Noise SD at which `psnr_at` is within 0.1 dB of `target`, by secants of the squared error over the variance."""
    wanted, points = 10 ** (-target / 10), [(0.0, floor)]
    for _ in range(evaluations):
        points.append((noise_sd**2, 10 ** (-psnr_at(noise_sd) / 10)))
        (x0, y0), (x1, y1) = points[-2:]
        if abs(10 * np.log10(y1 / wanted)) < TOLERANCE:
            break
        slope = (y1 - y0) / (x1 - x0) if x1 != x0 else y1 / x1
        variance = x1 + (wanted - y1) / slope if slope > 0 else 0.0
        # aliasing alone may exceed the target, and then no noise is small enough
        noise_sd = float(np.sqrt(np.clip(variance, x1 / 25, 25 * x1)))
    best = min(points[1:], key=lambda point: abs(np.log(point[1] / wanted)))
    (x0, y0), (x1, y1) = points[1], points[-1]
    intercept = y1 - x1 * (y1 - y0) / (x1 - x0) if x1 != x0 else floor
    return _Found(float(np.sqrt(best[0])), float(-10 * np.log10(best[1])), float(np.clip(intercept, 0, 0.9 * wanted)))
