"""The reader study as a paper needs it: a methods paragraph, a word-processor document, and all tables as files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sn2nlib.evaluation.readers.criteria import Criteria
from sn2nlib.evaluation.readers.summary import Summary, summarise
from sn2nlib.provenance import atomic_write
from sn2nlib.reporting.html import provenance_note, save_html
from sn2nlib.reporting.published import Published
from sn2nlib.reporting.readers import (
    FEW,
    GROUP_TITLES,
    NAMES,
    OWN_NAMES,
    SYNTHETIC,
    ReaderTable,
    reader_tables,
    to_html,
)
from sn2nlib.reporting.tables import save_csv
from sn2nlib.reporting.wording import listed

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_FONT, _SIZE, _NOTE_SIZE, _THIN, _THICK = "Arial", 7.5, 7, "6", "12"  # points; rules in eighths of a point
_PAGE, _MARGIN = (29.7, 21.0), 1.5  # cm, landscape
_LONGEST = 24  # letters of a column


def methods_paragraph(summary: Summary, criteria: Criteria, *, versions: Mapping[str, str] | None = None) -> str:
    """What was scored and how it was tested, in sentences for a paper's methods section.

    Parameters
    ----------
    summary
        As returned by `sn2nlib.evaluation.readers.summary.summarise`.
    criteria
        What was scored.
    versions
        Of the programs that computed it, as in `sn2nlib.provenance.versions`.
    """
    synthetic = summary.source == "synthetic"
    sentences = [SYNTHETIC] if synthetic else []
    for group, readers in summary.readers.items():
        titles = list(summary.comparison.loc[summary.comparison["group"] == group, "title"].unique())
        who = f"{_number(len(readers))} {'synthetic ' if synthetic else ''}reader{'s' if len(readers) > 1 else ''}"
        what = f", in {_number(len(titles))} parameter{'s' if len(titles) > 1 else ''} ({_named(titles)})"
        what = "" if titles == [GROUP_TITLES[group]] else what
        sentences.append(f"{GROUP_TITLES[group]} was scored by {who} in {summary.n_cases[group]} cases{what}.")
    sentences += [
        f"Each reader scored both images of a case ({_named(criteria.arms)}) on a "
        f"{_number(len(criteria.scores))}-point scale, on which {criteria.scores[-1]} is best.",
        "The two images were compared for each reader and parameter with the Wilcoxon signed-rank test (two-sided "
        "asymptotic p, zero differences dropped, correction for ties, no continuity correction, as in SPSS); the "
        "effect size is the matched-pairs rank-biserial correlation. P-values are given as they are and after Holm’s "
        "adjustment for all parameters and readers of a group.",
        *_exact_sentences(summary),
        *_pooled_sentences(summary),
        *_missing_sentences(summary),
    ]
    if len(summary.agreement):
        sentences.append(
            f"Agreement of the readers was measured with Cohen’s κ with {summary.weights} weights over the whole "
            "scale, the ratings of both images pooled, with a 95 % confidence interval from its asymptotic standard "
            "error, another from bootstrap resampling of cases, and a test against κ = 0. κ is called poor (≤ 0.20), "
            "fair (≤ 0.40), moderate (≤ 0.60), substantial (≤ 0.80) or almost perfect. Where it is undefined, or "
            "paradoxical (at least 80 % of the ratings equal, yet κ ≤ 0.40), Gwet’s AC2 with the same weights is to "
            "be read instead."
        )
    if len(summary.intra_reader):
        sentences.append("Some cases were read twice, and each reader’s second ratings were compared with the first.")
    sentences.append("P < 0.05 was taken as significant.")
    if versions:
        named = [f"{name} {versions[name]}" for name in ("python", "scipy", "pandas", "sn2n") if name in versions]
        sentences.append(f"Computed with {_named(named)}.".replace("python", "Python").replace("scipy", "SciPy"))
    return " ".join(sentences)


def _exact_sentences(summary: Summary) -> list[str]:
    few = any(number <= FEW for number in summary.n_cases.values())
    told = f"In groups of {_number(FEW)} cases or fewer the exact p, from all signs that the ranks could have,"
    return [f"{told} is given too."] if few else []


def _pooled_sentences(summary: Summary) -> list[str]:
    several = summary.comparison.groupby("group")["parameter"].nunique() > 1
    if not several.any():
        return []
    return ["Over all parameters of a group, the same test was made of each reader’s mean score of a case."]


def _missing_sentences(summary: Summary) -> list[str]:
    """How many pairs of scores are missing, of those that all readers of a group would have given."""
    asked = given = 0
    for group, rows in summary.comparison.groupby("group", sort=False):
        asked += summary.n_cases[str(group)] * rows["parameter"].nunique() * len(summary.readers[str(group)])
        given += int(rows["n"].sum())
    if given == asked:
        return []
    return [
        f"Of {asked} pairs of scores (a reader, case and parameter) {asked - given} lacked one score or both and were "
        f"left out; the tests are of {summary.comparison['n'].min()} to {summary.comparison['n'].max()} cases."
    ]


def save_reader_report(
    scores: pd.DataFrame,
    criteria: Criteria,
    published: Published | None,
    folder: str | os.PathLike[str],
    *,
    weights: str = "linear",
    resamples: int = 2000,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write every table of a score table, and the methods paragraph, into a folder.

    Parameters
    ----------
    scores, criteria
        As for `sn2nlib.evaluation.readers.summary.summarise`; so are `weights`, `resamples` and `seed`.
    published
        The paper's numbers, to stand beside those of the study's own readers; None for a study of one's own.
    folder
        Created; files of these names are replaced, and tables that these scores do not give are removed.
    provenance
        As returned by `sn2nlib.provenance.provenance`.

    Returns
    -------
    The files: `<table>.csv` and `<table>.html` of each `sn2nlib.reporting.readers.reader_tables`, the numbers behind
    them in full precision as `numbers_*.csv`, `methods.txt`, and `reader_study.docx` with paragraph and tables.

    Raises
    ------
    ScoreError
        If scores of humans and of models are mixed, or there are none.
    OSError
        If the disk is full.
    """
    folder, made_by = Path(folder), dict(provenance or {})
    summary = summarise(scores, criteria, weights=weights, resamples=resamples, seed=seed)
    tables = reader_tables(summary, published)
    notes = [provenance_note(made_by)] if made_by else []
    stale = {*NAMES, *OWN_NAMES} - {table.name for table in tables}  # of other readers, who may have been no people
    for name in stale:
        for ending in ("csv", "html"):
            (folder / f"{name}.{ending}").unlink(missing_ok=True)
    written = []
    for table in tables:
        written += [folder / f"{table.name}.csv", folder / f"{table.name}.html"]
        save_csv(table.frame, written[-2])
        save_html(to_html(table, notes=notes), written[-1])
    numbers = {
        "comparison": summary.comparison, "pooled": summary.pooled, "agreement": summary.agreement,
        "intra_reader": summary.intra_reader, "counts": summary.counts, "cases_needed": summary.needed,
    }  # fmt: skip
    for name, frame in numbers.items():
        written.append(folder / f"numbers_{name}.csv")
        save_csv(frame.assign(source=summary.source), written[-1])
    methods = methods_paragraph(summary, criteria, versions=made_by.get("versions"))
    written += [folder / "methods.txt", folder / "reader_study.docx"]
    with atomic_write(written[-2]) as temporary:
        temporary.write_text(methods + "\n", encoding="utf-8")
    save_docx(written[-1], title="Reader study", paragraphs=[methods], tables=tables, notes=notes)
    return written


def save_docx(
    path: str | os.PathLike[str],
    *,
    title: str,
    paragraphs: Sequence[str],
    tables: Sequence[ReaderTable],
    notes: Sequence[str] = (),
) -> None:
    """Write paragraphs and tables as a document for word processors (.docx), in landscape, whole or not at all.

    Parameters
    ----------
    path
        The file; one that exists is replaced.
    title
        Heading of the document.
    paragraphs
        Text before the tables.
    tables
        Each with its title above, three rules, and its notes below.
    notes
        Said below every table.

    Raises
    ------
    OSError
        If the disk is full.
    """
    import docx  # 0.3 s, and few commands write documents
    from docx.enum.section import WD_ORIENT
    from docx.shared import Cm, Pt

    document = docx.Document()
    document.core_properties.title, document.core_properties.author = title, "sn2n"
    section = document.sections[0]
    section.orientation, section.page_width, section.page_height = WD_ORIENT.LANDSCAPE, *map(Cm, _PAGE)
    section.left_margin = section.right_margin = Cm(_MARGIN)
    style = document.styles["Normal"]
    style.font.name, style.font.size = _FONT, Pt(10)
    document.add_heading(title, level=1)
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    for table in tables:
        document.add_heading(table.title, level=2).paragraph_format.keep_with_next = True
        if table.subtitle:
            document.add_paragraph(table.subtitle).paragraph_format.keep_with_next = True
        _fill(document.add_table(rows=0, cols=len(table.columns) + 1), table)
        for note in (*table.notes, *notes):
            written = document.add_paragraph()
            written.paragraph_format.space_after = Pt(2)
            written.add_run(note).font.size = Pt(_NOTE_SIZE)
    with atomic_write(path) as temporary:
        document.save(str(temporary))


def _fill(grid: Any, table: ReaderTable) -> None:
    """Headings, a line for each section, and the cells, with a rule above, below the headings, and at the end."""
    over = ["", *(column.over for column in table.columns)]
    if any(over):
        _row(grid, over, bold=True, repeat=True)
        starts = [place for place in range(1, len(over)) if over[place] != over[place - 1]]
        for start, end in zip(starts, [*starts[1:], len(over)], strict=True):
            _join(grid.rows[0].cells[start:end], over[start])
    _row(grid, ["Parameter", *(column.heading for column in table.columns)], bold=True, repeat=True)
    _rule(grid.rows[0], "top", _THICK)
    _rule(grid.rows[-1], "bottom", _THIN)
    keys = [column.key for column in table.columns]
    for section, rows in table.rows.groupby("section", sort=False):
        _row(grid, [""] * len(over))
        _join(grid.rows[-1].cells, str(section), italic=True)
        for _, row in rows.iterrows():
            _row(grid, [row["label"], *row[keys]])
    _rule(grid.rows[-1], "bottom", _THICK)
    _fit(grid, [table.rows["label"], *(table.rows[key] for key in keys)], [column.heading for column in table.columns])


def _fit(grid: Any, cells: Sequence[pd.Series], headings: Sequence[str]) -> None:
    """Columns as wide as their longest text, in proportion; what is very long is broken."""
    from docx.shared import Cm

    longest = [
        min(max(6, len(heading), int(column.str.len().max())), _LONGEST)
        for column, heading in zip(cells, ["", *headings], strict=True)
    ]
    widths = [Cm((_PAGE[0] - 2 * _MARGIN) * letters / sum(longest)) for letters in longest]
    grid.autofit = False
    for column, width in zip(grid.columns, widths, strict=True):
        column.width = width
    for row in grid.rows:  # some programs go by the cells
        place = 0
        for cell in row._tr.tc_lst:
            cell.width = Cm(sum(width.cm for width in widths[place : place + cell.grid_span]))
            place += cell.grid_span


def _row(grid: Any, texts: Sequence[str], *, bold: bool = False, repeat: bool = False) -> None:
    """A row of cells; `repeat`: also at the top of the next page."""
    row = grid.add_row()
    for place, (cell, text) in enumerate(zip(row.cells, texts, strict=True)):
        _write(cell, text, bold=bold, centred=place > 0)
    if repeat:
        row._tr.get_or_add_trPr().append(_element("w:tblHeader", val="true"))


def _write(cell: Any, text: str, *, bold: bool = False, italic: bool = False, centred: bool = False) -> None:
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.shared import Pt

    paragraph = cell.paragraphs[0]
    paragraph.paragraph_format.space_after = Pt(0)
    if centred:
        paragraph.alignment = WD_ALIGN_PARAGRAPH.CENTER
    run = paragraph.add_run(text)
    run.font.size, run.bold, run.italic = Pt(_SIZE), bold, italic


def _join(cells: Sequence[Any], text: str, *, italic: bool = False) -> None:
    """One cell of many, with this text alone."""
    for cell in cells:
        cell.paragraphs[0].clear()
    joined = cells[0].merge(cells[-1]) if len(cells) > 1 else cells[0]
    for extra in joined.paragraphs[1:]:
        extra._p.getparent().remove(extra._p)
    _write(joined, text, bold=not italic, italic=italic, centred=not italic)


def _rule(row: Any, edge: str, width: str) -> None:
    from docx.oxml.ns import qn

    for cell in row._tr.tc_lst:
        properties = cell.get_or_add_tcPr()
        borders = properties.find(qn("w:tcBorders"))
        if borders is None:
            borders = _element("w:tcBorders")
            properties.append(borders)
        borders.append(_element(f"w:{edge}", val="single", sz=width, color="000000"))


def _element(tag: str, **attributes: str) -> Any:
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    element = OxmlElement(tag)
    for name, value in attributes.items():
        element.set(qn(f"w:{name}"), value)
    return element


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _named(names: Sequence[str]) -> str:
    """Names without the capital of a title; abbreviations keep theirs."""
    return listed([name[:1].lower() + name[1:] if name[1:2].islower() else name for name in map(str, names)])
