# Everything a developer does with levity. The environment in .venv is made on first need, and again when pyproject.toml
# changes; nothing outside this directory is touched.

PYTHON ?= python3
PYTEST_ARGS ?=
RACE_ROUNDS ?= 10
VENV := $(CURDIR)/.venv
VPYTHON := $(VENV)/bin/python
STAMP := .venv/.stamp
SOURCES := levity supervisor tests contrib

# A virtual environment does not survive being moved: its scripts hold its path.
MADE_IN := $(shell cat $(STAMP) 2>/dev/null)
ifneq ($(MADE_IN),$(CURDIR))
.PHONY: $(STAMP)
endif

.PHONY: help binaries tests tests-race check format demo upgrade bench clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

binaries: bin/levity bin/levityd  ## bin/levity and bin/levityd, which run this checkout's code

tests: binaries  ## build everything and run all tests (PYTEST_ARGS="-k name" for some of them)
	TMPDIR="$$("$(VPYTHON)" -c 'from tests.support.daemon import scratch_place as place; print(place())')" \
		"$(VPYTHON)" -m pytest -n 4 --dist worksteal $(PYTEST_ARGS)

tests-race: binaries  ## run the concurrent tests under conditions that bring races out (LEVITY_RACE_SEED=N repeats an order)
	LEVITY_RACE=1 LEVITY_RACE_ROUNDS=$(RACE_ROUNDS) "$(VPYTHON)" -X dev -m pytest -m race --timeout 180 $(PYTEST_ARGS)

check: $(STAMP)  ## lint, formatting and types
	"$(VENV)/bin/ruff" check $(SOURCES)
	"$(VENV)/bin/ruff" format --check $(SOURCES)
	"$(VENV)/bin/mypy"

format: $(STAMP)  ## put the code in the form that check wants, as far as a program can
	"$(VENV)/bin/ruff" check --fix-only $(SOURCES)
	"$(VENV)/bin/ruff" format $(SOURCES)

demo: binaries  ## run a task, kill levityd's engine under it, and see that nothing is lost
	"$(VPYTHON)" contrib/demo.py

upgrade: binaries  ## run tasks with an older levity (FROM=COMMIT), kill that, and see this one go on with them
	"$(VPYTHON)" contrib/upgrade.py $(FROM)

bench: binaries  ## measure levity on this machine (takes minutes)
	"$(VPYTHON)" contrib/bench/run.py

clean:  ## remove what make made
	rm -rf .venv bin build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

bin/levity bin/levityd: $(STAMP) contrib/build/launchers.py
	"$(VPYTHON)" contrib/build/launchers.py "$(VPYTHON)" $@

$(STAMP): pyproject.toml contrib/build/requirements.py
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "make: levity needs Python 3.11 or newer, and '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1 | tail -n 1);" \
			"name another one: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: '$(PYTHON)' makes no virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@# One that was made elsewhere, or only half, is made anew; else what others run from it goes on working meanwhile.
	"$(PYTHON)" -m venv $(if $(subst $(CURDIR),,$(MADE_IN))$(if $(MADE_IN),,none),--clear) "$(VENV)"
	"$(VPYTHON)" contrib/build/requirements.py tls dev > .venv/requirements.txt
	"$(VPYTHON)" -m pip install --quiet --disable-pip-version-check -r .venv/requirements.txt
	@# The checkout itself, for programs that are run with this interpreter.
	@"$(VPYTHON)" -c 'import pathlib, site, sys; pathlib.Path(site.getsitepackages()[0], "levity-checkout.pth").write_text(sys.argv[1])' "$(CURDIR)"
	@echo "$(CURDIR)" > $(STAMP)
