"""Score tables: what is read, what is written, and every mistake in one message."""

from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from sn2nlib.errors import ScoreError
from sn2nlib.evaluation.readers.criteria import Criteria
from sn2nlib.evaluation.readers.scores import COLUMNS, read_cases, read_scores, source_of, write_scores
from sn2nlib.evaluation.readers.wide import read_wide

HEADER = list(COLUMNS)
READERS = ("reader1", "reader2")
CASES = ("D147", "D148", "D149", "D150", "D151")
PARAMETERS = ("contrast", "sharpness", "claustrum")


def rows() -> list[list[str]]:
    """A complete table of 60 scores, without header."""
    return [
        [reader, case, arm, parameter, str(1 + (len(reader) + place + len(arm)) % 5), str(place), "2026-03-05T14:30:00"]
        for reader in READERS
        for place, case in enumerate(CASES, 1)
        for arm in ("original", "sN2N")
        for parameter in PARAMETERS
    ]


def text(table: list[list[str]], *, mark: str = ",", end: str = "\n") -> str:
    return end.join(mark.join(row) for row in table) + end


def save(path: Path, table: list[list[str]], **how: str) -> Path:
    path.write_bytes(text(table, **how).encode())
    return path


def problems(path: Path, criteria: Criteria, **options: object) -> list[str]:
    """The lines of the message, without its head, which counts them."""
    with pytest.raises(ScoreError) as raised:
        read_scores(path, criteria=criteria, **options)  # type: ignore[arg-type]
    head, *lines = str(raised.value).splitlines()
    assert head == f"{path}: {len(lines)} problem(s)"
    return [line.strip() for line in lines]


def test_a_table_is_read_as_it_stands(tmp_path: Path, criteria: Criteria) -> None:
    path = save(tmp_path / "scores.csv", [HEADER, *rows()])
    table = read_scores(path, criteria=criteria, cases=CASES, readers=READERS)
    assert list(table.columns) == [*COLUMNS, "reading", "source"]
    assert table["score"].tolist() == [int(row[4]) for row in rows()]
    assert table["score"].dtype == table["reading"].dtype == "int64" and table["reading_order"].dtype == "Int64"
    assert table["time"].unique().tolist() == [pd.Timestamp("2026-03-05T14:30:00", tz="UTC")]
    assert set(table["reading"]) == {1} and set(table["source"]) == {"human"}


def test_what_is_written_is_read_again(tmp_path: Path, criteria: Criteria) -> None:
    table = read_scores(save(tmp_path / "scores.csv", [HEADER, *rows()]), criteria=criteria)
    table.loc[0, ["reading_order", "time"]] = [pd.NA, pd.NaT]
    table["source"] = "synthetic"
    before = table.copy()
    write_scores(table, tmp_path / "again.csv")
    pd.testing.assert_frame_equal(table, before)
    pd.testing.assert_frame_equal(read_scores(tmp_path / "again.csv", criteria=criteria), table)
    write_scores(table[list(COLUMNS[:5])], tmp_path / "short.csv")
    short = read_scores(tmp_path / "short.csv", criteria=criteria)
    assert short["time"].isna().all() and short["reading_order"].isna().all() and set(short["source"]) == {"human"}
    with pytest.raises(ScoreError, match=r"needs the column\(s\) arm, score"):
        write_scores(table.drop(columns=["arm", "score"]), tmp_path / "never.csv")
    assert not (tmp_path / "never.csv").exists()


def test_european_excel(tmp_path: Path, criteria: Criteria) -> None:
    table = [[*row[:4], f"{row[4]},0", *row[5:]] for row in rows()]
    saved = text([HEADER, *table], mark=";", end="\r\n")
    expected = read_scores(save(tmp_path / "plain.csv", [HEADER, *rows()]), criteria=criteria)
    for name, data in {
        "bom": b"\xef\xbb\xbf" + saved.encode(),
        "sep": b"\xef\xbb\xbfsep=;\r\n" + saved.encode(),
        "utf16": saved.replace(";", "\t").encode("utf-16"),
        "capitals": saved.replace("reader;case", "Reader;CASE").encode(),
        "empty_columns": saved.replace("\r\n", ";;\r\n").encode() + b";;;;;;;;\r\n",
    }.items():
        (tmp_path / name).write_bytes(data)
        found = read_scores(tmp_path / name, criteria=criteria, cases=CASES, readers=READERS)
        pd.testing.assert_frame_equal(found, expected)


