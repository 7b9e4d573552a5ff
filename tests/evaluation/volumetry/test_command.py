"""Command templates: what a file may hold, how the program is called, whose structure each of its labels is."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from sn2nlib.errors import ProfileError, SegmentationError
from sn2nlib.evaluation.volumetry.command import CommandSegmenter, Template, _words, load_template
from sn2nlib.evaluation.volumetry.engine import SUBCORTICAL, TISSUES

AFFINE = np.array([[0, 0, 2.0, -8], [0, 1.5, 0, 5], [1.0, 0, 0, 3], [0, 0, 0, 1]])  # x up, y anterior, z right
TISSUE_TABLE = {"CSF": [4, 14, 24], "GM": [3, 42], "WM": 2}
# copies what it is given, or a coarser version of it, as a program that works at its own resolution
PROGRAM = """
import json, sys
from pathlib import Path
import nibabel as nib
import numpy as np

here = Path(__file__).parent
(here / "called.json").write_text(json.dumps(sys.argv[1:]))
source, target, mode = sys.argv[1:4]
if mode == "fail":
    sys.exit("no licence found")
image = nib.load(source)
values, affine = np.rint(image.get_fdata()).astype(np.int16), image.affine
if mode == "fine":
    values, affine = np.repeat(values, 2, 0), affine @ np.diag([0.5, 1, 1, 1])
    affine[:3, 3] -= 0.5 * affine[:3, 0]
if mode == "elsewhere":
    affine = affine + np.array([[0, 0, 0, 500.0]] + 3 * [[0, 0, 0, 0]])
if mode == "halves":
    values = values + 0.5
if mode != "silent":
    nib.save(nib.Nifti1Image(values, affine), target)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "my program.py"
    path.write_text(PROGRAM)
    return path


def template(program: Path, mode: str = "copy", **changes: Any) -> dict[str, Any]:
    command = f"'{sys.executable}' '{program}' {{input}} {{output}} {mode}"
    return {"name": "Mine", "version": "2.0", "command": command, "tissue": TISSUE_TABLE, **changes}


def written(folder: Path, content: Any) -> Path:
    path = folder / "template.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def codes(shape: tuple[int, int, int] = (6, 8, 9)) -> np.ndarray:
    """An image whose values are the labels that the program will give."""
    return np.random.default_rng(0).choice(np.array([0, 2, 3, 4, 14, 24, 42, 99], np.float32), shape)


def ours(image: np.ndarray) -> np.ndarray:
    table = {2: 3, 3: 2, 42: 2, 4: 1, 14: 1, 24: 1}
    return np.vectorize(lambda code: table.get(int(code), 0))(image).astype(np.uint8)


def test_labels_are_translated_and_others_are_background(tmp_path: Path, program: Path) -> None:
    engine = CommandSegmenter(load_template(written(tmp_path, template(program, note="trial"))), "tissue")
    image = codes()
    labels = engine(image, AFFINE)
    np.testing.assert_array_equal(labels, ours(image))
    assert labels.dtype == np.uint8
    assert (engine.name, engine.version, engine.kind, engine.note) == ("Mine", "2.0", "tissue", "trial")
    assert engine.structures == TISSUES
    called = json.loads((tmp_path / "called.json").read_text())
    assert [Path(part).name for part in called] == ["image.nii.gz", "labels.nii.gz", "copy"]
    assert not Path(called[0]).parent.exists()


def test_another_grid_takes_the_nearest_voxel(program: Path) -> None:
    image = codes()
    engine = CommandSegmenter(Template(**template(program, "fine")), "tissue")
    np.testing.assert_array_equal(engine(image, AFFINE), ours(image))


def test_a_program_that_writes_into_a_folder(program: Path) -> None:
    command = f"'{sys.executable}' '{program}' {{input}} {{folder}}/seg.mgz copy; rm -rf $HOME"
    engine = CommandSegmenter(Template(**template(program, command=command, result="{folder}/seg.mgz")), "tissue")
    image = codes()
    np.testing.assert_array_equal(engine(image, AFFINE), ours(image))
    # no shell: what looks like a second command is an argument
    assert json.loads((program.parent / "called.json").read_text())[2:] == ["copy;", "rm", "-rf", "$HOME"]


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("fail", "Mine failed with code 1: no licence found"),
        ("silent", r"Mine ended without writing \{output\}"),
        ("elsewhere", "the label map of Mine lies beside the image; its affine belongs to another scan"),
        ("halves", r"labels\.nii\.gz of Mine holds values that are no whole numbers"),
    ],
)
def test_failures_are_sentences(program: Path, mode: str, message: str) -> None:
    engine = CommandSegmenter(Template(**template(program, mode)), "tissue")
    with pytest.raises(SegmentationError, match=message):
        engine(codes(), AFFINE)


def test_a_program_that_hangs_is_ended_with_what_it_started(program: Path) -> None:
    command = "sh -c 'sleep 60 & sleep 60; echo {input} {output}'"
    engine = CommandSegmenter(Template(**template(program, command=command, minutes=0.01)), "tissue")
    begun = time.monotonic()
    with pytest.raises(SegmentationError, match=r"Mine did not end within 0\.01 min"):
        engine(codes(), AFFINE)
    assert time.monotonic() - begun < 20
    with pytest.raises(ValueError, match="greater than 0"):
        Template(**template(program, minutes=0))


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(SegmentationError, match=r"the program mri_nowhere of the template Mine is not installed"):
        CommandSegmenter(Template(**template(Path("x"), command="mri_nowhere {input} {output}")), "tissue")


def test_both_kinds_in_one_template(program: Path) -> None:
    both = Template(**template(program, subcortical={name: label for label, name in SUBCORTICAL.items()}))
    assert both.kinds == ["tissue", "subcortical"]
    engine = CommandSegmenter(both, "subcortical")
    image = np.random.default_rng(1).choice(np.array([0, 3, *SUBCORTICAL], np.float32), (6, 8, 9))
    np.testing.assert_array_equal(engine(image, AFFINE), np.where(image == 3, 0, image))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tissue": {}}, "needs a table of labels, tissue or subcortical"),
        ({"tissue": {"GM": 1, "WM": 2, "fat": 3}}, r"tissue needs exactly .* missing: CSF, unknown: fat"),
        ({"tissue": {"CSF": 1, "GM": [2, 1], "WM": 3}}, "tissue: a label stands there twice, or is below 1"),
        ({"command": "run {output}"}, r"needs the places \{input\}, and \{output\} or \{folder\}"),
        ({"command": "run {input} {output} {threads}"}, "has a place that is none of"),
        ({"result": "{other}"}, "has a place that is none of"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"version": 2}, "version: Input should be a valid string"),
    ],
)
def test_faults_of_a_template_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = written(tmp_path, template(Path("p"), **changes))
    with pytest.raises(ProfileError, match=rf"template\.yaml: .*{message}"):
        load_template(path)


def test_files_that_are_no_template(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"there is no command template .*nowhere\.yaml"):
        load_template(tmp_path / "nowhere.yaml")
    (tmp_path / "broken.yaml").write_text("name: [")
    with pytest.raises(ProfileError, match="not a YAML file"):
        load_template(tmp_path / "broken.yaml")
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "image.nii.gz")
    with pytest.raises(ProfileError, match="not a YAML file"):
        load_template(tmp_path / "image.nii.gz")


def test_a_backslash_belongs_to_a_path_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as on_windows:
        on_windows.setattr("os.name", "nt")
        split = _words(r'"C:\Program Files\seg.exe" --in {input} D:\labels')
    assert split == [r"C:\Program Files\seg.exe", "--in", "{input}", r"D:\labels"]
