"""What the tests share: where the real measurements are, and what may be missing on a machine.

A test that needs something a newcomer's machine may lack asks `require` for it and is skipped without it.
Where `SN2N_REQUIRE` names the kind (a comma-separated list of data, bart, chromium, dciodvfy, dcm2niix), the same
absence is a failure, so that a check cannot vanish unnoticed from a machine that is meant to run it.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_PROGRAMS = {
    "bart": ("bart",), "dciodvfy": ("dciodvfy",), "dcm2niix": ("dcm2niix",),
    "chromium": ("chromium", "chromium-browser", "google-chrome"), "make": ("make", "gmake"), "bash": ("bash",),
}


def data_folders() -> list[Path]:
    """Folders that may hold the real measurements: those of `SN2N_DATA`, then `../shared/data`."""
    listed = [Path(part) for part in os.environ.get("SN2N_DATA", "").split(os.pathsep) if part]
    folders = [*listed, ROOT.parent / "shared" / "data"]
    return [folder for folder in folders if folder.is_dir()]


def require(kind: str, what: str | os.PathLike[str] = "") -> Path:
    """Path of something that may be missing here: `require("data", "noise34ch.npy")`, `require("bart")`.

    Parameters
    ----------
    kind
        data, or a program: bart, chromium, dciodvfy, dcm2niix, make, bash.
    what
        For data: the file's name in one of `data_folders`, or a whole path. Unused otherwise.

    Returns
    -------
    Path
        The file or the program. Where there is none, the test is skipped; it fails if `SN2N_REQUIRE` lists
        `kind`.
    """
    if kind == "data":
        candidates = [folder / what for folder in data_folders()] or [Path(what)]
        found = next((path for path in candidates if path.is_file()), None)
        missing = f"no file {what} in SN2N_DATA or ../shared/data"
    elif kind in _PROGRAMS:
        program = next(filter(None, map(shutil.which, _PROGRAMS[kind])), None)
        found = Path(program) if program else None
        missing = f"the program {kind} is not installed"
    else:
        raise ValueError(f"require: unknown kind {kind!r}; known: data, {', '.join(_PROGRAMS)}")
    if found is not None:
        return found
    if kind in os.environ.get("SN2N_REQUIRE", "").replace(" ", "").split(","):
        pytest.fail(f"{missing}, but SN2N_REQUIRE asks for it")
    pytest.skip(missing)


@pytest.fixture(name="require")
def _require_fixture() -> Callable[..., Path]:
    """`require` as a fixture, for tests that do not import it."""
    return require
