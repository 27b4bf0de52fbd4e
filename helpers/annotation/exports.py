"""Annotations as COCO, YOLO and Pascal VOC, written and read back.

The class of a region is its attribute "label"; `sizes` is {file name: (width, height)} in pixels.
A picture without a box stands for one with nothing to draw: those not looked at are left out.
Writers raise AnnotationError before they write, or OSError; readers that or FileNotFoundError.
"""

import re
import xml.etree.ElementTree as ET
from pathlib import Path, PurePosixPath
from reprlib import repr as short

import numpy as np

from helpers.annotation import via
from helpers.annotation.checks import check
from helpers.files import member, parse_json, read_text, to_json, write_text

# what a line of text cannot hold: control characters, line ends, half a surrogate pair
CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff"
SIDES = ("xmin", "ymin", "xmax", "ymax")
HAIR = 1e-3  # of a picture: what other programs' rounding reaches over its border
# a part of a path that Windows refuses, or that leads elsewhere (".." ends with a dot)
NOT_A_NAME = re.compile(
    rf'[<>:"|?*\\/{CONTROL}]|[. ]$|^(con|prn|aux|nul|(com|lpt)[0-9]) *(\.|$)', re.IGNORECASE
)


def write_coco(pictures, path, sizes, categories) -> None:
    """Write COCO detection JSON (Lin et al. 2014, arXiv 1405.0312; cocodataset.org/#format-data).

    Ids begin at 1, in the order of `categories`: pycocotools scores an annotation 0 as a miss.
    """
    pictures = require_exportable(pictures, sizes, categories)
    ids = {name: i for i, name in enumerate(categories, 1)}
    images, annotations = [], []
    for image_id, p in enumerate(pictures, 1):
        size = dict(zip(("width", "height"), sizes[p.filename]))
        images.append({"id": image_id, "file_name": p.filename, **size})
        for r in p.regions:
            x, y, w, h = box = via.bounding_box(r.shape)
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id,
                "category_id": ids[r.attributes["label"]], "bbox": box, "area": w * h, "iscrowd": 0,
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                "attributes": {k: v for k, v in r.attributes.items() if k != "label"},
            })  # fmt: skip
    named = [{"id": i, "name": name} for name, i in ids.items()]
    coco = {"info": {}, "images": images, "annotations": annotations, "categories": named}
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
            regions[image].append(_rect(member(a, "bbox", list), attributes))
        return [_looked_at(images[image], regions[image]) for image in images]


def _by_id(coco, part, key):
    entries = member(coco, part, list)
    texts = {member(entry, "id", int): member(entry, key, str) for entry in entries}
    if len(texts) < len(entries):
        raise ValueError(f"two {part} have one id")
    return texts


def _looked_at(filename, regions):
    return via.Picture(filename, regions, file_attributes={} if regions else dict(via.NOTHING))


def flat_name(filename) -> str:
    """The name without folders: "Set1/IMG (2).jpg" becomes "Set1__IMG (2).jpg"."""
    return "__".join(PurePosixPath(filename).parts)


def _label_file(filename, suffix):
    return f"{PurePosixPath(flat_name(filename)).stem}{suffix}"


def write_yolo(pictures, folder, sizes, categories) -> None:
    """Write labels/NAME.txt per picture, classes.txt, and for trainers data.yaml.

    A line is class index, center x, center y, width, height as shares of the picture
    (https://docs.ultralytics.com/datasets/detect); pictures belong in images/ as `flat_name`.
    """
    pictures = require_exportable(pictures, sizes, categories, ".txt")
    indices = {name: i for i, name in enumerate(categories)}
    names = "".join(f"  {i}: {to_json(name)}\n" for name, i in indices.items())
    yaml = f"train: images\nval: images  # choose other pictures\nnames:\n{names}"
    files = {"classes.txt": "".join(f"{name}\n" for name in categories), "data.yaml": yaml}
    for p in pictures:
        size, lines = sizes[p.filename], ""
        for r in p.regions:
            corner, sides = np.reshape(via.bounding_box(r.shape), (2, 2))
            # trainers drop a picture for a share above 1; a border may be a hair beyond
            low, high = np.clip([corner / size, (corner + sides) / size], 0, 1)
            numbers = " ".join(f"{share:.6f}" for share in [*(low + high) / 2, *high - low])
            lines += f"{indices[r.attributes['label']]} {numbers}\n"
        files[f"labels/{_label_file(p.filename, '.txt')}"] = lines
    _write_folder(folder, files)


