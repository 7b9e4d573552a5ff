"""How a digital head is made: template maps → warp → hard labels → T1, PD, T2* with texture.

A network learns from its training heads what an edge looks like. Smooth template heads teach it to blur real ones, so
boundaries here are hard on the fine grid, folds and layers vary from head to head, and the texture reaches the Nyquist
frequency.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import nibabel as nib
import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from sn2nlib.scans.atlas import STRUCTURES, subcortical_probabilities, template_path
from sn2nlib.scans.details import Details, colour
from sn2nlib.scans.fields import smooth_field, texture

# T1 (ms, 3 T), proton density, T2* (ms), relative SD of the texture. Literature values, rounded; each head draws
# its own around them.
MATERIALS: dict[str, tuple[float, float, float, float]] = {
    "air": (1000, 0.0, 20, 0.0),
    "csf": (4000, 1.0, 1000, 0.02),
    "gm": (1400, 0.82, 60, 0.025),
    "wm": (850, 0.70, 50, 0.018),
    "thalamus": (1150, 0.78, 50, 0.02),
    "caudate": (1300, 0.81, 50, 0.02),
    "putamen": (1230, 0.80, 45, 0.02),
    "pallidum": (970, 0.74, 30, 0.02),
    "brainstem": (940, 0.72, 45, 0.02),
    "vessel": (520, 0.75, 60, 0.05),
    "dura": (1000, 0.45, 20, 0.06),
    "bone": (600, 0.08, 5, 0.3),
    "marrow": (420, 0.48, 25, 0.12),
    "muscle": (1300, 0.75, 30, 0.06),
    "fat": (380, 0.48, 40, 0.08),
    "skin": (900, 0.55, 30, 0.06),
    "vitreous": (4200, 1.0, 800, 0.01),
    "lesion": (1500, 0.90, 80, 0.04),
}
CODES = {name: code for code, name in enumerate(MATERIALS)}
_DEEP = {"thalamus": "thalamus", "caudate": "caudate", "putamen": "putamen", "pallidum": "pallidum",
         "brainstem": "brainstem", "hippocampus": "gm", "amygdala": "gm", "accumbens": "caudate"}
# nilearn's template: voxel (98, 134, 72) is the origin; a head's field of view is centred here (RAS mm)
_ORIGIN = np.array([98.0, 134.0, 72.0])
_CENTRE = np.array([0.0, -14.0, -14.0])


@lru_cache(maxsize=1)
def _template() -> dict[str, np.ndarray]:
    """GM, WM, distance to the brain (mm, negative inside), deep structure and its certainty; axes as a head's."""
    wide = ((0, 0), (0, 0), (60, 20))  # room for the neck below and the scalp above
    stored = (nib.Nifti1Image.from_filename(template_path(kind)) for kind in ("gm", "wm", "t1"))
    gm, wm, t1 = (np.pad(np.asarray(image.dataobj, np.float32) / 255, wide) for image in stored)
    brain = gaussian_filter((t1 > 0).astype(np.float32), 1.0) > 0.5
    distance = (distance_transform_edt(~brain) - distance_transform_edt(brain)).astype(np.float32)
    deep = np.pad(subcortical_probabilities(), ((0, 0), *wide)).astype(np.float32) / 100
    # one map for which structure, one for how certain: warping 15 maps would take most of the time
    which = (deep.argmax(0) + 1).astype(np.uint8)
    return {"gm": gm, "wm": wm, "distance": distance, "which": which, "certainty": deep.max(0)}


