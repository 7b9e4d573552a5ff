"""Raw files of the scanner and of public collections → `Scan`: Siemens twix, ISMRMRD, and this package's own.

Files are opened for reading only.
"""

import os
import tempfile
import warnings
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sn2nlib.errors import ChoiceError, LargeScanError, ScanError, naming
from sn2nlib.parallel import usable_memory
from sn2nlib.scans.raw import layouts, mrd, twix
from sn2nlib.scans.raw.assemble import assemble, besides_kspace, partitions
from sn2nlib.scans.raw.centre import centre_doubts, watched
from sn2nlib.scans.raw.geometry import GIVEN_SIDES
from sn2nlib.scans.raw.given import option_names
from sn2nlib.scans.raw.kinds import CONVERT_FIRST, checked, kind_of, readable
from sn2nlib.scans.raw.lines import NOISE, RawSource
from sn2nlib.scans.raw.mrd_variants import apply_variant
from sn2nlib.scans.raw.plan import Plan, RawOptions, make_plan
from sn2nlib.scans.raw.report import RawReport, closed_report, layout_report, raw_report, scan_report, unread_report
from sn2nlib.scans.scan import FORMAT, Scan, load_scan, save_scan, settle_lattice
from sn2nlib.scans.sidecar import described
from sn2nlib.scans.stream import read_header, write_partitions

_OF_LAYOUTS = ("noise_scan", "voxel_size", "affine", "affine_from")  # options that public layouts take
_OF_HEADERS = ("remove_oversampling", *_OF_LAYOUTS)  # and those with an ISMRMRD header beside their arrays


def read_raw(
    path: str | os.PathLike[str],
    *,
    measurement: int = -1,
    contrast: int | None = None,
    repetition: int | None = None,
    repeat: int | None = None,
    average: int | None = None,
    slice_number: int | None = None,
    set_number: int | None = None,
    phase: int | None = None,
    remove_oversampling: bool = True,
    noise_scan: bool = True,
    regrid: bool = True,
    voxel_size: tuple[float, float, float] | None = None,
    affine: np.ndarray | None = None,
    affine_from: str | os.PathLike[str] | None = None,
    largest: int | None = None,
) -> Scan:
    """Read a raw file of any known kind.

    Parameters
    ----------
    path
        Siemens twix (VB, VD, VE, XA), ISMRMRD HDF5, a public HDF5 layout, or a scan file of this package, which is
        returned as it is.
    measurement
        Of a twix file that holds several; -1 is the last, usually the scan itself.
    contrast, repetition, slice_number, set_number, phase
        Which one to read; None: the first. Some sequences number their contrasts as sets or phases.
    repeat
        A second repetition, to be kept as `Scan.repeat`.
    average
        Which one to read; None: the mean of all of them.
    remove_oversampling
        Crop the readout to the field of view of the protocol.
    noise_scan
        Take the noise scan of the file along, scaled to the noise of the k-space samples.
    regrid
        Regrid readouts that were sampled on gradient ramps; otherwise their files are refused.
    voxel_size
        (z, y, x) in mm, of files that do not say it.
    affine : (4, 4)
        NIfTI affine (RAS+ mm) of the image stored as (x, y, z) = (readout, lines, partitions), of files that do not
        say where they lie.
    affine_from
        A NIfTI image stored so, or a DICOM series, of the same matrix: its affine instead of `affine`.
    largest
        Bytes of k-space beyond which the file is refused; None: no limit.

    Returns
    -------
    Scan
        K-space as measured, in the file's units, not whitened. `info` says what was done.

    Raises
    ------
    FileNotFoundError
    ChoiceError
        If an option asks for what the file does not hold, or contradicts what it says.
    ScanError
        If the file is of no known kind, truncated, damaged, or cannot be reconstructed; the message names the file.
    ImageError
        If `affine_from` cannot be read.

    Warns
    -----
    UserWarning
        If the header contradicts itself or the lines, or the geometry is unknown.
    """
    options = RawOptions(
        contrast=contrast, repetition=repetition, repeat=repeat, average=average, slice_number=slice_number,
        set_number=set_number, phase=phase, remove_oversampling=remove_oversampling, noise_scan=noise_scan,
        regrid=regrid, voxel_size=voxel_size, affine=affine, affine_from=affine_from,
    )  # fmt: skip
    return _read(*readable(path), options, measurement, largest=largest)


