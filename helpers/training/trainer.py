"""The trainer: a line per epoch, checkpoints on improvement, resuming after any stop.

Randomness is a function of (seed, epoch): a run that was stopped and started again ends like one
left alone. An epoch's state is written first; all else in the folder is made from that.
"""

import json
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from helpers import environment
from helpers.files import RECORDED, replacing, writing
from helpers.training import devices, faults, hints, optimizers
from helpers.training.augment import Augment
from helpers.training.data import Dataset
from helpers.training.recipes import MOST_SEED, Recipe, whole_number
from helpers.training.runs import COLUMNS, PREDICTIONS, Run, build, open_run, read_info

# In a state_{epoch:03d}.npz, beside the variables: log (epochs, 7), text, bytes of a checkpoint.
LOG, INFO, CHECKPOINT = "training_log", "run.json", "checkpoint"


class Trainer:
    """A fresh network and the step that trains it.

    Two networks hold the same weights: `in_training`, on the machine's fast paths, and `network`,
    plain Keras in float32, which is validated and saved.
    """

    def __init__(self, recipe: Recipe, seed: int, precision: str, steps: int, classes: int = 10):
        keras.utils.set_random_seed(seed)  # initial weights
        self.recipe, self.seed, self.one_hot = recipe, seed, np.eye(classes, dtype=np.float32)
        rates = [recipe.rate(step / steps) for step in range(recipe.epochs * steps)]
        with devices.training_scope(precision) as batch_norm:
            self.augment = Augment(recipe.flip, recipe.shift, recipe.erase, recipe.whole_pixels)
            self.in_training = build(asdict(recipe), batch_norm=batch_norm, classes=classes)
            optimizer = optimizers.make(recipe, rates)
            self.training_model = self._to_logits(self.in_training, self.augment, optimizer)
            optimizer = self.training_model.optimizer  # in a loss scale, if 16 bits need one
            optimizer.build(self.training_model.trainable_variables)
        self.network = build(asdict(recipe), classes=classes)
        self.validation_model = self._to_logits(self.network)
        # All that training changes. Paths outlive a change of their order in Keras.
        variables = self.in_training.variables + self.augment.variables  # not a teacher's
        self.variables = {v.path: v for v in variables + optimizer.variables}

    def _to_logits(self, network, augment=None, optimizer=None):
        """The network up to its logits, behind the augmentation if any; compiled."""
        model = keras.Model(network.input, network.get_layer("logits").output)
        if augment:
            pixels = keras.Input(network.input_shape[1:])
            seen, teacher = augment(pixels), self.recipe.teacher
            logits = hints.logits(network, seen, teacher) if teacher else model(seen)
            model = keras.Model(pixels, logits)
        smoothing = self.recipe.label_smoothing
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
        accuracy = keras.metrics.CategoricalAccuracy(name="acc")  # named by a string, it would be
        model.compile(optimizer=optimizer, loss=loss, metrics=[accuracy])  # made in a second trace
        return model

    def fit(self, dataset: Dataset, epoch: int, *callbacks) -> tuple[float, float]:
        """Train one epoch, counted from 0; return its mean loss and accuracy."""
        self.augment.restart(self.seed, epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(dataset.x_train))
        x = dataset.x_train[order]  # (N, 32, 32, 3)
        y = self.one_hot[dataset.y_train[order]]  # (N, classes)
        batches = devices.batches(x, y, self.recipe.batch_size)
        options = {"shuffle": False, "verbose": 0, "callbacks": list(callbacks)}
        history = self.training_model.fit(**batches, **options).history
        return history["loss"][0], history["acc"][0]

    def validate(self, dataset: Dataset) -> tuple[float, float]:
        """Hand the weights to `network`; return its validation loss and accuracy."""
        self.network.set_weights(self.in_training.get_weights())
        batches = devices.batches(dataset.x_val, self.one_hot[dataset.y_val])
        return tuple(self.validation_model.evaluate(**batches, verbose=0))


