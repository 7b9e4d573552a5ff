"""The centre of k-space where no header names it."""

import re
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sn2nlib.sampling import lattice_mask
from sn2nlib.scans.raw import convert_raw, inspect_raw, read_raw
from sn2nlib.scans.raw.placement import place_axis

SHAPE = (2, 8, 64, 16)  # coil, kz, ky, kx


def bright(shape: tuple[int, ...], centre: tuple[int, int]) -> np.ndarray:
    """Noise, and an object about this (kz, ky)."""
    kspace = np.random.default_rng(0).standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]
    kz, ky = (np.abs(np.arange(n) - at) for n, at in zip(shape[1:3], centre, strict=True))
    kspace[..., shape[3] // 2] += 100 * np.exp(-kz[:, None] - ky)
    return kspace


def unnamed(raw: Any, path: Path, kind: str, lines: list[Any], shape: tuple[int, int, int]) -> Path:
    """A file of these lines without a centre: Pulseq, or ISMRMRD without limits."""
    file = raw.File(lines, shape, centre=(0, 0), oversampling=1.0, sequence="%CustomerSeq%\\pulseq")
    raw.write(path, file, kind)
    if kind == "MRD":
        with h5py.File(path, "a") as output:
            xml = re.sub(b"<encodingLimits>.*</encodingLimits>", b"<encodingLimits/>", output["dataset/xml"][0])
            del output["dataset/xml"]
            output["dataset"].create_dataset("xml", data=[xml], dtype=h5py.special_dtype(vlen=bytes))
    return path


def told(path: Path, tmp_path: Path) -> list[str]:
    """What reading and converting warn of about the centre, which is the same."""
    found = []
    for read in (read_raw, lambda path: convert_raw(path, tmp_path / "scan.h5")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read(path)
        found.append([str(warning.message) for warning in caught if "centr" in str(warning.message)])
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("kind", ["VD", "MRD"])
def test_lines_that_do_not_lie_about_the_middle_and_a_brightest_line_elsewhere(
    tmp_path: Path, raw: Any, kind: str
) -> None:
    whole = bright(SHAPE, (4, 32))
    path = unnamed(raw, tmp_path / "whole.raw", kind, raw.lines(whole), SHAPE[1:])
    assert told(path, tmp_path) == [] and "central" not in " ".join(inspect_raw(path).doubts)

    path = unnamed(raw, tmp_path / "late.raw", kind, raw.lines(whole, np.arange(64) >= np.full((8, 1), 16)), SHAPE[1:])
    (doubt,) = told(path, tmp_path)  # nobody knows, but the samples agree
    assert doubt.endswith("no central ky number is known: the middle of the matrix, 32 of 64, is taken, yet the lines "
                          "16 … 63 do not lie evenly about it")  # fmt: skip
    assert any(doubt.endswith(sentence) for sentence in inspect_raw(path).doubts)

    # numbered from 0, in a matrix of no more than these: nothing but the samples tells
    path = unnamed(raw, tmp_path / "early.raw", kind, raw.lines(whole[:, :, 16:]), (8, 48, 16))
    (doubt,) = told(path, tmp_path)
    assert doubt.endswith("the brightest line is ky number 16, but 24 of 48 was assumed to be the central one, since "
                          "the header names none: is one side of k-space missing?")  # fmt: skip
    assert "central" not in " ".join(inspect_raw(path).doubts)


def test_neither_noise_nor_a_named_centre_is_doubted(tmp_path: Path, raw: Any) -> None:
    noise = bright(SHAPE, (-99, -99))
    assert told(unnamed(raw, tmp_path / "noise.dat", "VD", raw.lines(noise), SHAPE[1:]), tmp_path) == []
    file = raw.File(raw.lines(bright(SHAPE, (4, 16))), SHAPE[1:], centre=(4, 32), oversampling=1.0)
    assert told(raw.write(tmp_path / "named.dat", file, "VD"), tmp_path) == []


@pytest.mark.parametrize("acceleration", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [47, 48])
def test_a_lattice_need_not_end_where_it_begins(acceleration: int, n: int) -> None:
    for offset in range(acceleration):
        for acs in (None, 12):
            mask = lattice_mask((1, n), acceleration=(acceleration, 1), offset=(offset, 0), acs=acs)
            axis = place_axis(np.flatnonzero(mask[0]).astype(np.int32), declared=n, centre=None, name="ky")
            assert (axis.doubts, axis.assumed, axis.centre, axis.n) == ((), True, n // 2, n)
    one = place_axis(np.zeros(3, np.int32), declared=5, centre=None, name="kz")
    assert (one.assumed, one.centre, one.doubts) == (False, 0, ())
