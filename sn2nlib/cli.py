"""`sn2n`: the study and its parts on the command line. Thin: every command calls a few library functions.

The rooms load what they need on first use, so that `sn2n --help` answers at once.
"""

import csv
import functools
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sn2nlib import cli_commands, cli_reading, cli_scores, cli_sides, denoiser, evaluation, recon, reporting, scans
from sn2nlib import cli_options as option
from sn2nlib import cli_outputs as outputs
from sn2nlib.errors import ImageError, Sn2nError
from sn2nlib.provenance import atomic_write

app = typer.Typer(
    cls=cli_commands.Commands,
    help="Self-supervised denoising of 3D MRI (MR-self Noise2Noise), from k-space to the study's tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cli_reading.app, name="reading")
app.add_typer(cli_scores.app, name="scores")

EVALUATION_COLUMNS = ("head", "noise_sigma", "arm", "reference", "region", "psnr", "ssim", "nrmse")


@app.command()
def study(
    profile: option.Profile = "demo",
    reports: option.Reports = None,
    only: Annotated[list[str] | None, typer.Option(metavar="NOTEBOOK", help="Run it alone; repeatable.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run also what is up to date.")] = False,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="For --only; repeatable.")
    ] = None,
    show_output: Annotated[bool, typer.Option("-v", "--show-output", help="Show all they print.")] = False,
) -> None:
    """Run every notebook of the study in order; resume, and skip what is up to date."""
    folder = reporting.study.run_study(
        profile,
        reports=reports,
        only=only or None,
        force=force,
        parameters=reporting.study.parse_parameters(parameter or []),
        show_output=show_output,
    )
    print(reporting.study.summary(folder))


@app.command()
def simulate(
    context: typer.Context,
    head: option.HeadFile,
    out: option.NewScan,
    coils: option.Coils = 10,
    matrix: option.Matrix = (128, 160, 160),
    voxel_size: option.VoxelSize = (1.35, 1.35, 1.35),
    acceleration: option.Acceleration = (2, 1),
    caipi_shift: Annotated[
        int, typer.Option(min=0, help="CAIPIRINHA: kz shift from one acquired ky to the next, below RZ.")
    ] = 0,
    acs: Annotated[int, typer.Option(min=1, help="Fully sampled lines in the centre.")] = 24,
    full: Annotated[bool, typer.Option("--full", help="No acceleration; --psnr stays that with it.")] = False,
    partial_fourier: Annotated[
        tuple[float, float], typer.Option(metavar="KY KZ", help="Acquired fraction of ky and of kz, above 0.5.")
    ] = (1, 1),
    noise_sd: Annotated[
        float, typer.Option(min=0, help="Noise SD per channel, as a share of the head's brightness.")
    ] = 0.02,
    psnr: Annotated[
        float | None,
        typer.Option(min=0, max=200, help="Instead: PSNR in dB of the conventional image.", show_default=False),
    ] = None,
    seed: option.Seed = 0,
    overwrite: option.Overwrite = False,
) -> None:
    """Turn a T1-weighted NIfTI into the raw k-space of a simulated multi-coil scan."""
    option.check_simulation(context)
    outputs.check_new(out, outputs.SCAN, overwrite=overwrite, source=head)
    acquire = functools.partial(
        scans.acquire.acquire,
        scans.read_head(head),
        matrix=matrix,
        voxel_size=voxel_size,
        n_coils=coils,
        seed=seed,
    )
    sampling: dict[str, Any] = {
        "acceleration": acceleration, "caipi_shift": caipi_shift, "acs": acs, "partial_fourier": partial_fourier
    }  # fmt: skip
    kept = {**sampling, "acceleration": (1, 1), "caipi_shift": 0, "acs": None} if full else sampling
    if psnr is not None:
        clean = acquire(acceleration=(1, 1), acs=None, noise_sd=0)
        scan, reached = evaluation.cohort.scan_at_psnr(clean, psnr, seed=seed, **sampling)
        print(f"PSNR of the conventional image: {reached:.2f} dB")
        scan = scans.undersample(scan, **kept)
    else:
        scan = acquire(**kept, noise_sd=noise_sd)
    scans.save_scan(scan, out, overwrite=overwrite)
    recon.warn_if_folded(scan.acceleration, coils)
    outputs.warn_of_another_grid((matrix, voxel_size), (scan.shape, scan.voxel_size))
    grid, sizes = (" × ".join(f"{value:.6g}" for value in values) for values in (scan.shape, scan.voxel_size))
    print(f"Matrix {grid}, voxels of {sizes} mm (z, y, x)")
    print(f"Scan: {out}")


