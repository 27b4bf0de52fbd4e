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

FEW = data.synthetic(train=200, test=300)  # fewer pictures than data.load("synthetic") draws


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "quick"
    with pytest.MonkeyPatch.context() as patch:
        recipe = dataclasses.replace(COURSE, name="quick", depth=11, epochs=1)
        patch.setitem(RECIPES, "quick", recipe)
        patch.setattr(data, "load", {"synthetic": FEW}.get)
        yield record.train("quick", source="synthetic", precision="float32", folder=folder)


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


def test_scores_are_those_of_the_checkpoint_on_test_pictures(run):
    network, scores = run.network(), run.info["scores"]
    x = FEW.x_test
    up, down = (
        np.roll(np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect"), s, (1, 2))
        for s in ((-1, -1), (1, 1))
    )  # the middle of each is shifted
    places = [x, up[:, 1:-1, 1:-1], down[:, 1:-1, 1:-1]]
    plain, mirrored = (np.array([network(v[:, :, ::way]) for v in places]) for way in (1, -1))
    both = plain + mirrored
    means = plain[0], both[0], both[0] / 2 + (both[1] + both[2]) / 4
    right = [np.mean(p.argmax(1) == FEW.y_test) for p in means]
    said = [scores[k] for k in ("epoch", "test_acc", "test_acc_flip", "test_acc_shifted")]
    assert said == pytest.approx([run.best["epoch"], *right])


def test_test_pictures_are_predicted_once(copy):
    network, file = copy.network(), copy.folder / runs.PREDICTIONS
    predicted, kept = network.predict(FEW.x_test, verbose=0), copy.test_probabilities()
    assert np.allclose(kept, predicted, atol=8e-4)  # rounded to three decimals
    assert np.array_equal(copy.predict_test(network, FEW), kept)

    # Of other pictures, of another network, or never scored: no kept prediction is believed.
    others = dataclasses.replace(FEW, source="copy.npz")
    assert not np.array_equal(copy.predict_test(network, others), kept)
    np.savez(file, probabilities=kept[::-1])
    assert np.allclose(copy.predict_test(network, FEW), predicted, atol=1e-6)
    np.savez(file, probabilities=np.roll(np.eye(10), 1, axis=1).repeat(30, axis=0))
    with pytest.raises(ValueError, match="other predictions than run.json tells"):
        copy.test_correct()
    file.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"test_predictions.npz is damaged \(.*git checkout"):
        copy.predict_test(network, FEW)
    file.unlink()
    assert np.allclose(copy.predict_test(network, FEW), predicted, atol=1e-6)
    with pytest.raises(FileNotFoundError, match="score the run first"):
        copy.test_correct()
    copy.checkpoint().write_bytes(copy.checkpoint().read_bytes() + b" ")
    with pytest.raises(ValueError, match="not the file whose scores.*git checkout, or train again"):
        copy.network()


def test_rounding_what_is_kept_changes_no_class(copy, monkeypatch):
    close = np.full((len(FEW.x_test), 10), 0.05, np.float32)
    close[:, 3:5] = 0.29998, 0.30002  # the same number, rounded
    network = type("Undecided", (), {"predict": lambda self, x, verbose: close})()
    monkeypatch.setattr(runs.Run, "network", lambda self: network)
    record.score(copy, FEW)
    assert np.all(copy.test_probabilities().argmax(axis=1) == 4)
    assert np.allclose(copy.test_probabilities(), close, atol=6e-4)


def changed(run, folder, accuracy=0.5, recipe=(), **info):
    """A copy of the run with another validation accuracy, recipe or run.json."""
    shutil.copytree(run.folder, folder)
    info = run.info | info | {"recipe": run.info["recipe"] | dict(recipe)}
    (folder / "run.json").write_text(json.dumps(info))
    run.log.assign(val_acc=accuracy).to_csv(folder / "training_log.csv", index=False)
    return folder