def test_workbook(tmp_path: Path, criteria: Criteria) -> None:
    book = openpyxl.Workbook()
    for row in [HEADER, *([*row[:4], float(row[4]), int(row[5]), row[6]] for row in rows())]:
        book.active.append(row)
    book.save(tmp_path / "scores.xlsx")
    expected = read_scores(save(tmp_path / "plain.csv", [HEADER, *rows()]), criteria=criteria)
    pd.testing.assert_frame_equal(read_scores(tmp_path / "scores.xlsx", criteria=criteria), expected)
    (tmp_path / "broken.xlsx").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(ScoreError, match="not an Excel workbook"):
        read_scores(tmp_path / "broken.xlsx", criteria=criteria)


def test_fifteen_mistakes_give_fifteen_sentences(tmp_path: Path, criteria: Criteria) -> None:
    header = [*HEADER, "reading", "source"]
    table = [[*row, "1", "human"] for row in rows()]
    plain = {2: "4.0", 3: "4.0", 41: "4.0"}
    wrong = {
        5: ("score", "0", "whole number from 1 to 5"),
        7: ("score", "6", "whole number from 1 to 5"),
        10: ("score", "3.5", "whole number from 1 to 5"),
        12: ("score", "good", "whole number from 1 to 5"),
        15: ("score", "", "whole number from 1 to 5"),
        17: ("case", "D999", "D147, D148"),
        20: ("arm", "sn2n", "original, sN2N"),
        23: ("reader", "raeder1", "reader1, reader2"),
        28: ("parameter", "sharpnes", "sharpness"),
        33: ("reading_order", "first", "whole number from 1"),
        36: ("time", "yesterday", "ISO 8601"),
        39: ("reading", "3", "1, or 2"),
        44: ("score", "2,0", "decimal mark"),
    }  # fmt: skip
    for line, value in plain.items():
        table[line - 2][header.index("score")] = value
    for line, (column, value, _) in wrong.items():
        table[line - 2][header.index(column)] = value
    table.append(table[0])  # on line 62, and
    del table[58]  # what stood on line 60, beside line 57, is missing
    path = save(tmp_path / "scores.csv", [header, *table], mark=";")
    found = problems(path, criteria, cases=CASES, readers=READERS)
    assert len(found) == len(wrong) + 2 == 15
    for line, (column, value, allowed) in wrong.items():
        [told] = [sentence for sentence in found if sentence.startswith(f"line {line}: ")]
        assert f"{column} = {value!r}, allowed: " in told and allowed in told
    assert found[-2].startswith("line 57: reader2 has no score of sharpness for arm 'sN2N' of case 'D151'")
    assert found[-1].startswith("line 61: reader1, D147, original, contrast (reading 1) stands on line 2 already")


def change(table: list[list[str]], place: int, column: str, value: str) -> None:
    table[place][table[0].index(column)] = value


def test_sources_are_never_mixed(tmp_path: Path, criteria: Criteria) -> None:
    table = [[*HEADER, "source"], *([*row, "human"] for row in rows())]
    for place in (7, 9):
        change(table, place, "source", "synthetic")
    told = "line 8: source = 'synthetic', allowed: 'human' as on line 2; humans and models are never mixed (2 line(s)"
    [found] = problems(save(tmp_path / "scores.csv", table), criteria)
    assert found.startswith(told)
    mixed = pd.DataFrame({"source": ["human", "synthetic"]})
    with pytest.raises(ScoreError, match="throughout, not human, synthetic"):
        source_of(mixed)
    assert source_of(mixed[1:]) == "synthetic"


def test_a_comma_in_a_comma_table_is_one_problem(tmp_path: Path, criteria: Criteria) -> None:
    table = [HEADER, *rows()]
    change(table, 3, "score", "4,0")
    change(table, 5, "score", '"4,0"')
    assert problems(save(tmp_path / "scores.csv", table), criteria) == ["line 4: 8 values, the header has 7"]


