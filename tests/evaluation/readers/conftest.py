"""A small study to be read, made once."""

from pathlib import Path

import pytest

from sn2nlib.evaluation.readers.demo import make_demo_study

PARAMETERS = ("sharpness", "hippocampus")
MATRIX = (20, 24, 18)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five cases of two parameters, two of them read twice, by two readers; of odd voxels."""
    return make_demo_study(
        tmp_path_factory.mktemp("reading") / "study", n_cases=5, repeats=2, parameters=PARAMETERS, matrix=MATRIX,
        voxel_size=(9.0, 8.0, 9.5),
    )  # fmt: skip
