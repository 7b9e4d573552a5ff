"""`sn2n scores`: check, import and report, as typed."""

import os
import re
import shlex
from pathlib import Path

import docx
import pandas as pd
import pytest

from sn2nlib import cli

WIDE = """case;reader1_original_sharpness;reader1_sN2N_sharpness;reader2_original_sharpness;reader2_sN2N_sharpness;age
D147;3;5;2;4;60
D148;4;4;3;5;71
D149;3;5;3;5;44
D150;2;4;3;4;38
"""


def sn2n(*arguments: object) -> int:
    """Run a command in this process; its exit code."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """A table of scores, imported from a spreadsheet."""
    (tmp_path / "wide.csv").write_text(WIDE, encoding="utf-8-sig")
    assert sn2n("scores", "import", tmp_path / "wide.csv", tmp_path / "scores.csv", "--ignore", "age") == 0
    return tmp_path / "scores.csv"


def test_check(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert sn2n("scores", "check", scores) == 0
    assert capsys.readouterr().out == ("16 scores, source human\nimage_quality: 2 readers, 4 cases, 1 parameter\n")
    cases = scores.with_name("cases.csv")
    cases.write_text("case,case_set\n" + "".join(f"D{n},qualitative\n" for n in range(147, 152)), encoding="utf-8")
    assert sn2n("scores", "check", scores, "--cases", cases) == 1
    told = capsys.readouterr().err
    assert "2 problem(s)" in told and "reader2 has no scores of sharpness for the case(s) D151" in told
    assert sn2n("scores", "check", scores, "--cases", cases, "--unfinished") == 0
    assert sn2n("scores", "check", scores, "--reader", "reader1") == 1
    assert "reader = 'reader2', allowed: one of reader1" in capsys.readouterr().err


def test_import_says_what_is_wrong_and_replaces_nothing(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide, before = scores.with_name("wide.csv"), scores.read_bytes()
    assert sn2n("scores", "import", wide, scores) == 1
    assert "exists; choose another name or allow overwriting (--overwrite)" in capsys.readouterr().err
    assert sn2n("scores", "import", wide, scores, "--overwrite") == 1
    assert "column 'age' names no arm" in capsys.readouterr().err
    assert sn2n("scores", "import", wide, wide, "--overwrite") == 1
    assert "is the input, which is never replaced" in capsys.readouterr().err
    assert scores.read_bytes() == before


def test_report(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = scores.with_name("report")
    assert sn2n("scores", "report", scores, "--out", folder, "--weights", "quadratic") == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()[-20:] if line.startswith(str(folder))]
    assert {path.name for path in written} == {path.name for path in folder.iterdir()}
    agreement = pd.read_csv(folder / "numbers_agreement.csv")
    assert set(agreement["weights"]) == {"quadratic"} and set(agreement["source"]) == {"human"}
    assert "quadratic weights" in (folder / "methods.txt").read_text(encoding="utf-8")
    assert "Reader study" in [
        paragraph.text for paragraph in docx.Document(str(folder / "reader_study.docx")).paragraphs
    ]
    assert "ublished" not in (folder / "reader_scores.html").read_text(encoding="utf-8")
    assert sn2n("scores", "report", scores, "--out", folder.with_name("beside"), "--beside-paper") == 0
    assert "Published" in (folder.with_name("beside") / "reader_scores.html").read_text(encoding="utf-8")
    assert (folder.with_name("beside") / "table_s3.html").is_file()
    described = Path(__file__).parents[1].joinpath("data_manifest", "README.md").read_text(encoding="utf-8")
    assert all(f"`{path.stem}`" in described or f"`{path.name}`" in described for path in written)
    assert sn2n("scores", "report", scores, "--out", folder) == 1
    assert sn2n("scores", "report", scores, "--out", folder, "--weights", "cubic", "--overwrite") == 2
    assert "'cubic' is not one of 'linear'" in capsys.readouterr().err


def test_a_report_that_was_stopped_is_replaced_when_it_runs_again(
    scores: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, own = scores.with_name("report"), os.replace

    def pressed(source: Path, target: Path) -> None:
        if len(list(folder.glob("[!.]*"))) == 5:
            raise KeyboardInterrupt
        own(source, target)

    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", pressed)
        assert sn2n("scores", "report", scores, "--out", folder) == 130
    told = capsys.readouterr().err.strip()
    names, advice = told.split(" and 2 more; to run it again and replace what is there: ")
    named = names.removeprefix("sn2n: scores was stopped after writing ").split(", ")
    assert len(named) == 3 and set(named) < set(map(str, folder.iterdir())) and len(list(folder.iterdir())) == 5
    assert shlex.split(advice) == ["sn2n", "scores", "report", str(scores), "--out", str(folder), "--overwrite"]
    assert sn2n(*shlex.split(advice)[1:]) == 0


def test_power(capsys: pytest.CaptureFixture[str]) -> None:
    assert sn2n("scores", "power", 0.5, "--sd", 0.8) == 0
    told = re.fullmatch(
        r"(\d+) cases \(simulated power 0\.8\d\); by Noether's formula: (\d+)\nFor one test .*\n",
        capsys.readouterr().out,
    )
    assert told and 20 <= int(told[1]) <= 30 and 25 <= int(told[2]) <= 40
    assert sn2n("scores", "power", 0, "--sd", 0.8) == 0
    assert capsys.readouterr().out.startswith("More than the 1000 cases that were tried (simulated power 0.0")
    assert sn2n("scores", "power", "-0.5", "--sd", 0.8) == sn2n("scores", "power", "0,5", "--sd", "0,8") == 0
    assert all(line.startswith((told[1], "For one")) for line in capsys.readouterr().out.splitlines())
    assert sn2n("scores", "power", "much", "--sd", 0.8) == 2
    assert "'much' is not a number" in capsys.readouterr().err
    assert sn2n("scores", "power", 4, "--sd", 0.1) == 0
    assert capsys.readouterr().out.startswith("6 cases")
    assert sn2n("scores", "power", 5, "--sd", 0.8) == 1
    assert "between -4 and 4" in capsys.readouterr().err
    assert sn2n("scores", "power", 0.5, "--sd", 0) == 1
    assert "SD of the differences must be above 0" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "import", "power", "report"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sn2n("scores", command, "--help") == 0
    assert f"sn2n scores {command} " in capsys.readouterr().out
