# make help lists what there is to make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
COLAB_PYTHON ?= python3.13
PREVIOUS_PYTHON ?= python3.12
CONSTRAINTS ?=
COVERAGE ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
NOTEBOOKS := $(sort $(wildcard Assignment4*.ipynb))
export JUPYTER_PREFER_ENV_PATH := 1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help notebooks lint test test-colab test-colab-previous test-jax test-site lab site handout slides class figures badges bench reference record clean

help:  ## these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-20s %s\n", $$1, $$2}' Makefile

notebooks: $(VENV)/installed  ## execute the notebooks; pages in build/site/
	$(BIN)/python -m tools.execute $(NOTEBOOKS)

lint: $(VENV)/installed-tests  ## ruff over all Python, oxlint over the page's JavaScript
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/oxlint --deny-warnings site/ask

# One file at a time in each of two processes, the longest first; tests/conftest.py sets the rest.
test: $(VENV)/installed-tests  ## pytest, and nbval over the notebooks
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=5 \
		$(NOTEBOOKS) tests --nbval-lax --nbval-current-env $(COVERAGE) \
		--nbval-cell-timeout=1200 --nbval-kernel-startup-timeout=600

test-colab:  ## the same with Colab's library versions, on Python 3.13
	$(MAKE) test PYTHON=$(COLAB_PYTHON) VENV=.venv-colab CONSTRAINTS=tests/colab.txt

test-colab-previous:  ## the same with those of Colab's previous runtime, on Python 3.12
	$(MAKE) test PYTHON=$(PREVIOUS_PYTHON) VENV=.venv-colab-previous CONSTRAINTS=tests/colab-previous.txt

test-jax: $(VENV)/installed-jax  ## what also runs on JAX
	$(BIN)/python -m pytest -q -m jax

test-site: $(VENV)/installed-tests  ## the site in a browser
	$(BIN)/python -m pytest -q -m site

lab: $(VENV)/installed  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab

site: $(VENV)/installed  ## pages from the stored notebooks, in build/site/
	$(BIN)/python -m tools.site

handout: $(VENV)/installed  ## the notebooks without solutions, with all they need, in build/handout/
	$(BIN)/python -m tools.handout

slides: $(VENV)/installed  ## a deck per notebook, in build/slides/
	$(BIN)/python -m tools.slides

class: $(VENV)/installed  ## what FOLDER=handed_in/ holds, as a page in build/class/; EXECUTE=1 runs their code
	$(BIN)/python -m tools.class_page "$(FOLDER)" $(if $(EXECUTE),--execute)

# Needs CIFAR-10: downloaded by Keras, or an .npz named by CIFAR10_NPZ.
figures: $(VENV)/installed  ## refresh what is committed: outputs, images, results in the README
	COURSE_MODE=recorded $(BIN)/python -m tools.execute --in-place $(NOTEBOOKS)
	cp build/gradcam_results.png build/gradcam_steps.png images/
	$(BIN)/python -m tools.record readme

badges: $(VENV)/installed  ## after a move: notebooks and Colab buttons get their new address
	$(BIN)/python -m tools.badges

# These need CIFAR-10 too. KERAS_BACKEND=jax trains with JAX, if that is installed.
reference: $(VENV)/installed  ## train RECIPE=course|reproduction|modern|short|taught [SEED EPOCHS PRECISION] into runs/
	$(BIN)/python -m tools.record train "$(RECIPE)" $(if $(SEED),--seed=$(SEED)) \
		$(if $(EPOCHS),--epochs=$(EPOCHS)) $(if $(PRECISION),--precision=$(PRECISION))

record: $(VENV)/installed  ## store the median of scored RUNS="runs/..." in saved_models/
	$(BIN)/python -m tools.record record $(RUNS)

bench: $(VENV)/installed  ## what a training step costs; a quarter of an hour on two idle cores
	$(BIN)/python -m tests.benchmarks.training

clean:  ## remove the virtual environments and build/
	rm -rf $(VENV) .venv-colab .venv-colab-previous build

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
