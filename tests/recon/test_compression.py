"""Coil compression: noise stays white, signal stays, one matrix for the original and both halves."""

import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.recon import compress, compression_matrix, make_pair, reconstruct, whiten
from sn2nlib.recon.noise import whitening_matrix

SHAPE = (12, 24, 36, 33)


def deviation(noise: np.ndarray) -> float:
    """RMS over the elements of E[n nᴴ]/2 - 1, in units of 1/√n."""
    n_coils, n = noise.shape
    return float(np.sqrt(np.mean(np.abs(noise @ noise.conj().T / (2 * n) - np.eye(n_coils)) ** 2) * n))


def calibration(n_coils: int, phantom) -> np.ndarray:
    return phantom((n_coils, 12, 20, 21), signal=100.0).kspace


@pytest.mark.parametrize("name", ["noise34ch.npy", "noise16ch.npy"])
def test_real_noise_is_white_after_whitening_and_after_compression(name, phantom, require) -> None:
    noise = np.load(require("data", name))
    n_coils, half = len(noise), noise.shape[1] // 2
    whitening, rest = whitening_matrix(noise[:, :half]), noise[:, half:]
    assert deviation(whiten(rest, whitening)) <= 2
    acs = whiten(calibration(n_coils, phantom), whitening)
    nx = acs.shape[3]
    lines = rest[:, : rest.shape[1] // nx * nx].reshape(n_coils, -1, nx)
    for method in ("svd", "gcc"):
        compression = compression_matrix(acs, virtual_coils=8, method=method)
        compressed = compress(lines, whitening, compression)
        assert compressed.shape == (8, *lines.shape[1:])
        assert deviation(compressed.reshape(8, -1)) <= 2


@pytest.mark.parametrize("method, n_matrices", [("svd", 1), ("gcc", 21)])
def test_rows_are_orthonormal_and_all_coils_lose_nothing(method, n_matrices, phantom) -> None:
    acs = calibration(7, phantom)
    before = acs.copy()
    compression = compression_matrix(acs, virtual_coils=3, method=method)
    assert np.array_equal(acs, before) and compression.matrix.shape == (n_matrices, 3, 7)
    assert np.allclose(compression.matrix @ compression.matrix.conj().swapaxes(1, 2), np.eye(3), atol=1e-12)
    whole = compression_matrix(acs, virtual_coils=7, method=method)
    assert whole.energy == pytest.approx(1)
    compressed = compress(acs, np.eye(7, dtype=complex), whole)
    assert np.linalg.norm(compressed) == pytest.approx(np.linalg.norm(acs), rel=1e-5)


def test_geometric_compression_holds_more_energy_and_is_smooth(phantom) -> None:
    acs = calibration(16, phantom)
    energy = {m: compression_matrix(acs, virtual_coils=4, method=m).energy for m in ("svd", "gcc")}
    assert energy["svd"] < energy["gcc"] < 1
    matrix = compression_matrix(acs, virtual_coils=4, method="gcc").matrix
    middle = matrix[7:15]  # where there is signal
    overlap = np.einsum("xvc,xvc->xv", middle[1:], middle[:-1].conj())
    assert np.abs(overlap).min() > 0.9 and np.abs(np.angle(overlap)).max() < 0.3


@pytest.mark.parametrize("method", ["svd", "gcc"])
def test_the_number_follows_from_the_energy(method, phantom) -> None:
    acs = calibration(10, phantom)
    compression = compression_matrix(acs, virtual_coils=0.98, method=method)
    number = compression.n_virtual
    assert compression.energy >= 0.98 and 1 < number < 10
    assert compression_matrix(acs, virtual_coils=np.int64(number - 1), method=method).energy < 0.98


@pytest.mark.parametrize("method", ["svd", "gcc"])
def test_compressed_images_are_the_uncompressed_ones(method, phantom, scan_of) -> None:
    head = phantom(SHAPE, signal=100.0)
    scan = scan_of(head, acceleration=(2, 1), acs=18)
    image = np.abs(reconstruct(scan))
    compressed = np.abs(reconstruct(scan, virtual_coils=6, compression=method))
    inside = head.head
    assert np.linalg.norm((compressed - image)[inside]) < 0.03 * np.linalg.norm(image[inside])


@pytest.mark.parametrize("method", ["svd", "gcc"])
def test_one_matrix_serves_the_original_and_both_halves(method, phantom, scan_of) -> None:
    head = phantom(SHAPE, signal=100.0)
    scan = scan_of(head, acceleration=(2, 1), acs=18)
    pair = make_pair(scan, virtual_coils=6, compression=method)
    assert pair.compression.n_virtual == 6 == len(pair.weights) == pair.kernel_half.n_coils
    kspace = compress(scan.kspace, pair.whitening, pair.compression)
    assert kspace.shape == (6, *SHAPE[1:])
    assert not kspace[:, ~scan.mask].any()
    assert np.array_equal(pair.original, reconstruct(scan, virtual_coils=6, compression=method))
    original = pair.original[head.head]
    gains = [np.vdot(original, half[head.head]).real / np.vdot(original, original).real
             for half in (pair.half_a, pair.half_b)]
    assert gains == pytest.approx([1, 1], abs=0.05)


def test_a_short_calibration_scan_serves_the_geometric_compression_of_a_longer_readout(phantom) -> None:
    acs = calibration(6, phantom)
    compression = compression_matrix(acs, virtual_coils=6, method="gcc", nx=30)
    assert len(compression.matrix) == 30
    assert compress(acs, np.eye(6, dtype=complex), compression).shape == acs.shape


@pytest.mark.parametrize("wrong", [0, 8, 0.0, 1.0, -3])
def test_impossible_numbers_are_refused(wrong, phantom) -> None:
    with pytest.raises(ScanError, match=r"virtual coils|share of energy"):
        compression_matrix(calibration(7, phantom), virtual_coils=wrong)


def test_an_unknown_method_is_refused(phantom) -> None:
    with pytest.raises(ScanError, match="'svd' or 'gcc'"):
        compression_matrix(calibration(7, phantom), virtual_coils=2, method="pca")  # type: ignore[arg-type]
