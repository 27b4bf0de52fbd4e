"""The trainer: one readable line per epoch, checkpoints on improvement, resuming after any stop.

A run is a folder with training_log.csv, run.json, the checkpoints, and the latest states to resume
from. Randomness is a function of (seed, epoch), so a run that was stopped and started again ends
like one left alone.
"""

import csv
import hashlib
import json
import os
import re
import sys
import time
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from IPython import get_ipython
from IPython.display import display

from helpers import devices, optimizers
from helpers.augment import Augment
from helpers.data import Dataset
from helpers.recipes import MOST_SEED, Recipe, whole_number
from helpers.resnet import resnet_v2
from helpers.runtime import environment, half_written, replacing

COLUMNS = ("epoch", "lr", "loss", "acc", "val_loss", "val_acc", "seconds")
STATES_KEPT = 2  # the newest, and the one before in case the newest is damaged


@dataclass(frozen=True)
class Run:
    """A finished or unfinished run, read from its folder."""

    folder: Path
    log: list[dict]  # one row per epoch: COLUMNS as numbers
    info: dict  # run.json

    @property
    def best(self) -> dict:
        """The log's row with the highest validation accuracy, the first of equals."""
        return max(self.log, key=lambda row: row["val_acc"])

    @property
    def chosen(self) -> dict:
        """The row of the epoch that counts: the best, or a complete run's last if its recipe says so."""
        last = self.info["recipe"].get("counts") == "last" and self.info["complete"]
        return self.log[-1] if last else self.best

    @property
    def kept(self) -> list[dict]:
        """The log's rows of the epochs whose weights are in the folder."""
        return [row for row in self.log if self.checkpoint(row["epoch"]).is_file()]

    def checkpoint(self, epoch: int | None = None) -> Path:
        """The file with the weights of an epoch; of the one that counts, by default.

        Raises ValueError for an epoch that the log does not have.
        """
        epoch = self.chosen["epoch"] if epoch is None else epoch
        if epoch not in [row["epoch"] for row in self.log]:
            raise ValueError(f"epoch = {epoch!r}: the log has the epochs 1 to {len(self.log)}.")
        return self.folder / checkpoint_name(self.info["recipe"]["depth"], int(epoch))

    def network(self, epoch: int | None = None) -> keras.Model:
        """The network with the weights of an epoch, by default of the one that counts.

        Returns:
            A model for raw pixels, float32 arithmetic.

        Raises:
            FileNotFoundError: the checkpoint is gone.
            ValueError: no such epoch; its checkpoint is damaged, or not the file that was scored.
        """
        path, scores = self.checkpoint(epoch), self.info.get("scores", {})
        if not path.is_file():
            raise FileNotFoundError(f"{path} is gone; train again, or restore the file.")
        if (
            scores
            and path == self.checkpoint(scores.get("epoch"))
            and _sha256(path) != scores.get("sha256")
        ):
            raise ValueError(
                f"{path} is not the file whose scores run.json tells (its SHA-256 differs): "
                "restore it with git checkout, or train again."
            )
        model = build(self.info["recipe"])
        try:
            model.load_weights(path)  # not load_model: weights outlive versions of Keras
        except Exception as error:  # zip, HDF5 and Keras each have their own
            what = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{path} is damaged ({what}); restore it, or train again.") from error
        return model

    def lines(self) -> list[str]:
        """The log as it was printed during training."""
        total = self.info["epochs"]
        return [
            epoch_line(row, self.log[:i], total, self.info["recipe"])
            for i, row in enumerate(self.log)
        ]


def open_run(folder) -> Run:
    """Read a run's folder.

    Raises:
        FileNotFoundError: no run.json or training_log.csv there.
        ValueError: one of them is damaged.
    """
    folder = Path(folder)
    for name in ("run.json", "training_log.csv"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no run folder: it has no {name}. Train first.")
    try:
        info = json.loads((folder / "run.json").read_text())
        run = Run(folder, read_log(folder / "training_log.csv"), info)
        if not run.lines() or not run.chosen:  # fails where something is missing in run.json
            raise ValueError("no finished epoch")
        return run
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"The log or run.json in {folder} is damaged ({error}); train again."
        ) from error


