"""Walsh weights against known coil maps."""

import inspect
import tracemalloc

import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.fourier import ifft
from sn2nlib.recon import combine, walsh
from sn2nlib.recon.coils import DEFAULT_WINDOW, block_weights
from sn2nlib.scans import needs


def _alignment(weights: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """|⟨w, s⟩| / (‖w‖‖s‖) per voxel."""
    inner = np.abs((weights.conj() * maps).sum(axis=0))
    return inner / np.linalg.norm(weights, axis=0) / np.linalg.norm(maps, axis=0)


def _noisy(head, white_noise, seed: int = 0) -> np.ndarray:
    """Coil images at the cohort's noise: SD 3 % of the image's intensity."""
    noise = white_noise(head.kspace.shape, np.random.default_rng(seed))
    return ifft(head.kspace + noise).astype(np.complex64)


@pytest.mark.parametrize("shape", [(8, 48, 64, 60), (5, 37, 51, 43), (12, 1, 96, 91)])
def test_weights_follow_the_known_maps_inside_the_head(shape, phantom, white_noise) -> None:
    head = phantom(shape, signal=35.0)
    weights = walsh(_noisy(head, white_noise))
    alignment = _alignment(weights, head.maps)[head.head]
    assert np.median(alignment) >= 0.999
    assert np.percentile(alignment, 1) > 0.98


@pytest.mark.parametrize("shape", [(4, 11, 9, 13), (1, 8, 8, 8), (3, 1, 1, 1), (3, 1, 20, 1), (2, 2, 30, 7)])
@pytest.mark.parametrize("window", [1, 2, 3, 7, 40])
def test_weights_have_unit_norm_for_any_size_and_window(shape, window, white_noise) -> None:
    images = white_noise(shape, np.random.default_rng(1))
    before = images.copy()
    weights = walsh(images, window=window)
    assert weights.shape == shape and weights.dtype == np.complex64
    assert np.allclose(np.linalg.norm(weights, axis=0), 1, atol=1e-5)
    assert np.array_equal(images, before)


def test_equals_the_dominant_eigenvector_of_one_window(phantom, white_noise) -> None:
    """window = 3 has blocks of one voxel: no interpolation, the weights are the eigenvectors themselves."""
    images = _noisy(phantom((4, 12, 14, 13)), white_noise)
    weights = walsh(images, window=3)
    for z, y, x in ((5, 6, 6), (4, 8, 7), (7, 5, 5)):
        window = images[:, z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2].reshape(4, -1).astype(complex)
        vector = np.linalg.eigh(window @ window.conj().T)[1][:, -1]
        assert np.abs(np.vdot(vector, weights[:, z, y, x])) == pytest.approx(1, abs=2e-4)


def test_scale_of_the_images_does_not_change_the_weights(phantom, white_noise) -> None:
    images = _noisy(phantom((4, 10, 20, 18)), white_noise)
    assert np.allclose(walsh(images), walsh(images * np.float32(1e-5)), atol=1e-4)


def test_phase_is_smooth_and_set_by_one_reference(phantom, white_noise) -> None:
    head = phantom((6, 24, 40, 38))
    weights = walsh(_noisy(head, white_noise))
    inside = head.head[:, 1:-1, 1:-1]
    for axis in (1, 2, 3):
        neighbour = np.roll(weights, 1, axis=axis)
        step = np.abs(weights - neighbour).max(axis=0)[:, 1:-1, 1:-1]
        assert np.percentile(step[inside], 99) < 0.2


def test_weights_in_air_follow_the_surroundings_not_the_noise(phantom, white_noise) -> None:
    head = phantom((6, 40, 64, 60))
    first, second = (walsh(_noisy(head, white_noise, seed)) for seed in (1, 2))
    air = ~head.head
    assert np.median(_alignment(first, second)[air]) > 0.95
    assert np.median(_alignment(first, second)[head.head]) > 0.999


def test_combination_is_the_inner_product(white_noise) -> None:
    rng = np.random.default_rng(2)
    images, weights = white_noise((3, 4, 5, 6), rng), white_noise((3, 4, 5, 6), rng)
    before = weights.copy()
    combined = combine(images, weights)
    assert combined.dtype == np.complex64
    assert combined[1, 2, 3] == pytest.approx(np.vdot(weights[:, 1, 2, 3], images[:, 1, 2, 3]), rel=1e-5)
    assert np.array_equal(weights, before)


def test_one_coil_gives_its_own_image_back(white_noise) -> None:
    image = white_noise((1, 9, 8, 7), np.random.default_rng(3))
    combined = combine(image, walsh(image))
    assert np.allclose(np.abs(combined), np.abs(image[0]), rtol=1e-5)
    phase = np.angle(combined * image[0].conj())
    assert np.allclose(np.exp(1j * (phase - phase[0, 0, 0])), 1, atol=1e-5)


def test_noise_free_combination_has_the_absolute_scale_of_the_maps(phantom) -> None:
    head = phantom((6, 24, 40, 38))
    images = ifft(head.kspace)
    combined = np.abs(combine(images, walsh(images)))
    expected = head.image * np.linalg.norm(head.maps, axis=0)
    assert np.linalg.norm((combined - expected)[head.head]) / np.linalg.norm(expected) < 0.005


class OnDisk:
    """Coil images of which every slab is a copy of its own, as if it were read."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.shape = images, images.shape

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        return self.images[key].copy()


@pytest.mark.parametrize(
    ("shape", "window"), [((48, 12, 96, 96), 7), ((16, 9, 120, 150), 7), ((6, 30, 41, 33), 7), ((16, 3, 24, 40), 1)]
)
def test_the_covariances_take_no_more_memory_than_is_told(shape, window, white_noise) -> None:
    images = OnDisk(white_noise(shape, np.random.default_rng(5)))
    n_coils, nx, nz, ny = shape  # the axes of the files out of core
    tracemalloc.start()
    try:
        weights = block_weights(images, window=window)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    told = weights.vectors.nbytes + needs.walsh_memory((nz, ny, nx), n_coils, window=window)
    assert told / 3 < peak < told + 2**20
    assert inspect.signature(needs.least_memory).parameters["window"].default == DEFAULT_WINDOW


def test_memory_does_not_grow_by_planes_for_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, told = (256, 328, 328), []
    for cores in (2, 16):
        monkeypatch.setattr(needs, "n_threads", lambda cores=cores: cores)
        told.append(needs.walsh_memory(shape, 64, window=7))
    plane = 8 * 64**2 * 86 * 110
    assert told[0] < 9 * plane and (told[1] - told[0]) / 14 < plane


def test_bands_give_the_weights_of_whole_planes(phantom, white_noise, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _noisy(phantom((6, 30, 64, 60)), white_noise)
    whole = walsh(images)
    monkeypatch.setattr(needs, "WALSH_BAND", 2**16)
    assert needs.walsh_rows(22, 20, 6) == 8
    assert np.abs(walsh(images) - whole).max() < 1e-5


def test_empty_images_give_finite_weights() -> None:
    assert np.isfinite(walsh(np.zeros((3, 4, 5, 6), dtype=np.complex64))).all()


def test_bad_input_is_refused(white_noise) -> None:
    images = white_noise((2, 4, 4, 4), np.random.default_rng(4))
    with pytest.raises(ScanError, match=r"need complex \(coil, z, y, x\)"):
        walsh(images[0])
    with pytest.raises(ScanError, match="at least 1 voxel"):
        walsh(images, window=0)
    for value in (np.nan, np.inf, 1e25, 1e38):  # the last two are finite, but their squares are not
        broken = images.copy()
        broken[1, 2, 3, 1] = value
        with pytest.raises(ScanError, match="coil images exceed single precision or hold NaN or Inf"):
            walsh(broken)
    with pytest.raises(ScanError, match="differ in shape"):
        combine(images, images[:1])
