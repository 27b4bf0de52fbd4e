"""What a training step costs, beside its floor, other input pipelines and the machine's arithmetic.

Run by hand on an idle machine: python tests/benchmarks/training.py [--explain] [--full]
Without options: A, the step, and B, augmentation alone. --explain adds C, the machine's arithmetic,
growth and memory; --full adds D, whole runs on a GPU.

The floor is the compiled step alone: same network, loss and optimizer, one batch that stays on the
device, no augmentation, input, metrics or log. A round runs every contestant once, in turn, so that
all share the machine's moods; ratios are taken within a round. Pictures are CIFAR-10 if at hand
(--data, CIFAR10_NPZ), else drawn ones repeated: time does not depend on what they show.
"""

import argparse
import itertools
import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import ops  # noqa: E402

from helpers import data, devices, resnet, runtime, training  # noqa: E402
from helpers.recipes import RECIPES  # noqa: E402

FLOOR, BARE, OURS = "the step alone (floor)", "Trainer.fit, no augmentation", "Trainer.fit (ours)"
ARRAYS = "Keras' fit on arrays, no augmentation"
AUGMENT, GENERATOR, LAYERS = "Augment (ours)", "ImageDataGenerator", "Keras layers in tf.data"
ONE_STEP, VALIDATE = "Trainer.fit, one step", "Trainer.validate"
TENSORFLOW = keras.backend.backend() == "tensorflow"
GROWTH = {"batch_size": (32, 64, 128, 256, 512), "depth": (20, 56, 110)}


# --- Pictures ------------------------------------------------------------------------------------


def pictures(source) -> data.Dataset:
    """45,000 to train on, 5,000 to validate on, shuffled once: a slice has all classes."""
    source = source or os.environ.get("CIFAR10_NPZ") or "synthetic"
    full = data.load(source) if source != "synthetic" else data.synthetic(train=1000, test=10)
    rng = np.random.default_rng(0)
    train, val = rng.permutation(45_000), rng.permutation(5_000)
    x, y, x_val, y_val = full.x_train, full.y_train, full.x_val, full.y_val
    return replace(
        full, x_train=x[train % len(x)], y_train=y[train % len(y)],
        x_val=x_val[val % len(x_val)], y_val=y_val[val % len(y_val)],
    )  # fmt: skip


def part(dataset, train, val=0):
    """The first so many pictures, without copying."""
    return replace(
        dataset, x_train=dataset.x_train[:train], y_train=dataset.y_train[:train],
        x_val=dataset.x_val[:val], y_val=dataset.y_val[:val],
    )  # fmt: skip


# --- Contestants: functions of a number of steps, returning when all of them are done ------------


