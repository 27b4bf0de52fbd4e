"""CIFAR-10 from three sources, one split, and the synthetic stand-in.

`load("cifar10")` gives the real pictures (Krizhevsky, "Learning Multiple Layers of Features from
Tiny Images", 2009), `load("some.npz")` a copy of them, `load("synthetic")` drawn scenes with exact
boxes that need no network.
"""

import hashlib
import os
import socket
import urllib.request
import zipfile
from dataclasses import dataclass, replace
from functools import cached_property
from http.client import HTTPException
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

CLASS_NAMES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
# Mean of CIFAR-10's training pictures per channel, as a share of 255.
PIXEL_MEAN = (0.4914, 0.4822, 0.4465)
ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"  # where Keras looks
ARCHIVE_BYTES = 170_498_071
SILENCE = 30  # seconds without a byte after which a download is given up
THREE_WAYS = (
    "Three ways to get pictures: DATA = 'cifar10' downloads 163 MB once; DATA, or the environment "
    "variable CIFAR10_NPZ, names an .npz with x_train, y_train, x_test, y_test; "
    "DATA = 'synthetic' needs neither."
)
# SHA-256 of CIFAR-10's test pictures, class after class, each class in official order.
CIFAR10_TEST = "b726c0776fa6529b7083cf65b3fcea9ab2e4609ac1d7632ba4fb80851c88aa62"
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")  # Pillow reads more, EPS by running it


@dataclass(frozen=True)
class Dataset:
    """Pictures uint8 (N, 32, 32, 3) RGB and labels int64 (N,), in three parts.

    Every part is sorted by class and, inside a class, keeps the official order: the same pictures
    stand at the same places whichever copy of the data was loaded.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple
    source: str  # for titles and run.json: "CIFAR-10" if the test pixels are, else what was loaded
    test_boxes: np.ndarray | None = None  # int64 (N, 4): x, y, w, h in pixels; synthetic only

    def without_hold_out(self) -> "Dataset":
        """As the assignment used it: all training pictures train, the test pictures validate."""
        x = np.concatenate([self.x_train, self.x_val])
        y = np.concatenate([self.y_train, self.y_val])
        order = np.argsort(y, kind="stable")
        tests = {"x_val": self.x_test, "y_val": self.y_test}
        return replace(self, x_train=x[order], y_train=y[order], **tests)

    @property
    def synthetic(self) -> bool:
        return self.test_boxes is not None

    def test_name(self, index: int) -> str:
        """Name by class and order: cifar10_test_cat_0007.png is the eighth cat."""
        kind, label = "synthetic" if self.synthetic else "cifar10", self.y_test[index]
        order = index - np.searchsorted(self.y_test, label)
        return f"{kind}_test_{self.class_names[label]}_{order:04d}.png"

    @cached_property
    def _indices(self):
        return {self.test_name(index): index for index in range(len(self.y_test))}

    def test_index(self, name: str) -> int:
        """Place of a named test picture; the inverse of `test_name`. ValueError for another."""
        if name not in self._indices:
            raise ValueError(
                f"'{name}' names no test picture of {self.source}. Names look like "
                f"'{self.test_name(0)}', with one of the classes {', '.join(self.class_names)}."
            )
        return self._indices[name]


def load(source: str = "cifar10") -> Dataset:
    """Load pictures from "cifar10", the path of an .npz, or "synthetic".

    "cifar10" reads the file named by CIFAR10_NPZ if that is set, else downloads through Keras.

    Raises:
        ValueError: unknown source, or an .npz of the wrong form.
        FileNotFoundError: an .npz that is not there.
        ConnectionError: the download failed.
    """
    if source == "synthetic":
        return synthetic()
    if source == "cifar10":
        source = os.environ.get("CIFAR10_NPZ") or source
    if source == "cifar10":
        return _arrange(*_download(), source="Keras download")
    if not str(source).endswith(".npz"):
        raise ValueError(f"DATA = '{source}' is unknown. {THREE_WAYS}")
    return _arrange(*_read_npz(Path(source).expanduser()), source=Path(source).name)


def load_picture(path) -> np.ndarray:
    """Read a picture file, cut its middle square and shrink it: uint8 (32, 32, 3), RGB.

    Turned as the camera was held; transparency is dropped, and of 16 bits per color the upper 8 are
    kept.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is none of FORMATS, is gray with more than 8 bits per pixel or, as a
            decompression bomb does, has more than 179 million pixels.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}. Check the path, or upload the picture first."
        )
    try:
        with Image.open(path, formats=FORMATS) as image:  # reads the header, refuses bombs
            if image.mode.startswith(("I", "F")):  # conversion would cut off all above 255
                raise ValueError("more than 8 bits per pixel")
            image = ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # every format has its own
        raise ValueError(
            f"{path.name} cannot be decoded as a picture ({error}). Save it as PNG or JPEG, "
            "with 8 bits per color and no larger than a camera makes it."
        ) from error
    return np.asarray(ImageOps.fit(image, (32, 32), Image.Resampling.BOX))