def build_maps(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    *,
    age: float = 55.0,
    sex: str | None = None,
    lesions: int = 0,
    centre: Sequence[float] | None = None,
    cisterns: Callable[[list[np.ndarray]], np.ndarray] | None = None,
    details: Details | None = None,
) -> dict[str, Any]:
    """Maps of one random head on a grid.

    Parameters
    ----------
    rng, age, sex, lesions
        As `sn2nlib.scans.heads.digital_head`.
    shape, spacing
        (z, y, x) = (right, anterior, superior) of the grid; mm.
    centre
        RAS mm of the grid's voxel n//2; None: the middle of the head.
    cisterns
        Given the template position (RAS mm, three arrays) of each voxel, says which voxels (z, y, x) hold CSF, whatever
        else would lie there.
    details
        Fine structures and lesions of known size to put into the head; they change nothing elsewhere.

    Returns
    -------
    t1, pd, t2_star, tissue, structures, lesions, (z, y, x); material (z, y, x), index into `MATERIALS`; centre; with
    `details` also placed, what was put where.
    """
    points = _warped_points(rng, shape, spacing, sex, None if centre is None else np.asarray(centre, np.float32))
    centre = tuple(float(c) for c in (_CENTRE if centre is None else centre))
    warped = _sample_template(points)
    code, structures = _brain(rng, shape, spacing, warped, age)
    _outside(rng, shape, spacing, warped["distance"], points, code)
    if cisterns is not None:
        code[cisterns(points)] = CODES["csf"]
    lesion = _lesions(rng, spacing, code, lesions)
    placed = None
    if details is not None:
        names: dict[str, Any] = {"codes": CODES, "atlas": STRUCTURES, "materials": MATERIALS}
        placed = details.place(points, spacing, code, structures, **names)
    tissue = np.array([_tissue_index(name) for name in MATERIALS], np.uint8)[code]
    structures = np.where(tissue >= 2, structures, 0).astype(np.uint8)
    t1, pd, t2_star = _properties(rng, shape, spacing, code)
    maps = {"t1": t1, "pd": pd, "t2_star": t2_star, "tissue": tissue, "structures": structures, "lesions": lesion,
            "material": code, "centre": centre}
    if placed is None:
        return maps
    colour(placed, t1, pd, MATERIALS)
    return maps | {"lesions": lesion | (placed.lesions > 0), "placed": placed}


def _tissue_index(name: str) -> int:
    if name == "air":
        return 0
    if name == "csf":
        return 1
    if name in ("gm", "thalamus", "caudate", "putamen", "pallidum"):
        return 2
    return 3 if name in ("wm", "brainstem", "lesion") else 4


