"""Simulated vessel wall scans: sampling, noise, references and geometry fit together."""

from pathlib import Path

import numpy as np
import pytest

from sn2nlib.evaluation import vessel_scans
from sn2nlib.evaluation.vessel_scans import (
    VesselScan,
    replica_images,
    save_vessel_scan,
    simulate_training_scan,
    simulate_vessel_scan,
)
from sn2nlib.evaluation.vessel_sites import read_sites
from sn2nlib.evaluation.vessels import measure_files, measure_vessels
from sn2nlib.recon.pairs import intensity_scale
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans.scan import load_scan

MATRIX = (32, 44, 36)  # 16×25×20 mm around a basilar artery with a plaque


@pytest.fixture(scope="module")
def made() -> VesselScan:
    return simulate_vessel_scan(
        1, matrix=MATRIX, n_coils=6, acs=16, noise_ratio=0.05, oversampling=1.5, centre=(0.0, -11.0, -32.0)
    )


def test_the_scan_is_what_was_asked_for(made: VesselScan) -> None:
    scan = made.scan
    assert scan.shape == MATRIX and scan.acceleration == (2, 2) and scan.caipi_shift == 1
    np.testing.assert_array_equal(
        scan.mask, lattice_mask(MATRIX[:2], acceleration=(2, 2), caipi_shift=1, acs=16)
    )
    np.testing.assert_allclose(scan.voxel_size, (0.5, 0.56, 0.56))
    assert made.numbers["noise_over_scale"] == pytest.approx(0.05, rel=0.03)
    truth = made.references.noise_free
    assert truth.shape == made.original.shape == MATRIX
    # one intensity unit for all
    assert intensity_scale(made.original) == pytest.approx(intensity_scale(truth), rel=0.1)
    assert made.scan.info["noise_sd"] == made.numbers["noise_sd"]


def test_noise_that_was_not_reached_is_told_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vessel_scans, "_TRIALS", 1)
    with pytest.warns(UserWarning, match=r"of the intensity scale where 0\.0500 were asked for"):
        simulate_training_scan(
            1, matrix=MATRIX, n_coils=4, acs=16, noise_ratio=0.05, oversampling=1.0, centre=(0.0, -11.0, -32.0)
        )


def test_replicas_scatter_by_the_noise_that_was_asked_for(made: VesselScan) -> None:
    images = np.stack(list(replica_images(made.scan, 8, seed=1)))
    scale = intensity_scale(made.original)
    bright = made.references.noise_free > 0.3 * scale
    ratio = np.median(images.std(axis=0, ddof=1)[bright]) / scale
    assert ratio == pytest.approx(0.05, rel=0.25)
    assert not np.array_equal(images[0], images[1])


def test_sites_show_a_dark_lumen_in_a_bright_wall(made: VesselScan) -> None:
    assert made.sites
    rows = measure_vessels({"truth": [made.references.noise_free]}, made.scan.affine, made.sites)
    assert (rows["lumen"] < 0.3 * rows["wall"]).all() and (rows["csf"] < 0.6 * rows["wall"]).all()
    measured = rows[rows["resolved"]].dropna(subset=["wall_mm"])
    assert len(measured) > 0
    np.testing.assert_allclose(measured["wall_mm"], measured["given_wall_mm"], rtol=0.25)
    np.testing.assert_allclose(measured["lumen_mm2"], measured["given_lumen_mm2"], rtol=0.15)


def test_files_hold_image_and_truth_apart(made: VesselScan, tmp_path: Path) -> None:
    save_vessel_scan(made, tmp_path, "V01")
    assert read_sites(tmp_path / "rois" / "V01.csv")[0].name == made.sites[0].name
    rows = measure_files([tmp_path / "V01.nii.gz"], tmp_path / "rois" / "V01.csv")
    direct = measure_vessels({"image": [made.original]}, made.scan.affine, made.sites)
    np.testing.assert_allclose(rows["wall"], direct["wall"], rtol=1e-3)
    np.testing.assert_array_equal(load_scan(tmp_path / "scans" / "V01.h5").kspace, made.scan.kspace)
    with np.load(tmp_path / "references" / "V01.npz") as stored:
        np.testing.assert_array_equal(stored["noise_free"], made.references.noise_free)
