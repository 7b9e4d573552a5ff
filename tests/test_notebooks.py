"""The whole study on the smoke profile, once: what it leaves behind, its numbers, its report.

After a change that is meant to move the numbers, `python tests/test_notebooks.py reports/smoke` writes those of a
run (`make smoke`) to `expected/smoke.json`.
"""

import base64
import gzip
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from sn2nlib.config import load_profile
from sn2nlib.denoiser import Denoiser
from sn2nlib.evaluation.readers.criteria import load_criteria
from sn2nlib.reporting import readers_chapter
from sn2nlib.reporting.notebooks import run_notebook

ROOT = Path(__file__).resolve().parents[1]
EXPECTED = Path(__file__).parent / "expected" / "smoke.json"
TABLE2 = ["set", "metric", "arm", "reference", "region", "noise_sigma", "n", "mean", "sd", "p_value"]
KEYS = ["set", "metric", "arm", "reference", "region", "noise_sigma"]
# how far a number may move between machines: other processors add floats in another order, and training
# amplifies that
TOLERANCES = {"PSNR_dB": 0.3, "SSIM": 0.01, "NRMSE_percent": 0.5}
DSC_TOLERANCE = 0.03
WALLS = ["cnr_lumen", "cnr_csf", "sd_lumen", "sd_wall", "sd_csf", "psnr"]
ALPHA_TOLERANCE = 0.15
WALL_TOLERANCE = 0.15  # share of CNR and noise SD of vessel walls
SCORE_TOLERANCE = 0.5  # two readers of three cases, and scores are whole

pytestmark = pytest.mark.study


