"""What `sn2n inspect` tells about a raw file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sn2nlib.errors import SamplingError
from sn2nlib.sampling import acs_region
from sn2nlib.scans.raw.lines import ACS, ACS_AND_IMAGE, IMAGE, NOISE, RawSource
from sn2nlib.scans.raw.plan import Plan

_COPIES = 5  # of k-space that the reconstruction holds at its peak
_RECON_BYTES_PER_SECOND = 50e6  # of k-space, on two cores


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

    def as_dict(self) -> dict[str, Any]:
        """Label → value, the lists of sentences among them."""
        sentences = {"does": self.does, "cannot": self.cannot, "doubts": self.doubts, "notes": self.notes}
        return {**self.values, **{name: list(told) for name, told in sentences.items()}}

    def __str__(self) -> str:
        lines = [f"{name:32}{value}" for name, value in self.values.items()]
        for title, told in (
            ("Done on reading", self.does), ("To know", self.notes), ("In doubt", self.doubts), ("Cannot", self.cannot),
        ):  # fmt: skip
            lines += [f"{title}:", *(f"  - {sentence}" for sentence in told)] if told else []
        return "\n".join(lines)


def scan_report(values: Mapping[str, Any]) -> RawReport:
    """Of a scan file, from what `inspect_scan` tells."""
    reason = values.get("not for training")
    return RawReport(values, cannot=(f"training: {reason}",) if reason else ())


def raw_report(source: RawSource, plan: Plan) -> RawReport:
    """Of a raw file, from its line table and the plan; no samples are read."""
    header, lines, readout = source.header, source.lines, plan.readout
    mebibytes = 8 * readout.coils * float(np.prod(plan.shape)) / 2**20
    working = mebibytes * readout.full / readout.n
    values = {
        "format": header.kind,
        "lines": _line_counts(source),
        "coils": readout.coils,
        "samples per line": readout.samples,
        "matrix (kz, ky, kx)": plan.shape,
        "field of view (z, y, x) mm": "unknown" if plan.geometry_unknown else _rounded(
            n * size for n, size in zip(plan.shape, plan.voxel_size, strict=True)
        ),
        "voxel size (z, y, x) mm": "unknown" if plan.geometry_unknown else _rounded(plan.voxel_size),
        "geometry": "unknown" if plan.geometry_unknown else "from the header",
        "affine rows": "unknown" if plan.geometry_unknown else [_rounded(row) for row in plan.affine[:3]],
        "readout oversampling": f"{header.oversampling:g} ({header.oversampling_source})",
        "acceleration (Ry, Rz)": plan.acceleration,
        "CAIPIRINHA shift": plan.caipi_shift,
        "declared acceleration": header.acceleration or "not declared",
        "calibration": _calibration(plan),
        "partial Fourier (ky, kz)": (_fraction(lines, plan, "ky"), _fraction(lines, plan, "kz")),
        "sampled share %": round(100 * float(plan.mask.mean()), 1),
        "noise scan": plan.noise_from or "none",
        "repetitions": len(plan.counts["repetition"]),
        "averages": len(plan.counts["average"]),
        "contrasts": len(plan.counts["contrast"]),
        "slices": len(plan.counts["slice"]),
        "field strength T": header.field_strength or "unknown",
        "dwell time µs": round(float(np.median(lines["dwell_us"][plan.rows])), 3) or "unknown",
        "k-space MiB": round(mebibytes, 1),
        "memory for reading MiB": round(mebibytes * (1 + bool(plan.repeat_rows.size)) + min(192, 3 * working)),
        "memory for reconstruction MiB": round(_COPIES * mebibytes),
        "time for reconstruction s": max(1, round(mebibytes * 2**20 / _RECON_BYTES_PER_SECOND)),
    }
    return RawReport(values, plan.does, _cannot(plan), plan.doubts, plan.notes)


def _line_counts(source: RawSource) -> str:
    names = {IMAGE: "image", ACS_AND_IMAGE: "image and calibration", ACS: "calibration", NOISE: "noise"}
    roles = source.lines["role"]
    counts = [(int(np.count_nonzero(roles == role)), name) for role, name in names.items()]
    counts.append((int(np.count_nonzero(~np.isin(roles, list(names)))), "other"))
    return ", ".join(f"{n} {name}" for n, name in counts if n)


def _calibration(plan: Plan) -> str:
    if plan.acs_box is not None:
        return f"separate, (kz, ky) = {tuple(part.stop - part.start for part in plan.acs_box)}"
    try:
        box = acs_region(plan.mask)
    except SamplingError:
        return "none"
    size = tuple(part.stop - part.start for part in box)
    return f"integrated, (kz, ky) = {size} fully sampled" if size != plan.mask.shape else "not needed: fully sampled"


def _fraction(lines: np.ndarray, plan: Plan, name: str) -> float:
    """Share of a symmetric extent that was acquired; the wider side ends where the matrix does, if near."""
    axis = plan.ky if name == "ky" else plan.kz
    below = axis.centre - int(lines[name][plan.rows].min())
    above = int(lines[name][plan.rows].max()) - axis.centre + 1
    step = plan.acceleration[0 if name == "ky" else 1]
    narrow, wide = sorted((below, above))
    if wide - narrow <= max(2, 2 * step):  # a lattice need not end where it begins
        return 1.0
    reach = axis.n / 2 if axis.n / 2 - wide <= step else wide
    return round((reach + narrow) / (2 * reach), 2)


def _cannot(plan: Plan) -> tuple[str, ...]:
    told = []
    if plan.not_for_training:
        told.append(f"training: {plan.not_for_training}")
    if plan.acceleration != (1, 1) and plan.acs_box is None and _calibration(plan) == "none":
        told.append("reconstruction: undersampled, without calibration lines at the centre of k-space")
    if plan.geometry_unknown:
        told.append("orientation and voxel size of the images, unless given (voxel_size, affine)")
    return tuple(told)


def _rounded(values: Any) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in values)
