"""What the recorded runs come to, as text, for Assignment4B and the README."""

import csv
import itertools
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
import scipy  # scipy.stats is loaded where it is used: a second

from helpers.files import RECORDED
from helpers.training.recipes import RECIPES
from helpers.training.runs import Run, open_run, read_log

TEST, VALIDATION = 10_000, 5_000  # pictures
LAST = 10  # epochs whose mean stands beside a best one that the test pictures chose
NUMBERS = (
    "epochs", "of", "seed", "epoch", "val_acc", "test_acc", "test_acc_flip", "seconds"
)  # fmt: skip


def recorded_runs(saved: Path = RECORDED) -> list[dict]:
    """The rows of runs.csv, one per recorded run, its numbers as numbers."""
    with open(saved / "runs.csv", newline="") as file:
        return [
            {key: float(text) if key in NUMBERS else text for key, text in row.items()}
            for row in csv.DictReader(file)
        ]


def sampling_deviation(accuracy: float, count: int) -> float:
    """Standard deviation of an accuracy over `count` pictures, were others drawn."""
    return float(np.sqrt(accuracy * (1 - accuracy) / count))


def accuracies(log: Path) -> np.ndarray:
    """The validation accuracies of a training_log.csv, float64, one per epoch."""
    return read_log(log)["val_acc"].to_numpy()


def of_log(log: Path) -> str:
    """Best and last epoch of a log whose validation pictures are the test pictures."""
    found = accuracies(log)
    mean, deviation = found[-LAST:].mean(), found[-LAST:].std(ddof=1)
    return (
        f"best {found.max():.2%} (epoch {found.argmax() + 1}), last {found[-1]:.2%}, "
        f"mean of the last {LAST} {mean:.2%} (sd {100 * deviation:.2f})"
    )


def reproduction(saved: Path = RECORDED) -> str:
    """Whether the assignment's recipe, on its data in their roles, comes out as it did there."""
    logs = [saved / name / "training_log.csv" for name in ("assignment", "reproduction")]
    lasts = [accuracies(log)[-LAST:] for log in logs]
    tops = [100 * (accuracies(log).max() - last.mean()) for log, last in zip(logs, lasts)]
    apart = 100 * (lasts[1].mean() - lasts[0].mean())
    chance = 200 * np.sqrt(sum(last.var(ddof=1) / LAST for last in lasts))  # two standard errors
    stands = abs(apart) <= chance
    fewer = open_run(saved / "course").info["scores"]["test_acc"]
    return (
        f"The assignment's recipe trained again as it was, all 50,000 pictures for training and "
        f"the test pictures to choose the epoch (`reproduction`, one seed): {of_log(logs[1])}. The "
        f"last {LAST} epochs lie {abs(apart):.2f} points {'above' if apart > 0 else 'below'} the "
        f"assignment's, {'less' if stands else 'more'} than the {chance:.1f} (two standard errors) "
        f"that jumps between epochs make by chance: the reproduction "
        f"{'stands' if stands else 'does not stand'}. The best epoch, which the test pictures "
        f"chose, lies {tops[0]:.2f} points above that mean there and {tops[1]:.2f} here: such a "
        f"choice reports the top of the jumps. With a tenth fewer pictures, its epoch chosen on "
        f"others (`course`, one seed), {fewer:.2%} ± {100 * sampling_deviation(fewer, TEST):.2f} "
        f"of the test pictures are right."
    )


def table(saved: Path = RECORDED) -> str:
    """All recorded runs as a Markdown table, runs of one kind in one row, the assignment's first.

    Behind ± stands the sampling deviation, behind sd the deviation between seeds, in points.
    """
    lines = [
        "| recipe | trains on | epochs | seed | validation | test | mirror averaged | hours |",
        "|---|---|---|---|---|---|---|---|",
        "| the assignment | 50,000; the test pictures choose | 50 | unknown | "
        f"| {of_log(saved / 'assignment/training_log.csv')} | | |",
    ]
    kind = itemgetter("recipe", "of", "data", "epochs")
    runs = sorted(recorded_runs(saved), key=kind)
    runs.sort(key=lambda row: row["recipe"] != "reproduction")  # it stands beside the assignment
    for (recipe, of, data, done), rows in itertools.groupby(runs, kind):
        group = list(rows)
        seeds = ", ".join(f"{row['seed']:.0f}" for row in group)
        epochs = f"{of:.0f}" if done == of else f"{done:.0f} of {of:.0f}"
        hours = np.mean([row["seconds"] for row in group]) / 3600
        if recipe == "reproduction":
            pictures, validation, flip = "50,000; the test pictures choose", "", ""
            test = of_log(saved / recipe / "training_log.csv")
        else:
            chosen = RECIPES[recipe].selection == "best"
            pictures = f"45,000; 5,000 others {'choose' if chosen else 'validate'}"
            counts = {"val_acc": VALIDATION, "test_acc": TEST, "test_acc_flip": TEST}
            validation, test, flip = (
                _mean([row[key] for row in group], count) for key, count in counts.items()
            )
        if data != "CIFAR-10":
            pictures += f"; all of {data}"
        lines.append(
            f"| `{recipe}` | {pictures} | {epochs} | {seeds} | {validation} | {test} | {flip} | "
            f"{hours:.1f} |"
        )
    return "\n".join(lines)


