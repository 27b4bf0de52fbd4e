"""A run's folder: its log, its lines, its network, its score.

It holds training_log.csv, run.json, and a checkpoint for every epoch that improved the validation
accuracy and for a last one that is the result; after scoring, test_predictions.npz; while it trains
also the states to resume from, see `helpers.training.trainer`.
"""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from helpers.files import replacing, write_text
from helpers.training import devices
from helpers.training.data import Dataset
from helpers.training.recipes import Recipe
from helpers.training.resnet import resnet_v2

PREDICTIONS = "test_predictions.npz"
COLUMNS = ("epoch", "lr", "loss", "acc", "val_loss", "val_acc", "seconds")


@dataclass(frozen=True)
class Run:
    """A finished or unfinished run, as its folder tells it."""

    folder: Path
    log: pd.DataFrame  # one row per epoch, as `read_log` gives it
    info: dict  # run.json

    @property
    def best(self) -> dict:
        """The log's row with the highest validation accuracy, the first of equals."""
        return self.log.to_dict("records")[self.log["val_acc"].argmax()]

    @property
    def chosen(self) -> dict:
        """The row of the run's result: the best, or a complete run's last if its recipe says so."""
        last = self.info["recipe"]["selection"] == "last" and self.info["complete"]
        return self.log.to_dict("records")[-1] if last else self.best

    def checkpoint(self) -> Path:
        """The file with the weights of the result."""
        return self.folder / checkpoint_name(self.info["recipe"]["depth"], self.chosen["epoch"])

    def network(self) -> keras.Model:
        """The network of the result, for raw pixels, in float32 arithmetic.

        Raises:
            FileNotFoundError: the checkpoint is gone.
            ValueError: it is damaged, or not the file that was scored.
        """
        path, scores = self.checkpoint(), self.info.get("scores", {})
        if not path.is_file():
            raise FileNotFoundError(f"{path} is gone; train again, or restore the file.")
        if scores.get("epoch") == self.chosen["epoch"] and sha256(path) != scores.get("sha256"):
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

    def test_probabilities(self) -> np.ndarray:
        """What the result said of every test picture when it was scored: float32 (10000, 10).

        Raises FileNotFoundError if it was not scored, ValueError if the file is damaged.
        """
        path = self.folder / PREDICTIONS
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: score the run first.")
        try:
            with np.load(path, allow_pickle=False) as file:
                return file["probabilities"].astype(np.float32)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} is damaged ({error}): restore it with git checkout, or train again."
            ) from error

    def test_correct(self) -> np.ndarray:
        """Which test pictures the result gets right: bool (10000,), class after class.

        Raises as `test_probabilities`, and ValueError where they are not those that were scored.
        """
        predicted = self.test_probabilities().argmax(axis=1)
        correct = predicted == np.arange(10).repeat(len(predicted) // 10)
        if not np.isclose(correct.mean(), self.info.get("scores", {}).get("test_acc", np.nan)):
            raise ValueError(
                f"{self.folder / PREDICTIONS} has other predictions than run.json tells the score "
                "of: restore both with git checkout, or score the run again."
            )
        return correct

    def predict_test(self, network: keras.Model, dataset: Dataset) -> np.ndarray:
        """Probabilities of all test pictures, float32 (N, 10), by the network of the result.

        Kept ones, if the network says the same of every fiftieth picture now: to predict all takes
        half a minute on a CPU.
        """
        if self.info["data"] == dataset.source and (self.folder / PREDICTIONS).is_file():
            kept, some = self.test_probabilities(), slice(None, None, 50)
            # Not by network.predict: to compile that takes longer than so few pictures.
            again = keras.ops.convert_to_numpy(network(dataset.x_test[some].astype(np.float32)))
            if len(kept) == len(dataset.x_test) and np.allclose(kept[some], again, atol=2e-3):
                return kept
        return network.predict(**devices.batches(dataset.x_test), verbose=0)

    def lines(self) -> list[str]:
        """The log as it was printed during training, a line per epoch."""
        recipe, lines, best = self.info["recipe"], [], -np.inf
        for row in self.log.to_dict("records"):
            better, best_before = row["val_acc"] > best, f"{best:.5f}"
            verdict = f"did not improve from {best_before}"
            if better:
                best = row["val_acc"]
                verdict = f"improved from {best_before} to {best:.5f}"
            if better or (recipe["selection"] == "last" and row["epoch"] == recipe["epochs"]):
                verdict += f", saving model to {checkpoint_name(recipe['depth'], row['epoch'])}"
            lines.append(
                f"Epoch {row['epoch']:2d}/{self.info['epochs']} - {row['seconds']:.0f}s - "
                f"learning rate {row['lr']:.10g} - loss: {row['loss']:.4f} - acc: {row['acc']:.4f}"
                f" - val_loss: {row['val_loss']:.4f} - val_acc: {row['val_acc']:.4f} - "
                f"val_acc {verdict}"
            )
        return lines


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
        info = parse_info((folder / "run.json").read_text())
        run = Run(folder, read_log(folder / "training_log.csv"), info)
        if not run.lines() or not run.chosen:  # fails where something is missing in run.json
            raise ValueError("no finished epoch")
        return run
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"The log or run.json in {folder} is damaged ({error}); train again."
        ) from error


