"""Where vessels are measured: cross-sections, taken from known geometry or from an ROI file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sn2nlib.errors import ImageError
from sn2nlib.provenance import atomic_write
from sn2nlib.scans.vessels import Vessel, voxel_positions

COLUMNS = (
    "name", "kind", "r_mm", "a_mm", "s_mm", "tangent_r", "tangent_a", "tangent_s", "radius_mm", "wall_mm", "csf_mm",
    "direction_r", "direction_a", "direction_s",
)  # fmt: skip
_OPTIONAL = ("kind", "csf_mm", "direction_r", "direction_a", "direction_s")
_CSF = 1.3  # mm of CSF around a vessel that are measured, where an ROI file says nothing else
_THICK = 0.6  # mm along the vessel, to either side, that a cross-section takes in
_BEND = np.cos(np.deg2rad(20))  # over 2 mm: a cross-section through a sharper bend is oblique


@dataclass(frozen=True)
class Site:
    """A cross-section of one vessel.

    Attributes
    ----------
    name
    kind
        What the wall is: wall, plaque, enhancing; free text in an ROI file.
    centre, tangent : (3,)
        RAS mm, and the direction of the vessel there.
    radius, wall
        Of the lumen and the wall's thickness in mm: the truth in a phantom, a reader's estimate in an image.
    csf
        How far the CSF reaches outside the wall, in mm.
    direction : (3,) or None
        RAS direction in which the wall counts, to 45° on either side: a plaque's. None: all around.
    """

    name: str
    kind: str
    centre: tuple[float, float, float]
    tangent: tuple[float, float, float]
    radius: float
    wall: float
    csf: float = _CSF
    direction: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if not min(self.radius, self.wall, self.csf) > 0 or not np.linalg.norm(self.tangent) > 0:
            raise ImageError(f"vessel site {self.name}: radius, wall, CSF and tangent must be positive in length")


def known_sites(
    vessels: Sequence[Vessel], shape: Sequence[int], affine: np.ndarray, *, sheath: float, every: float = 2.5
) -> list[Site]:
    """Cross-sections of vessels of known geometry: one per plaque, the others every few mm.

    Left out is what a cross-section could not show alone: where another vessel, or another loop of the same one, comes
    within the CSF that is measured, where the vessel bends by more than 20° in 2 mm, where a plaque or an enhancing
    stretch begins or ends, and what comes too close to the edge of the image.

    Parameters
    ----------
    vessels
        Their geometry in RAS mm.
    shape, affine
        (z, y, x) and RAS+ affine of the image that is to be measured.
    sheath
        Thickness of the CSF around the vessels in mm.
    every
        Distance of the cross-sections along a vessel in mm.
    """
    sites = []
    for vessel in vessels:
        end = vessel.position[-1]
        places = list(np.arange(0.5 * every, end, every))
        if vessel.plaque is not None:
            reach = vessel.plaque.length / 2 + 3
            places = [p for p in places if abs(p - vessel.plaque.centre) > reach] + [vessel.plaque.centre]
        for number, place in enumerate(sorted(places)):
            site = _site(vessel, float(place), f"{vessel.name}-{number + 1}", sheath)
            if site is not None and _inside(site, shape, affine) and _alone(site, vessel, float(place), vessels):
                sites.append(site)
    return sites


def _site(vessel: Vessel, place: float, name: str, sheath: float) -> Site | None:
    centre, tangent, radius, wall = vessel.at(place)
    before, after = vessel.at(place - 1)[1], vessel.at(place + 1)[1]
    kind, direction = "wall", None
    if vessel.plaque is not None and place == vessel.plaque.centre:
        kind, direction = "plaque", vessel.plaque.direction
    if vessel.enhancing is not None:
        inside = min(place - vessel.enhancing[0], vessel.enhancing[1] - place)
        if abs(inside) < 1.5:
            return None
        if inside > 0 and kind == "wall":
            kind = "enhancing"
    if before @ after < _BEND or not 1 <= place <= vessel.position[-1] - 1:
        return None
    at, along = (tuple(float(value) for value in vector) for vector in (centre, tangent))
    return Site(name, kind, at, along, radius, wall, min(sheath, _CSF), direction)  # type: ignore[arg-type]


def _inside(site: Site, shape: Sequence[int], affine: np.ndarray) -> bool:
    size = np.linalg.norm(affine[:3, :3], axis=0)
    slant = (np.array(site.tangent) @ affine[:3, :3] / size) ** 2  # squared cosines with the voxel axes (x, y, z)
    reach = (site.radius + site.wall + site.csf) * np.sqrt(np.maximum(1 - slant, 0)) + _THICK * np.sqrt(slant)
    place, room = voxel_positions(np.array(site.centre), affine), (reach / size)[::-1] + 3
    return bool((place >= room).all() and (place <= np.array(shape) - 1 - room).all())


def _alone(site: Site, own: Vessel, place: float, vessels: Sequence[Vessel]) -> bool:
    needed = site.radius + site.wall + site.csf
    point = [np.array(value) for value in site.centre]
    for vessel in vessels:
        middles = 0.5 * (vessel.position[1:] + vessel.position[:-1])
        for middle, piece in zip(middles, vessel.pieces(), strict=True):
            if vessel is own and abs(middle - place) < 2 * needed:
                continue
            if float(piece.depths(point)[1]) < needed:
                return False
    return True


def chosen_mark(sites: Sequence[Site], name: str | None, *, plane: str) -> Site:
    """The site that a figure's arrow points at: the one of this name, else the most telling one.

    That is a plaque, else an enhancing wall, else any; of several the one that the plane cuts most squarely.

    Parameters
    ----------
    sites
        At least one.
    name
        Of a site; None, or a name that is not among them (another field of view): the most telling one. Whoever shows
        it says which: the names differ.
    plane
        "coronal", "axial" or "sagittal".
    """
    named = [site for site in sites if site.name == name]
    if named:
        return named[0]
    if not sites:
        raise ImageError("there is no vessel site to point at")
    normal = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]

    def rank(site: Site) -> tuple[int, float]:
        kind = ("plaque", "enhancing").index(site.kind) if site.kind in ("plaque", "enhancing") else 2
        return kind, -abs(site.tangent[normal]) / float(np.linalg.norm(site.tangent))

    return min(sites, key=rank)


def write_sites(sites: Sequence[Site], path: str | os.PathLike[str]) -> None:
    """Write sites as an ROI file, CSV with the columns `COLUMNS`; whole or not at all."""
    none = (np.nan, np.nan, np.nan)
    rows = [
        (s.name, s.kind, *s.centre, *s.tangent, s.radius, s.wall, s.csf, *(s.direction or none))
        for s in sites
    ]
    with atomic_write(path) as temporary:
        pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(temporary, index=False, float_format="%.5g")


def read_sites(path: str | os.PathLike[str]) -> list[Site]:
    """Read an ROI file.

    Parameters
    ----------
    path
        CSV with the columns `COLUMNS`, of `Site`: name; kind, free text; r_mm, a_mm, s_mm, the centre in RAS mm as a
        viewer shows it; tangent_r, tangent_a, tangent_s, the direction of the vessel there, of any length; radius_mm
        of the lumen and wall_mm, its wall's thickness, as you estimate them; csf_mm; direction_r, direction_a,
        direction_s. kind, csf_mm and direction may be left out or empty.

    Raises
    ------
    FileNotFoundError
    ImageError
        For a missing column, a value that is no number, or a length that is not positive.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no ROI file {path}")
    table = pd.read_csv(path, dtype={"name": str, "kind": str})
    missing = [column for column in COLUMNS if column not in table and column not in _OPTIONAL]
    if missing:
        raise ImageError(f"{path}: lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
    table = table.reindex(columns=list(COLUMNS))
    numbers = table[list(COLUMNS[2:])].apply(pd.to_numeric, errors="coerce")
    needed = [column for column in numbers if column not in _OPTIONAL]
    faulty = numbers[needed].isna().any(axis=1)
    if faulty.any():
        raise ImageError(f"{path}: row {int(np.argmax(faulty)) + 1} of the sites lacks a number; fill it in")
    return [
        _from_row(str(name), kind, values)
        for name, kind, values in zip(table["name"], table["kind"], numbers.to_numpy(float), strict=True)
    ]


def _from_row(name: str, kind: object, values: np.ndarray) -> Site:
    r, a, s, tr, ta, ts, radius, wall, csf, dr, da, ds = (float(value) for value in values)
    return Site(
        name,
        kind if isinstance(kind, str) else "wall",
        (r, a, s),
        (tr, ta, ts),
        radius,
        wall,
        _CSF if np.isnan(csf) else csf,
        None if np.isnan([dr, da, ds]).any() else (dr, da, ds),
    )
