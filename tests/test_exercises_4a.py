"""Assignment4A: its exercises, and the numbers that its text tells of the recorded annotations."""

import math
import re
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest

from helpers import exercises
from helpers.annotation import agreement, checks, example_set, via
from helpers.annotation.via import boxes, from_boxes
from helpers.files import ROOT
from helpers.training import data

CELLS = {c["id"]: c for c in nbformat.read(ROOT / "Assignment4A.ipynb", as_version=4).cells}
SOLUTIONS = {
    cell_id: re.search(r"<summary>Solution</summary>\n\n```python\n(.+?)\n```", cell.source, re.S)[
        1
    ]
    for cell_id, cell in CELLS.items()
    if cell_id.endswith("-solution")
}
STUBS = {
    cell_id: cell.source for cell_id, cell in CELLS.items() if "answer = ..." in cell.source
    and cell.cell_type == "code"
}  # fmt: skip


@pytest.fixture(scope="module", params=["recorded", "synthetic"])
def names(request):
    """What the notebook has defined where the exercises come."""
    schema = via.read_schema(example_set.FOLDER / "via_attributes.json")
    completed = via.read_via(example_set.FOLDER / "via_export_csv.csv")
    if request.param == "synthetic":
        course = example_set.example_set(data.synthetic())
        schema, completed = course.schema, course.completed
    return {
        "np": np, "via": via, "agreement": agreement, "exercises": exercises, "size": (32, 32),
        "course": SimpleNamespace(completed=completed), "boxes": boxes(completed),
        "counts": example_set.counts(completed, schema),
    }  # fmt: skip


def test_every_exercise_has_a_stub_and_a_solution():
    assert len(SOLUTIONS) == 7
    assert {name.removesuffix("-solution") for name in SOLUTIONS} == {
        name.removesuffix("-answer") for name in STUBS
    }
    order = list(CELLS)
    for name in SOLUTIONS:
        assert order.index(name) == order.index(name.replace("-solution", "-answer")) + 1


@pytest.mark.parametrize("solution", SOLUTIONS.values(), ids=SOLUTIONS)
def test_a_solution_is_right(capsys, names, solution):
    exec(solution, dict(names))
    assert capsys.readouterr().out.endswith("Right.\n")


@pytest.mark.parametrize("stub", STUBS.values(), ids=STUBS)
def test_a_stub_runs_unanswered_and_checks_what_its_solution_checks(capsys, names, stub):
    exec(stub, dict(names))
    assert capsys.readouterr().out.startswith("Not answered yet")
    call = stub.splitlines()[-1]
    assert call in "\n".join(SOLUTIONS.values())
    exec(re.sub(r"check\(.*", "hint()", call), dict(names))
    assert len(capsys.readouterr().out) > 20


BOX = from_boxes(["a.png"], [(4, 12, 24, 10)])
COUNTS = {"occluded": {"no": 9, "yes": 1}, "viewpoint": {"rear": 0, "side": 5}}
EXACT = [(4, 4, 8, 8), (10, 6, 20, 12)]
LEFT = np.mean([64 / 81, 240 / 273])  # of EXACT, one column and one row too many


