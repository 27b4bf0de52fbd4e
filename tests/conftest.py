import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")

import numpy as np
import pytest

from helpers import data


@pytest.fixture(scope="session")
def scenes():
    """A small synthetic dataset."""
    return data.synthetic(train=200, test=50)


@pytest.fixture(scope="session")
def pictures():
    """Six pictures of noise, uint8 (6, 32, 32, 3)."""
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
