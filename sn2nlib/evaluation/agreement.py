"""How far two readings of the same images agree: weighted κ with its intervals, and Gwet's AC2.

What cannot be computed is undefined (NaN, with a sentence that says why), never 0 or 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.readers.criteria import SCORES

UNDEFINED = "undefined"

_NAN = float("nan")
_BANDS = ((0.2, "poor"), (0.4, "fair"), (0.6, "moderate"), (0.8, "substantial"), (1.0, "almost perfect"))
_EXPONENTS = {"linear": 1, "quadratic": 2}
_PARADOX_AGREEMENT, _PARADOX_KAPPA = 80.0, 0.4


@dataclass(frozen=True)
class Kappa:
    """Cohen's weighted κ of two readings.

    Attributes
    ----------
    n
        Number of images.
    kappa
        NaN where undefined.
    se, low, high
        Standard error where κ is not 0, and the confidence interval from it, cut at 1.
    null_se, z, p
        Standard error where κ is 0, κ over it, and the two-sided p.
    band
        poor ≤ 0.20 < fair ≤ 0.40 < moderate ≤ 0.60 < substantial ≤ 0.80 < almost perfect; or undefined.
    percent_agreement
        Images with the very same grade, in percent.
    weights, confidence
        As asked for.
    note
        Why κ is undefined, or that it is paradoxical; empty as a rule.
    """

    n: int
    kappa: float
    se: float
    low: float
    high: float
    null_se: float
    z: float
    p: float
    band: str
    percent_agreement: float
    weights: str
    confidence: float
    note: str = ""

    @property
    def doubtful(self) -> bool:
        """Whether κ is undefined or paradoxical, so that another coefficient must stand beside it."""
        return bool(self.note)


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval: low, high, and in how many resamples the value was defined."""

    low: float
    high: float
    n_defined: int


@dataclass(frozen=True)
class Ac2:
    """Gwet's AC2 of two readings: value, standard error and confidence interval (NaN where undefined), and a note."""

    n: int
    ac2: float
    se: float
    low: float
    high: float
    weights: str
    confidence: float
    note: str = ""


def agreement_weights(n_grades: int, weights: str) -> np.ndarray:
    """Credit for grades i and j: 1 − (|i − j| / (k − 1))ᵉ, e = 1 (linear) or 2 (quadratic); none: only for i = j.

    The scale decides, not the grades that were used.

    Returns
    -------
    (k, k) float64

    Raises
    ------
    StudyError
        For other weights, or fewer than two grades.
    """
    if weights not in (*_EXPONENTS, "none") or n_grades < 2:
        raise StudyError(f"Weights must be linear, quadratic or none, over two grades or more, not {weights!r}")
    distance = np.abs(np.subtract.outer(np.arange(n_grades), np.arange(n_grades))) / (n_grades - 1)
    return np.eye(n_grades) if weights == "none" else 1 - distance ** _EXPONENTS[weights]


