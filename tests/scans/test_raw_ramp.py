"""Readouts sampled on gradient ramps: known objects, read back as if the gradient had been constant."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.scans.raw import inspect_raw, read_raw
from sn2nlib.scans.raw.geometry import UNVERIFIED_SIDES
from sn2nlib.scans.raw.ramp import Trapezoid, make_regridding, read_trapezoid

pytestmark = pytest.mark.filterwarnings("ignore:.*left and right follow Siemens")  # tested in test_raw
KINDS = ("VB", "VD", "MRD")
TIMES = {"up": 30.0, "flat": 60.0, "down": 30.0, "delay": 10.0, "duration": 100.0}  # µs
TWIX = {
    "up": "alRegridRampupTime", "flat": "alRegridFlattopTime", "down": "alRegridRampdownTime",
    "delay": "alRegridDelaySamplesTime", "duration": "aflRegridADCDuration", "n": "alRegridDestSamples",
}  # fmt: skip
MRD = {"up": "rampUpTime", "flat": "flatTopTime", "down": "rampDownTime", "delay": "acqDelayTime"}
COILS, KZ, KY = 2, 2, 6
FOV = 48.0  # of the encoded readout, mm


def positions(n_samples: int, n: int, times: dict[str, float] = TIMES) -> np.ndarray:
    """Where the samples lie, in steps of the uniform grid: the gradient's curve, summed up in steps of 1 ns."""
    total = times["up"] + times["flat"] + times["down"]
    clock = np.linspace(0, total, round(1000 * total) + 1)
    corners = [0, times["up"], times["up"] + times["flat"], total]
    gradient = np.interp(clock, corners, [0, 1, 1, 0])
    area = np.concatenate([[0], np.cumsum((gradient[1:] + gradient[:-1]) / 2)])
    dwell = times["duration"] / n_samples
    moments = times["delay"] + dwell * (np.arange(n_samples) + 0.5)
    start, end = np.interp([times["delay"], times["delay"] + times["duration"]], clock, area)
    return n * (np.interp(moments, clock, area) - area[-1] / 2) / (end - start)


def uniform(n: int) -> np.ndarray:
    return np.arange(n) - (n - 1) / 2


def measured(objects: np.ndarray, k: np.ndarray, n: int) -> np.ndarray:
    """Samples at k of objects (…, x), whose pixels lie in the middle of n: the Fourier sum itself."""
    pixels = objects.shape[-1]
    x = np.arange(pixels) - pixels // 2
    return (objects @ np.exp(-2j * np.pi * np.outer(x, k) / n) / np.sqrt(n)).astype(np.complex64)


