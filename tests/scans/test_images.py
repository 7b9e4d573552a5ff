"""NIfTI in and out: known orientation, exact return, clear errors."""

import gzip
import re
import tracemalloc
import warnings
from io import BytesIO
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import aff2axcodes

from sn2nlib.errors import ImageError
from sn2nlib.scans.images import (
    beside,
    check_output,
    check_outputs,
    read_image,
    stored_affine,
    turn_back,
    write_image,
)
from sn2nlib.scans.nifti import open_nifti, reading_memory

SHAPE = (5, 7, 8)
N_MUTANTS = 50  # of a header


def affine_for(axes: str, *, sizes: tuple[float, ...] = (0.7, 1.0, 1.3), tilt: float = 0.0) -> np.ndarray:
    """Affine of an array whose axes run towards `axes` (like RAS), optionally tilted about the last one."""
    affine = np.eye(4)
    for column, (code, size) in enumerate(zip(axes, sizes, strict=True)):
        row, sign = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}[code]
        affine[:3, column] = 0
        affine[row, column] = sign * size
    c, s = np.cos(tilt), np.sin(tilt)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]
    affine[:3, 3] = (11, -22, 33)
    return affine


def all_orientations() -> list[str]:
    pairs = ("RL", "AP", "SI")
    return ["".join(codes) for order in permutations(pairs) for codes in product(*order)]


def ramp() -> np.ndarray:
    return np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


@pytest.mark.parametrize("axes", all_orientations())
def test_every_orientation_comes_in_as_acquired_and_goes_back_unchanged(axes: str, tmp_path: Path) -> None:
    original = nib.Nifti1Image(ramp().astype(np.float32), affine_for(axes, tilt=0.2))
    original.set_qform(original.affine, code=1)
    original.set_sform(original.affine, code=2)
    nib.save(original, tmp_path / "in.nii.gz")

    volume, geometry = read_image(tmp_path / "in.nii.gz")
    assert volume.dtype == np.float32 and volume.flags.c_contiguous
    assert aff2axcodes(geometry.affine) == ("S", "A", "R")
    # every voxel lies where the file said
    for index in [(0, 0, 0), (1, 2, 3), tuple(n - 1 for n in SHAPE)]:
        place = original.affine @ [*index, 1]
        x, y, z = np.rint(np.linalg.solve(geometry.affine, place)[:3]).astype(int)
        assert volume[z, y, x] == ramp()[index]
    assert geometry.shape == volume.shape
    sizes = dict(zip(axes, (0.7, 1.0, 1.3), strict=True))
    expected = [next(sizes[code] for code in pair if code in sizes) for pair in ("RL", "AP", "SI")]
    assert geometry.voxel_size == pytest.approx(expected, abs=1e-6)

    write_image(2 * volume + 0.25, tmp_path / "out.nii.gz", like=geometry)
    written = nib.load(tmp_path / "out.nii.gz")
    assert np.array_equal(written.get_fdata(), 2 * ramp() + 0.25)
    assert written.get_data_dtype() == np.float32
    assert np.array_equal(written.affine, nib.load(tmp_path / "in.nii.gz").affine)


