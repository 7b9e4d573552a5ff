"""Windows: known noise, known voxel numbers, nothing that depends on what was drawn before."""

import dataclasses
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sn2nlib.denoiser import SliceWindows, TrainingVolume, noisier_magnitude, rician_variance, training_volume
from sn2nlib.denoiser.slices import window
from sn2nlib.errors import ImageError


def numbered(shape: tuple[int, int, int] = (9, 21, 26)) -> TrainingVolume:
    """Every voxel holds a number of its own, the same in both halves and in the variance."""
    ids = 1 + np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return TrainingVolume(ids, ids.copy(), ids.copy())


@pytest.mark.parametrize("theta", [0.0, 1.0, 3.0, 10.0])
def test_rician_variance_is_that_of_simulated_magnitudes(theta: float) -> None:
    rng = np.random.default_rng(1)
    sd = 2.5
    n = 400_000
    magnitude = np.abs(theta * sd + sd * (rng.standard_normal(n) + 1j * rng.standard_normal(n)))
    assert rician_variance(np.array(theta * sd), np.array(sd)) == pytest.approx(magnitude.var(), rel=0.01)


def test_rician_variance_at_its_limits() -> None:
    assert rician_variance(np.zeros(1), np.ones(1))[0] == pytest.approx(2 - np.pi / 2)
    assert rician_variance(np.array([1e3, 1e8]), np.ones(2)) == pytest.approx(1, abs=1e-4)
    assert rician_variance(np.array([0.0, 5.0]), np.zeros(2)).tolist() == [0, 0]


@pytest.mark.parametrize("gain", [1.0, 370.0])
def test_training_volume_predicts_the_noise_of_a_half(pair: SimpleNamespace, gain: float) -> None:
    scaled = SimpleNamespace(**{name: value * np.float32(gain) for name, value in vars(pair).items()})
    volume = training_volume(scaled)
    for half in (volume.half_a, volume.half_b):
        assert half.dtype == np.float32
    air, signal = pair.truth == 0, pair.truth > 0
    air[:, 8:] = False  # the estimate of the signal reaches one voxel into the air
    # the halves' noise is independent: half the mean square of their difference is the variance
    measured = (volume.half_a.astype(np.float64) - volume.half_b) ** 2 / 2
    assert volume.variance[air].mean() == pytest.approx(measured[air].mean(), rel=0.05)
    assert volume.variance[signal].mean() == pytest.approx(measured[signal].mean(), rel=0.05)
    assert volume.variance[air].mean() == pytest.approx((2 - np.pi / 2) * 0.01, rel=0.05)


def test_training_volume_leaves_the_pair_alone_and_wants_a_scale(pair: SimpleNamespace) -> None:
    before = {name: np.array(value) for name, value in vars(pair).items()}
    training_volume(pair)
    assert all(np.array_equal(before[name], value) for name, value in vars(pair).items())
    with pytest.raises(ImageError, match="intensity scale of the pair is 0"):
        training_volume(SimpleNamespace(**{**vars(pair), "scale": 0}))


def test_bad_volumes_are_named() -> None:
    good = np.ones((3, 4, 5), np.float32)
    with pytest.raises(ImageError, match=r"half_b .*\(3, 4, 4\)"):
        TrainingVolume(good, good[..., 1:], good)
    bad = good.copy()
    bad[2, 0, 0] = np.nan
    with pytest.raises(ImageError, match=r"variance .* NaN or Inf, first in partition 2; .*, or leave it out"):
        TrainingVolume(good, good, bad)
    with pytest.raises(ImageError, match="no scan"):
        SliceWindows([])
    with pytest.raises(ImageError, match="no centre"):
        SliceWindows([TrainingVolume(good, good, good)], slices=4)


def test_windows_repeat_the_last_partition() -> None:
    volume = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    assert window(volume, 0, 7)[:, 0, 0].tolist() == [0, 0, 0, 0, 1, 2, 3]
    assert window(volume, 4, 7)[:, 0, 0].tolist() == [1, 2, 3, 4, 4, 4, 4]
    assert window(volume, 2, 3)[:, 1, 2].tolist() == [1, 2, 3]


