import numpy as np
import pytest

from helpers.training.augment import Augment, rectangles, resampling
from helpers.training.data import PIXEL_MEAN


def shifted(x, amount, mirror=False):
    matrix = np.asarray(resampling(np.float32([amount]), np.array([mirror]), x.shape[0])[0])
    return matrix @ x


def test_whole_shifts_are_slices_with_a_repeated_edge():
    x = np.random.default_rng(0).random((8, 3))
    assert np.allclose(shifted(x, 3), x[[3, 4, 5, 6, 7, 7, 7, 7]])
    assert np.allclose(shifted(x, -2), x[[0, 0, 0, 1, 2, 3, 4, 5]])
    assert np.allclose(shifted(x, 0, mirror=True), x[::-1])


def test_fractions_of_a_pixel_interpolate():
    x = np.random.default_rng(0).random((8, 3))
    assert np.allclose(shifted(x, 0.25)[:-1], 0.75 * x[:-1] + 0.25 * x[1:], atol=1e-6)


def test_rectangles_have_the_papers_areas_and_shapes():
    uniform = np.random.default_rng(0).random((2000, 20, 4), dtype=np.float32)
    rows, columns = (np.asarray(each) for each in rectangles(uniform, 32, 32))
    masks = rows[:, :, None] & columns[:, None, :]
    heights, widths = masks.any(axis=2).sum(axis=1), masks.any(axis=1).sum(axis=1)
    areas = masks.sum(axis=(1, 2))
    for sides in (rows, columns):
        assert np.all((np.diff(sides.astype(int), axis=1) == 1).sum(axis=1) <= 1)  # in one piece
    drawn = areas > 0
    assert drawn.mean() > 0.995
    ratios = heights[drawn] / widths[drawn]
    assert 2.8 < ratios.max() < 4.6 and 0.2 < ratios.min() < 0.35  # 0.3 to 3.3, rounded down
    assert 389 < areas.max() <= 409 and 8 <= areas[drawn].min() < 20  # 20 to 409, rounded down


def test_seed_and_epoch_determine_the_draws(pictures):
    layer = Augment()
    assert np.array_equal(layer(pictures, training=False), pictures)

    def draw(seed, epoch):
        layer.restart(seed, epoch)
        return np.asarray(layer(pictures, training=True))

    first = draw(1, 5)
    assert not np.array_equal(first, np.asarray(layer(pictures, training=True)))  # next batch
    assert np.array_equal(first, draw(1, 5))
    assert not np.array_equal(first, draw(1, 6))
    assert not np.array_equal(first, draw(2, 5))


def test_half_of_the_pictures_are_mirrored(pictures):
    layer = Augment(flip=True, shift=0.0, erase=0.0)
    batch = np.repeat(pictures[:1], 2000, axis=0)
    out = np.asarray(layer(batch, training=True))
    same = np.all(np.isclose(out, batch, atol=1e-3), axis=(1, 2, 3))
    mirrored = np.all(np.isclose(out, batch[:, :, ::-1], atol=1e-3), axis=(1, 2, 3))
    assert np.all(same ^ mirrored)
    assert mirrored.mean() == pytest.approx(0.5, abs=0.05)


def test_shifts_stay_within_the_range_along_both_axes():
    ramp = np.arange(32, dtype=np.float32)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 0.0), axis=-1)[None]
    layer = Augment(flip=False, shift=0.1, erase=0.0)
    out = np.asarray(layer(np.repeat(picture, 500, axis=0), training=True))
    for channel in (0, 1):
        amounts = out[:, 16, 16, channel] - 16
        assert np.abs(amounts).max() <= 3.2 and np.abs(amounts).max() > 3
        assert amounts.mean() == pytest.approx(0, abs=0.3)


def test_erasing_has_its_probability_and_leaves_the_rest_alone():
    layer = Augment(flip=False, shift=0.0, erase=0.5)
    out = np.asarray(layer(np.full((1000, 32, 32, 3), 7, np.uint8), training=True))
    erased = np.any(~np.isclose(out, 7, atol=1e-3), axis=-1)
    assert erased.any(axis=(1, 2)).mean() == pytest.approx(0.5, abs=0.06)
    above_mean = out[erased] / 255 - PIXEL_MEAN  # as the network sees it
    assert above_mean.min() >= -1e-6 and above_mean.max() <= 1 + 1e-6
    assert np.allclose(above_mean.mean(axis=0), 0.5, atol=0.02)


def test_whole_pixel_shifts_are_slices_and_equally_likely():
    ramp = np.broadcast_to(np.arange(32, dtype=np.float32)[:, None], (4000, 32, 32, 3))
    layer = Augment(flip=False, shift=0.125, erase=0.0, whole_pixels=True)
    layer.restart(0, 0)
    middle = np.asarray(layer(ramp, training=True))[:, 16, 16, 0]
    values, counts = np.unique(middle, return_counts=True)
    assert np.array_equal(values, np.arange(12, 21))
    assert counts.min() > 0.8 * 4000 / 9 and counts.max() < 1.2 * 4000 / 9
