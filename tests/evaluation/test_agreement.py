"""Agreement of two readers: published examples, two other libraries, and what is undefined."""

import math
import warnings
from collections import Counter
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.agreement import agreement_weights
from sn2nlib.evaluation.statistics import bootstrap_kappa, gwet_ac2, kappa_band, weighted_kappa

# two dermatologists, four grades; documentation of SAS, PROC FREQ, "Agreement Study"
SKIN = [[10, 4, 1, 0], [5, 10, 12, 2], [2, 4, 12, 5], [0, 2, 6, 13]]
# three diagnoses; Fleiss, Statistical methods for rates and proportions, 2nd ed. 1981, p. 213
DIAGNOSES = [[75, 1, 4], [5, 4, 1], [0, 0, 10]]
# two abstractors, three categories; Gwet's package irrCAC, "cont3x3abstractors"
ABSTRACTORS = [[13, 0, 0], [0, 20, 7], [0, 4, 56]]
# two ways of diagnosis, four categories; irrCAC, "cont4x4diagnosis"
METHODS = [[40, 4, 4, 17], [6, 25, 2, 13], [4, 1, 21, 12], [15, 5, 9, 45]]
# the paradox of κ; Gwet, Statistical methods for inter-rater reliability assessment 2002;1, table 1
PARADOX = [[118, 5], [2, 0]]


