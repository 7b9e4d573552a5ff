"""What all commands have in common: how they say that something is wrong, and that Ctrl+C stopped them."""

import io
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from sn2nlib.errors import Stopped
from sn2nlib.provenance import finished_outputs

STOPPED, TERMINATED = 130, 143  # the exit codes of what Ctrl+C or SIGTERM ended, as shells have it
_TYPED, _REFUSED = "sn2nlib.typed", "sn2nlib.refused"
_NAMED = 3  # of the outputs that a stopped command has finished


class Commands(TyperGroup):
    """The commands of `sn2n`; one that is stopped says in a sentence what was kept and how to go on."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of what was typed, which is kept for `invoke`; its options of several numbers have them."""
        ctx.meta[_TYPED] = tuple(args)
        name, command, left = super().resolve_command(ctx, args)
        for option in command.params if command else ():
            _check_numbers(option, left)
        return name, command, left

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was typed."""
        with finished_outputs() as finished, cleaned_up():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt as stop:
                there = [path for path in dict.fromkeys(finished) if path.exists()]
                told = _told(ctx.meta[_TYPED], stop, there, refused=_REFUSED in ctx.meta)
                print(f"sn2n: {told}", file=sys.stderr)
                raise typer.Exit(STOPPED) from stop


@contextmanager
def cleaned_up() -> Iterator[None]:
    """A command that is told to end, as schedulers do (SIGTERM), removes its work files first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(*_: object) -> None:
    raise SystemExit(TERMINATED)


def note_overwrite(context: typer.Context, value: bool) -> bool:
    """The callback of `--overwrite` where, without it, outputs that exist are refused."""
    if not value:
        context.meta[_REFUSED] = True
    return value


def _check_numbers(option: Any, typed: Sequence[str]) -> None:
    """Raise unless an option is followed by as many numbers as it takes: it would take the next option for one."""
    for place, word in enumerate(typed):
        name, equals, first = word.partition("=")
        if option.nargs < 2 or name not in option.opts:
            continue
        given = [*([first] if equals else []), *typed[place + 1 :]][: option.nargs]
        if sum(map(_is_number, given)) < option.nargs:
            example = f", such as {name} {' '.join(map(str, option.default))}" if option.default else ""
            needed = f"needs {option.nargs} numbers with spaces between them, {option.metavar}"
            raise typer.BadParameter(needed + example, param=option)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def allow_any_letter() -> None:
    """Print ? for what the output has no letter for: files and pipes of some systems have no α or →."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def sentence(error: BaseException) -> str:
    """What is wrong, without the class of the error."""
    if isinstance(error, FileNotFoundError) and error.strerror and error.filename:
        return f"there is no file {error.filename}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as one line, for `warnings.showwarning`."""
    print(f"sn2n: warning: {message}", file=sys.stderr)


def _told(typed: Sequence[str], stop: KeyboardInterrupt, finished: Sequence[Path], *, refused: bool) -> str:
    """What was stopped, what is left of it, and the command that goes on; each output is whole or absent.

    Parameters
    ----------
    typed
    stop
    finished
        Outputs that were written, which need not be all of them.
    refused
        Whether the command as it was typed refuses outputs that exist.
    """
    if isinstance(stop, Stopped):
        going_on = [word for word in typed if word != "--overwrite" or not stop.replaced]
        return f"{typed[0]} was stopped {stop}; to go on: {_line(going_on)}"
    if not finished:
        return f"{typed[0]} was stopped and leaves nothing half-written; to run it again: {_line(typed)}"
    more = f" and {len(finished) - _NAMED} more" if len(finished) > _NAMED else ""
    written = f"{typed[0]} was stopped after writing {', '.join(map(str, finished[:_NAMED]))}{more}"
    if not refused:
        return f"{written}; to run it again: {_line(typed)}"
    end = typed.index("--") if "--" in typed else len(typed)
    replacing = [*typed[:end], "--overwrite", *typed[end:]]
    return f"{written}; to run it again and replace what is there: {_line(replacing)}"


def _line(words: Sequence[str]) -> str:
    """A command as it is typed."""
    return subprocess.list2cmdline(["sn2n", *words]) if os.name == "nt" else shlex.join(["sn2n", *words])
