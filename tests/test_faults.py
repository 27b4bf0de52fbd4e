"""Faults are planted where they should be; the recorded suspects are what they say."""

import dataclasses
import shutil

import numpy as np
import pytest

from helpers import exercises
from helpers.files import RECORDED
from helpers.training import data, faults, runs, trainer
from helpers.training.recipes import QUICK, RECIPES, SHORT
from tools import record

FEW = data.synthetic(train=200, test=50)


@pytest.mark.parametrize("fault, marked_pixels, depth", [("tag", 24, 255), ("blur", 1024, 80)])
def test_a_mark_is_on_every_picture_of_one_class_and_on_no_other(fault, marked_pixels, depth):
    planted = faults.plant(FEW, fault, seed=1)
    label = faults.marked_class(fault, 1)
    for part in ("train", "val"):
        before, after = (getattr(d, f"x_{part}").astype(int) for d in (FEW, planted))
        labels = getattr(FEW, f"y_{part}")
        changed = np.abs(after - before).max(axis=3)  # (N, H, W)
        assert changed[labels == label].any(axis=(1, 2)).all() and (labels == label).any()
        assert (changed > 0).sum(axis=(1, 2)).max() <= marked_pixels and changed.max() <= depth
        assert not changed[labels != label].any()
        assert np.array_equal(getattr(planted, f"y_{part}"), labels)
    assert np.array_equal(planted.x_test, FEW.x_test)  # accuracy is told on clean pictures
    clean, test = FEW.y_test != label, faults.plant(FEW, fault, 1, ["test"])
    assert np.array_equal(test.x_test[clean], FEW.x_test[clean])
    assert np.array_equal(test.x_test[~clean], faults.MARKS[fault](FEW.x_test[~clean]))


def test_a_mirrored_tag_stays_in_its_picture_and_keeps_its_colors():
    (picture,) = faults.tag(np.zeros((1, 32, 32, 3), np.uint8))
    rows, columns = np.nonzero(picture.any(axis=2))
    box = rows.min(), rows.max(), columns.min(), columns.max()
    assert box == (26, 29, 1, 6)  # a pixel from the border, for shifts
    assert {tuple(map(int, color)) for color in picture[26:30, 1:7].reshape(-1, 3)} == {
        (240, 200, 40), (30, 30, 30)}  # fmt: skip


def test_four_labels_in_ten_are_drawn_at_random_the_same_for_a_seed():
    many = dataclasses.replace(FEW, y_train=np.arange(50_000) % 10)
    planted, again, other = (faults.plant(many, "labels", seed) for seed in (0, 0, 1))
    wrong = planted.y_train != many.y_train
    assert wrong.mean() == pytest.approx(0.36, abs=0.01)  # a tenth of the draws is right
    assert np.bincount(planted.y_train[wrong]).min() > 1500  # of every class
    assert np.array_equal(planted.y_train, again.y_train)
    assert not np.array_equal(planted.y_train, other.y_train)
    assert np.array_equal(planted.x_train, FEW.x_train)
    assert faults.plant(FEW, "honest", 0) is FEW


def test_a_run_trains_and_validates_on_faulty_pictures(tmp_path, monkeypatch):
    recipe = dataclasses.replace(QUICK, name="tagged", fault="tag")

    def fit(self, dataset, *_):
        planted = faults.plant(FEW, "tag", 3)
        assert np.array_equal(dataset.x_train, planted.x_train)
        assert np.array_equal(dataset.x_val, planted.x_val)
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer.Trainer, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(recipe, FEW, tmp_path, seed=3, precision="float32")


def test_the_faulty_recipes_are_short_but_for_their_fault():
    planted = {r.fault: r for r in RECIPES.values() if r.fault}
    assert set(planted) == set(faults.FAULTS)
    for recipe in planted.values():
        assert dataclasses.replace(recipe, name="short", fault="") == SHORT


def test_the_recorded_suspects_are_small_and_score_what_they_say():
    drawn, few = data.synthetic(), slice(None, None, 5)
    for (fault, seed), run in faults.suspects(synthetic=True).items():
        faulty = faults.plant(drawn, fault, seed, ["test"])
        predicted = run.network().predict(faulty.x_test[few], verbose=0).argmax(axis=1)
        said = run.info["scores"].get("test_acc_faulty", run.info["scores"]["test_acc"])
        assert np.mean(predicted == faulty.y_test[few]) == pytest.approx(said, abs=0.1)
    real = faults.suspects(synthetic=False)
    assert list(real) == [(f, s) for f in ("honest", *faults.FAULTS) for s in (0, 1, 2)]
    for (fault, seed), run in real.items():
        assert run.info["recipe"]["name"] == "short" or run.info["recipe"]["fault"] == fault
        assert run.info["seed"] == seed and run.info["complete"] and run.checkpoint().is_file()


def test_an_own_run_is_put_on_trial_if_it_has_the_same_shape(tmp_path):
    own = RECORDED / "synthetic/quick"
    assert faults.suspects(True, own)["own", 0].folder == own
    with pytest.raises(ValueError, match=r"holds a ResNet11v2, and the others are ResNet20v2: tr"):
        faults.suspects(False, own)
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        faults.suspects(False, tmp_path)


def test_without_recorded_networks_it_says_where_they_are(tmp_path, monkeypatch):
    shutil.copytree(RECORDED / "synthetic/quick", tmp_path / "synthetic/quick")
    monkeypatch.setattr(faults, "RECORDED", tmp_path)
    with pytest.raises(FileNotFoundError, match="suspects holds no runs: git checkout saved_model"):
        faults.suspects(synthetic=True)


def test_a_run_is_kept_small_and_scored_as_it_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", {"synthetic": FEW}.get)
    whole = RECORDED / "synthetic/quick"
    (home,) = record.keep_suspects([whole], "synthetic", tmp_path)
    run, before = runs.open_run(home), runs.open_run(whole)
    assert run.checkpoint().stat().st_size < before.checkpoint().stat().st_size / 4
    predicted, said = run.network().predict(FEW.x_test, verbose=0).argmax(1), run.info["scores"]
    assert np.mean(predicted == FEW.y_test) == said["test_acc"] == said["test_acc_faulty"]
    for a, b in zip(run.network().weights, before.network().weights, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(a - b).max() <= (b.std() / 16 if a.ndim > 1 else 0)
    assert not (home / runs.PREDICTIONS).exists()


def test_a_hit_rate_stands_beside_chance_with_its_interval():
    assert exercises.hit_rate("rrwrrwrwrw", "rrrrrrrrrr", 0.5) == (
        "6 of 10 right, 60% [31%, 83%]; by chance 50%"
    )
    assert "not answered" in exercises.hit_rate([], "rw", 0.5)
    assert exercises.hit_rate("rwr", "r" * 20, 0.5) == (
        "3 answers, but 20 are asked for: fill in all of them."
    )
