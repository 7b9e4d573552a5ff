"""What the reconstruction of a scan needs, known before it is begun: memory, at once or out of core, disk and time."""

from math import prod

from sn2nlib.parallel import n_threads

COPIES = 5  # of k-space that `sn2nlib.recon.pairs` holds at its peak
BLOCK = 8  # partitions that `sn2nlib.recon.out_of_core` writes at a time
MANY_COILS = 16  # from here on, time per byte grows with their number: every coil is filled from all others
_BYTES_PER_SECOND = 250e6  # of k-space, on two cores: benchmarks/full_size.py measures 266e6
_LIBRARIES = 2**28  # bytes of the program itself
_CALIBRATION = 24  # lines along the shorter axis of the calibration region


def least_memory(shape: tuple[int, int, int], n_coils: int, n_virtual: int | None = None) -> int:
    """Bytes that the reconstruction out of core takes whatever the limit.

    Results, planes of each thread or partitions of all coils, calibration lines, and the program.

    Parameters
    ----------
    shape : (kz, ky, kx)
    n_coils
        Of the file.
    n_virtual
        Coils that they are compressed to; None: all.
    """
    nz, ny, nx = shape
    kept = n_coils if n_virtual is None else n_virtual
    results = 5 * 8 * nz * ny * nx
    planes = 12 * 8 * kept * nz * ny * n_threads()
    partitions = 8 * ny * nx * (2 * n_coils + 2 * BLOCK * kept)
    calibration = 8 * kept * nx * 3 * _CALIBRATION * max(nz, ny)
    return results + max(planes, partitions) + calibration + _LIBRARIES


def most_disk(shape: tuple[int, int, int], n_coils: int) -> int:
    """Bytes on disk that the reconstruction out of core takes at most: samples and coil images."""
    return 2 * 8 * n_coils * prod(shape)


def seconds(shape: tuple[int, int, int], n_coils: int, n_virtual: int | None = None) -> int:
    """Roughly what the reconstruction takes on two cores; parameters as of `least_memory`."""
    kept = n_coils if n_virtual is None else n_virtual
    return max(1, round(8 * n_coils * prod(shape) / _BYTES_PER_SECOND * max(1, kept / MANY_COILS)))
