"""Geometry of the GRAPPA cells."""

import numpy as np
import pytest

from sn2nlib.errors import SamplingError
from sn2nlib.recon.cells import acquired_lattice, source_offsets, support, target_offsets
from sn2nlib.sampling import Lattice, lattice_mask, split_kz


def test_paper_kernel_on_two_by_one_has_twelve_sources_at_the_protocols_places() -> None:
    offsets = {tuple(o) for o in source_offsets((3, 2, 2), (2, 1)).tolist()}
    assert offsets == {(dz, dy, dx) for dz in (0, 1) for dy in (0, 2) for dx in (-1, 0, 1)}
    assert target_offsets((2, 1)).tolist() == [[0, 1, 0]]


def test_two_by_two_has_three_targets_and_four_neighbours_are_centred() -> None:
    assert sorted(target_offsets((2, 2)).tolist()) == [[0, 1, 0], [1, 0, 0], [1, 1, 0]]
    assert sorted({o[1] for o in source_offsets((1, 4, 1), (3, 1)).tolist()}) == [-3, 0, 3, 6]


@pytest.mark.parametrize("acceleration, shift", [((2, 2), 1), ((3, 3), 1), ((2, 4), 2), ((3, 4), 3)])
def test_every_source_of_a_caipirinha_cell_is_on_the_lattice(acceleration: tuple[int, int], shift: int) -> None:
    points = Lattice(acceleration, shift, (1, 1)).points((60, 60))
    sources = source_offsets((1, 4, 3), acceleration, shift)
    for kz, ky in np.argwhere(points[20:40, 20:40]) + 20:
        assert points[kz + sources[:, 0], ky + sources[:, 1]].all()


@pytest.mark.parametrize("acceleration, shift", [((2, 2), 1), ((3, 3), 1), ((3, 3), 2), ((2, 4), 2), ((3, 4), 3)])
def test_cells_tile_the_plane_and_lie_between_their_neighbours(acceleration: tuple[int, int], shift: int) -> None:
    (ry, rz), targets = acceleration, target_offsets(acceleration, shift)
    cell = np.concatenate([[[0, 0]], targets[:, :2]])
    points = Lattice(acceleration, shift, (1, 1)).points((60, 60))
    counts = np.zeros((60, 60), int)
    for position in np.argwhere(points):
        kz, ky = (position + cell).T
        inside = (kz < 60) & (ky < 60)
        np.add.at(counts, (kz[inside], ky[inside]), 1)
    assert (counts[2 * rz : -2 * rz, 2 * ry : -2 * ry] == 1).all()
    # the sources at 0 and one step along ky and kz are the corners of a parallelogram
    along = targets[:, 0] - shift * targets[:, 1] / ry
    assert (along >= 0).all() and (along < rz).all()


@pytest.mark.parametrize("shape", [(9, 11), (8, 12), (1, 7)])
@pytest.mark.parametrize("acceleration, shift", [((2, 1), 0), ((2, 2), 0), ((2, 2), 1), ((2, 4), 1), ((1, 4), 0)])
def test_a_full_lattice_supports_the_whole_matrix_at_any_offset(
    shape: tuple[int, int], acceleration: tuple[int, int], shift: int
) -> None:
    rz_of_shape = min(acceleration[1], shape[0])  # a single partition cannot be undersampled along kz
    acceleration, shift = (acceleration[0], rz_of_shape), shift % rz_of_shape
    for y0 in range(acceleration[0]):
        for z0 in range(acceleration[1]):
            lattice = Lattice(acceleration, shift, (y0, z0))
            mask = lattice.points(shape)
            assert support(mask, lattice).all()
            assert np.array_equal(mask, lattice.points(shape))


def test_support_leaves_out_partial_fourier_and_the_corners_of_an_ellipse() -> None:
    lattice = Lattice((2, 2))
    partial = lattice_mask((24, 32), acceleration=(2, 2), acs=8, partial_fourier=(0.75, 1.0))
    assert np.array_equal(support(partial, lattice), np.broadcast_to(np.arange(32) >= 8, (24, 32)))
    kz, ky = np.ogrid[-1:1:24j, -1:1:32j]
    ellipse = kz**2 + ky**2 < 0.8
    enclosed = support(lattice.points((24, 32)) & ellipse, lattice)
    assert not enclosed[~ellipse].any()
    assert enclosed[ellipse].mean() > 0.8


def test_lattice_of_a_half_is_found_though_its_calibration_lines_are_undersampled() -> None:
    mask = lattice_mask((20, 24), acceleration=(2, 1), acs=12)
    half_a, half_b = split_kz(mask, acceleration=(2, 1))
    assert acquired_lattice(half_a, (2, 2)).offset == (0, 0)
    assert acquired_lattice(half_b, (2, 2)).offset == (0, 1)
    caipi = lattice_mask((20, 24), acceleration=(2, 2), caipi_shift=1, acs=8)
    assert acquired_lattice(split_kz(caipi, acceleration=(2, 2), caipi_shift=1)[1], (2, 4), 1).offset == (
        0,
        2,
    )


@pytest.mark.parametrize(("acceleration", "offset", "left_out"), [((2, 1), 0, 1), ((2, 1), 1, 254), ((4, 1), 0, 1)])
def test_calibration_lines_that_cover_nearly_everything_leave_the_lattice_known(
    acceleration: tuple[int, int], offset: int, left_out: int
) -> None:
    """Of 256 lines one is missing, so that another offset has more than 98 % of the lattice's samples."""
    ry = acceleration[0]
    mask = np.ones((4, 256), bool)
    mask[:, left_out] = False
    assert acquired_lattice(mask, acceleration) == Lattice(acceleration, 0, (offset, 0))
    if ry == 2:
        for number, half in enumerate(split_kz(mask, acceleration=acceleration)):
            assert acquired_lattice(half, (ry, 2)).offset == (offset, number)
    mask[:, left_out] = True
    with pytest.raises(SamplingError, match="1×1 if nothing was left out"):
        acquired_lattice(mask, acceleration)


def test_a_mask_of_another_acceleration_is_refused() -> None:
    with pytest.raises(SamplingError, match="does not show which lattice"):
        acquired_lattice(lattice_mask((20, 24), acceleration=(2, 1), acs=4), (2, 2))
    with pytest.raises(SamplingError, match="lacks"):
        acquired_lattice(lattice_mask((20, 24), acceleration=(4, 1), acs=4), (2, 1))
