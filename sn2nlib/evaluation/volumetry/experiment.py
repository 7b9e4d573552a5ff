"""The volumetry of a study: every image of every scan, level and arm segmented on its own, then compared.

Segmentations are spread over processes of one thread each and kept as files, named by scan, arm, level and by what made
them: the engine's name, version and settings, and the image itself. A run that was killed goes on with the next image;
another engine or another image never meets old labels.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed, parallel_config

from sn2nlib.errors import ImageError
from sn2nlib.evaluation.volumetry.engine import Segmentation, Segmenter, segment
from sn2nlib.evaluation.volumetry.measures import INSIDE, compare
from sn2nlib.parallel import usable_memory
from sn2nlib.provenance import atomic_write
from sn2nlib.scans import atlas, images

PAIR = ("original", "sN2N")
REFERENCE = "full_sampled"  # segmented once per scan, as is the noise-free image
TRUTH = "truth"  # as an arm: the noise-free image, the ceiling; as a reference: a digital head's own labels
COLUMNS = (
    "scan", "kind", "engine", "version", "note", "reference", "noise_sigma", "arm", "structure", "dice", "volume_ml",
    "reference_ml", "bias_percent", "hd95_mm", "failure",
)  # fmt: skip
_AFTERWARDS = ("__init__", "choice", "elsewhere", "experiment", "measures", "truth")  # sources that make no labels
_LIBRARIES = 1.6e9  # bytes of a process with its libraries and deepbet's network, whose grid is always the same
_PER_VOXEL = 150  # bytes that a segmentation needs besides at its peak
_SHARE = 0.7  # of the memory; the rest is the system's and the notebook's


@dataclass(frozen=True)
class Case:
    """One image to be segmented.

    Attributes
    ----------
    scan
        Name of the participant.
    arm
        "original", "sN2N"; "full_sampled", the reference; "truth", the noise-free image.
    noise_sigma
        Added noise in σ; 0 for the reference and the noise-free image, to which none was added.
    path, member
        The .npz file that holds the image (z, y, x), and its name in there.
    affine : (4, 4) float
        RAS+ mm affine of the image stored as (x, y, z).
    """

    scan: str
    arm: str
    noise_sigma: float
    path: Path
    member: str
    affine: np.ndarray

    @property
    def name(self) -> str:
        """As files are named: `D167_sN2N_0.5`, `D167_full_sampled`."""
        return case_name(self.scan, self.arm, self.noise_sigma)

    def image(self) -> np.ndarray:
        """The image, (z, y, x) float32."""
        with np.load(self.path) as stored:
            return stored[self.member].astype(np.float32)


def case_name(scan: str, arm: str, noise_sigma: float) -> str:
    """How files of an image are named; the reference and the noise-free image have no level."""
    return f"{scan}_{arm}_{noise_sigma:g}" if arm in PAIR else f"{scan}_{arm}"


def scan_cases(scan: str, path: Path, *, levels: Sequence[float], affine: np.ndarray) -> list[Case]:
    """The images of one scan: reference and noise-free image first, then both arms of every level.

    Parameters
    ----------
    scan
        Name of the participant.
    path
        Its .npz of notebook 05, with full_sampled, noise_free and `<arm>_<level>` for every level.
    levels
        Added noise in σ.
    affine
        Of the images stored as (x, y, z).
    """
    members = {REFERENCE: "full_sampled", TRUTH: "noise_free"}
    once = [Case(scan, arm, 0.0, path, member, affine) for arm, member in members.items()]
    noisy = [Case(scan, arm, float(level), path, f"{arm}_{level:g}", affine) for level in levels for arm in PAIR]
    return once + noisy


def identity(segmenter: Segmenter) -> dict[str, Any]:
    """What decides the labels besides the image: name, version, kind and settings of an engine."""
    settings = getattr(segmenter, "settings", None)
    if settings is None:
        settings = {name: value for name, value in sorted(vars(segmenter).items()) if not name.startswith("_")}
    return {
        "name": segmenter.name,
        "version": segmenter.version,
        "kind": segmenter.kind,
        "settings": json.loads(json.dumps(settings, default=str, sort_keys=True)),
    }


def code_digest() -> str:
    """Of the sources that decide labels; a change in what is done with labels leaves them valid."""
    here = Path(__file__).parent
    sources = sorted(path for path in here.glob("*.py") if path.stem not in _AFTERWARDS)
    sources += [Path(str(module.__file__)) for module in (atlas, images)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def image_digest(image: np.ndarray, affine: np.ndarray) -> str:
    """Of an image (z, y, x) and where it lies."""
    content = str(image.shape).encode() + image.tobytes() + np.ascontiguousarray(affine, float).tobytes()
    return hashlib.sha256(content).hexdigest()


def label_file(folder: Path, case: Case, kind: str, segmenter: Segmenter, *, image: str, code: str) -> Path:
    """Where the labels of a case are kept: another image, engine, version, setting or code is another file."""
    key = json.dumps([identity(segmenter), image, code], sort_keys=True)
    return Path(folder) / f"{case.name}_{kind}_{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"


def segment_case(case: Case, segmenter: Segmenter, path: Path) -> tuple[float, str]:
    """Segment one image and keep the labels; older labels of the same case and kind go.

    An image that no engine can take (NaN or Inf, constant) fails like one whose labels are not plausible.

    Returns
    -------
    seconds, failure
    """
    begun, image = time.monotonic(), case.image()
    try:
        made = segment(image, segmenter, affine=case.affine)
    except ImageError as error:
        made = Segmentation(np.zeros(image.shape, np.uint8), dict(segmenter.structures), segmenter.kind,
                            segmenter.name, segmenter.version, str(error), segmenter.note)
    seconds = time.monotonic() - begun
    save_segmentation(made, path, seconds=seconds)
    for other in path.parent.glob(f"{path.stem.rpartition('_')[0]}_{'[0-9a-f]' * 16}.npz"):
        if other != path:
            other.unlink(missing_ok=True)
    return seconds, made.failure


def save_segmentation(made: Segmentation, path: Path, *, seconds: float = 0.0) -> None:
    """Write a segmentation as .npz, whole or not at all."""
    about = {"names": made.names, "kind": made.kind, "engine": made.engine, "version": made.version,
             "failure": made.failure, "note": made.note, "seconds": round(seconds, 1)}
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, labels=made.labels, about=json.dumps(about))


def load_segmentation(path: Path) -> Segmentation:
    """Read what `save_segmentation` wrote."""
    with np.load(path) as stored:
        about = json.loads(str(stored["about"]))
        names = {int(label): name for label, name in about["names"].items()}
        return Segmentation(stored["labels"], names, about["kind"], about["engine"], about["version"],
                            about["failure"], about["note"])


def workers_for_segmenting(voxels: int) -> int:
    """How many images to segment at a time: one per core, as far as memory allows.

    Parameters
    ----------
    voxels
        Of the largest image.
    """
    fitting = _SHARE * usable_memory() / (_LIBRARIES + _PER_VOXEL * voxels)
    return max(1, min(int(fitting), cpu_count()))


def segment_cases(
    cases: Sequence[Case],
    segmenters: Mapping[str, Segmenter],
    folder: Path,
    *,
    workers: int | None = None,
    report: Callable[[str], None] | None = None,
) -> dict[tuple[str, str], Path]:
    """Segment what has not been segmented yet, spread over processes of one thread each.

    Parameters
    ----------
    cases
        From `scan_cases`.
    segmenters
        Kind → engine, from `sn2nlib.evaluation.volumetry.choice.choose_engines`; another engine for a kind stands
        under a name of its own, as "subcortical_second".
    folder
        Where labels are kept.
    workers
        Processes; None: as many as cores and memory allow.
    report
        Takes a line after every image; by default it is printed.

    Returns
    -------
    (case's name, kind) → file, in the order of the cases.
    """
    say, code = report or _print, code_digest()
    Path(folder).mkdir(parents=True, exist_ok=True)
    files: dict[tuple[str, str], Path] = {}
    largest = 0
    for case in cases:
        image = case.image()
        largest, digest = max(largest, image.size), image_digest(image, case.affine)
        for kind, segmenter in segmenters.items():
            files[case.name, kind] = label_file(folder, case, kind, segmenter, image=digest, code=code)
    lacking = {case.name: [kind for kind in segmenters if not files[case.name, kind].is_file()] for case in cases}
    jobs = [case for case in cases if lacking[case.name]]
    n_workers = max(min(workers or workers_for_segmenting(largest), len(jobs)), 1)
    say(f"{len(cases)} images, {len(cases) - len(jobs)} segmented before; {len(jobs)} by {n_workers} process(es)")
    begun = time.monotonic()
    # one job per image: the engines of a process share its brain mask and bias field
    with parallel_config("loky", n_jobs=n_workers, inner_max_num_threads=1):
        results = Parallel(return_as="generator_unordered")(
            delayed(_segment)(case, [(kind, segmenters[kind], files[case.name, kind]) for kind in lacking[case.name]])
            for case in jobs
        )
        for done, (name, outcomes) in enumerate(results, start=1):
            left = (time.monotonic() - begun) / done * (len(jobs) - done) / 60
            say(f"{done}/{len(jobs)} {name}: {'; '.join(outcomes)}; about {left:.1f} min left")
    return files


def scan_rows(
    scan: str,
    files: Mapping[tuple[str, str], Path],
    *,
    kinds: Iterable[str],
    levels: Sequence[float],
    voxel_size: tuple[float, float, float],
    truth: Mapping[str, np.ndarray] | None = None,
) -> list[dict[str, Any]]:
    """Every comparison of one scan.

    Parameters
    ----------
    scan
        Name of the participant.
    files
        From `segment_cases`.
    kinds
        "tissue", "subcortical", and further engines by the names they have in `files`.
    levels
        Added noise in σ.
    voxel_size
        (z, y, x) in mm.
    truth
        "tissue", "subcortical" → true labels (z, y, x), for digital heads.

    Returns
    -------
    Rows of `COLUMNS`: reference is full_sampled, truth or, of tissues, truth_in_mask; structure to hd95_mm are those of
    `compare`. A failed image, or one whose reference failed, has rows without numbers. The noise-free image (arm
    "truth", against full_sampled) and the fully sampled one (against the truth) are repeated at every level.
    """

    def made(arm: str, level: float, kind: str) -> Segmentation:
        return load_segmentation(files[case_name(scan, arm, level), kind])

    rows: list[dict[str, Any]] = []
    for kind in kinds:
        reference = made(REFERENCE, 0, kind)
        against: list[tuple[str, np.ndarray, str]] = [(REFERENCE, reference.labels, _of_reference(reference.failure))]
        if truth is not None:
            against.append((TRUTH, truth[reference.kind], ""))
        if truth is not None and reference.kind == "tissue":
            against.append((INSIDE, truth["tissue"], ""))
        for name, labels, unusable in against:
            options: dict[str, Any] = {"voxel_size": voxel_size, "surfaces": name == REFERENCE}
            options["inside"] = name == INSIDE
            constant = TRUTH if name == REFERENCE else REFERENCE
            repeated = {}
            if (case_name(scan, constant, 0), kind) in files:
                repeated = {constant: _measured(made(constant, 0, kind), labels, unusable, **options)}
            for level in levels:
                compared = {arm: _measured(made(arm, level, kind), labels, unusable, **options) for arm in PAIR}
                for arm, found in (compared | repeated).items():
                    where = {"scan": scan, "kind": kind, "reference": name, "noise_sigma": float(level), "arm": arm}
                    rows += [where | row for row in found]
    return rows


def all_rows(jobs: Sequence[Mapping[str, Any]], *, workers: int | None = None) -> pd.DataFrame:
    """`scan_rows` of every scan, spread over processes; `jobs` are its keyword arguments."""
    n_workers = max(min(workers or cpu_count(), len(jobs)), 1)
    with parallel_config("loky", n_jobs=n_workers, inner_max_num_threads=1):
        found = Parallel()(delayed(scan_rows)(**job) for job in jobs)
    return pd.DataFrame([row for rows in found for row in rows], columns=list(COLUMNS))


def _segment(case: Case, jobs: Sequence[tuple[str, Segmenter, Path]]) -> tuple[str, list[str]]:
    outcomes = []
    for kind, segmenter, path in jobs:
        seconds, failure = segment_case(case, segmenter, path)
        outcomes.append(f"{kind} {seconds:.0f} s, {f'failed: {failure}' if failure else 'plausible'}")
    return case.name, outcomes


def _measured(
    made: Segmentation, labels: np.ndarray, unusable: str, *, inside: bool, **options: Any
) -> list[dict[str, Any]]:
    failure = made.failure or unusable
    about = {"engine": made.engine, "version": made.version, "note": made.note, "failure": failure}
    if failure:
        return [about | {"structure": name} for name in made.names.values()]
    if inside:
        labels = np.where(made.labels > 0, labels, 0)
    return [about | row for row in compare(made.labels, labels, made.names, **options)]


def _of_reference(failure: str) -> str:
    return f"its reference: {failure}" if failure else ""


def _print(line: str) -> None:
    print(line, flush=True)
