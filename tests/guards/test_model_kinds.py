"""Nobody outside models/ asks which kind of model it holds: what differs is a member of the protocol `Encoder`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import house

KINDS = frozenset(
    ["Model", "Network", "TableModel", "Towers", "Projected", "Embedder", "KeyedEmbedder", "JointEmbedder"]
)
INSIDE = 5
"""Most questions of this kind in models/, where encoders are made."""
GIVEN = frozenset(["Embedder", "str", "Path"])
"""The classes of what a caller gives as a model: "is it loaded, a name, or a folder?" asks for no kind of model."""


def questions(root: Path) -> dict[str, int]:
    """File of a package -> how often it asks for a kind of model."""
    found: dict[str, int] = {}
    for path in house.modules(root).values():
        for node in ast.walk(house.parse(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id not in ("isinstance", "issubclass") or len(node.args) < 2:
                continue
            asked = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
            if asked & KINDS and not asked <= GIVEN:
                place = path.relative_to(root).as_posix()
                found[place] = found.get(place, 0) + 1
    return found


def test_nobody_outside_asks_for_a_kind_of_model() -> None:
    found = questions(house.SRC)
    assert {place: times for place, times in found.items() if not place.startswith("models/")} == {}
    assert sum(found.values()) <= INSIDE


def test_every_kind_is_there() -> None:
    defined = {
        node.name
        for path in (house.SRC / "models").glob("*.py")
        for node in house.parse(path).body
        if isinstance(node, ast.ClassDef)
    }
    assert defined >= KINDS


@pytest.mark.parametrize(
    ("code", "times"),
    [
        ("isinstance(model, Towers)", 1),
        ("isinstance(model, (str, TableModel))", 1),
        ("issubclass(kind, Network | Towers)", 1),
        ("isinstance(given, Embedder)", 0),
        ("isinstance(given, str | Path | Embedder)", 0),
        ("isinstance(given, str | Embedder | Towers)", 1),
        ("isinstance(given, str)", 0),
    ],
)
def test_a_question_is_found(tmp_path: Path, code: str, times: int) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "one.py").write_text(f"def f(x):\n    return {code}\n", encoding="utf-8")
    assert sum(questions(tmp_path).values()) == times
