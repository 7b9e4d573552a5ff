"""The phantom of 14 coils: its noise, its calibration, and what is seen beside the bottles once it is unfolded."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter

from sn2nlib.fourier import fft, ifft
from sn2nlib.recon import (
    calibrate,
    combine,
    fill,
    reconstruct,
    reconstruct_with_noise,
    walsh,
    whiten,
    whitening_matrix,
)
from sn2nlib.recon.raw_filter import raw_filter_window
from sn2nlib.recon.replicas import white_noise
from sn2nlib.sampling import acs_region
from sn2nlib.scans.raw import inspect_raw, read_raw
from sn2nlib.scans.scan import Scan

BOTTLES = "phantom14ch_R3_gadgetron.h5"
ACQUIRED = np.arange(18, 124)  # the stretch of ky with measured lines: 106 of 144


@pytest.fixture
def bottles(require: Any) -> tuple[Scan, np.ndarray]:
    """The scan and its whitened k-space."""
    scan = read_raw(require("data", BOTTLES))
    assert scan.noise is not None
    return scan, whiten(scan.kspace, whitening_matrix(scan.noise))


def test_the_bottles_are_whitened_moved_and_cropped(require: Any, bottles: tuple[Scan, np.ndarray]) -> None:
    scan, kspace = bottles
    assert scan.kspace.shape == (14, 1, 144, 192) and scan.acceleration == (3, 1) and scan.acs is None
    lines = np.flatnonzero(scan.mask[0])
    assert lines.min() == ACQUIRED[0] and lines.max() == ACQUIRED[-1] and scan.mask[0, 48:96].all()
    report = inspect_raw(require("data", BOTTLES))
    assert any("scaled by 3.24" in told for told in report.does)
    assert any("central ky line 54 moved to 72 of 144" in told for told in report.does)
    noise = own_noise(scan, kspace)
    covariance = noise @ noise.conj().T / (2 * noise.shape[1])
    assert noise_level(scan, kspace) == pytest.approx(1.0, abs=0.15)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance).real), 1, atol=0.25)  # of 256 samples per coil
    correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert np.abs(correlation - np.eye(14)).max() < 0.25


def own_noise(scan: Scan, kspace: np.ndarray) -> np.ndarray:
    """The scan's own noise (coil, n): edge lines, columns beside the bottles, on the plateau of the filter."""
    lines = np.flatnonzero(scan.mask[0])
    edges = ifft(kspace, axes=(-1,))[:, 0, np.r_[lines[:8], lines[-8:]]]
    return edges[..., np.r_[:10, 186:192]].reshape(len(edges), -1)


def noise_level(scan: Scan, kspace: np.ndarray) -> float:
    """SD of the scan's own noise over all coils."""
    return float(np.sqrt((np.abs(own_noise(scan, kspace)) ** 2).mean() / 2))


def windows(acs: np.ndarray, n_kx: int) -> tuple[np.ndarray, np.ndarray]:
    """Sources (window, 2 · n_kx · coil) and targets (window, 2 · coil) of R = 3×1, every window of the ACS a row.

    Lines 0 and 3 of a window predict the lines 1 and 2 at its middle sample.
    """
    lines, half = acs[:, 0].astype(np.complex128), n_kx // 2
    n_ky, n_x = lines.shape[1] - 3, lines.shape[2] - 2 * half
    sources = [lines[:, dy : dy + n_ky, dx : dx + n_x] for dy in (0, 3) for dx in range(n_kx)]
    targets = [lines[:, dy : dy + n_ky, half : half + n_x] for dy in (1, 2)]
    return tuple(np.concatenate(part).reshape(-1, n_ky * n_x).T for part in (sources, targets))  # type: ignore[return-value]


