"""Reading rooms: what is drawn by the seed, what the room must not tell, and what is refused."""

import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from sn2nlib.errors import ImageError, ReadingError
from sn2nlib.evaluation.readers.criteria import ARMS, load_criteria
from sn2nlib.evaluation.readers.demo import make_demo_study
from sn2nlib.evaluation.readers.rooms import prepare_room, unblind
from sn2nlib.evaluation.readers.scores import read_scores, write_scores
from sn2nlib.evaluation.readers.session import Session, image_path, load_plan, open_image
from sn2nlib.scans.images import read_image, write_image

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def folder(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A room and its key."""
    folder = tmp_path_factory.mktemp("rooms")
    prepare_room(images, folder / "room", key=folder / "key.json", seed=3)
    return folder


def key_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "key.json").read_text(encoding="utf-8")))


def test_images_are_those_of_the_study(folder: Path, images: Path) -> None:
    tokens = key_of(folder)["images"]
    assert {(told["case"], told["arm"]) for told in tokens.values()} == {
        (f"D0{number}", arm) for number in range(1, 6) for arm in ARMS
    }
    for token, told in tokens.items():
        volume, affine = open_image(folder / "room", token)
        expected, geometry = read_image(images / f"{told['case']}_{told['arm']}.nii")
        np.testing.assert_array_equal(volume, expected)
        np.testing.assert_allclose(affine, geometry.affine)


def test_the_room_does_not_tell_the_arm(folder: Path) -> None:
    room = folder / "room"
    files = [path for path in room.rglob("*") if path.is_file()]
    for path in files:
        content = path.read_bytes() + str(path.relative_to(room)).encode()
        assert [arm for arm in ARMS if arm.lower().encode() in content.lower()] == []
        assert b"D01" not in content, "nor the case"
    assert os.name != "posix" or (folder / "key.json").stat().st_mode & 0o077 == 0, "others may read the key"
    images = [path.stat() for path in (room / "images").iterdir()]
    assert len({(found.st_size, found.st_mtime_ns) for found in images}) == 1
    headers = {nib.load(path).header.binaryblock for path in (room / "images").iterdir()}
    assert len(headers) == 1, "headers differ between images"


def test_images_are_written_in_an_order_that_tells_nothing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system numbers files as they are made, so that `ls -i` lists them in this order."""
    written: list[str] = []
    save = nib.save

    def note(image: nib.Nifti1Image, path: Path) -> None:
        written.append(path.stem)
        save(image, path)

    monkeypatch.setattr("sn2nlib.evaluation.readers.rooms.nib.save", note)
    prepare_room(images, tmp_path / "room", key=tmp_path / "key.json", seed=3)
    assert written == sorted(written) and set(written) == set(key_of(tmp_path)["images"])
    numbered = sorted((tmp_path / "room" / "images").iterdir(), key=lambda path: path.stat().st_ino)
    told = [key_of(tmp_path)["images"][path.stem] for path in numbered]
    assert [image["arm"] for image in told[::2]] != [ARMS[0]] * 5, "the original always first"
    assert any(one["case"] != two["case"] for one, two in zip(told[::2], told[1::2], strict=True)), "case by case"


def test_every_reader_has_an_own_order_with_balanced_sides(folder: Path) -> None:
    plan, key = load_plan(folder / "room"), key_of(folder)
    orders = []
    for reader in ("reader1", "reader2"):
        readings = plan.readings[reader]
        told = [key["readings"][reading.token] for reading in readings]
        orders.append([entry["case"] for entry in told])
        assert [entry["order"] for entry in told] == list(range(1, 8))
        assert {entry["reader"] for entry in told} == {reader}
        count = Counter(entry["case"] for entry in told)
        assert sorted(count.values()) == [1, 1, 1, 2, 2]
        for case, times in count.items():
            places = [(entry["order"], entry["reading"]) for entry in told if entry["case"] == case]
            assert [reading for _, reading in places] == list(range(1, times + 1))
            assert times == 1 or places[1][0] - places[0][0] > 1, "read again at once"
        left = Counter(key["images"][reading.left]["arm"] for reading in readings)
        assert sorted(left.values()) == [3, 4]
        for reading, entry in zip(readings, told, strict=True):
            shown = [key["images"][image] for image in (reading.left, reading.right)]
            assert {image["arm"] for image in shown} == set(ARMS)
            assert {image["case"] for image in shown} == {entry["case"]}
    assert orders[0] != orders[1]
    assert len({reading.token for readings in plan.readings.values() for reading in readings}) == 14


def test_the_arm_is_on_either_side_in_the_long_run(tmp_path: Path) -> None:
    """Neither the side nor the alphabetical order of the tokens predicts the arm."""
    small = make_demo_study(tmp_path / "study", n_cases=4, repeats=0, matrix=(4, 4, 4), voxel_size=(40.0, 40.0, 40.0))
    left_is_original, first_is_original = [], []
    for seed in range(40):
        plan = prepare_room(small, tmp_path / f"room{seed}", key=tmp_path / f"key{seed}.json", seed=seed)
        images = json.loads((tmp_path / f"key{seed}.json").read_text(encoding="utf-8"))["images"]
        readings = plan.readings["reader1"]
        left_is_original.append(images[readings[0].left]["arm"] == ARMS[0])
        first_is_original += [images[case.images[0]]["arm"] == ARMS[0] for case in plan.cases.values()]
        assert sum(images[reading.left]["arm"] == ARMS[0] for reading in readings) == 2
    assert 10 < sum(left_is_original) < 30
    assert 55 < sum(first_is_original) < 105


@pytest.mark.parametrize(("n_cases", "repeats"), [(2, 1), (3, 1), (4, 2)])
def test_as_many_repeats_as_can_be_never_follow_at_once(
    images: Path, tmp_path: Path, n_cases: int, repeats: int
) -> None:
    def change(told: dict[str, Any]) -> None:
        told.update(repeats=repeats, cases=told["cases"][:n_cases], readers=[f"r{number}" for number in range(20)])

    room = tmp_path / "room"
    plan = prepare_room(changed(images, tmp_path, change), room, key=tmp_path / "key.json", seed=0)
    for readings in plan.readings.values():
        cases = [reading.case for reading in readings]
        assert len(cases) == n_cases + repeats and len(set(cases)) == n_cases
        assert all(one != two for one, two in itertools.pairwise(cases))


def test_the_seed_decides(images: Path, folder: Path, tmp_path: Path) -> None:
    again = prepare_room(images, tmp_path / "again", key=tmp_path / "again.json", seed=3)
    other = prepare_room(images, tmp_path / "other", key=tmp_path / "other.json", seed=4)
    assert again == load_plan(folder / "room") != other
    assert key_of(folder) == json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    assert key_of(folder)["seed"] == 3 and "seed" not in again.model_dump_json()


def test_scores_go_into_a_table(images: Path, tmp_path: Path) -> None:
    room, key = tmp_path / "room", tmp_path / "key.json"
    prepare_room(images, room, key=key, seed=1)
    with pytest.raises(ReadingError, match="nobody has scored"):
        unblind(room, key)
    typed = {}
    for reader in ("reader1", "reader2"):
        session = Session(room, reader)
        rng = np.random.default_rng(len(typed))
        for number, reading in enumerate(session.readings):
            session.go_to_reading(number)
            for name in session.case.parameters:
                for image in (reading.left, reading.right):
                    typed[reader, reading.token, image, name] = score = int(rng.integers(1, 6))
                    session.give(score)
    table, missing = unblind(room, key)
    assert missing == {"reader1": 0, "reader2": 0}
    write_scores(table, tmp_path / "scores.csv")
    table = read_scores(tmp_path / "scores.csv", criteria=load_criteria())
    told = key_of(tmp_path)
    expected = {
        (reader, told["images"][image]["case"], told["images"][image]["arm"], name, told["readings"][token]["reading"]):
        score for (reader, token, image, name), score in typed.items()
    }  # fmt: skip
    keys = zip(*(table[name] for name in ("reader", "case", "arm", "parameter", "reading")), strict=True)
    assert dict(zip(keys, table["score"], strict=True)) == expected
    assert len(table) == len(expected) == 2 * 7 * 2 * 2
    assert table.groupby("reader")["time"].is_monotonic_increasing.all()


def changed(images: Path, tmp_path: Path, change: Change) -> Path:
    """A copy of the study with another ``study.yaml``."""
    copy = tmp_path / "study"
    shutil.copytree(images, copy)
    content = yaml.safe_load((copy / "study.yaml").read_text(encoding="utf-8"))
    change(content)
    (copy / "study.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return copy


MISTAKES: dict[str, tuple[Change, str]] = {
    "missing arm": (lambda told: told["cases"][1]["images"].pop("sN2N"), r"case D02: no image of the arm 'sN2N'"),
    "unknown arm": (lambda told: told["cases"][1]["images"].update(best="D01_sN2N.nii"), r"unknown arm 'best'"),
    "no file": (lambda told: told["cases"][0]["images"].update(original="no.nii"), r"there is no image .*no\.nii"),
    "unknown parameter": (lambda told: told.update(parameters=["beauty"]), r"case D01: unknown parameter .* 'beauty'"),
    "no parameter": (lambda told: told.update(parameters=[]), r"case D05: no parameters, neither here nor"),
    "case twice": (lambda told: told["cases"].append(told["cases"][0]), r"case 'D01' stands there twice"),
    "reader twice": (lambda told: told.update(readers=["a1", "a1"]), r"reader 'a1' is named twice"),
    "reader's name": (lambda told: told.update(readers=["../a"]), r"reader '\.\./a': a name has letters"),
    "too many repeats": (lambda told: told.update(repeats=3), r"repeats: 3 of 5 case\(s\); at most half"),
    "repeat at once": (
        lambda told: told.update(repeats=1, cases=told["cases"][:1]), r"repeats: 1 of 1 case\(s\); at most half"
    ),
    "arm in a mark": (lambda told: told["cases"][0]["marks"][0].update(name="as in sn2n"), r"would see the arm 'sN2N'"),
    "arm in a name": (lambda told: told.update(readers=["original"]), r"would see the arm 'original' in 'original'"),
    "mark of nothing": (lambda told: told["cases"][0]["marks"][0].update(parameter="contrast"), r"not scored here"),
    "unknown key": (lambda told: told.update(arms=["a"]), r"arms is unknown; it may be readers"),
    "radius": (lambda told: told["cases"][0]["marks"][0].update(radius=-1), r"marks, entry 1: radius must be above"),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_in_the_study_are_told(images: Path, tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(ReadingError, match=message):
        prepare_room(changed(images, tmp_path, change), tmp_path / "room", key=tmp_path / "key.json", seed=0)
    assert {path.name for path in tmp_path.iterdir()} == {"study"}


def test_all_mistakes_are_told_at_once(images: Path, tmp_path: Path) -> None:
    def change(told: dict[str, Any]) -> None:
        for mistake in ("missing arm", "reader's name", "too many repeats", "unknown parameter"):
            MISTAKES[mistake][0](told)

    with pytest.raises(ReadingError) as raised:
        prepare_room(changed(images, tmp_path, change), tmp_path / "room", key=tmp_path / "key.json", seed=0)
    # an unknown parameter is one of every case, and the marks then belong to what is not scored
    assert str(raised.value).splitlines()[0].endswith("study.yaml: 18 problem(s)")


def replace_image(path: Path, change: Callable[[np.ndarray], np.ndarray], *, shift: float = 0) -> None:
    volume, geometry = read_image(path)
    affine = geometry.affine.copy()
    affine[0, 3] += shift
    write_image(change(volume), path, affine=affine, overwrite=True)


@pytest.mark.parametrize(
    ("change", "shift", "message"),
    [
        (lambda volume: volume[1:], 0, r"case D03: its images have different shapes .*original .*19, 24, 18"),
        (lambda volume: volume, 2, r"case D03: its images lie in different places"),
    ],
    ids=["shape", "place"],
)
def test_images_of_a_case_must_fit(
    images: Path, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], shift: float, message: str
) -> None:
    copy = changed(images, tmp_path, lambda told: None)
    replace_image(copy / "D03_original.nii", change, shift=shift)
    with pytest.raises(ImageError, match=message):
        prepare_room(copy, tmp_path / "room", key=tmp_path / "key.json", seed=0)
    assert {path.name for path in tmp_path.iterdir()} == {"study"}


def test_an_affine_that_differs_by_rounding_does_not_tell(images: Path, tmp_path: Path) -> None:
    copy = changed(images, tmp_path, lambda told: None)
    replace_image(copy / "D03_sN2N.nii", lambda volume: volume, shift=5e-4)
    prepare_room(copy, tmp_path / "room", key=tmp_path / "key.json", seed=0)
    assert len({nib.load(path).header.binaryblock for path in (tmp_path / "room" / "images").iterdir()}) == 1


def test_images_of_another_scale_are_doubtful(images: Path, tmp_path: Path) -> None:
    copy = changed(images, tmp_path, lambda told: None)
    replace_image(copy / "D02_sN2N.nii", lambda volume: 2 * volume)
    with pytest.warns(UserWarning, match=r"case D02: its images differ in scale .*original 0\.\d+, sN2N"):
        prepare_room(copy, tmp_path / "room", key=tmp_path / "key.json", seed=0)


def test_the_same_image_twice_is_refused(images: Path, tmp_path: Path) -> None:
    copy = changed(images, tmp_path, lambda told: told["cases"][4]["images"].update(sN2N="D05_original.nii"))
    with pytest.raises(ImageError, match=r"case D05: .* are the same image"):
        prepare_room(copy, tmp_path / "room", key=tmp_path / "key.json", seed=0)


def test_a_mark_outside_the_image_is_refused(images: Path, tmp_path: Path) -> None:
    copy = changed(images, tmp_path, lambda told: told["cases"][2]["marks"][0].update(position=[0, 0, 300]))
    with pytest.raises(ImageError, match=r"case D03: mark 'right hippocampus' at .* lies outside"):
        prepare_room(copy, tmp_path / "room", key=tmp_path / "key.json", seed=0)


def test_nothing_is_replaced_and_the_key_stays_outside(images: Path, folder: Path, tmp_path: Path) -> None:
    before = (folder / "key.json").read_bytes()
    with pytest.raises(FileExistsError, match="room exists; scores may hang on it"):
        prepare_room(images, folder / "room", key=tmp_path / "key.json", seed=0)
    with pytest.raises(FileExistsError, match=r"key\.json exists"):
        prepare_room(images, tmp_path / "room", key=folder / "key.json", seed=0)
    with pytest.raises(ReadingError, match="would lie in the room"):
        prepare_room(images, tmp_path / "room", key=tmp_path / "room" / "key.json", seed=0)
    for wrong in ({"room": tmp_path / "no" / "room"}, {"key": tmp_path / "no" / "key.json"}):
        with pytest.raises(FileNotFoundError, match=r"there is no folder .*no for "):
            prepare_room(images, **{"room": tmp_path / "room", "key": tmp_path / "key.json", "seed": 0} | wrong)
    for inside in (images / "room", images / "rooms" / ".." / "room"):
        with pytest.raises(ReadingError, match=r"room would lie in the study folder .*; put it elsewhere"):
            prepare_room(images, inside, key=tmp_path / "key.json", seed=0)
    assert (folder / "key.json").read_bytes() == before and list(tmp_path.iterdir()) == []
    assert [path for path in images.iterdir() if path.is_dir()] == []


def test_a_wrong_key_is_refused(images: Path, folder: Path, tmp_path: Path) -> None:
    prepare_room(images, tmp_path / "room", key=tmp_path / "key.json", seed=9)
    with pytest.raises(ReadingError, match="is the key to another room"):
        unblind(folder / "room", tmp_path / "key.json")
    with pytest.raises(ReadingError, match="there is no key"):
        unblind(folder / "room", tmp_path / "nothing.json")
    (tmp_path / "words.json").write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(ReadingError, match="is no key to a reading room"):
        unblind(folder / "room", tmp_path / "words.json")
    (tmp_path / "words.json").write_text("{", encoding="utf-8")
    with pytest.raises(ReadingError, match="cannot be read as a key"):
        unblind(folder / "room", tmp_path / "words.json")


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadingError, match=r"there is no .*study\.yaml, which says what is read"):
        prepare_room(tmp_path, tmp_path / "room", key=tmp_path / "key.json", seed=0)


def test_a_missing_image_of_the_room_is_told(images: Path, tmp_path: Path) -> None:
    plan = prepare_room(images, tmp_path / "room", key=tmp_path / "key.json", seed=0)
    token = plan.readings["reader1"][0].left
    image_path(tmp_path / "room", token).unlink()
    with pytest.raises(ReadingError, match="is missing or damaged"):
        open_image(tmp_path / "room", token)
