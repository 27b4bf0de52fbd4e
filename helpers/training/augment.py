"""Augmentation as arithmetic on a batch: it compiles into the training step, on any device."""

import keras
import numpy as np
from keras import ops

from helpers.training.data import PIXEL_MEAN


def resampling(shift, mirror, size: int):
    """Matrices that shift and mirror one axis with linear interpolation, repeating the edge.

    From (N,) pixels (output i shows input i + shift) and bool (N,) to float32 (N, size, size).
    """
    pixel = ops.arange(size, dtype="float32")
    source = ops.where(mirror[:, None], size - 1 - pixel, pixel) + shift[:, None]
    source = ops.clip(source, 0, size - 1)
    return ops.relu(1 - ops.abs(source[:, :, None] - pixel))


def rectangles(uniform, height: int, width: int):
    """Random rectangles of Zhong et al., "Random Erasing Data Augmentation" (2017).

    2% to 40% of the area, 0.3 to 1 / 0.3 times as high as wide. The paper draws until one fits;
    here the first of K that fits is taken, none if none does (K = 20: one picture in 2,000).

    From (N, K, 4) in [0, 1), for area, aspect ratio, left and top of K candidates, to bool
    (N, height) and (N, width): the rows and the columns of the rectangle.
    """
    target = (0.02 + (0.4 - 0.02) * uniform[..., 0]) * height * width
    ratio = 0.3 + (1 / 0.3 - 0.3) * uniform[..., 1]
    w, h = (ops.floor(ops.sqrt(area)) for area in (target / ratio, target * ratio))
    left, top = ops.floor(uniform[..., 2] * width), ops.floor(uniform[..., 3] * height)
    fits = ops.cast((left + w <= width) & (top + h <= height), "int32")
    first = ops.one_hot(ops.argmax(fits, axis=1), uniform.shape[1]) * ops.cast(fits, "float32")
    left, top, w, h = (ops.sum(first * side, axis=1)[:, None] for side in (left, top, w, h))
    x, y = ops.arange(width, dtype="float32"), ops.arange(height, dtype="float32")
    return (y >= top) & (y < top + h), (x >= left) & (x < left + w)


class Augment(keras.layers.Layer):
    """Flip, shift and random erasing, drawn anew for every picture, in training only.

    Takes raw pixels (N, H, W, 3), returns float32 of the same shape; arguments as in a Recipe.
    Erased pixels become 255 * (mean + [0, 1)): the assignment erased after mean subtraction.
    """

    def __init__(self, flip=True, shift=0.1, erase=0.5, whole_pixels=False):
        super().__init__(dtype="float32")  # also within a network of 16-bit layers
        self.flip, self.shift, self.erase, self.whole_pixels = flip, shift, erase, whole_pixels
        self.seeds = keras.random.SeedGenerator(0, name="draws")

    def restart(self, seed: int, epoch: int) -> None:
        """Make what follows a function of (seed, epoch) alone."""
        self.seeds.state.assign(np.array([seed, epoch * 2**20], np.uint32))

    def call(self, images, training=False):
        images = ops.cast(images, "float32")
        if not training:
            return images
        count, height, width, channels = ops.shape(images)

        def uniform(*shape, low=0.0, high=1.0):
            return keras.random.uniform((count, *shape), low, high, seed=self.seeds)

        def distance(size):
            if not self.whole_pixels:
                return uniform(low=-self.shift, high=self.shift) * size
            largest = round(self.shift * size)
            return ops.floor(uniform(low=-largest, high=largest + 1))

        mirror = uniform() < (0.5 if self.flip else 0.0)
        columns = resampling(distance(width), mirror, width)
        rows = resampling(distance(height), ops.zeros_like(mirror), height)
        images = ops.einsum("nyv,nxu,nvuc->nyxc", rows, columns, images)
        if not self.erase:
            return images

        rows, columns = rectangles(uniform(20, 4), height, width)
        rows = rows & (uniform(1) < self.erase)
        # Rows of numbers, not of pixels: an axis of three, the channels, is slow on a CPU.
        numbers = width * channels
        inside = rows[:, :, None] & ops.repeat(columns, channels, axis=1)[:, None, :]
        noise = uniform(height, numbers, high=255.0) + 255 * np.tile(np.float32(PIXEL_MEAN), width)
        erased = ops.where(inside, noise, ops.reshape(images, (count, height, numbers)))
        return ops.reshape(erased, (count, height, width, channels))
