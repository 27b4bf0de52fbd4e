"""The checks behind the exercises: right, or what is wrong without giving the answer away.

In the notebooks an exercise is a stub cell, `answer = ...`, which runs unanswered; the line
`exercises.NAME.check(answer)`; and a folded solution below, which the tests execute.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr


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


# --- Assignment4C --------------------------------------------------------------------------------


def _place(answer, raw):
    row, column = map(int, np.unravel_index(np.argmax(raw), raw.shape))
    given = tuple(map(int, answer))
    if given == (4 * row, 4 * column):
        return None
    if given == (row, column):
        return f"{given} is the place in the map; the window's middle, in pixels, is asked for"
    if given == (4 * column, 4 * row):
        return "row and column are exchanged"
    return f"{given} is not the middle of the window that contributes most"


def _shrink(answer):
    factor = (0.5 * 0.5) / (0.999 * 0.001)
    if np.isclose(answer, factor, rtol=0.01):
        return None
    if np.isclose(answer, 1 / factor, rtol=0.01):
        return "that is the share which is left; asked is how many times smaller it is"
    return f"{answer} times is not the quotient of the two derivatives"


def _energy(answer):
    maps, shares = np.random.default_rng(4).random((2, 3, 5, 7))
    masks = shares < 0.4
    right, given = (maps * masks).sum(axis=(1, 2)) / maps.sum(axis=(1, 2)), answer(maps, masks)
    if np.shape(given) != (3,):
        return f"for three maps it gives the shape {np.shape(given)}, not one number per map, (3,)"
    if np.allclose(given, right):
        return None
    if np.allclose(np.multiply(given, maps.sum()), (maps * masks).sum(axis=(1, 2))):
        return "it divides by the sum over all maps, not over each"
    return f"a map with {right[0]:.3f} of its sum inside gets {given[0]:.3f}"


def _paired(answer, first, second):
    difference = np.subtract(first, second)
    if np.isclose(answer.mean, -difference.mean()) and not np.isclose(difference.mean(), 0):
        return "the sign is turned: first minus second is asked for"
    if not np.isclose(answer.mean, difference.mean()):
        return f"its mean, {answer.mean:.3f}, is not the mean difference"
    width = 2 * 1.96 * difference.std(ddof=1) / len(difference) ** 0.5
    if not 0.7 * width <= answer.high - answer.low <= 1.4 * width:
        return "its width is not that of an interval of differences within the pictures"
    return None


def _ranks(answer):
    for seed in range(3):
        a, b = np.random.default_rng(seed).normal(size=(2, 64)) ** 3  # with outliers
        b = a + b
        right, given = float(spearmanr(a, b).statistic), float(answer(a, b))
        if np.isclose(given, np.corrcoef(a, b)[0, 1]):
            return "that is the correlation of the values (Pearson's), not of their ranks"
        if not np.isclose(given, right):
            return f"for two maps of rank correlation {right:.3f} it gives {given:.3f}"
    return None


def _rgb(answer):
    bgr = np.random.default_rng(4).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    if np.shape(answer(bgr)) != bgr.shape:
        return f"a picture {bgr.shape} becomes {np.shape(answer(bgr))}"
    if np.array_equal(answer(bgr), bgr[..., ::-1]):
        return None
    if np.array_equal(np.sort(answer(bgr), axis=None), np.sort(bgr, axis=None)):
        return "the pixels, or not only the channels, have changed places"
    return "the values have changed"


place = Exercise(
    _place,
    "np.unravel_index(raw[70].argmax(), (8, 8)) gives the place (i, j); the text above says around "
    "which pixel its window lies.",
)
shrink = Exercise(
    _shrink, "Where only its own logit moves, dp/dy = p (1 - p). Divide its value at one half."
)
energy = Exercise(
    _energy, "Multiply by the masks, sum over the axes 1 and 2, divide by the sum of each map."
)
paired = Exercise(
    _paired, "Subtract picture by picture first; trust.bootstrap takes one number per picture."
)
ranks = Exercise(_ranks, "a.argsort().argsort() are the ranks of a; np.corrcoef correlates them.")
rgb = Exercise(_rgb, "The channels are the last axis, and a slice may have a negative step.")
