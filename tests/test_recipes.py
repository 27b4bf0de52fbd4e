import csv
import dataclasses

import pytest

from helpers.recipes import COURSE
from helpers.runtime import ROOT


def test_learning_rates_are_those_of_the_assignments_log_to_the_letter():
    with open(ROOT / "saved_models/assignment/training_log.csv", newline="") as file:
        printed = [row["lr"] for row in csv.DictReader(file)]
    assert len(printed) == 50 and printed[0] == "0.004" and printed[-1] == "0.0002405147"
    assert [str(COURSE.learning_rate(epoch + 0.5, 50)) for epoch in range(50)] == printed


def test_recipe_is_frozen_and_prints_as_a_table():
    with pytest.raises(dataclasses.FrozenInstanceError):
        COURSE.epochs = 10
    lines = COURSE.table().splitlines()
    assert len(lines) == len(dataclasses.fields(COURSE))
    assert "learning_rate        InverseTimeDecay(initial=0.004, decay=0.319)" in lines
