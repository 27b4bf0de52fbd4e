"""The checks behind the notebooks' exercises: right, or what is wrong with an answer.

An exercise is a cell `NAME = ...` with `exercises.NAME.check(NAME)`, and a folded solution.
"""

import numpy as np
import pandas as pd
import scipy  # scipy.stats is loaded where it is used: a second

from helpers.annotation import agreement, checks, via


class Malformed(Exception):
    """An answer, or what an answered function returns, has not the form that is asked for."""


class exercise:
    """Make an exercise of the judge below, which takes an answer and what else `check` is given.

    It yields verdicts: True, or what is wrong. The first that holds is told; without one, "Right".
    """

    def __init__(self, clue, function=False):
        self.clue, self.function = clue, function

    def __call__(self, judge):
        self.judge = judge
        return self

    def check(self, answer, *given) -> bool:
        """Print whether the answer is right; True only if it is."""
        if answer is ...:
            print("Not answered yet: replace the dots, and run the cell again.")
            return False
        try:
            if self.function and not callable(answer):
                raise Malformed(f"{answer}; what is asked for is a function")
            verdict = next(filter(None, self.judge(answer, *given)), True)
        except Malformed as error:
            returned = self.function and callable(answer)
            verdict = f"{'it returns' if returned else 'the answer is'} {error}"
        except Exception as error:
            verdict = f"it stops with {type(error).__name__}: {error}"
        print("Right." if verdict is True else f"Not yet: {verdict}. For a clue, call .hint().")
        return verdict is True

    def hint(self) -> None:
        """Print a clue."""
        print(self.clue)


def numbers(value, form="", shape=(), whole=False):
    """The value as finite numbers in this shape, whole ones from 1 on if asked; else Malformed."""
    form = form or (f"an array of shape {shape}" if shape else "a number")
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError):
        raise Malformed(f"{value}, not {form}") from None
    fits = array.shape == shape and np.isfinite(array).all()
    if not fits or (whole and np.any((array < 1) | (array % 1 > 0))):
        what = f"an array of shape {array.shape}" if array.ndim > 1 else value
        raise Malformed(f"{what}, not {form}")
    return array.astype(int) if whole else array


def same(answer, value, rtol=1e-4, atol=1e-5):
    """Whether an answer has nearly this value; Malformed if it has not even its shape."""
    return np.allclose(numbers(answer, shape=np.shape(value)), value, rtol, atol)


# Assignment4A
@exercise("The moved box shares a square of side s - 1. Or try the sides one by one.")
def smallest_side(answer):
    side = numbers(answer, "a whole number of pixels, from 1 on", whole=True)
    kept, less = ((s - 1) ** 2 / (2 * s**2 - (s - 1) ** 2) for s in (side, max(side - 1, 1)))
    yield kept < 0.5 and f"a box of that side keeps an IoU of {kept:.2f}"
    yield less >= 0.5 and "a smaller box passes, too"


@exercise("np.nonzero gives rows and columns of the true pixels. Count on fingers.", function=True)
def tight_box(answer):
    for x, y, w, h in ((5, 3, 6, 18), (0, 9, 32, 1), (31, 0, 1, 32)):
        mask = np.zeros((32, 32), bool)
        mask[[y, y + h - 1], [x + w - 1, x]] = True  # two opposite corners, and a gap between them
        box = tuple(numbers(answer(mask), "(x, y, width, height)", (4,)).tolist())
        if box != (x, y, w, h):
            yield box == (y, x, h, w) and "rows and columns are exchanged: axis 0 goes down"
            yield box[2:] == (w - 1, h - 1) and "the last column and the last row belong to it, too"
            yield box[2:] == (x + w - 1, y + h - 1) and "these are the first and the last pixel"
            yield box[2:] == (min(w, 2), min(h, 2)) and "a box spans the gaps, too"
            yield f"for the rows {y} to {y + h - 1} it returns ({', '.join(f'{v:g}' for v in box)})"


@exercise("The check knows the size of the picture, but does not look at the picture.")
def blind_spot(answer, picture):
    box = numbers(answer, "(x, y, width, height)", (4,))
    yield min(box[2:]) <= 0 and "a box has a width and a height"
    wrong = via.from_boxes([picture.filename], [answer])
    findings = checks.check(wrong, sizes={picture.filename: (32, 32)})
    yield findings and f"the check does find it: {findings[0].problem}"
    iou = agreement.iou([answer], via.boxes([picture])).max()
    yield iou > 0 and f"it still overlaps the right box: IoU {iou:.2f}"


@exercise("Let both say 'no' nearly always, and never 'yes' to the same picture.")
def worse_than_chance(answer):
    match answer:
        case [[_, *_] as a, [_, *_] as b]:
            yield len(a) != len(b) and f"the lists have {len(a)} and {len(b)} labels"
        case _:
            raise Malformed(f"{answer}, not two lists of labels")
    equal, kappa = np.mean([u == v for u, v in zip(a, b)]), agreement.cohen_kappa(a, b)
    yield not np.isclose(equal, 0.9) and f"they agree on {equal:.1%}, not on 90%"
    yield not kappa < 0 and f"their kappa is {kappa:.2f}"


