"""Where an array holds NaN or Inf, in words for whoever has to mend it."""

import numpy as np


def not_finite(array: np.ndarray, axes: str) -> str:
    """How many voxels are NaN or Inf, and where the first of them lies, in words; empty if none is.

    Parameters
    ----------
    array
        Any shape.
    axes
        What its axes are called, such as "z, y, x".
    """
    finite = np.isfinite(array)
    if finite.all():
        return ""
    first = ", ".join(str(int(place)) for place in np.unravel_index(int(finite.argmin()), finite.shape))
    count = finite.size - np.count_nonzero(finite)
    return f"NaN or Inf in {count} of {finite.size} voxels, the first at ({axes}) = ({first})"
