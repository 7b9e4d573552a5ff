"""The house's rules, on its source: imports go one way, names are explained, notebooks stay lessons."""

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sn2nlib"
SOURCES = sorted(PACKAGE.rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# from the ground up: a module imports from its own floor or from a lower one
FLOORS = ("ground", "scans", "recon", "denoiser", "evaluation", "reporting", "cli")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor(module: str) -> int:
    room = [*module.split("."), "ground"][1]
    room = "cli" if room.startswith("cli_") else room
    return FLOORS.index(room) if room in FLOORS else 0


def imported_modules(node: ast.AST, *, inside: str) -> list[str]:
    """Dotted names that an import statement may load, those of `from … import name` among them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        anchor = inside.split(".")[: -node.level]
        base = ".".join([*anchor, base] if base else anchor)
    return [base, *(f"{base}.{alias.name}" for alias in node.names)]


def imports(tree: ast.AST, *, inside: str) -> list[str]:
    return [name for node in ast.walk(tree) for name in imported_modules(node, inside=inside)]


def upward(source: str, module: str) -> list[str]:
    """Imports in `source` that climb to a later room."""
    names = imports(ast.parse(source), inside=module)
    own = [name for name in names if name == "sn2nlib" or name.startswith("sn2nlib.")]
    return [name for name in own if floor(name) > floor(module)]


def hidden(source: str, module: str) -> list[str]:
    """Imports of the package inside a function of `source`."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    names = [name for function in functions for name in imports(function, inside=module)]
    return [name for name in names if name.split(".")[0] == "sn2nlib"]


def undocumented(source: str) -> list[str]:
    """Public functions, classes and methods without a docstring; the module itself too."""
    tree = ast.parse(source)
    lacking = [] if ast.get_docstring(tree) else ["the module"]
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    methods = [
        node
        for outer in public
        if isinstance(outer, ast.ClassDef)
        for node in outer.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    return lacking + [node.name for node in public + methods if not ast.get_docstring(node)]


def test_the_checks_find_what_they_look_for() -> None:
    assert upward("from sn2nlib.denoiser import train", "sn2nlib.recon.pairs") != []
    assert upward("from sn2nlib import reporting", "sn2nlib.scans.scan") == ["sn2nlib.reporting"]
    assert upward("from ..evaluation import metrics", "sn2nlib.recon.pairs") != []
    assert upward("import sn2nlib.cli", "sn2nlib.config") == ["sn2nlib.cli"]
    assert upward("from sn2nlib.fourier import fft\nfrom .noise import whiten", "sn2nlib.recon.pairs") == []
    assert hidden("def f():\n    from sn2nlib import scans", "sn2nlib.recon.pairs") != []
    assert hidden("from sn2nlib import scans", "sn2nlib.recon.pairs") == []
    source = '"""M."""\ndef f(): ...\ndef _g(): ...\nclass C:\n    """C."""\n    def m(self): ...'
    assert undocumented(source) == ["f", "m"]


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_go_one_way(path: Path) -> None:
    assert upward(path.read_text(encoding="utf-8"), module_name(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_import_of_the_package_hides_in_a_function(path: Path) -> None:
    assert hidden(path.read_text(encoding="utf-8"), module_name(path)) == []


def test_torch_is_imported_in_the_denoiser_alone() -> None:
    users = {
        module_name(path)
        for path in SOURCES
        for name in imports(ast.parse(path.read_text(encoding="utf-8")), inside=module_name(path))
        if name.split(".")[0] in ("torch", "safetensors")
    }
    assert users, "the denoiser no longer imports torch: this test looks for the wrong name"
    assert [module for module in users if not module.startswith("sn2nlib.denoiser")] == []


def test_there_is_no_drawer_for_everything() -> None:
    assert [path for path in SOURCES if path.stem in ("utils", "util", "helpers", "misc", "common")] == []


def test_files_can_be_read_in_one_sitting() -> None:
    lengths = {module_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 450} == {}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_public_names_are_explained(path: Path) -> None:
    assert undocumented(path.read_text(encoding="utf-8")) == []


def test_the_notebooks_are_there() -> None:
    steps = "00_quickstart 01_data 02_pairs 03_train 04_alpha 05_noise_levels 06_volumetry 07_vessel_wall"
    steps += " 08_readers 09_report"
    assert {path.stem for path in NOTEBOOKS} >= set(steps.split())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stripped_lessons(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in code]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["kernelspec"]["language"] == "python"
    assert notebook["cells"][0]["cell_type"] == "markdown", "a notebook opens with its title and question"
    assert not any(cell["outputs"] or cell["execution_count"] is not None for cell in code), "has outputs"
    tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert [source for source in sources if len(source.splitlines()) > 25] == []
    nodes = [list(ast.walk(ast.parse(source))) for source in sources]
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
    assert not any(isinstance(node, definitions) for cell in nodes for node in cell), "belongs in sn2nlib"
    assert any(isinstance(node, ast.Assert) for cell in nodes[-2:] for node in cell), "no closing assert"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_parameters_are_plain(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    [source] = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    assignments = ast.parse(source).body
    assert all(isinstance(node, ast.Assign) and len(node.targets) == 1 for node in assignments)
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}
    assert {"profile", "reports_dir"} <= set(values)
    assert all(isinstance(value, str | int | float | list | tuple | None) for value in values.values())
