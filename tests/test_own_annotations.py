"""Assignment4A on files that a reader brings: every cell works, or one message stops the first."""

import contextlib
import dataclasses
import io
import os
import re

import cv2
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest

from helpers import plots
from helpers.annotation import annotator, example_set, via
from helpers.annotation.via import AnnotationError, Picture, Region
from helpers.files import ROOT
from helpers.training import data

COLORS = pd.read_csv(example_set.FOLDER / "mean_colors.csv", index_col="filename")

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


def described(figure, alt, photos=False):
    assert re.fullmatch(r"[^<\n]{20,}\.", alt) and figure.axes


def execute(ids, space, **fields):
    """Run cells in a namespace; (id of the last cell, what was printed, its error or None).

    Figures are made but not drawn, which would take most of the time.
    """
    printed, error = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        for each in ids:
            code = CODE[each]
            for name, value in fields.items():
                code = code.replace(f'{name} = ""', f"{name} = {str(value)!r}")
            try:
                exec(compile(code, each, "exec"), space)
            except (ValueError, OSError) as raised:
                error = raised
                break
            finally:
                plt.close("all")
    return each, printed.getvalue(), error


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The namespace after all cells in an empty folder, without a file of the reader's."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "course").symlink_to(ROOT)
    space = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(ROOT))
        patch.setenv("COURSE_MODE", "quick")
        patch.setattr(annotator, "annotate", lambda *_: None)
        patch.setattr(plots, "use_style", lambda **_: None)  # it wants a kernel
        patch.setattr(plots, "show", described)
        last, printed, error = execute(IDS, space)
    assert error is None and last == IDS[-1]
    assert "100 pictures, 100 boxes" in printed and "Right." not in printed
    return space


