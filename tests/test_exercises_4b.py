"""Assignment4B's exercises: the notebook's solutions pass, wrong answers are told why."""

import re

import keras
import nbformat
import numpy as np
import pytest
import tensorflow as tf

from helpers import exercises
from helpers.files import ROOT

CELLS = {cell.id: cell for cell in nbformat.read(ROOT / "Assignment4B.ipynb", as_version=4).cells}
NAMES = [name.removesuffix("-answer") for name in CELLS if name.endswith("-answer")]
RNG = np.random.default_rng(0)
GIVEN = {
    "np": np, "tf": tf, "exercises": exercises,
    "A": tf.constant(RNG.uniform(0, 1, (1, 8, 8, 16)), tf.float32),
    "alpha": tf.constant(np.resize([1, -1.1, 0.5], (1, 16)), tf.float32),
}  # fmt: skip
A, ALPHA = GIVEN["A"].numpy()[0], GIVEN["alpha"].numpy()[0]


def solution(name):
    """What the notebook's own solution assigns."""
    (block,) = re.findall(r"```python\n(.*?)```", CELLS[f"{name}-solution"].source, re.DOTALL)
    exec(block, room := dict(GIVEN))
    return room[name]


def check(name, answer):
    """What the notebook's own line says to an answer."""
    (line,) = re.findall(r"^exercises\..+$", CELLS[f"{name}-answer"].source, re.MULTILINE)
    return eval(line.rstrip(";"), {**GIVEN, name: answer})


def test_there_are_five_in_one_form():
    assert len(NAMES) == 5
    for number, name in enumerate(NAMES, start=1):
        assert f"### Exercise {number}: " in CELLS[name].source
        assert CELLS[f"{name}-solution"].metadata.tags == ["solution"]


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_unanswered_and_its_solution_passes(name, capsys):
    exec(CELLS[f"{name}-answer"].source, dict(GIVEN))
    assert "Not answered yet" in capsys.readouterr().out
    assert check(name, solution(name)), capsys.readouterr().out


def test_the_adam_that_is_asked_for_is_keras_adam(capsys):
    def keras_adam(gradients, rate):
        weight = keras.Variable(np.zeros(np.shape(gradients[0]), np.float32))
        optimizer = keras.optimizers.Adam(rate)
        for gradient in gradients:
            optimizer.apply([np.float32(gradient)], [weight])
        return weight.numpy()

    assert check("adam", keras_adam), capsys.readouterr().out


def sign_of_each(gradients, rate):
    return -rate * np.sum(np.sign(gradients), axis=0)


def gaps(bins, signed=False, weighted=True):
    """A calibration error with other bins, other gaps, or bins that count the same."""

    def answer(confidence, correct):
        place = np.minimum((bins * confidence).astype(int), bins - 1)
        inside = [place == b for b in np.unique(place)]
        found = [confidence[i].mean() - correct[i].mean() for i in inside]
        weights = [i.mean() for i in inside] if weighted else None
        return np.average(found if signed else np.abs(found), weights=weights)

    return answer


@pytest.mark.parametrize(
    "name, answer, told",
    [
        ("hundredth", 310, "divided by 99.89, and that is less than 100"),
        ("hundredth", "late", "whole number"),
        ("window", 11, "two pixels apart"),
        ("adam", lambda gradients, rate: -rate * np.sum(gradients, axis=0), "first step"),
        ("adam", lambda gradients, rate: rate * np.sign(gradients[0]), "up the slope"),
        ("adam", sign_of_each, "after 2 steps"),
        ("adam", 0.004, "is a function"),
        ("calibration", 0.04, "is a function"),
        ("calibration", gaps(5), "into 5 bins"),
        ("calibration", gaps(15), "into 15 bins"),
        ("calibration", gaps(10, weighted=False), "weigh it"),
        ("calibration", gaps(10, signed=True), "absolute values"),
        ("calibration", lambda confidence, correct: 1.01 * gaps(10)(confidence, correct), "is not"),
        ("against", np.maximum(A @ ALPHA, 0), "for the class"),
        ("against", np.minimum(A @ ALPHA, 0), "negative numbers"),
        ("against", np.abs(A @ ALPHA), "not the negative part"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_told_what_is_wrong(name, answer, told, capsys):
    assert not check(name, answer)
    assert re.search(f"Not yet: .*{told}", capsys.readouterr().out)
