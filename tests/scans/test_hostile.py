"""The scheme that reads damaged files can fail: memory, a death, a file that was touched, a message that tells much."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sn2nlib.errors import ImageError


def test_what_a_child_may_not_do(hostile: Any) -> None:
    assert hostile.in_child(_greedy) == "MemoryError"
    assert "FAULT" in hostile.in_child(lambda: str(os.kill(os.getpid(), 9)))
    assert hostile.in_child(lambda: "ok") == "ok"


def test_a_child_that_stands_still_is_begun_once_more(
    hostile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hostile.in_child.__globals__, "PATIENCE", 0.5)

    def work() -> str:
        begun_before = (tmp_path / "begun").exists()
        (tmp_path / "begun").touch()
        time.sleep(0 if begun_before else 60)
        return "ok"

    assert hostile.in_child(work) == "ok"
    (tmp_path / "begun").unlink()
    monkeypatch.setattr(Path, "touch", lambda _: None)  # it stands still each time
    assert hostile.in_child(work) == "FAULT the child ended with status 256"


def _greedy() -> str:
    try:
        return str(np.ones(3 * 2**30 // 8).sum())
    except MemoryError as error:
        return type(error).__name__


def fails(error: BaseException) -> Callable[[Path], None]:
    def read(_: Path) -> None:
        raise error

    return read


def test_what_a_reader_may_not_do(hostile: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    said = ImageError(f"{path}: is damaged")
    for read, wanted in (
        (lambda _: None, "ok"),
        (fails(said), str(said)),
        (lambda _: "two slices too many", "FAULT two slices too many"),
        (fails(ImageError("is damaged")), "FAULT a poor message"),
        (fails(ImageError(f"{path}: one\ntwo")), "FAULT a poor message"),
        (fails(ImageError(f"{path}: of DOE JANE")), "FAULT a poor message"),
        (fails(ValueError("negative dimensions")), "FAULT Traceback"),
        (fails(KeyboardInterrupt()), "FAULT Traceback"),
        (fails(MemoryError()), "FAULT too much memory"),
        (lambda _: logging.getLogger("somebody").warning("DOE"), "FAULT a library says ['DOE']"),
        (os.utime, "FAULT the file was changed"),
    ):
        assert hostile.tried(path, [read], secrets=["DOE"]).startswith(wanted)
        assert hostile.tried(path, [lambda _: None, read], secrets=["DOE"]).startswith(wanted)


def test_one_fault_among_mutants_is_found(hostile: Any, tmp_path: Path) -> None:
    content = bytes(range(100))
    mutants = [*hostile.flipped(content, [(10, 20)], 30, seed=1), *hostile.truncated(content)]
    assert len(dict(mutants)) == 41 and all(m[:10] == content[:10] and m[24:] == content[24:] for _, m in mutants[:30])
    assert len({m for _, m in mutants}) > 35
    assert [len(m) for _, m in mutants[30:]] == [0, 16, 25, 34, 43, 52, 61, 70, 79, 88, 97]  # of 100
    assert mutants[:30] == list(hostile.flipped(content, [(10, 20)], 30, seed=1))

    def work(path: Path) -> str:
        return "FAULT" if path.read_bytes() == mutants[7][1] else "ok"

    place = tmp_path.joinpath
    with pytest.raises(AssertionError, match=r"1 of 41: \{'mutant 7': 'FAULT'\}"):
        hostile.check(iter(mutants), lambda number: place(str(number)), work)
    outcomes = hostile.check(iter(mutants[8:]), lambda number: place(str(number)), work)
    assert outcomes == {name: "ok" for name, _ in mutants[8:]}
