"""What every test finds: its environment, and a few pictures."""

import os
import shutil
import sys
import tempfile
import uuid

# Of this process, of the notebooks' kernels, and of every process that a test starts.
os.environ |= {
    "COURSE_MODE": "quick",  # notebooks need no data, no network and no GPU
    "JUPYTER_PREFER_ENV_PATH": "1",  # kernels are of this Python
    "MPLBACKEND": "agg",
    "NVIDIA_TF32_OVERRIDE": "0",  # float32 is float32, on GPUs too
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # several processes share one GPU
}

import hypothesis
import nbval.kernel
import numpy as np
import pytest
from jupyter_client.manager import KernelManager

from helpers.training import data

hypothesis.settings.register_profile("same every time", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same every time")


def kernel_manager(**options):
    """Of nbval's kernels: reached through files, not ports that others may take meanwhile."""
    connection = f"{tempfile.gettempdir()}/kernel-{uuid.uuid4()}.json"
    return KernelManager(transport="ipc", connection_file=connection, **options)


nbval.kernel.KernelManager = kernel_manager

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

# make test runs two files at a time: those that take longest go first.
LONG = (
    "test_gradcam.py Assignment4B.ipynb Assignment4C.ipynb Assignment4D.ipynb test_class_page.py "
    "test_walk.py test_trainer.py test_disconnect.py "
    "test_metrics.py test_devices.py test_interrupt.py test_record.py test_bad_input.py "
    "test_notebooks.py test_setup_cell.py test_annotator_browser.py test_own_annotations.py"
).split()


@pytest.hookimpl(trylast=True)  # after plugins that shuffle
def pytest_collection_modifyitems(items):
    files = list(dict.fromkeys(item.path for item in items))
    files.sort(key=lambda path: LONG.index(path.name) if path.name in LONG else len(LONG))
    place = {path: i for i, path in enumerate(files)}  # a file's tests stay together
    items.sort(key=lambda item: (place[item.path], getattr(item, "cell_num", 0)))
    for item in items:
        item.output_timeout = 60  # nbval's 5 seconds for an output are few on a busy machine


def pytest_collection_finish():
    if tensorflow := sys.modules.get("tensorflow"):  # what XLA compiles asks TensorFlow
        tensorflow.config.experimental.enable_tensor_float_32_execution(False)


@pytest.fixture
def sockets():
    """A folder for the sockets of a kernel; its path is short, as their names must be."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


@pytest.fixture(scope="session")
def scenes():
    """A small synthetic dataset."""
    return data.synthetic(train=200, test=50)


@pytest.fixture(scope="session")
def pictures():
    """Six pictures of noise, uint8 (6, 32, 32, 3)."""
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
