"""The chapters of the report, each made from what the notebooks have left: (anchor, heading, HTML).

A chapter whose material is missing says so and names the notebook that makes it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sn2nlib.evaluation.metrics import CONVENTIONS
from sn2nlib.provenance import read_json
from sn2nlib.reporting import page
from sn2nlib.reporting.demographics import table1, table1_html, table1_tests
from sn2nlib.reporting.html import (
    CEILING,
    DIGITAL,
    NAMES,
    PAPER,
    REAL,
    gains_html,
    own_noise_shares,
    table2_html,
)
from sn2nlib.reporting.published import Published
from sn2nlib.reporting.wording import NOTHING, signed

Chapter = tuple[str, str, str]

# beginning of a figure's file name → what stands in the paper
COUNTERPARTS = {
    "cohort": "", "preprocessing": "Figure 1a", "pairs": "Figure 1a", "noise_maps": "",
    "method": "Figure 1b and c", "learning_curve": "", "alpha": "Appendix 3", "noise_levels": "Table 2", "bias": "",
    "volumetry_dsc": "Table 2", "volumetry_structures": "", "volumetry_bland_altman": "", "volumetry_labels": "",
    "vessel_wall_g_factors": "", "vessel_wall_views": "Figure 6", "vessel_wall_measures": "Figure 6",
    "vessel_wall_sharpness": "",
    "reader_bars_quality": "Figure 2", "reader_bars_structures": "Figure 2", "reader_bars_vessel_wall": "Figure S7",
    "lesions": "Figures 4 and S2", "fine_structures": "Figure 3", "comparison": "Figures 3 and 5, S4 to S6",
    "montage": "Figure S3",
}  # fmt: skip
_WHERE = [(reference, region) for region in ("volume", "head") for reference in ("full_sampled", "noise_free")]
_DEFINITIONS = {
    "half_to_half": "Half to half", "original_to_half": "Original to half",
    "noise_free": "Against the truth, in the head", "full_sampled": "Against the fully sampled image",
}  # fmt: skip
_VERDICTS = (
    "Verdicts. A bar is the gain that this study asks of itself, the published one where there is one. Reached: the "
    "gain is at least the bar. Ceiling reached: the truth itself stays below the bar, and sN2N gains at least as much "
    "as the truth. Below ceiling: the truth stays below the bar, sN2N gains less. Missed: the truth reaches the bar, "
    "sN2N does not; or no truth is known."
)
_COLUMNS = {
    "participant": "Scan", "set": "Set", "noise_sd": "Noise SD per channel (k-space)",
    "noise_over_scale": "Noise SD in the head / scale", "psnr_original": "PSNR of the original (dB)",
    "wm_snr": "White-matter SNR", "own_noise_over_scale": "Own scanner noise / scale, at most",
    "noise_over_scale_half": "Noise SD of a half / scale", "g_original": "g-factor, original",
    "g_half": "g-factor, a half", "systematic_over_noise": "Systematic difference / noise SD of a half (RMS)",
    "noise_correlation": "Correlation of the halves’ noise (complex)",
    "check": "Check", "scan": "Scan", "value": "Measured", "goal": "Goal", "verdict": "Verdict", "note": "Note",
}  # fmt: skip


@dataclass(frozen=True)
class Material:
    """What the report is made of.

    Attributes
    ----------
    folder
        `reports/<profile>`, where the page will lie.
    provenance, settings
        Versions, commit, seed; and the profile, as a mapping.
    participants
        Rows of `sn2nlib.scans.manifest.load_splits`.
    published
        The paper's numbers.
    tables
        Contents of `tables/`, by name without ending.
    """

    folder: Path
    provenance: Mapping[str, Any]
    settings: Mapping[str, Any]
    participants: pd.DataFrame
    published: Published
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def sets(self) -> list[str]:
        """Sets of which Table 2 has rows, digital heads first."""
        measured = set(self.tables["table2"]["set"]) if "table2" in self.tables else set()
        return [name for name in ("quantitative", "real_head") if name in measured]

    def figures(self, *names: str) -> str:
        """HTML of the figures whose file names begin so."""
        found = [path for name in names for path in self.paths(name)]
        made = [page.figure(path, folder=self.folder, counterpart=COUNTERPARTS.get(_kind(path), "")) for path in found]
        return "".join(made) or page.paragraph(f"No figure “{names[0]}” has been made.", kind="missing")

    def paths(self, name: str) -> list[Path]:
        """Files of the figures of one kind, but for those that an earlier run has left of scans absent now."""
        every = sorted((self.folder / "figures").glob("*.png"))
        return [path for path in every if _kind(path) == name and not self._is_left_over(path)]

    @property
    def unavailable(self) -> dict[str, str]:
        """Participants that could not be had, and why, as notebook 01 has noted."""
        return read_json(self.folder / "scans" / "unavailable.json")

    @property
    def model(self) -> dict[str, Any]:
        """The model's description; empty before there is one."""
        return read_json(self.folder / "model" / "model.json")

    @property
    def left_over(self) -> list[Path]:
        """Figures of participants that could not be had this time."""
        return [path for path in sorted((self.folder / "figures").glob("*.png")) if self._is_left_over(path)]

    def _is_left_over(self, path: Path) -> bool:
        here = self.participants[~self.participants["participant"].isin(list(self.unavailable))]
        named = set(path.stem.split("_")) & set(self.unavailable)
        return bool(named) or ("real_head" in path.stem and "real" not in set(here["kind"]))


