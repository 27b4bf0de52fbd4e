"""Tests of helpers/annotation/via.py; what a test of VIA stands for is said by its rule."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import GOOD, rect, three_pictures

from helpers.annotation import agreement, checks
from helpers.annotation import via as an
from helpers.annotation.via import AnnotationError, Picture, Region

pytestmark = pytest.mark.filterwarnings("error")
ROOT = Path(__file__).resolve().parents[1]
ATTRIBUTES = ROOT / "images/annotations/via_attributes.json"
HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
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
    '"size":-1,"regions":[],"file_attributes":{}}}'
)


def row(name="a.png", size="-1", shape=SHAPES[0], attributes=GOOD, file="{}"):
    """A CSV row from dicts, or from raw text for a cell."""

    def cell(value):
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        return '"' + text.replace('"', '""') + '"'

    return f"{name},{size},{cell(file)},1,0,{cell(shape)},{cell(attributes)}"


def csv_file(folder, *rows, name="via_export_csv.csv"):
    path = folder / name
    path.write_bytes("\n".join([HEADER, *rows]).encode())
    return path


def json_file(folder, content):
    path = folder / "via_export_json.json"
    path.write_text(json.dumps(content))
    return path


def spreadsheet(data, more=(), **options):
    """VIA's CSV as a spreadsheet saves it, with more cells at the end of each line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", **options)
    writer.writerows([*cells, *more] for cells in csv.reader(io.StringIO(data.decode())))
    return text.getvalue().encode()


@pytest.fixture
def schema():
    return an.read_schema(ATTRIBUTES)


@pytest.fixture
def pictures():
    return three_pictures()


