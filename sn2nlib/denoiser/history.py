"""The learning curve of a training: rows for `history.csv`, the validation score, lines of progress."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from sn2nlib.provenance import atomic_write

from .checkpoint import TrainingState
from .slices import SliceWindows, TrainingVolume

COLUMNS = ["step", "loss", "noise_floor", "validation_loss", "validation_floor", "learning_rate", "seconds"]
ROWS = 100  # of a whole training
VALIDATIONS = 20  # of these rows also score the validation windows
VALIDATION_WINDOWS = 32
PROGRESS_SECONDS = 20.0

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def loss_and_floor(
    output: torch.Tensor, target: torch.Tensor, variance: torch.Tensor, *, loss: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of every window, and the loss that noise alone would leave.

    Parameters
    ----------
    output, target, variance
        (n, 1, y, x); variance is the predicted noise variance of the target.
    loss
        "l2": mean squared error, floor: mean variance. "l1": mean absolute error, floor: mean of √(2/π)·SD,
        exact for normal noise and within 2 % for the Rayleigh noise of air.

    Returns
    -------
    Two tensors (n,).
    """
    error = output.float() - target
    if loss == "l2":
        return error.square().mean(dim=(1, 2, 3)), variance.mean(dim=(1, 2, 3))
    return error.abs().mean(dim=(1, 2, 3)), (variance * (2 / math.pi)).sqrt().mean(dim=(1, 2, 3))


def is_due(step: int, steps: int, times: int) -> bool:
    """True `times` times during `steps` steps, evenly, at the last step for certain."""
    return step * times // steps > (step - 1) * times // steps


def validation_batches(volumes: Sequence[TrainingVolume], *, patch: int, slices: int) -> list[Batch]:
    """The fixed windows that every validation scores; none without volumes."""
    if not volumes:
        return []
    windows = SliceWindows(
        volumes, patch=patch, slices=slices, length=VALIDATION_WINDOWS, seed=0, augment=False
    )
    return [windows.batch(range(first, first + 8)) for first in range(0, VALIDATION_WINDOWS, 8)]


def validate(state: TrainingState, batches: Sequence[Batch], *, loss: str) -> tuple[float, float]:
    """Mean loss and floor of the averaged weights over the validation windows."""
    sums = torch.zeros(2, dtype=torch.float64)
    for batch in batches:
        inputs, target, variance = to_device(batch, state.device)
        with torch.no_grad():
            output = torch.func.functional_call(state.network, state.average, (inputs,))
            parts = loss_and_floor(output, target, variance, loss=loss)
        sums += torch.stack([part.double().mean().cpu() for part in parts])
    return sums[0].item() / len(batches), sums[1].item() / len(batches)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The tensors on `device`, channels last, which convolutions are quickest with."""
    inputs, target, variance = (tensor.to(device, memory_format=torch.channels_last) for tensor in batch)
    return inputs, target, variance


def write_history(state: TrainingState, out: Path) -> None:
    """Write `history.csv`; `checkpoint.safetensors` is what a resumed training reads it from."""
    with atomic_write(out / "history.csv") as temporary:
        pd.DataFrame(state.history, columns=COLUMNS).to_csv(temporary, index=False)


class Progress:
    """Prints a line every 20 seconds and at the end."""

    def __init__(self, state: TrainingState, steps: int, *, enabled: bool) -> None:
        self.first, self.steps, self.enabled = state.step, steps, enabled
        self.begun = self.printed = time.monotonic()

    def __call__(self, state: TrainingState) -> None:
        now = time.monotonic()
        if not self.enabled or (now - self.printed < PROGRESS_SECONDS and state.step < self.steps):
            return
        self.printed = now
        left = (now - self.begun) / (state.step - self.first) * (self.steps - state.step) / 60
        row = state.history[-1] if state.history else {}
        score = f", loss {row['loss']:.3g} (noise floor {row['noise_floor']:.3g})" if row else ""
        done = f"step {state.step} of {self.steps}{score}, {state.seconds / 60:.1f} min"
        print(f"{done}, {left:.1f} min left" if state.step < self.steps else done, flush=True)
