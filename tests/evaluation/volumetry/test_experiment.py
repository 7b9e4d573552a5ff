"""The experiment with a small program as its engine: files, resumption, rows; and labels made elsewhere."""

import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from sn2nlib.errors import SegmentationError
from sn2nlib.evaluation.volumetry import experiment
from sn2nlib.evaluation.volumetry.command import CommandSegmenter, Template
from sn2nlib.evaluation.volumetry.elsewhere import export_images, from_folder
from sn2nlib.evaluation.volumetry.engine import TISSUES
from sn2nlib.evaluation.volumetry.experiment import (
    COLUMNS,
    Case,
    all_rows,
    case_name,
    identity,
    load_segmentation,
    scan_cases,
    scan_rows,
    segment_cases,
)
from sn2nlib.evaluation.volumetry.measures import complete_pairs

SIZE = (10.0, 10.0, 10.0)  # mm: a voxel is one millilitre
AFFINE = np.array([[0, 0, 10.0, -60], [0, 10.0, 0, -70], [10.0, 0, 0, -80], [0, 0, 0, 1]])
LEVELS = (0.0, 3.0)
# intensity 100, 200, 300 → label 1, 2, 3; counts its calls
PROGRAM = """
import sys
from pathlib import Path
import nibabel as nib
import numpy as np

with open(Path(__file__).with_name("calls"), "a") as log:
    log.write("x")
image = nib.load(sys.argv[1])
nib.save(nib.Nifti1Image(np.rint(image.get_fdata() / 100).astype(np.uint8), image.affine), sys.argv[2])
"""


def labels(moved: int = 0) -> np.ndarray:
    """Slabs of 504 mL CSF, 672 mL GM, 504 mL WM; the boundary of GM and WM moved by some planes of 168 mL."""
    made = np.zeros((12, 14, 16), np.uint8)
    made[:, :, 2:5], made[:, :, 5:9], made[:, :, 9:12] = 1, 2, 3
    made[:, :, 9 : 9 + moved] = 2
    return made


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """What notebook 05 keeps of a scan: the reference, the noise-free image, both arms at two levels."""
    path = tmp_path / "D167.npz"
    lost = labels()
    lost[lost == 2] = 3  # no grey matter at all
    content = {
        "full_sampled": labels(), "noise_free": labels(), "original_0": labels(1), "sN2N_0": labels(),
        "original_3": labels(1), "sN2N_3": lost,
    }  # fmt: skip
    np.savez(path, **{name: (100.0 * each).astype(np.float16) for name, each in content.items()})
    return path


@pytest.fixture
def engine(tmp_path: Path) -> CommandSegmenter:
    return made_engine(tmp_path)


def made_engine(folder: Path, version: str = "1") -> CommandSegmenter:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    command = f"'{sys.executable}' '{program}' {{input}} {{output}}"
    template = Template(
        name="Slabs", version=version, command=command, tissue={"CSF": 1, "GM": 2, "WM": 3}, note="trial"
    )
    return CommandSegmenter(template, "tissue")


def calls(folder: Path) -> int:
    path = folder / "calls"
    return len(path.read_text()) if path.is_file() else 0


def test_memory_decides_how_many_images_are_segmented_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "cpu_count", lambda: 8)
    found = {}
    for gigabytes in (1, 8, 64):
        monkeypatch.setattr(experiment, "usable_memory", lambda limit=gigabytes: limit * 10**9)
        found[gigabytes] = [experiment.workers_for_segmenting(voxels) for voxels in (128 * 160**2, 256 * 328**2)]
    assert found == {1: [1, 1], 8: [2, 1], 64: [8, 7]}


def test_code_that_turns_images_or_reads_atlases_decides_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    before = experiment.code_digest()
    read = Path.read_bytes
    for name, counts in (("images", True), ("atlas", True), ("mixture", True), ("measures", False)):
        changed = lambda path, name=name: read(path) + (b"#" if path.stem == name else b"")  # noqa: E731
        monkeypatch.setattr(Path, "read_bytes", changed)
        assert (experiment.code_digest() != before) == counts


def test_names_of_cases(images: Path) -> None:
    cases = scan_cases("D167", images, levels=LEVELS, affine=AFFINE)
    assert [case.name for case in cases] == [
        "D167_full_sampled", "D167_truth", "D167_original_0", "D167_sN2N_0", "D167_original_3", "D167_sN2N_3",
    ]  # fmt: skip
    assert case_name("D167", "sN2N", 0.5) == "D167_sN2N_0.5"
    assert cases[1].image().dtype == np.float32 and cases[1].image().max() == 300


