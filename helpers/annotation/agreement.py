"""How well two sets of annotations agree: IoU, matched boxes, Cohen's kappa."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy  # scipy.optimize is loaded where it is used: half a second

from helpers.annotation.via import Picture, boxes, ticks


def masks(pictures, size) -> np.ndarray:
    """Pixels whose center lies in a box: bool (n, height, width); `size` is (width, height)."""
    xs, ys = np.arange(size[0]) + 0.5, np.arange(size[1])[:, None] + 0.5
    result = np.zeros((len(pictures), size[1], size[0]), bool)
    for mask, picture in zip(result, pictures):
        for x, y, w, h in boxes([picture]):
            mask |= (xs >= x) & (xs < x + w) & (ys >= y) & (ys < y + h)
    return result


def iou(boxes_a, boxes_b) -> np.ndarray:
    """Intersection over union of every pair: boxes (n, 4) and (m, 4) give float64 (n, m).

    Boxes are x, y, width, height in one unit. ValueError for other shapes, NaN or negative sides.
    """
    a, b = (np.asarray(v, float) for v in (boxes_a, boxes_b))
    for v in (a, b):
        if v.size and (v.shape[1:] != (4,) or not np.isfinite(v).all() or v[:, 2:].min() < 0):
            raise ValueError(f"boxes {v.shape} must be (n, 4), finite, without negative sides.")
    a, b = a.reshape(-1, 1, 4), b.reshape(1, -1, 4)  # (n, 1, 4) with (1, m, 4) gives every pair
    low = np.maximum(a[..., :2], b[..., :2])  # left and top edges of what both share: (n, m, 2)
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    inter = np.clip(high - low, 0, None).prod(axis=2)  # (n, m); boxes apart share nothing
    union = a[..., 2:].prod(axis=2) + b[..., 2:].prod(axis=2) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def category(value) -> str:
    """An attribute's value as one text: a checkbox by its ticks, a missing value as ""."""
    if isinstance(value, dict):
        return "+".join(ticks(value))
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Agreement:
    """Two annotators compared; the mean IoU is NaN where no pair matches."""

    pairs: list  # (file name, Region of a, Region of b, IoU)
    only_a: list  # (file name, Region) without a partner
    only_b: list
    mean_iou: float
    attributes: pd.DataFrame  # one row each: the share of `equal` pairs, and Cohen's `kappa`


def compare(a, b, gate=0.5) -> Agreement:
    """Compare two annotators, lists of Picture; AnnotationError for broken shapes.

    Boxes of IoU `gate` or more are matched one to one for its largest sum (Hungarian, Kuhn 1955).
    """
    sides = {}  # file name -> (regions of a, regions of b)
    for side, pictures in enumerate((a, b)):
        for p in pictures:
            sides.setdefault(p.filename, ([], []))[side].extend(p.regions)
    pairs, only_a, only_b = [], [], []
    for name, (of_a, of_b) in sides.items():
        overlap = iou(*(boxes([Picture(name, regions)]) for regions in (of_a, of_b)))  # (n, m)
        overlap[overlap < gate] = 0  # or such a pair could push out a good one
        # a row and a column at most once each, for the largest sum
        rows, columns = scipy.optimize.linear_sum_assignment(overlap, maximize=True)
        matched = {i: j for i, j in zip(rows, columns) if overlap[i, j]}
        pairs += [(name, of_a[i], of_b[j], float(overlap[i, j])) for i, j in matched.items()]
        only_a += [(name, r) for i, r in enumerate(of_a) if i not in matched]
        only_b += [(name, r) for j, r in enumerate(of_b) if j not in matched.values()]
    table = {}
    for name in dict.fromkeys(n for _, r, s, _ in pairs for n in [*r.attributes, *s.attributes]):
        u, v = ([category(pair[k].attributes.get(name)) for pair in pairs] for k in (1, 2))
        table[name] = np.mean(np.equal(u, v)), cohen_kappa(u, v)
    attributes = pd.DataFrame.from_dict(table, "index", float, ["equal", "kappa"])
    mean_iou = float(np.mean([pair[3] for pair in pairs])) if pairs else math.nan
    return Agreement(pairs, only_a, only_b, mean_iou, attributes.rename_axis("attribute"))


def cohen_kappa(a, b) -> float:
    """Kappa of equally long lists of labels (Cohen 1960, 10.1177/001316446002000104), or NaN."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} labels: the lists must be equally long.")
    a, b = np.asarray(a, str), np.asarray(b, str)
    chance = sum(np.mean(a == c) * np.mean(b == c) for c in {*a, *b})
    return float((np.mean(a == b) - chance) / (1 - chance)) if len(a) and chance < 1 else math.nan
