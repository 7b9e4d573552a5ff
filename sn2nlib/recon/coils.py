"""Adaptive coil combination.

Walsh DO, Gmitro AF, Marcellin MW. Adaptive reconstruction of phased array MR imagery. MRM 2000;43:682-690.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice, product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sn2nlib.errors import ScanError
from sn2nlib.parallel import n_threads
from sn2nlib.recon.workspace import one_blas_thread
from sn2nlib.scans.needs import walsh_rows

DEFAULT_WINDOW = 7
_PRIOR = 0.03  # share of the wide covariance added to the local one
_WIDE = 2  # block of the wide covariance, in windows
_SQUARINGS = 6  # 2^6 steps of power iteration

_Complex = NDArray[np.complex64]
_Real = NDArray[np.float32]


def walsh(coil_images: _Complex, *, window: int = DEFAULT_WINDOW) -> _Complex:
    """Combination weights from the local coil covariance.

    1. R(r): mean of x xᴴ over a window of `window` voxels per axis, on a grid of blocks of window//2 voxels.
    2. R + 0.03 R_wide, with R_wide averaged over about 2, 5 and all windows across: in air, where R holds
       nothing but noise, the weights then follow the smooth surroundings and not that noise, which every
       image combined with them would share.
    3. w(r): the dominant eigenvector, by repeated squaring of R.
    4. Its free phase is set by one reference for the whole scan, the dominant eigenvector of the summed
       R_wide: w_refᴴ w(r) is real and positive.
    5. Linear interpolation to the voxels; Σ_c |w_c|² = 1.

    Parameters
    ----------
    coil_images : (coil, z, y, x) complex64
        Pre-whitened: with equal, uncorrelated noise in all coils the noise does not turn the eigenvectors.
    window : int
        Width of the window in voxels.

    Returns
    -------
    (coil, z, y, x) complex64

    Raises
    ------
    ScanError
        Wrong axes or dtype, a window below 1, or NaN, Inf or values whose squares are.
    """
    if coil_images.ndim != 4 or not np.iscomplexobj(coil_images):
        raise ScanError(f"coil images need complex (coil, z, y, x), got {coil_images.dtype} {coil_images.shape}")
    if window < 1:
        raise ScanError(f"the Walsh window needs at least 1 voxel, got {window}")
    step = max(1, window // 2)
    along_z, along_y, along_x = (_interpolation(np.arange(n), n, step) for n in coil_images.shape[1:])
    weights = np.full(coil_images.shape, 0, np.complex64)  # filled at once: faster than page by page below
    previous: _Complex | None = None
    z = 0
    for block, vectors in enumerate(_block_vectors(coil_images, window, step)):
        plane = _upsample(vectors, along_y, along_x)
        # planes up to this block's centre need this block and the one before
        while z < len(along_z) and not along_z[z, block + 1 :].any():
            below = 0 if previous is None else along_z[z, block - 1] * previous
            weights[:, z] = _unit(along_z[z, block] * plane + below, axis=0)
            z += 1
        previous = plane
    return weights


class Slabs(Protocol):
    """Coil images (coil, z, y, x) that need not be in memory: `images[:, first:last]` gives some partitions."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(coil, z, y, x)."""

    def __getitem__(self, key: tuple[slice, slice]) -> _Complex:
        """Of some partitions."""


@dataclass(frozen=True)
class BlockWeights:
    """Walsh weights on the grid of blocks, for images of which one plane at a time is in memory.

    Attributes
    ----------
    vectors : (block z, block y, block x, coil) complex64
    shape : (z, y, x)
    step : int
        Voxels per block.
    """

    vectors: _Complex
    shape: tuple[int, int, int]
    step: int

    def plane(self, z: int) -> _Complex:
        """Weights (coil, y, x) of one partition: those that `walsh` gives, to rounding."""
        along_z, along_y, along_x = (_interpolation(np.arange(n), n, self.step) for n in self.shape)
        blocks = np.flatnonzero(along_z[z])
        mixed = np.tensordot(along_z[z, blocks], self.vectors[blocks], 1)
        return _unit(_upsample(mixed, along_y, along_x), axis=0)


