"""tools.pictures: a reader's folders, or photographs with boxes, become data; the rest is named."""

import runpy
import sys
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from helpers.annotation import via
from helpers.training import data
from tools import pictures

COLORS = {"cat": (250, 0, 0), "cup": (0, 250, 0), "fork": (0, 0, 250)}


@pytest.fixture
def make(tmp_path, monkeypatch, capsys):
    """Runs the tool; returns the lines it printed, and its data."""

    def make(folder, *options):
        out = str(tmp_path / "own.npz")
        monkeypatch.setattr(sys, "argv", ["pictures", str(folder), out, *map(str, options)])
        runpy.run_path(pictures.__file__, run_name="__main__")
        return capsys.readouterr().out.splitlines(), data.load(out)

    return make


def test_a_folder_per_class_becomes_data_and_a_zip_of_it_the_same(tmp_path, make):
    own = tmp_path / "own"
    for name, color in COLORS.items():
        (own / name / "sub").mkdir(parents=True)
        for i in range(11):
            shade = tuple(max(value - 15 * i, 0) for value in color)
            Image.new("RGB", (40 + i, 64), shade).save(own / f"{name}/sub/{i}.png")
    (own / "lone").mkdir()
    Image.new("RGB", (9, 9)).save(own / "lone/0.png")
    odd = {"half.jpg": b"\xff\xd8\xff", "a.heic": b"\0\0\0\x18ftypheic", ".DS_Store": b"x"}
    for name, content in odd.items():
        (own / "cat" / name).write_bytes(content)
    lines, dataset = make(own)
    assert sorted(line.split()[2] for line in lines[:3]) == ["a.heic", "class", "half.jpg"]
    assert "left out: class lone of 1 pictures, 3 are needed" in lines
    table = [line.split() for line in lines[3:8]]
    assert table[0] + table[2] == ["train", "val", "test", "cat", "8", "1", "2"]
    assert dataset.class_names == tuple(COLORS) and dataset.test_boxes is None
    middles = np.concatenate([dataset.x_train, dataset.x_val, dataset.x_test])[:, 16, 16]
    assert len(np.unique(middles, axis=0)) == 33  # nothing is in two parts
    assert np.array_equal(dataset.x_test[:, 16, 16].argmax(axis=1), dataset.y_test)
    with ZipFile(tmp_path / "own.zip", "w") as archive:
        for path in own.rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path))
        archive.writestr("../outside.txt", "x")
    assert np.array_equal(make(tmp_path / "own.zip")[1].x_train, dataset.x_train)
    (tmp_path / "own.npz").unlink()
    for place in (own / "cat", tmp_path / "none", own / "cat/half.jpg"):
        with pytest.raises(SystemExit, match=rf"{place.name}: (There are 0 classes|.*not a zip)"):
            make(place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "own.zip"]


def test_a_box_becomes_a_picture_of_its_label_with_room_around(tmp_path, make):
    boxes = [(100, 60, 40, 20), (0, 0, 30, 30), (170, 90, 30, 30), (0, 0, 200, 120)]
    annotated = via.from_boxes(["gone.png", "../x.png"], boxes[:2])
    for name, color in COLORS.items():
        for i, (x, y, w, h) in enumerate(boxes):
            photograph = Image.new("RGB", (200, 120), (120, 120, 120))
            photograph.paste(color, (x, y, x + w, y + h))
            photograph.save(tmp_path / f"{name}{i}.png")
            annotated += via.from_boxes([f"./{name}{i}.png"], [boxes[i]], [{"label": f" {name}"}])
    odd = [via.Region(via.rect(box), {"label": "cat"}) for box in [(300, 0, 9, 9), (0, 0, 0, 9)]]
    annotated[-1].regions.extend([*odd, via.Region(via.rect(boxes[0]))])
    via.write_via_csv(annotated, tmp_path / "via.csv")
    lines, dataset = make(tmp_path, "--boxes", tmp_path / "via.csv")
    told = ["area in it"] * 2 + ["label", "no file", "lies outside"]
    assert all(sum(text in line for line in lines) == told.count(text) for text in told)
    assert len(dataset.y_train) == 6 and dataset.test_boxes.shape == (3, 4)
    for name, crop, box in pictures.of_boxes(tmp_path, tmp_path / "via.csv"):
        inside = np.abs(crop - np.array(COLORS[name], float)).max(axis=-1) < 60
        if np.isnan(box).any():  # the photograph holds nothing else
            assert inside.all()
        else:
            assert np.allclose(box, data.bounding_box(inside), atol=1.5) and inside.mean() < 0.5
