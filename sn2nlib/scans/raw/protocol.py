"""The protocol in a twix header, parsed by pymapvbvd → `RawHeader`. Values that contradict each other are named."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sn2nlib.errors import ScanError
from sn2nlib.scans.raw.lines import IMAGE, Lengths, LineTable, RawHeader, Sizes

_NEEDED = ("Meas", "MeasYaps", "Config", "Dicom")
_MOST_BUFFERS = 32
# noise bandwidth of the receivers relative to the readout's, the same on all systems: as siemens_to_ismrmrd has it; no
# twix file with a noise scan was at hand to confirm it
_BANDWIDTH_RATIO = 0.793
_INPLACE = 2.0  # sPat.ucRefScanMode: the calibration lines belong to the scan itself
_TRAJECTORIES = {1: "cartesian", 2: "radial", 4: "spiral", 8: "PROPELLER (BLADE)"}  # sKSpace.ucTrajectory
_REGRIDDING = 2  # Meas.alRegridMode: 1 none, 2 trapezoidal, 4 sinusoidal ramps
_RAMPS = {
    "regridding mode": "alRegridMode", "ramp-up time": "alRegridRampupTime", "flat-top time": "alRegridFlattopTime",
    "ramp-down time": "alRegridRampdownTime", "delay of the first sample": "alRegridDelaySamplesTime",
    "duration of the readout": "aflRegridADCDuration", "number of samples after regridding": "alRegridDestSamples",
}  # name of `ramp.read_trapezoid` → Meas

Protocol = Mapping[str, Any]


def read_protocol(path: Path, start: int, end: int) -> dict[str, Any]:
    """The parsed buffers Meas, MeasYaps, Config and Dicom (empty where absent), `bytes` of the header, `dwell_us`.

    Parameters
    ----------
    path
    start, end
        First byte of the measurement, and the one after its last.

    Raises
    ------
    ScanError
        If a buffer reaches beyond the header, or the header beyond the file.
    """
    with path.open("rb") as file:
        file.seek(start)
        size = int.from_bytes(file.read(4), "little")
        if not 16 <= size <= end - start:
            raise ScanError(f"the header declares {size} bytes, {end - start} are there: truncated or damaged file")
        content = file.read(size - 4)
    count, at = int.from_bytes(content[:4], "little"), 4
    if not 1 <= count <= _MOST_BUFFERS:
        raise ScanError(f"the header declares {count} parts: the file is damaged")
    protocol: dict[str, Any] = {name: {} for name in _NEEDED} | {"bytes": size}
    for _ in range(count):
        stop = content.find(b"\0", at, at + 48)
        length = int.from_bytes(content[stop + 1 : stop + 5], "little")
        if stop < 0 or stop + 5 + length > len(content):
            raise ScanError("a part of the header reaches beyond its end: the file is truncated or damaged")
        name = content[at:stop].decode("latin-1")
        if name in _NEEDED:
            protocol[name] = _parsed(content[stop + 5 : stop + 5 + length])
        at = stop + 5 + length
    dwell = _numbers(protocol["MeasYaps"].get(("sRXSPEC", "alDwellTime", "0"))) or _numbers(
        protocol["Meas"].get("alDwellTime")
    )
    protocol["dwell_us"] = dwell[0] / 1000 if dwell and 0 < dwell[0] < 1e7 else 0.0
    return protocol


def _parsed(buffer: bytes) -> Mapping[Any, Any]:
    try:
        from mapvbvd.read_twix_hdr import parse_buffer
    except ImportError as error:
        raise ScanError("reading twix files needs pymapvbvd: pip install 'sn2n[raw]'") from error
    lines = (line.strip() for line in buffer.decode("latin-1").split("\n"))
    return dict(parse_buffer("\n".join(line for line in lines if line)))


def twix_header(
    protocol: Protocol, lines: LineTable, centre: tuple[int | None, int | None], *, kind: str, n_measurements: int
) -> RawHeader:
    """What the protocol says about the scan.

    Parameters
    ----------
    protocol
        From `read_protocol`.
    lines
        Their number of samples decides about the oversampling.
    centre
        (kz, ky) numbers of the central line, as the lines name them.
    kind
        Name of the format.
    n_measurements
        In the file.
    """
    yaps, meas = protocol["MeasYaps"], protocol["Meas"]
    pulseq = _sequence(protocol).lower().endswith("pulseq")
    notes = [f"the file holds {n_measurements} measurements, of which one is read"] if n_measurements > 1 else []
    ramps = _ramps(meas)
    columns = int(np.max(lines["samples"][lines["role"] == IMAGE], initial=0))
    columns = int((ramps or {}).get("number of samples after regridding", columns))
    oversampling, source, doubts = _oversampling(protocol, columns, pulseq=pulseq)
    reduction = tuple(int(_number(yaps, ("sPat", name), 1)) for name in ("lAccelFactPE", "lAccelFact3D"))
    mode = _number(yaps, ("sPat", "ucRefScanMode"), 0)
    header = RawHeader(
        kind,
        oversampling=oversampling,
        oversampling_source=source,
        reconstructed=0 if pulseq else _size(_number(yaps, ("sKSpace", "lBaseResolution"), 0)),
        bandwidth_ratio=_BANDWIDTH_RATIO,
        field_strength=round(_number(meas, "flMagneticFieldStrength", 0), 2),
        forward_transform=True,
        ramp_sampling=ramps,
        notes=tuple(notes),
        doubts=tuple(doubts),
    )
    matrix, fov = _matrix(yaps, meas, oversampling)
    if pulseq:
        unknown = "a Pulseq sequence: matrix, field of view and position in the header are left over from elsewhere"
        return replace(header, geometry_unknown=unknown, fov=fov, centre=_told_centre(centre, lines))
    return replace(
        header,
        matrix=matrix,
        fov=fov,
        centre=centre,
        acceleration=(reduction[0], reduction[1]) if all(1 <= r <= 8 for r in reduction) else None,
        calibration="embedded" if mode == _INPLACE else "separate" if mode > _INPLACE else None,
        trajectory=_TRAJECTORIES.get(int(_number(yaps, ("sKSpace", "ucTrajectory"), 1)), "non-Cartesian"),
    )


def _ramps(meas: Protocol) -> dict[str, float] | None:
    """What the protocol says about the gradient of the readout; None: its samples are equidistant."""
    found = {name: _numbers(meas.get(key))[:1] for name, key in _RAMPS.items()}
    known = {name: values[0] for name, values in found.items() if values and math.isfinite(values[0])}
    return known if known.get("regridding mode", 1) >= _REGRIDDING else None


def _told_centre(centre: tuple[int | None, int | None], lines: LineTable) -> tuple[int | None, int | None]:
    """Centres that Pulseq did not set are 0, which says nothing unless there is but one line."""
    return tuple(c or (None if lines[name].any() else 0) for c, name in zip(centre, ("kz", "ky"), strict=True))  # type: ignore[return-value]


def _sequence(protocol: Protocol) -> str:
    names = (protocol[part].get("tSequenceFileName") for part in ("Meas", "MeasYaps", "Dicom"))
    return next((str(name).strip().strip('"') for name in names if name), "")


def _oversampling(protocol: Protocol, columns: int, *, pulseq: bool) -> tuple[float, str, list[str]]:
    """Factor, where it comes from, contradictions."""
    meas, config = protocol["Meas"], protocol["Config"]
    factor, source = _number(meas, "flReadoutOSFactor", 0), "Meas.flReadoutOSFactor"
    base = _number(protocol["MeasYaps"], ("sKSpace", "lBaseResolution"), 0)
    declared = _number(meas, "iNoOfFourierColumns", 0)
    other = _number(config, "ReadoutOversamplingFactor", 0)
    doubts = []
    if not 1 <= factor <= 16:
        believed = base > 0 and not pulseq and 1 <= round(columns / base) <= 16
        factor, source = (round(columns / base), "columns per lBaseResolution") if believed else (1, "no header value")
        doubts.append(f"Meas.flReadoutOSFactor is missing: oversampling {factor:g} is taken from {source}")
    if other and other != factor:
        doubts.append(
            f"the header contradicts itself: Config.ReadoutOversamplingFactor {other:g}, {source} {factor:g}, "
            f"lBaseResolution {base:g}, {columns} columns; {factor:g} is used"
        )
    elif base and declared and not pulseq and abs(base * factor - declared) > 0.5:
        doubts.append(
            f"the header contradicts itself: iNoOfFourierColumns {declared:g}, lBaseResolution {base:g} × oversampling "
            f"{factor:g} (from {source}); a line has {columns} samples, and {factor:g} is used"
        )
    return factor, source, doubts


def _matrix(yaps: Protocol, meas: Protocol, oversampling: float) -> tuple[Sizes, Lengths]:
    """Encoded matrix and field of view (z, y, x), 0 where unknown; as `siemens_to_ismrmrd` derives them."""
    y = _number(meas, "iPEFTLenWithout2DInterpolation", 0) or _number(meas, "iPEFTLength", 0)
    if _number(yaps, ("sKSpace", "uc2DInterpolation"), 0) == 1 and "iPEFTLenWithout2DInterpolation" not in meas:
        y //= 2
    z = _number(meas, "i3DFTLength", 1) if _number(yaps, ("sKSpace", "ucDimension"), 2) == 4 else 1
    x = _number(meas, "iNoOfFourierColumns", 0) or _number(yaps, ("sKSpace", "lBaseResolution"), 0) * oversampling
    matrix = tuple(_size(n) for n in (z, y, x))
    piece = ("sSliceArray", "asSlice", "0")
    fov = (
        _number(yaps, (*piece, "dThickness"), 0) * (1 + _number(yaps, ("sKSpace", "dSliceOversamplingForDialog"), 0)),
        _number(yaps, (*piece, "dPhaseFOV"), 0) * (1 + _number(yaps, ("sKSpace", "dPhaseOversamplingForDialog"), 0)),
        _number(yaps, (*piece, "dReadoutFOV"), 0) * oversampling,
    )
    return matrix, fov  # type: ignore[return-value]


def _size(value: float) -> int:
    """A number of samples or lines that can be, else 0."""
    return int(value) if 0 <= value < 2**16 else 0


def _number(values: Protocol, key: Any, default: float) -> float:
    """A finite number of the protocol, or the default."""
    found = _numbers(values.get(key))
    return found[0] if found and math.isfinite(found[0]) else default


def _numbers(value: Any) -> list[float]:
    """Leading numbers of a value, which pymapvbvd leaves as text if there are several of them, or if in hexadecimal."""
    numbers: list[float] = []
    for word in str(value).split()[:8] if value is not None else []:
        try:
            numbers.append(float(int(word, 16)) if word.lower().startswith("0x") else float(word))
        except (ValueError, OverflowError):
            break
    return numbers
