"""The circle of Willis and its branches: where they lie in template space, and a random tree of them in a head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import CubicSpline

from sn2nlib.scans.vessels import Plaque, Vessel

_STEP = 0.7  # mm of the centre lines' pieces
_SCALE = 1.07  # template space is about this much larger than a head


@dataclass(frozen=True)
class _Artery:
    """Course on the right (R, A, S template mm, approximate, from anatomy), lumen radius at both ends in mm."""

    course: tuple[tuple[float, float, float], ...]
    radius: tuple[float, float]
    paired: bool = True
    absent: float = 0.0  # how often it is missing


_ARTERIES = {
    "ICA": _Artery(
        ((24, -10, -46), (22, -9, -39), (16, -6, -34), (13, 2, -32), (13.5, 7, -28), (13, 5.5, -23), (13.5, 2, -20),
         (14.5, 1.5, -15)), (2.2, 1.7)),
    "M1": _Artery(((14.5, 1.5, -15), (20, 2, -14), (26, 3, -13.5), (32, 4, -15), (36, 3, -14)), (1.45, 1.2)),
    "M2s": _Artery(((36, 3, -14), (39, 4, -8), (38, 6, 0), (38, 8, 8), (40, 9, 14)), (1.0, 0.8)),
    "M2i": _Artery(((36, 3, -14), (40, -2, -10), (40, -9, -5), (40, -17, 0), (42, -25, 5)), (1.0, 0.75)),
    "A1": _Artery(((14.5, 1.5, -15), (10, 4, -13.5), (6, 7, -13), (2.8, 9.5, -12)), (1.1, 1.0), absent=0.08),
    "A2": _Artery(
        ((2.8, 9.5, -12), (2.7, 14, -9), (2.8, 20, -5), (2.8, 27, 0), (2.8, 32, 7), (2.7, 34, 14)), (1.0, 0.8)),
    "ACom": _Artery(((2.8, 9.5, -12), (0, 9.8, -12), (-2.8, 9.5, -12)), (0.7, 0.7), paired=False),
    "PCom": _Artery(
        ((13.2, 3, -19), (12, -4, -17.5), (9.5, -9, -16.5), (9, -12, -15.5)), (0.7, 0.65), absent=0.3),
    "BA": _Artery(
        ((0, -21, -48), (0, -15, -40), (0, -11.5, -32), (0, -10, -25), (0, -10.5, -19)), (1.7, 1.55), paired=False),
    "VA": _Artery(((10, -34, -62), (7, -29, -56), (4, -24, -51), (0, -21, -48)), (1.5, 1.35)),
    "P1": _Artery(((0, -10.5, -19), (4, -9.5, -17), (9, -12, -15.5)), (1.1, 1.0), absent=0.05),
    "P2": _Artery(
        ((9, -12, -15.5), (14, -18, -14), (17, -26, -11), (16, -34, -7), (14, -42, -3)), (1.0, 0.8)),
    "SCA": _Artery(
        ((0, -10, -22), (5, -11, -21.5), (12, -16, -21), (17, -26, -19), (16, -36, -16)), (0.7, 0.6)),
}  # fmt: skip
_STENOSED = ("ICA", "M1", "BA", "VA")  # where atherosclerosis sits


def template_courses(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Control points (n, 3) in template mm of each artery that this head has; interior ones are displaced by 0.8 mm."""
    courses: dict[str, np.ndarray] = {}
    for name, artery in _ARTERIES.items():
        for side in ("R", "L") if artery.paired else ("",):
            points = np.array(artery.course, float) * ([-1, 1, 1] if side == "L" else [1, 1, 1])
            points[1:-1] += rng.normal(0, 0.8, points[1:-1].shape)
            if rng.random() >= artery.absent:
                courses[f"{side}{name}"] = points
    return courses


