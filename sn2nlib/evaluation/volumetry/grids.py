"""Label maps that another program wrote, on the grid of the image they belong to."""

import os
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import affine_transform

from sn2nlib.errors import SegmentationError

_TOLERANCE = 1e-2  # mm between corresponding corners of two grids that count as one


def read_labels(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, ...],
    affine: np.ndarray,
    table: Mapping[int, int],
    by: str,
    others_are_background: bool = False,
) -> np.ndarray:
    """A label map as a volume on the image's own grid.

    Maps on the same voxels in another order (as of `fslreorient2std`) are turned by axis swaps and flips; others, as of
    a program that works at 1 mm, take the nearest voxel.

    Parameters
    ----------
    path
        A file that nibabel reads: NIfTI, or FreeSurfer's .mgz.
    shape, affine
        (z, y, x) of the image, and its RAS+ mm affine as stored (x, y, z).
    table
        Label in the file → label of ours.
    by
        Who wrote the map, for messages.
    others_are_background
        Whether labels that the table lacks become 0, instead of being an error.

    Returns
    -------
    labels : (z, y, x) uint8

    Raises
    ------
    SegmentationError
        If the file cannot be read, holds other than whole numbers or unknown labels, or lies elsewhere.
    """
    array, stored = _read(Path(path), by)
    if others_are_background:
        array = np.where(np.isin(array, list(table)), array, 0)
    labels = _translated(array, table, by)
    return _onto(labels, stored, shape, affine, by)


def _read(path: Path, by: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        image = nib.load(path)
        array = np.asanyarray(image.dataobj)  # type: ignore[attr-defined]
        affine: np.ndarray = image.affine.astype(float)  # type: ignore[attr-defined]
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError) as error:
        raise SegmentationError(f"the label map {path.name} of {by} cannot be read: {error}") from error
    if array.ndim > 3 and max(array.shape[3:]) == 1:
        array = array.reshape(array.shape[:3])
    if array.ndim != 3:
        raise SegmentationError(f"the label map {path.name} of {by} has shape {array.shape}; it needs 3 axes")
    if not np.isfinite(array).all() or (array != np.rint(array)).any():
        raise SegmentationError(f"the label map {path.name} of {by} holds values that are no whole numbers")
    return np.rint(array).astype(np.int64), affine


def _translated(array: np.ndarray, table: Mapping[int, int], by: str) -> np.ndarray:
    unknown = [int(label) for label in np.unique(array) if label != 0 and label not in table]
    if unknown:
        raise SegmentationError(f"the label map of {by} holds labels that nobody knows: {unknown[:5]}")
    labels = np.zeros(array.shape, np.uint8)
    for theirs, ours in table.items():
        labels[array == theirs] = ours
    return labels


def _onto(
    labels: np.ndarray, stored: np.ndarray, shape: tuple[int, ...], affine: np.ndarray, by: str
) -> np.ndarray:
    """Labels (i, j, k) on the grid of an image stored as (x, y, z), returned as (z, y, x)."""
    wanted = tuple(shape[::-1])
    ours, theirs = (nib.orientations.io_orientation(each) for each in (affine, stored))
    turn = nib.orientations.ornt_transform(theirs, ours)
    turned = nib.orientations.apply_orientation(labels, turn)
    moved = stored @ nib.orientations.inv_ornt_aff(turn, labels.shape)
    corners = np.array([[i, j, k, 1] for i in (0, wanted[0]) for j in (0, wanted[1]) for k in (0, wanted[2])])
    if turned.shape == wanted and np.abs(corners @ (moved - affine).T).max() < _TOLERANCE:
        return np.ascontiguousarray(turned.transpose(2, 1, 0))
    centres = [grid @ [*((np.array(size) - 1) / 2), 1] for grid, size in ((stored, labels.shape), (affine, wanted))]
    extent = np.linalg.norm((affine @ [*wanted, 0])[:3])
    if np.linalg.norm(centres[0] - centres[1]) > 0.5 * extent:
        raise SegmentationError(f"the label map of {by} lies beside the image; its affine belongs to another scan")
    to_theirs = np.linalg.inv(stored) @ affine
    nearest = affine_transform(labels, to_theirs[:3, :3], to_theirs[:3, 3], output_shape=wanted, order=0)
    return np.ascontiguousarray(nearest.transpose(2, 1, 0))
