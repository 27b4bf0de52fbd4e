import keras
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, spearmanr

from helpers.annotation import agreement, via
from helpers.explanation import gradcam, metrics
from helpers.files import RECORDED
from helpers.training import data, runs
from helpers.training.resnet import resnet_v2

BOXES = np.array([(5, 3, 6, 18), (0, 0, 32, 32), (31, 31, 1, 1), (10, 12, 16, 8)])
MASKS = agreement.masks(via.from_boxes("abcd", BOXES), (32, 32))


def random_maps(seed, count=3):
    """Whole numbers, so that sums, products and halves are exact."""
    return np.random.default_rng(seed).integers(1, 1000, (count, 8, 8)).astype(float)


def test_a_uniform_map_scores_the_area_and_an_empty_one_zero():
    area = BOXES[:, 2] * BOXES[:, 3] / 32**2
    scores = metrics.score(np.full((4, 32, 32), 3), MASKS)
    assert all(np.array_equal(scores[name], area) for name in ("pointing", "energy", "IoU"))
    assert not metrics.score(np.zeros((4, 32, 32)), MASKS).to_numpy().any()


def test_scores_by_hand():
    maps = np.zeros((4, 32, 32))
    maps[0, 3:21, 8:14] = 0.5  # exactly half counts; 3 columns of 18 lie in the box
    maps[0, 3, 5] = 1
    maps[0, 25:, 25:] = 0.49
    maps[1, 3, 5] = maps[1, 0, :3] = 3  # four highest pixels share the point
    maps[1, 31, 31] = 2.99
    maps[2, 20, 10] = maps[3, 20, 11] = 3  # the last pixel inside, and the one beside it
    scores = metrics.score(maps, MASKS[[0] * 4])
    assert scores["IoU"].tolist() == pytest.approx([55 / 162, 1 / 112, 1 / 108, 0])
    energies = [28 / (1 + 54 + 49 * 0.49), 3 / 14.99, 1, 0]
    assert scores["energy"].tolist() == pytest.approx(energies)
    assert scores["pointing"].tolist() == [1, 0.25, 1, 0]


def test_the_gaussian_has_a_quarter_of_the_side_as_standard_deviation():
    maps = metrics.gaussian(MASKS.shape)
    assert maps.shape == MASKS.shape and np.array_equal(maps[0], maps[0].T)
    assert maps[0, 15, 23] == pytest.approx(np.exp(-(0.5**2 + 7.5**2) / (2 * 8**2)))
    assert metrics.score(maps, MASKS)["pointing"].tolist() == [0, 1, 0, 1]


def test_the_unit_of_a_map_and_turning_it_with_its_box_change_nothing():
    maps = random_maps(0, 99)
    masks = random_maps(1, 99) < 400
    scores = metrics.score(maps, masks)
    turned = metrics.score(maps.swapaxes(1, 2)[:, ::-1] * 2.0**99, masks.swapaxes(1, 2)[:, ::-1])
    assert np.allclose(turned, scores, rtol=1e-12)
    together = scores + metrics.score(maps, ~masks)  # inside and outside make one
    assert np.allclose(together[["pointing", "energy"]], 1, rtol=1e-12)


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


def test_in_mosaics_of_two_classes_all_boxes_of_the_class_asked_for_count():
    images, masks = np.zeros((4, 4, 4, 3), np.uint8), np.ones((4, 4, 4), bool)
    _, members, inside = metrics.mosaics(images, masks, [0, 0, 1, 1])
    assert all(set(row[1:]) <= ({2, 3} if row[0] < 2 else {0, 1}) for row in members)
    assert np.array_equal(inside[0], ~inside[1]) and np.all(inside[0].mean(axis=(1, 2)) == 0.25)
    assert metrics.mosaic_chance(inside[1])["pointing"].tolist() == [0.75] * 4


def test_chance_in_a_mosaic_is_one_in_four_wherever_the_box_is():
    quarter = np.kron(np.eye(4, dtype=int).reshape(4, 2, 2), MASKS[3:]).astype(bool)
    chance = metrics.mosaic_chance(quarter)
    alone = metrics.score(metrics.gaussian((1, 32, 32)), MASKS[3:])
    assert np.allclose(chance, alone / 4, rtol=1e-12)  # in the other three quarters it scores 0
    assert chance["pointing"].tolist() == [0.25] * 4


def test_the_interval_of_a_share_is_that_of_the_binomial_distribution():
    low, high = binom.ppf([0.025, 0.975], 100, 0.3) / 100
    for _ in range(2):  # the same draws every time
        assert metrics.bootstrap(np.arange(100) < 30) == metrics.Interval(0.3, low, high)
    assert str(metrics.bootstrap([0.5])) == "0.500 [needs two]"


def test_a_table_of_means_and_of_paired_differences():
    """Maps that are always the other's better by a tenth leave no doubt, scores vary or not."""
    low = pd.DataFrame({"a": np.random.default_rng(0).random(100), "b": np.arange(100)})
    table = metrics.intervals({"high": low + 0.1, "low": low})
    assert list(table.index) == ["high", "low"] and list(table) == ["a", "b"]
    assert "49.500 [43.9" in table.to_html() and "49.500 [43.9" in table.to_markdown()
    difference = metrics.intervals({"high": low + 0.1 - low}).loc["high", "a"]
    assert (difference.low, difference.high) == pytest.approx((0.1, 0.1))


