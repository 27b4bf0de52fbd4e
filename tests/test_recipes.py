import csv
import dataclasses

import pytest

from helpers.files import ROOT
from helpers.training.recipes import COURSE, MODERN, SHORT


def test_learning_rates_are_those_of_the_assignments_log_to_the_letter():
    with open(ROOT / "saved_models/assignment/training_log.csv", newline="") as file:
        printed = [row["lr"] for row in csv.DictReader(file)]
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