def test_csv_of_via_comes_back_byte_for_byte(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(VIA_CSV.encode())
    an.write_via_csv(an.read_via(path), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == VIA_CSV.encode()


def test_json_project_and_csv_hold_the_same(tmp_path, schema):
    pictures = an.read_via(json_file(tmp_path, json.loads(VIA_JSON)))
    shape = {"name": "ellipse", "cx": 25, "cy": 19, "rx": 2.75, "ry": 6, "theta": 0.001}
    caption = {"caption": "ü→\x01\n"}
    one = Picture("a b.jpg", [Region(shape, {"q": {"ok": True}})], 98120, caption)
    assert pictures == [one, Picture("b.png")]
    an.write_via_project(pictures[::-1], tmp_path / "p.json", schema)  # begins with an empty one
    an.write_via_csv(pictures[::-1], tmp_path / "p.csv")
    of_json, of_csv = (an.read_via(tmp_path / f"p.{end}") for end in ("json", "csv"))
    assert of_json == of_csv == pictures[::-1]
    assert of_json[1].regions[0].row == of_csv[1].regions[0].row == 3


@pytest.mark.parametrize("change", [
    lambda b: b"\xef\xbb\xbf" + b, lambda b: b.replace(b"\n", b"\r\n"),
    lambda b: b.replace(b"\n", b"\n\n") + b"\n", lambda b: b"#" + b,
    lambda b: spreadsheet(b, delimiter=";", quoting=csv.QUOTE_ALL),
    lambda b: spreadsheet(b, delimiter="\t"), lambda b: spreadsheet(b, ["", ""]) + b"\n,,,,,,\n"],
    ids=["BOM", "CRLF", "blank lines", "VIA 1", "semicolons", "tabs", "empty cells"])  # fmt: skip
def test_variants_read_the_same(tmp_path, change):
    """What editors and spreadsheets make of VIA's CSV; VIA 1 wrote a # before the header."""
    (tmp_path / "a").write_bytes(VIA_CSV.encode())
    (tmp_path / "b").write_bytes(change(VIA_CSV.encode()))
    assert an.read_via(tmp_path / "b") == an.read_via(tmp_path / "a")


def test_commas_and_quotes_in_names(tmp_path):
    """VIA writes names as they are, a spreadsheet quotes those with commas; `check` warns."""
    names = ["a, b,c.png", '"a, b".png', "d,e.png"]
    path = csv_file(tmp_path, *map(row, names[:2]), row('"d,e.png"'))
    pictures = an.read_via(path)
    assert [p.filename for p in pictures] == names
    an.write_via_csv(pictures, tmp_path / "again.csv")
    assert an.read_via(tmp_path / "again.csv") == pictures
    [found] = checks.check(path)
    assert "comma, quote or line break" in found.problem and found.more == 2


@pytest.mark.parametrize("name", ["a\nb.png", '"a\r.png', '"a.png"', "half \ud83d.png"])
def test_names_that_a_csv_would_change_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot hold the file name.*rename the file"):
        an.write_via_csv([Picture("ok.png"), Picture(name)], tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []


def test_half_a_surrogate_pair_is_written_as_javascript_does(tmp_path):
    path = csv_file(tmp_path, row(attributes='{"note":"\\ud83d","\\udc00 é":"\\ud83d\\ude00"}'))
    pictures = an.read_via(path)
    assert pictures[0].regions[0].attributes == {"note": "\ud83d", "\udc00 é": "😀"}
    an.write_via_csv(pictures, tmp_path / "again.csv")
    again = path.read_bytes().replace(rb"\ud83d\ude00", "😀".encode())
    assert (tmp_path / "again.csv").read_bytes() == again


def test_an_attribute_left_open_in_via_is_missing(tmp_path, schema):
    """Its page writes `"truncated":undefined`, which is no JSON, and which it cannot read again."""
    values = {**GOOD, "background": "undefined", "note": 'a":undefined, "b'}
    text = json.dumps({**values, "label": 1, "truncated": 1}, separators=(",", ":"))
    path = csv_file(tmp_path, row(), row("b.png", attributes=text.replace(":1", ":undefined")))
    del values["truncated"], values["label"]
    assert an.read_via(path)[1].regions[0].attributes == values
    missing = [(f.row, f.problem) for f in checks.check(path, schema) if "missing" in f.problem]
    assert missing == [(3, "label is missing"), (3, "truncated is missing")]


def test_a_damaged_cell_takes_no_longer_than_a_good_one(tmp_path):
    """5 MB of quotes and no end; looked at anew from each quote on, it would take days."""
    path = csv_file(tmp_path, row(attributes='{"a":undefined,"' + '\\"' * 2_500_000))
    with pytest.raises(AnnotationError, match="row 2: damaged row, region_attributes"):
        an.read_via(path)


def test_regions_of_via_1_are_an_object_in_the_order_written(tmp_path):
    regions = {str(i): {"shape_attributes": {**SHAPES[0], "x": i}} for i in range(12)}
    path = json_file(tmp_path, {"a.png-1": {"filename": "a.png", "regions": regions}})
    [picture] = an.read_via(path)
    assert [r.shape["x"] for r in picture.regions] == [*range(12)]


def test_what_via_does_without_may_be_missing_or_null(tmp_path):
    nulls = {"filename": "b.png", "file_attributes": None, "regions": None, "size": None}
    path = json_file(tmp_path, {"a": {"filename": "a.png"}, "b": nulls})
    assert an.read_via(path) == [Picture("a.png"), Picture("b.png")]


TICKED = '{"nothing_to_draw":{"yes":true}}'
SEEN = [("drawn.png", "{}", True), ("empty.png", TICKED, True),
        ("unseen.png", "{}", False), ("unticked.png", '{"nothing_to_draw":{}}', False)]  # fmt: skip


def test_nothing_to_draw_is_not_the_same_as_not_looked_at(tmp_path, schema):
    """VIA 2 writes a ticked box so, and {} where it was unticked; all three files keep it."""
    cells = [(name, about.replace('"', '""')) for name, about, _ in SEEN[1:]]
    rows = [f'{name},-1,"{cell}",0,0,"{{}}","{{}}"' for name, cell in cells]
    path = csv_file(tmp_path, row("drawn.png"), *rows)
    pictures = an.read_via(path)
    assert [p.seen for p in pictures] == [seen for *_, seen in SEEN]
    assert [p.nothing for p in pictures] == [False, True, False, False]
    assert pictures[1].file_attributes == an.NOTHING
    an.write_via_csv(pictures, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()
    an.write_via_project(pictures, tmp_path / "p.json", schema)
    assert TICKED in (tmp_path / "p.json").read_text()
    assert an.read_via(tmp_path / "p.json") == pictures
    for text in ("yes", True, "TRUE", 1):  # of a spreadsheet, or a text box
        assert Picture("a", file_attributes={"nothing_to_draw": text}).nothing
    sizes = dict.fromkeys([*(name for name, *_ in SEEN), "unlisted.png"], (320, 240))
    [unseen] = checks.check(path, schema, sizes)
    assert str(unseen).startswith("unseen.png, row 4: not looked at yet (and 2 more). Fix: draw")
    assert checks.check(path, {**schema, "file": {}}, sizes) == []  # one could not tick it
    both = replace(pictures[0], file_attributes=an.NOTHING)
    [contradiction] = checks.check([both])
    assert "nothing to draw is ticked, but it has a region" in str(contradiction)


words = st.text(max_size=8)
number = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6))
rects = st.fixed_dictionaries(dict.fromkeys(("x", "y", "width", "height"), number))
lines = st.fixed_dictionaries(dict.fromkeys(("all_points_x", "all_points_y"), st.lists(number)))
values = st.dictionaries(words, words | st.dictionaries(words, st.booleans(), max_size=2))
regions = st.lists(st.builds(Region, rects | lines, values), max_size=3)
names = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)
any_picture = st.builds(Picture, names, regions, st.integers(-1, 10**9), values)
any_pictures = st.lists(any_picture, max_size=4, unique_by=lambda p: f"{p.filename}{p.size}")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(any_pictures)
def test_via_round_trip(tmp_path_factory, pictures):
    """Whatever text, numbers and names: the same comes back, or the name is refused."""
    path = tmp_path_factory.getbasetemp() / "via"
    for write, *more in ((an.write_via_csv,), (an.write_via_project, {"region": {}, "file": {}})):
        try:
            write(pictures, path, *more)
        except ValueError as error:
            assert "cannot hold the file name" in str(error) and '"' in str(error)
            continue
        written = path.read_bytes()
        assert an.read_via(path) == pictures
        write(an.read_via(path), path, *more)
        assert path.read_bytes() == written


def test_via_opens_the_project(tmp_path, pictures, schema):
    """Rules of its importer: settings must hold the project's name, every entry needs four keys and
    its name and size as key, the id list may name known pictures only."""
    an.write_via_project(pictures, tmp_path / "course.json", schema)
    d = json.loads((tmp_path / "course.json").read_text())
    assert d["_via_settings"]["project"]["name"] == "course"
    for key, entry in d["_via_img_metadata"].items():
        assert set(entry) == {"filename", "size", "regions", "file_attributes"}
        assert key == f"{entry['filename']}{entry['size']}"
    assert d["_via_image_id_list"] == list(d["_via_img_metadata"])
    assert d["_via_attributes"] == schema == an.read_schema(tmp_path / "course.json")
    with pytest.raises(ValueError, match="listed twice: merge"):
        an.write_via_project([Picture("a.png"), Picture("a.png")], tmp_path / "p.json", schema)


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
    ({"name": ["rect"]}, "unknown"), ({"name": "rect", "x": 1, "y": 1, "width": 2}, "height"),
    ({**SHAPES[0], "x": "5"}, "x is '5'"), ({**SHAPES[0], "y": math.nan}, "y is nan"),
    ({**SHAPES[1], "r": -1}, "negative"), ({**SHAPES[2], "theta": None}, "theta"),
    ({**SHAPES[3], "all_points_x": []}, "all_points_x"),
    ({**SHAPES[3], "all_points_x": [1, 2]}, "differ"),
    ({**SHAPES[3], "all_points_y": [1, None, 3]}, "all_points_y")])  # fmt: skip
