"""Noise2Noise training on pairs of half images, resumable bit by bit.

Weights, moments and history are stored together, and the windows of a step depend on (seed, step) alone: on one machine
with the same number of threads, a training that was killed and resumed ends with the same bits as one that ran through.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import distributed, nn

from sn2nlib.errors import CheckpointError, ImageError, Sn2nError, Stopped
from sn2nlib.provenance import provenance

from .apply import Denoiser
from .checkpoint import (
    CHECKPOINT_FILES,
    MODEL_FILES,
    TrainingState,
    check_room,
    difference,
    load_model,
    load_state,
    load_tensors,
    read_description,
    save_model,
    save_state,
)
from .history import (
    ROWS,
    VALIDATIONS,
    Batch,
    Progress,
    is_due,
    loss_and_floor,
    to_device,
    validate,
    validation_batches,
    write_history,
)
from .processes import agreed, deterministic, has_bfloat16, processes, stops_between_steps, total
from .slices import SliceWindows, TrainingVolume
from .unet import UNet25D

ARCHITECTURE: dict[str, Any] = {"width": 32, "depth": 3, "slices": 7, "bias": False, "unshuffle": 1}
FIRST_RATE, TUNING_RATE = 1e-3, 3e-4  # highest learning rate, of a new network and of a trained one
CLIP = 1.0  # largest norm of a gradient
SCALE_RULE = "99th percentile of the original's magnitude over the voxels above 10 % of its maximum"
Settings = dict[str, Any]


def train(
    volumes: Sequence[TrainingVolume], *, out: str | Path, steps: int,
    validation: Sequence[TrainingVolume] = (), width: int | None = None, depth: int | None = None,
    slices: int | None = None, unshuffle: int | None = None, bias: bool | None = None, batch: int = 8,
    patch: int = 96, transpose: bool = False, extra_noise: float = 0.0, learning_rate: float | None = None,
    ema: float = 0.999, loss: Literal["l2", "l1"] = "l2", balance: bool = False,
    seed: int = 0, device: str | None = None, precision: Literal["auto", "float32", "bfloat16"] = "float32",
    checkpoint_every: int = 200, resume: bool | Literal["matching"] = True,
    start_from: str | Path | None = None, mirrors: int | None = None, metadata: dict[str, Any] | None = None,
    progress: bool = True,
) -> Denoiser:
    """Train a 2.5D U-Net to predict one half from the other, both directions.

    Adam with linear warm-up and a cosine schedule, clipped gradients, and an exponential moving average of the weights,
    which is what the model consists of. Under `torchrun` every process takes its part of each batch.

    Parameters
    ----------
    volumes
        Training scans, from `training_volume`.
    out
        Model folder. Receives `model.safetensors`, `model.json`, `history.csv`, and a checkpoint while training.
    steps, batch, patch
        Length of the training, windows per step, width of a window in voxels, at most that of the smallest scan.
    validation
        Scans for the validation columns of the history; they do not influence the training.
    width, depth, slices, unshuffle, bias
        The network, see `UNet25D`. None: as in the model to start from, else 32, 3, 7, 1 and no bias.
    transpose, extra_noise
        Augment by exchanging y and x, and by noise on the input; see `SliceWindows`.
    learning_rate, ema
        Highest learning rate (None: 0.001, or 0.0003 to start from a model, which must not be forgotten); decay of the
        average of weights (shorter in the beginning).
    loss
        "l2" or "l1".
    balance
        Divide each window's loss by its predicted noise floor, so that noisy scans do not outweigh clean ones. The
        history shows the undivided loss.
    seed
        Decides initial weights and windows. Global random numbers are neither used nor changed.
    device
        As PyTorch names it; None: the GPU if there is one.
    precision
        "bfloat16": convolutions in bfloat16; weights stay float32. "auto": bfloat16 where the processor computes in it
        (AVX-512 BF16 or CUDA), twice as fast, else float32; the choice is kept in `model.json`.
    checkpoint_every
        Steps between checkpoints.
    resume
        True: continue what is found in `out`, or return it if finished; other settings or scans there are an error.
        "matching": continue if settings and scans are the same, else start anew. False: start anew.
    start_from
        Model folder to begin with: fine-tuning to a few scans of another sequence or scanner, on their own halves. The
        new model keeps that one's α until another is chosen.
    mirrors
        How many mirror images the model shall average when it is used, see `Denoiser`; no matter to the training. None:
        as the model to start from, else 1.
    metadata
        Stored in `model.json`.
    progress
        Print a line every 20 seconds, and beforehand one if the windows are smaller than asked for.

    Returns
    -------
    The trained model. `history.csv` has the columns step, loss, noise_floor, validation_loss, validation_floor,
    learning_rate, seconds. Loss and floor are means since the previous row; the floor is what remains when the
    prediction is perfect, over exactly the voxels that the loss sampled and with the square of their intensity factors
    (see `loss_and_floor`).

    Raises
    ------
    CheckpointError
        If `out` holds a training with other settings or scans, or a file there or in `start_from` is damaged.
    Sn2nError
        If there are no scans or they are no training volumes, an option is not one of those above, or the loss becomes
        NaN or infinite.
    Stopped
        At Ctrl+C, after the step that was running and a checkpoint of it; a second Ctrl+C does not wait for them.

    References
    ----------
    Lehtinen J, et al. Noise2Noise. ICML 2018.
    Kingma DP, Ba J. Adam. ICLR 2015.
    """
    out = Path(out)
    if strange := {type(each).__name__ for each in (*volumes, *validation) if not isinstance(each, TrainingVolume)}:
        raise ImageError(f"train takes training volumes, not {', '.join(strange)}; training_volume(pair) makes one")
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(device) else "float32"
    origin = None if start_from is None else _origin(start_from, out)
    asked = {"width": width, "depth": depth, "slices": slices, "bias": bias, "unshuffle": unshuffle}
    given = {name: value for name, value in asked.items() if value is not None}
    architecture = ARCHITECTURE | (origin["architecture"] if origin else {}) | given
    if learning_rate is None:
        learning_rate = TUNING_RATE if origin else FIRST_RATE
    windows = SliceWindows(
        volumes, patch=patch, slices=architecture["slices"], length=steps * batch, seed=seed, transpose=transpose,
        extra_noise=extra_noise,
    )
    settings = {
        **architecture, "steps": steps, "batch": batch, "patch": windows.patch, "transpose": transpose,
        "learning_rate": learning_rate, "ema": ema, "loss": loss, "balance": balance, "seed": seed,
        "precision": precision, "start_from": origin and str(origin.get("weights_sha256")),
        **({"extra_noise": extra_noise} if extra_noise else {}),  # models from before it stay what they are
        "scans": [volume.fingerprint() for volume in volumes],
        "validation_scans": [volume.fingerprint() for volume in validation],
    }
    _check(settings, checkpoint_every)
    with processes(device) as (rank, world, place), deterministic():
        if batch % world:
            raise Sn2nError(f"a batch of {batch} cannot be shared by {world} processes; use a multiple")
        fresh = agreed(_starts_anew(out, settings, resume) if rank == 0 else None, world=world)
        if fresh or not (out / "model.json").is_file():
            if progress and rank == 0:
                _tell_of_smaller_windows(windows, patch)
            state = _begin(architecture, seed=seed, start_from=start_from, device=place, world=world)
            if rank == 0:
                check_room(state, out)
            if not fresh:
                _continue(state, out, rank=rank)
            elif rank == 0:
                _clear(out)
            held_out = validation_batches(validation, patch=windows.patch, slices=windows.slices)
            _run(
                state, windows, held_out, settings, out=out, checkpoint_every=checkpoint_every,
                rank=rank, world=world, progress=progress and rank == 0,
            )
            if rank == 0:
                known = origin or {}
                use = {"alpha": known.get("alpha"), "mirrors": mirrors or known.get("mirrors", 1)}
                _finish(state, settings, architecture, out, use=use, metadata=metadata)
            if world > 1:
                distributed.barrier()
        elif progress and rank == 0:
            print(f"{out} holds the finished training already")
    return Denoiser.load(out, device=device)


def _tell_of_smaller_windows(windows: SliceWindows, patch: int) -> None:
    """Say so where a scan is narrower than the windows that were asked for."""
    if windows.patch < patch:
        rows, columns = min((volume.half_a.shape[1:] for volume in windows.volumes), key=min)
        print(
            f"Windows of {windows.patch} × {windows.patch} voxels, not the {patch} × {patch} asked for: of the scans "
            f"learnt from, the smallest has partitions of {rows} × {columns} (y, x)", flush=True,
        )


def _check(settings: Settings, checkpoint_every: int) -> None:
    allowed = {"loss": ("l2", "l1"), "precision": ("float32", "bfloat16")}
    for name, values in allowed.items():
        if settings[name] not in values:
            raise Sn2nError(f"{name} is {settings[name]!r}; it must be one of {', '.join(values)}")
    if min(settings["steps"], settings["batch"], settings["patch"], checkpoint_every) < 1:
        raise Sn2nError("steps, batch, patch and checkpoint_every must be at least 1")
    if not 0 < (rate := settings["learning_rate"]) < math.inf:
        raise Sn2nError(f"--learning-rate is a number above 0, such as {FIRST_RATE:g}, not {rate:g}")
    if not 0 <= settings["ema"] < 1:
        raise Sn2nError(f"ema, the decay of the average of weights, is at least 0 and below 1, not {settings['ema']:g}")


def _origin(start_from: str | Path, out: Path) -> Settings:
    """Description of the model to begin with; its weights are told by checksum, since folders may move."""
    if Path(start_from).resolve() == out.resolve():
        raise CheckpointError(f"{out} is the model to start from, which is never replaced; choose another folder")
    return read_description(start_from)


def _starts_anew(out: Path, settings: Settings, resume: bool | str) -> bool:
    """Whether to begin at step 0; on False, `out` holds a model or a checkpoint with the same settings."""
    # a checkpoint is removed when its model is complete: where there are both, the model is the same or older
    if resume is not False and (out / "checkpoint.safetensors").is_file():
        found = load_tensors(out / "checkpoint.safetensors")[1].get("settings", {})
    elif resume is not False and (out / "model.json").is_file():
        found = read_description(out).get("training", {})
    else:
        return True
    differs = difference(found, settings)
    if differs and resume == "matching":
        return True
    if differs:
        whole = "train on from this model into another (--from), " if (out / "model.json").is_file() else ""
        raise CheckpointError(
            f"{out} holds a training with other settings or scans ({differs}); choose another folder, {whole}or start "
            "anew (--overwrite)"
        )
    return False


def _clear(out: Path) -> None:
    for name in (*CHECKPOINT_FILES, *MODEL_FILES):
        (out / name).unlink(missing_ok=True)


def _begin(
    architecture: Settings, *, seed: int, start_from: str | Path | None, device: torch.device, world: int
) -> TrainingState:
    if start_from is None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = UNet25D(**architecture)
    else:
        network, _ = load_model(start_from)
        if network.architecture != architecture:
            raise CheckpointError(
                f"{start_from} is of another architecture ({difference(network.architecture, architecture)})"
            )
    network = network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    model = nn.parallel.DistributedDataParallel(network) if world > 1 else network
    return TrainingState(network, model, torch.optim.Adam(network.parameters()), average)


def _continue(state: TrainingState, out: Path, *, rank: int) -> None:
    load_state(state, out)
    if rank > 0:
        state.sums = [0.0, 0.0, 0.0]  # those of rank 0 were stored; they must not count twice


def _run(
    state: TrainingState, windows: SliceWindows, held_out: Sequence[Batch], settings: Settings, *, out: Path,
    checkpoint_every: int, rank: int, world: int, progress: bool,
) -> None:
    steps, kept = settings["steps"], state.step
    report = Progress(state, steps, enabled=progress)
    begun = time.monotonic() - state.seconds
    try:
        with stops_between_steps(world=world) as asked_to_stop:
            while state.step < steps:
                rate = _learning_rate(state.step, steps, settings["learning_rate"])
                first = state.step * settings["batch"]
                batch = windows.batch(range(first + rank, first + settings["batch"], world))
                _step(state, batch, settings, rate)
                state.seconds = time.monotonic() - begun
                if is_due(state.step, steps, ROWS):
                    _log(state, settings, rate, held_out, world=world)
                report(state)
                stop = asked_to_stop.is_set()
                if rank == 0 and (state.step % checkpoint_every == 0 or state.step == steps or stop):
                    save_state(state, settings, out)
                    write_history(state, out)
                    kept = state.step
                if stop:
                    raise KeyboardInterrupt
    except KeyboardInterrupt as stopped:
        found = f"step {kept}" if kept else "nothing of it"
        raise Stopped(f"after step {state.step} of {steps}, and {out} keeps {found}", replaced=True) from stopped


def _learning_rate(step: int, steps: int, highest: float) -> float:
    """Linear warm-up over the first 5 % (at most 200 steps), then half a cosine down to 1 %."""
    warmup = max(1, min(200, steps // 20))
    if step < warmup:
        return highest * (step + 1) / warmup
    fraction = (step - warmup) / max(1, steps - warmup)
    return highest * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fraction)))


def _step(state: TrainingState, batch: Batch, settings: Settings, rate: float) -> None:
    inputs, target, variance = to_device(batch, state.device)
    bfloat16 = settings["precision"] == "bfloat16"
    with torch.autocast(state.device.type, torch.bfloat16, enabled=bfloat16):
        output = state.model(inputs)
    losses, floors = loss_and_floor(output, target, variance, loss=settings["loss"])
    objective = (losses / floors.clamp_min(1e-12)).mean() if settings["balance"] else losses.mean()
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad()
    objective.backward()
    nn.utils.clip_grad_norm_(state.network.parameters(), CLIP)
    state.optimizer.step()
    state.step += 1
    for i, value in enumerate((losses.mean().item(), floors.mean().item(), 1.0)):
        state.sums[i] += value
    if not math.isfinite(state.sums[0]):
        raise Sn2nError(f"the loss is {state.sums[0]} at step {state.step}; take a smaller --learning-rate")
    _average(state, settings["ema"])


def _average(state: TrainingState, ema: float) -> None:
    """Move the averaged weights; over few steps first, so that the random initial weights are forgotten."""
    decay = min(ema, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for name, weight in state.network.named_parameters():
            state.average[name].lerp_(weight, 1 - decay)


def _log(
    state: TrainingState, settings: Settings, rate: float, held_out: Sequence[Batch], *, world: int
) -> None:
    loss, floor, count = total(state.sums, state.device, world=world)
    row = {"step": state.step, "loss": loss / count, "noise_floor": floor / count}
    if held_out and is_due(state.step, settings["steps"], VALIDATIONS):
        row["validation_loss"], row["validation_floor"] = validate(state, held_out, loss=settings["loss"])
    state.history.append({**row, "learning_rate": rate, "seconds": round(state.seconds, 1)})
    state.sums = [0.0, 0.0, 0.0]


def _finish(
    state: TrainingState, settings: Settings, architecture: Settings, out: Path, *, use: Settings,
    metadata: dict[str, Any] | None,
) -> None:
    try:
        write_history(state, out)
        description = {
            "architecture": architecture, **use, "scale": SCALE_RULE, "training": settings,
            "seconds": round(state.seconds, 1), "metadata": metadata or {},
            "provenance": provenance(seed=settings["seed"]),
        }
        save_model(out, state.average, description)
        for name in CHECKPOINT_FILES:
            (out / name).unlink(missing_ok=True)
    except KeyboardInterrupt as stopped:
        raise Stopped(f"while the model was written, and {out} keeps the last step", replaced=True) from stopped
