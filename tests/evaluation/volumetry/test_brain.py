"""Brain extraction behind its gates, and the bias field. The network itself runs in `small_head`."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sn2nlib.errors import SegmentationError
from sn2nlib.evaluation.volumetry import brain as module
from sn2nlib.evaluation.volumetry.brain import as_ants, bounding_box, correct_bias, extract_brain

SHAPE = (40, 48, 44)
AFFINE = np.array([[0, 0, 4.0, -80], [0, 4.0, 0, -96], [4.0, 0, 0, -80], [0, 0, 0, 1]])


def ball(radius: float, *, shape: tuple[int, ...] = SHAPE, shift: int = 0) -> np.ndarray:
    """Voxels within `radius` voxels of the middle, shifted along z."""
    grid = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")
    return (grid[0] - shift) ** 2 + grid[1] ** 2 + grid[2] ** 2 < radius**2


class Extraction:
    """Stands in for deepbet: marks what it is told to."""

    def __init__(self, found: np.ndarray | Exception) -> None:
        self.found = found

    def run_model(self, image: np.ndarray) -> np.ndarray:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found.astype(np.float32)

    def postprocess(self, mask: np.ndarray) -> np.ndarray:
        return mask


@pytest.fixture
def deepbet(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Let the network find what the test says."""
    torch = SimpleNamespace(get_num_threads=lambda: 1, set_num_threads=lambda n: None)
    return lambda found: monkeypatch.setattr(module, "_deepbet", lambda: (Extraction(found), torch))


def head(brain: np.ndarray) -> np.ndarray:
    """A brain with some structure, and a scalp."""
    structure = gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 2) * 100
    return np.where(brain, 100 + structure, 0) + np.where(ball(20) & ~ball(18), 150, 0).astype(np.float32)


def test_a_believable_brain_passes(deepbet: Callable[[Any], None]) -> None:
    brain = ball(16.5)  # 1.2 L
    deepbet(brain)
    np.testing.assert_array_equal(extract_brain(head(brain), AFFINE), brain)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (AssertionError("Not enough foreground to calculate bounding box"), "no brain found"),
        (ValueError("attempt to get argmax of an empty sequence"), "no brain found"),
        (np.zeros(SHAPE, bool), "marks no voxel"),
        (ball(8), r"0\.1. L, believable are 0\.9 to 2\.2 L"),
        (ball(20.5), r"2\.3. L, believable"),
        (ball(9, shift=-10) | ball(9, shift=9), "fell into pieces"),
    ],
)
def test_what_is_no_brain_is_refused(deepbet: Callable[[Any], None], found: Any, words: str) -> None:
    deepbet(found)
    with pytest.raises(SegmentationError, match=words):
        extract_brain(head(ball(16.5)), AFFINE)


def test_a_skull_stripped_image_is_told(deepbet: Callable[[Any], None]) -> None:
    brain = ball(16.5)
    deepbet(brain)
    with pytest.raises(SegmentationError, match="skull-stripped"):
        extract_brain(np.where(brain, head(brain), 0).astype(np.float32), AFFINE)


def test_noise_that_looks_like_a_brain_is_told(deepbet: Callable[[Any], None]) -> None:
    deepbet(ball(16.5))
    for image in (np.random.default_rng(0).rayleigh(1, SHAPE), 100.0 * ball(20)):
        with pytest.raises(SegmentationError, match="noise or uniform"):
            extract_brain(image.astype(np.float32), AFFINE)


def test_the_network_finds_no_brain_in_noise_or_a_ball() -> None:
    for image in (np.random.default_rng(0).rayleigh(1, SHAPE), 100.0 * ball(17)):
        with pytest.raises(SegmentationError, match="brain"):
            extract_brain(image.astype(np.float32), AFFINE)


def test_the_bias_field_goes() -> None:
    rng = np.random.default_rng(0)
    mask = ball(16)
    blobs = gaussian_filter(rng.standard_normal(SHAPE), 2)
    inner = np.array([25, 60, 100])[np.digitize(blobs, np.quantile(blobs, [0.17, 0.64]))]
    field = np.exp(0.3 * np.linspace(-1, 1, SHAPE[0]))[:, None, None]
    image = np.where(mask, inner * field, 0).astype(np.float32)
    before, state = image.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    corrected, _ = correct_bias(image, mask, AFFINE)
    assert not corrected[~mask].any()
    white = mask & (inner == 100)
    spread = [each[white].std() / each[white].mean() for each in (image, corrected)]
    assert spread[1] < 0.35 * spread[0]
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_the_box_of_a_mask_stays_on_the_grid() -> None:
    mask = np.zeros((7, 9, 5), bool)
    mask[0, 3:6, 4] = True
    assert bounding_box(mask) == (slice(0, 2), slice(2, 7), slice(3, 5))


def test_ants_places_every_voxel_where_the_affine_does() -> None:
    image = as_ants(np.zeros((4, 5, 6)), AFFINE)
    place = np.array(image.direction) @ (np.array(image.spacing) * [3, 1, 2]) + image.origin
    ras = AFFINE @ [2, 1, 3, 1]  # the same voxel as (x, y, z)
    np.testing.assert_allclose(place * [-1, -1, 1], ras[:3])
