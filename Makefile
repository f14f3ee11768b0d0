# make demo         the whole way on the carried model: quantize, reconstruct, compare
# make test         linters, types and tests, one process per core, each with one thread
# make test-fast    unit tests of the core: numerics, model, layers, metrics
# make torture      kills, full disks, damaged files, long runs, threads: writes docs/reliability.md (hours)
# make bench        products, and pieces of the model through other engines: figures under out/
# make bench-gpu    tests, products and whole models on this machine's CUDA GPU: figures in out/gpu.json
# make matrix      wheel and sdist, and the wheel tried in a fresh environment of every Python at hand: one table
# make docs        the site, into out/site
# All make their own environment first; PYTHON chooses the interpreter, TORCH what pip installs for PyTorch, PYTHONS
# the versions of the matrix.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Of the many packages for tests, only what is imported is compiled, and kept: tests start hundreds of processes.
LAZY := --no-compile
unexport PYTHONDONTWRITEBYTECODE
TORCH ?=

.PHONY: demo test test-fast test-slow torture check bench bench-gpu matrix docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/qvggt demo --output out/demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

test-fast: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto tests/quant tests/model tests/nn tests/eval/metrics tests/files \
		-m "not slow and not process and not native and not render and not browser"

torture: $(VENV)/.installed-dev
	$(BIN)/python scripts/torture.py --page docs/reliability.md

test-slow: $(VENV)/.installed-dev
	$(BIN)/pytest -m slow

check: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/pyrefly check

bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/kernels.py --json out/kernels.json
	$(BIN)/python benchmarks/engines.py --json out/engines.json

bench-gpu: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/gpu.py --tests --json out/gpu.json

matrix: out/matrix/tools/.installed
	out/matrix/tools/bin/python scripts/matrix.py $(if $(PYTHONS),--python $(PYTHONS))

out/matrix/tools/.installed:
	$(PYTHON) -m venv out/matrix/tools
	out/matrix/tools/bin/python -m pip --disable-pip-version-check install --quiet build twine
	touch $@

$(VENV)/.torch:
	$(PYTHON) scripts/make_venv.py $(VENV) $(TORCH)
	touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.torch pyproject.toml
	$(INSTALL) $(LAZY) --editable ".[dev]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(VENV)/.torch pyproject.toml
	$(INSTALL) $(LAZY) --editable ".[docs]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.torch pyproject.toml
	$(INSTALL) $(LAZY) --editable ".[bench]"
	touch $@ $(VENV)/.installed

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf out build dist .pytest_cache .ruff_cache .hypothesis