def _read(
    path: Path, kind: str, options: RawOptions, measurement: int, *, largest: int | None = None,
    folder: Path | None = None, source: RawSource | None = None,
) -> Scan:  # fmt: skip
    """`read_raw`; with a folder, large arrays are files in it; `source`: where the file has been opened already."""
    if kind in (FORMAT, "layout"):
        _refuse_options(path, kind, options, measurement)
        return load_scan(path) if kind == FORMAT else _read_layout(path, options, largest, folder)
    with naming(path):
        source = source or _open(path, kind, measurement)
        plan = _plan(source, _with_pair(source, options))
        copies = 2 if plan.repeat_rows.size else 1
        _check_largest(8 * plan.readout.coils * int(np.prod(plan.shape)) * copies, largest)
        scan, energies = assemble(source, plan, folder), np.zeros(plan.mask.shape, np.float32)
        if _centre_assumed(source, plan):
            deque(watched(scan.kspace.swapaxes(0, 1), energies), maxlen=0)
        scan = _as_variant(scan, source, options)
        if recorded := _recorded(source, plan, options):
            scan = replace(scan, **recorded)
    _warn(path, plan, energies)
    return scan


def open_raw(path: str | os.PathLike[str], *, largest: int | None = None, **options: Any) -> Scan | Path:
    """A raw file as a scan; a scan file of this package stays a file, which may be larger than memory.

    Parameters
    ----------
    path, largest
        As for `read_raw`.
    **options
        For `read_raw`.

    Returns
    -------
    Scan or Path
        Either serves `sn2nlib.recon.scan_images`.
    """
    path, kind = readable(path)
    if kind != FORMAT:
        return read_raw(path, largest=largest, **options)
    measurement = options.pop("measurement", -1)
    _refuse_options(path, kind, RawOptions(**options), measurement)
    return path


def convert_raw(
    path: str | os.PathLike[str], out: str | os.PathLike[str], *, measurement: int = -1, largest: int | None = None,
    **options: Any,
) -> None:  # fmt: skip
    """Make a scan file of a raw file, partition by partition: neither has to fit into memory.

    Files of a public layout, and ISMRMRD files whose samples are transformed (see ``layouts.yaml``), are put together
    as a whole first: in memory, or in files beside `out`, which take as much room for a while.

    Parameters
    ----------
    path
        Any raw file but a scan file.
    out
        Appears whole or not at all, over whatever was there.
    largest
        Bytes of k-space that are put together in memory; None: half of what there is.
    measurement, **options
        As for `read_raw`.

    Raises
    ------
    FileNotFoundError, ScanError, OSError
        As `read_raw` and `save_scan`.
    """
    (path, kind), chosen = readable(path), RawOptions(**options)
    if kind == FORMAT:
        raise ScanError(f"{path}: is a scan file already")
    source: RawSource | None = None
    if kind != "layout":
        with naming(path):
            source = _open(path, kind, measurement)
    if source is None or source.header.variant is not None:
        _convert_whole(path, kind, source, Path(out), chosen, measurement, largest)
        return
    with naming(path):
        plan, energies = _convert_partitions(source, out, chosen)
    _warn(path, plan, energies)


def _convert_partitions(
    source: RawSource, out: str | os.PathLike[str], chosen: RawOptions
) -> tuple[Plan, NDArray[np.float32]]:
    """Partition by partition into a scan file; the plan, and the energy of the lines where it is looked at."""
    plan = _plan(source, _with_pair(source, chosen))
    known = besides_kspace(source, plan) | _recorded(source, plan, chosen)
    if plan.repeat_rows.size:
        known["repeat"] = partitions(source, plan, plan.repeat_rows)
    shape, energies = (plan.readout.coils, *plan.shape), np.zeros(plan.mask.shape, np.float32)
    stream = partitions(source, plan, plan.rows)
    if _centre_assumed(source, plan):
        stream = watched(stream, energies)
    write_partitions(out, shape, stream, **known)
    return plan, energies


