import dataclasses
import inspect
import math

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from helpers.annotation import agreement, via
from helpers.explanation import gradcam, metrics
from helpers.training import data, runs
from helpers.training.recipes import QUICK
from helpers.training.resnet import resnet_v2

BOXES = np.array([(5, 3, 6, 18), (0, 0, 32, 32), (31, 31, 1, 1), (10, 12, 16, 8)])
MASKS = agreement.masks(via.from_boxes("abcd", BOXES), (32, 32))
SCORES = pytest.mark.parametrize("score", metrics.SCORES.values())


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


# --- Scores --------------------------------------------------------------------------------------


def test_a_peak_inside_and_a_peak_outside():
    masks = MASKS[[0, 0, 0, 0]]
    maps = one_hot((5, 3), (10, 20), (4, 3), (11, 20))  # two inside, two a pixel beside
    assert metrics.pointing(maps, masks).tolist() == [1, 1, 0, 0]
    assert metrics.energy(maps, masks).tolist() == [1, 1, 0, 0]
    assert metrics.half_maximum_iou(maps, masks).tolist() == [1 / 108, 1 / 108, 0, 0]


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
    assert metrics.pointing(maps, MASKS[:1]).tolist() == [0.25]


def test_iou_at_half_maximum_by_hand():
    maps = np.zeros((1, 32, 32))
    maps[0, 3:21, 8:14] = 0.5  # exactly half counts
    maps[0, 3, 5] = 1
    maps[0, 25:, 25:] = 0.49
    # Inside 3 columns of 18 and the peak; together 6 * 18 of the box and 3 columns more.
    assert metrics.half_maximum_iou(maps, MASKS[:1]) == pytest.approx(55 / 162)


