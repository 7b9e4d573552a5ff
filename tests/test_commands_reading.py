"""`sn2n reading` as typed: a room, its key, and what is said when something is wrong."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from sn2nlib import cli
from sn2nlib.evaluation.readers.demo import make_demo_study
from sn2nlib.evaluation.readers.session import Session


def sn2n(*arguments: object) -> int:
    """Run a command in this process; its exit code."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["reading", *map(str, arguments)])
    return int(stopped.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_demo_study(tmp_path / "study", parameters=["contrast"], matrix=(8, 8, 8), voxel_size=(22.0, 26.0, 20.0))
    return tmp_path


def test_from_images_to_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room, key, out = folder / "room", folder / "key.json", folder / "scores.csv"
    assert sn2n("prepare", folder / "study", room, "--key", key) == 0
    told = capsys.readouterr().out
    assert f"Room: {room}" in told and "reader2: 4 readings of 3 cases" in told and f"Key: {key}" in told
    assert "key.json" not in [path.name for path in room.rglob("*")]
    session = Session(room, "reader2")
    for score in (5, 2):
        session.give(score)
    assert sn2n("key", room, "--key", key, "--out", out) == 1
    assert "still missing: reader1 8 scores, reader2 6 scores" in capsys.readouterr().err and not out.exists()
    assert sn2n("key", room, "--key", key, "--out", folder / "scores.xlsx", "--unfinished") == 1
    assert "the name of a table ends in .csv" in capsys.readouterr().err
    assert sn2n("key", room, "--key", key, "--out", out, "--unfinished") == 0
    assert "Missing: reader1 8 scores, reader2 6 scores" in capsys.readouterr().out
    table = pd.read_csv(out)
    assert sorted(table["score"]) == [2, 5] and set(table["arm"]) == {"original", "sN2N"}
    assert sn2n("key", room, "--key", key, "--out", out) == 1
    assert "exists; choose another name or allow overwriting (--overwrite)" in capsys.readouterr().err
    assert sn2n("key", room, "--key", key, "--out", out, "--unfinished", "--overwrite") == 0


def test_without_a_seed_every_room_is_another_one(folder: Path) -> None:
    seeds = []
    for name in ("a", "b"):
        assert sn2n("prepare", folder / "study", folder / name, "--key", folder / f"{name}.json") == 0
        seeds.append(json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["seed"])
    assert seeds[0] != seeds[1]
    assert sn2n("prepare", folder / "study", folder / "c", "--key", folder / "c.json", "--seed", seeds[0]) == 0
    assert (folder / "c" / "room.json").read_bytes() == (folder / "a" / "room.json").read_bytes()


def test_ctrl_c_leaves_no_key_without_a_room(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last moment, when the key is written and the room has no name yet."""
    own, typed = os.replace, ("prepare", folder / "study", folder / "room", "--key", folder / "key.json")

    def pressed(source: Path, target: Path) -> None:
        if Path(target) == folder / "room":
            assert (folder / "key.json").is_file()
            raise KeyboardInterrupt
        own(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", pressed)
        assert sn2n(*typed) == 130
    assert "reading was stopped and leaves nothing half-written; to run it again: " in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["study"]
    assert sn2n(*typed) == 0


def test_mistakes_are_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room, key = folder / "room", folder / "key.json"
    assert sn2n("prepare", folder, room, "--key", key) == 1
    assert "study.yaml, which says what is read" in capsys.readouterr().err
    assert sn2n("open", folder, "--reader", "reader1") == 1
    assert "is no reading room" in capsys.readouterr().err
    assert sn2n("prepare", folder / "study", room, "--key", key) == 0
    assert sn2n("open", room, "--reader", "nobody") == 1
    assert "there is no reader 'nobody'" in capsys.readouterr().err
    assert sn2n("key", room, "--key", key, "--out", folder / "scores.csv") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("sn2n: nobody has scored in") and not (folder / "scores.csv").exists()
