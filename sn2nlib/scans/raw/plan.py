"""What becomes of the lines of a raw file, decided from their table and the header, before any sample is read."""

import os
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ChoiceError, SamplingError, ScanError
from sn2nlib.sampling import acs_region
from sn2nlib.scans.proportion import believable
from sn2nlib.scans.raw.geometry import (
    GIVEN_SIDES,
    UNVERIFIED_SIDES,
    are_directions,
    header_affine,
    unknown_affine,
    voxel_directions,
)
from sn2nlib.scans.raw.given import Geometry, geometry_doubts, settle_geometry
from sn2nlib.scans.raw.in_words import calibration_told, placements_told, repetitions_told
from sn2nlib.scans.raw.lines import (
    ACS,
    ACS_AND_IMAGE,
    IMAGE,
    OTHER,
    Lengths,
    LineTable,
    RawHeader,
    RawSource,
    Sizes,
    chosen,
    listed,
)
from sn2nlib.scans.raw.noise_scan import find_noise_scan
from sn2nlib.scans.raw.placement import (
    Axis,
    Readout,
    check_discarded,
    find_acceleration,
    place_axis,
    place_calibration,
    place_readout,
)
from sn2nlib.scans.raw.ramp import WHY
from sn2nlib.scans.scan import ONE_PARTITION

Rows = NDArray[np.int64]
_SAME_PLACE, _SAME_DIRECTION = 0.1, 1e-3  # mm, and of direction cosines, by which lines of one scan differ at most


@dataclass(frozen=True)
class RawOptions:
    """What to take from a raw file, and which corrections to make; see `read_raw`."""

    contrast: int | None = None
    repetition: int | None = None
    repeat: int | None = None
    average: int | None = None
    slice_number: int | None = None
    set_number: int | None = None
    phase: int | None = None
    remove_oversampling: bool = True
    noise_scan: bool = True
    regrid: bool = True
    voxel_size: Lengths | None = None
    affine: NDArray[np.float64] | None = None
    affine_from: str | os.PathLike[str] | None = None


@dataclass(frozen=True)
class Plan:
    """The scan to be, without its samples.

    Attributes
    ----------
    rows, repeat_rows, acs_rows
        Numbers of the lines that make k-space, second repetition and separate calibration; the last two may be empty.
    noise_from
        "this measurement", "another measurement", or None.
    noise_factor
        Noise samples times this have the noise of a sample of k-space.
    averages
        Lines per position of k-space, and of the second repetition: their mean is taken.
    readout, ky, kz
        Placement of the samples and of the lines.
    dwell_us
        From one sample of a line of the scan to the next, oversampling removed; 0: unknown, or not the same for all
        (regridded).
    mask : (kz, ky) bool
    acs_box, acs_readout
        Slices (kz, ky) of the separate calibration in the matrix, placement of its samples; None: there is none.
    voxel_size, affine, geometry
        As of the scan; whose they are, "unknown" among it.
    not_for_training
        Why the halves of the scan cannot be trained on; None: they can.
    counts
        Counter → values that occur in the file.
    does, notes, doubts
        What will be done; choices and peculiarities; contradictions and what was assumed. A sentence each.
    """

    rows: Rows
    repeat_rows: Rows
    acs_rows: Rows
    noise_from: str | None
    noise_factor: float
    averages: int
    readout: Readout
    dwell_us: float
    ky: Axis
    kz: Axis
    mask: NDArray[np.bool_]
    acceleration: tuple[int, int]
    caipi_shift: int
    acs_box: tuple[slice, slice] | None
    acs_readout: Readout | None
    voxel_size: Lengths
    affine: NDArray[np.float64]
    geometry: str
    not_for_training: str | None
    counts: dict[str, list[int]]
    does: tuple[str, ...]
    notes: tuple[str, ...]
    doubts: tuple[str, ...]

    @property
    def shape(self) -> Sizes:
        """(kz, ky, kx)."""
        return self.kz.n, self.ky.n, self.readout.n

    @property
    def acs_size(self) -> tuple[int, ...] | None:
        """Lines (kz, ky) of the separate calibration."""
        return _size(self.acs_box)


def _size(box: tuple[slice, slice] | None) -> tuple[int, ...] | None:
    return None if box is None else tuple(part.stop - part.start for part in box)