def headline(material: Material) -> Chapter:
    """The gains of Table 2 beside the published ones."""
    content = page.paragraph("Gain of sN2N over the original image, beside the published gain.")
    for name in material.sets if "table2_gains" in material.tables else []:
        gains = material.tables["table2_gains"]
        content += _headline_table(gains[gains["set"] == name], name) + _verdicts(gains[gains["set"] == name])
    content += (
        page.paragraph(_VERDICTS, kind="note")
        + page.paragraph(CEILING, kind="note")
        + page.paragraph(PAPER, kind="note")
    )
    return "results", "What came out", content if material.sets else lacking("table2", "05_noise_levels")


def people(material: Material) -> Chapter:
    """What the rows are, and Table 1."""
    everybody = material.participants
    digital = int((everybody["kind"] == "digital").sum())
    real = everybody.loc[everybody["kind"] == "real", "participant"].tolist()
    named = f"{len(real)} real head{'s' if len(real) > 1 else ''} ({', '.join(real)})" if real else "no real head"
    content = page.paragraph(f"This profile has {digital} digital heads and {named}; every scan is simulated.")
    content += page.paragraph(DIGITAL) + (page.paragraph(REAL) if real else "")
    tests = table1_tests(everybody, material.published)
    shown = table1_html(table1(everybody, material.published), tests, provenance=material.provenance)
    content += page.scrollable(shown.as_raw_html(), label="Table 1")
    return "people", "Who was scanned (Table 1)", content + material.figures("cohort")


def noise(material: Material) -> Chapter:
    """Noise of every scan."""
    if "noise" not in material.tables:
        return "noise", "Noise of the scans", lacking("noise", "01_data")
    caption = "Noise of every scan. Scale: 99th percentile of the object’s intensity."
    return "noise", "Noise of the scans", plain_table(material.tables["noise"], caption)


def pairs(material: Material) -> Chapter:
    """Preprocessing and half images."""
    content = material.figures("preprocessing") + material.figures("pairs") + material.figures("noise_maps")
    if "pairs" in material.tables:
        caption = "The half images of every training and validation scan, inside the head"
        content += plain_table(material.tables["pairs"], caption)
    else:
        content += lacking("pairs", "02_pairs")
    return "pairs", "Half images and their noise (Figure 1a)", content


