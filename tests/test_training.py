import ast
import dataclasses
import errno
import json
import re
import shutil

import keras
import numpy as np
import pytest

from helpers import runs, training
from helpers.files import ROOT
from helpers.recipes import MODERN, QUICK, InverseTimeDecay

RECIPE = dataclasses.replace(
    QUICK, name="tiny", epochs=3, batch_size=60, shift=0.1, erase=0.5, batch_norm_momentum=0.5,
    learning_rate=InverseTimeDecay(0.004, 0.319),
)  # fmt: skip


class Listener(keras.callbacks.Callback):
    heard = []

    def on_epoch_end(self, epoch, logs=None):
        self.heard.append((epoch, {**logs}, self.model.optimizer))  # as Keras' TensorBoard does


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return training.train(
        RECIPE, scenes, folder, callbacks=[Listener(), training.LiveCurves(folder)]
    )


def weights(run):
    return [np.asarray(weight) for weight in run.network().get_weights()]


def untimed(run):
    return [{**row, "seconds": 0} for row in run.log]


def test_run_folder(run):
    header = (run.folder / "training_log.csv").read_text().splitlines()[0]
    assert header == "epoch,lr,loss,acc,val_loss,val_acc,seconds"
    assert [row["epoch"] for row in run.log] == [1, 2, 3]
    assert [row["lr"] for row in run.log] == [0.004, 0.0030326005, 0.0024420024]
    info = json.loads((run.folder / "run.json").read_text())
    assert info["seed"] == 0 and info["complete"] and info["data"] == "synthetic stand-in"
    assert info["recipe"]["name"] == "tiny"
    assert {"python", "keras", "numpy", "device", "revision"} <= set(info["environment"])
    assert not [path for path in run.folder.iterdir() if path.name.startswith(".")]


def test_callbacks_hear_of_epochs_and_find_what_they_look_for(run):
    rows = [
        {key: row[key] for key in ("lr", "loss", "acc", "val_loss", "val_acc")} for row in run.log
    ]
    assert Listener.heard == [(epoch, row, None) for epoch, row in enumerate(rows)]


def test_live_curves_hold_the_whole_log(run):
    drawn, live = [], training.LiveCurves(run.folder)
    live.place = type("Place", (), {"update": staticmethod(drawn.append)})
    live.on_epoch_end(len(run.log) - 1)
    (figure,) = drawn
    for axis in figure.axes:
        assert [list(line.get_xdata()) for line in axis.lines] == [[1, 2, 3], [1, 2, 3]]


def test_checkpoints_on_improvement_with_the_assignments_name(run):
    best, expected = -1, set()
    for row in run.log:
        if row["val_acc"] > best:
            best = row["val_acc"]
            expected.add(f"cifar10_ResNet11v2_model.{row['epoch']:03d}.keras")
    assert {path.name for path in run.folder.glob("*.keras")} == expected
    assert run.checkpoint().name == f"cifar10_ResNet11v2_model.{run.best['epoch']:03d}.keras"


def test_best_network_scores_what_the_log_says(run, scenes):
    predicted = run.network().predict(scenes.x_val, verbose=0).argmax(axis=1)
    assert np.mean(predicted == scenes.y_val) == pytest.approx(run.best["val_acc"])


