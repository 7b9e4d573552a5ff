"""Table 2 and the gains as HTML that needs nothing from outside, beside the published numbers.

Every function returns a `great_tables.GT`: a notebook shows it, `save_html` writes it as a page of its own.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

import pandas as pd
from great_tables import GT

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.metrics import CONVENTIONS
from sn2nlib.provenance import atomic_write
from sn2nlib.reporting.published import Published
from sn2nlib.reporting.tables import ARMS, METRICS
from sn2nlib.reporting.wording import NOTHING, format_p, mean_sd, signed

DIGITAL = (
    "Digital heads are not patients: their scans are simulated, their ages, sexes and conditions invented; "
    "p-values describe simulated heads."
)
REAL = (
    "A real head in a simulated scan: “noise-free” means before simulated noise, its own scanner noise is "
    "part of it. A single scan has no SD and no p-value. No network was trained and no α chosen on it. But its gains "
    "in a first run (8 coils, L2 loss) were known when loss, mirror images and coils were chosen on other heads, and "
    "its brightness had been looked at when the digital heads’ scalp was toned down."
)
CEILING = (
    "The fully sampled image is noisy itself, so that even the exact truth gains little against it: where the gain of "
    "the truth lies below the bar, the gain of the truth decides. It can be exceeded: the share α of the original that "
    "stays in sN2N carries noise that the fully sampled image, made of the same samples, has too, and which the truth "
    "has not."
)
PAPER = "Published: Jung et al., European Radiology 2023;33:2686–2698, doi 10.1007/s00330-022-09243-y."

NAMES = {
    "PSNR_dB": "PSNR (dB)", "SSIM": "SSIM", "NRMSE_percent": "NRMSE (%)",
    "original": "Original", "sN2N": "sN2N", "truth": "Truth",
    "full_sampled": "fully sampled image", "noise_free": "noise-free image",
    "volume": "whole volume", "head": "inside the head",
    "quantitative": "Quantitative test (digital heads)", "real_head": "Real head",
}  # fmt: skip

_DIGITS = {"PSNR_dB": 1, "SSIM": 3, "NRMSE_percent": 1}
# a digit more than the paper prints where gains are compared with bars
_GAIN_DIGITS = {"PSNR_dB": 2, "SSIM": 4, "NRMSE_percent": 1}
_GAIN_NAMES = {
    "PSNR_dB": "PSNR, dB higher", "SSIM": "SSIM, higher", "NRMSE_percent": "NRMSE, % of the original’s lower",
}  # fmt: skip


def table2_html(
    table: pd.DataFrame,
    published: Published,
    *,
    provenance: Mapping[str, Any],
    set_name: str = "quantitative",
    reference: str = "full_sampled",
    region: str = "volume",
    own_noise: Mapping[str, float] | None = None,
    measured: pd.DataFrame | None = None,
) -> GT:
    """Table 2 for one set, reference and region: mean ± SD per level, p, the truth, the published values.

    Parameters
    ----------
    table
        As returned by `sn2nlib.reporting.tables.table2`.
    published
        The paper's numbers; shown where they were measured, against the fully sampled image over the volume.
    provenance
        As returned by `sn2nlib.provenance.provenance`.
    set_name, reference, region
        Which part of the table.
    own_noise
        As returned by `own_noise_shares`; said where a real head's noise-free image is the reference.
    measured
        Measurements of every scan (``quality_rows.csv``), among them nrmse_volume (percent) and n_slices: how many
        slices NRMSE averages, and what it is over the volume as one, stand under the table. None: they do not.

    Raises
    ------
    StudyError
        If the table has no such part.
    """
    part = _part(table, set_name, reference, region)
    beside = (reference, region) == ("full_sampled", "volume")
    rows = []
    for metric, level in part[["metric", "noise_sigma"]].drop_duplicates().itertuples(index=False):
        row = {"metric": NAMES[metric], "level": f"{level:g}"} | _cells(part, metric, level)
        rows.append(row | (_published_cells(published, metric, level) if beside else {}))
    n = int(part["n"].max())
    name = f"table2-{set_name}-{reference}-{region}"
    shown = (
        GT(pd.DataFrame(rows), groupname_col="metric", rowname_col="level", id=name)
        .tab_header(
            f"Table 2. {NAMES[set_name]}, {NAMES[region]}, against the {NAMES[reference]}",
            f"{n} scan{'s' if n > 1 else ''}; mean ± SD at each level of added noise",
        )
        .tab_stubhead("Added noise (σ)")
        .cols_label(original="Original", sN2N="sN2N", truth="Truth", p="p")
        .tab_spanner("This study", columns=["original", "sN2N", "p", "truth"])
        .cols_move(columns="p", after="sN2N")
    )
    if beside:
        shown = shown.cols_label(p_original="Original", p_sN2N="sN2N", p_p="p").tab_spanner(
            "Published (19 patients)", columns=["p_original", "p_sN2N", "p_p"]
        )
    shown = _own_noise(shown, own_noise, set_name=set_name, reference=reference)
    if measured is not None:
        shown = shown.tab_source_note(_nrmse_note(_part(measured, set_name, reference, region)))
    return _notes(shown, provenance, set_name=set_name, published=beside, test=True)


def gains_html(
    table: pd.DataFrame,
    *,
    provenance: Mapping[str, Any],
    set_name: str = "quantitative",
    reference: str = "full_sampled",
    region: str = "volume",
    own_noise: Mapping[str, float] | None = None,
) -> GT:
    """Gains of sN2N over the original for one set, reference and region, with bar, gain of the truth and verdict.

    Parameters
    ----------
    table
        As returned by `sn2nlib.reporting.tables.gains`.
    provenance
        As returned by `sn2nlib.provenance.provenance`.
    set_name, reference, region
        Which part of the table.
    own_noise
        As returned by `own_noise_shares`; said where a real head's noise-free image is the reference.

    Raises
    ------
    StudyError
        If the table has no such part.
    """
    part = _part(table, set_name, reference, region)
    numbers = ["gain", "lowest", "ceiling", "published"]
    digits = part["metric"].map(_GAIN_DIGITS)
    shown = pd.DataFrame({
        "metric": part["metric"].map(_GAIN_NAMES),
        "level": part["noise_sigma"].map("{:g}".format),
        **{column: list(map(signed, part[column], digits)) for column in numbers},
        "bar": list(map(_bar, part["bar"], digits)),
        "verdict": part["verdict"].replace("", NOTHING),
    })  # fmt: skip
    name = f"gains-{set_name}-{reference}-{region}"
    page = (
        GT(shown, groupname_col="metric", rowname_col="level", id=name)
        .tab_header(
            f"Gains of sN2N over the original. {NAMES[set_name]}",
            f"{NAMES[region].capitalize()}, against the {NAMES[reference]}",
        )
        .tab_stubhead("Added noise (σ)")
        .cols_label(
            gain="Gain", lowest="Lowest scan", ceiling="Gain of the truth",
            published="Published gain", bar="Bar", verdict="Verdict",
        )
        .cols_align("right", columns=[*numbers, "bar"])
    )  # fmt: skip
    if reference == "full_sampled":
        page = page.tab_source_note(CEILING)
    if (part["statistic"] == "lowest").any():
        page = page.tab_source_note("The bars hold for the lowest scan.")
    beside = bool(part["published"].notna().any())
    page = _own_noise(page, own_noise, set_name=set_name, reference=reference)
    return _notes(page, provenance, set_name=set_name, published=beside, test=False)


def own_noise_shares(noise: pd.DataFrame) -> dict[str, float]:
    """SD of a real head's own scanner noise over that of the simulated noise, at most, by participant.

    Parameters
    ----------
    noise
        `noise.csv` of notebook 01: participant, noise_over_scale, own_noise_over_scale (empty for digital heads).
    """
    real = noise[noise["own_noise_over_scale"].notna()]
    shares = real["own_noise_over_scale"] / real["noise_over_scale"]
    return dict(zip(real["participant"], shares, strict=True))


def provenance_note(provenance: Mapping[str, Any]) -> str:
    """One line that says where the numbers came from: profile, seed, commit, versions, whatever is known."""
    parts = [f"{name} {provenance[name]}" for name in ("profile", "seed", "commit") if name in provenance]
    parts += [f"{name} {number}" for name, number in dict(provenance.get("versions", {})).items()]
    return "Made by: " + ", ".join(parts) + "."


def save_html(table: GT, path: str | os.PathLike[str]) -> None:
    """Write a table as an HTML page that needs nothing else, whole or not at all.

    Raises
    ------
    OSError
        If the disk is full.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(table.as_raw_html(make_page=True) + "\n", encoding="utf-8")


