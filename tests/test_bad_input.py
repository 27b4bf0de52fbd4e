"""The catalogue of bad days: what goes wrong, and the one message that must come back.

A case prepares a bad day in an empty folder and makes a call that cannot succeed. The call has to
raise one exception, of exactly the type that its docstring promises; the message names the thing
and a way out, is short, tells no paths but the reader's own; and no file has changed.
"""

import ast
import dataclasses
import errno
import inspect
import io
import os
import pickle
import re
import shutil
import socket
import sys
from collections.abc import Callable
from functools import partial as call
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import cv2
import keras
import numpy as np
import pytest
from PIL import Image
from test_layout import code_of

from helpers import files, settings
from helpers.annotation import annotator, exports, via
from helpers.annotation.via import HEADER, AnnotationError
from helpers.explanation import gradcam, metrics
from helpers.training import data, runs, trainer
from helpers.training.recipes import COURSE, QUICK
from helpers.training.resnet import resnet_v2
from tools import execute

RECIPE = dataclasses.replace(COURSE, name="tiny", epochs=2, batch_size=90, depth=11)
NETWORK = resnet_v2(11)
SCHEMA = via.read_schema(files.ROOT / "images/annotations/via_attributes.json")


class Case(NamedTuple):
    name: str
    error: type
    thing: str  # in the message: what is wrong
    way_out: str  # in the message: what to do
    day: Callable  # of a Day: prepares it, returns the call that must fail


