# `make help` lists what there is. Nothing here needs the network once .venv is installed.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
START := _build/html/index.html
PORT ?= 8000

# On a busy machine two threads train these small networks slower than one.
export OMP_NUM_THREADS := 1
# Silences progress bars and widget views where nobody is watching.
notebooks book normalise: export LTH_TUTORIAL_BUILD := 1

.PHONY: help book serve lab test lint unit notebooks normalise pages screenshots linkcheck slow bench gpu clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

book: $(INSTALLED)  ## execute every chapter and build the HTML, from nothing
	rm -rf _build
	$(BIN)/jupyter-book build . -W -n --keep-going
	@$(BIN)/python tests/tools/check_output.py
	@echo "The book starts at $(CURDIR)/$(START)"

serve: $(START)  ## serve the built book on this machine
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

lab: $(INSTALLED)  ## open the chapters in JupyterLab
	$(BIN)/jupyter lab notebooks

# In order and one after the other: the timings of the chapters suffer otherwise.
test:  ## everything below: lint, unit, notebooks, book, pages
	$(MAKE) lint
	$(MAKE) unit
	$(MAKE) notebooks
	$(MAKE) book
	$(MAKE) pages

lint: $(INSTALLED)  ## ruff, the order of the rooms, and the stored form of the chapters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python tests/tools/normalise_notebooks.py --check

# Where there is no GPU its tests run on the CPU, so that they work when one is at hand.
unit: export LTH_TUTORIAL_PRETEND_GPU := 1
unit: $(INSTALLED)  ## the quick tests
	tests/tools/chromium.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile

notebooks: $(INSTALLED)  ## run the chapters and compare them with their stored outputs
	$(BIN)/python -m pytest tests/test_chapters.py tests/test_tamper.py -m "" -n 2
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 \
		-n 2 --dist loadfile notebooks

normalise: $(INSTALLED)  ## execute the chapters and store their checked outputs
	$(BIN)/ruff format notebooks
	$(BIN)/python tests/tools/normalise_notebooks.py

pages: $(START)  ## look at every page of the built book in a browser, offline
	tests/tools/chromium.sh
	$(BIN)/python -m pytest tests/pages -m pages

screenshots: $(START)  ## pictures of every page: light, dark, narrow
	tests/tools/chromium.sh
	$(BIN)/python tests/tools/screenshots.py

linkcheck: $(INSTALLED)  ## follow the external links (needs the network)
	$(BIN)/jupyter-book build . --builder linkcheck

slow: $(INSTALLED)  ## the tests that take longer
	$(BIN)/python -m pytest -m slow

bench: $(INSTALLED)  ## the speed measurements
	$(BIN)/python -m pytest -m bench -s

# With the Python at hand, so that a lent machine needs no installation: PYTHON=… OUT=folder.
gpu:  ## tests, times and a record on a GPU, in five minutes (without one: a rehearsal)
	$(PYTHON) tests/tools/gpu_check.py

clean:  ## remove the environment and everything built
	rm -rf .venv _build dist .pytest_cache .ruff_cache

$(START):
	$(MAKE) book

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "Python's venv module is missing (Debian: apt-get install python3-venv)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable '.[book,test,lab]'
	@touch $@
