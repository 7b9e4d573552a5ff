"""One participant at a time: from a row of the manifest to a scan, its references, and what is to be told about it."""

import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sn2nlib.evaluation.cohort import (
    noise_free_image,
    noise_over_scale,
    readout_planes,
    readout_step,
    scan_at_noise_ratio,
    scan_at_psnr,
    thin_readout,
    trial_pair,
)
from sn2nlib.evaluation.metrics import psnr
from sn2nlib.evaluation.noise_levels import SAMPLING, References, make_references
from sn2nlib.evaluation.regions import head_mask, tissue_core
from sn2nlib.provenance import atomic_write, write_json
from sn2nlib.recon.noise import g_factor
from sn2nlib.recon.pairs import Pair, intensity_scale, reconstruct
from sn2nlib.scans.acquire import acquire, undersample
from sn2nlib.scans.heads import TISSUES, Head, digital_head, read_head
from sn2nlib.scans.manifest import fetch, load_sources
from sn2nlib.scans.scan import Scan, save_scan

_NORMAL = 1.4826  # SD of normal noise over its median absolute value


@dataclass(frozen=True)
class Simulated:
    """A participant in the simulated scanner.

    Attributes
    ----------
    scan
        Fully sampled, with noise.
    references
        None where nobody asked for them.
    csf : (z, y, x) bool
        Voxels wholly inside CSF; none for a real head.
    numbers
        noise_sd (of k-space, per component, in intensity units), noise_over_scale (median in the head over the
        intensity scale, conventional image), psnr_original (dB, conventional against fully sampled image), psnr_region
        (over what), wm_snr (mean noise-free WM signal over the noise SD there; NaN for a real head).
    """

    scan: Scan
    references: References | None
    csf: np.ndarray
    numbers: dict[str, Any]


def stratified_draws(n: int, seed: int) -> np.ndarray:
    """Draws from (0, 1), one in each of `n` equal parts, in random order: a few scans cover the range as many would.

    Returns
    -------
    (n,) float64
    """
    rng = np.random.default_rng([seed, n])
    return (rng.permutation(n) + rng.uniform(0.05, 0.95, n)) / n


def participant_seed(participant: str, seed: Any = None) -> int:
    """The seed of the manifest; for a real head, which has none there (None or missing), one made from its name."""
    return zlib.crc32(participant.encode()) if pd.isna(seed) else int(seed)


def draw_lesions(seed: int, age: float) -> int:
    """Number of white-matter lesions of a digital head: Poisson, one more per ten years beyond 45."""
    return int(np.random.default_rng([seed, 4]).poisson(max(age - 45, 0) / 10))


def participant_head(
    participant: str,
    *,
    seed: int | None = None,
    age: float | None = None,
    sex: str | None = None,
    matrix: tuple[int, int, int],
    voxel_size: tuple[float, float, float],
    manifest: str | os.PathLike[str],
) -> Head:
    """The head of a participant: a digital one from its seed, a real one from its source.

    Parameters
    ----------
    participant
        Name in the manifest.
    seed
        None: a real head, whose source bears the participant's name.
    age, sex
        Of a digital head.
    matrix, voxel_size
        (z, y, x) of the scan to come, and its voxels in mm; a real head has its own.
    manifest
        The ``data_manifest`` folder.

    Raises
    ------
    SourceUnavailable
        If a real head can be had neither from disk nor from its source.
    """
    if seed is None:
        return read_head(fetch(load_sources(manifest)[participant]), name=participant)
    age = 55.0 if age is None else float(age)
    lesions = draw_lesions(seed, age)
    return digital_head(seed, matrix=matrix, voxel_size=voxel_size, age=age, sex=sex, lesions=lesions, name=participant)


