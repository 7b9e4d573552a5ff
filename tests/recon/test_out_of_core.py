"""Scan files larger than memory: the answer is that of the whole scan at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.recon import image_pair, make_pair, reconstruct
from sn2nlib.scans import save_scan
from sn2nlib.scans.stream import read_header, read_partitions, write_partitions

SHAPE = (6, 24, 40, 38)
ODD = (5, 27, 41, 35)
PAIR = ("original", "half_a", "half_b", "noise_sd", "noise_sd_half")


def difference(value: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest value."""
    assert value.shape == expected.shape and value.dtype == expected.dtype
    return float(np.abs(value - expected).max() / np.abs(expected).max())


def on_disk(scan, folder: Path) -> Path:
    save_scan(scan, folder / "scan.h5", overwrite=True)
    return folder / "scan.h5"


@pytest.mark.filterwarnings("ignore:the median g-factor")  # few coils; what is compared is the same
@pytest.mark.parametrize(
    "shape, sampling, options",
    [
        (SHAPE, {"acceleration": (2, 1), "acs": 16}, {}),
        (ODD, {"acceleration": (2, 1), "acs": 17, "offset": (1, 0)}, {"virtual_coils": 4}),
        (SHAPE, {"acceleration": (2, 2), "caipi_shift": 1, "acs": 16}, {"virtual_coils": 4, "compression": "gcc"}),
        (ODD, {"acceleration": (2, 2), "acs": 17}, {"kernel": (5, 2, 2), "window": 5}),
        (SHAPE, {"acceleration": (1, 1), "acs": None}, {}),
    ],
)
def test_the_answer_is_that_of_the_whole_scan(shape, sampling, options, phantom, scan_of, tmp_path) -> None:
    scan = scan_of(phantom(shape, signal=400.0), **sampling)
    path = on_disk(scan, tmp_path)
    expected = make_pair(scan, **options)
    for memory_limit in (None, 0):  # all in memory, all on disk
        pair = image_pair(path, memory_limit=memory_limit, scratch=tmp_path, **options)
        assert max(difference(getattr(pair, name), getattr(expected, name)) for name in PAIR) < 1e-5
    assert pair.scale == pytest.approx(expected.scale, rel=1e-5)
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.h5"]  # nothing is left of the scratch files
