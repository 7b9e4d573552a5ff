"""`sn2n reading`: a reader study, from images of two arms to the table of its scores."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from sn2nlib import cli_options as option
from sn2nlib import cli_outputs as outputs
from sn2nlib import evaluation, reporting
from sn2nlib.errors import ReadingError

app = typer.Typer(help="Have readers score images without knowing which is which.", no_args_is_help=True)

RoomFolder = Annotated[Path, typer.Argument(metavar="ROOM", help="Reading room made by `sn2n reading prepare`.")]
KeyFile = Annotated[Path, typer.Option(metavar="KEY.json", help="Tells which image is which; outside ROOM.")]


@app.command()
def prepare(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder with study.yaml and its images.")],
    room: Annotated[Path, typer.Argument(metavar="ROOM", help="New folder, for the readers.")],
    key: KeyFile,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of names, sides and order; kept in the key.", show_default="a random one")
    ] = None,
) -> None:
    """Make a blinded reading room: neutral names, sides and order drawn for every reader, some cases twice."""
    chosen = secrets.randbits(32) if seed is None else seed
    plan = evaluation.readers.prepare_room(study, room, key=key, seed=chosen)
    print(f"Room: {room}")
    for reader, readings in plan.readings.items():
        print(f"  {reader}: {_counted(len(readings), 'reading')} of {_counted(len(plan.cases), 'case')}")
    print(f"Key: {key}  (not for readers)")


@app.command(name="open")
def open_room(
    room: RoomFolder,
    reader: Annotated[str, typer.Option(metavar="NAME", help="One of the study's readers.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Another one if it is taken.")] = 8866,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Read: serve the room as a page on this machine until Ctrl+C; it goes on where the reader stopped."""
    reporting.reading_server.serve_room(room, reader, port=port, browser=browser)


@app.command(name="key")
def open_key(
    room: RoomFolder,
    key: KeyFile,
    out: Annotated[Path, typer.Option(metavar="SCORES.csv", help="Receives one row per score.")],
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Scores may be missing: ends the blinding.")] = False,
    overwrite: option.Overwrite = False,
) -> None:
    """Open the key when all is read: the scores of all readers with case and arm."""
    outputs.check_new(out, outputs.TABLE, overwrite=overwrite)
    table, missing = evaluation.readers.unblind(room, key)
    left = ", ".join(f"{reader} {_counted(number, 'score')}" for reader, number in missing.items() if number)
    if left and not unfinished:
        raise ReadingError(
            f"still missing: {left}. Whoever opens the key now knows the arms of images that are yet to be read; let "
            "the readers finish, or add --unfinished"
        )
    evaluation.readers.write_scores(table, out)
    if left:
        print(f"Missing: {left}")
    print(f"Scores: {out}")


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
