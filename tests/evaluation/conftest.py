"""A head that is quick to make: an ellipsoid of white matter with a ventricle, in a scalp."""

import numpy as np
import pytest

from sn2nlib.scans.heads import TISSUES, Head, centred_affine

SIZE = {"matrix": (16, 32, 32), "voxel_size": (4.0, 3.0, 3.0)}


def make_head(seed: int = 0) -> Head:
    """Digital head on a 24×48×48 grid, with texture, for scans of `SIZE`."""
    shape, spacing = (24, 48, 48), (64 / 24, 2.0, 2.0)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt((z / 0.85) ** 2 + (y / 0.9) ** 2 + (x / 0.8) ** 2)
    tissue = np.zeros(shape, np.uint8)
    tissue[radius < 1] = TISSUES.index("other")
    tissue[radius < 0.85] = TISSUES.index("WM")
    tissue[radius < 0.3] = TISSUES.index("CSF")
    grain = 1 + 0.1 * np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    t1 = np.array([1000, 4000, 1400, 850, 400], np.float32)[tissue] * grain
    pd = np.array([0, 1, 0.8, 0.7, 0.6], np.float32)[tissue]
    return Head(
        name="ellipsoid",
        voxel_size=spacing,
        affine=centred_affine(shape, spacing, np.zeros(3)),
        t1=t1,
        pd=pd,
        t2_star=np.full(shape, 50, np.float32),
        tissue=tissue,
    )


@pytest.fixture
def head() -> Head:
    return make_head()


@pytest.fixture
def size() -> dict[str, tuple[float, ...]]:
    """Matrix and voxel size of a scan of the head."""
    return dict(SIZE)
