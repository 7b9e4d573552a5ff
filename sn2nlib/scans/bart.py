"""Scans as BART files (.cfl with .hdr), and back.

BART counts dimensions from the fastest: 0 readout, 1 and 2 phase encoding, 3 coil. That is the axis contract
(coil, kz, ky, kx) read from its end, so that samples are written as they lie in memory. Its FFTs are centred and
unitary as ours, DC at n//2 on every axis; ``bart fft -ui 7`` is `sn2nlib.fourier.ifft`. Nothing is scaled, shifted or
turned.

BART toolbox: Uecker M et al., https://mrirecon.github.io/bart
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from sn2nlib.errors import ScanError
from sn2nlib.provenance import atomic_write, check_absent
from sn2nlib.scans.scan import OPTIONAL, Scan, check_space
from sn2nlib.scans.sidecar import describe, described
from sn2nlib.scans.stream import ScanHeader, coil_by_coil, held

_DIMENSIONS = 16  # of every BART file


def save_bart(scan: Scan | ScanHeader, basename: str | os.PathLike[str], *, overwrite: bool = False) -> list[Path]:
    """Write a scan for BART; each file appears whole or not at all, the .json, without which none is read, last.

    Parameters
    ----------
    scan
        In memory, or the header of a scan file (`sn2nlib.scans.stream.read_header`), whose arrays are copied coil by
        coil: they may be larger than memory.
    basename
        Path without suffix; a suffix .cfl or .hdr is taken off. Written are, each as .cfl with .hdr and in BART's order
        of dimensions: ``basename`` (readout, ky, kz, coil); ``basename_mask`` (1, ky, kz), 1 where acquired, of which
        ``bart repmat 0 NX basename_mask pattern`` makes a pattern for ``bart pics -p``; and where the scan has them
        ``basename_noise`` (sample, 1, 1, coil) for ``bart whiten``, ``basename_acs`` and ``basename_repeat`` (readout,
        ky, kz, coil). ``basename.json`` holds geometry and provenance for the way back.
    overwrite
        Replace files that exist.

    Returns
    -------
    The .cfl files, that of the k-space first, and the .json, which is the last.

    Raises
    ------
    FileExistsError
        If a file exists and `overwrite` is false.
    OSError
        If the disk is full.
    """
    base = _base(basename)
    shapes = {"" if name == "kspace" else name: shape for name, shape in held(scan).items()}
    shapes = {"": shapes.pop(""), "mask": (1, *scan.mask.shape, 1), **shapes}
    if scan.noise is not None:
        shapes["noise"] = (scan.n_coils, 1, 1, scan.noise.shape[1])
    existing = [path for path in bart_files(base) if path.exists()]
    for path in existing:
        check_absent(path, overwrite=overwrite)
    with ExitStack() as files:  # renamed in reverse order: the description, which makes the set complete, is the last
        record = files.enter_context(atomic_write(_beside(base, ".json")))
        check_space(record, 8 * sum(int(np.prod(shape)) for shape in shapes.values()))
        record.write_text(describe(scan) + "\n", encoding="utf-8")
        for name, shape in shapes.items():
            header = files.enter_context(atomic_write(_part(base, name, ".hdr")))
            header.write_text(_header(shape), encoding="ascii")
            samples = files.enter_context(atomic_write(_part(base, name, ".cfl")))
            with samples.open("wb") as file:
                for part in _parts(scan, name):
                    np.ascontiguousarray(part, dtype="<c8").tofile(file)
    for path in existing:  # of a former scan that had more
        if path.suffix != ".json" and not any(path.stem == _part(base, name, "").name for name in shapes):
            path.unlink()
    return [*(_part(base, name, ".cfl") for name in shapes), _beside(base, ".json")]


def bart_files(basename: str | os.PathLike[str]) -> list[Path]:
    """All files that `save_bart` may write, the description first."""
    base = _base(basename)
    arrays = [_part(base, name, suffix) for name in ("", "mask", *OPTIONAL) for suffix in (".cfl", ".hdr")]
    return [_beside(base, ".json"), *arrays]


def load_bart(basename: str | os.PathLike[str]) -> Scan:
    """Read what `save_bart` wrote, bit for bit.

    Parameters
    ----------
    basename
        Path without suffix, or one of ``basename.cfl``, ``basename.hdr``, ``basename.json``.

    Raises
    ------
    FileNotFoundError
    ScanError
        If a file is damaged, its size contradicts its header, or the .json is missing: from k-space alone, what was
        acquired and where the object lies cannot be told.
    """
    base = _base(basename)
    if not _part(base, "", ".cfl").is_file():
        raise FileNotFoundError(f"there is no BART file {_part(base, '', '.cfl')}")
    record = _beside(base, ".json")
    if not record.is_file():
        raise ScanError(
            f"{base}.cfl: {record.name} is missing beside it, which says where samples were acquired and how the "
            "object lies; export with `sn2n export`, or write the plain HDF5 layout instead"
        )
    try:
        kspace = _read(base, "")
        present = [name for name in OPTIONAL if _part(base, name, ".cfl").is_file()]
        extras: dict[str, Any] = {name: _read(base, name) for name in present}
        if "noise" in extras:
            extras["noise"] = extras["noise"].reshape(len(extras["noise"]), -1)
        mask = _read(base, "mask")
        return Scan(
            kspace=kspace, mask=mask.reshape(mask.shape[1:3]) != 0, **extras, **described(record.read_bytes())
        )
    except ScanError as error:
        raise ScanError(f"{base}.cfl: {error}") from error


def _base(basename: str | os.PathLike[str]) -> Path:
    path = Path(basename)
    return path.with_suffix("") if path.suffix in (".cfl", ".hdr", ".json") else path


def _beside(base: Path, suffix: str) -> Path:
    return base.with_name(base.name + suffix)


def _part(base: Path, name: str, suffix: str) -> Path:
    return _beside(base, (f"_{name}" if name else "") + suffix)


def _parts(scan: Scan | ScanHeader, name: str) -> Iterator[np.ndarray]:
    """An array of the scan as it lies in memory, in pieces."""
    if name == "mask":
        yield scan.mask
    elif name == "noise":
        assert scan.noise is not None
        yield scan.noise
    else:
        yield from coil_by_coil(scan, name or "kspace")


def _header(shape: tuple[int, ...]) -> str:
    dimensions = [*shape[::-1], *[1] * (_DIMENSIONS - len(shape))]
    return "# Dimensions\n" + " ".join(str(n) for n in dimensions) + "\n"


def _read(base: Path, name: str) -> np.ndarray:
    """(coil, kz, ky, kx) complex64 of one .cfl with its .hdr."""
    path, header = _part(base, name, ".cfl"), _part(base, name, ".hdr")
    try:
        lines = header.read_text(encoding="ascii").splitlines()
        sizes = [int(word) for word in lines[lines.index("# Dimensions") + 1].split()]
    except (OSError, ValueError, IndexError) as error:
        raise ScanError(f"{header.name} does not say the dimensions of {path.name}") from error
    if len(sizes) < 4 or min(sizes) < 1 or any(n != 1 for n in sizes[4:]):
        raise ScanError(f"{header.name}: needs the dimensions readout, ky, kz, coil and no further ones, has {sizes}")
    shape = tuple(sizes[3::-1])
    needed = 8 * int(np.prod([int(n) for n in shape], dtype=object))
    size = path.stat().st_size if path.is_file() else 0
    if size != needed:
        raise ScanError(f"{path.name} has {size} bytes, {header.name} asks for {needed}; copy both once more")
    return np.fromfile(path, dtype="<c8").reshape(shape).astype(np.complex64, copy=False)
