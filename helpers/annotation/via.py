"""Read and write the records of the VGG Image Annotator, VIA 2, byte for byte as its page does.

Dutta and Zisserman 2019, https://www.robots.ox.ac.uk/~vgg/software/via/. A box is (x, y, width,
height) in pixels from the top left edge of the picture: x=5, width=6 covers the columns 5..10.
Raises AnnotationError for damage, FileNotFoundError, OSError such as IsADirectoryError.
"""

import csv
import re
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from reprlib import repr as short
from typing import NamedTuple
from xml.etree.ElementTree import ParseError

import numpy as np
from yaml import YAMLError

from helpers.files import member, parse_json, read_text, to_json, write_text

COLUMNS = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
COLUMNS += ["region_shape_attributes", "region_attributes"]
HEADER = ",".join(COLUMNS)
SHAPES = {
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),  # and sometimes theta, in radians
    "polygon": ("all_points_x", "all_points_y"),
    "polyline": ("all_points_x", "all_points_y"),
    "point": ("cx", "cy"),
}
NOTHING = {"nothing_to_draw": {"yes": True}}  # file attributes of a picture seen to be empty
DAMAGED = (ValueError, RecursionError, csv.Error, ParseError, YAMLError)  # of damaged text

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

    @property
    def nothing(self) -> bool:
        """Looked at, and there is nothing to draw: NOTHING is ticked, or a text says so."""
        value = self.file_attributes.get(*NOTHING)
        values = value.values() if isinstance(value, dict) else [value]
        return any(str(value).lower() in ("yes", "true", "1") for value in values)

    @property
    def seen(self) -> bool:
        """False for a picture that nobody has looked at yet."""
        return self.nothing or bool(self.regions)


class Finding(NamedTuple):
    """One problem; `file` is the picture, or the annotation file where no picture is known."""

    file: str
    row: int | None
    problem: str
    fix: str
    more: int = 0  # other places with the same problem, but for its numbers

    def __str__(self):
        place = f"{self.file}, row {self.row}" if self.row else self.file
        more = f" (and {self.more:,} more)" if self.more else ""
        return f"{place}: {self.problem}{more}. Fix: {self.fix}."


def one_per_cause(findings) -> list[Finding]:
    """The first finding of every cause, with the number of the others."""
    causes = {}
    for f in findings:  # positions do not tell causes apart; names and labels, in quotes, do
        cause = re.sub(r"""('[^']*'|"[^"]*")|-?\b\d[\d.]*""", r"\1", f.problem + f.fix)
        causes.setdefault(cause, []).append(f)
    return [same[0]._replace(more=sum(f.more + 1 for f in same) - 1) for same in causes.values()]


class AnnotationError(ValueError):
    """Every cause in `findings`, the first in the message, what could be read in `pictures`."""

    def __init__(self, *findings, pictures=()):
        self.findings, self.pictures = one_per_cause(findings), list(pictures)
        first, *others = self.findings
        super().__init__(f"{first} ({len(others)} more in .findings)" if others else str(first))


@contextmanager
def reading(path, kind):
    """Turn what a damaged file raises into an AnnotationError."""
    try:
        yield
    except AnnotationError:
        raise
    except DAMAGED as error:
        problem = f"no valid {kind} ({type(error).__name__}: {' '.join(str(error).split())})"
        fix = "export it again; unpack a zip; from a spreadsheet, save it as UTF-8 CSV with commas"
        raise AnnotationError(Finding(Path(path).name, None, problem, fix)) from error


def read_via(path) -> list[Picture]:
    """Read what VIA 1 and 2 export, CSV or JSON; a spreadsheet may have saved the CSV."""
    with reading(path, "VIA file"):
        text = read_text(path)
        return _from_json(text) if text.lstrip()[0] in "{[" else _from_csv(Path(path).name, text)


def _from_csv(name, text):
    header, *lines = text.removeprefix("#").split("\n")  # of VIA 1
    delimiter = next((d for d in ",;\t" if _cells(header, d) == COLUMNS), None)
    if delimiter is None:
        raise ValueError(f"unknown or missing columns: line 1 must be {HEADER}")
    pictures, findings = {}, []
    for row, line in enumerate(lines, 2):
        if not line.strip(f"{delimiter} "):
            continue
        try:
            filename, size, about, shape, attributes = _csv_row(line, delimiter)
        except DAMAGED as error:
            fix = "write the Python dict by json.dumps" if "{'" in line else "export again as JSON"
            findings.append(Finding(name, row, f"damaged row, {error}", fix))
            continue
        picture = pictures.setdefault((filename, size), Picture(filename, size=size, row=row))
        picture.file_attributes.update(about)
        if shape or attributes:  # the row of a picture without regions has neither
            picture.regions.append(Region(shape, attributes, row))
    if findings:
        raise AnnotationError(*findings, pictures=pictures.values())
    return list(pictures.values())


