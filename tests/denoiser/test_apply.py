"""A trained model at work: windows, units, the blend, the four α curves and the bracket rule."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from sn2nlib.denoiser import Denoiser, UNet25D, apply, blend, choose_alpha, fit_alpha, set_alpha, sweep_alpha
from sn2nlib.denoiser.checkpoint import save_model
from sn2nlib.errors import CheckpointError, ImageError
from sn2nlib.recon.pairs import intensity_scale


def store(folder: Path, *, alpha: float | None = None, bias: bool = False, gain: float = 0.1) -> Denoiser:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = UNet25D(width=4, depth=1, bias=bias)
        torch.nn.init.normal_(network.last.weight, std=gain)
    with torch.no_grad():
        if bias:
            network.last.bias.fill_(0.2)  # type: ignore[union-attr]
    save_model(folder, network.state_dict(), {"architecture": network.architecture, "alpha": alpha})
    return Denoiser.load(folder)


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 2, (9, 13, 18)).astype(np.float32)


@pytest.mark.parametrize("batch_voxels", [1, 500, 2**17])
def test_every_partition_is_the_network_on_its_window(
    tmp_path: Path, volume: np.ndarray, monkeypatch: pytest.MonkeyPatch, batch_voxels: int
) -> None:
    monkeypatch.setattr(apply, "BATCH_VOXELS", batch_voxels)
    denoiser = store(tmp_path, bias=True)
    before = volume.copy()
    output = denoiser.network_output(volume, scale=0.5)
    assert output.dtype == np.float32 and output.shape == volume.shape
    np.testing.assert_array_equal(volume, before)
    padded = np.pad(volume, ((3, 3), (0, 0), (0, 0)), mode="edge") / 0.5
    for z in range(9):
        with torch.no_grad():
            expected = denoiser.network(torch.from_numpy(padded[None, z : z + 7]))[0, 0].numpy()
        np.testing.assert_allclose(output[z], 0.5 * np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


def test_the_unit_of_the_image_does_not_matter(tmp_path: Path, volume: np.ndarray) -> None:
    denoiser = store(tmp_path, bias=True)
    np.testing.assert_allclose(denoiser.denoise(1000 * volume), 1000 * denoiser.denoise(volume), rtol=1e-4)
    scale = intensity_scale(volume)
    output = denoiser.network_output(volume)
    np.testing.assert_array_equal(denoiser.network_output(volume, scale=scale), output)
    assert not np.allclose(denoiser.network_output(volume, scale=5 * scale), output)


def test_other_number_types_and_thin_volumes(tmp_path: Path, volume: np.ndarray) -> None:
    denoiser = store(tmp_path)
    counts = np.rint(100 * volume).astype(np.int16)
    np.testing.assert_array_equal(denoiser.denoise(counts), denoiser.denoise(counts.astype(np.float64)))
    assert denoiser.denoise(volume[:1, :3, :1]).shape == (1, 3, 1)


def test_bfloat16_is_nearly_the_same(tmp_path: Path, volume: np.ndarray) -> None:
    exact = store(tmp_path).network_output(volume)
    quick = Denoiser.load(tmp_path, precision="bfloat16").network_output(volume)
    assert quick.dtype == np.float32 and not np.array_equal(quick, exact)
    np.testing.assert_allclose(quick, exact, atol=0.02)


@pytest.mark.parametrize(("mirrors", "flips"), [(2, [(), (0, 1, 2)]), (4, [(), (1, 2), (0, 1), (0, 2)])])
def test_answers_to_mirror_images_are_averaged(
    tmp_path: Path, volume: np.ndarray, mirrors: int, flips: list[tuple[int, ...]]
) -> None:
    single = store(tmp_path, gain=0.02)
    answers = [np.flip(single.network_output(np.flip(volume, axes)), axes) for axes in flips]
    assert not np.allclose(answers[0], answers[1], atol=1e-3)
    averaged = Denoiser.load(tmp_path, mirrors=mirrors).network_output(volume)
    np.testing.assert_allclose(averaged, np.mean(answers, axis=0), atol=1e-5)


def test_the_model_knows_how_many_mirror_images_it_averages(tmp_path: Path, volume: np.ndarray) -> None:
    single = store(tmp_path)
    save_model(tmp_path, single.network.state_dict(), {"architecture": single.network.architecture, "mirrors": 2})
    assert (single.mirrors, Denoiser.load(tmp_path).mirrors, Denoiser.load(tmp_path, mirrors=4).mirrors) == (1, 2, 4)
    with pytest.raises(ImageError, match="3 mirror images cannot be averaged; use 1, 2, 4"):
        Denoiser.load(tmp_path, mirrors=3)


def test_a_magnitude_is_never_negative(tmp_path: Path, volume: np.ndarray) -> None:
    assert store(tmp_path, gain=100).network_output(volume).min() == 0


def test_alpha_is_the_share_of_the_original(tmp_path: Path, volume: np.ndarray) -> None:
    denoiser = store(tmp_path)
    output = denoiser.network_output(volume)
    np.testing.assert_array_equal(denoiser.denoise(volume, alpha=1), volume)
    np.testing.assert_array_equal(denoiser.denoise(volume, alpha=0), output)
    np.testing.assert_allclose(denoiser.denoise(volume, alpha=0.25), 0.25 * volume + 0.75 * output, rtol=1e-5)
    assert denoiser.alpha is None  # then the paper's
    np.testing.assert_array_equal(denoiser.denoise(volume), denoiser.denoise(volume, alpha=0.3))
    set_alpha(tmp_path, 0.45)
    chosen = Denoiser.load(tmp_path)
    assert chosen.alpha == 0.45 and json.loads((tmp_path / "model.json").read_text())["alpha"] == 0.45
    np.testing.assert_array_equal(chosen.denoise(volume), denoiser.denoise(volume, alpha=0.45))


def test_impossible_alphas_and_images_are_told(tmp_path: Path, volume: np.ndarray) -> None:
    denoiser = store(tmp_path)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ImageError, match="between 0 and 1; got"):
            denoiser.denoise(volume, alpha=alpha)
        with pytest.raises(ImageError, match="between 0 and 1; got"):
            set_alpha(tmp_path, alpha)
    with pytest.raises(ImageError, match="to blend have the shapes"):
        blend(volume, volume[1:], 0.5)
    with pytest.raises(CheckpointError, match=r"model\.json is missing"):
        set_alpha(tmp_path / "elsewhere", 0.5)
    bad = volume.copy()
    bad[2, 3, 4] = np.inf
    for image, message in (
        (volume[0], r"shape \(13, 18\)"), (volume[:0], r"shape \(0, 13, 18\)"),
        (bad, r"NaN or Inf .* at \(z, y, x\) = \(2, 3, 4\)"),
        (volume + 1j, "magnitudes"), (0 * volume, "no signal"), (-volume, "no signal"),
    ):
        with pytest.raises(ImageError, match=message):
            denoiser.denoise(image)
    with pytest.raises(ImageError, match="scale of the image is 0"):
        denoiser.denoise(volume, scale=0)


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    return float(10 * np.log10(reference.max() ** 2 / np.mean((image - reference) ** 2)))


def test_the_four_curves_are_those_of_the_blended_images() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 2, (5, 6, 7))
    images = {
        name: truth + 0.1 * rng.standard_normal(truth.shape)
        for name in ("original", "output", "half_a", "half_b", "output_a", "output_b", "full_sampled")
    }
    head = truth > 1
    alphas = np.arange(0, 1.01, 0.1)
    table = sweep_alpha("s1", alphas=alphas, noise_free=truth, head=head, **images)
    assert list(table.columns) == ["definition", "scan", "alpha", "psnr"]
    assert set(table["scan"]) == {"s1"} and sorted(set(table["alpha"])) == [i / 10 for i in range(11)]
    found = table.set_index(["definition", "alpha"])["psnr"]
    a, b, full = images["half_a"], images["half_b"], images["full_sampled"]
    for alpha in (0.0, 0.3, 1.0):
        blended = alpha * images["original"] + (1 - alpha) * images["output"]
        from_a = alpha * a + (1 - alpha) * images["output_a"]
        from_b = alpha * b + (1 - alpha) * images["output_b"]
        expected = {
            "half_to_half": (psnr(from_a, b) + psnr(from_b, a)) / 2,
            "original_to_half": (psnr(blended, a) + psnr(blended, b)) / 2,
            "full_sampled": psnr(blended, full),
            "noise_free": 10 * np.log10(truth.max() ** 2 / np.mean((blended - truth)[head] ** 2)),
        }
        for definition, value in expected.items():
            assert found[definition, alpha] == pytest.approx(value, rel=1e-9)
    real = sweep_alpha("s2", alphas=[0, 1], **{n: images[n] for n in images if n != "full_sampled"})
    assert list(dict.fromkeys(real["definition"])) == ["half_to_half", "original_to_half"]
    with pytest.raises(ImageError, match=r"s1: .* mask"):
        sweep_alpha("s1", alphas=alphas, noise_free=truth, **images)
    with pytest.raises(ImageError, match=r"between 0 and 1; got 2\.0"):
        sweep_alpha("s1", alphas=[0.5, 2], **images)
    with pytest.raises(ImageError, match=r"s1: all images .* one shape, not .*\(1, 6, 7\)"):  # it would broadcast
        sweep_alpha("s1", alphas=alphas, **images | {"half_a": images["half_a"][:1]})


def test_a_perfect_blend_is_infinitely_good() -> None:
    image = np.ones((2, 3, 4))
    halves = dict.fromkeys(("half_a", "half_b", "output_a", "output_b"), image)
    table = sweep_alpha("s", alphas=[0.5], original=image, output=image, **halves)
    assert np.isinf(table["psnr"]).all()


def test_the_bracket_rule_takes_the_midpoint_of_the_mean_curves() -> None:
    curves = {  # two scans; the best α of the mean is not the mean of the best
        "half_to_half": ([30, 33.0, 31, 30, 29], [30, 30.5, 31.0, 30, 29]),
        "original_to_half": ([30, 31, 32, 33.0, 32], [30, 31, 32, 33, 36.0]),
        "noise_free": ([0, 0, 9, 0, 0], [0, 0, 9, 0, 0]),
    }
    rows = [
        (definition, f"s{i}", alpha, value)
        for definition, scans in curves.items()
        for i, scan in enumerate(scans)
        for alpha, value in zip([0.0, 0.1, 0.2, 0.7, 1.0], scan, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["definition", "scan", "alpha", "psnr"])
    assert apply.best_alphas(table) == {"half_to_half": 0.1, "original_to_half": 1.0, "noise_free": 0.2}
    assert choose_alpha(table) == 0.55
    with pytest.raises(ImageError, match="no rows for original_to_half"):
        choose_alpha(table[table["definition"] != "original_to_half"])


def test_alpha_is_chosen_from_pairs_alone_and_written_into_the_model(tmp_path: Path, volume: np.ndarray) -> None:
    store(tmp_path, gain=0.3)
    rng = np.random.default_rng(1)
    halves = [volume + rng.normal(0, 0.2, volume.shape).astype(np.float32) for _ in range(2)]
    scale = 2.0
    pair = SimpleNamespace(original=sum(halves) / 2, half_a=halves[0] * 1j, half_b=halves[1], scale=scale)
    alpha = fit_alpha(tmp_path, {"one": pair})
    denoiser = Denoiser.load(tmp_path)
    assert denoiser.alpha == alpha
    images = {name: np.abs(getattr(pair, name)) / scale for name in ("original", "half_a", "half_b")}
    answers = {
        name: denoiser.network_output(images[source], scale=1.0)
        for name, source in (("output", "original"), ("output_a", "half_a"), ("output_b", "half_b"))
    }
    alphas = [round(0.1 * step, 1) for step in range(11)]
    assert alpha == choose_alpha(sweep_alpha("one", alphas=alphas, **images, **answers))
