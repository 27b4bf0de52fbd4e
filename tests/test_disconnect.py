"""Kills: a run that dies at any moment and is started again ends like one left alone.

The test kills twice, at the two worst moments. By hand, at random ones, over several seeds:
python tests/test_disconnect.py --seeds 3 --kills 5
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(ROOT))

from helpers import runs

# The run, in a process of its own. WHEN names a file; the process dies while it is half written.
TRAIN = """
import dataclasses, os, signal, sys
from contextlib import contextmanager
from helpers import data, training
from helpers.recipes import QUICK

folder, seed, epochs, when = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
recipe = dataclasses.replace(QUICK, epochs=epochs, batch_size=20, shift=0.1, erase=0.5)
safely = training.replacing

@contextmanager
def dying(path):
    with safely(path) as temporary:
        yield temporary
        if when and path.match(when):
            os.truncate(temporary, os.path.getsize(temporary) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

training.replacing = dying
print("ready", flush=True)
training.train(recipe, data.synthetic(train=400, test=50), folder, seed)
"""


def start(folder, seed, epochs, when=""):
    command = [sys.executable, "-c", TRAIN, str(folder), str(seed), str(epochs), when]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(*arguments):
    process = start(*arguments)
    return process.communicate()[0], process.returncode


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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert finish(folder, 0, 3)[1] == 0
    return folder


def test_killed_in_a_checkpoint_and_between_log_and_state(undisturbed, tmp_path):
    for when in ("*.001.keras", "state_002.npz"):
        printed, status = finish(tmp_path, 0, 3, when)
        assert status == -signal.SIGKILL, printed
        assert_no_half_file(tmp_path)
    assert "Going on after epoch" not in printed  # the first kill came before any state
    assert len(list(tmp_path.glob(".*"))) == 1  # what the second one was writing
    printed, status = finish(tmp_path, 0, 3)
    assert status == 0 and "Going on after epoch 1" in printed, printed
    assert not list(tmp_path.glob(".*"))
    assert_equal(tmp_path, undisturbed)


def by_hand(seeds, kills, epochs):
    """Kill every seed's run at random moments until it has died `kills` times, then let it end."""
    total = 0
    for seed in range(seeds):
        whole = Path(tempfile.mkdtemp())
        started = time.monotonic()
        finish(whole, seed, epochs)
        length = time.monotonic() - started
        rng, folder, moments = np.random.default_rng(seed), Path(tempfile.mkdtemp()), []
        while len(moments) < kills:
            process = start(folder, seed, epochs)
            process.stdout.readline()  # TensorFlow is there
            time.sleep(rng.uniform(0.2, 0.8) * length)
            done = process.poll() is not None
            process.kill()
            process.communicate()
            assert_no_half_file(folder)
            states = sorted(path.name for path in folder.glob("state_*.npz"))
            if done:  # it ended before it could be killed: begin anew
                assert_equal(folder, whole)
                folder = Path(tempfile.mkdtemp())
                continue
            moments.append(states[-1].removesuffix(".npz") if states else "no state")
        finish(folder, seed, epochs)
        assert_equal(folder, whole)
        total += len(moments)
        print(f"seed {seed}: killed after {', '.join(moments)}; ends like the other", flush=True)
    print(f"{total} kills survived, {seeds} seeds, {epochs} epochs each")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    by_hand(arguments.seeds, arguments.kills, arguments.epochs)
