"""Acquisition headers of an ISMRMRD file without the samples.

A row of the table of acquisitions holds a header and references to trajectory and samples, which lie elsewhere in the
file. HDF5 follows the references of all rows even where the headers alone are asked for, and so reads the whole file.
Here the rows are read as they are stored; where filters or the like are between, HDF5 reads them after all.
"""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ScanError


def read_heads(data: h5py.Dataset) -> np.ndarray:
    """Headers (line,) of the acquisitions.

    Parameters
    ----------
    data : (line,)
        The dataset, whose compound type has a member ``head``.

    Raises
    ------
    ScanError
        If rows are missing from the file.
    """
    kind, stored = data.id.get_type(), data.dtype["head"]
    member = kind.get_member_index(b"head")
    start, size = kind.get_member_offset(member), kind.get_member_type(member).get_size()
    places = _places(data)
    if places is None or stored.hasobject or stored.itemsize != size:
        heads: np.ndarray = data.fields("head")[()]
        return heads
    rows = _rows(Path(data.file.filename), places, data.shape[0], kind.get_size())
    return np.ascontiguousarray(rows[:, start : start + size]).view(stored)[:, 0]


def _places(data: h5py.Dataset) -> list[tuple[int, int, int]] | None:
    """(first row, rows, first byte in the file) of every piece of the table; None: not stored as it is."""
    properties, n = data.id.get_create_plist(), data.shape[0]
    if data.file.userblock_size or properties.get_nfilters() or properties.get_external_count():
        return None
    if properties.get_layout() == h5py.h5d.CONTIGUOUS:
        offset = data.id.get_offset()
        return [] if offset is None else [(0, n, offset)]
    if properties.get_layout() != h5py.h5d.CHUNKED:
        return None
    chunks: list[tuple[int, int]] = []
    data.id.chunk_iter(lambda chunk: chunks.append((int(chunk.chunk_offset[0]), int(chunk.byte_offset))))
    return [(first, min(data.chunks[0], n - first), at) for first, at in chunks if first < n]


def _rows(path: Path, places: list[tuple[int, int, int]], n: int, size: int) -> NDArray[np.uint8]:
    """Rows (row, byte), every one of which must be there."""
    rows, found = np.zeros((n, size), np.uint8), np.zeros(n, bool)
    with path.open("rb", buffering=0) as file:
        for first, count, at in places:
            file.seek(at)
            content = file.read(count * size)
            if len(content) < count * size:
                raise ScanError(f"acquisition {first} lies beyond the end of the file: truncated or damaged file")
            rows[first : first + count] = np.frombuffer(content, np.uint8).reshape(count, size)
            found[first : first + count] = True
    if not found.all():
        absent = np.count_nonzero(~found)
        raise ScanError(f"of {n} acquisitions {absent} are not in the file: truncated or damaged file")
    return rows
