"""The paper's own numbers, and the bars this study holds itself to, from ``data_manifest/``.

Source: Jung W, Lee HS, Seo M, et al. European Radiology 2023;33:2686-2698, doi 10.1007/s00330-022-09243-y.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from sn2nlib.errors import ManifestError

LOWER_IS_BETTER = frozenset({"NRMSE_percent"})

_DECIMALS = 3  # of the published means; their differences carry no more


@dataclass(frozen=True)
class Published:
    """What the paper states, as tables.

    Attributes
    ----------
    table1
        set, sequence, n, age_mean, age_sd (years), female, male, condition, count; a row per set, then a row
        per condition.
    table2
        metric, arm (original, sN2N), noise_sigma, mean, sd, p_value (as printed, such as "<0.001").
    figures
        Numbers of the running text: where, quantity, original, sN2N, low, high, detail.
    inconsistencies
        What does not agree within the paper: topic, first, second, comment.
    differences
        What this study does differently: topic, paper, here, why; names in braces stand for its settings.
    bars
        Gains asked of this study: set, reference, region, metric, noise_sigma, statistic (mean, lowest), bar
        (dB for PSNR, percent of the original's for NRMSE).
    volumetry_bars
        The same for DSC, which depends on the engine: engine (fsl, other), metric (DSC_FAST, DSC_FIRST), noise_sigma,
        quantity (gain; share_percent, of what 1 − DSC loses), bar.
    """

    table1: pd.DataFrame
    table2: pd.DataFrame
    figures: pd.DataFrame
    inconsistencies: pd.DataFrame
    differences: pd.DataFrame
    bars: pd.DataFrame
    volumetry_bars: pd.DataFrame

    def value(self, metric: str, arm: str, noise_sigma: float) -> pd.Series:
        """Published mean, sd and p_value of one cell of Table 2.

        Raises
        ------
        ManifestError
            If the paper has no such cell.
        """
        table = self.table2[(self.table2["metric"] == metric) & (self.table2["arm"] == arm)]
        rows = table[table["noise_sigma"] == noise_sigma]
        if rows.empty:
            raise ManifestError(f"The published Table 2 has no {metric} of arm {arm!r} at {noise_sigma:g} σ")
        return rows.iloc[0][["mean", "sd", "p_value"]]

    def gain(self, metric: str, noise_sigma: float) -> float:
        """Published improvement of sN2N over the original, in the metric's unit; positive is better.

        NRMSE: the drop in percentage points.

        Raises
        ------
        ManifestError
            If the paper has no such cell.
        """
        original = float(self.value(metric, "original", noise_sigma)["mean"])
        other = float(self.value(metric, "sN2N", noise_sigma)["mean"])
        return round(original - other if metric in LOWER_IS_BETTER else other - original, _DECIMALS)

    def gain_percent(self, metric: str, noise_sigma: float) -> float:
        """Published improvement in percent of the original's value; positive is better.

        Raises
        ------
        ManifestError
            If the paper has no such cell.
        """
        original = float(self.value(metric, "original", noise_sigma)["mean"])
        return 100 * self.gain(metric, noise_sigma) / original


_NUMBER = pa.Column(float, coerce=True)
_MAYBE = pa.Column(float, nullable=True, coerce=True)
_TEXT = pa.Column(str)
_SCHEMAS = {
    "table1.csv": pa.DataFrameSchema(
        {
            "set": _TEXT, "sequence": _TEXT, "condition": pa.Column(str, nullable=True),
            **dict.fromkeys(("n", "age_mean", "age_sd", "female", "male", "count"), _MAYBE),
        },
        strict=True,
    ),
    "table2.csv": pa.DataFrameSchema(
        {
            "metric": _TEXT, "arm": pa.Column(str, pa.Check.isin(["original", "sN2N"])),
            "noise_sigma": _NUMBER, "mean": _NUMBER, "sd": _NUMBER, "p_value": _TEXT,
        },
        strict=True, unique=["metric", "arm", "noise_sigma"],
    ),
    "bars.csv": pa.DataFrameSchema(
        {
            "set": _TEXT, "reference": _TEXT, "region": _TEXT, "metric": _TEXT, "noise_sigma": _NUMBER,
            "statistic": pa.Column(str, pa.Check.isin(["mean", "lowest"])), "bar": _NUMBER,
        },
        strict=True, unique=["set", "reference", "region", "metric", "noise_sigma"],
    ),
    "bars_volumetry.csv": pa.DataFrameSchema(
        {
            "engine": pa.Column(str, pa.Check.isin(["fsl", "other"])),
            "metric": pa.Column(str, pa.Check.isin(["DSC_FAST", "DSC_FIRST"])), "noise_sigma": _NUMBER,
            "quantity": pa.Column(str, pa.Check.isin(["gain", "share_percent"])), "bar": _NUMBER,
        },
        strict=True, unique=["engine", "metric", "noise_sigma", "quantity"],
    ),
    "published.csv": pa.DataFrameSchema(
        dict.fromkeys(
            ("where", "quantity", "original", "sN2N", "low", "high", "detail"), pa.Column(nullable=True)
        ),
        strict=True,
    ),
    "inconsistencies.csv": pa.DataFrameSchema(
        dict.fromkeys(("topic", "first", "second", "comment"), _TEXT), strict=True,
    ),
    "differences.csv": pa.DataFrameSchema(
        dict.fromkeys(("topic", "paper", "here", "why"), _TEXT), strict=True, unique=["topic"],
    ),
}  # fmt: skip


def load_published(folder: str | os.PathLike[str]) -> Published:
    """Read ``published/``, ``bars.csv`` and ``bars_volumetry.csv`` of a ``data_manifest`` folder.

    Raises
    ------
    ManifestError
        Naming every row that cannot be right.
    """
    folder = Path(folder)
    return Published(
        table1=_read(folder / "published" / "table1.csv"),
        table2=_read(folder / "published" / "table2.csv"),
        figures=_read(folder / "published" / "published.csv"),
        inconsistencies=_read(folder / "published" / "inconsistencies.csv"),
        differences=_read(folder / "published" / "differences.csv"),
        bars=_read(folder / "bars.csv"),
        volumetry_bars=_read(folder / "bars_volumetry.csv"),
    )


def _read(path: Path) -> pd.DataFrame:
    try:
        # p-values stay as printed; "<0.001" would make the others text anyway
        table = pd.read_csv(path, dtype={"p_value": str})
        return _SCHEMAS[path.name].validate(table, lazy=True)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    except pa.errors.SchemaErrors as error:
        raise ManifestError(f"{path}:\n{error.failure_cases.to_string()}") from error
