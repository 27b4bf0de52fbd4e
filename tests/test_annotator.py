"""The annotator without a browser: the tests do to its canvas and buttons what a browser does."""

import base64
import subprocess
import sys
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

pytest.importorskip("jupyter_bbox_widget", reason="jupyter-bbox-widget is not installed")

from helpers import files
from helpers.annotation import annotator, via
from helpers.annotation.annotator import annotate
from helpers.annotation.via import AnnotationError, Picture, Region, read_via, write_via_csv
from helpers.files import ROOT

SCHEMA = {
    "file": {},
    "region": {
        "viewpoint": {"type": "dropdown", "options": {"front": "front", "three_quarter": "3/4"}},
        "truncated": {"type": "radio", "options": {"no": "no", "yes": "yes"}},
        "quality": {"type": "checkbox", "options": {"blurred": "", "dark": "dark"}},
        "note": {"type": "text", "description": None},
        "mood": {"type": "dropdown", "options": {}},  # nothing to choose from: write what you like
    },
}
NAMES = [f"cifar10_test_cat_{k:04d}.png" for k in range(3)]
SIDES = ("x", "y", "width", "height")
FRAME = 2  # pixels around a picture of 32 x 32
SIDE = {"viewpoint": "front", "truncated": "no", "quality": {"dark": True}, "note": "<b>"}
SIDE["mood"] = "sunny"
EDGE = {"viewpoint": "three_quarter", "truncated": "yes", "quality": {}, "note": "", "mood": ""}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "via_export_csv.csv"


@pytest.fixture
def start(pictures, path):
    """Builds an annotator of three pictures."""
    return lambda: annotate(dict(zip(NAMES, pictures)), SCHEMA, path)


def rect(*sides):
    return {"name": "rect", **dict(zip(SIDES, sides))}


def draw(widget, *boxes):
    """Report boxes as the browser does, here in pixels of the picture, and select the last."""
    boxes = [np.add(box, (FRAME, FRAME, 0, 0)).tolist() for box in boxes]
    widget.canvas.bboxes = [dict(zip(SIDES, box), label="") for box in boxes]
    widget.canvas.selected_index = len(boxes) - 1


def choose(widget, values):
    for name, value in values.items():
        widget.form[name].value = value


def press(widget, *buttons):
    for button in buttons:
        if button in ("Back", "Nothing to draw"):
            {"Back": widget.back, "Nothing to draw": widget.nothing}[button].click()
        else:
            widget.canvas._handle_custom_msg({"type": button.lower()}, [])


def submit(widget, box, values=SIDE):
    draw(widget, box)
    choose(widget, values)
    press(widget, "Submit")