@app.command()
@option.with_reading
def inspect(scan: option.ScanFile, reading: dict[str, Any], partial_fourier: option.Filling = "zero") -> None:
    """Tell what is in a raw file, what becomes of it, and what that needs, without reading the samples."""
    print(scans.inspect_raw(scan, partial_fourier=partial_fourier, **reading))


@app.command()
@option.with_reading
def convert(
    scan: option.ScanFile,
    out: option.NewScan,
    reading: dict[str, Any],
    overwrite: option.Overwrite = False,
) -> None:
    """Make a scan file of a raw file, partition by partition: scan files may be larger than memory."""
    outputs.check_new(out, outputs.SCAN, overwrite=overwrite, source=scan)
    scans.convert_raw(scan, out, **reading)
    print(f"Scan: {out}")


@app.command()
@option.with_reading
def export(
    scan: option.ScanFile,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File, or for BART the name before .cfl and .hdr.")],
    reading: dict[str, Any],
    format: option.ExportFormat = "ismrmrd",
    memory: option.Memory = None,
    overwrite: option.Overwrite = False,
) -> None:
    """Write a raw scan, not whitened, for other programs: ISMRMRD, or BART .cfl/.hdr; of any size.

    For BART, OUT is the k-space, OUT_mask what was acquired, OUT_noise the noise scan, OUT.json geometry and sampling.
    """
    files, kind = ([out], outputs.ISMRMRD) if format == "ismrmrd" else (scans.bart_files(out), outputs.BART)
    for path in files:
        outputs.check_new(path, kind, overwrite=overwrite, source=scan)
    largest = recon.largest_kspace(option.in_bytes(memory), copies=2)
    with scans.opened_raw(scan, largest=largest, scratch=out.parent, progress=True, **reading) as source:
        written = scans.export.export_scan(source, out, format=format, overwrite=overwrite)
    print("\n".join(f"Scan: {path}" for path in written))


@app.command()
def fetch(
    name: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Of the listed sources.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything that is listed.")] = False,
) -> None:
    """List the openly licensed files that tests and study use, or get them, by checksum, into SN2N_DATA."""
    manifest = scans.manifest
    folder = manifest.manifest_folder()
    sources = manifest.load_sources(folder)
    by_hand = manifest.load_howto(folder)
    chosen = manifest.choose_sources(sources, name or [], everything=everything, by_hand=by_hand)
    for source, path in manifest.fetch_each(chosen):
        print(f"{source.name}: {path}")
    if not chosen:
        for source in sources.values():
            place = manifest.locate(source) or "not on disk"
            print(f"{source.name:26}{source.size / 1e6:6.1f} MB  {place}\n  {source.licence}; {source.used_for}")
        for entry in by_hand:
            print(f"{entry['name']:26}by hand    {entry['where']}\n  {entry['licence']}; read by: {entry['read']}")


