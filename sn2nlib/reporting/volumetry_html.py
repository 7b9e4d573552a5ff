"""Volumetry as HTML: the two DSC rows of Table 2 beside the published ones, volumes, and the truth of digital heads."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from great_tables import GT

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.volumetry.measures import INSIDE
from sn2nlib.evaluation.volumetry.tissue import MarkovTissues
from sn2nlib.reporting.html import DIGITAL, NAMES, PAPER, REAL, provenance_note
from sn2nlib.reporting.published import Published
from sn2nlib.reporting.volumetry import DIGITAL_ATLAS, DSC_METRICS, ENOUGH, SECOND_METRIC, TISSUE_NAMES, crossings
from sn2nlib.reporting.wording import NOTHING, format_p, mean_sd, signed

_KIND = {metric: kind for kind, metric in DSC_METRICS.items()} | {SECOND_METRIC: "subcortical_second"}
ROW_NAMES = {
    "DSC_FAST": "DSC of GM, WM, CSF (the paper’s FAST)",
    "DSC_FIRST": "DSC of 15 subcortical structures (the paper’s FIRST)",
    SECOND_METRIC: "DSC of 15 subcortical structures, with a second atlas",
}  # fmt: skip
DSC_CONVENTION = (
    "DSC: 2|A∩B| / (|A| + |B|) of each structure, averaged over the structures. Every image is segmented from its own "
    "voxels alone, with its own brain mask, bias field and registration."
)
PRIOR = (
    f"{MarkovTissues.name}: means and noise of the tissues come from this package’s EM with partial volumes, the "
    "labels from DIPY’s iterated conditional modes. How much of a brain is CSF they find in each image; of the voxels "
    "without CSF, 53 % are mostly GM and 47 % mostly WM: that is given beforehand. We chose these shares ourselves, "
    "after no published source; in a brain of 17 % CSF they make GM 57 % of GM and WM (in six development heads it "
    "truly is 60 to 62 %). They pull noisy images towards them more than quiet ones: what departs from them, as in "
    "disease, is under-reported in noisy images, and part of a gain in DSC or volume may be their doing. The edge "
    "of deepbet’s brain is sought anew: CSF in a rim of 1.5 mm, or a voxel, around it, and in its outer 4 mm what the "
    "bone beside it tells to be none of the brain. That was made on six development heads, whose skulls are drawn by "
    "the same rule as those of the test heads: real heads may gain less by it."
)
BOUND = (
    "Against the true labels: a digital head’s structures are those of the Harvard–Oxford atlas. What agreement an "
    "engine reaches that uses it too is an upper bound; the same engine with a second atlas, which draws its own "
    "boundaries, stands beside it without a bound. Neither matters where images are compared with images."
)
INSIDE_NAME = "; where the image has labels"
RIM = (
    "Where the image has labels: the true labels cut to the voxels that the image’s own labels fill. CSF that was not "
    "found does not count there; CSF that was found where there is none does. Every image has labels of its own, so "
    "that the truth is cut differently for each: these rows tell how good the labels are where they are; they do not "
    "compare one kind of image with another."
)
SHARE = "Share removed: (DSC of sN2N − DSC of the original) / (1 − DSC of the original)."
CEILING = (
    "Truth: the noise-free image segmented in the same way, against the fully sampled one, which is noisy itself. "
    "Where its gain lies below the bar, it decides; sN2N may exceed it, for it keeps noise that the fully sampled "
    "image has too."
)


def dsc_html(
    table: pd.DataFrame,
    gains: pd.DataFrame,
    published: Published,
    *,
    provenance: Mapping[str, Any],
    engines: Mapping[str, str],
    set_name: str = "quantitative",
    notes: Sequence[str] = (),
) -> GT:
    """The two DSC rows of Table 2 against the fully sampled image, with gains, shares and verdicts.

    Parameters
    ----------
    table, gains
        From `sn2nlib.reporting.volumetry`.
    published
        The paper's numbers.
    provenance
        As returned by `sn2nlib.provenance.provenance`.
    engines
        Kind → name and version of its engine, as `sn2nlib.evaluation.volumetry.choice.told` has it.
    set_name
        Which set.
    notes
        Further sentences below the table, for example what was excluded.

    Raises
    ------
    StudyError
        If the table has no rows of this set.
    """
    part = _part(table[table["metric"].isin(DSC_METRICS.values())], set_name, "full_sampled")
    rows = []
    for metric, level in part[["metric", "noise_sigma"]].drop_duplicates().itertuples(index=False):
        cell = part[(part["metric"] == metric) & (part["noise_sigma"] == level)].set_index("arm")
        row = {"metric": row_name(metric, engines), "level": f"{level:g}"}
        row |= {arm: _mean_sd(cell, arm) for arm in ("original", "sN2N", "truth")}
        row["p"] = format_p(float(cell["p_value"].get("sN2N", math.nan)))
        theirs = {arm: published.value(metric, arm, level) for arm in ("original", "sN2N")}
        row |= {f"p_{arm}": f"{cell_['mean']:.3f} ± {cell_['sd']:.3f}" for arm, cell_ in theirs.items()}
        row["p_p"] = str(theirs["sN2N"]["p_value"])
        rows.append(row | _gain_cells(gains, set_name, metric, level))
    n = int(part["n"].max())
    shown = (
        GT(pd.DataFrame(rows), groupname_col="metric", rowname_col="level", id=f"volumetry-{set_name}")
        .tab_header(
            f"Table 2, volumetry. {NAMES[set_name]}, against the fully sampled image",
            f"{n} scan{'s' if n > 1 else ''}; mean ± SD at each level of added noise",
        )
        .tab_stubhead("Added noise (σ)")
        .cols_label(
            original="Original", sN2N="sN2N", p="p", truth="Truth", p_original="Original", p_sN2N="sN2N",
            p_p="p", gain="Gain", spread="Lowest … highest scan", of_truth="Gain of the truth",
            published="Published", verdict="Verdict", share="Share removed (%)",
            published_share="Published", share_verdict="Verdict",
        )
        .cols_align("right", columns=["gain", "published", "share", "published_share"])
        .cols_move(columns="p", after="sN2N")
        .tab_spanner("This study", columns=["original", "sN2N", "p", "truth"])
        .tab_spanner("Published (19 patients)", columns=["p_original", "p_sN2N", "p_p"])
        .tab_spanner("Gain in DSC", columns=["gain", "spread", "of_truth", "published", "verdict"])
        .tab_spanner("Of 1 − DSC", columns=["share", "published_share", "share_verdict"])
    )  # fmt: skip
    few = [f"p-values need {ENOUGH} scans; there are {n}."] if n < ENOUGH else []
    few += _without_truth(gains[gains["set"] == set_name])
    return _noted(shown, [DSC_CONVENTION, SHARE, CEILING, *few, *notes], engines, provenance, set_name, published=True)


def truth_html(
    table: pd.DataFrame,
    *,
    provenance: Mapping[str, Any],
    engines: Mapping[str, str],
    set_name: str = "quantitative",
    notes: Sequence[str] = (),
) -> GT:
    """DSC against the true labels of digital heads: original, sN2N and the fully sampled image.

    Parameters and errors as `dsc_html`.
    """
    part = _part(table, set_name, "truth")
    inside = table[(table["set"] == set_name) & (table["reference"] == INSIDE)]
    both = pd.concat([part, inside]).sort_values("metric", kind="stable")
    rows = []
    cells = both[["metric", "reference", "noise_sigma"]].drop_duplicates()
    for metric, reference, level in cells.itertuples(index=False):
        chosen = (both["metric"] == metric) & (both["reference"] == reference) & (both["noise_sigma"] == level)
        where = INSIDE_NAME if reference == INSIDE else ""
        row = {"metric": row_name(metric, engines) + where, "level": f"{level:g}"}
        cell = both[chosen].set_index("arm")
        rows.append(row | {arm: _mean_sd(cell, arm) for arm in ("original", "sN2N", "full_sampled")})
    n = int(part["n"].max())
    shown = (
        GT(pd.DataFrame(rows), groupname_col="metric", rowname_col="level", id=f"volumetry-truth-{set_name}")
        .tab_header("DSC against the true labels of digital heads", f"{n} scan{'s' if n > 1 else ''}; mean ± SD")
        .tab_stubhead("Added noise (σ)")
        .cols_label(original="Original", sN2N="sN2N", full_sampled="Fully sampled image")
    )
    more = [RIM] if len(inside) else []
    more += [BOUND] if any(DIGITAL_ATLAS in name for name in engines.values()) else []
    return _noted(shown, [DSC_CONVENTION, *more, *notes], engines, provenance, set_name, published=False)


def surfaces_html(
    surfaces: pd.DataFrame,
    *,
    provenance: Mapping[str, Any],
    engines: Mapping[str, str],
    set_name: str = "quantitative",
) -> GT:
    """95th-percentile surface distances of original and sN2N to the fully sampled image's labels.

    Parameters and errors as `dsc_html`; `surfaces` from `sn2nlib.evaluation.volumetry.measures.surface_distances`.
    """
    part = surfaces[(surfaces["set"] == set_name) & surfaces["kind"].isin(list(engines))]
    if part.empty:
        raise StudyError(f"The table has no surface distances of {set_name!r}")
    shown = pd.DataFrame({"kind": [f"{kind}: {engines[kind]}" for kind in part["kind"]]})
    shown["level"] = [f"{level:g}" for level in part["noise_sigma"]]
    for arm in ("original", "sN2N", "truth"):
        shown[arm] = [NOTHING if math.isnan(value) else f"{value:.2f}" for value in part[arm]]
    n = int(part["n"].max())
    table = (
        GT(shown, groupname_col="kind", rowname_col="level", id=f"volumetry-surfaces-{set_name}")
        .tab_header(
            f"Distance of the surfaces (HD95, mm). {NAMES[set_name]}, to those in the fully sampled image",
            f"{n} scan{'s' if n > 1 else ''}; mean over structures, then over scans",
        )
        .tab_stubhead("Added noise (σ)")
        .cols_label(original="Original", sN2N="sN2N", truth="Truth")
        .cols_align("right", columns=["original", "sN2N", "truth"])
    )
    note = "HD95: the 95th percentile of the distances from each surface to the other, the larger of both directions."
    return _noted(table, [note], engines, provenance, set_name, published=False)


def volumes_html(
    volumes: pd.DataFrame,
    *,
    provenance: Mapping[str, Any],
    engines: Mapping[str, str],
    set_name: str = "quantitative",
    reference: str = "full_sampled",
) -> GT:
    """Bias of the tissue volumes of original and sN2N, each tissue with its sign, and the sum of absolute values.

    Parameters and errors as `dsc_html`; `volumes` from `sn2nlib.reporting.volumetry.volume_gains`.
    """
    part = volumes[(volumes["set"] == set_name) & (volumes["reference"] == reference)]
    if part.empty:
        raise StudyError(f"The volumes have no rows of {set_name!r} against {reference!r}")
    shown: dict[str, list[str]] = {"level": [f"{level:g}" for level in part["noise_sigma"]]}
    arms = ("original", "sN2N")
    for arm in arms:
        for tissue in TISSUE_NAMES:
            shown[f"{tissue}_{arm}"] = [signed(value, 1) for value in part[f"{tissue}_{arm}"]]
        shown[arm] = [f"{value:.1f}" for value in part[arm]]
    shown["verdict"] = [word or NOTHING for word in part["verdict"]]
    labels: dict[str, Any] = {f"{tissue}_{arm}": tissue for arm in arms for tissue in TISSUE_NAMES}
    labels |= dict.fromkeys(arms, "Σ|bias|")
    against = "the fully sampled image" if reference == "full_sampled" else "the true labels"
    page = GT(pd.DataFrame(shown), rowname_col="level", id=f"volumes-{set_name}-{reference}")
    page = page.tab_header(
        f"Bias of tissue volumes. {NAMES[set_name]}", f"Percent of the volume in {against}, mean over scans"
    )
    page = page.tab_stubhead("Added noise (σ)").cols_label(labels | {"verdict": "Verdict"})
    page = page.cols_align("right", columns=list(labels))
    for arm in arms:
        page = page.tab_spanner(NAMES[arm], columns=[*(f"{tissue}_{arm}" for tissue in TISSUE_NAMES), arm])
    notes = [
        "Σ|bias|: sum over GM, WM and CSF of |volume − reference| / reference, of each scan, averaged; from 1 σ on "
        "it is to be smaller for sN2N than for the original.",
        *crossings(part),
    ]
    return _noted(page, notes, {"tissue": engines["tissue"]}, provenance, set_name, published=False)


def _part(table: pd.DataFrame, set_name: str, reference: str) -> pd.DataFrame:
    part = table[(table["set"] == set_name) & (table["reference"] == reference)]
    if part.empty:
        raise StudyError(f"The table has no rows of {set_name!r} against {reference!r}")
    return part


def row_name(metric: str, engines: Mapping[str, str]) -> str:
    """What a row shows, and who made the labels here."""
    return f"{ROW_NAMES[metric]}; here: {engines[_KIND[metric]]}"


def _mean_sd(cell: pd.DataFrame, arm: str) -> str:
    mean, sd = (float(cell[column].get(arm, math.nan)) for column in ("mean", "sd"))
    return mean_sd(mean, sd, 3)


def _gain_cells(gains: pd.DataFrame, set_name: str, metric: str, level: float) -> dict[str, str]:
    chosen = (gains["set"] == set_name) & (gains["metric"] == metric) & (gains["noise_sigma"] == level)
    row = gains[chosen].iloc[0]
    return {
        "gain": signed(row["gain"], 3), "spread": f"{signed(row['lowest'], 3)} … {signed(row['highest'], 3)}",
        "of_truth": signed(row["ceiling"], 3), "published": signed(row["published"], 3),
        "verdict": row["verdict"] or NOTHING,
        "share": signed(row["share"], 0), "published_share": signed(row["published_share"], 0),
        "share_verdict": row["share_verdict"] or NOTHING,
    }  # fmt: skip


def _without_truth(gains: pd.DataFrame) -> list[str]:
    """Says how many noise-free images are missing."""
    missing = int((gains["n"] - gains["n_truth"]).max())
    if not missing:
        return []
    return [f"The truth lacks {missing} scan{'s' if missing > 1 else ''}, whose noise-free image has no usable labels."]


def _noted(
    table: GT,
    notes: Sequence[str],
    engines: Mapping[str, str],
    provenance: Mapping[str, Any],
    set_name: str,
    *,
    published: bool,
) -> GT:
    ran = "Engines: " + "; ".join(f"{kind}: {name}" for kind, name in engines.items()) + "."
    prior = [PRIOR] if engines.get("tissue", "").startswith(MarkovTissues.name) else []
    every = [ran, *prior, *notes, REAL if set_name == "real_head" else DIGITAL, *([PAPER] if published else [])]
    for note in [*every, provenance_note(provenance)]:
        table = table.tab_source_note(note)
    return table
