"""The annotator without a browser: the tests do to its canvas and buttons what a browser does."""

import base64
import sys
import types

import cv2
import numpy as np
import pytest

pytest.importorskip("jupyter_bbox_widget", reason="jupyter-bbox-widget is not installed")

from helpers.annotation import annotator
from helpers.annotation.annotator import MARGIN, SIDES, annotate
from helpers.annotation.via import Picture, Region, read_via, write_via_csv

SCHEMA = {
    "region": {
        "viewpoint": {"type": "dropdown", "options": {"front": "front", "three_quarter": "3/4"}},
        "truncated": {"type": "radio", "options": {"no": "no", "yes": "yes"}},
        "quality": {"type": "checkbox", "options": {"blurred": "", "dark": "dark"}},
        "note": {"type": "text"},
    },
    "file": {},
}
NAMES = [f"cifar10_test_cat_{k:04d}.png" for k in range(3)]
SIDE = {"viewpoint": "front", "truncated": "no", "quality": {"dark": True}, "note": "<b>"}
EDGE = {"viewpoint": "three_quarter", "truncated": "yes", "quality": {}, "note": ""}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "via_export_csv.csv"


@pytest.fixture
def start(pictures, path):
    """Builds an annotator of three pictures, at the scale of 10."""
    return lambda: annotate(dict(zip(NAMES, pictures)), SCHEMA, path, scale=10)


def rect(*sides):
    return {"name": "rect", **dict(zip(SIDES, sides))}


def draw(widget, *boxes, select=None):
    """Report boxes as the browser does, in screen pixels of the picture, then the selection."""
    offset = (MARGIN, MARGIN, 0, 0)
    boxes = [[side + o for side, o in zip(box, offset)] for box in boxes]
    widget.canvas.bboxes = [dict(zip(SIDES, box), label="") for box in boxes]
    widget.canvas.selected_index = len(boxes) - 1 if select is None else select


def choose(widget, values):
    for name, value in values.items():
        widget.form[name].value = value


def press(widget, *buttons):
    for button in buttons:
        assert not widget.buttons[button].disabled
        widget.buttons[button].click()


def test_building_it_touches_no_file_and_its_repr_is_short(start, path):
    widget = start()
    assert list(path.parent.iterdir()) == []
    assert repr(widget) == "Annotator(3 pictures, via_export_csv.csv)"
    assert widget.progress.value == f"picture 1 of 3: {NAMES[0]}"
    assert widget.buttons["Back"].disabled and not widget.buttons["Skip"].disabled


def test_the_canvas_shows_the_picture_enlarged_in_a_frame(start, pictures):
    png = base64.b64decode(start().canvas.image_url.removeprefix("data:image/png;base64,"))
    shown = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert shown.shape == (320 + 2 * MARGIN, 320 + 2 * MARGIN, 3)
    middles = slice(MARGIN + 5, -MARGIN, 10)
    np.testing.assert_array_equal(shown[middles, middles], pictures[0])


@pytest.mark.parametrize(
    "drawn, box",
    [
        ((50, 30, 100, 200), (5, 3, 10, 20)),
        ((46, 34, 108, 192), (5, 3, 10, 20)),  # to the nearest edges of pixels
        ((-20, -3, 100, 50), (0, 0, 8, 5)),  # begun in the frame
        ((250, 300, 95, 44), (25, 30, 7, 2)),  # ended in the frame
        ((-24, -24, 368, 368), (0, 0, 32, 32)),
    ],
)
def test_boxes_snap_to_pixels_of_the_picture(start, path, drawn, box):
    widget = start()
    draw(widget, drawn)
    choose(widget, SIDE)
    press(widget, "Submit")
    assert read_via(path) == [Picture(NAMES[0], [Region(rect(*box), SIDE)])]


def test_each_submit_saves_everything_so_far(start, path):
    widget = start()
    draw(widget, (0, 0, 50, 50))
    choose(widget, SIDE)
    press(widget, "Submit", "Skip")
    assert widget.progress.value == f"picture 3 of 3: {NAMES[2]}"
    assert widget.buttons["Skip"].disabled
    draw(widget, (10, 10, 60, 60))
    choose(widget, EDGE)
    press(widget, "Submit")
    assert widget.status.value == "This was the last picture. 2 of 3 saved in via_export_csv.csv."
    first, second = Region(rect(0, 0, 5, 5), SIDE), Region(rect(1, 1, 6, 6), EDGE)
    assert read_via(path) == [Picture(NAMES[0], [first]), Picture(NAMES[2], [second])]
    assert list(path.parent.iterdir()) == [path]


