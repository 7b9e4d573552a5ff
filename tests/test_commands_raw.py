"""The commands on raw files of the scanner."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from sn2nlib import cli
from sn2nlib import cli_outputs as outputs
from sn2nlib.denoiser import volumes
from sn2nlib.fourier import crop
from sn2nlib.recon import make_pair, reconstruct
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans import Scan, load_bart, load_scan, read_raw, save_scan
from sn2nlib.scans.export import save_ismrmrd
from sn2nlib.scans.images import read_image
from sn2nlib.scans.raw import convert_raw, inspect_raw

TWO_CHANNELS, BOTTLES, BRAIN = (
    "phantom2ch_2reps_twixtools_gre.dat", "phantom14ch_R3_gadgetron.h5", "brain16ch_pulseq_164128.dat",
)  # fmt: skip


def sn2n(*arguments: object) -> int:
    """Run a command in this process; its exit code."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def test_inspect_tells_what_becomes_of_a_raw_file(require: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert sn2n("inspect", require("data", BOTTLES)) == 0
    told = " ".join(capsys.readouterr().out.split())
    for part in (
        "format ISMRMRD", "coils 14", "acceleration (Ry, Rz) (3, 1)", "noise scan this measurement",
        "readout oversampling 2 (", "384 → 192 samples", "line 54 moved to 72", "memory for reconstruction",
        "training: one partition", "halves (recon --halves): for the same reason",
    ):  # fmt: skip
        assert part in told


# labels of inspect whose values are words, counts, or ratios
WITHOUT_UNIT = {
    "format", "made of", "lines", "coils", "samples per line", "matrix (kz, ky, kx)", "geometry",
    "readout oversampling", "acceleration (Ry, Rz)", "CAIPIRINHA shift", "calibration", "partial Fourier (ky, kz)",
    "declared acceleration", "noise scan", "repetitions", "averages", "contrasts", "slices", "sets", "phases",
    "licence", "head", "seed", "noise seed", "axes already in image space", "trajectory",
    "declared matrix (z, y, x)", "replica",
}  # fmt: skip
UNITS = (" T", " µs", " mm", " MiB", " s", " %", ", share of brightness", ", multiples of SD")


def test_every_quantity_that_inspect_tells_has_a_unit(require: Any, tmp_path: Path) -> None:
    files = [require("data", name) for name in (TWO_CHANNELS, BOTTLES, BRAIN, "phantom16ch_pulseq_160052.dat")]
    for number, path in enumerate(files):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is in doubt in them
            convert_raw(path, tmp_path / f"{number}.h5")
        measured, kept = inspect_raw(path).values, inspect_raw(tmp_path / f"{number}.h5").values
        assert measured["field strength T"] == kept["field strength T"] == 2.89
    assert inspect_raw(files[1]).values["dwell time µs"] == "2.4, 4.8 without oversampling"
    assert inspect_raw(tmp_path / "1.h5").values["dwell time µs"] == 4.8
    mask = np.ones((3, 8), bool)
    info = {"source": "simulated", "head": "S1", "seed": 1, "noise_sd": 0.02, "added_noise_sigma": 2, "replica": 0}
    save_scan(Scan(np.ones((2, 3, 8, 4), np.complex64), mask, info=info), tmp_path / "simulated.h5")
    simulated = inspect_raw(tmp_path / "simulated.h5").values
    assert simulated["field strength T"] == simulated["dwell time µs"] == "unknown"
    assert simulated["noise SD, share of brightness"] == 0.02 and simulated["added noise, multiples of SD"] == 2
    damaged = tmp_path / "damaged.mrd"  # told as far as it can be read
    damaged.write_bytes(files[1].read_bytes())
    with h5py.File(damaged, "a") as file:
        file["dataset/xml"][0] = file["dataset/xml"][0].replace(b"<trajectory>cartesian", b"<trajectory>spiral")
    assert "spiral" in inspect_raw(damaged).cannot[0]
    for path in (*files, *tmp_path.iterdir()):
        for label in inspect_raw(path).values:
            assert label in WITHOUT_UNIT or label.endswith(UNITS), label
            assert len(label) < 32  # so that its value stands apart