def test_the_median_is_kept_and_every_run_noted(run, saved, tmp_path):
    folders = [changed(run, tmp_path / f"{a}", a, seed=i) for i, a in enumerate((0.9, 0.7, 0.8))]
    record.record(folders[:2], saved=saved)
    assert record.record(folders, saved=saved) == saved / "quick"
    kept, whole = runs.open_run(saved / "quick"), runs.open_run(folders[2])
    assert kept.info["seed"] == 2 and len(list(kept.folder.glob("*.keras"))) == 1
    assert kept.checkpoint().stat().st_size < 0.9 * whole.checkpoint().stat().st_size
    ours, theirs = (each.network().get_weights() for each in (kept, whole))
    assert all(np.array_equal(*pair) for pair in zip(ours, theirs, strict=True))
    noted = pd.read_csv(saved / "runs.csv")
    assert list(noted["seed"]) == [0, 1, 2] and list(noted["val_acc"]) == [0.9, 0.7, 0.8]


def test_of_a_taught_network_a_small_file_is_kept_and_scored_as_it_is(run, saved, tmp_path):
    taught = changed(run, tmp_path / "taught", recipe={"teacher": "modern"})
    kept = runs.open_run(record.record([taught], "synthetic", saved))
    size = (kept.checkpoint().stat().st_size, run.checkpoint().stat().st_size)
    assert size[0] < 0.4 * size[1] and kept.info["scores"]["sha256"] == runs.sha256(
        kept.checkpoint()
    )
    assert kept.test_correct().mean() == pytest.approx(kept.info["scores"]["test_acc"])
    assert (kept.folder / "training_log.csv").read_bytes() == (
        taught / "training_log.csv"
    ).read_bytes()


def test_a_taught_network_is_scored_on_what_it_learned_or_nothing_is_written(run, saved, tmp_path):
    taught = changed(run, tmp_path / "taught", recipe={"teacher": "modern"}, data="own.npz")
    with pytest.raises(ValueError, match="taught knows own.npz: name it by --source"):
        record.record([taught], "synthetic", saved)
    assert not any(saved.iterdir())


def test_a_run_scored_before_shifts_were_asked_for_has_a_blank(run, saved, tmp_path):
    scores = {key: value for key, value in run.info["scores"].items() if key != "test_acc_shifted"}
    record.record([changed(run, tmp_path / "older", scores=scores)], saved=saved)
    assert pd.read_csv(saved / "runs.csv")["test_acc_shifted"].isna().tolist() == [True]


def test_a_repeated_run_replaces_its_row_and_leaves_the_others(run, saved, tmp_path):
    others = (RECORDED / "runs.csv").read_text().replace(",CIFAR-10", f",{run.info['data']}")
    (saved / "runs.csv").write_text(others)
    for seconds in (1111, 2222):
        record.record([changed(run, tmp_path / f"{seconds}", seconds=seconds)], saved=saved)
    rows = (saved / "runs.csv").read_text().splitlines()
    (row,) = set(rows) - set(others.splitlines())
    assert len(rows) == others.count("\n") + 1 and row.startswith("quick,") and ",2222.0," in row


def test_of_another_length_only_the_row_is_kept(run, saved, monkeypatch):
    monkeypatch.setitem(RECIPES, "quick", RECIPES["quick"].with_epochs(2))
    assert record.record([run.folder], saved=saved) == saved
    assert [path.name for path in saved.iterdir()] == ["runs.csv"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"complete": False, "recipe": {"epochs": 99}}, "is not finished and scored"),
        ({"scores": {}}, "is not finished and scored"),
        ({"data": "copy.npz"}, "would mix synthetic stand-in and copy.npz"),
        ({"recipe": {"shift": 0.3, "l2": 0}}, "differ in shift, l2"),
    ],
)
def test_what_cannot_stand_in_one_table_is_refused(run, saved, tmp_path, changes, message):
    record.record([run.folder], saved=saved)
    before = {path: path.read_bytes() for path in saved.rglob("*.*")}
    other = changed(run, tmp_path / "other", seed=1, **changes)
    for folders in ([run.folder, other], [other]):
        with pytest.raises(ValueError, match=message):
            record.record(folders, saved=saved)
    assert {path: path.read_bytes() for path in saved.rglob("*.*")} == before


def test_the_command_ends_with_one_clear_line(monkeypatch):
    for words, message in ("train resnet", "is unknown"), ("record nowhere", "is no run folder"):
        monkeypatch.setattr(sys, "argv", ["record", *words.split()])
        with pytest.raises(SystemExit, match=message):  # Python prints it
            record.main()
