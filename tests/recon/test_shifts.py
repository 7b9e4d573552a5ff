"""g-factors at every CAIPIRINHA shift: what a scan at one shift says about the other."""

import numpy as np
import pytest

from sn2nlib.recon import g_factor, g_factors_of_shifts, reconstruct_with_noise

SHAPE = (8, 20, 36, 20)  # coils, z, y, x


@pytest.mark.parametrize("shift", [0, 1])
def test_the_map_of_the_scans_own_shift_is_that_of_its_image(shift, phantom, scan_of) -> None:
    """Of the lattice alone: where calibration lines are few, the image's noise is hardly less."""
    scan = scan_of(phantom(SHAPE), acceleration=(2, 2), caipi_shift=shift, acs=12)
    before = scan.kspace.copy()
    maps = g_factors_of_shifts(scan)
    assert list(maps) == [0, 1]
    assert all(g.shape == scan.shape and g.dtype == np.float32 for g in maps.values())
    _, noise_sd, _ = reconstruct_with_noise(scan)
    assert noise_sd is not None
    measured = g_factor(noise_sd, scan.mask.size / np.count_nonzero(scan.mask))
    own, other = (np.corrcoef(maps[which].ravel(), measured.ravel())[0, 1] for which in (shift, 1 - shift))
    assert own > 0.9 and own > other
    np.testing.assert_array_equal(scan.kspace, before)


def test_either_scan_tells_the_same_of_both_shifts(phantom, scan_of) -> None:
    first, second = (
        g_factors_of_shifts(scan_of(phantom(SHAPE), acceleration=(2, 2), caipi_shift=shift, acs=12, sigma=0.05))
        for shift in (0, 1)
    )
    for shift in (0, 1):
        np.testing.assert_allclose(np.median(first[shift]), np.median(second[shift]), rtol=0.03)
