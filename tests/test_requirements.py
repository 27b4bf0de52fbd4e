"""What is imported, and with which versions it is tested."""

import ast
import os
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from test_layout import code_of

from helpers.files import ROOT

SOURCES = [*ROOT.glob("helpers/**/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("*.ipynb")]
IMPORTED_AS = {
    "opencv-python": {"cv2"},
    "pillow": {"PIL"},
    "pyyaml": {"yaml"},
    "jupyter-bbox-widget": {"jupyter_bbox_widget"},
    "sphinx": {"docutils", "jinja2"},
    # The package jupyter stands for these, and for the front ends.
    "jupyter": {"IPython", "ipywidgets", "nbclient", "nbconvert", "nbformat", "traitlets"},
}


def required(path):
    lines = (ROOT / path).read_text().splitlines()
    return {each.name: each for each in map(Requirement, filter(re.compile(r"^\w").match, lines))}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text() if path.suffix == ".py" else code_of(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module if node.module.startswith("google") else node.module.split(".")[0]


def test_only_requirements_are_imported():
    # Colab brings google.colab; jax is imported where Keras' backend is jax
    known = {"helpers", "tools", "google.colab", "jax", *sys.stdlib_module_names}
    for name in required("requirements.txt"):
        known |= IMPORTED_AS.get(name, {name})
    assert {name: path.name for path in SOURCES for name in imported(path)}.keys() <= known


@pytest.mark.parametrize("path", ["tests/colab.txt", "tests/colab-previous.txt"])
def test_colabs_versions_lie_in_the_ranges(path):
    ranges, colab = required("requirements.txt"), required(path)
    assert {"tensorflow", "keras", "numpy"} <= set(colab)
    for name, requirement in colab.items():
        (version,) = requirement.specifier
        assert version.operator == "=="
        if name in ranges:
            assert ranges[name].specifier.contains(version.version), name


@pytest.mark.jax
def test_training_on_jax_imports_no_tensorflow():
    modules = (ROOT / "helpers/training").glob("[a-z]*.py")
    names = ", ".join(f"helpers.training.{path.stem}" for path in modules)
    command = [sys.executable, "-c", f"import sys, {names}; print(*sys.modules)"]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "tensorflow" not in done.stdout.split()
