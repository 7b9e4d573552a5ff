"""What every raw file comes down to: a table of readout lines, a header, and a way to read some lines' samples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ChoiceError, ScanError
from sn2nlib.scans.raw.layout_table import Layout

IMAGE, ACS, ACS_AND_IMAGE, NOISE, OTHER = range(5)  # the roles of a line; OTHER: navigators, phase correction, dummies

LINE = np.dtype([
    ("ky", "i4"), ("kz", "i4"), ("slice", "i4"), ("average", "i4"), ("repetition", "i4"), ("contrast", "i4"),
    ("set", "i4"), ("phase", "i4"), ("segment", "i4"),
    ("role", "u1"), ("reversed", "?"), ("even", "?"),  # even: equidistant samples, whatever the header says
    ("coils", "i4"), ("samples", "i4"),
    ("centre", "i4"),  # sample at which k = 0
    ("before", "i4"), ("after", "i4"),  # samples to be discarded at either end
    ("dwell_us", "f8"),  # 0: unknown
    ("position", "f8", 3), ("directions", "f8", (3, 3)),  # patient coordinates, rows readout, phase, slice
])  # fmt: skip

LineTable = np.ndarray  # (n,) of LINE
Sizes = tuple[int, int, int]
Lengths = tuple[float, float, float]


@dataclass(frozen=True)
class RawHeader:
    """What a raw file's header says; nothing about the patient.

    Attributes
    ----------
    kind
        Name of the format.
    matrix
        (z, y, x) of the encoded k-space, readout oversampling included; 0 where the header does not tell.
    fov
        (z, y, x) in mm of the encoded k-space; 0 where unknown.
    oversampling, oversampling_source
        Readout oversampling factor, and the header value it comes from.
    reconstructed
        Samples of the readout that are meant to be left without oversampling; 0 where the header does not tell.
    centre
        (kz, ky) numbers of the central partition and line; None where unknown.
    acceleration
        (Ry, Rz) as declared; None where the header does not tell.
    calibration
        embedded, separate, or None where the header does not tell.
    bandwidth_ratio
        Noise bandwidth of the receiver relative to the bandwidth of a readout.
    field_strength
        Tesla; 0: unknown.
    forward_transform
        Whether the directions of the header are those of the image that a forward Fourier transform makes (Siemens),
        so that the voxels of the inverse one, which is taken here, follow each other against them.
    geometry_unknown
        Why position, directions and voxel size cannot be trusted; None: they can.
    place_unknown
        Why position and directions cannot be trusted, though the voxel size can; None: they can.
    ramp_sampling
        If samples are not equidistant along the readout: name → number that describes its gradient, as far as the
        header has them (see `ramp.read_trapezoid`); None: they are.
    trajectory
        cartesian, or what else it is.
    record
        What this package wrote into an exported file besides the lines, as text.
    variant, parameters
        Entry of ``layouts.yaml`` for files that differ from the rule, and the user parameters it refers to.
    noise_sd : (coil,)
        Noise SD of the channels, where such a file has them.
    notes
        Peculiarities, a sentence each.
    doubts
        Contradictions and what was assumed where the header is silent, a sentence each.
    """

    kind: str
    matrix: Sizes = (0, 0, 0)
    fov: Lengths = (0.0, 0.0, 0.0)
    oversampling: float = 1.0
    oversampling_source: str = "none declared"
    reconstructed: int = 0
    centre: tuple[int | None, int | None] = (None, None)
    acceleration: tuple[int, int] | None = None
    calibration: str | None = None
    bandwidth_ratio: float = 1.0
    field_strength: float = 0.0
    forward_transform: bool = False
    geometry_unknown: str | None = None
    place_unknown: str | None = None
    ramp_sampling: Mapping[str, float] | None = None
    trajectory: str = "cartesian"
    record: str | None = None
    variant: Layout | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    noise_sd: NDArray[np.floating] | None = None
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class RawSource:
    """An opened raw file.

    Attributes
    ----------
    header
    lines
        All lines of the measurement.
    read
        read(numbers of lines of equal size) → samples (line, coil, sample) complex64.
    file_bytes
        Size of the file: nothing much larger is ever allocated for it.
    noise
        (lines, read) of noise readouts that another measurement of the same file holds.
    """

    header: RawHeader
    lines: LineTable
    read: Callable[[NDArray[np.int64]], NDArray[np.complex64]]
    file_bytes: int
    noise: tuple[LineTable, Callable[[NDArray[np.int64]], NDArray[np.complex64]]] | None = None


def of_equal_size(lines: LineTable, what: str) -> tuple[int, int]:
    """(coils, samples) of lines that must agree in them.

    Raises
    ------
    ScanError
        If they do not, or are empty.
    """
    sizes, counts = np.unique(lines[["coils", "samples"]], return_counts=True)
    if len(sizes) != 1:
        told = ", ".join(f"{n} of {size['coils']} coils × {size['samples']} samples" for size, n in
                         zip(sizes[:4], counts[:4], strict=True))  # fmt: skip
        raise ScanError(f"the {what} lines differ in size ({told}): the file is damaged, or no scan of one matrix")
    coils, samples = int(sizes["coils"][0]), int(sizes["samples"][0])
    if coils < 1 or samples < 1:
        raise ScanError(f"the {what} lines hold {coils} coils × {samples} samples: the file is damaged")
    return coils, samples


def chosen(lines: LineTable, axis: str, wanted: int | None, what: str) -> tuple[NDArray[np.bool_], list[int]]:
    """Lines whose counter `axis` is `wanted` (None: the lowest there is), and all values that occur.

    Raises
    ------
    ChoiceError
        If there is no such value.
    """
    values = [int(v) for v in np.unique(lines[axis])]
    value = values[0] if wanted is None else wanted
    if value not in values:
        raise ChoiceError(f"there is no {what} {value}; the file holds {listed(values)}")
    return lines[axis] == value, values


def two_roles(both: NDArray[np.bool_]) -> list[str]:
    """What is in doubt if the flags of some lines call them noise and something else besides."""
    n = int(np.count_nonzero(both))
    return [f"{n} lines are flagged as noise and as something else: taken for noise"] if n else []


def listed(values: list[int]) -> str:
    """A few numbers in words."""
    return ", ".join(map(str, values[:8])) + (f", … {values[-1]}" if len(values) > 8 else "")
