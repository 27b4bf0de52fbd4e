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
from helpers.training.data import host_answers, on_disk
from helpers.training.recipes import MOST_EPOCHS, MOST_SEED, QUICK, Recipe, plan, whole_number

NO_PICTURES = (
    "CIFAR-10 is not on this machine, and its host does not answer: connect to the internet and "
    "run this again, or name an .npz with the pictures in the environment variable CIFAR10_NPZ."
)
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
    reason: str = ""  # why it is quick, where that was not asked for

    @property
    def banner(self) -> str:
        if self.mode == "full":
            text = f"MODE full: trains {self.epochs} epochs on {self.data} into {self.folder}"
            slow = "\nThere is no GPU: an epoch takes one to eight minutes on two cores."
            return text if gpu_names() else text + slow
        if self.mode == "recorded":
            text = (
                f"MODE recorded: loads the run in saved_models/{self.folder.name}, trains nothing."
            )
            return text + "\nEPOCHS, SEED and RUN_FOLDER count in MODE full only."
        text = (
            "MODE quick: a small network on the SYNTHETIC STAND-IN for CIFAR-10, to see every cell"
        )
        usual = "For real pictures choose MODE 'recorded', or 'full' with a GPU."
        return f"{text} run.\n{self.reason or usual}"


def configure(mode="auto", data="auto", recipe="course", epochs=50, seed=0, folder="") -> Settings:
    """Turn the form into settings. COURSE_MODE and COURSE_EPOCHS in the environment override it.

    "auto" becomes "recorded" wherever CIFAR-10 is at hand or can be downloaded, else "quick";
    "full" if the recipe has no recorded run. A mode or a data source that is named never falls
    back to another.

    Raises:
        ValueError: an unknown mode or recipe, a bad number or path, a mode not for these data.
        FileNotFoundError: "recorded" where no run is recorded.
    """
    mode = _known_mode(mode)
    epochs = whole_number(*_overridden("EPOCHS", epochs), 1, MOST_EPOCHS)
    seed = whole_number("SEED", seed, 0, MOST_SEED)
    planned, epochs = plan(recipe, epochs)
    recorded, reason = RECORDED / recipe, ""
    is_recorded = (recorded / "run.json").is_file()
    if mode == "auto":
        if data == "synthetic" or (data == "auto" and not _pictures_at_hand()):
            mode, reason = "quick", NO_PICTURES if data == "auto" else ""
        else:
            mode = "recorded" if is_recorded else "full"
    if mode == "quick" and data not in ("auto", "synthetic"):
        raise ValueError(
            f"MODE = 'quick' draws its pictures; for DATA = '{data}' choose MODE = 'full'."
        )
    if mode == "recorded" and data == "synthetic":
        raise ValueError("MODE = 'recorded' shows CIFAR-10; for DATA = 'synthetic' choose 'quick'.")
    if mode == "recorded" and not is_recorded:
        raise FileNotFoundError(
            f"No run is recorded in saved_models/{recipe}; choose MODE = 'full'."
        )
    if data == "auto":
        data = "synthetic" if mode == "quick" else "cifar10"
    if mode == "recorded":
        return Settings(mode, data, planned, epochs, seed, recorded)
    if mode == "quick":  # always trained anew
        place = Path(tempfile.mkdtemp(prefix="quick_run_"))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        return Settings(mode, data, QUICK, QUICK.epochs, seed, place, reason)
    usual = Path(f"runs/{planned.name}_{planned.epochs}_seed{seed}")
    place = own_path("RUN_FOLDER", folder) or usual
    if in_colab() and place.absolute().is_relative_to("/content/drive"):
        from google.colab import drive

        drive.mount("/content/drive")  # does nothing if it is mounted already
    return Settings(mode, data, planned, epochs, seed, place)


def own_path(field: str, text: str) -> Path | None:
    """The path that a reader typed into a form field; None if the field is empty.

    Blanks around it are dropped, and "~" is the home folder. Raises ValueError for what can be no
    path on this machine, such as an address of the web or a name that is too long.
    """
    text = str(text).strip()
    shown = f"{field} = {text!r}" if len(text) < 60 else f"{field} = '{text[:60]}...'"
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # "~somebody"
        path = None
    too_long = any(len(os.fsencode(part)) > 255 for part in re.split(r"[/\\]", text))
    if path is None or too_long or re.match("https?:|data:", text):
        raise ValueError(
            f"{shown} names no place on this machine; give the path of a file or folder."
        )
    return path if text else None


def data_source(data: str = "auto") -> str:
    """The pictures for a notebook that trains nothing, chosen as in `configure`.

    Prints why they are drawn, where that was not asked for. Raises ValueError for an unknown mode.
    """
    mode = _known_mode("auto")
    if data != "auto":
        return data
    if mode in ("recorded", "full") or (mode == "auto" and _pictures_at_hand()):
        return "cifar10"
    if mode == "auto":
        print(f"SYNTHETIC STAND-IN: {NO_PICTURES}")
    return "synthetic"


def _known_mode(mode):
    name, mode = _overridden("MODE", mode)
    if mode not in MODES:
        raise ValueError(f"{name} = '{mode}' is unknown; it is one of {', '.join(MODES)}.")
    return mode


def _overridden(name, value):
    """Name and value of a form field, or of the environment variable that overrides it."""
    variable = f"COURSE_{name}"
    return (variable, os.environ[variable]) if os.environ.get(variable) else (name, value)


def _pictures_at_hand() -> bool:
    """Whether CIFAR-10 is on this machine, or its host would send it now."""
    return on_disk() or host_answers()
