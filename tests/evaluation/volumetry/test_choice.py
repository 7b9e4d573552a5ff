"""Which engines are chosen, and how they are named."""

import pickle
from pathlib import Path

import pytest
import yaml

from sn2nlib.errors import ProfileError, SegmentationError
from sn2nlib.evaluation.volumetry.choice import SECOND, choose_engines, engine_name, second_atlas, told
from sn2nlib.evaluation.volumetry.experiment import identity
from sn2nlib.evaluation.volumetry.subcortical import AtlasSubcortical


@pytest.fixture
def fsl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like FSL's."""
    for name in ("fslreorient2std", "bet", "fast", "run_first_all"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    monkeypatch.setenv("FSLDIR", str(tmp_path))
    return tmp_path


def names(setting: str) -> dict[str, str]:
    return {kind: engine.name for kind, engine in choose_engines(setting).items()}


def test_auto_takes_fsl_where_it_is(fsl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names("auto") == names("fsl") == {"tissue": "FSL FAST", "subcortical": "FSL FIRST"}
    assert names("built-in")["tissue"].startswith("built-in")
    (fsl / "bin" / "run_first_all").unlink()
    assert names("auto") == names("built-in")
    monkeypatch.delenv("FSLDIR")
    assert names("auto") == names("built-in")
    with pytest.raises(SegmentationError, match="FSL is not installed"):
        choose_engines("fsl")


def test_a_template_gives_the_kinds_it_has(tmp_path: Path) -> None:
    content = {"name": "Mine", "version": "2", "command": "cp {input} {output}", "tissue": {"CSF": 1, "GM": 2, "WM": 3}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    engines = choose_engines(str(tmp_path / "mine.yaml"))
    assert told(engines) == {"tissue": "Mine, 2"} and second_atlas(engines) == {}


def test_other_words_are_refused() -> None:
    with pytest.raises(ProfileError, match="there is no engine 'spm'; known are 'auto', 'built-in', 'fsl', or name a"):
        choose_engines("spm")


def test_the_second_atlas_is_another_one() -> None:
    engines = choose_engines("built-in")
    second = second_atlas(engines)
    assert list(second) == [SECOND]
    assert identity(second[SECOND]) != identity(engines["subcortical"])
    assert "FIRST substitute" in told(engines)["subcortical"] and "FIRST substitute" in told(second)[SECOND]
    assert second_atlas({"subcortical": AtlasSubcortical(atlas="desikan_killiany")}) == {}


def test_engines_travel_to_other_processes() -> None:
    for engine in choose_engines("built-in").values():
        assert identity(pickle.loads(pickle.dumps(engine))) == identity(engine)


def test_names_say_what_the_note_adds() -> None:
    assert engine_name("FSL FAST", "6.0.7") == "FSL FAST, 6.0.7"
    assert engine_name("FIRST substitute (A)", "1", "FIRST substitute; a bound") == "FIRST substitute (A), 1 (a bound)"