@app.command(name="recon")
@option.with_reading
def reconstruct(
    scan: option.ScanFile,
    out: option.NewImage,
    reading: dict[str, Any],
    halves: option.Halves = False,
    noise_map: option.NoiseMap = None,
    g_factor: option.GFactor = None,
    virtual_coils: option.VirtualCoils = None,
    compression: option.Compression = "svd",
    partial_fourier: option.Filling = "zero",
    raw_filter: option.RawFilter = 0,
    pairing: option.Pairing = "kz",
    memory: option.Memory = None,
    overwrite: option.Overwrite = False,
) -> None:
    """Reconstruct the conventional image (pre-whitening, GRAPPA, adaptive combination)."""
    option.check_repeat(reading, paired=halves and pairing == "repetitions")
    images = scans.images
    wanted = {"original": out, "noise_sd": noise_map, "g_factor": g_factor}
    if halves:
        wanted |= {f"half_{half}": images.beside(out, f"_half_{half}") for half in "ab"}
        wanted |= {f"{name}_half": images.beside(path, "_half") for name in images.MAPS if (path := wanted[name])}
    paths = {name: path for name, path in wanted.items() if path is not None}
    for path in paths.values():
        outputs.check_new(path, outputs.IMAGE, overwrite=overwrite, source=[scan, reading.get("affine_from")])
    images.check_outputs(paths.values(), overwrite=overwrite)
    outputs.check_filtered(raw_filter, g_factor)
    made = recon.raw_images(
        scan,
        reading=reading,
        halves=halves,
        noise_maps=noise_map is not None or g_factor is not None,
        memory_limit=option.in_bytes(memory),
        scratch=out.parent,
        virtual_coils=option.coil_count(virtual_coils, compression),
        compression=compression,
        partial_fourier=partial_fourier,
        raw_filter=raw_filter,
        pairing=pairing,
        progress=True,
    )
    outputs.warn_of_filling(partial_fourier, made.noise_estimator, maps=bool(noise_map or g_factor))
    for name, path in paths.items():
        told = made.description(name, raw_filter=raw_filter)
        images.write_image(abs(getattr(made, name)), path, **made.place, description=told, overwrite=overwrite)
        print(f"{'Map' if name.removesuffix('_half') in images.MAPS else 'Image'}: {path}")
    outputs.tell_repetition(out, pairing, reading.get("repetition"))


@app.command()
@option.with_reading
def train(
    scan: Annotated[list[Path], typer.Argument(metavar="SCAN...", help="Undersampled raw scans.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Model; the same command again goes on if interrupted.")],
    reading: dict[str, Any],
    validation: Annotated[
        list[Path] | None, typer.Option(metavar="SCAN", help="Scan for the validation loss and for α; repeatable.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Length; for more of them later, --from this model.")] = 2000,
    width: option.Width = None,
    depth: option.Depth = None,
    batch: Annotated[int, typer.Option(min=1, help="Windows per step.")] = 8,
    patch: Annotated[int, typer.Option(min=8, help="Width of a window in voxels, at most a scan's.")] = 96,
    seed: option.Seed = 0,
    start_from: option.StartFrom = None,
    learning_rate: option.LearningRate = None,
    extra_noise: option.ExtraNoise = 0,
    coarser: option.Coarser = None,
    virtual_coils: option.VirtualCoils = None,
    compression: option.Compression = "svd",
    partial_fourier: option.Filling = "zero",
    pairing: option.Pairing = "kz",
    memory: option.Memory = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew instead of going on.")] = False,
) -> None:
    """Train a network on your own scans, one half of each against the other; no clean images needed.

    With --from a trained model is fine-tuned to them: a few scans of another sequence or scanner will do.
    """
    option.check_repeat(reading, paired=pairing == "repetitions")
    outputs.check_folder(out)
    denoiser.check_different(scan, held_out=validation or [])
    prepared = denoiser.prepare_scans(
        scan,
        held_out=validation or [],
        coarser=coarser or [],
        folder=out / "volumes",
        memory_limit=option.in_bytes(memory),
        virtual_coils=option.coil_count(virtual_coils, compression),
        compression=compression,
        partial_fourier=partial_fourier,
        pairing=pairing,
        progress=True,
        reading=reading,
    )
    held_out = {f"validation scan {n}": pair for n, pair in enumerate(prepared[len(scan) :], start=1)}
    with denoiser.keeping_prepared(out / "volumes"):
        network = denoiser.train(
            denoiser.with_coarser(prepared[: len(scan)]),
            out=out,
            validation=list(held_out.values()),
            steps=steps,
            width=width,
            depth=depth,
            batch=batch,
            patch=patch,
            seed=seed,
            start_from=start_from,
            learning_rate=learning_rate,
            extra_noise=extra_noise,
            resume=not overwrite,
        )
    if held_out:
        alpha = denoiser.fit_alpha(out, held_out)
        print(f"α = {alpha:.2f}, chosen on {', '.join(held_out)}")
        outputs.warn_of_no_effect(alpha)
    elif network.alpha is not None:
        print(f"α = {network.alpha:.2f}, as chosen before; --validation SCAN chooses it anew")
    else:
        print(f"α = {denoiser.PAPER_ALPHA:.2f}, the paper's, since none was chosen; --validation SCAN chooses one")
    del prepared, held_out  # some systems keep files that are mapped into memory
    denoiser.remove_prepared(out / "volumes")
    print(f"Model: {out}")


