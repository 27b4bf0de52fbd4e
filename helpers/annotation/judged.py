"""For Assignment4C: test pictures whose objects are in boxes, of the course or a reader."""

import re

import numpy as np

from helpers.annotation import agreement, checks, example_set, via


def boxed_pictures(dataset, path=None) -> list[via.Picture]:
    """Test pictures with a box, in the order of the data; says how many others are left out.

    From a VIA file on pictures named as `Dataset.test_name` does; without one, from an .npz of
    tools.pictures, or the hundred of Assignment4A. ValueError where there is no box to judge by.
    """
    names = [dataset.test_name(i) for i in range(len(dataset.y_test))]
    if path:
        annotated = via.read_via(path)
    elif not names[0].startswith("own_"):
        annotated = example_set.example_set(dataset).completed
    else:
        boxes = [] if dataset.test_boxes is None else dataset.test_boxes
        known = {name: box for name, box in zip(names, boxes) if np.isfinite(box).all()}
        annotated = via.from_boxes(list(known), list(known.values()))
    regions = {re.split(r"[/\\]", p.filename)[-1]: p.regions for p in annotated}
    pictures = [via.Picture(name, regions[name]) for name in names if name in regions]
    if checks.enlargement(pictures, dict.fromkeys(names, example_set.SIZE)) > 1:
        raise ValueError(f"{path} has boxes of enlarged copies: divide them by their scale.")
    masks = agreement.masks(pictures, example_set.SIZE)
    boxed = [picture for picture, mask in zip(pictures, masks) if mask.any()]
    if not boxed:
        what = f"{path or dataset.source} holds no box of a test picture of {dataset.source}"
        way_out = f"Name a VIA file in ANNOTATIONS, on pictures such as '{names[0]}'"
        raise ValueError(f"{what}. {way_out}, or make the .npz by tools.pictures with --boxes.")
    if others := len(regions) - len(boxed):
        print(f"left out: {others} pictures without a box, or not of {dataset.source}")
    return boxed
