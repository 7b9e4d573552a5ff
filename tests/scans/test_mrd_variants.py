"""ISMRMRD files that differ from the rule: small ones made as each set is, set right, and barred from training."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sn2nlib import cli
from sn2nlib.errors import ScanError
from sn2nlib.fourier import fft, ifft
from sn2nlib.scans.export import save_ismrmrd
from sn2nlib.scans.raw import convert_raw, inspect_raw, read_raw
from sn2nlib.scans.raw.layout_table import load_layouts
from sn2nlib.scans.raw.mrd_variants import apply_variant, mrd_variant
from sn2nlib.scans.scan import Scan, load_scan

LAYOUTS = {layout.name: layout for layout in load_layouts()}


def coil_images(shape: tuple[int, ...]) -> np.ndarray:
    """An off-centre block with a bright corner, another weight and phase in every coil."""
    n_coils, nz, ny, nx = shape
    image = np.zeros(shape[1:], np.complex64)
    image[nz // 4 : -2, ny // 4 : -3, nx // 4 : -1] = 1
    image[nz // 4, ny // 4, nx // 4] = 6
    weights = 1 + np.arange(n_coils) * (0.5 + 0.3j)
    noise = np.random.default_rng(0).standard_normal((*shape, 2)).view(complex)[..., 0]
    return (weights[:, None, None, None] * image + 0.02 * noise).astype(np.complex64)


def header(*, slices: int = 0, partitions: int = 1, contrasts: int = 0, vendor: str = "GE", tesla: float = 3.0,
           **parameters: int) -> SimpleNamespace:  # fmt: skip
    limit = SimpleNamespace
    return SimpleNamespace(
        acquisitionSystemInformation=SimpleNamespace(systemVendor=vendor, systemFieldStrength_T=tesla),
        encoding=[SimpleNamespace(
            encodedSpace=SimpleNamespace(matrixSize=SimpleNamespace(z=partitions)),
            encodingLimits=SimpleNamespace(slice=limit(maximum=slices), contrast=limit(maximum=contrasts)),
        )],
        userParameters=SimpleNamespace(
            userParameterLong=[SimpleNamespace(name=name, value=value) for name, value in parameters.items()]
        ),
    )  # fmt: skip


def test_variants_are_known_by_their_headers() -> None:
    cases = {
        "mridata-stanford-3d-fse": header(slices=255, partitions=256, ChopY=0, ChopZ=1),
        "mridata-stanford-2d-fse": header(slices=30, ChopY=0),
        "ahead-7t": header(vendor="Philips Healthcare", tesla=7.0, contrasts=3),
    }
    for name, example in cases.items():
        assert mrd_variant(example).name == name  # type: ignore[union-attr]
    assert mrd_variant(header()) is None
    assert mrd_variant(header(vendor="Philips", tesla=3.0, contrasts=3)) is None
    nothing = SimpleNamespace(acquisitionSystemInformation=None, encoding=[], userParameters=None)
    assert mrd_variant(nothing) is None
    assert "motion correction" in str(LAYOUTS["ahead-7t"].reason_against_training)


def stanford(
    *, chop: tuple[int, int] = (0, 0), weights: Callable[[np.ndarray], np.ndarray] | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coil images (coil, z, y, x) with noise of a different SD per channel, their SDs, and the lines as stored."""
    shape = (2, 24, 20, 22)
    rng = np.random.default_rng(seed)
    sd = np.array([0.5, 2.0])
    images = coil_images(shape) * 3
    noise = rng.standard_normal((*shape, 2)).view(complex)[..., 0]
    if weights is not None:
        noise = weights(noise)
    images = (images + noise * sd[:, None, None, None]).astype(np.complex64)
    ky, kz = np.arange(20), np.arange(24)
    signs = (-1.0) ** ((1 - chop[0]) * ky[None, :] + (1 - chop[1]) * kz[:, None])
    return images, sd, (fft(images, axes=(-2, -1)) * signs[:, :, None]).astype(np.complex64)


