import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import trust

BOXES = np.array([(5, 3, 6, 18), (0, 0, 32, 32), (31, 31, 1, 1), (10, 12, 16, 8)])
MASKS = trust.box_masks(BOXES)
SCORES = pytest.mark.parametrize("score", trust.SCORES.values())


def one_hot(*places):
    maps = np.zeros((len(places), 32, 32), np.float32)
    maps[np.arange(len(places)), [y for _, y in places], [x for x, _ in places]] = 3
    return maps


def random_map(seed, count=1):
    """Whole numbers, so that sums, products and halves are exact."""
    return np.random.default_rng(seed).integers(1, 1000, (count, 8, 8)).astype(float)


def random_mask(seed, count=1):
    masks = np.random.default_rng(seed).random((count, 8, 8)) < 0.4
    masks[:, 3, 2] = True
    return masks


# --- Boxes ---------------------------------------------------------------------------------------


def test_a_box_covers_its_pixels():
    assert MASKS.dtype == bool and MASKS[0, 3:21, 5:11].all() and MASKS[0].sum() == 6 * 18
    assert MASKS.sum(axis=(1, 2)).tolist() == (BOXES[:, 2] * BOXES[:, 3]).tolist()
    assert trust.box_masks([(3, 1, 2, 4)], (5, 9)).sum(axis=1).tolist() == [
        [0] * 3 + [4] * 2 + [0] * 4
    ]


def test_box_masks_are_those_of_the_annotations():
    from helpers import annotations
    from tests.records import rect

    pictures = [annotations.Picture("a.png", [rect(*map(int, box))]) for box in BOXES]
    assert np.array_equal(MASKS, annotations.masks(pictures, (32, 32)))


@pytest.mark.parametrize(
    "box", [(0, 0, 33, 1), (-1, 0, 3, 3), (5, 5, 0, 3), (5, 5, 3, -1), (math.nan, 0, 2, 2)]
)
def test_a_box_outside_or_empty_is_refused(box):
    with pytest.raises(ValueError, match=r"Box 1, .* is empty or reaches outside .*\(32 x 32\)"):
        trust.box_masks([BOXES[0], box])


# --- Scores --------------------------------------------------------------------------------------


def test_a_peak_inside_and_a_peak_outside():
    masks = MASKS[[0, 0, 0, 0]]
    maps = one_hot((5, 3), (10, 20), (4, 3), (11, 20))  # two inside, two a pixel beside
    assert trust.pointing(maps, masks).tolist() == [1, 1, 0, 0]
    assert trust.energy(maps, masks).tolist() == [1, 1, 0, 0]
    assert trust.half_maximum_iou(maps, masks).tolist() == [1 / 108, 1 / 108, 0, 0]


@SCORES
def test_a_uniform_map_scores_the_area_exactly(score):
    area = BOXES[:, 2] * BOXES[:, 3] / 32**2
    assert np.array_equal(score(np.full((4, 32, 32), 3), MASKS), area)


@SCORES
def test_an_empty_map_scores_zero(score):
    assert score(np.zeros((4, 32, 32)), MASKS).tolist() == [0, 0, 0, 0]


def test_highest_pixels_share_the_point():
    maps = one_hot((5, 3))
    maps[0, 0, :3] = 3  # three more, outside
    assert trust.pointing(maps, MASKS[:1]).tolist() == [0.25]


def test_iou_at_half_maximum_by_hand():
    maps = np.zeros((1, 32, 32))
    maps[0, 3:21, 8:14] = 0.5  # exactly half counts
    maps[0, 3, 5] = 1
    maps[0, 25:, 25:] = 0.49
    # Inside 3 columns of 18 and the peak; together 6 * 18 of the box and 3 columns more.
    assert trust.half_maximum_iou(maps, MASKS[:1]) == pytest.approx(55 / 162)


def test_the_gaussian_baseline_against_the_error_function():
    """The integral over a box, in closed form; pixels sample it to half a percent."""
    maps = trust.gaussian(MASKS.shape)
    assert maps.shape == MASKS.shape and np.array_equal(maps[0], maps[0].T)
    assert maps[0, 15, 23] == pytest.approx(math.exp(-(0.5**2 + 7.5**2) / (2 * 8**2)))

    def mass(low, high):
        return math.erf((high - 16) / 8 / 2**0.5) - math.erf((low - 16) / 8 / 2**0.5)

    whole = mass(0, 32) ** 2
    expected = [mass(x, x + w) * mass(y, y + h) / whole for x, y, w, h in BOXES]
    assert trust.energy(maps, MASKS) == pytest.approx(expected, rel=5e-3)
    assert trust.pointing(maps, MASKS).tolist() == [0, 1, 0, 1]
    # At half its maximum: the pixels within 8 sqrt(2 ln 2) of the middle, or nearly so.
    away = np.hypot(*(np.mgrid[:32, :32] - 15.5))
    disc = away**2 <= 2 * 64 * math.log(2) + 0.5
    expected = [(disc & mask).sum() / (disc | mask).sum() for mask in MASKS]
    assert trust.half_maximum_iou(maps, MASKS) == pytest.approx(expected)


