"""Wilcoxon's signed-rank test as SPSS computes it, Holm's adjustment, and the number of cases."""

import itertools
import math

import numpy as np
import pingouin
import pytest
from scipy import stats

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.statistics import (
    cases_needed,
    holm,
    likert_differences,
    signed_rank_power,
    wilcoxon,
)

# Darwin's Zea mays, heights of crossed minus self-fertilised plants; the exact p is the published one
MAIZE = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]


def by_hand(first: list[int], second: list[int]) -> tuple[float, float]:
    """|Z| and p from SPSS's formulas, written with loops and without any of the package's code."""
    differences = [y - x for x, y in zip(first, second, strict=True) if y != x]
    n = len(differences)
    if n == 0:
        return 0.0, 1.0
    sizes = sorted(abs(d) for d in differences)
    rank_of = {}
    correction = 0.0
    for size in set(sizes):
        places = [place for place, other in enumerate(sizes, start=1) if other == size]
        rank_of[size] = sum(places) / len(places)
        correction += (len(places) ** 3 - len(places)) / 48
    positive = sum(rank_of[abs(d)] for d in differences if d > 0)
    negative = sum(rank_of[abs(d)] for d in differences if d < 0)
    deviation = math.sqrt(n * (n + 1) * (2 * n + 1) / 24 - correction)
    z = (min(positive, negative) - n * (n + 1) / 4) / deviation
    return abs(z), math.erfc(abs(z) / math.sqrt(2))


def test_spss_on_ties_and_zeros() -> None:
    found = wilcoxon([1, 1, 1, 1, 1, 0, 0])
    assert (found.n, found.n_positive, found.n_negative) == (7, 5, 0)
    assert (found.w_positive, found.w_negative, found.effect) == (15, 0, 1)
    assert found.z == pytest.approx(math.sqrt(5))
    assert round(found.p, 4) == 0.0253
    assert found.exact_p == 1 / 16


def test_smallest_p_of_seven_pairs() -> None:
    found = wilcoxon([5] * 7, [4] * 7)
    assert round(found.p, 4) == 0.0082
    assert found.exact_p == 1 / 64


def test_published_example() -> None:
    found = wilcoxon(MAIZE)
    assert (found.w_positive, found.w_negative) == (96, 24)
    assert found.exact_p == pytest.approx(0.04125976562500, abs=1e-14)
    assert found.z == pytest.approx((96 - 60) / math.sqrt(310))
    assert found.effect == pytest.approx(0.6)


@pytest.mark.parametrize("seed", range(20))
def test_likert_scores_as_spss_computes_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 40))
    first = rng.integers(1, 6, n)
    second = np.clip(first + rng.choice([-1, 0, 0, 1, 1, 2], n), 1, 5)
    found = wilcoxon(second, first)
    z, p = by_hand(first.tolist(), second.tolist())
    assert abs(abs(found.z) - z) < 1e-10 and abs(found.p - p) < 1e-10
    options = {"zero_method": "wilcox", "correction": False, "method": "asymptotic"}
    assert found.p == pytest.approx(stats.wilcoxon(second, first, **options).pvalue, abs=1e-12)
    assert found.effect == pytest.approx(pingouin.wilcoxon(second, first)["RBC"].iloc[0], abs=1e-12)
    turned = wilcoxon(first, second)
    assert (turned.z, turned.effect) == pytest.approx((-found.z, -found.effect))


@pytest.mark.parametrize("differences", [[1, -1, 2, 2, -3], [1, 1, 1, -2, 0, 3, 3], [-1, -1, 2, 4, 4, 4, 5, 0]])
def test_exact_p_counts_all_signs(differences: list[int]) -> None:
    kept = [d for d in differences if d]
    ranks = stats.rankdata(np.abs(kept))
    sums = [sum(np.array(signs) * ranks) for signs in itertools.product((0, 1), repeat=len(kept))]
    seen = sum(rank for rank, d in zip(ranks, kept, strict=True) if d > 0)
    tail = min(np.mean([s <= seen for s in sums]), np.mean([s >= seen for s in sums]))
    assert wilcoxon(differences).exact_p == pytest.approx(min(1, 2 * tail), abs=1e-12)


def test_exact_p_stays_exact_for_hundreds_and_is_left_out_beyond() -> None:
    rng = np.random.default_rng(5)
    found = wilcoxon(rng.choice([-1, 1, 2], 400))
    assert found.exact_p == pytest.approx(found.p, rel=0.05)
    assert math.isnan(wilcoxon(rng.choice([-1, 1, 2], 501)).exact_p)


@pytest.mark.parametrize("differences", [[], [0], [0, 0, 0]])
def test_no_difference(differences: list[int]) -> None:
    found = wilcoxon(differences)
    assert (found.n, found.z, found.p, found.exact_p) == (len(differences), 0, 1, 1)
    assert math.isnan(found.effect)
    assert found.note == "No pair differs: Z = 0 and p = 1 by convention."


