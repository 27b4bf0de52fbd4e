"""What is told of the recorded runs: tables on made-up rows, and every number of the pages."""

import json
import math
import re
import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest
import scipy

from helpers.files import RECORDED, ROOT
from helpers.training import report
from tools import record

ROW = {
    "recipe": "modern", "epochs": 50, "of": 50, "seed": 0, "epoch": 50, "val_acc": 0.92,
    "test_acc": 0.9, "test_acc_flip": 0.91, "seconds": 3600, "precision": "float32",
    "device": "CPU", "backend": "tensorflow", "data": "CIFAR-10",
}  # fmt: skip


@pytest.fixture
def table(tmp_path):
    """The table of some rows of runs.csv, each given by what differs from ROW."""
    shutil.copytree(RECORDED / "assignment", tmp_path / "assignment")

    def rows(*changes):
        pd.DataFrame([ROW | change for change in changes]).to_csv(tmp_path / "runs.csv")
        return report.table(tmp_path)

    return rows


def test_runs_of_one_recipe_and_length_share_a_row(table, tmp_path):
    accuracies = (0.90, 0.91, 0.95)
    seeds = [
        {"seed": i, "test_acc": a, "val_acc": a - 0.1, "seconds": s}
        for i, (a, s) in enumerate(zip(accuracies, (60, 120, 900)))
    ]
    again = ({"recipe": "reproduction", "seed": i, "test_acc": 0.86 + i / 50} for i in (0, 1))
    found = table(*seeds, {"epochs": 5, "of": 5}, {"recipe": "course"}, *again)
    assert found["test %"][1] == 87  # of two reproductions
    assert list(found["recipe"]) == ["assignment", "reproduction", "modern", "course", "modern"]
    assert list(found["epochs"]) == [50, 50, 5, 50, 50]
    last = "nothing: the last"
    assert list(found["chosen on"]) == ["test", "test", last, "validation", last]
    row = found.iloc[-1]
    assert (row["runs"], row["test %"], row["validation %"], row["minutes"]) == (3, 92, 82, 2)
    assert row["sd"] == round(100 * np.std(accuracies, ddof=1), 2)
    assert row["±"] == round(100 * report.standard_error(accuracies), 2)
    assert np.isnan(found["sd"][0]) and found["test %"][0] == 88.08 and found["minutes"][0] == 29


def test_a_recipe_with_a_name_of_its_own_stands_in_the_table(table, tmp_path):
    assert list(table({"recipe": "mine"})["recipe"]) == ["assignment", "mine"]
    (tmp_path / "mine").mkdir()
    recipe = {"name": "mine", "hold_out": False}
    (tmp_path / "mine/run.json").write_text(json.dumps({"recipe": recipe}))
    assert report.table(tmp_path)["chosen on"][1] == "test"


def test_the_standard_error_is_how_far_the_mean_moves():
    rng = np.random.default_rng(0)

    def accuracies(networks):  # of easy and of hard pictures, drawn anew each time
        chance = rng.beta(0.5, 0.05, 2000)
        return (rng.random((networks, 2000)) < chance).mean(axis=1)

    for networks in (1, 3):
        found = [accuracies(networks) for _ in range(4000)]
        moves = np.std([np.mean(each) for each in found])
        told = math.sqrt(np.mean([report.standard_error(each, 2000) ** 2 for each in found]))
        assert told == pytest.approx(moves, rel=0.04)


def test_the_rows_of_a_log_to_read_first():
    log = pd.DataFrame({"epoch": range(1, 26), "val_acc": [0.1] * 6 + [0.5] + [0.3] * 18})
    assert list(report.excerpt(log)["epoch"]) == [1, 2, 3, 7, 10, 20, 25]


def test_where_the_stored_networks_come_from():
    found = report.provenance().set_index("recipe")
    for path in RECORDED.glob("*/run.json"):
        info = json.loads(path.read_text())
        row = found.loc[path.parent.name]
        assert row["seed"] == info["seed"] and row["keras"] == info["environment"]["keras"]


def test_mcnemar_is_the_binomial_test_of_the_differing_pictures():
    first, second = np.array([1, 1, 1, 1, 0, 0, 1]), np.array([1, 0, 1, 1, 1, 1, 1])
    assert report.mcnemar(first, second) == (1, 2, pytest.approx(1))  # 1 or 2 of 3, both sides
    assert report.mcnemar(np.zeros(6), np.ones(6)) == (0, 6, pytest.approx(2 * 0.5**6))
    assert report.mcnemar(first, first) == (0, 0, 1)


@pytest.mark.parametrize("name", record.PAGES)
def test_the_tables_of_the_pages_are_those_of_the_recorded_runs(name):
    page = (ROOT / name).read_text(encoding="utf-8")
    assert record.with_tables(page) == page
    assert record.with_tables(page.replace(" 88.08 |", " 88.18 |")) == page


