"""Raw files of any size: at once where they fit into memory, else by way of a scan file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sn2nlib.errors import LargeScanError
from sn2nlib.scans.raw.read import convert_raw, open_raw
from sn2nlib.scans.scan import Scan


@contextmanager
def opened_raw(
    path: str | os.PathLike[str], *, largest: int, scratch: str | os.PathLike[str] | None = None,
    progress: bool = False, **options: Any,
) -> Iterator[Scan | Path]:  # fmt: skip
    """`open_raw`, but a file with more k-space than `largest` becomes a scan file, which is removed after the block.

    Parameters
    ----------
    path, largest, **options
        As for `read_raw`.
    scratch
        Folder for the scan file; None: the system's folder for temporary files.
    progress
        Whether to print that it is made.

    Yields
    ------
    Scan or Path

    Raises
    ------
    FileNotFoundError, ScanError, ImageError, OSError
        As `read_raw` and `convert_raw`.
    """
    found: list[Scan | Path] = []
    with suppress(LargeScanError):
        found.append(open_raw(path, largest=largest, **options))
    if found:
        yield found.pop()  # and not kept here, so that who takes it can free it
        return
    with tempfile.TemporaryDirectory(prefix="sn2n-", dir=scratch) as folder:
        if progress:
            print(f"{Path(path)} does not fit into the memory: a scan file is made of it first", flush=True)
        made = Path(folder) / "scan.h5"
        convert_raw(path, made, largest=largest, **options)
        yield made
