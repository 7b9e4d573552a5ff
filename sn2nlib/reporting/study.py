"""The whole study on one profile: every notebook in order, skipping what is up to date, then the gains."""

import ast
import contextlib
import io
import json
import runpy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from doit.cmd_base import NamespaceTaskLoader
from doit.doit_cmd import DoitMain
from doit.exceptions import BaseFail
from doit.reporter import ZeroReporter
from doit.task import Task

from sn2nlib.config import load_profile
from sn2nlib.errors import Stopped, StudyError
from sn2nlib.provenance import free_space

STUDY = "0[0-9]_*.ipynb"  # in notebooks/; those from 10 on wait for a user's own file
_ROOM = 2**24  # bytes that a notebook and what doit knows of it surely take
_GAIN_TITLES = {
    ("full_sampled", "volume"): "Gain of sN2N over the original, whole volume, fully sampled reference:",
    ("noise_free", "head"): "Gain of sN2N over the original, inside the head, noise-free reference:",
}
_DSC_TITLE = "Gain of sN2N over the original in DSC with the fully sampled image's labels:"
_GAIN_UNITS = {
    "PSNR_dB": ("PSNR, dB higher", 2),
    "SSIM": ("SSIM higher", 4),
    "NRMSE_percent": ("NRMSE, % lower", 1),
    "DSC_FAST": ("DSC, tissue", 3),
    "DSC_FIRST": ("DSC, subcortical", 3),
}


