"""What a program finds wrong in a VIA file, and the small blemishes that it can mend."""

import difflib
import math
import re
from dataclasses import replace
from os import PathLike
from reprlib import repr as short

import numpy as np

from helpers.annotation.via import (
    SHAPES,
    AnnotationError,
    Finding,
    Picture,
    as_pictures,
    box_of,
    is_number,
    one_per_cause,
    overhang,
    read_with_findings,
    shape_problem,
    ticks,
)


def check(source, schema=None, sizes=None) -> list[Finding]:
    """Every problem of a VIA file or of pictures, in one pass, each cause once.

    Args:
        source: path of the file, or a list of Picture.
        schema: see `read_schema`; None skips the attributes.
        sizes: {file name: (width, height)} in pixels; None skips names and borders.

    Returns:
        Findings, empty if all is well.

    Raises FileNotFoundError, and ValueError for pictures, a `schema` or `sizes` that are none.
    """
    if schema and not isinstance(schema, dict):
        raise ValueError(f"schema is {short(schema)}, not what read_schema returns.")
    for name, size in (sizes or {}).items():
        if np.shape(size) != (2,) or not all(is_number(v) and v > 0 for v in size):
            raise ValueError(f"{name!r} has size {size!r}: give (width, height), both positive")
    borders = sizes or {}
    try:
        is_path = isinstance(source, str | PathLike)
        pictures, findings = read_with_findings(source) if is_path else (as_pictures(source), [])
    except AnnotationError as error:
        return error.findings
    if (factor := enlargement(pictures, borders)) > 1:
        problem = f"boxes reach up to {factor} times beyond their pictures, as in enlarged copies"
        fix = f"divide by their scale, say, via.rescale(pictures, 1 / {factor})"
        findings.append(Finding(pictures[0].filename, None, problem, fix))
        borders = {}
    seen = {}
    for p in pictures:
        if sizes is not None and p.filename not in sizes:
            fix = "correct the name, or add the picture"
            findings.append(Finding(p.filename, p.row, "no picture of this name", fix))
        found = _picture_problems(p, schema, borders.get(p.filename))
        findings += [Finding(p.filename, *one) for one in found]
        if (first := seen.setdefault(p.filename, p)) is not p:
            fix = f"merge it with row {first.row}"
            findings.append(Finding(p.filename, p.row, "picture listed twice", fix))
    return one_per_cause(findings)


def _picture_problems(p, schema, size):
    """Yield (row, problem, fix)."""
    if re.search("[,\r\n]", p.filename):
        yield p.row, "comma or line break in the file name breaks VIA's CSV", "rename the file"
    if not re.fullmatch("-1|[0-9]+", str(p.size)):
        yield p.row, f"file size {short(p.size)} is no number of bytes", "correct it, or write -1"
    if schema:
        yield from ((p.row, *f) for f in _value_problems(p.file_attributes, schema["file"]))
    seen = {}
    for r in p.regions:
        if found := shape_problem(r.shape, size):
            yield r.row, *found
        if (first := seen.setdefault(str(r.shape), r)) is not r:
            yield r.row, f"same region as in row {first.row}", "delete one of them"
        if schema:
            yield from ((r.row, *f) for f in _value_problems(r.attributes, schema["region"]))


def enlargement(pictures, sizes) -> int:
    """How many times larger than the pictures of `sizes` the annotated copies seem to have been.

    The smallest whole factor that holds all boxes, if most boxes reach beyond their pictures; the
    true factor can be larger. 1 where the boxes fit, but for a few.
    """
    reaches = []  # the farthest edge of a box, in widths or heights of its picture
    for p in [p for p in pictures if p.filename in sizes]:
        width, height = sizes[p.filename]
        found = [box_of(r.shape) for r in p.regions if not shape_problem(r.shape)]
        # a pixel of grace, for VIA draws as much over the border
        reaches += [max((x + w - 1) / width, (y + h - 1) / height) for x, y, w, h in found]
    farthest, beyond = max(reaches, default=0), sum(reach > 1 for reach in reaches)
    # sizes given as (height, width) by mistake explain 16 / 9
    return math.ceil(farthest) if farthest > 1.8 and 2 * beyond > len(reaches) else 1


def tidy(pictures, sizes=None, pixels=1) -> tuple[list[Picture], list[Finding]]:
    """The pictures without the small blemishes of other people's files, and what was changed.

    White space at the ends of attribute values goes. A rect, polygon, polyline or point that
    reaches up to `pixels` over the border of its picture is cut there (VIA writes x = -0.06 after
    a drag one screen pixel too long); the rest is left for `check` to find. `sizes` is {file name:
    (width, height)} in pixels; None cuts nothing.
    """
    result, changes = [], []
    for p in pictures:
        regions, size = [], (sizes or {}).get(p.filename)
        for r in p.regions:
            values = {k: v.strip() if isinstance(v, str) else v for k, v in r.attributes.items()}
            shape = _cut(r.shape, size, pixels) if size else r.shape
            changes += [
                Finding(p.filename, r.row, f"{k} {short(old)} had white space at its ends", "done")
                for k, old in r.attributes.items()
                if old != values[k]
            ]
            if shape is not r.shape:
                far = f"{overhang(r.shape, size):.2g} pixels"
                problem = f"{shape['name']} reached {far} over the border"
                changes.append(Finding(p.filename, r.row, problem, "done, cut there"))
            regions.append(replace(r, shape=shape, attributes=values))
        result.append(replace(p, regions=regions))
    return result, one_per_cause(changes)


def _cut(shape, size, pixels):
    """The shape, or a copy that ends at the border where it reached a little beyond."""
    if shape_problem(shape) or not 0 < overhang(shape, size) <= pixels:
        return shape

    def into(values, limit):
        return [round(min(max(v, 0), limit), 3) for v in values]

    (x, y, w, h), (width, height) = box_of(shape), size
    (left, right), (top, bottom) = into((x, x + w), width), into((y, y + h), height)
    if shape["name"] == "rect" and left < right and top < bottom:
        sides = left, top, round(right - left, 3), round(bottom - top, 3)
        return {**shape, **dict(zip(SHAPES["rect"], sides))}
    if shape["name"] == "point":
        return {**shape, "cx": left, "cy": top}
    if "poly" in shape["name"]:
        xs, ys = shape["all_points_x"], shape["all_points_y"]
        return {**shape, "all_points_x": into(xs, width), "all_points_y": into(ys, height)}
    return shape  # wholly outside; or a circle or ellipse, which cut is none


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
            for tick in ticks(value) if spec["type"] == "checkbox" else [value]:
                if not isinstance(tick, str) or tick not in options:
                    near = difflib.get_close_matches(str(tick)[:99].strip().lower(), options, 1)
                    fix = f"write {near[0]!r}" if near else listed
                    yield f"{name} {short(tick)} is no option", fix
