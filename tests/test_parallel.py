"""Processes that fit a machine, and jobs spread over them."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from sn2nlib import parallel
from sn2nlib.parallel import spread, usable_memory, workers_for
from sn2nlib.recon.workspace import default_limit

DEMO = ((128, 160, 160), 10)


def with_memory(monkeypatch: pytest.MonkeyPatch, n_bytes: float, *, cores: int = 4) -> None:
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: SimpleNamespace(total=n_bytes))
    monkeypatch.setattr(parallel, "CONTROL_GROUP", Path("there is none"))
    monkeypatch.setattr(parallel, "cpu_count", lambda: cores)


def test_a_laptop_of_8_gb_simulates_two_demo_scans_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(monkeypatch, 8.2e9)  # what an operating system shows of 8 GiB
    assert workers_for(*DEMO, copies=7) == 2


def test_large_scans_get_one_process_and_small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(monkeypatch, 8.2e9)
    assert workers_for((256, 328, 328), 64, copies=7) == 1
    assert workers_for((40, 64, 64), 4, copies=7) == 1


def test_never_more_processes_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(monkeypatch, 1e12, cores=3)
    assert workers_for(*DEMO, copies=7) == 3


def test_a_container_may_use_what_its_limit_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_memory(monkeypatch, 64e9)
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(parallel, "CONTROL_GROUP", limit)
    limit.write_text("4000000000\n")
    assert usable_memory() == 4_000_000_000 and default_limit() == 2_000_000_000
    limit.write_text("max\n")
    assert usable_memory() == 64_000_000_000


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_once(workers: int, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in "abc"]
    assert list(spread(os.mkdir, [], workers=workers)) == []
    assert list(spread(os.mkdir, [{"path": path} for path in paths], workers=workers)) == [None] * 3
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]