def to_head(
    courses: Mapping[str, np.ndarray], template: Sequence[np.ndarray], spacing: Sequence[float], centre: Sequence[float]
) -> dict[str, np.ndarray]:
    """Control points carried from template space into a head.

    Each goes to the voxel whose template position is nearest, and on by what is left of the way; beyond the field of
    view that continues the head at the template's scale.

    Parameters
    ----------
    courses
        Name → (n, 3) template mm.
    template
        Template position (R, A, S) of each voxel, three arrays (z, y, x) = (right, anterior, superior).
    spacing
        (z, y, x) mm.
    centre
        RAS mm of voxel n//2.

    Returns
    -------
    Name → (n, 3) RAS mm of the head.
    """
    thin = tuple(slice(None, None, max(round(1.5 / size), 1)) for size in spacing)
    known = np.stack([np.asarray(axis[thin], np.float32).ravel() for axis in template], axis=1)
    grid = [((np.arange(n) - n // 2) * s + c)[part] for n, s, c, part in
            zip(template[0].shape, spacing, centre, thin, strict=True)]  # fmt: skip
    shape = tuple(len(axis) for axis in grid)
    carried = {}
    for name, points in courses.items():
        moved = []
        for point in points:
            nearest = int(np.argmin(((known - point.astype(np.float32)) ** 2).sum(axis=1)))
            place = np.array([axis[i] for axis, i in zip(grid, np.unravel_index(nearest, shape), strict=True)])
            moved.append(place + (point - known[nearest]) / _SCALE)
        carried[name] = np.array(moved)
    return carried


def grow(
    courses: Mapping[str, np.ndarray], rng: np.random.Generator, *, plaques: int = 3, enhancing: int = 2
) -> tuple[Vessel, ...]:
    """Vessels along the courses: cubic splines, radius and wall of this head, plaques and enhancing walls.

    Walls are 0.5–1 mm thick, thicker on larger arteries. Plaques (0.4–1.2 mm more, one third of them enhancing) sit on
    the large basal arteries, enhancing stretches of 6–12 mm on any other.

    Parameters
    ----------
    courses
        Name → control points (n, 3) in RAS mm.
    rng
        Source of randomness.
    plaques, enhancing
        How many at most.
    """
    size = rng.normal(1.0, 0.07)
    vessels = {name: _plain(name, points, size, rng) for name, points in courses.items()}
    stenosed = [name for name in vessels if name.lstrip("RL") in _STENOSED]
    diseased = list(rng.permutation(stenosed)[:plaques])
    others = [name for name in vessels if name not in diseased and vessels[name].position[-1] > 14]
    for name in diseased:
        vessels[name] = _with_plaque(vessels[name], rng)
    for name in rng.permutation(others)[:enhancing]:
        end = vessels[name].position[-1]
        length = min(rng.uniform(6, 12), end - 2.5)
        start = rng.uniform(2, end - length - 0.5)
        vessels[name] = replace(vessels[name], enhancing=(start, start + length))
    return tuple(vessels.values())


def _plain(name: str, points: np.ndarray, size: float, rng: np.random.Generator) -> Vessel:
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    n = max(int(np.ceil(chord[-1] / _STEP)), 2) + 1
    share = np.linspace(0, 1, n)
    line = CubicSpline(chord, points)(share * chord[-1])
    first, last = _ARTERIES[name.lstrip("RL")].radius
    radius = (first + share * (last - first)) * size * rng.normal(1.0, 0.06)
    wall = np.clip(0.42 + 0.25 * radius + rng.normal(0, 0.08), 0.5, 1.0)
    return Vessel(name, line, radius, wall)


def _with_plaque(vessel: Vessel, rng: np.random.Generator) -> Vessel:
    end = vessel.position[-1]
    length = rng.uniform(4, 7)
    centre = rng.uniform(0.35, 0.65) * end
    _, tangent, _, _ = vessel.at(centre)
    across = np.cross(tangent, rng.standard_normal(3))
    across /= np.linalg.norm(across)
    r, a, s = (float(u) for u in across)
    plaque = Plaque(centre, length, rng.uniform(0.4, 1.2), (r, a, s), narrowing=rng.uniform(0.1, 0.4))
    reach = length / 2 + 1
    return replace(
        vessel, plaque=plaque, enhancing=(centre - reach, centre + reach) if rng.random() < 1 / 3 else None
    )
