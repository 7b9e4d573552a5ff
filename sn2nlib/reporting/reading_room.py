"""The page of the reading room: two images side by side, scored by keyboard and mouse, nothing on it that tells an arm.

Slices are drawn on demand and shown by ipywidgets.Image; ipyevents brings keys, wheel and mouse. The same page stands
in a notebook and, through Voilà, in a browser window of its own.
"""

import asyncio
import html
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import ipywidgets as widgets
import numpy as np
from ipyevents import Event

from sn2nlib.errors import ReadingError, Sn2nError
from sn2nlib.evaluation.readers.criteria import SCORES
from sn2nlib.evaluation.readers.session import SIDES, Session, open_image
from sn2nlib.reporting.figures.planes import window
from sn2nlib.reporting.reading_parts import ELSEWHERE, KEYS, STYLE, criteria_table, make_box, make_html
from sn2nlib.reporting.reading_slices import Circle, Look, along, draw_slice, offset, slice_count
from sn2nlib.scans.images import voxel_size_of

PLANES = ("axial", "coronal", "sagittal")
SECONDS_BETWEEN_LOOKS = 0.5  # at the log, which another page of the same reader may have lengthened
_CANVAS = (600, 480)  # until the browser has told the size of an image
_LARGEST = 1400
_NOTCH = 100.0  # deltaY of one notch of a mouse wheel
_DRAG = 300.0  # pixels of mouse movement for the whole window


