"""Training volumes on disk: the same numbers, the same weights, nothing half-written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sn2nlib.denoiser import (
    TrainingVolume,
    best_alphas,
    coarser_pair,
    fit_alpha,
    load_volume,
    prepare_scans,
    remove_prepared,
    save_volume,
    slices,
    sweep_alpha,
    train,
    training_volume,
    with_coarser,
)
from sn2nlib.denoiser import volumes as module
from sn2nlib.denoiser.apply import ALPHAS
from sn2nlib.denoiser.volumes import HALVES, PreparedScan
from sn2nlib.errors import ImageError, ScanError, Stopped
from sn2nlib.fourier import fft
from sn2nlib.recon import make_pair
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans import Scan, export_scan, load_scan, save_scan
from sn2nlib.scans.needs import memory_at_once
from sn2nlib.scans.stream import read_header

TINY: dict[str, Any] = {"width": 4, "depth": 1, "patch": 16, "batch": 4, "steps": 12, "progress": False}
pytestmark = pytest.mark.filterwarnings("ignore:the median g-factor")  # four coils of random numbers


def scan_file(path: Path, seed: int = 0, **extra: Any) -> Path:
    """Four coils with independent random weights, a bright box, R = 2×1."""
    rng = np.random.default_rng(seed)
    shape = (4, 12, 28, 26)
    image = np.zeros(shape[1:])
    image[2:10, 5:22, 6:20] = 60 + 20 * rng.random((8, 17, 14))
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[1:]), indexing="ij")
    maps = [np.exp(-((grid[1] - a) ** 2 + (grid[0] - b) ** 2) + 1j * a) for a, b in
            ((-1, -1), (1, -1), (-1, 1), (1, 1))]
    noise = rng.standard_normal((2, *shape))
    clean = fft(np.array(maps) * image)
    mask = lattice_mask(shape[1:3], acceleration=(2, 1), acs=16)
    kspace = ((clean + noise[0] + 1j * noise[1]) * mask[:, :, None]).astype(np.complex64)
    save_scan(Scan(kspace, mask, acceleration=(2, 1), **extra), path, overwrite=True)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [scan_file(tmp_path / f"scan{seed}.h5", seed) for seed in range(2)]


def same(first: TrainingVolume, second: TrainingVolume) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in module.ARRAYS)


def test_what_is_stored_is_what_was_prepared(files: list[Path], tmp_path: Path) -> None:
    (scan,) = prepare_scans(files[:1], folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    save_volume(scan, tmp_path / "stored")
    stored = load_volume(tmp_path / "stored")
    assert isinstance(stored.half_a, np.memmap) and stored.half_a.dtype == np.float32
    assert same(stored, scan) and stored.fingerprint() == scan.fingerprint()
    with pytest.raises(FileExistsError, match="exists"):
        save_volume(scan, tmp_path / "stored")


@pytest.mark.parametrize("memory_limit", [None, 0])
def test_a_warning_names_the_scan_that_it_is_about(
    tmp_path: Path, memory_limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two scans with the same numbers, both are named, and no more than once."""
    monkeypatch.setattr("sn2nlib.recon.pairs.MAX_HALF_G", 0.0)
    paths = [scan_file(tmp_path / name) for name in ("one.h5", "two.h5")]
    with pytest.warns(UserWarning, match="the median g-factor of a half image") as caught:
        prepare_scans(paths, folder=tmp_path / "volumes", memory_limit=memory_limit)
    told = [str(warning.message).partition("the median")[0] for warning in caught]
    assert told == ["one.h5: ", "two.h5: "]


def test_training_on_memory_maps_ends_with_the_same_weights(files: list[Path], tmp_path: Path) -> None:
    models = []
    for name in ("memory", "disk"):
        scans = prepare_scans(files, folder=tmp_path / "none")
        if name == "disk":
            for number, scan in enumerate(scans):
                save_volume(scan, tmp_path / f"pair{number}")
            scans = [load_volume(tmp_path / f"pair{number}") for number in range(2)]
        train(scans[:1], validation=scans[1:], out=tmp_path / name, **TINY)
        fit_alpha(tmp_path / name, {"held out": scans[1]})
        models.append(load_file(tmp_path / name / "model.safetensors"))
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert (tmp_path / "memory" / "model.json").read_text().count('"alpha"') == 1


