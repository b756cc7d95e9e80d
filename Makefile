# Two commands do everything, set-up included: `make demo` and `make test`.
# LAKE=<folder> names another lake, DRIVES=<folder> takes recorded drives instead of generated ones.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LAKE ?= lake
DRIVES ?=
PORT ?= 3000
FACTOR ?= 1
REPS ?= 3
CASES ?= 12000

export DVC_NO_ANALYTICS = 1
export PYTHONWARNINGS ?= ignore::DeprecationWarning

.PHONY: demo test ui snapdragon viewer lint types contracts unit bench fuzz clean lock

demo: $(VENV)/.run
	$(BIN)/drivelake demo --lake "$(LAKE)" $(if $(DRIVES),--drives "$(DRIVES)")

ui: $(VENV)/.run
	@test -d "$(LAKE)/dagster" || { echo "There is no lake at $(LAKE). Next: make demo, or name another with LAKE=<folder>"; exit 2; }
	DRIVELAKE_LAKE="$(abspath $(LAKE))" DAGSTER_HOME="$(abspath $(LAKE))/dagster" $(BIN)/dagster dev -m definitions -h 127.0.0.1 -p $(PORT)

test: lint types contracts unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/pytest -q -n 2 --dist worksteal

# beside the peers, about 5 minutes on two idle cores; FACTOR=0.1 for a smaller one, which is not published
bench: $(VENV)/.dev
	$(BIN)/python -m bench.run --factor $(FACTOR) --reps $(REPS)

# damaged logs of every format, CASES of them
fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz.run --cases $(CASES)

# the extra brings Qualcomm's libraries under their own licence; see README
snapdragon: $(VENV)/.run
	$(BIN)/uv pip install -q --no-deps "$$(grep '^onnxruntime-qnn==' requirements/dev.txt)"

# the extra that writes drives for Rerun: drivelake look DRIVE --out DRIVE.rrd
viewer: $(VENV)/.run
	$(BIN)/uv pip install -q --no-deps "$$(grep '^rerun-sdk==' requirements/dev.txt)"

$(VENV)/.base: requirements/torch.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; name another with PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -r requirements/torch.txt
	$(BIN)/python -m pip install -q "$$(grep '^uv==' requirements/run.txt)"
	@touch $@

$(VENV)/.run: $(VENV)/.base requirements/run.txt pyproject.toml
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -r requirements/run.txt
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -r requirements/dev.txt
	@touch $@

# resolve again within the pins of pyproject.toml
lock: $(VENV)/.base
	bash requirements/lock.sh $(BIN)/uv

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