@pytest.mark.parametrize(
    "name, answer, given, why",
    [
        ("smallest_side", 5, (), "keeps an IoU of 0.47"),
        ("smallest_side", 8, (), "a smaller box"),
        ("smallest_side", 5.45, (), "whole number"),
        ("smallest_side", "six", (), "cannot be judged"),
        ("tight_box", (5, 3, 6, 18), (), "is a function"),
        ("tight_box", lambda m: m.nonexistent, (), "cannot be judged"),
        ("tight_box", lambda m: (3, 5, 18, 6), (), "rows and columns are exchanged"),
        ("tight_box", lambda m: (5, 3, 5, 17), (), "the last column"),
        ("tight_box", lambda m: (5, 3, 10, 20), (), "first and the last pixel"),
        ("tight_box", lambda m: (5, 3, 6, 18), (), "rows 9 to 9 gave (5, 3, 6, 18)"),
        ("blind_spot", (0, 0, 40, 5), (BOX[0],), "the check does find it: box x 0..40"),
        ("blind_spot", (0, 0, 32, 13), (BOX[0],), "still overlaps the right box: IoU 0.04"),
        ("blind_spot", (0, 0, 0, 0), (BOX[0],), "needs a width"),
        ("kappa", (["a"] * 10, ["a"] * 9), (), "10 and 9 labels"),
        ("kappa", (["a"] * 10, ["a"] * 8 + ["b"] * 2), (), "80.0%"),
        ("kappa", (["a"] * 5 + ["b"] * 5, ["a"] * 5 + ["b"] * 4 + ["a"]), (), "kappa is 0.80"),
        ("kappa", (["a"] * 10, ["a"] * 9 + ["b"]), (), "kappa is 0.00"),
        ("lazy", (16, 16), (EXACT,), "another size reaches more"),
        ("lazy", (40, 16), (EXACT,), "must fit into 32 x 32"),
        ("lazy", (15.5, 16), (EXACT,), "whole pixels"),
        ("rare", {("occluded", "yes")}, (COUNTS,), "1 are missing and 0 do not belong"),
        ("rare", {("occluded", "yes"), ("viewpoint", "rear"), ("viewpoint", "side")}, (COUNTS,),
         "0 are missing and 1 do not belong"),
        ("off_by_one", 1 - LEFT, (EXACT,), "what gets lost"),
        ("off_by_one", 0.69, (EXACT,), "less than what is left"),
        ("off_by_one", np.mean([49 / 79, 209 / 271]), (EXACT,), "the boxes grow as well"),
        ("off_by_one", 0.95, (EXACT,), "more than what is left"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_told_why(capsys, name, answer, given, why):
    assert getattr(exercises, name).check(answer, *given) is False
    printed = capsys.readouterr().out
    assert printed.startswith("Not yet: ") and why in printed


# What the text says


@pytest.fixture(scope="module")
def recorded():
    read = {
        name: via.read_via(example_set.FOLDER / f"{name}.csv")
        for name in ("pass_a", "pass_b", "via_export_csv")
    }
    return SimpleNamespace(a=read["pass_a"], b=read["pass_b"], settled=read["via_export_csv"])


def says(cell, *words):
    for each in words:
        assert each in CELLS[cell].source, (cell, each)


def by_name(pictures):
    return {example_set.short(p.filename): p.regions[0] for p in pictures}


def test_text_about_one_slip():
    def left(side, shift):
        return agreement.iou([(0, 0, side, side)], [(shift, shift, side, side)])[0, 0]

    says("iou-so", "Two fifths are gone")
    assert left(8, 1) == pytest.approx(0.6, abs=0.03)
    says(
        "smallest-side",
        "box about a tenth",
        "falls below 0.5 at the second",
    )
    assert left(32, 1) == pytest.approx(0.9, abs=0.03) and left(8, 2) < 0.5 < left(8, 1)


def test_text_about_the_boxes(recorded):
    found = boxes(recorded.settled)
    says("look-so", f"{np.sum(found[:, 2] * found[:, 3] > 512)} of the 100 fill more than half")
    regions = by_name(recorded.settled)
    smallest = min(regions, key=lambda n: math.prod(via.bounding_box(regions[n].shape)[2:]))
    width, height = via.bounding_box(regions[smallest].shape)[2:]
    says(
        "look-so", f"*{smallest}* is the exception, {width} \N{MULTIPLICATION SIGN} {height} pixels"
    )
    assert regions["bird 1"].attributes["truncated"] == "yes"
    centre = agreement.masks(recorded.settled, (32, 32))[:, 15:17, 15:17]
    says("places-so", "every one of the hundred boxes covers the central pixels")
    assert centre.all()
    masks = agreement.masks(recorded.settled, (32, 32)).mean(axis=(1, 2)).reshape(10, 10)
    share = dict(zip(data.CLASS_NAMES, masks.mean(axis=1), strict=True))
    assert max(share, key=share.get) == "truck" and min(share, key=share.get) == "bird"
    says("places-so", f"{share['truck']:.0%} of the picture for trucks", f"{share['bird']:.0%} for")


def test_text_about_the_first_box(recorded):
    sides = zip(("x", "y", "width", "height"), boxes(recorded.settled[:1])[0], strict=True)
    says("export-predict", ", ".join(f"{name} = {side:g}" for name, side in sides))


def test_text_about_the_passes(recorded):
    named = {picture.filename: picture for picture in recorded.b}
    pairs = ((boxes([a]), boxes([named[a.filename]])) for a in recorded.a)
    overlap = np.array([agreement.iou(a, b)[0, 0] for a, b in pairs])
    says(
        "overlap-so", f"In {np.sum(overlap == 1)} of the 100", f"in {np.sum(overlap > 0.9)} the IoU"
    )
    assert np.sum(overlap < 0.8) == 7
    says("overlap-so", "Seven fall below 0.8")


def test_text_about_kappa(recorded):
    matched = agreement.compare(recorded.a, recorded.b)
    same, kappa = matched.attributes["equal"], matched.attributes["kappa"]
    says("kappa-predict", f"`occluded` is equal in {same['occluded']:.0%}",
         f"`background` in {same['background']:.0%}")  # fmt: skip
    never = np.mean([a.attributes["occluded"] == "no" for _, a, _, _ in matched.pairs])
    says("kappa-predict", f"agree with pass A in {never:.0%} of the pairs")
    text = "kappa-exercise"
    says(text, f"kappa {kappa['occluded']:.2f}, against {kappa['background']:.2f} of `background`")
    says(
        text,
        f"equal in {same['image_quality']:.0%} and with a kappa of {kappa['image_quality']:.2f}",
    )
    assert kappa.idxmin() == "image_quality"
    a, b = by_name(recorded.a), by_name(recorded.b)
    blurred = [
        sum("blurred" in r.attributes["image_quality"] for r in side.values()) for side in (a, b)
    ]
    says(text, "ticks *blurred* {} times and pass B {} times".format(*blurred))
    pairs = [(r.attributes["viewpoint"], s.attributes["viewpoint"]) for _, r, s, _ in matched.pairs]
    differ = [set(pair) for pair in pairs if pair[0] != pair[1]]
    side = sum(pair == {"side", "three_quarter"} for pair in differ)
    says(text, f"of its {len(differ)} differences, {side} are *side* against *three_quarter*")


def test_text_about_the_counts(recorded):
    schema = via.read_schema(example_set.FOLDER / "via_attributes.json")
    counts = example_set.counts(recorded.settled, schema)
    says("rare", "nothing is seen from behind, one object from below")
    assert counts["viewpoint"]["rear"] == 0 and counts["viewpoint"]["bottom"] == 1
    says("rare", f"only {counts['background']['water']} of 100 backgrounds are water")
    assert 45 <= counts["truncated"]["yes"] <= 55
    ships = [region for name, region in by_name(recorded.settled).items() if "ship" in name]
    assert sum(region.attributes["background"] == "sky" for region in ships) >= 5
    assert sum(tally for tally in counts["label"].values()) == 100


def test_text_about_lazy_and_hasty_work(recorded):
    found = boxes(recorded.settled)
    lazy = agreement.iou(found, [(2, 3, 28, 26)]).mean()
    says("lazy-solution", "a mean IoU of 0.6 proves nothing")
    assert lazy > 0.6
    width, height = found.T[2:]
    says("off-by-one-solution", "A mean IoU above 0.9 looks like good work")
    assert np.mean(width * height / (width + 1) / (height + 1)) > 0.9


def test_the_set_in_the_notebook_is_the_stored_file(tmp_path, recorded):
    via.write_via_csv(recorded.settled, tmp_path / "again.csv")
    stored = (example_set.FOLDER / "via_export_csv.csv").read_bytes()
    assert (tmp_path / "again.csv").read_bytes() == stored


def test_annotating_needs_no_tensorflow():
    code = f"from pathlib import Path\n{CELLS['imports'].source.split('plots.use')[0]}"
    code += "\nimport sys; example_set.example_set(data.load('synthetic')); print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras"} & set(done.stdout.split())


# The example set of synthetic pictures


def test_the_synthetic_set_is_annotated_by_the_rules():
    dataset = data.synthetic()
    course = example_set.example_set(dataset)
    assert len(course.images) == len(course.completed) == len(course.pass_b) == 100
    sizes = dict.fromkeys(course.images, (32, 32))
    for pictures in (course.pass_a, course.pass_b, course.completed):
        assert checks.check(pictures, course.schema, sizes) == []
    matched = agreement.compare(course.pass_a, course.pass_b)
    assert 0.8 < matched.mean_iou < 1 and 0 < matched.attributes.loc["occluded", "kappa"] < 1
    exact = dataset.test_boxes[[dataset.test_index(p.filename) for p in course.completed]]
    assert (boxes(course.completed) == exact).all()


def test_short_names():
    assert example_set.short("cifar10_test_cat_0007.png") == "cat 7"
    assert example_set.short("Set1/IMG (2987) of a walk.jpg") == "IMG (2987) o"
