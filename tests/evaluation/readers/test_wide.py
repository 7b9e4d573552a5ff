"""Wide score sheets: one header row or several, CSV or .xlsx, and what is said about bad ones."""

from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from sn2nlib.errors import ScoreError
from sn2nlib.evaluation.readers.criteria import Criteria
from sn2nlib.evaluation.readers.scores import read_scores, write_scores
from sn2nlib.evaluation.readers.wide import read_wide

ONE_ROW = """case,reader1_original_sharpness,reader1_sN2N_sharpness,reader2_original_sharpness,reader2_sN2N_sharpness
D147,3,5,2,4
D148,4,4,3,5
"""
THREE_ROWS = """;reader1;;reader2;
;original;sN2N;original;sN2N
case;Sharpness;Sharpness;Sharpness;Sharpness
D147;3;5;2,0;4
D148;4;4;3;5
"""


def save(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8-sig", newline="\r\n")
    return path


def problems(path: Path, criteria: Criteria, **options: object) -> list[str]:
    with pytest.raises(ScoreError) as raised:
        read_wide(path, criteria=criteria, **options)  # type: ignore[arg-type]
    return [line.strip() for line in str(raised.value).splitlines()[1:]]


def test_one_header_row(tmp_path: Path, criteria: Criteria) -> None:
    table = read_wide(save(tmp_path / "wide.csv", ONE_ROW), criteria=criteria)
    scores = table.set_index(["reader", "case", "arm", "parameter"])["score"].to_dict()
    assert scores == {
        ("reader1", "D147", "original", "sharpness"): 3, ("reader1", "D147", "sN2N", "sharpness"): 5,
        ("reader2", "D147", "original", "sharpness"): 2, ("reader2", "D147", "sN2N", "sharpness"): 4,
        ("reader1", "D148", "original", "sharpness"): 4, ("reader1", "D148", "sN2N", "sharpness"): 4,
        ("reader2", "D148", "original", "sharpness"): 3, ("reader2", "D148", "sN2N", "sharpness"): 5,
    }  # fmt: skip
    assert set(table["source"]) == {"human"} and set(table["reading"]) == {1}


def test_what_is_imported_can_be_checked(tmp_path: Path, criteria: Criteria) -> None:
    table = read_wide(save(tmp_path / "wide.csv", ONE_ROW), criteria=criteria, source="synthetic")
    write_scores(table, tmp_path / "long.csv")
    again = read_scores(tmp_path / "long.csv", criteria=criteria, cases=["D147", "D148"])
    pd.testing.assert_frame_equal(again.drop(columns="time"), table.drop(columns="time"), check_dtype=True)
    assert again["time"].isna().all()


def test_several_header_rows(tmp_path: Path, criteria: Criteria) -> None:
    found = read_wide(save(tmp_path / "wide.csv", THREE_ROWS), criteria=criteria)
    expected = read_wide(save(tmp_path / "one.csv", ONE_ROW), criteria=criteria)
    pd.testing.assert_frame_equal(found, expected)


def test_workbook_with_merged_cells(tmp_path: Path, criteria: Criteria) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (
        [None, "reader1", None, "reader2", None],
        ["Patient", *["Original – sharpness", "sN2N – sharpness"] * 2],
    ):
        sheet.append(row)
    sheet.merge_cells("B1:C1")
    sheet.merge_cells("D1:E1")
    for row in (["D147", 3, 5, 2.0, 4], ["D148", 4, 4, 3, 5]):
        sheet.append(row)
    book.save(tmp_path / "wide.xlsx")
    expected = read_wide(save(tmp_path / "one.csv", ONE_ROW), criteria=criteria)
    pd.testing.assert_frame_equal(read_wide(tmp_path / "wide.xlsx", criteria=criteria), expected)


@pytest.mark.parametrize(
    ("header", "group", "expected"),
    [
        ("R1 conventional Perceived SNR", None, ("R1", "original", "perceived_snr", 1)),
        ("Perceived SNR | denoised | Reader 1", None, ("Reader_1", "sN2N", "perceived_snr", 1)),
        ("reader1_ORIGINAL_vwi_sharpness", None, ("reader1", "original", "vwi_sharpness", 1)),
        ("reader1_original_sharpness", "vessel_wall", ("reader1", "original", "vwi_sharpness", 1)),
        ("Müller.original.Mammillothalamic tract", None, ("Müller", "original", "mammillothalamic_tract", 1)),
        ("reader1_sN2N_contrast_repeat", None, ("reader1", "sN2N", "contrast", 2)),
    ],
)
def test_headers(tmp_path: Path, criteria: Criteria, header: str, group: str | None, expected: tuple) -> None:
    reader, arm, parameter, reading = expected
    other = " ".join([reader, *({"original", "sN2N"} - {arm}), parameter, *["repeat"] * (reading - 1)])
    text = f"case;{header};{other}\nD147;3;5\n"
    first = read_wide(save(tmp_path / "wide.csv", text), criteria=criteria, group=group).iloc[0]
    assert tuple(first[["reader", "arm", "parameter", "reading"]]) == expected


def test_columns_to_ignore_and_scores_not_given(tmp_path: Path, criteria: Criteria) -> None:
    text = ONE_ROW.replace("\n", ",comment\n", 1).replace("2,4\n", ",4,moved\n").replace("3,5\n", "3,5,\n")
    path = save(tmp_path / "wide.csv", text)
    told = problems(path, criteria)
    assert told == [
        "line 1: column 'comment' names no arm, allowed: one of original, sn2n, conventional, denoised",
        "line 2: reader2_original_sharpness = '', allowed: a whole number from 1 to 5",
    ]
    assert len(read_wide(path, criteria=criteria, ignore=["Comment"], complete=False)) == 7


def test_every_mistake_is_named(tmp_path: Path, criteria: Criteria) -> None:
    text = (
        "case,r1 original sharpness,r1 sN2N sharpness,r1_original_Sharpness,original contrast,r1 sN2N beauty,"
        "r2 sN2N contrast\n"
        "D147,3,6,,,,5\nD147,3,4.5,,,,5\n,3,x,,,,4\n"
    )
    told = problems(save(tmp_path / "wide.csv", text), criteria, complete=False)
    assert [sentence.split(",")[0] for sentence in told] == [
        "line 1: column 'r1_original_Sharpness': r1",
        "line 1: column 'original contrast' names no reader",
        "line 1: column 'r1 sN2N beauty' names no parameter",
        "line 1: no column for contrast of r2 with arm 'original'",
        "line 2: r1 sN2N sharpness = '6'",
        "line 3: case 'D147' stands on line 2 already",
        "line 3: r1 sN2N sharpness = '4.5'",
        "line 4: there is no case in column 1",
        "line 4: r1 sN2N sharpness = 'x'",
    ]


@pytest.mark.parametrize("name", ["Mean", "SD", "Mean ± SD", "Total", "Mittelwert", "écart-type"])
def test_rows_of_results_are_no_cases(tmp_path: Path, criteria: Criteria, name: str) -> None:
    told = problems(save(tmp_path / "wide.csv", ONE_ROW + f"{name},4,5,3,4.5\n"), criteria)
    assert told == [f"line 4: {name!r} is a row of results, not a case; leave it out"]


def test_some_cases_are_read_twice(tmp_path: Path, criteria: Criteria) -> None:
    pairs = [f"{reader} {arm} sharpness repeat" for reader in ("reader1", "reader2") for arm in ("original", "sN2N")]
    head, *rows = ONE_ROW.splitlines()
    twice = [",".join([head, *pairs]), f"{rows[0]},4,5,,", f"{rows[1]},,,,", ""]
    table = read_wide(save(tmp_path / "wide.csv", "\n".join(twice)), criteria=criteria)
    again = table[table["reading"] == 2]
    assert again[["reader", "case", "arm", "score"]].to_numpy().tolist() == [
        ["reader1", "D147", "original", 4], ["reader1", "D147", "sN2N", 5],
    ]  # fmt: skip
    twice[2] = f"{rows[1]},,5,,"
    assert problems(save(tmp_path / "wide.csv", "\n".join(twice)), criteria) == [
        "line 3: reader1 original sharpness repeat = '', allowed: a whole number from 1 to 5"
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("D147,3,4\nD148,4,5\n", "needs headers, and scores below them; 0 row"),
        ("case,r1 original contrast\nD147,good\n", "needs headers, and scores below them; 2 row"),
        ("case,age\nD147,60\n", "no column holds scores"),
    ],
)
def test_sheets_that_are_none(tmp_path: Path, criteria: Criteria, text: str, told: str) -> None:
    with pytest.raises(ScoreError, match=told):
        read_wide(save(tmp_path / "wide.csv", text), criteria=criteria)
    with pytest.raises(ScoreError, match="no group 'quality' of parameters; there are image_quality"):
        read_wide(tmp_path / "wide.csv", criteria=criteria, group="quality")
