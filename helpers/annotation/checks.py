"""What a program finds wrong in a VIA file, and the small blemishes that it can mend."""

import difflib
import math
import re
from dataclasses import replace
from os import PathLike
from reprlib import repr as short

import numpy as np

from helpers.annotation import via


def check(source, schema=None, sizes=None) -> list[via.Finding]:
    """Every problem of a VIA file (its path) or of a list of Picture, each cause once.

    `schema` is what `read_schema` returns; None skips the attributes. `sizes` is {file name:
    (width, height)} in pixels; None skips names and borders. Raises FileNotFoundError.
    """
    findings, borders = [], sizes or {}
    try:
        pictures = via.read_via(source) if isinstance(source, str | PathLike) else list(source)
    except via.AnnotationError as error:
        pictures, findings = error.pictures, error.findings
    if (factor := enlargement(pictures, borders)) > 1:
        problem = f"boxes reach up to {factor} times beyond their pictures, as in enlarged copies"
        fix = f"divide by their scale, say, via.rescale(pictures, 1 / {factor})"
        findings.append(via.Finding(pictures[0].filename, None, problem, fix))
        borders = {}
    pictures_by_name = {}
    for p in pictures:
        if sizes is not None and p.filename not in sizes:
            fix = "correct the name, or add the picture"
            findings.append(via.Finding(p.filename, p.row, "no picture of this name", fix))
        problems = _picture_problems(p, schema, borders.get(p.filename))
        findings += [via.Finding(p.filename, *problem) for problem in problems]
        if (first := pictures_by_name.setdefault(p.filename, p)) is not p:
            fix = f"merge it with row {first.row}"
            findings.append(via.Finding(p.filename, p.row, "picture listed twice", fix))
    return via.one_per_cause(findings)


def _picture_problems(p, schema, size):
    """Yield (row, problem, fix) and sometimes the cause."""
    if re.search('[",\r\n]', p.filename):
        yield p.row, "comma, quote or line break in the name breaks VIA's CSV", "rename the file"
    for problem in _value_problems(p.file_attributes, schema, "file"):
        yield p.row, *problem
    regions_by_shape = {}
    for r in p.regions:
        if problem := via.shape_problem(r.shape, size):
            yield r.row, *problem
        if (first := regions_by_shape.setdefault(str(r.shape), r)) is not r:
            problem = f"same region as in row {first.row}"
            yield r.row, problem, "delete one of them", "same region"
        for problem in _value_problems(r.attributes, schema, "region"):
            yield r.row, *problem


def _value_problems(values, schema, part):
    """Yield (problem, fix) for attribute values against a part of a schema."""
    specs = schema[part] if schema else {}
    for name in values if schema else ():
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
            for tick in via.ticks(value) if spec["type"] == "checkbox" else [value]:
                if not isinstance(tick, str) or tick not in options:
                    near = difflib.get_close_matches(str(tick)[:99].strip().lower(), options, 1)
                    fix = f"write {near[0]!r}" if near else listed
                    yield f"{name} {short(tick)} is no option", fix


def enlargement(pictures, sizes) -> int:
    """How many times larger than the pictures of `sizes` the annotated copies seem to have been.

    The smallest whole factor that holds all boxes, 1 unless most reach beyond their pictures.
    """
    reaches = []  # the farthest edge of a box, in widths or heights of its picture
    for p in [p for p in pictures if p.filename in sizes]:
        width, height = sizes[p.filename]
        sound = [r.shape for r in p.regions if not via.shape_problem(r.shape)]
        for x, y, w, h in map(via.bounding_box, sound):
            # a pixel of grace, for VIA draws as much over the border
            reaches.append(max((x + w - 1) / width, (y + h - 1) / height))
    farthest, beyond = max(reaches, default=0), sum(reach > 1 for reach in reaches)
    # sizes given as (height, width) by mistake explain 16 / 9
    return math.ceil(farthest) if farthest > 1.8 and 2 * beyond > len(reaches) else 1


def tidy(pictures, sizes=None, pixels=1) -> tuple[list[via.Picture], list[via.Finding]]:
    """The pictures without the small blemishes of other people's files, and what was changed.

    White space at the ends of attribute values goes. A rect that reaches up to `pixels` over the
    border of its picture is cut there (VIA writes x = -0.06 after a drag one screen pixel too
    long); the rest is left for `check` to find. `sizes` is {file name: (width, height)} in pixels;
    None cuts nothing.
    """
    result, changes = [], []
    for p in pictures:
        regions, size = [], (sizes or {}).get(p.filename)
        for r in p.regions:
            values = {k: v.strip() if isinstance(v, str) else v for k, v in r.attributes.items()}
            for name, old in r.attributes.items():
                if old != values[name]:
                    problem = f"{name} {short(old)} had white space at its ends"
                    changes.append(via.Finding(p.filename, r.row, problem, "done"))
            shape = _cut(r.shape, size, pixels) if size else r.shape
            if shape is not r.shape:
                problem = f"rect reached {via.overhang(r.shape, size):.2g} pixels over the border"
                changes.append(via.Finding(p.filename, r.row, problem, "done, cut there", "cut"))
            regions.append(replace(r, shape=shape, attributes=values))
        result.append(replace(p, regions=regions))
    return result, via.one_per_cause(changes)


def _cut(shape, size, pixels):
    """The shape, or a copy that ends at the border where a rect reached a little beyond."""
    is_rect = shape.get("name") == "rect" and not via.shape_problem(shape)
    if not is_rect or not 0 < via.overhang(shape, size) <= pixels:
        return shape
    x, y, w, h = via.bounding_box(shape)
    left, right = np.clip([x, x + w], 0, size[0]).tolist()
    top, bottom = np.clip([y, y + h], 0, size[1]).tolist()
    if left == right or top == bottom:  # wholly outside
        return shape
    cut = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    return {**shape, **{side: round(value, 3) for side, value in cut.items()}}
