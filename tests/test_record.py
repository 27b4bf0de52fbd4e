"""Runs of a tiny recipe, trained once: scored, predicted, recorded."""

import dataclasses
import json
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


@pytest.fixture
def copy(run, tmp_path):
    return runs.open_run(shutil.copytree(run.folder, tmp_path / "copy"))


@pytest.fixture
def saved(tmp_path):
    (tmp_path / "saved").mkdir()
    return tmp_path / "saved"


def test_a_cut_schedule_and_one_laid_out_anew():
    assert plan("course", 5) == (COURSE, 5) and plan("modern", None) == (MODERN, 50)
    short, epochs = plan("modern", 8)
    assert epochs == short.epochs == 8 and short.rate(8) == 0 and MODERN.rate(8) > 0


def test_scores_are_those_of_the_checkpoint_on_test_pictures(run, few):
    network, scores = run.network(), run.info["scores"]
    plain, mirrored = (np.asarray(network(x)) for x in (few.x_test, np.flip(few.x_test, axis=2)))
    assert scores["epoch"] == run.best["epoch"]
    assert scores["test_acc"] == pytest.approx(np.mean(plain.argmax(1) == few.y_test))
    both = np.mean((plain + mirrored).argmax(1) == few.y_test)
    assert scores["test_acc_flip"] == pytest.approx(both)


def test_test_pictures_are_predicted_once(copy, few):
    network, file = copy.network(), copy.folder / runs.PREDICTIONS
    predicted, kept = network.predict(few.x_test, verbose=0), copy.test_probabilities()
    assert np.allclose(kept, predicted, atol=3e-4)  # rounded to 16 bits
    assert np.array_equal(copy.predict_test(network, few), kept)

    # Of other pictures, of another network, or never scored: no kept prediction is believed.
    copied = dataclasses.replace(few, source="copy.npz")
    assert not np.array_equal(copy.predict_test(network, copied), kept)
    np.savez(file, probabilities=kept[::-1])
    assert np.allclose(copy.predict_test(network, few), predicted, atol=1e-6)
    np.savez(file, probabilities=np.roll(np.eye(10), 1, axis=1).repeat(30, axis=0))
    with pytest.raises(ValueError, match="other predictions than run.json tells"):
        copy.test_correct()
    file.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"test_predictions.npz is damaged \(.*git checkout"):
        copy.predict_test(network, few)
    file.unlink()
    assert np.allclose(copy.predict_test(network, few), predicted, atol=1e-6)
    with pytest.raises(FileNotFoundError, match="score the run first"):
        copy.test_correct()


def test_rounding_what_is_kept_changes_no_class(copy, few, monkeypatch):
    close = np.full((len(few.x_test), 10), 0.05, np.float32)
    close[:, 3:5] = 0.29998, 0.30002  # the same number in 16 bits
    network = type("Undecided", (), {"predict": lambda self, x, verbose: close})()
    monkeypatch.setattr(runs.Run, "network", lambda self: network)
    runs.score(copy, few)
    assert np.all(copy.test_probabilities().argmax(axis=1) == 4)
    assert np.allclose(copy.test_probabilities(), close, atol=3e-4)


def test_another_file_under_the_checkpoints_name_is_refused(copy):
    copy.checkpoint().write_bytes(copy.checkpoint().read_bytes() + b" ")
    with pytest.raises(ValueError, match="not the file whose scores.*git checkout, or train again"):
        copy.network()


def changed(run, folder, accuracy=None, recipe=None, **info):
    """A copy of the run with another validation accuracy, recipe or run.json."""
    shutil.copytree(run.folder, folder)
    info = run.info | info | {"recipe": run.info["recipe"] | (recipe or {})}
    (folder / "run.json").write_text(json.dumps(info))
    log = run.log.assign(val_acc=accuracy or run.log["val_acc"])
    log.to_csv(folder / "training_log.csv", index=False)
    return folder


def test_the_median_is_kept_and_every_run_noted(run, saved, tmp_path):
    folders = [changed(run, tmp_path / f"{a}", a, seed=i) for i, a in enumerate((0.9, 0.7, 0.8))]
    record.record(folders[:2], saved)
    assert record.record(folders, saved) == saved / "quick"
    kept, whole = runs.open_run(saved / "quick"), runs.open_run(folders[2])
    assert kept.info["seed"] == 2 and len(list(kept.folder.glob("*.keras"))) == 1
    assert kept.checkpoint().stat().st_size < 0.9 * whole.checkpoint().stat().st_size
    ours, theirs = (each.network().get_weights() for each in (kept, whole))
    assert all(np.array_equal(*pair) for pair in zip(ours, theirs, strict=True))
    noted = pd.read_csv(saved / "runs.csv")
    assert list(noted["seed"]) == [0, 1, 2] and list(noted["val_acc"]) == [0.9, 0.7, 0.8]


def test_a_repeated_run_replaces_its_row_and_leaves_the_others(run, saved, tmp_path):
    others = (RECORDED / "runs.csv").read_text().replace(",CIFAR-10", f",{run.info['data']}")
    (saved / "runs.csv").write_text(others)
    for device in ("CPU", "GPU"):
        machine = run.info["environment"] | {"device": device}
        record.record([changed(run, tmp_path / device, environment=machine)], saved)
    rows = (saved / "runs.csv").read_text().splitlines()
    (row,) = (line for line in rows if line.startswith("quick"))
    rows.remove(row)
    assert ",GPU," in row and rows == others.splitlines()


def test_of_another_length_only_the_row_is_kept(run, saved, monkeypatch):
    monkeypatch.setitem(RECIPES, "quick", RECIPES["quick"].with_epochs(2))
    assert record.record([run.folder], saved) == saved
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
def test_what_cannot_stand_in_one_table_is_refused(
    run, saved, tmp_path, changes, message, together
):
    record.record([run.folder], saved)
    before = {path: path.read_bytes() for path in saved.rglob("*.*")}
    other = changed(run, tmp_path / "other", seed=1, **changes)
    with pytest.raises(ValueError, match=message):
        record.record([run.folder, other] if together else [other], saved)
    assert {path: path.read_bytes() for path in saved.rglob("*.*")} == before


@pytest.mark.parametrize(
    "words, message",
    [(["train", "resnet"], "'resnet' is unknown"), (["record", "nowhere"], "is no run folder")],
)
def test_the_command_ends_with_one_clear_line(monkeypatch, words, message):
    monkeypatch.setattr(sys, "argv", ["record", *words])
    with pytest.raises(SystemExit, match=message):  # Python prints it
        record.main()
