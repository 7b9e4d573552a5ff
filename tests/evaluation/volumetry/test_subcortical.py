"""The FIRST substitute: true structures found again, left on the left, the same bits in every process."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from sn2nlib.errors import SegmentationError
from sn2nlib.evaluation.metrics import dice
from sn2nlib.evaluation.volumetry import subcortical as module
from sn2nlib.evaluation.volumetry.brain import Brain
from sn2nlib.evaluation.volumetry.engine import SUBCORTICAL
from sn2nlib.evaluation.volumetry.mixture import Mixture
from sn2nlib.evaluation.volumetry.subcortical import ATLASES, AtlasSubcortical, check_registration, refine, shifted

if TYPE_CHECKING:
    from conftest import SmallHead

TISSUES = Mixture(np.array([30.0, 75.0, 100.0]), 5.0)


def agreements(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return {name: dice(found == label, truth == label) for label, name in SUBCORTICAL.items()}


def test_two_processes_find_the_same_bits(small_head: "SmallHead") -> None:
    first, second = small_head.runs
    np.testing.assert_array_equal(first["subcortical"], second["subcortical"])
    np.testing.assert_array_equal(first["second"], second["second"])


def test_the_true_structures_are_found(small_head: "SmallHead") -> None:
    run, truth = small_head.runs[0], small_head.truth["subcortical"]
    assert str(run["failures"]) == ""
    same_atlas, other_atlas = (agreements(run[name], truth) for name in ("subcortical", "second"))
    assert np.mean(list(same_atlas.values())) > 0.85
    assert min(same_atlas.values()) > 0.7
    assert 0.78 < np.mean(list(other_atlas.values())) < np.mean(list(same_atlas.values()))


def test_left_is_left(small_head: "SmallHead") -> None:
    for name in ("subcortical", "second"):
        found = small_head.runs[0][name]
        for left, right in ((10, 49), (17, 53), (18, 54)):  # z, and world x, run from left to right
            assert np.argwhere(found == left)[:, 0].max() < np.argwhere(found == right)[:, 0].min() + 3
            assert np.argwhere(found == left)[:, 0].mean() < np.argwhere(found == right)[:, 0].mean() - 8


def test_the_name_tells_what_it_stands_in_for() -> None:
    first, second = AtlasSubcortical(), AtlasSubcortical(atlas="desikan_killiany")
    assert first.name == "FIRST substitute (Harvard–Oxford atlas)"
    assert second.note == "FIRST substitute"
    with pytest.raises(SegmentationError, match="no atlas 'aal'"):
        AtlasSubcortical(atlas="aal")


@pytest.mark.parametrize("name", ATLASES)
def test_every_atlas_has_the_structures_where_they_belong(name: str) -> None:
    atlas = module._atlas(name)
    to_ras = np.linalg.inv(atlas.from_ras)
    places = {}
    for label, each in zip(SUBCORTICAL, atlas.maps, strict=True):
        assert each.max() > 0.5
        middle = np.argwhere(each > 0.5 * each.max()).mean(0)
        places[label] = to_ras[:3, :3] @ middle + to_ras[:3, 3]
    for left, right in zip((10, 11, 12, 13, 17, 18, 26), (49, 50, 51, 52, 53, 54, 58), strict=True):
        assert places[left][0] < -4
        assert places[right][0] > 4
        np.testing.assert_allclose(places[left] * [-1, 1, 1], places[right], atol=4)
    # known centres of the MNI space, mm
    np.testing.assert_allclose(places[49], [11, -19, 7], atol=5)
    np.testing.assert_allclose(places[51], [26, 1, 0], atol=5)
    np.testing.assert_allclose(places[53], [26, -22, -14], atol=6)


def blob() -> tuple[np.ndarray, np.ndarray]:
    """Prior of one structure (the left thalamus) that is unsure of its edge, and where the edge truly lies."""
    grid = np.meshgrid(*(np.arange(n) - n // 2 for n in (30, 33, 28)), indexing="ij")
    radius = np.sqrt(sum(axis.astype(float) ** 2 for axis in grid))
    prior = np.zeros((15, *radius.shape), np.float32)
    prior[0] = 1 / (1 + np.exp((radius - 8) / 1.2))
    return prior, radius < 9.0


def test_the_intensities_move_the_edge_of_the_atlas() -> None:
    prior, truth = blob()
    image = np.where(truth, 80, 100) + np.random.default_rng(0).normal(0, 2, truth.shape)
    brain = Brain(image.astype(np.float32), np.ones(truth.shape, bool), TISSUES)
    by_prior = dice(prior[0] > 0.5, truth)
    found = refine(prior, brain)
    assert set(np.unique(found)) == {0, 10}
    assert dice(found == 10, truth) > by_prior + 0.1


def test_without_contrast_the_atlas_decides() -> None:
    prior, _ = blob()
    image = np.random.default_rng(0).normal(100, 2, prior.shape[1:]).astype(np.float32)
    found = refine(prior, Brain(image, np.ones(image.shape, bool), TISSUES))
    assert dice(found == 10, prior[0] > 0.5) > 0.93


def test_an_atlas_beside_the_brain_is_told() -> None:
    prior, _ = blob()
    mask = np.zeros(prior.shape[1:], bool)
    mask[0, 0, 0] = True
    with pytest.raises(SegmentationError, match="outside the brain"):
        refine(prior, Brain(mask.astype(np.float32), mask, TISSUES))


def test_a_failed_registration_is_told() -> None:
    rng = np.random.default_rng(0)
    fixed = np.zeros((20, 20, 20))
    fixed[4:16, 4:16, 4:16] = rng.uniform(1, 2, (12, 12, 12))
    check_registration(fixed, fixed)
    with pytest.raises(SegmentationError, match=r"overlap by a Dice of 0\.50"):
        check_registration(fixed, np.roll(fixed, 6, axis=0))
    with pytest.raises(SegmentationError, match="correlate"):
        check_registration(fixed, np.where(fixed > 0, 3 - fixed, 0))


def test_a_box_keeps_its_place() -> None:
    affine = np.array([[0, 0, 2.0, -80], [0, 3.0, 0, -90], [4.0, 0, 0, -70], [0, 0, 0, 1]])
    moved = shifted(affine, (slice(5, 9), slice(2, 4), slice(1, 3)))  # z, y, x
    np.testing.assert_allclose(moved @ [0, 0, 0, 1], affine @ [1, 2, 5, 1])
