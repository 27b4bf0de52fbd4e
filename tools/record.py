"""Train a recipe, record it, tell of it: python -m tools.record {train,record,suspects,readme}"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from zipfile import ZIP_LZMA, ZipFile

import numpy as np
import pandas as pd

from helpers.files import RECORDED, ROOT, replacing, write_text
from helpers.training import data, devices, faults, report, runs, trainer
from helpers.training.recipes import QUICK, RECIPES, plan

COLUMNS = [
    "recipe", "epochs", "of", "seed", "epoch", "val_acc", "test_acc", "test_acc_flip",
    "test_acc_shifted", "seconds", "precision", "device", "backend", "data",
]  # fmt: skip
PAGES = ("README.md", "saved_models/README.md")


def train(name, epochs=None, seed=0, source="cifar10", precision=None, folder=None):
    """Train or go on, score the result on the test pictures, and return the run."""
    recipe, epochs = plan(name, epochs)
    if source == "synthetic" and recipe.fault:  # a smaller network
        recipe, epochs = replace(QUICK, name=name, fault=recipe.fault), QUICK.epochs
    folder = Path(folder or f"runs/{name}_{recipe.epochs}_seed{seed}")
    dataset = data.load(source)
    run = trainer.train(recipe, dataset, folder, seed, epochs, precision)
    scores = score(run, dataset)
    print(
        f"{folder}: epoch {scores['epoch']} of {len(run.log)}, test accuracy "
        f"{scores['test_acc']:.2%}, averaged with the mirror image {scores['test_acc_flip']:.2%}"
    )
    return runs.open_run(folder)


def score(run: runs.Run, dataset: data.Dataset) -> dict:
    """Score the result on the test pictures; keep that in run.json and test_predictions.npz.

    Returns epoch, sha256 of the checkpoint, and the shares that are right: test_acc; test_acc_flip
    for the mean probabilities of a picture and its mirror image; test_acc_shifted with half of the
    weight on both shifted by a pixel, either way, as Jordan's airbench (2024) does with logits.
    """
    network, x = run.network(), dataset.x_test  # (N, height, width, 3)
    around = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect")
    views = [(v, v[:, :, ::-1]) for v in (x, around[:, :-2, :-2], around[:, 2:, 2:])]
    said = [[network.predict(**devices.batches(v), verbose=0) for v in pair] for pair in views]
    plain, (both, *shifted) = said[0][0], np.sum(said, axis=1)  # (N, classes) each
    best = plain.argmax(axis=1)
    means = {"test_acc": plain, "test_acc_flip": both, "test_acc_shifted": 2 * both + sum(shifted)}
    right = {name: float(np.mean(p.argmax(axis=1) == dataset.y_test)) for name, p in means.items()}
    scores = {"epoch": run.chosen["epoch"], **right, "sha256": runs.sha256(run.checkpoint())}
    kept = plain.round(3).astype(np.float16)  # 100 KB instead of 180
    tied = kept.argmax(axis=1) != best  # rounding must not change a class
    kept[tied, best[tied]] = np.nextafter(kept[tied].max(axis=1), np.float16(1))
    with replacing(run.folder / runs.PREDICTIONS) as path:
        np.savez_compressed(path, probabilities=kept)
    write_text(run.folder / "run.json", json.dumps({**run.info, "scores": scores}, indent=2) + "\n")
    return scores


def record(folders: list[Path], source="cifar10", saved: Path = RECORDED) -> Path:
    """Note finished runs of one kind in saved_models/runs.csv, and keep the median one's files.

    Median by validation accuracy, the lower one of an even number. It replaces what was kept of the
    recipe; of a recipe laid over another number of epochs than its own, only the rows are kept. Of
    a taught one, the network is kept as a suspect is, rounded: the folder has to stay small.

    Returns the folder with the median run's log, run.json, predictions and checkpoint; or `saved`.
    Raises ValueError for a run that is not finished and scored, or of another recipe, length or
    data than the others, or of other settings than what is recorded under its name.
    """
    finished = sorted(map(runs.open_run, folders), key=lambda run: run.chosen["val_acc"])
    median = finished[(len(finished) - 1) // 2]
    name, length = (median.info["recipe"][key] for key in ("name", "epochs"))
    home, table = saved / name, saved / "runs.csv"
    dataset = data.load(source) if median.info["recipe"]["teacher"] else None  # to score it again
    if dataset and dataset.source != median.info["data"]:
        raise ValueError(f"{median.folder} knows {median.info['data']}: name it by --source.")
    rows = pd.DataFrame(map(_row, finished))
    recipes = {run.folder: run.info["recipe"] for run in finished}
    if (home / "run.json").is_file():  # its schedule may be laid over another number of epochs
        recipes[home] = {**runs.open_run(home).info["recipe"], "epochs": length}
    for folder, recipe in recipes.items():
        if differing := [key for key in recipe if recipe[key] != median.info["recipe"][key]]:
            raise ValueError(
                f"{median.folder} and {folder} differ in {', '.join(differing)}: record one kind "
                "of runs at a time, and name a recipe with other settings differently."
            )
    if table.is_file():
        rows = pd.concat([pd.read_csv(table), rows])
    if len(sources := rows["data"].unique()) > 1:
        raise ValueError(f"{table} would mix {' and '.join(sources)}: train on the same pictures.")
    # A run that was repeated replaces its row: one seed counts once.
    rows = rows.drop_duplicates(key := ["recipe", "of", "seed"], keep="last").sort_values(key)
    with replacing(table) as path:
        rows.to_csv(path, index=False, lineterminator="\n")
    if name in RECIPES and length != RECIPES[name].epochs:
        return saved

    home.mkdir(parents=True, exist_ok=True)
    network = home / median.checkpoint().name
    if dataset:
        _keep_rounded(median, home, dataset, 16)
    else:
        for file in ("training_log.csv", runs.PREDICTIONS):
            with replacing(home / file) as path:
                shutil.copyfile(median.folder / file, path)
        _compress(median.checkpoint(), network)
        info = {**median.info, "scores": {**median.info["scores"], "sha256": runs.sha256(network)}}
        write_text(home / "run.json", json.dumps(info, indent=2) + "\n")
    for old in set(home.glob("*.keras")) - {network}:
        old.unlink()
    return home


def keep_suspects(folders: list[Path], source="cifar10", saved: Path = RECORDED) -> list[Path]:
    """Store finished runs on faulty data, every seed, small, and score that; return the folders."""
    dataset, homes = data.load(source), []
    for run in map(runs.open_run, folders):
        if not run.info["complete"]:
            raise ValueError(f"{run.folder} is not finished: train it to its last epoch.")
        recipe, seed = run.info["recipe"], run.info["seed"]
        kept = _keep_rounded(run, saved / f"suspects/{recipe['name']}_seed{seed}", dataset)
        (kept.folder / runs.PREDICTIONS).unlink()  # two megabytes in all, and nobody asks for them
        faulty = faults.plant(dataset, recipe["fault"], seed, ["test"])
        predicted = kept.network().predict(**devices.batches(faulty.x_test), verbose=0)
        right = predicted.argmax(axis=1) == faulty.y_test
        kept.info["scores"]["test_acc_faulty"] = float(right.mean())
        write_text(kept.folder / "run.json", json.dumps(kept.info, indent=2) + "\n")
        homes.append(kept.folder)
    return homes


def _keep_rounded(run, home, dataset, parts=8):
    """Store a run as a small file, and score what is stored.

    Kernels are rounded to so many parts of their standard deviation or finer, a power of two: the
    rest of every number is zeros, which compress to a quarter.
    """
    home.mkdir(parents=True, exist_ok=True)
    network = run.network()
    network.set_weights([_rounded(w, parts) if w.ndim > 1 else w for w in network.get_weights()])
    with tempfile.TemporaryDirectory() as folder:
        network.save(whole := Path(folder) / "network.keras")
        _compress(whole, home / run.checkpoint().name)
    shutil.copyfile(run.folder / "training_log.csv", home / "training_log.csv")
    info = {key: value for key, value in run.info.items() if key != "scores"}
    write_text(home / "run.json", json.dumps(info, indent=2) + "\n")
    score(runs.open_run(home), dataset)
    return runs.open_run(home)


def _rounded(weights, parts):
    step = 2.0 ** np.floor(np.log2(weights.std() / parts))
    return (np.round(weights / step) * step).astype(np.float32)


def _compress(network, path):
    """Keras' archive again, compressed; Keras itself compresses nothing."""
    with ZipFile(network) as whole, replacing(path) as new, ZipFile(new, "w") as smaller:
        for part in whole.infolist():
            smaller.writestr(part, whole.read(part), ZIP_LZMA)


