"""Wilcoxon's signed-rank test with SPSS's conventions, Holm's adjustment, and how many cases it needs.

SPSS (NPAR TESTS, and the related-samples test of NPTESTS): zero differences are dropped, tied ones share their mean
rank, the variance is corrected for ties, and the two-sided p comes from the normal distribution without continuity
correction. SciPy's and pingouin's defaults differ.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sn2nlib.errors import StudyError

_NAN = float("nan")
_MOST_EXACT = 500  # non-zero differences; the null distribution of more takes long, and is normal
_FEW = 25  # non-zero differences; a power must not rest on the normal distribution alone up to here

NO_DIFFERENCE = "No pair differs: Z = 0 and p = 1 by convention."
ONE_TEST = "For one test of one reader’s scores; where p is adjusted for several (Holm), more cases are needed."


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test of a − b.

    Attributes
    ----------
    n
        Number of pairs.
    n_positive, n_negative
        Pairs with a > b and with a < b; the others are dropped.
    w_positive, w_negative
        Sums of their ranks.
    z
        Positive if a tends to be larger. (SPSS prints the same number with the sign of the smaller rank sum.)
    p
        Asymptotic, two-sided, ties corrected, without continuity correction.
    exact_p
        Two-sided, from all 2ⁿ signs of the same (tied) ranks; NaN beyond 500 non-zero differences.
    effect
        Matched-pairs rank-biserial correlation (W₊ − W₋) / (W₊ + W₋), from −1 to 1; NaN where no pair differs.
    note
        What a table must say with it; empty as a rule.
    """

    n: int
    n_positive: int
    n_negative: int
    w_positive: float
    w_negative: float
    z: float
    p: float
    exact_p: float
    effect: float
    note: str = ""


