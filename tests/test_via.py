"""Tests of helpers/annotation/via.py; what a test of VIA stands for is said by its rule."""

import csv
import io
import json
import math
import re
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import CLASSES, GOOD, rect, three_pictures

from helpers.annotation import agreement, checks
from helpers.annotation import via as an
from helpers.annotation.via import AnnotationError, Picture, Region

pytestmark = pytest.mark.filterwarnings("error")
ROOT = Path(__file__).resolve().parents[1]
ATTRIBUTES = ROOT / "images/annotations/via_attributes.json"
HEADER = (
    "filename,file_size,file_attributes,region_count,region_id,"
    "region_shape_attributes,region_attributes"
)
SHAPES = [
    {"name": "rect", "x": 56, "y": 5, "width": 55, "height": 49},
    {"name": "circle", "cx": 20, "cy": 30, "r": 7.071},
    {"name": "ellipse", "cx": 252, "cy": 190, "rx": 27.5, "ry": 26, "theta": -0.785},
    {"name": "polygon", "all_points_x": [171, 254, 846], "all_points_y": [233, 54, 50]},
    {"name": "polyline", "all_points_x": [3, 150], "all_points_y": [248, 63]},
    {"name": "point", "cx": 51, "cy": 37},
]

# Text as VIA 2 exports it: every shape, every attribute type, a picture without regions.
VIA_CSV = HEADER + r'''
IMG (4484).jpg,98120,"{""caption"":""a \""cat\"", ünï → 猫"",""public"":""no""}",6,0,"{""name"":""rect"",""x"":56,""y"":5,""width"":55,""height"":49}","{""Age"":""45-55"",""Bag"":""Shopping "",""Extra"":{""Nothing"":true,""Watch"":true}}"
IMG (4484).jpg,98120,"{""caption"":""a \""cat\"", ünï → 猫"",""public"":""no""}",6,1,"{""name"":""circle"",""cx"":20,""cy"":30,""r"":7.071}","{""Extra"":{}}"
IMG (4484).jpg,98120,"{""caption"":""a \""cat\"", ünï → 猫"",""public"":""no""}",6,2,"{""name"":""ellipse"",""cx"":252,""cy"":190,""rx"":27.5,""ry"":26,""theta"":-0.785}","{}"
IMG (4484).jpg,98120,"{""caption"":""a \""cat\"", ünï → 猫"",""public"":""no""}",6,3,"{""name"":""polygon"",""all_points_x"":[171,254,846],""all_points_y"":[233,54,50]}","{""text"":""two\nlines""}"
IMG (4484).jpg,98120,"{""caption"":""a \""cat\"", ünï → 猫"",""public"":""no""}",6,4,"{""name"":""polyline"",""all_points_x"":[3,150],""all_points_y"":[248,63]}","{}"
IMG (4484).jpg,98120,"{""caption"":""a \""cat\"", ünï → 猫"",""public"":""no""}",6,5,"{""name"":""point"",""cx"":51,""cy"":37}","{}"
images/Set1/22530_0 (3).jpg,-1,"{}",1,0,"{""name"":""rect"",""x"":128,""y"":-1,""width"":96,""height"":105}","{""Age"":""55+"",""Bag"":""Daily/Office/Work Bag""}"
empty.png,27894,"{}",0,0,"{}","{}"'''  # fmt: skip
VIA_JSON = (
    '{"a b.jpg98120":{"filename":"a b.jpg","size":98120,"regions":[{"shape_attributes":{"name":'
    '"ellipse","cx":25,"cy":19,"rx":2.75,"ry":6,"theta":0.001},"region_attributes":{"q":{"ok":true}'
    '}}],"file_attributes":{"caption":"ü→\\u0001\\n"}},"b.png-1":{"filename":"b.png",'
    '"size":"-1","regions":[],"file_attributes":{}},'
    '"c.png-1":{"filename":"c.png","size":3000,"regions":[],'
    '"file_attributes":{}}}'
)  # VIA keeps the id c.png-1 when it finds the file, of 3000 bytes
SETTINGS = (
    '{"ui":{"annotation_editor_height":25,"annotation_editor_fontsize":0.8,"image":'
    '{"region_label":"__via_region_id__"}},"core":{"buffer_size":"18","filepath":{},'
    '"default_filepath":"./img/"},"project":{"name":"my project"}}'
)
PROJECT = (
    f'{{"_via_settings":{SETTINGS},"_via_img_metadata":{VIA_JSON},"_via_attributes":'
    '{"region":{"n":{"type":"radio","description":"","options":{"0":"zero","12":"null"},'
    '"default_options":{}},"t":{"type":"text"}},"file":{}},"_via_data_format_version":"2.0.10",'
    '"_via_image_id_list":["a b.jpg98120","b.png-1","c.png-1"]}'
)


def row(name="a.png", size="-1", shape=None, attributes=None, file="{}"):
    """A CSV row from dicts, or from raw text for a cell."""

    def cell(value):
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        return '"' + text.replace('"', '""') + '"'

    return (
        f"{name},{size},{cell(file)},1,0,{cell(SHAPES[0] if shape is None else shape)},"
        f"{cell(GOOD if attributes is None else attributes)}"
    )


def csv_file(folder, *rows, header=HEADER, name="via_export_csv.csv"):
    path = folder / name
    path.write_bytes("\n".join([header, *rows]).encode())
    return path


def spreadsheet(data, change=lambda i, cells: cells, **options):
    """VIA's CSV as a spreadsheet saves it, with the cells of line i changed."""
    text, rows = io.StringIO(), csv.reader(io.StringIO(data.decode()))
    writer = csv.writer(text, lineterminator="\n", **options)
    writer.writerows(change(i, cells) for i, cells in enumerate(rows))
    return text.getvalue().encode()


@pytest.fixture
def schema():
    return an.read_schema(ATTRIBUTES)


@pytest.fixture
def pictures():
    return three_pictures()


# -- reading and writing VIA -----------------------------------------------------------------------