def test_qform_sform_and_their_codes_are_kept_where_they_differ(tmp_path: Path) -> None:
    original = nib.Nifti1Image(ramp(), affine_for("LAS"))
    original.set_qform(affine_for("LAS"), code=1)
    original.set_sform(affine_for("LAS", tilt=0.3), code=4)
    original.header.set_xyzt_units("mm", "sec")
    nib.save(original, tmp_path / "in.nii")
    volume, geometry = read_image(tmp_path / "in.nii")
    write_image(volume, tmp_path / "out.nii", like=geometry)
    before, after = (nib.load(tmp_path / name).header for name in ("in.nii", "out.nii"))
    fields = "qform_code sform_code pixdim quatern_b quatern_c quatern_d srow_x srow_y srow_z xyzt_units"
    for field in fields.split():
        assert np.array_equal(before[field], after[field]), field


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_no_word_of_the_header_comes_out(kind: type, dtype: str, tmp_path: Path) -> None:
    """Converters put names, numbers and dates into free text and extensions."""
    original = kind(ramp().astype(dtype), affine_for("LAS"))
    words = ("data_type", "db_name", "descrip", "aux_file", "intent_name")
    fields = [name for name in words if name in original.header]
    assert len(fields) == (5 if kind is nib.Nifti1Image else 3)
    for name in fields:
        original.header[name] = b"DOE JANE"
    for code, content in (("comment", b"DOE JANE 1970-01-01"), ("dicom", b""), (44, b"DOE JANE" * 40)):
        original.header.extensions.append(nib.nifti1.Nifti1Extension(code, content))
    nib.save(original, tmp_path / "in.nii")
    assert (tmp_path / "in.nii").read_bytes().count(b"DOE") == len(fields) + 41

    volume, geometry = read_image(tmp_path / "in.nii")
    write_image(volume, tmp_path / "out.nii", like=geometry)
    assert b"DOE" not in (tmp_path / "out.nii").read_bytes()
    written = nib.load(tmp_path / "out.nii")
    assert type(written) is kind and list(written.header.extensions) == []
    assert np.array_equal(written.get_fdata(), ramp())
    assert np.array_equal(written.affine, nib.load(tmp_path / "in.nii").affine)
    # what was read is left as it was
    assert len(geometry.header.extensions) == 3 and geometry.header["descrip"].item() == b"DOE JANE"


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_scaled_integers_are_read_in_their_unit(kind: type, tmp_path: Path) -> None:
    original = kind(ramp(), affine_for("RAS"))
    original.header.set_slope_inter(0.5, -3)
    nib.save(original, tmp_path / "in.nii.gz")
    volume, geometry = read_image(tmp_path / "in.nii.gz")
    write_image(volume, tmp_path / "out.nii.gz", like=geometry)
    written = nib.load(tmp_path / "out.nii.gz")
    assert type(written) is kind
    assert np.array_equal(written.get_fdata(), nib.load(tmp_path / "in.nii.gz").get_fdata())


