"""What a training step costs, beside its floor, other input pipelines and the machine's arithmetic.

By hand, on an idle machine: python -m tests.benchmarks.training [--precision float32] [--steps 24]

The floor is the compiled step alone: same network, loss and optimizer, one batch that stays on the
device, no augmentation, input, metrics or log. A round runs every contestant once, in turn, so that
all share the machine's moods; ratios are taken within a round. Recipe COURSE, TensorFlow. Time does
not depend on what the pictures show: drawn ones are repeated.
"""

import argparse
import itertools
import logging
import time
from dataclasses import replace
from functools import cache

import keras
import numpy as np
import tensorflow as tf

from helpers import environment
from helpers.training import data, devices, resnet, trainer
from helpers.training.recipes import COURSE

FLOOR, BARE, OURS = "the step alone (floor)", "Trainer.fit, no augmentation", "Trainer.fit (ours)"
ARRAYS = "Keras' fit on arrays, no augmentation"
AUGMENT, GENERATOR, LAYERS = "Augment (ours)", "ImageDataGenerator", "Keras layers in tf.data"
GROWTH = {"batch_size": (32, 64, 128, 256, 512), "depth": (20, 56, 110)}
TRAINED_ON = 45_000


@cache
def pictures() -> data.Dataset:
    """As many as CIFAR-10 has to train on, in an order in which every slice has all classes."""
    few = data.synthetic(train=1000, test=10)
    order = np.random.default_rng(0).permutation(TRAINED_ON) % len(few.x_train)
    return replace(few, x_train=few.x_train[order], y_train=few.y_train[order])


def first(count):
    """The data set with so many pictures to train on, not copied."""
    whole = pictures()
    return replace(whole, x_train=whole.x_train[:count], y_train=whole.y_train[:count])


# --- Contestants: functions of a number of steps, returning when all of them are done ------------


