"""Readout oversampling that the header declares and the lines no longer have, or not as declared."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sn2nlib.fourier import fft, ifft
from sn2nlib.scans.raw import inspect_raw, read_raw
from sn2nlib.scans.raw.geometry import UNVERIFIED_SIDES
from sn2nlib.scans.scan import Scan

pytestmark = pytest.mark.filterwarnings("ignore:.*left and right follow Siemens")  # has a test of its own
KINDS = ("VB", "VD", "MRD")
ENCODED, RECONSTRUCTED, OBJECT = 64, 32, 28  # columns; of 1.5 mm
FOV = (8.0, 20.0, 96.0)  # mm, as encoded


def kspace(columns: int, size: int = OBJECT) -> np.ndarray:
    """Three coils of a block of so many columns in the middle of all."""
    image = np.zeros((3, 4, 20, columns), np.complex64)
    first = columns // 2 - size // 2
    image[:, :, 3:17, first : first + size] = 1
    return fft(image, axes=(1, 2, 3)).astype(np.complex64)


def columns(scan: Scan) -> int:
    """How many the object has."""
    return int((np.abs(ifft(scan.kspace))[0, 2, 10] > 0.5).sum())


def read(path: Path, **options: Any) -> tuple[Scan, list[str]]:
    """The scan, and what was in doubt about it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scan = read_raw(path, **options)
    doubts = [str(warning.message).removeprefix(f"{path.name}: ") for warning in caught]
    assert doubts == list(inspect_raw(path, **options).doubts)
    return scan, [doubt for doubt in doubts if doubt != UNVERIFIED_SIDES]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_removed_before_is_not_removed_again(tmp_path: Path, raw: Any, kind: str) -> None:
    file = raw.File(raw.lines(kspace(ENCODED)), (4, 20, ENCODED), fov=FOV, centre=(2, 10))
    whole, doubts = read(raw.write(tmp_path / "whole", file, kind))
    removed = replace(file, lines=raw.lines(kspace(RECONSTRUCTED)))
    path = raw.write(tmp_path / "removed", removed, kind)
    scan, told = read(path)
    for one in (whole, scan):
        assert one.shape == (4, 20, 32) and one.voxel_size == pytest.approx((2, 1, 1.5)) and columns(one) == OBJECT
    assert np.allclose(scan.affine, whole.affine) and doubts == told == []
    report = inspect_raw(path)
    assert report.values["field of view (z, y, x) mm"] == (8, 20, 48)
    assert report.values["readout oversampling"] == "1 (removed before)"
    assert not any("oversampling" in sentence for sentence in report.does)
    assert ("the header declares 64 samples per line, the lines hold 32, as many as without the oversampling of 2: it "
            "was removed before, and is not removed again") in report.notes  # fmt: skip
    kept, _ = read(path, remove_oversampling=False)
    assert np.array_equal(kept.kspace, scan.kspace) and kept.voxel_size == scan.voxel_size


def test_an_interpolated_image_does_not_hide_what_was_removed_before(tmp_path: Path, raw: Any) -> None:
    """The header reconstructs 64 pixels of 64 samples, twice oversampled; the lines hold 32."""
    ismrmrd = pytest.importorskip("ismrmrd")
    file = raw.File(raw.lines(kspace(RECONSTRUCTED)), (4, 20, ENCODED), fov=FOV, centre=(2, 10))
    path = raw.write(tmp_path / "scan", file, "MRD")
    with ismrmrd.Dataset(path, mode="r+") as dataset:
        header = ismrmrd.xsd.CreateFromDocument(dataset.read_xml_header())
        header.encoding[0].reconSpace.matrixSize.x = ENCODED
        dataset.write_xml_header(ismrmrd.xsd.ToXML(header).encode())
    scan, told = read(path)
    assert scan.shape == (4, 20, 32) and scan.voxel_size == pytest.approx((2, 1, 1.5)) and columns(scan) == OBJECT
    assert any("the lines hold 32, as many as without the oversampling of 2: it was removed before" in t for t in told)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [48, 80])
