"""GRAPPA against a direct solution, closed forms and real measurements."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.linalg
import threadpoolctl

from sn2nlib.errors import CalibrationError, SamplingError, ScanError
from sn2nlib.fourier import fft, ifft
from sn2nlib.recon import calibrate, fill
from sn2nlib.recon.grappa import DEFAULT_RIDGE
from sn2nlib.recon.workspace import one_blas_thread
from sn2nlib.sampling import acs_region, lattice_mask, split_kz


def _neighbours(acceleration: tuple[int, int], shift: int, size: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Sources (dz, dy, dx) of a cell, written down from the protocol."""
    (ry, rz), (kx, ky, kz) = acceleration, size
    steps = {1: [0], 2: [0, 1], 3: [-1, 0, 1], 4: [-1, 0, 1, 2]}
    readout = {1: [0], 2: [-1, 0], 3: [-1, 0, 1], 5: [-2, -1, 0, 1, 2]}
    return [(m * rz + j * shift % rz, j * ry, x) for m in steps[kz] for j in steps[ky] for x in readout[kx]]


def _direct(
    kspace: np.ndarray,
    mask: np.ndarray,
    acs: np.ndarray,
    lattice: Callable[[int, int], bool],
    acceleration: tuple[int, int],
    shift: int,
    size: tuple[int, int, int],
    ridge: float,
) -> np.ndarray:
    """GRAPPA sample by sample: one least-squares problem per target, one dot product per missing sample."""
    n_coils, nz, ny, nx = kspace.shape
    sources, (ry, rz) = _neighbours(acceleration, shift, size), acceleration
    filled = np.where(mask[:, :, None], kspace, 0).astype(complex)

    def take(array: np.ndarray, z: int, y: int, x: int) -> np.ndarray:
        inside = 0 <= z < array.shape[1] and 0 <= y < array.shape[2] and 0 <= x < array.shape[3]
        return array[:, z, y, x] if inside else np.zeros(n_coils)

    first = [int(np.ceil(shift * dy / ry)) for dy in range(ry)]  # within the parallelogram of the neighbours
    cell = [(first[dy] + m, dy) for m in range(rz) for dy in range(ry) if m or dy]
    reach = np.array(sources + [(dz, dy, 0) for dz, dy in cell])
    windows = [
        (z, y, x)
        for z in range(-reach[:, 0].min(), acs.shape[1] - reach[:, 0].max())
        for y in range(-reach[:, 1].min(), acs.shape[2] - reach[:, 1].max())
        for x in range(-reach[:, 2].min(), acs.shape[3] - reach[:, 2].max())
    ]
    rows = np.array([np.concatenate([acs[:, z + a, y + b, x + c] for a, b, c in sources]) for z, y, x in windows])
    rows = rows.astype(complex)
    damping = np.sqrt(ridge * (np.abs(rows) ** 2).sum() / rows.shape[1]) * np.eye(rows.shape[1])
    for dz, dy in cell:
        labels = np.array([acs[:, z + dz, y + dy, x] for z, y, x in windows]).astype(complex)
        padded = np.concatenate([labels, np.zeros((rows.shape[1], n_coils))])
        solution = scipy.linalg.lstsq(np.concatenate([rows, damping]), padded, lapack_driver="gelsy")[0]
        for kz in range(nz):
            for ky in range(ny):
                if mask[kz, ky] or not lattice(kz - dz, ky - dy):
                    continue
                for kx in range(nx):
                    values = [
                        take(kspace, kz - dz + a, ky - dy + b, kx + c)
                        * (0 <= kz - dz + a < nz and 0 <= ky - dy + b < ny and mask[kz - dz + a, ky - dy + b])
                        for a, b, c in sources
                    ]
                    filled[:, kz, ky, kx] = np.concatenate(values) @ solution
    return filled