def _part(table: pd.DataFrame, set_name: str, reference: str, region: str) -> pd.DataFrame:
    part = table[table["set"] == set_name]
    part = part[(part["reference"] == reference) & (part["region"] == region)]
    if part.empty:
        raise StudyError(f"The table has no rows of {set_name!r} against {reference!r} over {region!r}")
    return part


def _own_noise(table: GT, shares: Mapping[str, float] | None, *, set_name: str, reference: str) -> GT:
    """Beside a real head's “noise-free” image, how noisy that image is."""
    if set_name != "real_head" or reference != "noise_free":
        return table
    for name, share in (shares or {}).items():
        table = table.tab_source_note(
            f"The “noise-free” image of {name} holds its own scanner noise: its SD is at most {100 * share:.0f} % of "
            "that of the simulated noise at 0 σ. What sN2N takes of it counts as an error here."
        )
    return table


def _nrmse_note(rows: pd.DataFrame) -> str:
    """How many slices NRMSE averages, and its value over the volume as one at the lowest and the highest level."""
    counts = rows["n_slices"].astype(int)
    slices = f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    means = rows.groupby(["arm", "noise_sigma"])["nrmse_volume"].mean()
    low, high = rows["noise_sigma"].min(), rows["noise_sigma"].max()
    told = " and ".join(f"{means[arm, low]:.1f} % → {means[arm, high]:.1f} % for {arm}" for arm in ("original", "sN2N"))
    return (
        f"NRMSE averages {slices} slices of a scan; over the volume as one it is, from {low:g} to {high:g} σ of added "
        f"noise, {told} (mean of the scans)."
    )


