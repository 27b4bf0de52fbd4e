"""Train a recipe to be recorded, and record it: python -m tools.record {train,record} --help"""

import argparse
import csv
import shutil
import sys
from pathlib import Path

from helpers import data, devices, runs, training
from helpers.files import replacing
from helpers.recipes import RECIPES, plan
from helpers.runtime import RECORDED

CHECKPOINTS_KEPT = 3  # the best and two before it, to see what the choice of an epoch is worth
COLUMNS = (
    "recipe", "epochs", "of", "seed", "epoch", "val_acc", "test_acc", "test_acc_flip", "seconds",
    "precision", "device", "backend", "data",
)  # fmt: skip


def train(name, epochs=None, seed=0, source="cifar10", precision=None, folder=None):
    """Train or go on, then score the weights that count on the test pictures.

    Returns:
        The run, with its scores in run.json.
    """
    recipe, epochs = plan(name, epochs)
    folder = Path(folder or f"runs/{name}_{recipe.epochs}_seed{seed}")
    run = training.train(recipe, data.load(source), folder, seed, epochs, precision)
    scores = runs.score(run, data.load(source))
    print(
        f"{folder}: epoch {scores['epoch']} of {len(run.log)}, test accuracy "
        f"{scores['test_acc']:.2%}, averaged with the mirror image {scores['test_acc_flip']:.2%}"
    )
    return runs.open_run(folder)


def record(folders: list[Path], saved: Path = RECORDED) -> Path:
    """Note scored runs of one kind in saved_models/runs.csv, and keep the median one's files.

    Median by validation accuracy, the lower one of an even number. It replaces what was kept of the recipe.

    Returns:
        The folder with the median run's log, run.json and the checkpoint that counts.

    Raises:
        ValueError: a run that was not scored, or runs of different recipes or lengths.
    """
    scored = [runs.open_run(folder) for folder in folders]
    for run in scored:
        if run.info.get("scores", {}).get("epoch") != run.chosen["epoch"]:
            raise ValueError(f"{run.folder} was not scored after its last epoch: train it again.")
    rows = [_row(run) for run in scored]
    kinds = {tuple(row[key] for key in ("recipe", "of", "epochs", "data")) for row in rows}
    if len(kinds) > 1:
        raise ValueError(f"These runs differ, {sorted(kinds)}: record each kind by itself.")

    table = saved / "runs.csv"
    known = list(csv.DictReader(table.read_text().splitlines())) if table.is_file() else []
    rows = {_key(row): row for row in [*known, *rows]}
    with replacing(table) as path, open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))

    scored.sort(key=lambda run: run.chosen["val_acc"])
    median = scored[(len(scored) - 1) // 2]
    home = saved / median.info["recipe"]["name"]
    home.mkdir(parents=True, exist_ok=True)
    count = 1 if median.info["recipe"]["selection"] == "last" else CHECKPOINTS_KEPT
    kept = [median.checkpoint(row["epoch"]) for row in median.kept[-count:]]
    for source in (*kept, median.folder / "training_log.csv", median.folder / "run.json"):
        with replacing(home / source.name) as path:
            shutil.copyfile(source, path)
    for old in set(home.glob("*.keras")) - {home / source.name for source in kept}:
        old.unlink()
    return home


def _row(run):
    info = run.info
    known = {
        **info, **info["environment"], **info["scores"], "recipe": info["recipe"]["name"],
        "of": info["recipe"]["epochs"], "epochs": len(run.log), "val_acc": run.chosen["val_acc"],
    }  # fmt: skip
    return {key: round(known[key], 4) if "acc" in key else known[key] for key in COLUMNS}


def _key(row):
    # A run that went on replaces its own earlier row: its number of epochs is left out.
    return (row["recipe"], int(row["of"]), int(row["seed"]), row["data"], row["precision"],
            row["device"])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a recipe to be recorded, and record it.")
    commands = parser.add_subparsers(required=True, dest="command")
    command = commands.add_parser("train", help="train or go on, and score; into runs/")
    command.add_argument("name", metavar="RECIPE", help=", ".join(RECIPES))
    command.add_argument("--epochs", type=int, help="the recipe's number by default")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--source", default="cifar10", help="cifar10, or the path of an .npz")
    command.add_argument("--precision", choices=devices.PRECISIONS, help="default: the fastest")
    command.add_argument("--folder", help="the run's folder")
    command = commands.add_parser("record", help="store the median of scored runs in saved_models/")
    command.add_argument("folders", nargs="+", type=Path)
    arguments = vars(parser.parse_args())
    try:
        if arguments.pop("command") == "train":
            train(**arguments)
        else:
            print(f"Recorded in {record(**arguments)}")
    except (ValueError, OSError, MemoryError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
