"""The report's chapter about volumetry, from what notebook 06 has left."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sn2nlib.reporting import page
from sn2nlib.reporting.chapters import Chapter, Material, lacking_of
from sn2nlib.reporting.html import NAMES
from sn2nlib.reporting.volumetry import excluded_sentence
from sn2nlib.reporting.volumetry_html import dsc_html, row_name, surfaces_html, truth_html, volumes_html

TABLES = (
    "table2_volumetry", "volumetry_gains", "volumetry_volumes", "volumetry_engines", "volumetry_excluded",
    "volumetry_surfaces",
)  # fmt: skip
_ANCHOR = "volumetry", "Volumetry (Table 2)"


def volumetry(material: Material) -> Chapter:
    """The DSC rows of Table 2, volumes, structures, and labels on images."""
    if missing := lacking_of(material, TABLES, "06_volumetry"):
        return *_ANCHOR, missing
    tables = material.tables
    table, gains, volumes = (tables[name] for name in TABLES[:3])
    told = engines(tables["volumetry_engines"])
    main = {kind: name for kind, name in told.items() if kind in ("tissue", "subcortical")}
    content = page.paragraph("Engines that made the labels:") + page.bullets(
        f"{kind.replace('_', ' ')}: {name}" for kind, name in told.items()
    )
    for name in [each for each in ("quantitative", "real_head") if each in set(table["set"])]:
        where: dict[str, Any] = {"provenance": material.provenance, "set_name": name}
        notes = [excluded_sentence(tables["volumetry_excluded"], set_name=name)]
        content += f"<h3>{page.escape(NAMES[name])}</h3>\n" + _verdicts(gains[gains["set"] == name], main)
        pages = [dsc_html(table, gains, material.published, engines=main, notes=notes, **where)]
        if "tissue" in main:
            against = dict.fromkeys(volumes.loc[volumes["set"] == name, "reference"])
            pages += [volumes_html(volumes, engines=main, reference=reference, **where) for reference in against]
        pages.append(surfaces_html(tables["volumetry_surfaces"], engines=main, **where))
        if ((table["set"] == name) & (table["reference"] == "truth")).any():
            pages.append(truth_html(table, engines=told, **where))
        content += "".join(page.scrollable(each.as_raw_html(), label=f"Volumetry, {NAMES[name]}") for each in pages)
    if table.empty:
        content += page.paragraph("No segmentation was plausible; nothing can be compared.", kind="missing")
        content += page.bullets(_reasons(tables["volumetry_excluded"]))
        return *_ANCHOR, content
    kinds = ("volumetry_dsc", "volumetry_structures", "volumetry_bland_altman", "volumetry_labels")
    return *_ANCHOR, content + "".join(material.figures(kind) for kind in kinds)


def engines(table: pd.DataFrame) -> dict[str, str]:
    """Kind → name and version of its engine, from ``volumetry_engines.csv``."""
    return dict(zip(table["kind"], table["engine"], strict=True))


def _verdicts(gains: pd.DataFrame, told: Mapping[str, str]) -> str:
    texts = []
    for column, what in (("verdict", "gain"), ("share_verdict", "share of 1 − DSC removed")):
        judged = gains[gains[column] != ""]
        for metric, rows in judged.groupby("metric", sort=False):
            counts = ", ".join(f"{verdict} at {n}" for verdict, n in rows[column].value_counts().items())
            texts.append(f"{row_name(str(metric), told)}, {what}: {counts} of {len(rows)} levels.")
    return page.bullets(texts)


def _reasons(excluded: pd.DataFrame) -> list[str]:
    return [f"{row.scan} at {row.noise_sigma:g} σ, {row.kind}: {row.reason}" for row in excluded.itertuples()]