def _notes(table: GT, provenance: Mapping[str, Any], *, set_name: str, published: bool, test: bool) -> GT:
    notes = [CONVENTIONS[metric] for metric in METRICS]
    notes += ["Added noise: complex Gaussian; σ is the acquired noise SD per real and imaginary channel."]
    notes += ["p: two-sided paired t-test of sN2N against the original over scans."] if test else []
    notes += [REAL if set_name == "real_head" else DIGITAL]
    notes += [PAPER] if published else []
    for note in [*notes, provenance_note(provenance)]:
        table = table.tab_source_note(note)
    return table


def _cells(part: pd.DataFrame, metric: str, level: float) -> dict[str, str]:
    rows = part[(part["metric"] == metric) & (part["noise_sigma"] == level)].set_index("arm")
    found = {arm: mean_sd(row["mean"], row["sd"], _DIGITS[metric]) for arm, row in rows.iterrows()}
    texts = {arm: found.get(arm, NOTHING) for arm in ARMS}
    return texts | {"p": format_p(float(rows["p_value"].get("sN2N", math.nan)))}


def _published_cells(published: Published, metric: str, level: float) -> dict[str, str]:
    rows = published.table2
    if not ((rows["metric"] == metric) & (rows["noise_sigma"] == level)).any():
        return {"p_original": NOTHING, "p_sN2N": NOTHING, "p_p": NOTHING}
    arms = {arm: published.value(metric, arm, level) for arm in ("original", "sN2N")}
    texts = {f"p_{arm}": mean_sd(row["mean"], row["sd"], _DIGITS[metric]) for arm, row in arms.items()}
    return texts | {"p_p": str(arms["sN2N"]["p_value"])}


def _bar(value: float, digits: int) -> str:
    return "above 0" if value == 0 else signed(value, digits)