def parse_info(text: str) -> dict:
    """The content of a run.json; what its recipe does not set, as an older course's, has defaults.

    Raises ValueError, KeyError or TypeError where it is damaged.
    """
    info = json.loads(text)
    return {**info, "recipe": Recipe.from_dict(info["recipe"]).as_dict()}


def read_log(path) -> pd.DataFrame:
    """A training_log.csv: COLUMNS, one row per epoch; epoch int64, the others float64.

    Raises ValueError for other columns, or an entry that is no number.
    """
    # As text first: pandas' own reading of numbers is not exact to the last bit in every version.
    log = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    if tuple(log.columns) != COLUMNS:
        raise ValueError(f"columns {', '.join(log.columns)} instead of {', '.join(COLUMNS)}")
    return log.astype(dict.fromkeys(COLUMNS, float) | {"epoch": int})


def build(recipe: dict, **options) -> keras.Model:
    """The network of a recipe, given as in run.json, with fresh weights."""
    names = ("depth", "l2", "batch_norm_momentum")
    return resnet_v2(**{name: recipe[name] for name in names}, **options)


def checkpoint_name(depth: int, epoch: int) -> str:
    """The assignment's name for the weights saved after an epoch."""
    return f"cifar10_ResNet{depth}v2_model.{epoch:03d}.keras"


def score(run: Run, dataset: Dataset) -> dict:
    """Score the result on the test pictures; keep that in run.json and test_predictions.npz.

    Returns:
        epoch; test_acc; test_acc_flip, with the probabilities of every picture and its mirror image
        averaged; sha256 of the checkpoint. Accuracies are shares of 1.
    """
    network = run.network()
    plain, mirrored = (  # float32 (N, 10)
        network.predict(**devices.batches(pictures), verbose=0)
        for pictures in (dataset.x_test, dataset.x_test[:, :, ::-1])  # (N, height, width, 3)
    )
    best = plain.argmax(axis=1)
    scores = {
        "epoch": run.chosen["epoch"],
        "test_acc": float(np.mean(best == dataset.y_test)),
        "test_acc_flip": float(np.mean((plain + mirrored).argmax(axis=1) == dataset.y_test)),
        "sha256": sha256(run.checkpoint()),
    }
    kept = plain.astype(np.float16)
    tied = kept.argmax(axis=1) != best  # rounding must not change a class
    kept[tied, best[tied]] = np.nextafter(kept[tied].max(axis=1), np.float16(1))
    with replacing(run.folder / PREDICTIONS) as path:
        np.savez_compressed(path, probabilities=kept)
    write_text(run.folder / "run.json", json.dumps({**run.info, "scores": scores}, indent=2) + "\n")
    return scores


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
