# Every target uses the one environment in .venv. README.md spells the same commands out for machines without make.
#   make demo PYTHON=python3.12     another interpreter for a new .venv
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo smoke test lab clean

help: ## this list
	@echo "make demo    install into .venv and run the study on the demo profile; prints the report's path and the gains"
	@echo "make smoke   the same on tiny heads, a check in minutes"
	@echo "make test    ruff, mypy, pytest; the smoke study once"
	@echo "make lab     JupyterLab in the notebooks folder"
	@echo "make clean   remove caches and reports/smoke; .venv and reports/demo stay"

demo: $(STAMP)
	$(BIN)/sn2n study --profile demo

smoke: $(STAMP)
	$(BIN)/sn2n study --profile smoke

test: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/mypy sn2nlib
	$(BIN)/pytest --junitxml=reports/tests/junit.xml

lab: $(STAMP)
	$(BIN)/jupyter lab --notebook-dir=notebooks

# The stamp is written last, so an interrupted installation is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "sn2n needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,lab,raw,reading,volumetry]'
	@touch $@

clean:
	rm -rf .mypy_cache .pytest_cache .ruff_cache reports/smoke
	find sn2nlib tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
