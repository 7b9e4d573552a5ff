"""What is truly there: the labels of a digital head on the grid of its scan, numbered as the engines number them."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from sn2nlib.errors import ImageError
from sn2nlib.evaluation.participants import participant_head
from sn2nlib.evaluation.volumetry.engine import SUBCORTICAL, TISSUES
from sn2nlib.provenance import atomic_write
from sn2nlib.scans.atlas import STRUCTURES
from sn2nlib.scans.heads import Head

_PARTS = 3  # sub-voxels per axis that vote
_OURS = {name: label for label, name in SUBCORTICAL.items()}


def true_labels(head: Head, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Tissue and subcortical labels of a digital head on its scan's grid: what most of each voxel is.

    The head's grid is finer than the scan's, and covers the same field of view.

    Parameters
    ----------
    head
        Digital.
    shape
        (z, y, x) of the scan.

    Returns
    -------
    "tissue", "subcortical" → (z, y, x) uint8, numbered as `TISSUES` and `SUBCORTICAL`; 0 is everything else.

    Raises
    ------
    ImageError
        For a real head, of which no truth is known.
    """
    if head.tissue is None or head.structures is None:
        raise ImageError(f"{head.name} is a real head: nobody knows its true labels")
    tissue = np.where(np.isin(head.tissue, list(TISSUES)), head.tissue, 0)
    structures = np.zeros(max(STRUCTURES.values()) + 1, np.uint8)
    for name, number in STRUCTURES.items():
        structures[number] = _OURS[name]
    return {"tissue": majority(tissue, shape), "subcortical": majority(structures[head.structures], shape)}


def majority(labels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The label of most of each voxel of a coarser grid over the same field of view; voxel n//2 is common to both.

    Parameters
    ----------
    labels : (z, y, x) uint8
    shape
        (z, y, x) of the coarser grid.

    Returns
    -------
    (z, y, x) uint8; of labels that are equally common the lowest.
    """
    offsets = (np.arange(_PARTS) + 0.5) / _PARTS - 0.5
    places = [
        np.clip(np.rint((np.arange(n)[:, None] - n // 2 + offsets) * (fine / n)).astype(int) + fine // 2, 0, fine - 1)
        for n, fine in zip(shape, labels.shape, strict=True)
    ]
    found = np.unique(labels)
    votes = np.zeros((len(found), *shape), np.uint8)
    for z in places[0].T:
        for y in places[1].T:
            for x in places[2].T:
                part = labels[np.ix_(z, y, x)]
                for number, label in enumerate(found):
                    votes[number] += part == label
    return found[votes.argmax(axis=0)].astype(np.uint8)


def keep_truth(path: str | os.PathLike[str], participant: str, **who: Any) -> None:
    """Write the true labels of a digital participant as .npz (tissue, subcortical), unless they are there.

    Parameters
    ----------
    path
        Where to.
    participant, who
        As `sn2nlib.evaluation.participants.participant_head`; its `matrix` is the scan's.
    """
    if not Path(path).is_file():
        labels = true_labels(participant_head(participant, **who), who["matrix"])
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, **labels)  # type: ignore[arg-type]
