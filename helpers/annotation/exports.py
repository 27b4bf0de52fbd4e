"""Annotations as COCO, YOLO and Pascal VOC, written and read; `read_any` tells them apart.

The class of a region is its attribute "label"; `sizes` is {file name: (width, height)} in pixels.
A picture without a box stands for one with nothing to draw: those not looked at are left out.
One folder may hold what all three write, and images/: the pictures, upright, by `flat_name`.
Writers raise AnnotationError before they write, or OSError; readers that or FileNotFoundError.
"""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from reprlib import repr as short

import numpy as np
import pandas as pd
import yaml

from helpers.annotation import checks, via
from helpers.files import member, parse_json, read_text, to_json, write_text

# what a line of text cannot hold: control characters, line ends, half a surrogate pair
CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff"
LINE = re.compile(rf"(?=.*\S)[^{CONTROL}]+")
SIDES = ("xmin", "ymin", "xmax", "ymax")
# a part of a path that Windows refuses, or that leads elsewhere (".." ends with a dot)
NO_NAME = re.compile(rf'(?i)[<>:"|?*\\/{CONTROL}]|[. ]$|^(con|prn|aux|nul|(com|lpt)\d) *(\.|$)')
# who writes what is not read here: by how it begins, by a member of the JSON, by the root of XML
OTHERS = {"[": "Label Studio", "imagePath": "LabelMe", "view": "VIA 3", "<annotations>": "CVAT"}


def read_any(path, sizes=None) -> list[via.Picture]:
    """Read VIA, COCO, Pascal VOC (labelImg), YOLO, or CSV with xmin to ymax: a file, or a folder.

    `sizes` is of the pictures: YOLO needs it, others may name them without folders or suffix.
    """
    path, sizes = Path(path), sizes or {}
    files = [p for end in ("xml", "json", "csv") for p in sorted(path.rglob(f"[!.]*.{end}"))]
    if path.is_dir() and (_classes(path) or not files):
        return read_yolo(path, sizes)
    pictures = [p for file in files or [path] for p in _read_file(file)]
    names = map(_finder(sizes), [p.filename for p in pictures])
    return [replace(p, filename=n[0]) if len(n) == 1 else p for p, n in zip(pictures, names)]


def _read_file(path):
    with via.reading(path, "file of annotations"):
        text = read_text(path).strip()
        marks = parse_json(text).keys() if text[0] == "{" else {text[0]}
        marks = {f"<{ET.fromstring(text).tag}>"} if text[0] == "<" else marks
    for program in [OTHERS[mark] for mark in OTHERS if mark in marks]:
        problem = f"the own format of {program}, which is not read here"
        fix = "export it there as COCO or YOLO, or convert it to one of them"
        raise via.AnnotationError(via.Finding(path.name, None, problem, fix))
    if "<annotation>" in marks:
        return read_voc(path)
    if {"images", "annotations"} <= set(marks):
        return read_coco(path)
    if {"filename", "class", *SIDES} <= set(text.splitlines()[0].split(",")):
        with via.reading(path, "CSV of boxes"):  # "NA" and "None" may be labels
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            groups = table.groupby("filename", sort=False)[["class", *SIDES]]
            return [via.Picture(name, _rects(rows.to_numpy())) for name, rows in groups]
    return via.read_via(path)


def _rects(rows):
    """Regions of (label, xmin, ymin, xmax, ymax): counted from 1, as VOC does, unless one is 0."""
    sides = np.array([row[1:] for row in rows], float).reshape(-1, 4)
    sides[:, :2] -= sides.min(initial=1) >= 1
    sides[:, 2:] -= sides[:, :2]
    return [_rect(box, {"label": row[0]}) for row, box in zip(rows, sides.tolist())]


def _finder(names):
    """A function of a file name: those of `names` with its stem, with folders or without."""
    stems = {}
    for name in names:
        for stem in {flat_name(name, ""), PurePosixPath(name).stem}:
            stems.setdefault(stem, []).append(name)
    return lambda n: stems.get(flat_name(n, "")) or stems.get(PureWindowsPath(n).stem, [])


def write_coco(pictures, path, sizes, categories) -> None:
    """Write COCO detection JSON (Lin et al. 2014, arXiv 1405.0312; cocodataset.org)."""
    pictures = require_exportable(pictures, sizes, categories)
    ids = {name: i for i, name in enumerate(categories, 1)}
    images, annotations = [], []  # ids from 1: pycocotools scores an annotation 0 as a miss
    for image_id, p in enumerate(pictures, 1):
        size = dict(zip(("width", "height"), sizes[p.filename]))
        images.append({"id": image_id, "file_name": flat_name(p.filename), **size})
        for r in p.regions:
            x, y, w, h = box = via.bounding_box(r.shape)
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id,
                "category_id": ids[r.attributes["label"]], "bbox": box, "area": w * h, "iscrowd": 0,
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                "attributes": {k: v for k, v in r.attributes.items() if k != "label"},
            })  # fmt: skip
    coco = {"info": {}, "images": images, "annotations": annotations}
    coco["categories"] = [{"id": i, "name": name} for name, i in ids.items()]
    write_text(path, to_json(coco))


