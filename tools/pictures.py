"""Own pictures for Assignment4B and 4C: python -m tools.pictures FOLDER OUT.npz [--boxes FILE]

FOLDER, or a zip of it, holds a folder per class: of each picture the middle square is taken. Or it
holds photographs, and FILE is what VIA or Assignment4A saved of them: then every box becomes a
picture of its `label`, cut out with half as much again around it, as far as the photograph reaches.
A fifth of each class is for testing. What cannot be used is named, and left out.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import pandas as pd
from PIL import Image

from helpers.annotation import agreement, via
from helpers.files import replacing, writing
from helpers.training import data

AROUND = 1.5  # side of the square that is cut out, in longer sides of the box
NEEDED = 3  # pictures of a class: to train, to validate, to test
NO_BOX = (np.nan,) * 4


def of_folders(folder: Path):
    """Yield (class, picture, NO_BOX) from a folder per class."""
    files = [path for path in folder.glob("[!._]*/**/[!.]*") if path.is_file()]
    for path, picture in _opened(data.load_picture, files):
        yield path.relative_to(folder).parts[0], picture, NO_BOX


def of_boxes(folder: Path, file: Path):
    """Yield (label, picture, box in it) from the boxes of a VIA file."""
    annotated = {folder / p.filename: p for p in via.read_via(file) if p.regions}
    for path in [p for p in annotated if not p.resolve().is_relative_to(folder.resolve())]:
        print(f"left out: {annotated.pop(path).filename} lies outside of {folder.name}")
    for path, photograph in _opened(data.open_picture, annotated):
        for region in annotated[path].regions:
            label = agreement.category(region.attributes.get("label")).strip()
            crop = None if via.shape_problem(region.shape) else _crop(photograph, region.shape)
            if label and crop:
                yield label, *crop
            else:
                print(
                    f"left out: a box of {path.name} without {'area in it' if label else 'label'}"
                )


def _opened(reader, paths):
    """Yield (path, picture), always in one random order: few photographs are in both parts."""
    paths = sorted(paths)
    for path in (paths[i] for i in np.random.default_rng(0).permutation(len(paths))):
        try:
            yield path, reader(path)
        except (ValueError, OSError) as error:
            print(f"left out: {error}")


def _crop(photograph, shape):
    """A square around a shape, and the box in it if it leaves room; None if there is no area."""
    box = np.reshape(via.bounding_box(shape), (2, 2))
    low, high = np.clip((box[0], box.sum(axis=0)), 0, photograph.size)
    if min(high - low) <= 0:
        return None
    side = min(AROUND * max(high - low), *photograph.size)
    corner = np.clip((low + high - side) / 2, 0, np.subtract(photograph.size, side))
    square = photograph.resize((32, 32), Image.Resampling.BOX, (*corner, *(corner + side)))
    low, high = np.clip((np.array([low, high]) - corner) * 32 / side, 0, 32)
    return np.asarray(square), (*low, *(high - low)) if np.prod(high - low) < 900 else NO_BOX


def write(examples, out: Path) -> data.Dataset:
    """Split what the two above yield, write it, and load it again. ValueError, OSError."""
    classes, parts = {}, {"train": [], "test": []}
    for name, *example in examples:
        classes.setdefault(name, []).append(example)
    for name in sorted(name for name in classes if len(classes[name]) < NEEDED):
        print(f"left out: class {name} of {len(classes.pop(name))} pictures, {NEEDED} are needed")
    if len(classes) < 2:
        what = f"There are {len(classes)} classes of {NEEDED} or more pictures"
        raise ValueError(f"{what}; two are needed, in a folder each or as labels of --boxes.")
    for label, name in enumerate(sorted(classes)):
        rows, tested = [(label, *each) for each in classes[name]], max(1, len(classes[name]) // 5)
        parts["test"] += rows[:tested]
        parts["train"] += rows[tested:]
    arrays = {"class_names": sorted(classes)}
    for part, rows in parts.items():
        arrays[f"y_{part}"], arrays[f"x_{part}"], boxes = map(np.array, zip(*rows))
    with writing(out), replacing(out) as path:
        np.savez_compressed(path, **arrays, **{"test_boxes": boxes} if np.any(boxes >= 0) else {})
    return data.load(str(out))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="or a zip of it")
    parser.add_argument("out", type=lambda name: Path(name).with_suffix(".npz"))
    parser.add_argument("--boxes", type=Path, help="a VIA file of the photographs in FOLDER")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            if given.folder.is_file():
                ZipFile(given.folder).extractall(folder)  # keeps inside, whatever the names say
            root = Path(folder) if given.folder.is_file() else given.folder
            if len(inside := list(root.glob("[!._]*/"))) == 1 and not given.boxes:
                root = inside[0]  # zipped as a whole
            examples = of_boxes(root, given.boxes) if given.boxes else of_folders(root)
            dataset = write(examples, given.out)
    except (ValueError, OSError, BadZipFile) as error:
        sys.exit(f"{given.folder}: {error}")
    counts = {part: np.bincount(getattr(dataset, f"y_{part}")) for part in ("train", "val", "test")}
    print(pd.DataFrame(counts, dataset.class_names).rename_axis("class").to_string())
    print(f'In Assignment4B: MODE = "full", DATA = "{given.out}", RECIPE = "few"')
