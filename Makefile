# Two commands: `make demo` and `make test`. Both set up .venv first; the second time that is instant.
# STACK=cpu or STACK=gpu overrides what is found. PYTHON names the interpreter that runs the set-up.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test miniature setup lint clean

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

test: ## set up with what tests need, run all tests
	@$(PYTHON) suite/bootstrap.py --extras dev,dashboard --browser
	@$(BIN)/python -m pytest

setup: ## set up for development only
	@$(PYTHON) suite/bootstrap.py --extras dev,dashboard

lint: setup ## ruff: format and rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

clean: ## remove the environment and everything that runs made
	rm -rf .venv .venv-setup.log runs runs.db
