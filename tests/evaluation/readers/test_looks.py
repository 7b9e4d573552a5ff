"""What the observer measures: it follows noise, blur and contrast, each by its own measure, and knows no unit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from sn2nlib.errors import ImageError
from sn2nlib.evaluation.readers.looks import look
from sn2nlib.evaluation.readers.sights import Sights, share_on_grid, sights_of
from sn2nlib.scans.details import Details, Lesion, load_structures
from sn2nlib.scans.heads import Head, digital_head

MANIFEST = Path(__file__).resolve().parents[3] / "data_manifest"
SHAPE = (48, 60, 60)  # 2 mm
Seen = tuple[np.ndarray, Sights]


@pytest.fixture(scope="module")
def seen() -> Seen:
    """A noise-free image of the middle of a head, by averaging its fine grid, and what is to be seen in it."""
    details = Details(load_structures(MANIFEST), (Lesion(5.0, 1.0), Lesion(3.0, 0.4)), seed=3)
    head = digital_head(3, matrix=SHAPE, voxel_size=(2.0, 2.0, 2.0), age=50, sex="M", details=details)
    signal = head.signal()
    step = [(np.arange(n) - n // 2) * (fine / n) + fine // 2 for n, fine in zip(SHAPE, signal.shape, strict=True)]
    places = np.ix_(*(np.clip(np.rint(axis).astype(int), 0, n - 1) for axis, n in zip(step, signal.shape, strict=True)))
    return gaussian_filter(signal, 0.6)[places] * 1000, sights_of(head, SHAPE)


def measured(image: np.ndarray, sights: Sights) -> pd.Series:
    rows = pd.DataFrame(look(image, sights))
    return rows.set_index(["measure", "item"])["value"]


def noisy(image: np.ndarray, sd: float) -> np.ndarray:
    return np.abs(image + np.random.default_rng(1).normal(0, sd, image.shape))


def test_more_noise_is_seen_as_noise_and_not_as_blur(seen: Seen) -> None:
    image, sights = seen
    clean, worse, worst = (measured(noisy(image, sd), sights) for sd in (0.0, 2.0, 4.0))
    level = float(image[sights.white].mean())
    assert clean["noise", ""] < worse["noise", ""] < worst["noise", ""]
    assert worst["noise", ""] == pytest.approx(np.hypot(4 / level, clean["noise", ""]), rel=0.15)
    assert clean["contrast", ""] > worse["contrast", ""] > worst["contrast", ""]
    assert clean["edge", ""] > worse["edge", ""] > worst["edge", ""]
    assert worst["acuity", ""] == pytest.approx(clean["acuity", ""], rel=0.1)


def test_blur_is_seen_as_blur(seen: Seen) -> None:
    image, sights = seen
    acuity = [measured(gaussian_filter(image, blur) if blur else image, sights)["acuity", ""] for blur in (0, 0.5, 0.8)]
    assert acuity[0] > 1.3 * acuity[1] > 1.3 * 1.3 * acuity[2]


def test_neither_the_unit_nor_the_place_in_memory_matters(seen: Seen) -> None:
    image, sights = seen
    before = image.copy()
    pd.testing.assert_series_equal(measured(image, sights), measured(7.5 * image, sights), rtol=1e-3)
    np.testing.assert_array_equal(image, before)


def test_structures_and_lesions_drown_in_noise(seen: Seen) -> None:
    image, sights = seen
    clean, worst = measured(image, sights), measured(noisy(image, 6.0), sights)
    assert clean["structure"].median() > 1.5 * worst["structure"].median()
    assert len(clean["structure"]) == 15 and (clean["structure"] >= 0).all()
    assert list(clean["lesion"].index) == ["lesion 1", "lesion 2"] == list(clean["border"].index)
    assert clean["lesion", "lesion 1"] > clean["lesion", "lesion 2"] > 0
    assert clean["lesion", "lesion 1"] > worst["lesion", "lesion 1"]


def test_a_ghost_is_found_where_the_head_folds_to(seen: Seen) -> None:
    image, sights = seen
    # this field of view is full of head: make some air
    air = np.zeros(SHAPE, bool)
    air[:, :8] = air[:, -8:] = True
    thin = Sights(**{**vars(sights), "air": air, "body": sights.body & ~air})
    folded = np.roll(thin.body, SHAPE[1] // 2, axis=1)
    bare = np.where(air, 0, image)
    ghosted = bare + 2.0 * (air & folded)
    assert (air & ~folded).any(), "there is no air without a ghost; the phantom changed"
    assert measured(bare, thin)["ghost", ""] == 0
    assert measured(ghosted, thin)["ghost", ""] == pytest.approx(2.0 / ghosted[sights.white].mean(), rel=0.001)


def test_the_share_of_a_voxel_is_its_mean() -> None:
    mask = np.zeros((40, 40, 40), bool)
    mask[10:20, 12:22, 14:24] = True
    window, share = share_on_grid(mask, (20, 20, 20))
    assert window == (slice(0, 20),) * 3
    assert share.sum() * 8 == pytest.approx(mask.sum(), rel=0.05)
    part, inside = share_on_grid(mask, (20, 20, 20), around=True)
    np.testing.assert_allclose(inside, share[part], atol=1e-6)
    assert inside.sum() == pytest.approx(share.sum(), rel=1e-3)
    nothing = share_on_grid(np.zeros((40, 40, 40), bool), (20, 20, 20), around=True)
    assert nothing[1].size == 0


def test_a_real_head_is_not_known_well_enough() -> None:
    head = Head("R", (1, 1, 1), np.eye(4), intensity=np.ones((8, 8, 8), np.float32))
    with pytest.raises(ImageError, match="only digital heads"):
        sights_of(head, (4, 4, 4))
