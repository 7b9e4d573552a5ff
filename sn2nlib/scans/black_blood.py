"""Black-blood heads: a slab of a digital head around the circle of Willis, its vessels known exactly.

Axes are those of a coronal acquisition, (z, y, x) = (anterior, right, superior): partitions from back to front, lines
from left to right, readout from feet to head.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sn2nlib.scans.digital import CODES, MATERIALS, build_maps
from sn2nlib.scans.heads import Head
from sn2nlib.scans.sequence import MpRage, Space
from sn2nlib.scans.vessels import Vessel, rasterise, within
from sn2nlib.scans.willis import grow, template_courses, to_head

VOXEL = (0.5, 0.56, 0.56)  # (z, y, x) mm
SLAB = (160, 320, 320)  # 80×180×180 mm
CENTRE = (0.0, -3.0, -15.0)  # RAS mm of the middle of the slab
# T2 in ms at 3 T, rounded literature values
_T2 = {
    "air": 20, "csf": 2000, "gm": 90, "wm": 70, "thalamus": 75, "caudate": 80, "putamen": 75, "pallidum": 60,
    "brainstem": 75, "vessel": 150, "dura": 40, "bone": 2, "marrow": 50, "muscle": 35, "fat": 70, "skin": 35,
    "vitreous": 1500, "lesion": 110,
}  # fmt: skip
# share of the signal that is left of what moves: it dephases along the train (Mugler JP. JMRI 2014;39:745). We chose.
AT_REST = {"csf": 0.5, "vessel": 0.06}
# T1 (ms), proton density, T2 (ms) of what vessels are made of; blood with the share above. Rounded; we chose.
VESSEL_MATERIALS: dict[str, tuple[float, float, float]] = {
    "lumen": (1840, 0.85 * AT_REST["vessel"], 150),
    "wall": (1000, 0.75, 55),
    "plaque": (850, 0.72, 50),
    "enhancing": (420, 0.75, 50),
}


@dataclass(frozen=True)
class BlackBloodHead(Head):
    """A digital head with T2, and vessels that share voxels with it.

    Attributes
    ----------
    t2 : (z, y, x) float32
        ms.
    shares : dict of (z, y, x) float32
        Share of each voxel that is lumen, wall, plaque, enhancing wall.
    vessels
        Their geometry in RAS mm.
    sheath
        Thickness of the CSF around every vessel in mm.
    """

    t2: np.ndarray = field(default_factory=lambda: np.zeros(0))
    shares: dict[str, np.ndarray] = field(default_factory=dict)
    vessels: tuple[Vessel, ...] = ()
    sheath: float = 0.0

    def signal(self, sequence: MpRage | Space | None = None) -> np.ndarray:
        """Signal magnitude, (z, y, x) float32: tissue and vessels, each weighted with its share of the voxel.

        Under MP-RAGE the vessels' T2 stands for T2*.
        """
        assert self.t1 is not None and self.pd is not None and self.t2_star is not None
        sequence = sequence or Space()
        decay = self.t2 if isinstance(sequence, Space) else self.t2_star
        tissue = sequence.signal(self.t1, self.pd, decay)
        signal = (1 - sum(self.shares.values())) * tissue
        for name, share in self.shares.items():
            t1, pd, t2 = (np.array(value, np.float32) for value in VESSEL_MATERIALS[name])
            signal += share * sequence.signal(t1, pd, t2)
        return np.asarray(signal, np.float32)


def black_blood_head(
    seed: int,
    *,
    matrix: tuple[int, int, int] = SLAB,
    voxel_size: tuple[float, float, float] = VOXEL,
    age: float = 60.0,
    sex: str | None = None,
    centre: tuple[float, float, float] = CENTRE,
    oversampling: float = 2.0,
    plaques: int = 3,
    enhancing: int = 2,
    name: str | None = None,
) -> BlackBloodHead:
    """A random head as vessel wall imaging sees it.

    1. The tissues of `sn2nlib.scans.digital_head`, for the slab, on a grid finer than the scan.
    2. The arteries, carried from template space by the head's own warp; CSF around them.
    3. Vessels rasterised from their exact geometry, as shares of each voxel (27 points per voxel).

    Parameters
    ----------
    seed
        Decides everything but what is said below.
    matrix, voxel_size
        (z, y, x) = (anterior, right, superior) of the scan; mm. A smaller matrix is a smaller field of view.
    age, sex
        As `digital_head`.
    centre
        RAS mm of the middle of the field of view.
    oversampling
        Of the head's grid over the scan's, on each axis. For the whole slab 2 takes an estimated 15 GB, 1.35 about 5.
    plaques, enhancing
        Number of plaques, and of other stretches of enhancing wall, in the whole tree.

    Returns
    -------
    BlackBloodHead
    """
    rng = np.random.default_rng([seed, 7])
    shape = tuple(math.ceil(n * oversampling) for n in matrix)
    spacing = tuple(n * size / fine for n, size, fine in zip(matrix, voxel_size, shape, strict=True))
    (nz, ny, nx), (dz, dy, dx) = shape, spacing
    sheath = float(rng.uniform(1.8, 2.6))
    vessels: tuple[Vessel, ...] = ()
    affine = coronal_affine((nz, ny, nx), (dz, dy, dx), centre)

    def cisterns(template: list[np.ndarray]) -> np.ndarray:
        nonlocal vessels
        courses = to_head(template_courses(rng), template, (dy, dz, dx), centre)
        vessels = grow(courses, rng, plaques=plaques, enhancing=enhancing)
        return within(vessels, (nz, ny, nx), affine, sheath).swapaxes(0, 1)

    maps = build_maps(
        np.random.default_rng(seed), (ny, nz, nx), (dy, dz, dx), age=age, sex=sex, centre=centre, cisterns=cisterns
    )
    # from (right, anterior, superior) to the scan's order
    del maps["centre"]
    coronal: dict[str, Any] = {key: np.ascontiguousarray(value.swapaxes(0, 1)) for key, value in maps.items()}
    material = coronal.pop("material")
    left = np.array([AT_REST.get(tissue, 1.0) for tissue in MATERIALS], np.float32)
    coronal["pd"] *= left[material]
    return BlackBloodHead(
        name=name or f"black-blood-{seed}",
        voxel_size=(dz, dy, dx),
        affine=affine,
        t2=np.array([_T2[tissue] for tissue in CODES], np.float32)[material],
        shares=rasterise(vessels, (nz, ny, nx), affine),
        vessels=vessels,
        sheath=sheath,
        **coronal,
    )


def coronal_affine(
    shape: tuple[int, int, int], voxel_size: tuple[float, float, float], centre: tuple[float, float, float]
) -> np.ndarray:
    """Affine of a (z, y, x) = (anterior, right, superior) grid, stored as (x, y, z), with voxel n//2 at `centre`."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, voxel_size[1], 0], [0, 0, voxel_size[0]], [voxel_size[2], 0, 0]])
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ np.array([n // 2 for n in shape[::-1]])
    return affine
