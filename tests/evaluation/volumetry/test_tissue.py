"""The built-in tissue engine: true labels found again, the same bits in every process, less with more noise."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sn2nlib.errors import SegmentationError
from sn2nlib.evaluation.metrics import dice
from sn2nlib.evaluation.volumetry import tissue
from sn2nlib.evaluation.volumetry.engine import TISSUES, segment
from sn2nlib.evaluation.volumetry.mixture import Mixture, even_out
from sn2nlib.evaluation.volumetry.tissue import MarkovTissues, around, bone_beside, classify, require
from sn2nlib.evaluation.volumetry.truth import true_labels
from sn2nlib.scans.images import voxel_size_of

if TYPE_CHECKING:
    from conftest import SmallHead


def three_classes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, mask, and noise-free image of three classes in smooth blobs."""
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.standard_normal((33, 40, 36)), 3)
    labels = 1 + np.digitize(field, np.quantile(field, [0.2, 0.6])).astype(np.uint8)
    mask = np.zeros(labels.shape, bool)
    mask[2:-2, 2:-3, 3:-2] = True
    return np.where(mask, labels, 0), mask, np.array([0, 30, 70, 100], np.float32)[np.where(mask, labels, 0)]


def found_in(image: np.ndarray, mask: np.ndarray, *, voxel_size: float = 1.35) -> np.ndarray:
    """Labels of a brain without a coarse bias field."""
    even, tissues = even_out(image.astype(np.float32), mask, voxel_size=(voxel_size,) * 3)
    return classify(even, mask, tissues)


def test_classes_come_in_the_order_of_their_brightness() -> None:
    labels, mask, image = three_classes()
    noisy = np.where(mask, image + np.random.default_rng(1).normal(0, 4, image.shape), 0)
    found = found_in(noisy, mask)
    assert not found[~mask].any()
    assert [dice(found == label, labels == label) > 0.97 for label in TISSUES] == [True] * 3


def test_agreement_falls_smoothly_with_noise() -> None:
    labels, mask, image = three_classes()
    noise = np.random.default_rng(1).normal(0, 1, image.shape)
    agreements = []
    for noise_sd in (2, 8, 16):
        found = found_in(np.where(mask, image + noise_sd * noise, 0), mask)
        agreements.append(float((found == labels)[mask].mean()))
    assert agreements[0] > agreements[1] > agreements[2] > 0.7


def test_equal_images_give_equal_bits_and_leave_the_random_state() -> None:
    _, mask, image = three_classes()
    image = np.where(mask, image + np.random.default_rng(2).normal(0, 5, image.shape), 0)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = found_in(image, mask)
    np.random.seed(5)  # noqa: NPY002
    np.testing.assert_array_equal(found_in(image, mask), first)
    np.random.set_state(("MT19937", state, 624))  # noqa: NPY002


@pytest.mark.parametrize("value", [0.0, 50.0])
def test_a_brain_of_one_intensity_is_told(value: float) -> None:
    with pytest.raises(SegmentationError, match="three classes"):
        found_in(np.full((9, 9, 9), value), np.ones((9, 9, 9), bool))


def test_bright_vessels_do_not_move_the_classes() -> None:
    _, mask, image = three_classes()
    image = np.where(mask, image + np.random.default_rng(2).normal(0, 5, image.shape), 0)
    expected = found_in(image, mask)
    image[10:12, 10:12, 10:30] = 1000
    changed = found_in(image, mask) != expected
    assert changed[mask].mean() < 0.005


def test_a_missing_package_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tissue, "find_spec", lambda name: None)
    with pytest.raises(SegmentationError, match="needs dipy, deepbet, antspyx; run `pip install"):
        MarkovTissues()
    with pytest.raises(SegmentationError, match="antspyx"):
        require("antspyx")


def test_two_processes_find_the_same_bits(small_head: "SmallHead") -> None:
    first, second = (run["tissue"] for run in small_head.runs)
    np.testing.assert_array_equal(first, second)


