"""Time and memory of a scan that is larger than memory. Run by hand:  python benchmarks/full_size.py --folder FOLDER

A simulated 64-channel scan of 256×328×328 (14 GB on disk, R = 2×1, 24 calibration lines) → conventional image and
both halves, compressed to 16 virtual coils; before that, what `sn2n inspect` takes for the same file. Beside it, in the
same run, what no program can do without: reading the file, the Fourier transforms, and the matrix products of
compression, calibration, filling and Walsh's covariances, of the same sizes, on data that lie ready. Inspection,
reconstruction and comparison run in child processes, whose peak memory is theirs alone. At the end stands a verdict for
each goal, reached or missed. Peak memory, time and ratio are of the one process that makes the conventional image and
both halves; the halves must be there, of the image's shape, finite, without an empty partition, and different, with
independent noise. The goals are for two cores: of more, two are used where the system can hold a process to some, and
elsewhere seconds are not judged. The exit code is 1 if a goal is missed. `--scale 4` makes every axis four times
shorter, to try it out: its verdicts say nothing about the full size.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from scipy.linalg import blas

from sn2nlib.fourier import pad
from sn2nlib.parallel import n_threads
from sn2nlib.recon import image_pair
from sn2nlib.recon.replicas import white_noise
from sn2nlib.sampling import acs_region, lattice_mask
from sn2nlib.scans import acquire, digital_head
from sn2nlib.scans.coils import noise_correlation
from sn2nlib.scans.needs import seconds as predicted
from sn2nlib.scans.raw import inspect_raw
from sn2nlib.scans.stream import read_header, write_partitions

MATRIX, COILS, VIRTUAL, ACS, KERNEL = (256, 328, 328), 64, 16, 24, (3, 2, 2)
NOISE_SD, VOXEL = 0.02, 0.7
COARSE = 4  # the head is simulated on a grid this many times coarser and interpolated by zeros in k-space
LIMITS = {"peak GiB": 8, "seconds": 300, "ratio": 2.5}  # goals: at most so much
CORES = 2  # that they are for
MEANINGS = {
    "peak GiB": "memory of the process that makes the conventional image and both halves",
    "seconds": "for the conventional image and both halves together, from the file on",
    "ratio": "those seconds / seconds of bare reading + transforms + matrix products of the same sizes in this run",
}
# Of the halves' noise in the outer eighths of the field of view, where no object is: two disjoint sets of samples give
# about 0 (what residual aliasing there is makes it negative), the same samples in both 1, half of them shared 0.5.
CORRELATION = 0.1


def simulate(path: Path, _: int, matrix: tuple[int, int, int]) -> dict[str, float]:
    """Write the scan, partition by partition; the seconds that took."""
    begun = time.perf_counter()
    size = VOXEL * MATRIX[0] / matrix[0]
    grid = {
        "matrix": (MATRIX[0] // COARSE, MATRIX[1] // COARSE, MATRIX[2] // COARSE),
        "voxel_size": (VOXEL * COARSE,) * 3,
    }
    scan = acquire.acquire(
        digital_head(0, **grid), **grid, n_coils=COILS, acceleration=(1, 1), acs=None, noise_sd=0
    )
    mask = lattice_mask(matrix[:2], acceleration=(2, 1), acs=min(ACS, matrix[1] // 4))
    colour = np.linalg.cholesky(noise_correlation(COILS, [n * size for n in matrix], 0)).astype(np.complex64)
    colour *= np.float32(NOISE_SD)
    rng = np.random.default_rng(0)
    noise = colour @ white_noise((COILS, 16384), rng)
    write_partitions(
        path, (COILS, *matrix), partitions(scan.kspace, matrix, mask, colour, rng), mask=mask, acceleration=(2, 1),
        voxel_size=(size,) * 3, noise=noise, info={"source": "simulated for benchmarks/full_size.py"},
    )
    print(f"simulated in {time.perf_counter() - begun:.0f} s")
    return {"seconds": time.perf_counter() - begun}


def partitions(
    coarse: np.ndarray, matrix: tuple[int, int, int], mask: np.ndarray, colour: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Partitions (coil, ky, kx) of the interpolated k-space with noise on the sampled lines."""
    nz, ny, nx = matrix
    gain = np.float32(np.sqrt(np.prod(matrix) / np.prod(coarse.shape[1:])))  # the image keeps its intensity
    first = nz // 2 - coarse.shape[1] // 2
    for kz in range(nz):
        inside = 0 <= kz - first < coarse.shape[1]
        partition = pad(gain * coarse[:, kz - first], (ny, nx)) if inside else np.zeros((COILS, ny, nx), np.complex64)
        rows = np.flatnonzero(mask[kz])
        noise = colour @ white_noise((COILS, len(rows) * nx), rng)
        sampled = np.zeros_like(partition)
        sampled[:, rows] = partition[:, rows] + noise.reshape(COILS, len(rows), nx)
        yield sampled