def find_root(start: Path | None = None) -> Path:
    """Folder that holds the study: `dodo.py` and `notebooks/`, at or above `start`, else beside the package.

    Raises
    ------
    StudyError
        If there is none.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents, Path(__file__).resolve().parents[2]):
        if (folder / "dodo.py").is_file() and (folder / "notebooks").is_dir():
            return folder
    raise StudyError(f"no study at or above {start}: go to a checkout, a folder with dodo.py and notebooks/")


def run_study(
    profile: str,
    *,
    root: Path | None = None,
    reports: Path | None = None,
    only: str | Sequence[str] | None = None,
    force: bool = False,
    parameters: Mapping[str, Any] | None = None,
    show_output: bool = False,
) -> Path:
    """Run the notebooks of a profile that are not up to date, in order.

    doit saves what it knows at the end of a run; a run per notebook keeps that knowledge through a kill.

    Parameters
    ----------
    profile
        Name of a file in `notebooks/profiles/`, or a path to a YAML file.
    root
        The checkout; found from the working directory otherwise.
    reports
        Folder that receives `<profile>/`; default `<root>/reports`.
    only
        One notebook, or several, run alone with what the others left.
    force
        Run also what is up to date.
    parameters
        Values for the parameters cell of the notebook named by `only`.
    show_output
        Pass on everything the notebooks print.

    Returns
    -------
    Path
        `<reports>/<profile>`.

    Raises
    ------
    ProfileError
        If there is no such profile, or something in it is wrong.
    StudyError
        At the first notebook that fails; naming it and its cell.
    Stopped
        At Ctrl+C; the notebooks before it are not run again.
    """
    root = root or find_root()
    reports = (reports or root / "reports").resolve()
    if profile.endswith((".yaml", ".yml")):
        profile = str(Path(profile).resolve())
    folder = reports / load_profile(profile).name
    notebooks = [path.stem for path in sorted((root / "notebooks").glob(STUDY))]
    if not notebooks:
        raise StudyError(f"there are no notebooks in {root / 'notebooks'}; is the checkout complete?")
    asked = notebooks if only is None else [only] if isinstance(only, str) else only
    wanted = sorted(set(asked))
    if parameters and (only is None or len(wanted) != 1):
        raise StudyError("parameters belong to one notebook; name it, for example --only 03_train")
    for notebook in wanted:
        _check_notebook(root / "notebooks", notebook, notebooks)
    _check_disk(reports)
    _check_labels(root / "notebooks", (parameters or {}).get("labels_from"))
    options = {"profile": profile, "reports": str(reports), "show_output": "1" if show_output else ""}
    options |= {"parameters": json.dumps(dict(parameters))} if parameters else {}
    if only is None:
        print(_what_it_takes(root / "dodo.py", options, force=force), flush=True)
    for notebook in wanted:
        try:
            _run_one(root / "dodo.py", notebook, options, force=force)
        except KeyboardInterrupt as stopped:
            if force:
                raise  # the same command begins with the first notebook again
            raise Stopped(f"in {notebook}, and {folder} keeps what was finished") from stopped
    return folder


def _check_notebook(folder: Path, wanted: str, notebooks: Sequence[str]) -> None:
    """Whether the study has a notebook of this name."""
    if wanted in notebooks:
        return
    if (folder / f"{wanted}.ipynb").is_file():
        raise StudyError(f"{wanted} is no part of the study; open it in JupyterLab: make lab, or jupyter lab notebooks")
    raise StudyError(f"there is no notebook {wanted}; the study has {', '.join(notebooks)}")


def _check_disk(reports: Path) -> None:
    """Refuse a full disk: what doit knows of the study would be lost on it."""
    if free_space(reports) < _ROOM:
        raise StudyError(
            f"The disk of {reports} is full: less than {_ROOM >> 20} MiB are free; make room, and run the same again"
        )


def _check_labels(notebooks: Path, folder: object) -> None:
    """Whether label maps made elsewhere can be there at all; asked before anything runs for them."""
    if folder is not None and not (notebooks / str(folder) / "engines.yaml").is_file():
        raise StudyError(
            f"labels_from: {notebooks / str(folder)} is no folder of label maps with an engines.yaml that names who "
            "made them; see data_manifest/README.md (relative names begin at the notebooks folder)"
        )


def _what_it_takes(dodo: Path, options: Mapping[str, str], *, force: bool) -> str:
    """What is still to run and how long that takes, as far as `dodo.py` knows; told before anything begins."""
    study = _Dodo(dodo, [])
    with contextlib.redirect_stdout(io.StringIO()) as listed:
        DoitMain(study, config_filenames=()).run(
            ["list", "--status", *(f"{name}={value}" for name, value in options.items())]
        )
    stale = {line.split()[1] for line in listed.getvalue().splitlines() if line.startswith("R ")}
    waiting: list[str] = []
    for notebook, needed in study.namespace["NEEDS"].items():
        if force or notebook in stale or set(needed) & set(waiting):
            waiting.append(notebook)
    if not waiting:
        return "Every notebook is up to date."
    told = f"To run: {', '.join(waiting)}"
    measured = study.namespace["TAKES"].get(load_profile(options["profile"]).name)
    if measured is None:
        return f"{told}. How long that takes with this profile was never measured."
    minutes = sum(measured["minutes"][notebook] for notebook in waiting)
    about = f"{minutes:.1f}" if minutes < 10 else f"{minutes:.0f}"
    return (
        f"{told}. That takes about {about} minutes on two cores without a GPU, up to {measured['memory']} GiB of "
        f"memory (all processes together), and {measured['disk']} GB of disk."
    )


def _run_one(dodo: Path, notebook: str, options: Mapping[str, str], *, force: bool) -> None:
    failures: list[str] = []
    command = ["run", "--single", *(["--always-execute"] if force else []), notebook]
    code = DoitMain(_Dodo(dodo, failures), config_filenames=()).run(
        [*command, *(f"{name}={value}" for name, value in options.items())]
    )
    if failures:
        raise StudyError(failures[0])
    if code != 0:
        raise StudyError(f"doit could not run {notebook} (its code {code}); its message stands above")


class _Dodo(NamespaceTaskLoader):
    """`dodo.py`, executed afresh for every run, with a reporter that collects failures."""

    namespace: dict[str, Any]

    def __init__(self, path: Path, failures: list[str]) -> None:
        super().__init__()
        self.path, self.failures = path, failures

    def setup(self, opt_values: Mapping[str, Any]) -> None:
        self.namespace = runpy.run_path(str(self.path))
        self.namespace["DOIT_CONFIG"]["reporter"] = _reporter(self.failures)


def _reporter(failures: list[str]) -> type[ZeroReporter]:
    class Reporter(ZeroReporter):
        def skip_uptodate(self, task: Task) -> None:
            print(f"{task.name}  up to date", flush=True)

        def add_failure(self, task: Task, fail: BaseFail) -> None:
            failures.append(fail.get_msg().strip())

    return Reporter


def parse_parameters(assignments: Iterable[str]) -> dict[str, Any]:
    """Parameters from `name=value`; values as Python writes them, anything else as text.

    Raises
    ------
    StudyError
        If one has no equals sign.
    """
    parameters: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise StudyError(f"{assignment!r} is no parameter; write name=value, for example steps=200")
        try:
            parameters[name] = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            parameters[name] = text
    return parameters


def summary(folder: Path) -> str:
    """What a run of the study tells at its end: the report's path, and the gains of Table 2, DSC among them.

    Parameters
    ----------
    folder
        `reports/<profile>`, as returned by `run_study`.
    """
    report = folder / "index.html"
    there = f"Report: {report}"
    lines = [there if report.is_file() else f"Executed: {folder / 'notebooks'} (09_report makes the report)"]
    table = folder / "tables" / "table2_gains.csv"
    if table.is_file():
        gains = pd.read_csv(table)
        for (reference, region), title in _GAIN_TITLES.items():
            chosen = (gains["reference"] == reference) & (gains["region"] == region)
            lines += _gain_lines(gains[chosen], title)
    volumetry = folder / "tables" / "volumetry_gains.csv"
    if volumetry.is_file():
        lines += _gain_lines(pd.read_csv(volumetry), _DSC_TITLE)
    return "\n".join([*lines, *_vessel_lines(folder / "tables"), *_reader_lines(folder / "tables")])


def _vessel_lines(tables: Path) -> list[str]:
    """Of the vessel wall scans: how many bars sN2N reaches."""
    if not (tables / "vessel_wall_bars.csv").is_file():
        return []
    bars = pd.read_csv(tables / "vessel_wall_bars.csv")
    verdicts = bars.loc[bars["arm"] == "sN2N", "verdict"].value_counts()
    counts = ", ".join(f"{verdict} {n}" for verdict, n in verdicts.items())
    return ["", f"Vessel walls, sN2N trained on MP-RAGE alone, bars: {counts}"]


def _reader_lines(tables: Path) -> list[str]:
    """Mean scores of both arms, of every group of parameters."""
    if not (tables / "readers_pooled.csv").is_file():
        return []
    pooled = pd.read_csv(tables / "readers_pooled.csv")
    pooled = pooled[(pooled["parameter"] == "all") & (pooled["reader"] == "all")]
    who = "synthetic readers, nobody has read the images" if (pooled["source"] == "synthetic").all() else "readers"
    return ["", f"Mean scores, original and sN2N ({who}):"] + [
        f"  {row.group:18}{row.original_mean:.2f}  {row.sN2N_mean:.2f}" for row in pooled.itertuples()
    ]


def _gain_lines(gains: pd.DataFrame, title: str) -> list[str]:
    if gains.empty:
        return []
    levels = sorted(gains["noise_sigma"].unique())
    lines = ["", title, " " * 32 + "".join(f"{level:>6g} σ" for level in levels)]
    for (name, metric), row in gains.groupby(["set", "metric"], sort=False):
        unit, digits = _GAIN_UNITS[str(metric)]
        values = row.set_index("noise_sigma")["gain"].reindex(levels)
        lines.append(f"  {name:14}{unit:18}" + "".join(f"{value:+8.{digits}f}" for value in values))
    return lines
