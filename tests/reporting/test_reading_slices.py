"""Slices as the reading room draws them: the right voxel in the right place, nothing lost."""

import io

import numpy as np
import pytest
from PIL import Image

from sn2nlib.reporting.figures.planes import view
from sn2nlib.reporting.reading_slices import Circle, Look, along, draw_slice, offset, slice_count

SHAPE = (7, 9, 11)  # (z, y, x)


def drawn(volume: np.ndarray, look: Look, *, canvas: tuple[int, int], **more: object) -> np.ndarray:
    more.setdefault("voxel_size", (1.0, 1.0, 1.0))
    return np.asarray(Image.open(io.BytesIO(draw_slice(volume, look, canvas=canvas, **more))))  # type: ignore[arg-type]


def one_voxel(place: tuple[int, int, int]) -> np.ndarray:
    volume = np.zeros(SHAPE, np.float32)
    volume[place] = 1
    return volume


def brightest(picture: np.ndarray) -> tuple[float, float]:
    """Column and row of the middle of the white spot, without the letters at the rim."""
    inner = picture[40:-40, 40:-40] > 128
    rows, columns = np.nonzero(inner)
    return float(columns.mean() + 40.5), float(rows.mean() + 40.5)


@pytest.mark.parametrize(
    ("plane", "expected"),
    [
        # z = 5 of 7 lies right of the middle: on the screen's left; y = 2 of 9 posterior: below; x = 3 of 11: below
        ("axial", (-2, 2)),
        ("coronal", (-2, 2)),
        ("sagittal", (2, 2)),
    ],
)
def test_a_voxel_stands_where_it_lies(plane: str, expected: tuple[int, int]) -> None:
    volume, voxel = one_voxel((5, 2, 3)), (5.0, 2.0, 3.0)
    size = (1.0, 1.0, 1.0)
    assert offset(voxel, plane, SHAPE, size) == expected
    picture = drawn(volume, Look(plane, int(along(plane, voxel)), 0, 1), canvas=(600, 600))
    n_high = 9 if plane == "axial" else 11
    scale = 600 / n_high
    assert brightest(picture) == pytest.approx((300 + expected[0] * scale, 300 + expected[1] * scale), abs=2)


def test_voxels_are_shown_in_true_proportions() -> None:
    volume = one_voxel((5, 2, 3))
    picture = drawn(volume, Look("axial", 3, 0, 1), canvas=(600, 600), voxel_size=(3.0, 1.0, 1.0))
    scale = 600 / 21
    assert brightest(picture) == pytest.approx((300 - 6 * scale, 300 + 2 * scale), abs=2)


def test_zoom_and_centre_move_the_slice() -> None:
    volume = one_voxel((5, 2, 3))
    centre = offset((5, 2, 3), "axial", SHAPE, (1.0, 1.0, 1.0))
    picture = drawn(volume, Look("axial", 3, 0, 1, zoom=2.5, centre=centre), canvas=(500, 400))
    assert brightest(picture) == pytest.approx((250, 200), abs=2)
    gone = drawn(volume, Look("axial", 3, 0, 1, zoom=4, centre=(900.0, 0.0)), canvas=(500, 400))
    assert (gone[40:-40, 40:-40] == 0).all()


def test_values_go_through_the_window_unchanged() -> None:
    """At one pixel per voxel the picture is the slice itself, PNG losing nothing."""
    rng = np.random.default_rng(0)
    volume = rng.uniform(-0.5, 1.5, (240, 250, 3)).astype(np.float32)
    picture = drawn(volume, Look("axial", 1, 0.25, 0.75), canvas=(240, 250))
    expected = np.clip((view(volume, "axial", index=1) - 0.25) / 0.5 * 255 + 0.5, 0, 255).astype(np.uint8)
    inner = np.s_[30:110, 30:210]  # without letters
    np.testing.assert_array_equal(picture[inner], expected[inner])


def test_a_circle_surrounds_its_voxel_where_the_sphere_meets_the_slice() -> None:
    volume = np.zeros((60, 60, 60), np.float32)
    circle = Circle("here", (40.0, 25.0, 30.0), 10.0)
    look = Look("axial", 30, 0, 1)
    picture = drawn(volume, look, canvas=(600, 600), circles=[circle]).astype(int)
    blue = picture[..., 2] - picture[..., 0] > 60
    rows, columns = np.nonzero(blue)
    middle = (300 - 105, 300 + 45)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(middle[0], abs=1.5)
    assert rows.min() == pytest.approx(middle[1] - 100, abs=2)
    near = drawn(volume, Look("axial", 36, 0, 1), canvas=(600, 600), circles=[circle]).astype(int)
    rows = np.nonzero(near[..., 2] - near[..., 0] > 60)[0]
    assert rows.min() == pytest.approx(middle[1] - 80, abs=2), "√(10² − 6²) = 8"
    away = drawn(volume, Look("axial", 41, 0, 1), canvas=(600, 600), circles=[circle]).astype(int)
    assert (away[..., 2] == away[..., 0]).all()


def test_the_volume_is_not_changed() -> None:
    volume = one_voxel((5, 2, 3))
    volume.setflags(write=False)
    draw_slice(volume, Look("axial", 3, 0, 0), voxel_size=(1, 1, 1), canvas=(100, 100))
    assert [slice_count(volume, plane) for plane in ("sagittal", "coronal", "axial")] == list(SHAPE)