def checks(material: Material) -> Chapter:
    """What the reconstruction promises: measured values, goals, verdicts."""
    if "checks" not in material.tables:
        return "checks", "Checks of the reconstruction", lacking("checks", "02_pairs")
    rows = material.tables["checks"]
    counts = ", ".join(f"{verdict} {n}" for verdict, n in rows["verdict"].value_counts().items())
    content = page.paragraph(f"Of {len(rows)} checks: {counts}. Reported: measured, but nothing is asked of it.")
    caption = "Measured values of the reconstruction beside their goals"
    return "checks", "Checks of the reconstruction", content + plain_table(rows, caption)


def training(material: Material) -> Chapter:
    """The network, what it learns from and how it is used, and the learning curve."""
    content = material.figures("method") + material.figures("learning_curve")
    return "training", "Training and the network (Figure 1b and c)", content


def alpha(material: Material) -> Chapter:
    """The α curve and its numbers."""
    content = material.figures("alpha")
    if "alpha" not in material.tables:
        return "alpha", "The choice of α (Appendix 3)", content + lacking("alpha", "04_alpha")
    means = material.tables["alpha"].groupby(["alpha", "definition"])["psnr"].mean().unstack()
    rows = pd.DataFrame({"α": [f"{value:g}" for value in means.index]})
    for name in (name for name in _DEFINITIONS if name in means):
        best = means[name].idxmax()
        rows[_DEFINITIONS[name]] = [
            f"{value:.2f}{' (best)' if level == best else ''}" for level, value in means[name].items()
        ]
    caption = "PSNR (dB) over α, mean of the validation scans"
    content += page.table(rows, caption=caption, numbers=list(rows.columns))
    return "alpha", "The choice of α (Appendix 3)", content


def quality(material: Material) -> Chapter:
    """Table 2 and the gains, for every set, reference and region."""
    content = material.figures("noise_levels")
    shares = own_noise_shares(material.tables["noise"]) if "noise" in material.tables else {}
    options = {"provenance": material.provenance, "own_noise": shares}
    for name in material.sets:
        content += f"<h3>{page.escape(NAMES[name])}</h3>\n"
        for reference, region in _WHERE:
            where: dict[str, Any] = {"set_name": name, "reference": reference, "region": region, **options}
            measured = material.tables.get("quality_rows")
            tables = [table2_html(material.tables["table2"], material.published, measured=measured, **where)]
            if "table2_gains" in material.tables:
                tables.append(gains_html(material.tables["table2_gains"], **where))
            label = f"{NAMES[name]}, {NAMES[region]}, against the {NAMES[reference]}"
            content += "".join(page.scrollable(table.as_raw_html(), label=label) for table in tables)
    content += "" if material.sets else lacking("table2", "05_noise_levels")
    content += material.figures("bias") + _bias_tables(material)
    return "quality", "Image quality over the noise level (Table 2)", content


def images(material: Material) -> Chapter:
    """Original, sN2N and reference."""
    content = material.figures("comparison") + material.figures("montage")
    return "images", "Images (Figures 3, 5, S3 to S6)", content


def conventions(material: Material) -> Chapter:
    """How the metrics are computed."""
    texts = [
        *CONVENTIONS.values(),
        "NRMSE gains are relative: percent of the original’s NRMSE; the paper’s are recomputed so.",
        "Regions: the whole volume (the paper’s), and inside the head: one mask per head, from its noise-free image.",
        "p-values: two-sided paired t-test over scans, sN2N against the original.",
        "σ: the noise SD per real and imaginary channel of the acquired, pre-whitened k-space.",
    ]
    return "conventions", "Conventions of the metrics", page.bullets(texts)


def plain_table(rows: pd.DataFrame, caption: str) -> str:
    """A table as it was stored, with readable names and rounded numbers."""
    shown = pd.DataFrame({column: [_text(value) for value in rows[column]] for column in rows.columns})
    names = {str(column): _COLUMNS.get(str(column), str(column).replace("_", " ")) for column in rows.columns}
    numbers = [names[column] for column in names if pd.api.types.is_numeric_dtype(rows[column])]
    return page.table(shown.rename(columns=names), caption=caption, numbers=numbers)