def test_what_is_kept_of_a_raw_file_does_not_claim_to_be_whitened(
    require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, scan = require("data", BOTTLES), tmp_path / "scan.h5"
    assert sn2n("convert", path, scan) == 0
    assert sn2n("export", scan, tmp_path / "bart", "--format", "bart") == 0
    done = json.loads((tmp_path / "bart.json").read_text(encoding="utf-8"))["info"]["done"]
    assert sn2n("inspect", scan) == 0
    for told in (" ".join(capsys.readouterr().out.split()), " ".join(done)):
        assert "scan of this measurement is kept" in told and "scaled by 3.24" in told
        assert "the samples themselves are not whitened" in told and "pre-whitening" not in told
    raw, kept, exported = (read.kspace for read in (read_raw(path), load_scan(scan), load_bart(tmp_path / "bart")))
    assert np.array_equal(raw, kept) and np.array_equal(raw, exported)


def test_recon_of_a_twix_file_with_options(
    require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = require("data", TWO_CHANNELS)
    assert sn2n("recon", path, tmp_path / "first.nii.gz") == 0
    options = ("--repetition", 1, "--voxel-size", 5, 1.375, 1.375)
    assert sn2n("recon", path, tmp_path / "second.nii.gz", *options) == 0
    first, second = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("first", "second"))
    scan = read_raw(path)
    expected = np.abs(reconstruct(scan)).transpose(2, 1, 0)
    assert np.allclose(first.get_fdata(), expected, rtol=1e-4, atol=1e-5 * expected.max())
    assert np.allclose(first.affine, scan.affine, atol=1e-4)
    assert second.header.get_zooms() == pytest.approx((1.375, 1.375, 5))
    assert not np.array_equal(first.get_fdata(), second.get_fdata())
    assert sn2n("recon", path, tmp_path / "wide.nii.gz", "--keep-oversampling") == 0
    assert nib.load(tmp_path / "wide.nii.gz").shape == (320, 160, 1)
    capsys.readouterr()
    assert sn2n("recon", path, tmp_path / "none.nii.gz", "--repetition", 5) == 1
    told = capsys.readouterr().err
    assert "there is no repetition 5; the file holds 0, 1" in told and told.count("\n") == 1
    assert not (tmp_path / "none.nii.gz").exists()


@pytest.mark.filterwarnings("default")
def test_recon_tells_that_a_noise_scan_is_not_scaled(
    require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(require("data", BOTTLES).read_bytes())
    with h5py.File(path, "r+") as file:
        lines = file["dataset/data"][()]
        lines["head"]["sample_time_us"] = 0
        file["dataset/data"][...] = lines
    told = "the dwell times of the noise scan (unknown) and of the image lines (unknown) do not tell how their noise"
    for options, expected in ((), True), (("--no-noise-scan",), False):
        assert sn2n("recon", path, tmp_path / "image.nii.gz", "--overwrite", *options) == 0
        assert (told in " ".join(capsys.readouterr().err.split())) == expected


def check_what_is_told_before_denoising(plain: Path, filtered: Path) -> None:
    """`sn2n denoise` warns of a filtered image, and of no other."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for path in (plain, filtered):
            _, geometry = read_image(path)
            outputs.warn_of_denoising(path, geometry.denoised, geometry.filtered, geometry.part)
    assert len(told) == 1 and "filtered.nii.gz was reconstructed with a raw filter" in str(told[0].message)


def test_a_raw_filter_is_told_of_and_lowers_the_noise(
    require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = require("data", BOTTLES)
    assert sn2n("inspect", path) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "ky ends at 106 of 144 lines, so that bright edges ring; sn2n recon --raw-filter 0.25 would taper" in told
    for name, options in (("plain", ()), ("filtered", ("--raw-filter", 0.25))):
        maps = ("--noise-map", tmp_path / f"{name}_sd.nii.gz")
        assert sn2n("recon", path, tmp_path / f"{name}.nii.gz", *maps, *options) == 0
    plain, filtered = (nib.load(tmp_path / f"{name}_sd.nii.gz") for name in ("plain", "filtered"))
    assert bytes(filtered.header["descrip"]).startswith(b"noise SD per component; zero filling, raw filter\0")
    assert bytes(nib.load(tmp_path / "filtered.nii.gz").header["descrip"]).startswith(b"raw filter 0.25\0")
    assert np.median(filtered.get_fdata() / plain.get_fdata()) < 0.98
    check_what_is_told_before_denoising(tmp_path / "plain.nii.gz", tmp_path / "filtered.nii.gz")
    capsys.readouterr()
    refused = tmp_path / "refused.nii.gz"
    for options, message in (
        (("--raw-filter", 0.25, "--g-factor", tmp_path / "g.nii.gz"), "of a reconstruction without --raw-filter"),
        (("--raw-filter", 1.5), "less than or equal to 1"),
    ):
        assert sn2n("recon", path, refused, *options) in (1, 2)
        assert message in " ".join(capsys.readouterr().err.split()) and not refused.exists()


@pytest.mark.filterwarnings("default")
def test_doubts_are_warnings_of_one_line(
    require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sn2n("recon", require("data", BRAIN), tmp_path / "brain.nii.gz") == 0
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and all(line.startswith("sn2n: warning: brain16ch_pulseq_164128.dat: ") for line in told)


@pytest.mark.filterwarnings("ignore:brain16ch_pulseq")
def test_a_pulseq_file_gets_its_place_from_an_image(
    require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, image, out = require("data", BRAIN), tmp_path / "reference.nii.gz", tmp_path / "out.nii.gz"
    affine = np.array([[0, 0, 4.0, 1], [2, 0, 0, 2], [0, 2, 0, 3], [0, 0, 0, 1]])
    scan = read_raw(path)
    reference = nib.Nifti1Image(np.zeros(scan.shape[::-1], np.float32), affine)
    reference.set_sform(affine, code="scanner")
    nib.save(reference, image)
    assert sn2n("inspect", path, "--affine-from", image) == 0
    assert "geometry an image that was given" in " ".join(capsys.readouterr().out.split())
    assert sn2n("recon", path, out, "--affine-from", image) == 0
    assert np.allclose(nib.load(out).affine, affine)
    for options, told in (
        (("--affine-from", image, "--voxel-size", 1, 2, 2), "the voxels of the affine are 4 × 2 × 2 mm"),
        (("--affine-from", tmp_path / "none.nii"), "there is no image"),
    ):
        capsys.readouterr()
        assert sn2n("recon", path, tmp_path / "no.nii.gz", *options) == 1
        assert told in capsys.readouterr().err
    assert sn2n("recon", require("data", TWO_CHANNELS), tmp_path / "no.nii.gz", "--affine-from", image) == 1
    assert "the file says where the image lies" in capsys.readouterr().err


def test_inspect_takes_the_options_of_recon(require: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = require("data", BOTTLES)
    for options, told in (
        (("--keep-oversampling",), "matrix (kz, ky, kx) (1, 144, 384)"),
        (("--no-noise-scan",), "noise scan none"),
    ):
        assert sn2n("inspect", path, *options) == 0
        assert told in " ".join(capsys.readouterr().out.split())
    for counter in ("contrast", "set", "phase"):
        assert sn2n("inspect", path, f"--{counter}", 3) == 1
        assert f"there is no {counter} 3; the file holds 0" in capsys.readouterr().err


def test_export_takes_the_options_of_recon_and_a_limit_of_memory(
    require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out, scan = require("data", TWO_CHANNELS), tmp_path / "second.mrd", tmp_path / "scan.h5"
    assert sn2n("export", path, out, "--repetition", 1) == 0
    assert np.array_equal(read_raw(out).kspace, read_raw(path, repetition=1).kspace)
    assert sn2n("export", path, tmp_path / "small.mrd", "--repetition", 1, "--memory", 0.0001) == 0
    assert f"{path} does not fit into the memory: a scan file is made of it first" in capsys.readouterr().out
    assert np.array_equal(read_raw(tmp_path / "small.mrd").kspace, read_raw(out).kspace)
    assert sn2n("convert", path, scan, "--repetition", 1) == 0
    assert sn2n("export", scan, tmp_path / "again.mrd", "--memory", 0.0001) == 0  # of any size
    assert np.array_equal(read_raw(tmp_path / "again.mrd").kspace, read_raw(out).kspace)


def test_a_raw_file_larger_than_the_memory_gives_the_same_image(require: Any, tmp_path: Path) -> None:
    path, first, small = require("data", BOTTLES), tmp_path / "first.nii", tmp_path / "small.nii"
    options = ("--contrast", 0, "--raw-filter", 0.25)
    assert sn2n("recon", path, first, *options) == 0
    assert sn2n("recon", path, small, *options, "--memory", 0) == 0
    expected = nib.load(first).get_fdata()
    np.testing.assert_allclose(nib.load(small).get_fdata(), expected, atol=1e-5 * expected.max())
    np.testing.assert_array_equal(nib.load(small).affine, nib.load(first).affine)
    assert {entry.name for entry in tmp_path.iterdir()} == {"first.nii", "small.nii"}  # the scan file is gone


@pytest.mark.filterwarnings("ignore:the median g-factor")  # four coils of noise; what is compared is the same
@pytest.mark.parametrize("memory", [(), ("--memory", 0)])
def test_noise_and_g_factor_maps_say_what_they_describe(tmp_path: Path, memory: tuple[object, ...]) -> None:
    rng = np.random.default_rng(0)
    mask = lattice_mask((6, 24), acceleration=(2, 1), acs=12, partial_fourier=(0.75, 1))
    kspace, noise = (rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]
                     for shape in ((4, 6, 24, 12), (4, 400)))  # fmt: skip
    kspace[:, 3, 12, 6] += 300
    scan = Scan(kspace * mask[:, :, None], mask, (2, 1), noise=noise, affine=np.diag([1.0, 2, 3, 1]))
    save_scan(scan, tmp_path / "scan.h5")
    maps = ("--noise-map", tmp_path / "sd.nii.gz", "--g-factor", tmp_path / "g.nii")
    options = ("--halves", "--partial-fourier", "homodyne")
    assert sn2n("recon", tmp_path / "scan.h5", tmp_path / "image.nii.gz", *maps, *options, *memory) == 0
    pair = make_pair(scan, partial_fourier="homodyne")
    for name, expected in (
        ("sd.nii.gz", pair.noise_sd), ("sd_half.nii.gz", pair.noise_sd_half),
        ("g.nii", pair.noise_sd * np.sqrt(mask.mean())),
        ("g_half.nii", pair.noise_sd_half * np.sqrt(pair.mask_a.mean())),
    ):  # fmt: skip
        image = nib.load(tmp_path / name)
        assert np.allclose(image.get_fdata().transpose(2, 1, 0), expected, rtol=1e-4)
        assert image.header["descrip"].item().decode().endswith("homodyne, component along the phase")
        assert np.allclose(image.affine, scan.affine)
    assert sn2n("recon", tmp_path / "scan.h5", tmp_path / "b.nii.gz", "--noise-map", tmp_path / "b.nii.gz") == 1
    assert sn2n("recon", tmp_path / "scan.h5", tmp_path / "c.nii.gz", "--noise-map", tmp_path / "sd.nii.gz") == 1
    assert not (tmp_path / "b.nii.gz").exists() and not (tmp_path / "c.nii.gz").exists()


def test_two_repetitions_of_one_partition_make_halves(
    require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside the phantom they differ by independent noise of SD 1 per component, as whitening promises."""
    path, scan, repeated = require("data", TWO_CHANNELS), tmp_path / "scan.h5", ("--pairing", "repetitions")
    for options, how in (
        ((), "two of its 2 repetitions make them (--repeat 1 --pairing repetitions)"),
        (("--repetition", 1), "two of its 2 repetitions make them (--repeat 0 --pairing repetitions)"),
        (("--repeat", 1), "its two repetitions make them (--pairing repetitions)"),
    ):  # fmt: skip
        assert sn2n("inspect", path, *options) == 0
        assert f"halves (recon --halves): for the same reason; but {how}" in " ".join(capsys.readouterr().out.split())
    assert sn2n("convert", path, scan, "--repeat", 1) == 0
    assert sn2n("inspect", scan) == 0
    assert "for the same reason; but its two repetitions make them" in " ".join(capsys.readouterr().out.split())
    assert sn2n("recon", path, tmp_path / "raw.nii", "--halves", *repeated, "--repeat", 1) == 0
    assert sn2n("recon", scan, tmp_path / "scan.nii", "--halves", *repeated, "--memory", 0) == 0
    pair = make_pair(read_raw(path, repeat=1), pairing="repetitions")
    for name, image in (("", pair.original), ("_half_a", pair.half_a), ("_half_b", pair.half_b)):
        for kind in ("raw", "scan"):
            found = nib.load(tmp_path / f"{kind}{name}.nii").get_fdata().transpose(2, 1, 0)
            assert np.allclose(found, np.abs(image), atol=1e-4 * np.abs(image).max())
    # where there is no object, as the mean over 15×15 voxels tells: a threshold of the voxels would choose the noise
    brightness = uniform_filter(np.abs(pair.original), (1, 15, 15))
    air = brightness < 0.06 * np.abs(pair.original).max()
    half_a, half_b = pair.half_a[air], pair.half_b[air]
    difference = (half_b - half_a) / np.sqrt(2)
    assert air.mean() > 0.3 and np.allclose([difference.real.std(), difference.imag.std()], 1, atol=0.05)
    assert abs(np.vdot(half_a, half_b)) < 0.03 * np.vdot(half_a, half_a).real
    small = ("--width", 2, "--depth", 1, "--batch", 1, "--patch", 16, "--steps", 1, "--out", tmp_path / "model")
    for chain in ("make_pair", "image_pair"):
        monkeypatch.setattr(volumes, chain, lambda *_, **__: pytest.fail("reconstructed before it was refused"))
    for given in ((path, "--repeat", 1), (scan,), (scan, "--memory", 0)):
        capsys.readouterr()
        assert sn2n("train", *given, *repeated, *small) == 1
        told = capsys.readouterr().err
        assert f"sn2n: {given[0]}: one partition: a 2D scan is not trained on, since the network learns" in told


def test_an_image_beside_halves_of_two_repetitions_says_which_one_it_is_of(
    require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, scan, out = require("data", TWO_CHANNELS), tmp_path / "scan.h5", tmp_path / "image.nii.gz"
    assert sn2n("convert", raw, scan, "--repetition", 1, "--repeat", 0) == 0
    repeated = ("--halves", "--pairing", "repetitions", "--overwrite")
    for path, options, which, number in (
        (raw, ("--repeat", 1), "the first repetition", 0), (raw, ("--repetition", 1, "--repeat", 0), "repetition 1", 1),
        (scan, (), "the first repetition", 1),
    ):  # fmt: skip
        capsys.readouterr()
        assert sn2n("recon", path, out, *options, *repeated) == 0
        told = capsys.readouterr().out.splitlines()
        assert told[-1] == f"{out} is made of {which} alone, as half A; half B is made of the other one"
        expected = np.abs(reconstruct(read_raw(raw, repetition=number)))
        assert np.allclose(nib.load(out).get_fdata().transpose(2, 1, 0), expected, atol=1e-4 * expected.max())


def test_of_one_partition_there_are_noise_maps_but_no_halves(
    require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = require("data", BOTTLES)
    maps = ("--noise-map", tmp_path / "sd.nii", "--g-factor", tmp_path / "g.nii")
    assert sn2n("recon", path, tmp_path / "image.nii", *maps) == 0
    sd, g_factor = (nib.load(tmp_path / name).get_fdata() for name in ("sd.nii", "g.nii"))
    assert np.allclose(g_factor, sd * np.sqrt(read_raw(path).mask.mean()), rtol=1e-5)
    assert 0.5 < np.median(g_factor) < 1.5
    capsys.readouterr()
    assert sn2n("recon", path, tmp_path / "no.nii", "--halves") == 1
    told = capsys.readouterr().err
    assert "no halves can be made of this scan" in told and "one partition" in told and told.count("\n") == 1
    assert not (tmp_path / "no.nii").exists()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("memory", [(), ("--memory", 0)])
def test_a_scan_whose_calibration_lines_cover_everything_is_a_full_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], memory: tuple[object, ...]
) -> None:
    """Its header declares R = 3, and says so in a file of another program or of an earlier version."""
    rng = np.random.default_rng(3)
    kspace, noise = (rng.standard_normal((*size, 2), np.float32).view(np.complex64)[..., 0]
                     for size in ((4, 6, 24, 12), (4, 400)))  # fmt: skip
    kspace[:, 3, 12, 6] += 300
    scan, path, full = Scan(kspace, np.ones((6, 24), bool), noise=noise), tmp_path / "scan.h5", tmp_path / "full.h5"
    for name in (path, full):
        save_scan(scan, name)
    with h5py.File(path, "a") as file:
        file.attrs["acceleration"] = (3, 1)
    doubt = "R = 3×1 (ky×kz) is declared, but no line is missing between the acquired ones: taken as fully sampled"
    assert sn2n("inspect", path) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "acceleration (Ry, Rz) (1, 1)" in told and "Cannot:" not in told
    assert f"In doubt: - {doubt}" in told
    for name, out in ((path, "a.nii"), (full, "b.nii")):
        assert sn2n("recon", name, tmp_path / out, "--halves", *memory) == 0
        told = capsys.readouterr().err.splitlines()
        assert [line for line in told if "declared" in line] == (
            [f"sn2n: warning: scan.h5: {doubt}, R = 1×1"] if name is path else []
        )
    for part in ("", "_half_a", "_half_b"):
        ours, expected = (nib.load(tmp_path / f"{name}{part}.nii").get_fdata() for name in "ab")
        assert np.array_equal(ours, expected)
    assert sn2n("export", path, tmp_path / "scan.mrd") == 0
    assert "sn2n: warning: scan.h5: R = 3×1" in capsys.readouterr().err
    assert read_raw(tmp_path / "scan.mrd").acceleration == (1, 1)
    small = ("--width", 2, "--depth", 1, "--batch", 1, "--patch", 8, "--steps", 1)
    assert sn2n("train", path, "--out", tmp_path / "model", *small, *memory) == 0
    assert "sn2n: warning: scan.h5: R = 3×1" in capsys.readouterr().err


@pytest.mark.parametrize("memory", [(), ("--memory", 0)])
def test_what_cannot_be_reconstructed_is_named_with_what_can_be_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], memory: tuple[object, ...]
) -> None:
    mask = lattice_mask((6, 24), acceleration=(3, 1), acs=3)
    kspace = np.random.default_rng(0).standard_normal((4, 6, 24, 12, 2), np.float32).view(np.complex64)[..., 0]
    path, out = tmp_path / "scan.h5", tmp_path / "a.nii"
    save_scan(Scan(kspace * mask[:, :, None], mask, (3, 1)), path)
    save_ismrmrd(load_scan(path), tmp_path / "scan.mrd")
    small = ("--width", 2, "--depth", 1, "--batch", 1, "--patch", 8, "--steps", 1, "--out", tmp_path / "model")
    for arguments in (("recon", path, out), ("recon", tmp_path / "scan.mrd", out), ("train", path, *small)):
        assert sn2n(*arguments, *(() if arguments[1] == tmp_path / "scan.mrd" else memory)) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"sn2n: {arguments[1]}: the ACS is too small") and told.count("\n") == 1
        assert told.endswith("acquire more ACS lines\n")  # a command has no smaller kernel to offer