def split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the validation pictures, each sorted by class.

    The last tenth of every class validates (the last 500 of CIFAR-10's 5,000), the rest trains.
    Only the order inside a class matters, so a class-sorted copy of the data gives the same split.
    """
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    cuts = [len(of_class) - len(of_class) // 10 for of_class in classes]
    train = [of_class[:cut] for of_class, cut in zip(classes, cuts)]
    val = [of_class[cut:] for of_class, cut in zip(classes, cuts)]
    return np.concatenate(train), np.concatenate(val)


def _arrange(x_train, y_train, x_test, y_test, source, class_names=CLASS_NAMES, boxes=None):
    y_train, y_test = (y.reshape(-1).astype(np.int64) for y in (y_train, y_test))
    train, val = split(y_train)
    test = np.argsort(y_test, kind="stable")
    if hashlib.sha256(x_test[test].tobytes()).hexdigest() == CIFAR10_TEST:
        source = "CIFAR-10"
    return Dataset(
        x_train[train], y_train[train], x_train[val], y_train[val], x_test[test], y_test[test],
        class_names, source, None if boxes is None else boxes[test],
    )  # fmt: skip


def on_disk() -> bool:
    """Whether `load("cifar10")` needs no network: CIFAR10_NPZ is set, or Keras has the archive."""
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    archive = home / "datasets/cifar-10-batches-py-target_archive"
    whole = archive.is_file() and archive.stat().st_size == ARCHIVE_BYTES
    return whole or bool(os.environ.get("CIFAR10_NPZ"))


def host_answers(seconds: float = 5) -> bool:
    """Whether the host of CIFAR-10, or the proxy before it, offers the archive."""
    request = urllib.request.Request(ADDRESS, method="HEAD")
    try:  # as Keras will, through the same proxy; a page of the proxy's may come instead
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.headers["Content-Length"] == str(ARCHIVE_BYTES)
    except (OSError, ValueError, HTTPException):
        return False


def _download():
    """By Keras, which checks the archive and removes a broken one."""
    import keras

    waiting = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)  # Keras would wait forever
    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
    except Exception as error:  # urllib, ssl, hash and archive errors: all mean "no data"
        raise ConnectionError(
            f"CIFAR-10 could not be downloaded ({error}). Run this again, with 360 MB free in "
            "~/.keras or in another KERAS_HOME; or let CIFAR10_NPZ name an .npz of it; or set "
            "DATA = 'synthetic', which needs no network."
        ) from error
    finally:
        socket.setdefaulttimeout(waiting)
    return x_train, y_train, x_test, y_test


def _read_npz(path: Path):
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. {THREE_WAYS}")
    arrays = []
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not a zip file")
        with np.load(path, allow_pickle=False) as archive:
            for part in ("train", "test"):
                if missing := [key for key in (f"x_{part}", f"y_{part}") if key not in archive]:
                    raise ValueError(f"has no {', '.join(missing)}")
                x, y = (np.asarray(archive[f"{kind}_{part}"]) for kind in "xy")
                if x.dtype != np.uint8 or x.ndim != 4 or x.shape[1:] != (32, 32, 3):
                    raise ValueError(f"x_{part} is {x.dtype} {x.shape}, not uint8 (N, 32, 32, 3)")
                if y.shape not in ((len(x),), (len(x), 1)) or y.dtype.kind not in "iu":
                    raise ValueError(f"y_{part} is {y.dtype} {y.shape}, not integer ({len(x)},)")
                labels, counts = np.unique(y, return_counts=True)
                if labels.tolist() != list(range(10)) or counts.min() < 10:
                    raise ValueError(
                        f"y_{part} does not hold the ten labels 0 to 9, ten times each"
                    )
                arrays += [x, y]
    except Exception as error:  # zip, zlib and NumPy each have their own
        raise ValueError(f"{path.name} is no CIFAR-10 .npz: {error}. {THREE_WAYS}") from error
    return arrays


# --- The synthetic stand-in ----------------------------------------------------------------------

SHAPE_NAMES = tuple("disc ring square triangle cross star crescent bars arrow hourglass".split())
_FINE = 4  # shapes are drawn four times larger, then averaged down: smooth edges


def _circle(radius=1.0, center=(0.0, 0.0)):
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + center


def _outlines() -> dict[str, list]:
    """Outlines in [-1, 1]^2, y down; overlapping outlines cut holes (even-odd rule)."""
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)[:, None]
    a = 0.33
    cross = [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a),
             (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)]  # fmt: skip
    return {
        "disc": [_circle(0.95)],
        "ring": [_circle(), _circle(0.55)],
        "square": [[(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]],
        "triangle": [[(0, -1), (1, 0.85), (-1, 0.85)]],
        "cross": [cross],
        "star": [np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii],
        "crescent": [_circle(), _circle(0.72, (0.27, 0))],
        "bars": [
            [(-0.9, y), (0.9, y), (0.9, y + 0.38), (-0.9, y + 0.38)] for y in (-0.95, -0.19, 0.57)
        ],
        "arrow": [[(-1, -0.3), (0, -0.3), (0, -0.9), (1, 0), (0, 0.9), (0, 0.3), (-1, 0.3)]],
        "hourglass": [[(-0.85, -1), (0.85, -1), (-0.85, 1), (0.85, 1)]],
    }


_OUTLINES = _outlines()


def draw_scene(label: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One shape on a cluttered background.

    Returns the picture, uint8 (32, 32, 3), and the share of every pixel that the shape covers,
    float32 (32, 32); its box is the tightest around the pixels where that is above zero.
    """
    coarse = rng.uniform(40, 215, (4, 4, 1)) + rng.normal(0, 20, (4, 4, 3))
    scene = cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(1, 4)):  # clutter: short strokes
        start, end = rng.integers(0, 32, 2), rng.integers(0, 32, 2)
        end = start + np.clip(end - start, -8, 8)
        color = rng.uniform(0, 255, 3).tolist()
        cv2.line(scene, start.tolist(), end.tolist(), color, int(rng.integers(1, 3)))

    radius, turn = rng.uniform(9, 12.5), rng.uniform(-0.2, 0.2)
    center = rng.uniform(radius, 32 - radius, 2)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    outlines = [
        np.round(_FINE * (radius * np.asarray(outline) @ rotation + center)).astype(np.int32)
        for outline in _OUTLINES[SHAPE_NAMES[label]]
    ]
    fine = np.zeros((32 * _FINE, 32 * _FINE), np.float32)
    cv2.fillPoly(fine, outlines, 1.0)
    coverage = fine.reshape(32, _FINE, 32, _FINE).mean(axis=(1, 3))

    # A color on the far side of the background's keeps the shape visible.
    behind = np.average(scene.reshape(-1, 3), axis=0, weights=coverage.reshape(-1))
    color = np.where(behind < 128, rng.uniform(170, 255, 3), rng.uniform(0, 85, 3))
    scene = scene + coverage[..., None] * (color - scene) + rng.normal(0, 5, scene.shape)
    return np.clip(scene, 0, 255).astype(np.uint8), coverage


def bounding_box(coverage: np.ndarray) -> tuple[int, int, int, int]:
    """Tightest box x, y, w, h (pixels) around the positive entries of an (H, W) array."""
    ys, xs = np.nonzero(coverage > 0)
    return xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1


def synthetic(train: int = 2400, test: int = 500, seed: int = 0) -> Dataset:
    """Drawn scenes of ten shapes, `train` (a tenth of them validates) and `test` pictures.

    At least 100 and 10, for every class to be there.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for count in (train, test):
        labels = np.arange(count) % 10
        drawn = [draw_scene(label, rng) for label in labels]
        pictures = np.stack([scene for scene, _ in drawn])
        boxes = np.array([bounding_box(coverage) for _, coverage in drawn])
        parts.append((pictures, labels, boxes))
    (x_train, y_train, _), (x_test, y_test, boxes) = parts
    return _arrange(x_train, y_train, x_test, y_test, "synthetic stand-in", SHAPE_NAMES, boxes)
