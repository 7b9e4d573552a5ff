"""Figures of numbers: the learning curve, α, the bias of the noise floor."""

import pandas as pd
from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

from sn2nlib.errors import StudyError
from sn2nlib.reporting.figures.sheet import (
    ARM_STYLES,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LINE,
    PURPLE,
    VERMILION,
    Sheet,
    add_legend,
)
from sn2nlib.reporting.html import NAMES

_COHORT = "digital phantoms, simulated scans"
_DEFINITIONS = {
    "half_to_half": ("half to half (biased low)", VERMILION, "-", "o"),
    "original_to_half": ("original to half (biased high)", PURPLE, "--", "s"),
    "noise_free": ("against the truth, in the head", BLACK, "-.", "^"),
    "full_sampled": ("against the fully sampled image", GREEN, ":", "D"),
}
_LOSSES = {"l2": "mean squared error (scale²)", "l1": "mean absolute error (scale)"}
_BIAS_ARMS = {"original": "original", "sN2N": "sN2N", "full_sampled": "fully sampled"}


def learning_curve(history: pd.DataFrame, *, loss: str = "l2", label: str = _COHORT) -> Sheet:
    """Loss over the training, beside the loss that the predicted noise of the target leaves.

    Parameters
    ----------
    history
        `history.csv` of a training: step, loss, noise_floor, validation_loss, validation_floor; the last two
        may be empty.
    loss
        Which it is, "l2" or "l1".
    label
        Second line of the figure.

    Raises
    ------
    StudyError
        For another loss.
    """
    unit = _loss_name(loss)
    sheet = Sheet("Learning curve, and the floor that the target’s noise predicts", label=label, height=80)
    absolute, relative = sheet.graphs(1, 2)[0]
    checked = history.dropna(subset=["validation_loss"])
    for rows, prefix, name, style in (
        (history, "", "training", {"color": BLUE}),
        (checked, "validation_", "validation", {"color": VERMILION, "marker": "o"}),
    ):
        if rows.empty:
            continue
        value, floor = rows[f"{prefix}loss"], rows["validation_floor" if prefix else "noise_floor"]
        absolute.plot(rows["step"], value, label=f"{name} loss", **style, **LINE)
        absolute.plot(rows["step"], floor, "--", label=f"{name} noise floor", color=style["color"], linewidth=1)
        relative.plot(rows["step"], value / floor, label=name, **style, **LINE)
    ratio = history["loss"] / history["noise_floor"]
    absolute.set(yscale="log", xlabel="step", ylabel=unit)
    # a loss near its floor spans a fraction of a decade, where a logarithmic axis has hardly a label
    absolute.yaxis.set_major_locator(MaxNLocator(6))
    absolute.yaxis.set_minor_locator(NullLocator())
    absolute.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    relative.axhline(1, color=GREY, linestyle="--", linewidth=1)
    # the first steps would hide the rest
    relative.set_ylim(min(0.95, ratio.min()), 1 + 3 * max(ratio.median() - 1, 0.02))
    relative.set(xlabel="step", ylabel="loss / noise floor")
    absolute.set_title("Loss", loc="left", fontsize=8)
    add_legend(relative, of=absolute)
    sheet.caption = _learning_caption(history, checked, loss)
    return sheet


def floor_in_words(ratio: float, *, loss: str) -> str:
    """What a loss of `ratio` times its noise floor means: for squared errors a share, for absolute ones none.

    Parameters
    ----------
    ratio
        Loss over floor.
    loss
        "l2" or "l1". Squared errors of noise and network add up. Absolute ones do not; were both errors normal,
        their variances would, and the ratio be that of the SDs.

    Raises
    ------
    StudyError
        For another loss.
    """
    if _loss_name(loss) == _LOSSES["l2"]:
        return f"{100 / ratio:.0f} % of the mean squared error is noise of the target, which no network can predict."
    return (
        f"Absolute errors of noise and network do not add up; were both normal, {100 / ratio**2:.0f} % of the error’s "
        "variance would be noise of the target, which no network can predict."
    )


def alpha_curve(table: pd.DataFrame, chosen: float, *, paper: float = 0.3, label: str = _COHORT) -> Sheet:
    """PSNR over α in the four definitions, each relative to its own α = 1.

    Parameters
    ----------
    table
        definition, scan, alpha, psnr (dB), as returned by `sn2nlib.denoiser.sweep_alpha`.
    chosen
        This study's α.
    paper
        The published one.
    label
        Second line of the figure.

    Raises
    ------
    StudyError
        If α = 1, the untouched image, is not among the values of a scan.
    """
    curves = _relative_to_untouched(table)
    n_scans = table["scan"].nunique()
    scans = f"mean of {n_scans} validation scans" if n_scans > 1 else "one validation scan"
    title = "How much of the original should stay? PSNR of the blend over α"
    sheet = Sheet(title, label=f"{label}; {scans}, ringed: best α of each definition", height=95)
    axes = sheet.graphs(1, 1)[0, 0]
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axvline(chosen, color=BLUE, linewidth=1.5, label=f"chosen: {chosen:.2g}")
    axes.axvline(paper, color=GREY, linewidth=1, linestyle=(0, (1, 2)), label=f"the paper: {paper:g}")
    bests = []
    for name in (name for name in _DEFINITIONS if name in curves):
        (text, colour, line, marker), curve = _DEFINITIONS[name], curves[name]
        best = float(curve.index[int(curve.argmax())])
        bests.append(f"{text} {best:g}")
        style = {"color": colour, "linestyle": line, "marker": marker, **LINE}
        axes.plot(curve.index, curve, label=f"{text}: best {best:g}", **style)
        axes.plot(best, curve.max(), marker="o", markersize=10, fillstyle="none", color=colour)
    axes.set(xlabel="α, the share of the original image", ylabel="PSNR gain over the original, α = 1 (dB)")
    add_legend(axes, beside=True)
    sheet.caption = (
        f"PSNR of α · original + (1 − α) · network output, {scans}, relative to α = 1. Best α: "
        f"{', '.join(bests)}. Chosen: {chosen:.2g}, the midpoint of the two biased optima, which need no truth; the "
        f"paper: {paper:g}."
    )
    return sheet


