"""How numbers and lists stand in the report: signs, digits, what has no value."""

import math

import pytest

from sn2nlib.reporting.wording import fixed, format_p, listed, mean_sd, rounded, sentence, signed


@pytest.mark.parametrize(
    ("p", "shown"),
    [(0.0, "<0.001"), (0.00099, "<0.001"), (0.001, "0.001"), (0.0123, "0.012"), (math.nan, "–")],
)
def test_p_values(p: float, shown: str) -> None:
    assert format_p(p) == shown


def test_numbers_carry_a_minus_and_a_dash_where_there_is_none() -> None:
    assert [fixed(value, 2) for value in (0.126, -0.5, math.nan)] == ["0.13", "−0.50", "–"]
    assert [signed(value, 1) for value in (1.26, -0.5, math.inf, math.nan)] == ["+1.3", "−0.5", "∞", "–"]
    assert [rounded(value) for value in (1234.5, 0.01234, math.nan)] == ["1.23e+03", "0.0123", "–"]


def test_mean_and_sd() -> None:
    assert mean_sd(3.14, 0.26, 1) == "3.1 ± 0.3"
    assert mean_sd(3.14, 0.26, 1, between="±") == "3.1±0.3"
    assert mean_sd(41.0, math.nan, 3) == "41.000"  # a single scan
    assert mean_sd(math.inf, math.nan, 1) == "∞"  # PSNR of an image that is its own reference
    assert mean_sd(math.nan, math.nan, 1) == "–"


def test_lists_and_sentences() -> None:
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert [sentence(text) for text in ("", "sN2N gains", "a head")] == ["", "SN2N gains", "A head"]
