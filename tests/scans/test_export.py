"""Exported scans: the way back is exact, other programs read the files, and BART makes the same image of them."""

import errno
import json
import re
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sn2nlib.errors import ScanError
from sn2nlib.fourier import ifft
from sn2nlib.recon import reconstruct
from sn2nlib.sampling import acs_region, lattice_mask
from sn2nlib.scans.acquire import acquire
from sn2nlib.scans.bart import load_bart, save_bart
from sn2nlib.scans.export import export_scan, save_ismrmrd
from sn2nlib.scans.heads import Head, centred_affine
from sn2nlib.scans.raw import convert_raw, inspect_raw, read_raw
from sn2nlib.scans.raw.report import RawReport
from sn2nlib.scans.scan import Scan, load_scan, save_scan
from sn2nlib.scans.sidecar import described, record_of

AFFINE = np.eye(4)  # oblique, voxels of 0.7 × 0.9 × 1.1 mm (x, y, z)
AFFINE[:3, :3] = Rotation.from_euler("xyz", (10, -80, 25), degrees=True).as_matrix() * (0.7, 0.9, 1.1)
AFFINE[:3, 3] = (-3, 5, 1 / 3)


def complex_array(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]


def make_scan(kind: str, seed: int = 0) -> Scan:
    """A scan of one kind that is all different numbers."""
    rng = np.random.default_rng(seed)
    settings: dict[str, Any] = {
        "integrated": {"acceleration": (2, 1), "acs": 8},
        "odd, bare": {"acceleration": (2, 1), "acs": 7},
        "full": {"acceleration": (1, 1), "acs": None},
        "caipirinha": {"acceleration": (2, 2), "caipi_shift": 1, "acs": 8},
        "separate": {"acceleration": (3, 1), "acs": None},
        "separate, shorter": {"acceleration": (3, 1), "acs": None},
        "repeated": {"acceleration": (2, 1), "acs": 8},
        "partial Fourier": {"acceleration": (2, 1), "acs": 8, "partial_fourier": (0.75, 1)},
    }[kind]
    shape = (2, 11, 27, 9) if kind == "odd, bare" else (3, 12, 30, 10)
    mask = lattice_mask(shape[1:3], **settings)
    bare = kind == "odd, bare"
    return Scan(
        kspace=complex_array(shape, rng) * mask[:, :, None],
        mask=mask,
        acceleration=settings["acceleration"],
        caipi_shift=settings.get("caipi_shift", 0),
        voxel_size=(1.0, 1.0, 1.0) if bare else (1.1, 0.9, 0.7),
        affine=np.eye(4) if bare else AFFINE,
        noise=None if bare else complex_array((3, 70), rng),
        acs=complex_array((3, 6, 8, 6 if "shorter" in kind else 10), rng) if "separate" in kind else None,
        repeat=complex_array(shape, rng) * mask[:, :, None] if kind == "repeated" else None,
        not_for_training="a test" if kind == "full" else None,
        info={} if bare else {"source": "simulated", "noise_sd": 0.1, "note": "σ < 1 & 'more'"},
    )


KINDS = ("integrated", "odd, bare", "full", "caipirinha", "separate", "separate, shorter", "repeated",
         "partial Fourier")  # fmt: skip


def assert_same(scan: Scan, other: Scan) -> None:
    for name in ("kspace", "mask", "noise", "acs", "repeat", "affine"):
        ours, theirs = getattr(scan, name), getattr(other, name)
        if ours is None:
            assert theirs is None, name
        else:
            assert theirs.dtype == ours.dtype, name
            np.testing.assert_array_equal(theirs, ours, err_msg=name)
    for name in ("acceleration", "caipi_shift", "voxel_size", "not_for_training", "info"):
        assert getattr(scan, name) == getattr(other, name), name


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_through_ismrmrd_is_exact(tmp_path: Path, kind: str) -> None:
    scan = make_scan(kind)
    before = scan.kspace.copy()
    save_ismrmrd(scan, tmp_path / "scan.h5")
    assert_same(scan, read_raw(tmp_path / "scan.h5"))
    np.testing.assert_array_equal(scan.kspace, before)
    assert_told(scan, inspect_raw(tmp_path / "scan.h5"))


