"""Tables of the reader study: the right number in the right cell, the paper's beside it, and who the readers were."""

import re
from pathlib import Path

import docx
import numpy as np
import pandas as pd
import pytest
from docx.oxml.ns import qn

from sn2nlib.errors import StudyError
from sn2nlib.evaluation.readers.criteria import Criteria, load_criteria
from sn2nlib.evaluation.readers.summary import Summary, summarise
from sn2nlib.reporting.document import methods_paragraph, save_reader_report
from sn2nlib.reporting.published import Published, load_published
from sn2nlib.reporting.readers import NAMES, OWN_NAMES, SYNTHETIC, ReaderTable, reader_tables, to_html
from sn2nlib.scans.manifest import manifest_folder

MANIFEST = manifest_folder(Path(__file__).parent)


@pytest.fixture(scope="module")
def criteria() -> Criteria:
    return load_criteria(MANIFEST)


@pytest.fixture(scope="module")
def published() -> Published:
    return load_published(MANIFEST)


@pytest.fixture(scope="module")
def scores(criteria: Criteria) -> pd.DataFrame:
    """Two readers of 10 cases, 7 with lesions, another pair of 6 vessel-wall scans; two cases read twice."""
    rng = np.random.default_rng(2)
    sizes = {"qualitative": 10, "lesions": 7, "generalisation": 6}
    rows = []
    for parameter in criteria.parameters:
        vessel = parameter.group == "vessel_wall"
        for case in range(sizes[parameter.case_set]):
            truth = {"original": rng.integers(2, 5), "sN2N": 5 if parameter.group == "lesions" else rng.integers(4, 6)}
            for reader in ("reader1", "reader3" if vessel else "reader2"):
                for reading in (1, 2) if case < 2 and not vessel else (1,):
                    for arm in criteria.arms:
                        shift = 0 if arm == "sN2N" else int(rng.choice([0, 0, 1]))
                        score = int(min(truth[arm] + shift, 5))
                        rows.append((reader, f"{'V' * vessel}{case}", arm, parameter.name, score, reading))
    table = pd.DataFrame(rows, columns=["reader", "case", "arm", "parameter", "score", "reading"])
    return table.assign(source="human")


@pytest.fixture(scope="module")
def summary(scores: pd.DataFrame, criteria: Criteria) -> Summary:
    return summarise(scores, criteria, resamples=60)


@pytest.fixture(scope="module")
def tables(summary: Summary, published: Published) -> dict[str, ReaderTable]:
    return {table.name: table for table in reader_tables(summary, published)}


def cells(table: ReaderTable, label: str, section: str | None = None) -> pd.Series:
    rows = table.rows[table.rows["label"] == label]
    return (rows if section is None else rows[rows["section"] == section]).iloc[0]


def test_every_table_is_made(tables: dict[str, ReaderTable]) -> None:
    assert tuple(tables) == NAMES
    assert tables["reader_scores"].subtitle == "10 cases" and tables["reader_vessel_wall"].subtitle == "6 cases"
    assert tables["table_s3"].subtitle.endswith("Lesion conspicuity: 7 cases")


def test_scores_stand_in_their_cells(tables: dict[str, ReaderTable], scores: pd.DataFrame, summary: Summary) -> None:
    row = cells(tables["reader_scores"], "Sharpness")
    given = scores[(scores["parameter"] == "sharpness") & (scores["reading"] == 1)]
    for reader in ("reader1", "reader2"):
        own = given[(given["reader"] == reader) & (given["arm"] == "original")]["score"]
        assert row[f"{reader}_original"] == f"{own.mean():.1f}\u00a0±\u00a0{own.std():.1f}"
    both = given[given["arm"] == "sN2N"]["score"]
    assert row["sN2N"] == f"{both.mean():.1f}\u00a0±\u00a0{both.std():.1f}"
    found = summary.comparison[(summary.comparison[["parameter", "reader"]] == ["sharpness", "reader2"]).all(axis=1)]
    assert row["reader2_p"] == f"{found['p'].iloc[0]:.3f}" and row["reader2_r"] == f"{found['effect'].iloc[0]:+.2f}"
    assert row["reader2_p_holm"] == f"{found['p_holm'].iloc[0]:.3f}"


def test_few_cases_have_an_exact_p(tables: dict[str, ReaderTable], summary: Summary) -> None:
    found = summary.comparison[summary.comparison["parameter"] == "lesion_conspicuity"].set_index("reader")
    table = tables["reader_lesions"]
    for reader in ("reader1", "reader2"):
        assert table.frame[f"{reader}: p (exact)"].tolist() == [f"{found['p_exact'][reader]:.3f}"]
    assert any(note.startswith("p (exact)") for note in table.notes)


