"""Model folders: what comes back, and what is said of incomplete, damaged and foreign ones."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sn2nlib.denoiser import Denoiser, UNet25D
from sn2nlib.denoiser import checkpoint as files
from sn2nlib.errors import CheckpointError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        network = UNet25D(width=4, depth=1)
    files.save_model(tmp_path, network.state_dict(), {"architecture": network.architecture, "alpha": None})
    return tmp_path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_model_comes_back_and_random_numbers_are_untouched(folder: Path) -> None:
    before = torch.get_rng_state()
    network, description = files.load_model(folder)
    assert torch.equal(before, torch.get_rng_state())
    weights, header = files.load_tensors(folder / "model.safetensors")
    assert all(torch.equal(weights[name], weight) for name, weight in network.state_dict().items())
    assert description["architecture"] == header["architecture"] == network.architecture


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        Denoiser.load(folder)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_damaged_file_is_named(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        Denoiser.load(folder)


def test_changed_weights_are_noticed(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is not the file that .*model\.json describes"):
        Denoiser.load(folder)


def test_another_architecture_is_told_by_its_first_weight(folder: Path) -> None:
    edit(folder / "model.json", lambda content: content["architecture"].update(width=8))
    with pytest.raises(
        CheckpointError,
        match=r"another architecture: .* expects down\.0\.0\.weight of shape \(8, 7, 3, 3\).* has \(4, 7",
    ):
        Denoiser.load(folder)


def test_weights_that_are_missing_or_too_many_are_named(folder: Path) -> None:
    edit(folder / "model.json", lambda content: content["architecture"].update(depth=2))
    with pytest.raises(CheckpointError, match=r"expects down\.2\.0\.weight .* lacks it"):
        Denoiser.load(folder)
    edit(folder / "model.json", lambda content: content["architecture"].update(depth=0))
    with pytest.raises(CheckpointError, match=r"has no weight down\.1\.0\.weight"):
        Denoiser.load(folder)


@pytest.mark.parametrize("change", [{"heads": 8}, {"slices": 6}])
def test_an_unknown_network_is_told(folder: Path, change: dict[str, int]) -> None:
    edit(folder / "model.json", lambda content: content["architecture"].update(change))
    with pytest.raises(CheckpointError, match="a network that this version does not know"):
        Denoiser.load(folder)


def test_other_json_is_told(folder: Path) -> None:
    (folder / "model.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="no entry 'architecture'"):
        Denoiser.load(folder)


def test_a_full_disk_leaves_the_old_file_and_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise files.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(OSError, match=r"disk is full; .*model\.safetensors") as caught:
        files.save_model(folder, {}, {"architecture": {}})
    assert caught.value.errno == errno.ENOSPC
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
