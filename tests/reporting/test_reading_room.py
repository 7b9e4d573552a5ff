"""The page of the reading room without a browser: what keys and mouse do, and that it says nothing it must not."""

import asyncio
import errno
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from sn2nlib.errors import ReadingError
from sn2nlib.evaluation.readers.criteria import ARMS
from sn2nlib.evaluation.readers.demo import make_demo_study
from sn2nlib.evaluation.readers.rooms import prepare_room
from sn2nlib.evaluation.readers.session import Place, Session, hold_room
from sn2nlib.reporting import reading_server
from sn2nlib.reporting.notebooks import run_notebook
from sn2nlib.reporting.reading_room import ReadingRoom

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "08a_reading_room.ipynb"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_study(
        tmp_path_factory.mktemp("reading") / "study", n_cases=3, repeats=1, parameters=("sharpness", "hippocampus"),
        matrix=(40, 48, 36), voxel_size=(4.5, 4.0, 4.75),
    )  # fmt: skip


@pytest.fixture
def room(study: Path, tmp_path: Path) -> Path:
    prepare_room(study, tmp_path / "room", key=tmp_path / "key.json", seed=6)
    return tmp_path / "room"


@pytest.fixture
def page(room: Path) -> ReadingRoom:
    return ReadingRoom(room, "reader1")


def all_widgets(widget: widgets.Widget) -> list[widgets.Widget]:
    inner = [each for child in getattr(widget, "children", ()) for each in all_widgets(child)]
    return [widget, *inner]


def pictures(page: ReadingRoom) -> list[np.ndarray]:
    found = [each for each in all_widgets(page.page) if isinstance(each, widgets.Image)]
    return [np.asarray(Image.open(io.BytesIO(each.value)).convert("L")) for each in found]


def text(page: ReadingRoom) -> str:
    found = [each.value for each in all_widgets(page.page) if isinstance(each, widgets.HTML)]
    return " ".join(re.sub("<style>.*</style>", "", each, flags=re.DOTALL) for each in found)


def button(page: ReadingRoom, title: str, number: int = 0) -> widgets.Button:
    found = [each for each in all_widgets(page.page) if isinstance(each, widgets.Button)]
    return [each for each in found if each.description.endswith(title)][number]


def key(name: str, *, stamp: float = 0, repeat: bool = False, ctrl: bool = False) -> dict[str, Any]:
    pressed = {"ctrlKey": ctrl, "altKey": False, "metaKey": False}
    return {"type": "keydown", "key": name, "timeStamp": stamp, "repeat": repeat, **pressed}


def mouse(x: float, y: float, *, buttons: int = 1, shift: bool = False) -> dict[str, Any]:
    box = {"boundingRectWidth": 500.4, "boundingRectHeight": 400}
    return {"type": "mousemove", "clientX": x, "clientY": y, "buttons": buttons, "shiftKey": shift, **box}


def wheel(turned: float, *, ctrl: bool = False, mode: int = 0, stamp: float = 0) -> dict[str, Any]:
    return {"type": "wheel", "deltaY": turned, "deltaMode": mode, "ctrlKey": ctrl, "timeStamp": stamp}


