"""The report of a study: `index.html`, which needs nothing from outside, and `run.json`, where it came from."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from sn2nlib.errors import StudyError
from sn2nlib.provenance import atomic_write, write_json
from sn2nlib.reporting import chapters, differences, page, readers_chapter, vessel_wall_chapter, volumetry_chapter
from sn2nlib.reporting.published import Published

# tables the report wants, and who makes them
_WANTED = {
    "noise": "01_data", "pairs": "02_pairs", "checks": "02_pairs", "history": "03_train", "alpha": "04_alpha",
    "bias": "05_noise_levels", "table2": "05_noise_levels", "table2_gains": "05_noise_levels",
    "table2_per_scan": "05_noise_levels", "quality_rows": "05_noise_levels",
    **dict.fromkeys(volumetry_chapter.TABLES, "06_volumetry"),
    **dict.fromkeys(vessel_wall_chapter.TABLES, "07_vessel_wall"),
    **dict.fromkeys(readers_chapter.TABLES, "08_readers"),
}  # fmt: skip
_TESTED = ("quantitative", "real_head")


def build_report(
    out: Path,
    *,
    title: str,
    provenance: Mapping[str, Any],
    settings: Mapping[str, Any],
    participants: pd.DataFrame,
    published: Published,
) -> Path:
    """Write `index.html` and `run.json` from what the notebooks have left; what is missing is said.

    Parameters
    ----------
    out
        `reports/<profile>`, with `tables/` and `figures/`; the page refers to the figures beside it.
    title
        Of the page.
    provenance
        As returned by `sn2nlib.provenance.provenance`.
    settings
        The profile as a mapping (`Profile.model_dump()`).
    participants
        Rows of `sn2nlib.scans.manifest.load_splits`.
    published
        The paper's numbers.

    Returns
    -------
    Path
        Of `index.html`.

    Raises
    ------
    StudyError
        If there is no such folder, or a table cannot be read.
    """
    out = Path(out)
    if not out.is_dir():
        raise StudyError(f"there is no study in {out}; run the notebooks before the report")
    material = chapters.Material(out, provenance, settings, participants, published, _read_tables(out))
    missing, seconds = missing_parts(material), notebook_seconds(out)
    run = _run_record(material, title=title, missing=missing, seconds=seconds)
    makers = (
        chapters.headline, chapters.people, chapters.noise, chapters.pairs, chapters.checks, chapters.training,
        chapters.alpha, chapters.quality, volumetry_chapter.volumetry, vessel_wall_chapter.vessel_wall,
        readers_chapter.readers, chapters.images, chapters.conventions, differences.differences,
    )  # fmt: skip
    sections = [*(make(material) for make in makers), *_further_figures(material), _origin(material, run)]
    html = page.document(title, _introduction(run), sections)
    with atomic_write(out / "index.html") as temporary:
        temporary.write_text(html, encoding="utf-8")
    write_json(out / "run.json", run)
    return out / "index.html"


def missing_parts(material: chapters.Material) -> list[str]:
    """A sentence for every table that is not there, every test scan that was not measured, and figures left over."""
    sentences = [
        f"tables/{name}.csv is missing; notebook {notebook} makes it."
        for name, notebook in _WANTED.items()
        if name not in material.tables
    ]
    reasons = material.unavailable
    tested = material.participants.loc[material.participants["set"].isin(_TESTED), "participant"]
    measured = set(material.tables["table2_per_scan"]["scan"]) if "table2_per_scan" in material.tables else set()
    for name in tested[~tested.isin(measured)] if measured else list(reasons):
        reason = reasons.get(name, "it has no rows in table2_per_scan.csv")
        sentences.append(f"{name} was not measured: {reason.rstrip('.')}.")
    if material.left_over:
        names = ", ".join(path.name for path in material.left_over)
        sentences.append(f"Figures of an earlier run, of a scan that this one lacks, are not shown: {names}.")
    return sentences


def notebook_seconds(out: Path) -> dict[str, float]:
    """Running time of every executed notebook in `notebooks/`, in seconds."""
    found: dict[str, float] = {}
    for path in sorted((out / "notebooks").glob("[0-9]*.ipynb")):
        if path.stem.count(".") == 0:  # not .running or .failed
            recorded = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("papermill", {}).get("duration")
            found |= {path.stem: round(float(recorded), 1)} if recorded is not None else {}
    return found


def _read_tables(out: Path) -> dict[str, pd.DataFrame]:
    tables = {}
    for name in _WANTED:
        path = out / "tables" / f"{name}.csv"
        if path.is_file():
            try:
                tables[name] = pd.read_csv(path)
                # a cell that asks for nothing has no verdict: empty in the file, not a missing number
                words = [column for column in ("verdict", "statistic", "share_verdict") if column in tables[name]]
                tables[name][words] = tables[name][words].astype(object).fillna("")
            except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
                raise StudyError(f"{path} cannot be read: {error}; run notebook {_WANTED[name]} again") from error
    return tables


def _run_record(
    material: chapters.Material, *, title: str, missing: list[str], seconds: Mapping[str, float]
) -> dict[str, Any]:
    return {
        "title": title,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **material.provenance,
        "alpha": material.model.get("alpha"),
        "training_precision": material.model.get("training", {}).get("precision"),
        "gains": _gains_record(material.tables.get("table2_gains")),
        "volumetry": _volumetry_record(material.tables),
        "vessel_wall": _records(material.tables["vessel_wall_bars"]) if "vessel_wall_bars" in material.tables else [],
        "missing": missing,
        "seconds": dict(seconds),
        "settings": dict(material.settings),
    }


def _gains_record(gains: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Rows of the gains, with null for what is not defined, which JSON cannot write otherwise."""
    if gains is None:
        return []
    names = ["set", "reference", "region", "metric", "noise_sigma", "gain", "lowest", "published", "bar", "verdict"]
    return _records(gains[names])