def test_broken_shapes(shape, word):
    """Named with their picture and row, whoever needs them first."""
    with pytest.raises(ValueError, match=re.escape(word)):
        an.bounding_box(shape)
    pictures = [Picture("a.png", [rect(1, 2, 3, 4), Region(shape, row=3)])]
    with pytest.raises(AnnotationError, match=f"^a.png, row 3: .*{re.escape(word)}.*Fix: "):
        an.rescale(pictures, 1 / 16)
    assert word in checks.check(pictures)[0].problem


def test_boxes_and_their_names():
    [picture] = an.from_boxes(["a"], np.array([[5, 3, 6, 18.5]]), [{"label": "cat"}])
    assert picture == Picture("a", [rect(5, 3, 6, 18.5, label="cat")])
    for boxes in ([(1, 2, 3, 4), (5, 6, 7, 8)], [[(1, 2, 3, 4), (5, 6, 7, 8)]]):
        with pytest.raises(ValueError, match=r"Give one box .* per name"):
            an.from_boxes(["a"], boxes)


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
    assert columns.tolist() == [1, 2, 3] and rows.tolist() == [2, 3, 4, 5]  # x..x+width-1
    assert not agreement.masks([Picture("a", [rect(0.6, 0, 0.8, 1)])], (2, 1)).any()  # no centre