def block_weights(coil_images: Slabs, *, window: int = DEFAULT_WINDOW) -> BlockWeights:
    """`walsh` without the last step, reading the images slab by slab, twice."""
    step = max(1, window // 2)
    n_coils, nz, ny, nx = coil_images.shape
    vectors = np.empty((*(-(-n // step) for n in (nz, ny, nx)), n_coils), np.complex64)
    for block, plane in enumerate(_block_vectors(coil_images, window, step)):
        vectors[block] = plane
    return BlockWeights(vectors, (nz, ny, nx), step)


def combine(coil_images: _Complex, weights: _Complex) -> _Complex:
    """One image from many: Σ_c conj(w_c) x_c.

    Parameters
    ----------
    coil_images, weights : (coil, z, y, x) complex64

    Returns
    -------
    (z, y, x) complex64

    Raises
    ------
    ScanError
        If the shapes differ.
    """
    if coil_images.shape != weights.shape:
        raise ScanError(f"coil images {coil_images.shape} and weights {weights.shape} differ in shape")
    image = np.zeros(coil_images.shape[1:], dtype=np.complex64)
    for values, weight in zip(coil_images, weights, strict=True):
        image += weight.conj() * values
    return image


def _interpolation(positions: NDArray[np.floating] | NDArray[np.integer], n: int, step: int) -> _Real:
    """Matrix (position, block): linear interpolation from the centres of blocks of `step` voxels."""
    n_blocks = -(-n // step)
    coordinate = np.clip((positions - (step - 1) / 2) / step, 0, n_blocks - 1)
    return np.maximum(0, 1 - np.abs(coordinate[:, None] - np.arange(n_blocks))).astype(np.float32)


def _block_covariance(slab: _Complex, step: int) -> _Complex:
    """Mean of x xᴴ over the blocks of one slab (coil, dz, y, x) → (block y, block x, coil, coil)."""
    n_coils, nz, ny, nx = slab.shape
    blocks_y, blocks_x = -(-ny // step), -(-nx // step)
    covariance = np.empty((blocks_y, blocks_x, n_coils, n_coils), np.complex64)
    for row, values in enumerate(covariance):  # so that copies of the slab are of one row at a time
        lines = slab[:, :, row * step : (row + 1) * step]
        padded = np.zeros((n_coils, nz, step, blocks_x * step), np.complex64)
        padded[:, :, : lines.shape[2], :nx] = lines
        blocks = padded.reshape(n_coils, nz, step, blocks_x, step).transpose(3, 0, 1, 2, 4)
        samples = blocks.reshape(blocks_x, n_coils, nz * step * step)
        np.matmul(samples, samples.conj().swapaxes(-1, -2), out=values)
    covariance *= _inverse(step**3)
    return covariance


def _wide_covariance(coil_images: Slabs, step: int) -> _Complex:
    """Covariance (block z, block y, block x, coil, coil) over blocks of `step` voxels, at three widths."""
    starts = range(0, coil_images.shape[1], step)
    covariance = np.stack([_block_covariance(coil_images[:, z : z + step], step) for z in starts])
    wide = np.broadcast_to(np.float32(0.1) * covariance.mean(axis=(0, 1, 2)), covariance.shape).copy()
    for blocks in (0.7, 2.0):
        sigma = (blocks, blocks, blocks, 0, 0)
        wide.real += gaussian_filter(covariance.real, sigma)
        wide.imag += gaussian_filter(covariance.imag, sigma)
    return wide


def _local_covariances(coil_images: Slabs, window: int, step: int, n_rows: int) -> Iterator[_Complex]:
    """Windowed covariance of so many rows of blocks after the other, plane by plane; four planes in memory."""
    side = (window / step - 1) / 2  # share of the neighbouring blocks that the window covers

    def smoothed(z: int) -> _Complex:
        covariance = _block_covariance(coil_images[:, z : z + step], step)
        for axis in (0, 1):
            neighbours = np.zeros_like(covariance)
            np.moveaxis(neighbours, axis, 0)[1:] += np.moveaxis(covariance, axis, 0)[:-1]
            np.moveaxis(neighbours, axis, 0)[:-1] += np.moveaxis(covariance, axis, 0)[1:]
            neighbours *= np.float32(side)
            covariance += neighbours
        covariance *= _inverse((window / step) ** 3)
        return covariance

    planes = (smoothed(z) for z in range(0, coil_images.shape[1], step))
    current = next(planes)
    previous = np.zeros_like(current)
    for following in chain(planes, [np.zeros_like(current)]):
        for row in range(0, len(current), n_rows):
            rows = slice(row, row + n_rows)
            yield current[rows] + np.float32(side) * (previous[rows] + following[rows])
        previous, current = current, following


def _block_vectors(coil_images: Slabs, window: int, step: int) -> Iterator[_Complex]:
    """Dominant eigenvectors (block y, block x, coil), phases aligned, one plane of blocks after the other.

    Worked on in bands of `walsh_rows`, of which one more than there are threads is under way: memory does not grow with
    their number by whole planes. `walsh_memory` reckons it.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        wide = _wide_covariance(coil_images, _WIDE * window)
    if not np.isfinite(wide).all():
        raise ScanError("the coil images exceed single precision or hold NaN or Inf: repair or scale the samples")
    reference = np.linalg.eigh(wide.sum(axis=(0, 1, 2)))[1][:, -1]
    along = [
        _interpolation(np.arange(-(-n // step)) * step + (step - 1) / 2, n, _WIDE * window)
        for n in coil_images.shape[1:]
    ]
    n_blocks = [len(interpolation) for interpolation in along]
    n_rows = walsh_rows(n_blocks[1], n_blocks[2], coil_images.shape[0])
    order, _ = np.einsum_path("Yy,Xx,yxcd->YXcd", along[1], along[2], wide[0], optimize=True)

    def one(row: int, local: _Complex, prior: _Complex) -> _Complex:
        rows = along[1][row : row + len(local)]
        prior = np.einsum("Yy,Xx,yxcd->YXcd", rows, along[2], prior, optimize=order)
        vectors = _dominant_eigenvectors(local + np.float32(_PRIOR) * prior)
        overlap = vectors @ reference.conj()
        return vectors * np.exp(-1j * np.angle(overlap))[..., None].astype(np.complex64)

    def bands() -> Generator[_Complex, None, None]:
        places = product(range(n_blocks[0]), range(0, n_blocks[1], n_rows))
        running = deque[Future[_Complex]]()
        with one_blas_thread(), ThreadPoolExecutor(n_threads()) as pool:
            covariances = _local_covariances(coil_images, window, step, n_rows)
            for (block, row), local in zip(places, covariances, strict=True):
                if row == 0:
                    prior = np.tensordot(along[0][block], wide, 1)  # of the whole plane
                running.append(pool.submit(one, row, local, prior))
                if len(running) > n_threads():
                    yield running.popleft().result()
            yield from (vectors.result() for vectors in running)

    with closing(bands()) as in_order:
        for _ in range(n_blocks[0]):
            yield np.concatenate(list(islice(in_order, -(-n_blocks[1] // n_rows))))


def _dominant_eigenvectors(covariance: _Complex) -> _Complex:
    """Unit eigenvectors (..., coil) of the largest eigenvalue of Hermitian matrices (..., coil, coil)."""
    power = covariance
    for _ in range(_SQUARINGS):
        trace = np.trace(power, axis1=-2, axis2=-1).real[..., None, None]
        power = power * _inverse(trace)
        power = power @ power
    # power is now close to v vᴴ: its strongest column is v, up to scale and phase
    strongest = np.diagonal(power, axis1=-2, axis2=-1).real.argmax(axis=-1)
    vectors = np.take_along_axis(power, strongest[..., None, None], axis=-1)[..., 0]
    vectors[~vectors.any(axis=-1)] = 1  # no signal at all: every direction is as good
    return _unit(vectors, axis=-1)


def _upsample(vectors: _Complex, along_y: _Real, along_x: _Real) -> _Complex:
    """(block y, block x, coil) → (coil, y, x) by linear interpolation."""
    blocks = vectors.transpose(2, 0, 1)
    return along_y.astype(np.complex64) @ (blocks @ along_x.T.astype(np.complex64))


def _unit(vectors: _Complex, axis: int) -> _Complex:
    squares = np.square(vectors.real) + np.square(vectors.imag)
    return vectors * _inverse(np.sqrt(squares.sum(axis=axis, keepdims=True)))


def _inverse(divisor: float | _Real) -> _Real:
    """To multiply complex arrays by, where their division would round alike and take five times as long."""
    return np.reciprocal(np.maximum(np.asarray(divisor, np.float32), np.finfo(np.float32).tiny))