def ratings(table: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    counts = np.array(table)
    first, second = (place.ravel() + 1 for place in np.indices(counts.shape))
    return np.repeat(first, counts.ravel()), np.repeat(second, counts.ravel())


def test_dermatologists() -> None:
    a, b = ratings(SKIN)
    plain = weighted_kappa(a, b, categories=(1, 2, 3, 4), weights="none")
    assert [round(value, 4) for value in (plain.kappa, plain.se, plain.low, plain.high)] == [
        0.3449,
        0.0724,
        0.203,
        0.4868,
    ]
    assert round(plain.null_se, 4) == 0.0612 and round(plain.z, 4) == 5.6366
    linear = weighted_kappa(a, b, categories=(1, 2, 3, 4))
    numbers = [round(value, 4) for value in (linear.kappa, linear.se, linear.low, linear.high)]
    assert numbers == [0.5082, 0.0655, 0.3798, 0.6366]
    assert linear.band == "moderate" and linear.percent_agreement == pytest.approx(100 * 45 / 88)


def test_diagnoses() -> None:
    found = weighted_kappa(*ratings(DIAGNOSES), categories=(1, 2, 3), weights="none")
    assert found.kappa == pytest.approx((0.89 - 0.66) / (1 - 0.66))
    assert found.null_se == pytest.approx(0.076, abs=5e-4)


def random_table(rng: np.random.Generator) -> np.ndarray:
    """(5, 5) counts of 6 to 59 images, more of them on the diagonal."""
    shares = rng.dirichlet(np.full(25, 0.3)).reshape(5, 5) + np.diag(rng.dirichlet(np.full(5, 0.5)))
    return rng.multinomial(int(rng.integers(6, 60)), shares.ravel() / shares.sum()).reshape(5, 5)


def test_a_thousand_tables_in_two_other_libraries() -> None:
    rng = np.random.default_rng(7)
    compared = undefined = 0
    while compared < 1000:
        table = random_table(rng)
        a, b = ratings(table.tolist())
        if len(set(a)) < 2 or len(set(b)) < 2:
            assert {weighted_kappa(a, b, weights=weights).band for weights in ("linear", "quadratic")} == {"undefined"}
            undefined += 1
            continue
        for weights in ("linear", "quadratic"):
            found, other = weighted_kappa(a, b, weights=weights), cohens_kappa(table, wt=weights)
            assert abs(found.kappa - other.kappa) < 1e-12
            assert abs(found.se - math.sqrt(max(other.var_kappa, 0))) < 1e-7  # a root of rounding where κ = 1
            assert abs(found.null_se - math.sqrt(other.var_kappa0)) < 1e-12
            assert abs(found.p - other.pvalue_two_sided) < 1e-12
            assert abs(found.kappa - cohen_kappa_score(a, b, labels=[1, 2, 3, 4, 5], weights=weights)) < 1e-12
        compared += 1
    assert undefined > 0, "no table was one in which κ is undefined"


@pytest.mark.parametrize("weights", ["linear", "quadratic"])
def test_unused_grades_do_not_change_the_weights(weights: str) -> None:
    a, b = [3, 4, 5, 5, 4, 3, 5, 4], [3, 4, 4, 5, 5, 3, 5, 3]
    whole = weighted_kappa(a, b, weights=weights).kappa
    # one step of the five-point scale costs a quarter, or a sixteenth, whatever was used
    step = {"linear": 1 / 4, "quadratic": 1 / 16}[weights]
    assert agreement_weights(5, weights)[0, 1] == pytest.approx(1 - step)
    assert whole == pytest.approx(cohen_kappa_score(a, b, labels=[1, 2, 3, 4, 5], weights=weights))
    swapped = np.array([1, 2, 3]), np.array([1, 2, 2])
    moved = weighted_kappa(swapped[0] + 2, swapped[1] + 2, weights=weights)
    assert moved.kappa == pytest.approx(weighted_kappa(*swapped, weights=weights).kappa)


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ([5, 5, 5], [5, 5, 5], "both gave 5 to all images"),
        ([5, 5, 5], [4, 4, 4], "the first gave 5 to all images and the second gave 4 to all images"),
        ([5, 5, 5], [5, 4, 5], "the first gave 5 to all images"),
        ([3, 4], [2, 2], "the second gave 2 to all images"),
        ([], [], "there are no pairs of grades"),
    ],
)
def test_constant_grades_are_undefined(a: list[int], b: list[int], why: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = weighted_kappa(a, b)
        interval = bootstrap_kappa(a, b, range(len(a)), resamples=50)
    assert found.note == f"κ is undefined: {why}." and found.band == "undefined" and found.doubtful
    assert all(map(math.isnan, (found.kappa, found.se, found.low, found.high, found.null_se, found.z, found.p)))
    assert math.isnan(interval.low) and interval.n_defined == 0
    same = np.mean(np.array(a) == np.array(b)) * 100 if a else math.nan
    assert found.percent_agreement == pytest.approx(same, nan_ok=True)


def test_bands() -> None:
    limits = {
        -0.3: "poor", 0.2: "poor", 0.21: "fair", 0.4: "fair", 0.41: "moderate", 0.6: "moderate", 0.61: "substantial",
        0.8: "substantial", 0.81: "almost perfect", 1.0: "almost perfect", math.nan: "undefined",
    }  # fmt: skip
    assert {kappa: kappa_band(kappa) for kappa in limits} == limits


def test_perfect_agreement() -> None:
    found = weighted_kappa([1, 2, 3, 5], [1, 2, 3, 5])
    assert (found.kappa, found.band, found.percent_agreement) == (pytest.approx(1), "almost perfect", 100)
    assert (found.low, found.high) == pytest.approx((1, 1))


def test_paradox_and_ac1() -> None:
    a, b = ratings(PARADOX)
    kappa = weighted_kappa(a, b, categories=(1, 2), weights="none")
    assert round(kappa.kappa, 4) == -0.0234
    assert kappa.doubtful and "94 % of the grades are the same" in kappa.note
    # chance: 2 · 0.972 · 0.028, so that AC1 = (0.944 − 0.0544) / (1 − 0.0544)
    ac1 = gwet_ac2(a, b, categories=(1, 2), weights="none")
    assert ac1.ac2 == pytest.approx((0.944 - 2 * 0.972 * 0.028) / (1 - 2 * 0.972 * 0.028))


def test_ac1_of_irrcac() -> None:
    a, b = ratings(ABSTRACTORS)
    found = gwet_ac2(a, b, categories=(1, 2, 3), weights="none")
    assert found.ac2 == pytest.approx(0.8493305, abs=5e-8)
    # irrCAC divides by n² from a table of counts and by n (n − 1) from raw ratings
    assert found.se * math.sqrt(99 / 100) == pytest.approx(0.04321747, abs=5e-9)
    assert weighted_kappa(a, b, categories=(1, 2, 3), weights="none").kappa == pytest.approx(0.7964094, abs=5e-8)


@pytest.mark.parametrize(
    ("table", "weights", "ac2", "low", "high"),
    [
        (ABSTRACTORS, "linear", 0.900, 0.842, 0.958),
        (ABSTRACTORS, "quadratic", 0.940, 0.905, 0.976),
        (METHODS, "linear", 0.377, 0.267, 0.488),
        (METHODS, "quadratic", 0.299, 0.150, 0.447),
    ],
)
def test_ac2_of_irrcac(table: list[list[int]], weights: str, ac2: float, low: float, high: float) -> None:
    found = gwet_ac2(*ratings(table), categories=range(1, len(table) + 1), weights=weights)
    assert round(found.ac2, 3) == ac2
    # n² again, as in `test_ac1_of_irrcac`
    half = (found.high - found.ac2) * math.sqrt((found.n - 1) / found.n)
    assert (round(found.ac2 - half, 3), round(found.ac2 + half, 3)) == (low, high)


@pytest.mark.parametrize("weights", ["linear", "quadratic", "none"])
def test_ac2_is_what_more_agreement_there_is_than_by_chance(weights: str) -> None:
    """From its meaning, image by image: two readings agree by chance where one of them is a guess.

    A guess hits any grade alike, and so the credit of two different grades is the mean over all pairs of grades, paid
    as often as two grades drawn from all that were given differ. The standard error is that of the linear part, got by
    leaving every image out in turn, of a large sample.
    """
    rng = np.random.default_rng(3)
    a = rng.integers(2, 6, 4000)
    b = np.clip(a + rng.choice([-1, 0, 0, 1, 2], len(a)), 1, 5)

    def credit(one: int, two: int) -> float:
        power = {"linear": 1, "quadratic": 2, "none": 0}[weights]
        return 1 - (abs(one - two) / 4) ** power if power else float(one == two)

    def ac2(first: np.ndarray, second: np.ndarray) -> float:
        agreed = Counter(zip(first.tolist(), second.tolist(), strict=True))
        observed = sum(count * credit(*pair) for pair, count in agreed.items()) / len(first)
        guess = sum(credit(one, two) for one in range(1, 6) for two in range(1, 6)) / 25
        given = Counter([*first.tolist(), *second.tolist()])
        total = sum(given.values())
        differ = sum(given[one] * given[two] for one in given for two in given if one != two) / total**2
        chance = guess * differ / (1 - 1 / 5)
        return (observed - chance) / (1 - chance)

    found = gwet_ac2(a, b, weights=weights)
    assert found.ac2 == pytest.approx(ac2(a, b), rel=1e-12)
    parts, place = np.array_split(np.arange(len(a)), 200), np.arange(len(a))
    left_out = np.array([ac2(a[~np.isin(place, part)], b[~np.isin(place, part)]) for part in parts])
    jackknife = math.sqrt(199 / 200 * ((left_out - left_out.mean()) ** 2).sum())
    assert found.se == pytest.approx(jackknife, rel=0.12)
    assert found.low < found.ac2 < found.high <= 1


def test_ac2_where_kappa_is_undefined() -> None:
    found = gwet_ac2([5, 5, 5, 5], [5, 5, 5, 5])
    assert (found.ac2, found.se, found.low, found.high) == (1, 0, 1, 1)
    assert 0.8 < gwet_ac2([5, 5, 5, 5], [5, 5, 5, 4]).ac2 < 1
    nobody, one = gwet_ac2([], []), gwet_ac2([4], [4])
    assert math.isnan(nobody.ac2) and nobody.note == "AC2 is undefined: there are no pairs of grades."
    assert one.ac2 == 1 and math.isnan(one.se) and "no standard error" in one.note


def test_bootstrap_draws_the_arms_of_a_case_together() -> None:
    rng = np.random.default_rng(11)
    truth = rng.integers(1, 6, 40)
    a, b = (np.clip(truth + rng.choice([-1, 0, 1], 40), 1, 5) for _ in range(2))
    cases = np.arange(40)
    single = bootstrap_kappa(a, b, cases)
    doubled = bootstrap_kappa(np.tile(a, 2), np.tile(b, 2), np.tile(cases, 2))
    # the second arm repeats the first: by cases it tells nothing new
    assert (doubled.low, doubled.high) == pytest.approx((single.low, single.high))
    apart = bootstrap_kappa(np.tile(a, 2), np.tile(b, 2), np.arange(80))
    assert apart.high - apart.low < 0.85 * (single.high - single.low)
    found = weighted_kappa(a, b)
    assert single.low < found.kappa < single.high
    assert single.high - single.low == pytest.approx(found.high - found.low, rel=0.15)


def test_bootstrap_is_one_resample_after_the_other() -> None:
    a, b, cases = [5, 4, 3, 5, 4, 4], [5, 4, 4, 4, 4, 3], np.array(["p", "p", "q", "q", "r", "r"])
    found = bootstrap_kappa(a, b, cases, resamples=200, seed=4, confidence=0.9)
    drawn = np.random.default_rng(4).multinomial(3, [1 / 3] * 3, size=200)
    kappas = []
    for counts in drawn:
        rows = np.repeat(np.arange(6), counts[[0, 0, 1, 1, 2, 2]])
        kappas.append(weighted_kappa(np.array(a)[rows], np.array(b)[rows]).kappa)
    defined = [kappa for kappa in kappas if not math.isnan(kappa)]
    assert found.n_defined == len(defined)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(defined, [0.05, 0.95])))


