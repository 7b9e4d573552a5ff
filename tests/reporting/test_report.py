"""The report: what it says, in which order, what it says when something is missing; a page that needs nothing else."""

import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from great_tables import GT

from sn2nlib.config import load_profile
from sn2nlib.errors import StudyError
from sn2nlib.evaluation.checks import check
from sn2nlib.evaluation.volumetry.measures import complete_pairs, surface_distances, volume_error
from sn2nlib.reporting import figures, page, vessel_wall, volumetry
from sn2nlib.reporting.published import Published, load_published
from sn2nlib.reporting.report import build_report
from sn2nlib.reporting.tables import gains, per_scan, save_csv, table2
from sn2nlib.scans.manifest import load_splits

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifest"
TESTED = {"quantitative": ["D167", "D168", "D169", "D170", "D171", "D172"], "real_head": ["S1"]}
PROVENANCE = {
    "versions": {"numpy": "2.3.5"}, "commit": "c0ffee", "threads": 2, "profile": "demo", "seed": 7,
    "denoising_precision": "float32",
}  # fmt: skip


class Checker(HTMLParser):
    """Tags in balance, addresses, images, headings, tables."""

    VOID = ("meta", "link", "img", "br", "hr", "col", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.counts: dict[str, int] = {}
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.images += [found] if tag == "img" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def quality_rows(gain: float = 2.0) -> pd.DataFrame:
    """Every scan of the demo at seven levels; sN2N gains `gain` dB, the truth 3 dB."""
    rows = []
    for set_name, scans in TESTED.items():
        for number, scan in enumerate(scans):
            for level in (0, 0.5, 1, 1.5, 2, 2.5, 3):
                for reference, region in [(r, g) for r in ("full_sampled", "noise_free") for g in ("volume", "head")]:
                    for arm, better in (("original", 0.0), ("sN2N", gain + 0.02 * number), ("truth", 3.0)):
                        if arm == "truth" and reference == "noise_free":
                            continue
                        psnr = 41 + 0.1 * number - 3 * level + better
                        rows.append({
                            "set": set_name, "scan": scan, "noise_sigma": level, "arm": arm, "reference": reference,
                            "region": region, "psnr": psnr, "ssim": 1 - 10 ** (-psnr / 20),
                            "nrmse": 500 * 10 ** (-psnr / 20),
                        })  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def published() -> Published:
    return load_published(MANIFEST)


def volumetry_tables(rows: pd.DataFrame, published: Published) -> dict[str, pd.DataFrame]:
    """What notebook 06 leaves for the report."""
    kept, excluded = complete_pairs(rows)
    values = volumetry.dsc_per_scan(kept)
    told = {
        "tissue": "HMRF, dipy 1", "subcortical": "FIRST substitute (Harvard–Oxford atlas), ants 2",
        "subcortical_second": "FIRST substitute (DK)",
    }  # fmt: skip
    return {
        "table2_volumetry": volumetry.dsc_table(values),
        "volumetry_gains": volumetry.dsc_gains(values, published, engines=told),
        "volumetry_volumes": volumetry.volume_gains(volume_error(kept)), "volumetry_excluded": excluded,
        "volumetry_surfaces": surface_distances(kept),
        "volumetry_engines": pd.DataFrame({"kind": list(told), "engine": list(told.values())}),
    }  # fmt: skip


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, published: Published, volumetry_rows: pd.DataFrame,
    vessel_rows: pd.DataFrame,
) -> Path:
    """A finished study: tables, two figures, a model with its α, two executed notebooks, and the report."""
    out = tmp_path_factory.mktemp("finished") / "demo"
    values = per_scan(quality_rows())
    people = load_splits(MANIFEST, "demo")
    alphas = np.arange(11) / 10
    tables = {
        "table2_per_scan": values, "table2": table2(values), "table2_gains": gains(values, published),
        "quality_rows": quality_rows().assign(nrmse_volume=7.5, n_slices=123),
        "noise": people[["participant", "set"]].assign(noise_over_scale=0.031234, own_noise_over_scale=math.nan),
        "pairs": pd.DataFrame({"participant": ["D001"], "set": ["training"], "systematic_over_noise": [0.4567]}),
        "checks": pd.DataFrame([
            check("systematic difference", 0.91, goal="≤ 0.8", scan="D004"), check("correlation", 4e-5, goal="≤ 0.01"),
            check("of magnitudes", 0.234), check("real brain", math.nan, goal="≤ 0.030", note="download <it>"),
        ]),
        "history": pd.DataFrame({"step": [10], "loss": [0.1], "noise_floor": [0.1]}),
        "alpha": pd.concat([
            pd.DataFrame({"definition": name, "scan": "D136", "alpha": alphas, "psnr": 30 - (alphas - best) ** 2})
            for name, best in (("half_to_half", 0.1), ("original_to_half", 0.7))
        ]),
        "bias": pd.DataFrame({
            "head": ["D167", "D168", "S1"], "noise_sigma": 3.0, "arm": "sN2N", "region": "air",
            "bias_percent": [1.0, 3.0, -9.0],
        }),
    }  # fmt: skip
    walls = vessel_wall.per_scan(vessel_rows)
    tables |= {"vessel_wall_per_scan": walls, "vessel_wall": vessel_wall.summary(walls)}
    tables["vessel_wall_bars"] = vessel_wall.bars(walls)
    for name, table in (tables | volumetry_tables(volumetry_rows, published)).items():
        save_csv(table, out / "tables" / f"{name}.csv")
    volume = np.zeros((12, 14, 16), np.float32)
    volume[2:10, 2:12, 3:13] = 1
    cohort = figures.cohort({"D001 (training)": volume}, voxel_size=(1, 1, 1), label="σ <b> & co")
    figures.save_figure(cohort, out / "figures" / "cohort.png", stamp="")
    figures.save_figure(cohort, out / "figures" / "quickstart.png", stamp="")
    (out / "model").mkdir()
    (out / "model" / "model.json").write_text('{"alpha": 0.4, "training": {"precision": "bfloat16"}}')
    (out / "notebooks").mkdir()
    for name, seconds in (("01_data", 61.24), ("05_noise_levels", 300.0), ("03_train.failed", 1.0)):
        content = {"cells": [], "metadata": {"papermill": {"duration": seconds}}}
        (out / "notebooks" / f"{name}.ipynb").write_text(json.dumps(content))
    build(out, published)
    return out


