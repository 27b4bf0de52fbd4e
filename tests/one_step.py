"""One training step: python tests/one_step.py COUNT FOLDER runs it on so many (virtual) devices.

The backend is KERAS_BACKEND's; the result is printed as JSON.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path


def one_step(folder, shift=0.0, erase=0.0):
    """Loss, and sum of all absolute weights, after one step on 180 pictures at once."""
    import numpy as np

    from helpers.training import data, trainer
    from helpers.training.recipes import COURSE

    scenes = data.synthetic(train=200, test=50)
    recipe = dataclasses.replace(
        COURSE, depth=11, batch_size=180, epochs=1, flip=False, shift=shift, erase=erase
    )
    run = trainer.train(recipe, scenes, folder, precision="float32")
    weights = run.network().get_weights()
    return float(run.log["loss"][0]), sum(np.abs(array).sum(dtype=np.float64) for array in weights)


def replicas_draws():
    """What two copies of the network make of the same pictures in two batches: their digests."""
    import hashlib

    import numpy as np
    import tensorflow as tf

    from helpers.training import devices
    from helpers.training.augment import Augment

    with devices.training_scope():
        layer = Augment(seeds=devices.Seeds(0, name="draws"))
        strategy = tf.distribute.get_strategy()
    pictures = np.zeros((8, 32, 32, 3), np.uint8)
    augment = tf.function(
        lambda: strategy.run(lambda: layer(pictures, training=True)), autograph=False
    )
    batches = [strategy.experimental_local_results(augment()) for _ in range(2)]
    return [hashlib.sha256(out.numpy().tobytes()).hexdigest() for both in batches for out in both]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    count, folder, on_jax = int(sys.argv[1]), sys.argv[2], os.environ["KERAS_BACKEND"] == "jax"
    if on_jax:
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
    else:
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        virtual = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        tf.config.set_logical_device_configuration(cpu, virtual)
    import keras

    assert len(keras.distribution.list_devices()) == count
    # On JAX the draws are those of the whole batch, however many devices share it.
    step = one_step(folder, shift=0.1, erase=0.5) if on_jax else one_step(folder)
    print("\n" + json.dumps({"step": step, "draws": None if on_jax else replicas_draws()}))
