"""Assignment4A: its exercises, and the numbers that its text tells of the recorded annotations."""

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
    space |= {"regions": regions, "opened": SimpleNamespace(album=SimpleNamespace(schema=schema))}
    exec(CELLS["count"].source, space)
    return space["counts"]


def test_a_stub_runs_unanswered_its_solution_is_right_and_nonsense_is_told(capsys, names):
    assert len(NAMES) == 7
    for number, name in enumerate(NAMES, 1):
        assert CELLS[name].source.startswith(f"### Exercise {number}: ")
        stub, check = CELLS[f"{name}-answer"].source.splitlines()
        own = name.replace("-", "_")
        assert stub.startswith(f"{own} = ...  # ") and f"exercises.{own}.check({own}" in check
        exec(f"{stub}\n{check}", dict(names))
        assert capsys.readouterr().out.startswith("Not answered yet")
        assert CELLS[f"{name}-solution"].metadata["tags"] == ["solution"]
        solution = re.search(r"```python\n(.+?)\n```", CELLS[f"{name}-solution"].source, re.S)[1]
        exec(f"{solution}\n{check}", dict(names))
        assert capsys.readouterr().out.endswith("Right.\n")
        for answer in ("six", None, {"a": 1}, -1.5, np.nan, (1, 2, 300, 4), [["a"]], len):
            exec(check, {**names, own: answer})
            printed = capsys.readouterr().out
            assert printed.startswith("Not yet: ") and "cannot be judged" not in printed, printed


def test_there_is_little_to_read_before_the_next_figure():
    read = [c for c in NOTEBOOK if "solution" not in c.metadata.get("tags", [])]
    text = "\n".join(c.source if c.cell_type == "markdown" else "|code|" for c in read)
    text = re.sub(r"```.*?```", "\n|code|\n", re.sub(r"^#+ .*", "", text, flags=re.M), flags=re.S)
    for part in re.split(r"^(?:\||!\[).*", text, flags=re.M):  # tables, code and pictures
        assert len(part.split()) <= 120, part


BOX = from_boxes(["a.png"], [(4, 12, 24, 10)])
PAIRS = [("occluded", "no"), ("occluded", "yes"), ("viewpoint", "rear"), ("viewpoint", "side")]
COUNTS = pd.Series(dict(zip(PAIRS, (9, 1, 0, 5))))
EXACT = [(4, 4, 8, 8), (10, 6, 20, 12)]
LEFT = np.mean([64 / 81, 240 / 273])  # of EXACT, one column and one row too many


WRONG = [
    ("smallest_side", 5, (), "keeps an IoU of 0.47"),
    ("tight_box", lambda m: m.lost, (), "stops with AttributeError"),
    ("tight_box", lambda m: (3, 5, 18, 6), (), "rows and columns are exchanged"),
    ("tight_box", lambda m: (5, 3, 5, 17), (), "the last column"),
    ("tight_box", lambda m: (5, 3, 10, 20), (), "first and the last pixel"),
    ("tight_box", lambda m: (5, 3, 6, 18), (), "rows 9 to 9 it returns (5, 3, 6, 18)"),
    ("blind_spot", (0, 0, 40, 5), (BOX[0],), "the check does find it: box x 0..40"),
    ("blind_spot", (0, 0, 32, 13), (BOX[0],), "still overlaps the right box: IoU 0.04"),
    ("worse_than_chance", (["a"] * 10, ["a"] * 8 + ["b"] * 2), (), "80.0%"),
    ("worse_than_chance", (["a"] * 10, ["a"] * 9 + ["b"]), (), "kappa is 0.00"),
    ("lazy", (16, 16), (EXACT,), "another size reaches more"),
    ("rare", {("occluded", "yes")}, (COUNTS,), "1 are missing and 0 do not belong"),
    ("off_by_one", 1 - LEFT, (EXACT,), "what gets lost"),
    ("off_by_one", np.mean([49 / 79, 209 / 271]), (EXACT,), "the boxes grow as well"),
]


@pytest.mark.parametrize("name, answer, given, why", WRONG)
def test_a_wrong_answer_is_told_why(capsys, name, answer, given, why):
    assert getattr(exercises, name).check(answer, *given) is False
    assert why in capsys.readouterr().out


