"""Simulated vessel wall scans: black-blood heads in the scanner, with references and known geometry."""

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sn2nlib.evaluation.cohort import readout_step, thin_readout
from sn2nlib.evaluation.noise_levels import References, make_references
from sn2nlib.evaluation.participants import save_references
from sn2nlib.evaluation.vessel_sites import Site, known_sites, write_sites
from sn2nlib.recon.pairs import intensity_scale, object_region, reconstruct, reconstruct_with_noise
from sn2nlib.scans.acquire import acquire, noise_replicas, undersample, with_noise
from sn2nlib.scans.black_blood import VOXEL, BlackBloodHead, black_blood_head
from sn2nlib.scans.images import write_image
from sn2nlib.scans.scan import Scan, save_scan
from sn2nlib.scans.sequence import Space

MATRIX = (64, 112, 96)  # 32×63×54 mm: the circle of Willis, for a first run
COIL_ROOM = 1.35  # tissue fills the field of view to its corners; the coils stay outside of them
# Noise SD in the object over intensity scale. Not stated in the paper. We chose, with the coils, on phantoms outside of
# the study: benchmarks/vessel_wall.py shows how far a wall stands out, and what the Rician floor takes of its contrast.
NOISE_RATIO = 0.025
CAIPIRINHA: dict[str, Any] = {"acceleration": (2, 2), "caipi_shift": 1}
_TRIALS = 4
_TOLERANCE = 0.02  # of the noise ratio


@dataclass(frozen=True)
class VesselScan:
    """A vessel wall scan.

    Attributes
    ----------
    scan
        Undersampled, with noise.
    original : (z, y, x) float32
        Its conventional magnitude image, which needs no truth.
    references
        Fully sampled with noise, and without noise; magnitudes in the units of the scan's images.
    sites
        Cross-sections of known geometry that can be measured in the scan's field of view; nothing reads them before the
        images are finished.
    numbers
        noise_sd (of k-space), noise_over_scale (median in the object over intensity scale, of the conventional image).
    """

    scan: Scan
    original: np.ndarray
    references: References
    sites: tuple[Site, ...]
    numbers: dict[str, float]


def simulate_vessel_scan(
    seed: int,
    *,
    acceleration: tuple[int, int] = CAIPIRINHA["acceleration"],
    caipi_shift: int = CAIPIRINHA["caipi_shift"],
    acs: int | tuple[int, int] = 24,
    recon: Mapping[str, Any] | None = None,
    **settings: Any,
) -> VesselScan:
    """Scan a random black-blood head.

    Parameters
    ----------
    seed
        Of the head, its vessels, image phase, coil noise and noise.
    acceleration, caipi_shift, acs
        Sampling: R = 2×2 with shift 1 as in the paper.
    recon
        Keyword arguments of `sn2nlib.recon.reconstruct`.
    settings
        Of the scanner: matrix (z, y, x) = (anterior, right, superior), voxel_size in mm, n_coils; sequence, SPACE (with
        `blur` its train weights k-space, the noise-free reference too); noise_ratio, the noise SD in the object over
        the intensity scale of the conventional R = 2×2 CAIPIRINHA image, reached within 2 % (else a warning). And of
        the head, as `sn2nlib.scans.black_blood.black_blood_head`: age, sex, centre, oversampling, plaques, ….

    Returns
    -------
    VesselScan
    """
    recon = dict(recon or {})
    phantom, clean, full, numbers = _scanned(seed, acs=acs, recon=recon, **settings)
    sites = known_sites(phantom.vessels, clean.shape, clean.affine, sheath=phantom.sheath)
    scan = undersample(full, acceleration=acceleration, caipi_shift=caipi_shift, acs=acs)
    return VesselScan(
        scan=scan,
        original=np.abs(reconstruct(scan, **recon)),
        references=make_references(clean, full, recon=recon),
        sites=tuple(sites),
        numbers=numbers,
    )


