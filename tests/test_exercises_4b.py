"""Assignment4B's exercises: the notebook's solutions pass, wrong answers are told why."""

import re

import keras
import nbformat
import numpy as np
import pytest
import tensorflow as tf

from helpers import exercises
from helpers.files import ROOT

CELLS = nbformat.read(ROOT / "Assignment4B.ipynb", as_version=4).cells
STUBS = {
    re.search(r"exercises\.(\w+)\.check", cell.source)[1]: place
    for place, cell in enumerate(CELLS)
    if cell.cell_type == "code" and "answer = ..." in cell.source
}
RNG = np.random.default_rng(0)
CONFIDENCE = RNG.uniform(0.1, 1, 400).astype(np.float32)
GIVEN = {
    "np": np,
    "tf": tf,
    "exercises": exercises,
    "confidence": CONFIDENCE,
    "correct": RNG.uniform(size=400) < 0.3 + CONFIDENCE / 2,  # modest, then too sure
    "A": tf.constant(RNG.uniform(0, 1, (1, 8, 8, 16)), tf.float32),
    "alpha": tf.constant(RNG.normal(size=(1, 16)), tf.float32),
}
A, ALPHA = GIVEN["A"].numpy()[0], GIVEN["alpha"].numpy()[0]


def check(name, answer):
    """What the notebook's own line says to an answer."""
    (line,) = re.findall(r"^exercises\..+$", CELLS[STUBS[name]].source, re.MULTILINE)
    return eval(line.rstrip(";"), {**GIVEN, "answer": answer})


def test_there_are_five_each_with_a_clue():
    assert len(STUBS) == 5
    assert all(getattr(exercises, name).clue for name in STUBS)


@pytest.mark.parametrize("name", STUBS)
def test_the_stub_runs_unanswered(name, capsys):
    exec(CELLS[STUBS[name]].source, dict(GIVEN))
    assert "Not answered yet" in capsys.readouterr().out


@pytest.mark.parametrize("name", STUBS)
def test_the_folded_solution_passes(name, capsys):
    below = CELLS[STUBS[name] + 1].source
    (solution,) = re.findall(
        r"<details><summary>Solution.*?```python\n(.*?)```.*?</details>", below, re.DOTALL
    )
    room = dict(GIVEN)
    exec(solution, room)
    assert check(name, room["answer"]), capsys.readouterr().out


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


CORRECT, bins = GIVEN["correct"], np.minimum((10 * CONFIDENCE).astype(int), 9)
GAPS = [CONFIDENCE[bins == b].mean() - CORRECT[bins == b].mean() for b in np.unique(bins)]


@pytest.mark.parametrize(
    "name, answer, told",
    [
        ("hundredth", 310, "still 1.00% of the first"),
        ("hundredth", 312, "earlier"),
        ("hundredth", 310.5, "whole numbers"),
        ("hundredth", "late", "cannot be judged"),
        ("window", 31, "the last map"),
        ("window", 13, "13 pixels is not"),
        ("adam", lambda gradients, rate: -rate * np.sum(gradients, axis=0), "first step"),
        ("adam", lambda gradients, rate: rate * np.sign(gradients[0]), "up the slope"),
        ("adam", lambda gradients, rate: 0.0, r"shape \(\)"),
        ("adam", sign_of_each, "after 2 steps"),
        ("adam", 0.004, "cannot be judged"),
        ("calibration", np.mean(np.abs(GAPS)), "weigh it"),
        ("calibration", abs(np.mean(CONFIDENCE - CORRECT)), "absolute values"),
        ("calibration", 0.5, "not the weighted mean"),
        ("against", np.maximum(A @ ALPHA, 0), "for the class"),
        ("against", np.minimum(A @ ALPHA, 0), "negative numbers"),
        ("against", np.maximum(-A @ ALPHA, 0)[None], r"shape \(1, 8, 8\)"),
        ("against", np.abs(A @ ALPHA), "not the negative part"),
    ],
)
def test_a_wrong_answer_is_told_what_is_wrong(name, answer, told, capsys):
    assert not check(name, answer)
    assert re.search(f"Not yet: .*{told}", capsys.readouterr().out)
