"""For Assignment4A: the annotated pictures, the hundred of the course or a reader's own."""

import csv
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
PER_CLASS = 10
SIZE = (32, 32)  # width and height of the dataset's pictures
LARGEST_PAGE = 256  # pixels: a blank page is no larger, for masks of it to fit into memory
# Mean colors of the quarters: a JPEG copy of quality 75 moves them by at most 3.1 of 255, and no
# other of the 10,000 test pictures comes nearer than 9.1.
TOLERANCE = 6


@dataclass(frozen=True)
class ExampleSet:
    """A hundred pictures, annotated twice and settled."""

    images: dict  # file name -> uint8 (32, 32, 3), RGB
    schema: dict  # as `via.read_schema` returns it
    pass_a: list  # of Picture, as are the next two
    pass_b: list
    completed: list
    reasons: dict  # file name -> (which pass was taken, why)


def example_set(dataset) -> ExampleSet:
    """The first ten test pictures of every class with their annotations.

    For synthetic pictures these are made up: the exact boxes, and a pass B whose edges are moved
    by at most a pixel and whose attributes differ here and there. Raises ValueError where the
    pictures are not those that were annotated.
    """
    starts = np.searchsorted(dataset.y_test, range(len(dataset.class_names)))
    chosen = [i for start in starts for i in range(start, start + PER_CLASS)]
    images = {dataset.test_name(i): dataset.x_test[i] for i in chosen}
    schema = via.read_schema(FOLDER / "via_attributes.json")
    if dataset.synthetic:
        label = {**schema["region"]["label"], "options": {c: c for c in dataset.class_names}}
        schema = {**schema, "region": {**schema["region"], "label": label}}
        reasons = dict.fromkeys(images, ("A", "synthetic pictures come with their exact boxes"))
        return ExampleSet(images, schema, *_made_up(dataset, list(images), schema), reasons)
    require_annotated(images, dataset.source)
    files = ("pass_a.csv", "pass_b.csv", "via_export_csv.csv")
    with open(FOLDER / "adjudication.csv", encoding="utf-8", newline="") as file:
        reasons = {row["filename"]: (row["choice"], row["reason"]) for row in csv.DictReader(file)}
    return ExampleSet(images, schema, *(via.read_via(FOLDER / name) for name in files), reasons)


def require_annotated(images, source) -> None:
    """Raise ValueError unless these are the pictures on which the course's boxes were drawn.

    Args:
        images: file name -> uint8 (32, 32, 3). Another compression of the same pictures passes.
        source: for the message, `Dataset.source`.
    """
    known, wrong = pd.read_csv(FOLDER / "mean_colors.csv", index_col="filename"), []
    for name, image in images.items():
        quarters = image.reshape(2, 16, 2, 16, 3).mean(axis=(1, 3)).ravel()
        if name not in known.index or np.abs(quarters - known.loc[name]).max() > TOLERANCE:
            wrong.append(name)
    if wrong:
        raise ValueError(
            f"{len(wrong)} of {len(images)} pictures of {source} are not those that were annotated "
            f"({wrong[0]} is the first). The boxes fit CIFAR-10's test pictures in official order: "
            "set DATA = 'cifar10', or 'synthetic'."
        )


def _made_up(dataset, names, schema):
    """Pass A, pass B and the completed set of synthetic pictures."""
    rng = np.random.default_rng(0)
    exact = dataset.test_boxes[[dataset.test_index(name) for name in names]]

    def answer(share, name, values=None):
        """An answer to every attribute, or `values` with such a share of them answered anew."""
        label, drawn = {"label": name.split("_")[2]}, {}
        for key, spec in schema["region"].items():
            option = rng.choice(list(spec["options"])).item()
            is_checkbox = spec["type"] == "checkbox"
            new = ({option: True} if rng.random() < 0.3 else {}) if is_checkbox else option
            drawn[key] = new if rng.random() < share else values[key]
        return drawn | label

    first = [answer(1, name) for name in names]
    second = [answer(0.2, *pair) for pair in zip(names, first)]
    completed = via.from_boxes(names, exact, first)
    moved = via.from_boxes(names, exact + rng.integers(-1, 2, exact.shape), second)
    moved, _ = tidy(moved, dict.fromkeys(names, SIZE), pixels=2)
    return completed, moved, completed


@dataclass(frozen=True)
class OpenedSet:
    """What `open_set` returns."""

    pictures: list  # of Picture
    images: dict  # file name -> uint8 (height, width, 3), RGB, all of one size
    size: tuple  # (width, height) of every picture, pixels
    notes: tuple = ()  # what was found and changed, in words

    def __str__(self):
        head = f"{len(self.pictures)} pictures, {len(via.boxes(self.pictures))} boxes"
        return "\n".join([head, *self.notes])