def small_model(scan: Path, folder: Path) -> Path:
    """Trained for one step."""
    small = ("--width", 2, "--depth", 1, "--batch", 1, "--patch", 16, "--steps", 1)
    assert sn2n("train", scan, "--out", folder, *small) == 0
    return folder


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("turned", [[2, 0, 1], [1, 2, 0]])  # partitions axial, then coronal
def test_a_scan_and_the_image_made_of_it_are_denoised_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], turned: list[int]
) -> None:
    rng = np.random.default_rng(1)
    shape, mask = (3, 6, 24, 20), lattice_mask((6, 24), acceleration=(2, 1), acs=12)
    kspace, noise = (rng.standard_normal((*size, 2), np.float32).view(np.complex64)[..., 0]
                     for size in (shape, (3, 400)))  # fmt: skip
    kspace[:, 3, 12, 10] += 300
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, 1, 3])[turned]  # voxels of 1 × 1 × 3 mm, 3 along the partitions
    scan = Scan(kspace * mask[:, :, None], mask, (2, 1), voxel_size=(3, 1, 1), noise=noise, affine=affine)
    raw, image, model = tmp_path / "scan.h5", tmp_path / "image.nii.gz", tmp_path / "model"
    save_scan(scan, raw)
    small_model(raw, model)
    assert sn2n("recon", raw, image) == 0
    capsys.readouterr()
    told = []
    for given, name in ((raw, "of_raw.nii"), (image, "of_image.nii")):
        assert sn2n("denoise", given, tmp_path / name, "--model", model) == 0
        printed = capsys.readouterr()
        told.append(printed.err)
        assert printed.out.startswith("Planes: the partitions, as in training\n")
        description = nib.load(tmp_path / name).header["descrip"].item().decode()
        assert description.endswith("output of a network over partitions")
    of_raw, of_image = (nib.load(tmp_path / name) for name in ("of_raw.nii", "of_image.nii"))
    assert np.array_equal(of_raw.get_fdata(), of_image.get_fdata())
    assert np.allclose(of_raw.affine, affine) and np.allclose(of_image.affine, affine)
    assert told[0] == told[1] and "it takes the partitions, as in training" in told[0]
    assert sn2n("denoise", image, tmp_path / "sagittal.nii", "--model", model, "--axis", "sagittal") == 0
    assert capsys.readouterr().out.startswith("Planes: sagittal, as asked\n")
    assert not np.array_equal(nib.load(tmp_path / "sagittal.nii").get_fdata(), of_raw.get_fdata())


