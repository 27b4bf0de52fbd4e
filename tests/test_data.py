import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import cv2
import keras
import numpy as np
import pytest

from helpers.training import data


def tiny(order):
    """Arrays of a CIFAR-10 of 20 + 10 pictures per class, every pixel telling class and order."""
    rng = np.random.default_rng(1)
    arrays = {}
    for part, per_class in (("train", 20), ("test", 10)):
        labels = np.repeat(np.arange(10), per_class)
        ranks = np.tile(np.arange(per_class), 10)
        if order == "official":  # classes mixed, the order inside a class kept
            mixed = rng.permutation(labels)
            ranks = np.array([np.sum(mixed[:i] == mixed[i]) for i in range(len(mixed))])
            labels = mixed
        pixels = (labels * 20 + ranks).astype(np.uint8)
        arrays[f"x_{part}"] = np.broadcast_to(pixels[:, None, None, None], (len(pixels), 32, 32, 3))
        arrays[f"y_{part}"] = labels[:, None]  # the official shape (N, 1)
    return arrays


@pytest.fixture
def npz(tmp_path):
    def write(**changes):
        arrays = {**tiny("sorted"), **changes}
        path = tmp_path / "copy.npz"
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
        return str(path)

    return write


def test_split_takes_the_last_tenth_of_every_class():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 50))
    train, val = data.split(labels)
    assert sorted([*train, *val]) == list(range(500))
    for label in range(10):
        assert max(train[labels[train] == label]) < min(val[labels[val] == label])
        assert np.sum(labels[val] == label) == 5


def test_sorted_and_official_order_give_the_same_pictures(tmp_path):
    loaded = []
    for order in ("sorted", "official"):
        np.savez(tmp_path / f"{order}.npz", **tiny(order))
        loaded.append(data.load(str(tmp_path / f"{order}.npz")))
    for part in ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"):
        assert np.array_equal(getattr(loaded[0], part), getattr(loaded[1], part)), part
    assert loaded[0].x_train.shape == (180, 32, 32, 3) and loaded[0].x_val.shape == (20, 32, 32, 3)
    assert loaded[0].source == "sorted.npz" and not loaded[0].synthetic


def test_cifar10_is_known_by_its_test_pictures(npz, monkeypatch):
    pixels = hashlib.sha256(data.load(npz()).x_test.tobytes()).hexdigest()
    monkeypatch.setattr(data, "CIFAR10_TEST", pixels)
    assert data.load(npz()).source == "CIFAR-10"
    other = tiny("sorted")["x_test"].copy()
    other[0, 0, 0, 0] += 1
    assert data.load(npz(x_test=other)).source == "copy.npz"


def test_without_hold_out_all_train_in_class_order(npz):
    dataset = data.load(npz()).without_hold_out()
    sorted_arrays = tiny("sorted")
    assert np.array_equal(dataset.x_train, sorted_arrays["x_train"])
    assert np.array_equal(dataset.y_train, sorted_arrays["y_train"][:, 0])
    assert dataset.x_val is dataset.x_test and dataset.y_val is dataset.y_test


def test_own_classes_each_keep_a_picture_to_validate_and_boxes_go_with_their_pictures(npz):
    labels, pictures = [1, 0, 2, 1, 0, 2], np.arange(6, dtype=np.uint8)[:, None, None, None]
    part = {"x_train": pictures, "y_train": labels, "x_test": pictures[:4], "y_test": labels[:4]}
    part |= {name: np.tile(x, (32, 32, 3)) for name, x in part.items() if "x" in name}
    boxes = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [np.nan] * 4, [3, 3, 3, 3]])
    dataset = data.load(npz(**part, class_names=["cat", "tea cup", "dog"], test_boxes=boxes))
    assert dataset.class_names == ("cat", "tea cup", "dog") and not dataset.synthetic
    assert dataset.y_train.tolist() == dataset.y_val.tolist() == [0, 1, 2]
    assert dataset.x_test[:, 0, 0, 0].tolist() == [1, 0, 3, 2]  # by class
    assert dataset.test_boxes[:, 0].tolist()[:3] == [0, 1, 3] and np.isnan(dataset.test_boxes[3, 0])
    assert dataset.test_name(2) == "own_test_tea cup_0001.png" and dataset.source == "copy.npz"
    with pytest.raises(ValueError, match="class_names are .*not two or more names"):
        data.load(npz(**part, class_names=["cat", "cat", "dog"]))


def test_names_are_class_and_order(npz):
    dataset = data.load(npz())
    assert dataset.test_name(37) == "cifar10_test_cat_0007.png"
    assert all(dataset.test_index(dataset.test_name(i)) == i for i in range(100))
    assert dataset.x_test[dataset.test_index("cifar10_test_cat_0007.png"), 0, 0, 0] == 3 * 20 + 7
    with pytest.raises(ValueError, match="'.*_cat_0010.png' names no test picture.*Names look"):
        dataset.test_index("cifar10_test_cat_0010.png")


