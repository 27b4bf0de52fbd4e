"""The checks behind the exercises of all three notebooks: right, or what is wrong with an answer.

In the notebooks an exercise is a cell `NAME = ...`, which runs unanswered, with the line
`exercises.NAME.check(NAME)`; and a folded solution in a cell below, which the tests execute.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy  # scipy.stats is loaded where it is used: a second

from helpers.annotation import agreement, checks, via


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


def exercise(clue):
    """Turn the judge below into an `Exercise` with this clue."""
    return lambda judge: Exercise(judge, clue)


# --- Assignment4A --------------------------------------------------------------------------------


def _numbers(answer, count):
    """The answer as an array of so many finite numbers, or None."""
    try:
        numbers = np.asarray(answer, float)
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


@exercise("Of a side s, the moved box shares a square of side s - 1. Or try the sides one by one.")
def smallest_side(answer):
    if (side := _numbers([answer], 1)) is None or side < 1 or side % 1:
        return f"a side is a whole number of pixels, from 1 on, and not {answer!r}"

    def kept(side):
        return agreement.iou([(0, 0, side, side)], [(1, 1, side, side)])[0, 0]

    if kept(answer) < 0.5:
        return f"a box of that side keeps an IoU of {kept(answer):.2f}"
    return "a smaller box passes, too" if answer > 1 and kept(answer - 1) >= 0.5 else None


@exercise("np.nonzero gives the rows and the columns of all true pixels. Then count on fingers.")
def tight_box(answer):
    if not callable(answer):
        return "the answer is a function: mask in, (x, y, width, height) out"
    for x, y, w, h in ((5, 3, 6, 18), (0, 9, 32, 1), (31, 0, 1, 32)):
        whole, gaps = np.zeros((2, 32, 32), bool)
        whole[y, x : x + w] = whole[y : y + h, x] = True  # an L: its corners are not all filled
        gaps[y, x] = gaps[y + h - 1, x + w - 1] = True
        for mask in (whole, gaps):
            where = f"for true pixels in columns {x} to {x + w - 1} and rows {y} to {y + h - 1}"
            try:
                box = answer(mask.copy())
            except Exception as error:
                return f"{where} the function stops with {type(error).__name__}: {error}"
            if (sides := _numbers(box, 4)) is None:
                return f"{where} it returns {box!r}, not (x, y, width, height)"
            box = tuple(sides.tolist())
            if box == (y, x, h, w):
                return "rows and columns are exchanged: the first axis of a mask goes down"
            if box == (x, y, w - 1, h - 1):
                return "the last column and the last row belong to the box, too"
            if box == (x, y, x + w - 1, y + h - 1):
                return "these are the first and the last pixel; a box has its width and height"
            if mask is gaps and box == (x, y, gaps.any(0).sum(), gaps.any(1).sum()):
                return "it counts occupied rows and columns; a box spans the gaps between them"
            if box != (x, y, w, h):
                return f"{where} it returns {tuple(int(side) for side in box)}"


@exercise("The check knows the size of the picture, but it does not look at the picture.")
def blind_spot(answer, picture):
    if (sides := _numbers(answer, 4)) is None or min(sides[2:]) <= 0:
        return "a box is (x, y, width, height), four numbers, and has a width and a height"
    wrong = via.from_boxes([picture.filename], [answer])
    if findings := checks.check(wrong, sizes={picture.filename: (32, 32)}):
        return f"the check does find it: {findings[0].problem}"
    overlap = agreement.iou([answer], via.boxes([picture])).max()
    return f"it still overlaps the right box: IoU {overlap:.2f}" if overlap > 0 else None


@exercise("Let both say 'no' nearly always, and never say 'yes' to the same picture.")
def worse_than_chance(answer):
    pair = isinstance(answer, list | tuple) and len(answer) == 2
    if not pair or not all(isinstance(labels, list | tuple) and labels for labels in answer):
        return "the answer is two lists of labels, one of each annotator"
    a, b = answer
    if len(a) != len(b):
        return f"the lists have {len(a)} and {len(b)} labels; make them equally long"
    equal, kappa = np.mean([u == v for u, v in zip(a, b)]), agreement.cohen_kappa(a, b)
    if abs(equal - 0.9) > 1e-9:
        return f"they agree on {equal:.1%}, not on 90%"
    return None if kappa < 0 else f"their kappa is {kappa:.2f}"


@exercise(
    "Two loops, over width and height from 1 on: the best agreement.iou(boxes, [box]).mean()."
)
def lazy(answer, boxes, size=(32, 32)):
    if (sides := _numbers(answer, 2)) is None or (sides % 1).any():
        return "the answer is (width, height), two whole numbers of pixels"
    width, height = sides
    if not (0 < width <= size[0] and 0 < height <= size[1]):
        return f"the box must fit into {size[0]} x {size[1]} pixels"

    def reached(w, heights):
        centered = [((size[0] - w) / 2, (size[1] - h) / 2, w, h) for h in heights]
        return agreement.iou(boxes, centered).mean(axis=0)

    best = max(reached(w, range(1, size[1] + 1)).max() for w in range(1, size[0] + 1))
    mean = reached(width, [height])[0]
    return None if mean > best - 1e-9 else f"it reaches {mean:.4f}; another size reaches more"


@exercise("counts[counts < 5] holds the rare ones, and .index their pairs; no box is rare, too.")
def rare(answer, counts):
    right = set(counts.index[counts < 5])
    if isinstance(answer, str | dict) or not hasattr(answer, "__iter__"):
        return "the answer is a set of pairs (attribute, option)"
    pairs = {tuple(pair) if isinstance(pair, list) else pair for pair in answer}
    if unknown := pairs - set(counts.index):
        return f"{min(unknown, key=str)} is no pair (attribute, option) of counts"
    if pairs != right:
        return f"{len(right - pairs)} are missing and {len(pairs - right)} do not belong to them"


@exercise(
    "Without the + 1, read_voc finds x - 1, y - 1, w + 1, h + 1. Compare box by box, then average."
)
def off_by_one(answer, boxes):
    if _numbers([answer], 1) is None:
        return f"the answer is a number between 0 and 1, and not {answer!r}"
    w, h = np.asarray(boxes, float).T[2:]
    left = np.mean(w * h / ((w + 1) * (h + 1)))
    shared = np.maximum(w - 1, 0) * np.maximum(h - 1, 0)  # with the box a pixel up and to the left
    shifted = np.mean(shared / (2 * w * h - shared))
    if abs(answer - left) < 0.002:
        return None
    if abs(answer - (1 - left)) < 0.002:
        return "that is what gets lost; the question is what is left"
    if abs(answer - shifted) < 0.002:
        return "the right and the lower border stay where they are, so the boxes grow as well"
    return f"{answer:.3f} is {'more' if answer > left else 'less'} than what is left"


# --- Assignment4B --------------------------------------------------------------------------------


@exercise("0.004 / (1 + 0.319 e) <= 0.004 / 100: what must 1 + 0.319 e be?")
def hundredth(epoch):
    if not isinstance(epoch, int | np.integer):
        return "an epoch is a whole number"
    if (divisor := 1 + 0.319 * epoch) < 100:
        return f"in epoch {epoch} the rate is divided by {divisor:.2f}, and that is less than 100"
    if 1 + 0.319 * (epoch - 1) >= 100:
        return "it is there earlier"


@exercise(
    "Start with 1 pixel. The stem and each block of stage 1 have one 3 x 3 convolution: 2 pixels "
    "more each. How far apart are neighbours in stage 2?"
)
def window(width):
    known = {
        31: "31 pixels is the window of the last map, two blocks later",
        11: "in stage 2 neighbours are two pixels apart, so its convolutions widen the window by 4",
        21: "the stride comes with stage 2; in stage 1 a convolution widens the window by 2",
    }
    if width != 15:
        return known.get(width, f"{width} pixels is not the window")


@exercise("The cell above is one step. Put it into a loop that keeps m and v and counts t from 1.")
def adam(answer):
    if not callable(answer):
        return "the answer is a function: (gradients, rate) in, total change out"
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


@exercise(
    "bins = np.minimum((10 * confidence).astype(int), 9) numbers the bins; then, for each bin, "
    "abs(confidence[inside].mean() - correct[inside].mean()), weighted by inside.mean()."
)
def calibration(answer):
    if not callable(answer):
        return "the answer is a function: (confidence, correct) in, one number out"
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 2000) ** 0.5  # some bins are empty
    chance = confidence + 0.15 * np.sin(10 * np.pi * confidence)  # turns with every bin
    correct = rng.uniform(size=2000) < chance
    given = float(answer(confidence.copy(), correct.copy()))

    def gaps(bins):  # of each bin, and its share of the pictures
        place = np.minimum((bins * confidence).astype(int), bins - 1)
        counts = np.bincount(place, minlength=bins)
        gap = np.bincount(place, confidence - correct, bins) / np.maximum(counts, 1)
        return gap[counts > 0], counts[counts > 0] / len(place)

    gap, share = gaps(10)
    if np.isclose(given, np.sum(share * np.abs(gap))):
        return None
    if np.isclose(given, np.abs(gap).mean()):
        return "every bin counts the same here; weigh it by the number of its pictures"
    if np.isclose(abs(given), abs(np.sum(share * gap))):
        return "too sure in one bin and too modest in another cancel here; take absolute values"
    for bins in range(2, 51):
        gap, share = gaps(bins)
        if np.isclose(given, np.sum(share * np.abs(gap))):
            return f"it sorts into {bins} bins; ten are asked for"
    return f"for made-up answers it gives {given:.4f}, which is not the weighted mean of the gaps"


@exercise("ReLU keeps the positive part. Of what is the negative part the positive one?")
def against(answer, A, alpha):
    raw = np.tensordot(np.asarray(A)[0], np.asarray(alpha)[0], 1)
    if np.shape(answer) != raw.shape:
        return f"the map has the shape {np.shape(answer)}, not {raw.shape}"
    if np.allclose(answer, np.maximum(raw, 0), atol=1e-5):
        return "this is the evidence for the class"
    if np.min(answer) < 0:
        return "it holds negative numbers; evidence against is asked for as positive ones"
    if not np.allclose(answer, np.maximum(-raw, 0), atol=1e-5):
        return "the numbers are not the negative part of the weighted sum"


# --- Assignment4C --------------------------------------------------------------------------------


@exercise(
    "np.unravel_index(account.argmax(), (8, 8)) gives the place (i, j); the text above says around "
    "which pixel its window lies."
)
def place(answer, raw):
    row, column = map(int, np.unravel_index(np.argmax(raw), raw.shape))
    if np.shape(answer) != (2,):
        return "two numbers are asked for, (row, column)"
    given = tuple(map(int, answer))
    if given == (4 * row, 4 * column):
        return None
    if given == (row, column):
        return f"{given} is the place in the map; the window's middle, in pixels, is asked for"
    if given == (4 * column, 4 * row):
        return "row and column are exchanged"
    return f"{given} is not the middle of the window that contributes most"


@exercise("Where only its own logit moves, dp/dy = p (1 - p). Divide its value at one half.")
def shrink(answer):
    factor = (0.5 * 0.5) / (0.999 * 0.001)
    if np.isclose(answer, factor, rtol=0.01):
        return None
    if np.isclose(answer, 1 / factor, rtol=0.01):
        return "that is the share which is left; asked is how many times smaller it is"
    return f"{answer} times is not the quotient of the two derivatives"


@exercise("The head takes the mean over the places, axes 1 and 2. What does a mean not ask for?")
def flip(answer, features, weights):
    if not callable(answer):
        return "the answer is a function: features in, features of the same shape out"
    moved = np.asarray(answer(features.copy()))
    if moved.shape != features.shape:
        return f"features {features.shape} become {moved.shape}"
    logits, others = (each.mean(axis=(1, 2)) @ weights for each in (features, moved))
    if not np.allclose(logits, others, atol=1e-4):
        return f"the logits move by up to {np.abs(logits - others).max():.2g}"
    differences = weights - weights.mean(axis=1, keepdims=True)  # no part common to all logits
    maps, others = (each @ differences for each in (features, moved))  # (N, h, w, classes)
    if same := np.isclose(maps, others, atol=1e-4).all(axis=(1, 2, 3)).sum():
        return f"the maps of the differences stay as they are in {same} of {len(maps)} pictures"


@exercise("Multiply by the masks, sum over the axes 1 and 2, divide by the sum of each map.")
def energy(answer):
    if not callable(answer):
        return "the answer is a function: maps and masks in, one number per map out"
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


@exercise("Subtract picture by picture first; metrics.bootstrap takes one number per picture.")
def paired(answer, first, second):
    if not hasattr(answer, "low"):
        return "an interval is asked for, as metrics.bootstrap returns it"
    difference = np.subtract(first, second)
    if np.isclose(answer.mean, -difference.mean()) and not np.isclose(difference.mean(), 0):
        return "the sign is turned: first minus second is asked for"
    if not np.isclose(answer.mean, difference.mean()):
        return f"its mean, {answer.mean:.3f}, is not the mean difference"
    width = 2 * 1.96 * difference.std(ddof=1) / len(difference) ** 0.5
    if not 0.7 * width <= answer.high - answer.low <= 1.4 * width:
        return "its width is not that of an interval of differences within the pictures"


@exercise("a.argsort().argsort() are the ranks of a; np.corrcoef correlates them.")
def ranks(answer):
    if not callable(answer):
        return "the answer is a function: two maps in, one number out"
    for seed in range(3):
        a, b = np.random.default_rng(seed).normal(size=(2, 64)) ** 3  # with outliers
        b = a + b
        right, given = float(scipy.stats.spearmanr(a, b).statistic), float(answer(a, b))
        if np.isclose(given, np.corrcoef(a, b)[0, 1]):
            return "that is the correlation of the values (Pearson's), not of their ranks"
        if not np.isclose(given, right):
            return f"for two maps of rank correlation {right:.3f} it gives {given:.3f}"


@exercise("The channels are the last axis, and a slice may have a negative step.")
def rgb(answer):
    if not callable(answer):
        return "the answer is a function: a picture in, a picture out"
    bgr = np.random.default_rng(4).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    given = answer(bgr.copy())
    if np.shape(given) != bgr.shape:
        return f"a picture {bgr.shape} becomes {np.shape(given)}"
    if np.array_equal(given, bgr[..., ::-1]):
        return None
    if np.array_equal(np.sort(given, axis=None), np.sort(bgr, axis=None)):
        return "the pixels, or not only the channels, have changed places"
    return "the values have changed"
