"""`sn2n sides`: whether an image lies as it says. Thin, as `sn2nlib.cli`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sn2nlib import cli_options as option
from sn2nlib import cli_outputs as outputs
from sn2nlib import scans
from sn2nlib.errors import ImageError

Known = Annotated[
    Path, typer.Argument(metavar="KNOWN", help="The scanner's own images of the same scan: DICOM series or NIfTI.")
]
Placed = Annotated[Path | None, typer.Option(metavar="PLACED.nii.gz", help="IMAGE anew, laid as KNOWN shows it.")]


def sides(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="NIfTI, such as sn2n recon makes of a raw file.")],
    known: Known,
    out: Placed = None,
    series: Annotated[int | None, typer.Option(help="Of several DICOM series: its series number.")] = None,
    volume: Annotated[int | None, typer.Option(help="Of several volumes in a DICOM series: its place, from 1.")] = None,
    overwrite: option.Overwrite = False,
) -> None:
    """Tell whether an image lies as it says, left and right above all, by the scanner's own images of the scan."""
    if out is not None:
        outputs.check_new(out, outputs.IMAGE, overwrite=overwrite, source=[image, known])
    images = scans.images
    if not images.is_image_name(image):
        raise ImageError(f"{image}: not a NIfTI image (.nii, .nii.gz), such as sn2n recon makes of a raw scan")
    images.stored_affine(image)  # refuses an image that does not say how it lies
    own, geometry = images.read_image(image, as_acquired=True)
    found = scans.compare_sides(own, geometry.affine, *_known_image(known, series, volume))
    print(found)
    if out is not None:
        images.write_relaid(own, out, geometry=geometry, affine=found.affine, overwrite=overwrite)
        print(f"Image: {out}")


def _known_image(path: Path, series: int | None, volume: int | None) -> tuple[Any, Any]:
    """Volume (z, y, x) and affine of the scanner's images."""
    if scans.is_dicom(path):
        values, found = scans.read_dicom(path, series=series, volume=volume)
        return values, found.affine
    if series is not None or volume is not None:
        raise ImageError(f"{path}: --series and --volume choose from a DICOM series, which this is not")
    scans.images.stored_affine(path)
    values, geometry = scans.images.read_image(path)
    return values, geometry.affine