def test_malformed_npz_is_refused(npz):
    for changes, message in (
        ({"y_test": None}, "y_test is not a file in the archive"),
        ({"x_train": np.zeros((200, 3, 32, 32), np.uint8)}, r"x_train is uint8 \(200, 3, 32, 32\)"),
        ({"x_train": np.zeros((200, 32, 32, 3), np.float32)}, "x_train is float32"),
        ({"y_train": np.zeros(199, int)}, r"y_train is int64 \(199,\)"),
        ({"y_train": np.full(200, 10)}, "10 or more of each label"),
    ):
        with pytest.raises(ValueError, match=f"copy.npz is no CIFAR-10 .npz: .*{message}.*Three"):
            data.load(npz(**changes))


def test_missing_npz_and_unknown_source_name_the_three_ways(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.npz.*CIFAR10_NPZ.*synthetic"):
        data.load(str(tmp_path / "missing.npz"))
    with pytest.raises(ValueError, match="DATA = 'cifar100' is unknown.*Three ways"):
        data.load("cifar100")


def test_whether_the_host_offers_the_archive(monkeypatch):
    class Host(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", self.path[1:])
            self.end_headers()

    monkeypatch.setenv("no_proxy", "*")
    with HTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for length in (data.ARCHIVE_BYTES, 5_000):  # or a page of the network's
            address = f"http://127.0.0.1:{server.server_port}/{length}"
            monkeypatch.setattr(data, "ADDRESS", address)
            assert data.host_answers(30) is (length == data.ARCHIVE_BYTES)
        server.shutdown()
    assert not data.host_answers(30)


def test_what_counts_as_at_hand(monkeypatch, tmp_path):
    monkeypatch.delenv("CIFAR10_NPZ", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert not data.on_disk()
    archive = tmp_path / "datasets/cifar-10-batches-py-target_archive"
    archive.parent.mkdir()
    for size in (1000, data.ARCHIVE_BYTES):
        with open(archive, "wb") as file:
            file.truncate(size)
        assert data.on_disk() == (size != 1000)  # half an archive, left by a killed process
    archive.unlink()
    monkeypatch.setenv("CIFAR10_NPZ", "copy.npz")
    assert data.on_disk()


def test_without_a_file_keras_downloads(monkeypatch):
    arrays = tiny("official")
    parts = [(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")]
    monkeypatch.delenv("CIFAR10_NPZ", raising=False)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: tuple(parts))
    assert len(data.load("cifar10").x_train) == 180
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: 1 / 0)
    with pytest.raises(ConnectionError, match="could not be downloaded.*Run this again"):
        data.load("cifar10")


def test_synthetic_boxes_hold_the_drawn_pixels_tightly():
    rng = np.random.default_rng(3)
    for label in list(range(10)) * 20:
        scene, coverage = data.draw_scene(label, rng)
        x, y, w, h = data.bounding_box(coverage)
        assert scene.shape == (32, 32, 3) and scene.dtype == np.uint8 and coverage.sum() > 20
        inside = coverage[y : y + h, x : x + w]
        assert inside.sum() == coverage.sum()
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.max() > 0


def test_synthetic_shape_differs_from_its_background():
    rng = np.random.default_rng(4)
    for label in range(10):
        scene, coverage = data.draw_scene(label, rng)
        near = cv2.dilate((coverage > 0).astype(np.uint8), np.ones((7, 7))) > 0
        around = scene[near & (coverage == 0)]
        gap = scene[coverage == 1].mean(axis=0) - around.mean(axis=0)
        assert np.abs(gap).max() > 30


def test_synthetic_is_reproducible_and_balanced(scenes):
    again = data.synthetic(train=200, test=50)
    assert np.array_equal(scenes.x_train, again.x_train)
    assert np.array_equal(scenes.test_boxes, again.test_boxes)
    assert np.bincount(scenes.y_train).tolist() == [18] * 10
    assert np.bincount(scenes.y_val).tolist() == [2] * 10
    assert scenes.synthetic and scenes.test_name(0) == "synthetic_test_disc_0000.png"


def test_a_picture_is_squared_shrunk_and_rgb(tmp_path):
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, 32:96] = (0, 0, 255)  # red, in OpenCV's order
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    picture = data.load_picture(tmp_path / "wide.png")
    assert picture.shape == (32, 32, 3) and np.all(picture == (255, 0, 0))


@pytest.mark.skipif("CIFAR10_NPZ" not in os.environ, reason="CIFAR10_NPZ names no copy of CIFAR-10")
def test_real_cifar10():
    dataset = data.load("cifar10")
    assert dataset.x_train.shape == (45_000, 32, 32, 3)
    assert dataset.x_val.shape == (5_000, 32, 32, 3)
    assert dataset.x_test.shape == (10_000, 32, 32, 3)
    assert np.bincount(dataset.y_val).tolist() == [500] * 10
    assert dataset.source == "CIFAR-10"
    assert np.allclose(dataset.x_train.mean(axis=(0, 1, 2)) / 255, data.PIXEL_MEAN, atol=0.001)
