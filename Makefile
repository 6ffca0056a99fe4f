# A Python >= 3.10 is all that the targets need; they set up .venv themselves, again only when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHROMIUM ?= chromium
# Of the tests only those with these markers, as an expression of pytest; all of them by default.
MARKED ?=
# The silenced warning is about an editable install, which is intended here.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test check examples picture build clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## Align a judge with rated photographs, offline, into demo/
	$(BIN)/blpo demo --out demo

test: $(VENV)/.developing ## Run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "$(MARKED)"

check: $(VENV)/.developing ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

examples: $(VENV)/.installed ## Run every example, offline
	@set -e; for example in examples/*.py; do echo "== $$example"; $(BIN)/python "$$example"; done
	@echo "== examples/reproduce_paper.py --smoke"; $(BIN)/python examples/reproduce_paper.py --smoke

# In a new folder, since earlier runs next to a report are mentioned in it.
picture: $(VENV)/.installed ## Make the picture of the README with Chromium
	@away=`mktemp -d` && trap 'rm -rf "$$away"' EXIT && $(BIN)/blpo demo --out "$$away/demo" && \
	$(CHROMIUM) --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
	  --hide-scrollbars --window-size=1200,900 --user-data-dir="$$away/profile" --screenshot="$$away/report.png" \
	  "file://$$away/demo/report.html" && \
	$(BIN)/python -c 'import sys; from PIL import Image; \
	  Image.open(sys.argv[1]).convert("RGB").quantize(128).save(sys.argv[2], optimize=True)' \
	  "$$away/report.png" examples/report.png

build: $(VENV)/.developing ## Build the sdist and the wheel into dist/
	$(BIN)/python -m build --no-isolation

clean: ## Remove .venv and whatever else these targets wrote
	rm -rf $(VENV) build dist demo *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	echo "Python >= 3.10 is needed; $(PYTHON) says: `$(PYTHON) --version 2>&1`." >&2; \
	echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up $(VENV) (a minute or two, once)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml
	$(PIP) install --editable .
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(PIP) install --group dev
	@touch $@
