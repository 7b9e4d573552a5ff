"""The readers' criteria: what the repository says, and what is said about a bad file."""

from pathlib import Path

import pytest
import yaml

from sn2nlib.errors import ManifestError
from sn2nlib.evaluation.readers.criteria import ARMS, load_criteria
from sn2nlib.scans.manifest import manifest_folder

MANIFEST = manifest_folder(Path(__file__).parent)


def test_what_is_scored() -> None:
    criteria = load_criteria(MANIFEST)
    quality = ["overall_quality", "perceived_snr", "contrast", "sharpness", "artifacts"]
    groups = {group: [each.name for each in parameters] for group, parameters in criteria.by_group.items()}
    assert groups["image_quality"] == quality
    assert groups["vessel_wall"] == [f"vwi_{name}" for name in quality]
    assert groups["lesions"] == ["lesion_conspicuity"]
    assert groups["fine_structures"] == [structure.name for structure in criteria.structures]
    assert len(criteria.structures) == 8
    assert {each.case_set for each in criteria.by_group["vessel_wall"]} == {"generalisation"}
    assert criteria.by_name["lesion_conspicuity"].case_set == "lesions"
    assert criteria.arms == ARMS == ("original", "sN2N")


def test_every_score_has_its_own_meaning() -> None:
    for parameter in load_criteria(MANIFEST).parameters:
        assert len(parameter.scale) == len(set(parameter.scale)) == 5


def test_criteria_do_not_name_an_arm() -> None:
    texts = " ".join(path.read_text(encoding="utf-8") for path in (MANIFEST / "readers").glob("*.yaml"))
    assert [word for word in ("sN2N", "original image", "denoise") if word in texts] == []


def copy(folder: Path, **changes: object) -> Path:
    """The criteria of the repository with the first parameter and the first structure changed."""
    (folder / "readers").mkdir()
    for name in ("parameters.yaml", "structures.yaml"):
        entries = yaml.safe_load((MANIFEST / "readers" / name).read_text(encoding="utf-8"))
        entries[0] |= changes.get(name.removesuffix(".yaml"), {})  # type: ignore[arg-type]
        (folder / "readers" / name).write_text(yaml.safe_dump(entries, sort_keys=False), encoding="utf-8")
    return folder


def test_every_bad_entry_is_named(tmp_path: Path) -> None:
    bad = {"group": "quality", "case_set": "all", "scale": {1: "bad", 5: "good"}, "per_structure": True}
    with pytest.raises(ManifestError) as raised:
        load_criteria(copy(tmp_path, parameters=bad))
    assert "4 problem(s)" in str(raised.value)
    for told in ("group = 'quality'", "case_set = 'all'", "what 1, 2, 3, 4 and 5 mean", "per_structure"):
        assert told in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"parameters": {"name": "contrast"}}, "entry 3: name = 'contrast' stands there twice"),
        ({"parameters": {"title": ""}}, "entry 1: no value for 'title'"),
        ({"parameters": {"colour": "red"}}, "entry 1: unknown key 'colour'"),
        ({"structures": {"name": "claustrum"}}, "entry 6: name = 'claustrum' stands there twice"),
        ({"structures": {"name": "sharpness"}}, "'sharpness' stands for more than one parameter"),
    ],
)
def test_bad_entries(tmp_path: Path, changes: dict, told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        load_criteria(copy(tmp_path, **changes))


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        load_criteria(tmp_path)
    (tmp_path / "readers").mkdir()
    (tmp_path / "readers" / "structures.yaml").write_text("a: b", encoding="utf-8")
    with pytest.raises(ManifestError, match="must be a list of entries"):
        load_criteria(tmp_path)
