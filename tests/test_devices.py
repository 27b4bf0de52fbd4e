import keras
import numpy as np
import pytest

from helpers import devices


def test_fused_batch_normalization_is_keras_batch_normalization():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (8, 5, 5, 4)).astype(np.float32)
    results = []
    for kind in (keras.layers.BatchNormalization, devices.FusedBatchNormalization):
        layer = kind(momentum=0.9)
        layer.build(x.shape)
        layer.gamma.assign([1.0, 2.0, -1.0, 0.5])
        layer.beta.assign([0.0, 1.0, 2.0, 3.0])
        trained = layer(x, training=True)
        results.append([trained, layer(x, training=False), *layer.variables])
    n = x[..., 0].size
    results[1][-1].assign(0.9 + (results[1][-1] - 0.9) * (n - 1) / n)  # unbiased variance
    for fused, plain in zip(results[1], results[0]):
        # Outputs outside training were computed before the correction of the variance.
        assert np.allclose(fused, plain, rtol=2e-3, atol=1e-5)
    assert np.allclose(results[1][0], results[0][0], atol=1e-5)
    assert np.allclose(results[1][-1], results[0][-1], atol=1e-6)


def test_precision_is_left_as_it_was_and_unknown_ones_are_refused():
    with devices.placed("bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        assert keras.layers.Dense(1).variable_dtype == "float32"
    assert keras.layers.Dense(1).compute_dtype == "float32"
    with pytest.raises(ValueError, match="precision = 'half': it is one of float32, bfloat16"):
        with devices.placed("half"):
            pass
