import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_setup_cell import commit_all

from helpers import environment, settings
from helpers.files import ROOT
from helpers.training.recipes import COURSE, QUICK


@pytest.fixture
def configure(monkeypatch, tmp_path):
    """`settings.configure` on a machine with chosen properties."""
    monkeypatch.delenv("COURSE_MODE", raising=False)
    monkeypatch.delenv("COURSE_EPOCHS", raising=False)

    def configure_here(*form, gpu=False, cifar=False, recorded=None, **fields):
        monkeypatch.setattr(settings, "gpu_names", lambda: ["NVIDIA T4"] if gpu else [])
        monkeypatch.setattr(settings, "_pictures_at_hand", lambda: cifar)
        monkeypatch.setattr(settings, "RECORDED", tmp_path)
        if recorded is not None:
            (tmp_path / "course").mkdir(exist_ok=True)
            (tmp_path / "course/run.json").write_text(json.dumps({"complete": recorded}, indent=2))
        return settings.configure(*form, **fields)

    return configure_here


@pytest.mark.parametrize(
    "cifar, recorded, mode",
    [
        (False, None, "quick"),
        (False, True, "quick"),
        (True, None, "full"),
        (True, False, "recorded"),
        (True, True, "recorded"),
    ],
)
def test_auto_mode(configure, cifar, recorded, mode):
    settings = configure(cifar=cifar, recorded=recorded)
    assert settings.mode == mode
    assert settings.data == ("synthetic" if mode == "quick" else "cifar10")
    assert settings.recipe is (QUICK if mode == "quick" else COURSE)


def test_named_data_decide_the_mode_and_never_fall_back(configure):
    assert configure("auto", "copy.npz").mode == "full"
    assert configure("auto", "synthetic", gpu=True, cifar=True, recorded=True).mode == "quick"
    assert configure("full").data == "cifar10"
    assert configure("full", "synthetic").data == "synthetic"


def test_the_banner_says_what_is_not_cifar10_and_what_is_ignored(configure):
    assert "SYNTHETIC STAND-IN" in configure("quick").banner
    assert "its host does not answer" in configure("auto").banner
    assert "does not answer" not in configure("quick").banner
    assert "SYNTHETIC" not in configure("full").banner
    banner = configure("recorded", recorded=True, epochs=3, seed=7).banner
    assert "\nEPOCHS, SEED and RUN_FOLDER count in MODE full only" in banner


@pytest.mark.parametrize(
    "mode, cifar, source, told",
    [
        ("auto", True, "cifar10", ""),
        ("auto", False, "synthetic", "its host does not answer: connect to the internet"),
        ("quick", False, "synthetic", ""),
        ("recorded", False, "cifar10", ""),
    ],
)
def test_a_notebook_without_training_tells_why_its_pictures_are_drawn(
    monkeypatch, capsys, mode, cifar, source, told
):
    monkeypatch.setenv("COURSE_MODE", mode)
    monkeypatch.setattr(settings, "_pictures_at_hand", lambda: cifar)
    assert settings.data_source() == source
    out = capsys.readouterr().out
    assert told in out and bool(told) == bool(out)


@pytest.mark.parametrize("visible", [0, 1, 2])
def test_gpus_are_those_that_keras_sees(monkeypatch, visible):
    import keras

    devices = ["cpu:0", *(f"gpu:{i}" for i in range(visible))]
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: devices)
    listed = subprocess.CompletedProcess([], 0, "Tesla T4\nTesla T4\nTesla T4\n")
    monkeypatch.setattr(environment.subprocess, "run", lambda *_, **__: listed)
    assert environment.gpu_names() == ["Tesla T4"] * visible


@pytest.mark.parametrize("mode", ["quick", "recorded", "full"])
def test_a_named_mode_asks_no_host(monkeypatch, mode):
    monkeypatch.setattr(settings, "host_answers", lambda: pytest.fail("asked the network"))
    monkeypatch.setattr(settings, "on_disk", lambda: False)
    monkeypatch.setenv("COURSE_MODE", mode)
    assert settings.configure().mode == mode and settings.data_source()


def test_environment_overrides_the_form(configure, monkeypatch):
    monkeypatch.setenv("COURSE_MODE", "full")
    monkeypatch.setenv("COURSE_EPOCHS", "2")
    assert (configure("quick", epochs=50).mode, configure("quick", epochs=50).epochs) == ("full", 2)


def test_full_runs_have_a_lasting_folder_and_quick_ones_a_fresh_one(configure):
    assert configure("full", seed=3).folder == Path("runs/course_50_seed3")
    short = configure("full", recipe="modern", epochs=8)
    assert (short.folder, short.recipe.epochs) == (Path("runs/modern_8_seed0"), 8)
    assert configure("full", folder=" drive/run\n").folder == Path("drive/run")
    assert configure("full", folder="~/runs/x").folder == Path.home() / "runs/x"
    assert configure("full", folder="  ").folder == Path("runs/course_50_seed0")
    assert configure("quick").folder != configure("quick").folder


def test_the_folder_of_a_quick_run_is_gone_when_its_process_ends():
    code = """
from helpers import settings
for error in (None, RuntimeError("a cell failed")):
    folder = settings.configure("quick").folder
    (folder / "state_001.npz").write_bytes(b"state")
    print(folder)
    if error:
        raise error
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    folders = [Path(line) for line in done.stdout.splitlines()]
    assert "a cell failed" in done.stderr and len(folders) == 2
    assert not [folder for folder in folders if folder.exists()]


def test_quiet_drops_native_messages_and_restores_stderr(capfd):
    with environment.quiet():
        os.write(2, b"start-up noise")
    os.write(2, b"kept")
    assert capfd.readouterr().err == "kept"


def test_versions_are_those_of_the_modules(monkeypatch):
    """The package may be called tensorflow-cpu, or have been built by hand."""
    import tensorflow

    monkeypatch.setattr(tensorflow, "__version__", "9.9.9")
    assert environment.describe()["backend"] == "tensorflow 9.9.9"


def test_the_revision_is_of_the_course_not_of_what_it_lies_in(tmp_path, monkeypatch):
    (tmp_path / "course").mkdir()
    (tmp_path / "course/a.py").touch()
    commit_all(tmp_path)
    monkeypatch.setattr(environment, "ROOT", tmp_path / "course")
    assert environment.revision() == ""
    commit_all(tmp_path / "course")
    assert len(environment.revision()) >= 7
