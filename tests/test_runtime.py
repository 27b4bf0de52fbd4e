import json
from pathlib import Path

import pytest

from helpers import files, runtime
from helpers.recipes import COURSE, QUICK


@pytest.fixture
def place(monkeypatch, tmp_path):
    """A machine with chosen properties; returns a function that configures on it."""
    monkeypatch.delenv("COURSE_MODE", raising=False)
    monkeypatch.delenv("COURSE_EPOCHS", raising=False)

    def configure(*form, gpu=False, cifar=False, recorded=None, **fields):
        monkeypatch.setattr(runtime, "gpu_names", lambda: ["NVIDIA T4"] if gpu else [])
        monkeypatch.setattr(runtime, "_pictures_at_hand", lambda: cifar)
        monkeypatch.setattr(runtime, "RECORDED", tmp_path)
        if recorded is not None:
            (tmp_path / "course").mkdir(exist_ok=True)
            (tmp_path / "course/run.json").write_text(json.dumps({"complete": recorded}, indent=2))
        return runtime.configure(*form, **fields)

    return configure


@pytest.mark.parametrize(
    "gpu, cifar, recorded, mode",
    [
        (False, False, None, "quick"),
        (False, False, True, "quick"),
        (True, False, True, "quick"),
        (False, True, None, "full"),
        (False, True, False, "recorded"),
        (False, True, True, "recorded"),
        (True, True, False, "recorded"),
    ],
)
def test_auto_mode(place, gpu, cifar, recorded, mode):
    settings = place(gpu=gpu, cifar=cifar, recorded=recorded)
    assert settings.mode == mode
    assert settings.data == ("synthetic" if mode == "quick" else "cifar10")
    assert settings.recipe is (QUICK if mode == "quick" else COURSE)


def test_named_data_decide_the_mode_and_never_fall_back(place):
    assert place("auto", "copy.npz").mode == "full"
    assert place("auto", "synthetic", gpu=True, cifar=True, recorded=True).mode == "quick"
    assert place("full").data == "cifar10"
    assert place("full", "synthetic").data == "synthetic"


def test_banner_says_what_is_not_cifar10(place):
    assert "SYNTHETIC STAND-IN" in place("quick").banner
    assert "its host does not answer" in place("auto").banner
    assert "does not answer" not in place("quick").banner
    assert "SYNTHETIC" not in place("full").banner


def test_environment_overrides_the_form(place, monkeypatch):
    monkeypatch.setenv("COURSE_MODE", "full")
    monkeypatch.setenv("COURSE_EPOCHS", "2")
    settings = place("quick", epochs=50)
    assert (settings.mode, settings.epochs) == ("full", 2)


def test_full_runs_have_a_lasting_folder_and_quick_ones_a_fresh_one(place):
    assert place("full", seed=3).folder == Path("runs/course_50_seed3")
    short = place("full", recipe="modern", epochs=8)
    assert (short.folder, short.recipe.epochs) == (Path("runs/modern_8_seed0"), 8)
    assert place("full", folder="drive/run").folder == Path("drive/run")
    assert place("quick").folder != place("quick").folder


@pytest.mark.parametrize(
    "form, message",
    [
        (("fast",), "MODE = 'fast' is unknown; it is one of auto, recorded, full, quick"),
        (("full", "auto", "course", 0), "EPOCHS = 0: a whole number from 1 to 1000"),
        (("full", "auto", "course", -3), "EPOCHS = -3"),
        (("full", "auto", "course", 2.5), "EPOCHS = 2.5"),
        (("full", "auto", "course", 5, -1), "SEED = -1: a whole number from 0 to 4294967295"),
        (
            ("full", "auto", "resnet"),
            "RECIPE = 'resnet' is unknown; it is one of course, reproduction, modern",
        ),
        (("quick", "cifar10"), "choose MODE = 'full'"),
        (("recorded", "synthetic"), "choose 'quick'"),
    ],
)
def test_bad_form_fields_are_refused(place, form, message):
    with pytest.raises(ValueError, match=message):
        place(*form)


def test_recorded_mode_needs_a_recorded_run(place):
    with pytest.raises(FileNotFoundError, match="No run is recorded.*MODE = 'full'"):
        place("recorded")


def test_replacing_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("old")
    with pytest.raises(OSError):
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")
    assert path.read_text() == "old"
    with files.replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_upload_outside_colab_names_the_way_out():
    with pytest.raises(RuntimeError, match="Only Colab.*give the path"):
        runtime.upload()


def test_quiet_drops_native_messages_and_restores_stderr(capfd):
    import os

    with runtime.quiet():
        os.write(2, b"start-up noise")
    os.write(2, b"kept")
    assert capfd.readouterr().err == "kept"