def reconstruct(path: Path, memory_limit: int) -> dict[str, Any]:
    """The conventional image and both halves."""
    begun, used = time.perf_counter(), time.process_time()
    pair = image_pair(
        path, virtual_coils=VIRTUAL, kernel=KERNEL, noise_maps=False, memory_limit=memory_limit, progress=True
    )
    seconds, processor = time.perf_counter() - begun, time.process_time() - used
    magnitude = np.abs(pair.original)
    inside = magnitude > 0.1 * magnitude.max()
    there = [half for half in (pair.half_a, pair.half_b) if half is not None]
    halves = [np.vdot(pair.original[inside], half[inside]).real for half in there]
    return {
        "seconds": seconds,
        "processor": processor,
        "half over original": float(np.mean(halves) / np.vdot(pair.original[inside], pair.original[inside]).real),
        "halves": soundness(pair.original, pair.half_a, pair.half_b),
    }


def soundness(original: np.ndarray, half_a: np.ndarray | None, half_b: np.ndarray | None) -> dict[str, float | bool]:
    """What must be true of two halves (z, y, x), and the correlation of their noise."""
    if half_a is None or half_b is None or not original.shape == half_a.shape == half_b.shape:
        return {"both there, of the image's shape": False}
    halves = (half_a, half_b)
    corners = np.ix_(*(np.r_[: max(1, n // 8), n - max(1, n // 8) : n] for n in original.shape))
    a, b = (half[corners].astype(np.complex128) for half in halves)
    power = np.vdot(a, a).real * np.vdot(b, b).real
    correlation = float(np.vdot(a, b).real / np.sqrt(power)) if power > 0 else np.nan
    return {
        "both there, of the image's shape": True,
        "finite": all(bool(np.isfinite(half).all()) for half in halves),
        "no empty partition": all(bool(half.any(axis=(1, 2)).all()) for half in halves),
        "different": not np.array_equal(half_a, half_b),
        f"noise independent, |correlation| at most {CORRELATION}": bool(abs(correlation) <= CORRELATION),
        "noise correlation": correlation,
    }


def inspect(path: Path, _: int) -> dict[str, float]:
    """Seconds of `sn2n inspect`, after its start: what is in the file, and what the program will do."""
    begun, used = time.perf_counter(), time.process_time()
    lines = str(inspect_raw(path)).splitlines()
    print("\n".join(["sn2n inspect says:", *lines]), flush=True)
    return {"seconds": time.perf_counter() - begun, "processor": time.process_time() - used}


def bare(path: Path, _: int) -> dict[str, float]:
    """Seconds of what cannot be left out: reading and transforms."""
    header = read_header(path)
    reading = timed(lambda: sum(1 for _ in raw_partitions(path)), 1)
    transforms = bare_transforms(header.shape, int(header.mask.any(axis=0).sum()))
    return {"reading": reading[0], "transforms": transforms[0], "processor": reading[1] + transforms[1]}


def products(path: Path, _: int) -> dict[str, float]:
    """Seconds of the matrix products, with the BLAS threads of this process."""
    header = read_header(path)
    seconds, processor = bare_products(header.shape, header.mask)
    return {"products": seconds, "processor": processor}


def raw_partitions(path: Path) -> Iterator[None]:
    """Read all partitions, as the reconstruction does, and look at none."""
    import h5py

    with h5py.File(path, "r") as file:
        dataset = file["kspace"]
        n_coils, nz, ny, nx = dataset.shape
        buffer = np.empty((n_coils, ny, nx), np.complex64)
        for kz in range(nz):
            dataset.read_direct(buffer, np.s_[:, kz])
            yield


def timed(function: Callable[[], Any], times: int) -> np.ndarray:
    """Seconds, and seconds of processor time, that `times` calls take: measured on a tenth of them, at least one."""
    sample = max(1, times // 10)
    begun, used = time.perf_counter(), time.process_time()
    for _ in range(sample):
        function()
    return np.array([time.perf_counter() - begun, time.process_time() - used]) * times / sample


def bare_transforms(shape: tuple[int, int, int], n_columns: int) -> np.ndarray:
    """Readouts once; (kz, ky) of three images."""
    (nz, ny, nx), workers = shape, n_threads()
    rng = np.random.default_rng(0)
    lines, planes = white_noise((VIRTUAL, n_columns, nx), rng), white_noise((VIRTUAL, nz, ny), rng)
    return timed(lambda: scipy.fft.ifft(lines, workers=workers), nz) + timed(
        lambda: scipy.fft.ifft2(planes, workers=workers), 3 * nx
    )


def bare_products(shape: tuple[int, int, int], mask: np.ndarray) -> np.ndarray:
    """Compression, normal equations of both kernels, filling of three images, Walsh's local covariances."""
    (nz, ny, nx), n_columns, rng = shape, int(mask.any(axis=0).sum()), np.random.default_rng(0)
    taps, sources = KERNEL[0], KERNEL[1] * KERNEL[2]
    raw, matrix = white_noise((COILS, n_columns * nx), rng), white_noise((VIRTUAL, COILS), rng)
    seconds = timed(lambda: matrix @ raw, nz)
    acs_z, acs_y = (part.stop - part.start for part in acs_region(mask))
    for n_targets, span in ((1, (2, 3)), (3, (4, 3))):
        n_windows = (acs_z - span[0] + 1) * (acs_y - span[1]) * (nx - taps + 1)
        n_unknowns = (sources * taps + n_targets) * VIRTUAL
        columns = np.asfortranarray(white_noise((4096, n_unknowns), rng).astype(np.complex128))
        gram = np.zeros((columns.shape[1],) * 2, np.complex128, order="F")
        seconds += timed(lambda a=columns, g=gram: blas.zherk(1.0, a, beta=1.0, c=g, trans=2, overwrite_c=1),  # type: ignore[misc]
                         -(-n_windows // 4096))
    for n_targets, cells, images in ((1, nz * ny // 2, 1), (3, nz * ny // 4, 2)):
        weights = white_noise((n_targets * VIRTUAL, sources * VIRTUAL), rng)
        plane = white_noise((sources * VIRTUAL, cells), rng)
        seconds += timed(lambda w=weights, p=plane: w @ p, images * nx)  # type: ignore[misc]
    blocks = white_noise((-(-nz // 3) * -(-ny // 3), VIRTUAL, 27), rng)
    return seconds + timed(lambda: blocks @ blocks.conj().swapaxes(1, 2), -(-nx // 3))


def in_child(
    function: Callable[..., dict[str, Any]],
    path: Path,
    memory_limit: int,
    blas_threads: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Run in a process of its own; the result and that process's peak memory."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    if blas_threads is not None:
        os.environ["OPENBLAS_NUM_THREADS"] = str(blas_threads)  # read when the child loads numpy
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_measured, (function, path, memory_limit, options))
    finally:
        os.environ.pop("OPENBLAS_NUM_THREADS", None)
        if before is not None:
            os.environ["OPENBLAS_NUM_THREADS"] = before


def _measured(
    function: Callable[..., dict[str, Any]], path: Path, memory_limit: int, options: dict[str, Any]
) -> dict[str, Any]:
    result = function(path, memory_limit, **options)
    return {**result, "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def keep_cores() -> None:
    """Hold this process, and those that it starts from now on, to as many cores as the goals are for."""
    if n_threads() > CORES and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def verdicts(found: dict[str, float], halves: dict[str, float | bool], *, threads: int = CORES) -> dict[str, bool]:
    """Print every number beside its goal; whether each goal is reached, seconds if no more cores are used than two."""
    reached = {name: bool(found[name] <= limit) for name, limit in LIMITS.items()}
    if threads > CORES:
        del reached["seconds"]
    for name, limit in LIMITS.items():
        if name in reached:
            verdict = "reached" if reached[name] else "MISSED"
        else:
            verdict = f"not judged, since {threads} cores are used and the goal is for {CORES}"
        print(f"{name:10}{found[name]:8.2f}  goal: at most {limit:g}  {verdict}: {MEANINGS[name]}")
    checks = {name: value for name, value in halves.items() if isinstance(value, bool)}
    reached["halves"] = all(checks.values())
    told = "; ".join(f"{name}: {'yes' if value else 'NO'}" for name, value in checks.items())
    correlation = halves.get("noise correlation", float("nan"))
    verdict = "reached" if reached["halves"] else "MISSED"
    print(f"{'halves':10}{correlation:8.3f}  goal: independent noise  {verdict}: {told}")
    return reached


def main() -> None:
    """Print the numbers and the verdicts, write them as JSON if asked, and exit with 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for the scan file; kept and used again if there")
    scales = (1, 2, COARSE)  # no matrix coarser than the head's
    parser.add_argument("--scale", type=int, default=1, choices=scales, help="shorter axes, to try the benchmark out")
    parser.add_argument("--memory", type=float, default=LIMITS["peak GiB"], help="limit in GiB")
    parser.add_argument("--remove", action="store_true", help="delete the scan file at the end")
    parser.add_argument("--out", type=Path, help="JSON file of the numbers")
    arguments = parser.parse_args()
    keep_cores()
    matrix = (MATRIX[0] // arguments.scale, MATRIX[1] // arguments.scale, MATRIX[2] // arguments.scale)
    path = arguments.folder / "x".join(map(str, ("scan", COILS, *matrix)))
    path = path.with_suffix(".h5")
    if not path.exists():
        in_child(simulate, path, 0, matrix=matrix)  # so that its memory counts for nobody else
    print(f"{path.name}: {path.stat().st_size / 1e9:.1f} GB, {n_threads()} cores, "
          f"OPENBLAS_NUM_THREADS = {os.environ.get('OPENBLAS_NUM_THREADS', 'not set')}, load {os.getloadavg()[0]:.1f}")
    looked = in_child(inspect, path, 0)
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "sn2nlib.cli", "inspect", str(path)], check=True, stdout=subprocess.DEVNULL)
    looked["command"] = time.perf_counter() - begun
    print(f"sn2n inspect: {looked['command']:.1f} s, of which the file takes {looked['seconds']:.2f}; "
          f"peak memory {looked['peak GiB']:.2f} GiB; foretold for the rest: {predicted(matrix, COILS, VIRTUAL)} s")
    least = in_child(bare, path, 0)
    # OpenBLAS with all cores is the quickest on an idle machine, and the slowest on a shared one
    candidates = [in_child(products, path, 0, blas_threads=n) for n in (1, n_threads())]
    least["products"] = min(one["products"] for one in candidates)
    least["processor"] += min(one["processor"] for one in candidates)
    ours = in_child(reconstruct, path, int(arguments.memory * 2**30))
    total = least["reading"] + least["transforms"] + least["products"]
    ratio = ours["seconds"] / total
    print(f"bare reading {least['reading']:.0f} s, transforms {least['transforms']:.0f} s, "
          f"products {least['products']:.0f} s: {total:.0f} s")
    print(f"image and both halves: {ours['seconds']:.0f} s, {ratio:.2f} times the bare operations, "
          f"peak memory {ours['peak GiB']:.2f} GiB, load {os.getloadavg()[0]:.1f}")
    print(f"processor time {ours['processor']:.0f} s, {ours['processor'] / least['processor']:.2f} times that of the "
          "bare operations: what to compare on a shared machine")
    print(f"halves over original {ours['half over original']:.3f}")
    if arguments.scale != 1:
        print(f"--scale {arguments.scale}: the following verdicts say nothing about the full size")
    numbers = {"seconds": ours["seconds"], "peak GiB": ours["peak GiB"], "ratio": ratio}
    reached = verdicts(numbers, ours["halves"], threads=n_threads())
    if arguments.out:
        numbers = {"inspect": looked, "bare": least, "ours": ours, "ratio": ratio, "limits": LIMITS, "reached": reached,
                   "matrix": matrix, "coils": COILS, "cores": n_threads()}  # fmt: skip
        arguments.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    if arguments.remove:
        path.unlink()
    sys.exit(not all(reached.values()))


if __name__ == "__main__":
    main()