def read_coco(path) -> list[via.Picture]:
    """Read boxes, labels (the categories) and "attributes" of COCO JSON."""
    with via.reading(path, "COCO file"):
        coco = parse_json(read_text(path))
        names = _by_id(coco, "categories", "name")
        images = _by_id(coco, "images", "file_name")
        regions = {image: [] for image in images}
        for a in member(coco, "annotations", list):
            image, category = member(a, "image_id", int), member(a, "category_id", int)
            if image not in images or category not in names:
                raise ValueError(f"there is no image {image}, or no category {category}")
            attributes = {**member(a, "attributes", dict, {}), "label": names[category]}
            if not (box := member(a, "bbox", list, [])):
                points = np.concatenate(member(a, "segmentation", list)).reshape(-1, 2)
                box = [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]
            regions[image].append(_rect(box, attributes))
        return [_looked_at(images[image], regions[image]) for image in images]


def _by_id(coco, part, key):
    entries = member(coco, part, list)
    texts = {member(entry, "id", int): member(entry, key, str) for entry in entries}
    if len(texts) < len(entries):
        raise ValueError(f"two {part} have one id")
    return texts


def _looked_at(filename, regions):
    return via.Picture(filename, regions, file_attributes={} if regions else dict(via.NOTHING))


def flat_name(filename, suffix=None) -> str:
    """The name without folders, or with another suffix: "Set1/a.jpg" becomes "Set1__a.jpg"."""
    name = "__".join(PurePosixPath(filename).parts)
    return name if suffix is None else PurePosixPath(name).stem + suffix


def write_yolo(pictures, folder, sizes, categories) -> None:
    """Write labels/NAME.txt per picture, classes.txt, and for trainers data.yaml.

    A line is class index, center x, center y, width, height as shares of the picture
    (https://docs.ultralytics.com/datasets/detect); without a path, data.yaml is the place.
    """
    pictures = require_exportable(pictures, sizes, categories, ".txt")
    text = f"train: images\nval: images  # choose other pictures\nnames: {to_json(categories)}\n"
    files = {"classes.txt": "".join(f"{name}\n" for name in categories), "data.yaml": text}
    for p in pictures:
        size, lines = sizes[p.filename], ""
        for r in p.regions:
            corner, sides = np.reshape(via.bounding_box(r.shape), (2, 2))
            # trainers drop a picture for a share above 1; a border may be a hair beyond
            low, high = np.clip([corner / size, (corner + sides) / size], 0, 1)
            numbers = " ".join(f"{share:.6f}" for share in [*(low + high) / 2, *high - low])
            lines += f"{categories.index(r.attributes['label'])} {numbers}\n"
        files[f"labels/{flat_name(p.filename, '.txt')}"] = lines
    _write_folder(folder, files)


def read_yolo(folder, sizes) -> list[via.Picture]:
    """Read the pictures in `sizes` that have a label file, in any folder; of polygons the boxes."""
    folder, meant, regions = Path(folder), _finder(sizes), {}
    classes = _classes(folder)
    for path in sorted(folder.rglob("*.txt")):
        names = meant(path.relative_to(folder).as_posix().replace("labels/", ""))
        with via.reading(path, "YOLO label file"):
            for name in names:
                if len(names) > 1 or name in regions:
                    raise ValueError(f"not the only one that fits {name!r}: rename one")
                lines = filter(str.strip, path.read_text(encoding="utf-8-sig").splitlines())
                regions[name] = [_yolo_region(line, sizes[name], classes) for line in lines]
    if not regions:
        lacking = "label file with the name of a picture" if classes else "data.yaml or classes.txt"
        found = str(folder), None, f"no XML, JSON, CSV, or {lacking}"
        raise via.AnnotationError(via.Finding(*found, "name the pictures, too, and their labels"))
    return [_looked_at(name, regions[name]) for name in sizes if name in regions]


def _yolo_region(line, size, classes):
    index, *numbers = line.split()
    points = np.reshape([float(number) for number in numbers], (-1, 2))
    if len(points) == 2:  # center and sides
        low, high = points[0] + points[1] * [[-0.5], [0.5]]
    else:
        low, high = points.min(axis=0), points.max(axis=0)
    if low.min() < -1e-3 or high.max() > 1.001:  # other programs' rounding reaches over the border
        raise ValueError(f"{line!r} reaches beyond the picture, whose shares end at 1")
    if int(index) not in classes:
        raise ValueError(f"there is no class {index} among the {len(classes)}")
    low, high = np.clip([low, high], 0, 1) * size
    return _rect([*low.tolist(), *(high - low).tolist()], {"label": classes[int(index)]})


