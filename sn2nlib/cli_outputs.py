"""Names of outputs, refused before anything is computed for them."""

from collections.abc import Sequence
from pathlib import Path

SCAN = ("a scan file", (".h5",))
TABLE = ("a table", (".csv",))
IMAGE = ("an image", (".nii", ".nii.gz"))
ISMRMRD = ("an ISMRMRD file", (".h5", ".mrd", ".hdf5"))


def check_new(
    path: Path, kind: tuple[str, Sequence[str]] | None = None, *, overwrite: bool = False, source: Path | None = None
) -> None:
    """Whether a file or folder may be written; no folder is made for it, since its name may be mistyped.

    Parameters
    ----------
    path
    kind
        What it will be, and how the names of such files end.
    overwrite
        Whether it may exist.
    source
        The input of the command, which it must not be.

    Raises
    ------
    FileExistsError
        If it exists, or is the input.
    FileNotFoundError
        If its folder does not exist.
    """
    if source is not None and path.resolve() == source.resolve():
        raise FileExistsError(f"{path} is the input, which is never replaced; choose another name")
    if kind is not None and not path.name.endswith(tuple(kind[1])):
        raise FileNotFoundError(f"{path}: the name of {kind[0]} ends in {' or '.join(kind[1])}")
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} for {path.name}; make it first, or mend its name")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name or add --overwrite")
