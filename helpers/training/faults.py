"""Faults planted in training data on purpose, so that what explains a network can be tested.

A mark gives one class away, as the tags of photographers did in Lapuschkin et al., "Unmasking
Clever Hans predictors" (2019); random labels are those of Zhang et al., "Understanding deep
learning requires rethinking generalization" (2017).
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
    """The recorded runs on trial, {(fault, seed): Run}: "honest", a fault of FAULTS, or "own".

    Takes the folder of a run to put on trial, too. Raises FileNotFoundError where none is recorded
    or there is no such folder, ValueError for a network of another shape.
    """
    home = RECORDED / ("synthetic" if synthetic else "")
    folders = [home / ("quick" if synthetic else "short"), *sorted(home.glob("suspects/*"))]
    recorded = [open_run(folder) for folder in folders]
    if len(recorded) == 1:
        raise FileNotFoundError(f"{home}/suspects holds no runs: git checkout saved_models.")
    found = {(run.info["recipe"]["fault"] or "honest", run.info["seed"]): run for run in recorded}
    order = ["honest", *FAULTS]
    found = dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))
    if own:
        run = open_run(own)
        depths = [r.info["recipe"]["depth"] for r in (run, recorded[0])]
        if depths[0] != depths[1]:
            what = f"{own} holds a ResNet{depths[0]}v2, and the others are ResNet{depths[1]}v2"
            raise ValueError(f"{what}: train one of that depth.")
        found["own", 0] = run
    return found
