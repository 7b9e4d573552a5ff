"""What `sn2n inspect` tells about a raw file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sn2nlib.errors import ChoiceError, SamplingError
from sn2nlib.sampling import Mask, acs_region, asymmetric_readout, open_sides, readout_share, split_kz
from sn2nlib.scans.needs import MANY_COILS, least_memory, memory_at_once, most_disk, seconds
from sn2nlib.scans.raw.in_words import NO_NOISE_SCAN, calibration_told, noise_scan_told
from sn2nlib.scans.raw.layouts import LayoutFacts
from sn2nlib.scans.raw.lines import ACS, ACS_AND_IMAGE, IMAGE, NOISE, Lengths, RawSource, Sizes, listed
from sn2nlib.scans.raw.plan import Plan
from sn2nlib.scans.scan import FORMAT, ONE_PARTITION
from sn2nlib.scans.stream import ScanHeader

_FILLING = {
    "zero": "stays zero (homodyne or pocs fill it when asked)",
    "homodyne": "is filled by homodyne, with one phase map of the original for the halves too",
    "pocs": "is filled by projections (POCS), with one phase map of the original for the halves too",
}  # of partial Fourier
_LABELS = {"noise_sd": "noise SD, share of brightness", "added_noise_sigma": "added noise, multiples of SD"}  # of info
_COUNTED = ("repetition", "average", "contrast", "slice", "set", "phase")
_MADE_FIRST = "; a scan file is made first"
_PAIR = "its two repetitions make them (--pairing repetitions)"
_UNREAD = "reading, and so reconstruction and training: "


@dataclass(frozen=True)
class RawReport:
    """The content of a raw file; nothing in it names the patient.

    Attributes
    ----------
    values
        Label → value.
    does
        What reading does, a sentence each.
    cannot
        What this file cannot serve for, with the reason.
    doubts
        Contradictions in the file, and what was assumed.
    notes
        Choices and peculiarities.
    """

    values: Mapping[str, Any]
    does: tuple[str, ...] = ()
    cannot: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{name:32}{value}" for name, value in self.values.items()]
        for title, told in (
            ("Done on reading", self.does), ("To know", self.notes), ("In doubt", self.doubts), ("Cannot", self.cannot),
        ):  # fmt: skip
            lines += [f"{title}:", *(f"  - {sentence}" for sentence in told)] if told else []
        return "\n".join(lines)


def scan_report(scan: ScanHeader, *, partial_fourier: str = "zero") -> RawReport:
    """Of a scan file, from its header."""
    info = dict(scan.info)
    source, done, notes = str(info.pop("geometry", "as stored")), info.pop("done", ()), info.pop("notes", ())
    field, dwell = info.pop("field_strength", 0), info.pop("dwell_us", 0)
    mebibytes = scan.nbytes / 2**20
    acs_size = None if scan.acs_shape is None else scan.acs_shape[:2]
    values = {
        "format": f"{FORMAT} version {scan.version}",
        "made of": str(info.pop("source", "unknown")),
        **{
            _LABELS.get(name, name.replace("_", " ")): value
            for name, value in info.items() if isinstance(value, str | int | float)
        },
        "coils": scan.n_coils,
        **geometry_values(scan.shape, None if source == "unknown" else scan.voxel_size, scan.affine, source),
        **sampling_values(scan.mask, scan.acceleration, scan.caipi_shift, acs_size=acs_size),
        "noise scan": "none" if scan.noise is None else f"{scan.noise.shape[1]} samples per coil",
        "repetitions": 1 + scan.has_repeat,
        "field strength T": _known(field),
        "dwell time µs": _known(dwell),
        "k-space MiB": round(mebibytes, 1),
        **needed_values(scan.shape, scan.n_coils, filling=partial_fourier != "zero"),
    }
    reasons = cannot(
        scan.mask, scan.acceleration, scan.caipi_shift, has_acs=acs_size is not None,
        not_for_training=scan.not_for_training, pairs=_PAIR if scan.has_repeat else None, geometry=source,
        given_later=False,
    )  # fmt: skip
    does = tuple(f"when it was made: {told}" for told in done)
    does = (*does, *filling(scan.mask, scan.acceleration, partial_fourier, scan.kx_acquired, scan.shape[2]))
    return RawReport(values, does, reasons, scan.doubts, (*notes, *ringing(scan.mask, scan.acceleration)))


def raw_report(source: RawSource, plan: Plan, *, partial_fourier: str = "zero") -> RawReport:
    """Of a raw file, from its line table and the plan; no samples are read."""
    header, readout = source.header, plan.readout
    mebibytes = 8 * readout.coils * float(np.prod(plan.shape)) / 2**20
    working = mebibytes * readout.full / readout.n
    acs_size = plan.acs_size
    values = {
        "format": header.kind,
        "lines": _line_counts(source),
        "coils": readout.coils,
        "samples per line": readout.samples,
        **geometry_values(
            plan.shape, None if plan.geometry == "unknown" else plan.voxel_size, plan.affine, plan.geometry
        ),
        "readout oversampling": f"{readout.oversampling.factor:g} ({readout.oversampling.source})",
        **sampling_values(plan.mask, plan.acceleration, plan.caipi_shift, acs_size=acs_size),
        "declared acceleration": header.acceleration or "not declared",
        "noise scan": plan.noise_from or "none",
        **{f"{name}s": len(plan.counts[name]) for name in _COUNTED},
        "field strength T": _known(header.field_strength),
        "dwell time µs": _dwell(float(np.median(source.lines["dwell_us"][plan.rows])), plan),
        "k-space MiB": round(mebibytes, 1),
        "memory for reading MiB": round(mebibytes * (1 + bool(plan.repeat_rows.size)) + min(192, 3 * working)),
        **needed_values(plan.shape, readout.coils, before=_MADE_FIRST, filling=partial_fourier != "zero"),
    }
    reasons = cannot(
        plan.mask, plan.acceleration, plan.caipi_shift, has_acs=acs_size is not None,
        not_for_training=plan.not_for_training, pairs=_pairs(source, plan), geometry=plan.geometry,
    )  # fmt: skip
    kx = readout.acquired, readout.n
    does = (*plan.does, *filling(plan.mask, plan.acceleration, partial_fourier, *kx))
    notes = (*plan.notes, *ringing(plan.mask, plan.acceleration))
    return RawReport(values, does, reasons, plan.doubts, notes)


def layout_report(facts: LayoutFacts, *, partial_fourier: str = "zero") -> RawReport:
    """Of a file of a public layout, from what `inspect_layout` found."""
    layout, geometry, mask = facts.layout, facts.geometry, facts.mask
    mebibytes = 8 * facts.n_coils * float(np.prod(facts.shape)) / 2**20
    values = {
        "format": layout.title,
        "coils": facts.n_coils,
        **geometry_values(facts.shape, geometry.voxel_size, geometry.affine, geometry.source),
        "readout oversampling": f"{facts.readout.oversampling:g} ({facts.readout.source})",
        "axes already in image space": ", ".join(name[1:] for name in layout.image_axes) or "none",
        **sampling_values(mask, facts.acceleration, facts.caipi_shift, acs_size=facts.acs_size),
        "noise scan": "none" if facts.noise_samples is None else f"{facts.noise_samples} samples per coil",
        "repetitions": 1 + facts.has_repeat,
        "k-space MiB": round(mebibytes, 1),
        "memory for reading MiB": round(mebibytes * (1 + facts.has_repeat)),
        **needed_values(facts.shape, facts.n_coils, before=_MADE_FIRST, filling=partial_fourier != "zero"),
        "licence": layout.licence,
    }
    reasons = cannot(
        mask, facts.acceleration, facts.caipi_shift, has_acs=facts.acs_size is not None,
        not_for_training=facts.not_for_training, pairs=_PAIR if facts.has_repeat else None, geometry=geometry.source,
    )  # fmt: skip
    kx = facts.kx_acquired, facts.shape[2]
    does = (*_layout_does(facts), *filling(mask, facts.acceleration, partial_fourier, *kx))
    return RawReport(values, does, reasons, facts.doubts, ringing(mask, facts.acceleration))


def closed_report(kind: str, path: Path, reason: str) -> RawReport:
    """Of a file of a known form that cannot be opened, for the reason given."""
    values = {"format": kind, "file MiB": round(path.stat().st_size / 2**20, 1)}
    return RawReport(values, cannot=(_UNREAD + reason,))


def unread_report(source: RawSource, reason: str) -> RawReport:
    """Of a raw file whose lines can be listed, but not be made a scan of, for the reason given."""
    header, lines = source.header, source.lines
    image = lines[lines["role"] != NOISE] if (lines["role"] != NOISE).any() else lines
    sizes = {name: sorted({int(value) for value in image[name]}) for name in ("coils", "samples")}
    values = {
        "format": header.kind,
        "lines": _line_counts(source),
        "coils": listed(sizes["coils"]),
        "samples per line": listed(sizes["samples"]),
        "trajectory": header.trajectory,
        "declared matrix (z, y, x)": header.matrix if all(header.matrix) else "not declared",
        "declared field of view mm": _rounded(header.fov) if all(header.fov) else "not declared",
        "readout oversampling": f"{header.oversampling:g} ({header.oversampling_source})",
        "declared acceleration": header.acceleration or "not declared",
        "noise scan": "this measurement" if (lines["role"] == NOISE).any()
        else "none" if source.noise is None else "another measurement",
        **{f"{name}s": len(np.unique(image[name])) for name in _COUNTED},
        "field strength T": _known(header.field_strength),
        "file MiB": round(source.file_bytes / 2**20, 1),
    }  # fmt: skip
    return RawReport(values, (), (_UNREAD + reason,), header.doubts, header.notes)


def geometry_values(
    shape: Sizes, voxel_size: Lengths | None, affine: np.ndarray | None, source: str
) -> dict[str, Any]:
    """Matrix, field of view, voxel size and affine, as far as they are known, and whose they are."""
    lengths = None if voxel_size is None else (n * size for n, size in zip(shape, voxel_size, strict=True))
    known = affine is not None and "unknown" not in source
    return {
        "matrix (kz, ky, kx)": shape,
        "field of view (z, y, x) mm": "unknown" if lengths is None else _rounded(lengths),
        "voxel size (z, y, x) mm": "unknown" if voxel_size is None else _rounded(voxel_size),
        "geometry": source,
        "affine rows mm": [_rounded(row) for row in affine[:3]] if known and affine is not None else "unknown",
    }


def needed_values(shape: Sizes, n_coils: int, *, before: str = "", filling: bool = False) -> dict[str, Any]:
    """Memory and time of the reconstruction: at once, out of core where that is less, with fewer coils if many.

    `before`: what has to happen for the latter. `filling`: whether a side of k-space is filled.
    """
    at_once, least = memory_at_once(shape, n_coils), least_memory(shape, n_coils, filling=filling)
    values: dict[str, Any] = {"memory for reconstruction MiB": round(at_once / 2**20)}
    few, compressed = MANY_COILS, f"with --virtual-coils {MANY_COILS}"
    if least < at_once:
        told = f"from {least / 2**20:.0f} on, with up to {most_disk(shape, n_coils) / 2**20:.0f} on disk"
        if n_coils > few:
            fewer, disk = least_memory(shape, n_coils, few, filling=filling), most_disk(shape, few)
            told += f"; {fewer / 2**20:.0f} and {disk / 2**20:.0f} {compressed}"
        values["or out of core MiB"] = told + before
    time = seconds(shape, n_coils)
    told = f"{time}; {seconds(shape, n_coils, few)} {compressed}"
    return {**values, "time for reconstruction s": told if n_coils > few else time}


def sampling_values(
    mask: Mask, acceleration: tuple[int, int], caipi_shift: int, *, acs_size: tuple[int, ...] | None
) -> dict[str, Any]:
    """What was acquired: lattice, calibration lines, partial Fourier, share; `acs_size` (kz, ky) of a separate scan."""
    return {
        "acceleration (Ry, Rz)": acceleration,
        "CAIPIRINHA shift": caipi_shift,
        "calibration": _calibration(mask, acceleration, acs_size),
        "partial Fourier (ky, kz)": partial_shares(mask, acceleration),
        "sampled share %": round(100 * float(mask.mean()), 1),
    }


def partial_shares(mask: Mask, acceleration: tuple[int, int]) -> tuple[float, float]:
    """Shares (ky, kz) of a symmetric extent that were acquired; the wider side ends where the matrix does, if near."""
    ky, kz = (
        _share(np.flatnonzero(mask.any(axis=axis)), mask.shape[1 - axis], acceleration[axis]) if side else 1.0
        for axis, side in enumerate(open_sides(mask, acceleration))
    )
    return ky, kz


def filling(
    mask: Mask, acceleration: tuple[int, int], method: str, kx_acquired: tuple[float, float] | None, n_kx: int
) -> tuple[str, ...]:
    """What becomes of the sides of k-space that were not acquired.

    Raises
    ------
    ChoiceError
        If the method is unknown.
    """
    if method not in _FILLING:
        raise ChoiceError(f"partial Fourier filling is one of {', '.join(_FILLING)}, got {method!r}")
    asymmetric = asymmetric_readout(kx_acquired, n_kx) is not None
    told, sides = [], (*open_sides(mask, acceleration), asymmetric)
    if method != "zero" and not any(sides):
        told.append(f"partial Fourier: k-space was acquired alike on both sides of the centre, so that {method} has "
                    "nothing to fill and changes nothing")  # fmt: skip
    told += [f"partial Fourier: the side of {axis} that was not acquired {_FILLING[method]}; it never counts as "
             "sampled" for axis, side in zip(("ky", "kz", "kx"), sides, strict=True) if side]  # fmt: skip
    if (share := readout_share(kx_acquired, n_kx)) < 1:
        rest = "" if asymmetric else "; the rest of it stays zero"
        told.append(f"{100 * share:.1f} % of kx were acquired; noise and noise maps count these only{rest}")
    return tuple(told)


def ringing(mask: Mask, acceleration: tuple[int, int]) -> tuple[str, ...]:
    """Along which axes k-space ends before the matrix does, on both sides, and what can be done about it."""
    told = []
    for axis, (name, side) in enumerate(zip(("ky", "kz"), open_sides(mask, acceleration), strict=True)):
        extent, n = int(np.ptp(np.flatnonzero(mask.any(axis=axis)))) + 1, mask.shape[1 - axis]
        if not side and n - extent > 2 * acceleration[axis]:
            told.append(f"{name} ends at {extent} of {n} lines, so that bright edges ring; sn2n recon --raw-filter "
                        "0.25 would taper the outer quarter on either side")  # fmt: skip
    return tuple(told)


def cannot(
    mask: Mask, acceleration: tuple[int, int], caipi_shift: int, *, has_acs: bool, not_for_training: str | None,
    pairs: str | None = None, geometry: str = "", given_later: bool = True,
) -> tuple[str, ...]:  # fmt: skip
    """What the scan cannot serve for, with the reason, a sentence each.

    `pairs`: how two repetitions of the scan make halves; None: there is but one. `given_later`: whether the geometry
    can still be given, as for the scanner's files.
    """
    told, reason = [], not_for_training
    if reason is None:
        try:
            split_kz(mask, acceleration=acceleration, caipi_shift=caipi_shift)
        except SamplingError as error:
            reason = str(error)
    if reason is not None:
        # two repetitions need no split; but of one partition no network is trained all the same
        mended = f"; but {pairs}" if pairs is not None and not_for_training in (None, ONE_PARTITION) else ""
        trained = mended.replace("make them", "make halves for it") if not_for_training is None else ""
        told += [f"training: {reason}{trained}",
                 f"halves (recon --halves): for the same reason{mended}"]  # fmt: skip
    if acceleration != (1, 1) and not has_acs and _calibration(mask, acceleration, None) == "none":
        told.append("reconstruction: undersampled, without calibration lines at the centre of k-space")
    if "unknown" in geometry:
        what = "orientation and voxel size" if geometry == "unknown" else "orientation"
        options = "--voxel-size, --affine-from" if geometry == "unknown" else "--affine-from"
        how = f"unless given ({options})" if given_later else "which were not given when it was made"
        told.append(f"{what} of the images, {how}")
    return tuple(told)


def _pairs(source: RawSource, plan: Plan) -> str | None:
    """How two repetitions of the file make halves; None: there is but one."""
    read = int(source.lines["repetition"][plan.rows[0]])
    others = [repetition for repetition in plan.counts["repetition"] if repetition != read]
    if plan.repeat_rows.size or not others:
        return _PAIR if plan.repeat_rows.size else None
    return f"two of its {len(others) + 1} repetitions make them (--repeat {others[0]} --pairing repetitions)"


def _layout_does(facts: LayoutFacts) -> tuple[str, ...]:
    layout, told = facts.layout, list(facts.readout.told)
    if layout.image_axes:
        axes = ", ".join(name[1:] for name in layout.image_axes)
        told.append(f"{axes}, stored as image, transformed back to k-space")
    moved = [name for name, place in layout.dc.items() if place != "centre"]
    if moved:
        told.append(f"zero frequency of {', '.join(moved)} moved to the middle, wherever it is stored")
    for name, share in layout.sampled.get("collected", {}).items():
        told.append(f"{name} beyond {100 * share:.0f} % was filled by the scanner: it does not count as sampled")
    if facts.noise_samples is None:
        told.append(NO_NOISE_SCAN)
    else:
        told.append(noise_scan_told("the file", facts.noise_samples))
    return (*told, *calibration_told(facts.acs_size))


def _line_counts(source: RawSource) -> str:
    names = {IMAGE: "image", ACS_AND_IMAGE: "image and calibration", ACS: "calibration", NOISE: "noise"}
    roles = source.lines["role"]
    counts = [(int(np.count_nonzero(roles == role)), name) for role, name in names.items()]
    counts.append((int(np.count_nonzero(~np.isin(roles, list(names)))), "other"))
    return ", ".join(f"{n} {name}" for n, name in counts if n)


def _calibration(mask: Mask, acceleration: tuple[int, int], acs_size: tuple[int, ...] | None) -> str:
    if acs_size is not None:
        return f"separate, (kz, ky) = {acs_size}"
    try:
        box = acs_region(mask)
    except SamplingError:
        return "none"
    size = tuple(part.stop - part.start for part in box)
    if size == mask.shape:
        return "not needed: fully sampled"
    if any(n <= step for n, step in zip(size, acceleration[::-1], strict=True) if step > 1):
        return "none"  # one line of the lattice, not a window of it
    return f"integrated, (kz, ky) = {size} fully sampled"


def _share(acquired: np.ndarray, n: int, step: int) -> float:
    narrow, wide = sorted((n // 2 - int(acquired[0]), int(acquired[-1]) - n // 2 + 1))
    reach = n / 2 if n / 2 - wide <= step else wide
    return round((reach + narrow) / (2 * reach), 2)


def _dwell(own: float, plan: Plan) -> str | float:
    """Dwell time as sampled and, if oversampling is removed, from one sample that is left to the next."""
    kept = _known(plan.dwell_us)
    return _known(own) if kept in (_known(own), "unknown") else f"{_known(own)}, {kept} without oversampling"


def _known(value: Any) -> str | float:
    """A number above 0, rounded to be read; other values say that it is unknown."""
    return round(value, 3) if isinstance(value, int | float) and 0 < value < np.inf else "unknown"


def _rounded(values: Any) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in values)
