"""True labels on the scan's grid: majority, place, numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sn2nlib.errors import ImageError
from sn2nlib.evaluation.volumetry.truth import majority, true_labels
from sn2nlib.scans.atlas import STRUCTURES
from sn2nlib.scans.heads import Head, centred_affine


def head_of(tissue: np.ndarray, structures: np.ndarray) -> Head:
    affine = centred_affine(tissue.shape, (1, 1, 1), np.zeros(3))
    empty = np.ones(tissue.shape, np.float32)
    return Head("block", (1, 1, 1), affine, t1=empty, pd=empty, t2_star=empty, tissue=tissue, structures=structures)


def test_numbers_are_the_engines_own() -> None:
    tissue = np.zeros((18, 20, 22), np.uint8)
    tissue[3:9], tissue[9:12], tissue[12:15], tissue[15:] = 1, 2, 3, 4  # CSF, GM, WM, other
    structures = np.zeros_like(tissue)
    structures[:, 5:10] = STRUCTURES["left thalamus"]
    structures[:, 10:15] = STRUCTURES["right accumbens"]
    labels = true_labels(head_of(tissue, structures), tissue.shape)
    assert set(np.unique(labels["tissue"])) == {0, 1, 2, 3}  # other is background
    np.testing.assert_array_equal(labels["tissue"], np.where(tissue == 4, 0, tissue))
    assert set(np.unique(labels["subcortical"])) == {0, 10, 58}
    np.testing.assert_array_equal(labels["subcortical"] == 10, structures == STRUCTURES["left thalamus"])


@pytest.mark.parametrize(("fine", "coarse"), [((27, 30, 33), (9, 10, 11)), ((24, 28, 32), (16, 19, 21))])
def test_the_most_common_label_wins_and_nothing_moves(
    fine: tuple[int, int, int], coarse: tuple[int, int, int]
) -> None:
    """A ball stays where voxel n//2 says it is, and keeps its volume."""
    grid = np.meshgrid(*((np.arange(n) - n // 2) / n for n in fine), indexing="ij")
    ball = (sum(axis**2 for axis in grid) < 0.3**2).astype(np.uint8) * 7
    found = majority(ball, coarse)
    assert set(np.unique(found)) == {0, 7} and found.dtype == np.uint8
    share, expected = (np.count_nonzero(each) / each.size for each in (found, ball))
    assert share == pytest.approx(expected, rel=0.1)
    for axis, n in enumerate(coarse):
        centre = np.argwhere(found)[:, axis].mean()
        assert centre == pytest.approx(n // 2, abs=0.35)


def test_a_real_head_has_no_truth(tmp_path: Path) -> None:
    tissue = np.zeros((4, 4, 4), np.uint8)
    with pytest.raises(ImageError, match="block is a real head: nobody knows its true labels"):
        true_labels(replace(head_of(tissue, tissue), tissue=None), (4, 4, 4))
