"""From a scan to images: the conventional reconstruction, and the two half images of self Noise2Noise.

The whole chain in order: whitening (coil compression) → GRAPPA → Fourier transform → Walsh combination (partial
Fourier). `out_of_core` runs the same chain on scan files that are larger than memory.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ScanError
from sn2nlib.recon.chain import (
    Preparation,
    Sampled,
    apply_chain,
    calibrated,
    calibrated_for,
    calibration_lines,
    filled,
    preparation,
    transformed,
)
from sn2nlib.recon.coils import DEFAULT_WINDOW, combine, walsh
from sn2nlib.recon.compression import Compression, Method
from sn2nlib.recon.grappa import DEFAULT_KERNEL, DEFAULT_RIDGE, GrappaKernel
from sn2nlib.recon.noise import g_factor, noise_map
from sn2nlib.recon.partial_fourier import (
    PartialFourier,
    check_method,
    fill_partial,
    fill_volumes,
    known_region,
    sides_of,
)
from sn2nlib.recon.raw_filter import raw_filter_window
from sn2nlib.sampling import asymmetric_readout, split_kz
from sn2nlib.scans.scan import ONE_PARTITION, Scan

Pairing = Literal["kz", "repetitions"]
OBJECT_THRESHOLD = 0.1  # of the maximum: where the object is
MAX_HALF_G = 2.0
_REPETITIONS = (
    "where there are two repetitions of it, these make halves for recon (--pairing repetitions; of a scanner's file "
    "--repeat 1 too)"
)


@dataclass(frozen=True)
class Pair:
    """One scan, three images, and all that was frozen to make them.

    Attributes
    ----------
    original : (z, y, x) complex64
        Conventional image, from all acquired samples of one repetition.
    half_a, half_b : (z, y, x) complex64
        Images of the two halves of the samples, or of two repetitions; their noise is independent.
    weights : (coil, z, y, x) complex64
        Walsh weights, estimated from the original, used for all three.
    noise_sd, noise_sd_half : (z, y, x) float32
        Noise SD per component of the original and of a half, in the units of the images.
    scale : float
        `intensity_scale` of the original.
    mask_a, mask_b : (kz, ky) bool
        Samples of the halves; both the scan's where the halves are repetitions.
    kernel_original, kernel_half : GrappaKernel
        None where there is nothing to fill: the original of a fully sampled scan, and repetitions of one.
    whitening : (coil, coil) complex128
    compression : Compression or None
        Applied after whitening, to the original and both halves.
    pairing : "kz" or "repetitions"
        What the halves are.
    partial_fourier : "zero", "homodyne" or "pocs"
        How the side of k-space that was not acquired was filled. It never counts as sampled.
    phase : (z, y, x) float32 or None
        Phase map of the original that this took, for all three images.
    noise_estimator : str
        The reconstruction that `noise_sd` and `noise_sd_half` describe.
    taper : (kz, ky) float32 or None
        Raw filter over k-space, the same for all three images.
    kx_share : float
        Share of kx that was acquired; below 1 of an asymmetric echo, of which the noise maps count that share.
    readout : (kx,) bool or None
        Acquired samples of an asymmetric echo, if one side was left out.
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
    kernel_half: GrappaKernel | None
    whitening: NDArray[np.complex128]
    compression: Compression | None = None
    pairing: Pairing = "kz"
    partial_fourier: PartialFourier = "zero"
    phase: NDArray[np.float32] | None = None
    noise_estimator: str = "zero filling"
    taper: NDArray[np.float32] | None = None
    kx_share: float = 1.0
    readout: NDArray[np.bool_] | None = None


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


