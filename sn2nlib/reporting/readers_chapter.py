"""The report's chapter about the reader study, from what notebook 08 has left."""

import re
from pathlib import Path

import pandas as pd

from sn2nlib.reporting import page
from sn2nlib.reporting.chapters import Chapter, Material, lacking_of, plain_table
from sn2nlib.reporting.readers import NAMES, SYNTHETIC

TABLES = (
    "readers", "readers_pooled", "kappa", "intra_reader", "reader_counts", "cases_needed", "reader_measures",
)  # fmt: skip
FOLDER = "reader_study"  # of the tables as they are printed, and of the methods paragraph
_BODY = re.compile(r"<body>(.*)</body>", re.DOTALL)
_ANCHOR = "readers", "The reader study (Figure 2, Tables S3 and S4)"
_MEASURES = {
    "noise": "Noise over white matter", "contrast": "CNR of white and grey matter and nuclei",
    "acuity": "Sharpness of borders (about 1.5: as sharp as the voxels allow)", "edge": "Grey–white step over noise",
    "ghost": "Ghost in air over white matter", "structure": "Fine structures: contrast over noise",
    "border": "Lesions: contrast over noise", "lesion": "Lesions: detectability d′",
}  # fmt: skip


def readers(material: Material) -> Chapter:
    """Scores, agreement, what was looked at, and the methods paragraph."""
    if missing := lacking_of(material, TABLES, "08_readers"):
        return *_ANCHOR, missing
    tables, folder = material.tables, material.folder / FOLDER
    synthetic = set(tables["readers"]["source"]) == {"synthetic"}
    content = page.paragraph(SYNTHETIC, kind="missing") if synthetic else ""
    content += material.figures("reader_bars_quality", "reader_bars_structures", "reader_bars_vessel_wall")
    if "vessel_wall" not in set(tables["readers"]["group"]):
        content += page.paragraph("Nobody scored vessel wall images, so Figure S7 and Table S4 are left out.")
    content += "".join(_printed(folder / f"{name}.html") for name in NAMES)
    content += material.figures("lesions", "fine_structures")
    content += _measures(tables["reader_measures"]) if synthetic else ""
    methods = folder / "methods.txt"
    if methods.is_file():
        content += "<h3>For a methods section</h3>\n" + page.paragraph(methods.read_text(encoding="utf-8").strip())
    return *_ANCHOR, content


def _printed(path: Path) -> str:
    """A table as notebook 08 has printed it; nothing if these scores did not give it."""
    found = _BODY.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    return page.scrollable(found.group(1).strip(), label=path.stem.replace("_", " ")) if found else ""


def _measures(rows: pd.DataFrame) -> str:
    """What the model observer measured: the median over images, structures and lesions."""
    medians = rows.groupby(["measure", "arm"], sort=False)["value"].median().unstack()
    shown = medians.rename(index=_MEASURES).reset_index(names="What the model observer measures, median")
    return plain_table(shown, "Measures behind the synthetic scores; the observer does not know the arms")
