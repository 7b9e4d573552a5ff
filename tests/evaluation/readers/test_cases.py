"""A case of the reader study: two images, their measures, and marks that lie where the structures are."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sn2nlib.denoiser import UNet25D
from sn2nlib.denoiser.checkpoint import save_model
from sn2nlib.evaluation.readers import cases
from sn2nlib.evaluation.readers.criteria import LESION, load_criteria
from sn2nlib.evaluation.readers.rooms import prepare_room
from sn2nlib.evaluation.readers.session import Session, open_image
from sn2nlib.evaluation.readers.studies import load_study
from sn2nlib.scans.details import Lesion, load_structures
from sn2nlib.scans.images import read_image

MANIFEST = Path(__file__).resolve().parents[3] / "data_manifest"
# the middle of a head
SCAN = {"matrix": (32, 40, 36), "voxel_size": (3.5, 3.5, 3.5), "n_coils": 4, "acceleration": (2, 1), "acs": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("readers")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = UNet25D(width=4, depth=1)
        torch.nn.init.normal_(network.last.weight, std=0.1)
    save_model(place / "model", network.state_dict(), {"architecture": network.architecture, "alpha": 0.5})
    row = cases.make_case(
        "D148", seed=1148, age=66, sex="M", target_psnr=35.0, structures=load_structures(MANIFEST),
        lesions=(Lesion(7.0, 1.0),), model=place / "model", cases=place / "cases", recon={}, **SCAN,
    )  # fmt: skip
    assert row["participant"] == "D148" and row["lesions"] == 1 and row["seconds"] > 0
    return place / "cases"


def test_both_images_lie_on_one_grid_and_differ(folder: Path) -> None:
    paths = [folder / cases.image_name("D148", arm) for arm in ("original", "sN2N")]
    (original, first), (better, second) = (read_image(path) for path in paths)
    assert original.shape == better.shape == SCAN["matrix"]
    np.testing.assert_array_equal(first.affine, second.affine)
    assert not np.allclose(original, better) and (original >= 0).all()


def test_both_images_are_measured_alike(folder: Path) -> None:
    rows = pd.read_csv(folder / "D148_measures.csv").fillna({"item": ""})
    assert list(rows) == ["case", "arm", "measure", "item", "value"]
    keys = rows.groupby("arm")[["measure", "item"]].apply(lambda part: [tuple(row) for row in part.to_numpy()])
    assert keys["original"] == keys["sN2N"] and len(keys["original"]) == 5 + 15 + 2
    assert rows.loc[rows["measure"] == "noise", "value"].gt(0).all()


def test_marks_point_at_their_structures(folder: Path) -> None:
    marks = {mark["name"]: mark for mark in cases.load_marks(folder, "D148")}
    image, geometry = read_image(folder / cases.image_name("D148", "original"))
    for mark in marks.values():
        index = np.array(mark["index"])
        assert (index >= 0).all() and (index < image.shape).all()
        place = geometry.affine[:3, :3] @ index[::-1] + geometry.affine[:3, 3]
        np.testing.assert_allclose(place, mark["position"], atol=0.3)
        assert mark["radius"] > 2
    assert marks["left hippocampus"]["position"][0] < -10 and marks["right hippocampus"]["position"][0] > 10
    assert marks["lesion 1"]["parameter"] == LESION


def test_the_reading_room_takes_the_study(folder: Path, tmp_path: Path) -> None:
    criteria = load_criteria(MANIFEST)
    path = cases.write_study(folder, ["D148"], readers=["reader1", "reader2"])
    study = load_study(path.parent, criteria)
    [case] = study.cases
    assert study.readers == ("reader1", "reader2") and study.repeats == 0, "one case cannot be read again at once"
    assert {"overall_quality", "claustrum", "lesion_conspicuity"} <= set(case.parameters)
    assert len(case.marks) == len(cases.load_marks(folder, "D148"))
    told = json.loads((folder / "D148.json").read_text(encoding="utf-8"))
    assert told["lesions"] == 1 and told["psnr_original"] == pytest.approx(35, abs=0.5)
    plan = prepare_room(path.parent, tmp_path / "one", key=tmp_path / "one.json", seed=1, criteria=criteria)
    assert [len(readings) for readings in plan.readings.values()] == [1, 1]


def test_two_cases_are_read_in_a_room_that_repeats_one(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "cases"))
    for file in folder.glob("D148*"):
        shutil.copy(file, copy / file.name.replace("D148", "D149"))
    cases.write_study(copy, ["D148", "D149"], readers=["reader1"], repeats=2)
    room = tmp_path / "room"
    plan = prepare_room(copy, room, key=tmp_path / "key.json", seed=1, criteria=load_criteria(MANIFEST))
    assert len(plan.readings["reader1"]) == 3
    session = Session(room, "reader1")
    volume, _ = open_image(room, session.reading.left)
    assert volume.shape == SCAN["matrix"] and len(session.case.marks) == len(cases.load_marks(folder, "D148"))
    assert session.progress() == (0, 3 * 2 * len(session.parameters))