@pytest.mark.filterwarnings("default")
def test_an_unknown_place_is_written_as_unknown(
    require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, image = require("data", BRAIN), tmp_path / "brain.nii"
    for options, voxels, unit, told in (
        ((), (1, 1, 1), "unknown", "give it with --voxel-size or --affine-from"),
        (("--voxel-size", 5, 2, 2), (2, 2, 5), "mm", "position and orientation are unknown"),
    ):
        assert sn2n("recon", path, image, "--overwrite", *options) == 0
        header = nib.load(image).header
        assert int(header["qform_code"]) == int(header["sform_code"]) == 0
        assert header.get_zooms() == pytest.approx(voxels) and header.get_xyzt_units()[0] == unit
        assert told in capsys.readouterr().err
    assert sn2n("recon", require("data", TWO_CHANNELS), image, "--overwrite") == 0
    header = nib.load(image).header
    assert int(header["qform_code"]) == int(header["sform_code"]) == 1


def test_what_is_no_raw_file_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, image, dicom, out = (tmp_path / name for name in ("text.dat", "image.nii.gz", "slice.dcm", "out.nii"))
    text.write_text("nothing of the kind")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), image)
    dicom.write_bytes(bytes(128) + b"DICM")
    for arguments, said in (
        (("inspect", text), "not an HDF5 file"),
        (("inspect", tmp_path), "or, if it is a DICOM series, take sn2n denoise"),
        (("recon", tmp_path, out), "a folder"),
        (("recon", image, out), "an image, which holds no raw data; sn2n denoise takes images"),
        (("train", dicom, "--out", tmp_path / "model"), "sn2n denoise takes images"),
    ):
        assert sn2n(*arguments) == 1
        told = capsys.readouterr().err
        assert told.startswith("sn2n: ") and told.count("\n") == 1 and said in told


