"""Arguments and options that several commands share: what they are called and what their help says."""

import functools
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sn2nlib import cli_commands, scans
from sn2nlib.errors import ChoiceError, ImageError

Profile = Annotated[str, typer.Option(metavar="PROFILE", help="Name in notebooks/profiles/, or a YAML file.")]
Reports = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Receives <profile>/.", show_default="reports")
]
NewScan = Annotated[Path, typer.Argument(metavar="SCAN.h5", help="New scan file.")]
NewImage = Annotated[Path, typer.Argument(metavar="OUT.nii.gz", help="New image.")]
HeadFile = Annotated[Path, typer.Argument(metavar="HEAD.nii.gz", help="T1-weighted image of a whole head.")]
Coils = Annotated[int, typer.Option(min=1, help="Coils of the simulated helmet.")]
Matrix = Annotated[tuple[int, int, int], typer.Option(metavar="Z Y X", help="Right, anterior, superior.")]
VoxelSize = Annotated[
    tuple[float, float, float],
    typer.Option(metavar="Z Y X", help="mm; fitted to a field of view of whole voxels of the head."),
]
Acceleration = Annotated[tuple[int, int], typer.Option(metavar="RY RZ", help="Along ky and kz.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same result.")]
Alpha = Annotated[
    float | None, typer.Option(min=0, max=1, help="Share of the input.", show_default="the model's own")
]
# of an experiment that is a model's own by default
ModelPsnr = Annotated[
    float | None,
    typer.Option(
        min=0, max=200, help="Of the conventional image without added noise, dB.", show_default="the model's, or 41.2"
    ),
]
ModelCoils = Annotated[
    int | None, typer.Option(min=1, help="Coils of the simulated helmet.", show_default="the model's, or 10")
]
ModelMatrix = Annotated[
    tuple[int, int, int] | None,
    typer.Option(metavar="Z Y X", help="Right, anterior, superior.", show_default="the model's, or 128 160 160"),
]
ModelVoxelSize = Annotated[
    tuple[float, float, float] | None,
    typer.Option(
        metavar="Z Y X",
        help="mm; fitted to a field of view of whole voxels of the head.",
        show_default="the model's, or 1.35 1.35 1.35",
    ),
]
HeadNames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Of a head in the table, one for each; never its file's.",
        show_default="head, or head1 ...",
    ),
]
HeadSeed = Annotated[
    int | None,
    typer.Option(min=0, help="Of the first head; the next one has the next.", show_default="from --name, as the study"),
]
ScanFile = Annotated[
    Path,
    typer.Argument(metavar="RAW", help="Siemens twix, ISMRMRD, a public HDF5 layout, or a scan file of this package."),
]
Measurement = Annotated[int, typer.Option(help="Of a twix file that holds several, counted from 0; -1 is the last.")]
Contrast = Annotated[int | None, typer.Option(help="Of several, counted from 0.", show_default="the first")]
Repetition = Annotated[int | None, typer.Option(help="Of several, counted from 0.", show_default="the first")]
Repeat = Annotated[int | None, typer.Option(help="A second repetition, counted from 0, for --pairing repetitions.")]
Average = Annotated[int | None, typer.Option(help="Of several, counted from 0.", show_default="their mean")]
Slice = Annotated[int | None, typer.Option("--slice", help="Of several, counted from 0.", show_default="the first")]
Set = Annotated[
    int | None,
    typer.Option("--set", help="Of several, which may be its contrasts, counted from 0.", show_default="the first"),
]
Phase = Annotated[
    int | None, typer.Option(help="Of several, in time or of the heart, counted from 0.", show_default="the first")
]
KeepOversampling = Annotated[bool, typer.Option("--keep-oversampling", help="Leave the readout as it was sampled.")]
NoNoiseScan = Annotated[
    bool, typer.Option("--no-noise-scan", help="Estimate the noise from the corners of k-space.")
]
NoRegridding = Annotated[bool, typer.Option("--no-regridding", help="Refuse readouts sampled on gradient ramps.")]
GivenVoxelSize = Annotated[
    tuple[float, float, float] | None,
    typer.Option("--voxel-size", metavar="Z Y X", help="mm, of a file that does not say it."),
]
AffineFrom = Annotated[
    Path | None,
    typer.Option(metavar="IMAGE", help="NIfTI or DICOM series of this scan: where a file lies that does not say it."),
]
READING = {
    "measurement": (Measurement, -1),
    "contrast": (Contrast, None),
    "repetition": (Repetition, None),
    "repeat": (Repeat, None),
    "average": (Average, None),
    "slice_number": (Slice, None),
    "set_number": (Set, None),
    "phase": (Phase, None),
    "keep_oversampling": (KeepOversampling, False),
    "no_noise_scan": (NoNoiseScan, False),
    "no_regridding": (NoRegridding, False),
    "voxel_size": (GivenVoxelSize, None),
    "affine_from": (AffineFrom, None),
}  # parameter → what it is, and its default
RAW = (*READING, "virtual_coils", "compression", "partial_fourier", "memory")  # parameters about raw files alone
StartFrom = Annotated[
    Path | None,
    typer.Option("--from", "--start-from", metavar="FOLDER", help="Model to fine-tune on these scans; its size and α."),
]
Width = Annotated[
    int | None, typer.Option(min=1, help="Channels of the first level.", show_default="32, or that of --from")
]
Depth = Annotated[int | None, typer.Option(min=1, help="Levels of the U-Net.", show_default="3, or that of --from")]
LearningRate = Annotated[
    float | None, typer.Option(help="Highest learning rate.", show_default="0.001, or 0.0003 with --from")
]
ExtraNoise = Annotated[
    float,
    typer.Option(min=0, help="Add noise of up to this SD to the network's input, as a share of the scan's brightness."),
]
Coarser = Annotated[
    list[float] | None,
    typer.Option(metavar="SHARE", help="Learn from this share of k-space per axis too, such as 0.8; repeatable."),
]
ModelFolder = Annotated[Path, typer.Option("--model", metavar="FOLDER", help="Trained model.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an output that exists.", callback=cli_commands.note_overwrite)
]
VirtualCoils = Annotated[
    float | None, typer.Option(help="Compress to this many coils, or to a share of energy below 1.", show_default="all")
]
Compression = Annotated[
    Literal["svd", "gcc"], typer.Option(help="How coils are compressed: at once, or geometrically along the readout.")
]
Filling = Annotated[
    Literal["zero", "homodyne", "pocs"], typer.Option(help="What becomes of a side of ky or kz that was not acquired.")
]
Halves = Annotated[
    bool, typer.Option("--halves", help="Write the half images too, as OUT_half_a and OUT_half_b.")
]
RawFilter = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        metavar="SHARE",
        help="Taper k-space over the outer share of the lines on either side, as many scanners can (0.25: the outer "
        "quarter): bright edges ring less, resolution is lost. Networks are trained without.",
        show_default="none",
    ),
]
Pairing = Annotated[
    Literal["kz", "repetitions"], typer.Option(help="What the halves are: a split along kz, or two repetitions.")
]
Planes = Annotated[
    Literal["sagittal", "coronal", "axial"] | None,
    typer.Option(
        help="Planes of an image.", show_default="the partitions if sn2n recon made it, else from its geometry"
    ),
]
ExportFormat = Annotated[Literal["ismrmrd", "bart"], typer.Option(help="What is written.")]
NoiseMap = Annotated[
    Path | None,
    typer.Option(metavar="MAP.nii.gz", help="Write the noise SD too, of the halves as MAP_half; 1 if fully sampled."),
]
GFactor = Annotated[
    Path | None,
    typer.Option(
        metavar="MAP.nii.gz",
        help="Write the g-factor too, of the halves as MAP_half; it is below 1 where the lines that GRAPPA fills in, "
        "as averages of acquired ones, hold less noise than those.",
    ),
]
Memory = Annotated[
    float | None, typer.Option(min=0, metavar="GIB", help="Beyond it, work on disk.", show_default="half of it all")
]


