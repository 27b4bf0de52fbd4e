"""The checks behind the exercises: right, or what is wrong without giving the answer away.

In the notebooks an exercise is a stub cell, `answer = ...`, which runs unanswered; the line
`exercises.NAME.check(answer)`; and a folded solution below, which the tests execute.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Exercise:
    """One question.

    Args:
        judge: takes the answer, and what else the cell hands to `check`; returns what is wrong with
            it, or None if it is right. What it raises counts as wrong: an answer may be anything.
        clue: what `hint` prints.
    """

    judge: Callable[..., str | None]
    clue: str

    def check(self, answer, *given) -> bool:
        """Print whether the answer is right; True only if it is."""
        if answer is ...:
            print("Not answered yet: replace the dots, and run the cell again.")
            return False
        try:
            wrong = self.judge(answer, *given)
        except Exception as error:
            wrong = f"this cannot be judged ({type(error).__name__}: {error})"
        print(f"Not yet: {wrong}. For a clue, call .hint()." if wrong else "Right.")
        return not wrong

    def hint(self) -> None:
        """Print a clue."""
        print(self.clue)


# --- Assignment4A --------------------------------------------------------------------------------


# --- Assignment4B --------------------------------------------------------------------------------


def _hundredth(epoch):
    def share(epoch):
        return 1 / (1 + 0.319 * epoch)

    if epoch != int(epoch):
        return "epochs are whole numbers"
    if share(epoch) > 0.01:
        return f"in epoch {epoch} the rate is still {share(epoch):.2%} of the first one"
    if share(epoch - 1) <= 0.01:
        return "it is there earlier"


def _window(width):
    if width == 31:
        return "31 pixels is the window of the last map, two blocks later"
    if width != 15:
        return f"{width} pixels is not the window"


def _adam(answer):
    rng, rate = np.random.default_rng(0), 0.01
    gradients = [rng.normal(size=5) for _ in range(4)]
    if np.shape(found := np.asarray(answer(gradients[:1], rate), float)) != (5,):
        return f"for gradients of shape (5,) it returns shape {np.shape(found)}"
    if np.allclose(found, rate * np.sign(gradients[0]), rtol=1e-4):
        return "the weights move up the slope; they should move against the gradient"
    if not np.allclose(found, -rate * np.sign(gradients[0]), rtol=1e-4):
        return "already the first step is not rate * sign(gradient), against the gradient"
    m, v, change = 0, 0, 0
    for step, gradient in enumerate(gradients, start=1):  # the paper's first form
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        change -= rate * (m / (1 - 0.9**step)) / np.sqrt(v / (1 - 0.999**step))
        if not np.allclose(answer(gradients[:step], rate), change, rtol=1e-3):
            return f"the change after {step} steps is wrong: are m, v and the step number kept?"


def _calibration(answer, confidence, correct):
    edges = np.linspace(0, 1, 11)[1:-1]
    bins = np.digitize(confidence, edges)
    counts = np.bincount(bins, minlength=10)
    gaps = np.abs(np.bincount(bins, confidence - correct, 10))
    if np.isclose(answer, gaps.sum() / counts.sum(), rtol=1e-3):
        return None
    if np.isclose(answer, np.mean((gaps / np.maximum(counts, 1))[counts > 0]), rtol=1e-3):
        return "every bin counts the same here; weigh it by the number of its pictures"
    if np.isclose(answer, abs(np.mean(confidence - correct)), rtol=1e-3):
        return "too sure in one bin and too modest in another cancel here; take absolute values"
    return f"{answer:.4f} is not the weighted mean of the bins' gaps"


def _against(answer, A, alpha):
    raw = np.tensordot(np.asarray(A)[0], np.asarray(alpha)[0], 1)
    if np.shape(answer) != raw.shape:
        return f"the map has the shape {np.shape(answer)}, not {raw.shape}"
    if np.allclose(answer, np.maximum(raw, 0), atol=1e-5):
        return "this is the evidence for the class"
    if np.min(answer) < 0:
        return "it holds negative numbers; evidence against is asked for as positive ones"
    if not np.allclose(answer, np.maximum(-raw, 0), atol=1e-5):
        return "the numbers are not the negative part of the weighted sum"


HUNDREDTH = Exercise(_hundredth, "0.004 / (1 + 0.319 e) <= 0.004 / 100: what must 1 + 0.319 e be?")
WINDOW = Exercise(
    _window,
    "Start with 1 pixel. The stem and each block of stage 1 have one 3 x 3 convolution: 2 pixels "
    "more each. How far apart are neighbours in stage 2?",
)
ADAM = Exercise(
    _adam, "The cell above is one step. Put it into a loop that keeps m and v and counts t from 1."
)
CALIBRATION = Exercise(
    _calibration,
    "bins = np.minimum((10 * confidence).astype(int), 9) numbers the bins; then, for each bin, "
    "abs(confidence[inside].mean() - correct[inside].mean()), weighted by inside.mean().",
)
AGAINST = Exercise(
    _against, "ReLU keeps the positive part. Of what is the negative part the positive one?"
)


# --- Assignment4C --------------------------------------------------------------------------------
