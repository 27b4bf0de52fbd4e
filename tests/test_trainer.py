import ast
import contextlib
import dataclasses
import errno
import io
import json
import shutil

import keras
import numpy as np
import pytest

from helpers.files import ROOT
from helpers.training import runs, trainer
from helpers.training.recipes import COURSE, MODERN

RECIPE = dataclasses.replace(
    COURSE, name="tiny", epochs=3, batch_size=60, flip=False, depth=11, batch_norm_momentum=0.5
)


def train(scenes, folder, recipe=RECIPE, precision="float32", **options):
    """As `trainer.train`, in float32 whatever this machine does fastest."""
    return trainer.train(recipe, scenes, folder, precision=precision, **options)


@pytest.fixture(scope="module")
def printed_run(scenes, tmp_path_factory):
    """What a run prints, in lines, and the run."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        folder = tmp_path_factory.mktemp("runs") / "whole"
        run = train(scenes, folder, callbacks=[trainer.LiveCurves(folder)])
    return printed.getvalue().splitlines(), run


@pytest.fixture(scope="module")
def run(printed_run):
    return printed_run[1]


def killed_in_last_epoch(run, folder):
    """A copy of a run as it was before its last epoch left a checkpoint and a state."""
    shutil.copytree(run.folder, folder)
    number = len(run.log)
    (folder / f"state_{number:03d}.npz").unlink()
    for checkpoint in folder.glob(f"*.{number:03d}.keras"):
        checkpoint.unlink()
    return folder


def weights(run):
    return [np.asarray(weight) for weight in run.network().get_weights()]


def untimed(run):
    return [{**row, "seconds": 0} for row in run.log]


def assert_same(run, other):
    """In all but the seconds."""
    assert untimed(run) == untimed(other)
    for ours, theirs in zip(weights(run), weights(other), strict=True):
        assert ours.dtype == np.float32 and np.array_equal(ours, theirs)


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


def test_live_curves_hold_the_whole_log(run):
    drawn, live = [], trainer.LiveCurves(run.folder)
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
    values = [
        (1, 0.004, 1.8186, 0.4381, 2.2, 0.3928, 51.0),
        (2, 0.0030326005, 1.3, 0.5, 3.0, 0.3931, 36.0),
        (3, 0.0024420024, 1.2, 0.6, 1.3, 0.39, 36.0),
    ]
    rows = [dict(zip(runs.COLUMNS, row)) for row in values]
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


class Listener(keras.callbacks.Callback):
    """Notes what it is told, and stops the run after an epoch."""

    def __init__(self, stop_after=None):
        super().__init__()
        self.stop_after, self.told = stop_after, []

    def on_train_begin(self, logs=None):
        self.told.append("train begins")

    def on_epoch_begin(self, epoch, logs=None):
        self.told.append(("begins", epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.told.append(("ends", epoch, logs))
        self.model.stop_training = epoch == self.stop_after

    def on_train_end(self, logs=None):
        self.told.append("train ends")


def test_a_run_stopped_by_a_callback_ends_like_one_left_alone(run, scenes, tmp_path, capsys):
    told = [{key: row[key] for key in runs.COLUMNS[1:-1]} for row in run.log]
    listener = Listener(stop_after=1)
    stopped = train(scenes, tmp_path / "run", callbacks=[listener])
    before = capsys.readouterr().out.splitlines()
    assert listener.told == [
        "train begins",
        ("begins", 0),
        ("ends", 0, told[0]),
        ("begins", 1),
        ("ends", 1, told[1]),
        "train ends",
    ]
    assert len(stopped.log) == 2 and before == stopped.lines()
    assert listener.model.optimizer is None  # Keras' TensorBoard asks for it
    (stopped.folder / runs.PREDICTIONS).touch()  # of a result that is not the last

    listener = Listener()
    resumed = train(scenes, tmp_path / "run", callbacks=[listener])
    assert listener.told == ["train begins", ("begins", 2), ("ends", 2, told[2]), "train ends"]
    assert_same(resumed, run)
    assert not (resumed.folder / runs.PREDICTIONS).exists()
    going_on = "Going on after epoch 2, the last one in run"
    assert capsys.readouterr().out.splitlines() == [*before, going_on, resumed.lines()[-1]]


def test_a_finished_run_prints_the_same_lines_and_is_not_trained_again(printed_run, scenes, capsys):
    printed, run = printed_run
    before = {path: path.stat().st_mtime_ns for path in run.folder.iterdir()}
    assert train(scenes, run.folder).lines() == run.lines() == printed
    assert capsys.readouterr().out.splitlines() == printed
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.iterdir()}


def test_fewer_epochs_than_are_done_are_refused(run, scenes):
    with pytest.raises(ValueError, match="3 finished epochs, more than epochs = 2. Ask for 3 or"):
        train(scenes, run.folder, epochs=2)


ARRAYS = {"kernel": np.ones((2, 3)), "bias": np.ones(3)}
OTHER_STATES = {
    "swapped": {"kernel": ARRAYS["bias"], "bias": ARRAYS["kernel"]},
    "extra": {**ARRAYS, "gamma": np.ones(3)},
    "missing": {"kernel": ARRAYS["kernel"]},
    "other shape": {**ARRAYS, "bias": np.ones(4)},
    "transposed": {**ARRAYS, "kernel": np.ones((3, 2))},
}


@pytest.mark.parametrize("arrays", OTHER_STATES.values(), ids=OTHER_STATES)
def test_a_state_of_another_network_is_refused_as_a_whole(tmp_path, arrays):
    np.savez(tmp_path / "state_001.npz", **arrays, **{trainer.LOG: np.ones((1, 7))})
    variables = {name: keras.Variable(np.zeros(array.shape)) for name, array in ARRAYS.items()}
    with pytest.raises(ValueError, match="state_001.npz does not fit this network: .*another run"):
        trainer._restore(tmp_path, variables)
    assert not any(np.any(variable.numpy()) for variable in variables.values())


def test_a_state_that_fits_is_restored_with_its_log(tmp_path):
    np.savez(tmp_path / "state_001.npz", **ARRAYS, **{trainer.LOG: np.ones((1, 7))})
    variables = {name: keras.Variable(np.zeros(array.shape)) for name, array in ARRAYS.items()}
    assert trainer._restore(tmp_path, variables) == [dict.fromkeys(runs.COLUMNS, 1)]
    assert all(np.all(variable.numpy() == 1) for variable in variables.values())


def test_the_newest_state_is_the_one_with_the_highest_number(tmp_path):
    for epoch in (998, 1000, 999):
        np.savez(tmp_path / f"state_{epoch}.npz", **ARRAYS, **{trainer.LOG: np.full((1, 7), epoch)})
    variables = {name: keras.Variable(np.zeros(array.shape)) for name, array in ARRAYS.items()}
    assert trainer._restore(tmp_path, variables) == [dict.fromkeys(runs.COLUMNS, 1000)]


def test_other_seed_data_or_recipe_is_refused(run, scenes):
    with pytest.raises(ValueError, match="with seed = 0, not 1.*another run folder"):
        train(scenes, run.folder, seed=1)
    with pytest.raises(ValueError, match="with l2 = 0.0001, not 0.0.*another run folder"):
        train(scenes, run.folder, dataclasses.replace(RECIPE, l2=0.0))
    with pytest.raises(ValueError, match="with data = synthetic stand-in, not other"):
        train(dataclasses.replace(scenes, source="other"), run.folder)


def test_a_full_disk_leaves_the_epochs_before_it(run, scenes, tmp_path, monkeypatch):
    folder = killed_in_last_epoch(run, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.glob("state_*.npz")}
    monkeypatch.setattr(trainer.Trainer, "fit", no_step)
    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="Epoch 3 could not be written.*No space left.*make room"):
        train(scenes, folder)
    assert before == {path: path.read_bytes() for path in folder.glob("*state_*.npz")}


def no_step(trainer, dataset, epoch, *callbacks):
    """An epoch that trains nothing, where only what is written counts."""
    return 1.5, 0.25


def full_disk(file, **arrays):
    file.write(b"half a state")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_damaged_log_is_written_anew_and_a_damaged_run_json_refused(
    run, scenes, tmp_path, monkeypatch
):
    monkeypatch.setattr(trainer.Trainer, "fit", no_step)
    folder = killed_in_last_epoch(run, tmp_path / "run")
    (folder / "training_log.csv").write_text("epoch,lr\n1,ab")
    assert train(scenes, folder).log[:2] == run.log[:2]
    assert runs.open_run(folder).log[2]["loss"] == 1.5
    (folder / "run.json").write_text('{"recipe":')
    with pytest.raises(ValueError, match="run.json is damaged.*another run folder"):
        train(scenes, folder)


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
        train(scenes, tmp_path / "run", epochs=epochs)
    assert not (tmp_path / "run").exists()


def test_a_schedule_to_zero_resumes_within_its_slope_and_keeps_the_last_epoch(scenes, tmp_path):
    recipe = dataclasses.replace(MODERN.with_epochs(2), depth=11, batch_size=10)
    # Few pictures: CPUs are slow at float16.
    scenes = dataclasses.replace(scenes, x_train=scenes.x_train[::6], y_train=scenes.y_train[::6])
    whole = train(scenes, tmp_path / "whole", recipe, "float16")  # its state has a loss scale
    killed = killed_in_last_epoch(whole, tmp_path / "killed")
    resumed = train(scenes, killed, recipe, None)  # another GPU may be there by now
    assert_same(resumed, whole)
    assert whole.chosen["epoch"] == 2 and whole.checkpoint().is_file()
    assert whole.lines()[-1].endswith("saving model to cifar10_ResNet11v2_model.002.keras")
    with pytest.raises(ValueError, match="with precision = float16, not float32"):
        train(scenes, killed, recipe, "float32")


def test_log_without_a_state_is_not_overwritten(run, scenes, tmp_path):
    for name in ("run.json", "training_log.csv"):
        (tmp_path / name).write_bytes((run.folder / name).read_bytes())
    with pytest.raises(ValueError, match="no state to go on from"):
        train(scenes, tmp_path)
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
    "module",
    [
        *(f"training/{m}" for m in ("data", "resnet", "augment", "recipes", "trainer", "runs")),
        "settings",
        "plots",
    ],
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
    assert "keras" in imported or module in ("training/recipes", "plots", "settings")
    assert not imported & {"tensorflow", "tf_keras"}
