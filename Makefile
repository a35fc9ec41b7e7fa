# `make demo` and `make test` set up everything they need on a bare machine (Python 3.10-3.12, pip, gcc).
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow lint format bench clean

$(STAMP): setup.py requirements.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

demo: $(STAMP)  ## train and score a small recogniser, speech detector and punctuation model; use them on a long recording
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash egs/mini/demo/demo.sh

lint: $(STAMP)  ## style, types and the floors of the house
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: $(STAMP) lint  ## everything CI checks
	$(PY) -m pytest -n 2 --dist loadfile

test-slow: $(STAMP)  ## the tests that take minutes
	$(PY) -m pytest -m slow

format: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(STAMP)  ## one line of JSON for each benchmark
	for script in benchmarks/*.py; do $(PY) $$script; done

clean:
	rm -rf $(VENV) build *.egg-info egs/*/*/exp egs/*/*/data egs/*/*/dump
