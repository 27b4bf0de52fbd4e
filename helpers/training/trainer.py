"""The trainer: one readable line per epoch, checkpoints on improvement, resuming after any stop.

Randomness is a function of (seed, epoch), so a run that was stopped and started again ends like one
left alone. What it leaves in its folder is read by `helpers.training.runs`.
"""

import csv
import json
import os
import re
import sys
import time
import zipfile
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from reprlib import repr as short

import keras
import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from IPython.display import display

from helpers import environment, plots
from helpers.files import abandoned, replacing
from helpers.training import devices, optimizers
from helpers.training.augment import Augment
from helpers.training.data import Dataset
from helpers.training.recipes import MOST_SEED, Recipe, whole_number
from helpers.training.runs import (
    COLUMNS,
    PREDICTIONS,
    Run,
    build,
    checkpoint_name,
    epoch_line,
    epoch_lines,
    is_kept,
    open_run,
    read_log,
)

LOG = "training_log"  # in a state, beside the variables
STATES_KEPT = 2  # the newest, and the one before in case the newest is damaged


class Trainer:
    """A fresh network, the step that trains it, and one epoch at a time.

    Two networks hold the same weights: `in_training`, behind the augmentation and on the machine's
    fast paths, and `network`, which is validated and saved: plain Keras in float32, built when
    first asked for.

    Args:
        recipe, seed, precision: as for `train`.
        steps: per epoch.
    """

    def __init__(self, recipe: Recipe, seed: int, precision: str, steps: int):
        keras.utils.set_random_seed(seed)  # initial weights
        self.recipe, self.seed = recipe, seed
        rates = [recipe.rate(step / steps) for step in range(recipe.epochs * steps)]
        with devices.training_scope(precision) as batch_norm:
            self.augment = Augment(
                recipe.flip, recipe.shift, recipe.erase, recipe.whole_pixels, name="augment"
            )
            self.in_training = build(recipe.as_dict(), batch_norm=batch_norm)
            optimizer = optimizers.make(recipe, rates)
            self.training_model = self._to_logits(self.in_training, self.augment, optimizer)
            optimizer = self.training_model.optimizer  # in a loss scale, if 16 bits need one
            optimizer.build(self.training_model.trainable_variables)
        # All that training changes. Paths outlive a change of their order in Keras.
        variables = self.training_model.variables + optimizer.variables
        self.variables = {variable.path: variable for variable in variables}
        assert len(self.variables) == len(variables)

    @cached_property
    def network(self) -> keras.Model:
        network = build(self.recipe.as_dict())
        network.optimizer = None  # Keras' TensorBoard asks every model for it
        return network

    @cached_property
    def validation_model(self) -> keras.Model:
        return self._to_logits(self.network)

    def _to_logits(self, network, augment=None, optimizer=None):
        """The network up to its logits, behind the augmentation if any; compiled, weights shared.

        Kept apart from the network so that what is saved and explained is plain Keras.
        """
        model = keras.Model(network.input, network.get_layer("logits").output)
        if augment:
            pixels = keras.Input(network.input_shape[1:])
            model = keras.Model(pixels, model(augment(pixels)))
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=self.recipe.label_smoothing
        )
        accuracy = keras.metrics.CategoricalAccuracy(name="acc")  # named by a string, it would be
        model.compile(optimizer=optimizer, loss=loss, metrics=[accuracy])  # made in a second trace
        return model

    def fit(self, dataset: Dataset, epoch: int, *callbacks) -> tuple[float, float]:
        """Train one epoch, counted from 0; return its mean loss and accuracy."""
        self.augment.restart(self.seed, epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(dataset.x_train))
        x, y = dataset.x_train[order], _one_hot(dataset.y_train[order])
        history = self.training_model.fit(
            **devices.batches(x, y, self.recipe.batch_size),
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        ).history
        return history["loss"][0], history["acc"][0]

    def validate(self, dataset: Dataset) -> tuple[float, float]:
        """Hand the weights to `network`; return its loss and accuracy on the validation part."""
        self.network.set_weights(self.in_training.get_weights())
        batches = devices.batches(dataset.x_val, _one_hot(dataset.y_val))
        return tuple(self.validation_model.evaluate(**batches, verbose=0))


@contextmanager
def _enough_memory():
    """One error for the many ways in which backends say that memory ran out."""
    try:
        yield
    except Exception as error:
        told = f"{type(error).__name__} {error}"
        if not re.search("MemoryError|resource_?exhausted|out.of.memory", told, re.IGNORECASE):
            raise
        raise MemoryError(
            "The GPU or the machine ran out of memory. Restart the runtime, which frees what "
            "earlier cells hold, and run this again; or train with a smaller batch, "
            "dataclasses.replace(recipe, batch_size=64). Finished epochs are kept."
        ) from error