def trainer_of(recipe, precision):
    return training.Trainer(recipe, 0, precision, -(-45_000 // recipe.batch_size))


def without_augmentation(recipe, precision):
    """The network the Trainer trains, fused layers and precision included, compiled by itself."""
    trainer = trainer_of(recipe, precision)
    return trainer._to_logits(trainer.in_training, optimizer=trainer.training_model.optimizer)


def floor(recipe, precision, dataset):
    model = without_augmentation(recipe, precision)
    step = step_tensorflow(model) if TENSORFLOW else step_jax(model)
    count = recipe.batch_size
    x = ops.convert_to_tensor(dataset.x_train[:count])
    y = ops.convert_to_tensor(training._one_hot(dataset.y_train[:count]))

    def run(steps):
        for _ in range(steps):
            loss = step(x, y)
        wait(loss)

    return run


def step_tensorflow(model):
    import tensorflow as tf

    @tf.function(jit_compile=model.jit_compile, autograph=False)  # as Keras decides in fit
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = model.loss(y, model(x, training=True)) + sum(model.losses)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        return loss

    return step


def step_jax(model):
    import jax

    optimizer = model.optimizer

    def objective(weights, others, slots, x, y):
        logits, others, penalties = model.stateless_call(
            weights, others, x, training=True, return_losses=True
        )
        loss = model.loss(y, logits) + sum(penalties)
        with keras.StatelessScope(state_mapping=list(zip(optimizer.variables, slots))):
            return optimizer.scale_loss(loss), others

    def step(state, x, y):
        weights, others, slots = state
        gradient_of = jax.value_and_grad(objective, has_aux=True)
        (loss, others), gradients = gradient_of(weights, others, slots, x, y)
        weights, slots = optimizer.stateless_apply(slots, gradients, weights)
        return (weights, others, slots), loss

    step = jax.jit(step, donate_argnums=0)
    kinds = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    state = tuple([variable.value for variable in kind] for kind in kinds)

    def advance(x, y):
        nonlocal state
        state, loss = step(state, x, y)
        return loss

    return advance


def ours(trainer, dataset):
    def run(steps):
        progress = training._Progress(lambda text: None, "Epoch")
        trainer.fit(part(dataset, steps * trainer.recipe.batch_size), 0, progress)

    return run


def fit_arrays(recipe, precision, dataset, by_keras=False):
    """All that ours does but the augmentation: it separates what fit costs from what that costs.

    `by_keras` leaves the batches to Keras, which has tf.data tune itself, see `devices.batches`.
    """
    model, batch = without_augmentation(recipe, precision), recipe.batch_size

    def run(steps):
        order = np.random.default_rng(0).permutation(steps * batch)
        x, y = dataset.x_train[order], training._one_hot(dataset.y_train[order])
        given = {"x": x, "y": y, "batch_size": batch} if by_keras else devices.batches(x, y, batch)
        progress = training._Progress(lambda text: None, "Epoch")
        model.fit(**given, shuffle=False, verbose=0, callbacks=[progress])

    return run


def fit_pipeline(recipe, precision, pipeline):
    """The network fed from outside; `pipeline` makes the epoch's batches from a number of steps."""
    model = without_augmentation(recipe, precision)
    return lambda steps: model.fit(pipeline(steps), shuffle=False, verbose=0)


def generator(recipe, dataset):
    """The assignment's: ImageDataGenerator over float32 pictures, its eraser one picture at a time.

    Keras' default of one worker thread; batches are made while the step before them runs.
    """
    import tensorflow as tf

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
        width_shift_range=recipe.shift, height_shift_range=recipe.shift,
        horizontal_flip=recipe.flip, preprocessing_function=erase if recipe.erase else None,
    )  # fmt: skip
    x, y = dataset.x_train.astype(np.float32), training._one_hot(dataset.y_train)
    batch = recipe.batch_size
    return lambda steps: augment.flow(x[: steps * batch], y[: steps * batch], batch_size=batch)


def layers(recipe, dataset):
    """The same with Keras' own layers, on whole batches in tf.data, as many at once as it likes.

    RandomErasing draws its probability from a range, (p, p) makes it p; its rectangles (each side's
    share drawn, none needs a second draw) and its noise (normal, clipped) are of another kind.
    """
    import tensorflow as tf

    chain = [keras.layers.RandomFlip("horizontal")] if recipe.flip else []
    chain.append(
        keras.layers.RandomTranslation(
            recipe.shift, recipe.shift, fill_mode="nearest",
            interpolation="nearest" if recipe.whole_pixels else "bilinear",
        )
    )  # fmt: skip
    if recipe.erase:
        erase, scale = (recipe.erase, recipe.erase), (0.02, 0.4)
        chain.append(keras.layers.RandomErasing(erase, scale=scale, value_range=(0, 255)))

    @tf.autograph.experimental.do_not_convert
    def augment(x, y):
        x = tf.cast(x, tf.float32)
        for layer in chain:
            x = layer(x, training=True)
        return x, y

    @cache  # the pictures become a tensor once, as for an epoch after the first
    def pipeline(steps):
        n = steps * recipe.batch_size
        return (
            tf.data.Dataset.from_tensor_slices(
                (dataset.x_train[:n], training._one_hot(dataset.y_train[:n]))
            )
            .shuffle(n)
            .batch(recipe.batch_size, drop_remainder=True)
            .map(augment, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )

    return pipeline


# --- Measuring -----------------------------------------------------------------------------------


@cache
def on_gpu():
    return bool(runtime.gpu_names())


def wait(tensor):
    """Until the device has computed it."""
    ops.convert_to_numpy(ops.cast(tensor, "float32"))  # NumPy knows no bfloat16


def seconds(run, *arguments):
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def interleaved(runs, rounds):
    """Time `{name: (run, steps)}`; the first call of each, which compiles, does not count.

    Returns:
        {name: seconds per step, one for each round}.
    """
    for run, steps in runs.values():
        run(min(steps, 3))
    times, names = {name: [] for name in runs}, list(runs)
    for i in range(rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            run, steps = runs[name]
            times[name].append(seconds(run, steps) / steps)
    return times


def step_times(recipe, precision, dataset, steps, rounds):
    """Part A: everyone's seconds per step, for one recipe, batch size and precision."""
    trainer = trainer_of(recipe, precision)
    validated = part(dataset, 0, min(5_000, max(1_024, steps * recipe.batch_size // 9)))
    runs = {
        FLOOR: (floor(recipe, precision, dataset), steps),
        BARE: (fit_arrays(recipe, precision, dataset), steps),
        ARRAYS: (fit_arrays(recipe, precision, dataset, by_keras=True), steps),
        OURS: (ours(trainer, dataset), steps),
        ONE_STEP: (ours(trainer, dataset), 1),
        VALIDATE: (lambda _: trainer.validate(validated), 1),
    }
    if TENSORFLOW:
        for name, pipeline in ((GENERATOR, generator), (LAYERS, layers)):
            run = fit_pipeline(recipe, precision, pipeline(recipe, dataset))
            runs[name] = (run, steps)
    times = {name: np.array(values) for name, values in interleaved(runs, rounds).items()}
    whole, one = steps * times[OURS], times.pop(ONE_STEP)
    fixed = one - (whole - one) / (steps - 1)  # one step = fixed + step, n steps = fixed + n steps
    validate = times.pop(VALIDATE) / len(validated.x_val) * 1000
    return {
        "recipe": recipe.name, "precision": precision, "batch": recipe.batch_size, "steps": steps,
        "seconds_per_step": {name: list(values) for name, values in times.items()},
        "fixed_seconds_of_fit": list(fixed), "validate_seconds_per_1000": list(validate),
    }  # fmt: skip


def augmentation_rates(recipe, dataset, batches, rounds):
    """Part B: pictures per second of augmentation alone, batch after batch, nothing trained."""
    layer = trainer_of(recipe, "float32").augment
    augment = jitted_tensorflow(layer) if TENSORFLOW else jitted_jax(layer)
    x = ops.convert_to_tensor(dataset.x_train[: recipe.batch_size])

    def batch_arithmetic(batches):
        for _ in range(batches):
            out = augment(x)
        wait(out[0, 0, 0, 0])

    runs = {AUGMENT: (batch_arithmetic, batches)}
    if TENSORFLOW:
        flow, pipeline = generator(recipe, dataset), layers(recipe, dataset)
        runs[GENERATOR] = (lambda n: [None for _ in itertools.islice(flow(n), n)], batches)
        runs[LAYERS] = (lambda n: [None for _ in pipeline(n)], batches)
    times = interleaved(runs, rounds)
    rates = {name: list(recipe.batch_size / np.array(each)) for name, each in times.items()}
    return {"recipe": recipe.name, "batch": recipe.batch_size, "pictures_per_second": rates}


def jitted_tensorflow(layer):
    """A layer in training, compiled as fit compiles it."""
    import tensorflow as tf

    return tf.function(lambda x: layer(x, training=True), jit_compile=on_gpu(), autograph=False)


def jitted_jax(layer):
    import jax

    step = jax.jit(lambda state, x: layer.stateless_call([], state, x, training=True))
    state = [variable.value for variable in layer.non_trainable_variables]

    def run(x):
        nonlocal state
        out, state = step(state, x)
        return out

    return run


# --- Part C: what the machine could do, and growth -----------------------------------------------


def multiply_adds(network):
    """Of one picture's forward pass: every convolution and dense layer, counted."""
    weighted = (keras.layers.Conv2D, keras.layers.Dense)
    return sum(
        int(np.prod(layer.output.shape[1:-1]) * np.prod(layer.kernel.shape))
        for layer in network.layers
        if isinstance(layer, weighted)
    )


def activations_moved(network):
    """Numbers that one picture's step moves between memory and processor, estimated.

    Forward, a convolution reads its input and writes its output; backward it reads both again (the
    output as gradient) and writes the input's gradient. Batch normalisation, its ReLU included,
    needs one more pass over what it reads each way; an addition moves three activations each way.
    Weights and caches are left out: a floor for kernels that are fused no further than this.
    """
    total = 0
    for layer in network.layers:
        size = int(np.prod(layer.output.shape[1:]))
        if isinstance(layer, keras.layers.Conv2D):
            total += 3 * int(np.prod(layer.input.shape[1:])) + 2 * size
        elif isinstance(layer, keras.layers.BatchNormalization):
            total += (3 + 5) * size
        elif isinstance(layer, keras.layers.Add):
            total += (3 + 3) * size
    return total


def best_time(function, x, calls):
    """Seconds of one call, each working on the result of the one before; best of five."""
    if TENSORFLOW:
        import tensorflow as tf

        function = tf.function(function, autograph=False)
    else:
        import jax

        function = jax.jit(function)

    def run(calls):
        value = x
        for _ in range(calls):
            value = function(value)
        wait(value[0, 0])

    run(2)
    return min(seconds(run, calls) for _ in range(5)) / calls


def arithmetic_rate(precision):
    """Multiply-adds per second of a square matrix product: same precision, backend, defaults."""
    n, calls = (4096, 50) if on_gpu() else (2048, 2)
    noise = np.random.default_rng(0).normal(0, n**-0.5, (n, n))  # products keep their scale
    matrix = ops.cast(ops.convert_to_tensor(noise, "float32"), precision)
    return n**3 / best_time(lambda x: ops.matmul(x, matrix), matrix, calls)


def memory_rate(rows=2**14):
    """Bytes per second of adding 1 to a gigabyte of float32, each byte read and written."""
    x = ops.zeros((rows, 2**14), "float32")
    return 2 * 4 * rows * 2**14 / best_time(lambda x: x + 1, x, 20)


def explained(recipe, precision, dataset, peaks, settings):
    """Part C: a row per batch size and depth, everyone over the same number of pictures."""
    rate, rows = arithmetic_rate(precision), []
    bandwidth = memory_rate() if on_gpu() else None  # a CPU holds much of this in its caches
    for kind, sizes in GROWTH.items():
        runs = {}
        for size in sizes:
            at = replace(recipe, **{kind: size})
            steps = max(2, settings.growth_pictures // at.batch_size)
            runs[FLOOR, size] = (floor(at, precision, dataset), steps)
            runs[OURS, size] = (ours(trainer_of(at, precision), dataset), steps)
        times = interleaved(runs, settings.growth_rounds)
        for size in sizes:
            at = replace(recipe, **{kind: size})
            network = resnet.resnet_v2(at.depth)
            multiplied, bits = multiply_adds(network), 32 if precision == "float32" else 16
            moved = activations_moved(network) * bits // 8
            rows.append({
                "kind": kind, "size": size, "batch": at.batch_size,
                "multiply_adds": multiplied, "bytes_moved": moved,
                "by_memory": at.batch_size * moved / bandwidth if bandwidth else None,
                "peak_megabytes": peaks[kind, size],
                "seconds_per_step": {name: times[name, size] for name in (FLOOR, OURS)},
            })  # fmt: skip
    trainer = trainer_of(recipe, precision)

    whole = {n: n // recipe.batch_size * recipe.batch_size for n in settings.pictures}
    trainer.fit(part(dataset, recipe.batch_size), 0)  # compiles
    epochs = {n: [seconds(trainer.fit, part(dataset, whole[n]), 0)] for n in whole}
    rate = max(rate, arithmetic_rate(precision))  # what the machine can do, at the start or now
    for row in rows:  # the backward pass counts twice the forward pass
        row["by_arithmetic"] = 3 * row["batch"] * row["multiply_adds"] / rate
    return {
        "recipe": recipe.name, "precision": precision, "batch": recipe.batch_size,
        "multiply_adds_per_second": rate, "bytes_per_second": bandwidth, "rows": rows,
        "epochs": [{"pictures": n, "seconds": each} for n, each in epochs.items()],
    }  # fmt: skip


def peak_memory(recipe, precision, kind, size):
    """Megabytes at most during two steps, in a process of its own: a peak never comes down."""
    command = [sys.executable, __file__, "--peak", recipe.name, precision, kind, str(size)]
    # Take no more of a GPU than needed; the peak counts what is in use, not what is reserved.
    lean = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **lean})
    if done.returncode == 0:
        return float(done.stdout)
    print(f"Peak memory of {kind} {size} is unknown: {done.stderr.strip().splitlines()[-1]}")
    return None


def peak_here(name, precision, kind, size):
    """On a GPU the backend's peak; else how far the process grew since before the network."""
    recipe = replace(RECIPES[name], **{kind: int(size)})
    rng, n = np.random.default_rng(0), 2 * recipe.batch_size
    x, y = rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n)
    before = resident("VmRSS")
    trainer_of(recipe, precision).fit(data.Dataset(x, y, x, y, x, y, data.CLASS_NAMES, ""), 0)
    if not on_gpu():
        return (resident("VmHWM") - before) / 1e3
    if TENSORFLOW:
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6
    import jax

    return jax.devices()[0].memory_stats()["peak_bytes_in_use"] / 1e6


def resident(key):
    """Kilobytes of this process in memory, now (VmRSS) or at most (VmHWM); Linux."""
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0])


# --- Part D --------------------------------------------------------------------------------------


def whole_run(recipe, precision, dataset):
    """Trainer.fit and validate, epoch by epoch, without the run's folder.

    Compiling comes first and is timed apart: one batch of each size that will come up (the last one
    of an epoch is smaller), after which all variables get their first values again.
    """
    trainer = trainer_of(recipe, precision)
    first = [variable.numpy() for variable in trainer.variables]
    few = part(dataset, *(b + n % b for n, b in ((45_000, recipe.batch_size), (5_000, 256))))
    compiling = seconds(lambda: (trainer.fit(few, 0), trainer.validate(few)))
    for variable, value in zip(trainer.variables, first):
        variable.assign(value)
    fits, validations, scores = [], [], []
    for epoch in range(recipe.epochs):
        fits.append(seconds(trainer.fit, dataset, epoch))
        validations.append(seconds(lambda: scores.append(trainer.validate(dataset)[1])))
    return {
        "recipe": recipe.name, "precision": precision, "epochs": recipe.epochs,
        "compile_seconds": compiling, "fit_seconds": fits, "validate_seconds": validations,
        "val_acc": scores,
    }  # fmt: skip


# --- Telling -------------------------------------------------------------------------------------


def spread(values, digits=2):
    """Median and range."""
    values = np.asarray(values)
    return f"{np.median(values):.{digits}f} [{values.min():.{digits}f}, {values.max():.{digits}f}]"


def tell_steps(result):
    times = {name: np.array(each) for name, each in result["seconds_per_step"].items()}
    start, validate = result["fixed_seconds_of_fit"], result["validate_seconds_per_1000"]
    print(
        f"\n{result['recipe']}, {result['precision']}, batch {result['batch']}: "
        f"{len(start)} rounds of {result['steps']} steps, median [range]\n\n"
        f"{'':38}{'ms per step':26}{'/ floor':24}pictures per second"
    )
    for name in sorted(times, key=lambda name: np.median(times[name])):
        each, ratio = times[name], spread(times[name] / times[FLOOR], 3)
        rate = result["batch"] / np.median(each)
        print(f"{name:38}{spread(1e3 * each, 1):26}{ratio:24}{rate:,.0f}")
    print(
        f"Start of a fit: {spread(start, 3)} s, included above, shared by {result['steps']} steps"
        f"\n{VALIDATE}: {spread(validate, 3)} s per 1,000 pictures"
    )


def tell_augmentation(result):
    rates = {name: np.array(each) for name, each in result["pictures_per_second"].items()}
    print(f"\nAugmentation alone, {result['recipe']}, batch {result['batch']}\n")
    print(f"{'':30}{'pictures per second':32}/ {GENERATOR}")
    for name, each in rates.items():
        ratio = spread(each / rates[GENERATOR]) if GENERATOR in rates else "-"
        print(f"{name:30}{spread(each, 0):32}{ratio}")


def tell_explained(explain):
    """The step against the machine, and how it grows."""
    first, bandwidth = explain["rows"][0], explain["bytes_per_second"]
    print(
        f"\nExplained, {explain['recipe']}, {explain['precision']}\n\n"
        f"{first['multiply_adds'] / 1e6:.2f} M multiply-adds per picture forward, three times that "
        f"in a step; a matrix product here: {explain['multiply_adds_per_second'] / 1e9:,.0f} G/s"
    )
    if bandwidth:
        moved = first["bytes_moved"] / 1e6
        print(f"{moved:.1f} MB moved per picture (estimate), {bandwidth / 1e9:,.0f} GB/s here")
    print(f"\n{'':16}{'ms by arithmetic':>17}{'by memory':>11}", end="")
    print("".join(f"{name:>25} (share)" for name in (FLOOR, OURS)) + f"{'peak MB':>9}")
    for row in explain["rows"]:
        moved, peak = row["by_memory"], row["peak_megabytes"]
        print(f"{row['kind']:11}{row['size']:5}{1e3 * row['by_arithmetic']:17.2f}", end="")
        print(f"{1e3 * moved:11.2f}" if moved else f"{'-':>11}", end="")
        for name in (FLOOR, OURS):
            spent = np.median(row["seconds_per_step"][name])
            print(f"{1e3 * spent:25.1f} ({row['by_arithmetic'] / spent:6.1%})", end="")
        print(f"{peak:9,.0f}" if peak else f"{'-':>9}")
    for each in explain["epochs"]:
        print(f"Epoch of {each['pictures']:6,} pictures: {spread(each['seconds'])} s")


def tell_run(run):
    fit, validate = sum(run["fit_seconds"]), sum(run["validate_seconds"])
    compiling = run["compile_seconds"]
    print(
        f"\n{run['recipe']}, {run['precision']}: {run['epochs']} epochs in {fit + validate:.1f} s "
        f"({fit:.1f} fit, {validate:.1f} validate) after {compiling:.1f} s of compiling, "
        f"validation accuracy {run['val_acc'][-1]:.2%}"
    )


# --- The figure ----------------------------------------------------------------------------------

COLORS = {
    FLOOR: "#777777", BARE: "#86bbd8", OURS: "#0b63a5", ARRAYS: "#b0a99f", AUGMENT: "#0b63a5", GENERATOR: "#d1702a",
    LAYERS: "#c9a227",
}  # fmt: skip


def draw(results, path):
    """A step and its rivals; its growth; augmentation alone, or growth with depth."""
    import matplotlib.pyplot as plt

    from helpers import plots

    plt.rcParams.update(plots.STYLE)
    explain, panels = results.get("explain"), [draw_steps]
    if explain:
        panels.append(draw_growth)
    if len(results["augmentation"][0]["pictures_per_second"]) > 1:
        panels.append(draw_augmentation)
    elif explain:
        panels.append(lambda axis, results: draw_growth(axis, results, "depth"))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.75 * len(panels), 3.7), layout="constrained", squeeze=False
    )
    for panel, axis in zip(panels, axes[0]):
        panel(axis, results)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def bars(axis, values, unit):
    """Medians with their ranges; beside each the median ratio to `unit`."""
    names = [name for name in COLORS if name in values][::-1]
    middle, low, high = (
        np.array([pick(values[name]) for name in names]) for pick in (np.median, np.min, np.max)
    )
    axis.barh(
        range(len(names)), middle, 0.62, color=[COLORS[name] for name in names],
        xerr=(middle - low, high - middle), error_kw={"ecolor": "#222222", "lw": 1, "capsize": 2},
    )  # fmt: skip
    for row, name in enumerate(names):
        ratio = np.median(np.array(values[name]) / np.array(values[unit]))
        axis.annotate(
            f"{ratio:.2f}x", (high[row], row), (4, 0), textcoords="offset points", va="center"
        )
    axis.set_yticks(range(len(names)), [broken(name) for name in names])
    axis.set_xlim(0, 1.3 * high.max())
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)


