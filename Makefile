# Two commands: `make demo` and `make test`; `make check` between two changes. All set up .venv
# first; the second time that is instant. WORKERS: how many tests run side by side.
# STACK=cpu or STACK=gpu overrides what is found. PYTHON names the interpreter that runs the set-up.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest
# A file's tests stay together: most files make something once that all of them read.
BESIDE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
QUICK := not stack and not browser and not model and not slow and not alone

.PHONY: demo check test miniature setup lint clean

demo: ## set up, train and score the quickstart matrix, print the comparison
	@$(PYTHON) suite/bootstrap.py --extras dashboard
	@$(BIN)/suite run matrix.yaml

# Under two hours on two cores that do nothing else; stopped, the same command continues.
miniature: ## run matrices/miniature.yaml, export it to results/miniature, write RESULTS.md
	@$(PYTHON) suite/bootstrap.py --extras dashboard
	@$(BIN)/suite run matrices/miniature.yaml --db runs/miniature.db
	@rm -rf results/miniature
	@$(BIN)/suite db export results/miniature --slim --db runs/miniature.db
	@$(BIN)/suite results results/miniature --claims matrices/claims/miniature.yaml \
	    --out RESULTS.md --figure results/miniature/entropy.svg

# Types are checked beside the tests. A test that takes a minute fails: it is to be marked as slow.
check: setup ## lint and the tests that take seconds, two minutes in all
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy & types=$$!; \
	$(PYTEST) $(BESIDE) -m "$(QUICK)" --timeout=60 --durations=10 --durations-min=0.5; \
	tests=$$?; wait $$types && exit $$tests

test: ## set up with what tests need, run all tests
	@$(PYTHON) suite/bootstrap.py --extras dev,dashboard --browser
	@$(PYTEST) -m alone; alone=$$?; $(PYTEST) $(BESIDE) -m "not alone" && exit $$alone

setup: ## set up for development only
	@$(PYTHON) suite/bootstrap.py --extras dev,dashboard

lint: setup ## ruff: format and rules; mypy: types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

clean: ## remove the environment and everything that runs made
	rm -rf .venv .venv-setup.log .mypy_cache runs runs.db
