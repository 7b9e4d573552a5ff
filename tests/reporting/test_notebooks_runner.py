"""The notebook runner on notebooks of a few lines: what it passes on, refuses, names and leaves behind."""

import errno
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from sn2nlib.errors import StudyError
from sn2nlib.reporting.notebooks import run_notebook

PARAMETERS = """profile = "smoke"  # which
reports_dir = "../reports"
alphas = [
    0,
    0.5,
]
steps = None"""


def notebook(path: Path, *sources: str) -> Path:
    """A stripped notebook: title, parameters, then the given code cells with a sentence before each."""
    cells = [new_markdown_cell("# A lesson"), new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
    for source in sources:
        cells += [new_markdown_cell("So."), new_code_cell(source)]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": spec}), path)
    return path


def printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_parameters_arrive_and_the_copy_is_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # a kernel that the user registered under the same name must not be taken
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "other", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    source = notebook(
        tmp_path / "01_lesson.ipynb",
        "import os, sys\nprint(profile, alphas, steps, os.getcwd(), sys.executable)",
        "assert alphas == [0.1, 1]",
    )
    before = source.read_bytes()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "01_lesson.failed.ipynb").write_text("of an earlier run")
    parameters: dict[str, Any] = {"profile": "demo", "alphas": [0.1, 1]}
    run_notebook(source, tmp_path / "out" / "01_lesson.ipynb", parameters, cwd=tmp_path)
    output = printed(tmp_path / "out" / "01_lesson.ipynb")
    assert output.split() == ["demo", "[0.1,", "1]", "None", str(tmp_path), sys.executable]
    assert files(tmp_path / "out") == ["01_lesson.ipynb"]
    assert source.read_bytes() == before
    told = capsys.readouterr()
    first, last = told.out.splitlines()
    assert first == "01_lesson  0:00  starts"
    assert last.startswith("01_lesson  0:0") and last.endswith("  cell 3/3  done")
    assert told.err == ""


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"profil": "x"}, r"01\.ipynb: unknown parameter profil; it has profile, reports_dir, alphas, steps"),
        ({"profile": "x", "a": 1, "b": 2}, "unknown parameter a, b;"),
    ],
)
def test_unknown_parameters_are_refused_before_anything_runs(
    parameters: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = notebook(tmp_path / "01.ipynb", "open('it_ran', 'w').close()")
    with pytest.raises(StudyError, match=message):
        run_notebook(source, tmp_path / "out" / "01.ipynb", parameters, cwd=tmp_path)
    assert files(tmp_path) == ["01.ipynb"]


def test_a_missing_notebook_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"there is no notebook .*99_none\.ipynb"):
        run_notebook(tmp_path / "99_none.ipynb", tmp_path / "out.ipynb", {}, cwd=tmp_path)


def test_a_failing_cell_is_named_and_the_copy_kept(tmp_path: Path) -> None:
    bad = "# the bad one\nratio = 1 / 0\nprint('after')"
    source = notebook(tmp_path / "02.ipynb", "print('before')", bad, "1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "02.ipynb").write_text("of the last good run")
    message = r"02\.ipynb failed in code cell 3 of 4 \('ratio = 1 / 0'\): ZeroDivisionError: division by zero"
    with pytest.raises(StudyError, match=message) as caught:
        run_notebook(source, tmp_path / "out" / "02.ipynb", {"profile": "x"}, cwd=tmp_path)
    assert str(tmp_path / "out" / "02.failed.ipynb") in str(caught.value)
    assert files(tmp_path / "out") == ["02.failed.ipynb", "02.ipynb"]
    assert printed(tmp_path / "out" / "02.failed.ipynb") == "before\n"
    assert (tmp_path / "out" / "02.ipynb").read_text() == "of the last good run"


def test_a_dead_kernel_is_told_from_a_failing_cell(tmp_path: Path) -> None:
    source = notebook(tmp_path / "03.ipynb", "import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(StudyError, match=r"03\.ipynb failed in code cell 2 of 2 .*lack of memory"):
        run_notebook(source, tmp_path / "03_done.ipynb", {}, cwd=tmp_path)
    assert not (tmp_path / "03_done.ipynb").exists()


def half_written(error: BaseException) -> Callable[..., None]:
    """In the place of papermill: half a copy, then the error."""

    def half(_: Path, running: Path, *__: object, **___: object) -> None:
        running.write_text('{"cells": [')
        raise error

    return half


def test_ctrl_c_leaves_no_half_executed_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("papermill.execute_notebook", half_written(KeyboardInterrupt()))
    source = notebook(tmp_path / "03.ipynb", "1")
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        run_notebook(source, tmp_path / "out" / "03_done.ipynb", {}, cwd=tmp_path)
    assert files(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left"), r"^the disk is full; notebook 04\.ipynb failed at its start"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), r"^the disk is full; .*04_done\.ipynb was not written\. Free"),
        (PermissionError(errno.EACCES, "no"), r"^notebook 04\.ipynb failed .*04_done\.ipynb was not written: .*no$"),
    ],
)
def test_a_copy_that_cannot_be_written_is_told_and_removed(
    error: OSError, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("papermill.execute_notebook", half_written(error))
    source = notebook(tmp_path / "04.ipynb", "1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "04_done.ipynb").write_text("of the last good run")
    with pytest.raises(StudyError, match=message):
        run_notebook(source, tmp_path / "out" / "04_done.ipynb", {}, cwd=tmp_path)
    assert files(tmp_path / "out") == ["04_done.ipynb"]
    assert (tmp_path / "out" / "04_done.ipynb").read_text() == "of the last good run"


def test_a_disk_that_really_fills_up(tmp_path: Path) -> None:
    """A file system of 256 kB in a mount namespace of its own: the copy of a talkative notebook does not fit."""
    small = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=256k none "$1" && shift && exec "$@"', "sh"]
    (tmp_path / "small").mkdir()
    small.append(str(tmp_path / "small"))
    if shutil.which("unshare") is None or subprocess.run([*small, "true"], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs Linux and root")
    source = notebook(tmp_path / "05.ipynb", "print('begun')", "print('long ' * 200_000)")
    code = (
        "import os, sys\nfrom sn2nlib.errors import StudyError\nfrom sn2nlib.reporting.notebooks import run_notebook\n"
        "try:\n    run_notebook(sys.argv[1], sys.argv[2] + '/05.ipynb', {}, cwd='.')\n"
        "except StudyError as error:\n    print(error, os.listdir(sys.argv[2]), sep='\\n')"
    )
    command = [*small, sys.executable, "-c", code, str(source), str(tmp_path / "small")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[-2].startswith("the disk is full; notebook 05.ipynb failed in code cell 3 of 3") and told[-1] == "[]"


def test_progress_is_a_line_now_and_then_and_everything_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = "import time\nfor step in range(20):\n    print('step', step, flush=True)\n    time.sleep(0.05)"
    source = notebook(tmp_path / "04.ipynb", talk, "# silence\ntime.sleep(1)")
    started = time.monotonic()
    run_notebook(source, tmp_path / "out.ipynb", {}, cwd=tmp_path, seconds_between_lines=0.3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= (time.monotonic() - started) / 0.3 + 2
    assert any("cell 2/3  step" in line for line in lines)
    assert any(line.endswith("cell 3/3  time.sleep(1)") for line in lines)
    run_notebook(source, tmp_path / "out.ipynb", {}, cwd=tmp_path, show_output=True)
    assert "\nstep 0\nstep 1\n" in capsys.readouterr().out
