"""Segmentations made elsewhere: the study's images out as NIfTI, label maps in, named alike.

    images    <scan>_<arm>_<level>.nii.gz           D167_sN2N_0.5.nii.gz, D167_full_sampled.nii.gz
    labels    <scan>_<arm>_<level>_<kind>.nii.gz    D167_sN2N_0.5_tissue.nii.gz, D167_full_sampled_subcortical.nii.gz
    engines   engines.yaml                          {tissue: {name: …, version: …}, subcortical: {…}}

Tissue maps hold 1 CSF, 2 GM, 3 WM; subcortical maps the numbers of FreeSurfer and FSL FIRST; 0 is everything else.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, RootModel

from sn2nlib.errors import SegmentationError
from sn2nlib.evaluation.volumetry.checked_yaml import read_yaml
from sn2nlib.evaluation.volumetry.engine import SUBCORTICAL, TISSUES, Segmentation, judge
from sn2nlib.evaluation.volumetry.experiment import TRUTH, Case, save_segmentation
from sn2nlib.evaluation.volumetry.grids import read_labels
from sn2nlib.scans.images import write_image

_KINDS = {"tissue": TISSUES, "subcortical": SUBCORTICAL}
_SHOWN = 5  # missing files that a message names


class _Engine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    note: str = ""


class _Engines(RootModel[dict[Literal["tissue", "subcortical"], _Engine]]):
    pass


def export_images(cases: Sequence[Case], folder: Path) -> list[Path]:
    """Write every image as NIfTI, to be segmented elsewhere. Returns the files.

    Raises
    ------
    FileExistsError
        If one of them exists.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{case.name}.nii.gz" for case in cases]
    for case, path in zip(cases, paths, strict=True):
        write_image(case.image(), path, affine=case.affine)
    return paths


def from_folder(folder: Path, cases: Sequence[Case], into: Path) -> dict[tuple[str, str], Path]:
    """Take label maps that were made elsewhere as if an engine of ours had made them.

    They pass the same gates; maps on another grid take the nearest voxel.

    Parameters
    ----------
    folder
        Label maps and `engines.yaml`, named as above.
    cases
        The images they belong to, from `sn2nlib.evaluation.volumetry.experiment.scan_cases`. Maps of the noise-free
        images (arm truth) may be missing: then there is no ceiling.
    into
        Where the segmentations are kept.

    Returns
    -------
    (case's name, kind) → file, as `segment_cases` returns.

    Raises
    ------
    SegmentationError
        If `engines.yaml` or maps are missing, or a map cannot be used at all.
    """
    folder, files = Path(folder), {}
    engines = _read_engines(folder / "engines.yaml")
    maps = {(case.name, kind): folder / f"{case.name}_{kind}.nii.gz" for case in cases for kind in engines}
    optional = {case.name for case in cases if case.arm == TRUTH}
    missing = [path.name for (name, _), path in maps.items() if name not in optional and not path.is_file()]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise SegmentationError(f"{folder} lacks {', '.join(missing[:_SHOWN])}{more}")
    for case in cases:
        shape = case.image().shape
        for kind, engine in engines.items():
            if maps[case.name, kind].is_file():
                path = into / f"{case.name}_{kind}_elsewhere.npz"
                save_segmentation(_adopted(maps[case.name, kind], case, shape, kind, engine), path)
                files[case.name, kind] = path
    return files


def _adopted(path: Path, case: Case, shape: tuple[int, ...], kind: str, engine: _Engine) -> Segmentation:
    structures = _KINDS[kind]
    table = {label: label for label in structures}
    labels: np.ndarray = read_labels(path, shape=shape, affine=case.affine, table=table, by=engine.name)
    failure = judge(labels, structures, affine=case.affine)
    return Segmentation(labels, dict(structures), kind, engine.name, engine.version, failure, engine.note)


def _read_engines(path: Path) -> dict[str, _Engine]:
    missing = f"{path} is missing: it names the engine and the version of each kind"
    found = read_yaml(path, _Engines, missing=missing, raised=SegmentationError).root
    if not found:
        raise SegmentationError(f"{path} names no engine; it needs tissue, subcortical or both")
    return {str(kind): engine for kind, engine in found.items()}