def test_letters_of_another_encoding(tmp_path: Path, criteria: Criteria) -> None:
    table = [[cell.replace("reader2", "Müller") for cell in row] for row in [HEADER, *rows()]]
    (tmp_path / "scores.csv").write_bytes(text(table).encode("cp1252"))
    [found] = problems(tmp_path / "scores.csv", criteria)
    assert found == "line 32: a letter that is not UTF-8; save the table as “CSV UTF-8”"


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (["rater", *HEADER[1:]], ["line 1: there is no column 'reader'", "line 1: column 'rater', allowed: reader,"]),
        ([*HEADER, "comment"], ["line 1: column 'comment', allowed: reader,"]),
        ([*HEADER, "score"], ["line 1: column 'score', allowed: reader,"]),
    ],
)
def test_bad_headers(tmp_path: Path, criteria: Criteria, header: list[str], told: list[str]) -> None:
    table = [header, *([*row, ""][: len(header)] for row in rows())]
    found = problems(save(tmp_path / "scores.csv", table), criteria)
    assert len(found) == len(told) and all(map(str.startswith, found, told))


def test_a_missing_column_does_not_hide_other_mistakes(tmp_path: Path, criteria: Criteria) -> None:
    table = [["rater", *HEADER[1:]], *rows()]
    change(table, 4, "score", "7")
    change(table, 6, "arm", "sn2n")
    found = problems(save(tmp_path / "scores.csv", table), criteria)
    assert [told.split(",")[0] for told in found] == [
        "line 1: there is no column 'reader'", "line 1: column 'rater'", "line 5: score = '7'", "line 7: arm = 'sn2n'",
    ]  # fmt: skip


def test_order_and_time_may_be_missing(tmp_path: Path, criteria: Criteria) -> None:
    table = read_scores(save(tmp_path / "scores.csv", [HEADER[:5], *(row[:5] for row in rows())]), criteria=criteria)
    assert table["reading_order"].isna().all() and table["time"].isna().all() and len(table) == 60


@pytest.mark.parametrize("time", ["05.03.2026 14:30", "5.3.2026 14:30:00", "2026-03-05 14:30"])
def test_times_as_a_spreadsheet_writes_them(tmp_path: Path, criteria: Criteria, time: str) -> None:
    table = [HEADER, *([*row[:6], time] for row in rows())]
    found = read_scores(save(tmp_path / "scores.csv", table), criteria=criteria)
    assert set(found["time"]) == {pd.Timestamp("2026-03-05T14:30:00", tz="UTC")}


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("arm", "sn2n", "did you mean sN2N?"),
        ("parameter", "Sharpness", "did you mean sharpness or vwi_sharpness?"),
        ("parameter", "Delineation of claustrum", None),
        ("parameter", "claustrm", "did you mean claustrum?"),
    ],
)
def test_what_was_meant(tmp_path: Path, criteria: Criteria, column: str, value: str, told: str | None) -> None:
    table = [HEADER, *rows()]
    change(table, 4, column, value)
    [found] = problems(save(tmp_path / "scores.csv", table), criteria)
    assert found.endswith(told) if told else "did you mean" not in found


def test_what_many_lines_have_wrong_is_one_problem(tmp_path: Path, criteria: Criteria) -> None:
    table = [HEADER, *([*row[:2], row[2].lower(), *row[3:]] for row in rows())]
    for place in range(1, 31):
        change(table, place, "time", f"03/{place}/2026 9:15")
    found = problems(save(tmp_path / "scores.csv", table), criteria)
    assert len(found) == 2
    assert found[0].startswith(
        "lines 2, 3, 4 and 27 more: time = '03/1/2026 9:15', '03/2/2026 9:15', '03/3/2026 9:15' and 27 other values, "
        "allowed: ISO 8601"
    )
    assert found[1].startswith("lines 5, 6, 7 and 27 more: arm = 'sn2n', allowed: ")


def test_other_kinds_of_files(tmp_path: Path, criteria: Criteria) -> None:
    (tmp_path / "wide.csv").write_text("case,r1 original contrast,r1 sN2N contrast\nD147,3,4\n", encoding="utf-8")
    with pytest.raises(ScoreError, match="`sn2n scores import`"):
        read_scores(tmp_path / "wide.csv", criteria=criteria)
    with pytest.raises(ScoreError, match="`sn2n scores check` reads it as it is"):
        read_wide(save(tmp_path / "scores.csv", [HEADER, *rows()]), criteria=criteria)
    for start in (b"\x1f\x8bgz", b"n+1\0"):
        (tmp_path / "image.nii").write_bytes(start)
        with pytest.raises(ScoreError, match=r"image\.nii is no table of text"):
            read_scores(tmp_path / "image.nii", criteria=criteria)


