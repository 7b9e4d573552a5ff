"""Measured brains: found where they are, and how to get them where they are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from sn2nlib.errors import ScanError
from sn2nlib.scans import measured
from sn2nlib.scans.manifest import manifest_folder
from sn2nlib.scans.measured import measured_brains


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of SN2N_DATA, empty."""
    monkeypatch.setenv("SN2N_DATA", str(tmp_path))
    return tmp_path


def test_without_files_the_listed_one_is_explained_and_nothing_is_fetched(folder: Path) -> None:
    [brain] = measured_brains(manifest_folder())
    assert brain.name == "brain8ch_jiawang66.mat" and brain.kspace is None
    assert brain.remedy.startswith("download https://") and "into a folder of SN2N_DATA" in brain.remedy
    assert list(folder.iterdir()) == []


def test_files_come_in_the_order_of_the_axes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    kspace = rng.standard_normal((3, 5, 4)) + 1j * rng.standard_normal((3, 5, 4))
    scipy.io.savemat(folder / "brain.mat", {"full_kspace_data": kspace.transpose(1, 2, 0)})  # (ky, kx, coil)
    np.save(folder / "brain16ch_pulseq_164128.npy", 2 * kspace)
    monkeypatch.setattr(measured, "find", lambda source: folder / "brain.mat")
    first, second = measured_brains(manifest_folder())
    for brain, factor in ((first, 1), (second, 2)):
        assert brain.kspace is not None and brain.kspace.dtype == np.complex64
        np.testing.assert_allclose(brain.kspace, factor * kspace[:, None], rtol=1e-6)
    assert second.name == "brain16ch_pulseq_164128.npy"


def test_a_file_that_holds_something_else_is_named(folder: Path) -> None:
    np.save(folder / "brain16ch_pulseq_164128.npy", np.zeros((3, 5, 4)))
    with pytest.raises(ScanError, match=r"164128\.npy: needs complex \(coil, ky, kx\), got float64"):
        measured_brains(manifest_folder())


def test_a_truncated_file_is_named(folder: Path, hostile: Any) -> None:
    path = folder / "brain16ch_pulseq_164128.npy"
    np.save(path, np.ones((3, 5, 4), np.complex64))
    for _, content in hostile.truncated(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ScanError, match=r"164128\.npy: the file is damaged or incomplete"):
            measured_brains(manifest_folder())
