"""The public names: sorted, complete, described; and no signature that swallows what it does not know."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module

import pytest

import house
import omnivec

# Where keywords are collected on purpose: (file, function) -> why.
COLLECTS = {
    (
        "vectors/probes.py",
        "set_params",
    ): "scikit-learn calls it with parameters of the constructor; they are held to its signature",
    (
        "training/recipe_registry.py",
        "train",
    ): "each recipe has options of its own; they are held to its record",
    ("collection/asynchronous.py", "call"): "it passes the arguments of any method on to it",
    ("cli/train.py", "run"): "click calls it with the options of a recipe, which are made from its record",
    ("hub/huggingface.py", "__init__"): "a stand-in for the hub's own bar is called as that one is",
    ("inputs/text/tokenizer.py", "_roles"): "a table of special tokens, written as keywords",
}


def bound() -> set[str]:
    """The names that __init__.py takes from its rooms, for type checkers or at once."""
    tree = house.parse(house.SRC / "__init__.py")
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("omnivec")
        for alias in node.names
    }


def test_all_is_sorted_and_complete():
    assert omnivec.__all__ == sorted(set(omnivec.__all__))
    assert set(omnivec.__all__) == bound()


def test_dir_shows_the_public_names():
    assert dir(omnivec) == omnivec.__all__


def test_every_name_resolves():
    namespace: dict[str, object] = {}
    exec("from omnivec import *", namespace)
    assert set(omnivec.__all__) <= set(namespace)
    assert all(namespace[name] is getattr(omnivec, name) for name in omnivec.__all__)


def test_documented_modules_are_there_under_their_former_paths():
    for former, name, module in (
        ("omnivec.classifying", "Classifier", "omnivec.tasks.classify"),
        ("omnivec.classifying", "classify", "omnivec.tasks.classify"),
        ("omnivec.deduplicating", "find_copies", "omnivec.tasks.duplicates"),
        ("omnivec.lookup", "Encoder", "omnivec.models.table"),
        ("omnivec.typed", "Size", "omnivec.validation.typed"),
    ):
        assert getattr(import_module(former), name) is getattr(import_module(module), name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'omnivec' has no attribute 'Embeder'"):
        omnivec.Embeder  # noqa: B018


@pytest.mark.parametrize("name", [name for name in omnivec.__all__ if name != "__version__"])
def test_every_public_thing_is_described(name):
    thing = getattr(omnivec, name)
    assert (thing.__doc__ or "").strip(), name
    assert thing.__doc__ != getattr(thing.__base__, "__doc__", None) if inspect.isclass(thing) else True
    for member, value in house.members(thing).items() if inspect.isclass(thing) else ():
        if member.startswith("_") or not (callable(value) or isinstance(value, property)):
            continue
        assert (value.__doc__ or "").strip(), f"{name}.{member}"


def is_overload(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a definition only types another one, which is described."""
    return [ast.unparse(decorator) for decorator in node.decorator_list] == ["overload"]


def test_every_module_class_and_function_is_described():
    lacking = []
    for module, path in house.modules().items():
        tree = house.parse(path)
        defined = [
            n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        public = [node for node in defined if not node.name.startswith("_") and not is_overload(node)]
        lacking += [module] if ast.get_docstring(tree) is None else []
        lacking += [f"{module}.{node.name}" for node in public if ast.get_docstring(node) is None]
    assert lacking == []


def test_no_signature_swallows_keywords():
    found = {
        (path.relative_to(house.SRC).as_posix(), getattr(node, "name", "lambda"))
        for path in house.modules().values()
        for node in ast.walk(house.parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and node.args.kwarg
    }
    assert found == set(COLLECTS)


def test_the_public_train_describes_its_options():
    documented = inspect.getdoc(omnivec.train) or ""
    assert "**options" in documented and "UsageError" in documented
