"""Scan files → training volumes, in memory or, where they would not fit, as memory maps of files.

A prepared scan on disk is a folder of `.npy` files, float32, which appears whole or not at all under a name that
follows from the scan file and the options: a training that was killed finds it again.
"""

import filecmp
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sn2nlib.errors import ImageError, ScanError, Stopped, naming
from sn2nlib.provenance import atomic_folder
from sn2nlib.recon.any_size import fits_memory, largest_kspace
from sn2nlib.recon.out_of_core import ImagePair, image_pair
from sn2nlib.recon.pairs import Pair, make_pair
from sn2nlib.recon.workspace import default_limit
from sn2nlib.scans.raw import is_scan_file, opened_raw, option_names
from sn2nlib.scans.scan import Scan, load_scan
from sn2nlib.scans.stream import ScanHeader, read_header

from .coarser import check_share, coarser_pair, coarser_shape
from .slices import TrainingVolume, check_partitions, training_volume

HALVES = ("half_a", "half_b", "variance")
ARRAYS = ("original", *HALVES)


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
    coarser
        The halves once more at coarser resolutions (`coarser_pair`), to be learnt from too.
    """

    original: np.ndarray
    scale: float = 1.0
    pairing: str = "kz"
    coarser: tuple[TrainingVolume, ...] = ()


def check_different(
    paths: Sequence[str | os.PathLike[str]], *, held_out: Sequence[str | os.PathLike[str]] = ()
) -> None:
    """Whether files are of different scans, as far as their bytes tell.

    Parameters
    ----------
    paths
        Of scans to learn from.
    held_out
        Of scans that are not learnt from.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ScanError
        If two files are the same, or copies, or one is a folder.
    """
    every = [Path(path) for path in (*paths, *held_out)]
    for path in every:
        if path.is_dir():
            raise ScanError(f"{path}: a folder; give the raw files in it, one by one")
        if not path.is_file():
            raise FileNotFoundError(f"there is no scan file {path}")
    for number, second in enumerate(every):
        first = next((other for other in every[:number] if filecmp.cmp(other, second, shallow=False)), None)
        if first is None:
            continue
        same = f"{first} is given twice" if first == second else f"{first} and {second} are the same scan"
        if number < len(paths):
            raise ScanError(f"{same}, which teaches nothing more; give every scan once")
        raise ScanError(f"{same}; validation and the choice of α need scans of their own, not learnt from")


def prepare_scans(
    paths: Sequence[str | os.PathLike[str]],
    *,
    folder: str | os.PathLike[str],
    held_out: Sequence[str | os.PathLike[str]] = (),
    coarser: Sequence[float] = (),
    memory_limit: int | None = None,
    progress: bool = False,
    reading: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[PreparedScan]:
    """Pairs of scan files, ready for `train`.

    Parameters
    ----------
    paths
        Scan files, or other raw files; one that is larger than memory becomes a scan file in `folder` for a while.
    folder
        Receives the arrays where they do not all fit into half of the limit; see `remove_prepared`.
    held_out
        Further files, of scans that are not learnt from; they come last in what is returned.
    coarser
        Shares of k-space, above 0 and at most 1, at which the scans of `paths` are to be learnt from too.
    memory_limit
        Bytes; None: half of the machine's memory. A scan that would take more to reconstruct at once is reconstructed
        out of core.
    progress
        Print a line every 20 seconds of a reconstruction out of core.
    reading
        Which contrast, repetition … of the scanner's files: options of `read_raw`.
    **options
        For `make_pair`.

    Returns
    -------
    One for each file; `with_coarser` lists what there is to learn from.

    Raises
    ------
    ScanError, SamplingError, CalibrationError, OSError
        As `make_pair`.
    ImageError
        If a share is out of range or too small for a scan, or a scan whose repetitions are to be the halves has one
        partition.
    Stopped
        At Ctrl+C; what was stored in `folder` is found again.
    """
    for share in coarser:
        check_share(share)
    shares = [tuple(coarser)] * len(paths) + [()] * len(held_out)
    paths = [*paths, *held_out]
    limit = default_limit() if memory_limit is None else memory_limit
    reading = {name: value for name, value in dict(reading or {}).items() if value is not None}
    headers = [read_header(path) if is_scan_file(path) else None for path in paths]
    if reading and any(header is not None for header in headers):
        raise ScanError(f"{option_names(reading)}: for the scanner's files; a scan file holds what was chosen before")
    for path, header, own in zip(paths, headers, shares, strict=True):
        if header is not None:
            with naming(path):
                _check_trainable(header, options, own)
    sizes = [_nbytes(header, own) for header, own in zip(headers, shares, strict=True) if header is not None]
    # how large a file of the scanner's becomes is known when it is read
    small = all(header is not None and fits_memory(header, limit) for header in headers)
    in_memory = small and 2 * sum(sizes) <= limit
    absent = [place for place in (Path(folder), Path(folder).parent) if not place.exists()]
    made: list[PreparedScan] = []
    try:
        for path, own in zip(paths, shares, strict=True):
            made.append(
                _at_once(Path(path), options, own) if in_memory
                else _stored(Path(path), Path(folder), limit, progress, reading, options, own)
            )
    except KeyboardInterrupt as stopped:
        kept = "nothing of it is kept" if in_memory or not made else f"{folder} keeps those before it"
        raise Stopped(f"while scan {len(made) + 1} of {len(paths)} was reconstructed, and {kept}") from stopped
    finally:
        for place in absent:
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
    return made


def with_coarser(scans: Sequence[PreparedScan]) -> list[TrainingVolume]:
    """What a training learns from: every scan, followed by its coarser copies."""
    return [volume for scan in scans for volume in (scan, *scan.coarser)]


def prepared(pair: Pair | ImagePair, *, coarser: Sequence[float] = ()) -> PreparedScan:
    """The arrays of one pair, in memory, and those of its coarser copies."""
    volume = training_volume(pair)
    original = (np.abs(pair.original) / np.float32(pair.scale)).astype(np.float32)
    copies = tuple(training_volume(coarser_pair(pair, share)) for share in coarser)
    return PreparedScan(volume.half_a, volume.half_b, volume.variance, original, pairing=pair.pairing, coarser=copies)


def save_volume(scan: PreparedScan, folder: str | os.PathLike[str]) -> None:
    """Write the arrays as a folder of `.npy` files, coarser copies in folders within; it appears whole or not at all.

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
        _save(scan, ARRAYS, temporary)
        for number, copy in enumerate(scan.coarser):
            _save(copy, HALVES, temporary / f"coarser{number:03d}")


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
        arrays = _load(Path(folder), ARRAYS)
        copies = [_load(entry, HALVES) for entry in sorted(Path(folder).glob("coarser*"))]
    except (OSError, ValueError) as error:
        raise ImageError(f"{folder} holds no whole training volume ({error}); remove it and begin again") from error
    return PreparedScan(**arrays, pairing=pairing, coarser=tuple(TrainingVolume(**copy) for copy in copies))