def simulate_training_scan(
    seed: int, *, acs: int = 24, recon: Mapping[str, Any] | None = None, **settings: Any
) -> Scan:
    """A vessel wall scan to learn from, at R = 2×1: the halves of a 2×2 scan would be undersampled eightfold.

    The same scanner as in `simulate_vessel_scan`: the noise of its samples is the one at which a CAIPIRINHA image has
    the `noise_ratio`. Parameters as there.
    """
    _, _, full, _ = _scanned(seed, acs=acs, recon=dict(recon or {}), **settings)
    return undersample(full, acceleration=(2, 1), acs=acs)


def _scanned(
    seed: int,
    *,
    matrix: tuple[int, int, int] = MATRIX,
    voxel_size: tuple[float, float, float] = VOXEL,
    n_coils: int = 12,
    sequence: Space | None = None,
    noise_ratio: float = NOISE_RATIO,
    acs: int | tuple[int, int],
    recon: dict[str, Any],
    **head: Any,
) -> tuple[BlackBloodHead, Scan, Scan, dict[str, float]]:
    """Head, fully sampled scan without and with noise, and the numbers of `VesselScan`."""
    phantom = black_blood_head(seed, matrix=matrix, voxel_size=voxel_size, **head)
    clean = acquire(
        phantom, matrix=matrix, voxel_size=voxel_size, n_coils=n_coils, sequence=sequence or Space(), seed=seed,
        acceleration=(1, 1), acs=None, noise_sd=0, coil_room=COIL_ROOM,
    )  # fmt: skip
    noise_sd, reached = _noise_for_ratio(clean, noise_ratio, seed, {**CAIPIRINHA, "acs": acs}, recon)
    numbers = {"noise_sd": noise_sd, "noise_over_scale": reached}
    return phantom, clean, with_noise(clean, noise_sd, seed=seed), numbers


def replica_images(scan: Scan, n: int, *, seed: int, recon: Mapping[str, Any] | None = None) -> Iterator[np.ndarray]:
    """Conventional magnitude images (z, y, x) float32 of `noise_replicas`, one at a time.

    Kernels and weights are estimated anew from each, as from repeated scans.
    """
    for replica in noise_replicas(scan, n, seed=seed):
        yield np.abs(reconstruct(replica, **dict(recon or {})))


def save_vessel_scan(made: VesselScan, folder: str | os.PathLike[str], name: str) -> None:
    """Write what a clinic would hand over, and apart from it what only a phantom has.

    ``<name>.nii.gz`` is the conventional image (RAS+ affine, coronal), ``scans/<name>.h5`` the scan,
    ``references/<name>.npz`` full_sampled, noise_free, head, and ``rois/<name>.csv`` the sites.
    """
    folder = Path(folder)
    for part in ("scans", "references", "rois"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    save_scan(made.scan, folder / "scans" / f"{name}.h5", overwrite=True)
    none = np.zeros(made.scan.shape, bool)
    save_references(folder / "references" / f"{name}.npz", made.references, csf=none)
    write_sites(made.sites, folder / "rois" / f"{name}.csv")
    write_image(
        made.original, folder / f"{name}.nii.gz", affine=made.scan.affine, overwrite=True,
        description="digital phantom, vessel wall, magnitude",
    )  # fmt: skip


def _noise_for_ratio(
    clean: Scan, ratio: float, seed: int, sampling: Mapping[str, Any], recon: Mapping[str, Any]
) -> tuple[float, float]:
    """Noise SD of k-space for this ratio, and the ratio reached, on every fourth or fifth image plane.

    A ratio that is not reached within 2 % is a warning.
    """
    thin = thin_readout(clean, readout_step(clean.shape[2]))
    noise_sd = 0.4 * ratio
    for _ in range(_TRIALS):
        trial = undersample(with_noise(thin, noise_sd, seed=seed), **sampling)
        image, noise_map, _ = reconstruct_with_noise(trial, **recon)
        assert noise_map is not None
        magnitude = np.abs(image)
        found = float(np.median(noise_map[object_region(magnitude)])) / intensity_scale(magnitude)
        if abs(found / ratio - 1) < _TOLERANCE:
            return noise_sd, found
        tried, noise_sd = noise_sd, noise_sd * ratio / found
    warnings.warn(
        f"the noise is {found:.4f} of the intensity scale where {ratio:.4f} were asked for; "
        "ask for another noise ratio, more coils or more ACS lines",
        stacklevel=2,
    )
    return tried, found