def reconstruct(
    scan: Scan,
    *,
    kernel: tuple[int, int, int] = DEFAULT_KERNEL,
    ridge: float = DEFAULT_RIDGE,
    window: int = DEFAULT_WINDOW,
    virtual_coils: int | float | None = None,
    compression: Method = "svd",
    partial_fourier: PartialFourier = "zero",
    raw_filter: float = 0.0,
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
    virtual_coils : int or float, optional
        Compress the coils to this many, or to as many as hold this share of the calibration's energy.
    compression : "svd" or "gcc"
        One compression for the whole readout, or one per readout position.
    partial_fourier : "zero", "homodyne" or "pocs"
        What becomes of a side of k-space that was not acquired.
    raw_filter : float
        Share of the lines on either side over which k-space is tapered, see `raw_filter_window`.

    Returns
    -------
    (z, y, x) complex64
        In units of the noise SD per component of a whitened coil.
    """
    image, _, _ = reconstruct_with_noise(
        scan, kernel=kernel, ridge=ridge, window=window, virtual_coils=virtual_coils, compression=compression,
        partial_fourier=partial_fourier, raw_filter=raw_filter, noise_maps=False,
    )  # fmt: skip
    return image


def reconstruct_with_noise(
    scan: Scan,
    *,
    kernel: tuple[int, int, int] = DEFAULT_KERNEL,
    ridge: float = DEFAULT_RIDGE,
    window: int = DEFAULT_WINDOW,
    virtual_coils: int | float | None = None,
    compression: Method = "svd",
    partial_fourier: PartialFourier = "zero",
    raw_filter: float = 0.0,
    noise_maps: bool = True,
) -> tuple[NDArray[np.complex64], NDArray[np.float32] | None, str]:
    """`reconstruct`, and what its noise is: of any scan, one that cannot be split too.

    Parameters
    ----------
    scan, kernel, ridge, window, virtual_coils, compression, partial_fourier, raw_filter
        As for `reconstruct`.
    noise_maps : bool
        False: without the map, which takes time.

    Returns
    -------
    image : (z, y, x) complex64
    noise_sd : (z, y, x) float32 or None
        Noise SD per component, in the units of the image.
    noise_estimator : str
        The reconstruction that the map describes.
    """
    check_method(partial_fourier)
    taper = raw_filter_window(scan.mask, raw_filter, partial_fourier, acceleration=scan.acceleration)
    prepare = preparation(scan, virtual_coils=virtual_coils, compression=compression)
    kspace = prepare(scan.kspace)
    warn_if_folded(scan.acceleration, len(kspace))
    grappa = None
    if scan.acceleration != (1, 1):
        grappa = calibrated(scan, calibration_lines(scan, kspace, prepare), scan.acceleration, kernel, ridge)
    kspace = filled(kspace, scan.mask, grappa, taper)
    images = transformed(kspace)
    weights = walsh(images, window=window)
    volumes: dict[str, Any] = {"original": combine(images, weights)}
    del images, kspace
    if noise_maps:
        volumes["noise_sd"] = noise_map(grappa, weights, mask=scan.mask, taper=taper, kx_share=scan.kx_share)
    readout = asymmetric_readout(scan.kx_acquired, scan.shape[2])
    _, estimator = fill_volumes(volumes, {"original": (scan.mask, grappa)}, partial_fourier, taper, readout)
    return volumes["original"], volumes.get("noise_sd"), estimator


def make_pair(
    scan: Scan,
    *,
    kernel: tuple[int, int, int] = DEFAULT_KERNEL,
    ridge: float = DEFAULT_RIDGE,
    window: int = DEFAULT_WINDOW,
    virtual_coils: int | float | None = None,
    compression: Method = "svd",
    partial_fourier: PartialFourier = "zero",
    raw_filter: float = 0.0,
    pairing: Pairing = "kz",
) -> Pair:
    """Original image and the two half images of a scan.

    1. Whitening, once; compression, once.
    2. Kernels for R = Ry×Rz and Ry×2Rz, both calibrated on the ACS of the original.
    3. Original image; Walsh weights from it.
    4. kz split of the samples; both halves filled and combined with the same kernel and weights.

    With `pairing="repetitions"` there is no split: half A is the image of `scan.kspace` and half B that of
    `scan.repeat`, both with the kernel of the original and its Walsh weights. The original is then half A itself, what
    the clinic gets from one repetition, and as noisy as the halves.

    Parameters
    ----------
    scan, kernel, ridge, window, virtual_coils, compression, partial_fourier, raw_filter
        As for `reconstruct`.
    pairing : "kz" or "repetitions"

    Returns
    -------
    Pair

    Raises
    ------
    SamplingError, CalibrationError
        A half without samples; no or too small ACS.
    ScanError
        The scan must not be trained on, or has no second repetition.

    Warns
    -----
    UserWarning
        If the median g-factor of a half exceeds 2 in the object.
    """
    check_method(partial_fourier)
    taper = raw_filter_window(scan.mask, raw_filter, partial_fourier, acceleration=scan.acceleration)
    mask_a, mask_b, half_acceleration = half_masks(scan, pairing, has_repeat=scan.repeat is not None)
    prepare = preparation(scan, virtual_coils=virtual_coils, compression=compression)
    kspace = prepare(scan.kspace)
    warn_if_folded(scan.acceleration, len(kspace))
    accelerations = scan.acceleration, half_acceleration
    kernels = {}
    if any(acceleration != (1, 1) for acceleration in accelerations):
        kernels = calibrated_for(accelerations, scan, calibration_lines(scan, kspace, prepare), kernel, ridge)
    kernel_original, kernel_half = kernels.get(scan.acceleration), kernels.get(half_acceleration)
    images = transformed(filled(kspace, scan.mask, kernel_original, taper))
    weights = walsh(images, window=window)
    original = combine(images, weights)
    del images
    if pairing == "repetitions":
        assert scan.repeat is not None
        half_a, half_b = original, apply_chain(prepare(scan.repeat), mask_b, kernel_half, weights, taper)
    else:
        half_a, half_b = (apply_chain(kspace, mask, kernel_half, weights, taper) for mask in (mask_a, mask_b))
    del kspace
    volumes: dict[str, Any] = {"original": original, "half_a": half_a, "half_b": half_b}
    counted: dict[str, Any] = {"taper": taper, "kx_share": scan.kx_share}
    volumes["noise_sd"] = noise_map(kernel_original, weights, mask=scan.mask, **counted)
    volumes["noise_sd_half"] = noise_map(kernel_half, weights, mask=mask_a, **counted)
    warn_if_noisy(volumes["noise_sd_half"], mask_a, np.abs(original), scan.kx_share)
    made_of = {
        "original": (scan.mask, kernel_original), "half_a": (mask_a, kernel_half), "half_b": (mask_b, kernel_half)
    }  # fmt: skip
    readout = asymmetric_readout(scan.kx_acquired, scan.shape[2])
    phase, estimator = fill_volumes(volumes, made_of, partial_fourier, taper, readout)
    return Pair(
        **volumes,
        weights=weights,
        scale=intensity_scale(np.abs(volumes["original"])),
        mask_a=mask_a,
        mask_b=mask_b,
        kernel_original=kernel_original,
        kernel_half=kernel_half,
        whitening=prepare.whitening,
        compression=prepare.compression,
        pairing=pairing,
        partial_fourier=partial_fourier,
        phase=phase,
        noise_estimator=estimator,
        taper=taper,
        kx_share=scan.kx_share,
        readout=readout,
    )


def half_masks(
    scan: Sampled, pairing: Pairing, *, has_repeat: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], tuple[int, int]]:
    """Masks (kz, ky) of the halves, and their acceleration.

    Of one partition, which no network is trained on, two repetitions make halves all the same: their noise is
    independent, and nothing in them is split.

    Raises
    ------
    ScanError
        The scan must not be trained on, has no second repetition, or the pairing is unknown.
    """
    (ry, rz), mask, reason = scan.acceleration, scan.mask, scan.not_for_training
    if reason is not None and (pairing != "repetitions" or reason != ONE_PARTITION):
        raise ScanError(
            f"no halves can be made of this scan, so that it cannot be trained on: {reason}; "
            "without halves it can be reconstructed and denoised"
            + (f", and {_REPETITIONS}" if reason == ONE_PARTITION else "")
        )
    if pairing == "kz":
        return *split_kz(mask, acceleration=(ry, rz), caipi_shift=scan.caipi_shift), (ry, 2 * rz)
    if pairing != "repetitions":
        raise ScanError(f"pairing is 'kz' or 'repetitions', got {pairing!r}")
    if not has_repeat:
        raise ScanError(
            "pairing by repetitions needs a scan with a second repetition, which --repeat reads from a raw file that "
            "holds one" + ("; --pairing kz splits one scan" if scan.shape[0] > 1 else "")
        )
    return mask, mask, (ry, rz)


def apply_halves(kspace: NDArray[np.complex64], pair: Pair) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Half images (z, y, x) of another k-space, for example noise alone, through the frozen chain of `pair`.

    Parameters
    ----------
    kspace : (coil, kz, ky, kx) complex64
        Whitened with `pair.whitening` (and compressed, see `Preparation`), sampled at least where the pair's scan was.
    """
    masks = pair.mask_a, pair.mask_b
    halves = [apply_chain(kspace, mask, pair.kernel_half, pair.weights, pair.taper) for mask in masks]
    if pair.phase is not None:
        sides = sides_of(pair.mask_a | pair.mask_b, pair.kernel_original)
        known = [known_region(mask, pair.kernel_half, pair.readout) for mask in masks]
        halves = [
            fill_partial(half, region, pair.phase, pair.partial_fourier, sides=sides)
            for half, region in zip(halves, known, strict=True)
        ]
    return halves[0], halves[1]


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
    half_a, half_b = apply_halves(Preparation(pair.whitening, pair.compression)(noise_free), pair)
    return half_a - half_b


def warn_if_noisy(
    noise_sd: NDArray[np.float32], mask: NDArray[np.bool_], magnitude: NDArray[np.float32], kx_share: float = 1.0
) -> None:
    """Warn if the halves are so noisy in the object that training on them would blur."""
    g_map = g_factor(noise_sd, kx_share * mask.size / np.count_nonzero(mask))
    median = float(np.median(g_map[object_region(magnitude)]))
    if median > MAX_HALF_G:
        warnings.warn(
            f"the median g-factor of a half image is {median:.1f} in the object: "
            "the coils cannot separate the aliases of a halved scan, so training on these halves will blur; "
            "see where with sn2n recon --halves --g-factor",
            stacklevel=3,
        )


def warn_if_folded(acceleration: tuple[int, int], n_coils: int) -> None:
    """Warn if more voxels lie on top of each other than there are coils to tell them apart."""
    ry, rz = acceleration
    if ry * rz > n_coils:
        warnings.warn(
            f"R = {ry}×{rz} (ky×kz) folds {ry * rz} voxels onto each other, more than {n_coils} "
            f"{'coil' if n_coils == 1 else 'coils'} can tell apart: aliases stay in the image",
            stacklevel=3,
        )
