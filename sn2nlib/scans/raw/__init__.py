"""Raw files of the scanner and of public collections → `Scan`.

A file is opened (`twix`, `mrd`) as a table of readout lines and a header (`lines`). What becomes of them is decided
before any sample is read (`plan`, `placement`, `geometry`; `given` by the user) and told (`report`); then the samples
are put in their places (`assemble`). Public HDF5 layouts are described as data (`layouts`, `layout_samples`,
``layouts.yaml``).
"""

from sn2nlib.scans.raw.given import known_geometry, option_names
from sn2nlib.scans.raw.kinds import is_scan_file
from sn2nlib.scans.raw.opened import opened_raw
from sn2nlib.scans.raw.read import convert_raw, inspect_raw, open_raw, read_raw

__all__ = [
    "convert_raw", "inspect_raw", "is_scan_file", "known_geometry", "open_raw", "opened_raw", "option_names",
    "read_raw",
]