@_enough_memory()
def train(
    recipe: Recipe, dataset: Dataset, folder, seed: int = 0, epochs: int | None = None,
    precision: str | None = None, callbacks=(),
) -> Run:  # fmt: skip
    """Train a fresh network, or go on where the run in `folder` stopped.

    Args:
        recipe: how to train.
        dataset: trains on its training part; its validation part chooses the checkpoints. A recipe
            without hold-out trains on both, and the test part chooses.
        folder: the run's folder, made if missing.
        seed: of initial weights, order and augmentation.
        epochs: stop after so many, finished ones included; the recipe's number by default.
        precision: of the training step's arithmetic, "float32", "bfloat16" or "float16"; by default
            that of the run in `folder`, else the machine's fastest. Weights are kept, validated and
            saved as float32.
        callbacks: of Keras. They hear of the run and of its epochs, not of batches, and may stop
            it; their model is the network that is validated.

    Returns:
        The run. Every epoch's line is printed, also those finished earlier.

    Raises:
        ValueError: more epochs than the recipe's schedule has, or fewer than are done; no whole
            number for epochs or seed; an unknown precision; the folder holds a run of another
            recipe, seed, precision or data, or one that left no state to go on from.
        OSError: the folder, or an epoch, cannot be written; what was written before is intact.
        MemoryError: no memory left, on the GPU or off it.
    """
    folder, epochs = Path(folder), recipe.epochs if epochs is None else epochs
    if not str(epochs).isdecimal() or not 0 < int(epochs) <= recipe.epochs:
        raise ValueError(
            f"epochs = {epochs!r}: recipe {recipe.name} is laid out for 1 to {recipe.epochs}; "
            "recipe.with_epochs(epochs) lays it out anew."
        )
    epochs, seed = int(epochs), whole_number("seed", seed, 0, MOST_SEED)
    found = _settings_in(folder)
    precision = precision or found.get("precision") or devices.fastest()
    identity = {
        "recipe": recipe.as_dict(), "seed": seed, "precision": precision, "data": dataset.source,
    }  # fmt: skip
    _check_same_run(folder, found, identity)
    if not recipe.hold_out:
        dataset = dataset.without_hold_out()

    trainer = Trainer(recipe, seed, precision, -(-len(dataset.x_train) // recipe.batch_size))
    log = _restore(folder, trainer.variables)
    if len(log) > epochs:
        raise ValueError(
            f"{folder} holds {len(log)} finished epochs, more than epochs = {epochs}. Ask for "
            f"{len(log)} or more, or choose another run folder."
        )

    show, machine = _live_line(), environment.describe()
    print(*epoch_lines(log, epochs, identity["recipe"]), sep="\n", end="\n" if log else "")
    if log and len(log) < epochs:
        print(f"Going on after epoch {len(log)}, the last one in {folder.name}")
    listeners = keras.callbacks.CallbackList(
        list(callbacks), model=trainer.network, epochs=epochs, verbose=0
    )
    trainer.network.stop_training = False
    listeners.on_train_begin()
    for epoch in range(len(log), epochs):
        listeners.on_epoch_begin(epoch)
        started = time.perf_counter()
        loss, acc = trainer.fit(dataset, epoch, _Progress(show, f"Epoch {epoch + 1}/{epochs}"))
        val_loss, val_acc = trainer.validate(dataset)
        row = {
            "epoch": epoch + 1,
            "lr": recipe.rate(epoch + 0.5),
            "loss": loss,
            "acc": acc,
            "val_loss": val_loss,
            "val_acc": val_acc,
            "seconds": round(time.perf_counter() - started, 1),
        }
        _save(folder, identity, trainer, log, row, epochs, machine)
        print(epoch_line(row, _best(log), epochs, identity["recipe"]), flush=True)
        log.append(row)
        listeners.on_epoch_end(epoch, {key: row[key] for key in COLUMNS[1:-1]})
        if trainer.network.stop_training:
            break
    listeners.on_train_end()
    show(f"{len(log)} of {epochs} epochs done")
    return open_run(folder)


def _best(log) -> float:
    return max((row["val_acc"] for row in log), default=-np.inf)


def _one_hot(labels):
    return np.eye(10, dtype=np.float32)[labels]


def _settings_in(folder) -> dict:
    """What run.json in a folder tells of its settings; nothing for a new folder."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):  # told now, not after an epoch
        raise OSError(f"{folder} cannot be written. Choose another run folder.")
    if not (folder / "run.json").is_file():
        return {}
    try:  # the log may be damaged: the state holds it too, and the next epoch writes it anew
        return _settings(json.loads((folder / "run.json").read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / 'run.json'} is damaged ({error}), so the run cannot be told from another. "
            "Choose another run folder, or restore the file."
        ) from error


def _check_same_run(folder, found, identity):
    for key, value in _settings(identity).items():
        if found and found.get(key) != json.loads(json.dumps(value)):
            raise ValueError(
                f"{folder} holds a run with {key} = {found.get(key)}, not {value}. "
                "Choose another run folder, or the same settings to go on with that run."
            )


def _settings(info):
    """What run.json tells, the recipe's settings beside the others, "recipe" being its name."""
    return {**info, **info["recipe"], "recipe": info["recipe"]["name"]}


def _restore(folder, variables) -> list[dict]:
    """Set the variables, {path: variable}, to the newest state that can be read; return its log."""
    for path in abandoned(folder):
        path.unlink(missing_ok=True)
    for path in reversed(_states(folder)):
        try:
            with np.load(path, allow_pickle=False) as state:
                values = {name: state[name] for name in state.files}
                log = [dict(zip(COLUMNS, row)) for row in values.pop(LOG).tolist()]
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            print(f"{path.name} is damaged ({error}); trying the state before it")
            continue
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        if shapes != (saved := {name: value.shape for name, value in values.items()}):
            differing = sorted(name for name, _ in shapes.items() ^ saved.items())
            raise ValueError(
                f"{path} does not fit this network: {short(differing)} differ. Another version of "
                "Keras may have written it: go on with that one, or choose another run folder."
            )
        for name, variable in variables.items():
            variable.assign(values[name])
        return [{**row, "epoch": int(row["epoch"])} for row in log]
    if (folder / "training_log.csv").is_file():
        raise ValueError(
            f"{folder} holds a log but no state to go on from. Choose another run folder to train "
            "anew, or MODE = 'recorded' to look at a recorded run."
        )
    return []


def _save(folder, identity, trainer, log, row, epochs, machine):
    """Write what an epoch leaves behind; the state goes last and holds the log as well."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, identity, trainer, log, row, epochs, machine)
    except OSError as error:
        raise OSError(
            f"Epoch {row['epoch']} could not be written into {folder} ({error}). What was written "
            "before is intact: make room, or choose another run folder, and run this again."
        ) from error


def _write(folder, identity, trainer, log, row, epochs, machine):
    rows = [*log, row]
    if is_kept(row, _best(log), identity["recipe"]):
        with replacing(folder / checkpoint_name(identity["recipe"]["depth"], row["epoch"])) as path:
            trainer.network.save(path)
    with replacing(folder / "training_log.csv") as path, open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    info = {
        **identity, "epochs": epochs, "complete": len(rows) >= identity["recipe"]["epochs"],
        "seconds": round(sum(r["seconds"] for r in rows), 1), "environment": machine,
    }  # fmt: skip
    (folder / PREDICTIONS).unlink(missing_ok=True)  # they were an earlier epoch's
    with replacing(folder / "run.json") as path:
        path.write_text(json.dumps(info, indent=2) + "\n")
    with replacing(folder / f"state_{row['epoch']:03d}.npz") as path:
        values = {name: variable.numpy() for name, variable in trainer.variables.items()}
        values[LOG] = np.array([[row[key] for key in COLUMNS] for row in rows])
        with open(path, "wb") as file:
            np.savez(file, **values)
    for old in _states(folder)[:-STATES_KEPT]:
        old.unlink()


def _states(folder):
    """Oldest first; state_1000.npz comes after state_999.npz."""
    return sorted(folder.glob("state_*.npz"), key=lambda path: (len(path.name), path.name))


class _Progress(keras.callbacks.Callback):
    """Keeps one line moving while an epoch runs."""

    def __init__(self, show, title):
        super().__init__()
        self.show, self.title = show, title
        self.started = self.shown = time.monotonic()

    # Not on_train_batch_end: Keras would fetch the metrics for it, and the GPU wait at every step.
    def on_train_batch_begin(self, batch, logs=None):
        now = time.monotonic()
        if batch and now - self.shown > 2:
            self.shown = now
            share = batch / self.params["steps"]
            left = (now - self.started) * (1 - share) / share
            self.show(f"{self.title}: {share:.0%} of the pictures, {left:.0f}s left")


class LiveCurves(keras.callbacks.Callback):
    """Draws a run's accuracy and loss after every epoch, in one place of a notebook's output.

    Outside of a notebook it does nothing.

    Args:
        folder: the run's; its log also holds the epochs before an interruption.
    """

    def __init__(self, folder):
        super().__init__()
        self.log = Path(folder) / "training_log.csv"
        text = {"text/plain": "(curves after the first epoch)"}
        self.place = display(text, raw=True, display_id=True) if _in_notebook() else None

    def on_epoch_end(self, epoch, logs=None):
        if not self.place:
            return
        figure = plots.curves({"this run": read_log(self.log)})
        self.place.update(figure)
        plt.close(figure)


def _in_notebook() -> bool:
    return hasattr(get_ipython(), "kernel")


def _live_line():
    """A function that shows a line in place of the one before, in a notebook or terminal."""
    if _in_notebook():
        handle = display({"text/plain": "Training"}, raw=True, display_id=True)
        return lambda text: handle.update({"text/plain": text}, raw=True)
    if sys.stderr.isatty():
        return lambda text: print(f"\r{text:70}", end="\r", file=sys.stderr, flush=True)
    return lambda text: None
