"""Participants: draws that cover their range, numbers on an absolute scale, files that are whole."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sn2nlib.evaluation import participants
from sn2nlib.evaluation.cohort import noise_over_scale, trial_pair
from sn2nlib.evaluation.metrics import psnr
from sn2nlib.evaluation.participants import (
    draw_lesions,
    own_noise,
    pair_numbers,
    participant_head,
    participant_seed,
    scan_participant,
    simulate_participant,
    stratified_draws,
)
from sn2nlib.recon.pairs import Pair, make_pair, reconstruct
from sn2nlib.scans.acquire import acquire, undersample
from sn2nlib.scans.heads import Head
from sn2nlib.scans.manifest import manifest_folder
from sn2nlib.scans.scan import load_scan

SCAN = {"n_coils": 6, "acceleration": (2, 1), "acs": 14}


@pytest.mark.parametrize("n", [1, 2, 7])
def test_one_draw_in_each_part(n: int) -> None:
    draws = stratified_draws(n, seed=4)
    assert sorted(np.floor(draws * n)) == list(range(n))
    np.testing.assert_array_equal(stratified_draws(n, seed=4), draws)
    assert not np.array_equal(stratified_draws(n, seed=5), draws)


def test_draws_leave_global_random_numbers_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    stratified_draws(3, seed=1), draw_lesions(1, 80)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_lesions_come_with_age() -> None:
    assert {draw_lesions(seed, 40) for seed in range(20)} == {0}
    assert np.mean([draw_lesions(seed, 85) for seed in range(400)]) == pytest.approx(4, abs=0.3)


def test_seeds() -> None:
    assert participant_seed("D001", 1001) == 1001
    assert participant_seed("S1") == participant_seed("S1", pd.NA) != participant_seed("S2")


def test_a_training_scan_has_the_ratio_that_was_asked_for(head: Head, size: dict) -> None:
    made = simulate_participant(head, seed=2, noise_ratio=0.03, with_references=False, **size, **SCAN)
    pair = trial_pair(undersample(made.scan, acceleration=(2, 1), acs=14))
    assert made.references is None
    assert made.scan.mask.all()
    assert made.numbers["noise_over_scale"] == pytest.approx(0.03, rel=0.02)
    assert made.numbers["noise_over_scale"] == pytest.approx(noise_over_scale(pair), rel=0.1)
    assert made.numbers["psnr_region"] == "1 of 2 readout planes"
    # SNR is signal over the SD of one component: WM is near the intensity scale, which scalp and rim exceed
    assert 0.3 / 0.03 < made.numbers["wm_snr"] < 1.2 / 0.03


@pytest.mark.parametrize("target, partial", [(33.0, (1, 1)), (26.0, (0.8, 1))])
def test_a_test_scan_has_the_psnr_that_was_asked_for(
    target: float, partial: tuple[float, float], head: Head, size: dict
) -> None:
    made = simulate_participant(head, seed=2, target_psnr=target, partial_fourier=partial, **size, **SCAN)
    assert made.references is not None
    full = made.references.full_sampled
    original = np.abs(reconstruct(undersample(made.scan, acceleration=(2, 1), acs=14, partial_fourier=partial)))
    found = psnr(original, full, data_range=float(full.max()))
    assert made.numbers["psnr_original"] == pytest.approx(found, abs=0.01) == pytest.approx(target, abs=0.2)
    assert made.numbers["psnr_region"] == "volume"
    # references share the scan's whitening: they differ by noise alone, of SD 1 per component
    error = full[made.references.head] - made.references.noise_free[made.references.head]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(1, rel=0.1)
    # CSF: a ventricle in the middle, darker than white matter
    assert made.csf[8, 16, 16] and not made.csf[8, 16, 26]


def test_one_wish_at_a_time(head: Head, size: dict) -> None:
    for wishes in ({}, {"noise_ratio": 0.03, "target_psnr": 40}):
        with pytest.raises(ValueError, match="either noise_ratio or target_psnr"):
            simulate_participant(head, seed=2, **wishes, **size, **SCAN)


@pytest.mark.parametrize("keep_full", [True, False])
def test_files_of_a_participant(
    head: Head, size: dict, keep_full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict = {}
    monkeypatch.setattr(participants, "participant_head", lambda name, **kw: asked.update(kw, name=name) or head)
    folders = {"scans": tmp_path / "scans", "references": tmp_path / "references", "manifest": tmp_path}
    row = scan_participant(
        "D1", seed=7, age=40, sex="F", keep_full=keep_full, with_references=keep_full, noise_ratio=0.03,
        **folders, **size, **SCAN, partial_fourier=(0.75, 1),
    )  # fmt: skip
    scan = load_scan(tmp_path / "scans" / "D1.h5")
    assert scan.mask[:, :8].any() == keep_full and scan.mask[:, 8:].any()
    assert (asked["name"], asked["seed"], asked["sex"], asked["matrix"]) == ("D1", 7, "F", size["matrix"])
    assert scan.mask.all() == keep_full
    assert (tmp_path / "references" / "D1.npz").is_file() == keep_full
    assert row["participant"] == "D1" and row["matrix"] == "16×32×32" and row["voxel"] == "4.00×3.00×3.00"
    assert np.isnan(row["own_noise_over_scale"])
    kept = json.loads((tmp_path / "scans" / "D1.json").read_text())
    assert kept["noise_over_scale"] == row["noise_over_scale"]
    if keep_full:
        with np.load(tmp_path / "references" / "D1.npz") as stored:
            kinds = {name: (stored[name].dtype.name, stored[name].shape) for name in stored.files}
        images = dict.fromkeys(("full_sampled", "noise_free"), ("float32", (16, 32, 32)))
        assert kinds == images | dict.fromkeys(("head", "csf"), ("bool", (16, 32, 32)))


def test_a_real_head_is_read_from_its_source(monkeypatch: pytest.MonkeyPatch, head: Head) -> None:
    monkeypatch.setattr(participants, "fetch", lambda source: Path(f"/data/{source.name}.nii.gz"))
    monkeypatch.setattr(participants, "read_head", lambda path, name: (path.name, name))
    size = {"matrix": (8, 8, 8), "voxel_size": (1.0, 1.0, 1.0)}
    assert participant_head("S1", manifest=manifest_folder(), **size) == ("S1.nii.gz", "S1")


@pytest.mark.parametrize("shape", [(30, 36, 42), (31, 40, 37)])
def test_own_noise_is_that_of_white_noise_and_ignores_smooth_anatomy(shape: tuple[int, int, int]) -> None:
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    smooth = 100 * (2 - z**2 - y**2 + x * y)
    noise = np.random.default_rng(0).standard_normal(shape)
    assert own_noise(smooth + 3 * noise) == pytest.approx(3, rel=0.05)
    assert own_noise(smooth) < 0.01


def test_numbers_of_a_pair(head: Head, size: dict) -> None:
    pair = make_pair(acquire(head, **size, n_coils=6, acs=14, noise_sd=0.03, seed=1))
    inside = np.abs(pair.original) > 0.2 * pair.scale
    numbers = pair_numbers(pair, 2 * pair.noise_sd_half * np.exp(1j))
    assert numbers["systematic_over_noise"] == pytest.approx(2)
    assert numbers["noise_over_scale"] == pytest.approx(np.median(pair.noise_sd[inside]) / pair.scale, rel=0.05)
    # g ≥ 1, and more for the half
    assert 1 <= numbers["g_original"] < numbers["g_half"] < 3
    assert np.isnan(pair_numbers(pair, None)["systematic_over_noise"])


def test_numbers_have_no_unit(head: Head, size: dict) -> None:
    pair = make_pair(acquire(head, **size, n_coils=6, acs=14, noise_sd=0.03, seed=1))
    images = {name: 7 * getattr(pair, name) for name in ("original", "half_a", "half_b", "noise_sd", "noise_sd_half")}
    scaled = Pair(**(vars(pair) | images | {"scale": 7 * pair.scale}))
    before, after = pair_numbers(pair, None), pair_numbers(scaled, None)
    assert after["noise_over_scale_half"] == pytest.approx(before["noise_over_scale_half"], rel=1e-4)
