"""Assignment4C: what its sentences say of the results stored in it."""

import re

import keras
import nbformat
import numpy as np
import pytest
import tensorflow as tf

from helpers.annotation import agreement, via
from helpers.files import RECORDED, ROOT
from helpers.training import runs
from helpers.training.resnet import resnet_v2

CELLS = {cell.id: cell for cell in nbformat.read(ROOT / "Assignment4C.ipynb", 4).cells}
PROSE = " ".join(cell.source for cell in CELLS.values() if cell.cell_type == "markdown")
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("depth, pixels", [(20, 31), (11, 17)])
def test_a_place_sees_the_window_that_the_text_says(depth, pixels):
    network, x = resnet_v2(depth), tf.Variable(255 * RNG.random((1, 32, 32, 3)))
    with tf.GradientTape() as tape:
        place = keras.Model(network.input, network.get_layer("features").output)(x)[0, 4, 4]
    seen = np.flatnonzero(np.any(tape.gradient(place, x)[0], axis=(1, 2)))
    assert (seen[0], seen[-1]) == (16 - pixels // 2, 16 + pixels // 2)  # around pixel 4 * 4
    assert f"{pixels} × {pixels}" in PROSE  # noqa: RUF001


def table(name):
    """What a cell's table shows, {row: numbers}; of rows with one name the last."""
    html = CELLS[name].outputs[-1].data["text/html"]
    rows = [(re.findall("<th.*?>(.*?)</th>", row), re.findall("<td>(.*?)</td>", row))
            for row in re.findall("<tr.*?</tr>", html, re.DOTALL)]  # fmt: skip
    return {
        names[-1]: [float(x) for cell in cells for x in re.findall(r"-?\d+\.?\d*", cell)]
        for names, cells in rows if cells
    }  # fmt: skip


def printed(name):
    text = "".join(output.get("text", "") for output in CELLS[name].outputs)
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", text)]


def test_what_the_sentences_say_of_the_boxes_and_the_recorded_predictions_is_so():
    pictures = via.read_via(ROOT / "images/annotations/via_export_csv.csv")
    masks = agreement.masks(pictures, (32, 32))
    assert f"the boxes cover {masks.mean():.0%} of the pictures" in PROSE
    assert masks[:, 15:17, 15:17].all()  # "Every box holds the middle"
    recorded = [runs.open_run(RECORDED / name) for name in ("course", "modern")]
    course, modern = (np.mean(r.test_probabilities().max(1) - r.test_correct()) for r in recorded)
    assert f"`course` is too sure, by {course:.3f}, as" in PROSE
    assert f"`modern` is too modest, by {-modern:.3f}: its" in PROSE


def test_what_the_sentences_say_of_the_stored_tables_is_so():
    account, boxes, minus = table("exact-said"), table("boxes"), table("boxes-minus")
    mosaic, moved, cascade = table("mosaic-own"), table("mosaic-neighbor"), table("cascade")
    p, left_over = printed("softmax-figure")
    relatives, gains, middle = table("relatives-said"), table("hide-said"), table("cascade-middle")
    turned = table("turned")
    draws = cascade["logits"][0:9:3]
    eigen, gain = minus["eigencam - gradcam"], gains["map against center out"]
    original = printed("original-maps")
    for sentence in (
        f"The places add up to {account['logit, less the bias'][0]:.1f} on average.",
        f"take away {-account['places against it'][0]:.1f}.",
        f"At a probability of {p:.2f}, only {left_over:.0f}% of the gradient is left.",
        f"these maps differ by {turned['map of the class'][0]:.0f}%.",
        f"the difference change by {turned['map of the class rather than its rival'][1]:.0f}%.",
        f"{relatives['gradcam'][4]:.0f} of Grad-CAM's {sum(relatives['gradcam'][3:]):.0f} maps",
        f"the uniform map wins, with {boxes['uniform'][6]:.2f}, because",
        f"does Grad-CAM beat the Gaussian, by {minus['gradcam'][3]:.2f}.",
        f"in the box: {boxes['eigencam'][3]:.2f} against {boxes['gradcam'][3]:.2f}.",
        f"Only IoU changes for certain, by {table('offset')['moved to its place'][6]:.3f}.",
        f"in {mosaic['gradcam'][0]:.0%} of the mosaics, Eigen-CAM in {mosaic['eigencam'][0]:.0%}, "
        f"and chance in {mosaic['chance'][0]:.0%}.",
        f"beats chance in all three scores, in IoU by {mosaic['gradcam - chance'][6]:.3f}.",
        f"points there in {moved['asked for it'][0]:.0%} of the mosaics; when not asked, in "
        f"{moved['not asked for it'][0]:.0%}.",
        f"falls from 1 to {np.mean(draws):.2f}, the mean of three draws.",
        f"the level of other pictures, {table('levels')['other pictures'][0]}?",
        f"with a Gaussian is {middle['trained'][0]:.2f}, that of randomized maps "
        f"{middle['randomized'][0]:.2f}.",
        f"in insertion it loses by {-gain[3]:.2f}.",
        f"The original recognized {original[0]:.0f}% of the pictures",
        f"the same network recognizes {original[1]:.0f}%.",
        f"sees nothing, with {boxes['gradcam'][0]} against {boxes['Gaussian'][0]:.0f}.",
        f"asked for in {mosaic['gradcam'][0]:.0%}. Chance finds it in {mosaic['chance'][0]:.0%}, "
        f"Eigen-CAM in {mosaic['eigencam'][0]:.0%}.",
        f"of its maps falls from 1 to {np.mean(draws):.2f}, on 34 pictures.",
    ):
        assert sentence in PROSE
    assert minus["gradcam"][2] < 0 < minus["gradcam"][4] and minus["gradcam"][8] < 0
    assert eigen[4] > 0 and eigen[1] < 0 < eigen[2] and eigen[7] < 0 < eigen[8]  # ties in two
    assert all(mosaic["gradcam - chance"][i] > 0 for i in (1, 4, 7))
    assert all(gains[f"{order} against random"][i] > 0 for order in ("map", "center out")
               for i in (1, 4))  # fmt: skip
    assert gain[1] < 0 < gain[2] and gain[5] < 0  # ties in deletion, loses in insertion
