"""The study profile: everything a run of the study can be told, loaded from one YAML file."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sn2nlib.errors import ProfileError

PROFILES = Path(__file__).resolve().parent.parent / "notebooks" / "profiles"
Count = Annotated[int, Field(ge=1)]
Length = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0.5, le=1)]
Triple = tuple[Count, Count, Count]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SequenceSettings(_Section):
    """MP-RAGE timing in ms and flip angle in degrees, as in `sn2nlib.scans.sequence.MpRage`."""

    tr: float = 2200
    ti: float = 1040
    te: float = 3.2
    flip_angle: float = 8
    echo_spacing: float = 7.5
    turbo: int = 176


class AcquisitionSettings(_Section):
    """The simulated scanner; (z, y, x) = (right, anterior, superior), acceleration and partial Fourier (ky, kz).

    `caipi_shift` above 0 makes the acceleration CAIPIRINHA, see `sn2nlib.sampling.Lattice`.
    """

    matrix: Triple
    voxel_size: tuple[Length, Length, Length]
    coils: int = Field(ge=1)
    acceleration: tuple[Count, Count] = (2, 1)
    caipi_shift: int = Field(default=0, ge=0)
    acs: int = Field(default=24, ge=4)
    partial_fourier: tuple[Share, Share] = (1.0, 1.0)
    sequence: SequenceSettings = SequenceSettings()

    @property
    def sampling(self) -> dict[str, Any]:
        """Keyword arguments of `sn2nlib.scans.undersample`."""
        names = ("acceleration", "caipi_shift", "acs", "partial_fourier")
        return {name: getattr(self, name) for name in names}

    @model_validator(mode="after")
    def _shift_within_the_lattice(self) -> "AcquisitionSettings":
        if self.caipi_shift >= self.acceleration[1] and self.caipi_shift > 0:
            raise ValueError(f"caipi_shift {self.caipi_shift} must be smaller than Rz = {self.acceleration[1]}")
        return self


class NoiseSettings(_Section):
    """Noise of the cohort: SD in the head over intensity scale (training), mean and SD of the PSNR (quantitative)."""

    training_ratio: tuple[float, float] = (0.02, 0.04)
    target_psnr: tuple[float, float] = (41.2, 0.8)


class ReconSettings(_Section):
    """GRAPPA kernel (kx, ky, kz), its ridge, and the Walsh window in voxels."""

    kernel: Triple = (3, 2, 2)
    ridge: float = Field(default=1e-4, ge=0)
    window: int = Field(default=7, ge=1)


class NetworkSettings(_Section):
    """Size of the 2.5D U-Net, and how many mirror images its answer is averaged over."""

    width: int = Field(default=32, ge=1)
    depth: int = Field(default=3, ge=1)
    slices: int = Field(default=7, ge=1)
    unshuffle: int = Field(default=1, ge=1)
    mirrors: Literal[1, 2, 4] = 1


class TrainingSettings(_Section):
    """Noise2Noise training.

    `coarser`: shares of k-space at which the training scans are learnt from as well; `extra_noise`: largest SD, in
    intensity scales, of noise added to the network's input.
    """

    steps: int = Field(ge=1)
    batch: int = Field(default=8, ge=1)
    patch: int = Field(default=96, ge=16)
    learning_rate: float = Field(default=1e-3, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    loss: Literal["l2", "l1"] = "l2"
    balance: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every: int = Field(default=100, ge=1)
    coarser: tuple[Share, ...] = ()
    extra_noise: float = Field(default=0, ge=0)


class VolumetrySettings(_Section):
    """Which test scans are segmented and at which noise levels (empty: all), and by which engines.

    `engine` is "auto" (FSL where it is installed, else the built-in ones), "built-in", "fsl", or the path of a command
    template. Relative paths start at the notebooks folder.
    """

    scans: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    engine: str = "auto"


class ReadersSettings(_Section):
    """The reader study.

    `scores`: a file of readers' scores, relative to the notebooks folder; "" lets synthetic readers score. `weights`:
    those of Cohen's κ.
    """

    scores: str = ""
    weights: Literal["linear", "quadratic"] = "linear"


class VesselWallSettings(_Section):
    """Vessel wall imaging, SPACE with R = 2×2 CAIPIRINHA; (z, y, x) = (anterior, right, superior).

    The voxel is the paper's, whatever the profile; a smaller `matrix` is a smaller field of view around `centre` (RAS
    mm), as fine. `noise_ratio`: noise SD in the object over intensity scale of the R = 2×2 image. Fine-tuning and the
    network of vessel wall scans alone learn from the first so many training participants, scanned at R = 2×1.
    """

    matrix: Triple = (160, 320, 320)
    centre: tuple[float, float, float] = (0.0, -3.0, -15.0)
    coils: int = Field(default=64, ge=1)
    acs: int = Field(default=24, ge=4)
    oversampling: float = Field(default=1.35, ge=1)
    noise_ratio: float = Field(default=0.025, gt=0)
    replicas: int = Field(default=8, ge=8)
    fine_tuning_scans: int = Field(default=3, ge=1)
    fine_tuning_steps: int = Field(default=5000, ge=1)
    own_scans: int = Field(default=10, ge=1)
    own_steps: int = Field(default=50000, ge=1)


class Profile(_Section):
    """One study: what is scanned, how it is reconstructed, trained and evaluated."""

    name: str
    seed: int
    acquisition: AcquisitionSettings
    noise: NoiseSettings = NoiseSettings()
    recon: ReconSettings = ReconSettings()
    network: NetworkSettings = NetworkSettings()
    training: TrainingSettings
    noise_levels: tuple[float, ...] = (0, 0.5, 1, 1.5, 2, 2.5, 3)
    figure_levels: tuple[float, ...] = (0, 1, 3)
    volumetry: VolumetrySettings = VolumetrySettings()
    readers: ReadersSettings = ReadersSettings()
    vessel_wall: VesselWallSettings = VesselWallSettings()
    alphas: tuple[float, ...] = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)

    @model_validator(mode="after")
    def _consistent(self) -> "Profile":
        if not set(self.figure_levels) <= set(self.noise_levels):
            raise ValueError(f"figure_levels {self.figure_levels} must be among noise_levels {self.noise_levels}")
        if not set(self.volumetry.levels) <= set(self.noise_levels):
            raise ValueError(f"levels {self.volumetry.levels} of volumetry must be among {self.noise_levels}")
        if self.volumetry.levels and not set(self.volumetry.levels) & set(self.figure_levels):
            chosen = f"levels {self.volumetry.levels} of volumetry"
            raise ValueError(f"{chosen} need one of figure_levels {self.figure_levels}, for the figures")
        if not all(0 <= alpha <= 1 for alpha in self.alphas):
            raise ValueError("alphas lie between 0 and 1")
        return self


def load_profile(name: str | Path) -> Profile:
    """Load a profile by name ("smoke", "demo", "paper") or by the path of a YAML file.

    Raises
    ------
    ProfileError
        If there is no such profile, a key is unknown, or a value is out of range; every fault is listed.
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
        raise ProfileError(f"there is no profile {name!r}; known are {known}, or give the path of a YAML file")
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Profile.model_validate(content)
    except yaml.YAMLError as error:
        raise ProfileError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ProfileError(f"{path}: {faults}") from error