def test_a_new_start_resumes_and_shows_what_was_saved(start, path):
    widget = start()
    draw(widget, (0, 0, 50, 50), (100, 100, 50, 60))
    choose(widget, SIDE)
    widget.canvas.selected_index = 0
    choose(widget, EDGE)
    press(widget, "Submit")
    before = path.read_bytes()

    widget = start()
    assert widget.progress.value == f"picture 2 of 3: {NAMES[1]}"
    press(widget, "Back")
    assert widget.progress.value == f"picture 1 of 3: {NAMES[0]}, box 2 of 2"
    assert [tuple(box[side] for side in SIDES) for box in widget.canvas.bboxes] == [
        (MARGIN, MARGIN, 50, 50), (MARGIN + 100, MARGIN + 100, 50, 60)]  # fmt: skip
    assert widget._values() == SIDE
    widget.canvas.selected_index = 0
    assert widget._values() == EDGE
    press(widget, "Submit")
    assert path.read_bytes() == before


def test_what_the_form_cannot_show_survives(start, path):
    polygon = Region({"name": "polygon", "all_points_x": [0, 4, 4], "all_points_y": [0, 0, 4]})
    odd = Region(rect(1.4, 2, 5, 5), {**SIDE, "viewpoint": "frontt", "colour": "red"})
    other = Picture("elsewhere.png", [odd], 17, {"caption": "no cat"})
    write_via_csv([other, Picture(NAMES[0], [odd, polygon], 812, {"caption": "a"})], path)
    widget = start()
    press(widget, "Back")
    assert widget.form["viewpoint"].value == ""
    press(widget, "Submit")
    assert widget.status.value == "Still to choose for box 1: viewpoint."
    choose(widget, {"viewpoint": "front"})
    press(widget, "Submit")
    saved = Region(rect(1, 2, 5, 5), {**SIDE, "colour": "red"})
    assert read_via(path) == [other, Picture(NAMES[0], [polygon, saved], 812, {"caption": "a"})]


@pytest.mark.parametrize("boxes", [(), ((40, 40, 0, 0),), ((-20, 10, 15, 80),)])
def test_a_click_or_a_box_outside_is_no_box(start, path, boxes):
    widget = start()
    choose(widget, SIDE)
    draw(widget, *boxes)
    press(widget, "Submit")
    assert widget.status.value.startswith("Draw a box")
    assert not path.exists() and not widget.history


def test_attributes_must_be_chosen_but_not_ticked_or_written(start, path):
    widget = start()
    draw(widget, (0, 0, 50, 50))
    press(widget, "Submit")
    assert widget.status.value == "Still to choose for box 1: viewpoint, truncated."
    assert not path.exists()
    choose(widget, {"viewpoint": "front", "truncated": "no"})
    press(widget, "Submit")
    (region,) = read_via(path)[0].regions
    assert region.attributes == {"viewpoint": "front", "truncated": "no", "quality": {}, "note": ""}
    assert widget._values() == widget.blank  # nothing carries over to the next picture


def test_choices_made_before_the_first_box_hold_for_it_alone(start):
    widget = start()
    choose(widget, SIDE)
    draw(widget, (10, 10, 0, 0))  # as while dragging
    draw(widget, (10, 10, 50, 50))
    assert widget._values() == SIDE
    draw(widget, (10, 10, 50, 50), (90, 90, 50, 50))
    assert widget._values() == widget.blank


def test_attributes_stay_with_their_box_when_another_is_removed(start, path):
    widget = start()
    draw(widget, (0, 0, 50, 50))
    choose(widget, SIDE)
    draw(widget, (0, 0, 50, 50), (100, 100, 50, 50))
    choose(widget, EDGE)
    draw(widget, (100, 100, 50, 50))
    press(widget, "Submit")
    assert read_via(path)[0].regions == [Region(rect(10, 10, 5, 5), EDGE)]


def test_undo_takes_back_box_by_box(start):
    widget = start()
    first, second = (0, 0, 50, 50), (100, 100, 50, 50)
    draw(widget, first)
    choose(widget, SIDE)
    draw(widget, first, second)
    draw(widget, first, (150, 150, 50, 50))
    draw(widget, (150, 150, 50, 50))  # the first one is removed
    for shapes in ([(0, 0, 5, 5), (15, 15, 5, 5)], [(0, 0, 5, 5), (10, 10, 5, 5)], [(0, 0, 5, 5)]):
        press(widget, "Undo")
        assert [region.shape for region in widget.regions] == [rect(*shape) for shape in shapes]
        assert len(widget.canvas.bboxes) == len(shapes)
    assert widget._values() == SIDE
    press(widget, "Undo")
    assert widget.regions == [] and widget.canvas.bboxes == []
    press(widget, "Undo")
    assert widget.status.value == "There is nothing to undo in this picture."


def test_a_saved_box_can_be_removed(start, path):
    write_via_csv([Picture(NAMES[0], [Region(rect(1, 1, 5, 5), SIDE)])], path)
    widget = start()
    press(widget, "Back")
    draw(widget)
    press(widget, "Submit")
    assert read_via(path) == [Picture(NAMES[0])]


