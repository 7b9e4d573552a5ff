"""Synthetic readers: better evidence never gets a worse grade, the arm decides nothing, and seeds decide the rest."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.readers import observer
from sn2nlib.evaluation.readers.criteria import load_criteria
from sn2nlib.evaluation.readers.scores import read_scores, write_scores

CRITERIA = load_criteria(Path(__file__).resolve().parents[3] / "data_manifest")


def measures(
    noise: float = 0.05, acuity: float = 1.4, ghost: float = 0.0, cnr: float = 2.0, found: float = 5.0
) -> pd.DataFrame:
    rows = [
        ("noise", "", noise), ("contrast", "", 0.35 / noise), ("acuity", "", acuity), ("edge", "", 0.35 / noise),
        ("ghost", "", ghost), ("structure", "left claustrum", cnr), ("structure", "right claustrum", 2 * cnr),
        ("structure", "periaqueductal gray", cnr), ("lesion", "lesion 1", found), ("border", "lesion 1", cnr),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["measure", "item", "value"])


def test_a_psychometric_function_passes_its_anchors() -> None:
    function = observer.Psychometric.through((30.0, 4.8), (6.0, 2.0))
    assert function.grade(30) == pytest.approx(4.8) and function.grade(6) == pytest.approx(2.0)
    assert function.grade(function.middle) == pytest.approx(3.0)
    grades = [function.grade(value) for value in (0, 1e-9, 1, 10, 1e9)]
    assert grades == sorted(grades) and grades[0] == 1 and grades[-1] == pytest.approx(5)


def test_less_of_everything_bad_is_never_graded_worse() -> None:
    good = observer.image_grades(measures())
    for change in ({"noise": 0.1}, {"acuity": 0.7}, {"ghost": 0.05}, {"cnr": 0.5}, {"found": 2.0}):
        worse = observer.image_grades(measures(**change))
        assert set(worse) == set(good) and any(worse[name] < good[name] - 0.05 for name in good), change
        assert all(worse[name] <= good[name] + 1e-9 for name in good), change
    assert good["claustrum"] > good["periaqueductal_gray"]  # the mean of two sides, one of them clearer


def test_grades_follow_the_words_of_the_scale() -> None:
    assert observer.structure_grade(0) == 1 and observer.structure_grade(9) == pytest.approx(5)
    # told apart from its neighbour in 76 % of voxels: half of the border
    assert observer.structure_grade(np.sqrt(2) * norm.ppf(0.75)) == pytest.approx(3)
    assert observer.lesion_grade(3, 0) == pytest.approx(2) and observer.lesion_grade(9, 9) == pytest.approx(5)
    assert observer.lesion_grade(0, 9) == pytest.approx(1, abs=0.01)
    blind = observer.evidence({"noise": np.nan, "contrast": np.nan, "acuity": np.nan, "edge": np.nan, "ghost": 0})
    assert observer.quality_grades(blind)["overall_quality"] < 2


def images() -> dict[tuple[str, str], dict[str, float]]:
    grades = {}
    for number in range(12):
        grades[f"D{number}", "original"] = observer.image_grades(measures(noise=0.06, cnr=0.8))
        grades[f"D{number}", "sN2N"] = observer.image_grades(measures(noise=0.03, cnr=1.6))
    return grades


def test_the_table_is_a_score_table(tmp_path: Path) -> None:
    table = observer.observe(images(), CRITERIA, seed=1)
    assert set(table["source"]) == {"synthetic"} and set(table["reader"]) == set(observer.READERS)
    write_scores(table, tmp_path / "scores.csv")
    again = read_scores(tmp_path / "scores.csv", criteria=CRITERIA)
    assert len(again) == len(table) == 2 * (24 + 6) * 8
    for _, rows in table.drop_duplicates(["reader", "case", "arm", "reading"]).groupby("reader"):
        assert sorted(rows["reading_order"]) == list(range(1, 31))
        assert sorted(rows.loc[rows["reading"] == 2, "reading_order"]) == list(range(25, 31))


def test_some_cases_of_each_kind_are_read_again_and_first_readings_stay() -> None:
    grades = images() | {(f"V{n}", arm): {"vwi_contrast": 3.0} for n in range(2) for arm in ("original", "sN2N")}
    once, twice = (observer.observe(grades, CRITERIA, seed=1, repeats=repeats) for repeats in (0, 3))
    pd.testing.assert_frame_equal(once, twice[twice["reading"] == 1].reset_index(drop=True))
    drawn = twice[twice["reading"] == 2].groupby("reader")["case"].agg(set)
    assert all(len(cases) == 3 + 2 and {"V0", "V1"} < cases for cases in drawn)
    assert drawn.iloc[0] != drawn.iloc[1]
    wide = twice.pivot(index=["reader", "case", "arm", "parameter"], columns="reading", values="score").dropna()
    assert 0.2 < (wide[1] == wide[2]).mean() < 0.95  # a new draw of wavering, and the same biases


def test_readers_differ_and_the_seed_decides_how() -> None:
    first, again, other = (observer.observe(images(), CRITERIA, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first["score"].equals(other["score"])
    wide = first[first["reading"] == 1].pivot(index=["case", "arm", "parameter"], columns="reader", values="score")
    same = (wide.iloc[:, 0] == wide.iloc[:, 1]).mean()
    assert 0.2 < same < 0.95


NAMES = {"original": "sN2N", "sN2N": "original"}
KEYS = ["reader", "case", "arm", "parameter", "reading"]


def renamed_back(grades: dict[tuple[str, str], dict[str, float]]) -> pd.DataFrame:
    """Scores of images whose arms were called by each other's name, called by their own again."""
    table = observer.observe({(case, NAMES[arm]): found for (case, arm), found in grades.items()}, CRITERIA, seed=1)
    return table.assign(arm=table["arm"].map(NAMES)).sort_values(KEYS, ignore_index=True)


