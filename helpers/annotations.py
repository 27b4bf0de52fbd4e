"""VIA annotation records: read, write, check, compare; their boxes and masks.

A `Picture` holds any number of `Region`s, as in the VGG Image Annotator, VIA 2 (Dutta and
Zisserman 2019, https://www.robots.ox.ac.uk/~vgg/software/via/). A box is (x, y, width, height)
in pixels from the top left edge of the picture: x=5, width=6 covers the columns 5..10.
"""

import csv
import difflib
import io
import json
import math
import re
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from reprlib import repr as short
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from helpers.files import read_text, write_text

HEADER = (
    "filename,file_size,file_attributes,region_count,region_id,"
    "region_shape_attributes,region_attributes"
)
SHAPES = {
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),  # and sometimes theta, in radians
    "polygon": ("all_points_x", "all_points_y"),
    "polyline": ("all_points_x", "all_points_y"),
    "point": ("cx", "cy"),
}
CHOICES = ("dropdown", "radio", "image", "checkbox")
TOLERANCE = 1e-3  # pixels; VIA rounds to three decimals
DAMAGED = (LookupError, TypeError, AttributeError, ValueError, RecursionError, SyntaxError)
ENOUGH = 1000  # damaged rows after which a file is given up

csv.field_size_limit(2**31 - 1)  # a polygon may fill more than csv's 131,072 characters


@dataclass(frozen=True)
class Region:
    """One annotated region: VIA's two dicts, and its line in VIA's CSV export (the header is 1)."""

    shape: dict
    attributes: dict = field(default_factory=dict)
    row: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Picture:
    """One picture; `size` is its file size in bytes, -1 if unknown."""

    filename: str
    regions: list[Region] = field(default_factory=list)
    size: int | str = -1
    file_attributes: dict = field(default_factory=dict)
    row: int | None = field(default=None, compare=False)
    id_size: str | None = field(default=None, compare=False)  # VIA keeps an id when size changes

    @property
    def via_id(self) -> str:
        return f"{self.filename}{self.size if self.id_size is None else self.id_size}"


class Finding(NamedTuple):
    """One problem; `file` is the picture, or the annotation file where no picture is known."""

    file: str
    row: int | None
    problem: str
    fix: str

    def __str__(self):
        where = f"{self.file}, row {self.row}" if self.row else self.file
        return f"{where}: {self.problem}. Fix: {self.fix}."


class AnnotationError(ValueError):
    """Annotations that cannot be used; `findings` lists why, the message shows the first."""

    def __init__(self, *findings):
        self.findings = list(findings)
        more = f" ({len(findings) - 1} more in .findings)" if len(findings) > 1 else ""
        super().__init__(f"{findings[0]}{more}")


@contextmanager
def reading(path, kind):
    """Turn whatever a damaged file raises into one AnnotationError."""
    try:
        yield
    except DAMAGED as error:
        problem = f"no valid {kind} ({type(error).__name__}: {error})"
        fix = (
            "save it as UTF-8, or export it again"
            if isinstance(error, UnicodeError)
            else "export it again"
        )
        raise AnnotationError(Finding(Path(path).name, None, problem, fix)) from None