@pytest.mark.parametrize("name, text, write", [
    ("x.csv", VIA_CSV, an.write_via_csv), ("x.json", VIA_JSON, an.write_via_json)])  # fmt: skip
def test_file_of_via_comes_back_byte_for_byte(tmp_path, name, text, write):
    (tmp_path / name).write_bytes(text.encode())
    write(an.read_via(tmp_path / name), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == text.encode()


def test_project_of_via_comes_back_byte_for_byte(tmp_path):
    path = tmp_path / "project.json"
    path.write_bytes(PROJECT.encode())
    project = json.loads(PROJECT)
    an.write_via_project(an.read_via(path), tmp_path / "out", an.read_schema(path), project)
    assert (tmp_path / "out").read_bytes() == PROJECT.encode()


@pytest.mark.parametrize("change", [
    lambda project: project["_via_img_metadata"]["b.png-1"].update(filename="renamed.png"),
    lambda project: project["_via_image_id_list"].reverse(),
    lambda project: [project.pop(k) for k in ("_via_data_format_version", "_via_image_id_list")],
    lambda project: project.update(_via_data_format_version="2.0.9", more={"x": 1})],
    ids=["renamed", "other order", "before 2.0.9", "more"])  # fmt: skip
def test_other_projects_come_back_byte_for_byte(tmp_path, change):
    """VIA keeps the id of a picture that is renamed."""
    path, project = tmp_path / "project.json", json.loads(PROJECT)
    change(project)
    text = json.dumps(project, ensure_ascii=False, separators=(",", ":")).encode()
    path.write_bytes(text)
    an.write_via_project(an.read_via(path), tmp_path / "out", an.read_schema(path), project)
    assert (tmp_path / "out").read_bytes() == text


def test_a_project_written_back_with_other_pictures(tmp_path):
    project = json.loads(PROJECT)
    pictures = [Picture("new.png"), Picture("a b.jpg", size=98120)]
    an.write_via_project(pictures, tmp_path / "p.json", project["_via_attributes"], project)
    written = json.loads((tmp_path / "p.json").read_text())
    assert written["_via_image_id_list"] == ["a b.jpg98120", "new.png-1"]
    assert written["_via_settings"] == project["_via_settings"]
    assert an.read_via(tmp_path / "p.json") == pictures


def test_csv_content(tmp_path):
    (tmp_path / "x.csv").write_bytes(VIA_CSV.encode())
    first, second, third = an.read_via(tmp_path / "x.csv")
    assert [r.shape for r in first.regions] == SHAPES
    assert first.file_attributes == {"caption": 'a "cat", ünï → 猫', "public": "no"}
    assert first.regions[0].attributes["Bag"] == "Shopping "  # the trailing space is content
    assert first.regions[1].attributes == {"Extra": {}}
    assert [r.row for r in first.regions] == [2, 3, 4, 5, 6, 7] and third.row == 9
    assert (second.filename, second.size) == ("images/Set1/22530_0 (3).jpg", -1)
    assert third.regions == [] and third.size == 27894


def test_the_three_formats_hold_the_same(tmp_path, schema):
    (tmp_path / "x.csv").write_bytes(VIA_CSV.encode())
    pictures = an.read_via(tmp_path / "x.csv")
    an.write_via_json(pictures, tmp_path / "x.json")
    an.write_via_project(pictures, tmp_path / "p.json", schema)
    assert an.read_via(tmp_path / "x.json") == an.read_via(tmp_path / "p.json") == pictures
    an.write_via_json(pictures[::-1], tmp_path / "y.json")  # begins with the empty picture
    an.write_via_csv(pictures[::-1], tmp_path / "y.csv")
    for stem in "xy":
        of_json, of_csv = (
            [r.row for p in an.read_via(tmp_path / f"{stem}.{end}") for r in p.regions]
            for end in ("json", "csv")
        )
        assert of_json == of_csv


@pytest.mark.parametrize("change", [
    lambda b: b"\xef\xbb\xbf" + b, lambda b: b.replace(b"\n", b"\r\n"),
    lambda b: b.replace(b"\n", b"\r"), lambda b: b + b"\n", lambda b: b.replace(b"\n", b"\n\n"),
    lambda b: b.replace(b'"{}"', b"{}"), lambda b: b"#" + b,
    lambda b: spreadsheet(b, delimiter=";"), lambda b: spreadsheet(b, delimiter="\t"),
    lambda b: spreadsheet(b, quoting=csv.QUOTE_ALL),
    lambda b: spreadsheet(b, delimiter=";", quoting=csv.QUOTE_ALL),
    lambda b: spreadsheet(b, lambda i, cells: [str(i - 1) if i else "", *cells]),
    lambda b: spreadsheet(b, lambda i, cells: [*cells, "", ""]), lambda b: b + b"\n,,,,,,\n",
    lambda b: spreadsheet(b, lambda i, cells: [*cells, *[""] * (i % 3)]),
    lambda b: spreadsheet(b, lambda i, cells: cells[::-1]),
    lambda b: spreadsheet(b, lambda i, cells: [[line] for line in b.decode().split("\n")][i])],
    ids=["BOM", "CRLF", "CR", "newline at end", "blank lines", "unquoted {}", "VIA 1",
         "semicolons", "tabs", "all quoted", "all quoted, semicolons", "rows numbered",
         "empty columns", "an empty row", "commas at the end of some", "columns reversed", "lines quoted"],
)  # fmt: skip
def test_variants_read_the_same(tmp_path, change):
    """What editors and spreadsheets make of VIA's CSV; VIA 1 wrote a # before the header."""
    (tmp_path / "a").write_bytes(VIA_CSV.encode())
    (tmp_path / "b").write_bytes(change(VIA_CSV.encode()))
    assert an.read_via(tmp_path / "b") == an.read_via(tmp_path / "a")


def test_commas_in_names(tmp_path):
    """VIA writes them bare, a spreadsheet quotes them; both are read, and `check` warns."""
    path = csv_file(tmp_path, row("a, b,c.png"), row('"d,e.png"'))
    pictures = an.read_via(path)
    assert [p.filename for p in pictures] == ["a, b,c.png", "d,e.png"]
    [found] = checks.check(path)
    assert found.problem.startswith("comma or line break") and found.also == (("d,e.png", 3),)


def test_an_attribute_left_open_in_via_is_missing(tmp_path, schema):
    """Its page writes `"truncated":undefined`, which is no JSON, and which it cannot read again."""
    values = {**GOOD, "background": "undefined", "note": 'a":undefined, "b'}
    text = json.dumps({**values, "label": 1, "truncated": 1, "z": 1}, separators=(",", ":"))
    text = text.replace(":1", ":undefined")
    path = csv_file(tmp_path, row("first.png"), row(attributes=text))
    del values["truncated"], values["label"]
    assert an.read_via(path)[1].regions[0].attributes == values
    missing = [f for f in checks.check(path, schema) if "missing" in f.problem]
    assert [(f.row, f.problem) for f in missing] == [
        (3, "label is missing"),
        (3, "truncated is missing"),
    ]


def test_via_1_json(tmp_path):
    """Its regions are an object, "0", "1", and so on."""
    of_via_2 = json.loads(VIA_JSON)
    of_via_1 = {
        key: {**entry, "fileref": "", "base64_img_data": "",
              "regions": {str(i): r for i, r in enumerate(entry["regions"])}}
        for key, entry in of_via_2.items()
    }  # fmt: skip
    (tmp_path / "1.json").write_text(json.dumps(of_via_1))
    (tmp_path / "2.json").write_text(json.dumps(of_via_2))
    assert an.read_via(tmp_path / "1.json") == an.read_via(tmp_path / "2.json")


def test_what_via_does_without_may_be_missing(tmp_path):
    (tmp_path / "a").write_text('{"a.png":{"filename":"a.png"}}')
    assert an.read_via(tmp_path / "a") == [Picture("a.png")]


def test_rows_of_one_picture_need_not_be_neighbours(tmp_path):
    path = csv_file(tmp_path, row("a"), row("b"), row("a", shape=SHAPES[5], file={"k": "v"}))
    a, b = an.read_via(path)
    assert [r.shape for r in a.regions] == [SHAPES[0], SHAPES[5]] and len(b.regions) == 1
    assert a.file_attributes == {"k": "v"}


@pytest.mark.parametrize("value, text", [
    (12.0, "12"), (-0.0, "0"), (0.5, "0.5"), (0.001, "0.001"), (1e9 + 0.001, "1000000000.001"),
    (7, "7"), (True, "true"), (None, "null"), ("\u2028/é\x7f\x01", '"\u2028/é\x7f\\u0001"'),
    ({"a": [1, {"b": "\\\""}]}, '{"a":[1,{"b":"\\\\\\""}]}'), (np.int64(3), "3"),
    (np.float32(12), "12")])  # fmt: skip
def test_values_are_written_as_javascript_does(tmp_path, value, text):
    """Expected texts are JSON.stringify's; VIA rounds its numbers to three decimals."""
    an.write_via_json([Picture("p", [], -1, {"v": value})], tmp_path / "x")
    written = (tmp_path / "x").read_bytes().decode()
    assert written == (
        '{"p-1":{"filename":"p","size":-1,"regions":[],"file_attributes":{"v":' + text + "}}}"
    )


names = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters='"'), min_size=1, max_size=12
)
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
number = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6))
rects = dict.fromkeys(("x", "y", "width", "height"), number)
ellipses = dict.fromkeys(("cx", "cy", "rx", "ry", "theta"), number)
lines = dict.fromkeys(("all_points_x", "all_points_y"), st.lists(number))
shapes = st.one_of(
    st.fixed_dictionaries({"name": st.just("rect"), **rects}),
    st.fixed_dictionaries({"name": st.just("ellipse"), **ellipses}),
    st.fixed_dictionaries({"name": st.sampled_from(["polygon", "polyline"]), **lines}),
)
attributes = st.dictionaries(
    words, st.one_of(words, st.dictionaries(words, st.booleans(), max_size=2)), max_size=3
)
regions = st.lists(st.builds(Region, shapes, attributes), max_size=3)
any_picture = st.builds(Picture, names, regions, st.integers(-1, 10**9), attributes)
any_pictures = st.lists(any_picture, max_size=4, unique_by=lambda p: p.via_id)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(any_pictures)
def test_via_round_trip(tmp_path_factory, pictures):
    path = tmp_path_factory.getbasetemp() / "via"
    for write, *more in (
        (an.write_via_csv,),
        (an.write_via_json,),
        (an.write_via_project, {"region": {}, "file": {}}),
    ):
        write(pictures, path, *more)
        written = path.read_bytes()
        assert an.read_via(path) == pictures
        write(an.read_via(path), path, *more)
        assert path.read_bytes() == written