def test_rescale_there_and_back():
    pictures = [Picture("a", [Region(s) for s in SHAPES])]
    large = an.rescale(pictures, 20)
    np.testing.assert_allclose(an.boxes(large), 20 * an.boxes(pictures), atol=1e-3)
    assert large[0].regions[2].shape["theta"] == -0.785
    assert an.rescale(large, 1 / 20) == pictures


@pytest.mark.parametrize("line, problem, fix", [
    (row(attributes={**GOOD, "label": "lion"}), "label 'lion' is no option", "choose from airpla"),
    (row(attributes={**GOOD, "background": "sky "}), "background 'sky '", "write 'sky'"),
    (row(attributes={**GOOD, "label": ["cat"]}), "label ['cat']", "write 'cat'"),
    (row(attributes={**GOOD, "image_quality": "blurred"}), "not a checkbox", '{"option": true}'),
    (row(attributes={**GOOD, "image_quality": {"blurry": True}}), "'blurry'", "write 'blurred'"),
    (row(attributes={**GOOD, "Age": "45"}), "'Age' is not in the schema", "remove"),
    (row(file={"caption": "x"}), "'caption' is not in the schema", "remove"),
    (row(shape={**SHAPES[0], "width": 500}), "x 56..556", "move"),
    (row(shape="{'name': 'rect', 'x': 1}"), "damaged row", "json.dumps"),
    (row(shape='{"name":"rect","x":1,"x":2}'), "the key 'x' comes twice", "export"),
    (row(shape="[" * 5000), "damaged row", "export"),
    (row().partition(",")[2], "6 columns, not 7", "again as JSON"),
    (row() + ",more", "file_attributes is no JSON", "again as JSON"),
    (row("b.png"), "no picture of this name", "add the picture"),
])  # fmt: skip
def test_check_finds(tmp_path, schema, line, problem, fix):
    """One damaged row between two good ones: exactly one finding, with its row, problem and fix."""
    path = csv_file(tmp_path, row("first.png"), line, row("last.png"))
    sizes = dict.fromkeys(("a.png", "first.png", "last.png"), (320, 240))
    [found] = checks.check(path, {**schema, "file": {}}, sizes)
    assert found.row == 3 and problem in found.problem and fix in found.fix
    assert found.file in ("a.png", "b.png", path.name)


def test_check_finds_everything_in_one_pass(tmp_path, schema):
    third = row(size="12", attributes={**GOOD, "label": "dgo"})
    path = csv_file(tmp_path, row(), row(), third, "broken", name="damaged.csv")
    found = checks.check(path, schema, {"a.png": (64, 64), "in the damaged row.png": (9, 9)})
    assert [(f.file, f.row, f.problem.split(" ")[0]) for f in found] == [
        ("damaged.csv", 5, "damaged"), ("a.png", 2, "box"), ("a.png", 3, "same"),
        ("a.png", 4, "label"), ("a.png", 4, "picture")]  # fmt: skip
    assert found[1].more == 2  # one finding per cause
    box = "box x 56..111, y 5..54 reaches outside the picture (64 x 64) (and 2 more)"
    assert str(found[1]) == f"a.png, row 2: {box}. Fix: move its border into the picture."