def test_the_gaussian_baseline_against_the_error_function():
    """The integral over a box, in closed form; pixels sample it to half a percent."""
    maps = metrics.gaussian(MASKS.shape)
    assert maps.shape == MASKS.shape and np.array_equal(maps[0], maps[0].T)
    assert maps[0, 15, 23] == pytest.approx(math.exp(-(0.5**2 + 7.5**2) / (2 * 8**2)))

    def mass(low, high):
        return math.erf((high - 16) / 8 / 2**0.5) - math.erf((low - 16) / 8 / 2**0.5)

    whole = mass(0, 32) ** 2
    expected = [mass(x, x + w) * mass(y, y + h) / whole for x, y, w, h in BOXES]
    assert metrics.energy(maps, MASKS) == pytest.approx(expected, rel=5e-3)
    assert metrics.pointing(maps, MASKS).tolist() == [0, 1, 0, 1]
    # At half its maximum: the pixels within 8 sqrt(2 ln 2) of the middle, or nearly so.
    away = np.hypot(*(np.mgrid[:32, :32] - 15.5))
    disc = away**2 <= 2 * 64 * math.log(2) + 0.5
    expected = [(disc & mask).sum() / (disc | mask).sum() for mask in MASKS]
    assert metrics.half_maximum_iou(maps, MASKS) == pytest.approx(expected)


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
    for score in (metrics.energy, metrics.pointing):
        assert np.allclose(score(maps, masks) + score(maps, ~masks), 1, rtol=1e-12)
    assert np.all(
        (metrics.half_maximum_iou(maps, masks) >= 0) & (metrics.half_maximum_iou(maps, masks) <= 1)
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
            metrics.compare(maps, masks)


# --- Bootstrap and table -------------------------------------------------------------------------


def test_the_interval_covers_the_truth():
    """Of 300 samples of 50 some 95% must give an interval around the true mean."""
    rng = np.random.default_rng(0)
    found = [metrics.bootstrap(rng.normal(2, 1, 50), seed, times=1000) for seed in range(300)]
    assert 0.91 < np.mean([each.low <= 2 <= each.high for each in found]) < 0.98
    assert np.mean([each.high - each.low for each in found]) == pytest.approx(
        4 * 0.98 / 50**0.5, rel=0.05
    )


def test_the_interval_is_seeded_and_the_mean_exact():
    values = np.arange(100.0)
    assert metrics.bootstrap(values) == metrics.bootstrap(values)
    assert metrics.bootstrap(values) != metrics.bootstrap(values, seed=1)
    assert metrics.bootstrap(values).mean == 49.5
    assert str(metrics.bootstrap([0.25, 0.25])) == "0.250 [0.250, 0.250]"


@pytest.mark.parametrize("name", ["rng", "random_state"])  # since SciPy 1.15, and before
def test_the_generator_reaches_any_scipy(monkeypatch, name):
    real, given = metrics.scipy.stats.bootstrap, {}
    real_names = inspect.signature(real).parameters

    def bootstrap(data, statistic, **options):
        given.update(options)
        generator = {"rng" if "rng" in real_names else "random_state": options.pop(name)}
        return real(data, statistic, **options, **generator)

    parameter = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
    bootstrap.__signature__ = inspect.Signature([parameter])
    monkeypatch.setattr(metrics.scipy.stats, "bootstrap", bootstrap)
    metrics.bootstrap([1.0, 2.0])
    assert [key for key in given if key in ("rng", "random_state")] == [name]


def test_an_interval_tells_its_side_of_zero():
    for low, high, word in [(0.1, 0.2, "above"), (-0.2, -0.1, "below"), (-0.1, 0.1, "between")]:
        assert metrics.Interval(0.0, low, high).tell("above", "below", "between") == word


@pytest.mark.parametrize("values", [[], [1.0], [[1.0]], [1.0, math.nan]])
def test_values_without_a_mean_are_refused(values):
    with pytest.raises(ValueError, match="one finite number per picture"):
        metrics.bootstrap(values)


def test_the_table_has_scores_baselines_and_empty_maps():
    inside = MASKS.astype(float)
    part = inside.copy()
    part[0] = 0
    rows = metrics.compare({"perfect": inside, "one empty": part}, MASKS)
    assert [row.name for row in rows] == ["perfect", "one empty", "uniform", "Gaussian"] * 3
    assert [row.value.mean for row in rows[::4]] == [1, 1, 1]
    assert [row.value.mean for row in rows[1::4]] == [0.75] * 3
    assert [row.empty for row in rows] == [0, 1, 0, 0] * 3
    for row, other in zip(rows[::4], rows[2::4]):
        assert row.minus["uniform"].mean == pytest.approx(1 - other.value.mean)
        assert other.minus == {}
    lines = metrics.table(rows).splitlines()
    assert len(lines) == 1 + 3 * 5 and "one empty (1 empty)" in lines[3]
    assert max(map(len, lines)) <= 100
    assert lines[0].split("minus ")[-2:] == ["uniform" + 11 * " ", "Gaussian"]


def test_the_baselines_may_be_others():
    rows = metrics.compare({"perfect": MASKS}, MASKS, {"empty": np.zeros(MASKS.shape)})
    assert [row.name for row in rows] == ["perfect", "empty"] * 3
    assert all(row.minus["empty"].mean == 1 for row in rows[::2])
    assert "minus empty" in metrics.table(rows) and "Gaussian" not in metrics.table(rows)


def test_differences_are_paired():
    """Maps that are always the baseline's better by a tenth leave no doubt, scores vary or not."""
    values = np.random.default_rng(0).random(100)
    assert metrics.bootstrap(values + 0.1 - values).low == pytest.approx(0.1)


# --- Deletion and insertion ----------------------------------------------------------------------


@pytest.fixture
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
    curves = metrics.faithfulness(predict, images, maps, np.zeros(3, int), baseline=0, batch_size=7)
    falling, rising = np.linspace(1, 0, 9), np.linspace(0, 1, 9)
    assert np.allclose(curves.deletion[0], [*falling, *[0] * 8])
    assert np.allclose(curves.insertion[0], [*rising, *[1] * 8])
    assert np.allclose(curves.deletion[1], [*[1] * 8, *falling])
    assert np.allclose(curves.insertion[1], [*[0] * 8, *rising])
    assert metrics.area(curves.deletion) == pytest.approx(
        [0.25, 0.75, metrics.area(curves.deletion)[2]]
    )
    assert metrics.area(curves.insertion)[:2] == pytest.approx([0.75, 0.25])
    for curve in vars(curves).values():
        assert curve.shape == (3, 17) and np.all(np.diff(curve) <= 0) | np.all(np.diff(curve) >= 0)
    assert max(calls) == 7 and sum(calls) == 2 * 17 * 3


def test_equal_cells_come_in_a_fair_and_seeded_order(toy):
    predict, images, maps, _ = toy

    def run(seed):
        order = np.ones_like(maps)
        return metrics.faithfulness(predict, images, order, np.zeros(3, int), baseline=0, seed=seed)

    found = [run(seed) for seed in range(100)]
    falling = np.mean([curves.deletion for curves in found], axis=0)
    assert np.allclose(falling, np.linspace(1, 0, 17), atol=0.1)
    assert np.array_equal(run(1).deletion, found[1].deletion)
    assert not np.array_equal(found[1].deletion, found[2].deletion)


def test_a_gaussian_hides_the_middle_first():
    def predict(images):
        middle = images[:, 2:6, 2:6].mean(axis=(1, 2, 3)) / 255
        return np.stack([middle, 1 - middle], axis=1)

    images = np.full((2, 8, 8, 3), 255, np.uint8)
    order = metrics.gaussian((2, 4, 4))
    curves = metrics.faithfulness(predict, images, order, np.zeros(2, int), baseline=0)
    assert np.allclose(curves.deletion[0], [*np.linspace(1, 0, 5), *[0] * 12])


def test_the_other_class_and_another_baseline(toy):
    predict, images, maps, _ = toy
    curves = metrics.faithfulness(predict, images, maps, np.ones(3, int), baseline=(0, 0, 0))
    assert np.allclose(curves.deletion[0], [*np.linspace(0, 1, 9), *[1] * 8])
    same = metrics.faithfulness(predict, images, maps, np.zeros(3, int), baseline=(255, 255, 255))
    assert np.allclose(same.deletion, 1) and np.allclose(same.insertion, 1)


def test_bad_curves_are_refused(toy):
    predict, images, maps, _ = toy
    zeros = np.zeros(3, int)
    for message, arguments in {
        "h and w divide H and W": (predict, images, np.ones((3, 3, 3)), zeros),
        "N above 0": (predict, images[:0], maps[:0], zeros[:0]),
        r"classes int64 \(2,\)": (predict, images, maps, zeros[:2]),
        "Map 0 holds NaN": (predict, images, maps - 1, zeros),
        "classes 2 to 2": (predict, images, maps, zeros + 2),
        r"gave \(51,\) for 51 pictures": (lambda x: x[:, 0, 0, 0], images, maps, zeros),
        "predict gave NaN": (lambda x: x[:, 0, 0] * np.nan, images, maps, zeros),
    }.items():
        with pytest.raises(ValueError, match=message):
            metrics.faithfulness(*arguments)


# --- Randomised networks -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return resnet_v2(11)


@pytest.fixture(scope="module")
def labels(network, pictures):
    """The predicted classes: their maps are not empty."""
    return network.predict(pictures, verbose=0).argmax(axis=1)


@pytest.fixture(scope="module")
def stages(network, pictures, labels):
    return metrics.cascade(network, pictures, labels)


def test_rank_correlation_against_scipy():
    maps, others = random_map(0, 5), np.maximum(random_map(1, 5) - 300, 0)  # ties at zero
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(maps, others)]
    assert np.allclose(metrics.rank_correlation(maps, others), expected)
    assert np.allclose(metrics.rank_correlation(maps, 2 * maps**3), 1)
    assert np.allclose(metrics.rank_correlation(maps, 1000 - maps), -1)
    assert metrics.rank_correlation(maps, np.zeros_like(maps)).tolist() == [0] * 5
    with pytest.raises(ValueError, match=r"maps \(5, 8, 8\) and \(4, 8, 8\)"):
        metrics.rank_correlation(maps, others[:4])


