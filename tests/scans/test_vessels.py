"""Vessels against closed forms: cylinders, cones, joints; and the circle of Willis keeps what it promises."""

from typing import Any

import numpy as np
import pytest

from sn2nlib.errors import ImageError
from sn2nlib.scans.vessels import Plaque, Vessel, rasterise, voxel_positions, within
from sn2nlib.scans.willis import grow, template_courses, to_head

SHAPE, SIZE = (21, 26, 25), (0.5, 0.4, 0.45)
# z anterior, y right, x superior, voxel n//2 at the origin: as a coronal scan
AFFINE = np.array([[0, 0.4, 0, -5.2], [0, 0, 0.5, -5.0], [0.45, 0, 0, -5.4], [0, 0, 0, 1.0]])


def straight(
    start: tuple[float, float, float] = (0, 0, -8), end: tuple[float, float, float] = (0, 0, 8),
    radius: tuple[float, float] = (1.5, 1.5), wall: float = 0.7, **more: Any,
) -> Vessel:  # fmt: skip
    points = np.linspace(start, end, 9)
    return Vessel("straight", points, np.linspace(*radius, 9), np.full(9, wall), **more)


def area(share: np.ndarray, plane: int = 12) -> float:
    """mm² of a cross-section at right angles to S."""
    return float(share[:, :, plane].sum() * SIZE[0] * SIZE[1])


