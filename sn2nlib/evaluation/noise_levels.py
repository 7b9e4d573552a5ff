"""The Table 2 experiment on one head: seven noise levels, two arms, two references, two regions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sn2nlib.evaluation.cohort import noise_free_image, scan_at_psnr
from sn2nlib.evaluation.metrics import image_quality
from sn2nlib.evaluation.regions import air_mask, head_mask
from sn2nlib.recon.pairs import reconstruct
from sn2nlib.scans.acquire import acquire, add_noise, undersample
from sn2nlib.scans.heads import Head
from sn2nlib.scans.scan import Scan

SAMPLING = ("acceleration", "caipi_shift", "acs", "partial_fourier")  # arguments of `undersample`
LEVELS = (0, 0.5, 1, 1.5, 2, 2.5, 3)
DEMO = {"matrix": (128, 160, 160), "voxel_size": (1.35, 1.35, 1.35), "coils": 10, "target_psnr": 41.2}
Denoise = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class References:
    """What a scan's images are compared with; all (z, y, x), one intensity unit.

    Attributes
    ----------
    full_sampled : float32
        Magnitude of the fully sampled scan, with its own noise: the paper's reference.
    noise_free : float32
        Magnitude before simulated noise; for a real head this still holds its own scanner noise.
    head : bool
        The head, from the noise-free image.
    """

    full_sampled: np.ndarray
    noise_free: np.ndarray
    head: np.ndarray

    @property
    def regions(self) -> dict[str, np.ndarray | None]:
        """`volume` (the paper's) and `head`."""
        return {"volume": None, "head": self.head}


def model_experiment(
    metadata: Mapping[str, Any],
    *,
    matrix: tuple[int, int, int] | None = None,
    voxel_size: tuple[float, float, float] | None = None,
    n_coils: int | None = None,
    target_psnr: float | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The experiment as the study that trained a model does it: what is asked for first, then the model's own values.

    Parameters
    ----------
    metadata
        Of `model.json`, from notebook 03: acquisition, recon and target_psnr. What it lacks, as the metadata of
        `sn2n train` does, is taken from the demo profile.
    matrix, voxel_size, n_coils, target_psnr
        As `prepare_head`; None: the model's.

    Returns
    -------
    preparation, sampling
        Keyword arguments of `prepare_head` alone, and those of `prepare_head` and `measure_scan`.
    """
    acquisition = dict(metadata.get("acquisition") or {})
    recon = {name: _as_tuple(value) for name, value in dict(metadata.get("recon") or {}).items()}
    known = DEMO | {"target_psnr": metadata.get("target_psnr") or DEMO["target_psnr"]} | acquisition
    asked = {"matrix": matrix, "voxel_size": voxel_size, "coils": n_coils, "target_psnr": target_psnr}
    chosen = {name: _as_tuple(known[name] if value is None else value) for name, value in asked.items()}
    sampling = {name: _as_tuple(acquisition[name]) for name in SAMPLING if name in acquisition}
    return {"n_coils": chosen.pop("coils"), **chosen}, {**sampling, "recon": recon}


def prepare_head(
    head: Head,
    *,
    target_psnr: float = 41.2,
    seed: int = 0,
    acceleration: tuple[int, int] = (2, 1),
    caipi_shift: int = 0,
    acs: int = 24,
    partial_fourier: tuple[float, float] = (1.0, 1.0),
    recon: Mapping[str, Any] | None = None,
    **acquisition: Any,
) -> tuple[Scan, References, float]:
    """Fully sampled scan of a head at the protocol's noise, and its references.

    Parameters
    ----------
    head
        Digital or real.
    target_psnr
        PSNR in dB that the conventional image shall have at +0 σ against the fully sampled one.
    seed
        Of coils' noise correlation, image phase, and noise.
    acceleration, caipi_shift, acs, partial_fourier
        Of the retrospective undersampling that `target_psnr` refers to.
    recon
        Keyword arguments of `sn2nlib.recon.reconstruct`.
    acquisition
        Keyword arguments of `sn2nlib.scans.acquire`: matrix, voxel_size, n_coils, sequence.

    Returns
    -------
    scan, references, psnr
        The PSNR reached, in dB.
    """
    sampling: dict[str, Any] = {
        "acceleration": acceleration, "caipi_shift": caipi_shift, "acs": acs, "partial_fourier": partial_fourier
    }  # fmt: skip
    clean = acquire(head, **acquisition, acceleration=(1, 1), acs=None, noise_sd=0, seed=seed)
    scan, reached = scan_at_psnr(clean, target_psnr, seed=seed, recon=recon, **sampling)
    return scan, make_references(clean, scan, recon=recon), reached


def make_references(clean: Scan, scan: Scan, *, recon: Mapping[str, Any] | None = None) -> References:
    """References of a simulated scan.

    Parameters
    ----------
    clean
        Fully sampled, from `sn2nlib.scans.acquire(…, noise_sd=0)`.
    scan
        The same with noise, from `sn2nlib.scans.acquire.with_noise`.
    recon
        Keyword arguments of `sn2nlib.recon.reconstruct`.
    """
    recon = dict(recon or {})
    truth = noise_free_image(clean, scan, **recon)
    return References(np.abs(reconstruct(scan, **recon)), truth, head_mask(truth))


def conventional_images(
    scan: Scan,
    *,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    recon: Mapping[str, Any] | None = None,
    **sampling: Any,
) -> Iterator[tuple[float, np.ndarray]]:
    """Conventional image of a fully sampled scan at each noise level, one at a time.

    The scan is undersampled as `sampling` tells `sn2nlib.scans.acquire.undersample`; `level` times its own noise SD is
    added per real and imaginary channel; kernels and weights are estimated anew from the noisy data. Every level has
    its own seeded draw, and none of it is in the reference.

    Yields
    ------
    level, (z, y, x) float32 magnitude
    """
    undersampled = undersample(scan, **sampling)
    for level in levels:
        noisy = add_noise(undersampled, level, seed=seed * 1000 + round(100 * level))
        yield level, np.abs(reconstruct(noisy, **dict(recon or {})))


def measure(
    images: Mapping[str, np.ndarray], references: References, *, head: str, noise_sigma: float
) -> list[dict[str, Any]]:
    """PSNR, SSIM and NRMSE of each arm against both references in both regions, and of the truth itself.

    Parameters
    ----------
    images
        Arm → (z, y, x) magnitude.
    references
        From `prepare_head`.
    head, noise_sigma
        Labels for the rows.

    Returns
    -------
    list of rows: head, noise_sigma, arm, reference, region, psnr, ssim, nrmse, nrmse_volume, n_slices
    """
    rows = []
    for arm, image in {**images, "truth": references.noise_free}.items():
        for name in ("full_sampled", "noise_free"):
            if arm == "truth" and name == "noise_free":
                continue  # the truth against itself says nothing
            reference = getattr(references, name)
            for row in image_quality(image, reference, regions=references.regions):
                rows.append({"head": head, "noise_sigma": noise_sigma, "arm": arm, "reference": name, **row})
    return rows


def floor_bias(
    images: Mapping[str, np.ndarray],
    references: References,
    *,
    head: str,
    noise_sigma: float,
    csf: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Mean intensity minus the noise-free mean, in air and CSF: what the Rician floor lifts.

    Parameters
    ----------
    csf : (z, y, x) bool, optional
        Known for digital heads only.

    Returns
    -------
    list of rows: head, noise_sigma, arm, region, bias_percent (of the noise-free mean inside the head)
    """
    level = float(references.noise_free[references.head].mean())
    regions = {"air": air_mask(references.head)} | ({"CSF": csf} if csf is not None and csf.any() else {})
    rows = []
    for arm, image in {**images, "full_sampled": references.full_sampled}.items():
        for region, mask in regions.items():
            if mask.any():
                bias = float(image[mask].mean() - references.noise_free[mask].mean())
                rows.append({"head": head, "noise_sigma": noise_sigma, "arm": arm, "region": region,
                             "bias_percent": 100 * bias / level})
    return rows


def measure_scan(
    scan: Scan,
    references: References,
    denoise: Denoise,
    *,
    head: str,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    recon: Mapping[str, Any] | None = None,
    **sampling: Any,
) -> list[dict[str, Any]]:
    """The whole experiment on one scan: every row of `measure` at every level.

    Parameters
    ----------
    denoise
        Conventional magnitude image → sN2N image, for example `Denoiser.denoise`.
    sampling
        Keyword arguments of `sn2nlib.scans.acquire.undersample`.
    """
    rows: list[dict[str, Any]] = []
    series = conventional_images(scan, levels=levels, seed=seed, recon=recon, **sampling)
    for level, original in series:
        images = {"original": original, "sN2N": denoise(original)}
        rows += measure(images, references, head=head, noise_sigma=level)
    return rows


def _as_tuple(value: Any) -> Any:
    """JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value
