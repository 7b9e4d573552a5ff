"""Which DICOM files a path holds, and the technical part of their headers.

What is said about a file is never more than its place in the folder and technical values: file names inside a
folder, and most of what a header holds, may tell who the patient is.
"""

import io
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sn2nlib.errors import ImageError
from sn2nlib.scans.proportion import in_proportion
from sn2nlib.scans.silence import silenced

if TYPE_CHECKING:
    from pydicom import Dataset

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
LEGACY_ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.4"
MULTI_FRAME = (ENHANCED_MR, LEGACY_ENHANCED_MR)
_CLASSES = (MR, *MULTI_FRAME)
_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR, the only one without SOPClassUID
_SUFFIXES = (".dcm", ".ima")
_PIECE, _HELD = 2**16, 3  # bytes unpacked at a time; how often pydicom holds them: whole, in parts, converted
# What may tell several volumes of one series apart, the commonest first: name, keyword in a classic file, functional
# group and keyword in an enhanced one.
FACTS = (
    ("image type", "ImageType", "MRImageFrameTypeSequence", "FrameType"),
    ("component", "ComplexImageComponent", "MRImageFrameTypeSequence", "ComplexImageComponent"),
    ("echo time in ms", "EchoTime", "MREchoSequence", "EffectiveEchoTime"),
    ("inversion time in ms", "InversionTime", "MRModifierSequence", "InversionTimes"),
    ("b-value", "DiffusionBValue", "MRDiffusionSequence", "DiffusionBValue"),
    ("time point", "TemporalPositionIdentifier", "FrameContentSequence", "TemporalPositionIndex"),
    ("cardiac delay", "TriggerTime", "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("acquisition", "AcquisitionNumber", "FrameContentSequence", "FrameAcquisitionNumber"),
    ("stack", "StackID", "FrameContentSequence", "StackID"),
    ("phase encoding", "InPlanePhaseEncodingDirection", "MRFOVGeometrySequence", "InPlanePhaseEncodingDirection"),
)
_HEADER = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesNumber",
    "InstanceNumber", "ImageType",
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept",
    "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SpacingBetweenSlices", "SliceThickness",
    "MRAcquisitionType", "ImagesInAcquisition", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "ContributingEquipmentSequence", *(keyword for _, keyword, _, _ in FACTS),
)  # fmt: skip


@dataclass(frozen=True)
class Header:
    """The technical part of a file's header, and where the file is."""

    path: Path
    place: str
    dataset: "Dataset"

    @property
    def series(self) -> str:
        """Which series the file belongs to."""
        return str(self.dataset.get("SeriesInstanceUID", ""))


class FileOfItsSize(io.BufferedReader):
    """A file for pydicom, which asks for as many bytes as a length in the file says, be it true or false."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """As many bytes as there are at most: Python sets memory aside for all that it is asked for."""
        return super().read(None if size is None else min(size, self.size))


def is_dicom(path: Path) -> bool:
    """Whether a path is to be read as DICOM: a folder, a DICOM file, or a name such as only DICOM files have."""
    return path.is_dir() or path.suffix.lower() in _SUFFIXES or _has_magic(path)


def read_headers(path: Path) -> list[Header]:
    """Headers of all MR images in a file or a folder with its sub-folders, in the order of their names.

    Raises
    ------
    FileNotFoundError
    ImageError
        If there is no DICOM file, or none holds an MR image, or one is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no DICOM file or folder {path}")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    found = [file for file in files if _has_magic(file)]
    if not found:
        kind = f"none of the {len(files)} files in it is" if path.is_dir() else "this is not, or it is damaged,"
        raise ImageError(f"{path}: {kind} a DICOM file; give the folder of an MR series")
    places = [f"file {number} of {len(found)} in {path}" if path.is_dir() else str(path)
              for number, _ in enumerate(found, 1)]  # fmt: skip
    headers = [Header(file, place, _read_header(file, place)) for file, place in zip(found, places, strict=True)]
    images = [header for header in headers if _is_image(header)]
    if not images:
        raise ImageError(f"{path}: holds no MR images, but {_kinds(headers)}; give the folder of an MR series")
    _warn_left_out(path, files, headers, images)
    return images


