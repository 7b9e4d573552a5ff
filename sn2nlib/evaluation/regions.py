"""Where the numbers are taken: the head, its air, its CSF."""

import numpy as np
from scipy.ndimage import binary_closing, binary_dilation, binary_erosion, binary_fill_holes, label

from sn2nlib.recon.pairs import intensity_scale


def head_mask(image: np.ndarray, *, threshold: float = 0.1) -> np.ndarray:
    """The head: largest object above `threshold` intensity scales, closed, with its holes filled slice by slice.

    Parameters
    ----------
    image : (z, y, x)
        Magnitude of the noise-free image where there is one, else of the reference.
    threshold
        In units of `sn2nlib.recon.pairs.intensity_scale`.

    Returns
    -------
    (z, y, x) bool
    """
    bright = np.asarray(image) > threshold * intensity_scale(image)
    closed = binary_closing(np.pad(bright, 3), iterations=3)[3:-3, 3:-3, 3:-3]
    numbered, count = label(closed)
    if count == 0:
        return closed
    largest = numbered == np.argmax(np.bincount(numbered.ravel())[1:]) + 1
    for axis in range(3):  # sinuses and ventricles open to one side are closed in another plane
        for plane in np.moveaxis(largest, axis, 0):
            plane[...] = binary_fill_holes(plane)
    return largest


def air_mask(head: np.ndarray, *, distance: int = 3) -> np.ndarray:
    """Voxels more than `distance` voxels away from the head, counted along the axes, (z, y, x) bool."""
    return ~binary_dilation(head, iterations=distance)


def tissue_core(tissue: np.ndarray, index: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Voxels of the scan's grid whose nearest voxel of the fine grid, and its six neighbours, are of one tissue.

    At the usual ratio of the grids (1.35) these lie inside that tissue but for their corners; on a much coarser scan
    they may still hold some of another.

    Parameters
    ----------
    tissue : (z, y, x) uint8
        Labels on the head's fine grid, covering the same field of view as the scan.
    index
        Tissue label.
    shape
        (z, y, x) of the scan.

    Returns
    -------
    (z, y, x) bool
    """
    return nearest(binary_erosion(tissue == index), shape)


def nearest(mask: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A mask (z, y, x) of a fine grid on a coarser one of this shape: of each voxel, the nearest of the fine grid."""
    # voxel n//2 of both grids lies at the same place
    places = [
        np.clip(np.rint((np.arange(n) - n // 2) * (fine / n)).astype(int) + fine // 2, 0, fine - 1)
        for n, fine in zip(shape, mask.shape, strict=True)
    ]
    return mask[np.ix_(*places)]