def _classes(folder):
    """{index: name} of data.yaml, classes.txt or obj.names; empty without one."""
    lists = [p for form in ("*.y*ml", "classes.txt", "obj.names") for p in folder.rglob(form)]
    for path in lists[:1]:
        with via.reading(path, "list of classes"):
            names = text = read_text(path).splitlines()
            if path.match("*.y*ml"):  # the base loader leaves "no" and 7 as they are written
                names = member(yaml.load("\n".join(text), yaml.BaseLoader), "names", list | dict)
            numbered = names.items() if isinstance(names, dict) else enumerate(names)
            return {int(index): name for index, name in numbered}
    return {}


def write_voc(pictures, folder, sizes) -> None:
    """Write Pascal VOC, a NAME.xml per picture: whole pixels from 1 on (Everingham et al. 2010)."""
    pictures = require_exportable(pictures, sizes, suffix=".xml")
    files = {}
    for p in pictures:
        root, (width, height) = ET.Element("annotation"), sizes[p.filename]
        _add(root, filename=flat_name(p.filename))
        _add(ET.SubElement(root, "size"), width=width, height=height, depth=3)
        _add(root, segmented=0)
        for r in p.regions:
            corner, sides = np.reshape(via.bounding_box(r.shape), (2, 2))
            first = np.minimum(np.floor(corner + 0.5), (width - 1, height - 1)) + 1  # halves go up
            last = np.maximum(np.floor(corner + sides + 0.5), first)  # included: x + width
            flags = {k: int(r.attributes.get(k) == "yes") for k in ("truncated", "occluded")}
            thing = ET.SubElement(root, "object")
            _add(thing, name=r.attributes["label"], pose="Unspecified", **flags, difficult=0)
            _add(ET.SubElement(thing, "bndbox"), **dict(zip(SIDES, map(int, [*first, *last]))))
        ET.indent(root)
        files[flat_name(p.filename, ".xml")] = ET.tostring(root, encoding="unicode") + "\n"
    _write_folder(folder, files)


def _add(element, **children):
    for tag, value in children.items():
        ET.SubElement(element, tag).text = str(value)


def read_voc(folder) -> list[via.Picture]:
    """Read file names, boxes and labels of a Pascal VOC folder, by its file names, or of a file."""
    pictures, tags = [], ["name", *(f"bndbox/{side}" for side in SIDES)]
    for path in sorted(Path(folder).glob("[!.]*.xml")) or [folder]:
        with via.reading(path, "Pascal VOC file"):
            root = ET.fromstring(read_text(path))
            rows = [[_need(thing, tag) for tag in tags] for thing in root.iter("object")]
            pictures.append(_looked_at(_need(root, "filename"), _rects(rows)))
    return pictures


def _need(element, tag):
    if not (text := element.findtext(tag)):
        raise ValueError(f"<{tag}> is missing or empty")
    return text


def _rect(box, attributes):
    shape = via.rect(box)
    via.bounding_box(shape)  # raises for NaN and negative sizes
    return via.Region(shape, attributes)


def require_exportable(pictures, sizes, categories=None, suffix=None) -> list:
    """The pictures looked at; AnnotationError for what no export, or no file each, can hold."""
    findings = checks.check(pictures, sizes=sizes)
    if findings := findings or [via.Finding(*p) for p in _problems(pictures, categories, suffix)]:
        raise via.AnnotationError(*findings)
    return [p for p in pictures if p.seen]


def _problems(pictures, categories, suffix):
    for name in categories or ():
        if categories.count(name) > 1 or not LINE.fullmatch(name):
            what = f"{short(name)} comes twice, or is no line of text"
            yield "categories", None, what, "rename it"
    owners = {}
    for p in pictures:
        place, parts = (p.filename, p.row), PurePosixPath(p.filename).parts
        if not parts or any(map(NO_NAME.search, parts)):
            fix = 'rename it without < > : " | ? * \\ and "..", or device names (CON)'
            yield *place, "no file name that every system can hold", fix
        name = flat_name(p.filename, suffix)
        if (owner := owners.setdefault(name.casefold(), p).filename) != p.filename:
            yield *place, f"it would share the name {name!r} with {owner!r}", "rename one of them"
        for r in p.regions:
            place, label = (p.filename, r.row), r.attributes.get("label")
            if not (isinstance(label, str) and LINE.fullmatch(label)):
                fix = "choose a label; checks.tidy strips white space"
                yield *place, f"label is {short(label)}, no line of text", fix
            elif categories is not None and label not in categories:
                yield *place, f"label {label!r} is none of the categories", "choose one, or add it"
            if min(via.bounding_box(r.shape)[2:]) <= 0:
                yield *place, f"{r.shape['name']} without area", "leave it out"


def _write_folder(folder, files):
    """Write {name: text} into a folder; FileExistsError if it holds others of these kinds."""
    folder, kinds = Path(folder), {Path(name).suffix for name in files}
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("[!.]*") if p.is_file()}
    if others := {name for name in present if Path(name).suffix in kinds} - set(files):
        raise FileExistsError(f"{folder} also holds {short(sorted(others))}: choose a new folder")
    for name, text in files.items():
        write_text(folder / name, text)
