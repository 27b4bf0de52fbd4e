"""Assignment4A: its exercises, and the numbers that its text tells of the recorded annotations."""

import math
import re
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest

from helpers import exercises
from helpers.annotation import agreement, checks, example_set, via
from helpers.annotation.via import boxes, from_boxes
from helpers.files import ROOT
from helpers.training import data

NOTEBOOK = nbformat.read(ROOT / "Assignment4A.ipynb", as_version=4).cells
CELLS = {cell["id"]: cell for cell in NOTEBOOK}
NAMES = [name.removesuffix("-answer") for name in CELLS if name.endswith("-answer")]


def solution(name):
    cell = CELLS[f"{name}-solution"]
    assert cell.metadata["tags"] == ["solution"]
    start = "<details><summary>Solution</summary>\n\n```python\n"
    return re.fullmatch(rf"{start}(.+?)\n```\n\n.+\n\n</details>", cell.source, re.S)[1]


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
        "counts": counts(completed, schema),
    }  # fmt: skip


def counts(pictures, schema):
    """As the notebook's own cell counts."""
    regions = [(p.filename, region) for p in pictures for region in p.regions]
    space = {"Counter": Counter, "pd": pd, "via": via}
    space |= {"regions": regions, "specs": schema["region"]}
    exec(CELLS["count"].source, space)
    return space["counts"]


def test_every_exercise_has_the_one_form():
    assert len(NAMES) == 7
    order = list(CELLS)
    for number, name in enumerate(NAMES, 1):
        place = order.index(name)
        assert order[place + 1 : place + 3] == [f"{name}-answer", f"{name}-solution"]
        assert CELLS[name].source.startswith(f"### Exercise {number}: ")
        own = name.replace("-", "_")
        stub, check = CELLS[f"{name}-answer"].source.splitlines()
        assert stub.startswith(f"{own} = ...  # ")
        assert check.startswith(f"exercises.{own}.check({own}") and check.endswith(");")


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_runs_unanswered_and_its_solution_is_right(capsys, names, name):
    stub, check = CELLS[f"{name}-answer"].source.splitlines()
    exec(f"{stub}\n{check}", dict(names))
    assert capsys.readouterr().out.startswith("Not answered yet")
    exec(f"{solution(name)}\n{check}", dict(names))
    assert capsys.readouterr().out.endswith("Right.\n")
    exec(re.sub(r"check\(.*", "hint()", check), dict(names))
    assert len(capsys.readouterr().out) > 20


def test_there_is_little_to_read_before_the_next_figure():
    read = [c for c in NOTEBOOK if "solution" not in c.metadata.get("tags", [])]
    text = "\n".join(c.source if c.cell_type == "markdown" else "|code|" for c in read)
    text = re.sub(r"```.*?```", "\n|code|\n", re.sub(r"^#+ .*", "", text, flags=re.M), flags=re.S)
    for part in re.split(r"^(?:\||!\[).*", text, flags=re.M):  # tables, code and pictures
        assert len(part.split()) <= 120, part


@pytest.mark.parametrize(
    "answer",
    ["six", None, {"a": 1}, -1.5, np.nan, (1, 2), (1, 2, 300, 4), [["a"]], {(1, 2), 3}, len],
    ids=repr,
)
def test_no_answer_is_told_by_a_raw_exception(capsys, names, answer):
    for name in NAMES:
        check = CELLS[f"{name}-answer"].source.splitlines()[1]
        exec(check, {**names, name.replace("-", "_"): answer})
        printed = capsys.readouterr().out
        assert printed.startswith("Not yet: ") and "cannot be judged" not in printed, printed


BOX = from_boxes(["a.png"], [(4, 12, 24, 10)])
PAIRS = [("occluded", "no"), ("occluded", "yes"), ("viewpoint", "rear"), ("viewpoint", "side")]
COUNTS = pd.Series(dict(zip(PAIRS, (9, 1, 0, 5))))
EXACT = [(4, 4, 8, 8), (10, 6, 20, 12)]
LEFT = np.mean([64 / 81, 240 / 273])  # of EXACT, one column and one row too many


def occupied(mask):
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), mask.any(axis=0).sum(), mask.any(axis=1).sum()


