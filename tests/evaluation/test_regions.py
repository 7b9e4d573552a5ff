"""The regions on objects whose extent is known."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_cdt

from sn2nlib.evaluation.regions import air_mask, head_mask, tissue_core


def distance_from(place: tuple[float, ...], shape: tuple[int, ...], size: tuple[float, ...] = (1, 1, 1)) -> np.ndarray:
    """Distance of every voxel from `place`; voxel n//2 is the origin."""
    axes = [(np.arange(n) - n // 2) * step - p for n, step, p in zip(shape, size, place, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.sqrt(z**2 + y**2 + x**2)


@pytest.mark.parametrize("shape", [(41, 44, 47), (40, 45, 42)])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 3e4])
def test_the_head_is_whole_whatever_is_dark_in_it(shape: tuple[int, int, int], scale: float) -> None:
    ball = distance_from((0, 0, 0), shape) < 16
    image = scale * ball * (1 + 0.2 * np.random.default_rng(0).standard_normal(shape))
    image[distance_from((0, 3, -2), shape) < 6] = 0  # a ventricle, closed all round
    sinus = (np.abs(distance_from((6, 0, 0), shape)) < 4) & ball
    image[sinus] = 0
    z, y, x = (n // 2 for n in shape)
    image[z + 5 : z + 8, y + 2 :, x - 1 : x + 2] *= 0  # and a channel, open to the front
    image[2, 2, 2] = 5 * scale  # a bright speck outside
    before = image.copy()
    mask = head_mask(image)

    np.testing.assert_array_equal(image, before)
    assert mask.dtype == np.bool_ and mask.shape == shape
    assert not mask[distance_from((0, 0, 0), shape) > 17.5].any()
    assert mask[distance_from((0, 0, 0), shape) < 14].all()


def test_a_head_that_touches_the_border_keeps_its_shape() -> None:
    image = np.zeros((12, 30, 31), np.float32)
    image[:, 4:20, 5:25] = 1
    expected = np.zeros(image.shape, bool)
    expected[:, 4:20, 5:25] = True
    np.testing.assert_array_equal(head_mask(image), expected)


def test_threshold_is_in_intensity_scales() -> None:
    image = np.zeros((9, 20, 20), np.float32)
    image[2:7, 3:12, 3:17] = 100
    image[2:7, 12:17, 3:17] = 30
    assert head_mask(image).sum() == 5 * 14 * 14
    assert head_mask(image, threshold=0.5).sum() == 5 * 9 * 14


@pytest.mark.parametrize("distance", [1, 3, 5])
def test_air_is_farther_than_so_many_steps_from_the_head(distance: int) -> None:
    head = distance_from((0, 1, 0), (21, 24, 23)) < 6
    before = head.copy()
    steps = distance_transform_cdt(~head, metric="taxicab")
    np.testing.assert_array_equal(air_mask(head, distance=distance), steps > distance)
    np.testing.assert_array_equal(head, before)


@pytest.mark.parametrize("fine", [(54, 56, 57), (55, 53, 60)])
@pytest.mark.parametrize("shape", [(40, 41, 42), (41, 38, 45), (40, 41, 57)])
def test_core_lies_where_the_tissue_is(fine: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
    """A sphere off centre, on two grids over one field of view that share voxel n//2."""
    fov = (80.0, 82.0, 84.0)
    place, radius = (6.0, -9.0, 4.0), 20.0
    fine_size, size = ([extent / n for extent, n in zip(fov, grid, strict=True)] for grid in (fine, shape))
    tissue = np.where(distance_from(place, fine, tuple(fine_size)) < radius, 1, 3).astype(np.uint8)
    before = tissue.copy()
    core = tissue_core(tissue, 1, shape)

    np.testing.assert_array_equal(tissue, before)
    assert core.shape == shape and core.dtype == np.bool_
    distance = distance_from(place, shape, tuple(size))
    # the nearest fine voxel is up to half a diagonal away, and its neighbours one voxel more
    reach = 0.5 * np.linalg.norm(fine_size)
    assert not core[distance > radius + reach].any()
    assert core[distance < radius - reach - max(fine_size)].all()
    assert not tissue_core(tissue, 2, shape).any()
    # no shift: the core's middle is the sphere's, but for the rounding to the nearest fine voxel
    middle = (np.argwhere(core).mean(axis=0) - [n // 2 for n in shape]) * size
    np.testing.assert_allclose(middle, place, atol=0.5)


def test_core_on_the_same_grid_is_the_eroded_tissue() -> None:
    tissue = np.zeros((6, 7, 8), np.uint8)
    tissue[1:5, 1:6, 2:7] = 2
    expected = np.zeros(tissue.shape, bool)
    expected[2:4, 2:5, 3:6] = True
    np.testing.assert_array_equal(tissue_core(tissue, 2, tissue.shape), expected)
