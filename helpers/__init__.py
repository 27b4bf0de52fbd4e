"""What the notebooks import, one idea a module; see the layout in the README."""

import os

# Before TensorFlow is loaded: its oneDNN kernels halve a training step on x86 CPUs without AVX-512,
# where they are off by default. Elsewhere this changes nothing.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no start-up messages
