"""Table 1: who takes part, beside the paper's participants, with the tests across the sets."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from great_tables import GT

from sn2nlib.evaluation.statistics import GroupTest, anova, anova_from_summaries, chi2_from_counts
from sn2nlib.reporting.html import DIGITAL, PAPER, provenance_note
from sn2nlib.reporting.published import Published
from sn2nlib.reporting.wording import NOTHING, format_p, mean_sd, sentence

SET_NAMES = {
    "training": "Training",
    "validation": "Validation",
    "training+validation": "Training and validation",
    "qualitative": "Qualitative test",
    "quantitative": "Quantitative test",
    "generalisation": "Generalisation (VWI)",
    "real_head": "Real head",
}

# the paper compares these four; the vessel-wall group was scanned otherwise
_COMPARED = ("training", "validation", "qualitative", "quantitative")
_SPELLING = {"generalization": "generalisation"}


def table1(participants: pd.DataFrame, published: Published) -> pd.DataFrame:
    """Demographics of the cohort beside the published ones.

    Parameters
    ----------
    participants
        Rows of `sn2nlib.scans.manifest.load_splits`.
    published
        The paper's numbers.

    Returns
    -------
    source (cohort, published), set, n, age_mean, age_sd, female, male, condition, count: for each source a
    row per set, then a row per set and condition. Sets that a profile leaves out have no cohort row. As
    published, training and validation share one list of conditions, "training+validation".
    """
    theirs = published.table1.drop(columns="sequence").replace({"set": _SPELLING}).assign(source="published")
    theirs["n"] = theirs["n"].where(theirs["condition"].isna())
    rows = [
        {
            "set": name, "n": len(group), "age_mean": _mean(group["age"]), "age_sd": _sd(group["age"]),
            "female": int((group["sex"] == "F").sum()), "male": int((group["sex"] == "M").sum()),
        }
        for name, group in participants.groupby("set", sort=False)
    ]  # fmt: skip
    trained = dict.fromkeys(("training", "validation"), "training+validation")
    conditions = participants.replace({"set": trained}).groupby(["set", "condition"], sort=False).size()
    ours = pd.concat([pd.DataFrame(rows), conditions.rename("count").reset_index()], ignore_index=True)
    columns = ["source", "set", "n", "age_mean", "age_sd", "female", "male", "condition", "count"]
    both = pd.concat([ours.assign(source="cohort"), theirs], ignore_index=True)[columns]
    return both.astype(dict.fromkeys(("n", "female", "male", "count"), "Int64"))


def table1_tests(participants: pd.DataFrame, published: Published) -> pd.DataFrame:
    """Age (one-way ANOVA) and sex (χ²) across training, validation, qualitative and quantitative set.

    Returns
    -------
    source (cohort, published), characteristic, test, statistic, df1, df2 (empty for χ²), p. The published
    rows are computed from the published summaries; NaN where the groups cannot carry the test.
    """
    theirs = published.table1.dropna(subset="age_mean").set_index("set").loc[list(_COMPARED)]
    groups = [participants[participants["set"] == name] for name in _COMPARED]
    sexes = [[int((group["sex"] == sex).sum()) for sex in "FM"] for group in groups]
    ages = [group["age"].dropna().to_numpy(dtype=float) for group in groups]
    sizes = [int(n) for n in theirs["n"]]
    rows = [
        _test_row("cohort", "age", "one-way ANOVA", anova(ages)),
        _test_row("cohort", "sex", "χ²", chi2_from_counts(sexes)),
        _test_row(
            "published", "age", "one-way ANOVA",
            anova_from_summaries(sizes, theirs["age_mean"].tolist(), theirs["age_sd"].tolist()),
        ),
        _test_row("published", "sex", "χ²", chi2_from_counts(theirs[["female", "male"]].to_numpy())),
    ]  # fmt: skip
    return pd.DataFrame(rows)


def table1_html(table: pd.DataFrame, tests: pd.DataFrame, *, provenance: Mapping[str, Any]) -> GT:
    """Table 1: demographics of the cohort beside the published ones, with the tests across sets.

    Parameters
    ----------
    table, tests
        As returned by `table1` and `table1_tests`.
    provenance
        As returned by `sn2nlib.provenance.provenance`.
    """
    rows: list[dict[str, str]] = []
    for name in (name for name in SET_NAMES if name in set(table["set"])):
        group = table[table["set"] == name]
        rows += _people_rows(name, group[group["condition"].isna()])
        rows += _condition_rows(name, group[group["condition"].notna()])
    rows += _test_rows(tests)
    shown = pd.DataFrame(rows)
    return (
        GT(shown, groupname_col="group", rowname_col="row", id="table1")
        .tab_header("Table 1. Demographic characteristics", "This profile’s cohort beside the published one")
        .cols_label(cohort="This study", published="Published")
        .cols_align("right", columns=["cohort", "published"])
        .tab_source_note("Ages are mean ± SD in years; the others are numbers of participants.")
        .tab_source_note(DIGITAL)
        .tab_source_note("Published tests: computed here from the published summaries.")
        .tab_source_note(PAPER)
        .tab_source_note(provenance_note(provenance))
    )


def _mean(values: pd.Series) -> float:
    return float(values.dropna().astype(float).mean())


def _sd(values: pd.Series) -> float:
    return float(values.dropna().astype(float).std())


def _test_row(source: str, characteristic: str, test: str, found: GroupTest) -> dict[str, object]:
    df2 = found.df[1] if len(found.df) > 1 else None
    return {
        "source": source, "characteristic": characteristic, "test": test, "statistic": found.statistic,
        "df1": found.df[0], "df2": df2, "p": found.p,
    }  # fmt: skip


def _people_rows(name: str, rows: pd.DataFrame) -> list[dict[str, str]]:
    if rows.empty:
        return []
    sides = {source: rows[rows["source"] == source] for source in ("cohort", "published")}
    labels = {"Participants": _number, "Age (years)": _age, "Female / male": _sexes}
    return [
        {"group": SET_NAMES[name], "row": label}
        | {source: NOTHING if side.empty else text(side.iloc[0]) for source, side in sides.items()}
        for label, text in labels.items()
    ]


def _condition_rows(name: str, rows: pd.DataFrame) -> list[dict[str, str]]:
    counts = rows.pivot_table(index="condition", columns="source", values="count", aggfunc="sum", sort=False)
    counts = counts.reindex(columns=["published", "cohort"]).drop(index="not stated", errors="ignore")
    counts = counts.sort_values("published", ascending=False, kind="stable")
    return [
        {
            "group": f"{SET_NAMES[name]}: conditions (numbers of participants)",
            "row": sentence(str(condition)),
            "cohort": NOTHING if pd.isna(both["cohort"]) else f"{both['cohort']:.0f}",
            "published": NOTHING if pd.isna(both["published"]) else f"{both['published']:.0f}",
        }
        for condition, both in counts.iterrows()
    ]


def _test_rows(tests: pd.DataFrame) -> list[dict[str, str]]:
    rows = []
    for (characteristic, test), group in tests.groupby(["characteristic", "test"], sort=False):
        row = {"group": "Difference between training, validation, qualitative and quantitative set"}
        row["row"] = f"{str(characteristic).capitalize()}, {test}"
        rows.append(row | {str(found["source"]): _statistic(found) for _, found in group.iterrows()})
    return rows


def _statistic(found: pd.Series) -> str:
    if math.isnan(found["p"]):
        return "not defined for these groups"
    degrees = f"{found['df1']:g}" + ("" if math.isnan(found["df2"]) else f", {found['df2']:g}")
    symbol = "χ²" if math.isnan(found["df2"]) else "F"
    return f"{symbol}({degrees}) = {found['statistic']:.3f}, p = {format_p(found['p'])}".replace("= <", "< ")


def _number(row: pd.Series) -> str:
    return f"{row['n']}"


def _age(row: pd.Series) -> str:
    return "not stated" if math.isnan(row["age_mean"]) else mean_sd(row["age_mean"], row["age_sd"], 0)


def _sexes(row: pd.Series) -> str:
    return f"{row['female']} / {row['male']}" if row["female"] + row["male"] else "not stated"
