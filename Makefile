# make demo: the main job on real digits, with pictures. make test: the tests. make docs: the site. They set everything up themselves.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TOOLS  := $(VENV)/.tools
DEMO   ?= demo
JOBS   ?= 2
# Where torch comes from: https://download.pytorch.org/whl/cpu has it without CUDA, 200 MB instead of 5.6 GB.
TORCH_INDEX ?=
CAMPAIGN ?= 1

.PHONY: demo test test-slow test-browser campaign test-fallback docs dist licences lint format clean

SOURCES := $(shell find csrc -type f -not -name '*.md')

$(READY): pyproject.toml setup.py constraints.txt $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel ninja
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e .
	touch $(READY)

# The extension is built by then and stays where it is.
$(TOOLS): $(READY)
	LATENTDIFF_BUILD=off $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $(TOOLS)

demo: $(READY)
	rm -rf $(DEMO)/runs && mkdir -p $(DEMO)
	cd $(DEMO) && $(abspath $(BIN))/latentdiff train-vae --config $(abspath configs/demo.yaml)
	cd $(DEMO) && $(abspath $(BIN))/latentdiff reconstruct --overwrite
	cd $(DEMO) && $(abspath $(BIN))/latentdiff train-denoiser --config $(abspath configs/demo.yaml)
	cd $(DEMO) && $(abspath $(BIN))/latentdiff sample --overwrite --config $(abspath configs/demo.yaml)
	cd $(DEMO) && $(abspath $(BIN))/latentdiff sample -n 16 --guidance 2 --trajectory steps.png --out guided.png --overwrite
	cd $(DEMO) && $(abspath $(BIN))/latentdiff sample -n 16 --guidance 2 --trajectory steps.gif --out guided.png --overwrite
	@echo "pictures are in $(DEMO)/: samples.png, guided.png, steps.png, steps.gif, reconstructions.png"

# A file goes to one of JOBS processes; threads that wait for one another do not spin, as they would take the cores of the others.
PYTEST := OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test: $(TOOLS)
	$(PYTEST) -m "not slow"

test-slow: $(TOOLS)
	$(PYTEST) -m slow

# The walk over the page (docs/ui.md) and the search of the site, in Chromium.
test-browser: $(TOOLS)
	LATENTDIFF_BUILD=off $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[ui]' playwright axe-playwright-python
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(JOBS) -m slow tests/apps/ui tests/docs/test_site.py

# The reliability campaign as a whole (docs/reliability.md); `make test-slow` runs a tenth of it.
campaign: $(TOOLS)
	CAMPAIGN=$(CAMPAIGN) OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(JOBS) -m slow tests/campaign

test-fallback: $(TOOLS)
	LATENTDIFF_OPS=fallback $(PYTEST) -m "not slow" tests/ops tests/diffusion/test_samplers.py

# Strict: a link that leads nowhere, or a formula that does not become one, ends it (but not with --quiet, which counts no warnings). To look at: python -m http.server -d site
# Without the environment of the tests a small one: nothing is compiled, no torch is needed.
DOCS := $(if $(wildcard $(TOOLS)),$(VENV),$(VENV)-docs)
$(VENV)-docs/.tools: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt click pydantic PyYAML \
		$$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	touch $@

docs: $(DOCS)/.tools
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(DOCS)/bin/python -m mkdocs build --strict
	@echo "the site is in site/"

# A source distribution, and from it a wheel for any machine (the fallback) and one for this Python and torch (the kernels).
# Without the cache: pip would take the first wheel for the second.
WHEEL := $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-cache-dir --wheel-dir dist
dist: $(READY)
	rm -rf dist
	LATENTDIFF_BUILD=off $(BIN)/python -c 'from setuptools import build_meta; build_meta.build_sdist("dist")' > /dev/null
	LATENTDIFF_BUILD=off $(WHEEL) dist/*.tar.gz
	LATENTDIFF_REQUIRE_EXTENSION=1 $(WHEEL) dist/*.tar.gz
	@ls dist

# docs/licences.md, after a change of dependencies
licences: $(TOOLS)
	LATENTDIFF_BUILD=off $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev,text,ui]'
	$(BIN)/python scripts/licences.py

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(SOURCES)

format: $(TOOLS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(SOURCES)

clean:
	rm -rf $(VENV) $(VENV)-docs $(DEMO) build dist site *.egg-info latentdiff/_C*.so .pytest_cache .mypy_cache .ruff_cache
