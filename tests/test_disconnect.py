"""A run that dies at its worst moments and is started again ends like one left alone."""

import dataclasses
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np

from helpers.files import ROOT
from helpers.training import data, trainer
from helpers.training.recipes import COURSE

RECIPE = dataclasses.replace(COURSE, epochs=2, batch_size=10, depth=11)


def train(folder):
    """On twenty pictures, in float32: CPUs' own bfloat16 instructions do not repeat every bit."""
    scenes = data.synthetic(train=200, test=50)
    few = dataclasses.replace(scenes, x_train=scenes.x_train[::9], y_train=scenes.y_train[::9])
    return trainer.train(RECIPE, few, folder, precision="float32")


def die_in(name):
    """From now on this process dies while a file of that name is half written."""
    replacing = trainer.replacing

    @contextmanager
    def dying(path):
        with replacing(path) as temporary:
            yield temporary
            if path.match(name):
                os.truncate(temporary, os.path.getsize(temporary) // 2)
                os.kill(os.getpid(), signal.SIGKILL)

    trainer.replacing = dying


def train_in_a_process(folder, dies_in):
    """What it printed, and its exit status."""
    code = "import sys, test_disconnect as test; test.die_in(sys.argv[2]); test.train(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), dies_in],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout + done.stderr, done.returncode


def test_killed_in_the_first_state_a_checkpoint_the_first_run_json_and_the_last_state(
    tmp_path, capsys
):
    whole, folder = train(tmp_path / "undisturbed"), tmp_path / "killed"
    for dies_in in ("state_001.npz", "*.001.keras", "run.json", "state_002.npz"):
        printed, status = train_in_a_process(folder, dies_in)
        assert status == -signal.SIGKILL, printed
        assert len(list(folder.glob(".*"))) == 1  # what was being written
        if dies_in == "state_002.npz":
            assert "Going on after epoch 1" in printed
    capsys.readouterr()
    run = train(folder)
    assert "Going on after epoch 1" in capsys.readouterr().out
    assert not list(folder.glob(".*"))
    assert run.log.drop(columns="seconds").equals(whole.log.drop(columns="seconds"))
    weights = [each.network().get_weights() for each in (run, whole)]
    assert all(np.array_equal(*both) for both in zip(*weights))
