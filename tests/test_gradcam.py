import cv2
import keras
import numpy as np
import pytest

from helpers import gradcam
from helpers.resnet import resnet_v2


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return resnet_v2(20)


@pytest.fixture(scope="module")
def explain(model):
    return gradcam.GradCAM(model)


def features_and_logits(model, pictures, layer="features"):
    outputs = [model.get_layer(layer).output, model.get_layer("logits").output]
    return map(np.asarray, keras.Model(model.input, outputs)(pictures.astype(np.float32)))


def test_closed_form_of_this_head(model, explain, pictures):
    """Mean over 8x8, then a dense layer W: dy_c/dA_k = W_kc / 64 everywhere."""
    features, _ = features_and_logits(model, pictures)
    W = model.get_layer("logits").get_weights()[0]
    for label in range(10):
        expected = np.maximum(np.einsum("nhwk,k->nhw", features, W[:, label]) / 64, 0)
        maps = explain(pictures, np.full(6, label))
        assert maps.shape == (6, 8, 8) and maps.dtype == np.float32
        assert np.allclose(maps, expected, atol=1e-6)


def test_channel_weights_against_finite_differences(model, pictures):
    """Raising channel k everywhere by e raises the logit by e * (places) * alpha_k."""
    name, label, step = "stage3_block1_add", 3, 1e-2
    A, _ = features_and_logits(model, pictures[:1], name)
    to_logits = keras.Model(model.get_layer(name).output, model.get_layer("logits").output)
    raised = step * np.eye(256, dtype=np.float32)[:, None, None, :]
    up, down = (np.asarray(to_logits(A + sign * raised))[:, label] for sign in (1, -1))
    alpha = (up - down) / (2 * step) / (A.shape[1] * A.shape[2])
    expected = np.maximum(A[0] @ alpha, 0)
    heat = gradcam.GradCAM(model, layer=name)(pictures[:1], [label])[0]
    assert expected.max() > 0
    assert np.allclose(heat, expected, atol=0.01 * expected.max())


def test_the_predicted_class_is_the_default(model, explain, pictures):
    _, logits = features_and_logits(model, pictures)
    assert np.array_equal(explain(pictures), explain(pictures, logits.argmax(axis=1)))


def test_pictures_do_not_mix_and_batches_do_not_matter(explain, pictures):
    labels = np.arange(6)
    whole = explain(pictures, labels)
    alone = np.concatenate([explain(pictures[i : i + 1], labels[i : i + 1]) for i in range(6)])
    assert np.allclose(whole, alone, atol=1e-6)
    assert np.allclose(whole, explain(pictures, labels, batch_size=4), atol=1e-6)


def test_one_trace_for_every_batch_size(model, pictures):
    explain = gradcam.GradCAM(model)
    for count in (1, 3, 6):
        explain(pictures[:count])
        explain(pictures[:count], np.zeros(count, int))
    assert explain._maps.experimental_get_tracing_count() == 1


def test_unknown_layer_lists_the_valid_ones(model):
    with pytest.raises(
        ValueError, match="'feature' is no layer with height and width.*stage1_block1_add.*features"
    ):
        gradcam.GradCAM(model, layer="feature")
    with pytest.raises(ValueError, match="'pooled' is no layer with height and width"):
        gradcam.GradCAM(model, layer="pooled")
    with pytest.raises(ValueError, match="no layer 'scores'"):
        gradcam.GradCAM(model, logits="scores")


@pytest.mark.parametrize("shape", [(32, 32, 3), (2, 32, 32, 1), (2, 32, 32), (2, 28, 28, 3)])
def test_pictures_of_another_shape_are_refused(explain, shape):
    with pytest.raises(ValueError, match=r"the model wants \(N, 32, 32, 3\)"):
        explain(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("labels", [[0] * 5, [[0] * 6], [0.5] * 6, ["cat"] * 6])
def test_class_indices_of_another_form_are_refused(explain, pictures, labels):
    with pytest.raises(ValueError, match="one integer per picture"):
        explain(pictures, labels)


@pytest.mark.parametrize("label", [-1, 10, 281])
def test_class_index_out_of_range_is_refused(explain, pictures, label):
    with pytest.raises(ValueError, match=f"Class index {label} is out of range; there are 0 to 9"):
        explain(pictures, [0, 0, label, 0, 0, 0])


def test_normalised_maps_reach_one_and_zeros_stay_zeros():
    maps = np.stack([np.arange(64.0, dtype=np.float32).reshape(8, 8), np.zeros((8, 8), np.float32)])
    scaled = gradcam.normalise(maps)
    assert scaled[0].max() == 1 and scaled[0].min() == 0
    assert np.array_equal(scaled[1], np.zeros((8, 8)))


def test_no_evidence_gives_zeros_without_nan(pictures):
    model = resnet_v2(11)
    head = model.get_layer("logits")
    head.set_weights([-np.abs(w) for w in head.get_weights()])  # nothing speaks for any class
    heat = gradcam.upsample(gradcam.normalise(gradcam.GradCAM(model)(pictures)), (32, 32))
    assert np.array_equal(heat, np.zeros((6, 32, 32)))
    painted = gradcam.overlay(pictures[0], heat[0])
    assert painted.shape == (32, 32, 3) and painted.dtype == np.uint8


def test_upsampling_does_not_shift():
    """The peak at 8x8 place (2, 5) has its centre at pixel edge (10, 22) of 32x32."""
    maps = np.zeros((1, 8, 8), np.float32)
    maps[0, 2, 5] = 1
    large = gradcam.upsample(maps, (32, 32))[0]
    centers = np.arange(32) + 0.5
    assert (large.sum(axis=1) @ centers) / large.sum() == pytest.approx(10)
    assert (large.sum(axis=0) @ centers) / large.sum() == pytest.approx(22)
    assert np.array_equal(large[::-1], gradcam.upsample(maps[:, ::-1], (32, 32))[0])


@pytest.mark.parametrize("colormap", [cv2.COLORMAP_INFERNO, cv2.COLORMAP_JET, cv2.COLORMAP_TURBO])
def test_hot_is_red_not_blue(colormap):
    grey = np.full((1, 2, 3), 128, np.uint8)
    heat = np.array([[0.0, 0.75]])
    (cold, hot) = gradcam.overlay(grey, heat, colormap=colormap)[0].astype(int)
    assert hot[0] > hot[2] + 50  # red over blue
    assert cold[0] <= cold[2]


def test_overlay_blends(pictures):
    heat = np.zeros((32, 32))
    assert np.array_equal(gradcam.overlay(pictures[0], heat, strength=0.0), pictures[0])
    red = gradcam.overlay(pictures[0], heat + 1, strength=1.0, colormap=cv2.COLORMAP_JET)
    assert np.all(red == (128, 0, 0))
