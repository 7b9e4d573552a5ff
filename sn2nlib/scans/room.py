"""Room on disk for large arrays: taken before they are written, so that a disk that fills up is told in time."""

import errno
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sn2nlib.provenance import disk_is_full


def reserve(path: Path) -> None:
    """Take the room that a work file, in a temporary folder, says it has: it is written by and by, or mapped.

    Other programs may want it too, and neither HDF5 nor a mapped file survives a disk that is full. Systems without
    posix_fallocate take it as it is written; where the file system lacks it, the C library writes the file once.

    Raises
    ------
    OSError
        If the disk is full.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if disk_is_full(error):
                folder = next(place for place in path.parents if not place.name.startswith("sn2n-"))
                told = f"{folder} has no room for {size / 2**20:.0f} MiB of intermediate results; free some"
                raise OSError(errno.ENOSPC, told) from error


def zeros(shape: tuple[int, ...], folder: Path | None = None) -> NDArray[np.complex64]:
    """Zeros, complex64: in memory, or as a new file in a folder that is mapped into it and may be larger.

    Raises
    ------
    OSError
        If the disk is full.
    """
    if folder is None:
        return np.zeros(shape, np.complex64)
    path = folder / f"array{len(list(folder.iterdir()))}"
    mapped: NDArray[np.complex64] = np.memmap(path, np.complex64, "w+", shape=shape)
    reserve(path)
    return mapped
