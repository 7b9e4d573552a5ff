"""The qualitative cohort: one digital head at a time, scanned, reconstructed, denoised, and measured for the observer.

Under ``reports/<profile>/readers/``, for a head such as D148: the images ``D148_original.nii.gz`` and
``D148_sN2N.nii.gz``; ``D148_measures.csv``, what `sn2nlib.evaluation.readers.looks` measured in each; and, written
last, ``D148.json``: the noise, and where structures and lesions lie. ``study.yaml`` lists all of them as
`sn2n reading prepare` wants it.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sn2nlib.denoiser import Denoiser
from sn2nlib.evaluation.noise_levels import SAMPLING
from sn2nlib.evaluation.participants import simulate_participant
from sn2nlib.evaluation.readers.criteria import ARMS, LESION
from sn2nlib.evaluation.readers.looks import look
from sn2nlib.evaluation.readers.sights import Sight, sights_of
from sn2nlib.evaluation.readers.studies import STUDY, most_repeats
from sn2nlib.provenance import atomic_write, write_json
from sn2nlib.recon.pairs import reconstruct
from sn2nlib.scans.acquire import undersample
from sn2nlib.scans.details import Details, FineStructure, Lesion
from sn2nlib.scans.heads import digital_head
from sn2nlib.scans.images import write_image

Folder = str | Path
_ROOM = 2.0  # mm around a structure that a mark encloses


def image_name(case: str, arm: str) -> str:
    """File name of an image of a case."""
    return f"{case}_{arm}.nii.gz"


def make_case(
    participant: str,
    *,
    seed: int,
    age: float,
    sex: str,
    target_psnr: float,
    structures: Sequence[FineStructure],
    lesions: Sequence[Lesion],
    model: Folder,
    cases: Folder,
    recon: Mapping[str, Any],
    **settings: Any,
) -> dict[str, Any]:
    """Make both images of one participant, measure them, and write all of it; what says "done" last.

    Parameters
    ----------
    participant, seed, age, sex
        Of the manifest.
    target_psnr
        Decides the noise: PSNR in dB of the conventional image against the fully sampled one.
    structures, lesions
        To be put into the head.
    model
        Folder of the trained network.
    cases
        Folder that receives the files.
    recon
        Keyword arguments of `sn2nlib.recon.reconstruct`.
    settings
        As `sn2nlib.evaluation.participants.simulate_participant`; matrix and voxel_size are needed.

    Returns
    -------
    participant, seconds, noise_over_scale, psnr_original, lesions (how many found a place).
    """
    begun, folder = time.monotonic(), Path(cases)
    size = {"matrix": settings["matrix"], "voxel_size": settings["voxel_size"]}
    details = Details(tuple(structures), tuple(lesions), seed)
    head = digital_head(seed, age=float(age), sex=sex, details=details, name=participant, **size)
    made = simulate_participant(
        head, seed=seed, target_psnr=target_psnr, with_references=False, recon=recon, **settings
    )
    scan = undersample(made.scan, **{name: settings[name] for name in SAMPLING if name in settings})
    original = np.abs(reconstruct(scan, **recon))
    images = dict(zip(ARMS, (original, Denoiser.load(model, precision="auto").denoise(original)), strict=True))
    sights = sights_of(head, scan.shape)
    rows = [{"case": participant, "arm": arm, **row} for arm, image in images.items() for row in look(image, sights)]
    for arm, image in images.items():
        path = folder / image_name(participant, arm)
        write_image(image, path, affine=scan.affine, description="digital phantom, simulated scan", overwrite=True)
    with atomic_write(folder / f"{participant}_measures.csv") as part:
        pd.DataFrame(rows).to_csv(part, index=False)
    marks = [_mark(sight, scan.affine) for sight in (*sights.structures, *sights.lesions) if sight.is_there]
    numbers = {name: made.numbers[name] for name in ("noise_over_scale", "psnr_original")}
    told = {**numbers, "age": float(age), "sex": sex, "lesions": len(lesions), "marks": marks}
    write_json(folder / f"{participant}.json", told)
    placed = sum(sight.is_there for sight in sights.lesions)
    return {"participant": participant, "seconds": time.monotonic() - begun, **numbers, "lesions": placed}


def load_marks(folder: Folder, case: str) -> list[dict[str, Any]]:
    """Structures and lesions of a case: name, parameter, position (RAS mm), index (z, y, x) of the image, radius (mm).
    """
    told = json.loads((Path(folder) / f"{case}.json").read_text(encoding="utf-8"))
    return list(told["marks"])


def write_study(folder: Folder, cases: Sequence[str], *, readers: Sequence[str], repeats: int = 2) -> Path:
    """Write ``study.yaml``, from which `sn2n reading prepare` makes a blinded reading room with the same images.

    Parameters
    ----------
    folder
        With the files of `make_case`.
    cases
        Participants.
    readers
        Names of those who will read.
    repeats
        How many cases every reader reads twice; fewer where they would be more than half of the cases.

    Returns
    -------
    Path of the file.
    """
    entries = []
    for case in cases:
        keys = ("name", "position", "radius", "parameter")
        marks = [{key: mark[key] for key in keys} for mark in load_marks(folder, case)]
        sick = any(mark["parameter"] == LESION for mark in marks)
        entries.append({
            "case": case, "images": {arm: image_name(case, arm) for arm in ARMS},
            "parameters": ["image_quality", "fine_structures", *(["lesions"] if sick else [])], "marks": marks,
        })  # fmt: skip
    content = {"readers": list(readers), "repeats": min(repeats, most_repeats(len(entries))), "cases": entries}
    path = Path(folder) / STUDY
    with atomic_write(path) as part:
        part.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _mark(sight: Sight, affine: np.ndarray) -> dict[str, Any]:
    index = np.array(sight.centre)
    places = np.argwhere(sight.share > 1 / 3) + [part.start for part in sight.window]
    steps = affine[:3, :3] @ (places - index)[:, ::-1].T
    position = affine[:3, :3] @ index[::-1] + affine[:3, 3]
    return {
        "name": sight.title,
        "parameter": LESION if sight.name == "lesion" else sight.name,
        "position": [round(float(value), 1) for value in position],
        "index": [round(float(value), 1) for value in index],
        "radius": round(float(np.sqrt((steps**2).sum(axis=0)).max()) + _ROOM, 1),
    }