@pytest.mark.parametrize("stored", ["uint8", "int16", ">i2", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("scaling", [(1, 0), (0.5, -3), (-2, 700)])
def test_number_format_and_scaling_are_kept(stored: str, scaling: tuple[float, float], tmp_path: Path) -> None:
    slope, intercept = scaling
    kind = np.dtype(stored)
    header = nib.Nifti1Header(endianness=">" if stored.startswith(">") else "<")
    header.set_data_dtype(kind)
    original = nib.Nifti1Image((ramp() % 250).astype(kind), affine_for("LPS"), header)
    original.header.set_slope_inter(slope, intercept)
    nib.save(original, tmp_path / "in.nii")

    volume, geometry = read_image(tmp_path / "in.nii")
    assert geometry.scaling == scaling
    write_image(volume + 0.3 * abs(slope), tmp_path / "out.nii", like=geometry)
    before, after = (nib.load(tmp_path / name) for name in ("in.nii", "out.nii"))
    assert (after.dataobj.slope, after.dataobj.inter) == scaling
    if kind.kind == "f":  # stored in single precision
        assert after.get_data_dtype() == np.float32
        assert np.allclose(after.get_fdata(), before.get_fdata() + 0.3 * abs(slope), atol=1e-3)
    else:  # 0.3 of a step is rounded away, so that the stored numbers are those of the input
        assert after.get_data_dtype() == kind
        assert np.array_equal(after.dataobj.get_unscaled(), before.dataobj.get_unscaled())


def test_integers_are_rounded_and_clipped_to_their_range(tmp_path: Path) -> None:
    path = save(tmp_path / "in.nii", (ramp() % 250).astype(np.uint8))
    volume, geometry = read_image(path)
    volume[0, 0, :3] = (-7.0, 300.0, 99.6)
    with pytest.warns(UserWarning, match="2 of 280 voxels .* lie outside what the number format"):
        write_image(volume, tmp_path / "out.nii", like=geometry)
    written, _ = read_image(tmp_path / "out.nii")
    assert written[0, 0, :3].tolist() == [0, 255, 100]
    volume[0, 0, 0] = np.nan
    with pytest.raises(ImageError, match=r"NaN or Inf in 1 of 280 voxels, .* which uint8 cannot store; replace"):
        write_image(volume, tmp_path / "nan.nii", like=geometry)
    assert not (tmp_path / "nan.nii").exists()


@pytest.mark.parametrize("further", [(1,), (1, 1)])
def test_one_volume_with_further_axes_is_one_volume(further: tuple[int, ...], tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(ramp(), affine_for("LPS")), tmp_path / "plain.nii")
    nib.save(nib.Nifti1Image(ramp().reshape(*SHAPE, *further), affine_for("LPS")), tmp_path / "in.nii")
    volume, geometry = read_image(tmp_path / "in.nii")
    plain, expected = read_image(tmp_path / "plain.nii")
    assert np.array_equal(volume, plain) and np.array_equal(geometry.affine, expected.affine)
    assert geometry.shape == expected.shape
    write_image(volume, tmp_path / "out.nii", like=geometry)
    written = nib.load(tmp_path / "out.nii")
    assert written.shape == SHAPE and np.array_equal(written.get_fdata(), ramp())


def test_a_scan_image_lies_where_its_affine_says(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((4, 6, 9), dtype=np.float32)
    before = volume.copy()
    write_image(volume, tmp_path / "scan.nii.gz", affine=affine_for("SAR"))
    image = nib.load(tmp_path / "scan.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), volume.transpose(2, 1, 0))
    assert np.allclose(image.affine, affine_for("SAR"), atol=1e-6)
    assert np.allclose(image.get_qform(), affine_for("SAR"), atol=1e-5)
    again, _ = read_image(tmp_path / "scan.nii.gz")
    assert np.array_equal(again, volume) and np.array_equal(volume, before)


def test_an_image_of_a_scan_says_which_axis_holds_its_partitions(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((4, 5, 6), np.float32)
    path, affine = tmp_path / "scan.nii.gz", affine_for("LIA")  # readout, lines, partitions: a coronal acquisition
    write_image(volume, path, affine=affine)
    stored, geometry = read_image(path, as_acquired=True)
    assert geometry.partitions and np.array_equal(stored, volume) and np.allclose(geometry.affine, affine)
    write_image(stored + 1, tmp_path / "out.nii", like=geometry)
    assert np.array_equal(nib.load(tmp_path / "out.nii").get_fdata(), (volume + 1).transpose(2, 1, 0))
    turned, plain = read_image(path)
    assert not plain.partitions and turned.shape == (6, 4, 5)
    # not of files that say so without being ours, nor of ours once another program has exchanged their axes
    image = nib.load(path)
    axes = nib.orientations.axcodes2ornt(("R", "A", "S"))
    other = image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), axes))
    nib.save(other, tmp_path / "turned.nii")
    foreign = nib.Nifti1Image(np.asarray(image.dataobj), affine)
    foreign.header.set_dim_info(0, 1, 2)
    nib.save(foreign, tmp_path / "foreign.nii")
    for name in ("turned.nii", "foreign.nii"):
        found, geometry = read_image(tmp_path / name, as_acquired=True)
        assert not geometry.partitions and np.array_equal(found, turned)


def test_how_much_of_the_geometry_is_known_is_written(tmp_path: Path) -> None:
    for known, code, unit in (("place", 1, "mm"), ("size", 0, "mm"), ("nothing", 0, "unknown")):
        write_image(np.ones((2, 3, 4)), tmp_path / f"{known}.nii", affine=affine_for("SAR"), known=known)
        header = nib.load(tmp_path / f"{known}.nii").header
        assert int(header["qform_code"]) == int(header["sform_code"]) == code
        assert header.get_xyzt_units()[0] == unit and header.get_zooms() == pytest.approx((0.7, 1.0, 1.3))


def test_a_description_and_several_outputs(tmp_path: Path) -> None:
    volume, told = np.ones((3, 4, 5), np.float32), "noise SD per component; zero filling"
    write_image(volume, tmp_path / "sd.nii", affine=np.eye(4), description=told)
    assert nib.load(tmp_path / "sd.nii").header["descrip"].item().decode() == told
    write_image(volume, tmp_path / "long.nii", affine=np.eye(4), description=200 * "α")
    assert len(nib.load(tmp_path / "long.nii").header["descrip"].item()) == 79
    check_outputs([tmp_path / "a.nii", tmp_path / "b.nii.gz"])
    with pytest.raises(ImageError, match="two outputs have the same name"):
        check_outputs([tmp_path / "a.nii", tmp_path / "x" / ".." / "a.nii"])
    with pytest.raises(FileExistsError):
        check_outputs([tmp_path / "a.nii", tmp_path / "sd.nii"])


def test_equal_images_are_equal_files(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_image(np.ones((2, 3, 4)), tmp_path / name, affine=affine_for("SAR"))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    image = nib.Nifti1Image(array, affine_for("RAS"))
    if affine is not None:
        image.header.set_sform(affine, code=1)
        image.header["qform_code"] = 0
        image = nib.Nifti1Image(array, None, image.header)
    nib.save(image, path)
    return path


def flat(axes: str) -> np.ndarray:
    affine = affine_for(axes)
    affine[:3, 1] = affine[:3, 0]
    return affine


@pytest.mark.parametrize(
    ("array", "affine", "message"),
    [
        (np.zeros((*SHAPE, 2), np.float32), None, r"needs 3 axes, has shape \(5, 7, 8, 2\)"),
        (np.zeros((*SHAPE, 1, 2), np.float32), None, r"needs 3 axes, has shape \(5, 7, 8, 1, 2\)"),
        (np.zeros(SHAPE[:2], np.float32), None, "needs 3 axes"),
        (np.zeros((5, 0, 8), np.float32), None, r"holds no voxels, its shape is \(5, 0, 8\)"),
        (np.zeros(SHAPE, np.complex64), None, "needs plain magnitudes, holds complex64"),
        (np.full(SHAPE, np.nan, np.float32), None, "holds NaN or Inf"),
        (np.full(SHAPE, np.inf, np.float32), None, "holds NaN or Inf"),
        (ramp(), np.full((4, 4), np.nan), "affine is broken"),
        (ramp(), np.diag([1.0, 0, 1, 1]), "affine is broken, the axes do not span the space"),
        (ramp(), flat("RAS"), "affine is broken, the axes do not span the space"),
    ],
)
def test_unusable_images_are_refused(
    array: np.ndarray, affine: np.ndarray | None, message: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "bad.nii.gz", array, affine)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.nii.gz", np.random.default_rng(0).random((30, 30, 30))).read_bytes()
    (tmp_path / "short.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "short.nii").write_bytes(gzip.decompress(whole)[:5000])
    (tmp_path / "text.nii").write_text("no image")
    (tmp_path / "empty.nii").write_bytes(b"")
    for name in ("short.nii.gz", "short.nii", "text.nii", "empty.nii"):
        with pytest.raises(ImageError, match=f"{name}: .*damaged") as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"there is no image .*absent\.nii"):
        read_image(tmp_path / "absent.nii")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(FileNotFoundError, match=r"there is no image .*folder\.nii"):
        read_image(tmp_path / "folder.nii")


def test_another_format_is_refused(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(np.zeros(SHAPE, np.float32), affine_for("RAS")), tmp_path / "image.mgz")
    with pytest.raises(ImageError, match="needs NIfTI, got MGHImage"):
        read_image(tmp_path / "image.mgz")


def test_an_image_without_orientation_is_read_with_a_warning(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(ramp(), None), tmp_path / "bare.nii")
    with pytest.warns(UserWarning, match="does not say how it lies"):
        volume, geometry = read_image(tmp_path / "bare.nii")
    write_image(volume, tmp_path / "out.nii", like=geometry)
    assert np.array_equal(nib.load(tmp_path / "out.nii").get_fdata(), ramp())


def test_writing_refuses_what_would_be_wrong(tmp_path: Path) -> None:
    _, geometry = read_image(save(tmp_path / "in.nii", ramp()))
    with pytest.raises(ImageError, match=r"shape \(2, 3, 4\) does not fit the geometry of shape"):
        write_image(np.zeros((2, 3, 4)), tmp_path / "out.nii", like=geometry)
    with pytest.raises(ImageError, match=r"ends in \.nii or \.nii\.gz"):
        check_output(tmp_path / "out.png")
    with pytest.raises(FileExistsError, match="exists"):
        write_image(np.zeros(geometry.shape), tmp_path / "in.nii", like=geometry)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.nii"]
    write_image(np.zeros(geometry.shape), tmp_path / "in.nii", like=geometry, overwrite=True)
    assert not nib.load(tmp_path / "in.nii").get_fdata().any()


def test_names_beside_an_image() -> None:
    assert beside("a/b.nii.gz", "_half_a") == Path("a/b_half_a.nii.gz")
    assert beside("b.nii", "_half_b") == Path("b_half_b.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dim", [3, 5, 7, 4, 1, 1, 1, 1], r"holds more voxels than its header says, \(5, 7, 4\) of int16"),
        ("dim", [3, 5, 7, 9, 1, 1, 1, 1], r"holds fewer voxels than its header says, \(5, 7, 9\) of int16"),
        ("dim", [3, 5, 7, -8, 1, 1, 1, 1], r"holds no voxels, its shape is \(5, 7, -8\)"),
        ("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1], "fewer voxels"),
        ("datatype", 2, r"holds more voxels than its header says, \(5, 7, 8\) of uint8"),
        ("vox_offset", np.nan, "damaged"),
        ("vox_offset", 400, "fewer voxels"),
        ("vox_offset", 1e30, "fewer voxels"),
        ("quatern_b", 2, "damaged"),
        ("scl_slope", 3e38, "holds NaN or Inf"),
    ],
)
def test_headers_that_the_file_contradicts_are_refused(
    field: str, value: object, message: str, suffix: str, tmp_path: Path
) -> None:
    image = nib.Nifti1Image(ramp(), affine_for("LAS"))
    image.set_sform(None, code=0)
    image.set_qform(affine_for("LAS"), code=1)
    header = nib.Nifti1Header.from_fileobj(BytesIO(image.to_bytes()))
    header[field] = value
    content = header.binaryblock + bytes(4) + ramp().tobytes(order="F")
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with pytest.raises(ImageError, match=rf"bad{suffix}: .*{message}"):
        read_image(path)


def zeros(path: Path, *, shape: tuple[int, int, int], kind: str, n_bytes: int, extension: int = 0) -> Path:
    """A file of so many zeros in 1 MiB members of gzip, a thousandth of their length on disk, and a false header."""
    header = nib.Nifti1Header()
    header.set_data_dtype(kind)
    header.set_data_shape(shape)
    header.set_sform(affine_for("RAS"), code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352 + 2**20 * bool(extension)
    start = header.binaryblock + bytes([bool(extension), 0, 0, 0]) + extension.to_bytes(4, "little") * bool(extension)
    member = gzip.compress(bytes(2**20), 9)
    path.write_bytes(gzip.compress(start) + n_bytes // 2**20 * member + gzip.compress(bytes(n_bytes % 2**20)))
    return path


def test_a_mask_may_be_compressed_as_far_as_gzip_goes(tmp_path: Path) -> None:
    """75 million voxels in 75 kB; the place alone is asked for, so that the test is quick."""
    path = zeros(tmp_path / "mask.nii.gz", shape=(420, 420, 425), kind="uint8", n_bytes=420 * 420 * 425)
    assert path.stat().st_size < 420 * 420 * 425 / 900
    assert stored_affine(path)[1] == (420, 420, 425)


@pytest.mark.parametrize(
    ("shape", "kind", "extension", "message"),
    [
        ((1400, 1400, 1600), "uint8", 0, r"would take 29907 MiB of memory, out of proportion .*decompressed first"),
        ((1400, 1400, 160), "float64", 0, r"would take 7177 MiB of memory, out of proportion to a file of 3\d+ bytes"),
        ((1400, 1400, 1800), "uint8", 0, "fewer voxels than its header says"),
        (SHAPE, "uint8", 7, "an extension of its header would be 7 bytes long"),  # for nibabel: the whole file
        (SHAPE, "uint8", 2**31 - 16, "an extension of its header would be 2147483632 bytes long"),
    ],
)
def test_a_small_file_never_takes_much_memory(
    shape: tuple[int, int, int], kind: str, extension: int, message: str, tmp_path: Path, hostile: Any
) -> None:
    """It holds 3 GiB, so that no message but its own can refuse it for being short."""
    path = zeros(tmp_path / "small.nii.gz", shape=shape, kind=kind, n_bytes=3 * 2**30, extension=extension)
    assert path.stat().st_size < 3.3e6
    told = hostile.in_child(lambda: hostile.tried(path, [fault_of_image, fault_of_place], secrets=[]))
    assert re.search(message, told) and "FAULT" not in told


@pytest.mark.parametrize("stored", ["uint8", ">i2", "int32", "float32", "float64"])
@pytest.mark.parametrize("scaling", [(1, 0), (0.5, -3)])
def test_reading_takes_no_more_memory_than_is_reckoned(
    stored: str, scaling: tuple[float, float], tmp_path: Path
) -> None:
    header = nib.Nifti1Header(endianness=">" if stored.startswith(">") else "<")
    header.set_data_dtype(stored)
    image = nib.Nifti1Image((np.arange(64**3) % 200).reshape(64, 64, 64).astype(stored), affine_for("RAS"), header)
    image.header.set_slope_inter(*scaling)
    nib.save(image, tmp_path / "in.nii.gz")
    reckoned = reading_memory(open_nifti(tmp_path / "in.nii.gz"))
    tracemalloc.start()
    try:
        read_image(tmp_path / "in.nii.gz")
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.6 * reckoned < taken < 1.01 * reckoned + 2**17  # buffers, and what nibabel loads


def test_memory_that_runs_out_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(_: Path) -> None:
        raise MemoryError

    path = save(tmp_path / "in.nii", ramp())
    monkeypatch.setattr(nib, "load", greedy)
    with pytest.raises(MemoryError):
        read_image(path)


def test_several_extensions_of_true_length_are_read(tmp_path: Path) -> None:
    for endianness, kind in (("<", nib.Nifti1Image), (">", nib.Nifti1Image), ("<", nib.Nifti2Image)):
        image = kind(ramp(), affine_for("SAR"), kind.header_class(endianness=endianness))
        for n_bytes in (3, 500, 100_000):
            image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * n_bytes))
        nib.save(image, tmp_path / "in.nii.gz")
        volume, geometry = read_image(tmp_path / "in.nii.gz")
        assert np.array_equal(volume, ramp().transpose(2, 1, 0)) and len(geometry.header.extensions) == 3


def test_impossible_values_that_do_no_harm_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(nib.Nifti1Image(ramp(), affine_for("LAS")).to_bytes())
    content[252:254] = (77).to_bytes(2, "little")  # the code of the qform; that of the sform follows
    (tmp_path / "in.nii").write_bytes(content)
    with pytest.warns(UserWarning, match=r"in\.nii: its header holds impossible values \(qform_code 77 not valid"):
        volume, geometry = read_image(tmp_path / "in.nii")
    assert np.allclose(nib.affines.voxel_sizes(geometry.affine)[::-1], geometry.voxel_size) and volume.size == 280
    assert caplog.text == ""


def test_a_header_with_its_voxels_in_another_file(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(ramp(), affine_for("SAR")), tmp_path / "pair.img")
    volume, _ = read_image(tmp_path / "pair.img")
    assert np.array_equal(volume, ramp().transpose(2, 1, 0))
    (tmp_path / "pair.img").write_bytes(ramp().tobytes(order="F") + bytes(9))  # less than a row: padding
    assert np.array_equal(read_image(tmp_path / "pair.img")[0], volume)
    (tmp_path / "pair.img").write_bytes(bytes(ramp().nbytes + 10))
    with pytest.raises(ImageError, match="more voxels"):
        read_image(tmp_path / "pair.img")


def header_with_words(kind: type, form: str) -> bytes:
    """A file with scaling, words and an extension, whose place is told by the qform or by the sform alone."""
    image = kind(ramp(), affine_for("LAS", tilt=0.2))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE JANE"))
    image.header["descrip"] = b"DOE JANE"
    image.set_qform(image.affine, code=int(form == "qform"))
    image.set_sform(image.affine, code=int(form == "sform"))
    image.header.set_slope_inter(0.5, -3)
    return bytes(image.to_bytes())


def fault_of_image(path: Path) -> str | None:
    """What is wrong with an image read from a damaged copy of the above, and written like itself."""
    copy = path.with_name(f"of_{path.name}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        volume, geometry = read_image(path)
        write_image(volume, copy, like=geometry, overwrite=True)
        again, _ = read_image(copy)
    told = [str(warning.message) for warning in caught]
    if foreign := [words for words in told if not words.startswith((str(path), str(copy)))]:
        return f"a library says {foreign}"
    array = turn_back(volume, geometry.stored)
    if array.shape != SHAPE or not volume.shape == geometry.shape == again.shape:
        return f"arrays of {array.shape}, {geometry.shape}, {again.shape} of a file of {SHAPE}"
    if geometry.scaling == (0.5, -3) and not np.array_equal(array, 0.5 * ramp() - 3) and not told:
        return "other numbers than in the file, without a word"
    return None


def fault_of_place(path: Path) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        affine, shape = stored_affine(path)
    return None if shape == SHAPE and np.isfinite(affine).all() else f"{shape} in a file of {SHAPE}, {affine}"


@pytest.mark.parametrize(
    ("kind", "form", "suffix"),
    [
        (nib.Nifti1Image, "qform", ".nii"),
        (nib.Nifti1Image, "sform", ".nii.gz"),
        (nib.Nifti2Image, "qform", ".nii.gz"),
        (nib.Nifti2Image, "sform", ".nii"),
    ],
)
def test_headers_with_flipped_bits(kind: type, form: str, suffix: str, tmp_path: Path, hostile: Any) -> None:
    whole = header_with_words(kind, form)
    header = len(whole) - ramp().nbytes

    def pack(content: bytes) -> bytes:
        return gzip.compress(content, 1) if suffix.endswith("gz") else content

    def work(path: Path) -> str:
        return str(hostile.tried(path, [fault_of_image, fault_of_place], secrets=["DOE"]))

    def place(number: int) -> Path:
        return tmp_path / f"mutant{number}{suffix}"

    place(0).write_bytes(pack(whole))
    assert hostile.in_child(lambda: work(place(0))) == "ok"
    mutants = ((name, pack(content)) for name, content in hostile.flipped(whole, [(0, header - 3)], N_MUTANTS, seed=3))
    outcomes = hostile.check(mutants, place, work)
    refused = sum(line != "ok" for line in outcomes.values())
    assert len(outcomes) == N_MUTANTS and 0.1 * N_MUTANTS < refused < 0.95 * N_MUTANTS
    packed = pack(whole)
    outcomes = hostile.check(hostile.truncated(packed), place, work)
    assert len(outcomes) == 11 and "ok" not in outcomes.values()
