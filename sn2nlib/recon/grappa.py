"""GRAPPA: calibrate a kernel on the ACS, fill the k-space samples that were not acquired.

Griswold MA et al. Generalized autocalibrating partially parallel acquisitions (GRAPPA). MRM
2002;47:1202-1210. In two directions and on CAIPIRINHA lattices: Breuer FA et al. MRM 2006;55:549-556. The
geometry is that of `cells`.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from sn2nlib.errors import CalibrationError, SamplingError, ScanError
from sn2nlib.parallel import n_threads
from sn2nlib.recon.cells import Cells, Offsets, acquired_lattice, source_offsets, support, target_offsets
from sn2nlib.recon.workspace import one_blas_thread
from sn2nlib.sampling import Mask

DEFAULT_KERNEL = (3, 2, 2)
DEFAULT_RIDGE = 1e-4
_MOST_SLABS = 4  # of the calibration lines at a time: each takes memory of its own
_BLOCKS = 6  # of the triangle of the normal equations
_CHUNK = 4096  # cells per matrix product: their gathered sources stay in the cache

_Complex = NDArray[np.complex64]


@dataclass(frozen=True)
class GrappaKernel:
    """Weights that predict the missing samples of a cell from acquired ones.

    Attributes
    ----------
    weights : (target, coil, source, coil) complex64
        Predicted sample (first two axes) from the source samples (last two).
    acceleration : (Ry, Rz)
    caipi_shift : int
    size : (kx, ky, kz)
        Neighbours really used: 1 along an axis of size 1.
    ridge : float
        Regularisation relative to the mean eigenvalue of the normal matrix.
    residual : float
        Relative error ‖A g - t‖ / ‖t‖ of the fit on the ACS.
    """

    weights: _Complex
    acceleration: tuple[int, int]
    caipi_shift: int
    size: tuple[int, int, int]
    ridge: float
    residual: float

    @property
    def n_coils(self) -> int:
        """Number of coils."""
        return int(self.weights.shape[1])

    @property
    def sources(self) -> Offsets:
        """Offsets (source, 3) = (dz, dy, dx) from the cell's own sample."""
        return source_offsets(self.size, self.acceleration, self.caipi_shift)

    @property
    def targets(self) -> Offsets:
        """Offsets (target, 3) = (dz, dy, dx) from the cell's own sample."""
        return target_offsets(self.acceleration, self.caipi_shift)


def calibrate(
    acs: _Complex,
    *,
    acceleration: tuple[int, int],
    caipi_shift: int = 0,
    kernel: tuple[int, int, int] = DEFAULT_KERNEL,
    ridge: float = DEFAULT_RIDGE,
) -> GrappaKernel:
    """Fit GRAPPA weights on fully sampled autocalibration samples.

    1. Every window wholly inside `acs` gives one row of A (its sources) and of T (its targets).
    2. The normal equations are summed in complex128, a few thousand windows at a time.
    3. (AᴴA + ridge · trace(AᴴA)/p · 1) g = AᴴT is solved by Cholesky; p = sources × coils.

    Parameters
    ----------
    acs : (coil, kz, ky, kx) complex64
        Fully sampled box around the centre of k-space.
    acceleration : (Ry, Rz)
    caipi_shift : int
        Shift of the kz positions from one lattice row to the next.
    kernel : (kx, ky, kz)
        Acquired neighbours per axis; an axis of size 1 gets one.
    ridge : float
        Regularisation relative to the mean eigenvalue of AᴴA.

    Raises
    ------
    ScanError
        Wrong axes or dtype, NaN or Inf.
    CalibrationError
        ACS too small, a coil without signal, singular equations, an unusable option.
    """
    _check_kspace(acs, "the ACS")
    ry, rz = acceleration
    if min(ry, rz) < 1 or ry * rz == 1:
        raise CalibrationError(f"acceleration (Ry, Rz) = {acceleration} leaves nothing to fill")
    if len(kernel) != 3 or min(kernel) < 1 or ridge < 0:
        raise CalibrationError(
            f"kernel {kernel} must be three positive numbers (kx, ky, kz) and the ridge {ridge} not negative"
        )
    n_coils, nz, ny, nx = acs.shape
    for coil, samples in enumerate(acs):
        if not samples.any():
            raise CalibrationError(f"coil {coil} has no signal in the ACS; leave it out of k-space and noise")
    size = (kernel[0] if nx > 1 else 1, kernel[1] if ny > 1 else 1, kernel[2] if nz > 1 else 1)
    sources = source_offsets(size, acceleration, caipi_shift)
    targets = target_offsets(acceleration, caipi_shift)
    n_unknowns = len(sources) * n_coils
    gram = _normal_equations(acs, np.concatenate([sources, targets]), n_unknowns)
    weights, residual = _solve(gram, n_unknowns, ridge)
    weights = weights.reshape(len(targets), n_coils, len(sources), n_coils)
    return GrappaKernel(weights, (ry, rz), caipi_shift % rz, size, ridge, residual)