@pytest.mark.parametrize("order", ["as they are", "sN2N first", "mixed"])
def test_the_name_of_an_arm_changes_no_score(order: str) -> None:
    """Whatever the order of the arms, which decides what is drawn for an image."""
    grades = images()
    if order == "sN2N first":
        grades = dict(sorted(grades.items(), key=lambda item: item[0][1], reverse=True))
    elif order == "mixed":
        places = np.random.default_rng(1).permutation(len(grades))
        grades = dict([list(grades.items())[place] for place in places])
    plain = observer.observe(grades, CRITERIA, seed=1).sort_values(KEYS, ignore_index=True)
    pd.testing.assert_frame_equal(renamed_back(grades), plain)


def test_neither_order_nor_name_of_the_arms_changes_a_score_without_wavering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "WAVERING", 0.0)
    plain = observer.observe(images(), CRITERIA, seed=1).sort_values(KEYS, ignore_index=True)
    other_order = {(case, NAMES[arm]): images()[case, NAMES[arm]] for case, arm in images()}
    assert list(other_order) != list(images())
    permuted = renamed_back(other_order)
    pd.testing.assert_frame_equal(permuted.drop(columns="reading_order"), plain.drop(columns="reading_order"))


def test_vessel_walls_are_graded_from_the_table_of_measures() -> None:
    good = {"contrast_lumen": 10.0, "lumen": 1.0, "edge_inner_mm": 0.8, "edge_outer_mm": 0.8}
    rows = []
    for arm, noise in (("original", 1.0), ("sN2N", 0.5), ("blur", 0.5)):
        values = {**good, "sd_wall": noise, "cnr_lumen": 10 / noise, "cnr_csf": 4 / noise}
        rows += [("D186", arm, name, value) for name, value in values.items()]
    table = pd.DataFrame(rows, columns=["scan", "arm", "measure", "value"])
    grades = observer.vessel_grades(table, arms=("original", "sN2N"))
    assert set(grades) == {("D186", "original"), ("D186", "sN2N")}
    before, after = grades["D186", "original"], grades["D186", "sN2N"]
    assert set(after) == {parameter.name for parameter in CRITERIA.by_group["vessel_wall"]}
    assert after["vwi_perceived_snr"] > before["vwi_perceived_snr"] and after["vwi_contrast"] > before["vwi_contrast"]
    assert after["vwi_artifacts"] == before["vwi_artifacts"]
    function = observer.VESSEL_FUNCTIONS["artifacts"]
    assert before["vwi_artifacts"] == pytest.approx(function.grade(11.0))  # of a wall 11 times as bright as the lumen


def test_a_grade_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(StudyError, match="loudness"):
        observer.observe({("D1", "original"): {"loudness": 3.0}}, CRITERIA, seed=1)
