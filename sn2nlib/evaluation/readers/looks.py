"""What a model observer measures in one image: noise, contrast, blur, ghosts, structures and lesions.

Nothing here knows which arm an image is of, nor its noise-free truth: an image goes in, and the places of
`sn2nlib.evaluation.readers.sights`. All measures are free of units.

1. **noise**: SD of what is left of white matter after its slow drift is taken away, over the white matter's mean.
2. **contrast**: CNR of white against grey matter, and of the deep nuclei against white matter; the geometric mean.
3. **acuity**: how strongly the finest part of the known white-matter map shows around its borders, over how strongly
   its coarse part does; some 1.5 is as sharp as the voxels allow, less is blurred. Noise does not move it, so that a
   noisy sharp image counts as sharp here.
4. **edge**: step between white and grey matter over the noise. An edge's place is uncertain by its width over this.
5. **ghost**: how much brighter air is where R = 2 would fold the head to than elsewhere, over the white matter's mean.
6. **structure**: contrast of a structure against what is next to it, over the noise nearby; **border**: that of a
   lesion.
7. **lesion**: detectability index d′ of a non-prewhitening matched filter: its answer at the lesion, less its mean over
   lesion-free white matter, over its SD there (Burgess AE. J Opt Soc Am A 1999;16:633). Correlated noise counts as it
   does for the eye.
"""

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from sn2nlib.evaluation.readers.sights import Sight, Sights, surroundings

FILTERS = (1.2, 2.4)  # voxels: SD of the lesion filters' middle; the surround is twice as wide
_DRIFT = 2.5  # voxels: SD of what counts as drift of the white matter
_NEARBY = 7.0  # voxels: SD of where noise counts as local
_FINE = 0.8  # voxels: what a Gaussian of this SD takes away is the finest part of the anatomy
_NORMAL = 1.4826  # SD of normal noise over its median absolute value
_FEW = 20  # voxels; of fewer nothing is said

Measures = list[dict[str, object]]


def look(image: np.ndarray, sights: Sights) -> Measures:
    """Measure an image.

    Parameters
    ----------
    image : (z, y, x)
        Magnitude; any unit.
    sights
        Of its head.

    Returns
    -------
    Rows of measure, item ("" or the title of a structure or lesion), value; NaN where there is nothing to measure.
    """
    image = np.asarray(image, np.float32)
    white = sights.white
    level = _mean(image, white)
    residual = image - _within(image, white, _DRIFT)
    noise = _spread(residual[white])
    step = level - _mean(image, sights.grey)
    rows: Measures = [
        {"measure": "noise", "item": "", "value": noise / level},
        {"measure": "contrast", "item": "", "value": _contrast(image, sights, level, noise)},
        {"measure": "acuity", "item": "", "value": edge_acuity(image, sights)},
        {"measure": "edge", "item": "", "value": max(step, 0.0) / noise},
        {"measure": "ghost", "item": "", "value": ghost(image, sights) / level},
    ]
    power = gaussian_filter(np.where(white, residual**2, 0), _NEARBY, truncate=3)
    weight = gaussian_filter(white.astype(np.float32), _NEARBY, truncate=3)
    local = np.where(weight > 0.02, np.sqrt(power / np.maximum(weight, 1e-6)), noise)
    for measure, watched in (("structure", sights.structures), ("border", sights.lesions)):
        for sight in watched:
            rows.append({"measure": measure, "item": sight.title, "value": _seen(image, sight, local)})
    for sight, value in zip(sights.lesions, detectability(image, sights), strict=True):
        rows.append({"measure": "lesion", "item": sight.title, "value": value})
    return rows


def edge_acuity(image: np.ndarray, sights: Sights) -> float:
    """Contrast of the white matter's border in its finest part over that in its coarse part.

    The intensities around the border are explained by least squares as c + a·coarse + b·fine, the known map of white
    matter being the sum of both; returned is b/a.

    Parameters
    ----------
    image : (z, y, x)
    sights
        Of its head.

    Returns
    -------
    float
        At least 0; NaN where there is no border.
    """
    known = sights.white_share
    coarse = gaussian_filter(known, _FINE)
    near = gaussian_filter(known, 1.5)
    # away from CSF, whose own border is another
    border = (near > 0.1) & (near < 0.9) & sights.brain & (sights.fluid_share < 0.05)
    if np.count_nonzero(border) < _FEW:
        return math.nan
    parts = np.stack([np.ones(np.count_nonzero(border)), coarse[border], (known - coarse)[border]], axis=1)
    (_, a, b), *_ = np.linalg.lstsq(parts, image[border].astype(np.float64), rcond=None)
    return max(float(b / a), 0.0) if a > 0 else math.nan