def fill(kspace: _Complex, mask: Mask, kernel: GrappaKernel, *, periodic: bool = False) -> _Complex:
    """Predict the missing samples inside the acquired support.

    1. The lattice samples are gathered into a compact array with a margin.
    2. Cells are taken a few thousand at a time: the shifted views of their sources make a matrix, and one
       product with the kernel gives all their targets.
    3. Acquired samples (off-lattice ACS samples too) are put back untouched; outside the support all stays
       zero.

    Parameters
    ----------
    kspace : (coil, kz, ky, kx) complex64
        Values outside `mask` are ignored.
    mask : (kz, ky) bool
        Acquired samples.
    kernel : GrappaKernel
    periodic : bool
        Neighbours beyond the edge come from the other side instead of being zero.

    Returns
    -------
    (coil, kz, ky, kx) complex64
        A new array; acquired samples are bit-identical to the input's.

    Raises
    ------
    ScanError, SamplingError, CalibrationError
        K-space, mask or kernel that do not fit each other; sizes that do not allow `periodic`.
    """
    _check_kspace(kspace, "the k-space")
    if mask.shape != kspace.shape[1:3]:
        raise SamplingError(f"the mask {mask.shape} does not fit the k-space (kz, ky) = {kspace.shape[1:3]}")
    if kernel.n_coils != kspace.shape[0]:
        raise CalibrationError(f"the kernel is for {kernel.n_coils} coils, the k-space has {kspace.shape[0]}")
    if mask.all():
        return kspace.copy()
    lattice = acquired_lattice(mask, kernel.acceleration, kernel.caipi_shift)
    _, nz, ny, nx = kspace.shape
    cells = Cells((nz, ny, nx), lattice)
    if periodic:
        cells.check_periodic()
    samples = _gather(kspace, mask, cells, kernel.size, periodic)
    filled = kspace.copy()
    for row_class in range(cells.n_classes):
        _fill_rows(filled, samples, cells, kernel, row_class)
    points, enclosed = lattice.points(mask.shape), support(mask, lattice, periodic=periodic)
    _put_back(filled, kspace, acquired=mask & ~points, empty=~mask & (points | ~enclosed))
    return filled


def _put_back(filled: _Complex, kspace: _Complex, *, acquired: Mask, empty: Mask) -> None:
    """Undo what cells wrote over off-lattice samples and outside the support."""
    for coil, original in zip(filled, kspace, strict=True):
        coil[acquired] = original[acquired]
        coil[empty] = 0


def _check_kspace(kspace: _Complex, name: str) -> None:
    if kspace.ndim != 4:
        raise ScanError(f"{name} needs the axes (coil, kz, ky, kx), got the shape {kspace.shape}")
    if kspace.dtype != np.complex64:
        raise ScanError(f"{name} needs complex64, got {kspace.dtype}; convert with .astype(numpy.complex64)")
    for coil, samples in enumerate(kspace):
        if not np.isfinite(samples).all():
            raise ScanError(f"{name} holds NaN or Inf in coil {coil}; repair or leave out that coil")


