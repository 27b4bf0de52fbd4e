"""The exercises of Assignment4B, 4C and 4D: solutions are right, wrong answers are told why."""

import re
from functools import partial

import keras
import nbformat
import numpy as np
import pytest
import tensorflow as tf

from helpers import exercises
from helpers.explanation import metrics
from helpers.files import ROOT

BOOKS = [nbformat.read(ROOT / f"Assignment4{letter}.ipynb", 4).cells for letter in "BCD"]
CELLS = {cell.id: cell for cells in BOOKS for cell in cells}
NAMES = [name.removesuffix("-answer") for name in CELLS if name.endswith("-answer")]
RNG = np.random.default_rng(0)
A, W = RNG.random((3, 8, 8, 16), np.float32), RNG.normal(size=(16, 10))
ACCOUNT = RNG.normal(size=(8, 8))
ACCOUNT[2, 5] = 9
ALPHA = np.resize([1, -1.1, 0.5], (1, 16)).astype(np.float32)
RAW = A[0] @ ALPHA[0]
SECOND = np.linspace(0, 1, 100)
FIRST = SECOND + RNG.normal(0.1, 0.02, 100)
DEFINED = {
    "np": np, "tf": tf, "exercises": exercises, "metrics": metrics, "A": A, "W": W,
    "alpha": tf.constant(ALPHA), "account": ACCOUNT, "first": FIRST, "second": SECOND,
}  # fmt: skip


def test_they_are_numbered_in_order():
    numbers = [re.search(r"### Exercise (\d): \w", CELLS[name].source)[1] for name in NAMES]
    assert "".join(numbers) == "12345" + "1234567" + "1"


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_runs_unanswered_and_its_solution_is_right(capsys, name):
    stub, solution = CELLS[f"{name}-answer"].source, CELLS[f"{name}-solution"]
    assign, check = stub.splitlines()
    assert assign.startswith(f"{name} = ...") and check.startswith(f"exercises.{name}.check({name}")
    exec(stub, dict(DEFINED))
    assert "Not answered yet" in capsys.readouterr().out
    assert solution.metadata.tags == ["solution"] and solution.source.startswith("<details>")
    (code,) = re.findall(r"```python\n(.*?)```", solution.source, re.DOTALL)
    exec(f"{code}\n{check}\nexercises.{name}.hint()", dict(DEFINED))
    assert capsys.readouterr().out == f"Right.\n{getattr(exercises, name).clue}\n"


def error(confidence, correct, count=10, signed=False, weighted=True, times=1):
    """A calibration error; or with other bins, other gaps, or bins that count the same."""
    place = (count * confidence).astype(int)
    gaps = [np.mean((confidence - correct)[place == b]) for b in np.unique(place)]
    weights = np.unique(place, return_counts=True)[1] if weighted else None
    return times * np.average(gaps if signed else np.abs(gaps), weights=weights)


def keras_adam(gradients, rate):
    weight, optimizer = keras.Variable(np.zeros(5, np.float32)), keras.optimizers.Adam(rate)
    for gradient in gradients:
        optimizer.apply([np.float32(gradient)], [weight])
    return weight.numpy()


@pytest.mark.parametrize(
    "name, answer, told",
    [
        ("hundredth", 310, "divided by 99.89, and that is less than 100"),
        ("hundredth", 312, "it is there earlier"),
        ("hundredth", "late", "the answer is late, not a whole number"),
        ("window", 11, "two pixels apart"),
        ("window", 13, "13 pixels is not the window"),
        ("window", len, "the answer is <built-in function len>, not a number"),
        ("adam", keras_adam, None),
        ("adam", lambda g, rate: -rate * np.sum(g, axis=0), "step 1 goes wrong"),
        ("adam", lambda g, rate: rate * np.sign(g[0]), "up the slope"),
        ("adam", lambda g, rate: -rate * np.sum(np.sign(g), axis=0), "step 2 goes wrong"),
        ("adam", lambda g, rate: g.lost, "it stops with AttributeError: 'list' object has no"),
        ("adam", lambda g, rate: g, r"it returns an array of shape \(1, 5\), not an array of"),
        ("adam", 0.004, "is 0.004; what is asked for is a function"),
        ("calibration", error, None),
        ("calibration", partial(error, count=5), "into 5 bins"),
        ("calibration", partial(error, count=15), "into 15 bins"),
        ("calibration", partial(error, weighted=False), "weigh a bin"),
        ("calibration", partial(error, signed=True), "absolute values"),
        ("calibration", partial(error, times=1.01), "is not the weighted mean"),
        ("against", np.maximum(RAW, 0), "for the class"),
        ("against", np.minimum(RAW, 0), "negative numbers"),
        ("against", np.abs(RAW), "not the negative part"),
        ("place", (2, 5), "place in the map"),
        ("place", (20, 8), "exchanged"),
        ("place", (0, 0), "not the middle"),
        ("place", 13, r"the answer is 13, not an array of shape \(2,\)"),
        ("shrink", 1 / 250.25, "the share left"),
        ("shrink", 2.0, "not the quotient"),
        ("flip", lambda x: x, "a map stays as it is"),
        ("flip", lambda x: x + W[:, 0] ** 2, "the logits move"),
        ("energy", lambda maps, masks: (maps * masks).sum() / maps.sum(), r"of shape \(3,\)"),
        ("energy", lambda maps, masks: (maps * masks).sum((1, 2)) / maps.sum(), "over all maps"),
        ("energy", lambda maps, masks: masks.mean((1, 2)), "not the share of each map's sum"),
        ("paired", metrics.bootstrap(SECOND - FIRST), "first minus second"),
        ("paired", metrics.bootstrap(FIRST), "not the mean difference"),
        ("paired", metrics.Interval(np.mean(FIRST - SECOND), -1, 1), "width"),
        ("paired", 0.1, "the answer is 0.1, not an interval"),
        ("ranks", lambda a, b: np.corrcoef(a, b)[0, 1], "Pearson"),
        ("ranks", lambda a, b: 0.5, "not the correlation of the ranks"),
        ("rgb", lambda picture: picture[::-1], "only the channels"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_told_why(capsys, name, answer, told):
    exec(CELLS[f"{name}-answer"].source.splitlines()[1], DEFINED | {name: answer})
    assert re.match(f"Not yet: .*{told}" if told else "Right.", capsys.readouterr().out)