def parse(text) -> dict:
    """The JSON object that a text holds."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def to_json(value) -> str:
    """JSON as JavaScript writes it for VIA: compact, numbers of three decimals, 12.0 as 12.

    Raises ValueError for NaN and infinity.
    """
    return _encode(_plain(value))


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _plain(value):
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_via(path) -> list[Picture]:
    """Read what VIA 2 exports: CSV, annotation JSON or project JSON, told apart by content.

    Raises AnnotationError with every finding, FileNotFoundError for a missing file.
    """
    pictures, findings = _read(path)
    if findings:
        raise AnnotationError(*findings)
    return pictures


def _read(path):
    """(pictures, findings); raises AnnotationError where nothing can be read."""
    with reading(path, "VIA file"):
        name, text = Path(path).name, read_text(path)
        if text.lstrip()[0] not in "{[":
            return _from_csv(name, text)
        entries = parse(text)
        return _from_json(name, entries.get("_via_img_metadata", entries))


def _from_csv(name, text):
    lines = (line.rstrip("\n") for line in io.StringIO(text))
    if (header := next(lines)) != HEADER:
        here, there = header.split(","), HEADER.split(",")
        wrong = [c for c in here if c not in there] or [c for c in there if c not in here]
        raise ValueError(f"unknown or missing columns {short(wrong)}; line 1 must be {HEADER}")
    pictures, findings = {}, []
    for row, line in enumerate(lines, 2):
        if not line:
            continue
        try:
            filename, size, about, shape, attributes = _csv_row(line)
        except (ValueError, RecursionError) as error:
            problem = f"damaged row, not seven columns, three of them JSON ({error})"
            fix = "write the Python dict by json.dumps" if "{'" in line else "export it again"
            findings.append(Finding(name, row, problem, fix))
            if len(findings) == ENOUGH:
                break
            continue
        picture = pictures.setdefault((filename, size), Picture(filename, size=size, row=row))
        picture.file_attributes.update(about)
        if shape or attributes:  # the row of a picture without regions has neither
            picture.regions.append(Region(shape, attributes, row))
    return list(pictures.values()), findings


def _csv_row(line):
    # VIA does not quote file names, so one with commas fills several cells.
    name, *rest, size, about, _, _, shape, attributes = next(csv.reader([line]))
    size = int(size) if re.fullmatch("-?[0-9]{1,15}", size) else size
    return ",".join([name, *rest]), size, *map(parse, (about, shape, attributes))


def _from_json(name, entries):
    pictures, findings, row = [], [], 2
    for key, entry in entries.items():
        try:
            filename, size, about = entry["filename"], entry["size"], entry["file_attributes"]
            regions = [
                Region(r["shape_attributes"], r["region_attributes"], row + i)
                for i, r in enumerate(entry["regions"])
            ]
            dicts = [about, *(d for r in regions for d in (r.shape, r.attributes))]
            if not isinstance(size, int | str) or not all(isinstance(d, dict) for d in dicts):
                raise TypeError("a value has the wrong type")
            if not key.startswith(filename):
                raise ValueError("its key must be file name + size")
        except (KeyError, TypeError, ValueError) as error:
            problem = f"entry {short(key)} is no picture of VIA ({type(error).__name__}: {error})"
            findings.append(Finding(name, None, problem, "export it from VIA 2"))
            continue
        pictures.append(Picture(filename, regions, size, about, row, key.removeprefix(filename)))
        row += max(len(regions), 1)
    return pictures, findings


def read_schema(path) -> dict:
    """Read VIA's attributes file, or the attributes of a VIA project.

    Returns:
        {"region": {name: {"type": ..., "options": {id: text}, ...}, ...}, "file": {...}}; types are
        text, dropdown, radio, image, checkbox.

    Raises AnnotationError for damaged content, FileNotFoundError for a missing file.
    """
    with reading(path, "file of VIA attributes"):
        schema = parse(read_text(path))
        schema = schema.get("_via_attributes", schema)
        for name, spec in [*schema["region"].items(), *schema["file"].items()]:
            choice = spec["type"] in CHOICES and isinstance(spec["options"], dict)
            if spec["type"] != "text" and not choice:
                raise ValueError(f"attribute {name!r} needs a type of VIA and its options")
    return schema


def write_via_csv(pictures, path) -> None:
    """Write a CSV byte for byte as VIA does.

    Raises ValueError for NaN, OSError (of the disk's own kind, such as IsADirectoryError or
    NotADirectoryError) where `path` cannot be written; a file that was there stays as it was.
    """

    def cell(value):
        return '"' + to_json(value).replace('"', '""') + '"'

    lines = [HEADER]
    for p in pictures:
        start = f"{p.filename},{p.size},{cell(p.file_attributes)},{len(p.regions)}"
        lines += [
            f"{start},{i},{cell(r.shape)},{cell(r.attributes)}" for i, r in enumerate(p.regions)
        ] or [f'{start},0,"{{}}","{{}}"']
    write_text(path, "\n".join(lines))


def write_via_json(pictures, path) -> None:
    """Write VIA's annotation JSON. Raises ValueError for NaN or a picture listed twice."""
    write_text(path, to_json(_metadata(pictures)))