def test_no_folder_is_made_for_a_mistyped_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "series").mkdir()
    given, none = tmp_path / "given.h5", tmp_path / "none"
    given.write_text("read by none of these commands before they refuse")
    model = ("--model", tmp_path / "model")
    for command, name, *options in (
        ("recon", "a.nii"), ("recon", "a.nii.gz", "--halves"), ("denoise", "a.nii", *model), ("convert", "a.h5"),
        ("simulate", "a.h5"), ("export", "a.mrd"), ("export", "a", "--format", "bart"),
    ):  # fmt: skip
        assert sn2n(command, given, none / name, *options) == 1
        assert f"there is no folder {none} for {name}" in capsys.readouterr().err
    for arguments in (
        ("denoise", tmp_path / "series", none / "out", *model),
        ("train", given, "--out", none / "model"),
        ("evaluate", given, *model, "--out", none / "table.csv"),
    ):
        assert sn2n(*arguments) == 1
        assert f"there is no folder {none}" in capsys.readouterr().err
    assert not none.exists()


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, model = tmp_path / "given.h5", tmp_path / "model"
    given.write_text("read by none of these commands before they refuse")
    model.mkdir()
    monkeypatch.setattr("sn2nlib.cli_outputs.os.access", lambda path, mode: (path, mode) != (tmp_path, os.W_OK))
    for command, name, *options in (
        ("recon", "a.nii"), ("denoise", "a.nii", "--model", model), ("convert", "a.h5"), ("export", "a.mrd"),
    ):  # fmt: skip
        assert sn2n(command, given, tmp_path / name, *options) == 1
        assert f"the folder {tmp_path} cannot be written to; choose another one for {name}" in capsys.readouterr().err
    monkeypatch.setattr("sn2nlib.cli_outputs.os.access", lambda path, mode: (path, mode) != (model, os.W_OK))
    assert sn2n("train", given, "--out", model) == 1
    assert f"the folder {model} cannot be written to" in capsys.readouterr().err


