"""Train a recipe, record it, and tell of it: python -m tools.record {train,record,readme}"""

import argparse
import csv
import json
import shutil
import sys
import zipfile
from pathlib import Path

from helpers.files import RECORDED, ROOT, replacing, write_text
from helpers.training import data, devices, report, runs, trainer
from helpers.training.recipes import RECIPES, plan

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
    dataset = data.load(source)
    run = trainer.train(recipe, dataset, folder, seed, epochs, precision)
    scores = runs.score(run, dataset)
    print(
        f"{folder}: epoch {scores['epoch']} of {len(run.log)}, test accuracy "
        f"{scores['test_acc']:.2%}, averaged with the mirror image {scores['test_acc_flip']:.2%}"
    )
    return runs.open_run(folder)


def record(folders: list[Path], saved: Path = RECORDED) -> Path:
    """Note scored runs of one kind in saved_models/runs.csv, and keep the median one's files.

    Median by validation accuracy, the lower one of an even number. It replaces what was kept of the
    recipe; of unfinished runs, and of schedules of another length, only the row is kept.

    Returns:
        The folder with the median run's log, run.json, predictions and checkpoint.

    Raises:
        ValueError: a run that was not scored; runs of different recipes or lengths; other data, or
            other settings under the same name, than what is recorded already.
    """
    scored = [runs.open_run(folder) for folder in folders]
    for run in scored:
        told = (run.folder / runs.PREDICTIONS).is_file() and run.info.get("scores", {})
        if not told or told["epoch"] != run.chosen["epoch"]:
            raise ValueError(f"{run.folder} was not scored after its last epoch: train it again.")
    rows = [_row(run) for run in scored]
    kinds = {tuple(row[key] for key in ("recipe", "of", "epochs", "data")) for row in rows}
    if len(kinds) > 1:
        raise ValueError(f"These runs differ, {sorted(kinds)}: record each kind by itself.")
    table = saved / "runs.csv"
    known = list(csv.DictReader(table.read_text().splitlines())) if table.is_file() else []
    ((name, *_),) = kinds
    home = saved / name
    for run in scored:
        _check_comparable(known, home, run)
    if any(run.info["recipe"] != scored[0].info["recipe"] for run in scored):
        raise ValueError("These runs of one name differ in their settings: name them differently.")

    rows = {_key(row): row for row in [*known, *rows]}
    with replacing(table) as path, open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))
    if name in RECIPES and len(scored[0].log) != RECIPES[name].epochs:
        return saved

    scored.sort(key=lambda run: run.chosen["val_acc"])
    median = scored[(len(scored) - 1) // 2]
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


def _check_comparable(known, home, run):
    """Raise ValueError if a run cannot stand in one table with what is recorded."""
    others = {row["data"] for row in known} - {run.info["data"]}
    if others:
        raise ValueError(
            f"runs.csv holds runs on {', '.join(others)}, and {run.folder} is on "
            f"{run.info['data']}: train it on the same pictures, or take those rows out first."
        )
    if (home / "run.json").is_file():
        settings = [
            {key: value for key, value in each.info["recipe"].items() if key != "epochs"}
            for each in (runs.open_run(home), run)
        ]
        differing = sorted(key for key in settings[1] if settings[0].get(key) != settings[1][key])
        if differing:
            raise ValueError(
                f"{home} holds a recipe of the same name with other settings "
                f"({', '.join(differing)}): name this one differently, or remove the old runs."
            )


def _row(run):
    info = run.info
    known = {
        **info, **info["environment"], **info["scores"], "recipe": info["recipe"]["name"],
        "of": info["recipe"]["epochs"], "epochs": len(run.log), "val_acc": run.chosen["val_acc"],
    }  # fmt: skip
    return {key: round(known[key], 4) if "acc" in key else known[key] for key in COLUMNS}


def _key(row):
    # A run that went on or was repeated replaces its row: one seed counts once.
    return row["recipe"], int(row["of"]), int(row["seed"]), row["data"]


def with_results(page: str, saved: Path = RECORDED) -> str:
    """The README with what depends on recorded runs written anew, between its markers.

    Raises ValueError where a marker is missing.
    """
    for name, content in readme_parts(saved).items():
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not begin or not end:
            raise ValueError(f"The README has no <!-- {name} --> with its <!-- end of {name} -->.")
        page = f"{before}{begin}{content}\n{end}{after}"
    return page


def readme_parts(saved: Path = RECORDED) -> dict[str, str]:
    """{marker: text} of the README's parts that are computed."""
    logged = runs.open_run(saved / "reproduction")  # what compares with the assignment's log
    return {
        "headline": report.headline(saved),
        "table": report.table(saved) + "\n\n" + "\n".join(
            f"* {report.details(runs.open_run(path.parent))}"
            for path in sorted(saved.glob("*/run.json"))
        ),
        "reproduction": report.reproduction(saved),
        "log": f"`reproduction`, {logged.info['data']}:\n\n```\n"
        + "\n".join(logged.lines()) + "\n```",
    }  # fmt: skip


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
    commands.add_parser("readme", help="write what depends on recorded runs into the README")
    arguments = vars(parser.parse_args())
    command = arguments.pop("command")
    try:
        if command == "train":
            train(**arguments)
        elif command == "record":
            print(f"Recorded in {record(**arguments)}")
        else:
            page = ROOT / "README.md"
            write_text(page, with_results(page.read_text(encoding="utf-8")))
    except (ValueError, OSError, MemoryError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
