# Needs Python >= 3.11 and make; everything else goes into .venv.
PYTHON ?= python3
PY := .venv/bin/python
PYTEST = OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(PY) -m pytest

.PHONY: setup browser week test test-long lint bench clean

setup: .venv/.done

.venv/.done: requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sepkit needs Python 3.11 or newer; this is " + sys.version.split()[0])'
	@test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -e . -r requirements-dev.txt
	@touch $@

week: setup  ## the demo week: makes the songs, runs the seven notebooks, writes the report
	$(PY) -m sepkit week --profile demo --root sepkit-root/demo

browser:  ## on a CI machine run as root: Debian's Chromium for tests/browser, which are skipped without one
	@if test -n "$$CI" && test "$$(id -u)" = 0 && ! command -v chromium >/dev/null && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	fi || echo "no Chromium could be installed"

test: setup browser lint  ## at most 8 minutes on 2 cores
	$(PYTEST) -m "not long" -n 2 --dist worksteal

test-long: setup browser  ## whole weeks, kills, the full profile rehearsed, simulations
	$(PYTEST) -m long -n 2 --dist loadfile

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: setup  ## docs/performance.md's table: alone on the machine, about 10 minutes
	$(PY) -m benchmarks.table

clean:
	rm -rf sepkit-root .pytest_cache .ruff_cache .mypy_cache
