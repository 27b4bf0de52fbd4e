"""Whether to believe a heat map: scores against boxes, faithfulness curves, randomised networks.

For Assignment4C. Maps are not negative, as Grad-CAM's are; a map of zeros is empty, "no
evidence". Intervals are over pictures: how far a mean would move with other pictures and this same
network.
"""

import base64
import inspect
import io
import itertools
import random
import re
from dataclasses import dataclass

import ipywidgets
import keras
import matplotlib.pyplot as plt
import numpy as np
import scipy

from helpers import files, plots
from helpers.annotation import agreement, via
from helpers.explanation.gradcam import GradCAM, check_values, normalize, overlay, upsample
from helpers.files import ROOT
from helpers.training import data, runs
from helpers.training.data import PIXEL_MEAN

MEAN_COLOR = tuple(255 * mean for mean in PIXEL_MEAN)  # the course's network sees it as zero


# --- What is judged ------------------------------------------------------------------------------


def runs_to_judge(dataset: data.Dataset, folder="") -> list[runs.Run]:
    """The run in a folder; without one those recorded here on pictures of this kind.

    Raises:
        FileNotFoundError, ValueError: as `runs.open_run`.
        ValueError: a run on synthetic pictures for real ones, or the other way round.
    """
    if folder:
        found = runs.open_run(folder)
        _require(
            (found.info["data"] == "synthetic stand-in") == dataset.synthetic,
            f"{folder} was trained on {found.info['data']}, and the pictures are {dataset.source}; "
            "choose DATA to fit.",
        )
        return [found]
    names = ("synthetic/quick",) if dataset.synthetic else ("course", "modern")
    return [runs.open_run(files.RECORDED / name) for name in names]


