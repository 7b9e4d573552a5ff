"""The header of a derived DICOM image: what DICOM asks to change, and nothing else.

UIDs of series and instances, ImageType, series number and description, derivation, sources, contributing equipment
and creation time change (PS3.3 C.7.6.1, C.12.4, C.7.6.16.2.6). Study, patient, frame of reference, rescaling,
window, compression history, functional groups and all else stay as they are.
"""

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sn2nlib import __version__

from .files import MULTI_FRAME

if TYPE_CHECKING:
    from pydicom import Dataset

SERIES_OFFSET = 1000  # added to the series number, so that the new series sorts behind those of the scanner
_DESCRIPTION = 64  # longest series description that DICOM allows
# they describe pixels that are no longer there: signatures over them, and a small picture of them
_OUTDATED = ("DigitalSignaturesSequence", "MACParametersSequence", "IconImageSequence", "ExtendedOffsetTable",
             "ExtendedOffsetTableLengths")  # fmt: skip
_MODEL_NAME = "sn2n"
_CODES = {
    # no code of the standard stands for noise reduction by a network; "Smoothing" would tell the reader a falsehood
    "derivation": ("SN2N", "99SN2N", "Self-supervised noise reduction"),
    "source": ("121322", "DCM", "Source image for image processing operation"),
    "equipment": ("109102", "DCM", "Processing Equipment"),
}


class NewUids:
    """A new UID for every old one that is asked for, the same whenever it is asked again."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __getitem__(self, old: str) -> str:
        from pydicom.uid import generate_uid

        return self._known.setdefault(str(old), generate_uid(prefix=None))


def derive(dataset: "Dataset", kept: Sequence[int], uids: NewUids, *, derivation: str, suffix: str) -> None:
    """Turn the header of an input file into that of the new one, in place; the pixels stay.

    Parameters
    ----------
    dataset
        The whole input file.
    kept
        Numbers, from 0, of the frames that the new file has; ascending.
    uids
        Shared by all files of the new series.
    derivation
        What was done, in ASCII.
    suffix
        Added to the series description.
    """
    source = dataset.SOPClassUID, dataset.SOPInstanceUID
    enhanced = dataset.SOPClassUID in MULTI_FRAME
    evidence = _evidence(dataset)
    dataset.ImageType = _image_type(dataset.get("ImageType") or [], enhanced=enhanced)
    _new_identity(dataset, uids, suffix)
    if enhanced:
        _derive_frames(dataset, kept, source, derivation)
        dataset.SourceImageEvidenceSequence = [*(dataset.get("SourceImageEvidenceSequence") or []), evidence]
    else:
        _tell_derivation(dataset, [_source(source)], derivation)
    equipment = list(dataset.get("ContributingEquipmentSequence") or [])
    dataset.ContributingEquipmentSequence = [*equipment, _equipment()]
    for keyword in _OUTDATED:
        if keyword in dataset:
            del dataset[keyword]


def is_derived(dataset: "Dataset") -> bool:
    """Whether `derive` made a header, be it with another file as input in between."""
    equipment = dataset.get("ContributingEquipmentSequence") or []
    return any(item.get("ManufacturerModelName") == _MODEL_NAME for item in equipment)


def _image_type(values: Sequence[str], *, enhanced: bool) -> list[str]:
    """DERIVED, SECONDARY, the rest as it was; enhanced MR allows PRIMARY only and names the kind of derivation."""
    rest = list(values[2:])
    if not enhanced:
        return ["DERIVED", "SECONDARY", *rest]
    if rest[1:2] == ["NONE"]:
        rest[1] = "FILTERED"
    return ["DERIVED", *values[1:2], *rest]


def _new_identity(dataset: "Dataset", uids: NewUids, suffix: str) -> None:
    dataset.SOPInstanceUID = uids[dataset.SOPInstanceUID]
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.SeriesInstanceUID = uids[dataset.SeriesInstanceUID]
    for keyword in ("ConcatenationUID", "SOPInstanceUIDOfConcatenationSource"):
        if keyword in dataset:
            setattr(dataset, keyword, uids[dataset[keyword].value])
    try:
        number = int(dataset.SeriesNumber)
    except (AttributeError, TypeError, ValueError):
        number = 0
    dataset.SeriesNumber = number + SERIES_OFFSET
    name = str(dataset.get("SeriesDescription") or "")
    dataset.SeriesDescription = f"{name[: _DESCRIPTION - len(suffix) - 1].rstrip()} {suffix}".strip()
    now = datetime.datetime.now()
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    if "InstanceCreatorUID" in dataset:
        del dataset.InstanceCreatorUID


def _derive_frames(dataset: "Dataset", kept: Sequence[int], source: tuple[str, str], derivation: str) -> None:
    """Keep the functional groups of some frames, and say in each what it was derived from."""
    from pydicom import Dataset

    shared = dataset.SharedFunctionalGroupsSequence[0] if dataset.get("SharedFunctionalGroupsSequence") else Dataset()
    groups = [dataset.PerFrameFunctionalGroupsSequence[number] for number in kept]
    # a group stands either in the shared or in the per-frame groups, never in both
    earlier = list(shared.get("DerivationImageSequence") or [])
    if earlier:
        del shared.DerivationImageSequence
    for item in (*shared.get("MRImageFrameTypeSequence", []), *(
        part for group in groups for part in group.get("MRImageFrameTypeSequence", [])
    )):  # fmt: skip
        item.FrameType = _image_type(item.get("FrameType") or [], enhanced=True)
    for number, group in zip(kept, groups, strict=True):
        told = Dataset()
        _tell_derivation(told, [_source(source, frame=number + 1)], derivation)
        group.DerivationImageSequence = [*earlier, *(group.get("DerivationImageSequence") or []), told]
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.NumberOfFrames = len(kept)


def _tell_derivation(dataset: "Dataset", sources: list["Dataset"], derivation: str) -> None:
    earlier = str(dataset.get("DerivationDescription") or "")
    dataset.DerivationDescription = "; before: ".join(filter(None, (derivation, earlier)))[:1024]
    dataset.DerivationCodeSequence = [_code("derivation"), *(dataset.get("DerivationCodeSequence") or [])]
    dataset.SourceImageSequence = sources


def _source(source: tuple[str, str], *, frame: int | None = None) -> "Dataset":
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source
    if frame is not None:
        item.ReferencedFrameNumber = frame
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = [_code("source")]
    return item


def _evidence(dataset: "Dataset") -> "Dataset":
    """Where the source is found: study, series, instance."""
    from pydicom import Dataset

    study, series, instance = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedSOPSequence = dataset.SeriesInstanceUID, [instance]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = dataset.StudyInstanceUID, [series]
    return study


def _equipment() -> "Dataset":
    from pydicom import Dataset

    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code("equipment")]
    item.Manufacturer = "The sn2n contributors"
    item.ManufacturerModelName = _MODEL_NAME
    item.SoftwareVersions = __version__
    item.ContributionDescription = "Noise reduction by MR-self Noise2Noise"
    return item


def _code(name: str) -> "Dataset":
    from pydicom import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = _CODES[name]
    return item