class ReadingRoom:
    """The page of one reader.

    Attributes
    ----------
    session
        The reader's place and scores.
    look
        How both images are looked at.
    page
        The widget to show.
    """

    look: Look

    def __init__(self, room: str | os.PathLike[str], reader: str) -> None:
        """Open a room where the reader stopped.

        Raises
        ------
        ReadingError
            If there is no such room or reader, or its images or log are damaged.
        """
        self.session = Session(room, reader)
        self.canvas = _CANVAS
        self._images = {side: widgets.Image(format="png", value=b"") for side in SIDES}
        self._frames = {side: make_box(widgets.VBox, [image], "frame") for side, image in self._images.items()}
        self._told = make_html("told")
        self._planes = {plane: self._button(plane.capitalize(), self._choose_plane, plane) for plane in PLANES}
        self._marks = self._button("Marks", self._step_marks)
        self._parameters = make_box(widgets.HBox, [], "parameters")
        self._criteria, self._notice = make_html("criteria"), make_html("notice")
        self._labels = {side: widgets.HTML() for side in SIDES}
        self._grades = {
            side: [self._button(str(score), self._give_at, side, score) for score in SCORES] for side in SIDES
        }
        self._sides = {side: self._side(side) for side in SIDES}
        self.page = self._assemble()
        self._drag: tuple[float, float] | None = None
        self._wheel = 0.0
        self._marked = -1  # the mark that was gone to; -1: none is shown
        self._stamp: tuple[str, float] | None = None
        self._used = False  # by a key or the mouse
        self._event_sources = self._listen()
        self._shown = self.session.place  # where the images on the page belong
        self._open_case()
        self._task = self._follow()

    def press(self, key: str) -> None:
        """What a key of the keyboard does; keys without a meaning do nothing."""
        if key in {str(score) for score in SCORES}:
            self._do(self._give, int(key))
        elif action := self._actions().get(key.lower() if len(key) == 1 else key):
            self._do(action)

    def scroll(self, slices: int) -> None:
        """Go on by so many slices in both images."""
        last = slice_count(self._volumes["left"], self.look.plane) - 1
        index = min(max(self.look.index + slices, 0), last)
        if index != self.look.index:
            self._indices[self.look.plane] = index
            self._show(replace(self.look, index=index))

    def zoom(self, factor: float) -> None:
        """Enlarge both images by a factor."""
        zoom = min(max(self.look.zoom * factor, 1.0), 12.0)
        self._show(replace(self.look, zoom=zoom, centre=self.look.centre if zoom > 1 else (0.0, 0.0)))

    def change_window(self, *, width: float = 1.0, brightness: float = 0.0) -> None:
        """Change width, as a factor, and brightness, as a share of the width, of both images' window."""
        low, high = self.look.low, self.look.high
        half = (high - low) * min(max(width, 0.1), 10.0) / 2
        middle = (low + high) / 2 - brightness * (high - low)
        self._show(replace(self.look, low=middle - half, high=middle + half))

    def _do(self, action: Callable[..., None], *arguments: Any) -> None:
        """Do what the reader asks for, unless it was asked of a place that is no longer shown."""
        if self._use():
            self._attempt(action, *arguments)

    def _use(self) -> bool:
        """Whether nothing has moved before the reader came; from then on, another page that scores ends this one."""
        before = self.session.place
        if not self._used:
            self._attempt(self._catch_up)
            self._used = True
        return self.session.place == before

    def _attempt(self, action: Callable[..., None], *arguments: Any) -> None:
        """Act; what fails is told on the page, without paths, which may tell what they must not."""
        try:
            action(*arguments)
        except OSError as error:
            self._complain(f"This could not be kept on the disk: {error.strerror or type(error).__name__}.")
        except Sn2nError:
            if self.session.log.elsewhere:
                self._describe()
            else:
                self._complain("An image or the log of scores is damaged.")

    def _complain(self, what: str) -> None:
        self._notice.value = f"<span class='wrong'>{html.escape(what)} Call whoever prepared this room.</span>"

    def _actions(self) -> dict[str, Callable[[], None]]:
        session = self.session
        return {
            "ArrowDown": lambda: self.scroll(-1),
            "ArrowUp": lambda: self.scroll(1),
            "PageDown": lambda: self.scroll(-5),
            "PageUp": lambda: self.scroll(5),
            "ArrowLeft": lambda: self._choose_side("left"),
            "ArrowRight": lambda: self._choose_side("right"),
            "Tab": lambda: self._choose_side("right" if session.place.side == "left" else "left"),
            "n": lambda: self._go_to_parameter(session.place.parameter + 1),
            "Enter": lambda: self._go_on(),
            "p": lambda: self._go_to_parameter(session.place.parameter - 1),
            ".": lambda: self._go_to_case(session.place.reading + 1),
            ",": lambda: self._go_to_case(session.place.reading - 1),
            "Backspace": self._take_back,
            "a": lambda: self._choose_plane("axial"),
            "c": lambda: self._choose_plane("coronal"),
            "s": lambda: self._choose_plane("sagittal"),
            "m": self._step_marks,
            "+": lambda: self.zoom(1.25),
            "-": lambda: self.zoom(0.8),
            "w": lambda: self.change_window(width=1.1),
            "q": lambda: self.change_window(width=1 / 1.1),
            "b": lambda: self.change_window(brightness=0.05),
            "d": lambda: self.change_window(brightness=-0.05),
            "r": self._reset,
        }

    def _assemble(self) -> widgets.VBox:
        previous = self._button("◀ Case", lambda: self._go_to_case(self.session.place.reading - 1))
        following = self._button("Case ▶", lambda: self._go_to_case(self.session.place.reading + 1))
        reset = self._button("Reset view", self._reset)
        back = self._button("Take back", self._take_back)
        bar = [self._told, *self._planes.values(), self._marks, reset, back, previous, following]
        middle = make_box(widgets.VBox, [self._parameters, self._criteria, self._notice], "middle")
        panel = [self._sides["left"], middle, self._sides["right"]]
        style = widgets.HTML(f"<style>{STYLE.read_text(encoding='utf-8')}</style>")
        style.layout.display = "none"
        rows = [
            style,
            make_box(widgets.HBox, bar, "bar"),
            make_box(widgets.HBox, list(self._frames.values()), "images"),
            make_box(widgets.HBox, panel, "panel"),
        ]
        return make_box(widgets.VBox, rows, "reading-room")

    def _side(self, side: str) -> widgets.VBox:
        grades = make_box(widgets.HBox, self._grades[side], "grades")
        return make_box(widgets.VBox, [self._labels[side], grades, make_html("keys", KEYS[side])], "side")

    def _button(self, text: str, action: Callable[..., None], *arguments: Any) -> widgets.Button:
        button = widgets.Button(description=text)
        button.on_click(lambda _: self._do(action, *arguments))
        return button

    def _listen(self) -> list[Event]:
        """Keys on the whole page; wheel and mouse on the images."""
        keys = Event(
            source=self.page, watched_events=["keydown"], ignore_modifier_key_events=True, prevent_default_action=True
        )
        keys.on_dom_event(self._on_key)
        sources = [keys]
        for image in self._images.values():
            wheel = Event(source=image, watched_events=["wheel"], prevent_default_action=True)
            wheel.on_dom_event(self._on_wheel)
            mouse = Event(
                source=image,
                watched_events=["mouseenter", "mousedown", "mousemove", "mouseup", "contextmenu", "dragstart"],
                prevent_default_action=True, throttle_or_debounce="throttle", wait=30,
            )  # fmt: skip
            mouse.on_dom_event(self._on_mouse)
            sources += [wheel, mouse]
        return sources

    def _on_key(self, event: dict[str, Any]) -> None:
        held_digit = event["repeat"] and event["key"].isdigit()
        if self._is_new(event) and not (held_digit or event["ctrlKey"] or event["altKey"] or event["metaKey"]):
            self.press(event["key"])

    def _is_new(self, event: dict[str, Any]) -> bool:
        """Whether this key or turn of the wheel has not come before.

        ipyevents 2.0.4 may watch a page twice that was shown while it was being made, and then sends everything twice.
        """
        stamp = event["type"], event["timeStamp"]
        is_new, self._stamp = stamp != self._stamp, stamp
        return is_new

    def _on_wheel(self, event: dict[str, Any]) -> None:
        if not self._is_new(event):
            return
        turned = event["deltaY"] * (1 if event["deltaMode"] == 0 else _NOTCH / 3)
        if event["ctrlKey"]:
            self.zoom(1.25 ** (-turned / _NOTCH))
            return
        self._wheel += turned / _NOTCH
        whole = int(self._wheel)  # trackpads send many small turns
        self._wheel -= whole
        self.scroll(-whole)

    def _on_mouse(self, event: dict[str, Any]) -> None:
        size = tuple(min(round(event[name]), _LARGEST) for name in ("boundingRectWidth", "boundingRectHeight"))
        if min(size) > 100 and size != self.canvas:
            self.canvas = size
            self._draw()
        self._use()
        here = float(event["clientX"]), float(event["clientY"])
        if not event["buttons"]:
            self._drag = None
            return
        before, self._drag = self._drag or here, here
        right, down = here[0] - before[0], here[1] - before[1]
        if (right, down) == (0, 0):
            return
        if event["buttons"] == 1 and not event["shiftKey"]:
            self.change_window(width=2 ** (right / _DRAG), brightness=-down / _DRAG)
        else:
            scale = self._pixels_per_mm()
            x, y = self.look.centre
            self._show(replace(self.look, centre=(x - right / scale, y - down / scale)))

    def _pixels_per_mm(self) -> float:
        return self.look.zoom * self.canvas[1] / max(
            n * size for n, size in zip(self._volumes["left"].shape, self._voxel_size, strict=True)
        )  # fmt: skip

    def _give_at(self, side: Literal["left", "right"], score: int) -> None:
        self.session.go_to_side(side)
        self._give(score)

    def _give(self, score: int) -> None:
        self.session.give(score)
        self._moved()

    def _take_back(self) -> None:
        case = self.session.reading
        self.session.take_back()
        self._arrive(case)

    def _choose_side(self, side: Literal["left", "right"]) -> None:
        self.session.go_to_side(side)
        self._moved()

    def _go_to_parameter(self, number: int) -> None:
        self.session.go_to_parameter(number)
        self._moved()

    def _go_to_case(self, number: int) -> None:
        case = self.session.reading
        self.session.go_to_reading(number)
        self._arrive(case)

    def _go_on(self) -> None:
        """The next parameter, or the next case after a complete one."""
        given, wanted = self.session.progress(reading=self.session.place.reading)
        if given == wanted:
            self._go_to_case(self.session.place.reading + 1)
        else:
            self._go_to_parameter(self.session.place.parameter + 1)

    def _arrive(self, left_behind: Any) -> None:
        if self.session.reading is left_behind:
            self._moved()
        else:
            self._open_case()

    def _choose_plane(self, plane: str) -> None:
        self._show(replace(self.look, plane=plane, index=self._indices[plane], centre=(0.0, 0.0)))
        self._describe()

    def _reset(self) -> None:
        low, high = self._window
        self._show(replace(self.look, low=low, high=high, zoom=1.0, centre=(0.0, 0.0)))

    def _step_marks(self) -> None:
        """Marks off → on, at the first → at the next … → off."""
        circles = self._circles()
        self._marked = self._marked + 1 if self._marked + 1 < len(circles) else -1
        self._shown_marks = self.session.marks
        if self._marked >= 0:
            voxel = circles[self._marked].voxel
            self._indices = {plane: round(along(plane, voxel)) for plane in PLANES}
            centre = offset(voxel, self.look.plane, self._volumes["left"].shape, self._voxel_size)
            centre = centre if self.look.zoom > 1 else (0.0, 0.0)
            self.look = replace(self.look, index=self._indices[self.look.plane], centre=centre)
        self._draw()
        self._describe()

    def _circles(self) -> list[Circle]:
        inverse = np.linalg.inv(self._affine)
        circles = []
        for mark in self.session.marks:
            x, y, z = (float(place) for place in (inverse @ [*mark.position, 1])[:3])
            circles.append(Circle(mark.name, (z, y, x), mark.radius))
        return circles

    def _open_case(self) -> None:
        reading = self.session.reading
        try:
            opened = {side: open_image(self.session.folder, getattr(reading, side)) for side in SIDES}
        except ReadingError:
            self.session.place = self._shown  # what is scored is what is seen
            raise
        self._shown = self.session.place
        self._volumes = {side: volume for side, (volume, _) in opened.items()}
        self._affine = opened["left"][1]
        self._voxel_size = voxel_size_of(self._affine)
        top = float(np.mean([window(volume[::3, ::3, ::3]) for volume in self._volumes.values()]))
        self._window = 0.0, top
        self._indices = {plane: slice_count(self._volumes["left"], plane) // 2 for plane in PLANES}
        self._marked, self._shown_marks = -1, self.session.marks
        self.look = Look("axial", self._indices["axial"], *self._window)
        self._draw()
        self._describe()

    def _show(self, look: Look) -> None:
        if look != self.look:
            self.look = look
            self._draw()

    def _moved(self) -> None:
        """Bring the page up to date after the place may have changed; marks are those of one parameter."""
        if self._marked >= 0 and self.session.marks != self._shown_marks:
            self._marked = -1
            self._draw()
        self._describe()

    def _draw(self) -> None:
        circles = self._circles() if self._marked >= 0 else []
        for side in SIDES:
            self._images[side].value = draw_slice(
                self._volumes[side], self.look, voxel_size=self._voxel_size, canvas=self.canvas, circles=circles
            )

    def _describe(self) -> None:
        """Bring everything but the images up to date."""
        session, at = self.session, self.session.place
        self._told.value, self._notice.value = self._progress(), self._what_next()
        for plane, button in self._planes.items():
            button.button_style = "primary" if plane == self.look.plane else ""
        self._marks.button_style = "primary" if self._marked >= 0 else ""
        self._marks.disabled = not session.marks
        self._fill_parameters()
        self._criteria.value = criteria_table(session.parameter)
        for side in SIDES:
            score = session.score(side=side)
            told = "not scored yet" if score is None else f"score {score}"
            self._labels[side].value = f"<span class='title'>{side.capitalize()} image</span> · {told}"
            for grade, button in zip(SCORES, self._grades[side], strict=True):
                button.button_style = "primary" if grade == score else ""
            for box in (self._frames[side], self._sides[side]):
                (box.add_class if side == at.side else box.remove_class)("active")

    def _fill_parameters(self) -> None:
        titles = [self._state(number) + parameter.title for number, parameter in enumerate(self.session.parameters)]
        if len(self._parameters.children) != len(titles):
            self._parameters.children = [
                self._button("", self._go_to_parameter, number) for number in range(len(titles))
            ]
        for number, (button, title) in enumerate(zip(self._parameters.children, titles, strict=True)):
            button.description = title
            button.button_style = "primary" if number == self.session.place.parameter else ""

    def _state(self, parameter: int) -> str:
        given = sum(self.session.score(parameter=parameter, side=side) is not None for side in SIDES)
        return ("○ ", "◐ ", "● ")[given]

    def _progress(self) -> str:
        session, number = self.session, self.session.place.reading
        given, wanted = session.progress()
        here, of_case = session.progress(reading=number)
        told = f"{session.reader} · <b>case {number + 1} of {len(session.readings)}</b>"
        told += f" · {here} of {of_case} scores · {given} of {wanted} in all"
        return f"{told}<div class='meter'><div style='width: {100 * given / wanted:.1f}%'></div></div>"

    def _what_next(self) -> str:
        if self.session.log.elsewhere:
            return f"<span class='wrong'>{ELSEWHERE.format(reader=self.session.reader)}</span>"
        given, wanted = self.session.progress()
        here, of_case = self.session.progress(reading=self.session.place.reading)
        if given == wanted:
            return "All cases are read, every score is saved. Thank you."
        return "Case complete: Enter goes on to the next." if here == of_case else ""

    def _follow(self) -> "asyncio.Task[None] | None":
        """Look now and then whether another page of the same reader has scored; in a running event loop alone.

        A page that was made ready before it is opened comes up to date in this way; one that is in use takes no more.
        """
        try:
            return asyncio.get_running_loop().create_task(self._look_at_log())
        except RuntimeError:
            return None

    async def _look_at_log(self) -> None:
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
            self._attempt(self._catch_up)

    def _catch_up(self) -> None:
        if not self.session.log.refresh():
            return
        if self._used:
            self.session.log.elsewhere = True
            self._describe()
        else:
            self.session.place = self.session.first_open()
            self._open_case()
