# Every target sets up what it needs in .venv; a second call starts at once.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache

.PHONY: install quickstart test bench faults lock clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

quickstart: $(STAMP)
	$(BIN)/python launch.py --config=configs/quickstart.py --workdir=runs/quickstart

# Three workers keep two cores busy: some tests wait.
test: $(STAMP)
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

bench: $(STAMP)
	$(BIN)/python benchmarks/run_all.py

faults: $(STAMP)
	$(BIN)/python benchmarks/faults.py

# Freezes what is installed now; run the tests before and after.
lock:
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -v -E '^(pip|torch)==' > requirements.lock

clean:
	rm -rf .venv .jax_cache runs