def broken(name):
    """In two lines."""
    return name.replace(", ", ",\n").replace(" (", "\n(").replace(" in ", "\nin ")


def draw_steps(axis, results):
    result = results["steps"][0]
    times = result["seconds_per_step"].items()
    bars(axis, {name: 1e3 * np.array(each) for name, each in times}, FLOOR)
    axis.set_xlabel("ms per step; label: times the floor")
    axis.set_title(f"One step of {result['batch']} pictures", loc="left")


def draw_growth(axis, results, kind="batch_size"):
    from matplotlib.ticker import LogLocator

    rows = [row for row in results["explain"]["rows"] if row["kind"] == kind]
    sizes = [row["size"] for row in rows]
    for name, marker in ((OURS, "o"), (FLOOR, "s")):
        middle = [1e3 * np.median(row["seconds_per_step"][name]) for row in rows]
        axis.plot(sizes, middle, marker=marker, ms=4, color=COLORS[name], label=name)
    for key, style in (("by_arithmetic", "--"), ("by_memory", ":")):
        if rows[0][key]:
            label = f"at least, {key.replace('_', ' ')}"
            axis.plot(sizes, [1e3 * row[key] for row in rows], style, color="black", label=label)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(sizes, sizes)
    axis.minorticks_off()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_xlabel(kind.replace("_", " "))
    axis.set_ylabel("ms per step")
    axis.set_title(f"A step by {kind.replace('_', ' ')}", loc="left")
    axis.legend(fontsize=8, frameon=False)