def wilcoxon(a: ArrayLike, b: ArrayLike | None = None) -> SignedRank:
    """Wilcoxon's signed-rank test of paired values, as SPSS computes it.

    With n non-zero differences d, ranks R of |d| (ties: their mean), and t the sizes of the groups of ties:

    1. W₊ = Σ R over d > 0, with mean μ = n (n + 1) / 4 under the null hypothesis;
    2. σ² = n (n + 1) (2n + 1) / 24 − Σ (t³ − t) / 48;
    3. Z = (W₊ − μ) / σ and p = 2 Φ(−|Z|).

    The exact p is conditional on the ranks found: twice the smaller tail of the distribution of W₊, 1 at most.

    Parameters
    ----------
    a, b
        (n,) one value per case, in the same order; without `b`, `a` holds the differences.

    Returns
    -------
    With no non-zero difference Z = 0 and p = 1, and a note; so with no pairs at all.

    Raises
    ------
    StudyError
        For lengths that differ, or values that are not finite.

    References
    ----------
    Wilcoxon F. Individual comparisons by ranking methods. Biometrics Bulletin 1945;1:80-83. IBM SPSS Statistics
    Algorithms, NPAR TESTS, Wilcoxon matched-pairs signed-rank test. Effect size: Kerby DS. The simple difference
    formula. Comprehensive Psychology 2014;3:1.
    """
    a = np.asarray(a, dtype=np.float64)
    difference = a if b is None else _difference(a, np.asarray(b, dtype=np.float64))
    if difference.ndim != 1 or not np.isfinite(difference).all():
        raise StudyError("The signed-rank test needs a list of finite values; leave out the cases with NaN or infinity")
    kept = difference[difference != 0]
    n, positive = len(kept), kept > 0
    if not n:
        return SignedRank(len(difference), 0, 0, 0.0, 0.0, 0.0, 1.0, 1.0, _NAN, NO_DIFFERENCE)
    ranks = stats.rankdata(np.abs(kept))
    higher, lower = float(ranks[positive].sum()), float(ranks[~positive].sum())
    ties = np.unique(ranks, return_counts=True)[1].astype(np.float64)
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((ties**3 - ties).sum()) / 48
    z = (higher - n * (n + 1) / 4) / math.sqrt(variance)
    return SignedRank(
        n=len(difference), n_positive=int(positive.sum()), n_negative=int((~positive).sum()), w_positive=higher,
        w_negative=lower, z=z, p=2 * float(stats.norm.sf(abs(z))), exact_p=_exact_p(ranks, higher),
        effect=(higher - lower) / (higher + lower),
    )  # fmt: skip


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values adjusted for their number by Holm's step-down method (Scand J Statist 1979;6:65-70).

    Parameters
    ----------
    p_values
        (n,) of one family of tests; NaN stands for a test that could not be made, and does not count.

    Returns
    -------
    (n,) float64, in the same order.
    """
    from statsmodels.stats.multitest import multipletests  # 1 s, and few commands need it

    values = np.asarray(p_values, dtype=np.float64)
    adjusted, made = np.full(values.shape, _NAN), np.isfinite(values)
    if made.any():
        adjusted[made] = multipletests(values[made], method="holm")[1]
    return adjusted


@dataclass(frozen=True)
class CasesNeeded:
    """How many cases the signed-rank test needs.

    Attributes
    ----------
    n
        Smallest number of cases that reached the power in simulation; None if even the largest did not.
    power
        Simulated power at n (at the largest number tried, where n is None).
    noether
        Number from Noether's formula, which knows of ties only through the probability; None if it is undefined.
    tried
        Largest number of cases that was to be tried.
    """

    n: int | None
    power: float
    noether: int | None
    tried: int


def likert_differences(mean: float, sd: float) -> dict[int, float]:
    """Probabilities of the differences −4 … 4 between two five-point scores, from a mean and an SD.

    A normal distribution rounded to whole numbers; what lies beyond ±4 counts as ±4.

    Raises
    ------
    StudyError
        If the SD is not above 0, or the mean is none that scores from 1 to 5 can have.
    """
    if not sd > 0:
        raise StudyError(f"The SD of the differences must be above 0, not {sd}")
    if not -4 <= mean <= 4:
        raise StudyError(f"The mean difference of two scores from 1 to 5 lies between -4 and 4, not at {mean:g}")
    edges = np.array([-np.inf, *np.arange(-3.5, 4), np.inf])
    shares = np.diff(stats.norm.cdf(edges, loc=mean, scale=sd))
    return dict(zip(range(-4, 5), map(float, shares), strict=True))


def signed_rank_power(
    differences: Mapping[int, float] | ArrayLike, n: int, *, alpha: float = 0.05, repetitions: int = 4000, seed: int = 0
) -> float:
    """Share of simulated studies of `n` cases whose signed-rank test (as `wilcoxon` computes it) gives p < `alpha`.

    Up to 25 non-zero differences the exact p must be below `alpha` as well: the asymptotic one of four equal
    differences is 0.046 already, but no test of fewer than six can be significant at 0.05.

    Parameters
    ----------
    differences
        Probability of every possible difference between the two arms, or the differences of a pilot study, each as
        probable as it was frequent.
    n
        Number of cases.
    alpha
        Level of the two-sided test.
    repetitions
        Number of simulated studies; the standard error of the power is at most 0.5 / √repetitions.
    seed
        Same seed, same result.

    Raises
    ------
    StudyError
        If probabilities are negative or do not sum to 1, or there are no differences.
    """
    values, probabilities = _distribution(differences)
    drawn = np.random.default_rng([seed, n]).multinomial(n, probabilities, size=repetitions).astype(np.float64)
    sizes = np.unique(np.abs(values[values != 0]))
    # of every simulated study: how many differences of each size, and how many of them are positive
    tied = drawn @ (np.abs(values)[:, None] == sizes)
    positive = drawn @ (values[:, None] == sizes)
    ranks = np.cumsum(tied, axis=1) - (tied - 1) / 2
    kept = tied.sum(axis=1)
    variance = kept * (kept + 1) * (2 * kept + 1) / 24 - (tied**3 - tied).sum(axis=1) / 48
    excess = np.abs((positive * ranks).sum(axis=1) - kept * (kept + 1) / 4)
    found = excess > stats.norm.isf(alpha / 2) * np.sqrt(variance)
    few = found & (kept <= _FEW)
    found[few] = _exact_p_values(tied[few], ranks[few], (positive * ranks).sum(axis=1)[few]) < alpha
    return float(found.mean())


def cases_needed(
    differences: Mapping[int, float] | ArrayLike,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    largest: int = 1000,
    repetitions: int = 4000,
    seed: int = 0,
) -> CasesNeeded:
    """How many cases the signed-rank test needs to find a difference between two arms.

    By simulation of ordinal scores (`signed_rank_power`): the number is doubled until it reaches the power, up to
    `largest`, then found by bisection. It is for one test: where p-values are adjusted for their number, as by `holm`,
    more cases are needed. Beside it stands Noether's formula
    n = (z(1 − α/2) + z(power))² / (3 (P − ½)²), P the probability that the sum of two independent differences is
    positive (a sum of zero counts half).

    Parameters
    ----------
    differences, alpha, repetitions, seed
        As in `signed_rank_power`; `likert_differences` makes them from a mean and an SD.
    power
        Wanted probability of p < `alpha`.

    Raises
    ------
    StudyError
        If power or alpha lie outside (0, 1), or the probabilities are none.

    References
    ----------
    Noether GE. Sample size determination for some common nonparametric tests. J Am Stat Assoc 1987;82:645-647.
    """
    if not (0 < power < 1 and 0 < alpha < 1):
        raise StudyError(f"Power and alpha must lie between 0 and 1, not {power} and {alpha}")

    def reached(n: int) -> float:
        return signed_rank_power(differences, n, alpha=alpha, repetitions=repetitions, seed=seed)

    formula = _noether(differences, power=power, alpha=alpha)
    low, high = 1, min(8, largest)
    while (found := reached(high)) < power:
        if high == largest:
            return CasesNeeded(None, found, formula, largest)
        low, high = high, min(2 * high, largest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= power else (middle, high)
    return CasesNeeded(high, reached(high), formula, largest)


def describe_needed(needed: CasesNeeded) -> str:
    """The number of cases, and Noether's, and what they are for."""
    noether = "undefined" if needed.noether is None else str(needed.noether)
    told = f"{needed.n} cases (simulated power {needed.power:.2f})"
    if needed.n is None:
        told = f"More than the {needed.tried} cases that were tried (simulated power {needed.power:.2f} there)"
    return f"{told}; by Noether's formula: {noether}\n{ONE_TEST}"


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.ndim != 1 or a.shape != b.shape:
        raise StudyError(f"The signed-rank test needs two lists of one length, not shapes {a.shape} and {b.shape}")
    return a - b


