"""The published numbers as the paper prints them, and what it says about their differences."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from sn2nlib.errors import ManifestError
from sn2nlib.reporting.published import Published, load_published

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifest"
LEVELS = [0, 0.5, 1, 1.5, 2, 2.5, 3]


@pytest.fixture(scope="module")
def published() -> Published:
    return load_published(MANIFEST)


def test_cells_of_table2(published: Published) -> None:
    cell = published.value("PSNR_dB", "original", 0)
    assert (cell["mean"], cell["sd"], cell["p_value"]) == (41.2, 0.8, "<0.001")
    assert published.value("DSC_FAST", "sN2N", 0.0)["p_value"] == "0.10"
    with pytest.raises(ManifestError, match="no PSNR_dB of arm 'truth' at 1 σ"):
        published.value("PSNR_dB", "truth", 1)
    with pytest.raises(ManifestError, match=r"no SSIM of arm 'sN2N' at 0\.25 σ"):
        published.value("SSIM", "sN2N", 0.25)


def test_gains_are_those_of_the_discussion(published: Published) -> None:
    assert [published.gain("PSNR_dB", level) for level in LEVELS] == [0.5, 1.0, 1.7, 2.0, 2.2, 2.2, 2.3]
    similarity = [published.gain("SSIM", level) for level in LEVELS]
    assert similarity == [0.002, 0.004, 0.011, 0.02, 0.03, 0.043, 0.047]
    assert [published.gain("NRMSE_percent", level) for level in LEVELS] == [0.2, 0.9, 2.0, 3.1, 3.9, 4.8, 5.5]
    stated = published.figures.set_index("quantity")
    for quantity, metric in (("PSNR gain dB", "PSNR_dB"), ("SSIM gain", "SSIM")):
        assert float(stated.at[quantity, "low"]) == published.gain(metric, 0)
        assert float(stated.at[quantity, "high"]) == published.gain(metric, 3)
    # one of the paper's inconsistencies: 5.6 in the text, 5.5 from the table
    assert float(stated.at["NRMSE drop percentage points", "high"]) == 5.6


def test_relative_gain(published: Published) -> None:
    assert published.gain_percent("NRMSE_percent", 1) == pytest.approx(100 * 2.0 / 9.7)


def test_bars_of_psnr_and_ssim_are_the_published_gains(published: Published) -> None:
    bars = published.bars.query("reference == 'full_sampled' and region == 'volume'")
    assert set(bars["set"]) == {"quantitative", "real_head"}
    for row in bars[bars["metric"] != "NRMSE_percent"].itertuples():
        assert row.bar == published.gain(row.metric, row.noise_sigma)
    for row in bars[bars["metric"] == "NRMSE_percent"].itertuples():
        same_in_decibel = 100 * (1 - 10 ** (-published.gain("PSNR_dB", row.noise_sigma) / 20))
        assert row.bar == pytest.approx(same_in_decibel, abs=0.75)
    assert len(bars) == 2 * 3 * len(LEVELS)


def test_inconsistencies_are_data(published: Published) -> None:
    topics = set(published.inconsistencies["topic"])
    assert {"fine structures", "lesion conspicuity", "NRMSE", "NRMSE gain", "phase-encode lines"} <= topics


def test_copied_tables_have_all_rows(published: Published) -> None:
    assert len(published.table2) == 5 * 2 * len(LEVELS)
    assert published.table1["n"].notna().sum() >= 5


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("published/table2.csv", "PSNR_dB,sN2N,3,31.8,1.0,<0.001", "noise_sigma"),  # a second time
        ("published/table2.csv", "PSNR_dB,network,4,31.8,1.0,<0.001", "network"),
        ("published/table2.csv", "PSNR_dB,sN2N,4,much,1.0,<0.001", "much"),
        ("bars.csv", "quantitative,full_sampled,volume,SSIM,9,median,0.1", "median"),
        ("bars_volumetry.csv", "spm,DSC_FAST,9,gain,0.1", "spm"),
        ("bars_volumetry.csv", "fsl,DSC_FAST,3,gain,0.1", "noise_sigma"),  # a second time
    ],
)
def test_bad_rows_are_named(tmp_path: Path, name: str, line: str, message: str) -> None:
    folder = Path(shutil.copytree(MANIFEST, tmp_path / "data_manifest"))
    path = folder / name
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ManifestError, match=rf"(?s){path.name}.*{message}"):
        load_published(folder)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"table1\.csv cannot be read"):
        load_published(tmp_path)


def test_tables_are_text_where_printed(published: Published) -> None:
    assert pd.api.types.is_string_dtype(published.table2["p_value"])
