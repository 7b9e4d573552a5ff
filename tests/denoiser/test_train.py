"""Training on pairs with a known truth; the same bits after a kill; what is found in a folder."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter

from sn2nlib.denoiser import Denoiser, TrainingVolume, rician_variance, set_alpha, train, training_volume
from sn2nlib.denoiser import train as train_function
from sn2nlib.errors import CheckpointError, ImageError, Sn2nError, Stopped

train_module = sys.modules[train_function.__module__]
TINY: dict[str, Any] = {"width": 4, "depth": 1, "patch": 16, "batch": 4, "steps": 20, "progress": False}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def equal(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


def mean_squared(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean((image - truth) ** 2))


def test_two_noisy_halves_teach_the_network_the_truth(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def scan() -> tuple[SimpleNamespace, np.ndarray]:
        truth = np.where(gaussian_filter(rng.standard_normal((16, 48, 48)), 3) > 0, 1.0, 0.5)
        a, b = (
            truth + 0.1 * (rng.standard_normal(truth.shape) + 1j * rng.standard_normal(truth.shape))
            for _ in range(2)
        )
        sd = np.full(truth.shape, 0.1)
        return SimpleNamespace(
            original=(a + b) / 2, half_a=a, half_b=b, scale=1.0, noise_sd=sd / np.sqrt(2), noise_sd_half=sd
        ), truth

    pairs = [scan()[0] for _ in range(3)]
    test, truth = scan()
    denoiser = train(
        [training_volume(pair) for pair in pairs], validation=[training_volume(test)], out=tmp_path,
        steps=200, width=8, depth=2, patch=32, batch=4, learning_rate=5e-3, ema=0.98, progress=False,
    )
    half, original = np.abs(test.half_a), np.abs(test.original)
    assert mean_squared(denoiser.network_output(half, scale=1), truth) < 0.5 * mean_squared(half, truth)
    better = mean_squared(denoiser.network_output(original, scale=1), truth)
    assert better < 0.8 * mean_squared(original, truth)
    rows = history(tmp_path)
    assert rows["step"].iloc[-1] == 200 and len(rows) == 100
    assert rows["validation_loss"].notna().sum() == 20 == rows["validation_floor"].notna().sum()
    # σ² times the mean square of intensity factors that are log-uniform between 0.7 and 1.4
    factors = np.exp(np.linspace(np.log(0.7), np.log(1.4), 1001))
    assert rows["noise_floor"].mean() == pytest.approx(0.01 * np.mean(factors**2), rel=0.05)
    last = rows["validation_loss"].iloc[-1] / rows["validation_floor"].iloc[-1]
    assert 1 < last < 1.5, "the identity would leave twice the floor"


@pytest.mark.parametrize(
    ("signal", "loss", "steps"), [(1.0, "l2", 200), (0.0, "l2", 120), (0.0, "l1", 100)]
)
def test_where_there_is_only_noise_the_loss_comes_down_to_the_floor(
    tmp_path: Path, signal: float, loss: Any, steps: int
) -> None:
    rng = np.random.default_rng(0)
    half_a, half_b = (
        np.abs(signal + 0.2 * (rng.standard_normal((12, 40, 40)) + 1j * rng.standard_normal((12, 40, 40))))
        for _ in range(2)
    )
    variance = rician_variance(np.full(half_a.shape, signal), np.array(0.2))
    volume = TrainingVolume(*(array.astype(np.float32) for array in (half_a, half_b, variance)))
    train(
        [volume], out=tmp_path, steps=steps, width=16, depth=2, patch=40, batch=4, learning_rate=5e-3,
        loss=loss, progress=False,
    )
    rows = history(tmp_path)
    ratio = rows["loss"] / rows["noise_floor"]
    assert ratio.iloc[0] > 1.35  # the identity: √2 or 2
    assert 0.96 < ratio.iloc[-20:].mean() < 1.08


@pytest.mark.parametrize(
    "options",
    [{}, {"precision": "bfloat16", "balance": True, "loss": "l1", "bias": True, "unshuffle": 2, "extra_noise": 0.1}],
)
def test_a_killed_training_ends_with_the_same_bits(
    tmp_path: Path, volumes: list[TrainingVolume], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    through, killed = tmp_path / "through", tmp_path / "killed"
    common: dict[str, Any] = {**TINY, **options, "validation": volumes[:1], "checkpoint_every": 7}
    train(volumes, out=through, **common)
    step = train_module._step

    def dies(state: Any, *args: Any) -> None:
        if state.step == 12:
            raise KeyboardInterrupt
        step(state, *args)

    with monkeypatch.context() as patched:
        patched.setattr(train_module, "_step", dies)
        with pytest.raises(KeyboardInterrupt):
            train(volumes, out=killed, **common)
    left = {path.name for path in killed.iterdir()}
    assert left == {"checkpoint.safetensors", "checkpoint.json", "history.csv"}
    assert history(killed)["step"].iloc[-1] == 7
    train(volumes, out=killed, **common)
    assert equal(through, killed)
    pd.testing.assert_frame_equal(history(through), history(killed), check_exact=True)
    assert {path.name for path in killed.iterdir()} == {"model.safetensors", "model.json", "history.csv"}


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Presses Ctrl+C, which does what it does in a terminal, however the tests were started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("presses", "kept"), [(1, "after step 13 of 20, and {out} keeps step 13"),
                                               (2, "after step 12 of 20, and {out} keeps step 7")])  # fmt: skip
def test_ctrl_c_waits_for_the_step_and_keeps_it_and_the_second_one_does_not(
    tmp_path: Path, volumes: list[TrainingVolume], monkeypatch: pytest.MonkeyPatch, ctrl_c: Callable[[], None],
    presses: int, kept: str,
) -> None:  # fmt: skip
    through, out = tmp_path / "through", tmp_path / "stopped"
    common: dict[str, Any] = {**TINY, "checkpoint_every": 7}
    train(volumes, out=through, **common)
    step = train_module._step

    def pressed(state: Any, *args: Any) -> None:
        if state.step == 12:
            for _ in range(presses):
                ctrl_c()
        step(state, *args)

    with monkeypatch.context() as patched:
        patched.setattr(train_module, "_step", pressed)
        with pytest.raises(Stopped, match=re.escape(kept.format(out=out))):
            train(volumes, out=out, **common)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert {path.name for path in out.iterdir()} == {"checkpoint.safetensors", "checkpoint.json", "history.csv"}
    train(volumes, out=out, **common)
    assert equal(through, out)
    pd.testing.assert_frame_equal(history(through), history(out), check_exact=True)


def test_the_seed_decides(tmp_path: Path, volumes: list[TrainingVolume]) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(volumes, out=tmp_path / name, **{**TINY, "steps": 3}, seed=seed)
    assert equal(tmp_path / "a", tmp_path / "b") and not equal(tmp_path / "a", tmp_path / "c")


def test_the_caller_notices_nothing(tmp_path: Path, volumes: list[TrainingVolume]) -> None:
    def surroundings() -> tuple[Any, ...]:
        return (
            torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate(),  # noqa: NPY002
            torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,
            torch.is_grad_enabled(), torch.get_num_threads(),
        )

    before, arrays = surroundings(), [volume.half_a.copy() for volume in volumes]
    train(volumes, out=tmp_path, **{**TINY, "steps": 2})
    assert surroundings() == before
    assert all(np.array_equal(kept, volume.half_a) for kept, volume in zip(arrays, volumes, strict=True))


def test_a_finished_training_is_not_repeated(
    tmp_path: Path, volumes: list[TrainingVolume], capsys: pytest.CaptureFixture[str]
) -> None:
    train(volumes, out=tmp_path, **TINY)
    assert capsys.readouterr().out == ""
    written = (tmp_path / "model.safetensors").stat().st_mtime_ns
    train(volumes, out=tmp_path, **{**TINY, "progress": True})
    assert "finished training already" in capsys.readouterr().out
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(CheckpointError, match=r"other settings or scans \(steps: 20 there, 21 now\)"):
        train(volumes, out=tmp_path, **{**TINY, "steps": 21})
    with pytest.raises(CheckpointError, match=r"scans: \['12x40x33"):
        train(volumes[:1], out=tmp_path, **TINY)
    train(volumes[:1], out=tmp_path, **{**TINY, "progress": True}, resume="matching")
    assert "step 20 of 20, loss" in capsys.readouterr().out
    assert len(Denoiser.load(tmp_path).description["training"]["scans"]) == 1
    train(volumes, out=tmp_path, **TINY, resume=False)
    assert len(Denoiser.load(tmp_path).description["training"]["scans"]) == 2


def test_fine_tuning_begins_with_another_model(tmp_path: Path, volumes: list[TrainingVolume]) -> None:
    train(volumes, out=tmp_path / "first", **TINY)
    still = {**TINY, "steps": 1, "learning_rate": 1e-30}
    options: dict[str, Any] = {**still, "start_from": tmp_path / "first", "metadata": {"site": 3}}
    tuned = train(volumes, out=tmp_path / "tuned", **options)
    assert equal(tmp_path / "first", tmp_path / "tuned")
    assert tuned.description["metadata"] == {"site": 3}
    assert tuned.description["training"]["start_from"] is not None
    with pytest.raises(CheckpointError, match=r"another architecture \(width: 4 there, 5 now\)"):
        train(volumes, out=tmp_path / "new", start_from=tmp_path / "first", **{**TINY, "width": 5})


def test_fine_tuning_takes_over_size_alpha_and_mirrors(tmp_path: Path, volumes: list[TrainingVolume]) -> None:
    train(volumes, out=tmp_path / "first", mirrors=2, **TINY, slices=5)
    set_alpha(tmp_path / "first", 0.4)
    short = {name: value for name, value in TINY.items() if name not in ("width", "depth")} | {"steps": 2}
    tuned = train(volumes[:1], out=tmp_path / "tuned", start_from=tmp_path / "first", **short)
    assert tuned.network.architecture == Denoiser.load(tmp_path / "first").network.architecture
    assert (tuned.alpha, tuned.mirrors) == (0.4, 2)
    assert tuned.description["training"]["learning_rate"] == train_module.TUNING_RATE
    other = train(volumes[:1], out=tmp_path / "other", start_from=tmp_path / "first", mirrors=1, **short)
    assert other.mirrors == 1
    new = train(volumes[:1], out=tmp_path / "new", **{**TINY, "steps": 1})
    assert new.alpha is None and new.mirrors == 1
    assert new.description["training"]["learning_rate"] == train_module.FIRST_RATE
    for resume in (True, False, "matching"):
        with pytest.raises(CheckpointError, match="the model to start from, which is never replaced"):
            train(volumes, out=tmp_path / "first", start_from=tmp_path / "first", resume=resume, **short)
    assert Denoiser.load(tmp_path / "first").alpha == 0.4


def sequence(rng: np.random.Generator, *, walls: bool, sd: float = 0.1) -> tuple[SimpleNamespace, np.ndarray]:
    """A pair and its truth: plain bright tissue with darker regions, or thin bright walls in the dark."""
    shape = (16, 48, 48)
    smooth = gaussian_filter(rng.standard_normal(shape), 3)
    truth = np.where(np.abs(smooth) < 0.3 * smooth.std(), 1.0, 0.4) if walls else np.where(smooth > 0, 1.0, 0.6)
    a, b = (truth + sd * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) for _ in range(2))
    maps = np.full(shape, sd)
    pair = SimpleNamespace(
        original=(a + b) / 2, half_a=a, half_b=b, scale=1.0, noise_sd=maps / np.sqrt(2), noise_sd_half=maps
    )
    return pair, truth


def test_a_few_scans_of_another_sequence_are_enough_to_fine_tune(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    common: dict[str, Any] = {"patch": 32, "batch": 4, "ema": 0.98, "progress": False, "width": 8, "depth": 2}
    plain = [training_volume(sequence(rng, walls=False)[0]) for _ in range(3)]
    few = [training_volume(sequence(rng, walls=True)[0]) for _ in range(2)]
    test, truth = sequence(rng, walls=True)
    train(plain, out=tmp_path / "first", steps=150, learning_rate=5e-3, **common)
    train(few, out=tmp_path / "alone", steps=60, learning_rate=5e-3, **common)
    train(few, out=tmp_path / "tuned", steps=60, learning_rate=5e-3, start_from=tmp_path / "first", **common)
    half = np.abs(test.half_a)
    error = {
        name: mean_squared(Denoiser.load(tmp_path / name).network_output(half, scale=1), truth)
        for name in ("first", "alone", "tuned")
    }
    assert error["tuned"] < 0.9 * error["first"] < 0.9 * mean_squared(half, truth)
    assert error["tuned"] < 0.95 * error["alone"]


def test_extra_noise_prepares_for_noisier_scans_and_leaves_the_floor(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scans = [training_volume(sequence(rng, walls=False, sd=0.03)[0]) for _ in range(3)]
    test, truth = sequence(rng, walls=False, sd=0.03)
    noise = rng.standard_normal((2, *truth.shape))
    noisier = np.abs(test.half_a + 0.2 * (noise[0] + 1j * noise[1]))
    error, rows = {}, {}
    for name, extra in (("without", 0.0), ("with", 0.3)):
        denoiser = train(
            scans, out=tmp_path / name, steps=150, extra_noise=extra, patch=32, batch=4, learning_rate=5e-3, ema=0.98,
            progress=False, width=8, depth=2,
        )
        error[name] = mean_squared(denoiser.network_output(noisier, scale=1), truth)
        rows[name] = history(tmp_path / name)
        assert denoiser.description["training"].get("extra_noise", 0) == extra
    assert error["with"] < 0.75 * error["without"] < mean_squared(noisier, truth)
    # the target, and what noise leaves of the loss, are the same; the loss itself is not
    np.testing.assert_array_equal(rows["with"]["noise_floor"], rows["without"]["noise_floor"])
    assert (rows["with"]["loss"] > rows["with"]["noise_floor"]).all()
    assert "extra_noise" not in Denoiser.load(tmp_path / "without").description["training"]  # as models before it


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "l3"}, "loss is 'l3'"), ({"precision": "half"}, "precision is 'half'"),
        ({"steps": 0}, "at least 1"), ({"extra_noise": -0.1}, "extra noise .* at least 0, not -0.1"),
        ({"ema": 1.0}, "ema, the decay of the average of weights, is at least 0 and below 1, not 1"),
        ({"learning_rate": 0.0}, r"^--learning-rate is a number above 0, such as 0\.001, not 0$"),
        ({"learning_rate": float("nan")}, "--learning-rate is a number above 0, .* not nan"),
        ({"learning_rate": 1e30, "steps": 9}, "the loss is .* take a smaller --learning-rate"),
    ],
)
def test_wrong_options_are_told(
    tmp_path: Path, volumes: list[TrainingVolume], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(Sn2nError, match=message):
        train(volumes, out=tmp_path, **{**TINY, **options})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_the_first_step(
    tmp_path: Path, volumes: list[TrainingVolume], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And before a model that is to be replaced is removed."""
    train(volumes, out=tmp_path / "old", **TINY)
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**10))
    message = r"The disk is full; checkpoints in .*{} need 0\.\d MiB, 0\.0 MiB are free"
    for name, resume in (("new", True), ("old", False), ("old", "matching")):
        with pytest.raises(OSError, match=message.format(name)):
            train(volumes, out=tmp_path / name, **{**TINY, "steps": 8}, resume=resume)  # type: ignore[arg-type]
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before
    assert not (tmp_path / "new").exists()