def write_via_project(pictures, path, schema, settings=None) -> None:
    """Write a VIA project, which keeps attribute types.

    `schema` is what `read_schema` returns; `settings` the "_via_settings" of an earlier project,
    by default only a name, for VIA adds the rest. Raises ValueError for NaN or a picture listed
    twice.
    """
    project = {
        "_via_settings": settings or {"project": {"name": Path(path).stem}},
        "_via_img_metadata": _metadata(pictures),
        "_via_attributes": schema,
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": [p.via_id for p in pictures],
    }
    write_text(path, to_json(project))


def _metadata(pictures):
    entries = {}
    for p in pictures:
        if p.via_id in entries:
            raise ValueError(f"two pictures have the id {p.via_id!r}: merge their regions")
        entries[p.via_id] = {
            "filename": p.filename,
            "size": p.size,
            "regions": [
                {"shape_attributes": r.shape, "region_attributes": r.attributes} for r in p.regions
            ],
            "file_attributes": p.file_attributes,
        }
    return entries


def bounding_box(shape) -> tuple:
    """The upright box (x, y, width, height) in pixels around a VIA shape; a point has no area.

    Raises ValueError for an unknown shape or a coordinate that is no finite number.
    """
    if problem := _shape_problem(shape):
        raise ValueError(": ".join(problem))
    return _box(shape)


def _box(shape):
    kind = shape["name"]
    if kind == "rect":
        return tuple(shape[k] for k in SHAPES["rect"])
    if "poly" in kind:
        xs, ys = shape["all_points_x"], shape["all_points_y"]
        return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
    rx = ry = shape.get("r", 0)
    if kind == "ellipse":
        rx, ry = shape["rx"], shape["ry"]
        if theta := shape.get("theta"):
            c, s = math.cos(theta), math.sin(theta)
            rx, ry = math.hypot(rx * c, ry * s), math.hypot(rx * s, ry * c)
    return shape["cx"] - rx, shape["cy"] - ry, 2 * rx, 2 * ry


def boxes(pictures) -> np.ndarray:
    """The boxes of all regions in order: float64 (n, 4) of x, y, width, height in pixels.

    Raises ValueError for a broken shape.
    """
    found = [bounding_box(r.shape) for p in pictures for r in p.regions]
    return np.array(found, float).reshape(-1, 4)


def from_boxes(names, boxes, attributes=()) -> list[Picture]:
    """Pictures of one rect each: file names, boxes (n, 4) in pixels, and a dict of attributes each.

    Raises ValueError for lists that are not equally long.
    """
    attributes = attributes or [{} for _ in names]
    rects = (dict(zip(SHAPES["rect"], np.asarray(box).tolist(), strict=True)) for box in boxes)
    return [
        Picture(name, [Region({"name": "rect", **rect}, values)])
        for name, rect, values in zip(names, rects, attributes, strict=True)
    ]


def rescale(pictures, factor) -> list[Picture]:
    """The pictures with all coordinates and lengths times `factor`, to VIA's three decimals.

    Raises ValueError for a factor that is no number above 0.
    """
    if not _number(factor) or factor <= 0:
        raise ValueError(f"factor = {factor!r}: a number above 0 is needed.")

    def scaled(key, value):
        if key in ("name", "theta"):
            return value
        if isinstance(value, (list, tuple)):
            return [scaled(key, v) for v in value]
        return round(value * factor, 3)

    def region(r):
        return replace(r, shape={k: scaled(k, v) for k, v in r.shape.items()})

    return [replace(p, regions=list(map(region, p.regions))) for p in pictures]


def masks(pictures, size) -> np.ndarray:
    """One mask per picture, true for pixels whose centre lies in a box: bool (n, height, width).

    `size` is (width, height) in pixels. Raises ValueError for a broken shape.
    """
    xs, ys = np.arange(size[0]) + 0.5, np.arange(size[1])[:, None] + 0.5
    result = np.zeros((len(pictures), size[1], size[0]), bool)
    for mask, picture in zip(result, pictures):
        for x, y, w, h in boxes([picture]):
            mask |= (xs >= x) & (xs < x + w) & (ys >= y) & (ys < y + h)
    return result


