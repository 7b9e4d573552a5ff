"""Run one notebook of the study, strictly: unknown parameters are refused and a failure names its cell."""

import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from traitlets import default

from sn2nlib.errors import StudyError
from sn2nlib.provenance import disk_is_full

KERNEL = "python3"


def run_notebook(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    parameters: Mapping[str, Any],
    *,
    cwd: str | os.PathLike[str],
    show_output: bool = False,
    seconds_between_lines: float = 20.0,
) -> None:
    """Execute a notebook with `parameters`; the executed copy appears only when every cell has run.

    Parameters
    ----------
    source
        The stripped notebook, with one cell tagged `parameters`.
    output
        Where the executed copy goes. While it runs it stands beside it as `<name>.running.ipynb`, which Ctrl+C
        removes; after a failure it stays there as `<name>.failed.ipynb`, executed up to the error, unless it could not
        be written.
    parameters
        Values for names that the parameters cell assigns.
    cwd
        Working directory of the notebook.
    show_output
        Pass on everything the notebook prints, instead of its last line now and then.
    seconds_between_lines
        Time between two progress lines.

    Raises
    ------
    StudyError
        If a parameter is unknown, a cell fails, the kernel dies, or the executed copy cannot be written.
    """
    source, output = Path(source).resolve(), Path(output).resolve()
    check_parameters(source, parameters)
    running, failed = (output.with_name(f"{output.stem}.{state}.ipynb") for state in ("running", "failed"))
    progress = _Progress(source.stem, show_output=show_output, every=seconds_between_lines)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with progress:
            papermill.execute_notebook(
                source,
                running,
                dict(parameters),
                kernel_name=KERNEL,
                cwd=cwd,
                progress_bar=False,
                stdout_file=progress,
                stderr_file=progress,
                on_notebook_start=progress.notebook_starts,
                on_cell_start=progress.cell_starts,
                kernel_manager_class=_OwnPython,
                extra_arguments=["--log-level=CRITICAL"],  # what a kernel says when Ctrl+C stops it is for nobody
            )
    except KeyboardInterrupt:
        running.unlink(missing_ok=True)
        raise
    except PapermillExecutionError as error:
        os.replace(running, failed)
        raise StudyError(_failure(source, progress, f"{error.ename}: {error.evalue}", failed)) from error
    except RuntimeError as error:  # nbclient: the kernel died, or never answered
        os.replace(running, failed)
        reason = f"its Python stopped unexpectedly, perhaps for lack of memory ({error})"
        raise StudyError(_failure(source, progress, reason, failed)) from error
    except OSError as error:  # papermill writes the copy after every cell
        running.unlink(missing_ok=True)
        raise StudyError(_unwritten(source, progress, error, output)) from error
    os.replace(running, output)
    failed.unlink(missing_ok=True)
    progress.line("done")


def check_parameters(source: str | os.PathLike[str], parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that the notebook's parameters cell does not assign (papermill itself only warns).

    Raises
    ------
    StudyError
        Naming the notebook, the unknown parameters and the known ones.
    """
    source = Path(source)
    if not source.is_file():
        raise StudyError(f"there is no notebook {source}")
    known = papermill.inspect_notebook(source)
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise StudyError(
            f"notebook {source.name}: unknown parameter {', '.join(unknown)}; "
            f"it has {', '.join(known) or 'none, for lack of a cell tagged parameters'}"
        )


class _OwnPython(AsyncKernelManager):
    """The kernel of the Python that runs the study, whatever kernels the user has registered as python3."""

    @default("kernel_spec_manager")
    def _only_the_native_kernel(self) -> KernelSpecManager:
        return KernelSpecManager(parent=self, kernel_dirs=[])

    # a trait of jupyter_client 8.10, whose kernels warn at every start without it
    @default("transport_encryption")
    def _encrypt_where_possible(self) -> str:
        return "auto"


class _Progress:
    """Where a notebook is, as a line for the terminal every `every` seconds while the context is open.

    It takes what the cells print like a text file: the line tells the last of it, or the first line of the
    cell that runs; with `show_output` everything passes through as well.
    """

    def __init__(self, name: str, *, show_output: bool, every: float) -> None:
        self.name, self.show_output, self.every = name, show_output, every
        self.cell, self.n_cells, self.first_line, self.latest = 0, 0, "", ""
        self.terminal = sys.stdout
        self.started = time.monotonic()
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> None:
        self.line("starts")
        self._clock.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._clock.join()

    def _tick(self) -> None:
        while not self._over.wait(self.every):
            self.line(self.latest)

    def line(self, text: str) -> None:
        """Show where the notebook is."""
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        place = f"cell {self.cell}/{self.n_cells}  " if self.n_cells else ""
        print(f"{self.name}  {minutes}:{seconds:02d}  {place}{text[:100]}", file=self.terminal, flush=True)

    def notebook_starts(self, notebook: NotebookNode) -> None:
        """Hook of nbclient: count the code cells as the author of the notebook would."""
        self.n_cells = sum(cell.cell_type == "code" and not _injected(cell) for cell in notebook.cells)

    def cell_starts(self, cell: NotebookNode, cell_index: int) -> None:
        """Hook of nbclient: remember the cell, for the progress line and for the message of a failure."""
        if cell.cell_type == "code" and not _injected(cell):
            lines = [line.strip() for line in cell.source.splitlines()]
            self.first_line = next((line for line in lines if line and not line.startswith(("#", "%"))), "")
            self.latest = self.first_line
            self.cell += 1

    def write(self, text: str) -> None:
        """Take what a cell printed."""
        if self.show_output:
            self.terminal.write(text)
        if lines := text.strip().splitlines():
            self.latest = lines[-1].strip()

    def flush(self) -> None:
        """Pass on to the terminal."""
        self.terminal.flush()


def _injected(cell: NotebookNode) -> bool:
    return "injected-parameters" in cell.metadata.get("tags", [])


def _failure(source: Path, progress: _Progress, reason: str, failed: Path) -> str:
    return f"{_place(source, progress)}: {reason}. Its partly executed copy is {failed}"


def _unwritten(source: Path, progress: _Progress, error: OSError, output: Path) -> str:
    if disk_is_full(error):
        return (
            f"the disk is full; {_place(source, progress)}, and {output} was not written. "
            "Free some space and run again: what is finished stays"
        )
    return f"{_place(source, progress)}, and {output} was not written: {error}"


def _place(source: Path, progress: _Progress) -> str:
    if not progress.cell:
        return f"notebook {source.name} failed at its start"
    return f"notebook {source.name} failed in code cell {progress.cell} of {progress.n_cells} ({progress.first_line!r})"
