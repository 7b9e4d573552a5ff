"""Images from elsewhere: planes from the geometry, empty regions kept, negative values neither lost nor biased."""

import warnings
from dataclasses import dataclass, field

import numpy as np
import pytest

from sn2nlib.denoiser import (
    PARTITIONS,
    Denoiser,
    UNet25D,
    choose_axis,
    denoise_image,
    derivation,
    short_derivation,
)
from sn2nlib.denoiser.image import empty_region
from sn2nlib.errors import ImageError

ISOTROPIC = (1.0, 1.0, 1.0)


@dataclass
class Halving:
    """Stands in for a model: keeps what it was given and answers half of it."""

    seen: list[np.ndarray] = field(default_factory=list)

    def denoise(self, volume: np.ndarray, alpha: float | None = None) -> np.ndarray:
        self.seen.append(volume.copy())
        return (volume / 2).astype(np.float32)


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 2, (5, 7, 9)).astype(np.float32)


@pytest.mark.parametrize(
    ("voxel_size", "shape", "planes"),
    [
        ((0.7, 0.7, 0.7), (256, 328, 328), "sagittal"),
        ((1.0, 1.0, 1.0), (256, 256, 256), "sagittal"),  # no slab
        ((1.0, 1.0, 1.0), (182, 218, 182), "sagittal"),
        ((0.56, 0.5, 0.56), (320, 160, 320), "coronal"),  # the paper's VWI
        ((1.0, 1.0, 1.0), (240, 240, 160), "axial"),
        ((1.0, 1.0, 1.2), (180, 256, 213), "sagittal"),  # nearly isotropic
        ((5.0, 0.5, 0.5), (24, 480, 480), "sagittal"),
        ((0.5, 4.0, 0.5), (480, 40, 480), "coronal"),
        ((0.9, 0.9, 3.0), (256, 256, 40), "axial"),
        ((0.9, 0.9, 0.45), (256, 256, 300), "axial"),  # slices interpolated to half their distance
        ((0.8, 1.0, 2.0), (200, 200, 100), "axial"),  # 0.8 × 1.0 is the squarest pair
    ],
)
def test_the_planes_are_those_of_the_acquisition(
    voxel_size: tuple[float, float, float], shape: tuple[int, int, int], planes: str
) -> None:
    assert choose_axis(voxel_size, shape) == planes


@pytest.mark.parametrize(("planes", "place"), [("sagittal", 0), ("coronal", 1), ("axial", 2), (None, 2)])
def test_the_network_sees_the_chosen_planes(volume: np.ndarray, planes: str | None, place: int) -> None:
    model = Halving()
    with pytest.warns(UserWarning, match=r"voxels of 1 × 1 × 4 mm .* not isotropic"):
        better = denoise_image(model, volume, voxel_size=(1, 1, 4), axis=planes)
    np.testing.assert_array_equal(model.seen[0], np.moveaxis(volume, place, 0))
    assert model.seen[0].flags.c_contiguous
    np.testing.assert_array_equal(better, volume / 2)


def test_isotropic_voxels_need_no_warning(volume: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = volume.copy()
        np.testing.assert_array_equal(denoise_image(Halving(), volume, voxel_size=ISOTROPIC), before / 2)
    np.testing.assert_array_equal(volume, before)


def test_a_single_plane_is_told(volume: np.ndarray) -> None:
    one = volume[:1]
    with pytest.warns(UserWarning, match="the image has one plane: the network, which looks at the neighbours"):
        better = denoise_image(Halving(), one, voxel_size=ISOTROPIC, axis="sagittal")
    np.testing.assert_array_equal(better, one / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        denoise_image(Halving(), one, voxel_size=ISOTROPIC, axis="coronal")  # seven planes of one line each


def test_empty_regions_stay_empty_and_single_zeros_do_not() -> None:
    rng = np.random.default_rng(1)
    volume = rng.uniform(1, 2, (16, 17, 18)).astype(np.float32)
    outside = np.linalg.norm(np.indices(volume.shape).T - 8, axis=-1).T > 7
    volume[outside] = 0
    volume[8, 8, 8] = 0

    class Lifting(Halving):
        def denoise(self, volume: np.ndarray, alpha: float | None = None) -> np.ndarray:
            return volume + np.float32(0.5)

    better = denoise_image(Lifting(), volume, voxel_size=ISOTROPIC)
    assert (better[outside] == 0).all()
    assert better[8, 8, 8] == 0.5
    np.testing.assert_array_equal(better[~outside], volume[~outside] + np.float32(0.5))
    noise = rng.integers(0, 2, (40, 40, 40))  # half of the air rounded to zero
    assert not empty_region(noise, 0).any()
    noise[12] = 0  # one blank slice
    blank = empty_region(noise, 0)
    assert blank[12].all() and not blank[:10].any() and not blank[15:].any()


def test_negative_values_are_shifted_not_clipped() -> None:
    rng = np.random.default_rng(2)
    volume = rng.normal(0, 1, (8, 9, 10)).astype(np.float32)
    model = Halving()
    with pytest.warns(UserWarning, match="holds values down to"):
        better = denoise_image(model, volume, voxel_size=ISOTROPIC)
    low = volume.min()
    assert model.seen[0].min() == 0
    np.testing.assert_allclose(better, (volume - low) / 2 + low, atol=1e-6)
    assert better.min() == low


def test_padding_at_the_minimum_is_kept() -> None:
    volume = np.random.default_rng(3).uniform(-100, 900, (12, 12, 12)).astype(np.float32)
    volume[:4] = -1024
    with pytest.warns(UserWarning, match="down to -1024"):
        better = denoise_image(Halving(), volume, voxel_size=ISOTROPIC)
    assert (better[:4] == -1024).all() and (better[4:] != volume[4:]).any()


@pytest.mark.parametrize(
    ("volume", "axis", "message"),
    [
        (np.zeros((3, 3)), None, "needs a real volume"),
        (np.zeros((3, 0, 3)), None, "needs a real volume"),
        (np.zeros((3, 3, 3), complex), None, "needs a real volume"),
        (np.ones((3, 3, 3)), "oblique", "the planes are sagittal, coronal or axial; got 'oblique'"),
    ],
)
def test_unusable_input_is_refused(volume: np.ndarray, axis: str | None, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        denoise_image(Halving(), volume, voxel_size=ISOTROPIC, axis=axis)


def test_the_derivation_names_the_blend_that_is_used() -> None:
    network = UNet25D(width=4, depth=1)
    for chosen, asked, share in ((None, None, "0.30"), (0.45, None, "0.45"), (0.45, 0.0, "0.00")):
        told = derivation(Denoiser(network, chosen, {"weights_sha256": "0123456789abcdef0123"}), asked, "axial")
        assert told.startswith(f"{share} x original + ") and "0123456789abcdef)" in told and told.isascii()


def test_the_derivation_names_the_planes() -> None:
    """A sagittal scan that was cropped to less than its partitions is taken for an axial one: that must be seen."""
    planes = choose_axis(ISOTROPIC, (176, 256, 150))
    assert planes == "axial"
    network = Denoiser(UNet25D(width=4, depth=1), 0.5, {})
    for taken, told in ((planes, "axial planes"), ("sagittal", "sagittal planes"), (PARTITIONS, "partitions")):
        short, whole = (function(network, None, taken) for function in (short_derivation, derivation))
        assert short.endswith(f"output of a network over {told}") and len(short) < 80
        assert whole.startswith(f"{short}, trained by MR-self Noise2Noise")
