"""Reading sessions: where a reader is, what is kept, and what a crash leaves."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from sn2nlib.errors import ReadingError
from sn2nlib.evaluation.readers.rooms import prepare_room
from sn2nlib.evaluation.readers.session import Place, ScoreLog, Session, hold_room, load_plan, log_path

KEY = ("reading", "image", "sharpness")


@pytest.fixture
def room(images: Path, tmp_path: Path) -> Path:
    prepare_room(images, tmp_path / "room", key=tmp_path / "key.json", seed=2)
    return tmp_path / "room"


def open_log(path: Path) -> ScoreLog:
    return ScoreLog(path, room="abc", reader="reader1")


def test_scores_lead_through_a_case(room: Path) -> None:
    session = Session(room, "reader1")
    assert session.place == Place(0, 0, "left") and session.progress() == (0, 28)
    assert [parameter.name for parameter in session.parameters] == ["sharpness", "hippocampus"]
    assert session.give(4) and session.place == Place(0, 0, "right")
    assert session.give(2) and session.place == Place(0, 1, "left")
    assert session.parameter.look_for.startswith("Head, body and tail")
    assert session.give(5) and session.place == Place(0, 1, "right")
    assert not session.give(1), "the case is complete"
    assert session.place == Place(0, 1, "right")
    assert [session.score(parameter=p, side=s) for p in (0, 1) for s in ("left", "right")] == [4, 2, 5, 1]
    assert session.progress(reading=0) == (4, 4) and session.progress() == (4, 28)


def test_a_session_goes_on_where_it_stopped(room: Path) -> None:
    session = Session(room, "reader1")
    for score in (1, 2, 3, 4):
        session.give(score)
    session.go_to_reading(1)
    session.give(5)
    again = Session(room, "reader1")
    assert again.place == Place(1, 0, "right")
    assert again.log.scores == session.log.scores
    assert Session(room, "reader2").progress() == (0, 28), "readers do not share scores"


def test_gaps_are_found_and_the_end_is_told(room: Path) -> None:
    session = Session(room, "reader1")
    for number in range(len(session.readings)):
        session.go_to_reading(number)
        while session.give(3):
            pass
    assert session.progress() == (28, 28)
    assert Session(room, "reader1").place == Place(6, 1, "right")
    session.go_to_reading(3)
    session.go_to_parameter(1)
    session.go_to_side("right")
    session.give(1)
    assert session.take_back()
    assert session.place == Place(3, 1, "right") == Session(room, "reader1").place


def test_moving_stays_within_the_session(room: Path) -> None:
    session = Session(room, "reader1")
    for number, expected in ((-1, 0), (2, 2), (99, 6)):
        session.go_to_reading(number)
        assert session.place == Place(expected)
    for number, expected in ((-1, 0), (9, 1)):
        session.go_to_parameter(number)
        assert session.place.parameter == expected


def test_a_correction_is_a_new_line_and_the_last_one_counts(room: Path) -> None:
    session = Session(room, "reader1")
    session.give(4)
    session.go_to_side("left")
    session.give(2)
    assert session.score(side="left") == 2
    path = log_path(room, "reader1")
    before = path.read_bytes()
    assert session.take_back() and session.score(side="left") is None
    assert path.read_bytes().startswith(before), "append-only"
    assert [json.loads(line)["score"] for line in path.read_bytes().splitlines()[1:]] == [4, 2, None]
    assert not session.take_back(), "there is nothing left"


def test_two_readings_of_a_case_are_scored_apart(room: Path) -> None:
    session = Session(room, "reader1")
    cases = [reading.case for reading in session.readings]
    twice = next(case for case in cases if cases.count(case) == 2)
    first, second = (number for number, case in enumerate(cases) if case == twice)
    session.go_to_reading(first)
    session.give(5)
    session.go_to_reading(second)
    assert session.score() is None


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    open_log(path).append(KEY, 4)
    whole = path.read_bytes()
    open_log(path).append(KEY, 5)
    second = path.read_bytes()
    for length in range(len(whole), len(second)):  # wherever the power failed
        path.write_bytes(second[:length])
        log = open_log(path)
        assert log.scores == {KEY: 4}
        assert path.read_bytes() == second[:length], "reading changes nothing"
        log.append(KEY, 2)
        assert path.read_bytes().startswith(whole) and open_log(path).scores == {KEY: 2}
        assert len(path.read_bytes().splitlines()) == 3


def test_a_torn_first_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"room": "ab')
    log = open_log(path)
    log.append(KEY, 3)
    assert open_log(path).scores == {KEY: 3}


def test_a_kill_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    """A process that is killed between two scores, without a chance to flush."""
    path = tmp_path / "log.jsonl"
    program = (
        "import os, sys; from sn2nlib.evaluation.readers.session import ScoreLog; "
        f"log = ScoreLog({str(path)!r}, room='abc', reader='reader1'); "
        "[log.append(('r', 'i', str(n)), 1 + n % 5) for n in range(7)]; os.kill(os.getpid(), 9)"
    )
    run = subprocess.run([sys.executable, "-c", program], check=False)
    assert run.returncode == -9
    assert list(open_log(path).scores.values()) == [1, 2, 3, 4, 5, 1, 2]


def test_every_score_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    path = tmp_path / "scores" / "log.jsonl"
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(path.read_bytes()))
    log = open_log(path)
    for score in (1, 2):
        log.append(KEY, score)
        assert synced[-1] == path.read_bytes(), "synced before it was written whole"
    assert len(synced) >= 2


def test_another_page_of_the_same_reader_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    one, two = open_log(path), open_log(path)
    assert not one.refresh()
    two.append(KEY, 4)
    assert one.refresh() and one.scores == {KEY: 4} and not one.refresh()
    one.append(KEY, 5)
    assert two.refresh() and two.scores == {KEY: 5} == open_log(path).scores


def test_a_page_that_has_not_seen_what_another_wrote_writes_no_more(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    one, two = open_log(path), open_log(path)
    two.append(KEY, 5)
    kept = path.read_bytes()
    for score in (1, None):
        with pytest.raises(ReadingError, match="another page has scored since"):
            one.append(KEY, score)
    assert one.elsewhere and not two.elsewhere and path.read_bytes() == kept
    two.append(KEY, 4)
    assert open_log(path).scores == {KEY: 4}


def test_of_two_pages_that_score_at_once_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has read the log and is about to write, over a torn line, when this one scores."""
    monkeypatch.setattr("sn2nlib.evaluation.readers.session._PATIENCE", 120)
    path = tmp_path / "log.jsonl"
    open_log(path).append(KEY, 3)
    with path.open("ab") as file:
        file.write(b'{"time": "2026')
    program = (
        "import sys, time; from sn2nlib.evaluation.readers.session import ScoreLog; "
        f"log = ScoreLog({str(path)!r}, room='abc', reader='reader1'); write = log._write; "
        "log._write = lambda *score: (print('writes', flush=True), time.sleep(1), write(*score)); "
        "log.append(('other', 'image', 'sharpness'), 1)"
    )
    here = open_log(path)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as page:
        assert page.stdout is not None and page.stdout.readline() == "writes\n"
        with pytest.raises(ReadingError, match="another page has scored since"):
            here.append(KEY, 5)
    assert page.returncode == 0
    assert here.scores == open_log(path).scores == {KEY: 3, ("other", "image", "sharpness"): 1}
    assert len(path.read_bytes().splitlines()) == 3


