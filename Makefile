# Everything runs in a virtual environment of its own, made on the first call.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: validate studies test slow-test lint julia docs

validate: $(READY)
	$(RUN)/hybrid-nds validate --output report

studies: $(READY)
	$(RUN)/hybrid-nds study run --all --quick --out report/studies

test: lint
	$(RUN)/python -m pytest -n auto -m "not slow"

slow-test: $(READY)
	$(RUN)/python -m pytest -n auto

lint: $(READY)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/pyright --pythonpath $(RUN)/python

julia: $(READY)
	$(RUN)/hybrid-nds julia install

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --editable ".[test]"
	touch $(READY)