# -- what VIA's own importer demands ---------------------------------------------------------------


def import_csv(text):
    """VIA's CSV importer by its rules, written anew: (metadata, number of malformed rows)."""
    lines, metadata, malformed = re.split(r"\n|\r|\r\n", text), {}, 0
    assert lines[0] in (HEADER, "#" + HEADER), "header line missing"
    for line in filter(None, lines[1:]):
        cells = re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', line)  # commas outside quotes
        if len(cells) != 7:
            malformed += 1
            continue
        filename, size, *rest = cells
        about, shape, attributes = (
            json.loads(c.removeprefix('"').removesuffix('"').replace('""', '"'))
            for c in (rest[0], rest[3], rest[4])
        )
        entry = metadata.setdefault(filename + size, {"filename": filename, "regions": []})
        entry["file_attributes"] = about
        if shape or attributes:
            entry["regions"].append((shape, attributes))
    return metadata, malformed


def test_via_imports_the_csv(tmp_path):
    """Rules: exact header, seven cells split at commas outside quotes, JSON with doubled quotes,
    id = file name + size, a region is added if its shape or its attributes are not empty."""
    (tmp_path / "x.csv").write_bytes(VIA_CSV.encode())
    pictures = an.read_via(tmp_path / "x.csv")
    an.write_via_csv(pictures, tmp_path / "y.csv")
    metadata, malformed = import_csv((tmp_path / "y.csv").read_text(encoding="utf-8"))
    assert malformed == 0 and list(metadata) == [p.via_id for p in pictures]
    for p, entry in zip(pictures, metadata.values()):
        assert entry == {
            "filename": p.filename,
            "file_attributes": p.file_attributes,
            "regions": [(r.shape, r.attributes) for r in p.regions],
        }