def test_a_score_waits_for_another_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sn2nlib.evaluation.readers.session._PATIENCE", 0.05)
    path = tmp_path / "log.jsonl"
    with FileLock(f"{path}.lock"), pytest.raises(OSError, match="lock"):
        open_log(path).append(KEY, 4)
    log = open_log(path)
    log.append(KEY, 5)
    assert log.scores == {KEY: 5} == open_log(path).scores


def test_a_room_is_open_once_for_a_reader_until_its_process_ends(room: Path) -> None:
    program = (
        "import sys, time; from sn2nlib.evaluation.readers.session import hold_room\n"
        f"with hold_room({str(room)!r}, 'reader1'): print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        with pytest.raises(ReadingError, match="is open for reader1 already"), hold_room(room, "reader1"):
            pass
        with hold_room(room, "reader2"):
            other.kill()
    for _ in range(2):
        with hold_room(room, "reader1"):
            assert Session(room, "reader1").give(4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 2: damaged, it holds no JSON"),
        ("[]", "line 2: damaged, it is no score"),
        ('{"reading": "r"}', "line 2: damaged, it is no score"),
        ('{"reading":"r","image":"i","parameter":"p","time":"","score":6}', "line 2: score 6, allowed: 1 to 5"),
    ],
)
def test_a_damaged_log_is_told(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"room": "abc", "reader": "reader1"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ReadingError, match=message):
        open_log(path)


def test_a_log_of_another_room_is_refused(tmp_path: Path) -> None:
    open_log(tmp_path / "log.jsonl").append(KEY, 1)
    with pytest.raises(ReadingError, match="log of another room or reader"):
        ScoreLog(tmp_path / "log.jsonl", room="xyz", reader="reader1")


def test_what_is_no_room_or_reader_is_told(room: Path, tmp_path: Path) -> None:
    with pytest.raises(ReadingError, match=r"there is no reader 'nobody' in .*; it has reader1, reader2"):
        Session(room, "nobody")
    with pytest.raises(ReadingError, match="is no reading room"):
        Session(tmp_path, "reader1")
    with pytest.raises(ReadingError, match="a score is 1, 2, 3, 4 or 5, got 6"):
        Session(room, "reader1").give(6)
    copy = tmp_path / "copy"
    shutil.copytree(room, copy)
    (copy / "room.json").write_text('{"format": 2}', encoding="utf-8")
    with pytest.raises(ReadingError, match=r"room\.json is damaged: format: "):
        load_plan(copy)
