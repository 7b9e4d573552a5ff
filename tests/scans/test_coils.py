"""Coil sensitivities against the Biot–Savart law summed along the wire; the covariance of their noise."""

import numpy as np
import pytest

from sn2nlib.scans.coils import _receive, helmet, noise_correlation, sensitivities

SHAPE, VOXEL_SIZE = (21, 26, 25), (8.0, 8.0, 8.2)
FOV = [n * size for n, size in zip(SHAPE, VOXEL_SIZE, strict=True)]


def along_the_wire(
    points: np.ndarray, centre: np.ndarray, normal: np.ndarray, radius: float, thickness: float
) -> np.ndarray:
    """∮ dl × r / (|r|² + ε²)^(3/2) in 720 straight pieces, right minus i times anterior component."""
    first = np.linalg.svd(normal[None])[2][1]  # perpendicular to the normal
    second = np.cross(normal, first)
    angle = 2 * np.pi * (np.arange(720) + 0.5) / 720
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    wire = centre + radius * (cosine * first + sine * second)
    pieces = radius * (cosine * second - sine * first) * 2 * np.pi / 720
    apart = points[..., None, :] - wire
    distance = np.sqrt((apart**2).sum(axis=-1) + thickness**2)
    field = (np.cross(pieces, apart) / distance[..., None] ** 3).sum(axis=-2)
    return field[..., 0] - 1j * field[..., 1]


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Anywhere in the field of view."""
    return np.random.default_rng(0).uniform(-0.5, 0.5, (150, 3)) * FOV


@pytest.mark.parametrize("n_coils", [1, 8, 64])
def test_closed_form_is_the_sum_along_a_wire_of_its_thickness(n_coils: int, points: np.ndarray) -> None:
    centres, normals, radius = helmet(n_coils, FOV)
    for centre, normal in list(zip(centres, normals, strict=True))[:: max(n_coils // 3, 1)]:
        axis = centre - np.linspace(0, 4 * radius, 9)[:, None] * normal  # where the closed form is 0/0
        everywhere = np.concatenate([points, axis])
        expected = along_the_wire(everywhere, centre, normal, radius, 0.3 * radius)
        np.testing.assert_allclose(2 * _receive(everywhere, centre, normal, radius), expected, rtol=1e-6, atol=1e-12)


def test_far_from_the_wire_its_thickness_does_not_matter(points: np.ndarray) -> None:
    centres, normals, radius = helmet(64, FOV)
    for centre, normal in list(zip(centres, normals, strict=True))[::16]:
        far = points[np.linalg.norm(points - centre, axis=1) > 5 * radius]
        assert len(far) > 30
        thin = along_the_wire(far, centre, normal, radius, 0.0)
        deviation = np.linalg.norm(2 * _receive(far, centre, normal, radius) - thin) / np.linalg.norm(thin)
        assert deviation < 0.01


@pytest.mark.parametrize(("shape", "n_coils"), [(SHAPE, 1), (SHAPE, 8), ((20, 27, 24), 8), (SHAPE, 24)])
def test_maps_are_the_scaled_and_compressed_fields(shape: tuple[int, int, int], n_coils: int) -> None:
    """Every map from the wires: scale to one at the centre, |s| → |s| / (1 + |s| / 10), scale again."""
    maps = np.stack(list(sensitivities(shape, VOXEL_SIZE, n_coils)))
    fov = [n * size for n, size in zip(shape, VOXEL_SIZE, strict=True)]
    centres, normals, radius = helmet(n_coils, fov)
    picked = np.random.default_rng(1).integers(0, shape, (60, 3))
    picked[0] = [n // 2 for n in shape]
    places = (picked - [n // 2 for n in shape]) * VOXEL_SIZE
    fields = np.stack([
        along_the_wire(places, centre, normal, radius, 0.3 * radius)
        for centre, normal in zip(centres, normals, strict=True)
    ])
    fields /= np.linalg.norm(fields[:, 0])
    fields /= 1 + np.abs(fields) / 10
    fields /= np.linalg.norm(fields[:, 0])

    for coil in range(n_coils):
        # splines do less well close to a wire
        away = np.linalg.norm(places - centres[coil], axis=1) > 2 * radius
        found = maps[coil][tuple(picked.T)]
        np.testing.assert_allclose(found[away], fields[coil][away], atol=1e-2 * np.abs(fields[coil]).max())


@pytest.mark.parametrize("n_coils", [1, 2, 3, 8, 32, 64])
@pytest.mark.parametrize("shape", [(8, 11, 10), (9, 10, 11), (1, 12, 12)])
def test_root_sum_of_squares_is_one_at_the_centre(n_coils: int, shape: tuple[int, int, int]) -> None:
    maps = np.stack(list(sensitivities(shape, (180 / shape[0], 18.0, 19.0), n_coils)))
    assert maps.shape == (n_coils, *shape) and maps.dtype == np.complex64
    assert np.isfinite(maps).all()
    centre = maps[:, shape[0] // 2, shape[1] // 2, shape[2] // 2]
    assert np.linalg.norm(centre) == pytest.approx(1, rel=2e-3)


def test_the_fine_and_the_coarse_grid_see_the_same_coils() -> None:
    """Voxel n//2 is the centre of both, odd or even."""
    fine = np.stack(list(sensitivities((40, 45, 50), (4.0, 4.0, 4.0), 4)))
    coarse = np.stack(list(sensitivities((20, 15, 10), (8.0, 12.0, 20.0), 4)))
    shared = np.ix_(
        range(4),
        *(f // 2 + step * (np.arange(n) - n // 2) for f, n, step in ((40, 20, 2), (45, 15, 3), (50, 10, 5))),
    )
    np.testing.assert_allclose(fine[shared], coarse, atol=1e-5)


def test_maps_are_smooth_and_differ_from_coil_to_coil() -> None:
    maps = np.stack(list(sensitivities((24, 30, 30), (7.0, 7.0, 7.0), 8)))
    flat = maps.reshape(8, -1)
    gram = np.abs(flat @ flat.conj().T) / np.outer(*2 * [np.linalg.norm(flat, axis=1)])
    assert np.max(gram - np.eye(8)) < 0.9
    # deep inside no coil turns its phase within a voxel: there is no vortex along a loop's axis
    deep = maps[:, 8:16, 10:20, 10:20]
    turn = np.angle(deep[..., 1:] * deep[..., :-1].conj())
    assert np.median(np.abs(turn)) < 0.2


def test_the_helmet_surrounds_the_head_and_leaves_the_neck_open() -> None:
    for n_coils in (1, 5, 64):
        centres, normals, radius = helmet(n_coils, FOV)
        assert centres.shape == normals.shape == (n_coils, 3)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
        shares = centres / np.array(FOV)
        np.testing.assert_allclose(((shares / [0.66, 0.64, 0.64]) ** 2).sum(axis=1), 1)
        assert shares[:, 2].min() > -0.35 * 0.64
        assert np.all((centres * normals).sum(axis=1) > 0)
        assert 0 < radius < min(FOV)


@pytest.mark.parametrize("n_coils", [1, 2, 8, 64])
def test_noise_covariance_is_hermitian_positive_definite_of_mean_diagonal_one(n_coils: int) -> None:
    covariance = noise_correlation(n_coils, FOV, seed=3)
    assert covariance.shape == (n_coils, n_coils) and covariance.dtype == np.complex128
    np.testing.assert_allclose(covariance, covariance.conj().T, atol=1e-14)
    assert np.linalg.eigvalsh(covariance).min() > 0.1
    assert np.mean(np.diag(covariance).real) == pytest.approx(1, abs=1e-12)
    sd = np.sqrt(np.diag(covariance).real)
    correlation = np.abs(covariance / np.outer(sd, sd)) - np.eye(n_coils)
    assert correlation.max() <= 0.4
    if n_coils >= 8:
        assert correlation.max() > 0.1  # neighbours do correlate
        assert 0.03 < sd.std() < 0.3  # and gains differ


def test_noise_covariance_is_set_by_its_seed_alone() -> None:
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (noise_correlation(8, FOV, seed) for seed in (1, 1, 2))
    list(sensitivities((6, 6, 6), (30.0, 30.0, 30.0), 3))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.05
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