@pytest.mark.parametrize("transpose", [False, True])
def test_input_target_and_variance_stay_together(transpose: bool) -> None:
    volume = numbered()
    windows = SliceWindows([volume], patch=12, length=200, seed=3, transpose=transpose)
    steps = set()
    for index in range(200):
        inputs, target, variance = (part.numpy().astype(np.float64) for part in windows[index])
        assert inputs.shape == (7, 12, 12) and target.shape == variance.shape == (1, 12, 12)
        np.testing.assert_array_equal(inputs[3], target[0])
        factor = (variance / target).mean()  # variance has the factor squared
        assert 0.7 <= factor <= 1.4
        ids = np.rint(inputs / factor) - 1
        z, y, x = np.unravel_index(ids.astype(int), volume.half_a.shape)
        assert all(len(np.unique(partition)) == 1 for partition in z)
        assert np.ptp(y, axis=0).max() == np.ptp(x, axis=0).max() == 0
        order = z[:, 0, 0]
        expected = np.clip(np.arange(order[3] - 3, order[3] + 4), 0, 8)
        assert order.tolist() in (expected.tolist(), expected[::-1].tolist())
        steps.add((y[0, 1, 0] - y[0, 0, 0], x[0, 0, 1] - x[0, 0, 0]))
    mirrored = {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    assert steps == (mirrored | {(0, 0)} if transpose else mirrored)


def test_both_directions_are_drawn_and_never_mixed() -> None:
    half_a, half_b = np.full((2, 8, 9, 9), 1, np.float32)
    volume = TrainingVolume(half_a, 3 * half_b, half_a)
    inputs, target, _ = SliceWindows([volume], length=400, augment=False).batch(range(400))
    ratio = (target / inputs[:, :1]).flatten(1)
    assert bool((ratio == ratio[:, :1]).all())
    assert 150 < int((ratio[:, 0] == 3).sum()) < 250


def test_an_item_depends_on_seed_and_index_alone(volumes: list[TrainingVolume]) -> None:
    state = str(np.random.get_state()), torch.get_rng_state(), random.getstate()  # noqa: NPY002
    windows = SliceWindows(volumes, patch=16, length=100, seed=5)
    later = windows.batch([40, 7])
    assert torch.equal(SliceWindows(volumes, patch=16, length=41, seed=5)[40][0], later[0][0])
    for part, whole in zip(windows[7], later, strict=True):
        assert torch.equal(part, whole[1])
    assert not torch.equal(SliceWindows(volumes, patch=16, length=100, seed=6)[7][0], later[0][1])
    assert state[0] == str(np.random.get_state())  # noqa: NPY002
    assert torch.equal(state[1], torch.get_rng_state()) and state[2] == random.getstate()


@pytest.mark.parametrize("signal", [0.0, 0.2, 1.0])
def test_noise_added_to_a_magnitude_is_noise_added_to_its_image(signal: float) -> None:
    rng = np.random.default_rng(2)
    first, second, n = 0.2, 0.3, 400_000
    noise = rng.standard_normal((4, n))
    image = signal * np.exp(1j * np.linspace(0, 9, n)) + first * (noise[0] + 1j * noise[1])
    magnitude = np.abs(image).astype(np.float32)
    before = magnitude.copy()
    noisier = noisier_magnitude(magnitude, second, rng)
    expected = np.abs(image + second * (noise[2] + 1j * noise[3]))  # on the image, which has a phase
    np.testing.assert_array_equal(magnitude, before)
    assert noisier.dtype == np.float32 and noisier.min() >= 0
    shares = np.linspace(0.01, 0.99, 25)
    np.testing.assert_allclose(np.quantile(noisier, shares), np.quantile(expected, shares), atol=3e-3)
    total = np.hypot(first, second)
    assert noisier.var() == pytest.approx(rician_variance(np.array(signal), np.array(total)), rel=0.02)


def test_extra_noise_is_in_the_input_alone_and_a_new_one_in_every_window() -> None:
    flat = np.ones((9, 40, 40), np.float32)
    volume = TrainingVolume(flat, 2 * flat, 0.1 * flat)
    options = {"patch": 24, "length": 300, "seed": 4}
    plain = SliceWindows([volume], **options).batch(range(300))
    noisy = SliceWindows([volume], extra_noise=0.1, **options)
    inputs, target, variance = noisy.batch(range(300))
    assert torch.equal(target, plain[1]) and torch.equal(variance, plain[2])
    factors = (variance[:, 0] / 0.1).sqrt()  # of intensity
    middle = ((inputs - plain[0])[:, 3] / factors).numpy()
    sds = middle.std(axis=(1, 2))
    assert 0 <= sds.min() < 0.005 and 0.095 < sds.max() < 0.11
    assert sds.mean() == pytest.approx(0.05, abs=0.005)
    assert torch.equal(noisy[7][0], inputs[7])
    assert not np.array_equal(middle[0], middle[1])
    later = SliceWindows([volume], extra_noise=0.1, patch=24, length=8, seed=4)
    assert torch.equal(later[7][0], inputs[7])
    quiet = SliceWindows([volume], extra_noise=0.1, augment=False, **options)[7][0]
    assert torch.equal(quiet, SliceWindows([volume], augment=False, **options)[7][0])


def test_a_repeated_partition_has_its_extra_noise_once() -> None:
    flat = np.ones((3, 20, 20), np.float32)
    windows = SliceWindows([TrainingVolume(flat, flat, flat)], patch=16, length=20, extra_noise=0.5)
    inputs = windows.batch(range(20))[0].numpy()
    for item in inputs:
        assert len(np.unique(item.reshape(7, -1), axis=0)) == 3


def test_most_windows_hold_a_head_and_every_voxel_is_reached() -> None:
    head = np.zeros((20, 60, 50), np.float32)
    head[8:14, 20:40, 15:35] = 1
    counter = TrainingVolume(head, head, 1 + np.arange(head.size, dtype=np.float32).reshape(head.shape))
    windows = SliceWindows([counter], patch=20, length=3000, augment=False)
    _, target, variance = windows.batch(range(3000))
    held = (target > 0.5).float().mean(dim=(1, 2, 3)) >= 0.2
    assert 0.85 < held.float().mean() < 0.97
    seen = np.zeros(head.size, bool)
    seen[variance.numpy().astype(int).ravel() - 1] = True
    assert seen.reshape(head.shape)[8:14, 14:46, 9:41].all()


def test_small_scans_limit_the_patch(volumes: list[TrainingVolume]) -> None:
    windows = SliceWindows(volumes, patch=96, length=2)
    assert windows.patch == 33 and windows[0][0].shape == (7, 33, 33)
    with pytest.raises(IndexError, match="window 2 of 2"):
        windows[2]


def test_the_fingerprint_knows_the_scan(volumes: list[TrainingVolume]) -> None:
    copy = dataclasses.replace(volumes[0], half_a=volumes[0].half_a.copy())
    assert copy.fingerprint() == volumes[0].fingerprint() != volumes[1].fingerprint()
    copy.half_a[5, 5, 5] += 1
    assert copy.fingerprint() != volumes[0].fingerprint()
