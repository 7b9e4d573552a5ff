"""What is wrong with a study.yaml is one sentence: what, where, and what may stand there."""

import re
from pathlib import Path

import pytest

from sn2nlib.errors import ReadingError
from sn2nlib.evaluation.readers.criteria import Criteria
from sn2nlib.evaluation.readers.studies import STUDY, load_study

GOOD = """readers: [reader1, reader2]
repeats: 1
parameters: [contrast, hippocampus]
cases:
  - case: P01
    images: {original: a.nii, sN2N: b.nii}
    marks: [{name: left hippocampus, position: [-28, -20, -14], radius: 9, parameter: hippocampus}]
  - case: P02
    images: {original: a.nii, sN2N: b.nii}
"""
LIST = "must be a list, as [a, b] or as lines that begin with -, got"
NO_STUDY = "it needs `readers: [reader1, reader2]` and a list of `cases:`, see the README under Readers"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.nii", "b.nii"):
        (tmp_path / name).touch()
    return tmp_path


def read(folder: Path, content: bytes, criteria: Criteria) -> str:
    """What is said about a file, from its name on."""
    (folder / STUDY).write_bytes(content)
    with pytest.raises(ReadingError) as raised:
        load_study(folder, criteria)
    return str(raised.value).removeprefix(str(folder / STUDY)).removeprefix(":").strip()


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "with the mark of Windows editors"])
def test_a_good_one_is_read(folder: Path, criteria: Criteria, start: bytes) -> None:
    (folder / STUDY).write_bytes(start + GOOD.replace("\n", "\r\n").encode())
    study = load_study(folder, criteria)
    assert study.readers == ("reader1", "reader2") and study.cases[0].marks[0].position == (-28, -20, -14)


def test_that_of_the_readme_is_one(folder: Path, criteria: Criteria) -> None:
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    content = readme.split("```yaml\n")[1].split("```")[0]
    (folder / STUDY).write_text(content, encoding="utf-8")
    for name in re.findall(r"\w+\.nii\.gz", content):
        (folder / name).touch()
    study = load_study(folder, criteria)
    assert len(study.cases) == 2 and "hippocampus" in study.cases[0].parameters and study.repeats == 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("readers: [reader1, reader2]\n", "", "readers is missing"),
        ("    images: {original: a.nii, sN2N: b.nii}\n    marks", "    marks", "cases, entry 1: images is missing"),
        ("[reader1, reader2]", "[]", "readers is empty; fill it in"),
        ("[reader1, reader2]", "reader1, reader2", f"readers {LIST} 'reader1, reader2'"),
        ("[reader1, reader2]", "[reader1, 2]", "readers: entry 2 must be text, got 2; put it in quotes"),
        ("[contrast, hippocampus]", "", f"parameters {LIST} nothing"),
        ("repeats: 1", "repeats: two", "repeats must be a whole number, got 'two'"),
        ("repeats: 1", "repeats: 0.5", "repeats must be a whole number, got 0.5"),
        ("repeats: 1", "repeats: [1]", "repeats must be a whole number, got a list"),
        ("repeats: 1", "repeats: -1", "repeats must be 0 or more, got -1"),
        ("repeats:", "repeat:", "repeat is unknown; it may be readers, cases, parameters, repeats"),
        ("case: P02", "case: 2", "cases, entry 2: case must be text, got 2; put it in quotes"),
        ("case: P02", "case: ''", "cases, entry 2: case is empty; fill it in"),
        ("{original: a.nii, sN2N: b.nii}\n    marks", "a.nii\n    marks",
         "cases, entry 1: images must name a file for each arm, as in {original: FILE, sN2N: FILE}, got 'a.nii'"),
        ("radius: 9", "radius: 0", "cases, entry 1, marks, entry 1: radius must be above 0, got 0"),
        ("radius: 9", "radius: 9 mm", "cases, entry 1, marks, entry 1: radius must be a number, got '9 mm'"),
        ("radius", "raduis",
         "cases, entry 1, marks, entry 1: raduis is unknown; it may be name, position, radius, parameter"),
        ("  - case: P02\n    images: {original: a.nii, sN2N: b.nii}", "  - P02",
         "cases: entry 2 must have the keys case, images, parameters, marks, got 'P02'"),
        ("repeats: 1", "1: repeats", "1 is wrong: Keys should be strings"),
    ],
)  # fmt: skip
def test_a_wrong_key_or_value_is_one_sentence(
    folder: Path, criteria: Criteria, old: str, new: str, told: str
) -> None:
    assert GOOD.count(old) == 1
    assert read(folder, GOOD.replace(old, new).encode(), criteria) == told


