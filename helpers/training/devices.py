"""How training meets the machine: precision, input, fused kernels, more than one GPU."""

from contextlib import contextmanager, nullcontext
from pathlib import Path

import keras

# The arithmetic of the step; weights, statistics, logits and what is saved stay float32.
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def fastest() -> str:
    """The precision in which this machine trains fastest: one of PRECISIONS.

    GPUs compute in 16 bits on tensor cores: float16 from compute capability 7 (T4), bfloat16, which
    needs no loss scale, from 8 (L4, A100). Of CPUs, those with instructions for bfloat16 gain.
    """
    capability = _compute_capability()
    if capability is None:
        return "bfloat16" if _cpu_flags() & {"avx512_bf16", "amx_bf16"} else "float32"
    return "bfloat16" if capability >= 8 else "float16" if capability >= 7 else "float32"


def _compute_capability() -> float | None:
    """Of the first GPU of Keras' backend, None without one; 0 where it cannot be told."""
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else float(getattr(device, "compute_capability", 0))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if not gpus:
            return None
        details = tf.config.experimental.get_device_details(gpus[0])
        return float("{}.{}".format(*details.get("compute_capability", (0, 0))))
    return 0.0


def _cpu_flags() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:  # not Linux
        return set()


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation through TensorFlow's fused kernel, in training.

    Same variables and result (but for the running variance, which the kernel takes from N - 1
    values); Keras spells the layer out in a dozen operations, a third of a CPU's training step.
    """

    def call(self, inputs, training=None, mask=None):
        if not training:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        for average, of_batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + of_batch * (1 - self.momentum))
        return outputs


def batches(pictures, targets=None, size: int = 256) -> dict:
    """Arrays as arguments of Keras' fit, evaluate or predict, in order.

    On TensorFlow without tf.data's autotuning, which Keras leaves on: with it, a core stands idle
    for whole epochs on a machine with two, and they take twice as long (measured with 2.20, 2.21).

    Args:
        pictures: (N, ...), sent to the device as they are, uint8 as uint8.
        targets: (N, ...), or None.
        size: of a batch; the last one may be smaller.
    """
    if keras.backend.backend() != "tensorflow":
        arguments = {"x": pictures, "batch_size": size}
        return arguments if targets is None else {**arguments, "y": targets}
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    arrays = pictures if targets is None else (pictures, targets)
    with tf.device("CPU"):  # tf.data works there; the arrays need not visit the GPU
        dataset = tf.data.Dataset.from_tensor_slices(arrays).batch(size).prefetch(2)
    return {"x": dataset.with_options(options)}


@contextmanager
def training_scope(precision: str = "float32"):
    """Build a network for training on all GPUs there are, in the given precision.

    One model over several GPUs is Keras' own business: DataParallel on JAX, MirroredStrategy on
    TensorFlow, each with statistics of the whole batch.

    Yields:
        The batch-normalisation layer to build with.

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision = {precision!r}: it is one of {', '.join(PRECISIONS)}.")
    scope, batch_norm = _parallel()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(PRECISIONS[precision])
    try:
        with scope:
            yield batch_norm
    finally:
        keras.config.set_dtype_policy(before)


def replica():
    """Which copy of the network computes here, an int or a scalar tensor; 0 if it is the only one.

    On JAX one program computes the whole batch, on however many devices.
    """
    if keras.backend.backend() != "tensorflow":
        return 0
    import tensorflow as tf

    context = tf.distribute.get_replica_context()  # None while a network is built in a scope
    return context.replica_id_in_sync_group if context else 0


def _parallel():
    """A scope to build in, and the batch normalisation, for the devices Keras would use."""
    plain, backend = keras.layers.BatchNormalization, keras.backend.backend()
    devices = keras.distribution.list_devices()  # all GPUs, else the CPU
    if backend == "tensorflow" and len(devices) > 1:
        import tensorflow as tf

        scope = tf.distribute.MirroredStrategy([name.upper() for name in devices]).scope()
        return scope, lambda **options: plain(synchronized=True, **options)
    if backend == "jax" and len(devices) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    return nullcontext(), FusedBatchNormalization if backend == "tensorflow" else plain