def train(recipe, dataset, folder, seed=0, epochs=None, precision=None, callbacks=()) -> Run:
    """Train a fresh network, or go on where the run in `folder` stopped; print a line per epoch.

    Takes a Recipe, a Dataset, the seed of initial weights, order and augmentation, the number of
    epochs to stop after, finished ones included (the recipe's), one of `devices.PRECISIONS` (that
    of the run, else the fastest), and Keras callbacks, whose model is the validated network.

    Raises ValueError for a number out of range, or a folder with other settings or without a state
    to go on from; OSError, FileExistsError where it cannot be written: epochs before are intact.
    """
    folder = Path(folder)
    epochs = whole_number("epochs", recipe.epochs if epochs is None else epochs, 1, recipe.epochs)
    seed = whole_number("seed", seed, 0, MOST_SEED)
    run, values = _newest_state(folder)
    before, rows = (run.info, run.log.to_dict("records")) if run else ({}, [])
    precision = precision or before.get("precision") or devices.fastest()
    identity = {"recipe": asdict(recipe), "seed": seed, "precision": precision}
    identity |= {"data": dataset.source, "class_names": list(dataset.class_names)}
    if run:
        _require_same(folder, before, identity)
    elif (folder / "run.json").exists() or (folder / "training_log.csv").exists():
        what = f"{folder} holds a run but no state to go on from."
        raise ValueError(f"{what} Choose another run folder to train anew.")
    if recipe.teacher:
        open_run(RECORDED / recipe.teacher).require_classes(dataset)
    with writing(folder):  # told now, not after an epoch
        folder.mkdir(parents=True, exist_ok=True)
    dataset = dataset if recipe.hold_out else dataset.without_hold_out()
    dataset = faults.plant(dataset, recipe.fault, seed)
    steps = -(-len(dataset.x_train) // recipe.batch_size)
    trainer = Trainer(recipe, seed, precision, steps, len(dataset.class_names))
    if run:
        for path, variable in trainer.variables.items():
            variable.assign(values[path])
        _publish(run, values)  # a file may be lost, or a kill have come in between
        print(*Run(folder, run.log, {**before, "epochs": epochs}).lines(), sep="\n")
        if len(rows) < epochs:
            print(f"Going on after epoch {len(rows)}, the last one in {folder.name}")
    machine = environment.describe()
    earlier = [*before.get("earlier_environments", []), before.get("environment", machine)]
    earlier = [other for other in earlier if other != machine]
    earlier = {"earlier_environments": earlier} if earlier else {}

    listeners = keras.callbacks.CallbackList(list(callbacks), model=trainer.network, epochs=epochs)
    listeners.on_train_begin()
    for epoch in range(len(rows), epochs):
        listeners.on_epoch_begin(epoch)
        started = time.perf_counter()
        trained = trainer.fit(dataset, epoch, _Progress(f"Epoch {epoch + 1}/{epochs}"))
        row = epoch + 1, recipe.rate(epoch + 0.5), *trained, *trainer.validate(dataset)
        rows.append(dict(zip(COLUMNS, (*row, round(time.perf_counter() - started, 1)))))
        info = {**identity, "epochs": epochs, "complete": len(rows) == recipe.epochs}
        info["seconds"] = round(sum(row["seconds"] for row in rows), 1)
        info |= {"environment": machine, **earlier}
        run = Run(folder, pd.DataFrame(rows), info)
        _require_same(folder, _info_in(folder) or identity, identity)  # another may have begun here
        values = _values(run, trainer, values)
        _save(run, values)
        print(run.lines()[-1], flush=True)
        listeners.on_epoch_end(epoch, {key: rows[-1][key] for key in COLUMNS[1:-1]})
    listeners.on_train_end()
    return open_run(folder)


def _info_in(folder) -> dict:
    """What run.json tells, the recipe with its defaults; {} where it is missing or damaged."""
    try:
        return read_info((folder / "run.json").read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _require_same(folder, info, identity):
    """Raise ValueError where a run has other settings."""
    known, wanted = ({**x, **x["recipe"], "recipe": x["recipe"]["name"]} for x in (info, identity))
    for key, value in wanted.items():
        if known.get(key, value) != value:  # older runs do not tell their classes
            what = f"{folder} holds a run with {key} = {known[key]}, not {value}."
            raise ValueError(f"{what} Choose another run folder, or the same settings.")


def _states(folder):
    """Oldest first; "state_002 (1).npz", as browsers and drives name a copy, is none."""
    return sorted(folder.glob("state_*[0-9].npz"), key=lambda path: (len(path.name), path.name))


def _newest_state(folder) -> tuple[Run | None, dict]:
    """The run as the newest readable state tells it, and {path: value}, the checkpoint with it."""
    for path in reversed(_states(folder)):
        try:
            with np.load(path, allow_pickle=False) as file:
                values = dict(file)
            log = pd.DataFrame(values.pop(LOG), columns=COLUMNS).astype({"epoch": int})
            if INFO in values:
                return Run(folder, log, read_info(values.pop(INFO).item())), values
            run = Run(folder, log, read_info((folder / "run.json").read_text()))
            values[CHECKPOINT] = np.fromfile(run.checkpoint(), np.uint8)  # an older course's state
            return run, values
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            print(f"{path.name} is damaged ({error}); trying the state before it")
    return None, {}


def _values(run, trainer, before):
    """All that training changes, by path, and the result's checkpoint so far, uint8 (bytes,)."""
    values = {path: variable.numpy() for path, variable in trainer.variables.items()}
    if run.chosen["epoch"] < len(run.log):
        return {**values, CHECKPOINT: before[CHECKPOINT]}
    with writing(run.folder), tempfile.TemporaryDirectory() as folder:
        trainer.network.save(path := Path(folder) / "network.keras")
        return {**values, CHECKPOINT: np.fromfile(path, np.uint8)}


def _save(run, values):
    """Write the state first: whatever happens then, the rest can be made from it."""
    log, info = run.log.to_numpy(np.float64), np.array(json.dumps(run.info))
    path = run.folder / f"state_{len(run.log):03d}.npz"
    with writing(run.folder), replacing(path) as new:
        np.savez(new, **{**values, LOG: log, INFO: info})
    _publish(run, values)
    for old in _states(run.folder)[:-2]:  # the one before stays, in case the newest is damaged
        old.unlink()


def _publish(run, values):
    """Bring checkpoint, log and run.json to what the state says, where they differ from it."""
    log = run.log.to_csv(index=False, na_rep="nan", lineterminator="\n").encode()
    files = {run.checkpoint(): values[CHECKPOINT], run.folder / "training_log.csv": log}
    if not run.info.items() <= _info_in(run.folder).items():  # scores come later
        (run.folder / PREDICTIONS).unlink(missing_ok=True)  # they were an earlier epoch's
        files[run.folder / "run.json"] = (json.dumps(run.info, indent=2) + "\n").encode()
    for path, content in files.items():
        if not path.is_file() or path.read_bytes() != bytes(content):
            with writing(run.folder), replacing(path) as new:
                new.write_bytes(content)


class _Progress(keras.callbacks.Callback):
    """Keeps one line moving while an epoch runs, in a terminal or a notebook."""

    def __init__(self, title):
        super().__init__()
        in_notebook = type(sys.stdout).__module__.startswith("ipykernel")
        self.title, self.wanted = title, in_notebook or sys.stdout.isatty()
        self.next = time.monotonic() + 2

    # Not on_train_batch_end: Keras would fetch the metrics for it, and the GPU wait at every step.
    def on_train_batch_begin(self, batch, logs=None):
        if self.wanted and time.monotonic() > self.next:
            self.next += 2
            print(f"{self.title}: {batch / self.params['steps']:.0%}", end="\r", flush=True)
