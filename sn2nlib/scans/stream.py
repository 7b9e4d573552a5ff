"""Scan files larger than memory: the header without the samples, and the samples partition by partition."""

import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from sn2nlib.errors import ScanError
from sn2nlib.provenance import atomic_write
from sn2nlib.sampling import readout_share
from sn2nlib.scans.info import check_info
from sn2nlib.scans.scan import (
    FORMAT,
    OPTIONAL,
    Scan,
    check_acquired,
    check_noise,
    check_space,
    checked_attributes,
    format_version,
    opened_scan,
    telling_damage,
)

_AHEAD = 4  # partitions that the system is asked to read in advance


@dataclass(frozen=True)
class ScanHeader:
    """All that a scan file tells besides its k-space; the attributes are those of `Scan`.

    Attributes
    ----------
    path
    version : int
        Of the file's format.
    n_coils
    shape : (kz, ky, kx)
    mask : (kz, ky) bool
    acceleration, caipi_shift, voxel_size, affine, info, not_for_training, kx_acquired
    noise : (coil, n) complex64 or None
    acs_shape : (kz, ky, kx) or None
        Of the separate calibration scan.
    has_repeat
    doubts
        Contradictions in the file, and what was assumed, a sentence each.
    """

    path: Path
    version: int
    n_coils: int
    shape: tuple[int, int, int]
    mask: np.ndarray
    acceleration: tuple[int, int]
    caipi_shift: int
    voxel_size: tuple[float, float, float]
    affine: np.ndarray
    info: Mapping[str, Any]
    not_for_training: str | None
    noise: np.ndarray | None
    acs_shape: tuple[int, int, int] | None
    has_repeat: bool
    doubts: tuple[str, ...] = ()
    kx_acquired: tuple[float, float] | None = None

    @property
    def nbytes(self) -> int:
        """Size of the k-space."""
        return int(8 * self.n_coils * np.prod(self.shape))

    @property
    def kx_share(self) -> float:
        """Share of kx that was acquired."""
        return readout_share(self.kx_acquired, self.shape[2])


def read_header(path: str | os.PathLike[str]) -> ScanHeader:
    """Header of a scan file, checked like a scan.

    Raises
    ------
    FileNotFoundError
    ScanError
        If the file is not a scan, or its parts do not fit each other; the message names the file.
    """
    with opened_scan(path) as file:
        kspace, mask = file["kspace"], file["mask"][()].astype(bool)
        noise = file["noise"][()] if "noise" in file else None
        attributes, doubts = checked_attributes(file, mask, noise)
        check_noise(noise)
        return ScanHeader(
            path=Path(path),
            version=int(file.attrs["version"]),
            n_coils=int(kspace.shape[0]),
            shape=tuple(int(n) for n in kspace.shape[1:]),  # type: ignore[arg-type]
            mask=mask,
            noise=noise,
            acs_shape=tuple(int(n) for n in file["acs"].shape[1:]) if "acs" in file else None,  # type: ignore[arg-type]
            has_repeat="repeat" in file,
            doubts=doubts,
            **attributes,
        )


def read_box(header: ScanHeader, name: str, box: tuple[slice, slice]) -> np.ndarray:
    """Part (coil, kz, ky, kx) of an array of the file: `box` = (slice along kz, slice along ky)."""
    with opened_scan(header.path) as file:
        return _finite(file[name][(slice(None), *box)], name)


def held(scan: Scan | ScanHeader) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a scan besides the mask, in memory or in its file: kspace, and noise, acs, repeat."""
    if isinstance(scan, Scan):
        arrays = {name: getattr(scan, name) for name in ("kspace", *OPTIONAL)}
        return {name: array.shape for name, array in arrays.items() if array is not None}
    shapes: dict[str, tuple[int, ...]] = {"kspace": (scan.n_coils, *scan.shape)}
    if scan.noise is not None:
        shapes["noise"] = scan.noise.shape
    if scan.acs_shape is not None:
        shapes["acs"] = (scan.n_coils, *scan.acs_shape)
    return shapes | ({"repeat": shapes["kspace"]} if scan.has_repeat else {})


def one_partition(scan: Scan | ScanHeader, name: str, kz: int) -> np.ndarray:
    """Partition (coil, ky, kx) of kspace, acs or repeat, in memory or from the file."""
    if isinstance(scan, Scan):
        partition: np.ndarray = getattr(scan, name)[:, kz]
        return partition
    return read_box(scan, name, (slice(kz, kz + 1), slice(None)))[:, 0]


def coil_by_coil(scan: Scan | ScanHeader, name: str) -> Iterator[np.ndarray]:
    """One coil (kz, ky, kx) of kspace, acs or repeat after the other, in memory or from the file."""
    if isinstance(scan, Scan):
        yield from getattr(scan, name)
        return
    with opened_scan(scan.path) as file:
        for coil in range(scan.n_coils):
            yield _finite(file[name][coil : coil + 1], name, first=coil)[0]


class PartitionReader:
    """Partitions of an array of a scan file, checked, in any order and from several threads; a context.

    Parameters
    ----------
    header : ScanHeader
    name
        "kspace" or "repeat".
    """

    def __init__(self, header: ScanHeader, name: str = "kspace") -> None:
        self.header, self.name = header, name
        self._has_signal = np.zeros(header.n_coils, bool)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._dataset = stack.enter_context(opened_scan(self.header.path))[self.name]
            self._raw = stack.enter_context(self.header.path.open("rb"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def partitions(self, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Those partitions, each with its kz: (coil, ky, kx), an array that is overwritten by the next one.

        While the caller is busy with one partition, the system is asked to read the following ones.

        Raises
        ------
        ScanError
            At a partition with NaN or Inf, or with samples where the mask has none.
        """
        _, ny, nx = self.header.shape
        buffer = np.empty((self.header.n_coils, ny, nx), np.complex64)
        for place, kz in enumerate(numbers):
            for ahead in numbers[place + 1 if place == 0 else place + _AHEAD : place + _AHEAD + 1]:
                _announce(self._raw.fileno(), self._dataset, ahead)
            with telling_damage(self.header.path):
                self._dataset.read_direct(buffer, np.s_[:, kz])
                _check_partition(buffer, self.header.mask[kz], self.name, self._has_signal)
            yield kz, buffer

    def check_signal(self) -> None:
        """ScanError if a coil had no signal in all that was read."""
        with telling_damage(self.header.path):
            _check_signal(self._has_signal, self.name)