@app.command()
@option.with_reading
def denoise(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IN", help="NIfTI image, DICOM series (folder), or raw scan.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="NIfTI image; for a DICOM series, a new folder.")],
    model: option.ModelFolder,
    reading: dict[str, Any],
    alpha: option.Alpha = None,
    axis: option.Planes = None,
    series: Annotated[int | None, typer.Option(help="Of several DICOM series: its series number.")] = None,
    volume: Annotated[int | None, typer.Option(help="Of several volumes in a DICOM series: its place, from 1.")] = None,
    virtual_coils: option.VirtualCoils = None,
    compression: option.Compression = "svd",
    partial_fourier: option.Filling = "zero",
    memory: option.Memory = None,
    overwrite: option.Overwrite = False,
) -> None:
    """Denoise an image or a DICOM series, or reconstruct and denoise a raw scan."""
    images = scans.images
    option.check_denoised(context, image)
    option.check_repeat(reading, paired=False)
    if scans.is_dicom(image):
        _denoise_dicom(image, out, model, alpha=alpha, axis=axis, series=series, volume=volume, overwrite=overwrite)
        return
    if series is not None or volume is not None:
        raise ImageError(f"{image}: --series and --volume choose from a DICOM series, which this is not")
    outputs.check_new(out, outputs.IMAGE, overwrite=overwrite, source=[image, model, reading.get("affine_from")])
    network = denoiser.Denoiser.load(model)
    if images.is_image_name(image):
        given, geometry = images.read_image(image, as_acquired=axis is None)
        outputs.warn_of_denoising(image, geometry.denoised, geometry.filtered, geometry.part)
        planes = outputs.told_planes(
            denoiser.PARTITIONS if geometry.partitions else axis, given.shape, geometry.voxel_size
        )
        outputs.tell_alpha(network, alpha)
        better = denoiser.denoise_image(network, given, voxel_size=geometry.voxel_size, alpha=alpha, axis=planes)
        told = images.DENOISED + denoiser.short_derivation(network, alpha, planes)
        images.write_image(better, out, like=geometry, description=told, overwrite=overwrite)
    elif axis is not None:
        raise ImageError(f"{image}: --axis is for images; the planes of a raw scan are its partitions")
    else:
        made = recon.raw_images(
            image,
            reading=reading,
            memory_limit=option.in_bytes(memory),
            scratch=out.parent,
            virtual_coils=option.coil_count(virtual_coils, compression),
            compression=compression,
            partial_fourier=partial_fourier,
            progress=True,
        )
        planes = outputs.told_planes(denoiser.PARTITIONS, made.original.shape, made.voxel_size)
        outputs.tell_alpha(network, alpha)
        better = denoiser.denoise_image(
            network, abs(made.original), voxel_size=made.voxel_size, alpha=alpha, axis=planes
        )
        told = images.DENOISED + denoiser.short_derivation(network, alpha, planes)
        images.write_image(better, out, affine=made.affine, known=made.known, description=told, overwrite=overwrite)
    print(f"Image: {out}")


