"""What the study does with one participant names it."""

from pathlib import Path

import numpy as np
import pytest

from sn2nlib.evaluation.stages import pair_participant
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans.scan import Scan, save_scan


def test_a_warning_about_a_pair_names_the_participant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the same numbers: each is told."""
    monkeypatch.setattr("sn2nlib.recon.pairs.MAX_HALF_G", 0.0)
    mask = lattice_mask((8, 28), acceleration=(2, 1), acs=16)
    kspace = np.random.default_rng(0).standard_normal((4, 8, 28, 16, 2), np.float32).view(np.complex64)[..., 0]
    for name in ("anna", "berta"):
        save_scan(Scan(kspace * mask[:, :, None], mask, (2, 1)), tmp_path / f"{name}.h5")
    with pytest.warns(UserWarning, match="the median g-factor of a half image") as caught:
        for name in ("anna", "berta"):
            pair_participant(name, scans=tmp_path, pairs=tmp_path, recon={})
    told = [str(warning.message).partition("the median")[0] for warning in caught]
    assert told == ["anna.h5: ", "berta.h5: "]
