"""What the benchmark of the full size measures beside the reconstruction."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from sn2nlib.scans import Scan, save_scan

FULL_SIZE = Path(__file__).resolve().parents[1] / "benchmarks" / "full_size.py"


def test_the_inspection_is_timed_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("full_size", FULL_SIZE)
    assert spec is not None and spec.loader is not None
    full_size = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(full_size)
    save_scan(Scan(np.ones((2, 6, 10, 8), np.complex64), np.ones((6, 10), bool), (1, 1)), tmp_path / "scan.h5")
    found = full_size.inspect(tmp_path / "scan.h5", 0)
    assert 0 < found["seconds"] < 60 and found["processor"] >= 0
    assert "coils" in capsys.readouterr().out
