"""Agreement of label maps whose overlap, volumes and distances are known by construction."""

import math

import numpy as np
import pandas as pd
import pytest

from sn2nlib.errors import ImageError, StudyError
from sn2nlib.evaluation.volumetry.measures import (
    agreement,
    bland_altman,
    compare,
    complete_pairs,
    per_engine,
    share_removed,
    sign_crossings,
    surface_distance,
    volume_error,
)

VOXEL = (3.0, 2.0, 1.5)
NAMES = {1: "CSF", 2: "GM", 3: "WM"}


def boxes() -> tuple[np.ndarray, np.ndarray]:
    """Two boxes of 4×6×8 voxels, label 1, shifted by 1 voxel along y; label 2 in one map only."""
    a, b = np.zeros((2, 12, 15, 17), np.uint8)
    a[2:6, 3:9, 4:12] = 1
    b[2:6, 4:10, 4:12] = 1
    b[8:10, 11:13, 2:5] = 2
    return a, b


def test_a_row_per_structure() -> None:
    a, b = boxes()
    csf, gm, wm = compare(a, b, NAMES, voxel_size=VOXEL)
    assert csf["structure"] == "CSF" and csf["dice"] == pytest.approx(5 / 6)
    assert csf["volume_ml"] == csf["reference_ml"] == pytest.approx(4 * 6 * 8 * 9 / 1000)
    assert csf["bias_percent"] == 0 and csf["hd95_mm"] == pytest.approx(2.0)  # one voxel along y
    assert gm["dice"] == 0 and gm["bias_percent"] == -100 and math.isnan(gm["hd95_mm"])
    assert gm["reference_ml"] == pytest.approx(12 * 9 / 1000)
    assert math.isnan(wm["dice"]) and math.isnan(wm["bias_percent"]) and wm["volume_ml"] == 0
    with pytest.raises(ImageError, match=r"differ in shape: \(12, 15, 17\) and \(11, 15, 17\)"):
        compare(a, b[1:], NAMES, voxel_size=VOXEL)
    assert math.isnan(compare(a, b, NAMES, voxel_size=VOXEL, surfaces=False)[0]["hd95_mm"])


