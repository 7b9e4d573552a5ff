"""Readouts sampled while their gradient rises and falls (echo planar) → the samples of a constant gradient.

The gradient is a trapezoid, the receiver is open for a part of it. With A(t) the area of the gradient up to t, scaled
so that the receiver sees an area of n, sample j of N lies at

    k_j = A(t_j) - A(total) / 2,    t_j = delay + (j + 1/2) · duration / N,

the echo being in the middle of the gradient. A constant gradient of the same area would sample q_i = i - (n - 1) / 2.
The image ρ of the readout, n pixels x about n // 2, follows from the samples s by least squares, its samples at q from
that: G = F_q E⁺, with E_jx = exp(-2πi k_j x / n) / √n, F_q the same at q. With white noise, unweighted least squares
is the estimate of least variance; it needs no density weights. Where samples are more than 1 apart they do not resolve
all n pixels: ρ is sought in the central n / (widest distance), which keeps E well conditioned and must hold the field
of view. On a flat top alone E is unitary and G the identity.

Sources: time and area as in `calc_regrid_traj` of twixtools and `read_twix_hdr` of mapVBVD; least squares instead of
interpolation as in Gadgetron's `EPIReconXObjectTrapezoid`, there with the whole pseudoinverse.

Off centre. Of an object at r₀ + x, with x along the voxels and r₀ the image's centre, the coil receives
exp(-2πi k(t) (r₀ + x)). The receiver's frequency is taken to be that of the flat top at r₀ throughout, in phase at the
echo, so that it multiplies by exp(2πi κ(t) r₀), κ being the flat top's straight line through the echo. On the ramps
exp(2πi r₀ (κ - k)) is left over; it is taken away. For reversed lines κ and k have the other sign. The convention that
is assumed is, besides this receiver, which way voxels follow each other (`sn2nlib.scans.raw.geometry`): for Siemens
against the readout direction of the header, which gives the sign that Gadgetron has. No measurement of ours shows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sn2nlib import fourier
from sn2nlib.errors import ScanError

_TIMES = ("ramp-up time", "flat-top time", "ramp-down time", "delay of the first sample", "duration of the readout")
_NEEDED = (*_TIMES, "number of samples after regridding")
_LONGEST_US = 1e6
_MOST_SAMPLES = 2048  # echo planar readouts have some hundreds; the matrices grow with the square
_ROUNDING_US = 1.0  # headers hold whole microseconds
_WORST_CONDITION = 10.0  # of E; real trapezoids have 1 to 3
_TINY = 1e-9  # µs
WHY = "the readout was sampled on its gradient ramps, at unequal distances"


@dataclass(frozen=True)
class Trapezoid:
    """Gradient and receiver of a readout, in µs; `n_samples` as acquired, `n` after regridding."""

    ramp_up: float
    flat_top: float
    ramp_down: float
    delay: float
    duration: float
    n_samples: int
    n: int

    @property
    def total(self) -> float:
        """Duration of the gradient."""
        return self.ramp_up + self.flat_top + self.ramp_down

    def mirrored(self) -> "Trapezoid":
        """As a reversed line sees it once its samples are flipped."""
        late = self.total - self.delay - self.duration
        return replace(self, ramp_up=self.ramp_down, ramp_down=self.ramp_up, delay=late)

    def area(self, times: NDArray[np.floating]) -> NDArray[np.floating]:
        """Area of a gradient of amplitude 1 from its beginning to `times`."""
        rising = np.clip(times, 0, self.ramp_up)
        flat = np.clip(times - self.ramp_up, 0, self.flat_top)
        falling = np.clip(times - self.ramp_up - self.flat_top, 0, self.ramp_down)
        rise, fall = max(self.ramp_up, _TINY), max(self.ramp_down, _TINY)
        return rising**2 / (2 * rise) + flat + falling - falling**2 / (2 * fall)

    def positions(self) -> tuple[NDArray[np.floating], float]:
        """k_j (n_samples,) in steps of the uniform grid, and the distance of samples on the flat top."""
        dwell = self.duration / self.n_samples
        start, end, whole = self.area(np.array([self.delay, self.delay + self.duration, self.total]))
        scale = self.n / (end - start)
        areas = self.area(self.delay + dwell * (np.arange(self.n_samples) + 0.5))
        return scale * (areas - whole / 2), scale * dwell


@dataclass(frozen=True)
class Regridding:
    """G (n, n_samples) of lines as acquired and, after their samples are flipped, of reversed ones.

    Once oversampling is removed, `noise_sd` (kept,) is the noise SD of a sample over that of an acquired one,
    `correlation` the largest between neighbours.
    """

    forward: NDArray[np.complex64]
    backward: NDArray[np.complex64]
    noise_sd: NDArray[np.float64]
    correlation: float

    @property
    def noise_gain(self) -> float:
        """RMS of `noise_sd`: 1 on a flat top alone."""
        return float(np.sqrt((self.noise_sd**2).mean()))

    def apply(self, samples: NDArray[np.complex64], is_reversed: NDArray[np.bool_]) -> NDArray[np.complex64]:
        """Lines (line, coil, n_samples) as acquired → (line, coil, n), reversed ones flipped; a new array."""
        regridded = np.empty((*samples.shape[:2], len(self.forward)), np.complex64)
        regridded[~is_reversed] = samples[~is_reversed] @ self.forward.T
        regridded[is_reversed] = samples[is_reversed][..., ::-1] @ self.backward.T
        return regridded


def read_trapezoid(numbers: Mapping[str, float], *, n_samples: int, dwell_us: float) -> Trapezoid:
    """The numbers of a header, checked against each other and against the lines.

    Parameters
    ----------
    numbers
        Name (`_NEEDED`) → value in µs, as far as the header has them; "number of samples" and "regridding mode" (2: a
        trapezoid) may be among them.
    n_samples, dwell_us
        Of the lines; 0 µs: unknown.

    Raises
    ------
    ScanError
        If one is missing, absurd, or contradicts another.
    """
    missing = [name for name in _NEEDED if name not in numbers]
    if numbers.get("regridding mode", 2) != 2:
        raise ScanError(f"{WHY}, of a gradient that is no trapezoid (regridding mode {numbers['regridding mode']:g})")
    if missing:
        raise ScanError(f"{WHY}; to regrid it, the header lacks: {', '.join(missing)}")
    up, flat, down, delay, duration = (float(numbers[name]) for name in _TIMES)
    n = numbers[_NEEDED[-1]]
    shape = Trapezoid(up, flat, down, delay, duration, n_samples, int(n) if 2 <= n <= _MOST_SAMPLES else 0)
    dwell, late = shape.duration / n_samples, shape.total - shape.delay - shape.duration
    told = numbers.get("number of samples", n_samples)
    wrong = {
        f"{n:g} samples after regridding, {n_samples} before": not shape.n or not 2 <= n_samples <= _MOST_SAMPLES,
        "times below 0, or longer than a second":
            not all(0 <= time <= _LONGEST_US for time in (up, flat, down, delay, duration)),
        f"{told:g} samples in the header, {n_samples} in the lines": told != n_samples,
        f"a readout of {shape.duration:g} µs after {shape.delay:g} µs, a gradient of {shape.total:g} µs":
            dwell <= 0 or late < -_ROUNDING_US,
        f"{shape.delay:g} µs of gradient before the readout, {late:g} µs after it: the echo is not in its middle":
            abs(late - shape.delay) > 2 * max(dwell, _ROUNDING_US),
        f"{dwell:.3g} µs per sample by the readout's duration, {dwell_us:.3g} µs by the dwell time":
            dwell_us > 0 and abs(dwell / dwell_us - 1) > 0.05,
    }  # fmt: skip
    for contradiction, is_wrong in wrong.items():
        if is_wrong:
            raise ScanError(f"{WHY}, and its header cannot be right: {contradiction}")
    if not np.ptp(shape.area(np.array([shape.delay, shape.delay + shape.duration]))) > 0:
        raise ScanError(f"{WHY}, and its header cannot be right: there is no gradient during the readout")
    return shape


def make_regridding(shape: Trapezoid, *, kept: int, offset: float) -> Regridding:
    """The matrices of a readout.

    Parameters
    ----------
    shape
    kept
        Pixels of the readout that are left when its oversampling is removed.
    offset
        Distance of the image's centre from the magnet's, in the direction in which voxels follow each other, over the
        encoded field of view.

    Raises
    ------
    ScanError
        If the samples do not resolve the field of view, or lie so that noise would be amplified.
    """
    forward, backward = (_matrix(each, kept, offset) for each in (shape, shape.mirrored()))
    image = fourier.crop(fourier.ifft(forward.T, axes=(-1,)), (kept,))
    final = fourier.fft(image, axes=(-1,)).T  # (kept, n_samples)
    covariance = final @ final.conj().T
    sd = np.sqrt(covariance.diagonal().real)
    correlation = np.abs(covariance.diagonal(1)) / (sd[1:] * sd[:-1])
    most = float(correlation.max(initial=0))
    return Regridding(forward.astype(np.complex64), backward.astype(np.complex64), sd, most)


def _matrix(shape: Trapezoid, kept: int, offset: float) -> NDArray[np.complex128]:
    """G (n, n_samples)."""
    positions, distance = shape.positions()
    pixels = shape.n if distance < 1 + 1e-6 else int(shape.n / distance)
    if pixels < kept:
        raise ScanError(f"{WHY}, on the flat top {distance:.3g} times as far apart as the encoded field of view asks: "
                        f"{pixels} pixels are resolved, {kept} are needed")  # fmt: skip
    encoding = _waves(positions, pixels, shape.n)
    normal = encoding.conj().T @ encoding
    low, high = np.linalg.eigvalsh(normal)[[0, -1]]
    if not low * _WORST_CONDITION**2 > high:
        raise ScanError(f"{WHY}, which leave gaps: regridding would amplify the noise")
    image = np.linalg.solve(normal, encoding.conj().T)  # (pixels, n_samples)
    intended = distance * (np.arange(shape.n_samples) - (shape.n_samples - 1) / 2)
    image *= np.exp(-2j * np.pi * offset * (intended - positions))
    return _waves(np.arange(shape.n) - (shape.n - 1) / 2, pixels, shape.n) @ image


def _waves(positions: NDArray[np.floating], pixels: int, n: int) -> NDArray[np.complex128]:
    """exp(-2πi k x / n) / √n (position, pixel) of the `pixels` about the middle."""
    return np.exp(-2j * np.pi / n * np.outer(positions, np.arange(pixels) - pixels // 2)) / np.sqrt(n)