def trainer_of(recipe, precision):
    return trainer.Trainer(recipe, 0, precision, -(-TRAINED_ON // recipe.batch_size))


def without_augmentation(recipe, precision):
    """The network the Trainer trains, fused layers and precision included, compiled by itself."""
    whole = trainer_of(recipe, precision)
    return whole._to_logits(whole.in_training, optimizer=whole.training_model.optimizer)


def floor(recipe, precision):
    model, batch = without_augmentation(recipe, precision), first(recipe.batch_size)
    pixels, targets = (
        tf.constant(batch.x_train),
        tf.constant(np.eye(10, dtype=np.float32)[batch.y_train]),
    )

    @tf.function(jit_compile=model.jit_compile, autograph=False)  # as Keras decides in fit
    def step():
        with tf.GradientTape() as tape:
            loss = model.loss(targets, model(pixels, training=True)) + sum(model.losses)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        return loss

    def run(steps):
        for _ in range(steps):
            loss = step()
        loss.numpy()

    return run


def ours(recipe, precision):
    whole = trainer_of(recipe, precision)

    def run(steps):
        whole.fit(first(steps * recipe.batch_size), 0, trainer._Progress("Epoch"))

    return run


def fit_arrays(recipe, precision, by_keras=False):
    """All that ours does but the augmentation: it separates what fit costs from what that costs.

    `by_keras` leaves the batches to Keras, which has tf.data tune itself, see `devices.batches`.
    """
    model, size = without_augmentation(recipe, precision), recipe.batch_size

    def run(steps):
        order = np.random.default_rng(0).permutation(steps * size)
        x, y = pictures().x_train[order], np.eye(10, dtype=np.float32)[pictures().y_train[order]]
        own = {"x": x, "y": y, "batch_size": size}
        arguments = own if by_keras else devices.batches(x, y, size)
        model.fit(**arguments, shuffle=False, verbose=0, callbacks=[trainer._Progress("Epoch")])

    return run


def fit_pipeline(recipe, precision, pipeline):
    """The network fed from outside; `pipeline` makes the epoch's batches from a number of steps."""
    model = without_augmentation(recipe, precision)
    return lambda steps: model.fit(pipeline(steps), shuffle=False, verbose=0)


def generator(recipe):
    """The assignment's: ImageDataGenerator over float32 pictures, its eraser one picture at a time.

    Keras' default of one worker thread; batches are made while the step before them runs.
    """
    noise_from = 255 * np.float32(resnet.PIXEL_MEAN)  # where noise stands after mean subtraction
    rng = np.random.default_rng(0)

    def erase(image):
        height, width, channels = image.shape
        if rng.random() >= recipe.erase:
            return image
        while True:  # until it fits
            area, aspect = rng.uniform(0.02, 0.4) * height * width, rng.uniform(0.3, 1 / 0.3)
            w, h = int(np.sqrt(area / aspect)), int(np.sqrt(area * aspect))
            left, top = rng.integers(width), rng.integers(height)
            if left + w <= width and top + h <= height:
                break
        image[top : top + h, left : left + w] = noise_from + rng.uniform(0, 255, (h, w, channels))
        return image

    augment = tf.keras.preprocessing.image.ImageDataGenerator(
        width_shift_range=recipe.shift,
        height_shift_range=recipe.shift,
        horizontal_flip=recipe.flip,
        preprocessing_function=erase,
    )
    dataset = pictures()
    x, y = dataset.x_train.astype(np.float32), np.eye(10, dtype=np.float32)[dataset.y_train]
    batch = recipe.batch_size
    return lambda steps: augment.flow(x[: steps * batch], y[: steps * batch], batch_size=batch)


def layers(recipe):
    """The same with Keras' own layers, on whole batches in tf.data, as many at once as it likes.

    RandomErasing draws its probability from a range, (p, p) makes it p; its rectangles (each side's
    share drawn, none needs a second draw) and its noise (normal, clipped) are of another kind.
    """
    erase = (recipe.erase, recipe.erase)
    chain = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomTranslation(recipe.shift, recipe.shift, fill_mode="nearest"),
        keras.layers.RandomErasing(erase, scale=(0.02, 0.4), value_range=(0, 255)),
    ]

    @tf.autograph.experimental.do_not_convert
    def augment(x, y):
        x = tf.cast(x, tf.float32)
        for layer in chain:
            x = layer(x, training=True)
        return x, y

    @cache  # the pictures become a tensor once, as for an epoch after the first
    def pipeline(steps):
        part = first(steps * recipe.batch_size)
        return (
            tf.data.Dataset.from_tensor_slices(
                (part.x_train, np.eye(10, dtype=np.float32)[part.y_train])
            )
            .shuffle(len(part.x_train))
            .batch(recipe.batch_size, drop_remainder=True)
            .map(augment, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )

    return pipeline


# --- Measuring -----------------------------------------------------------------------------------


def seconds(run, *arguments):
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def interleaved(runs, rounds):
    """Time `{name: (run, steps)}`; the first call of each, which compiles, does not count.

    Returns:
        {name: float (rounds,), seconds per step}.
    """
    for run, steps in runs.values():
        run(min(steps, 3))
    times, names = {name: [] for name in runs}, list(runs)
    for i in range(rounds):
        start = i % len(names)
        for name in names[start:] + names[:start]:
            run, steps = runs[name]
            times[name].append(seconds(run, steps) / steps)
    return {name: np.array(each) for name, each in times.items()}


def spread(values, digits=2):
    """Median and range."""
    return f"{np.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def tell_steps(recipe, precision, steps, rounds):
    """Table 1: everyone's seconds per step."""
    runs = {
        FLOOR: floor(recipe, precision),
        BARE: fit_arrays(recipe, precision),
        OURS: ours(recipe, precision),
        ARRAYS: fit_arrays(recipe, precision, by_keras=True),
        GENERATOR: fit_pipeline(recipe, precision, generator(recipe)),
        LAYERS: fit_pipeline(recipe, precision, layers(recipe)),
    }
    times = interleaved({name: (run, steps) for name, run in runs.items()}, rounds)
    print(f"\n{recipe.name}, {precision}, batches of {recipe.batch_size}: {rounds} rounds of")
    print(f"{steps} steps, median [range]\n\n{'':38}{'ms per step':26}/ floor")
    for name, each in times.items():
        print(f"{name:38}{spread(1e3 * each, 1):26}{spread(each / times[FLOOR])}", flush=True)


def tell_augmentation(recipe, batches, rounds):
    """Table 2: augmentation alone, batch after batch, nothing trained."""
    layer, pixels = trainer_of(recipe, "float32").augment, tf.constant(first(128).x_train)
    compiled = bool(environment.gpu_names())  # as Keras decides in fit
    augment = tf.function(
        lambda: layer(pixels, training=True), jit_compile=compiled, autograph=False
    )

    def batch_arithmetic(count):
        for _ in range(count):
            augmented = augment()
        augmented[0, 0, 0, 0].numpy()

    flow, pipeline = generator(recipe), layers(recipe)
    runs = {
        AUGMENT: batch_arithmetic,
        GENERATOR: lambda count: list(itertools.islice(flow(count), count)),
        LAYERS: lambda count: [None for _ in pipeline(count)],
    }
    times = interleaved({name: (run, batches) for name, run in runs.items()}, rounds)
    print(f"\nAugmentation alone\n\n{'':26}{'pictures per second':32}/ {GENERATOR}")
    for name, each in times.items():
        faster = spread(times[GENERATOR] / each)
        print(f"{name:26}{spread(recipe.batch_size / each, 0):32}{faster}", flush=True)


def multiply_adds(network):
    """Of one picture's forward pass: every convolution and dense layer, counted."""
    weighted = (keras.layers.Conv2D, keras.layers.Dense)
    return sum(
        int(np.prod(layer.output.shape[1:-1]) * np.prod(layer.kernel.shape))
        for layer in network.layers
        if isinstance(layer, weighted)
    )


def arithmetic_rate(precision):
    """Multiply-adds per second of a square matrix product in the same precision; best of five."""
    size, products = (4096, 50) if environment.gpu_names() else (2048, 2)
    noise = np.random.default_rng(0).normal(0, size**-0.5, (size, size))
    matrix = tf.cast(tf.constant(noise, "float32"), precision)

    @tf.function(autograph=False)
    def multiplied():
        product = matrix
        for _ in range(products):
            product = product @ matrix
        return tf.cast(product[0, 0], "float32")

    multiplied().numpy()
    return products * size**3 / min(seconds(lambda: multiplied().numpy()) for _ in range(5))


def tell_growth(recipe, precision, steps, rounds):
    """Table 3: a step by batch size and depth, beside what arithmetic alone would take."""
    rate = arithmetic_rate(precision)
    print(f"\nA matrix product in {precision}: {rate / 1e9:,.0f} G multiply-adds/s\n")
    print(f"{'':15}{'M multiply-adds':>17}{'ms by arithmetic':>18}   {OURS}, ms")
    for kind, sizes in GROWTH.items():
        recipes = {size: replace(recipe, **{kind: size}) for size in sizes}
        runs = {
            size: (ours(at, precision), max(2, steps * recipe.batch_size // at.batch_size))
            for size, at in recipes.items()
        }
        for size, each in interleaved(runs, rounds).items():
            forward = multiply_adds(resnet.resnet_v2(recipes[size].depth))
            least = 3 * recipes[size].batch_size * forward / rate  # backward counts twice
            print(f"{kind:11}{size:4}{forward / 1e6:17.1f}{1e3 * least:18.1f}", end="   ")
            print(spread(1e3 * each, 1), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=devices.PRECISIONS, default=devices.fastest())
    parser.add_argument("--steps", type=int, default=24, help="per round and contestant")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    logging.getLogger("tensorflow").setLevel("ERROR")  # a new graph per contestant is meant
    print(", ".join(environment.describe().values()))
    tell_steps(COURSE, options.precision, options.steps, options.rounds)
    tell_augmentation(COURSE, options.steps, options.rounds)
    tell_growth(COURSE, options.precision, options.steps // 3, options.rounds)


if __name__ == "__main__":
    main()
