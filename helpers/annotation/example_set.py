"""The annotated pictures of Assignment4A and 4C, the course's hundred or a reader's own."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.annotation import agreement, checks, exports, via
from helpers.annotation.pictures import Album
from helpers.files import ROOT

FOLDER = ROOT / "images/annotations"
SIZE = (32, 32)  # width and height of the dataset's pictures
TOLERANCE = 6  # of 255, in the quarters' mean colors: JPEG moves them by 3.1, others are 9.1 off


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
        passes = _made_up(list(images), dataset.test_boxes[chosen], schema["region"])
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
        which = f"{len(wrong)} of {len(images)} pictures of {source} ({wrong[0]} is the first)"
        raise ValueError(f"{which} are not those annotated: set DATA = 'cifar10', or 'synthetic'.")


def _made_up(names, exact, specs):
    """Pass A with the exact boxes, pass B up to a pixel and a fifth of the answers off, and A."""
    rng = np.random.default_rng(0)

    def answers(name):
        drawn = {k: rng.choice(list(spec["options"])).item() for k, spec in specs.items()}
        drawn["image_quality"] = {drawn["image_quality"]: True}
        return {**drawn, "label": name.split("_")[2]}

    first, other = ([answers(name) for name in names] for _ in range(2))
    second = [{k: (b if rng.random() < 0.2 else a)[k] for k in a} for a, b in zip(first, other)]
    moved = via.from_boxes(names, exact + rng.integers(-1, 2, exact.shape), second)
    exact = via.from_boxes(names, exact, first)
    return exact, checks.tidy(moved, dict.fromkeys(names, SIZE), pixels=2)[0], exact


@dataclass(frozen=True)
class OpenedSet:
    pictures: list  # of Picture, in pixels of the originals
    album: Album  # the same pictures
    source: str  # for titles
    notes: tuple = ()  # what was found and changed, in words

    def __str__(self):
        empty = sum(picture.nothing for picture in self.pictures)
        head = f"{len(self.pictures)} pictures, {len(via.boxes(self.pictures))} boxes"
        return "\n".join([head + f", {empty} with nothing to draw" * bool(empty), *self.notes])

    def stretched(self, size=None) -> list[via.Picture]:
        """The boxes on pictures stretched to a (width, height), or reduced as the album's are."""
        pictures = []
        for p in self.pictures:
            to = size or self.album.images[p.filename].shape[1::-1]
            boxes = via.boxes([p]) * np.tile(np.divide(to, self.album.sizes[p.filename]), 2)
            regions = [replace(r, shape=via.rect(b)) for r, b in zip(p.regions, boxes.tolist())]
            pictures.append(replace(p, regions=regions))
        return pictures


def open_set(path, dataset, album=None) -> OpenedSet:
    """A VIA file, mended without a guess; the completed set for no path. AnnotationError.

    Its pictures are those of a reader's own `album`, else of the dataset.
    """
    course, notes, source = example_set(dataset), [], dataset.source
    if own := bool(album and album.folder):
        source, path = "your pictures", path or (album.boxes if album.boxes.exists() else None)
        notes += [] if path else ["no box on your pictures yet: what follows is the course's set"]
    if not own or not path:
        images = dict(zip(dataset.test_names, dataset.x_test)) if path else course.images
        album = Album(images, dict.fromkeys(images, SIZE), course.schema, Path())
    if not path:
        return OpenedSet(course.completed, album, dataset.source, tuple(notes))

    def refuse(problem, fix):
        raise via.AnnotationError(via.Finding(str(path), None, problem, fix))

    found = exports.read_any(path, album.sizes)
    pictures = [picture for picture in found if picture.filename in album.images]
    if not pictures:
        refuse(f"it shows other pictures than {source}", "name their folder in PICTURES")
    if others := len(found) - len(pictures):
        notes.append(f"left out: {others} pictures that are not of {source}")
    before = len(via.boxes(pictures))  # raises for broken shapes
    for p in pictures:
        p.regions[:] = [r for r in p.regions if min(via.bounding_box(r.shape)[2:]) > 0]
    if not (boxes := len(via.boxes(pictures))):
        refuse("it holds no box", "draw at least one")
    if points := before - boxes:
        notes.append(f"left out: {points} regions without area, such as points")
    if checks.enlargement(pictures, album.sizes) > 1:
        refuse("boxes of enlarged copies", "name the file in section 4, in VIA_FILE")
    pictures, changes = checks.tidy(pictures, album.sizes)
    notes += [f"mended: {change}" for change in changes]
    names = album.images if own else [picture.filename for picture in pictures]
    images, sizes = ({name: part[name] for name in names} for part in (album.images, album.sizes))
    notes += [f"left as it is: {each}" for each in checks.check(pictures, album.schema, sizes)]
    for attributes in (region.attributes for p in pictures for region in p.regions):
        label = agreement.category(attributes.get("label"))
        attributes["label"] = " ".join(label.split()) or "unlabelled"
    exports.require_exportable(pictures, sizes, suffix=".txt")
    return OpenedSet(pictures, replace(album, images=images, sizes=sizes), source, tuple(notes))


def from_enlarged(pictures, scale, sizes) -> list[via.Picture]:
    """Boxes of copies `scale` times larger in pixels of the pictures; ValueError if not."""
    via.boxes(pictures)  # raises for broken shapes
    flat = {exports.flat_name(name): size for name, size in sizes.items()}
    if scale > 1 and checks.enlargement(pictures, flat) == 1:
        raise ValueError("The boxes are not of enlarged copies. Name the file in ANNOTATIONS.")
    return via.rescale(pictures, 1 / scale)


def boxed_pictures(dataset, path=None) -> list[via.Picture]:
    """For Assignment4C: test pictures with a box, in the order of the data; says what is left out.

    From a file of boxes on pictures named as `Dataset.test_name` does; without one, from an .npz of
    tools.pictures, or the hundred of Assignment4A. ValueError where there is no box to judge by.
    """
    names = dataset.test_names
    if path:
        annotated = exports.read_any(path, dict.fromkeys(names, SIZE))
    elif not names[0].startswith("own_"):
        annotated = example_set(dataset).completed
    else:
        boxes = [] if dataset.test_boxes is None else dataset.test_boxes
        known = {name: box for name, box in zip(names, boxes) if np.isfinite(box).all()}
        annotated = via.from_boxes(list(known), list(known.values()))
    regions = {p.filename: p.regions for p in annotated}
    pictures = [via.Picture(name, regions[name]) for name in names if name in regions]
    if checks.enlargement(pictures, dict.fromkeys(names, SIZE)) > 1:
        raise ValueError(f"{path} has boxes of enlarged copies: divide them by their scale.")
    boxed = [p for p, mask in zip(pictures, agreement.masks(pictures, SIZE)) if mask.any()]
    if not boxed:
        what = f"{path or dataset.source} holds no box of a test picture of {dataset.source}"
        way_out = f"Name a file of boxes in ANNOTATIONS, on pictures such as '{names[0]}'"
        raise ValueError(f"{what}. {way_out}, or make the .npz by tools.pictures with --boxes.")
    if others := len(regions) - len(boxed):
        print(f"left out: {others} pictures without a box, or not of {dataset.source}")
    return boxed


def short(name) -> str:
    """A file name for a title: cifar10_test_cat_0007.png is "cat 7", others are cut."""
    if match := re.fullmatch(r".+_test_([a-z]+)_(\d{4})\.png", name):
        return f"{match[1]} {int(match[2])}"
    return Path(name).stem[:12]
