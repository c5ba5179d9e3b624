# Needs nothing but python3 (3.11 or later) and make; everything else goes into .venv.
PYTHON ?= python3
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: setup demo test check fmt bench clean

setup: $(STAMP)

demo: $(STAMP)
	$(PY) -m tests.standin demo $(ARGS)

test: $(STAMP)
	$(PY) -m pytest $(ARGS)

check: $(STAMP)
	$(PY) -m ruff format --check
	$(PY) -m ruff check
	$(PY) -m mypy

fmt: $(STAMP)
	$(PY) -m ruff format
	$(PY) -m ruff check --fix

bench: $(STAMP)
	$(PY) -m tests.benchmarks $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .demo .bench *.egg-info
	find ecr_async_pull tests -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Debian splits ensurepip off into python3-venv: without it `python3 -m venv` fails and leaves half a directory.
$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is missing or older than 3.11: install a newer one, or name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) > /dev/null 2>&1 && exit 0; \
	rm -rf $(VENV); \
	if [ "$$(id -u)" = 0 ]; then sudo=; elif [ -t 0 ]; then sudo=sudo; else sudo="sudo -n"; fi; \
	if command -v apt-get > /dev/null && { [ -z "$$sudo" ] || command -v sudo > /dev/null; }; then \
	  echo "$(PYTHON) cannot make virtual environments: installing Debian's python3-venv"; \
	  $$sudo apt-get update -qq; \
	  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv > /dev/null; \
	fi; \
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "could not make $(VENV): install the venv module of $(PYTHON) (Debian: apt-get install python3-venv), then run make again" >&2; exit 1; }
