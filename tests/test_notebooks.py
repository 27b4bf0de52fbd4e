"""What is stored in the committed notebooks and pages; nbval executes the notebooks themselves."""

import csv
import json
import os
import re
import statistics
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from conftest import pytest_collection_modifyitems

from helpers.files import ROOT
from helpers.training import data, runs

NOTEBOOKS = sorted(ROOT.glob("Assignment4*.ipynb"))
PAGES = [*NOTEBOOKS, ROOT / "README.md"]
RECORDED = sorted(path.parent.name for path in ROOT.glob("saved_models/*/run.json"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(path):
    if path.suffix == ".md":
        return path.read_text()
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_the_cells_of_a_notebook_are_tested_one_after_the_other():
    """nbval starts another kernel where tests of other files come between."""
    names = ["Assignment4A.ipynb", "test_files.py", "Assignment4A.ipynb", "test_files.py"]
    items = [SimpleNamespace(path=Path(name), cell_num=i) for i, name in enumerate(names)]
    pytest_collection_modifyitems(items)
    assert [item.path.name for item in items] == sorted(names)


def test_executed_top_to_bottom_without_errors_warnings_and_paths_of_a_machine(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert not [
            o for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"
        ]
        text = cell.source + json.dumps([o for o in cell.outputs if o.output_type == "stream"])
        assert not re.search(r"(?i)warning|(?<![\w.])/(root|home|work|tmp|usr|Users|opt)/", text), (
            cell["id"]
        )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_size_format_and_ids(path):
    assert path.stat().st_size < 1_000_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert len(re.findall(r"^# ", prose(path), flags=re.MULTILINE)) == 1
    assert "widgets" not in notebook.metadata  # GitHub would refuse to render the notebook
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", cell["id"]) for cell in notebook.cells)
    sources = [cell.source.splitlines() for cell in code_cells(notebook)]
    assert statistics.median(map(len, sources)) <= 8
    assert max(len(line) for lines in sources for line in lines) <= 100
    for cell in code_cells(notebook):  # forms stay forms
        assert ("#@title" in cell.source) == (cell.metadata.get("cellView") == "form"), cell["id"]


def test_setup_cell_is_the_same_everywhere_and_needs_only_the_standard_library():
    books = [nbformat.read(path, as_version=4).cells for path in NOTEBOOKS]
    (setup,) = {cell.source for cells in books for cell in cells if cell["id"] == "setup"}
    assert len(setup.splitlines()) <= 20
    imported = re.findall(r"^(?:import|from) (.+?)(?: import .*)?$", setup, flags=re.MULTILINE)
    modules = {name.strip().split(".")[0] for line in imported for name in line.split(",")}
    assert modules == {"subprocess", "sys", "pathlib"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = prose(path)
    headings = {
        re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    }
    assert "![](" not in text  # a picture without its words
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    assert links
    for link in links:
        if link.startswith("#"):
            anchors = {each.lower() for each in headings} if path.suffix == ".md" else headings
            assert link[1:] in anchors, link
        elif not link.startswith("https://"):
            assert (ROOT / link.split("#")[0]).exists(), link


def test_every_figure_is_described_in_a_sentence(notebook):
    outputs = [(cell["id"], output) for cell in code_cells(notebook) for output in cell.outputs]
    described = [
        (cell, output.metadata.get(kind, {}).get("alt", ""))
        for cell, output in outputs
        for kind in {"image/png", "image/jpeg"} & set(output.get("data", {}))
    ]
    assert described
    for cell, alt in described:
        assert re.fullmatch(r"[A-Z\d][^<>]*\s[^<>]*\s[^<>]*[.?!]", alt), (cell, alt)
        assert not re.search(r"\.(png|jpe?g)|^Figure|^(A|The) (plot|figure) of ", alt), alt


def test_4b_shows_the_recorded_log_and_the_network_that_did_best_on_validation_pictures():
    recorded = [runs.open_run(ROOT / "saved_models" / name) for name in RECORDED]
    (course,) = (run for run in recorded if run.info["recipe"]["name"] == "course")
    cells = {c.id: c for c in nbformat.read(ROOT / "Assignment4B.ipynb", as_version=4).cells}
    printed = {name: "".join(o.get("text", "") for o in cells[name].outputs)
               for name in ("training", "evaluation")}  # fmt: skip
    (table,) = (o for o in cells["training"].outputs if "data" in o)
    minutes = course.info["seconds"] / 60
    assert printed["training"].startswith(f"course: 50 epochs, {minutes:.0f} minutes, seed 0")
    epoch, best = course.log["epoch"], course.best["epoch"]
    first = course.log[(epoch <= 3) | (epoch % 10 == 0) | (epoch == best)]
    assert table["data"]["text/plain"] == str(first.round(4))
    fair = [run for run in recorded if run.info["recipe"]["hold_out"]]
    best = max(fair, key=lambda run: run.chosen["val_acc"])
    assert printed["evaluation"].startswith(
        f"{best.info['recipe']['name']}, epoch {best.chosen['epoch']}:"
    )
    assert (
        f"test accuracy {best.info['scores']['test_acc']:.2%} on CIFAR-10" in printed["evaluation"]
    )


def test_some_cells_are_compared_with_what_is_stored():
    """nbval looks for this comment; what these cells print depends on no data and no mode."""
    cells = [cell for path in NOTEBOOKS for cell in code_cells(nbformat.read(path, as_version=4))]
    marked = [cell for cell in cells if "# NBVAL_CHECK_OUTPUT" in cell.source]
    assert marked and all(cell.outputs for cell in marked)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_run_is_what_it_says(name):
    run = runs.open_run(ROOT / "saved_models" / name)
    assert run.info["recipe"]["name"] == name
    assert run.info["complete"] == (len(run.log) == run.info["recipe"]["epochs"])
    assert run.info["scores"]["epoch"] == run.chosen["epoch"]
    assert run.log["seconds"].sum() == pytest.approx(run.info["seconds"], abs=1)
    network = run.network()  # checks the file's SHA-256
    assert network.count_params() == 574_090
    assert all(weight.dtype == "float32" for weight in network.weights)
    with open(ROOT / "saved_models/runs.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["recipe"] == name]
    of_this_run = str(run.info["seed"]), str(len(run.log))
    (row,) = (row for row in rows if (row["seed"], row["epochs"]) == of_this_run)
    rounded = 2e-3 if run.info["recipe"]["teacher"] else 1e-4  # as its weights are
    assert float(row["test_acc"]) == pytest.approx(run.info["scores"]["test_acc"], abs=rounded)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_weights_score_what_is_recorded(name):
    if not os.environ.get("CIFAR10_NPZ"):
        pytest.skip("CIFAR10_NPZ names no copy of CIFAR-10")
    run, dataset = runs.open_run(ROOT / "saved_models" / name), data.load("cifar10")
    assert dataset.source == run.info["data"]
    network, some = run.network(), slice(None, None, 10)
    told = run.predict_test(network, dataset)  # what is kept
    accuracy = (told.argmax(axis=1) == dataset.y_test).mean()
    assert accuracy == pytest.approx(run.info["scores"]["test_acc"], abs=5e-4)
    again = network.predict(dataset.x_test[some], batch_size=250, verbose=0)
    assert np.allclose(again, told[some], atol=2e-3)
    assert (again.argmax(axis=1) != told[some].argmax(axis=1)).sum() <= 1  # rounding


def test_recorded_runs_stay_small():
    files = [path for path in (ROOT / "saved_models").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 18e6