def brightness(*part):
    """A network whose first class has the brightness of a part of the picture as probability."""

    def predict(images):
        share = images[:, *part].mean(axis=(1, 2, 3)) / 255
        return np.stack([share, 1 - share], axis=1)

    return predict


WHITE = np.full((3, 8, 8, 3), 255, np.uint8)
LEFT = brightness(slice(8), slice(4))
CELLS = np.zeros((3, 4, 4))
CELLS[0, :, :2] = np.arange(1, 9).reshape(4, 2)  # finds the left half
CELLS[1, :, 2:] = 1  # finds the right half; the third is empty


def test_curves_of_a_network_that_sees_one_half():
    curves = metrics.faithfulness(LEFT, WHITE, CELLS, np.zeros(3, int), baseline=0)
    falling = np.linspace(1, 0, 9)
    first, second = np.array([*falling, *[0] * 8]), np.array([*[1] * 8, *falling])
    assert np.allclose(curves["deletion"][:2], [first, second])
    assert np.allclose(curves["insertion"][:2], [1 - first, 1 - second])
    assert metrics.auc(curves["deletion"])[:2] == pytest.approx([0.25, 0.75])
    assert metrics.auc(np.array([[1.0, 0, 0]])) == pytest.approx([0.25])  # the ends count half
    of_black = metrics.faithfulness(LEFT, WHITE, CELLS, np.ones(3, int), baseline=(0, 0, 0))
    assert np.allclose(of_black["deletion"][0], 1 - curves["deletion"][0])


def test_equal_cells_come_in_a_fair_order_and_a_gaussian_begins_in_the_middle():
    images, zeros = np.repeat(WHITE[:1], 100, axis=0), np.zeros(100, int)
    curves = metrics.faithfulness(LEFT, images, np.ones((100, 4, 4)), zeros, baseline=0)
    assert np.allclose(curves["deletion"].mean(axis=0), np.linspace(1, 0, 17), atol=0.1)
    middle, order = brightness(slice(2, 6), slice(2, 6)), metrics.gaussian((2, 4, 4))
    curves = metrics.faithfulness(middle, WHITE[:2], order, zeros[:2], baseline=0)
    assert np.allclose(curves["deletion"], [*np.linspace(1, 0, 5), *[0] * 12])


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return resnet_v2(11)


def test_rank_correlation_against_scipy():
    maps, others = random_maps(0, 5), np.maximum(random_maps(1, 5) - 300, 0)  # ties at zero
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(maps, others)]
    assert np.allclose(metrics.rank_correlation(maps, others), expected)
    assert np.allclose(metrics.rank_correlation(maps, 2 * maps**3), 1)
    assert np.allclose(metrics.rank_correlation(maps, 1000 - maps), -1)
    assert np.isnan(metrics.rank_correlation(maps, np.zeros_like(maps))).all()


def test_the_cascade_runs_from_the_logits_down_and_ends_in_a_fresh_network(network, pictures):
    labels = network.predict(pictures, verbose=0).argmax(axis=1)  # their maps are not empty
    before = [weight.copy() for weight in network.get_weights()]
    maps = metrics.cascade(network, pictures, labels)
    assert list(maps) == [
        "trained", "logits", "features_norm", "stage3_block1", "stage2_block1", "stage1_block1",
        "stem",
    ]  # fmt: skip
    fresh = metrics.reinitialized(network, 0)
    halfway = keras.models.clone_model(network)
    halfway.set_weights(network.get_weights())
    halfway.get_layer("logits").set_weights(fresh.get_layer("logits").get_weights())
    for part, model in (("trained", network), ("logits", halfway), ("stem", fresh)):
        expected = gradcam.GradCAM(model)(pictures, labels)
        assert np.allclose(maps[part], expected, atol=1e-6), part
    assert all(map(np.array_equal, network.get_weights(), before))


def test_fresh_weights_are_not_the_first_ones_of_the_same_seed(network):
    """Training only moves weights so far: its own start is no random network to a network."""
    keras.utils.set_random_seed(7)
    expected = keras.initializers.HeNormal()((3, 3))
    keras.utils.set_random_seed(7)
    fresh = metrics.reinitialized(network, 0)
    assert np.array_equal(keras.initializers.HeNormal()((3, 3)), expected)
    keras.utils.set_random_seed(0)
    started = resnet_v2(11)
    for layer in started.layers:
        if layer.name.endswith("conv") or layer.name == "logits":
            own, new = (each.get_layer(layer.name).get_weights()[0] for each in (started, fresh))
            assert abs(np.corrcoef(own.ravel(), new.ravel())[0, 1]) < 0.2


def test_the_network_recorded_for_drawn_pictures_finds_them_and_its_score():
    scenes, run = data.synthetic(), runs.open_run(RECORDED / "synthetic/quick")
    right = run.network().predict(scenes.x_test, verbose=0).argmax(axis=1) == scenes.y_test
    assert right.mean() == pytest.approx(run.info["scores"]["test_acc"], abs=0.01)
    images, labels = scenes.x_test[::3], scenes.y_test[::3]
    masks = agreement.masks(via.from_boxes(labels, scenes.test_boxes[::3]), (32, 32))
    maps = gradcam.upsample(gradcam.GradCAM(run.network())(images, labels), (32, 32))
    better = metrics.score(maps, masks) - metrics.score(np.ones(masks.shape), masks)
    assert all(metrics.bootstrap(better[score]).low > 0 for score in ("pointing", "energy"))
