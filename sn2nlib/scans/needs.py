"""What the reconstruction of a scan needs, known before it is begun: memory, at once or out of core, disk and time."""

from math import prod

from sn2nlib.parallel import n_threads

COPIES = 5  # of k-space that `sn2nlib.recon.pairs` holds at its peak, the weights made
BLOCK = 8  # partitions that a thread of `sn2nlib.recon.out_of_core` reads and puts away at a time
MANY_COILS = 16  # from here on, time per sample grows with their number: every coil is filled from all others
WALSH_BAND = 2**23  # bytes of covariances that `sn2nlib.recon.coils` works on at a time
_ROWS = 8  # of blocks, or a multiple: for fewer, matrix products round in another way
# seconds per sample on two cores: of reading, whitening and compressing the coils of the file, and, of those that are
# left, of all else; benchmarks/full_size.py measures 7 s and 31 to 36 s in all
_READING, _WORKING = 4e-9, 80e-9
_FILLING = 90  # bytes per voxel that `sn2nlib.recon.partial_fourier` takes beside the volumes
_LIBRARIES = 2**28  # bytes of the program itself
_CALIBRATION = 24  # lines along the shorter axis of the calibration region


def least_memory(
    shape: tuple[int, int, int], n_coils: int, n_virtual: int | None = None, *, window: int = 7, filling: bool = False
) -> int:
    """Bytes that the reconstruction out of core takes whatever the limit.

    Results and weights, planes or partitions of each thread or the coils' covariances, calibration lines, and the
    program.

    Parameters
    ----------
    shape : (kz, ky, kx)
    n_coils
        Of the file.
    n_virtual
        Coils that they are compressed to; None: all.
    window
        Of the Walsh weights; the default is theirs.
    filling
        Whether a side of k-space that was left out is filled.
    """
    nz, ny, nx = shape
    kept = n_coils if n_virtual is None else n_virtual
    results = 5 * 8 * nz * ny * nx
    planes = 12 * 8 * kept * nz * ny * n_threads()
    readers = min(n_threads(), -(-nz // BLOCK))
    partitions = 8 * ny * nx * (2 * n_coils + (min(BLOCK, nz) + 2) * kept) * readers
    calibration = 8 * kept * nx * 3 * _CALIBRATION * max(nz, ny)
    weights = 8 * kept * prod(-(-n // max(1, window // 2)) for n in shape)
    covariances = walsh_memory(shape, kept, window=window)
    filled = _FILLING * prod(shape) if filling else 0
    return results + weights + max(planes, partitions, covariances, filled) + calibration + _LIBRARIES


def memory_at_once(shape: tuple[int, int, int], n_coils: int, *, window: int = 7) -> int:
    """Bytes of arrays that the reconstruction of a scan in memory takes at its peak, k-space included.

    Mostly `COPIES` of k-space; of many coils in a small matrix four, and what the Walsh weights take.

    Parameters
    ----------
    shape : (kz, ky, kx)
    n_coils, window
        As of `least_memory`, the coils being those that are reconstructed.
    """
    nz, ny, nx = shape
    kspace = 8 * n_coils * prod(shape)
    with_weights = (COPIES - 1) * kspace + walsh_memory((ny, nx, nz), n_coils, window=window)
    return max(COPIES * kspace, with_weights * 21 // 20)


def walsh_memory(shape: tuple[int, int, int], n_coils: int, *, window: int) -> int:
    """Bytes that making the Walsh weights takes beside them, from coil images that lie on disk.

    The wide covariance, and the most of: what is read for it; one and a half of it, while it is smoothed; what is read
    for the local covariance, four planes of this, and bands: for each thread one that waits and six at work
    (covariance, prior, their sum, its powers), four more where they are made. Read is one slab, and copied three times
    a row of its blocks.

    Parameters
    ----------
    shape : (kz, ky, kx)
        The slabs are of some kx: of a scan in memory, whose slabs are of some kz, (ky, kx, kz).
    n_coils
    window
        Width in voxels.
    """
    sizes = max(1, window // 2), 2 * window
    (rows, columns, _), wide_blocks = (tuple(-(-n // size) for n in shape) for size in sizes)
    read, read_wide = (8 * n_coils * min(size, shape[2]) * (shape[1] + size) * (shape[0] + 3 * size) for size in sizes)
    matrix = 8 * n_coils**2
    wide, plane = matrix * prod(wide_blocks), matrix * rows * columns
    band = matrix * walsh_rows(rows, columns, n_coils) * columns
    return wide + max(read_wide, 3 * wide // 2, read + 4 * plane + (7 * n_threads() + 4) * band)


def walsh_rows(n_rows: int, n_columns: int, n_coils: int) -> int:
    """Rows of a plane of blocks whose covariances `sn2nlib.recon.coils` works on at a time."""
    fitting = WALSH_BAND // (8 * n_coils**2 * n_columns)
    return min(n_rows, max(_ROWS, fitting // _ROWS * _ROWS))


def most_disk(shape: tuple[int, int, int], n_coils: int) -> int:
    """Bytes on disk that the reconstruction out of core takes at most: samples and coil images."""
    return 2 * 8 * n_coils * prod(shape)


def seconds(shape: tuple[int, int, int], n_coils: int, n_virtual: int | None = None) -> int:
    """Roughly what the reconstruction takes on two cores; parameters as of `least_memory`."""
    kept = n_coils if n_virtual is None else n_virtual
    working = _WORKING * kept * max(1.0, kept / MANY_COILS) ** 0.5  # measured from 16 to 64 coils
    return max(1, round(prod(shape) * (_READING * n_coils + working)))
