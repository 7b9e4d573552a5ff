"""Vessels whose geometry is known exactly: centre lines with a radius, a wall, plaques; and their fine rasterisation.

A vessel is a chain of straight pieces. A point belongs to the piece's place nearest to it, q; with the distance d from
q it lies in the lumen where d < r, and in the wall where r ≤ d < r + w, r and w interpolated along the piece. Lumens
win where vessels join. What is rasterised is this and nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sn2nlib.errors import ImageError

MATERIALS = ("wall", "plaque", "enhancing")  # what a wall may consist of
_FULL, _NONE = np.deg2rad(60), np.deg2rad(110)  # a plaque has its whole thickness within the first angle
_TILE = 24  # voxels rasterised at a time, along each axis
_SUBDIVISION = 3  # points per voxel and axis


@dataclass(frozen=True)
class Plaque:
    """An eccentric thickening of a wall; the lumen stays a circle.

    Attributes
    ----------
    centre, length
        mm along the centre line; the whole thickness over `length`, then a slope of 1 mm on both sides.
    thickness
        mm in addition to the wall, within 60° of `direction`; none beyond 110°.
    direction : (3,)
        RAS unit vector from the centre line.
    narrowing
        Share of the lumen's radius that is lost.
    """

    centre: float
    length: float
    thickness: float
    direction: tuple[float, float, float]
    narrowing: float = 0.0

    def along(self, position: np.ndarray) -> np.ndarray:
        """Share of the thickness, 0 to 1, at positions (mm) along the centre line."""
        return np.clip(1 + self.length / 2 - np.abs(np.asarray(position) - self.centre), 0, 1)

    def around(self, cosine: np.ndarray) -> np.ndarray:
        """Share of the thickness, 0 to 1, at the cosine of the angle from `direction`."""
        angle = np.arccos(np.clip(cosine, -1, 1))
        return np.clip((_NONE - angle) / (_NONE - _FULL), 0, 1)


@dataclass(frozen=True)
class Vessel:
    """One vessel.

    Attributes
    ----------
    name
    points : (n, 3) float64
        Centre line in RAS mm.
    radius, wall : (n,) float64
        Of the lumen, without plaque, and of the wall, without plaque, in mm.
    plaque
        At most one.
    enhancing : (start, end) or None
        mm along the centre line between which the wall takes up contrast agent.

    Raises
    ------
    ImageError
        For fewer than two points, or a radius or wall that is not positive.
    """

    name: str
    points: np.ndarray
    radius: np.ndarray
    wall: np.ndarray
    plaque: Plaque | None = None
    enhancing: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        n = len(self.points)
        if n < 2 or self.points.shape != (n, 3) or self.radius.shape != (n,) or self.wall.shape != (n,):
            raise ImageError(f"vessel {self.name}: needs at least 2 points (n, 3) with a radius and a wall each")
        if min(self.radius.min(), self.wall.min()) <= 0 or (self.lengths <= 0).any():
            raise ImageError(f"vessel {self.name}: radius, wall and steps of the centre line must be positive")

    @property
    def lengths(self) -> np.ndarray:
        """Length of each piece in mm, (n − 1,)."""
        return np.linalg.norm(np.diff(self.points, axis=0), axis=1)

    @property
    def position(self) -> np.ndarray:
        """Position of each point along the centre line in mm, (n,)."""
        return np.concatenate([[0.0], np.cumsum(self.lengths)])

    def at(self, position: float) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Centre (3,), unit tangent (3,), lumen radius, and wall thickness (in the plaque's direction, if any)."""
        along = self.position
        centre, ahead, behind = (
            np.array([np.interp(p, along, column) for column in self.points.T])
            for p in (position, min(position + 1, along[-1]), max(position - 1, 0))
        )
        tangent = (ahead - behind) / np.linalg.norm(ahead - behind)
        radius, wall = (float(np.interp(position, along, values)) for values in (self.radius, self.wall))
        if self.plaque is not None:
            share = float(self.plaque.along(np.array(position)))
            radius, wall = radius * (1 - self.plaque.narrowing * share), wall + self.plaque.thickness * share
        return centre, tangent, radius, wall

    def pieces(self) -> Iterator["Piece"]:
        """The straight pieces."""
        position = self.position
        share = np.zeros(len(position)) if self.plaque is None else self.plaque.along(position)
        narrowing, thickness = (0.0, 0.0) if self.plaque is None else (self.plaque.narrowing, self.plaque.thickness)
        radius, extra = self.radius * (1 - narrowing * share), thickness * share
        for i in range(len(position) - 1):
            yield Piece(
                self.points[i : i + 2], radius[i : i + 2], self.wall[i : i + 2], extra[i : i + 2], self.plaque,
                self._material(0.5 * (position[i] + position[i + 1])),
            )  # fmt: skip

    def _material(self, middle: float) -> str:
        if self.enhancing is not None and self.enhancing[0] <= middle <= self.enhancing[1]:
            return "enhancing"
        return "plaque" if self.plaque is not None and self.plaque.along(np.array(middle)) > 0 else "wall"


