"""The commands, as typed: one small head through all of them, and what they say when something is wrong."""

import errno
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import typer
from nibabel.orientations import aff2axcodes

from sn2nlib import cli, cli_options, evaluation, scans
from sn2nlib import cli_outputs as outputs
from sn2nlib.config import load_profile
from sn2nlib.denoiser import Denoiser
from sn2nlib.evaluation.noise_levels import DEMO, measure_scan, model_experiment, prepare_head
from sn2nlib.evaluation.participants import participant_seed
from sn2nlib.recon import reconstruct
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans import load_scan, save_scan

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("study", "simulate", "inspect", "export", "fetch", "recon", "train", "denoise", "evaluate")
GRID = ("--matrix", "40", "48", "48", "--voxel-size", "4", "4", "4", "--coils", "4")


def sn2n(*arguments: object) -> int:
    """Run a command in this process; its exit code."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head, two scans, an image and a model, all made by the commands."""
    folder = tmp_path_factory.mktemp("commands")
    write_head(folder / "head.nii.gz")
    head = folder / "head.nii.gz"
    assert sn2n("simulate", head, folder / "scan.h5", *GRID) == 0
    assert sn2n("simulate", head, folder / "other.h5", *GRID, "--seed", 1, "--psnr", 35) == 0
    assert sn2n("recon", folder / "scan.h5", folder / "image.nii.gz", "--halves") == 0
    assert sn2n("train", folder / "scan.h5", *training(folder)) == 0
    return folder


def training(folder: Path, *, steps: int = 12) -> Sequence[object]:
    size = ("--width", 8, "--depth", 2, "--batch", 2, "--patch", 32)
    return ("--out", folder / "model", "--validation", folder / "other.h5", "--steps", steps, *size)


