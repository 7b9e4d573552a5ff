"""Vessel wall imaging in tables: every measure and arm over the scans, paired tests, and what the study asks of itself.

Units: signals in those of the images, CNR without, lengths in mm, areas in mm², PSNR in dB.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.signed_rank import wilcoxon
from sn2nlib.evaluation.statistics import paired_t
from sn2nlib.reporting.wording import NOTHING, format_p, rounded

ARMS = ("original", "sN2N", "fine_tuned", "vwi_only", "blur", "noise_free")
ARM_NAMES = {
    "original": "Original", "sN2N": "sN2N (MP-RAGE alone)", "fine_tuned": "sN2N, fine-tuned",
    "vwi_only": "sN2N, VWI alone", "blur": "Gaussian blur", "noise_free": "Noise-free",
}  # fmt: skip
# measure → name, and which is better: higher, lower, or nearer to the noise-free image
MEASURES = {
    "cnr_lumen": ("CNR, wall and lumen", "higher"), "cnr_csf": ("CNR, wall and CSF", "higher"),
    "contrast_lumen": ("Contrast, wall − lumen", "nearer"), "contrast_csf": ("Contrast, wall − CSF", "nearer"),
    "sd_lumen": ("Noise SD in the lumen", "lower"), "sd_wall": ("Noise SD in the wall", "lower"),
    "sd_csf": ("Noise SD in CSF", "lower"), "lumen": ("Mean lumen signal", "nearer"),
    "wall_mm": ("Wall thickness (mm)", "nearer"), "lumen_mm2": ("Lumen area (mm²)", "nearer"),
    "edge_inner_mm": ("Edge width 10–90 %, to the lumen (mm)", "nearer"),
    "edge_outer_mm": ("Edge width 10–90 %, to CSF (mm)", "nearer"),
    "detected": ("Walls detected (share)", "higher"), "psnr": ("PSNR in the head (dB)", "higher"),
}  # fmt: skip
GIVEN = {"wall_mm": "given_wall_mm", "lumen_mm2": "given_lumen_mm2"}  # what is known from the geometry
SD_LESS, CONTRAST_LOSS, SHAPE_MORE, EDGE_WIDER = 25.0, 5.0, 3.0, 5.0  # percent
SIGNIFICANT = 0.05
SATURATED = 1.0  # percent of the noise-free value: nothing is left to gain
_DARK = ("lumen", "contrast_lumen", "contrast_csf")  # measures that a noise floor moves
_FURTHER = "further than sN2N"


def per_scan(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per scan, measure and arm (``vessel_wall_per_scan.csv``).

    Parameters
    ----------
    rows
        From `sn2nlib.evaluation.vessel_experiment.measure_participant`: scan, arm, and the measures as columns.

    Returns
    -------
    set, scan, measure, arm, value; what is known from the geometry as the arm "geometry".

    Raises
    ------
    StudyError
        For an unknown arm, a missing column, or a scan without an arm.
    """
    missing = [name for name in ("scan", "arm", *MEASURES, *GIVEN.values()) if name not in rows]
    if missing:
        raise StudyError(f"The vessel wall measurements lack the columns {', '.join(missing)}")
    counts = rows.groupby("scan")["arm"].agg(lambda arms: sorted(arms))
    faulty = [str(scan) for scan, arms in counts.items() if arms != sorted(ARMS)]
    if faulty:
        raise StudyError(f"Vessel wall scans need each of the arms {', '.join(ARMS)} once; see {', '.join(faulty)}")
    long = rows.melt(id_vars=["scan", "arm"], value_vars=list(MEASURES), var_name="measure", value_name="value")
    truth = rows[rows["arm"] == "noise_free"]
    known = [
        truth[["scan"]].assign(arm="geometry", measure=measure, value=truth[column])
        for measure, column in GIVEN.items()
    ]
    table = pd.concat([long, *known], ignore_index=True)
    table.insert(0, "set", "generalisation")
    ranks = {name: rank for rank, name in enumerate((*MEASURES, *ARMS, "geometry"))}
    table = table.sort_values(
        ["measure", "arm", "scan"], key=lambda c: c.map(ranks) if c.name != "scan" else c, ignore_index=True
    )
    return table[["set", "scan", "measure", "arm", "value"]]


