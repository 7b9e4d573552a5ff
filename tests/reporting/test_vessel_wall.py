"""Vessel wall tables: what is tested, what is asked, and what the figures and the chapter show."""

import math

import numpy as np
import pandas as pd
import pytest

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.vessel_sites import Site
from sn2nlib.reporting import figures
from sn2nlib.reporting.vessel_wall import (
    ARMS,
    GIVEN,
    MEASURES,
    bars,
    not_better,
    not_shown,
    per_scan,
    readable,
    summary,
)


def test_one_row_per_scan_measure_and_arm(vessel_rows: pd.DataFrame) -> None:
    values = per_scan(vessel_rows)
    assert list(values) == ["set", "scan", "measure", "arm", "value"]
    assert len(values) == 6 * (len(MEASURES) * len(ARMS) + len(GIVEN))
    assert set(values["arm"]) == {*ARMS, "geometry"} and list(dict.fromkeys(values["measure"])) == list(MEASURES)
    with pytest.raises(StudyError, match=r"each of the arms .* once; see D3"):
        per_scan(vessel_rows[~((vessel_rows["scan"] == "D3") & (vessel_rows["arm"] == "blur"))])
    with pytest.raises(StudyError, match="lack the columns psnr"):
        per_scan(vessel_rows.drop(columns="psnr"))


def test_both_tests_stand_beside_the_means(vessel_rows: pd.DataFrame) -> None:
    table = summary(per_scan(vessel_rows)).set_index(["measure", "arm"])
    row = table.loc[("cnr_lumen", "sN2N")]
    assert row["n"] == 6 and row["mean"] == pytest.approx(18, rel=0.05)
    assert row["p_value"] < 0.001 and row["p_wilcoxon"] == pytest.approx(0.0277, abs=1e-4)  # six of one sign
    assert math.isnan(row["p_sN2N"]) and table.loc[("cnr_lumen", "fine_tuned"), "p_sN2N_wilcoxon"] < 0.05
    assert table.loc[("cnr_lumen", "original"), ["p_value", "p_wilcoxon"]].isna().all()
    assert table.loc[("wall_mm", "geometry"), "mean"] == pytest.approx(0.95)
    shown = readable(summary(per_scan(vessel_rows)))
    assert list(shown["Measure"]) == [name for name, _ in MEASURES.values()]
    assert "W 0.028" in shown.loc[0, "sN2N (MP-RAGE alone)"]


def test_scans_without_a_resolved_wall_are_left_out_of_its_measures(vessel_rows: pd.DataFrame) -> None:
    rows = vessel_rows.copy()
    rows.loc[rows["scan"] == "D0", ["wall_mm", "lumen_mm2", "edge_inner_mm", "edge_outer_mm"]] = math.nan
    table = summary(per_scan(rows)).set_index(["measure", "arm"])
    assert table.loc[("wall_mm", "sN2N"), "n"] == 5 and table.loc[("cnr_csf", "sN2N"), "n"] == 6
    assert (bars(per_scan(rows))["verdict"] != "not defined").all()


def test_what_is_asked_holds_for_one_network_and_not_for_the_other(vessel_rows: pd.DataFrame) -> None:
    table = bars(per_scan(vessel_rows))
    assert set(table.loc[table["arm"] == "sN2N", "verdict"]) == {"reached"}
    missed = table[(table["arm"] == "vwi_only") & (table["verdict"] == "missed")]["bar"].str.split(":").str[0]
    assert {"noise SD in lumen", "noise SD in CSF", "contrast of wall and lumen", "PSNR"} <= set(missed)
    found = table.set_index(["arm", "bar"])["value"]
    loss = found["sN2N", "contrast of wall and lumen: loss in percent of the noise-free one, at most"]
    assert loss == pytest.approx(100 * 2 / 90, abs=0.3)
    assert found["sN2N", "edge to the lumen: the blur's over sN2N's, above"] == pytest.approx(1.24, abs=0.02)
    edge = found["sN2N", "edge to the lumen: percent wider (+) or narrower (−) than in the noise-free image, at most"]
    assert abs(edge) < 5
    saturated = table.loc[table["verdict"] == "saturated", "bar"].str.split(":").str[0]
    assert "Walls detected (share)" in set(saturated)


