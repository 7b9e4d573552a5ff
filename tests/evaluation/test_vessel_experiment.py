"""The vessel wall study on one tiny scan: images come before the truth, and as a clinic would make them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sn2nlib.cli import main
from sn2nlib.denoiser import Denoiser, train
from sn2nlib.errors import StudyError
from sn2nlib.evaluation import vessel_experiment as experiment
from sn2nlib.reporting.vessel_wall import MEASURES
from sn2nlib.scans.images import read_image
from sn2nlib.scans.scan import load_scan

# 16×25×20 mm around a basilar artery with a plaque
SCANNER: dict[str, Any] = {
    "matrix": (32, 44, 36), "centre": (0.0, -11.0, -32.0), "n_coils": 6, "acs": 16, "oversampling": 1.25,
    "noise_ratio": 0.04,
}  # fmt: skip
WHO = {"seed": 1, "age": 60.0, "sex": "F"}


@pytest.fixture(scope="module")
def acquired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acquired")
    told = experiment.acquire_participant("V1", **WHO, folder=folder, replicas=8, **SCANNER)
    assert told["noise_over_scale"] == pytest.approx(0.04, rel=0.03)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of a few steps, from the halves of a scan at R = 2×1."""
    folder = tmp_path_factory.mktemp("learning")
    told = experiment.pair_for_training("T1", seed=2, age=50.0, sex="M", pairs=folder, **SCANNER)
    # samples as noisy as the test's: the image of twice as many has less noise, its halves have about as much
    assert told["noise_over_scale"] < 0.035 < told["noise_over_scale_half"]
    [volume] = experiment.load_training(folder, ["T1"])
    assert volume.half_a.shape == SCANNER["matrix"]  # coronal partitions first
    options = {"width": 6, "depth": 1, "batch": 2, "patch": 32, "learning_rate": 0.01, "ema": 0.9}
    train([volume], out=folder / "model", steps=150, progress=False, **options)
    return folder / "model"


@pytest.fixture(scope="module")
def images(acquired: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    models = dict.fromkeys(("sN2N", "fine_tuned", "vwi_only"), model)
    told = experiment.finish_participant("V1", acquired=acquired, images=folder, models=models)
    assert 0 < told["noise_left"] < 1 and told["blur_mm"] > 0
    return folder


def test_images_are_those_of_the_command_line_on_the_same_nifti(acquired: Path, images: Path, model: Path) -> None:
    out = images / "command.nii.gz"
    with pytest.raises(SystemExit, match="0"):
        main(["denoise", str(acquired / "V1.nii.gz"), str(out), "--model", str(model)])
    ours, theirs = (read_image(path)[0] for path in (images / "V1_sN2N.nii.gz", out))
    limit = 0.02 * theirs.max()  # bfloat16 in the study, where the processor has it
    np.testing.assert_allclose(ours, theirs, atol=limit)
    np.testing.assert_array_equal(read_image(images / "V1_original.nii.gz")[0], read_image(acquired / "V1.nii.gz")[0])


def test_the_network_sees_the_partitions_of_the_scan(acquired: Path, images: Path, model: Path) -> None:
    nifti, _ = read_image(acquired / "V1.nii.gz")
    original = nifti.swapaxes(0, 1)  # (right, anterior, superior) to the scan's order
    assert original.shape == load_scan(acquired / "scans" / "V1.h5").shape
    expected = Denoiser.load(model, precision="auto").denoise(np.ascontiguousarray(original)).swapaxes(0, 1)
    np.testing.assert_allclose(read_image(images / "V1_sN2N.nii.gz")[0], expected, rtol=1e-5)


def test_no_image_needs_the_truth_and_no_truth_is_read_before(
    acquired: Path, images: Path, model: Path, tmp_path: Path
) -> None:
    clinic, again = tmp_path / "clinic", tmp_path / "again"
    told = json.loads((images / "V1.json").read_text(encoding="utf-8"))["inputs"]
    for name in told:  # nothing but what was read: the truth, above all, is not there
        (clinic / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(acquired / name, clinic / name)
    assert not [name for name in told if "references" in name or "rois" in name or "scans" in name]
    again.mkdir()
    models = dict.fromkeys(("sN2N", "fine_tuned", "vwi_only"), model)
    with pytest.raises(StudyError, match="the truth stays closed until the images are finished"):
        experiment.measure_participant("V1", acquired=acquired, images=again, measured=tmp_path)
    experiment.finish_participant("V1", acquired=clinic, images=again, models=models)
    for arm in experiment.ARMS:
        name = f"V1_{arm}.nii.gz"
        assert (again / name).read_bytes() == (images / name).read_bytes()


def test_the_blur_takes_as_much_noise_as_the_network(images: Path) -> None:
    original, _ = read_image(images / "V1_original.nii.gz")
    left = {}
    for arm in ("sN2N", "blur"):
        with np.load(images / f"V1_{arm}.npz") as stored:
            left[arm] = experiment.noise_over_replicas(stored["replicas"].astype(np.float32), original)
    assert left["blur"] == pytest.approx(left["sN2N"], rel=0.01)


def test_every_arm_is_measured(acquired: Path, images: Path, tmp_path: Path) -> None:
    experiment.measure_participant("V1", acquired=acquired, images=images, measured=tmp_path)
    rows = pd.read_csv(tmp_path / "V1.csv").set_index("arm")
    assert list(rows.index) == [*experiment.ARMS, "noise_free"] and set(MEASURES) <= set(rows)
    assert rows.loc["blur", "sd_csf"] < rows.loc["original", "sd_csf"]  # a network of a few steps need not be better
    assert rows.loc["blur", "contrast_lumen"] < rows.loc["original", "contrast_lumen"]
    assert rows.loc[list(experiment.ARMS), "psnr"].between(15, 60).all() and np.isnan(rows.loc["noise_free", "psnr"])
    sites = pd.read_csv(tmp_path / "V1_sites.csv")
    assert (sites.groupby("site")["arm"].nunique() == 6).all()
    (acquired / "rois" / "V1.csv").rename(tmp_path / "kept.csv")
    pd.read_csv(tmp_path / "kept.csv").head(0).to_csv(acquired / "rois" / "V1.csv", index=False)
    with pytest.raises(StudyError, match="no vessel can be measured in the field of view"):
        experiment.measure_participant("V1", acquired=acquired, images=images, measured=tmp_path)