def boxed(dataset: data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Which test pictures have boxes, int (N,), and masks, bool (N, 32, 32), true inside them.

    Those of Assignment4A; of synthetic pictures the first three of each class.
    """
    if dataset.synthetic:
        classes = np.unique(dataset.y_test)
        indices = np.concatenate([np.flatnonzero(dataset.y_test == c)[:3] for c in classes])
        pictures = via.from_boxes(indices, dataset.test_boxes[indices])
    else:
        pictures = via.read_via(ROOT / "images/annotations/via_export_csv.csv")
        indices = np.array([dataset.test_index(picture.filename) for picture in pictures])
    return indices, agreement.masks(pictures, (32, 32))


def show(images, names, maps: dict, boxes: dict | None = None, heading="", size: float = 1.2):
    """A row per picture: it, and maps over it, each scaled to its own maximum.

    Args:
        images: uint8 (N, H, W, 3).
        names: of the pictures.
        maps: {title: (N, h, w)}.
        boxes: {title: bool (N, H, W)}, framed in the column of this title.
        heading, size: as in `plots.pictures`, whose figure is returned.
    """
    tiles, titles, frames = [], [], []
    heats = {title: upsample(normalize(kind), images.shape[1:3]) for title, kind in maps.items()}
    for i, image in enumerate(images):
        tiles.append(image)
        titles.append("picture" if i == 0 else "")
        frames.append(None)
        for title, kind in maps.items():
            tiles.append(overlay(image, heats[title][i]))
            titles.append("\n".join([title] * (i == 0) + ["no evidence"] * (not kind[i].any())))
            frames.append(data.bounding_box(boxes[title][i]) if title in (boxes or {}) else None)
    return plots.pictures(
        tiles, titles, columns=1 + len(maps), rows=names, boxes=frames, heading=heading, size=size,
        bar="share of the map's maximum",
    )  # fmt: skip


def explorer(draw, **choices) -> ipywidgets.Widget:
    """Drop-down lists and the figure that `draw` makes of what is chosen; needs a running kernel.

    ipywidgets.interact would do, but nbclient cannot execute its Output widget without storing the
    state of all widgets in the notebook, and GitHub does not render a notebook that holds it.

    Args:
        draw: takes an argument per list, returns a figure.
        choices: options of every list, values or (label, value), as ipywidgets.Dropdown has them.
    """
    fields = {
        name: ipywidgets.Dropdown(options=each, description=name) for name, each in choices.items()
    }
    screen = ipywidgets.HTML()

    def redraw(_=None):
        figure, png = draw(**{name: each.value for name, each in fields.items()}), io.BytesIO()
        figure.savefig(png)
        plt.close(figure)
        text = base64.b64encode(png.getvalue()).decode()  # Colab may lose binary messages
        screen.value = (
            f'<img src="data:image/png;base64,{text}" alt="the figure of what is chosen">'
        )

    for field in fields.values():
        field.observe(redraw, "value")
    redraw()
    return ipywidgets.HBox([ipywidgets.VBox(list(fields.values())), screen])


# --- Means over pictures -------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """A mean over pictures and its 95% interval."""

    mean: float
    low: float
    high: float

    def __str__(self):
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def tell(self, above: str, below: str, between: str) -> str:
        """One of three words: the whole interval is above zero, below it, or holds it."""
        return above if self.low > 0 else below if self.high < 0 else between


def bootstrap(values, seed: int = 0, times: int = 10_000) -> Interval:
    """Percentile bootstrap of a mean: Efron and Tibshirani, "Introduction to the Bootstrap" (1993).

    Args:
        values: (N,), one number per picture; for a paired comparison, the differences.
        seed: of the resampling.
        times: how often N pictures are drawn with replacement.

    Raises:
        ValueError: another shape, fewer than two values, NaN or infinity.
    """
    values = np.asarray(values, float)
    _require(
        values.ndim == 1 and len(values) > 1 and np.isfinite(values).all(),
        f"values {values.shape} must be (N,), one finite number per picture, and N at least 2.",
    )
    # SciPy 1.15 renamed the generator's argument.
    renamed = "rng" in inspect.signature(scipy.stats.bootstrap).parameters
    found = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=times, method="percentile",
        batch=max(1, 10**6 // len(values)),  # resamples at once: bounds the memory
        **{"rng" if renamed else "random_state": np.random.default_rng(seed)},
    ).confidence_interval  # fmt: skip
    return Interval(float(values.mean()), float(found.low), float(found.high))


# --- Maps against boxes --------------------------------------------------------------------------


def pointing(maps, masks) -> np.ndarray:
    """Pointing game: Zhang et al., "Top-down Neural Attention by Excitation Backprop" (2016).

    1 if the map's highest pixel is inside, else 0; tolerance 0 pixels (the paper: 15). Of several
    highest pixels the share inside counts, so that a uniform map scores the area of the mask.
    Arguments and errors as `compare`, for one kind of map; float64 (N,), 0 for an empty map.
    """
    maps, masks = _checked(maps, masks)
    highest = maps.max(axis=(1, 2), keepdims=True)
    return _share_inside((maps == highest) & (maps > 0), masks)


def energy(maps, masks) -> np.ndarray:
    """Energy-based pointing game: Wang et al., "Score-CAM" (2020). The share of the sum inside.

    Arguments and errors as `compare`, for one kind of map; float64 (N,), 0 for an empty map.
    """
    return _share_inside(*_checked(maps, masks))


def half_maximum_iou(maps, masks) -> np.ndarray:
    """IoU of the mask and the pixels with at least half the map's maximum.

    Zhou et al., "Learning Deep Features for Discriminative Localization" (2016), take the box
    around the largest connected part above 20%; here it is the pixels themselves.
    Arguments and errors as `compare`, for one kind of map; float64 (N,), 0 for an empty map.
    """
    maps, masks = _checked(maps, masks)
    hot = (maps >= maps.max(axis=(1, 2), keepdims=True) / 2) & (maps > 0)
    return (hot & masks).sum(axis=(1, 2)) / (hot | masks).sum(axis=(1, 2))


SCORES = {
    "pointing game, 0 px": pointing,
    "energy in the box": energy,
    "IoU at half maximum": half_maximum_iou,
}


def gaussian(shape) -> np.ndarray:
    """Maps (N, H, W) that know only that photographers centre: a Gaussian around the middle.

    Its standard deviation is a quarter of the side, 8 pixels of 32.
    """
    y, x = (((np.arange(side) + 0.5) / side - 0.5) / 0.25 for side in shape[1:])
    return np.broadcast_to(np.exp(-(y[:, None] ** 2 + x**2) / 2), shape)


def guess(shape) -> np.ndarray:
    """Maps (N, H, W) for `mosaics` that only guess: a `gaussian` in a random quarter."""
    count, height, width = shape
    quarter = np.eye(4)[np.random.default_rng(0).integers(4, size=count)]
    return _tiled(quarter[..., None, None] * gaussian((1, height // 2, width // 2)))


@dataclass(frozen=True)
class Row:
    """One kind of map under one score."""

    score: str
    name: str
    value: Interval
    minus: dict[str, Interval]  # paired difference to every baseline
    empty: int  # maps without evidence, counted as 0


def compare(maps: dict, masks, baselines: dict | None = None) -> list[Row]:
    """Score kinds of maps beside baselines.

    Args:
        maps: {name: (N, H, W)}, not negative, any unit, upsampled to the pixels of the pictures.
        masks: bool (N, H, W), true inside the boxes; see `agreement.masks`.
        baselines: maps that have seen no picture, in the same form; by default a uniform map and
            `gaussian`.

    Returns:
        For every score of `SCORES` a row per kind of map, then the baselines'.

    Raises:
        ValueError: no names, fewer than two pictures, other shapes, NaN or negative values, an
            empty mask.
    """
    _require(
        isinstance(maps, dict) and np.ndim(masks) == 3,
        "maps must be {name: (N, H, W)} and masks (N, H, W); one picture is masks[None].",
    )
    if baselines is None:
        baselines = {"uniform": np.ones(np.shape(masks)), "Gaussian": gaussian(np.shape(masks))}
    rows = []
    for score, function in SCORES.items():
        to_beat = {name: function(each, masks) for name, each in baselines.items()}
        for name, each in maps.items():
            values = function(each, masks)
            minus = {other: bootstrap(values - low) for other, low in to_beat.items()}
            rows.append(Row(score, name, bootstrap(values), minus, _count_empty(each)))
        rows += [Row(score, name, bootstrap(low), {}, 0) for name, low in to_beat.items()]
    return rows


def table(rows: list[Row]) -> str:
    """The rows of `compare` as text."""
    heads = ["", "mean [95% interval]", *(f"minus {name}" for name in rows[0].minus)]
    lines = ["  ".join(f"{head:22}" for head in heads).rstrip()]
    for score, group in itertools.groupby(rows, lambda row: row.score):
        lines.append(score)
        for row in group:
            name = f"  {row.name} ({row.empty} empty)" if row.empty else f"  {row.name}"
            cells = "  ".join(f"{cell!s:22}" for cell in (row.value, *row.minus.values()))
            lines.append(f"{name:22}  {cells}".rstrip())
    return "\n".join(lines)


def mosaics(images, masks, classes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every picture in a random quarter among three of other classes: the grid pointing game.

    After Boehle et al., "Convolutional Dynamic Alignment Networks" (2021). Where one object fills
    the middle, a Gaussian always hits and the pointing game tells nothing; in a mosaic a map has to
    know where the class is. One that finds objects of any class is right one time in four.

    Args:
        images: (N, H, W, C).
        masks: bool (N, H, W).
        classes: int (N,), four classes at least.

    Returns:
        Images (N, 2H, 2W, C) for a network of that size; their members, int (N, 4): the n-th
        picture, then its neighbours, all four of different classes; and masks bool (4, N, 2H, 2W):
        of the members in that order, true in the boxes of that one alone.

    Raises:
        ValueError: shapes that differ, or fewer than four classes.
    """
    images, masks, classes = map(np.asarray, (images, masks, classes))
    _require(
        images.shape[:-1] == masks.shape and masks.shape[:1] == classes.shape
        and len(np.unique(classes)) > 3,
        f"images {images.shape}, masks {masks.shape} and classes {classes.shape} must be "
        "(N, H, W, C), (N, H, W) and (N,), with four classes at least.",
    )  # fmt: skip
    rng = np.random.default_rng(0)  # neighbours and places are drawn

    def with_neighbours(n):
        others = rng.permutation(np.setdiff1d(classes, classes[n]))[:3]
        return [n, *(rng.choice(np.flatnonzero(classes == each)) for each in others)]

    members = np.array([with_neighbours(n) for n in range(len(images))])
    order = rng.permuted(np.broadcast_to(np.arange(4), members.shape), axis=1)  # of the quarters
    quarters = np.take_along_axis(members, order, axis=1)
    inside = [_tiled(masks[quarters] & (order == k)[..., None, None]) for k in range(4)]
    return _tiled(images[quarters]), members, np.stack(inside)


def _tiled(quarters):
    """(N, 4, H, W, ...) to (N, 2H, 2W, ...)."""
    halves = [np.concatenate([quarters[:, i], quarters[:, i + 1]], axis=2) for i in (0, 2)]
    return np.concatenate(halves, axis=1)


# --- Faithfulness: does the probability follow the map? ------------------------------------------


@dataclass(frozen=True)
class Curves:
    """Probability of the class after 0, 1, ... C cells: float64 (N, C + 1) each."""

    deletion: np.ndarray
    insertion: np.ndarray


def faithfulness(
    predict, images, maps, classes, baseline=MEAN_COLOR, seed: int = 0, batch_size: int = 256
) -> Curves:
    """Deletion and insertion: Petsiuk et al., "RISE" (2018), by the cells of the map's own grid.

    Deletion replaces cells by the baseline, the map's highest first: the sooner the probability
    falls, the better. Insertion starts from the baseline and brings cells back in the same order:
    the sooner it rises, the better. Equal cells come in random order, so maps of ones are a random
    order; `gaussian` maps are one from the middle outwards. Neither has seen a picture.

    Args:
        predict: float32 images (n, H, W, C) -> probabilities (n, classes).
        images: (N, H, W, C), raw pixels.
        maps: (N, h, w), not upsampled; a cell is H/h x W/w pixels.
        classes: int (N,), whose probability is followed.
        baseline: a colour (C,). (RISE blurs for insertion; here a blur still shows the network sea
            or grass, the mean colour is what it sees as nothing.)
        seed: of the order of equal cells.
        batch_size: pictures per call; 2 * (h * w + 1) * N pictures are needed.

    Raises:
        ValueError: shapes that do not fit, NaN or negative values in a map, no probability of a
            class from `predict`.
    """
    images, maps, classes = np.asarray(images, np.float32), np.asarray(maps), np.asarray(classes)
    _require(
        images.ndim == 4 and maps.ndim == 3 and maps.size
        and classes.shape == maps.shape[:1] == images.shape[:1] and classes.dtype.kind in "iu"
        and not np.any(np.mod(images.shape[1:3], maps.shape[1:])),
        f"images {images.shape}, maps {maps.shape}, classes {classes.dtype} {classes.shape} must "
        "be (N, H, W, C), (N, h, w) and int (N,), h and w divide H and W, N above 0.",
    )  # fmt: skip
    check_values(maps)
    rng, cells = np.random.default_rng(seed), maps[0].size
    cell_height, cell_width = np.floor_divide(images.shape[1:3], maps.shape[1:])
    which, count = np.divmod(np.arange(len(maps) * (cells + 1)), cells + 1)
    values = maps.reshape(len(maps), cells)
    ranks = np.lexsort((rng.random(values.shape), -values)).argsort(axis=1)  # 0: the highest

    def deletion(ranks):
        ranks = ranks.reshape(maps.shape).repeat(cell_height, axis=1).repeat(cell_width, axis=2)
        found = []
        for start in range(0, len(which), batch_size):
            i, hidden = which[start : start + batch_size], count[start : start + batch_size]
            covered = ranks[i] < hidden[:, None, None]
            shown = np.where(covered[..., None], np.float32(baseline), images[i])
            found.append(_of_class(np.asarray(predict(shown)), classes[i]))
        return np.concatenate(found).reshape(len(maps), cells + 1)

    # Bringing cells back, first to last, is taking them away, last to first, seen backwards.
    return Curves(deletion(ranks), deletion(cells - 1 - ranks)[:, ::-1])


def area(curves) -> np.ndarray:
    """Area under curves (N, C + 1) over the share of cells, by trapezoids: float64 (N,)."""
    return (curves[:, 1:] + curves[:, :-1]).mean(axis=1) / 2


def _of_class(probabilities, classes):
    _require(
        probabilities.ndim == 2 and len(probabilities) == len(classes)
        and classes.min() >= 0 and classes.max() < probabilities.shape[1],
        f"predict gave {probabilities.shape} for {len(classes)} pictures and classes "
        f"{classes.min()} to {classes.max()}; (n, classes) is needed.",
    )  # fmt: skip
    found = probabilities[np.arange(len(classes)), classes].astype(float)
    _require(np.isfinite(found).all(), "predict gave NaN; check the network's weights.")
    return found


# --- Randomised networks: does the map show what was learnt? -------------------------------------


@dataclass(frozen=True)
class Stage:
    """The maps after one more part of the network has forgotten."""

    name: str  # the part; "trained" at first
    maps: np.ndarray  # float32 (N, h, w)
    correlation: Interval  # `rank_correlation` with the trained network's maps
    empty: int  # maps without evidence


def rank_correlation(maps, others) -> np.ndarray:
    """Spearman's correlation over the places, picture by picture; ties get their mean rank.

    Takes maps (N, h, w) twice, returns float64 (N,). A map equal everywhere, such as an empty one,
    orders nothing: 0. Raises ValueError for shapes that differ.
    """
    _require(
        np.ndim(maps) == 3 and np.size(maps) and np.shape(maps) == np.shape(others),
        f"maps {np.shape(maps)} and {np.shape(others)} must be of one shape (N, h, w).",
    )
    return np.sum(_unit_ranks(maps) * _unit_ranks(others), axis=1)


def cascade(model, images, classes, explain=GradCAM, seed: int = 0) -> list[Stage]:
    """Cascading randomisation: Adebayo et al., "Sanity Checks for Saliency Maps" (2018).

    From the logits down to the pixels, part by part, weights are drawn anew from the layers' own
    initialisers, and stay so. Maps that show what was learnt change: their rank correlation with
    the trained network's falls to the floor, see `floors`. This is one draw of weights: another
    seed moves a stage's mean further than its interval over pictures says.

    Args:
        model: functional or sequential. Only a copy is randomised.
        images: (N, H, W, C), raw pixels.
        classes: int (N,), explained at every stage.
        explain: called once with the copy; gives (images, classes) -> maps (N, h, w), as GradCAM.
        seed: of the fresh weights. (An initialiser with a seed of its own repeats its draw.)

    Returns:
        "trained", then a stage per block (`stage3_block2`) or lone layer with weights (`logits`).

    Raises:
        ValueError: maps of another form, with NaN or negative values.
    """
    copy, fresh = _fresh(model, seed), _fresh(model, seed)
    copy.set_weights(model.get_weights())
    maps_of, parts, stages = explain(copy), {"trained": []}, []
    for layer, source in reversed(list(zip(_layers(copy), _layers(fresh)))):
        if layer.weights:
            block = re.match(r"(.*block\d+|stem)_", layer.name)
            parts.setdefault(block[1] if block else layer.name, []).append((layer, source))
    for name, layers in parts.items():
        for layer, source in layers:
            layer.set_weights(source.get_weights())
        maps = _maps(maps_of, images, classes)
        found = rank_correlation(stages[0].maps if stages else maps, maps)
        stages.append(Stage(name, maps, bootstrap(found), _count_empty(maps)))
    return stages


def floors(model, images, classes, explain=GradCAM, seed=0, networks=3) -> dict[str, Interval]:
    """The rank correlation of maps that share nothing learnt about a picture.

    It need not be zero: activations are not negative, maps are smooth, objects are centred. Takes
    what `cascade` takes, and the number of random networks. Per picture the mean over all pairs of

    "unrelated networks": its maps in freshly initialised networks;
    "other pictures": the trained network's map of it, and those of each other picture.

    Raises ValueError as `cascade`, and for fewer than two pictures or networks.
    """
    _require(len(images) > 1 and networks > 1, "Two pictures and two networks at least are needed.")
    ranks = _unit_ranks(_maps(explain(model), images, classes))
    others = (ranks @ ranks.T).sum(axis=1) - np.sum(ranks**2, axis=1)
    drawn = [_maps(explain(_fresh(model, seed + 1 + i)), images, classes) for i in range(networks)]
    pairs = [rank_correlation(*pair) for pair in itertools.combinations(drawn, 2)]
    return {
        "unrelated networks": bootstrap(np.mean(pairs, axis=0)),
        "other pictures": bootstrap(others / (len(images) - 1)),
    }


def _fresh(model, seed):
    """The same network, newly initialised; leaves the caller's random state alone."""
    state = random.getstate()
    # Keras takes the seeds of initialisers from here. A text, because a plain number may be the one
    # that training started from: then "fresh" weights would be this network's own first ones, with
    # which its last are still correlated.
    random.seed(f"fresh {seed}")
    try:
        return keras.models.clone_model(model)
    finally:
        random.setstate(state)


def _layers(model):
    """All layers in order, those of a nested model in its place."""
    for layer in model.layers:
        yield from _layers(layer) if hasattr(layer, "layers") else [layer]


def _maps(maps_of, images, classes):
    maps = np.asarray(maps_of(images, classes))
    _require(maps.ndim == 3 and maps.size, f"The maps are {maps.shape}, not (N, h, w).")
    check_values(maps)
    return maps


def _unit_ranks(maps):
    """Centred ranks (N, places) of length 1; their products are Spearman's correlations."""
    ranks = scipy.stats.rankdata(np.reshape(maps, (len(maps), -1)), axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(ranks, axis=1, keepdims=True)
    return ranks / np.where(length > 0, length, 1)


# --- Shared ---------------------------------------------------------------------------------------


def _share_inside(maps, masks):
    total = maps.sum(axis=(1, 2))
    return (maps * masks).sum(axis=(1, 2)) / np.where(total > 0, total, 1)


def _count_empty(maps):
    return int(np.sum(~np.any(maps, axis=(1, 2))))


def _checked(maps, masks):
    maps, masks = np.asarray(maps, float), np.asarray(masks)
    _require(
        maps.ndim == 3 and maps.size and maps.shape == masks.shape,
        f"maps {maps.shape} and masks {masks.shape} must be of one shape (N, H, W), N at least 1; "
        "gradcam.upsample brings maps to the size of the pictures.",
    )
    check_values(maps)
    _require(
        masks.dtype == bool and masks.any(axis=(1, 2)).all(),
        "masks must be bool with a true pixel in every picture; leave out pictures without a box.",
    )
    return maps, masks


def _require(condition, message):
    if not condition:
        raise ValueError(message)
