import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.files import ROOT
from helpers.training import devices


def test_fused_batch_normalization_is_keras_batch_normalization():
    x = np.random.default_rng(0).normal(3, 2, (8, 5, 5, 4)).astype(np.float32)
    outputs, gradients, statistics = [], [], []
    for kind in (keras.layers.BatchNormalization, devices.FusedBatchNormalization):
        layer = kind(momentum=0.9)
        layer.build(x.shape)
        layer.gamma.assign([1.0, 2.0, -1.0, 0.5])
        layer.beta.assign([0.0, 1.0, 2.0, 3.0])
        with tf.GradientTape() as tape:
            inputs = tf.Variable(x)
            outputs.append(layer(inputs, training=True))
            loss = tf.reduce_sum(outputs[-1] ** 3)
        gradients.append(tape.gradient(loss, inputs))
        statistics.append([np.asarray(v) for v in (layer.moving_mean, layer.moving_variance)])
        assert np.allclose(layer(x), layer(x, training=False))
    assert np.allclose(*outputs, atol=1e-5)
    assert np.allclose(*gradients, atol=1e-3)
    n = x[..., 0].size
    statistics[1][1] = 0.9 + (statistics[1][1] - 0.9) * (n - 1) / n  # the kernel's is unbiased
    assert np.allclose(*statistics, atol=1e-6)


def test_precision_is_left_as_it_was_and_unknown_ones_are_refused():
    with devices.training_scope("bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        assert keras.layers.Dense(1).variable_dtype == "float32"
    assert keras.layers.Dense(1).compute_dtype == "float32"
    with pytest.raises(ValueError, match="'half': it is one of"), devices.training_scope("half"):
        pass


@pytest.mark.parametrize(
    "gpu, flags, precision",
    [
        (None, "fma avx2", "float32"),
        (None, "avx2 avx512_bf16", "bfloat16"),
        ((6, 1), "avx512_bf16", "float32"),
        ((7, 5), "avx2", "float16"),
        ((8, 9), "avx2", "bfloat16"),
    ],
)
def test_fastest_precision(monkeypatch, tmp_path, gpu, flags, precision):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}")
    details = {"compute_capability": gpu}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [gpu] if gpu else [])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: details)
    monkeypatch.setattr(devices, "Path", lambda _: tmp_path / "cpuinfo")
    assert devices.fastest() == precision


@pytest.mark.parametrize("targets", [None, np.arange(6)])
def test_batches_keep_order_and_dtype_and_do_not_tune_themselves(pictures, targets):
    (dataset,) = devices.batches(pictures, targets, size=4).values()
    assert not dataset.options().autotune.enabled
    found = list(dataset.as_numpy_iterator())
    first = [batch if targets is None else batch[0] for batch in found]
    assert [len(batch) for batch in first] == [4, 2]
    assert np.array_equal(np.concatenate(first), pictures) and first[0].dtype == np.uint8
    if targets is not None:
        assert np.array_equal(np.concatenate([batch[1] for batch in found]), targets)


@pytest.mark.jax
def test_a_run_goes_on_with_jax():
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_trainer.py", "-k", "stopped_by"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "KERAS_BACKEND": "jax"})
    assert done.returncode == 0
