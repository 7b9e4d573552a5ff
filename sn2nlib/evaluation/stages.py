"""One participant's share of a notebook, as a function that a process of its own can run.

Each writes its files whole or not at all, the file that says "done" last.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sn2nlib.denoiser import Denoiser, coarser_pair, training_volume
from sn2nlib.errors import naming
from sn2nlib.evaluation.noise_levels import References, conventional_images, floor_bias, measure
from sn2nlib.evaluation.participants import pair_numbers
from sn2nlib.provenance import atomic_write, write_json
from sn2nlib.recon.pairs import Pair, make_pair, systematic_difference
from sn2nlib.scans.acquire import without_noise
from sn2nlib.scans.scan import load_scan

Folder = str | Path


def coarser_name(participant: str, share: float) -> str:
    """File name of a pair at a coarser resolution, without ending."""
    return f"{participant}_at_{share:g}"


def save_pair(
    participant: str, pair: Pair, systematic: np.ndarray | None, *, pairs: Folder, coarser: Sequence[float] = ()
) -> dict[str, float]:
    """Write what training and the choice of α need of a pair: ``<name>.npz``, and its numbers as ``<name>.json``.

    Parameters
    ----------
    participant
        Names the files.
    pair
        From `sn2nlib.recon.make_pair`.
    systematic : (z, y, x) complex
        E[A] − E[B], or None where it is not known.
    pairs
        Folder.
    coarser
        Shares of k-space at which the pair is to be learnt from too: ``<name>_at_<share>.npz``.

    Returns
    -------
    `pair_numbers`
    """
    for share in coarser:
        with atomic_write(Path(pairs) / f"{coarser_name(participant, share)}.npz") as part:
            np.savez(part, **vars(training_volume(coarser_pair(pair, share))))
    volume, original = training_volume(pair), np.abs(pair.original) / np.float32(pair.scale)
    with atomic_write(Path(pairs) / f"{participant}.npz") as part:
        np.savez(part, **vars(volume), original=original, scale=pair.scale)
    numbers = pair_numbers(pair, systematic)
    write_json(Path(pairs) / f"{participant}.json", numbers)
    return numbers


def pair_participant(
    participant: str, *, scans: Folder, pairs: Folder, recon: Mapping[str, Any], coarser: Sequence[float] = ()
) -> dict[str, Any]:
    """Half images of one scan, stored by `save_pair`.

    Parameters
    ----------
    participant
        Has ``scans/<name>.h5``.
    scans, pairs
        Folders.
    recon
        Keyword arguments of `sn2nlib.recon.make_pair`.
    coarser
        As for `save_pair`.

    Returns
    -------
    participant, seconds, and the numbers of `pair_numbers`
    """
    begun = time.monotonic()
    path = Path(scans) / f"{participant}.h5"
    scan = load_scan(path)
    with naming(path):
        pair = make_pair(scan, **recon)
    simulated = scan.info.get("source") == "simulated"
    systematic = systematic_difference(without_noise(scan), pair) if simulated else None
    numbers = save_pair(participant, pair, systematic, pairs=pairs, coarser=coarser)
    return {"participant": participant, "seconds": time.monotonic() - begun, **numbers}


def measure_participant(
    participant: str,
    *,
    scans: Folder,
    references: Folder,
    model: Folder,
    results: Folder,
    levels: Sequence[float],
    kept_levels: Sequence[float],
    seed: int,
    recon: Mapping[str, Any],
    **sampling: Any,
) -> dict[str, Any]:
    """The Table 2 experiment on one scan: ``<name>.npz`` (images of some levels), ``<name>_bias.csv``, ``<name>.csv``.

    Parameters
    ----------
    participant
        Has ``scans/<name>.h5`` (fully sampled) and ``references/<name>.npz``.
    scans, references, model, results
        Folders.
    levels, kept_levels
        Noise levels in σ; those whose images are stored, as float16 ``original_<level>`` and ``sN2N_<level>`` beside
        ``full_sampled`` and ``noise_free``.
    seed
        Of the added noise.
    recon
        Keyword arguments of `sn2nlib.recon.reconstruct`.
    sampling
        Keyword arguments of `sn2nlib.scans.acquire.undersample`.

    Returns
    -------
    participant, seconds, shape (z, y, x)
    """
    begun = time.monotonic()
    scan, denoiser = load_scan(Path(scans) / f"{participant}.h5"), Denoiser.load(model, precision="auto")
    with np.load(Path(references) / f"{participant}.npz") as stored:
        known, csf = References(stored["full_sampled"], stored["noise_free"], stored["head"]), stored["csf"]
    rows, bias = [], []
    kept: dict[str, Any] = {name: getattr(known, name).astype(np.float16) for name in ("full_sampled", "noise_free")}
    for level, original in conventional_images(scan, levels=levels, seed=seed, recon=recon, **sampling):
        images = {"original": original, "sN2N": denoiser.denoise(original)}
        rows += measure(images, known, head=participant, noise_sigma=level)
        bias += floor_bias(images, known, head=participant, noise_sigma=level, csf=csf)
        if level in kept_levels:
            kept |= {f"{arm}_{level:g}": image.astype(np.float16) for arm, image in images.items()}
    with atomic_write(Path(results) / f"{participant}.npz") as part:
        np.savez(part, **kept)
    for stem, table in ((f"{participant}_bias", bias), (participant, rows)):
        with atomic_write(Path(results) / f"{stem}.csv") as part:
            pd.DataFrame(table).to_csv(part, index=False)
    return {"participant": participant, "seconds": time.monotonic() - begun, "shape": known.head.shape}