def test_many_cases_have_none(scores: pd.DataFrame, criteria: Criteria, published: Published) -> None:
    part = scores[(scores["parameter"] == "contrast") & (scores["reading"] == 1)]
    more = pd.concat([part, part.assign(case="X" + part["case"])], ignore_index=True)
    table = reader_tables(summarise(more, criteria, resamples=5), published)[0]
    assert table.subtitle == "20 cases"
    assert not any("exact" in heading for heading in table.frame)


def test_published_numbers_stand_beside_whole_groups(tables: dict[str, ReaderTable]) -> None:
    table = tables["reader_scores"]
    expected = {"Image quality": ("3.7", "4.9"), "Delineation of fine structures": ("2.8", "4.4")}
    for section, numbers in expected.items():
        assert tuple(cells(table, "All parameters", section)[["p_original", "p_sN2N"]]) == numbers
    assert cells(table, "Sharpness")["p_original"] == "–"
    vessel = cells(tables["reader_vessel_wall"], "All parameters")
    assert tuple(vessel[["p_original", "p_sN2N"]]) == ("3.5", "4.6") and "artifacts p>0.15" in vessel["p_detail"]
    lesions = cells(tables["reader_lesions"], "Lesion conspicuity")
    assert tuple(lesions[["p_original", "p_sN2N"]]) == ("4.1\u00a0±\u00a00.7", "5.0\u00a0±\u00a00.0")
    assert any("impossible with 7 pairs" in note for note in tables["reader_lesions"].notes)


def test_agreement_with_its_range_and_the_published_one(tables: dict[str, ReaderTable], summary: Summary) -> None:
    table = tables["table_s3"]
    found = summary.agreement[(summary.agreement[["parameter", "arm"]] == ["claustrum", "both"]).all(axis=1)].iloc[0]
    row = cells(table, "Claustrum")
    assert row["kappa"] == f"{found['kappa']:.3f} [{found['low']:.2f}, {found['high']:.2f}]"
    assert (row["n"], row["band"]) == ("20", found["band"])
    assert any("published: from 0.619 to 0.937" in note for note in table.notes)
    assert any("published: from 0.455 to 0.645" in note for note in tables["table_s4"].notes)


def test_undefined_agreement_is_marked_and_told(tables: dict[str, ReaderTable]) -> None:
    table = tables["table_s3"]
    assert cells(table, "Lesion conspicuity")["sN2N"] == "undefined*"
    assert any("Lesion conspicuity (sN2N)" in note and "both gave 5 to all images" in note for note in table.notes)


def test_intra_reader_rows_pool_the_parameters(tables: dict[str, ReaderTable]) -> None:
    rows = tables["intra_reader"].rows
    assert rows["section"].tolist() == [
        name for name in ("Image quality", "Delineation of fine structures", "Lesion conspicuity") for _ in range(2)
    ]
    assert rows["n"].tolist() == ["20", "20", "32", "32", "4", "4"]


def test_html_needs_nothing_from_outside(tables: dict[str, ReaderTable]) -> None:
    for table in tables.values():
        page = to_html(table, notes=["Made by hand."]).as_raw_html(make_page=True)
        assert table.title in page and "Made by hand." in page
        assert "Synthetic" not in page
        assert not re.search(r"(src|href)=.https?:", page)


def test_synthetic_readers_are_named_everywhere(
    scores: pd.DataFrame, criteria: Criteria, published: Published, tmp_path: Path
) -> None:
    written = save_reader_report(
        scores.assign(source="synthetic"), criteria, published, tmp_path, resamples=20, provenance={"seed": 0}
    )
    pages = [path for path in written if path.suffix in (".html", ".txt")]
    assert len(pages) == 8
    assert all(SYNTHETIC in path.read_text(encoding="utf-8") for path in pages)
    sheets = [path for path in written if path.suffix == ".csv"]
    assert len(sheets) == 13
    for path in sheets:
        table = pd.read_csv(path)
        named = table["Readers"] if "Readers" in table else table["source"]
        assert set(named) == {"synthetic"}
    document = docx.Document(str(tmp_path / "reader_study.docx"))
    assert sum(paragraph.text == SYNTHETIC for paragraph in document.paragraphs) == len(document.tables) == 7
    people = scores[(scores["parameter"] == "contrast") & (scores["reading"] == 1)]
    save_reader_report(people, criteria, published, tmp_path, resamples=20)
    left = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir() if path.suffix != ".docx"}
    assert {f"{name}.html" for name in NAMES} & set(left) == {
        "reader_scores.html", "table_s3.html", "cases_needed.html",
    }  # fmt: skip
    assert not any("ynthetic" in content for content in left.values())


