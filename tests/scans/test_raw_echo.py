"""Asymmetric echoes: what was acquired of kx travels along, and noise is counted there alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sn2nlib import fourier
from sn2nlib.errors import ScanError
from sn2nlib.recon import corner_noise, image_pair, make_pair, raw_images
from sn2nlib.recon.chain import Preparation, apply_chain
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans.acquire import add_noise
from sn2nlib.scans.bart import load_bart, save_bart
from sn2nlib.scans.export import save_ismrmrd
from sn2nlib.scans.raw import convert_raw, inspect_raw, read_raw
from sn2nlib.scans.scan import load_scan, save_scan
from sn2nlib.scans.stream import read_header

pytestmark = pytest.mark.filterwarnings("ignore:.*left and right follow Siemens")  # has a test of its own
SHAPE = (3, 12, 24, 192)  # coil, kz, ky, samples: with twice as many as kx
LOST = 64  # of them, at the beginning
COLOUR = np.linalg.cholesky(np.array([[4, 1, 0], [1, 2, 1j], [0, -1j, 3]])).astype(np.complex64)  # of the coils
NOISE_LINES, NOISE_SAMPLES = 8, 256
FACTOR = np.sqrt(7680 / NOISE_SAMPLES / 5 / 0.793)  # noise of an image line over that of a noise line
MASKS = {
    "full": lattice_mask(SHAPE[1:3], acceleration=(1, 1), acs=None),
    "accelerated": lattice_mask(SHAPE[1:3], acceleration=(2, 1), acs=12),
}


def noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Of the coils: E[n nᴴ] = 2 COLOUR COLOURᴴ."""
    return np.einsum("cd,d...->c...", COLOUR, rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0])


