"""2.5D training windows: seven partitions of one half in, the centre partition of the other half as target.

Everything that is random about a window is a pure function of (seed, index), whatever was drawn before: a
training that was interrupted sees exactly the windows it would have seen.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from scipy.special import ive
from torch.utils.data import Dataset

from sn2nlib.errors import ImageError

ANYWHERE = 0.1  # share of the windows that may lie outside the head
FOREGROUND = 0.2  # a voxel above this many intensity scales counts as head
HEAD_SHARE = 0.25  # of a patch's voxels, for the other windows
TRIES = 100
_SLAB = 16  # partitions


@dataclass(frozen=True)
class TrainingVolume:
    """Magnitudes of the two halves of one scan, over the scan's intensity scale, and their predicted noise.

    Attributes
    ----------
    half_a, half_b
        (z, y, x) float32, in intensity scales.
    variance
        (z, y, x) float32, Rician noise variance of a half's magnitude, in squared intensity scales.

    The arrays may be memory maps (`volumes.load_volume`); they are never copied as a whole.
    """

    half_a: np.ndarray
    half_b: np.ndarray
    variance: np.ndarray

    def __post_init__(self) -> None:
        for name in ("half_a", "half_b", "variance"):
            array = getattr(self, name)
            if array.ndim != 3 or array.shape != self.half_a.shape or array.size == 0:
                raise ImageError(
                    f"{name} of a training volume has shape {array.shape}; all must be (z, y, x) "
                    f"and of one shape, here {self.half_a.shape}"
                )
            check_partitions(len(array))
            for number, partition in enumerate(array):  # one by one: the array may be on disk
                if not np.isfinite(partition).all():
                    raise ImageError(
                        f"{name} of a training volume holds NaN or Inf, first in partition {number}; reconstruct the "
                        "scan again, or leave it out"
                    )

    def fingerprint(self) -> str:
        """Shape and checksum of every 5th voxel: tells whether a training is resumed with the same scans."""
        checksum = 0
        for array in (self.half_a, self.half_b, self.variance):
            checksum = zlib.crc32(np.ascontiguousarray(array[::5, ::5, ::5]).tobytes(), checksum)
        return "x".join(map(str, self.half_a.shape)) + f"-{checksum:08x}"


def check_partitions(count: int) -> None:
    """Raise ImageError if a scan has too few partitions to be trained on."""
    if count == 1:
        raise ImageError(
            "one partition: a 2D scan is not trained on, since the network learns to use the partitions next to the "
            "one that it corrects; take scans of several partitions"
        )


def rician_variance(signal: np.ndarray, noise_sd: np.ndarray) -> np.ndarray:
    """Variance of the magnitude of `signal` plus complex noise.

    σ² ξ(θ) with θ = signal / σ and

        ξ(θ) = 2 + θ² − (π/8) exp(−θ²/2) [(2 + θ²) I₀(θ²/4) + θ² I₁(θ²/4)]²,

    which is 2 − π/2 = 0.43 without signal and tends to 1 in strong signal.

    Parameters
    ----------
    signal
        Noise-free magnitude, any shape.
    noise_sd
        σ per real and imaginary component, same units and shape (or broadcastable).

    Returns
    -------
    float64 variance, in squared units of `signal`.

    References
    ----------
    Koay CG, Basser PJ. J Magn Reson 2006;179:317–322.
    """
    signal, noise_sd = np.broadcast_arrays(np.asarray(signal, np.float64), np.asarray(noise_sd, np.float64))
    theta = np.divide(signal, noise_sd, out=np.zeros(signal.shape), where=noise_sd > 0)
    # beyond θ = 100, ξ is 1 to within 1e-4 while the difference below loses its digits
    squared = np.clip(theta, 0, 100) ** 2
    # ive is scaled by exp(−θ²/4); squaring it gives the exp(−θ²/2) of the formula without overflow
    bracket = (2 + squared) * ive(0, squared / 4) + squared * ive(1, squared / 4)
    return noise_sd**2 * (2 + squared - np.pi / 8 * bracket**2)


def training_volume(pair: Any) -> TrainingVolume:
    """Magnitudes, scale and predicted noise of one pair of halves.

    The noise-free signal that Koay's factor needs is estimated from the original image, which has the least
    noise: |original|² − 2σ², averaged over 3×3×3 voxels and only then cut at zero, so that air comes out near
    zero rather than at its Rician floor.

    Parameters
    ----------
    pair
        `sn2nlib.recon.Pair`, or anything with `original`, `half_a`, `half_b` (complex, (z, y, x)), `noise_sd`
        and `noise_sd_half` (maps of the SD per component of the original and of a half, same units) and
        `scale`.

    Raises
    ------
    ImageError
        If the scale is not a positive number, or an array holds NaN or has another shape.
    """
    if not (np.isfinite(pair.scale) and pair.scale > 0):
        raise ImageError(f"the intensity scale of the pair is {pair.scale}; it must be a positive number")
    half_a, half_b = (
        (np.abs(half) / np.float32(pair.scale)).astype(np.float32) for half in (pair.half_a, pair.half_b)
    )
    variance = np.empty(half_a.shape, np.float32)
    for first in range(0, len(variance), _SLAB):
        last = min(first + _SLAB, len(variance))
        variance[first:last] = _half_variance(pair, first, last)
    return TrainingVolume(half_a, half_b, variance)


def _half_variance(pair: Any, first: int, last: int) -> np.ndarray:
    """Variance of a half's magnitude in some partitions; in slabs, since it is computed in double precision."""
    below, above = max(first - 1, 0), last + 1  # the mean over 3×3×3 voxels needs a neighbour
    original = np.abs(pair.original[below:above]).astype(np.float64)
    power = original**2 - 2 * np.asarray(pair.noise_sd[below:above], np.float64) ** 2
    smooth = uniform_filter(power, 3, mode="nearest")[first - below : last - below]
    variance: np.ndarray = rician_variance(np.sqrt(np.maximum(smooth, 0)), pair.noise_sd_half[first:last])
    return variance / pair.scale**2