def with_reading(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `READING` in the place of its parameter `reading`.

    That one receives them as the keyword arguments of `read_raw` that were given.
    """
    own = inspect.signature(command)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in READING.items()
    ]
    listed = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own.parameters.values()]
    place = list(own.parameters).index("reading")

    @functools.wraps(command)
    def read_and_run(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in READING}
        given["remove_oversampling"] = False if given.pop("keep_oversampling") else None
        given["noise_scan"] = False if given.pop("no_noise_scan") else None
        given["regrid"] = False if given.pop("no_regridding") else None
        if given["measurement"] == -1:
            del given["measurement"]
        command(**arguments, reading={name: value for name, value in given.items() if value is not None})

    signature = own.replace(parameters=[*listed[:place], *added, *listed[place + 1 :]])
    read_and_run.__signature__ = signature  # type: ignore[attr-defined]
    read_and_run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return read_and_run


def typed(context: typer.Context, parameters: Collection[str]) -> str:
    """Those options of a command's parameters that were typed, as they are called, in one phrase."""
    own = {str(option.name): option for option in context.command.params}
    sources = {name: context.get_parameter_source(name) for name in parameters}
    return ", ".join(
        own[name].opts[0] for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"
    )


def check_denoised(context: typer.Context, path: Path) -> None:
    """Look at what is to be denoised, and at the options that were typed for it.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ImageError
        If it is an image, and an option is about raw files alone.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"there is no file or folder {path}; mend its name: sn2n denoise takes a NIfTI image (.nii, .nii.gz), the "
            "folder of a DICOM series, or a raw scan"
        )
    if (scans.is_dicom(path) or scans.images.is_image_name(path)) and (names := typed(context, RAW)):
        raise ImageError(f"{path}: {names}: for reading a raw file and reconstructing it; this is an image already")


def check_simulation(context: typer.Context) -> None:
    """Raise ChoiceError if options of a simulation that exclude each other were typed.

    A fully sampled scan of given PSNR has the noise of an accelerated one, whose sampling is then asked for too.
    """
    full, psnr = context.params["full"], context.params["psnr"]
    if psnr is not None and typed(context, ("noise_sd",)):
        raise ChoiceError("--noise-sd and --psnr both say how much noise there is; give one of them")
    if full and psnr is None and (names := typed(context, ("acceleration", "caipi_shift", "acs"))):
        raise ChoiceError(f"--full acquires every line, so that {names} would change nothing; leave one side out")


def in_bytes(gibibytes: float | None) -> int | None:
    """GiB in bytes."""
    if gibibytes is not None and not math.isfinite(gibibytes):
        raise typer.BadParameter(f"{gibibytes:g} GiB of memory: give a number, or leave --memory out")
    return None if gibibytes is None else int(gibibytes * 2**30)


def check_repeat(reading: Mapping[str, Any], *, paired: bool) -> None:
    """Raise ChoiceError if a second repetition is to be read, and no halves are made of it."""
    if "repeat" in reading and not paired:
        raise ChoiceError(
            f"--repeat {reading['repeat']}: halves alone are made of a second repetition (--pairing repetitions of "
            "sn2n train, and of sn2n recon with --halves); ask for these, or leave it out"
        )


def coil_count(virtual_coils: float | None, compression: str) -> int | float | None:
    """A number of coils as a whole number, a share of energy as it is; nothing else is compressed."""
    if virtual_coils is None and compression != "svd":
        raise typer.BadParameter(f"--compression {compression} compresses nothing without --virtual-coils; give both")
    if virtual_coils is not None and not 0 < virtual_coils < math.inf:
        raise typer.BadParameter(f"{virtual_coils:g} coils: give a number from 1 on, or a share of energy above 0")
    if virtual_coils is None or virtual_coils < 1:
        return virtual_coils
    if virtual_coils != int(virtual_coils):
        raise typer.BadParameter(f"{virtual_coils} coils: give a whole number, or a share of energy below 1")
    return int(virtual_coils)


def labels(names: Sequence[str], n_heads: int) -> Sequence[str]:
    """What heads are called in a table: what the user says, never their files, which may bear a patient's name."""
    if not names:
        return ["head"] if n_heads == 1 else [f"head{number}" for number in range(1, n_heads + 1)]
    if len(set(names)) != n_heads or len(names) != n_heads:
        raise typer.BadParameter(f"{n_heads} heads need as many names, all different, got {', '.join(names)}")
    return names
