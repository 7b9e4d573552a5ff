"""What a scan is besides its samples, as JSON: travels inside exported files, so that the way back is exact."""

import json
from typing import Any

import numpy as np

from sn2nlib.errors import ScanError
from sn2nlib.scans.info import check_info
from sn2nlib.scans.scan import Scan
from sn2nlib.scans.stream import ScanHeader

SIDECAR_FORMAT = "sn2n-export"
SIDECAR_VERSION = 2  # 1 had no kx_acquired, and is written where there is none
RECORD = "sn2n_scan"  # user parameter of exported ISMRMRD files


def describe(scan: Scan | ScanHeader) -> str:
    """Sampling, geometry and provenance of a scan as one line of JSON; floats keep every bit.

    Returns
    -------
    JSON object with the keys format, version, shape (coil, kz, ky, kx), acceleration (Ry, Rz), caipi_shift,
    voxel_size (z, y, x) in mm, affine (RAS+ mm), not_for_training, kx_acquired, info.
    """
    return json.dumps({
        "format": SIDECAR_FORMAT,
        "version": SIDECAR_VERSION if scan.kx_acquired is not None else 1,
        "shape": [scan.n_coils, *scan.shape],
        "acceleration": [int(r) for r in scan.acceleration],
        "caipi_shift": int(scan.caipi_shift),
        "voxel_size": [float(size) for size in scan.voxel_size],
        "affine": np.asarray(scan.affine, dtype=float).tolist(),
        "not_for_training": scan.not_for_training,
        "kx_acquired": scan.kx_acquired,
        "info": dict(scan.info),
    })


def record_of(header: Any) -> str | None:
    """What `describe` wrote, from an ISMRMRD header (``ismrmrd.xsd.ismrmrdHeader``); None in others' files."""
    parameters = getattr(header.userParameters, "userParameterString", None) or []
    found = (parameter.value for parameter in parameters if parameter.name == RECORD)
    return next((value for value in found if isinstance(value, str)), None)


def described(text: str | bytes) -> dict[str, Any]:
    """Keyword arguments of `Scan` from what `describe` wrote.

    Returns
    -------
    dict
        acceleration, caipi_shift, voxel_size, affine, not_for_training, kx_acquired, info.

    Raises
    ------
    ScanError
        If the text is nothing that `describe` wrote, or of a newer version.
    """
    try:
        record = json.loads(text)
        if record["format"] != SIDECAR_FORMAT:
            raise ScanError(f"the description is not of the format {SIDECAR_FORMAT}")
        if int(record["version"]) > SIDECAR_VERSION:
            raise ScanError(f"exported by a newer sn2n (format version {int(record['version'])}); install that one")
        reason, info = record["not_for_training"], record["info"]
        kx = record.get("kx_acquired")  # files of earlier versions have none
        check_info(info)
        return {
            "acceleration": (int(record["acceleration"][0]), int(record["acceleration"][1])),
            "caipi_shift": int(record["caipi_shift"]),
            "voxel_size": tuple(float(size) for size in record["voxel_size"]),
            "affine": np.array(record["affine"], dtype=float),
            "not_for_training": None if reason is None else str(reason),
            "kx_acquired": None if kx is None else (float(kx[0]), float(kx[1])),
            "info": dict(info),
        }
    except ScanError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError):  # may quote the description
        raise ScanError("the description of the scan is damaged; export the scan once more") from None
