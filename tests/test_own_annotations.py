"""Assignment4A on files that a reader brings: every cell works, or one message stops the first."""

import os
from dataclasses import replace

import cv2
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import plots
from helpers.annotation import annotator, example_set, exports, via
from helpers.annotation.via import Picture, Region
from helpers.files import ROOT
from helpers.training import data

CODE = {
    cell["id"]: cell.source
    for cell in nbformat.read(ROOT / "Assignment4A.ipynb", as_version=4).cells
    if cell.cell_type == "code"
}
IDS = list(CODE)
PASSES = set(IDS[IDS.index("passes") : IDS.index("lazy-answer")])  # section 7 is about our passes
NAMES = [f"synthetic_test_disc_{i:04d}.png" for i in range(6)]
VALUES = {
    "label": "disc", "viewpoint": "front", "truncated": "no", "occluded": "no",
    "background": "mixed", "image_quality": {},
}  # fmt: skip


def execute(ids, space, **fields):
    """Run cells in a namespace."""
    for cell in ids:
        code = CODE[cell]
        for name, value in fields.items():
            code = code.replace(f'{name} = ""', f"{name} = {str(value)!r}")
        exec(compile(code, cell, "exec"), space)
        plt.close("all")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The namespace after all cells, without a file of the reader's."""
    folder, space = tmp_path_factory.mktemp("alone"), {}
    (folder / "helpers").symlink_to(ROOT / "helpers")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(ROOT))
        patch.setattr(annotator, "annotate", lambda *_: None)
        patch.setattr(plots, "use_style", lambda **_: None)  # it wants a kernel
        patch.setattr(plots, "show", lambda *_, **__: None)  # drawing takes most of the time
        execute(IDS, space)
    return space


