"""NIfTI images in the axis order of the scans, and back into their own, geometry kept."""

import gzip
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from nibabel import orientations

from sn2nlib.errors import ImageError
from sn2nlib.provenance import atomic_write, check_absent
from sn2nlib.scans.finite import not_finite
from sn2nlib.scans.nifti import open_nifti

# The array (x, y, z) of a sagittal acquisition: readout towards superior, lines towards anterior, partitions
# towards right. A volume (z, y, x) then has the partitions, left-right, first: the slice axis of the network.
ACQUIRED = ("S", "A", "R")
_SUFFIXES = (".nii", ".nii.gz")
_TOLERANCE = 1e-3
_WORDS = ("data_type", "db_name", "descrip", "aux_file", "intent_name")  # free text of a NIfTI header
Known = Literal["place", "size", "nothing"]  # of a geometry
DENOISED, FILTERED = "sN2N: ", "raw filter "  # how the descriptions of denoised and of filtered images begin
HALF, MAPS = "half image ", {"noise_sd": "noise SD per component; ", "g_factor": "g-factor; "}  # and of these
_OURS = b"sn2n"  # intent_name of an image in the axis contract, whose dim_info then says how it was encoded
_ENCODED = (0, 1, 2)  # axes (x, y, z) of readout, lines, partitions


@dataclass(frozen=True)
class Geometry:
    """Where a volume lies, and how its file stored it.

    Attributes
    ----------
    affine : (4, 4) float64
        RAS+ mm affine of the volume stored as (x, y, z) = volume.transpose(2, 1, 0).
    header
        The file's own header; qform, sform and their codes among it.
    stored
        nibabel orientation (axis, flip) of the file's array.
    shape
        (z, y, x) of the volume.
    scaling
        Slope and intercept: value = slope · stored number + intercept.
    partitions
        Whether z is known to be the partition axis of the acquisition.
    """

    affine: np.ndarray
    header: nib.Nifti1Header
    stored: np.ndarray
    shape: tuple[int, int, int]
    scaling: tuple[float, float] = (1.0, 0.0)
    partitions: bool = False

    @property
    def denoised(self) -> bool:
        """Whether the header's description says that it was denoised here, see `write_image`."""
        return self._description.startswith(DENOISED)

    @property
    def filtered(self) -> bool:
        """Whether the header's description says that it was reconstructed with a raw filter."""
        return any(part.startswith(FILTERED) for part in self._description.split("; "))

    @property
    def part(self) -> str:
        """What else of a scan than its image the header's description says that it is; empty if nothing else."""
        kinds = {MAPS["noise_sd"]: "noise map", MAPS["g_factor"]: "g-factor map", HALF: "half image"}
        return next((part for begins, part in kinds.items() if self._description.startswith(begins)), "")

    @property
    def own_description(self) -> str:
        """The header's description if this package wrote it, else empty: what others write may name a person."""
        ours = self.denoised or self.filtered or self.part
        return self._description if ours else ""

    @property
    def _description(self) -> str:
        return str(self.header["descrip"].item().decode("latin-1"))

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """(z, y, x) in mm."""
        return voxel_size_of(self.affine)


def voxel_size_of(affine: np.ndarray) -> tuple[float, float, float]:
    """(z, y, x) in mm of an image whose affine, stored as (x, y, z), is given."""
    x, y, z = np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)
    return float(z), float(y), float(x)