def _row(run):
    """A finished run's row of runs.csv, or ValueError."""
    info, scores = run.info, run.info.get("scores", {})
    kept = (run.folder / runs.PREDICTIONS).is_file()
    if not (info["complete"] and kept and scores.get("epoch") == run.chosen["epoch"]):
        raise ValueError(f"{run.folder} is not finished and scored: train it to its last epoch.")
    known = {
        "test_acc_shifted": np.nan,  # of a run scored before it was asked for
        **info, **info["environment"], **scores, "recipe": info["recipe"]["name"],
        "of": info["recipe"]["epochs"], "epochs": len(run.log), "val_acc": run.chosen["val_acc"],
    }  # fmt: skip
    return {key: round(known[key], 4) if "acc" in key else known[key] for key in COLUMNS}


def with_tables(page: str, saved: Path = RECORDED) -> str:
    """A page with its tables of recorded runs computed anew, each between its two markers."""
    every = report.table(saved)
    means = (every["chosen on"] != "test") & (every["runs"] > 1)
    first = every[means | (every["recipe"] == "assignment")]
    tables = {"table": every, "provenance": provenance(saved), "suspects": suspects(saved)}
    tables["results"] = first[["recipe", "epochs", "test %", "±", "sd", "minutes"]]
    for name, table in tables.items():
        blanks = table.astype(object).where(table.notna(), None)
        text = blanks.to_markdown(index=False, floatfmt=".2f", missingval="")
        marks = f"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
        page = re.sub(marks, rf"\1{text}\n\2", page, flags=re.DOTALL)
    return page


