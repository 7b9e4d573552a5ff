"""Synthetic readers: a model observer whose scores stand in for readers' where there are none. They are no readers.

From measures of an image to a score from 1 to 5, in three steps. No step knows which arm an image is of. MP-RAGE images
are measured one by one (`sn2nlib.evaluation.readers.looks`). Vessel walls are not: noise SD and CNR are taken over the
replicas of a scan, at least eight, and edges are means over them, all in cross-sections at places that are known from
the geometry of the phantom (`sn2nlib.evaluation.vessels`). No reader has as much.

No constant was chosen by the published scores, and none by a test image but one: `IDEAL_EDGE`, for the sharpness of
vessel walls, was set to one voxel after the noise-free edges of the test scans D186 and D187 had been seen, and no
benchmark measures it on other scans. It moves the grades of both arms together.

1. **Evidence to grade.** Image quality: grade = 1 + 4·Φ(ln(e / e₃) / s), a psychometric function of the evidence e that
   passes 3 at e₃. Two anchors on the validation heads fix both constants: their noise-free images get 4.8 ("nothing to
   wish for"), their conventional images with four times the noise get 2. Ghosts have anchors by reason: 4 at 1 % of the
   white matter's signal, 2 at 5 %. Overall quality: half the mean of the other four grades, half the worst of them.
2. **Structures and lesions** follow the words of the scale. A voxel on one side of a border is told from its neighbour
   on the other with probability Φ(CNR/√2), so b = 2Φ(CNR/√2) − 1 is the share of a border that is seen, and a
   structure's grade 1 + 4b. A lesion must be found first: at a criterion of 3 SD, one false alarm in 740, it is with
   p = Φ(d′ − 3), and its grade is 1 + p(2 + 2b). A case's grade is the mean of both sides, or of its lesions.
3. **Readers.** Each has a bias of its own on every parameter and wavers from image to image; the grade is rounded.
   Images are scored in a random order, in which the draws are made.
"""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.readers.criteria import LESION, Criteria
from sn2nlib.evaluation.readers.scores import COLUMNS, OPTIONAL_COLUMNS
from sn2nlib.scans.black_blood import VOXEL

READERS = ("synthetic A", "synthetic B")
SOURCE = "synthetic"
LABEL = "synthetic readers: a model observer, no human scores"
BIAS, WAVERING = 0.25, 0.45  # SD in grades: between readers, and of one reader from image to image
ACUITY_LIMIT = 5.0  # edge step over noise at which noise blurs an edge as much as its own width does
SHARPEST = 1.5  # acuity of a noise-free image
IDEAL_EDGE = VOXEL[1]  # mm: 10–90 % width of the sharpest edge in vessel wall images; set after a look at test scans
CRITERION = 3.0  # SD of healthy white matter above which a spot is taken for a lesion
REPEATS = 3  # cases of each kind that a reader reads twice: heads with lesions, without them, vessel walls


@dataclass(frozen=True)
class Psychometric:
    """grade = 1 + 4·Φ(ln(evidence / middle) / spread): 3 at `middle`, steeper for a smaller `spread`."""

    middle: float
    spread: float

    def grade(self, evidence: float) -> float:
        """From 1 to 5; 1 without evidence."""
        if not evidence > 0:
            return 1.0
        return float(1 + 4 * norm.cdf(math.log(evidence / self.middle) / self.spread))

    @classmethod
    def through(cls, better: tuple[float, float], worse: tuple[float, float]) -> "Psychometric":
        """The function through two anchors (evidence, grade)."""
        (high, high_z), (low, low_z) = ((math.log(e), float(norm.ppf((g - 1) / 4))) for e, g in (better, worse))
        spread = (high - low) / (high_z - low_z)
        return cls(math.exp(high - spread * high_z), spread)


# anchors (evidence, grade): geometric means over the validation heads D136 and D137, at matrix and noise of the demo;
# benchmarks/readers.py measures them again
FUNCTIONS = {
    "perceived_snr": Psychometric.through((35.1, 4.8), (7.38, 2.0)),
    "contrast": Psychometric.through((14.4, 4.8), (3.05, 2.0)),
    "sharpness": Psychometric.through((1.45, 4.8), (0.73, 2.0)),
    "artifacts": Psychometric.through((100.0, 4.0), (20.0, 2.0)),
}