def test_scans_beyond_the_limit_go_through_files(files: list[Path], tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "volumes"
    whole = prepare_scans(files, folder=folder)
    small = prepare_scans(files, folder=folder, memory_limit=0, virtual_coils=4)
    entries = sorted(entry.name for entry in folder.iterdir())
    assert len(entries) == 2 and all(name.startswith("pair-") and "scan" not in name for name in entries)
    for one, other in zip(small, whole, strict=True):  # four virtual coils of four lose nothing
        assert isinstance(one.half_a, np.memmap) and not isinstance(other.half_a, np.memmap)
        assert np.allclose(one.half_a, other.half_a, atol=1e-3) and np.allclose(one.original, other.original, atol=1e-3)
    # a second call finds them, and other options do not
    monkeypatch.setattr(module, "image_pair", lambda *_, **__: pytest.fail("made again"))
    again = prepare_scans(files, folder=folder, memory_limit=0, virtual_coils=4)
    assert all(same(one, other) for one, other in zip(again, small, strict=True))
    with pytest.raises(pytest.fail.Exception, match="made again"):
        prepare_scans(files, folder=folder, memory_limit=0)
    (folder / "other.txt").touch()
    remove_prepared(folder)
    assert [entry.name for entry in folder.iterdir()] == ["other.txt"]


@pytest.mark.parametrize("options", [{}, {"partial_fourier": "homodyne", "virtual_coils": 3}])
def test_pairs_beyond_the_limit_are_those_made_in_memory(
    files: list[Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = prepare_scans(files, folder=tmp_path / "volumes", coarser=(0.8,), **options)
    stored = prepare_scans(files, folder=tmp_path / "volumes", coarser=(0.8,), memory_limit=0, **options)
    for one, other in zip(with_coarser(stored), with_coarser(whole), strict=True):
        for name in ("original", *HALVES) if isinstance(one, PreparedScan) else HALVES:
            value, wanted = getattr(one, name), getattr(other, name)
            assert value.dtype == wanted.dtype == np.float32
            assert np.abs(value - wanted).max() < 1e-5 * np.abs(wanted).max(), name


def test_coarser_copies_of_what_is_learnt_from(files: list[Path], tmp_path: Path, monkeypatch: Any) -> None:
    folder, shares = tmp_path / "volumes", (0.8, 0.6)
    wanted = [training_volume(coarser_pair(make_pair(load_scan(files[0])), share)) for share in shares]
    options: dict[str, Any] = {"folder": folder, "held_out": files[1:], "coarser": shares}
    whole = prepare_scans(files[:1], **options)
    stored = prepare_scans(files[:1], memory_limit=0, **options)
    for learnt, held_out in (whole, stored):
        assert held_out.coarser == () and len(learnt.coarser) == 2
        assert [volume.half_a.shape for volume in with_coarser([learnt, held_out])] == [
            (12, 28, 26), (10, 22, 21), (7, 17, 16), (12, 28, 26)
        ]  # fmt: skip
        for found, expected in zip(learnt.coarser, wanted, strict=True):
            for name in ("half_a", "half_b", "variance"):
                np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-3)
    assert isinstance(stored[0].coarser[1].variance, np.memmap)
    monkeypatch.setattr(module, "image_pair", lambda *_, **__: pytest.fail("made again"))
    again = prepare_scans(files[:1], memory_limit=0, **options)
    assert [copy.fingerprint() for copy in again[0].coarser] == [copy.fingerprint() for copy in stored[0].coarser]
    with pytest.raises(pytest.fail.Exception, match="made again"):
        prepare_scans(files[:1], memory_limit=0, **options | {"coarser": (0.7,)})
    with pytest.raises(ImageError, match=r"share of k-space above 0 and at most 1, not 1\.2"):
        prepare_scans(files[:1], **options | {"coarser": (1.2,)})
    remove_prepared(folder)
    assert not folder.exists()


def test_many_scans_that_fit_one_by_one_are_stored_too(files: list[Path], tmp_path: Path) -> None:
    one = prepare_scans(files[:1], folder=tmp_path / "volumes")[0]
    header = read_header(files[0])
    limit = memory_at_once(header.shape, header.n_coils) + header.nbytes  # enough for one reconstruction
    scans = prepare_scans(files * 8, folder=tmp_path / "volumes", memory_limit=limit)
    assert len(scans) == 16 and len(list((tmp_path / "volumes").iterdir())) == 2
    assert same(scans[0], one)  # from the chain in memory, bit by bit


@pytest.mark.parametrize("told", ["No space left on device", "262144 requested and 153568 written"])
def test_nothing_half_written_stays_behind(
    told: str, files: list[Path], tmp_path: Path, monkeypatch: Any
) -> None:
    (scan,) = prepare_scans(files[:1], folder=tmp_path)
    saved = np.save

    def full(path: Path, array: np.ndarray) -> None:
        if path.name == "half_b.npy":
            raise OSError(told)  # as NumPy does, without a number and without the file's name
        saved(path, array)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match=r"The disk is full; .*new.volume was not written"):
        save_volume(scan, tmp_path / "new" / "volume")
    assert not any((tmp_path / "new").iterdir())


def test_ctrl_c_keeps_the_scans_before_and_no_empty_folders(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, own = tmp_path / "model" / "volumes", module.image_pair
    for place, kept in ((0, "nothing of it is kept"), (1, f"{folder} keeps those before it")):

        def pressed(path: Path, *, stops: Path = files[place], **options: Any) -> Any:
            if path == stops:
                raise KeyboardInterrupt
            return own(path, **options)

        monkeypatch.setattr(module, "image_pair", pressed)
        with pytest.raises(Stopped, match=f"^while scan {place + 1} of {len(files)} was reconstructed, and {kept}$"):
            prepare_scans(files, folder=folder, memory_limit=0)
        assert folder.parent.exists() == bool(place)
        assert len(list(folder.glob("*"))) == place


def test_a_raw_file_larger_than_the_memory_teaches_the_same(files: list[Path], tmp_path: Path) -> None:
    export_scan(load_scan(files[0]), tmp_path / "raw.mrd")
    (wanted,) = prepare_scans([tmp_path / "raw.mrd"], folder=tmp_path / "first")
    (found,) = prepare_scans([tmp_path / "raw.mrd"], folder=tmp_path / "second", memory_limit=0)
    for name in module.ARRAYS:
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-4, atol=1e-5)
    assert [entry.name[:5] for entry in (tmp_path / "second").iterdir()] == ["pair-"]  # the scan file is gone


def test_a_damaged_folder_is_told(files: list[Path], tmp_path: Path) -> None:
    (scan,) = prepare_scans(files[:1], folder=tmp_path)
    save_volume(scan, tmp_path / "stored")
    (tmp_path / "stored" / "half_b.npy").write_bytes(b"no array")
    with pytest.raises(ImageError, match="holds no whole training volume"):
        load_volume(tmp_path / "stored")


def test_what_must_not_be_trained_on_is_refused(tmp_path: Path) -> None:
    path = scan_file(tmp_path / "scan.h5", not_for_training="it was interpolated")
    for memory_limit in (None, 0):
        with pytest.raises(ScanError, match="it was interpolated"):
            prepare_scans([path], folder=tmp_path / "volumes", memory_limit=memory_limit)


def test_the_variance_does_not_depend_on_the_slabs(files: list[Path], monkeypatch: Any) -> None:
    pair = make_pair(load_scan(files[0]))
    whole = training_volume(pair).variance
    monkeypatch.setattr(slices, "_SLAB", 5)
    assert np.allclose(training_volume(pair).variance, whole, rtol=1e-6)


def test_alpha_of_repetitions_follows_from_the_halves_alone(tmp_path: Path) -> None:
    scans = [load_scan(scan_file(tmp_path / "scan.h5", seed)) for seed in (1, 1)]
    noisy = scans[1].kspace + np.random.default_rng(5).standard_normal(scans[1].kspace.shape).astype(np.float32)
    repeat = (noisy * scans[1].mask[:, :, None]).astype(np.complex64)
    save_scan(replace(scans[0], repeat=repeat), tmp_path / "repeated.h5")
    (scan,) = prepare_scans([tmp_path / "repeated.h5"], folder=tmp_path / "volumes", pairing="repetitions")
    assert scan.pairing == "repetitions" and np.array_equal(scan.original, scan.half_a)
    denoiser = train([scan], out=tmp_path / "model", **TINY)
    assert denoiser.alpha is None
    alpha = fit_alpha(tmp_path / "model", {"scan": scan})
    answers = [denoiser.network_output(half, scale=1.0) for half in (scan.half_a, scan.half_b)]
    table = sweep_alpha(
        "scan", alphas=ALPHAS, original=scan.original, output=answers[0], half_a=scan.half_a, half_b=scan.half_b,
        output_a=answers[0], output_b=answers[1],
    )
    assert alpha == best_alphas(table)["half_to_half"]
    assert best_alphas(table)["original_to_half"] == 1  # against itself: what must not count
