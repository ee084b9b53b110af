# Everything runs in a virtual environment of its own, made on the first call and kept up
# to date. PYTHON=python3.12 chooses its Python, VENV its folder.
VENV ?= .venv
READY = @sh packaging/environment.sh "$(VENV)"
PYTHON_HERE = "$(VENV)/bin/python"
HYBRID_NDS = "$(VENV)/bin/hybrid-nds"

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help validate studies test slow-test lint julia docs

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

validate: ## test problems up the ladder of agreement; writes report/
	$(READY) package
	$(HYBRID_NDS) validate --output report

studies: ## all studies, quickly; writes report/studies/
	$(READY) package
	$(HYBRID_NDS) study run --all --quick --out report/studies

test: ## lint, types, and the tests that take seconds
	$(READY) test
	@VENV="$(VENV)" sh packaging/check.sh -m "not slow"

slow-test: ## lint, types, and all tests
	$(READY) test
	@VENV="$(VENV)" sh packaging/check.sh

lint: ## lint and types
	$(READY) test
	@VENV="$(VENV)" sh packaging/check.sh --lint

julia: ## install Julia for the user, and the Julia packages
	$(READY) julia
	$(HYBRID_NDS) julia install

docs: ## the documentation; writes build/site/
	$(READY) docs
	NO_MKDOCS_2_WARNING=1 $(PYTHON_HERE) -m mkdocs build --strict
