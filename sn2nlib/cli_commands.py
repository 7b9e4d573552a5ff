"""How commands end: what they say when something is wrong, and when Ctrl+C stops them. One place for all of them."""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from sn2nlib.errors import Stopped

STOPPED = 130  # the exit code of what Ctrl+C ended, as shells have it
_TYPED = "sn2nlib.typed"


class Commands(TyperGroup):
    """The commands of `sn2n`; one that is stopped says in a sentence what was kept and how to go on."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of what was typed, which is kept for `invoke`."""
        ctx.meta[_TYPED] = tuple(args)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            print(f"sn2n: {_told(ctx.meta[_TYPED], stop)}", file=sys.stderr)
            raise typer.Exit(STOPPED) from stop


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


def _told(typed: Sequence[str], stop: KeyboardInterrupt) -> str:
    """What was stopped, what is left of it, and the command that goes on; outputs are written whole or not at all."""
    if not isinstance(stop, Stopped):
        return f"{typed[0]} was stopped and leaves nothing half-written; to run it again: {_line(typed)}"
    going_on = [word for word in typed if word != "--overwrite"]  # which would begin anew
    return f"{typed[0]} was stopped {stop}; to go on: {_line(going_on)}"


def _line(words: Sequence[str]) -> str:
    """A command as it is typed."""
    return subprocess.list2cmdline(["sn2n", *words]) if os.name == "nt" else shlex.join(["sn2n", *words])
