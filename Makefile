# The two commands: `make lab` to learn, `make test` to check everything. CONTRIBUTING.md says what each target is for.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
PYTEST_FLAGS ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# One thread per process: pytest's plugins load numpy before a conftest can say so, and idle threads of its BLAS spin.
TEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest --durations=15 $(PYTEST_FLAGS)

.PHONY: lab run site trust settle test check install lint fast unit notebooks browser benchmark benchmark-all format strip clean

lab: $(INSTALLED)
	$(BIN)/facelab lab

run: $(INSTALLED)
	$(BIN)/facelab run --all --jobs $(JOBS)
	$(BIN)/facelab scoreboard --from build/executed

site: $(INSTALLED)
	$(BIN)/facelab site --jobs $(JOBS)

trust: $(INSTALLED)
	$(BIN)/facelab sabotage --all --jobs $(JOBS)

test: lint unit notebooks browser

check: lint fast

install: $(INSTALLED)

# Installs again only when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "facelab needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile -c constraints.txt -e '.[dev]'
	touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/facelab strip --check

UNIT := tests --ignore tests/notebooks/test_notebooks.py --ignore tests/browser --ignore tests/benchmarks

unit: $(INSTALLED)
	$(TEST) -n $(JOBS) $(UNIT)

fast: $(INSTALLED)
	$(TEST) -n $(JOBS) -m "not slow" $(UNIT)

notebooks: $(INSTALLED)
	$(TEST) tests/notebooks/test_notebooks.py

browser: $(INSTALLED)
	$(TEST) -n $(JOBS) --dist worksteal tests/browser

benchmark: $(INSTALLED)
	$(TEST) -m "not long" tests/benchmarks

benchmark-all: $(INSTALLED)
	$(TEST) tests/benchmarks

# Every notebook with five seeds and as on two other machines: what may be promised. Goes on where it was stopped.
settle: $(INSTALLED)
	$(BIN)/facelab settle --all --jobs $(JOBS)
	$(BIN)/facelab scoreboard --readme

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

strip: $(INSTALLED)
	$(BIN)/facelab strip

clean:
	rm -rf build .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
	find facelab tests -name __pycache__ -prune -exec rm -rf {} +