def write_head(path: Path) -> None:
    """Shells with texture and, off their centre, a bright ball; stored left to right, from anterior, upwards."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 48, 48)), indexing="ij")
    radius = np.sqrt((x / 0.8) ** 2 + (y / 0.85) ** 2 + (z / 0.85) ** 2)
    signal = 400.0 * (radius < 1) + 300 * (radius < 0.8) + 200 * (radius < 0.3)
    signal[(x - 0.3) ** 2 + (y + 0.4) ** 2 + (z - 0.2) ** 2 < 0.03] = 2500
    signal += np.where(radius < 1, 60 * np.random.default_rng(0).standard_normal(radius.shape), 0)
    affine = np.array([[4.0, 0, 0, -80], [0, -4, 0, 96], [0, 0, 4, -96], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.clip(signal, 0, None).astype(np.int16), affine), path)


def test_the_command_is_installed_under_its_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"sn2n": "sn2nlib.cli:main"}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom sn2nlib.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert all(f" {name} " in told for name in COMMANDS)
    loaded = set(told.split("LOADED", 1)[1].split())
    heavy = {"torch", "numpy", "scipy", "pandas", "nibabel", "nilearn", "h5py", "papermill", "doit", "skimage"}
    assert loaded & heavy == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sn2n(command, "--help") == 0
    assert f"sn2n {command} " in capsys.readouterr().out


def parameters_of(command: Any, name: str = "sn2n") -> Iterator[tuple[str, str, Any]]:
    """Name of the command, what it is typed as, and what it knows of it, for it and all its parts."""
    for part, inner in getattr(command, "commands", {}).items():
        yield from parameters_of(inner, f"{name} {part}")
    yield from ((name, parameter.opts[0], parameter) for parameter in command.params)


def test_helps_are_of_one_form() -> None:
    """Every argument and option has a sentence; defaults stand where typer shows them, in brackets."""
    told = {(name, typed): each.help or "" for name, typed, each in parameters_of(typer.main.get_command(cli.app))}
    assert len(told) > 150
    assert [place for place, text in told.items() if not text.endswith(".")] == []
    assert [place for place, text in told.items() if "default" in text] == []
    assert [place for place, text in told.items() if not (text[0].isupper() or text.startswith(("mm", "κ")))] == []


def test_simulate_keeps_the_place_of_the_head(folder: Path) -> None:
    scan = load_scan(folder / "scan.h5")
    assert scan.kspace.shape == (4, 40, 48, 48) and scan.acceleration == (2, 1)
    assert aff2axcodes(scan.affine) == ("S", "A", "R")
    places = []
    for name in ("head.nii.gz", "image.nii.gz"):
        image = nib.load(folder / name)
        values = image.get_fdata()
        ball = np.argwhere(values > 0.5 * values.max()).mean(axis=0)
        places.append(nib.affines.apply_affine(image.affine, ball))
    assert places[0] == pytest.approx([24, 38, 19], abs=4)  # right, anterior, superior of the middle, mm
    assert places[1] == pytest.approx(places[0], abs=1.5)


@pytest.mark.parametrize("psnr", ["nan", "inf", -1])
def test_a_psnr_that_is_none_is_refused(
    psnr: object, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, model = folder / "head.nii.gz", folder / "model"
    for command in (
        ("simulate", head, tmp_path / "scan.h5", *GRID),
        ("evaluate", head, "--model", model, "--out", tmp_path / "table.csv"),
    ):
        assert sn2n(*command, "--psnr", psnr) == 2
        assert "Invalid value for '--psnr'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_simulate_fully_sampled_and_by_psnr(folder: Path) -> None:
    options = ("--full", "--noise-sd", 0.01)
    assert sn2n("simulate", folder / "head.nii.gz", folder / "full.h5", *GRID, *options) == 0
    assert load_scan(folder / "full.h5").mask.all()
    other = load_scan(folder / "other.h5")
    assert not other.mask.all() and other.noise is not None


@pytest.mark.parametrize("noise", [("--noise-sd", 0.01), ("--psnr", 30)])
def test_simulate_with_partial_fourier(folder: Path, noise: Sequence[object], tmp_path: Path) -> None:
    options = ("--partial-fourier", 0.75, 0.9, *noise)
    assert sn2n("simulate", folder / "head.nii.gz", tmp_path / "scan.h5", *GRID, *options) == 0
    mask = load_scan(tmp_path / "scan.h5").mask
    assert np.array_equal(mask, lattice_mask((40, 48), acceleration=(2, 1), acs=24, partial_fourier=(0.75, 0.9)))
    assert sn2n("recon", tmp_path / "scan.h5", tmp_path / "image.nii.gz") == 0


@pytest.mark.parametrize("noise", [("--noise-sd", 0.01), ("--psnr", 25)])
def test_simulate_caipirinha(folder: Path, noise: Sequence[object], tmp_path: Path, capsys: Any) -> None:
    head, out = folder / "head.nii.gz", tmp_path / "scan.h5"
    options = ("--acceleration", 2, 2, "--caipi-shift", 1)
    assert sn2n("simulate", head, out, *GRID, *options, *noise) == 0
    scan = load_scan(out)
    assert (scan.acceleration, scan.caipi_shift) == ((2, 2), 1)
    assert np.array_equal(scan.mask, lattice_mask((40, 48), acceleration=(2, 2), caipi_shift=1, acs=24))
    capsys.readouterr()
    assert sn2n("inspect", out) == 0
    assert "CAIPIRINHA shift 1" in " ".join(capsys.readouterr().out.split())
    told = refused(1, capsys, "simulate", head, tmp_path / "no.h5", *GRID, *options[:3], "--caipi-shift", 2, *noise)
    assert "the CAIPIRINHA shift lies between 0 and Rz - 1 for R = 2×2" in told


def test_simulate_refuses_options_that_exclude_each_other(folder: Path, tmp_path: Path, capsys: Any) -> None:
    run = ("simulate", folder / "head.nii.gz", tmp_path / "scan.h5", *GRID)
    for options, named in (
        (("--acceleration", 2, 1), "--acceleration"),
        (("--acs", 24, "--caipi-shift", 0), "--caipi-shift, --acs"),
        (("--noise-sd", 0.01, "--acs", 24), "--acs"),
    ):
        told = refused(1, capsys, *run, "--full", *options)
        assert f"--full acquires every line, so that {named} would change nothing; leave one side out" in told
    told = refused(1, capsys, *run, "--noise-sd", 0.02, "--psnr", 30)
    assert "--noise-sd and --psnr both say how much noise there is; give one of them" in told
    assert list(tmp_path.iterdir()) == []
    # of a fully sampled scan, the PSNR is that of the image of the accelerated one, whose sampling is asked for too
    noise = []
    for number, acceleration in enumerate(((2, 1), (2, 2))):
        out = tmp_path / f"{number}.h5"
        options = ("--full", "--acceleration", *acceleration, "--psnr", 25)
        assert sn2n("simulate", folder / "head.nii.gz", out, *GRID, *options) == 0
        scan = load_scan(out)
        assert scan.mask.all() and scan.noise is not None
        noise.append(scan.noise.std())
    assert noise[1] < 0.9 * noise[0]


def test_inspect_tells_without_reading_samples(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sn2n("inspect", folder / "scan.h5") == 0
    told = " ".join(capsys.readouterr().out.split())
    for part in (
        "coils 4", "matrix (kz, ky, kx) (40, 48, 48)", "acceleration (Ry, Rz) (2, 1)", "memory for reconstruction",
        "voxel size (z, y, x) mm (4.0, 4.0, 4.0)", "made of simulated", "noise SD, share of brightness 0.02",
        "noise scan 16384 samples", "calibration integrated", "repetitions 1",
    ):  # fmt: skip
        assert part in told
    assert "None" not in told and "{" not in told


def test_recon_writes_the_image_and_its_halves(folder: Path) -> None:
    scan = load_scan(folder / "scan.h5")
    image = nib.load(folder / "image.nii.gz")
    expected = np.abs(reconstruct(scan)).transpose(2, 1, 0)
    assert np.allclose(image.get_fdata(), expected, rtol=1e-5, atol=1e-5 * expected.max())
    assert np.allclose(image.affine, scan.affine, atol=1e-5)
    halves = [nib.load(folder / f"image_half_{half}.nii.gz").get_fdata() for half in "ab"]
    inside = expected > 0.3 * expected.max()
    assert not np.array_equal(*halves)
    for half in halves:
        assert np.median(half[inside] / expected[inside]) == pytest.approx(1, abs=0.05)


def test_recon_beyond_the_memory_limit_gives_the_same_image(folder: Path, tmp_path: Path) -> None:
    for name, memory in (("disk", ("--memory", 0)), ("whole", ())):
        options = ("--virtual-coils", 4, *memory)
        assert sn2n("recon", folder / "scan.h5", tmp_path / f"{name}.nii.gz", "--halves", *options) == 0
    for half in ("", "_half_a", "_half_b"):
        disk, whole = (nib.load(tmp_path / f"{name}{half}.nii.gz") for name in ("disk", "whole"))
        assert np.allclose(disk.get_fdata(), whole.get_fdata(), rtol=0, atol=1e-5 * whole.get_fdata().max())
        assert np.array_equal(disk.affine, whole.affine)


def test_train_beyond_the_memory_limit_leaves_the_same_model_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    options = (*training(folder)[2:], "--out", tmp_path / "model", "--memory", 0)
    assert sn2n("train", folder / "scan.h5", *options) == 0
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "history.csv", "model.json", "model.safetensors"
    ]
    models = [Denoiser.load(place / "model") for place in (folder, tmp_path)]
    image = np.abs(reconstruct(load_scan(folder / "scan.h5")))
    in_memory, on_disk = (model.denoise(image, alpha=0) for model in models)
    assert np.abs(on_disk - in_memory).max() < 1e-3 * in_memory.max()
    assert models[0].alpha == pytest.approx(models[1].alpha, abs=1e-3)


@pytest.mark.parametrize("memory", [(), ("--memory", 0)])
def test_train_from_a_model_with_coarser_copies_and_extra_noise(
    folder: Path, tmp_path: Path, capsys: Any, memory: Sequence[object]
) -> None:
    out, name = tmp_path / "tuned", "--start-from" if memory else "--from"
    size = ("--batch", 2, "--patch", 32, "--steps", 2)
    options = ("--out", out, name, folder / "model", "--coarser", 0.8, "--extra-noise", 0.02, *size, *memory)
    assert sn2n("train", folder / "other.h5", *options) == 0
    first, tuned = Denoiser.load(folder / "model"), Denoiser.load(out)
    assert f"α = {first.alpha:.2f}, as chosen before" in capsys.readouterr().out
    assert tuned.network.architecture == first.network.architecture and tuned.alpha == first.alpha
    training = tuned.description["training"]
    assert training["start_from"] == first.description["weights_sha256"]
    assert (training["extra_noise"], training["learning_rate"]) == (0.02, 3e-4)
    assert [scan.split("-")[0] for scan in training["scans"]] == ["40x48x48", "32x38x38"]
    assert sorted(path.name for path in out.iterdir()) == ["history.csv", "model.json", "model.safetensors"]


def test_windows_that_are_smaller_than_asked_for_are_told(folder: Path, tmp_path: Path, capsys: Any) -> None:
    size = ("--width", 2, "--depth", 1, "--batch", 1, "--steps", 1)
    for name, options, told in (
        (
            "whole",
            ("--patch", 64),
            "Windows of 48 × 48 voxels, not the 64 × 64 asked for: of the scans learnt from, the smallest has "
            "partitions of 48 × 48 (y, x)\n",
        ),
        ("coarse", ("--patch", 48, "--coarser", 0.8), "Windows of 38 × 38 voxels, not the 48 × 48 asked for: "),
        ("fitting", ("--patch", 48), ""),
    ):
        capsys.readouterr()
        assert sn2n("train", folder / "scan.h5", "--out", tmp_path / name, *options, *size) == 0
        said = capsys.readouterr().out
        assert said.startswith(told) and ("Windows" in said) == bool(told)


def test_copies_too_coarse_to_learn_from_are_refused(folder: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("ismrmrd")
    other, out = tmp_path / "scan.mrd", tmp_path / "model"
    assert sn2n("export", folder / "scan.h5", other) == 0
    for scan, *memory in ((folder / "scan.h5",), (folder / "scan.h5", "--memory", 0), (other,)):
        for share, left in ((0.05, "2 × 2 × 2"), (0.16, "6 × 8 × 8")):
            told = refused(1, capsys, "train", scan, "--out", out, "--coarser", share, *memory)
            assert told.startswith(f"sn2n: {scan}: a share of {share} of k-space (--coarser) leaves {left} of the 40 ×")
            assert told.endswith("learns from 7 × 8 × 8 or more; take 0.17 or more\n")
    assert not out.exists()


def test_what_is_not_there_is_told(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    for option, value, told in (
        ("--pairing", "repetitions", "second repetition"),
        ("--virtual-coils", "9", "9 virtual coils cannot be made of 4"),
    ):
        assert told in refused(1, capsys, "recon", folder / "scan.h5", out, "--halves", option, value)
        assert not out.exists()


def test_train_goes_on_where_it_was_and_refuses_other_settings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = (folder / "model" / "model.safetensors").read_bytes()
    assert sn2n("train", folder / "scan.h5", *training(folder)) == 0
    assert (folder / "model" / "model.safetensors").read_bytes() == weights
    assert sn2n("train", folder / "scan.h5", *training(folder, steps=13)) == 1
    told = capsys.readouterr().err
    assert "steps: 12 there, 13 now); choose another folder, train on from this model into another (--from), or" in told
    assert (folder / "model" / "model.safetensors").read_bytes() == weights


def test_denoise_keeps_the_geometry_of_an_image(folder: Path, tmp_path: Path) -> None:
    turned = nib.as_closest_canonical(nib.load(folder / "image.nii.gz"))
    turned.set_qform(turned.affine, code=1)
    turned.set_sform(turned.affine, code=2)
    nib.save(turned, tmp_path / "in.nii.gz")
    model = ("--model", folder / "model")
    assert sn2n("denoise", tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", *model, "--alpha", 0.5) == 0
    assert sn2n("denoise", folder / "scan.h5", tmp_path / "scan.nii.gz", *model, "--alpha", 0.5) == 0
    assert sn2n("denoise", tmp_path / "in.nii.gz", tmp_path / "same.nii.gz", *model, "--alpha", 1) == 0
    given, written, same, scan = (
        nib.load(tmp_path / f"{name}.nii.gz") for name in ("in", "out", "same", "scan")
    )
    assert written.get_data_dtype() == np.float32 and written.shape == given.shape
    assert np.array_equal(written.affine, given.affine)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (1, 2)
    assert np.allclose(same.get_fdata(), given.get_fdata(), rtol=1e-5)
    assert not np.allclose(written.get_fdata(), given.get_fdata(), rtol=1e-3)
    # the same anatomy, whether it came as an image or as a raw scan, and however the image was stored
    again = nib.as_closest_canonical(scan).get_fdata()
    assert np.allclose(written.get_fdata(), again, rtol=1e-3, atol=1e-3 * again.max())


def test_the_share_of_the_original_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, without = folder / "model", tmp_path / "model"
    shutil.copytree(own, without)
    description = json.loads((own / "model.json").read_text(encoding="utf-8"))
    (without / "model.json").write_text(json.dumps(description | {"alpha": None}), encoding="utf-8")
    for model, options, told in (
        (own, (), f"α = {description['alpha']:g}, the model's own\n"),
        (own, ("--alpha", 0.125), "α = 0.125, as asked\n"),
        (without, (), "α = 0.3, the paper's, since none was chosen for the model\n"),
    ):
        for given in ("image.nii.gz", "scan.h5"):
            capsys.readouterr()
            out = tmp_path / "out.nii.gz"
            assert sn2n("denoise", folder / given, out, "--model", model, *options, "--overwrite") == 0
            assert told in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
def test_denoise_keeps_number_format_and_empty_background(folder: Path, tmp_path: Path) -> None:
    values = nib.load(folder / "image.nii.gz").get_fdata()
    stored = np.rint(values / values.max() * 900).astype(np.int16)
    stored[:, :, :6] = 0
    given = nib.Nifti1Image(stored, np.diag([-2.0, 2, 4, 1]))
    given.header.set_slope_inter(0.5, 0)
    nib.save(given, tmp_path / "in.nii.gz")
    run = ("denoise", tmp_path / "in.nii.gz")
    for name, options in (("out", ()), ("axial", ("--axis", "axial")), ("sagittal", ("--axis", "sagittal"))):
        assert sn2n(*run, tmp_path / f"{name}.nii.gz", "--model", folder / "model", "--alpha", 0, *options) == 0
    written = nib.load(tmp_path / "out.nii.gz")
    assert written.get_data_dtype() == np.int16 and (written.dataobj.slope, written.dataobj.inter) == (0.5, 0)
    assert np.array_equal(written.affine, nib.load(tmp_path / "in.nii.gz").affine)
    names = ("out", "axial", "sagittal")
    result, axial, sagittal = (nib.load(tmp_path / f"{name}.nii.gz").get_fdata() for name in names)
    assert not result[:, :, :6].any() and not np.array_equal(result[:, :, 6:], 0.5 * stored[:, :, 6:])
    assert np.array_equal(result, axial) and not np.array_equal(result, sagittal)  # 4 mm slices lie along z


def test_evaluate_writes_the_promised_columns(folder: Path) -> None:
    out = folder / "table.csv"
    options = ("--model", folder / "model", "--out", out, "--psnr", 35, "--alpha", 0.9)
    head = Path(shutil.copy(folder / "head.nii.gz", folder / "Jane_Doe.nii.gz"))
    assert sn2n("evaluate", head, *options, *GRID) == 0
    assert "Jane" not in out.read_text(encoding="utf-8")
    table = pd.read_csv(out)
    assert list(table) == ["head", "noise_sigma", "arm", "reference", "region", "psnr", "ssim", "nrmse"]
    assert set(table["head"]) == {"head"}
    assert set(table["arm"]) == {"original", "sN2N", "truth"}
    assert set(table["reference"]) == {"full_sampled", "noise_free"}
    assert set(table["region"]) == {"volume", "head"}
    assert sorted(set(table["noise_sigma"])) == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    first = table.query("noise_sigma == 0 and arm == 'original' and reference == 'full_sampled'")
    assert first.query("region == 'volume'")["psnr"].item() == pytest.approx(35, abs=0.3)


STUDY = {
    "acquisition": {
        "matrix": [32, 44, 42], "voxel_size": [5.0, 4.4, 4.5], "coils": 5, "acceleration": [2, 1], "acs": 20,
        "partial_fourier": [0.9, 1.0], "sequence": {"tr": 2200},
    },
    "recon": {"kernel": [3, 2, 2], "ridge": 1e-3, "window": 5},
    "target_psnr": 33.0,
}  # fmt: skip


def write_real_head(path: Path) -> None:
    """As such files are: 8 bits, stored from right, top and back, empty around, the neck cut by the lower edge."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (68, 76, 72)), indexing="ij")
    skull = np.sqrt((x / 0.7) ** 2 + (y / 0.8) ** 2 + ((z - 0.1) / 0.75) ** 2)
    neck = (x**2 + y**2 < 0.12) & (z < 0)
    grain = np.random.default_rng(2).uniform(0.8, 1.2, skull.shape)
    signal = grain * (90.0 * ((skull < 1) | neck) + 80 * (skull < 0.85) + 40 * (skull < 0.6))
    affine = np.array([[-2.6, 0, 0, 88], [0, 0, -2.6, 95], [0, -2.6, 0, 98], [0, 0, 0, 1]])
    stored = np.clip(signal, 0, 255).astype(np.uint8)[::-1, :, ::-1].transpose(0, 2, 1)[:, :, ::-1]
    nib.save(nib.Nifti1Image(np.ascontiguousarray(stored), affine), path)


