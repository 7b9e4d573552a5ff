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
- Partitions: not measured here. In a sagittal 3D scan, such as MP-RAGE, this is the axis from left to right. Two other
  programs turn them as readout and lines: ismrmrd_to_nifti (aTrotier, commit ab6a635), whose images of an inverse 3D
  FFT run against all three directions of siemens_to_ismrmrd, and which its authors compared with the scanner's own
  NIfTI of 3D gradient echo scans (Aera, HFS, three orientations, two phase-encoding directions each; the scans are said
  to be Zenodo 3674622); and MRpro, which conjugates the k-space of Siemens, as its pull request 833 says for readout,
  phase and slice encoding (issue 828: "all fourier dimensions flipped"). Against it stands the FIRE server, which
  leaves partitions as they are, but writes no place for each. So `UNVERIFIED_SIDES` is told of such files.

In the scanner's own NIfTI the position of the header lies between the two central partitions, if ismrmrd_to_nifti is
right to add half a voxel along them; here it is that of partition n//2: images may lie half a partition apart.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNVERIFIED_SIDES = (
    "left and right follow Siemens's rule for directions and were not verified on a marked phantom: compare an image "
    "of this sequence once with the scanner's own DICOM series"
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
