"""Inspecting a raw file looks at its headers and leaves the samples where they are."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sn2nlib.errors import ScanError
from sn2nlib.sampling import lattice_mask
from sn2nlib.scans import Scan, save_scan
from sn2nlib.scans.raw import inspect_raw, mrd, read_raw, twix
from sn2nlib.scans.raw.mrd_heads import read_heads

pytestmark = pytest.mark.filterwarnings("ignore:.*left and right follow Siemens")  # has a test of its own
SHAPE = (4, 5, 12, 256)  # coil, kz, ky, sample: lines of 8 KiB
ACCOUNT = Path("/proc/self/io")  # of Linux


def written(raw: Any, folder: Path, kind: str) -> tuple[Path, list[tuple[int, int]]]:
    """A file with a noise scan, and where its samples lie in it: (first byte, byte after the last) of every channel."""
    rng = np.random.default_rng(4)
    kspace = rng.standard_normal((*SHAPE, 2), np.float32).view(np.complex64)[..., 0]
    lines = [raw.Line(kspace[:, 0, 0] / 2, role="noise"), *raw.lines(kspace)]
    path = raw.write(folder / "scan.bin", raw.File(lines, SHAPE[1:], centre=(2, 6)), kind)
    content = path.read_bytes()
    places = [content.index(channel.tobytes()) for line in lines for channel in line.samples]
    return path, [(place, place + 8 * SHAPE[3]) for place in places]


@pytest.mark.parametrize("kind", ["VB", "VD", "MRD"])
def test_the_report_is_the_same_whatever_the_samples_are(tmp_path: Path, raw: Any, kind: str) -> None:
    path, places = written(raw, tmp_path, kind)
    scan, report = read_raw(path), inspect_raw(path)
    content = bytearray(path.read_bytes())
    for start, stop in places:
        content[start:stop] = np.full((stop - start) // 4, np.nan, np.float32).tobytes()
    assert sum(stop - start for start, stop in places) > 0.9 * len(content)
    path.write_bytes(content)
    assert inspect_raw(path) == report
    assert not np.isfinite(scan_samples(path)).any() and np.isfinite(scan.kspace).all()


def scan_samples(path: Path) -> np.ndarray:
    """What reading takes of a file, whose samples no scan would accept."""
    source = (mrd.open_mrd if path.read_bytes().startswith(b"\x89HDF") else twix.open_twix)(path)
    return source.read(np.arange(len(source.lines)))


@pytest.mark.parametrize("kind", ["VB", "VD"])
def test_of_a_twix_file_the_headers_of_the_lines_are_read_alone(
    tmp_path: Path, raw: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines are looked at through a map of the file: of it, no byte of a sample is asked for."""
    path, places = written(raw, tmp_path, kind)
    asked: list[slice] = []

    class Recorded(np.memmap):
        def __getitem__(self, index: Any) -> Any:
            if self.dtype == np.uint8 and isinstance(index, slice):
                asked.append(index)
            return super().__getitem__(index)

    monkeypatch.setattr(np, "memmap", Recorded)
    inspect_raw(path)
    starts, stops = np.array(places).T
    touched = [part for part in asked if ((part.start < stops) & (part.stop > starts)).any()]
    assert len(asked) > SHAPE[1] * SHAPE[2] and not touched
    read_raw(path)
    assert any(((part.start < stops) & (part.stop > starts)).any() for part in asked)  # reading does ask for them


@pytest.mark.skipif(not ACCOUNT.exists(), reason="the system keeps no account of the bytes that a process reads")
@pytest.mark.parametrize("kind", ["VB", "VD", "MRD"])
def test_few_bytes_of_a_file_are_read(tmp_path: Path, raw: Any, kind: str) -> None:
    """Besides the beginning, by which the format is told, a few per cent; lines of twix files are mapped, not read."""
    path, _ = written(raw, tmp_path, kind)
    inspect_raw(path)  # once before, so that whatever is loaded is loaded
    read = {}
    for work in (inspect_raw, read_raw):
        before = bytes_read()
        work(path)
        read[work] = bytes_read() - before
    share = (read[inspect_raw] - 2**16) / path.stat().st_size
    print(f"{kind}: {read[inspect_raw]} bytes of {path.stat().st_size}, to read it all {read[read_raw]}")
    assert share < 0.15
    assert kind != "MRD" or read[read_raw] > 0.9 * path.stat().st_size


@pytest.mark.parametrize(
    "storage", [{}, {"chunks": (1,)}, {"chunks": (7,), "maxshape": (None,)}, {"chunks": (7,), "compression": "gzip"}]
)
def test_headers_are_those_that_hdf5_reads(tmp_path: Path, raw: Any, storage: dict[str, Any]) -> None:
    path, _ = written(raw, tmp_path, "MRD")
    with h5py.File(path, "r+") as file:
        kind, rows = file["dataset/data"].dtype, file["dataset/data"][()]
        del file["dataset/data"]
        data = file["dataset"].create_dataset("data", data=rows, dtype=kind, **storage)
        heads = read_heads(data)
        assert heads.dtype == data.fields("head")[()].dtype and heads.shape == (1 + SHAPE[1] * SHAPE[2],)
        np.testing.assert_array_equal(heads, data.fields("head")[()])
    assert read_raw(path).shape == (5, 12, 128)


def test_acquisitions_that_were_declared_and_not_written(tmp_path: Path, raw: Any) -> None:
    path, _ = written(raw, tmp_path, "MRD")
    with h5py.File(path, "r+") as file:
        kind, row = file["dataset/data"].dtype, file["dataset/data"][1:2]
        data = file["dataset"].create_dataset("few", (20,), dtype=kind, chunks=(4,), maxshape=(None,))
        data[:3] = row
        with pytest.raises(ScanError, match="of 20 acquisitions 16 are not in the file: truncated or damaged file"):
            read_heads(data)


def test_samples_are_read_many_lines_at_a_time(tmp_path: Path, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of HDF5 costs a fraction of a millisecond, and a scan has ten thousands of lines."""
    path, _ = written(raw, tmp_path, "MRD")
    read, asked = h5py.Dataset.__getitem__, [0]

    def counted(dataset: h5py.Dataset, *arguments: Any, **options: Any) -> Any:
        asked[0] += dataset.name == "/dataset/data"
        return read(dataset, *arguments, **options)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    read_raw(path)
    assert 2 <= asked[0] <= 4  # 60 lines of the image, and one of noise


def bytes_read() -> int:
    """By this process so far, through the system's calls."""
    return int(ACCOUNT.read_text().split("rchar: ")[1].split()[0])


@pytest.mark.parametrize(("acceleration", "shift"), [((2, 1), 0), ((1, 2), 0), ((2, 2), 1)])
def test_a_lattice_alone_has_no_calibration_lines(tmp_path: Path, acceleration: tuple[int, int], shift: int) -> None:
    """As `reconstruct` has it; its central line is none."""
    shape = (12, 24)
    for acs in (None, 8):
        mask = lattice_mask(shape, acceleration=acceleration, caipi_shift=shift, acs=acs)
        scan = Scan(np.ones((4, *shape, 16), np.complex64) * mask[:, :, None], mask, acceleration, caipi_shift=shift)
        save_scan(scan, tmp_path / "scan.h5", overwrite=True)
        report = inspect_raw(tmp_path / "scan.h5")
        refused = [told for told in report.cannot if told.startswith("reconstruction: undersampled")]
        assert report.values["calibration"].startswith("integrated" if acs else "none") and bool(refused) == (not acs)
