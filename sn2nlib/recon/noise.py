"""Noise: covariance, pre-whitening, and the noise SD and g-factor of a reconstruction.

Whitening: Pruessmann KP et al. MRM 2001;46:638-651. g-factor of GRAPPA from its weights: Breuer FA et al.
General formulation for quantitative g-factor calculation in GRAPPA reconstructions. MRM 2009;62:739-746.
"""

from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from sn2nlib.errors import SamplingError, ScanError
from sn2nlib.recon.cells import acquired_lattice
from sn2nlib.recon.grappa import GrappaKernel

_CORNER_SHARE, _LARGEST_CORNER = 0.01, 0.05  # of the acquired samples, for scans without a noise measurement
_CORNER_SAMPLES = 1000  # of a coil, that its SD be known to 5 % with three standard errors
_MIXED = 2  # samples beside the border of an asymmetric echo that removal of the oversampling mixed with its zeros
_RARE = 0.02  # acquisition patterns below this share of the cells are counted with the commonest one


def covariance(noise: NDArray[np.complex64]) -> NDArray[np.complex128]:
    """Noise covariance C = E[n nᴴ].

    Parameters
    ----------
    noise : (coil, n) complex
        Noise-only samples.

    Returns
    -------
    (coil, coil) complex128

    Raises
    ------
    ScanError
        Wrong axes, NaN or Inf, or fewer samples than coils.
    """
    if noise.ndim != 2 or not np.iscomplexobj(noise):
        raise ScanError(f"noise samples need complex (coil, n), got {noise.dtype} {noise.shape}")
    if not np.isfinite(noise).all():
        raise ScanError("the noise samples hold NaN or Inf; leave out their coil, or the noise scan (--no-noise-scan)")
    n_coils, n_samples = noise.shape
    if n_samples < 2 * n_coils:
        raise ScanError(
            f"{n_samples} noise samples are too few for the covariance of {n_coils} coils; measure at least 2 per coil"
        )
    samples = noise.astype(np.complex128)
    return samples @ samples.conj().T / n_samples


def whitening_matrix(noise: NDArray[np.complex64]) -> NDArray[np.complex128]:
    """W with W C Wᴴ = 2·1: noise SD 1 in the real and 1 in the imaginary part of every virtual coil.

    W = √2 L⁻¹ with the Cholesky factor C = L Lᴴ.

    Parameters
    ----------
    noise : (coil, n) complex

    Returns
    -------
    (coil, coil) complex128

    Raises
    ------
    ScanError
        A coil without noise, or coils that are copies of each other.
    """
    matrix = covariance(noise)
    silent = np.flatnonzero(matrix.diagonal().real == 0)
    if silent.size:
        raise ScanError(f"coil {silent[0]} has no noise, as if not connected; leave out that coil")
    try:
        factor = cholesky(matrix, lower=True)
    except LinAlgError as error:
        raise ScanError("the noise covariance is singular: some coils repeat others") from error
    return np.sqrt(2) * solve_triangular(factor, np.eye(len(matrix)), lower=True)


def whiten(x: NDArray[np.complex64], matrix: NDArray[np.complex128]) -> NDArray[np.complex64]:
    """Apply a whitening matrix (coil, coil) to an array (coil, ...); complex64."""
    if x.shape[0] != matrix.shape[1]:
        raise ScanError(f"the whitening matrix is for {matrix.shape[1]} coils, the array has {x.shape[0]}")
    product = matrix.astype(np.complex64) @ x.reshape(x.shape[0], -1)
    return product.reshape(-1, *x.shape[1:])


