"""The catalogue of bad days: what goes wrong, and the one message that must come back.

A case prepares a bad day in an empty folder and makes a call that cannot succeed. The call has to
raise one exception, of exactly the type that its docstring promises; the message names the thing
and a way out, is short, tells no paths but the reader's own; and no file has changed.
"""

import ast
import dataclasses
import errno
import hashlib
import inspect
import io
import json
import math
import os
import pickle
import re
import shutil
import socket
import struct
import sys
import types
import zipfile
import zlib
from collections.abc import Callable
from functools import partial as call
from pathlib import Path
from typing import NamedTuple

import cv2
import keras
import numpy as np
import pytest
from PIL import Image

from helpers import files, settings
from helpers.annotation import agreement, annotator, exports, via
from helpers.annotation.via import HEADER, AnnotationError
from helpers.explanation import gradcam, metrics
from helpers.training import data, runs, trainer  # fmt: skip
from helpers.training.recipes import COURSE, QUICK
from helpers.training.resnet import resnet_v2
from tools import execute

RECIPE = dataclasses.replace(COURSE, name="tiny", epochs=2, batch_size=90, depth=11)
SCHEMA = via.read_schema(files.ROOT / "images/annotations/via_attributes.json")
LONGEST = 400  # characters of a message; the reader's own folder not counted


class Case(NamedTuple):
    name: str
    error: type
    thing: str  # in the message: what is wrong
    way_out: str  # in the message: what to do
    day: Callable  # of a Day: prepares it, returns the call that must fail


