"""Black-blood heads: contrast, geometry, and that the scanner puts them where they lie."""

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, map_coordinates

from sn2nlib.errors import ImageError, ScanError
from sn2nlib.fourier import ifft
from sn2nlib.scans.acquire import acquire, noise_replicas, with_noise, without_noise
from sn2nlib.scans.black_blood import BlackBloodHead, black_blood_head
from sn2nlib.scans.heads import TISSUES, Head
from sn2nlib.scans.images import read_image, write_image
from sn2nlib.scans.scan import Scan
from sn2nlib.scans.sequence import MpRage, Space
from sn2nlib.scans.vessels import voxel_positions, within

MATRIX = (26, 40, 36)  # 13×22×20 mm around a carotid siphon
SETTINGS: dict[str, Any] = {"matrix": MATRIX, "oversampling": 1.5, "centre": (13.0, 3.0, -21.0)}


@pytest.fixture(scope="module")
def head() -> BlackBloodHead:
    return black_blood_head(3, **SETTINGS)


@pytest.fixture(scope="module")
def clean(head: BlackBloodHead) -> Scan:
    return acquire(head, matrix=MATRIX, voxel_size=(0.5, 0.56, 0.56), n_coils=4, sequence=Space(), seed=3,
                   acceleration=(1, 1), acs=None, noise_sd=0, coil_room=1.35)  # fmt: skip


def test_blood_and_csf_are_dark_brain_is_bright(head: BlackBloodHead) -> None:
    assert head.t1 is not None and head.tissue is not None
    signal, vessel = head.signal(), sum(head.shares.values())
    assert signal.shape == head.t1.shape == (39, 60, 54) and signal.dtype == np.float32
    np.testing.assert_allclose(head.voxel_size, (0.5 / 1.5, 0.56 / 1.5, 0.56 / 1.5))
    level = {name: np.median(signal[share > 0.999]) for name, share in head.shares.items() if (share > 0.999).any()}
    for name in ("CSF", "GM", "WM"):
        here = binary_erosion(head.tissue == TISSUES.index(name)) & (vessel == 0)
        if here.any():
            level[name] = np.median(signal[here])
    assert level["lumen"] < 0.1 * level["wall"] and level["CSF"] < 0.4 * level["wall"]
    brain = max(level.get("GM", 0), level.get("WM", 0))
    assert 0.8 * level["wall"] < brain < 1.5 * level["wall"]
    # tissue and vessel share a voxel by volume
    half = (head.shares["lumen"] > 0.4) & (head.shares["lumen"] < 0.6)
    assert level["lumen"] < np.median(signal[half]) < level["wall"]


def test_a_spin_echo_needs_t2(head: BlackBloodHead) -> None:
    plain = Head(head.name, head.voxel_size, head.affine, t1=head.t1, pd=head.pd, t2_star=head.t2_star)
    with pytest.raises(ImageError, match="needs a head with T2"):
        plain.signal(Space())
    # an MP-RAGE of the same head is another contrast
    assert head.signal(MpRage()).shape == head.signal().shape


def test_every_vessel_lies_in_csf(head: BlackBloodHead) -> None:
    assert head.tissue is not None and head.t1 is not None
    around = within(head.vessels, head.t1.shape, head.affine, head.sheath)
    assert around.any() and (head.tissue[around] == TISSUES.index("CSF")).all()
    assert 1.8 <= head.sheath <= 2.6


def test_the_seed_decides(head: BlackBloodHead) -> None:
    again = black_blood_head(3, **SETTINGS)
    np.testing.assert_array_equal(again.signal(), head.signal())
    bare = black_blood_head(3, **SETTINGS, plaques=0, enhancing=0)
    assert bare.shares["plaque"].max() == bare.shares["enhancing"].max() == 0
    assert any(vessel.plaque for vessel in head.vessels) and not any(vessel.plaque for vessel in bare.vessels)


def test_the_scan_shows_vessels_where_they_lie(clean: Scan, head: BlackBloodHead, tmp_path: Any) -> None:
    image = np.sqrt((np.abs(ifft(clean.kspace)) ** 2).sum(axis=0))
    np.testing.assert_allclose(clean.voxel_size, (0.5, 0.56, 0.56))
    write_image(image, tmp_path / "scan.nii.gz", affine=clean.affine)
    volume, geometry = read_image(tmp_path / "scan.nii.gz")
    places = np.concatenate([vessel.points[vessel.radius > 1.2] for vessel in head.vessels])
    for array, affine in ((image, clean.affine), (volume, geometry.affine)):
        voxels = voxel_positions(places, affine)
        inside = ((voxels > 3) & (voxels < np.array(array.shape) - 4)).all(axis=1)
        assert inside.sum() > 10
        on_axis = map_coordinates(array, voxels[inside].T, order=1)
        assert np.median(on_axis) < 0.25 * np.median(array)


def test_the_train_blurs_the_phase_encoded_axes_alone(head: BlackBloodHead, clean: Scan) -> None:
    sequence = Space(blur=True)
    blurred = acquire(head, matrix=MATRIX, voxel_size=(0.5, 0.56, 0.56), n_coils=4, sequence=sequence, seed=3,
                      acceleration=(1, 1), acs=None, noise_sd=0, coil_room=1.35)  # fmt: skip
    expected = clean.kspace * sequence.modulation(MATRIX[:2])[None, :, :, None]
    np.testing.assert_allclose(blurred.kspace, expected, atol=1e-6 * np.abs(expected).max())


def test_replicas_differ_in_their_noise_alone(clean: Scan) -> None:
    scan = with_noise(clean, 0.05, seed=9)
    replicas = list(noise_replicas(scan, 12, seed=2))
    noise = np.stack([r.kspace - clean.kspace for r in replicas])
    own = scan.kspace - clean.kspace
    assert all(r.noise is scan.noise for r in replicas)
    # the same covariance of the coils, other draws
    covariances = [n.reshape(4, -1) @ n.reshape(4, -1).conj().T / (2 * n[0].size) for n in (own, noise[0], noise[1])]
    for other in covariances[1:]:
        np.testing.assert_allclose(other, covariances[0], atol=0.03 * 0.05**2)
    overlap = np.abs(np.vdot(noise[0], noise[1])) / np.vdot(own, own).real
    assert overlap < 0.02
    assert noise.real.std() == pytest.approx(0.05, rel=0.02)
    again = next(noise_replicas(scan, 1, seed=2))
    np.testing.assert_array_equal(again.kspace, replicas[0].kspace)
    with pytest.raises(ScanError, match="simulated scan"):
        without_noise(again)
    with pytest.raises(ScanError, match="has no noise"):
        next(noise_replicas(clean, 1, seed=2))