def draw_augmentation(axis, results):
    rates = results["augmentation"][0]["pictures_per_second"].items()
    bars(axis, {name: np.array(each) / 1e3 for name, each in rates}, GENERATOR)
    axis.set_xlabel("1,000 pictures per second")
    axis.set_title("Augmentation alone", loc="left")


# --- All of it -----------------------------------------------------------------------------------


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--recipe", nargs="+", choices=("course", "modern"), default=["course"])
    add("--precision", nargs="+", choices=devices.PRECISIONS, default=[devices.fastest()])
    add("--batch", type=int, nargs="+", help="128; on a GPU 128 and 512")
    add("--rounds", type=int, default=7)
    add("--steps", type=int, help="per round and contestant; 40, on a GPU an epoch")
    add("--data", help="an .npz of CIFAR-10, or synthetic; time is the same")
    add("--explain", action="store_true", help="part C, for the first recipe and precision")
    add("--growth-rounds", type=int, default=3, help="of C")
    add("--growth-pictures", type=int, help="per row and round of C; 1024, on a GPU 45000")
    add("--pictures", type=int, nargs="+", default=[10_000, 25_000, 45_000], help="per epoch of C")
    add("--full", action="store_true", help="part D: both recipes, whole; for a GPU")
    add("--epochs", type=int, default=50, help="of D")
    add("--out", type=Path, default=ROOT / "build/bench_training", help="without .json, .png")
    add("--draw", action="store_true", help="only draw the figure of what --out holds")
    add("--peak", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def bench(settings):
    """Every part that was asked for, each written and told when it is done."""
    recipes, precisions = [RECIPES[name] for name in settings.recipe], settings.precision
    peaks = {}
    if settings.explain:  # before this process takes the GPU's memory
        for kind, sizes in GROWTH.items():
            for size in sizes:
                peaks[kind, size] = peak_memory(recipes[0], precisions[0], kind, size)
    gpu, here, dataset = on_gpu(), runtime.environment(), pictures(settings.data)
    settings.batch = settings.batch or ([128, 512] if gpu else [128])
    settings.growth_pictures = settings.growth_pictures or (45_000 if gpu else 1_024)
    results = {
        "environment": here, "data": dataset.source, "seed": 0,
        "settings": {**vars(settings), "out": settings.out.name, "data": None},
        "steps": [], "augmentation": [], "full": [],
    }  # fmt: skip
    print(f"ResNet20v2, {', '.join(here[key] for key in ('device', 'backend'))}, {dataset.source}")
    logging.getLogger("tensorflow").setLevel("ERROR")  # a new graph per contestant is meant
    if not TENSORFLOW:
        print(f"{GENERATOR} and {LAYERS} need TensorFlow: left out.")

    def done(tell, result):
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        settings.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
        tell(result)
        sys.stdout.flush()

    def steps_of(recipe):
        return settings.steps or (45_000 // recipe.batch_size if gpu else 40)

    for recipe, precision, batch in itertools.product(recipes, precisions, settings.batch):
        at = replace(recipe, batch_size=batch)
        result = step_times(at, precision, dataset, steps_of(at), settings.rounds)
        results["steps"].append(result)
        done(tell_steps, result)
    for recipe in recipes:
        result = augmentation_rates(recipe, dataset, steps_of(recipe), settings.rounds)
        results["augmentation"].append(result)
        done(tell_augmentation, result)
    if settings.explain:
        results["explain"] = explained(recipes[0], precisions[0], dataset, peaks, settings)
        done(tell_explained, results["explain"])
    for name, precision in itertools.product(("course", "modern"), precisions * settings.full):
        result = whole_run(RECIPES[name].with_epochs(settings.epochs), precision, dataset)
        results["full"].append(result)
        done(tell_run, result)
    return results


if __name__ == "__main__":
    settings = options()
    if settings.peak:
        print(peak_here(*settings.peak))
    else:
        stored = settings.out.with_suffix(".json")
        results = json.loads(stored.read_text()) if settings.draw else bench(settings)
        draw(results, settings.out.with_suffix(".png"))
