import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import devices
from helpers.files import ROOT


def test_fused_batch_normalization_is_keras_batch_normalization():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (8, 5, 5, 4)).astype(np.float32)
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
    with pytest.raises(ValueError, match="precision = 'half': it is one of float32, bfloat16"):
        with devices.training_scope("half"):
            pass


@pytest.mark.parametrize(
    "capability, flags, precision",
    [
        (None, "fma avx2", "float32"),
        (None, "avx2 avx512_bf16", "bfloat16"),
        (6.1, "avx2", "float32"),
        (7.5, "avx2", "float16"),
        (8.9, "avx2", "bfloat16"),
        (9.0, "avx512_bf16", "bfloat16"),
    ],
)
def test_fastest_precision(monkeypatch, capability, flags, precision):
    monkeypatch.setattr(devices, "_compute_capability", lambda: capability)
    monkeypatch.setattr(devices, "_cpu_flags", lambda: set(flags.split()))
    assert devices.fastest() == precision


def test_this_machine_has_a_fastest_precision():
    assert devices.fastest() in devices.PRECISIONS


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


ONE_STEP = """
import sys
import numpy as np
backend, count, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if backend == "tensorflow":
    import tensorflow as tf
    cpu, = tf.config.list_physical_devices("CPU")
    virtual = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    tf.config.set_logical_device_configuration(cpu, virtual)
import dataclasses, keras
from helpers import data, training
from helpers.recipes import QUICK
assert keras.backend.backend() == backend and len(keras.distribution.list_devices()) == count
scenes = data.synthetic(train=200, test=50)
step = len(scenes.x_train) // 2 * 2
scenes = dataclasses.replace(scenes, x_train=scenes.x_train[:step], y_train=scenes.y_train[:step])
recipe = dataclasses.replace(QUICK, batch_size=step, epochs=1, optimizer="muon")
run = training.train(recipe, scenes, folder, precision="float32")
spread = sum(np.abs(np.asarray(w)).sum(dtype=np.float64) for w in run.network().get_weights())
print("RESULT", run.log[0]["loss"], spread)
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_one_step_on_two_devices_is_the_step_on_one(backend, tmp_path):
    results = []
    for count in (1, 2):
        environment = {
            **os.environ, "KERAS_BACKEND": backend,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", ONE_STEP, backend, str(count), str(tmp_path / str(count))],
            capture_output=True, text=True, env=environment, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        results.append([float(word) for word in done.stdout.rpartition("RESULT")[2].split()])
    (loss, weights), (other_loss, other_weights) = results
    assert loss == pytest.approx(other_loss, rel=1e-5)
    assert weights == pytest.approx(other_weights, rel=1e-3)