def test_the_cascade_runs_from_the_logits_down(stages):
    assert [stage.name for stage in stages] == [
        "trained", "logits", "features_norm", "stage3_block1", "stage2_block1", "stage1_block1",
        "stem",
    ]  # fmt: skip
    first, *others = stages
    assert not first.empty and first.correlation.low == pytest.approx(1)
    assert all(stage.maps.shape == (6, 8, 8) for stage in stages)
    assert all(stage.correlation.mean < 0.9 for stage in others if stage.name != "features_norm")


def test_the_cascade_is_cumulative_and_ends_in_a_fresh_network(network, stages, pictures, labels):
    fresh = metrics._fresh(network, 0)
    expected = gradcam.GradCAM(fresh)(pictures, labels)
    assert np.allclose(stages[-1].maps, expected, atol=1e-6)
    halfway = keras.models.clone_model(network)
    halfway.set_weights(network.get_weights())
    halfway.get_layer("logits").set_weights(fresh.get_layer("logits").get_weights())
    expected = gradcam.GradCAM(halfway)(pictures, labels)
    assert np.allclose(stages[1].maps, expected, atol=1e-6)


def test_the_cascade_is_seeded_and_leaves_model_and_random_state_alone(
    network, stages, pictures, labels
):
    before = [weight.copy() for weight in network.get_weights()]
    keras.utils.set_random_seed(7)
    expected = keras.initializers.HeNormal()((3, 3))
    keras.utils.set_random_seed(7)
    again, other = (metrics.cascade(network, pictures, labels, seed=seed) for seed in (0, 1))
    assert np.array_equal(keras.initializers.HeNormal()((3, 3)), expected)
    assert all(map(np.array_equal, network.get_weights(), before))
    for one, two in zip(stages, again):
        assert np.allclose(one.maps, two.maps, atol=1e-6)
    assert not np.allclose(stages[1].maps, other[1].maps)


