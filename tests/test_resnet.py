import keras
import numpy as np
import pytest

from helpers.training.data import PIXEL_MEAN
from helpers.training.resnet import resnet_v2


def test_depth_counts_the_weighted_layers_and_20_has_the_original_parameters():
    assert resnet_v2(20).count_params() == 574_090
    for depth in (11, 29):
        kernels = [
            layer for layer in resnet_v2(depth).layers
            if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
            and "shortcut" not in layer.name
        ]  # fmt: skip
        assert len(kernels) == depth
    for depth in (2, 12):
        with pytest.raises(ValueError, match=f"depth = {depth}: .*9n \\+ 2"):
            resnet_v2(depth)


def test_takes_raw_pixels(pictures):
    model = resnet_v2(11)
    centered = keras.Model(model.input, model.get_layer("centered").output)
    assert np.allclose(centered(pictures), pictures / 255 - PIXEL_MEAN, atol=1e-6)


def test_logits_against_an_independent_forward_pass(pictures):
    """The same arithmetic in NumPy, from He et al. (2016), v2, for one block per stage."""
    model = resnet_v2(11)
    rng = np.random.default_rng(0)
    for layer in model.layers:  # statistics and offsets away from their neutral start
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])

    def weights(name):
        return [np.asarray(w, np.float64) for w in model.get_layer(name).get_weights()]

    def conv(x, name, stride=1):
        kernel, bias = weights(name)
        size = kernel.shape[0]
        out = -(-x.shape[1] // stride)
        pad = max((out - 1) * stride + size - x.shape[1], 0)
        x = np.pad(x, ((0, 0), (pad // 2, pad - pad // 2), (pad // 2, pad - pad // 2), (0, 0)))
        y = np.zeros((len(x), out, out, kernel.shape[3])) + bias
        for i in range(size):
            for j in range(size):
                patch = x[:, i::stride, j::stride][:, :out, :out]
                y += patch @ kernel[i, j]
        return y

    def norm_relu(x, name):
        gamma, beta, mean, variance = weights(f"{name}_norm")
        return np.maximum(gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta, 0)

    x = norm_relu(conv(pictures / 255 - PIXEL_MEAN, "stem_conv"), "stem")
    for stage in (1, 2, 3):
        name, stride = f"stage{stage}_block1", 1 if stage == 1 else 2
        y = x if stage == 1 else norm_relu(x, f"{name}_a")
        y = norm_relu(conv(y, f"{name}_a_conv", stride), f"{name}_b")
        y = norm_relu(conv(y, f"{name}_b_conv"), f"{name}_c")
        x = conv(x, f"{name}_shortcut", stride) + conv(y, f"{name}_c_conv")
    kernel, bias = weights("logits")
    expected = norm_relu(x, "features").mean(axis=(1, 2)) @ kernel + bias

    outputs = [model.get_layer(name).output for name in ("features", "logits", "probabilities")]
    features, logits, probabilities = keras.Model(model.input, outputs)(pictures)
    assert features.shape == (len(pictures), 8, 8, 256) and probabilities.dtype == np.float32
    assert np.allclose(logits, expected, rtol=1e-4, atol=1e-3)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(probabilities, shares, atol=1e-6)
