# `make fit` runs the main job and `make test` the tests; both set up .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: fit test stress lint clean

fit: $(READY)
	$(BIN)/pyro-disent fit --method cycle --data chairs --source embedded

test: $(READY)
	$(BIN)/python -m pytest

stress: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.malformed

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf .venv