@pytest.mark.parametrize("side, frame, error", [(32, 2, 0), (2000, 125, 9)])
def test_the_canvas_shows_the_whole_picture_in_a_frame(path, side, frame, error):
    picture = np.zeros((side, side, 3), np.uint8)
    picture[: side // 2, :, 0], picture[:, side // 4 :, 2] = 255, 128
    canvas = annotate({"a.png": picture}, SCHEMA, path).canvas
    content = base64.b64decode(canvas.image_url.split("base64,")[1])
    shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert shown.shape == (side + 2 * frame, side + 2 * frame, 3)
    inside = shown[frame:-frame, frame:-frame]
    assert np.abs(inside.astype(int) - picture).mean() <= error
    assert len(content) < 1e6 and 400 < int(canvas.layout.width.removesuffix("px")) < 800


def test_each_submit_saves_everything_so_far(start, path):
    widget = start()
    assert list(path.parent.iterdir()) == []
    earlier = widget.canvas
    submit(widget, (-2, -1, 10, 6))  # begun in the frame
    assert earlier.comm is None and widget.canvas.bboxes == []  # nothing late can arrive
    press(widget, "Skip")
    submit(widget, (25, 30, 9, 4), EDGE)  # ended in the frame
    assert widget.status.value == "2 of 3 saved in via_export_csv.csv."
    first, second = Region(rect(0, 0, 8, 5), SIDE), Region(rect(25, 30, 7, 2), EDGE)
    assert read_via(path) == [Picture(NAMES[0], [first]), Picture(NAMES[2], [second])]
    assert list(path.parent.iterdir()) == [path]


def test_a_new_start_resumes_and_shows_what_was_saved(start, path):
    widget = start()
    draw(widget, (0, 0, 5, 5), (10, 10, 5, 6))
    choose(widget, SIDE)
    widget.canvas.selected_index = 0
    choose(widget, EDGE)
    press(widget, "Submit")
    before = path.read_bytes()

    widget = start()
    assert widget.progress.value == f"picture 2 of 3: {NAMES[1]}"
    press(widget, "Back")
    assert widget.progress.value == f"picture 1 of 3: {NAMES[0]}, box 2 of 2"
    assert [box["x"] for box in widget.canvas.bboxes] == [2, 12] and widget._values() == SIDE
    widget.canvas.selected_index = 0
    assert widget._values() == EDGE
    press(widget, "Submit")
    assert path.read_bytes() == before


def test_what_is_not_touched_survives(start, path):
    polygon = Region({"name": "polygon", "all_points_x": [0, 4, 4], "all_points_y": [0, 0, 4]})
    odd = {**SIDE, "viewpoint": "frontt", "color": "red"}
    thin, whole = Region(rect(1.4, 2, 0.3, 5), odd), Region(rect(3.25, 4.5, 9.125, 8), SIDE)
    point = Region(rect(7, 7, 0, 0), SIDE)
    other = Picture("elsewhere.png", [Region(rect(-5, 0, 900, 9), odd)], 17, {"caption": "no cat"})
    mine = Picture(NAMES[0], [polygon, point, thin, whole], 812, {"caption": "a"})
    write_via_csv([other, mine], path)
    before, widget = path.read_bytes(), start()
    press(widget, "Back", "Submit")
    assert path.read_bytes() == before
    press(widget, "Back")
    boxes = list(widget.canvas.bboxes)
    widget.canvas.bboxes = [boxes[0], {**boxes[1], "x": 7}]  # 5 in the picture
    widget.canvas.selected_index = 0
    choose(widget, {"viewpoint": "three_quarter"})
    press(widget, "Submit")
    thin = Region(thin.shape, {**odd, "viewpoint": "three_quarter"})
    regions = [polygon, point, thin, Region(rect(5, 4, 9, 8), SIDE)]
    assert read_via(path) == [other, Picture(NAMES[0], regions, 812, {"caption": "a"})]


def test_attributes_must_be_chosen_but_not_ticked_or_written(start, path):
    widget = start()
    for boxes in ((), ((4, 4, 0, 0),), ((-2, 1, 1, 8),)):  # a click, and a box in the frame
        draw(widget, *boxes)
        press(widget, "Submit")
        assert widget.status.value.startswith("Draw a box")
    draw(widget, (0, 0, 5, 5))
    press(widget, "Submit")
    assert widget.status.value == "Still to choose: viewpoint, truncated."
    assert not path.exists()
    choose(widget, {"viewpoint": "front", "truncated": "no"})
    press(widget, "Submit")
    (region,) = read_via(path)[0].regions
    assert region.attributes == {**EDGE, "viewpoint": "front", "truncated": "no"}
    assert widget._values() == widget.blank  # nothing carries over to the next picture
    choose(widget, SIDE)
    draw(widget, (1, 1, 0, 0))  # as while dragging
    draw(widget, (1, 1, 5, 5))
    assert widget._values() == SIDE  # chosen before the first box, for it alone
    draw(widget, (1, 1, 5, 5), (9, 9, 5, 5))
    assert widget._values() == widget.blank


def test_attributes_stay_with_their_box_when_another_is_removed(start, path):
    widget = start()
    draw(widget, (0, 0, 5, 5))
    choose(widget, SIDE)
    draw(widget, (0, 0, 5, 5), (10, 10, 5, 5))
    choose(widget, EDGE)
    draw(widget, (10, 10, 5, 5))
    press(widget, "Submit")
    assert read_via(path)[0].regions == [Region(rect(10, 10, 5, 5), EDGE)]
    press(widget, "Back")
    draw(widget)
    press(widget, "Submit")
    assert read_via(path) == [Picture(NAMES[0])]


def test_every_change_is_saved_but_no_box_in_hand(start, path):
    """Whoever closes the tab loses at most the box whose attributes are not all chosen."""
    widget = start()
    draw(widget, (0, 0, 5, 5))
    choose(widget, {k: v for k, v in SIDE.items() if k != "truncated"})
    press(widget, "Skip")
    assert widget.status.value.startswith(f"The changes to {NAMES[0]} were not saved.")
    assert not path.exists()
    press(widget, "Back", "Skip", "Back")
    assert widget.status.value.startswith("0 of 3 saved")
    draw(widget, (0, 0, 5, 5))
    choose(widget, SIDE)
    assert read_via(path) == [Picture(NAMES[0], [Region(rect(0, 0, 5, 5), SIDE)])]
    assert widget.status.value == "1 of 3 saved in via_export_csv.csv."
    draw(widget, (0, 0, 5, 5), (9, 9, 4, 4))
    before = path.stat().st_mtime_ns
    choose(widget, {"truncated": "yes"})  # of the second box, in hand
    assert path.stat().st_mtime_ns == before
    draw(widget, (1, 0, 5, 5), (9, 9, 4, 4))  # the first is moved
    assert read_via(path)[0].regions == [Region(rect(1, 0, 5, 5), SIDE)]
    widget = start()
    assert widget.progress.value == f"picture 2 of 3: {NAMES[1]}"
    press(widget, "Back")
    draw(widget)  # removes it
    assert read_via(path) == [Picture(NAMES[0])]
    assert "Draw a box" in (press(widget, "Submit"), widget.status.value)[1]


def test_nothing_to_draw_is_saved_kept_apart_and_undone_by_a_box(start, path):
    write_via_csv([Picture(NAMES[0], file_attributes={"caption": "a"})], path)
    widget = start()
    press(widget, "Nothing to draw")
    empty = {"caption": "a", **via.NOTHING}
    assert read_via(path) == [Picture(NAMES[0], file_attributes=empty)]
    assert widget.status.value == "1 of 3 saved in via_export_csv.csv, 1 with nothing to draw."
    assert start().progress.value == f"picture 2 of 3: {NAMES[1]}"  # it counts as looked at
    press(widget, "Back")
    assert widget.status.value.startswith("Nothing to draw here. 1 of 3 saved")
    draw(widget, (0, 0, 5, 5))
    press(widget, "Nothing to draw")
    assert widget.status.value.startswith("There is a box")
    assert read_via(path)[0].nothing  # the box is still in hand
    choose(widget, SIDE)
    box = Region(rect(0, 0, 5, 5), SIDE)
    assert read_via(path) == [Picture(NAMES[0], [box], file_attributes={"caption": "a"})]
    assert widget.status.value == "1 of 3 saved in via_export_csv.csv."


def test_boxes_on_a_reduced_picture_are_in_pixels_of_the_original(path):
    """800 x 533 pixels are shown of 3001 x 1999, in a frame of 50."""
    shown, sizes = np.zeros((533, 800, 3), np.uint8), {"a.jpg": (3001, 1999)}
    widget = annotate({"a.jpg": shown}, SCHEMA, path, sizes)
    corners = [50, 50, 800, 533], [50 + 200, 50 + 100, 300, 50], [10, 10, 90, 90]
    widget.canvas.bboxes = [dict(zip(SIDES, box), label="") for box in corners]
    for index in range(3):
        widget.canvas.selected_index = index
        choose(widget, SIDE)
    boxes = via.boxes(read_via(path)).tolist()
    assert boxes[::2] == [[0, 0, 3001, 1999], [0, 0, 188, 188]]
    assert boxes[1] == [750, 375, 1126, 188]  # 200 * 3001 / 800 = 750.25
    widget = annotate({"a.jpg": shown}, SCHEMA, path, sizes)
    back = [[box[side] for side in SIDES] for box in widget.canvas.bboxes]
    assert np.abs(np.subtract(back[:2], corners[:2])).max() < 0.2  # half a pixel of the original
    press(widget, "Submit")
    assert via.boxes(read_via(path)).tolist() == boxes  # nobody touched them


def test_two_kernels_that_save_at_once_lose_nothing(path):
    code = """
import sys
import numpy as np
from helpers.annotation.annotator import annotate
schema = {"region": {"note": {"type": "text"}}}
names = [f"{sys.argv[1]}_{k:02d}.png" for k in range(40)]
widget = annotate(dict.fromkeys(names, np.zeros((32, 32, 3), np.uint8)), schema, sys.argv[2])
print(flush=True)
input()  # begin together
for name in names:
    widget.canvas.bboxes = [{"x": 5, "y": 5, "width": 9, "height": 9, "label": ""}]
    widget.canvas._handle_custom_msg({"type": "submit"}, [])
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    command = [sys.executable, "-c", code]
    windows = [subprocess.Popen([*command, name, path], **pipes) for name in ("a", "b")]
    assert [window.stdout.readline() for window in windows] == ["\n", "\n"]
    for window in windows:
        print(file=window.stdin, flush=True)
    assert [window.wait() for window in windows] == [0, 0]
    assert len(read_via(path)) == 80 and list(path.parent.iterdir()) == [path]


def test_a_full_disk_and_a_file_that_is_damaged_or_gone_meanwhile(start, path, monkeypatch):
    monkeypatch.setattr(annotator.time, "sleep", lambda _: None)
    path.with_name(f".{path.name}.lock").touch()  # a killed kernel left it
    widget = start()
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", Mock(side_effect=OSError("No space left on device")))
        submit(widget, (0, 0, 5, 5))
    assert "No space left on device" in widget.status.value
    press(widget, "Submit")
    before = path.read_bytes()
    path.write_text("damaged")
    submit(widget, (1, 1, 6, 6))
    assert widget.status.value.startswith(f"Not saved: {path.name}: no valid VIA file")
    assert path.read_text() == "damaged"
    path.unlink()
    press(widget, "Submit")
    assert path.read_bytes().startswith(before) and len(read_via(path)) == 2


@pytest.mark.parametrize(
    "shape, message",
    [
        (rect(64, 80, 160, 192), "as in enlarged copies.*rescale"),
        (rect(30, 3, 9, 9), "reaches outside the picture"),
        (rect(None, 2, 3, 4), "x is None, not finite numbers"),
    ],
)
def test_boxes_that_cannot_be_shown_stop_it_and_stay(start, path, shape, message):
    write_via_csv([Picture(NAMES[1], [Region(shape, SIDE)])], path)
    before = path.read_bytes()
    with pytest.raises(AnnotationError, match=message):
        start()
    assert path.read_bytes() == before


def test_a_project_stays_a_project_and_pictures_are_uint8(path, pictures):
    via.write_via_project([Picture(NAMES[0])], path, SCHEMA)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is no CSV, and boxes are saved as CSV"):
        annotate({"a.png": pictures[0]}, SCHEMA, path)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\)"):
        annotate({"a.png": pictures[0] / 255}, SCHEMA, path)