def read_log(path) -> list[dict]:
    """Rows of a training_log.csv as numbers.

    Raises:
        ValueError: other columns, or an entry that is no number.
    """
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and tuple(rows[0]) != COLUMNS:
        raise ValueError(f"columns {', '.join(rows[0])} instead of {', '.join(COLUMNS)}")
    return [
        {**{key: float(row[key]) for key in COLUMNS}, "epoch": int(row["epoch"])} for row in rows
    ]


def build(recipe: dict, **options) -> keras.Model:
    """The network of a recipe, given as in run.json, with fresh weights."""
    return resnet_v2(
        recipe["depth"], l2=recipe["l2"], batch_norm_momentum=recipe["batch_norm_momentum"],
        **options,
    )  # fmt: skip


def checkpoint_name(depth: int, epoch: int) -> str:
    """The assignment's name for the weights saved after an epoch."""
    return f"cifar10_ResNet{depth}v2_model.{epoch:03d}.keras"


def epoch_line(row: dict, before: list[dict], total: int, recipe: dict) -> str:
    """One finished epoch for the reader: `before` holds the rows of the epochs before it."""
    best = max((earlier["val_acc"] for earlier in before), default=-np.inf)
    if row["val_acc"] > best:
        verdict = f"val_acc improved from {best:.5f} to {row['val_acc']:.5f}"
    else:
        verdict = f"val_acc did not improve from {best:.5f}"
    if _is_kept(row, before, recipe):
        verdict += f", saving model to {checkpoint_name(recipe['depth'], row['epoch'])}"
    return (
        f"Epoch {row['epoch']:2d}/{total} - {row['seconds']:.0f}s - learning rate {row['lr']:.10g}"
        f" - loss: {row['loss']:.4f} - acc: {row['acc']:.4f}"
        f" - val_loss: {row['val_loss']:.4f} - val_acc: {row['val_acc']:.4f} - {verdict}"
    )


def _is_kept(row, before, recipe) -> bool:
    """Whether the weights after this epoch get a checkpoint: the best so far, or the last."""
    last = recipe.get("counts") == "last" and row["epoch"] == recipe["epochs"]
    return last or row["val_acc"] > max((r["val_acc"] for r in before), default=-np.inf)


