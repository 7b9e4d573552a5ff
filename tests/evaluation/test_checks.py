"""Checks: verdicts at and around their goals, and real brains with known errors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sn2nlib.evaluation.checks import (
    ABSENT,
    COLUMNS,
    brain_checks,
    check,
    difference_checks,
    map_checks,
    rss_error,
)
from sn2nlib.fourier import fft
from sn2nlib.scans.manifest import manifest_folder
from sn2nlib.scans.measured import Brain, measured_brains


@pytest.mark.parametrize(
    ("value", "goal", "verdict"),
    [
        (0.8, "≤ 0.8", "reached"), (0.8001, "≤ 0.8", "missed"), (3.99, "< 4", "reached"), (4, "< 4", "missed"),
        (7, "", "reported"), (np.nan, "≤ 0.8", ABSENT), (np.nan, "", ABSENT),
    ],
)  # fmt: skip
def test_verdicts(value: float, goal: str, verdict: str) -> None:
    row = check("what", value, goal=goal, scan="D001", note="why")
    assert tuple(row) == COLUMNS
    assert row["verdict"] == verdict and (row["scan"], row["note"]) == ("D001", "why")


def test_a_goal_that_is_none_is_an_error() -> None:
    with pytest.raises(KeyError):
        check("what", 1, goal="around 3")


def test_every_scan_of_known_difference_has_a_row() -> None:
    rows = difference_checks({"D001": 0.57, "D004": 0.91, "P7": np.nan})
    assert [(row["scan"], row["verdict"]) for row in rows] == [("D001", "reached"), ("D004", "missed")]


def test_maps_are_judged_without_acs_and_reported_with() -> None:
    errors = {"original": 0.025, "original with ACS": 0.06, "half": 0.041, "half with ACS": 0.03}
    rows = map_checks(errors, n_replicas=200)
    assert [row["verdict"] for row in rows] == ["reached", "reported", "missed", "reported"]
    assert rows[2]["value"] == pytest.approx(4.1) and "half" in rows[2]["check"]
    assert "200 replicas alone scatter by 2.4 %" in rows[0]["note"]


def test_an_error_is_on_the_scale_of_the_image() -> None:
    """Coil c sees the object with c cycles of phase: all is recovered, and zero filling would lose a lot."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 48, 20)) + 1j * rng.standard_normal((1, 48, 20))
    ramp = np.exp(2j * np.pi * (np.arange(48) - 24) / 48)[:, None]
    kspace = fft(np.stack([image, image * ramp, image / ramp])).astype(np.complex64)
    before = kspace.copy()
    assert rss_error(kspace) < 0.05  # the edge, which lacks neighbours
    assert np.array_equal(kspace, before)
    alone = np.stack([image, image * (1 + 1e-3 * rng.standard_normal(image.shape))])
    assert rss_error(fft(alone).astype(np.complex64)) > 0.2  # coils that see the same recover nothing


@pytest.mark.parametrize(
    ("name", "error"), [("brain8ch_jiawang66.mat", 0.0270), ("brain16ch_pulseq_164128.npy", 0.0356)]
)
def test_real_brains_have_the_known_errors(
    name: str, error: float, require: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SN2N_DATA", str(require("data", name).parent))
    brains = [brain for brain in measured_brains(manifest_folder()) if brain.name == name]
    [row] = brain_checks(brains)
    assert row["value"] == pytest.approx(error, abs=0.0002)
    assert row["verdict"] == "reached" and row["scan"] == name


def test_a_brain_that_is_elsewhere_says_how_to_get_it() -> None:
    [row] = brain_checks([Brain("brain8ch_jiawang66.mat", None, "download it")])
    assert np.isnan(row["value"]) and row["verdict"] == ABSENT and row["note"] == "download it"
