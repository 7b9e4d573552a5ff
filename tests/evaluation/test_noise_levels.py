"""The noise-level experiment: what is compared with what, and the answers that are known in advance."""

from typing import Any

import numpy as np
import pytest

from sn2nlib.evaluation.metrics import image_quality, psnr
from sn2nlib.evaluation.noise_levels import (
    LEVELS,
    References,
    conventional_images,
    floor_bias,
    make_references,
    measure,
    measure_scan,
    prepare_head,
)
from sn2nlib.recon.pairs import reconstruct
from sn2nlib.scans.acquire import acquire, add_noise, undersample, with_noise
from sn2nlib.scans.heads import Head

ACS = 12
COLUMNS = {"head", "noise_sigma", "arm", "reference", "region", "psnr", "ssim", "nrmse", "nrmse_volume", "n_slices"}


@pytest.fixture(scope="module")
def references() -> References:
    """A block of about 10 in air, its full-sampled image 0.1 brighter throughout."""
    rng = np.random.default_rng(0)
    head = np.zeros((9, 24, 22), bool)
    head[1:8, 6:18, 5:17] = True
    noise_free = (head * rng.uniform(9, 11, head.shape)).astype(np.float32)
    return References(noise_free + np.float32(0.1), noise_free, head)


def rows_by_key(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(row["arm"], row["reference"], row["region"]): row for row in rows}


def test_every_arm_meets_both_references_in_both_regions(references: References) -> None:
    images = {"original": references.noise_free + np.float32(0.2), "sN2N": references.noise_free + np.float32(0.05)}
    rows = measure(images, references, head="P1", noise_sigma=1.5)
    assert all(set(row) == COLUMNS for row in rows)
    assert {(row["head"], row["noise_sigma"]) for row in rows} == {("P1", 1.5)}
    expected = {
        (arm, reference, region)
        for arm in ("original", "sN2N", "truth")
        for reference in ("full_sampled", "noise_free")
        for region in ("volume", "head")
    } - {("truth", "noise_free", region) for region in ("volume", "head")}
    assert len(rows) == len(expected) and set(rows_by_key(rows)) == expected


def test_rows_hold_the_distance_to_their_own_reference(references: References) -> None:
    images = {"original": references.noise_free + np.float32(0.2)}
    found = rows_by_key(measure(images, references, head="P1", noise_sigma=0))
    peak = {"full_sampled": float(references.full_sampled.max()), "noise_free": float(references.noise_free.max())}
    for reference, difference in (("full_sampled", 0.1), ("noise_free", 0.2)):
        for region in ("volume", "head"):
            expected = 20 * np.log10(peak[reference] / difference)
            assert found["original", reference, region]["psnr"] == pytest.approx(expected, abs=1e-3)
    assert found["truth", "full_sampled", "head"]["psnr"] == pytest.approx(
        20 * np.log10(peak["full_sampled"] / 0.1), abs=1e-3
    )
    norm = np.linalg.norm(references.noise_free[references.head])
    percent = 100 * 0.2 * np.sqrt(references.head.sum()) / norm
    assert found["original", "noise_free", "head"]["nrmse_volume"] == pytest.approx(percent, rel=1e-3)
    # region None is the volume of the metrics
    row = image_quality(images["original"], references.noise_free, regions={"volume": None})[0]
    assert row["ssim"] == found["original", "noise_free", "volume"]["ssim"]


def test_a_constant_shift_is_its_own_bias(references: References) -> None:
    csf = np.zeros(references.head.shape, bool)
    csf[3:6, 10:14, 9:13] = True
    shifted = references.noise_free + np.float32(0.3)
    lifted = np.where(references.head, references.noise_free, np.float32(0.5))  # in air alone, as noise does
    rows = floor_bias({"original": shifted, "sN2N": lifted}, references, head="P1", noise_sigma=2.0, csf=csf)
    assert {(row["head"], row["noise_sigma"]) for row in rows} == {("P1", 2.0)}
    found = {(row["arm"], row["region"]): row["bias_percent"] for row in rows}
    level = references.noise_free[references.head].mean()
    expected = {
        ("original", "air"): 30 / level, ("original", "CSF"): 30 / level,
        ("sN2N", "air"): 50 / level, ("sN2N", "CSF"): 0,
        ("full_sampled", "air"): 10 / level, ("full_sampled", "CSF"): 10 / level,
    }  # fmt: skip
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-3), key


@pytest.mark.parametrize("csf", [None, np.zeros((9, 24, 22), bool)])
def test_without_known_fluid_only_the_air_is_told(references: References, csf: np.ndarray | None) -> None:
    rows = floor_bias({"original": references.noise_free}, references, head="S1", noise_sigma=0, csf=csf)
    assert {row["region"] for row in rows} == {"air"}