def test_the_cascade_enters_nested_models(pictures):
    backbone = keras.Sequential([keras.layers.Conv2D(4, 3, name="early"), keras.layers.ReLU()])
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, name="late")]
    model = keras.Sequential([keras.Input((32, 32, 3)), backbone, *head])

    def explain(model):
        return lambda images, _: model.layers[0](images)[..., 0]

    stages = metrics.cascade(model, pictures, np.zeros(6, int), explain)
    assert [stage.name for stage in stages] == ["trained", "late", "early"]
    assert np.array_equal(stages[0].maps, stages[1].maps)
    assert not np.allclose(stages[1].maps, stages[2].maps)


def test_fresh_weights_are_not_the_first_ones_of_the_same_seed(network):
    """Training only moves weights so far: its own start is no random network to a network."""
    keras.utils.set_random_seed(0)
    started, fresh = resnet_v2(11), metrics._fresh(network, 0)
    for layer in started.layers:
        if layer.name.endswith("conv") or layer.name == "logits":
            own, new = (each.get_layer(layer.name).get_weights()[0] for each in (started, fresh))
            assert abs(np.corrcoef(own.ravel(), new.ravel())[0, 1]) < 0.2


def test_floors(network, pictures, labels):
    """By hand, pair by pair; and a map that ignores the network stands at 1."""
    found = metrics.floors(network, pictures, labels, networks=2)
    maps = gradcam.GradCAM(network)(pictures, labels)
    table = spearmanr(maps.reshape(6, -1), axis=1).statistic
    assert found["other pictures"].mean == pytest.approx(table[~np.eye(6, dtype=bool)].mean())
    fixed = np.random.default_rng(0).random((6, 8, 8))
    stuck = metrics.floors(network, pictures, labels, explain=lambda _: lambda *_: fixed)
    assert stuck["unrelated networks"].mean == pytest.approx(1)
    assert -1 < found["unrelated networks"].mean < 1


