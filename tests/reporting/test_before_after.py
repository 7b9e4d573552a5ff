"""Before and after without a reference: what was removed is shown in the right unit and the right way up."""

import io
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from sn2nlib.errors import StudyError
from sn2nlib.reporting.figures import before_after

VOXEL = (3.0, 2.0, 1.5)
LABEL = "digital phantom, simulated scan"


def images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An ellipsoid; the original has noise of SD 0.02, and of SD 0.04 in the posterior half."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (21, 28, 33)), indexing="ij")
    sn2n = (0.5 * (z**2 + y**2 + x**2 < 0.9)).astype(np.float32)
    sd = np.where(y < 0, 0.04, 0.02).astype(np.float32)
    original = sn2n + sd * np.random.default_rng(0).standard_normal(sn2n.shape, dtype=np.float32)
    return original, sn2n, sd


def test_removed_noise_is_shown_in_its_own_sd() -> None:
    original, sn2n, sd = images()
    sheet = before_after(original, sn2n, sd, voxel_size=VOXEL, label=LABEL)
    assert "Inside the head it is 1.0" in sheet.caption and "noise SDs (RMS)" in sheet.caption
    pictures = [axes.images[0] for axes in sheet.axes if axes.images]
    assert len(pictures) == 12
    shown = pictures[2].get_array()
    assert pictures[2].get_clim() == (-3, 3)
    # sagittal, anterior to the left: the noise of both sides has SD 1 in its own units
    left, right = shown[:, : shown.shape[1] // 2], shown[:, shown.shape[1] // 2 :]
    assert np.std(left) == pytest.approx(1, abs=0.15) and np.std(right) == pytest.approx(1, abs=0.15)
    # and the map is higher where the noise is: behind
    sd_shown = pictures[3].get_array()
    assert np.mean(sd_shown[:, : sd_shown.shape[1] // 2]) < 0.6 * np.mean(sd_shown[:, sd_shown.shape[1] // 2 + 1 :])


def test_the_file_keeps_the_colours_of_the_noise_map() -> None:
    """Greys are most of its pixels, but no end of the colour scale is merged with what lies beside it."""
    sheet = before_after(*images(), voxel_size=VOXEL, label=LABEL)
    with Image.open(io.BytesIO(sheet.png())) as image:
        seen = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0).astype(int)
    for wanted in 255 * colormaps["viridis"](np.linspace(0, 1, 50))[:, :3]:
        assert np.abs(seen - wanted).max(axis=1).min() <= 3
    assert (seen == 255).all(axis=1).any()


def test_a_map_that_goes_beyond_its_scale_says_so() -> None:
    original, sn2n, sd = images()
    sd[10, 14, 16] = 1
    for map_, ends in ((sd, "max"), (np.full_like(sd, 0.02), "neither")):
        sheet = before_after(original, sn2n, map_, voxel_size=VOXEL, label=LABEL)
        (bar,) = [axes.images[0].colorbar for axes in sheet.axes if axes.images and axes.images[0].colorbar]
        assert bar.extend == ends


def test_an_image_without_k_space_has_no_map() -> None:
    original, sn2n, _ = images()
    sheet = before_after(original, sn2n, voxel_size=VOXEL, label=LABEL)
    assert sum(bool(axes.images) for axes in sheet.axes) == 9
    assert "% of the grey scale" in sheet.caption and "GRAPPA" not in sheet.caption


@pytest.mark.parametrize(
    ("part", "rows"),
    [
        (np.s_[10:11], 1),  # one partition: a slice
        (np.s_[:, 13:14], 1),
        (np.s_[:, :, 16:17], 1),
        (np.s_[9:13], 1),  # a slab of 12 mm, 56 mm by 50 mm
        (np.s_[:, 9:17], 2),  # one of 16 mm: its sagittal plane would be a tower
    ],
)
def test_slices_and_slabs_are_shown_in_the_planes_that_they_fill(part: Any, rows: int) -> None:
    original, sn2n, sd = (volume[part] for volume in images())
    sheet = before_after(original, sn2n, sd, voxel_size=VOXEL, label=LABEL, letters=False)
    pictures = [axes.images[0] for axes in sheet.axes if axes.images and len(axes.images[0].get_array()) > 1]
    assert len(pictures) == 4 * rows
    width, height = sheet.get_size_inches()
    assert height < 1.2 * width
    assert not any(text.get_text() in "APRL" for axes in sheet.axes for text in axes.texts)


def test_images_of_other_shapes_are_refused() -> None:
    original, sn2n, _ = images()
    with pytest.raises(StudyError, match="differ in shape"):
        before_after(original, sn2n[1:], voxel_size=VOXEL, label=LABEL)