def iou(boxes_a, boxes_b) -> np.ndarray:
    """Intersection over union of every pair: boxes (n, 4) and (m, 4) give float64 (n, m).

    Boxes are x, y, width, height in one unit; two boxes without area have IoU 0. Raises ValueError
    for another shape, NaN, infinity or a negative width or height.
    """
    a, b = (np.asarray(v, float) for v in (boxes_a, boxes_b))
    for v in (a, b):
        if v.size and (v.shape[1:] != (4,) or not np.isfinite(v).all() or v[:, 2:].min() < 0):
            raise ValueError(
                f"boxes {v.shape} must be (n, 4), without NaN, infinity or negative width, height."
            )
    a, b = a.reshape(-1, 4), b.reshape(-1, 4)  # [] is (0,)
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], b[:, :2] + b[:, 2:])
    inter = np.clip(high - low, 0, None).prod(2)
    union = a[:, 2:].prod(1)[:, None] + b[:, 2:].prod(1) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def check(source, schema=None, sizes=None) -> list[Finding]:
    """Every problem of a VIA file or of pictures, in one pass.

    Args:
        source: path of the file, or a list of Picture.
        schema: see `read_schema`; None skips the attributes.
        sizes: {file name: (width, height)} in pixels; None skips names and borders.

    Returns:
        Findings, empty if all is well.

    Raises FileNotFoundError, and ValueError for a `schema` or `sizes` that are none.
    """
    if schema and not isinstance(schema, dict):
        raise ValueError(f"schema is {short(schema)}, not what read_schema returns.")
    for name, size in (sizes or {}).items():
        if np.shape(size) != (2,) or not all(_number(v) and v > 0 for v in size):
            raise ValueError(f"{name!r} has size {size!r}: give (width, height), both positive")
    try:
        pictures, findings = (source, []) if isinstance(source, list) else _read(source)
    except AnnotationError as error:
        return error.findings
    seen = {}
    for p in pictures:
        findings += [Finding(p.filename, *found) for found in _picture_problems(p, schema, sizes)]
        if (first := seen.setdefault(p.filename, p)) is not p:
            fix = f"merge it with row {first.row}"
            findings.append(Finding(p.filename, p.row, "picture listed twice", fix))
    return findings


def _picture_problems(p, schema, sizes):
    """Yield (row, problem, fix)."""
    if sizes is not None and p.filename not in sizes:
        yield p.row, "no picture of this name", "correct the name, or add the picture"
    if re.search("[,\r\n]", p.filename):
        yield p.row, "comma or line break in the file name breaks VIA's CSV", "rename the file"
    if not re.fullmatch("-1|[0-9]+", str(p.size)):
        yield p.row, f"file size {short(p.size)} is no number of bytes", "correct it, or write -1"
    if schema:
        yield from ((p.row, *f) for f in _value_problems(p.file_attributes, schema["file"]))
    seen = {}
    for r in p.regions:
        if found := _shape_problem(r.shape, sizes and sizes.get(p.filename)):
            yield r.row, *found
        if (first := seen.setdefault(str(r.shape), r)) is not r:
            yield r.row, f"same region as in row {first.row}", "delete one of them"
        if schema:
            yield from ((r.row, *f) for f in _value_problems(r.attributes, schema["region"]))


def _number(value):
    return isinstance(value, (int, float, np.number)) and abs(value) < 1e9  # false for NaN


def _shape_problem(shape, size=None):
    """(problem, fix) of a shape in a picture of `size`, or None."""
    again = "draw the region again"
    kind = shape.get("name")
    if not isinstance(kind, str) or kind not in SHAPES:
        return f"shape {short(kind)} is unknown", f"use one of {', '.join(SHAPES)}"
    for key in [*SHAPES[kind], *({"theta"} & shape.keys())]:
        value = shape.get(key)
        values = [value]
        if "poly" in kind:
            values = value if isinstance(value, (list, tuple)) else []
        if not values or not all(map(_number, values)):
            return f"{key} is {short(value)}, not finite numbers", again
        if key in ("width", "height", "r", "rx", "ry") and value < 0:
            return f"{key} is negative ({value})", again
    if "poly" in kind and len(shape["all_points_x"]) != len(shape["all_points_y"]):
        return "all_points_x and all_points_y differ in length", again
    if size:
        x, y, w, h = _box(shape)
        if min(x, y, size[0] - x - w, size[1] - y - h) < -TOLERANCE:
            box = f"box x {x:g}..{x + w:g}, y {y:g}..{y + h:g}"
            outside = f"{box} reaches outside the picture ({size[0]} x {size[1]})"
            return outside, "move its border into the picture"
    return None


