import dataclasses
import json
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from helpers.files import RECORDED
from helpers.training import data, runs
from helpers.training.recipes import COURSE, MODERN, RECIPES, plan
from tools import record


@pytest.fixture(scope="module")
def few():
    """Fewer pictures than data.load("synthetic") draws."""
    return data.synthetic(train=200, test=300)


@pytest.fixture(scope="module")
def run(few, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "quick"
    with pytest.MonkeyPatch.context() as patch:
        recipe = dataclasses.replace(COURSE, name="quick", depth=11, epochs=1)
        patch.setitem(RECIPES, "quick", recipe)
        with pytest.MonkeyPatch.context() as drawn:
            drawn.setattr(data, "load", {"synthetic": few}.get)
            trained = record.train("quick", source="synthetic", precision="float32", folder=folder)
        yield trained


def test_a_cut_schedule_and_one_laid_out_anew():
    assert plan("course", 5) == (COURSE, 5)
    assert plan("modern", None) == (MODERN, 50)
    short, epochs = plan("modern", 8)
    assert epochs == short.epochs == 8
    assert short.rate(8) == 0 and MODERN.rate(8) > 0
    for name, epochs, message in (("x", 1, "RECIPE = 'x'"), ("course", -1, "EPOCHS = -1")):
        with pytest.raises(ValueError, match=message):
            plan(name, epochs)


def test_scores_are_those_of_the_checkpoint_on_test_pictures(run, few):
    network, scores = run.network(), run.info["scores"]
    plain, mirrored = (np.asarray(network(x)) for x in (few.x_test, np.flip(few.x_test, axis=2)))
    assert scores["epoch"] == run.best["epoch"]
    assert scores["test_acc"] == pytest.approx(np.mean(plain.argmax(1) == few.y_test))
    both = np.mean((plain + mirrored).argmax(1) == few.y_test)
    assert scores["test_acc_flip"] == pytest.approx(both)


def test_test_pictures_are_predicted_once(run, few, tmp_path):
    shutil.copytree(run.folder, tmp_path, dirs_exist_ok=True)
    copy, network = runs.open_run(tmp_path), run.network()
    predicted = network.predict(few.x_test, verbose=0)
    kept = copy.test_probabilities()
    assert np.allclose(kept, predicted, atol=3e-4)  # rounded to 16 bits
    assert np.array_equal(kept.argmax(axis=1), predicted.argmax(axis=1))
    assert np.array_equal(copy.predict_test(network, few), kept)

    # Of other pictures, of another network, or never scored: no kept prediction is believed.
    copied = dataclasses.replace(few, source="copy.npz")
    assert not np.array_equal(copy.predict_test(network, copied), kept)
    fewer = dataclasses.replace(few, x_test=few.x_test[:150], y_test=few.y_test[:150])
    assert len(copy.predict_test(network, fewer)) == 150
    np.savez(tmp_path / runs.PREDICTIONS, probabilities=kept[::-1])
    assert np.allclose(copy.predict_test(network, few), predicted, atol=1e-6)
    (tmp_path / runs.PREDICTIONS).write_bytes(b"half")
    with pytest.raises(ValueError, match=r"test_predictions.npz is damaged \(.*git checkout"):
        copy.predict_test(network, few)
    (tmp_path / runs.PREDICTIONS).unlink()
    assert np.allclose(copy.predict_test(network, few), predicted, atol=1e-6)
    with pytest.raises(FileNotFoundError, match="score the run first"):
        copy.test_correct()
    wrong = np.roll(np.eye(10), 1, axis=1).repeat(30, axis=0)
    np.savez(tmp_path / runs.PREDICTIONS, probabilities=wrong)
    with pytest.raises(ValueError, match="other predictions than run.json tells"):
        copy.test_correct()


def test_rounding_what_is_kept_changes_no_class(run, few, tmp_path):
    shutil.copytree(run.folder, tmp_path, dirs_exist_ok=True)
    close = np.full((len(few.x_test), 10), 0.05, np.float32)
    close[:, 3:5] = 0.29998, 0.30002  # the same number in 16 bits

    class Undecided:
        def predict(self, x, verbose):
            return close

    copy = runs.open_run(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.Run, "network", lambda self: Undecided())
        runs.score(copy, few)
    assert np.all(copy.test_probabilities().argmax(axis=1) == 4)
    assert np.allclose(copy.test_probabilities(), close, atol=3e-4)


def test_another_file_under_the_checkpoints_name_is_refused(run, tmp_path):
    shutil.copytree(run.folder, tmp_path, dirs_exist_ok=True)
    copy = runs.open_run(tmp_path)
    copy.checkpoint().write_bytes(copy.checkpoint().read_bytes() + b" ")
    with pytest.raises(ValueError, match="not the file whose scores.*git checkout, or train again"):
        copy.network()


def variants(run, tmp_path, accuracies):
    """Copies of a one-epoch run with other seeds and validation accuracies."""
    for seed, accuracy in enumerate(accuracies):
        shutil.copytree(run.folder, tmp_path / str(seed))
        info = {**json.loads((run.folder / "run.json").read_text()), "seed": seed}
        (tmp_path / str(seed) / "run.json").write_text(json.dumps(info))
        header, row = (run.folder / "training_log.csv").read_text().splitlines()
        values = row.split(",")
        values[runs.COLUMNS.index("val_acc")] = str(accuracy)
        text = f"{header}\n{','.join(values)}\n"
        (tmp_path / str(seed) / "training_log.csv").write_text(text)
    return [tmp_path / str(seed) for seed in range(len(accuracies))]


def changed(folder, **changes):
    """Change a run's run.json, and its recipe by what is named `recipe`."""
    info = json.loads((folder / "run.json").read_text())
    recipe = info["recipe"] | changes.pop("recipe", {})
    (folder / "run.json").write_text(json.dumps({**info, **changes, "recipe": recipe}))
    return folder


def test_the_median_is_kept_and_every_run_noted(run, tmp_path):
    folders, saved = variants(run, tmp_path, [0.9, 0.7, 0.8]), tmp_path / "saved"
    saved.mkdir()
    record.record(folders[:2], saved)
    assert record.record(folders, saved) == saved / "quick"
    kept, whole = runs.open_run(saved / "quick"), runs.open_run(folders[2])
    assert kept.info["seed"] == 2 and len(list(kept.folder.glob("*.keras"))) == 1
    assert kept.checkpoint().stat().st_size < 0.9 * whole.checkpoint().stat().st_size
    for ours, theirs in zip(
        kept.network().get_weights(), whole.network().get_weights(), strict=True
    ):
        assert np.array_equal(ours, theirs)
    noted = pd.read_csv(saved / "runs.csv")
    assert list(noted["seed"]) == [0, 1, 2] and list(noted["val_acc"]) == [0.9, 0.7, 0.8]


def test_a_repeated_run_replaces_its_row_and_leaves_the_others(run, tmp_path):
    (folder,), saved = variants(run, tmp_path, [0.9]), tmp_path / "saved"
    saved.mkdir()
    others = (RECORDED / "runs.csv").read_text().replace(",CIFAR-10", f",{run.info['data']}")
    (saved / "runs.csv").write_text(others)
    for device in ("CPU, 2 cores", "GPU"):
        changed(folder, environment=run.info["environment"] | {"device": device})
        record.record([folder], saved)
    rows = (saved / "runs.csv").read_text().splitlines()
    (row,) = (line for line in rows if line.startswith("quick"))
    rows.remove(row)
    assert ",GPU," in row and rows == others.splitlines()


def test_of_another_length_only_the_row_is_kept(run, tmp_path, monkeypatch):
    (folder,), saved = variants(run, tmp_path, [0.9]), tmp_path / "saved"
    saved.mkdir()
    monkeypatch.setitem(RECIPES, "quick", RECIPES["quick"].with_epochs(2))
    assert record.record([folder], saved) == saved
    assert [path.name for path in saved.iterdir()] == ["runs.csv"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"complete": False, "recipe": {"epochs": 99}}, "is not finished and scored"),
        ({"scores": {}}, "is not finished and scored"),
        ({"data": "copy.npz"}, "others are on"),
        ({"recipe": {"shift": 0.3, "l2": 0}}, "differ in shift, l2"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_runs_that_cannot_stand_in_one_table_are_refused(run, tmp_path, changes, message, together):
    folders, saved = variants(run, tmp_path, [0.9, 0.7]), tmp_path / "saved"
    saved.mkdir()
    record.record(folders[:1], saved)
    before = {path: path.read_bytes() for path in saved.rglob("*.*")}
    changed(folders[1], **changes)
    with pytest.raises(ValueError, match=message):
        record.record(folders if together else folders[1:], saved)
    assert {path: path.read_bytes() for path in saved.rglob("*.*")} == before


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["train", "resnet"],
            f"RECIPE = 'resnet' is unknown; it is one of {', '.join(RECIPES)}.",
        ),
        (["train", "course", "--epochs", "-2"], "EPOCHS = -2: a whole number"),
        (["train", "course", "--source", "gone.npz"], "gone.npz"),
        (["record", "nowhere"], "nowhere is no run folder"),
    ],
)
def test_the_command_ends_with_one_clear_line(monkeypatch, words, message):
    monkeypatch.setattr(sys, "argv", ["record", *words])
    with pytest.raises(SystemExit, match=re.escape(message)):  # Python prints it
        record.main()
