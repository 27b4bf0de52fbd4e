"""Cells run out of order: a missing name is traced to the section that makes it."""

import re

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from helpers import runtime
from helpers.runtime import ROOT


def test_names_lead_to_the_section_that_makes_them():
    found = runtime.sections(ROOT / "Assignment4B.ipynb")
    assert found["settings"] == "Configuration" and found["dataset"] == "1 The pictures"
    assert found["trained"] == "5 Training" and found["plots"] == "Setup"
    assert "dataset" in runtime.sections(ROOT / "Assignment4A.ipynb")


@pytest.mark.parametrize(
    "source, message",
    [
        (
            "dataset.x_test",
            "NameError: name 'dataset' is not defined. Section '1 The pictures' makes it: run that "
            "first, or all cells above.",
        ),
        ("nosuchname", "NameError: name 'nosuchname' is not defined"),
    ],
)
def test_cell_run_too_early_names_the_section(source, message):
    begin = "import os, sys; sys.path.insert(0, os.curdir)\nfrom helpers import runtime\n"
    cells = [begin + "runtime.guide('Assignment4B.ipynb')", source]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    with pytest.raises(CellExecutionError):
        NotebookClient(notebook, resources={"metadata": {"path": str(ROOT)}}).execute()
    (output,) = notebook.cells[1].outputs
    assert output.output_type == "error" and output.ename == "NameError"
    shown = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(output.traceback))
    assert "Traceback" in shown and shown.strip().endswith(message)
