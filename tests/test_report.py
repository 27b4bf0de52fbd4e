"""What is told of the recorded runs: tables on made-up rows, and every number of the pages."""

import re
import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest

from helpers.files import RECORDED, ROOT
from helpers.training import report, runs
from tools import record

ROW = dict.fromkeys(("val_acc", "test_acc", "test_acc_flip"), 0.9)
ROW |= {"recipe": "modern", "epochs": 50, "seconds": 3600}


def table(saved, *changes):
    """The table of some rows of runs.csv, each given by what differs from ROW."""
    shutil.copytree(RECORDED / "assignment", saved / "assignment")
    pd.DataFrame([ROW | change for change in changes]).to_csv(saved / "runs.csv")
    return report.table(saved)


def test_runs_of_one_recipe_and_length_share_a_row(tmp_path):
    accuracies = 0.90, 0.91, 0.95
    seeds = [
        {"test_acc": x, "val_acc": x - 0.1, "seconds": 60 * 15**i} for i, x in enumerate(accuracies)
    ]
    again = ({"recipe": "reproduction", "test_acc": x} for x in (0.86, 0.88))
    found = table(tmp_path, *seeds, {"epochs": 5}, {"recipe": "course"}, *again)
    last = "nothing: the last"
    assert found[["recipe", "epochs", "chosen on"]].to_numpy().tolist() == [
        ["assignment", 50, "test"], ["reproduction", 50, "test"], ["modern", 5, last],
        ["course", 50, "validation"], ["modern", 50, last],
    ]  # fmt: skip
    assert list(found["test %"]) == [88.08, 87, 90, 90, 92]  # 87 of two reproductions
    row = found.iloc[-1]
    assert (row["runs"], row["validation %"], row["minutes"]) == (3, 82, 15)
    assert row["sd"] == round(100 * np.std(accuracies, ddof=1), 2)
    assert row["±"] == round(100 * report.standard_error(accuracies), 2)
    assert np.isnan(found["sd"][0]) and found["minutes"][0] == 29


def test_a_recipe_with_a_name_of_its_own_stands_in_the_table(tmp_path):
    assert list(table(tmp_path, {"recipe": "mine"})["recipe"]) == ["assignment", "mine"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/run.json").write_text('{"recipe": {"name": "mine", "hold_out": false}}')
    assert report.table(tmp_path)["chosen on"][1] == "test"


def test_the_standard_error_is_how_far_the_mean_moves():
    rng = np.random.default_rng(0)
    for networks in (1, 3):  # easy and hard pictures, drawn anew 4000 times
        chance = rng.beta(0.5, 0.05, (4000, 1, 2000))
        accuracies = (rng.random((4000, networks, 2000), np.float32) < chance).mean(axis=2)
        variances = [report.standard_error(each, 2000) ** 2 for each in accuracies]
        moves = np.std(accuracies.mean(axis=1))
        assert np.sqrt(np.mean(variances)) == pytest.approx(moves, rel=0.04)


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
    """What the sentences may say, from what is stored and nothing else: {name: number}."""
    recorded = {
        name: runs.open_run(RECORDED / name) for name in ("course", "modern", "short", "taught")
    }
    right = {name: run.test_correct() for name, run in recorded.items()}
    values = dict(zip(("gained", "lost", "p"), report.mcnemar(right["modern"], right["course"])))
    said = {name: run.test_probabilities().argmax(axis=1) for name, run in recorded.items()}
    student = report.mcnemar(right["taught"], right["modern"])
    values |= dict(zip(("student", "teacher", "student p"), student))
    for name in ("taught", "short"):
        again = (said[name] == said["modern"])[~right["modern"]]
        values[f"{name} repeats"] = 100 * again.mean()
    rows = pd.read_csv(RECORDED / "runs.csv")
    values["taught shifted"] = 100 * rows[rows["recipe"] == "taught"]["test_acc_shifted"].mean()
    rows = rows.query("recipe == 'modern' and of == 50")
    values |= {"modern": (modern := 100 * rows["test_acc"].mean()), "errors": 100 - modern}
    for name in ("assignment", "reproduction"):
        accuracy = 100 * pd.read_csv(RECORDED / name / "training_log.csv")["val_acc"]
        last, best, mean = accuracy[-10:], accuracy.max(), accuracy[-10:].mean()
        slope = np.polyfit(last.index, last, 1)[0]
        values |= {
            f"{name} best": best, f"{name} mean": mean, f"{name} sd": last.std(),
            f"{name} above": best - mean, f"{name} slope": slope, f"{name} errors": 100 - best,
            f"{name} trend": slope * (accuracy.argmax() - last.index.to_numpy().mean()),
        }  # fmt: skip
    values["apart"] = values["assignment mean"] - values["reproduction mean"]
    cells = nbformat.read(ROOT / "Assignment4B.ipynb", as_version=4).cells
    (output,) = next(cell.outputs for cell in cells if cell.id == "contrast-numbers")
    column = re.findall("<td>(.*?)</td>", output.data["text/html"])[5 * 8 : 5 * 9]  # the ninth
    assert column[:2] == ["truck", "automobile"]
    return values | {"chance": 100 * float(column[2]), "sum": float(column[3])}


# A number in a sentence, and what it must be: a name of `computed`, or what was measured elsewhere.
SAID = {
    "README.md": [
        (r"left: ([\d.]+)% of the test pictures in its best epoch of 50", "assignment best"),
        (r"and reaches ([\d.]+)%: ([\d.]+)% errors instead of ([\d.]+)%",
         "modern", "errors", "assignment errors"),
        (r"(\d+) are right only with `modern` and (\d+) only with `course`", "gained", "lost"),
        (r"exact test, p = ([\de-]+)\)", "p"),
        (r"(\d+) are right only with `taught` and (\d+) only with `modern` \(p = ([\de-]+)\)",
         "student", "teacher", "student p"),
        (r"`taught` has ([\d.]+)% right after 5 epochs; one run with all 50,000 pictures has "
         r"([\d.]+)%", "taught shifted", 93.22),  # the second not kept
        (r"of 0\.5 million parameters, has ([\d.]+)% after 10 epochs", 91.78),  # published
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
        (r"gives (\d+)% of its teacher's wrong answers again\. `short`, which has no teacher, "
         r"comes to (\d+)%", "taught repeats", "short repeats"),
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
    return " ".join(re.sub(r"(?ms)```.*?```|^\|.*?$|\$\$?.+?\$\$?", "", text).split())


@pytest.mark.parametrize("name", SAID)
def test_every_number_in_a_sentence_is_the_recorded_one(name):
    text, values = sentences(name), computed()
    for pattern, *expected in SAID[name]:
        matches = [*re.finditer(pattern, text)]
        assert len(matches) == 1, pattern
        for number, value in zip(matches[0].groups(), expected, strict=True):
            value = values.get(value, value)
            form = ".0e" if "e" in number else f".{len(number.partition('.')[2])}f"
            assert number == format(value, form), pattern
        text = re.sub(pattern, "", text)
    assert not re.findall(r"[^.]*\d%|[^.]*\d points", text)  # shares and differences nobody checks
