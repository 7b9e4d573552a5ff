"""Fully sampled brains from real scanners, for checks: read where they are on disk, never fetched unasked."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray

from sn2nlib.errors import ScanError
from sn2nlib.scans.manifest import load_sources
from sn2nlib.scans.sources import data_folders, find

_SOURCE = "mripy-brain-8ch"
_SORTED = "brain16ch_pulseq_164128.npy"  # k-space of the source pulseq-brain-16ch, sorted by a reader of Siemens files


@dataclass(frozen=True)
class Brain:
    """One measured slice.

    Attributes
    ----------
    name
        Of its file.
    kspace : (coil, 1, ky, kx) complex64 or None
        Fully sampled; None if it is not on this machine.
    remedy
        How to get it.
    """

    name: str
    kspace: NDArray[np.complex64] | None
    remedy: str = ""


def measured_brains(manifest: str | os.PathLike[str]) -> list[Brain]:
    """The real brains of the folders of ``SN2N_DATA``.

    Parameters
    ----------
    manifest
        The ``data_manifest`` folder.

    Returns
    -------
    list of Brain
        The one with 8 channels, which the manifest lists, on disk or not; the one with 16 channels only where its
        k-space stands sorted on disk.

    Raises
    ------
    ScanError
        If a file does not hold what its name says.
    """
    source = load_sources(manifest)[_SOURCE]
    path = find(source)
    remedy = f"download {source.url} as {source.file} into a folder of SN2N_DATA"
    brains = [Brain(source.file, None if path is None else _from_matlab(path), remedy)]
    stored = [folder / _SORTED for folder in data_folders() if (folder / _SORTED).is_file()]
    return [*brains, Brain(_SORTED, _from_numpy(stored[0]))] if stored else brains


def _from_numpy(path: Path) -> NDArray[np.complex64]:
    try:
        kspace = np.load(path)
    except (OSError, EOFError, ValueError) as error:
        raise ScanError(f"{path}: the file is damaged or incomplete; put a whole copy there, or remove it") from error
    return _one_slice(path, kspace)


def _from_matlab(path: Path) -> NDArray[np.complex64]:
    return _one_slice(path, scipy.io.loadmat(path)["full_kspace_data"].transpose(2, 0, 1))


def _one_slice(path: Path, kspace: np.ndarray) -> NDArray[np.complex64]:
    if kspace.ndim != 3 or not np.iscomplexobj(kspace):
        raise ScanError(f"{path}: needs complex (coil, ky, kx), got {kspace.dtype} {kspace.shape}")
    return kspace[:, None].astype(np.complex64)
