"""What a reader looks for in a head: fine structures at known places, and lesions of known size and contrast.

Digital heads are warped from a template that does not show all of the fine structures. Those it lacks are inserted with
a T1 and a proton density of their own; those it has are only marked. Places and values are data, in
``data_manifest/readers/``. A head made without `Details` is the same, bit by bit, as before they were thought of.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter

from sn2nlib.errors import ManifestError
from sn2nlib.scans.fields import smooth_field

USES = ("marked", "support", "inserted")
AGAINST = ("white", "brain")
SIDES = {"each": (("right", 1.0), ("left", -1.0)), "midline": (("", 1.0),)}
_PLACES = ("x", "y", "z", "to_x", "to_y", "to_z", "radius_x", "radius_y", "radius_z")
_COLUMNS = ("structure", "side", "use", "within", "against", "material", "t1", "pd", *_PLACES, "source")
_APART = 12.0  # mm between the middles of lesions


@dataclass(frozen=True)
class Part:
    """A piece of a structure: an ellipsoid swept along a line, in template space (RAS mm).

    Attributes
    ----------
    start, end
        Where its middle begins and ends.
    radii
        Semi-axes of the ellipsoid along right, anterior, superior.
    """

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radii: tuple[float, float, float]

    def holds(self, points: Sequence[np.ndarray]) -> np.ndarray:
        """Which points (three arrays of template mm) lie inside, bool."""
        start, end, radii = (np.array(value, np.float32) for value in (self.start, self.end, self.radii))
        way = (end - start) / radii
        length = float(way @ way)
        offsets = [(point - s) / r for point, s, r in zip(points, start, radii, strict=True)]
        along = np.float32(0) if length == 0 else sum(o * w for o, w in zip(offsets, way, strict=True)) / length
        along = np.clip(along, 0, 1)
        return np.asarray(sum((o - along * w) ** 2 for o, w in zip(offsets, way, strict=True)) <= 1)


@dataclass(frozen=True)
class FineStructure:
    """A structure of one side.

    Attributes
    ----------
    name
        As in ``readers/structures.yaml``, for example "putamen_tail".
    side
        "right", "left", or "" in the midline.
    use
        "marked": the head has it; "inserted": it is put there; "support": put there too, for the sake of a neighbour.
    within
        Where it may lie: materials of the head, or labels of the atlas without their side.
    against
        What next to it a reader sets it off from: "white" matter or any of the "brain"; "" for a support.
    material
        Whose texture and T2* it gets; "" for what is only marked.
    t1, pd
        ms, and relative to water; NaN for what is only marked.
    parts
        Where it lies.
    """

    name: str
    side: str
    use: str
    within: tuple[str, ...]
    against: str
    material: str
    t1: float
    pd: float
    parts: tuple[Part, ...]

    @property
    def title(self) -> str:
        """Name with its side, in words: "left putamen tail"."""
        return f"{self.side} {self.name}".strip().replace("_", " ")


@dataclass(frozen=True)
class Lesion:
    """A lesion of the white matter: its radius in mm, and its depth from 0 (white matter) to 1 (T1 1500 ms, PD 0.9)."""

    radius: float
    depth: float


@dataclass(frozen=True)
class Placed:
    """What was put into a head.

    Attributes
    ----------
    regions : (z, y, x) uint8
        Place of the structure in `structures`, from 1; 0 elsewhere.
    lesions : (z, y, x) uint8
        Number of the lesion, from 1, in the order of `Details.lesions`; 0 elsewhere. One without a place is missing.
    structures
        Those to look for, without what only supports them.
    values
        (where (z, y, x) bool, material, T1 in ms, PD) of everything inserted, apart from each other.
    """

    regions: np.ndarray
    lesions: np.ndarray
    structures: tuple[FineStructure, ...]
    values: tuple[tuple[np.ndarray, str, float, float], ...]


@dataclass(frozen=True)
class Details:
    """Fine structures and lesions of one head.

    Attributes
    ----------
    structures
        From `load_structures`.
    lesions
        From `load_lesions`.
    seed
        Of the lesions' places and shapes; drawn apart from all else in the head.
    """

    structures: tuple[FineStructure, ...] = ()
    lesions: tuple[Lesion, ...] = ()
    seed: int = 0

    def place(
        self,
        points: Sequence[np.ndarray],
        spacing: Sequence[float],
        code: np.ndarray,
        labels: np.ndarray,
        *,
        codes: Mapping[str, int],
        atlas: Mapping[str, int],
        materials: Mapping[str, tuple[float, float, float, float]],
    ) -> Placed:
        """Find every structure and lesion in a head and write the materials of what is inserted into `code`.

        Parameters
        ----------
        points
            Template position (RAS mm, three arrays) of each voxel: the head's warp.
        spacing
            (z, y, x) in mm.
        code, labels : (z, y, x) uint8
            Material of each voxel, and its structure of the atlas.
        codes, atlas
            Numbers in `code` and in `labels`, by name.
        materials
            T1, PD and more of each material.

        Returns
        -------
        Placed
        """
        regions = np.zeros(code.shape, np.uint8)
        values: list[tuple[np.ndarray, str, float, float]] = []
        wanted = [each for each in self.structures if each.use != "support"]
        # what is marked is looked for in the head as it was; the rest goes in one over the other, in the file's order
        for structure in sorted(self.structures, key=lambda each: each.use != "marked"):
            room = _room(structure, points, code, labels, codes, atlas)
            if structure.use != "marked":
                code[room] = codes[structure.material]
                # what lies under it is no longer there
                values = [(where & ~room, *known) for where, *known in values]
                values.append((room, structure.material, structure.t1, structure.pd))
            regions[room] = wanted.index(structure) + 1 if structure in wanted else 0
        white, deepest = materials["wm"], materials["lesion"]
        lesions = _scatter(self.lesions, np.random.default_rng([self.seed, 9]), spacing, code == codes["wm"])
        for number, lesion in enumerate(self.lesions, start=1):
            # against this head's own white matter, whose texture it keeps
            t1, pd = (white[column] + lesion.depth * (deepest[column] - white[column]) for column in (0, 1))
            values.append((lesions == number, "wm", t1, pd))
        return Placed(regions, lesions, tuple(wanted), tuple(values))


def colour(
    placed: Placed, t1: np.ndarray, pd: np.ndarray, materials: Mapping[str, tuple[float, float, float, float]]
) -> None:
    """Give what was inserted its own T1 (ms) and PD, written into the maps (z, y, x); texture and drift stay."""
    for where, material, own_t1, own_pd in placed.values:
        usual = materials[material]
        t1[where] *= np.float32(own_t1 / usual[0])
        pd[where] *= np.float32(own_pd / usual[1])


def load_structures(manifest: str | os.PathLike[str]) -> tuple[FineStructure, ...]:
    """Read ``readers/regions.csv``: both sides of every structure, in the file's order.

    Parameters
    ----------
    manifest
        The ``data_manifest`` folder.

    Raises
    ------
    ManifestError
        Naming every bad row.
    """
    path = Path(manifest, "readers", "regions.csv")
    table = _read(path, _COLUMNS).fillna({"within": "", "against": "", "material": ""})
    bad = ~(table["side"].isin(list(SIDES)) & table["use"].isin(USES)) | table[list(_PLACES)].isna().any(axis=1)
    bad |= (table[["radius_x", "radius_y", "radius_z"]] <= 0).any(axis=1) | (table["within"] == "")
    # pandas reads an empty cell as NaN; what is inserted needs all three
    bad |= (table["use"] != "marked") & (table[["t1", "pd"]].isna().any(axis=1) | (table["material"] == ""))
    bad |= (table["use"] != "support") & ~table["against"].isin(AGAINST)
    allowed = [f"{column} is one of {', '.join(known)}" for column, known in
               (("side", SIDES), ("use", USES), ("against", AGAINST))]  # fmt: skip
    needed = "places, radii above 0, within, and for what is not only marked material, t1 and pd are needed"
    _raise(path, bad, "; ".join([*allowed, needed]))
    found = []
    for (name, side), rows in table.groupby(["structure", "side"], sort=False):
        first = rows.iloc[0]
        for title, sign in SIDES[str(side)]:
            found.append(FineStructure(
                str(name), title, first["use"], tuple(first["within"].split()), first["against"], first["material"],
                float(first["t1"]), float(first["pd"]), tuple(_part(row, sign) for _, row in rows.iterrows()),
            ))  # fmt: skip
    return tuple(found)


def load_lesions(manifest: str | os.PathLike[str]) -> dict[str, tuple[Lesion, ...]]:
    """Read ``readers/lesions.csv``: participant → lesions.

    Raises
    ------
    ManifestError
        Naming every bad row.
    """
    path = Path(manifest, "readers", "lesions.csv")
    table = _read(path, ("participant", "lesion", "radius", "depth"))
    _raise(path, ~((table["radius"] > 0) & table["depth"].between(0, 1)), "radius (mm) is above 0, depth 0 to 1")
    return {
        str(name): tuple(Lesion(float(r), float(d)) for r, d in zip(rows["radius"], rows["depth"], strict=True))
        for name, rows in table.groupby("participant", sort=False)
    }


def _part(row: pd.Series, sign: float) -> Part:
    x, y, z, to_x, to_y, to_z, *radii = (float(row[name]) for name in _PLACES)
    return Part((sign * x, y, z), (sign * to_x, to_y, to_z), (radii[0], radii[1], radii[2]))


def _room(
    structure: FineStructure,
    points: Sequence[np.ndarray],
    code: np.ndarray,
    labels: np.ndarray,
    codes: Mapping[str, int],
    atlas: Mapping[str, int],
) -> np.ndarray:
    """Voxels of a structure, (z, y, x) bool."""
    allowed = np.isin(code, [codes[name] for name in structure.within if name in codes])
    if structure.use == "marked":
        numbers = [number for title, number in atlas.items() if title.split()[-1] in structure.within]
        allowed |= np.isin(labels, numbers)
    shape = np.zeros(code.shape, bool)
    for part in structure.parts:
        shape |= part.holds(points)
    return shape & allowed


def _scatter(
    lesions: Sequence[Lesion], rng: np.random.Generator, spacing: Sequence[float], white: np.ndarray
) -> np.ndarray:
    """Irregular lesions in the depth of the white matter, apart from each other, (z, y, x) uint8."""
    numbers = np.zeros(white.shape, np.uint8)
    free = np.ones(white.shape, bool)
    for number, lesion in enumerate(lesions, start=1):
        window = [2 * int(np.ceil(lesion.radius / size)) + 1 for size in spacing]
        deep = np.argwhere((uniform_filter(white.astype(np.float32), window) > 0.85) & free & white)
        if len(deep) == 0:
            continue
        middle = deep[rng.integers(len(deep))]
        reach = [int(np.ceil(_APART / size)) for size in spacing]
        around = tuple(slice(max(m - r, 0), m + r + 1) for m, r in zip(middle, reach, strict=True))
        offsets = [
            (np.arange(part.start, min(part.stop, n)) - m) * size
            for part, n, m, size in zip(around, white.shape, middle, spacing, strict=True)
        ]
        distance = np.sqrt(sum(np.square(o) for o in np.meshgrid(*offsets, indexing="ij")))
        rough = distance / lesion.radius + 0.15 * smooth_field(distance.shape, spacing, 3.0, rng)
        numbers[around][(rough < 1) & white[around]] = number
        free[around][distance < _APART] = False
    return numbers


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    if list(table.columns) != list(columns):
        raise ManifestError(f"{path}: the columns must be {','.join(columns)}, not {','.join(table.columns)}")
    numbers = [name for name in columns if name in (*_PLACES, "t1", "pd", "radius", "depth")]
    return table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in numbers})


def _raise(path: Path, bad: pd.Series, allowed: str) -> None:
    lines = ", ".join(str(row + 2) for row in np.flatnonzero(bad))
    if lines:
        raise ManifestError(f"{path}: line {lines} cannot be used; {allowed}")