def test_a_damaged_sample_is_told_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kspace = np.random.default_rng(0).standard_normal((3, 4, 16, 12, 2), np.float32).view(np.complex64)[..., 0]
    kspace[1, 2, 3, 4] = 1e30
    save_scan(Scan(kspace, np.ones((4, 16), bool), (1, 1)), tmp_path / "scan.h5")
    for memory in ((), ("--memory", 0)):
        assert sn2n("recon", tmp_path / "scan.h5", tmp_path / "a.nii", *memory) == 1
        told = capsys.readouterr().err
        assert "the coil images exceed single precision" in told and told.count("\n") == 1


def test_the_ending_of_an_output_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = tmp_path / "given.h5"
    given.write_text("read by none of these commands before they refuse")
    for arguments, told in (
        (("simulate", given, tmp_path / "a.nii.gz"), "the name of a scan file ends in .h5"),
        (("convert", given, tmp_path / "a.mrd"), "the name of a scan file ends in .h5"),
        (("export", given, tmp_path / "a.nii"), "the name of an ISMRMRD file ends in .h5 or .mrd or .hdf5"),
        (("evaluate", given, "--model", "m", "--out", tmp_path / "a.xlsx"), "the name of a table ends in .csv"),
        (("recon", given, tmp_path / "a.png"), "the name of an image ends in .nii or .nii.gz"),
    ):
        assert sn2n(*arguments) == 1
        assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [given]


def test_a_folder_in_the_place_of_a_file_is_told_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("given.h5").write_text("read by none of these commands before they refuse")
    model = ("--model", "model")
    for folder, what, *arguments in (
        ("a.h5", "a scan file", "simulate", "given.h5", "a.h5"),
        ("a.h5", "a scan file", "convert", "given.h5", "a.h5"),
        ("a.mrd", "an ISMRMRD file", "export", "given.h5", "a.mrd"),
        ("b_mask.hdr", "a file for BART", "export", "given.h5", "b", "--format", "bart"),
        ("a.nii", "an image", "recon", "given.h5", "a.nii"),
        ("b_half_b.nii.gz", "an image", "recon", "given.h5", "b.nii.gz", "--halves"),
        ("sd.nii", "an image", "recon", "given.h5", "b.nii", "--noise-map", "sd.nii"),
        ("a.nii", "an image", "denoise", "given.h5", "a.nii", *model),
        ("a.csv", "a table", "evaluate", "given.h5", *model, "--out", "a.csv"),
        ("a.csv", "a table", "scores", "import", "given.h5", "a.csv"),
        ("a.csv", "a table", "reading", "key", "room", "--key", "given.h5", "--out", "a.csv"),
    ):
        Path(folder).mkdir(exist_ok=True)
        for asked in ((), ("--overwrite",)):
            assert sn2n(*arguments, *asked) == 1
            told = f"sn2n: {folder} is a folder, where {what} is to be written; choose another name\n"
            assert capsys.readouterr().err == told
    assert sn2n("scores", "report", "given.h5", "--out", "given.h5", "--overwrite") == 1
    assert "given.h5 is a file, where a folder is to be written" in capsys.readouterr().err


def in_clear(path: Path) -> bytes:
    """What a file holds, unpacked if it is packed, and its name."""
    content = path.read_bytes()
    return path.name.encode() + (gzip.decompress(content) if path.suffix == ".gz" else content)