def test_bootstrap_is_seeded_and_leaves_global_random_numbers_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b = [1, 2, 3, 4, 5, 4], [1, 2, 2, 4, 5, 5]
    assert bootstrap_kappa(a, b, range(6), seed=1) == bootstrap_kappa(a, b, range(6), seed=1)
    assert bootstrap_kappa(a, b, range(6), seed=1) != bootstrap_kappa(a, b, range(6), seed=2)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_bad_input() -> None:
    with pytest.raises(StudyError, match="Grades must be a list of 1, 2, 3, 4, 5, without 0, 6"):
        weighted_kappa([0, 5, 6], [1, 2, 3])
    with pytest.raises(StudyError, match="as long, not 2 and 3"):
        weighted_kappa([1, 2], [1, 2, 3])
    with pytest.raises(StudyError, match="linear, quadratic or none"):
        weighted_kappa([1, 2], [1, 2], weights="cubic")
    with pytest.raises(StudyError, match="as many: 2, 2, 3"):
        bootstrap_kappa([1, 2], [1, 2], [1, 2, 3])
    with pytest.raises(StudyError, match="as long, not 2 and 1"):
        gwet_ac2([1, 2], [1])
    for measured in (weighted_kappa, gwet_ac2, partial(bootstrap_kappa, cases=[1, 2])):
        with pytest.raises(StudyError, match="confidence must lie between 0 and 1, not 2"):
            measured([1, 2], [1, 2], confidence=2)