def check_confidence(confidence: float) -> None:
    """A StudyError unless the level of an interval lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise StudyError(f"The confidence must lie between 0 and 1, not {confidence}")


def weighted_kappa(
    a: ArrayLike,
    b: ArrayLike,
    *,
    categories: Sequence[int] = SCORES,
    weights: str = "linear",
    confidence: float = 0.95,
) -> Kappa:
    """Cohen's weighted κ between two readings of the same images.

    With w the agreement weights, p the table of relative frequencies and r, c its margins:

    1. p_o = Σ w p and p_e = Σ w r cᵀ; κ = (p_o − p_e) / (1 − p_e);
    2. u_i = Σ_j w_ij c_j and v_j = Σ_i w_ij r_i; variance for the interval
       {Σ p_ij [w_ij (1 − p_e) − (u_i + v_j)(1 − p_o)]² − (p_o p_e − 2 p_e + p_o)²} / (n (1 − p_e)⁴);
    3. variance under κ = 0, for p: {Σ r_i c_j [w_ij − (u_i + v_j)]² − p_e²} / (n (1 − p_e)²).

    κ is undefined where a reader gave one grade to all images: agreement and chance agreement are then the same,
    whatever the other reader did. It is paradoxical (Feinstein and Cicchetti) where at least 80 % of the grades are
    the same and yet κ ≤ 0.40: nearly all images have one grade, and chance is taken to explain the agreement.

    Parameters
    ----------
    a, b
        (n,) grades, in the same order.
    categories
        The whole scale, worst to best; grades that nobody gave belong to it.
    weights
        linear, quadratic, or none (Cohen's unweighted κ).
    confidence
        Level of the interval.

    Raises
    ------
    StudyError
        For lengths that differ, a grade that is not on the scale, or a confidence outside (0, 1).

    References
    ----------
    Cohen J. Weighted kappa. Psychol Bull 1968;70:213-220. Fleiss JL, Cohen J, Everitt BS. Large sample standard
    errors of kappa and weighted kappa. Psychol Bull 1969;72:323-327. Feinstein AR, Cicchetti DV. High agreement but
    low kappa. J Clin Epidemiol 1990;43:543-549.
    """
    check_confidence(confidence)
    table = _table(a, b, categories)
    w = agreement_weights(len(categories), weights)
    n = int(table.sum())
    percent = 100 * float(np.trace(table)) / n if n else _NAN
    if why := _undefined(table, categories):
        numbers = dict.fromkeys(("kappa", "se", "low", "high", "null_se", "z", "p"), _NAN)
        return Kappa(n, **numbers, band=UNDEFINED, percent_agreement=percent, weights=weights,
                     confidence=confidence, note=why)  # fmt: skip
    p = table / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    observed, chance = float((w * p).sum()), float(rows @ w @ columns)
    kappa = (observed - chance) / (1 - chance)
    margins = (w @ columns)[:, None] + (rows @ w)[None, :]
    inner = (p * (w * (1 - chance) - margins * (1 - observed)) ** 2).sum()
    variance = (inner - (observed * chance - 2 * chance + observed) ** 2) / (n * (1 - chance) ** 4)
    null = ((np.outer(rows, columns) * (w - margins) ** 2).sum() - chance**2) / (n * (1 - chance) ** 2)
    se, null_se = math.sqrt(max(variance, 0.0)), math.sqrt(max(null, 0.0))
    half = float(stats.norm.ppf((1 + confidence) / 2)) * se
    z = kappa / null_se if null_se > 0 else _NAN
    paradox = percent >= _PARADOX_AGREEMENT and kappa <= _PARADOX_KAPPA
    told = f"κ is paradoxical: {percent:.0f} % of the grades are the same, nearly all of them one grade."
    return Kappa(
        n, kappa, se, kappa - half, min(kappa + half, 1.0), null_se, z, 2 * float(stats.norm.sf(abs(z))),
        kappa_band(kappa), percent, weights, confidence, told if paradox else "",
    )  # fmt: skip


def kappa_band(kappa: float) -> str:
    """What κ is called: poor ≤ 0.20, fair ≤ 0.40, moderate ≤ 0.60, substantial ≤ 0.80, almost perfect ≤ 1."""
    return UNDEFINED if math.isnan(kappa) else next(name for limit, name in _BANDS if kappa <= limit + 1e-12)


def bootstrap_kappa(
    a: ArrayLike,
    b: ArrayLike,
    cases: ArrayLike,
    *,
    categories: Sequence[int] = SCORES,
    weights: str = "linear",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of weighted κ from resampled cases: all images of a case are drawn together.

    The two arms of a case are not independent, which the formula in `weighted_kappa` takes them to be.

    Parameters
    ----------
    a, b, categories, weights, confidence
        As in `weighted_kappa`.
    cases
        (n,) the case of each image.
    resamples
        Number of draws of as many cases as there are.
    seed
        Same seed, same interval.

    Returns
    -------
    Over the resamples in which κ is defined; NaN where these are fewer than half.

    Raises
    ------
    StudyError
        As `weighted_kappa`; also if the cases are not as many as the grades.
    """
    check_confidence(confidence)
    first, second = _places(a, categories), _places(b, categories)
    names, of_case = np.unique(np.asarray(cases), return_inverse=True)
    if not len(first) == len(second) == len(of_case):
        raise StudyError(f"Grades and cases must be as many: {len(first)}, {len(second)}, {len(of_case)}")
    if not len(names):
        return Interval(_NAN, _NAN, 0)
    k = len(categories)
    tables = np.zeros((len(names), k, k))
    np.add.at(tables, (of_case, first, second), 1)
    share = np.full(len(names), 1 / len(names))
    drawn = np.random.default_rng(seed).multinomial(len(names), share, size=resamples)
    kappas = _kappas(np.tensordot(drawn, tables, axes=1), agreement_weights(k, weights))
    defined = kappas[np.isfinite(kappas)]
    if 2 * len(defined) < resamples:
        return Interval(_NAN, _NAN, len(defined))
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), len(defined))


