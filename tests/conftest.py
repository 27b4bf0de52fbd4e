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
}

import hypothesis
import numpy as np
import pytest

from helpers import data

hypothesis.settings.register_profile("same every time", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same every time")


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
