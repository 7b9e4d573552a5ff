"""DICOM series in and out: every slice in its place, the header told the truth, what makes no volume refused."""

import errno
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from sn2nlib import cli
from sn2nlib.denoiser import Denoiser, UNet25D, choose_axis, denoise_image
from sn2nlib.denoiser.checkpoint import save_model
from sn2nlib.errors import ChoiceError, ImageError
from sn2nlib.scans import check_dicom_output, is_dicom, proportion, read_dicom, write_dicom
from sn2nlib.scans.dicom import series_affine
from sn2nlib.scans.dicom.files import ENHANCED_MR, MR, Header
from sn2nlib.scans.raw.given import image_affine

PATIENT = ("Vermeer^Jan", "PID-4711", "19320501", "SN-998877")  # name, ID, birth date, serial number: invented
SLICES, ROWS, COLUMNS = 6, 10, 8
SHAPE = (SLICES, COLUMNS, ROWS)  # of the volume: right, anterior, superior
SPACING, STEP = (0.9, 0.7), 1.1  # mm: between rows, between columns, between slices
N_MUTANTS = 50  # of a header
ORIGIN = np.array([-31.25, 12.5, 48.75])


def directions(tilt: float = 0.3) -> np.ndarray:
    """Row, column and normal of an oblique sagittal series, in patient coordinates."""
    c, s = np.cos(tilt), np.sin(tilt)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    row, column = turn @ [0, 1, 0], turn @ [0, 0, -1]
    row, column = np.round(row, 6), np.round(column, 6)
    return np.array([row, column, np.cross(row, column)])


def numbers(kind: str) -> np.ndarray:
    """Stored numbers (slice, row, column), without two alike along any axis."""
    ramp = np.arange(SLICES * ROWS * COLUMNS).reshape(SLICES, ROWS, COLUMNS)
    return ramp.astype(kind) if kind.startswith("u") else (ramp - 200).astype(kind)