def study(reports: Path) -> list[str]:
    return [sys.executable, "-m", "sn2nlib.cli", "study", "--profile", "smoke", "--reports", str(reports)]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def folder(reports: Path) -> Path:
    """`reports/smoke` of a run from nothing."""
    result = subprocess.run(study(reports), cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Report: {reports / 'smoke' / 'index.html'}" in result.stdout
    assert "Gain of sN2N over the original" in result.stdout
    return reports / "smoke"


def headline(folder: Path) -> dict[str, Any]:
    """The numbers that are held: Table 2's means of original and sN2N, DSC, vessel walls, mean scores (first readings),
    and the chosen α.
    """
    table = pd.read_csv(folder / "tables" / "table2.csv")
    held = table[table["arm"].isin(["original", "sN2N"]) & (table["set"] == "quantitative")]
    rows = held[[*KEYS, "mean"]].round(4).to_dict("records")
    dsc = pd.read_csv(folder / "tables" / "table2_volumetry.csv")
    dsc_rows = dsc[dsc["arm"] != "truth"][[*KEYS, "mean"]].round(4).to_dict("records")
    pooled = pd.read_csv(folder / "tables" / "readers_pooled.csv")
    whole = pooled[(pooled["parameter"] == "all") & (pooled["reader"] == "all")]
    means = whole[["group", "original_mean", "sN2N_mean"]].round(4).to_dict("records")
    walls = pd.read_csv(folder / "tables" / "vessel_wall.csv")
    walls = walls[walls["measure"].isin(WALLS) & walls["arm"].isin(["original", "sN2N"])]
    wall_rows = walls[["measure", "arm", "mean"]].round(4).to_dict("records")
    alpha = Denoiser.load(folder / "model").alpha
    return {"alpha": alpha, "table2": rows, "volumetry": dsc_rows, "readers": means, "vessel_wall": wall_rows}


def test_every_notebook_was_run_without_a_warning(folder: Path) -> None:
    dodo = runpy.run_path(str(ROOT / "dodo.py"))
    executed = {path.stem: path for path in (folder / "notebooks").glob("*.ipynb")}
    assert sorted(executed) == sorted(dodo["NEEDS"])
    promised = [name for names in dodo["WRITES"].values() for name in names]
    assert [name for name in promised if not (folder / name).is_file()] == []
    for name, path in executed.items():
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in cells), name
        spoken = [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
        assert [output.text for output in spoken] == [], name


def test_tables_have_the_promised_columns(folder: Path) -> None:
    table = pd.read_csv(folder / "tables" / "table2.csv")
    assert list(table) == TABLE2
    assert set(table["metric"]) == set(TOLERANCES)
    assert set(table["arm"]) == {"original", "sN2N", "truth"}
    assert set(table["reference"]) == {"full_sampled", "noise_free"}
    assert set(table["region"]) == {"volume", "head"}
    assert sorted(set(table["noise_sigma"])) == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert set(table["set"]) in ({"quantitative"}, {"quantitative", "real_head"})
    assert not table.duplicated(KEYS).any()
    single = table[table["n"] == 1]
    assert single["sd"].isna().all() and single["p_value"].isna().all()
    alpha = pd.read_csv(folder / "tables" / "alpha.csv")
    assert list(alpha) == ["definition", "scan", "alpha", "psnr"]
    definitions = {"half_to_half", "original_to_half", "noise_free", "full_sampled"}
    assert set(alpha["definition"]) == definitions


def test_table2_is_the_mean_of_its_scans(folder: Path) -> None:
    table = pd.read_csv(folder / "tables" / "table2.csv").set_index(KEYS)["mean"]
    scans = pd.read_csv(folder / "tables" / "table2_per_scan.csv")
    again = scans.groupby(KEYS)["value"].mean()
    pd.testing.assert_series_equal(table.sort_index(), again.sort_index(), check_names=False)


def test_the_run_is_on_record(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert "torch" in json.dumps(record) and "20230216" in json.dumps(record)


def test_numbers_are_the_stored_ones(folder: Path) -> None:
    assert EXPECTED.is_file(), f"no stored numbers: make smoke, then python {Path(__file__).name} reports/smoke"
    stored, found = json.loads(EXPECTED.read_text(encoding="utf-8")), headline(folder)
    assert found["alpha"] == pytest.approx(stored["alpha"], abs=ALPHA_TOLERANCE)
    rows = {tuple(row[key] for key in KEYS): row["mean"] for row in found["table2"]}
    expected = {tuple(row[key] for key in KEYS): row["mean"] for row in stored["table2"]}
    assert rows.keys() == expected.keys()
    moved = {
        key: (rows[key], mean)
        for key, mean in expected.items()
        if rows[key] != pytest.approx(mean, abs=TOLERANCES[key[1]])
    }
    assert moved == {}
    dsc, expected_dsc = (
        {tuple(row[key] for key in KEYS): row["mean"] for row in each["volumetry"]} for each in (found, stored)
    )
    assert dsc == pytest.approx(expected_dsc, abs=DSC_TOLERANCE)


def test_vessel_walls_are_the_stored_ones(folder: Path) -> None:
    stored, found = (
        {(row["measure"], row["arm"]): row["mean"] for row in numbers["vessel_wall"]}
        for numbers in (json.loads(EXPECTED.read_text(encoding="utf-8")), headline(folder))
    )
    assert stored.keys() == found.keys() == {(measure, arm) for measure in WALLS for arm in ("original", "sN2N")}
    for (measure, arm), mean in stored.items():
        near = {"abs": TOLERANCES["PSNR_dB"]} if measure == "psnr" else {"rel": WALL_TOLERANCE}
        assert found[measure, arm] == pytest.approx(mean, **near), (measure, arm)


def test_scores_are_the_stored_ones(folder: Path) -> None:
    stored, found = (
        {row.pop("group"): row for row in numbers["readers"]}
        for numbers in (json.loads(EXPECTED.read_text(encoding="utf-8")), headline(folder))
    )
    assert list(found) == list(stored) == ["image_quality", "fine_structures", "lesions", "vessel_wall"]
    for group, means in stored.items():
        assert found[group] == pytest.approx(means, abs=SCORE_TOLERANCE), group


def test_means_are_those_of_first_readings(folder: Path) -> None:
    scores = pd.read_csv(folder / "tables" / "reader_scores.csv")
    criteria = load_criteria(ROOT / "data_manifest")
    groups = scores["parameter"].map({name: each.group for name, each in criteria.by_name.items()})
    first = scores[scores["reading"] == 1].groupby([groups, "arm"])["score"].mean()
    for row in headline(folder)["readers"]:
        for arm in criteria.arms:
            assert row[f"{arm}_mean"] == pytest.approx(first[row["group"], arm], abs=1e-4), (row["group"], arm)
    again = pd.read_csv(folder / "tables" / "intra_reader.csv")
    assert set(again["reader"]) == set(scores.loc[scores["reading"] == 2, "reader"]) == set(scores["reader"])
    assert set(again["group"]) == set(criteria.by_group)


def test_synthetic_readers_are_marked_everywhere(folder: Path) -> None:
    scores = pd.read_csv(folder / "tables" / "reader_scores.csv")
    assert set(scores["source"]) == {"synthetic"} and scores["score"].isin([1, 2, 3, 4, 5]).all()
    assert scores.groupby(["reader", "arm"]).size().nunique() == 1
    for name in readers_chapter.TABLES:
        assert set(pd.read_csv(folder / "tables" / f"{name}.csv")["source"]) == {"synthetic"}, name
    for name in ("quality", "structures", "vessel_wall"):
        with Image.open(folder / "figures" / f"reader_bars_{name}.png") as image:
            assert "synthetic readers" in image.info["Description"].casefold(), name
    with Image.open(folder / "figures" / "lesions_1.png") as image:
        assert "model observer (synthetic)" in image.info["Description"]
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "a model observer gave these scores" in page and "Table S3." in page and "Table S4." in page
    assert "2 synthetic readers, a model observer" in page  # in what differs from the paper
    for case in ("D147", "D148", "D149"):
        assert all((folder / "readers" / f"{case}_{arm}.nii.gz").is_file() for arm in ("original", "sN2N"))


def test_volumetry_leaves_its_tables_and_figures(folder: Path) -> None:
    settings = load_profile("smoke").volumetry
    table = pd.read_csv(folder / "tables" / "table2_volumetry.csv")
    assert list(table) == [*TABLE2, "engine"] and table["engine"].notna().all()
    assert {"DSC_FAST", "DSC_FIRST"} < set(table["metric"])
    assert set(table["reference"]) == {"full_sampled", "truth", "truth_in_mask"}
    assert set(table["noise_sigma"]) == set(settings.levels) and table["mean"].between(0.2, 1).all()
    assert (folder / "truth" / f"{settings.scans[0]}.npz").is_file()
    rows = pd.read_csv(folder / "tables" / "volumetry_rows.csv")
    assert set(rows["scan"]) == set(settings.scans)
    assert rows.groupby("kind")["structure"].nunique().to_dict() == {
        "subcortical": 15, "subcortical_second": 15, "tissue": 3,
    }  # fmt: skip
    # every image of the smoke head has tissues that can be believed; no pair of them is left out
    excluded = pd.read_csv(folder / "tables" / "volumetry_excluded.csv")
    assert excluded.loc[excluded["kind"] == "tissue", "reason"].tolist() == []
    tissue = table[table["metric"] == "DSC_FAST"].groupby(["reference", "arm"])["noise_sigma"].nunique()
    assert set(tissue) == {len(settings.levels)}
    drawn = {path.stem for path in (folder / "figures").glob("volumetry_*.png")}
    assert {f"volumetry_{kind}_quantitative" for kind in ("dsc", "structures", "bland_altman")} < drawn
    assert {f"volumetry_labels_D167_{kind}" for kind in ("tissue", "subcortical")} < drawn
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "FIRST substitute" in page and "Table 2, volumetry" in page


def test_vessel_walls_leave_their_tables_figures_and_images(folder: Path) -> None:
    people = pd.read_csv(ROOT / "data_manifest" / "splits.csv")
    tested = people.loc[(people["profile"] == "smoke") & (people["set"] == "generalisation"), "participant"].tolist()
    values = pd.read_csv(folder / "tables" / "vessel_wall_per_scan.csv")
    assert list(values) == ["set", "scan", "measure", "arm", "value"] and sorted(set(values["scan"])) == sorted(tested)
    table = pd.read_csv(folder / "tables" / "vessel_wall.csv").set_index(["measure", "arm"])
    # a few hundred steps on coarse heads teach little, and less noise than that nobody promises
    assert table.loc[("sd_csf", "sN2N"), "mean"] < table.loc[("sd_csf", "original"), "mean"]
    asked = pd.read_csv(folder / "tables" / "vessel_wall_bars.csv")
    assert set(asked["arm"]) == {"sN2N", "fine_tuned", "vwi_only"}
    for name in tested:
        arms = {path.name for path in (folder / "vessel_wall" / "images").glob(f"{name}_*.nii.gz")}
        assert arms == {f"{name}_{arm}.nii.gz" for arm in ("original", "sN2N", "fine_tuned", "vwi_only", "blur")}
        assert (folder / "figures" / f"vessel_wall_views_{name}.png").stat().st_size > 20_000
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "figures/vessel_wall_g_factors.png" in page
    assert "Generalisation to vessel wall imaging" in page and "sN2N, fine-tuned: bars" in page


class Links(HTMLParser):
    """Collects what a page would load or lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.followed: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster") or (tag, name) == ("link", "href"):
                self.loaded.append(value or "")
            elif name == "href":
                self.followed.append(value or "")


def test_the_report_needs_no_network(folder: Path) -> None:
    text = (folder / "index.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert len(links.loaded) >= 5, "a report without figures?"
    assert "figures/method.png" in links.loaded
    local = [link for link in links.loaded if not link.startswith("data:")]
    assert [link for link in local if re.match(r"(\w+:)?//", link) or not (folder / link).is_file()] == []
    for link in links.loaded:
        if link.startswith("data:image"):
            assert base64.b64decode(link.split(",", 1)[1], validate=True)
    pages = [link.split("#")[0] for link in links.followed if not re.match(r"\w+:", link)]
    assert [page for page in pages if page and not (folder / page).exists()] == []
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", text)


@pytest.fixture
def page(require: Callable[..., Path]) -> Iterator[Page]:
    program = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(program), args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1200, "height": 900})
        browser.close()


def test_the_report_opens_in_a_browser(folder: Path, page: Page) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((folder / "index.html").as_uri(), wait_until="load")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    assert len(widths) >= 5 and all(width > 50 for width in widths)
    assert page.locator("table").count() >= 2
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "the page scrolls sideways at 1200 pixels"


def test_a_second_run_does_nothing(folder: Path, reports: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".doit.db"}
    started = time.monotonic()
    result = subprocess.run(study(reports), cwd=ROOT, capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 60
    notebooks = sorted(path.stem for path in (folder / "notebooks").iterdir())
    told = ["Every notebook is up to date.", *(f"{name}  up to date" for name in notebooks)]
    assert result.stdout.splitlines()[: len(told)] == told
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".doit.db"}
    assert after == before


def test_a_kill_during_training_changes_no_number(folder: Path, reports: Path) -> None:
    """The last test of this file: it trains once more."""
    tables = {name: (folder / "tables" / name).read_bytes() for name in ("table2.csv", "alpha.csv")}
    shutil.rmtree(folder / "model")
    with subprocess.Popen(study(reports), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        patience = time.monotonic() + 300
        while not (folder / "model" / "checkpoint.safetensors").is_file():
            assert run.poll() is None and time.monotonic() < patience
            time.sleep(0.05)
        run.kill()
    assert not (folder / "model" / "model.safetensors").exists(), "the training was over before it was killed"
    subprocess.run(study(reports), cwd=ROOT, capture_output=True, check=True)
    assert {name: (folder / "tables" / name).read_bytes() for name in tables} == tables


def test_your_own_scan(reports: Path) -> None:
    """Notebook 10 is no part of the study: it waits for a file. Without one it makes its own."""
    executed = reports / "10_your_own_scan.ipynb"
    parameters = {"reports_dir": str(reports)}
    run_notebook(ROOT / "notebooks" / executed.name, executed, parameters, cwd=ROOT / "notebooks")
    out = reports / "smoke" / "your_own_scan"
    images = {"original.nii.gz", "sn2n.nii.gz", "noise_sd.nii.gz"}
    assert {*images, "before_after.png"} <= {path.name for path in out.iterdir()}
    noise_map, denoised = (nib.load(out / name) for name in ("noise_sd.nii.gz", "sn2n.nii.gz"))
    assert noise_map.header["descrip"].item().decode() == "noise SD per component; zero filling"
    assert noise_map.shape == denoised.shape and np.array_equal(noise_map.affine, denoised.affine)
    assert (out / "before_after.png").stat().st_size > 20_000
    said = executed.read_text(encoding="utf-8")
    assert "What was taken away has an SD of" in said


def test_your_own_scan_names_no_patient(reports: Path, require: Callable[..., Path], tmp_path: Path) -> None:
    """After the test before, whose model it takes: the executed copy too, which shows all that was printed."""
    raw, executed = require("data", "brain16ch_pulseq_164128.dat"), tmp_path / "10_your_own_scan.ipynb"
    parameters = {
        "reports_dir": str(tmp_path), "raw_file": str(raw), "voxel_size": [5.0, 2.0, 2.0],
        "model": str(reports / "smoke" / "your_own_scan" / "model"),
    }  # fmt: skip
    run_notebook(ROOT / "notebooks" / executed.name, executed, parameters, cwd=ROOT / "notebooks")
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"original.nii.gz", "sn2n.nii.gz", "noise_sd.nii.gz", executed.name} <= {path.name for path in made}
    said = executed.read_text(encoding="utf-8")
    assert "contradicts itself" in said and "not for training: one partition" in said  # and yet there is a noise map
    [noise_map] = [nib.load(path) for path in made if path.name == "noise_sd.nii.gz"]
    assert noise_map.shape[2] == 1 and (noise_map.get_fdata() > 0).all()
    [drawn] = [path for path in made if path.name == "before_after.png"]
    with Image.open(drawn) as figure:
        assert figure.height < figure.width  # the one plane that there is
    for secret in (b"ISMRM, DS-Test", b"19920206", b"213010"):
        assert secret in raw.read_bytes()
        contents = {path: path.read_bytes() for path in made}
        told = [path.name for path, content in contents.items()
                if secret in (gzip.decompress(content) if path.suffix == ".gz" else content)]  # fmt: skip
        assert told == []


if __name__ == "__main__":
    EXPECTED.parent.mkdir(exist_ok=True)
    EXPECTED.write_text(json.dumps(headline(Path(sys.argv[1])), indent=1) + os.linesep, encoding="utf-8")
