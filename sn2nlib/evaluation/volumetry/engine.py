"""What every segmentation engine is to the study: one image in, labels out, and the gates that judge them."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sn2nlib.errors import ImageError, SegmentationError
from sn2nlib.scans.images import turn_back, turn_to_acquired

TISSUES: dict[int, str] = {1: "CSF", 2: "GM", 3: "WM"}
# the numbers of FSL FIRST, which are FreeSurfer's
SUBCORTICAL: dict[int, str] = {
    10: "left thalamus", 11: "left caudate", 12: "left putamen", 13: "left pallidum", 16: "brainstem",
    17: "left hippocampus", 18: "left amygdala", 26: "left accumbens",
    49: "right thalamus", 50: "right caudate", 51: "right putamen", 52: "right pallidum",
    53: "right hippocampus", 54: "right amygdala", 58: "right accumbens",
}
# Lowest and highest believable volume in mL of an adult, atrophy and large heads included: wide enough for every
# healthy or aged brain, narrow enough for a segmentation that leaked or found nothing.
BOUNDS: dict[str, tuple[float, float]] = {
    "CSF": (30, 900), "GM": (300, 1200), "WM": (200, 1000),
    "thalamus": (3, 13), "caudate": (1.2, 8), "putamen": (1.8, 9.5), "pallidum": (0.5, 4), "brainstem": (10, 45),
    "hippocampus": (1.5, 7), "amygdala": (0.5, 4), "accumbens": (0.1, 1.5),
}
_VOXEL = (0.1, 10.0)  # mm: beyond these the size is in other units or missing
_SKEW = 1e-3


@dataclass(frozen=True)
class Segmentation:
    """Labels of one image, and whether they can be believed.

    Attributes
    ----------
    labels : (z, y, x) uint8
        0 is background. All zero if the engine itself refused.
    names
        Label → structure.
    kind
        "tissue" or "subcortical".
    engine, version
        Which engine made them.
    failure
        Why the case is to be excluded, in words; empty if plausible.
    note
        What must be told wherever the numbers appear, such as "FIRST substitute".
    """

    labels: np.ndarray
    names: dict[int, str] = field(repr=False)
    kind: str
    engine: str
    version: str
    failure: str = ""
    note: str = ""


class Segmenter(Protocol):
    """An engine. Its construction fails with a `SegmentationError` where its program or extra is not installed.

    Attributes
    ----------
    name, version
        As they stand on every table and figure.
    kind
        "tissue" or "subcortical".
    structures
        Label → name; every label that the engine is to find: `TISSUES` or `SUBCORTICAL`.
    note
        What must be told wherever its numbers appear; may be empty.
    """

    name: str
    version: str
    kind: str
    structures: dict[int, str]
    note: str

    def __call__(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Labels (z, y, x) of an image (z, y, x) float32, turned into acquisition order by `segment`.

        Parameters
        ----------
        image : (z, y, x) float32
            Finite and not constant; z runs left to right, y posterior to anterior, x inferior to superior.
        affine : (4, 4) float
            RAS+ mm affine of the image stored as (x, y, z).

        Raises
        ------
        SegmentationError
            If a step fails, or a gate of the engine refuses.
        """
        ...


def segment(image: np.ndarray, segmenter: Segmenter, *, affine: np.ndarray) -> Segmentation:
    """Segment one image from its own voxels alone, and judge the result.

    The image is turned (never interpolated) into the order of an acquisition, whatever the handedness and order of
    its axes, and the labels are turned back, so that left stays left.

    Parameters
    ----------
    image : (z, y, x) float
    segmenter
        The engine.
    affine : (4, 4) float
        RAS+ mm affine of the image stored as (x, y, z).

    Returns
    -------
    Segmentation
        With a reason in `failure` where a step failed or the result is not believable.

    Raises
    ------
    ImageError
        If no engine could take the image: not 3 axes, NaN or Inf, constant, voxel sizes missing, skewed axes.
    """
    image, affine = _checked(image), _checked_affine(affine)
    volume, turned, stored = turn_to_acquired(image.transpose(2, 1, 0), affine)
    try:
        labels = np.asarray(segmenter(volume, turned))
    except SegmentationError as error:
        labels, failure = np.zeros(volume.shape, np.uint8), str(error)
    else:
        failure = judge(labels, segmenter.structures, affine=turned, shape=volume.shape)
        if labels.shape != volume.shape:
            labels = np.zeros(volume.shape, np.uint8)
    labels = np.ascontiguousarray(turn_back(labels, stored).transpose(2, 1, 0))
    return Segmentation(labels, dict(segmenter.structures), segmenter.kind, segmenter.name, segmenter.version,
                        failure, segmenter.note)


