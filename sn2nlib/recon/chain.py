"""The steps that reconstructions are made of: whitened (and compressed) k-space, calibration, filling, transform."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sn2nlib.fourier import crop, ifft
from sn2nlib.recon.coils import combine
from sn2nlib.recon.compression import CENTRE, Compression, Method, compress, compression_matrix
from sn2nlib.recon.grappa import GrappaKernel, calibrate, fill
from sn2nlib.recon.noise import corner_noise, whiten, whitening_matrix
from sn2nlib.sampling import acs_region
from sn2nlib.scans.scan import Scan
from sn2nlib.scans.stream import ScanHeader

_Complex = NDArray[np.complex64]
Sampled = Scan | ScanHeader  # lattice and mask, with the samples or without


@dataclass(frozen=True)
class Preparation:
    """From measured to whitened k-space, with fewer coils if asked: one for the original and both halves.

    Attributes
    ----------
    whitening : (coil, coil) complex128
    compression : Compression or None
    """

    whitening: NDArray[np.complex128]
    compression: Compression | None = None

    def __call__(self, kspace: _Complex) -> _Complex:
        """(coil, ..., kx) measured → (virtual coil, ..., kx) whitened; a new array."""
        if self.compression is None:
            return whiten(kspace, self.whitening)
        return compress(kspace, self.whitening, self.compression)


def scan_whitening(scan: Scan) -> NDArray[np.complex128]:
    """Whitening matrix (coil, coil) from the noise scan, else from the corners of k-space."""
    noise = corner_noise(scan.kspace, scan.mask, scan.kx_acquired) if scan.noise is None else scan.noise
    return whitening_matrix(noise)


def preparation(scan: Scan, *, virtual_coils: int | float | None = None, compression: Method = "svd") -> Preparation:
    """Whitening of a scan, and the compression of its coils if a number or a share of energy is given."""
    whitening = scan_whitening(scan)
    if virtual_coils is None:
        return Preparation(whitening)
    lines = scan.kspace[(slice(None), *compression_box(scan))] if scan.acs is None else scan.acs
    return Preparation(whitening, fitted_compression(lines, whitening, virtual_coils, compression, scan.shape[2]))


def fitted_compression(
    acs: _Complex, whitening: NDArray[np.complex128], virtual_coils: int | float, method: Method, nx: int
) -> Compression:
    """Compression fitted to calibration lines (coil, kz, ky, kx) as measured, for a readout of nx samples."""
    nz, ny = (min(n, CENTRE) for n in acs.shape[1:3])
    centre = whiten(crop(acs, (nz, ny, acs.shape[3])), whitening)
    return compression_matrix(centre, virtual_coils=virtual_coils, method=method, nx=nx)


def calibration_lines(scan: Scan, kspace: _Complex, prepare: Preparation) -> _Complex:
    """Prepared calibration lines: of the separate calibration scan where there is one, else of `kspace`, prepared."""
    if scan.acs is not None:
        return prepare(scan.acs)
    return kspace[(slice(None), *calibration_box(scan))]


def calibration_box(scan: Sampled) -> tuple[slice, slice]:
    """Lines (kz, ky) of a scan's own k-space that kernels are calibrated on: all that are fully sampled.

    Where no line was left out, the middle ky will do, as many as accelerated scans have.
    """
    rows, columns = acs_region(scan.mask)
    return rows, _middle(columns, scan.shape[1]) if scan.acceleration == (1, 1) else columns


def compression_box(scan: Sampled) -> tuple[slice, slice]:
    """Lines (kz, ky) of a scan's own k-space that a compression is fitted to."""
    rows, columns = acs_region(scan.mask)
    return _middle(rows, scan.shape[0]), _middle(columns, scan.shape[1])


def _middle(lines: slice, n: int) -> slice:
    """At most `CENTRE` of consecutive lines, those next to the centre n//2 of k-space, which they hold."""
    first = max(lines.start, min(n // 2 - CENTRE // 2, lines.stop - CENTRE))
    return slice(first, min(first + CENTRE, lines.stop))


def calibrated(
    scan: Sampled,
    acs: _Complex,
    acceleration: tuple[int, int],
    kernel: tuple[int, int, int],
    ridge: float,
) -> GrappaKernel:
    """GRAPPA kernel for this acceleration on the scan's lattice."""
    return calibrate(acs, acceleration=acceleration, caipi_shift=scan.caipi_shift, kernel=kernel, ridge=ridge)


def calibrated_for(
    accelerations: Iterable[tuple[int, int]],
    scan: Sampled,
    acs: _Complex,
    kernel: tuple[int, int, int],
    ridge: float,
) -> dict[tuple[int, int], GrappaKernel]:
    """One kernel for each of the accelerations that leave something to fill."""
    return {
        acceleration: calibrated(scan, acs, acceleration, kernel, ridge)
        for acceleration in dict.fromkeys(accelerations)
        if acceleration != (1, 1)
    }


def filled(
    kspace: _Complex,
    mask: NDArray[np.bool_],
    kernel: GrappaKernel | None,
    taper: NDArray[np.float32] | None = None,
) -> _Complex:
    """A new k-space, weighted by the taper (kz, ky) if any; nothing is filled without a kernel."""
    whole = kspace * mask[:, :, None] if kernel is None else fill(kspace, mask, kernel)
    if taper is not None:
        whole *= taper[:, :, None]
    return whole


def transformed(kspace: _Complex) -> _Complex:
    """Coil images, written over the k-space: one array of its size less in memory."""
    for coil in kspace:
        coil[:] = ifft(coil)
    return kspace


def apply_chain(
    kspace: _Complex,
    mask: NDArray[np.bool_],
    kernel: GrappaKernel | None,
    weights: _Complex,
    taper: NDArray[np.float32] | None = None,
) -> _Complex:
    """Fill, transform, combine with everything frozen: linear in the k-space.

    Parameters
    ----------
    kspace : (coil, kz, ky, kx) complex64
        Whitened; values outside `mask` are ignored.
    mask : (kz, ky) bool
    kernel : GrappaKernel or None
        None: nothing is filled.
    weights : (coil, z, y, x) complex64
    taper : (kz, ky) float32, optional
        Raw filter.

    Returns
    -------
    (z, y, x) complex64
    """
    return combine(transformed(filled(kspace, mask, kernel, taper)), weights)