def test_lines_tell_the_epoch():
    rows = [
        {
            "epoch": 1,
            "lr": 0.004,
            "loss": 1.8186,
            "acc": 0.4381,
            "val_loss": 2.2,
            "val_acc": 0.3928,
            "seconds": 51,
        },
        {
            "epoch": 2,
            "lr": 0.0030326005,
            "loss": 1.3,
            "acc": 0.5,
            "val_loss": 3.0,
            "val_acc": 0.3931,
            "seconds": 36,
        },
        {
            "epoch": 3,
            "lr": 0.0024420024,
            "loss": 1.2,
            "acc": 0.6,
            "val_loss": 1.3,
            "val_acc": 0.39,
            "seconds": 36,
        },
    ]
    lines = [runs.epoch_line(row, rows[:i], 50, {"depth": 20}) for i, row in enumerate(rows)]
    assert lines[0] == (
        "Epoch  1/50 - 51s - learning rate 0.004 - loss: 1.8186 - acc: 0.4381 - val_loss: 2.2000 - "
        "val_acc: 0.3928 - val_acc improved from -inf to 0.39280, "
        "saving model to cifar10_ResNet20v2_model.001.keras"
    )
    assert lines[1].endswith(
        "improved from 0.39280 to 0.39310, saving model to cifar10_ResNet20v2_model.002.keras"
    )
    assert "learning rate 0.0030326005" in lines[1]
    assert lines[2].endswith("val_acc did not improve from 0.39310")


def test_stopped_run_ends_like_one_left_alone(run, scenes, tmp_path, capsys):
    training.train(RECIPE, scenes, tmp_path / "run", epochs=2)
    (tmp_path / "run" / "state_002.npz").write_bytes(b"half a state")  # as a crash might leave it
    capsys.readouterr()
    resumed = training.train(RECIPE, scenes, tmp_path / "run")
    printed = capsys.readouterr().out
    assert "state_002.npz is damaged" in printed and "Going on after epoch 1" in printed
    assert untimed(resumed) == untimed(run)
    for ours, theirs in zip(weights(resumed), weights(run)):
        assert np.array_equal(ours, theirs)


def test_finished_run_is_printed_again_not_trained_again(run, scenes, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.folder.iterdir()}
    again = training.train(RECIPE, scenes, run.folder)
    assert capsys.readouterr().out.splitlines()[:3] == [
        re.sub(r" - \d+s", " - 0s", line, count=1) if " - 0s" in line else line
        for line in again.lines()
    ]
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.iterdir()}


def test_other_seed_data_or_recipe_is_refused(run, scenes):
    with pytest.raises(ValueError, match="with seed = 0, not 1.*another run folder"):
        training.train(RECIPE, scenes, run.folder, seed=1)
    with pytest.raises(ValueError, match="with l2 = 0.0001, not 0.0.*another run folder"):
        training.train(dataclasses.replace(RECIPE, l2=0.0), scenes, run.folder)
    with pytest.raises(ValueError, match="with data = synthetic stand-in, not other"):
        training.train(RECIPE, dataclasses.replace(scenes, source="other"), run.folder)


def test_a_full_disk_leaves_the_epochs_before_it(run, scenes, tmp_path, monkeypatch):
    training.train(RECIPE, scenes, tmp_path / "run", epochs=1)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("state_*.npz")}
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full_disk)
        with pytest.raises(OSError, match="Epoch 2 could not be written.*No space left.*make room"):
            training.train(RECIPE, scenes, tmp_path / "run")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").glob("*state_*.npz")}
    resumed = training.train(RECIPE, scenes, tmp_path / "run")
    assert untimed(resumed) == untimed(run)


def full_disk(file, **arrays):
    file.write(b"half a state")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_damaged_log_is_written_anew_and_a_damaged_run_json_refused(run, scenes, tmp_path):
    training.train(RECIPE, scenes, tmp_path, epochs=2)
    (tmp_path / "training_log.csv").write_text("epoch,lr\n1,ab")
    assert untimed(training.train(RECIPE, scenes, tmp_path)) == untimed(run)
    (tmp_path / "run.json").write_text('{"recipe":')
    with pytest.raises(ValueError, match="run.json is damaged.*another run folder"):
        training.train(RECIPE, scenes, tmp_path)


