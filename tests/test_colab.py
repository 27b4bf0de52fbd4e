"""Stand-ins for Colab: its Python modules, and GitHub behind git."""

import copy
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from test_setup_cell import as_github, commit_all, fill
from traitlets.config import Config

from helpers import environment, settings
from helpers.files import ROOT

# What the course uses of google.colab; every call leaves a line in a file.
GOOGLE_COLAB = """
import os, sys, types
def note(call):
    with open(os.environ["COLAB_CALLS"], "a") as file:
        file.write(call + chr(10))
module = types.SimpleNamespace
files = module(download=lambda path: note(f"download {path}"))
drive = module(mount=lambda path: note(f"mount {path}"))
output = module(enable_custom_widget_manager=lambda: note("enable_custom_widget_manager"))
for name in ("files", "drive", "output"):
    sys.modules[f"google.colab.{name}"] = globals()[name]
"""


@pytest.fixture
def colab_python(tmp_path, monkeypatch):
    """A folder from which google.colab can be imported."""
    folder = tmp_path / "python"
    (folder / "google/colab").mkdir(parents=True)
    (folder / "google/colab/__init__.py").write_text(GOOGLE_COLAB)
    monkeypatch.setenv("COLAB_CALLS", str(tmp_path / "calls.txt"))
    (tmp_path / "calls.txt").touch()
    return folder


def calls():
    return Path(os.environ["COLAB_CALLS"]).read_text().splitlines()


@pytest.fixture
def in_colab(colab_python, monkeypatch, tmp_path):
    """This process takes itself for Colab's."""
    import google

    monkeypatch.setattr(google, "__path__", [str(colab_python / "google")])
    import google.colab

    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name.split(".")[:2] == ["google", "colab"]]:
        del sys.modules[name]
    del google.colab


def test_download_hands_a_file_to_the_browser(in_colab, capsys):
    environment.download(ROOT / "LICENSE")
    assert calls() == [f"download {ROOT / 'LICENSE'}"] and not capsys.readouterr().out


def test_a_folder_on_drive_is_mounted_in_colab_alone(colab_python, request, monkeypatch):
    monkeypatch.delenv("COURSE_MODE", raising=False)
    on_drive = "/content/drive/MyDrive/run"
    assert settings.configure("full", "cifar10", folder=on_drive).folder == Path(on_drive)
    request.getfixturevalue("in_colab")
    settings.configure("full", "cifar10", folder="runs/mine")
    assert not calls()
    assert settings.configure("full", "cifar10", folder=on_drive).folder == Path(on_drive)
    assert calls() == ["mount /content/drive"]


def test_lone_notebook_runs_in_colab_every_cell_twice(colab_python, tmp_path, sockets):
    """4A alone in an empty folder, every code cell twice in one kernel."""
    course, content = tmp_path / "github", tmp_path / "alone"
    for part in ("helpers", "images/annotations", "saved_models"):
        shutil.copytree(ROOT / part, course / part, ignore=lambda *_: ["__pycache__"])
    commit_all(course)
    startup = tmp_path / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("import google.colab\n")
    paths = {"IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONPATH": str(colab_python)}
    notebook = nbformat.read(ROOT / "Assignment4A.ipynb", as_version=4)
    next(cell for cell in notebook.cells if cell["id"] == "setup").source = fill()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells = [copy.deepcopy(cell) for cell in cells for _ in range(2)]
    for cell in notebook.cells:
        del cell["id"]
    content.mkdir()
    # A kernel that the client starts itself is one that it also ends, with its sockets.
    kernel = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
    resources, config = {"metadata": {"path": str(content)}}, Config({"KernelManager": kernel})
    client = NotebookClient(notebook, timeout=1200, resources=resources, config=config)
    client.execute(env={**os.environ, **paths, **as_github("someone/course", course)})
    assert {path.name for path in content.iterdir()} <= {"course", "build", "my_boxes"}
    printed = [
        "".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells
    ]
    assert printed[0].startswith("https://github.com/someone/course HEAD")
    assert printed[2::2] == printed[3::2]
    assert "enable_custom_widget_manager" in calls()
