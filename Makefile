# make notebooks   execute the notebooks into build/          make lab       open them in JupyterLab
# make test        pytest, and nbval over the notebooks       make lint      ruff over all code
# make test-colab  the same with Colab's library versions     make test-jax  what also runs on JAX
# make figures     refresh what is committed                  make badges    links of the Colab buttons
# make reference RECIPE=course|reproduction|modern [SEED=0] [EPOCHS=50] [PRECISION=float32|bfloat16|float16]
#                  train into runs/, going on where the run stopped, and score it
# make record RUNS="runs/..."   store the median of scored runs in saved_models/
# make bench       what a training step costs, on an idle machine

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
COLAB_PYTHON ?= python3.13
CONSTRAINTS ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
NOTEBOOKS := $(sort $(wildcard Assignment4*.ipynb))
export JUPYTER_PREFER_ENV_PATH := 1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: notebooks lint test test-colab test-jax lab figures badges bench reference record clean

notebooks: $(VENV)/installed
	$(BIN)/python -m tools.execute $(NOTEBOOKS)

lint: $(VENV)/installed-tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# One file at a time in each of two processes, the longest first; tests/conftest.py sets the rest.
test: $(VENV)/installed-tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=5 \
		$(NOTEBOOKS) tests --nbval-lax --nbval-current-env --nbval-cell-timeout=300

test-colab:
	$(MAKE) test PYTHON=$(COLAB_PYTHON) VENV=.venv-colab CONSTRAINTS=tests/colab.txt

test-jax: $(VENV)/installed-jax
	$(BIN)/python -m pytest -q -m jax

lab: $(VENV)/installed
	$(BIN)/jupyter lab

# Needs CIFAR-10: downloaded by Keras, or an .npz named by CIFAR10_NPZ.
figures: $(VENV)/installed
	COURSE_MODE=recorded $(BIN)/python -m tools.execute --in-place $(NOTEBOOKS)
	cp build/gradcam_results.png images/gradcam_results.png
	$(BIN)/python -m tools.record readme

# After the repository moved: the buttons open the notebooks at its new place.
badges: $(VENV)/installed
	$(BIN)/python -m tools.badges

# These need CIFAR-10 too. KERAS_BACKEND=jax trains with JAX, if that is installed.
reference: $(VENV)/installed
	$(BIN)/python -m tools.record train "$(RECIPE)" $(if $(SEED),--seed=$(SEED)) \
		$(if $(EPOCHS),--epochs=$(EPOCHS)) $(if $(PRECISION),--precision=$(PRECISION))

record: $(VENV)/installed
	$(BIN)/python -m tools.record record $(RUNS)

bench: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks.training

clean:
	rm -rf $(VENV) .venv-colab build

$(VENV)/installed: requirements.txt $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Python 3.11, 3.12 or 3.13 is needed, this is %d.%d: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	touch $@

$(VENV)/installed-tests: $(VENV)/installed tests/requirements.txt
	$(PIP) -r tests/requirements.txt
	touch $@

$(VENV)/installed-jax: $(VENV)/installed-tests tests/requirements-jax.txt
	$(PIP) -r tests/requirements-jax.txt
	touch $@
