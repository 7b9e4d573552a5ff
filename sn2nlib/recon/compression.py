"""Coil compression of whitened k-space: fewer virtual coils that hold nearly all of the signal.

Buehrer M, Pruessmann KP, Boesiger P, Kozerke S. Array compression for MRI with large coil arrays. MRM
2007;57:1131-1139. Geometric: Zhang T, Pauly JM, Vasanawala SS, Lustig M. Coil compression for accelerated imaging
with Cartesian sampling. MRM 2013;69:571-582.

The rows of a compression matrix are orthonormal, so that white noise stays white.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ScanError
from sn2nlib.fourier import crop, fft, ifft, pad
from sn2nlib.recon.noise import whiten

CENTRE = 24  # calibration lines per phase-encode axis that the matrix is made of, at most
_LINES = 4096  # compressed at a time

Method = Literal["svd", "gcc"]
_Complex = NDArray[np.complex64]


@dataclass(frozen=True)
class Compression:
    """Virtual coils from whitened ones.

    Attributes
    ----------
    matrix : (x, virtual coil, coil) complex128
        One matrix per readout position (GCC), or a single one for all (SVD).
    energy : float
        Share of the calibration's energy that the virtual coils hold, noise included.
    """

    matrix: NDArray[np.complex128]
    energy: float

    @property
    def geometric(self) -> bool:
        """Whether the matrix depends on the readout position."""
        return len(self.matrix) > 1

    @property
    def n_virtual(self) -> int:
        """Number of virtual coils."""
        return int(self.matrix.shape[1])


def compression_matrix(
    acs: _Complex, *, virtual_coils: int | float, method: Method = "svd", nx: int = 0
) -> Compression:
    """Fit a compression to whitened calibration lines.

    1. The centre of the calibration region, at most 24 lines along kz and ky.
    2. "svd": the dominant left singular vectors of its samples. "gcc": the same at every readout position x, which
       needs fewer virtual coils, since only aliases in y and z must be told apart.
    3. "gcc" only: the bases are aligned from the middle of the readout outwards. With A_x the basis at x and its
       aligned neighbour A_prev, A_x ← P A_x with the unitary P nearest to A_prev A_xᴴ: virtual coils vary smoothly
       along x, and their k-space stays compact.

    Parameters
    ----------
    acs : (coil, kz, ky, kx) complex64
        Whitened, fully sampled.
    virtual_coils : int or float
        Their number, or, as a float between 0 and 1, the share of energy that they must hold.
    method : "svd" or "gcc"
    nx : int
        Readout length of the scan, for calibration scans that are shorter; 0: that of `acs`.

    Raises
    ------
    ScanError
        A number beyond the coils, a share outside (0, 1), or an unknown method.
    """
    n_coils, nz, ny, own_nx = acs.shape
    virtual_coils = int(virtual_coils) if isinstance(virtual_coils, (int, np.integer)) else virtual_coils
    _check(virtual_coils, n_coils, method)
    centre = crop(acs, (min(nz, CENTRE), min(ny, CENTRE), own_nx))
    samples = centre.reshape(n_coils, -1, own_nx)
    if method == "gcc":
        samples = ifft(pad(samples, (samples.shape[1], nx or own_nx)), axes=(-1,)).transpose(2, 0, 1)
    else:
        samples = samples.reshape(1, n_coils, -1)
    covariance = np.stack([x.astype(np.complex128) @ x.conj().T for x in samples])
    powers, vectors = np.linalg.eigh(covariance)  # ascending
    held = np.cumsum(powers[:, ::-1].sum(axis=0)) / powers.sum()
    wanted = virtual_coils if isinstance(virtual_coils, int) else int(np.searchsorted(held, virtual_coils)) + 1
    number = min(int(wanted), n_coils)
    bases = np.ascontiguousarray(vectors[:, :, ::-1][:, :, :number].conj().swapaxes(1, 2))
    return Compression(_aligned(bases), float(held[number - 1]))


def compress(kspace: _Complex, whitening: NDArray[np.complex128], compression: Compression) -> _Complex:
    """Whiten and compress.

    Parameters
    ----------
    kspace : (coil, ..., kx) complex64
        As measured. A calibration scan may have a shorter readout than the compression.
    whitening : (coil, coil)
    compression : Compression

    Returns
    -------
    (virtual coil, ..., kx) complex64
    """
    if not compression.geometric:  # the same at every x, hence at every kx
        return whiten(kspace, compression.matrix[0] @ whitening)
    nx, matrices = kspace.shape[-1], (compression.matrix @ whitening).astype(np.complex64)
    lines = kspace.reshape(len(kspace), -1, nx)
    output = np.empty((compression.n_virtual, *lines.shape[1:]), np.complex64)
    for first in range(0, lines.shape[1], _LINES):
        part = lines[:, first : first + _LINES]
        hybrid = ifft(pad(part, (part.shape[1], len(matrices))), axes=(-1,))
        virtual = (matrices @ np.ascontiguousarray(hybrid.transpose(2, 0, 1))).transpose(1, 2, 0)
        output[:, first : first + _LINES] = crop(fft(virtual, axes=(-1,)), (nx,))
    return output.reshape(-1, *kspace.shape[1:])


def _check(virtual_coils: int | float, n_coils: int, method: str) -> None:
    if method not in ("svd", "gcc"):
        raise ScanError(f"coil compression is 'svd' or 'gcc', got {method!r}")
    if isinstance(virtual_coils, int) and not 1 <= virtual_coils <= n_coils:
        raise ScanError(f"{virtual_coils} virtual coils cannot be made of {n_coils} coils; ask for 1 to {n_coils}")
    if not isinstance(virtual_coils, int) and not 0 < virtual_coils < 1:
        raise ScanError(f"a share of energy lies between 0 and 1, got {virtual_coils}; a number of coils is whole")


def _aligned(bases: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Rotate every basis (virtual coil, coil) towards its neighbour, from the middle outwards."""
    aligned, middle = bases.copy(), len(bases) // 2
    for order in (range(middle + 1, len(bases)), range(middle - 1, -1, -1)):
        previous = aligned[middle]
        for x in order:
            left, _, right = np.linalg.svd(previous @ bases[x].conj().T)
            previous = aligned[x] = left @ right @ bases[x]
    return aligned
