"""The brain of one image: extracted by deepbet, freed of the bias field."""

import hashlib
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation, label

from sn2nlib.errors import SegmentationError
from sn2nlib.evaluation.volumetry.mixture import Mixture, even_out, refined
from sn2nlib.scans.images import voxel_size_of

LITRES = (0.9, 2.2)  # of a believable brain with its inner CSF
_SECOND = 0.05  # largest share of the brain that a second object may have
_SCALP = 0.10  # least volume of signal outside the brain, over the brain's
_LIKENESS = 0.3  # least correlation of neighbouring voxels in the brain; even three times a scan's noise leaves 0.8
_SHRINK = 5.0  # mm: grid of N4
_MARGIN = 4  # voxels by which the box that is freed of the bias field is wider than the brain, but at least
_SURROUNDINGS = 5.4  # mm: the skull that the tissue engine looks at


@dataclass(frozen=True)
class Brain:
    """What the engines work on.

    Attributes
    ----------
    image : (z, y, x) float32
        Bias-corrected in `box_of`; 0 beyond.
    mask : (z, y, x) bool
    tissues
        Intensities of its tissues.
    key
        Tells this image from all others.
    """

    image: np.ndarray
    mask: np.ndarray
    tissues: Mixture
    key: str = ""


_last: dict[str, Brain] = {}


def find_brain(image: np.ndarray, affine: np.ndarray) -> Brain:
    """Extract the brain and correct its bias field; the last image's is kept for the next engine.

    Parameters
    ----------
    image : (z, y, x) float32
        A whole head; z left to right, y posterior to anterior, x inferior to superior.
    affine : (4, 4) float
        Of the image stored as (x, y, z).

    Raises
    ------
    SegmentationError
        If deepbet is not installed, finds no brain, or a gate refuses what it finds.
    """
    image = np.ascontiguousarray(image, np.float32)
    key = hashlib.sha256(image.tobytes() + np.asarray(affine, float).tobytes() + str(image.shape).encode()).hexdigest()
    if key not in _last:
        mask = extract_brain(image, affine)
        even, tissues = correct_bias(image, mask, affine)
        brain = Brain(even, mask, tissues, key)
        _last.clear()
        _last[key] = brain
    return _last[key]