def read_image(path: str | os.PathLike[str], *, as_acquired: bool = False) -> tuple[np.ndarray, Geometry]:
    """Read a NIfTI of one volume, turned by axis swaps and flips (never interpolated) into acquisition order.

    Parameters
    ----------
    path
        A NIfTI file of any orientation.
    as_acquired
        Leave a file that `write_image` made of a scan as it is stored, since its header (intent_name, dim_info) says
        that its axes are readout, lines and partitions. Other files are turned all the same.

    Returns
    -------
    volume : (z, y, x) float32
        z runs left to right, y posterior to anterior, x inferior to superior, as closely as the stored axes
        allow; intensities scaled as the header says.
    geometry
        For `write_image`, which brings a volume back into the file's own orientation.

    Raises
    ------
    FileNotFoundError
    ImageError
        If the file is no NIfTI, is shorter or longer than its header says, holds several volumes or none, complex or
        colour values, NaN or Inf, or an affine that does not span the space. Further axes of size 1 are dropped.
    """
    path = Path(path)
    image = open_nifti(path)
    partitions = as_acquired and _says_how_encoded(image.header)
    affine = _checked_affine(image, path, turned=not partitions)
    try:
        with np.errstate(all="ignore"):  # a slope may be too large: the next check tells it
            array = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(image.shape[:3])
    except (OSError, EOFError, ValueError) as error:
        told = " ".join(str(error).split())  # nibabel's may have several lines
        raise ImageError(f"{path}: the file is damaged or incomplete ({told})") from error
    if damage := not_finite(array, "i, j, k"):
        raise ImageError(f"{path}: holds {damage}; replace them, for example by 0 outside the head")
    volume, turned_affine, stored = _as_stored_order(array, affine) if partitions else turn_to_acquired(array, affine)
    geometry = Geometry(
        affine=turned_affine,
        header=image.header.copy(),
        stored=stored,
        shape=volume.shape,
        # nibabel clears both in the header that it has read
        scaling=(float(image.dataobj.slope), float(image.dataobj.inter)),  # type: ignore[attr-defined]
        partitions=partitions,
    )
    return volume, geometry


def stored_affine(path: str | os.PathLike[str]) -> tuple[np.ndarray, tuple[int, int, int]]:
    """RAS+ mm affine and shape (i, j, k) of a NIfTI as it is stored, from its header; no voxel is read.

    Raises
    ------
    FileNotFoundError
    ImageError
        As `read_image`, and if the header does not say how the image lies.
    """
    path = Path(path)
    image = open_nifti(path)
    if int(image.header["qform_code"]) == 0 and int(image.header["sform_code"]) == 0:
        raise ImageError(f"{path} does not say how it lies (qform and sform code 0); take an image that does")
    i, j, k = image.shape[:3]
    return _checked_affine(image, path), (i, j, k)


