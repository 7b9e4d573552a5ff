"""Vessel measures on cylinders of known size, in known noise."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import sici

from sn2nlib.errors import ImageError
from sn2nlib.evaluation.profiles import interpolate, regions, section, shape, wall_edges
from sn2nlib.evaluation.vessel_sites import Site, known_sites, read_sites, write_sites
from sn2nlib.evaluation.vessels import measure_files, measure_site, measure_vessels, scan_means
from sn2nlib.fourier import crop, fft, ifft
from sn2nlib.scans.black_blood import coronal_affine
from sn2nlib.scans.images import write_image
from sn2nlib.scans.vessels import Plaque, Vessel, rasterise

SHAPE, SIZE = (36, 34, 20), (0.5, 0.56, 0.56)
AFFINE = coronal_affine(SHAPE, SIZE, (3.0, -5.0, 11.0))
LUMEN, WALL, CSF = 5.0, 100.0, 25.0


def tube(radius: float = 2.0, wall: float = 1.2, plaque: Plaque | None = None) -> Vessel:
    """Along S through the middle of the image, but not through a voxel's centre; end to end of it."""
    points = np.stack([np.full(9, 3.13), np.full(9, -4.91), np.linspace(2, 20, 9)], axis=1)
    return Vessel("tube", points, np.full(9, radius), np.full(9, wall), plaque)


def site(vessel: Vessel, **changes: Any) -> Site:
    _, tangent, radius, wall = vessel.at(9.0)
    known: dict[str, Any] = {
        "name": "S1", "kind": "wall", "centre": (3.13, -4.91, 11.0), "tangent": tuple(tangent), "radius": radius,
        "wall": wall, "csf": 1.3,
    }  # fmt: skip
    return Site(**(known | changes))