def summary(values: pd.DataFrame) -> pd.DataFrame:
    """Mean ± SD over scans and two-sided paired tests (``vessel_wall.csv``).

    Parameters
    ----------
    values
        From `per_scan`.

    Returns
    -------
    set, measure, arm, n (scans with a value), mean, sd, noise_free (mean of that image), p_value and p_wilcoxon against
    the original, p_sN2N and p_sN2N_wilcoxon against sN2N; empty where there is nothing to test.
    """
    rows: list[dict[str, Any]] = []
    for measure in dict.fromkeys(values["measure"]):
        wide = _wide(values, measure)
        for arm in [name for name in (*ARMS, "geometry") if name in wide and wide[name].notna().any()]:
            known = wide[arm].dropna()
            sd = float(known.std()) if len(known) > 1 else math.nan
            row = {"set": "generalisation", "measure": measure, "arm": arm, "n": len(known), "mean": known.mean()}
            row |= {"sd": sd, "noise_free": wide["noise_free"].mean()}
            for other, names in (("original", ("p_value", "p_wilcoxon")), ("sN2N", ("p_sN2N", "p_sN2N_wilcoxon"))):
                tested = arm not in (other, "original", "noise_free", "geometry")
                row |= dict(zip(names, _tests(wide, arm, other) if tested else (math.nan, math.nan), strict=True))
            rows.append(row)
    return pd.DataFrame(rows)


def bars(values: pd.DataFrame, *, learnt: Mapping[str, float] | None = None) -> pd.DataFrame:
    """What the study asks of the networks, and whether it holds (``vessel_wall_bars.csv``).

    Parameters
    ----------
    values
        From `per_scan`.
    learnt
        What the fine-tuned network learnt from: scans, steps, systematic_over_noise (what aliasing its halves differ
        by, over their noise). None: not known.

    Returns
    -------
    arm, bar (a sentence), value (what was found), limit, p_sN2N and p_sN2N_wilcoxon (of the measure against sN2N's,
    where that is what the bar compares), verdict ("reached", "missed", or "not defined" where it could not be
    measured), comment (where fine-tuning does not go further: what is measured, and what we suppose). The last bars of
    sN2N ask that the blur of equal noise reduction has wider edges; those of the fine-tuned network, that its mean
    beats sN2N's on every measure that sN2N does not saturate.
    """
    wide = {measure: _wide(values, measure) for measure in MEASURES}
    rows = [row for arm in ("sN2N", "fine_tuned", "vwi_only") for row in _asked(wide, arm)]
    for edge, where in (("edge_inner_mm", "lumen"), ("edge_outer_mm", "CSF")):
        means = wide[edge].dropna().mean()
        ratio = means.get("blur", math.nan) / means.get("sN2N", math.nan)
        rows.append(_row("sN2N", f"edge to the {where}: the blur's over sN2N's, above", ratio, 1.0, ratio > 1))
    rows += _better(wide, learnt)
    return pd.DataFrame(rows)


