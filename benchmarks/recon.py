"""Speed and memory of GRAPPA calibration and filling. Run by hand:  python benchmarks/recon.py

Four questions: how many times faster than pygrappa's mdgrappa; how close the fill is to the copies and the
matrix product that it cannot avoid; whether the cost is linear in the samples; how much memory it takes. The
k-space is random: the cost depends on sizes alone.
"""

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from sn2nlib.parallel import n_threads
from sn2nlib.recon import GrappaKernel, calibrate, fill
from sn2nlib.recon.grappa import _CHUNK
from sn2nlib.sampling import acs_region, lattice_mask

COMPARED = (8, 48, 64, 64)
LARGEST = (8, 160, 208, 208)


def random_kspace(shape: tuple[int, ...]) -> np.ndarray:
    """(coil, kz, ky, kx) complex64."""
    return np.random.default_rng(0).standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]


def best_time(function: Callable[[], object], repeats: int) -> float:
    """Shortest of several wall times, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def problem(shape: tuple[int, int, int, int], acceleration: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """K-space, mask and ACS (24 lines per accelerated axis)."""
    kspace = random_kspace(shape)
    mask = lattice_mask(shape[1:3], acceleration=acceleration, acs=24)
    slice_z, slice_y = acs_region(mask)
    return kspace, mask, np.ascontiguousarray(kspace[:, slice_z, slice_y])


def bare_products(kspace: np.ndarray, kernel: GrappaKernel) -> None:
    """What any such fill must do: copy the k-space and the sources of each cell, multiply, store the targets."""
    n_targets, n_coils, n_sources, _ = kernel.weights.shape
    weights = kernel.weights.reshape(n_targets * n_coils, -1)
    (ry, rz), nx = kernel.acceleration, kspace.shape[3]
    filled, lattice = kspace.copy(), np.ascontiguousarray(kspace[:, ::rz, ::ry])
    rows = max(1, _CHUNK // nx)
    sources = np.empty((n_sources, n_coils, rows, nx), np.complex64)
    for z in range(lattice.shape[1]):
        for y in range(0, lattice.shape[2], rows):
            n_rows = min(rows, lattice.shape[2] - y)
            for source in sources:
                source[:, :n_rows] = lattice[:, z, y : y + n_rows]
            targets = weights @ sources.reshape(n_sources * n_coils, -1)
            for target in targets.reshape(n_targets, n_coils, rows, nx):
                filled[:, z, y : y + n_rows] = target[:, :n_rows]


def against_pygrappa() -> None:
    """The same job with mdgrappa. Its kernel counts grid points: 4×4×3 holds 2×2×3 acquired neighbours."""
    from pygrappa import mdgrappa  # type: ignore[import-untyped]  # needed for this comparison alone

    kspace, mask, acs = problem(COMPARED, (2, 2))
    own = best_time(lambda: fill(kspace, mask, calibrate(acs, acceleration=(2, 2))), repeats=5)
    undersampled = kspace * mask[:, :, None]
    other = best_time(lambda: mdgrappa(undersampled, calib=acs, kernel_size=(4, 4, 3), coil_axis=0), repeats=1)
    print(f"calibrate + fill {COMPARED}, R = 2×2: {own:.3f} s, mdgrappa {other:.1f} s: {other / own:.0f} times")


def against_bare_products() -> None:
    """Fill over its copies and products, for the two accelerations of the study."""
    for acceleration in ((2, 1), (2, 2)):
        kspace, mask, acs = problem((8, 128, 160, 160), acceleration)
        kernel = calibrate(acs, acceleration=acceleration)
        own = best_time(lambda k=kspace, m=mask, g=kernel: fill(k, m, g), repeats=3)  # type: ignore[misc]
        bare = best_time(lambda k=kspace, g=kernel: bare_products(k, g), repeats=3)  # type: ignore[misc]
        name = "R = {}×{}".format(*acceleration)
        print(f"fill (8, 128, 160, 160), {name}: {own:.2f} s, bare products {bare:.2f} s: {own / bare:.2f} times")


def linearity() -> None:
    """Time per k-space sample for three sizes."""
    for factor in (4, 2, 1):
        n_coils, nz, ny, nx = LARGEST
        shape = (n_coils, nz // factor, ny // factor, nx // factor)
        kspace, mask, acs = problem(shape, (2, 1))
        kernel = calibrate(acs, acceleration=(2, 1))
        seconds = best_time(lambda k=kspace, m=mask, g=kernel: fill(k, m, g), repeats=2)  # type: ignore[misc]
        print(f"fill {shape}, R = 2×1: {seconds:.3f} s, {1e9 * seconds / kspace.size:.1f} ns per sample")


def memory() -> None:
    """Peak of calibration and fill, the input counted, over the size of the k-space."""
    for acceleration in ((2, 1), (2, 2)):
        kspace, mask, acs = problem(LARGEST, acceleration)
        tracemalloc.start()
        fill(kspace, mask, calibrate(acs, acceleration=acceleration))
        peak = tracemalloc.get_traced_memory()[1] + kspace.nbytes
        tracemalloc.stop()
        name = "R = {}×{}".format(*acceleration)
        print(f"peak memory {kspace.shape}, {name}: {peak / kspace.nbytes:.2f} times the k-space")


def main() -> None:
    """Print the numbers, one per line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skip-pygrappa", action="store_true", help="leave out that comparison (half a minute)")
    arguments = parser.parse_args()
    print(f"{n_threads()} cores, OMP_NUM_THREADS = {os.environ.get('OMP_NUM_THREADS', 'not set')}")
    against_bare_products()
    linearity()
    memory()
    if not arguments.skip_pygrappa:
        against_pygrappa()


if __name__ == "__main__":
    main()
