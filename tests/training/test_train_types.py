"""What `train` returns, as type checkers see it, is what each recipe's `run` says that it returns."""

from __future__ import annotations

import ast
import typing
from pathlib import Path

import pytest

from omnivec.training import recipe_registry
from omnivec.training.recipe_registry import recipes

RECIPES = Path(recipe_registry.__file__).with_name("recipes")


def returned(recipe: str) -> str:
    """What a type checker takes `train(recipe, ...)` to return."""
    for overload in typing.get_overloads(recipe_registry.train):
        named = ast.parse(overload.__annotations__["recipe"]).body[0]
        literals = {node.value for node in ast.walk(named) if isinstance(node, ast.Constant)}
        if not literals or recipe in literals:
            return str(overload.__annotations__["return"])
    raise AssertionError(f"no overload takes {recipe}")


@pytest.mark.parametrize("recipe", recipes())
def test_each_recipe_returns_what_train_promises(recipe):
    tree = ast.parse((RECIPES / f"{recipe}.py").read_text(encoding="utf-8"))
    runs = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    promised = returned(recipe)
    stated = [ast.unparse(run.returns) for run in runs if run.returns]
    assert stated == ["Phrases" if promised == "Any" else promised]


def test_a_recipe_named_at_run_time_gives_an_embedder():
    assert returned("one of another version") == "Embedder"