@pytest.mark.parametrize(("kernel", "most", "least"), [((3, 2, 1), 0.030, 0.0289), ((5, 2, 1), 0.024, None)])
def test_calibration_on_the_bottles_fits(
    bottles: tuple[Scan, np.ndarray], kernel: tuple[int, int, int], most: float, least: float | None,
    record_testsuite_property: Any,
) -> None:  # fmt: skip
    """‖target - fit‖ / ‖target‖ over the ACS, the weights applied to its windows, against the least squares of them."""
    acs = bottles[1][:, :, 48:96]
    found = calibrate(acs, acceleration=(3, 1), kernel=kernel)
    sources, targets = windows(acs, kernel[0])
    fit = sources @ found.weights.reshape(targets.shape[1], -1).T
    direct = float(np.linalg.norm(targets - fit) / np.linalg.norm(targets))
    best = np.linalg.lstsq(sources, targets, rcond=None)[0]
    floor = float(np.linalg.norm(targets - sources @ best) / np.linalg.norm(targets))
    told = f"{100 * direct:.3f} %, least squares {100 * floor:.3f} %"
    record_testsuite_property(f"error of the fit on the ACS of the bottles, kernel {kernel}", told)
    print(told)
    assert floor <= direct <= most
    assert direct == pytest.approx(found.residual, rel=1e-4)
    assert least is None or floor == pytest.approx(least, abs=5e-5)


