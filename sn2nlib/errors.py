"""What can go wrong, by room. Every message says what is wrong, where, and what to do."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Sn2nError(ValueError):
    """Base of all errors that the package raises about its input."""


class ScanError(Sn2nError):
    """A scan file or its arrays do not fit the axis contract."""


class LargeScanError(ScanError):
    """A raw file's k-space takes more memory than it may; as a scan file it could be worked on."""


class ChoiceError(ScanError):
    """A reading option asks for what a raw file does not hold, or contradicts what it says."""


class SamplingError(Sn2nError):
    """A sampling mask contradicts the acceleration, or cannot be split."""


class CalibrationError(Sn2nError):
    """The calibration lines cannot determine a GRAPPA kernel."""


class ImageError(Sn2nError):
    """A NIfTI or an image array cannot be used."""


class ManifestError(Sn2nError):
    """`data_manifest/` contradicts itself; the message lists every bad row."""


class ScoreError(Sn2nError):
    """A table of readers' scores contradicts itself or the criteria; the message lists every bad row."""


class ProfileError(Sn2nError):
    """A study profile has an unknown key or a value out of range."""


class CheckpointError(Sn2nError):
    """A model folder is incomplete, damaged, or of another architecture."""


class StudyError(Sn2nError):
    """A notebook of the study failed or was called with unknown parameters."""


class SegmentationError(Sn2nError):
    """A segmentation engine is not installed, a step of it failed, or its own gate refuses the result."""


class ReadingError(Sn2nError):
    """A study to be read, a reading room, its score log or its key cannot be used."""


class Stopped(KeyboardInterrupt):
    """Ctrl+C ended work that can go on: the message says where it was, and what is kept.

    Parameters
    ----------
    message
        Follows "was stopped".
    replaced
        Whether what --overwrite replaces is gone already: then going on does without, since it would begin anew.
    """

    def __init__(self, message: str, *, replaced: bool = False) -> None:
        super().__init__(message)
        self.replaced = replaced


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever goes wrong with a file, and every warning of this package about it, is told with its name, once."""
    path = Path(path)
    with warnings.catch_warnings():  # which restores showwarning, and shows again what was shown of another file
        show = warnings.showwarning

        def named(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            known = f"{path}: ", f"{path} ", f"{path.name}: "
            own = category is UserWarning and not str(message).startswith(known)
            show(UserWarning(f"{path.name}: {message}") if own else message, category, *place, **options)

        warnings.showwarning = named
        try:
            yield
        except Sn2nError as error:
            if str(error).startswith(f"{path}: "):
                raise
            raise type(error)(f"{path}: {error}") from error