def _mean(accuracies, pictures):
    mean = np.mean(accuracies)
    spread = f", sd {100 * np.std(accuracies, ddof=1):.2f}" if len(accuracies) > 1 else ""
    return f"{mean:.2%} ± {100 * sampling_deviation(mean, pictures):.2f}{spread}"


@dataclass(frozen=True)
class PairedTest:
    """McNemar's exact test: two networks on the same pictures."""

    only_first: int  # pictures that only the first network gets right
    only_second: int
    p_value: float  # two-sided: as large a difference by chance, were they equally good


def mcnemar(first_correct, second_correct) -> PairedTest:
    """Compare two networks picture by picture: McNemar (1947), 10.1007/BF02295996, exact.

    Args:
        first_correct, second_correct: bool (N,), for the same pictures in the same order.

    Raises:
        ValueError: arrays of different shape.
    """
    first, second = np.asarray(first_correct, bool), np.asarray(second_correct, bool)
    if first.shape != second.shape:
        raise ValueError(f"{first.shape} and {second.shape}: both must judge the same pictures.")
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    differing = only_first + only_second
    p_value = scipy.stats.binomtest(only_first, differing).pvalue if differing else 1.0
    return PairedTest(only_first, only_second, float(p_value))


def headline(saved: Path = RECORDED) -> str:
    """The comparison in a few sentences, computed from what is recorded.

    Raises ValueError where no run of MODERN over 50 epochs is recorded.
    """
    best = accuracies(saved / "assignment/training_log.csv").max()
    kind, complete = itemgetter("of", "recipe"), {}
    for row in sorted(recorded_runs(saved), key=kind):
        if row["recipe"] in ("modern", "short") and row["epochs"] == row["of"]:
            complete.setdefault(kind(row), []).append(row["test_acc"])
    if (50, "modern") not in complete:
        raise ValueError("runs.csv has no run of modern over 50 epochs to tell of.")
    modern = complete.pop((50, "modern"))
    shorter = ", ".join(
        f"{np.mean(found):.2%} in {of:.0f} epochs (`{name}`, {_seeds(found)})"
        for (of, name), found in complete.items()
    )
    return (
        f"This course grew out of an older assignment, of which the training log is left: its best "
        f"epoch of 50, chosen on the test pictures, had {best:.2%} of them right. `modern`, the "
        f"same network in the same 50 epochs on a tenth fewer pictures, has "
        f"**{np.mean(modern):.2%}** ({_seeds(modern)}; its last epoch, nothing chosen on the test "
        f"pictures): {1 - np.mean(modern):.1%} errors instead of {1 - best:.1%}. "
        f"{compared(saved)}" + (f" Complete shorter schedules reach {shorter}." if shorter else "")
    )


def _seeds(found):
    return f"mean of {len(found)} seeds" if len(found) > 1 else "one seed"


def compared(saved: Path = RECORDED) -> str:
    """The recorded network of MODERN against COURSE's, picture by picture."""
    runs = [open_run(saved / name) for name in ("course", "modern")]
    paired = mcnemar(*(run.test_correct() for run in runs))
    return (
        f"Of the same test pictures, {paired.only_second} are right only with `modern` and "
        f"{paired.only_first} only with `course`, the assignment's recipe on the same 45,000 "
        f"pictures (McNemar's exact test of these two networks, p = {paired.p_value:.0e})."
    )


def details(run: Run) -> str:
    """Where a run comes from, in one line: seed, precision, machine, versions."""
    made = run.info["environment"]
    return (
        f"`{run.info['recipe']['name']}`: seed {run.info['seed']}, {run.info['precision']}, "
        f"{made['device']}, {made['backend']}, Keras {made['keras']}, Python {made['python']}, "
        f"{run.info['seconds'] / 3600:.1f} hours, revision {made['revision']}"
    )
