"""From a scan to images: the conventional reconstruction, and the two half images of self Noise2Noise.

The only file that knows the whole chain: whitening → GRAPPA → Fourier transform → Walsh combination.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ScanError
from sn2nlib.fourier import ifft
from sn2nlib.recon.coils import DEFAULT_WINDOW, combine, walsh
from sn2nlib.recon.grappa import DEFAULT_KERNEL, DEFAULT_RIDGE, GrappaKernel, calibrate, fill
from sn2nlib.recon.noise import corner_noise, g_factor, noise_map, whiten, whitening_matrix
from sn2nlib.sampling import acs_region, split_kz
from sn2nlib.scans.scan import Scan

OBJECT_THRESHOLD = 0.1  # of the maximum: where the object is
MAX_HALF_G = 2.0


@dataclass(frozen=True)
class Pair:
    """One scan, three images, and all that was frozen to make them.

    Attributes
    ----------
    original : (z, y, x) complex64
        Conventional image, from all acquired samples.
    half_a, half_b : (z, y, x) complex64
        Images of the two halves of the samples; their noise is independent.
    weights : (coil, z, y, x) complex64
        Walsh weights, estimated from the original, used for all three.
    noise_sd, noise_sd_half : (z, y, x) float32
        Noise SD per component of the original and of a half, in the units of the images.
    scale : float
        `intensity_scale` of the original.
    mask_a, mask_b : (kz, ky) bool
        Samples of the halves.
    kernel_original, kernel_half : GrappaKernel
        None for the original of a fully sampled scan.
    whitening : (coil, coil) complex128
    """

    original: NDArray[np.complex64]
    half_a: NDArray[np.complex64]
    half_b: NDArray[np.complex64]
    weights: NDArray[np.complex64]
    noise_sd: NDArray[np.float32]
    noise_sd_half: NDArray[np.float32]
    scale: float
    mask_a: NDArray[np.bool_]
    mask_b: NDArray[np.bool_]
    kernel_original: GrappaKernel | None
    kernel_half: GrappaKernel
    whitening: NDArray[np.complex128]


def object_region(magnitude: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Voxels above 10 % of the maximum."""
    return magnitude > OBJECT_THRESHOLD * magnitude.max()


def intensity_scale(magnitude: NDArray[np.float32]) -> float:
    """99th percentile over the voxels above 10 % of the maximum: one intensity scale per scan.

    Parameters
    ----------
    magnitude : (z, y, x) float

    Raises
    ------
    ScanError
        If the image is zero everywhere.
    """
    inside = object_region(magnitude)
    if not inside.any():
        raise ScanError("the image is zero everywhere, so it has no intensity scale")
    return float(np.percentile(magnitude[inside], 99))


def scan_whitening(scan: Scan) -> NDArray[np.complex128]:
    """Whitening matrix (coil, coil) from the noise scan, else from the corners of k-space."""
    noise = corner_noise(scan.kspace, scan.mask) if scan.noise is None else scan.noise
    return whitening_matrix(noise)


def reconstruct(
    scan: Scan,
    *,
    kernel: tuple[int, int, int] = DEFAULT_KERNEL,
    ridge: float = DEFAULT_RIDGE,
    window: int = DEFAULT_WINDOW,
) -> NDArray[np.complex64]:
    """Conventional image of a scan.

    Parameters
    ----------
    scan : Scan
    kernel : (kx, ky, kz)
        GRAPPA neighbours.
    ridge : float
        GRAPPA regularisation.
    window : int
        Walsh window in voxels.

    Returns
    -------
    (z, y, x) complex64
        In units of the noise SD per component of a whitened coil.
    """
    kspace = whiten(scan.kspace, scan_whitening(scan))
    grappa = _calibrated(scan, kspace, scan.acceleration, kernel, ridge)
    kspace = _filled(kspace, scan.mask, grappa)
    images = _transformed(kspace)
    return combine(images, walsh(images, window=window))