@pytest.fixture
def notebook(tmp_path, monkeypatch, executed):
    """Executes what depends on the reader's file, or the cells named; returns the namespace."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()

    def run(*ids, **fields):
        space = {**executed, "ANNOTATIONS": fields.get("ANNOTATIONS", "")}
        own = [cell for cell in IDS[IDS.index("via-file") :] if cell not in PASSES]
        execute(ids or own, space, **fields)
        return space

    return run


def rects(boxes=((4, 5, 10, 12),) * 6, names=NAMES, **attributes):
    return via.from_boxes(names, boxes, [{**VALUES, **attributes} for _ in names])


def blemished():
    """A label too long by a line end, one that is no option, none; a picture without a box."""
    pictures = rects([(4, 5, 10, 12)] * 5 + [(-0.06, 3, 20, 29.06)])
    for picture, label in zip(pictures, ("disc\n", "cat")):
        picture.regions[0].attributes["label"] = label
    pictures[2].regions[0].attributes.clear()
    pictures[3].regions[0] = Region({"name": "point", "cx": 3, "cy": 4}, dict(VALUES))
    return pictures


NOTES = (
    "white space at its ends", "label 'cat' is no option", "viewpoint is missing",
    "1 regions without area", "reached 0.06 pixels over the border", "6 pictures, 5 boxes",
)  # fmt: skip
PHOTOS = rects([(900, 40, 3000, 700)] * 6, [f"images/Set1/IMG ({i}).jpg" for i in range(6)])
SOME = rects(names=[*NAMES[:4], "x.png", "y.png"])


@pytest.mark.parametrize(
    "pictures, notes",
    [
        (blemished(), NOTES),
        (SOME, ["left out: 2 pictures"]),
    ],
)
def test_every_cell_works_on_files_of_readers(notebook, tmp_path, capsys, pictures, notes):
    via.write_via_csv(pictures, tmp_path / "mine.csv")
    space = notebook(ANNOTATIONS=tmp_path / "mine.csv")
    printed = capsys.readouterr().out
    assert [note for note in notes if note not in printed] == []
    assert len(space["boxes"]) == len(space["labels"]) > 0 and space["masks"].any()


def test_a_project_drawn_on_the_kit_comes_back_in_pixels(notebook, tmp_path, capsys):
    schema = via.read_schema(example_set.FOLDER / "via_attributes.json")
    via.write_via_project(via.rescale(rects(), 16), tmp_path / "via_project.json", schema)
    space = notebook(VIA_FILE=tmp_path / "via_project.json")
    assert space["boxes"].tolist() == [[4, 5, 10, 12]] * 6
    assert "6 of the set's pictures are yours" in capsys.readouterr().out


SIZES = {
    "ball/IMG (1).jpg": (1600, 1200), "ball/2.png": (90, 120), "crate/IMG (1).jpg": (900, 1300),
    "crate/empty.jpg": (300, 200), "crate/unseen.jpg": (64, 64),
}  # fmt: skip
BOXES = {
    "ball/IMG (1).jpg": [[100, 200, 300, 400], [900, 0, 700, 1200]],
    "ball/2.png": [[0, 60, 90, 60]], "crate/IMG (1).jpg": [[10, 1000, 200, 300]],
}  # fmt: skip


@pytest.fixture
def photographs(tmp_path):
    """A folder of photographs, one turned by EXIF, and what somebody drew on them."""
    drawn = [via.Picture("crate/empty.jpg", file_attributes=via.NOTHING)]
    for name, size in SIZES.items():
        path, image, tag = tmp_path / "photos" / name, Image.new("RGB", size, "navy"), Image.Exif()
        for x, y, w, h in BOXES.get(name, []):
            image.paste("orange", (x, y, x + w, y + h))
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "crate/IMG (1).jpg":
            tag[0x0112], image = 6, image.transpose(Image.Transpose.ROTATE_90)
        image.save(path, exif=tag)
        values = {"label": name.split("/")[0], "truncated": "no", "occluded": "no"}
        regions = [Region(via.rect(box), values) for box in BOXES.get(name, [])]
        drawn += [Picture(name, regions)] if regions else []
    return drawn


OWN = ("configuration", "annotate", "via-kit", "via-zip")


def test_every_cell_works_on_photographs_and_exports_lie_beside_them(
    notebook, tmp_path, photographs, capsys
):
    via.write_via_csv(photographs, tmp_path / "mine.csv")
    later = [cell for cell in IDS[IDS.index("open") :] if cell not in PASSES]
    space = notebook(*OWN, *later, PICTURES="photos", ANNOTATIONS="mine.csv")
    printed = capsys.readouterr().out
    assert "4 pictures, 4 boxes, 1 with nothing to draw" in printed
    assert "crate/unseen.jpg: not looked at yet. Fix" in printed
    assert via.boxes(space["completed"]).tolist() == [b for some in BOXES.values() for b in some]
    for name in BOXES:  # drawn on what is shown, which is reduced
        shown = {p.filename: p for p in space["opened"].stretched()}[name].regions[0].shape
        image, x, y = space["images"][name], shown["x"], shown["y"]
        inside = image[int(y + shown["height"] / 2), int(x + shown["width"] / 2)]
        assert max(image.shape) <= 800 and inside[0] > 200 > 60 > image[2, 2, 0]

    folder = tmp_path / "build/exports"
    stems = {"ball__IMG (1)", "ball__2", "crate__IMG (1)", "crate__empty"}
    for part in ("labels", "images", "voc"):
        assert {path.stem for path in (folder / part).iterdir()} == stems
    assert (folder / "labels/crate__empty.txt").read_text() == ""
    referee = pytest.importorskip("pycocotools.coco", reason="the referee is a test requirement")
    coco = referee.COCO(folder / "coco.json")
    assert len(coco.anns) == 4
    for image_id, about in coco.imgs.items():
        image = Image.open(folder / "images" / about["file_name"])
        assert image.size == (about["width"], about["height"])  # also of the turned one
        for box in coco.loadAnns(coco.getAnnIds(image_id)):
            x, y, w, h = box["bbox"]
            assert image.convert("RGB").getpixel((x + w / 2, y + h / 2))[0] > 200


def test_boxes_on_photographs_come_from_the_tool_from_via_or_in_another_format(
    notebook, tmp_path, photographs, capsys
):
    space = notebook(*OWN, "open", PICTURES="photos")
    assert "no box on your pictures yet" in capsys.readouterr().out
    assert len(space["boxes"]) == 100  # of the course
    kit = tmp_path / "build/via_kit"
    names = {exports.flat_name(name) for name in SIZES} | {
        "via_project.json",
        "via_attributes.json",
    }
    assert {path.name for path in kit.iterdir()} == names and space["scale"] == 1
    via.write_via_csv(photographs, space["album"].boxes)  # as the tool of section 3
    flat = [replace(p, filename=exports.flat_name(p.filename)) for p in photographs]
    via.write_via_csv(flat, tmp_path / "from_kit.csv")
    exports.write_coco(photographs, tmp_path / "coco.json", SIZES, ["ball", "crate"])
    drawn = {p.filename: via.boxes([p]).tolist() for p in photographs}
    for fields in ({}, {"ANNOTATIONS": "coco.json"}, {"VIA_FILE": "from_kit.csv"}):
        cells = (*OWN, "via-file", "open")
        completed = notebook(*cells, PICTURES="photos", **fields)["completed"]
        assert {p.filename: via.boxes([p]).tolist() for p in completed} == drawn
        assert [p.filename for p in completed if p.nothing] == ["crate/empty.jpg"]
    via.write_via_csv(rects(), tmp_path / "others.csv")
    with pytest.raises(ValueError, match="it shows other pictures than your pictures"):
        notebook(*OWN, "open", PICTURES="photos", ANNOTATIONS="others.csv")


STOPS = [
    ("ANNOTATIONS", None, "There is no file"),
    ("ANNOTATIONS", [Picture(name) for name in NAMES], "it holds no box"),
    ("ANNOTATIONS", rects([(64, 80, 160, 192)] * 6), "in section 4, in VIA_FILE"),
    ("ANNOTATIONS", rects([*[(4, 5, 10, 12)] * 5, (30, 3, 20, 20)]), "reaches outside the picture"),
    ("ANNOTATIONS", rects(names=["Set1/" + NAMES[0], NAMES[0]] * 3), "picture listed twice"),
    ("ANNOTATIONS", rects([(4, 5, 9, None)] * 6), "height is None, not finite numbers"),
    (
        "ANNOTATIONS",
        PHOTOS,
        "other pictures than synthetic stand-in. Fix: name their folder in PIC",
    ),
    ("VIA_FILE", rects(), "Name the file in ANNOTATIONS"),
]


@pytest.mark.parametrize("field, pictures, message", STOPS)
def test_one_message_stops_the_first_cell(notebook, tmp_path, field, pictures, message):
    if pictures:
        via.write_via_csv(pictures, tmp_path / "mine.csv")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        notebook("via-file" if field == "VIA_FILE" else "open", **{field: "mine.csv"})


@pytest.fixture
def images():
    """Pictures with the quarters' mean colors of the annotated ones, or CIFAR-10's where it is."""
    colors = pd.read_csv(example_set.FOLDER / "mean_colors.csv", index_col="filename")
    if os.environ.get("CIFAR10_NPZ"):
        dataset = data.load("cifar10")
        return {name: dataset.x_test[dataset.test_index(name)] for name in colors.index}
    noise = np.random.default_rng(0).normal(0, 5, (100, 2, 16, 2, 16, 3))
    noise -= noise.mean(axis=(2, 4), keepdims=True)
    pictures = (noise + colors.to_numpy().reshape(100, 2, 1, 2, 1, 3)).clip(0, 255).round()
    return dict(zip(colors.index, pictures.astype(np.uint8).reshape(-1, 32, 32, 3)))


def test_only_the_annotated_pictures_get_the_boxes(images):
    example_set.require_annotated(images, "copy.npz")
    copy, quality = {}, [cv2.IMWRITE_JPEG_QUALITY, 75]
    for name, image in images.items():
        copy[name] = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    example_set.require_annotated(copy, "copy.npz")
    names = list(images)
    brighter = {**images, names[1]: np.minimum(images[names[1]], 247) + 8}
    with pytest.raises(ValueError, match="1 of 100 pictures of copy.npz"):
        example_set.require_annotated(brighter, "copy.npz")
    names[3], names[7] = names[7], names[3]
    with pytest.raises(ValueError, match=r"2 of 100 pictures of copy.npz .*_0007.png is the first"):
        example_set.require_annotated(dict(zip(names, images.values())), "copy.npz")
