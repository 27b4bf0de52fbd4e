import csv
import math

import numpy as np
import pytest

from helpers.files import RECORDED, ROOT
from helpers.training import report
from helpers.training.runs import open_run

ROW = {
    "recipe": "modern", "epochs": 50, "of": 50, "seed": 0, "epoch": 50, "val_acc": 0.92,
    "test_acc": 0.9, "test_acc_flip": 0.91, "seconds": 3600, "precision": "float32",
    "device": "CPU", "backend": "tensorflow", "data": "CIFAR-10",
}  # fmt: skip


@pytest.fixture
def table(tmp_path):
    """The table of some rows, each given by what differs from ROW."""
    (tmp_path / "assignment").mkdir()
    log = (RECORDED / "assignment/training_log.csv").read_text()
    (tmp_path / "assignment/training_log.csv").write_text(log)

    def lines(*changes):
        with open(tmp_path / "runs.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, ROW)
            writer.writeheader()
            writer.writerows({**ROW, **change} for change in changes)
        return report.table(tmp_path).splitlines()[2:]

    return lines


def test_the_assignments_log(table):
    (line,) = table()
    told = "best 88.08% (epoch 50), last 88.08%, mean of the last 10 86.49% (sd 0.75)"
    assert line.startswith("| the assignment |") and told in line


def test_seeds_share_a_row_with_their_spread(table):
    accuracies = (0.90, 0.91, 0.95)
    _, line = table(*({"seed": i, "test_acc": a} for i, a in enumerate(accuracies)))
    assert "| 0, 1, 2 |" in line and "| 1.0 |" in line
    deviation = 100 * math.sqrt(0.92 * 0.08 / 10_000)
    assert f"| 92.00% ± {deviation:.2f}, sd {100 * np.std(accuracies, ddof=1):.2f} |" in line
    assert f"| 92.00% ± {100 * math.sqrt(0.92 * 0.08 / 5_000):.2f}, sd 0.00 |" in line


def test_lengths_unfinished_runs_and_other_pictures_have_rows_of_their_own(table):
    _, five, cut, whole, copy = table(
        {"of": 5, "epochs": 5}, {"seed": 0}, {"seed": 1, "epochs": 42}, {"data": "copy.npz"}
    )
    assert "| 5 |" in five and "| 42 of 50 | 1 |" in cut and "| 50 | 0 |" in whole
    assert "all of copy.npz" in copy and "copy.npz" not in cut
    assert "| 45,000; 5,000 others validate |" in whole


def test_a_recipe_whose_epoch_is_chosen_is_told_so(table):
    _, line = table({"recipe": "course"})
    assert "| 45,000; 5,000 others choose |" in line


@pytest.mark.parametrize(
    "gained, told", [(0.004, "0.40 points above"), (-0.02, "2.00 points below")]
)
def test_whether_the_reproduction_stands(table, tmp_path, gained, told):
    table()
    rows = list(csv.DictReader((tmp_path / "assignment/training_log.csv").open(newline="")))
    (tmp_path / "course").symlink_to(RECORDED / "course")
    (tmp_path / "reproduction").mkdir()
    with open(tmp_path / "reproduction/training_log.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "val_acc": float(row["val_acc"]) + gained})
    found = report.reproduction(tmp_path)
    assert told in found and f"last {0.8808 + gained:.2%}" in found
    assert ("reproduction stands." in found) == (abs(gained) < 0.007)
    assert "1.59 points above that mean there and 1.59 here" in found
    # Two means of ten whose single values deviate by 0.75.
    assert f"than the {2 * math.sqrt(2 * 0.75**2 / 10):.1f} (two standard errors)" in found
    assert f"{open_run(RECORDED / 'course').info['scores']['test_acc']:.2%} ± " in found


def test_the_headline_needs_a_run_of_modern_over_50_epochs(table, tmp_path):
    table({"of": 8, "epochs": 8}, {"epochs": 42})
    with pytest.raises(ValueError, match="no run of modern over 50 epochs"):
        report.headline(tmp_path)


def test_the_headline_tells_of_complete_shorter_schedules(table, tmp_path):
    eight = {"of": 8, "epochs": 8}
    table({}, {"epochs": 5}, {**eight, "test_acc": 0.88}, {**eight, "seed": 1, "test_acc": 0.9})
    for name in ("course", "modern"):
        (tmp_path / name).symlink_to(RECORDED / name)
    told = report.headline(tmp_path)
    assert "**90.00%** (one seed;" in told
    assert told.endswith(" schedules reach 89.00% in 8 epochs (`modern`, mean of 2 seeds).")


def test_modern_is_compared_with_course_on_the_same_pictures():
    labels, right = np.arange(10).repeat(1000), {}
    for name in ("course", "modern"):
        with np.load(RECORDED / name / "test_predictions.npz") as kept:
            right[name] = kept[kept.files[0]].argmax(axis=1) == labels
    gained, lost = right["modern"] > right["course"], right["modern"] < right["course"]
    told = report.compared()
    assert f"{gained.sum()} are right only with `modern` and {lost.sum()} only" in told
    assert told in report.headline()


def test_the_hours_told_in_the_readme_hold_those_of_the_recorded_runs():
    assert "| forty minutes to six hours |" in (ROOT / "README.md").read_text(encoding="utf-8")
    hours = [row["seconds"] / 3600 for row in report.recorded_runs() if row["epochs"] == 50]
    assert min(hours) >= 2 / 3 and max(hours) <= 6


def test_mcnemar_is_the_binomial_test_of_the_differing_pictures():
    first, second = np.array([1, 1, 1, 1, 0, 0, 1]), np.array([1, 0, 1, 1, 1, 1, 1])
    found = report.mcnemar(first, second)
    assert (found.only_first, found.only_second) == (1, 2)
    assert found.p_value == pytest.approx(1.0)  # 1 or 2 of 3, both sides
    found = report.mcnemar(np.zeros(6), np.ones(6))
    assert found.p_value == pytest.approx(2 * 0.5**6)
    assert report.mcnemar(first, first).p_value == 1
    with pytest.raises(ValueError, match="same pictures"):
        report.mcnemar(first, first[:3])