def ghost(image: np.ndarray, sights: Sights) -> float:
    """How much brighter air is where half a field of view along ky would fold the head to, in the image's unit."""
    folded = np.roll(sights.body, sights.body.shape[1] // 2, axis=1)
    there, elsewhere = sights.air & folded, sights.air & ~folded
    if min(np.count_nonzero(there), np.count_nonzero(elsewhere)) < _FEW:
        return 0.0
    return max(float(image[there].mean() - image[elsewhere].mean()), 0.0)


def structure_contrast(image: np.ndarray, sight: Sight) -> float:
    """Contrast of a structure as it appears, in the image's unit; 0 where the grid is too coarse for it.

    The line through the intensities around it over the share of the structure gives its own contrast; a thin structure
    that fills no voxel appears with as much of it as its fullest voxels hold.
    """
    if not sight.is_there:
        return 0.0
    near = surroundings(sight)
    share, seen = sight.share[near], image[sight.window][near]
    if len(share) < _FEW or np.ptp(share) < 0.1:
        return 0.0
    slope = np.polyfit(share, seen, 1)[0]
    return float(slope * np.percentile(share[share > 0.3], 90)) if (share > 0.3).any() else 0.0


def detectability(image: np.ndarray, sights: Sights) -> list[float]:
    """d′ of every lesion: the better of two filters, a small and a large one, that see white matter alone.

    Returns
    -------
    One number per lesion, at least 0; 0 where the grid is too coarse for the lesion or there is too little background.
    """
    if not any(sight.is_there for sight in sights.lesions):
        return [0.0] * len(sights.lesions)
    sick = np.zeros(image.shape, np.float32)
    for sight in sights.lesions:
        sick[sight.window] = np.maximum(sick[sight.window], sight.share)
    white = sights.white | (sick > 0.3)
    found = np.zeros((len(FILTERS), len(sights.lesions)))
    for row, width in enumerate(FILTERS):
        answer = _within(image, white, width) - _within(image, white, 2 * width)
        # where the filter has white matter to see, and no lesion
        enough = gaussian_filter(white.astype(np.float32), width) > 0.7
        healthy = sights.white & enough & (gaussian_filter(sick, 2 * width) < 0.01)
        if np.count_nonzero(healthy) < _FEW:
            continue
        spread, mean = float(answer[healthy].std()), float(answer[healthy].mean())
        for column, sight in enumerate(sights.lesions):
            if sight.is_there:
                weights = sight.share * (sight.share > 0.3)
                seen = float((answer[sight.window] * weights).sum() / weights.sum())
                found[row, column] = abs(seen - mean) / spread
    return [float(value) for value in found.max(axis=0)]


def _seen(image: np.ndarray, sight: Sight, local: np.ndarray) -> float:
    """Contrast of a structure over the noise nearby; 0 where the grid is too coarse for it."""
    if not sight.is_there:
        return 0.0
    z, y, x = (round(place) for place in sight.centre)
    return abs(structure_contrast(image, sight)) / float(local[z, y, x])


def _contrast(image: np.ndarray, sights: Sights, level: float, noise: float) -> float:
    """Geometric mean of the CNR of grey matter and of the deep nuclei against white matter."""
    values = [_mean(image, mask) for mask in (sights.grey, *sights.nuclei.values())]
    ratios = [max(abs(level - value) / noise, 1e-3) for value in values if not math.isnan(value)]
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else math.nan


def _within(image: np.ndarray, mask: np.ndarray, width: float) -> np.ndarray:
    """Gaussian mean of the voxels of a mask alone."""
    weight = gaussian_filter(mask.astype(np.float32), width, truncate=3)
    return gaussian_filter(np.where(mask, image, 0), width, truncate=3) / np.maximum(weight, 1e-3)


def _spread(values: np.ndarray) -> float:
    return _NORMAL * float(np.median(np.abs(values))) if values.size >= _FEW else math.nan


def _mean(image: np.ndarray, mask: np.ndarray) -> float:
    return float(image[mask].mean()) if np.count_nonzero(mask) >= _FEW else math.nan
