"""The order of the study, on a small copy: what runs, what is skipped, what goes on after a kill."""

import itertools
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from sn2nlib import config
from sn2nlib.errors import ProfileError, Stopped, StudyError
from sn2nlib.reporting import notebooks
from sn2nlib.reporting.study import STUDY, find_root, parse_parameters, run_study, summary

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = [
    "00_quickstart", "01_data", "02_pairs", "03_train", "04_alpha", "05_noise_levels", "06_volumetry", "07_vessel_wall",
    "08_readers", "09_report",
]  # fmt: skip
DODO = runpy.run_path(str(REPOSITORY / "dodo.py"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with the real `dodo.py` and profile, and notebooks of one cell."""
    root = tmp_path / "checkout"
    monkeypatch.setattr(config, "PROFILES", root / "notebooks" / "profiles")
    (root / "notebooks" / "profiles").mkdir(parents=True)
    (root / "data_manifest").mkdir()
    (root / "sn2nlib").mkdir()
    (root / "data_manifest" / "splits.csv").write_text("")
    for name in ("fourier.py", "cli_options.py"):
        (root / "sn2nlib" / name).write_text("")
    shutil.copy(REPOSITORY / "dodo.py", root)
    shutil.copy(REPOSITORY / "notebooks" / "profiles" / "smoke.yaml", root / "notebooks" / "profiles")
    for name in (*STEPS, "08a_reading_room"):
        write_notebook(root, name, "")
    return root


def write_notebook(root: Path, name: str, source: str) -> None:
    assigned = 'profile = "smoke"\nreports_dir = "../reports"'
    parameters = new_code_cell(assigned, metadata={"tags": ["parameters"]})
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [parameters, new_code_cell(source)]
    nbformat.write(
        new_notebook(cells=cells, metadata={"kernelspec": spec}), root / "notebooks" / f"{name}.ipynb"
    )


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the notebooks that were run, by a stand-in that leaves behind what `dodo.py` expects."""
    names: list[str] = []
    count = itertools.count()
    writes = DODO["WRITES"]

    def stand_in(source: Path, output: Path, parameters: Mapping[str, Any], **_: Any) -> None:
        names.append(source.stem)
        if "1 / 0" in source.read_text():
            raise StudyError(f"notebook {source.name} failed")
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(f"{parameters} {next(count)}")
        for name in writes.get(source.stem, []):
            target = output.parents[1] / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("")
        for name in ("figures/bias.png", "tables/table2.html") if source.stem == "05_noise_levels" else ():
            target = output.parents[1] / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(f"{next(count)}")

    monkeypatch.setattr(notebooks, "run_notebook", stand_in)
    return names


def run(root: Path, names: list[str], **options: Any) -> list[str]:
    """Notebooks that one call of `run_study` ran."""
    names.clear()
    run_study("smoke", root=root, **options)
    return list(names)


def test_everything_runs_in_order_and_then_nothing(
    root: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, ran) == STEPS
    capsys.readouterr()
    assert run(root, ran) == []
    told = capsys.readouterr()
    assert told.out.splitlines() == ["Every notebook is up to date.", *(f"{name}  up to date" for name in STEPS)]
    assert told.err == ""


def test_what_it_takes_is_told_before_it_begins(
    root: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    minutes = DODO["TAKES"]["smoke"]["minutes"]
    assert set(minutes) == set(STEPS)
    run(root, ran)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"To run: {', '.join(STEPS)}. That takes about 4.5 minutes on two")
    write_notebook(root, "08_readers", "changed = 1")
    run(root, ran)
    # 09 waits for 08, though nothing that it reads has changed yet
    assert capsys.readouterr().out.splitlines()[0].startswith("To run: 08_readers, 09_report. That takes about 0.6 min")
    settings = (root / "notebooks" / "profiles" / "smoke.yaml").read_text().replace("name: smoke", "name: mine")
    (root / "mine.yaml").write_text(settings)
    run_study(str(root / "mine.yaml"), root=root)
    assert "was never measured" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("notebooks/04_alpha.ipynb", STEPS[4:]),
        ("notebooks/07_vessel_wall.ipynb", ["07_vessel_wall", "08_readers", "09_report"]),
        ("notebooks/00_quickstart.ipynb", ["00_quickstart", "09_report"]),
        ("notebooks/profiles/smoke.yaml", STEPS),
        ("data_manifest/splits.csv", STEPS),
        ("sn2nlib/fourier.py", STEPS),
        ("sn2nlib/cli_options.py", []),  # how the study is started, not what it computes
        ("reports/smoke/tables/table2.csv", ["05_noise_levels", "06_volumetry", "09_report"]),
        ("reports/smoke/figures/bias.png", ["05_noise_levels", "06_volumetry", "09_report"]),
        ("reports/smoke/tables/table2.html", ["05_noise_levels", "06_volumetry", "09_report"]),
        ("reports/smoke/figures/mine.png", []),  # which no notebook made
        ("reports/smoke/tables/volumetry_gains.csv", ["06_volumetry", "09_report"]),
    ],
)
def test_a_change_reruns_what_depends_on_it(
    changed: str, expected: list[str], root: Path, ran: list[str]
) -> None:
    mine = root / "reports" / "smoke" / "figures" / "mine.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("")
    run(root, ran)
    path = root / changed
    if changed.startswith("reports"):
        path.unlink()
    else:
        path.write_text(path.read_text() + "\n")
    assert run(root, ran) == expected
    assert run(root, ran) == []


