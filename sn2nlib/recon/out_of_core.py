"""The chain of `pairs` for scan files that are larger than memory.

1. Noise scan (or k-space corners) → whitening; centre of the calibration lines → coil compression.
2. Partition by partition: read, whiten, compress, transform the readout. The samples, now (x, coil, kz, ky), are kept.
3. Each x on its own: GRAPPA in hybrid space, transform over (kz, ky) → coil images of the original, which are kept.
4. Walsh weights on their grid of blocks, from slabs of these.
5. Each x on its own: weights, original, both halves (filled, transformed, combined), noise maps.

The answer is that of `pairs` to rounding: 1e-5 of the maximum, after partial Fourier filling but for fewer than one
voxel of a thousand, whose phase is that of rounding (`partial_fourier.phase_map`). Memory: the results (five volumes at
most), one slab, or a few planes or a block of partitions per thread, the calibration lines; samples and coil images of
steps 2 and 3 too while they fit below the limit, else these are on disk.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from sn2nlib.parallel import n_threads
from sn2nlib.recon.chain import Preparation, calibrated_for, calibration_box, compression_box, fitted_compression
from sn2nlib.recon.coils import DEFAULT_WINDOW, BlockWeights, block_weights
from sn2nlib.recon.compression import Compression, Method
from sn2nlib.recon.grappa import DEFAULT_KERNEL, DEFAULT_RIDGE, GrappaKernel
from sn2nlib.recon.hybrid import HybridFill, HybridSamples, ReadoutTransform, image_phase
from sn2nlib.recon.noise import NoisePlanes, corner_positions, whitening_matrix
from sn2nlib.recon.pairs import (
    Pairing,
    half_masks,
    intensity_scale,
    warn_if_folded,
    warn_if_noisy,
)
from sn2nlib.recon.partial_fourier import PartialFourier, check_method, fill_volumes
from sn2nlib.recon.raw_filter import raw_filter_window
from sn2nlib.recon.workspace import Workspace, default_limit, one_blas_thread, reported
from sn2nlib.sampling import Mask, asymmetric_readout
from sn2nlib.scans.needs import BLOCK, least_memory
from sn2nlib.scans.scan import tell_doubts
from sn2nlib.scans.stream import PartitionReader, ScanHeader, read_box, read_header, read_partitions

_Complex = NDArray[np.complex64]


@dataclass(frozen=True)
class ImagePair:
    """The images of `Pair`, without the weights, which would take as much memory as the coil images.

    Attributes
    ----------
    original, half_a, half_b : (z, y, x) complex64
        The halves are None where only the conventional image was asked for.
    noise_sd, noise_sd_half : (z, y, x) float32
        None where they were not asked for; that of a half without halves.
    scale : float
    mask_a, mask_b : (kz, ky) bool
    kernel_original, kernel_half : GrappaKernel or None
    whitening : (coil, coil) complex128
    compression : Compression or None
    weights : BlockWeights
        Of the images with the axes (x, z, y).
    pairing, partial_fourier, noise_estimator : str
    taper : (kz, ky) float32 or None
        Raw filter.
    """

    original: _Complex
    half_a: _Complex | None
    half_b: _Complex | None
    noise_sd: NDArray[np.float32] | None
    noise_sd_half: NDArray[np.float32] | None
    scale: float
    mask_a: Mask
    mask_b: Mask
    kernel_original: GrappaKernel | None
    kernel_half: GrappaKernel | None
    whitening: NDArray[np.complex128]
    compression: Compression | None
    weights: BlockWeights
    pairing: Pairing
    partial_fourier: PartialFourier
    noise_estimator: str
    taper: NDArray[np.float32] | None


def image_pair(
    path: str | os.PathLike[str],
    *,
    kernel: tuple[int, int, int] = DEFAULT_KERNEL,
    ridge: float = DEFAULT_RIDGE,
    window: int = DEFAULT_WINDOW,
    virtual_coils: int | float | None = None,
    compression: Method = "svd",
    partial_fourier: PartialFourier = "zero",
    raw_filter: float = 0.0,
    pairing: Pairing = "kz",
    halves: bool = True,
    noise_maps: bool = True,
    memory_limit: int | None = None,
    scratch: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> ImagePair:
    """Conventional image and both halves of a scan file that may be larger than memory.

    Parameters
    ----------
    path
        Scan file.
    kernel, ridge, window, virtual_coils, compression, partial_fourier, raw_filter, pairing
        As for `make_pair`.
    halves
        False: the conventional image alone, of any scan.
    noise_maps
        False: without them, which saves a fifth of the time or so.
    memory_limit
        Bytes that the process should not exceed; None: half of the machine's memory. What does not fit goes to
        `scratch`; results and working planes cannot, and are the least that is taken.
    scratch
        Folder for intermediate results; None: the system's.
    progress
        Print a line every 20 seconds.

    Returns
    -------
    ImagePair

    Raises
    ------
    FileNotFoundError, ScanError, SamplingError, CalibrationError
        As `load_scan` and `make_pair`.
    OSError
        No space for intermediate results.
    """
    check_method(partial_fourier)
    header = read_header(path)
    tell_doubts(path, header.doubts)
    taper = raw_filter_window(header.mask, raw_filter, partial_fourier, acceleration=header.acceleration)
    masks = half_masks(header, pairing, has_repeat=header.has_repeat) if halves else None
    with one_blas_thread():
        prepare = _preparation(header, virtual_coils, compression)
    n_coils = header.n_coils if prepare.compression is None else prepare.compression.n_virtual
    warn_if_folded(header.acceleration, n_coils)
    mask_a, mask_b = masks[:2] if masks else (header.mask, header.mask)
    half_acceleration = masks[2] if masks else header.acceleration
    limit = default_limit() if memory_limit is None else memory_limit
    filling = partial_fourier != "zero"
    least = least_memory(header.shape, header.n_coils, n_coils, window=window, filling=filling)
    with Workspace(max(0, limit - least), scratch) as space:
        job = _Job(header, prepare, n_coils, kernel[0] if header.shape[2] > 1 else 1, taper, space, progress)
        samples, kernels = job.samples_and_kernels((header.acceleration, half_acceleration), kernel, ridge)
        kernel_original = kernels.get(header.acceleration)
        kernel_half = kernels.get(half_acceleration) if masks else None
        volumes, weights = job.images(
            samples, kernel_original, kernel_half, (mask_a, mask_b), window=window, pairing=pairing if halves else None,
            noise_maps=noise_maps,
        )  # fmt: skip
        del samples  # before the filling, which takes memory of its own
    if halves and pairing == "repetitions":
        volumes["half_a"] = volumes["original"]
    if halves and noise_maps:
        warn_if_noisy(volumes["noise_sd_half"], mask_a, np.abs(volumes["original"]), header.kx_share)
    made_of = {
        "original": (header.mask, kernel_original), "half_a": (mask_a, kernel_half), "half_b": (mask_b, kernel_half)
    }  # fmt: skip
    readout = asymmetric_readout(header.kx_acquired, header.shape[2])
    _, estimator = fill_volumes(volumes, made_of, partial_fourier, taper, readout)
    return ImagePair(
        original=volumes["original"],
        half_a=volumes.get("half_a"),
        half_b=volumes.get("half_b"),
        noise_sd=volumes.get("noise_sd"),
        noise_sd_half=volumes.get("noise_sd_half"),
        scale=intensity_scale(np.abs(volumes["original"])),
        mask_a=mask_a,
        mask_b=mask_b,
        kernel_original=kernel_original,
        kernel_half=kernel_half,
        whitening=prepare.whitening,
        compression=prepare.compression,
        weights=weights,
        pairing=pairing,
        partial_fourier=partial_fourier,
        noise_estimator=estimator,
        taper=taper,
    )


def _preparation(header: ScanHeader, virtual_coils: int | float | None, method: Method) -> Preparation:
    noise = _corner_noise(header) if header.noise is None else header.noise
    whitening = whitening_matrix(noise)
    if virtual_coils is None:
        return Preparation(whitening)
    if header.acs_shape is not None:
        acs = read_box(header, "acs", (slice(None), slice(None)))
    else:
        acs = read_box(header, "kspace", compression_box(header))
    return Preparation(whitening, fitted_compression(acs, whitening, virtual_coils, method, header.shape[2]))


def _corner_noise(header: ScanHeader) -> _Complex:
    kz, ky, kx = corner_positions((header.n_coils, *header.shape), header.mask, header.kx_acquired)
    noise = np.empty((header.n_coils, len(kz)), np.complex64)
    with closing(read_partitions(header, chosen=np.unique(kz).tolist())) as partitions:
        for z, partition in partitions:
            chosen = kz == z
            noise[:, chosen] = partition[:, ky[chosen], kx[chosen]]
    return noise


def _combined(images: _Complex, weights: _Complex) -> _Complex:
    """One plane (z, y) from its coils and conjugate weights (coil, z, y)."""
    combined, product = np.zeros(images.shape[1:], np.complex64), np.empty(images.shape[1:], np.complex64)
    for values, weight in zip(images, weights, strict=True):  # of single coils, which stay in the cache
        combined += np.multiply(values, weight, out=product)
    return combined


@dataclass(frozen=True)
class _Planes:
    """Coil images stored as (x, coil, z, y), seen as the (coil, x, z, y) that `block_weights` takes slabs of."""

    stored: Any

    @property
    def shape(self) -> tuple[int, ...]:
        nx, n_coils, nz, ny = self.stored.shape
        return n_coils, nx, nz, ny

    def __getitem__(self, key: tuple[slice, slice]) -> _Complex:
        slab: _Complex = self.stored[key[1]].swapaxes(0, 1)
        return slab


@dataclass(frozen=True)
class _Job:
    """One scan file on its way through steps 2, 3 and 5."""

    header: ScanHeader
    prepare: Preparation
    n_coils: int
    kernel_width: int
    taper: NDArray[np.float32] | None
    space: Workspace
    progress: bool
    failed: threading.Event = field(default_factory=threading.Event)

    def samples_and_kernels(
        self, accelerations: tuple[tuple[int, int], tuple[int, int]], kernel: tuple[int, int, int], ridge: float
    ) -> tuple[HybridSamples, dict[tuple[int, int], GrappaKernel]]:
        """Step 2, and the kernels of those accelerations that leave something to fill."""
        calibrating = any(factor != (1, 1) for factor in accelerations)
        samples, lines = self.samples("kspace", calibrating=calibrating)
        return samples, calibrated_for(accelerations, self.header, lines, kernel, ridge)

    def images(
        self, samples: HybridSamples, kernel_original: GrappaKernel | None, kernel_half: GrappaKernel | None,
        masks: tuple[Mask, Mask], *, window: int, pairing: Pairing | None, noise_maps: bool,
    ) -> tuple[dict[str, NDArray[Any]], BlockWeights]:  # fmt: skip
        """Steps 3 to 5: volumes of what was asked for, and the weights; without a pairing the original alone."""
        header, taper = self.header, self.taper
        images = self.coil_images(HybridFill(samples, header.mask, kernel_original, taper))
        weights = block_weights(_Planes(images), window=window)
        planes: dict[str, Callable[[_Complex, int], NDArray[Any]]] = {"original": lambda w, x: _combined(images[x], w)}
        if pairing == "kz":
            fills = [HybridFill(samples, mask, kernel_half, taper) for mask in masks]
            planes |= {name: self.half(fill) for name, fill in zip(("half_a", "half_b"), fills, strict=True)}
        elif pairing == "repetitions":
            samples, _ = self.samples("repeat", into=samples)
            planes["half_b"] = self.half(HybridFill(samples, masks[1], kernel_half, taper))
        if noise_maps:
            planes["noise_sd"] = NoisePlanes(kernel_original, header.mask, header.shape, taper, header.kx_share)
        if noise_maps and pairing is not None:
            planes["noise_sd_half"] = NoisePlanes(kernel_half, masks[0], header.shape, taper, header.kx_share)
        return self.volumes(weights, planes), weights

    def samples(
        self, name: str, *, calibrating: bool = False, into: HybridSamples | None = None
    ) -> tuple[HybridSamples, _Complex]:
        """Step 2: all acquired samples in hybrid space, and the prepared calibration lines, if they are needed."""
        header, (nz, _, nx) = self.header, self.header.shape
        columns = np.flatnonzero(header.mask.any(axis=0))
        shape = (nx, self.n_coils, nz, len(columns))
        if into is None:
            planes = self.space.array("samples", shape, (1, self.n_coils, min(BLOCK, nz), len(columns)))
        else:
            planes = into.planes
        transform = ReadoutTransform(header.shape, columns, self.kernel_width)
        edges = np.zeros((len(transform.edges), *shape[1:]), np.complex64)
        samples = HybridSamples(planes, edges, columns, header.shape)
        separate = header.acs_shape is not None
        box = calibration_box(header) if calibrating and not separate else (slice(0, 0), slice(0, 0))
        lines: dict[int, _Complex] = {}
        with PartitionReader(header, name) as reader:

            def block(first: int) -> None:
                self._block(reader, range(first, min(first + BLOCK, nz)), transform, samples, box, lines)

            self._each(block, range(0, nz, BLOCK), "reading blocks of partitions")
            reader.check_signal()
        if calibrating and separate:
            return samples, self.prepare(read_box(header, "acs", (slice(None), slice(None))))
        return samples, np.stack([lines[kz] for kz in sorted(lines)], axis=1) if lines else np.empty(0, np.complex64)

    def _block(
        self, reader: PartitionReader, numbers: range, transform: ReadoutTransform, samples: HybridSamples,
        box: tuple[slice, slice], lines: dict[int, _Complex],
    ) -> None:  # fmt: skip
        """Some partitions of step 2: read, prepared, transformed, put into `samples`; lines in the box are kept."""
        part = (slice(None), slice(None), slice(numbers.start, numbers.stop))
        in_memory, columns = isinstance(samples.planes, np.ndarray), samples.columns
        shape = (*samples.planes.shape[:2], len(numbers), len(columns))
        hybrid = samples.planes[part] if in_memory else np.empty(shape, np.complex64)
        for kz, measured in reader.partitions(numbers):
            if self.failed.is_set():
                return
            prepared = self.prepare(np.take(measured, columns, axis=1))
            if box[0].start <= kz < box[0].stop:
                lines[kz] = prepared[:, np.searchsorted(columns, np.arange(box[1].start, box[1].stop))]
            transform(prepared, kz, hybrid[:, :, kz - numbers.start], samples.edges[:, :, kz])
        if not in_memory:
            samples.planes[part] = hybrid

    def coil_images(self, fill: HybridFill) -> Any:
        """Step 3: coil images (x, coil, z, y), with the phase of `image_phase`."""
        nz, ny, nx = self.header.shape
        images = self.space.array("images", (nx, self.n_coils, nz, ny), (1, self.n_coils, nz, ny))

        def one(x: int) -> None:
            images[x] = _transformed(fill(fill.samples.planes[x], x))

        self._each(one, range(nx), "filling planes")
        return images

    def half(self, fill: HybridFill) -> Callable[[_Complex, int], _Complex]:
        """Step 5 for one half."""
        return lambda weights, x: _combined(_transformed(fill(fill.samples.planes[x], x)), weights)

    def volumes(
        self, weights: BlockWeights, planes: dict[str, Callable[[_Complex, int], NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """Step 5: volumes (z, y, x) whose planes (z, y) the functions give from conjugate weights and x."""
        nz, ny, nx = self.header.shape
        phase = image_phase((nz, ny))
        volumes = {
            name: np.empty((nz, ny, nx), np.float32 if isinstance(plane, NoisePlanes) else np.complex64)
            for name, plane in planes.items()
        }

        def one(x: int) -> None:
            at_x = weights.plane(x).conj()
            for name, plane in planes.items():
                values = plane(at_x, x)
                volumes[name][:, :, x] = values * phase if np.iscomplexobj(values) else values

        self._each(one, range(nx), "combining planes")
        return volumes

    def _each(self, task: Callable[[int], None], numbers: range, what: str) -> None:
        """The task for every number, on all cores; the first error ends it."""

        def unless_failed(number: int) -> None:
            if not self.failed.is_set():
                task(number)

        with one_blas_thread(), ThreadPoolExecutor(n_threads()) as pool:
            try:
                done = pool.map(unless_failed, numbers)
                for _ in reported(done, what, len(numbers), enabled=self.progress):
                    pass
            except BaseException:
                self.failed.set()
                raise


def _transformed(plane: _Complex) -> _Complex:
    images: _Complex = scipy.fft.ifft2(plane, norm="ortho", overwrite_x=True)
    return images
