"""Large arrays of a reconstruction that is to stay within a memory limit: in memory while they fit, else on disk.

Beside them what else the machine gives: its memory, and how its threads share the cores.
"""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from threadpoolctl import threadpool_limits

from sn2nlib.parallel import usable_memory
from sn2nlib.scans.room import reserve

_EVERY = 20.0  # seconds between two lines of progress


def default_limit() -> int:
    """Half of the memory that this process may use, in bytes."""
    return usable_memory() // 2


def one_blas_thread() -> Any:
    """A context in which matrix products use one thread each, for where there is a thread for every core already.

    With as many of them in each of our threads they would wait for one another; on a machine with other work, where
    they wait for cores too, they take several times as long.
    """
    return threadpool_limits(limits=1, user_api="blas")


class Workspace:
    """Gives complex64 arrays, and takes them back at the end of the `with` block; what is on disk is deleted then.

    Parameters
    ----------
    limit
        Bytes that the arrays may take in memory.
    scratch
        Folder for those beyond it; None: the system's folder for temporary files.
    """

    def __init__(self, limit: int, scratch: str | os.PathLike[str] | None = None) -> None:
        self.left, self.scratch = limit, scratch
        self._stack = ExitStack()
        self._file: h5py.File | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def array(self, name: str, shape: tuple[int, ...], chunk: tuple[int, ...]) -> Any:
        """A new array, or a dataset on disk in chunks of this shape: both are read and written by slices.

        Raises
        ------
        OSError
            If neither memory nor disk suffices.
        """
        size = 8 * int(np.prod(shape))
        if size <= self.left:
            self.left -= size
            return np.empty(shape, np.complex64)
        if self._file is None:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="sn2n-", dir=self.scratch))
            self._folder = Path(folder)
            self._file = self._stack.enter_context(h5py.File(self._folder / "work.h5", "w"))
        if size + 2**20 > shutil.disk_usage(self._folder).free:
            raise self._too_small(size)
        early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        dataset = self._file.create_dataset(name, shape, np.complex64, chunks=chunk, dcpl=early)
        self._file.flush()
        try:
            reserve(self._folder / "work.h5")
        except OSError as error:
            raise self._too_small(size) from error
        return dataset

    def _too_small(self, size: int) -> OSError:
        free = shutil.disk_usage(self._folder).free
        return OSError(
            errno.ENOSPC,
            f"{self._folder.parent} has {free / 2**30:.1f} GiB left, and {size / 2**30:.1f} GiB are needed for "
            "intermediate results; free some space, name another scratch folder, or allow more memory",
        )


def reported(items: Iterable[Any], what: str, total: int, *, enabled: bool) -> Iterator[Any]:
    """The items, with a line of progress every 20 seconds."""
    begun = printed = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if enabled and number and now - printed > _EVERY:
            left = (now - begun) / number * (total - number)
            print(f"{what}: {number} of {total}, {left / 60:.1f} min left", flush=True)
            printed = now
        yield item
