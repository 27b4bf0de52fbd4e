"""Tests of helpers/annotation/exports.py; pycocotools is the referee for COCO."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import CLASSES, empty, rect, three_pictures, tree

from helpers.annotation import exports as ex
from helpers.annotation.via import AnnotationError, Picture, boxes

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
    assert data == {"train": "images", "val": "images", "names": dict(enumerate(classes))}
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
    assert ex.read_coco(tmp_path / "coco.json") == ex.read_voc(tmp_path / "voc") == pictures
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


def test_label_files_are_named_by_stem(tmp_path):
    for kind, names in (("voc", ["a.png", "A.jpg"]), ("yolo", ["a/b.png", "a__b.png"])):
        with pytest.raises(AnnotationError, match="share one label file .*rename one of them"):
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
    """Every reader tells them apart; also in a YOLO folder of others, without a label file."""
    seen, unticked = (
        [Picture("a.png", [rect(1, 2, 3, 4, label="cat")]), empty("b.png")],
        {"nothing_to_draw": {}},
    )
    unseen = [Picture("unseen.png"), Picture("unticked.png", file_attributes=unticked)]
    write(kind, [unseen[0], *seen, unseen[1]], tmp_path)
    read = {
        "coco": lambda sizes: ex.read_coco(tmp_path / "coco.json"),
        "yolo": lambda sizes: ex.read_yolo(tmp_path / "yolo", sizes),
        "voc": lambda sizes: ex.read_voc(tmp_path / "voc"),
    }[kind]
    assert read(all_32(seen)) == seen
    files = tree(tmp_path)
    assert not re.search("unseen|unticked", str(files))
    if kind == "yolo":
        assert files["yolo/labels/b.txt"] == b""
        assert read(all_32([*seen, unseen[0]])) == [*seen, unseen[0]]


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
