"""HTML tables: what they say, beside what, and that they need nothing from outside."""

import math
from pathlib import Path

import pandas as pd
import pytest

from sn2nlib.errors import StudyError
from sn2nlib.reporting.html import gains_html, own_noise_shares, provenance_note, save_html, table2_html
from sn2nlib.reporting.published import Published, load_published
from sn2nlib.reporting.tables import gains, per_scan, table2

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifest"
PROVENANCE = {"profile": "demo", "seed": 7, "commit": "c0ffee", "versions": {"numpy": "2.3.5"}}


@pytest.fixture(scope="module")
def published() -> Published:
    return load_published(MANIFEST)


@pytest.fixture(scope="module")
def values() -> pd.DataFrame:
    """Three digital heads and a real one at 0 σ; PSNR 41, 42, 43 dB, sN2N 1.0, 1.1, 1.2 dB better."""
    rows = [
        {
            "set": set_name, "scan": scan, "noise_sigma": 0.0, "arm": arm, "reference": reference,
            "region": region, "psnr": psnr + gain, "ssim": 0.98 + gain / 100, "nrmse": 4.4 - gain,
        }
        for set_name, scan, psnr, better in (
            ("quantitative", "D167", 41.0, 1.0), ("quantitative", "D168", 42.0, 1.1),
            ("quantitative", "D169", 43.0, 1.2), ("real_head", "S1", 40.9, 0.3),
        )
        for arm, gain in (("original", 0.0), ("sN2N", better), ("truth", 1.5))
        for reference, region in (("full_sampled", "volume"), ("noise_free", "head"))
    ]  # fmt: skip
    return per_scan(pd.DataFrame(rows))


def test_table2_beside_the_published_one(values: pd.DataFrame, published: Published) -> None:
    page = table2_html(table2(values), published, provenance=PROVENANCE).as_raw_html()
    for expected in (
        "42.0 ± 1.0", "43.1 ± 1.1", "43.5 ± 1.0",  # original, sN2N, truth
        "41.2 ± 0.8", "41.7 ± 0.9", "&lt;0.001",  # published
        "PSNR (dB)", "NRMSE (%)", "0.003", "3 scans", "Digital heads are not patients",
        "at least 10 % of the largest", "profile demo, seed 7, commit c0ffee, numpy 2.3.5",
    ):  # fmt: skip
        assert expected in page


def test_nrmse_says_how_many_slices_it_averages_and_what_it_is_over_the_volume(
    values: pd.DataFrame, published: Published
) -> None:
    measured = pd.DataFrame([
        {
            "set": "quantitative", "scan": scan, "noise_sigma": level, "arm": arm, "reference": reference,
            "region": "volume", "nrmse_volume": (4 + 5 * level) * better + (reference == "noise_free"),
            "n_slices": slices,
        }
        for scan, slices in (("D167", 118), ("D168", 121))
        for level in (0.0, 1.0, 3.0)
        for arm, better in (("original", 1.0), ("sN2N", 0.5), ("truth", 0.1))
        for reference in ("full_sampled", "noise_free")
    ])  # fmt: skip
    page = table2_html(table2(values), published, provenance=PROVENANCE, measured=measured).as_raw_html()
    assert "NRMSE averages 118 to 121 slices of a scan" in page
    assert "from 0 to 3 σ of added noise, 4.0 % → 19.0 % for original and 2.0 % → 9.5 % for sN2N" in page
    one = measured[measured["scan"] == "D168"]
    page = table2_html(table2(values), published, provenance=PROVENANCE, measured=one).as_raw_html()
    assert "NRMSE averages 121 slices of a scan" in page
    assert "slices of a scan" not in table2_html(table2(values), published, provenance=PROVENANCE).as_raw_html()


def test_published_numbers_stand_where_they_were_measured(values: pd.DataFrame, published: Published) -> None:
    page = table2_html(
        table2(values), published, provenance=PROVENANCE, reference="noise_free", region="head"
    ).as_raw_html()
    assert "Published" not in page and "41.2 ± 0.8" not in page
    assert "inside the head, against the noise-free image" in page


def test_a_single_real_head_shows_no_spread(values: pd.DataFrame, published: Published) -> None:
    page = table2_html(table2(values), published, provenance=PROVENANCE, set_name="real_head").as_raw_html()
    assert ">40.9<" in page
    assert "1 scan;" in page
    assert "its own scanner noise" in page and "not patients" not in page
    assert "No network was trained and no α chosen on it. But its gains in a first run" in page


def test_a_real_heads_own_noise_is_told_beside_its_noise_free_image(
    values: pd.DataFrame, published: Published
) -> None:
    noise = pd.DataFrame({
        "participant": ["D167", "S1"], "noise_over_scale": [0.02, 0.025], "own_noise_over_scale": [math.nan, 0.017],
    })  # fmt: skip
    shares = own_noise_shares(noise)
    assert shares == {"S1": pytest.approx(0.68)}
    told = "image of S1 holds its own scanner noise: its SD is at most 68 % of"
    for set_name, reference, region, expected in (
        ("real_head", "noise_free", "head", True), ("real_head", "full_sampled", "volume", False),
        ("quantitative", "noise_free", "head", False),
    ):  # fmt: skip
        where = {"set_name": set_name, "reference": reference, "region": region, "own_noise": shares}
        tables = [
            table2_html(table2(values), published, provenance=PROVENANCE, **where),
            gains_html(gains(values, published), provenance=PROVENANCE, **where),
        ]
        assert [told in table.as_raw_html() for table in tables] == [expected] * 2


def test_gains_with_bar_and_verdict(values: pd.DataFrame, published: Published) -> None:
    page = gains_html(gains(values, published), provenance=PROVENANCE).as_raw_html()
    for expected in ("+1.10", "+1.00", "+1.50", "+0.50", "reached", "Gain of the truth<", "+25.0"):
        assert expected in page
    assert "It can be exceeded: the share α of the original" in page
    real = gains_html(gains(values, published), provenance=PROVENANCE, set_name="real_head").as_raw_html()
    assert "+0.30" in real and "missed" in real


def test_bar_of_zero_is_told_in_words(values: pd.DataFrame, published: Published) -> None:
    page = gains_html(
        gains(values, published), provenance=PROVENANCE, reference="noise_free", region="head"
    ).as_raw_html()
    assert "above 0" in page and "hold for the lowest scan" in page


def test_part_that_was_not_measured(values: pd.DataFrame, published: Published) -> None:
    with pytest.raises(StudyError, match="no rows of 'vessel' against 'full_sampled' over 'volume'"):
        table2_html(table2(values), published, provenance={}, set_name="vessel")


def test_page_needs_nothing_from_outside(values: pd.DataFrame, published: Published, tmp_path: Path) -> None:
    for name, table in (
        ("table2", table2_html(table2(values), published, provenance=PROVENANCE)),
        ("gains", gains_html(gains(values, published), provenance=PROVENANCE)),
    ):
        save_html(table, tmp_path / f"{name}.html")
        page = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>")
        for outside in ("http:", "https:", "<script", "<link", "@import", "url("):
            assert outside not in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gains.html", "table2.html"]


def test_page_is_the_same_every_time(values: pd.DataFrame, published: Published) -> None:
    table = table2(values)
    first, second = (table2_html(table, published, provenance=PROVENANCE).as_raw_html() for _ in range(2))
    assert first == second


def test_provenance_says_what_it_knows() -> None:
    assert provenance_note({"seed": 3, "threads": 2}) == "Made by: seed 3."
