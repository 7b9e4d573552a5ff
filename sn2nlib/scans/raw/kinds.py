"""What kind of raw file it is: told by its content, never by its name."""

import os
from pathlib import Path

import h5py

from sn2nlib.errors import ScanError, naming
from sn2nlib.scans.dicom import is_dicom
from sn2nlib.scans.images import is_image_name
from sn2nlib.scans.raw import layouts, mrd, twix
from sn2nlib.scans.raw.heaps import check_heaps, heaps_in
from sn2nlib.scans.scan import FORMAT

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD = 65536
_KNOWN = "Siemens twix, ISMRMRD, public HDF5 layouts, and scan files of this package are read"
CONVERT_FIRST = {
    "MRD version 2": "convert it to ISMRMRD HDF5 first (this package reads MRD 1)",
    "ISMRMRD in its streaming form": "made for sending from program to program; convert it first: "
    "ismrmrd_stream_to_hdf5 writes the HDF5 form that is read here",
}


def is_scan_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a scan file of this package."""
    return kind_of(checked(path)) == FORMAT


def readable(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """The path and its kind, which is one that can be read."""
    path = checked(path)
    kind = kind_of(path)
    if kind in CONVERT_FIRST:
        raise ScanError(f"{path}: {kind}; {CONVERT_FIRST[kind]}")
    return path, kind


def checked(path: str | os.PathLike[str]) -> Path:
    """The path of a file that is there."""
    path = Path(path)
    if path.is_dir():
        raise ScanError(f"{path}: a folder; give one raw file in it, or, if it is a DICOM series, take sn2n denoise")
    if not path.is_file():
        raise FileNotFoundError(f"there is no scan file {path}")
    return path


def kind_of(path: Path) -> str:
    """twix, ismrmrd, layout, the name of our own format, or one of `CONVERT_FIRST`."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise ScanError(f"{path}: the file is empty")
    if head.startswith(_HDF5):
        return _hdf5_kind(path, head)
    if head.startswith(b"yardl"):
        return "MRD version 2"
    if int.from_bytes(head[:2], "little") in (1, 2, 3) and b"ismrmrdHeader" in head:
        return "ISMRMRD in its streaming form"
    if twix.is_twix(head):
        return "twix"
    if is_image_name(path) or is_dicom(path):
        raise ScanError(f"{path}: an image, which holds no raw data; sn2n denoise takes images")
    raise ScanError(f"{path}: not an HDF5 file, nor another known raw file, or damaged ({_KNOWN}; sn2n denoise takes "
                    "NIfTI images, .nii or .nii.gz, and DICOM series too)")  # fmt: skip


def _hdf5_kind(path: Path, head: bytes) -> str:
    with naming(path):
        check_heaps(path, heaps_in(head))
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") == FORMAT:
                return FORMAT
            if mrd.find_group(file) is not None:
                return "ismrmrd"
            present = layouts.names_told(file)
    except MemoryError:
        raise
    except Exception:  # h5py raises many kinds for damaged files
        raise ScanError(f"{path}: the HDF5 file is damaged or incomplete; copy it once more") from None
    if layouts.find_layout(path) is not None:
        return "layout"
    near = layouts.almost_known(path)
    raise ScanError(f"{path}: an HDF5 file of no known layout; it holds {present}; {near or _KNOWN}")