@pytest.mark.parametrize("data", [b"", b"\n;;\n"])
def test_empty_files(tmp_path: Path, criteria: Criteria, data: bytes) -> None:
    (tmp_path / "scores.csv").write_bytes(data)
    with pytest.raises(ScoreError, match="holds no table"):
        read_scores(tmp_path / "scores.csv", criteria=criteria)
    assert problems(save(tmp_path / "head.csv", [HEADER]), criteria) == ["no scores below the header"]


def test_what_a_reader_left_out(tmp_path: Path, criteria: Criteria) -> None:
    table = [row for row in rows() if not (row[0] == "reader2" and row[1] in ("D148", "D150"))]
    table = [row for row in table if row[:2] != ["reader1", "D151"] or row[3] == "contrast"]
    path = save(tmp_path / "scores.csv", [HEADER, *table])
    assert problems(path, criteria) == [
        "reader2 has no scores of contrast, sharpness, claustrum for the case(s) D148, D150",
        "reader1 has no scores of sharpness, claustrum for the case(s) D151",
    ]
    assert len(read_scores(path, criteria=criteria, complete=False)) == len(table)


def test_readers_of_another_group_need_not_score_this_one(tmp_path: Path, criteria: Criteria) -> None:
    vessel = [["reader3", row[1], row[2], "vwi_contrast", *row[4:]] for row in rows() if row[3] == "contrast"]
    path = save(tmp_path / "scores.csv", [HEADER, *rows(), *vessel[: len(vessel) // 2]])
    assert set(read_scores(path, criteria=criteria)["reader"]) == {"reader1", "reader2", "reader3"}


def test_case_sets(tmp_path: Path, criteria: Criteria) -> None:
    sets = {"qualitative": [*CASES, "D152"], "lesions": ["D147"]}
    lesions = [[*row[:3], "lesion_conspicuity", *row[4:]] for row in rows() if row[3] == "contrast"]
    kept = [row for row in lesions if row[1] in ("D147", "D149")]
    found = problems(save(tmp_path / "scores.csv", [HEADER, *rows(), *kept]), criteria, cases=sets)
    assert found == [
        "lines 64, 65, 68 and 1 more: parameter = 'lesion_conspicuity', allowed: on cases of the set 'lesions', which "
        "'D149' is not in",
        *(f"{reader} has no scores of {', '.join(PARAMETERS)} for the case(s) D152" for reader in READERS),
    ]


def test_repeated_readings(tmp_path: Path, criteria: Criteria) -> None:
    again = [[*row, "2"] for row in rows() if row[1] == "D147"]
    table = [[*HEADER, "reading"], *([*row, ""] for row in rows()), *again]
    found = read_scores(save(tmp_path / "scores.csv", table), criteria=criteria)
    assert found["reading"].value_counts().to_dict() == {1: 60, 2: 12}
    del table[1], table[-1]  # a first reading, and the arm of a second one
    told = problems(save(tmp_path / "scores.csv", table), criteria)
    assert len(told) == 3
    assert told[0].startswith("line 4: reader1 has no score of contrast for arm 'original' of case 'D147' (reading 1)")
    assert told[1] == "line 61: reading = '2', allowed: where the same score has a reading 1"
    assert told[2].endswith("reader2 has no score of claustrum for arm 'sN2N' of case 'D147' (reading 2)")


def test_cases_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text("case;case_set\nD147;qualitative\nD147;lesions\nD148;qualitative\n", encoding="utf-8")
    assert read_cases(path) == {"qualitative": ["D147", "D148"], "lesions": ["D147"]}
    path.write_text("case,case_set\nD147,quantitative\n,lesions\nD148\n", encoding="utf-8")
    with pytest.raises(ScoreError, match=r"3 problem\(s\)\n  line 2: 'D147,quantitative', allowed: a case and one of"):
        read_cases(path)
    path.write_text("D147\n", encoding="utf-8")
    with pytest.raises(ScoreError, match="the columns must be case,case_set, not D147"):
        read_cases(path)


def test_a_file_that_is_not_there(tmp_path: Path, criteria: Criteria) -> None:
    with pytest.raises(FileNotFoundError):
        read_scores(tmp_path / "scores.csv", criteria=criteria)
