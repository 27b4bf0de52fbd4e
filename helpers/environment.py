"""What this machine is: Colab or not, GPUs, versions, the revision of the course."""

import os
import platform
import shutil
import subprocess
import sys
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from helpers.files import ROOT

DRIVE = Path("/content/drive/MyDrive")


def in_colab() -> bool:
    return "google.colab" in sys.modules


def download(path: Path) -> None:
    """Hand a file to the browser in Colab; say where it is elsewhere."""
    if in_colab():
        import_module("google.colab.files").download(str(path))
    else:
        print(f"Your results are in {path}")


def kept(name: str) -> Path:
    """Path of a file in my_boxes/, which `make clean` leaves; on Drive if Colab has mounted it."""
    here = Path("my_boxes", name)
    path = DRIVE / here if in_colab() and DRIVE.is_dir() else here
    path.parent.mkdir(exist_ok=True)
    if here.exists() and not path.exists():  # made before Drive was mounted
        shutil.move(here, path)
    return path


def gpu_names() -> list[str]:
    """Names of the GPUs that Keras' backend can use; empty without one."""
    import keras

    count = sum("gpu" in device.lower() for device in keras.distribution.list_devices())
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") if count else ""
    return (names.splitlines() or ["GPU"])[:count]  # it also lists those hidden from Keras


@contextmanager
def quiet():
    """Drop what native code writes to stderr, such as TensorFlow's start-up; exceptions show."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def describe() -> dict[str, str]:
    """Versions, device and revision of the course: what a measured number depends on."""
    import keras

    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": f"{backend} {import_module(backend).__version__}",
        "numpy": import_module("numpy").__version__,
        "device": ", ".join(gpu_names()) or f"CPU, {os.cpu_count()} cores",
        "revision": git("describe", "--always", "--dirty=+", "--exclude=*") or "unknown",
    }


def git(*arguments: str) -> str:
    """What git prints about the course's own clone; empty without one, without git or an answer."""
    own = (ROOT / ".git").exists()  # else the course may lie inside another repository
    return _output("git", "-C", str(ROOT), *arguments) if own else ""


def _output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
