"""Fine structures and lesions: where they belong, with their own T1, and nothing else changed."""

from pathlib import Path

import numpy as np
import pytest

from sn2nlib.errors import ManifestError
from sn2nlib.scans.details import Details, FineStructure, Lesion, Part, load_lesions, load_structures
from sn2nlib.scans.heads import Head, digital_head
from sn2nlib.scans.manifest import load_participants

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifest"
MIDDLE = {"matrix": (30, 36, 36), "voxel_size": (4.0, 4.0, 4.0), "age": 50, "sex": "M"}
LESIONS = (Lesion(5.0, 1.0), Lesion(4.0, 0.3))


@pytest.fixture(scope="module")
def plain() -> Head:
    return digital_head(3, **MIDDLE)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def detailed() -> Head:
    details = Details(load_structures(MANIFEST), LESIONS, seed=3)
    return digital_head(3, details=details, **MIDDLE)  # type: ignore[arg-type]


def region(head: Head, title: str) -> np.ndarray:
    assert head.placed is not None
    titles = [structure.title for structure in head.placed.structures]
    return np.asarray(head.placed.regions == titles.index(title) + 1)


def centre(head: Head, title: str) -> np.ndarray:
    """RAS mm of a structure's middle."""
    middle = np.argwhere(region(head, title)).mean(axis=0)
    return head.affine[:3, :3] @ middle[::-1] + head.affine[:3, 3]


def test_all_else_is_the_same_head_bit_by_bit(plain: Head, detailed: Head) -> None:
    assert plain.placed is None and detailed.placed is not None
    touched = np.any([where for where, *_ in detailed.placed.values], axis=0)
    assert 0 < touched.mean() < 0.01
    for name in ("t1", "pd", "t2_star", "tissue"):
        before, after = getattr(plain, name), getattr(detailed, name)
        np.testing.assert_array_equal(before[~touched], after[~touched], err_msg=name)
    assert detailed.t1 is not None and plain.t1 is not None
    assert not np.array_equal(plain.t1[touched], detailed.t1[touched])


def test_every_structure_is_there_on_its_own_side(detailed: Head) -> None:
    assert detailed.placed is not None and detailed.tissue is not None
    names = {structure.name for structure in detailed.placed.structures}
    assert len(names) == 8 and len(detailed.placed.structures) == 15  # one is in the midline
    voxel = float(np.prod(detailed.voxel_size))
    for structure in detailed.placed.structures:
        inside = region(detailed, structure.title)
        assert 20 < inside.sum() * voxel < 6000, structure.title
        assert np.isin(detailed.tissue[inside], (2, 3)).all(), structure.title
        right = centre(detailed, structure.title)[0]
        assert {"right": right > 2, "left": right < -2, "": abs(right) < 8}[structure.side], structure.title
    # along the body's axes, as in any brain
    for side in ("left", "right"):
        nigra, claustrum, tract, nuclei, cortex = (
            centre(detailed, f"{side} {name}") for name in
            ("substantia nigra", "claustrum", "mammillothalamic tract", "anterior thalamic nuclei", "entorhinal cortex")
        )  # fmt: skip
        assert abs(claustrum[0]) > abs(nigra[0]) and claustrum[1] > nigra[1]
        assert nuclei[2] > tract[2] > nigra[2] > cortex[2]


def test_what_is_inserted_has_its_own_t1(detailed: Head) -> None:
    assert detailed.placed is not None and detailed.t1 is not None and detailed.pd is not None
    for title in ("left claustrum", "right substantia nigra", "periaqueductal gray", "left mammillothalamic tract"):
        [structure] = [each for each in detailed.placed.structures if each.title == title]
        inside = region(detailed, title)
        assert np.median(detailed.t1[inside]) == pytest.approx(structure.t1, rel=0.2), title
        assert np.median(detailed.pd[inside]) == pytest.approx(structure.pd, rel=0.2), title


def test_lesions_have_the_size_and_contrast_that_were_asked_for(plain: Head, detailed: Head) -> None:
    assert detailed.placed is not None and detailed.t1 is not None and plain.t1 is not None
    voxel, ratios = float(np.prod(detailed.voxel_size)), []
    for number, lesion in enumerate(LESIONS, start=1):
        inside = detailed.placed.lesions == number
        assert inside.sum() * voxel == pytest.approx(4 / 3 * np.pi * lesion.radius**3, rel=0.6)
        ratios.append(np.median(detailed.t1[inside]) / np.median(plain.t1[inside]))
    assert ratios[0] > 1.5 and 1.05 < ratios[1] < ratios[0]
    assert detailed.lesions is not None and detailed.lesions[detailed.placed.lesions > 0].all()


def test_a_part_is_an_ellipsoid_swept_along_a_line() -> None:
    rod = Part((0, 0, 0), (0, 10, 0), (2, 1, 3))
    x, y, z = (np.array(values, np.float32) for values in zip(
        (1.9, 5, 0), (2.1, 5, 0), (0, -0.9, 0), (0, 11.1, 0), (0, 5, 2.9), (0, 5, 3.1), (1.5, 5, 2.5), strict=True
    ))  # fmt: skip
    assert rod.holds((x, y, z)).tolist() == [True, False, True, False, True, False, False]
    ball = Part((1, 2, 3), (1, 2, 3), (2, 2, 2))
    assert ball.holds([np.array([value]) for value in (1.0, 2.0, 4.9)]).all()


def test_the_lists_fit_the_participants() -> None:
    people = load_participants(MANIFEST)
    patients = people[people["condition"] != "no relevant abnormal lesions"]
    expected = set(patients.loc[patients["set"] == "qualitative", "participant"])
    assert set(load_lesions(MANIFEST)) == expected and len(expected) == 7  # as in the paper


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("claustrum,each", "claustrum,both"), "line 8, 9, 10"),
        (("gm,1350", "gm,"), "t1 and pd are needed"),
        (("structure,side", "name,side"), "the columns must be"),
        (("0.85,1.5,7.5", "0.85,-1.5,7.5"), "radii above 0"),
    ],
)
def test_a_bad_list_is_refused(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    (tmp_path / "readers").mkdir()
    text = (MANIFEST / "readers" / "regions.csv").read_text(encoding="utf-8")
    assert change[0] in text
    (tmp_path / "readers" / "regions.csv").write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(ManifestError, match=complaint):
        load_structures(tmp_path)


def test_a_structure_without_room_is_empty() -> None:
    grid = [np.full((2, 2, 2), 50.0)] * 3
    code = np.zeros((2, 2, 2), np.uint8)
    part = Part((0, 0, 0), (0, 0, 0), (1, 1, 1))
    details = Details((FineStructure("claustrum", "left", "inserted", ("air",), "brain", "air", 1000, 0.1, (part,)),))
    placed = details.place(
        grid, (1, 1, 1), code, code, codes={"air": 0, "wm": 1, "lesion": 2}, atlas={},
        materials={"wm": (850, 0.7, 1, 1), "lesion": (1500, 0.9, 1, 1)},
    )  # fmt: skip
    assert not placed.regions.any() and len(placed.structures) == 1
