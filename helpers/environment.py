"""What this machine is: Colab or not, GPUs, versions, the revision of the course."""

import os
import platform
import subprocess
import sys
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from helpers.files import ROOT


def in_colab() -> bool:
    return "google.colab" in sys.modules


def upload() -> str:
    """Ask for a file with Colab's upload button; return its path.

    Raises:
        RuntimeError: not in Colab, or nothing was chosen.
    """
    if not in_colab():
        raise RuntimeError("Only Colab has an upload button; give the path of a file instead.")
    from google.colab import files

    chosen = list(files.upload())
    if not chosen:
        raise RuntimeError("No file was chosen; run the cell again, or leave the field empty.")
    return chosen[0]


def download(path: Path) -> None:
    """Hand a file to the browser in Colab; say where it is elsewhere."""
    if in_colab():
        from google.colab import files

        files.download(str(path))
    else:
        print(f"Your results are in {path}")


def gpu_names() -> list[str]:
    """Names of the GPUs that Keras' backend can use; empty without one."""
    import keras

    count = sum("gpu" in device.lower() for device in keras.distribution.list_devices())
    if not count:
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True)
        return found.stdout.splitlines()[:count]  # it also lists those hidden from Keras
    except (OSError, subprocess.CalledProcessError):
        return ["GPU"]


@contextmanager
def quiet():
    """Drop what native code writes to stderr, such as TensorFlow's start-up messages.

    Exceptions still show: Python's own errors do not take that way.
    """
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def describe() -> dict[str, str]:
    """Versions, device and revision: what a measured number depends on."""
    import cv2
    import keras
    import numpy as np

    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": f"{backend} {import_module(backend).__version__}",
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "device": ", ".join(gpu_names()) or f"CPU, {os.cpu_count()} cores",
        "revision": revision() or "unknown",
    }


def revision() -> str:
    """Git revision of the course, with "+" where files differ from it; empty outside a clone."""
    return git("describe", "--always", "--dirty=+", "--exclude=*")


def git(*arguments: str) -> str:
    """What git prints about the course's own clone; empty without one, without git or an answer."""
    if not (ROOT / ".git").exists():  # the course may lie inside another repository
        return ""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
