"""DICOM MR series in, derived series out.

In: `files` → `frames` → `geometry` → `series`. Out: `derive` → `write`.
"""

from sn2nlib.scans.dicom.files import is_dicom
from sn2nlib.scans.dicom.series import DicomSeries, read_dicom, series_affine
from sn2nlib.scans.dicom.write import check_dicom_output, write_dicom

__all__ = ["DicomSeries", "check_dicom_output", "is_dicom", "read_dicom", "series_affine", "write_dicom"]