class Unfolded(NamedTuple):
    """Coil images (coil, 1, y, x), noise of the scan's own level, filled like them; Walsh weights; masks."""

    coils: np.ndarray
    noise: list[np.ndarray]
    weights: np.ndarray
    inside: np.ndarray
    beside: np.ndarray

    def energy(self, coil_images: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """Mean per voxel beside the bottles, of (all coils, the combined image)."""
        where = self.beside if where is None else where
        images = coil_images[:, 0, where], combine(coil_images, self.weights)[:, where]
        return np.array([(np.abs(image) ** 2).sum(axis=0).mean() for image in images])

    def left(self, coil_images: np.ndarray) -> np.ndarray:
        """What does not belong to the bottles as they are imaged."""
        return coil_images - as_imaged(coil_images, self.inside)

    def left_over_noise(self, coil_images: np.ndarray) -> np.ndarray:
        return self.energy(self.left(coil_images)) / np.mean([self.energy(self.left(n)) for n in self.noise], axis=0)

    def tapered_over_noise(self, coil_images: np.ndarray, window: np.ndarray) -> np.ndarray:
        """Energy of (all coils, the combined image) over the noise's, both after a raw filter; nothing is fitted."""
        tapered, *noise = (ifft(fft(part) * window[:, :, None]) for part in (coil_images, *self.noise))
        seen = self._replace(weights=walsh(tapered))
        return seen.energy(tapered) / np.mean([seen.energy(part) for part in noise], axis=0)

    def alone(self) -> np.ndarray:
        """Energy of (all coils, the combined image) of noise that was combined with Walsh weights of its own."""
        return np.mean([self._replace(weights=walsh(part)).energy(part) for part in self.noise], axis=0)


def unfold(scan: Scan, kspace: np.ndarray, kernel: tuple[int, int, int], ridge: float = 1e-4) -> Unfolded:
    """The steps of `reconstruct`. Beside: 10 voxels and more from whatever is above 5 % of the maximum."""
    acs = kspace[(slice(None), *acs_region(scan.mask))]
    unfolding = calibrate(acs, acceleration=scan.acceleration, kernel=kernel, ridge=ridge)
    level, rng = np.float32(noise_level(scan, kspace)), np.random.default_rng(0)
    draws = [level * white_noise(kspace.shape, rng) * scan.mask[:, :, None] for _ in range(8)]
    coils, *noise = (ifft(fill(part, scan.mask, unfolding)) for part in (kspace, *draws))
    weights = walsh(coils)
    smooth = gaussian_filter(np.abs(combine(coils, weights))[0], 1)
    inside = smooth > 0.05 * smooth.max()
    return Unfolded(coils, noise, weights, inside, ~binary_dilation(inside, iterations=10))


@pytest.mark.parametrize("kernel", [(3, 2, 2), (5, 2, 2)])
def test_no_ghost_is_seen_beside_the_bottles(
    bottles: tuple[Scan, np.ndarray], kernel: tuple[int, int, int], record_testsuite_property: Any
) -> None:
    """Beside the bottles `sn2n recon --raw-filter 0.25` leaves at most 1.2 times the energy of the noise there.

    K-space ends at 106 of 144 lines, so that the image of the bottles is not confined to the bottles: it rings. Without
    a filter there is more than 1.2: 1.22 in all coils and 1.89 combined with the default kernel, since the combination
    keeps the ringing while it averages the noise of the coils. The noise is that of the scan's own level, filled and
    combined likewise. (Walsh weights follow the noise that they are made of: noise alone, combined with weights of its
    own, has 1.55 times the energy that it has with the scan's weights, and the image 1.22 times that.)

    1. With the raw filter 1.04 in all coils and 1.14 combined are left, 1.13 of what the command's own noise map tells;
       nothing is fitted. With the larger kernel 1.05 and 1.22. Any share from 0.2 to 0.4 stays below 1.2 with the
       default kernel; 0.25 is the best of them, found here after all had been seen. Hann windows, share 1, come to
       1.11 and 1.55: less noise is left, and something of low spatial frequency shows.
    2. Without a filter, but without the bottles as they are imaged too (the coil images that something confined to the
       bottles gives through the acquired lines, fitted by least squares), 1.03 and 1.11, 1.04 and 1.18 with the larger
       kernel: what is beside the bottles is their ringing, not a ghost.
    """
    scan, kspace = bottles
    seen = unfold(scan, kspace, kernel)
    image = reconstruct(scan, kernel=kernel)
    np.testing.assert_allclose(combine(seen.coils, seen.weights), image, atol=1e-3)
    assert 0.3 < seen.beside.mean() < 0.6

    noise, own = (np.mean([seen.energy(part) for part in parts], axis=0)
                  for parts in (seen.noise, [seen.left(part) for part in seen.noise]))  # fmt: skip
    brightness = np.percentile(np.sqrt((np.abs(seen.coils[:, 0, seen.inside]) ** 2).sum(axis=0)), 99)
    reach = lobes(brightness, np.sqrt(noise[0]))
    far = ~binary_dilation(seen.inside, iterations=reach)
    told = {
        f"raw filter {share:g}": seen.tapered_over_noise(seen.coils, raw_filter_window(scan.mask, share))
        for share in (0.2, 0.25, 0.3, 0.4, 1.0)
    }
    told |= {
        "left": seen.left_over_noise(seen.coils),
        "plain": seen.energy(seen.coils) / noise,
        "plain over noise with weights of its own": seen.energy(seen.coils) / seen.alone(),
        "bottles as imaged": seen.energy(as_imaged(seen.coils, seen.inside)) / noise,
        "plain, far": seen.energy(seen.coils, far) / np.mean([seen.energy(part, far) for part in seen.noise], axis=0),
        "noise after the fit": own / noise,
    }
    for name, (all_coils, combined) in told.items():
        value = f"{all_coils:.3f} in all coils, {combined:.3f} combined"
        record_testsuite_property(f"energy beside the bottles over the noise's, kernel {kernel}, {name}", value)
        print(f"{name}: {value}")
    tapered, noise_sd, _ = reconstruct_with_noise(scan, kernel=kernel, raw_filter=0.25)
    assert noise_sd is not None
    expected = 2 * noise_level(scan, kspace) ** 2 * np.mean(noise_sd[0, seen.beside] ** 2)
    by_map = float(np.mean(np.abs(tapered[0, seen.beside]) ** 2) / expected)
    print(f"raw filter 0.25, over the noise map: {by_map:.3f} combined")
    assert by_map == pytest.approx(told["raw filter 0.25"][1], abs=0.02)
    assert told["raw filter 0.25"][0] <= 1.1 and told["raw filter 0.25"][1] <= (1.2 if kernel == (3, 2, 2) else 1.25)
    if kernel == (3, 2, 2):
        np.testing.assert_allclose(told["plain"], (1.22, 1.89), atol=0.05)
        assert max(told[f"raw filter {share:g}"].max() for share in (0.2, 0.25, 0.3, 0.4)) <= 1.2
    assert told["left"].max() <= 1.2
    assert told["plain, far"][0] <= 1.2, reach
    assert told["noise after the fit"].min() > 0.95
    if kernel == (3, 2, 2):
        rest = combine(seen.left(seen.coils), seen.weights)
        picture = save_picture([np.abs(part) for part in (image[0], tapered[0], rest[0])], report_folder())
        record_testsuite_property("picture", str(picture))
        assert picture.stat().st_size > 10_000


def test_a_ghost_beside_the_bottles_would_be_noticed(bottles: tuple[Scan, np.ndarray]) -> None:
    """One of 0.5 % of the bottles, which is 0.7 times the noise of the combined image; and that of a poor kernel."""
    scan, kspace = bottles
    seen = unfold(scan, kspace, (3, 2, 2))
    brightness = np.median(np.abs(combine(seen.coils, seen.weights))[0, seen.inside])
    noise = np.sqrt(np.mean([seen.energy(part)[1] for part in seen.noise]))
    assert 0.005 * brightness == pytest.approx(0.7 * noise, rel=0.1)
    for shift in (48, 72, 96):  # thirds and half of the field of view
        ghost = np.float32(0.005) * np.roll(seen.coils, shift, axis=2)
        assert seen.left_over_noise(seen.coils + ghost)[1] > 1.2
        assert seen.tapered_over_noise(seen.coils + ghost, raw_filter_window(scan.mask, 0.25))[1] > 1.2
    poor = unfold(scan, kspace, (3, 2, 2), ridge=0.1)
    assert poor.left_over_noise(poor.coils).min() > 1.2


def as_imaged(coil_images: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Coil images (coil, 1, y, x), ringing included, of what is confined to `inside` and fits them best.

    To cut k-space to the acquired lines is a projection B along y, and every image is in its range. For each x, the
    values o within the bottles that minimise ‖B o - image‖² + 0.001 ‖o‖² give B o; Bᴴ B = B, and Bᴴ image = image.
    """
    phases = np.exp(2j * np.pi * np.outer(np.arange(144), ACQUIRED - 72) / 144) / 12
    band, result = phases @ phases.conj().T, np.zeros_like(coil_images)
    for x in np.flatnonzero(inside.any(axis=0)):
        within = np.flatnonzero(inside[:, x])
        normal = band[np.ix_(within, within)] + 1e-3 * np.eye(len(within))
        result[:, 0, :, x] = (band[:, within] @ np.linalg.solve(normal, coil_images[:, 0, within, x].T)).T
    return result


def lobes(brightness: float, noise: float) -> int:
    """Voxels from a straight edge at which its side lobes, brightness / (π · 2π f · distance), sink to the noise."""
    cutoff = len(ACQUIRED) / 2 / 144  # cycles per voxel
    return int(np.ceil(brightness / (2 * np.pi**2 * cutoff * noise)))


def report_folder() -> Path:
    """Where the pictures of the tests' report go: `SN2N_TEST_REPORT`, else reports/tests in the checkout."""
    folder = Path(os.environ.get("SN2N_TEST_REPORT", Path(__file__).resolve().parents[2] / "reports" / "tests"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_picture(images: list[np.ndarray], folder: Path) -> Path:
    """Grey from 0 to 5 % of the maximum: plain, with the raw filter, without the bottles as imaged; then all of it."""
    from matplotlib import image as plain

    brightest = images[0].max()
    views = [np.clip(part / (0.05 * brightest), 0, 1) for part in images] + [images[0] / brightest]
    path = folder / "bottles_unfolded.png"
    plain.imsave(path, np.kron(np.concatenate(views, axis=1), np.ones((3, 3))), cmap="gray")
    return path