def open_set(path, dataset) -> OpenedSet:
    """A VIA file, made ready for every later cell; an empty path gives the completed set.

    What can be mended without a guess is mended and told: blanks around labels, boxes at most a
    pixel over the border, regions without area. A missing label becomes "unlabelled". Pictures of
    another origin become blank pages, for their pixels and their size are not known.

    Raises FileNotFoundError, and AnnotationError for what only the annotator can mend: damaged
    content, no box at all, boxes outside their pictures or drawn on enlarged ones.
    """
    course = example_set(dataset)
    if not path:
        return OpenedSet(course.completed, course.images, SIZE)
    file, notes, pictures = Path(path).name, [], via.read_via(path)
    places = {dataset.test_name(i): i for i in range(len(dataset.y_test))}
    plain = [replace(p, filename=re.split(r"[/\\]", p.filename)[-1]) for p in pictures]
    known, size = [picture for picture in plain if picture.filename in places], SIZE
    if findings := check(pictures) or check(known):
        raise AnnotationError(*findings)
    before = len(via.boxes(known or pictures))
    if left := len(pictures) - len(known) if known else 0:
        notes.append(f"left out: {left} pictures that are not of {dataset.source}")
    pictures = [
        replace(p, regions=[r for r in p.regions if min(via.bounding_box(r.shape)[2:]) > 0])
        for p in known or pictures
    ]
    if not len(via.boxes(pictures)):
        raise AnnotationError(Finding(file, None, "it holds no box", "draw at least one"))
    if points := before - len(via.boxes(pictures)):
        notes.append(f"left out: {points} regions without area, such as points")
    if known:
        images = {p.filename: dataset.x_test[places[p.filename]] for p in known}
        if enlargement(pictures, dict.fromkeys(images, size)) > 1:
            problem = f"most boxes lie beyond the {size[0]} x {size[1]} pixels of their pictures"
            fix = "if enlarged copies were annotated, name the file in section 4, in VIA_FILE"
            raise AnnotationError(Finding(file, None, problem, fix))
    else:
        boxes = via.boxes(pictures)
        reach = (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
        scale = max(math.ceil(reach.max() / LARGEST_PAGE), 1)
        pictures = via.rescale(pictures, 1 / scale)
        size = tuple(max(math.ceil(side / scale), 1) for side in reach.tolist())
        page = np.full((size[1], size[0], 3), 225, np.uint8)
        images = dict.fromkeys((p.filename for p in pictures), page)
        notes.append(
            f"no picture is of {dataset.source}, so pixels and sizes are unknown: boxes at "
            f"1/{scale} of their size on blank pages of {size[0]} x {size[1]}, which just hold "
            "them. Exports need the true sizes"
        )
    sizes = dict.fromkeys(images, size)
    pictures, changes = tidy(pictures, sizes)
    notes += [f"mended: {change}" for change in changes]
    notes += [f"left as it is: {finding}" for finding in check(pictures, course.schema)]
    pictures = [replace(p, regions=[_labelled(r) for r in p.regions]) for p in pictures]
    require_exportable(pictures, sizes, suffix=".txt")
    return OpenedSet(pictures, images, size, tuple(notes))


def _labelled(region):
    """The region with a text in one line as its label."""
    text = category(region.attributes.get("label"))
    label = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return replace(region, attributes={**region.attributes, "label": label or "unlabelled"})


def from_enlarged(pictures, scale) -> list[Picture]:
    """Boxes drawn on copies `scale` times larger, in pixels of the dataset's pictures.

    Raises AnnotationError for broken shapes, ValueError for boxes within 32 x 32 pixels already.
    """
    if findings := check(pictures):
        raise AnnotationError(*findings)
    if enlargement(pictures, {p.filename: SIZE for p in pictures}) == 1:
        raise ValueError(
            "The boxes lie within 32 x 32 pixels already, so they were not drawn on enlarged "
            "pictures. Name the file in ANNOTATIONS, in the configuration."
        )
    return via.rescale(pictures, 1 / scale)


def short(name) -> str:
    """A file name for a title: cifar10_test_cat_0007.png is "cat 7", others are cut."""
    if match := re.fullmatch(r".+_test_([a-z]+)_(\d{4})\.png", name):
        return f"{match[1]} {int(match[2])}"
    return Path(name).stem[:12]
