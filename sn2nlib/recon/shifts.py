"""What a CAIPIRINHA shift gains: g-factor maps of one scan's lattice at every shift that it could have."""

import numpy as np
from numpy.typing import NDArray

from sn2nlib.recon.chain import calibrated, calibration_lines, filled, preparation, transformed
from sn2nlib.recon.coils import DEFAULT_WINDOW, walsh
from sn2nlib.recon.grappa import DEFAULT_KERNEL, DEFAULT_RIDGE, calibrate
from sn2nlib.recon.noise import g_factor, noise_map
from sn2nlib.scans.scan import Scan


def g_factors_of_shifts(
    scan: Scan,
    *,
    kernel: tuple[int, int, int] = DEFAULT_KERNEL,
    ridge: float = DEFAULT_RIDGE,
    window: int = DEFAULT_WINDOW,
) -> dict[int, NDArray[np.float32]]:
    """Analytic g-factor of the scan's acceleration at every CAIPIRINHA shift, without another measurement.

    1. Calibration lines and Walsh weights of the scan as it is.
    2. For each shift 0 … Rz − 1: a GRAPPA kernel fitted to those lines, and from it and the weights the noise SD of the
       lattice alone (without the calibration lines' own samples), over √(Ry·Rz).

    Parameters
    ----------
    scan
        Undersampled, with calibration lines.
    kernel, ridge, window
        As for `sn2nlib.recon.reconstruct`.

    Returns
    -------
    shift → (z, y, x) float32.

    Raises
    ------
    CalibrationError
        If the scan is not undersampled, or its calibration lines do not suffice for a shift.
    SamplingError
        If it has no calibration lines.

    References
    ----------
    Breuer FA, et al. Magn Reson Med 2006;55:549 (2D CAIPIRINHA).
    """
    prepare = preparation(scan)
    kspace = prepare(scan.kspace)
    lines = calibration_lines(scan, kspace, prepare)
    own = calibrated(scan, lines, scan.acceleration, kernel, ridge)
    weights = walsh(transformed(filled(kspace, scan.mask, own)), window=window)
    ry, rz = scan.acceleration
    maps = {}
    for shift in range(rz):
        grappa = calibrate(lines, acceleration=scan.acceleration, caipi_shift=shift, kernel=kernel, ridge=ridge)
        maps[shift] = g_factor(noise_map(grappa, weights), ry * rz)
    return maps
