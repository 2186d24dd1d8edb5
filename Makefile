# Two commands on a fresh machine with Python >= 3.10 and make:  make demo,  make test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Half of the tests' time is spent waiting. A file's tests stay together: they share servers.
TWO_AT_ONCE := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test check fast bench clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

# The stamp is newer than pyproject.toml once everything that it names is installed.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## everything once: samples, export, serve, both clients, a short load test -> demo/
	$(BIN)/avedge demo

test: $(VENV)/.installed check  ## style, types and every test
	$(BIN)/python -m pytest $(TWO_AT_ONCE)

check: $(VENV)/.installed  ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy avedge.py avedge_demo.py avedge_doctor.py avedge_evaluate.py train export serve clients perf

fast: $(VENV)/.installed  ## the tests that take less than ten seconds each
	$(BIN)/python -m pytest $(TWO_AT_ONCE) -m 'not slow'

bench: $(VENV)/.installed  ## every measurement on this machine, one after the other, and the page of them (about an hour)
	$(BIN)/avedge export --if-needed
	$(BIN)/avedge export --if-needed --precision fp16 --repository runs/fp16
	$(BIN)/avedge export --if-needed --precision int8 --repository runs/int8
	for word in tune sweep limit dsp scale rate accuracy; do $(BIN)/avedge perf $$word || exit; done
	$(BIN)/avedge perf peers --also runs/int8
	$(BIN)/avedge perf roofline --int8-repository runs/int8
	$(BIN)/avedge perf runtimes --fp16-repository runs/fp16
	$(BIN)/avedge perf report

clean:  ## remove what the commands made
	rm -rf $(VENV) demo runs data build *.egg-info .pytest_cache .mypy_cache .ruff_cache