@pytest.mark.parametrize(
    "name, answer, given, why",
    [
        ("smallest_side", 5, (), "keeps an IoU of 0.47"),
        ("smallest_side", 8, (), "a smaller box"),
        ("smallest_side", 5.45, (), "whole number"),
        ("tight_box", (5, 3, 6, 18), (), "is a function"),
        ("tight_box", lambda m: m.lost, (), "stops with AttributeError"),
        ("tight_box", lambda m: None, (), "returns None, not (x, y, width, height)"),
        ("tight_box", lambda m: (3, 5, 18, 6), (), "rows and columns are exchanged"),
        ("tight_box", lambda m: (5, 3, 5, 17), (), "the last column"),
        ("tight_box", lambda m: (5, 3, 10, 20), (), "first and the last pixel"),
        ("tight_box", lambda m: (5, 3, 6, 18), (), "rows 9 to 9 it returns (5, 3, 6, 18)"),
        ("tight_box", occupied, (), "a box spans the gaps"),
        ("blind_spot", (0, 0, 40, 5), (BOX[0],), "the check does find it: box x 0..40"),
        ("blind_spot", (0, 0, 32, 13), (BOX[0],), "still overlaps the right box: IoU 0.04"),
        ("blind_spot", (0, 0, 0, 0), (BOX[0],), "has a width"),
        ("worse_than_chance", (["a"] * 10, ["a"] * 9), (), "10 and 9 labels"),
        ("worse_than_chance", (["a"] * 10, ["a"] * 8 + ["b"] * 2), (), "80.0%"),
        ("worse_than_chance", ("aaaaabbbbb", "aaaaabbbba"), (), "two lists"),
        ("worse_than_chance", (["a"] * 10, ["a"] * 9 + ["b"]), (), "kappa is 0.00"),
        ("worse_than_chance", (list("aaaaabbbbb"), list("aaaaabbbba")), (), "kappa is 0.80"),
        ("lazy", (16, 16), (EXACT,), "another size reaches more"),
        ("lazy", (40, 16), (EXACT,), "must fit into 32 x 32"),
        ("lazy", (15.5, 16), (EXACT,), "whole numbers of pixels"),
        ("rare", {("occluded", "yes")}, (COUNTS,), "1 are missing and 0 do not belong"),
        ("rare", {("occluded", "maybe")}, (COUNTS,), "('occluded', 'maybe') is no pair"),
        ("rare", set(PAIRS[1:]), (COUNTS,), "0 are missing and 1 do not belong"),
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
    files = {"a": "pass_a", "b": "pass_b", "settled": "via_export_csv"}
    read = {k: via.read_via(example_set.FOLDER / f"{name}.csv") for k, name in files.items()}
    return SimpleNamespace(**read, matched=agreement.compare(read["a"], read["b"]))


def says(cell, *sentences):
    signs = str.maketrans("\N{MULTIPLICATION SIGN}\N{MINUS SIGN}", "x-")
    text = " ".join(CELLS[cell].source.translate(signs).split())
    assert [sentence for sentence in sentences if sentence not in text] == []


def by_name(pictures):
    return {example_set.short(p.filename): p.regions[0] for p in pictures}


def test_text_about_one_slip():
    def left(side, shift):
        return agreement.iou([(0, 0, side, side)], [(shift, shift, side, side)])[0, 0]

    says("iou-so", "Two fifths are gone")
    says("why-so", "a 32 x 32 box about a tenth", "8 x 8 box falls below 0.5 at the second pixel")
    assert left(32, 1) == pytest.approx(0.9, abs=0.03) and left(8, 1) == pytest.approx(
        0.6, abs=0.03
    )
    assert left(8, 2) < 0.5 < left(8, 1) and left(32, 5) > 0.5 > left(4, 1)  # as the figure's alt
    says("smallest-side-solution", "Six.")
    assert left(5, 1) < 0.5 <= left(6, 1)


def test_text_about_the_boxes(recorded):
    sides, regions = boxes(recorded.settled), by_name(recorded.settled)
    smallest = min(regions, key=lambda n: math.prod(via.bounding_box(regions[n].shape)[2:]))
    width, height = via.bounding_box(regions[smallest].shape)[2:]
    large = np.sum(sides[:, 2] * sides[:, 3] > 512)
    says("look-so", f"{large} of the 100 fill more than half",
         f"*{smallest}* is the exception, {width} x {height} pixels")  # fmt: skip
    assert regions["bird 1"].attributes["truncated"] == "yes"
    says("export-predict", "x = {:g}, y = {:g}, width = {:g}, height = {:g}".format(*sides[0]))
    inside = agreement.masks(recorded.settled, (32, 32))
    says("places-so", "every one of the hundred boxes covers the central pixels")
    assert inside[:, 15:17, 15:17].all()
    share = dict(zip(data.CLASS_NAMES, inside.reshape(10, -1).mean(axis=1), strict=True))
    assert max(share, key=share.get) == "truck" and min(share, key=share.get) == "bird"
    says("places-so", f"{share['truck']:.0%} of the picture for trucks", f"{share['bird']:.0%} for")


def test_text_about_the_passes(recorded):
    overlap = np.diag(agreement.iou(boxes(recorded.a), boxes(recorded.b)))
    says("overlap-so", f"In {np.sum(overlap == 1)} of the 100 pictures",
         f"in {np.sum(overlap > 0.9)} the IoU is above 0.9", "Seven fall below 0.8",
         f"mean of the {len(recorded.matched.pairs)} pairs")  # fmt: skip
    assert np.sum(overlap < 0.8) == 7
    a, b = (agreement.compare(x, recorded.settled).mean_iou for x in (recorded.a, recorded.b))
    says("yours-so", f"The passes reach {a:.3f} and {b:.3f}.", f"{recorded.matched.mean_iou:.3f}")


def test_text_about_kappa(recorded):
    pairs, table = recorded.matched.pairs, recorded.matched.attributes
    equal, kappa = table["equal"], table["kappa"]
    never = np.mean([a.attributes["occluded"] == "no" for _, a, _, _ in pairs])
    says("kappa-predict", f"`occluded` is equal in {equal['occluded']:.0%}",
         f"`background` in {equal['background']:.0%}", f"pass A in {never:.0%}")  # fmt: skip
    space = {"np": np, "pd": pd, "agreement": agreement, "matched": recorded.matched}
    exec(CELLS["kappa-draws"].source, space)
    kappas = space["kappas"]
    low, high = kappas.quantile(0.025), kappas.quantile(0.975)
    few, many = (
        f"{kappa[name]:.2f}, from {low[name]:.2f} to {high[name]:.2f}"
        for name in ("occluded", "background")
    )
    apart = (kappas["background"] - kappas["occluded"]).quantile([0.025, 0.975])
    says("kappa-so", f"`occluded` has kappa {few}", f"`background` has {many}",
         "lies between {:.2f} and {:.2f}".format(*apart),
         f"`image_quality` has the lowest kappa, {kappa['image_quality']:.2f}")  # fmt: skip
    assert kappa.idxmin() == "image_quality"
    views = [{r.attributes["viewpoint"] for r in pair[1:3]} for pair in pairs]
    says("kappa-so", f"{views.count({'side', 'three_quarter'})} of its "
         f"{sum(len(view) == 2 for view in views)} differences")  # fmt: skip


def test_text_about_the_counts(recorded):
    schema = via.read_schema(example_set.FOLDER / "via_attributes.json")
    counted = counts(recorded.settled, schema)
    says("count-so", "nothing is seen from behind, one object from below",
         f"only {counted['background']['water']} of 100 backgrounds are water")  # fmt: skip
    assert counted["viewpoint"]["rear"] == 0 and counted["viewpoint"]["bottom"] == 1
    assert 45 <= counted["truncated"]["yes"] <= 55 and set(counted["label"]) == {10}
    a, b, settled = (
        {name for name, r in by_name(side).items() if "blurred" in r.attributes["image_quality"]}
        for side in (recorded.a, recorded.b, recorded.settled)
    )
    says("kappa-so", f"ticks *blurred* {len(a)} times and pass B {len(b)} times")
    says("count-so", f"stands for {len(settled)} objects. Both passes had ticked {len(a & b)}.")
    assert settled < a & b and a & b - settled == {"bird 2", "deer 7"}


def test_text_about_lazy_and_hasty_work(recorded):
    sides = boxes(recorded.settled)
    says("human-about", "a mean IoU of 0.6 proves nothing here")
    assert agreement.iou(sides, [(2, 3, 28, 26)]).mean() > 0.6
    width, height = sides.T[2:]
    says("handover-about", "A mean IoU above 0.9 looks like good work")
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