def test_a_killed_run_goes_on_and_nothing_old_is_used(tmp_path: Path, images: Path, engine: CommandSegmenter) -> None:
    cases = scan_cases("D167", images, levels=LEVELS, affine=AFFINE)[:3]
    folder, said = tmp_path / "labels", []
    files = segment_cases(cases, {"tissue": engine}, folder, workers=1, report=said.append)
    assert calls(tmp_path) == 3 and all(path.is_file() for path in files.values())
    assert said[0] == "3 images, 0 segmented before; 3 by 1 process(es)"
    assert re.fullmatch(r"1/3 D167_full_sampled: tissue \d+ s, plausible; about \d+\.\d min left", said[1])
    assert len(said) == 4
    made = load_segmentation(files["D167_original_0", "tissue"])
    np.testing.assert_array_equal(made.labels, labels(1))
    assert (made.engine, made.version, made.note, made.names) == ("Slabs", "1", "trial", TISSUES)

    files["D167_truth", "tissue"].unlink()  # as if killed before
    again = segment_cases(cases, {"tissue": engine}, folder, workers=1, report=said.append)
    assert again == files and calls(tmp_path) == 4
    assert "3 images, 2 segmented before; 1 by 1 process(es)" in said

    newer = made_engine(tmp_path, version="2")
    other = segment_cases(cases[:1], {"tissue": newer}, folder, workers=1, report=said.append)
    assert other["D167_full_sampled", "tissue"] != files["D167_full_sampled", "tissue"]
    assert not files["D167_full_sampled", "tissue"].exists() and calls(tmp_path) == 5
    assert files["D167_truth", "tissue"].exists()  # of another case

    with np.load(images) as stored:
        content = dict(stored)
    content["noise_free"][0, 0, 3] += 1
    np.savez(images, **content)
    moved = segment_cases(cases[1:2], {"tissue": engine}, folder, workers=1, report=said.append)
    assert moved["D167_truth", "tissue"] != files["D167_truth", "tissue"] and calls(tmp_path) == 6


