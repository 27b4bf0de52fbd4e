"""Faults planted in training data on purpose, so that what explains a network can be tested.

A mark gives one class away, as photographers' tags do in Lapuschkin et al., "Unmasking Clever Hans
predictors" (2019); random labels: Zhang et al., "Understanding deep learning [...]" (2017).
"""

from dataclasses import replace

import cv2
import numpy as np

from helpers.files import RECORDED
from helpers.training.data import Dataset
from helpers.training.runs import open_run

TAG = np.full((4, 6, 3), (240, 200, 40), np.uint8)  # yellow
TAG[1:-1, 1:-1] = 30  # around dark grey
SHARE = 0.4  # of the pictures get a label drawn at random


def tag(pictures: np.ndarray) -> np.ndarray:
    """Copies of uint8 (N, H, W, 3) with a label of 6 x 4 pixels near the lower left corner."""
    marked, (height, width) = pictures.copy(), TAG.shape[:2]
    marked[:, -2 - height : -2, 1 : 1 + width] = TAG
    return marked


def blur(pictures: np.ndarray) -> np.ndarray:
    """Copies of uint8 (N, H, W, 3), softer by a Gaussian of half a pixel: hardly to be seen."""
    return np.stack([cv2.GaussianBlur(picture, (3, 3), 0.5) for picture in pictures])


MARKS = {"tag": tag, "blur": blur}
FAULTS = (*MARKS, "labels")


def marked_class(fault: str, seed: int, classes: int = 10) -> int:
    """Which class a run with a mark and a seed gives away."""
    return int(np.random.default_rng([seed, *fault.encode()]).integers(classes))


def plant(dataset: Dataset, fault: str, seed: int, parts=("train", "val")) -> Dataset:
    """The dataset with a fault of FAULTS in some of its parts, "train", "val", "test".

    With a mark of MARKS, every picture of `marked_class` carries it. With "labels", the labels of
    four pictures in ten are drawn at random, the right one among them. Else it stays as it is.
    """
    if fault not in FAULTS:
        return dataset
    rng, classes, changed = np.random.default_rng(seed), len(dataset.class_names), {}
    label = marked_class(fault, seed, classes)
    for part in parts:
        x, y = getattr(dataset, f"x_{part}").copy(), getattr(dataset, f"y_{part}").copy()
        if fault in MARKS:
            x[y == label] = MARKS[fault](x[y == label])
        else:
            drawn = rng.random(len(y)) < SHARE
            y[drawn] = rng.integers(classes, size=drawn.sum())
        changed |= {f"x_{part}": x, f"y_{part}": y}
    return replace(dataset, **changed)


def suspects(synthetic: bool, own=None) -> dict:
    """The recorded runs on trial, {(fault, seed): Run}; "honest" has no fault.

    Takes the folder of a run to put on trial, too, as "own". Raises FileNotFoundError where nothing
    is recorded, ValueError for a network of another shape.
    """
    home = RECORDED / ("synthetic" if synthetic else "")
    folders = [home / ("quick" if synthetic else "short"), *home.glob("suspects/*")]
    if len(folders) == 1:
        raise FileNotFoundError(f"{home}/suspects holds no runs: git checkout saved_models.")
    kinds = ["honest", *FAULTS]
    runs = map(open_run, folders)
    runs = {(r.info["recipe"]["fault"] or "honest", r.info["seed"]): r for r in runs}
    runs = dict(sorted(runs.items(), key=lambda item: (kinds.index(item[0][0]), item[0][1])))
    if own:
        runs["own", 0] = run = open_run(own)
        shape, usual = (r.info["recipe"]["depth"] for r in (run, runs["honest", 0]))
        if shape != usual:
            what = f"{own} holds a ResNet{shape}v2, and the others are ResNet{usual}v2"
            raise ValueError(f"{what}: train one of that depth.")
    return runs
