# Everything is done inside .venv; nothing outside this folder is touched.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test install clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

# A real search on scikit-learn's handwritten digits. "Nothing beats the baseline" is an answer
# too (exit code 3), not a failure of the demo. Two minutes bound it on a slow machine.
demo: $(STAMP)
	$(BIN)/automl tune digits --name demo --budget 60full,2m || test $$? -eq 3

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 3  # many tests wait for processes: more than two cores' worth

clean:
	rm -rf .venv runs build *.egg-info