def test_via_skips_names_with_commas(tmp_path):
    """Rule: a row that does not split into seven cells is malformed, which `check` reports."""
    path = csv_file(tmp_path, row("a,b.png"), row("c.png"))
    assert import_csv(path.read_text())[1] == 1
    assert [f.file for f in checks.check(path)] == ["a,b.png"]


def test_via_reads_no_bom_and_no_crlf_from_us(tmp_path, pictures):
    """Rule: line ends are LF, CR or CRLF and the header must match exactly; we write LF, no BOM."""
    an.write_via_csv(pictures, tmp_path / "x.csv")
    data = (tmp_path / "x.csv").read_bytes()
    assert data.startswith(HEADER.encode() + b"\n") and b"\r" not in data
    assert not data.endswith(b"\n")


def test_via_annotation_json_ids(tmp_path, pictures):
    """Rule: an entry whose key is not file name + size is discarded."""
    an.write_via_json(pictures, tmp_path / "x.json")
    entries = json.loads((tmp_path / "x.json").read_text())
    assert len(entries) == 3
    assert all(key == e["filename"] + str(e["size"]) for key, e in entries.items())


def test_via_opens_the_project(tmp_path, pictures, schema):
    """Rules: three parts must be there and truthy, every entry needs four keys, the id list may
    name known pictures only, settings must hold the project's name."""
    an.write_via_project(pictures, tmp_path / "course.json", schema)
    d = json.loads((tmp_path / "course.json").read_text())
    assert d["_via_settings"] and d["_via_img_metadata"] and d["_via_attributes"]
    assert d["_via_settings"]["project"]["name"] == "course"
    for entry in d["_via_img_metadata"].values():
        assert set(entry) == {"filename", "size", "regions", "file_attributes"}
    assert d["_via_image_id_list"] == list(d["_via_img_metadata"])


def test_project_keeps_attribute_types(tmp_path, pictures, schema):
    """Rule: an attribute used by a region but absent from _via_attributes becomes plain text."""
    an.write_via_project(pictures, tmp_path / "p.json", schema)
    d = json.loads((tmp_path / "p.json").read_text())
    assert d["_via_attributes"] == schema == an.read_schema(tmp_path / "p.json")
    used = {
        n
        for e in d["_via_img_metadata"].values()
        for r in e["regions"]
        for n in r["region_attributes"]
    }
    assert used == set(d["_via_attributes"]["region"]) and used == set(GOOD)


def test_attributes_file_is_what_via_exports(schema):
    """Rules: import reads d.region and d.file; choices need type, options and default_options, and
    option ids are what regions store. The file is compact JSON, as 'Export attributes' writes."""
    text = ATTRIBUTES.read_bytes().decode()
    assert text == json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
    assert list(schema) == ["region", "file"] and schema["file"] == {}
    types = {name: spec["type"] for name, spec in schema["region"].items()}
    assert types == {
        "label": "dropdown", "viewpoint": "dropdown", "truncated": "radio", "occluded": "radio",
        "background": "dropdown", "image_quality": "checkbox",
    }  # fmt: skip
    for spec in schema["region"].values():
        assert list(spec) == ["type", "description", "options", "default_options"]
    options = {name: list(spec["options"]) for name, spec in schema["region"].items()}
    assert options["label"] == CLASSES and options["truncated"] == ["no", "yes"]
    assert options["viewpoint"] == "front rear side three_quarter top bottom".split()
    assert options["background"] == "plain sky water vegetation ground indoor mixed".split()
    assert options["image_quality"] == ["blurred", "low_contrast", "bad_exposure"]


# -- boxes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, box", list(zip(SHAPES, [
    (56, 5, 55, 49), (12.929, 22.929, 14.142, 14.142), None, (171, 50, 675, 183),
    (3, 63, 147, 185), (51, 37, 0, 0)])), ids=[s["name"] for s in SHAPES])  # fmt: skip
def test_bounding_box(shape, box):
    if box is None:  # the rotated ellipse: sampled along its border, as the canvas draws it
        t = np.linspace(0, 2 * np.pi, 100_001)
        x, y = shape["rx"] * np.cos(t), shape["ry"] * np.sin(t)
        c, s = np.cos(shape["theta"]), np.sin(shape["theta"])
        u, v = x * c - y * s + shape["cx"], x * s + y * c + shape["cy"]
        box = u.min(), v.min(), np.ptp(u), np.ptp(v)
    assert an.bounding_box(shape) == pytest.approx(box, abs=1e-6)


@pytest.mark.parametrize("shape, word", [
    ({}, "unknown"), ({"name": "blob"}, "unknown"), ({"name": ["rect"]}, "unknown"),
    ({"name": "rect", "x": 1, "y": 1, "width": 2}, "height"),
    ({**SHAPES[0], "x": "5"}, "x is '5'"),
    ({**SHAPES[0], "y": math.nan}, "y is nan"), ({**SHAPES[0], "y": 10 ** 400}, "y is"),
    ({**SHAPES[0], "width": -3}, "negative"), ({**SHAPES[1], "r": -1}, "negative"),
    ({**SHAPES[2], "theta": None}, "theta"), ({**SHAPES[3], "all_points_x": []}, "all_points_x"),
    ({**SHAPES[3], "all_points_x": 5}, "all_points_x"),
    ({**SHAPES[3], "all_points_x": [1, 2]}, "differ"),
    ({**SHAPES[3], "all_points_y": [1, None, 3]}, "all_points_y")])  # fmt: skip
