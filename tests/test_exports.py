"""Tests of helpers/annotation/exports.py; pycocotools is the referee for COCO."""

import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from records import CLASSES, empty, rect, three_pictures, tree

from helpers.annotation import exports as ex
from helpers.annotation.via import HEADER, AnnotationError, Picture, boxes
from helpers.files import write_text

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools
]


@pytest.fixture
def pictures():
    return three_pictures()


def all_32(pictures):
    return {p.filename: (32, 32) for p in pictures}


def write(kind, pictures, folder):
    """One of the three exports of pictures of 32x32."""
    if kind == "coco":
        ex.write_coco(pictures, folder / "coco.json", all_32(pictures), CLASSES)
    elif kind == "yolo":
        ex.write_yolo(pictures, folder / "yolo", all_32(pictures), CLASSES)
    else:
        ex.write_voc(pictures, folder / "voc", all_32(pictures))


every_kind = pytest.mark.parametrize("kind", ["coco", "yolo", "voc"])


def test_coco_is_accepted_and_scores_ap_1(tmp_path, pictures):
    pytest.importorskip("pycocotools", reason="the referee is a test requirement")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    write("coco", pictures, tmp_path)
    truth = COCO(str(tmp_path / "coco.json"))
    assert [c["name"] for c in truth.loadCats(truth.getCatIds())] == CLASSES
    assert min(truth.getAnnIds()) == min(truth.getImgIds()) == min(truth.getCatIds()) == 1
    keys = ("image_id", "category_id", "bbox")
    guesses = truth.loadRes([{k: a[k] for k in keys} | {"score": 1.0} for a in truth.anns.values()])
    judge = COCOeval(truth, guesses, "bbox")
    judge.evaluate(), judge.accumulate(), judge.summarize()
    assert judge.stats[0] == judge.stats[1] == 1.0 and len(guesses.anns) == 3


def test_coco_content(tmp_path, pictures):
    write("coco", pictures, tmp_path)
    d = json.loads((tmp_path / "coco.json").read_text())
    assert d["images"][1] == {"id": 2, "file_name": "b (1).png", "width": 32, "height": 32}
    third = d["annotations"][2]
    assert third["bbox"] == [1, 2, 3, 4] and third["area"] == 12 and third["iscrowd"] == 0
    assert third["segmentation"] == [[1, 2, 4, 2, 4, 6, 1, 6]]
    assert d["categories"][third["category_id"] - 1]["name"] == "ship"
    assert ex.read_coco(tmp_path / "coco.json") == pictures


def test_voc_counts_from_one_and_includes_the_last_pixel(tmp_path, pictures):
    write("voc", pictures, tmp_path)
    text = (tmp_path / "voc/a.xml").read_text()
    assert re.findall("<[xy]m[ai][nx]>(.*?)<", text) == "1 1 32 32 6 4 11 21".split()
    assert re.findall("<(?:truncated|occluded|width|depth)>(.*?)<", text) == "32 3 0 1 0 1".split()
    np.testing.assert_array_equal(boxes(ex.read_voc(tmp_path / "voc")), boxes(pictures))


