"""How good is a heat map? Scores against boxes, deletion and insertion, randomized networks.

Maps are not negative; one of zeros is empty. All is measured per picture, to compare in pairs.
"""

import random
import re
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import scipy

from helpers.explanation.gradcam import GradCAM, check_values


@dataclass(frozen=True)  # pandas would show a NamedTuple as a tuple
class Interval:
    """A mean and its 95% interval for other pictures, same network. As text: 0.50 [0.40, 0.60]."""

    mean: float
    low: float
    high: float

    def __str__(self):
        text = f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return text.replace("nan, nan", "needs two")


def bootstrap(values) -> Interval:
    """Percentile bootstrap of a mean: Efron and Tibshirani, "Introduction to the Bootstrap" (1993).

    Takes (N,) numbers, one per picture; for a paired comparison, the differences. Fewer than two
    have NaN for an interval. Raises ValueError for another shape, NaN or infinity.
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"values {values.shape} must be (N,), one finite number per picture.")
    if len(values) < 2:
        return Interval(float([*values, np.nan][0]), np.nan, np.nan)
    rng, size = np.random.default_rng(0), (100, len(values))
    # N pictures drawn with replacement, 10,000 times; a hundred at once, which bounds the memory.
    means = [values[rng.integers(len(values), size=size)].mean(axis=1) for _ in range(100)]
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))


def intervals(scores: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """From {kind of map: scores, or their differences} to a row of `Interval` per kind of map."""
    return pd.DataFrame({kind: frame.apply(bootstrap) for kind, frame in scores.items()}).T


def score(maps, masks) -> pd.DataFrame:
    """Three scores of every map against the box of its picture, 0 to 1; 0 for an empty map.

    - pointing: the pointing game, Zhang et al., "Top-down Neural Attention by Excitation Backprop"
      (2016). 1 if the highest pixel is inside, with a tolerance of 0 pixels (the paper: 15). Of
      several highest pixels the share inside counts: a uniform map scores the area of the box.
    - energy: the share of the map's sum that is inside, Wang et al., "Score-CAM" (2020).
    - IoU: of the box and the pixels with at least half the map's maximum. Zhou et al., "Learning
      Deep Features for Discriminative Localization" (2016), box the largest part above 20%.

    Takes maps (N, H, W) in any unit and masks of `agreement.masks`, bool (N, H, W). Returns a row
    per picture. Raises ValueError for other shapes, NaN or negative values, an empty mask.
    """
    maps, masks = np.asarray(maps, float), np.asarray(masks)
    _require_alike(maps, masks)
    check_values(maps)
    if not masks.any(axis=(1, 2)).all():
        raise ValueError("An empty mask: leave out pictures without a box.")

    def share_inside(amounts):  # (N, H, W) to (N,)
        total = amounts.sum(axis=(1, 2))
        return (amounts * masks).sum(axis=(1, 2)) / np.where(total > 0, total, 1)

    highest = maps.max(axis=(1, 2), keepdims=True)  # (N, 1, 1)
    hot = (maps >= highest / 2) & (maps > 0)
    iou = (hot & masks).sum(axis=(1, 2)) / (hot | masks).sum(axis=(1, 2))
    pointing = share_inside((maps == highest) & (maps > 0))
    return pd.DataFrame({"pointing": pointing, "energy": share_inside(maps), "IoU": iou})


def gaussian(shape) -> np.ndarray:
    """Maps (N, H, W) that know only that photographers center: a Gaussian around the middle."""
    # From the middle, in standard deviations, a quarter of the side each: (H,) and (W,).
    y, x = (((np.arange(side) + 0.5) / side - 0.5) / 0.25 for side in shape[1:])
    return np.broadcast_to(np.exp(-(y[:, None] ** 2 + x**2) / 2), shape)


def mosaics(images, masks, classes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every picture in a random quarter among others of other classes: the grid pointing game.

    After Boehle et al., "Convolutional Dynamic Alignment Networks" (2021). A Gaussian fails here.

    Takes (N, H, W, C), bool (N, H, W) and int (N,). Returns images (N, 2H, 2W, C); their members,
    int (N, 4), the n-th picture first; and masks bool (4, N, 2H, 2W), true in the boxes of that
    member's class: several, of three classes or two. Raises ValueError for fewer, or other shapes.
    """
    images, masks, classes = map(np.asarray, (images, masks, classes))
    alike = images.shape[:-1] == masks.shape and masks.shape[:1] == classes.shape
    if not alike or len(np.unique(classes)) < 2:
        raise ValueError(
            f"images {images.shape}, masks {masks.shape} and classes {classes.shape} must be "
            "(N, H, W, C), (N, H, W) and (N,), with two classes at least."
        )
    rng = np.random.default_rng(0)

    def with_neighbors(n):
        others = np.resize(rng.permutation(np.setdiff1d(classes, classes[n])), 3)
        return [n, *(rng.choice(np.flatnonzero(classes == other)) for other in others)]

    members = np.array([with_neighbors(n) for n in range(len(images))])
    order = rng.permuted(np.broadcast_to(np.arange(4), members.shape), axis=1)
    quarters = np.take_along_axis(members, order, axis=1)  # (N, 4): which picture is in a quarter
    asked = (classes[quarters] == classes[member][:, None] for member in members.T)
    inside = [_tiled(masks[quarters] & shown[..., None, None]) for shown in asked]
    return _tiled(images[quarters]), members, np.stack(inside)