def test_broken_shapes(shape, word):
    with pytest.raises(ValueError, match=re.escape(word)):
        an.bounding_box(shape)
    assert [f for f in checks.check([Picture("a", [Region(shape)])]) if word in f.problem]


coordinate = st.integers(0, 400).map(lambda v: v / 4)
any_box = st.tuples(coordinate, coordinate, coordinate, coordinate)


@settings(deadline=None, derandomize=True)
@given(st.lists(any_box, max_size=5), st.lists(any_box, max_size=5))
def test_iou_against_pycocotools(a, b):
    mask = pytest.importorskip("pycocotools.mask", reason="the referee is a test requirement")
    ours = agreement.iou(a, b)
    assert ours.shape == (len(a), len(b)) and ours.dtype == np.float64
    if a and b:
        theirs = mask.iou(np.array(a, float), np.array(b, float), [0] * len(b))
        np.testing.assert_allclose(ours, np.nan_to_num(theirs), atol=1e-12)


def test_iou_by_hand():
    a, b = [[0, 0, 2, 2], [5, 5, 0, 0]], [[1, 0, 2, 2], [0, 0, 2, 2], [5, 5, 0, 0]]
    assert agreement.iou(a, b).tolist() == [[1 / 3, 1, 0], [0, 0, 0]]  # no area: 0, not NaN


def test_masks_cover_the_pixels_of_the_boxes(pictures):
    got = agreement.masks(pictures, (32, 32))
    assert got.shape == (3, 32, 32) and got.dtype == bool and got[0].all() and not got[2].any()
    columns, rows = np.nonzero(got[1].any(0))[0], np.nonzero(got[1].any(1))[0]
    assert columns.tolist() == [1, 2, 3] and rows.tolist() == [2, 3, 4, 5]  # GUIDELINE: x..x+w-1
    wide = agreement.masks([Picture("a", [rect(0, 0, 2.5, 1), rect(5, 2, 2, 1)])], (7, 3))[0]
    assert wide.shape == (3, 7) and wide.sum() == 4 and wide[0, :2].all() and wide[2, 5:].all()


def test_rescale_there_and_back():
    pictures = [Picture("a", [Region(s) for s in SHAPES])]
    large = an.rescale(pictures, 20)
    np.testing.assert_allclose(an.boxes(large), 20 * an.boxes(pictures), atol=1e-3)
    assert large[0].regions[2].shape["theta"] == -0.785
    assert an.rescale(large, 1 / 20) == pictures
    thirds = [Picture("a", [rect(i, i, 10, 10) for i in range(33)])]
    assert an.rescale(an.rescale(thirds, 49), 1 / 49) == thirds  # 49 * (1 / 49) is not 1


# -- check -----------------------------------------------------------------------------------------


def test_check_of_a_clean_file(tmp_path, pictures, schema):
    an.write_via_csv(pictures, tmp_path / "x.csv")
    sizes = dict.fromkeys([p.filename for p in pictures], (32, 32))
    assert checks.check(str(tmp_path / "x.csv"), schema, sizes) == []


@pytest.mark.parametrize("line, problem, fix", [
    (row(shape=SHAPES[0], attributes={**GOOD, "label": "lion"}), "label 'lion' is no option",
     "choose from airplane, "),
    (row(attributes={**GOOD, "label": "CAT"}), "label 'CAT'", "write 'cat'"),
    (row(attributes={**GOOD, "background": "sky "}), "background 'sky '", "write 'sky'"),
    (row(attributes={**GOOD, "label": ["cat"]}), "label ['cat']", "write 'cat'"),
    (row(attributes={**GOOD, "label": ""}), "label is missing", "choose from airplane"),
    (row(attributes={k: v for k, v in GOOD.items() if k != "truncated"}), "truncated is missing",
     "no, yes"),
    (row(attributes={**GOOD, "image_quality": "blurred"}), "not a checkbox", '{"option": true}'),
    (row(attributes={**GOOD, "image_quality": {"blurry": True}}), "'blurry'", "write 'blurred'"),
    (row(attributes={**GOOD, "Age": "45"}), "'Age' is not in the schema", "remove"),
    (row(file={"caption": "x"}), "'caption' is not in the schema", "remove"),
    (row(shape={**SHAPES[0], "x": -1}), "outside the picture", "move"),
    (row(shape={**SHAPES[0], "width": 500}), "x 56..556", "move"),
    (row(shape={**SHAPES[0], "height": -4}), "negative", "again"),
    (row(shape={**SHAPES[0], "x": "abc"}), "x is 'abc'", "again"),
    (row(shape='{"name":"rect","x":NaN,"y":1,"width":2,"height":3}'), "x is nan", "again"),
    (row(shape='{"name":"rect","x":1e999,"y":1,"width":2,"height":3}'), "x is inf", "again"),
    (row(shape="{'name': 'rect', 'x': 1}"), "damaged row", "json.dumps"),
    (row(shape="[1,2]"), "not a JSON object", "export"),
    (row(shape="[" * 5000), "damaged row", "export"),
    (row(size="large"), "file size 'large'", "-1"), (row(size="-7"), "file size -7", "-1"),
    (row().partition(",")[2], "6 columns, not 7", "again as JSON"),
    ("a.png,-1,,", "4 columns", "text editor"),
    ("a.png,-1,\"{}\",1,0,\"{\"\"na", "6 columns", "JSON"),
    (row() + ",more", "file_attributes is no JSON", "again as JSON"),
    (row("b.png"), "no picture of this name", "name"),
])  # fmt: skip
def test_check_finds(tmp_path, schema, line, problem, fix):
    """One damaged row between two good ones: exactly one finding, with its row, problem and fix."""
    path = csv_file(tmp_path, row("first.png"), line, row("last.png"))
    sizes = {"a.png": (320, 240), "first.png": (320, 240), "last.png": (320, 240)}
    [found] = checks.check(path, schema, sizes)
    assert found.row == 3 and problem in found.problem and fix in found.fix
    assert found.file in ("a.png", "b.png", path.name)