def _asked(wide: dict[str, pd.DataFrame], arm: str) -> list[dict[str, Any]]:
    rows = []
    for side, name in (("lumen", "lumen"), ("csf", "CSF")):
        cnr = wide[f"cnr_{side}"].dropna(subset=["original", arm])
        gain = 100 * (cnr[arm].mean() / cnr["original"].mean() - 1)
        p = max(_tests(cnr, arm, "original"), key=lambda each: math.inf if math.isnan(each) else each)
        rows.append(_row(arm, f"CNR of wall and {name}: gain in percent, above", gain, 0.0, gain > 0))
        text = f"CNR of wall and {name}: larger p of both tests, below"
        rows.append(_row(arm, text, p, SIGNIFICANT, p < SIGNIFICANT))
        sd = wide[f"sd_{side}"].dropna(subset=["original", arm]).mean()
        less = 100 * (1 - sd[arm] / sd["original"])
        rows.append(_row(arm, f"noise SD in {name}: percent lower, at least", less, SD_LESS, less >= SD_LESS))
        contrast = wide[f"contrast_{side}"].dropna(subset=["original", arm, "noise_free"]).mean()
        loss = 100 * (contrast["original"] - contrast[arm]) / contrast["noise_free"]
        text = f"contrast of wall and {name}: loss in percent of the noise-free one, at most"
        rows.append(_row(arm, text, loss, CONTRAST_LOSS, loss <= CONTRAST_LOSS))
    for measure, name in (("wall_mm", "wall thickness"), ("lumen_mm2", "lumen area")):
        means = wide[measure].dropna(subset=["original", arm, "noise_free"]).mean()
        off, before = (100 * abs(means[each] / means["noise_free"] - 1) for each in (arm, "original"))
        text = f"{name}: percent off the noise-free image, at most"
        rows.append(_row(arm, text, off, before + SHAPE_MORE, off <= before + SHAPE_MORE))
    for measure, name in (("edge_inner_mm", "lumen"), ("edge_outer_mm", "CSF")):
        means = wide[measure].dropna(subset=[arm, "noise_free"]).mean()
        off = 100 * (means[arm] / means["noise_free"] - 1)
        text = f"edge to the {name}: percent wider (+) or narrower (−) than in the noise-free image, at most"
        rows.append(_row(arm, text, off, EDGE_WIDER, abs(off) <= EDGE_WIDER))
    lowest = (wide["psnr"][arm] - wide["psnr"]["original"]).min()
    rows.append(_row(arm, "PSNR: gain of the lowest scan in dB, above", lowest, 0.0, lowest > 0))
    return rows


def _better(wide: dict[str, pd.DataFrame], learnt: Mapping[str, float] | None) -> list[dict[str, Any]]:
    """How much further than sN2N the fine-tuned network goes: percent of sN2N's or of the noise-free value, or dB."""
    rows = []
    for measure, (name, better) in MEASURES.items():
        pairs = wide[measure].dropna(subset=["sN2N", "fine_tuned"])
        means = pairs.mean()
        if pairs.empty or means["sN2N"] == 0:
            rows.append(_row("fine_tuned", f"{name}: {_FURTHER}", math.nan, 0.0, False))
            continue
        if better == "nearer":
            off = {arm: abs(means[arm] / means["noise_free"] - 1) for arm in ("sN2N", "fine_tuned")}
            gain, done = 100 * (off["sN2N"] - off["fine_tuned"]), 100 * off["sN2N"] <= SATURATED
        elif measure == "psnr":
            gain, done = means["fine_tuned"] - means["sN2N"], False
        else:
            sign = 1 if better == "higher" else -1
            gain = 100 * sign * (means["fine_tuned"] / means["sN2N"] - 1)
            done = measure == "detected" and means["sN2N"] == 1
        unit = "dB" if measure == "psnr" else "percent of noise-free" if better == "nearer" else "percent"
        tests = dict(zip(("p_sN2N", "p_sN2N_wilcoxon"), _tests(pairs, "fine_tuned", "sN2N"), strict=True))
        row = _row("fine_tuned", f"{name}: {_FURTHER} by {unit}, above", gain, 0.0, gain > 0) | tests
        if done:
            row["verdict"] = "saturated"
        elif row["verdict"] == "missed":
            row["comment"] = _comment(measure, wide, learnt)
        rows.append(row)
    return rows


