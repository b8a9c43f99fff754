"""The package's own facts: version, extras, dependencies, CI, and the sizes of files and functions."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tomllib
from collections import Counter
from pathlib import Path

import house

PYPROJECT = tomllib.loads((house.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
TEST_COMMAND = "pip install -e '.[dev]' && pytest"

IMPORTED_AS = {"faiss_cpu": "faiss", "pillow": "PIL", "pyyaml": "yaml"}
LONGEST_FILE = 500
LONGEST_FUNCTION = 60


def named(requirements: list[str]) -> set[str]:
    """The packages of requirements, as they are imported."""
    found = {re.split(r"[^\w.-]", line, maxsplit=1)[0].lower().replace("-", "_") for line in requirements}
    return {IMPORTED_AS.get(name, name) for name in found} - {"omnivec"}


def libraries() -> set[str]:
    """What src imports from other packages."""
    roots = {one.target.partition(".")[0] for one in house.imports()}
    return roots - set(sys.stdlib_module_names) - {"omnivec"}


def test_one_version():
    from omnivec.version import VERSION

    assert PROJECT["version"] == VERSION
    assert f"## [{VERSION}]" in (house.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_python_versions_begin_with_the_required_one():
    named_versions = re.findall(
        r"^Programming Language :: Python :: 3\.(\d+)$", "\n".join(PROJECT["classifiers"]), re.M
    )
    assert PROJECT["requires-python"] == f">=3.{min(map(int, named_versions))}"


def test_the_package_and_its_citation_name_the_same_authors():
    citation = (house.ROOT / "CITATION.cff").read_text(encoding="utf-8")
    authors = re.findall(r"^  - name: (.+)$", citation, re.M)
    assert authors == [author["name"] for author in PROJECT["authors"]]


def test_the_floor_of_coverage_is_a_per_cent_below_the_stated_figure():
    report = PYPROJECT["tool"]["coverage"]["report"]
    stated = (house.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [figure] = re.findall(r"`\.ci/coverage -n 0 -m fast`: ([\d.]+) % of the lines", stated)
    assert report["fail_under"] == int(float(figure)) - 1


def test_dependencies_are_what_is_imported():
    optional = libraries() - named(PROJECT["dependencies"])
    assert named(PROJECT["dependencies"]) <= libraries()
    extras = ("train", "words", "transformers", "parquet", "video")
    assert optional == named([line for extra in extras for line in EXTRAS[extra]])


def test_extras_that_errors_name_exist():
    from omnivec.training.recipe_registry import EXTRAS as recipes_extras

    text = "\n".join(path.read_text(encoding="utf-8") for path in house.modules().values())
    in_messages = set(re.findall(r"omnivec\[([\w,-]+)\]", text))
    assert {"train", "parquet"} <= in_messages
    assert {name for names in in_messages for name in names.split(",")} <= set(EXTRAS)
    assert set(recipes_extras.values()) <= set(EXTRAS)


def test_the_extra_all_holds_what_users_may_need():
    assert EXTRAS["all"] == [
        f"omnivec[{','.join(name for name in EXTRAS if name not in ('all', 'bench', 'dev', 'docs'))}]"
    ]


def test_ci_runs_the_test_command_of_the_readme():
    assert TEST_COMMAND in (house.ROOT / "README.md").read_text(encoding="utf-8")
    script = (house.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    lines = [shlex.split(line, comments=True) for line in script.splitlines()]
    for part in TEST_COMMAND.split(" && "):
        words = set(shlex.split(part))
        assert any(words <= set(line) for line in lines), f"{part!r} is not in .ci/run"


def test_files_and_functions_are_short():
    too_long = []
    for module, path in house.modules().items():
        lines = path.read_text(encoding="utf-8").count("\n")
        too_long += [f"{module}: {lines} lines"] if lines >= LONGEST_FILE else []
        for node in ast.walk(house.parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                too_long += [f"{module}.{node.name}: {length} lines"] if length >= LONGEST_FUNCTION else []
    assert too_long == []


# Folders of tests/ that have no room in src.
BESIDE = ("benchmarks", "examples", "golden", "guards", "helpers")


def misplaced(tests: Path) -> list[str]:
    """Files of tests that lie where src has no folder, that are neither tests nor fixtures, or share a name."""
    files = [path.relative_to(tests) for path in sorted(tests.rglob("*.py"))]
    found = [
        f"{path}: src/omnivec has no folder {path.parent.as_posix()}"
        for path in files
        if path.parts[0] not in BESIDE and not (house.SRC / path.parent).is_dir()
    ]
    found += [
        f"{path}: neither a test nor a conftest.py; what tests share lies in tests/helpers"
        for path in files
        if path.parts[0] not in ("golden", "helpers") and not re.match(r"test_|conftest\.py", path.name)
    ]
    names = Counter(path.name for path in files if path.name != "conftest.py")
    return found + [f"{name} occurs {times} times" for name, times in names.items() if times > 1]


def test_tests_mirror_the_source():
    assert misplaced(house.ROOT / "tests") == []


def test_a_misplaced_test_is_caught(tmp_path):
    for name in (
        "media/test_one.py",
        "models/samples.py",
        "store/test_one.py",
        "helpers/samples.py",
        "conftest.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert misplaced(tmp_path) == [
        "media/test_one.py: src/omnivec has no folder media",
        "models/samples.py: neither a test nor a conftest.py; what tests share lies in tests/helpers",
        "samples.py occurs 2 times",
        "test_one.py occurs 2 times",
    ]


def test_nothing_is_left_to_do():
    left = re.compile(r"\b(?:TODO|FIXME|XXX|raise NotImplementedError)\b")
    files = [*house.SRC.rglob("*.py"), *(house.ROOT / "benchmarks").rglob("*.py")]
    found = [f"{p.name}: {m}" for p in files for m in left.findall(p.read_text(encoding="utf-8"))]
    assert found == []


def test_what_a_package_needs_is_there():
    assert PROJECT["readme"] == "README.md"
    assert "Apache License" in (house.ROOT / "LICENSE").read_text(encoding="utf-8")
    assert (house.SRC / "py.typed").exists()
    assert PROJECT["scripts"] == {"omnivec": "omnivec.cli.main:main"}