def test_yolo_content(tmp_path, pictures):
    """For trainers (Ultralytics): classes by index, pictures in images/ beside labels/."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    sizes, classes = (
        {p.filename: (32, 64) for p in pictures},
        [*CLASSES, "no", "7", 'a: "b" #', "👩\u200d🚀"],
    )
    pictures[2] = Picture("c.png", [rect(1, 1, 2, 2, label=classes[-1])])
    ex.write_yolo(pictures, tmp_path, sizes, classes)
    files = tree(tmp_path)
    data = yaml.safe_load(files.pop("data.yaml"))
    assert data == {"train": "images", "val": "images", "names": classes}
    assert files == {
        "classes.txt": ("\n".join(classes) + "\n").encode(),
        "labels/a.txt": b"3 0.500000 0.250000 1.000000 0.500000\n"
        b"3 0.250000 0.187500 0.187500 0.281250\n",
        "labels/b (1).txt": b"8 0.078125 0.062500 0.093750 0.062500\n",
        "labels/c.txt": b"13 0.062500 0.031250 0.062500 0.031250\n",
    }
    assert ex.read_yolo(tmp_path, sizes)[2] == pictures[2]


def test_yolo_shares_are_at_most_1(tmp_path):
    """Trainers leave out a picture with a share above 1; `check` allows a thousandth of a pixel."""
    hair = [Picture("a.png", [rect(0, 0, 32.0009, 32, label="cat")])]
    write("yolo", hair, tmp_path)
    assert tree(tmp_path)["yolo/labels/a.txt"] == b"3 0.500000 0.500000 1.000000 1.000000\n"
    (tmp_path / "yolo/labels/a.txt").write_text("3 .5 .5 1.000001 1.000001\n")
    [picture] = ex.read_yolo(tmp_path / "yolo", {"a.png": (32, 32)})
    assert boxes([picture]).tolist() == [[0, 0, 32, 32]]


@pytest.mark.parametrize("name, stem", [
    ("images/Set1/IMG (2987).jpg", "images__Set1__IMG (2987)"),
    ("a [1] {b}.tar.png", "a [1] {b}.tar"), ("console/com.png", "console__com")])  # fmt: skip
def test_names_with_folders_spaces_and_brackets(tmp_path, name, stem):
    pictures = [Picture(name, [rect(1, 2, 3, 4, label="cat")])]
    for kind in ("coco", "yolo", "voc"):
        write(kind, pictures, tmp_path)
    yolo = {"yolo/classes.txt", "yolo/data.yaml", f"yolo/labels/{stem}.txt"}
    assert set(tree(tmp_path)) == {"coco.json", *yolo, f"voc/{stem}.xml"}
    for export in ("coco.json", "voc"):
        assert ex.read_any(tmp_path / export, {name: (32, 32)}) == pictures
    assert ex.read_yolo(tmp_path / "yolo", {name: (32, 32)}) == pictures


def test_voc_boxes_are_whole_pixels(tmp_path):
    small = [(5.2, 3, 0.3, 1), (31.8, 31.8, 0.2, 0.2), (4.8125, 3, 6.375, 2)]  # below one pixel
    write("voc", [Picture("a.png", [rect(*box, label="cat") for box in small])], tmp_path)
    sides = re.findall("<[xy]m[ai][nx]>(.*?)<", (tmp_path / "voc/a.xml").read_text())
    assert sides == "6 4 6 4 32 32 32 32 6 4 11 5".split()


@st.composite
def exportable(draw):
    """Pictures with sizes, float boxes inside them and labels that need escaping."""
    name = st.text(st.sampled_from("ab&' ()é;"), min_size=1, max_size=6)
    share, label = st.floats(0.05, 0.5), st.sampled_from(["cat", "<b>&\"'", "a b ", "]]>", "😀"])
    pictures, sizes = [], {}
    for stem in sorted(draw(st.lists(name, min_size=1, max_size=3, unique=True))):
        w, h = sizes[f"{stem}.png"] = draw(st.tuples(st.integers(1, 8192), st.integers(1, 8192)))
        boxes = draw(st.lists(st.tuples(share, share, share, share), max_size=3, unique=True))
        regions = [rect(x * w, y * h, u * w, v * h, label=draw(label)) for x, y, u, v in boxes]
        pictures.append(Picture(f"{stem}.png", regions) if regions else empty(f"{stem}.png"))
    return pictures, sizes


@settings(max_examples=50, deadline=None, derandomize=True)
@given(exportable())
def test_round_trips(tmp_path_factory, case):
    """Error in pixels: COCO none, VOC up to one (it counts whole ones), YOLO 0.01 up to 8192."""
    pictures, sizes = case
    labels = {p.filename: [r.attributes for r in p.regions] for p in pictures}
    categories = sorted({r.attributes["label"] for p in pictures for r in p.regions} | {"unused"})
    folder = tmp_path_factory.mktemp("exports")
    ex.write_coco(pictures, folder / "c", sizes, categories)
    ex.write_yolo(pictures, folder / "y", sizes, categories)
    ex.write_voc(pictures, folder / "v", sizes)
    back = ex.read_coco(folder / "c"), ex.read_voc(folder / "v"), ex.read_yolo(folder / "y", sizes)
    for read, error in zip(back, (0, 1, 0.01)):
        assert {p.filename: [r.attributes for r in p.regions] for p in read} == labels
        read = sorted(read, key=lambda p: list(sizes).index(p.filename))
        np.testing.assert_allclose(boxes(read), boxes(pictures), rtol=0, atol=error)


@every_kind
@pytest.mark.parametrize("name", [
    "images/../../a.png", "a\\b.png", "/a.png", "", "a\0.png", "CON.xml", "b/nul .png",
    "Com1.jpg", "a*?.png", "C:x.png", "dir./b.png", "half \ud83d.png"])  # fmt: skip
def test_names_that_not_every_system_can_hold_are_refused(tmp_path, kind, name):
    """They lead out of the folder, or fail on Windows."""
    with pytest.raises(AnnotationError, match="no file name that every system.*rename it"):
        write(kind, [Picture("ok.png"), Picture(name)], tmp_path)
    assert list(tmp_path.iterdir()) == []


@every_kind
@pytest.mark.parametrize("region, word", [
    (rect(30, 0, 5, 5, label="cat"), "outside"), (rect(1, 1, 0, 5, label="cat"), "without area"),
    (rect(1, math.nan, 4, 5, label="cat"), "nan"), (rect(1, 1, 2, 2), "label is None"),
    (rect(1, 1, 2, 2, label="cat\n"), "label is.*checks.tidy strips"),
    (rect(1, 1, 2, 2, label="\ud83d"), "label is")])  # fmt: skip
def test_regions_that_cannot_be_exported(tmp_path, pictures, kind, region, word):
    """One error that names the picture, and the export written before stays as it was."""
    write(kind, pictures, tmp_path)
    before = tree(tmp_path)
    with pytest.raises(AnnotationError, match=f"^bad.png: .*{word}"):
        write(kind, [*pictures, Picture("bad.png", [region])], tmp_path)
    assert tree(tmp_path) == before


def test_no_two_pictures_share_a_name(tmp_path):
    twins = ["a/b.png", "a__b.png"]
    for kind, names in (("voc", ["a.png", "A.jpg"]), ("yolo", twins), ("coco", twins)):
        with pytest.raises(AnnotationError, match="share the name .*rename one of them"):
            write(kind, [Picture(name) for name in names], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("categories, word", [
    ([], "'cat' is none of the categories"), ([*CLASSES, "cat"], "'cat' comes twice"),
    ([*CLASSES, "a\nb"], "no line of text")])  # fmt: skip
def test_categories_that_cannot_be_written(tmp_path, pictures, categories, word):
    for writer in (ex.write_coco, ex.write_yolo):
        with pytest.raises(AnnotationError, match=word):
            writer(pictures, tmp_path / "out", all_32(pictures), categories)
    assert list(tmp_path.iterdir()) == []


@every_kind
def test_a_full_disk_leaves_the_old_files(tmp_path, pictures, monkeypatch, kind):
    write(kind, pictures, tmp_path)
    before = tree(tmp_path)

    def full(path, text, **_):
        path.write_bytes(text[:5].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write(kind, [empty(p.filename) for p in pictures], tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_what_somebody_else_put_there_is_not_touched(tmp_path, pictures, kind):
    write(kind, pictures, tmp_path)
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match="also holds.*choose a new folder"):
        write(kind, pictures[:1], tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("old, new, word", [
    ("</annotation>", "", "no element"), ("filename>", "f>", "filename"), ("bndbox", "b", "bndbox"),
    (">2<", ">nan<", "nan"), (">2<", ">9<", "negative")])  # fmt: skip
def test_damaged_voc(tmp_path, pictures, old, new, word):
    write("voc", pictures[1:2], tmp_path)
    path = tmp_path / "voc/b (1).xml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(AnnotationError, match=f"b .1..xml.*{word}"):
        ex.read_voc(tmp_path / "voc")


@pytest.mark.parametrize("text, word", [
    ("3 0.5 0.5 0.1", "reshape"), ("10 .5 .5 .1 .1", "no class 10 among the 10"),
    ("-1 .5 .5 .1 .1", "no class -1"), ("1 nan .5 .1 .1", "nan"), ("1 .5 .5 -.1 .1", "negative"),
    ("cat .5 .5 .1 .1", "cat"), ("1 16 16 8 8", "beyond the picture")])  # fmt: skip
def test_damaged_yolo(tmp_path, text, word):
    write("yolo", [empty("a.png")], tmp_path)
    (tmp_path / "yolo/labels/a.txt").write_text(text)
    with pytest.raises(AnnotationError, match=f"a.txt.*{word}"):
        ex.read_yolo(tmp_path / "yolo", {"a.png": (32, 32)})


@every_kind
def test_nothing_to_draw_is_exported_and_not_looked_at_is_left_out(tmp_path, kind):
    seen = [Picture("a.png", [rect(1, 2, 3, 4, label="cat")]), empty("b.png")]
    unticked = Picture("unticked.png", file_attributes={"nothing_to_draw": {}})
    pictures = [Picture("unseen.png"), *seen, unticked]
    write(kind, pictures, tmp_path)
    assert not re.search("unseen|unticked", str(files := tree(tmp_path)))
    assert files.get("yolo/labels/b.txt", b"") == b""
    assert ex.read_any(tmp_path / kind if kind != "coco" else tmp_path, all_32(pictures)) == seen


@pytest.mark.parametrize("part, change, word", [
    ("images", [], "no image 1"), ("images", None, "'images'"),
    ("images", [{"id": i, "file_name": "a"} for i in (1, 2, 1)], "two images have one id"),
    ("categories", [{"id": i % 10, "name": "cat"} for i in range(11)], "two categories have one"),
    ("annotations", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3]}], "shorter"),
    ("annotations", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, "3", 4]}], "width is '3'"),
])  # fmt: skip
def test_damaged_coco(tmp_path, pictures, part, change, word):
    write("coco", pictures, tmp_path)
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), part: change}))
    with pytest.raises(AnnotationError, match=f"coco.json: no valid COCO.*{word}"):
        ex.read_coco(path)


def test_an_attribute_does_not_replace_the_category(tmp_path):
    """Other programs write attributes of their own beside it."""
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "attributes": {"label": "x"}}
    coco = {"images": [{"id": 1, "file_name": "a"}], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "c").write_text(json.dumps({**coco, "annotations": [box]}))
    assert ex.read_coco(tmp_path / "c") == [Picture("a", [rect(1, 2, 3, 4, label="cat")])]


def test_tools_find_the_pictures_beside_the_exports(tmp_path):
    """By the rules of pycocotools, of Ultralytics' trainer, and of VOC's readers (supervision)."""
    COCO = pytest.importorskip("pycocotools.coco", reason="a test requirement").COCO
    sizes = {"Set1/a.png": (64, 40), "Set2/a.png": (40, 64), "b.jpg": (300, 20), "c.png": (9, 9)}
    boxes = (60, 30, 4, 10), (0, 0, 40, 64), (290, 1, 9, 9)
    pictures = [Picture(name, [rect(*box, label="cat")]) for name, box in zip(sizes, boxes)]
    pictures += [empty("c.png"), Picture("unseen.png")]
    for _ in range(2):  # the pictures do not hinder a second export
        known = {**sizes, "unseen.png": (9, 9)}
        ex.write_yolo(pictures, tmp_path, known, ["dog", "cat"])
        ex.write_coco(pictures, tmp_path / "coco.json", known, ["cat"])
        ex.write_voc(pictures, tmp_path / "voc", known)
        (tmp_path / "images").mkdir(exist_ok=True)
        for name, size in sizes.items():
            Image.new("RGB", size).save(tmp_path / "images" / ex.flat_name(name))
    coco = COCO(str(tmp_path / "coco.json"))
    assert all(coco.annToMask(a).sum() == a["area"] for a in coco.anns.values())
    entries = {
        entry["file_name"]: (entry["width"], entry["height"]) for entry in coco.imgs.values()
    }
    paths = sorted((tmp_path / "images").iterdir())
    assert sorted(entries) == [path.name for path in paths] and len(coco.anns) == 3
    assert len(list((tmp_path / "labels").iterdir())) == len(paths)
    for path in paths:
        label = "/labels/".join(str(path).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"
        rows = [list(map(float, line.split())) for line in Path(label).read_text().splitlines()]
        assert all(0 <= share <= 1 for row in rows for share in row[1:])
        assert [(row[0], len(row)) for row in rows] == [(1, 5)] * (path.name != "c.png")
        voc = ElementTree.parse(tmp_path / "voc" / f"{path.stem}.xml")
        size = tuple(int(voc.findtext(f"size/{side}")) for side in ("width", "height"))
        with Image.open(path) as image:
            assert size == entries[path.name] == image.size
        assert voc.findtext("filename") == path.name


VOC = """<annotation><folder>x</folder><filename>{}.png</filename><path>C:\\x\\{}.png</path><size>
<width>64</width><height>40</height><depth>3</depth></size><segmented>0</segmented>{}</annotation>"""
OBJECT = """<object><name>{}</name><pose>Unspecified</pose><difficult>0</difficult><bndbox><xmin>{}
</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""
DRAWN = VOC.format("a", "a", OBJECT.format("cat", 9, 5, 24, 14))
FROM_0 = OBJECT.format("cat", 8, 4, 24, 14) + OBJECT.format("NA", 0, 0, 64, 40)
LINE, OUTLINE = "1 .25 .225 .25 .25\n", "1 .125 .1 .375 .1 .375 .35 .2 .35\n"
COCO = {
    "images": [{"id": 7, "file_name": "train/a.png"}, {"id": 8, "file_name": "train/b.png"}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 0, "bbox": [8, 4, 16, 10]}],
    "categories": [{"id": 0, "name": "cat"}],
}
OUTLINED = {"image_id": 7, "category_id": 0, "segmentation": [[8, 4, 24, 9], [10, 14]]}
SIDES = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