@pytest.mark.filterwarnings("default")  # the file contradicts itself, and what is said of that is looked at too
def test_nothing_made_of_a_scan_names_the_patient(require: Any, tmp_path: Path, capfd: Any) -> None:
    """The header of this file holds a name, a birth date and a serial number: no command tells any of them."""
    path, scan, model = require("data", BRAIN), tmp_path / "scan.h5", tmp_path / "model"
    assert sn2n("convert", path, scan) == 0
    measured = load_scan(scan)  # one partition; several smaller ones of it can be trained on
    kspace = np.repeat(crop(measured.kspace, (1, 32, 32)), 6, axis=1)
    several = replace(measured, kspace=kspace, mask=np.ones((6, 32), bool), not_for_training=None)
    save_scan(several, tmp_path / "several.h5")
    save_scan(replace(several, kspace=kspace[..., ::-1].copy()), tmp_path / "others.h5")
    small = ("--width", 2, "--depth", 1, "--batch", 1, "--patch", 16, "--steps", 1)
    given = ("--virtual-coils", 4, "--validation", tmp_path / "others.h5", "--out", model, *small)
    assert sn2n("train", tmp_path / "several.h5", *given) == 0
    maps = ("--noise-map", tmp_path / "sd.nii.gz", "--g-factor", tmp_path / "g.nii")
    for code, arguments in (
        (0, ("inspect", path)), (0, ("inspect", scan)), (0, ("recon", scan, tmp_path / "a.nii.gz", *maps)),
        (0, ("recon", path, tmp_path / "b.nii", "--voxel-size", 5, 2, 2)), (1, ("recon", path, "c.nii", "--slice", 7)),
        (0, ("recon", tmp_path / "several.h5", tmp_path / "d.nii.gz", "--halves", "--virtual-coils", 4)),
        (0, ("export", path, tmp_path / "scan.mrd")), (0, ("export", scan, tmp_path / "bart", "--format", "bart")),
        (1, ("train", path, "--out", tmp_path / "none", *small)),
        (0, ("denoise", path, tmp_path / "e.nii.gz", "--model", model)),
        (0, ("denoise", tmp_path / "a.nii.gz", tmp_path / "f.nii.gz", "--model", model, "--axis", "axial")),
    ):  # fmt: skip
        assert sn2n(*arguments) == code, arguments
    told = "".join(capfd.readouterr()).encode()
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.name for file in written} >= {
        "scan.h5", "a.nii.gz", "sd.nii.gz", "d_half_a.nii.gz", "scan.mrd", "bart.cfl", "bart.json", "model.safetensors",
        "e.nii.gz", "f.nii.gz",
    }  # fmt: skip
    for secret in (b"ISMRM, DS-Test", b"19920206", b"213010"):
        assert secret in path.read_bytes() and secret not in told
        assert [file.name for file in written if secret in in_clear(file)] == []


def test_inspect_tells_of_partial_fourier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = lattice_mask((6, 40), acceleration=(2, 1), acs=12, partial_fourier=(0.75, 1))
    save_scan(Scan(np.ones((2, 6, 40, 4), np.complex64) * mask[:, :, None], mask, (2, 1)), tmp_path / "scan.h5")
    for method, told in (("zero", "stays zero"), ("homodyne", "is filled by homodyne"), ("pocs", "(POCS)")):
        assert sn2n("inspect", tmp_path / "scan.h5", "--partial-fourier", method) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert told in printed and "partial Fourier (ky, kz) (0.75, 1.0)" in printed
    assert sn2n("inspect", tmp_path / "scan.h5", "--partial-fourier", "none") == 2
    assert "'zero', 'homodyne', 'pocs'" in " ".join(capsys.readouterr().err.split())
    assert sn2n("inspect", tmp_path / "scan.h5", "--contrast", 1) == 1


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
def test_a_link_that_leads_to_itself_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for command, *output in (("recon", tmp_path / "out.nii.gz"), ("convert", tmp_path / "out.h5"), ("inspect",)):
        assert sn2n(command, loop, *output) == 1
        told = capsys.readouterr().err
        assert str(loop) in told and "Traceback" not in told


def test_the_input_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "raw.h5"
    path.write_bytes(b"something")
    for arguments in (("convert", path, path), ("export", path, path), ("denoise", path, path, "--model", "m")):
        assert sn2n(*arguments, "--overwrite") == 1
        assert f"{path} is the input, which is never replaced" in capsys.readouterr().err
    place, inside = tmp_path / "place.nii.gz", tmp_path / "model" / "table.csv"
    inside.parent.mkdir()
    for file in (place, inside):
        file.write_bytes(b"something")
    for arguments in (
        ("recon", path, place, "--affine-from", place), ("sides", path, place, "--out", place),
        ("recon", path, tmp_path / "new.nii", "--noise-map", place, "--affine-from", place),
    ):  # fmt: skip
        assert sn2n(*arguments, "--overwrite") == 1
        assert f"{place} is the input, which is never replaced" in capsys.readouterr().err
    assert sn2n("evaluate", path, "--model", inside.parent, "--out", inside, "--overwrite") == 1
    told = f"{inside} lies in the folder {inside.parent}, which is the input, and none of its files is replaced"
    assert told in capsys.readouterr().err
    assert path.read_bytes() == place.read_bytes() == inside.read_bytes() == b"something"


