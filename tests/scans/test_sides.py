"""Which way an image lies, by another image of the same head: heads from nilearn's maps, on grids of their own."""

from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to

from sn2nlib import cli
from sn2nlib.errors import ImageError
from sn2nlib.scans import compare_sides, digital_head
from sn2nlib.scans.heads import Head, centred_affine
from sn2nlib.scans.images import write_image

OURS = (72, 88, 80)  # (z, y, x)
SIZE = (2.2, 2.2, 2.2)


@pytest.fixture(scope="module")
def head() -> Head:
    return digital_head(31, matrix=OURS, voxel_size=SIZE)


def seen(head: Head, affine: np.ndarray, shape: tuple[int, int, int], *, noise: float, seed: int) -> np.ndarray:
    """Magnitude image (z, y, x) of the head on a grid, with noise in parts of its brightness."""
    smooth = nib.Nifti1Image(head.signal().transpose(2, 1, 0), head.affine)
    volume = resample_from_to(smooth, (shape[::-1], affine), order=1).get_fdata(dtype=np.float32).transpose(2, 1, 0)
    rng, level = np.random.default_rng(seed), noise * np.percentile(volume, 98)
    return np.abs(volume + level * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))).astype(np.float32)


def centre(head: Head) -> np.ndarray:
    return (head.affine @ [*(n // 2 for n in head.signal().shape[::-1]), 1])[:3]


@pytest.fixture(scope="module")
def known(head: Head) -> tuple[np.ndarray, np.ndarray]:
    """The scanner's image: axial, oblique, brighter towards the back, of a matrix of its own; and its affine."""
    cosine, sine = np.cos(0.15), np.sin(0.15)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ np.diag([-1.9, -1.9, 2.5])
    affine[:3, 3] = centre(head) - affine[:3, :3] @ [46, 50, 38]
    volume = seen(head, affine, (76, 100, 92), noise=0.01, seed=1)
    return volume * np.exp(0.6 * np.linspace(-1, 1, 100, dtype=np.float32))[:, None], affine


def turned(affine: np.ndarray, ways: tuple[bool, ...], shape: tuple[int, int, int]) -> np.ndarray:
    """The affine of an image whose axes run the other way, voxel n//2 where it was."""
    middle = np.array([*(n // 2 for n in shape[::-1]), 1])
    other = affine @ np.diag([*np.where(ways, -1.0, 1.0), 1.0])
    other[:3, 3] += (affine @ middle - other @ middle)[:3]
    return other


@pytest.mark.parametrize("ways", list(product((False, True), repeat=3)))
def test_axes_that_run_the_other_way_are_found(
    head: Head, known: tuple[np.ndarray, np.ndarray], ways: tuple[bool, bool, bool]
) -> None:
    """And half a partition by which the place is off."""
    true = centred_affine(OURS, SIZE, centre(head))
    volume = seen(head, true, OURS, noise=0.1, seed=2)
    told = turned(true, ways, OURS)
    told[0, 3] += SIZE[0] / 2
    found = compare_sides(volume, told, *known)
    assert found.turned == ways
    assert found.correlation > 0.8 and found.next_best < 0.5
    np.testing.assert_allclose(found.moved, (-SIZE[0] / 2, 0, 0), atol=0.35)
    np.testing.assert_allclose(found.affine[:3, :3], true[:3, :3], atol=1e-9)
    np.testing.assert_allclose(found.affine[:3, 3], true[:3, 3], atol=0.35)


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_a_slab_of_few_partitions_is_compared_up_to_its_ends(head: Head, axis: int | None) -> None:
    """Eight thick partitions within the head, whose outline they do not show at either end."""
    shape, ways = (8, 96, 96), (axis == 0, axis == 1, axis == 2)
    true = centred_affine(shape, (5, 2.2, 2.2), centre(head))
    volume, other = (seen(head, true, shape, noise=noise, seed=seed) for noise, seed in ((0.02, 1), (0.05, 2)))
    found = compare_sides(volume, turned(true, ways, shape), other, true)
    assert found.turned == ways
    assert found.correlation > 0.9 and found.next_best < 0.6
    np.testing.assert_allclose(found.affine, true, atol=0.3)  # moves are found in steps of 0.25 mm


@pytest.mark.filterwarnings("error")
def test_images_that_do_not_overlap_are_refused_without_a_warning(
    head: Head, known: tuple[np.ndarray, np.ndarray]
) -> None:
    true = centred_affine(OURS, SIZE, centre(head))
    away = known[1].copy()
    away[0, 3] += 1000
    with pytest.raises(ImageError, match="too different to compare"):
        compare_sides(seen(head, true, OURS, noise=0.1, seed=2), true, known[0], away)


def test_a_head_the_same_from_both_sides_is_not_judged(head: Head, known: tuple[np.ndarray, np.ndarray]) -> None:
    true = centred_affine(OURS, SIZE, centre(head))
    volume = seen(head, true, OURS, noise=0, seed=0)[1:]  # voxel n//2 is the middle of an odd number
    both = volume + volume[::-1]
    with pytest.raises(ImageError, match="looks too much the same from both sides"):
        compare_sides(both, true, both, true)


def test_a_head_that_was_turned_is_refused(head: Head, known: tuple[np.ndarray, np.ndarray]) -> None:
    """By 12 degrees about the axis from left to right, as by a nod between the two scans."""
    true = centred_affine(OURS, SIZE, centre(head))
    volume = seen(head, true, OURS, noise=0.05, seed=2)
    turn, angle = np.eye(4), np.radians(12)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    middle = np.eye(4)
    middle[:3, 3] = centre(head)
    with pytest.raises(ImageError, match="too different to compare"):
        compare_sides(volume, middle @ turn @ np.linalg.inv(middle) @ true, *known)


def test_what_cannot_be_compared_is_refused(head: Head, known: tuple[np.ndarray, np.ndarray]) -> None:
    true = centred_affine(OURS, SIZE, centre(head))
    noise = np.abs(np.random.default_rng(0).standard_normal(OURS)).astype(np.float32)
    with pytest.raises(ImageError, match="too different to compare"):
        compare_sides(noise, true, *known)
    with pytest.raises(ImageError, match=r"the image has 1 × 88 × 80 voxels.*volumes of 8"):
        compare_sides(noise[:1], true, *known)
    with pytest.raises(ImageError, match="known to lie right is the same everywhere"):
        compare_sides(noise, true, np.ones((20, 20, 20), np.float32), true)


def test_the_command_tells_and_mends_the_sides(
    head: Head, known: tuple[np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of an image of `sn2n recon`, and of one that another program stores in integers, axes in another order."""

    def sides(*arguments: object) -> int:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["sides", *map(str, arguments)])
        return int(stopped.value.code or 0)

    true = centred_affine(OURS, SIZE, centre(head))
    wrong = turned(true, (False, False, True), OURS)
    volume = seen(head, true, OURS, noise=0.05, seed=3)
    ours, theirs, scanner = (tmp_path / name for name in ("ours.nii.gz", "theirs.nii", "scanner.nii.gz"))
    write_image(volume, ours, affine=wrong, description="raw filter 0.25")
    stored = nib.Nifti1Image((1000 * volume / volume.max()).astype(np.int16), wrong[:, [2, 1, 0, 3]])
    stored.header["descrip"] = b"sN2N: denoised by this package"
    nib.save(stored, theirs)
    write_image(known[0], scanner, affine=known[1])
    for image in (ours, theirs):
        before, placed = image.read_bytes(), tmp_path / f"placed_{image.name}"
        assert sides(image, scanner, "--out", placed) == 0
        told = capsys.readouterr().out
        assert "Sides: left and right are exchanged (correlation 0." in told and f"Image: {placed}" in told
        assert image.read_bytes() == before
        old, new = nib.load(image), nib.load(placed)
        np.testing.assert_array_equal(new.dataobj, old.dataobj)
        assert new.get_data_dtype() == old.get_data_dtype() and new.header["descrip"] == old.header["descrip"]
        np.testing.assert_allclose(new.affine, true if image is ours else true[:, [2, 1, 0, 3]], atol=0.4)
        assert sides(placed, scanner) == 0
        told = capsys.readouterr().out
        assert "Sides: right as they are" in told and "mm (0.0" in told.partition("Place: truly ")[2]
        assert sides(image, scanner, "--out", placed) == 1 and "exists" in capsys.readouterr().err
    unknown = tmp_path / "unknown.nii"
    write_image(volume, unknown, affine=true, known="size")
    for pair in ((unknown, scanner), (ours, unknown)):
        assert sides(*pair) == 1 and "unknown.nii does not say how it lies" in capsys.readouterr().err
    for option in ("--series", "--volume"):
        assert sides(ours, scanner, option, 3) == 1 and "choose from a DICOM series" in capsys.readouterr().err
    stored.header["descrip"] = b"Doe^Jane"
    nib.save(stored, theirs)
    assert sides(theirs, scanner, "--out", tmp_path / "anonymous.nii") == 0
    assert nib.load(tmp_path / "anonymous.nii").header["descrip"] == b""