def read_partitions(
    header: ScanHeader, name: str = "kspace", chosen: Sequence[int] | None = None
) -> Generator[tuple[int, np.ndarray], None, None]:
    """All or some partitions of a scan file, as `PartitionReader.partitions` gives them.

    Raises
    ------
    ScanError
        At the first partition with NaN or Inf, or with samples where the mask has none; or after the last one if a
        coil had no signal in any.
    """
    with PartitionReader(header, name) as reader:
        yield from reader.partitions(range(header.shape[0]) if chosen is None else chosen)
        if chosen is None:
            reader.check_signal()


def write_partitions(
    path: str | os.PathLike[str], shape: tuple[int, int, int, int], partitions: Iterable[np.ndarray], **header: Any
) -> None:
    """Write a scan file partition by partition; it appears whole or not at all, over whatever was there.

    Parameters
    ----------
    path
    shape : (coil, kz, ky, kx)
    partitions
        (coil, ky, kx) complex64, in the order of kz.
    **header
        `mask`, and as in `Scan`: `acceleration`, `caipi_shift`, `voxel_size`, `affine`, `info`, `noise`, `acs`,
        `not_for_training`, `kx_acquired`; and `repeat`, partitions like those of `partitions`.

    Raises
    ------
    ScanError
        If what is written would be no `Scan`, as soon as that shows.
    OSError
        If the disk is full.
    """
    check_info(header.get("info", {}))
    with atomic_write(path) as temporary:
        check_space(temporary, 8 * int(np.prod(shape)) * (1 if header.get("repeat") is None else 2))
        _write(temporary, shape, partitions, header)


def _write(
    path: Path, shape: tuple[int, int, int, int], partitions: Iterable[np.ndarray], header: Mapping[str, Any]
) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update({
            "format": FORMAT,
            "version": format_version(header.get("kx_acquired")),
            "acceleration": header.get("acceleration", (1, 1)),
            "caipi_shift": header.get("caipi_shift", 0),
            "voxel_size": header.get("voxel_size", (1.0, 1.0, 1.0)),
            "affine": np.asarray(header.get("affine", np.eye(4)), dtype=float),
            "info": json.dumps(dict(header.get("info", {}))),
        })
        file["mask"] = header["mask"]
        for name in ("not_for_training", "kx_acquired"):
            if header.get(name) is not None:
                file.attrs[name] = header[name]
        for name in ("noise", "acs"):
            if header.get(name) is not None:
                file[name] = header[name]
        streams = {"kspace": partitions}
        if header.get("repeat") is not None:
            streams["repeat"] = header["repeat"]
        for name in streams:
            file.create_dataset(name, shape, np.complex64)
        checked_attributes(file, header["mask"], header.get("noise"))
        check_noise(header.get("noise"))
        if header.get("acs") is not None:
            _finite(header["acs"], "acs")
        for name, stream in streams.items():
            has_signal = np.zeros(shape[0], bool)
            for kz, partition in zip(range(shape[1]), stream, strict=True):
                _check_partition(partition, header["mask"][kz], name, has_signal)
                file[name][:, kz] = partition
            _check_signal(has_signal, name)


def _announce(descriptor: int, dataset: h5py.Dataset, kz: int) -> None:
    """Ask the system to read a partition in advance; files of other layouts and systems do without."""
    start, (n_coils, nz, ny, nx) = dataset.id.get_offset(), dataset.shape
    if start is None or not hasattr(os, "posix_fadvise"):
        return
    plane = 8 * ny * nx
    with suppress(OSError):  # advice only: a file system without it is read all the same
        for coil in range(n_coils):
            os.posix_fadvise(descriptor, start + (coil * nz + kz) * plane, plane, os.POSIX_FADV_WILLNEED)


def _check_partition(samples: np.ndarray, mask: np.ndarray, name: str, has_signal: np.ndarray) -> None:
    """Check samples (coil, ky, kx) of a mask (ky,), and note in `has_signal` (coil,) which coils had any so far."""
    check_acquired(_finite(samples, name), mask, name)
    if not has_signal.all():
        has_signal[[bool(coil.any()) for coil in samples]] = True  # sets alone: several threads may


def _check_signal(has_signal: np.ndarray, name: str) -> None:
    if not has_signal.all():
        raise ScanError(f"{name}: coil {np.argmin(has_signal)} has no signal at all; leave out that coil")


def _finite(samples: np.ndarray, name: str, first: int = 0) -> np.ndarray:
    for coil, values in enumerate(samples, start=first):
        if not np.isfinite(values).all():
            raise ScanError(f"{name}: coil {coil} holds NaN or Inf; repair or leave out that coil")
    return samples