def corner_noise(
    kspace: NDArray[np.complex64], mask: NDArray[np.bool_], kx_acquired: tuple[float, float] | None = None
) -> NDArray[np.complex64]:
    """Samples from the outermost acquired corners of k-space, as a stand-in for a noise scan.

    Distance is the smallest of |kz|, |ky|, |kx| relative to its maximum (axes of size 1 left out), so that a
    sample counts as outer only if it is so on every axis. The outermost 1 % are taken, of each coil; where they are
    fewer than 1000, which give the SD of a coil a standard error of 1/√(4 · 1000) = 1.6 %, then 1000, or 5 % if that is
    less; and 50 times the number of coils, if that is more, for their covariances. What signal there is left in the
    corners is counted as noise: a measured noise scan is better. Of an
    asymmetric echo the samples next to either end are left out: removal of the oversampling has mixed them with zeros,
    those of the other end too, since it is periodic.

    Parameters
    ----------
    kspace : (coil, kz, ky, kx) complex64
    mask : (kz, ky) bool
    kx_acquired : (first, end), optional
        Of an asymmetric echo, as in `Scan`.

    Returns
    -------
    (coil, n) complex64
    """
    kz, ky, kx = corner_positions(kspace.shape, mask, kx_acquired)
    return kspace[:, kz, ky, kx]


