"""Heads: digital ones keep what they promise, real ones come in the same from every orientation."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from sn2nlib.errors import ImageError
from sn2nlib.scans.atlas import STRUCTURES
from sn2nlib.scans.heads import TISSUES, Head, centred_affine, digital_head, read_head
from sn2nlib.scans.sequence import MpRage

AIR, CSF, GM, WM, OTHER = range(len(TISSUES))
# the middle of the head, where the deep structures and the ventricles lie
SMALL = {"matrix": (24, 26, 24), "voxel_size": (4.0, 4.0, 4.0)}


def world(head: Head, index: np.ndarray) -> np.ndarray:
    """RAS mm of an index (z, y, x)."""
    return head.affine[:3, :3] @ np.asarray(index)[::-1] + head.affine[:3, 3]


def centroid(head: Head, structure: str) -> np.ndarray:
    assert head.structures is not None
    return world(head, np.argwhere(head.structures == STRUCTURES[structure]).mean(axis=0))


@pytest.fixture(scope="session")
def whole() -> Head:
    """One whole head with lesions, of the field of view of the smoke profile."""
    return digital_head(1, matrix=(40, 64, 64), voxel_size=(4.3, 3.4, 3.4), age=60, sex="F", lesions=8)


@pytest.fixture(scope="session")
def middle() -> Callable[..., Head]:
    """The middle of a head: a second's work."""
    made: dict[str, Head] = {}

    def make(seed: int = 1, **settings: object) -> Head:
        key = repr((seed, sorted(settings.items())))
        if key not in made:
            made[key] = digital_head(seed, **(SMALL | settings))  # type: ignore[arg-type]
        return made[key]

    return make


def maps_of(head: Head) -> dict[str, np.ndarray]:
    return {
        name: getattr(head, name) for name in ("t1", "pd", "t2_star", "tissue", "structures", "lesions", "affine")
    }


def test_the_seed_decides_everything(middle: Callable[..., Head]) -> None:
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    again = digital_head(1, **SMALL)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    for name, array in maps_of(middle()).items():
        np.testing.assert_array_equal(array, getattr(again, name), err_msg=name)
    assert again.name == "digital-1" and digital_head(1, name="P01", **SMALL).name == "P01"  # type: ignore[arg-type]

    other = middle(2)
    assert other.tissue is not None and again.tissue is not None
    inside = (other.tissue > 0) & (again.tissue > 0)
    assert np.mean(other.tissue[inside] != again.tissue[inside]) > 0.2
    assert other.t1 is not None and again.t1 is not None
    assert not np.any(other.t1[inside] == again.t1[inside])


def test_maps_have_the_promised_grid_and_types(whole: Head, middle: Callable[..., Head]) -> None:
    for head, matrix, voxel_size in ((whole, (40, 64, 64), (4.3, 3.4, 3.4)), (middle(), *SMALL.values())):
        assert head.is_digital and head.intensity is None
        maps = maps_of(head)
        shape = maps["t1"].shape
        assert {maps[name].shape for name in maps if name != "affine"} == {shape}
        assert maps["t1"].dtype == maps["pd"].dtype == maps["t2_star"].dtype == np.float32
        assert maps["tissue"].dtype == maps["structures"].dtype == np.uint8 and maps["lesions"].dtype == np.bool_
        assert max(head.voxel_size) <= 1.25
        # together the field of view of the scan
        np.testing.assert_allclose(np.multiply(shape, head.voxel_size), np.multiply(matrix, voxel_size))


def test_a_fine_scan_gets_a_grid_that_is_finer_still() -> None:
    head = digital_head(1, matrix=(40, 41, 42), voxel_size=(0.7, 0.8, 0.7))
    assert head.t1 is not None and head.t1.shape == (54, 56, 57)
    np.testing.assert_allclose(head.voxel_size, (28 / 54, 32.8 / 56, 29.4 / 57))