def test_where_fine_tuning_is_not_better_the_run_says_what_it_found(vessel_rows: pd.DataFrame) -> None:
    values = per_scan(vessel_rows)
    learnt = {"scans": 2, "steps": 600, "systematic_over_noise": 2.04}
    table, tested = bars(values, learnt=learnt), summary(values).set_index(["measure", "arm"])
    told = {sentence.split(" (t ")[0]: sentence for sentence in not_better(table)}
    assert {"PSNR in the head (dB)", "Wall thickness (mm)"} <= set(told) and "CNR, wall and lumen" not in told
    psnr = table[table["bar"].str.startswith("PSNR in the head")].iloc[0]
    means = tested["mean"]
    assert psnr["bar"].endswith("by dB, above")
    assert psnr["value"] == pytest.approx(means["psnr", "fine_tuned"] - means["psnr", "sN2N"])
    assert psnr["p_sN2N"] == pytest.approx(tested.loc[("psnr", "fine_tuned"), "p_sN2N"])
    for expected in ("2 scans in 600 steps", "2 of their noise", f"{means['psnr', 'fine_tuned']:.4g}"):
        assert expected in told["PSNR in the head (dB)"], expected
    # a lumen that noise has lifted is told with its levels; one that it has not, is no reason
    rows = vessel_rows.copy()
    rows.loc[rows["arm"] == "fine_tuned", "lumen"] += 1.0
    [dark] = [each for each in not_better(bars(per_scan(rows), learnt=learnt)) if each.startswith("Mean lumen")]
    assert f"{means['lumen', 'original']:.3g} in the original" in dark
    assert "We suppose that it learns this floor" in dark
    rows.loc[rows["arm"] == "noise_free", "lumen"] = 12.5
    rows.loc[rows["arm"] == "fine_tuned", "lumen"] += 9.0
    [other] = [each for each in not_better(bars(per_scan(rows))) if each.startswith("Mean lumen")]
    assert "floor" not in other and "too little to learn from" in other


def test_a_mean_that_no_test_confirms_is_named(vessel_rows: pd.DataFrame) -> None:
    rows = vessel_rows.copy()
    tuned = rows["arm"] == "fine_tuned"
    rows.loc[tuned, "cnr_csf"] = rows.loc[rows["arm"] == "sN2N", "cnr_csf"].to_numpy() + np.array([4, -1, 2, -1, 3, -2])
    named = not_shown(bars(per_scan(rows)))
    assert any(each.startswith("CNR, wall and CSF (t 0.") for each in named)
    assert not any(each.startswith("CNR, wall and lumen") for each in named)


def test_the_graphs_say_whose_walls_they_are(vessel_rows: pd.DataFrame) -> None:
    values = per_scan(vessel_rows)
    for figure in (figures.vessel_measures(values, label="digital phantoms, n = 6"),
                   figures.sharpness_plot(values, label="digital phantoms, n = 6")):  # fmt: skip
        assert "igital phantoms, n = 6" in figure.caption
        assert any("digital phantoms" in text.get_text() for text in figure.texts)
    assert "Gaussian blur 35 % less noise, edges +22.0 %" in figure.caption
    assert "over the whole object; in lumen and CSF it takes 35 % where sN2N takes 35 %" in figure.caption


@pytest.fixture
def site() -> Site:
    return Site("RICA-4", "plaque", (6.0, -2.0, 3.0), (0, 0, 1), 2.0, 1.5, direction=(1.0, 0.0, 0.0))


def test_views_magnify_and_point_at_the_marked_vessel(site: Site) -> None:
    rng = np.random.default_rng(1)
    volume = rng.uniform(0.5, 1, (60, 40, 50)).astype(np.float32)  # (right, anterior, superior)
    affine = np.array([[0, 0, 0.56, -16], [0, 0.5, 0, -10], [0.56, 0, 0, -14], [0, 0, 0, 1]])
    options = {"affine": affine, "marks": {"coronal": site, "axial": site}, "label": "digital phantom D1"}
    options["named"] = {"coronal": "RICA-4", "axial": "BA-6"}
    figure = figures.vessel_views({"original": volume, "sN2N": volume}, volume, **options)
    assert len(figure.axes) == 3 * 4
    magnified = figure.axes[3]
    # where the arrow's line crosses the row of the vessel: the patient's right is on the left, and so is the plaque
    [arrow] = [text for text in magnified.texts if text.arrow_patch]
    (tip, _), (end, _) = arrow.xy, arrow.xyann
    assert end < tip < magnified.images[0].get_array().shape[1] / 2
    assert "plaque of RICA, 1.50 mm thick" in figure.caption and "igital phantom" in figure.caption
    told = figure.caption.split("Arrows: ")[1]
    assert told.index("marked in the manifest") < told.index("axial") < told.index("chosen by rule")
    assert "Not shown: sN2N, fine-tuned; sN2N, VWI alone; Gaussian blur." in figure.caption
    marked = figures.vessel_views({arm: volume for arm in ARMS if arm != "noise_free"}, volume, **options)
    assert "Not shown" not in marked.caption
    with pytest.raises(StudyError, match="differ in shape"):
        figures.vessel_views({"original": volume[1:]}, volume, **options)
    outside = Site("BA-1", "wall", (60.0, 0, 0), (0, 0, 1), 1, 1)
    with pytest.raises(StudyError, match="BA-1 lies outside"):
        figures.vessel_views({"original": volume}, volume, **options | {"marks": {"axial": outside}})
