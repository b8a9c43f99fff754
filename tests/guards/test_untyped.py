"""The list of modules whose errors mypy does not report; .ci/untyped.py runs mypy to see which of them pass."""

from __future__ import annotations

import runpy
from pathlib import Path

import house

MOST = 16
"""The number of listed modules. It is lowered with the list, and never raised."""

UNTYPED = runpy.run_path(str(house.ROOT / ".ci" / "untyped.py"))
PYPROJECT = (house.ROOT / "pyproject.toml").read_text(encoding="utf-8")

SMALL = """
[tool.mypy]
files = ["checked"]

[[tool.mypy.overrides]]
module = ["checked.wrong", "checked.right", "checked.gone"]
ignore_errors = true
"""


def test_the_list_only_shrinks():
    assert len(UNTYPED["listed"](PYPROJECT)) == MOST


def test_listed_modules_are_in_order_and_have_a_file():
    modules = UNTYPED["listed"](PYPROJECT)
    assert modules == sorted(set(modules))
    assert [m for m in modules if UNTYPED["source"](m) is None] == []


def test_the_package_is_not_listed():
    assert not [m for m in UNTYPED["listed"](PYPROJECT) if m.partition(".")[0] == "omnivec"]


def test_a_module_that_passes_or_is_gone_must_leave(tmp_path):
    (tmp_path / "checked").mkdir()
    (tmp_path / "checked" / "wrong.py").write_text("x: int = 'text'\n")
    (tmp_path / "checked" / "right.py").write_text("x: int = 1\n")
    failing = {Path("checked/wrong.py")}
    assert UNTYPED["wrong_entries"](SMALL, failing, tmp_path) == [
        "checked.gone: no such file",
        "checked.right: passes; take it off the list",
    ]
