# Every target sets up what it needs in .venv; a second call starts at once.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DOCS := .venv/docs

export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache

.PHONY: install quickstart wheel docs gallery check test test-all next bench gpu aot aot-few aot-next faults lock next-lock clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

quickstart: $(STAMP)
	$(BIN)/python launch.py --config=configs/quickstart.py --workers=2 --workdir=runs/quickstart

# While you work: style, and the tests of what decides numbers. Under two minutes on two cores.
CORE := epoch ledger check_selector sampling importance selective_backprop ordered selection \
  schedules mix geometric config floors checkpoint
check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q -n 3 --dist loadfile $(CORE:%=tests/%_test.py)

# Three workers keep two cores busy: some tests wait. Compilers take and give back much memory: let
# the C library keep it.
MALLOC := MALLOC_TOP_PAD_=67108864 MALLOC_TRIM_THRESHOLD_=536870912 MALLOC_MMAP_THRESHOLD_=536870912
test: $(STAMP)
	$(MALLOC) $(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

# The same with XLA as people have it, and every test that is marked `long`.
test-all: $(STAMP)
	JAXBUDGET_TEST_OPTIMIZED=1 $(MALLOC) $(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m ''

# The suite with the newest Python and JAX that are supported, in an environment of their own.
NEXT := .venv/next
NEXT_PYTHON ?= python3.13
next: $(NEXT)/.installed
	$(MALLOC) $(NEXT)/bin/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

$(NEXT)/.installed: requirements-next.lock pyproject.toml
	$(NEXT_PYTHON) -m venv $(NEXT)
	$(NEXT)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-next.lock
	$(NEXT)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What people install: the wheel alone, in an environment of its own, used in an empty folder.
wheel:
	rm -rf build dist .wheel
	$(PYTHON) -m venv .wheel/venv
	mkdir .wheel/empty
	.wheel/venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .
	.wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check -c requirements.lock dist/*.whl
	cd .wheel/empty && ../venv/bin/jaxbudget --config=quickstart:seeds=1

# The site, in site/index.html: what the gallery shows must run, any warning is an error. The tools
# have an environment of their own, which finds everything else in .venv.
docs: $(DOCS)/.installed
	$(DOCS)/bin/python docs/gallery.py --check
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build

# Runs the notebooks and keeps what comes out.
gallery: $(DOCS)/.installed
	$(DOCS)/bin/python docs/gallery.py

PURELIB := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
finds_venv = echo "import site; site.addsitedir('$$($(2)/bin/python $(PURELIB))')" > "$$($(1)/bin/python $(PURELIB))/jaxbudget-venv.pth"
$(DOCS)/.installed: docs/requirements.lock $(STAMP)
	$(PYTHON) -m venv $(DOCS)
	$(call finds_venv,$(DOCS),.venv)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r docs/requirements.lock
	@touch $@

# On a machine with an accelerator: right, fast, overheads, whole runs, several runs. By a Python
# that has jax for it, flax, optax and chex; the library need not be installed.
GPU_PYTHON ?= python3
gpu:
	$(GPU_PYTHON) benchmarks/accelerator.py $(ARGS)

# Row programs as compilers make them for GPUs and TPUs that are not there, and what they cost: an
# hour of one core. `aot-few` is three rows. Says so and is done where there are no such compilers.
aot: $(STAMP)
	@$(call compiled,gpu,gpu)
	@$(call compiled,tpu,tpu)

aot-few: $(STAMP)
	@$(call compiled,gpu,few)

# These three by the compilers of the newest jax, which new cards are run with.
aot-next: .venv/aot-next/.installed
	.venv/aot-next/bin/python -m benchmarks.aot few

compiled = if $(MAKE) --no-print-directory .venv/aot-$(1)/.installed; \
  then .venv/aot-$(1)/bin/python -m benchmarks.aot $(2); \
  else echo 'skipped: what is in benchmarks/aot/$(1).txt could not be installed'; fi

.venv/aot-%/.installed: benchmarks/aot/%.txt $(STAMP)
	$(PYTHON) -m venv $(@D)
	$(call finds_venv,$(@D),.venv)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

.venv/aot-next/.installed: benchmarks/aot/gpu-next.txt $(NEXT)/.installed
	$(NEXT_PYTHON) -m venv $(@D)
	$(call finds_venv,$(@D),$(NEXT))
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

bench: $(STAMP)
	$(BIN)/python benchmarks/run_all.py

faults: $(STAMP)
	$(BIN)/python benchmarks/faults.py

# Freezes what is installed now, here or in the newest environment; run the tests before and after.
FROZEN = -m pip freeze --all --exclude-editable | grep -v -E '^(pip|torch)=='
lock:
	$(BIN)/python $(FROZEN) > requirements.lock

next-lock:
	$(NEXT)/bin/python $(FROZEN) > requirements-next.lock

clean:
	rm -rf .venv .wheel .jax_cache build dist site