def test_one_cause_is_told_once(tmp_path, schema):
    """Labels are causes of their own, numbers or not; positions are none."""
    values = [{**GOOD, "label": label} for label in ("lion1", "lion2", "lion1")]
    rows = [row(f"{i}.png", attributes=value) for i, value in enumerate(values)]
    path = csv_file(tmp_path, *rows, *(row(shape="{" * n) for n in (1, 2)), "x")
    found = checks.check(path, schema)
    assert [(f.row, f.more) for f in found] == [(5, 1), (7, 0), (2, 1), (3, 0)]
    with pytest.raises(AnnotationError, match=r"row 5.*and 1 more.*\(1 more in \.findings\)"):
        an.read_via(path)
    others = [
        Picture("a.png", [rect(i, 0, 4, 4, **{**GOOD, "label": f"it's {i}"})]) for i in (1, 2)
    ]
    assert len(checks.check([others[0]], schema)) == 1
    assert len([f for f in checks.check(others, schema) if "no option" in f.problem]) == 2


def test_boxes_of_enlarged_copies_are_recognised(pictures, schema):
    sizes = dict.fromkeys([p.filename for p in pictures], (32, 32))
    for factor in (1, 2, 125):
        assert checks.enlargement(an.rescale(pictures, factor), sizes) == factor
    [found] = checks.check(an.rescale(pictures, 16), schema, sizes)
    assert "up to 16 times beyond" in found.problem and "rescale(pictures, 1 / 16)" in found.fix
    stray = [*pictures, Picture("d.png", [rect(500, 0, 9, 9)])]
    assert checks.enlargement(stray, {**sizes, "d.png": (32, 32)}) == 1  # one says nothing


def test_tidy_cuts_what_reaches_a_little_over_the_border():
    before = [Picture("a.png", [replace(rect(-0.06, 3, 12.06, 29.5), row=2), rect(1, 1, 9, 9)])]
    after, [change] = checks.tidy(before, {"a.png": (32, 32)})
    assert after == [Picture("a.png", [rect(0, 3, 12, 29), rect(1, 1, 9, 9)])]
    told = "a.png, row 2: rect reached 0.5 pixels over the border. Fix: done, cut there."
    assert str(change) == told
    assert checks.tidy(after, {"a.png": (32, 32)}) == (after, [])


def test_tidy_leaves_one_of_repeated_regions(tmp_path, schema):
    """Real files hold one region up to 80 times; another label on the same box is no repeat."""
    other = {**GOOD, "label": "dog"}
    lines = [row(), *[row("b.png")] * 80, row("b.png", attributes=dict(reversed(GOOD.items())))]
    path = csv_file(tmp_path, *lines, row("b.png", attributes=other), row("c.png"), row("c.png"))
    [same, differs] = checks.check(path, schema)
    told = "b.png, row 4: same region as in row 3 (and 80 more). Fix: "
    assert str(same) == told + "delete one of them, as checks.tidy does."
    assert differs.row == 84 and differs.fix == "delete one of them"
    after, [change] = checks.tidy(an.read_via(path))
    assert [[r.row for r in p.regions] for p in after] == [[2], [3, 84], [85]]
    assert str(change).startswith("b.png, row 4: region drawn twice (and 80 more). Fix: done")
    assert checks.check(after, schema) == [differs]


def test_tidy_leaves_alone_what_it_cannot_mend():
    circle = Region({"name": "circle", "cx": 1, "cy": 5, "r": 1.5})
    for region in (rect(30, 0, 5, 5), circle, Region({"name": "blob"})):
        before, sizes = [Picture("a.png", [region])], {"a.png": (32, 32)}
        assert checks.tidy(before, sizes) == (before, [])
        assert len(checks.check(before, sizes=sizes)) == 1


def test_tidy_strips_white_space(schema):
    labels = ["cat\n", " dog", "cat"]
    pictures = [Picture(f"{i}", [rect(1, 1, 5, 5, **{**GOOD, "label": label})])
                for i, label in enumerate(labels)]  # fmt: skip
    after, changes = checks.tidy(pictures)
    assert [p.regions[0].attributes["label"] for p in after] == ["cat", "dog", "cat"]
    assert [c.file for c in changes] == ["0", "1"]
    assert changes[0].problem == r"label 'cat\n' had white space at its ends"
    assert checks.check(after, schema) == []


