"""Criteria of the repository, a small reader study that can be checked by hand, and images still to be read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sn2nlib.evaluation.readers.criteria import Criteria, load_criteria
from sn2nlib.evaluation.readers.demo import make_demo_study
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


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to be read: five cases of two parameters, two of them read twice, by two readers; of odd voxels."""
    return make_demo_study(
        tmp_path_factory.mktemp("reading") / "study", n_cases=5, repeats=2, parameters=("sharpness", "hippocampus"),
        matrix=(20, 24, 18), voxel_size=(9.0, 8.0, 9.5),
    )  # fmt: skip
