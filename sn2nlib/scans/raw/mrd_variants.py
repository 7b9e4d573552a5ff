"""ISMRMRD files that differ from the rule (``layouts.yaml``, container ismrmrd): known by their header, set right."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ScanError
from sn2nlib.fourier import fft
from sn2nlib.scans.raw.layout_table import AXES, Layout, load_layouts
from sn2nlib.scans.raw.whiteness import why_not_white


def mrd_variant(header: Any) -> Layout | None:
    """The entry of ``layouts.yaml`` that the header of an ISMRMRD file belongs to; None for files that follow the rule.

    Parameters
    ----------
    header
        ``ismrmrd.xsd.ismrmrdHeader``.
    """
    parameters = user_parameters(header)
    of_mrd = (layout for layout in load_layouts() if layout.container == "ismrmrd")
    return next((layout for layout in of_mrd if _fits(header, parameters, layout.recognise)), None)


def user_parameters(header: Any) -> dict[str, Any]:
    """Name → value of the header's user parameters, numbers and words."""
    lists = (f"userParameter{kind}" for kind in ("Long", "Double", "String"))
    return {entry.name: entry.value for name in lists for entry in getattr(header.userParameters, name, None) or ()}


def apply_variant(
    variant: Layout,
    kspace: NDArray[np.complex64],
    mask: NDArray[np.bool_],
    *,
    parameters: dict[str, Any],
    noise_sd: NDArray[np.floating] | None = None,
) -> str | None:
    """Bring what was read from a variant's lines to the axis contract.

    1. Signs: (-1)^(ky (1 - ChopY) + kz (1 - ChopZ)), the parameters as in the header.
    2. Every channel over its noise SD, if the file has them.
    3. Axes that are images already → k-space.
    4. Where training asks for it: is the noise along these axes white?

    Parameters
    ----------
    variant
        From `mrd_variant`.
    kspace : (coil, kz, ky, kx) complex64
        Lines in their places, the first axis after the coils being whatever the file counts (partitions or slices);
        overwritten.
    mask : (kz, ky) bool
        Acquired lines.
    parameters
        From `user_parameters`.
    noise_sd : (coil,) float, optional
        The array of the file that `variant.noise_sd` names.

    Returns
    -------
    not_for_training : str or None
        The reason.

    Raises
    ------
    ScanError
        If the noise SDs do not fit the channels, or a sign parameter is no whole number.
    """
    signs = np.ones(kspace.shape[1:3], np.float32)
    for name, parameter in variant.signs.items():
        axis = AXES.index(name) - 1
        alternating = 1 - _whole(parameters.get(parameter, 1), parameter)
        if alternating % 2:
            lines = (-1.0) ** np.arange(kspace.shape[axis + 1])
            signs *= np.expand_dims(lines, 1 - axis).astype(np.float32)
    scale = np.ones(len(kspace), np.float32)
    if noise_sd is not None:
        sd = np.ravel(noise_sd).astype(float)
        if sd.shape != scale.shape or not (np.isfinite(sd) & (sd > 0)).all():
            raise ScanError(f"{variant.noise_sd}: needs a noise SD above 0 for each of the {len(kspace)} channels")
        scale = (1 / sd).astype(np.float32)
    axes = tuple(AXES.index(name) - 4 for name in variant.image_axes)
    for coil, samples in enumerate(kspace):
        signed = samples * (scale[coil] * signs[:, :, None])
        kspace[coil] = fft(signed, axes=axes) if axes else signed
    return why_not_white(kspace, mask) if variant.training == "if_white" else variant.reason_against_training


def _whole(value: Any, name: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):  # what they say may quote the file
        raise ScanError(f"the header's user parameter {name} must be a whole number") from None


def _fits(header: Any, parameters: dict[str, Any], wanted: dict[str, Any]) -> bool:
    numbers = [
        (value := _value(header, path)) is not None and (value > limit if side == "above" else value < limit)
        for side in ("above", "below")
        for path, limit in wanted.get(side, {}).items()
    ]
    words = [word in str(_value(header, path) or "").lower() for path, word in wanted.get("contains", {}).items()]
    return all(name in parameters for name in wanted.get("parameters", [])) and all(numbers) and all(words)


def _value(header: Any, path: str) -> Any:
    """Value at a dotted path of names and list indices; None where there is none."""
    for step in path.split("."):
        if header is None:
            return None
        if step.isdigit():
            header = header[int(step)] if int(step) < len(header) else None
        else:
            header = getattr(header, step, None)
    return header