def gwet_ac2(
    a: ArrayLike,
    b: ArrayLike,
    *,
    categories: Sequence[int] = SCORES,
    weights: str = "linear",
    confidence: float = 0.95,
) -> Ac2:
    """Gwet's AC2 between two readings, which high agreement on one grade does not upset.

    With p_o as in `weighted_kappa`, π_k the mean share of grade k, q grades and T = Σ w:

    1. p_e = T / (q (q − 1)) Σ π_k (1 − π_k); AC2 = (p_o − p_e) / (1 − p_e);
    2. of each image i, γ_i = (w_i − p_e) / (1 − p_e) − 2 (1 − AC2) (e_i − p_e) / (1 − p_e), where w_i is the weight of
       its two grades and e_i = T / (q (q − 1)) times the mean of 1 − π over them;
    3. SE² = Σ (γ_i − AC2)² / (n (n − 1)), the interval from Student's t with n − 1 degrees of freedom.

    With weights "none" it is AC1. Parameters and errors as `weighted_kappa`.

    Returns
    -------
    Undefined without images; of one image without SE.

    References
    ----------
    Gwet KL. Computing inter-rater reliability and its variance in the presence of high agreement. Br J Math Stat
    Psychol 2008;61:29-48. Gwet KL. Handbook of inter-rater reliability, 4th ed. 2014, chapters 4 and 5.
    """
    check_confidence(confidence)
    first, second = _places(a, categories), _places(b, categories)
    n = int(_table(a, b, categories).sum())
    if not n:
        return Ac2(0, _NAN, _NAN, _NAN, _NAN, weights, confidence, "AC2 is undefined: there are no pairs of grades.")
    q, w = len(categories), agreement_weights(len(categories), weights)
    shares = np.bincount(np.concatenate([first, second]), minlength=q) / (2 * n)
    scale = w.sum() / (q * (q - 1))
    given, chance = w[first, second], float(scale * (shares * (1 - shares)).sum())
    ac2 = (float(given.mean()) - chance) / (1 - chance)
    if n < 2:
        return Ac2(n, ac2, _NAN, _NAN, _NAN, weights, confidence, "One image has no standard error.")
    own_chance = scale * (1 - (shares[first] + shares[second]) / 2)
    parts = (given - chance) / (1 - chance) - 2 * (1 - ac2) * (own_chance - chance) / (1 - chance)
    se = math.sqrt(float(((parts - ac2) ** 2).sum()) / (n * (n - 1)))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * se
    return Ac2(n, ac2, se, ac2 - half, min(ac2 + half, 1.0), weights, confidence)


def _places(grades: ArrayLike, categories: Sequence[int]) -> np.ndarray:
    """(n,) places of the grades on the scale, from 0."""
    grades, scale = np.asarray(grades), np.asarray(categories)
    equal = grades[..., None] == scale
    if grades.ndim != 1 or not equal.any(axis=-1).all():
        odd = grades[~equal.any(axis=-1)] if grades.ndim == 1 else [grades.shape]
        told = ", ".join(dict.fromkeys(map(str, odd)))
        raise StudyError(f"Grades must be a list of {', '.join(map(str, scale))}, without {told}")
    return np.asarray(equal.argmax(axis=-1))


def _table(a: ArrayLike, b: ArrayLike, categories: Sequence[int]) -> np.ndarray:
    """(k, k) float64: how often the first reading gave grade i where the second gave j."""
    first, second = _places(a, categories), _places(b, categories)
    if len(first) != len(second):
        raise StudyError(f"Two readings of the same images are as long, not {len(first)} and {len(second)}")
    table = np.zeros((len(categories), len(categories)))
    np.add.at(table, (first, second), 1)
    return table


def _undefined(table: np.ndarray, categories: Sequence[int]) -> str:
    """Why κ is undefined; empty where it is not."""
    if not table.any():
        return "κ is undefined: there are no pairs of grades."
    used = [np.flatnonzero(table.sum(axis=axis)) for axis in (1, 0)]
    constant = [f"the {name} gave {categories[grades[0]]} to all images"
                for name, grades in zip(("first", "second"), used, strict=True) if len(grades) == 1]  # fmt: skip
    if len(constant) == 2 and used[0][0] == used[1][0]:
        constant = [f"both gave {categories[used[0][0]]} to all images"]
    return f"κ is undefined: {' and '.join(constant)}." if constant else ""


def _kappas(tables: np.ndarray, w: np.ndarray) -> np.ndarray:
    """κ of many tables (m, k, k); NaN where it is undefined."""
    rows, columns = tables.sum(axis=2), tables.sum(axis=1)
    varied = ((rows > 0).sum(axis=1) > 1) & ((columns > 0).sum(axis=1) > 1)
    kappas = np.full(len(tables), _NAN)
    n = rows[varied].sum(axis=1)
    observed = np.einsum("ij,mij->m", w, tables[varied]) / n
    chance = np.einsum("mi,ij,mj->m", rows[varied], w, columns[varied]) / n**2
    kappas[varied] = (observed - chance) / (1 - chance)
    return kappas
