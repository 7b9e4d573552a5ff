"""How numbers and lists stand in the report's tables and sentences: one way each, for HTML, Word files and captions."""

import math
from collections.abc import Sequence

NOTHING = "–"  # stands where a table has no value


def fixed(value: float, digits: int) -> str:
    """A number with that many decimals, a dash where there is none."""
    return NOTHING if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def rounded(value: float) -> str:
    """A number with three significant digits, a dash where there is none."""
    return NOTHING if math.isnan(value) else f"{value:.3g}"


def signed(value: float, digits: int) -> str:
    """A gain or a bias: with its sign, a dash where there is none."""
    if math.isnan(value):
        return NOTHING
    return f"{value:+.{digits}f}".replace("-", "−").replace("+inf", "∞")


def mean_sd(mean: float, sd: float, digits: int, *, between: str = " ± ") -> str:
    """Mean ± SD; the mean alone where a single scan has no SD, a dash where there is neither."""
    if math.isnan(mean):
        return NOTHING
    if math.isinf(mean):
        return "∞"
    return f"{mean:.{digits}f}" + ("" if math.isnan(sd) else f"{between}{sd:.{digits}f}")


def format_p(value: float) -> str:
    """P-value for a table: three digits, "<0.001" below, a dash where there is none."""
    if math.isnan(value):
        return NOTHING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def listed(words: Sequence[str]) -> str:
    """Words with commas between them, and "and" before the last."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