@app.command()
def evaluate(
    head: Annotated[list[Path], typer.Argument(metavar="HEAD.nii.gz...", help="T1-weighted images of whole heads.")],
    model: option.ModelFolder,
    out: Annotated[Path, typer.Option(metavar="TABLE.csv", help="Receives the rows.")],
    name: option.HeadNames = None,
    alpha: option.Alpha = None,
    psnr: option.ModelPsnr = None,
    coils: option.ModelCoils = None,
    matrix: option.ModelMatrix = None,
    voxel_size: option.ModelVoxelSize = None,
    seed: option.HeadSeed = None,
    overwrite: option.Overwrite = False,
) -> None:
    """Repeat the experiment of Table 2 on heads: original and sN2N at seven noise levels.

    Scanner, sampling and reconstruction are those of the study that trained the model, if it says so.
    """
    outputs.check_new(out, outputs.TABLE, overwrite=overwrite, source=[*head, model])
    labels = option.labels(name or [], len(head))
    network = denoiser.Denoiser.load(model, precision="auto")  # as in the study
    denoise = functools.partial(network.denoise, alpha=alpha)
    size = {"matrix": matrix, "voxel_size": voxel_size, "n_coils": coils, "target_psnr": psnr}
    preparation, sampling = evaluation.model_experiment(network.description.get("metadata") or {}, **size)
    rows = []
    for number, (path, label) in enumerate(zip(head, labels, strict=True)):
        own = evaluation.participants.participant_seed(label) if seed is None else seed + number
        scan, references, reached = evaluation.prepare_head(scans.read_head(path), seed=own, **preparation, **sampling)
        grid = " ".join(map(str, scan.shape))
        print(f"{label}: {grid}, {scan.n_coils} coils, PSNR of the conventional image {reached:.2f} dB", flush=True)
        rows += evaluation.measure_scan(scan, references, denoise, head=label, seed=own, **sampling)
    with atomic_write(out) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, EVALUATION_COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    outputs.tell_alpha(network, alpha)
    print(f"Table: {out}")


app.command()(cli_sides.sides)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what is wrong with its input is said in one sentence, with exit code 1.

    `SN2N_DEBUG=1` in the environment shows the traceback instead.
    """
    cli_commands.allow_any_letter()
    try:
        with warnings.catch_warnings():  # which restores showwarning
            warnings.showwarning = cli_commands.show_warning
            app(args=arguments, prog_name="sn2n")
    except (Sn2nError, OSError, MemoryError) as error:
        if os.environ.get("SN2N_DEBUG"):
            raise
        print(f"sn2n: {cli_commands.sentence(error)}", file=sys.stderr)
        sys.exit(1)


def _denoise_dicom(
    image: Path, out: Path, model: Path, *, alpha: float | None, axis: str | None, series: int | None,
    volume: int | None, overwrite: bool,
) -> None:
    outputs.check_new(out, overwrite=True)
    scans.check_dicom_output(out, source=image, overwrite=overwrite)
    network = denoiser.Denoiser.load(model)
    given, found = scans.read_dicom(image, series=series, volume=volume)
    outputs.warn_of_denoising(image, found.denoised)
    planes = outputs.told_planes(axis, given.shape, found.voxel_size)
    outputs.tell_alpha(network, alpha)
    better = denoiser.denoise_image(network, given, voxel_size=found.voxel_size, alpha=alpha, axis=planes)
    told = denoiser.derivation(network, alpha, planes)
    scans.write_dicom(better, out, like=found, derivation=told, overwrite=overwrite)
    print(f"Series: {out}")


if __name__ == "__main__":
    main()