def assert_told(scan: Scan, report: RawReport) -> None:
    """What inspecting the export says is what reading it gives."""
    assert (report.values["acceleration (Ry, Rz)"], report.values["CAIPIRINHA shift"]) == (
        scan.acceleration, scan.caipi_shift,
    )  # fmt: skip
    training = [told for told in report.cannot if told.startswith("training: ")]
    assert training == ([] if scan.not_for_training is None else [f"training: {scan.not_for_training}"])


def test_a_calibration_scan_off_the_lattice_comes_back_as_one(tmp_path: Path) -> None:
    scan = make_scan("separate")
    acs = complex_array((3, 6, 2, 10), np.random.default_rng(1))  # ky 14 and 15 of 30
    moved = np.roll(scan.mask, 1, axis=1) & ~scan.mask
    kspace = complex_array((3, 12, 30, 10), np.random.default_rng(2)) * moved[:, :, None]
    scan = replace(scan, mask=moved, kspace=kspace)
    assert not moved[:, 14:16].any()
    save_ismrmrd(replace(scan, acs=acs), tmp_path / "scan.h5")
    assert_same(replace(scan, acs=acs), read_raw(tmp_path / "scan.h5"))


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_through_bart_is_exact(tmp_path: Path, kind: str) -> None:
    scan = make_scan(kind)
    files = save_bart(scan, tmp_path / "my.scan_1")
    assert files[0] == tmp_path / "my.scan_1.cfl" and all(path.is_file() for path in files)
    assert files[-1] == tmp_path / "my.scan_1.json"
    assert_same(scan, load_bart(tmp_path / "my.scan_1"))
    assert_same(scan, load_bart(tmp_path / "my.scan_1.hdr"))