def test_a_damaged_checkpoint_is_named(run, tmp_path):
    shutil.copytree(run.folder, tmp_path, dirs_exist_ok=True)
    copy = runs.open_run(tmp_path)
    whole = copy.checkpoint().read_bytes()
    for content in (whole[:1000], whole[: len(whole) // 2], b"", b"<html>"):
        copy.checkpoint().write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.00\d\.keras is damaged"):
            copy.network()


@pytest.mark.parametrize("epochs", [0, -1, 4])
def test_more_epochs_than_the_schedule_has_are_refused(scenes, tmp_path, epochs):
    with pytest.raises(ValueError, match=rf"epochs = {epochs}: recipe tiny is laid out for 1 to 3"):
        training.train(RECIPE, scenes, tmp_path / "run", epochs=epochs)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_schedule_to_zero_resumes_within_its_slope_and_keeps_the_last_epoch(
    scenes, tmp_path, precision
):
    recipe = dataclasses.replace(MODERN.with_epochs(2), depth=11, batch_size=60)
    whole = training.train(recipe, scenes, tmp_path / "whole", precision=precision)
    training.train(recipe, scenes, tmp_path / "cut", epochs=1, precision=precision)
    resumed = training.train(recipe, scenes, tmp_path / "cut")  # another GPU may be there by now
    assert untimed(resumed) == untimed(whole)
    assert whole.chosen["epoch"] == 2 and whole.checkpoint().is_file()
    assert whole.lines()[-1].endswith("saving model to cifar10_ResNet11v2_model.002.keras")
    for ours, theirs in zip(weights(resumed), weights(whole)):
        assert ours.dtype == np.float32 and np.array_equal(ours, theirs)
    with pytest.raises(ValueError, match=f"with precision = {precision}, not float32"):
        training.train(recipe, scenes, tmp_path / "cut", precision="float32")


def test_log_without_a_state_is_not_overwritten(run, scenes, tmp_path):
    for name in ("run.json", "training_log.csv"):
        (tmp_path / name).write_bytes((run.folder / name).read_bytes())
    with pytest.raises(ValueError, match="no state to go on from"):
        training.train(RECIPE, scenes, tmp_path)
    assert (tmp_path / "training_log.csv").read_bytes() == (
        run.folder / "training_log.csv"
    ).read_bytes()


def test_missing_or_damaged_run_is_refused(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run folder: it has no run.json"):
        runs.open_run(tmp_path)
    (tmp_path / "run.json").write_bytes((run.folder / "run.json").read_bytes())
    for text in (
        "epoch,lr\n1,0.004\n",
        "epoch,lr,loss,acc,val_loss,val_acc,seconds\n1,x,1,1,1,1,1\n",
        "epoch,lr,loss,acc,val_loss,val_acc,seconds\n1,0.004,1.8,0.4,2.2,0.39,51\n2,0.003,1.3",
        "epoch,lr,loss,acc,val_loss,val_acc,seconds\n",
    ):
        (tmp_path / "training_log.csv").write_text(text)
        with pytest.raises(ValueError, match="damaged"):
            runs.open_run(tmp_path)
    (tmp_path / "training_log.csv").write_bytes((run.folder / "training_log.csv").read_bytes())
    for text in ("{}", '{"epochs": 3, "recipe": {}}', "[]", "{"):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ValueError, match="damaged"):
            runs.open_run(tmp_path)
    (tmp_path / "run.json").write_bytes((run.folder / "run.json").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"model\.00\d\.keras is gone"):
        runs.open_run(tmp_path).network()


@pytest.mark.parametrize(
    "module", ["data", "resnet", "augment", "recipes", "training", "runs", "runtime", "plots"]
)
def test_training_side_needs_no_tensorflow(module):
    """Plain Keras and NumPy, so that another Keras backend serves as well."""
    tree = ast.parse((ROOT / f"helpers/{module}.py").read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in [
            getattr(node, "module", None) or "",
            *(a.name for a in getattr(node, "names", [])),
        ]
    }
    assert "keras" in imported or module in ("recipes", "plots")
    assert not imported & {"tensorflow", "tf_keras"}
