"""Heaps of HDF5 files, where texts of variable length lie: damaged, they send HDF5 2.0 round in circles.

A heap is "GCOL", a version, and its size in bytes; then objects of 16 bytes and their content, one after the other. The
last one, of number 0, is the space that is left. Where its size is 0, HDF5 never gets beyond it.
Layout: HDF5 File Format Specification, Global Heap.
"""

from collections.abc import Iterable
from pathlib import Path

import h5py

from sn2nlib.errors import ScanError

_SIGNATURE = b"GCOL\x01\0\0\0"
_HEAD = 16  # bytes, of a heap and of each of its objects
_MOST = 2**24


def heaps_in(content: bytes) -> list[int]:
    """Where heaps begin in the first bytes of a file: at multiples of 8."""
    found, at = [], -1
    while (at := content.find(_SIGNATURE, at + 1)) >= 0:
        found += [at] if at % 8 == 0 else []
    return found


def heap_of(text: h5py.Dataset) -> list[int]:
    """Where the heap begins in which the first text of a dataset lies; nothing if its texts lie in no heap."""
    kind = text.id.get_type()
    if not (isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()) or text.file.userblock_size:
        return []
    place = text.id.get_offset()
    if place is None:
        return []
    with Path(text.file.filename).open("rb") as file:
        file.seek(place + 4)  # its length comes first
        return [int.from_bytes(file.read(8), "little")]


def check_heaps(path: Path, places: Iterable[int]) -> None:
    """Raise ScanError if HDF5 would not come to the end of one of these heaps."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        for place in places:
            file.seek(min(place, size))
            head = file.read(_HEAD)
            if head.startswith(_SIGNATURE):
                _check(file.read(max(0, min(int.from_bytes(head[8:], "little") - _HEAD, _MOST))))


def _check(objects: bytes) -> None:
    at = 0
    while at + _HEAD <= len(objects):
        number, size = (int.from_bytes(objects[at + part : at + end], "little") for part, end in ((0, 2), (8, 16)))
        if number == 0 and size == 0:
            raise ScanError("the HDF5 file is damaged or incomplete; copy it once more")
        at += size if number == 0 else _HEAD + -(-size // 8) * 8