@contextmanager
def parsing(place: str, damage: str = "the DICOM file is damaged; export the series again") -> Iterator[None]:
    """Whatever a broken file makes of pydicom is told as `damage` of `place`; what pydicom says may quote the header.

    Raises
    ------
    ImageError
    OSError
        If the disk or the network fails.
    MemoryError
    """
    try:
        with silenced("pydicom"):
            yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # the parser and the decoders have no common error
        if isinstance(error, OSError) and error.errno is not None:  # pydicom's own of damaged files carry none
            raise OSError(error.errno, error.strerror, place) from None
        raise ImageError(f"{place}: {damage}") from None


def _warn_left_out(path: Path, files: Sequence[Path], headers: Sequence[Header], images: Sequence[Header]) -> None:
    """Name what may have been a slice; anything else in a folder is passed over in silence."""
    empty = sum(file.stat().st_size == 0 for file in files)
    if empty:
        warnings.warn(
            f"{path}: {empty} of {len(files)} files are empty and left out; is a slice missing?", stacklevel=4
        )
    series = {header.series for header in images}
    others = [header for header in headers if header.series in series and not _is_image(header)]
    if others:
        warnings.warn(
            f"{path}: {len(others)} of {len(headers)} files belong to the series of the images, but hold "
            f"{_kinds(others)}; they are left out. Is a slice missing?", stacklevel=4,
        )  # fmt: skip


def _is_image(header: Header) -> bool:
    return header.dataset.get("SOPClassUID") in _CLASSES


def _has_magic(path: Path) -> bool:
    """Whether a file begins as DICOM files do: with the four letters, or, if they are damaged, with what follows."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(140)
    return start[128:132] == b"DICM" or start[136:] == b"UL\x04\x00"  # the length of the first group


def _read_header(path: Path, place: str) -> "Dataset":
    import pydicom

    with FileOfItsSize(path) as file, parsing(place):
        _check_unpacked(file, place)
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_HEADER))
        for _ in dataset.iterall():  # pydicom converts a value, and complains, on first use: let it be here
            pass
        sound = _says_what_it_is(dataset)
    if not sound:
        raise ImageError(f"{place}: the DICOM file is damaged; export the series again")
    return dataset


def _check_unpacked(file: FileOfItsSize, place: str) -> None:
    """Refuse a deflated file that unpacks out of proportion, before pydicom unpacks it at once."""
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    read_preamble(file, force=False)
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        unpacker, unpacked = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while piece := file.read(_PIECE):
            unpacked += len(unpacker.decompress(piece))
            check_proportion(_HELD * unpacked, file.size, place)
    file.seek(0)


def check_proportion(needed: int, file_bytes: int, place: str) -> None:
    """Refuse a compressed file that would take more memory than one of its size may.

    Raises
    ------
    ImageError
    """
    if not in_proportion(needed, file_bytes):
        raise ImageError(
            f"{place}: would take {needed >> 20} MiB of memory or more, out of proportion to a file of {file_bytes} "
            "bytes; it is damaged, or has to be decompressed first, for example with gdcmconv --raw"
        )


def _says_what_it_is(dataset: "Dataset") -> bool:
    """Whether the class of the object can be told, and is that of an image where the beginning of the file says so.

    A header that was read out of step lacks it.
    """
    from pydicom.uid import UID

    kind, first = dataset.get("SOPClassUID"), dataset.file_meta.get("MediaStorageSOPClassUID")
    if first == _DIRECTORY:
        return True
    return isinstance(kind, UID) and kind.is_valid and (kind in _CLASSES or first not in _CLASSES)


def _kinds(headers: Sequence[Header]) -> str:
    from pydicom.uid import UID

    with silenced("pydicom"):
        names = [UID(str(header.dataset.get("SOPClassUID", ""))).name for header in headers]
    known = Counter(name if name[:1].isalpha() else "objects of an unknown kind" for name in names)
    return ", ".join(f"{name} ({count})" for name, count in sorted(known.items()))