def _cells(line, delimiter):
    line = line.rstrip(delimiter)  # empty columns of a spreadsheet
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error:  # VIA does not double the quotes of a name: "a".png needs a letter before it
        first, *others = next(csv.reader([f"x{line}"], delimiter=delimiter))
        return [first[1:], *others]


def _csv_row(line, delimiter=","):
    cells = _cells(line, delimiter)
    if len(cells) < len(COLUMNS):
        raise ValueError(f"{len(cells)} columns, not {len(COLUMNS)}")
    # VIA does not quote file names, so one with commas fills several cells
    *name, size, about, _, _, shape, attributes = cells
    size = int(size) if re.fullmatch("-?[0-9]{1,15}", size) else size
    dicts = map(_parse_cell, (COLUMNS[2], *COLUMNS[5:]), (about, shape, attributes))
    return delimiter.join(name), size, *dicts


def _parse_cell(column, text):
    # VIA's CSV holds "undefined", no JSON, for an attribute left open. A string without an end
    # matches up to the end, so that no place is looked at twice.
    plain = re.sub(r'("(?:[^"\\]|\\.)*"?)|\bundefined\b', lambda m: m[1] or "null", text)
    try:
        values = parse_json(plain)
    except DAMAGED as error:
        raise ValueError(f"{column} is no JSON ({error})") from error
    return values if plain == text else {k: v for k, v in values.items() if v is not None}


def _from_json(text):
    pictures, row, entries = [], 2, parse_json(text)
    for key, entry in member(entries, "_via_img_metadata", dict, entries).items():
        try:
            about = member(entry, "file_attributes", dict, {})
            size = member(entry, "size", int | str, -1)
            regions = member(entry, "regions", list | dict, [])
            regions = list(regions.values()) if isinstance(regions, dict) else regions  # of VIA 1
            shapes = [member(r, "shape_attributes", dict) for r in regions]
            values = [member(r, "region_attributes", dict, {}) for r in regions]
            regions = list(map(Region, shapes, values, range(row, row + len(shapes))))
            pictures.append(Picture(member(entry, "filename", str), regions, size, about, row))
        except ValueError as error:
            raise ValueError(f"entry {short(key)} is no picture of VIA: {error}") from error
        row += max(len(regions), 1)
    return pictures


def read_schema(path) -> dict:
    """{"region": {name: {"type": ..., "options": {id: text}}}, "file": ...}, also of a project."""
    with reading(path, "file of VIA attributes"):
        schema = parse_json(read_text(path))
        schema = schema.get("_via_attributes", schema)
        for spec in [s for part in ("region", "file") for s in member(schema, part, dict).values()]:
            if member(spec, "type", str) != "text":
                member(spec, "options", dict)
    return schema


def write_via_csv(pictures, path) -> None:
    """Write a CSV as VIA does; ValueError for NaN, or a file name that would be read as another."""
    lines = [HEADER]
    for p in pictures:
        for i, r in enumerate(p.regions or [Region({})]):
            texts = map(to_json, (p.file_attributes, r.shape, r.attributes))
            about, *both = ('"' + text.replace('"', '""') + '"' for text in texts)
            lines.append(",".join([p.filename, f"{p.size},{about},{len(p.regions)},{i}", *both]))
        broken = re.search("[\r\n\ud800-\udfff]", p.filename)
        if broken or ('"' in p.filename and _csv_row(lines[-1])[0] != p.filename):
            raise ValueError(f"VIA's CSV cannot hold the file name {p.filename!r}: rename the file")
    write_text(path, "\n".join(lines))


def write_via_project(pictures, path, schema) -> None:
    """Write a VIA project; `schema` as of `read_schema`; ValueError for NaN or a picture twice."""
    metadata = {}
    for p in pictures:
        keys = "shape_attributes", "region_attributes"
        regions = [dict(zip(keys, (r.shape, r.attributes))) for r in p.regions]
        entry = {"filename": p.filename, "size": p.size, "regions": regions}
        metadata[f"{p.filename}{p.size}"] = {**entry, "file_attributes": p.file_attributes}
    if len(metadata) < len(pictures):
        raise ValueError("a picture is listed twice: merge its regions")
    project = {
        "_via_settings": {"project": {"name": Path(path).stem}},  # VIA adds the rest
        "_via_img_metadata": metadata,
        "_via_attributes": schema,
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(metadata),
    }
    write_text(path, to_json(project))