@exercise("Two loops, over width and height from 1 on: the best agreement.iou(boxes, [box]).mean()")
def lazy(answer, boxes, size=(32, 32)):
    sides = numbers(answer, "(width, height), two whole numbers of pixels", (2,), whole=True)
    yield any(sides > size) and f"the box must fit into {size[0]} x {size[1]} pixels"
    every = np.indices(size).reshape(2, -1).T + 1  # all (width, height)
    mean = agreement.iou(boxes, np.hstack([(size - every) / 2, every])).mean(axis=0)
    reached = mean.reshape(size)[tuple(sides - 1)]
    yield reached < mean.max() - 1e-9 and f"it reaches {reached:.4f}; another size reaches more"


@exercise("counts[counts < 5] holds the rare ones, .index their pairs; no box is rare, too.")
def rare(answer, counts):
    if isinstance(answer, str | dict) or not np.iterable(answer):
        raise Malformed(f"{answer}, not a set of pairs (attribute, option)")
    pairs = {tuple(pair) if isinstance(pair, list) else pair for pair in answer}
    for unknown in sorted(pairs - set(counts.index), key=str):
        yield f"{unknown} is no pair (attribute, option) of counts"
    few = set(counts.index[counts < 5])
    yield pairs != few and f"{len(few - pairs)} are missing and {len(pairs - few)} do not belong"


@exercise("Without the + 1 a box becomes (x - 1, y - 1, w + 1, h + 1). Compare box by box.")
def off_by_one(answer, boxes):
    boxes, changes = np.asarray(boxes, float), ((-1, -1, 1, 1), (-1, -1, 0, 0))  # or moved
    left, moved = (np.mean([agreement.iou([b], [b + c]) for b in boxes]) for c in changes)
    yield same(answer, left, atol=0.002)
    yield same(answer, 1 - left, atol=0.002) and "that is what gets lost, not what is left"
    yield same(answer, moved, atol=0.002) and "two borders stay, so the boxes grow as well"
    yield f"it is {'more' if answer > left else 'less'} than what is left"


# Assignment4B
@exercise("0.004 / (1 + 0.319 e) <= 0.004 / 100: what must 1 + 0.319 e be?")
def hundredth(answer):
    divisor = 1 + 0.319 * numbers(answer, "a whole number", whole=True)
    yield divisor < 100 and f"the rate is divided by {divisor:.2f}, and that is less than 100"
    yield divisor - 0.319 >= 100 and "it is there earlier"


@exercise("From 1 pixel, the stem and the blocks of stage 1 add 2 each. And in stage 2?")
def window(answer):
    yield same(answer, 11) and "in stage 2 neighbours are two pixels apart: add 4 for each block"
    yield same(answer, 31) and "that is the window of the last map, two blocks later"
    yield not same(answer, 15) and f"{answer} pixels is not the window"


@exercise("Put the step above into a loop that keeps m and v; t counts from 1.", function=True)
def adam(answer):
    gradients, rate = np.random.default_rng(0).normal(size=(4, 5)), 0.01
    m = v = change = 0
    for step, gradient in enumerate(gradients, start=1):  # the paper's first form
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        change = change - rate * (m / (1 - 0.9**step)) / np.sqrt(v / (1 - 0.999**step))
        given = answer(list(gradients[:step].copy()), rate)
        yield same(given, -change, 1e-3) and "the weights move up the slope, not down"
        yield not same(given, change, 1e-3) and f"step {step} goes wrong: are m, v and t kept?"


@exercise("With bins = (10 * confidence).astype(int), weigh each gap by its share.", function=True)
def calibration(answer):
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 2000) ** 0.5  # some bins are empty
    # Too sure and too modest by turns: with every bin of ten.
    correct = rng.uniform(size=2000) < confidence + 0.15 * np.sin(10 * np.pi * confidence)
    gap, given = pd.Series(confidence - correct), answer(confidence.copy(), correct)
    bins = {n: gap.groupby((n * confidence).astype(int)) for n in range(2, 51)}
    errors = {n: gaps.sum().abs().sum() / 2000 for n, gaps in bins.items()}
    yield same(given, errors[10])
    yield same(given, bins[10].mean().abs().mean()) and "weigh a bin by its number of pictures"
    yield same(abs(given), abs(gap.mean())) and "gaps up and down cancel here; take absolute values"
    for n, error in errors.items():
        yield same(given, error) and f"it sorts into {n} bins, not 10"
    yield "for made-up answers it is not the weighted mean of the gaps"


@exercise("ReLU keeps the positive part. Of what is the negative part the positive one?")
def against(answer, A, alpha):
    raw = np.tensordot(np.asarray(A)[0], np.asarray(alpha)[0], 1)
    yield same(answer, np.maximum(-raw, 0))
    yield same(answer, np.maximum(raw, 0)) and "this is the evidence for the class"
    yield np.min(answer) < 0 and "it holds negative numbers; asked are positive ones"
    yield "the numbers are not the negative part of the weighted sum"


