"""What a reconstruction needs, told before it is begun."""

import subprocess
import sys
import tracemalloc
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sn2nlib.recon import make_pair
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans import Scan, save_scan
from sn2nlib.scans.needs import COPIES, least_memory, memory_at_once, most_disk, n_threads, seconds
from sn2nlib.scans.raw import inspect_raw
from sn2nlib.scans.raw.report import needed_values

FULL = (256, 328, 328)
RECONSTRUCT = """
import sys
from pathlib import Path
from sn2nlib.recon import image_pair
image_pair(sys.argv[1], memory_limit=0, scratch=sys.argv[2], noise_maps=False, partial_fourier=sys.argv[3])
print(*(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""  # getrusage would count what this process, which starts it, holds
CONVERT = """
import sys
from pathlib import Path
from sn2nlib.scans.raw import convert_raw, inspect_raw, read_raw
for work, names in (inspect_raw, sys.argv[1:2]), (convert_raw, sys.argv[1:3]), (read_raw, sys.argv[1:2]):
    work(*names)
    print(*(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def noise_alone(shape: tuple[int, int, int], n_coils: int) -> Scan:
    mask = lattice_mask(shape[:2], acceleration=(2, 1), acs=16)
    rng = np.random.default_rng(0)
    kspace = rng.standard_normal((n_coils, *shape, 2), np.float32).view(np.complex64)[..., 0] * mask[:, :, None]
    return Scan(kspace, mask, (2, 1), noise=kspace[:, :16, shape[1] // 2].reshape(n_coils, -1))


def test_a_full_size_scan_fits_a_laptop_out_of_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sn2nlib.scans.needs.n_threads", lambda: 2)
    values = needed_values(FULL, 64)
    assert values["memory for reconstruction MiB"] == 67240
    assert least_memory(FULL, 64, 16) < 4 * 2**30 < least_memory(FULL, 64) < 8 * 2**30
    assert "6724 with --virtual-coils 16" in values["or out of core MiB"]
    assert "a scan file" not in values["or out of core MiB"]
    assert needed_values(FULL, 64, before="; then")["or out of core MiB"].endswith("; then")
    assert values["time for reconstruction s"] == "289; 42 with --virtual-coils 16"
    assert seconds(FULL, 64, 16) == 42 and most_disk(FULL, 16) == 16 * 16 * prod(FULL)
    assert n_threads() >= 1


def test_no_more_threads_read_than_there_are_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for cores in (5, 64):
        monkeypatch.setattr("sn2nlib.scans.needs.n_threads", lambda cores=cores: cores)
        told.append(least_memory((40, 320, 320), 4))
    planes = 12 * 8 * 4 * 40 * 320  # what grows with the threads is what they fill
    assert told[1] - told[0] <= 64 * planes


def test_a_small_scan_is_worked_on_at_once() -> None:
    values = needed_values((8, 32, 32), 4)
    needed = round(memory_at_once((8, 32, 32), 4) / 2**20)
    assert values == {"memory for reconstruction MiB": needed, "time for reconstruction s": 1}


@pytest.mark.filterwarnings("ignore:the median g-factor")
@pytest.mark.parametrize(("shape", "n_coils"), [((64, 96, 96), 10), ((12, 96, 96), 48)])
def test_at_once_takes_no_more_than_is_told(
    shape: tuple[int, int, int], n_coils: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays alone, k-space included; the covariances of many coils outweigh the copies of a small matrix."""
    for module in ("scans.needs", "recon.coils"):
        monkeypatch.setattr(f"sn2nlib.{module}.n_threads", lambda: 2)
    scan = noise_alone(shape, n_coils)
    tracemalloc.start()
    try:
        make_pair(scan)
        peak = scan.kspace.nbytes + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.8 * memory_at_once(shape, n_coils) < peak < memory_at_once(shape, n_coils)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux alone tells the peak memory of a process")
@pytest.mark.parametrize(
    ("shape", "n_coils", "fill"),
    [
        ((32, 96, 96), 24, "zero"),
        ((96, 96, 12), 48, "zero"),  # covariances of the coils outweigh all else
        ((128, 160, 192), 2, "homodyne"),  # and here the filling of the side of kx does
    ],
)
def test_out_of_core_takes_no_more_than_is_told(
    shape: tuple[int, int, int], n_coils: int, fill: str, tmp_path: Path
) -> None:
    scan, first = noise_alone(shape, n_coils), shape[2] // 4
    if fill != "zero":
        scan = replace(scan, kspace=scan.kspace * (np.arange(shape[2]) >= first), kx_acquired=(first, shape[2]))
    save_scan(scan, tmp_path / "scan.h5")
    told = inspect_raw(tmp_path / "scan.h5").values["memory for reconstruction MiB"]
    assert told == round(memory_at_once(shape, n_coils) / 2**20) >= round(COPIES * 8 * n_coils * prod(shape) / 2**20)
    command = [sys.executable, "-W", "ignore", "-c", RECONSTRUCT, str(tmp_path / "scan.h5"), str(tmp_path), fill]
    peak = 2**10 * int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 2**27 < peak < least_memory(shape, n_coils, filling=fill != "zero")
    assert fill == "zero" or peak > least_memory(shape, n_coils)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux alone tells the peak memory of a process")
@pytest.mark.parametrize("kind", ["VD", "MRD"])
def test_a_raw_file_is_converted_in_a_small_part_of_its_size(tmp_path: Path, raw: Any, kind: str) -> None:
    """Beyond what inspecting takes, which maps the file and reads no samples; reading it at once takes all of it."""
    shape = (16, 64, 64, 96)
    kspace = np.random.default_rng(0).standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]
    path = raw.write(tmp_path / "scan", raw.File(raw.lines(kspace), shape[1:], centre=(32, 32), oversampling=1.0), kind)
    command = [sys.executable, "-W", "ignore", "-c", CONVERT, str(path), str(tmp_path / "scan.h5")]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    inspected, converted, at_once = (2**10 * int(peak) for peak in told.split())
    assert converted - inspected < kspace.nbytes / 3 < kspace.nbytes <= at_once - inspected
