import base64
import io
from unittest.mock import Mock

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import plots
from helpers.files import RECORDED


def test_a_map_is_drawn_from_zero_as_the_colour_bar_says():
    maps = [np.array([[0.5, 1.0]]), np.array([[0.2, 0.4]])]
    axis, _ = plots.pictures(maps, bar="share").axes
    assert [image.norm.vmin for image in axis.images] == [0, 0]
    assert [image.norm.vmax for image in axis.images] == [1, 0.4]


def test_all_pixels_are_equally_large(pictures):
    """Whole pixels of the screen: 0.8 inches at 80 dpi are two for each of 32."""
    figure = plots.pictures(pictures, ["a\nb"] * 6, columns=3, rows=["deer", "horse"], group=2)
    for image in figure.axes[0].images:
        left, right, bottom, top = np.multiply(image.get_extent(), plots.STYLE["figure.dpi"])
        assert right - left == pytest.approx(64) and bottom - top == pytest.approx(64)
        assert np.allclose([left, top], np.round([left, top]))
    assert np.allclose(figure.get_size_inches() * 80, np.round(figure.get_size_inches() * 80))


def test_boxes_and_wrong_ones_lie_on_their_pictures(pictures):
    tall = np.zeros((40, 20, 3), np.uint8)
    boxes = {"A": [(0, 0, 32, 32), (5, 10, 10, 20)], "B": [None, (0, 0, 20, 40)]}
    figure = plots.pictures([pictures[0], tall], ["one", "two"], size=2, boxes=boxes, wrong=[0, 1])
    axis = figure.axes[0]
    whole, middle, all_of_it = [patch.get_bbox() for patch in axis.patches[1::2]][:3]
    extents = [image.get_extent() for image in axis.images]
    for box, (left, right, bottom, top) in zip((whole, all_of_it), extents):
        assert np.allclose(box.extents, (left, top, right, bottom))
    left, right, bottom, top = extents[1]
    assert (right - left, bottom - top) == pytest.approx((1, 2))  # not stretched
    assert np.allclose(middle.extents, (left + 0.25, top + 0.5, left + 0.75, top + 1.5))
    assert [text.get_text() for text in figure.legends[0].texts] == ["A", "B"]
    assert [text.get_text() for text in axis.texts] == ["one", "✗ two", ""]


@pytest.mark.parametrize("photos, kind, scale", [(True, "jpeg", 1), (False, "png", 2)])
def test_a_figure_is_shown_with_the_sentence_that_describes_it(monkeypatch, photos, kind, scale):
    figure, axis = plt.subplots(figsize=(5, 3), dpi=80)
    axis.plot([0, 1], [0, 1])
    monkeypatch.setattr(plots, "display", display := Mock())
    plots.show(figure, "A line that rises.", photos)
    (data,), options = display.call_args
    assert data["text/plain"] == "A line that rises."
    assert options["metadata"] == {f"image/{kind}": {"alt": "A line that rises.", "width": 400}}
    content = base64.b64decode(data[f"image/{kind}"])
    image = Image.open(io.BytesIO(content))
    assert image.format.lower() == kind and image.size == (400 * scale, 240 * scale)
    assert np.asarray(image.convert("RGB"))[0, 0].tolist() == [255, 255, 255]
    assert len(content) < 30_000 and not plt.fignum_exists(figure.number)


def test_a_dollar_sign_is_no_formula():
    with plt.rc_context():
        plots.use_style()
        figure = plt.figure()
        figure.text(0, 0, r"$\foo$ from $5 to $10")
        figure.canvas.draw()  # stopped at an unknown symbol


def test_every_recorded_run_is_named_at_its_line_and_nothing_is_cut():
    logs = {path.parent.name: pd.read_csv(path) for path in RECORDED.glob("*/training_log.csv")}
    figure = plots.curves(logs)
    for axis, key in zip(figure.axes, ("acc", "loss")):
        assert sorted(text.get_text() for text in axis.texts) == sorted(logs)
        low, high = axis.get_ylim()
        for log in logs.values():
            both = log[[key, f"val_{key}"]].to_numpy()
            assert low <= both.min() and both.max() <= high
        looks = zip(*((line.get_color(), line.get_marker()) for line in axis.lines[1::2]))
        assert [len(set(each)) for each in looks] == [len(logs)] * 2


def test_the_drawn_windows_are_those_of_the_text():
    axis = plots.windows().axes[0]
    widths = [text.get_text() for text in axis.texts if "wide" in text.get_text()]
    assert widths == ["7 pixels wide", "3 pixels wide", "3 pixels wide", "1 pixel wide"]
    assert sum(patch.get_y() < 0 and patch.get_fc()[2] == 0 for patch in axis.patches) == 7