def make_plan(source: RawSource, options: RawOptions) -> Plan:
    """Decide what becomes of the lines.

    1. Lines of one slice, contrast, set and phase; of them those of the chosen repetition.
    2. Calibration lines join the image lines if no image line lies at their places, whatever the header calls them.
       They are a scan of their own otherwise, and where their coils, samples or repetition differ, or this package
       exported them as such.
    3. Matrix, centre and readout (`placement`); mask; acceleration from the mask.
    4. Noise readouts of the same number of coils, else of another measurement of the file.
    5. Voxel size and affine.

    Raises
    ------
    ChoiceError
        If an option asks for what is not there.
    ScanError
        If the file holds no such lines, contradicts itself beyond repair, or was not sampled on a Cartesian grid.
    """
    header, lines = source.header, source.lines
    _refuse_other_sampling(header, options)
    notes, doubts = [*header.notes], [*header.doubts]
    wanted, counts, told = _selected(lines, options)
    notes += told
    rows, repeat_rows, acs_rows, told = _by_role(lines, wanted, counts["repetition"], header, options)
    doubts += told
    notes += repetitions_told(counts["repetition"], lines[rows], options.repeat)
    readout = place_readout(lines[rows], header, remove_oversampling=options.remove_oversampling)
    notes += readout.oversampling.notes
    placed = lines[np.concatenate([rows, repeat_rows, acs_rows])]
    discarded = check_discarded(placed)
    kz = place_axis(placed["kz"], declared=header.matrix[0], centre=header.centre[0], name="kz")
    ky = place_axis(placed["ky"], declared=header.matrix[1], centre=header.centre[1], name="ky")
    doubts += [*readout.doubts, *ky.doubts, *kz.doubts]
    if readout.regridding is not None and len(np.unique(lines["reversed"][rows])) > 1:
        notes.append("lines read forwards and backwards differ in phase; this is not corrected: a ghost may remain")
    _check_size(source, (readout.coils, kz.n, ky.n, max(readout.n, readout.full)))
    rows, averages, told = _averaged(lines, rows, options)
    notes += told
    repeat_rows, again, told_again = _averaged(lines, repeat_rows, options)
    notes += [f"of the second repetition, {note}" for note in told_again if note not in told]
    mask = _mask(lines[rows], ky, kz)
    if repeat_rows.size:
        _check_repetition(mask, _mask(lines[repeat_rows], ky, kz), averages, again)
    acceleration, caipi_shift, disagreement = find_acceleration(mask, header.acceleration)
    doubts += disagreement
    acs_box, acs_rows, told = _acs_box(lines, acs_rows, ky, kz)
    doubts += told
    exported = header.record is not None
    acs_readout, told = place_calibration(lines[acs_rows], lines[rows], readout, exported=exported)
    doubts += told
    if acs_readout is None:
        acs_box, acs_rows = None, acs_rows[:0]
    noise = find_noise_scan(source, lines[rows], readout, averages=averages, wanted=options.noise_scan)
    notes += noise.notes
    doubts += noise.doubts
    geometry, told, doubted = _geometry(header, lines[rows], readout, (kz.n, ky.n, readout.n), options)
    notes += told
    doubts += doubted
    voxel_size = geometry.voxel_size or (1.0, 1.0, 1.0)
    does = [*placements_told(readout, ky, kz, lines[rows], acceleration), *([discarded] if discarded else [])]
    does += [*noise.does, *calibration_told(_size(acs_box))]
    return Plan(
        rows=rows, repeat_rows=repeat_rows, acs_rows=acs_rows, noise_from=noise.where, noise_factor=noise.factor,
        averages=averages, readout=readout, dwell_us=_dwell(lines[rows], readout), ky=ky, kz=kz, mask=mask,
        acceleration=acceleration, caipi_shift=caipi_shift, acs_box=acs_box, acs_readout=acs_readout,
        voxel_size=voxel_size, geometry=geometry.source,
        affine=unknown_affine(voxel_size, (kz.n, ky.n, readout.n)) if geometry.affine is None else geometry.affine,
        not_for_training=ONE_PARTITION if kz.n == 1 else None, counts=counts, does=tuple(does), notes=tuple(notes),
        doubts=tuple(doubts),
    )  # fmt: skip


def _check_repetition(
    mask: NDArray[np.bool_], repeat_mask: NDArray[np.bool_], averages: int, repeat_averages: int
) -> None:
    """Refuse a second repetition that is no pair of the first."""
    if not np.array_equal(repeat_mask, mask):
        raise ScanError("the two repetitions did not acquire the same lines, so that they cannot make a pair")
    if repeat_averages != averages:
        raise ScanError(
            f"one repetition has {averages} averages to take the mean of, the other {repeat_averages}, so that their "
            "noise differs and they cannot make a pair; choose one average of both with --average"
        )


def _refuse_other_sampling(header: RawHeader, options: RawOptions) -> None:
    if header.trajectory != "cartesian":
        raise ScanError(
            f"a {header.trajectory} acquisition, whose samples lie on no grid; this package reconstructs Cartesian "
            "scans only: reconstruct it elsewhere and denoise the image"
        )
    if header.ramp_sampling is not None and not options.regrid:
        raise ScanError(f"{WHY}; regridding was left aside, as asked: regrid the lines first")


