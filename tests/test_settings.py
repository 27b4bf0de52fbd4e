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
def machine(monkeypatch, tmp_path):
    """`settings` on a machine with or without CIFAR-10, its host and a recorded run."""

    def machine(cifar=False, host=False, recorded=False, **variables):
        for name in ("COURSE_MODE", "COURSE_EPOCHS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(settings, "on_disk", lambda: cifar)
        monkeypatch.setattr(settings, "host_answers", lambda: host)
        monkeypatch.setattr(settings, "RECORDED", tmp_path)
        if recorded:
            (tmp_path / "course").mkdir(exist_ok=True)
            (tmp_path / "course/run.json").touch()
        return settings

    return machine


@pytest.mark.parametrize(
    "cifar, host, recorded, mode",
    [(False, False, True, "quick"), (False, True, True, "recorded"), (True, False, False, "full")],
)
def test_auto_mode(machine, cifar, host, recorded, mode):
    form = machine(cifar, host, recorded).configure()
    assert form.mode == mode and form.data == ("synthetic" if mode == "quick" else "cifar10")
    assert form.recipe is (QUICK if mode == "quick" else COURSE)


def test_named_data_decide_the_mode_and_never_fall_back(machine):
    assert machine().configure("auto", "copy.npz").mode == "full"
    assert machine(cifar=True, recorded=True).configure("auto", "synthetic").mode == "quick"
    assert machine().configure("full", "synthetic").data == "synthetic"


def test_the_banner_says_what_is_not_cifar10_and_what_is_ignored(machine, monkeypatch):
    configure = machine(recorded=True).configure
    assert "SYNTHETIC STAND-IN" in configure("quick").banner
    assert "its host does not answer" in configure("auto").banner
    assert "does not answer" not in configure("quick").banner
    assert "\nEPOCHS, SEED and RUN_FOLDER count in MODE full only" in configure("recorded").banner
    for gpu in (False, True):
        monkeypatch.setattr(settings, "gpu_names", lambda gpu=gpu: ["NVIDIA T4"] * gpu)
        assert ("There is no GPU: an epoch" in configure("full").banner) != gpu


@pytest.mark.parametrize("mode", ["auto", "quick", "recorded"])
def test_a_notebook_without_training_tells_why_its_pictures_are_drawn(machine, capsys, mode):
    expected = "cifar10" if mode == "recorded" else "synthetic"
    assert machine(COURSE_MODE=mode).data_source() == expected
    assert ("its host does not answer: connect" in capsys.readouterr().out) == (mode == "auto")


@pytest.mark.parametrize("visible", [0, 2])
def test_gpus_are_those_that_keras_sees(monkeypatch, visible):
    devices = ["cpu:0", *(f"gpu:{i}" for i in range(visible))]
    monkeypatch.setattr("keras.distribution.list_devices", lambda: devices)
    listed = subprocess.CompletedProcess([], 0, "Tesla T4\nTesla T4\nTesla T4\n")
    monkeypatch.setattr(environment.subprocess, "run", lambda *_, **__: listed)
    assert environment.gpu_names() == ["Tesla T4"] * visible


@pytest.mark.parametrize("mode", ["quick", "recorded", "full"])
def test_a_named_mode_asks_no_host(machine, monkeypatch, mode):
    machine(recorded=True, COURSE_MODE=mode)
    monkeypatch.setattr(settings, "host_answers", lambda: pytest.fail("asked the network"))
    assert settings.configure().mode == mode and settings.data_source()


def test_full_runs_have_a_lasting_folder_and_the_environment_overrides_the_form(machine):
    configure = machine().configure
    short = configure("full", recipe="modern", epochs=8)
    assert (short.folder, short.recipe.epochs) == (Path("runs/modern_8_seed0"), 8)
    assert configure("full", folder="~/runs/x\n").folder == Path.home() / "runs/x"
    assert configure("full", seed=3, folder="  ").folder == Path("runs/course_50_seed3")
    assert machine(COURSE_MODE="full", COURSE_EPOCHS="2").configure("quick").epochs == 2


def test_quick_runs_have_a_fresh_folder_that_is_gone_when_the_process_ends():
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
    folders = {Path(line) for line in done.stdout.splitlines()}
    assert "a cell failed" in done.stderr and len(folders) == 2
    assert not [folder for folder in folders if folder.exists()]


def test_quiet_drops_native_messages_and_restores_stderr(capfd):
    with environment.quiet():
        os.write(2, b"start-up noise")
    os.write(2, b"kept")
    assert capfd.readouterr().err == "kept"


def test_the_revision_is_of_the_course_not_of_what_it_lies_in(tmp_path, monkeypatch):
    (tmp_path / "course").mkdir()
    (tmp_path / "course/a.py").touch()
    commit_all(tmp_path)
    monkeypatch.setattr(environment, "ROOT", tmp_path / "course")
    assert environment.describe()["revision"] == "unknown"
    commit_all(tmp_path / "course")
    assert len(environment.describe()["revision"]) >= 7


@pytest.mark.parametrize(
    "text",
    ["~nobody-here/x", f"runs/{256 * 'x'}", "https://example.org/x", f"data:image/png,{99 * 'i'}"],
)
def test_a_field_that_names_no_place_says_so(text):
    with pytest.raises(ValueError, match=r"RUN_FOLDER = .* names no place.*give the path"):
        settings.own_path("RUN_FOLDER", text)
    assert settings.own_path("PHOTO", "  ") is None