@pytest.fixture(scope="module")
def studied(folder: Path) -> Path:
    """The model as notebook 03 leaves it: it tells how the study scans."""
    model = Path(shutil.copytree(folder / "model", folder / "studied"))
    description = json.loads((model / "model.json").read_text(encoding="utf-8"))
    (model / "model.json").write_text(json.dumps(description | {"metadata": STUDY}), encoding="utf-8")
    return model


def test_evaluate_repeats_the_experiment_of_the_study_that_trained_the_model(
    folder: Path, studied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_real_head(tmp_path / "anat.nii.gz")
    out = tmp_path / "table.csv"
    assert sn2n("evaluate", tmp_path / "anat.nii.gz", "--model", studied, "--out", out, "--name", "S1") == 0
    seed = participant_seed("S1")
    sampling = {"acceleration": (2, 1), "acs": 20, "partial_fourier": (0.9, 1.0)}
    sampling |= {"recon": {"kernel": (3, 2, 2), "ridge": 1e-3, "window": 5}}
    size = {"matrix": (32, 44, 42), "voxel_size": (5.0, 4.4, 4.5), "n_coils": 5, "target_psnr": 33.0}
    head = scans.read_head(tmp_path / "anat.nii.gz")
    scan, references, reached = prepare_head(head, seed=seed, **size, **sampling)
    denoise = Denoiser.load(studied, precision="auto").denoise
    rows = measure_scan(scan, references, denoise, head="S1", levels=(0, 3), seed=seed, **sampling)
    expected = pd.DataFrame(rows)[list(cli.EVALUATION_COLUMNS)]
    found = pd.read_csv(out).query("noise_sigma in (0, 3)").reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-12)
    grid = " ".join(map(str, scan.shape))
    told = capsys.readouterr().out
    assert f"S1: {grid}, 5 coils, PSNR of the conventional image {reached:.2f} dB" in told
    assert reached == pytest.approx(33, abs=0.15)