def agreements(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return {name: dice(found == label, truth == label) for label, name in TISSUES.items()}


def test_the_true_tissues_are_found_in_a_coarse_head(small_head: "SmallHead") -> None:
    run, truth = small_head.runs[0], small_head.truth["tissue"]
    assert str(run["failures"]) == ""
    found = agreements(run["tissue"], truth)
    # at 2 mm and without noise CSF, GM and WM reach 0.816, 0.952 and 0.952, a mean of 0.907
    assert np.mean(list(found.values())) > 0.90
    assert min(found["GM"], found["WM"]) > 0.94
    assert found["CSF"] > 0.81


def test_the_network_s_brain_of_a_skull_stripped_head_is_refused(small_head: "SmallHead") -> None:
    stripped = np.where(small_head.truth["tissue"] > 0, small_head.image, 0)
    found = segment(stripped, MarkovTissues(), affine=small_head.affine)
    assert "a skull-stripped image; give the whole one" in found.failure and not found.labels.any()


def test_the_true_tissues_are_found_at_the_resolution_of_a_scan(small_head: "SmallHead") -> None:
    """With the noise of a fully sampled image, SD 2 % of WM; the goal is a mean of 0.90.

    CSF, GM and WM reach 0.838, 0.960 and 0.961, or 0.920. Not every head does as well: six development heads (digital,
    seeds 2001 to 2006) have 0.879 to 0.930, on average 0.908.
    """
    shape = (130, 160, 160)  # 1.35 mm
    affine = small_head.affine.copy()
    affine[:3, :3] *= 108 / 160
    truth, image = true_labels(small_head.head, shape)["tissue"], small_head.seen_at(shape)
    noise = np.random.default_rng(0).normal(0, 0.02 * np.median(image[truth == 3]), (2, *shape))
    found = segment(np.hypot(image + noise[0], noise[1]).astype(np.float32), MarkovTissues(), affine=affine)
    assert found.failure == ""
    reached = agreements(found.labels, truth)
    assert np.mean(list(reached.values())) > 0.91
    assert min(reached["GM"], reached["WM"]) > 0.95
    assert reached["CSF"] > 0.83


VOXEL = (1.35, 1.35, 1.35)  # mm
DURA, BONE, BONE_IN_THE_MASK = np.s_[2:11, 2:38], np.s_[17:23, 17:23], np.s_[17:23, 30:34]  # away from their borders


def edge_of_a_brain(noise_sd: float) -> tuple[np.ndarray, np.ndarray, Mixture]:
    """GM from z = 8 on, a layer as bright as CSF, dura; at two places bone, which at one reaches into the mask."""
    image = np.full((20, 40, 40), 75.0)
    image[:7], image[7] = 80, 30
    image[:7, 15:25, 15:25] = 4
    image[:10, 15:25, 28:36] = 4
    rng = np.random.default_rng(0)
    noisy = np.hypot(image + rng.normal(0, noise_sd, image.shape), rng.normal(0, noise_sd, image.shape))
    mask = np.zeros(image.shape, bool)
    mask[8:] = True
    return noisy.astype(np.float32), mask, Mixture(np.array([30.0, 75.0, 100.0]), max(noise_sd, 1.0))


@pytest.mark.parametrize("noise_sd", [2.0, 6.0, 11.0])  # percent of WM: none added, and about +1.5 and +3 σ
def test_the_edge_of_the_brain_is_known_by_the_bone_beside_it(noise_sd: float) -> None:
    image, mask, tissues = edge_of_a_brain(noise_sd)
    found = classify(image, mask, tissues, sizes=VOXEL)
    assert (found[7][DURA] == 1).mean() > 0.99 and (found[7][BONE] == 0).all()  # the same intensity
    assert (found[7:10][:, *BONE_IN_THE_MASK] == 0).all()
    assert (found[8:][:, *DURA] == 2).mean() > 0.98


def test_bone_is_judged_relative_to_the_skull() -> None:
    """Noise hides bone from voxels and skull alike, so that what is left of it counts as much."""
    beside = []
    for noise_sd in (0.0, 6.0, 11.0):
        image, mask, tissues = edge_of_a_brain(noise_sd)
        image[:7, 4:36, 4:13] = 4  # so much skull that nothing is above the most that counts
        share = bone_beside(image, mask, tissues, VOXEL)
        assert share[7, 2:11, 37].max() < 0.1
        beside.append(float(share[7][BONE].mean()))
    assert beside[0] < 2
    np.testing.assert_allclose(beside, beside[0], rtol=0.4)  # found: 1.18, 1.09, 0.76


def test_where_no_skull_is_seen_nothing_is_judged_by_it() -> None:
    image, mask, tissues = edge_of_a_brain(2)
    image[:8] = 75
    image[:11, 15:25, 28:36] = 75
    image[8:10, 20:22, 20:22] = 4  # a vessel without signal
    assert not bone_beside(image, mask, tissues, VOXEL).any()
    found = classify(image, mask, tissues, sizes=VOXEL)
    assert np.count_nonzero(found[8:] == 0) <= 8
    assert not bone_beside(image, np.ones_like(mask), tissues, VOXEL).any()


def test_csf_as_dark_as_bone_is_not_told_from_it() -> None:
    image, mask, _ = edge_of_a_brain(2)
    image[7] = 5
    found = classify(image, mask, Mixture(np.array([5.0, 75.0, 100.0]), 2.0), sizes=VOXEL)
    assert (found[7][BONE] == 1).all() and (found[7][DURA] == 1).all()


@pytest.mark.parametrize("sizes", [(0.5, 0.5, 0.5), (1.0, 1.0, 1.0), (4.0, 1.0, 1.0), (4.3, 3.4, 3.4)])
def test_the_edge_is_sought_in_voxels_of_any_size(sizes: tuple[float, float, float]) -> None:
    """Layers of 3 mm, or a voxel: dura outside, CSF in the rim; on one half bone, which the mask takes in."""
    image = np.full((60, 40, 40), 75.0)
    layer = max(1, round(3 / sizes[0]))
    start = 30
    image[:start - layer] = 80
    image[start - layer:start] = 30
    image[:start + 1, :, 20:] = 4
    mask = np.zeros(image.shape, bool)
    mask[start:] = True
    found = classify(image.astype(np.float32), mask, Mixture(np.array([30.0, 75.0, 100.0]), 2.0), sizes=sizes)
    rim = around(mask, sizes)[:, 10, 10]
    assert rim.any() and (found[rim, 5:-5, 2:14] == 1).all()
    assert (found[:start + 1, 5:-5, 24:-5] == 0).all()
    assert (found[start + 1:start + 8, 5:-5, 2:-5] == 2).mean() > 0.95
    turned = tuple(size * (1 + error) for size, error in zip(sizes, (1e-7, -1e-7, 1e-7), strict=True))
    again = classify(image.astype(np.float32), mask, Mixture(np.array([30.0, 75.0, 100.0]), 2.0), sizes=turned)
    np.testing.assert_array_equal(again, found)


def test_a_brain_cut_by_the_end_of_the_image_goes_on_there() -> None:
    image, mask, tissues = edge_of_a_brain(2)
    image[18:, 5:9, 5:9] = 4  # a vessel without signal
    found = classify(image, mask, tissues, sizes=VOXEL)
    assert (found[18:, 5:9, 5:9] == 1).all()


def test_the_rim_does_not_depend_on_the_direction_of_the_axes() -> None:
    mask = np.zeros((16, 17, 18), bool)
    mask[6:10, 6:11, 6:12] = True
    rng = np.random.default_rng(0)
    for size in (2.0, 1.5, 1.35, 0.75, 0.5):
        expected = around(mask, (size,) * 3)
        assert expected.any() and not (expected & mask).any()
        for _ in range(20):
            affine = np.eye(4)
            affine[:3, :3] = size * np.linalg.qr(rng.normal(size=(3, 3)))[0]
            np.testing.assert_array_equal(around(mask, voxel_size_of(affine)), expected)
    faces = around(mask, (4.3, 3.4, 3.4))  # coarse voxels: those that touch the brain, on all sides
    assert all(faces[place] for place in ((5, 8, 8), (10, 8, 8), (8, 5, 8), (8, 11, 8), (8, 8, 5), (8, 8, 12)))
    assert not faces[5, 5, 8]
