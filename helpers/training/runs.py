"""A run's folder: its log, its lines, its network, its score.

It holds training_log.csv, run.json, a checkpoint for every epoch that improved the validation
accuracy and for a last one that is the result, states, and after scoring test_predictions.npz.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from helpers.training import devices
from helpers.training.data import CLASS_NAMES, SHAPE_NAMES, SYNTHETIC, Dataset
from helpers.training.recipes import Recipe
from helpers.training.resnet import resnet_v2

PREDICTIONS = "test_predictions.npz"
COLUMNS = ("epoch", "lr", "loss", "acc", "val_loss", "val_acc", "seconds")


@dataclass(frozen=True)
class Run:
    folder: Path
    log: pd.DataFrame  # one row per epoch, as `read_log` gives it
    info: dict  # run.json

    @property
    def class_names(self) -> tuple:
        """What it tells apart; an older course had CIFAR-10 and drawn shapes alone."""
        older = SHAPE_NAMES if self.info["data"] == SYNTHETIC else CLASS_NAMES
        return tuple(self.info.get("class_names", older))

    def require_classes(self, dataset: Dataset) -> None:
        """Raise ValueError where these pictures show other classes than it has learned."""
        if self.class_names != dataset.class_names:
            what = f"The network in {self.folder} knows other classes than {dataset.source} shows"
            raise ValueError(f"{what}: choose DATA or RECIPE to fit, or train in 4B, MODE 'full'.")

    @property
    def best(self) -> dict:
        """The row with the highest validation accuracy, the first of equals."""
        return self.log.to_dict("records")[self.log["val_acc"].argmax()]

    @property
    def chosen(self) -> dict:
        """The row of the result: the best, or a complete run's last if its recipe says so."""
        last = self.info["recipe"]["selection"] == "last" and self.info["complete"]
        return self.log.to_dict("records")[-1] if last else self.best

    def checkpoint(self, epoch: int | None = None) -> Path:
        """The file with the weights after an epoch, by default of the result."""
        depth, epoch = self.info["recipe"]["depth"], epoch or self.chosen["epoch"]
        return self.folder / f"cifar10_ResNet{depth}v2_model.{epoch:03d}.keras"

    def network(self) -> keras.Model:
        """The result, for raw pixels. FileNotFoundError, ValueError if damaged or not as scored."""
        path, scores = self.checkpoint(), self.info.get("scores", {})
        if not path.is_file():
            raise FileNotFoundError(f"{path} is gone; train again, or restore it.")
        if scores.get("epoch") == self.chosen["epoch"] and sha256(path) != scores.get("sha256"):
            what = f"{path} is not the file whose scores run.json tells (its SHA-256 differs)"
            raise ValueError(f"{what}: restore it with git checkout, or train again.")
        model = build(self.info["recipe"], classes=len(self.class_names))
        try:
            model.load_weights(path)  # not load_model: weights outlive versions of Keras
        except Exception as error:  # zip, HDF5 and Keras each have their own
            raise ValueError(f"{path} is damaged; restore it, or train again.") from error
        return model

    def test_probabilities(self) -> np.ndarray:
        """The result's, as scored: float32 (N, classes). FileNotFoundError, ValueError."""
        path = self.folder / PREDICTIONS
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: score the run first.")
        try:
            with np.load(path, allow_pickle=False) as file:
                return file["probabilities"].astype(np.float32)
        except Exception as error:  # zip and NumPy each have their own
            raise ValueError(f"{path} is damaged ({error}): restore it by git checkout.") from error

    def test_correct(self) -> np.ndarray:
        """Which of CIFAR-10's it gets right: bool (10000,). ValueError if run.json differs."""
        predicted = self.test_probabilities().argmax(axis=1)
        correct = predicted == np.arange(10).repeat(len(predicted) // 10)
        if not np.isclose(correct.mean(), self.info.get("scores", {}).get("test_acc", np.nan)):
            raise ValueError(f"{self.folder}: other predictions than run.json tells the score of.")
        return correct

    def predict_test(self, network: keras.Model, dataset: Dataset) -> np.ndarray:
        """Probabilities of all test pictures, float32 (N, classes); kept ones if they hold."""
        if self.info["data"] == dataset.source and (self.folder / PREDICTIONS).is_file():
            kept, few = self.test_probabilities(), dataset.x_test[::50].astype(np.float32)
            now = keras.ops.convert_to_numpy(network(few))
            if len(kept) == len(dataset.x_test) and np.allclose(kept[::50], now, atol=2e-3):
                return kept
        return network.predict(**devices.batches(dataset.x_test), verbose=0)

    def lines(self) -> list[str]:
        """The log as it was printed, a line per epoch."""
        recipe, lines, best = self.info["recipe"], [], -np.inf
        for row in self.log.to_dict("records"):
            better, verdict = row["val_acc"] > best, f"did not improve from {best:.5f}"
            if better:
                verdict = f"improved from {best:.5f} to {(best := row['val_acc']):.5f}"
            if better or (recipe["selection"] == "last" and row["epoch"] == recipe["epochs"]):
                verdict += f", saving model to {self.checkpoint(row['epoch']).name}"
            values = " - ".join(f"{key}: {row[key]:.4f}" for key in COLUMNS[2:-1])
            start = f"Epoch {row['epoch']:2d}/{self.info['epochs']} - {row['seconds']:.0f}s"
            lines.append(f"{start} - learning rate {row['lr']:.10g} - {values} - val_acc {verdict}")
        return lines


def open_run(folder) -> Run:
    """Read a run's folder. FileNotFoundError where there is none, ValueError if it is damaged."""
    folder = Path(folder)
    try:
        info = read_info((folder / "run.json").read_text())
        run = Run(folder, read_log(folder / "training_log.csv"), info)
        run.lines().append(run.chosen)  # fails where something is missing
        return run
    except OSError as error:
        raise FileNotFoundError(f"{folder} is no run folder ({error}). Train first.") from error
    except (ValueError, KeyError, TypeError) as error:
        what = f"The log or run.json in {folder} is damaged ({error}); train again."
        raise ValueError(what) from error


def read_info(text: str) -> dict:
    """A run.json; what the recipe of an older course does not set has its default."""
    info = json.loads(text)
    return {**info, "recipe": asdict(Recipe.from_dict(info["recipe"]))}


def read_log(path) -> pd.DataFrame:
    """A training_log.csv: COLUMNS, one row per epoch, int64 and float64. ValueError, KeyError."""
    # As text first: pandas' own reading of numbers is not exact to the last bit in every version.
    log = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    return log.astype(dict.fromkeys(COLUMNS, float) | {"epoch": int})


def build(recipe: dict, **options) -> keras.Model:
    """The network of a recipe, given as in run.json, with fresh weights."""
    options |= {name: recipe[name] for name in ("depth", "l2", "batch_norm_momentum")}
    return resnet_v2(**options)


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