def test_evaluate_takes_what_it_is_told_before_what_the_model_says() -> None:
    preparation, sampling = model_experiment(STUDY, n_coils=3, target_psnr=30)
    assert preparation == {
        "matrix": (32, 44, 42), "voxel_size": (5.0, 4.4, 4.5), "n_coils": 3, "target_psnr": 30
    }  # fmt: skip
    assert sampling["acs"] == 20 and sampling["partial_fourier"] == (0.9, 1.0)
    preparation, sampling = model_experiment({}, matrix=(32, 40, 40))
    assert preparation == {
        "matrix": (32, 40, 40), "voxel_size": (1.35, 1.35, 1.35), "n_coils": 10, "target_psnr": 41.2
    }  # fmt: skip
    assert sampling == {"recon": {}}
    acquisition = load_profile("demo").acquisition
    assert (acquisition.matrix, acquisition.voxel_size) == (DEMO["matrix"], DEMO["voxel_size"])
    assert acquisition.coils == DEMO["coils"]


@pytest.mark.filterwarnings("default")
def test_a_psnr_that_is_missed_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation.cohort, "_noise_for", lambda *_, **__: evaluation.cohort._Found(0.05, 33.9, 0.0))
    arguments = ("simulate", folder / "head.nii.gz", tmp_path / "scan.h5", *GRID, "--psnr", 35)
    assert sn2n(*arguments) == 0
    told = capsys.readouterr()
    assert "PSNR of the conventional image: 33.90 dB" in told.out
    assert told.err.startswith("sn2n: warning: the conventional image has a PSNR of 33.90 dB where 35.00 dB were asked")
    monkeypatch.setattr(evaluation.cohort, "_noise_for", lambda *_, **__: evaluation.cohort._Found(0.05, 34.75, 0.0))
    assert sn2n(*arguments, "--overwrite") == 0
    assert capsys.readouterr().err == ""


