"""Affines of cases worked out by hand."""

import numpy as np
import pytest

from sn2nlib.scans.raw.geometry import (
    are_directions,
    header_affine,
    quaternion_directions,
    unknown_affine,
    voxel_directions,
)

AXIAL = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]  # readout to the left, lines to the back, slices to the head


def test_an_axial_slab() -> None:
    affine = header_affine(AXIAL, (10, 20, 30), voxel_size=(4, 3, 2), shape=(6, 5, 8))
    # voxel (x, y, z) = (4, 2, 3) lies at left 10, back 20, head 30: RAS (-10, -20, 30)
    expected = [[-2, 0, 0, -2], [0, -3, 0, -14], [0, 0, 4, 18], [0, 0, 0, 1]]
    assert np.allclose(affine, expected)
    assert np.allclose(affine @ [4, 2, 3, 1], [-10, -20, 30, 1])


def test_an_oblique_slab() -> None:
    """Axial, tilted by 30° about the left-right axis: lines run backwards and up, slices up and forwards."""
    c, s = np.cos(np.pi / 6), 0.5
    directions = [[1, 0, 0], [0, c, s], [0, -s, c]]
    affine = header_affine(directions, (0, 0, 0), voxel_size=(2, 2, 2), shape=(1, 3, 3))
    assert np.allclose(affine[:3, 1], [0, -2 * c, 2 * s]) and np.allclose(affine[:3, 2], [0, 2 * s, 2 * c])
    assert np.allclose(affine @ [1, 1, 0, 1], [0, 0, 0, 1])


def test_a_sagittal_slab_has_the_axes_of_the_simulated_scans() -> None:
    """Readout to the head, lines to the front, partitions to the right: S, A, R."""
    directions = [[0, 0, 1], [0, -1, 0], [-1, 0, 0]]
    affine = header_affine(directions, (0, 0, 0), voxel_size=(1, 1, 1), shape=(2, 2, 2))
    assert np.allclose(affine[:3, :3], [[0, 0, 1], [0, 1, 0], [1, 0, 0]])


def test_quaternions() -> None:
    """Without rotation phase is x and readout y; a quarter turn about z makes phase y and readout -x."""
    assert np.allclose(quaternion_directions([1, 0, 0, 0]), [[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    half = np.sqrt(0.5)
    turned = quaternion_directions([[half, 0, 0, half], [half, half, 0, 0]])
    assert np.allclose(turned[0], [[-1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert np.allclose(turned[1], [[0, 0, 1], [1, 0, 0], [0, -1, 0]])  # a quarter turn about x
    any_ = np.random.default_rng(0).standard_normal((20, 4))
    unit = any_ / np.linalg.norm(any_, axis=1, keepdims=True)
    assert all(are_directions(rows) for rows in quaternion_directions(unit))


def test_voxels_of_a_forward_transform_follow_each_other_against_the_directions() -> None:
    turned = voxel_directions(AXIAL, forward_transform=True, shape=(6, 5, 8))
    assert np.array_equal(turned, -np.eye(3))
    affine = header_affine(turned, (10, 20, 30), voxel_size=(4, 3, 2), shape=(6, 5, 8))
    assert np.allclose(affine @ [4, 2, 3, 1], [-10, -20, 30, 1])  # voxel n//2 stays where it is
    one_slice = voxel_directions(AXIAL, forward_transform=True, shape=(1, 5, 8))
    assert np.array_equal(one_slice, np.diag([-1, -1, 1]))  # which is not transformed
    assert np.array_equal(voxel_directions(AXIAL, forward_transform=False, shape=(6, 5, 8)), AXIAL)


def test_a_volume_of_siemens_begins_where_another_converter_says() -> None:
    """ismrmrd_to_nifti: from the corner position + ½ Σ fov · direction against all three of them."""
    half = np.array([0.9, 0.1, -0.3, 0.2])
    directions = quaternion_directions(half / np.linalg.norm(half))
    position, shape, sizes = np.array([10.0, -20, 30]), (6, 8, 10), (3.0, 2.0, 1.0)
    turned = voxel_directions(directions, forward_transform=True, shape=shape)
    affine = header_affine(turned, position, voxel_size=sizes, shape=shape)
    fov = np.array([n * size for n, size in zip(shape[::-1], sizes[::-1], strict=True)])
    to_ras = np.array([-1, -1, 1])
    assert np.allclose(affine[:3, 3], to_ras * (position + fov @ directions / 2))
    assert np.allclose(affine[:3, :3].T, -to_ras * directions * np.array(sizes[::-1])[:, None])


@pytest.mark.parametrize("bad", [np.zeros((3, 3)), np.full((3, 3), np.nan), [[1, 0, 0], [1, 0, 0], [0, 0, 1]]])
def test_what_is_no_direction(bad: object) -> None:
    assert not are_directions(bad)  # type: ignore[arg-type]
    assert are_directions(AXIAL) and are_directions(-np.eye(3))


def test_an_unknown_place() -> None:
    affine = unknown_affine((4, 3, 2), (6, 5, 8))
    assert np.allclose(affine[:3, :3], np.diag([2, 3, 4])) and np.allclose(affine @ [4, 2, 3, 1], [0, 0, 0, 1])