@pytest.mark.parametrize("wrong", ["[-28, -20]", "[-28, -20, 1, 2]", "[-28, -20, x]", "[a, b, c]", "left"])
def test_a_position_is_three_numbers(folder: Path, criteria: Criteria, wrong: str) -> None:
    told = "cases, entry 1, marks, entry 1: position must be three numbers, as in [-28, -20, -14]"
    assert read(folder, GOOD.replace("[-28, -20, -14]", wrong).encode(), criteria) == told
    missing = read(folder, GOOD.replace("position: [-28, -20, -14], ", "").encode(), criteria)
    assert missing == "cases, entry 1, marks, entry 1: position is missing"


def test_several_faults_are_a_list(folder: Path, criteria: Criteria) -> None:
    wrong = GOOD.replace("[reader1, reader2]", "[1, 2]").replace("repeats: 1", "repeats: x")
    told = read(folder, wrong.encode(), criteria)
    assert [line.split()[0] for line in told.splitlines()] == ["3", "readers:", "readers:", "repeats"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", f"is empty; {NO_STUDY}"),
        ("# readers: [a]\n", f"is empty; {NO_STUDY}"),
        ("- case: P01\n", f"is a list; {NO_STUDY}"),
        ("readers:[a]", f"is 'readers:[a]'; {NO_STUDY}"),
        (GOOD.replace("repeats: ", "repeats:\t"),
         ", line 2, column 9: a tab; indent with spaces, and put a space after a colon"),
        (GOOD.replace("    marks", "\tmarks"),
         ", line 7, column 1: a tab; indent with spaces, and put a space after a colon"),
        (GOOD.replace("    marks", "     marks"),
         ", line 7, column 6: a line that is not indented like its neighbours"),
        (GOOD.replace("P01", "P01: a"),
         ", line 5, column 14: a colon too many, or a line that is not indented like its neighbours"),
        (GOOD.replace("  - case: P02", " - case: P02"),
         ", line 8, column 2: a line that is not indented like its neighbours"),
        (GOOD.replace("repeats: ", "repeats:"), ", line 2, column 1: a key needs a colon and a space after it"),
        (GOOD.replace("reader2]", "reader2"), ", line 1, column 10: a bracket or quotation mark that is not closed"),
        ("readers: [", ", line 1, column 11: a bracket or quotation mark that is not closed"),
        (GOOD.replace("P01", "'P01"), ", line 5, column 11: a bracket or quotation mark that is not closed"),
        ("readers: \"C:\\data\"", ", line 1, column 14: a backslash in double quotes; write / between folders"),
        ("readers: %", ", line 1, column 10: not YAML (found character '%' that cannot start any token)"),
        ("\0", "holds what is not text; write it anew in a text editor"),
    ],
)  # fmt: skip
def test_what_is_no_study_is_told_with_its_place(folder: Path, criteria: Criteria, content: str, told: str) -> None:
    assert read(folder, content.encode(), criteria) == told


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_told(folder: Path, criteria: Criteria, encoding: str) -> None:
    content = GOOD.replace("left hippocampus", "hippocampe supérieur").encode(encoding)
    assert read(folder, content, criteria) == "is not text in UTF-8; let an editor save it in this encoding"
