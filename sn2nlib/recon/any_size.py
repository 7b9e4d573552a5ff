"""Scans of any size: at once where they fit into memory, else out of core."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ScanError, naming
from sn2nlib.recon.noise import g_factor
from sn2nlib.recon.out_of_core import ImagePair, image_pair
from sn2nlib.recon.pairs import Pair, Pairing, make_pair, reconstruct_with_noise
from sn2nlib.recon.workspace import default_limit
from sn2nlib.scans.images import FILTERED, HALF, MAPS, Known
from sn2nlib.scans.needs import COPIES, memory_at_once
from sn2nlib.scans.raw import known_geometry, opened_raw
from sn2nlib.scans.scan import Scan, load_scan
from sn2nlib.scans.stream import ScanHeader, read_header

_Complex = NDArray[np.complex64]


def fits_memory(header: ScanHeader, memory_limit: int | None = None) -> bool:
    """Whether `reconstruct` and `make_pair` could work on the whole scan at once.

    Parameters
    ----------
    memory_limit
        Bytes; None: half of the machine's memory.
    """
    whole = header.nbytes * (2 if header.has_repeat else 1)
    needed = memory_at_once(header.shape, header.n_coils) + whole
    return needed <= (default_limit() if memory_limit is None else memory_limit)


def largest_kspace(memory_limit: int | None = None, *, copies: int = COPIES + 1) -> int:
    """Bytes of k-space that can be worked on at once with so many `copies` of it.

    By default as many as `reconstruct` and `make_pair` take, reading included.
    """
    return (default_limit() if memory_limit is None else memory_limit) // copies


@dataclass(frozen=True)
class ScanImages:
    """What was asked for of a scan, and None for the rest.

    Attributes
    ----------
    original, half_a, half_b : (z, y, x) complex64
    noise_sd, noise_sd_half : (z, y, x) float32
        Noise SD per component of the original and of a half, in the units of the images.
    g_factor, g_factor_half : (z, y, x) float32
        These over √(all positions of k-space / acquired ones), calibration lines among them; None after a raw
        filter, which lowers the noise for another reason.
    noise_estimator : str
        The reconstruction that the maps describe.
    affine : (4, 4)
    voxel_size : (z, y, x) mm
    known : "place", "size" or "nothing"
        How much of affine and voxel size is true, as `write_image` takes it.
    """

    original: _Complex
    half_a: _Complex | None
    half_b: _Complex | None
    noise_sd: NDArray[np.float32] | None
    noise_sd_half: NDArray[np.float32] | None
    g_factor: NDArray[np.float32] | None
    g_factor_half: NDArray[np.float32] | None
    noise_estimator: str
    affine: NDArray[np.float64]
    voxel_size: tuple[float, float, float]
    known: Known

    @property
    def place(self) -> dict[str, Any]:
        """Where the images lie, as `write_image` takes it."""
        return {"affine": self.affine, "known": self.known}

    def description(self, name: str, *, raw_filter: float = 0.0) -> str:
        """What an attribute is, for the header of its file, which `Geometry` of `read_image` tells again.

        Parameters
        ----------
        name
            "original", "half_a", "noise_sd_half" …
        raw_filter
            What was asked for.
        """
        if kind := MAPS.get(name.removesuffix("_half"), ""):
            return kind + self.noise_estimator
        half = f"{HALF}{name[-1]}" if name.startswith("half_") else ""
        return "; ".join(filter(None, (half, f"{FILTERED}{raw_filter:g}" if raw_filter else "")))


def scan_images(
    source: Scan | str | os.PathLike[str],
    *,
    halves: bool = False,
    noise_maps: bool = False,
    memory_limit: int | None = None,
    pairing: Pairing = "kz",
    scratch: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **options: Any,
) -> ScanImages:
    """Conventional image of a scan, its halves and noise maps if asked; of a scan file out of core if it is large.

    Parameters
    ----------
    source
        Scan, or path of a scan file.
    halves, noise_maps
        Whether to make these too.
    memory_limit, pairing, scratch, progress
        As for `image_pair`.
    **options
        For `reconstruct` or `make_pair`.
    """
    if pairing != "kz" and not halves:
        raise ScanError(f"pairing {pairing!r} says what the halves are; ask for the halves too (--halves)")
    if not isinstance(source, Scan) and not fits_memory(header := read_header(source), memory_limit):
        pair = image_pair(
            source, halves=halves, noise_maps=noise_maps, memory_limit=memory_limit, pairing=pairing, scratch=scratch,
            progress=progress, **options,
        )
        return _images(pair, header, noise_maps=noise_maps)
    scan = source if isinstance(source, Scan) else load_scan(source)
    if halves:
        return _images(make_pair(scan, pairing=pairing, **options), scan, noise_maps=noise_maps)
    image, noise_sd, estimator = reconstruct_with_noise(scan, noise_maps=noise_maps, **options)
    g_map = None if options.get("raw_filter") else _g_map(noise_sd, scan.mask, scan.kx_share)
    return ScanImages(image, None, None, noise_sd, None, g_map, None, estimator, **_geometry(scan))


def raw_images(
    path: str | os.PathLike[str],
    *,
    reading: Mapping[str, Any] | None = None,
    memory_limit: int | None = None,
    **options: Any,
) -> ScanImages:
    """`scan_images` of a raw file of any kind, which is named in whatever goes wrong.

    One that does not fit into memory becomes a scan file in the scratch folder for as long as it takes.

    Parameters
    ----------
    path
        As for `read_raw`.
    reading
        Options of `read_raw`.
    memory_limit, **options
        As for `scan_images`.
    """
    kept = {name: options[name] for name in ("scratch", "progress") if name in options}
    with (
        opened_raw(path, largest=largest_kspace(memory_limit), **kept, **(reading or {})) as source,
        naming(path),
    ):
        if source == Path(path):
            _warn_of_its_place(read_header(source))
        return scan_images(source, memory_limit=memory_limit, **options)


def _warn_of_its_place(header: ScanHeader) -> None:
    """Say so of a scan file that was made of one which did not tell where it lies."""
    known = known_geometry(header.info.get("geometry"))
    if known != "place":
        warnings.warn(
            f"{'position and orientation of the scan were' if known == 'size' else 'the geometry of the scan was'} not "
            "known when this file was made, so that left and right may be exchanged; convert the raw file anew with "
            "--affine-from",
            stacklevel=3,
        )


def _images(pair: Pair | ImagePair, scan: Scan | ScanHeader, *, noise_maps: bool) -> ScanImages:
    noise_sd, noise_sd_half = (pair.noise_sd, pair.noise_sd_half) if noise_maps else (None, None)
    g_map, g_map_half = (_g_map(sd, mask, scan.kx_share) if pair.taper is None else None
                         for sd, mask in ((noise_sd, scan.mask), (noise_sd_half, pair.mask_a)))  # fmt: skip
    return ScanImages(
        pair.original, pair.half_a, pair.half_b, noise_sd, noise_sd_half, g_map, g_map_half, pair.noise_estimator,
        **_geometry(scan),
    )  # fmt: skip


def _geometry(scan: Scan | ScanHeader) -> dict[str, Any]:
    return {
        "affine": np.asarray(scan.affine), "voxel_size": scan.voxel_size,
        "known": known_geometry(scan.info.get("geometry")),
    }  # fmt: skip


def _g_map(
    noise_sd: NDArray[np.float32] | None, mask: NDArray[np.bool_], kx_share: float
) -> NDArray[np.float32] | None:
    return None if noise_sd is None else g_factor(noise_sd, kx_share * mask.size / np.count_nonzero(mask))