@SCORES
@given(seed=st.integers(0, 10**6), factor=st.floats(1e-30, 1e30))
@settings(max_examples=50, deadline=None)
def test_the_scale_of_a_map_changes_nothing(score, seed, factor):
    maps, masks = random_map(seed, 3), random_mask(seed, 3)
    two = 2.0 ** round(math.log2(factor))  # a power of two: no rounding at the half maximum
    assert np.allclose(score(maps * two, masks), score(maps, masks), rtol=1e-12)


@SCORES
@given(seed=st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_map_and_box_turned_together_change_nothing(score, seed):
    maps, masks = random_map(seed, 3), random_mask(seed, 3)
    expected = score(maps, masks)
    for turn in (lambda a: a[:, ::-1], lambda a: a[:, :, ::-1], lambda a: a.swapaxes(1, 2)):
        assert np.allclose(score(turn(maps), turn(masks)), expected, rtol=1e-12)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_inside_and_outside_make_one(seed):
    maps, masks = random_map(seed, 3), random_mask(seed, 3)
    masks[:, 0, 0] = False  # something is outside
    for score in (trust.energy, trust.pointing):
        assert np.allclose(score(maps, masks) + score(maps, ~masks), 1, rtol=1e-12)
    assert np.all(
        (0 <= trust.half_maximum_iou(maps, masks)) & (trust.half_maximum_iou(maps, masks) <= 1)
    )


@SCORES
def test_bad_maps_and_masks_are_refused(score):
    maps, nan = np.ones(MASKS.shape), np.ones(MASKS.shape)
    nan[2, 0, 0] = np.nan
    for wrong, masks, message in [
        (np.ones((4, 8, 8)), MASKS, r"maps \(4, 8, 8\) and masks \(4, 32, 32\).*upsample"),
        (maps[:0], MASKS[:0], "N at least 1"),
        (maps[0], MASKS[0], "of one shape"),
        (nan, MASKS, "Map 2 holds NaN.*weights"),
        (-maps, MASKS, "Map 0 holds NaN, infinity or a negative value.*maximum"),
        (maps, MASKS & False, "true pixel in every picture"),
        (maps, MASKS.astype(int), "masks must be bool"),
    ]:
        with pytest.raises(ValueError, match=message):
            score(wrong, masks)


def test_maps_have_names():
    for maps, masks in ((np.ones(MASKS.shape), MASKS), ({"one": np.ones((32, 32))}, MASKS[0])):
        with pytest.raises(ValueError, match=r"maps must be \{name: \(N, H, W\)\}"):
            trust.compare(maps, masks)


# --- Bootstrap and table -------------------------------------------------------------------------


def test_the_interval_covers_the_truth():
    """Of 300 samples of 50 some 95% must give an interval around the true mean."""
    rng = np.random.default_rng(0)
    found = [trust.bootstrap(rng.normal(2, 1, 50), seed, times=1000) for seed in range(300)]
    assert 0.91 < np.mean([each.low <= 2 <= each.high for each in found]) < 0.98
    assert np.mean([each.high - each.low for each in found]) == pytest.approx(
        4 * 0.98 / 50**0.5, rel=0.05
    )


def test_the_interval_is_seeded_and_the_mean_exact():
    values = np.arange(100.0)
    assert trust.bootstrap(values) == trust.bootstrap(values)
    assert trust.bootstrap(values) != trust.bootstrap(values, seed=1)
    assert trust.bootstrap(values).mean == 49.5
    assert str(trust.bootstrap([0.25])) == "0.250 [0.250, 0.250]"


@pytest.mark.parametrize("values", [[], [[1.0]], [1.0, math.nan]])
def test_values_without_a_mean_are_refused(values):
    with pytest.raises(ValueError, match="one finite number per picture"):
        trust.bootstrap(values)


def test_the_table_has_scores_baselines_and_empty_maps():
    inside = MASKS.astype(float)
    part = inside.copy()
    part[0] = 0
    rows = trust.compare({"perfect": inside, "one empty": part}, MASKS)
    assert [row.name for row in rows] == ["perfect", "one empty", "uniform", "Gaussian"] * 3
    assert [row.value.mean for row in rows[::4]] == [1, 1, 1]
    assert [row.value.mean for row in rows[1::4]] == [0.75] * 3
    assert [row.empty for row in rows] == [0, 1, 0, 0] * 3
    for row, other in zip(rows[::4], rows[2::4]):
        assert row.over["uniform"].mean == pytest.approx(1 - other.value.mean)
        assert other.over == {}
    lines = trust.table(rows).splitlines()
    assert len(lines) == 1 + 3 * 5 and "one empty (1 empty)" in lines[3]
    assert max(map(len, lines)) <= 100


def test_differences_are_paired():
    """Maps that are always the baseline's better by a tenth leave no doubt, scores vary or not."""
    values = np.random.default_rng(0).random(100)
    assert trust.bootstrap(values + 0.1 - values).low == pytest.approx(0.1)


# --- Deletion and insertion ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy():
    """White pictures, and a network whose probability is the brightness of the left half."""

    def predict(images):
        calls.append(len(images))
        left = images[:, :, :4].mean(axis=(1, 2, 3)) / 255
        return np.stack([left, 1 - left], axis=1)

    calls = []
    images = np.full((3, 8, 8, 3), 255, np.uint8)
    maps = np.zeros((3, 4, 4))
    maps[0, :, :2] = np.arange(1, 9).reshape(4, 2)  # finds the left half
    maps[1, :, 2:] = 1  # finds the right half
    return predict, images, maps, calls  # the third is empty


def test_curves_of_a_network_that_sees_one_half(toy):
    predict, images, maps, calls = toy
    curves = trust.faithfulness(predict, images, maps, np.zeros(3, int), baseline=0, batch_size=7)
    falling, rising = np.linspace(1, 0, 9), np.linspace(0, 1, 9)
    assert np.allclose(curves.deletion[0], [*falling, *[0] * 8])
    assert np.allclose(curves.insertion[0], [*rising, *[1] * 8])
    assert np.allclose(curves.deletion[1], [*[1] * 8, *falling])
    assert np.allclose(curves.insertion[1], [*[0] * 8, *rising])
    assert trust.area(curves.deletion) == pytest.approx(
        [0.25, 0.75, trust.area(curves.deletion)[2]]
    )
    assert trust.area(curves.insertion)[:2] == pytest.approx([0.75, 0.25])
    for curve in vars(curves).values():
        assert curve.shape == (3, 17) and np.all(np.diff(curve) <= 0) | np.all(np.diff(curve) >= 0)
    assert max(calls) == 7 and sum(calls) == 5 * 17 * 3


def test_random_orders_are_fair_and_seeded(toy):
    predict, images, maps, _ = toy

    def run(**options):
        return trust.faithfulness(predict, images, maps, np.zeros(3, int), baseline=0, **options)

    curves = run(orders=200)
    assert np.allclose(curves.random_deletion, np.linspace(1, 0, 17), atol=0.05)
    assert np.array_equal(curves.random_insertion, curves.random_deletion[:, ::-1])
    for name, curve in vars(run(seed=1)).items():
        assert np.array_equal(curve, vars(run(seed=1))[name])
    assert not np.array_equal(run(seed=1).random_deletion, run(seed=2).random_deletion)


def test_the_other_class_and_other_baselines(toy):
    predict, images, maps, _ = toy
    curves = trust.faithfulness(predict, images, maps, np.ones(3, int), baseline=(0, 0, 0))
    assert np.allclose(curves.deletion[0], [*np.linspace(0, 1, 9), *[1] * 8])
    same = trust.faithfulness(predict, images, maps, np.zeros(3, int), baseline=images)
    assert np.allclose(same.deletion, 1) and np.allclose(same.random_insertion, 1)


def test_bad_curves_are_refused(toy):
    predict, images, maps, _ = toy
    zeros = np.zeros(3, int)
    for message, arguments in {
        "h and w divide H and W": (predict, images, np.ones((3, 3, 3)), zeros),
        "N, orders above 0": (predict, images[:0], maps[:0], zeros[:0]),
        r"classes int64 \(2,\)": (predict, images, maps, zeros[:2]),
        "Map 0 holds NaN": (predict, images, maps - 1, zeros),
        "classes 2 to 2": (predict, images, maps, zeros + 2),
        r"gave \(51,\) for 51 pictures": (lambda x: x[:, 0, 0, 0], images, maps, zeros),
        "predict gave NaN": (lambda x: x[:, 0, 0] * np.nan, images, maps, zeros),
    }.items():
        with pytest.raises(ValueError, match=message):
            trust.faithfulness(*arguments)


def test_mosaics_hold_the_picture_once_among_others():
    images = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)
    masks, classes = np.zeros((8, 4, 6), bool), np.arange(8) // 2
    masks[:, 1, 2:5] = True
    joined, inside = trust.mosaics(images, masks, classes)
    assert joined.shape == (8, 8, 12, 3) and joined.dtype == np.uint8
    for n in range(8):
        ys, xs = np.nonzero(inside[n])
        assert len(ys) == 3 and set(ys % 4) == {1} and set(xs % 6) == {2, 3, 4}
        quarters = joined[n, ::4, ::6, 0].ravel().tolist()
        assert np.all(joined[n, ys, xs] == n) and quarters.count(n) == 1
        assert [classes[q] for q in quarters].count(classes[n]) == 1
    assert len({np.flatnonzero(mask)[0] for mask in inside}) > 1  # not always the same quarter
    with pytest.raises(ValueError, match="two classes at least"):
        trust.mosaics(images, masks, np.zeros(8, int))
