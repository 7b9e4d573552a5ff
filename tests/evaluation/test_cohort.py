"""Scans at a wanted noise: thinning the readout changes nothing but the number of planes; targets are met."""

import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.evaluation.cohort import (
    noise_over_scale,
    readout_planes,
    readout_step,
    scan_at_noise_ratio,
    scan_at_psnr,
    thin_readout,
    trial_pair,
)
from sn2nlib.evaluation.metrics import psnr
from sn2nlib.fourier import fft, ifft
from sn2nlib.recon.grappa import calibrate, fill
from sn2nlib.recon.pairs import reconstruct
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans.acquire import acquire, undersample, with_noise
from sn2nlib.scans.heads import Head
from sn2nlib.scans.scan import Scan

ACS = 14


@pytest.fixture
def clean(head: Head, size: dict) -> Scan:
    return acquire(head, **size, n_coils=6, acceleration=(1, 1), acs=None, noise_sd=0, seed=3)


@pytest.mark.parametrize(("n", "step"), [(160, 5), (64, 4), (190, 5), (48, 3), (16, 1), (97, 1), (328, 4)])
def test_step_divides_the_readout_and_leaves_planes(n: int, step: int) -> None:
    assert readout_step(n) == step


@pytest.mark.parametrize(("n", "step"), [(12, 3), (12, 4), (15, 3), (15, 5), (20, 2)])
def test_the_centre_stays_the_centre(n: int, step: int) -> None:
    planes = np.arange(n)[readout_planes(n, step)]
    assert len(planes) == n // step
    assert planes[len(planes) // 2] == n // 2


@pytest.mark.parametrize(("nx", "step"), [(12, 3), (15, 3), (16, 4)])
def test_thinning_keeps_every_nth_image_plane(nx: int, step: int) -> None:
    rng = np.random.default_rng(nx)
    kspace = rng.standard_normal((2, 4, 6, nx, 2), np.float32).view(np.complex64)[..., 0]
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = (-7, -8, -9)
    scan = Scan(kspace=kspace, mask=np.ones((4, 6), bool), voxel_size=(4.0, 3.0, 2.0), affine=affine)
    thin = thin_readout(scan, step)
    kept = ifft(kspace)[..., readout_planes(nx, step)]
    np.testing.assert_allclose(ifft(thin.kspace), kept, atol=1e-5)
    assert thin.voxel_size == (4.0, 3.0, 2.0 * step)
    # the centre voxel stays where it was
    for before, after in ((scan, thin),):
        x, y, z = (n // 2 for n in before.shape[::-1])
        here = before.affine @ [x, y, z, 1]
        np.testing.assert_allclose(after.affine @ [after.shape[2] // 2, y, z, 1], here)
    np.testing.assert_array_equal(scan.affine, affine)


def test_grappa_commutes_with_thinning(clean: Scan) -> None:
    mask = lattice_mask(clean.mask.shape, acceleration=(2, 1), acs=ACS)
    kspace = clean.kspace * mask[:, :, None]
    kernel = calibrate(clean.kspace[:, :, 9:23], acceleration=(2, 1))
    filled = ifft(fill(kspace, mask, kernel, periodic=True), axes=(-1,))[..., readout_planes(32, 4)]
    thinned = ifft(kspace, axes=(-1,))[..., readout_planes(32, 4)]
    again = fill(np.ascontiguousarray(fft(thinned, axes=(-1,)), np.complex64), mask, kernel, periodic=True)
    np.testing.assert_allclose(ifft(again, axes=(-1,)), filled, atol=1e-4 * np.abs(filled).max())


def test_a_step_that_does_not_divide_is_refused(clean: Scan) -> None:
    with pytest.raises(ScanError, match="32 readout planes cannot be thinned 5 times"):
        thin_readout(clean, 5)


@pytest.mark.parametrize("ratio, partial", [(0.02, (1, 1)), (0.04, (1, 1)), (0.03, (0.7, 0.8))])
def test_noise_ratio_is_reached(clean: Scan, ratio: float, partial: tuple[float, float]) -> None:
    before = clean.kspace.copy()
    scan, found = scan_at_noise_ratio(clean, ratio, seed=5, acs=ACS, partial_fourier=partial)
    assert found == pytest.approx(ratio, rel=0.01)
    undersampled = undersample(scan, acs=ACS, partial_fourier=partial)
    assert noise_over_scale(trial_pair(undersampled)) == pytest.approx(ratio, rel=0.1)
    np.testing.assert_array_equal(clean.kspace, before)
    # the noise is that of its seed
    again = with_noise(clean, scan.info["noise_sd"], seed=5)
    np.testing.assert_array_equal(again.kspace, scan.kspace)


@pytest.mark.parametrize("target, partial", [(30.0, (1, 1)), (34.0, (1, 1)), (26.0, (0.8, 1))])
def test_psnr_is_reached_by_the_scan_that_is_returned(
    clean: Scan, target: float, partial: tuple[float, float]
) -> None:
    scan, found = scan_at_psnr(clean, target, seed=5, acs=ACS, partial_fourier=partial)
    reference = np.abs(reconstruct(scan))
    original = np.abs(reconstruct(undersample(scan, acs=ACS, partial_fourier=partial)))
    assert psnr(original, reference, data_range=float(reference.max())) == pytest.approx(found, abs=0.01)
    assert found == pytest.approx(target, abs=0.15)


def test_a_psnr_beyond_the_aliasing_is_refused(clean: Scan) -> None:
    with pytest.raises(ScanError, match=r"a PSNR of 90\.0 dB is out of reach"):
        scan_at_psnr(clean, 90.0, seed=5, acs=ACS)
