"""Masks, lattices and the kz split against their definitions, sample by sample."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from sn2nlib.errors import SamplingError
from sn2nlib.sampling import Lattice, acs_region, find_lattice, lattice_mask, open_sides, split_kz

SHAPES = [(13, 31), (12, 30), (16, 27)]  # (kz, ky)
# acceleration (Ry, Rz), CAIPIRINHA shift, offset (y0, z0)
LATTICES = [
    ((1, 1), 0, (0, 0)),
    ((2, 1), 0, (0, 0)),
    ((2, 1), 0, (1, 0)),
    ((3, 1), 0, (2, 0)),
    ((2, 2), 0, (0, 0)),
    ((2, 2), 0, (1, 1)),
    ((2, 2), 1, (0, 0)),
    ((2, 2), 1, (1, 1)),
    ((1, 3), 1, (0, 2)),
    ((2, 3), 1, (1, 1)),
    ((2, 3), 2, (0, 2)),
    ((3, 2), 1, (1, 0)),
]


def on_lattice(kz: int, ky: int, acceleration: tuple[int, int], shift: int, offset: tuple[int, int]) -> bool:
    (ry, rz), (y0, z0) = acceleration, offset
    i, beside = divmod(ky - y0, ry)
    return beside == 0 and (kz - z0 - shift * i) % rz == 0


def half_a_by_definition(
    mask: np.ndarray, acceleration: tuple[int, int], shift: int, offset: tuple[int, int]
) -> np.ndarray:
    """kz ≡ z0 + shift·i (mod 2Rz) on the lattice, even kz off it."""
    (ry, rz), (y0, z0) = acceleration, offset
    half = np.zeros_like(mask)
    for kz, ky in np.argwhere(mask):
        if on_lattice(kz, ky, acceleration, shift, offset):
            half[kz, ky] = (kz - z0 - shift * ((ky - y0) // ry)) % (2 * rz) == 0
        else:
            half[kz, ky] = kz % 2 == 0
    return half


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("acceleration", "shift", "offset"), LATTICES)
@pytest.mark.parametrize("acs", [None, 6, (8, 5)])
def test_split_follows_its_definition(
    shape: tuple[int, int],
    acceleration: tuple[int, int],
    shift: int,
    offset: tuple[int, int],
    acs: int | tuple[int, int] | None,
) -> None:
    mask = lattice_mask(shape, acceleration=acceleration, caipi_shift=shift, offset=offset, acs=acs)
    before = mask.copy()
    mask_a, mask_b = split_kz(mask, acceleration=acceleration, caipi_shift=shift)

    np.testing.assert_array_equal(mask_a, half_a_by_definition(mask, acceleration, shift, offset))
    assert not np.any(mask_a & mask_b)
    np.testing.assert_array_equal(mask_a | mask_b, mask)
    np.testing.assert_array_equal(mask, before)
    # found from the mask alone, the lattice gives the same halves
    inferred = split_kz(mask, caipi_shift=shift)
    np.testing.assert_array_equal(inferred[0], mask_a)
    np.testing.assert_array_equal(inferred[1], mask_b)


@pytest.mark.parametrize("shape", [(13, 31), (12, 30)])
def test_the_papers_scan_splits_into_even_and_odd_partitions(shape: tuple[int, int]) -> None:
    mask = lattice_mask(shape, acceleration=(2, 1), acs=6)
    mask_a, mask_b = split_kz(mask)
    even = np.arange(shape[0])[:, None] % 2 == 0
    np.testing.assert_array_equal(mask_a, mask & even)
    np.testing.assert_array_equal(mask_b, mask & ~even)


@pytest.mark.parametrize("n", [5, 6, 7, 9])
@pytest.mark.parametrize("acceleration", [(1, 2), (2, 1), (2, 2)])
def test_small_masks_without_calibration_lines_are_not_taken_for_sparser_ones(
    n: int, acceleration: tuple[int, int]
) -> None:
    mask = lattice_mask((n, n), acceleration=acceleration, acs=None)
    for found, declared in zip(split_kz(mask), split_kz(mask, acceleration=acceleration), strict=True):
        np.testing.assert_array_equal(found, declared)


def test_halves_of_a_lattice_are_disjoint_and_make_it_up() -> None:
    for acceleration, shift, offset in LATTICES:
        lattice = Lattice(acceleration, shift, offset)
        half_a, half_b = lattice.halves()
        assert half_a.acceleration == half_b.acceleration == (acceleration[0], 2 * acceleration[1])
        assert half_a.caipi_shift == half_b.caipi_shift == shift
        points_a, points_b = half_a.points((13, 31)), half_b.points((13, 31))
        assert not np.any(points_a & points_b)
        np.testing.assert_array_equal(points_a | points_b, lattice.points((13, 31)))


@pytest.mark.parametrize("declared", [(3, 1), (1, 2), (1, 3), (2, 4), None])
def test_a_mask_without_gaps_is_split_as_a_full_one_whatever_is_declared(declared: tuple[int, int] | None) -> None:
    """Calibration lines may cover everything: a quarter of the partitions in one half, as of Rz = 2, would be wrong."""
    for rows, columns in ((slice(None), slice(None)), (slice(2, None), slice(None)), (slice(None), slice(1, 29))):
        mask = np.zeros((12, 30), bool)
        mask[rows, columns] = True
        half_a, half_b = split_kz(mask, acceleration=declared)
        even = np.arange(12)[:, None] % 2 == 0
        np.testing.assert_array_equal(half_a, mask & even)
        np.testing.assert_array_equal(half_b, mask & ~even)


def test_a_half_without_samples_is_an_error() -> None:
    with pytest.raises(SamplingError, match=r"half without samples.*at least two acquired partitions"):
        split_kz(lattice_mask((1, 30), acceleration=(2, 1), acs=6))
    one_partition = np.zeros((9, 30), bool)
    one_partition[4] = True
    with pytest.raises(SamplingError, match="half without samples"):
        split_kz(one_partition, acceleration=(1, 1))


@pytest.mark.parametrize(
    ("actual", "declared"),
    [
        ((3, 1), (2, 1)),
        ((2, 1), (3, 1)),
        ((4, 1), (2, 1)),
        ((4, 4), (2, 2)),
        ((4, 4), (4, 2)),
        ((4, 4), (2, 4)),
        ((4, 4), (1, 1)),
        ((2, 1), (1, 1)),
        ((2, 2), (2, 1)),
        ((2, 1), (2, 2)),
        ((1, 3), (1, 1)),
    ],
)
@pytest.mark.parametrize("acs", [None, 6, (8, 5)])
def test_an_acceleration_that_the_mask_contradicts_is_an_error(
    actual: tuple[int, int], declared: tuple[int, int], acs: int | tuple[int, int] | None
) -> None:
    mask = lattice_mask((16, 48), acceleration=actual, acs=acs)
    assert find_lattice(mask, actual).acceleration == actual
    with pytest.raises(SamplingError, match=rf"declared acceleration R = {declared[0]}×{declared[1]}.*correct the"):
        split_kz(mask, acceleration=declared)


def test_a_wrong_caipirinha_shift_is_an_error() -> None:
    mask = lattice_mask((16, 48), acceleration=(2, 2), caipi_shift=1, acs=6)
    with pytest.raises(SamplingError, match=r"declared acceleration R = 2×2"):
        find_lattice(mask, (2, 2))
    with pytest.raises(SamplingError, match=r"R = 2×3 .* with shift 1"):
        find_lattice(mask, (2, 3), 1)
    with pytest.raises(SamplingError, match="fits no regular lattice"):
        split_kz(mask)


def ellipse(shape: tuple[int, int]) -> np.ndarray:
    z, y = (np.linspace(-1, 1, n) for n in shape)
    return z[:, None] ** 2 + y**2 <= 1


def test_elliptical_and_partial_sampling_are_no_contradiction() -> None:
    shape = (33, 64)
    for acceleration, shift in (((2, 1), 0), ((2, 2), 1)):
        mask = lattice_mask(shape, acceleration=acceleration, caipi_shift=shift, acs=12)
        assert find_lattice(mask & ellipse(shape), acceleration, shift).offset == (0, 0)
        partial = lattice_mask(
            shape, acceleration=acceleration, caipi_shift=shift, acs=12, partial_fourier=(0.75, 0.8)
        )
        assert find_lattice(partial, acceleration, shift).offset == (0, 0)


def test_full_sampling_of_an_ellipse_contradicts_any_acceleration() -> None:
    with pytest.raises(SamplingError, match="samples off every lattice"):
        find_lattice(ellipse((33, 64)), (2, 1))


def test_a_few_lost_lines_are_tolerated_but_many_are_not() -> None:
    mask = lattice_mask((40, 64), acceleration=(2, 1), acs=None)
    mask[5, 10] = False
    assert find_lattice(mask, (2, 1)).acceleration == (2, 1)
    mask[5:25, 10] = False
    mask[5:25, 20] = False
    with pytest.raises(SamplingError, match="lacks 40 of the points"):
        find_lattice(mask, (2, 1))


def largest_rectangle_by_search(mask: np.ndarray) -> int:
    nz, ny = mask.shape
    return max(
        (z1 - z0) * (y1 - y0)
        for z0, z1, y0, y1 in product(
            range(nz // 2 + 1), range(nz // 2 + 1, nz + 1), range(ny // 2 + 1), range(ny // 2 + 1, ny + 1)
        )
        if mask[z0:z1, y0:y1].all()
    )


@pytest.mark.parametrize("shape", [(7, 9), (8, 6), (1, 9), (9, 1)])
def test_calibration_region_is_the_largest_full_rectangle_around_the_centre(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    for density in (0.6, 0.85, 0.95):
        for _ in range(10):
            mask = rng.random(shape) < density
            mask[shape[0] // 2, shape[1] // 2] = True
            rows, columns = acs_region(mask)
            assert rows.start <= shape[0] // 2 < rows.stop and columns.start <= shape[1] // 2 < columns.stop
            assert mask[rows, columns].all()
            assert mask[rows, columns].size == largest_rectangle_by_search(mask)


def test_calibration_region_needs_the_centre() -> None:
    mask = lattice_mask((12, 30), acceleration=(2, 1), offset=(0, 0), acs=None)
    assert not mask[6, 15]
    with pytest.raises(SamplingError, match=r"centre of k-space \(kz, ky\) = \(6, 15\) was not acquired"):
        acs_region(mask)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("partial_fourier", [(1.0, 1.0), (0.75, 1.0), (1.0, 0.6), (0.7, 0.8)])
@pytest.mark.parametrize("acs", [None, 0, 6, (5, 4), 99])
def test_mask_by_definition(
    shape: tuple[int, int], partial_fourier: tuple[float, float], acs: int | tuple[int, int] | None
) -> None:
    nz, ny = shape
    for acceleration, shift, offset in LATTICES:
        mask = lattice_mask(
            shape, acceleration=acceleration, caipi_shift=shift, offset=offset, acs=acs, partial_fourier=partial_fourier
        )
        if acs:
            wide_y, wide_z = (acs, nz if acceleration[1] == 1 else acs) if isinstance(acs, int) else acs
            wide_y, wide_z = min(wide_y, ny), min(wide_z, nz)
        else:
            wide_y = wide_z = 0
        for kz, ky in product(range(nz), range(ny)):
            acquired = ky >= round((1 - partial_fourier[0]) * ny) and kz >= round((1 - partial_fourier[1]) * nz)
            calibration = (
                0 <= ky - (ny // 2 - wide_y // 2) < wide_y and 0 <= kz - (nz // 2 - wide_z // 2) < wide_z
            )
            if isinstance(acs, int) and acceleration[1] == 1:  # all kz that were acquired, not all of the matrix
                calibration = calibration and kz >= round((1 - partial_fourier[1]) * nz)
            expected = acquired and on_lattice(kz, ky, acceleration, shift, offset)
            assert mask[kz, ky] == (expected or calibration)


def test_the_protocols_mask() -> None:
    """R = 2×1 and 24 calibration lines of 160: 80 lattice lines and the other 12 of the centre."""
    mask = lattice_mask((128, 160))
    assert mask.shape == (128, 160) and mask.dtype == np.bool_
    assert mask.all(axis=0).sum() == mask.any(axis=0).sum() == 80 + 12
    assert acs_region(mask) == (slice(0, 128), slice(68, 93))  # one lattice line joins on


@pytest.mark.parametrize("fractions", [(0.5, 1.0), (1.0, 1.2), (0.0, 1.0), (1.0, float("nan"))])
def test_partial_fourier_fractions_are_checked(fractions: tuple[float, float]) -> None:
    with pytest.raises(SamplingError, match=r"partial Fourier fractions lie in \(0.5, 1\]"):
        lattice_mask((12, 30), partial_fourier=fractions)


def test_what_is_no_mask_is_refused() -> None:
    with pytest.raises(SamplingError, match=r"\(kz, ky\) array of bool, got 2 axes of int64"):
        split_kz(np.ones((4, 5), np.int64))
    with pytest.raises(SamplingError, match="got 3 axes of bool"):
        acs_region(np.ones((4, 5, 6), bool))
    with pytest.raises(SamplingError, match="is empty: no sample was acquired"):
        find_lattice(np.zeros((4, 5), bool), (2, 1))
    with pytest.raises(SamplingError, match=r"at least 1 on both axes, got \(Ry, Rz\) = \(0, 1\)"):
        lattice_mask((4, 5), acceleration=(0, 1))


@pytest.mark.parametrize(("acceleration", "shift"), [((2, 1), 1), ((2, 2), 2), ((2, 3), -1)])
def test_a_shift_that_the_lattice_does_not_have_is_an_error(acceleration: tuple[int, int], shift: int) -> None:
    with pytest.raises(SamplingError, match=rf"shift lies between 0 and Rz - 1 for R = 2×{acceleration[1]}.*got"):
        lattice_mask((12, 30), acceleration=acceleration, caipi_shift=shift)


def test_the_shift_moves_aliases_apart() -> None:
    """The image of the lattice: its peaks are where aliases lie, from the object, in fractions of the field of view."""
    places = {}
    for shift in (0, 1):
        image = np.abs(np.fft.fft2(lattice_mask((12, 24), acceleration=(2, 2), caipi_shift=shift, acs=None)))
        places[shift] = {(z / 12, y / 24) for z, y in np.argwhere(image > 0.5 * image.max()).tolist()} - {(0.0, 0.0)}
    assert places[0] == {(0.5, 0.0), (0.0, 0.5), (0.5, 0.5)}
    assert places[1] == {(0.5, 0.25), (0.0, 0.5), (0.5, 0.75)}  # along z alone nothing aliases any more


@pytest.mark.parametrize("n", [31, 32, 64])
def test_sides_that_partial_fourier_left_out(n: int) -> None:
    """None of a complete lattice, wherever it begins; 7/8 of one that is not too sparse for its matrix."""
    for r in range(1, 9):
        for first in range(r):
            options: dict[str, Any] = {"acceleration": (r, r), "offset": (first, first), "acs": None}
            assert open_sides(lattice_mask((n, n), **options), (r, r)) == (0, 0)
            if 4 * r <= n // 4:
                for fractions, sides in (((7 / 8, 1.0), (-1, 0)), ((1.0, 7 / 8), (0, -1))):
                    mask = lattice_mask((n, n), **options, partial_fourier=fractions)
                    assert open_sides(mask, (r, r)) == sides
                    assert open_sides(mask[::-1, ::-1], (r, r)) == (-sides[0], -sides[1])
