"""CIFAR-10 (Krizhevsky, 2009), a reader's own .npz, or drawn scenes with exact boxes."""

import hashlib
import os
import zipfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from urllib.request import Request, urlopen

import cv2
import numpy as np
from PIL import Image, ImageOps

CLASS_NAMES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
SYNTHETIC = "synthetic stand-in"
PIXEL_MEAN = (0.4914, 0.4822, 0.4465)  # of CIFAR-10's training pictures, as a share of 255
ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"  # where Keras looks
ARCHIVE_BYTES = 170_498_071
THREE_WAYS = (
    "Three ways to get pictures: DATA = 'cifar10' downloads 163 MB once; DATA, or CIFAR10_NPZ in "
    "the environment, names an .npz with x_train, y_train, x_test, y_test; or DATA = 'synthetic'."
)
# SHA-256 of CIFAR-10's test pictures, class after class, each class in official order.
CIFAR10_TEST = "b726c0776fa6529b7083cf65b3fcea9ab2e4609ac1d7632ba4fb80851c88aa62"


@dataclass(frozen=True)
class Dataset:
    """Pictures uint8 (N, 32, 32, 3) RGB and labels int64 (N,), by class, then official order."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple
    source: str  # for titles and run.json: "CIFAR-10" if the test pixels are, else what was loaded
    test_boxes: np.ndarray | None = None  # (N, 4): x, y, w, h in pixels, NaN where there is none

    def without_hold_out(self) -> "Dataset":
        """As the assignment used it: all training pictures train, the test pictures validate."""
        y = np.concatenate([self.y_train, self.y_val])
        order = np.argsort(y, kind="stable")
        x = np.concatenate([self.x_train, self.x_val])[order]
        return replace(self, x_train=x, y_train=y[order], x_val=self.x_test, y_val=self.y_test)

    @property
    def synthetic(self) -> bool:
        return self.source == SYNTHETIC

    def test_name(self, index: int) -> str:
        """Name by class and order: cifar10_test_cat_0007.png is the eighth cat."""
        known = "cifar10" if self.class_names == CLASS_NAMES else "own"
        kind, label = "synthetic" if self.synthetic else known, self.y_test[index]
        order = index - np.searchsorted(self.y_test, label)
        return f"{kind}_test_{self.class_names[label]}_{order:04d}.png"

    @cached_property
    def test_names(self) -> list[str]:
        return list(map(self.test_name, range(len(self.y_test))))

    def test_index(self, name: str) -> int:
        """Place of a named test picture; the inverse of `test_name`. ValueError for another."""
        if name not in self.test_names:
            usual = f"Names look like '{self.test_name(0)}', with another class or number."
            raise ValueError(f"'{name}' names no test picture of {self.source}. {usual}")
        return self.test_names.index(name)


def load(source: str = "cifar10") -> Dataset:
    """Load "cifar10" (the file CIFAR10_NPZ names, else by Keras), an .npz by path, or "synthetic".

    Raises ValueError, FileNotFoundError, and ConnectionError where the download fails.
    """
    if source == "synthetic":
        return synthetic()
    if source == "cifar10" and not (source := os.environ.get("CIFAR10_NPZ")):
        return _arrange(*_download(), source="Keras download")
    if not str(source).endswith(".npz"):
        raise ValueError(f"DATA = '{source}' is unknown. {THREE_WAYS}")
    return _arrange(**_read_npz(Path(source).expanduser()), source=Path(source).name)


def load_picture(path) -> np.ndarray:
    """The middle square of a picture, shrunk: uint8 (32, 32, 3), RGB.

    Raises FileNotFoundError, and ValueError for another format or over 179 million pixels.
    """
    return np.asarray(ImageOps.fit(open_picture(path), (32, 32), Image.Resampling.BOX))


def open_picture(path) -> Image.Image:
    """A picture file, turned as the camera says, in RGB; errors as of `load_picture`."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Check the path, or upload the picture.")
    try:
        with Image.open(path, formats="PNG JPEG GIF WEBP BMP TIFF".split()) as image:  # EPS is code
            if image.mode[0] in "IF":  # conversion would cut off all above 255
                raise ValueError("more than 8 bits per pixel")
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # every format has its own
        what = f"{path.name} cannot be decoded as a picture ({error})."
        raise ValueError(f"{what} Save it as PNG or JPEG, no larger than a camera's.") from error


