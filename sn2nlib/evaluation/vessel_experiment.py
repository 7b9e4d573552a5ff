"""The vessel wall study, one participant at a time: its scan is acquired, its images are finished, then measured.

Each step is a function that a process of its own can run; it writes its files whole or not at all, the one that says
"done" last. Truth lies apart from what a clinic would have, and only the last step opens it. Under
``reports/<profile>/vessel_wall/``, for a scan such as D186:

- ``acquired/``: the NIfTI that a clinic would hand over, ``D186.nii.gz``; ``scans/D186.h5``; conventional images of
  repeated scans, ``replicas/D186.npz``; the truth, ``references/D186.npz`` and ``rois/D186.csv``; done: ``D186.json``.
- ``training/``: half images of other participants' scans at R = 2×1, as `sn2nlib.evaluation.stages.save_pair` writes
  them; ``fine_tuned/`` and ``vwi_only/``: the models that learnt from them.
- ``images/``: finished images ``D186_<arm>.nii.gz``, arms as in `ARMS` (original, sN2N, fine_tuned, vwi_only, blur),
  all on the grid of the NIfTI that came in; the same of the replicas, ``D186_<arm>.npz`` with ``replicas`` (n, z, y,
  x), in the order of `sn2nlib.scans.images.read_image`; done: ``D186.json``.
- ``measured/``: ``D186_sites.csv``, a row per arm and cross-section; done: ``D186.csv``, a row per arm.
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.optimize import brentq

from sn2nlib.denoiser import Denoiser, TrainingVolume, denoise_image
from sn2nlib.errors import StudyError
from sn2nlib.evaluation.metrics import psnr
from sn2nlib.evaluation.stages import save_pair
from sn2nlib.evaluation.vessel_scans import (
    replica_images,
    save_vessel_scan,
    simulate_training_scan,
    simulate_vessel_scan,
)
from sn2nlib.evaluation.vessel_sites import read_sites
from sn2nlib.evaluation.vessels import measure_vessels, scan_means
from sn2nlib.provenance import atomic_write, write_json
from sn2nlib.recon.pairs import make_pair, object_region, systematic_difference
from sn2nlib.scans.acquire import without_noise
from sn2nlib.scans.images import read_image, stored_affine, turn_to_acquired, write_image

Folder = str | Path
ORIGINAL, MAIN, BLUR, REFERENCE = "original", "sN2N", "blur", "noise_free"
ARMS = (ORIGINAL, MAIN, "fine_tuned", "vwi_only", BLUR)
_WIDEST = 3.0  # mm, of a Gaussian that is to reach a noise reduction


def acquire_participant(
    participant: str, *, seed: int, age: float, sex: str, folder: Folder, replicas: int, **settings: Any
) -> dict[str, Any]:
    """Scan one participant at R = 2×2 CAIPIRINHA, once for the study and repeatedly for its noise.

    Parameters
    ----------
    participant, seed, age, sex
        Of the manifest.
    folder
        ``acquired/``.
    replicas
        Number of repeated scans.
    settings
        Keyword arguments of `simulate_vessel_scan`.

    Returns
    -------
    participant, noise_sd, noise_over_scale, seconds
    """
    begun, folder = time.monotonic(), Path(folder)
    made = simulate_vessel_scan(int(seed), age=age, sex=sex, **settings)
    repeated = replica_images(made.scan, replicas, seed=int(seed), recon=settings.get("recon"))
    with atomic_write(folder / "replicas" / f"{participant}.npz") as part:
        np.savez(part, images=np.stack(list(repeated)))
    save_vessel_scan(made, folder, participant)
    numbers = {**made.numbers, "seconds": round(time.monotonic() - begun, 1)}
    write_json(folder / f"{participant}.json", numbers)
    return {"participant": participant, **numbers}


def pair_for_training(
    participant: str, *, seed: int, age: float, sex: str, pairs: Folder, **settings: Any
) -> dict[str, Any]:
    """Scan one participant at R = 2×1 and store the half images that training needs.

    Parameters
    ----------
    participant, seed, age, sex
        Of the manifest.
    pairs
        ``training/``.
    settings
        Keyword arguments of `simulate_training_scan`.

    Returns
    -------
    participant, seconds, and the numbers of `sn2nlib.evaluation.participants.pair_numbers`
    """
    begun = time.monotonic()
    scan = simulate_training_scan(int(seed), age=age, sex=sex, **settings)
    with warnings.catch_warnings():
        # tissue fills the small field of view, so that a half's g-factor is high; its number is in the table
        warnings.filterwarnings("ignore", message="the median g-factor of a half image", category=UserWarning)
        pair = make_pair(scan, **dict(settings.get("recon") or {}))
    systematic = systematic_difference(without_noise(scan), pair)
    numbers = save_pair(participant, pair, systematic, pairs=pairs)
    return {"participant": participant, "seconds": time.monotonic() - begun, **numbers}


def load_training(pairs: Folder, participants: Sequence[str]) -> list[TrainingVolume]:
    """Training volumes that `pair_for_training` has stored."""
    volumes = []
    for participant in participants:
        with np.load(Path(pairs) / f"{participant}.npz") as stored:
            volumes.append(TrainingVolume(*(stored[name] for name in ("half_a", "half_b", "variance"))))
    return volumes


def finish_participant(
    participant: str, *, acquired: Folder, images: Folder, models: Mapping[str, Folder]
) -> dict[str, Any]:
    """Denoise a scan's NIfTI, and those of its replicas, with every model; and blur them as much.

    The blur is a Gaussian, equally wide in mm along all axes, under which the noise SD over the replicas (median over
    the object) is that under the main model. Nothing here opens the truth.

    Parameters
    ----------
    participant
        Of ``acquired/``.
    acquired, images
        Folders.
    models
        Arm → model folder; `MAIN` among them. α is each model's own.

    Returns
    -------
    participant, blur_mm (SD of the Gaussian), noise_left (share of the noise SD that the main model leaves), inputs
    (files of ``acquired/`` that were read), seconds
    """
    begun, acquired, images = time.monotonic(), Path(acquired), Path(images)
    inputs = [f"{participant}.nii.gz", f"replicas/{participant}.npz"]
    scan, repetitions = (acquired / name for name in inputs)
    original, geometry = read_image(scan)
    affine, _ = stored_affine(scan)
    with np.load(repetitions) as stored:
        repeated = [turn_to_acquired(image.transpose(2, 1, 0), affine)[0] for image in stored["images"]]
    volumes, voxel_size = [original, *repeated], geometry.voxel_size
    made = {ORIGINAL: volumes}
    for arm, folder in models.items():
        denoiser = Denoiser.load(folder, precision="auto")
        made[arm] = [denoise_image(denoiser, volume, voxel_size=voxel_size) for volume in volumes]
    before, after = (noise_over_replicas(made[arm][1:], original) for arm in (ORIGINAL, MAIN))
    width = equal_blur(repeated, original, wanted=after, voxel_size=voxel_size)
    made[BLUR] = [_blurred(volume, width, voxel_size) for volume in volumes]
    for arm, finished in made.items():
        with atomic_write(images / f"{participant}_{arm}.npz") as part:
            np.savez(part, replicas=np.stack(finished[1:]).astype(np.float16))
        write_image(finished[0], images / f"{participant}_{arm}.nii.gz", like=geometry, overwrite=True)
    numbers: dict[str, Any] = {"blur_mm": width, "noise_left": after / before, "inputs": inputs}
    numbers["seconds"] = round(time.monotonic() - begun, 1)
    write_json(images / f"{participant}.json", numbers)
    return {"participant": participant, **numbers}


def equal_blur(
    replicas: Sequence[np.ndarray], original: np.ndarray, *, wanted: float, voxel_size: tuple[float, float, float]
) -> float:
    """SD in mm of the Gaussian that brings the noise of the replicas to `wanted` (SD, median over the object).

    Parameters
    ----------
    replicas
        (z, y, x) each, alike in all but their noise.
    original
        One of its kind, which tells where the object is.
    wanted
        Below the noise of the replicas.
    voxel_size : (z, y, x) mm
    """
    mean = np.mean(replicas, axis=0)
    noises = [replica - mean for replica in replicas]

    def excess(width: float) -> float:
        return noise_over_replicas([_blurred(noise, width, voxel_size) for noise in noises], original) - wanted

    if excess(0) <= 0:
        return 0.0
    return float(brentq(excess, 0, _WIDEST, xtol=1e-3))


def _blurred(volume: np.ndarray, width: float, voxel_size: tuple[float, float, float]) -> np.ndarray:
    return gaussian_filter(volume, [width / size for size in voxel_size], mode="nearest")


def noise_over_replicas(replicas: Sequence[np.ndarray], original: np.ndarray) -> float:
    """SD over replicas (z, y, x), median over the object, which `original` tells."""
    return float(np.median(np.std(replicas, axis=0, ddof=1)[object_region(original)]))


def measure_participant(
    participant: str, *, acquired: Folder, images: Folder, measured: Folder, arms: Sequence[str] = ARMS
) -> dict[str, Any]:
    """Measure the finished images of one scan against its truth, which nothing has opened before.

    Parameters
    ----------
    participant
        Of ``images/``.
    acquired, images, measured
        Folders.
    arms
        Whose images are measured.

    Returns
    -------
    participant, sites, seconds

    Raises
    ------
    StudyError
        If the images are not finished, or no vessel can be measured in the field of view.
    """
    begun, acquired, images, measured = time.monotonic(), Path(acquired), Path(images), Path(measured)
    finished = [images / f"{participant}_{arm}{ending}" for arm in arms for ending in (".nii.gz", ".npz")]
    missing = [path.name for path in finished if not path.is_file()]
    if missing or not (images / f"{participant}.json").is_file():
        raise StudyError(f"{participant}: the truth stays closed until the images are finished ({', '.join(missing)})")
    volumes, replicas = {}, {}
    for arm in arms:
        volumes[arm], geometry = read_image(images / f"{participant}_{arm}.nii.gz")
        with np.load(images / f"{participant}_{arm}.npz") as stored:
            replicas[arm] = list(stored["replicas"].astype(np.float32))
    truth, head = truth_of(participant, acquired)
    sites = read_sites(acquired / "rois" / f"{participant}.csv")
    if not sites:
        raise StudyError(f"{participant}: no vessel can be measured in the field of view; choose a larger matrix")
    rows = measure_vessels({**replicas, REFERENCE: [truth]}, geometry.affine, sites, scan=participant)
    means = scan_means(rows)
    peak = float(truth.max())
    found = {arm: psnr(volume, truth, data_range=peak, mask=head) for arm, volume in volumes.items()}
    means["psnr"] = means["arm"].map(found)
    for stem, table in ((f"{participant}_sites", rows), (participant, means)):
        with atomic_write(measured / f"{stem}.csv") as part:
            table.to_csv(part, index=False)
    return {"participant": participant, "sites": len(sites), "seconds": time.monotonic() - begun}


def truth_of(participant: str, acquired: Folder) -> tuple[np.ndarray, np.ndarray]:
    """Noise-free image (z, y, x) and head mask of a scan, turned as `read_image` turns its NIfTI."""
    affine, _ = stored_affine(Path(acquired) / f"{participant}.nii.gz")
    with np.load(Path(acquired) / "references" / f"{participant}.npz") as stored:
        truth, head = (
            turn_to_acquired(stored[name].transpose(2, 1, 0), affine)[0] for name in ("noise_free", "head")
        )
    return truth, head