def _warped_points(
    rng: np.random.Generator,
    shape: Sequence[int],
    spacing: Sequence[float],
    sex: str | None,
    centre: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Template position (RAS mm) seen by each voxel: random affine, smooth and fine random displacement.

    A `centre` stays within a few mm of itself, so that a small field of view shows what it is meant to.
    """
    sex = sex or str(rng.choice(["F", "M"]))
    # template space is larger than a typical brain; women's heads are about 3 % smaller in each direction
    scale = rng.normal([1.09, 1.0, 1.0], 0.03) * (1.07 if sex == "F" else 1.04)
    angles = np.deg2rad(rng.normal(0, [6, 3, 3]))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        i, j = [(1, 2), (0, 2), (0, 1)][axis]
        step = np.eye(3)
        step[i, i] = step[j, j] = c
        step[i, j], step[j, i] = -s, s
        turn = turn @ step
    matrix = (turn * scale).astype(np.float32)
    grid = [
        ((np.arange(n) - n // 2) * size).astype(np.float32)
        for n, size in zip(shape, spacing, strict=True)
    ]
    jitter = rng.normal(0, 2.0, 3)
    # a field's SD is 1 over the grid: where that is small, a slow field would be steep
    extent = np.mean([n * size for n, size in zip(shape, spacing, strict=True)])
    share = {w: 1.0 if centre is None else min(1.0, float(extent) / (2 * w)) for w in (70.0, 28.0, 11.0)}
    points = []
    for axis in range(3):
        z, y, x = (matrix[axis, k] * grid[k] for k in range(3))
        points.append(z[:, None, None] + y[None, :, None] + x[None, None, :] + np.float32(_CENTRE[axis] + jitter[axis]))
        for wavelength, amplitude in ((70.0, 4.0), (28.0, 1.8), (11.0, 0.9)):
            points[axis] += np.float32(amplitude * share[wavelength]) * smooth_field(shape, spacing, wavelength, rng)
        if centre is not None:
            points[axis] += np.float32(centre[axis] + jitter[axis]) - points[axis][tuple(n // 2 for n in shape)]
    return points


def _sample_template(points: list[np.ndarray]) -> dict[str, np.ndarray]:
    template = _template()
    origin = _ORIGIN + np.array([0.0, 0.0, 60.0])  # the template is padded below
    voxels = np.stack([point + np.float32(o) for point, o in zip(points, origin, strict=True)])
    warped = {
        name: map_coordinates(template[name], voxels, order=1, mode="nearest", output=np.float32)
        for name in ("gm", "wm", "distance", "certainty")
    }
    warped["which"] = map_coordinates(template["which"], voxels, order=0, mode="nearest", output=np.uint8)
    return warped


def _brain(
    rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], warped: dict[str, np.ndarray], age: float
) -> tuple[np.ndarray, np.ndarray]:
    """Hard labels inside the brain: the largest of GM, WM and CSF after random folds are added to each."""
    folds = 0.7 * smooth_field(shape, spacing, 5.5, rng) + 0.3 * smooth_field(shape, spacing, 3.0, rng)
    ripple = smooth_field(shape, spacing, 3.5, rng)
    atrophy = np.clip((age - 45) / 40, -0.5, 1.2)
    gm = warped["gm"] + 0.16 * folds
    wm = warped["wm"] - 0.10 * folds + 0.10 * ripple + rng.normal(0, 0.03)
    inside = warped["distance"] < -0.6 + 0.5 * ripple
    csf = 1 - warped["gm"] - warped["wm"] + 0.10 * atrophy - 0.12 * ripple + rng.normal(0.05, 0.03)
    # deep white matter and ventricles are no place for folds
    csf -= 0.6 * np.clip(warped["wm"] - 0.6, 0, 1)
    code = np.full(shape, CODES["air"], np.uint8)
    label = np.array([CODES["csf"], CODES["gm"], CODES["wm"]], np.uint8)[np.argmax([csf, gm, wm], axis=0)]
    code[inside] = label[inside]
    structures = np.where(warped["certainty"] > 0.45 + 0.05 * ripple, warped["which"], 0).astype(np.uint8)
    structures[code == CODES["air"]] = 0
    for name, number in STRUCTURES.items():
        material = _DEEP[name.split()[-1]]
        here = (structures == number) & ((code != CODES["csf"]) | (warped["certainty"] > 0.8))
        if material == "brainstem":
            here &= code != CODES["csf"]
        code[here] = CODES[material]
    structures[code == CODES["csf"]] = 0
    return code, structures


def _outside(
    rng: np.random.Generator,
    shape: Sequence[int],
    spacing: Sequence[float],
    distance: np.ndarray,
    points: list[np.ndarray],
    code: np.ndarray,
) -> None:
    """CSF space, dura, skull with marrow, muscle, fat, skin, face and neck around the brain; written into `code`."""
    right, anterior, superior = points
    slow, mid, quick = (smooth_field(shape, spacing, wavelength, rng) for wavelength in (40.0, 12.0, 4.0))
    empty = code == CODES["air"]
    csf = np.clip(rng.uniform(1.2, 3.0) + 0.8 * mid, 0.3, None)
    dura = csf + np.clip(0.9 + 0.5 * quick, 0.3, None)
    skull = np.clip(rng.uniform(5.0, 8.0) + 1.6 * slow + 0.5 * mid, 3.0, None)
    outer = dura + skull
    temples = np.exp(-((superior + 25) / 28) ** 2) * (np.abs(right) > 45)
    muscle_thickness = np.clip(1.5 + 1.2 * slow + 5.0 * temples, 0.5, None)
    fat = outer + muscle_thickness
    skin = fat + np.clip(rng.uniform(2.5, 5.0) + 1.2 * slow + 0.5 * mid, 1.0, None)
    edge = skin + np.clip(1.6 + 0.4 * mid, 0.8, None)
    # below the skull base the head goes on as face and neck: an ellipsoid and a cylinder with a rough surface
    face = np.sqrt((right / 64) ** 2 + ((anterior - 18) / 74) ** 2 + ((superior + 52) / 62) ** 2)
    neck = np.sqrt((right / 52) ** 2 + ((anterior + 28) / 50) ** 2)
    nose = np.sqrt((right / 14) ** 2 + ((anterior - 90) / 16) ** 2 + ((superior + 42) / 20) ** 2)
    neck = np.where(superior < -50, neck, 2)
    depth = 60 * np.maximum(np.maximum(1 - face, 1 - neck), 0.3 * (1 - nose))
    depth += np.clip(1.2 * mid, -2.5, 2.5)
    depth[np.minimum(np.minimum(face, neck), nose) > 1] = -1
    below = (depth > 0) & (distance > outer)

    def put(where: np.ndarray, material: str) -> None:
        code[empty & where] = CODES[material]

    put((distance < edge), "skin")
    put((distance < skin), "fat")
    put((distance < fat), "muscle")
    grain = smooth_field(shape, spacing, 7.0, rng)
    put(below, "skin")
    put(below & (depth > 1.8), "fat")
    put(below & (depth > 5 + 2 * slow), "muscle")
    put(below & (depth > 6) & (grain + 0.5 * slow > 0.75), "fat")
    put(below & (depth > 7) & (mid + 0.4 * grain > 1.3), "bone")
    put(below & (depth > 7) & (mid + 0.4 * grain > 1.75), "marrow")
    airway = np.sqrt((right / 16) ** 2 + ((anterior - 45) / 38) ** 2 + ((superior + 50) / 32) ** 2)
    put(below & (airway + 0.25 * mid + 0.12 * quick < 0.75), "air")
    put(distance < outer, "bone")
    between = (distance < outer - 1.6 - 0.3 * mid) & (distance > dura + 1.6 + 0.3 * quick)
    put(between & (slow + 0.6 * mid > -0.8), "marrow")
    put(distance < dura, "dura")
    put(distance < csf, "csf")
    _eyes(rng, right, anterior, superior, distance, outer, code, empty)
    _vessels(rng, shape, spacing, distance, code)


def _eyes(
    rng: np.random.Generator, right: np.ndarray, anterior: np.ndarray, superior: np.ndarray,
    distance: np.ndarray, outer: np.ndarray, code: np.ndarray, empty: np.ndarray,
) -> None:
    radius = rng.uniform(11, 13)
    for side in (-1, 1):
        r = np.sqrt((right - side * 32) ** 2 + (anterior - 62) ** 2 + (superior + 34) ** 2)
        orbit = empty & (r < radius + 8) & (distance > 3)
        code[orbit] = CODES["fat"]
        code[empty & (r < radius + 1.2) & (distance > 3)] = CODES["muscle"]
        code[empty & (r < radius) & (distance > 3)] = CODES["vitreous"]


def _vessels(
    rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], distance: np.ndarray, code: np.ndarray
) -> None:
    """Thin bright tubes: where two random fields cross zero together, in the CSF space, scalp and brain."""
    first, second = (smooth_field(shape, spacing, 16.0, rng) for _ in range(2))
    thin = first**2 + second**2
    radius = 0.0035 * (1 + 0.5 * rng.random())
    around = np.isin(code, [CODES["csf"], CODES["fat"], CODES["muscle"]])
    code[(thin < radius) & (distance > -25) & around] = CODES["vessel"]
    code[(thin < 0.3 * radius) & np.isin(code, [CODES["gm"], CODES["wm"]])] = CODES["csf"]  # perivascular space


def _lesions(rng: np.random.Generator, spacing: Sequence[float], code: np.ndarray, count: int) -> np.ndarray:
    """Irregular white-matter lesions, about 3–10 mm across; written into `code`, returned as a mask."""
    mask = np.zeros(code.shape, bool)
    candidates = np.argwhere(code == CODES["wm"])
    for centre in candidates[rng.integers(len(candidates), size=count)] if len(candidates) else ():
        radius = rng.uniform(1.5, 5.0)
        reach = [int(np.ceil(2 * radius / size)) for size in spacing]
        window = tuple(
            slice(max(c - r, 0), min(c + r + 1, n)) for c, r, n in zip(centre, reach, code.shape, strict=True)
        )
        offsets = [
            (np.arange(part.start, part.stop) - c) * size
            for part, c, size in zip(window, centre, spacing, strict=True)
        ]
        r = np.sqrt(sum(np.square(o) for o in np.meshgrid(*offsets, indexing="ij")))
        rough = r / radius + 0.3 * smooth_field(r.shape, spacing, 3.0, rng)
        mask[window] |= (rough < 1) & (code[window] == CODES["wm"])
    code[mask] = CODES["lesion"]
    return mask


def _properties(
    rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], code: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """T1, PD, T2* of every voxel: the head's own tissue values, slow drift within a tissue, fine texture."""
    table = np.array(list(MATERIALS.values()), np.float32)
    spread = rng.normal(1.0, 0.05, (len(table), 3)).astype(np.float32)
    outer = list(MATERIALS).index("vessel")
    spread[outer:] = rng.normal(1.0, 0.12, spread[outer:].shape)
    t1, pd, t2_star = (np.maximum(table[:, column] * spread[:, column], 0) for column in range(3))
    strength = table[:, 3] * rng.uniform(0.25, 0.9)
    # cortex and white matter are not uniform: T1 drifts over centimetres
    drift = 1 + 0.03 * smooth_field(shape, spacing, 25.0, rng) + 0.02 * smooth_field(shape, spacing, 6.0, rng)
    # texture strength itself varies from place to place, so that smooth and busy regions both occur
    local = np.exp(0.4 * smooth_field(shape, spacing, 15.0, rng))
    grain = np.clip(strength[code] * local * texture(shape, rng), -0.4, 0.4)
    t1_map = (t1[code] * drift * (1 - 0.5 * grain)).astype(np.float32)
    pd_map = np.maximum(pd[code] * (1 + 0.7 * grain), 0).astype(np.float32)
    return t1_map, pd_map, t2_star[code]