def bias_plot(bias: pd.DataFrame, *, label: str = "simulated scans, a line per head") -> Sheet:
    """Mean intensity beyond the noise-free one, in air and CSF, over the added noise: the Rician floor.

    Parameters
    ----------
    bias
        head, noise_sigma, arm (original, sN2N, full_sampled), region, bias_percent (of the noise-free mean
        inside the head), as returned by `sn2nlib.evaluation.noise_levels.floor_bias`.
    label
        Second line of the figure.
    """
    sheet = Sheet("What the noise floor of magnitude images lifts", label=label, height=80)
    regions = list(dict.fromkeys(bias["region"]))
    panels = sheet.graphs(1, len(regions))[0]
    for axes, region in zip(panels, regions, strict=True):
        for arm, name in _BIAS_ARMS.items():
            part = bias[(bias["region"] == region) & (bias["arm"] == arm)]
            style = {**ARM_STYLES[arm], "alpha": 0.8, "linewidth": 0.9, "markersize": 3.5}
            # digital and real heads are not to be averaged: every head has its line
            for line, (_, head) in enumerate(part.groupby("head", sort=False)):
                known_as = name if line == 0 else None
                axes.plot(head["noise_sigma"], head["bias_percent"], label=known_as, **style)
        axes.axhline(0, color=GREY, linewidth=0.6)
        axes.set_title(region, loc="left", fontsize=8)
        axes.set(xlabel="added noise (σ)", ylabel="bias (% of the head’s mean)")
    add_legend(panels[-1], of=panels[0])
    sheet.caption = _bias_caption(bias)
    return sheet


def _relative_to_untouched(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Mean over scans of PSNR(α) − PSNR(1), by definition, indexed by α."""
    wide = table.pivot(index=["definition", "scan"], columns="alpha", values="psnr")
    if 1.0 not in wide or wide[1.0].isna().any():
        raise StudyError("the α curve is drawn relative to α = 1, which the table lacks; sweep up to 1")
    gain = wide.sub(wide[1.0], axis=0).groupby(level="definition").mean()
    return {str(name): curve for name, curve in gain.iterrows()}


def _loss_name(loss: str) -> str:
    if loss not in _LOSSES:
        raise StudyError(f"there is no loss {loss!r}; known: {', '.join(_LOSSES)}")
    return _LOSSES[loss]


def _learning_caption(history: pd.DataFrame, checked: pd.DataFrame, loss: str) -> str:
    last = history.tail(max(len(history) // 10, 1))
    ratio = float(last["loss"].mean() / last["noise_floor"].mean())
    caption = (
        f"Training over {int(history['step'].iloc[-1])} steps. Over the last tenth the {_loss_name(loss)} is "
        f"{ratio:.2f} times the floor that the noise maps predict. {floor_in_words(ratio, loss=loss)} "
        "Scale: the scan’s intensity scale."
    )
    if len(checked):
        final = float(checked["validation_loss"].iloc[-1] / checked["validation_floor"].iloc[-1])
        caption += f" The validation loss ends at {final:.2f} times its floor."
    return caption


def _bias_caption(bias: pd.DataFrame) -> str:
    level = bias["noise_sigma"].max()
    highest = bias[(bias["noise_sigma"] == level) & bias["arm"].isin(["original", "sN2N"])]
    spans = [
        f"{region}, {NAMES[str(arm)]}, {part.min():.1f} to {part.max():.1f} %".replace("-", "−")
        for (region, arm), part in highest.groupby(["region", "arm"], sort=False)["bias_percent"]
    ]
    return (
        "Mean intensity beyond the noise-free image’s, in percent of the head’s mean, a line for each of "
        f"{bias['head'].nunique()} heads. At +{level:g} σ: {'; '.join(spans)}. The noise of a magnitude is not "
        "zero-mean in air: trained on magnitudes of halves, the network learns their floor "
        f"(the paper’s third limitation). {_lifted_more(highest)}"
    )


def _lifted_more(rows: pd.DataFrame) -> str:
    """Where sN2N is further above the truth than the original is, in words; rows of one level."""
    sentences = []
    for region, part in rows.groupby("region", sort=False):
        arms = part.pivot(index="head", columns="arm", values="bias_percent")
        more = arms["sN2N"] - arms["original"]
        count = int((more > 0).sum())
        told = f"more than the original in {count} of {len(more)} heads, by up to {more.max():.1f} points"
        sentences.append(f"In {region} sN2N lifts {told if count else 'in no head more than the original'}.")
    return " ".join(sentences)