class Trainer:
    """A fresh network, the step that trains it, and one epoch at a time.

    Two networks hold the same weights. The twin trains, behind the augmentation and on the machine's
    fast paths; `network` is validated and saved: plain Keras in float32.

    Args:
        recipe, seed, precision: as for `train`.
        steps: per epoch.
    """

    def __init__(self, recipe: Recipe, seed: int, precision: str, steps: int):
        keras.utils.set_random_seed(seed)  # initial weights
        self.recipe, self.seed = recipe, seed
        rates = [recipe.rate(step / steps) for step in range(recipe.epochs * steps)]
        with devices.placed(precision) as batch_norm:
            self.augment = Augment(recipe.flip, recipe.shift, recipe.erase, recipe.whole_pixels)
            self.twin = build(recipe.as_dict(), batch_norm=batch_norm)
            optimizer = optimizers.named(recipe.optimizer, rates)
            self.trained = self._to_logits(self.twin, self.augment, optimizer)
            optimizer = self.trained.optimizer  # with a loss scale around it, if 16 bits need one
            optimizer.build(self.trained.trainable_variables)
        self.network = build(recipe.as_dict())
        self.validated = self._to_logits(self.network)
        self.variables = self.trained.variables + optimizer.variables  # all that training changes

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
        model.compile(optimizer=optimizer, loss=loss, metrics=["acc"])
        return model

    def fit(self, dataset: Dataset, epoch: int, *callbacks) -> tuple[float, float]:
        """Train one epoch, counted from 0; return its mean loss and accuracy."""
        self.augment.restart(self.seed, epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(dataset.x_train))
        history = self.trained.fit(
            **devices.batches(
                dataset.x_train[order], _one_hot(dataset.y_train[order]), self.recipe.batch_size
            ),
            shuffle=False, verbose=0, callbacks=list(callbacks),
        ).history  # fmt: skip
        return history["loss"][0], history["acc"][0]

    def validate(self, dataset: Dataset) -> tuple[float, float]:
        """Hand the weights to `network`; return its loss and accuracy on the validation part."""
        self.network.set_weights(self.twin.get_weights())
        given = devices.batches(dataset.x_val, _one_hot(dataset.y_val))
        return tuple(self.validated.evaluate(**given, verbose=0))


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
    precision: str | None = None,
) -> Run:  # fmt: skip
    """Train a fresh network, or go on where the run in `folder` stopped.

    Args:
        recipe: how to train.
        dataset: trains on its training part; its validation part chooses the checkpoints.
        folder: the run's folder, made if missing.
        seed: of initial weights, order and augmentation.
        epochs: stop after so many, finished ones included; the recipe's number by default.
        precision: of the training step's arithmetic, "float32", "bfloat16" or "float16"; by default
            that of the run in `folder`, else the machine's fastest. Weights are kept, validated and
            saved as float32.

    Returns:
        The run. Every epoch's line is printed, also those finished earlier.

    Raises:
        ValueError: more epochs than the recipe's schedule has; no whole number for epochs or seed;
            an unknown precision; the folder holds a run of another recipe, seed, precision or data,
            or one that left no state to go on from.
        OSError: the folder, or an epoch, cannot be written; what was written before is intact.
        MemoryError: no memory left, on the GPU or off it.
    """
    folder, epochs = Path(folder), recipe.epochs if epochs is None else epochs
    if not str(epochs).isdecimal() or not 0 < int(epochs) <= recipe.epochs:
        raise ValueError(
            f"epochs = {epochs!r}: recipe {recipe.name} is laid out for 1 to {recipe.epochs}; "
            "recipe.over(epochs) lays it out anew."
        )
    epochs, seed = int(epochs), whole_number("seed", seed, 0, MOST_SEED)
    there = _run_in(folder)
    precision = precision or there.get("precision") or devices.fastest()
    identity = {
        "recipe": recipe.as_dict(), "seed": seed, "precision": precision, "data": dataset.source,
    }  # fmt: skip
    _check_same_run(folder, there, identity)

    trainer = Trainer(recipe, seed, precision, -(-len(dataset.x_train) // recipe.batch_size))
    log = _restore(folder, trainer.variables)

    show, here = _live_line(), environment()
    for i, row in enumerate(log[:epochs]):
        print(epoch_line(row, log[:i], epochs, identity["recipe"]))
    if log and len(log) < epochs:
        print(f"Going on after epoch {len(log)}, the last one in {folder.name}")
    for epoch in range(len(log), epochs):
        started = time.perf_counter()
        loss, acc = trainer.fit(dataset, epoch, _Progress(show, f"Epoch {epoch + 1}/{epochs}"))
        val_loss, val_acc = trainer.validate(dataset)
        row = {
            "epoch": epoch + 1, "lr": recipe.rate(epoch + 0.5),
            "loss": loss, "acc": acc, "val_loss": val_loss, "val_acc": val_acc,
            "seconds": time.perf_counter() - started,
        }  # fmt: skip
        _save(folder, identity, trainer, log, row, epochs, here)
        print(epoch_line(row, log, epochs, identity["recipe"]), flush=True)
        log.append(row)
    show(f"{len(log)} of {epochs} epochs done")
    return open_run(folder)


def score(run: Run, dataset: Dataset) -> dict:
    """Score the weights that count on the test pictures, and note it in run.json.

    Returns:
        epoch; test_acc; test_acc_flip, with the probabilities of every picture and its mirror image
        averaged; sha256 of the checkpoint. Accuracies are shares of 1.
    """
    network = run.network()
    plain, mirrored = (
        network.predict(**devices.batches(pictures), verbose=0)
        for pictures in (dataset.x_test, dataset.x_test[:, :, ::-1])
    )
    scores = {
        "epoch": run.chosen["epoch"],
        "test_acc": float(np.mean(plain.argmax(axis=1) == dataset.y_test)),
        "test_acc_flip": float(np.mean((plain + mirrored).argmax(axis=1) == dataset.y_test)),
        "sha256": _sha256(run.checkpoint()),
    }
    with replacing(run.folder / "run.json") as path:
        path.write_text(json.dumps({**run.info, "scores": scores}, indent=2) + "\n")
    return scores


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _one_hot(labels, classes=10):
    return np.eye(classes, dtype=np.float32)[labels]


def _run_in(folder) -> dict:
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


def _check_same_run(folder, there, identity):
    for key, value in _settings(identity).items():
        if there and there.get(key) != json.loads(json.dumps(value)):
            raise ValueError(
                f"{folder} holds a run with {key} = {there.get(key)}, not {value}. "
                "Choose another run folder, or the same settings to go on with that run."
            )


def _settings(info):
    """What run.json tells, the recipe's settings beside the others, "recipe" being its name."""
    return {**info, **info["recipe"], "recipe": info["recipe"]["name"]}


def _restore(folder, variables) -> list[dict]:
    """Set the variables to the newest state that can be read; return its log."""
    for path in half_written(folder):
        path.unlink(missing_ok=True)
    for path in sorted(folder.glob("state_*.npz"), reverse=True):
        try:
            with np.load(path, allow_pickle=False) as state:
                values = [state[f"v{i:03d}"] for i in range(len(variables))]
                log = [dict(zip(COLUMNS, row)) for row in state["log"].tolist()]
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            print(f"{path.name} is damaged ({error}); trying the state before it")
            continue
        for variable, value in zip(variables, values):
            variable.assign(value)
        return [{**row, "epoch": int(row["epoch"])} for row in log]
    if (folder / "training_log.csv").is_file():
        raise ValueError(
            f"{folder} holds a log but no state to go on from. Choose another run folder to train "
            "anew, or MODE = 'recorded' to look at a recorded run."
        )
    return []


def _save(folder, identity, trainer, log, row, epochs, here):
    """Write what an epoch leaves behind; the state goes last and holds the log as well."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, identity, trainer, log, row, epochs, here)
    except OSError as error:
        raise OSError(
            f"Epoch {row['epoch']} could not be written into {folder} ({error}). What was written "
            "before is intact: make room, or choose another run folder, and run this again."
        ) from error


def _write(folder, identity, trainer, log, row, epochs, here):
    rows = [*log, row]
    if _is_kept(row, log, identity["recipe"]):
        with replacing(folder / checkpoint_name(identity["recipe"]["depth"], row["epoch"])) as path:
            trainer.network.save(path)
    with replacing(folder / "training_log.csv") as path, open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**r, "seconds": round(r["seconds"], 1)} for r in rows)
    info = {
        **identity, "epochs": epochs, "complete": len(rows) >= identity["recipe"]["epochs"],
        "seconds": round(sum(r["seconds"] for r in rows), 1), "environment": here,
    }  # fmt: skip
    with replacing(folder / "run.json") as path:
        path.write_text(json.dumps(info, indent=2) + "\n")
    with replacing(folder / f"state_{row['epoch']:03d}.npz") as path:
        values = {f"v{i:03d}": v.numpy() for i, v in enumerate(trainer.variables)}
        with open(path, "wb") as file:
            np.savez(file, log=np.array([[r[key] for key in COLUMNS] for r in rows]), **values)
    for old in sorted(folder.glob("state_*.npz"))[:-STATES_KEPT]:
        old.unlink()


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


def _live_line():
    """A function that shows a line in place of the one before, in a notebook or terminal."""
    if hasattr(get_ipython(), "kernel"):
        handle = display({"text/plain": "Training"}, raw=True, display_id=True)
        return lambda text: handle.update({"text/plain": text}, raw=True)
    if sys.stderr.isatty():
        return lambda text: print(f"\r{text:70}", end="\r", file=sys.stderr, flush=True)
    return lambda text: None
