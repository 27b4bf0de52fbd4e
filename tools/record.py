"""Train a recipe, record it, and tell of it: python -m tools.record {train,record,readme}"""

import argparse
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pandas as pd

from helpers.files import RECORDED, ROOT, replacing, write_text
from helpers.training import data, devices, report, runs, trainer
from helpers.training.recipes import RECIPES, plan

COLUMNS = [
    "recipe", "epochs", "of", "seed", "epoch", "val_acc", "test_acc", "test_acc_flip", "seconds",
    "precision", "device", "backend", "data",
]  # fmt: skip
PAGES = ("README.md", "saved_models/README.md")


def train(name, epochs=None, seed=0, source="cifar10", precision=None, folder=None):
    """Train or go on, then score the weights that count on the test pictures.

    Returns:
        The run, with its scores in run.json.
    """
    recipe, epochs = plan(name, epochs)
    folder = Path(folder or f"runs/{name}_{recipe.epochs}_seed{seed}")
    dataset = data.load(source)
    run = trainer.train(recipe, dataset, folder, seed, epochs, precision)
    scores = runs.score(run, dataset)
    print(
        f"{folder}: epoch {scores['epoch']} of {len(run.log)}, test accuracy "
        f"{scores['test_acc']:.2%}, averaged with the mirror image {scores['test_acc_flip']:.2%}"
    )
    return runs.open_run(folder)


def record(folders: list[Path], saved: Path = RECORDED) -> Path:
    """Note finished runs of one kind in saved_models/runs.csv, and keep the median one's files.

    Median by validation accuracy, the lower one of an even number. It replaces what was kept of the
    recipe; of a recipe laid over another number of epochs than its own, only the rows are kept.

    Returns:
        The folder with the median run's log, run.json, predictions and checkpoint; or `saved`.

    Raises:
        ValueError: a run that is unfinished or was not scored; runs of different recipes or
            lengths; other data, or other settings under the same name, than what is recorded.
    """
    finished = sorted(map(runs.open_run, folders), key=lambda run: run.chosen["val_acc"])
    median = finished[(len(finished) - 1) // 2]
    name, length = (median.info["recipe"][key] for key in ("name", "epochs"))
    home, table = saved / name, saved / "runs.csv"
    known = [pd.read_csv(table)] if table.is_file() else []
    for run in finished:
        _check(run, median, home, {source for rows in known for source in rows["data"]})
    rows = pd.concat([*known, pd.DataFrame([_row(run) for run in finished])])
    # A run that was repeated replaces its row: one seed counts once.
    rows = rows.drop_duplicates(["recipe", "of", "seed"], keep="last")
    with replacing(table) as path:
        rows.sort_values(["recipe", "of", "seed"]).to_csv(path, index=False, lineterminator="\n")
    if name in RECIPES and length != RECIPES[name].epochs:
        return saved

    home.mkdir(parents=True, exist_ok=True)
    network = home / median.checkpoint().name
    with replacing(network) as path:
        _compress(median.checkpoint(), path)
    for file in ("training_log.csv", runs.PREDICTIONS):
        with replacing(home / file) as path:
            shutil.copyfile(median.folder / file, path)
    scores = {**median.info["scores"], "sha256": runs.sha256(network)}
    write_text(home / "run.json", json.dumps({**median.info, "scores": scores}, indent=2) + "\n")
    for old in set(home.glob("*.keras")) - {network}:
        old.unlink()
    return home


def _compress(network, path):
    """Keras' archive as it is, a sixth smaller: Keras itself compresses nothing."""
    with zipfile.ZipFile(network) as whole, zipfile.ZipFile(path, "w") as smaller:
        for part in whole.infolist():
            smaller.writestr(part, whole.read(part), zipfile.ZIP_DEFLATED, compresslevel=9)


def _check(run, first, home, sources):
    """Raise ValueError if a run cannot stand beside `first` and what is recorded already."""
    scores = (run.folder / runs.PREDICTIONS).is_file() and run.info.get("scores", {})
    if not run.info["complete"] or not scores or scores["epoch"] != run.chosen["epoch"]:
        raise ValueError(f"{run.folder} is not finished and scored: train it to its last epoch.")
    for source in {*sources, first.info["data"]} - {run.info["data"]}:
        raise ValueError(
            f"{run.folder} is on {run.info['data']}, others are on {source}: train it on the same "
            "pictures, or take the others out of runs.csv first."
        )
    others = {first.folder: first.info["recipe"]}
    if (home / "run.json").is_file():  # its schedule may be laid over another number of epochs
        kept, epochs = runs.open_run(home).info["recipe"], run.info["recipe"]["epochs"]
        others[home] = {**kept, "epochs": epochs}
    for folder, other in others.items():
        differing = [key for key, value in run.info["recipe"].items() if other[key] != value]
        if differing:
            raise ValueError(
                f"{run.folder} and {folder} differ in {', '.join(differing)}: record one kind of "
                "runs at a time, and name a recipe with other settings differently."
            )


def _row(run):
    known = {
        **run.info, **run.info["environment"], **run.info["scores"],
        "recipe": run.info["recipe"]["name"], "of": run.info["recipe"]["epochs"],
        "epochs": len(run.log), "val_acc": run.chosen["val_acc"],
    }  # fmt: skip
    return {key: round(known[key], 4) if "acc" in key else known[key] for key in COLUMNS}


def with_tables(page: str, saved: Path = RECORDED) -> str:
    """A page with its tables of recorded runs computed anew, each between its two markers."""
    every = report.table(saved)
    means = (every["chosen on"] != "test") & (every["runs"] > 1)
    first = every[means | (every["recipe"] == "assignment")]
    tables = {
        "results": first[["recipe", "epochs", "test %", "±", "sd", "minutes"]],
        "table": every,
        "provenance": report.provenance(saved),
    }
    for name, table in tables.items():
        blanks = table.astype(object).where(table.notna(), None)
        text = blanks.to_markdown(index=False, floatfmt=".2f", missingval="")
        marks = f"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
        page = re.sub(marks, rf"\1{text}\n\2", page, flags=re.DOTALL)
    return page


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
    command = commands.add_parser("record", help="store the median of finished runs")
    command.add_argument("folders", nargs="+", type=Path)
    commands.add_parser("readme", help=f"compute the tables in {' and '.join(PAGES)} anew")
    arguments = vars(parser.parse_args())
    command = arguments.pop("command")
    try:
        if command == "train":
            train(**arguments)
        elif command == "record":
            print(f"Recorded in {record(**arguments)}")
        else:
            for page in map(ROOT.joinpath, PAGES):
                write_text(page, with_tables(page.read_text(encoding="utf-8")))
    except (ValueError, OSError, MemoryError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
