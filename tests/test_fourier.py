"""Centred orthonormal transforms against a plain DFT matrix; cropping about the centre."""

import numpy as np
import pytest

from sn2nlib.fourier import crop, fft, ifft, pad

SHAPES = [(4, 5, 6), (1, 7, 3), (2, 3, 8, 5)]


def dft_matrix(n: int) -> np.ndarray:
    """(n, n) orthonormal DFT, zero frequency and zero position both at index n//2."""
    centred = np.arange(n) - n // 2
    return np.exp(-2j * np.pi * np.outer(centred, centred) / n) / np.sqrt(n)


def along(matrices: dict[int, np.ndarray], x: np.ndarray) -> np.ndarray:
    for axis, matrix in matrices.items():
        x = np.moveaxis(np.tensordot(matrix, x, axes=(1, axis)), 0, axis)
    return x


def random_complex(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    parts = np.random.default_rng(seed).standard_normal((2, *shape))
    return parts[0] + 1j * parts[1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axes", [(-3, -2, -1), (-1,), (-3, -1), (-2,)])
def test_both_directions_are_the_centred_dft_matrix(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = random_complex(shape)
    forward = {axis: dft_matrix(shape[axis]) for axis in axes}
    backward = {axis: matrix.conj().T for axis, matrix in forward.items()}

    np.testing.assert_allclose(fft(x, axes=axes), along(forward, x), atol=1e-13)
    np.testing.assert_allclose(ifft(x, axes=axes), along(backward, x), atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_they_are_unitary_and_each_others_inverse(shape: tuple[int, ...]) -> None:
    x, y = random_complex(shape), random_complex(shape, seed=1)
    np.testing.assert_allclose(ifft(fft(x)), x, atol=1e-13)
    np.testing.assert_allclose(np.vdot(fft(x), fft(y)), np.vdot(x, y), rtol=1e-12)


@pytest.mark.parametrize("n", [6, 7])
def test_a_constant_image_is_one_sample_at_the_centre(n: int) -> None:
    kspace = fft(np.ones((n, n, n)))
    expected = np.zeros((n, n, n))
    expected[n // 2, n // 2, n // 2] = n**1.5
    np.testing.assert_allclose(kspace, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "returned"),
    [("complex64", "complex64"), ("complex128", "complex128"), ("float32", "complex64"), ("float64", "complex128")],
)
def test_precision_is_kept_and_the_input_untouched(given: str, returned: str) -> None:
    x = random_complex((3, 4, 5)).real.astype(given)
    before = x.copy()
    assert fft(x).dtype == ifft(x).dtype == np.dtype(returned)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("large", [6, 7])
@pytest.mark.parametrize("small", [1, 3, 4, 6])
def test_crop_keeps_every_sample_at_its_distance_from_the_centre(large: int, small: int) -> None:
    position = np.arange(large) - large // 2
    x = np.broadcast_to(position, (2, 5, large))
    np.testing.assert_array_equal(crop(x, (small,))[1, 4], np.arange(small) - small // 2)
    assert crop(x, (3, small)).shape == (2, 3, small)


@pytest.mark.parametrize("small", [(3, 4, 5), (4, 3, 1), (1, 1, 2)])
@pytest.mark.parametrize("large", [(4, 4, 5), (7, 9, 6), (8, 6, 11)])
def test_crop_undoes_pad(small: tuple[int, ...], large: tuple[int, ...]) -> None:
    x = random_complex((2, *small)).astype(np.complex64)
    padded = pad(x, large)
    assert padded.shape == (2, *large) and padded.dtype == np.complex64
    np.testing.assert_array_equal(crop(padded, small), x)
    assert np.count_nonzero(padded) == x.size  # zeros everywhere else


def test_padded_kspace_is_the_same_image_on_a_finer_grid() -> None:
    """A band-limited image keeps its values where the grids share positions: the centre n//2 among them."""
    coarse = random_complex((4, 5, 6))
    fine = ifft(pad(fft(coarse), (12, 15, 18))) * np.sqrt(27)
    here = tuple(3 * (np.arange(n) - n // 2) + 3 * n // 2 for n in coarse.shape)
    np.testing.assert_allclose(fine[np.ix_(*here)], coarse, atol=1e-12)


def test_wrong_sizes_are_refused() -> None:
    x = np.zeros((4, 5))
    with pytest.raises(ValueError, match=r"cannot crop axes of size \(4, 5\) to \(4, 6\); use pad"):
        crop(x, (4, 6))
    with pytest.raises(ValueError, match=r"cannot pad axes of size \(4, 5\) to \(3, 5\); use crop"):
        pad(x, (3, 5))