def test_a_command_that_is_told_to_end_removes_its_work_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As schedulers tell it, by SIGTERM, of a raw file that does not fit into the memory."""
    rng = np.random.default_rng(0)
    kspace = rng.standard_normal((4, 6, 24, 12, 2), np.float32).view(np.complex64)[..., 0]
    save_ismrmrd(Scan(kspace, np.ones((6, 24), bool)), tmp_path / "raw.mrd")

    def ended(*_: Any, **__: Any) -> None:
        assert len(list(tmp_path.glob("sn2n-*/scan.h5"))) == 1
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr("sn2nlib.recon.any_size.scan_images", ended)
    before = signal.getsignal(signal.SIGTERM)
    assert sn2n("recon", tmp_path / "raw.mrd", tmp_path / "out.nii", "--memory", 0) == 143
    assert [entry.name for entry in tmp_path.iterdir()] == ["raw.mrd"] and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.filterwarnings("ignore:the median g-factor", "default:no side of", "default:the noise map is that")
def test_what_filling_does_not_do_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((4, 6, 24, 12, 2), np.float32).view(np.complex64)[..., 0]
    for name, share in (("cut", 0.75), ("whole", 1.0)):
        mask = lattice_mask((6, 24), acceleration=(2, 1), acs=12, partial_fourier=(share, 1))
        scan = Scan(whole * mask[:, :, None], mask, (2, 1), noise=whole[:, 0].reshape(4, -1))
        save_scan(scan, tmp_path / f"{name}.h5")
    for name, method, maps, told in (
        ("cut", "pocs", True, "the noise map is that of zero filling: POCS has more noise"), ("cut", "pocs", False, ""),
        ("cut", "homodyne", True, ""), ("cut", "zero", True, ""), ("whole", "zero", True, ""),
        ("whole", "pocs", True, "--partial-fourier pocs filled nothing"),
        ("whole", "homodyne", False, "--partial-fourier homodyne filled nothing"),
    ):  # fmt: skip
        capsys.readouterr()
        asked = ("--noise-map", tmp_path / "map.nii") if maps else ()
        run = ("recon", tmp_path / f"{name}.h5", tmp_path / "image.nii", "--partial-fourier", method, *asked)
        assert sn2n(*run, "--overwrite") == 0
        found = capsys.readouterr().err
        assert told in found and ("POCS" in found or "filled nothing" in found) == bool(told), (name, method, maps)


def test_export_names_the_coil_that_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kspace = np.random.default_rng(0).standard_normal((4, 6, 8, 10, 2), np.float32).view(np.complex64)[..., 0]
    save_scan(Scan(kspace, np.ones((6, 8), bool)), tmp_path / "scan.h5")
    with h5py.File(tmp_path / "scan.h5", "r+") as file:
        file["kspace"][3, 2, 2, 2] = np.nan
    for format, name in (("bart", "out"), ("ismrmrd", "out.h5")):
        assert sn2n("export", tmp_path / "scan.h5", tmp_path / name, "--format", format) == 1
        assert "coil 3 holds NaN or Inf" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.h5"]


def test_any_output_can_be_written_to(require: Any, tmp_path: Path) -> None:
    """As of Windows, where a redirected output has few letters."""
    path = require("data", TWO_CHANNELS)
    run = [sys.executable, "-m", "sn2nlib.cli", "inspect", str(path)]
    done = subprocess.run(run, env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True, check=False)
    assert done.returncode == 0 and b"coils" in done.stdout and b"?" in done.stdout and not done.stderr


def test_options_without_effect_are_refused(
    require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, scan = require("data", TWO_CHANNELS), tmp_path / "scan.h5"
    assert sn2n("convert", raw, scan, "--repeat", 1) == 0
    assert read_raw(scan).repeat is not None
    out = tmp_path / "a.nii.gz"
    for arguments, told in (
        (("recon", scan, out, "--measurement", 0), "--measurement: for twix and ISMRMRD files"),
        (("recon", scan, out, "--pairing", "repetitions"), "ask for the halves too"),
        (("recon", scan, out, "--halves", "--pairing", "repetitions", "--repeat", 1), "--pairing repetitions takes it"),
        (("recon", raw, out, "--repeat", 1), "--repeat 1: halves alone are made of a second repetition"),
        (("recon", raw, out, "--halves", "--repeat", 1), "--repeat 1: halves alone are made of"),
        (("recon", raw, out, "--pairing", "repetitions", "--repeat", 1), "--repeat 1: halves alone are made of"),
        (("train", raw, "--out", tmp_path / "m", "--repeat", 0), "--repeat 0: halves alone are made of"),
        (("denoise", raw, out, "--model", tmp_path / "m", "--repeat", 1), "--repeat 1: halves alone are made of"),
        (("recon", scan, out, "--keep-oversampling"), ": --keep-oversampling: for twix and ISMRMRD files"),
        (("recon", scan, out, "--halves"), "one partition: a 2D scan is neither split into halves nor trained on"),
        (("train", scan, "--out", tmp_path / "m", "--pairing", "repetitions", "--repeat", 1),
         "--repeat: for the scanner's files; a scan"),
    ):
        assert sn2n(*arguments) == 1
        assert told in capsys.readouterr().err
    for option, value, advice in (
        ("--virtual-coils", 1.5, "give a whole number"), ("--virtual-coils", 0, "0 coils: give a number from 1 on"),
        ("--virtual-coils", "nan", "nan coils: give a number"), ("--virtual-coils", "inf", "inf coils: give a number"),
        ("--memory", "inf", "inf GiB of memory: give a number"),
        ("--compression", "gcc", "--compression gcc compresses nothing without --virtual-coils"),
    ):  # fmt: skip
        assert sn2n("recon", scan, out, option, value) == 2
        assert advice in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


@pytest.mark.filterwarnings("default")
def test_a_scan_file_of_unknown_place_says_so(require: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sn2n("convert", require("data", BRAIN), tmp_path / "scan.h5", "--voxel-size", 5, 2, 2) == 0
    capsys.readouterr()
    assert sn2n("recon", tmp_path / "scan.h5", tmp_path / "image.nii") == 0
    told = capsys.readouterr().err
    assert "scan.h5: position and orientation of the scan were not known when this file was made" in told
    assert "--affine-from" in told


def test_sides_are_told_of_images_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("scan.h5", "folder"):
        assert sn2n("sides", tmp_path / name, tmp_path / "known.nii") == 1
        assert f"{name}: not a NIfTI image (.nii, .nii.gz), such as sn2n recon makes" in capsys.readouterr().err
