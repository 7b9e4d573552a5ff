"""Rows of a volumetry, and of vessel wall scans, whose results are known."""

import math

import numpy as np
import pandas as pd
import pytest

from sn2nlib.evaluation.volumetry.engine import SUBCORTICAL, TISSUES
from sn2nlib.reporting.vessel_wall import MEASURES

SCANS = {"quantitative": ["D167", "D168", "D169"], "real_head": ["S1"]}
LEVELS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
LOST = {"original": 0.04, "sN2N": 0.02}  # of DSC for each σ; half of 1 − DSC comes back, but for what all lose at 0 σ


def volumetry_rows() -> pd.DataFrame:
    """Three digital heads and a real one; DSC falls by 0.04 and 0.02 for each σ from 0.95; volumes grow as it falls."""
    rows = []
    for set_name, scans in SCANS.items():
        for number, scan in enumerate(scans):
            for kind, names in (("tissue", TISSUES), ("subcortical", SUBCORTICAL), ("subcortical_second", SUBCORTICAL)):
                for reference in ("full_sampled", "truth") if set_name == "quantitative" else ("full_sampled",):
                    constant = "truth" if reference == "full_sampled" else "full_sampled"
                    for level in LEVELS:
                        for arm, lost in (LOST | {constant: 0.0}).items():
                            for place, name in enumerate(names.values()):
                                bias = (1 if place % 2 else -1) * 100 * lost * (level - 0.25)
                                volume = 500.0 / (1 + 10 * place)
                                rows.append({
                                    "set": set_name, "scan": scan, "kind": kind, "engine": "Slabs", "version": "1",
                                    "note": "", "reference": reference, "noise_sigma": level, "arm": arm,
                                    "structure": name, "dice": 0.95 - lost * level + 0.001 * number,
                                    "volume_ml": volume * (1 + bias / 100), "reference_ml": volume,
                                    "bias_percent": bias, "hd95_mm": 1.0, "failure": "",
                                })  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(name="volumetry_rows", scope="session")
def _volumetry_rows() -> pd.DataFrame:
    return volumetry_rows()


# one scan's numbers: the original, and what each arm makes of them
_WALLS = {
    "cnr_lumen": 12.0, "cnr_csf": 9.0, "contrast_lumen": 84.0, "contrast_csf": 62.0, "sd_lumen": 6.0, "sd_wall": 7.0,
    "sd_csf": 7.0, "lumen": 12.0, "wall_mm": 0.90, "lumen_mm2": 14.0, "edge_inner_mm": 0.50, "edge_outer_mm": 0.50,
    "detected": 1.0, "psnr": 35.0,
}  # fmt: skip
_WITHOUT_NOISE = _WALLS | {"contrast_lumen": 90.0, "contrast_csf": 66.0, "lumen": 6.0, "wall_mm": 0.91}
_UNKNOWN = ["cnr_lumen", "cnr_csf", "sd_lumen", "sd_wall", "sd_csf", "detected", "psnr"]
_WITHOUT_NOISE |= dict.fromkeys(_UNKNOWN, math.nan)
_QUIETER = {"cnr_lumen": 18.0, "cnr_csf": 13.0, "sd_lumen": 4.0, "sd_wall": 5.0, "sd_csf": 4.5, "psnr": 38.5}
VESSEL_ARMS = {
    "original": _WALLS,
    "sN2N": _WALLS | _QUIETER | {"contrast_lumen": 82.0, "wall_mm": 0.92},
    "fine_tuned": _WALLS | _QUIETER | {"cnr_lumen": 20.0, "wall_mm": 0.86, "psnr": 38.0},
    "vwi_only": _WALLS | {"contrast_lumen": 78.0, "psnr": 34.9},
    "blur": _WALLS | _QUIETER | {"edge_inner_mm": 0.62, "edge_outer_mm": 0.60},
    "noise_free": _WITHOUT_NOISE,
}


@pytest.fixture(scope="session")
def vessel_rows() -> pd.DataFrame:
    """Six scans that scatter about the same numbers, all arms of a scan alike."""
    rng = np.random.default_rng(0)
    made = []
    for scan in range(6):
        spread = {name: 1 + 0.02 * rng.standard_normal() for name in MEASURES}
        for arm, numbers in VESSEL_ARMS.items():
            row = {name: numbers[name] * spread[name] * (1 + 0.002 * rng.standard_normal()) for name in MEASURES}
            made.append({"scan": f"D{scan}", "arm": arm, **row, "detected": numbers["detected"],
                         "given_wall_mm": 0.95, "given_lumen_mm2": 13.5})  # fmt: skip
    return pd.DataFrame(made)