def test_check_finds_everything_in_one_pass(tmp_path, schema):
    third = row(size="12", attributes={**GOOD, "label": "dgo"})
    path = csv_file(tmp_path, row(), row(), third, "broken", name="damaged.csv")
    found = checks.check(path, schema, {"a.png": (64, 64)})
    assert [(f.file, f.row, f.problem.split(" ")[0]) for f in found] == [
        ("damaged.csv", 5, "damaged"),
        ("a.png", 2, "box"),
        ("a.png", 3, "same"),
        ("a.png", 4, "label"),
        ("a.png", 4, "picture"),
    ]
    assert found[1].also == (("a.png", 3), ("a.png", 4))  # one finding per cause
    assert str(found[1]).startswith("a.png, row 2: box x 56..111, y 5..54 reaches outside")
    assert "(likewise row 3; row 4). Fix: move" in str(found[1])
    assert str(found[2]) == "a.png, row 3: same region as in row 2. Fix: delete one of them."


def test_boxes_on_the_border_are_inside():
    touching = [Picture("a", [rect(0, 0, 32, 24), Region({"name": "point", "cx": 32, "cy": 0})])]
    assert checks.check(touching, sizes={"a": (32, 24)}) == []
    [found] = checks.check(touching, sizes={"a": (24, 32)})  # not (height, width)
    assert len(found.also) == 1


def test_any_sequence_of_pictures(pictures):
    assert checks.check(tuple(pictures)) == checks.check(iter(pictures)) == checks.check([]) == []
    assert len(agreement.compare(tuple(pictures), iter(pictures)).pairs) == 3
    for wrong in (["a.csv"], 5, None):
        with pytest.raises(ValueError, match="is no list of Picture"):
            checks.check(wrong)


def test_boxes_of_enlarged_copies_are_recognised(pictures, schema):
    sizes = dict.fromkeys([p.filename for p in pictures], (32, 32))
    for factor in (1, 2, 16, 125):
        assert checks.enlargement(an.rescale(pictures, factor), sizes) == factor
    [found] = checks.check(an.rescale(pictures, 16), schema, sizes)
    assert "up to 16 times beyond" in found.problem and "rescale(pictures, 1 / 16)" in found.fix
    stray = [*pictures, Picture("d.png", [rect(500, 0, 9, 9)])]
    assert (
        checks.enlargement(stray, {**sizes, "d.png": (32, 32)}) == 1
    )  # one box alone says nothing
    broken = [Picture("a.png", [Region({"name": "blob"})]), Picture("unknown")]
    assert checks.enlargement(broken, sizes) == checks.enlargement([], sizes) == 1


@pytest.mark.parametrize("shape, cut", [
    ({"name": "rect", "x": -0.06, "y": 3, "width": 12.06, "height": 29.5},
     {"name": "rect", "x": 0, "y": 3, "width": 12, "height": 29}),
    ({"name": "polygon", "all_points_x": [5, 32.4, 20], "all_points_y": [-0.3, 9, 32.001]},
     {"name": "polygon", "all_points_x": [5, 32, 20], "all_points_y": [0, 9, 32]}),
    ({"name": "point", "cx": -0.06, "cy": 5}, {"name": "point", "cx": 0, "cy": 5})],
    ids=["rect", "polygon", "point"])  # fmt: skip
def test_tidy_cuts_what_reaches_a_little_over_the_border(shape, cut):
    before = [Picture("a.png", [Region(shape, {"label": "cat"}, 2), rect(1, 1, 9, 9)])]
    after, [change] = checks.tidy(before, {"a.png": (32, 32)})
    assert [r.shape for r in after[0].regions] == [cut, before[0].regions[1].shape]
    assert str(change).startswith(f"a.png, row 2: {shape['name']} reached 0.")
    assert str(change).endswith("over the border. Fix: done, cut there.")
    assert checks.check(after, sizes={"a.png": (32, 32)}) == []
    assert checks.tidy(after, {"a.png": (32, 32)}) == (after, [])
    assert checks.tidy(before) == (before, [])  # sizes unknown


@pytest.mark.parametrize("region", [
    rect(30, 0, 5, 5), rect(-0.5, 1, 0.4, 5),
    Region({"name": "circle", "cx": 1, "cy": 5, "r": 1.5}), Region({"name": "blob"})], ids=["far over", "wholly outside", "circle", "broken"])  # fmt: skip
def test_tidy_leaves_alone_what_it_cannot_mend(region):
    before, sizes = [Picture("a.png", [region])], {"a.png": (32, 32)}
    assert checks.tidy(before, sizes) == (before, [])
    assert len(checks.check(before, sizes=sizes)) == 1


def test_tidy_strips_white_space_and_reports_it_once(schema):
    labels = ["cat\n", " dog", "dog ", "cat"]
    pictures = [Picture(f"{i}", [rect(1, 1, 5, 5, **{**GOOD, "label": v})], row=i + 2)
                for i, v in enumerate(labels)]  # fmt: skip
    after, changes = checks.tidy(pictures)
    assert [p.regions[0].attributes["label"] for p in after] == ["cat", "dog", "dog", "cat"]
    assert [c.file for c in changes] == ["0", "1", "2"]
    assert changes[0].problem == r"label 'cat\n' had white space at its ends"
    assert checks.check(after, schema) == []


def test_points_and_pictures_without_regions(pictures):
    """They have neither area nor partner, and stop nothing."""
    point = Picture("d.png", [Region(SHAPES[5], {"label": "cat"})])
    mixed = [*pictures, point]
    assert an.boxes(mixed).shape == (4, 4) and not agreement.masks(mixed, (64, 64))[3].any()
    result = agreement.compare(mixed, mixed)
    assert len(result.pairs) == 3 and result.mean_iou == 1
    assert [name for name, _ in result.only_a] == [name for name, _ in result.only_b] == ["d.png"]
    assert an.boxes([Picture("e")]).shape == (0, 4) and agreement.masks([], (8, 8)).shape == (
        0,
        8,
        8,
    )


