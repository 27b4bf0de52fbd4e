"""A run that dies at its two worst moments and is started again ends like one left alone."""

import dataclasses
import os
import signal
import subprocess
import sys
import zipfile
from contextlib import contextmanager

import numpy as np

from helpers.files import ROOT
from helpers.training import data, runs, trainer
from helpers.training.recipes import COURSE

RECIPE = dataclasses.replace(COURSE, epochs=3, batch_size=10, depth=11)


def train(folder):
    """On twenty pictures, in float32: CPUs' own bfloat16 instructions do not repeat every bit."""
    scenes = data.synthetic(train=200, test=50)
    few = dataclasses.replace(scenes, x_train=scenes.x_train[::9], y_train=scenes.y_train[::9])
    trainer.train(RECIPE, few, folder, precision="float32")


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


def result(folder):
    """The log without its seconds, and the bytes of every weight that is kept."""
    lines = (folder / "training_log.csv").read_text().splitlines()
    run = runs.open_run(folder)
    weights = {row["epoch"]: run.network(row["epoch"]).get_weights() for row in run.kept}
    return [line.rsplit(",", 1)[0] for line in lines], weights


def assert_equal(folder, other):
    (log, weights), (expected, theirs) = result(folder), result(other)
    assert log == expected
    assert weights.keys() == theirs.keys()
    for epoch, arrays in weights.items():
        assert all(np.array_equal(a, b) for a, b in zip(arrays, theirs[epoch], strict=True)), epoch


def assert_no_half_file(folder):
    """Whatever stands under a final name can be read to its end."""
    for path in folder.glob("[!.]*"):
        if path.suffix in (".npz", ".keras"):
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None, path
        elif path.name == "training_log.csv":
            assert runs.read_log(path)
        else:
            assert path.name == "run.json" and path.read_text().endswith("}\n")


def test_killed_in_a_checkpoint_and_between_log_and_state(tmp_path, capsys):
    train(tmp_path / "undisturbed")
    folder = tmp_path / "killed"
    for dies_in in ("*.001.keras", "state_002.npz"):
        printed, status = train_in_a_process(folder, dies_in)
        assert status == -signal.SIGKILL, printed
        assert_no_half_file(folder)
    assert "Going on after epoch" not in printed  # the first kill came before any state
    assert len(list(folder.glob(".*"))) == 1  # what the second one was writing
    capsys.readouterr()
    train(folder)
    assert "Going on after epoch 1" in capsys.readouterr().out
    assert not list(folder.glob(".*"))
    assert_equal(folder, tmp_path / "undisturbed")