@pytest.mark.parametrize("files, empty_too", [
    ({"a.xml": DRAWN, "b.xml": VOC.format("b", "b", ""), "._a.xml": "\0"}, True),
    ({"train/a.xml": DRAWN}, False),
    ({"classes.txt": "dog\ncat\n", "a.txt": LINE, "b.txt": ""}, True),  # labelImg
    ({"classes.txt": "dog\ncat", "notes.json": "{}", "labels/a.txt": LINE}, False),  # Label Studio
    ({"data.yaml": "names: ['dog', 'cat']\nnc: 2", "train/labels/a.txt": OUTLINE,
      "valid/labels/b.txt": " \n", "README.txt": "Hello"}, True),  # Roboflow
    ({"data.yml": "names:\n  0: no\n  1: cat\n", "labels/train/a.txt": LINE}, False),
    ({"obj.names": "dog\ncat\n", "obj_train_data/a.txt": LINE, "train.txt": "a.png"}, False),
    ({"train/_annotations.coco.json": json.dumps(COCO)}, True),
    ({"coco.json": json.dumps({**COCO, "annotations": [OUTLINED]})}, True),
    ({"_annotations.csv": SIDES + "a.png,64,40,cat,9,5,24,14\n"}, False),
    ({"via.csv": f'{HEADER}\nx/a.jpg,-1,"{{}}",1,0,"{{""name"":""rect"",""x"":8,""y"":4,'
      '""width"":16,""height"":10}","{""label"":""cat""}"'}, False)])  # fmt: skip
