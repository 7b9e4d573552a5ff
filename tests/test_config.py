"""Study profiles: the shipped ones load, and every fault of a bad one is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sn2nlib.config import PROFILES, load_profile
from sn2nlib.errors import ProfileError
from sn2nlib.scans.sequence import MpRage

MINIMAL: dict[str, Any] = {
    "name": "tiny",
    "seed": 1,
    "acquisition": {"matrix": [8, 9, 10], "voxel_size": [1, 2, 3.5], "coils": 2},
    "training": {"steps": 3},
}


def written(folder: Path, **changes: Any) -> Path:
    """MINIMAL with some keys replaced; a key like `acquisition__coils` reaches into a section."""
    content = {key: dict(value) if isinstance(value, dict) else value for key, value in MINIMAL.items()}
    for name, value in changes.items():
        *sections, key = name.split("__")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["smoke", "demo", "paper"])
def test_the_shipped_profiles_load(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile == load_profile(PROFILES / f"{name}.yaml")
    # what the protocol fixes for all of them
    assert profile.acquisition.acceleration == (2, 1) and profile.acquisition.acs == 24
    assert profile.recon.kernel == (3, 2, 2) and profile.network.slices == 7
    assert profile.noise.training_ratio == (0.02, 0.04) and profile.noise.target_psnr == (41.2, 0.8)
    assert profile.noise_levels == (0, 0.5, 1, 1.5, 2, 2.5, 3)
    assert profile.alphas == tuple(i / 10 for i in range(11))
    MpRage(**profile.acquisition.sequence.model_dump())  # a possible timing
    # the pyramid of the network divides the patches
    assert profile.training.patch % (profile.network.unshuffle * 2**profile.network.depth) == 0


def test_who_is_segmented_at_which_levels() -> None:
    smoke, demo, paper = (load_profile(name).volumetry for name in ("smoke", "demo", "paper"))
    assert len(smoke.scans) == 1 and len(smoke.levels) == 2 and smoke.engine == "built-in"
    assert {"S1"} < set(demo.scans) and len(demo.scans) >= 4 and demo.levels == () and demo.engine == "auto"
    assert paper.scans == () and paper.levels == ()  # all


def test_the_paper_profile_has_the_papers_sizes() -> None:
    acquisition = load_profile("paper").acquisition
    assert acquisition.coils == 64 and acquisition.voxel_size == (0.7, 0.7, 0.7)


def test_a_profile_of_ones_own_by_its_path(tmp_path: Path) -> None:
    profile = load_profile(written(tmp_path, acquisition__sequence={"ti": 900}))
    assert profile.acquisition.matrix == (8, 9, 10) and profile.acquisition.voxel_size == (1, 2, 3.5)
    assert profile.acquisition.sequence.ti == 900 and profile.acquisition.sequence.tr == 2200
    assert load_profile(str(tmp_path / "profile.yaml")) == profile
    assert profile.acquisition.sampling == {
        "acceleration": (2, 1), "caipi_shift": 0, "acs": 24, "partial_fourier": (1, 1)
    }  # fmt: skip
    caipirinha = load_profile(written(tmp_path, acquisition__acceleration=[2, 2], acquisition__caipi_shift=1))
    assert caipirinha.acquisition.sampling["caipi_shift"] == 1
    with pytest.raises(ValidationError, match="frozen"):
        profile.seed = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"network__widht": 8}, r"network\.widht: Extra inputs are not permitted"),
        ({"acquisition__sequence": {"flip": 8}}, r"acquisition\.sequence\.flip: Extra inputs"),
        ({"acquisition__coils": 0}, r"acquisition\.coils: .*greater than or equal to 1"),
        ({"acquisition__coils": None}, r"acquisition\.coils: .*valid integer"),
        ({"acquisition__matrix": [8, 9]}, r"acquisition\.matrix\.2: Field required"),
        ({"acquisition__matrix": [8, 0, 10]}, r"acquisition\.matrix\.1: .*greater than or equal to 1"),
        ({"acquisition__voxel_size": [1, -1, 1]}, r"acquisition\.voxel_size\.1: .*greater than 0"),
        ({"training__extra_noise": -1}, r"training\.extra_noise: .*greater than or equal to 0"),
        ({"acquisition__caipi_shift": 1}, r"acquisition: .*caipi_shift 1 must be smaller than Rz = 1"),
        ({"acquisition__acceleration": [0, 1]}, r"acquisition\.acceleration\.0: .*greater than or equal to 1"),
        ({"acquisition__partial_fourier": [0.5, 1]}, r"acquisition\.partial_fourier\.0: .*greater than 0\.5"),
        ({"recon__ridge": -1.0}, r"recon\.ridge: .*greater than or equal to 0"),
        ({"training__loss": "huber"}, r"training\.loss: .*'l2' or 'l1'"),
        ({"training__ema": 1.0}, r"training\.ema: .*less than 1"),
        ({"training": {}}, r"training\.steps: Field required"),
        ({"alphas": [0, 1.2]}, "alphas lie between 0 and 1"),
        ({"volumetry__levels": [0, 0.7]}, r"levels \(0.0, 0.7\) of volumetry must be among \(0, 0.5, 1"),
        ({"volumetry__levels": [0.5]}, r"levels \(0.5,\) of volumetry need one of figure_levels \(0, 1, 3\)"),
        ({"volumetry__engines": "fsl"}, r"volumetry\.engines: Extra inputs"),
        ({"figure_levels": [0, 7]}, r"figure_levels \(0.0, 7.0\) must be among noise_levels"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(ProfileError, match=message) as caught:
        load_profile(path)
    assert str(path) in str(caught.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile(written(tmp_path, colour="red", acquisition__coils=0, training__steps="many"))
    for place in ("colour", "acquisition.coils", "training.steps"):
        assert place in str(caught.value)


def test_what_is_no_profile(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no profile 'dmeo'; known are demo, paper, smoke"):
        load_profile("dmeo")
    with pytest.raises(ProfileError, match=r"no profile .*absent\.yaml"):
        load_profile(tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("name: [tiny\n")
    with pytest.raises(ProfileError, match=r"broken\.yaml: not valid YAML"):
        load_profile(tmp_path / "broken.yaml")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ProfileError, match=r"empty\.yaml: .*valid dictionary"):
        load_profile(tmp_path / "empty.yaml")
