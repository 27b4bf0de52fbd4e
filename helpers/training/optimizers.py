"""Muon: steps of equal strength in every direction of a weight matrix, for convolution kernels."""

import keras
from keras import ops


def orthogonalize(matrix):
    """Push the singular values of a float (rows, columns) towards 1, keeping its singular vectors.

    The quintic Newton-Schulz iteration of Jordan et al., "Muon" (2024): three steps bring most
    singular values, relative to the norm, between 0.3 and 1.2.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.norm(x) + 1e-7)
    for _ in range(3):
        square = ops.matmul(x, ops.transpose(x))
        x = 3.4445 * x + ops.matmul(-4.775 * square + 2.0315 * ops.matmul(square, square), x)
    return ops.transpose(x) if tall else x


class Muon(keras.optimizers.Adam):
    """Muon for convolution kernels; Adam, at its rate times `adam_ratio`, for all other variables.

    As in Jordan's airbench (2024), every kernel is rescaled to one unit of norm per filter before
    its step: batch normalization hides the scale. Keras' own Muon covers dense layers only.
    """

    def __init__(self, learning_rate, momentum=0.8, adam_ratio=0.04):
        super().__init__(learning_rate, name="muon")
        self.momentum, self.adam_ratio = momentum, adam_ratio

    def update_step(self, gradient, variable, learning_rate):
        if len(variable.shape) != 4:
            rate = ops.cast(learning_rate, variable.dtype) * self.adam_ratio
            return super().update_step(gradient, variable, rate)
        buffer = self._momentums[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        velocity = self.momentum * ops.convert_to_tensor(buffer) + gradient
        self.assign(buffer, velocity)
        filters = variable.shape[-1]  # of a kernel (h, w, channels, filters)
        ahead = ops.reshape(gradient + self.momentum * velocity, (-1, filters))  # Nesterov's
        direction = orthogonalize(ahead)  # (h * w * channels, filters)
        kernel = ops.convert_to_tensor(variable)
        scale = filters**0.5 / ops.norm(ops.reshape(kernel, (-1,)))
        kernel = kernel * ops.minimum(scale, 1e7)  # a kernel of zeros stays one, not NaN
        step = ops.cast(learning_rate, variable.dtype) * ops.reshape(direction, variable.shape)
        self.assign(variable, kernel - step)


class PerStep(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate for every step, looked up inside the compiled step of any backend."""

    def __init__(self, rates):
        self.rates = [float(rate) for rate in rates]

    def __call__(self, step):
        return ops.take(ops.convert_to_tensor(self.rates, "float32"), ops.cast(step, "int32"))


def make(recipe, rates) -> keras.optimizers.Optimizer:
    """The optimizer of a recipe, with a learning rate for every step."""
    if recipe.optimizer == "muon":
        return Muon(PerStep(rates), recipe.momentum, recipe.adam_ratio)
    # A name of its own, or Keras numbers them within a process, and their variables with them.
    config = {"learning_rate": PerStep(rates), "name": recipe.optimizer}
    return keras.optimizers.get({"class_name": recipe.optimizer, "config": config})