@contextmanager
def keeping_prepared(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Ctrl+C inside the block, where nobody says more of it, is told with the scans that are kept in `folder`.

    Raises
    ------
    Stopped
        At Ctrl+C, if `prepare_scans` stored scans in `folder`, which it finds again.
    """
    try:
        yield
    except KeyboardInterrupt as stopped:
        if isinstance(stopped, Stopped) or not any(Path(folder).glob("pair-*")):
            raise
        raise Stopped(f"after the scans were prepared, and {folder} keeps them") from stopped


def remove_prepared(folder: str | os.PathLike[str]) -> None:
    """Delete what `prepare_scans` stored in `folder`; the folder too if nothing else is in it."""
    folder = Path(folder)
    for entry in (*folder.glob("pair-*"), *folder.glob("sn2n-*")):  # the latter of work that was killed
        shutil.rmtree(entry)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _at_once(path: Path, options: dict[str, Any], coarser: tuple[float, ...]) -> PreparedScan:
    with naming(path):
        return prepared(make_pair(load_scan(path), **options), coarser=coarser)


def _stored(
    path: Path, folder: Path, limit: int, progress: bool, reading: dict[str, Any], options: dict[str, Any],
    coarser: tuple[float, ...],
) -> PreparedScan:  # fmt: skip
    told = reading | options | ({"coarser": coarser} if coarser else {})
    target = folder / f"pair-{_identity(path, told)}"
    if target.is_dir():
        return load_volume(target, pairing=options.get("pairing", "kz"))
    folder.mkdir(parents=True, exist_ok=True)
    with (
        opened_raw(path, largest=largest_kspace(limit), scratch=folder, progress=progress, **reading) as source,
        naming(path),
    ):
        _check_trainable(source if isinstance(source, Scan) else read_header(source), options, coarser)
        pair = _pair(source, folder, limit, progress, options)
        del source  # frees the memory that the arrays of the volume take
        volume = prepared(pair, coarser=coarser)
    save_volume(volume, target)
    return load_volume(target, pairing=options.get("pairing", "kz"))


def _pair(source: Scan | Path, folder: Path, limit: int, progress: bool, options: dict[str, Any]) -> Pair | ImagePair:
    if isinstance(source, Scan):
        return make_pair(source, **options)
    if fits_memory(read_header(source), limit):
        return make_pair(load_scan(source), **options)
    return image_pair(source, memory_limit=limit, scratch=folder, progress=progress, **options)


def _check_trainable(scan: Scan | ScanHeader, options: Mapping[str, Any], coarser: Sequence[float]) -> None:
    """Refuse before it is reconstructed what teaches nothing: two repetitions of one partition, copies too coarse."""
    if options.get("pairing") == "repetitions":
        check_partitions(scan.shape[0])
    for share in coarser:
        coarser_shape(scan.shape, share)


def _nbytes(header: ScanHeader, coarser: Sequence[float]) -> int:
    """Of the prepared arrays of a scan, in memory."""
    copies = len(HALVES) * sum(share**3 for share in coarser)
    return int(4 * (len(ARRAYS) + copies) * np.prod(header.shape))


def _save(volume: TrainingVolume, names: Sequence[str], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        np.save(folder / f"{name}.npy", getattr(volume, name))


def _load(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}


def _identity(path: Path, options: dict[str, Any]) -> str:
    """Which scan file, as it was last changed, and which options; hashed, since its name may be a person's."""
    status = path.stat()
    told = json.dumps([str(path.resolve()), status.st_size, status.st_mtime_ns, options], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