@dataclass(frozen=True)
class Piece:
    """A straight piece of a vessel: ends (2, 3) in mm, and radius, wall and plaque thickness at them, (2,) each."""

    ends: np.ndarray
    radius: np.ndarray
    wall: np.ndarray
    extra: np.ndarray
    plaque: Plaque | None
    material: str

    @property
    def reach(self) -> float:
        """The farthest that anything of it lies from its axis, in mm."""
        return float((self.radius + self.wall + self.extra).max())

    def depths(self, points: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """How far outside the lumen, and outside the wall, points lie; negative inside.

        Parameters
        ----------
        points
            R, A and S in mm, arrays that broadcast together.

        Returns
        -------
        lumen, wall : arrays of mm
        """
        start, axis = self.ends[0], self.ends[1] - self.ends[0]
        offset = [p - s for p, s in zip(points, start, strict=True)]
        t = sum(o * a for o, a in zip(offset, axis, strict=True)) / (axis @ axis)
        t = np.clip(t, 0, 1)
        offset = [o - t * a for o, a in zip(offset, axis, strict=True)]
        distance = np.sqrt(sum(o * o for o in offset))
        lumen = distance - (self.radius[0] + t * (self.radius[1] - self.radius[0]))
        thickness = self.wall[0] + t * (self.wall[1] - self.wall[0])
        if self.plaque is not None and self.extra.any():
            cosine = sum(o * u for o, u in zip(offset, self.plaque.direction, strict=True))
            share = self.plaque.around(cosine / np.maximum(distance, 1e-9))
            thickness = thickness + (self.extra[0] + t * (self.extra[1] - self.extra[0])) * share
        return lumen, lumen - thickness


def rasterise(
    vessels: Sequence[Vessel], shape: tuple[int, int, int], affine: np.ndarray, *, subdivision: int = _SUBDIVISION
) -> dict[str, np.ndarray]:
    """Share of each voxel that is lumen, and that is wall of each material.

    Every voxel near a vessel is asked at subdivision³ points. A point stands for a small cube of edge h, of which a
    surface at the depth s leaves the share 1/2 − s/h, between 0 and 1, inside. Where walls of two vessels meet, the one
    that the point lies deeper in counts.

    Parameters
    ----------
    vessels
        RAS mm.
    shape
        (z, y, x).
    affine : (4, 4)
        RAS+ affine of the volume stored as (x, y, z).
    subdivision
        Points per voxel and axis.

    Returns
    -------
    dict of (z, y, x) float32
        lumen, and `MATERIALS`; together at most 1.
    """
    shares = {name: np.zeros(shape, np.float32) for name in ("lumen", *MATERIALS)}
    offsets = (np.arange(subdivision) + 0.5) / subdivision - 0.5
    edge = np.float32(np.abs(np.linalg.det(affine[:3, :3])) ** (1 / 3) / subdivision)
    for window, pieces in _tiles(vessels, shape, affine, margin=float(edge)):
        axes = [(np.arange(part.start, part.stop)[:, None] + offsets).ravel() for part in window]
        lumen, wall, material = _depths(pieces, axes, affine, margin=float(edge))
        blocks = tuple(m for part in window for m in (part.stop - part.start, subdivision))

        in_lumen, inside = (np.clip(0.5 - depth / edge, 0, 1) for depth in (lumen, wall))
        in_wall = np.maximum(inside - in_lumen, 0)
        parts = {"lumen": in_lumen} | {name: in_wall * (material == code) for code, name in enumerate(MATERIALS)}
        for name, part in parts.items():
            shares[name][window] = part.reshape(blocks).mean(axis=(1, 3, 5))
    return shares


def within(vessels: Sequence[Vessel], shape: tuple[int, int, int], affine: np.ndarray, margin: float) -> np.ndarray:
    """Voxels whose centre lies inside a vessel or less than `margin` mm outside its wall, (z, y, x) bool."""
    near = np.zeros(shape, bool)
    for window, pieces in _tiles(vessels, shape, affine, margin=margin):
        axes = [np.arange(part.start, part.stop, dtype=float) for part in window]
        near[window] = _depths(pieces, axes, affine, margin=margin)[1] < margin
    return near


def _tiles(
    vessels: Sequence[Vessel], shape: tuple[int, int, int], affine: np.ndarray, *, margin: float
) -> Iterator[tuple[tuple[slice, ...], list[Piece]]]:
    """Blocks of voxels that vessels reach, with the pieces that reach them."""
    pieces = [piece for vessel in vessels for piece in vessel.pieces()]
    if not pieces:
        return
    size = np.linalg.norm(affine[:3, :3], axis=0)[::-1]  # (z, y, x)
    ends = voxel_positions(np.stack([piece.ends for piece in pieces]), affine)  # (piece, 2, 3)
    reach = np.array([piece.reach + margin for piece in pieces])[:, None] / size + 1
    low, high = ends.min(axis=1) - reach, ends.max(axis=1) + reach
    counts = [-(-n // _TILE) for n in shape]
    for tile in np.ndindex(*counts):
        first = np.array(tile) * _TILE
        last = np.minimum(first + _TILE, shape)
        here = np.flatnonzero(((low < last) & (high > first)).all(axis=1))
        if here.size:
            window = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
            yield window, [pieces[i] for i in here]


def _depths(
    pieces: Sequence[Piece], axes: Sequence[np.ndarray], affine: np.ndarray, *, margin: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smallest depths over the pieces on a grid of voxel positions along (z, y, x); the deepest wall's material."""
    shape = tuple(len(axis) for axis in axes)
    lumen, wall = (np.full(shape, np.inf, np.float32) for _ in range(2))
    material = np.zeros(shape, np.uint8)
    size = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    for piece in pieces:
        ends, reach = voxel_positions(piece.ends, affine), (piece.reach + margin) / size + 1e-6
        box = tuple(
            slice(*np.searchsorted(axis, [low, high]))
            for axis, low, high in zip(axes, ends.min(axis=0) - reach, ends.max(axis=0) + reach, strict=True)
        )
        if any(part.start >= part.stop for part in box):
            continue
        points = _world([axis[part] for axis, part in zip(axes, box, strict=True)], affine)
        into_lumen, into_wall = piece.depths(points)
        deeper = into_wall < wall[box]
        material[box][deeper] = MATERIALS.index(piece.material)
        wall[box][deeper] = into_wall[deeper]
        np.minimum(lumen[box], into_lumen, out=lumen[box])
    return lumen, wall, material


def _world(axes: Sequence[np.ndarray], affine: np.ndarray) -> list[np.ndarray]:
    """R, A and S in mm of a grid of voxel positions along (z, y, x)."""
    z, y, x = np.ix_(*(np.asarray(axis, np.float64) for axis in axes))
    return [(row[2] * z + row[1] * y + row[0] * x + row[3]).astype(np.float32) for row in affine[:3]]


def voxel_positions(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """RAS mm (…, 3) → position (z, y, x) in voxels, (…, 3)."""
    inverse = np.linalg.inv(affine)
    return (points @ inverse[:3, :3].T + inverse[:3, 3])[..., ::-1]
