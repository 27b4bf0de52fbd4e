import contextlib
import dataclasses
import errno
import io
import json
import re
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from helpers import environment
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
        run = train(scenes, tmp_path_factory.mktemp("runs") / "whole")
    return printed.getvalue().splitlines(), run


@pytest.fixture(scope="module")
def run(printed_run):
    return printed_run[1]


@pytest.fixture
def copy(run, tmp_path):
    """A folder with a copy of the run."""
    return shutil.copytree(run.folder, tmp_path / "run")


@pytest.fixture
def no_steps(monkeypatch):
    """Epochs that train nothing, where only what is written counts."""
    monkeypatch.setattr(trainer.Trainer, "fit", lambda *_: (1.5, 0.25))
    monkeypatch.setattr(trainer.Trainer, "validate", lambda *_: (2.5, 0.125))


def change_state(path, change):
    """Have a function change the arrays of a state."""
    with np.load(path) as state:
        arrays = dict(state)
    change(arrays)
    np.savez(path, **arrays)


def without_last_epoch(folder):
    """As if killed before the third epoch's state."""
    (folder / "state_003.npz").unlink()
    for path in folder.glob("*.003.keras"):
        path.unlink()
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same(run, other):
    """In all but the seconds."""
    pd.testing.assert_frame_equal(
        run.log.drop(columns="seconds"), other.log.drop(columns="seconds"), check_exact=True
    )
    weights = [each.network().get_weights() for each in (run, other)]
    for ours, theirs in zip(*weights, strict=True):
        assert ours.dtype == np.float32 and np.array_equal(ours, theirs)


def test_a_run_folder_and_its_network(run, scenes):
    assert (run.folder / "training_log.csv").read_text().startswith(",".join(runs.COLUMNS) + "\n1,")
    assert run.log["epoch"].tolist() == [1, 2, 3] and run.log["epoch"].dtype == int
    assert run.log["lr"].tolist() == [0.004, 0.0030326005, 0.0024420024]
    assert run.info["seed"] == 0 and run.info["complete"]
    assert run.info["data"] == "synthetic stand-in" and run.info["recipe"]["name"] == "tiny"
    assert run.info["environment"] == environment.describe()
    improved = run.log["val_acc"] > run.log["val_acc"].cummax().shift(fill_value=-1)
    assert {path.name for path in run.folder.glob("[!.]*")} == {
        "training_log.csv", "run.json", "state_002.npz", "state_003.npz",
        *(f"cifar10_ResNet11v2_model.{epoch:03d}.keras" for epoch in run.log["epoch"][improved]),
    }  # fmt: skip
    assert not list(run.folder.glob(".*"))
    predicted = run.network().predict(scenes.x_val, verbose=0).argmax(axis=1)
    assert np.mean(predicted == scenes.y_val) == pytest.approx(run.best["val_acc"])


ROWS = [
    (1, 0.004, 1.8186, 0.4381, 2.2, 0.3928, 51.0),
    (2, 0.0030326005, 1.3, 0.5, 3.0, 0.3931, 36.0),
    (3, 0.0024420024, 1.2, 0.6, 1.3, 0.3931, 36.0),
]


def made_up(selection="best", complete=True):
    recipe = {"depth": 20, "selection": selection, "epochs": 3}
    log = pd.DataFrame(ROWS, columns=runs.COLUMNS)
    return runs.Run(None, log, {"recipe": recipe, "complete": complete, "epochs": 50})


def test_lines_tell_the_epoch():
    lines = made_up().lines()
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
    assert made_up("last").lines()[2].endswith("saving model to cifar10_ResNet20v2_model.003.keras")


@pytest.mark.parametrize(
    "selection, complete, epoch",
    [("best", True, 2), ("best", False, 2), ("last", True, 3), ("last", False, 2)],
)
def test_the_result_is_the_best_epoch_or_the_last_of_a_complete_run(selection, complete, epoch):
    assert made_up(selection, complete).chosen["epoch"] == epoch
    assert made_up(selection, complete).best["epoch"] == 2  # the first of equals


# --- One epoch -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_seed():
    return {seed: trainer.Trainer(RECIPE, seed, "float32", steps=3) for seed in (0, 1)}


