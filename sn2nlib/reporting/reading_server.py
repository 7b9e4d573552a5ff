"""The reading room as a web page of its own, through Voilà, on this machine alone."""

import asyncio
import logging
import os
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from ipykernel.kernelspec import write_kernel_spec
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from sn2nlib.errors import ReadingError
from sn2nlib.evaluation.readers.session import Session, hold_room
from sn2nlib.reporting.study import find_root

NOTEBOOK = "08a_reading_room.ipynb"
TEMPLATE = "reading"
TEMPLATES = Path(__file__).parent / "reading_template"  # a Jupyter data folder
# all that the page loads
EXTENSIONS = ("@voila-dashboards/widgets-manager8", "@jupyter-widgets/jupyterlab-manager", "ipyevents")
# what goes wrong in a cell is on the page; what a kernel says when it is stopped is for nobody
_KERNEL = (
    "import os; os.dup2(os.open(os.devnull, os.O_WRONLY), 2); "
    "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"
)
_FILLED = "is filled with"  # what Voilà logs when a kernel has been started ahead


def serve_room(
    room: str | os.PathLike[str],
    reader: str,
    *,
    port: int = 8866,
    browser: bool = False,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve a reader's room on localhost until it is interrupted.

    A kernel has run the notebook before a page is opened, and a new one does so after.

    Parameters
    ----------
    room, reader
        As for `sn2nlib.reporting.reading_room.ReadingRoom`.
    port
        Where; another one if it is not free, which the line then says.
    browser
        Open the page in the user's browser.
    announce
        Receives one line with the address, once the page is ready; printed by default.

    Raises
    ------
    ReadingError
        If there is no such room or reader, it is open already, or Voilà is not installed.
    StudyError
        If there is no checkout with the notebook.
    """
    Session(room, reader)  # what is wrong with the room is said here, not on the page
    application = _voila()
    with hold_room(room, reader), TemporaryDirectory(prefix="reading-room-") as folder:
        notebook = _write_notebook(Path(folder), Path(room).resolve(), reader)
        # the kernel of this Python, whatever the user has registered as python3
        own = {"argv": [sys.executable, "-c", _KERNEL, "-f", "{connection_file}"]}
        write_kernel_spec(Path(folder, "kernels", "python3"), overrides=own)
        os.environ["JUPYTER_PATH"] = os.pathsep.join(
            filter(None, [folder, str(TEMPLATES), os.environ.get("JUPYTER_PATH")])
        )
        application.initialize([str(notebook), *_options(port)])
        address = _Address(application, announce or _print, browser=browser)
        application.log.handlers = logging.getLogger("tornado").handlers = [address]
        application.log.setLevel(logging.INFO)
        application.start()


class _Address(logging.Handler):
    """Waits in Voilà's log for the first kernel, tells the address when it has drawn the page; passes errors on."""

    def __init__(self, application: Any, announce: Callable[[str], None], *, browser: bool) -> None:
        super().__init__()
        self.application, self.announce, self.browser = application, announce, browser
        self.port = application.port  # as asked for
        self.task: asyncio.Task[None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line of the log."""
        if record.levelno >= logging.ERROR:
            print(record.getMessage(), file=sys.stderr)
        if self.task is None and _FILLED in record.getMessage():
            self.task = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        # Voilà says nothing when the notebook has run
        for waiting in [kernel for pool in self.application.kernel_manager._pools.values() for kernel in pool]:
            await asyncio.shield((await asyncio.shield(waiting))["task"])
        token = self.application.identity_provider.token
        address = f"http://127.0.0.1:{self.application.port}/" + (f"?token={token}" if token else "")
        told = "" if self.application.port == self.port else f"  (port {self.port} is not free)"
        self.announce(f"Reading room: {address}{told}")
        if self.browser:
            webbrowser.open(address)


def _print(line: str) -> None:
    print(line, flush=True)


def _voila() -> Any:
    try:
        import ipyevents  # noqa: F401
        from voila.app import Voila
    except ImportError as error:
        raise ReadingError(f"{error.name} is not installed; pip install 'sn2n[reading]' brings it") from error
    return Voila()


def _options(port: int) -> list[str]:
    return [
        "--no-browser",
        "--token",
        f"--port={port}",
        f"--template={TEMPLATE}",
        "--preheat_kernel=True",
        "--pool_size=1",
        "--Voila.ip=127.0.0.1",
        "--KernelManager.transport_encryption=auto",
        "--VoilaConfiguration.allow_template_override=NO",
        *(f"--VoilaConfiguration.extension_allowlist={name}" for name in EXTENSIONS),
    ]


def _write_notebook(folder: Path, room: Path, reader: str) -> Path:
    """The notebook with the room and the reader as its parameters, in a folder that holds nothing else."""
    source = find_root() / "notebooks" / NOTEBOOK
    notebook = load_notebook_node(str(source))
    notebook = parameterize_notebook(notebook, {"room": str(room), "reader": reader, "demo": False})
    notebook.metadata["title"] = "Reading room"
    path = folder / "pages" / "reading_room.ipynb"
    path.parent.mkdir()
    nbformat.write(notebook, path)
    return path
