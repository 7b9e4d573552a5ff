"""A small study to be read, for trying the reading room: a template brain, with noise and with less of it.

Neither arm comes from the method: noise is added to a template, and a Gaussian filter stands in for the denoiser.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from scipy.ndimage import affine_transform, gaussian_filter

from sn2nlib.evaluation.readers.criteria import ARMS
from sn2nlib.evaluation.readers.studies import STUDY
from sn2nlib.scans.atlas import template_path
from sn2nlib.scans.images import read_image, write_image

_CENTRE = (0.0, -18.0, 0.0)  # of the field of view, RAS mm of the template
# RAS mm of the template, and radius
_HIPPOCAMPI = {"right hippocampus": (28.0, -20.0, -14.0, 14.0), "left hippocampus": (-28.0, -20.0, -14.0, 14.0)}


def make_demo_study(
    folder: str | os.PathLike[str],
    *,
    n_cases: int = 3,
    repeats: int = 1,
    readers: Sequence[str] = ("reader1", "reader2"),
    parameters: Sequence[str] = ("image_quality", "hippocampus"),
    matrix: tuple[int, int, int] = (64, 76, 56),
    voxel_size: tuple[float, float, float] = (2.5, 2.5, 2.5),
    seed: int = 0,
) -> Path:
    """Make a folder with ``study.yaml`` and its images, as `prepare_room` reads it.

    Parameters
    ----------
    folder
        New or empty.
    n_cases, repeats, readers, parameters
        Of the study.
    matrix, voxel_size
        (z, y, x) = (right, anterior, superior) of every image; mm.
    seed
        Of the noise.

    Returns
    -------
    The folder.
    """
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    clean, affine = _template(matrix, voxel_size)
    cases = []
    for number in range(1, n_cases + 1):
        noise = rng.normal(0, rng.uniform(0.04, 0.09), (2, *matrix))
        noisy = np.abs(clean + noise[0] + 1j * noise[1])
        case = f"D{number:02d}"
        images = {arm: f"{case}_{arm}.nii" for arm in ARMS}
        for arm, volume in zip(ARMS, (noisy, gaussian_filter(noisy, 0.6)), strict=True):
            write_image(volume.astype(np.float32), folder / images[arm], affine=affine)
        cases.append({"case": case, "images": images, "marks": _marks(parameters)})
    content = {"readers": list(readers), "repeats": repeats, "parameters": list(parameters), "cases": cases}
    (folder / STUDY).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return folder


def _template(matrix: tuple[int, int, int], voxel_size: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The template's T1 on another grid, brightest tissue about 1, and the grid's affine."""
    template, geometry = read_image(template_path("t1"))
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    # stored (x, y, z) = (superior, anterior, right)
    affine[2, 0], affine[1, 1], affine[0, 2] = voxel_size[::-1]
    middle = np.array(matrix[::-1]) // 2
    affine[:3, 3] = np.array(_CENTRE) - affine[:3, :3] @ middle
    step = np.linalg.inv(geometry.affine) @ affine
    moved = affine_transform(template.T, step[:3, :3], step[:3, 3], output_shape=matrix[::-1], order=1)
    return np.ascontiguousarray(moved.T) / np.percentile(template, 99.5), affine


def _marks(parameters: Sequence[str]) -> list[dict[str, object]]:
    if not {"hippocampus", "fine_structures"} & set(parameters):
        return []
    return [
        {"name": name, "position": [x, y, z], "radius": radius, "parameter": "hippocampus"}
        for name, (x, y, z, radius) in _HIPPOCAMPI.items()
    ]