def _headline_table(gains: pd.DataFrame, name: str) -> str:
    volume, inside = (_psnr_rows(gains, *where) for where in (("full_sampled", "volume"), ("noise_free", "head")))
    shown = {
        "Added noise (σ)": [f"{level:g}" for level in volume.index],
        "Gain, whole volume, against fully sampled": [signed(value, 2) for value in volume["gain"]],
        "Published gain": [signed(value, 2) for value in volume["published"]],
        "Gain of the truth": [signed(value, 2) for value in volume["ceiling"]],
        "Verdict, whole volume": volume["verdict"].replace("", NOTHING),
        "Gain inside the head, against noise-free": [signed(value, 2) for value in inside["gain"]],
        "Lowest scan": [signed(value, 2) for value in inside["lowest"]],
        "Verdict, inside the head": inside["verdict"].replace("", NOTHING),
    }
    n = int(volume["n"].max())
    numbers = [column for column in shown if not column.startswith("Verdict")]
    caption = f"PSNR gain in dB. {NAMES[name]}, {n} scan{'s' if n > 1 else ''}"
    return page.table(pd.DataFrame(shown), caption=caption, numbers=numbers)


def _psnr_rows(gains: pd.DataFrame, reference: str, region: str) -> pd.DataFrame:
    chosen = (gains["metric"] == "PSNR_dB") & (gains["reference"] == reference) & (gains["region"] == region)
    return gains[chosen].set_index("noise_sigma").sort_index()


def _verdicts(gains: pd.DataFrame) -> str:
    texts = []
    judged = gains[gains["bar"].notna()]
    for (metric, reference, region), rows in judged.groupby(["metric", "reference", "region"], sort=False):
        counts = ", ".join(f"{verdict} at {n}" for verdict, n in rows["verdict"].value_counts().items())
        where = f"{NAMES[str(region)]}, against the {NAMES[str(reference)]}"
        texts.append(f"{NAMES[str(metric)]}, {where}: {counts} of {len(rows)} levels.")
    return page.bullets(texts)


def _bias_tables(material: Material) -> str:
    """Mean bias per set: digital and real heads are never pooled."""
    if "bias" not in material.tables:
        return lacking("bias", "05_noise_levels")
    sets = material.participants.set_index("participant")["set"]
    bias, content = material.tables["bias"], ""
    for name, rows in bias.groupby(bias["head"].map(sets), sort=False):
        shown: dict[str, list[str]] = {}
        for (region, arm), part in rows.groupby(["region", "arm"], sort=False):
            means = part.groupby("noise_sigma")["bias_percent"].mean()
            shown["Added noise (σ)"] = [f"{level:g}" for level in means.index]
            title = f"{region}, {NAMES.get(str(arm), str(arm))}"
            shown[title] = [signed(value, 1) for value in means]
        n = rows["head"].nunique()
        caption = f"Mean bias in percent of the head’s mean. {NAMES.get(str(name), str(name))}, n = {n}"
        content += page.table(pd.DataFrame(shown), caption=caption, numbers=list(shown))
    return content


def lacking_of(material: Material, tables: Sequence[str], notebook: str) -> str:
    """Paragraphs for those of a notebook's tables that are missing; "" if none is."""
    return "".join(lacking(name, notebook) for name in tables if name not in material.tables)


def lacking(table: str, notebook: str) -> str:
    """A paragraph that says which table is missing, and who makes it."""
    return page.paragraph(f"tables/{table}.csv is missing: notebook {notebook} makes it.", kind="missing")


def _kind(path: Path) -> str:
    """Key of `COUNTERPARTS` that a file name begins with; "" for others."""
    kinds = sorted(COUNTERPARTS, key=len, reverse=True)
    return next((kind for kind in kinds if path.stem == kind or path.stem.startswith(f"{kind}_")), "")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return NOTHING if math.isnan(value) else f"{value:.4g}"
    return NOTHING if pd.isna(value) else str(value)
