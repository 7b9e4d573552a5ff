"""Vessel walls in numbers: contrast, contrast-to-noise ratio, lumen, wall thickness, sharpness.

The noise SD is that of a point over replicas of the same scan. A spatial SD would reward any blur, and in dark regions
hide a floor that was lifted. Measures of shape are given for walls of at least 1.5 voxels; of thinner ones the image's
resolution alone would be measured: they are detected or not, and have a contrast-to-noise ratio.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sn2nlib.errors import ImageError
from sn2nlib.evaluation.profiles import Regions, Section, regions, section, shape
from sn2nlib.evaluation.vessel_sites import Site, read_sites
from sn2nlib.scans.images import read_image

MIN_REPLICAS = 8
RESOLVED = 1.5  # voxels that a wall needs for measures of its shape
DETECTED = 3.0  # contrast-to-noise ratio to both sides; we chose
SHAPE = ("wall_mm", "lumen_mm2", "edge_inner_mm", "edge_outer_mm")


def measure_site(images: Sequence[np.ndarray], affine: np.ndarray, site: Site) -> dict[str, Any]:
    """Everything that is measured on one cross-section.

    1. Levels: mean over the inner half of the lumen, the middle of the wall, and the CSF a voxel outside of it, and
       over the images.
    2. Noise SD of each: at every point the sample SD over the images; root mean square over the points.
    3. CNR of wall and lumen: (wall − lumen) / √((SD_wall² + SD_lumen²)/2), and so for the CSF.
    4. Shape: on each image by itself, then the mean.

    Parameters
    ----------
    images
        Replicas of one scan, (z, y, x) each, alike in everything but their noise; or a single image.
    affine : (4, 4)
        RAS+ affine of the images stored as (x, y, z).
    site
        Where.

    Returns
    -------
    dict
        site, kind; lumen, wall, csf (levels); contrast_lumen, contrast_csf (of the wall); sd_lumen, sd_wall, sd_csf,
        cnr_lumen, cnr_csf (NaN for fewer than 8 images); resolved (wall of at least 1.5 voxels), detected (None
        without noise SD): the mean profile has its maximum within a voxel of the wall's middle, and both CNR are at
        least 3; wall_mm, lumen_mm2, edge_inner_mm, edge_outer_mm (NaN where not resolved, or not found in half the
        images); given_wall_mm, given_lumen_mm2 (of the site: in a phantom the truth); n_images.
    """
    if not images:
        raise ImageError(f"vessel site {site.name}: there is no image to measure")
    voxel = float(np.linalg.norm(affine[:3, :3], axis=0).max())
    cuts = [section(image, affine, site) for image in images]
    where = regions(site, cuts[0], voxel)
    row: dict[str, Any] = {"site": site.name, "kind": site.kind}
    row |= _levels(cuts, where)
    resolved = site.wall >= RESOLVED * voxel
    row |= {"resolved": resolved, "detected": _detected(cuts, site, row, voxel)}
    row |= _shapes(cuts, where, site) if resolved else dict.fromkeys(SHAPE, np.nan)
    given = {"given_wall_mm": site.wall, "given_lumen_mm2": np.pi * site.radius**2, "n_images": len(cuts)}
    return row | given


def _levels(cuts: Sequence[Section], where: Regions) -> dict[str, float]:
    levels, sd = {}, {}
    for name in ("lumen", "wall", "csf"):
        samples = np.stack([cut.values[:, getattr(where, name)] for cut in cuts])
        levels[name] = float(samples.mean())
        known = len(cuts) >= MIN_REPLICAS
        sd[name] = float(np.sqrt(samples.var(axis=0, ddof=1).mean())) if known else np.nan
    row = levels | {f"contrast_{name}": levels["wall"] - levels[name] for name in ("lumen", "csf")}
    row |= {f"sd_{name}": value for name, value in sd.items()}
    for name in ("lumen", "csf"):
        noise = np.sqrt((sd["wall"] ** 2 + sd[name] ** 2) / 2)
        row[f"cnr_{name}"] = row[f"contrast_{name}"] / noise if noise > 0 else np.nan
    return row


def _detected(cuts: Sequence[Section], site: Site, row: Mapping[str, Any], voxel: float) -> bool | None:
    if np.isnan(row["cnr_lumen"]) or np.isnan(row["cnr_csf"]):
        return None
    radii = cuts[0].radii
    profile = np.mean([cut.values[:, cut.wall_rays].mean(axis=(0, 1)) for cut in cuts], axis=0)
    near = radii <= site.radius + site.wall + voxel
    peak = radii[near][np.argmax(profile[near])]
    in_place = abs(peak - site.radius - site.wall / 2) <= voxel
    return bool(in_place and min(row["cnr_lumen"], row["cnr_csf"]) >= DETECTED)


def _shapes(cuts: Sequence[Section], where: Regions, site: Site) -> dict[str, float]:
    found = [shape(cut, where, site) for cut in cuts]
    values = np.array([[s.wall, s.area, s.inner, s.outer] for s in found])
    known = np.isfinite(values)
    row = {}
    for name, column, ok in zip(SHAPE, values.T, known.T, strict=True):
        row[name] = float(column[ok].mean()) if 2 * np.count_nonzero(ok) >= len(cuts) else np.nan
    return row


def measure_vessels(
    arms: Mapping[str, Sequence[np.ndarray]], affine: np.ndarray, sites: Iterable[Site], *, scan: str = ""
) -> pd.DataFrame:
    """`measure_site` for every arm and site.

    Parameters
    ----------
    arms
        Arm (original, sN2N, noise-free, …) → its images: replicas of one scan, or a single one.
    affine
        Of all images.
    sites
        From `sn2nlib.evaluation.vessel_sites`.
    scan
        Label for the rows.

    Returns
    -------
    scan, arm, and the columns of `measure_site`; a row per arm and site.
    """
    sites = list(sites)
    rows = [
        {"scan": scan, "arm": arm, **measure_site(images, affine, site)}
        for arm, images in arms.items()
        for site in sites
    ]
    return pd.DataFrame(rows)


def scan_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over the sites of each scan and arm: the numbers that are paired between arms.

    A site counts for a measure of shape only if every arm of the scan has it, so that arms are compared on the same
    walls.

    Parameters
    ----------
    rows
        From `measure_vessels`, of one scan or several.

    Returns
    -------
    scan, arm, the mean of every number (given_wall_mm and given_lumen_mm2 over the sites that were measured), detected
    (share of the sites, NaN where unknown), sites, resolved_sites (that entered the wall thickness).
    """
    rows = rows.copy()
    arms = rows.groupby("scan")["arm"].transform("nunique")
    for name in SHAPE:
        shared = rows.groupby(["scan", "site"])[name].transform("count") == arms
        rows[name] = rows[name].where(shared)
    for name in ("wall_mm", "lumen_mm2"):
        rows[f"given_{name}"] = rows[f"given_{name}"].where(rows[name].notna())
    rows["detected"] = [np.nan if found is None or pd.isna(found) else float(found) for found in rows["detected"]]
    keys = ["scan", "arm"]
    numbers = [c for c in rows if c not in (*keys, "site", "kind", "resolved", "n_images")]
    grouped = rows.groupby(keys, sort=False)
    means = grouped[numbers].mean()
    means["sites"], means["resolved_sites"] = grouped.size(), grouped["wall_mm"].count()
    return means.reset_index()


def measure_files(
    images: Sequence[str | os.PathLike[str]], roi: str | os.PathLike[str], *, scan: str = "", arm: str = "image"
) -> pd.DataFrame:
    """The measures of any image with an ROI file.

    Parameters
    ----------
    images
        NIfTI files of one grid: repeated scans, whose scatter is the noise (from 8 on), or a single one.
    roi
        See `sn2nlib.evaluation.vessel_sites.read_sites`; RAS mm.
    scan, arm
        Labels for the rows.

    Returns
    -------
    As `measure_vessels`.

    Raises
    ------
    ImageError
        If the images differ in shape or place, or a site lies outside of them.
    """
    sites = read_sites(roi)
    volumes, places = zip(*(read_image(path) for path in images), strict=True)
    first = places[0]
    for path, place in zip(images, places, strict=True):
        if place.shape != first.shape or not np.allclose(place.affine, first.affine, atol=1e-3):
            raise ImageError(f"{path}: lies on another grid than {images[0]}; repeated images need the same one")
    return measure_vessels({arm: volumes}, first.affine, sites, scan=scan)
