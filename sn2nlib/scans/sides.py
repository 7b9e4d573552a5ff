"""Sides and place of an image, judged by another image of the same scan that is known to lie right.

A raw header says where a scan lies, but not beyond doubt in which direction its axes run (see
`sn2nlib.scans.raw.geometry`); the scanner's own images of the same scan do. An axis that runs the wrong way turns the
image about voxel n//2, so that there are eight ways in which the image can lie. For each, the other image is laid upon
it through both affines, moved by what little the place may be off (phase correlation, `skimage.registration`), and
compared. What is compared is fine contrast, on a coarse grid: the outline of a head looks much the same from both
sides, and the brightness near the coils differs from one reconstruction to the next.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import nibabel as nib
import numpy as np
from nibabel.orientations import io_orientation
from nibabel.processing import resample_from_to
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter
from skimage.registration import phase_cross_correlation

from sn2nlib.errors import ImageError

_Turned = tuple[bool, bool, bool]
_Real = NDArray[np.float32]
_Seen = tuple[_Real, NDArray[np.bool_]]
_Smooth = tuple[nib.Nifti1Image, nib.Nifti1Image]
_LONGEST = 192  # voxels of the grid of comparison along the longest side
_FEWEST = 8  # voxels of an image along any side
_FINE, _AROUND = 0.7, 1.5  # SD in voxels of what is compared, and of what it is compared with
_SIGNAL, _RIM = 0.15, 3  # of the brightest: below is background; voxels along which it counts no more
_COVERED = 0.3  # of one image's signal that the other has to show
_PER_VOXEL, _ROUNDS = 20, 4  # steps of a move, and of its refinement
_ALIKE, _CLEARER = 0.3, 0.75  # correlation of images of one scan; share of it that no other way may reach
_ENDS = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))


@dataclass(frozen=True)
class Sides:
    """How an image lies by the judgement of another.

    Attributes
    ----------
    turned
        Whether its axes (x, y, z) run against what its affine says.
    correlation, next_best
        Of the contrasts of both images, as they lie truly and in the best of the seven other ways.
    moved : (3,)
        From where the affine, turned, lays the image to where it truly lies, in mm towards right, anterior, superior.
    affine : (4, 4)
        RAS+ mm, turned and moved, of the image stored as (x, y, z).
    """

    turned: _Turned
    correlation: float
    next_best: float
    moved: NDArray[np.float64]
    affine: NDArray[np.float64]

    def __str__(self) -> str:
        voxels, lengths = np.linalg.solve(self.affine[:3, :3], self.moved), np.linalg.norm(self.affine[:3, :3], axis=0)
        orientation = io_orientation(self.affine)
        exchanged, moved = [], []
        for axis in np.argsort(orientation[:, 0]):
            ends, n = _ENDS[int(orientation[axis, 0])], voxels[axis]
            exchanged += [" and ".join(ends)] if self.turned[axis] else []
            end = ends[int((orientation[axis, 1] > 0) == (n > 0))]
            moved.append(f"{abs(n) * lengths[axis]:.2f} mm ({abs(n):.2f} voxels) {end}")
        sides = f"{', '.join(exchanged)} are exchanged" if exchanged else "right as they are"
        return (
            f"Sides: {sides} (correlation {self.correlation:.2f}, otherwise at most {self.next_best:.2f})\n"
            f"Place: truly {', '.join(moved)} of where the image says"
        )


def compare_sides(
    image: _Real, affine: NDArray[np.float64], known: _Real, known_affine: NDArray[np.float64]
) -> Sides:  # fmt: skip
    """Find out which axes of an image run against what its affine says, and how far off it lies.

    Parameters
    ----------
    image : (z, y, x)
        Magnitude.
    affine : (4, 4)
        RAS+ mm of the image stored as (x, y, z).
    known : (z, y, x)
        Another image of the same scan, of any grid, which lies right.
    known_affine : (4, 4)

    Raises
    ------
    ImageError
        If an image is flat, or they are too different, or look too much the same from both sides to tell.
    """
    _check(image, "the image")
    _check(known, "the image that is known to lie right")
    shape, grid, width = _coarse_grid(image.shape[::-1], affine)
    ours, smooth = _seen(_smoothed(image, affine, width), shape, grid), _smoothed(known, known_affine, width)
    found = []
    for turned, laid in _ways(affine, image.shape[::-1]):
        there = laid @ np.linalg.inv(affine) @ grid
        found.append((_compared(ours, smooth, there, rounds=1)[0], turned, laid, there))
    (_, turned, laid, there), (second, *_) = sorted(found, key=lambda way: -way[0])[:2]
    best, moved = _compared(ours, smooth, there, rounds=_ROUNDS)
    if best < _ALIKE:
        raise ImageError(f"the two images are too different to compare (correlation {best:.2f} at best): take one of "
                         "the same scan, with the same contrast")  # fmt: skip
    if second > _CLEARER * best:
        raise ImageError(f"what the images show looks too much the same from both sides to tell them apart "
                         f"(correlation {best:.2f} and {second:.2f})")  # fmt: skip
    true = laid.copy()
    true[:3, 3] += moved
    return Sides(turned, best, second, moved, true)


def _check(image: NDArray[np.float32], what: str) -> None:
    """Raise ImageError for an image that no sides can be told of."""
    if min(image.shape) < _FEWEST:
        raise ImageError(f"{what} has {' × '.join(map(str, image.shape))} voxels (z, y, x); sides are compared in "
                         f"volumes of {_FEWEST} and more along each axis")  # fmt: skip
    if not np.ptp(image) > 0:
        raise ImageError(f"{what} is the same everywhere; take one of the head")


def _ways(affine: NDArray[np.float64], shape: tuple[int, ...]) -> Iterator[tuple[_Turned, NDArray[np.float64]]]:
    """The eight affines of an image whose axes run as they say or not; voxel n//2 stays where it is."""
    middle = affine @ [*(n // 2 for n in shape), 1]
    for x, y, z in product((False, True), repeat=3):
        turned = affine.copy()
        turned[:3, :3] *= np.where([x, y, z], -1.0, 1.0)
        turned[:3, 3] += middle[:3] - (turned @ [*(n // 2 for n in shape), 1])[:3]
        yield (x, y, z), turned


def _coarse_grid(
    shape: tuple[int, ...], affine: NDArray[np.float64]
) -> tuple[tuple[int, ...], NDArray[np.float64], float]:
    """Shape, affine and width in mm of a grid of cubes over the field of view, with its directions and middle."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    width = max(*lengths, (lengths * shape).max() / _LONGEST)
    coarse = tuple(max(2, round(n * size / width)) for n, size in zip(shape, lengths, strict=True))
    grid = affine.copy()
    grid[:3, :3] *= width / lengths
    middle, coarse_middle = ([(n - 1) / 2 for n in sizes] for sizes in (shape, coarse))
    grid[:3, 3] += affine[:3, :3] @ middle - grid[:3, :3] @ coarse_middle
    return coarse, grid, float(width)


def _smoothed(volume: _Real, affine: NDArray[np.float64], width: float) -> _Smooth:
    """The image (x, y, z), without what a grid of this width would fold; and 1 where it is above zero."""
    sigma = 0.4 * width / np.linalg.norm(affine[:3, :3], axis=0)
    values = gaussian_filter(volume.transpose(2, 1, 0), sigma, output=np.float32)
    return nib.Nifti1Image(values, affine), nib.Nifti1Image((values > 0).astype(np.float32), affine)


def _seen(smooth: _Smooth, shape: tuple[int, ...], grid: NDArray[np.float64]) -> _Seen:
    """On a grid, what differs from the brightness around it, as a share of that; and where there is any signal.

    The outline of the head is left out, and so are zeros, which stand for what was cut off or never imaged. Where the
    grid ends, within the head, is no outline.
    """
    values, covered = (resample_from_to(part, (shape, grid), order=1).get_fdata(dtype=np.float32) for part in smooth)
    around = gaussian_filter(values, _AROUND, mode="nearest")
    bright = around > _SIGNAL * np.percentile(around, 99)
    signal = binary_erosion(bright & (covered > 0.99), iterations=_RIM, border_value=1)
    least = max(_SIGNAL * around.max(), np.finfo(np.float32).tiny)  # nothing may lie within the grid
    contrast = (gaussian_filter(values, _FINE) - around) / np.maximum(around, least)
    return np.where(signal, contrast, 0).astype(np.float32), signal


def _compared(
    ours: _Seen, known: _Smooth, there: NDArray[np.float64], *, rounds: int
) -> tuple[float, NDArray[np.float64]]:
    """Correlation within the signal of both images, and the move in mm that ours needs for it; 0 if they share none."""
    moved, alike = np.zeros(3), 0.0
    for done in range(rounds + 1):
        placed = there.copy()
        placed[:3, 3] += moved
        theirs, signal = _seen(known, ours[0].shape, placed)
        both = ours[1] & signal
        if not both.any():
            return 0.0, moved
        enough = np.count_nonzero(both) > _COVERED * np.count_nonzero(ours[1])
        alike = float(np.corrcoef(ours[0][both], theirs[both])[0, 1]) if enough else 0.0
        if done < rounds:
            step = phase_cross_correlation(ours[0], theirs, upsample_factor=_PER_VOXEL, normalization=None)[0]
            moved = moved - there[:3, :3] @ step
    return alike, moved