def _volumetry_record(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Which engines made the labels, the gains in DSC, and the volume errors."""
    if any(name not in tables for name in volumetry_chapter.TABLES):
        return {}
    return {
        "engines": volumetry_chapter.engines(tables["volumetry_engines"]),
        "gains": _records(tables["volumetry_gains"]),
        "volumes": _records(tables["volumetry_volumes"]),
        "excluded": len(tables["volumetry_excluded"]),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.astype(object).to_dict("records")
    return [{str(key): _finite(value) for key, value in row.items()} for row in rows]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _introduction(run: Mapping[str, Any]) -> str:
    text = (
        "MR-self Noise2Noise, reproduced: a network learns to denoise 3D MRI from pairs of images, each reconstructed "
        "from one half of a scan’s own k-space. Simulated scans; a research study, not for clinical use."
    )
    alpha = "" if run["alpha"] is None else f" α = {run['alpha']:.2f} (the paper: 0.3)."
    content = page.paragraph(text) + page.paragraph(
        f"Made {run['created'][:16].replace('T', ' ')} UTC.{alpha}", kind="note"
    )
    if run["missing"]:
        content += '<div class="missing"><p><strong>Missing in this report:</strong></p>\n'
        content += page.bullets(run["missing"]) + "</div>\n"
    return content


def _further_figures(material: chapters.Material) -> list[chapters.Chapter]:
    paths = material.paths("")
    content = "".join(page.figure(path, folder=material.folder) for path in paths)
    return [("further", "Further figures", content)] if paths else []


def _origin(material: chapters.Material, run: Mapping[str, Any]) -> chapters.Chapter:
    """Provenance: versions, commit, seed, settings, times."""
    named = ("profile", "commit", "seed", "threads", "training_precision", "denoising_precision", "created")
    facts = {name.replace("_", " "): run[name] for name in named if run.get(name) is not None}
    facts |= {f"{name} (version)": number for name, number in dict(run.get("versions", {})).items()}
    facts |= _flat(run["settings"])
    rows = pd.DataFrame({"What": list(facts), "Value": [str(value) for value in facts.values()]})
    content = page.table(rows, caption="Versions, commit, seed, and every setting of the profile")
    if run["seconds"]:
        times = pd.DataFrame(
            {"Notebook": list(run["seconds"]), "Seconds": [f"{s:.0f}" for s in run["seconds"].values()]}
        )
        content += page.table(times, caption="Running time of the notebooks", numbers=["Seconds"])
        # not as links: copies of the report go without them
        text = "Executed, with all they printed, the notebooks lie in notebooks/ of the folder where the study was run."
        content += page.paragraph(text)
    content += page.paragraph("The same, for programs: run.json; every table as CSV: tables/.", kind="note")
    return "origin", "Where this comes from", content


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