def ideal_image(vessel: Vessel, fine: int = 4) -> np.ndarray:
    """The vessel in CSF as k-space of the scan's extent shows it, from a grid `fine` times finer."""
    large = tuple(fine * n for n in SHAPE)
    affine = coronal_affine(large, tuple(s / fine for s in SIZE), (3.0, -5.0, 11.0))  # type: ignore[arg-type]
    shares = rasterise([vessel], large, affine, subdivision=2)
    wall = shares["wall"] + shares["plaque"]
    # the tube goes on through the image's ends: its middle plane stands for all of them
    plane = (CSF + (LUMEN - CSF) * shares["lumen"] + (WALL - CSF) * wall)[:, :, large[2] // 2]
    image = ifft(crop(fft(plane, axes=(0, 1)), SHAPE[:2]), axes=(0, 1)).real / fine
    return np.repeat(image[:, :, None], SHAPE[2], axis=2).astype(np.float32)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return ideal_image(tube())


def edge(x: np.ndarray, voxel: float) -> np.ndarray:
    """A step, seen through an ideal voxel."""
    return 0.5 + sici(np.pi * x / voxel)[0] / np.pi


@pytest.mark.parametrize("offset", [0.0, 0.13, 0.28])
def test_an_ideal_voxel_widens_a_thin_wall_as_it_must(offset: float) -> None:
    """A wall of 0.5 mm in voxels of 0.56 mm is 0.71 mm wide at half height, wherever the grid lies."""
    n, voxel = 40, 0.56
    places = (np.arange(n) - n // 2) * voxel - offset
    volume = np.broadcast_to((edge(places + 0.25, voxel) - edge(places - 0.25, voxel))[None, :, None], (n, n, n))
    radii = np.arange(0, 4, 0.02)
    positions = np.full((len(radii), 3), n // 2, float)
    positions[:, 1] += (radii - 2 + offset) / voxel  # the wall's middle at 2 mm
    profile = interpolate(volume, positions)
    wall = Site("S", "wall", (0, 0, 0), (1, 0, 0), radius=1.75, wall=0.5)
    inner, outer, inner_width, outer_width = wall_edges(profile, radii, wall, lumen=0.0, csf=0.0)
    assert outer - inner == pytest.approx(0.712, abs=0.025)
    assert (inner + outer) / 2 == pytest.approx(2, abs=0.01)
    x = np.arange(-3, 0.001, 0.001)
    truth = edge(x + 0.25, voxel) - edge(x - 0.25, voxel)
    expected = x[np.argmax(truth > 0.9 * truth.max())] - x[np.flatnonzero(truth < 0.1 * truth.max())[-1]]
    assert inner_width == pytest.approx(expected, abs=0.03) and outer_width == pytest.approx(expected, abs=0.03)


def test_interpolation_keeps_voxels_and_noise() -> None:
    noise = np.random.default_rng(0).standard_normal((30, 28, 31))
    grid = np.stack(np.meshgrid(*(np.arange(8, 20),) * 3, indexing="ij"), axis=-1)
    np.testing.assert_allclose(interpolate(noise, grid), noise[8:20, 8:20, 8:20], atol=0.1)
    anywhere = np.random.default_rng(1).uniform(7, 20, (4000, 3))
    assert interpolate(noise, anywhere).std() == pytest.approx(noise.std(), rel=0.06)
    with pytest.raises(ImageError, match="beyond the image"):
        interpolate(noise, np.array([[3.0, 3, 30.5]]))


def ideal_thickness(wall: float, voxel: float = 0.53) -> float:
    """Width at half height of a flat wall between lumen and CSF, through an ideal voxel (mean of 0.5 and 0.56)."""
    x = np.arange(-3, 3, 0.001)
    inner, outer = edge(x + wall / 2, voxel), 1 - edge(x - wall / 2, voxel)
    profile = LUMEN + (WALL - LUMEN) * inner + (CSF - WALL) * (1 - outer)
    peak = np.argmax(profile)
    left = x[:peak][profile[:peak] < (LUMEN + profile[peak]) / 2][-1]
    return float(x[peak:][profile[peak:] < (CSF + profile[peak]) / 2][0] - left)


def test_a_thick_wall_has_its_thickness_and_lumen(image: np.ndarray) -> None:
    before = image.copy()
    row = measure_site([image], AFFINE, site(tube()))
    np.testing.assert_array_equal(image, before)
    assert row["wall_mm"] == pytest.approx(ideal_thickness(1.2), abs=0.1)
    assert row["wall_mm"] == pytest.approx(1.2, abs=0.07)
    assert row["lumen_mm2"] == pytest.approx(np.pi * 4, rel=0.04)
    # 10–90 % of a step through an ideal voxel: 0.9 voxels
    assert 0.35 < row["edge_inner_mm"] < 0.65 and 0.35 < row["edge_outer_mm"] < 0.65
    assert row["lumen"] == pytest.approx(LUMEN, abs=3) and row["csf"] == pytest.approx(CSF, abs=4)
    assert 95 < row["wall"] < 125  # the edges' overshoots add up in the middle
    assert row["resolved"] and row["given_wall_mm"] == pytest.approx(1.2)
    assert row["given_lumen_mm2"] == pytest.approx(np.pi * 4)
    # without replicas there is no noise to relate to
    assert row["detected"] is None and np.isnan([row["cnr_lumen"], row["sd_csf"]]).all()


@pytest.mark.parametrize(("radius", "wall"), [(1.6, 0.9), (2.4, 1.6)])
def test_measures_follow_the_truth(radius: float, wall: float) -> None:
    vessel = tube(radius, wall)
    row = measure_site([ideal_image(vessel)], AFFINE, site(vessel))
    assert row["wall_mm"] == pytest.approx(ideal_thickness(wall), abs=0.04)
    assert row["wall_mm"] == pytest.approx(wall, abs=0.11)
    assert row["lumen_mm2"] == pytest.approx(np.pi * radius**2, rel=0.05)


def test_a_reader_who_is_off_by_a_third_of_a_voxel_measures_the_same(image: np.ndarray) -> None:
    exact = measure_site([image], AFFINE, site(tube()))
    off = measure_site([image], AFFINE, site(tube(), centre=(3.3, -5.0, 11.2), radius=1.8, wall=1.3))
    for name in ("wall_mm", "lumen_mm2"):
        assert off[name] == pytest.approx(exact[name], rel=0.06)


def test_a_plaque_counts_in_its_direction() -> None:
    plaque = Plaque(centre=9.0, length=6.0, thickness=0.8, direction=(0.0, 1.0, 0.0))
    vessel = tube(wall=0.9, plaque=plaque)
    image = ideal_image(vessel)
    there = measure_site([image], AFFINE, site(vessel, direction=(0.0, 1.0, 0.0)))
    opposite = measure_site([image], AFFINE, site(vessel, direction=(0.0, -1.0, 0.0), wall=0.9))
    assert there["wall_mm"] == pytest.approx(ideal_thickness(1.7), abs=0.06)
    assert opposite["wall_mm"] == pytest.approx(ideal_thickness(0.9), abs=0.06)
    assert there["given_wall_mm"] == pytest.approx(1.7)
    cut = section(image, AFFINE, site(vessel, direction=(0.0, 1.0, 0.0)))
    assert cut.wall_rays.reshape(-1, 4).all(axis=1).sum() == 2 or cut.wall_rays.sum() == 8


def test_blur_widens_edges_and_fills_the_lumen(image: np.ndarray) -> None:
    spectrum = fft(image.astype(np.complex64), axes=(0, 1))
    z, y = (2 * (np.arange(n) - n // 2) / n for n in SHAPE[:2])
    soft = ifft(spectrum * np.exp(-1.5 * (z[:, None] ** 2 + y**2))[:, :, None], axes=(0, 1)).real
    sharp, blurred = (measure_site([each], AFFINE, site(tube())) for each in (image, soft))
    assert blurred["edge_inner_mm"] > 1.3 * sharp["edge_inner_mm"]
    assert blurred["edge_outer_mm"] > 1.3 * sharp["edge_outer_mm"]


def test_cnr_is_that_of_the_known_noise(image: np.ndarray) -> None:
    rng, sd = np.random.default_rng(3), 8.0
    replicas = [image + sd * rng.standard_normal(image.shape) for _ in range(24)]
    clean, row = (measure_site(images, AFFINE, site(tube())) for images in ([image], replicas))
    for region in ("lumen", "wall", "csf"):
        assert row[f"sd_{region}"] == pytest.approx(sd, rel=0.12), region
    for side in ("lumen", "csf"):
        assert row[f"contrast_{side}"] == pytest.approx(clean[f"contrast_{side}"], abs=2)
        assert row[f"cnr_{side}"] == pytest.approx(clean[f"contrast_{side}"] / sd, rel=0.12)
    assert row["detected"] is True and row["n_images"] == 24
    # a spatial SD would see the structure: here a constant pattern adds none
    pattern = 30 * np.sin(np.arange(image.size)).reshape(image.shape)
    shifted = measure_site([each + pattern for each in replicas], AFFINE, site(tube()))
    assert shifted["sd_csf"] == pytest.approx(row["sd_csf"], rel=1e-6)
    few = measure_site(replicas[:7], AFFINE, site(tube()))
    assert np.isnan(few["sd_wall"]) and few["detected"] is None and few["wall_mm"] > 0


def test_noise_that_drowns_a_wall_leaves_it_undetected(image: np.ndarray) -> None:
    rng = np.random.default_rng(4)
    loud = [image + 60 * rng.standard_normal(image.shape) for _ in range(8)]
    assert measure_site(loud, AFFINE, site(tube()))["detected"] is False
    # nor is a wall found where none is
    rng = np.random.default_rng(5)
    bare = [np.full(SHAPE, CSF) + rng.standard_normal(SHAPE) for _ in range(8)]
    assert measure_site(bare, AFFINE, site(tube()))["detected"] is False


def test_thin_walls_are_detected_but_not_measured() -> None:
    vessel = tube(1.5, 0.6)
    image, rng = ideal_image(vessel), np.random.default_rng(6)
    replicas = [image + 4 * rng.standard_normal(image.shape) for _ in range(8)]
    row = measure_site(replicas, AFFINE, site(vessel))
    assert not row["resolved"] and row["detected"] is True and row["cnr_csf"] > 5
    assert np.isnan([row[name] for name in ("wall_mm", "lumen_mm2", "edge_inner_mm", "edge_outer_mm")]).all()


def test_a_flat_section_has_no_shape() -> None:
    where = site(tube())
    cut = section(np.full(SHAPE, CSF), AFFINE, where)
    found = shape(cut, regions(where, cut, 0.56), where)
    assert np.isnan([found.wall, found.area, found.inner, found.outer]).all()


def test_rows_and_means_compare_arms_on_the_same_walls(image: np.ndarray) -> None:
    sites = [site(tube()), site(tube(), name="S2", centre=(3.13, -4.91, 12.0))]
    # in the second arm the wall of S2 is gone
    cut_off = image.copy()
    cut_off[:, :, 12:] = CSF
    rows = measure_vessels({"a": [image], "b": [cut_off]}, AFFINE, sites, scan="P1")
    assert list(rows["arm"]) == ["a", "a", "b", "b"] and (rows["scan"] == "P1").all()
    rows.loc[3, "wall_mm"] = np.nan
    means = scan_means(rows).set_index("arm")
    assert list(means["sites"]) == [2, 2] and list(means["resolved_sites"]) == [1, 1]
    assert means.loc["a", "wall_mm"] == pytest.approx(rows.loc[0, "wall_mm"])
    assert means.loc["a", "lumen"] == pytest.approx(rows.loc[[0, 1], "lumen"].mean())
    assert means["detected"].isna().all()


def test_known_sites_stand_alone() -> None:
    trunk = tube()
    branch = Vessel("branch", np.array([[3.13, -4.91, 18.0], [9.0, -4.91, 18.0]]), np.full(2, 1.0), np.full(2, 0.6))
    sites = known_sites([trunk], SHAPE, AFFINE, sheath=2.0, every=1.0)
    heights = [place.centre[2] for place in sites]
    assert len(sites) > 3 and all(place.radius == 2.0 and place.csf == 1.3 for place in sites)
    # clear of the image's ends by the section's thickness and three voxels
    low, high = (AFFINE[2, 3] + 0.56 * end for end in (3 + 0.6 / 0.56, SHAPE[2] - 4 - 0.6 / 0.56))
    assert low <= min(heights) and max(heights) <= high
    beside = known_sites([trunk, branch], SHAPE, AFFINE, sheath=2.0, every=1.0)
    assert {place.centre[2] for place in beside if "tube" in place.name} == {h for h in heights if h <= 18 - 1.6 - 4.5}
    assert 0 < len(beside) < len(heights)


def test_roi_files_come_back_as_they_went(tmp_path: Path) -> None:
    sites = [site(tube()), site(tube(), name="P", kind="plaque", direction=(0.0, 1.0, 0.0))]
    write_sites(sites, tmp_path / "roi.csv")
    assert read_sites(tmp_path / "roi.csv") == sites
    table = pd.read_csv(tmp_path / "roi.csv")
    short = table.drop(columns=["kind", "csf_mm", "direction_r", "direction_a", "direction_s"])
    short.to_csv(tmp_path / "short.csv", index=False)
    assert read_sites(tmp_path / "short.csv")[1] == site(tube(), name="P")
    table.drop(columns="radius_mm").to_csv(tmp_path / "lacking.csv", index=False)
    with pytest.raises(ImageError, match="lacks the columns radius_mm"):
        read_sites(tmp_path / "lacking.csv")
    table.assign(wall_mm=["0.9", "thin"]).to_csv(tmp_path / "words.csv", index=False)
    with pytest.raises(ImageError, match="row 2 of the sites lacks a number"):
        read_sites(tmp_path / "words.csv")
    table.assign(wall_mm=[0.9, -1]).to_csv(tmp_path / "negative.csv", index=False)
    with pytest.raises(ImageError, match="vessel site P"):
        read_sites(tmp_path / "negative.csv")
    with pytest.raises(FileNotFoundError, match="no ROI file"):
        read_sites(tmp_path / "none.csv")


def test_any_image_is_measured_with_an_roi_file(image: np.ndarray, tmp_path: Path) -> None:
    rng, paths = np.random.default_rng(8), []
    replicas = [(image + 5 * rng.standard_normal(image.shape)).astype(np.float32) for _ in range(8)]
    for number, replica in enumerate(replicas):
        paths.append(tmp_path / f"{number}.nii.gz")
        write_image(replica, paths[-1], affine=AFFINE)
    write_sites([site(tube())], tmp_path / "roi.csv")
    rows = measure_files(paths, tmp_path / "roi.csv", scan="P1", arm="original")
    direct = measure_vessels({"original": replicas}, AFFINE, [site(tube())], scan="P1")
    # the file is turned to another order of its axes, which measures nothing else
    for name in ("wall_mm", "lumen_mm2", "cnr_csf", "sd_lumen", "edge_inner_mm"):
        np.testing.assert_allclose(rows[name], direct[name], rtol=1e-3)
    moved = AFFINE.copy()
    moved[0, 3] += 1
    write_image(replicas[0], tmp_path / "moved.nii.gz", affine=moved)
    with pytest.raises(ImageError, match="another grid"):
        measure_files([paths[0], tmp_path / "moved.nii.gz"], tmp_path / "roi.csv")