def test_bad_cascades_are_refused(network, pictures, labels):
    for maps, message in [
        (np.full((6, 8, 8), np.nan), "Map 0 holds NaN"),
        (np.ones((6, 64)), r"The maps are \(6, 64\), not \(N, h, w\)"),
        (np.ones((0, 8, 8)), r"The maps are \(0, 8, 8\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            metrics.cascade(network, pictures, labels, explain=lambda _, maps=maps: lambda *_: maps)
    with pytest.raises(ValueError, match="Two pictures"):
        metrics.floors(network, pictures[:1], labels[:1])


# --- A trained network ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """The network recorded for synthetic pictures, and every third of these."""
    scenes = data.synthetic()
    some = {name: getattr(scenes, name)[::3] for name in ("x_test", "y_test", "test_boxes")}
    (run,) = metrics.runs_to_judge(scenes)
    return run.network(), dataclasses.replace(scenes, **some), run.folder


def test_a_trained_network_beats_both_baselines(trained):
    """In mosaics: alone in its picture every drawn shape covers the middle, as does a Gaussian."""
    network, scenes, _ = trained
    drawn = via.from_boxes(scenes.y_test, scenes.test_boxes)
    alone = agreement.masks(drawn, (32, 32))
    assert metrics.pointing(metrics.gaussian(alone.shape), alone).min() == 1
    maps = gradcam.upsample(gradcam.GradCAM(network)(scenes.x_test, scenes.y_test), (32, 32))
    rows = {row.score: row for row in metrics.compare({"Grad-CAM": maps}, alone)[::3]}
    assert rows["pointing game, 0 px"].minus["uniform"].low > 0
    assert rows["energy in the box"].minus["uniform"].low > 0

    images, members, inside = metrics.mosaics(scenes.x_test, alone, scenes.y_test)
    wide = runs.build(QUICK.as_dict(), input_shape=(64, 64, 3))
    wide.set_weights(network.get_weights())
    guess = {"guess": metrics.guess(inside[0].shape)}
    for asked, masks in zip((scenes.y_test, scenes.y_test[members[:, 1]]), inside):
        maps = gradcam.upsample(gradcam.GradCAM(wide)(images, asked), (64, 64))
        rows = {row.score: row for row in metrics.compare({"Grad-CAM": maps}, masks, guess)[::2]}
        for score in ("pointing game, 0 px", "energy in the box"):
            assert rows[score].minus["guess"].low > 0


def test_mosaics_hold_the_picture_once_among_other_classes():
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)
    masks, classes = np.zeros((10, 4, 6), bool), np.arange(10) // 2
    masks[:, 1, 2:5] = True
    joined, members, inside = metrics.mosaics(images, masks, classes)
    assert joined.shape == (10, 8, 12, 3) and joined.dtype == np.uint8
    assert members[:, 0].tolist() == list(range(10)) and inside.shape == (4, 10, 8, 12)
    for n in range(10):
        assert sorted(joined[n, ::4, ::6, 0].ravel()) == sorted(members[n])
        assert len(set(classes[members[n]])) == 4
        for member, mask in zip(members[n], inside[:, n]):
            ys, xs = np.nonzero(mask)
            assert len(ys) == 3 and set(ys % 4) == {1} and set(xs % 6) == {2, 3, 4}
            assert np.all(joined[n, ys, xs] == member)
    assert len({np.flatnonzero(mask)[0] for mask in inside[0]}) == 4  # every quarter occurs
    with pytest.raises(ValueError, match="four classes at least"):
        metrics.mosaics(images, masks, np.arange(10) % 3)


def test_a_guess_is_a_gaussian_in_a_quarter_picked_at_random():
    maps = metrics.guess((40, 64, 64))
    quarters = maps.reshape(40, 2, 32, 2, 32).swapaxes(2, 3).reshape(40, 4, 32, 32)
    picked = quarters.any(axis=(2, 3))
    assert picked.sum(axis=1).tolist() == [1] * 40 and picked.any(axis=0).all()
    assert np.allclose(quarters.sum(axis=1), metrics.gaussian((40, 32, 32)))


def test_the_explorer_draws_what_is_chosen():
    drawn = []

    def draw(**chosen):
        drawn.append(chosen)
        return plt.figure(figsize=(1, 1))

    lists, screen = metrics.explorer(draw, number=[("one", 1), ("two", 2)], kind=["a"]).children
    first = screen.value
    lists.children[0].value = 2
    assert drawn == [{"number": 1, "kind": "a"}, {"number": 2, "kind": "a"}]
    assert first.startswith("<img src") and not plt.get_fignums()


# --- What is judged ------------------------------------------------------------------------------


def test_synthetic_pictures_come_with_their_boxes(scenes):
    indices, masks = metrics.boxed(scenes)
    assert np.bincount(scenes.y_test[indices]).tolist() == [3] * 10
    for index, mask in zip(indices, masks):
        assert data.bounding_box(mask) == tuple(scenes.test_boxes[index])


def test_a_run_must_fit_the_pictures(scenes, trained):
    folder = trained[2]
    (run,) = metrics.runs_to_judge(scenes, folder)
    assert run.folder == folder
    real = dataclasses.replace(scenes, test_boxes=None, source="CIFAR-10")
    with pytest.raises(ValueError, match=r"trained on synthetic stand-in.*are CIFAR-10"):
        metrics.runs_to_judge(real, folder)
    assert [each.folder.name for each in metrics.runs_to_judge(real)] == ["course", "modern"]


def test_the_network_recorded_for_synthetic_pictures_scores_what_is_recorded():
    dataset = data.synthetic()
    (run,) = metrics.runs_to_judge(dataset)
    guesses = run.network().predict(dataset.x_test, verbose=0).argmax(axis=1)
    scored = run.info["scores"]["test_acc"]
    assert (guesses == dataset.y_test).mean() == pytest.approx(scored, abs=0.01)


def test_an_empty_map_says_so(pictures):
    maps = random_map(0, 2)
    maps[1] = 0
    figure = metrics.show(pictures[:2], ["one", "two"], {"kind": maps}, {"kind": MASKS[:2]})
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert titles == ["picture", "kind", "", "no evidence", "one", "two"]
    mapped = [image.get_extent()[0] for image in figure.axes[0].images[1::2]]
    framed = [patch.get_x() for patch in figure.axes[0].patches]  # twice each, black beneath white
    from_left = [box[0] * 1.2 / 32 for box in BOXES[:2]]  # in a picture of 1.2 inches
    assert np.allclose(np.subtract(framed, np.repeat(mapped, 2)), np.repeat(from_left, 2))
    plt.close(figure)


def test_what_was_learnt_goes_with_the_weights(trained):
    network, scenes, _ = trained
    images, labels = scenes.x_test[::5], scenes.y_test[::5]
    stages = metrics.cascade(network, images, labels)
    assert stages[0].correlation.low == pytest.approx(1) and stages[-1].correlation.high < 0.7
    floor = metrics.floors(network, images, labels)
    assert all(-0.5 < each.mean < 0.7 for each in floor.values())
