"""Raw filter: k-space tapered towards the ends of what was measured, against the ringing of sharp edges.

Where the lines end at once, a bright edge rings across the field of view, beside a bright object stronger than the
noise. Tapering k-space, as many scanners can before they show an image, prevents that. It costs resolution and
correlates the noise of neighbouring voxels, so that it is a choice for images to be looked at: training and study do
without it.

The window is that of Tukey, see Harris FJ. Proc IEEE 1978;66:51-83.
"""

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ScanError
from sn2nlib.recon.partial_fourier import PartialFourier
from sn2nlib.sampling import Mask, open_sides

_Real = NDArray[np.float32]


def raw_filter_window(
    mask: Mask, share: float, method: PartialFourier = "zero", *, acceleration: tuple[int, int] = (1, 1)
) -> _Real | None:
    """Window over (kz, ky) that falls as a squared cosine over the outer share of the lines; None for a share of 0.

    It spans the measured lines of either side of the centre. Where a missing side is filled ("homodyne", "pocs") it
    spans the longer side twice, so that samples and their mirror images weigh the same. The readout is left alone.

    Parameters
    ----------
    mask : (kz, ky) bool
        Acquired samples of the whole scan; the halves take the same window.
    share : float
        0: no filter. 0.25: the outer quarter of either side. 1: a Hann window.
    method : "zero", "homodyne" or "pocs"
        What becomes of a side that was not acquired.
    acceleration
        (Ry, Rz): see `open_sides`.

    Returns
    -------
    (kz, ky) float32 or None

    Raises
    ------
    ScanError
        A share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ScanError(f"a raw filter tapers a share of the lines from 0 to 1 (0.25: the outer quarter), got {share}")
    if share == 0:
        return None
    sides = open_sides(mask, acceleration)
    along_y, along_z = (
        _profile(np.any(mask, axis=axis), share, symmetric=method != "zero" and side != 0)
        for axis, side in enumerate(sides)
    )
    return np.multiply.outer(along_z, along_y).astype(np.float32)


def _profile(measured: NDArray[np.bool_], share: float, *, symmetric: bool) -> NDArray[np.float64]:
    """Window over one axis; it reaches 0 a line beyond the last one measured."""
    if len(measured) == 1:
        return np.ones(1)
    lines = np.flatnonzero(measured) - len(measured) // 2
    before, after = max(1, 1 - lines.min()), max(1, lines.max() + 1)
    if symmetric:
        before = after = max(before, after)
    k = np.arange(len(measured)) - len(measured) // 2
    distance = np.where(k < 0, -k / before, k / after)
    beyond = np.clip((distance - (1 - share)) / share, 0, 1)
    profile: NDArray[np.float64] = np.cos(np.pi / 2 * beyond) ** 2
    return profile
