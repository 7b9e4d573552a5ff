"""Table 2 and the gains from measurements whose result is known."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sn2nlib.errors import StudyError
from sn2nlib.reporting.published import Published, load_published
from sn2nlib.reporting.tables import gains, per_scan, save_csv, table2, verdict

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifest"
SCANS = {"quantitative": ["D167", "D168", "D169"], "real_head": ["S1"]}
ORIGINAL = {"D167": 40.0, "D168": 41.0, "D169": 43.0, "S1": 40.9}  # PSNR in dB at 0 σ
GAIN = {"D167": 0.4, "D168": 0.6, "D169": 0.8, "S1": 0.7}  # of sN2N, dB


def measurements(truth_gain: float = 1.9) -> pd.DataFrame:
    """Every scan at 0 and 1 σ, against both references, in both regions, in shuffled order."""
    rows = []
    for set_name, scans in SCANS.items():
        for scan in scans:
            for level in (0, 1):
                for reference in ("full_sampled", "noise_free"):
                    for region in ("volume", "head"):
                        arms = {"original": 0.0, "sN2N": GAIN[scan] + level, "truth": truth_gain}
                        for arm, gain in arms.items():
                            perfect = arm == "truth" and reference == "noise_free"
                            psnr = math.inf if perfect else ORIGINAL[scan] - 4 * level + gain
                            rows.append({
                                "set": set_name, "scan": scan, "noise_sigma": level, "arm": arm,
                                "reference": reference, "region": region, "psnr": psnr,
                                "ssim": 1 - 10 ** (-psnr / 20), "nrmse": 500 * 10 ** (-psnr / 20),
                                "n_slices": 100,
                            })  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=1, ignore_index=True)


def row_of(table: pd.DataFrame, **wanted: object) -> pd.Series:
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


VOLUME = {"reference": "full_sampled", "region": "volume"}


@pytest.fixture(scope="module")
def published() -> Published:
    return load_published(MANIFEST)


def test_per_scan_has_a_row_per_scan_level_arm_and_metric() -> None:
    rows = measurements()
    before = rows.copy()
    values = per_scan(rows)
    assert list(values) == ["set", "scan", "metric", "arm", "reference", "region", "noise_sigma", "value"]
    assert len(values) == 3 * len(rows)
    found = row_of(values, scan="D168", metric="PSNR_dB", arm="sN2N", noise_sigma=1, **VOLUME)
    assert found["value"] == pytest.approx(41 - 4 + 1.6)
    pd.testing.assert_frame_equal(rows, before)


def test_table2_means_spread_and_p() -> None:
    table = table2(per_scan(measurements()))
    assert list(table) == [
        "set", "metric", "arm", "reference", "region", "noise_sigma", "n", "mean", "sd", "p_value",
    ]  # fmt: skip
    wanted = {"set": "quantitative", "metric": "PSNR_dB", "noise_sigma": 0, **VOLUME}
    original, better = (row_of(table, arm=arm, **wanted) for arm in ("original", "sN2N"))
    assert original["n"] == 3
    assert original["mean"] == pytest.approx(124 / 3)
    assert original["sd"] == pytest.approx(np.std([40, 41, 43], ddof=1))
    # differences 0.4, 0.6, 0.8: mean 0.6, SD 0.2
    expected = stats.ttest_1samp([0.4, 0.6, 0.8], 0).pvalue
    assert original["p_value"] == pytest.approx(expected)
    assert better["p_value"] == pytest.approx(expected)
    assert math.isnan(row_of(table, arm="truth", **wanted)["p_value"])


def test_a_single_scan_has_no_spread_and_no_p() -> None:
    table = table2(per_scan(measurements()))
    alone = table[table["set"] == "real_head"]
    assert (alone["n"] == 1).all()
    assert alone["sd"].isna().all() and alone["p_value"].isna().all()


def test_sets_are_not_pooled() -> None:
    with_real, without = (
        table2(per_scan(rows)) for rows in (measurements(), measurements().query("set == 'quantitative'"))
    )
    digital = with_real[with_real["set"] == "quantitative"].reset_index(drop=True)
    pd.testing.assert_frame_equal(digital, without)


def test_truth_against_itself_is_infinite_and_breaks_nothing(published: Published) -> None:
    values = per_scan(measurements())
    exact = row_of(
        table2(values), set="quantitative", metric="PSNR_dB", arm="truth", noise_sigma=0,
        reference="noise_free", region="head",
    )  # fmt: skip
    assert exact["mean"] == math.inf and math.isnan(exact["sd"])
    table = gains(values, published)
    error = table[(table["reference"] == "noise_free") & (table["metric"] == "NRMSE_percent")]
    assert (error["ceiling"] == 100).all()


def test_rows_stand_in_the_papers_order() -> None:
    table = table2(per_scan(measurements()))
    part = table[(table["set"] == "quantitative") & (table["reference"] == "full_sampled")]
    part = part[part["region"] == "volume"]
    assert list(dict.fromkeys(part["metric"])) == ["PSNR_dB", "SSIM", "NRMSE_percent"]
    assert part["arm"].tolist()[:3] == ["original", "sN2N", "truth"]
    assert part["noise_sigma"].tolist()[:6] == [0, 0, 0, 1, 1, 1]


def test_gains_beside_bars_and_ceiling(published: Published) -> None:
    table = gains(per_scan(measurements()), published)
    psnr = row_of(table, set="quantitative", metric="PSNR_dB", noise_sigma=0, **VOLUME)
    assert psnr["gain"] == pytest.approx(0.6)
    assert psnr["lowest"] == pytest.approx(0.4)
    assert psnr["ceiling"] == pytest.approx(1.9)
    assert (psnr["published"], psnr["bar"], psnr["n"]) == (0.5, 0.5, 3)
    assert psnr["verdict"] == "reached"
    error = row_of(table, set="real_head", metric="NRMSE_percent", noise_sigma=0, **VOLUME)
    assert error["gain"] == pytest.approx(100 * (1 - 10 ** (-0.7 / 20)))
    assert error["published"] == pytest.approx(100 * 0.2 / 4.4)
    assert error["bar"] == 5
    head = row_of(
        table, set="quantitative", metric="SSIM", noise_sigma=0, reference="full_sampled", region="head"
    )
    assert math.isnan(head["published"]) and math.isnan(head["bar"]) and head["verdict"] == ""


def test_bars_inside_the_head_hold_for_the_lowest_scan(published: Published) -> None:
    rows = measurements()
    worse = (rows["scan"] == "D169") & (rows["arm"] == "sN2N") & (rows["region"] == "head")
    rows.loc[worse, "psnr"] -= 2
    table = gains(per_scan(rows), published)
    head = row_of(
        table, set="quantitative", metric="PSNR_dB", noise_sigma=1, reference="noise_free", region="head"
    )
    assert head["gain"] > 0 > head["lowest"]
    assert (head["statistic"], head["verdict"]) == ("lowest", "missed")


@pytest.mark.parametrize(
    ("gain", "bar", "ceiling", "expected"),
    [
        (1.8, 1.7, 2.5, "reached"),
        (1.7, 1.7, 1.0, "reached"),
        (1.6, 1.7, 1.7, "missed"),
        (1.6, 1.7, 1.5, "ceiling reached"),
        (1.4, 1.7, 1.5, "below ceiling"),
        (-0.6, 0.5, -0.8, "ceiling reached"),
        (0.0, 0.0, math.inf, "missed"),
        (0.01, 0.0, math.inf, "reached"),
        (1.6, 1.7, math.nan, "missed"),
        (1.6, math.nan, 2.0, ""),
    ],
)
def test_verdict(gain: float, bar: float, ceiling: float, expected: str) -> None:
    assert verdict(gain, bar, ceiling) == expected


def test_without_truth_there_is_no_ceiling(published: Published) -> None:
    rows = measurements().query("arm != 'truth'")
    table = gains(per_scan(rows), published)
    assert table["ceiling"].isna().all()
    assert set(table2(per_scan(rows))["arm"]) == {"original", "sN2N"}


def test_bad_measurements() -> None:
    rows = measurements()
    with pytest.raises(StudyError, match="lack the columns region, ssim"):
        per_scan(rows.drop(columns=["ssim", "region"]))
    with pytest.raises(StudyError, match="Unknown arm 'network'; known: original, sN2N, truth"):
        per_scan(rows.replace({"arm": {"truth": "network"}}))
    with pytest.raises(StudyError, match="Measured twice: set quantitative, scan D167, arm sN2N"):
        chosen = rows.query("scan == 'D167' and arm == 'sN2N'").iloc[[0]]
        per_scan(pd.concat([rows, chosen]))
    lacking = rows.query("not (scan == 'D168' and arm == 'sN2N' and noise_sigma == 1)")
    with pytest.raises(StudyError, match="Scan D168 lacks an arm for PSNR_dB at 1 σ"):
        table2(per_scan(lacking))


def test_saved_table_is_read_back_exactly(tmp_path: Path) -> None:
    table = table2(per_scan(measurements()))
    save_csv(table, tmp_path / "tables" / "table2.csv")
    again = pd.read_csv(tmp_path / "tables" / "table2.csv")
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["table2.csv"]