def split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and validation pictures: a class's last tenth, or one, validates."""
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    halves = [np.split(of_class, [-max(len(of_class) // 10, 1)]) for of_class in classes]
    return tuple(np.concatenate(half) for half in zip(*halves))


def _arrange(x_train, y_train, x_test, y_test, source, class_names=CLASS_NAMES, test_boxes=None):
    y_train, y_test = (y.reshape(-1).astype(np.int64) for y in (y_train, y_test))
    train, val = split(y_train)
    test = np.argsort(y_test, kind="stable")
    parts = x_train[train], y_train[train], x_train[val], y_train[val], x_test[test], y_test[test]
    known = hashlib.sha256(x_test[test].tobytes()).hexdigest() == CIFAR10_TEST
    boxes = None if test_boxes is None else test_boxes[test]
    return Dataset(*parts, class_names, "CIFAR-10" if known else source, boxes)


def on_disk() -> bool:
    """Whether `load("cifar10")` needs no network."""
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    archive = home / "datasets/cifar-10-batches-py-target_archive"
    whole = archive.is_file() and archive.stat().st_size == ARCHIVE_BYTES
    return whole or bool(os.environ.get("CIFAR10_NPZ"))


def host_answers(seconds: float = 5) -> bool:
    """Whether the host of CIFAR-10 offers the archive; a proxy may send a page instead."""
    try:
        with urlopen(Request(ADDRESS, method="HEAD"), timeout=seconds) as answer:
            return answer.headers["Content-Length"] == str(ARCHIVE_BYTES)
    except Exception:  # of the network, the proxy, the protocol: all mean "no"
        return False


def _download():
    """By Keras, which checks the archive and removes a broken one."""
    import keras

    try:
        return [array for part in keras.datasets.cifar10.load_data() for array in part]
    except Exception as error:  # urllib, ssl, hash and archive errors: all mean "no data"
        what = f"CIFAR-10 could not be downloaded ({error}). Run this again, with 360 MB free in"
        raise ConnectionError(f"{what} ~/.keras, or set DATA = 'synthetic'.") from error


def _read_npz(path: Path):
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. {THREE_WAYS}")
    arrays, kind, names = {}, "is no CIFAR-10 .npz", CLASS_NAMES
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as archive:
            if "class_names" in archive:
                kind = "is no .npz of tools.pictures"
                arrays["class_names"] = names = tuple(map(str, archive["class_names"]))
                if len(set(names)) < max(len(names), 2):
                    raise ValueError(f"class_names are {names}, not two or more names")
            for part in ("train", "test"):
                x, y = archive[f"x_{part}"], archive[f"y_{part}"]
                if x.dtype != np.uint8 or x.shape[1:] != (32, 32, 3):
                    raise ValueError(f"x_{part} is {x.dtype} {x.shape}, not uint8 (N, 32, 32, 3)")
                if y.shape not in ((len(x),), (len(x), 1)) or y.dtype.kind not in "iu":
                    raise ValueError(f"y_{part} is {y.dtype} {y.shape}, not integer ({len(x)},)")
                least = 10 if names == CLASS_NAMES else 2 if part == "train" else 1
                counts = [np.sum(y == label) for label in range(len(names))]
                if sum(counts) < len(y) or min(counts) < least:
                    what = f"{least} or more of each label from 0 to {len(names) - 1}"
                    raise ValueError(f"y_{part} does not hold {what}, and no other")
                arrays |= {f"x_{part}": x, f"y_{part}": y}
            if "test_boxes" in archive:
                arrays["test_boxes"] = archive["test_boxes"].reshape(len(y), 4).astype(float)
    except Exception as error:  # zip, zlib and NumPy each have their own
        raise ValueError(f"{path.name} {kind}: {error}. {THREE_WAYS}") from error
    return arrays


def _polygon(radius=1.0, corners=48, start=0.0, x=0.0):
    angles = start + np.arange(corners) * 2 * np.pi / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + (x, 0)


# Outlines in [-1, 1]^2, y down; overlapping outlines cut holes (even-odd rule).
_OUTLINES = {
    "disc": [_polygon(0.95)],
    "ring": [_polygon(), _polygon(0.55)],
    "square": [[(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]],
    "triangle": [[(0, -1), (1, 0.85), (-1, 0.85)]],
    "cross": [[(-0.33, -1), (0.33, -1), (0.33, -0.33), (1, -0.33), (1, 0.33), (0.33, 0.33),
               (0.33, 1), (-0.33, 1), (-0.33, 0.33), (-1, 0.33), (-1, -0.33), (-0.33, -0.33)]],
    "star": [_polygon(np.tile([1.0, 0.42], 5)[:, None], 10, -np.pi / 2)],
    "crescent": [_polygon(), _polygon(0.72, x=0.27)],
    "bars": [[(-0.9, y), (0.9, y), (0.9, y + 0.38), (-0.9, y + 0.38)]
             for y in (-0.95, -0.19, 0.57)],
    "arrow": [[(-1, -0.3), (0, -0.3), (0, -0.9), (1, 0), (0, 0.9), (0, 0.3), (-1, 0.3)]],
    "hourglass": [[(-0.85, -1), (0.85, -1), (-0.85, 1), (0.85, 1)]],
}  # fmt: skip
SHAPE_NAMES = tuple(_OUTLINES)


def draw_scene(label: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One shape: the picture, uint8 (32, 32, 3), and its share of each pixel, float32 (32, 32)."""
    coarse = rng.uniform(40, 215, (4, 4, 1)) + rng.normal(0, 20, (4, 4, 3))
    scene = cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(1, 4)):  # clutter: short strokes
        start, end = rng.integers(0, 32, (2, 2))
        end = start + np.clip(end - start, -8, 8)
        color = rng.uniform(0, 255, 3).tolist()
        cv2.line(scene, start.tolist(), end.tolist(), color, int(rng.integers(1, 3)))

    radius, turn = rng.uniform(9, 12.5), rng.uniform(-0.2, 0.2)
    center = rng.uniform(radius, 32 - radius, 2)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    fine = np.zeros((128, 128), np.float32)  # four times larger, then averaged: smooth edges
    shape = [radius * np.asarray(line) @ rotation for line in list(_OUTLINES.values())[label]]
    shape = [np.round(4 * (line + center)).astype(np.int32) for line in shape]
    coverage = cv2.fillPoly(fine, shape, 1.0).reshape(32, 4, 32, 4).mean(axis=(1, 3))

    # A color on the far side of the background's keeps the shape visible.
    behind = np.average(scene.reshape(-1, 3), axis=0, weights=coverage.reshape(-1))
    color = np.where(behind < 128, rng.uniform(170, 255, 3), rng.uniform(0, 85, 3))
    scene = scene + coverage[..., None] * (color - scene) + rng.normal(0, 5, scene.shape)
    return np.clip(scene, 0, 255).astype(np.uint8), coverage


def bounding_box(coverage: np.ndarray) -> tuple[int, int, int, int]:
    """Tightest box x, y, w, h (pixels) around what is positive in an (H, W) array."""
    return cv2.boundingRect((coverage > 0).astype(np.uint8))


def synthetic(train: int = 2400, test: int = 500, seed: int = 0) -> Dataset:
    """Drawn scenes of ten shapes: `train` (at least 100; a tenth validates) and `test` of them."""
    rng = np.random.default_rng(seed)
    labels = np.r_[:train, :test] % 10
    scenes, coverages = map(np.stack, zip(*(draw_scene(label, rng) for label in labels)))
    boxes = np.array([bounding_box(coverage) for coverage in coverages[train:]])
    parts = scenes[:train], labels[:train], scenes[train:], labels[train:]
    return _arrange(*parts, SYNTHETIC, SHAPE_NAMES, boxes)
