"""Arguments and options that several commands share: what they are called and what their help says."""

from pathlib import Path
from typing import Annotated

import typer

HeadFile = Annotated[Path, typer.Argument(metavar="HEAD.nii.gz", help="T1-weighted image of a whole head.")]
Coils = Annotated[int, typer.Option(min=1, help="Coils of the simulated helmet.")]
Matrix = Annotated[tuple[int, int, int], typer.Option(metavar="Z Y X", help="Right, anterior, superior.")]
VoxelSize = Annotated[tuple[float, float, float], typer.Option(metavar="Z Y X", help="mm.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same result.")]
Alpha = Annotated[
    float | None, typer.Option(min=0, max=1, help="Share of the input; the model's own by default.")
]
# of an experiment that is a model's own by default
ModelPsnr = Annotated[
    float | None,
    typer.Option(help="Of the conventional image without added noise, dB.", show_default="the model's, or 41.2"),
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
    typer.Option(metavar="Z Y X", help="mm.", show_default="the model's, or 1.35 1.35 1.35"),
]
HeadSeed = Annotated[
    int | None,
    typer.Option(min=0, help="Of the first head; the next one has the next.", show_default="from --name, as the study"),
]
ScanFile = Annotated[
    Path, typer.Argument(metavar="RAW", help="Siemens twix, ISMRMRD, a public HDF5 layout, or from `sn2n simulate`.")
]
Measurement = Annotated[int, typer.Option(help="Of a twix file that holds several; -1 is the last.")]
Contrast = Annotated[int | None, typer.Option(help="Of several; the first by default.")]
Repetition = Annotated[int | None, typer.Option(help="Of several; the first by default.")]
Repeat = Annotated[int | None, typer.Option(help="A second repetition, for --pairing repetitions.")]
Average = Annotated[int | None, typer.Option(help="Of several; their mean by default.")]
Slice = Annotated[int | None, typer.Option("--slice", help="Of several; the first by default.")]
KeepOversampling = Annotated[bool, typer.Option("--keep-oversampling", help="Leave the readout as it was sampled.")]
NoNoiseScan = Annotated[
    bool, typer.Option("--no-noise-scan", help="Estimate the noise from the corners of k-space.")
]
HeaderVoxelSize = Annotated[
    tuple[float, float, float] | None,
    typer.Option("--voxel-size", metavar="Z Y X", help="mm, instead of the header's."),
]
ModelFolder = Annotated[Path, typer.Option("--model", metavar="FOLDER", help="Trained model.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
VirtualCoils = Annotated[
    float | None, typer.Option(help="Compress to this many coils, or to a share of energy below 1.", show_default=False)
]
Compression = Annotated[str, typer.Option(help="How coils are compressed: svd, or gcc (along the readout).")]
Filling = Annotated[str, typer.Option(help="What becomes of a side not acquired: zero, homodyne, pocs.")]
Pairing = Annotated[str, typer.Option(help="What the halves are: kz (a split), or repetitions.")]
Memory = Annotated[
    float | None, typer.Option(min=0, metavar="GIB", help="Beyond it, work on disk.", show_default="half of it all")
]


def in_bytes(gibibytes: float | None) -> int | None:
    """GiB in bytes."""
    return None if gibibytes is None else int(gibibytes * 2**30)


def coil_count(virtual_coils: float | None) -> int | float | None:
    """A number of coils as a whole number, a share of energy as it is."""
    if virtual_coils is None or virtual_coils < 1:
        return virtual_coils
    if virtual_coils != int(virtual_coils):
        raise typer.BadParameter(f"{virtual_coils} coils: give a whole number, or a share of energy below 1")
    return int(virtual_coils)
