"""FSL's route without FSL: stand-ins in `$FSLDIR/bin` that write real label files, and one test of the real thing."""

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sn2nlib.errors import SegmentationError
from sn2nlib.evaluation.volumetry.engine import SUBCORTICAL, TISSUES
from sn2nlib.evaluation.volumetry.fsl import Fast, First, fsl_lacks
from sn2nlib.scans.heads import digital_head

PROGRAMS = ("fslreorient2std", "bet", "fast", "run_first_all")
# one program under four names: it notes how it was called, and writes what the real one would. NIfTI by hand, since
# importing a library for it would take most of the test's time.
STAND_IN = '''#!{python}
import gzip, json, os, sys
from pathlib import Path
import numpy as np

program, arguments, home = Path(sys.argv[0]).name, sys.argv[1:], Path(sys.argv[0]).parents[1]
assert os.environ["FSLOUTPUTTYPE"] == "NIFTI_GZ"
with open(home / "calls.jsonl", "a") as log:
    log.write(json.dumps([program, *arguments]) + "\\n")
behaviour = json.loads((home / "behaviour.json").read_text())
if behaviour.get("fails") == program:
    print("image is not what I like", file=sys.stderr)
    sys.exit(3)

def read(path):
    raw = gzip.open(path).read()
    shape, affine = np.frombuffer(raw, "<i2", 3, 42), np.eye(4)
    affine[:3] = np.frombuffer(raw, "<f4", 12, 280).reshape(3, 4)
    return np.frombuffer(raw, "<f4", offset=352).reshape(shape, order="F"), affine

def write(values, affine, base):
    header = np.zeros(352, np.uint8)
    for kind, place, content in (
        ("<i4", 0, [348]), ("<i2", 40, [3, *values.shape, 1, 1, 1, 1]), ("<i2", 70, [16, 32]), ("<i2", 254, [1]),
        ("<f4", 76, [1, *np.linalg.norm(affine[:3, :3], axis=0), 0, 0, 0, 0]), ("<f4", 108, [352, 1, 0]),
        ("<f4", 280, affine[:3].ravel()), ("u1", 344, list(b"n+1")),
    ):
        part = np.array(content, kind).view(np.uint8)
        header[place : place + len(part)] = part
    if behaviour.get("silent") != program:
        with gzip.open(base + ".nii.gz", "wb", 1) as file:
            file.write(header.tobytes() + values.astype("<f4").tobytes("F"))

if program == "fslreorient2std":
    values, affine = read(arguments[0])
    order = [int(np.abs(affine[axis, :3]).argmax()) for axis in range(3)]
    values, affine = values.transpose(order), affine[:, [*order, 3]]
    for axis, sign in enumerate((-1, 1, 1)):  # to the left, anterior, superior
        if np.sign(affine[axis, axis]) != sign:
            affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
            affine[:3, axis] *= -1
            values = np.flip(values, axis)
    write(values, affine, arguments[1])
elif program == "bet":
    values, affine = read(arguments[0])
    write(np.where(values < 1, 0, values), affine, arguments[1])
elif program == "fast":
    base = arguments[0].removeprefix("--out=")
    values, affine = read(arguments[-1])  # dark to bright: 1 CSF, 2 GM, 3 WM
    write(np.digitize(values, [50, 150, 250]) + behaviour.get("offset", 0), affine, base + "_pveseg")
    write(np.zeros(values.shape), affine, base + "_seg")
else:
    values, affine = read(arguments[1])
    write(np.rint(values - 1000).clip(0), affine, arguments[3] + "_all_fast_firstseg")
    write(np.zeros(values.shape), affine, arguments[3] + "_all_fast_origsegs")
'''


@pytest.fixture
def fsl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for FSL's folder."""
    home = tmp_path / "fsl home"
    (home / "bin").mkdir(parents=True)
    (home / "etc").mkdir()
    (home / "etc" / "fslversion").write_text("6.0.7.4:2f1c3b\n")
    (home / "behaviour.json").write_text("{}")
    for name in PROGRAMS:
        path = home / "bin" / name
        path.write_text(STAND_IN.replace("{python}", sys.executable))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("FSLDIR", str(home))
    monkeypatch.delenv("FSLOUTPUTTYPE", raising=False)
    return home


def calls(home: Path) -> list[list[str]]:
    """How the programs were called; paths without their folder."""
    lines = (home / "calls.jsonl").read_text().splitlines()
    return [[part.rpartition("/")[2] if "=" not in part else part.partition("=")[0] + "=" + part.rpartition("/")[2]
             for part in json.loads(line)] for line in lines]


def tissue_image(labels: np.ndarray) -> np.ndarray:
    """Dark CSF, grey GM, bright WM."""
    return np.array([0, 100, 200, 300], np.float32)[labels]


def some_labels(numbers: list[int], shape: tuple[int, int, int] = (9, 11, 12)) -> np.ndarray:
    """Random labels without any symmetry."""
    return np.random.default_rng(3).choice(np.array(numbers, np.uint8), shape)


