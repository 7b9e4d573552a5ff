"""Receive coils of the simulated scanner: loops on a helmet, their sensitivities and their noise."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import ellipe, ellipk

# the helmet hugs the field of view: semi-axes as shares of it (right, anterior, superior)
_HELMET = (0.66, 0.64, 0.64)


def helmet(n_coils: int, fov: Sequence[float]) -> tuple[np.ndarray, np.ndarray, float]:
    """Loops spread evenly over a helmet that leaves face and neck open.

    Parameters
    ----------
    n_coils
        At least 1.
    fov
        (z, y, x) = (right, anterior, superior) in mm.

    Returns
    -------
    centres : (coil, 3) mm from the centre of the field of view, in (z, y, x) order
    normals : (coil, 3) unit vectors
    radius : mm
    """
    axes = np.asarray(_HELMET) * np.asarray(fov, float)
    index = np.arange(n_coils) + 0.5
    height = 1 - 1.35 * index / n_coils  # from the vertex (1) to below the ears (−0.35)
    angle = np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - height**2)
    directions = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)
    normals = directions / axes
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    # neighbouring loops nearly touch: loop area × number ≈ area of the covered part of the helmet
    radius = 0.95 * float(np.sqrt(2.7 * np.mean(axes) ** 2 / max(n_coils, 6)))
    return directions * axes, normals, radius


def sensitivities(
    shape: Sequence[int], voxel_size: Sequence[float], n_coils: int, *, room: float = 1.0
) -> Iterator[np.ndarray]:
    """Receive sensitivities B1⁻ = B_right − i·B_anterior of circular loops by Biot–Savart, B0 along superior.

    They come coil by coil: on a head's fine grid all of them would take gigabytes.

    1. The field of a loop in closed form with complete elliptic integrals (Smythe, Static and Dynamic Electricity,
       1950), every 6 mm or a little more, for a wire thickened to 0.3 loop radii (see `_receive`).
    2. Scaled to a root sum of squares of 1 at the centre. Magnitudes are then compressed, |s| → |s| / (1 + |s| / 10),
       which dims what lies close to a loop by some tens of percent, phase unchanged, and scaled once more.
    3. Interpolated by cubic splines.

    Parameters
    ----------
    shape, voxel_size
        (z, y, x) = (right, anterior, superior) of the grid; mm.
    n_coils
        Number of loops.
    room
        The helmet hugs a box that is so many times larger than the field of view: above 1 for a slab or a small field
        of view inside the head, whose corners hold tissue.

    Yields
    ------
    (z, y, x) complex64
    """
    fov = [n * size for n, size in zip(shape, voxel_size, strict=True)]
    centres, normals, radius = helmet(n_coils, [room * extent for extent in fov])
    knots = [np.linspace(-extent / 2, extent / 2, max(int(extent / 6), 4)) for extent in fov]
    bases = [
        CubicSpline(knot, np.eye(len(knot)))((np.arange(n) - n // 2) * size).astype(np.float32)
        for knot, n, size in zip(knots, shape, voxel_size, strict=True)
    ]
    points = np.stack(np.meshgrid(*knots, indexing="ij"), axis=-1)
    middle = np.array([_receive(np.zeros(3), c, n, radius) for c, n in zip(centres, normals, strict=True)])
    level = np.linalg.norm(middle)
    gain = 1 / np.linalg.norm(_compressed(middle / level))
    for centre, normal in zip(centres, normals, strict=True):
        coarse = (gain * _compressed(_receive(points, centre, normal, radius) / level)).astype(np.complex64)
        for axis, basis in enumerate(bases):
            coarse = np.moveaxis(np.tensordot(basis, coarse, axes=(1, axis)), 0, axis)
        yield np.ascontiguousarray(coarse, np.complex64)


def _compressed(sensitivity: np.ndarray) -> np.ndarray:
    return sensitivity / (1 + np.abs(sensitivity) / 10)


def _receive(points: np.ndarray, centre: np.ndarray, normal: np.ndarray, radius: float) -> np.ndarray:
    """B1⁻ of one loop of unit current (arbitrary units) at points (…, 3).

    The wire has a thickness ε = 0.3 radius: ∮ dl × r / (|r|² + ε²)^(3/2). In the closed form the squared height above
    the loop becomes height² + ε² everywhere; anywhere less and the field would diverge on the loop's axis.
    """
    relative = points - centre
    along = relative @ normal
    radial = relative - along[..., None] * normal
    rho = np.maximum(np.linalg.norm(radial, axis=-1), 1e-6)
    height2 = along**2 + (0.3 * radius) ** 2
    near, far = (radius - rho) ** 2 + height2, (radius + rho) ** 2 + height2
    k2 = 1 - near / far
    big_k, big_e = ellipk(k2), ellipe(k2)
    axial = (big_k + (radius**2 - rho**2 - height2) / near * big_e) / np.sqrt(far)
    outward = along / (rho * np.sqrt(far)) * (-big_k + (radius**2 + rho**2 + height2) / near * big_e)
    field = axial[..., None] * normal + (outward / rho)[..., None] * radial
    return field[..., 0] - 1j * field[..., 1]


def noise_correlation(n_coils: int, fov: Sequence[float], seed: int) -> np.ndarray:
    """Covariance of the coil noise, mean diagonal 1: neighbours correlate up to about 0.4, gains differ by 10 %.

    Returns
    -------
    (coil, coil) complex128, Hermitian and positive definite
    """
    rng = np.random.default_rng(seed)
    centres, _, radius = helmet(n_coils, fov)
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    coupling = 0.4 * np.exp(-((apart / (2.5 * radius)) ** 2)) + 0.6 * np.eye(n_coils)
    phasor = np.exp(1j * rng.uniform(-np.pi, np.pi, n_coils))
    gain = np.exp(0.1 * rng.standard_normal(n_coils))
    covariance = coupling * np.outer(gain * phasor, (gain * phasor).conj())
    return covariance / np.mean(np.diag(covariance).real)
