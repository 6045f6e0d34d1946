# Needs Python >= 3.11 and make; everything else goes into .venv.
PYTHON ?= python3
PY := .venv/bin/python
PYTEST = OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(PY) -m pytest

.PHONY: setup week test test-long lint bench clean

setup: .venv/.done

.venv/.done: requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sepkit needs Python 3.11 or newer; this is " + sys.version.split()[0])'
	@test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -e . -r requirements-dev.txt
	@touch $@

week: setup  ## the demo week: makes the songs, runs the seven notebooks, writes the report
	$(PY) -m sepkit week --profile demo --root sepkit-root/demo

test: setup lint  ## at most 8 minutes on 2 cores
	$(PYTEST) -m "not long" -n 2 --dist worksteal

test-long: setup  ## whole weeks, kills, the full profile rehearsed, simulations
	$(PYTEST) -m long -n 2 --dist loadfile

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: setup
	$(PY) benchmarks/bench_loader.py
	$(PY) benchmarks/bench_augment.py
	$(PY) benchmarks/bench_bss_eval.py

clean:
	rm -rf sepkit-root .pytest_cache .ruff_cache .mypy_cache