def extract_brain(image: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Brain mask by deepbet [1]_, on the CPU, behind gates: volume, one object, structure, a head around it.

    Parameters
    ----------
    image : (z, y, x) float32
    affine : (4, 4) float
        Of the image stored as (x, y, z).

    Returns
    -------
    (z, y, x) bool

    Raises
    ------
    SegmentationError

    References
    ----------
    .. [1] Fisch L et al. deepbet: fast brain extraction of T1-weighted MRI using convolutional neural networks.
       Comput Biol Med 2024;179:108845.
    """
    extraction, torch = _deepbet()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order would give other bits
    try:
        found = extraction.run_model(np.array(image, np.float32)) > 0.5
    except (AssertionError, ValueError, IndexError, RuntimeError) as error:  # bare, without words
        raise SegmentationError("no brain found: deepbet sees none in the image") from error
    finally:
        torch.set_num_threads(threads)
    numbered, count = label(found)
    if count == 0:
        raise SegmentationError("no brain found: deepbet marks no voxel of the image")
    sizes = np.sort(np.bincount(numbered.ravel())[1:])[::-1]
    if count > 1 and sizes[1] > _SECOND * sizes[0]:
        raise SegmentationError(
            f"brain extraction fell into pieces: the second is {100 * sizes[1] / sizes[0]:.0f} % of the first"
        )
    mask = np.asarray(extraction.postprocess(found), bool)
    litres = mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1e6
    if not LITRES[0] <= litres <= LITRES[1]:
        raise SegmentationError(
            f"the brain found has {litres:.2f} L, believable are {LITRES[0]} to {LITRES[1]} L; "
            "the image holds no whole brain, or its voxel size is wrong"
        )
    _check_content(image, mask)
    _check_scalp(image, mask)
    return mask


def _check_content(image: np.ndarray, mask: np.ndarray) -> None:
    both = mask[1:] & mask[:-1]
    one, next_one = (np.asarray(each[both], float) for each in (image[1:], image[:-1]))
    likeness = np.corrcoef(one, next_one)[0, 1] if one.std() > 0 and next_one.std() > 0 else 0.0
    if likeness < _LIKENESS:
        raise SegmentationError(
            "what deepbet marks is no brain: it is noise or uniform, neighbouring voxels there "
            f"correlate by {likeness:.2f} only"
        )


def _check_scalp(image: np.ndarray, mask: np.ndarray) -> None:
    outside = ~binary_dilation(mask, iterations=2)
    bright = image > 0.25 * np.median(image[mask])
    if np.count_nonzero(bright & outside) < _SCALP * np.count_nonzero(mask):
        raise SegmentationError("there is no head around the brain: a skull-stripped image; give the whole one")


@lru_cache(maxsize=1)
def _deepbet() -> tuple[Any, Any]:
    """deepbet's brain extraction, and the PyTorch it runs on."""
    with warnings.catch_warnings():
        # deepbet stores its network in a format that new versions of PyTorch call old
        warnings.simplefilter("ignore", DeprecationWarning)
        from deepbet import bet  # loads PyTorch: five seconds

        return bet.BrainExtraction(no_gpu=True), bet.torch


def correct_bias(image: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, Mixture]:
    """Divide by the bias field: its coarse part as N4 [1]_ finds it, the rest as `even_out` does.

    N4 works on a grid of about 5 mm with two levels of splines. Finer levels take the contrast of the tissues for
    bias once noise has melted the peaks of the histogram: at three times a scan's noise, four levels move the GM of
    two development heads from 0.61 and 0.79 of WM to 0.71 and 0.85.

    Parameters
    ----------
    image : (z, y, x) float32
    mask : (z, y, x) bool
    affine : (4, 4) float
        Of the image stored as (x, y, z).

    Returns
    -------
    image : (z, y, x) float32
        In `box_of`, the field read on beyond the mask; 0 farther out.
    tissues
        Intensities of its tissues.

    Raises
    ------
    SegmentationError
        If no finite signal is left, or the intensities do not fall into three classes.

    References
    ----------
    .. [1] Tustison NJ et al. N4ITK: improved N3 bias correction. IEEE Trans Med Imaging 2010;29:1310–1320.
    """
    sizes = voxel_size_of(affine)
    box = box_of(mask, sizes)
    signal, inside = np.maximum(image[box], 0), mask[box]
    even = signal / _coarse_field(signal, inside, affine, sizes)
    result = np.zeros(image.shape, np.float32)
    result[box], tissues = even_out(even, inside, voxel_size=sizes)
    if not np.isfinite(result).all() or not result.any():
        raise SegmentationError("the bias correction failed: it left no finite signal in the brain")
    return result, tissues


def _coarse_field(
    image: np.ndarray, mask: np.ndarray, affine: np.ndarray, sizes: tuple[float, float, float]
) -> np.ndarray:
    import ants  # two seconds

    make_deterministic()
    steps = [max(1, round(_SHRINK / size)) for size in sizes]
    some = tuple(slice(step // 2, None, step) for step in steps)
    wider = np.array(affine, float)
    wider[:3, :3] *= steps[::-1]
    brain, inside = (np.pad(part[some].astype(np.float32), 2) for part in (np.where(mask, image, 0), mask))
    field = ants.n4_bias_field_correction(
        as_ants(brain, wider),
        mask=as_ants(inside, wider),
        shrink_factor=1,
        convergence={"iters": [50, 50], "tol": 1e-5},
        return_bias_field=True,
    ).numpy()
    return refined(field[2:-2, 2:-2, 2:-2], steps, image.shape)


def bounding_box(mask: np.ndarray, *, margin: int | Sequence[int] = 1) -> tuple[slice, ...]:
    """The box of a mask that holds something, widened by `margin` voxels (of each axis) where the grid allows."""
    filled = [np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    margins = [margin] * 3 if isinstance(margin, int) else margin
    return tuple(
        slice(max(int(line[0]) - wider, 0), min(int(line[-1]) + 1 + wider, size))
        for line, wider, size in zip(filled, margins, mask.shape, strict=True)
    )


def box_of(mask: np.ndarray, sizes: tuple[float, float, float]) -> tuple[slice, ...]:
    """The box of a brain and what surrounds it: 4 voxels, or as many as 5.4 mm need."""
    return bounding_box(mask, margin=[max(_MARGIN, ceil(_SURROUNDINGS / size - 1e-5)) for size in sizes])


def make_deterministic() -> None:
    """One ITK thread and a fixed seed, so that equal images give equal bits; the caller's random state stays."""
    import ants

    states = np.random.get_state(), random.getstate()  # noqa: NPY002 (ants seeds the global generators)
    ants.config.set_ants_deterministic(on=True, seed_value=1)
    np.random.set_state(states[0])  # noqa: NPY002
    random.setstate(states[1])


def as_ants(volume: np.ndarray, affine: np.ndarray) -> Any:
    """A volume as an ANTs image whose axes are (z, y, x) in that order.

    Parameters
    ----------
    volume : (z, y, x) float32
    affine : (4, 4) float
        RAS+ mm affine of the volume stored as (x, y, z).
    """
    import ants

    to_lps = np.diag([-1.0, -1.0, 1.0]) @ np.asarray(affine, float)[:3][:, [2, 1, 0, 3]]
    spacing = np.linalg.norm(to_lps[:, :3], axis=0)
    return ants.from_numpy(
        np.ascontiguousarray(volume, np.float32),
        origin=to_lps[:, 3].tolist(),
        spacing=spacing.tolist(),
        direction=to_lps[:, :3] / spacing,
    )
