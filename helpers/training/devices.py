"""How training meets the machine: precision, input, fused kernels; of several GPUs, one is used."""

from contextlib import contextmanager
from pathlib import Path

import keras

# The arithmetic of the step; weights, statistics, logits and what is saved stay float32.
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def fastest() -> str:
    """The precision in which this machine trains fastest: one of PRECISIONS.

    GPUs have tensor cores for float16 from compute capability 7 (T4), for bfloat16, which needs no
    loss scale, from 8 (L4, A100); some CPUs have instructions for it.
    """
    import tensorflow as tf

    if gpus := tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpus[0])
        major, _ = details.get("compute_capability", (0, 0))
        return "bfloat16" if major >= 8 else "float16" if major >= 7 else "float32"
    flags = Path("/proc/cpuinfo")  # of Linux
    known = set(flags.read_text().split()) if flags.is_file() else set()
    return "bfloat16" if known & {"avx512_bf16", "amx_bf16"} else "float32"


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalization through TensorFlow's fused kernel, in training.

    Same variables and result, but for the running variance, which the kernel takes from N - 1
    values. Keras spells the layer out in a dozen operations, a third of a CPU's training step.
    """

    def call(self, inputs, training=None, mask=None):
        if not training:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=self.gamma, offset=self.beta, mean=tf.zeros(0), variance=tf.zeros(0),
            epsilon=self.epsilon, is_training=True,
        )  # fmt: skip
        for average, of_batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + of_batch * (1 - self.momentum))
        return outputs


def batches(pictures, targets=None, size: int = 256) -> dict:
    """Arrays (N, ...) as arguments of Keras' fit, evaluate or predict, in order, uint8 as uint8."""
    if keras.backend.backend() != "tensorflow":
        labels = {} if targets is None else {"y": targets}
        return {"x": pictures, "batch_size": size, **labels}
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False  # else one of two cores idles for epochs (TF 2.20, 2.21)
    arrays = pictures if targets is None else (pictures, targets)
    with tf.device("CPU"):  # tf.data works there; the arrays need not visit the GPU
        dataset = tf.data.Dataset.from_tensor_slices(arrays).batch(size).prefetch(2)
    return {"x": dataset.with_options(options)}


@contextmanager
def training_scope(precision: str = "float32"):
    """Build for training in one of PRECISIONS; yields the batch normalization to use."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision = {precision!r}: it is one of {', '.join(PRECISIONS)}.")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(PRECISIONS[precision])
    try:
        on_tensorflow = keras.backend.backend() == "tensorflow"
        yield FusedBatchNormalization if on_tensorflow else keras.layers.BatchNormalization
    finally:
        keras.config.set_dtype_policy(before)
