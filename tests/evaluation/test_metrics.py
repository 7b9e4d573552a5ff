"""Image measures against closed forms and scikit-image, on odd and unequal sizes."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from sn2nlib.errors import ImageError
from sn2nlib.evaluation import metrics
from sn2nlib.evaluation.metrics import dice, image_quality, nrmse, nrmse_slices, psnr, ssim

SHAPES = [(4, 16, 16), (5, 13, 17), (1, 11, 24)]


def volumes(shape: tuple[int, ...], dtype: str = "float32") -> tuple[NDArray, NDArray]:
    """A smooth head-like reference with a noisy copy, on a scale far from 1."""
    rng = np.random.default_rng(7)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    reference = 800 * np.exp(-sum(axis**2 for axis in axes)) + rng.uniform(0, 50, shape)
    return (reference + rng.normal(0, 30, shape)).astype(dtype), reference.astype(dtype)


def centre(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask whose slices differ in size."""
    mask = np.zeros(shape, dtype=bool)
    for z in range(shape[0]):
        mask[z, 2 : 9 + z, 3:-1] = True
    return mask


def one_ssim(image: NDArray, reference: NDArray, data_range: float) -> tuple[float, NDArray]:
    mean, full = structural_similarity(
        image.astype(float), reference.astype(float), data_range=data_range, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    return mean, full


# --- PSNR ---------------------------------------------------------------------------------------


def test_psnr_of_a_known_error() -> None:
    reference = np.zeros((3, 12, 15))
    reference[0, 0, 0] = 100
    assert psnr(reference + 0.1, reference, data_range=100) == pytest.approx(60.0, abs=1e-9)
    assert psnr(reference + 0.1, reference, data_range=1) == pytest.approx(20.0, abs=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_psnr_agrees_with_scikit_image(shape: tuple[int, ...], dtype: str) -> None:
    image, reference = volumes(shape, dtype)
    expected = peak_signal_noise_ratio(reference.astype(float), image.astype(float), data_range=850)
    assert psnr(image, reference, data_range=850) == pytest.approx(expected, abs=1e-6)


def test_psnr_counts_the_mask_alone() -> None:
    image, reference = volumes((5, 13, 17))
    mask = centre(image.shape)
    expected = 20 * math.log10(700) - 10 * math.log10(np.mean((image - reference)[mask].astype(float) ** 2))
    assert psnr(image, reference, data_range=700, mask=mask) == pytest.approx(expected, abs=1e-5)


def test_identical_images() -> None:
    _, reference = volumes((4, 16, 16))
    assert psnr(reference, reference, data_range=1) == math.inf
    assert ssim(reference, reference, data_range=800) == pytest.approx(1, abs=1e-12)
    assert nrmse(reference, reference) == 0


# --- SSIM ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_is_the_mean_of_scikit_images_slices(shape: tuple[int, ...], dtype: str) -> None:
    image, reference = volumes(shape, dtype)
    expected = np.mean([one_ssim(a, b, 800)[0] for a, b in zip(image, reference, strict=True)])
    assert ssim(image, reference, data_range=800) == pytest.approx(expected, abs=1e-10)
    everywhere = np.ones(shape, dtype=bool)
    assert ssim(image, reference, data_range=800, mask=everywhere) == pytest.approx(expected, abs=1e-10)


def test_ssim_of_flat_images_is_the_luminance_term() -> None:
    low, high, data_range = 20.0, 30.0, 100.0
    c1 = (0.01 * data_range) ** 2
    expected = (2 * low * high + c1) / (low**2 + high**2 + c1)
    flat = np.full((2, 11, 13), low)
    assert ssim(flat, np.full_like(flat, high), data_range=data_range) == pytest.approx(expected, abs=1e-9)


def test_ssim_in_a_mask_leaves_out_thin_slices_and_cut_windows() -> None:
    image, reference = volumes((3, 20, 23))
    mask = np.zeros(image.shape, dtype=bool)
    mask[0, 3:15, 7:16] = True  # rows 3 and 4 are centres of windows that leave the slice
    mask[1, 6:12, 6:14] = True
    mask[2, 8, 8:12] = True  # 4 of 90 windows: below 10 %
    image[2] += 500
    maps = [one_ssim(a, b, 800)[1] for a, b in zip(image, reference, strict=True)]
    expected = np.mean([maps[0][5:15, 7:16].mean(), maps[1][6:12, 6:14].mean()])
    assert ssim(image, reference, data_range=800, mask=mask) == pytest.approx(expected, abs=1e-10)


def test_ssim_depends_on_the_data_range() -> None:
    image, reference = volumes((4, 16, 16))
    assert ssim(image, reference, data_range=1600) > ssim(image, reference, data_range=400) + 0.01


# --- NRMSE --------------------------------------------------------------------------------------


def test_nrmse_of_a_gain_error_is_that_gain() -> None:
    _, reference = volumes((5, 13, 17), "float64")
    assert nrmse(1.07 * reference, reference) == pytest.approx(7, abs=1e-9)
    (row,) = image_quality(0.93 * reference, reference, regions={"volume": None})
    assert row["nrmse_volume"] == pytest.approx(7, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_nrmse_agrees_with_scikit_image_slice_by_slice(shape: tuple[int, ...]) -> None:
    image, reference = volumes(shape)
    expected = [100 * normalized_root_mse(r, i) for i, r in zip(image, reference, strict=True)]
    np.testing.assert_allclose(nrmse_slices(image, reference), expected, rtol=1e-5)
    assert nrmse(image, reference) == pytest.approx(np.mean(expected), rel=1e-5)


def test_slices_of_air_do_not_count() -> None:
    reference = np.full((4, 11, 11), 100.0)
    reference[1] = 9.9  # below 10 % of the largest norm
    reference[2] = 10.1
    image = reference + 1
    np.testing.assert_allclose(nrmse_slices(image, reference), [1, 100 / 10.1, 1])


def test_nrmse_in_a_mask() -> None:
    image, reference = volumes((4, 12, 15))
    mask = centre(image.shape)
    mask[3] = False
    difference = (image - reference).astype(float)
    expected = [
        100 * np.linalg.norm(difference[z][mask[z]]) / np.linalg.norm(reference[z][mask[z]]) for z in range(3)
    ]
    np.testing.assert_allclose(nrmse_slices(image, reference, mask=mask), expected, rtol=1e-6)


# --- all at once --------------------------------------------------------------------------------


def test_image_quality_is_the_single_measures() -> None:
    image, reference = volumes((5, 13, 17))
    before = image.copy(), reference.copy()
    mask = centre(image.shape)
    volume, head = image_quality(image, reference, regions={"volume": None, "head": mask})
    peak = float(reference.max())
    assert (volume["region"], head["region"]) == ("volume", "head")
    for row, region in ((volume, None), (head, mask)):
        assert row["psnr"] == psnr(image, reference, data_range=peak, mask=region)
        assert row["ssim"] == ssim(image, reference, data_range=peak, mask=region)
        assert row["nrmse"] == nrmse(image, reference, mask=region)
        inside = np.ones(image.shape, bool) if region is None else region
        whole = 100 * normalized_root_mse(reference[inside], image[inside])
        assert row["nrmse_volume"] == pytest.approx(whole, rel=1e-5)
        assert row["n_slices"] == len(nrmse_slices(image, reference, mask=region))
    assert volume["psnr"] != head["psnr"]
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(reference, before[1])


def test_image_quality_does_not_depend_on_the_unit_of_intensity() -> None:
    image, reference = volumes((4, 16, 16), "float64")
    (one,) = image_quality(image, reference, regions={"volume": None})
    (other,) = image_quality(image * 1e-6, reference * 1e-6, regions={"volume": None})
    for name in ("psnr", "ssim", "nrmse", "nrmse_volume"):
        assert other[name] == pytest.approx(one[name], rel=1e-9)


# --- Dice ---------------------------------------------------------------------------------------


def test_dice_of_known_overlap() -> None:
    a = np.array([[True, True, True, False]])
    b = np.array([[False, True, True, False]])
    assert dice(a, b) == pytest.approx(4 / 5)
    assert dice(a, ~a) == 0
    assert dice(a, a) == 1


def test_dice_of_a_label() -> None:
    a = np.array([0, 1, 1, 2, 2, 2])
    b = np.array([0, 1, 2, 2, 2, 1])
    assert dice(a, b, label=1) == pytest.approx(2 / 4)
    assert dice(a, b, label=2) == pytest.approx(4 / 6)


def test_dice_of_nothing_is_undefined() -> None:
    assert math.isnan(dice(np.zeros(3, dtype=bool), np.zeros(3, dtype=bool)))
    assert dice(np.zeros(3, dtype=bool), np.ones(3, dtype=bool)) == 0


def test_dice_of_bad_maps() -> None:
    with pytest.raises(ImageError, match=r"differ in shape: \(3,\) and \(4,\)"):
        dice(np.zeros(3, dtype=bool), np.zeros(4, dtype=bool))
    with pytest.raises(ImageError, match="need a label"):
        dice(np.zeros(3, dtype=int), np.zeros(3, dtype=int))


# --- bad input ----------------------------------------------------------------------------------

GOOD = np.ones((2, 12, 12))


@pytest.mark.parametrize("measure", [psnr, ssim, nrmse])
@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (np.ones((2, 12, 11)), None, r"differ in shape: \(2, 12, 11\) and \(2, 12, 12\)"),
        (np.full_like(GOOD, np.nan), None, r"image holds NaN or Inf in 288 of 288 voxels, the first at \(z, y, x\) = "),
        (GOOD * 1j, None, "image must be real, not complex128; take the magnitude"),
        (GOOD, np.zeros(GOOD.shape, dtype=bool), "mask is empty"),
        (GOOD, np.ones((2, 12), dtype=bool), r"mask must be bool of shape \(2, 12, 12\)"),
        (GOOD, np.ones(GOOD.shape), "mask must be bool of shape .* not float64"),
    ],
)
def test_bad_input(measure, image: NDArray, mask: NDArray | None, message: str) -> None:
    options = {"data_range": 1.0} if measure in (psnr, ssim) else {}
    with pytest.raises(ImageError, match=message):
        measure(image, GOOD, mask=mask, **options)


@pytest.mark.parametrize("measure", [psnr, ssim])
@pytest.mark.parametrize("data_range", [0.0, -1.0, np.nan, np.inf])
def test_bad_data_range(measure, data_range: float) -> None:
    with pytest.raises(ImageError, match="data range must be finite and above 0"):
        measure(GOOD, GOOD, data_range=data_range)


def test_data_range_has_no_default() -> None:
    with pytest.raises(TypeError, match="data_range"):
        psnr(GOOD, GOOD)  # type: ignore[call-arg]


def test_other_bad_input() -> None:
    with pytest.raises(ImageError, match=r"axes \(z, y, x\), not shape \(12, 12\)"):
        nrmse(GOOD[0], GOOD[0])
    with pytest.raises(ImageError, match="reference is zero throughout"):
        nrmse(GOOD, 0 * GOOD)
    with pytest.raises(ImageError, match="data range must be finite and above 0, not 0"):
        image_quality(GOOD, 0 * GOOD, regions={"volume": None})
    with pytest.raises(ImageError, match=r"at least 11×11 voxels, not \(10, 12\)"):
        ssim(GOOD[:, :10], GOOD[:, :10], data_range=1)
    edge = np.zeros(GOOD.shape, dtype=bool)
    edge[:, 0] = True
    with pytest.raises(ImageError, match="within 5 voxels of the edges"):
        ssim(GOOD, GOOD, data_range=1, mask=edge)


def test_every_table_metric_has_its_convention() -> None:
    assert set(metrics.CONVENTIONS) == {"PSNR_dB", "SSIM", "NRMSE_percent"}
