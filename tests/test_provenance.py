"""Files are whole or absent, whatever fails; records say where a number came from."""

import errno
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import sn2nlib.provenance as provenance_module
from sn2nlib.errors import StudyError
from sn2nlib.provenance import (
    atomic_folder,
    atomic_write,
    commit,
    finished_outputs,
    provenance,
    stage_folder,
    versions,
    write_json,
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "image.nii.gz"
    with atomic_write(target) as temporary:
        assert temporary.parent == target.parent and temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert names(target.parent) == {"image.nii.gz"}


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
        assert os.umask(0o027) == 0o027  # left as it was
    finally:
        os.umask(mask)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), PermissionError(errno.EACCES, "no")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(type(error)) as caught, atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise error
    assert caught.value is error
    assert names(tmp_path) == {"a.txt"} and (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError("262144 requested and 153568 written"),
        OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
    ],
)
def test_a_full_disk_is_named_with_the_file_it_was_for(tmp_path: Path, error: OSError) -> None:
    message = r"The disk is full; .*a\.txt was not written"
    with pytest.raises(OSError, match=message) as caught, atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise error
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == set()
    message = r"The disk is full; .*folder was not written"
    with pytest.raises(OSError, match=message), atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "a.txt").write_text("half")
        raise error
    assert names(tmp_path) == set()


@pytest.mark.parametrize("step", ["os.replace", "tempfile.mkstemp"])
def test_a_disk_that_fills_up_at_any_step_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"sn2nlib.provenance.{step}", full)
    with pytest.raises(OSError, match="The disk is full"):
        write_json(tmp_path / "a.json", {})
    assert names(tmp_path) == set()


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt()])
def test_a_folder_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Whatever happens between the two moments, when the old folder gives up its name and the new one takes it."""
    write_json(tmp_path / "folder" / "a.json", {"which": "old"})
    own = os.replace

    def fails(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise error
        own(source, target)

    monkeypatch.setattr("sn2nlib.provenance.os.replace", fails)
    with pytest.raises(type(error)), finished_outputs() as finished, atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "b.json").touch()
    assert names(tmp_path) == {"folder"} and names(tmp_path / "folder") == {"a.json"} and finished == []


def test_what_is_finished_is_known_even_if_it_is_the_last_thing_that_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.replace

    def pressed(source: Path, target: Path) -> None:
        own(source, target)
        raise KeyboardInterrupt

    write_json(tmp_path / "before.json", {})
    with finished_outputs() as finished:
        write_json(tmp_path / "a.json", {})
        monkeypatch.setattr("sn2nlib.provenance.os.replace", pressed)
        with pytest.raises(KeyboardInterrupt):
            write_json(tmp_path / "b.json", {})
        with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "c"):
            pass
    assert [path.name for path in finished] == ["a.json", "b.json", "c"] and set(finished) <= set(tmp_path.iterdir())


def test_json_round_trip(tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None], "a": "µ"}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == content and text.endswith("\n")
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": np.zeros(2)})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == content


def test_the_record_names_versions_and_commit() -> None:
    record = provenance(seed=7)
    assert record["seed"] == 7
    assert record["versions"]["numpy"] == np.__version__
    assert set(versions()) >= {"python", "sn2n", "numpy", "scipy", "torch"}
    assert isinstance(record["commit"], str) and record["commit"]
    json.dumps(record)


def test_outside_a_checkout_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance_module, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == "unknown"


def test_renewed_reports_do_not_make_the_checkout_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sn2nlib/provenance.py", "reports/demo/run.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("before", encoding="utf-8")
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for arguments in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "first")):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    monkeypatch.setattr("sn2nlib.provenance.__file__", str(tmp_path / "sn2nlib" / "provenance.py"))
    (tmp_path / "reports" / "demo" / "run.json").write_text("after", encoding="utf-8")
    assert re.fullmatch("[0-9a-f]{10}", commit())
    (tmp_path / "sn2nlib" / "provenance.py").write_text("after", encoding="utf-8")
    assert re.fullmatch(r"[0-9a-f]{10}\+dirty", commit())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the package's folder with two rooms on their ground floor."""
    root = tmp_path / "package"
    for source in ("fourier.py", "sampling.py", "recon/code.py", "scans/code.py"):
        (root / source).parent.mkdir(parents=True, exist_ok=True)
        (root / source).write_text("one = 1\n")
    monkeypatch.setattr(provenance_module, "__file__", str(root / "provenance.py"))
    return root


def test_a_stage_finds_its_own_files_again(tmp_path: Path, package: Path) -> None:
    stage = tmp_path / "reports" / "stage"
    assert stage_folder(stage, rooms=["recon"], seed=1, sizes=(1.0, 2.0)) == stage
    (stage / "result.csv").write_text("kept")
    (package / "scans" / "code.py").write_text("two = 2\n")  # another room
    stage_folder(stage, rooms=["recon"], seed=1, sizes=(1.0, 2.0))
    assert (stage / "result.csv").read_text() == "kept"


def test_what_a_kill_left_half_written_is_removed_and_nothing_else(tmp_path: Path, package: Path) -> None:
    stage = stage_folder(tmp_path / "stage", rooms=["recon"], seed=1)
    kept = {".stage", "D001.h5", "D001-a.json", ".hidden"}
    for name in kept - {".stage"}:
        (stage / name).write_text("whole")
    write, write_folder = atomic_write(stage / "D001.h5"), atomic_folder(stage / "pair-1a")
    half, half_folder = write.__enter__(), write_folder.__enter__()  # whose end a kill takes away
    half.write_text("half")
    (half_folder / "half_a.npy").write_text("half")
    assert len(names(stage)) == len(kept) + 2
    before = (stage / ".stage").stat().st_mtime_ns
    stage_folder(stage, rooms=["recon"], seed=1)
    assert names(stage) == kept
    assert (stage / ".stage").stat().st_mtime_ns == before  # a stamp that fits is not written anew


@pytest.mark.parametrize("change", ["settings", "recon/code.py", "sampling.py"])
def test_a_stage_drops_files_that_are_not_its_own(tmp_path: Path, package: Path, change: str) -> None:
    stage = tmp_path / "stage"
    stage_folder(stage, rooms=["recon"], seed=1)
    (stage / "result.csv").write_text("stale")
    if change.endswith(".py"):
        (package / change).write_text("one = 2\n")
    stage_folder(stage, rooms=["recon"], seed=2 if change == "settings" else 1)
    assert names(stage) == {".stage"}


@pytest.mark.parametrize(("room", "stays"), [("recon/*.py", True), ("recon", False)])
def test_a_pattern_leaves_sub_packages_out(tmp_path: Path, package: Path, room: str, stays: bool) -> None:
    stage = tmp_path / "stage"
    stage_folder(stage, rooms=[room], seed=1)
    (stage / "result.csv").write_text("kept")
    (package / "recon" / "deeper").mkdir()
    (package / "recon" / "deeper" / "code.py").write_text("one = 1\n")
    stage_folder(stage, rooms=[room], seed=1)
    assert (stage / "result.csv").exists() == stays
    (package / "recon" / "code.py").write_text("two = 2\n")
    stage_folder(stage, rooms=[room], seed=1)
    assert names(stage) == {".stage"}


def test_a_folder_that_no_study_made_is_left_alone(tmp_path: Path, package: Path) -> None:
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(StudyError, match="holds files that no study made"):
        stage_folder(tmp_path, rooms=["recon"], seed=1)
    assert (tmp_path / "thesis.docx").read_text() == "precious"
