"""Table 1: counts, summaries and tests of the cohort beside the published ones."""

import math
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from sn2nlib.reporting.demographics import table1, table1_html, table1_tests
from sn2nlib.reporting.published import Published, load_published
from sn2nlib.scans.manifest import load_splits

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifest"


@pytest.fixture(scope="module")
def published() -> Published:
    return load_published(MANIFEST)


def people() -> pd.DataFrame:
    """A cohort of seven whose table can be done by hand."""
    table = pd.DataFrame(
        [
            ("D001", "training", 40, "F", "hemorrhage"),
            ("D002", "training", 50, "F", "brain tumor"),
            ("D003", "training", 63, "M", "brain tumor"),
            ("D136", "validation", 30, "M", "brain tumor"),
            ("D167", "quantitative", 60, "F", "not stated"),
            ("D168", "quantitative", 70, "F", "not stated"),
            ("S1", "real_head", None, None, "not stated"),
        ],
        columns=["participant", "set", "age", "sex", "condition"],
    )
    return table.astype({"age": "Int64"})


def test_rows_of_the_cohort(published: Published) -> None:
    table = table1(people(), published)
    ours = table[table["source"] == "cohort"]
    sets = ours[ours["condition"].isna()].set_index("set")
    assert list(sets.index) == ["training", "validation", "quantitative", "real_head"]
    assert sets.loc["training", ["n", "female", "male"]].tolist() == [3, 2, 1]
    assert sets.at["training", "age_mean"] == pytest.approx(51)
    assert sets.at["training", "age_sd"] == pytest.approx(math.sqrt((121 + 1 + 144) / 2))
    assert sets.at["validation", "age_mean"] == 30
    assert math.isnan(sets.at["validation", "age_sd"])
    assert math.isnan(sets.at["real_head", "age_mean"])
    conditions = ours[ours["set"] == "training+validation"].set_index("condition")["count"]
    assert conditions.to_dict() == {"hemorrhage": 1, "brain tumor": 3}


def test_published_rows_are_copied(published: Published) -> None:
    table = table1(people(), published)
    theirs = table[table["source"] == "published"]
    sets = theirs[theirs["condition"].isna()].set_index("set")
    assert sets["n"].to_dict() == {
        "training": 135, "validation": 11, "qualitative": 20, "quantitative": 19, "generalisation": 18,
    }  # fmt: skip
    assert theirs["count"].sum() == 146 + 20


def test_tests_of_both_sources(published: Published) -> None:
    tests = table1_tests(people(), published).set_index(["source", "characteristic"])
    age, sex = tests.loc[("published", "age")], tests.loc[("published", "sex")]
    assert (age["df1"], age["df2"], round(age["statistic"], 3), round(age["p"], 3)) == (3, 181, 0.304, 0.823)
    assert (sex["df1"], round(sex["statistic"], 3), round(sex["p"], 3)) == (3, 1.173, 0.759)
    expected = stats.f_oneway([40, 50, 63], [30], [60, 70])
    assert tests.at[("cohort", "age"), "p"] == pytest.approx(expected.pvalue)
    assert tests.at[("cohort", "age"), "df2"] == 3


def test_a_tiny_cohort_has_no_test(published: Published) -> None:
    tests = table1_tests(people().query("set == 'training'"), published)
    assert tests[tests["source"] == "cohort"]["p"].isna().all()


@pytest.mark.parametrize("profile", ["smoke", "demo", "paper"])
def test_html_of_every_profile(published: Published, profile: str) -> None:
    cohort = load_splits(MANIFEST, profile)
    made_by = {"profile": profile, "commit": "c0ffee"}
    page = table1_html(
        table1(cohort, published), table1_tests(cohort, published), provenance=made_by
    ).as_raw_html()
    for expected in (
        "Age (years)", "Age, one-way ANOVA", "87 / 48", "57 ± 20",
        "F(3, 181) = 0.304, p = 0.823", "χ²(3) = 1.173, p = 0.759",
        "Digital heads are not patients", f"profile {profile}", "commit c0ffee",
    ):  # fmt: skip
        assert expected in page
    assert "http" not in page
    assert ("not stated" in page) == (profile != "smoke")  # the real head
