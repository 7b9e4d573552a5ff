"""Scans of any size: at once where they fit into memory, else out of core."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ScanError
from sn2nlib.recon.out_of_core import image_pair
from sn2nlib.recon.pairs import Pairing, make_pair, reconstruct
from sn2nlib.recon.workspace import default_limit
from sn2nlib.scans.scan import Scan, load_scan
from sn2nlib.scans.stream import ScanHeader, read_header

IN_MEMORY = 5  # times the k-space: what the chain of `pairs` takes

_Complex = NDArray[np.complex64]


def fits_memory(header: ScanHeader, memory_limit: int | None = None) -> bool:
    """Whether `reconstruct` and `make_pair` could work on the whole scan at once.

    Parameters
    ----------
    memory_limit
        Bytes; None: half of the machine's memory.
    """
    whole = header.nbytes * (2 if header.has_repeat else 1)
    return IN_MEMORY * header.nbytes + whole <= (default_limit() if memory_limit is None else memory_limit)


def largest_kspace(memory_limit: int | None = None) -> int:
    """Bytes of k-space that `reconstruct` and `make_pair` could work on at once, reading included."""
    return (default_limit() if memory_limit is None else memory_limit) // (IN_MEMORY + 1)


def scan_images(
    source: Scan | str | os.PathLike[str],
    *,
    halves: bool = False,
    memory_limit: int | None = None,
    pairing: Pairing = "kz",
    scratch: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **options: Any,
) -> tuple[list[_Complex], NDArray[np.float64]]:
    """Conventional image of a scan, and its halves if asked; of a scan file out of core if it is large.

    Parameters
    ----------
    source
        Scan, or path of a scan file.
    memory_limit, pairing, scratch, progress
        As for `image_pair`.
    **options
        For `reconstruct` or `make_pair`.

    Returns
    -------
    images : list of (z, y, x) complex64
        Original, or original, half A, half B.
    affine : (4, 4)
    """
    if pairing != "kz" and not halves:
        raise ScanError(f"pairing {pairing!r} says what the halves are; ask for the halves too")
    if not isinstance(source, Scan) and not fits_memory(header := read_header(source), memory_limit):
        pair = image_pair(
            source, halves=halves, noise_maps=False, memory_limit=memory_limit, pairing=pairing, scratch=scratch,
            progress=progress, **options,
        )
        return [image for image in (pair.original, pair.half_a, pair.half_b) if image is not None], header.affine
    scan = source if isinstance(source, Scan) else load_scan(source)
    if not halves:
        return [reconstruct(scan, **options)], scan.affine
    whole = make_pair(scan, pairing=pairing, **options)
    return [whole.original, whole.half_a, whole.half_b], scan.affine
