"""A small digital head with known labels, and the built-in engines run on it twice, each time in a new process."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sn2nlib.evaluation.volumetry.truth import true_labels
from sn2nlib.scans.heads import Head, digital_head

RUN = """
import sys
import numpy as np
from sn2nlib.evaluation.volumetry.engine import segment
from sn2nlib.evaluation.volumetry.subcortical import AtlasSubcortical
from sn2nlib.evaluation.volumetry.tissue import MarkovTissues
engines = {"tissue": MarkovTissues(), "subcortical": AtlasSubcortical(),
           "second": AtlasSubcortical(atlas="desikan_killiany")}
with np.load(sys.argv[1]) as stored:
    image, affine = stored["image"], stored["affine"]
found = {name: segment(image, engine, affine=affine) for name, engine in engines.items()}
failures = "; ".join(each.failure for each in found.values() if each.failure)
np.savez(sys.argv[2], failures=failures, **{name: each.labels for name, each in found.items()})
"""


@dataclass(frozen=True)
class SmallHead:
    """Noise-free image of a digital head at 2 mm, its true labels, and what two runs found."""

    head: Head
    image: np.ndarray
    affine: np.ndarray
    truth: dict[str, np.ndarray]
    runs: list[dict[str, np.ndarray]]

    def seen_at(self, shape: tuple[int, ...]) -> np.ndarray:
        """Its noise-free image on another grid over the same field of view."""
        return resampled(self.head.signal(), shape)


@pytest.fixture(scope="session")
def small_head(tmp_path_factory: pytest.TempPathFactory) -> SmallHead:
    """The head as a scanner of 2 mm voxels sees it: the mean of the signal over each voxel."""
    head = digital_head(1136, matrix=(88, 108, 108), voxel_size=(2.0, 2.0, 2.0))
    signal = head.signal()
    shape = (88, 108, 108)
    image = resampled(signal, shape)
    affine = head.affine.copy()
    affine[:3, :3] = np.fliplr(2.0 * np.eye(3))
    affine[:3, 3] += head.affine[:3, :3] @ [n // 2 for n in signal.shape[::-1]] - affine[:3, :3] @ [54, 54, 44]
    folder = tmp_path_factory.mktemp("volumetry")
    np.savez(folder / "image.npz", image=image, affine=affine)
    return SmallHead(head, image, affine, true_labels(head, shape), run_twice(folder))


def resampled(signal: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Means over the voxels of a coarser grid; voxel n//2 of both lies at the same place."""
    for axis, coarse in enumerate(shape):
        fine = signal.shape[axis]
        ratio = fine / coarse
        centre = (np.arange(coarse)[:, None] - coarse // 2) * ratio + fine // 2
        cell = np.arange(fine)[None]
        shared = np.minimum(centre + ratio / 2, cell + 0.5) - np.maximum(centre - ratio / 2, cell - 0.5)
        weights = np.clip(shared, 0, None).astype(np.float32) / np.float32(ratio)
        signal = np.moveaxis(np.tensordot(weights, signal, (1, axis)), 0, axis)
    return np.ascontiguousarray(signal, np.float32)


def run_twice(folder: Path) -> list[dict[str, np.ndarray]]:
    """What the built-in engines find in `folder`/image.npz, in two processes side by side."""
    outputs = [folder / f"run-{number}.npz" for number in (1, 2)]
    running = [
        subprocess.Popen([sys.executable, "-c", RUN, str(folder / "image.npz"), str(output)], stderr=subprocess.PIPE)
        for output in outputs
    ]
    told = [process.communicate(timeout=900)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    return [dict(np.load(output)) for output in outputs]
