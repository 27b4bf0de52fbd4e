"""For Assignment4A: the annotated pictures, the hundred of the course or a reader's own."""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.annotation import via
from helpers.annotation.agreement import category
from helpers.annotation.checks import check, enlargement, tidy
from helpers.annotation.exports import require_exportable
from helpers.annotation.via import AnnotationError, Finding, Picture
from helpers.files import ROOT

FOLDER = ROOT / "images/annotations"
SIZE = (32, 32)  # width and height of the dataset's pictures
LARGEST_PAGE = 256  # pixels: masks of blank pages must fit into memory
# Mean colors of the quarters: a JPEG copy of quality 75 moves them by at most 3.1 of 255, and no
# other of the 10,000 test pictures comes nearer than 9.1.
TOLERANCE = 6


@dataclass(frozen=True)
class ExampleSet:
    images: dict  # file name -> uint8 (32, 32, 3), RGB
    schema: dict  # as `via.read_schema` returns it
    pass_a: list  # of Picture, as are the next two
    pass_b: list
    completed: list
    reasons: dict  # file name -> (which pass was taken, why)


def example_set(dataset) -> ExampleSet:
    """The first ten test pictures of every class; ValueError if they are not the annotated ones."""
    starts = np.searchsorted(dataset.y_test, range(len(dataset.class_names)))
    chosen = [i for start in starts for i in range(start, start + 10)]
    images = {dataset.test_name(i): dataset.x_test[i] for i in chosen}
    schema = via.read_schema(FOLDER / "via_attributes.json")
    if dataset.synthetic:
        schema["region"]["label"]["options"] = {name: name for name in dataset.class_names}
        reasons = dict.fromkeys(images, ("A", "synthetic pictures come with their exact boxes"))
        passes = _made_up(dataset, list(images), schema["region"])
        return ExampleSet(images, schema, *passes, reasons)
    require_annotated(images, dataset.source)
    files = ("pass_a.csv", "pass_b.csv", "via_export_csv.csv")
    settled = pd.read_csv(FOLDER / "adjudication.csv", index_col="filename", keep_default_na=False)
    reasons = dict(zip(settled.index, zip(settled["choice"], settled["reason"])))
    return ExampleSet(images, schema, *(via.read_via(FOLDER / name) for name in files), reasons)


def require_annotated(images, source) -> None:
    """Raise ValueError unless the images of an `ExampleSet` are those that were annotated."""
    known = pd.read_csv(FOLDER / "mean_colors.csv", index_col="filename")
    colors = np.reshape(list(images.values()), (-1, 2, 16, 2, 16, 3)).mean(axis=(2, 4))
    off = np.abs(colors.reshape(-1, 12) - known.reindex(list(images))).max(axis=1, skipna=False)
    if wrong := list(off.index[~(off <= TOLERANCE)]):  # NaN for an unknown name
        raise ValueError(
            f"{len(wrong)} of {len(images)} pictures of {source} are not those that were annotated "
            f"({wrong[0]} is the first): set DATA = 'cifar10', or 'synthetic'."
        )


def _made_up(dataset, names, specs):
    """Pass A with the exact boxes, pass B up to a pixel and a fifth of the answers off, and A."""
    rng = np.random.default_rng(0)
    exact = dataset.test_boxes[[dataset.test_index(name) for name in names]]

    def answers(name):
        drawn = {k: rng.choice(list(spec["options"])).item() for k, spec in specs.items()}
        ticks = {drawn["image_quality"]: True}
        return {**drawn, "image_quality": ticks, "label": name.split("_")[2]}

    first, other = ([answers(name) for name in names] for _ in range(2))
    second = [{k: (b if rng.random() < 0.2 else a)[k] for k in a} for a, b in zip(first, other)]
    moved = via.from_boxes(names, exact + rng.integers(-1, 2, exact.shape), second)
    exact = via.from_boxes(names, exact, first)
    return exact, tidy(moved, dict.fromkeys(names, SIZE), pixels=2)[0], exact


@dataclass(frozen=True)
class OpenedSet:
    pictures: list  # of Picture
    images: dict  # file name -> uint8 (height, width, 3), RGB, all of one size
    size: tuple  # (width, height) of every picture, pixels
    notes: tuple = ()  # what was found and changed, in words

    def __str__(self):
        count = len(via.boxes(self.pictures))
        return "\n".join([f"{len(self.pictures)} pictures, {count} boxes", *self.notes])


def open_set(path, dataset) -> OpenedSet:
    """A VIA file, mended without a guess; the completed set for no path. AnnotationError."""
    course = example_set(dataset)
    if not path:
        return OpenedSet(course.completed, course.images, SIZE)
    size, notes, found = SIZE, [], via.read_via(path)
    places = {dataset.test_name(i): i for i in range(len(dataset.y_test))}
    plain = [replace(p, filename=re.split(r"[/\\]", p.filename)[-1]) for p in found]
    known = [picture for picture in plain if picture.filename in places]
    pictures = known or found
    if others := len(found) - len(pictures):
        notes.append(f"left out: {others} pictures that are not of {dataset.source}")
    before = len(via.boxes(pictures))  # raises for broken shapes
    for p in pictures:
        p.regions[:] = [r for r in p.regions if min(via.bounding_box(r.shape)[2:]) > 0]
    if not len(boxes := via.boxes(pictures)):
        raise AnnotationError(Finding(str(path), None, "it holds no box", "draw at least one"))
    if points := before - len(boxes):
        notes.append(f"left out: {points} regions without area, such as points")
    if enlargement(known, dict.fromkeys(places, SIZE)) > 1:
        problem, fix = "boxes of enlarged copies", "name the file in section 4, in VIA_FILE"
        raise AnnotationError(Finding(str(path), None, problem, fix))
    if known:
        images = {p.filename: dataset.x_test[places[p.filename]] for p in known}
    else:
        reach = max((boxes[:, :2] + boxes[:, 2:]).max(), 1)
        scale = math.ceil(reach / LARGEST_PAGE)
        pictures, size = via.rescale(pictures, 1 / scale), (math.ceil(reach / scale),) * 2
        images = dict.fromkeys((p.filename for p in pictures), np.full((*size, 3), 225, np.uint8))
        pages = f"1/{scale} of their size on blank pages of {size[0]} x {size[1]}"
        notes += [f"no picture is of {dataset.source}: boxes at {pages}; exports need true sizes"]
    pictures, changes = tidy(pictures, dict.fromkeys(images, size))
    notes += [f"mended: {change}" for change in changes]
    notes += [f"left as it is: {finding}" for finding in check(pictures, course.schema)]
    for attributes in (region.attributes for p in pictures for region in p.regions):
        attributes["label"] = " ".join(category(attributes.get("label")).split()) or "unlabelled"
    require_exportable(pictures, dict.fromkeys(images, size), suffix=".txt")
    return OpenedSet(pictures, images, size, tuple(notes))


def from_enlarged(pictures, scale) -> list[Picture]:
    """Boxes of copies `scale` times larger in pixels of 32 x 32 pictures; ValueError if not."""
    via.boxes(pictures)  # raises for broken shapes
    if enlargement(pictures, {p.filename: SIZE for p in pictures}) == 1:
        raise ValueError("The boxes lie within 32 x 32 pixels. Name the file in ANNOTATIONS.")
    return via.rescale(pictures, 1 / scale)


def short(name) -> str:
    """A file name for a title: cifar10_test_cat_0007.png is "cat 7", others are cut."""
    if match := re.fullmatch(r".+_test_([a-z]+)_(\d{4})\.png", name):
        return f"{match[1]} {int(match[2])}"
    return Path(name).stem[:12]