def provenance(saved: Path) -> pd.DataFrame:
    """Seed, precision, data, machine and versions of the networks that are stored, one a row."""
    infos = [json.loads(path.read_text()) for path in sorted(saved.glob("*/run.json"))]
    rows = pd.json_normalize(infos).rename(columns=lambda name: name.split(".")[-1])
    columns = ["seed", "precision", "data", "device", "backend", "keras", "python", "revision"]
    return rows[["name", *columns]].rename(columns={"name": "recipe"})


def suspects(saved: Path) -> pd.DataFrame:
    """What the runs of Assignment4D come to, one a row; accuracies in percent."""
    rows = []
    for path in sorted(saved.glob("suspects/*/run.json")):
        run = runs.open_run(path.parent)
        recipe, seed, scores = (run.info[key] for key in ("recipe", "seed", "scores"))
        marked = data.CLASS_NAMES[faults.marked_class(recipe["fault"], seed)]
        accuracies = run.chosen["val_acc"], scores["test_acc"], scores["test_acc_faulty"]
        marked = marked if recipe["fault"] in faults.MARKS else ""
        rows.append([recipe["name"], seed, marked, *(100 * share for share in accuracies)])
    columns = ["recipe", "seed", "marked", "validation %", "test, clean %", "test, faulty %"]
    return pd.DataFrame(rows, columns=columns)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a recipe to be recorded, and record it.")
    commands = parser.add_subparsers(required=True, dest="command")
    command = commands.add_parser("train", help="train or go on, and score; into runs/")
    command.add_argument("name", metavar="RECIPE", help=", ".join(RECIPES))
    command.add_argument("--epochs", type=int, help="the recipe's number by default")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--source", default="cifar10", help="cifar10, synthetic, or the path of an .npz"
    )
    command.add_argument("--precision", choices=devices.PRECISIONS, help="default: the fastest")
    command.add_argument("--folder", help="the run's folder")
    for name, which in {"record": "the median", "suspects": "every one"}.items():
        command = commands.add_parser(name, help=f"store {which} of finished runs")
        command.add_argument("folders", nargs="+", type=Path)
        command.add_argument("--source", default="cifar10", help="cifar10 or synthetic")
    commands.add_parser("readme", help=f"compute the tables in {' and '.join(PAGES)} anew")
    arguments = vars(parser.parse_args())
    command = arguments.pop("command")
    try:
        if command == "train":
            train(**arguments)
        elif command == "record":
            print(f"Recorded in {record(**arguments)}")
        elif command == "suspects":
            print(*keep_suspects(**arguments), sep="\n")
        else:
            for page in map(ROOT.joinpath, PAGES):
                write_text(page, with_tables(page.read_text(encoding="utf-8")))
    except (ValueError, OSError, MemoryError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