def _value_problems(values, specs):
    """Yield (problem, fix) for attribute values against the specifications of a schema."""
    for name in values:
        if name not in specs:
            yield f"attribute {short(name)} is not in the schema", "remove or rename it"
    for name, spec in specs.items():
        value, options = values.get(name), spec.get("options", {})
        listed = f"choose from {', '.join(options)}"
        if spec["type"] == "text":
            if not isinstance(value, str | None):
                yield f"{name} is {short(value)}, not text", "write text"
        elif value is None or value == "":
            yield f"{name} is missing", listed
        elif spec["type"] == "checkbox" and not isinstance(value, dict):
            yield f"{name} is {short(value)}, not a checkbox", 'write {"option": true}, or {}'
        else:
            ticked = _ticks(value) if spec["type"] == "checkbox" else [value]
            for tick in ticked:
                if not isinstance(tick, str) or tick not in options:
                    near = difflib.get_close_matches(str(tick)[:99].strip().lower(), options, 1)
                    fix = f"write {near[0]!r}" if near else listed
                    yield f"{name} {short(tick)} is no option", fix


def _ticks(value):
    return sorted(option for option, on in value.items() if on)


@dataclass(frozen=True)
class Agreement:
    """Two annotators compared; attributes over the matched pairs, NaN where there are none."""

    pairs: list  # (file name, Region of a, Region of b, IoU)
    only_a: list  # (file name, Region) without a partner
    only_b: list
    mean_iou: float
    same: dict  # attribute -> share of pairs with equal values
    kappa: dict  # attribute -> Cohen's kappa


def compare(a, b, gate=0.5) -> Agreement:
    """Compare two annotators, lists of Picture, by file name.

    Boxes of a picture are matched one to one for the largest sum of IoU (Hungarian method, Kuhn
    1955), pairs below `gate` never. A checkbox counts as the set of its ticks, a missing value as
    unticked. Raises ValueError for a broken shape, or for anything but lists.
    """
    sides = {}
    for side, pictures in enumerate((a, b)):
        if not isinstance(pictures, list):
            raise ValueError(f"{short(pictures)} is no list of Picture, as read_via returns it.")
        for p in pictures:
            sides.setdefault(p.filename, ([], []))[side].extend(p.regions)
    pairs, only_a, only_b = [], [], []
    for name, (of_a, of_b) in sides.items():
        overlap = iou(*([bounding_box(r.shape) for r in side] for side in (of_a, of_b)))
        overlap[overlap < gate] = 0  # or such a pair could push out a good one
        matched = [(i, j) for i, j in zip(*linear_sum_assignment(-overlap)) if overlap[i, j]]
        pairs += [(name, of_a[i], of_b[j], float(overlap[i, j])) for i, j in matched]
        used_a, used_b = {i for i, _ in matched}, {j for _, j in matched}
        only_a += [(name, r) for i, r in enumerate(of_a) if i not in used_a]
        only_b += [(name, r) for j, r in enumerate(of_b) if j not in used_b]
    same, kappa = {}, {}
    for name in dict.fromkeys(n for _, r, s, _ in pairs for n in [*r.attributes, *s.attributes]):
        u, v = ([_category(pair[k].attributes.get(name)) for pair in pairs] for k in (1, 2))
        same[name], kappa[name] = float(np.mean(np.equal(u, v))), cohen_kappa(u, v)
    mean_iou = float(np.mean([pair[3] for pair in pairs])) if pairs else math.nan
    return Agreement(pairs, only_a, only_b, mean_iou, same, kappa)


def _category(value):
    if isinstance(value, dict):
        return "+".join(_ticks(value))
    return "" if value is None else str(value)


def cohen_kappa(a, b) -> float:
    """Cohen's kappa of two equally long lists of labels (Cohen 1960, 10.1177/001316446002000104).

    NaN where it is undefined: for empty lists, or one constant label on both sides. Raises
    ValueError for lists that are not equally long.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} labels: the lists must be equally long.")
    a, b = np.asarray(a, str), np.asarray(b, str)
    chance = sum(np.mean(a == c) * np.mean(b == c) for c in {*a, *b})
    return float((np.mean(a == b) - chance) / (1 - chance)) if len(a) and chance < 1 else math.nan
