"""The frame around every engine: what it refuses, how it turns, when it does not believe."""

import numpy as np
import pytest
from nibabel import orientations

from sn2nlib.errors import ImageError, SegmentationError
from sn2nlib.evaluation.volumetry.engine import BOUNDS, SUBCORTICAL, TISSUES, judge, segment, volumes

AFFINE = np.array([[0, 0, 5.0, -70], [0, 5.0, 0, -90], [5.0, 0, 0, -60], [0, 0, 0, 1]])


class Halves:
    """Calls the low z half CSF, the high one GM, and the brightest voxel WM: an engine that knows left from right."""

    name, version, kind, note = "halves", "1", "tissue", "a stand-in"
    structures = TISSUES

    def __call__(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        labels = np.full(image.shape, 2, np.uint8)
        labels[: image.shape[0] // 2] = 1
        labels[image > 5] = 3
        return labels


class Refuses(Halves):
    def __call__(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        raise SegmentationError("no brain found")


def make_image() -> np.ndarray:
    image = np.random.default_rng(0).uniform(0, 1, (16, 32, 25)).astype(np.float32)
    image[2:14, 4:28, 5:20] = 10  # 540 mL
    return image


def test_a_plausible_segmentation_says_who_made_it() -> None:
    image = make_image()
    found = segment(image, Halves(), affine=AFFINE)
    assert found.failure == ""
    assert (found.engine, found.version, found.kind, found.note) == ("halves", "1", "tissue", "a stand-in")
    assert found.labels.shape == image.shape
    assert volumes(found.labels, found.names, affine=AFFINE)["WM"] == pytest.approx(12 * 24 * 15 * 0.125)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "LSA", "PIR", "AIL"])
def test_left_stays_left_in_every_order_and_handedness(axes: str) -> None:
    image = make_image()
    expected = segment(image, Halves(), affine=AFFINE).labels
    turn = orientations.ornt_transform(orientations.io_orientation(AFFINE), orientations.axcodes2ornt(tuple(axes)))
    stored = image.transpose(2, 1, 0)
    turned = orientations.apply_orientation(stored, turn).transpose(2, 1, 0)
    affine = AFFINE @ orientations.inv_ornt_aff(turn, stored.shape)
    found = segment(turned, Halves(), affine=affine).labels
    back = orientations.apply_orientation(expected.transpose(2, 1, 0), turn).transpose(2, 1, 0)
    np.testing.assert_array_equal(found, back)


def test_the_image_stays_as_it_is() -> None:
    image = make_image()
    before = image.copy()
    segment(image, Halves(), affine=AFFINE)
    np.testing.assert_array_equal(image, before)


def test_a_refusal_of_the_engine_is_a_failed_case() -> None:
    found = segment(make_image(), Refuses(), affine=AFFINE)
    assert found.failure == "no brain found"
    assert not found.labels.any()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.ones((4, 4, 4)), "constant"),
        (np.zeros((4, 4, 4)), "constant"),
        (np.ones((4, 4)), "3 axes"),
        (np.ones((0, 4, 4)), "none empty"),
        (np.full((4, 4, 4), np.nan), "NaN"),
        (np.arange(64.0).reshape(4, 4, 4) * 1j, "magnitude"),
    ],
)
def test_images_that_no_engine_can_take(image: np.ndarray, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        segment(image, Halves(), affine=AFFINE)


def skewed() -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 0] = 1.0
    return affine


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.zeros((4, 4)), "voxel size is missing"),
        (np.diag([0, 1, 1, 1]), "voxel size is missing"),
        (np.diag([0.001, 0.001, 0.001, 1]), "other units"),
        (np.diag([1, 1, np.nan, 1]), "finite"),
        (np.eye(3), "4×4"),
        (skewed(), "perpendicular"),
    ],
)
def test_affines_that_do_not_say_where_the_voxels_are(affine: np.ndarray, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        segment(make_image(), Halves(), affine=affine)


def test_the_gates_name_what_is_not_believable() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    affine = np.diag([5.0, 5, 5, 1])  # 0.125 mL a voxel
    assert judge(labels, TISSUES, affine=affine) == "the label map is empty"
    labels[:4] = 1
    labels[4:12] = 2
    assert judge(labels, TISSUES, affine=affine) == "empty: WM"
    labels[12:18] = 3
    assert judge(labels, TISSUES, affine=affine) == ""
    small = judge(labels, TISSUES, affine=np.diag([2.0, 2, 2, 1]))
    assert "WM has 19.2 mL, believable are 200 to 1000 mL" in small
    assert "shape" in judge(labels, TISSUES, affine=affine, shape=(3, 3, 3))


def test_every_structure_has_bounds() -> None:
    names = [*TISSUES.values(), *SUBCORTICAL.values()]
    assert {name.split()[-1] for name in names} == set(BOUNDS)
    assert len(SUBCORTICAL) == 15
