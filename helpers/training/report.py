"""What the recorded runs come to: tables for Assignment4B and the README, and a paired test."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import scipy  # scipy.stats is loaded where it is used: a second

from helpers.files import RECORDED
from helpers.training.recipes import RECIPES
from helpers.training.runs import read_log


def standard_error(accuracies, pictures: int = 10_000) -> float:
    """Of the mean accuracy of a recipe's networks: how far it moves with other pictures and seeds.

    Accuracies are shares of 1, all on the same pictures. Of the binomial variance of one network,
    the variance between the networks is what each has for itself, and a mean of k leaves a k-th of
    it; the rest they share, as a hard picture is hard for all of them.
    """
    k, mean = len(accuracies), np.mean(accuracies)
    own = np.var(accuracies, ddof=1) if k > 1 else 0
    shared = max(mean * (1 - mean) / pictures - own, 0)
    return float(np.sqrt(shared + own / k))


def table(saved: Path = RECORDED) -> pd.DataFrame:
    """All recorded runs and the assignment's, runs of one recipe and length in one row.

    Accuracies are means in percent, "±" is the standard error of "test %", "sd" the standard
    deviation between the runs, "minutes" the median run's. "chosen on" names the pictures that
    chose the epoch; where these are the test pictures, "test %" flatters; such rows come first.
    """
    log = read_log(saved / "assignment/training_log.csv")
    assignment = {
        "recipe": "assignment", "epochs": len(log), "test_acc": log["val_acc"].max(),
        "seconds": log["seconds"].sum(),
    }  # fmt: skip
    runs = pd.concat([pd.read_csv(saved / "runs.csv"), pd.DataFrame([assignment])])
    stored = [json.loads(path.read_text())["recipe"] for path in saved.glob("*/run.json")]
    known = [{"name": "assignment", "hold_out": False}, *map(asdict, RECIPES.values()), *stored]
    settings = {recipe["name"]: recipe for recipe in known}
    rows = []
    for (name, epochs), group in runs.groupby(["recipe", "epochs"]):
        recipe, mean = settings.get(name, {}), 100 * group.mean(numeric_only=True)
        best = "validation" if recipe.get("hold_out", True) else "test"
        rows.append({
            "recipe": name, "epochs": epochs, "runs": len(group),
            "chosen on": "nothing: the last" if recipe.get("selection") == "last" else best,
            "validation %": mean["val_acc"], "test %": mean["test_acc"],
            "±": 100 * standard_error(group["test_acc"]), "sd": 100 * group["test_acc"].std(),
            "mirror averaged %": mean["test_acc_flip"],
            "minutes": round(group["seconds"].median() / 60),
        })  # fmt: skip
    rows.sort(key=lambda row: (row["chosen on"] != "test", row["epochs"], row["recipe"]))
    return pd.DataFrame(rows).round(2)


def mcnemar(first_correct, second_correct) -> tuple[int, int, float]:
    """Compare two networks on the same pictures: McNemar (1947), 10.1007/BF02295996, exact.

    Takes two arrays, bool (N,). Returns how many pictures only the first gets right, how many only
    the second, and the probability of a split at least as uneven, were both networks equally good.
    """
    first, second = np.asarray(first_correct, bool), np.asarray(second_correct, bool)
    counts = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    p = scipy.stats.binomtest(counts[0], sum(counts)).pvalue if sum(counts) else 1.0
    return *counts, float(p)