def simulate_participant(
    head: Head,
    *,
    seed: int,
    noise_ratio: float | None = None,
    target_psnr: float | None = None,
    with_references: bool = True,
    acceleration: tuple[int, int] = (2, 1),
    caipi_shift: int = 0,
    acs: int = 24,
    partial_fourier: tuple[float, float] = (1.0, 1.0),
    recon: Mapping[str, Any] | None = None,
    **acquisition: Any,
) -> Simulated:
    """Scan a head at the noise that the protocol asks for.

    Parameters
    ----------
    head
        Digital or real.
    seed
        Of coil noise correlation, image phase, and noise.
    noise_ratio, target_psnr
        One of them: noise SD over intensity scale (training and validation), or PSNR in dB (tests).
    with_references
        Also reconstruct the fully sampled and the noise-free image.
    acceleration, caipi_shift, acs, partial_fourier
        Of the retrospective undersampling that the noise refers to.
    recon
        Keyword arguments of `sn2nlib.recon.reconstruct`.
    acquisition
        Keyword arguments of `sn2nlib.scans.acquire`: matrix, voxel_size, n_coils, sequence.

    Raises
    ------
    ValueError
        If not exactly one of `noise_ratio` and `target_psnr` is given.
    """
    if (noise_ratio is None) == (target_psnr is None):
        raise ValueError("give either noise_ratio or target_psnr, as the participant's set asks for")
    recon = dict(recon or {})
    sampling: dict[str, Any] = {
        "acceleration": acceleration, "caipi_shift": caipi_shift, "acs": acs, "partial_fourier": partial_fourier
    }  # fmt: skip
    clean = acquire(head, **acquisition, acceleration=(1, 1), acs=None, noise_sd=0, seed=seed)
    reached: float | None = None
    if noise_ratio is not None:
        scan, _ = scan_at_noise_ratio(clean, noise_ratio, seed=seed, recon=recon, **sampling)
    else:
        assert target_psnr is not None
        scan, reached = scan_at_psnr(clean, target_psnr, seed=seed, recon=recon, **sampling)
    references = make_references(clean, scan, recon=recon) if with_references else None
    numbers = _thinned_numbers(head, clean, scan, sampling, recon)
    if reached is None and references is not None:
        original = np.abs(reconstruct(undersample(scan, **sampling), **recon))
        reached = psnr(original, references.full_sampled, data_range=float(references.full_sampled.max()))
    if reached is not None:
        numbers |= {"psnr_original": reached, "psnr_region": "volume"}
    return Simulated(scan, references, _core(head, "CSF", scan.shape), numbers)


def scan_participant(
    participant: str,
    *,
    seed: int | None,
    age: float | None,
    sex: str | None,
    scans: str | os.PathLike[str],
    references: str | os.PathLike[str],
    manifest: str | os.PathLike[str],
    keep_full: bool,
    **settings: Any,
) -> dict[str, Any]:
    """Simulate one participant and write ``references/<name>.npz`` (if asked for), ``scans/<name>.h5``, and, last, its
    numbers as ``scans/<name>.json``.

    Parameters
    ----------
    participant, seed, age, sex
        Of the manifest.
    scans, references
        Folders.
    manifest
        The ``data_manifest`` folder.
    keep_full
        Write the fully sampled scan; else the undersampled one.
    settings
        As `simulate_participant`; matrix and voxel_size are needed.

    Returns
    -------
    participant, the numbers of `Simulated`, matrix and voxel size (z, y, x) of the scan, own_noise_over_scale (a real
    head's own noise, else NaN), seconds.

    Raises
    ------
    SourceUnavailable
        For a real head that cannot be had.
    """
    begun = time.monotonic()
    size = {"matrix": settings["matrix"], "voxel_size": settings["voxel_size"]}
    head = participant_head(participant, seed=seed, age=age, sex=sex, manifest=manifest, **size)
    made = simulate_participant(head, seed=participant_seed(participant, seed), **settings)
    scan = made.scan
    own = float("nan")
    if made.references is not None:
        truth = made.references.noise_free
        own = own if head.is_digital else own_noise(truth) / intensity_scale(truth)
        save_references(Path(references) / f"{participant}.npz", made.references, csf=made.csf)
    if not keep_full:
        sampling = {name: settings[name] for name in SAMPLING if name in settings}
        scan = undersample(scan, **sampling)
    save_scan(scan, Path(scans) / f"{participant}.h5", overwrite=True)
    numbers = made.numbers | {
        "matrix": "×".join(str(n) for n in scan.shape),
        "voxel": "×".join(f"{size:.2f}" for size in scan.voxel_size),
        "own_noise_over_scale": own,
        "seconds": round(time.monotonic() - begun, 1),
    }
    write_json(Path(scans) / f"{participant}.json", numbers)
    return {"participant": participant} | numbers


