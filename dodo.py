"""The study's order: which notebook needs which, and what each must leave behind. The only place that knows.

`sn2n study --profile demo` runs these tasks one after the other, each in a run of its own, so that what is
done stays done after a kill. By hand, from this folder:

    doit list profile=demo
    doit run --single 05_noise_levels profile=demo
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doit import get_var
from doit.exceptions import TaskFailed
from doit.task import Task
from doit.tools import config_changed

from sn2nlib.config import PROFILES, load_profile
from sn2nlib.errors import StudyError
from sn2nlib.reporting.notebooks import run_notebook

ROOT = Path(__file__).resolve().parent

NEEDS: dict[str, list[str]] = {
    "00_quickstart": [],
    "01_data": [],
    "02_pairs": ["01_data"],
    "03_train": ["02_pairs"],
    "04_alpha": ["03_train"],
    "05_noise_levels": ["04_alpha"],
    "06_volumetry": ["05_noise_levels"],
    "07_vessel_wall": ["04_alpha"],
    "08_readers": ["04_alpha", "07_vessel_wall"],
    "09_report": [
        "00_quickstart", "01_data", "02_pairs", "03_train", "04_alpha", "05_noise_levels", "06_volumetry",
        "07_vessel_wall", "08_readers",
    ],
}
# under reports/<profile>/; a notebook whose result was deleted runs again, be it one of these, which it must leave,
# or any other table or figure that it was seen to write
WRITES: dict[str, list[str]] = {
    "01_data": ["scans/.stage", "references/.stage", "tables/table1.csv", "tables/noise.csv"],
    "02_pairs": ["pairs/.stage", "tables/checks.csv"],
    "03_train": ["model/model.json", "model/model.safetensors", "tables/history.csv"],
    "04_alpha": ["tables/alpha.csv"],
    "05_noise_levels": ["tables/table2.csv", "tables/table2_per_scan.csv", "tables/table2_gains.csv"],
    "06_volumetry": ["tables/table2_volumetry.csv", "tables/volumetry_gains.csv", "tables/volumetry_rows.csv"],
    "07_vessel_wall": ["tables/vessel_wall.csv", "tables/vessel_wall_per_scan.csv", "tables/vessel_wall_bars.csv"],
    "08_readers": ["tables/reader_scores.csv", "tables/readers.csv", "tables/kappa.csv", "readers/study.yaml"],
    "09_report": ["index.html", "run.json"],
}

# measured on two cores without a GPU, other work stopped: minutes; memory of all processes (GiB), disk (GB)
TAKES: dict[str, dict[str, Any]] = {
    "smoke": {
        "minutes": {
            "00_quickstart": 0.4, "01_data": 0.4, "02_pairs": 0.3, "03_train": 0.2, "04_alpha": 0.1,
            "05_noise_levels": 0.2, "06_volumetry": 1.6, "07_vessel_wall": 0.7, "08_readers": 0.5, "09_report": 0.1,
        },  # the whole was measured; its shares are estimates
        "memory": 5, "disk": 0.5,
    },
    "demo": {
        "minutes": {
            "00_quickstart": 0.4, "01_data": 3.4, "02_pairs": 1.5, "03_train": 4.4, "04_alpha": 0.7,
            "05_noise_levels": 5.1, "06_volumetry": 12.4, "07_vessel_wall": 6.2, "08_readers": 5.8, "09_report": 0.1,
        },
        "memory": 6, "disk": 7,
    },
}  # fmt: skip

PROFILE = get_var("profile") or "demo"
PARAMETERS: dict[str, Any] = json.loads(get_var("parameters") or "{}")
PROFILE_FILE = Path(PROFILE) if PROFILE.endswith((".yaml", ".yml")) else PROFILES / f"{PROFILE}.yaml"
REPORTS = Path(get_var("reports") or ROOT / "reports").resolve()
FOLDER = REPORTS / load_profile(PROFILE).name

FOLDER.mkdir(parents=True, exist_ok=True)
DOIT_CONFIG = {"backend": "sqlite3", "dep_file": str(FOLDER / ".doit.db"), "verbosity": 2}


def library() -> list[Path]:
    """Sources whose change makes every result stale; how the study is started is none of them."""
    package = ROOT / "sn2nlib"
    how_it_starts = {*package.glob("cli*.py"), package / "reporting/notebooks.py", package / "reporting/study.py"}
    return sorted(set(package.rglob("*.py")) - how_it_starts)


def executed(notebook: str) -> Path:
    """The executed copy of a notebook."""
    return FOLDER / "notebooks" / f"{notebook}.ipynb"


def tables_and_figures() -> dict[str, int]:
    """Every file for the reader, under its name in `FOLDER`, and when it was written."""
    files = [path for name in ("tables", "figures") for path in (FOLDER / name).glob("[!.]*")]
    return {path.relative_to(FOLDER).as_posix(): path.stat().st_mtime_ns for path in files}


def all_there(task: Task, values: dict[str, Any]) -> bool:
    """Whether what the notebook wrote in its last run is still there; doit knows the arguments by their names."""
    return all((FOLDER / name).is_file() for name in values.get("written", []))


def run(notebook: str, source: Path, parameters: dict[str, Any]) -> TaskFailed | dict[str, Any]:
    """Run a notebook and note what it wrote; a failure of the study is one sentence, not a traceback."""
    missing = [name for name in NEEDS[notebook] if not executed(name).is_file()]
    if missing:
        return TaskFailed(f"{notebook} needs the results of {', '.join(missing)}; run these notebooks first")
    show_output, before = bool(get_var("show_output")), tables_and_figures()
    try:
        run_notebook(source, executed(notebook), parameters, cwd=source.parent, show_output=show_output)
    except (StudyError, OSError) as error:
        return TaskFailed(str(error))
    return {"written": [name for name, time in tables_and_figures().items() if before.get(name) != time]}


def task_notebooks() -> Iterator[dict[str, Any]]:
    """One task per notebook."""
    manifest = sorted(path for path in (ROOT / "data_manifest").rglob("*") if path.is_file())
    for notebook, needed in NEEDS.items():
        source = ROOT / "notebooks" / f"{notebook}.ipynb"
        parameters = {"profile": PROFILE, "reports_dir": str(REPORTS), **PARAMETERS}
        yield {
            "basename": notebook,
            "doc": f"needs {', '.join(needed) or 'no other'}",
            "actions": [(run, [notebook, source, parameters])],
            "file_dep": [source, PROFILE_FILE, *manifest, *library(), *map(executed, needed)],
            "targets": [executed(notebook), *(FOLDER / name for name in WRITES.get(notebook, []))],
            "uptodate": [config_changed(parameters), all_there],
            "io": {"capture": False},
        }