def test_text_attributes():
    schema = {"region": {"note": {"type": "text"}}, "file": {}}
    regions = [rect(1, 1, 1, 1), rect(2, 1, 1, 1, note="x"), rect(3, 1, 1, 1, note=5)]
    pictures = [Picture("a", regions)]
    assert [f.problem for f in checks.check(pictures, schema)] == ["note is 5, not text"]


@pytest.mark.parametrize("sizes", [(0, 32), (32,), 32, (32, 32, 3), ("32", "32"), (math.nan, 3),
])  # fmt: skip
def test_sizes_that_are_none(pictures, sizes):
    with pytest.raises(ValueError, match="width, height"):
        checks.check(pictures, sizes={"a.png": sizes})


# -- damaged and hostile files ---------------------------------------------------------------------


@pytest.mark.parametrize("content, word", [
    (b"", "empty"), (b" \r\n ", "empty"), (b"\xef\xbb\xbf", "empty"),
    (b"\x89PNG\r\n\x1a\n", "utf-8"), ("x,y".encode("utf-16"), "utf-8"),
    (b"filename,size\na,1", "columns ['size']"),
    (HEADER.replace(",region_id", "").encode(), "missing columns ['region_id']"),
    (HEADER.replace(",", ":").encode(), "unknown"), (b"hello", "line 1 must be"),
    (HEADER.encode() + b",comment\n", "columns ['comment']"),  # would be lost
    (b'{"a.png-1": {', "line 1 column"), (b"[1, 2]", "not a JSON object"), (b"[" * 100_000, "VIA"),
    (b"{'a': 1}", "double quotes"), (b'{"a":NaN}', "no picture of VIA"),
    (b'{"images":[],"annotations":[]}', "no picture of VIA"), (b'{"_via_img_metadata":[]}', "VIA"),
    (b'{"a-1":{"filename":"a","size":-1,"file_attributes":[]}}', "file_attributes"),
    (b'{"a-1":{"filename":"a","size":-1,"regions":5}}', "regions"),
    (b'{"a-1":{"filename":"a","size":[],"regions":[],"file_attributes":{}}}', "'size' is missing"),
    (b'{"a-1":{"filename":"a","size":1,"regions":[1],"file_attributes":{}}}', "no picture of VIA"),
])  # fmt: skip
def test_damaged_files_give_one_clear_error(tmp_path, content, word):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(AnnotationError, match=re.escape(word)) as error:
        an.read_via(tmp_path / "bad")
    assert str(error.value).startswith("bad") and "Fix:" in str(error.value)
    assert len(str(error.value)) < 600 and "Traceback" not in str(error.value)
    assert checks.check(tmp_path / "bad") == error.value.findings != []


def test_read_says_once_what_is_wrong_with_many_rows(tmp_path):
    rubbish = [f"x{i}" for i in range(1000)]
    path = csv_file(tmp_path, row(), *rubbish, row(shape="{'a': 1}"), row("b"), "y")
    with pytest.raises(AnnotationError, match=r"row 3.*\(1 more in \.findings\)") as error:
        an.read_via(path)
    columns, python = error.value.findings
    assert (columns.row, python.row) == (3, 1003) and columns.also[-1] == (path.name, 1005)
    assert "1 columns, not 7 (likewise row 4; row 5; row 6 and 997 more). Fix:" in str(columns)


@pytest.mark.parametrize("head, unit", [
    ("", "\0"), (HEADER + "\n", 'a,"'), (HEADER + "\nx", ","), (HEADER + "\n", "x\n"),
    ('{"a":"', "x")],
    ids=["zeros", "open quotes", "commas", "25 million rows", "open JSON string"])  # fmt: skip
