"""Annotations as COCO, YOLO and Pascal VOC, written and read back.

A writer takes the pictures of `helpers.annotations`, with the class of a region in its attribute
"label", and `sizes`, {file name: (width, height)} in pixels. It checks first, raises
AnnotationError with every finding, and replaces its target as a whole or not at all.
A file or folder that cannot be written is an OSError. A reader returns pictures with rect regions;
it raises AnnotationError for damaged content and FileNotFoundError for a missing file.
"""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from reprlib import repr as short
from tempfile import TemporaryDirectory

from helpers.annotations import (
    AnnotationError,
    Finding,
    Picture,
    Region,
    bounding_box,
    check,
    parse,
    reading,
    to_json,
)  # fmt: skip
from helpers.files import read_text, write_text, writing


def write_coco(pictures, path, sizes, categories) -> None:
    """Write COCO detection JSON (Lin et al. 2014, arXiv 1405.0312; cocodataset.org/#format-data).

    `categories` are the labels in order. Boxes are 0-based x, y, width, height; all ids begin at 1
    (pycocotools scores an annotation 0 as a miss); attributes but the label go under "attributes".
    """
    _require(pictures, sizes, categories)
    ids = {name: i for i, name in enumerate(categories, 1)}
    images, annotations = [], []
    for image_id, p in enumerate(pictures, 1):
        width, height = sizes[p.filename]
        images.append({"id": image_id, "file_name": p.filename, "width": width, "height": height})
        for r in p.regions:
            x, y, w, h = bounding_box(r.shape)
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id,
                "category_id": ids[r.attributes["label"]],
                "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0,
                "attributes": {k: v for k, v in r.attributes.items() if k != "label"},
            })  # fmt: skip
    named = [{"id": i, "name": name} for name, i in ids.items()]
    coco = {"info": {}, "images": images, "annotations": annotations, "categories": named}
    write_text(path, to_json(coco))


def read_coco(path) -> list[Picture]:
    """Read boxes, labels and "attributes" of COCO JSON."""
    with reading(path, "COCO file"):
        coco = parse(read_text(path))
        names = {c["id"]: c["name"] for c in coco["categories"]}
        pictures = {i["id"]: Picture(i["file_name"]) for i in coco["images"]}
        for a in coco["annotations"]:
            attributes = {"label": names[a["category_id"]], **a.get("attributes", {})}
            pictures[a["image_id"]].regions.append(_rect(*a["bbox"], attributes))
        return list(pictures.values())


def write_yolo(pictures, folder, sizes, categories) -> None:
    """Write YOLO labels: classes.txt and one NAME.txt per picture, all in `folder`.

    A line is class index, centre x, centre y, width, height as shares of the picture, six decimals
    (https://docs.ultralytics.com/datasets/detect): up to 8192 pixels, less than 0.01 pixel off.
    Also raises FileExistsError for a folder that holds other files.
    """
    _require(pictures, sizes, categories)
    indices = {name: i for i, name in enumerate(categories)}
    files = [("classes.txt", "".join(f"{name}\n" for name in categories))]
    for p in pictures:
        (width, height), lines = sizes[p.filename], ""
        for r in p.regions:
            x, y, w, h = bounding_box(r.shape)
            shares = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
            numbers = " ".join(f"{share:.6f}" for share in shares)
            lines += f"{indices[r.attributes['label']]} {numbers}\n"
        files.append((f"{Path(p.filename).stem}.txt", lines))
    _write_folder(folder, files)


def read_yolo(folder, sizes) -> list[Picture]:
    """Read the pictures that `sizes` names, in its order, from a YOLO folder."""
    folder, pictures = Path(folder), []
    with reading(folder / "classes.txt", "list of classes"):
        names = dict(enumerate(read_text(folder / "classes.txt").splitlines()))
    for filename, (width, height) in sizes.items():
        path, regions = folder / f"{Path(filename).stem}.txt", []
        with reading(path, "YOLO label file"):
            for line in path.read_text(encoding="utf-8").splitlines():
                index, *numbers = line.split()
                cx, cy, w, h = map(float, numbers)
                x, y = (cx - w / 2) * width, (cy - h / 2) * height
                regions.append(_rect(x, y, w * width, h * height, {"label": names[int(index)]}))
        pictures.append(Picture(filename, regions))
    return pictures


