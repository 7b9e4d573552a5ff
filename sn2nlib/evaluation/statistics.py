"""The study's tests: paired t, one-way ANOVA, χ² here; those of the readers' scores from their own modules.

A test that its groups cannot carry (one scan, one group, no spread) is undefined: its numbers are NaN,
without a warning, and never 0 or 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.agreement import (
    Ac2,
    Interval,
    Kappa,
    bootstrap_kappa,
    check_confidence,
    gwet_ac2,
    kappa_band,
    weighted_kappa,
)
from sn2nlib.evaluation.signed_rank import (
    CasesNeeded,
    SignedRank,
    cases_needed,
    describe_needed,
    holm,
    likert_differences,
    signed_rank_power,
    wilcoxon,
)

__all__ = [
    "Ac2", "CasesNeeded", "GroupTest", "Interval", "Kappa", "PairedT", "SignedRank", "anova", "anova_from_summaries",
    "bootstrap_kappa", "cases_needed", "chi2_from_counts", "describe_needed", "gwet_ac2", "holm", "kappa_band",
    "likert_differences", "paired_t", "signed_rank_power", "weighted_kappa", "wilcoxon",
]  # fmt: skip

_NAN = float("nan")


@dataclass(frozen=True)
class PairedT:
    """Paired t-test of a − b.

    Attributes
    ----------
    n
        Number of pairs.
    mean, sd
        Mean and sample SD (n − 1) of the differences a − b.
    t, df, p
        Student's t, its degrees of freedom n − 1, and the two-sided p.
    low, high
        Confidence interval of the mean difference.
    confidence
        Level of that interval.
    """

    n: int
    mean: float
    sd: float
    t: float
    df: int
    p: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class GroupTest:
    """Test of k groups: `statistic` is F or χ², `df` its degrees of freedom (two for F, one for χ²)."""

    statistic: float
    df: tuple[int, ...]
    p: float


def paired_t(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> PairedT:
    """Two-sided paired t-test of the mean of a − b against 0.

    Parameters
    ----------
    a, b
        (n,) one value per scan, in the same order.
    confidence
        Level of the confidence interval, between 0 and 1.

    Returns
    -------
    With fewer than two pairs sd, t, p and the interval are NaN; where all differences are equal t and p are
    NaN, as the standard error is 0. No pairs at all leave the mean NaN too.

    Raises
    ------
    StudyError
        For lengths that differ, values that are not finite, or a confidence outside (0, 1).
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise StudyError(f"A paired test needs two lists of one length, not shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        place = int(np.flatnonzero(~(np.isfinite(a) & np.isfinite(b)))[0])
        raise StudyError(f"A paired test needs finite values; leave out pair {place}, {a[place]:g} and {b[place]:g}")
    check_confidence(confidence)
    n, difference = len(a), a - b
    mean = float(difference.mean()) if n else _NAN
    if n < 2:
        return PairedT(n, mean, _NAN, _NAN, max(n - 1, 0), _NAN, _NAN, _NAN, confidence)
    sd = float(difference.std(ddof=1))
    error = sd / math.sqrt(n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    # equal differences leave an SD of rounding size: no evidence, and no t of 10^15
    flat = sd <= 8 * np.finfo(np.float64).eps * float(np.max(np.abs([a, b])))
    t = _NAN if flat else mean / error
    p = _NAN if flat else 2 * float(stats.t.sf(abs(t), n - 1))
    return PairedT(n, mean, sd, t, n - 1, p, mean - half, mean + half, confidence)


def anova(groups: Sequence[ArrayLike]) -> GroupTest:
    """One-way ANOVA of the groups' own values; groups without values are left out.

    Raises
    ------
    StudyError
        For values that are not finite.
    """
    values = [np.asarray(group, dtype=np.float64) for group in groups]
    if not all(np.isfinite(group).all() for group in values):
        raise StudyError("The analysis of variance needs finite values; drop the missing ones first")
    values = [group for group in values if group.size]
    return anova_from_summaries(
        [group.size for group in values],
        [float(group.mean()) for group in values],
        # one value has no spread of its own, and adds none
        [float(group.std(ddof=1)) if group.size > 1 else 0.0 for group in values],
    )


def anova_from_summaries(n: Sequence[int], mean: Sequence[float], sd: Sequence[float]) -> GroupTest:
    """One-way ANOVA from group sizes, means and sample SDs: F = MS_between / MS_within.

    Parameters
    ----------
    n, mean, sd
        (k,) one entry per group; the SD of a group of one is not used.

    Returns
    -------
    F with df (k − 1, N − k); NaN with fewer than two groups, no degree of freedom within them, or no spread.

    Raises
    ------
    StudyError
        For lists of unequal length, a size below 1, or values that are not finite.
    """
    if not len(n) == len(mean) == len(sd):
        raise StudyError(f"Sizes, means and SDs must be as many: {len(n)}, {len(mean)}, {len(sd)}")
    sizes, means = np.asarray(n, dtype=np.float64), np.asarray(mean, dtype=np.float64)
    spread = np.where(sizes > 1, np.asarray(sd, dtype=np.float64), 0.0)
    if (sizes < 1).any() or not (np.isfinite(means).all() and np.isfinite(spread).all()):
        raise StudyError("Every group needs a size of at least 1 and a finite mean and SD")
    between, within = len(sizes) - 1, int(sizes.sum()) - len(sizes)
    inner = float(((sizes - 1) * spread**2).sum())
    if between < 1 or within < 1 or inner == 0:
        return GroupTest(_NAN, (max(between, 0), max(within, 0)), _NAN)
    grand = (sizes * means).sum() / sizes.sum()
    f = float((sizes * (means - grand) ** 2).sum()) / between / (inner / within)
    return GroupTest(f, (between, within), float(stats.f.sf(f, between, within)))


def chi2_from_counts(counts: ArrayLike) -> GroupTest:
    """Pearson's χ² of independence, without continuity correction.

    Parameters
    ----------
    counts
        (groups, categories) whole numbers. Groups and categories without any count are left out.

    Returns
    -------
    χ² with (groups − 1)·(categories − 1) degrees of freedom; NaN where fewer than two of either remain.

    Raises
    ------
    StudyError
        For negative or fractional counts, or a table that has not two axes.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or not np.array_equal(table, np.abs(np.round(table))):
        raise StudyError(f"χ² needs whole counts with the axes (groups, categories); got shape {table.shape}")
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    df = max((table.shape[0] - 1) * (table.shape[1] - 1), 0) if table.size else 0
    if df == 0:
        return GroupTest(_NAN, (0,), _NAN)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    value = float(((table - expected) ** 2 / expected).sum())
    return GroupTest(value, (df,), float(stats.chi2.sf(value, df)))
