"""Rows of a volumetry whose result is known."""

import pandas as pd
import pytest

from sn2nlib.evaluation.volumetry.engine import SUBCORTICAL, TISSUES

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
