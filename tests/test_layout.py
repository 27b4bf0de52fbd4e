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
# What the modules of a room may import from the others.
ARROWS = {
    "files": set(),
    "environment": {"files"},
    "plots": set(),
    "annotation": {"files", "environment"},
    "training": {"files", "environment"},
    "explanation": set(),
    "settings": {"files", "environment", "training"},
}


def imported(code):
    """The helper modules that a piece of code names in its imports."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    names = {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}
    return (names | {node.module for node in nodes}) & set(HELPERS)


def code_of(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    lines = "\n".join(cell.source for cell in cells if cell.cell_type == "code").splitlines()
    return "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in lines)


GRAPH = {name: imported(path.read_text(encoding="utf-8")) for name, path in HELPERS.items()}


@pytest.mark.parametrize("room", ARROWS)
def test_a_room_imports_only_what_it_may(room):
    inside = [name for name in HELPERS if name.split(".")[1] == room]
    reached = {other.split(".")[1] for name in inside for other in GRAPH[name]} - {room}
    assert inside and reached <= ARROWS[room]


def test_imports_run_in_no_circle_and_every_helper_has_a_notebook_that_needs_it():
    needed = set().union(*(imported(code_of(path)) for path in ROOT.glob("Assignment4*.ipynb")))
    for name in reversed(list(TopologicalSorter(GRAPH).static_order())):
        if name in needed:
            needed |= GRAPH[name]
    assert needed == set(HELPERS)


def loaded_by(*names):
    """The modules in memory after these were imported, each of them as if it were the first."""
    script = """
import importlib, sys
for name in sys.argv[1:]:
    for loaded in [each for each in sys.modules if each.split(".")[0] in ("helpers", "tools")]:
        del sys.modules[loaded]
    importlib.import_module(name)
print(*sys.modules)
"""
    command = [sys.executable, "-c", script, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def test_every_module_is_importable_alone_and_annotating_needs_no_keras():
    loaded_by(*HELPERS, *(f"tools.{path.stem}" for path in (ROOT / "tools").glob("*.py")))
    names = [name for name in HELPERS if name.split(".")[1] in ("annotation", "files", "settings")]
    loaded = loaded_by(*names, "helpers.training.data", "helpers.training.recipes")
    assert not {"keras", "tensorflow"} & set(loaded)
