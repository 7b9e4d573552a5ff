"""The chapters about readers and differences: computed, marked as synthetic, nothing asked that is not known."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sn2nlib.config import load_profile
from sn2nlib.errors import ManifestError, StudyError
from sn2nlib.evaluation.readers import observer, summary
from sn2nlib.evaluation.readers.criteria import load_criteria
from sn2nlib.reporting import differences, document, figures, readers_chapter
from sn2nlib.reporting.chapters import Material
from sn2nlib.reporting.figures.readers import stars
from sn2nlib.reporting.published import load_published
from sn2nlib.reporting.tables import save_csv
from sn2nlib.scans.manifest import load_splits

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifest"
CRITERIA = load_criteria(MANIFEST)
PUBLISHED = load_published(MANIFEST)
VOXEL = (2.0, 2.0, 3.0)


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    """Eight cases, three of them with a lesion; sN2N a grade better."""
    rng, grades = np.random.default_rng(1), {}
    groups = ("image_quality", "fine_structures", "lesions")
    names = [each.name for group in groups for each in CRITERIA.by_group[group]]
    for number in range(8):
        own = [name for name in names if name != "lesion_conspicuity" or number < 3]
        for arm, gain in (("original", 0.0), ("sN2N", 1.0)):
            grades[f"D{number}", arm] = {name: float(rng.uniform(2, 4) + gain) for name in own}
    return observer.observe(grades, CRITERIA, seed=1)


@pytest.fixture(scope="module")
def material(scores: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Material:
    out = tmp_path_factory.mktemp("study") / "demo"
    found = summary.summarise(scores, CRITERIA, resamples=20)
    measures = pd.DataFrame({"measure": "noise", "item": "", "arm": ["original", "sN2N"], "value": [0.05, 0.03]})
    tables = {"readers": found.comparison, "readers_pooled": found.pooled, "kappa": found.agreement,
              "intra_reader": found.intra_reader, "reader_counts": found.counts, "cases_needed": found.needed,
              "reader_measures": measures}  # fmt: skip
    tables = {name: table.assign(source="synthetic") for name, table in tables.items()}
    for name, table in tables.items():
        save_csv(table, out / "tables" / f"{name}.csv")
    document.save_reader_report(scores, CRITERIA, PUBLISHED, out / "reader_study", resamples=20)
    bars = figures.score_bars(found.counts, found.comparison, groups=["image_quality"], title="T", label=observer.LABEL)
    figures.save_figure(bars, out / "figures" / "reader_bars_quality.png", stamp="")
    settings = load_profile("demo").model_dump()
    return Material(out, {}, settings, load_splits(MANIFEST, "demo"), PUBLISHED, tables)


def test_the_chapter_says_first_that_nobody_read(material: Material) -> None:
    anchor, heading, content = readers_chapter.readers(material)
    assert anchor == "readers" and "Tables S3 and S4" in heading
    assert content.index("a model observer gave these scores") < content.index("<figure>")
    for expected in ("In the paper: Figure 2.", "Table S3.", "Lesion conspicuity, MP-RAGE", "Noise over white matter",
                     "Figure S7 and Table S4 are left out", "Agreement of repeated readings with the first ones",
                     "Cases that a study like this one needs", "For a methods section", "3.7", "4.9"):  # fmt: skip
        assert expected in content, expected
    assert "<html" not in content and "<body" not in content


def test_scores_of_people_are_not_called_synthetic(material: Material) -> None:
    human = {name: table.assign(source="human") for name, table in material.tables.items()}
    changed = Material(material.folder, {}, material.settings, material.participants, PUBLISHED, human)
    assert readers_chapter.SYNTHETIC not in readers_chapter.readers(changed)[2].split("<figure>")[0]
    assert "2 human readers" in differences.facts(changed)["readers"]


def test_a_study_without_readers_says_so(material: Material) -> None:
    empty = Material(material.folder, {}, material.settings, material.participants, PUBLISHED, {})
    assert readers_chapter.readers(empty)[2].count("notebook 08_readers makes it") == len(readers_chapter.TABLES)
    assert "the notebook has not run" in differences.facts(empty)["readers"]


def test_differences_are_filled_in_with_this_study(material: Material) -> None:
    _, heading, content = differences.differences(material)
    assert heading == "What differs from the paper, and why" and "{" not in content
    for expected in (
        "10 coils", "128 × 160 × 160 voxels of 1.35 × 1.35 × 1.35 mm", "2 synthetic readers, a model observer",
        "in 7 heads", "claustrum, substantia nigra", "41.2 ± 0.8 dB", "32×63×54 mm", "nine subregions",
        "53 % are taken to be mostly GM and 47 % mostly WM", "the image of a real head (S1)", "qualitative test 16",
        "50 % of CSF’s and 6 % of blood’s signal", "SD of 0.025 of the intensity scale", "along the echo train off",
        "on 2 scans at R = 2×1",
    ):  # fmt: skip
        assert expected in content, expected
    smoke = load_profile("smoke").model_dump()
    other = Material(material.folder, {}, smoke, load_splits(MANIFEST, "smoke"), PUBLISHED, material.tables)
    assert "4 coils" in differences.differences(other)[2] and "real head" not in differences.facts(other)["real"]


def test_a_place_that_nobody_fills_is_an_error(material: Material) -> None:
    rows = pd.DataFrame({"topic": ["T"], "paper": ["p"], "here": ["{nonsense}"], "why": ["w"]})
    with pytest.raises(ManifestError, match="nonsense"):
        differences.filled(rows, differences.facts(material))


@pytest.mark.parametrize(("p", "mark"), [(0.0004, "***"), (0.009, "**"), (0.04, "*"), (0.05, "n.s."), (math.nan, "")])
def test_stars(p: float, mark: str) -> None:
    assert stars(p) == mark


def test_bars_add_up_and_are_labelled(scores: pd.DataFrame) -> None:
    found = summary.summarise(scores, CRITERIA, resamples=20)
    groups = ["fine_structures", "lesions"]
    sheet = figures.score_bars(found.counts, found.comparison, groups=groups, title="T", label=observer.LABEL)
    assert "no human scores" in sheet.caption and "n = 3, 8 cases" in sheet.caption
    for axes in sheet.axes:
        lengths = [bar.get_width() for bar in axes.patches]
        assert sum(lengths) == pytest.approx(100 * 2 * 9)
    assert {"Claustrum", "Lesion conspicuity", "synthetic A"} <= {text.get_text() for text in sheet.texts}
    with pytest.raises(StudyError, match="nobody scored vessel_wall"):
        figures.score_bars(found.counts, found.comparison, groups=["vessel_wall"], title="T", label="L")


def test_a_lesion_lies_where_the_arrow_ends() -> None:
    volume = np.full((40, 50, 30), 0.5, np.float32)
    volume[4:36, 4:46, 2:28] = 1
    volume[28, 30, 12] = 7
    mark = {"name": "lesion 1", "index": [28, 30, 12], "radius": 3.0, "parameter": "lesion_conspicuity"}
    images = {"original": volume, "sN2N": volume}
    sheet = figures.lesion_examples([("D1", images, mark, "d′ 3")], voxel_size=VOXEL, label="L", extent=30)
    axes = sheet.axes[0]
    shown = np.asarray(axes.images[0].get_array())
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    tip = np.array(axes.texts[-1].xy)  # type: ignore[attr-defined]
    # 3 mm to the lower right of the lesion, in pixels of 2 mm
    assert tip == pytest.approx([column + 3 / 2 / math.sqrt(2), row + 3 / 2 / math.sqrt(2)])


def test_a_ring_surrounds_its_structure() -> None:
    volume = np.ones((40, 50, 30), np.float32)
    volume[10, 20, 15] = 9
    marks = [{"name": "left claustrum", "index": [10, 20, 15], "radius": 6.0, "parameter": "claustrum"},
             {"name": "right claustrum", "index": [30, 20, 15], "radius": 6.0, "parameter": "claustrum"}]  # fmt: skip
    sheet = figures.fine_structures({"original": volume, "sN2N": volume}, marks, voxel_size=VOXEL, label="L", extent=30)
    assert len(sheet.axes) == 3  # one side, two arms and the ring
    [ring] = sheet.axes[2].patches
    shown = np.asarray(sheet.axes[2].images[0].get_array())
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert ring.get_center() == pytest.approx((column, row))
    assert (ring.width, ring.height) == pytest.approx((6.0, 4.0))  # 12 mm in pixels of 2 by 3 mm
    with pytest.raises(StudyError, match="too coarse"):
        figures.fine_structures({"original": volume, "sN2N": volume}, [], voxel_size=VOXEL, label="L")
