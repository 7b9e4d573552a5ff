"""Where a scan lies: direction cosines and position of a raw header → NIfTI affine.

Raw headers (ISMRMRD, and the measurement headers of Siemens) speak of the patient: x towards left, y towards posterior,
z towards head, as DICOM does. The patient's position on the table (HFS, FFP, …) is contained in that and changes
nothing; it is needed for coordinates of the magnet alone. Voxel n//2 of every axis lies at the given position.
With the centred inverse FFT of `sn2nlib.fourier`, voxels follow each other along the read, phase and slice directions,
but for Siemens: there the directions are taken for those of a forward FFT, so that with the inverse one voxels follow
each other against them, on the axes that are transformed. What speaks for it differs from axis to axis:

- Phase encoding: measured. Air is at the top of two phantoms that lay on the table, each a single slice whose lines
  run between back and front.
- Readout: not seen in an image of known sides. It rests on the phase that Gadgetron gives to off-centre readouts with
  ramp sampling (`sn2nlib.scans.raw.ramp`), on what follows, and on the FIRE server of python-ismrmrd-server
  (kspaceKelvin, commit 3fc5332), which turns readout and lines before an inverse FFT "to be consistent with ICE".
- Partitions: not measured here. In a sagittal 3D scan, such as MP-RAGE, this is the axis from left to right. Other
  programs turn them as readout and lines, and none that compared with the scanner's images does otherwise:
  - python-ismrmrd-server of pehses (`bart_pics.py`, commit 2213c38; `bart_cs.py`, 0e60f8d) flips all three axes of its
    inverse FFT "to be consistent with ICE", and its NIfTI of sagittal 3D scans runs against all three directions.
  - cartesian_maxgirf_epi_3d (usc-mrel, commit 89ed109) takes a forward FFT of product 3D EPI along all three directions
    of siemens_to_ismrmrd, and sets its partitions beside those of the same number in the scanner's DICOM series.
  - SIRF (SyneRBI, pull request 441) and ismrmrd_to_nifti (aTrotier, commit ab6a635) let images of inverse FFTs run
    against all three directions; both were compared with images of the scanner in three orientations.
  - twixtools (pehses, `geometry.py` of version 0.24): all three axes of a volume run against the directions; its
    `rotate_3Dcfl.py` turns reconstructed volumes by that matrix. tests/scans/test_raw_measured.py compares.
  - MRpro conjugates the k-space of Siemens (pull request 833; issue 828: "all fourier dimensions flipped").
  - spec2nii (wtclarke, `notes/siemens.md`): the scanner's own partitions of spectroscopic images follow the normal.
  The server that kspaceKelvin writes leaves the slice axis as it is, but it reconstructs single slices. None of these
  shows an object with marked sides in a sagittal 3D scan, so `UNVERIFIED_SIDES` is told of such files.

In the scanner's own images the position of the header lies between the two central partitions, as ismrmrd_to_nifti,
cartesian_maxgirf_epi_3d and pehses' server have it, but not in the same direction for all that can be read there; here
it is that of partition n//2, so that images may lie half a partition apart: that is told too.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNVERIFIED_SIDES = (
    "left and right follow Siemens's rule for directions, as other programs have it, but were not verified on a marked "
    "phantom, and the place may be half a partition off: sn2n sides compares an image of this sequence with the "
    "scanner's own DICOM series, once"
)
GIVEN_SIDES = (
    "the axes of the image that was given are taken for readout, lines and partitions, in this order and direction, "
    "which nothing shows to be right: lay the image made of this file upon it once; for a volume, sn2n sides "
    "OUT.nii.gz IMAGE tells which directions are reversed"
)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_TOLERANCE = 1e-2  # of lengths and angles: single precision, and headers that round


def header_affine(
    directions: ArrayLike,
    position: ArrayLike,
    *,
    voxel_size: tuple[float, float, float],
    shape: tuple[int, int, int],
) -> NDArray[np.float64]:
    """NIfTI affine (RAS+ mm) of the image stored as (x, y, z).

    Parameters
    ----------
    directions : (3, 3)
        Rows: unit vectors of readout, phase encoding and slice, in patient coordinates (left, posterior, head).
    position : (3,)
        Centre of the field of view in mm, same coordinates.
    voxel_size
        (z, y, x) in mm.
    shape
        (z, y, x).
    """
    columns = LPS_TO_RAS @ np.asarray(directions, dtype=float).T
    affine = np.eye(4)
    affine[:3, :3] = columns * np.array(voxel_size[::-1])
    centre = np.array([n // 2 for n in shape[::-1]])
    affine[:3, 3] = LPS_TO_RAS @ np.asarray(position, dtype=float) - affine[:3, :3] @ centre
    return affine


def voxel_directions(
    directions: ArrayLike, *, forward_transform: bool, shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Rows (3, 3): directions in which voxels follow each other, from those of the header.

    Parameters
    ----------
    directions : (3, 3)
        Rows readout, phase encoding, slice.
    forward_transform
        Whether they are those of a forward Fourier transform (Siemens).
    shape
        (z, y, x); a single slice is not transformed.
    """
    turned = [forward_transform, forward_transform, forward_transform and shape[0] > 1]
    return np.where(turned, -1.0, 1.0)[:, None] * np.asarray(directions, dtype=float)


def are_directions(directions: ArrayLike) -> bool:
    """Whether the rows (3, 3) are three unit vectors at right angles; either handedness occurs."""
    rows = np.asarray(directions, dtype=float)
    return bool(np.isfinite(rows).all() and np.abs(rows @ rows.T - np.eye(3)).max() < _TOLERANCE)


def quaternion_directions(quaternion: ArrayLike) -> NDArray[np.float64]:
    """Directions (..., 3, 3), rows readout, phase, slice, of quaternions (..., 4) in the order w, x, y, z.

    The columns of the rotation matrix are phase, readout and slice (Siemens; so read by `siemens_to_ismrmrd`, whose
    read, phase and slice directions these are).
    """
    w, x, y, z = np.moveaxis(np.asarray(quaternion, dtype=float), -1, 0)
    phase = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)], axis=-1)
    readout = np.stack([2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)], axis=-1)
    normal = np.stack([2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)], axis=-1)
    return np.stack([readout, phase, normal], axis=-2)


def unknown_affine(
    voxel_size: tuple[float, float, float], shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Affine that says the voxel size and nothing else: axes in order, origin in the middle."""
    return header_affine(LPS_TO_RAS, np.zeros(3), voxel_size=voxel_size, shape=shape)