@pytest.fixture(scope="module")
def html(finished: Path) -> str:
    return (finished / "index.html").read_text(encoding="utf-8")


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished study, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "demo"))


def build(out: Path, published: Published, **changes: Any) -> str:
    options: dict[str, Any] = {
        "title": "The study <demo>", "provenance": PROVENANCE, "settings": load_profile("demo").model_dump(),
        "participants": load_splits(MANIFEST, "demo"), "published": published,
    }  # fmt: skip
    made = build_report(out, **{**options, **changes})
    assert made == out / "index.html"
    return made.read_text(encoding="utf-8")


def words(html: str) -> str:
    """What a reader sees."""
    text = re.sub(r"<(style|head)\b.*?</\1>", " ", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def test_the_page_needs_nothing_from_outside(html: str, finished: Path) -> None:
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert "script" not in checker.counts and "@import" not in html and "url(http" not in html
    anchors = {address[1:] for address in checker.addresses if address.startswith("#")}
    assert len(anchors) > 8 and anchors <= set(checker.ids)
    files = [address for address in checker.addresses if not address.startswith(("#", "data:"))]
    assert files and all((finished / address).is_file() for address in files)
    assert checker.counts["h1"] == 1 and checker.counts["main"] == 1
    assert sorted(each.name for each in finished.iterdir() if each.is_file()) == ["index.html", "run.json"]


def test_the_page_is_accessible(html: str) -> None:
    checker = Checker()
    checker.feed(html)
    assert 'lang="en"' in html and 'name="viewport"' in html and "@media print" in html
    assert len(checker.images) == 2
    assert all(image["alt"] and image["width"] and image["height"] for image in checker.images)
    assert checker.counts["figcaption"] == 2
    plain = re.findall(r'<table class="plain(?: worded)?">.*?</table>', html, flags=re.S)
    assert len(plain) >= 8
    assert all("<caption>" in table and 'scope="col"' in table and 'scope="row"' in table for table in plain)
    assert html.count('role="region"') == html.count('tabindex="0"') == checker.counts["table"]


def test_the_order_is_the_readers(html: str) -> None:
    order = [
        "What came out", "Who was scanned", "Noise of the scans", "Half images", "Checks of", "Training",
        "The choice of α", "Image quality over", "Volumetry", "Generalisation", "The reader study", "Images (",
        "Conventions", "What differs from the paper, and why", "Further", "Where this",
    ]  # fmt: skip
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert len(headings) == len(order)
    assert all(heading.startswith(start) for heading, start in zip(headings, order, strict=True))


def test_the_gains_stand_first_beside_the_published(html: str) -> None:
    text = words(html)
    first = text[text.index("PSNR gain in dB. Quantitative") : text.index("Who was scanned (Table 1) This profile")]
    # level, gain (mean of 2.00 to 2.10), published, of the truth, verdict, gain inside the head, lowest scan, verdict
    assert "0 +2.05 +0.50 +3.00 reached +2.05 +2.00 reached" in first
    assert "3 +2.05 +2.30 +3.00 missed +2.05 +2.00 reached" in first
    assert "PSNR (dB), whole volume, against the fully sampled image: reached at 4, missed at 3 of 7 levels." in first
    assert "Real head, 1 scan" in first and "the gain of the truth decides" in first


def test_tables_captions_and_conventions_are_there(html: str) -> None:
    text = words(html)
    for expected in (
        "Digital heads are not patients", "35 digital heads and 1 real head (S1)", "Table 1. Demographic",
        "Table 2. Quantitative test (digital heads), whole volume, against the fully sampled image",
        "Table 2. Real head, inside the head, against the noise-free image", "Gains of sN2N over the original. Real",
        "30.00 (best)", "0.4567", "0.03123", "range = maximum of the reference volume", "nine subregions (Methods)",
        "multiple sclerosis and others white-matter lesions of set size and contrast in 7 heads", "HMRF, dipy 1;",
        f"Coils 64 channels {load_profile('demo').acquisition.coils} coils",
        "128 × 160 × 160 voxels of 1.35", "commit c0ffee", "training.steps", "01_data 61", "α = 0.40 (the paper: 0.3)",
    ):  # fmt: skip
        assert expected in text, expected
    assert "&lt;b&gt; &amp; co: magnitude images" in html  # the caption of the PNG, escaped
    assert "<title>The study &lt;demo&gt;</title>" in html
    assert "None" not in text.replace("None of", "") and "nan" not in re.findall(r"\bnan\b", text)
    # the chapter of notebook 08 has tests of its own
    assert set(re.findall(r"notebook (\w+) makes it", text)) == {"08_readers"}


def test_vessel_walls_stand_with_their_tests_and_bars(html: str, out: Path, published: Published) -> None:
    text = words(html)
    part = text[text.rindex("Generalisation to vessel wall imaging") : text.rindex("Images (Figures 3, 5")]
    for expected in (
        "6 digital phantoms", "CNR, wall and lumen", "W 0.028", "Digital heads are not patients",
        "sN2N, fine-tuned: bars", "percent lower, at least", "Fine-tuning does not go further on:",
        "Wall thickness (mm)",
    ):  # fmt: skip
        assert expected in part, expected
    recorded = json.loads((out / "run.json").read_text(encoding="utf-8"))["vessel_wall"]
    assert {row["arm"] for row in recorded} == {"sN2N", "fine_tuned", "vwi_only"}
    assert {row["verdict"] for row in recorded if row["arm"] == "sN2N"} == {"reached"}
    (out / "tables" / "vessel_wall.csv").unlink()
    assert "tables/vessel_wall.csv is missing: notebook 07_vessel_wall makes it." in words(build(out, published))


def test_real_heads_are_not_averaged_with_digital_ones(html: str) -> None:
    text = words(html)
    assert "Quantitative test (digital heads), n = 2 Added noise (σ) air, sN2N 3 +2.0" in text
    assert "Real head, n = 1 Added noise (σ) air, sN2N 3 −9.0" in text


def test_volumetry_stands_beside_the_published(html: str) -> None:
    text = words(html)
    part = text[text.index("Volumetry (Table 2) Engines that made the labels:") : text.rindex("Images (Figures 3, 5")]
    for expected in (
        "subcortical second: FIRST substitute (DK)", "Table 2, volumetry. Quantitative test (digital heads)",
        "Table 2, volumetry. Real head", "0.911 ± 0.001 0.931 ± 0.001 – 0.951 ± 0.001 0.923 ± 0.008",
        "No segmentation had to be excluded.", "is an upper bound; the same engine with a second atlas",
        "DSC of GM, WM, CSF (the paper’s FAST); here: HMRF, dipy 1, gain: reached at 6 of 6 levels.",
        "Bias of tissue volumes. Real head",
    ):  # fmt: skip
        assert expected in part, expected


def test_a_volumetry_in_which_everything_failed(
    out: Path, published: Published, volumetry_rows: pd.DataFrame
) -> None:
    for name, table in volumetry_tables(volumetry_rows.assign(failure="no brain"), published).items():
        save_csv(table, out / "tables" / f"{name}.csv")
    text = words(build(out, published))
    assert "No segmentation was plausible; nothing can be compared." in text
    assert "D167 at 0 σ, tissue: original: no brain; truth: no brain" not in text
    assert "D167 at 0 σ, tissue: original: no brain; sN2N: no brain" in text


def test_checks_stand_beside_their_goals(html: str) -> None:
    text = words(html)
    assert "Of 4 checks: missed 1, reached 1, reported 1, not on this machine 1. Reported: measured" in text
    assert "Check Scan Measured Goal Verdict Note systematic difference D004 0.91 ≤ 0.8 missed – " in text
    assert "correlation – 4e-05 ≤ 0.01 reached – of magnitudes – 0.234 – reported – " in text
    assert "real brain – – ≤ 0.030 not on this machine download &lt;it&gt;" in text


def test_no_link_is_dead_in_a_copy_without_the_notebooks(out: Path, html: str) -> None:
    shutil.rmtree(out / "notebooks")
    checker = Checker()
    checker.feed(html)
    files = [address for address in checker.addresses if not address.startswith(("#", "data:"))]
    assert files and all((out / address).is_file() for address in files)
    assert "notebooks/ of the folder where the study was run" in words(html)


def test_the_style_of_tables_is_written_once(html: str) -> None:
    tables = re.findall(r'<div id="([^"]+)" class="great1"', html)
    assert len(tables) >= 9 and len(set(tables)) == len(tables)
    assert html.count("<style>") == 1 and html.count(".gt_table {") == html.count(".great1 .gt_table {") == 1
    assert not re.search(r"#\S+ \.gt_", html)


def test_tables_of_other_looks_keep_them() -> None:
    first, twin, other = (GT(pd.DataFrame({"a": [1]}), id=name) for name in ("first", "twin", "other"))
    tables = (first, twin, other.tab_options(table_background_color="#123456"))
    html = page.document("Title", "", [("a", "A", "".join(table.as_raw_html() for table in tables))])
    assert re.findall(r'<div id="(\w+)" class="(\w+)"', html) == [
        ("first", "great1"), ("twin", "great1"), ("other", "great2"),
    ]  # fmt: skip
    styles = re.findall(r"\.(great\d) \.gt_table \{.*?background-color: (#\w+)", html)
    assert styles == [("great1", "#FFFFFF"), ("great2", "#123456")]


def test_run_record_is_valid_json_with_the_provenance(finished: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    run = json.loads((finished / "run.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert {key: run[key] for key in PROVENANCE} == PROVENANCE
    assert run["alpha"] == 0.4
    assert [each for each in run["missing"] if "07_vessel_wall" not in each and "08_readers" not in each] == []
    assert (run["training_precision"], run["denoising_precision"]) == ("bfloat16", "float32")  # as resolved, not "auto"
    text = words((finished / "index.html").read_text(encoding="utf-8"))
    assert "training precision bfloat16" in text and "denoising precision float32" in text
    assert run["seconds"] == {"01_data": 61.2, "05_noise_levels": 300.0}
    assert run["settings"]["training"]["steps"] == load_profile("demo").training.steps
    [row] = [
        row for row in run["gains"]
        if (row["set"], row["reference"], row["region"], row["metric"], row["noise_sigma"])
        == ("quantitative", "full_sampled", "volume", "PSNR_dB", 0.5)
    ]  # fmt: skip
    told = run["volumetry"]
    assert told["engines"]["tissue"] == "HMRF, dipy 1" and told["excluded"] == 0
    assert len(told["gains"]) == 2 * 2 * 7 and len(told["volumes"]) == 3 * 7
    assert row["gain"] == pytest.approx(2.05) and row["published"] == 1.0 and row["verdict"] == "reached"


def test_what_is_missing_is_said(out: Path, published: Published) -> None:
    (out / "tables" / "pairs.csv").unlink()
    (out / "scans").mkdir()
    (out / "scans" / "unavailable.json").write_text('{"S1": "pip found no pycortex 1.4.0."}')
    values = per_scan(quality_rows().query("set == 'quantitative'"))
    tables = {"table2": table2(values), "table2_gains": gains(values, published), "table2_per_scan": values}
    for name, table in tables.items():
        save_csv(table, out / "tables" / f"{name}.csv")
    html = build(out, published)
    text = words(html)
    top = text[: text.index("What came out")]
    assert "tables/pairs.csv is missing; notebook 02_pairs makes it." in top
    assert "S1 was not measured: pip found no pycortex 1.4.0." in top
    assert "Table 2. Real head" not in text
    assert "No figure “learning_curve” has been made." in text
    assert json.loads((out / "run.json").read_text())["missing"][-1].startswith("S1 was not measured")


def test_figures_of_a_scan_that_could_not_be_had_are_not_shown(out: Path, published: Published) -> None:
    kept = ["cohort.png", "quickstart.png", "montage_D167.png", "noise_levels_quantitative.png"]
    old = ["cohort_S1.png", "comparison_S1_axial.png", "noise_levels_real_head.png"]
    for name in [*kept, *old]:
        (out / "figures" / name).write_bytes((out / "figures" / "cohort.png").read_bytes())
    html = build(out, published)
    assert all(f'src="figures/{name}"' in html for name in [*kept, *old])
    (out / "scans").mkdir()
    (out / "scans" / "unavailable.json").write_text('{"S1": "pip found no pycortex 1.4.0."}')
    html = build(out, published)
    assert all(f'src="figures/{name}"' in html for name in kept)
    assert not any(f'src="figures/{name}"' in html for name in old)
    [said] = [each for each in json.loads((out / "run.json").read_text())["missing"] if "earlier run" in each]
    assert said.endswith(f"are not shown: {', '.join(old)}.")


def test_a_study_that_has_not_begun_still_gets_a_page(tmp_path: Path, published: Published) -> None:
    out = tmp_path / "smoke"
    out.mkdir()
    settings, people = load_profile("smoke").model_dump(), load_splits(MANIFEST, "smoke")
    text = words(build(out, published, settings=settings, participants=people))
    assert text.count("is missing") >= 8
    assert "Table 1. Demographic characteristics" in text and "10 digital heads and no real head;" in text
    with pytest.raises(StudyError, match=r"there is no study in .*nowhere; run the notebooks"):
        build(tmp_path / "nowhere", published)


def test_a_damaged_table_is_named_and_leaves_the_old_page(out: Path, published: Published) -> None:
    before = build(out, published)
    (out / "tables" / "alpha.csv").write_text("")
    with pytest.raises(StudyError, match=r"alpha\.csv cannot be read.*run notebook 04_alpha again"):
        build(out, published)
    assert (out / "index.html").read_text(encoding="utf-8") == before


def test_a_figure_without_texts_is_shown_by_its_name(tmp_path: Path) -> None:
    figures.Sheet("Title", label="", height=20).savefig(tmp_path / "some_figure.png", metadata={"Title": None})
    html = page.figure(tmp_path / "some_figure.png", folder=tmp_path, counterpart="Figure 5")
    assert 'alt="some figure"' in html and "In the paper: Figure 5." in html