def test_the_room_needs_neither_torch_nor_nilearn(room: Path) -> None:
    program = (
        "import sys; from sn2nlib.reporting.reading_room import ReadingRoom; "
        f"ReadingRoom({str(room)!r}, 'reader1').press('4'); "
        "print([name for name in ('torch', 'nilearn', 'ipywidgets') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['ipywidgets']"


def test_the_page_says_what_is_scored_and_how(page: ReadingRoom) -> None:
    told = text(page)
    assert "case 1 of 4" in told and "0 of 4 scores" in told and "0 of 16 in all" in told
    assert "Heavily blurred; outlines of gyri are lost." in told and "Sharp everywhere" in told
    assert "radiological convention" in told
    page.press("n")
    assert "Head, body and tail of the hippocampal formation" in text(page)
    for shown in (told, text(page)):
        assert [name for name in (*ARMS, "D01", "D02", "D03") if name.lower() in shown.lower()] == []
        assert [each.token for each in page.session.readings if each.token in shown or each.left in shown] == []


def test_keys_score_and_lead_on(page: ReadingRoom, room: Path) -> None:
    for digit in "4251":
        page.press(digit)
    assert list(Session(room, "reader1").log.scores.values()) == [4, 2, 5, 1]
    assert "Case complete" in text(page) and "Left image</span> · score 5" in text(page)
    page.press("Enter")
    assert "case 2 of 4" in text(page) and "not scored yet" in text(page)
    page.press(",")
    assert page.session.place == Place(0, 0, "left") and "Left image</span> · score 4" in text(page)
    page.press("ArrowRight")
    assert page.session.place.side == "right"
    page.press("Tab")
    page.press("3")
    assert page.session.score(side="left") == 3, "corrected"
    page.press("Backspace")
    assert page.session.score(side="left") is None
    page.press("x")
    page.press("9")
    page.press("F5")
    assert len(Session(room, "reader1").log.scores) == 3


def test_the_end_is_told(page: ReadingRoom) -> None:
    for _ in range(4):
        for digit in "3333":
            page.press(digit)
        page.press("Enter")
    assert "All cases are read, every score is saved." in text(page)


def test_a_score_that_is_not_kept_is_told_and_given_again(
    page: ReadingRoom, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(room))

    with monkeypatch.context() as broken:
        broken.setattr("sn2nlib.evaluation.readers.session.os.open", full)
        page.press("4")
        button(page, "5", 1).click()
    assert "could not be kept on the disk: No space left on device" in text(page) and str(room) not in text(page)
    assert page.session.place == Place(0, 0, "right") and page.session.progress() == (0, 16)
    page.press("ArrowLeft")
    page.press("4")
    assert "could not be kept" not in text(page) and page.session.score(side="left") == 4


def test_a_missing_image_is_told_without_its_path(page: ReadingRoom, room: Path) -> None:
    for image in (room / "images").iterdir():
        image.unlink()
    page.press(".")
    assert "An image or the log of scores is damaged" in text(page) and str(room) not in text(page)
    assert page.session.place.reading == 0, "what is scored is what is seen"


def test_buttons_do_what_keys_do(page: ReadingRoom) -> None:
    button(page, "4", 1).click()  # of the right image
    assert page.session.score(parameter=0, side="right") == 4 and page.session.score(parameter=0, side="left") is None
    assert button(page, "4", 1).button_style == "primary" and button(page, "4", 0).button_style == ""
    assert button(page, "Sharpness").description.startswith("◐")
    button(page, "Hippocampus").click()
    assert page.session.parameter.name == "hippocampus"
    button(page, "Case ▶").click()
    assert page.session.place.reading == 1
    button(page, "◀ Case").click()
    button(page, "Take back").click()
    assert page.session.progress() == (0, 16)
    button(page, "Coronal").click()
    assert page.look.plane == "coronal" and button(page, "Coronal").button_style == "primary"


def test_what_is_sent_twice_counts_once(page: ReadingRoom) -> None:
    page._on_key(key("4", stamp=1.5))
    page._on_key(key("4", stamp=1.5))
    assert page.session.progress()[0] == 1
    page._on_key(key("4", stamp=2.5, repeat=True))
    page._on_key(key("4", stamp=3.5, ctrl=True))
    assert page.session.progress()[0] == 1, "a digit that is held, or Ctrl+4 of the browser"
    page._on_key(key("2", stamp=4.5))
    assert page.session.progress()[0] == 2
    middle = page.look.index
    page._on_wheel(wheel(100, stamp=5))
    page._on_wheel(wheel(100, stamp=5))
    assert page.look.index == middle - 1


def test_both_images_scroll_together_and_stop_at_the_ends(page: ReadingRoom) -> None:
    before = pictures(page)
    page.press("ArrowUp")
    after = pictures(page)
    assert page.look.index == 36 // 2 + 1
    assert all((one != other).any() for one, other in zip(before, after, strict=True))
    for turn in range(4):
        page._on_wheel(wheel(25, stamp=turn))  # a trackpad: four small turns are one slice
    assert page.look.index == 36 // 2
    page._on_wheel(wheel(3, mode=1, stamp=9))  # three lines are one notch
    assert page.look.index == 36 // 2 - 1
    page.scroll(-99)
    assert page.look.index == 0
    page.scroll(999)
    assert page.look.index == 35
    page.press("c")
    assert (page.look.plane, page.look.index) == ("coronal", 24)
    page.press("a")
    assert page.look.index == 35, "every plane keeps its slice"


def test_the_window_is_linked(page: ReadingRoom) -> None:
    at_first, before = page.look, [shown.mean() for shown in pictures(page)]
    page.press("b")
    assert all(now.mean() > then for now, then in zip(pictures(page), before, strict=True))
    page.press("d")
    assert page.look.low == pytest.approx(at_first.low) and page.look.high == pytest.approx(at_first.high)
    page.press("w")
    assert page.look.high - page.look.low == pytest.approx(1.1 * (at_first.high - at_first.low))
    page.press("q")
    page._on_mouse(mouse(100, 100))
    page._on_mouse(mouse(400, 100))  # to the right: wider
    assert page.look.high - page.look.low == pytest.approx(2 * (at_first.high - at_first.low))
    page._on_mouse(mouse(400, 70))  # upwards: brighter, everything is shown lighter
    assert page.look.high + page.look.low < at_first.high + at_first.low
    page.press("r")
    assert page.look == at_first


def test_zoom_and_move_are_linked(page: ReadingRoom) -> None:
    at_first = page.look
    page._on_wheel(wheel(-200, ctrl=True))
    assert page.look.zoom == pytest.approx(1.25**2)
    page._on_mouse(mouse(100, 100, buttons=2))
    page._on_mouse(mouse(130, 90, buttons=2))
    # the picture follows the mouse: what is now in the middle lay left of and below it
    assert page.look.centre[0] < 0 < page.look.centre[1]
    page._on_mouse(mouse(130, 90, buttons=0))
    moved = page.look
    page._on_mouse(mouse(200, 200, buttons=0))
    assert page.look == moved, "no button is pressed"
    for _ in range(9):
        page.press("-")
    assert page.look == at_first


def test_images_have_the_size_they_are_shown_in(page: ReadingRoom) -> None:
    page._on_mouse(mouse(1, 1, buttons=0))
    assert [shown.shape for shown in pictures(page)] == [(400, 500)] * 2


def test_marks_are_shown_on_demand(page: ReadingRoom) -> None:
    assert button(page, "Marks").disabled, "sharpness has none"
    page.press("m")
    page.press("n")
    assert not button(page, "Marks").disabled
    plain = pictures(page)
    page.press("m")
    marked, at_mark = pictures(page), page.look
    assert button(page, "Marks").button_style == "primary" and (marked[0] != plain[0]).any()
    assert at_mark.index == round(36 // 2 - 14 / 4.75), "where the hippocampus lies"
    page.press("s")
    right = page.look.index
    page.press("m")
    left = page.look.index
    assert left < 20 < right, "z runs to the right"
    page.press("m")
    assert button(page, "Marks").button_style == ""
    page.press("m")
    page.press("5")
    assert button(page, "Marks").button_style == "primary", "the other image of the same structure"
    page.press("p")
    assert button(page, "Marks").button_style == "", "another parameter"


def test_a_page_made_ready_before_follows_the_log(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sn2nlib.reporting.reading_room.SECONDS_BETWEEN_LOOKS", 0.01)

    async def read_elsewhere() -> ReadingRoom:
        waiting = ReadingRoom(room, "reader1")
        other = Session(room, "reader1")
        while other.give(4):
            pass
        await asyncio.sleep(0.2)
        assert waiting._task is not None
        waiting._task.cancel()
        return waiting

    waiting = asyncio.run(read_elsewhere())
    assert waiting.session.place == Place(1) and "case 2 of 4" in text(waiting)


def test_a_second_page_ends_the_first(page: ReadingRoom, room: Path) -> None:
    page.press("4")
    second = ReadingRoom(room, "reader1")
    assert second.session.place == Place(0, 0, "right")
    page.press("2")  # before the second one is used: a click there shows what came, and was not meant for it
    button(second, "5", 1).click()
    assert second.session.place == Place(0, 1, "left") and second.session.progress() == (2, 16)
    button(second, "5", 1).click()
    assert second.session.score(parameter=1, side="right") == 5 and "another page" not in text(second)
    kept = dict(second.session.log.scores)
    for key_pressed in ("3", "Backspace", "n", "1"):
        page.press(key_pressed)
        assert "reader1 is being read on another page" in text(page) and "damaged" not in text(page)
    assert Session(room, "reader1").log.scores == kept
    again = ReadingRoom(room, "reader1")  # reloaded
    again.press("3")
    assert "another page" not in text(again) and len(again.session.log.scores) == len(kept) + 1
    second._on_mouse(mouse(1, 1, buttons=0))
    second._catch_up()
    assert "another page" in text(second), "told without a key"


def test_a_page_in_use_is_told_of_another_one(page: ReadingRoom, room: Path) -> None:
    page._on_mouse(mouse(1, 1, buttons=0))
    Session(room, "reader1").give(4)
    page._catch_up()
    assert "reader1 is being read on another page" in text(page)
    page.press("ArrowUp")
    page.press("3")
    assert list(Session(room, "reader1").log.scores.values()) == [4]


def test_the_notebook_reads_its_demo(tmp_path: Path) -> None:
    executed = tmp_path / NOTEBOOK.name
    run_notebook(NOTEBOOK, executed, {"demo": True}, cwd=NOTEBOOK.parent)
    outputs = [
        output
        for cell in json.loads(executed.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
    ]
    assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)
    printed = "".join("".join(output.get("text", [])) for output in outputs)
    assert "12 scores, as many of either arm; 36 still to give" in printed
    assert re.search("|".join([*ARMS, r"\bD0\d"]), printed, re.IGNORECASE) is None, "the rows tell which arm is which"


def test_the_notebook_does_not_name_an_arm() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert [line for line in code.splitlines() if any(arm in line for arm in ARMS)] == []  # sn2n is the program


def test_the_server_refuses_before_it_starts(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReadingError, match="there is no reader 'nobody'"):
        reading_server.serve_room(room, "nobody")
    with hold_room(room, "reader1"), pytest.raises(ReadingError, match="is open for reader1 already"):
        reading_server.serve_room(room, "reader1")
    monkeypatch.setitem(sys.modules, "voila.app", None)
    with pytest.raises(ReadingError, match=r"voila.* is not installed; pip install 'sn2n\[reading\]'"):
        reading_server.serve_room(room, "reader1")


def test_the_template_links_to_no_other_machine() -> None:
    files = [path for path in reading_server.TEMPLATES.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"conf.json", "index.html.j2", "page.html"}
    assert [path for path in files if re.search(r"(https?:)?//\w", path.read_text(encoding="utf-8"))] == []