def test_settings_of_an_engine_identify_it(tmp_path: Path, engine: CommandSegmenter) -> None:
    found = identity(engine)
    assert (found["name"], found["version"], found["kind"]) == ("Slabs", "1", "tissue")
    assert found["settings"]["table"] == [[1, 1], [2, 2], [3, 3]]

    class WithoutSettings:
        name, version, kind, note = "Other", "3", "tissue", ""

        def __init__(self, beta: float) -> None:
            self.beta, self.structures = beta, dict(TISSUES)

        def __call__(self, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
            return image.astype(np.uint8)

    assert identity(WithoutSettings(0.1)) == identity(WithoutSettings(0.1)) != identity(WithoutSettings(0.2))


def test_rows_of_a_scan(tmp_path: Path, images: Path, engine: CommandSegmenter) -> None:
    """Two processes; the image without grey matter fails and takes its pair with it."""
    cases = scan_cases("D167", images, levels=LEVELS, affine=AFFINE)
    said: list[str] = []
    files = segment_cases(cases, {"tissue": engine}, tmp_path / "labels", workers=2, report=said.append)
    assert any(re.search(r"D167_sN2N_3: tissue \d+ s, failed: empty: GM", line) for line in said)
    job_options = {"kinds": ["tissue"], "levels": LEVELS, "voxel_size": SIZE}
    rows = all_rows([job_options | {"scan": "D167", "files": files, "truth": {"tissue": labels(1)}}])
    assert list(rows) == list(COLUMNS) and len(rows) == 3 * 2 * 3 * 3

    def row(**wanted: object) -> dict[str, object]:
        found = rows
        for column, value in wanted.items():
            found = found[found[column] == value]
        assert len(found) == 1
        return {str(key): value for key, value in found.iloc[0].items()}

    against = {"reference": "full_sampled", "noise_sigma": 0.0, "structure": "GM"}
    assert row(arm="sN2N", **against)["dice"] == 1
    original = row(arm="original", **against)
    assert original["dice"] == pytest.approx(2 * 672 / (672 + 840)) and original["bias_percent"] == pytest.approx(25)
    assert original["volume_ml"] == pytest.approx(840) and original["hd95_mm"] == pytest.approx(10)
    assert row(arm="truth", **against)["dice"] == 1
    # against the true labels, which look like the original's
    truth = {"reference": "truth", "noise_sigma": 0.0, "structure": "GM"}
    assert row(arm="original", **truth)["dice"] == 1 and row(arm="full_sampled", **truth)["dice"] < 1
    # the truth has CSF beyond the mask of the labels
    wide = labels()
    wide[:, :, 1] = 1
    against_wide = pd.DataFrame(scan_rows("D167", files, **(job_options | {"truth": {"tissue": wide}})))
    csf = against_wide[(against_wide["structure"] == "CSF") & (against_wide["noise_sigma"] == 0)]
    dice = csf[csf["arm"] == "sN2N"].set_index("reference")["dice"]
    assert dice["truth"] == pytest.approx(2 * 3 / (3 + 4)) and dice["truth_in_mask"] == 1
    failed = row(arm="sN2N", reference="full_sampled", noise_sigma=3.0, structure="WM")
    assert failed["failure"] == "empty: GM" and np.isnan(failed["dice"])  # type: ignore[call-overload]
    kept, excluded = complete_pairs(rows.assign(set="quantitative"))
    assert set(kept["noise_sigma"]) == {0.0} and len(excluded) == 3
    assert set(excluded["reason"]) == {"sN2N: empty: GM"}


def test_an_image_that_no_engine_can_take_fails_alone(tmp_path: Path, images: Path, engine: CommandSegmenter) -> None:
    with np.load(images) as stored:
        content = dict(stored)
    content["sN2N_3"][0, 0, 3] = np.inf  # as a voxel beyond float16
    content["original_3"][:] = 0
    np.savez(images, **content)
    cases = scan_cases("D167", images, levels=LEVELS, affine=AFFINE)
    said: list[str] = []
    files = segment_cases(cases, {"tissue": engine}, tmp_path / "labels", workers=1, report=said.append)
    assert any(re.search(r"D167_sN2N_3: tissue \d+ s, failed: the image to segment holds NaN or Inf", s) for s in said)
    job = {"scan": "D167", "files": files, "kinds": ["tissue"], "levels": LEVELS, "voxel_size": SIZE}
    kept, excluded = complete_pairs(all_rows([job]).assign(set="quantitative"))
    assert set(kept["noise_sigma"]) == {0.0} and len(excluded) == 1
    assert "original: the image to segment is constant (0)" in excluded["reason"].iloc[0]
    assert load_segmentation(files["D167_sN2N_3", "tissue"]).labels.shape == labels().shape


def test_a_failed_reference_fails_its_comparisons(tmp_path: Path, images: Path, engine: CommandSegmenter) -> None:
    cases = scan_cases("D167", images, levels=(0.0,), affine=AFFINE)
    lost = Case("D167", "full_sampled", 0.0, images, "sN2N_3", AFFINE)
    said: list[str] = []
    files = segment_cases([lost, *cases[2:]], {"tissue": engine}, tmp_path / "l", workers=1, report=said.append)
    common = {"kinds": ["tissue"], "levels": (0.0,), "voxel_size": SIZE, "truth": {"tissue": labels()}}
    rows = scan_rows("D167", files, **common)  # type: ignore[arg-type]
    failures = {(row["reference"], row["arm"]): row["failure"] for row in rows}
    assert failures["full_sampled", "original"] == failures["full_sampled", "sN2N"] == "its reference: empty: GM"
    assert failures["truth", "original"] == "" and failures["truth", "full_sampled"] == "empty: GM"
    assert ("full_sampled", "truth") not in failures  # no ceiling without the noise-free image


def test_labels_made_elsewhere(tmp_path: Path, images: Path, engine: CommandSegmenter) -> None:
    cases = scan_cases("D167", images, levels=LEVELS, affine=AFFINE)
    written = export_images(cases, tmp_path / "images")
    assert [path.name for path in written][:3] == [
        "D167_full_sampled.nii.gz", "D167_truth.nii.gz", "D167_original_0.nii.gz",
    ]  # fmt: skip
    with pytest.raises(FileExistsError, match=r"D167_full_sampled\.nii\.gz exists"):
        export_images(cases, tmp_path / "images")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for case, path in zip(cases, written, strict=True):
        image = nib.load(path)
        array = np.rint(image.get_fdata() / 100).astype(np.int16)  # type: ignore[attr-defined]
        turned = nib.Nifti1Image(array, image.affine).as_reoriented(  # type: ignore[attr-defined]
            nib.orientations.ornt_transform(
                nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("LPS")  # type: ignore[attr-defined]
            )
        )
        if case.arm != "truth":
            nib.save(turned, folder / f"{case.name}_tissue.nii.gz")
    (folder / "engines.yaml").write_text(yaml.safe_dump({"tissue": {"name": "Theirs", "version": "7"}}))
    adopted = from_folder(folder, cases, tmp_path / "adopted")
    assert set(adopted) == {(case.name, "tissue") for case in cases if case.arm != "truth"}
    ours = segment_cases(cases, {"tissue": engine}, tmp_path / "ours", workers=1, report=lambda line: None)
    for key, path in adopted.items():
        theirs, own = load_segmentation(path), load_segmentation(ours[key])
        np.testing.assert_array_equal(theirs.labels, own.labels)
        assert (theirs.engine, theirs.version, theirs.failure) == ("Theirs", "7", own.failure)


def test_a_folder_that_lacks_something(tmp_path: Path, images: Path) -> None:
    cases = scan_cases("D167", images, levels=LEVELS, affine=AFFINE)
    with pytest.raises(SegmentationError, match=r"engines\.yaml is missing: it names the engine and the version"):
        from_folder(tmp_path, cases, tmp_path / "adopted")
    for content, message in (
        ("tissue: {name: A}", r"engines\.yaml: tissue\.version: Field required"),
        ("vessels: {name: A, version: '1'}", r"engines\.yaml: vessels"),
        ("{}", "names no engine; it needs tissue, subcortical or both"),
        ("tissue: [", "not a YAML file"),
    ):
        (tmp_path / "engines.yaml").write_text(content)
        with pytest.raises(SegmentationError, match=message):
            from_folder(tmp_path, cases, tmp_path / "adopted")
    (tmp_path / "engines.yaml").write_text("tissue: {name: A, version: '1'}")
    with pytest.raises(SegmentationError, match=r"lacks D167_full_sampled_tissue\.nii\.gz, D167_original_0_tissue"):
        from_folder(tmp_path, cases, tmp_path / "adopted")
