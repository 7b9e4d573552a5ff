"""The tests of Table 1 and Table 2 against the published values, SciPy and pingouin."""

import math
import warnings

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.statistics import anova, anova_from_summaries, chi2_from_counts, paired_t

# --- paired t -----------------------------------------------------------------------------------


def test_paired_t_by_hand() -> None:
    # differences 1, 2, 3: mean 2, SD 1, t = 2·√3; for 2 degrees of freedom p = 1 − t / √(t² + 2)
    found = paired_t([2, 4, 6], [1, 2, 3])
    assert (found.n, found.mean, found.sd, found.df) == (3, 2, 1, 2)
    assert found.t == pytest.approx(2 * math.sqrt(3))
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14))
    assert paired_t([1, 2, 3], [2, 4, 6]).t == pytest.approx(-found.t)


@pytest.mark.parametrize("n", [2, 6, 19])
def test_paired_t_agrees_with_scipy_and_pingouin(n: int) -> None:
    rng = np.random.default_rng(n)
    a = rng.normal(41.7, 0.9, n)
    b = a - rng.normal(0.5, 0.3, n)
    found = paired_t(a, b, confidence=0.9)
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.9)
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    if n > 2:  # pingouin's Bayes factor warns on two pairs
        table = pingouin.ttest(a, b, paired=True)
        assert found.p == pytest.approx(table.filter(regex="^p[-_]val").iloc[0, 0], rel=1e-9)
        assert found.df == table["dof" if "dof" in table else "df"].iloc[0]


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_pairs_have_no_p(n: int) -> None:
    found = paired_t([42.0] * n, [41.0] * n)
    assert found.n == n
    assert all(math.isnan(value) for value in (found.sd, found.t, found.p, found.low, found.high))
    assert found.mean == 1 if n else math.isnan(found.mean)


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_equal_differences_have_no_t(shift: float) -> None:
    b = np.array([40.1, 41.3, 42.7])
    found = paired_t(b + shift, b)
    assert found.mean == pytest.approx(shift)
    assert math.isnan(found.t) and math.isnan(found.p)


def test_paired_t_of_bad_input() -> None:
    with pytest.raises(StudyError, match=r"one length, not shapes \(2,\) and \(3,\)"):
        paired_t([1, 2], [1, 2, 3])
    with pytest.raises(StudyError, match="leave out pair 1, inf and 2"):
        paired_t([1, math.inf], [1, 2])
    with pytest.raises(StudyError, match="confidence must lie between 0 and 1, not 95"):
        paired_t([1, 2], [1, 3], confidence=95)


def test_paired_t_gives_plain_numbers() -> None:
    found = paired_t([1, 2, 4], [1, 3, 3])
    assert {type(value) for value in vars(found).values()} == {int, float}


# --- ANOVA --------------------------------------------------------------------------------------


def test_age_from_the_published_summaries() -> None:
    found = anova_from_summaries([135, 11, 20, 19], [57, 52, 55, 58], [20, 17, 20, 15])
    assert found.df == (3, 181)
    assert found.statistic == pytest.approx(0.304, abs=5e-4)
    assert found.p == pytest.approx(0.823, abs=5e-4)


def test_anova_agrees_with_scipy_and_pingouin() -> None:
    rng = np.random.default_rng(3)
    groups = [rng.normal(mean, 15, n) for mean, n in ((55, 12), (60, 5), (50, 7))]
    found = anova(groups)
    expected = stats.f_oneway(*groups)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)
    sets = np.repeat(["a", "b", "c"], [12, 5, 7])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pingouin 0.7 on pandas 3.1
        table = pingouin.anova(pd.DataFrame({"age": np.concatenate(groups), "set": sets}), "age", "set")
    assert found.statistic == pytest.approx(table["F"].iloc[0], rel=1e-9)
    assert found.df == (2, 21)


def test_group_of_one_counts_for_its_mean_alone() -> None:
    groups = [[50.0, 60.0, 71.0], [40.0], []]
    found = anova(groups)
    expected = stats.f_oneway(groups[0], groups[1])
    assert found.df == (1, 2)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)


@pytest.mark.parametrize("groups", [[], [[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 1.0], [2.0, 2.0]]])
def test_groups_that_cannot_be_tested(groups: list[list[float]]) -> None:
    found = anova(groups)
    assert math.isnan(found.statistic) and math.isnan(found.p)


def test_anova_of_bad_input() -> None:
    with pytest.raises(StudyError, match="as many: 2, 1, 2"):
        anova_from_summaries([1, 2], [1], [1, 2])
    with pytest.raises(StudyError, match="size of at least 1"):
        anova_from_summaries([0, 2], [1, 2], [1, 2])
    with pytest.raises(StudyError, match="finite values"):
        anova([[1, math.nan], [2, 3]])


# --- χ² -----------------------------------------------------------------------------------------


def test_sex_from_the_published_counts() -> None:
    found = chi2_from_counts([[87, 48], [6, 5], [13, 7], [14, 5]])
    assert found.df == (3,)
    assert found.statistic == pytest.approx(1.173, abs=5e-4)
    assert found.p == pytest.approx(0.759, abs=5e-4)


def test_chi2_agrees_with_scipy_and_takes_no_continuity_correction() -> None:
    for counts in ([[10, 20], [30, 15]], [[1, 2, 3], [4, 5, 9]]):
        expected = stats.chi2_contingency(counts, correction=False)
        found = chi2_from_counts(counts)
        assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)
        assert found.df == (expected.dof,)


def test_empty_groups_are_left_out() -> None:
    assert chi2_from_counts([[3, 4, 0], [0, 0, 0], [5, 1, 0]]) == chi2_from_counts([[3, 4], [5, 1]])


@pytest.mark.parametrize("counts", [[[3, 4]], [[3, 0], [2, 0]], [[0, 0], [0, 0]]])
def test_counts_that_cannot_be_tested(counts: list[list[int]]) -> None:
    found = chi2_from_counts(counts)
    assert found.df == (0,)
    assert math.isnan(found.statistic) and math.isnan(found.p)


@pytest.mark.parametrize("counts", [[[1.5, 2], [1, 1]], [[-1, 2], [1, 1]], [1, 2]])
def test_chi2_of_bad_counts(counts: list) -> None:
    with pytest.raises(StudyError, match="whole counts with the axes"):
        chi2_from_counts(counts)