def corner_positions(
    shape: tuple[int, ...], mask: NDArray[np.bool_], kx_acquired: tuple[float, float] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Where `corner_noise` takes its samples, as (kz, ky, kx); shape : (coil, kz, ky, kx)."""
    n_coils, *size = shape
    relative = [np.abs(np.arange(n) - n // 2) / max(1, n // 2) if n > 1 else np.ones(1) for n in size]
    kz, ky = np.nonzero(mask)
    readout = _all_noise(kx_acquired, size[2])
    outer = np.minimum(np.minimum(relative[0][kz], relative[1][ky])[:, None], relative[2][readout])
    few, most = round(_CORNER_SHARE * outer.size), round(_LARGEST_CORNER * outer.size)
    n_samples = min(outer.size, max(50 * n_coils, few, min(_CORNER_SAMPLES, most)))
    chosen = np.argpartition(-outer, n_samples - 1, axis=None)[:n_samples]
    line, kx = np.unravel_index(chosen, outer.shape)
    return kz[line], ky[line], kx + readout.start


def _all_noise(kx_acquired: tuple[float, float] | None, n: int) -> slice:
    """Samples of kx that hold all of their noise, at least one."""
    if kx_acquired is None:
        return slice(0, n)
    first, end = kx_acquired
    mixed, middle = min(_MIXED, (end - first) / 4), min(int((first + end) / 2), n - 1)
    return slice(min(ceil(first + mixed), middle), max(floor(end - mixed), middle + 1))


def noise_map(
    kernel: GrappaKernel | None,
    weights: NDArray[np.complex64],
    *,
    mask: NDArray[np.bool_] | None = None,
    taper: NDArray[np.float32] | None = None,
    kx_share: float = 1.0,
) -> NDArray[np.float32]:
    """Noise SD of the combined image, per real or imaginary component, for whitened k-space.

    GRAPPA is a convolution of the zero-filled lattice samples, hence a product in image space. With the
    sources s and the targets t of a cell,

        K(k) = Σ_o G_o K_lattice(k + o),   o = s - t,   G_0 = 1,
        I(r) = W(r) I_lattice(r),            W(r) = Σ_o G_o exp(-2πi o·r / N),

    and with combination weights w the noise of a lattice sample reaches the voxel with the factor |v(r)|, v =
    wᴴW. The variance is |v|² times the share of acquired lattice samples: exact for a periodic lattice.

    Acquired samples off the lattice (ACS) enter with |w|² each, and v is summed without the targets that were
    acquired and thus not filled; cells are sorted by that pattern. What is left out: within a kernel's reach
    of the matrix edge neighbours are missing and the noise is lower (the map is about 1.5 % too high for R =
    2×1 and 2.5 % for R = 2×2 on a matrix of 48×64, half that on 128×160).

    A raw filter weighs what every sample contributes by its squared weight there, the same for its whole cell. Of an
    asymmetric echo a share of all lines alike holds noise, and the variance is that share of the one of whole lines.

    Parameters
    ----------
    kernel : GrappaKernel or None
        None: nothing was filled.
    weights : (coil, z, y, x) complex64
        Combination weights.
    mask : (kz, ky) bool, optional
        Acquired samples. Without it: the whole lattice of the kernel and nothing else (what g-factors refer
        to).
    taper : (kz, ky) float32, optional
        Raw filter over the acquired samples; it needs the mask.
    kx_share : float
        Share of kx that was acquired, `Scan.kx_share`.

    Returns
    -------
    (z, y, x) float32
    """
    norm = _power("czyx,czyx->zyx", weights)
    if kernel is None:
        return np.sqrt(norm * np.float32(kx_share * (1 if mask is None else _share(mask, taper))))
    if mask is not None and mask.shape != weights.shape[1:3]:
        raise SamplingError(f"the mask {mask.shape} does not fit the weights' (z, y) = {weights.shape[1:3]}")
    patterns, extra = _patterns(kernel, mask, taper)
    variance = np.float32(extra) * norm
    for filled, share in patterns:
        power = _lattice_variance(kernel, weights, filled) if filled.any() else norm
        variance += np.float32(share) * power
    return np.sqrt(variance * np.float32(kx_share))


class NoisePlanes:
    """`noise_map` one readout position at a time, for scans whose weights do not fit into memory.

    Parameters
    ----------
    kernel, mask, taper, kx_share
        As for `noise_map`.
    shape : (z, y, x)
    """

    def __init__(
        self,
        kernel: GrappaKernel | None,
        mask: NDArray[np.bool_],
        shape: tuple[int, int, int],
        taper: NDArray[np.float32] | None = None,
        kx_share: float = 1.0,
    ) -> None:
        self.shape, self.kx_share = shape, np.float32(kx_share)
        patterns, self.extra = ([], _share(mask, taper)) if kernel is None else _patterns(kernel, mask, taper)
        self.filled = [(_convolution(kernel, p), share) for p, share in patterns if kernel is not None and p.any()]
        self.extra += sum(share for p, share in patterns if not p.any())

    def __call__(self, conjugate: NDArray[np.complex64], x: int) -> NDArray[np.float32]:
        """Noise SD (z, y) of one plane from its conjugate combination weights (coil, z, y)."""
        variance = np.float32(self.extra) * _power("czy,czy->zy", conjugate)
        for (steps, image_kernel), share in self.filled:
            phases = [_kernel_phases(n, o) for n, o in zip(self.shape, steps, strict=True)]
            n_coils = len(conjugate)
            split = image_kernel.reshape(*image_kernel.shape[:3], len(steps[2]), n_coils)
            at_x = np.einsum("zycos,o->zycs", split, phases[2][x]).astype(np.complex64)
            along_y = phases[1].astype(np.complex64)
            for z, row in enumerate(variance):
                in_slice = np.tensordot(phases[0][z].astype(np.complex64), at_x, 1)
                in_row = np.tensordot(along_y, in_slice, 1)  # (y, coil, source coil)
                vector = conjugate[:, z].T[:, None, :] @ in_row
                row += np.float32(share) * _power("yos,yos->y", vector)
        return np.sqrt(variance * self.kx_share)


def _kernel_phases(n: int, offsets: NDArray[np.int64]) -> NDArray[np.complex128]:
    """exp(-2πi o·r / n), (r, offset)."""
    phases: NDArray[np.complex128] = np.exp(-2j * np.pi * np.outer(np.arange(n) - n // 2, offsets) / n)
    return phases


def g_factor(noise_sd: NDArray[np.float32], reduction: float) -> NDArray[np.float32]:
    """g = SD / √R: the noise beyond that of taking R times fewer samples, for Σ|w|² = 1.

    Below 1 where the lines that GRAPPA fills in, as averages of acquired ones, hold less noise than those.

    Parameters
    ----------
    noise_sd : (z, y, x) float32
        From `noise_map`.
    reduction : float
        Ry·Rz, or all samples over acquired samples where ACS lines were used too. Of an asymmetric echo times
        `Scan.kx_share`: its whole lines would be as short, and g is the noise beyond theirs.
    """
    return noise_sd / np.float32(np.sqrt(reduction))


def _share(mask: NDArray[np.bool_], taper: NDArray[np.float32] | None) -> float:
    """Share of all samples that are in the mask, each counted by its squared weight in the taper."""
    return float(mask.mean() if taper is None else np.mean(taper.astype(np.float64) ** 2 * mask))


def _patterns(
    kernel: GrappaKernel, mask: NDArray[np.bool_] | None, taper: NDArray[np.float32] | None
) -> tuple[list[tuple[NDArray[np.bool_], float]], float]:
    """Patterns of filled targets, each with its cells' share of all samples; share of off-lattice samples."""
    n_targets = len(kernel.targets)
    if mask is None:
        return [(np.ones(n_targets, dtype=bool), 1 / (n_targets + 1))], 0.0
    if mask.all():
        return [], _share(mask, taper)
    on_lattice = mask & acquired_lattice(mask, kernel.acceleration, kernel.caipi_shift).points(mask.shape)
    kz, ky = np.nonzero(on_lattice)
    reach_z, reach_y, _ = kernel.targets.max(axis=0, initial=0)
    padded = np.pad(mask, ((0, reach_z), (0, reach_y)))
    acquired = np.stack([padded[kz + dz, ky + dy] for dz, dy, _ in kernel.targets.tolist()], axis=1)
    found, pattern, counts = np.unique(acquired, axis=0, return_inverse=True, return_counts=True)
    power = np.ones(len(kz)) if taper is None else taper[kz, ky].astype(np.float64) ** 2
    powers = np.bincount(pattern.reshape(-1), weights=power)
    common = counts >= _RARE * counts.sum()
    powers[np.argmax(counts)] += powers[~common].sum()
    extra = _share(mask & ~on_lattice, taper)
    return [(~p, n / mask.size) for p, n in zip(found[common], powers[common], strict=True)], extra


def _lattice_variance(
    kernel: GrappaKernel, weights: NDArray[np.complex64], filled: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """|v(r)|², slice by slice: the kernel takes up the phases of z, then y, before it meets the weights."""
    n_coils, nz, ny, nx = weights.shape
    steps, image_kernel = _convolution(kernel, filled)
    phases = [_kernel_phases(n, o) for n, o in zip((nz, ny, nx), steps, strict=True)]
    phase_x = phases[2].astype(np.complex64)
    variance = np.empty((nz, ny, nx), dtype=np.float32)
    for z in range(nz):
        in_slice = np.tensordot(phases[0][z], image_kernel, 1)
        in_row = np.tensordot(phases[1], in_slice, 1).astype(np.complex64)  # (y, coil, offset x * coil)
        factors = weights[:, z].conj().transpose(1, 2, 0) @ in_row
        vector = phase_x[:, None, :] @ factors.reshape(ny, nx, -1, n_coils)  # (y, x, 1, source coil)
        variance[z] = _power("yxoc,yxoc->yx", vector)
    return variance


def _power(subscripts: str, x: NDArray[np.complex64]) -> NDArray[np.float32]:
    power: NDArray[np.float32] = np.einsum(subscripts, x.real, x.real)
    return power + np.einsum(subscripts, x.imag, x.imag)


def _convolution(
    kernel: GrappaKernel, filled: NDArray[np.bool_]
) -> tuple[list[NDArray[np.int64]], NDArray[np.complex128]]:
    """Offsets o along (z, y, x), and G_o as an array (offset z, offset y, coil, offset x · source coil)."""
    targets, sources = kernel.targets[filled], kernel.sources
    n_coils = kernel.weights.shape[1]
    offsets = (sources[None] - targets[:, None]).reshape(-1, 3)
    steps = [np.unique(np.append(offsets[:, axis], 0)) for axis in range(3)]
    dense = np.zeros((*(len(s) for s in steps), n_coils, n_coils), dtype=np.complex128)
    per_pair = kernel.weights[filled].transpose(0, 2, 1, 3).reshape(-1, n_coils, n_coils)
    where = tuple(np.searchsorted(s, offsets[:, axis]) for axis, s in enumerate(steps))
    np.add.at(dense, where, per_pair)
    origin = tuple(int(np.searchsorted(s, 0)) for s in steps)
    dense[origin] += np.eye(n_coils)
    n_z, n_y, n_x = dense.shape[:3]
    return steps, dense.transpose(0, 1, 3, 2, 4).reshape(n_z, n_y, n_coils, n_x * n_coils)