def _convert_whole(
    path: Path, kind: str, source: RawSource | None, out: Path, chosen: RawOptions, measurement: int,
    largest: int | None,
) -> None:  # fmt: skip
    """Put together first, in memory or in files beside `out`."""
    with suppress(LargeScanError):
        limit = usable_memory() // 2 if largest is None else largest
        save_scan(_read(path, kind, chosen, measurement, largest=limit, source=source), out, overwrite=True)
        return
    # some systems keep files that are mapped still, where an error holds on to them
    with tempfile.TemporaryDirectory(prefix="sn2n-", dir=out.parent, ignore_cleanup_errors=True) as folder:
        whole = _read(path, kind, chosen, measurement, folder=Path(folder), source=source)
        save_scan(whole, out, overwrite=True)
        del whole


def inspect_raw(
    path: str | os.PathLike[str], *, measurement: int = -1, partial_fourier: str = "zero", **options: Any
) -> RawReport:
    """What a raw file holds, what `read_raw` makes of it, what that needs, and what it cannot do.

    No samples are read (of layouts without a sampling mask, one slab), and nothing about the patient is told. A file
    that `read_raw` refuses although its lines can be listed is reported too, with the reason.

    Parameters
    ----------
    path
    partial_fourier : "zero", "homodyne" or "pocs"
        What `reconstruct` would be asked for, to be told.
    measurement, **options
        As for `read_raw`: what they change is seen in the report.

    Raises
    ------
    FileNotFoundError
    ChoiceError
        If an option asks for what the file does not hold.
    ScanError
        If the file is of no known kind, truncated, or too damaged to list its lines.
    """
    path, chosen = checked(path), RawOptions(**options)
    kind = kind_of(path)
    if kind in CONVERT_FIRST:
        return closed_report(kind, path, CONVERT_FIRST[kind])
    if kind in (FORMAT, "layout"):
        _refuse_options(path, kind, chosen, measurement)
    if kind == FORMAT:
        return scan_report(read_header(path), partial_fourier=partial_fourier)
    if kind == "layout":
        return _inspect_layout(path, chosen, partial_fourier)
    with naming(path):
        source = _open(path, kind, measurement)
        try:
            plan = _plan(source, _with_pair(source, chosen))
        except ChoiceError:
            raise
        except ScanError as error:
            return unread_report(source, str(error))
        return raw_report(source, plan, partial_fourier=partial_fourier)


def _inspect_layout(path: Path, options: RawOptions, partial_fourier: str) -> RawReport:
    layout = layouts.find_layout(path)
    assert layout is not None
    try:
        facts = layouts.inspect_layout(path, layout, _of_layout(options))
    except ChoiceError:
        raise
    except ScanError as error:
        return closed_report(layout.title, path, str(error).removeprefix(f"{path}: "))
    with naming(path):
        return layout_report(facts, partial_fourier=partial_fourier)


def _of_layout(options: RawOptions) -> layouts.LayoutOptions:
    return layouts.LayoutOptions(**{name: getattr(options, name) for name in _OF_HEADERS})


def _read_layout(path: Path, options: RawOptions, largest: int | None, folder: Path | None) -> Scan:
    layout = layouts.find_layout(path)
    with naming(path):
        needed = layouts.needed_bytes(path, layout, _of_layout(options))
        _check_largest(needed, largest)
    scan = layouts.read_layout(path, layout, _of_layout(options), folder=folder)
    if "unknown" in scan.info["geometry"]:
        warnings.warn(
            f"{path.name}: the file does not say how the image lies in the patient: left and right, front and back "
            "may be exchanged, unless an image of it is given with --affine-from",
            stacklevel=3,
        )
    elif options.affine_from is not None:
        warnings.warn(f"{path.name}: {GIVEN_SIDES}", stacklevel=3)
    return scan


def _check_largest(needed: int, largest: int | None) -> None:
    if largest is not None and needed > largest:
        raise LargeScanError(
            f"its samples take {needed / 2**30:.1f} GiB, more than can be worked on at once here "
            f"({largest / 2**30:.1f} GiB); make a scan file of it with sn2n convert, which may be larger than memory"
        )


