"""Figures: where anatomy stands, what is drawn, what the file carries; all on volumes whose content is known."""

import io
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from PIL import Image

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.metrics import psnr
from sn2nlib.fourier import fft
from sn2nlib.recon import make_pair, whiten
from sn2nlib.reporting import figures
from sn2nlib.reporting.figures.planes import AXES, cut, head_box, pixel_size, view, window
from sn2nlib.reporting.figures.sheet import ARM_STYLES
from sn2nlib.reporting.published import Published, load_published
from sn2nlib.reporting.tables import per_scan, table2
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans.scan import Scan

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifest"
VOXEL = (3.0, 2.0, 1.5)  # z, y, x in mm: all different
LABEL = "digital phantom D167, simulated scan"
BLOB = (slice(14, 17), slice(20, 23), slice(25, 28))  # right, anterior, superior
STAMP = "profile test · sn2n 0.1.0 · commit c0ffee · seed 7"


def phantom(seed: int = 0) -> np.ndarray:
    """An ellipsoid of about 0.3 with a blob of 1 at the patient's right, front and top; odd and unequal sizes."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (21, 28, 33)), indexing="ij")
    volume = 0.3 * (z**2 + y**2 + x**2 < 0.9) * (1 + 0.2 * np.cos(6 * x))
    volume[BLOB] = 1.0
    noise = np.random.default_rng(seed).normal(0, 0.01, volume.shape)
    return np.abs(volume + noise).astype(np.float32)


def levels_of(reference: np.ndarray) -> dict[float, dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    noise = {level: rng.normal(0, 0.02 * (1 + level), reference.shape).astype(np.float32) for level in (0.0, 1.0, 3.0)}
    return {level: {"original": reference + n, "sN2N": reference + n / 2} for level, n in noise.items()}


def history() -> pd.DataFrame:
    """Loss 1.25 times its floor at the end, validation 1.5 times."""
    step = np.arange(10, 1001, 10)
    floor = np.full(len(step), 0.002)
    loss = floor * np.where(step > 800, 1.25, 5.0)
    table = pd.DataFrame({"step": step, "loss": loss, "noise_floor": floor})
    table["validation_loss"] = np.where(step % 100 == 0, 0.0045, np.nan)
    table["validation_floor"] = np.where(step % 100 == 0, 0.003, np.nan)
    return table


def alpha_table() -> pd.DataFrame:
    """Parabolas with known optima, of two scans at different PSNR."""
    best = {"half_to_half": 0.1, "original_to_half": 0.7, "noise_free": 0.4, "full_sampled": 0.5}
    rows = [
        {"definition": name, "scan": scan, "alpha": alpha, "psnr": level - 4 * (alpha - optimum) ** 2}
        for name, optimum in best.items()
        for scan, level in (("D136", 30.0), ("D137", 38.0))
        for alpha in np.arange(11) / 10
    ]
    return pd.DataFrame(rows)


def quality_table() -> pd.DataFrame:
    """PSNR 40 − 3σ dB and 1 + σ/2 dB gained, on three digital heads and a real one; the truth gains 2 dB."""
    rows = []
    for set_name, scans in (("quantitative", ("D167", "D168", "D169")), ("real_head", ("S1",))):
        for number, scan in enumerate(scans):
            for level in (0.0, 1.0, 3.0):
                for reference, region in (("full_sampled", "volume"), ("noise_free", "head")):
                    for arm, gain in (("original", 0.0), ("sN2N", 1 + level / 2), ("truth", 2.0)):
                        if arm == "truth" and reference == "noise_free":
                            continue
                        value = 40 + number - 3 * level + gain
                        rows.append({
                            "set": set_name, "scan": scan, "noise_sigma": level, "arm": arm, "reference": reference,
                            "region": region, "psnr": value, "ssim": 1 - 10 ** (-value / 20),
                            "nrmse": 500 * 10 ** (-value / 20),
                        })  # fmt: skip
    return table2(per_scan(pd.DataFrame(rows)))


def bias_table() -> pd.DataFrame:
    rows = [
        {"head": head, "noise_sigma": level, "arm": arm, "region": region, "bias_percent": offset + level * slope}
        for head, offset in (("D167", 0.0), ("S1", 1.0))
        for level in (0.0, 3.0)
        for arm, slope in (("original", 2.0), ("sN2N", 1.0), ("full_sampled", 0.0))
        for region in ("air", "CSF")
        if (head, region) != ("S1", "CSF")
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def published() -> Published:
    return load_published(MANIFEST)


@pytest.fixture(scope="module")
def scan() -> Scan:
    """Four coils see an ellipsoid; R = 2×1 with 16 calibration lines."""
    rng = np.random.default_rng(3)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (16, 32, 28)), indexing="ij")
    image = 50 * ((z / 0.8) ** 2 + (y / 0.8) ** 2 + (x / 0.8) ** 2 < 1) * (1 + 0.3 * np.cos(8 * y))
    centres = [(1, 1, 0.5), (1, -1, -0.5), (-1, 1, -0.5), (-1, -1, 0.5)]
    maps = np.stack([1 / (1 + (z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) for a, b, c in centres])
    noise = rng.standard_normal((2, 4, 16, 32, 28))
    kspace = fft(maps * image) + noise[0] + 1j * noise[1]
    mask = lattice_mask((16, 32), acceleration=(2, 1), acs=16)
    samples = rng.standard_normal((2, 4, 5000))
    return Scan(
        (kspace * mask[..., None]).astype(np.complex64), mask, (2, 1), voxel_size=VOXEL,
        noise=(samples[0] + 1j * samples[1]).astype(np.complex64),
    )  # fmt: skip


@pytest.fixture(scope="module")
def every(published: Published, scan: Scan) -> dict[str, figures.Sheet]:
    """One figure of every kind."""
    reference, pair = phantom(), make_pair(scan)
    arms, sd = levels_of(reference)[1.0], np.full(reference.shape, 0.02, np.float32)
    look = {"voxel_size": VOXEL, "label": LABEL}
    return {
        "cohort": figures.cohort({"D001 (training)": reference, "D002 (training)": 5 * reference}, voxel_size=VOXEL),
        "comparison": figures.comparison(levels_of(reference), reference, **look),
        "montage": figures.montage(arms["original"], arms["sN2N"], slices=8, per_row=4, **look),
        "preprocessing": figures.preprocessing(figures.preprocessing_panels(scan, pair), **look),
        "pairs": figures.pairs(reference, reference + sd, reference, None, noise_sd=sd, **look),
        "noise_maps": figures.noise_maps(sd, 2 * sd, 50 * sd, 60 * sd, reference > 0.2, **look),
        "learning_curve": figures.learning_curve(history()),
        "alpha_curve": figures.alpha_curve(alpha_table(), 0.4),
        "noise_level_curves": figures.noise_level_curves(quality_table(), published),
        "bias_plot": figures.bias_plot(bias_table()),
    }


KINDS = [
    "cohort", "comparison", "montage", "preprocessing", "pairs", "noise_maps", "learning_curve",
    "alpha_curve", "noise_level_curves", "bias_plot",
]  # fmt: skip


def shown(axes: Axes) -> np.ndarray:
    """Values of the image in a panel."""
    return np.asarray(axes.images[0].get_array())


def texts(sheet: figures.Sheet) -> list[str]:
    return [text.get_text() for text in sheet.findobj(Text) if isinstance(text, Text) and text.get_text()]


def line(axes: Axes, label: str) -> pd.Series:
    [found] = [each for each in axes.lines if each.get_label() == label]
    return pd.Series(np.asarray(found.get_ydata(), float), index=np.asarray(found.get_xdata(), float))


# planes


@pytest.mark.parametrize("plane, index", [("sagittal", 15), ("coronal", 21), ("axial", 26)])
def test_right_anterior_superior_is_at_the_top_left(plane: str, index: int) -> None:
    volume = np.zeros((21, 28, 33), np.float32)
    volume[15, 21, 26] = 1
    rows, columns = (n for axis, n in enumerate((21, 28, 33)) if axis != AXES[plane])
    image = view(volume, plane, index=index)
    assert image.shape == (columns, rows)
    # the row counts down from the top of the later axis, the column from the right or the front
    place = {"sagittal": (32 - 26, 27 - 21), "coronal": (32 - 26, 20 - 15), "axial": (27 - 21, 20 - 15)}[plane]
    assert np.argwhere(image == 1).tolist() == [list(place)]


@pytest.mark.parametrize("plane, height, width", [("sagittal", 1.5, 2.0), ("coronal", 1.5, 3.0), ("axial", 2.0, 3.0)])
def test_pixels_have_the_proportions_of_the_voxels(plane: str, height: float, width: float) -> None:
    assert pixel_size(plane, VOXEL) == (height, width)


@pytest.mark.parametrize("plane, letters", [("sagittal", "AP"), ("coronal", "RL"), ("axial", "RL")])
def test_on_paper_the_blob_is_on_the_side_of_its_letter(plane: str, letters: str) -> None:
    reference = phantom()
    index = {"sagittal": 15, "coronal": 21, "axial": 26}[plane]
    images = {1.0: levels_of(reference)[1.0]}
    sheet = figures.comparison(images, reference, voxel_size=VOXEL, plane=plane, index=index)
    pixels = np.asarray(Image.open(io.BytesIO(sheet.png())).convert("L")).astype(float)
    axes = sheet.axes[4]  # the fully sampled image, whole: nothing but the letters is written on it
    box = axes.get_window_extent()
    top = pixels.shape[0] - round(box.y1)
    panel = pixels[top : top + round(box.height), round(box.x0) : round(box.x1)]
    third = [part // 3 for part in panel.shape]
    assert panel[: third[0] * 2, : third[1] * 2].max() == 255
    brightest = np.argwhere(panel[: panel.shape[0] // 2] > 250)
    assert len(brightest) > 20
    by_letter = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert by_letter[letters[0]] < 0.1 and by_letter[letters[1]] > 0.9
    blob = shown(axes) > 0.8
    rows, columns = np.nonzero(blob)
    assert rows.mean() < blob.shape[0] / 2 and columns.mean() < blob.shape[1] / 2
    assert axes.images[0].origin == "upper"


def test_panels_are_in_true_proportion() -> None:
    reference = phantom()
    sheet = figures.comparison({1.0: levels_of(reference)[1.0]}, reference, voxel_size=VOXEL, plane="axial")
    sheet.png()
    box, (rows, columns) = sheet.axes[0].get_window_extent(), shown(sheet.axes[0]).shape
    assert box.height / box.width == pytest.approx(rows * 2.0 / (columns * 3.0), rel=1e-3)


def test_the_box_holds_the_whole_head_and_the_cut_lies_in_it() -> None:
    volume = np.zeros((20, 30, 40), np.float32)
    volume[4:9, 10:21, 12:33] = 1
    rows, columns = head_box(volume, "axial", margin=0)
    assert (rows.start, rows.stop) == (30 - 21, 30 - 10) and (columns.start, columns.stop) == (20 - 9, 20 - 4)
    assert 4 <= cut(volume, "sagittal") < 9 and 10 <= cut(volume, "coronal") < 21 and 12 <= cut(volume, "axial") < 33


@pytest.mark.parametrize(
    "shape, plane, index, message",
    [
        ((5, 6, 7), "oblique", None, "no plane 'oblique'; known: sagittal, coronal, axial"),
        ((5, 6, 7), "axial", 7, "no axial slice 7; the volume has 7"),
        ((5, 6), "axial", None, r"volumes \(z, y, x\); got an array of shape \(5, 6\)"),
    ],
)
def test_planes_that_are_not_there(shape: tuple[int, ...], plane: str, index: int | None, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        view(np.ones(shape), plane, index=index)


def test_the_grey_scale_is_the_brains_not_that_of_fat_at_the_coils() -> None:
    volume = np.zeros((30, 40, 50), np.float32)
    volume[3:27, 4:36, 5:45] = 5  # fat
    volume[6:24, 7:33, 8:42] = np.random.default_rng(2).uniform(0.8, 1.2, (18, 26, 34))  # brain
    before = volume.copy()
    assert np.percentile(volume, 99.5) == 5
    assert window(volume) == pytest.approx(1.2, rel=0.01)
    assert window(-7 * volume) == pytest.approx(7 * window(volume), rel=1e-6)
    assert window(np.zeros_like(volume)) == 1
    assert np.array_equal(volume, before)


@pytest.mark.parametrize("kind", ["comparison", "montage", "cohort", "pairs", "preprocessing", "noise_maps"])
def test_every_panel_of_a_head_has_the_letters_of_its_sides(kind: str, every: dict[str, figures.Sheet]) -> None:
    panels = [axes for axes in every[kind].axes if axes.images and not axes.axison]
    lettered = [axes for axes in panels if {text.get_text() for text in axes.texts} >= {"R", "L"}]
    sagittal = [axes for axes in panels if {text.get_text() for text in axes.texts} >= {"A", "P"}]
    enlarged = 15 if kind == "comparison" else 0  # below the panel that has them
    assert len(panels) == len(lettered) + len(sagittal) + enlarged > 0


def test_letters_are_dark_where_the_panel_is_white() -> None:
    sd = np.full(phantom().shape, 0.02, np.float32)
    sheet = figures.pairs(phantom() + 0j, phantom(), phantom(), 0j * sd, noise_sd=sd, voxel_size=VOXEL, label=LABEL)
    colours = [axes.texts[0].get_color() for axes in sheet.axes if axes.texts]
    assert colours == ["white"] * 4 + ["black"]


def test_an_empty_image_is_told() -> None:
    with pytest.raises(StudyError, match="no head to show"):
        figures.cohort({"D001": np.zeros((9, 9, 9), np.float32)}, voxel_size=VOXEL)


# what all figures have in common


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_legible_in_print(kind: str, every: dict[str, figures.Sheet]) -> None:
    sheet = every[kind]
    sheet.png()
    written = [text for text in sheet.findobj(Text) if isinstance(text, Text) and text.get_text().strip()]
    assert len(written) > 4
    assert {text.get_text(): text.get_fontsize() for text in written if text.get_fontsize() < 7} == {}
    drawn = sheet.get_tightbbox()  # inches, of all that is visible
    assert drawn.x0 >= 0 and drawn.y0 >= 0
    assert drawn.x1 <= sheet.get_figwidth() and drawn.y1 <= sheet.get_figheight()
    assert sheet.get_figwidth() * 25.4 == pytest.approx(180)
    assert sheet.get_figheight() * 25.4 <= 260


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_says_whose_scan_it_is(kind: str, every: dict[str, figures.Sheet]) -> None:
    said = " ".join(texts(every[kind]))
    assert "simulated scan" in said
    assert every[kind].title in said
    assert len(every[kind].caption) > 60 and every[kind].caption.endswith((".", ".)"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_becomes_a_small_file_with_its_caption(
    kind: str, every: dict[str, figures.Sheet], tmp_path: Path
) -> None:
    path = figures.save_figure(every[kind], tmp_path / "sub" / f"{kind}.png", stamp=STAMP)
    assert [each.name for each in path.parent.iterdir()] == [f"{kind}.png"]
    assert path.stat().st_size < 400_000
    with Image.open(path) as image:
        assert image.size[0] == pytest.approx(180 / 25.4 * 150, abs=1)
        assert image.info["Title"] == every[kind].title
        assert image.info["Description"] == every[kind].caption
    assert STAMP in texts(every[kind])
    assert plt.get_fignums() == []


def test_a_figure_shows_itself_in_a_notebook(every: dict[str, figures.Sheet]) -> None:
    assert every["alpha_curve"]._repr_png_().startswith(b"\x89PNG")


def test_stamp_says_what_is_known() -> None:
    text = figures.stamp_text({"profile": "demo", "seed": 7, "commit": "c0ffee", "versions": {}})
    assert text == "profile demo · sn2n 0.1.0 · commit c0ffee · seed 7"
    assert figures.stamp_text({"commit": "c0ffee"}) == "sn2n 0.1.0 · commit c0ffee"


def test_arms_differ_in_more_than_colour() -> None:
    for name in ("linestyle", "marker"):
        assert len({ARM_STYLES[arm][name] for arm in ("original", "sN2N", "truth")}) == 3


# anatomy


def test_comparison_shows_images_and_residuals() -> None:
    reference = phantom()
    images = levels_of(reference)
    before = {level: arms["sN2N"].copy() for level, arms in images.items()}
    sheet = figures.comparison(images, reference, voxel_size=VOXEL, plane="coronal", index=14, label=LABEL)
    assert len(sheet.axes) == 3 * 5 * 2  # levels, columns, whole and enlarged
    box = head_box(reference, "coronal")
    for row, (level, arms) in enumerate(images.items()):
        panels = sheet.axes[10 * row : 10 * row + 10 : 2]
        expected = [arms["original"], arms["sN2N"], reference, arms["original"] - reference, arms["sN2N"] - reference]
        for axes, volume in zip(panels, expected, strict=True):
            assert np.array_equal(shown(axes), view(volume, "coronal", index=14)[box])
        limits = [axes.images[0].get_clim() for axes in panels]
        top = window(reference)
        assert all(pair == pytest.approx((0, top)) for pair in limits[:3])
        assert limits[3] == limits[4] and limits[3][0] == -limits[3][1]
        added = f"+{level:g} σ of noise" if level else "no noise added"
        assert f"{added}, residuals ±{100 * limits[3][1] / top:.2g} %" in texts(sheet)
        score = psnr(arms["sN2N"], reference, data_range=float(reference.max()))
        assert f"PSNR {score:.1f} dB, volume" in [text.get_text() for text in panels[1].texts]
        assert f"{score:.1f} dB" in sheet.caption
        assert np.array_equal(before[level], arms["sN2N"])


def test_residuals_of_a_level_have_one_window_in_all_planes() -> None:
    reference = phantom()
    images = levels_of(reference)
    images[1.0]["sN2N"][:, 14] += 0.2  # a plane that differs from the others
    rows = []
    for plane in AXES:
        sheet = figures.comparison(images, reference, voxel_size=VOXEL, plane=plane)
        rows.append([sheet.axes[10 * row + 8].images[0].get_clim() for row in range(3)])
    assert rows[0] == rows[1] == rows[2]
    assert rows[0][0] != rows[0][2]


def test_with_the_truth_the_gain_in_the_head_is_printed() -> None:
    truth = phantom()
    original, better, head = truth.copy(), truth.copy(), truth > 0.2
    original[head] += 0.02
    better[head] += 0.01  # half the error: 6.0 dB
    reference = truth + 0.01
    images = {0.0: {"original": original, "sN2N": better}}
    sheet = figures.comparison(images, reference, voxel_size=VOXEL, noise_free=truth, head=head)
    score = psnr(better, truth, data_range=float(truth.max()), mask=head)
    assert any(text.endswith(f"\n{score - 6.0206:.1f} dB, head") for text in texts(sheet))
    assert any(text.endswith(f"\n{score:.1f} dB (+6.0), head") for text in texts(sheet))
    assert "“Head”: PSNR inside it, against the noise-free image" in sheet.caption
    assert "“Head”" not in figures.comparison(images, reference, voxel_size=VOXEL).caption


def test_the_enlarged_part_is_the_framed_one() -> None:
    reference = phantom()
    sheet = figures.comparison(levels_of(reference), reference, voxel_size=VOXEL, zoom=(0.3, 0.4, 0.3))
    whole, enlarged = sheet.axes[4], sheet.axes[5]
    frame = whole.patches[0]
    left, top = math.ceil(frame.get_x()), math.ceil(frame.get_y())
    size = (round(frame.get_height()), round(frame.get_width()))
    assert np.array_equal(shown(enlarged), shown(whole)[top : top + size[0], left : left + size[1]])
    assert size[1] * 2.0 / (size[0] * 1.5) == pytest.approx(1.5, rel=0.15)  # 3:2 in mm
    assert shown(enlarged).shape[0] == pytest.approx(0.3 * shown(whole).shape[0], abs=1)


def test_comparison_needs_both_arms() -> None:
    reference = phantom()
    with pytest.raises(StudyError, match="lacks sN2N at 1 σ"):
        figures.comparison({1.0: {"original": reference}}, reference, voxel_size=VOXEL)


def test_montage_leaves_out_neck_and_scalp() -> None:
    volume = np.zeros((60, 70, 200), np.float32)
    volume[5:55, 5:65, :190] = np.arange(1, 191) + 100.0  # a head 190 mm high that ends in the neck
    sheet = figures.montage(volume, volume, voxel_size=(1.0, 1.0, 1.0), slices=6, per_row=3)
    levels = [float(shown(axes).max()) - 101 for axes in sheet.axes[:6]]
    # the brain is 150 mm of it, without a tenth below and 15 % above
    assert levels[0] == pytest.approx(189 - 135, abs=1) and levels[-1] == pytest.approx(189 - 22.5, abs=1)


def test_montage_goes_from_the_cerebellum_upward() -> None:
    volume = np.ones((10, 12, 40), np.float32) * np.arange(1, 41, dtype=np.float32)
    sheet = figures.montage(volume, 2 * volume, voxel_size=VOXEL, slices=6, per_row=3, label=LABEL)
    levels = [float(shown(axes).mean()) for axes in sheet.axes]
    assert len(levels) == 12
    assert levels[:6] == sorted(levels[:6]) and levels[0] > 8
    assert levels[6:] == [2 * level for level in levels[:6]]
    assert sheet.axes[0].images[0].get_clim() == sheet.axes[6].images[0].get_clim()
    spacing = (levels[5] - levels[0]) / 5 * VOXEL[2]
    assert f"6 axial planes, {spacing:.0f} mm apart" in sheet.caption


def test_cohort_shows_all_heads_at_one_scale() -> None:
    small, large = np.zeros((2, 20, 30, 40), np.float32)
    small[8:12, 12:18, 16:24] = 1
    large[2:18, 4:26, 5:35] = 7
    sheet = figures.cohort({"D001 (training)": small, "D002 (validation)": large}, voxel_size=VOXEL)
    assert len(sheet.axes) == 4 and {"D001 (training)", "D002 (validation)"} <= set(texts(sheet))
    sheet.png()
    scale = []
    for axes, plane in zip(sheet.axes, ("sagittal", "axial") * 2, strict=True):
        box, (rows, columns) = axes.get_window_extent(), shown(axes).shape
        height, width = pixel_size(plane, VOXEL)
        scale += [box.height / (rows * height), box.width / (columns * width)]
    assert scale == pytest.approx([scale[0]] * len(scale), rel=0.01)


# preparation


def test_preprocessing_shows_what_the_chain_made(scan: Scan) -> None:
    pair = make_pair(scan)
    panels = figures.preprocessing_panels(scan, pair)
    assert np.array_equal(panels["half_a"]["mask"], pair.mask_a)
    assert np.array_equal(panels["half_b"]["combined"], np.abs(pair.half_b))
    for name, mask in (("original", scan.mask), ("half_a", pair.mask_a), ("half_b", pair.mask_b)):
        steps = panels[name]
        assert not steps["kspace"][~mask].any() and steps["kspace"][mask].all()
        assert np.array_equal(steps["filled_kspace"][mask], steps["kspace"][mask])
        assert steps["filled_kspace"].all()
    # an acquisition without every other kz line is folded over: half the field of view away there is a ghost
    folded = panels["half_a"]["zero_filled"]
    assert np.corrcoef(folded.ravel(), np.roll(folded, 8, axis=0).ravel())[0, 1] > 0.95
    coils = [figures.preprocessing_panels(scan, pair, coil=coil)["original"]["kspace"] for coil in (0, 1)]
    whitened = whiten(scan.kspace, pair.whitening)[:2, ..., 14]
    assert np.allclose(coils, np.abs(whitened), rtol=1e-5)


def test_preprocessing_tells_what_the_masks_hold(scan: Scan) -> None:
    pair = make_pair(scan)
    sheet = figures.preprocessing(figures.preprocessing_panels(scan, pair), voxel_size=VOXEL, label=LABEL)
    assert len(sheet.axes) == 18
    assert np.array_equal(shown(sheet.axes[0]), scan.mask)
    assert f"The original holds {100 * scan.mask.mean():.0f} %" in sheet.caption
    assert "samples in both halves: 0." in sheet.caption
    panels = figures.preprocessing_panels(scan, pair)
    del panels["half_b"]["filled"]
    with pytest.raises(StudyError, match=r"figure lacks half_b/filled$"):
        figures.preprocessing(panels, voxel_size=VOXEL)


def test_differences_of_a_pair_are_in_noise_sds() -> None:
    magnitude = phantom()
    phase = np.exp(1j * np.linspace(0, 3, magnitude.size).reshape(magnitude.shape))
    original, sd = magnitude * phase, np.full(magnitude.shape, 0.02, np.float32)
    # two SDs between the magnitudes; a systematic difference of 0.3 SD in phase and 0.4 SD out of phase
    systematic = (0.3 + 0.4j) * sd * phase
    options = {"noise_sd": sd, "voxel_size": VOXEL, "label": LABEL, "plane": "axial", "index": 16}
    sheet = figures.pairs(original, (magnitude + 2 * sd) * phase, original, systematic, **options)
    limits = [axes.images[0].get_clim() for axes in sheet.axes[3:7] if axes.images]
    assert limits == [(-4, 4), (-1.5, 1.5)]
    difference, seen = (shown(axes) for axes in sheet.axes[3:7] if axes.images)
    assert np.asarray(difference) == pytest.approx(2, abs=1e-3)
    assert np.nanmin(seen) == pytest.approx(0.3, abs=1e-3) and np.nanmax(seen) == pytest.approx(0.3, abs=1e-3)
    assert np.isnan(seen[0, 0])  # air
    assert "2.00 noise SDs" in sheet.caption and "is 0.50 noise SDs" in sheet.caption
    with pytest.raises(StudyError, match="needs the complex original image"):
        figures.pairs(magnitude, magnitude, magnitude, systematic, **options)


def test_noise_maps_are_shown_inside_the_head_on_common_scales() -> None:
    head = phantom() > 0.2
    base = np.where(head, 1.0, 99.0)
    base[10:] *= 1.5
    sheet = figures.noise_maps(base, 2 * base, base, 3 * base, head, voxel_size=VOXEL, scale=50.0, label=LABEL)
    panels = [axes for axes in sheet.axes if not axes.axison]
    limits = [axes.images[0].get_clim() for axes in panels]
    assert limits == [pytest.approx((2, 6)), pytest.approx((2, 6)), pytest.approx((1, 4.5)), pytest.approx((1, 4.5))]
    assert all(np.isnan(shown(axes)).any() and np.nanmax(shown(axes)) < 10 for axes in panels)
    assert any(text.startswith("Noise, a half: median") for text in texts(sheet))
    median = np.median(base[head])
    assert f"{2 * median:.3g} in the original and {4 * median:.3g} in a half" in sheet.caption


# graphs


def test_learning_curve_tells_the_distance_from_the_floor() -> None:
    sheet = figures.learning_curve(history())
    assert "is 1.25 times the floor" in sheet.caption and "80 % of the mean squared error is noise" in sheet.caption
    assert "ends at 1.50 times" in sheet.caption
    absolute, relative = sheet.axes
    assert absolute.get_yscale() == "log" and absolute.get_ylabel() == "mean squared error (scale²)"
    assert line(absolute, "training noise floor").to_numpy() == pytest.approx(0.002)
    absolute.figure.canvas.draw()
    labels = [float(label.get_text()) for label in absolute.get_yticklabels() if label.get_text()]
    low, high = absolute.get_ylim()
    assert len([label for label in labels if low <= label <= high]) >= 4
    assert len(line(relative, "validation")) == 10 and line(relative, "validation").to_numpy() == pytest.approx(1.5)


def test_absolute_errors_are_not_split_into_noise_and_rest() -> None:
    sheet = figures.learning_curve(history(), loss="l1")
    assert sheet.axes[0].get_ylabel() == "mean absolute error (scale)"
    # 1.25 times the SD: 1/1.5625 of the variance
    assert "do not add up; were both normal, 64 % of the error’s variance" in sheet.caption
    rng = np.random.default_rng(4)
    noise, error = rng.normal(0, 1, 200_000), rng.normal(0, 0.75, 200_000)
    ratio = np.abs(noise + error).mean() / np.sqrt(2 / np.pi)
    assert "64 %" in figures.floor_in_words(ratio, loss="l1")
    with pytest.raises(StudyError, match="no loss 'huber'; known: l2, l1"):
        figures.learning_curve(history(), loss="huber")


def test_learning_curve_without_validation() -> None:
    table = history().assign(validation_loss=np.nan, validation_floor=np.nan)
    sheet = figures.learning_curve(table)
    assert "validation" not in sheet.caption.lower()
    assert all("validation" not in str(each.get_label()) for each in sheet.axes[0].lines)


def test_alpha_curves_share_their_zero_at_the_untouched_image() -> None:
    sheet = figures.alpha_curve(alpha_table(), 0.4)
    curve = line(sheet.axes[0], "half to half (biased low): best 0.1")
    assert curve[1.0] == pytest.approx(0) and curve[0.1] == pytest.approx(4 * 0.81)
    legend = sheet.axes[0].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert "original to half (biased high): best 0.7" in labels and "against the truth, in the head: best 0.4" in labels
    assert "chosen: 0.4" in labels and "the paper: 0.3" in labels
    assert line(sheet.axes[0], "the paper: 0.3").index.tolist() == [0.3, 0.3]
    table = alpha_table()
    with pytest.raises(StudyError, match="relative to α = 1"):
        figures.alpha_curve(table[table["alpha"] < 1], 0.4)


def test_noise_levels_beside_the_published_and_the_bars(published: Published) -> None:
    sheet = figures.noise_level_curves(quality_table(), published)
    grid = np.array(sheet.axes[:9]).reshape(3, 3)
    assert line(grid[0, 0], "Original").tolist() == pytest.approx([41, 38, 32])
    assert line(grid[1, 0], "sN2N").tolist() == pytest.approx([1, 1.5, 2.5])
    assert line(grid[1, 0], "truth").tolist() == pytest.approx([2, 2, 2])
    assert line(grid[1, 0], "published")[3.0] == pytest.approx(31.8 - 29.5)
    assert line(grid[1, 0], "bar").tolist() == [0.5, 1.7, 2.3]
    assert line(grid[1, 2], "sN2N")[0.0] == pytest.approx(100 * (1 - 10 ** (-1 / 20)))
    assert line(grid[1, 2], "published")[0.0] == pytest.approx(100 * (1 - 4.2 / 4.4))
    assert "published" not in [each.get_label() for each in grid[2, 0].lines]
    assert "+1.0 dB at 0 σ, +1.5 dB at 1 σ, +2.5 dB at 3 σ" in sheet.caption
    legend = grid[0, 2].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["Original", "sN2N", "published"]
    assert "sN2N may gain more than the truth" in sheet.caption
    assert "3 digital phantoms" in sheet.caption and "mean ± SD" in " ".join(texts(sheet))


def test_a_real_head_stands_alone(published: Published) -> None:
    sheet = figures.noise_level_curves(quality_table(), published, set_name="real_head")
    assert line(sheet.axes[0], "Original").tolist() == pytest.approx([40, 37, 31])  # not pooled with D167 to D169
    assert "real head, simulated scan; a single scan; published" in " ".join(texts(sheet))
    assert line(sheet.axes[6], "bar").tolist() == [1.5, 2.5, 3.0]
    table = quality_table()
    with pytest.raises(StudyError, match="lacks rows of the set 'real_head'"):
        figures.noise_level_curves(table[table["set"] == "quantitative"], published, set_name="real_head")


def test_bias_has_a_line_per_head() -> None:
    sheet = figures.bias_plot(bias_table())
    air, csf = sheet.axes
    assert (air.get_title(loc="left"), csf.get_title(loc="left")) == ("air", "CSF")
    counts = [
        sum(len(each.get_xdata()) == 2 and each.get_marker() == "o" for each in axes.lines) for axes in (air, csf)
    ]
    assert counts == [2, 1]
    assert line(air, "original").tolist() == [0.0, 6.0]
    assert "At +3 σ: air, Original, 6.0 to 7.0 %" in sheet.caption
    assert "In air sN2N lifts in no head more than the original." in sheet.caption


def test_bias_says_where_sn2n_lifts_more_than_the_original() -> None:
    table = bias_table()
    above = (table["head"] == "D167") & (table["arm"] == "sN2N") & (table["region"] == "air")
    table.loc[above & (table["noise_sigma"] == 3), "bias_percent"] = 7.5
    caption = figures.bias_plot(table).caption
    assert "In air sN2N lifts more than the original in 1 of 2 heads, by up to 1.5 points." in caption
    assert "In CSF sN2N lifts in no head more than the original." in caption


def test_drawing_leaves_numpy_random_and_pyplot_alone() -> None:
    np.random.seed(5)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    figures.bias_plot(bias_table()).png()
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert plt.get_fignums() == []