def _exact_p(ranks: np.ndarray, higher: float) -> float:
    if len(ranks) > _MOST_EXACT:
        return _NAN
    return float(_two_sided(ranks)[round(2 * higher)])


def _two_sided(ranks: np.ndarray) -> np.ndarray:
    """Exact two-sided p of every W₊ that these ranks can have: of 0, ½, 1, 1½ …"""
    doubled = np.rint(2 * ranks).astype(np.int64)  # mean ranks are halves
    shares = np.ones(1)
    for rank in doubled:  # each rank is positive or negative, as likely as not
        nothing = np.zeros(rank)
        shares = (np.concatenate([shares, nothing]) + np.concatenate([nothing, shares])) / 2
    return np.minimum(1.0, 2 * np.minimum(np.cumsum(shares), np.cumsum(shares[::-1])[::-1]))


def _exact_p_values(tied: np.ndarray, ranks: np.ndarray, higher: np.ndarray) -> np.ndarray:
    """Exact p of (studies,) sums W₊, from (studies, sizes) numbers of equal differences and the ranks they share."""
    p_values = np.ones(len(tied))
    kinds, first, kind_of = np.unique(tied, axis=0, return_index=True, return_inverse=True)
    for kind in range(len(kinds)):
        chosen = kind_of.ravel() == kind
        possible = _two_sided(np.repeat(ranks[first[kind]], kinds[kind].astype(np.int64)))
        p_values[chosen] = possible[np.rint(2 * higher[chosen]).astype(np.int64)]
    return p_values


def _distribution(differences: Mapping[int, float] | ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Possible differences and their probabilities."""
    if not isinstance(differences, Mapping):
        values, counts = np.unique(np.asarray(differences, dtype=np.float64), return_counts=True)
        if not values.size or not np.isfinite(values).all():
            raise StudyError("The power needs finite differences between the two arms")
        return values, counts / counts.sum()
    values, shares = (np.array(list(part), dtype=np.float64) for part in (differences.keys(), differences.values()))
    if not shares.size or (shares < 0).any() or not math.isclose(shares.sum(), 1, abs_tol=1e-6):
        raise StudyError(f"The probabilities of the differences must be positive and sum to 1, not {shares.sum():g}")
    return values, shares / shares.sum()


def _noether(differences: Mapping[int, float] | ArrayLike, *, power: float, alpha: float) -> int | None:
    values, probabilities = _distribution(differences)
    sums = np.sign(values[:, None] + values[None, :])
    advantage = float((probabilities[:, None] * probabilities[None, :] * sums).sum()) / 2  # P − ½
    if abs(advantage) < 1e-12:
        return None
    quantiles = float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power))
    return math.ceil(quantiles**2 / (3 * advantage**2))