def written(raw: Any, path: Path, kind: str, *, mask: np.ndarray, how: str = "short", noise_scan: bool = True) -> Path:
    """A file of pure noise whose first samples are not there, or are to be discarded."""
    rng = np.random.default_rng(5)
    lines = raw.lines(noise(SHAPE, rng), mask)
    if how == "short":
        lines = [replace(line, samples=line.samples[:, LOST:], centre=SHAPE[3] // 2 - LOST) for line in lines]
    else:
        lines = [replace(line, before=LOST) for line in lines]
    if noise_scan:
        own = noise((SHAPE[0], NOISE_LINES, NOISE_SAMPLES), rng) / np.float32(FACTOR)
        lines = [*(raw.Line(own[:, n], role="noise") for n in range(NOISE_LINES)), *lines]
    acceleration = (1, 1) if mask.all() else (2, 1)
    file = raw.File(lines, SHAPE[1:], centre=(SHAPE[1] // 2, SHAPE[2] // 2), acceleration=acceleration)
    return raw.write(path, file, kind)


def replica(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """K-space of another such file."""
    full = noise(SHAPE, rng) * mask[:, :, None]
    full[..., :LOST] = 0
    return fourier.fft(fourier.crop(fourier.ifft(full, axes=(-1,)), (SHAPE[3] // 2,)), axes=(-1,))


@pytest.mark.filterwarnings("ignore:the median g-factor")  # of noise
@pytest.mark.parametrize(
    "kind, how, sampling, noise_scan",
    [
        ("VD", "short", "accelerated", True),
        ("VD", "short", "accelerated", False),
        ("MRD", "short", "full", False),
        ("MRD", "cut", "accelerated", True),
    ],
)
def test_noise_is_white_of_sd_one_and_its_map_that_of_replicas(
    tmp_path: Path, raw: Any, kind: str, how: str, sampling: str, noise_scan: bool
) -> None:
    mask = MASKS[sampling]
    path = written(raw, tmp_path / "scan.raw", kind, mask=mask, how=how, noise_scan=noise_scan)
    scan = read_raw(path)
    assert scan.kx_acquired == (32, 96) and scan.kx_share == pytest.approx(2 / 3)
    pair = make_pair(scan)
    white = pair.whitening @ COLOUR
    assert np.sqrt(np.trace(white @ white.conj().T).real / len(white)) == pytest.approx(1, rel=0.06)

    rng, n = np.random.default_rng(6), 8
    exact = Preparation(np.linalg.inv(COLOUR.astype(complex)))
    power = {"noise_sd": 0.0, "noise_sd_half": 0.0}
    chains = {"noise_sd": (scan.mask, pair.kernel_original), "noise_sd_half": (pair.mask_a, pair.kernel_half)}
    for _ in range(n):
        kspace = exact(replica(mask, rng))
        for name, (own, kernel) in chains.items():
            power[name] = power[name] + np.abs(apply_chain(kspace, own, kernel, pair.weights)) ** 2 / (2 * n)
    for name, measured in power.items():
        assert np.sqrt(np.mean(measured / getattr(pair, name) ** 2)) == pytest.approx(1, rel=0.03), name

    convert_raw(path, tmp_path / "scan.h5")
    for memory_limit in (None, 0):
        found = image_pair(tmp_path / "scan.h5", memory_limit=memory_limit, scratch=tmp_path)
        np.testing.assert_allclose(found.whitening, pair.whitening, rtol=1e-5)
        for name in power:
            np.testing.assert_allclose(getattr(found, name), getattr(pair, name), rtol=1e-4)


def test_the_corners_are_those_of_what_was_acquired() -> None:
    mask, kspace = np.ones((12, 24), bool), np.zeros((2, 12, 24, 40), np.complex64)
    for first, end in ((10.0, 40.0), (0.0, 29.5), (12.5, 36.0)):
        kspace[..., :] = 0
        kspace[..., int(np.ceil(first + 2)) : int(end - 2)] = 1
        assert corner_noise(kspace, mask, (first, end)).all()
    assert corner_noise(np.ones_like(kspace), mask, (39.0, 39.5)).shape == (2, 100)  # a damaged file


@pytest.mark.parametrize("kind", ["VD", "MRD"])
def test_what_was_acquired_of_kx_travels_along(tmp_path: Path, raw: Any, kind: str) -> None:
    path = written(raw, tmp_path / "scan.raw", kind, mask=MASKS["full"])
    assert read_raw(path, remove_oversampling=False).kx_acquired == (64, 192)
    scan = replace(read_raw(path), kx_acquired=(31.7, 95.1))
    save_scan(scan, tmp_path / "scan.h5")
    save_ismrmrd(read_header(tmp_path / "scan.h5"), tmp_path / "scan.mrd")
    convert_raw(tmp_path / "scan.mrd", tmp_path / "again.h5")
    save_bart(scan, tmp_path / "scan")
    assert read_header(tmp_path / "scan.h5").kx_share == scan.kx_share == pytest.approx(63.4 / 96)
    for back in (
        load_scan(tmp_path / "scan.h5"), read_raw(tmp_path / "scan.mrd"), load_scan(tmp_path / "again.h5"),
        load_bart(tmp_path / "scan"),
    ):  # fmt: skip
        assert back.kx_acquired == scan.kx_acquired and np.array_equal(back.kspace, scan.kspace)
    for given, version in ((scan, 3), (replace(scan, kx_acquired=None), 2)):  # who reads 2 alone would miss it
        save_scan(given, tmp_path / "version.h5", overwrite=True)
        with h5py.File(tmp_path / "version.h5") as file:
            assert file.attrs["version"] == version
    for wrong in ((-1.0, 90.0), (0.0, 97.0), (50.0, 50.0), (float("nan"), 90.0), (0.0,)):
        with pytest.raises(ScanError, match=r"kx_acquired: needs .first, end. within the 96 samples of kx"):
            replace(scan, kx_acquired=wrong)


@pytest.mark.parametrize("kind", ["VD", "MRD"])
def test_lines_that_lose_their_samples_at_either_end(tmp_path: Path, raw: Any, kind: str) -> None:
    lines = raw.lines(noise((3, 4, 20, 40), np.random.default_rng(1)))
    both = [replace(line, before=6, reversed=bool(n % 2)) for n, line in enumerate(lines)]
    file = raw.File(both, (4, 20, 40), centre=(2, 10))
    scan = read_raw(raw.write(tmp_path / "both", file, kind))
    assert scan.kx_acquired == (3, 17)  # what all of them hold
    few = [replace(line, before=6 * (n < 2)) for n, line in enumerate(lines)]
    assert read_raw(raw.write(tmp_path / "few", replace(file, lines=few), kind)).kx_acquired is None


def test_inspecting_tells_what_becomes_of_kx(tmp_path: Path, raw: Any) -> None:
    path = written(raw, tmp_path / "scan.dat", "VD", mask=MASKS["full"])
    convert_raw(path, tmp_path / "scan.h5")
    save_ismrmrd(load_scan(tmp_path / "scan.h5"), tmp_path / "scan.mrd")
    side = "partial Fourier: the side of kx that was not acquired "
    for name in ("scan.dat", "scan.h5", "scan.mrd"):
        for method, what in (("zero", "stays zero"), ("pocs", "is filled by projections (POCS), with one phase map")):
            does = inspect_raw(tmp_path / name, partial_fourier=method).does
            assert any(sentence.startswith(side + what) for sentence in does), name
            assert "66.7 % of kx were acquired; noise and noise maps count these only" in does
    save_scan(replace(load_scan(tmp_path / "scan.h5"), kx_acquired=(10.0, 86.0)), tmp_path / "both.h5")
    does = inspect_raw(tmp_path / "both.h5", partial_fourier="pocs").does
    assert any("pocs has nothing to fill" in sentence for sentence in does)
    assert any("the rest of it stays zero" in sentence for sentence in does)


def test_noise_is_added_where_kx_was_acquired(tmp_path: Path, raw: Any) -> None:
    scan = read_raw(written(raw, tmp_path / "scan.dat", "VD", mask=MASKS["full"]))
    added = add_noise(replace(scan, repeat=scan.kspace), 2.0, seed=1)
    for noisy in (added.kspace, added.repeat):
        more = noisy - scan.kspace
        assert not more[..., :32].any() and more[..., 32:].all()


def test_an_asymmetric_echo_does_not_lower_the_g_factor(tmp_path: Path, raw: Any) -> None:
    path = written(raw, tmp_path / "scan.dat", "VD", mask=MASKS["full"])
    images = raw_images(path, noise_maps=True)
    assert images.g_factor is not None
    np.testing.assert_allclose(images.g_factor, 1, rtol=1e-5)  # of a fully sampled mask