def test_distances_against_every_pair_of_points() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 6, 7, 8)) > 0.7
    def points(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        inside = np.ones_like(mask)
        for axis in range(3):
            for step in (-1, 1):
                inside &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
        return np.argwhere(mask & ~inside) * np.array(VOXEL)

    there = np.linalg.norm(points(a)[:, None] - points(b)[None], axis=-1)
    for percentile in (95, 100):
        expected = max(np.percentile(there.min(1), percentile), np.percentile(there.min(0), percentile))
        assert surface_distance(a, b, voxel_size=VOXEL, percentile=percentile) == pytest.approx(expected)
    assert surface_distance(a, a, voxel_size=VOXEL) == 0
    assert math.isnan(surface_distance(a, np.zeros_like(a), voxel_size=VOXEL))


def test_structures_at_the_edge_of_the_volume() -> None:
    a = np.zeros((4, 5, 6), bool)
    a[:, :, :3] = True
    b = np.roll(a, 1, axis=2)
    assert surface_distance(a, b, voxel_size=VOXEL) == pytest.approx(1.5)


def rows(bias: dict[str, float], **more: object) -> list[dict[str, object]]:
    base: dict[str, object] = {"set": "quantitative", "kind": "tissue", "reference": "full_sampled", "failure": ""}
    return [base | {"structure": name, "bias_percent": value, "dice": 0.9, **more} for name, value in bias.items()]


def table() -> pd.DataFrame:
    """Two scans at 0 and 1 σ; the original's biases are twice those of sN2N."""
    made: list[dict[str, object]] = []
    for scan, sign in (("D167", 1), ("D168", -1)):
        for level in (0.0, 1.0):
            for arm, factor in (("original", 2.0), ("sN2N", 1.0), ("truth", 0.5)):
                bias = {"CSF": sign * factor, "GM": factor * (1 + level), "WM": -factor}
                made += rows(bias, scan=scan, noise_sigma=level, arm=arm)
    return pd.DataFrame(made)


def test_volume_error_sums_absolute_values_and_shows_signed_ones() -> None:
    found = volume_error(table()).set_index(["noise_sigma", "arm"])
    assert found.loc[(1.0, "original"), "total_percent"] == pytest.approx(2 + 4 + 2)
    assert found.loc[(0.0, "sN2N"), "total_percent"] == pytest.approx(3)
    # opposite signs cancel in the signed mean, not in the total
    assert found.loc[(0.0, "sN2N"), "CSF"] == 0 and found.loc[(0.0, "sN2N"), "WM"] == -1
    assert (found["n"] == 2).all()


def test_bland_altman_per_level_and_arm() -> None:
    found = bland_altman(table())
    row = found[(found["structure"] == "CSF") & (found["arm"] == "original") & (found["noise_sigma"] == 0)].iloc[0]
    assert (row["n"], row["bias"]) == (2, 0.0)
    assert row["high"] == pytest.approx(1.96 * np.std([2, -2], ddof=1)) and row["low"] == -row["high"]
    single = agreement(np.array([3.0, math.nan]))
    assert (single.n, single.bias) == (1, 3.0) and math.isnan(single.low)
    assert agreement(np.array([])).n == 0 and math.isnan(agreement(np.array([])).bias)


def test_sign_crossings() -> None:
    levels = np.array([0, 1, 2, 3])
    assert sign_crossings(levels, np.array([1.0, 2, 3, 4])) == []
    assert sign_crossings(levels, np.array([-1.0, 2, 3, -4])) == [(0, 1), (2, 3)]
    assert sign_crossings(levels, np.array([-1.0, 0, 3, math.nan])) == [(0, 2)]


def test_share_removed_is_the_papers() -> None:
    assert share_removed(0.946, 0.954) == pytest.approx(15, abs=0.5)  # published tissue at 0.5 σ
    assert share_removed(0.8, 0.7) == pytest.approx(-50)
    assert math.isnan(share_removed(1.0, 1.0))


def test_the_engine_s_dsc_is_the_mean_over_structures() -> None:
    values = table()
    values.loc[values["structure"] == "WM", "dice"] = 0.6
    values.loc[values["structure"] == "CSF", "dice"] = math.nan
    found = per_engine(values)
    assert found["dice"].tolist() == pytest.approx([0.75] * len(found))
    assert (found["n_structures"] == 2).all() and len(found) == 12


def test_failed_cases_leave_in_pairs_and_are_counted() -> None:
    values = table()
    bad = (values["scan"] == "D168") & (values["noise_sigma"] == 1) & (values["arm"] == "sN2N")
    values.loc[bad, "failure"] = "empty: GM"
    before = values.copy()
    kept, excluded = complete_pairs(values)
    assert len(kept) == len(values) - 9
    left = kept[(kept["noise_sigma"] == 1)]
    assert set(left["scan"]) == {"D167"} and set(left["arm"]) == {"original", "sN2N", "truth"}
    assert excluded.to_dict("records") == [{
        "set": "quantitative", "scan": "D168", "kind": "tissue", "reference": "full_sampled", "noise_sigma": 1.0,
        "reason": "sN2N: empty: GM",
    }]  # fmt: skip
    pd.testing.assert_frame_equal(values, before)


def test_a_failed_ceiling_does_not_exclude_the_pair() -> None:
    values = table()
    values.loc[(values["arm"] == "truth") & (values["scan"] == "D167"), "failure"] = "no brain"
    kept, excluded = complete_pairs(values)
    assert excluded.empty and list(excluded) == ["set", "scan", "kind", "reference", "noise_sigma", "reason"]
    assert set(kept.loc[kept["arm"] == "truth", "scan"]) == {"D168"}


def test_when_everything_failed_nothing_is_left() -> None:
    values = table()
    values["failure"] = "no brain"
    kept, excluded = complete_pairs(values)
    assert kept.empty and list(kept) == list(values) and len(excluded) == 4


def test_a_missing_arm_is_an_error() -> None:
    values = table()
    values = values[(values["scan"] != "D167") | (values["arm"] != "sN2N")]
    with pytest.raises(StudyError, match=r"D167 at 0 σ \(tissue, against full_sampled\) lacks the arm sN2N"):
        complete_pairs(values)
