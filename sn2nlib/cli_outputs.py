"""Outputs: names that are refused before anything is computed for them, and what is told of how they are made."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from sn2nlib import denoiser
from sn2nlib.errors import ChoiceError
from sn2nlib.provenance import check_absent

SCAN = ("a scan file", (".h5",))
TABLE = ("a table", (".csv",))
IMAGE = ("an image", (".nii", ".nii.gz"))
BART = ("a file for BART", (".cfl", ".hdr", ".json"))
ISMRMRD = ("an ISMRMRD file", (".h5", ".mrd", ".hdf5"))
_ROUNDING = 0.06  # of a voxel size, to a field of view of whole voxels of the head


def check_new(
    path: Path, kind: tuple[str, Sequence[str]] | None = None, *, overwrite: bool = False,
    source: Path | Sequence[Path | None] | None = None,
) -> None:  # fmt: skip
    """Raise unless a file or folder may be written; no folder is made for it, since its name may be mistyped.

    Parameters
    ----------
    path
    kind
        What it will be if it is a file, and how the names of such files end; None: a folder.
    overwrite
        Whether it may exist.
    source
        Inputs of the command: it must be none of them, nor a file that is there in a folder that is one.

    Raises
    ------
    FileExistsError
        If it exists, or is an input, or lies in one.
    IsADirectoryError
        If it is a folder where a file is to be written, which nothing replaces.
    FileNotFoundError
        If its folder does not exist, or its name ends as no such file's does.
    PermissionError
        If its folder cannot be written to.
    """
    inputs = [source] if isinstance(source, Path) else [each for each in source or () if each is not None]
    for each in inputs:
        if _resolved(path) == _resolved(each):
            raise FileExistsError(f"{path} is the input, which is never replaced; choose another name")
        if path.exists() and _resolved(each) in _resolved(path).parents:
            raise FileExistsError(f"{path} lies in the folder {_resolved(each)}, which is the input, and none of its "
                                  "files is replaced; choose another name")  # fmt: skip
    if kind is not None and not path.name.endswith(tuple(kind[1])):
        raise FileNotFoundError(f"{path}: the name of {kind[0]} ends in {' or '.join(kind[1])}")
    if not _resolved(path).parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} for {path.name}; make it first, or mend its name")
    if not os.access(_resolved(path).parent, os.W_OK):
        raise PermissionError(f"the folder {path.parent} cannot be written to; choose another one for {path.name}")
    if kind is not None and path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, where {kind[0]} is to be written; choose another name")
    check_absent(path, overwrite=overwrite)


def _resolved(path: Path) -> Path:
    """Without symbolic links; of those that lead to themselves, in words later, while `Path.resolve` raises."""
    return Path(os.path.realpath(path))


def check_folder(path: Path, *, overwrite: bool = True) -> None:
    """Raise unless a folder may be written, or, with `overwrite`, written to if it is there.

    Raises
    ------
    FileExistsError
        If it is a file, or exists.
    FileNotFoundError
        If its own folder does not exist.
    PermissionError
        If it cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file, where a folder is to be written; choose another name")
    check_new(path, overwrite=overwrite)
    if path.is_dir() and not os.access(path, os.W_OK):
        raise PermissionError(f"the folder {path} cannot be written to; choose another one")


def told_planes(axis: str | None, shape: Sequence[int], voxel_size: tuple[float, float, float]) -> str:
    """The planes that the network slides over, printed; arguments as for `denoiser.settled_planes`."""
    planes = denoiser.settled_planes(axis, voxel_size=voxel_size, shape=shape)
    why = "chosen from the geometry; --axis chooses others" if axis is None else "as asked"
    print("Planes: " + ("the partitions, as in training" if planes == denoiser.PARTITIONS else f"{planes}, {why}"))
    return planes


def tell_alpha(network: "denoiser.Denoiser", alpha: float | None) -> None:
    """Print how much of the original stays in what a `Denoiser` makes, and who chose so: `--alpha`, model or paper."""
    own = "the model's own" if network.alpha is not None else "the paper's, since none was chosen for the model"
    print(f"α = {network.settled_alpha(alpha):g}, {own if alpha is None else 'as asked'}")