def bounding_box(shape) -> tuple:
    """The upright box (x, y, width, height) around a VIA shape; ValueError for a broken one."""
    if problem := shape_problem(shape):
        raise ValueError(": ".join(problem))
    kind = shape["name"]
    if kind == "rect":
        return tuple(shape[k] for k in SHAPES["rect"])
    if "poly" in kind:
        xs, ys = shape["all_points_x"], shape["all_points_y"]
        return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
    rx, ry = (shape.get(k, shape.get("r", 0)) for k in ("rx", "ry"))
    c, s = np.cos(shape.get("theta", 0)), np.sin(shape.get("theta", 0))
    rx, ry = np.hypot(rx * c, ry * s), np.hypot(rx * s, ry * c)
    return shape["cx"] - rx, shape["cy"] - ry, 2 * rx, 2 * ry


def boxes(pictures) -> np.ndarray:
    """All boxes in order, float64 (n, 4), in pixels; AnnotationError for broken shapes."""
    regions = [(p.filename, r) for p in pictures for r in p.regions]
    if findings := [Finding(n, r.row, *p) for n, r in regions if (p := shape_problem(r.shape))]:
        raise AnnotationError(*findings)
    return np.array([bounding_box(r.shape) for _, r in regions], float).reshape(-1, 4)


def rect(box) -> dict:
    """The VIA shape of a box; ValueError for other than four numbers."""
    return {"name": "rect"} | dict(zip(SHAPES["rect"], box, strict=True))


def from_boxes(names, boxes, attributes=()) -> list[Picture]:
    """Pictures of one rect each, of file names, boxes (n, 4) in pixels, and dicts of attributes."""
    if len(names) != len(boxes) or any(np.shape(box) != (4,) for box in boxes):
        raise ValueError("Give one box (x, y, width, height) per name.")
    rects = (rect(np.asarray(box).tolist()) for box in boxes)
    regions = map(Region, rects, attributes or [{} for _ in names])
    return [Picture(name, [region]) for name, region in zip(names, regions, strict=True)]


def rescale(pictures, factor) -> list[Picture]:
    """The pictures with all lengths times `factor`, to VIA's three decimals."""
    boxes(pictures)  # raises for broken shapes

    def region(r):
        lengths = {k: r.shape[k] for k in SHAPES[r.shape["name"]]}  # without theta, an angle
        scaled = {k: np.round(np.multiply(v, factor), 3).tolist() for k, v in lengths.items()}
        return replace(r, shape={**r.shape, **scaled})

    return [replace(p, regions=[region(r) for r in p.regions]) for p in pictures]


def overhang(shape, size):
    """How many pixels a shape reaches beyond a picture of `size` (width, height)."""
    x, y, w, h = bounding_box(shape)
    return max(-x, -y, x + w - size[0], y + h - size[1])


def _is_number(value):
    return isinstance(value, int | float | np.number) and abs(value) < 1e9  # false for NaN


def shape_problem(shape, size=None):
    """(problem, fix) of a shape in a picture of `size` (width, height), or None."""
    again, kind = "draw the region again", shape.get("name")
    if not isinstance(kind, str) or kind not in SHAPES:
        return f"shape {short(kind)} is unknown", again
    for key in [*SHAPES[kind], *({"theta"} & shape.keys())]:
        value = shape.get(key)
        values = value if "poly" in kind else [value]
        if not isinstance(values, list | tuple) or not values or not all(map(_is_number, values)):
            return f"{key} is {short(value)}, not finite numbers", again
        if key in ("width", "height", "r", "rx", "ry") and value < 0:
            return f"{key} is negative ({value})", again
    if "poly" in kind and len(shape["all_points_x"]) != len(shape["all_points_y"]):
        return "all_points_x and all_points_y differ in length", again
    if size and overhang(shape, size) > 1e-3:  # VIA rounds to three decimals
        x, y, w, h = bounding_box(shape)
        where = f"box x {x:g}..{x + w:g}, y {y:g}..{y + h:g} reaches outside the picture"
        return f"{where} ({size[0]} x {size[1]})", "move its border into the picture"
    return None


def ticks(checkbox) -> list[str]:
    """The options that are ticked, in alphabetical order."""
    return sorted(option for option, on in checkbox.items() if on)