def save_references(path: str | os.PathLike[str], references: References, *, csf: np.ndarray) -> None:
    """Write full_sampled, noise_free (float32), head and csf (bool), all (z, y, x), as .npz; whole or not at all."""
    with atomic_write(path) as temporary:
        np.savez(
            temporary,
            full_sampled=references.full_sampled.astype(np.float32),
            noise_free=references.noise_free.astype(np.float32),
            head=references.head,
            csf=csf,
        )


def pair_numbers(pair: Pair, systematic: np.ndarray | None) -> dict[str, float]:
    """What there is to tell about a pair of half images, inside the head.

    Parameters
    ----------
    pair
        From `sn2nlib.recon.make_pair`.
    systematic : (z, y, x) complex
        E[A] − E[B], from `sn2nlib.recon.systematic_difference`; None where it is not known, as in real scans.

    Returns
    -------
    noise_over_scale, noise_over_scale_half (median noise SD over the intensity scale), g_original, g_half (median
    g-factor, against the share of samples that each image has), systematic_over_noise (RMS of the systematic difference
    over the RMS noise SD per component of a half; NaN if not known).
    """
    head = head_mask(np.abs(pair.original))
    sd, sd_half = pair.noise_sd[head], pair.noise_sd_half[head]
    n, mask = pair.kx_share * pair.mask_a.size, pair.mask_a | pair.mask_b
    ratio = float("nan")
    if systematic is not None:
        ratio = float(np.sqrt(np.mean(np.abs(systematic[head]) ** 2) / np.mean(sd_half**2)))
    return {
        "noise_over_scale": float(np.median(sd)) / pair.scale,
        "noise_over_scale_half": float(np.median(sd_half)) / pair.scale,
        "g_original": float(np.median(g_factor(sd, n / np.count_nonzero(mask)))),
        "g_half": float(np.median(g_factor(sd_half, n / np.count_nonzero(pair.mask_a)))),
        "systematic_over_noise": ratio,
    }


def own_noise(image: np.ndarray) -> float:
    """Noise SD that an image brings along, from its middle third: an upper bound, since fine anatomy counts as noise.

    From the median absolute value of differences of neighbours taken along z, y and x in turn: √8 times the SD of white
    noise, and hardly anything of smooth anatomy.

    Parameters
    ----------
    image : (z, y, x)
        Magnitude of a head that fills the field of view; its empty background does not matter.
    """
    middle = np.asarray(image, np.float64)[tuple(slice(n // 3, n - n // 3) for n in image.shape)]
    for axis in range(3):
        middle = np.diff(middle, axis=axis)
    return float(_NORMAL * np.median(np.abs(middle)) / np.sqrt(8))


def _thinned_numbers(
    head: Head, clean: Scan, scan: Scan, sampling: Mapping[str, Any], recon: Mapping[str, Any]
) -> dict[str, Any]:
    """Noise over scale, PSNR and WM SNR, on every fourth or fifth image plane of the readout."""
    step = readout_step(scan.shape[2])
    thin = thin_readout(scan, step)
    pair = trial_pair(undersample(thin, **sampling), **recon)
    reference = np.abs(reconstruct(thin, **recon))
    white_matter = _core(head, "WM", scan.shape)[..., readout_planes(scan.shape[2], step)]
    snr = float("nan")
    if white_matter.any():
        truth = noise_free_image(thin_readout(clean, step), thin, **recon)
        snr = float(truth[white_matter].mean() / pair.noise_sd[white_matter].mean())
    return {
        "noise_sd": float(scan.info["noise_sd"]),
        "noise_over_scale": noise_over_scale(pair),
        "psnr_original": psnr(np.abs(pair.original), reference, data_range=float(reference.max())),
        "psnr_region": f"1 of {step} readout planes",
        "wm_snr": snr,
    }


def _core(head: Head, tissue: str, shape: tuple[int, int, int]) -> np.ndarray:
    if head.tissue is None:
        return np.zeros(shape, bool)
    return tissue_core(head.tissue, TISSUES.index(tissue), shape)