@pytest.mark.parametrize("chop", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_stanford_signs_noise_and_slices(chop: tuple[int, int]) -> None:
    images, sd, stored = stanford(chop=chop)
    kspace = stored.copy()
    reason = apply_variant(
        LAYOUTS["mridata-stanford-3d-fse"], kspace, np.ones((24, 20), bool),
        parameters={"ChopY": chop[0], "ChopZ": chop[1]}, noise_sd=sd,
    )  # fmt: skip
    np.testing.assert_allclose(ifft(kspace), images / sd[:, None, None, None], atol=2e-5)
    assert reason is None and kspace.dtype == np.complex64


def smooth(noise: np.ndarray) -> np.ndarray:
    k = fft(noise, axes=(-3,)) * np.hanning(26)[1:-1, None, None]
    return ifft(k, axes=(-3,))


def interpolated(noise: np.ndarray) -> np.ndarray:
    k = fft(noise, axes=(-3,))
    k[:, :6] = k[:, 18:] = 0
    return ifft(k, axes=(-3,))


def weighted(noise: np.ndarray) -> np.ndarray:
    return noise * np.linspace(0.2, 1.8, 24)[:, None, None]


@pytest.mark.parametrize("change", [smooth, interpolated, weighted])
def test_noise_that_is_not_white_along_kz_bars_training(change: Callable[[np.ndarray], np.ndarray]) -> None:
    _, sd, stored = stanford(weights=change)
    reason = apply_variant(
        LAYOUTS["mridata-stanford-3d-fse"], stored, np.ones((24, 20), bool),
        parameters={"ChopY": 0, "ChopZ": 0}, noise_sd=sd,
    )  # fmt: skip
    assert "the noise along kz is not white" in str(reason)


@pytest.mark.parametrize("seed", range(8))
def test_white_noise_passes_whatever_the_draw(seed: int) -> None:
    _, sd, stored = stanford(seed=seed)
    variant, mask = LAYOUTS["mridata-stanford-3d-fse"], np.ones((24, 20), bool)
    reason = apply_variant(variant, stored, mask, parameters={"ChopY": 0, "ChopZ": 0}, noise_sd=sd)
    assert reason is None


def test_noise_sds_and_signs_are_checked() -> None:
    _, _, stored = stanford()
    variant, mask = LAYOUTS["mridata-stanford-3d-fse"], np.ones((24, 20), bool)
    for sd in (np.ones(3), np.array([1.0, 0.0]), np.array([1.0, np.nan])):
        with pytest.raises(ScanError, match="rec_std: needs a noise SD above 0 for each of the 2 channels"):
            apply_variant(variant, stored, mask, parameters={}, noise_sd=sd)
    for value in ("DOE, JANE", float("inf"), None):
        with pytest.raises(ScanError, match="ChopY must be a whole number") as caught:
            apply_variant(variant, stored, mask, parameters={"ChopY": value})
        assert "DOE" not in str(caught.value)
    reason = apply_variant(LAYOUTS["mridata-stanford-2d-fse"], stored, mask, parameters={})
    assert "one partition" in str(reason)


def rewrite_header(dataset: Any, change: Callable[[Any, Any], None]) -> None:
    """Let `change` work on the header of an open ISMRMRD dataset, our own note taken out."""
    xsd = __import__("ismrmrd").xsd
    header = xsd.CreateFromDocument(dataset.read_xml_header())
    header.userParameters = None
    change(header, xsd)
    dataset.write_xml_header(xsd.ToXML(header).encode())


def write_stanford(
    path: Path, weights: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """An ISMRMRD file made as those of mridata.org are: slices, alternating signs, `rec_std`. Coil images and SDs."""
    ismrmrd = pytest.importorskip("ismrmrd")
    images, sd, stored = stanford(weights=weights)
    save_ismrmrd(Scan(np.ones((2, 1, 20, 22), np.complex64), np.ones((1, 20), bool)), path)
    with ismrmrd.Dataset(path, mode="r+") as dataset:
        rewrite_header(dataset, as_stanford)
        line = dataset.read_acquisition(0)
        lines = [(z, y) for z in range(24) for y in range(20)]
        for number, (z, y) in enumerate(lines):
            line.idx.slice, line.idx.kspace_encode_step_1, line.idx.kspace_encode_step_2 = z, y, 0
            line.data[:] = stored[:, z, y]
            if number < 20:
                dataset.write_acquisition(line, number)
            else:
                dataset.append_acquisition(line)
        dataset.append_array("rec_std", sd.astype(np.float32))
    return images, sd


def as_stanford(header: Any, xsd: Any) -> None:
    encoding = header.encoding[0]
    encoding.encodedSpace.matrixSize.z = encoding.reconSpace.matrixSize.z = 24
    encoding.encodedSpace.fieldOfView_mm.z = encoding.reconSpace.fieldOfView_mm.z = 48.0
    encoding.encodingLimits.slice = xsd.limitType(minimum=0, maximum=23, center=0)
    parameters = [xsd.userParameterLongType(name=name, value=0) for name in ("ChopY", "ChopZ")]
    header.userParameters = xsd.userParametersType(userParameterLong=parameters)


def as_ahead(header: Any, xsd: Any) -> None:
    header.acquisitionSystemInformation.systemVendor = "Philips"
    header.acquisitionSystemInformation.systemFieldStrength_T = 7.0
    header.encoding[0].encodingLimits.contrast = xsd.limitType(minimum=0, maximum=3, center=0)


def test_an_ahead_file_is_barred_from_training(tmp_path: Path) -> None:
    ismrmrd = pytest.importorskip("ismrmrd")
    k = fft(coil_images((3, 12, 22, 14)))
    save_ismrmrd(Scan(k, np.ones(k.shape[1:3], bool)), tmp_path / "ahead.h5")
    with ismrmrd.Dataset(tmp_path / "ahead.h5", mode="r+") as dataset:
        rewrite_header(dataset, as_ahead)
    scan = read_raw(tmp_path / "ahead.h5")
    np.testing.assert_array_equal(scan.kspace, k)
    assert "motion correction" in str(scan.not_for_training)
    assert "motion correction" in str(inspect_raw(tmp_path / "ahead.h5"))


def test_a_stanford_file_is_read_and_its_noise_measured(tmp_path: Path) -> None:
    images, sd = write_stanford(tmp_path / "knee.h5")
    scan = read_raw(tmp_path / "knee.h5")
    np.testing.assert_allclose(ifft(scan.kspace), images / sd[:, None, None, None], atol=2e-5)
    assert scan.mask.all() and scan.not_for_training is None and scan.voxel_size[0] == 2.0
    told = str(inspect_raw(tmp_path / "knee.h5"))
    assert "Stanford fully sampled 3D FSE" in told and "only if it is white" in told


def test_a_stanford_file_larger_than_memory_is_put_together_on_disk(tmp_path: Path) -> None:
    write_stanford(tmp_path / "knee.h5")
    read = read_raw(tmp_path / "knee.h5")
    convert_raw(tmp_path / "knee.h5", tmp_path / "scan.h5", largest=read.kspace.nbytes - 1)
    made = load_scan(tmp_path / "scan.h5")
    np.testing.assert_array_equal(made.kspace, read.kspace)
    np.testing.assert_array_equal(made.mask, read.mask)
    assert made.info == read.info and made.not_for_training is None
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["knee.h5", "scan.h5"]


def test_a_stanford_file_whose_noise_is_not_white_is_read_and_never_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_stanford(tmp_path / "knee.h5", smooth)
    scan = read_raw(tmp_path / "knee.h5")
    assert "the noise along kz is not white" in str(scan.not_for_training)
    convert_raw(tmp_path / "knee.h5", tmp_path / "scan.h5")
    assert load_scan(tmp_path / "scan.h5").not_for_training == scan.not_for_training
    for given in ("knee.h5", "scan.h5"):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["train", str(tmp_path / given), "--out", str(tmp_path / "model")])
        told = capsys.readouterr().err
        assert stopped.value.code == 1 and "the noise along kz is not white" in told and given in told
    assert not (tmp_path / "model").exists()
