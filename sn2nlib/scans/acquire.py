"""Heads → multi-coil k-space: signal, coils, noise, sampling.

Intensity unit: the 99th percentile of the head's bright voxels is 1, and so is the coils' root sum of squares at the
centre of the field of view; a noise SD of 0.02 is 2 % of that per real and imaginary component and coil.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from sn2nlib.errors import ScanError
from sn2nlib.fourier import crop, fft, pad
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans.coils import noise_correlation, sensitivities
from sn2nlib.scans.fields import smooth_field
from sn2nlib.scans.heads import Head, centred_affine
from sn2nlib.scans.scan import Scan
from sn2nlib.scans.sequence import MpRage, Space

NOISE_SAMPLES = 16384


def acquire(
    head: Head,
    *,
    matrix: tuple[int, int, int] = (128, 160, 160),
    voxel_size: tuple[float, float, float] = (1.35, 1.35, 1.35),
    n_coils: int = 10,
    sequence: MpRage | Space | None = None,
    acceleration: tuple[int, int] = (2, 1),
    caipi_shift: int = 0,
    acs: int | tuple[int, int] | None = 24,
    partial_fourier: tuple[float, float] = (1.0, 1.0),
    noise_sd: float = 0.02,
    seed: int = 0,
    coil_room: float = 1.0,
) -> Scan:
    """Scan a head: k-space of a loop-coil helmet, cropped to the matrix, with correlated noise and a noise scan.

    Parameters
    ----------
    head
        The head. A grid coarser than `voxel_size` on an axis is kept there: nothing is made up by interpolation.
    matrix, voxel_size
        (z, y, x). A digital head fits its own field of view; a real head that is larger than the field of view gets a
        larger matrix, and on an axis where its own voxels are coarser, those, in a smaller matrix. The field of view is
        rounded to whole voxels of the head, so that the scan's voxels differ from `voxel_size` by up to a few percent
        for real heads.
    n_coils
        Number of coils.
    sequence
        Signal equation for digital heads; with its `modulation` of k-space if it has one and is told to.
    acceleration, caipi_shift, acs, partial_fourier
        Sampling, as in `sn2nlib.sampling.lattice_mask`; acceleration (1, 1) is fully sampled.
    noise_sd
        Noise SD per real and imaginary component, averaged over coils. 0: no noise and no noise scan.
    seed
        Decides image phase, coil noise correlation and noise.
    coil_room
        Size of the coils' helmet over the field of view, as in `sn2nlib.scans.coils.sensitivities`.

    Returns
    -------
    Scan
        Fully determined by the arguments.

    Raises
    ------
    ScanError
        If the head has no signal, `noise_sd` is negative, or matrix, voxel size or coils are no positive numbers.
    """
    _check_scanner(matrix, voxel_size, n_coils)
    if noise_sd < 0 or not np.isfinite(noise_sd):
        raise ScanError(f"noise_sd: needs a finite number of at least 0, got {noise_sd}")
    signal, matrix, sizes = _field_of_view(head, sequence, matrix, voxel_size)
    image = _image(signal, head.voxel_size, np.random.default_rng([seed, 1]))
    kspace = np.empty((n_coils, *matrix), np.complex64)
    for coil, sensitivity in enumerate(sensitivities(image.shape, head.voxel_size, n_coils, room=coil_room)):
        kspace[coil] = _cropped_kspace(image * sensitivity, matrix)
    if isinstance(sequence, Space) and sequence.blur:
        kspace *= sequence.modulation(matrix[:2])[:, :, None]
    mask = lattice_mask(
        matrix[:2], acceleration=acceleration, caipi_shift=caipi_shift, acs=acs, partial_fourier=partial_fourier
    )
    clean = Scan(
        kspace=np.where(mask[None, :, :, None], kspace, np.complex64(0)),
        mask=mask,
        acceleration=acceleration,
        caipi_shift=caipi_shift,
        voxel_size=sizes,
        affine=_scan_affine(head, signal.shape, matrix, sizes),
        info={
            "source": "simulated",
            "head": head.name if head.is_digital else "real head",  # its name may be a file's, with a patient in it
            "seed": seed, "noise_sd": 0.0, "coils": n_coils,
        },
    )
    return with_noise(clean, noise_sd, seed=seed) if noise_sd else clean


def with_noise(scan: Scan, noise_sd: float, *, seed: int) -> Scan:
    """The noise-free scan as a scanner delivers it: correlated coil noise of this SD, and a noise scan of the same.

    Parameters
    ----------
    scan
        From `acquire(…, noise_sd=0)`.
    noise_sd
        Per real and imaginary component, averaged over coils.
    seed
        Same seed, same noise up to the factor `noise_sd`.

    Raises
    ------
    ScanError
        If the scan has noise already.
    """
    if scan.noise is not None or scan.info.get("noise_sd"):
        raise ScanError("noise: this scan has noise already; begin with acquire(…, noise_sd=0), or see add_noise")
    kspace, noise_scan = _noisy(scan, noise_sd, seed)
    info = {**scan.info, "noise_sd": noise_sd, "noise_seed": seed}
    return replace(scan, kspace=kspace, noise=noise_scan, info=info)


def without_noise(scan: Scan) -> np.ndarray:
    """K-space of a simulated scan before its noise: the noise is drawn again from its seed and taken away.

    Parameters
    ----------
    scan
        From `with_noise` (or `acquire`), possibly undersampled since.

    Returns
    -------
    (coil, kz, ky, kx) complex64
        Zero where not acquired; exact to the rounding of complex64.

    Raises
    ------
    ScanError
        If the scan was not simulated, or got further noise, or is a replica.
    """
    if scan.info.get("source") != "simulated" or {"added_noise_sigma", "replica"} & set(scan.info):
        raise ScanError("only a simulated scan without added noise levels knows its noise-free k-space")
    if not scan.info["noise_sd"]:
        return scan.kspace.copy()
    return _noisy(scan, -float(scan.info["noise_sd"]), int(scan.info["noise_seed"]))[0]


def _noisy(scan: Scan, noise_sd: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """K-space plus noise of this SD, and the noise scan."""
    fov = [n * size for n, size in zip(scan.shape, scan.voxel_size, strict=True)]
    # only ratios of distances count, so that the room around the field of view does not
    colour = np.linalg.cholesky(noise_correlation(scan.n_coils, fov, seed)).astype(np.complex64)
    rng = np.random.default_rng([seed, 2])
    noise_scan = np.float32(noise_sd) * (colour @ _complex_normal(rng, (scan.n_coils, NOISE_SAMPLES)))
    return _with_added(scan.kspace, scan.mask, np.float32(noise_sd) * colour, rng), noise_scan


def noise_replicas(scan: Scan, n: int, *, seed: int) -> Iterator[Scan]:
    """The same simulated scan with other draws of its noise: what repeated scans of a patient who never moves give.

    The coils' correlation, the noise SD and the noise scan stay, and with them whitening and intensity unit.

    Parameters
    ----------
    scan
        From `with_noise` (or `acquire`), possibly undersampled since.
    n
        Number of replicas.
    seed
        Of their noise.

    Raises
    ------
    ScanError
        If the scan was not simulated, has no noise, got further noise, or is a replica itself.
    """
    clean = without_noise(scan)
    if not scan.info["noise_sd"]:
        raise ScanError("replicas: this scan has no noise; give it some with with_noise")
    fov = [count * size for count, size in zip(scan.shape, scan.voxel_size, strict=True)]
    noise_sd, noise_seed = float(scan.info["noise_sd"]), int(scan.info["noise_seed"])
    colour = np.linalg.cholesky(noise_correlation(scan.n_coils, fov, noise_seed)).astype(np.complex64)
    for replica in range(n):
        rng = np.random.default_rng([seed, 5, replica])
        kspace = _with_added(clean, scan.mask, np.float32(noise_sd) * colour, rng)
        yield replace(scan, kspace=kspace, info={**scan.info, "replica": replica})


def add_noise(scan: Scan, level: float, *, seed: int) -> Scan:
    """Add `level` times the scan's own noise: the noise levels of Table 2, white after pre-whitening.

    A second repetition gets as much, drawn for itself. The noise scan stays that of the original scan, so that
    pre-whitening, and with it the intensity scale, stays too.

    Parameters
    ----------
    scan
        With a noise scan.
    level
        In units of the noise SD σ of the acquired k-space, per real and imaginary component.
    seed
        One seed per level gives independent draws.

    Raises
    ------
    ScanError
        If the scan has no noise scan, or the level is negative.
    """
    if scan.noise is None:
        raise ScanError("noise: adding multiples of the scan's own noise needs its noise scan")
    if level < 0:
        raise ScanError(f"level: a noise level is at least 0, got {level}")
    if level == 0:
        return scan
    covariance = (scan.noise @ scan.noise.conj().T) / (2 * scan.noise.shape[1])
    colour = np.linalg.cholesky(covariance.astype(np.complex128)).astype(np.complex64)
    rng = np.random.default_rng([seed, 3])
    kx = scan.kx_acquired
    kspace = _with_added(scan.kspace, scan.mask, level * colour, rng, kx)
    repeat = None if scan.repeat is None else _with_added(scan.repeat, scan.mask, level * colour, rng, kx)
    return replace(scan, kspace=kspace, repeat=repeat, info={**scan.info, "added_noise_sigma": level})


def undersample(
    scan: Scan,
    *,
    acceleration: tuple[int, int] = (2, 1),
    caipi_shift: int = 0,
    acs: int | tuple[int, int] | None = 24,
    partial_fourier: tuple[float, float] = (1.0, 1.0),
) -> Scan:
    """Retrospective undersampling of a fully sampled scan; the acquired samples stay bit-identical.

    Parameters
    ----------
    scan
        Fully sampled.
    acceleration, caipi_shift, acs, partial_fourier
        As in `sn2nlib.sampling.lattice_mask`.

    Raises
    ------
    ScanError
        If the scan is not fully sampled.
    """
    if not scan.mask.all():
        raise ScanError("mask: retrospective undersampling needs a fully sampled scan")
    mask = lattice_mask(
        scan.mask.shape, acceleration=acceleration, caipi_shift=caipi_shift, acs=acs, partial_fourier=partial_fourier
    )
    acquired, zero = mask[None, :, :, None], np.complex64(0)
    kspace = np.where(acquired, scan.kspace, zero)
    repeat = None if scan.repeat is None else np.where(acquired, scan.repeat, zero)
    return replace(scan, kspace=kspace, repeat=repeat, mask=mask, acceleration=acceleration, caipi_shift=caipi_shift)


def _with_added(
    samples: np.ndarray,
    mask: np.ndarray,
    colour: np.ndarray,
    rng: np.random.Generator,
    kx_acquired: tuple[float, float] | None = None,
) -> np.ndarray:
    """K-space with coloured noise on the acquired samples, drawn partition by partition to bound memory."""
    kspace = samples.copy()
    n_coils, n_kz, _, n_kx = kspace.shape
    n_ky = mask.shape[1]
    first, end = (0, n_kx) if kx_acquired is None else (round(kx) for kx in kx_acquired)
    for kz in range(n_kz):
        # drawn for every sample, so that a sample's noise does not depend on which others were acquired
        noise = (colour @ _complex_normal(rng, (n_coils, n_ky * n_kx))).reshape(n_coils, n_ky, n_kx)
        kspace[:, kz, :, first:end] += (noise * mask[kz][None, :, None])[..., first:end]
    return kspace


def _complex_normal(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    parts = rng.standard_normal((*shape, 2), dtype=np.float32)
    return parts.view(np.complex64)[..., 0]


def _image(signal: np.ndarray, voxel_size: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Complex image on the fine grid, complex64: the signal in intensity units, with its phase."""
    normalised = (signal / _brightness(signal)).astype(np.float32)
    return normalised * _image_phase(signal.shape, voxel_size, rng)


