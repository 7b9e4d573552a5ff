"""Public layouts: small files made as each set is, whose image, orientation, mask and bar to training are known."""

import warnings
from math import ceil
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest

from sn2nlib.errors import ChoiceError, ImageError, ScanError
from sn2nlib.fourier import fft, ifft
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans.raw import inspect_raw, read_raw
from sn2nlib.scans.raw.layout_table import load_layouts
from sn2nlib.scans.raw.layouts import LayoutOptions, find_layout, inspect_layout, needed_bytes, read_layout, why_unknown
from sn2nlib.scans.scan import Scan, save_scan

SHAPE = (3, 12, 22, 14)  # (coil, z, y, x)
LAYOUTS = {layout.name: layout for layout in load_layouts()}


def coil_images(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """An off-centre block with a bright corner, another weight and phase in every coil: no symmetry to hide behind."""
    n_coils, nz, ny, nx = shape
    image = np.zeros(shape[1:], np.complex64)
    image[nz // 4 : -2 or None, ny // 4 : -3, nx // 4 : -1] = 1
    image[nz // 4, ny // 4, nx // 4] = 6
    weights = 1 + np.arange(n_coils) * (0.5 + 0.3j)
    noise = np.random.default_rng(seed).standard_normal((*shape, 2)).view(complex)[..., 0]
    return (weights[:, None, None, None] * image + 0.02 * noise).astype(np.complex64)


def write(path: Path, datasets: dict[str, Any], **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
        file.attrs.update(attributes)
    return path


def calgary(path: Path, images: np.ndarray, *, dc: str = "first", tail: bool = True) -> np.ndarray:
    """Write the images as Calgary-Campinas does; the images without what lies beyond 85 % of kz."""
    k = fft(images, axes=(-3, -2))
    nz = k.shape[1]
    if tail:
        k[:, ceil(0.85 * nz) :] = 0
    kept = ifft(k, axes=(-3, -2))
    plain = np.fft.fft2(kept, axes=(1, 2)) if dc == "first" else plain_centred(kept)
    stored = plain.transpose(3, 2, 1, 0)  # (x, ky, kz, coil)
    beyond = np.arange(nz) >= ceil(0.85 * nz)
    if tail:
        stored[:, :, np.fft.ifftshift(beyond) if dc == "first" else beyond] = 0  # exactly
    parts = np.stack([stored.real, stored.imag], axis=-1).reshape(*stored.shape[:3], -1)
    write(path, {"kspace": parts.astype(np.float32)})
    return kept


def plain_centred(images: np.ndarray) -> np.ndarray:
    """K-space with DC in the middle, whose plain inverse FFT has the magnitude of the images in their places."""
    return np.fft.fftshift(np.fft.fft2(images, axes=(1, 2)), axes=(1, 2))


@pytest.mark.parametrize("dc", ["first", "centre"])
@pytest.mark.parametrize("shape", [SHAPE, (2, 13, 11, 9)])
def test_calgary_campinas(tmp_path: Path, dc: str, shape: tuple[int, ...]) -> None:
    images = coil_images(shape)
    kept = calgary(tmp_path / "e1.h5", images, dc=dc)
    layout = find_layout(tmp_path / "e1.h5")
    assert layout is not None and layout.name == "calgary-campinas-359"
    scan = read_layout(tmp_path / "e1.h5")

    nz = shape[1]
    expected = np.zeros(shape[1:3], bool)
    expected[: ceil(0.85 * nz)] = True
    np.testing.assert_array_equal(scan.mask, expected)  # the zero-filled tail is not sampled
    # the set's own FFT over (z, y) is a plain sum, the package's is orthonormal: values as stored are √(nz ny) larger
    recovered = ifft(scan.kspace) / np.sqrt(shape[1] * shape[2])
    np.testing.assert_allclose(recovered, kept, atol=2e-6 * np.abs(kept).max())
    assert np.unravel_index(np.abs(recovered).argmax(), shape) == np.unravel_index(np.abs(kept).argmax(), shape)
    strongest = np.unravel_index(np.abs(scan.kspace[0]).argmax(), shape[1:])
    assert all(abs(int(at) - n // 2) <= 1 for at, n in zip(strongest, shape[1:], strict=True))
    assert scan.acceleration == (1, 1) and scan.not_for_training is None
    assert scan.voxel_size == (1.0, 1.0, 1.0) and "unknown" in scan.info["geometry"]


def test_what_a_filter_left_beyond_the_collected_share_is_not_sampled_either(tmp_path: Path) -> None:
    calgary(tmp_path / "e1.h5", coil_images(), tail=False)
    scan = read_layout(tmp_path / "e1.h5")
    assert scan.mask[:11].all() and not scan.mask[11:].any()
    assert not scan.kspace[:, 11:].any()


def test_zeros_at_the_end_of_a_file_whose_centre_is_at_its_beginning(tmp_path: Path) -> None:
    """They are the lines right beside the centre: no image is made of what is left."""
    stored = np.fft.fft2(coil_images(), axes=(1, 2)).transpose(3, 2, 1, 0)
    stored[:, :, 11:] = 0
    parts = np.stack([stored.real, stored.imag], axis=-1).reshape(*stored.shape[:3], -1)
    write(tmp_path / "e1.h5", {"kspace": parts.astype(np.float32)})
    with pytest.raises(ScanError, match=r"e1\.h5: the kz lines beside the centre of k-space hold zeros"):
        read_layout(tmp_path / "e1.h5")


def header_xml(
    *, fov: tuple[Any, ...] = (280, 308, 4.5), matrix: tuple[Any, ...] = (14, 22, 1),
    recon: tuple[tuple[Any, ...], tuple[Any, ...]] | None = None,
) -> bytes:  # fmt: skip
    """Field of view and matrix (x, y, z) as encoded, and as reconstructed if given."""
    body = ""
    for name, sizes in (("encodedSpace", (fov, matrix)), ("reconSpace", recon)):
        if sizes is not None:
            space = "".join(
                f"<{tag}><x>{x}</x><y>{y}</y><z>{z}</z></{tag}>"
                for tag, (x, y, z) in zip(("fieldOfView_mm", "matrixSize"), sizes, strict=True)
            )
            body += f"<{name}>{space}</{name}>"
    body = f"<encoding>{body}</encoding>"
    return f'<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">{body}</ismrmrdHeader>'.encode()


def slices(images: np.ndarray) -> np.ndarray:
    """(slice, coil, kx, ky), each slice transformed on its own."""
    return fft(images, axes=(-2, -1)).transpose(1, 0, 3, 2)


def test_fastmri_slices_are_read_for_denoising_and_barred_from_training(tmp_path: Path) -> None:
    images, line = coil_images(), lattice_mask((1, 22), acceleration=(2, 1), acs=4)[0]
    k = slices(images) * line
    path = write(
        tmp_path / "file.h5", {"kspace": k, "ismrmrd_header": header_xml(), "mask": line.astype(np.uint8)},
        patient_id="secret-7", acquisition="AXT2",
    )  # fmt: skip
    assert find_layout(path).name == "fastmri"  # type: ignore[union-attr]
    scan = read_layout(path)
    np.testing.assert_array_equal(scan.mask, np.broadcast_to(line, (12, 22)))
    expected = ifft(fft(images) * line[:, None])
    np.testing.assert_allclose(ifft(scan.kspace), expected, atol=1e-5)
    assert scan.acceleration == (2, 1) and scan.voxel_size == (4.5, 14.0, 20.0)
    assert "one partition" in str(scan.not_for_training)
    assert "secret" not in repr(scan.info)
    facts = inspect_layout(path)
    assert facts.not_for_training == scan.not_for_training and facts.shape == (12, 22, 14) and facts.n_coils == 3
    assert "secret" not in f"{facts}{inspect_raw(path)}"


def oversampled(images: np.ndarray) -> np.ndarray:
    """Images with as much air along the readout as object, as the receiver measures them."""
    nx = images.shape[-1]
    noise = np.random.default_rng(5).standard_normal((*images.shape[:3], 2 * nx, 2)).view(complex)[..., 0]
    wide = (0.02 * noise).astype(np.complex64)
    wide[..., nx - nx // 2 : 2 * nx - nx // 2] = images  # the centre n // 2 stays the centre
    return wide


@pytest.mark.parametrize("nx", [14, 9])
def test_readout_oversampling_of_fastmri_slices_is_removed(tmp_path: Path, nx: int) -> None:
    images, line = coil_images((3, 6, 22, nx)), lattice_mask((1, 22), acceleration=(2, 1), acs=4)[0]
    wide = oversampled(images)
    xml = header_xml(
        fov=(40 * nx, 308, 4.5), matrix=(2 * nx, 22, 1), recon=((20 * nx, 280, 4.5), (nx, 20, 1))
    )  # fmt: skip
    path = write(tmp_path / "file.h5", {"kspace": slices(wide) * line, "ismrmrd_header": xml})
    scan = read_raw_quietly(path)
    assert scan.shape == (6, 22, nx) and scan.voxel_size == (4.5, 14.0, 20.0)  # 20 mm × nx, not twice as far
    np.testing.assert_allclose(scan.kspace, fft(images) * line[:, None], atol=2e-5)
    assert not scan.kspace[:, :, ~line].any()
    told = f"readout oversampling 2 (from encodedSpace and reconSpace) removed: {2 * nx} → {nx} samples"
    assert scan.info["done"] == [told]
    report = inspect_raw(path)
    assert told in report.does and report.values["matrix (kz, ky, kx)"] == (6, 22, nx)
    assert report.values["field of view (z, y, x) mm"] == (27.0, 308.0, 20.0 * nx)
    assert report.values["readout oversampling"] == "2 (encodedSpace and reconSpace)"
    np.testing.assert_array_equal(inspect_layout(path).mask, scan.mask)
    assert needed_bytes(path) == scan.kspace.nbytes

    kept = read_raw_quietly(path, remove_oversampling=False)
    np.testing.assert_allclose(kept.kspace, fft(wide) * line[:, None], atol=2e-5)
    assert kept.voxel_size == scan.voxel_size and kept.info["done"] == []
    report = inspect_raw(path, remove_oversampling=False)
    assert report.values["matrix (kz, ky, kx)"] == kept.shape and told not in report.does
    assert report.values["field of view (z, y, x) mm"] == (27.0, 308.0, 40.0 * nx)
    assert needed_bytes(path, options=LayoutOptions(remove_oversampling=False)) == kept.kspace.nbytes


def read_raw_quietly(path: Path, **options: Any) -> Scan:
    """Without the warning of the unknown geometry, and with all others."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not say how the image lies")
        return read_raw(path, **options)


def test_keeping_an_oversampling_that_no_header_can_declare_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "plain.h5", *plain()[:1], **plain()[1])
    for read in (read_raw, inspect_raw):
        with pytest.raises(ChoiceError, match=r"plain\.h5: --keep-oversampling: for twix and ISMRMRD files"):
            read(path, remove_oversampling=False)


@pytest.mark.parametrize(
    ("matrix", "recon", "n", "value", "doubt"),
    [
        (14, None, 14, "1 (the header has no reconSpace)", None),
        (14, (280, 14), 14, "1 (encodedSpace and reconSpace)", None),
        (28, (140, 14), 14, "1 (removed before)", None),
        (14, ("", ""), 14, "1 (encodedSpace and reconSpace)", "the header lacks a field of view along the readout"),
        (14, ("DOE", "JANE"), 14, "1 (encodedSpace and reconSpace)", "the header lacks a field of view along"),
        (14, (140, 14), 7, "2 (encodedSpace and reconSpace)", "2 in the field of view, 1 in the matrix"),
        (40, (140, 20), 14, "1 (ignored)", "the header declares 40 samples per line, the k-space holds 14"),
        (14, (560, 28), 14, "1 (encodedSpace and reconSpace)", "declares a readout oversampling of 0.5: ignored"),
        (14, (1, 7), 14, "1 (encodedSpace and reconSpace)", "declares a readout oversampling of 280: ignored"),
    ],
)
def test_what_headers_say_about_the_readout(
    tmp_path: Path, matrix: int, recon: tuple[Any, Any] | None, n: int, value: str, doubt: str | None
) -> None:
    """Of 280 mm and as many samples encoded, k-space having 14."""
    space = None if recon is None else ((recon[0], 308, 4.5), (recon[1], 22, 1))
    xml = header_xml(matrix=(matrix, 22, 1), recon=space)
    path = write(tmp_path / "x.h5", {"kspace": slices(coil_images()), "ismrmrd_header": xml})
    report = inspect_raw(path)
    assert report.values["readout oversampling"] == value and report.values["matrix (kz, ky, kx)"] == (12, 22, n)
    if doubt is None:
        assert report.doubts == () and read_raw_quietly(path).shape[2] == n
        return
    assert any(doubt in told for told in report.doubts) and "DOE" not in str(report)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_raw(path).shape[2] == n
    assert any(doubt in str(warning.message) for warning in caught)


def test_m4raw_zero_columns_are_not_sampled(tmp_path: Path) -> None:
    shape = (2, 4, 256, 256)
    rng = np.random.default_rng(0)
    k = rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]
    k[..., :30] = k[..., 225:] = 0
    path = write(tmp_path / "m4.h5", {"kspace": k, "ismrmrd_header": b"<ismrmrdHeader/>"})
    assert find_layout(path).name == "m4raw"  # type: ignore[union-attr]
    scan = read_layout(path)
    assert scan.shape == (2, 256, 256) and scan.voxel_size == (5.0, 0.9375, 0.9375)
    assert scan.mask[:, 30:225].all() and scan.mask.sum() == 2 * 195
    np.testing.assert_allclose(ifft(scan.kspace, axes=(-3,)).transpose(1, 0, 3, 2), k, atol=1e-5)
    assert scan.not_for_training


def plain(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    mask = lattice_mask(SHAPE[1:3], acceleration=(2, 1), acs=4)
    rng = np.random.default_rng(1)
    datasets: dict[str, Any] = {
        "kspace": fft(coil_images()) * mask[:, :, None],
        "mask": mask,
        "noise": rng.standard_normal((3, 40, 2), np.float32).view(np.complex64)[..., 0],
        "acs": fft(coil_images())[:, 3:9, 8:14],
    }
    attributes = {"voxel_size": (2.0, 1.5, 1.0), "affine": np.diag([1.0, 1.5, 2.0, 1.0]), "acceleration": (2, 1)}
    datasets |= {name: value for name, value in changes.items() if name not in attributes}
    attributes |= {name: value for name, value in changes.items() if name in attributes}
    return (
        {name: value for name, value in datasets.items() if value is not None},
        {name: value for name, value in attributes.items() if value is not None},
    )


def test_the_plain_layout_is_read_bit_for_bit(tmp_path: Path) -> None:
    datasets, attributes = plain()
    scan = read_layout(write(tmp_path / "plain.h5", datasets, **attributes))
    for name, values in datasets.items():
        np.testing.assert_array_equal(getattr(scan, name), values)
    assert scan.voxel_size == (2.0, 1.5, 1.0) and scan.acceleration == (2, 1) and scan.not_for_training is None
    np.testing.assert_array_equal(scan.affine, attributes["affine"])
    without = read_layout(write(tmp_path / "bare.h5", *plain(noise=None, acs=None, acceleration=None, affine=None)[:1],
                                voxel_size=(2.0, 1.5, 1.0)))  # fmt: skip
    assert (without.noise, without.acs, without.acceleration) == (None, None, (2, 1))
    assert np.allclose(without.affine @ [7, 11, 6, 1], [0, 0, 0, 1]) and "unknown" in without.info["geometry"]


def test_the_plain_layout_may_say_what_of_kx_was_acquired(tmp_path: Path) -> None:
    datasets, attributes = plain()
    nx = datasets["kspace"].shape[3]
    write(tmp_path / "more.h5", datasets, **attributes, kx_acquired=(nx / 4, nx))
    with pytest.raises(ScanError, match=r"more\.h5: kx_acquired: the file holds samples beyond"):
        read_raw(tmp_path / "more.h5")
    datasets["kspace"] = datasets["kspace"] * (np.arange(nx) >= nx // 4)
    path = write(tmp_path / "plain.h5", datasets, **attributes, kx_acquired=(nx / 4, nx))
    scan = read_raw(path)
    assert scan.kx_acquired == (nx / 4, nx) == inspect_layout(path).kx_acquired and scan.kx_share == 0.75
    assert any("75.0 % of kx were acquired" in told for told in inspect_raw(path).does)
    for wrong in ((0, nx + 1), (1, 2, 3), 4, (nx // 2 + 1, nx), (0, nx // 2)):
        write(tmp_path / "wrong.h5", datasets, **attributes, kx_acquired=wrong)
        for read in (read_raw, inspect_layout):
            with pytest.raises(ScanError, match="kx_acquired"):
                read(tmp_path / "wrong.h5")


def test_the_shift_of_a_lattice_is_found_from_the_mask(tmp_path: Path) -> None:
    datasets, attributes = plain()
    mask = lattice_mask(SHAPE[1:3], acceleration=(2, 2), caipi_shift=1, acs=4)
    datasets |= {"mask": mask, "kspace": fft(coil_images()) * mask[:, :, None]}
    for declared in ({}, {"acceleration": (2, 2)}, {"caipi_shift": 1}, {"acceleration": (2, 2), "caipi_shift": 1}):
        told = {name: value for name, value in attributes.items() if name != "acceleration"} | declared
        scan = read_raw(write(tmp_path / "shifted.h5", datasets, **told))
        assert (scan.acceleration, scan.caipi_shift) == ((2, 2), 1), declared


def test_sizes_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    datasets, attributes = plain()
    write(tmp_path / "two.h5", datasets, **attributes | {"affine": np.diag([1.0, 1.5, 3.0, 1.0])})
    told = r"two\.h5: .* its voxels are 2 × 1.5 × 1 mm by their size, 3 × 1.5 × 1 mm \(z, y, x\) by its affine"
    for read in (read_raw, inspect_layout):
        with pytest.raises(ScanError, match=told):
            read(tmp_path / "two.h5")


@pytest.mark.parametrize("name", ["plain", "fastmri"])
def test_samples_where_the_mask_of_the_file_has_none_are_refused_not_lost(tmp_path: Path, name: str) -> None:
    """As of a square matrix whose mask was stored the wrong way round."""
    images, mask = coil_images((2, 12, 12, 8)), lattice_mask((12, 12), acceleration=(2, 1), acs=4)
    if name == "plain":
        changes = {"kspace": fft(images) * mask[:, :, None], "noise": None, "acs": None, "acceleration": None}
        path = write(tmp_path / "scan.h5", *plain(**changes, mask=mask.T)[:1], voxel_size=(1.0, 1.0, 1.0))
    else:
        datasets = {"kspace": slices(images), "ismrmrd_header": header_xml(), "mask": mask[0].astype(np.uint8)}
        path = write(tmp_path / "scan.h5", datasets)
    with pytest.raises(ScanError, match=r"scan\.h5: kspace: holds samples where the mask of the scan has none"):
        read_layout(path)


def test_lines_that_are_all_there_are_believed_more_than_a_declared_acceleration(tmp_path: Path) -> None:
    datasets, attributes = plain(mask=np.ones((12, 22), bool), kspace=fft(coil_images()), acceleration=(3, 2))
    path = write(tmp_path / "plain.h5", datasets, **attributes)
    with pytest.warns(UserWarning, match=r"^plain\.h5: R = 3×2 \(ky×kz\) is declared, .*fully sampled, R = 1×1"):
        assert read_raw(path).acceleration == (1, 1)
    report = inspect_raw(path)
    assert report.values["acceleration (Ry, Rz)"] == (1, 1) and report.cannot == ()
    assert len(report.doubts) == 1 and "R = 3×2 (ky×kz) is declared" in report.doubts[0]


@pytest.mark.filterwarnings("ignore:.*the axes of the image that was given")
def test_a_voxel_size_and_an_affine_may_be_given_where_the_file_has_none(tmp_path: Path) -> None:
    datasets, attributes = plain(voxel_size=None, affine=None)
    path = write(tmp_path / "bare.h5", datasets, **attributes)
    assert read_layout(path, options=LayoutOptions(voxel_size=(2, 1.5, 1))).voxel_size == (2, 1.5, 1)
    with pytest.raises(ScanError, match=r"bare\.h5: the attribute voxel_size must say .*--voxel-size"):
        read_raw(path)
    assert "--voxel-size" in inspect_raw(path).cannot[0]
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    image = nib.Nifti1Image(np.zeros((14, 22, 12), np.float32), affine)  # (x, y, z)
    image.set_sform(affine, code="scanner")
    nib.save(image, tmp_path / "image.nii.gz")
    scan = read_raw(path, affine_from=tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(scan.affine, affine)
    assert scan.voxel_size == (2, 1.5, 1) and scan.info["geometry"] == "an image that was given"
    known = write(tmp_path / "known.h5", *plain()[:1], voxel_size=(2.0, 1.5, 1.0))
    assert read_raw(known, affine_from=tmp_path / "image.nii.gz").info["geometry"] == "an image that was given"
    for given, options, message in (
        (known, {"voxel_size": (3, 1.5, 1)}, "its voxels are 2 × 1.5 × 1 mm, not 3 × 1.5 × 1 mm"),
        (known, {"affine": np.diag([1.0, 1.5, 3, 1])}, "the voxels of the affine are 3 × 1.5 × 1 mm, those of"),
        (write(tmp_path / "all.h5", *plain()[:1], **plain()[1]), {"affine": affine}, "the file says where the image"),
        (known, {"repetition": 1}, "--repetition: for twix and ISMRMRD files"),
    ):
        for read in (read_raw, inspect_raw):
            with pytest.raises(ChoiceError, match=message):
                read(given, **options)  # type: ignore[arg-type]


def test_an_image_of_another_matrix_or_without_a_place_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "known.h5", *plain()[:1], voxel_size=(2.0, 1.5, 1.0))
    nib.save(nib.Nifti1Image(np.zeros((22, 14, 12), np.float32), np.eye(4)), tmp_path / "turned.nii")
    with pytest.raises(ChoiceError, match=r"has \(x, y, z\) = \(22, 14, 12\) voxels, the scan \(14, 22, 12\)"):
        read_raw(path, affine_from=tmp_path / "turned.nii")
    image = nib.Nifti1Image(np.zeros((14, 22, 12), np.float32), None)
    nib.save(image, tmp_path / "nowhere.nii")
    with pytest.raises(ImageError, match="does not say how it lies"):
        read_raw(path, affine_from=tmp_path / "nowhere.nii")
    with pytest.raises(FileNotFoundError, match="there is no image"):
        read_raw(path, affine_from=tmp_path / "none.nii")


def test_inspecting_a_layout_tells_what_reading_finds(tmp_path: Path) -> None:
    """Where the file has no mask: from one slab of the samples."""
    calgary(tmp_path / "e1.h5", coil_images((3, 20, 22, 14)))
    line = lattice_mask((1, 22), acceleration=(2, 1), acs=4, partial_fourier=(0.7, 1))[0]
    write(tmp_path / "knee.h5", {"kspace": slices(coil_images()) * line, "ismrmrd_header": header_xml()})
    datasets, attributes = plain()
    write(tmp_path / "plain.h5", datasets, **attributes)
    for name in ("e1.h5", "knee.h5", "plain.h5"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the unknown geometry
            scan = read_raw(tmp_path / name)
        np.testing.assert_array_equal(inspect_layout(tmp_path / name).mask, scan.mask)
        values = inspect_raw(tmp_path / name).values
        assert values["coils"] == scan.n_coils and values["matrix (kz, ky, kx)"] == scan.shape
        assert values["acceleration (Ry, Rz)"] == scan.acceleration
        assert values["voxel size (z, y, x) mm"] == scan.voxel_size
        assert values.keys() >= {
            "calibration", "partial Fourier (ky, kz)", "noise scan", "geometry", "sampled share %",
            "memory for reading MiB", "memory for reconstruction MiB", "time for reconstruction s",
        }  # fmt: skip
    assert inspect_raw(tmp_path / "e1.h5").values["partial Fourier (ky, kz)"] == (1.0, 0.85)
    report = inspect_raw(tmp_path / "knee.h5", partial_fourier="pocs")
    assert report.values["partial Fourier (ky, kz)"][0] == pytest.approx(0.7, abs=0.06)
    assert any("is filled by projections (POCS)" in told for told in report.does)
    assert inspect_raw(tmp_path / "plain.h5").values["noise scan"] == "40 samples per coil"
    assert inspect_raw(tmp_path / "plain.h5", noise_scan=False).values["noise scan"] == "none"
    assert read_raw(tmp_path / "plain.h5", noise_scan=False).noise is None
    with pytest.raises(ChoiceError, match=r"plain\.h5: partial Fourier filling is one of zero, homodyne, pocs"):
        inspect_raw(tmp_path / "plain.h5", partial_fourier="all")


@pytest.mark.parametrize("names", [("real", "imag"), ("r", "i")])
def test_complex_numbers_in_compounds_and_in_two_arrays(tmp_path: Path, names: tuple[str, str]) -> None:
    datasets, attributes = plain()
    k = datasets["kspace"]
    kind = np.dtype([(names[0], "<f4"), (names[1], "<f4")])
    compound = np.ascontiguousarray(k).view(kind)
    scan = read_layout(write(tmp_path / "compound.h5", datasets | {"kspace": compound}, **attributes))
    np.testing.assert_array_equal(scan.kspace, k)
    parts = {name: value for name, value in datasets.items() if name != "kspace"}
    parts |= {"kspace_real": k.real, "kspace_imag": k.imag}
    scan = read_layout(write(tmp_path / "parts.h5", parts, **attributes))
    np.testing.assert_array_equal(scan.kspace, k)
    parts["kspace_imag"] = k.imag[:2]
    with pytest.raises(ScanError, match=r"bad\.h5: kspace_real has shape .* they must be equal"):
        read_layout(write(tmp_path / "bad.h5", parts, **attributes))


def test_one_partition_is_no_training_scan(tmp_path: Path) -> None:
    mask = lattice_mask((1, 22), acceleration=(2, 1), acs=4)
    k = fft(coil_images((3, 1, 22, 14))) * mask[:, :, None] + 1e-3 * mask[:, :, None]
    path = write(tmp_path / "flat.h5", {"kspace": k.astype(np.complex64), "mask": mask}, voxel_size=(5.0, 1.0, 1.0))
    assert "one partition" in str(read_layout(path).not_for_training)
    assert "one partition" in str(inspect_layout(path).not_for_training)


def with_nan() -> np.ndarray:
    k = plain()[0]["kspace"].copy()
    k[1, 0, 0, 0] = np.nan
    return k


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kspace": with_nan()}, "kspace: coil 1 holds NaN or Inf"),
        ({"mask": np.ones((3, 4), bool)}, r"mask: needs shape \(kz, ky\) = \(12, 22\) to fit .*, has \(3, 4\)"),
        ({"mask": np.full((12, 22), 0.5)}, "a sampling mask holds 0 and 1 alone"),
        ({"mask": np.zeros((12, 22), bool)}, "the sampling mask is empty"),
        ({"mask": None}, "no known k-space layout .*plain: no dataset mask"),
        ({"kspace": None}, "no known k-space layout .*plain: no dataset kspace"),
        ({"kspace": np.zeros((3, 4, 5), np.complex64)}, r"plain: kspace has shape \(3, 4, 5\), not 4 axes"),
        ({"kspace": np.zeros((3, 12, 0, 14), np.complex64)}, "the k-space is empty"),
        ({"kspace": np.zeros(SHAPE, np.complex64)}, "coil 0 has no signal"),
        ({"noise": np.zeros((3, 7))}, "noise: needs complex numbers, holds float64"),
        ({"noise": np.zeros((2, 7), np.complex64)}, "noise: needs shape"),
        ({"acs": np.ones((3, 50, 5, 5), np.complex64)}, "acs: needs shape"),
        ({"voxel_size": None}, "the attribute voxel_size must say the voxel size"),
        ({"voxel_size": (1.0, 2.0)}, "the attribute voxel_size must say"),
        ({"acceleration": (3, 1)}, "mask: .*R = 3×1"),
        ({"acceleration": (2,)}, "acceleration: needs"),
        ({"acceleration": "DOE"}, "the attribute acceleration cannot be understood"),
        ({"affine": np.eye(3)}, "affine: needs a finite 4×4"),
        ({"affine": "of DOE, JANE"}, "the attribute affine cannot be understood"),
        ({"voxel_size": ["DOE", "JANE", "DOE"]}, "the file is damaged or incomplete"),
        ({"kspace": np.zeros(SHAPE, [("DOE", "f4"), ("JANE", "f4"), ("age", "f4")])}, "kspace holds a compound"),
        ({"noise": np.zeros((3, 7), [("DOE", "i4"), ("JANE", "i4")])}, "noise: needs complex .*, holds a compound"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    datasets, attributes = plain(**changes)
    path = write(tmp_path / "bad.h5", datasets, **attributes)
    with pytest.raises(ScanError, match=rf"bad\.h5: .*{message}") as caught:
        read_layout(path)
    assert "\n" not in str(caught.value) and not any(name in str(caught.value) for name in ("DOE", "JANE"))


def test_files_of_no_layout(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_layout(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    assert find_layout(tmp_path / "text.h5") is None and find_layout(tmp_path) is None
    with pytest.raises(ScanError, match=r"text\.h5: not an HDF5 file"):
        read_layout(tmp_path / "text.h5")
    save_scan(Scan(np.ones((1, 4, 6, 3), np.complex64), np.ones((4, 6), bool)), tmp_path / "ours.h5")
    assert find_layout(tmp_path / "ours.h5") is None
    other = write(tmp_path / "other.h5", {"data": np.zeros(3)})
    assert find_layout(other) is None and "calgary-campinas-359: no dataset kspace" in why_unknown(other)
    with pytest.raises(ScanError, match=r"other\.h5: not of the layout plain: no dataset kspace"):
        inspect_layout(other, LAYOUTS["plain"])


def test_a_small_file_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("kspace", (64, 1024, 1024, 1024), np.complex64, chunks=(1, 1, 64, 1024))
        file["mask"] = np.ones((1024, 1024), bool)
        file.attrs["voxel_size"] = (1.0, 1.0, 1.0)
    for read in (read_layout, inspect_layout):
        with pytest.raises(ScanError, match=r"bomb\.h5: claims 524\d{3} MiB of samples in a file of"):
            read(tmp_path / "bomb.h5")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_file(tmp_path: Path, share: float) -> None:
    datasets, attributes = plain()
    path = write(tmp_path / "cut.h5", datasets, **attributes)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ScanError, match=r"cut\.h5: not an HDF5 file, or damaged"):
        read_layout(path)


def test_inspecting_reads_no_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets, attributes = plain()
    path = write(tmp_path / "plain.h5", datasets, **attributes)
    read, names = h5py.Dataset.__getitem__, []

    def recorded(dataset: h5py.Dataset, *arguments: object) -> object:
        names.append(dataset.name)
        return read(dataset, *arguments)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", recorded)
    facts = inspect_layout(path)
    assert set(names) == {"/mask"}
    assert facts.acceleration == (2, 1) and facts.noise_samples == 40 and facts.acs_size == (6, 6)


def test_an_unusable_header_is_named(tmp_path: Path) -> None:
    k = slices(coil_images())
    for text in (b" ", b"<a/>", b"<?xml", header_xml(matrix=(0, 1, 1)), b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'):
        path = write(tmp_path / "x.h5", {"kspace": k, "ismrmrd_header": text})
        with pytest.raises(ScanError, match=r"x\.h5: ismrmrd_header: "):
            read_layout(path)


def test_every_layout_says_licence_address_and_use() -> None:
    layouts = load_layouts()
    assert len({layout.name for layout in layouts}) == len(layouts) == 8
    for layout in layouts:
        assert layout.title and layout.licence and layout.url and layout.training