def _selected(lines: LineTable, options: RawOptions) -> tuple[NDArray[np.bool_], dict[str, list[int]], list[str]]:
    """Image and calibration lines of one slice, contrast, set and phase; what occurs; what is left out."""
    wanted = np.isin(lines["role"], (IMAGE, ACS, ACS_AND_IMAGE))
    if not np.isin(lines["role"], (IMAGE, ACS_AND_IMAGE)).any():
        raise ScanError(f"none of the {len(lines)} lines of this measurement belongs to an image; choose another one")
    counts, notes = {}, []
    asked = {
        "slice": options.slice_number, "contrast": options.contrast, "set": options.set_number, "phase": options.phase
    }  # fmt: skip
    for axis, value in asked.items():
        keep, values = chosen(lines[wanted], axis, value, axis)
        counts[axis] = values
        if len(values) > 1:
            taken = values[0] if value is None else value
            notes.append(f"the file holds {len(values)} {axis}s ({listed(values)}); {axis} {taken} is read")
        wanted[np.flatnonzero(wanted)[~keep]] = False
    image = wanted & (lines["role"] != ACS)
    if not image.any():
        raise ScanError("there are calibration lines, but no image lines, of this slice and contrast")
    for axis in ("repetition", "average"):
        counts[axis] = [int(v) for v in np.unique(lines[axis][image])]
    others = int(np.count_nonzero(lines["role"] == OTHER))
    if others:
        notes.append(f"{others} lines are navigators, phase correction or dummies: left out")
    return wanted, counts, notes


def _by_role(
    lines: LineTable, wanted: NDArray[np.bool_], repetitions: list[int], header: RawHeader, options: RawOptions
) -> tuple[Rows, Rows, Rows, list[str]]:
    first = repetitions[0] if options.repetition is None else options.repetition
    for repetition in (first, options.repeat):
        if repetition is not None and repetition not in repetitions:
            raise ChoiceError(f"there is no repetition {repetition}; the file holds {listed(repetitions)}")
    if options.repeat == first:
        raise ChoiceError(f"repetition {first} was asked for twice; a pair needs two different ones")
    doubts = []
    image, calibration = wanted & (lines["role"] != ACS), wanted & (lines["role"] == ACS)
    firsts, own = (these & (lines["repetition"] == first) for these in (image, calibration))
    if not own.any() and calibration.any():
        own = calibration & (lines["repetition"] == lines["repetition"][calibration].min())
        embedded = False
    else:
        embedded = header.calibration != "separate" and _alike(lines[firsts | own])
    places = {(int(z), int(y)) for z, y in lines[["kz", "ky"]][firsts]}
    overlap = sum((int(z), int(y)) in places for z, y in lines[["kz", "ky"]][own])
    fits = own.any() and not overlap and _alike(lines[firsts | own])
    if fits and not embedded and header.record is None and lines["repetition"][own].min() == first:
        embedded = True  # a scan of its own would hold lines of the lattice too, unless this package wrote it
        doubts.append("the header calls the calibration separate, yet its lines lie between those of the image, none "
                      "was acquired twice: it is taken as part of the image")  # fmt: skip
    elif own.any() and embedded and overlap:
        embedded = False
        if header.calibration == "embedded":
            doubts.append(f"the header calls the calibration embedded, yet {overlap} of its lines were acquired twice: "
                         "it is taken as a separate scan")  # fmt: skip
    kspace = image | calibration if embedded else image
    rows = np.flatnonzero(kspace & (lines["repetition"] == first))
    if not rows.size:
        raise ScanError(f"repetition {first} has no image lines")
    repeat = options.repeat
    repeat_rows = np.flatnonzero(kspace & (lines["repetition"] == repeat)) if repeat is not None else np.empty(0, int)
    return rows, repeat_rows, np.flatnonzero(own) if not embedded else np.empty(0, int), doubts


def _alike(lines: LineTable) -> bool:
    """Whether they hold as many coils and samples."""
    return len(np.unique(lines[["coils", "samples"]])) == 1


def _averaged(lines: LineTable, rows: Rows, options: RawOptions) -> tuple[Rows, int, list[str]]:
    """Rows of the chosen average, or of all if every position has as many of them."""
    if not rows.size:
        return rows, 1, []
    notes = []
    averages = [int(v) for v in np.unique(lines["average"][rows])]
    average = options.average
    if average is not None and average not in averages:
        raise ChoiceError(f"there is no average {average}; the file holds {listed(averages)}")
    if average is None and len(averages) > 1:
        _, per_place = np.unique(lines[["kz", "ky"]][rows], return_counts=True)
        if (per_place == len(averages)).all():
            notes.append(f"the mean of {len(averages)} averages is taken")
        else:
            average = averages[0]
            notes.append(f"the averages hold different lines, so that their mean would have uneven noise; "
                         f"average {average} is read")  # fmt: skip
    if average is not None:
        rows = rows[lines["average"][rows] == average]
    places, per_place = np.unique(lines[["kz", "ky", "average"]][rows], return_counts=True)
    if per_place.max() > 1:
        twice = places[per_place.argmax()]
        raise ScanError(
            f"line kz {twice['kz']}, ky {twice['ky']} was acquired {per_place.max()} times under the same numbers: "
            "the sequence does not number its lines, or the file is damaged"
        )
    return rows, len(averages) if average is None else 1, notes