def _normal_equations(acs: _Complex, offsets: Offsets, n_unknowns: int) -> NDArray[np.complex128]:
    """Upper triangle of [A T]ᴴ[A T] over the valid windows; columns ordered (offset, coil).

    Where kx was not acquired, windows of zeros add nothing to it, but are counted as windows.
    """
    n_coils, reach = acs.shape[0], offsets.max(axis=0) - offsets.min(axis=0)
    counts = np.maximum(np.array(acs.shape[1:]) - reach, 0)
    if counts.prod() < n_unknowns:
        raise CalibrationError(
            f"the ACS is too small: (kz, ky, kx) = {acs.shape[1:]} has {counts.prod()} windows of "
            f"{tuple(int(n) + 1 for n in reach)}, but {n_unknowns} are needed for as many unknowns; "
            f"acquire more ACS lines{' or compress to fewer virtual coils' if counts.all() else ''}"
        )
    (first_z, first_y, first_x), (n_z, n_y, n_x) = -offsets.min(axis=0), counts
    n_columns, chunk = len(offsets) * n_coils, int(np.clip(_CHUNK // n_x, 1, n_y))

    def of(slab: list[int]) -> NDArray[np.complex128]:
        return _slab_equations(acs, offsets, slab, (first_y, n_y), (first_x, n_x), chunk)

    # our own threads, each with matrix products of one thread: those of BLAS wait for each other on a busy machine
    n_slabs = min(n_z, n_threads(), _MOST_SLABS)
    slabs = [slab.tolist() for slab in np.array_split(np.arange(first_z, first_z + n_z), n_slabs)]
    with one_blas_thread(), ThreadPoolExecutor(len(slabs)) as pool:
        gram = np.zeros((n_columns, n_columns), dtype=np.complex128)
        for part in pool.map(of, slabs):
            gram += part
    return gram


def _slab_equations(
    acs: _Complex, offsets: Offsets, slab: list[int], ky: tuple[int, int], kx: tuple[int, int], chunk: int
) -> NDArray[np.complex128]:
    """`_normal_equations` over the windows at the kz of a slab, and (first, number) along ky and kx."""
    (first_y, n_y), (first_x, n_x) = ky, kx
    n_coils, n_columns = acs.shape[0], len(offsets) * acs.shape[0]
    gram, step = np.zeros((n_columns, n_columns), dtype=np.complex128), -(-n_columns // _BLOCKS)
    buffer = np.empty(n_columns * chunk * n_x, dtype=np.complex128)
    for z in slab:
        for y in range(first_y, first_y + n_y, chunk):
            rows = min(chunk, first_y + n_y - y)
            windows = buffer[: n_columns * rows * n_x].reshape(len(offsets), n_coils, rows, n_x)
            for window, (dz, dy, dx) in zip(windows, offsets, strict=True):
                window[:] = acs[:, z + dz, y + dy : y + dy + rows, first_x + dx : first_x + dx + n_x]
            columns = windows.reshape(n_columns, -1)
            # blocks of rows from the diagonal on: little more work than the triangle, and, unlike zherk of scipy,
            # numpy's product lets other threads run
            for first in range(0, n_columns, step):
                block = slice(first, first + step)
                gram[block, first:] += columns[block].conj() @ columns[first:].T
    return gram


def _solve(gram: NDArray[np.complex128], n_unknowns: int, ridge: float) -> tuple[_Complex, float]:
    """Weights (target · coil, source · coil), and the relative error of the fit."""
    normal, right = gram[:n_unknowns, :n_unknowns], gram[:n_unknowns, n_unknowns:]
    penalty = ridge * normal.diagonal().real.mean()
    try:
        factor = cho_factor(normal + penalty * np.eye(n_unknowns), lower=False)
    except LinAlgError as error:
        raise CalibrationError(
            "the GRAPPA equations are singular: the ACS does not determine the kernel; acquire more ACS lines or "
            "compress to fewer virtual coils, and look for coils that repeat each other"
        ) from error
    solution = cho_solve(factor, right)
    # ‖A g - t‖² = ‖t‖² - gᴴAᴴt - penalty·‖g‖², from the equations that g solves
    explained = np.vdot(solution, right).real + penalty * np.vdot(solution, solution).real
    total = gram.diagonal().real[n_unknowns:].sum()
    return np.ascontiguousarray(solution.T, np.complex64), float(np.sqrt(max(0.0, 1 - explained / total)))


def _padding(size: tuple[int, int, int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Margins (before, after) along (position, row, kx): the kernel's reach from the cells beyond the edge."""
    kx, ky, kz = size
    return ((kz - 1) // 2 + 2, kz // 2 + 1), ((ky - 1) // 2 + 1, ky // 2 + 1), (kx // 2, kx - 1 - kx // 2)


def _gather(kspace: _Complex, mask: Mask, cells: Cells, size: tuple[int, int, int], periodic: bool) -> _Complex:
    """Lattice samples (coil, position, row, kx) with margins, zero where nothing was acquired."""
    (ry, rz), (y0, _), period = cells.lattice.acceleration, cells.lattice.offset, cells.n_classes
    padding, shape = _padding(size), (cells.n_positions, cells.n_rows, kspace.shape[3])
    padded = (n + before + after for n, (before, after) in zip(shape, padding, strict=True))
    samples = np.zeros((kspace.shape[0], *padded), dtype=np.complex64)
    inside = (slice(before, before + n) for n, (before, _) in zip(shape, padding, strict=True))
    core = samples[(slice(None), *inside)]
    for row in range(min(period, cells.n_rows)):
        kz, ky = slice(cells.base(row), None, rz), slice(y0 + ry * row, None, ry * period)
        acquired = mask[kz, ky]
        np.copyto(core[:, : len(acquired), row::period], kspace[:, kz, ky], where=acquired[:, :, None])
    return np.pad(core, ((0, 0), *padding), mode="wrap") if periodic else samples


def _fill_rows(filled: _Complex, samples: _Complex, cells: Cells, kernel: GrappaKernel, row_class: int) -> None:
    """Write the targets of all cells in the rows of one class."""
    period, base, nx = cells.n_classes, cells.base(row_class), cells.shape[2]
    n_targets, n_coils, n_sources, _ = kernel.weights.shape
    weights = kernel.weights.reshape(n_targets * n_coils, n_sources * n_coils)
    margins = [before for before, _ in _padding(kernel.size)]
    views = [np.add(margins, cells.neighbour(row_class, offset)) for offset in kernel.sources.tolist()]
    chunk = max(1, _CHUNK // nx)
    sources = np.empty(n_sources * n_coils * chunk * nx, dtype=np.complex64)
    # cells that begin before the matrix, in row -1 or a position below 0, may still reach into it
    first = -1 if cells.lattice.offset[0] and row_class == period - 1 else row_class
    for row in range(first, cells.n_rows, period * chunk):
        rows = min(chunk, -(-(cells.n_rows - row) // period))
        block = sources[: n_sources * n_coils * rows * nx].reshape(n_sources, n_coils, rows, nx)
        matrix = block.reshape(n_sources * n_coils, rows * nx)
        for position in range(cells.first_position(row_class), cells.n_positions):
            for view, (m, i, x) in zip(block, views, strict=True):
                view[:] = samples[:, position + m, row + i : row + i + rows * period : period, x : x + nx]
            predicted = (weights @ matrix).reshape(n_targets, n_coils, rows, nx)
            _scatter(filled, predicted, cells, kernel, row, base + cells.lattice.acceleration[1] * position)


def _scatter(filled: _Complex, predicted: _Complex, cells: Cells, kernel: GrappaKernel, row: int, kz: int) -> None:
    """Put predicted (target, coil, row, kx) where it belongs; targets beyond the matrix are dropped."""
    (nz, ny, _), ry, y0 = cells.shape, cells.lattice.acceleration[0], cells.lattice.offset[0]
    for values, (dz, dy, _) in zip(predicted, kernel.targets.tolist(), strict=True):
        ky = y0 + dy + ry * (row + cells.n_classes * np.arange(values.shape[1]))
        low, high = np.searchsorted(ky, (0, ny))
        if 0 <= kz + dz < nz and low < high:
            filled[:, kz + dz, ky[low] : ky[high - 1] + 1 : ry * cells.n_classes] = values[:, low:high]
