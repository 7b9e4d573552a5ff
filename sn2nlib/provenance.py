"""Where a number came from: versions, commit, seed; and files that are whole or absent."""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sn2nlib.errors import StudyError

_FINISHED: ContextVar[list[Path] | None] = ContextVar("_FINISHED", default=None)
_RECORDED = ("sn2n", "numpy", "scipy", "torch", "nilearn", "antspyx", "scikit-image", "pandas")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the numbers."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """Commit of the checkout this package runs from, "unknown" outside git.

    "+dirty" if what makes the numbers was changed since; reports are results, which the study itself renews.
    """
    try:
        found = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)reports")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{found}+dirty" if changed else found


def _git(*arguments: str) -> str:
    here = str(Path(__file__).resolve().parent)
    found = subprocess.run(["git", "-C", here, *arguments], capture_output=True, text=True, timeout=10, check=True)
    return found.stdout.strip()


def provenance(**extra: Any) -> dict[str, Any]:
    """Provenance record for tables, figures and models: package versions, commit, and `extra`."""
    return {"versions": versions(), "commit": commit(), "threads": os.cpu_count(), **extra}


def disk_is_full(error: OSError) -> bool:
    """Whether an error says that there is no room for a file, on the disk or in the user's quota.

    HDF5 and NumPy tell so in their text alone.
    """
    told = re.search(r"No space left|quota exceeded|\d+ requested and \d+ written", str(error))
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or told is not None


def free_space(path: str | os.PathLike[str]) -> int:
    """Bytes that are free on the disk of a path, which need not exist yet."""
    path = Path(path).absolute()
    there = next((place for place in (path, *path.parents) if place.is_dir()), Path.cwd())
    return shutil.disk_usage(there).free


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` only when the block succeeds.

    Parameters
    ----------
    path
        The file to be written. Its folder is created.

    Raises
    ------
    OSError
        If the disk is full; nothing half-written stays behind.
    """
    path = Path(path)
    temporary = None
    try:
        with _telling_a_full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # the suffix is kept whole, since nibabel and others decide the format by it
            prefix, suffix = f".{path.name.split('.')[0]}-", "".join(path.suffixes)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=suffix)
            os.close(handle)
            temporary = Path(name)
            yield temporary
            os.chmod(temporary, 0o666 & ~_umask())
            try:
                os.replace(temporary, path)
            finally:  # Ctrl+C may come as soon as the file has its name
                if not temporary.exists():
                    _finished(path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; rename it onto `path` only when the block succeeds.

    Parameters
    ----------
    path
        The folder to be written. Its parent is created; a folder found there is replaced with all it holds.

    Raises
    ------
    OSError
        If the disk is full; nothing half-written stays behind, and a folder found at `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        with _telling_a_full_disk(path):
            new, old = temporary / "new", temporary / "old"
            new.mkdir()
            yield new
            try:
                if path.exists():
                    os.replace(path, old)
                os.replace(new, path)
            finally:  # whatever went wrong, Ctrl+C between the two among it
                if not new.exists():
                    _finished(path)
                elif old.exists():
                    os.replace(old, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def finished_outputs() -> Iterator[list[Path]]:
    """Yield a list that receives the path of every file and folder that is finished inside the block."""
    paths: list[Path] = []
    outer = _FINISHED.set(paths)
    try:
        yield paths
    finally:
        _FINISHED.reset(outer)


def _finished(path: Path) -> None:
    paths = _FINISHED.get()
    if paths is not None:
        paths.append(path)


@contextmanager
def _telling_a_full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if disk_is_full(error):
            message = f"The disk is full; {path} was not written. Free some space and run again"
            raise OSError(errno.ENOSPC, message) from error
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a JSON file holds; empty where there is no such file."""
    path = Path(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Sha256 of a file, as 64 hex digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def check_absent(path: Path, *, overwrite: bool) -> None:
    """Raise FileExistsError if there is such a file and it may not be overwritten."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name or allow overwriting (--overwrite)")


def stage_folder(path: str | os.PathLike[str], *, rooms: Sequence[str], **settings: Any) -> Path:
    """A folder whose files were all made by the present code and settings; others are removed first.

    A killed run finds its finished files again; a run after a change of `settings`, or of the sources of the `rooms`
    that made the files, does not mistake old files for its own. Files that were half-written when it was killed go.

    Parameters
    ----------
    path
        The folder. It is created.
    rooms
        Sub-packages of sn2nlib whose sources decide the files' content, or patterns of sources such as
        "evaluation/*.py", which leaves its sub-packages out; Fourier transform and sampling always do.
    settings
        JSON-serialisable; whatever else decides it.

    Raises
    ------
    StudyError
        If the folder holds files but was not made by a study; nothing is removed.
    """
    folder, here = Path(path), Path(__file__).resolve().parent
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    ground_floor = [here / "fourier.py", here / "sampling.py"]
    patterns = [room if room.endswith(".py") else f"{room}/**/*.py" for room in rooms]
    for source in [*ground_floor, *sorted(file for pattern in patterns for file in here.glob(pattern))]:
        digest.update(source.read_bytes())
    key, stamp = digest.hexdigest(), folder / ".stage"
    if folder.is_dir() and any(folder.iterdir()):
        if not stamp.is_file():
            raise StudyError(f"{folder} holds files that no study made; move them or choose another reports folder")
        if stamp.read_text(encoding="utf-8") != key:
            shutil.rmtree(folder)
    for leftover in folder.glob(".*-*"):  # temporary names of `atomic_write` and `atomic_folder`
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    if not stamp.is_file():
        with atomic_write(stamp) as temporary:
            temporary.write_text(key, encoding="utf-8")
    return folder
