"""Rows four and five of Table 2: what segmentation finds in original and sN2N, beside the published numbers.

DSC has no unit, shares are in percent of 1 − DSC, biases in percent of the reference's volume. The metrics keep the
paper's names, DSC_FAST for tissue and DSC_FIRST for subcortical structures, whatever engine made the labels; which one
did stands beside them.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sn2nlib.evaluation.volumetry.measures import per_engine, share_removed, sign_crossings
from sn2nlib.reporting.published import Published
from sn2nlib.reporting.tables import gains, table2, verdict

DSC_METRICS = {"tissue": "DSC_FAST", "subcortical": "DSC_FIRST"}
SECOND_METRIC = "DSC_FIRST_second_atlas"
_METRICS = DSC_METRICS | {"subcortical_second": SECOND_METRIC}
ENOUGH = 6  # scans: a p-value of fewer says next to nothing
TISSUE_NAMES = ("CSF", "GM", "WM")
_GAIN_COLUMNS = [
    "set", "reference", "region", "metric", "noise_sigma", "n", "gain", "lowest", "ceiling", "published", "bar",
    "statistic", "verdict", "highest", "n_truth", "share", "published_share", "share_bar", "share_verdict",
]  # fmt: skip
_JUDGED = 1.0  # σ from which on the volume error of sN2N is to be the smaller one
DIGITAL_ATLAS = "Harvard–Oxford atlas"  # from which the structures of digital heads come
_FSL = ("FSL FAST", "FSL FIRST")


def dsc_per_scan(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean DSC of every image, in the columns of ``table2_per_scan.csv``.

    Parameters
    ----------
    rows
        From `sn2nlib.evaluation.volumetry.measures.complete_pairs`.

    Returns
    -------
    set, scan, metric, arm, reference (full_sampled; truth, a digital head's own
    labels; truth_in_mask, those of tissues where the image has labels), region, noise_sigma, value.
    """
    values = per_engine(rows).rename(columns={"dice": "value"})
    values["metric"], values["region"] = values["kind"].map(_METRICS), "volume"
    return values[["set", "scan", "metric", "arm", "reference", "region", "noise_sigma", "value"]]


def dsc_table(values: pd.DataFrame) -> pd.DataFrame:
    """Mean ± SD over scans, in the columns of ``table2.csv`` (``table2_volumetry.csv``).

    Parameters
    ----------
    values
        From `dsc_per_scan`.

    Returns
    -------
    set, metric, arm, reference, region, noise_sigma, n, mean, sd, p_value: of the paired t-test of sN2N against the
    original, where there are at least 6 scans.
    """
    table = table2(values)
    without = (table["n"] < ENOUGH) | ~table["arm"].isin(["original", "sN2N"])
    table.loc[without, "p_value"] = math.nan
    return table


def with_engines(table: pd.DataFrame, engines: Mapping[str, str]) -> pd.DataFrame:
    """A table with a last column `engine`, who made the labels: DSC_FAST and DSC_FIRST are but the paper’s names.

    Parameters
    ----------
    table
        With kind, or metric; without both it is of tissues. One that names its engines already stays as it is.
    engines
        Kind → name and version of its engine.
    """
    if "engine" in table:
        return table
    if "kind" in table:
        kinds = table["kind"]
    elif "metric" in table:
        kinds = table["metric"].map({metric: kind for kind, metric in _METRICS.items()})
    else:
        kinds = pd.Series("tissue", index=table.index)
    names = kinds.map(dict(engines))
    if "reference" in table:
        bound = (table["reference"] == "truth") & names.str.contains(DIGITAL_ATLAS, na=False)
        names = names.where(~bound, names + " (the true labels come from the same atlas: an upper bound)")
    return table.assign(engine=names)


def dsc_gains(values: pd.DataFrame, published: Published, *, engines: Mapping[str, str]) -> pd.DataFrame:
    """Gains in DSC beside the published ones, and the share of 1 − DSC that they remove (``volumetry_gains.csv``).

    Parameters
    ----------
    values
        From `dsc_per_scan`; what is compared with the truth is left out, since the paper has no such numbers.
    published
        The paper's numbers and the bars.
    engines
        Kind → name of its engine: with FSL the published gains are asked for, with others any gain and the published
        shares.

    Returns
    -------
    The columns of `sn2nlib.reporting.tables.gains`; highest, the largest gain of a scan; n_truth, the scans whose
    noise-free image could be segmented, over which `ceiling`, the gain of the truth, is the mean; share,
    published_share, share_bar (percent) and share_verdict.
    """
    values = values[(values["reference"] == "full_sampled") & values["metric"].isin(DSC_METRICS.values())]
    bars = _bars(published, engines)
    asked = bars[bars["quantity"] == "gain"]
    sets = list(dict.fromkeys(values["set"]))
    where = {"reference": "full_sampled", "region": "volume", "statistic": "mean"}
    rows = pd.concat([asked.assign(set=name, **where) for name in sets] or [asked.assign(set="", **where)])
    if values.empty:  # every segmentation failed
        return pd.DataFrame(columns=_GAIN_COLUMNS)
    table = gains(values, dataclasses.replace(published, bars=rows)).drop(columns=["ceiling", "verdict"])
    scans = values.pivot(index=["set", "metric", "noise_sigma", "scan"], columns="arm", values="value")
    scans = scans.reindex(columns=["original", "sN2N", "truth"])
    of_cell: Any = scans.loc  # a cell of the table is the rows of its scans
    cells: Any = table.itertuples(index=False)
    more = [_more(of_cell[row.set, row.metric, row.noise_sigma], row, published, bars) for row in cells]
    return pd.concat([table, pd.DataFrame(more)], axis=1)[_GAIN_COLUMNS]


