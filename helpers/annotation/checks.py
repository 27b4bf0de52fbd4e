"""What a program finds wrong in a VIA file, and the small blemishes that it can mend."""

import difflib
import re
from dataclasses import replace
from reprlib import repr as short

import numpy as np

from helpers.annotation import via


def check(source, schema=None, sizes=None) -> list[via.Finding]:
    """Every problem of a VIA file (its path) or of a list of Picture, each cause once.

    `schema` as of `read_schema`; `sizes` {file name: (width, height)} in pixels, for borders.
    """
    findings, borders, firsts, rest = [], sizes or {}, {}, sizes or {}
    try:
        pictures = source if isinstance(source, list) else via.read_via(source)
    except via.AnnotationError as error:
        pictures, findings, rest = error.pictures, error.findings, {}
    if (factor := enlargement(pictures, borders)) > 1:
        problem = f"boxes reach up to {factor} times beyond their pictures, as in enlarged copies"
        fix = f"divide by their scale, say, via.rescale(pictures, 1 / {factor})"
        findings.append(via.Finding(pictures[0].filename, None, problem, fix))
        borders = {}
    for p in pictures:
        values = {**{name: {} for name in via.NOTHING}, **p.file_attributes}
        found = [(p.row, *each) for each in _value_problems(values, schema, "file")]
        if re.search('[",\r\n]', p.filename):
            found.append((p.row, "comma, quote or line break breaks VIA's CSV", "rename the file"))
        if p.nothing and p.regions:
            found.append((p.row, "nothing to draw is ticked, but it has a region", "drop one"))
        for r in p.regions:
            if problem := via.shape_problem(r.shape, borders.get(p.filename)):
                found.append((r.row, *problem))
            if (first := firsts.setdefault((id(p), str(r.shape)), r)) is not r:
                fix = "delete one of them" + ", as checks.tidy does" * (r == first)
                found.append((r.row, f"same region as in row {first.row}", fix))
            found += [(r.row, *each) for each in _value_problems(r.attributes, schema, "region")]
        if sizes is not None and p.filename not in sizes:
            found.append((p.row, "no picture of this name", "correct it, or add the picture"))
        if (first := firsts.setdefault(p.filename, p)) is not p:
            found.append((p.row, "picture listed twice", f"merge it with row {first.row}"))
        findings += [via.Finding(p.filename, *problem) for problem in found]
    if schema and via.NOTHING.keys() <= schema["file"].keys():
        told = "not looked at yet", "draw its boxes, or tick that there is nothing to draw"
        listed = [*pictures, *(via.Picture(name) for name in rest if name not in firsts)]
        findings += [via.Finding(p.filename, p.row, *told) for p in listed if not p.seen]
    return via.one_per_cause(findings)


def _value_problems(values, schema, part):
    """Yield (problem, fix) for attribute values against a part of a schema."""
    specs = schema[part] if schema else {}
    for name in [name for name in values if schema and name not in {**specs, **via.NOTHING}]:
        yield f"attribute {short(name)} is not in the schema", "remove or rename it"
    for name, spec in specs.items():
        value, options, kind = values.get(name), spec.get("options", {}), spec["type"]
        listed = f"choose from {', '.join(options)}"
        if kind != "text" and value in (None, ""):
            yield f"{name} is missing", listed
        elif kind == "checkbox" and not isinstance(value, dict):
            yield f"{name} is {short(value)}, not a checkbox", 'write {"option": true}, or {}'
        elif kind != "text":
            chosen = via.ticks(value) if kind == "checkbox" else [value]
            for option in [o for o in chosen if not isinstance(o, str) or o not in options]:
                near = difflib.get_close_matches(str(option)[:99].strip().lower(), options, 1)
                fix = f"write {near[0]!r}" if near else listed
                yield f"{name} {short(option)} is no option", fix


def enlargement(pictures, sizes) -> int:
    """The smallest whole factor that brings all boxes into `sizes`; 1 unless most reach beyond."""
    shapes = [(r.shape, sizes.get(p.filename)) for p in pictures for r in p.regions]
    shapes = [(shape, size) for shape, size in shapes if size and not via.shape_problem(shape)]
    ends = [(np.add(*np.reshape(via.bounding_box(s), (2, 2))) - 1) / size for s, size in shapes]
    reaches = [1, *map(max, ends)]  # in widths or heights of the picture
    # a pixel of grace, for VIA draws over the border; (height, width) by mistake explains 16 / 9
    large = np.quantile(reaches, 0.5, method="higher") > 1 and max(reaches) > 1.8
    return int(np.ceil(max(reaches))) if large else 1


def tidy(pictures, sizes=None, pixels=1) -> tuple[list[via.Picture], list[via.Finding]]:
    """The pictures without repeats and white space around attribute values, and what was changed.

    A rect that reaches up to `pixels` over the border is cut there: VIA writes x = -0.06 after a
    drag one screen pixel too long. `sizes` {file name: (width, height)} in pixels; None: no cut.
    """
    result, changes = [], []
    for p in pictures:
        regions, size = {}, (sizes or {}).get(p.filename)
        for r in p.regions:
            old, shape = r.attributes, r.shape
            values = {k: v.strip() if isinstance(v, str) else v for k, v in old.items()}
            blank = [k for k in old if values[k] != old[k]]
            told = [(f"{k} {short(old[k])} had white space at its ends", "done") for k in blank]
            is_rect = size and shape.get("name") == "rect" and not via.shape_problem(shape)
            if is_rect and 0 < (far := via.overhang(shape, size)) <= pixels:
                x, y, w, h = via.bounding_box(shape)
                x, y, u, v = np.clip([x, y, x + w, y + h], 0, (*size, *size))
                shape = {**shape, **via.rect(np.round([x, y, u - x, v - y], 3).tolist())}
                told.append((f"rect reached {far:.2g} pixels over the border", "done, cut there"))
            kept = replace(r, shape=shape, attributes=values)
            key = str([sorted(part.items()) for part in (shape, values)])
            if regions.setdefault(key, kept) is not kept:
                told = [("region drawn twice", "done, one is left")]
            changes += [via.Finding(p.filename, r.row, *change) for change in told]
        result.append(replace(p, regions=list(regions.values())))
    return result, via.one_per_cause(changes)
