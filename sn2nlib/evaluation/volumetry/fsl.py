"""FSL's FAST and FIRST, run as they are normally run, through the wrappers of fslpy.

    FAST    fslreorient2std, bet, fast -t 1 -n 3       hard labels `_pveseg`: 1 CSF, 2 GM, 3 WM (dark to bright on T1)
    FIRST   fslreorient2std, run_first_all             15 structures with FreeSurfer's numbers, from the whole head

fslpy looks for the programs in `$FSLDIR/bin` alone, never on the PATH.

References
----------
Zhang Y, Brady M, Smith S. IEEE Trans Med Imaging 2001;20:45-57. Smith SM. Hum Brain Mapp 2002;17:143-155.
Patenaude B, Smith SM, Kennedy DN, Jenkinson M. NeuroImage 2011;56:907-922.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sn2nlib.errors import SegmentationError
from sn2nlib.evaluation.volumetry.engine import SUBCORTICAL, TISSUES, last_line
from sn2nlib.evaluation.volumetry.grids import read_labels
from sn2nlib.scans.images import write_image

_FAST_PROGRAMS = ("fslreorient2std", "bet", "fast")
_FIRST_PROGRAMS = ("fslreorient2std", "run_first_all")


class Fast:
    """GM, WM and CSF by FSL FAST, after FSL BET.

    Raises
    ------
    SegmentationError
        If FSL or fslpy is not installed.
    """

    name = "FSL FAST"
    kind = "tissue"
    note = ""

    def __init__(self) -> None:
        self.version = _installed(_FAST_PROGRAMS)
        self.structures = dict(TISSUES)

    def __call__(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Labels (z, y, x) uint8 of an image (z, y, x); see `sn2nlib.evaluation.volumetry.engine.Segmenter`."""
        with _reoriented(image, affine) as (folder, reoriented):
            brain, base = folder / "brain", folder / "fast"
            _run("bet", str(reoriented), str(brain))
            _run("fast", str(_output(brain, "bet")), out=str(base), t=1, n=3)
            path = _output(folder / "fast_pveseg", "fast")
            return read_labels(path, shape=image.shape, affine=affine, table=_same(self.structures), by="FSL FAST")


class First:
    """The 15 subcortical structures by FSL FIRST.

    Raises
    ------
    SegmentationError
        If FSL or fslpy is not installed.
    """

    name = "FSL FIRST"
    kind = "subcortical"
    note = ""

    def __init__(self) -> None:
        self.version = _installed(_FIRST_PROGRAMS)
        self.structures = dict(SUBCORTICAL)

    def __call__(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Labels (z, y, x) uint8 of an image (z, y, x); see `sn2nlib.evaluation.volumetry.engine.Segmenter`."""
        with _reoriented(image, affine) as (folder, reoriented):
            _run("run_first_all", str(reoriented), str(folder / "first"))
            path = _output(folder / "first_all_fast_firstseg", "run_first_all")
            return read_labels(path, shape=image.shape, affine=affine, table=_same(self.structures), by="FSL FIRST")


def fsl_lacks(programs: tuple[str, ...] = (*_FAST_PROGRAMS, *_FIRST_PROGRAMS)) -> str:
    """What is missing to run FSL's programs, in words; empty if nothing is."""
    folder = os.environ.get("FSLDIR")
    if not folder:
        return "FSL is not installed, or FSLDIR does not say where"
    absent = [name for name in dict.fromkeys(programs) if not os.access(Path(folder, "bin", name), os.X_OK)]
    return f"{Path(folder, 'bin')} lacks the FSL program {', '.join(absent)}" if absent else ""


def _same(structures: dict[int, str]) -> dict[int, int]:
    return {label: label for label in structures}


def _installed(programs: tuple[str, ...]) -> str:
    """Version of FSL, whose programs are all there."""
    lacking = fsl_lacks(programs)
    if lacking:
        raise SegmentationError(f"{lacking}; install FSL and set FSLDIR, or choose the built-in engines")
    _wrappers()
    stamp = Path(os.environ["FSLDIR"], "etc", "fslversion")
    # "6.0.7.4:hash" in newer releases
    return stamp.read_text(encoding="utf-8").strip().split(":")[0] if stamp.is_file() else "of unknown version"


def _wrappers() -> Any:
    try:
        from fsl import wrappers  # slow to load, and an extra
    except ImportError as error:
        raise SegmentationError(
            "FSL is run through fslpy, which is not installed; run pip install -c constraints.txt -e '.[volumetry]'"
        ) from error
    return wrappers


@contextmanager
def _reoriented(image: np.ndarray, affine: np.ndarray) -> Iterator[tuple[Path, Path]]:
    """A folder that vanishes afterwards, and the image in it, in FSL's standard orientation."""
    with tempfile.TemporaryDirectory(prefix="sn2n-fsl-") as name, _written_as_nifti_gz():
        folder = Path(name)
        write_image(image, folder / "image.nii.gz", affine=affine)
        _run("fslreorient2std", str(folder / "image.nii.gz"), str(folder / "reoriented"))
        yield folder, _output(folder / "reoriented", "fslreorient2std")


@contextmanager
def _written_as_nifti_gz() -> Iterator[None]:
    """FSL refuses to write where FSLOUTPUTTYPE is not set; the user's own choice is put back."""
    before = os.environ.get("FSLOUTPUTTYPE")
    os.environ["FSLOUTPUTTYPE"] = "NIFTI_GZ"
    try:
        yield
    finally:
        if before is None:
            del os.environ["FSLOUTPUTTYPE"]
        else:
            os.environ["FSLOUTPUTTYPE"] = before


def _run(program: str, *arguments: str, **options: Any) -> None:
    wrapper = getattr(_wrappers(), program)
    try:
        # fslpy keeps what its runner returns, all of it, under this name
        said, complaint, code = wrapper(*arguments, exitcode=True, log={"tee": False}, **options).stdout
    except (OSError, RuntimeError) as error:
        raise SegmentationError(f"the FSL program {program} could not be run: {error}") from error
    if code != 0:
        raise SegmentationError(f"the FSL program {program} failed with code {code}: {last_line(said, complaint)}")


def _output(base: Path, program: str) -> Path:
    """The image that a program was to write under a name without ending; some end well without writing it."""
    for ending in (".nii.gz", ".nii"):
        path = base.with_name(base.name + ending)
        if path.is_file():
            return path
    raise SegmentationError(f"the FSL program {program} ended without writing {base.name}; try it by hand")