@pytest.mark.parametrize("content, word", [
    (b" \r\n ", "empty"), (b"\x89PNG\r\n\x1a\n", "utf-8"),
    (HEADER.replace(",region_id", "").encode(), "missing columns"),
    (HEADER.encode() + b",comment\n", "unknown or"),  # would be lost
    (b'{"a.png-1": {', "line 1 column"), (b"[1, 2]", "not a JSON object"), (b"[" * 100_000, "VIA"),
    (b'{"_via_img_metadata":[]}', "'_via_img_metadata'"),
    (b'{"a-1":{"filename":"a"},"a-1":{"filename":"a"}}', "the key 'a-1' comes twice"),
    (b'{"a-1":{"filename":"a","regions":[1]}}', "entry 'a-1' is no picture of VIA"),
])  # fmt: skip
def test_damaged_files_give_one_clear_error(tmp_path, content, word):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(AnnotationError, match=re.escape(word)) as error:
        an.read_via(tmp_path / "bad")
    assert str(error.value).startswith("bad") and "Fix:" in str(error.value)
    assert checks.check(tmp_path / "bad") == error.value.findings != []


def test_damaged_schema(tmp_path):
    path = tmp_path / "s.json"
    broken = '{"a":{"type":"radio","options":["x"]}}'
    for text, word in (("{}", "region"), (f'{{"region":{broken},"file":{{}}}}', "options")):
        path.write_text(text)
        with pytest.raises(AnnotationError, match=f"'{word}' is missing or of the wrong kind"):
            an.read_schema(path)


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


def test_unmatched_lone_and_empty_pictures():
    point = Region(SHAPES[5])
    a = [Picture("p", [rect(0, 0, 10, 10)]), Picture("q", [rect(0, 0, 4, 4), point]), Picture("r")]
    b = [Picture("p", [rect(5, 0, 10, 10)]), Picture("s", [rect(1, 1, 4, 4)])]
    result = agreement.compare(a, b)
    assert result.pairs == [] and math.isnan(result.mean_iou) and result.attributes.empty
    assert [n for n, _ in result.only_a] == ["p", "q", "q"]
    assert [n for n, _ in result.only_b] == ["p", "s"]
    assert len(agreement.compare(a, b, gate=1 / 3).pairs) == 1  # IoU of the pair is exactly a third
    assert agreement.compare(a, a).only_a == [("q", point)]  # no area, so no partner


def test_kappa_against_worked_examples():
    """The 2 x 2 table 20, 5, 10, 15 has observed 0.7, expected 0.5, kappa 0.4."""
    a, b = ["y"] * 25 + ["n"] * 25, ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    kappa = agreement.cohen_kappa
    assert kappa(a, b) == pytest.approx(0.4)
    a, b = [*["n"] * 18, "y", "n"], [*["n"] * 18, "n", "y"]  # observed 0.9, expected 0.905
    assert kappa(a, b) == pytest.approx(-0.005 / 0.095)
    assert kappa(a, a) == 1 and kappa(["x", "y"], ["y", "x"]) == -1
    assert kappa(["x"] * 2, ["y"] * 2) == kappa(["x"] * 2, ["x", "y"]) == 0
    assert math.isnan(kappa(["x"] * 2, ["x"] * 2)) and math.isnan(kappa([], []))


def test_attributes_are_compared_over_matched_pairs():
    def annotator(*values):
        return [Picture(f"{i}", [rect(0, 0, 9, 9, **v)]) for i, v in enumerate(values)]

    a = annotator({"k": "x", "t": {"u": True, "v": True}, "c": "1"}, {"k": "y", "t": {}, "c": "1"})
    b = annotator({"k": "x", "t": {"v": True, "u": True}, "c": "1"},
                  {"k": "x", "t": {"u": False}, "c": "1", "only b": "z"})  # fmt: skip
    table = agreement.compare(a, b).attributes
    assert dict(table["equal"]) == {"k": 0.5, "t": 1, "c": 1, "only b": 0.5}
    assert table["kappa"][["k", "t"]].tolist() == [0, 1] and math.isnan(table["kappa"]["c"])
    everything = agreement.compare(a, a)
    assert everything.mean_iou == 1 and (everything.attributes["equal"] == 1).all()
