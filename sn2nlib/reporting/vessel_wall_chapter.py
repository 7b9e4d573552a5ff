"""The report's chapter about vessel wall imaging, from what notebook 07 has left."""

import pandas as pd

from sn2nlib.reporting import page
from sn2nlib.reporting.chapters import Chapter, Material, lacking_of
from sn2nlib.reporting.html import DIGITAL
from sn2nlib.reporting.vessel_wall import ARM_NAMES, not_better, not_shown, readable
from sn2nlib.reporting.wording import rounded
from sn2nlib.scans.black_blood import VOXEL

TABLES = ("vessel_wall", "vessel_wall_per_scan", "vessel_wall_bars")
CONVENTIONS = (
    "Noise SD: of a point over replicas of the same scan, root mean square over the points of a region, mean over the "
    "cross-sections. A spatial SD would reward any blur.",
    "CNR: difference of the levels over the root mean square of both noise SDs.",
    "Wall thickness, lumen area and edge widths: of walls of at least 1.5 voxels alone, from profiles across the wall.",
    "Tests: two-sided paired t (t) and Wilcoxon signed-rank, asymptotic (W), against the original, over scans.",
    "The blur is a Gaussian under which the noise SD over the replicas, median over the object, is that of sN2N; "
    "in lumen and CSF alone it may take more or less.",
    "Bars compare means over the scans; where the fine-tuned network is compared with sN2N, p-values of the paired "
    "tests stand beside them.",
)
_ANCHOR = "vessel-wall", "Generalisation to vessel wall imaging (Figure 6)"


def vessel_wall(material: Material) -> Chapter:
    """Images of a sequence that the network never saw: measures, tests, what was asked, and views."""
    if missing := lacking_of(material, TABLES, "07_vessel_wall"):
        return *_ANCHOR, missing
    table, values, asked = (material.tables[name] for name in TABLES)
    n = values["scan"].nunique()
    voxel = " × ".join(f"{size:g}" for size in VOXEL)
    content = page.paragraph(
        f"{n} digital phantom{'s' if n > 1 else ''}: T1-weighted SPACE, coronal, {voxel} mm, R = 2×2 "
        "CAIPIRINHA, met as NIfTI images. The network and α are those of the MP-RAGE study; beside it the same network "
        "fine-tuned on a few vessel wall scans, one of vessel wall scans alone, and a blur of equal noise reduction."
    )
    shown = readable(table)
    caption = f"Mean ± SD over {n} scans, and p-values against the original"
    shown.iloc[:, 1:] = shown.iloc[:, 1:].map(_unbroken)
    content += page.table(shown, caption=caption)
    content += page.paragraph(f"{DIGITAL}", kind="note") + page.bullets(CONVENTIONS) + _verdicts(asked)
    kinds = tuple(f"vessel_wall_{name}" for name in ("g_factors", "views", "measures", "sharpness"))
    return *_ANCHOR, content + "".join(material.figures(kind) for kind in kinds)


def _verdicts(asked: pd.DataFrame) -> str:
    content = ""
    for arm, part in asked.groupby("arm", sort=False):
        rows = pd.DataFrame({
            "What is asked": part["bar"],
            "Found": [rounded(value) for value in part["value"]],
            "Limit": [f"{value:.3g}" for value in part["limit"]],
            "p against sN2N, t": [rounded(value) for value in part["p_sN2N"]],
            "W": [rounded(value) for value in part["p_sN2N_wilcoxon"]],
            "Verdict": part["verdict"],
        }).drop(columns=[] if part["p_sN2N"].notna().any() else ["p against sN2N, t", "W"])  # fmt: skip
        content += page.table(rows, caption=f"{ARM_NAMES[str(arm)]}: bars", numbers=list(rows.columns[1:-1]))
    worse, unsure = not_better(asked), not_shown(asked)
    if worse:
        content += page.paragraph("Fine-tuning does not go further on:") + page.bullets(worse)
    if unsure:
        content += page.paragraph("Its mean is further, but a test does not show it, on:") + page.bullets(unsure)
    return content


def _unbroken(text: str) -> str:
    """A cell whose lines break before SD and p-values alone: in one line each, the table would not fit on the page."""
    for sign in ("± ", "(t ", "W ", "< "):
        text = text.replace(sign, sign.replace(" ", "\u00a0"))
    return text
