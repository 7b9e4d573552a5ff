"""ISMRMRD headers in files of public layouts, read leniently, since not all are valid: field of view and readout."""

import math
from dataclasses import dataclass
from xml.etree import ElementTree

from sn2nlib.errors import ScanError
from sn2nlib.scans.raw.lines import Lengths
from sn2nlib.scans.raw.oversampling import declared_oversampling, removal_told


@dataclass(frozen=True)
class Encoding:
    """What the header says.

    Attributes
    ----------
    voxel_size
        (z, y, x) in mm of the encoded space.
    fov, matrix
        Along the readout, as encoded and as reconstructed, in mm and samples; 0 where the header does not tell.
    has_recon
        Whether it names a reconstructed space at all.
    """

    voxel_size: Lengths
    fov: tuple[float, float]
    matrix: tuple[int, int]
    has_recon: bool


@dataclass(frozen=True)
class LayoutReadout:
    """The readout of k-space: samples as stored and as kept, oversampling, and where its value comes from."""

    full: int
    n: int
    oversampling: float
    source: str
    doubts: tuple[str, ...] = ()

    @property
    def told(self) -> tuple[str, ...]:
        """What is done to it, a sentence at most."""
        removed = removal_told(self.oversampling, self.source, self.full, self.n)
        return (removed,) if self.n < self.full else ()


def read_encoding(header: bytes | str) -> Encoding:
    """The first encoding of an ISMRMRD header.

    Raises
    ------
    ScanError
        If it has no field of view and matrix of the encoded space.
    """
    if b"<!DOCTYPE" in (header if isinstance(header, bytes) else header.encode()):  # entities can grow without bound
        raise ScanError("ismrmrd_header: holds a document type declaration, which no ISMRMRD header has")
    try:
        encoding = ElementTree.fromstring(header).find("{*}encoding")
        fov, matrix = (_triple(encoding, "encodedSpace", what) for what in ("fieldOfView_mm", "matrixSize"))
        z, y, x = (length / n for length, n in zip(fov, matrix, strict=True))
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError, ZeroDivisionError):
        raise ScanError("ismrmrd_header: names no field of view and matrix of the encoded space") from None
    recon = encoding.find("{*}reconSpace")  # type: ignore[union-attr]
    return Encoding(
        (z, y, x),
        (_usable(fov[2]), _usable(_along_readout(encoding, "fieldOfView_mm"))),
        (round(_usable(matrix[2])), round(_usable(_along_readout(encoding, "matrixSize")))),
        recon is not None,
    )


def place_layout_readout(encoding: Encoding | None, full: int, *, remove_oversampling: bool) -> LayoutReadout:
    """What is kept of a readout of `full` samples.

    Nothing is removed where there is no header, nor of a k-space that has the reconstructed number of samples already,
    or another one than the header declares.
    """
    if encoding is None or not encoding.has_recon:
        return LayoutReadout(full, full, 1.0, "none declared" if encoding is None else "the header has no reconSpace")
    encoded, reconstructed = encoding.matrix
    factor, doubts = declared_oversampling(encoding.fov, encoding.matrix)
    if factor != 1 and full != encoded:
        if full != reconstructed:
            doubts.append(f"the header declares {encoded} samples per line, the k-space holds {full}: the header's "
                          f"oversampling of {factor:g} is ignored")  # fmt: skip
        return LayoutReadout(full, full, 1.0, "removed before" if full == reconstructed else "ignored", tuple(doubts))
    if not 1 <= factor <= full:
        doubts.append(f"the header declares a readout oversampling of {factor:g}: ignored")
        factor = 1.0
    n = round(full / factor) if remove_oversampling else full
    return LayoutReadout(full, n, factor, "encodedSpace and reconSpace", tuple(doubts))


def _triple(encoding: ElementTree.Element | None, space: str, what: str) -> Lengths:
    """(z, y, x) of a space."""
    z, y, x = (float(encoding.findtext(f"{{*}}{space}/{{*}}{what}/{{*}}{axis}")) for axis in "zyx")  # type: ignore[union-attr, arg-type]
    return z, y, x


def _along_readout(encoding: ElementTree.Element | None, what: str) -> float:
    """Of the reconstructed space; 0 where there is no number."""
    try:
        return _triple(encoding, "reconSpace", what)[2]
    except (AttributeError, TypeError, ValueError):
        return 0.0


def _usable(value: float) -> float:
    """A number of a header in (0, 10000), else 0."""
    return value if math.isfinite(value) and 0 < value < 1e4 else 0.0
