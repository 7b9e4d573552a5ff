"""The reading room in a real browser: read, killed in the middle, resumed, ended; nothing on it tells an arm.

Prints how long the first image and a slice change take, and leaves screenshots in reports/tests/.
"""

import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pytest
from playwright.sync_api import Page, Playwright, Response, sync_playwright

from sn2nlib.evaluation.readers.criteria import ARMS, load_criteria
from sn2nlib.evaluation.readers.demo import make_demo_study
from sn2nlib.evaluation.readers.scores import read_scores
from sn2nlib.evaluation.readers.session import SIDES, load_plan, log_path
from sn2nlib.scans.manifest import manifest_folder

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = manifest_folder(ROOT)
SHOTS = ROOT / "reports" / "tests"
PARAMETERS = ("perceived_snr", "sharpness", "hippocampus")
N_READINGS = 6
LOCAL = re.compile(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|data:|blob:http://127\.0\.0\.1")
TOLD = re.compile("|".join(ARMS).encode(), re.IGNORECASE)
PICTURE = re.compile(rb"\x89PNG\r\n\x1a\n.*?IEND.{4}", re.DOTALL)
BOTH_SHOWN = """() => { const images = [...document.querySelectorAll('.reading-room .frame img')];
  return images.length == 2 && images.every(image => image.naturalWidth > 50); }"""
CLOCK = """() => { const images = document.querySelectorAll('.reading-room .frame img'); window.delays = [];
  window.addEventListener('keydown', () => { window.pressed = performance.now(); window.loaded = 0; }, true);
  images.forEach(image => image.addEventListener('load', () => {
    if (++window.loaded == 2) window.delays.push(performance.now() - window.pressed); })); }"""


class Traffic:
    """All that went between page and server."""

    def __init__(self, page: Page) -> None:
        self.strangers: list[str] = []
        self.sent: list[bytes] = []
        self.frames: list[bytes] = []
        self.responses: list[Response] = []
        page.on("request", lambda request: self.take(request.url, request.post_data_buffer))
        page.on("response", lambda response: self.responses.append(response))
        page.on("websocket", lambda socket: self.listen(socket))

    def take(self, url: str, body: bytes | None) -> None:
        self.sent += [url.encode(), body or b""]
        if not LOCAL.match(url):
            self.strangers.append(url)

    def listen(self, socket) -> None:
        self.take(socket.url, None)
        for event in ("framesent", "framereceived"):
            socket.on(event, lambda frame: self.frames.append(frame.encode() if isinstance(frame, str) else frame))

    def check(self, page: Page) -> None:
        """No arm, no stranger: in the page, in what was sent, and in what came."""
        assert self.strangers == []
        assert not TOLD.search(page.content().encode()) and not TOLD.search(page.title().encode())
        assert not TOLD.search(page.evaluate("document.body.innerText").encode())
        assert [part for part in self.sent if TOLD.search(part)] == []
        pictures = [picture for frame in self.frames for picture in PICTURE.findall(frame)]
        assert len(pictures) > 10
        assert {kind for picture in pictures[:50] for kind in chunk_kinds(picture)} == {b"IHDR", b"IDAT", b"IEND"}
        assert [words for words in (PICTURE.sub(b"", frame) for frame in self.frames) if TOLD.search(words)] == []
        library = re.compile(r"/voila/(static|labextensions|templates/\w+/static)/")
        for response in self.responses:
            if not library.search(response.url) and response.url.startswith("http"):
                assert not TOLD.search(response.body()), response.url
        self.responses.clear()


def chunk_kinds(picture: bytes) -> list[bytes]:
    kinds, at = [], 8
    while at < len(picture):
        kinds.append(picture[at + 4 : at + 8])
        at += 12 + int.from_bytes(picture[at : at + 4])
    return kinds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of five cases, one of them read twice, with slices of 256×256, and its room."""
    make_demo_study(
        tmp_path / "study", n_cases=N_READINGS - 1, repeats=1, parameters=PARAMETERS, matrix=(256, 256, 24),
        voxel_size=(0.9, 0.9, 2.0),
    )  # fmt: skip
    sn2n("prepare", tmp_path / "study", tmp_path / "room", "--key", tmp_path / "key.json", "--seed", 5)
    return tmp_path


def sn2n(*arguments: object) -> str:
    command = [sys.executable, "-m", "sn2nlib.cli", "reading", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


@contextmanager
def served(folder: Path, port: int) -> Iterator[tuple[str, subprocess.Popen]]:
    """What tells the address of the room of reader1, its page made ready, and the server."""
    command = [sys.executable, "-m", "sn2nlib.cli", "reading", "open", str(folder / "room"), "--reader", "reader1"]
    own = {f"JUPYTER_{kind}_DIR": str(folder / "jupyter") for kind in ("CONFIG", "DATA", "RUNTIME")}
    with (
        (folder / "server.log").open("a") as log,
        subprocess.Popen(
            [*command, "--no-browser", "--port", str(port)], cwd=ROOT, env={**os.environ, **own},
            stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True, preexec_fn=heard,
        ) as server,
    ):  # fmt: skip
        try:
            yield first_line(server, seconds=120).strip(), server
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)


def first_line(server: subprocess.Popen, *, seconds: float) -> str:
    assert server.stdout is not None
    with selectors.DefaultSelector() as waiting:
        waiting.register(server.stdout, selectors.EVENT_READ)
        assert waiting.select(seconds), "the server did not become ready"
    return str(server.stdout.readline())


@contextmanager
def opened(playwright: Playwright, program: Path, told: str) -> Iterator[tuple[Page, Traffic]]:
    """The page in a browser; prints how long its first images took."""
    assert told.startswith("Reading room: http://127.0.0.1:")
    browser = playwright.chromium.launch(executable_path=str(program), args=["--no-sandbox"])
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(30_000)
    traffic = Traffic(page)
    begun = time.perf_counter()
    page.goto(told.split()[2])
    page.wait_for_function(BOTH_SHOWN)
    print(f"first images after {time.perf_counter() - begun:.1f} s, the kernel preheated (goal: 3 s)")
    page.mouse.move(300, 250)
    page.mouse.move(310, 260)
    page.wait_for_selector(".reading-room.ipyevents-watched")
    yield page, traffic
    if browser.is_connected():
        browser.close()


def kill_browser() -> None:
    """As in a power cut; the children of this test alone."""
    family = psutil.Process().children(recursive=True)
    browsers = [each for each in family if "chrom" in each.name()]
    assert browsers
    for process in browsers:
        process.kill()


class Reader:
    """Types scores, remembers them, and waits until they are on the disk."""

    def __init__(self, page: Page, log: Path, typed: dict[tuple[int, str, str], int]) -> None:
        self.page, self.log, self.typed = page, log, typed
        self.rng = np.random.default_rng(len(typed))

    def read_case(self, number: int) -> None:
        """Score both images for every parameter, by keys and every third time by mouse."""
        self.page.wait_for_function(f"document.querySelector('.told').innerText.includes('case {number + 1} of')")
        for count, (parameter, side) in enumerate((name, side) for name in PARAMETERS for side in SIDES):
            score = int(self.rng.integers(1, 6))
            if count % 3 == 2:
                self.page.locator(".grades").nth(SIDES.index(side)).locator("button").nth(score - 1).click()
            else:
                self.page.keyboard.press(str(score))
            self.typed[number, parameter, side] = score
        self.settle()

    def settle(self) -> None:
        deadline = time.monotonic() + 30
        while self.kept() != len(self.typed):
            assert time.monotonic() < deadline, f"{self.kept()} of {len(self.typed)} scores are on the disk"
            time.sleep(0.02)

    def kept(self) -> int:
        whole = self.log.read_bytes().split(b"\n")[1:-1] if self.log.exists() else []
        lines = [json.loads(line) for line in whole]
        last = {(line["reading"], line["image"], line["parameter"]): line["score"] for line in lines}
        return sum(score is not None for score in last.values())


def shoot(page: Page, width: int, height: int, name: str) -> None:
    """A screenshot at a size of the window, in which all that is clicked must lie."""
    page.set_viewport_size({"width": width, "height": height})
    page.mouse.move(width // 4, 300)
    page.mouse.move(width // 4 + 5, 305)
    page.wait_for_timeout(500)
    boxes = page.eval_on_selector_all(
        ".reading-room button, .reading-room .frame", "all => all.map(each => each.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) > 15
    outside = [box for box in boxes if not (0 <= box["left"] < box["right"] <= width and box["bottom"] <= height)]
    assert outside == []
    assert page.evaluate("document.documentElement.scrollHeight") <= height
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"reading_room_{width}x{height}_{name}.png")


def heard() -> None:
    """Ctrl+C counts in a child, even of a job in the background, for which shells have it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended_by_ctrl_c(server: "subprocess.Popen[str]") -> int:
    """Exit code."""
    server.send_signal(signal.SIGINT)
    return server.wait(60)


def test_six_cases_are_read_with_a_crash_between(folder: Path, require: Callable[..., Path]) -> None:
    program, log = require("chromium"), log_path(folder / "room", "reader1")
    typed: dict[tuple[int, str, str], int] = {}
    with sync_playwright() as playwright:
        with served(folder, free_port()) as (told, server), opened(playwright, program, told) as (page, traffic):
            shoot(page, 1280, 800, "start")
            change_slices(page)
            reader = Reader(page, log, typed)
            reader.read_case(0)
            page.keyboard.press("Enter")
            reader.read_case(1)
            correct(reader)
            page.keyboard.press("Enter")
            page.wait_for_function("document.querySelector('.told').innerText.includes('case 3 of 6')")
            page.keyboard.press("3")
            typed[2, PARAMETERS[0], "left"] = 3
            reader.settle()
            traffic.check(page)
            os.killpg(server.pid, signal.SIGKILL)
            kill_browser()
        with log.open("ab") as file:
            file.write(b'{"time": "2026-01-0')  # what a crash leaves of a line
        with (
            taken_port() as port, served(folder, port) as (said, server),
            opened(playwright, program, said) as (page, traffic),
        ):  # fmt: skip
            assert said.endswith(f"(port {port} is not free)")
            told = page.locator(".told").inner_text()
            assert "case 3 of 6" in told and f"{len(typed)} of {2 * 3 * N_READINGS} in all" in told
            page.keyboard.press(",")  # back, and on again: what was scored is shown
            page.wait_for_function("document.querySelector('.side').innerText.includes('score 5')")
            assert "Case complete" in page.locator(".notice").inner_text()
            page.keyboard.press(".")
            reader = Reader(page, log, typed)
            for number in range(2, N_READINGS):
                page.keyboard.press("ArrowLeft")
                reader.read_case(number)
                if number == 2:
                    look_at_marks(page)
                page.keyboard.press("Enter")
            page.wait_for_function("document.querySelector('.notice').innerText.includes('All cases are read')")
            shoot(page, 1280, 800, "end")
            traffic.check(page)
            read_on_another_page(page, reader, said)
            assert ended_by_ctrl_c(server) == 0 and server.stdout is not None and server.stdout.read() == ""
    assert (folder / "server.log").read_text(encoding="utf-8") == ""
    saved = log.read_text(encoding="utf-8")
    assert not TOLD.search(saved.encode()) and len(typed) == 2 * 3 * N_READINGS
    check_scores(folder, typed)


def change_slices(page: Page) -> None:
    """Time slice changes by key; the wheel moves too."""
    page.evaluate(CLOCK)
    for number in range(21):
        page.keyboard.press("ArrowUp" if number % 4 < 2 else "ArrowDown")
        page.wait_for_function(f"window.delays.length > {number}")
    print(f"slice change at 256×256: median {median(page.evaluate('window.delays')[1:]):.0f} ms (goal: 100 ms)")
    shown = page.locator(".frame img").first.get_attribute("src")
    page.mouse.wheel(0, 100)
    page.wait_for_function(f"document.querySelector('.frame img').src != '{shown}'")


def correct(reader: Reader) -> None:
    """Take the last score back, give another one; then correct the first one of the case."""
    page, typed = reader.page, reader.typed
    page.keyboard.press("Backspace")
    page.keyboard.press("1")
    typed[1, PARAMETERS[-1], "right"] = 1
    page.get_by_text("Perceived SNR", exact=False).first.click()
    page.keyboard.press("5")
    typed[1, PARAMETERS[0], "left"] = 5
    page.wait_for_function("document.querySelector('.side').innerText.includes('score 5')")
    reader.settle()


def look_at_marks(page: Page) -> None:
    """Zoom, move, window and planes, by mouse and keys, with the hippocampus marked; both images follow."""
    page.get_by_text("Hippocampus", exact=False).first.click()
    page.keyboard.press("m")
    shoot(page, 1920, 1080, "marks")
    before = [each.get_attribute("src") for each in page.locator(".frame img").all()]
    page.mouse.move(400, 300)
    page.mouse.down()
    page.mouse.move(430, 330, steps=3)
    page.mouse.up()
    for key in ("+", "+", "c", "s"):
        page.keyboard.press(key)
    page.wait_for_function("document.querySelectorAll('button.mod-primary')[0].innerText == 'Sagittal'")
    page.wait_for_timeout(300)
    assert all(each.get_attribute("src") not in before for each in page.locator(".frame img").all())
    page.screenshot(path=SHOTS / "reading_room_1920x1080_sagittal.png")
    page.keyboard.press("r")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.mouse.move(310, 260)


def read_on_another_page(page: Page, reader: Reader, told: str) -> None:
    """Correct the last score on a second page; the first one says that it takes no more, until it is reloaded."""
    second = page.context.new_page()
    second.goto(told.split()[2])
    second.wait_for_function(BOTH_SHOWN)
    second.locator(".grades").nth(1).locator("button").nth(0).click()
    reader.typed[N_READINGS - 1, PARAMETERS[-1], "right"] = 1
    second.wait_for_function("document.querySelectorAll('.side')[1].innerText.includes('score 1')")
    page.bring_to_front()
    page.wait_for_function("document.querySelector('.notice').innerText.includes('read on another page')")
    page.keyboard.press("5")
    page.screenshot(path=SHOTS / "reading_room_1280x800_elsewhere.png")
    page.reload()
    page.wait_for_function(BOTH_SHOWN)
    page.locator(".grades").nth(1).locator("button").nth(1).click()
    reader.typed[N_READINGS - 1, PARAMETERS[-1], "right"] = 2
    page.wait_for_function("document.querySelectorAll('.side')[1].innerText.includes('score 2')")


def check_scores(folder: Path, typed: dict[tuple[int, str, str], int]) -> None:
    """The key turns what was typed into case and arm."""
    told = sn2n("key", folder / "room", "--key", folder / "key.json", "--out", folder / "scores.csv", "--unfinished")
    assert "reader1" not in told and f"Missing: reader2 {len(typed)} scores" in told
    key = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    expected = {}
    for number, reading in enumerate(load_plan(folder / "room").readings["reader1"]):
        once = key["readings"][reading.token]["reading"]
        for parameter in PARAMETERS:
            for side, image in zip(SIDES, (reading.left, reading.right), strict=True):
                told_by = key["images"][image]
                place = (told_by["case"], told_by["arm"], parameter, once, number + 1)
                expected[place] = typed[number, parameter, side]
    table = read_scores(folder / "scores.csv", criteria=load_criteria(MANIFEST), complete=False)
    places = zip(*(table[name] for name in ("case", "arm", "parameter", "reading", "reading_order")), strict=True)
    assert dict(zip(places, table["score"], strict=True)) == expected and len(table) == len(typed)
    assert set(table["arm"]) == set(ARMS) and set(table["source"]) == {"human"}