def test_document_holds_the_cells(
    scores: pd.DataFrame, criteria: Criteria, published: Published, tables: dict[str, ReaderTable], tmp_path: Path
) -> None:
    save_reader_report(scores, criteria, published, tmp_path, resamples=60)
    document = docx.Document(str(tmp_path / "reader_study.docx"))
    titles = [paragraph.text for paragraph in document.paragraphs if paragraph.style.name == "Heading 2"]
    assert titles == [table.title for table in tables.values()]
    for grid, table in zip(document.tables, tables.values(), strict=True):
        texts = [[cell.text for cell in row.cells] for row in grid.rows]
        expected = table.rows[["label", *(column.key for column in table.columns)]].to_numpy().tolist()
        assert [row for row in texts if row in expected] == expected
        sections = list(dict.fromkeys(table.rows["section"]))
        assert [row[0] for row in texts if len(set(row)) == 1] == sections
        assert ["Parameter", *(column.heading for column in table.columns)] in texts[:2]
        widths = [[column.width.cm for column in grid.columns]]
        widths += [[cell.width.cm for cell in row._tr.tc_lst] for row in grid.rows]
        assert [sum(row) for row in widths] == pytest.approx([26.7] * len(widths), abs=0.1)
        assert widths[0] == pytest.approx(widths[-1], abs=0.01)
        last = grid.rows[-1]._tr.tc_lst
        assert all(cell.find(f".//{qn('w:tcBorders')}/{qn('w:bottom')}") is not None for cell in last)


def test_methods_paragraph(summary: Summary, criteria: Criteria) -> None:
    text = methods_paragraph(summary, criteria, versions={"python": "3.11.7", "scipy": "1.15.3"})
    for expected in (
        "Image quality was scored by two readers in 10 cases, in five parameters (overall image quality, perceived",
        "Lesion conspicuity was scored by two readers in 7 cases. ",
        "on a five-point scale, on which 5 is best",
        "Cohen’s κ with linear weights",
        "Some cases were read twice",
        "In groups of ten cases or fewer the exact p",
        "Over all parameters of a group, the same test was made",
        "Computed with Python 3.11.7 and SciPy 1.15.3.",
    ):
        assert expected in text
    assert "ynthetic" not in text and "lacked" not in text


def test_missing_scores_are_told(scores: pd.DataFrame, criteria: Criteria) -> None:
    part = scores[scores["parameter"].isin(["contrast", "sharpness"]) & (scores["reading"] == 1)]
    gone = (part["reader"] == "reader2") & (part["parameter"] == "contrast") & (part["case"] == "3")
    found = summarise(part[~(gone & (part["arm"] == "sN2N"))], criteria, resamples=5)
    table = reader_tables(found)[0]
    [note] = [note for note in table.notes if "missing" in note]
    assert note.endswith("fewer cases: Contrast (reader2) n = 9.")
    assert "Of 40 pairs of scores (a reader, case and parameter) 1 lacked" in methods_paragraph(found, criteria)
    assert "the tests are of 9 to 10 cases." in methods_paragraph(found, criteria)
    assert not any("missing" in note for note in reader_tables(summarise(part, criteria, resamples=5))[0].notes)


def test_own_scores_do_not_speak_of_the_paper(summary: Summary) -> None:
    made = reader_tables(summary)
    assert tuple(table.name for table in made if table.name not in NAMES) == OWN_NAMES
    for table in made:
        told = " ".join([table.title, *table.notes, *table.frame])
        assert not re.search(r"[Pp]aper|[Pp]ublished|Figure|Table S|MP-RAGE", told)


def test_methods_leave_out_what_was_not_done(scores: pd.DataFrame, criteria: Criteria, published: Published) -> None:
    alone = scores[(scores["reader"] == "reader1") & (scores["reading"] == 1) & (scores["parameter"] == "contrast")]
    found = summarise(alone, criteria, resamples=5)
    text = methods_paragraph(found, criteria)
    assert "by one reader in 10 cases, in one parameter (contrast)." in text
    assert not any(words in text for words in ("Cohen", "read twice", "Over all"))
    made = reader_tables(found, published)
    assert [table.name for table in made] == ["reader_scores", "cases_needed"]
    # the paper's mean is over five parameters, so that it never stands beside one
    assert cells(made[0], "Contrast")["p_original"] == "–" and cells(made[0], "All parameters")["p_original"] == "3.7"
    with pytest.raises(StudyError, match="There are no scores for the table"):
        to_html(ReaderTable("empty", "Empty", "", pd.DataFrame(), (), (), "human"))