class Day:
    """An empty folder, and the means to make a bad day of it."""

    def __init__(self, folder, patch, run, scenes):
        self.folder, self.patch, self.run, self.scenes = folder, patch, run, scenes

    def file(self, name, content=b""):
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def subfolder(self, name):
        (self.folder / name).mkdir()
        return self.folder / name

    def npz(self, **changes):
        """A small copy of CIFAR-10 with some arrays changed."""
        arrays = {}
        for part, count in (("train", 200), ("test", 100)):
            arrays[f"x_{part}"] = np.zeros((count, 32, 32, 3), np.uint8)
            arrays[f"y_{part}"] = np.arange(count) % 10
        np.savez(self.folder / "copy.npz", **arrays | changes)
        return str(self.folder / "copy.npz")

    def run_with(self, **contents):
        """A copy of a run of one epoch, with some files replaced."""
        folder = self.folder / "run"
        shutil.copytree(self.run.folder, folder)
        paths = {"state": "state_001.npz", "weights": self.run.checkpoint().name}
        for name, content in contents.items():
            self.file(f"run/{paths[name]}", content)
        return folder

    def via(self, *rows, encoding="utf-8"):
        return self.file("via.csv", "\n".join([HEADER, *rows]).encode(encoding))

    def bomb(self):
        """A pickle that leaves a file behind where it is unpickled."""
        return pickle.dumps(Bomb(str(self.folder / "unpickled")))

    def configure(self, *form, **variables):
        """The configuration cell on a machine without CIFAR-10 and without recorded runs."""
        for name in ("COURSE_MODE", "COURSE_EPOCHS", "CIFAR10_NPZ"):
            self.patch.delenv(name, raising=False)
        for name, value in variables.items():
            self.patch.setenv(name, value)
        self.patch.setattr(settings, "on_disk", lambda: False)
        self.patch.setattr(settings, "host_answers", lambda: False)
        self.patch.setattr(settings, "RECORDED", self.folder)
        return call(settings.configure, *form)

    def no_network(self):
        """Nor an archive of CIFAR-10 in Keras' cache."""

        def unknown(*_, **__):
            raise socket.gaierror(-3, "Temporary failure in name resolution")

        cache = str(self.folder.parent / f"{self.folder.name}_keras")
        self.patch.setattr("keras.src.backend.config.keras_home", lambda: cache)
        self.patch.delenv("CIFAR10_NPZ", raising=False)
        self.patch.setattr(socket, "getaddrinfo", unknown)

    def one_step(self):
        result = SimpleNamespace(history={"loss": [1.0], "acc": [0.5]})
        self.patch.setattr(keras.Model, "fit", lambda *_, **__: result)

    def full_disk(self):
        def full(path, *_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch.setattr(keras.Model, "save", full)
        self.patch.setattr(Path, "write_text", full)

    def read_only(self):
        """As root may write anywhere, the answer to "may I?" is replaced."""
        self.patch.setattr(os, "access", lambda path, mode: False)

    def train(self, folder="run", **arguments):
        arguments = {"recipe": RECIPE, "dataset": self.scenes, "precision": "float32"} | arguments
        return call(trainer.train, folder=self.folder / folder, **arguments)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


GREY16 = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
POSTSCRIPT = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
ROW = 'a.png,-1,"{}",1,0,"{""name"":""rect"",""x"":1,""y"":2,""width"":3,""height"":4}","{}"'
PROJECT = '{"a.png-1":{"filename":"a.png","size":-1,"regions":[],"file_attributes":{}}}'


def encoded(kind, array=NOISE, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def huge_bmp(side=50_000):
    """Its header promises 7.5 GB of pixels."""
    size = side.to_bytes(4, "little")
    content = bytearray(encoded("BMP"))
    content[18:26] = size + size
    return bytes(content)


# fmt: off
load, load_picture, read_via = data.load, data.load_picture, via.read_via

CASES = [
    # Pictures
    Case("a folder of pictures", FileNotFoundError, "There is no file", "Check the path",
         lambda d: call(load_picture, d.subfolder("cats"))),
    Case("an address of the web", FileNotFoundError, "example.org", "upload the picture",
         lambda d: call(load_picture, "https://example.org/cat.jpg")),
    *(Case(name, ValueError, name, "as PNG or JPEG",
           lambda d, name=name, content=content: call(load_picture, d.file(name, content)))
      for name, content in (("half.jpg", encoded("JPEG")[:3000]), ("telephone.heic", HEIC),
                            ("program.eps", POSTSCRIPT))),
    Case("a pickle named .png", ValueError, "cat.png", "as PNG or JPEG",
         lambda d: call(load_picture, d.file("cat.png", d.bomb()))),
    Case("a decompression bomb", ValueError, "2500000000 pixels", "no larger than a camera",
         lambda d: call(load_picture, d.file("cat.bmp", huge_bmp()))),
    Case("16 bits of grey", ValueError, "more than 8 bits", "8 bits",
         lambda d: call(load_picture, d.file("xray.png", encoded("PNG", GREY16)))),
    # Data
    Case("a folder named .npz", FileNotFoundError, "copy.npz", "DATA = 'synthetic'",
         lambda d: call(load, str(d.subfolder("copy.npz")))),
    Case("the environment names no file", FileNotFoundError, "gone.npz", "CIFAR10_NPZ",
         lambda d: d.patch.setenv("CIFAR10_NPZ", str(d.folder / "gone.npz")) or call(load)),
    Case("half of it", ValueError, "copy.npz", "DATA = 'synthetic'",
         lambda d: call(load, str(d.file("copy.npz", Path(d.npz()).read_bytes()[:99_999])))),
    Case("a pickle named .npz", ValueError, "copy.npz", "DATA = 'synthetic'",
         lambda d: call(load, str(d.file("copy.npz", d.bomb())))),
    Case("an array of objects", ValueError, "allow_pickle=False", "DATA = 'synthetic'",
         lambda d: call(load, d.npz(x_test=np.array([Bomb(str(d.folder / "unpickled"))] * 100)))),
    Case("too few to validate", ValueError, "y_train does not hold", "10 or more of each",
         lambda d: call(load, d.npz(x_train=np.zeros((50, 32, 32, 3), np.uint8),
                                    y_train=np.arange(50) % 10))),
    Case("a class of one picture", ValueError, "y_train does not hold 2", "label from 0 to 1",
         lambda d: call(load, d.npz(class_names=["cat", "dog"], y_train=np.arange(200) // 199))),
    Case("no network", ConnectionError, "could not be downloaded", "DATA = 'synthetic'",
         lambda d: d.no_network() or call(load, "cifar10")),
    Case("the name of a real picture among drawn ones", ValueError, "cifar10_test_cat_0000.png",
         "Names look like 'synthetic_test_disc_0000.png'",
         lambda d: call(d.scenes.test_index, "cifar10_test_cat_0000.png")),
    # Form fields
    Case("an unknown mode", ValueError, "MODE = 'fast'", "one of auto",
         lambda d: d.configure("fast")),
    Case("an unknown mode in the environment", ValueError, "COURSE_MODE = 'fast'", "one of auto",
         lambda d: d.configure("quick", COURSE_MODE="fast")),
    Case("the same where nothing is trained", ValueError, "COURSE_MODE = 'fast'", "one of auto",
         lambda d: d.patch.setenv("COURSE_MODE", "fast") or call(settings.data_source)),
    Case("an unknown recipe", ValueError, "RECIPE = 'best'", "one of course",
         lambda d: d.configure("auto", "auto", "best")),
    *(Case(f"{mode} on {source}", ValueError, f"DATA = '{source}'", "choose 'auto'",
           lambda d, form=(mode, source): d.configure(*form))
      for mode, source in (("quick", "cifar10"), ("recorded", "synthetic"))),
    Case("no recorded run", FileNotFoundError, "saved_models/course", "choose 'full'",
         lambda d: d.configure("recorded")),
    *(Case(f"EPOCHS = {value!r}", ValueError, f"EPOCHS = {value!r}", "whole number from 1 to 1000",
           lambda d, value=value: d.configure("full", "auto", "course", value))
      for value in (0, 2.5, "ten", 10**9)),
    Case("no epochs in the environment", ValueError, "COURSE_EPOCHS = '0'", "whole number",
         lambda d: d.configure("full", COURSE_EPOCHS="0")),
    *(Case(f"SEED = {value!r}", ValueError, f"SEED = {value!r}", "from 0 to 4294967295",
           lambda d, value=value: d.configure("full", "auto", "course", 50, value))
      for value in (-1, 2**32)),
    # Annotations
    Case("no such file", FileNotFoundError, "There is no file", "Check the path",
         lambda d: call(read_via, d.folder / "via.csv")),
    Case("Latin-1", AnnotationError, "'utf-8' codec", "save it as UTF-8",
         lambda d: call(read_via, d.via(ROW.replace("a.png", "Bär.png"), encoding="latin-1"))),
    Case("a column deleted", AnnotationError, "unknown or missing columns", "line 1 must",
         lambda d: call(read_via, d.file("via.csv", HEADER.replace("region_id,", "")))),
    Case("a pickle named .json", AnnotationError, "via.json: no valid VIA file", "Fix: ",
         lambda d: call(read_via, d.file("via.json", d.bomb()))),
    Case("annotations for attributes", AnnotationError, "no valid file of VIA attributes",
         "export it again", lambda d: call(via.read_schema, d.file("a.json", PROJECT))),
    Case("text for a coordinate", AnnotationError, "a.png, row 2: x is '1'", "draw the region",
         lambda d: call(via.rescale, read_via(d.via(ROW.replace(":1,", ':""1"",'))), 1 / 16)),
    Case("a zip of annotations", AnnotationError, "yolo.zip: no valid", "unpack a zip",
         lambda d: call(exports.read_any, d.file("yolo.zip", d.bomb()))),
    Case("a folder without annotations", AnnotationError, "or data.yaml or classes", "name the",
         lambda d: call(exports.read_any, d.subfolder("photos"), {"a.png": (9, 9)})),
    Case("YOLO without pictures", AnnotationError, "label file with the name", "name the pictur",
         lambda d: d.file("classes.txt", "cat") and call(exports.read_any, d.folder)),
    Case("another JSON", AnnotationError, "a.json: no valid VIA file", "export it again",
         lambda d: call(exports.read_any, d.file("a.json", '{"name": "cat"}'))),
    Case("a damaged data.yaml", AnnotationError, "data.yaml: no valid list", "export it again",
         lambda d: d.file("data.yaml", "names: [cat") and call(exports.read_any, d.folder)),
    Case("a box cropped away", AnnotationError, "reaches outside the picture (3 x 3)", "move its b",
         lambda d: call(exports.write_voc, read_via(d.via(ROW)), d.folder, {"a.png": (3, 3)})),
    Case("boxes onto a full disk", OSError, "No space left on device", "make room",
         lambda d: d.full_disk() or call(via.write_via_csv, [], d.folder / "mine.csv")),
    Case("a folder in the file's place", IsADirectoryError, "cannot be written", "another place",
         lambda d: call(via.write_via_csv, [], d.subfolder("mine.csv"))),
    Case("to save into a read-only folder", OSError, "mine.csv", "where you may write",
         lambda d: d.read_only()
         or call(annotator.annotate, {"a.png": NOISE}, SCHEMA, d.folder / "mine.csv")),
    # Run folders
    Case("a file for a run folder", FileNotFoundError, "no run folder", "Train first",
         lambda d: call(runs.open_run, d.file("run", "x"))),
    Case("a network of other classes", ValueError, "knows other classes than",
         "MODE 'full'",
         lambda d: call(runs.open_run(d.run_with()).require_classes, load(d.npz()))),
    Case("a pickle for weights", ValueError, "model.001.keras is damaged", "train again",
         lambda d: call(runs.open_run(d.run_with(weights=d.bomb())).network)),
    Case("to go on with another recipe", ValueError, "recipe = tiny, not quick", "another run fold",
         lambda d: d.train(d.run_with(), recipe=QUICK)),
    Case("to go on from a pickle", ValueError, "no state to go on from", "another run folder",
         lambda d: d.train(d.run_with(state=d.bomb()))),
    Case("a file in the run folder's place", FileExistsError, "cannot be written", "another place",
         lambda d: d.train(d.file("run", "x"))),
    Case("a run on a full disk", OSError, "cannot be written (No space left", "make room",
         lambda d: d.full_disk() or d.one_step() or d.train()),
    # Grad-CAM
    Case("Keras on JAX", ValueError, "GradCAM needs Keras on TensorFlow", "KERAS_BACKEND=tensorfl",
         lambda d: d.patch.setattr(keras.backend, "backend", lambda: "jax")
         or call(gradcam.GradCAM, NETWORK)),
    Case("a method of another package", ValueError, "No method 'scorecam'", "there are: gradcam",
         lambda d: call(gradcam.GradCAM, NETWORK, method="scorecam")),
    Case("a NaN in a picture", ValueError, "Map 0 holds NaN", "weights",
         lambda d: call(gradcam.GradCAM(NETWORK), np.full((6, 32, 32, 3), np.nan))),
    Case("one map without its axis", ValueError, "maps (8, 8)", "(N, h, w)",
         lambda d: call(gradcam.normalize, np.ones((8, 8)))),
    Case("a small map on a picture", ValueError, "heat (8, 8)", "upsample",
         lambda d: call(gradcam.overlay, NOISE, np.ones((8, 8)))),
    Case("a picture from 0 to 1", ValueError, "image float64 (64, 64, 3)", "uint8 (H, W, 3)",
         lambda d: call(gradcam.overlay, NOISE / 255, np.ones((64, 64)))),
    # Metrics
    Case("maps that were not enlarged", ValueError, "maps (6, 8, 8)", "gradcam.upsample",
         lambda d: call(metrics.score, np.ones((6, 8, 8)), np.ones((6, 32, 32), bool))),
    Case("a picture without a box", ValueError, "An empty mask", "leave out pictures",
         lambda d: call(metrics.score, np.ones((1, 8, 8)), np.zeros((1, 8, 8), bool))),
    Case("a grid that does not fit", ValueError, "maps (1, 5, 5)", "h and w divide H and W",
         lambda d: call(metrics.faithfulness, len, NOISE[None], np.ones((1, 5, 5)), [0], 0)),
    Case("a mosaic of one class", ValueError, "classes (1,)", "two classes at least",
         lambda d: call(metrics.mosaics, NOISE[None], NOISE[None, ..., 0] > 9, [0])),
]

# fmt: on


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    """A run stopped after its first epoch of two."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return trainer.train(RECIPE, scenes, folder, epochs=1, precision="float32")


@pytest.fixture
def day(tmp_path, monkeypatch, run, scenes):
    return Day(tmp_path, monkeypatch, run, scenes)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_bad_day_has_one_clear_message(case, day):
    fails = case.day(day)
    before = contents(day.folder)
    with pytest.raises(Exception) as caught:
        fails()
    message = str(caught.value)
    assert type(caught.value) is case.error, repr(caught.value)
    assert case.error.__name__ in fails.func.__doc__ + inspect.getmodule(fails.func).__doc__
    assert case.thing in message and case.way_out in message, message
    assert len(message.replace(str(day.folder), "")) <= 400, message
    assert "\n" not in message and "Traceback" not in message
    paths = re.findall(r"(?<![\w.:/~])/\w[\w.-]*/[\w./-]+", message)
    assert all(path.startswith(str(day.folder)) for path in paths), message
    assert contents(day.folder) == before


# Odd, but fine: what a student may well have

RED_OVER_BLUE = np.repeat(np.uint8([[[255, 0, 0]], [[0, 0, 255]]]).repeat(64, 1), 32, 0)
ODD_PICTURES = {
    "transparent": ("RGBA", "PNG", {}),
    "palette, transparent": ("P", "PNG", {"transparency": 0}),
    "CMYK": ("CMYK", "JPEG", {"quality": 95}),
    "WebP": ("RGB", "WEBP", {"lossless": True}),
    "animated": ("RGB", "GIF", {"save_all": True, "append_images": [Image.new("RGB", (64, 64))]}),
    "grey, transparent": ("LA", "PNG", {}),
    "black and white": ("1", "PNG", {}),
}


@pytest.mark.parametrize("mode, kind, options", ODD_PICTURES.values(), ids=list(ODD_PICTURES))
def test_odd_pictures_are_read(tmp_path, mode, kind, options):
    path = tmp_path / "Kätzchen (1)"  # neither ASCII nor a suffix is needed
    image = Image.fromarray(RED_OVER_BLUE).convert(mode)
    image.save(path, kind, **options)
    picture = data.load_picture(path)
    assert picture.shape == (32, 32, 3) and picture.dtype == np.uint8
    expected = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BOX), int)
    assert np.abs(picture - expected).max() <= 6


def test_a_camera_held_upside_down(tmp_path):
    orientation = Image.Exif()
    orientation[0x0112] = 3
    Image.fromarray(RED_OVER_BLUE[::-1]).save(tmp_path / "a.jpg", exif=orientation, quality=95)
    picture = data.load_picture(tmp_path / "a.jpg")
    assert np.allclose(picture[[0, 31], 0], RED_OVER_BLUE[[0, 63], 0], atol=6)


def test_16_bits_of_colour_are_halved(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), RED_OVER_BLUE[..., ::-1].astype(np.uint16) * 257)
    picture = data.load_picture(tmp_path / "a.png")
    assert np.array_equal(picture[[0, 31], 0], RED_OVER_BLUE[[0, 63], 0])


def test_a_damaged_state_gives_way_to_the_one_before(day, capsys):
    folder = day.run_with()
    for number, content in ((2, day.bomb()), (3, b"")):
        (folder / f"state_{number:03d}.npz").write_bytes(content)
    assert len(day.train(folder, epochs=1)().log) == 1
    printed = capsys.readouterr().out
    assert all(f"state_00{number}.npz is damaged" in printed for number in (2, 3))
    assert "trying the state before it" in printed and not (day.folder / "unpickled").exists()


@pytest.mark.parametrize("content", [None, b"{", bytes([255, 254])])
def test_a_notebook_that_is_none(day, content):
    path = day.folder / "a.ipynb" if content is None else day.file("a.ipynb", content)
    day.patch.setattr(sys, "argv", ["execute", "--in-place", str(path)])
    before = contents(day.folder)
    with pytest.raises(SystemExit, match="a.ipynb stopped:"):
        execute.main()
    assert contents(day.folder) == before


@pytest.mark.parametrize("python", [(3, 10, 4), (3, 14, 0)])
def test_make_refuses_another_python(monkeypatch, python):
    (check,) = re.findall("-c '(import sys;.*)'", (files.ROOT / "Makefile").read_text())
    exec(check)
    monkeypatch.setattr(sys, "version_info", python)
    with pytest.raises(SystemExit, match=f"is needed, this is 3.{python[1]}: make PYTHON=python3"):
        exec(check)


CODE = {path.name: path.read_text() for path in (files.ROOT / "helpers").rglob("*.py")}
CODE |= {path.name: code_of(path) for path in files.ROOT.glob("*.ipynb")}
RUNS_CODE_OF_FILES = (
    r"(?m)^\s*(import|from) (pickle|dill|joblib|marshal|shelve)\b"
    r"|load_model\((?!model_file\))"  # the reader's own, and Keras refuses code in it
    r"|unsafe_deserialization|allow_pickle=(?!False)|safe_mode=(?!True)"
)


def test_no_code_of_files_is_run():
    found = {name: re.search(RUNS_CODE_OF_FILES, code) for name, code in CODE.items()}
    assert CODE and not any(found.values()), found


def strings(source):
    """The texts in a piece of Python, with what is filled in left out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(getattr(part, "value", "") for part in node.values
                          if isinstance(part, ast.Constant))  # fmt: skip
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_the_readme_quotes_messages_that_exist():
    readme = (files.ROOT / "README.md").read_text()
    section = readme.split("## When something goes wrong")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]
    quoted = [text for seen, *_ in rows for text in re.findall("`(.+?)`", seen)]
    tools = [path.read_text() for path in (files.ROOT / "tools").glob("*.py")]
    texts = [text for source in (*CODE.values(), *tools) for text in strings(source)]
    texts.append((files.ROOT / "Makefile").read_text())
    assert len(rows) >= 12 and len(quoted) >= 12
    assert [text for text in quoted if not any(text in each for each in texts)] == []
