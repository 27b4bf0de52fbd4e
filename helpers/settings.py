"""From the form of a notebook to its settings."""

import atexit
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from helpers.environment import gpu_names, in_colab
from helpers.files import RECORDED
from helpers.training.data import THREE_WAYS, host_answers, on_disk
from helpers.training.recipes import MOST_EPOCHS, MOST_SEED, QUICK, Recipe, plan, whole_number

MODES = ("auto", "recorded", "full", "quick")


@dataclass(frozen=True)
class Settings:
    """What the configuration form comes to."""

    mode: str  # "recorded", "full" or "quick"
    data: str  # "cifar10", "synthetic" or the path of an .npz
    recipe: Recipe
    epochs: int
    seed: int
    folder: Path  # the run folder
    banner: str


def configure(mode="auto", data="auto", recipe="course", epochs=50, seed=0, folder="") -> Settings:
    """Turn the form into settings. COURSE_MODE and COURSE_EPOCHS in the environment override it.

    "auto" becomes "recorded" wherever CIFAR-10 is at hand or can be downloaded, else "quick";
    "full" if the recipe has no recorded run. What is named never falls back to another. Raises
    ValueError for what does not fit, FileNotFoundError for "recorded" where no run is.
    """
    epochs = whole_number(*_overridden("EPOCHS", epochs), 1, MOST_EPOCHS)
    seed = whole_number("SEED", seed, 0, MOST_SEED)
    planned, epochs = plan(recipe, epochs)
    is_recorded = (RECORDED / recipe / "run.json").is_file()
    mode, source, why = _source(mode, data)
    if mode == "auto":
        mode = "quick" if source == "synthetic" else "recorded" if is_recorded else "full"
    if mode != "full" and (mode == "quick") != (source == "synthetic"):
        raise ValueError(f"MODE = '{mode}' has other pictures than DATA = '{data}': choose 'auto'.")
    if mode == "recorded":
        if not is_recorded:
            raise FileNotFoundError(f"No run is recorded in saved_models/{recipe}: choose 'full'.")
        banner = f"MODE recorded: loads the run in saved_models/{recipe}, trains nothing.\n"
        banner += "EPOCHS, SEED and RUN_FOLDER count in MODE full only."
        return Settings(mode, source, planned, epochs, seed, RECORDED / recipe, banner)
    if mode == "quick":  # always trained anew
        place = Path(tempfile.mkdtemp(prefix="quick_run_"))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        banner = "MODE quick: runs every cell, on the SYNTHETIC STAND-IN for CIFAR-10.\n"
        banner += why or "For real pictures choose MODE 'recorded', or 'full' with a GPU."
        return Settings(mode, source, QUICK, QUICK.epochs, seed, place, banner)
    place = own_path("RUN_FOLDER", folder) or Path(f"runs/{recipe}_{planned.epochs}_seed{seed}")
    if in_colab() and place.absolute().is_relative_to("/content/drive"):
        from google.colab import drive

        drive.mount("/content/drive")  # does nothing if it is mounted already
    banner = f"MODE full: trains {epochs} epochs on {source} into {place}"
    if not gpu_names():
        banner += "\nThere is no GPU: an epoch of CIFAR-10 takes one to eight minutes on two cores."
    return Settings(mode, source, planned, epochs, seed, place, banner)


def own_path(field: str, text: str) -> Path | None:
    """The path in a form field, "~" being home; None if empty. ValueError for what can be none."""
    text = str(text).strip()
    path = os.path.expanduser(text)  # leaves "~somebody" as it is
    too_long = any(len(os.fsencode(part)) > 255 for part in re.split(r"[/\\]", text))
    if too_long or re.match("https?:|data:|~", path):
        what = f"{field} = {text[:60]!r} names no place on this machine"
        raise ValueError(f"{what}; give the path of a file or folder.")
    return Path(path) if text else None


def data_source(data: str = "auto") -> str:
    """The pictures for a notebook that trains nothing, as `configure`, with its ValueError."""
    _, source, why = _source("auto", data)
    if why:
        print(f"SYNTHETIC STAND-IN: {why}")
    return source


def _overridden(name, value):
    """Name and value of a form field, or of the environment variable that overrides it."""
    variable = f"COURSE_{name}"
    return (variable, os.environ[variable]) if os.environ.get(variable) else (name, value)


def _source(mode, data):
    """The mode, the name of the pictures, and why they are drawn where nobody asked for that."""
    name, mode = _overridden("MODE", mode)
    if mode not in MODES:
        raise ValueError(f"{name} = '{mode}' is unknown; it is one of {', '.join(MODES)}.")
    if data != "auto":
        return mode, data, ""
    if mode == "auto" and not (on_disk() or host_answers()):
        what = "CIFAR-10 is not on this machine, and its host does not answer: connect to the"
        return mode, "synthetic", f"{what} internet. {THREE_WAYS}"
    return mode, "synthetic" if mode == "quick" else "cifar10", ""
