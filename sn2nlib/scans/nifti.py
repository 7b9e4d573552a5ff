"""NIfTI files whose header and content agree, before memory is asked for what the header says."""

import math
import warnings
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.fileholders import FileHolder
from nibabel.openers import ImageOpener

from sn2nlib.errors import ImageError
from sn2nlib.scans.proportion import in_proportion
from sn2nlib.scans.silence import overheard, silenced

_EXPANSION = {".gz": 1032, ".bz2": math.inf, ".zst": math.inf}  # bytes per byte, at most: deflate's 258 for two bits
_EXTENSIONS = 2**26  # bytes: nibabel reads extensions at once, also compressed ones, which may be of any length


def open_nifti(path: Path) -> nib.Nifti1Pair:
    """A file of one volume of plain numbers, none of them read yet.

    A compressed file of up to 3 MiB is refused if reading it would take more than 1.5 GiB of memory, and a larger one
    if it would take more than 512 times its size; an uncompressed one has to be as long as its header says.

    Raises
    ------
    FileNotFoundError
    ImageError
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no image {path}")
    image, doubts = _load(path)
    if not isinstance(image, nib.Nifti1Pair):
        raise ImageError(f"{path}: needs NIfTI, got {type(image).__name__}; convert it first")
    if min(image.shape, default=0) < 1:
        raise ImageError(f"{path}: holds no voxels, its shape is {image.shape}")
    if image.ndim < 3 or max(image.shape[3:], default=1) > 1:
        raise ImageError(f"{path}: needs 3 axes, has shape {image.shape}; take one volume out of it")
    kind = image.get_data_dtype()
    if kind.kind not in "iuf":
        raise ImageError(f"{path}: needs plain magnitudes, holds {kind}; take the magnitude or one channel of it")
    _check_length(image, path)
    if doubts:
        warnings.warn(f"{path}: its header holds impossible values ({'; '.join(doubts)})", stacklevel=3)
    return image


def reading_memory(image: nib.Nifti1Pair) -> int:
    """Bytes that `images.read_image` takes at most, all copies of the voxels counted."""
    each = 8 + 2 * image.get_data_dtype().itemsize
    if (image.dataobj.slope, image.dataobj.inter) != (1, 0):  # type: ignore[attr-defined]
        each = max(each, 16)
    return each * math.prod(map(int, image.shape))


def _load(path: Path) -> tuple[object, list[str]]:
    """The image, and what nibabel finds wrong with its header but puts right."""
    try:
        with silenced("pydicom"), overheard("nibabel.global") as doubts, np.errstate(all="ignore"):
            _check_extensions(path)
            return nib.load(path), list(dict.fromkeys(doubts))
    except (ImageError, MemoryError):
        raise
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, OSError) as error:
        raise ImageError(f"{path}: not a NIfTI file, or damaged ({' '.join(str(error).split())})") from error
    except Exception:  # whatever else a broken header makes of nibabel, or of pydicom in an extension
        raise ImageError(f"{path}: not a NIfTI file, or damaged") from None


def _check_extensions(path: Path) -> None:
    """Refuse extensions of false or excessive length; a file that is no NIfTI is left to nibabel."""
    header_file = path.with_name(path.name.replace(".img", ".hdr"))
    with ImageOpener(str(header_file if header_file.is_file() else path)) as file:
        start = file.read(nib.Nifti2Header.template_dtype.itemsize)
        kinds = [kind for kind in (nib.Nifti1Header, nib.Nifti2Header) if kind.may_contain_header(start)]
        if not kinds:
            return
        n_bytes = kinds[0].template_dtype.itemsize
        header = kinds[0](start[:n_bytes], check=False)
        file.seek(n_bytes)
        if file.read(4)[:1] in (b"", b"\0"):
            return
        single = header["magic"].item().startswith(b"n+")
        left = float(header["vox_offset"]) - n_bytes - 4 if single else math.inf
        total = 0
        while left >= 16 and len(start := file.read(8)) == 8:
            length = int(np.frombuffer(start, f"{header.endianness}i4")[0])
            left, total = left - length, total + length
            if length < 8 or total > _EXTENSIONS:
                raise ImageError(f"{path}: damaged, an extension of its header would be {length} bytes long")
            file.seek(length - 8, 1)


def _check_length(image: nib.Nifti1Pair, path: Path) -> None:
    """Refuse a file that is shorter than its header says, or longer by a row: less than that may be padding."""
    shape, kind, holder = tuple(map(int, image.shape)), image.get_data_dtype(), image.file_map["image"]
    needed = image.dataobj.offset + math.prod(shape) * kind.itemsize  # type: ignore[attr-defined]
    file = Path(holder.filename or path)
    suffix, stored, taken = file.suffix.lower(), file.stat().st_size, reading_memory(image)
    row, found = shape[0] * kind.itemsize, 0
    if needed <= stored * _EXPANSION.get(suffix, 1):
        if suffix in _EXPANSION and not in_proportion(taken, stored):
            raise ImageError(
                f"{path}: would take {taken >> 20} MiB of memory, out of proportion to a file of {stored} bytes; it is "
                "damaged, or has to be decompressed first, for example with gunzip"
            )
        found = _bytes_from(needed - 1, 1 + row, holder, path)
    if not 0 < found <= row:
        much = "fewer" if found == 0 else "more"
        raise ImageError(
            f"{path}: damaged or incomplete, it holds {much} voxels than its header says, {shape} of {kind}"
        )


def _bytes_from(start: int, n: int, holder: FileHolder, path: Path) -> int:
    """How many of n bytes a file holds from `start` on, decompressed in passing where it is compressed."""
    try:
        with holder.get_prepare_fileobj("rb") as file:
            file.seek(start)
            return len(file.read(n))
    except (OSError, EOFError, OverflowError, zlib.error) as error:
        raise ImageError(f"{path}: the file is damaged or incomplete ({error})") from error