@pytest.mark.parametrize("kind", ["separate", "repeated"])
@pytest.mark.parametrize("format", ["ismrmrd", "bart"])
def test_a_scan_file_is_exported_piece_by_piece_to_the_same_bytes(
    tmp_path: Path, kind: str, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a scan file that is larger than memory no more than one coil or one partition is ever asked for."""
    scan = make_scan(kind)
    save_scan(scan, tmp_path / "scan.h5")
    whole = export_scan(scan, tmp_path / "whole.x", format=format)
    read, largest = h5py.Dataset.__getitem__, [0]

    def recorded(dataset: h5py.Dataset, *arguments: object) -> Any:
        values = read(dataset, *arguments)
        largest.append(np.size(values) if dataset.name in ("/kspace", "/repeat") else 0)
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", recorded)
    pieces = export_scan(tmp_path / "scan.h5", tmp_path / "pieces.x", format=format)
    assert 0 < max(largest) <= scan.kspace.size // 3
    monkeypatch.undo()
    load = read_raw if format == "ismrmrd" else load_bart
    assert_same(load(whole[0]), load(pieces[0]))
    assert_same(scan, load(pieces[0]))


def test_the_ismrmrd_library_reads_what_was_meant(tmp_path: Path) -> None:
    ismrmrd = pytest.importorskip("ismrmrd")
    scan = make_scan("integrated")
    save_ismrmrd(scan, tmp_path / "scan.h5")
    with ismrmrd.Dataset(tmp_path / "scan.h5", mode="r") as dataset:
        header = ismrmrd.xsd.CreateFromDocument(dataset.read_xml_header())
        lines = [dataset.read_acquisition(number) for number in range(dataset.number_of_acquisitions())]
    encoding = header.encoding[0]
    size, fov = encoding.encodedSpace.matrixSize, encoding.encodedSpace.fieldOfView_mm
    assert (size.z, size.y, size.x) == scan.shape and encoding.reconSpace == encoding.encodedSpace
    np.testing.assert_allclose((fov.z, fov.y, fov.x), np.multiply(scan.shape, scan.voxel_size))
    assert encoding.encodingLimits.kspace_encoding_step_1.center == 15
    assert encoding.parallelImaging.accelerationFactor.kspace_encoding_step_1 == 2
    assert described(record_of(header) or "")["voxel_size"] == scan.voxel_size

    noise, *image = lines
    assert noise.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT) and len(image) == scan.mask.sum()
    np.testing.assert_array_equal(noise.data, scan.noise)
    assert noise.sample_time_us == image[0].sample_time_us  # nothing to be scaled
    both, only = ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING, ismrmrd.ACQ_IS_PARALLEL_CALIBRATION
    _, region = acs_region(scan.mask)
    for line in image:
        ky, kz = line.idx.kspace_encode_step_1, line.idx.kspace_encode_step_2
        np.testing.assert_array_equal(line.data, scan.kspace[:, kz, ky])
        assert bool(line.is_flag_set(only)) == (ky % 2 == 1)
        assert bool(line.is_flag_set(both)) == (ky % 2 == 0 and region.start <= ky < region.stop)
    assert image[-1].is_flag_set(ismrmrd.ACQ_LAST_IN_MEASUREMENT)
    assert not any(line.is_flag_set(ismrmrd.ACQ_LAST_IN_MEASUREMENT) for line in lines[:-1])

    centre = AFFINE @ [5, 15, 6, 1]  # voxel n//2, in RAS; the file speaks of left, posterior, head
    np.testing.assert_allclose(image[0].position, centre[:3] * [-1, -1, 1], rtol=1e-6)
    for name, column, size in (("read_dir", 0, 0.7), ("phase_dir", 1, 0.9), ("slice_dir", 2, 1.1)):
        np.testing.assert_allclose(getattr(image[0], name), AFFINE[:3, column] / size * [-1, -1, 1], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*left and right follow Siemens")
@pytest.mark.parametrize("kind", ["VD", "MRD"])
def test_directions_of_siemens_are_turned_once(tmp_path: Path, raw: Any, kind: str) -> None:
    """Without our record the affine is found in the lines, and no vendor says that it is to be turned."""
    kspace = complex_array((3, 4, 10, 16), np.random.default_rng(2))
    file = raw.File(raw.lines(kspace), kspace.shape[1:], centre=(2, 5), vendor="SIEMENS")
    scan = read_raw(raw.write(tmp_path / "scan", file, kind))
    system = b"<acquisitionSystemInformation>"
    for name, vendor in (("bare.h5", b""), ("named.h5", b"<systemVendor>SIEMENS</systemVendor>")):
        save_ismrmrd(scan, tmp_path / name)
        with h5py.File(tmp_path / name, "r+") as exported:
            header = exported["dataset/xml"][0]
            assert b"systemVendor" not in header and header.count(system) == 1
            bare = re.sub(rb"<userParameters>.*</userParameters>", b"", header, flags=re.DOTALL)
            exported["dataset/xml"][0] = bare.replace(system, system + vendor)
            assert record_of(ismrmrd_header(bare)) is None
    back, turned_twice = read_raw(tmp_path / "bare.h5"), read_raw(tmp_path / "named.h5")
    np.testing.assert_allclose(back.affine, scan.affine, atol=1e-4)
    assert back.voxel_size == pytest.approx(scan.voxel_size)
    np.testing.assert_allclose(turned_twice.affine[:3, :3], -scan.affine[:3, :3], atol=1e-4)  # the test would see it


def bare(path: Path) -> Path:
    """An exported file as one of another program: without our record."""
    with h5py.File(path, "r+") as file:
        file["dataset/xml"][0] = re.sub(
            rb"<userParameters>.*</userParameters>", b"", file["dataset/xml"][0], flags=re.DOTALL
        )
    return path


@pytest.mark.parametrize("known", [{}, {"field_strength": 2.89362, "dwell_us": 4.8}, {"field_strength": 3},
                                   {"field_strength": 0.0, "dwell_us": 0.0}, {"dwell_us": "fast"}])  # fmt: skip
def test_field_strength_and_dwell_time_are_kept_and_never_made_up(tmp_path: Path, known: dict[str, Any]) -> None:
    scan = replace(make_scan("integrated"), info={"source": "measured", **known})
    save_ismrmrd(scan, tmp_path / "scan.h5")
    assert_same(scan, read_raw(tmp_path / "scan.h5"))
    field = known.get("field_strength") or None
    dwell = known.get("dwell_us") if known.get("dwell_us") == 4.8 else 0
    ismrmrd = pytest.importorskip("ismrmrd")
    with ismrmrd.Dataset(tmp_path / "scan.h5", mode="r") as dataset:
        xml = dataset.read_xml_header()
        lines = [dataset.read_acquisition(number) for number in range(dataset.number_of_acquisitions())]
    assert ismrmrd_header(xml).acquisitionSystemInformation.systemFieldStrength_T == field
    assert {line.sample_time_us for line in lines} == {np.float32(dwell)}
    assert (b"systemFieldStrength" in xml) == (field is not None)
    for path in (tmp_path / "scan.h5", bare(tmp_path / "scan.h5")):
        told = inspect_raw(path).values
        assert told["field strength T"] == (round(field, 2) if field else "unknown")
        assert told["dwell time µs"] == (dwell or "unknown")
    doubt = "dwell times of the noise scan .unknown. and of the image lines .unknown."
    unknown: Any = nullcontext() if dwell else pytest.warns(UserWarning, match=doubt)
    with unknown:
        other = read_raw(tmp_path / "scan.h5")
    assert other.info["field_strength"] == pytest.approx(field or 0, abs=0.005)
    assert other.info["dwell_us"] == pytest.approx(dwell, rel=1e-6)
    np.testing.assert_allclose(other.noise, scan.noise)  # in the units of the lines, whatever is known


@pytest.mark.parametrize(("geometry", "sized", "told"), [
    ("from the header", True, None),
    ("the voxel size given; position and orientation unknown", True, "position and orientation are unknown"),
    ("unknown", False, "the geometry is unknown"),
])  # fmt: skip
def test_an_export_knows_as_much_of_its_place_as_the_scan(
    tmp_path: Path, geometry: str, sized: bool, told: str | None
) -> None:
    scan = replace(make_scan("integrated"), info={"geometry": geometry})
    save_ismrmrd(scan, tmp_path / "scan.h5")
    report = inspect_raw(tmp_path / "scan.h5")
    size = report.values["voxel size (z, y, x) mm"]
    assert size == pytest.approx(scan.voxel_size) if sized else size == "unknown"
    assert [doubt.split(":")[0] for doubt in report.doubts if "unknown" in doubt] == ([told] if told else [])
    assert any("orientation" in cannot for cannot in report.cannot) == (told is not None)
    with pytest.warns(UserWarning, match=told) if told else nullcontext():
        assert_same(scan, read_raw(tmp_path / "scan.h5"))


def test_an_earlier_export_knows_no_dwell_time(tmp_path: Path) -> None:
    save_ismrmrd(make_scan("integrated"), tmp_path / "scan.h5")
    with h5py.File(tmp_path / "scan.h5", "r+") as file:
        data = file["dataset/data"][()]
        data["head"]["sample_time_us"] = 1
        file["dataset/data"][...] = data
    assert inspect_raw(tmp_path / "scan.h5").values["dwell time µs"] == "unknown"
    assert_same(make_scan("integrated"), read_raw(tmp_path / "scan.h5"))


def test_an_earlier_export_of_a_full_scan_may_declare_an_acceleration(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    save_ismrmrd(make_scan("full"), path)
    with h5py.File(path, "r+") as file:
        xml = file["dataset/xml"][0]
        record = xml.replace(b"acceleration&quot;: [1, 1]", b"acceleration&quot;: [3, 1]").replace(
            b'acceleration": [1, 1]', b'acceleration": [3, 1]'
        )
        assert record != xml
        file["dataset/xml"][0] = record.replace(
            b"<kspace_encoding_step_1>1</kspace_encoding_step_1>", b"<kspace_encoding_step_1>3</kspace_encoding_step_1>"
        )
    told = r"^scan\.h5: the header declares R = 3×1 \(ky×kz\), the acquired lines show 1×1"
    with pytest.warns(UserWarning, match=told):
        assert_same(make_scan("full"), read_raw(path))
    with pytest.warns(UserWarning, match=told):
        convert_raw(path, tmp_path / "kept.h5")
    assert_same(make_scan("full"), load_scan(tmp_path / "kept.h5"))


@pytest.mark.filterwarnings("ignore:.*left and right follow Siemens")
@pytest.mark.parametrize("kind", ["VB", "VD", "MRD"])
def test_a_measured_scan_knows_field_strength_and_dwell_time(tmp_path: Path, raw: Any, kind: str) -> None:
    """Twofold oversampling removed, samples are twice as far apart; field strength and dwell time survive all ways."""
    kspace = complex_array((3, 4, 10, 16), np.random.default_rng(2))
    file = raw.File(raw.lines(kspace), kspace.shape[1:], centre=(2, 5), dwell_us=2.4)
    path = raw.write(tmp_path / "scan", file, kind)
    scan = read_raw(path)
    assert scan.info["field_strength"] == 2.89 and scan.info["dwell_us"] == pytest.approx(4.8)
    assert read_raw(path, remove_oversampling=False).info["dwell_us"] == pytest.approx(2.4)
    convert_raw(path, tmp_path / "kept.h5")
    export_scan(tmp_path / "kept.h5", tmp_path / "exported.h5")
    save_bart(scan, tmp_path / "bart")
    for back in (load_scan(tmp_path / "kept.h5"), read_raw(tmp_path / "exported.h5"), load_bart(tmp_path / "bart")):
        assert_same(scan, back)
    assert read_raw(bare(tmp_path / "exported.h5")).info["dwell_us"] == pytest.approx(4.8)


def ismrmrd_header(xml: bytes) -> Any:
    return pytest.importorskip("ismrmrd").xsd.CreateFromDocument(xml)


def test_a_noise_scan_longer_than_an_acquisition_can_be(tmp_path: Path) -> None:
    noise = complex_array((3, 70001), np.random.default_rng(1))[:, :]
    scan = replace(make_scan("integrated"), noise=noise)
    save_ismrmrd(scan, tmp_path / "scan.h5")
    ismrmrd = pytest.importorskip("ismrmrd")
    with ismrmrd.Dataset(tmp_path / "scan.h5", mode="r") as dataset:
        parts = [dataset.read_acquisition(number).data for number in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), noise)


def shells() -> Head:
    """A textured head of shells, off the centre on every axis, with a bright ball on one side."""
    shape, voxel_size = (40, 64, 64), (4.3, 3.4, 3.4)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt((z / 0.75) ** 2 + ((y - 0.05) / 0.8) ** 2 + ((x + 0.1) / 0.7) ** 2)
    signal = 1.0 * (radius < 1) + 0.7 * (radius < 0.8) - 0.5 * (radius < 0.3)
    signal += 0.8 * ((z - 0.3) ** 2 + (y + 0.4) ** 2 + (x - 0.2) ** 2 < 0.03)
    signal *= 1 + 0.2 * np.sin(19 * x) * np.cos(17 * y) * np.sin(15 * z)
    affine = centred_affine(shape, voxel_size, np.zeros(3))
    return Head(name="shells", voxel_size=voxel_size, affine=affine, intensity=signal.clip(0).astype(np.float32))


def bart_array(path: Path) -> np.ndarray:
    sizes = [int(word) for word in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), "<c8").reshape(sizes[::-1]).squeeze()


def test_bart_reconstructs_the_export(tmp_path: Path, require: Callable[..., Path]) -> None:
    """Its whitening with our noise file, its ESPIRiT calibration, its SENSE: an independent chain to the same image."""
    bart = str(require("bart"))
    scan = acquire(
        shells(), matrix=(40, 64, 64), voxel_size=(4.3, 3.4, 3.4), n_coils=8, acceleration=(2, 1), acs=24, noise_sd=0.01
    )
    export_scan(scan, tmp_path / "scan", format="bart")
    for command in (
        "fft -u -i 7 scan coils",
        "whiten scan scan_noise white",
        "ecalib -m1 -c0 -k4:4:4 -r16:16:16 white maps",
        "repmat 0 64 scan_mask pattern",
        "pics -S -l2 -r0.001 -i15 -p pattern white maps image",
    ):
        subprocess.run([bart, *command.split()], cwd=tmp_path, check=True, capture_output=True)
    coils = ifft(scan.kspace)
    np.testing.assert_allclose(bart_array(tmp_path / "coils"), coils, atol=1e-5 * np.abs(coils).max())
    ours, theirs = np.abs(reconstruct(scan)), np.abs(bart_array(tmp_path / "image"))
    inside = ours > 0.1 * ours.max()
    assert np.corrcoef(ours[inside], theirs[inside])[0, 1] >= 0.995
    assert np.corrcoef(ours[inside], theirs[:, ::-1][inside])[0, 1] < 0.9  # the measure sees a wrong orientation


# --- what can go wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["ismrmrd", "bart"])
def test_nothing_existing_is_overwritten_unasked(tmp_path: Path, format: str) -> None:
    scan = make_scan("separate")
    target = tmp_path / ("scan.h5" if format == "ismrmrd" else "scan")
    export_scan(scan, target, format=format)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match="exists; choose another name"):
        export_scan(make_scan("full"), target, format=format)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    export_scan(make_scan("full"), target, format=format, overwrite=True)
    back = read_raw(target) if format == "ismrmrd" else load_bart(target)
    assert_same(make_scan("full"), back)  # and no calibration scan of the former export is left


@pytest.mark.parametrize("format", ["ismrmrd", "bart"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="The disk is full") as caught:
        export_scan(make_scan("repeated"), tmp_path / "scan.h5", format=format)
    assert caught.value.errno == errno.ENOSPC and list(tmp_path.iterdir()) == []


def test_an_unknown_format_and_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ScanError, match="unknown export format 'dicom'; known: ismrmrd, bart"):
        export_scan(make_scan("full"), tmp_path / "x", format="dicom")
    monkeypatch.setitem(__import__("sys").modules, "ismrmrd", None)
    with pytest.raises(ScanError, match=r"needs the package ismrmrd; pip install 'sn2n\[raw\]'"):
        save_ismrmrd(make_scan("full"), tmp_path / "scan.h5")
    assert list(tmp_path.iterdir()) == []




@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scan.json", None, r"scan\.json is missing beside it"),
        ("scan.json", "{", r"scan\.cfl: the description of the scan is damaged"),
        ("scan.json", "{}", "the description of the scan is damaged"),
        ("scan.json", "[" * 100_000, "the description of the scan is damaged"),
        ("scan.json", '{"format": "of DOE, JANE"}', "the description is not of the format sn2n-export"),
        ("scan.json", '{"format": "sn2n-export", "version": "DOE"}', "the description of the scan is damaged"),
        ("scan.json", '{"format": "sn2n-export", "version": 1e999}', "the description of the scan is damaged"),
        ("scan.hdr", "", r"scan\.hdr does not say the dimensions of scan\.cfl"),
        ("scan.hdr", "# Dimensions\n10 30 x 3\n", r"scan\.hdr does not say the dimensions"),
        ("scan.hdr", "# Dimensions\n10 30 12\n", r"needs the dimensions readout, ky, kz, coil"),
        ("scan.hdr", "# Dimensions\n10 30 12 3 2\n", "no further ones"),
        ("scan.hdr", "# Dimensions\n10 30 12 4\n", r"scan\.cfl has 86400 bytes, scan\.hdr asks for 115200"),
        ("scan.hdr", "# Dimensions\n4294967296 4294967296 4294967296 1\n", "bytes, scan.hdr asks for"),
        ("scan_mask.cfl", None, r"scan_mask\.cfl has 0 bytes"),
        ("scan_mask.hdr", "# Dimensions\n1 12 30 1\n", "mask: needs bool of shape"),
    ],
)
def test_damaged_bart_files(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    save_bart(make_scan("integrated"), tmp_path / "scan")
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(ScanError, match=message) as caught:
        load_bart(tmp_path / "scan")
    assert "\n" not in str(caught.value)


def test_a_newer_export_and_no_export(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no BART file .*absent\.cfl"):
        load_bart(tmp_path / "absent")
    save_bart(make_scan("full"), tmp_path / "scan")
    record = json.loads((tmp_path / "scan.json").read_text())
    (tmp_path / "scan.json").write_text(json.dumps(record | {"version": 99}))
    with pytest.raises(ScanError, match="exported by a newer sn2n"):
        load_bart(tmp_path / "scan")
