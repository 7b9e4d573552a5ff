"""The drawing of the method: it follows from the network's own configuration, and shows the images it was given."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from sn2nlib.denoiser import UNet25D
from sn2nlib.errors import StudyError
from sn2nlib.reporting import figures
from sn2nlib.reporting.figures.method import IMAGES, network_levels
from sn2nlib.reporting.figures.planes import head_box, view

VOXEL = (2.0, 1.5, 1.5)
SIZES: list[dict[str, Any]] = [
    {"width": 32, "depth": 3, "slices": 7, "bias": False, "unshuffle": 1},
    {"width": 8, "depth": 2, "slices": 5, "bias": True, "unshuffle": 2},
    {"width": 4, "depth": 0, "slices": 1, "bias": False, "unshuffle": 1},
]


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    """Ellipsoids, one per name, each of another brightness."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (19, 30, 26)), indexing="ij")
    head = ((z**2 + y**2 + x**2) < 0.8).astype(np.float32)
    return {name: head * np.float32(1 + 0.1 * number) for number, name in enumerate(IMAGES)}


def drawn(images: dict[str, np.ndarray], architecture: dict[str, Any], **options: Any) -> figures.Sheet:
    return figures.method(images, architecture=architecture, alpha=0.35, voxel_size=VOXEL, **options)


def texts(sheet: figures.Sheet) -> list[str]:
    return [text.get_text() for text in sheet.findobj(Text) if isinstance(text, Text) and text.get_text()]


@pytest.mark.parametrize("architecture", SIZES)
def test_the_levels_are_those_of_the_network(architecture: dict[str, Any]) -> None:
    network, found = UNet25D(**architecture), []
    for down in network.down:
        down.register_forward_hook(lambda _, __, features: found.append(tuple(features.shape[1:])))
    network(torch.zeros(1, architecture["slices"], 30, 26))
    assert network_levels(network.architecture, (30, 26)) == found


@pytest.mark.parametrize("architecture", SIZES)
def test_every_level_and_the_blend_are_written(images: dict[str, np.ndarray], architecture: dict[str, Any]) -> None:
    sheet = drawn(images, architecture, loss="l1", mirrors=2)
    said = texts(sheet)
    for level, (channels, rows, columns) in enumerate(network_levels(architecture, (30, 26))):
        sides = 2 if level < architecture["depth"] else 1
        assert said.count(f"{channels}\n{rows} × {columns}") == sides
    assert str(architecture["slices"] * architecture["unshuffle"] ** 2) in said
    assert any("sN2N = 0.35 · original + 0.65 · network output" in text for text in said)
    assert any("mean of 2\nmirror images" in text for text in said)
    assert "loss: mean\nabsolute error" in said
    assert any("no bias" in text for text in said) is not architecture["bias"]
    assert f"{len(network_levels(architecture, (30, 26)))} level" in sheet.caption and "absolute error" in sheet.caption


@pytest.mark.parametrize("architecture", SIZES)
def test_it_is_legible_in_print(images: dict[str, np.ndarray], architecture: dict[str, Any]) -> None:
    sheet = drawn(images, architecture)
    sheet.png()
    assert min(text.get_fontsize() for text in sheet.findobj(Text) if text.get_text()) >= 7
    box = sheet.get_tightbbox()
    assert box.x0 >= 0 and box.y0 >= 0
    assert box.x1 <= sheet.get_figwidth() and box.y1 <= sheet.get_figheight()
    assert sheet.get_figheight() * 25.4 <= 260


def test_the_images_are_the_given_ones_at_the_partition_asked_for(images: dict[str, np.ndarray]) -> None:
    before = {name: image.copy() for name, image in images.items()}
    marked = {name: image.copy() for name, image in images.items()}
    for z in range(19):
        marked["half_a"][z, 15, 13] = 5 + z
    sheet = drawn(marked, SIZES[0], index=1)
    panels = [np.asarray(axes.images[0].get_array()) for axes in sheet.axes if axes.images]
    assert [panel.max() for panel in panels[:7]] == [9, 8, 7, 6, 5, 5, 5]  # z + 3 at the back; padded below z = 0
    box = head_box(images["original"], "sagittal")
    for panel, name in zip(panels[7:], ("output_a", "half_b", "original", "output", "sN2N"), strict=True):
        np.testing.assert_array_equal(panel, view(images[name], "sagittal", index=1)[box])
    assert all(np.array_equal(images[name], before[name]) for name in images)


def test_its_colours_survive_in_the_file(images: dict[str, np.ndarray], tmp_path: Any) -> None:
    path = figures.save_figure(drawn(images, SIZES[0]), tmp_path / "method.png", stamp="profile test")
    with Image.open(path) as image:
        colours = {tuple(colour) for _, colour in image.convert("RGB").getcolors() or []}
        assert image.info["Title"] == "The network in training and at the test"
    assert {(0, 114, 178), (230, 159, 0), (213, 94, 0), (255, 255, 255)} <= colours


def test_what_cannot_be_drawn_is_told(images: dict[str, np.ndarray]) -> None:
    with pytest.raises(StudyError, match="lacks half_b, sN2N"):
        drawn({name: images[name] for name in IMAGES if name not in ("half_b", "sN2N")}, SIZES[0])
    with pytest.raises(StudyError, match="differ in shape"):
        drawn({**images, "output": images["output"][1:]}, SIZES[0])
    with pytest.raises(StudyError, match="no loss 'l3'; known: l2, l1"):
        drawn(images, SIZES[0], loss="l3")
