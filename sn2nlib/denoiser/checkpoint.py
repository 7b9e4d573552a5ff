"""Files of a training and of a model: safetensors for the numbers, JSON for what a person reads.

A model folder holds `model.safetensors` and `model.json`; the JSON names the checksum of the weights, so that
two files that do not belong together are noticed. The state of a running training is one file,
`checkpoint.safetensors`, whose header carries step, settings and history: it is replaced whole or not at all.
`checkpoint.json` repeats that header for the reader.
"""

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from sn2nlib.errors import CheckpointError, Sn2nError
from sn2nlib.provenance import atomic_write, free_space, sha256_of, write_json

from .unet import UNet25D

CHECKPOINT_FILES = ("checkpoint.safetensors", "checkpoint.json")
MODEL_FILES = ("model.json", "model.safetensors", "history.csv")


@dataclass
class TrainingState:
    """A training between two steps.

    Attributes
    ----------
    network, model
        The network, and the module that is called: itself, or wrapped for several processes.
    optimizer
        Its Adam.
    average
        Moving average of the weights, by name.
    step, seconds
        Steps done and time spent, earlier runs included.
    sums
        Loss, noise floor and number of steps since the last row of the history.
    history
        Rows for `history.csv`.
    """

    network: UNet25D
    model: nn.Module
    optimizer: torch.optim.Adam
    average: dict[str, torch.Tensor]
    step: int = 0
    seconds: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device


def save_state(state: TrainingState, settings: Mapping[str, Any], folder: Path) -> None:
    """Write the checkpoint of a running training."""
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in state.network.named_parameters():
        moments = state.optimizer.state[weight]
        tensors |= {
            f"weight/{name}": weight, f"average/{name}": state.average[name],
            f"mean/{name}": moments["exp_avg"], f"square/{name}": moments["exp_avg_sq"],
        }
    header = {
        "step": state.step, "seconds": state.seconds, "settings": dict(settings), "sums": state.sums,
        "history": state.history,
    }
    save_tensors(folder / "checkpoint.safetensors", tensors, header)
    write_json(folder / "checkpoint.json", header)


def check_room(state: TrainingState, folder: Path) -> None:
    """Raise OSError unless there is room for two checkpoints, of which one replaces the other.

    One that is in the folder counts as room: it is gone on with, or removed.
    """
    needed = 2 * 4 * sum(weight.numel() * weight.element_size() for weight in state.network.parameters())
    found = folder / CHECKPOINT_FILES[0]
    free = free_space(folder) + (found.stat().st_size if found.is_file() else 0)
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"The disk is full; checkpoints in {folder} need {needed / 2**20:.1f} MiB, {free / 2**20:.1f} MiB are "
            "free. Free some space and run again",
        )


def load_state(state: TrainingState, folder: Path) -> None:
    """Fill the state of a training that has just begun with that of the checkpoint in `folder`.

    Raises
    ------
    CheckpointError
        If the checkpoint is missing, damaged, or of another architecture.
    """
    path = folder / "checkpoint.safetensors"
    tensors, header = load_tensors(path)
    fill_network(state.network, _part(tensors, "weight"), path)
    average, mean, square = (_part(tensors, part) for part in ("average", "mean", "square"))
    try:
        for name, weight in state.network.named_parameters():
            state.average[name].copy_(average[name])
            state.optimizer.state[weight] = {
                "step": torch.tensor(float(header["step"])),
                "exp_avg": torch.empty_like(weight, requires_grad=False).copy_(mean[name]),
                "exp_avg_sq": torch.empty_like(weight, requires_grad=False).copy_(square[name]),
            }
        state.step, state.seconds = header["step"], header["seconds"]
        state.sums, state.history = list(header["sums"]), list(header["history"])
    except KeyError as error:
        raise CheckpointError(f"{path} lacks {error}; start the training anew (--overwrite)") from error


def _part(tensors: Mapping[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    prefix = f"{part}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header as one safetensors file, whole or not at all."""
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            save_file(dense, temporary, metadata={"header": json.dumps(header)})
        except SafetensorError as error:
            raise OSError(f"{path} could not be written: {error}") from error


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a file of `save_tensors`: tensors on the CPU, and the header.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; give the folder that a training has written")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 (not a mapping)
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy it again or train anew") from error


def save_model(folder: Path, weights: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> None:
    """Write `model.safetensors` and `model.json` (the description and the checksum of the weights)."""
    path = folder / "model.safetensors"
    save_tensors(path, weights, {"architecture": description["architecture"]})
    write_json(folder / "model.json", {**description, "weights_sha256": sha256_of(path)})


def read_description(folder: str | Path) -> dict[str, Any]:
    """Content of `model.json`.

    Raises
    ------
    CheckpointError
        If the file is missing, not JSON, or does not describe a network.
    """
    path = Path(folder) / "model.json"
    if Path(folder).is_file():
        raise CheckpointError(f"{folder} is a file; give the folder of the model, which holds model.json")
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; give the folder that a finished training has written")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy it again or train anew") from error
    if not isinstance(description, dict) or not isinstance(description.get("architecture"), dict):
        raise CheckpointError(f"{path} has no entry 'architecture'; it describes no network of this package")
    return description


def load_model(folder: str | Path) -> tuple[UNet25D, dict[str, Any]]:
    """The trained network of a model folder, on the CPU, and its description.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, the two do not belong together, or the weights are of another
        architecture.
    """
    folder = Path(folder)
    description = read_description(folder)
    path = folder / "model.safetensors"
    weights, _ = load_tensors(path)
    try:
        # the weights drawn here are overwritten; the caller's random numbers must not notice
        with torch.random.fork_rng(devices=[]):
            network = UNet25D(**description["architecture"])
    except (TypeError, Sn2nError) as error:
        raise CheckpointError(
            f"{folder / 'model.json'} describes a network that this version does not know ({error})"
        ) from error
    fill_network(network, weights, path)
    if description.get("weights_sha256") not in (None, sha256_of(path)):
        raise CheckpointError(
            f"{path} is not the file that {folder / 'model.json'} describes; copy both again or train anew"
        )
    return network, description


def fill_network(network: UNet25D, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copy weights into a network of the same architecture.

    Raises
    ------
    CheckpointError
        Naming the first weight that is missing, of another shape, or too many.
    """
    expected = network.state_dict()
    wanted = ", ".join(f"{name} {value}" for name, value in network.architecture.items())
    for name, tensor in expected.items():
        found = weights.get(name)
        if found is None or found.shape != tensor.shape:
            has = "lacks it" if found is None else f"has {tuple(found.shape)}"
            raise CheckpointError(
                f"{path} is of another architecture: a network of {wanted} expects {name} of shape "
                f"{tuple(tensor.shape)}, the file {has}"
            )
    extra = sorted(set(weights) - set(expected))
    if extra:
        raise CheckpointError(
            f"{path} is of another architecture: a network of {wanted} has no weight {extra[0]}"
        )
    network.load_state_dict(dict(weights))


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs between two settings, as "name: found there, wanted now"; empty if nothing does."""
    names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    return "; ".join(
        f"{name}: {_short(found.get(name))} there, {_short(wanted.get(name))} now" for name in names
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
