# The commands of a contributor; .ci/run runs the same ones in an environment of its own.

.PHONY: install test fast coverage lint docs bench release

install:  ## the package with everything that tests need
	pip install -e '.[dev]'

test:  ## all tests
	pytest

fast:  ## tests without models or training, in under a minute
	pytest -m fast

coverage:  ## all tests, and the lines of the package that they run
	.ci/coverage

lint:  ## style, formatting and types
	ruff check .
	ruff format --check .
	mypy
	python .ci/untyped.py

docs:  ## the site in build/site; broken links and warnings are errors
	pip install -q -e '.[docs]'
	zensical build --strict

bench:  ## the tables of README and docs, from benchmarks/results
	cd benchmarks && python tables.py

release:  ## a wheel and a source archive in dist/
	pip install -q build
	python -m build
