"""What is stored in the committed notebooks and pages; nbval executes the notebooks themselves."""

import csv
import json
import os
import re
import statistics

import nbformat
import numpy as np
import pytest

from helpers.annotation import agreement, example_set, via
from helpers.files import ROOT
from helpers.training import data, recipes, runs

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


def test_the_notebooks_are_there_and_nothing_else():
    assert NOTEBOOKS and sorted(ROOT.glob("*.ipynb")) == NOTEBOOKS


def test_executed_top_to_bottom_without_errors(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    kinds = {output.output_type for cell in code_cells(notebook) for output in cell.outputs}
    assert kinds and "error" not in kinds


def test_outputs_hold_no_warning_and_no_path_of_a_machine(notebook):
    for cell in code_cells(notebook):
        text = cell.source + json.dumps(
            [output for output in cell.outputs if output.output_type == "stream"]
        )
        assert "Warning" not in text and "WARNING" not in text, cell["id"]
        assert not re.search(r"(?<![\w.])/(root|home|work|tmp|usr|Users|opt)/", text), cell["id"]
        assert not [o for o in cell.outputs if o.get("name") == "stderr"], cell["id"]


def test_size_format_and_ids():
    for path in NOTEBOOKS:
        assert path.stat().st_size < 1_000_000, path.name
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert "widgets" not in notebook.metadata  # GitHub would refuse to render the notebook
        ids = [cell["id"] for cell in notebook.cells]
        assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", each) for each in ids), path.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_short_cells(path):
    notebook = nbformat.read(path, as_version=4)
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    assert statistics.median(lengths) <= 8
    if path.stem == "Assignment4B":  # what the assignment asked for, in one sitting
        assert len(notebook.cells) <= 60


def test_no_code_line_is_too_wide_to_read(notebook):
    for cell in code_cells(notebook):
        for line in cell.source.splitlines():
            assert len(line) <= 100, (cell["id"], line)


def test_forms_stay_forms(notebook):
    for cell in code_cells(notebook):
        assert ("#@title" in cell.source) == (cell.metadata.get("cellView") == "form"), cell["id"]


def test_setup_cell_is_the_same_everywhere_and_needs_only_the_standard_library():
    setups = {
        next(
            cell.source for cell in nbformat.read(path, as_version=4).cells if cell["id"] == "setup"
        )
        for path in NOTEBOOKS
    }
    assert len(setups) == 1
    (setup,) = setups
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
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    assert links
    for link in links:
        if link.startswith("#"):
            anchors = {each.lower() for each in headings} if path.suffix == ".md" else headings
            assert link[1:] in anchors, link
        elif not link.startswith("https://"):
            assert (ROOT / link.split("#")[0]).exists(), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_images_have_alt_text(path):
    assert "![](" not in prose(path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_one_heading_and_a_colab_badge(path):
    text = prose(path)
    assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1
    target = re.search(
        r"colab-badge\.svg\)\]\((https://colab\.research\.google\.com/github/[^)]*)\)", text
    )
    assert target and (target[1].endswith("/github/") or target[1].endswith(path.name))


def stored(name, cell_id):
    """What a cell of a committed notebook printed."""
    cells = nbformat.read(ROOT / name, as_version=4).cells
    cell = next(cell for cell in cells if cell["id"] == cell_id)
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_stored_training_output_is_the_recorded_run():
    run = runs.open_run(ROOT / "saved_models/course")
    assert stored("Assignment4B.ipynb", "training").splitlines() == run.lines()


def test_the_network_that_is_explained_is_told_with_its_log():
    recorded = [runs.open_run(ROOT / "saved_models" / name) for name in RECORDED]
    fair = [run for run in recorded if run.info["recipe"]["hold_out"]]
    best = max(fair, key=lambda run: run.chosen["val_acc"])
    told = stored("Assignment4B.ipynb", "evaluation")
    assert told.startswith("\n".join(best.lines()))
    assert f"test accuracy {best.info['scores']['test_acc']:.2%} on CIFAR-10" in told


def test_what_the_prose_of_4b_says_of_its_figures_is_so():
    assert "test_cat_0235.png" in stored("Assignment4B.ipynb", "errors")
    assert recipes.MODERN.adam_ratio == 0.25  # "a quarter of this rate"
    course, modern = (
        runs.open_run(ROOT / "saved_models" / name).log["val_acc"][22:27].mean()
        for name in ("course", "modern")
    )
    assert modern < course  # "half-way it is no better than the others"


def test_what_the_prose_of_4a_says_of_the_annotations_is_so():
    folder = ROOT / "images/annotations"
    completed, pass_a, pass_b = (
        via.read_via(folder / f"{name}.csv") for name in ("via_export_csv", "pass_a", "pass_b")
    )
    schema = via.read_schema(folder / "via_attributes.json")
    boxes, a, b = (via.boxes(pictures) for pictures in (completed, pass_a, pass_b))
    share = boxes[:, 2:].prod(axis=1) / 32**2
    label = [picture.filename.split("_")[2] for picture in completed]
    of_class = {name: share[[each == name for each in label]].mean() for name in set(label)}
    (tiny,) = [box for p, box in zip(completed, boxes) if "airplane_0008" in p.filename]
    overlap = np.diag(agreement.iou(a, b))
    counted = example_set.counts(completed, schema)
    blurred = [
        example_set.counts(one, schema)["image_quality"]["blurred"] for one in (pass_a, pass_b)
    ]
    found = agreement.compare(pass_a, pass_b)
    views = [{one.attributes["viewpoint"] for one in pair[1:3]} for pair in found.pairs]
    not_occluded = np.mean([pair[1].attributes["occluded"] == "no" for pair in found.pairs])
    same, kappa = found.attributes["equal"], found.attributes["kappa"]
    text = prose(ROOT / "Assignment4A.ipynb")
    for told in (
        f"{np.sum(share > 0.5)} of the 100 fill more than half",
        f"*airplane 8* is the exception, {tiny[2]:g} × {tiny[3]:g} pixels",  # noqa: RUF001
        f"In {np.sum(overlap == 1)} of the 100 pictures both passes drew the very same box",
        f"in {np.sum(overlap > 0.9)} the IoU is above 0.9. Seven fall below 0.8",
        f"{same['occluded']:.0%} of the pairs and `background` in {same['background']:.0%}",
        f"would agree with pass A in {not_occluded:.0%} of the pairs",
        f"with kappa {kappa['occluded']:.2f}, against {kappa['background']:.2f} of `background`",
        f"equal in {same['image_quality']:.0%} and with a kappa of {kappa['image_quality']:.2f}",
        f"Pass A ticks *blurred* {blurred[0]} times and pass B {blurred[1]} times",
        f"of its {sum(len(pair) == 2 for pair in views)} differences, "
        f"{views.count({'side', 'three_quarter'})} are *side* against *three_quarter*",
        f"only {counted['background']['water']} of 100 backgrounds are water",
        f"*blurred* stands for {counted['image_quality']['blurred']} objects only, although the "
        f"passes ticked it {blurred[0]} and {blurred[1]} times",
        f"{of_class['truck']:.0%} of the picture for trucks and still {of_class['bird']:.0%}",
    ):
        assert told in text
    assert np.sum(overlap < 0.8) == 7


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
    assert float(row["test_acc"]) == pytest.approx(run.info["scores"]["test_acc"], abs=1e-4)


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
    assert sum(path.stat().st_size for path in files) < 12e6