def make_pair(
    scan: Scan,
    *,
    kernel: tuple[int, int, int] = DEFAULT_KERNEL,
    ridge: float = DEFAULT_RIDGE,
    window: int = DEFAULT_WINDOW,
) -> Pair:
    """Original image and the two half images of a scan.

    1. Whitening, once.
    2. Kernels for R = Ry×Rz and Ry×2Rz, both calibrated on the ACS of the original.
    3. Original image; Walsh weights from it.
    4. kz split of the samples; both halves filled and combined with the same kernel and weights.

    Parameters
    ----------
    scan, kernel, ridge, window
        As for `reconstruct`.

    Returns
    -------
    Pair

    Raises
    ------
    SamplingError, CalibrationError
        A half without samples; no or too small ACS.

    Warns
    -----
    UserWarning
        If the median g-factor of a half exceeds 2 in the object.
    """
    mask_a, mask_b = split_kz(scan.mask, acceleration=scan.acceleration, caipi_shift=scan.caipi_shift)
    whitening = scan_whitening(scan)
    kspace = whiten(scan.kspace, whitening)
    ry, rz = scan.acceleration
    kernel_original = _calibrated(scan, kspace, (ry, rz), kernel, ridge)
    kernel_half = _calibrated(scan, kspace, (ry, 2 * rz), kernel, ridge)
    assert kernel_half is not None
    images = _transformed(_filled(kspace, scan.mask, kernel_original))
    weights = walsh(images, window=window)
    original = combine(images, weights)
    del images
    half_a, half_b = (apply_chain(kspace, mask, kernel_half, weights) for mask in (mask_a, mask_b))
    magnitude = np.abs(original)
    noise_sd_half = noise_map(kernel_half, weights, mask=mask_a)
    _warn_if_noisy(noise_sd_half, mask_a, magnitude)
    return Pair(
        original=original,
        half_a=half_a,
        half_b=half_b,
        weights=weights,
        noise_sd=noise_map(kernel_original, weights, mask=scan.mask),
        noise_sd_half=noise_sd_half,
        scale=intensity_scale(magnitude),
        mask_a=mask_a,
        mask_b=mask_b,
        kernel_original=kernel_original,
        kernel_half=kernel_half,
        whitening=whitening,
    )


def apply_chain(
    kspace: NDArray[np.complex64],
    mask: NDArray[np.bool_],
    kernel: GrappaKernel | None,
    weights: NDArray[np.complex64],
) -> NDArray[np.complex64]:
    """Fill, transform, combine with everything frozen: linear in the k-space.

    Parameters
    ----------
    kspace : (coil, kz, ky, kx) complex64
        Whitened; values outside `mask` are ignored.
    mask : (kz, ky) bool
    kernel : GrappaKernel or None
        None: nothing is filled.
    weights : (coil, z, y, x) complex64

    Returns
    -------
    (z, y, x) complex64
    """
    return combine(_transformed(_filled(kspace, mask, kernel)), weights)


def apply_halves(kspace: NDArray[np.complex64], pair: Pair) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Half images (z, y, x) of another k-space, for example noise alone, through the frozen chain of `pair`.

    Parameters
    ----------
    kspace : (coil, kz, ky, kx) complex64
        Whitened with `pair.whitening`, sampled at least where the pair's scan was.
    """
    half_a = apply_chain(kspace, pair.mask_a, pair.kernel_half, pair.weights)
    return half_a, apply_chain(kspace, pair.mask_b, pair.kernel_half, pair.weights)


def systematic_difference(noise_free: NDArray[np.complex64], pair: Pair) -> NDArray[np.complex64]:
    """E[A] - E[B]: what differs between the halves without any noise, mostly aliasing left by GRAPPA.

    Parameters
    ----------
    noise_free : (coil, kz, ky, kx) complex64
        K-space of the pair's scan without its noise, not whitened.
    pair : Pair
        Supplies the frozen whitening, kernel and weights.

    Returns
    -------
    (z, y, x) complex64
        In the units of the half images. Its RMS in the head over `pair.noise_sd_half` is the number to
        report.
    """
    half_a, half_b = apply_halves(whiten(noise_free, pair.whitening), pair)
    return half_a - half_b


def _calibrated(
    scan: Scan,
    kspace: NDArray[np.complex64],
    acceleration: tuple[int, int],
    kernel: tuple[int, int, int],
    ridge: float,
) -> GrappaKernel | None:
    if acceleration == (1, 1) or (acceleration == scan.acceleration and scan.mask.all()):
        return None
    slice_z, slice_y = acs_region(scan.mask)
    return calibrate(
        kspace[:, slice_z, slice_y],
        acceleration=acceleration,
        caipi_shift=scan.caipi_shift,
        kernel=kernel,
        ridge=ridge,
    )


def _filled(
    kspace: NDArray[np.complex64], mask: NDArray[np.bool_], kernel: GrappaKernel | None
) -> NDArray[np.complex64]:
    """A new k-space; nothing but the mask is applied without a kernel."""
    return kspace * mask[:, :, None] if kernel is None else fill(kspace, mask, kernel)


def _transformed(kspace: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Coil images, written over the k-space: one array of its size less in memory."""
    for coil in kspace:
        coil[:] = ifft(coil)
    return kspace


def _warn_if_noisy(noise_sd: NDArray[np.float32], mask: NDArray[np.bool_], magnitude: NDArray[np.float32]) -> None:
    g_map = g_factor(noise_sd, mask.size / np.count_nonzero(mask))
    median = float(np.median(g_map[object_region(magnitude)]))
    if median > MAX_HALF_G:
        warnings.warn(
            f"the median g-factor of a half image is {median:.1f} in the object (map: noise_sd_half): "
            "the coils cannot separate the aliases of a halved scan, so training on these halves will blur",
            stacklevel=3,
        )
