"""Criteria of the repository, and a small reader study that can be checked by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sn2nlib.evaluation.readers.criteria import Criteria, load_criteria
from sn2nlib.scans.manifest import manifest_folder


@pytest.fixture(scope="session")
def criteria() -> Criteria:
    return load_criteria(manifest_folder(Path(__file__).parent))


@pytest.fixture(scope="session")
def study(criteria: Criteria) -> pd.DataFrame:
    """Two readers of 12 cases, 5 of them with lesions; three cases read twice; a third reader of vessel walls."""
    rng = np.random.default_rng(17)
    sets = {"qualitative": range(12), "lesions": range(5), "generalisation": range(20, 28)}
    rows = []
    for parameter in criteria.parameters:
        for case in sets[parameter.case_set]:
            truth = {"original": rng.integers(2, 5), "sN2N": rng.integers(4, 6)}
            second = "reader3" if parameter.group == "vessel_wall" else "reader2"
            for reader in ("reader1", second):
                for reading in (1, 2) if case < 3 else (1,):
                    for arm in criteria.arms:
                        score = int(np.clip(truth[arm] + rng.choice([-1, 0, 0, 0, 1]), 1, 5))
                        rows.append((reader, f"C{case:02d}", arm, parameter.name, score, reading))
    table = pd.DataFrame(rows, columns=["reader", "case", "arm", "parameter", "score", "reading"])
    return table.assign(source="human")