def write_voc(pictures, folder, sizes) -> None:
    """Write Pascal VOC: one NAME.xml per picture in `folder` (Everingham et al. 2010).

    Pixels count from 1 and the last one is included: xmin = x + 1, xmax = x + width. `truncated`
    and `occluded` are 1 where the attribute of that name is "yes". Also raises FileExistsError for
    a folder that holds other files.
    """
    _require(pictures, sizes)
    files = []
    for p in pictures:
        width, height = sizes[p.filename]
        root = ET.Element("annotation")
        _add(root, filename=p.filename)
        _add(ET.SubElement(root, "size"), width=width, height=height, depth=3)
        _add(root, segmented=0)
        for r in p.regions:
            x, y, w, h = bounding_box(r.shape)
            flags = {k: int(r.attributes.get(k) == "yes") for k in ("truncated", "occluded")}
            thing = ET.SubElement(root, "object")
            _add(thing, name=r.attributes["label"], pose="Unspecified", **flags, difficult=0)
            _add(ET.SubElement(thing, "bndbox"), xmin=x + 1, ymin=y + 1, xmax=x + w, ymax=y + h)
        ET.indent(root)
        files.append((f"{Path(p.filename).stem}.xml", ET.tostring(root, encoding="unicode") + "\n"))
    _write_folder(folder, files)


def _add(element, **children):
    for tag, value in children.items():
        ET.SubElement(element, tag).text = value if isinstance(value, str) else to_json(value)


def read_voc(folder) -> list[Picture]:
    """Read file names, boxes and labels of a Pascal VOC folder, in the order of its file names."""
    pictures, paths = [], sorted(Path(folder).glob("*.xml"))
    if not paths:
        raise FileNotFoundError(f"There are no .xml files in {folder}. Check the path.")
    for path in paths:
        with reading(path, "Pascal VOC file"):
            if "<!DOCTYPE" in (text := read_text(path)):  # its entities can grow without bound
                raise ValueError("a document type is not allowed")
            root, regions = ET.fromstring(text), []
            for thing in root.iter("object"):
                left, top, right, bottom = (
                    float(_need(thing, f"bndbox/{side}"))
                    for side in ("xmin", "ymin", "xmax", "ymax")
                )
                box = left - 1, top - 1, right - left + 1, bottom - top + 1
                regions.append(_rect(*box, {"label": _need(thing, "name")}))
            pictures.append(Picture(_need(root, "filename"), regions))
    return pictures


def _need(element, tag):
    if not (text := element.findtext(tag)):
        raise ValueError(f"<{tag}> is missing or empty")
    return text


def _rect(x, y, width, height, attributes):
    region = Region({"name": "rect", "x": x, "y": y, "width": width, "height": height}, attributes)
    bounding_box(region.shape)  # raises for NaN and negative sizes
    return region


def _require(pictures, sizes, categories=None):
    findings = check(pictures, sizes=sizes) or [
        Finding(p.filename, *found) for p in pictures for found in _problems(p, categories)
    ]
    if findings:
        raise AnnotationError(*findings)


def _problems(p, categories):
    """Yield (row, problem, fix) for what no export can hold."""
    name = p.filename
    if not name.isprintable() or not Path(name).stem or re.search(r"[/\\]|\.\.", name):
        fix = "leave out folders, '..' and control characters"
        yield p.row, f"{name!r} is no plain file name", fix
    for r in p.regions:
        label = r.attributes.get("label")
        if not isinstance(label, str) or not label.strip() or not label.isprintable():
            yield r.row, f"label is {short(label)}, no text to export", "choose a label"
        elif categories is not None and label not in categories:
            yield r.row, f"label {label!r} is none of the categories", "choose one, or add it"
        if min(bounding_box(r.shape)[2:]) <= 0:
            yield r.row, f"{r.shape['name']} without area", "leave it out"


def _write_folder(folder, files):
    """Write (name, text) pairs as the whole content of a folder, all of them or none."""
    folder, names = Path(folder), {name.casefold() for name, _ in files}
    if len(names) < len(files):
        raise ValueError("two pictures would share one label file: rename one of them")
    with writing(folder):
        there = {p.name for p in folder.iterdir()} if folder.exists() else set()
    if others := there - {name for name, _ in files}:  # never delete what somebody else put there
        raise FileExistsError(f"{folder} also holds {short(sorted(others))}: choose a new folder")
    with writing(folder):
        _replace_folder(folder, files)


def _replace_folder(folder, files):
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".export_") as beside:
        new, old = Path(beside, "new"), Path(beside, "old")
        new.mkdir()
        for name, text in files:
            (new / name).write_text(text, encoding="utf-8", newline="\n")
        try:  # a folder cannot be replaced in one step
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)
