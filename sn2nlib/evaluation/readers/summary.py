"""What comes out of a score table: both arms compared, readers' agreement, counts of scores, and the cases needed.

Every function takes the table of `sn2nlib.evaluation.readers.scores.read_scores` and the criteria, and returns rows in
the order of the criteria, readers in the order of the table. First readings count, except for intra-reader agreement.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from sn2nlib.errors import ScoreError
from sn2nlib.evaluation.readers.criteria import Criteria, Parameter
from sn2nlib.evaluation.readers.scores import source_of
from sn2nlib.evaluation.statistics import bootstrap_kappa, cases_needed, gwet_ac2, holm, weighted_kappa, wilcoxon

ALL = "all"  # stands for every parameter of a group, or for every reader
BOTH = "both"  # stands for the two arms
WEIGHTS = ("linear", "quadratic")

POOLING = (
    "Pooled means are over all scores: every case, parameter and reader of the group counts once. Their p is from "
    "Wilcoxon’s signed-rank test of the cases’ mean scores over parameters and readers."
)
AVERAGING = f"{POOLING} (How the paper averaged is not stated in it; we chose.)"
FAMILY = "Holm’s adjustment is over all parameters and readers of a group."

_KEY = ["reader", "case", "parameter"]
_ROW = [*_KEY, "arm", "reading", "score"]


@dataclass(frozen=True)
class Summary:
    """All tables of a reader study: see the functions of this module that make them.

    Attributes
    ----------
    source
        human or synthetic.
    comparison, pooled, agreement, intra_reader, counts, needed
        As returned by `compare_arms`, `pooled_means`, `inter_reader`, `intra_reader`, `score_counts`,
        `cases_for_power`.
    n_cases
        Cases of each group.
    readers
        Readers of each group.
    weights
        Of κ and AC2.
    """

    source: str
    comparison: pd.DataFrame
    pooled: pd.DataFrame
    agreement: pd.DataFrame
    intra_reader: pd.DataFrame
    counts: pd.DataFrame
    needed: pd.DataFrame
    n_cases: dict[str, int]
    readers: dict[str, tuple[str, ...]]
    weights: str


def summarise(
    scores: pd.DataFrame, criteria: Criteria, *, weights: str = "linear", resamples: int = 2000, seed: int = 0
) -> Summary:
    """All tables of a reader study.

    Parameters
    ----------
    scores, criteria
        As for every function of this module.
    weights
        Of κ and AC2, linear or quadratic.
    resamples, seed
        Of the bootstrap intervals.

    Raises
    ------
    ScoreError
        If scores of humans and of models are mixed, or there are none; for other weights.
    """
    source = _checked(scores)
    if weights not in WEIGHTS:
        raise ScoreError(f"Weights must be {' or '.join(WEIGHTS)}, not {weights!r}")
    parts = [(group, _rows(scores, parameters)) for group, parameters in criteria.by_group.items()]
    parts = [(group, part) for group, part in parts if len(part)]
    options: dict[str, Any] = {"weights": weights, "resamples": resamples, "seed": seed}
    return Summary(
        source=source,
        comparison=compare_arms(scores, criteria),
        pooled=pooled_means(scores, criteria),
        agreement=inter_reader(scores, criteria, **options),
        intra_reader=intra_reader(scores, criteria, **options),
        counts=score_counts(scores, criteria),
        needed=cases_for_power(scores, criteria, seed=seed),
        n_cases={group: part["case"].nunique() for group, part in parts},
        readers={group: tuple(part["reader"].unique()) for group, part in parts},
        weights=weights,
    )


def compare_arms(scores: pd.DataFrame, criteria: Criteria) -> pd.DataFrame:
    """Both arms of each parameter, reader by reader, with Wilcoxon's signed-rank test of sN2N against the original.

    The columns bear the names of the two arms, original and sN2N; criteria with other arms would need others.

    Returns
    -------
    group, parameter, title, reader, n (cases with both arms), original_mean, original_sd, sN2N_mean, sN2N_sd,
    n_higher, n_lower (cases that sN2N improved, worsened), z, p (as SPSS), p_holm (over the group), p_exact, effect
    (rank-biserial, positive: sN2N is better), note.

    Raises
    ------
    ScoreError
        If scores of humans and of models are mixed, or a score stands there twice.
    """
    _checked(scores)
    rows = []
    for parameter, part in _each_parameter(scores, criteria):
        for reader, own in part.groupby("reader", sort=False):
            pairs = _pairs(own, criteria)
            original, other = (pairs[arm] for arm in criteria.arms)
            found = wilcoxon(other, original)
            rows.append(
                _names(parameter)
                | {"reader": reader, "n": len(pairs)}
                | _mean_sd(pairs, criteria)
                | {
                    "n_higher": found.n_positive, "n_lower": found.n_negative, "z": found.z, "p": found.p,
                    "p_holm": math.nan, "p_exact": found.exact_p, "effect": found.effect, "note": found.note,
                }
            )  # fmt: skip
    columns = [
        "group", "parameter", "title", "reader", "n", "original_mean", "original_sd", "sN2N_mean", "sN2N_sd",
        "n_higher", "n_lower", "z", "p", "p_holm", "p_exact", "effect", "note",
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    for _, family in table.groupby("group", sort=False):
        table.loc[family.index, "p_holm"] = holm(family["p"].tolist())
    return table


def pooled_means(scores: pd.DataFrame, criteria: Criteria) -> pd.DataFrame:
    """Means over whole groups, and over readers: `AVERAGING` says how; columns bear the arms' names, original and sN2N.

    Returns
    -------
    group, parameter ("all", or one), title, reader ("all", or one; a single one only for the whole group), n_cases,
    n_scores (of each arm), original_mean, original_sd, sN2N_mean, sN2N_sd (over all scores), p (of the cases' means).
    """
    _checked(scores)
    rows = []
    for group, parameters in criteria.by_group.items():
        part = _rows(scores, parameters)
        chosen = [(ALL, "All parameters", ALL, part)] if len(part) else []
        chosen += [(ALL, "All parameters", str(reader), own) for reader, own in part.groupby("reader", sort=False)]
        chosen += [
            (each.name, each.title, ALL, own) for each in parameters if len(own := part[part["parameter"] == each.name])
        ]
        for name, title, reader, own in chosen:
            pairs = _pairs(own, criteria)
            means = pairs.groupby("case").mean()
            rows.append(
                {"group": group, "parameter": name, "title": title, "reader": reader, "n_cases": len(means)}
                | {"n_scores": len(pairs)}
                | _mean_sd(pairs, criteria)
                # halves, thirds … of grades: rounding must not break ties
                | {"p": wilcoxon((means[criteria.arms[1]] - means[criteria.arms[0]]).round(9)).p}
            )
    columns = [
        "group", "parameter", "title", "reader", "n_cases", "n_scores", "original_mean", "original_sd", "sN2N_mean",
        "sN2N_sd", "p",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def inter_reader(
    scores: pd.DataFrame, criteria: Criteria, *, weights: str = "linear", resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Agreement of every two readers on each parameter: both arms pooled (2n grades a reader), and each arm alone.

    Parameters
    ----------
    weights
        Of κ and AC2, linear or quadratic.
    resamples, seed
        Of the bootstrap interval, which draws the two arms of a case together.

    Returns
    -------
    group, parameter, title, arm ("both", original, sN2N), first, second (readers), n, kappa, se, low, high (95 %),
    null_se, z, p, band, percent_agreement, weights, boot_low, boot_high, n_defined (resamples with a defined κ), ac2,
    ac2_se, ac2_low, ac2_high, doubtful (κ is undefined or paradoxical: read AC2 instead), note.
    """
    _checked(scores)
    rows = []
    for parameter, part in _each_parameter(scores, criteria):
        readers = list(part["reader"].unique())
        for first, second in itertools.combinations(readers, 2):
            wide = part.pivot(index=["case", "arm"], columns="reader", values="score")
            both = wide[[first, second]].dropna().reset_index()
            for arm in (BOTH, *criteria.arms):
                chosen = both if arm == BOTH else both[both["arm"] == arm]
                found = _agreement(
                    chosen[first], chosen[second], chosen["case"], criteria, weights=weights, resamples=resamples,
                    seed=seed,
                )  # fmt: skip
                rows.append(_names(parameter) | {"arm": arm, "first": first, "second": second} | found)
    return _agreement_table(rows, ["arm", "first", "second"])


def intra_reader(
    scores: pd.DataFrame, criteria: Criteria, *, weights: str = "linear", resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Agreement of each reader's repeated readings with the first ones, both arms pooled; empty if none were repeated.

    Cases read twice are few: the rows with parameter "all" pool those of a group that has several.

    Parameters
    ----------
    weights, resamples, seed
        As in `inter_reader`.

    Returns
    -------
    As `inter_reader`, with the column reader instead of arm, first and second.
    """
    _checked(scores)
    rows = []
    for group, parameters in criteria.by_group.items():
        names = [parameter.name for parameter in parameters]
        part = scores[scores["parameter"].isin(names)]
        wide = part.pivot(index=[*_KEY, "arm"], columns="reading", values="score").reindex(columns=[1, 2])
        twice = wide.dropna().reset_index()
        pooled = {"group": group, "parameter": ALL, "title": "All parameters"}
        kinds = [(pooled, twice)] if len(parameters) > 1 else []
        kinds += [(_names(each), twice[twice["parameter"] == each.name]) for each in parameters]
        for told, chosen in kinds:
            for reader in part["reader"].unique():
                own = chosen[chosen["reader"] == reader]
                if len(own):
                    found = _agreement(
                        own[1], own[2], own["case"], criteria, weights=weights, resamples=resamples, seed=seed
                    )
                    rows.append(told | {"reader": reader} | found)
    return _agreement_table(rows, ["reader"])


def score_counts(scores: pd.DataFrame, criteria: Criteria) -> pd.DataFrame:
    """How often each score was given, for bars.

    Returns
    -------
    group, parameter, title, reader, arm, score (1 to 5, also those nobody gave), count, fraction (of the reader's
    scores of that parameter and arm).
    """
    _checked(scores)
    rows = []
    for parameter, part in _each_parameter(scores, criteria):
        for reader, own in part.groupby("reader", sort=False):
            for arm in criteria.arms:
                given = own.loc[own["arm"] == arm, "score"]
                for score in criteria.scores:
                    count = int((given == score).sum())
                    share = count / len(given) if len(given) else math.nan
                    row = {"reader": reader, "arm": arm, "score": score, "count": count, "fraction": share}
                    rows.append(_names(parameter) | row)
    columns = ["group", "parameter", "title", "reader", "arm", "score", "count", "fraction"]
    return pd.DataFrame(rows, columns=columns)


def cases_for_power(
    scores: pd.DataFrame, criteria: Criteria, *, power: float = 0.8, alpha: float = 0.05, seed: int = 0
) -> pd.DataFrame:
    """How many cases a study of one reader needs to find the differences that were found here.

    The differences sN2N − original of all readers are taken as the distribution (`cases_needed`). It describes this
    study's effect, not its power in hindsight.

    Returns
    -------
    group, parameter, title, mean_difference, power, n_needed (by simulation; missing above 1000), n_noether (by
    Noether's formula).
    """
    _checked(scores)
    rows = []
    for parameter, part in _each_parameter(scores, criteria):
        pairs = _pairs(part, criteria)
        difference = pairs[criteria.arms[1]] - pairs[criteria.arms[0]]
        if difference.empty:
            continue
        found = cases_needed(difference, power=power, alpha=alpha, seed=seed)
        row = {"mean_difference": difference.mean(), "power": power, "n_needed": found.n, "n_noether": found.noether}
        rows.append(_names(parameter) | row)
    columns = ["group", "parameter", "title", "mean_difference", "power", "n_needed", "n_noether"]
    return pd.DataFrame(rows, columns=columns).astype({"n_needed": "Int64", "n_noether": "Int64"})


def _checked(scores: pd.DataFrame) -> str:
    """The source of a table that has every column, and every score once."""
    lacking = [column for column in _ROW if column not in scores]
    if lacking:
        raise ScoreError(f"The score table has no column(s) {', '.join(lacking)}; read_scores gives it every one")
    twice = scores.duplicated(_ROW[:-1])
    if twice.any():
        told = ", ".join(map(str, scores.loc[twice, _ROW[:-1]].iloc[0]))
        raise ScoreError(f"The score table has {int(twice.sum())} score(s) twice, the first one: {told}")
    return source_of(scores)


def _rows(scores: pd.DataFrame, parameters: Sequence[Parameter]) -> pd.DataFrame:
    """First readings of these parameters."""
    names = [parameter.name for parameter in parameters]
    return scores[(scores["reading"] == 1) & scores["parameter"].isin(names)]


def _each_parameter(scores: pd.DataFrame, criteria: Criteria) -> Iterator[tuple[Parameter, pd.DataFrame]]:
    """Parameters that were scored, with their first readings."""
    for parameter in criteria.parameters:
        part = _rows(scores, [parameter])
        if len(part):
            yield parameter, part


def _pairs(part: pd.DataFrame, criteria: Criteria) -> pd.DataFrame:
    """One row per reader, case and parameter that has both arms, one column per arm."""
    wide = part.pivot(index=_KEY, columns="arm", values="score").reindex(columns=list(criteria.arms))
    return wide.dropna().astype(int)


def _names(parameter: Parameter) -> dict[str, Any]:
    return {"group": parameter.group, "parameter": parameter.name, "title": parameter.title}


def _mean_sd(pairs: pd.DataFrame, criteria: Criteria) -> dict[str, float]:
    numbers = {}
    for arm in criteria.arms:
        numbers[f"{arm}_mean"] = float(pairs[arm].mean()) if len(pairs) else math.nan
        numbers[f"{arm}_sd"] = float(pairs[arm].std(ddof=1)) if len(pairs) > 1 else math.nan
    return numbers


def _agreement(
    first: pd.Series,
    second: pd.Series,
    cases: pd.Series,
    criteria: Criteria,
    *,
    weights: str,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    a, b = first.to_numpy(dtype=int), second.to_numpy(dtype=int)
    scale: dict[str, Any] = {"categories": criteria.scores, "weights": weights}
    kappa = weighted_kappa(a, b, **scale)
    drawn = bootstrap_kappa(a, b, cases.to_numpy(), **scale, resamples=resamples, seed=seed)
    ac2 = gwet_ac2(a, b, **scale)
    numbers = {name: value for name, value in asdict(kappa).items() if name not in ("confidence", "note")}
    return numbers | {
        "boot_low": drawn.low, "boot_high": drawn.high, "n_defined": drawn.n_defined, "ac2": ac2.ac2, "ac2_se": ac2.se,
        "ac2_low": ac2.low, "ac2_high": ac2.high, "doubtful": kappa.doubtful, "note": kappa.note,
    }  # fmt: skip


def _agreement_table(rows: Sequence[dict[str, Any]], who: Sequence[str]) -> pd.DataFrame:
    numbers = [
        "n", "kappa", "se", "low", "high", "null_se", "z", "p", "band", "percent_agreement", "weights", "boot_low",
        "boot_high", "n_defined", "ac2", "ac2_se", "ac2_low", "ac2_high", "doubtful", "note",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["group", "parameter", "title", *who, *numbers])