def affine(*axes: int, size: tuple[float, float, float] = (1.5, 1.2, 1.0)) -> np.ndarray:
    """Affine whose array axes x, y, z run along the RAS axes named (1 to 3, negative: backwards)."""
    made = np.eye(4)
    made[:3, :3] = 0
    for column, axis in enumerate(axes):
        made[abs(axis) - 1, column] = np.sign(axis) * size[column]
    made[:3, 3] = (-8, 5, 3)
    return made


def test_fast_is_called_as_it_is_normally_run(fsl: Path) -> None:
    labels = some_labels([0, 1, 2, 3])
    Fast()(tissue_image(labels), affine(3, 2, 1))
    assert calls(fsl) == [
        ["fslreorient2std", "image.nii.gz", "reoriented"],
        ["bet", "reoriented.nii.gz", "brain"],
        ["fast", "--out=fast", "-t", "1", "-n", "3", "brain.nii.gz"],
    ]


def test_first_is_called_on_the_whole_head(fsl: Path) -> None:
    First()(some_labels([0, *SUBCORTICAL]).astype(np.float32) + 1000, affine(3, 2, 1))
    assert calls(fsl) == [
        ["fslreorient2std", "image.nii.gz", "reoriented"],
        ["run_first_all", "-i", "reoriented.nii.gz", "-o", "first"],
    ]


@pytest.mark.parametrize("axes", [(-3, 2, -1), (2, -1, 3), (1, 2, 3)])
def test_labels_come_back_on_the_image_s_own_axes(fsl: Path, axes: tuple[int, ...]) -> None:
    labels = some_labels([0, 1, 2, 3])
    image = tissue_image(labels)
    before = image.copy()
    found = Fast()(image, affine(*axes))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_array_equal(image, before)
    assert "FSLOUTPUTTYPE" not in os.environ


def test_first_s_numbers_are_ours(fsl: Path) -> None:
    labels = some_labels([0, *SUBCORTICAL])
    engine = First()
    np.testing.assert_array_equal(engine(labels.astype(np.float32) + 1000, affine(-1, 2, 3)), labels)
    assert engine.structures[10] == "left thalamus" and engine.structures[58] == "right accumbens"
    assert len(engine.structures) == 15
    assert Fast().structures == TISSUES == {1: "CSF", 2: "GM", 3: "WM"}


def test_the_version_is_fsl_s(fsl: Path) -> None:
    assert Fast().version == First().version == "6.0.7.4"
    assert (Fast().name, First().name, Fast().note) == ("FSL FAST", "FSL FIRST", "")
    (fsl / "etc" / "fslversion").unlink()
    assert Fast().version == "of unknown version"


def test_without_fsl_the_sentence_says_what_to_do(fsl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fsl / "bin" / "bet").unlink()
    with pytest.raises(SegmentationError, match=r"bin lacks the FSL program bet; install FSL and set FSLDIR"):
        Fast()
    assert First().version == "6.0.7.4"  # needs no bet
    monkeypatch.setenv("PATH", f"{fsl / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("FSLDIR")
    assert fsl_lacks().startswith("FSL is not installed")  # being on the PATH does not help
    with pytest.raises(SegmentationError, match="FSL is not installed, or FSLDIR does not say where"):
        First()


@pytest.mark.parametrize(
    ("behaviour", "engine", "message"),
    [
        ({"fails": "bet"}, Fast, r"^the FSL program bet failed with code 3: image is not what I like$"),
        ({"fails": "run_first_all"}, First, r"run_first_all failed with code 3: image is not"),
        ({"silent": "run_first_all"}, First, r"run_first_all ended without writing first_all_fast_firstseg"),
        ({"silent": "fast"}, Fast, r"the FSL program fast ended without writing fast_pveseg"),
        ({"offset": 1}, Fast, r"the label map of FSL FAST holds labels that nobody knows: \[4\]"),
    ],
)
def test_a_failing_program_is_a_sentence(
    fsl: Path, behaviour: dict[str, object], engine: Callable[[], Fast], message: str
) -> None:
    (fsl / "behaviour.json").write_text(json.dumps(behaviour))
    with pytest.raises(SegmentationError, match=message):
        engine()(tissue_image(some_labels([0, 1, 2, 3])), affine(3, 2, 1))


def test_a_program_that_vanished_is_a_sentence(fsl: Path) -> None:
    engine = Fast()
    (fsl / "bin" / "bet").unlink()
    with pytest.raises(SegmentationError, match=r"bet could not be run: .*bet not found"):
        engine(tissue_image(some_labels([0, 1, 2, 3])), affine(3, 2, 1))


def test_nothing_stays_in_the_temporary_folder(
    fsl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    Fast()(tissue_image(some_labels([0, 1, 2, 3])), affine(3, 2, 1))
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.fsl
@pytest.mark.skipif(bool(fsl_lacks()), reason=fsl_lacks() or "FSL is there")
def test_the_real_fsl() -> None:
    head = digital_head(1, matrix=(90, 110, 110), voxel_size=(2, 2, 2))
    assert head.tissue is not None and head.structures is not None
    found = Fast()(head.signal(), head.affine)
    for label in TISSUES:
        overlap = np.count_nonzero((found == label) & (head.tissue == label))
        assert 2 * overlap / (np.count_nonzero(found == label) + np.count_nonzero(head.tissue == label)) > 0.6
    assert set(np.unique(First()(head.signal(), head.affine))) <= {0, *SUBCORTICAL}
