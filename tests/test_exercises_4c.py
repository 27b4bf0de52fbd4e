"""The exercises of Assignment4C: every folded solution passes its check, wrong answers do not."""

import re

import nbformat
import numpy as np
import pytest
from scipy.stats import rankdata

from helpers import exercises
from helpers.explanation import metrics
from helpers.files import ROOT

ACCOUNT = np.random.default_rng(0).normal(size=(8, 8))
ACCOUNT[2, 5] = 9
SECOND = np.linspace(0, 1, 100)
FIRST = SECOND + np.random.default_rng(1).normal(0.1, 0.02, 100)
NAMES = {"account": ACCOUNT, "first": FIRST, "second": SECOND, "np": np, "metrics": metrics}
GIVEN = {"place": (ACCOUNT,), "paired": (FIRST, SECOND)}


def cells():
    notebook = nbformat.read(ROOT / "Assignment4C.ipynb", as_version=4)
    return {cell["id"]: cell for cell in notebook.cells}


STUBS = [
    name
    for name, cell in cells().items()
    if name.startswith("exercise-") and cell.cell_type == "code"
]


def wrong_answers():
    one, other = metrics.bootstrap(FIRST), metrics.bootstrap(SECOND)
    unpaired = metrics.Interval(one.mean - other.mean, one.low - other.high, one.high - other.low)
    return {
        "place": [((2, 5), "place in the map"), ((20, 8), "exchanged"), ((0, 0), "not the middle")],
        "shrink": [(1 / 250.25, "share"), (2.0, "not the quotient")],
        "energy": [
            (lambda maps, masks: (maps * masks).sum() / maps.sum(), "one number per map"),
            (lambda maps, masks: (maps * masks).sum(axis=(1, 2)) / maps.sum(), "over all maps"),
            (lambda maps, masks: masks.mean(axis=(1, 2)), "of its sum inside"),
        ],
        "paired": [
            (metrics.bootstrap(SECOND - FIRST), "sign is turned"),
            (metrics.bootstrap(FIRST), "not the mean difference"),
            (unpaired, "width"),
        ],
        "ranks": [
            (lambda a, b: np.corrcoef(a, b)[0, 1], "Pearson"),
            (lambda a, b: rankdata(a) @ rankdata(b), "it gives"),
        ],
        "rgb": [
            (lambda picture: picture[::-1], "changed places"),
            (lambda picture: 255 - picture, "values have changed"),
            (lambda picture: picture.mean(axis=-1), r"becomes \(2, 3\)"),
        ],
    }


def test_rgb_may_be_made_in_place():
    def answer(picture):
        picture[..., [0, 2]] = picture[..., [2, 0]]
        return picture

    assert exercises.rgb.check(answer)


def test_at_least_five_exercises_and_all_are_tried_here():
    assert len(STUBS) >= 5
    assert {name.removeprefix("exercise-") for name in STUBS} == set(wrong_answers())


@pytest.mark.parametrize("stub", STUBS)
def test_a_stub_runs_unanswered_and_its_solution_is_right(stub, capsys):
    name, source = stub.removeprefix("exercise-"), cells()[stub].source
    assert source.startswith("answer = ...") and f"exercises.{name}.check(answer" in source
    exec(source, {**NAMES, "exercises": exercises})
    assert "Not answered yet" in capsys.readouterr().out
    solution = cells()[f"solution-{name}"].source
    assert solution.startswith("<details>") and solution.rstrip().endswith("</details>")
    (code,) = re.findall(r"```python\n(.*?)```", solution, flags=re.DOTALL)
    answered = dict(NAMES)
    exec(code, answered)
    assert getattr(exercises, name).check(answered["answer"], *GIVEN.get(name, ()))


@pytest.mark.parametrize("name", wrong_answers())
def test_wrong_answers_are_told_what_is_wrong(name, capsys):
    for answer, message in wrong_answers()[name]:
        assert not getattr(exercises, name).check(answer, *GIVEN.get(name, ()))
        assert re.search(message, capsys.readouterr().out)