def base(kind: str, bits: int, *, sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.DeviceSerialNumber = PATIENT
    dataset.PatientSex, dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "O", "1", "", ""
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = dataset.AcquisitionDate = "20200102"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = dataset.AcquisitionTime = "101112"
    dataset.Modality, dataset.Manufacturer, dataset.SeriesDescription = "MR", "Nobody", "t1_mprage_sag"
    dataset.ManufacturerModelName, dataset.SoftwareVersions = "None", "1"
    dataset.SeriesNumber, dataset.PatientPosition, dataset.PositionReferenceIndicator = 7, "HFS", ""
    dataset.BodyPartExamined, dataset.Laterality = "BRAIN", ""
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = ROWS, COLUMNS, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * np.dtype(kind).itemsize, bits, bits - 1
    dataset.PixelRepresentation = 0 if kind.startswith("u") else 1
    dataset.WindowCenter, dataset.WindowWidth = "120", "240"
    dataset.LossyImageCompression = "00"
    private = dataset.private_block(0x0029, "SN2N TEST", create=True)
    private.add_new(1, "LO", "kept")
    return dataset


def classic(
    folder: Path, *, kind: str = "int16", bits: int = 16, rescale: tuple[str, str] | None = None,
    change: Callable[[FileDataset, int], Any] | None = None, stored: np.ndarray | None = None,
    names: str = "file{:03d}", number: int = 7, tilt: float = 0.3,
) -> np.ndarray:
    """Write a classic series, its files in no order; the stored numbers (slice, row, column)."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = numbers(kind) if stored is None else stored
    study, series, frame = (generate_uid(prefix=None) for _ in range(3))
    for place in range(len(stored)):
        dataset = base(kind, bits, sop_class=MR)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"]
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "GR", "SP", ""
        dataset.MRAcquisitionType, dataset.EchoTrainLength, dataset.AcquisitionNumber = "3D", 1, 1
        dataset.RepetitionTime, dataset.EchoTime, dataset.InversionTime, dataset.FlipAngle = "2200", "3.2", "1040", "8"
        dataset.SliceThickness, dataset.SpacingBetweenSlices, dataset.InstanceNumber = str(STEP), str(STEP), place + 1
        dataset.SeriesNumber, dataset.PixelSpacing = number, [str(side) for side in SPACING]
        row, column, normal = directions(tilt)
        dataset.ImageOrientationPatient = [f"{part:.6f}" for part in (*row, *column)]
        dataset.ImagePositionPatient = [f"{part:.5f}" for part in ORIGIN + place * STEP * normal]
        if rescale:
            dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = *rescale, "US"
        unsigned = dataset.PixelRepresentation == 0
        for keyword, value in (("Smallest", stored[place].min()), ("Largest", stored[place].max())):
            dataset[f"{keyword}ImagePixelValue"] = pydicom.DataElement(
                f"{keyword}ImagePixelValue", "US" if unsigned else "SS", int(value)
            )
        dataset.PixelData = stored[place].tobytes()
        dataset["PixelData"].VR = "OW"
        if change is not None and change(dataset, place) is False:
            continue
        pydicom.dcmwrite(folder / names.format((place * 5) % 7), dataset, enforce_file_format=True)
    return stored


def item(**values: Any) -> list[Dataset]:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return [dataset]


def enhanced(path: Path, *, echoes: tuple[float, ...] = (3.2,)) -> np.ndarray:
    """Write an enhanced multi-frame file, its frames backwards; the stored numbers (echo, slice, row, column)."""
    stored = np.stack([numbers("uint16") + 10 * echo for echo in range(len(echoes))]).astype(np.uint16)
    dataset = base("uint16", 12, sop_class=ENHANCED_MR)
    for keyword in ("WindowCenter", "WindowWidth"):
        delattr(dataset, keyword)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = (
        generate_uid(prefix=None) for _ in range(3)
    )
    kind = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    dataset.ImageType, dataset.InstanceNumber, dataset.AcquisitionDateTime = kind, 1, "20200102101112"
    described = {
        "PixelPresentation": "MONOCHROME", "VolumetricProperties": "VOLUME", "VolumeBasedCalculationTechnique": "NONE",
        "ComplexImageComponent": "MAGNITUDE", "AcquisitionContrast": "T1",
    }
    for keyword, value in described.items():
        setattr(dataset, keyword, value)
    dataset.NumberOfFrames = SLICES * len(echoes)
    row, column, normal = directions()
    shared = Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[f"{part:.6f}" for part in (*row, *column)])
    shared.PixelMeasuresSequence = item(
        PixelSpacing=[str(side) for side in SPACING], SliceThickness=str(STEP), SpacingBetweenSlices=str(STEP)
    )
    shared.PixelValueTransformationSequence = item(RescaleSlope="0.5", RescaleIntercept="-20", RescaleType="US")
    shared.MRImageFrameTypeSequence = item(FrameType=kind, **described)
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups, pixels = [], []
    for place in reversed(range(SLICES)):
        for echo, time in enumerate(echoes):
            group = Dataset()
            position = [f"{part:.5f}" for part in ORIGIN + place * STEP * normal]
            group.PlanePositionSequence = item(ImagePositionPatient=position)
            group.FrameContentSequence = item(
                StackID="1", InStackPositionNumber=place + 1, DimensionIndexValues=[place + 1, echo + 1],
                FrameAcquisitionNumber=1,
            )
            group.MREchoSequence = item(EffectiveEchoTime=time)
            groups.append(group)
            pixels.append(stored[echo, place])
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.PixelData = np.stack(pixels).tobytes()
    dataset["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return stored


def expected_affine() -> np.ndarray:
    """RAS+ affine of the array (column, row, slice), by definition."""
    row, column, normal = directions()
    affine = np.eye(4)
    affine[:3] = np.column_stack([row * SPACING[1], column * SPACING[0], normal * STEP, ORIGIN])
    return np.diag([-1, -1, 1, 1]) @ affine


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def datasets(folder: Path) -> list[FileDataset]:
    """All files of a folder, sorted along the normal of the first."""
    found = [pydicom.dcmread(path) for path in folder.iterdir()]
    normal = directions()[2]
    return sorted(found, key=lambda dataset: float(normal @ np.array(dataset.ImagePositionPatient, float)))


@pytest.mark.parametrize(
    ("kind", "bits", "rescale"), [("int16", 16, ("0.25", "-100")), ("uint16", 12, None), ("uint8", 8, ("2", "0"))]
)
def test_a_classic_series_comes_in_as_acquired_and_goes_back(
    kind: str, bits: int, rescale: tuple[str, str] | None, tmp_path: Path
) -> None:
    ramp = numbers("uint16") // 2
    stored = classic(tmp_path / "in", kind=kind, bits=bits, rescale=rescale,
                     stored=ramp.astype(kind) if kind == "uint8" else None)  # fmt: skip
    (tmp_path / "in" / "notes.txt").write_text("no DICOM")
    before = files(tmp_path / "in")
    volume, series = read_dicom(tmp_path / "in")
    slope, intercept = map(float, rescale or (1, 0))
    assert volume.dtype == np.float32 and volume.shape == series.shape == SHAPE
    assert nib.aff2axcodes(series.affine) == ("S", "A", "R")
    for index in [(0, 0, 0), (3, 4, 2), (COLUMNS - 1, ROWS - 1, SLICES - 1)]:
        place = expected_affine() @ [*index, 1]
        x, y, z = np.rint(np.linalg.solve(series.affine, place)[:3]).astype(int)
        assert np.allclose(series.affine @ [x, y, z, 1], place, atol=1e-4)
        assert volume[z, y, x] == slope * stored[index[::-1]] + intercept
    assert series.voxel_size == pytest.approx((STEP, *SPACING[::-1]), abs=1e-4)

    changed = volume.copy()
    changed[2, 3, 4] += 3 * slope
    write_dicom(changed, tmp_path / "out", like=series, derivation="nothing")
    written = np.stack([dataset.pixel_array for dataset in datasets(tmp_path / "out")])
    assert written.dtype == stored.dtype
    assert sorted(np.unique(written.astype(int) - stored).tolist()) == [0, 3]
    again, found = read_dicom(tmp_path / "out")
    assert np.array_equal(again, changed) and np.allclose(found.affine, series.affine, atol=1e-6)
    assert files(tmp_path / "in") == before


def test_the_new_header_tells_what_was_derived_and_keeps_the_rest(tmp_path: Path) -> None:
    classic(tmp_path / "in")
    volume, series = read_dicom(tmp_path / "in")
    write_dicom(volume + 1, tmp_path / "out", like=series, derivation="one added")
    old, new = datasets(tmp_path / "in"), datasets(tmp_path / "out")
    assert len({dataset.SOPInstanceUID for dataset in (*old, *new)}) == 2 * SLICES
    assert len({dataset.SeriesInstanceUID for dataset in new}) == 1
    changed = {
        "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ImageType", "PixelData",
        "DerivationDescription", "DerivationCodeSequence", "SourceImageSequence", "ContributingEquipmentSequence",
        "InstanceCreationDate", "InstanceCreationTime", "SmallestImagePixelValue", "LargestImagePixelValue",
    }  # fmt: skip
    for before, after in zip(old, new, strict=True):
        tags = {element.tag for element in (*before, *after)}
        differing = {tag for tag in tags if tag not in before or tag not in after or before[tag] != after[tag]}
        assert {pydicom.datadict.keyword_for_tag(tag) for tag in differing} == changed
        assert list(after.ImageType) == ["DERIVED", "SECONDARY", "M", "ND", "NORM"]
        assert (after.SeriesNumber, after.SeriesDescription) == (1007, "t1_mprage_sag sN2N")
        assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
        assert after.SeriesInstanceUID != before.SeriesInstanceUID
        [source] = after.SourceImageSequence
        assert (source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID) == (MR, before.SOPInstanceUID)
        assert after.DerivationDescription == "one added"
        [equipment] = after.ContributingEquipmentSequence
        assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("sn2n", "0.1.0")
        assert after.SmallestImagePixelValue == after.pixel_array.min() == before.pixel_array.min() + 1
        assert after.LargestImagePixelValue == after.pixel_array.max()


@pytest.mark.parametrize(
    ("kind", "bits", "lowest", "highest"),
    [("uint16", 12, 0, 4095), ("int16", 12, -2048, 2047), ("uint8", 8, 0, 255), ("int16", 16, -32768, 32767)],
)
def test_values_beyond_what_the_pixels_hold_are_stored_at_their_ends(
    kind: str, bits: int, lowest: int, highest: int, tmp_path: Path
) -> None:
    stored = classic(tmp_path / "in", kind=kind, bits=bits, stored=(numbers("uint16") // 2).astype(kind))
    volume, series = read_dicom(tmp_path / "in")
    volume[0], volume[-1] = -1e6, 1e6
    number = 2 * volume[0].size
    with pytest.warns(UserWarning, match=f"^{number} of {volume.size} voxels .* lie outside"):
        write_dicom(volume, tmp_path / "out", like=series, derivation="nothing")
    new = datasets(tmp_path / "out")
    assert {(dataset.BitsStored, dataset.HighBit) for dataset in new} == {(bits, bits - 1)}
    again, _ = read_dicom(tmp_path / "out")
    assert np.array_equal(again, np.clip(volume, lowest, highest))
    written = np.stack([dataset.pixel_array for dataset in new])
    assert written.dtype == stored.dtype and (written.min(), written.max()) == (lowest, highest)
    assert min(dataset.SmallestImagePixelValue for dataset in new) == lowest
    assert max(dataset.LargestImagePixelValue for dataset in new) == highest


def test_a_second_derivation_keeps_the_first(tmp_path: Path) -> None:
    classic(tmp_path / "in", change=lambda dataset, _: setattr(dataset, "SeriesDescription", "x" * 64))
    for start, end in (("in", "once"), ("once", "twice")):
        volume, series = read_dicom(tmp_path / start)
        write_dicom(volume, tmp_path / end, like=series, derivation=f"made of {start}")
    new = datasets(tmp_path / "twice")[0]
    assert new.DerivationDescription == "made of once; before: made of in"
    assert len(new.ContributingEquipmentSequence) == 2
    assert len(new.SeriesDescription) == 64 and new.SeriesDescription.endswith("x sN2N")
    [source] = new.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == datasets(tmp_path / "once")[0].SOPInstanceUID


@pytest.mark.parametrize("given", ["file", "folder"])
def test_an_enhanced_file_keeps_its_frames(given: str, tmp_path: Path) -> None:
    [stored] = enhanced(tmp_path / "in" / "multi.dcm")
    volume, series = read_dicom(tmp_path / "in" / "multi.dcm" if given == "file" else tmp_path / "in")
    classic(tmp_path / "same", kind="uint16", bits=12, rescale=("0.5", "-20"))
    expected, place = read_dicom(tmp_path / "same")
    assert np.array_equal(volume, expected) and np.allclose(series.affine, place.affine)
    write_dicom(volume + 0.5, tmp_path / "out", like=series, derivation="half a unit added")
    [path] = (tmp_path / "out").iterdir()
    old, new = pydicom.dcmread(tmp_path / "in" / "multi.dcm"), pydicom.dcmread(path)
    assert np.array_equal(new.pixel_array, old.pixel_array + 1)
    assert np.array_equal(new.pixel_array[::-1], stored + 1)
    assert list(new.ImageType) == ["DERIVED", "PRIMARY", "M", "FILTERED"]
    assert new.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0].FrameType == new.ImageType
    assert new.SOPInstanceUID != old.SOPInstanceUID and new.SeriesInstanceUID != old.SeriesInstanceUID
    for number, (before, after) in enumerate(
        zip(old.PerFrameFunctionalGroupsSequence, new.PerFrameFunctionalGroupsSequence, strict=True), 1
    ):
        [told] = after.DerivationImageSequence
        assert told.SourceImageSequence[0].ReferencedFrameNumber == number
        assert told.SourceImageSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
        del after.DerivationImageSequence
        assert after == before


def test_the_place_of_a_series_goes_to_raw_data_of_the_same_scan(tmp_path: Path) -> None:
    """Axes (readout, lines, partitions); the columns count the lines where the rows are the phase encoding."""
    classic(tmp_path / "series")
    enhanced(tmp_path / "one" / "image.dcm")
    classic(tmp_path / "rows", change=lambda dataset, _: setattr(dataset, "InPlanePhaseEncodingDirection", "ROW"))
    wanted = expected_affine()
    for path in ("series", "one"):
        affine, shape = series_affine(tmp_path / path)
        np.testing.assert_allclose(affine, wanted, atol=1e-4)
        assert shape == (COLUMNS, ROWS, SLICES)
        np.testing.assert_array_equal(image_affine(tmp_path / path, (SLICES, ROWS, COLUMNS)), affine)
    affine = image_affine(tmp_path / "rows", (SLICES, COLUMNS, ROWS))
    np.testing.assert_allclose(affine, wanted[:, [1, 0, 2, 3]], atol=1e-4)
    with pytest.raises(ChoiceError, match="take an image of this scan"):
        image_affine(tmp_path / "rows", (SLICES, ROWS, COLUMNS))


def test_the_place_needs_no_pixels_but_none_that_disagree(tmp_path: Path) -> None:
    def stripped(dataset: FileDataset, _: int) -> None:
        dataset.Rows, dataset.Columns = 512, 384
        del dataset.PixelData

    classic(tmp_path / "stripped", change=stripped)
    affine, shape = series_affine(tmp_path / "stripped")
    np.testing.assert_allclose(affine, expected_affine(), atol=1e-4)
    assert shape == (384, 512, SLICES)
    with pytest.raises(ImageError, match="holds fewer pixels than its header says"):
        read_dicom(tmp_path / "stripped")
    classic(tmp_path / "small", change=lambda dataset, _: delattr(dataset, "PixelData"))
    assert series_affine(tmp_path / "small")[1] == (COLUMNS, ROWS, SLICES)
    with pytest.raises(ImageError, match="holds no pixels"):
        read_dicom(tmp_path / "small")
    for name, n_bytes, told in (("fewer", 150, "pixels are damaged or incomplete"), ("more", 320, "holds more pixels")):
        classic(tmp_path / name, change=put(PixelData=bytes(n_bytes)))
        with pytest.raises(ImageError, match=told):
            series_affine(tmp_path / name)


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_a_series_that_was_made_here_is_known(kind: str, tmp_path: Path) -> None:
    (classic if kind == "classic" else enhanced)(tmp_path / "in")
    volume, series = read_dicom(tmp_path / "in")
    write_dicom(volume, tmp_path / "out", like=series, derivation="nothing")
    assert not series.denoised and read_dicom(tmp_path / "out")[1].denoised


def test_one_of_several_volumes_is_chosen(tmp_path: Path) -> None:
    stored = enhanced(tmp_path / "in.dcm", echoes=(9.5, 3.2))
    with pytest.raises(ImageError, match=r"holds 2 volumes: 1: echo time in ms 3\.2 \(6 slices\); 2: .* --volume"):
        read_dicom(tmp_path / "in.dcm")
    with pytest.raises(ImageError, match="has no volume 3, but 2 volumes"):
        read_dicom(tmp_path / "in.dcm", volume=3)
    volume, series = read_dicom(tmp_path / "in.dcm", volume=1)
    write_dicom(volume, tmp_path / "out", like=series, derivation="nothing")
    [path] = (tmp_path / "out").iterdir()
    new = pydicom.dcmread(path)
    assert new.NumberOfFrames == len(new.PerFrameFunctionalGroupsSequence) == SLICES
    assert np.array_equal(new.pixel_array[::-1], stored[1])
    assert {group.MREchoSequence[0].EffectiveEchoTime for group in new.PerFrameFunctionalGroupsSequence} == {3.2}
    told = [group.DerivationImageSequence[0] for group in new.PerFrameFunctionalGroupsSequence]
    assert [derived.SourceImageSequence[0].ReferencedFrameNumber for derived in told] == [2, 4, 6, 8, 10, 12]


def test_magnitude_and_phase_in_one_series(tmp_path: Path) -> None:
    stored = classic(tmp_path / "in", names="m{}")
    uid = pydicom.dcmread(tmp_path / "in" / "m0").SeriesInstanceUID

    def phase(dataset: FileDataset, _: int) -> None:
        dataset.SeriesInstanceUID, dataset.ImageType = uid, ["ORIGINAL", "PRIMARY", "P", "ND"]

    classic(tmp_path / "in", names="p{}", change=phase)
    with pytest.raises(ImageError, match=r"image type ORIGINAL/PRIMARY/M/ND/NORM .* image type ORIGINAL/PRIMARY/P/ND"):
        read_dicom(tmp_path / "in")
    with pytest.raises(ImageError, match="holds phase"):
        read_dicom(tmp_path / "in", volume=2)
    volume, series = read_dicom(tmp_path / "in", volume=1)
    write_dicom(volume, tmp_path / "out", like=series, derivation="nothing")
    assert np.array_equal(np.stack([dataset.pixel_array for dataset in datasets(tmp_path / "out")]), stored)


def test_one_of_several_series_is_chosen(tmp_path: Path) -> None:
    classic(tmp_path / "in" / "a", number=3)
    stored = classic(tmp_path / "in" / "b", number=12, kind="uint16", bits=12)[:5]
    (next((tmp_path / "in" / "b").iterdir())).with_name("more").write_text("x")
    message = r"holds 2 series: series 3 \(6 images of 10 × 8\); series 12 \(6 images of 10 × 8\); choose .* --series"
    with pytest.raises(ImageError, match=message):
        read_dicom(tmp_path / "in")
    with pytest.raises(ImageError, match="has no series 4, but series 3"):
        read_dicom(tmp_path / "in", series=4)
    _, series = read_dicom(tmp_path / "in", series=12)
    assert {frame.path.parent.name for frame in series.frames} == {"b"} and len(stored) == 5
    classic(tmp_path / "in" / "c", number=3)
    with pytest.raises(ImageError, match="some carry the same number or none"):
        read_dicom(tmp_path / "in", series=3)


def drop(*places: int) -> Callable[[FileDataset, int], Any]:
    return lambda dataset, place: place not in places


def put(**values: Any) -> Callable[[FileDataset, int], Any]:
    """Change tags in the file of the slice 2, or of all where a name begins with every_."""

    def change(dataset: FileDataset, place: int) -> None:
        for keyword, value in values.items():
            if keyword.startswith("every_") or place == 2:
                setattr(dataset, keyword.removeprefix("every_"), value)

    return change


def one_slice(**values: Any) -> Callable[[FileDataset, int], Any]:
    """The first slice alone, of a 2D acquisition, 3 mm thick, the next one planned 3.6 mm on."""

    def change(dataset: FileDataset, place: int) -> bool:
        dataset.MRAcquisitionType, dataset.SliceThickness, dataset.SpacingBetweenSlices = "2D", "3", "3.6"
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        return place == 0

    return change


def shift(dataset: FileDataset, place: int) -> None:
    position = np.array(dataset.ImagePositionPatient, float) + place * 0.4 * directions()[0]
    dataset.ImagePositionPatient = [f"{part:.5f}" for part in position]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(2), r"slices are missing \(1\), the first after slice 2 of the 5 found \(every 1\.1 mm, 2\.2 mm there\)"),
        (drop(1, 2, 4), "unevenly|missing"),
        (drop(0, 1, 2, 3, 4), "holds one slice only, of a 3D acquisition, which has several; give the folder of the"),
        (one_slice(InstanceNumber=6), "holds one slice only, number 6 of several"),
        (one_slice(ImagesInAcquisition=24), "holds one slice only, of an acquisition of 24 images"),
        (one_slice(SliceThickness=None, SpacingBetweenSlices="0"), "does not say how thick its only slice is"),
        (put(ImagePositionPatient=["0", "0", "0"]), "unevenly|missing"),
        (put(ImageOrientationPatient=["1", "0", "0", "0", "1", "0"]), "not parallel, as in a localizer"),
        (put(every_ImageOrientationPatient=["1", "0", "0", "0.8", "0.6", "0"]), "not at right angles"),
        (put(PixelSpacing=["0.9", "0.8"]), "pixels of different or impossible size, 0.9 × 0.7, 0.9 × 0.8 mm"),
        (put(every_PixelSpacing=["0", "0.8"]), "impossible size"),
        (put(Rows=8, PixelData=b"\0" * 128), "slices of different size, 8 × 8, 10 × 8"),
        (shift, "do not lie straight above each other"),
        (put(PixelData=b"\0" * 150), "pixels are damaged or incomplete"),
        (put(every_Rows=60000, every_Columns=60000), "holds fewer pixels than its header says"),
        (put(every_Rows=ROWS - 1), "holds more pixels than its header says"),
        (put(SamplesPerPixel=3, PhotometricInterpretation="RGB"), r"holds colour \(RGB\)"),
        (put(HighBit=13), "16 of 16 bits up to bit 13"),
        (put(ImagePositionPatient=None), "lacks ImagePositionPatient"),
        (put(RescaleSlope="0", RescaleIntercept="0"), "the slope must not be 0"),
        (put(every_ImageType=["ORIGINAL", "PRIMARY", "P", "ND"]), "holds phase"),
        (put(every_ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "holds mosaics"),
        (put(every_SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), r"holds no MR images, but CT Image Storage \(6\)"),
    ],
)  # fmt: skip
def test_what_makes_no_volume_is_refused(
    change: Callable[[FileDataset, int], Any], message: str, tmp_path: Path
) -> None:
    classic(tmp_path / "in", change=change, names="Vermeer^Jan{:03d}")
    with pytest.raises(ImageError, match=message) as caught:
        read_dicom(tmp_path / "in")
    told = str(caught.value)
    assert str(tmp_path / "in") in told and "\n" not in told
    assert not any(part in told for part in (*PATIENT, "20200102"))


def test_a_series_of_one_slice_is_a_volume_of_one(tmp_path: Path) -> None:
    stored = classic(tmp_path / "in", change=one_slice())
    volume, series = read_dicom(tmp_path / "in")
    wanted = expected_affine()
    wanted[:3, 2] *= 3 / STEP
    assert volume.shape == series.shape == (1, COLUMNS, ROWS)
    for column, row in [(0, 0), (4, 7), (COLUMNS - 1, ROWS - 1)]:
        place = wanted @ [column, row, 0, 1]
        x, y, z = np.rint(np.linalg.solve(series.affine, place)[:3]).astype(int)
        assert np.allclose(series.affine @ [x, y, z, 1], place, atol=1e-4) and volume[z, y, x] == stored[0, row, column]
    assert series.voxel_size == pytest.approx((3, *SPACING[::-1]), abs=1e-4)
    write_dicom(volume + 1, tmp_path / "out", like=series, derivation="one added")
    [new] = datasets(tmp_path / "out")
    assert np.array_equal(new.pixel_array, stored[0] + 1) and list(new.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert np.allclose(read_dicom(tmp_path / "out")[1].affine, series.affine, atol=1e-6)
    np.testing.assert_allclose(image_affine(tmp_path / "in", (1, ROWS, COLUMNS)), wanted, atol=1e-4)
    [file] = (tmp_path / "in").iterdir()
    for read in (read_dicom, series_affine):
        with pytest.raises(ImageError, match=r"one slice only, and cannot say whether its series has more; give the"):
            read(file)
    classic(tmp_path / "unspaced", change=one_slice(SliceThickness=None))
    assert read_dicom(tmp_path / "unspaced")[1].voxel_size[0] == pytest.approx(3.6, abs=1e-4)


def test_echoes_of_one_slice_are_volumes_of_one(tmp_path: Path) -> None:
    classic(tmp_path / "in", change=one_slice(ImagesInAcquisition=2), names="a{}")
    uid = pydicom.dcmread(tmp_path / "in" / "a0").SeriesInstanceUID
    second = one_slice(ImagesInAcquisition=2, InstanceNumber=2, EchoTime="9.5", SeriesInstanceUID=uid)
    classic(tmp_path / "in", change=second, names="b{}")
    assert read_dicom(tmp_path / "in", volume=2)[0].shape == (1, COLUMNS, ROWS)


def test_an_enhanced_file_of_one_frame_is_whole(tmp_path: Path) -> None:
    stored = enhanced(tmp_path / "all.dcm")
    dataset = pydicom.dcmread(tmp_path / "all.dcm")
    dataset.PerFrameFunctionalGroupsSequence = [dataset.PerFrameFunctionalGroupsSequence[-1]]
    dataset.NumberOfFrames, dataset.PixelData = 1, stored[0, 0].tobytes()
    dataset.save_as(tmp_path / "one.dcm", enforce_file_format=True)
    volume, series = read_dicom(tmp_path / "one.dcm")
    assert volume.shape == (1, COLUMNS, ROWS) and series.voxel_size[0] == pytest.approx(STEP, abs=1e-4)
    np.testing.assert_allclose(series_affine(tmp_path / "one.dcm")[0], expected_affine(), atol=1e-4)


def test_slices_twice_are_refused(tmp_path: Path) -> None:
    classic(tmp_path / "in")
    for name in ("file000", "file003"):
        shutil.copy(tmp_path / "in" / name, tmp_path / "in" / f"copy_of_{name}")
    with pytest.raises(ImageError, match=r"slices lie where another slice of the series lies \(2 of 8\)"):
        read_dicom(tmp_path / "in")


def test_two_series_under_one_uid_are_refused(tmp_path: Path) -> None:
    classic(tmp_path / "in", names="a{}")
    uid = pydicom.dcmread(tmp_path / "in" / "a0").SeriesInstanceUID
    classic(tmp_path / "in", names="b{}", tilt=0.2, change=put(every_SeriesInstanceUID=uid))
    with pytest.raises(ImageError, match=r"slices lie where another|not parallel|2 volumes"):
        read_dicom(tmp_path / "in")


def test_doubts_are_said(tmp_path: Path) -> None:
    classic(tmp_path / "late", change=drop(0, 1))
    with pytest.warns(UserWarning, match="numbered from 3; are some missing at the beginning"):
        read_dicom(tmp_path / "late")
    classic(tmp_path / "sparse", change=drop(1, 3, 5))
    with pytest.warns(UserWarning, match=r"slices lie 2\.2 mm apart where the header says 1\.1 mm"):
        read_dicom(tmp_path / "sparse")
    classic(tmp_path / "mixed", change=put(every_SpacingBetweenSlices=str(2 * STEP)))
    with pytest.warns(UserWarning, match=r"1\.1 mm apart where the header says 2\.2 mm; are two series mixed"):
        read_dicom(tmp_path / "mixed")
    classic(tmp_path / "numbers", change=put(InstanceNumber=1))
    with pytest.warns(UserWarning, match="some slices carry the same number; are two series mixed"):
        read_dicom(tmp_path / "numbers")
    classic(tmp_path / "places", change=put(FrameOfReferenceUID="1.2.3"))
    with pytest.warns(UserWarning, match="its slices name 2 frames of reference; are two series mixed"):
        read_dicom(tmp_path / "places")
    classic(tmp_path / "silent", change=put(FrameOfReferenceUID=""))
    read_dicom(tmp_path / "silent")
    classic(tmp_path / "part", change=put(StudyInstanceUID=""))
    with pytest.raises(ImageError, match="some of its files name a study, others none"):
        read_dicom(tmp_path / "part")


@pytest.mark.parametrize(("keyword", "message"), [
    ("StudyInstanceUID", "its files name 2 studies, but one series"),
    ("SOPInstanceUID", "some of its images carry the same UID"),
])  # fmt: skip
def test_files_that_cannot_be_of_one_series(tmp_path: Path, keyword: str, message: str) -> None:
    def change(dataset: FileDataset, place: int) -> None:
        if keyword == "SOPInstanceUID":
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        elif place == 2:
            setattr(dataset, keyword, "1.2.3")

    classic(tmp_path / "in", change=change)
    with pytest.raises(ImageError, match=message):
        read_dicom(tmp_path / "in")


def test_paths_without_a_series_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "Vermeer^Jan.txt").write_text("no DICOM")
    (tmp_path / "fake.dcm").write_text("no DICOM")
    (tmp_path / "nothing.dcm").write_bytes(b"")
    (tmp_path / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM\x02\0\0\0UL")
    for name, message in (
        ("empty", "none of the 0 files in it is a DICOM file"),
        ("text", "none of the 1 files in it is a DICOM file"),
        ("fake.dcm", "this is not, or it is damaged, a DICOM file"),
        ("nothing.dcm", "a DICOM file"),
        ("cut.dcm", r"cut\.dcm: "),
    ):
        assert is_dicom(tmp_path / name)
        with pytest.raises(ImageError, match=message) as caught:
            read_dicom(tmp_path / name)
        assert "Vermeer" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="there is no DICOM file or folder"):
        read_dicom(tmp_path / "absent")
    assert not is_dicom(tmp_path / "absent") and not is_dicom(tmp_path / "text" / "Vermeer^Jan.txt")


def test_what_may_have_been_a_slice_is_named(tmp_path: Path) -> None:
    """The last slice, which no gap tells from one that was never there."""
    classic(tmp_path / "in")
    last = tmp_path / "in" / "file004"
    whole = last.read_bytes()
    at = whole.rindex(MR.encode())  # in the header; before it the beginning of the file says the same
    other_class = whole[:at] + MR.replace("5.1.4.1", "5.1.4.2", 1).encode() + whole[at + len(MR) :]
    without, broken = whole[:128] + bytes(4) + whole[132:], whole.replace(MR.encode(), MR.replace(".", "?").encode())
    for content in (without, broken, other_class):
        last.write_bytes(content)
        with pytest.raises(ImageError, match=r"file 4 of 6 in .*: the DICOM file is damaged"):
            read_dicom(tmp_path / "in")
    last.write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 6 files are empty and left out"):
        volume, _ = read_dicom(tmp_path / "in")
    assert volume.shape == (SLICES - 1, *SHAPE[1:])
    other = pydicom.dcmread(BytesIO(whole))
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    other.save_as(last)
    with pytest.warns(UserWarning, match=r"1 of 6 files belong to the series .* Secondary Capture Image Storage \(1\)"):
        read_dicom(tmp_path / "in")
    other.SeriesInstanceUID = generate_uid(prefix=None)  # as it should be: nothing to say
    other.save_as(tmp_path / "in" / "other")
    other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    del other.SOPClassUID
    other.save_as(tmp_path / "in" / "DICOMDIR")
    last.write_bytes(whole)
    assert read_dicom(tmp_path / "in")[0].shape == SHAPE


def test_images_are_told_from_others_without_comparing_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a series of 2,000 slices it would be two million comparisons."""
    classic(tmp_path / "in")
    monkeypatch.setattr(Header, "__eq__", lambda *_: pytest.fail("two headers are compared"))
    assert read_dicom(tmp_path / "in")[0].shape == SHAPE


@pytest.mark.parametrize("call", [1, SLICES + 1], ids=["header", "pixels"])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EIO, os.strerror(errno.EIO)), OSError),
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE)), OSError),
        (MemoryError(), MemoryError),
        (OSError("No tag to read at file position 2B0"), ImageError),  # as pydicom says it of a damaged file
    ],
)
def test_a_disk_that_fails_is_no_damaged_file(
    call: int, error: Exception, told: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classic(tmp_path / "in", names="Vermeer^Jan{:03d}")
    parse, calls = pydicom.dcmread, []

    def failing(*arguments: Any, **options: Any) -> FileDataset:
        calls.append(arguments)
        if len(calls) == call:
            raise error
        return parse(*arguments, **options)

    monkeypatch.setattr(pydicom, "dcmread", failing)
    with pytest.raises(told) as caught:
        read_dicom(tmp_path / "in")
    assert type(caught.value) is told and len(calls) == call
    if told is OSError:
        assert caught.value.errno == error.errno
        assert caught.value.filename == f"file 1 of 6 in {tmp_path / 'in'}"


def test_a_false_length_takes_no_memory(tmp_path: Path, hostile: Any) -> None:
    """Of the pixels, which are the last in a file and all there, and of a value that is followed by others."""
    classic(tmp_path / "in")
    path = tmp_path / "in" / "file000"
    pixels, value, following = b"\xe0\x7f\x10\x00OW\0\0", b"\x08\x00\x01\x00UN\0\0", b"\x08\x00\x08\x00CS"
    whole = path.read_bytes().replace(following, value + bytes(4) + following, 1)
    for start, wanted in ((pixels, "ok"), (value, "damaged")):
        at = whole.index(start) + len(start)
        path.write_bytes(whole[:at] + b"\xf0\xff\xff\xff" + whole[at + 4 :])
        told = hostile.in_child(lambda: hostile.tried(tmp_path / "in", [fault_of_series], secrets=PATIENT))
        assert wanted in told and "FAULT" not in told


def fault_of_series(path: Path) -> str | None:
    """What is wrong with a series of which a file is damaged, as it is read and as it is written."""
    out = path.with_name(f"of_{path.name}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        volume, series = read_dicom(path)
        write_dicom(volume, out, like=series, derivation="nothing", overwrite=True)
        again, _ = read_dicom(out)
    told = [str(warning.message) for warning in caught]
    ours = (str(path), str(out))
    if foreign := [words for words in told if not words.startswith(ours) and "number format of the input" not in words]:
        return f"a library says {foreign}"
    if volume.shape != SHAPE and not any("left out" in words for words in told):
        return f"a volume of {volume.shape} of a series of {SHAPE} without a word of it"
    if not volume.shape == series.shape == again.shape or not np.isfinite(volume).all():
        return f"volumes of {volume.shape}, {series.shape}, {again.shape}, largest {np.abs(volume).max()}"
    return None


def fault_of_place(path: Path) -> str | None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        affine, shape = series_affine(path)
    known = shape == (COLUMNS, ROWS, SLICES) or any("left out" in str(warning.message) for warning in caught)
    return None if known and np.isfinite(affine).all() else f"{shape} in a series of {SHAPE}, {affine}"


@pytest.mark.parametrize("name", ["file003", "file004", "multi.dcm"])
def test_headers_with_flipped_bits(name: str, tmp_path: Path, hostile: Any) -> None:
    """A slice within a classic series, its last slice, or the enhanced file: a series, or a sentence without a name."""
    slots = [tmp_path / f"slot{number}" for number in range(os.cpu_count() or 1)]
    if name == "multi.dcm":
        enhanced(slots[0] / name)
    else:
        classic(slots[0], kind="uint16", bits=12, rescale=("0.5", "-20"))
    for slot in slots[1:]:
        shutil.copytree(slots[0], slot)

    def work(path: Path) -> str:
        return str(hostile.tried(path.parent, [fault_of_series, fault_of_place], secrets=(*PATIENT, "20200102")))

    def place(number: int) -> Path:
        return slots[number] / name

    whole = place(0).read_bytes()
    assert hostile.in_child(lambda: work(place(0))) == "ok"
    header = len(whole) - 2 * ROWS * COLUMNS * (SLICES if name == "multi.dcm" else 1)
    outcomes = hostile.check(hostile.flipped(whole, [(128, header - 3)], N_MUTANTS, seed=7), place, work)
    refused = sum(line != "ok" for line in outcomes.values())
    assert len(outcomes) == N_MUTANTS and 0.1 * N_MUTANTS < refused < 0.95 * N_MUTANTS
    outcomes = hostile.check(hostile.truncated(whole), place, work)
    read = [cut for cut, line in outcomes.items() if line == "ok"]
    assert len(outcomes) == 11 and read == (["empty"] if name == "file004" else [])  # which is left out, and named


def test_compressed_input(tmp_path: Path) -> None:
    def lossless(dataset: FileDataset, _: int) -> None:
        dataset.compress(RLELossless, generate_instance_uid=False)

    stored = classic(tmp_path / "rle", kind="uint16", bits=12, change=lossless)
    volume, series = read_dicom(tmp_path / "rle")
    write_dicom(volume, tmp_path / "out", like=series, derivation="nothing")
    new = datasets(tmp_path / "out")
    assert np.array_equal(np.stack([dataset.pixel_array for dataset in new]), stored)
    assert {dataset.file_meta.TransferSyntaxUID for dataset in new} == {ExplicitVRLittleEndian}

    def lossy(dataset: FileDataset, _: int) -> None:
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"  # JPEG lossless

    classic(tmp_path / "jpeg", kind="uint16", bits=12, change=lossy)
    with pytest.raises(ImageError, match=r"compressed as JPEG Lossless.* no decoder is installed; run .*pylibjpeg"):
        read_dicom(tmp_path / "jpeg")


def test_compressed_input_out_of_proportion_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lossless(dataset: FileDataset, _: int) -> None:
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.Rows = dataset.Columns = 60000

    def deflated(dataset: FileDataset, _: int) -> None:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.private_block(0x0029, "SN2N TEST").add_new(2, "OB", bytes(2**22))

    message = r"file 1 of 6 in .*: would take \d+ MiB of memory or more, out of proportion to a file of \d+ bytes"
    classic(tmp_path / "rle", kind="uint16", bits=12, change=lossless)
    with pytest.raises(ImageError, match=message):
        read_dicom(tmp_path / "rle")
    stored = classic(tmp_path / "deflated", change=deflated)
    assert read_dicom(tmp_path / "deflated")[0].size == stored.size
    monkeypatch.setattr(proportion, "_ALWAYS", 2**22)
    with pytest.raises(ImageError, match=message):
        series_affine(tmp_path / "deflated")


@pytest.mark.parametrize(
    ("syntax", "told"),
    [
        ("1.2.840.10008.1.2.4.100", "compressed as MPEG2 .* no decoder is installed"),
        ("1.2.840.10008.5.1.4.34.5", "damaged or incomplete"),  # no transfer syntax
        ("1.2.3.4", "damaged or incomplete"),  # nobody's
    ],
)
def test_encodings_that_pydicom_does_not_read_are_told(syntax: str, told: str, tmp_path: Path) -> None:
    def compressed(dataset: FileDataset, _: int) -> None:
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"

    classic(tmp_path / "unknown", kind="uint16", bits=12, change=compressed)
    for path in (tmp_path / "unknown").iterdir():  # pydicom would not write it
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.100\0", syntax.encode().ljust(24, b"\0")))
    with pytest.raises(ImageError, match=told):
        read_dicom(tmp_path / "unknown")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_transfer_syntaxes_are_kept(syntax: pydicom.uid.UID, tmp_path: Path) -> None:
    def encode(dataset: FileDataset, place: int) -> None:
        dataset.file_meta.TransferSyntaxUID = syntax
        if not syntax.is_little_endian:
            dataset.PixelData = numbers("int16")[place].astype(">i2").tobytes()

    stored = classic(tmp_path / "in", change=encode)
    volume, series = read_dicom(tmp_path / "in")
    write_dicom(volume + 1, tmp_path / "out", like=series, derivation="one added")
    new = datasets(tmp_path / "out")
    assert {dataset.file_meta.TransferSyntaxUID for dataset in new} == {syntax}
    assert np.array_equal(np.stack([dataset.pixel_array for dataset in new]), stored + 1)
    assert new[0].private_block(0x0029, "SN2N TEST")[1].value in ("kept", b"kept")


def padded(value: int, limit: int | None = None) -> Callable[[FileDataset, int], Any]:
    """Mark stored numbers as no part of the image: one, or all between two."""

    def change(dataset: FileDataset, _: int) -> None:
        kind = "SS" if dataset.PixelRepresentation else "US"
        dataset["PixelPaddingValue"] = pydicom.DataElement("PixelPaddingValue", kind, value)
        if limit is not None:
            dataset["PixelPaddingRangeLimit"] = pydicom.DataElement("PixelPaddingRangeLimit", kind, limit)

    return change


def test_padding_and_range(tmp_path: Path) -> None:
    stored = numbers("int16") + 600
    stored[:, :3] = -2000
    classic(tmp_path / "in", stored=stored, change=padded(-2000), bits=12)
    volume, series = read_dicom(tmp_path / "in")
    assert volume.min() == 0 and np.count_nonzero(volume == 0) == SLICES * 3 * COLUMNS
    with pytest.warns(UserWarning, match="lie outside what the number format of the input can hold"):
        write_dicom(np.where(volume > 800, 5000, volume + 0.4), tmp_path / "out", like=series, derivation="more")
    written = np.stack([dataset.pixel_array for dataset in datasets(tmp_path / "out")])
    assert (written[:, :3] == -2000).all()
    assert np.array_equal(written, np.where(stored > 800, 2**11 - 1, stored))


@pytest.mark.parametrize("kind", ["int16", "uint16"])
@pytest.mark.parametrize("limits", [(0, 1), (1, 0)], ids=["upward", "downward"])
def test_a_range_of_padding_keeps_its_numbers(kind: str, limits: tuple[int, int], tmp_path: Path) -> None:
    ends = (-2000, -1900) if kind == "int16" else (0, 90)
    stored = (numbers("int16") + 300).astype(kind)
    rng = np.random.default_rng(0)
    stored[:, :3] = rng.integers(*ends, (SLICES, 3, COLUMNS), endpoint=True)
    stored[:, 0, :2] = ends
    stored[:, -1, 0] = ends[1] + 1  # belongs to the image
    padding = (ends[limits[0]], ends[limits[1]])
    classic(tmp_path / "in", kind=kind, stored=stored, change=padded(*padding), bits=12, rescale=("0.5", "7"))
    volume, series = read_dicom(tmp_path / "in")
    assert np.count_nonzero(volume == 0) == np.count_nonzero(series.padding) == SLICES * 3 * COLUMNS
    write_dicom(volume + 2, tmp_path / "out", like=series, derivation="one added")
    new = datasets(tmp_path / "out")
    written = np.stack([dataset.pixel_array for dataset in new])
    assert np.array_equal(written[:, :3], stored[:, :3])
    assert np.array_equal(written[:, 3:], stored[:, 3:] + 4)
    assert {(dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit) for dataset in new} == {padding}


def test_outputs_are_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classic(tmp_path / "in")
    volume, series = read_dicom(tmp_path / "in")
    out = tmp_path / "out"
    for bad, error, message in (
        (volume[1:], ImageError, "does not fit the series"),
        (volume * np.nan, ImageError, "NaN or Inf"),
    ):
        with pytest.raises(error, match=message):
            write_dicom(bad, out, like=series, derivation="x")
    save, calls = FileDataset.save_as, []

    def full(dataset: FileDataset, path: Path, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 4:
            raise OSError(28, os.strerror(28))
        save(dataset, path, **options)

    monkeypatch.setattr(FileDataset, "save_as", full)
    with pytest.raises(OSError, match="The disk is full"):
        write_dicom(volume, out, like=series, derivation="x")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    write_dicom(volume, out, like=series, derivation="x")
    first = files(out)
    with pytest.raises(FileExistsError, match="not empty"):
        write_dicom(volume, out, like=series, derivation="x")
    assert files(out) == first
    write_dicom(volume, out, like=series, derivation="x", overwrite=True)
    assert files(out).keys() == first.keys() and files(out) != first
    (out / "mine.txt").write_text("keep")
    with pytest.raises(ImageError, match="holds other files than an earlier result"):
        write_dicom(volume, out, like=series, derivation="x", overwrite=True)
    assert (out / "mine.txt").exists() and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("case", ["all foreign", "one foreign", "no DICOM", "renamed", "a folder"])
def test_what_another_program_wrote_is_never_replaced(case: str, tmp_path: Path) -> None:
    classic(tmp_path / "in")
    volume, series = read_dicom(tmp_path / "in")
    out = tmp_path / "out"
    if case == "all foreign":  # under the names that this package gives, as other exporters do
        classic(out, names="IM{:05d}.dcm")
    else:
        write_dicom(volume, out, like=series, derivation="x")
        write_dicom(volume, out, like=series, derivation="x", overwrite=True)
        file = out / "IM00003.dcm"
        file.rename(out / "IMG3.dcm") if case == "renamed" else file.unlink()
        if case == "one foreign":
            shutil.copy(tmp_path / "in" / "file003", file)
        elif case == "no DICOM":
            file.write_text("keep")
        elif case == "a folder":
            file.mkdir()
    before = files(out)
    with pytest.raises(ImageError, match="holds other files than an earlier result; choose another folder"):
        write_dicom(volume, out, like=series, derivation="x", overwrite=True)
    assert files(out) == before and sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_outputs_never_touch_the_input(tmp_path: Path) -> None:
    classic(tmp_path / "study" / "in")
    source = tmp_path / "study" / "in"
    for out, message in (
        (source, "overlaps with the input"), (source / "new", "overlaps"), (tmp_path / "study", "overlaps"),
        (tmp_path / "new.nii.gz", "becomes a folder of files"),
    ):  # fmt: skip
        with pytest.raises(ImageError, match=message):
            check_dicom_output(out, source=source, overwrite=True)
    check_dicom_output(tmp_path / "study" / "new", source=source)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that nobody has trained."""
    folder = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = UNet25D(width=4, depth=1)
        torch.nn.init.normal_(network.last.weight, std=0.1)
    save_model(folder, network.state_dict(), {"architecture": network.architecture, "alpha": None})
    return folder


def sn2n(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


@pytest.mark.filterwarnings("default")
def test_the_command_makes_a_series_of_a_series(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = classic(tmp_path / "in", kind="uint16", bits=12, names="Vermeer^Jan{:03d}")
    before = files(tmp_path / "in")
    run = ("denoise", tmp_path / "in")
    assert sn2n(*run, tmp_path / "out", "--model", model) == 0
    told = capsys.readouterr()
    volume, series = read_dicom(tmp_path / "in")
    planes = choose_axis(series.voxel_size, volume.shape)
    chosen = f"Planes: {planes}, chosen from the geometry; --axis chooses others\n"
    share = "α = 0.3, the paper's, since none was chosen for the model\n"
    assert told.out == f"{chosen}{share}Series: {tmp_path / 'out'}\n" and "planes" in told.err
    new = datasets(tmp_path / "out")
    taken = f"0.30 x original + 0.70 x output of a network over {planes} planes, trained by MR-self Noise2Noise"
    assert taken in new[0].DerivationDescription
    network = Denoiser.load(model)
    with pytest.warns(UserWarning, match="not isotropic"):
        better = denoise_image(network, volume, voxel_size=series.voxel_size)
    again, _ = read_dicom(tmp_path / "out")
    assert np.abs(again - np.clip(better, 0, 4095)).max() <= 0.5
    assert not np.array_equal(np.stack([dataset.pixel_array for dataset in new]), stored)
    assert sn2n(*run, tmp_path / "same", "--model", model, "--alpha", 1, "--axis", "axial") == 0
    assert capsys.readouterr().out.startswith("Planes: axial, as asked\nα = 1, as asked\n")
    assert "over axial planes" in datasets(tmp_path / "same")[0].DerivationDescription
    assert np.array_equal(np.stack([dataset.pixel_array for dataset in datasets(tmp_path / "same")]), stored)
    assert files(tmp_path / "in") == before
    for name in ("a.nii", "a.h5"):
        (tmp_path / name).write_text("not read before the options are refused")
    capsys.readouterr()
    for arguments, message in (
        ((*run, tmp_path / "out"), "not empty"), ((*run, tmp_path / "in"), "overlaps with the input"),
        ((*run, tmp_path / "new", "--series", 9), "has no series 9, but series 7 (6 images of 10 × 8)"),
        ((*run, tmp_path / "new", "--volume", 2), "has no volume 2, but one alone; leave --volume out"),
        (("denoise", tmp_path / "a.nii", tmp_path / "b.nii", "--series", 1), "--series and --volume choose from"),
        (("denoise", tmp_path / "a.h5", tmp_path / "b.nii", "--axis", "axial"), "--axis is for images"),
    ):  # fmt: skip
        assert sn2n(*arguments, "--model", model) == 1
        told = capsys.readouterr()
        assert message in told.err and told.err.count("\n") == 1 and told.out == ""
        assert not any(part in told.err for part in PATIENT)
    assert sn2n(*run, tmp_path / "new", "--axis", "oblique", "--model", model) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.nii", "in", "out", "same"]


@pytest.mark.filterwarnings("default")
def test_the_command_denoises_a_series_of_one_slice(model: Path, tmp_path: Path) -> None:
    stored = classic(tmp_path / "in", kind="uint16", bits=12, change=one_slice())
    assert sn2n("denoise", tmp_path / "in", tmp_path / "out", "--model", model) == 0
    [new] = datasets(tmp_path / "out")
    assert new.pixel_array.shape == stored[0].shape and not np.array_equal(new.pixel_array, stored[0])
    assert new.ImagePositionPatient == datasets(tmp_path / "in")[0].ImagePositionPatient


def error_lines(program: Path, path: Path) -> set[str]:
    told = subprocess.run([program, path], capture_output=True, text=True, errors="replace", timeout=60, check=False)
    return {line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")}


@pytest.mark.parametrize("kind", ["int16", "uint16", "padding", "one slice", "enhanced", "two echoes"])
def test_dciodvfy_finds_no_new_error(kind: str, tmp_path: Path, require: Callable[..., Path]) -> None:
    program = require("dciodvfy")
    if kind in ("enhanced", "two echoes"):
        enhanced(tmp_path / "in" / "multi.dcm", echoes=(3.2,) if kind == "enhanced" else (3.2, 9.5))
    elif kind == "padding":
        classic(tmp_path / "in", bits=12, change=padded(-200, -100))
    else:
        stored_as, change = ("uint16", one_slice()) if kind == "one slice" else (kind, None)
        rescale = ("0.25", "-100") if kind == "int16" else None
        classic(tmp_path / "in", kind=stored_as, bits=12, rescale=rescale, change=change)
    volume, series = read_dicom(tmp_path / "in", volume=2 if kind == "two echoes" else None)
    write_dicom(volume + 1, tmp_path / "out", like=series, derivation="one added")
    before = set().union(*(error_lines(program, path) for path in (tmp_path / "in").iterdir()))
    for path in (tmp_path / "out").iterdir():
        assert error_lines(program, path) - before == set()
    broken = pydicom.dcmread(path)
    del broken.Rows
    broken.save_as(tmp_path / "broken.dcm")
    assert error_lines(program, tmp_path / "broken.dcm") - before, "dciodvfy no longer reports errors as lines"


@pytest.mark.parametrize("kind", ["classic", "one slice", "enhanced"])
def test_dcm2niix_finds_the_same_geometry(kind: str, tmp_path: Path, require: Callable[..., Path]) -> None:
    program = require("dcm2niix")
    if kind != "enhanced":
        classic(tmp_path / "in", rescale=("0.25", "-100"), change=one_slice() if kind == "one slice" else None)
    else:
        enhanced(tmp_path / "in" / "multi.dcm")
    volume, series = read_dicom(tmp_path / "in")
    write_dicom(volume, tmp_path / "out", like=series, derivation="nothing")
    images = []
    for name in ("in", "out"):
        target = tmp_path / f"nifti_{name}"
        target.mkdir()
        subprocess.run([program, "-b", "n", "-f", "image", "-o", target, tmp_path / name],
                       capture_output=True, timeout=60, check=True)  # fmt: skip
        [path] = target.glob("*.nii")
        images.append(nib.load(path))
    corners = np.array(np.meshgrid(*((0, size - 1) for size in images[0].shape), [1])).reshape(4, -1)
    assert np.abs(images[0].affine @ corners - images[1].affine @ corners).max() < 1e-4
    assert np.array_equal(images[0].get_fdata(), images[1].get_fdata())
    # and it is the geometry that we read: the same value at the same place
    inverse = np.linalg.inv(images[1].affine)
    for z, y, x in [(0, 0, 0), (min(2, len(volume) - 1), 3, 4), tuple(size - 1 for size in volume.shape)]:
        exact = (inverse @ series.affine @ [x, y, z, 1])[:3]
        assert np.abs(exact - np.rint(exact)).max() < 1e-3
        assert images[1].get_fdata()[tuple(np.rint(exact).astype(int))] == pytest.approx(volume[z, y, x], abs=1e-3)