def test_the_seed_makes_the_initial_weights(by_seed):
    again = trainer.Trainer(RECIPE, 0, "float32", steps=3).in_training.get_weights()
    ours, other = (by_seed[seed].in_training.get_weights() for seed in (0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(ours, again))
    assert not any(np.array_equal(a, b) for a, b in zip(ours, other) if a.ndim == 4)


def test_seed_and_epoch_make_the_order_and_the_draws(by_seed, scenes, monkeypatch):
    def fit(x, **_):
        seen.extend(x.as_numpy_iterator())
        return SimpleNamespace(history={"loss": [1], "acc": [0]})

    orders = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        seen = []
        monkeypatch.setattr(by_seed[seed], "training_model", SimpleNamespace(fit=fit))
        by_seed[seed].fit(scenes, epoch)
        x, y = (np.concatenate(parts) for parts in zip(*seen))
        assert [len(pixels) for pixels, _ in seen] == [60, 60, 60]
        order = np.random.default_rng((seed, epoch)).permutation(180)
        assert np.array_equal(x, scenes.x_train[order])
        assert np.array_equal(y.argmax(axis=1), scenes.y_train[order])
        orders[seed, epoch] = order.tolist()
        assert by_seed[seed].augment.seeds.state.numpy().tolist() == [seed, epoch * 2**20]
    assert len({tuple(order) for order in orders.values()}) == 3


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


# --- Going on ------------------------------------------------------------------------------------


def test_a_run_stopped_by_a_callback_ends_like_one_left_alone(run, scenes, tmp_path, capsys):
    told = run.log[list(runs.COLUMNS[1:-1])].to_dict("records")
    listener = Listener(stop_after=1)
    stopped = train(scenes, tmp_path / "run", callbacks=[listener])
    before = capsys.readouterr().out.splitlines()
    assert listener.told == [
        "train begins", ("begins", 0), ("ends", 0, told[0]), ("begins", 1), ("ends", 1, told[1]),
        "train ends",
    ]  # fmt: skip
    assert len(stopped.log) == 2 and before == stopped.lines() and not stopped.info["complete"]
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


def test_a_schedule_to_zero_resumes_within_its_slope_and_keeps_the_last_epoch(scenes, tmp_path):
    recipe = dataclasses.replace(MODERN.with_epochs(2), depth=11, batch_size=10)
    # Few pictures: CPUs are slow at float16.
    few = dataclasses.replace(scenes, x_train=scenes.x_train[::9], y_train=scenes.y_train[::9])
    whole = train(few, tmp_path / "whole", recipe, "float16")  # its state has a loss scale
    killed = shutil.copytree(whole.folder, tmp_path / "killed")
    (killed / "state_002.npz").unlink()
    resumed = train(few, killed, recipe, None)  # another GPU may be there by now
    assert_same(resumed, whole)
    assert whole.chosen["epoch"] == 2 and whole.checkpoint().is_file()
    assert whole.lines()[-1].endswith("saving model to cifar10_ResNet11v2_model.002.keras")
    with pytest.raises(ValueError, match="with precision = float16, not float32"):
        train(few, killed, recipe, "float32")


@pytest.mark.parametrize("content", [None, b"", b'{"recipe":', b"epoch,lr\n1,0.4"])
@pytest.mark.parametrize("name", ["training_log.csv", "run.json", "*.keras"])
def test_what_a_finished_run_lost_is_written_from_its_state(run, scenes, copy, name, content):
    before = contents(copy)
    path = runs.open_run(copy).checkpoint() if name == "*.keras" else copy / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert train(scenes, copy).lines() == run.lines()
    assert contents(copy) == before


@pytest.mark.usefixtures("no_steps")
def test_an_older_courses_run_goes_on(scenes, copy):
    """Its recipe lacks a setting of today, and its states hold variables and log alone."""
    without_last_epoch(copy)
    info = json.loads((copy / "run.json").read_text())
    del info["recipe"]["momentum"], info["recipe"]["selection"]
    (copy / "run.json").write_text(json.dumps(info))

    def change(arrays):
        arrays["run.json"] = np.array(json.dumps(info))

    change_state(copy / "state_002.npz", change)
    assert len(train(scenes, copy, epochs=2).log) == 2
    change_state(copy / "state_002.npz", lambda arrays: arrays.pop("run.json"))
    change_state(copy / "state_002.npz", lambda arrays: arrays.pop("checkpoint"))
    done = train(scenes, copy)
    assert len(done.log) == 3 and done.info["recipe"]["momentum"] == 0.8
    assert done.network()


@pytest.mark.usefixtures("no_steps")
def test_versions_of_an_earlier_machine_are_kept(scenes, copy, monkeypatch):
    first = runs.open_run(copy).info["environment"]
    monkeypatch.setattr(environment, "describe", lambda: {"device": "another"})
    done = train(scenes, without_last_epoch(copy))
    assert done.info["environment"] == {"device": "another"}
    assert done.info["earlier_environments"] == [first]


def test_other_seed_data_or_recipe_is_refused(run, scenes, copy):
    (copy / "run.json").unlink()  # the state knows, too
    for folder in (run.folder, copy):
        before = contents(folder)
        with pytest.raises(ValueError, match="with seed = 0, not 1.*another run folder"):
            train(scenes, folder, seed=1)
        with pytest.raises(ValueError, match="with l2 = 0.0001, not 0.0.*another run folder"):
            train(scenes, folder, dataclasses.replace(RECIPE, l2=0.0))
        with pytest.raises(ValueError, match="with data = synthetic stand-in, not other"):
            train(dataclasses.replace(scenes, source="other"), folder)
        assert contents(folder) == before
    with pytest.raises(ValueError, match="3 finished epochs, more than epochs = 2. Ask for 3 or"):
        train(scenes, run.folder, epochs=2)


@pytest.mark.usefixtures("no_steps")
def test_of_two_trainings_in_one_new_folder_the_second_to_save_stops(scenes, tmp_path):
    class Other(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            train(scenes, tmp_path, seed=1)
            self.left = contents(tmp_path)

    with pytest.raises(ValueError, match="with seed = 1, not 0.*another run folder"):
        train(scenes, tmp_path, callbacks=[other := Other()])
    assert contents(tmp_path) == other.left
    assert runs.open_run(tmp_path).info["seed"] == 1


@pytest.mark.usefixtures("no_steps")
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_full_disk_leaves_the_epochs_before_it(scenes, copy, tmp_path, monkeypatch, epoch):
    def full_disk(path, **arrays):
        path.write_bytes(b"half a state")
        raise OSError(errno.ENOSPC, "No space left on device")

    folder, before = tmp_path / "new", {}
    if epoch == 3:
        folder = train(scenes, without_last_epoch(copy), epochs=2).folder
        before = contents(folder)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full_disk)
        with pytest.raises(OSError, match="cannot be written.*No space left.*make room"):
            train(scenes, folder)
    assert contents(folder) == before
    assert len(train(scenes, folder).log) == 3


@pytest.mark.parametrize("names", [["kernel"], ["kernel", "bias", "gamma"]])
def test_a_state_of_another_network_is_refused_as_a_whole(names):
    variables = {name: keras.Variable(np.zeros(3)) for name in ("kernel", "bias")}
    state = trainer._State(made_up(), b"", dict.fromkeys(names, np.ones(3)))
    with pytest.raises(ValueError, match="another version of Keras.*another run folder"):
        trainer._restore(variables, state)
    assert not any(np.any(variable.numpy()) for variable in variables.values())


def test_the_newest_state_has_the_highest_number_and_no_copys_name(tmp_path):
    for name in ("state_998", "state_1000", "state_999", "state_1000 (1)", "state_"):
        (tmp_path / f"{name}.npz").touch()
    names = [path.stem for path in trainer._states(tmp_path)]
    assert names == ["state_998", "state_999", "state_1000"]


def test_missing_or_damaged_run_is_refused(run, scenes, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run folder: it has no run.json"):
        runs.open_run(tmp_path)
    info, log = ((run.folder / name).read_text() for name in ("run.json", "training_log.csv"))
    header = ",".join(runs.COLUMNS)
    row = "1,0.004,1.8,0.4,2.2,0.39,51"
    logs = ("", header, "epoch,lr\n1,0.004", f"{header}\n1,x,1,1,1,1,1", f"{header}\n{row}\n2,0.0")
    infos = ("{}", '{"epochs": 3, "recipe": {}}', "[]", "{")
    for info_text, log_text in [*((info, text) for text in logs), *((text, log) for text in infos)]:
        (tmp_path / "run.json").write_text(info_text)
        (tmp_path / "training_log.csv").write_text(log_text)
        with pytest.raises(ValueError, match="damaged"):
            runs.open_run(tmp_path)
        with pytest.raises(ValueError, match="no state to go on from"):  # never overwritten
            train(scenes, tmp_path)
    (tmp_path / "run.json").write_text(info)
    missing = runs.open_run(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"model\.00\d\.keras is gone"):
        missing.network()
    whole = run.checkpoint().read_bytes()
    for content in (whole[:1000], whole[: len(whole) // 2], b"", b"<html>"):
        missing.checkpoint().write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.00\d\.keras is damaged"):
            missing.network()


def test_the_score_averages_with_the_picture_mirrored_left_and_right(copy, scenes, monkeypatch):
    """A network that takes the class of the corner at the upper left, as sure as its green says."""

    def predict(x, **_):
        corners = np.concatenate(list(x.as_numpy_iterator()))[:, 0, 0].astype(int)
        return np.float32(np.eye(10)[corners[:, 0]] * corners[:, 1:2] / 10)

    x = np.zeros((50, 32, 32, 3), np.uint8)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = (scenes.y_test + np.arange(50) % 2) % 10, 1  # half are right
    x[:, 0, -1, 0], x[:, 0, -1, 1] = scenes.y_test, 2
    x[:, -1, :, 0], x[:, -1, :, 1] = ((scenes.y_test + 5) % 10)[:, None], 9
    monkeypatch.setattr(runs.Run, "network", lambda run: SimpleNamespace(predict=predict))
    scores = runs.score(runs.open_run(copy), dataclasses.replace(scenes, x_test=x))
    assert (scores["test_acc"], scores["test_acc_flip"]) == (0.5, 1)
    scored = runs.open_run(copy)
    assert scored.info["scores"] == scores and scores["epoch"] == scored.chosen["epoch"]
    assert np.array_equal(scored.test_correct(), np.arange(50) % 2 == 0)


def test_training_draws_nothing_and_knows_tensorflow_in_one_place():
    """Plain Keras and NumPy, so that another backend serves as well."""
    for path in (ROOT / "helpers/training").glob("*.py"):
        code = path.read_text()
        assert not re.search("IPython|matplotlib|import plots|helpers.plots", code), path
        assert path.name == "devices.py" or "import tensorflow" not in code, path
