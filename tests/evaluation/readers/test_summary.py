"""Tables of a reader study: means, tests, agreement and counts, against direct computation and by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from sn2nlib.errors import ScoreError
from sn2nlib.evaluation.readers.criteria import Criteria
from sn2nlib.evaluation.readers.summary import (
    cases_for_power,
    compare_arms,
    inter_reader,
    intra_reader,
    pooled_means,
    score_counts,
    summarise,
)
from sn2nlib.evaluation.statistics import bootstrap_kappa, holm, weighted_kappa, wilcoxon


def chosen(study: pd.DataFrame, reader: str, parameter: str, arm: str, reading: int = 1) -> np.ndarray:
    wanted = (study[["reader", "parameter", "arm"]] == [reader, parameter, arm]).all(axis=1)
    rows = study[wanted & (study["reading"] == reading)]
    return rows.sort_values("case")["score"].to_numpy()


def test_arms_are_compared_reader_by_reader(study: pd.DataFrame, criteria: Criteria) -> None:
    before = study.copy()
    table = compare_arms(study, criteria)
    pd.testing.assert_frame_equal(study, before)
    assert list(table["parameter"].unique()) == [parameter.name for parameter in criteria.parameters]
    vessel = table[table["group"] == "vessel_wall"]
    assert list(vessel["reader"].unique()) == ["reader1", "reader3"] and set(vessel["n"]) == {8}
    row = table[(table["reader"] == "reader2") & (table["parameter"] == "sharpness")].iloc[0]
    original, other = (chosen(study, "reader2", "sharpness", arm) for arm in ("original", "sN2N"))
    assert (row["original_mean"], row["sN2N_mean"]) == pytest.approx((original.mean(), other.mean()))
    assert (row["original_sd"], row["sN2N_sd"]) == pytest.approx((original.std(ddof=1), other.std(ddof=1)))
    found = wilcoxon(other, original)
    assert (row["z"], row["p"], row["p_exact"], row["effect"]) == (found.z, found.p, found.exact_p, found.effect)
    assert (row["n"], row["n_higher"], row["n_lower"]) == (12, (other > original).sum(), (other < original).sum())
    for group in ("image_quality", "vessel_wall"):
        family = table[table["group"] == group]
        assert len(family) == 10
        assert family["p_holm"].to_numpy() == pytest.approx(holm(family["p"].tolist()))


def test_no_difference_is_said(criteria: Criteria) -> None:
    rows = [("r", f"C{case}", arm, "contrast", 4, 1) for case in range(3) for arm in criteria.arms]
    table = compare_arms(
        pd.DataFrame(rows, columns=["reader", "case", "arm", "parameter", "score", "reading"]), criteria
    )
    assert (table["p"].iloc[0], table["p_holm"].iloc[0]) == (1, 1)
    assert table["note"].iloc[0].startswith("No pair differs")


def test_cases_with_one_arm_do_not_count(study: pd.DataFrame, criteria: Criteria) -> None:
    place = study.index[(study["parameter"] == "sharpness") & (study["reading"] == 1)][0]
    table = compare_arms(study.drop(index=place), criteria)
    assert sorted(table.loc[table["parameter"] == "sharpness", "n"]) == [11, 12]


def test_pooled_means(study: pd.DataFrame, criteria: Criteria) -> None:
    table = pooled_means(study, criteria).set_index(["group", "parameter", "reader"])
    first = study[study["reading"] == 1]
    quality = first[first["parameter"].isin([each.name for each in criteria.by_group["image_quality"]])]
    row = table.loc[("image_quality", "all", "all")]
    assert (row["n_cases"], row["n_scores"]) == (12, 120)
    for arm in criteria.arms:
        given = quality.loc[quality["arm"] == arm, "score"]
        assert (row[f"{arm}_mean"], row[f"{arm}_sd"]) == pytest.approx((given.mean(), given.std()))
    means = quality.pivot_table(index="case", columns="arm", values="score")
    assert row["p"] == pytest.approx(wilcoxon((means["sN2N"] - means["original"]).round(6)).p)
    assert table.loc[("image_quality", "all", "reader2"), "n_scores"] == 60
    assert table.loc[("lesions", "lesion_conspicuity", "all"), "n_scores"] == 10


def test_published_lesion_row_pools_both_readers(criteria: Criteria) -> None:
    """4.1 ± 0.7 against 5.0 ± 0.0 with p < 0.03 for each of two readers and 7 cases is possible, pooled."""
    grades = {"reader1": [4, 4, 4, 4, 4, 5, 5], "reader2": [3, 3, 4, 4, 4, 4, 5]}
    rows = [
        (reader, f"C{case}", arm, "lesion_conspicuity", 5 if arm == "sN2N" else grade, 1)
        for reader, given in grades.items() for case, grade in enumerate(given) for arm in criteria.arms
    ]  # fmt: skip
    scores = pd.DataFrame(rows, columns=["reader", "case", "arm", "parameter", "score", "reading"])
    pooled = pooled_means(scores, criteria).iloc[0]
    assert (round(pooled["original_mean"], 1), round(pooled["original_sd"], 1)) == (4.1, 0.6)
    assert (pooled["sN2N_mean"], pooled["sN2N_sd"]) == (5, 0)
    assert (compare_arms(scores, criteria)["p"] < 0.03).all()


def test_agreement_of_readers(study: pd.DataFrame, criteria: Criteria) -> None:
    table = inter_reader(study, criteria, resamples=100, seed=5)
    assert len(table) == 3 * len(criteria.parameters)
    row = table[(table["parameter"] == "claustrum") & (table["arm"] == "both")].iloc[0]
    arms = [[chosen(study, reader, "claustrum", arm) for arm in criteria.arms] for reader in ("reader1", "reader2")]
    a, b = (np.concatenate(grades) for grades in arms)
    found = weighted_kappa(a, b)
    assert row["n"] == 24
    for name in ("kappa", "se", "low", "high", "null_se", "p", "band", "percent_agreement"):
        assert row[name] == pytest.approx(getattr(found, name))
    drawn = bootstrap_kappa(a, b, np.tile(np.arange(12), 2), resamples=100, seed=5)
    assert (row["boot_low"], row["boot_high"]) == pytest.approx((drawn.low, drawn.high))
    alone = table[(table["parameter"] == "claustrum") & (table["arm"] == "sN2N")].iloc[0]
    assert alone["n"] == 12 and alone["kappa"] == pytest.approx(
        weighted_kappa(arms[0][1], arms[1][1]).kappa, nan_ok=True
    )
    vessel = table[table["group"] == "vessel_wall"]
    assert set(zip(vessel["first"], vessel["second"], strict=True)) == {("reader1", "reader3")}


def test_undefined_agreement_has_ac2(study: pd.DataFrame, criteria: Criteria) -> None:
    same = study.assign(score=study["score"].where(study["arm"] == "original", 5))
    table = inter_reader(same, criteria, resamples=20)
    constant = table[table["arm"] == "sN2N"]
    assert set(constant["band"]) == {"undefined"} and constant["doubtful"].all() and constant["kappa"].isna().all()
    assert set(constant["note"]) == {"κ is undefined: both gave 5 to all images."}
    assert (constant["ac2"] == 1).all() and (constant["percent_agreement"] == 100).all()


def test_intra_reader_agreement(study: pd.DataFrame, criteria: Criteria) -> None:
    table = intra_reader(study, criteria, resamples=50)
    assert set(table["group"]) == {"image_quality", "fine_structures", "lesions"}
    row = table[(table["parameter"] == "all") & (table["reader"] == "reader1")].iloc[0]
    names = [each.name for each in criteria.by_group["image_quality"]]
    grades = [
        [grade for name in names for arm in criteria.arms for grade in chosen(study, "reader1", name, arm, reading)[:3]]
        for reading in (1, 2)
    ]
    assert row["n"] == len(names) * 2 * 3
    assert row["kappa"] == pytest.approx(weighted_kappa(*grades).kappa)
    assert intra_reader(study[study["reading"] == 1], criteria).empty


def test_counts_fill_the_bars(study: pd.DataFrame, criteria: Criteria) -> None:
    table = score_counts(study, criteria)
    assert len(table) == len(criteria.parameters) * 2 * 2 * 5
    bar = table[(table[["parameter", "reader", "arm"]] == ["contrast", "reader1", "sN2N"]).all(axis=1)]
    given = chosen(study, "reader1", "contrast", "sN2N")
    assert bar["count"].tolist() == [int((given == score).sum()) for score in (1, 2, 3, 4, 5)]
    sums = table.groupby(["parameter", "reader", "arm"])["fraction"].sum()
    assert sums.to_numpy() == pytest.approx(np.ones(len(sums)))


def test_cases_for_power(study: pd.DataFrame, criteria: Criteria) -> None:
    part = study[study["parameter"].isin(["sharpness", "contrast"])]
    table = cases_for_power(part, criteria)
    pairs = [chosen(study, reader, "sharpness", arm) for reader in ("reader1", "reader2") for arm in criteria.arms]
    difference = np.concatenate([pairs[1] - pairs[0], pairs[3] - pairs[2]])
    row = table.set_index("parameter").loc["sharpness"]
    assert row["mean_difference"] == pytest.approx(difference.mean())
    assert 3 < row["n_needed"] < 30
    flat = cases_for_power(part.assign(score=4), criteria)
    assert flat["n_needed"].isna().all() and flat["n_noether"].isna().all()


def test_everything_at_once(study: pd.DataFrame, criteria: Criteria) -> None:
    found = summarise(study, criteria, resamples=30)
    assert found.source == "human" and found.weights == "linear"
    assert found.n_cases == {"image_quality": 12, "fine_structures": 12, "lesions": 5, "vessel_wall": 8}
    assert found.readers["vessel_wall"] == ("reader1", "reader3")
    part = study[study["parameter"] == "claustrum"].assign(source="synthetic")
    other = summarise(part, criteria, weights="quadratic", resamples=5)
    assert other.source == "synthetic" and other.readers == {"fine_structures": ("reader1", "reader2")}
    assert set(other.agreement["weights"]) == set(other.intra_reader["weights"]) == {"quadratic"}
    linear = found.agreement[found.agreement["parameter"] == "claustrum"]
    assert (other.agreement["kappa"].to_numpy() != linear["kappa"].to_numpy()).all()


def test_mixed_sources_are_refused(study: pd.DataFrame, criteria: Criteria) -> None:
    mixed = study.assign(source=np.where(study["reader"] == "reader1", "human", "synthetic"))
    for function in (compare_arms, pooled_means, inter_reader, intra_reader, score_counts, cases_for_power, summarise):
        with pytest.raises(ScoreError, match="not human, synthetic"):
            function(mixed, criteria)


def test_one_reader_has_no_agreement(study: pd.DataFrame, criteria: Criteria) -> None:
    part = study[(study["reader"] == "reader1") & study["parameter"].isin(["contrast", "sharpness"])]
    alone = summarise(part, criteria, resamples=5)
    assert alone.agreement.empty and len(alone.comparison) == 2 and len(alone.intra_reader) == 3
    single = compare_arms(study[study["case"] == "C00"], criteria)
    assert math.isnan(single["original_sd"].iloc[0]) and single["n"].iloc[0] == 1


def test_tables_that_were_not_checked(study: pd.DataFrame, criteria: Criteria) -> None:
    with pytest.raises(ScoreError, match=r"no column\(s\) reading, score; read_scores gives it every one"):
        compare_arms(study.drop(columns=["reading", "score"]), criteria)
    with pytest.raises(ScoreError, match=r"2 score\(s\) twice, the first one: reader1, C00, overall_quality,"):
        summarise(pd.concat([study, study.iloc[:2]], ignore_index=True), criteria)
    with pytest.raises(ScoreError, match="throughout, not nothing"):
        compare_arms(study.iloc[:0], criteria)
