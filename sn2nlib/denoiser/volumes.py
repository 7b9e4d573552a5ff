"""Scan files → training volumes, in memory or, where they would not fit, as memory maps of files.

A prepared scan on disk is a folder of `.npy` files, float32, which appears whole or not at all under a name that
follows from the scan file and the options: a training that was killed finds it again.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sn2nlib.errors import ImageError, ScanError
from sn2nlib.provenance import atomic_folder
from sn2nlib.recon.any_size import fits_memory, largest_kspace
from sn2nlib.recon.out_of_core import ImagePair, image_pair
from sn2nlib.recon.pairs import Pair, make_pair
from sn2nlib.recon.workspace import default_limit
from sn2nlib.scans.raw import is_scan_file, read_raw
from sn2nlib.scans.scan import load_scan
from sn2nlib.scans.stream import ScanHeader, read_header

from .slices import TrainingVolume, training_volume

ARRAYS = ("original", "half_a", "half_b", "variance")


@dataclass(frozen=True)
class PreparedScan(TrainingVolume):
    """A training volume with the original, which the choice of α needs; `fit_alpha` takes it for a pair.

    Attributes
    ----------
    original
        (z, y, x) float32, magnitude in intensity scales.
    scale
        1: everything is in intensity scales already.
    pairing
        Of the pair: "kz" or "repetitions".
    """

    original: np.ndarray
    scale: float = 1.0
    pairing: str = "kz"


def prepare_scans(
    paths: Sequence[str | os.PathLike[str]],
    *,
    folder: str | os.PathLike[str],
    memory_limit: int | None = None,
    progress: bool = False,
    reading: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[PreparedScan]:
    """Pairs of scan files, ready for `train`.

    Parameters
    ----------
    paths
        Scan files, or other raw files, which must fit into memory.
    folder
        Receives the arrays where they do not all fit into half of the limit; see `remove_prepared`.
    memory_limit
        Bytes; None: half of the machine's memory. A scan that would take more to reconstruct at once is reconstructed
        out of core.
    progress
        Print a line every 20 seconds of a reconstruction out of core.
    reading
        Which contrast, repetition … of the scanner's files: options of `read_raw`.
    **options
        For `make_pair`.

    Raises
    ------
    ScanError, SamplingError, CalibrationError, OSError
        As `make_pair`.
    """
    limit = default_limit() if memory_limit is None else memory_limit
    reading = {name: value for name, value in dict(reading or {}).items() if value is not None}
    headers = [read_header(path) if is_scan_file(path) else None for path in paths]
    if reading and any(header is not None for header in headers):
        raise ScanError(f"{', '.join(reading)}: for the scanner's files; a scan file holds what was chosen before")
    sizes = [4 * len(ARRAYS) * int(np.prod(header.shape)) for header in headers if header is not None]
    # how large a file of the scanner's becomes is known when it is read
    small = all(header is not None and fits_memory(header, limit) for header in headers)
    if small and 2 * sum(sizes) <= limit:
        return [prepared(make_pair(load_scan(path), **options)) for path in paths]
    pairs = zip(paths, headers, strict=True)
    return [_stored(Path(path), header, Path(folder), limit, progress, reading, options) for path, header in pairs]


def prepared(pair: Pair | ImagePair) -> PreparedScan:
    """The arrays of one pair, in memory."""
    volume = training_volume(pair)
    original = (np.abs(pair.original) / np.float32(pair.scale)).astype(np.float32)
    return PreparedScan(volume.half_a, volume.half_b, volume.variance, original, pairing=pair.pairing)


def save_volume(scan: PreparedScan, folder: str | os.PathLike[str]) -> None:
    """Write the arrays as a folder of `.npy` files; it appears whole or not at all.

    Raises
    ------
    FileExistsError
        If the folder exists.
    OSError
        If the disk is full; the message names the folder.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another name")
    with atomic_folder(folder) as temporary:
        for name in ARRAYS:
            np.save(temporary / f"{name}.npy", getattr(scan, name))


def load_volume(folder: str | os.PathLike[str], *, pairing: str = "kz") -> PreparedScan:
    """The arrays of a folder that `save_volume` wrote, as memory maps.

    Parameters
    ----------
    pairing
        Of the pair that was saved.

    Raises
    ------
    ImageError
        If a file is missing or damaged.
    """
    try:
        arrays = {name: np.load(Path(folder) / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    except (OSError, ValueError) as error:
        raise ImageError(f"{folder} holds no whole training volume ({error}); remove it and begin again") from error
    return PreparedScan(**arrays, pairing=pairing)


def remove_prepared(folder: str | os.PathLike[str]) -> None:
    """Delete what `prepare_scans` stored in `folder`; the folder too if nothing else is in it."""
    folder = Path(folder)
    for entry in folder.glob("pair-*"):
        shutil.rmtree(entry)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _stored(
    path: Path, header: ScanHeader | None, folder: Path, limit: int, progress: bool, reading: dict[str, Any],
    options: dict[str, Any],
) -> PreparedScan:
    target = folder / f"pair-{_identity(path, reading | options)}"
    if not target.is_dir():
        pair: Pair | ImagePair
        if header is None or fits_memory(header, limit):
            pair = make_pair(read_raw(path, largest=largest_kspace(limit), **reading), **options)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            pair = image_pair(path, memory_limit=limit, scratch=folder, progress=progress, **options)
        save_volume(prepared(pair), target)
    return load_volume(target, pairing=options.get("pairing", "kz"))


def _identity(path: Path, options: dict[str, Any]) -> str:
    """Which scan file, as it was last changed, and which options; hashed, since its name may be a person's."""
    status = path.stat()
    told = json.dumps([str(path.resolve()), status.st_size, status.st_mtime_ns, options], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