def _brightness(signal: np.ndarray) -> float:
    bright = signal[signal > 0.1 * signal.max()]
    if bright.size == 0:
        raise ScanError("the head has no signal")
    return float(np.percentile(bright, 99))


def _image_phase(shape: Sequence[int], voxel_size: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Smooth image phase of a few radians, as B0 and B1 leave it in a short-TE scan."""
    angle = 0.8 * smooth_field(shape, voxel_size, 90.0, rng) + np.float32(rng.uniform(-np.pi, np.pi))
    return np.exp(1j * angle).astype(np.complex64)


def _cropped_kspace(image: np.ndarray, matrix: Sequence[int]) -> np.ndarray:
    """Centre of the image's k-space, scaled so that intensities do not depend on the fine grid."""
    scale = np.sqrt(np.prod(matrix) / image.size)
    for axis in (-3, -2, -1):  # cropping after every axis saves most of the work
        size = list(image.shape)
        size[axis] = matrix[axis]
        image = crop(fft(image, axes=(axis,)), size)
    return image * np.float32(scale)


def _check_scanner(matrix: Sequence[int], voxel_size: Sequence[float], n_coils: int) -> None:
    if len(matrix) != 3 or not all(isinstance(n, int | np.integer) and n >= 1 for n in matrix):
        raise ScanError(f"matrix: needs three whole numbers of at least 1 (z, y, x), got {tuple(matrix)}")
    if len(voxel_size) != 3 or not all(0 < size < math.inf for size in voxel_size):
        raise ScanError(f"voxel_size: needs three positive numbers (z, y, x) in mm, got {tuple(voxel_size)}")
    if not isinstance(n_coils, int | np.integer) or n_coils < 1:
        raise ScanError(f"n_coils: needs a whole number of at least 1, got {n_coils}")


def _field_of_view(
    head: Head, sequence: MpRage | Space | None, matrix: tuple[int, int, int], voxel_size: tuple[float, float, float]
) -> tuple[np.ndarray, tuple[int, int, int], tuple[float, float, float]]:
    """The head's signal on its fine grid filling the field of view, the matrix, and the voxel size."""
    signal = head.signal(sequence)
    fine, shape, sizes = [], [], []
    for n_head, native, n, size in zip(signal.shape, head.voxel_size, matrix, voxel_size, strict=True):
        n_fit = round(n * size / native)  # of the voxel size asked for, so that coarse voxels leave the extent as it is
        size = max(size, native)
        if n_head > n_fit:  # in whole voxels: in mm, rounding alone would enlarge the matrix of some digital heads
            n = 2 * math.ceil(n_head * native / size / 2)
        n_fine = max(n_fit, n_head)
        n = min(n, n_fine)
        fine.append(n_fine)
        shape.append(n)
        sizes.append(n_fine * native / n)
    return pad(signal, fine), (shape[0], shape[1], shape[2]), (sizes[0], sizes[1], sizes[2])


def _scan_affine(
    head: Head, fine: Sequence[int], matrix: tuple[int, int, int], voxel_size: tuple[float, float, float]
) -> np.ndarray:
    """The head's affine carried to the scan's grid: voxel n//2 stays in its place."""
    shape = head.t1.shape if head.t1 is not None else head.signal().shape
    centre = head.affine[:3, :3] @ np.array([n // 2 for n in shape[::-1]]) + head.affine[:3, 3]
    affine = centred_affine(matrix, voxel_size, centre)
    # keep the head's own axes (a real head may be oblique)
    directions = head.affine[:3, :3] / np.linalg.norm(head.affine[:3, :3], axis=0)
    affine[:3, :3] = directions * np.array(voxel_size[::-1])
    affine[:3, 3] = centre - affine[:3, :3] @ np.array([n // 2 for n in matrix[::-1]])
    return affine