def _mask(lines: LineTable, ky: Axis, kz: Axis) -> NDArray[np.bool_]:
    mask = np.zeros((kz.n, ky.n), dtype=bool)
    mask[kz.index(lines["kz"]), ky.index(lines["ky"])] = True
    return mask


def _check_size(source: RawSource, shape: tuple[int, ...]) -> None:
    if not believable(8 * prod(shape), source.file_bytes):
        raise ScanError(
            f"a file of {source.file_bytes / 2**20:.1f} MiB cannot fill a k-space of {' × '.join(map(str, shape))} "
            "(coil, kz, ky, kx): its line numbers or its header are damaged"
        )


def _acs_box(
    lines: LineTable, rows: Rows, ky: Axis, kz: Axis
) -> tuple[tuple[slice, slice] | None, Rows, list[str]]:
    """The fully sampled box of a separate calibration, and the lines within."""
    nothing = np.empty(0, int)
    if not rows.size:
        return None, nothing, []
    _, first = np.unique(lines[["kz", "ky"]][rows], return_index=True)  # one average of them will do
    rows = rows[np.sort(first)]
    try:
        box = acs_region(_mask(lines[rows], ky, kz))
    except SamplingError:
        return None, nothing, ["the separate calibration does not hold the centre of k-space: it is not used"]
    z, y = kz.index(lines["kz"][rows]), ky.index(lines["ky"][rows])
    inside = (z >= box[0].start) & (z < box[0].stop) & (y >= box[1].start) & (y < box[1].stop)
    outside, doubts = int(np.count_nonzero(~inside)), []
    if outside:
        doubts.append(f"{outside} of {len(rows)} calibration lines lie outside the largest fully sampled box, "
                      f"(kz, ky) = {_size(box)}: they are not used")  # fmt: skip
    return box, rows[inside], doubts


def _dwell(lines: LineTable, readout: Readout) -> float:
    """`dwell_us` of the plan."""
    own = float(np.median(lines["dwell_us"]))
    return own * readout.full / readout.n if 0 < own < np.inf and readout.regridding is None else 0.0


def _geometry(
    header: RawHeader, lines: LineTable, readout: Readout, shape: Sizes, options: RawOptions
) -> tuple[Geometry, list[str], list[str]]:
    """Geometry of the scan, what is to be known about it, and what is in doubt."""
    unknown, known, line, doubts = header.geometry_unknown, Geometry(None, None, "unknown"), lines[0], []
    notes = []
    if unknown is None and not (all(0 < length < 1e4 for length in header.fov)):
        unknown = "the header has no field of view"
    z, y, x = *header.fov[:2], readout.oversampling.fov
    if unknown is None:
        voxel_size = (z / shape[0], y / shape[1], x / readout.full)
        known = Geometry(voxel_size, None, "position and orientation unknown")
        if header.place_unknown is not None:
            unknown = header.place_unknown
        elif are_directions(line["directions"]) and (np.abs(line["position"]) < 1e4).all():
            directions = voxel_directions(
                line["directions"], forward_transform=header.forward_transform, shape=shape
            )
            affine = header_affine(directions, line["position"], voxel_size=voxel_size, shape=shape)
            known = Geometry(voxel_size, affine, "from the header")
            moved, turned = (np.abs(lines[name] - line[name]).max() for name in ("position", "directions"))
            if not (moved <= _SAME_PLACE and turned <= _SAME_DIRECTION):
                doubts = [f"the lines disagree about where they lie (by up to {moved:.3g} mm along an axis, and "
                          f"{turned:.2g} in a direction cosine): the first one is believed"]  # fmt: skip
        else:
            unknown = "the lines hold no valid position and directions"
    settled = settle_geometry(
        known, shape=shape, voxel_size=options.voxel_size, affine=options.affine, affine_from=options.affine_from
    )
    declared = (z, y, x * shape[2] / readout.full)
    doubts += geometry_doubts(settled, unknown, shape=shape, declared=declared)
    if header.forward_transform and settled.source.startswith("from the header"):
        notes.append("voxels follow each other against the directions that Siemens writes down: seen from back to "
                     "front, along the lines of two phantoms of one slice; the other axes follow the same rule")
        doubts += [UNVERIFIED_SIDES] if shape[0] > 1 else []
    if options.affine_from is not None:
        doubts.append(GIVEN_SIDES)
    return settled, notes, doubts
