import dataclasses
import errno
import json
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from helpers import environment
from helpers.files import RECORDED
from helpers.training import data, runs, trainer
from helpers.training.recipes import COURSE, MODERN, SHORT, LinearToZero, Recipe
from tools import record

RECIPE = dataclasses.replace(
    COURSE, name="tiny", epochs=3, batch_size=60, flip=False, depth=11, batch_norm_momentum=0.5
)


def train(scenes, folder, recipe=RECIPE, precision="float32", **options):
    """As `trainer.train`, in float32 whatever this machine does fastest."""
    return trainer.train(recipe, scenes, folder, precision=precision, **options)


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    return train(scenes, tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def copy(run, tmp_path):
    """A folder with a copy of the run."""
    return shutil.copytree(run.folder, tmp_path / "run")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same(run, other):
    """In all but the seconds."""
    logs = [each.log.drop(columns="seconds") for each in (run, other)]
    pd.testing.assert_frame_equal(*logs, check_exact=True)
    weights = [each.network().get_weights() for each in (run, other)]
    for ours, theirs in zip(*weights, strict=True):
        assert ours.dtype == np.float32 and np.array_equal(ours, theirs)


# --- Recipes -------------------------------------------------------------------------------------


def test_learning_rates_are_those_of_the_assignments_log_to_the_letter():
    lines = (RECORDED / "assignment/training_log.csv").read_text().splitlines()
    printed = [line.split(",")[1] for line in lines[1:]]
    assert len(printed) == 50 and printed[0] == "0.004" and printed[-1] == "0.0002405147"
    assert [str(COURSE.rate(epoch + 0.5)) for epoch in range(50)] == printed


def test_modern_ends_at_zero_whatever_its_length():
    for recipe in (MODERN, MODERN.with_epochs(8)):
        rates = [recipe.rate(recipe.epochs * share) for share in (0, 0.05, 0.1, 0.55, 1)]
        peak = recipe.learning_rate.peak
        assert rates == pytest.approx([0, peak / 2, peak, peak / 2, 0])


def test_a_recipe_prints_as_a_table_and_comes_back_from_run_json():
    lines = COURSE.table().splitlines()
    assert len(lines) == len(dataclasses.fields(COURSE)) - 4  # Muon's, a teacher, a fault
    assert "learning_rate        InverseTimeDecay(initial=0.004, decay=0.319)" in lines
    assert "momentum             0.6" in SHORT.table().splitlines()
    needed = ("name", "epochs", "batch_size", "learning_rate")
    for recipe in (COURSE, MODERN):
        settings = dataclasses.asdict(recipe)
        assert Recipe.from_dict(settings) == recipe
        old = Recipe.from_dict({name: settings[name] for name in needed})
        assert old == Recipe(**{name: getattr(recipe, name) for name in needed})


# All settings matter to this one: 12 pictures in two steps of Muon, shifted and erased.
BASE = Recipe(
    "tiny", epochs=1, batch_size=6, learning_rate=LinearToZero(0.05, 0.3), optimizer="muon",
    depth=11, batch_norm_momentum=0.5,
)  # fmt: skip
CHANGES = {
    "epochs": 2, "batch_size": 4, "learning_rate": LinearToZero(0.05, 0.6), "optimizer": "adam",
    "momentum": 0.5, "adam_ratio": 0.1, "flip": False, "shift": 0.2, "whole_pixels": True,
    "erase": 0.0, "label_smoothing": 0.1, "l2": 1e-2, "depth": 20, "batch_norm_momentum": 0.9,
    "teacher": "synthetic/quick",
}  # fmt: skip


def test_every_field_of_a_recipe_changes_training(scenes):
    """But its name; selection, hold-out and faults are tested elsewhere."""
    names = {field.name for field in dataclasses.fields(Recipe)}
    assert names == CHANGES.keys() | {"name", "selection", "hold_out", "fault"}
    few = dataclasses.replace(scenes, x_train=scenes.x_train[::15], y_train=scenes.y_train[::15])

    def weights(**changes):
        recipe = dataclasses.replace(BASE, **changes)
        fresh = trainer.Trainer(recipe, 0, "float32", -(-12 // recipe.batch_size))
        fresh.training_model.run_eagerly = True  # compiling would take longer
        fresh.fit(few, 0)
        return b"".join(value.tobytes() for value in fresh.in_training.get_weights())

    base = weights()
    assert weights(name="other") == base
    assert [name for name in CHANGES if weights(**{name: CHANGES[name]}) == base] == []


def test_without_hold_out_all_pictures_train(scenes, tmp_path, monkeypatch):
    def fit(self, dataset, *_):
        assert len(dataset.x_train) == 200 and dataset.x_val is scenes.x_test
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer.Trainer, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        train(scenes, tmp_path, dataclasses.replace(RECIPE, hold_out=False))


# --- A run ---------------------------------------------------------------------------------------


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
    return runs.Run(RECORDED, log, {"recipe": recipe, "complete": complete, "epochs": 50})


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


def test_the_result_is_the_best_epoch_or_the_last_of_a_complete_run():
    for selection, complete, epoch in (("best", True, 2), ("last", True, 3), ("last", False, 2)):
        assert made_up(selection, complete).chosen["epoch"] == epoch
        assert made_up(selection, complete).best["epoch"] == 2  # the first of equals


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


def test_a_run_stopped_by_a_full_disk_and_started_on_another_machine_ends_like_one_left_alone(
    run, scenes, tmp_path, capsys, monkeypatch
):
    def full_disk(path, **arrays):
        path.write_bytes(b"half a state")
        raise OSError(errno.ENOSPC, "No space left on device")

    stopped = train(scenes, tmp_path / "run", epochs=2)
    printed, before = capsys.readouterr().out.splitlines(), contents(stopped.folder)
    assert printed == stopped.lines() and not stopped.info["complete"]
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full_disk)
        with pytest.raises(OSError, match="cannot be written.*No space left.*make room"):
            train(scenes, stopped.folder)
    assert contents(stopped.folder) == before
    (stopped.folder / runs.PREDICTIONS).touch()  # of a result that is not the last
    capsys.readouterr()

    told = []
    listener = keras.callbacks.LambdaCallback(on_epoch_end=lambda *each: told.append(each))
    monkeypatch.setattr(environment, "describe", lambda: {"device": "another"})
    resumed = train(scenes, stopped.folder, callbacks=[listener])
    assert told == [(2, run.log[list(runs.COLUMNS[1:-1])].to_dict("records")[2])]
    assert resumed.info["environment"] == {"device": "another"}
    assert resumed.info["earlier_environments"] == [stopped.info["environment"]]
    assert_same(resumed, run)
    assert not (resumed.folder / runs.PREDICTIONS).exists()
    first, second, going_on, last = capsys.readouterr().out.splitlines()
    assert going_on == "Going on after epoch 2, the last one in run"
    assert [first, second, last] == resumed.lines()


def test_a_finished_run_prints_the_same_lines_and_is_not_trained_again(run, scenes, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.folder.iterdir()}
    assert train(scenes, run.folder).lines() == run.lines()
    assert capsys.readouterr().out.splitlines() == run.lines()
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


@pytest.mark.parametrize("content", [None, b'{"recipe":'])
def test_what_a_finished_run_lost_is_written_from_its_state(run, scenes, copy, content):
    before = contents(copy)
    for path in (copy / "training_log.csv", copy / "run.json", runs.open_run(copy).checkpoint()):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    assert train(scenes, copy).lines() == run.lines()
    assert contents(copy) == before


def test_other_seed_data_or_recipe_is_refused(scenes, copy):
    (copy / "run.json").unlink()  # the state knows
    before = contents(copy)
    with pytest.raises(ValueError, match="with seed = 0, not 1.*another run folder"):
        train(scenes, copy, seed=1)
    with pytest.raises(ValueError, match="with l2 = 0.0001, not 0.0.*another run folder"):
        train(scenes, copy, dataclasses.replace(RECIPE, l2=0.0))
    with pytest.raises(ValueError, match="with data = synthetic stand-in, not other"):
        train(dataclasses.replace(scenes, source="other"), copy)
    assert contents(copy) == before


def test_other_classes_than_ten_and_fewer_pictures_than_a_batch(scenes, tmp_path):
    parts = {}
    for part in ("train", "val", "test"):
        few = getattr(scenes, f"y_{part}") < 3
        parts |= {f"{x}_{part}": getattr(scenes, f"{x}_{part}")[few][::5] for x in "xy"}
    own = dataclasses.replace(scenes, **parts, class_names=("cat", "cup", "dog"), source="own.npz")
    run = train(own, tmp_path, epochs=1)  # of 11 pictures, two to validate
    assert run.class_names == own.class_names and run.network().output_shape == (None, 3)
    with pytest.raises(ValueError, match="class_names = .*cup.*, not .*fork.*another run folder"):
        train(dataclasses.replace(own, class_names=("cat", "fork", "dog")), tmp_path)
    with pytest.raises(ValueError, match="knows other classes than synthetic stand-in sh"):
        run.require_classes(scenes)
    recorded = [runs.open_run(RECORDED / name).class_names for name in ("short", "synthetic/quick")]
    assert recorded == [data.CLASS_NAMES, scenes.class_names]  # they do not tell


def test_an_older_courses_run_goes_on(run, scenes, copy):
    """Its recipe lacks a setting of today, and its states hold variables and log alone."""
    (copy / "state_003.npz").unlink()
    for name in ("training_log.csv", "run.json"):
        (copy / name).unlink()
    train(scenes, copy, epochs=2)
    info = json.loads((copy / "run.json").read_text())
    del info["recipe"]["momentum"], info["class_names"]
    (copy / "run.json").write_text(json.dumps(info))
    with np.load(copy / "state_002.npz") as file:
        values = {name: file[name] for name in file if name not in ("run.json", "checkpoint")}
    np.savez(copy / "state_002.npz", **values)
    done = train(scenes, copy)
    assert_same(done, run)
    assert done.info["recipe"]["momentum"] == 0.8


def test_of_two_trainings_in_one_new_folder_the_second_to_save_stops(scenes, tmp_path):
    class Other(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            train(scenes, tmp_path, seed=1, epochs=1)
            self.left = contents(tmp_path)

    with pytest.raises(ValueError, match="with seed = 1, not 0.*another run folder"):
        train(scenes, tmp_path, callbacks=[other := Other()])
    assert contents(tmp_path) == other.left


def test_the_newest_state_has_the_highest_number_and_no_copys_name(tmp_path):
    for name in ("state_998", "state_1000", "state_999", "state_1000 (1)", "state_"):
        (tmp_path / f"{name}.npz").touch()
    names = [path.stem for path in trainer._states(tmp_path)]
    assert names == ["state_998", "state_999", "state_1000"]


def test_missing_or_damaged_run_is_refused(run, scenes, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run folder.*Train first"):
        runs.open_run(tmp_path)
    info, log = ((run.folder / name).read_text() for name in ("run.json", "training_log.csv"))
    header, row = ",".join(runs.COLUMNS), "1,0.004,1.8,0.4,2.2,0.39,51"
    logs = ("", header, "epoch,lr\n1,0.004", f"{header}\n1,x,1,1,1,1,1", f"{header}\n{row}\n2,0.0")
    infos = ("{}", '{"epochs": 3, "recipe": {}}', "{")
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
    for content in (whole[: len(whole) // 2], b"<html>"):
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
    scores = record.score(runs.open_run(copy), dataclasses.replace(scenes, x_test=x))
    assert (scores["test_acc"], scores["test_acc_flip"]) == (0.5, 1)
    scored = runs.open_run(copy)
    assert scored.info["scores"] == scores and scores["epoch"] == scored.chosen["epoch"]
    assert np.array_equal(scored.test_correct(), np.arange(50) % 2 == 0)
