"""Time and memory of raw files as the scanner writes them. Run by hand:  python benchmarks/raw.py --folder FOLDER

1. `inspect_raw` of files of 20,000 short lines: a Siemens twix file (VD) and an ISMRMRD file.
2. `convert_raw` of a twix and an ISMRMRD file of 2 GB and 32 coils, to a scan file.
The files are made in FOLDER, which needs 6 GB, and removed. What is measured runs in a child process, and the file is
not in the system's cache at its beginning. Peak memory is VmHWM of Linux; it counts the pages of a mapped file, which a
twix file is, although the system takes them back at need. What the process holds of its own is given beside it, looked
at every 10 ms. The twix file has twofold readout oversampling, which is removed; the other one has none.
"""

import argparse
import importlib.util
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sn2nlib.recon.replicas import white_noise
from sn2nlib.scans.export import save_ismrmrd
from sn2nlib.scans.raw import convert_raw, inspect_raw
from sn2nlib.scans.stream import read_header, write_partitions

WRITERS = Path(__file__).resolve().parents[1] / "tests" / "scans" / "conftest.py"  # of twix files
Shape = tuple[int, int, int, int]  # (coil, kz, ky, sample)
SHORT: Shape = (4, 100, 200, 32)
LARGE: Shape = (32, 128, 192, 320)
EVERY = 0.01  # seconds


def partitions(shape: Shape) -> Iterator[np.ndarray]:
    """Partitions (coil, ky, sample): one of noise, of another brightness for each kz."""
    n_coils, nz, ny, nx = shape
    noise = white_noise((n_coils, ny, nx), np.random.default_rng(0))
    for kz in range(nz):
        yield noise * np.float32(1 + kz / nz)


def make_twix(path: Path, shape: Shape) -> None:
    """A Siemens VD file of one measurement, written line by line by what the tests write small ones with."""
    spec = importlib.util.spec_from_file_location("twix_writers", WRITERS)
    assert spec is not None and spec.loader is not None
    writers = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = writers  # where its dataclasses look for it
    spec.loader.exec_module(writers)
    _, nz, ny, nx = shape
    header = writers.RawFile((), (nz, ny, nx), centre=(nz // 2, ny // 2))
    writers.write_twix(path, header)
    content = path.read_bytes()
    start, end = int.from_bytes(content[16:24], "little"), writers.twix_end(vb=False)
    assert content.endswith(end)
    with path.open("r+b") as file:
        file.truncate(len(content) - len(end))
        file.seek(0, os.SEEK_END)
        number = 0
        for kz, partition in enumerate(partitions(shape)):
            for ky in range(ny):
                file.write(writers.twix_line(header, writers.Line(partition[:, ky], ky, kz), number, vb=False))
                number += 1
        file.write(end)
        length = file.tell() - start
        file.seek(24)
        file.write(length.to_bytes(8, "little"))


def make_ismrmrd(path: Path, shape: Shape) -> None:
    """An ISMRMRD file, exported from a scan file that is removed again."""
    scan = path.with_name("scan to export.h5")
    write_partitions(scan, shape, partitions(shape), mask=np.ones(shape[1:3], bool))
    save_ismrmrd(read_header(scan), path)
    scan.unlink()


MAKERS: dict[str, Callable[[Path, Shape], None]] = {"twix": make_twix, "ISMRMRD": make_ismrmrd}


def inspect(path: Path) -> None:
    """What `sn2n inspect` asks for."""
    assert len(str(inspect_raw(path)).splitlines()) > 20


def convert(path: Path) -> None:
    """What `sn2n convert` does."""
    convert_raw(path, path.with_name("converted.h5"))


def measured(work: Callable[[Path], None], path: Path) -> dict[str, float]:
    """Seconds of the work; MiB before it, at the peak, and of its own at the peak."""
    before, own, done = memory("VmHWM"), [memory("RssAnon")], threading.Event()

    def watch() -> None:
        while not done.wait(EVERY):
            own.append(memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    try:
        work(path)
    finally:
        seconds = time.perf_counter() - begun
        done.set()
        watcher.join()
    return {"seconds": seconds, "before": before, "peak": memory("VmHWM"), "own": max(own)}


def memory(name: str) -> float:
    """Of this process, as Linux tells it, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{name}:")[1].split()[0]) / 2**10


def forget(path: Path) -> None:
    """Take a file out of the system's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def in_child(work: Callable[[Path], None], path: Path) -> dict[str, float]:
    """`measured` in a process of its own, on a file that is not in the cache."""
    forget(path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (work, path))


def main() -> None:
    """Make each file, print what it takes, and remove it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--scale", type=int, default=1, help="that many times fewer partitions, to try it out")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for work, (n_coils, nz, ny, nx) in ((inspect, SHORT), (convert, LARGE)):
        for kind, make in MAKERS.items():
            shape = (n_coils, nz // arguments.scale, ny, nx)
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                path = Path(folder) / f"{kind}.raw"
                make(path, shape)
                found = in_child(work, path)
                size = path.stat().st_size / 1e9
            print(f"{work.__name__:9}{kind:9}{shape[1] * ny} lines of {n_coils} × {nx} samples, {size:.2f} GB: "
                  f"{found['seconds']:.2f} s; peak memory {found['peak']:.0f} MiB ({found['before']:.0f} before), "
                  f"of its own {found['own']:.0f} MiB; load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
