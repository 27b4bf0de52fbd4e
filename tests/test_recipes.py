import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from helpers.files import RECORDED
from helpers.training import trainer
from helpers.training.recipes import COURSE, MODERN, SHORT, LinearToZero, Recipe


def test_learning_rates_are_those_of_the_assignments_log_to_the_letter():
    lines = (RECORDED / "assignment/training_log.csv").read_text().splitlines()
    printed = [line.split(",")[1] for line in lines[1:]]
    assert len(printed) == 50 and printed[0] == "0.004" and printed[-1] == "0.0002405147"
    assert [str(COURSE.rate(epoch + 0.5)) for epoch in range(50)] == printed


def test_recipe_is_frozen_and_prints_as_a_table():
    with pytest.raises(dataclasses.FrozenInstanceError):
        COURSE.epochs = 10
    lines = COURSE.table().splitlines()
    assert len(lines) == len(dataclasses.fields(COURSE)) - 2  # those of Muon alone
    for line in ("momentum             0.6", "adam_ratio           0.25"):
        assert line in SHORT.table().splitlines()
    assert "learning_rate        InverseTimeDecay(initial=0.004, decay=0.319)" in lines


def test_modern_ends_at_zero_whatever_its_length():
    for recipe in (MODERN, MODERN.with_epochs(8)):
        rates = [recipe.rate(recipe.epochs * share) for share in (0, 0.05, 0.1, 0.55, 1)]
        peak = recipe.learning_rate.peak
        assert rates == pytest.approx([0, peak / 2, peak, peak / 2, 0])
    assert MODERN.with_epochs(8).name == "modern" and MODERN.with_epochs(50) == MODERN


@pytest.mark.parametrize("recipe", [COURSE, MODERN])
def test_a_recipe_comes_back_from_run_json(recipe):
    assert Recipe.from_dict(recipe.as_dict()) == recipe
    needed = ("name", "epochs", "batch_size", "learning_rate")
    old = {name: recipe.as_dict()[name] for name in needed}
    assert Recipe.from_dict(old) == Recipe(**{name: getattr(recipe, name) for name in needed})


# --- Every field counts --------------------------------------------------------------------------

# All of them matter to this one: 27 pictures in three steps, of Muon, shifted and erased.
BASE = Recipe(
    "tiny", epochs=1, batch_size=9, learning_rate=LinearToZero(0.05, 0.3), optimizer="muon",
    depth=11, batch_norm_momentum=0.5,
)  # fmt: skip
CHANGES = {
    "epochs": 2, "batch_size": 14, "learning_rate": LinearToZero(0.05, 0.4), "optimizer": "adam",
    "momentum": 0.5, "adam_ratio": 0.1, "flip": False, "shift": 0.2, "whole_pixels": True,
    "erase": 0.0, "label_smoothing": 0.1, "l2": 1e-2, "depth": 20, "batch_norm_momentum": 0.9,
    "hold_out": False,
}  # fmt: skip
NO_WEIGHTS = {"name", "selection"}  # test_trainer.py has tests of the selection


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """A function from a recipe to all that its training changes, as bytes; uncompiled: faster."""
    few = dataclasses.replace(
        scenes, x_train=scenes.x_train[::7][:27], y_train=scenes.y_train[::7][:27]
    )

    def train(recipe):
        folder = tmp_path_factory.mktemp("runs") / "run"
        trainer.train(recipe, few, folder, precision="float32")
        state = trainer._newest_state(folder)
        return b"".join(np.ascontiguousarray(value).tobytes() for value in state.values.values())

    tf.config.run_functions_eagerly(True)
    yield train
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def base(trained):
    return trained(BASE)


def test_every_field_has_a_change_to_try():
    names = {field.name for field in dataclasses.fields(Recipe)}
    assert names == CHANGES.keys() | NO_WEIGHTS


@pytest.mark.parametrize("name", CHANGES)
def test_every_field_of_a_recipe_changes_training(base, trained, name):
    assert trained(dataclasses.replace(BASE, **{name: CHANGES[name]})) != base


def test_a_name_changes_nothing_in_training(base, trained):
    assert trained(dataclasses.replace(BASE, name="other")) == base
