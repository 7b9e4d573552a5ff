"""The halves of a scan at a coarser resolution: more to learn from, and at a lower noise level.

The halves are noisier than the images that the network will be used on, and a network is best at the noise it has
seen. Cropping k-space to a share s of every axis makes voxels 1/s times as wide, whose noise SD is s^(3/2) times the
former one, of images that are as sharp for their voxels as before. It is linear and comes before the magnitude, so the
noise of the halves stays independent. The paper does not do this; a profile asks for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from sn2nlib.errors import ImageError
from sn2nlib.fourier import crop, fft, ifft

FEWEST = (7, 8, 8)  # voxels (z, y, x): the partitions of a window, and one voxel of the deepest of three levels


@dataclass(frozen=True)
class CoarsePair:
    """What `training_volume` needs of a pair; (z, y, x), images complex64, noise SD float32, all in one unit."""

    original: NDArray[np.complex64]
    half_a: NDArray[np.complex64]
    half_b: NDArray[np.complex64]
    noise_sd: NDArray[np.float32]
    noise_sd_half: NDArray[np.float32]
    scale: float


def check_share(share: float) -> None:
    """Raise ImageError unless the share is above 0 and at most 1."""
    if not 0 < share <= 1:
        raise ImageError(f"a coarser image keeps a share of k-space above 0 and at most 1, not {share}")


def coarser_shape(shape: Sequence[int], share: float) -> tuple[int, int, int]:
    """Voxels (z, y, x) of an image of this shape at a coarser resolution.

    Raises
    ------
    ImageError
        If the share is outside its range, or leaves fewer voxels than a window of the network.
    """
    check_share(share)
    made = _rounded(shape, share)
    if _serves(made):
        return made
    told, whole, fewest = (" × ".join(map(str, sizes)) for sizes in (made, shape, FEWEST))
    smallest = next((percent for percent in range(1, 101) if _serves(_rounded(shape, percent / 100))), None)
    advice = "no share does here: leave --coarser out" if smallest is None else f"take {smallest / 100:g} or more"
    raise ImageError(
        f"a share of {share:g} of k-space (--coarser) leaves {told} of the {whole} voxels (z, y, x), and a network "
        f"learns from {fewest} or more; {advice}"
    )


def coarser_pair(pair: Any, share: float) -> CoarsePair:
    """Original and halves from the centre of their k-space, intensities kept.

    Parameters
    ----------
    pair
        `sn2nlib.recon.Pair`, or anything with its images, noise maps and scale.
    share
        Of every axis of k-space that is kept, above 0 and at most 1.

    Returns
    -------
    CoarsePair
        The noise maps are those of noise that is white over k-space; what GRAPPA fills is not quite white,
        and of an asymmetric echo, whose centre was acquired, they are a little low.

    Raises
    ------
    ImageError
        If the share is outside its range, or leaves fewer voxels than a window of the network.
    """
    shape = coarser_shape(pair.original.shape, share)
    gain: Any = np.float32(np.sqrt(np.prod(shape) / pair.original.size))

    def image(fine: NDArray[np.complex64]) -> NDArray[np.complex64]:
        coarse: NDArray[np.complex64] = gain * ifft(crop(fft(fine), shape))
        return coarse

    def noise(fine: NDArray[np.float32]) -> NDArray[np.float32]:
        factors = [new / old for new, old in zip(shape, fine.shape, strict=True)]
        coarse: NDArray[np.float32] = gain * zoom(fine, factors, order=1, mode="nearest", grid_mode=True)
        return coarse

    return CoarsePair(
        image(pair.original), image(pair.half_a), image(pair.half_b),
        noise(pair.noise_sd), noise(pair.noise_sd_half), pair.scale,
    )  # fmt: skip


def _rounded(shape: Sequence[int], share: float) -> tuple[int, int, int]:
    z, y, x = (max(1, round(share * n)) for n in shape)
    return z, y, x


def _serves(shape: Sequence[int]) -> bool:
    return all(n >= fewest for n, fewest in zip(shape, FEWEST, strict=True))