@pytest.fixture
def notebook(tmp_path, monkeypatch, executed):
    """Executes what depends on the reader's file; returns what `execute` does, and the names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()

    def run(**fields):
        space = {**executed, "ANNOTATIONS": fields.get("ANNOTATIONS", "")}
        ids = [each for each in IDS[IDS.index("via-file") :] if each not in PASSES]
        return *execute(ids, space, **fields), space

    return run


def rects(boxes=((4, 5, 10, 12),) * 6, names=NAMES, **attributes):
    values = {k: v for k, v in {**VALUES, **attributes}.items() if v is not None}
    return via.from_boxes(names, boxes, [dict(values) for _ in names])


def without(pictures, i):
    return [*pictures[:i], Picture(pictures[i].filename), *pictures[i + 1 :]]


def with_point(pictures):
    pictures[0].regions.append(Region({"name": "point", "cx": 3, "cy": 4}, dict(VALUES)))
    return pictures


OVER = [(4, 5, 10, 12)] * 5 + [(-0.06, 3, 20, 29.06)]
WORKS = {
    "one of ours": (rects(), "6 pictures, 6 boxes"),
    "first without a region": (without(rects(), 0), "6 pictures, 5 boxes"),
    "no label": (rects(label=None), "label is missing"),
    "no attributes": (rects(**dict.fromkeys(VALUES)), "viewpoint is missing"),
    "label outside the list": (rects(label="cat"), "label 'cat' is no option"),
    "label with a line end": (rects(label="disc\n"), "white space at its ends"),
    "a point beside a box": (with_point(rects()), "1 regions without area"),
    "over the border": (rects(OVER), "reached 0.06 pixels over the border"),
    "other pictures": (rects(names=[f"IMG ({i}).jpg" for i in range(6)]), "blank pages of 14 x 17"),
    "large pictures": (
        rects([(900, 40, 3000, 700)] * 6, names=[f"images/Set1/{i}.jpg" for i in range(6)]),
        "at 1/16 of their size on blank pages of 244 x 47",
    ),
    "some other pictures": (rects(names=[*NAMES[:4], "x.png", "y.png"]), "left out: 2 pictures"),
}


@pytest.mark.parametrize("pictures, note", WORKS.values(), ids=WORKS)
def test_every_cell_works_on(notebook, tmp_path, pictures, note):
    via.write_via_csv(pictures, tmp_path / "mine.csv")
    last, printed, error, space = notebook(ANNOTATIONS=str(tmp_path / "mine.csv"))
    assert error is None, f"{last}: {error}"
    assert note in printed
    assert len(space["regions"]) == len(space["boxes"]) == len(space["labels"]) > 0
    assert space["masks"].any()


def test_every_cell_works_on_a_project(notebook, tmp_path):
    schema = via.read_schema(ROOT / "images/annotations/via_attributes.json")
    via.write_via_project(without(rects(), 0), tmp_path / "mine.json", schema)
    last, printed, error, _ = notebook(ANNOTATIONS=str(tmp_path / "mine.json"))
    assert error is None, f"{last}: {error}"
    assert "6 pictures, 5 boxes" in printed


def test_a_file_drawn_on_the_kit_comes_back_in_pixels(notebook, tmp_path):
    schema = via.read_schema(ROOT / "images/annotations/via_attributes.json")
    via.write_via_project(via.rescale(rects(), 16), tmp_path / "via_project.json", schema)
    last, printed, error, space = notebook(VIA_FILE=str(tmp_path / "via_project.json"))
    assert error is None, f"{last}: {error}"
    assert "6 boxes, in pixels, in build/from_via.csv" in printed
    assert space["boxes"].tolist() == [[4, 5, 10, 12]] * 6
    assert "6 of the set's pictures are yours" in printed


FAR = [(4, 5, 10, 12)] * 5 + [(30, 3, 20, 20)]
STOPS = {
    "no region at all": ([Picture(name) for name in NAMES], "it holds no box"),
    "only points": (
        [Picture(NAMES[0], [Region({"name": "point", "cx": 3, "cy": 4})])], "it holds no box"
    ),
    "enlarged": (rects([(64, 80, 160, 192)] * 6), "name the file in section 4, in VIA_FILE"),
    "outside": (rects(FAR), "reaches outside the picture (32 x 32)"),
    "twice": (rects(names=["Set1/" + NAMES[0], NAMES[0]] * 3), "same region"),
    "a shape that is none": ([Picture("a", [Region({"name": "blob"})])], "shape 'blob'"),
}  # fmt: skip


@pytest.mark.parametrize("pictures, message", STOPS.values(), ids=STOPS)
def test_one_message_stops_the_first_cell(notebook, tmp_path, pictures, message):
    via.write_via_csv(pictures, tmp_path / "mine.csv")
    last, _, error, _ = notebook(ANNOTATIONS=str(tmp_path / "mine.csv"))
    assert last == "open" and isinstance(error, AnnotationError)
    assert message in str(error)


@pytest.mark.parametrize(
    "field, cell, content, message",
    [
        ("ANNOTATIONS", "open", None, "There is no file"),
        ("ANNOTATIONS", "open", '{"a": 1}', "no picture of VIA"),
        ("VIA_FILE", "via-file", None, "There is no file"),
    ],
)
def test_no_via_file(notebook, tmp_path, field, cell, content, message):
    if content is not None:
        (tmp_path / "mine.csv").write_text(content)
    last, _, error, _ = notebook(**{field: str(tmp_path / "mine.csv")})
    assert last == cell and message in str(error)


BROKEN = rects([(64, 80, 160, None), (64, 80, 160, "192")] * 3)


@pytest.mark.parametrize(
    "pictures, message",
    [
        (rects(), "Name the file in ANNOTATIONS"),
        (BROKEN[:1], "height is None, not finite numbers"),
        (BROKEN[1:], "x is '64', not finite numbers"),
    ],
)
def test_a_via_file_that_cannot_be_shrunk(notebook, tmp_path, pictures, message):
    via.write_via_csv(pictures, tmp_path / "mine.csv")
    last, _, error, _ = notebook(VIA_FILE=str(tmp_path / "mine.csv"))
    assert last == "via-file" and message in str(error)


def annotated(seed):
    """Pictures with the quarters' mean colors of the annotated ones, or CIFAR-10's where it is."""
    if os.environ.get("CIFAR10_NPZ"):
        dataset = data.load("cifar10")
        return {p: dataset.x_test[dataset.test_index(p)] for p in COLORS.index}
    noise = np.random.default_rng(seed).normal(0, 5, (100, 2, 16, 2, 16, 3))
    noise -= noise.mean(axis=(2, 4), keepdims=True)
    colors = COLORS.to_numpy().reshape(100, 2, 1, 2, 1, 3)
    pictures = (noise + colors).clip(0, 255).round().astype(np.uint8).reshape(-1, 32, 32, 3)
    return dict(zip(COLORS.index, pictures))


def test_only_the_annotated_pictures_get_the_boxes():
    images = annotated(0)
    example_set.require_annotated(images, "copy.npz")
    settings = [cv2.IMWRITE_JPEG_QUALITY, 75, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x221111]  # 4:2:0
    copy = {
        name: cv2.imdecode(cv2.imencode(".jpg", image, settings)[1], cv2.IMREAD_COLOR)
        for name, image in images.items()
    }
    example_set.require_annotated(copy, "copy.npz")
    assert any((copy[name] != images[name]).any() for name in images)
    names = list(images)
    brighter = {**images, names[1]: np.minimum(images[names[1]], 247) + 8}
    with pytest.raises(ValueError, match="1 of 100 pictures of copy.npz"):
        example_set.require_annotated(brighter, "copy.npz")
    names[3], names[7] = names[7], names[3]
    with pytest.raises(ValueError, match=r"2 of 100 pictures of copy.npz .*_0007.png is the first"):
        example_set.require_annotated(dict(zip(names, images.values())), "copy.npz")


def test_another_copy_stops_the_notebook(executed):
    other = dataclasses.replace(executed["dataset"], source="other.npz", test_boxes=None)
    with pytest.raises(ValueError, match="100 of 100 pictures of other.npz are not those"):
        example_set.example_set(other)