def mosaic_chance(masks) -> pd.DataFrame:
    """Mean `score` of a `gaussian` in each quarter: it finds an object, but of any class.

    masks: of one member, bool (N, 2H, 2W).
    """
    height, width = np.floor_divide(masks.shape[1:], 2)
    maps = _tiled(np.eye(4)[..., None, None] * gaussian((1, height, width)))  # (4, 2H, 2W)
    return sum(score(np.broadcast_to(quarter, masks.shape), masks) for quarter in maps) / 4


def _tiled(quarters):
    """(N, 4, H, W, ...) to (N, 2H, 2W, ...)."""
    halves = [np.concatenate([quarters[:, i], quarters[:, i + 1]], axis=2) for i in (0, 2)]
    return np.concatenate(halves, axis=1)


def faithfulness(predict, images, maps, classes, baseline) -> dict[str, np.ndarray]:
    """Deletion and insertion: Petsiuk et al., "RISE" (2018), by the cells of the map's own grid.

    Deletion replaces cells by the baseline, the map's highest first, and the probability should
    fall soon; insertion brings them back in this order. Equal cells come in random order.

    Takes predict, from float32 (n, H, W, C) to probabilities (n, classes); raw pixels
    (N, H, W, C); maps (N, h, w), not upsampled; int (N,); and the baseline, a color (C,): RISE
    blurs for insertion, but in a blur networks see sea or grass. Returns "deletion" and
    "insertion", float64 (N, h * w + 1): the probability of the class after 0, 1, ... h * w cells.
    Raises ValueError for shapes that do not fit, NaN or negative values.
    """
    images, maps, classes = np.asarray(images, np.float32), np.asarray(maps), np.asarray(classes)
    fits = images.ndim == 4 and maps.ndim == 3 and len(images) == len(maps) == len(classes)
    if not fits or np.any(np.mod(images.shape[1:3], maps.shape[1:])):
        raise ValueError(
            f"images {images.shape}, maps {maps.shape} and classes {classes.shape} must be "
            "(N, H, W, C), (N, h, w) and (N,), where h and w divide H and W."
        )
    check_values(maps)
    values = maps.reshape(len(maps), -1)  # (N, cells)
    ties = np.random.default_rng(0).random(values.shape)
    ranks = np.lexsort((ties, -values)).argsort(axis=1)  # 0: the highest
    cells = values.shape[1]
    cell_height, cell_width = np.floor_divide(images.shape[1:3], maps.shape[1:])

    def deletion(ranks):
        ranks = ranks.reshape(maps.shape).repeat(cell_height, axis=1).repeat(cell_width, axis=2)
        curves = np.empty((len(maps), cells + 1))
        for i, rank in enumerate(ranks):
            hidden = rank < np.arange(cells + 1)[:, None, None]  # (cells + 1, H, W)
            shown = np.where(hidden[..., None], np.float32(baseline), images[i])
            curves[i] = np.asarray(predict(shown))[:, classes[i]]
        return curves

    # Bringing cells back, first to last, is taking them away, last to first, seen backwards.
    insertion = deletion(cells - 1 - ranks)[:, ::-1]
    return {"deletion": deletion(ranks), "insertion": insertion}


def auc(curves) -> np.ndarray:
    """Area under curves (N, C + 1) over the share of cells, by trapezoids: float64 (N,)."""
    return (curves[:, 1:] + curves[:, :-1]).mean(axis=1) / 2


def rank_correlation(maps, others) -> np.ndarray:
    """Spearman's correlation over the places, picture by picture: maps (N, h, w) to float64 (N,).

    A map equal everywhere orders nothing: NaN. Raises ValueError for shapes that differ.
    """
    _require_alike(maps, others)
    places = (np.reshape(each, (len(each), -1)) for each in (maps, others))  # (N, places)
    a, b = (scipy.stats.rankdata(each, axis=1) - (each.shape[1] + 1) / 2 for each in places)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.sum(a * b, axis=1) / np.where(lengths > 0, lengths, np.nan)


def cascade(model, images, classes, seed: int = 0) -> dict[str, np.ndarray]:
    """Cascading randomization: Adebayo et al., "Sanity Checks for Saliency Maps" (2018).

    From the logits down to the pixels, part by part, a copy of the model gets fresh weights. Takes
    a model without another inside, raw pixels (N, H, W, C) and int (N,), the classes explained.
    Returns Grad-CAM maps (N, h, w): of the "trained" network, then after each block
    (`stage3_block2`) or lone layer with weights (`logits`).
    """
    copy, fresh = reinitialized(model, seed), reinitialized(model, seed)
    copy.set_weights(model.get_weights())
    parts = {}
    for layer, source in zip(reversed(copy.layers), reversed(fresh.layers)):
        if layer.weights:
            block = re.match(r".*block\d+|stem", layer.name)
            parts.setdefault(block[0] if block else layer.name, []).append((layer, source))
    explain = GradCAM(copy)
    maps = {"trained": explain(images, classes)}
    for part, layers in parts.items():
        for layer, source in layers:
            layer.set_weights(source.get_weights())
        maps[part] = explain(images, classes)
    return maps


def reinitialized(model, seed: int):
    """The same network with fresh weights; leaves the caller's random state alone."""
    state = random.getstate()
    random.seed(f"fresh {seed}")  # of Keras' initializers: a text, as training starts from a number
    try:
        return keras.models.clone_model(model)
    finally:
        random.setstate(state)


def _require_alike(maps, others):
    a, b = np.shape(maps), np.shape(others)
    if a != b or len(a) != 3:
        raise ValueError(f"maps {a} and {b} must be of one shape (N, H, W): see gradcam.upsample.")
