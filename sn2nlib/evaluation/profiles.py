"""Profiles across a vessel: band-limited interpolation of the image, and edges at 10, 50 and 90 % of their height."""

from dataclasses import dataclass

import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import map_coordinates, spline_filter

from sn2nlib.errors import ImageError
from sn2nlib.evaluation.vessel_sites import Site
from sn2nlib.scans.vessels import voxel_positions

N_RAYS = 32
STEP = 0.05  # mm along a ray
AXIAL = (-0.6, -0.3, 0.0, 0.3, 0.6)  # mm along the vessel, over which profiles are averaged
_MARGIN = 8  # voxels around the points, so that the mirror at the patch's edge is far
_ORDER = 5  # of the spline between the points of the twice finer grid
_SECTOR = 4  # rays averaged before edges are looked for
_REACH = 0.8  # mm beyond the expected wall where its maximum may still lie


@dataclass(frozen=True)
class Section:
    """Intensities on a cross-section.

    Attributes
    ----------
    values : (axial, ray, radius) float64
    radii : (radius,) float64
        mm from the centre.
    wall_rays : (ray,) bool
        Rays on which the wall counts.
    """

    values: np.ndarray
    radii: np.ndarray
    wall_rays: np.ndarray


def interpolate(image: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Values between the voxels, as the sampling theorem gives them.

    A patch around the positions is continued by its mirror image and brought to twice as fine a grid by zeros around
    its cosine transform; there, where frequencies end at half the Nyquist frequency, a quintic spline errs by 0.2 %.
    White noise nearly keeps its SD. A wall of 0.5 mm in ideal voxels of 0.56 mm is 0.70–0.73 mm wide at half height
    (without end to the patch 0.71, wherever the grid lies); linear interpolation would add to that.

    Parameters
    ----------
    image : (z, y, x)
    positions : (…, 3)
        (z, y, x) in voxels, inside the image.

    Returns
    -------
    (…) float64

    Raises
    ------
    ImageError
        For positions outside the image.
    """
    flat = positions.reshape(-1, 3)
    low, high = flat.min(axis=0), flat.max(axis=0)
    if (low < 0).any() or (high > np.array(image.shape) - 1).any():
        raise ImageError("a vessel site reaches beyond the image; take it out of the ROI file")
    first = np.maximum(np.floor(low).astype(int) - _MARGIN, 0)
    last = np.minimum(np.ceil(high).astype(int) + _MARGIN + 1, image.shape)
    patch = np.asarray(image[tuple(slice(a, b) for a, b in zip(first, last, strict=True))], np.float64)
    spectrum = np.zeros([2 * n for n in patch.shape])
    spectrum[tuple(slice(n) for n in patch.shape)] = dctn(patch, norm="ortho")
    fine = idctn(spectrum, norm="ortho") * 2 ** (patch.ndim / 2)
    # sample i of n lies at (i + 1/2) / n of the patch, on both grids
    places = 2 * (flat - first) + 0.5
    values = map_coordinates(
        spline_filter(fine, _ORDER, mode="reflect"), places.T, order=_ORDER, mode="reflect", prefilter=False
    )
    return values.reshape(positions.shape[:-1])


def section(image: np.ndarray, affine: np.ndarray, site: Site) -> Section:
    """Cross-section of a vessel: rays from its centre at right angles to it, the first in the site's direction.

    Parameters
    ----------
    image : (z, y, x)
    affine : (4, 4)
        RAS+ affine of the image stored as (x, y, z).
    site
        Where.
    """
    tangent = np.array(site.tangent) / np.linalg.norm(site.tangent)
    first = np.array(site.direction) if site.direction is not None else np.eye(3)[np.argmin(np.abs(tangent))]
    first = first - (first @ tangent) * tangent
    if np.linalg.norm(first) < 1e-6:
        raise ImageError(f"vessel site {site.name}: its direction runs along the vessel")
    first /= np.linalg.norm(first)
    second = np.cross(tangent, first)
    # sectors of rays begin with the first ray, so that it lies half a sector off
    angles = 2 * np.pi * (np.arange(N_RAYS) - (_SECTOR - 1) / 2) / N_RAYS
    rays = np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * second
    radii = np.arange(0, site.radius + site.wall + site.csf, STEP)
    along = np.array(AXIAL)[:, None, None, None] * tangent
    points = np.array(site.centre) + along + radii[:, None] * rays[:, None, :]
    wall_rays = np.ones(N_RAYS, bool)
    if site.direction is not None:
        wall_rays = np.cos(angles) > np.cos(np.deg2rad(45)) - 1e-9
    return Section(interpolate(image, voxel_positions(points, affine)), radii, wall_rays)


@dataclass(frozen=True)
class Regions:
    """Which points (ray, radius) of a section are lumen, wall and CSF, bool; the same on all axial positions."""

    lumen: np.ndarray
    wall: np.ndarray
    csf: np.ndarray


def regions(site: Site, cut: Section, voxel: float) -> Regions:
    """Inner half of the lumen's radius; the middle of the wall, 0.1 mm to either side; CSF a voxel outside of it."""
    middle, outer = site.radius + site.wall / 2, site.radius + site.wall
    csf = cut.radii >= min(outer + voxel, cut.radii[-1] - 2 * STEP)
    return Regions(
        np.broadcast_to(cut.radii <= 0.5 * site.radius, cut.values.shape[1:]),
        cut.wall_rays[:, None] & (np.abs(cut.radii - middle) <= 0.1 + 1e-9),
        cut.wall_rays[:, None] & csf,
    )


@dataclass(frozen=True)
class Shape:
    """What the edges of a section say; NaN where they are not found.

    Attributes
    ----------
    wall
        Thickness at half height in mm, median over sectors of 45°.
    area
        Of the lumen, inside the half height of the wall's inner edge, in mm².
    inner, outer
        10–90 % width of the wall's edge to the lumen and to the CSF in mm, median over sectors.
    """

    wall: float
    area: float
    inner: float
    outer: float


def shape(cut: Section, where: Regions, site: Site) -> Shape:
    """Edges on the mean profile of each sector of 45°, averaged over the axial positions."""
    profiles = cut.values.mean(axis=0).reshape(-1, _SECTOR, len(cut.radii)).mean(axis=1)
    lumen = float(cut.values[:, where.lumen].mean())
    csf = float(cut.values[:, where.csf].mean())
    counts = cut.wall_rays.reshape(-1, _SECTOR).all(axis=1)
    edges = np.array([wall_edges(profile, cut.radii, site, lumen=lumen, csf=csf) for profile in profiles])
    walls, inner = edges[counts, 1] - edges[counts, 0], edges[:, 0]
    area = float(np.pi * np.nanmean(inner**2)) if np.isfinite(inner).mean() >= 0.75 else np.nan
    return Shape(_typical(walls), area, _typical(edges[counts, 2]), _typical(edges[counts, 3]))


def _typical(values: np.ndarray) -> float:
    """Median, where at least half of the values are known."""
    found = values[np.isfinite(values)]
    return float(np.median(found)) if 2 * len(found) >= max(len(values), 1) else np.nan


def wall_edges(
    profile: np.ndarray, radii: np.ndarray, site: Site, *, lumen: float, csf: float
) -> tuple[float, float, float, float]:
    """Edges of a bright wall between a dark lumen and dark CSF.

    An ideal voxel shows a wall of 1–2 voxels with an overshoot, and thereby up to a tenth of a millimetre too thin at
    half height: thickness is to be compared with that in the noise-free image, not only with the truth.

    1. The wall's height is the largest value between half the lumen's radius and 0.8 mm outside the expected wall.
    2. From there inwards and outwards, the first place where the profile has fallen half way to the level of the
       lumen, or of the CSF: the edges; and those where it has fallen by 10 and by 90 %: their widths.

    Parameters
    ----------
    profile, radii : (radius,)
        Intensities along a ray; mm.
    site
        What to expect.
    lumen, csf
        Levels.

    Returns
    -------
    inner, outer
        mm from the centre.
    inner_width, outer_width
        mm; each NaN where the profile does not fall so far.
    """
    window = (radii >= 0.5 * site.radius) & (radii <= site.radius + site.wall + _REACH)
    peak = int(np.flatnonzero(window)[np.argmax(profile[window])])
    found = []
    for side, level in ((slice(peak, None, -1), lumen), (slice(peak, None), csf)):
        values, places = profile[side], radii[side]
        height = profile[peak] - level
        if height <= 1e-6 * abs(profile[peak]):
            found.append((np.nan, np.nan))
            continue
        half, high, low = (_first_below(values, places, level + share * height) for share in (0.5, 0.9, 0.1))
        found.append((half, abs(high - low)))
    (inner, inner_width), (outer, outer_width) = found
    return inner, outer, inner_width, outer_width


def _first_below(values: np.ndarray, places: np.ndarray, level: float) -> float:
    """Where a profile that begins above `level` first falls to it, between two samples; NaN if it never does."""
    below = np.flatnonzero(values <= level)
    if below.size == 0:
        return float("nan")
    i = int(below[0])
    if i == 0:
        return float(places[0])
    share = (values[i - 1] - level) / (values[i - 1] - values[i])
    return float(places[i - 1] + share * (places[i] - places[i - 1]))