# Assignment4C
@exercise("np.unravel_index(account.argmax(), (8, 8)) is the place; find its window in the text.")
def place(answer, raw):
    row, column = np.unravel_index(np.argmax(raw), raw.shape)
    yield same(answer, (4 * row, 4 * column))
    yield same(answer, (row, column)) and "that is the place in the map, not in the picture"
    yield same(answer, (4 * column, 4 * row)) and "row and column are exchanged"
    yield "it is not the middle of the window that contributes most"


@exercise("Where only its own logit moves, dp/dy = p (1 - p). Divide its value at one half.")
def shrink(answer):
    factor = (0.5 * 0.5) / (0.999 * 0.001)
    yield same(answer, 1 / factor, 0.01) and "that is the share left; how many times smaller is it?"
    yield not same(answer, factor, 0.01) and "it is not the quotient of the two derivatives"


@exercise("The head takes the mean over axes 1 and 2. What does it not ask for?", function=True)
def flip(answer, features, weights):
    pair = features, numbers(answer(features.copy()), shape=features.shape)
    yield not same(*(x.mean(axis=(1, 2)) @ weights for x in pair), atol=1e-4) and "the logits move"
    differences = weights - weights.mean(axis=1, keepdims=True)  # no part common to all logits
    maps, others = (x @ differences for x in pair)  # (N, h, w, classes)
    yield np.isclose(maps, others, atol=1e-4).all(axis=(1, 2, 3)).any() and "a map stays as it is"


@exercise("Multiply by the masks, sum over axes 1 and 2, divide by each map's sum.", function=True)
def energy(answer):
    maps, shares = np.random.default_rng(4).random((2, 3, 5, 7))
    inside, whole = ((maps * masks).sum(axis=(1, 2)) for masks in (shares < 0.4, 1))
    given = answer(maps, shares < 0.4)
    yield same(given, inside / whole)
    yield same(given, inside / whole.sum()) and "it divides by the sum over all maps, not over each"
    yield "it is not the share of each map's sum that lies inside"


@exercise("Subtract picture by picture first; metrics.bootstrap takes a number per picture.")
def paired(answer, first, second):
    if not hasattr(answer, "low"):
        raise Malformed(f"{answer}, not an interval of metrics.bootstrap")
    difference = np.subtract(first, second)
    mean, width = difference.mean(), 3.92 * difference.std(ddof=1) / len(difference) ** 0.5
    yield same(answer.mean, -mean) and not same(mean, -mean) and "asked is first minus second"
    yield not same(answer.mean, mean) and "its mean is not the mean difference"
    yield not 0.7 < (answer.high - answer.low) / width < 1.4 and "its width is not a paired one"


@exercise("a.argsort().argsort() are the ranks of a; np.corrcoef correlates.", function=True)
def ranks(answer):
    a, b = np.random.default_rng(0).normal(size=(2, 64)) ** 3  # with outliers
    values, ordered = (f(a, a + b).statistic for f in (scipy.stats.pearsonr, scipy.stats.spearmanr))
    yield same(answer(a, a + b), values) and "that correlates values (Pearson's), not their ranks"
    yield not same(answer(a, a + b), ordered) and "it is not the correlation of the ranks"


@exercise("The channels are the last axis; a slice may have a negative step.", function=True)
def rgb(answer):
    bgr = np.random.default_rng(4).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    yield not same(answer(bgr.copy()), bgr[..., ::-1]) and "only the channels should change places"


# Assignment4D
@exercise("Keep the pictures that neither are of the class nor were answered so.", function=True)
def swayed(answer):
    before, after, true = np.random.default_rng(5).integers(0, 4, (3, 200))
    (share,), others = numbers([answer(before, after, true, 2)], shape=(1,)), true != 2
    yield same(share, np.mean(after == 2)) and "that is the share of all pictures"
    yield same(share, np.mean(after[others] == 2)) and "some were answered so without the mark"
    others &= before != 2
    yield same(share, np.mean(others & (after == 2))) and "divide by those that could change"
    yield not same(share, np.mean(after[others] == 2)) and f"for made-up answers it is {share:.3f}"


def hit_rate(answers, truth, chance: float) -> str:
    """How many answers are right, with the 95% interval of Wilson (1927), beside chance."""
    if not answers:
        return "not answered yet: fill in the form, and run the cell again."
    if len(answers) != len(truth):
        return f"{len(answers)} answers, but {len(truth)} are asked for: fill in all of them."
    right, n = sum(a == b for a, b in zip(answers, truth)), len(truth)
    low, high = scipy.stats.binomtest(right, n).proportion_ci(method="wilson")
    return f"{right} of {n} right, {right / n:.0%} [{low:.0%}, {high:.0%}]; by chance {chance:.0%}"