def test_input_is_left_alone() -> None:
    first, second = np.array([3, 4, 5]), np.array([2, 4, 4])
    wilcoxon(first, second)
    assert first.tolist() == [3, 4, 5] and second.tolist() == [2, 4, 4]


def test_bad_input() -> None:
    with pytest.raises(StudyError, match=r"one length, not shapes \(2,\) and \(3,\)"):
        wilcoxon([1, 2], [1, 2, 3])
    with pytest.raises(StudyError, match="leave out the cases with NaN or infinity"):
        wilcoxon([1, math.nan], [1, 2])


def test_holm() -> None:
    # by hand: 4 · 0.005, then 3 · 0.01, then 2 · 0.03; the last cannot be below the third
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    without = holm([0.01, math.nan, 0.04])
    assert without[[0, 2]] == pytest.approx([0.02, 0.04]) and math.isnan(without[1])
    assert holm([]).size == 0 and np.isnan(holm([math.nan])).all()


def test_power_is_that_of_the_test_itself() -> None:
    chances = {-1: 0.1, 0: 0.4, 1: 0.3, 2: 0.2}
    rng = np.random.default_rng(1)
    studies = rng.choice(list(chances), p=list(chances.values()), size=(3000, 12))
    found = map(wilcoxon, studies)
    share = np.mean([max(each.p, each.exact_p) < 0.05 for each in found])
    assert signed_rank_power(chances, 12) == pytest.approx(share, abs=0.03)


def test_fewer_than_six_cases_can_show_nothing() -> None:
    sure = likert_differences(4, 0.1)
    assert wilcoxon([4, 4, 4, 4]).p < 0.05 < wilcoxon([4, 4, 4, 4, 4]).exact_p
    assert [signed_rank_power(sure, n) for n in (4, 5, 6)] == [0, 0, 1]
    assert cases_needed(sure).n == 6 and cases_needed(sure, alpha=0.01).n == 8  # 2 / 2⁸ is the first below 0.01


def test_power_without_an_effect_is_the_level() -> None:
    chances = {-2: 0.1, -1: 0.2, 0: 0.4, 1: 0.2, 2: 0.1}
    assert signed_rank_power(chances, 100, repetitions=20000) == pytest.approx(0.05, abs=0.008)
    assert signed_rank_power({0: 1.0}, 30) == 0


def test_power_is_seeded_and_leaves_global_random_numbers_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert signed_rank_power([1, 0, -1, 1], 9, seed=3) == signed_rank_power([1, 0, -1, 1], 9, seed=3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_noether_by_hand() -> None:
    # P − ½ = (0.8² − 0.2²) / 2 = 0.3, so that n = (1.95996 + 0.84162)² / (3 · 0.09) = 29.07
    assert cases_needed({1: 0.8, -1: 0.2}).noether == 30
    assert cases_needed({1: 0.5, -1: 0.5}, largest=30).noether is None


def test_cases_needed() -> None:
    chances = likert_differences(0.5, 0.8)
    needed = cases_needed(chances)
    assert needed.n is not None and needed.power >= 0.8
    assert signed_rank_power(chances, needed.n) == needed.power
    assert signed_rank_power(chances, needed.n - 3) < 0.8
    # close to the paired t-test's number for the same difference, (z + z)² (SD / mean)² = 20.1, plus rounding's noise
    assert 20 <= needed.n <= 30
    more = cases_needed(chances, power=0.95).n
    assert more is not None and more > needed.n
    assert cases_needed([1, -1, 1, -1], largest=60).n is None


def test_likert_differences() -> None:
    chances = likert_differences(1.2, 0.7)
    values, shares = np.array(list(chances)), np.array(list(chances.values()))
    assert values.tolist() == list(range(-4, 5)) and shares.sum() == pytest.approx(1)
    mean = (values * shares).sum()
    assert mean == pytest.approx(1.2, abs=0.01)
    # rounding adds 1/12 to the variance
    assert (shares * (values - mean) ** 2).sum() == pytest.approx(0.49 + 1 / 12, abs=0.01)


def test_bad_power() -> None:
    with pytest.raises(StudyError, match="above 0, not 0"):
        likert_differences(1, 0)
    with pytest.raises(StudyError, match=r"between -4 and 4, not at 4\.5"):
        likert_differences(4.5, 1)
    with pytest.raises(StudyError, match=r"sum to 1, not 0\.5"):
        signed_rank_power({1: 0.5}, 10)
    with pytest.raises(StudyError, match="finite differences"):
        signed_rank_power([], 10)
    with pytest.raises(StudyError, match="between 0 and 1, not 80 and"):
        cases_needed([1, 2], power=80)