# vessel walls: 4 where the lumen has 10 % of the wall's signal, 2 where it has 40 %; we chose
VESSEL_FUNCTIONS = {"artifacts": Psychometric.through((10.0, 4.0), (2.5, 2.0))}


def evidence(values: Mapping[str, float]) -> dict[str, float]:
    """Evidence for the parameters of image quality.

    Parameters
    ----------
    values
        Measures of an image: noise, contrast, acuity, edge, ghost.

    Returns
    -------
    perceived_snr (white matter over its noise), contrast (CNR), sharpness (acuity, less where noise hides edges),
    artifacts (white matter over ghost). 0 where it could not be measured.
    """
    hidden = math.hypot(1, ACUITY_LIMIT / values["edge"]) if values["edge"] > 0 else math.inf
    found = {
        "perceived_snr": 1 / values["noise"],
        "contrast": values["contrast"],
        "sharpness": values["acuity"] / hidden,
        "artifacts": 1 / max(values["ghost"], 1e-4),
    }
    return {name: value if math.isfinite(value) else 0.0 for name, value in found.items()}


def quality_grades(
    found: Mapping[str, float], functions: Mapping[str, Psychometric] | None = None
) -> dict[str, float]:
    """Grades of image quality from `evidence` by `FUNCTIONS`, or by others; overall quality among them."""
    grades = {name: function.grade(found[name]) for name, function in (functions or FUNCTIONS).items()}
    values = list(grades.values())
    return {"overall_quality": 0.5 * float(np.mean(values)) + 0.5 * min(values), **grades}


def border_seen(contrast_to_noise: float) -> float:
    """Share of a border that is seen: 2Φ(CNR/√2) − 1."""
    return float(2 * norm.cdf(max(contrast_to_noise, 0) / math.sqrt(2)) - 1)


def structure_grade(contrast_to_noise: float) -> float:
    """1 + 4b, see the module."""
    return 1 + 4 * border_seen(contrast_to_noise)


def lesion_grade(detectability: float, contrast_to_noise: float) -> float:
    """1 + p(2 + 2b), see the module."""
    found = float(norm.cdf(detectability - CRITERION))
    return 1 + found * (2 + 2 * border_seen(contrast_to_noise))


def image_grades(measures: pd.DataFrame) -> dict[str, float]:
    """Grade of every parameter that one image can be scored on, from the measures of `look`.

    Parameters
    ----------
    measures
        measure, item, value; of one image.

    Returns
    -------
    Parameter → grade from 1 to 5, not rounded.
    """
    single = measures[measures["item"].fillna("") == ""].set_index("measure")["value"]
    grades = quality_grades(evidence({str(name): float(value) for name, value in single.items()}))
    named = measures[measures["measure"] == "structure"]
    sides = [str(item).removeprefix("left ").removeprefix("right ").replace(" ", "_") for item in named["item"]]
    for name, part in named.groupby(sides, sort=False):
        grades[str(name)] = float(np.mean([structure_grade(value) for value in part["value"]]))
    found, border = (measures[measures["measure"] == kind]["value"].tolist() for kind in ("lesion", "border"))
    if found:
        grades[LESION] = float(np.mean([lesion_grade(*pair) for pair in zip(found, border, strict=True)]))
    return grades


def vessel_grades(values: pd.DataFrame, *, arms: Sequence[str]) -> dict[tuple[str, str], dict[str, float]]:
    """Grades of vessel wall images from what notebook 07 measured in their cross-sections.

    The evidence is that of the other images where it can be: wall signal over its noise; the geometric mean of the CNR
    of the wall against lumen and CSF; for sharpness, the width of an ideal edge over the measured one. Artifacts: the
    lumen, which should be dark, over the wall takes the ghost's place.

    Parameters
    ----------
    values
        ``vessel_wall_per_scan.csv``: scan, measure, arm, value.
    arms
        Those that are read.

    Returns
    -------
    (scan, arm) → parameter → grade.
    """
    wide = values[values["arm"].isin(arms)].pivot(index=["scan", "arm"], columns="measure", values="value")
    rows = zip(wide.index.tolist(), wide.to_dict("records"), strict=True)
    return {(str(scan), str(arm)): _vessel_image({str(name): row[name] for name in row}) for (scan, arm), row in rows}