def objects(n: int) -> np.ndarray:
    """(coil, kz, ky, x) in the middle half of the encoded readout."""
    return np.random.default_rng(n).standard_normal((COILS, KZ, KY, n // 2, 2)).view(complex)[..., 0]


def oversampling(n: int) -> float:
    return 3.0 if n % 2 else 2.0


def write(path: Path, raw: Any, kind: str, lines: list[Any], n: int, vendor: str = "", **changes: Any) -> Path:
    """A file whose header has the times, without those that are None."""
    n_samples = lines[-1].samples.shape[1]
    times: dict[str, Any] = {**TIMES, "n": n, **changes}
    duration = times["duration"] or TIMES["duration"]
    extra = {name: f"{times[key]:g} 0" for key, name in TWIX.items() if times[key] is not None}
    file = raw.File(lines, (KZ, KY, n), fov=(8.0, 20.0, FOV), centre=(1, 3), dwell_us=duration / n_samples,
                    oversampling=oversampling(n), vendor=vendor, extra={"alRegridMode": "2 2", **extra})  # fmt: skip
    raw.write(path, file, kind)
    if kind == "MRD":
        long = "".join(f"<userParameterLong><name>{name}</name><value>{times[key]:.0f}</value></userParameterLong>"
                       for key, name in MRD.items() if times[key] is not None)  # fmt: skip
        long += f"<userParameterLong><name>numSamples</name><value>{n_samples}</value></userParameterLong>"
        if times["duration"] is not None:
            dwell = f"<name>dwellTime</name><value>{duration / n_samples}</value>"
            long += f"<userParameterDouble>{dwell}</userParameterDouble>"
        told = f"<trajectory>epi</trajectory><trajectoryDescription><identifier>ConventionalEPI</identifier>{long}"
        with h5py.File(path, "r+") as content:
            xml = content["dataset/xml"][0].decode()
            xml = xml.replace("<trajectory>cartesian</trajectory>", told + "</trajectoryDescription>")
            content["dataset/xml"][0] = xml.encode()
    return path


def received(objects: np.ndarray, k: np.ndarray, even: np.ndarray, n: int, *, centre: float, sign: int) -> np.ndarray:
    """What the receiver writes down while the gradient encodes k, from the spins' precession.

    A spin at r, along the readout direction of the header and over the field of view, turns by sign · 2π k r: sign -1
    for scanners whose images come of an inverse transform, +1 for Siemens, whose images come of a forward one. The
    receiver turns back by what the gradient of the flat top alone, which would encode `even`, makes of a spin in the
    `centre` of the image. The pixels of an inverse transform follow each other along the direction, or against it.
    """
    x = (np.arange(objects.shape[-1]) - objects.shape[-1] // 2) / n
    places = centre - sign * x
    turns = np.outer(places, k) - centre * even
    return (objects @ np.exp(sign * 2j * np.pi * turns) / np.sqrt(n)).astype(np.complex64)


def epi_lines(
    raw: Any, truth: np.ndarray, n_samples: int, n: int, *, centre: float = 0.0, sign: int = -1
) -> list[Any]:
    """Every other line read backwards: the gradient's sign is the other, time runs on."""
    k = positions(n_samples, n)
    area = 30 + 60 - 10**2 / 30  # µs, of the gradient while the receiver is open
    even = n * TIMES["duration"] / n_samples / area * uniform(n_samples)
    lines = []
    for line in raw.lines(np.zeros((*truth.shape[:3], n_samples), np.complex64)):
        turn = -1 if line.ky % 2 else 1
        samples = received(truth[:, line.kz, line.ky], turn * k, turn * even, n, centre=centre, sign=sign)
        lines.append(replace(line, samples=samples, reversed=turn < 0))
    return lines


@pytest.mark.parametrize(("kind", "vendor", "sign"), [
    ("VB", "", 1), ("VD", "", 1), ("MRD", "SIEMENS", 1), ("MRD", "Nobody", -1),
])  # fmt: skip
@pytest.mark.parametrize(("n_samples", "n"), [(32, 32), (41, 32), (33, 33)])
def test_what_a_constant_gradient_would_have_sampled(
    tmp_path: Path, raw: Any, kind: str, vendor: str, sign: int, n_samples: int, n: int
) -> None:
    truth = objects(n)
    centre = raw.position[2] / FOV  # the fixture's readout runs along z
    lines = epi_lines(raw, truth, n_samples, n, centre=centre, sign=sign)
    path = write(tmp_path / "scan", raw, kind, lines, n, vendor=vendor)
    full = read_raw(path, remove_oversampling=False).kspace
    assert full.dtype == np.complex64 and full.shape == (COILS, KZ, KY, n)
    assert np.allclose(full, measured(truth, uniform(n), n), atol=3e-5)
    scan = read_raw(path)
    kept = round(n / oversampling(n))
    expected = measured(truth, uniform(n), n) @ cropping(n, kept)
    assert np.allclose(scan.kspace, expected, atol=3e-5)
    assert scan.voxel_size == pytest.approx((4, 20 / 6, FOV / n))
    assert scan.info["dwell_us"] == 0  # it is not the same for all
    report = inspect_raw(path)
    assert any(f"ramp sampling: {n_samples} samples at unequal distances regridded to {n}" in told
               and "not white" in told for told in report.does)  # fmt: skip
    assert any("a ghost may remain" in note for note in report.notes)
    assert set(report.doubts) <= {UNVERIFIED_SIDES}
    for read in (read_raw, lambda path, **options: refuse(inspect_raw(path, **options))):
        with pytest.raises(ScanError, match=r"sampled on its gradient ramps.* left aside, as asked"):
            read(path, regrid=False)


def cropping(n: int, kept: int) -> np.ndarray:
    """(n, kept): uniform samples → those of the pixels in the middle alone."""
    k, x, inner = np.arange(n) - n // 2, np.arange(kept) - kept // 2, np.arange(kept) - kept // 2
    return np.exp(2j * np.pi * np.outer(k, x) / n) @ np.exp(-2j * np.pi * np.outer(x, inner) / kept) / np.sqrt(n * kept)


def refuse(report: Any) -> None:
    raise ScanError(report.cannot[0])


def test_an_object_that_knows_no_pixels() -> None:
    """A box and its sinc: what least squares on pixels leaves of it is small beside the samples themselves."""
    n, width, place = 128, 31.3, 4.2
    shape = Trapezoid(130, 450, 130, 83, 544, n_samples=160, n=n)
    times = {"up": 130.0, "flat": 450.0, "down": 130.0, "delay": 83.0, "duration": 544.0}

    def box(k: np.ndarray) -> np.ndarray:
        return np.sinc(k * width / n) * np.exp(-2j * np.pi * k * place / n)

    k = positions(160, n, times)
    error = make_regridding(shape, kept=64, offset=0).forward @ box(k) - box(uniform(n))
    linear = np.interp(uniform(n), k, box(k)) - box(uniform(n))
    assert np.linalg.norm(error) < 1e-3 * np.linalg.norm(box(k))
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(linear)


def test_an_object_off_centre_that_knows_no_pixels() -> None:
    """The same box, 60 of 128 pixels from the magnet's centre: exact k-space, as the receiver turns it."""
    n, width, place, centre = 128, 31.3, 4.2, 60.0
    shape = Trapezoid(130, 450, 130, 83, 544, n_samples=160, n=n)
    k = positions(160, n, {"up": 130.0, "flat": 450.0, "down": 130.0, "delay": 83.0, "duration": 544.0})
    even = np.diff(k).max() * uniform(160)

    def box(k: np.ndarray, place: float) -> np.ndarray:
        return np.sinc(k * width / n) * np.exp(-2j * np.pi * k * place / n)

    samples = box(k, centre + place) * np.exp(2j * np.pi * even * centre / n)
    wanted = box(uniform(n), place)
    right, none, wrong = (
        np.linalg.norm(make_regridding(shape, kept=64, offset=offset / n).forward @ samples - wanted)
        / np.linalg.norm(wanted) for offset in (centre, 0, -centre)
    )  # fmt: skip
    assert right < 1e-3 and none > 0.03 and wrong > none


def test_the_positions_are_those_of_twixtools() -> None:
    from twixtools.recon_helpers import calc_regrid_traj

    meas = {"alRegridMode": [2], "alRegridDestSamples": [320], "aflRegridADCDuration": [544.0],
            "alRegridDelaySamplesTime": [83], "alRegridRampupTime": [130], "alRegridFlattopTime": [450],
            "alRegridRampdownTime": [130]}  # fmt: skip
    yaps = {"sKSpace": {"lBaseResolution": 320}, "sSliceArray": {"asSlice": [{"dReadoutFOV": 1.0}]}}
    theirs = calc_regrid_traj({"Meas": meas, "MeasYaps": yaps})  # which sums the gradient up sample by sample
    ours, distance = Trapezoid(130, 450, 130, 83, 544, n_samples=320, n=320).positions()
    assert np.allclose(ours, theirs, atol=5e-3) and distance == pytest.approx(1.032, abs=1e-3)


@pytest.mark.parametrize("n", [2, 31, 32])
def test_a_flat_top_alone_is_left_as_it_is(n: int) -> None:
    for shape in (Trapezoid(0, 64, 0, 0, 64, n_samples=n, n=n), Trapezoid(50, 80, 50, 58, 64, n_samples=n, n=n)):
        regridding = make_regridding(shape, kept=max(1, n // 2), offset=0.3)
        for matrix in (regridding.forward, regridding.backward):
            assert matrix.dtype == np.complex64 and np.allclose(matrix, np.eye(n), atol=1e-6)
        assert np.allclose(regridding.noise_sd, 1) and regridding.noise_gain == pytest.approx(1)
        assert regridding.correlation < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_is_what_the_report_says_and_the_noise_scan_is_scaled_to_it(
    tmp_path: Path, raw: Any, kind: str
) -> None:
    n, rng = 32, np.random.default_rng(3)
    shape = read_trapezoid(numbers(), n_samples=n, dwell_us=TIMES["duration"] / n)
    regridding = make_regridding(shape, kept=16, offset=0)
    drawn = (rng.standard_normal((4000, 1, n, 2)) / np.sqrt(2)).astype(np.float32).view(np.complex64)[..., 0]
    before = drawn.copy()
    regridded = regridding.apply(drawn, rng.random(4000) < 0.5)
    assert np.array_equal(drawn, before)
    inner = regridded[:, 0] @ cropping(n, 16)
    assert np.allclose(np.sqrt((np.abs(inner) ** 2).mean(axis=0)), regridding.noise_sd, rtol=0.05)
    assert regridding.noise_sd.min() < 0.9 < 1 < regridding.noise_sd.max()
    noise = raw.Line(drawn[:COILS, 0], role="noise")
    path = write(tmp_path / "scan", raw, kind, [noise, *epi_lines(raw, objects(n), n, n)], n)
    scaling = np.sqrt(7680 / n / (TIMES["duration"] / n) / 0.793) * regridding.noise_gain
    assert np.allclose(read_raw(path).noise, scaling * drawn[:COILS, 0], rtol=1e-4)


def numbers(**changes: Any) -> dict[str, float]:
    told = {"ramp-up time": 30, "flat-top time": 60, "ramp-down time": 30, "delay of the first sample": 10,
            "duration of the readout": 100, "number of samples after regridding": 32}  # fmt: skip
    return {name: value for name, value in {**told, **changes}.items() if value is not None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("missing", "told"), [
    ("up", "ramp-up time"), ("flat", "flat-top time"), ("down", "ramp-down time"),
    ("delay", "delay of the first sample"), ("duration", "duration of the readout"),
])  # fmt: skip
def test_a_header_that_lacks_a_number(tmp_path: Path, raw: Any, kind: str, missing: str, told: str) -> None:
    path = write(tmp_path / "scan", raw, kind, epi_lines(raw, objects(32), 32, 32), 32, **{missing: None})
    with pytest.raises(ScanError, match=f"scan: .*sampled on its gradient ramps.*the header lacks: {told}"):
        read_raw(path)
    assert f"the header lacks: {told}" in inspect_raw(path).cannot[0]


@pytest.mark.parametrize(("changes", "told"), [
    ({"delay of the first sample": 30}, "a readout of 100 µs after 30 µs, a gradient of 120 µs"),
    ({"ramp-down time": 60}, "10 µs of gradient before the readout, 40 µs after it"),
    ({"ramp-up time": -5}, "times below 0"),
    ({"flat-top time": 3e6}, "longer than a second"),
    ({"duration of the readout": 0}, "a readout of 0 µs"),
    ({"duration of the readout": 80, "delay of the first sample": 20}, r"2\.5 µs per sample .* 3\.12 µs by the dwell"),
    ({"number of samples": 64}, "64 samples in the header, 32 in the lines"),
    ({"number of samples after regridding": 10**6}, r"1e\+06 samples after regridding"),
    ({"delay of the first sample": 0, "duration of the readout": 0.9, "ramp-up time": 0, "flat-top time": 0,
      "ramp-down time": 0}, "no gradient during the readout"),
    ({"regridding mode": 4}, r"no trapezoid \(regridding mode 4\)"),
])  # fmt: skip
def test_numbers_that_contradict_each_other(changes: dict[str, float], told: str) -> None:
    assert read_trapezoid(numbers(), n_samples=32, dwell_us=3.125).n == 32
    dwell_us = 0 if changes.get("duration of the readout") == 0.9 else 3.125
    with pytest.raises(ScanError, match=f"sampled on its gradient ramps.*{told}"):
        read_trapezoid(numbers(**changes), n_samples=32, dwell_us=dwell_us)


def test_too_few_samples_for_the_field_of_view() -> None:
    shape = read_trapezoid(numbers(), n_samples=32, dwell_us=0)
    with pytest.raises(ScanError, match="27 pixels are resolved, 32 are needed"):
        make_regridding(shape, kept=32, offset=0)


@pytest.mark.parametrize("kind", KINDS)
def test_lines_that_are_not_whole_readouts(tmp_path: Path, raw: Any, kind: str) -> None:
    lines = epi_lines(raw, objects(32), 32, 32)
    for changes, told in (({"before": 3}, "are to be discarded"), ({"centre": 8}, "its echo is asymmetric")):
        path = write(tmp_path / "scan", raw, kind, [replace(line, **changes) for line in lines], 32)
        with pytest.raises(ScanError, match=f"sampled on its gradient ramps.*{told}"):
            read_raw(path)


def test_lines_that_twix_marks_as_not_to_be_regridded(tmp_path: Path, raw: Any) -> None:
    truth = objects(32)
    lines = raw.lines(measured(truth, uniform(32), 32))
    path = write(tmp_path / "scan", raw, "VD", [replace(line, role="even") for line in lines], 32)
    assert np.allclose(read_raw(path, remove_oversampling=False).kspace, measured(truth, uniform(32), 32), atol=1e-6)
    path = write(tmp_path / "scan", raw, "VD", [replace(lines[0], role="even"), *lines[1:]], 32)
    with pytest.raises(ScanError, match="but only in some of the lines"):
        read_raw(path)