def read_yolo(folder, sizes) -> list[via.Picture]:
    """Read the pictures that `sizes` names; one without a label file is not looked at yet."""
    folder, pictures = Path(folder), []
    with via.reading(folder / "classes.txt", "list of classes"):
        names = read_text(folder / "classes.txt").splitlines()
    for filename, size in sizes.items():
        path, regions = folder / "labels" / _label_file(filename, ".txt"), []
        if not path.is_file():
            pictures.append(via.Picture(filename))
            continue
        with via.reading(path, "YOLO label file"):
            for line in path.read_text(encoding="utf-8-sig").splitlines():
                index, *numbers = line.split()
                center, sides = np.reshape([float(number) for number in numbers], (2, 2))
                edges = np.array([center - sides / 2, center + sides / 2])
                if edges.min() < -HAIR or edges.max() > 1 + HAIR:
                    raise ValueError(f"{line!r} reaches beyond the picture, whose shares end at 1")
                if int(index) not in range(len(names)):
                    raise ValueError(f"there is no class {index} among the {len(names)}")
                low, high = edges.clip(0, 1) * size
                box = [*low.tolist(), *(high - low).tolist()]
                regions.append(_rect(box, {"label": names[int(index)]}))
        pictures.append(_looked_at(filename, regions))
    return pictures


def write_voc(pictures, folder, sizes) -> None:
    """Write Pascal VOC: one NAME.xml per picture in `folder` (Everingham et al. 2010).

    Whole pixels, counted from 1, the last one included: xmin = x + 1, xmax = x + width.
    """
    pictures = require_exportable(pictures, sizes, suffix=".xml")
    files = {}
    for p in pictures:
        root, (width, height) = ET.Element("annotation"), sizes[p.filename]
        _add(root, filename=p.filename)
        _add(ET.SubElement(root, "size"), width=width, height=height, depth=3)
        _add(root, segmented=0)
        for r in p.regions:
            corner, sides = np.reshape(via.bounding_box(r.shape), (2, 2))
            first = np.minimum(np.floor(corner + 0.5), (width - 1, height - 1)) + 1  # halves go up
            last = np.maximum(np.floor(corner + sides + 0.5), first)
            flags = {k: int(r.attributes.get(k) == "yes") for k in ("truncated", "occluded")}
            thing = ET.SubElement(root, "object")
            _add(thing, name=r.attributes["label"], pose="Unspecified", **flags, difficult=0)
            _add(ET.SubElement(thing, "bndbox"), **dict(zip(SIDES, map(int, [*first, *last]))))
        ET.indent(root)
        files[_label_file(p.filename, ".xml")] = ET.tostring(root, encoding="unicode") + "\n"
    _write_folder(folder, files)


def _add(element, **children):
    for tag, value in children.items():
        ET.SubElement(element, tag).text = str(value)


def read_voc(folder) -> list[via.Picture]:
    """Read file names, boxes and labels of a Pascal VOC folder, in the order of its file names."""
    pictures, paths = [], sorted(Path(folder).glob("*.xml"))
    if not paths:
        raise FileNotFoundError(f"There are no .xml files in {folder}. Check the path.")
    for path in paths:
        with via.reading(path, "Pascal VOC file"):
            root, regions = ET.fromstring(read_text(path)), []
            for thing in root.iter("object"):
                left, top, right, bottom = (float(_need(thing, f"bndbox/{s}")) for s in SIDES)
                box = left - 1, top - 1, right - left + 1, bottom - top + 1
                regions.append(_rect(box, {"label": _need(thing, "name")}))
            pictures.append(_looked_at(_need(root, "filename"), regions))
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
    """The pictures looked at; AnnotationError for what no export can hold.

    `suffix` is that of label files, one per picture.
    """
    findings = check(pictures, sizes=sizes)
    if findings := findings or [via.Finding(*p) for p in _problems(pictures, categories, suffix)]:
        raise via.AnnotationError(*findings)
    return [p for p in pictures if p.seen]


def _problems(pictures, categories, suffix):
    for name in categories or ():
        if categories.count(name) > 1 or not _is_line(name):
            problem = f"{short(name)} comes twice, or is no line of text"
            yield "categories", None, problem, "leave it out, or rename it"
    owners = {}
    for p in pictures:
        place, parts = (p.filename, p.row), PurePosixPath(p.filename).parts
        if not parts or any(map(NOT_A_NAME.search, parts)):
            fix = 'rename it without < > : " | ? * \\ and "..", or device names (CON)'
            yield *place, "no file name that every system can hold", fix
        owner = owners.setdefault(_label_file(p.filename, suffix).casefold(), p).filename
        if suffix and owner != p.filename:
            yield *place, f"it would share one label file with {owner!r}", "rename one of them"
        for r in p.regions:
            place, label = (p.filename, r.row), r.attributes.get("label")
            if not _is_line(label):
                fix = "choose a label; checks.tidy strips white space"
                yield *place, f"label is {short(label)}, no line of text", fix
            elif categories is not None and label not in categories:
                yield *place, f"label {label!r} is none of the categories", "choose one, or add it"
            if min(via.bounding_box(r.shape)[2:]) <= 0:
                yield *place, f"{r.shape['name']} without area", "leave it out"


def _is_line(text):
    return isinstance(text, str) and text.strip() and not re.search(f"[{CONTROL}]", text)


def _write_folder(folder, files):
    """Write {name: text} as the content of a folder; FileExistsError if it holds other files."""
    folder = Path(folder)
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("[!.]*") if p.is_file()}
    if others := present - set(files):
        raise FileExistsError(f"{folder} also holds {short(sorted(others))}: choose a new folder")
    for name, text in files.items():
        write_text(folder / name, text)