@pytest.mark.parametrize(
    "shape, acceleration, shift, offset, acs, size",
    [
        ((4, 7, 16, 9), (2, 1), 0, (0, 0), (8, 7), (3, 2, 2)),
        ((3, 8, 13, 8), (2, 2), 0, (1, 1), (6, 6), (3, 2, 2)),
        ((3, 9, 14, 7), (2, 2), 1, (1, 0), (7, 7), (3, 2, 2)),
        ((3, 11, 13, 7), (2, 2), 1, (1, 1), (7, 7), (3, 2, 2)),
        ((3, 13, 9, 7), (1, 3), 1, (0, 2), (7, 9), (3, 2, 2)),
        ((3, 13, 15, 7), (2, 3), 1, (1, 1), (9, 9), (3, 2, 2)),
        ((2, 13, 15, 5), (2, 3), 2, (0, 1), (11, 13), (3, 3, 2)),
        ((2, 11, 12, 6), (2, 4), 1, (0, 2), (8, 9), (2, 2, 2)),
        ((2, 14, 13, 5), (3, 3), 2, (1, 2), (11, 11), (3, 2, 3)),  # cells that reach in from two before the edge
        ((3, 1, 25, 13), (3, 1), 0, (2, 0), (17, 1), (5, 4, 2)),
        ((1, 6, 15, 7), (1, 2), 0, (0, 1), (9, 6), (3, 3, 2)),
        ((5, 12, 12, 1), (2, 2), 0, (0, 0), (10, 10), (3, 2, 2)),
        ((64, 15, 20, 6), (2, 1), 0, (1, 0), (18, 15), (3, 2, 2)),  # 12·64 unknowns, 14·16·4 windows
    ],
)
def test_equals_the_direct_solution(shape, acceleration, shift, offset, acs, size, white_noise) -> None:
    rng = np.random.default_rng(1)
    weight = np.exp(-sum((np.arange(n) - n // 2) ** 2 / n for n in shape[1:2]))[:, None, None] if shape[1] > 1 else 1.0
    kspace = (white_noise(shape, rng) * (1 + 10 * weight)).astype(np.complex64)
    mask = lattice_mask(shape[1:3], acceleration=acceleration, caipi_shift=shift, offset=offset, acs=acs)
    box_z, box_y = acs_region(mask)
    box = kspace[:, box_z, box_y]
    kernel = calibrate(box, acceleration=acceleration, caipi_shift=shift, kernel=size)
    result = fill(kspace, mask, kernel)

    def on_lattice(kz: int, ky: int) -> bool:
        row = (ky - offset[0]) // acceleration[0]
        on_row = (ky - offset[0]) % acceleration[0] == 0
        return on_row and (kz - offset[1] - shift * row) % acceleration[1] == 0

    used = (size[0] if shape[3] > 1 else 1, size[1], size[2] if shape[1] > 1 else 1)
    expected = _direct(kspace, mask, box, on_lattice, acceleration, shift, used, DEFAULT_RIDGE)
    missing = ~mask
    difference = np.linalg.norm(result[:, missing] - expected[:, missing]) / np.linalg.norm(expected[:, missing])
    assert kernel.size == used
    assert difference < 1e-5
    assert np.array_equal(result[:, mask], kspace[:, mask])


@pytest.mark.parametrize("n_threads", [1, 2, 3, 32])
def test_the_number_of_threads_changes_nothing(n_threads: int, white_noise, monkeypatch) -> None:
    acs = white_noise((3, 7, 12, 9), np.random.default_rng(0))
    monkeypatch.setattr("sn2nlib.recon.grappa.n_threads", lambda: n_threads)
    kernel = calibrate(acs, acceleration=(2, 1), kernel=(3, 2, 2))
    monkeypatch.setattr("sn2nlib.recon.grappa.n_threads", lambda: 1)
    alone = calibrate(acs, acceleration=(2, 1), kernel=(3, 2, 2))
    assert np.abs(kernel.weights - alone.weights).max() < 1e-6 * np.abs(alone.weights).max()
    assert kernel.residual == pytest.approx(alone.residual, rel=1e-9)
    before = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    with one_blas_thread():
        during = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    assert during and set(during) == {1}
    assert [pool["num_threads"] for pool in threadpoolctl.threadpool_info()] == before


def test_recovers_samples_that_other_coils_hold() -> None:
    """Coil c sees the object with c cycles of phase across y: its k-space is coil 0's, c samples on."""
    rng = np.random.default_rng(2)
    image = rng.standard_normal((6, 12, 10)) + 1j * rng.standard_normal((6, 12, 10))
    ramp = np.exp(2j * np.pi * (np.arange(12) - 6) / 12)[:, None]
    kspace = fft(np.stack([image, image * ramp, image / ramp])).astype(np.complex64)
    mask = lattice_mask((6, 12), acceleration=(2, 1), acs=None, offset=(1, 0))
    kernel = calibrate(kspace, acceleration=(2, 1), ridge=1e-9)
    filled = fill(kspace, mask, kernel, periodic=True)
    assert np.linalg.norm(filled - kspace) / np.linalg.norm(kspace) < 1e-5
    assert kernel.residual < 1e-3
    at_the_edge = fill(kspace, mask, kernel) - kspace
    assert np.abs(at_the_edge[:, :, 1:11, 1:-1]).max() < 1e-3  # without wrapping only the edge lacks neighbours
    assert np.abs(at_the_edge[:, :, 0]).max() > 0.1


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize(
    "acceleration, shift", [((2, 1), 0), ((2, 2), 1), ((1, 2), 0), ((1, 3), 1), ((2, 3), 1)]
)
def test_acquired_samples_are_bit_identical_and_inputs_unchanged(acceleration, shift, periodic, white_noise) -> None:
    kspace = white_noise((4, 12, 24, 8), np.random.default_rng(3))
    mask = lattice_mask((12, 24), acceleration=acceleration, caipi_shift=shift, acs=8)
    before, mask_before = kspace.copy(), mask.copy()
    kernel = calibrate(kspace, acceleration=acceleration, caipi_shift=shift)
    filled = fill(kspace, mask, kernel, periodic=periodic)
    assert filled.dtype == np.complex64 and not np.shares_memory(filled, kspace)
    assert np.array_equal(filled[:, mask].view(np.uint64), kspace[:, mask].view(np.uint64))
    assert np.array_equal(kspace, before) and np.array_equal(mask, mask_before)
    assert (np.abs(filled) > 0).all()


def test_unacquired_values_in_the_input_do_not_matter(white_noise) -> None:
    kspace = white_noise((3, 10, 14, 6), np.random.default_rng(4))
    mask = lattice_mask((10, 14), acceleration=(2, 2), acs=6)
    kernel = calibrate(kspace, acceleration=(2, 2))
    assert np.array_equal(fill(kspace, mask, kernel), fill(kspace * mask[:, :, None], mask, kernel))


def test_outside_of_partial_fourier_stays_zero_and_inside_is_unchanged(white_noise) -> None:
    kspace = white_noise((3, 12, 32, 8), np.random.default_rng(5))
    kernel = calibrate(kspace, acceleration=(2, 1))
    whole = lattice_mask((12, 32), acceleration=(2, 1), acs=8)
    partial = lattice_mask((12, 32), acceleration=(2, 1), acs=8, partial_fourier=(0.75, 1.0))
    filled = fill(kspace, partial, kernel)
    assert not filled[:, :, :8].any()
    assert np.array_equal(filled[:, :, 8:], fill(kspace, whole, kernel)[:, :, 8:])


@pytest.mark.parametrize("n_coils", [1, 2, 64])
def test_any_number_of_coils(n_coils: int, white_noise) -> None:
    kspace = white_noise((n_coils, 1, 26, 41), np.random.default_rng(6))
    mask = lattice_mask((1, 26), acceleration=(2, 1), acs=(24, 1))
    kernel = calibrate(kspace[:, :, 1:25], acceleration=(2, 1))
    assert kernel.weights.shape == (1, n_coils, 6, n_coils)
    assert np.isfinite(fill(kspace, mask, kernel)).all()


def test_halves_of_a_scan_are_filled(white_noise) -> None:
    kspace = white_noise((3, 13, 20, 8), np.random.default_rng(7))
    mask = lattice_mask((13, 20), acceleration=(2, 1), acs=8)
    kernel = calibrate(kspace, acceleration=(2, 2))
    for half in split_kz(mask):
        filled = fill(kspace, half, kernel)
        assert (np.abs(filled) > 0).all()
        assert np.array_equal(filled[:, half], kspace[:, half])


def test_a_full_mask_needs_no_filling(white_noise) -> None:
    kspace = white_noise((3, 6, 12, 8), np.random.default_rng(8))
    filled = fill(kspace, np.ones((6, 12), dtype=bool), calibrate(kspace, acceleration=(2, 1)))
    assert np.array_equal(filled, kspace) and not np.shares_memory(filled, kspace)


def _root_sum_of_squares(kspace: np.ndarray) -> np.ndarray:
    return np.sqrt((np.abs(ifft(kspace, axes=(-2, -1))) ** 2).sum(axis=0))


@pytest.mark.parametrize(
    "name, limit, zero_filled",
    [("brain8ch_jiawang66.mat", 0.030, 0.089), ("brain16ch_pulseq_164128.npy", 0.040, 0.100)],
)
def test_real_brains_reach_the_accuracy_asked_for(
    name: str, limit: float, zero_filled: float, require: Callable[..., Path]
) -> None:
    path = require("data", name)
    full = np.load(path) if path.suffix == ".npy" else scipy.io.loadmat(path)["full_kspace_data"].transpose(2, 0, 1)
    kspace = full[:, None].astype(np.complex64)
    n_lines = kspace.shape[2]
    mask = lattice_mask((1, n_lines), acceleration=(2, 1), acs=(24, 1))
    kernel = calibrate(kspace[:, :, n_lines // 2 - 12 : n_lines // 2 + 12], acceleration=(2, 1))
    reference = _root_sum_of_squares(kspace)

    def error(samples: np.ndarray) -> float:
        return float(np.linalg.norm(_root_sum_of_squares(samples) - reference) / np.linalg.norm(reference))

    assert error(fill(kspace, mask, kernel)) <= limit
    assert error(kspace * mask[:, :, None]) == pytest.approx(zero_filled, abs=0.0015)


def test_peak_memory_is_at_most_four_times_the_kspace(white_noise) -> None:
    kspace = white_noise((8, 24, 64, 64), np.random.default_rng(9))
    mask = lattice_mask((24, 64), acceleration=(2, 1), acs=24)
    tracemalloc.start()
    fill(kspace, mask, calibrate(kspace[:, :, 20:44], acceleration=(2, 1)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (peak + kspace.nbytes) / kspace.nbytes < 4


def _acs(shape: tuple[int, ...] = (4, 12, 12, 10)) -> np.ndarray:
    rng = np.random.default_rng(10)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def test_bad_calibration_data_are_refused() -> None:
    infinite, silent = _acs(), _acs()
    infinite[2, 0, 0, 0] = np.inf
    silent[1] = 0
    with pytest.raises(ScanError, match="NaN or Inf in coil 2"):
        calibrate(infinite, acceleration=(2, 1))
    with pytest.raises(CalibrationError, match="coil 1 has no signal"):
        calibrate(silent, acceleration=(2, 1))
    with pytest.raises(ScanError, match="needs complex64, got complex128"):
        calibrate(_acs().astype(complex), acceleration=(2, 1))
    with pytest.raises(ScanError, match=r"needs the axes \(coil, kz, ky, kx\)"):
        calibrate(_acs()[:, 0], acceleration=(2, 1))
    with pytest.raises(CalibrationError, match=r"too small: .* has 0 windows of \(2, 3, 3\).* more ACS lines$"):
        calibrate(_acs()[:, :, :2], acceleration=(2, 1))
    with pytest.raises(CalibrationError, match=r"has 8 windows .* 48 are .* or compress to fewer virtual coils$"):
        calibrate(_acs()[:, :2, :3], acceleration=(2, 1))
    with pytest.raises(CalibrationError, match="leaves nothing to fill"):
        calibrate(_acs(), acceleration=(1, 1))
    for kernel in ((3, 0, 2), (3, 2), (3, 2, 2, 1)):
        with pytest.raises(CalibrationError, match="must be three positive numbers"):
            calibrate(_acs(), acceleration=(2, 1), kernel=kernel)
    twins = _acs()
    twins[1] = twins[0]
    with pytest.raises(CalibrationError, match="singular"):
        calibrate(twins, acceleration=(2, 1), ridge=0)


def test_what_does_not_fit_together_is_refused() -> None:
    kspace = _acs()
    mask = lattice_mask((12, 12), acceleration=(2, 1), acs=4)
    kernel = calibrate(kspace, acceleration=(2, 1))
    with pytest.raises(SamplingError, match=r"mask \(12, 11\) does not fit"):
        fill(kspace, mask[:, :11], kernel)
    with pytest.raises(CalibrationError, match="for 4 coils, the k-space has 3"):
        fill(kspace[:3], mask, kernel)
    broken = kspace.copy()
    broken[3, 1, 2, 3] = np.nan
    with pytest.raises(ScanError, match="NaN or Inf in coil 3"):
        fill(broken, mask, kernel)
    with pytest.raises(SamplingError, match="lacks"):
        fill(kspace, lattice_mask((12, 12), acceleration=(4, 1), acs=2), kernel)
    with pytest.raises(SamplingError, match="closes on itself"):
        odd = lattice_mask((12, 11), acceleration=(2, 1), acs=4)
        fill(np.ascontiguousarray(kspace[:, :, :11]), odd, kernel, periodic=True)