def test_any_other_number_of_samples_is_told(tmp_path: Path, raw: Any, kind: str, samples: int) -> None:
    """As sampled with the declared oversampling: the field of view is what it was, the voxel is another."""
    file = raw.File(raw.lines(kspace(samples, 20)), (4, 20, ENCODED), fov=FOV, centre=(2, 10))
    path = raw.write(tmp_path / "scan", file, kind)
    scan, doubts = read(path)
    assert doubts == [
        f"the header declares 64 samples per line, the lines hold {samples}: these are believed, and taken to be "
        "oversampled by 2, as declared (--keep-oversampling keeps all of them)"
    ]
    assert scan.shape[2] == samples // 2 and columns(scan) == 20
    assert scan.voxel_size[2] * scan.shape[2] == pytest.approx(48)
    kept, _ = read(path, remove_oversampling=False)
    assert kept.shape[2] == samples and kept.voxel_size[2] * samples == pytest.approx(96)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_samples_before_the_echo_than_after_are_an_asymmetric_echo(tmp_path: Path, raw: Any, kind: str) -> None:
    full = kspace(ENCODED)
    for samples in (48, RECONSTRUCTED + 4):
        short = [replace(line, samples=line.samples[:, -samples:], centre=samples - 32) for line in raw.lines(full)]
        file = raw.File(short, (4, 20, ENCODED), fov=FOV, centre=(2, 10))
        path = raw.write(tmp_path / "short", file, kind)
        scan, doubts = read(path)
        assert scan.shape == (4, 20, 32) and scan.voxel_size[2] == pytest.approx(1.5) and doubts == []
        assert scan.kx_acquired == ((64 - samples) / 2, 32)
        report = inspect_raw(path)
        assert report.values["readout oversampling"].startswith("2 (")
        assert any(f"asymmetric echo: {64 - samples} of 64 samples" in told for told in report.does)


@pytest.mark.parametrize("kind", ["VB", "VD"])
def test_columns_of_the_protocol_that_the_lines_do_not_have(tmp_path: Path, raw: Any, kind: str) -> None:
    """Without oversampling, so that nothing is to be removed; once with the number of columns wrong, once without."""
    lines = raw.lines(kspace(RECONSTRUCTED))
    file = raw.File(lines, (4, 20, RECONSTRUCTED), fov=(8.0, 20.0, 48.0), centre=(2, 10), oversampling=1.0)
    scan, told = read(raw.write(tmp_path / "scan", replace(file, extra={"iNoOfFourierColumns": "64"}), kind))
    assert scan.shape == (4, 20, 32) and scan.voxel_size[2] == pytest.approx(1.5) and columns(scan) == OBJECT
    assert told == [
        "the header contradicts itself: iNoOfFourierColumns 64, lBaseResolution 32 × oversampling 1 (from "
        "Meas.flReadoutOSFactor); a line has 32 samples, and 1 is used",
        "the header declares 64 samples per line, the lines hold 32: these are believed",
    ]
    silent = replace(file, oversampling=2.0, matrix=(4, 20, ENCODED), fov=FOV, extra={"iNoOfFourierColumns": "0"})
    scan, told = read(raw.write(tmp_path / "silent", silent, kind))
    assert scan.voxel_size[2] == pytest.approx(1.5) and columns(scan) == OBJECT and told == []


@pytest.mark.parametrize("kind", ["VB", "VD"])
def test_a_factor_that_disagrees_with_the_columns_is_told(tmp_path: Path, raw: Any, kind: str) -> None:
    file = raw.File(raw.lines(kspace(ENCODED, 20)), (4, 20, ENCODED), fov=FOV, centre=(2, 10))
    scan, told = read(raw.write(tmp_path / "scan", replace(file, extra={"flReadoutOSFactor": "1.6"}), kind))
    assert scan.shape[2] == 40 and told == [
        "the header contradicts itself: iNoOfFourierColumns 64, lBaseResolution 32 × oversampling 1.6 (from "
        "Meas.flReadoutOSFactor); a line has 64 samples, and 1.6 is used"
    ]


def test_the_columns_of_a_pulseq_file_are_not_those_of_its_header(tmp_path: Path, raw: Any) -> None:
    """The header is left over from another scan: no number of it counts but the factor."""
    sequence = "%CustomerSeq%\\pulseq"
    lines = raw.lines(kspace(RECONSTRUCTED))
    file = raw.File(lines, (4, 20, ENCODED), centre=(2, 10), sequence=sequence, oversampling=1.0)
    scan, doubts = read(raw.twix(tmp_path / "scan.dat", file))
    assert scan.shape == (4, 20, 32) and columns(scan) == OBJECT and not any("samples" in doubt for doubt in doubts)
