"""What the page of the reading room is built of: its words, its boxes, its style."""

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from sn2nlib.evaluation.readers.criteria import SCORES
from sn2nlib.evaluation.readers.session import ScoredParameter

STYLE = Path(__file__).with_name("reading_room.css")
ELSEWHERE = (
    "{reader} is being read on another page, so this one takes no more scores. To go on here instead, reload it by the "
    "browser's button."
)
KEYS = {
    "left": """<kbd>1</kbd>–<kbd>5</kbd> score, <kbd>⌫</kbd> take back<br><kbd>←</kbd> <kbd>→</kbd> image to score<br>
<kbd>N</kbd> <kbd>P</kbd> next, previous parameter<br><kbd>.</kbd> <kbd>,</kbd> next, previous case<br>
<kbd>Enter</kbd> go on<br><span class='waiting'>Keys work while the pointer is here.</span>""",
    "right": """<kbd>↑</kbd> <kbd>↓</kbd> wheel: slice<br><kbd>A</kbd> <kbd>C</kbd> <kbd>S</kbd> plane,
<kbd>M</kbd> marks<br><kbd>+</kbd> <kbd>−</kbd> Ctrl+wheel: zoom, <kbd>R</kbd> reset<br>
right drag: move, left drag: window<br><kbd>Q</kbd> <kbd>W</kbd> contrast, <kbd>D</kbd> <kbd>B</kbd> brightness<br>
R, the patient's right, is on the left:<br>radiological convention.""",
}


def make_box(kind: Callable[..., Any], children: Sequence[widgets.Widget], name: str) -> Any:
    """A box of a kind of ipywidgets, with a class of the style."""
    box = kind(children)
    box.add_class(name)
    return box


def make_html(name: str, content: str = "") -> widgets.HTML:
    """Text, with a class of the style."""
    made = widgets.HTML(content)
    made.add_class(name)
    return made


def criteria_table(parameter: ScoredParameter) -> str:
    """What is scored and what the scores mean, best first, as HTML."""
    rows = "".join(
        f"<tr><td>{score}</td><td>{html.escape(meaning)}</td></tr>"
        for score, meaning in reversed(list(zip(SCORES, parameter.scale, strict=True)))
    )
    look_for = f" – {html.escape(parameter.look_for)}" if parameter.look_for else ""
    return f"<b>{html.escape(parameter.title)}</b>{look_for}<table>{rows}</table>"