def test_a_failure_stops_the_study_and_the_next_call_goes_on_there(root: Path, ran: list[str]) -> None:
    write_notebook(root, "03_train", "1 / 0")
    with pytest.raises(StudyError, match=r"^notebook 03_train\.ipynb failed$"):
        run(root, ran)
    assert ran == STEPS[:4]
    write_notebook(root, "03_train", "")
    assert run(root, ran) == STEPS[3:]


@pytest.mark.parametrize(("force", "kept"), [(False, "in 00_quickstart, and .* keeps what was finished"), (True, "^$")])
def test_a_forced_study_that_was_stopped_does_not_promise_to_go_on(
    root: Path, monkeypatch: pytest.MonkeyPatch, force: bool, kept: str
) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(notebooks, "run_notebook", pressed)
    with pytest.raises(KeyboardInterrupt, match=kept) as stop:
        run_study("smoke", root=root, force=force)
    assert isinstance(stop.value, Stopped) == (not force)


def test_what_cannot_be_written_is_one_sentence_too(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("The disk is full; a file was not written")

    monkeypatch.setattr(notebooks, "run_notebook", full)
    with pytest.raises(StudyError, match=r"^The disk is full; a file was not written$"):
        run_study("smoke", root=root)
    assert "Traceback" not in capsys.readouterr().err


def test_one_notebook_alone_with_parameters(root: Path, ran: list[str]) -> None:
    with pytest.raises(StudyError, match=r"^04_alpha needs the results of 03_train; run these"):
        run(root, ran, only="04_alpha")
    run(root, ran)
    assert run(root, ran, only="03_train") == []
    assert run(root, ran, only="03_train", parameters={"steps": 3}) == ["03_train"]
    executed = root / "reports" / "smoke" / "notebooks" / "03_train.ipynb"
    assert "'steps': 3" in executed.read_text()
    # the plain study takes such a result back
    assert run(root, ran) == STEPS[3:]
    assert "steps" not in executed.read_text()
    assert run(root, ran, only="02_pairs", force=True) == ["02_pairs"]
    assert run(root, ran, only=["03_train", "01_data"], force=True) == ["01_data", "03_train"]


def test_reports_may_go_elsewhere(root: Path, ran: list[str], tmp_path: Path) -> None:
    folder = run_study("smoke", root=root, reports=tmp_path / "else where")
    assert folder == tmp_path / "else where" / "smoke"
    assert (folder / "index.html").is_file() and not (root / "reports").exists()


def test_a_profile_may_be_a_file(root: Path, ran: list[str], tmp_path: Path) -> None:
    text = (root / "notebooks" / "profiles" / "smoke.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("name: smoke", "name: mine"))
    folder = run_study(str(tmp_path / "mine.yaml"), root=root)
    assert folder == root / "reports" / "mine"
    assert str(tmp_path / "mine.yaml") in (folder / "notebooks" / "01_data.ipynb").read_text()


@pytest.mark.parametrize(
    ("profile", "options", "message"),
    [
        ("smok", {}, "there is no profile 'smok'; known are smoke, or give the path"),
        ("none/there.yaml", {}, r"there is no profile .*there\.yaml"),
        ("smoke", {"only": "07_none"}, "there is no notebook 07_none; the study has 00_quickstart, 01_data"),
        ("smoke", {"only": ["01_data", "08a_reading_room"]}, "08a_reading_room is no part of the study; open it"),
        ("smoke", {"only": ["01_data", "03_train"], "parameters": {"steps": 1}}, "parameters belong to one notebook"),
        ("smoke", {"parameters": {"steps": 1}}, "parameters belong to one notebook; name it"),
        ("smoke", {"only": "01_data", "parameters": {"labels_from": "nowhere"}}, "nowhere is no folder of label maps"),
    ],
)
def test_wrong_requests_are_explained(
    profile: str, options: dict[str, Any], message: str, root: Path, ran: list[str]
) -> None:
    with pytest.raises((StudyError, ProfileError), match=message):
        run_study(profile, root=root, **options)
    assert ran == [] and not (root / "reports").exists()


def test_a_full_disk_is_told_before_anything_runs(
    root: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(StudyError, match=r"The disk of .*reports is full: less than 16 MiB are free"):
        run_study("smoke", root=root)
    assert ran == [] and not (root / "reports").exists()


def test_a_wrong_profile_stops_before_anything_is_written(root: Path, ran: list[str]) -> None:
    profile = root / "notebooks" / "profiles" / "smoke.yaml"
    profile.write_text(profile.read_text() + "\nunknown_key: 1\n")
    with pytest.raises(ProfileError, match="unknown_key"):
        run_study("smoke", root=root)
    assert not (root / "reports").exists()


def test_the_root_is_found_from_below_and_else_beside_the_package(root: Path, tmp_path: Path) -> None:
    assert find_root(root / "notebooks" / "profiles") == root
    assert find_root(tmp_path) == REPOSITORY


def test_every_notebook_has_its_task_and_needs_only_earlier_ones() -> None:
    needs = DODO["NEEDS"]
    assert list(needs) == sorted(path.stem for path in (REPOSITORY / "notebooks").glob(STUDY))
    assert all(needed < name for name, every in needs.items() for needed in every)
    assert set(needs["09_report"]) == set(needs) - {"09_report"}


def test_parameters_are_read_as_python_writes_them() -> None:
    texts = ["steps=200", "rate=1e-3", "alphas=[0, 0.5]", "resume=True", "minutes=None", "name=a=b"]
    assert parse_parameters(texts) == {
        "steps": 200, "rate": 1e-3, "alphas": [0, 0.5], "resume": True, "minutes": None, "name": "a=b",
    }  # fmt: skip
    for wrong in ("steps", "=3", "learning rate=3"):
        with pytest.raises(StudyError, match="is no parameter; write name=value"):
            parse_parameters([wrong])


def test_the_summary_tells_the_gains(tmp_path: Path) -> None:
    assert summary(tmp_path) == f"Executed: {tmp_path / 'notebooks'} (09_report makes the report)"
    (tmp_path / "index.html").touch()
    assert summary(tmp_path) == f"Report: {tmp_path / 'index.html'}"
    rows = [
        ("quantitative", "full_sampled", "volume", "PSNR_dB", 0.0, 0.614),
        ("quantitative", "full_sampled", "volume", "PSNR_dB", 0.5, 1.25),
        ("quantitative", "full_sampled", "volume", "NRMSE_percent", 0.0, -3.25),
        ("real_head", "noise_free", "head", "PSNR_dB", 3.0, 3.5),
        ("real_head", "noise_free", "volume", "PSNR_dB", 3.0, 9.9),
    ]
    columns = ["set", "reference", "region", "metric", "noise_sigma", "gain"]
    (tmp_path / "tables").mkdir()
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "tables" / "table2_gains.csv", index=False)
    lines = [" ".join(line.split()) for line in summary(tmp_path).splitlines() if line]
    assert lines[1:] == [
        "Gain of sN2N over the original, whole volume, fully sampled reference:",
        "0 σ 0.5 σ",
        "quantitative PSNR, dB higher +0.61 +1.25",
        "quantitative NRMSE, % lower -3.2 +nan",
        "Gain of sN2N over the original, inside the head, noise-free reference:",
        "3 σ",
        "real_head PSNR, dB higher +3.50",
    ]
    rows = [("quantitative", "full_sampled", "volume", "DSC_FIRST", 1.0, 0.024)]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "tables" / "volumetry_gains.csv", index=False)
    (tmp_path / "tables" / "table2_gains.csv").unlink()  # as after notebook 06 alone
    lines = [" ".join(line.split()) for line in summary(tmp_path).splitlines() if line]
    assert lines[1:] == [
        "Gain of sN2N over the original in DSC with the fully sampled image's labels:",
        "1 σ",
        "quantitative DSC, subcortical +0.024",
    ]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_study_that_was_killed_or_stopped_goes_on_where_it_was(root: Path, how: signal.Signals) -> None:
    """Real kernels: a signal while the third notebook sleeps, then the same command again."""
    log, waits = root / "log", root / "waits"
    for name in STEPS[3:]:
        (root / "notebooks" / f"{name}.ipynb").unlink()
    for name in STEPS[:3]:
        lines = [f"with open({str(log)!r}, 'a') as file: print({name!r}, file=file)"]
        if name == "02_pairs":
            lines += ["import os, time", f"while os.path.exists({str(waits)!r}): time.sleep(0.1)"]
        lines += ["from pathlib import Path"]
        for promised in DODO["WRITES"].get(name, []):
            lines += [f"path = Path(reports_dir, profile, {promised!r})"]
            lines += ["path.parent.mkdir(parents=True, exist_ok=True)", "path.touch()"]
        write_notebook(root, name, "\n".join(lines))
    waits.write_text("")
    # Ctrl+C does what it does in a terminal, however the tests were started
    code = "import signal, sn2nlib.cli; signal.signal(signal.SIGINT, signal.default_int_handler); sn2nlib.cli.main()"
    command = [sys.executable, "-c", code, "study", "--profile", "smoke"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=root, env=environment, **pipes) as study:
        patience = time.monotonic() + 60
        while not (log.is_file() and "02_pairs" in log.read_text()):
            assert study.poll() is None and time.monotonic() < patience
            time.sleep(0.1)
        study.send_signal(how)
        said = study.communicate(timeout=60)[1]
    folder, executed = root / "reports" / "smoke", root / "reports" / "smoke" / "notebooks"
    if how is signal.SIGINT:
        kept = f"study was stopped in 02_pairs, and {folder} keeps what was finished"
        assert (study.returncode, said) == (130, f"sn2n: {kept}; to go on: sn2n study --profile smoke\n")
        assert sorted(path.stem for path in executed.iterdir()) == STEPS[:2]
    assert (executed / "01_data.ipynb").is_file() and not (executed / "02_pairs.ipynb").exists()
    waits.unlink()
    again = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert "00_quickstart  up to date\n01_data  up to date\n" in again.stdout
    assert log.read_text().split() == [*STEPS[:3], "02_pairs"]
    assert sorted(path.stem for path in executed.iterdir()) == STEPS[:3]


def test_the_summary_tells_of_vessel_walls_and_readers(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "vessel_wall_bars.csv").write_text(
        "arm,verdict\nsN2N,reached\nsN2N,reached\nsN2N,missed\nblur,missed\n"
    )
    rows = "lesions,all,all,4.0,4.5,synthetic\nlesions,all,A,1,1,synthetic\nlesions,lesion,all,2,2,synthetic\n"
    (tmp_path / "tables" / "readers_pooled.csv").write_text(
        "group,parameter,reader,original_mean,sN2N_mean,source\n" + rows
    )
    lines = [" ".join(line.split()) for line in summary(tmp_path).splitlines() if line]
    assert lines[1:] == [
        "Vessel walls, sN2N trained on MP-RAGE alone, bars: reached 2, missed 1",
        "Mean scores, original and sN2N (synthetic readers, nobody has read the images):",
        "lesions 4.00 4.50",
    ]