def _comment(measure: str, wide: Mapping[str, pd.DataFrame], learnt: Mapping[str, float] | None) -> str:
    """What was measured where fine-tuning does not go further, and what we suppose: nothing here tests the cause."""
    means, lumen = wide[measure].dropna(subset=["sN2N", "fine_tuned"]).mean(), wide["lumen"].mean()
    arms = [arm for arm in ("original", "sN2N", "fine_tuned", "noise_free") if not math.isnan(means[arm])]
    told = ", ".join(f"{ARM_NAMES[arm]} {means[arm]:.4g}" for arm in arms)
    if measure in _DARK and lumen["original"] > lumen["noise_free"]:
        floor = f"lumen at {rounded(lumen['original'])} in the original, {rounded(lumen['noise_free'])} without noise"
        return f"{told}; {floor}. We suppose that it learns this floor, which its labels, magnitudes too, share"
    if learnt is None:
        return f"{told}. We suppose that it has too little to learn from"
    source = f"{learnt['scans']:.0f} scan{'' if learnt['scans'] == 1 else 's'} in {learnt['steps']:.0f} steps"
    aliasing = f"halves that differ by {learnt['systematic_over_noise']:.2g} of their noise in what GRAPPA leaves"
    return f"{told}. We suppose that it has too little to learn from: {source}, {aliasing} of the aliasing"


def not_better(table: pd.DataFrame) -> list[str]:
    """Where the fine-tuned network is not better than sN2N, though that does not saturate: a sentence per measure."""
    missed = table[table["bar"].str.contains(_FURTHER) & (table["verdict"] == "missed")]
    return [f"{_named(row)}: {row['comment']}." for row in missed.to_dict("records")]


def not_shown(table: pd.DataFrame) -> list[str]:
    """Where the fine-tuned network's mean is better than sN2N's, but one of both paired tests does not show it."""
    reached = table[table["bar"].str.contains(_FURTHER) & (table["verdict"] == "reached")]
    unsure = ~(reached[["p_sN2N", "p_sN2N_wilcoxon"]].max(axis=1, skipna=False) < SIGNIFICANT)
    return [_named(row) for row in reached[unsure].to_dict("records")]


def _named(row: Mapping[Any, Any]) -> str:
    return f"{row['bar'].split(':')[0]} (t {_p(row['p_sN2N'])}, W {_p(row['p_sN2N_wilcoxon'])})"


def _tests(wide: pd.DataFrame, arm: str, other: str) -> tuple[float, float]:
    pairs = wide.dropna(subset=[arm, other])
    signed = wilcoxon(pairs[arm], pairs[other]).p if len(pairs) > 1 else math.nan
    return paired_t(pairs[arm], pairs[other]).p, signed


def _wide(values: pd.DataFrame, measure: str) -> pd.DataFrame:
    part = values[values["measure"] == measure]
    arms = dict.fromkeys([*ARMS, *part["arm"]])
    return part.pivot(index="scan", columns="arm", values="value").reindex(columns=list(arms))


def _row(arm: str, bar: str, value: float, limit: float, holds: bool) -> dict[str, Any]:
    verdict = "not defined" if math.isnan(value) else "reached" if holds else "missed"
    row = {"arm": arm, "bar": bar, "value": float(value), "limit": float(limit)}
    return row | {"p_sN2N": math.nan, "p_sN2N_wilcoxon": math.nan, "verdict": verdict, "comment": ""}


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """`summary` as text, a row per measure and a column per arm: mean ± SD, and both p-values against the original."""
    rows = []
    for measure, part in table.groupby("measure", sort=False):
        row = {"Measure": MEASURES[str(measure)][0]}
        cells: dict[Any, Any] = part.set_index("arm").to_dict("index")
        for arm in ARMS:
            row[ARM_NAMES[arm]] = _cell(cells[arm]) if arm in cells else NOTHING
        row["Geometry"] = rounded(cells["geometry"]["mean"]) if "geometry" in cells else NOTHING
        rows.append(row)
    return pd.DataFrame(rows)


def _cell(row: Mapping[str, float]) -> str:
    spread = "" if math.isnan(row["sd"]) else f" ± {rounded(row['sd'])}"
    tests = [f"{name} {_p(row[column])}" for name, column in (("t", "p_value"), ("W", "p_wilcoxon"))]
    tested = "" if math.isnan(row["p_wilcoxon"]) else f" ({', '.join(tests)})"
    return f"{rounded(row['mean'])}{spread}{tested}"


def _p(value: float) -> str:
    return format_p(value).replace("<", "< ")