def test_a_cylinder_has_its_area() -> None:
    shares = rasterise([straight((0.13, -0.21, -8), (0.13, -0.21, 8))], SHAPE, AFFINE)
    assert area(shares["lumen"]) == pytest.approx(np.pi * 1.5**2, rel=0.005)
    assert area(shares["wall"]) == pytest.approx(np.pi * (2.2**2 - 1.5**2), rel=0.005)
    assert all(share.shape == SHAPE and share.dtype == np.float32 for share in shares.values())
    assert shares["plaque"].max() == shares["enhancing"].max() == 0
    # its centre of mass lies on the centre line
    plane = shares["lumen"][:, :, 12]
    z, y = (np.arange(n) - n // 2 for n in plane.shape)
    assert (plane.sum(1) @ z) / plane.sum() * SIZE[0] == pytest.approx(-0.21, abs=0.01)
    assert (plane.sum(0) @ y) / plane.sum() * SIZE[1] == pytest.approx(0.13, abs=0.01)


def test_an_oblique_vessel_has_its_volume() -> None:
    vessel = straight((-2, -1, -3), (2.5, 2, 2.5), (1.2, 1.2))
    length = np.linalg.norm([4.5, 3, 5.5])
    lumen = rasterise([vessel], SHAPE, AFFINE)["lumen"].sum() * np.prod(SIZE)
    # rounded ends
    assert lumen == pytest.approx(np.pi * 1.2**2 * length + 4 / 3 * np.pi * 1.2**3, rel=0.01)


def test_the_radius_is_interpolated() -> None:
    lumen = rasterise([straight(radius=(1.0, 2.0))], SHAPE, AFFINE)["lumen"]
    for plane in (4, 12, 20):
        expected = 1.5 + (plane - 12) * 0.45 / 16
        assert area(lumen, plane) == pytest.approx(np.pi * expected**2, rel=0.01)


def test_the_smallest_tile_border_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vessels = [straight(), straight((-4, 1, 0), (4, -1, 1), (0.8, 1.0))]
    whole = rasterise(vessels, SHAPE, AFFINE), within(vessels, SHAPE, AFFINE, 1.1)
    monkeypatch.setattr("sn2nlib.scans.vessels._TILE", 5)
    tiled = rasterise(vessels, SHAPE, AFFINE), within(vessels, SHAPE, AFFINE, 1.1)
    for name, share in whole[0].items():
        np.testing.assert_allclose(share, tiled[0][name], atol=1e-6)
    np.testing.assert_array_equal(whole[1], tiled[1])


def test_lumens_win_where_vessels_join() -> None:
    trunk, branch = straight(), straight((0, 0, 0), (5, 0, 0), (1.0, 1.0))
    joined = rasterise([trunk, branch], SHAPE, AFFINE)
    alone = rasterise([trunk], SHAPE, AFFINE)["lumen"]
    assert (joined["lumen"] >= alone).all() and joined["lumen"].sum() > alone.sum()
    centre = [n // 2 for n in SHAPE]
    # through the mouth of the branch: no wall from the axis outwards
    assert joined["wall"][centre[0], centre[1] : centre[1] + 8, centre[2]].max() == 0
    assert max(sum(joined.values()).ravel()) <= 1 + 1e-6


def test_within_is_the_distance_to_the_wall() -> None:
    near = within([straight()], SHAPE, AFFINE, 1.0)
    z, y = np.meshgrid((np.arange(21) - 10) * 0.5, (np.arange(26) - 13) * 0.4, indexing="ij")
    np.testing.assert_array_equal(near[:, :, 12], np.hypot(z, y) < 3.2)


def test_a_plaque_thickens_one_side() -> None:
    plaque = Plaque(centre=8, length=4, thickness=1.0, direction=(1.0, 0.0, 0.0), narrowing=0.2)
    vessel = straight(plaque=plaque)
    shares = rasterise([vessel], SHAPE, AFFINE)
    assert area(shares["lumen"]) == pytest.approx(np.pi * 1.2**2, rel=0.01)
    assert area(shares["wall"]) == 0
    row = shares["plaque"][10, :, 12]
    assert row[13:].sum() * 0.4 == pytest.approx(1.7, abs=0.05) and row[:13].sum() * 0.4 == pytest.approx(0.7, abs=0.05)
    # whole within 60°, none beyond 110°, a straight slope between
    angle = np.deg2rad([0, 59, 85, 111, 180])
    np.testing.assert_allclose(plaque.around(np.cos(angle)), [1, 1, 0.5, 0, 0], atol=1e-9)
    np.testing.assert_allclose(plaque.along(np.array([5, 5.5, 6, 8, 10, 11])), [0, 0.5, 1, 1, 1, 0], atol=1e-9)
    centre, tangent, radius, wall = vessel.at(8.0)
    np.testing.assert_allclose(np.concatenate([centre, tangent]), [0, 0, 0, 0, 0, 1], atol=1e-12)
    assert (radius, wall) == pytest.approx((1.2, 1.7))
    # beyond it the plain wall
    assert area(shares["wall"], 1) == pytest.approx(np.pi * (2.2**2 - 1.5**2), rel=0.01)


def test_enhancement_is_a_stretch_of_the_wall() -> None:
    shares = rasterise([straight(enhancing=(6.0, 10.0))], SHAPE, AFFINE)
    assert area(shares["wall"]) == 0 and area(shares["enhancing"]) > 0
    assert area(shares["wall"], 2) > 0 and area(shares["enhancing"], 2) == 0


@pytest.mark.parametrize(
    "faulty", [{"points": np.zeros((1, 3))}, {"radius": np.array([1.0, 0.0])}, {"points": np.zeros((2, 3))}]
)
def test_a_broken_vessel_is_an_error(faulty: dict[str, np.ndarray]) -> None:
    sound = {"points": np.array([[0, 0, 0], [0, 0, 1.0]]), "radius": np.ones(2), "wall": np.ones(2)}
    with pytest.raises(ImageError, match="vessel faulty"):
        Vessel("faulty", **(sound | faulty))


def test_positions_in_voxels() -> None:
    place = np.array([[3.0, 7.0, 11.0]])  # z, y, x
    world = AFFINE[:3, :3] @ place[0, ::-1] + AFFINE[:3, 3]
    np.testing.assert_allclose(voxel_positions(world[None], AFFINE), place)


def test_courses_are_carried_by_the_heads_warp() -> None:
    shape, spacing, centre = (40, 42, 44), (1.2, 1.1, 1.3), (2.0, -4.0, 5.0)
    grid = [((np.arange(n) - n // 2) * s + c) for n, s, c in zip(shape, spacing, centre, strict=True)]
    position = np.meshgrid(*grid, indexing="ij")
    template = [axis * 1.07 + 3 + 0.5 * np.sin(axis / 9) for axis in position]
    points = np.array([[4.0, -2.0, 6.0], [-9.0, 5.0, 12.0], [2.0, 3.0, 60.0]])
    carried = to_head({"A": points}, template, spacing, centre)["A"]
    back = carried * 1.07 + 3 + 0.5 * np.sin(carried / 9)
    np.testing.assert_allclose(back[:2], points[:2], atol=0.1)
    assert abs(back[2, 2] - 60) < 3  # outside: at the template's scale


def test_the_circle_is_closed_and_its_walls_are_thin() -> None:
    rng = np.random.default_rng(4)
    courses = template_courses(rng)
    vessels = {vessel.name: vessel for vessel in grow(courses, rng, plaques=3, enhancing=2)}
    assert set(vessels) == set(courses) and {"RICA", "LICA", "RM1", "LM1", "BA", "ACom"} <= set(vessels)
    for name, vessel in vessels.items():
        assert vessel.wall.min() >= 0.5 and vessel.wall.max() <= 1.0 and vessel.radius.min() > 0.4, name
        np.testing.assert_allclose(vessel.points[[0, -1]], courses[name][[0, -1]], atol=1e-9)
    for side, sign in (("R", 1), ("L", -1)):
        np.testing.assert_allclose(vessels[f"{side}ICA"].points[-1], vessels[f"{side}M1"].points[0], atol=1e-9)
        np.testing.assert_allclose(vessels[f"{side}VA"].points[-1], vessels["BA"].points[0], atol=1e-9)
        assert sign * vessels[f"{side}M1"].points[-1, 0] > 30
    assert sum(vessel.plaque is not None for vessel in vessels.values()) == 3
    plain = [v for v in vessels.values() if v.enhancing is not None and v.plaque is None]
    assert len(plain) == 2 and all(6 <= v.enhancing[1] - v.enhancing[0] <= 12 for v in plain if v.enhancing)
    again = grow(template_courses(np.random.default_rng(4)), np.random.default_rng(4))
    other = grow(template_courses(np.random.default_rng(5)), np.random.default_rng(4))
    assert not np.array_equal(again[0].points, other[0].points)


def test_a_vessel_just_long_enough_takes_any_enhancing_stretch() -> None:
    line = np.stack([np.linspace(0, 14.1, 4), np.zeros(4), np.zeros(4)], axis=1)
    for seed in range(40):
        [vessel] = grow({"RP2": line}, np.random.default_rng(seed), plaques=0, enhancing=1)
        assert vessel.enhancing is not None
        first, last = vessel.enhancing
        assert 2 <= first < last <= vessel.position[-1] - 0.5 + 1e-9 and last - first <= 12