@pytest.mark.parametrize("target, partial", [(30.0, (1, 1)), (29.0, (0.9, 1))])
def test_a_head_is_prepared_at_the_psnr_asked_for(
    target: float, partial: tuple[float, float], head: Head, size: dict[str, Any]
) -> None:
    sampling = {"acceleration": (2, 1), "acs": ACS, "partial_fourier": partial}
    scan, references, reached = prepare_head(head, target_psnr=target, seed=3, n_coils=4, **sampling, **size)
    assert scan.mask.all() and scan.noise is not None
    assert reached == pytest.approx(target, abs=0.11)
    # the PSNR of the conventional image against the full-sampled reference, over the volume
    original = np.abs(reconstruct(undersample(scan, **sampling)))
    reference = references.full_sampled
    np.testing.assert_array_equal(reference, np.abs(reconstruct(scan)))
    assert psnr(original, reference, data_range=float(reference.max())) == pytest.approx(reached, abs=1e-6)
    # one intensity unit, and the truth has no noise: far closer to the full-sampled image than a noisy one is
    inside = references.head
    assert np.mean(reference[inside]) == pytest.approx(np.mean(references.noise_free[inside]), rel=0.02)
    assert 0.2 < inside.mean() < 0.6
    outside = ~inside
    assert np.mean(references.noise_free[outside]) < 0.5 * np.mean(reference[outside])


def test_levels_are_the_scans_own_noise_added_with_a_draw_of_their_own(head: Head, size: dict[str, Any]) -> None:
    clean = acquire(head, n_coils=4, acceleration=(1, 1), acs=None, noise_sd=0, seed=3, **size)
    scan = with_noise(clean, 0.03, seed=3)
    before = scan.kspace.copy()
    series = dict(conventional_images(scan, levels=(0, 1, 2.5), seed=4, acs=ACS))
    np.testing.assert_array_equal(scan.kspace, before)

    assert list(series) == [0, 1, 2.5]
    undersampled = undersample(scan, acceleration=(2, 1), acs=ACS)
    np.testing.assert_array_equal(series[0], np.abs(reconstruct(undersampled)))
    for level, seed in ((1, 4100), (2.5, 4250)):  # participant's seed and level, no two alike
        expected = np.abs(reconstruct(add_noise(undersampled, level, seed=seed)))
        np.testing.assert_array_equal(series[level], expected)
    assert all(image.dtype == np.float32 and image.shape == scan.shape for image in series.values())
    references = make_references(clean, scan)
    errors = [np.linalg.norm(image - references.noise_free) for image in series.values()]
    assert errors[0] < errors[1] < errors[2]
    again = dict(conventional_images(scan, levels=(2.5,), seed=4, acs=ACS))
    np.testing.assert_array_equal(again[2.5], series[2.5])
    partial = dict(conventional_images(scan, levels=(0,), acs=ACS, partial_fourier=(0.75, 1)))
    expected = np.abs(reconstruct(undersample(scan, acs=ACS, partial_fourier=(0.75, 1))))
    np.testing.assert_array_equal(partial[0], expected)
    sampling = {"acceleration": (2, 2), "caipi_shift": 1, "acs": ACS}
    shifted = dict(conventional_images(scan, levels=(0,), **sampling))
    np.testing.assert_array_equal(shifted[0], np.abs(reconstruct(undersample(scan, **sampling))))


def test_the_whole_experiment_on_one_scan(head: Head, size: dict[str, Any]) -> None:
    clean = acquire(head, n_coils=4, acceleration=(1, 1), acs=None, noise_sd=0, seed=3, **size)
    scan = with_noise(clean, 0.03, seed=3)
    references = make_references(clean, scan)
    given = []

    def perfect(image: np.ndarray) -> np.ndarray:
        given.append(image)
        return references.noise_free

    sampling = {"acs": ACS, "partial_fourier": (0.9, 1)}
    rows = measure_scan(scan, references, perfect, head="P1", levels=(0, 3), seed=4, **sampling)
    np.testing.assert_array_equal(given[0], np.abs(reconstruct(undersample(scan, **sampling))))
    assert len(given) == 2 and len(rows) == 2 * (2 * 4 + 2)
    for level, image in zip((0, 3), given, strict=True):
        found = rows_by_key([row for row in rows if row["noise_sigma"] == level])
        for region in ("volume", "head"):
            # a perfect denoiser scores what the truth scores
            sn2n, truth = found["sN2N", "full_sampled", region], found["truth", "full_sampled", region]
            assert {k: v for k, v in sn2n.items() if k != "arm"} == {k: v for k, v in truth.items() if k != "arm"}
            assert np.isinf(found["sN2N", "noise_free", region]["psnr"])
        expected = rows_by_key(measure({"original": image}, references, head="P1", noise_sigma=level))
        assert found["original", "noise_free", "head"] == expected["original", "noise_free", "head"]
    key = ("original", "noise_free", "head")
    quiet, loud = (row["psnr"] for row in rows if (row["arm"], row["reference"], row["region"]) == key)
    assert loud < quiet - 5  # √10 times the noise is 10 dB, aliasing aside


def test_the_papers_levels() -> None:
    assert LEVELS == (0, 0.5, 1, 1.5, 2, 2.5, 3)