def test_leaving_a_picture_saves_nothing_and_says_so(start, path):
    widget = start()
    draw(widget, (0, 0, 50, 50))
    press(widget, "Skip")
    assert widget.status.value.startswith(f"The changes to {NAMES[0]} were not saved.")
    press(widget, "Back")
    assert widget.canvas.bboxes == [] and not path.exists()


def test_a_late_report_of_the_browser_stays_out_of_the_next_picture(start):
    widget = start()
    earlier = widget.canvas
    draw(widget, (0, 0, 50, 50))
    choose(widget, SIDE)
    press(widget, "Submit")
    earlier.bboxes = [dict(zip(SIDES, (100, 100, 50, 50)), label="")]
    assert widget.regions == [] and widget.canvas.bboxes == []


def test_a_failing_write_is_shown_and_loses_nothing(start, path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    widget = start()
    draw(widget, (0, 0, 50, 50))
    choose(widget, SIDE)
    with monkeypatch.context() as patch:
        patch.setattr(annotator, "write_via_csv", full)
        press(widget, "Submit")
    assert widget.status.value == "Not saved: No space left on device"
    press(widget, "Submit")
    assert read_via(path)[0].regions == [Region(rect(0, 0, 5, 5), SIDE)]


def submit(widget, box, values=SIDE):
    draw(widget, box)
    choose(widget, values)
    press(widget, "Submit")


def test_two_windows_share_a_file_and_lose_nothing(start, path):
    one, two = start(), start()
    submit(one, (0, 0, 50, 50))
    press(two, "Skip")
    submit(two, (10, 10, 60, 60))
    submit(one, (20, 20, 70, 70), EDGE)  # the second picture, which the other window has saved
    assert one.status.value == annotator.OTHER_WINDOW and one.index == 1
    first, second = Region(rect(0, 0, 5, 5), SIDE), Region(rect(1, 1, 6, 6), SIDE)
    assert read_via(path) == [Picture(NAMES[0], [first]), Picture(NAMES[1], [second])]
    press(one, "Skip", "Back")
    assert [region.shape for region in one.regions] == [rect(1, 1, 6, 6)]


def test_submit_again_replaces_what_another_window_saved(start, path):
    one, two = start(), start()
    submit(two, (0, 0, 50, 50))
    submit(one, (20, 20, 70, 70))
    assert one.status.value == annotator.OTHER_WINDOW
    press(one, "Submit")
    assert read_via(path) == [Picture(NAMES[0], [Region(rect(2, 2, 7, 7), SIDE)])]


def test_a_file_that_is_gone_or_damaged_meanwhile(start, path):
    widget = start()
    submit(widget, (0, 0, 50, 50))
    before = path.read_bytes()
    path.write_text("damaged")
    submit(widget, (10, 10, 60, 60))
    assert widget.status.value.startswith(f"Not saved: {path.name}: no valid VIA file")
    assert path.read_text() == "damaged"
    path.unlink()
    press(widget, "Submit")
    assert path.read_bytes().startswith(before) and len(read_via(path)) == 2


@pytest.mark.parametrize(
    "shown, message",
    [
        ({}, "no pictures"),
        ({"a.png": np.zeros((32, 32, 3))}, r"a.png is float64 \(32, 32, 3\), not uint8"),
        ({"a.png": np.zeros((32, 32), np.uint8)}, r"a.png is uint8 \(32, 32\), not"),
        ({"a.png": np.zeros((32, 32, 4), np.uint8)}, "a.png is uint8"),
        ({"a.png": np.zeros((0, 32, 3), np.uint8)}, "a.png is uint8"),
    ],
)
def test_unsuitable_pictures_are_refused(path, shown, message):
    with pytest.raises(ValueError, match=message):
        annotate(shown, SCHEMA, path)


def test_other_bad_arguments_are_refused(pictures, path):
    shown = {"a.png": pictures[0]}
    for scale in (0, -1, 1.5):
        with pytest.raises(ValueError, match="scale = .*: a whole number"):
            annotate(shown, SCHEMA, path, scale)
    for unwritable in (path.parent, path / "missing/folder.csv"):
        with pytest.raises(OSError, match="cannot be written: name a file"):
            annotate(shown, SCHEMA, unwritable)
    path.write_text("filename,x\n")
    with pytest.raises(ValueError, match=path.name):
        annotate(shown, SCHEMA, path)
    write_via_csv([Picture("a.png", size=1), Picture("a.png", size=2)], path)
    with pytest.raises(ValueError, match="lists a picture twice"):
        annotate(shown, SCHEMA, path)


def test_a_missing_canvas_names_the_command_that_installs_it(start, monkeypatch):
    monkeypatch.setitem(sys.modules, "jupyter_bbox_widget", None)
    with pytest.raises(ImportError, match="pip install jupyter-bbox-widget"):
        start()


def test_colab_is_asked_to_show_widgets_from_outside(start, monkeypatch):
    asked = []
    output = types.SimpleNamespace(enable_custom_widget_manager=lambda: asked.append(True))
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(output=output))
    start()
    assert asked == [True]
