"""ResNet v2 for small pictures: He et al., "Identity Mappings in Deep Residual Networks" (2016)."""

import keras
from keras import layers

from helpers.training.data import PIXEL_MEAN


def resnet_v2(
    depth: int = 20, input_shape: tuple = (32, 32, 3), classes: int = 10, l2: float = 1e-4,
    batch_norm_momentum: float = 0.99, batch_norm=layers.BatchNormalization,
) -> keras.Model:  # fmt: skip
    """The assignment's network: depth 20 has 574,090 parameters.

    Args:
        depth: 9n + 2, three stages of n bottleneck blocks of three convolutions; else ValueError.
        l2: penalty on every convolution kernel.
        batch_norm_momentum: share of the running statistics kept per step.
        batch_norm: the layer to normalize with, made from momentum and name.

    Returns:
        A model from raw RGB pixels (N, h, w, 3), 0 to 255 of any dtype, to float32 (N, classes).
        Layers to ask for by name: `features` (N, h/4, w/4, 256), after the last ReLU; `logits`
        (N, classes); `probabilities`.
    """
    if depth < 11 or (depth - 2) % 9:
        raise ValueError(f"depth = {depth}: a ResNet v2 has 9n + 2 layers, say 11, 20 or 29.")

    def conv(x, filters, size, stride, name):
        return layers.Conv2D(
            filters, size, stride, padding="same", name=name,
            kernel_initializer="he_normal", kernel_regularizer=keras.regularizers.L2(l2),
        )(x)  # fmt: skip

    def norm_relu(x, name, relu_name=None):
        x = batch_norm(momentum=batch_norm_momentum, name=f"{name}_norm")(x)
        return layers.ReLU(name=relu_name or f"{name}_relu")(x)

    inputs = keras.Input(input_shape, name="pixels")
    mean = [-share for share in PIXEL_MEAN]
    x = layers.Rescaling(1 / 255, mean, dtype="float32", name="centered")(inputs)
    x = norm_relu(conv(x, 16, 3, 1, "stem_conv"), "stem")

    width = 16  # of the 3x3 convolutions; the block's output is wider
    for stage, out in enumerate((64, 128, 256), start=1):
        for block in range(1, (depth - 2) // 9 + 1):
            name = f"stage{stage}_block{block}"
            first = block == 1
            stride = 2 if first and stage > 1 else 1
            # The stem has normalized the very first block's input.
            y = x if first and stage == 1 else norm_relu(x, f"{name}_a")
            y = norm_relu(conv(y, width, 1, stride, f"{name}_a_conv"), f"{name}_b")
            y = norm_relu(conv(y, width, 3, 1, f"{name}_b_conv"), f"{name}_c")
            y = conv(y, out, 1, 1, f"{name}_c_conv")
            shortcut = conv(x, out, 1, stride, f"{name}_shortcut") if first else x
            x = layers.Add(name=f"{name}_add")([shortcut, y])
        width = out

    x = norm_relu(x, "features", relu_name="features")
    # In float32 under any dtype policy, as are the pixels: 16 bits are enough between them.
    x = layers.GlobalAveragePooling2D(dtype="float32", name="pooled")(x)
    x = layers.Dense(classes, kernel_initializer="he_normal", dtype="float32", name="logits")(x)
    x = layers.Activation("softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, x, name=f"ResNet{depth}v2")