def test_the_numbers_in_the_text_are_those_of_the_files():
    a, b, settled = (
        via.read_via(example_set.FOLDER / f"{name}.csv")
        for name in ("pass_a", "pass_b", "via_export_csv")
    )
    matched, sides = agreement.compare(a, b), boxes(settled)
    shift = [agreement.iou([(0, 0, s, s)], [(k, k, s, s)])[0, 0] for s, k in ((8, 1), (5, 1))]
    regions = {example_set.short(p.filename): p.regions[0] for p in settled}
    inside = agreement.masks(settled, (32, 32))
    share = dict(zip(data.CLASS_NAMES, inside.reshape(10, -1).mean(axis=1), strict=True))
    overlap = np.diag(agreement.iou(boxes(a), boxes(b)))
    of_a, of_b = (agreement.compare(x, settled).mean_iou for x in (a, b))
    equal, kappa = matched.attributes["equal"], matched.attributes["kappa"]
    never = np.mean([pair[1].attributes["occluded"] == "no" for pair in matched.pairs])
    space = {"np": np, "pd": pd, "agreement": agreement, "matched": matched}
    exec(CELLS["kappa-draws"].source, space)
    kappas = space["kappas"]
    low, high = kappas.quantile(0.025), kappas.quantile(0.975)
    apart = (kappas["background"] - kappas["occluded"]).quantile([0.025, 0.975])
    few, many = (
        f"{kappa[name]:.2f}, from {low[name]:.2f} to {high[name]:.2f}"
        for name in ("occluded", "background")
    )
    views = [{r.attributes["viewpoint"] for r in pair[1:3]} for pair in matched.pairs]
    counted = counts(settled, via.read_schema(example_set.FOLDER / "via_attributes.json"))
    blurred = [
        {p.filename for p in side if "blurred" in p.regions[0].attributes["image_quality"]}
        for side in (a, b, settled)
    ]
    text = " ".join(" ".join(cell.source for cell in NOTEBOOK).split())
    text = text.replace("\N{MINUS SIGN}", "-").replace("\N{MULTIPLICATION SIGN}", "x")
    sentences = (
        f"{np.sum(sides[:, 2] * sides[:, 3] > 512)} of the 100 fill more than half",
        "*airplane 8* is the exception, {:g} x {:g} pixels".format(*sides[8, 2:]),
        "x = {:g}, y = {:g}, width = {:g}, height = {:g}".format(*sides[0]),
        f"{share['truck']:.0%} of the picture for trucks, still {share['bird']:.0%} for birds",
        f"In {np.sum(overlap == 1)} of the 100 pictures both passes",
        f"in {np.sum(overlap > 0.9)} the IoU is above 0.9",
        f"mean of the {len(matched.pairs)} pairs",
        f"The passes reach {of_a:.3f} and {of_b:.3f}.",
        f"not with the {matched.mean_iou:.3f} between them",
        f"`occluded` is equal in {equal['occluded']:.0%}",
        f"`background` in {equal['background']:.0%}",
        f"agrees with pass A in {never:.0%}",
        f"`occluded` has kappa {few}",
        f"`background` has {many}",
        "lies between {:.2f} and {:.2f}".format(*apart),
        f"`image_quality` has the lowest kappa, {kappa.min():.2f}",
        f"{views.count({'side', 'three_quarter'})} of the {sum(len(v) == 2 for v in views)} diff",
        f"only {counted['background']['water']} of 100 backgrounds are water",
        f"ticks *blurred* {len(blurred[0])} times and pass B {len(blurred[1])} times",
        f"is ticked for {len(blurred[2])} objects. Both passes had ticked "
        f"{len(blurred[0] & blurred[1])}.",
    )
    missing = [sentence for sentence in sentences if sentence not in text]
    assert not missing, "\n".join(missing)
    assert 0.55 < shift[0] < 0.65 and shift[1] < 0.5  # "Two fifths are gone"; "Six."
    assert regions["bird 1"].attributes["truncated"] == "yes" and np.sum(overlap < 0.8) == 7
    assert inside[:, 15:17, 15:17].all() and max(share, key=share.get) == "truck"
    assert counted["viewpoint"]["rear"] == 0 and counted["viewpoint"]["bottom"] == 1
    assert agreement.iou(sides, [(2, 3, 28, 26)]).mean() > 0.6  # "proves nothing here"


def test_annotating_needs_no_tensorflow():
    code = f"from pathlib import Path\n{CELLS['imports'].source.split('plots.use')[0]}"
    code += "\nimport sys; example_set.example_set(data.load('synthetic')); print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras"} & set(done.stdout.split())


def test_the_synthetic_set_is_annotated_by_the_rules():
    dataset = data.synthetic()
    course = example_set.example_set(dataset)
    sizes = dict.fromkeys(course.images, (32, 32))
    for pictures in (course.pass_a, course.pass_b, course.completed):
        assert checks.check(pictures, course.schema, sizes) == []
    matched = agreement.compare(course.pass_a, course.pass_b)
    assert 0.8 < matched.mean_iou < 1 and 0 < matched.attributes.loc["occluded", "kappa"] < 1
    exact = dataset.test_boxes[[dataset.test_index(p.filename) for p in course.completed]]
    assert (boxes(course.completed) == exact).all()