def tell_repetition(image: Path, pairing: str, repetition: int | None) -> None:
    """Print of which repetition an image is made, where two of them are the halves; None: of the first."""
    if pairing == "repetitions":
        first = "the first repetition" if repetition is None else f"repetition {repetition}"
        print(f"{image} is made of {first} alone, as half A; half B is made of the other one")


def warn_of_filling(method: str, estimator: str, *, maps: bool) -> None:
    """Say so where a side of k-space was to be filled: if there was none, and if a map describes another image.

    Parameters
    ----------
    method
        Of filling, as asked for.
    estimator
        `ScanImages.noise_estimator`.
    maps
        Whether noise maps or g-factors are written.
    """
    if method == "pocs" and maps and "POCS" in estimator:
        warnings.warn(
            "the noise map is that of zero filling: POCS has more noise, in the head 1.5 to 1.7 times as much where it "
            "was measured; --partial-fourier homodyne has a map of its own",
            stacklevel=2,
        )
    if method != "zero" and estimator.startswith("zero filling") and "POCS" not in estimator:
        warnings.warn(
            f"no side of k-space was left out, so that --partial-fourier {method} filled nothing and changed nothing",
            stacklevel=2,
        )


def check_filtered(raw_filter: float, g_factor: Path | None) -> None:
    """Raise ChoiceError if a g-factor is asked for of filtered images, whose noise is lower for another reason."""
    if raw_filter and g_factor is not None:
        raise ChoiceError(
            "the g-factor is that of a reconstruction without --raw-filter, which lowers the noise for another reason; "
            "ask for --noise-map, or for the g-factor in a run of its own"
        )


def warn_of_another_grid(asked: Sequence[Sequence[float]], made: Sequence[Sequence[float]]) -> None:
    """Say so when a simulated scan has another matrix or voxel size, (z, y, x) each, than was asked for."""
    (matrix, sizes), (own_matrix, own_sizes) = asked, made
    near = all(abs(own / size - 1) <= _ROUNDING for size, own in zip(sizes, own_sizes, strict=True))
    if tuple(matrix) == tuple(own_matrix) and near:
        return
    wanted, got = (
        f"{' × '.join(f'{n:g}' for n in grid)} at {' × '.join(f'{size:.3g}' for size in voxels)} mm"
        for grid, voxels in (asked, made)
    )
    warnings.warn(
        f"{wanted} (z, y, x) was asked for, {got} is made: a scan holds the whole head, and has no voxels finer than "
        "the head's image",
        stacklevel=2,
    )


def warn_of_no_effect(alpha: float) -> None:
    """Say so when the chosen α makes the model's images those that it is given."""
    if round(alpha, 2) == 1:
        warnings.warn(
            "with α = 1 the model changes nothing: on the validation scans its output is no better than the original; "
            "more --steps or more scans may mend it",
            stacklevel=2,
        )


def warn_of_denoising(path: Path, denoised: bool, filtered: bool = False, part: str = "") -> None:
    """Say so when an image that is to be denoised says that it is none that networks are for.

    Parameters
    ----------
    path
    denoised, filtered
        Whether it was denoised, or reconstructed with a raw filter.
    part
        Which other part of a scan it is: `images.Geometry.part`.
    """
    if part == "half image":
        warnings.warn(
            f"{path} is a half image, made of half of what was acquired; denoise the whole image, which sn2n recon "
            "wrote beside it",
            stacklevel=2,
        )
    elif part:
        warnings.warn(
            f"{path} is a {part}, which holds no noise to take away; denoise the image that sn2n recon wrote with it",
            stacklevel=2,
        )
    if filtered:
        warnings.warn(
            f"{path} was reconstructed with a raw filter, which correlates the noise of neighbours; networks learn "
            "from images without: denoise one that sn2n recon made without --raw-filter",
            stacklevel=2,
        )
    if denoised:
        warnings.warn(
            f"{path} was denoised by this package already; the network expects the noise of an original image, and "
            "takes away what it believes to be noise once more",
            stacklevel=2,
        )
