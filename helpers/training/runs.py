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
from helpers.training.resnet import resnet_v2

PREDICTIONS = "test_predictions.npz"
COLUMNS = ("epoch", "lr", "loss", "acc", "val_loss", "val_acc", "seconds")


@dataclass(frozen=True)
class Run:
    """A finished or unfinished run, read from its folder."""

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
        last = self.info["recipe"].get("selection") == "last" and self.info["complete"]
        return self.log.to_dict("records")[-1] if last else self.best

    @property
    def kept(self) -> list[dict]:
        """The log's rows of the epochs whose weights are in the folder."""
        rows = self.log.to_dict("records")
        return [row for row in rows if self.checkpoint(row["epoch"]).is_file()]

    def checkpoint(self, epoch: int | None = None) -> Path:
        """The file with the weights of an epoch; of the result, by default.

        Raises ValueError for an epoch that the log does not have.
        """
        epoch = self.chosen["epoch"] if epoch is None else epoch
        if epoch not in self.log["epoch"].tolist():
            raise ValueError(f"epoch = {epoch!r}: the log has the epochs 1 to {len(self.log)}.")
        return self.folder / checkpoint_name(self.info["recipe"]["depth"], int(epoch))

    def network(self, epoch: int | None = None) -> keras.Model:
        """The network with the weights of an epoch, by default of the result.

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
            and sha256(path) != scores.get("sha256")
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

    def test_probabilities(self) -> np.ndarray:
        """What the result said of every test picture when it was scored: float32 (10000, 10).

        Raises:
            FileNotFoundError: the run was not scored.
            ValueError: the file is damaged.
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

        Kept ones, if the network says the same of every fiftieth picture now; else predicted, half
        a minute on a CPU.
        """
        if self.info["data"] == dataset.source and (self.folder / PREDICTIONS).is_file():
            kept, some = self.test_probabilities(), slice(None, None, 50)
            # Not by network.predict: to compile that takes longer than so few pictures.
            again = keras.ops.convert_to_numpy(network(dataset.x_test[some].astype(np.float32)))
            if len(kept) == len(dataset.x_test) and np.allclose(kept[some], again, atol=2e-3):
                return kept
        return network.predict(**devices.batches(dataset.x_test), verbose=0)

    def lines(self) -> list[str]:
        """The log as it was printed during training."""
        return epoch_lines(self.log.to_dict("records"), self.info["epochs"], self.info["recipe"])


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


def read_log(path) -> pd.DataFrame:
    """A training_log.csv: COLUMNS, one row per epoch; epoch int64, the others float64.

    Raises:
        ValueError: other columns, or an entry that is no number.
    """
    # As text first: pandas' own reading of numbers is not exact to the last bit in every version.
    log = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    if tuple(log.columns) != COLUMNS:
        raise ValueError(f"columns {', '.join(log.columns)} instead of {', '.join(COLUMNS)}")
    return log.astype(dict.fromkeys(COLUMNS, float) | {"epoch": int})


def build(recipe: dict, **options) -> keras.Model:
    """The network of a recipe, given as in run.json, with fresh weights."""
    return resnet_v2(
        recipe["depth"], l2=recipe["l2"], batch_norm_momentum=recipe["batch_norm_momentum"],
        **options,
    )  # fmt: skip


def checkpoint_name(depth: int, epoch: int) -> str:
    """The assignment's name for the weights saved after an epoch."""
    return f"cifar10_ResNet{depth}v2_model.{epoch:03d}.keras"


def epoch_lines(rows: list[dict], total: int, recipe: dict) -> list[str]:
    """Finished epochs for the reader, the first one of the run first."""
    bests = np.maximum.accumulate([-np.inf, *(row["val_acc"] for row in rows)])
    return [epoch_line(row, best, total, recipe) for row, best in zip(rows, bests)]


def epoch_line(row: dict, best: float, total: int, recipe: dict) -> str:
    """One finished epoch; `best` is the highest validation accuracy before it, at first -inf."""
    if row["val_acc"] > best:
        verdict = f"val_acc improved from {best:.5f} to {row['val_acc']:.5f}"
    else:
        verdict = f"val_acc did not improve from {best:.5f}"
    if is_kept(row, best, recipe):
        verdict += f", saving model to {checkpoint_name(recipe['depth'], row['epoch'])}"
    return (
        f"Epoch {row['epoch']:2d}/{total} - {row['seconds']:.0f}s - learning rate {row['lr']:.10g}"
        f" - loss: {row['loss']:.4f} - acc: {row['acc']:.4f}"
        f" - val_loss: {row['val_loss']:.4f} - val_acc: {row['val_acc']:.4f} - {verdict}"
    )


def is_kept(row: dict, best: float, recipe: dict) -> bool:
    """Whether the weights after this epoch get a checkpoint: the best so far, or the last."""
    last = recipe.get("selection") == "last" and row["epoch"] == recipe["epochs"]
    return last or row["val_acc"] > best


def score(run: Run, dataset: Dataset) -> dict:
    """Score the weights of the result on the test pictures.

    It is noted in run.json, and the probabilities of all test pictures in test_predictions.npz.

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
        "sha256": sha256(run.checkpoint()),
    }
    kept, best = plain.astype(np.float16), plain.argmax(axis=1)
    tied = kept.argmax(axis=1) != best  # rounding must not change a class
    kept[tied, best[tied]] = np.nextafter(kept[tied].max(axis=1), np.float16(1))
    with replacing(run.folder / PREDICTIONS) as path:
        np.savez_compressed(path, probabilities=kept)
    write_text(run.folder / "run.json", json.dumps({**run.info, "scores": scores}, indent=2) + "\n")
    return scores


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