def computed():
    """What the sentences may say, from saved_models/ and nothing else: {name: number}."""
    logs = {p.parent.name: pd.read_csv(p) for p in RECORDED.glob("*/training_log.csv")}
    runs = pd.read_csv(RECORDED / "runs.csv")
    test = 100 * runs.groupby(["recipe", "of"])["test_acc"].mean()
    right = {}
    for name in ("course", "modern"):
        with np.load(RECORDED / name / "test_predictions.npz") as file:
            right[name] = file["probabilities"].argmax(axis=1) == np.arange(10).repeat(1000)
    gained, lost = (
        np.sum(right["modern"] > right["course"]),
        np.sum(right["modern"] < right["course"]),
    )
    values = {
        "gained": gained, "lost": lost, "p": scipy.stats.binomtest(lost, gained + lost).pvalue,
        "modern": test["modern", 50], "errors": 100 - test["modern", 50],
    }  # fmt: skip
    for name in ("assignment", "reproduction"):
        accuracy = 100 * logs[name]["val_acc"]
        last, best = accuracy[-10:], accuracy.max()
        slope = np.polyfit(range(10), last, 1)[0]
        trend = slope * (accuracy.argmax() - last.index.to_numpy().mean())
        values |= {
            f"{name} best": best, f"{name} errors": 100 - best, f"{name} mean": last.mean(),
            f"{name} sd": last.std(), f"{name} above": best - last.mean(),
            f"{name} slope": slope, f"{name} trend": trend,
        }  # fmt: skip
    cells = nbformat.read(ROOT / "Assignment4B.ipynb", as_version=4).cells
    (output,) = next(cell.outputs for cell in cells if cell.id == "contrast-numbers")
    column = re.findall("<td>(.*?)</td>", output.data["text/html"])[5 * 8 : 5 * 9]  # the ninth
    assert column[:2] == ["truck", "automobile"]
    values |= {"chance": 100 * float(column[2]), "sum": float(column[3])}
    values["apart"] = values["assignment mean"] - values["reproduction mean"]
    return values


# A number in a sentence, and what it must be: a name of `computed`, or what was measured elsewhere.
SAID = {
    "README.md": [
        (r"left: ([\d.]+)% of the test pictures in its best epoch of 50", "assignment best"),
        (r"and reaches ([\d.]+)%: ([\d.]+)% errors instead of ([\d.]+)%",
         "modern", "errors", "assignment errors"),
        (r"(\d+) are right only with `modern` and (\d+) only with `course`", "gained", "lost"),
        (r"exact test, p = ([\de-]+)\)", "p"),
        (r"the assignment has ([\d.]+)% on average, `reproduction` ([\d.]+)%\.",
         "assignment mean", "reproduction mean"),
        (r"an sd of ([\d.]+) points there and ([\d.]+) here", "assignment sd", "reproduction sd"),
        (r"lies ([\d.]+) points above that mean: ([\d.]+) of them are trend, as the accuracy still "
         r"rose by ([\d.]+) points", "assignment above", "assignment trend", "assignment slope"),
        (r"best lies ([\d.]+) points above its own", "reproduction above"),
        (r"had ([\d.]+)% of CIFAR-10's test pictures right, and ([\d.]+)% of the copy's",
         86.02, 84.94),  # not kept
    ],
    "Assignment4B.ipynb": [
        (r"scaled to 0\.\.1 it answers like a guess, ([\d.]+)% right", 10.0),  # measured once
        (r"assignment's ([\d.]+) points above its last ten epochs, ([\d.]+) are trend",
         "assignment above", "assignment trend"),
        (r"`reproduction` averages ([\d.]+)% there, ([\d.]+) points less",
         "reproduction mean", "apart"),
        (r"\*automobile\* has (\d+)% of the probability, and its map sums to ([\d.]+) of the other",
         "chance", "sum"),
    ],
}  # fmt: skip


def sentences(name):
    """The prose of a page, on one line: no tables, no code, no formulas."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".ipynb"):
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = re.sub(r"(?ms)```.*?```|^\|.*?$|\$\$?.+?\$\$?", "", text)
    return " ".join(text.split())


@pytest.mark.parametrize("name", SAID)
def test_every_number_in_a_sentence_is_the_recorded_one(name):
    text, values = sentences(name), computed()
    for pattern, *expected in SAID[name]:
        found = re.findall(pattern, text)
        assert len(found) == 1, pattern
        numbers = found[0] if len(expected) > 1 else found
        for number, value in zip(numbers, expected, strict=True):
            value = values.get(value, value)
            rounded = (
                f"{value:.0e}" if "e" in number else f"{value:.{len(number.partition('.')[2])}f}"
            )
            assert number == rounded, pattern
        text = re.sub(pattern, "", text)
    assert not re.findall(r"[^.]*\d%|[^.]*\d points", text)  # shares and differences nobody checks