def volume_gains(errors: pd.DataFrame) -> pd.DataFrame:
    """Volume error of original and sN2N side by side, and which is smaller (``volumetry_volumes.csv``).

    Parameters
    ----------
    errors
        From `sn2nlib.evaluation.volumetry.measures.volume_error`.

    Returns
    -------
    set, reference, noise_sigma, n, original, sN2N (sum over tissues of |bias|, percent), then the signed bias of every
    tissue and arm, as `GM_original`; verdict: "reached" where sN2N's is smaller, else "missed", from 1 σ on.
    """
    table = []
    for (name, reference, _), cell in errors.groupby(["set", "reference", "noise_sigma"], sort=False):
        arms: Any = cell.set_index("arm")
        level = float(cell["noise_sigma"].iloc[0])
        row: dict[str, Any] = {"set": name, "reference": reference, "noise_sigma": level, "n": int(cell["n"].max())}
        row |= {arm: float(arms.loc[arm, "total_percent"]) for arm in ("original", "sN2N")}
        for arm in ("original", "sN2N"):
            row |= {f"{tissue}_{arm}": float(arms.loc[arm, tissue]) for tissue in TISSUE_NAMES}
        smaller = row["sN2N"] < row["original"]
        row["verdict"] = ("reached" if smaller else "missed") if level >= _JUDGED else ""
        table.append(row)
    biases = [f"{tissue}_{arm}" for arm in ("original", "sN2N") for tissue in TISSUE_NAMES]
    columns = ["set", "reference", "noise_sigma", "n", "original", "sN2N", *biases, "verdict"]
    return pd.DataFrame(table, columns=columns)


def crossings(volumes: pd.DataFrame) -> list[str]:
    """Sentences about biases that change their sign over the noise: near there they are small by chance.

    Parameters
    ----------
    volumes
        From `volume_gains`, of one set and reference.
    """
    found = []
    rows = volumes.sort_values("noise_sigma")
    for tissue in TISSUE_NAMES:
        for arm in ("original", "sN2N"):
            between = sign_crossings(rows["noise_sigma"].to_numpy(), rows[f"{tissue}_{arm}"].to_numpy())
            places = " and ".join(f"between {low:g} and {high:g} σ" for low, high in between)
            if between:
                found.append(f"The bias of {tissue} changes its sign {places} ({arm}).")
    return found


def excluded_sentence(excluded: pd.DataFrame, *, set_name: str, reference: str = "full_sampled") -> str:
    """How many pairs were left out because a segmentation was not plausible, and why."""
    part = excluded[(excluded["set"] == set_name) & (excluded["reference"] == reference)]
    if part.empty:
        return "No segmentation had to be excluded."
    cases = "; ".join(
        f"{row.scan} at {row.noise_sigma:g} σ, {row.kind} ({row.reason})" for row in part.itertuples()
    )
    return f"Excluded as not plausible, both arms together: {len(part)} pairs. {cases}."


def _bars(published: Published, engines: Mapping[str, str]) -> pd.DataFrame:
    """The bars of the engines that ran."""
    parts = []
    for kind, name in engines.items():
        if kind not in DSC_METRICS:
            continue
        family = "fsl" if name.startswith(_FSL) else "other"
        bars = published.volumetry_bars
        parts.append(bars[(bars["engine"] == family) & (bars["metric"] == DSC_METRICS[kind])])
    return pd.concat(parts) if parts else published.volumetry_bars.iloc[:0]


def _more(scans: pd.DataFrame, row: Any, published: Published, bars: pd.DataFrame) -> dict[str, Any]:
    """What the gains of a cell have besides; the truth counts over the scans that have it, for gain and share alike."""
    with_truth, means = scans.dropna(), scans.mean()
    original, truth = (float(with_truth[arm].mean()) for arm in ("original", "truth"))
    share = share_removed(float(means["original"]), float(means["sN2N"]))
    theirs = [float(published.value(row.metric, arm, row.noise_sigma)["mean"]) for arm in ("original", "sN2N")]
    of_cell = (bars["metric"] == row.metric) & (bars["noise_sigma"] == row.noise_sigma)
    asked = bars[of_cell & (bars["quantity"] == "share_percent")]
    bar = float(asked["bar"].iloc[0]) if len(asked) else math.nan
    return {
        "highest": float((scans["sN2N"] - scans["original"]).max()), "n_truth": len(with_truth),
        "ceiling": truth - original, "verdict": verdict(row.gain, row.bar, truth - original),
        "share": share, "published_share": share_removed(*theirs), "share_bar": bar,
        "share_verdict": verdict(share, bar, share_removed(original, truth)),
    }  # fmt: skip