def _refuse_options(path: Path, kind: str, options: RawOptions, measurement: int) -> None:
    layout = layouts.find_layout(path) if kind == "layout" else None
    taken = () if layout is None else _OF_HEADERS if layout.has_header else _OF_LAYOUTS
    changed = [name for name, value in vars(options).items() if value is not vars(RawOptions())[name]]
    changed = [name for name in changed if name not in taken] + ([] if measurement == -1 else ["measurement"])
    if changed:
        told = f"{path}: {option_names(changed)}: for twix and ISMRMRD files"
        told += "" if kind == "layout" else "; a scan file holds what was chosen before"
        if "repeat" in changed:
            told += "; the second repetition of this one, if it has any, is read anyway: --pairing repetitions takes it"
        raise ChoiceError(told)


def _with_pair(source: RawSource, options: RawOptions) -> RawOptions:
    """Of a file that this package exported, both repetitions are read: it had both."""
    repetitions = np.unique(source.lines["repetition"][source.lines["role"] != NOISE])
    ours = source.header.record is not None and options.repetition is None and options.repeat is None
    return replace(options, repeat=int(repetitions[1])) if ours and len(repetitions) == 2 else options


def _plan(source: RawSource, options: RawOptions) -> Plan:
    """`make_plan`, and what the record of an exported file or the file's entry in ``layouts.yaml`` adds to it."""
    plan, variant = make_plan(source, options), source.header.variant
    recorded = _recorded(source, plan, options)
    if recorded:
        theirs = {name: recorded[name] for name in recorded if name not in ("info", "kx_acquired")}  # kx: in `readout`
        plan = replace(plan, **theirs)
    if variant is None:
        return plan
    does = [f"read as {variant.title}: signs, channel noise and axes already in image space set right"]
    if variant.training == "if_white":
        does.append("the noise along kz is measured with the samples: training is possible only if it is white")
    reason = variant.reason_against_training or plan.not_for_training
    return replace(plan, does=(*plan.does, *does), not_for_training=reason)


def _as_variant(scan: Scan, source: RawSource, options: RawOptions) -> Scan:
    """The scan of a file that differs from the rule, brought to it; calibration and repetition of its kind are left."""
    header = source.header
    if header.variant is None:
        return scan
    reason = apply_variant(
        header.variant,
        scan.kspace,
        scan.mask,
        parameters=dict(header.parameters),
        noise_sd=header.noise_sd if options.noise_scan else None,
    )
    return replace(scan, acs=None, repeat=None, not_for_training=scan.not_for_training or reason)


def _recorded(source: RawSource, plan: Plan, options: RawOptions) -> dict[str, Any]:
    """What the record of an exported file says more exactly than its headers; what the user gives still counts."""
    if source.header.record is None:
        return {}
    known = dict(described(source.header.record))
    known |= settle_lattice(plan.mask, known["acceleration"], known["caipi_shift"])[0]  # the plan tells of doubts
    known["not_for_training"] = known["not_for_training"] or plan.not_for_training
    if options.voxel_size is not None or options.affine is not None or options.affine_from is not None:
        known = {name: value for name, value in known.items() if name not in ("voxel_size", "affine", "info")}
    return known


def _open(path: Path, kind: str, measurement: int) -> RawSource:
    if kind == "twix":
        return twix.open_twix(path, measurement=measurement)
    if measurement != -1:
        raise ChoiceError("--measurement: only twix files hold several")
    return mrd.open_mrd(path)


def _centre_assumed(source: RawSource, plan: Plan) -> bool:
    """Whether the samples are asked where the centre of k-space lies: not of axes that may hold images."""
    return source.header.variant is None and (plan.kz.assumed or plan.ky.assumed)


def _warn(path: Path, plan: Plan, energies: np.ndarray) -> None:
    for note in (*plan.doubts, *centre_doubts(energies, plan.kz, plan.ky)):
        warnings.warn(f"{path.name}: {note}", stacklevel=3)