def test_without_scans_nothing_begins(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no scan to draw windows from"):
        train([], out=tmp_path, **TINY)


def test_a_pair_is_no_training_volume(tmp_path: Path, volumes: list[TrainingVolume]) -> None:
    pair = SimpleNamespace(half_a=volumes[0].half_a, half_b=volumes[0].half_b)
    for scans in ({"volumes": [*volumes, pair]}, {"volumes": volumes, "validation": [pair]}):
        with pytest.raises(ImageError, match=r"not SimpleNamespace; training_volume\(pair\) makes one"):
            train(**scans, out=tmp_path, **TINY)


@pytest.mark.parametrize(("balance", "lowest", "highest"), [(False, 0.3, 0.8), (True, 0.93, 1.03)])
def test_balance_listens_to_the_cleaner_scan(
    tmp_path: Path, balance: bool, lowest: float, highest: float
) -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.uniform(0.5, 1.5, (3, 12, 24, 24)).astype(np.float32)
    # the halves look alike in both scans; the first asks for the identity, the second, 100 times noisier, for
    # the mean: with one say each, the network meets them in between
    clean = TrainingVolume(a, a, np.full(a.shape, 0.001, np.float32))
    noisy = TrainingVolume(b, c, np.full(a.shape, 0.1, np.float32))
    denoiser = train(
        [clean, noisy], out=tmp_path, balance=balance,
        **{**TINY, "steps": 250, "learning_rate": 5e-3, "ema": 0.97},
    )
    image = rng.uniform(0.5, 1.5, a.shape).astype(np.float32)
    slope = np.polyfit(image.ravel(), denoiser.network_output(image, scale=1).ravel(), 1)[0]
    assert lowest < slope < highest


WORKER = """
import sys, numpy as np
from sn2nlib.denoiser import TrainingVolume, train
rng = np.random.default_rng(0)
volume = TrainingVolume(*(rng.random((8, 20, 20), np.float32) for _ in range(3)))
train([volume], out=sys.argv[1], steps=6, batch=4, patch=16, width=4, depth=1, device="cpu", progress=False)
"""


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*launch, str(script), str(tmp_path / "two")], env=environment, check=True, timeout=120)
    rng = np.random.default_rng(0)
    volume = TrainingVolume(*(rng.random((8, 20, 20), np.float32) for _ in range(3)))
    train([volume], out=tmp_path / "one", **{**TINY, "steps": 6})
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5)
    losses = [history(tmp_path / name)["loss"] for name in ("one", "two")]
    np.testing.assert_allclose(*losses, rtol=1e-5)
