"""The rooms: what stands where, and who imports whom."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import nbformat
import pytest

from helpers.files import ROOT

HELPERS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in (ROOT / "helpers").rglob("*.py")
    if path.stem != "__init__"
}
NOTEBOOKS = sorted(ROOT.glob("Assignment4*.ipynb"))


def imported(code):
    """The helper modules that a piece of code names in its imports."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & set(HELPERS)


def code_of(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    lines = "\n".join(cell.source for cell in cells if cell.cell_type == "code").splitlines()
    return "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in lines)


GRAPH = {name: imported(path.read_text(encoding="utf-8")) for name, path in HELPERS.items()}


def test_no_circle_of_imports():
    assert set(TopologicalSorter(GRAPH).static_order()) == set(HELPERS)


def test_every_helper_has_a_notebook_that_needs_it():
    needed = set().union(*(imported(code_of(path)) for path in NOTEBOOKS))
    for name in reversed(list(TopologicalSorter(GRAPH).static_order())):
        if name in needed:
            needed |= GRAPH[name]
    assert needed == set(HELPERS)


def test_every_module_is_importable_alone():
    script = """
import importlib, sys
for name in sys.argv[1:]:
    for loaded in [each for each in sys.modules if each.split(".")[0] in ("helpers", "tools")]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""
    tools = [f"tools.{path.stem}" for path in (ROOT / "tools").glob("*.py")]
    names = [*HELPERS, *tools]
    done = subprocess.run(
        [sys.executable, "-c", script, *names], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    "name",
    [
        "annotation.via",
        "training.data",
        "annotation.exports",
        "files",
        "training.recipes",
        "settings",
    ],
)
def test_annotating_needs_no_keras(name):
    script = f"import sys, helpers.{name}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"keras", "tensorflow"} & set(done.stdout.split())