def test_tissues_have_their_relaxation_times(whole: Head) -> None:
    assert whole.tissue is not None and whole.t1 is not None and whole.pd is not None and whole.t2_star is not None
    shares = np.bincount(whole.tissue.ravel(), minlength=5) / whole.tissue.size
    assert shares[AIR] > 0.3 and shares[OTHER] > 0.1 and min(shares[CSF], shares[GM], shares[WM]) > 0.02
    median = [np.median(whole.t1[whole.tissue == tissue]) for tissue in range(5)]
    assert 3400 < median[CSF] < 4700 and 1150 < median[GM] < 1650 and 700 < median[WM] < 1020
    assert np.all(whole.pd[whole.tissue == AIR] == 0)
    assert all(np.isfinite(array).all() and array.min() >= 0 for array in (whole.t1, whole.pd, whole.t2_star))
    assert whole.t2_star.min() > 0 and whole.t1.min() > 100
    # hard boundaries: nearly every voxel is clearly one tissue or the other
    brain = (whole.tissue == CSF) | ((whole.tissue == GM) & (whole.structures == 0)) | (whole.tissue == WM)
    between = (whole.t1[brain] > 2000) & (whole.t1[brain] < 3000)
    assert between.mean() < 0.01

    signal = whole.signal()
    np.testing.assert_array_equal(signal, MpRage().signal(whole.t1, whole.pd, whole.t2_star))
    level = [np.median(signal[whole.tissue == tissue]) for tissue in range(5)]
    assert level[WM] > 1.15 * level[GM] > 1.15 * 1.15 * level[CSF] and level[AIR] == 0
    assert not np.array_equal(whole.signal(MpRage(flip_angle=12)), signal)


def test_all_structures_are_there_at_a_plausible_size(whole: Head) -> None:
    assert whole.structures is not None and whole.tissue is not None
    millilitres = {
        name: np.count_nonzero(whole.structures == number) * np.prod(whole.voxel_size) / 1000
        for name, number in STRUCTURES.items()
    }
    plausible = {"thalamus": (4, 12), "caudate": (1.5, 6), "putamen": (2.5, 8), "pallidum": (0.8, 3),
                 "brainstem": (15, 45), "hippocampus": (1.5, 7), "amygdala": (0.7, 3), "accumbens": (0.2, 1.2)}
    for name, volume in millilitres.items():
        low, high = plausible[name.split()[-1]]
        assert low < volume < high, f"{name}: {volume:.1f} ml"
    assert np.all(np.isin(whole.tissue[whole.structures > 0], (GM, WM)))
    assert set(np.unique(whole.structures)) == set(range(16))


def test_deep_nuclei_have_t1_of_their_own(whole: Head) -> None:
    assert whole.structures is not None and whole.t1 is not None and whole.tissue is not None

    def t1(*names: str) -> float:
        return float(np.median(whole.t1[np.isin(whole.structures, [STRUCTURES[name] for name in names])]))

    cortex = np.median(whole.t1[(whole.tissue == GM) & (whole.structures == 0)])
    assert t1("left pallidum", "right pallidum") < t1("left thalamus", "right thalamus") < cortex
    assert t1("left pallidum", "right pallidum") < t1("left putamen", "right putamen") < cortex


def test_left_is_left_and_things_are_where_they_belong(whole: Head, middle: Callable[..., Head]) -> None:
    for head in (whole, middle(2, matrix=(25, 24, 27))):
        for name in {structure.split()[-1] for structure in STRUCTURES} - {"brainstem"}:
            assert centroid(head, f"left {name}")[0] < centroid(head, f"right {name}")[0] - 10, name
    between = (centroid(whole, "left thalamus") + centroid(whole, "right thalamus")) / 2
    stem = centroid(whole, "brainstem")
    assert stem[2] < between[2] - 15  # below
    caudate = (centroid(whole, "left caudate") + centroid(whole, "right caudate")) / 2
    assert caudate[1] > between[1] + 10  # in front