def test_read_any_tells_formats_by_content(tmp_path, files, empty_too):
    """As labelImg, Roboflow, CVAT and others write them; the pictures lie in a folder."""
    for name, text in files.items():
        write_text(tmp_path / name, text)
    sizes = {"Set1/a.png": (64, 40), "Set1/b.png": (64, 40), "Set1/unseen.png": (9, 9)}
    drawn = Picture("Set1/a.png", [rect(8, 4, 16, 10, label="cat")])
    read = ex.read_any(tmp_path, sizes)
    assert read == [drawn, *[empty("Set1/b.png")] * empty_too]
    if len(files) == 1:
        assert ex.read_any(tmp_path / next(iter(files)), sizes) == read


def test_boxes_from_0_are_told_by_a_0(tmp_path):
    table = SIDES + "a,1,1,cat,8,4,24,14\na,1,1,NA,0,0,64,40"
    for name, text in (("a.xml", VOC.format("a", "a", FROM_0)), ("a.csv", table)):
        write_text(tmp_path / name, text)
        [picture] = ex.read_any(tmp_path / name)
        assert boxes([picture]).tolist() == [[8, 4, 16, 10], [0, 0, 64, 40]]
        assert [r.attributes["label"] for r in picture.regions] == ["cat", "NA"]


@pytest.mark.parametrize("content, program", [
    ('{"version":"5.2","shapes":[],"imagePath":"a.png","imageData":null}', "LabelMe"),
    ('[{"id":1,"annotations":[],"predictions":[],"data":{"image":"a.png"}}]', "Label Studio"),
    ('{"project":{},"config":{},"attribute":{},"file":{},"metadata":{},"view":{}}', "VIA 3"),
    ("<?xml version='1.0'?><annotations><version>1.1</version></annotations>", "CVAT"),
])  # fmt: skip
def test_what_is_not_read_is_named(tmp_path, content, program):
    write_text(tmp_path / "x", content)
    with pytest.raises(AnnotationError, match=f"^x: the own format of {program}, .*Fix: export it"):
        ex.read_any(tmp_path / "x")


def test_label_files_of_pictures_of_one_name(tmp_path):
    write_text(tmp_path / "data.yaml", "names: {0: no, 1: 007}")
    write_text(tmp_path / "a.txt", "")
    sizes = {"Set1/a.png": (9, 9), "Set2/a.png": (9, 9)}
    with pytest.raises(AnnotationError, match="a.txt.*not the only one that fits 'Set1/a.png'"):
        ex.read_any(tmp_path, sizes)
    (tmp_path / "a.txt").unlink()
    write_text(tmp_path / "labels/Set1/a.txt", "0 .5 .5 1 1")
    write_text(tmp_path / "labels/Set2/a.txt", "1 .5 .5 1 1")
    read = [rect(0, 0, 9, 9, label="no")], [rect(0, 0, 9, 9, label="007")]
    assert ex.read_any(tmp_path, sizes) == list(map(Picture, sizes, read))
    write_text(tmp_path / "Set1/a.txt", "")
    with pytest.raises(AnnotationError, match="a.txt.*not the only one that fits 'Set1/a.png'"):
        ex.read_any(tmp_path, sizes)