def judge(
    labels: np.ndarray, structures: dict[int, str], *, affine: np.ndarray, shape: tuple[int, ...] | None = None
) -> str:
    """Why a label map cannot be believed; empty if it can.

    Parameters
    ----------
    labels : (z, y, x) integer
    structures
        Label → name of what should be there.
    affine : (4, 4) float
        Of the map stored as (x, y, z).
    shape
        Of the image; None: not checked.
    """
    if shape is not None and labels.shape != tuple(shape):
        return f"the label map has the shape {labels.shape}, the image has {tuple(shape)}"
    found = volumes(labels, structures, affine=affine)
    empty = [name for name, volume in found.items() if volume == 0]
    if len(empty) == len(found):
        return "the label map is empty"
    if empty:
        return f"empty: {', '.join(empty)}"
    outside = []
    for name, volume in found.items():
        low, high = BOUNDS.get(name.split()[-1], (0, np.inf))
        if not low <= volume <= high:
            outside.append(f"{name} has {volume:.3g} mL, believable are {low:g} to {high:g} mL")
    return "; ".join(outside)


def volumes(labels: np.ndarray, structures: dict[int, str], *, affine: np.ndarray) -> dict[str, float]:
    """Volume in mL of each structure.

    Parameters
    ----------
    labels : (z, y, x) integer
    structures
        Label → name.
    affine : (4, 4) float
        Of the map stored as (x, y, z); its determinant is the voxel's volume in mm³.
    """
    voxel = abs(np.linalg.det(np.asarray(affine, float)[:3, :3])) / 1000
    return {name: float(np.count_nonzero(labels == label) * voxel) for label, name in structures.items()}


def _checked(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or 0 in image.shape:
        raise ImageError(f"segmentation needs an image of 3 axes (z, y, x), none empty, got shape {image.shape}")
    if image.dtype.kind not in "iuf":
        raise ImageError(f"segmentation needs a real magnitude image, got {image.dtype}; take its magnitude")
    if not np.isfinite(image).all():
        raise ImageError("the image to segment holds NaN or Inf; replace them, for example by 0 outside the head")
    if image.min() == image.max():
        raise ImageError(f"the image to segment is constant ({float(image.min()):g}), so there is no head in it")
    return image.astype(np.float32)


def last_line(said: str, complaint: str) -> str:
    """The last line of what a program that failed wrote, of its complaints first."""
    return (complaint.strip() or said.strip() or "it said nothing").splitlines()[-1]


def _checked_affine(affine: np.ndarray) -> np.ndarray:
    affine = np.asarray(affine, dtype=float)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ImageError("segmentation needs a finite 4×4 affine; without it neither voxel size nor left is known")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not ((sizes >= _VOXEL[0]) & (sizes <= _VOXEL[1])).all():
        raise ImageError(
            f"the affine gives voxels of {' × '.join(f'{size:g}' for size in sizes)} mm (x, y, z); "
            f"segmentation needs {_VOXEL[0]:g} to {_VOXEL[1]:g} mm, so the voxel size is missing or in other units"
        )
    axes = affine[:3, :3] / sizes
    if np.abs(axes.T @ axes - np.eye(3)).max() > _SKEW:
        raise ImageError("the axes of the image are not perpendicular; resample it onto a rectangular grid first")
    return affine