def test_the_affine_puts_the_centre_where_it_was_asked(whole: Head) -> None:
    assert whole.tissue is not None
    shape = whole.tissue.shape
    np.testing.assert_allclose(world(whole, [n // 2 for n in shape]), (0, -14, -14), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(whole.affine[:3, :3], axis=0), whole.voxel_size[::-1])
    # one voxel further along z, y, x is further right, anterior, superior
    centre = np.array([n // 2 for n in shape])
    for axis, size in enumerate(whole.voxel_size):
        step = world(whole, centre + np.eye(3, dtype=int)[axis]) - world(whole, centre)
        np.testing.assert_allclose(step, size * np.eye(3)[axis], atol=1e-9)
    # the middle of a brain lies within 15 mm of the template's
    brain = np.argwhere(np.isin(whole.tissue, (GM, WM)) & (whole.structures != STRUCTURES["brainstem"]))
    np.testing.assert_allclose(world(whole, brain.mean(axis=0)), (0, -18, 8), atol=15)


@pytest.mark.parametrize("shape", [(4, 5, 6), (7, 7, 8)])
def test_centred_affine_of_odd_and_even_grids(shape: tuple[int, int, int]) -> None:
    affine = centred_affine(shape, (0.7, 1.0, 1.3), np.array([1.0, -2.0, 3.0]))
    stored = [n // 2 for n in shape[::-1]]
    np.testing.assert_allclose(affine @ [*stored, 1], (1, -2, 3, 1))
    np.testing.assert_allclose(affine[:3, :3], [[0, 0, 0.7], [0, 1.0, 0], [1.3, 0, 0]])


@pytest.mark.parametrize("seed", [1, 2])
def test_age_widens_the_fluid_spaces(middle: Callable[..., Head], seed: int) -> None:
    young, old = middle(seed, age=25.0, sex="F"), middle(seed, age=85.0, sex="F")
    assert young.tissue is not None and old.tissue is not None
    assert np.mean(old.tissue == CSF) > 1.08 * np.mean(young.tissue == CSF)


@pytest.mark.parametrize("seed", [1, 2])
def test_mens_heads_are_larger(middle: Callable[..., Head], seed: int) -> None:
    def apart(sex: str) -> float:
        head = middle(seed, age=25.0, sex=sex)
        return float(np.linalg.norm(centroid(head, "left putamen") - centroid(head, "right putamen")))

    assert apart("M") / apart("F") == pytest.approx(1.07 / 1.04, abs=0.01)


def test_lesions_lie_in_white_matter(whole: Head, middle: Callable[..., Head]) -> None:
    assert whole.lesions is not None and whole.tissue is not None and whole.t1 is not None
    assert whole.lesions.sum() > 20
    assert np.all(whole.tissue[whole.lesions] == WM)
    healthy = whole.t1[(whole.tissue == WM) & ~whole.lesions & (whole.structures == 0)]
    assert np.median(whole.t1[whole.lesions]) > 1.15 * np.median(healthy)  # each head draws its own

    without, with_some = middle(3), middle(3, lesions=4)
    assert without.lesions is not None and not without.lesions.any()
    assert with_some.lesions is not None and with_some.lesions.any()
    np.testing.assert_array_equal(without.tissue, with_some.tissue)  # the same head otherwise


def test_a_head_is_as_sharp_as_a_real_one(whole: Head) -> None:
    """Radial power of a real 1 mm MP-RAGE in ten shells up to Nyquist, log10 relative to the first."""
    real = np.array([0, -2.0, -2.8, -3.3, -3.8, -4.1, -4.4, -4.6, -4.8, -5.0])
    signal = whole.signal()
    power = np.abs(np.fft.fftn(signal)) ** 2
    squares = [np.fft.fftfreq(n) ** 2 for n in signal.shape]
    frequency = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    shells = [power[(frequency >= low / 20) & (frequency < (low + 1) / 20)].mean() for low in range(10)]
    found = np.log10(np.array(shells) / shells[0])
    assert np.all(np.diff(found) < 0)
    np.testing.assert_allclose(found, real, atol=0.8)


# real heads

SIZES = (5.0, 6.0, 7.0)  # mm along right, anterior, superior
ORIGIN = np.array([-20.0, 7.0, 31.0])


def asymmetric_object() -> np.ndarray:
    """(right, anterior, superior): a dim ellipsoid with one bright corner, air around it."""
    r, a, s = np.meshgrid(*(np.arange(n, dtype=float) for n in (30, 25, 22)), indexing="ij")
    body = 100.0 * (((r - 14) / 11) ** 2 + ((a - 11) / 8) ** 2 + ((s - 9) / 6) ** 2 < 1)
    return (body + 900 * np.exp(-((r - 19) ** 2 + (a - 14) ** 2 + (s - 6) ** 2) / 4)).astype(np.float32).round()


def nifti(data: np.ndarray, *, tilt: float = 0.0) -> nib.Nifti1Image:
    cosine, sine = np.cos(tilt), np.sin(tilt)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ np.diag(SIZES)
    affine[:3, 3] = ORIGIN
    return nib.Nifti1Image(data, affine)


def saved(image: nib.Nifti1Image, path: Path) -> Path:
    nib.save(image, path)
    return path


def brightest(head: Head) -> np.ndarray:
    assert head.intensity is not None
    return world(head, np.unravel_index(head.intensity.argmax(), head.intensity.shape))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "ASR", "PIL", "SRA", "IPR", "ARS"])
@pytest.mark.parametrize("tilt", [0.0, 0.15])
def test_every_orientation_gives_the_same_head(tmp_path: Path, codes: str, tilt: float) -> None:
    image = nifti(asymmetric_object(), tilt=tilt)
    turned = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
    assert nib.aff2axcodes(turned.affine) == tuple(codes)
    head = read_head(saved(turned, tmp_path / "P7.nii.gz"))

    assert head.name == "P7" and not head.is_digital
    assert head.intensity is not None and head.intensity.dtype == np.float32
    data = asymmetric_object()
    kept = np.argwhere(data > 50)
    box = tuple(slice(low, high + 1) for low, high in zip(kept.min(axis=0), kept.max(axis=0), strict=True))
    np.testing.assert_array_equal(head.intensity, data[box])
    np.testing.assert_allclose(head.voxel_size, SIZES, rtol=1e-6)
    expected = image.affine @ [*np.unravel_index(data.argmax(), data.shape), 1]
    np.testing.assert_allclose(brightest(head), expected[:3], atol=1e-4)
    np.testing.assert_array_equal(head.signal(), head.intensity)


def test_specks_outside_the_head_are_cut_off_and_negative_values_are_zero(tmp_path: Path) -> None:
    data = asymmetric_object()
    clean = read_head(saved(nifti(data), tmp_path / "clean.nii"), name="S9")
    assert clean.name == "S9"
    data[0, 0, 0] = data[29, 24, 21] = 800  # a marker in a corner
    data[14, 11, 9] = -50
    head = read_head(saved(nifti(data), tmp_path / "marked.nii"))
    assert head.intensity is not None and clean.intensity is not None
    assert head.intensity.shape == clean.intensity.shape
    np.testing.assert_array_equal(head.affine, clean.affine)
    assert head.intensity.min() == 0
    assert np.count_nonzero(head.intensity != clean.intensity) == 1


def test_scaled_integers_and_one_volume_in_four_axes_are_read(tmp_path: Path) -> None:
    plain = read_head(saved(nifti(asymmetric_object()), tmp_path / "plain.nii"))
    image = nifti(asymmetric_object().astype(np.int16)[..., None])
    image.header.set_slope_inter(2.0, 0.0)
    head = read_head(saved(image, tmp_path / "scaled.nii.gz"))
    assert head.intensity is not None and plain.intensity is not None
    stored = np.asarray(nib.load(tmp_path / "scaled.nii.gz").dataobj)  # type: ignore[attr-defined]
    assert head.intensity.max() == stored.max()
    found, expected = (volume / volume.max() for volume in (head.intensity, plain.intensity))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_bad_images_are_refused(tmp_path: Path) -> None:
    data = asymmetric_object()

    def refused(image: nib.Nifti1Image, message: str) -> None:
        path = saved(image, tmp_path / "bad.nii.gz")
        with pytest.raises(ImageError, match=rf"bad\.nii\.gz: .*{message}"):
            read_head(path)

    refused(nifti(np.stack([data, data], axis=-1)), r"needs 3 axes, has shape \(30, 25, 22, 2\)")
    refused(nifti(data[0]), "needs 3 axes")
    broken = nifti(data)
    broken.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=1)
    broken.set_qform(None, code=0)
    refused(nib.Nifti1Image(data, None, broken.header), "its affine is broken")
    broken.header["srow_x"] = np.nan
    refused(nib.Nifti1Image(data, None, broken.header), "its affine is broken")
    with_nan = data.copy()
    with_nan[3, 4, 5] = np.nan
    refused(nifti(with_nan), "holds NaN or Inf")
    with_nan[3, 4, 5] = np.inf
    refused(nifti(with_nan), "holds NaN or Inf")
    refused(nifti(np.zeros_like(data)), "holds no positive intensity")
    refused(nifti(-data), "holds no positive intensity")
    speck = np.zeros_like(data)
    speck[3, 4, 5] = 1
    refused(nifti(speck), "no object of more than a few voxels")
    needed = "needed is a T1-weighted NIfTI image of a whole head"
    refused(nifti(np.full_like(data, 7)), f"holds no value but 7 .*, as a mask does, so no tissue; {needed}")
    refused(nifti(np.float32(3) * (data > 0)), f"holds no value but 3 .*, as a mask does, so no tissue; {needed}")
    refused(nifti(data[:, :, 9:10]), f"holds a single slice; {needed}")


@pytest.mark.parametrize("factor", [0.1, 10])
def test_what_has_not_the_size_of_a_head_is_doubted(factor: float, tmp_path: Path) -> None:
    path = saved(nifti(asymmetric_object()), tmp_path / "head.nii.gz")
    read_head(path)  # says nothing
    image = nib.load(path)
    scaled = nib.Nifti1Image(np.asarray(image.dataobj), np.diag([factor, factor, factor, 1]) @ image.affine)
    with pytest.warns(UserWarning, match=r"measures .* mm \(left-right, back-front, up-down\), which a whole head"):
        read_head(saved(scaled, tmp_path / "other.nii.gz"))


def test_files_that_are_no_image(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_head(tmp_path / "absent.nii.gz")
    (tmp_path / "text.nii.gz").write_text("not an image")
    with pytest.raises(ImageError, match=r"text\.nii\.gz: not a NIfTI file, or damaged"):
        read_head(tmp_path / "text.nii.gz")
    content = saved(nifti(asymmetric_object()), tmp_path / "whole.nii.gz").read_bytes()
    (tmp_path / "half.nii.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"half\.nii\.gz: the file is damaged or incomplete"):
        read_head(tmp_path / "half.nii.gz")
    surface = nib.gifti.GiftiImage(darrays=[nib.gifti.GiftiDataArray(np.zeros((3, 3), np.float32))])
    nib.save(surface, tmp_path / "surface.gii")
    needed = "needed is a T1-weighted NIfTI image of a whole head, .nii or .nii.gz"
    with pytest.raises(ImageError, match=rf"surface\.gii: needs NIfTI, got GiftiImage; convert it first; {needed}"):
        read_head(tmp_path / "surface.gii")
    with pytest.raises(ImageError, match=rf"a folder; {needed}, which dcm2niix makes of a DICOM series"):
        read_head(tmp_path)
    (tmp_path / "slice.dcm").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(ImageError, match=rf"slice\.dcm: not a NIfTI file, or damaged .*; {needed}"):
        read_head(tmp_path / "slice.dcm")