def turn_to_acquired(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn an array by axis swaps and flips into acquisition order.

    Parameters
    ----------
    array : (i, j, k)
    affine : (4, 4) float
        RAS+ mm affine of `array`.

    Returns
    -------
    volume : (z, y, x)
        In contiguous memory.
    affine : (4, 4) float
        Of the volume stored as (x, y, z).
    stored
        nibabel orientation of `array`, for `turn_back`.
    """
    stored = orientations.io_orientation(affine)
    turn = orientations.ornt_transform(stored, orientations.axcodes2ornt(ACQUIRED))
    turned = orientations.apply_orientation(array, turn)
    moved = affine @ orientations.inv_ornt_aff(turn, array.shape)
    return np.ascontiguousarray(turned.transpose(2, 1, 0)), moved, stored


def turn_back(volume: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """The array (i, j, k) that `turn_to_acquired` had turned into `volume`."""
    back = orientations.ornt_transform(orientations.axcodes2ornt(ACQUIRED), stored)
    return orientations.apply_orientation(volume.transpose(2, 1, 0), back)


def to_stored(
    values: np.ndarray, *, scaling: tuple[float, float], limits: tuple[int, int]
) -> tuple[np.ndarray, int]:
    """The integers that a file keeps for `values`, rounded and clipped to what it can hold.

    Parameters
    ----------
    values
        Any shape, finite.
    scaling
        Slope and intercept: value = slope · stored number + intercept.
    limits
        Lowest and highest stored number.

    Returns
    -------
    stored : float64
        Whole numbers within the limits, shape of `values`.
    clipped
        How many of them lay outside.
    """
    slope, intercept = scaling
    exact = np.rint((np.asarray(values, np.float64) - intercept) / slope)
    stored = np.clip(exact, *limits)
    return stored, int(np.count_nonzero(stored != exact))


def warn_clipped(clipped: int, total: int) -> None:
    """Say so when values did not fit into the number format of a file."""
    if clipped:
        warnings.warn(
            f"{clipped} of {total} voxels ({clipped / total:.2g}) lie outside what the number format of the input "
            "can hold, and were set to the nearest it can",
            stacklevel=3,
        )


def write_image(
    volume: np.ndarray,
    path: str | os.PathLike[str],
    *,
    like: Geometry | None = None,
    affine: np.ndarray | None = None,
    known: Known = "place",
    description: str = "",
    overwrite: bool = False,
) -> None:
    """Write a volume as NIfTI; the file appears whole or not at all.

    Like an integer file, it is written in that file's integers, slope and intercept, rounded and clipped to their
    range (which a warning tells); everything else as float32.

    Parameters
    ----------
    volume : (z, y, x) float
    path
        Ends in .nii or .nii.gz.
    like
        Geometry from `read_image`: the file gets its orientation, qform, sform and codes, unchanged. Free text and
        extensions of its header, where converters leave names and dates, are left out.
    affine : (4, 4) float
        Instead of `like`: RAS+ affine of the volume, z its partition axis, stored as (x, y, z); the header says which
        axis is which (dim_info).
    known : "place", "size" or "nothing"
        With `affine`: how much of it is true. All of it is written as scanner coordinates; if only the voxel size is
        known, qform and sform get the code 0 (unknown); if nothing is, the unit of length is unknown too.
    description
        What the numbers are, for the header's `descrip`, of at most 79 bytes.
    overwrite
        Replace a file that exists.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is false.
    ImageError
        If the name is no NIfTI name, or the volume does not fit `like`.
    OSError
        If the disk is full.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    if (like is None) == (affine is None):
        raise TypeError("write_image needs either like or affine")
    image = _from_affine(volume, affine, known) if like is None else _as_stored(volume, like)
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    content = image.to_bytes()
    with atomic_write(path) as temporary:
        # without a time stamp, so that equal images are equal files
        temporary.write_bytes(gzip.compress(content, 4, mtime=0) if path.suffix == ".gz" else content)


def write_relaid(
    volume: np.ndarray,
    path: str | os.PathLike[str],
    *,
    geometry: Geometry,
    affine: np.ndarray,
    overwrite: bool = False,
) -> None:
    """Write an image of `read_image` with another affine; voxels, number format and what it says that it is stay.

    Parameters
    ----------
    volume, geometry
        From `read_image`.
    path
        Ends in .nii or .nii.gz.
    affine : (4, 4)
        RAS+ mm of the volume stored as (x, y, z), as `geometry.affine` is.
    overwrite
        Replace a file that exists.

    Raises
    ------
    FileExistsError, ImageError, OSError
        As `write_image`.
    """
    told = geometry.own_description
    if geometry.partitions:
        write_image(volume, path, affine=affine, description=told, overwrite=overwrite)
        return
    header = geometry.header.copy()
    stored = affine @ np.linalg.inv(geometry.affine) @ header.get_best_affine()
    header.set_qform(stored, code="scanner")
    header.set_sform(stored, code="scanner")
    write_image(volume, path, like=replace(geometry, header=header), description=told, overwrite=overwrite)


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name is that of a NIfTI image."""
    return Path(path).name.endswith(_SUFFIXES)


def beside(path: str | os.PathLike[str], ending: str) -> Path:
    """`image.nii.gz` with something put before its suffix: `image_half_a.nii.gz`."""
    path = Path(path)
    stem, dot, suffix = path.name.partition(".nii")
    return path.with_name(stem + ending + dot + suffix)


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a name that `write_image` could not write, before anything is computed for it.

    Raises
    ------
    FileExistsError
    ImageError
    """
    path = Path(path)
    if not is_image_name(path):
        raise ImageError(f"{path}: the name of an image ends in .nii or .nii.gz")
    check_absent(path, overwrite=overwrite)


def check_outputs(paths: Iterable[str | os.PathLike[str]], *, overwrite: bool = False) -> None:
    """`check_output` for several files, which must be different ones."""
    names = [Path(path) for path in paths]
    for path in names:
        check_output(path, overwrite=overwrite)
    if len({path.resolve() for path in names}) < len(names):
        raise ImageError(f"{', '.join(map(str, names))}: two outputs have the same name; choose different ones")


def _checked_affine(image: nib.Nifti1Pair, path: Path, *, turned: bool = True) -> np.ndarray:
    affine = np.asarray(image.affine, dtype=float)
    with np.errstate(all="ignore"):
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        sound = np.isfinite(affine).all() and np.allclose(affine[3], [0, 0, 0, 1]) and (sizes > 0).all()
        flat = sound and not abs(np.linalg.det(affine[:3, :3] / sizes)) >= _TOLERANCE
    if not sound or flat:
        raise ImageError(
            f"{path}: its affine is broken, the axes do not span the space: {affine.round(4).tolist()}; "
            "copy the geometry from the original file"
        )
    if turned and int(image.header["qform_code"]) == 0 and int(image.header["sform_code"]) == 0:
        warnings.warn(
            f"{path} does not say how it lies (qform and sform code 0); taken as stored from right to left, "
            "posterior to anterior, and inferior to superior",
            stacklevel=3,
        )
    return affine


def _as_stored(volume: np.ndarray, like: Geometry) -> nib.Nifti1Image:
    if volume.shape != like.shape:
        raise ImageError(f"a volume of shape {volume.shape} does not fit the geometry of shape {like.shape}")
    kept = like.header.get_data_dtype()
    slope, intercept = like.scaling
    array = turn_back(volume, like.stored)
    if kept.kind in "iu":
        if damage := not_finite(array, "i, j, k"):
            raise ImageError(f"the volume holds {damage}, which {kept} cannot store; replace them")
        # beyond 2⁵³ float64 no longer tells the integers apart
        limits = max(np.iinfo(kept).min, -(2**53)), min(np.iinfo(kept).max, 2**53)
        array, clipped = to_stored(array, scaling=like.scaling, limits=limits)
        warn_clipped(clipped, array.size)
    else:
        kept = np.dtype(np.float32)
        array = (array - intercept) / slope
    header = _without_words(like.header)
    header.set_data_dtype(kept)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(array.astype(kept), None, header)
    image.header.set_slope_inter(slope, intercept)  # after construction, which clears both
    return image


def _without_words(header: nib.Nifti1Header) -> nib.Nifti1Header:
    """A copy without what may tell who was scanned: its free text, and its extensions."""
    kept = header.copy()
    kept.extensions.clear()
    kept["vox_offset"] = 0  # which has reckoned with the extensions; nibabel sets it
    for name in _WORDS:
        if name in kept:  # NIfTI-2 lacks two
            kept[name] = b""
    return kept


def _from_affine(volume: np.ndarray, affine: np.ndarray | None, known: Known) -> nib.Nifti1Image:
    image = nib.Nifti1Image(volume.transpose(2, 1, 0).astype(np.float32), affine)
    code = "scanner" if known == "place" else "unknown"
    image.set_qform(affine, code=code)
    image.set_sform(affine, code=code)
    image.header.set_xyzt_units("unknown" if known == "nothing" else "mm")
    image.header.set_dim_info(*_ENCODED)
    image.header["intent_name"] = _OURS
    return image


def _says_how_encoded(header: nib.Nifti1Header) -> bool:
    return header["intent_name"].item() == _OURS and header.get_dim_info() == _ENCODED


def _as_stored_order(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `turn_to_acquired`, of an array that is in acquisition order already."""
    return np.ascontiguousarray(array.transpose(2, 1, 0)), affine, orientations.axcodes2ornt(ACQUIRED)