def window(volume: np.ndarray, partition: int, slices: int) -> np.ndarray:
    """The `slices` partitions around `partition`; at the volume's ends the last partition is repeated.

    Parameters
    ----------
    volume
        (z, y, x).

    Returns
    -------
    (slices, y, x), a copy.
    """
    neighbours = np.arange(partition - slices // 2, partition - slices // 2 + slices)
    return volume[np.clip(neighbours, 0, volume.shape[0] - 1)]


def noisier_magnitude(magnitude: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """The magnitude image as it would be if more complex Gaussian noise had been in its k-space.

    |m + n| with the magnitude m and complex n. The image behind m had a phase, m·exp(iψ), which is not kept; since n is
    as likely as n·exp(iψ), |m·exp(iψ) + n| and |m + n| have the same distribution: nothing is approximated. A Rician
    magnitude of noise SD σ becomes a Rician one of √(σ² + sd²) of the same signal, floor in air and all. Gaussian noise
    added to m itself would leave the floor where it was and make magnitudes negative.

    Parameters
    ----------
    magnitude
        Any shape, float32.
    sd
        Of the added noise per real and imaginary component, same unit; white over the voxels.
    rng
        What decides it.

    Returns
    -------
    float32, a new array.
    """
    real, imaginary = np.float32(sd) * rng.standard_normal((2, *magnitude.shape), np.float32)
    noisier: np.ndarray = np.hypot(magnitude + real, imaginary)
    return noisier


class SliceWindows(Dataset):
    """Random training windows from the halves of many scans.

    Item `index` is drawn from (seed, index) alone: the scan, the direction (A → B or B → A), the partition and the
    patch (at least a quarter head, but for every tenth window), extra noise of the input if asked for, mirroring along
    y, along x, and of the order of partitions, and one intensity factor, log-uniform, for input and target. Patches are
    square, `patch` wide or as wide as the smallest scan allows.

    Parameters
    ----------
    volumes
        Training volumes; their sizes may differ.
    patch
        Width of a patch in voxels.
    slices
        Partitions per window, odd.
    length
        Number of items; a training uses steps · batch.
    augment
        Mirroring and intensity factors; off for validation.
    transpose
        Also exchange y and x in every second window. Off by default: undersampling and anatomy tell them
        apart.
    intensity
        Range of the intensity factor.
    extra_noise
        Largest SD, in intensity scales, of complex noise added to the input, of a new SD between 0 and this in every
        window (see `noisier_magnitude`): scans noisier than the halves are then no news to the network. The target
        stays as it was measured, and so does its variance: what the best answer leaves of the loss does not change, and
        the floor that the network learns to answer in air is no higher. Drawn from numbers of its own, so that the
        windows are the same with and without it; a partition that is repeated at the volume's end has its noise once.
        Off (0) by default and for validation.
    """

    def __init__(
        self, volumes: Sequence[TrainingVolume], *, patch: int = 96, slices: int = 7, length: int = 1,
        seed: int = 0, augment: bool = True, transpose: bool = False,
        intensity: tuple[float, float] = (0.7, 1.4), extra_noise: float = 0.0,
    ) -> None:
        if not volumes:
            raise ImageError("there is no scan to draw windows from; give at least one training volume")
        if slices % 2 != 1:
            raise ImageError(f"a window of {slices} partitions has no centre; use an odd number")
        if not 0 <= extra_noise < np.inf:
            raise ImageError(f"the extra noise is an SD in intensity scales, at least 0, not {extra_noise}")
        self.volumes = list(volumes)
        self.patch = min(patch, *(min(volume.half_a.shape[1:]) for volume in volumes))
        self.slices, self.length, self.seed = slices, length, seed
        self.augment, self.transpose, self.intensity, self.extra_noise = augment, transpose, intensity, extra_noise

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Input (slices, y, x); target and the target's noise variance (1, y, x); float32."""
        if not 0 <= index < self.length:
            raise IndexError(f"window {index} of {self.length}")
        inputs, target, variance = (arrays[0] for arrays in self.batch([index]))
        return inputs, target, variance

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Several items at once: inputs (n, slices, y, x), targets (n, 1, y, x), variances (n, 1, y, x)."""
        size, n = self.patch, len(indices)
        inputs = np.empty((n, self.slices, size, size), np.float32)
        targets, variances = np.empty((2, n, 1, size, size), np.float32)
        for row, index in enumerate(indices):
            inputs[row], targets[row, 0], variances[row, 0] = self._draw(index)
        return torch.from_numpy(inputs), torch.from_numpy(targets), torch.from_numpy(variances)

    def _draw(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, index])
        volume = self.volumes[rng.integers(len(self.volumes))]
        source, label = (volume.half_a, volume.half_b) if rng.integers(2) else (volume.half_b, volume.half_a)
        z, rows, columns = self._place(source, rng)
        inputs = self._inputs(source[:, rows, columns], z, index)
        target, variance = label[z, rows, columns], volume.variance[z, rows, columns]
        return self._vary(inputs, target, variance, rng) if self.augment else (inputs, target, variance)

    def _inputs(self, source: np.ndarray, z: int, index: int) -> np.ndarray:
        """The partitions around z of a patch (z, y, x), with extra noise if there is to be any."""
        if not (self.augment and self.extra_noise):
            return window(source, z, self.slices)
        rng = np.random.default_rng([self.seed, index, 1])  # of its own: the other draws stay what they were
        sd, first = rng.uniform(0, self.extra_noise), max(z - self.slices // 2, 0)
        noisier = noisier_magnitude(source[first : z + self.slices // 2 + 1], sd, rng)
        return window(noisier, z - first, self.slices)

    def _place(self, source: np.ndarray, rng: np.random.Generator) -> tuple[int, slice, slice]:
        """Partition and patch; the starts reach over the edge and are cut there, else edges would be rare."""
        reach = self.patch // 4
        tries = 1 if rng.random() < ANYWHERE else TRIES
        for _ in range(tries):
            z = int(rng.integers(source.shape[0]))
            y, x = (
                int(np.clip(rng.integers(-reach, size - self.patch + reach + 1), 0, size - self.patch))
                for size in source.shape[1:]
            )
            rows, columns = slice(y, y + self.patch), slice(x, x + self.patch)
            # every 4th voxel tells whether there is a head
            if np.mean(source[z, rows, columns][::4, ::4] > FOREGROUND) >= HEAD_SHARE:
                break
        return z, rows, columns

    def _vary(
        self, inputs: np.ndarray, target: np.ndarray, variance: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        reverse, mirror_y, mirror_x, exchange = rng.integers(2, size=4).astype(bool)
        if reverse:
            inputs = inputs[::-1]
        step_y, step_x = (-1 if mirror_y else 1), (-1 if mirror_x else 1)
        inputs, target, variance = (a[..., ::step_y, ::step_x] for a in (inputs, target, variance))
        if exchange and self.transpose:
            inputs, target, variance = (a.swapaxes(-2, -1) for a in (inputs, target, variance))
        factor = np.float32(np.exp(rng.uniform(*np.log(self.intensity))))
        return inputs * factor, target * factor, variance * factor**2