def test_50_mb_of_rubbish(tmp_path, head, unit):
    (tmp_path / "big").write_text(head + unit * (50_000_000 // len(unit)))
    with pytest.raises(AnnotationError) as error:
        an.read_via(tmp_path / "big")
    assert len(str(error.value)) < 600 and len(error.value.findings) <= 1000


def test_50_mb_of_polygons(tmp_path):
    """A cell may be far longer than the csv module's limit of 131,072 characters."""
    points = ",".join(["123456"] * 300_000)
    shape = f'{{"name":"polygon","all_points_x":[{points}],"all_points_y":[{points}]}}'
    path = csv_file(tmp_path, *(row(f"{i}.png", shape=shape) for i in range(12)))
    assert path.stat().st_size > 50_000_000
    pictures = an.read_via(path)
    assert len(pictures) == 12 and pictures[-1].regions[0].shape == json.loads(shape)


def test_mistakes_of_ours_are_not_blamed_on_the_file(tmp_path, monkeypatch):
    path = csv_file(tmp_path, row())
    for mistake in (AttributeError, TypeError, KeyError):

        def broken(*_, mistake=mistake, **__):
            raise mistake("ours")

        monkeypatch.setattr(an, "Picture", broken)
        with pytest.raises(mistake, match="ours"):
            an.read_via(path)


def test_the_cause_is_kept(tmp_path):
    (tmp_path / "bad").write_text('{"a": ')
    with pytest.raises(AnnotationError) as error:
        an.read_via(tmp_path / "bad")
    assert isinstance(error.value.__cause__, json.JSONDecodeError)


def test_missing_file(tmp_path):
    for read in (an.read_via, an.read_schema, checks.check):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            read(tmp_path / "nowhere")


@pytest.mark.parametrize("text, word", [
    ("{}", "'region'"), ('{"region":{}}', "'file'"), ('{"region":[],"file":{}}', "region"),
    ('{"region":{"a":{}},"file":{}}', "'a' needs"), ("{", "double quotes"),
    ('{"region":{"a":{"type":"slider","options":{}}},"file":{}}', "'a'"),
    ('{"region":{"a":{"type":"radio"}},"file":{}}', "options"),
    ('{"region":{"a":{"type":"radio","options":["x"]}},"file":{}}', "'a'")])  # fmt: skip
def test_damaged_schema(tmp_path, text, word):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(AnnotationError, match=word):
        an.read_schema(tmp_path / "s.json")


# -- comparing annotators --------------------------------------------------------------------------


def test_matching_is_one_to_one_and_the_best():
    """Greedy matching would begin with the pair of IoU 0.9 and end with a smaller sum."""
    a = [Picture("p", [rect(0, 0, 10, 10), rect(0, 0, 10, 8)])]
    b = [Picture("p", [rect(0, 0, 10, 9), rect(0, 0, 10, 14), rect(90, 90, 5, 5)])]
    result = agreement.compare(a, b)
    overlap = agreement.iou(an.boxes(a), an.boxes(b))
    best = max(sum(overlap[i, j] for i, j in enumerate(js)) for js in permutations(range(3), 2))
    assert [(p[1], p[2]) for p in result.pairs] == [
        (a[0].regions[0], b[0].regions[1]),
        (a[0].regions[1], b[0].regions[0]),
    ]
    assert 2 * result.mean_iou == pytest.approx(best) == pytest.approx(10 / 14 + 8 / 9)
    assert result.only_a == [] and result.only_b == [("p", b[0].regions[2])]


def test_pairs_below_the_gate_push_out_no_good_one():
    """IoU 0.6 beside two of 0.48: without the gate the two would win, and then both be dropped."""
    a = [Picture("p", [rect(0, 0, 100, 1), rect(0, 0, 29, 1)])]
    b = [Picture("p", [rect(0, 0, 60, 1), rect(52, 0, 48, 1)])]
    overlap = agreement.iou(an.boxes(a), an.boxes(b))
    assert overlap[0, 0] < overlap[0, 1] + overlap[1, 0] and overlap[0, 0] >= 0.5
    result = agreement.compare(a, b)
    assert result.pairs == [("p", a[0].regions[0], b[0].regions[0], 0.6)]
    assert (result.only_a, result.only_b) == ([("p", a[0].regions[1])], [("p", b[0].regions[1])])


def test_unmatched_and_lone_pictures():
    a = [Picture("p", [rect(0, 0, 10, 10)]), Picture("q", [rect(0, 0, 4, 4)]), Picture("r")]
    b = [Picture("p", [rect(5, 0, 10, 10)]), Picture("s", [rect(1, 1, 4, 4)])]
    result = agreement.compare(a, b)
    assert result.pairs == [] and math.isnan(result.mean_iou)
    assert result.attributes.empty and list(result.attributes) == ["equal", "kappa"]
    assert [n for n, _ in result.only_a] == ["p", "q"]
    assert [n for n, _ in result.only_b] == ["p", "s"]
    assert len(agreement.compare(a, b, gate=1 / 3).pairs) == 1  # IoU of the pair is exactly a third


def test_kappa_against_worked_examples():
    """The 2 x 2 table 20, 5, 10, 15 has observed 0.7, expected 0.5, kappa 0.4."""
    a, b = ["y"] * 25 + ["n"] * 25, ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert agreement.cohen_kappa(a, b) == pytest.approx(0.4)
    assert agreement.cohen_kappa(a, a) == 1 and agreement.cohen_kappa(["x", "y"], ["y", "x"]) == -1
    assert (
        agreement.cohen_kappa(["x"] * 2, ["y"] * 2)
        == agreement.cohen_kappa(["x"] * 2, ["x", "y"])
        == 0
    )
    assert math.isnan(agreement.cohen_kappa(["x"] * 2, ["x"] * 2)) and math.isnan(
        agreement.cohen_kappa([], [])
    )


def test_attributes_are_compared_over_matched_pairs():
    def annotator(*values):
        return [Picture(f"{i}", [rect(0, 0, 9, 9, **v)]) for i, v in enumerate(values)]

    a = annotator({"k": "x", "t": {"u": True, "v": True}, "c": "1"}, {"k": "y", "t": {}, "c": "1"})
    b = annotator(
        {"k": "x", "t": {"v": True, "u": True}, "c": "1"},
        {"k": "x", "t": {"u": False}, "c": "1", "only b": "z"},
    )
    result = agreement.compare(a, b)
    assert dict(result.attributes["equal"]) == {"k": 0.5, "t": 1, "c": 1, "only b": 0.5}
    kappa = result.attributes["kappa"]
    assert kappa["k"] == 0 and kappa["t"] == 1 and math.isnan(kappa["c"])
    everything = agreement.compare(a, a)
    assert everything.mean_iou == 1 and (everything.attributes["equal"] == 1).all()


@pytest.mark.parametrize("pictures, word", [
    ([Picture("a.png", [rect(math.nan, 1, 1, 1)])], "not JSON compliant"),
    ([Picture("a.png"), Picture("a.png")], "merge their regions")])  # fmt: skip
def test_writers_refuse_what_via_cannot_hold(tmp_path, schema, pictures, word):
    with pytest.raises(ValueError, match=word):
        an.write_via_json(pictures, tmp_path / "x")
    with pytest.raises(ValueError, match=word):
        an.write_via_project(pictures, tmp_path / "x", schema)
    if len(pictures) == 1:  # in a CSV a picture may come twice
        with pytest.raises(ValueError, match=word):
            an.write_via_csv(pictures, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_writing_leaves_the_old_file(tmp_path, pictures, monkeypatch):
    path = tmp_path / "deep/er/x.csv"
    an.write_via_csv(pictures, path)
    before = path.read_bytes()

    def full(self, text, **_):
        self.write_bytes(text[:5].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        an.write_via_csv(pictures[:1], path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_modules_need_no_tensorflow():
    code = "import sys; from helpers.annotation import exports, via; print('tensorflow' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr
