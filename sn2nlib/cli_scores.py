"""`sn2n scores …`: readers' scores on the command line. Thin, as `sn2nlib.cli`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sn2nlib import cli_options as option
from sn2nlib import cli_outputs as outputs
from sn2nlib import evaluation, provenance, reporting, scans

app = typer.Typer(
    help="Readers' scores: check a table of them, import a spreadsheet, make the tables of the reader study.",
    no_args_is_help=True,
)


def _decimal(text: str) -> float:
    """A number with a decimal point or comma."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number") from None


ScoreFile = Annotated[
    Path, typer.Argument(metavar="SCORES", help="CSV or .xlsx, one row per score; see data_manifest/README.md.")
]
Criteria = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="With readers/parameters.yaml.", show_default="the study's data_manifest"),
]
Cases = Annotated[
    Path | None,
    typer.Option(metavar="CASES.csv", help="Columns case, case_set: what must be scored.", show_default="any case"),
]
Reader = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Allowed reader; repeatable.", show_default="any")
]
Unfinished = Annotated[bool, typer.Option("--unfinished", help="Scores may be missing.")]


@app.command()
def check(
    scores: ScoreFile,
    cases: Cases = None,
    reader: Reader = None,
    unfinished: Unfinished = False,
    criteria: Criteria = None,
) -> None:
    """Check a table of scores: every mistake is listed at once, with line, column, value and what is allowed."""
    known = evaluation.readers.load_criteria(criteria)
    table = evaluation.readers.read_scores(scores, criteria=known, **_expected(cases, reader, unfinished))
    print(evaluation.readers.describe_scores(table, known))


@app.command(name="import")
def import_sheet(
    sheet: Annotated[
        Path, typer.Argument(metavar="WIDE", help="CSV or .xlsx, a row per case, a column per reader, arm, parameter.")
    ],
    out: Annotated[Path, typer.Argument(metavar="SCORES.csv", help="New table.")],
    group: Annotated[
        str | None, typer.Option(metavar="GROUP", help="Parameters of this group alone, such as vessel_wall.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="HEADING", help="Of a column without scores; repeatable.")
    ] = None,
    unfinished: Unfinished = False,
    criteria: Criteria = None,
    overwrite: option.Overwrite = False,
) -> None:
    """Make a table of scores from a spreadsheet as people keep it, with one header row or several."""
    outputs.check_new(out, outputs.TABLE, overwrite=overwrite, source=sheet)
    known = evaluation.readers.load_criteria(criteria)
    table = evaluation.readers.read_wide(
        sheet, criteria=known, group=group, ignore=ignore or [], complete=not unfinished
    )
    evaluation.readers.write_scores(table, out)
    print(f"{evaluation.readers.describe_scores(table, known)}\nTable: {out}")


@app.command()
def report(
    scores: ScoreFile,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Receives tables, methods paragraph and document.")],
    cases: Cases = None,
    reader: Reader = None,
    unfinished: Unfinished = False,
    weights: Annotated[Literal["linear", "quadratic"], typer.Option(help="Weights of κ.")] = "linear",
    beside_paper: Annotated[
        bool, typer.Option("--beside-paper", help="The paper's numbers, and its names of the tables, too.")
    ] = False,
    seed: option.Seed = 0,
    criteria: Criteria = None,
    overwrite: option.Overwrite = False,
) -> None:
    """Compare the arms and the readers: tables (CSV, HTML), methods paragraph, and both as a .docx document.

    Into FOLDER go reader_study.docx (paragraph and all tables), methods.txt (the paragraph alone), a .csv and a .html
    of each table that the scores give (reader_scores, reader_lesions, reader_vessel_wall, agreement,
    agreement_vessel_wall, intra_reader, cases_needed; with --beside-paper table_s3 and table_s4 for agreement…), and
    numbers_*.csv, the unrounded numbers behind them (comparison, pooled, agreement, intra_reader, counts,
    cases_needed).
    """
    outputs.check_folder(out, overwrite=overwrite)
    known = evaluation.readers.load_criteria(criteria)
    table = evaluation.readers.read_scores(scores, criteria=known, **_expected(cases, reader, unfinished))
    published = reporting.load_published(scans.manifest.manifest_folder()) if beside_paper else None
    written = reporting.save_reader_report(
        table, known, published, out, weights=weights, seed=seed, provenance=provenance.provenance(seed=seed)
    )
    print("\n".join(map(str, written)))


@app.command(context_settings={"ignore_unknown_options": True})  # -0.5 is a number, not an option
def power(
    difference: Annotated[
        float,
        typer.Argument(metavar="DIFFERENCE", parser=_decimal, help="Mean of sN2N − original, in grades, -4 to 4."),
    ],
    sd: Annotated[float, typer.Option(metavar="SD", parser=_decimal, help="Of the differences over cases.")],
    wanted: Annotated[float, typer.Option("--power", min=0, max=1, help="Chance of finding it.")] = 0.8,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Two-sided level.")] = 0.05,
    seed: option.Seed = 0,
) -> None:
    """Tell how many cases the signed-rank test of one reader's scores needs to find a difference.

    For one test: where p-values are adjusted for several (Holm), more cases are needed; --alpha 0.01 stands for five.
    """
    statistics = evaluation.statistics
    chances = statistics.likert_differences(difference, sd)
    print(statistics.describe_needed(statistics.cases_needed(chances, power=wanted, alpha=alpha, seed=seed)))


def _expected(cases: Path | None, readers: list[str] | None, unfinished: bool) -> dict[str, Any]:
    sets = evaluation.readers.read_cases(cases) if cases is not None else None
    return {"cases": sets, "readers": readers, "complete": not unfinished}
