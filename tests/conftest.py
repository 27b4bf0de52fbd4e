"""What every test finds: its environment, and a few pictures."""

import os
import sys

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
import numpy as np
import pytest

from helpers import data

hypothesis.settings.register_profile("same every time", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same every time")


# make test runs two files at a time: those that take longest go first.
LONG = (
    "Assignment4B.ipynb",
    "Assignment4C.ipynb",
    "test_training.py",
    "test_disconnect.py",
    "test_devices.py",
    "test_gradcam.py",
    "test_interrupt.py",
    "test_trust.py",
    "test_bad_input.py",
    "test_record.py",
    "test_annotator_browser.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_collection_finish():
    if tensorflow := sys.modules.get("tensorflow"):  # what XLA compiles asks TensorFlow
        tensorflow.config.experimental.enable_tensor_float_32_execution(False)


@pytest.fixture(scope="session")
def scenes():
    """A small synthetic dataset."""
    return data.synthetic(train=200, test=50)


@pytest.fixture(scope="session")
def pictures():
    """Six pictures of noise, uint8 (6, 32, 32, 3)."""
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