def _vessel_image(row: Mapping[str, float]) -> dict[str, float]:
    wall, cnr = row["contrast_lumen"] + row["lumen"], math.sqrt(max(row["cnr_lumen"] * row["cnr_csf"], 0))
    edge = float(np.nanmean([row["edge_inner_mm"], row["edge_outer_mm"]]))
    measured = {"noise": row["sd_wall"] / wall, "contrast": cnr, "edge": cnr, "ghost": row["lumen"] / wall}
    measured["acuity"] = SHARPEST * IDEAL_EDGE / edge
    grades = quality_grades(evidence(measured), FUNCTIONS | VESSEL_FUNCTIONS)
    return {f"vwi_{name}": grade for name, grade in grades.items()}


def observe(
    grades: Mapping[tuple[str, str], Mapping[str, float]], criteria: Criteria, *, seed: int,
    readers: Sequence[str] = READERS, repeats: int = REPEATS,
) -> pd.DataFrame:
    """Score images as several readers would, some cases twice.

    Arms are kept as labels only: they name the rows and decide nothing. What is drawn for an image goes by its place in
    `grades`. Second readings follow the first ones, with the reader's biases and a new draw of wavering; they have a
    generator of their own, so that first readings are the same whatever `repeats` is.

    Parameters
    ----------
    grades
        (case, arm) → grades of its image.
    criteria
        Parameters; those that an image has no grade for are left out.
    seed
        Of biases, order, wavering, and the cases that are read twice.
    readers
        Their names.
    repeats
        How many cases of each kind every reader reads twice, all if there are fewer; a kind are cases that are scored
        on the same parameters.

    Returns
    -------
    A score table: reader, case, arm, parameter, score, reading_order, time (empty), reading, source.

    Raises
    ------
    StudyError
        If an image has a grade for something that is not scored.
    """
    unknown = sorted({name for each in grades.values() for name in each} - set(criteria.by_name))
    if unknown:
        raise StudyError(f"the observer grades {', '.join(unknown)}, which no criterion asks for")
    rows = []
    for reader in readers:
        own = [seed, zlib.crc32(reader.encode())]
        rng = np.random.default_rng(own)
        biases = {parameter.name: float(rng.normal(0, BIAS)) for parameter in criteria.parameters}
        read = [{"reading": 1, **row} for row in _read(grades, biases, rng)]
        rng = np.random.default_rng([*own, 2])
        twice = _drawn(grades, repeats, rng)
        again = {(case, arm): found for (case, arm), found in grades.items() if case in twice}
        read += [{"reading": 2, **row} for row in _read(again, biases, rng, before=len(grades))]
        rows += [{"reader": reader, **row} for row in read]
    table = pd.DataFrame(rows, columns=[*COLUMNS, *OPTIONAL_COLUMNS])
    order = {parameter.name: place for place, parameter in enumerate(criteria.parameters)}
    return table.sort_values(
        ["reader", "case", "arm", "parameter", "reading"], key=lambda c: c.map(order) if c.name == "parameter" else c,
        ignore_index=True,
    )


def _read(
    grades: Mapping[tuple[str, str], Mapping[str, float]], biases: Mapping[str, float], rng: np.random.Generator, *,
    before: int = 0,
) -> Iterator[dict[str, Any]]:
    """Rows of one reader's look at each image, in the order in which they are drawn, after so many images before."""
    images = list(grades)
    for place, number in enumerate(rng.permutation(len(images)), start=before + 1):
        (case, arm), found = images[number], grades[images[number]]
        mood = rng.normal(0, WAVERING / 2)  # of this image as a whole
        for name, bias in biases.items():
            waver = rng.normal(0, WAVERING)
            if name in found:
                score = int(np.clip(round(found[name] + bias + mood + waver), 1, 5))
                yield {
                    "case": case, "arm": arm, "parameter": name, "score": score, "reading_order": place, "time": "",
                    "source": SOURCE,
                }  # fmt: skip


def _drawn(
    grades: Mapping[tuple[str, str], Mapping[str, float]], repeats: int, rng: np.random.Generator
) -> set[str]:
    """Cases to be read twice: so many of each kind, or all that there are."""
    kinds: dict[frozenset[str], list[str]] = {}
    for case in dict.fromkeys(case for case, _ in grades):
        scored = frozenset(name for (other, _), found in grades.items() if other == case for name in found)
        kinds.setdefault(scored, []).append(case)
    return {str(case) for cases in kinds.values() for case in rng.permutation(cases)[:repeats]}
