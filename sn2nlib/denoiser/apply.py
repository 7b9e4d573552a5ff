"""What a trained network does to a volume: inference, the α blend, and the choice of α."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch

from sn2nlib.errors import ImageError, Stopped
from sn2nlib.provenance import write_json
from sn2nlib.recon.pairs import intensity_scale
from sn2nlib.scans.finite import not_finite

from .checkpoint import load_model, read_description
from .processes import choose_device, has_bfloat16
from .slices import window
from .unet import UNet25D

PAPER_ALPHA = 0.3  # the paper's choice, for models whose own has not been chosen
ALPHAS = tuple(round(0.1 * step, 1) for step in range(11))
BATCH_VOXELS = 2**17  # of the network's input positions at a time: bounds memory
# axes of the windows (n, slices, y, x) that are reversed, by the number of answers that are averaged
MIRRORS: dict[int, tuple[tuple[int, ...], ...]] = {1: ((),), 2: ((), (1, 2, 3)), 4: ((), (2, 3), (1, 2), (1, 3))}
BRACKET = ("half_to_half", "original_to_half")  # the two definitions that need no truth; biased low and high


@dataclass(frozen=True)
class Denoiser:
    """A trained network with the α that was chosen for it.

    Attributes
    ----------
    network
        In evaluation mode, on its device.
    alpha
        Weight of the original in the blend, or None while none has been chosen.
    description
        Content of `model.json`: architecture, training settings, provenance.
    precision
        "float32" or "bfloat16", quicker on many processors; moves voxels by about 0.1 % of the scale.
    mirrors
        1, 2 or 4: how many answers are averaged, each to another mirror image of the volume. The network learnt from
        mirrored windows; its errors differ between them, the anatomy does not.
    """

    network: UNet25D
    alpha: float | None
    description: dict[str, Any]
    precision: Literal["float32", "bfloat16"] = "float32"
    mirrors: int = 1

    def __post_init__(self) -> None:
        if self.mirrors not in MIRRORS:
            raise ImageError(f"{self.mirrors} mirror images cannot be averaged; use {', '.join(map(str, MIRRORS))}")

    @classmethod
    def load(
        cls, folder: str | Path, *, device: str | None = None,
        precision: Literal["auto", "float32", "bfloat16"] = "float32", mirrors: int | None = None,
    ) -> Self:
        """Load the model of a folder that a training has written.

        Parameters
        ----------
        device
            As PyTorch names it; None: the GPU if there is one.
        precision
            See the class; "auto": bfloat16 where the device computes in it, else float32.
        mirrors
            See the class; None: as many as the model was trained to be used with.

        Raises
        ------
        CheckpointError
            If the folder is incomplete, damaged, or of another architecture.
        """
        network, description = load_model(folder)
        if precision == "auto":
            precision = "bfloat16" if has_bfloat16(device) else "float32"
        network.to(choose_device(device), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        mirrors = description.get("mirrors", 1) if mirrors is None else mirrors
        return cls(network, description.get("alpha"), description, precision, mirrors)

    def denoise(
        self, volume: np.ndarray, alpha: float | None = None, *, scale: float | None = None
    ) -> np.ndarray:
        """sN2N: α · volume + (1 − α) · network output.

        Parameters
        ----------
        volume
            Conventional magnitude image, (z, y, x), z the partition axis; any unit.
        alpha
            Weight of the original, 0 to 1. None: the model's own, or the paper's 0.3 if none has been chosen.
        scale
            Intensity scale; None: from the volume, as in training.

        Returns
        -------
        (z, y, x) float32, in the unit of `volume`.

        Raises
        ------
        ImageError
            If the volume is not 3D, is complex, empty, without signal, or holds NaN or Inf.
        """
        return blend(volume, self.network_output(volume, scale=scale), self.settled_alpha(alpha))

    def settled_alpha(self, alpha: float | None) -> float:
        """The α that `denoise` takes: the one given, else the model's own, else the paper's."""
        return next(value for value in (alpha, self.alpha, PAPER_ALPHA) if value is not None)

    def network_output(self, volume: np.ndarray, *, scale: float | None = None) -> np.ndarray:
        """The network's own answer, that is α = 0; negative values, which a magnitude cannot have, become 0.

        Parameters and errors as in `denoise`.
        """
        volume = _checked(volume)
        scale = float(intensity_scale(volume)) if scale is None else float(scale)
        if not (np.isfinite(scale) and scale > 0):
            raise ImageError(f"the intensity scale of the image is {scale}; it must be a positive number")
        slices = self.network.architecture["slices"]
        device = next(self.network.parameters()).device
        quick = torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")
        step = max(1, BATCH_VOXELS // (volume.shape[1] * volume.shape[2]))
        output = np.empty(volume.shape, np.float32)
        with torch.inference_mode(), quick:
            for start in range(0, len(volume), step):
                partitions = range(start, min(start + step, len(volume)))
                windows = np.stack([window(volume, z, slices) for z in partitions]) / np.float32(scale)
                batch = torch.from_numpy(windows).to(device, memory_format=torch.channels_last)
                output[partitions.start : partitions.stop] = self._answer(batch)[:, 0].cpu().numpy()
        return np.maximum(output, 0) * np.float32(scale)

    def _answer(self, windows: torch.Tensor) -> torch.Tensor:
        """Mean answer to the windows and their mirror images, float32, (n, 1, y, x)."""
        answers = (
            self.network(windows.flip(axes)).flip([axis for axis in axes if axis > 1]).float()
            for axes in MIRRORS[self.mirrors]
        )
        return torch.stack(list(answers)).mean(0)


def blend(original: np.ndarray, output: np.ndarray, alpha: float) -> np.ndarray:
    """α · original + (1 − α) · output, float32.

    Raises
    ------
    ImageError
        If α is not between 0 and 1 or the shapes differ.
    """
    _check_alpha(alpha)
    if np.shape(original) != np.shape(output):
        raise ImageError(f"the images to blend have the shapes {np.shape(original)} and {np.shape(output)}")
    share = np.float32(alpha)
    return share * np.asarray(original, np.float32) + (1 - share) * np.asarray(output, np.float32)


def set_alpha(folder: str | Path, alpha: float) -> None:
    """Write the chosen α into a model folder; `Denoiser.load` finds it there.

    Raises
    ------
    ImageError
        If α is not between 0 and 1.
    CheckpointError
        If there is no model in the folder.
    """
    _check_alpha(alpha)
    write_json(Path(folder) / "model.json", {**read_description(folder), "alpha": float(alpha)})


def sweep_alpha(
    scan: str, *, alphas: Sequence[float], original: np.ndarray, output: np.ndarray, half_a: np.ndarray,
    half_b: np.ndarray, output_a: np.ndarray, output_b: np.ndarray, noise_free: np.ndarray | None = None,
    head: np.ndarray | None = None, full_sampled: np.ndarray | None = None,
) -> pd.DataFrame:
    """PSNR of one scan's blends over α, by four definitions of what the blend is compared with.

    - ``half_to_half``: A blended with the network's answer to A, against B, and the reverse; their mean. Never sees the
      conventional image, which is cleaner than a half: its best α is too low.
    - ``original_to_half``: the conventional image blended with the network's answer to it, against each half; their
      mean. The halves are part of the conventional image and share its noise: its best α is too high.
    - ``noise_free``: the same blend against the noise-free truth, inside the head; where there is a truth.
    - ``full_sampled``: the same blend against the fully sampled image, whole volume; where there is one.

    Parameters
    ----------
    scan
        Name of the scan, for the table.
    alphas
        Values of α, 0 to 1.
    original, half_a, half_b
        Magnitudes of the conventional image and the halves, (z, y, x), one unit.
    output, output_a, output_b
        The network's answers to them.
    noise_free, full_sampled
        Magnitude references, same unit, or None.
    head
        (z, y, x) bool, needed with `noise_free`.

    Returns
    -------
    Columns definition, scan, alpha, psnr; PSNR in dB with the maximum of the reference volume as data range.

    Raises
    ------
    ImageError
        If an α is not between 0 and 1, the shapes differ, or `head` is missing.
    """
    if noise_free is not None and head is None:
        raise ImageError(f"{scan}: the noise-free definition counts inside the head; give its mask as 'head'")
    images = (original, output, half_a, half_b, output_a, output_b, noise_free, head, full_sampled)
    if len(shapes := {np.shape(image) for image in images if image is not None}) > 1:
        raise ImageError(f"{scan}: all images of a scan must be of one shape, not {', '.join(map(str, shapes))}")
    a = np.round(np.asarray(alphas, np.float64), 6)  # 0.3, not 0.30000000000000004
    for alpha in a:
        _check_alpha(alpha)
    curves = {
        "half_to_half": [_curve(half_a, output_a, half_b, a), _curve(half_b, output_b, half_a, a)],
        "original_to_half": [_curve(original, output, half_a, a), _curve(original, output, half_b, a)],
    }
    if noise_free is not None:
        curves["noise_free"] = [_curve(original, output, noise_free, a, region=head)]
    if full_sampled is not None:
        curves["full_sampled"] = [_curve(original, output, full_sampled, a)]
    return pd.concat(
        [
            pd.DataFrame({"definition": name, "scan": scan, "alpha": a, "psnr": np.mean(curve, axis=0)})
            for name, curve in curves.items()
        ],
        ignore_index=True,
    )


def best_alphas(table: pd.DataFrame) -> dict[str, float]:
    """For each definition, the α at which the mean PSNR over the scans is highest."""
    mean = table.groupby(["definition", "alpha"], sort=False)["psnr"].mean()
    return {str(name): float(mean[name].idxmax()) for name in dict.fromkeys(table["definition"])}


def choose_alpha(table: pd.DataFrame) -> float:
    """The bracket rule: midpoint between the best α of `half_to_half` and of `original_to_half`.

    The first is biased low, the second high, and neither needs a truth, so that the rule serves real scans too.

    Parameters
    ----------
    table
        Rows of `sweep_alpha` for all validation scans.

    Raises
    ------
    ImageError
        If one of the two definitions is not in the table.
    """
    best = best_alphas(table)
    missing = [name for name in BRACKET if name not in best]
    if missing:
        raise ImageError(f"the α table has no rows for {' and '.join(missing)}; sweep the validation scans")
    return round(sum(best[name] for name in BRACKET) / 2, 6)


def fit_alpha(folder: str | Path, pairs: Mapping[str, Any], *, alphas: Sequence[float] = ALPHAS) -> float:
    """Choose α by the bracket rule on validation scans, and write it into the model folder.

    Parameters
    ----------
    folder
        Model folder.
    pairs
        Name → `sn2nlib.recon.Pair` of scans that took no part in the training.
    alphas
        Values of α to look at.

    Returns
    -------
    The chosen α.

    Raises
    ------
    Stopped
        At Ctrl+C; the model keeps the α it had.
    """
    try:
        denoiser = Denoiser.load(folder)
        tables = [_curves(denoiser, name, pair, alphas) for name, pair in pairs.items()]
    except KeyboardInterrupt as stopped:
        raise Stopped(f"while α was chosen, and {folder} keeps the trained network", replaced=True) from stopped
    alpha = choose_alpha(pd.concat(tables, ignore_index=True))
    set_alpha(folder, alpha)
    return alpha


def _curves(denoiser: Denoiser, name: str, pair: Any, alphas: Sequence[float]) -> pd.DataFrame:
    """`sweep_alpha` of a pair, by the definitions of the bracket."""
    images = {key: np.abs(getattr(pair, key)) / np.float32(pair.scale) for key in ("original", "half_a", "half_b")}
    answers = {
        key: denoiser.network_output(images[source], scale=1.0)
        for key, source in (("output", "original"), ("output_a", "half_a"), ("output_b", "half_b"))
    }
    table = sweep_alpha(name, alphas=alphas, **images, **answers)
    if getattr(pair, "pairing", "kz") == "repetitions":
        # the original is half A itself: as noisy as the halves, so that half_to_half is not biased, and no bracket
        halves = table[table["definition"] == "half_to_half"]
        table = pd.concat([halves.assign(definition=definition) for definition in BRACKET], ignore_index=True)
    return table


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ImageError(f"alpha is the share of the original image, between 0 and 1; got {alpha}")


def _curve(
    original: np.ndarray, output: np.ndarray, reference: np.ndarray, alphas: np.ndarray,
    region: np.ndarray | None = None,
) -> np.ndarray:
    """PSNR over α. The squared error of a blend is a quadratic form, so three sums serve all α exactly."""
    inside = slice(None) if region is None else region
    truth = np.asarray(reference, np.float64)[inside]
    first = np.asarray(original, np.float64)[inside] - truth
    second = np.asarray(output, np.float64)[inside] - truth
    squared = (
        alphas**2 * np.mean(first**2)
        + 2 * alphas * (1 - alphas) * np.mean(first * second)
        + (1 - alphas) ** 2 * np.mean(second**2)
    )
    with np.errstate(divide="ignore"):  # a perfect image has no error: its PSNR is infinite
        return 10 * np.log10(float(np.max(reference)) ** 2 / np.maximum(squared, 0))


def _checked(volume: np.ndarray) -> np.ndarray:
    volume = np.asarray(volume)
    if np.iscomplexobj(volume):
        raise ImageError("the image is complex; the network works on magnitudes: give numpy.abs(image)")
    if volume.ndim != 3 or volume.size == 0:
        raise ImageError(f"the image has shape {volume.shape}; a volume (z, y, x) of some voxels is needed")
    volume = volume.astype(np.float32)
    if damage := not_finite(volume, "z, y, x"):
        raise ImageError(f"the image holds {damage}, as float32; replace them, for example by 0 outside the head")
    if volume.max() <= 0:
        raise ImageError("the image holds no positive value: there is no signal to denoise")
    return volume
