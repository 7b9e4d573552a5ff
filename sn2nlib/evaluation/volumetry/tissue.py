"""GM, WM and CSF by a hidden Markov random field, as FSL FAST finds them: the built-in tissue engine."""

from importlib.metadata import version
from importlib.util import find_spec

import numpy as np

from sn2nlib.errors import SegmentationError
from sn2nlib.evaluation.volumetry.brain import bounding_box, find_brain
from sn2nlib.evaluation.volumetry.engine import TISSUES

BETA = 0.3  # weight of a neighbour; on a validation head 0.2 to 0.45 agree equally well with the truth, 0.1 less
_BRIGHTEST = 0.75  # where the mean of the brightest class is scaled to
_AIR = 0.001  # what DIPY itself puts in place of zeros, but unseeded
_BINS = 1024
_ITERATIONS = 30
_STEADY = 1e-4  # share of the brain's labels that change in the last iteration


class MarkovTissues:
    """deepbet, N4, then EM on a hidden Markov random field (DIPY) in the brain's bounding box.

    1. The brain is extracted and its bias field removed (`find_brain`).
    2. k-means finds three classes, with which EM starts, as FAST's does. DIPY's own start, means at ¼, ½ and ¾ of the
       brightest voxel, depends on a single vessel, and from there EM was still on its way after 15 iterations where
       WM and GM lie close together.
    3. EM estimates mean and variance of each class and the labels x that minimise [1]_
       Σ_i (y_i − μ_x)² / 2σ_x² + log σ_x − β Σ_{j ∈ N(i)} ±1, + where a neighbour agrees, until the labels stay. The
       steps are DIPY's. Background in the box is a class of its own, of small positive seeded noise.
    4. The classes in order of their mean are CSF, GM, WM; a voxel of several tissues gets the likeliest of them,
       as in FAST's hard labels.

    Parameters
    ----------
    beta
        Weight β of a neighbour.

    Raises
    ------
    SegmentationError
        If DIPY, deepbet or ANTsPy is not installed.

    References
    ----------
    .. [1] Zhang Y, Brady M, Smith S. Segmentation of brain MR images through a hidden Markov random field model and
       the expectation-maximization algorithm. IEEE Trans Med Imaging 2001;20:45–57.
    """

    name = "built-in HMRF (DIPY)"
    kind = "tissue"
    note = ""

    def __init__(self, *, beta: float = BETA) -> None:
        require("dipy", "deepbet", "antspyx")
        self.beta = beta
        self.structures = dict(TISSUES)
        self.version = f"dipy {version('dipy')}, deepbet {version('deepbet')}, antspyx {version('antspyx')}"

    def __call__(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Labels (z, y, x) uint8 of a whole-head image; see `Segmenter`."""
        brain = find_brain(image, affine)
        labels = np.zeros(image.shape, np.uint8)
        box = bounding_box(brain.mask)
        labels[box] = classify(brain.image[box], brain.mask[box], beta=self.beta)
        return labels


def require(*packages: str) -> None:
    """Refuse at once, in words, where a package of the extra `volumetry` is missing.

    Raises
    ------
    SegmentationError
    """
    modules = {"antspyx": "ants"}
    missing = [name for name in packages if find_spec(modules.get(name, name)) is None]
    if missing:
        raise SegmentationError(
            f"the built-in engine needs {', '.join(missing)}; run `pip install -c constraints.txt -e '.[volumetry]'`"
        )


def classify(image: np.ndarray, mask: np.ndarray, *, beta: float = BETA) -> np.ndarray:
    """CSF, GM and WM of a bias-corrected brain, as 1, 2, 3.

    Parameters
    ----------
    image : (z, y, x) float32
    mask : (z, y, x) bool
    beta
        Weight of a neighbour.

    Returns
    -------
    (z, y, x) uint8
        0 outside the mask.

    Raises
    ------
    SegmentationError
        If the intensities do not fall into three classes.
    """
    means = cluster(image[mask])
    scale = _BRIGHTEST / means[-1]
    stage = np.abs(_AIR * (1 + 0.1 * np.random.default_rng(0).standard_normal([size + 2 for size in image.shape])))
    inside = np.pad(mask, 1)
    stage[inside] = np.clip(scale * image[mask], 2 * _AIR, 1)
    start = np.zeros(stage.shape, np.int16)
    start[inside] = 1 + np.abs(stage[inside][:, None] - scale * means).argmin(1)
    try:
        with np.errstate(invalid="raise", divide="raise"):  # a class without voxels has no mean
            found = _expectation_maximisation(stage, start, inside, beta)
    except (ValueError, FloatingPointError, ZeroDivisionError) as error:
        raise SegmentationError(f"the intensities of the brain do not fall into three classes ({error})") from error
    return np.where(mask, found[1:-1, 1:-1, 1:-1], 0).astype(np.uint8)


def _expectation_maximisation(stage: np.ndarray, labels: np.ndarray, inside: np.ndarray, beta: float) -> np.ndarray:
    """Labels (z, y, x) of background and tissues, in the order of their means, from a first guess of them."""
    from dipy.segment.mrf import ConstantObservationModel, IteratedConditionalModes  # a second

    model, modes, n_classes = ConstantObservationModel(), IteratedConditionalModes(), 1 + len(TISSUES)
    means, variances = model.seg_stats(stage, labels, n_classes)
    for _ in range(_ITERATIONS):
        prior = modes.prob_neighborhood(labels, beta, n_classes)
        shares = model.prob_image(stage, n_classes, means, variances, prior)
        means, variances = model.update_param(stage, shares, means, n_classes)
        order = np.argsort(means)
        means, variances = means[order], variances[order]
        energies = model.negloglikelihood(stage, means, variances, n_classes)
        former, (labels, _) = labels, modes.icm_ising(energies, beta, labels)
        if np.count_nonzero(labels[inside] != former[inside]) < _STEADY * np.count_nonzero(inside):
            break
    return labels


def cluster(values: np.ndarray) -> np.ndarray:
    """Means of three classes of intensities by k-means on their histogram, in rising order.

    Parameters
    ----------
    values : (n,)

    Raises
    ------
    SegmentationError
        If there are fewer than three intensities.
    """
    counts, edges = np.histogram(values, _BINS, range=np.percentile(values, [0.1, 99.5]).tolist())
    middles = 0.5 * (edges[1:] + edges[:-1])
    means = np.percentile(values, [10, 50, 90])
    for _ in range(200):
        nearest = np.abs(middles[:, None] - means).argmin(1)
        weights = np.bincount(nearest, counts, minlength=len(means))
        if not weights.all():
            raise SegmentationError("the intensities of the brain do not fall into three classes")
        moved = np.bincount(nearest, counts * middles, minlength=len(means)) / weights
        if np.array_equal(moved, means):
            break
        means = moved
    return means
