import keras
import numpy as np
import pytest

from helpers.training import optimizers
from helpers.training.recipes import MODERN, SHORT


def newton_schulz(matrix, steps=3):
    """The same polynomial applied to the singular values, by an SVD in float64."""
    left, values, right = np.linalg.svd(np.float64(matrix), full_matrices=False)
    values = values / np.linalg.norm(values)
    for _ in range(steps):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    return left @ np.diag(values) @ right


@pytest.mark.parametrize("shape", [(16, 16), (27, 16), (16, 64)])
def test_orthogonalizing_acts_on_singular_values_only(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    result = np.asarray(optimizers.orthogonalize(matrix))
    assert np.allclose(result, newton_schulz(matrix), atol=1e-5)
    assert np.allclose(result, optimizers.orthogonalize(100 * matrix), atol=1e-5)
    values = np.linalg.svd(result)[1]
    assert np.median(values) > 0.5 and values.max() < 1.3


def test_two_steps_of_muon_by_hand():
    rng = np.random.default_rng(1)
    start, *gradients = rng.normal(size=(3, 3, 3, 4, 8)).astype(np.float32)
    kernel = keras.Variable(start)
    optimizer = optimizers.Muon(0.1, momentum=0.8)
    optimizer.build([kernel])
    expected, buffer = np.float64(start), 0
    for gradient in gradients:
        optimizer.apply([gradient])
        buffer = 0.8 * buffer + gradient
        direction = newton_schulz((gradient + 0.8 * buffer).reshape(-1, 8)).reshape(start.shape)
        expected = expected * np.sqrt(8) / np.linalg.norm(expected) - 0.1 * direction
    assert np.allclose(kernel, expected, atol=1e-5)


def test_a_kernel_of_zeros_takes_its_step():
    kernel, optimizer = keras.Variable(np.zeros((1, 1, 4, 8))), optimizers.Muon(0.1)
    optimizer.build([kernel])
    optimizer.apply([np.eye(4, 8, dtype=np.float32)[None, None]])
    assert np.all(np.diag(kernel[0, 0]) < -0.03) and np.all(np.isfinite(kernel))


def test_other_variables_take_adams_step():
    rng = np.random.default_rng(2)
    start, gradient = rng.normal(size=(2, 8, 5)).astype(np.float32)
    ours, theirs = keras.Variable(start), keras.Variable(start)
    for variable, optimizer in (
        (ours, optimizers.Muon(0.1, adam_ratio=0.04)), (theirs, keras.optimizers.Adam(0.004)),
    ):  # fmt: skip
        optimizer.build([variable])
        optimizer.apply([gradient])
    assert np.allclose(ours, theirs, atol=1e-7)


def test_rates_are_looked_up_per_step():
    schedule = optimizers.PerStep([MODERN.rate(step / 10) for step in range(500)])
    steps = (0, 9, 10, 79, 499)
    assert np.allclose([schedule(step) for step in steps], [MODERN.rate(s / 10) for s in steps])


def test_a_recipes_settings_of_muon_reach_it():
    muon = optimizers.make(SHORT, [0.1])
    assert (muon.momentum, muon.adam_ratio) == (0.6, 0.25)