def test_a_table_of_several_heads_has_the_names_that_were_asked_for(folder: Path, tmp_path: Path) -> None:
    head, out = folder / "head.nii.gz", tmp_path / "table.csv"
    options = ("--model", folder / "model", "--out", out, "--psnr", 35, "--name", "old", "--name", "young")
    assert sn2n("evaluate", head, head, *options, *GRID) == 0
    table = pd.read_csv(out)
    assert list(table["head"].unique()) == ["old", "young"]
    # the same head with noise of its own
    first, second = (rows["psnr"].to_numpy() for _, rows in table.groupby("head", sort=False))
    assert first.shape == second.shape and not np.array_equal(first, second)
    assert cli_options.labels([], 2) == ["head1", "head2"]


def refused(code: int, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command that must fail says: one line, no traceback."""
    capsys.readouterr()
    assert sn2n(*arguments) == code
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("sn2n: ") and told.err.count("\n") == 1
    return told.err


def test_missing_inputs_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, model = tmp_path / "out.nii.gz", ("--model", folder / "model")
    no_scan, no_image = tmp_path / "no.h5", tmp_path / "no.nii.gz"
    for arguments in (
        ("inspect", no_scan),
        ("recon", no_scan, out),
        ("train", no_scan, "--out", tmp_path / "new"),
    ):
        assert f"there is no scan file {no_scan}" in refused(1, capsys, *arguments)
    assert f"{tmp_path}: a folder; give the raw files in it" in refused(
        1, capsys, "train", tmp_path, "--out", tmp_path / "new"
    )
    assert f"there is no file {tmp_path / 'no.csv'}" in refused(1, capsys, "scores", "check", tmp_path / "no.csv")
    for missing in (no_scan, no_image, tmp_path / "no.dcm", tmp_path / "no"):
        told = refused(1, capsys, "denoise", missing, out, *model)
        assert f"there is no file or folder {missing}; mend its name: sn2n denoise takes a NIfTI image" in told
    assert f"there is no image {no_image}" in refused(1, capsys, "evaluate", no_image, *model, "--out", "table.csv")
    assert str(no_image) in refused(1, capsys, "simulate", no_image, tmp_path / "scan.h5")
    nowhere = ("--model", tmp_path / "none")
    assert str(tmp_path / "none") in refused(1, capsys, "denoise", folder / "image.nii.gz", out, *nowhere)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unless_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, scan, head = folder / "image.nii.gz", folder / "scan.h5", folder / "head.nii.gz"
    model = ("--model", folder / "model")
    before = {path: path.read_bytes() for path in (image, scan)}
    (folder / "table.csv").write_text("")
    for arguments in (
        ("simulate", head, scan, *GRID),
        ("recon", scan, image),
        ("denoise", scan, image, *model),
        ("evaluate", head, *model, "--out", folder / "table.csv", *GRID),
    ):
        # in the words of the DICOM writer
        assert "exists; choose another name or allow overwriting (--overwrite)" in refused(1, capsys, *arguments)
    (folder / "new_half_b.nii.gz").write_text("")
    assert "new_half_b" in refused(1, capsys, "recon", scan, folder / "new.nii.gz", "--halves")
    assert not (folder / "new.nii.gz").exists()
    assert {path: path.read_bytes() for path in before} == before
    assert sn2n("recon", scan, image, "--overwrite") == 0
    assert image.read_bytes() == before[image]


def test_unusable_inputs_are_explained(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, model = tmp_path / "out.nii.gz", ("--model", folder / "model")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)), tmp_path / "series.nii")
    (tmp_path / "text.h5").write_text("no scan")
    scan = load_scan(folder / "scan.h5")
    no_acs = scan.mask & ((np.arange(48) - 24) % 2 == 0)
    bare = replace(scan, mask=no_acs, kspace=scan.kspace * no_acs[None, :, :, None])
    save_scan(bare, tmp_path / "no_acs.h5")
    for arguments, message in (
        (("denoise", tmp_path / "series.nii", out, *model), "needs 3 axes"),
        (("simulate", tmp_path / "series.nii", tmp_path / "new.h5"), "needs 3 axes"),
        (("inspect", tmp_path / "text.h5"), "not an HDF5 file"),
        (("recon", tmp_path / "no_acs.h5", out), "the ACS is too small"),
        (("denoise", tmp_path / "text.h5", out, *model), "sn2n denoise takes NIfTI images, .nii or .nii.gz, and DICOM"),
        (
            ("denoise", folder / "image.nii.gz", out, "--model", folder / "model" / "model.json"),
            "model.json is a file; give the folder of the model",
        ),
        (("evaluate", folder / "scan.h5", *model, "--out", tmp_path / "new.csv"), "needed is a T1-weighted NIfTI"),
        (("simulate", folder / "scan.h5", tmp_path / "new.h5"), "needed is a T1-weighted NIfTI image of a whole head"),
        (("simulate", folder, tmp_path / "new.h5"), ": a folder; needed is a T1-weighted NIfTI image of a whole head"),
        (("recon", folder / "scan.h5", tmp_path / "out.png"), "ends in .nii or .nii.gz"),
        (
            ("simulate", folder / "head.nii.gz", tmp_path / "new.h5", *GRID, "--partial-fourier", 0.4, 1),
            "partial Fourier fractions lie in (0.5, 1]",
        ),
        (("simulate", folder / "head.nii.gz", tmp_path / "new.h5", "--matrix", 40, 0, 48), "matrix: needs three whole"),
        (
            ("evaluate", folder / "head.nii.gz", *model, "--out", tmp_path / "new.csv", "--voxel-size", "nan", 4, 4),
            "voxel_size: needs three positive numbers",
        ),
        (("study", "--profile", "none"), "there is no profile 'none'"),
        (("study", "--only", "99_none"), "there is no notebook 99_none"),
        (("study", "--only", "01_data", "-p", "steps"), "'steps' is no parameter"),
    ):
        assert message in refused(1, capsys, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no_acs.h5", "series.nii", "text.h5"]


def test_a_full_disk_leaves_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    told = refused(1, capsys, "recon", folder / "scan.h5", tmp_path / "out.nii.gz")
    assert "disk is full" in told and "out.nii.gz" in told
    assert list(tmp_path.iterdir()) == []


def stopped(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command says that Ctrl+C stops: one sentence."""
    capsys.readouterr()
    assert sn2n(*arguments) == 130
    told = capsys.readouterr().err
    assert told.startswith(f"sn2n: {arguments[0]} was stopped ") and told.count("\n") == 1
    return told.strip()


def test_ctrl_c_leaves_nothing_half_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ismrmrd")
    head, scan, image, model = (folder / name for name in ("head.nii.gz", "scan.h5", "image.nii.gz", "model"))
    other, old = tmp_path / "other.mrd", tmp_path / "old.nii.gz"
    assert sn2n("export", scan, other) == 0
    old.write_text("of an earlier run")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sn2nlib.provenance.os.replace", pressed)  # the last moment: all is written, nothing named
    monkeypatch.setattr(evaluation, "measure_scan", lambda *_, **__: [], raising=False)
    for arguments in (
        ("simulate", head, tmp_path / "a.h5", *GRID),
        ("convert", other, tmp_path / "a.h5"),
        ("export", scan, tmp_path / "a", "--format", "bart"),
        ("recon", scan, tmp_path / "a.nii.gz", "--halves", "--memory", 0),
        ("recon", scan, old, "--overwrite"),
        ("denoise", image, tmp_path / "a b.nii", "--model", model),
        ("evaluate", head, "--model", model, "--out", tmp_path / "a.csv", *GRID),
    ):
        told = stopped(capsys, *arguments)
        assert f"{arguments[0]} was stopped and leaves nothing half-written; to run it again: " in told
        assert shlex.split(told.split(": ")[-1]) == ["sn2n", *map(str, arguments)]
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_ctrl_c_between_two_outputs_names_what_is_there_and_how_to_replace_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the second of the moments when a file takes its name; then at the fifth."""
    scan, image, bart = folder / "scan.h5", tmp_path / "a.nii.gz", tmp_path / "a"
    recon, export = ("recon", scan, image, "--halves"), ("export", scan, "--format", "bart", "--", bart)
    for arguments, again, when in (
        (recon, (*recon, "--overwrite"), 2),
        (export, (*export[:4], "--overwrite", *export[4:]), 2),
        (export, (*export[:4], "--overwrite", *export[4:]), 5),
    ):
        with monkeypatch.context() as patched:
            presses(patched, os, "replace", when)
            told = stopped(capsys, *arguments)
        written = list(tmp_path.iterdir())
        assert len(written) == when - 1 and f"{bart}.json" not in map(str, written)
        names, advice = told.split("; to run it again and replace what is there: ")
        named, *more = names.split(" was stopped after writing ")[1].split(" and ")
        assert set(named.split(", ")) <= set(map(str, written)) and more == (["1 more"] if when == 5 else [])
        assert len(named.split(", ")) == min(when - 1, 3)
        assert sn2n(*arguments) == 1 and "exists" in capsys.readouterr().err
        assert shlex.split(advice) == ["sn2n", *map(str, again)]
        before = {path.name: path.stat().st_ino for path in written}
        with monkeypatch.context() as patched:  # while it replaces them
            presses(patched, os, "replace", 2)
            told = stopped(capsys, *again)
        [replaced] = [name for name, number in before.items() if (tmp_path / name).stat().st_ino != number]
        assert f"was stopped after writing {tmp_path / replaced}; to run it again: {advice}" in told
        assert sn2n(*again) == 0
        for path in tmp_path.iterdir():
            path.unlink()


def presses(patch: pytest.MonkeyPatch, module: Any, name: str, when: int) -> None:
    """Ctrl+C at a call of a function, counted from 1."""
    own, calls = getattr(module, name), itertools.count(1)

    def counted(*arguments: Any, **named: Any) -> Any:
        if next(calls) == when:
            raise KeyboardInterrupt
        return own(*arguments, **named)

    patch.setattr(module, name, counted)


def test_a_stopped_training_says_what_is_kept_and_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the finished model of other settings, which stays until the new training begins."""
    model = tmp_path / "model"
    shutil.copytree(folder / "model", model)
    finished = (model / "model.safetensors").read_bytes()
    scan, options = folder / "scan.h5", ["--out", model, *training(folder, steps=8)[2:], "--overwrite"]
    loop, volumes, apply = (sys.modules[f"sn2nlib.denoiser.{name}"] for name in ("train", "volumes", "apply"))
    for module, name, when, kept, begun in (
        (volumes, "make_pair", 2, "while scan 2 of 2 was reconstructed, and nothing of it is kept", False),
        (loop, "_step", 1, f"after step 0 of 8, and {model} keeps nothing of it", True),
        (loop, "save_model", 1, f"while the model was written, and {model} keeps the last step", True),
        (apply, "sweep_alpha", 1, f"while α was chosen, and {model} keeps the trained network", True),
    ):
        with monkeypatch.context() as patched:
            presses(patched, module, name, when)
            told = stopped(capsys, "train", scan, *options)
        going_on = shlex.split(told.split("; to go on: ")[-1])
        assert f"train was stopped {kept}; " in told and ("--overwrite" in going_on) == (not begun)
        old = model / "model.safetensors"
        assert (old.is_file() and old.read_bytes() == finished) == (not begun)
    assert sn2n(*going_on[1:]) == 0
    told = capsys.readouterr().out
    assert f"{model} holds the finished training already" in told and "α = " in told
    assert json.loads((model / "model.json").read_text(encoding="utf-8"))["training"]["steps"] == 8


def test_a_training_stopped_before_it_replaces_a_model_replaces_it_when_it_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same settings: without --overwrite the old model would be handed back."""
    model = tmp_path / "model"
    shutil.copytree(folder / "model", model)
    before = json.loads((model / "model.json").read_text(encoding="utf-8"))
    (model / "model.json").write_text(json.dumps(before | {"metadata": {"which": "the old one"}}), encoding="utf-8")
    options = ["--out", model, *training(folder)[2:], "--overwrite"]
    with monkeypatch.context() as patched:
        presses(patched, sys.modules["sn2nlib.denoiser.volumes"], "make_pair", 1)
        told = stopped(capsys, "train", folder / "scan.h5", *options)
    assert sn2n(*shlex.split(told.split("; to go on: ")[-1])[1:]) == 0
    assert "holds the finished training already" not in capsys.readouterr().out
    after = json.loads((model / "model.json").read_text(encoding="utf-8"))
    assert after["training"] == before["training"] and after["metadata"] == {}


def test_a_training_stopped_before_its_first_step_finds_the_prepared_scans_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, volumes = (sys.modules[f"sn2nlib.denoiser.{name}"] for name in ("train", "volumes"))
    model, scan = tmp_path / "model", folder / "scan.h5"
    options = ["--out", model, *training(folder, steps=1)[2:]]
    for memory, said in (
        ((), "and leaves nothing half-written; to run it again: "),
        (("--memory", 0), f"after the scans were prepared, and {model / 'volumes'} keeps them; to go on: "),
    ):
        with monkeypatch.context() as patched:
            presses(patched, loop, "_begin", 1)
            told = stopped(capsys, "train", scan, *options, *memory)
        assert f"train was stopped {said}" in told
    for chain in ("make_pair", "image_pair"):
        monkeypatch.setattr(volumes, chain, lambda *_, **__: pytest.fail("reconstructed again"))
    assert sn2n(*shlex.split(told.split("; to go on: ")[-1])[1:]) == 0
    assert not (model / "volumes").exists()


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line_too(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = nib.load(folder / "image.nii.gz").get_fdata(dtype=np.float32)
    nib.save(nib.Nifti1Image(values, None), tmp_path / "in.nii")
    capsys.readouterr()
    assert sn2n("denoise", tmp_path / "in.nii", tmp_path / "out.nii", "--model", folder / "model") == 0
    told = capsys.readouterr().err
    assert told.startswith("sn2n: warning: ") and "does not say how it lies" in told and told.count("\n") == 1


def test_the_traceback_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SN2N_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        cli.main(["inspect", "no.h5"])


def test_wrong_options_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert sn2n("denoise", "a.nii", "b.nii", "--model", "m", "--alpha", 2) == 2
    assert "alpha" in capsys.readouterr().err
    assert sn2n("recon") == 2
    evaluate = ("evaluate", "a.nii", "b.nii", "--model", "m", "--out", "t.csv", "--name", "A")
    assert sn2n(*evaluate) == 2 and sn2n(*evaluate, "--name", "A") == 2
    assert "2 heads need as many names, all different, got A, A" in " ".join(capsys.readouterr().err.split())


def test_an_option_of_several_numbers_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    simulate, evaluate = ("simulate", "a.nii", "b.h5"), ("evaluate", "a.nii", "--model", "m", "--out", "t.csv")
    for arguments, told in (
        ((*simulate, "--acceleration", 2), "2 numbers with spaces between them, RY RZ, such as --acceleration 2 1"),
        ((*simulate, "--acceleration=2", "--coils", 4), "RY RZ, such as --acceleration 2 1"),
        ((*simulate, "--acceleration", "2x1", "--coils", 4), "RY RZ, such as --acceleration 2 1"),
        ((*simulate, "--matrix", 128, 160, "--seed", 2), "3 numbers with spaces between them, Z Y X, such as --matrix"),
        ((*simulate, "--partial-fourier", 0.7), "2 numbers with spaces between them, KY KZ, such as"),
        ((*simulate, "--voxel-size", 1), "Z Y X, such as --voxel-size 1.35 1.35 1.35"),
        ((*evaluate, "--matrix", "128,160,160"), "3 numbers with spaces between them, Z Y X"),
        (("recon", "a.h5", "b.nii", "--voxel-size", 1, "--halves"), "3 numbers with spaces between them, Z Y X"),
    ):
        assert sn2n(*arguments) == 2
        assert told in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert sn2n(*simulate, "--acceleration=2", 1, "--voxel-size", 1, "-1e0", 1) == 1  # the image is what is missing
    assert "there is no image a.nii" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["ismrmrd", "bart"])
def test_export_writes_what_is_read_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    pytest.importorskip("ismrmrd")
    scan, out = folder / "scan.h5", tmp_path / "scan.mrd"
    assert sn2n("export", scan, out, "--format", format) == 0
    back = scans.read_raw(out) if format == "ismrmrd" else scans.load_bart(out)
    np.testing.assert_array_equal(back.kspace, load_scan(scan).kspace)
    told = capsys.readouterr().out
    assert "Scan: " in told and ("scan.mrd.json" in told) == (format == "bart")
    assert sn2n("export", scan, out, "--format", format) == 1
    assert "exists; choose another name" in capsys.readouterr().err


def test_fetch_lists_and_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SN2N_DATA", str(tmp_path))
    assert sn2n("fetch") == 0
    told = capsys.readouterr().out
    assert "pulseq-brain-16ch" in told and "not on disk" in told and "MIT" in told
    assert "calgary-campinas" in told and "by hand" in told
    assert sn2n("fetch", "icbm152-t1") == 0
    assert "icbm152-t1: " in capsys.readouterr().out
    assert sn2n("fetch", "nothing") == 1
    assert "no source is called nothing; listed are" in capsys.readouterr().err
    assert sn2n("fetch", "m4raw") == 1
    assert "m4raw is to be got by hand: https://" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_same_scan_is_not_taken_twice(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, copy, out = folder / "scan.h5", tmp_path / "copy.h5", ("--out", tmp_path / "model")
    shutil.copy(scan, copy)
    for arguments, told in (
        ((scan, scan), "is given twice"),
        ((scan, copy), "are the same scan, which teaches nothing more"),
        ((scan, "--validation", scan), "is given twice; validation"),
        ((scan, folder / "other.h5", "--validation", copy), "are the same scan; validation and the choice of α need"),
    ):
        assert told in refused(1, capsys, "train", *arguments, *out)
    assert not (tmp_path / "model").exists()


def test_the_folder_of_a_model_is_looked_at_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(1, capsys, "train", folder / "scan.h5", "--out", folder / "other.h5")
    assert "other.h5 is a file, where a folder is to be written" in told


@pytest.mark.filterwarnings("default")
def test_what_cannot_be_as_asked_is_warned_of(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, scan, image = folder / "head.nii.gz", tmp_path / "scan.h5", tmp_path / "image.nii.gz"
    assert sn2n("simulate", head, scan, *GRID, "--acceleration", 3, 2) == 0
    folded = "R = 3×2 (ky×kz) folds 6 voxels onto each other, more than 4 coils can tell apart"
    assert folded in capsys.readouterr().err
    assert sn2n("recon", scan, image) == 0
    assert folded in capsys.readouterr().err
    assert sn2n("recon", scan, tmp_path / "again.nii.gz", "--memory", 0) == 0
    assert folded in capsys.readouterr().err
    small = ("--matrix", 48, 64, 64, "--voxel-size", 0.1, 0.1, 0.1, "--coils", 4)
    assert sn2n("simulate", head, tmp_path / "fine.h5", *small) == 0
    told = capsys.readouterr().err
    assert "48 × 64 × 64 at 0.1 × 0.1 × 0.1 mm (z, y, x) was asked for" in told
    assert "32 × 40 × 40 at 4 × 4 × 4 mm is made" in told and told.count("\n") == 1


def test_a_share_of_one_is_warned_of() -> None:
    outputs.warn_of_no_effect(0.95)
    with pytest.warns(UserWarning, match="the model changes nothing"):
        outputs.warn_of_no_effect(1.0)


@pytest.mark.filterwarnings("default")
def test_a_denoised_image_says_so_and_is_not_denoised_twice_unsaid(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, raw, image = ("--model", folder / "model"), tmp_path / "raw.nii.gz", tmp_path / "image.nii.gz"
    assert sn2n("denoise", folder / "scan.h5", raw, *model) == 0
    assert sn2n("denoise", folder / "image.nii.gz", image, *model) == 0
    assert "already" not in capsys.readouterr().err
    for path in (raw, image):
        assert nib.load(path).header["descrip"].item().startswith(b"sN2N: ")
        assert sn2n("denoise", path, tmp_path / "twice.nii.gz", *model, "--overwrite") == 0
        assert f"{path} was denoised by this package already" in capsys.readouterr().err


def test_options_of_raw_files_are_refused_for_images(folder: Path, tmp_path: Path, capsys: Any) -> None:
    model, out, reference = ("--model", folder / "model"), tmp_path / "out.nii.gz", folder / "image.nii.gz"
    given = {
        "--measurement": (0,), "--contrast": (0,), "--repetition": (0,), "--repeat": (1,), "--average": (0,),
        "--slice": (0,), "--set": (0,), "--phase": (0,), "--keep-oversampling": (), "--no-noise-scan": (),
        "--no-regridding": (),
        "--voxel-size": (1, 1, 1), "--affine-from": (reference,), "--virtual-coils": (4,), "--compression": ("svd",),
        "--partial-fourier": ("zero",), "--memory": (1,),
    }  # fmt: skip
    dicom = tmp_path / "slice.dcm"
    dicom.write_bytes(bytes(128) + b"DICM")
    for image, target in ((reference, out), (dicom, tmp_path / "series"), (tmp_path, tmp_path / "series")):
        for name, values in given.items():
            told = refused(1, capsys, "denoise", image, target, *model, name, *values)
            assert f"{image}: {name}: for reading a raw file and reconstructing it; this is an image already" in told
    told = refused(1, capsys, "denoise", reference, out, *model, "--partial-fourier", "pocs", "--virtual-coils", 4)
    assert ": --virtual-coils, --partial-fourier: for reading" in told
    options = parameters_of(typer.main.get_command(cli.app))
    known = {each.name: typed for name, typed, each in options if name == "sn2n denoise"}
    assert list(given) == [known[name] for name in cli_options.RAW]
    for name in (known[name] for name in cli_options.READING):  # what a scan file does not take either
        used = ("--halves", "--pairing", "repetitions") if name == "--repeat" else ()
        told = refused(1, capsys, "recon", folder / "scan.h5", out, name, *given[name], *used)
        assert f"scan.h5: {name}: for twix and ISMRMRD files" in told
    assert not out.exists()


@pytest.mark.filterwarnings("default")
def test_maps_and_half_images_are_not_denoised_unsaid(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, sd, g = (tmp_path / f"{name}.nii.gz" for name in ("image", "sd", "g"))
    options = ("--halves", "--noise-map", sd, "--raw-filter", 0.25)
    assert sn2n("recon", folder / "scan.h5", image, *options) == 0
    assert sn2n("recon", folder / "scan.h5", tmp_path / "plain.nii.gz", "--halves", "--g-factor", g) == 0
    half, filtered = "is a half image, made of half of what was acquired", "was reconstructed with a raw filter"
    for name, expected in (
        ("plain", []), ("image", [filtered]), ("sd", ["is a noise map, which holds no noise"]),
        ("sd_half", ["is a noise map, which holds no noise"]), ("g_half", ["is a g-factor map, which holds no noise"]),
        ("plain_half_a", [half]), ("image_half_b", [half, filtered]),
    ):  # fmt: skip
        given = tmp_path / f"{name}.nii.gz"
        capsys.readouterr()
        assert sn2n("denoise", given, tmp_path / "out.nii", "--model", folder / "model", "--overwrite") == 0
        told = capsys.readouterr().err.splitlines()
        assert len(told) == len(expected)
        for line, words in zip(told, expected, strict=True):
            assert line.startswith(f"sn2n: warning: {given} {words}")


def test_damaged_values_are_told_with_their_place(folder: Path, tmp_path: Path, capsys: Any) -> None:
    given = nib.load(folder / "image.nii.gz")
    values = given.get_fdata(dtype=np.float32)
    values[3, 4, 5] = values[30, 4, 5] = np.nan
    path = tmp_path / "in.nii.gz"
    nib.save(nib.Nifti1Image(values, given.affine), path)
    told = refused(1, capsys, "denoise", path, tmp_path / "out.nii.gz", "--model", folder / "model")
    place = f"NaN or Inf in 2 of {values.size} voxels, the first at (i, j, k) = (3, 4, 5); replace them, for example"
    assert f"{path}: holds {place} by 0 outside the head" in told
