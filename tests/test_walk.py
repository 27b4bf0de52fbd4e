"""From ten photographs to judged maps, as a reader goes: boxes, crops, a network, its maps."""

import re
import runpy
import sys

import matplotlib.pyplot as plt
import nbformat
import numpy as np
from PIL import Image

from helpers import plots
from helpers.annotation import exports, via
from helpers.files import ROOT
from helpers.training import data


def photographs(folder):
    """Ten pictures of several shapes each, of different sizes; their boxes as 4A saves them."""
    rng, kinds, pictures = np.random.default_rng(0), list(5 * "0120101201"), []
    for n in range(10):
        scale, columns = 3 + n % 3, 2 + n % 2
        photograph, regions = np.full((80 * scale, columns * 40 * scale, 3), 128, np.uint8), []
        for y, x in np.ndindex(2, columns):
            label = int(kinds.pop())
            scene, coverage = data.draw_scene(label, rng)
            left, top = 40 * scale * np.array([x, y]) + 4 * scale
            tile = np.kron(scene, np.ones((scale, scale, 1), np.uint8))
            photograph[top : top + len(tile), left : left + len(tile)] = tile
            x, y, w, h = np.multiply(data.bounding_box(coverage), scale).tolist()
            box = via.rect((int(left) + x, int(top) + y, w, h))
            regions.append(via.Region(box, {"label": data.SHAPE_NAMES[label]}))
        Image.fromarray(photograph).save(folder / f"photo {n}.png")
        pictures.append(via.Picture(f"photo {n}.png", regions))
    via.write_via_csv(pictures, folder / "boxes.csv")
    return pictures


def run(name, **form):
    """All cells of a notebook, its form filled in; returns what they define."""
    space = {}
    for cell in nbformat.read(ROOT / name, 4).cells:
        code = cell.source if cell.cell_type == "code" else ""
        for field, value in form.items():
            code = re.sub(rf"(?m)^{field} = .*(?=  #@param)", f"{field} = {value!r}", code)
        exec(compile(code, cell["id"], "exec"), space)
        plt.close("all")
    return space


def test_from_ten_photographs_to_maps_that_are_judged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delenv("COURSE_MODE")
    monkeypatch.setattr(plots, "use_style", lambda: None)  # it wants a kernel
    monkeypatch.setattr(plots, "live_curves", lambda: lambda logs: None)
    monkeypatch.setattr(plots, "show", lambda *_, **__: None)  # this takes most of the time
    (tmp_path / "helpers").symlink_to(ROOT / "helpers")
    (tmp_path / "photos").mkdir()
    drawn = photographs(tmp_path / "photos")
    form = {"PICTURES": "photos", "ANNOTATIONS": "photos/boxes.csv", "DATA": "synthetic"}
    opened = run("Assignment4A.ipynb", **form)["opened"]
    assert [len(p.regions) for p in opened.pictures] == [len(p.regions) for p in drawn]
    assert opened.album.sizes["photo 1.png"] == (480, 320)

    monkeypatch.setattr(sys, "argv", "pictures photos own.npz --boxes photos/boxes.csv".split())
    runpy.run_path(str(ROOT / "tools/pictures.py"), run_name="__main__")

    form = {"MODE": "full", "DATA": "own.npz", "RECIPE": "quick", "EPOCHS": 40}
    own = run("Assignment4B.ipynb", **form, RUN_FOLDER="my run")
    assert own["names"] == own["run"].class_names == ("disc", "ring", "square")
    assert own["trained"].info["data"] == "own.npz" and own["trained"].log["acc"].iloc[-1] > 0.6
    assert own["probabilities"].shape == (10, 3) and own["matrix"].sum() == 10

    boxes, name = own["dataset"].test_boxes, own["dataset"].test_name
    one = via.from_boxes([name(3)], boxes[3:4], [{"label": "disc"}])
    exports.write_coco(one, "one.json", {name(3): (32, 32)}, ["disc"])
    for annotations, judged in (("", boxes), ("one.json", boxes[3:4])):
        form = {"DATA": "own.npz", "RUN_FOLDER": "my run", "ANNOTATIONS": annotations}
        space = run("Assignment4C.ipynb", **form)
        masks, uniform = space["masks"], space["boxes_table"].loc["uniform", "pointing"]
        assert np.allclose([data.bounding_box(mask) for mask in masks], judged, atol=1)
        assert np.isclose(uniform.mean, masks.mean()) and np.isfinite(uniform.low) == (
            len(masks) > 1
        )
    assert "Mosaics need boxes in pictures of two classes" in capsys.readouterr().out
