# Two commands set up everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test suite check compat install clean

demo: install
	$(BIN)/passerby demo demo

# The tests wait for disks and other processes now and then; the checks run meanwhile.
test: install
	$(MAKE) --no-print-directory -j 2 check suite

# The nets of the tests are tiny: a second thread only waits. Long files come early, so that no process is left idle at the end.
suite: install
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Proves that other people's loaders read our shards; makes environments of its own, and takes some minutes.
compat: install
	$(BIN)/python -m compat.run

install: .venv/installed

# The marker is newer than what decides the environment, or the environment is made again.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .compat build *.egg-info demo