class Day:
    """An empty folder, and the means to make a bad day of it."""

    def __init__(self, folder, patch, run, scenes, network):
        self.folder, self.patch, self.run, self.scenes = folder, patch, run, scenes
        self.network, self.pictures = network, scenes.x_test[:6]

    # Files

    def file(self, name, content=b""):
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def subfolder(self, name):
        (self.folder / name).mkdir()
        return self.folder / name

    def picture(self, name, array):
        Image.fromarray(array).save(self.folder / name)
        return self.folder / name

    def npz(self, **changes):
        """A small copy of CIFAR-10 with some arrays changed, or left out where None."""
        arrays = {}
        for part, count in (("train", 200), ("test", 100)):
            arrays[f"x_{part}"] = np.zeros((count, 32, 32, 3), np.uint8)
            arrays[f"y_{part}"] = np.arange(count) % 10
        arrays |= changes
        path = self.folder / "copy.npz"
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
        return str(path)

    def run_with(self, **contents):
        """A copy of a run of one epoch, with some files replaced, or removed where None."""
        folder = self.folder / "run"
        shutil.copytree(self.run.folder, folder)
        for name, content in contents.items():
            path = {"info": "run.json", "log": "training_log.csv", "state": "state_001.npz",
                    "weights": self.run.checkpoint().name}[name]  # fmt: skip
            (folder / path).unlink()
            if content is not None:
                self.file(f"run/{path}", content)
        return folder

    def via(self, *rows, encoding="utf-8"):
        return self.file("via.csv", "\n".join([HEADER, *rows]).encode(encoding))

    def bomb(self):
        """A pickle that leaves a file behind where it is unpickled."""
        return pickle.dumps(Bomb(str(self.folder / "unpickled")))

    def lambda_model(self):
        """A model file whose Lambda layer leaves a file behind where it is called."""
        mark, path = self.folder / "called", self.folder / "lambda.keras"

        def leave_a_mark(x):
            mark.touch()
            return x

        layer = keras.layers.Lambda(leave_a_mark, output_shape=(32, 32, 3))
        keras.Sequential([keras.Input((32, 32, 3)), layer]).save(path)
        mark.unlink(missing_ok=True)
        return path.read_bytes()

    # The machine

    def configure(self, *form, gpu=False, recorded=None, **environment):
        """The configuration cell on a machine without CIFAR-10, and with what is named."""
        for name in ("COURSE_MODE", "COURSE_EPOCHS", "CIFAR10_NPZ"):
            self.patch.delenv(name, raising=False)
        for name, value in environment.items():
            self.patch.setenv(name, value)
        self.patch.setattr(settings, "gpu_names", lambda: ["NVIDIA T4"] if gpu else [])
        self.patch.setattr(settings, "_pictures_at_hand", lambda: recorded is not None)
        self.patch.setattr(settings, "RECORDED", self.folder)
        if recorded is not None:
            self.subfolder("course")
            self.file("course/run.json", recorded)
        return call(settings.configure, *form)

    def no_network(self):
        """Nor an archive of CIFAR-10 in Keras' cache."""

        def unknown(*_, **__):
            raise socket.gaierror(-3, "Temporary failure in name resolution")

        cache = str(self.folder.parent / f"{self.folder.name}_keras")
        self.patch.setattr("keras.src.backend.config.keras_home", lambda: cache)
        self.patch.delenv("CIFAR10_NPZ", raising=False)
        self.patch.setattr(socket, "getaddrinfo", unknown)

    def full_disk(self):
        def full(path, *_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch.setattr(keras.Model, "save", full)

    def read_only(self):
        """As root may write anywhere, the answer to "may I?" is replaced."""
        self.patch.setattr(os, "access", lambda path, mode: False)

    # Calls

    def train(self, folder="run", **arguments):
        return call(trainer.train, **{
            "recipe": RECIPE, "dataset": self.scenes, "folder": self.folder / folder,
            "precision": "float32", **arguments,
        })  # fmt: skip

    def train_with(self, step):
        """A training whose step is replaced."""
        self.patch.setattr(keras.Model, "fit", step)
        return self.train()

    def explain(self, images=None, *classes, **options):
        images = self.pictures if images is None else images
        return call(gradcam.GradCAM(self.network), images, *classes, **options)

    def annotate(self, pictures=None):
        pictures = pictures or {"a.png": self.pictures[0]}
        return call(annotator.annotate, pictures, SCHEMA, self.folder / "mine.csv")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


# What is inside the bad files

GREY16 = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
POSTSCRIPT = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
ROW = 'a.png,-1,"{}",1,0,"{""name"":""rect"",""x"":1,""y"":2,""width"":3,""height"":4}","{}"'
PROJECT = '{"a.png-1":{"filename":"a.png","size":-1,"regions":[],"file_attributes":{}}}'


def encoded(kind, array=NOISE, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def huge_png(side=50_000):
    """Its header promises 7.5 GB of pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def damaged_npz(day):
    """Whole at both ends, with wrong bytes in the middle of the compressed pixels."""
    path = Path(day.npz(x_train=np.resize(NOISE, (200, 32, 32, 3))))
    with np.load(path) as arrays:
        np.savez_compressed(path, **arrays)
    content = bytearray(path.read_bytes())
    content[5000:5099] = bytes(99)
    path.write_bytes(content)
    return str(path)


def npy_named_npz(day):
    np.save(day.folder / "copy", NOISE)
    return str((day.folder / "copy.npy").rename(day.folder / "copy.npz"))


def one_step(*_, **__):
    return types.SimpleNamespace(history={"loss": [1.0], "acc": [0.5]})


def one_map(value=1.0, size=32):
    return np.full((1, size, size), value)


# fmt: off
load, load_picture, read_via = data.load, data.load_picture, via.read_via
nan = math.nan

PICTURES = [
    Case("a folder of pictures", FileNotFoundError, "There is no file", "Check the path",
         lambda d: call(load_picture, d.subfolder("cats"))),
    Case("an address of the web", FileNotFoundError, "example.org", "upload the picture",
         lambda d: call(load_picture, "https://example.org/cat.jpg")),
    Case("half a JPEG", ValueError, "cat.jpg", "as PNG or JPEG",
         lambda d: call(load_picture, d.file("cat.jpg", encoded("JPEG")[:3000]))),
    Case("half a PNG", ValueError, "cat.png", "as PNG or JPEG",
         lambda d: call(load_picture, d.file("cat.png", encoded("PNG")[:2000]))),
    Case("a telephone's HEIC", ValueError, "IMG_1.jpg", "as PNG or JPEG",
         lambda d: call(load_picture, d.file("IMG_1.jpg", HEIC))),
    Case("a drawing", ValueError, "logo.svg", "as PNG or JPEG",
         lambda d: call(load_picture, d.file("logo.svg", SVG))),
    Case("PostScript, which is a program", ValueError, "cat.eps", "as PNG or JPEG",
         lambda d: call(load_picture, d.file("cat.eps", POSTSCRIPT))),
    Case("a zip named .png", ValueError, "cat.png", "as PNG or JPEG",
         lambda d: call(load_picture, d.file("cat.png", zipped(cat="")))),
    Case("a pickle named .png", ValueError, "cat.png", "as PNG or JPEG",
         lambda d: call(load_picture, d.file("cat.png", d.bomb()))),
    Case("a decompression bomb", ValueError, "2500000000 pixels", "no larger than a camera",
         lambda d: call(load_picture, d.file("cat.png", huge_png()))),
    Case("16 bits of grey", ValueError, "more than 8 bits", "8 bits",
         lambda d: call(load_picture, d.picture("xray.png", GREY16))),
    Case("floating-point pixels", ValueError, "more than 8 bits", "8 bits",
         lambda d: call(load_picture, d.picture("depth.tiff", GREY16.astype(np.float32)))),
]

DATA_SETS = [
    Case("a folder named .npz", FileNotFoundError, "copy.npz", "DATA = 'synthetic'",
         lambda d: call(load, str(d.subfolder("copy.npz")))),
    Case("the environment names no file", FileNotFoundError, "gone.npz", "CIFAR10_NPZ",
         lambda d: d.patch.setenv("CIFAR10_NPZ", str(d.folder / "gone.npz")) or call(load)),
    Case("damaged in the middle", ValueError, "copy.npz", "DATA = 'synthetic'",
         lambda d: call(load, damaged_npz(d))),
    Case("one array named .npz", ValueError, "is not a zip file", "names an .npz with x_train",
         lambda d: call(load, npy_named_npz(d))),
    Case("a pickle named .npz", ValueError, "copy.npz", "DATA = 'synthetic'",
         lambda d: call(load, str(d.file("copy.npz", d.bomb())))),
    Case("an array of objects", ValueError, "allow_pickle=False", "DATA = 'synthetic'",
         lambda d: call(load, d.npz(x_test=np.array([Bomb(str(d.folder / "unpickled"))] * 100)))),
    Case("class names for labels", ValueError, "y_train is <U3", "integer (200,)",
         lambda d: call(load, d.npz(y_train=np.array(["cat"] * 200)))),
    Case("too few to validate", ValueError, "y_train does not hold", "ten times each",
         lambda d: call(load, d.npz(x_train=np.zeros((50, 32, 32, 3), np.uint8),
                                    y_train=np.arange(50) % 10))),
    Case("no network", ConnectionError, "could not be downloaded", "DATA = 'synthetic'",
         lambda d: d.no_network() or call(load, "cifar10")),
    Case("the name of a real picture among drawn ones", ValueError, "cifar10_test_cat_0000.png",
         "Names look like 'synthetic_test_disc_0000.png'",
         lambda d: call(d.scenes.test_index, "cifar10_test_cat_0000.png")),
    Case("no name", ValueError, "'None' names no test picture", "Names look like",
         lambda d: call(d.scenes.test_index, None)),
]

FORM_FIELDS = [
    Case("an unknown mode", ValueError, "MODE = 'fast'", "one of auto",
         lambda d: d.configure("fast")),
    Case("an unknown mode in the environment", ValueError, "COURSE_MODE = 'fast'", "one of auto",
         lambda d: d.configure("quick", COURSE_MODE="fast")),
    Case("the same where nothing is trained", ValueError, "COURSE_MODE = 'fast'", "one of auto",
         lambda d: d.patch.setenv("COURSE_MODE", "fast") or call(settings.data_source)),
    Case("no recipe", ValueError, "RECIPE = None", "one of course",
         lambda d: d.configure("auto", "auto", None)),
    Case("quick on real pictures", ValueError, "DATA = 'cifar10'", "choose MODE = 'full'",
         lambda d: d.configure("quick", "cifar10")),
    Case("recorded on drawn pictures", ValueError, "DATA = 'synthetic'", "choose 'quick'",
         lambda d: d.configure("recorded", "synthetic")),
    Case("no recorded run", FileNotFoundError, "saved_models/course", "choose MODE = 'full'",
         lambda d: d.configure("recorded")),
    *(Case(f"EPOCHS = {value!r}", ValueError, f"EPOCHS = {value!r}", "whole number from 1 to 1000",
           lambda d, value=value: d.configure("full", "auto", "course", value))
      for value in (0, -3, 2.5, True, nan, "ten", "", None, 10**9)),
    *(Case(f"COURSE_EPOCHS={value}", ValueError, f"COURSE_EPOCHS = '{value}'", "whole number",
           lambda d, value=value: d.configure("full", COURSE_EPOCHS=value))
      for value in ("0", " ")),
    *(Case(f"SEED = {value!r}", ValueError, f"SEED = {value!r}", "from 0 to 4294967295",
           lambda d, value=value: d.configure("full", "auto", "course", 50, value))
      for value in (-1, 0.5, "lucky", 2**32)),
    *(Case(f"RUN_FOLDER = {value[:12]}", ValueError, f"RUN_FOLDER = '{value[:9]}", "give the path",
           lambda d, value=value: d.configure("full", "auto", "course", 50, 0, value))
      for value in ("~nobody-here/x", f"runs/{256 * 'x'}", "https://example.org/x",
                    f"data:image/png;base64,{99 * 'iVBO'}")),
]

ANNOTATION_FILES = [
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
    Case("a box of negative width", ValueError, "negative width", "(n, 4)",
         lambda d: call(agreement.iou, [(5, 5, -3, 4)], [(1, 1, 2, 2)])),
    Case("a full disk", OSError, "No space left on device", "make room",
         lambda d: d.full_disk() or call(via.write_via_csv, [], d.folder / "mine.csv")),
    Case("a folder in the file's place", IsADirectoryError, "cannot be written", "another place",
         lambda d: call(via.write_via_csv, [], d.subfolder("mine.csv"))),
    Case("an export onto a full disk", OSError, "No space left on device", "make room",
         lambda d: d.full_disk() or call(exports.write_yolo, [], d.folder / "new", {}, ["cat"])),
    Case("YOLO without its classes", FileNotFoundError, "classes.txt", "Check the path",
         lambda d: call(exports.read_yolo, d.folder, {})),
    Case("a list to annotate", ValueError, "must be a dict", "{file name: uint8 (H, W, 3)}",
         lambda d: d.annotate([NOISE])),
    Case("to save into a read-only folder", OSError, "mine.csv", "where you may write",
         lambda d: d.read_only() or d.annotate()),
]

RUN_FOLDERS = [
    Case("a file for a run folder", FileNotFoundError, "no run folder", "Train first",
         lambda d: call(runs.open_run, d.file("run", "x"))),
    Case("a run.json in UTF-16", ValueError, "log or run.json", "train again",
         lambda d: call(runs.open_run, d.run_with(info="{}".encode("utf-16")))),
    Case("a pickle for weights", ValueError, "model.001.keras is damaged", "train again",
         lambda d: call(runs.open_run(d.run_with(weights=d.bomb())).network)),
    Case("a model with a Lambda layer", ValueError, "model.001.keras is damaged", "train again",
         lambda d: call(runs.open_run(d.run_with(weights=d.lambda_model())).network)),
    Case("scores without a hash", ValueError, "SHA-256 differs", "git checkout",
         lambda d: call(runs.open_run(d.run_with(info=json.dumps(
             {**d.run.info, "scores": {"epoch": 1}}))).network)),
    Case("to go on with another recipe", ValueError, "recipe = tiny, not quick", "another run fold",
         lambda d: d.train(d.run_with(), recipe=QUICK)),
    Case("to go on from a pickle", ValueError, "no state to go on from", "another run folder",
         lambda d: d.train(d.run_with(state=d.bomb()))),
    *(Case(f"seed = {seed!r}", ValueError, f"seed = {seed!r}", "whole number from 0 to",
           lambda d, seed=seed: d.train(seed=seed)) for seed in (-1, "lucky", 2**32)),
    Case("more epochs than the schedule has", ValueError, "epochs = 3", "from 1 to 2 is needed",
         lambda d: d.train(epochs=3)),
    Case("a file in the run folder's place", FileExistsError, "cannot be written", "another place",
         lambda d: d.train(d.file("run", "x"))),
    Case("a full disk", OSError, "cannot be written (No space left", "make room",
         lambda d: d.full_disk() or d.train_with(one_step)),
]

GRAD_CAM = [
    Case("a path for a model", ValueError, "str has no graph", "keras.Model(x, model.call(x))",
         lambda d: call(gradcam.GradCAM, "best.keras")),
    Case("Keras on JAX", ValueError, "GradCAM needs Keras on TensorFlow", "KERAS_BACKEND=tensorfl",
         lambda d: d.patch.setattr(keras.backend, "backend", lambda: "jax")
         or call(gradcam.GradCAM, d.network)),
    Case("a method of another package", ValueError, "No method 'scorecam'", "there are: gradcam",
         lambda d: call(gradcam.GradCAM, d.network, method="scorecam")),
    Case("a NaN in a picture", ValueError, "Map 2 holds NaN", "weights",
         lambda d: d.explain(np.where(np.arange(6)[:, None, None, None] == 2, nan, d.pictures))),
    Case("one map without its axis", ValueError, "maps (8, 8)", "(N, h, w)",
         lambda d: call(gradcam.normalize, np.ones((8, 8)))),
    Case("a map with negative values", ValueError, "less than 0", "weights",
         lambda d: call(gradcam.normalize, np.full((1, 8, 8), -1.0))),
    Case("a small map on a picture", ValueError, "heat (8, 8)", "upsample",
         lambda d: call(gradcam.overlay, d.pictures[0], np.ones((8, 8)))),
    Case("a picture from 0 to 1", ValueError, "image float64 (32, 32, 3)", "uint8 (H, W, 3)",
         lambda d: call(gradcam.overlay, d.pictures[0] / 255, np.ones((32, 32)))),
]

METRICS = [
    Case("maps that were not enlarged", ValueError, "maps (6, 8, 8)", "gradcam.upsample",
         lambda d: call(metrics.score, np.ones((6, 8, 8)), np.ones((6, 32, 32), bool))),
    Case("a picture without a box", ValueError, "a true pixel in every picture", "leave out",
         lambda d: call(metrics.score, np.ones((1, 8, 8)), np.zeros((1, 8, 8), bool))),
    Case("a grid that does not fit", ValueError, "maps (6, 5, 5)", "h and w divide H and W",
         lambda d: call(metrics.faithfulness, len, d.pictures, np.ones((6, 5, 5)),
                        np.zeros(6, int), 0)),
    Case("a mosaic of one class", ValueError, "classes (6,)", "four classes at least",
         lambda d: call(metrics.mosaics, d.pictures, one_map(True).repeat(6, 0), np.zeros(6, int))),
    Case("a network that forgot a class", ValueError, "predict gave (2, 2)", "(n, classes) is need",
         lambda d: call(metrics.faithfulness, lambda x: np.ones((len(x), 2)), d.pictures,
                        np.ones((6, 1, 1)), np.full(6, 9), 0)),
]

# fmt: on

GROUPS = {
    "picture": PICTURES, "data": DATA_SETS, "form": FORM_FIELDS, "annotations": ANNOTATION_FILES,
    "run": RUN_FOLDERS, "Grad-CAM": GRAD_CAM, "metrics": METRICS,
}  # fmt: skip
CATALOGUE = {f"{group}: {case.name}": case for group, cases in GROUPS.items() for case in cases}


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    """A run stopped after its first epoch of two."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return trainer.train(RECIPE, scenes, folder, epochs=1, precision="float32")


@pytest.fixture(scope="module")
def network():
    return resnet_v2(11)


@pytest.fixture
def day(tmp_path, monkeypatch, run, scenes, network):
    return Day(tmp_path, monkeypatch, run, scenes, network)


def contents(folder):
    """All files below a folder, with their SHA-256."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def documentation(function):
    """The docstrings that may name its errors: its own, or of its call, and its module's."""
    if not inspect.isroutine(function) and not inspect.isclass(function):  # a GradCAM
        function = type(function).__call__
    return function.__doc__ + inspect.getmodule(function).__doc__


@pytest.mark.filterwarnings("ignore:Skipping nested container")  # Keras, of the Lambda model
@pytest.mark.parametrize("case", CATALOGUE.values(), ids=list(CATALOGUE))
def test_a_bad_day_has_one_clear_message(case, day):
    fails = case.day(day)
    before = contents(day.folder)
    with pytest.raises(Exception) as caught:
        fails()
    message = str(caught.value)
    assert type(caught.value) is case.error, repr(caught.value)
    assert case.error.__name__ in documentation(fails.func)
    assert case.thing in message and case.way_out in message, message
    assert len(message.replace(str(day.folder), "")) <= LONGEST, message
    assert "\n" not in message and "Traceback" not in message
    paths = re.findall(r"(?<![\w.:/~])/\w[\w.-]*/[\w./-]+", message)
    assert all(path.startswith(str(day.folder)) for path in paths), message
    assert contents(day.folder) == before


def test_the_catalogue_has_no_case_twice():
    assert len(CATALOGUE) == sum(map(len, GROUPS.values()))


# Odd, but fine: what a student may well have

RED_OVER_BLUE = np.repeat(np.uint8([[[255, 0, 0]], [[0, 0, 255]]]).repeat(64, 1), 32, 0)
ODD_PICTURES = {
    "transparent": ("RGBA", "PNG", {}),
    "palette": ("P", "PNG", {}),
    "palette, transparent": ("P", "PNG", {"transparency": 0}),
    "CMYK": ("CMYK", "JPEG", {"quality": 95}),
    "progressive": ("RGB", "JPEG", {"quality": 95, "subsampling": 0, "progressive": True}),
    "WebP": ("RGB", "WEBP", {"lossless": True}),
    "BMP": ("RGB", "BMP", {}),
    "TIFF": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "animated": ("RGB", "GIF", {"save_all": True, "append_images": [Image.new("RGB", (64, 64))]}),
    "grey": ("L", "PNG", {}),
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
    assert np.allclose(picture[0], (255, 0, 0), atol=6)
    assert np.allclose(picture[31], (0, 0, 255), atol=6)


def test_16_bits_of_colour_are_halved(tmp_path):
    wide = RED_OVER_BLUE[..., ::-1].astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "a.png"), wide)
    assert np.array_equal(
        data.load_picture(tmp_path / "a.png")[[0, 31], 0], RED_OVER_BLUE[[0, 63], 0]
    )


@pytest.mark.parametrize("shape", [(1, 1), (10, 3000), (33, 31)])
def test_pictures_of_any_shape(tmp_path, shape):
    Image.new("RGB", shape, "red").save(tmp_path / "a.png")
    assert np.all(data.load_picture(tmp_path / "a.png") == (255, 0, 0))


@pytest.mark.parametrize("epochs", [5, "5", np.int64(5), np.uint8(5)])
def test_numbers_of_any_kind(day, epochs):
    assert day.configure("full", "auto", "course", epochs, np.int32(3))().epochs == 5
    assert day.configure("full", COURSE_EPOCHS="5")().epochs == 5


def test_a_byte_order_mark(day):
    assert read_via(day.via(ROW, encoding="utf-8-sig")) == read_via(day.via(ROW))


def test_without_a_gpu_the_banner_warns_and_nothing_fails(day):
    assert "There is no GPU: an epoch takes" in day.configure("full")().banner
    assert "There is no GPU" not in day.configure("full", gpu=True)().banner


def test_a_damaged_state_gives_way_to_the_one_before(day, capsys):
    folder = day.run_with()
    for number, content in ((2, day.bomb()), (3, b""), (4, npz_of_objects(day))):
        (folder / f"state_{number:03d}.npz").write_bytes(content)
    assert len(day.train(folder, epochs=1)().log) == 1
    printed = capsys.readouterr().out
    assert all(f"state_00{number}.npz is damaged" in printed for number in (2, 3, 4))
    assert "trying the state before it" in printed
    assert not (day.folder / "unpickled").exists()


def npz_of_objects(day):
    file = io.BytesIO()
    np.savez(file, v000=np.array([Bomb(str(day.folder / "unpickled"))]))
    return file.getvalue()


# The command line


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"cells"', bytes([255, 254])])
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


# No code from files


def code_of_notebook(path):
    cells = json.loads(path.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return re.sub("(?m)^[%!].*", "", code)


CODE = {path.name: path.read_text() for path in (files.ROOT / "helpers").rglob("*.py")}
CODE |= {path.name: code_of_notebook(path) for path in files.ROOT.glob("*.ipynb")}
RUNS_CODE_OF_FILES = (
    r"(?m)^\s*(import|from) (pickle|dill|joblib|marshal|shelve)\b"
    r"|load_model\(|unsafe_deserialization|allow_pickle=(?!False)|safe_mode=(?!True)"
)


def test_no_code_of_files_is_run():
    found = {name: re.search(RUNS_CODE_OF_FILES, code) for name, code in CODE.items()}
    assert CODE and not any(found.values()), found


# The README's table of messages


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
    texts = [text for source in CODE.values() for text in strings(source)]
    texts.append((files.ROOT / "Makefile").read_text())
    assert len(rows) >= 12 and len(quoted) >= 12
    assert [text for text in quoted if not any(text in each for each in texts)] == []
