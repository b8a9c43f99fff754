"""Recipes by name: a file of recipes/ with a class `Options` and a function `run` is a recipe, named as its file.

What a recipe is for, which files it takes and what it may be told is read from its file without importing it, so that
help and wrong options cost no torch. `DATA` is a literal, the files in a few words; `OUTPUT = "file"` says that what is
saved is one file, not a model's folder; `Options` is a frozen dataclass of literals, each field described under
"Attributes", that may inherit from that of another module; `run(data, options)` returns the trained embedder.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnivec.errors import MissingExtra, UsageError
from omnivec.training.provenance import observed, training
from omnivec.validation.arguments import plain, said

if TYPE_CHECKING:
    from omnivec.models.embedder import Embedder

# What a recipe may import that the base install lacks, and the extra that brings it.
EXTRAS = {"torch": "train", "numba": "words"}


@dataclass(frozen=True)
class Option:
    """One thing that a recipe may be told.

    Attributes:
        name: as given to `train`.
        type: as annotated: "int", "float | None", ...
        default: used where it is not given; None where it is required.
        required: whether it must be given.
        help: what it means.
    """

    name: str
    type: str
    default: Any
    required: bool
    help: str

    @property
    def is_callable(self) -> bool:
        """Whether it is a function, which no command line can give."""
        return "Callable" in self.type

    def accepts(self, value: Any) -> bool:
        """Whether a value is of the annotated type; an int is a float, a bool is no number."""
        kinds = {name.strip().partition("[")[0] for name in re.split(r"\|(?![^\[]*\])", self.type)}
        if value is None or isinstance(value, bool):
            return str(value) in kinds or type(value).__name__ in kinds
        names = {base.__name__ for base in type(value).__mro__} | ({"float"} if type(value) is int else set())
        return bool(kinds & names) or ("Callable" in kinds and callable(value))


@dataclass(frozen=True)
class Recipe:
    """What is known of a recipe before it is imported.

    Attributes:
        name: its file's name.
        summary: first line of its docstring.
        options: what it may be told, in order.
        data: the files that it takes, as its file's DATA says; "" where it says nothing.
        output: what `save` writes, as its file's OUTPUT says: "file"; "" for a model's folder.
    """

    name: str
    summary: str
    options: tuple[Option, ...]
    data: str = ""
    output: str = ""

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises UsageError for an option that the recipe does not have, of another type, or missing."""
        known = {option.name: option for option in self.options}
        for name, value in options.items():
            if name not in known:
                raise UsageError(_unknown(f"{self.name} has no option", name, known, "its options are"))
            if not known[name].accepts(value):
                raise UsageError(f"{name}={said(value)}: {self.name} takes {known[name].type} here")
        lacking = [option.name for option in self.options if option.required and option.name not in options]
        if lacking:
            raise UsageError(
                f"{self.name} needs {', '.join(lacking)}: give {lacking[0]}=..., or --{lacking[0]}"
            )

    def run(self, data: Any, given_options: Mapping[str, Any]) -> Embedder:
        """Imports the recipe and trains with these options."""
        given_options = {name: plain(value) for name, value in given_options.items()}
        self.check(given_options)
        try:
            module = importlib.import_module(f"omnivec.training.recipes.{self.name}")
            options, (observable, facts) = module.Options(**given_options), observed(data)
            trained: Embedder = module.run(observable, options)
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS:
                raise
            raise MissingExtra(
                f"training {self.name} needs {error.name}: pip install 'omnivec[{EXTRAS[error.name]}]'"
            ) from error
        if hasattr(trained, "training"):
            trained.training = training(self.name, options, facts(), trained)
        return trained


# This one function takes any keyword, because each recipe has options of its own; they are held to the recipe's
# record before anything else happens.
def train(recipe: str, data: Any, **options: Any) -> Embedder:
    """Trains a model.

    Args:
        recipe: how: one of `recipes()`, "contrastive" for example.
        data: what from; each recipe says what it takes.
        **options: what the recipe may be told; see its `Options`.

    Returns:
        The trained model, to use at once or to `save`.

    Raises:
        UsageError: a recipe or an option that does not exist, or data that cannot be used.
        MissingExtra: the recipe needs a library that is not installed.
    """
    known = recipes()
    if not isinstance(recipe, str) or recipe not in known:
        raise UsageError(_unknown("there is no recipe", str(recipe), known, "there are"))
    return known[recipe].run(data, options)


@functools.cache
def recipes() -> Mapping[str, Recipe]:
    """All recipes, by name."""
    listed = (read_recipe(path) for path in sorted(Path(__file__).with_name("recipes").glob("[a-z]*.py")))
    return {recipe.name: recipe for recipe in listed if recipe is not None}


def read_recipe(path: Path) -> Recipe | None:
    """The recipe that a file holds, without importing it; None where it has no class `Options`."""
    tree = _parsed(path)
    records = _lineage(path, tree, "Options")
    if not records:
        return None
    options: dict[str, Option] = {}
    for option in (each for record in records for each in _options(record)):
        # A field that is stated again keeps its place, as in the record itself, and its words where it has no others.
        before = options.get(option.name)
        options[option.name] = option if option.help or not before else replace(option, help=before.help)
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    return Recipe(
        path.stem, summary, tuple(options.values()), _literal(tree, "DATA"), _literal(tree, "OUTPUT")
    )


def _literal(tree: ast.Module, name: str) -> str:
    """What a file assigns to a name on its first level; "" where it does not."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            return str(ast.literal_eval(node.value))
    return ""


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _lineage(path: Path, tree: ast.Module, name: str) -> list[ast.ClassDef]:
    """A class of this file and those it inherits from, of here or of modules it is imported from, the oldest first."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            bases = [_lineage(path, tree, ast.unparse(base)) for base in node.bases]
            return [*(each for lineage in bases for each in lineage), node]
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            parts = (node.module or "").split(".")
            source = Path(__file__).parents[2].joinpath(*parts).with_suffix(".py")
            if not source.is_file():  # of another package: a file beside
                source = path.with_name(f"{parts[-1]}.py")
            return _lineage(source, _parsed(source), name) if source.is_file() else []
    return []


def check_limits(options: object, limits: Mapping[str, tuple[float, float]]) -> None:
    """Raises UsageError for a number outside its limits, both included, or not finite; None is none of them."""
    for name, (low, high) in limits.items():
        value = getattr(options, name)
        if value is None:
            continue
        finite = isinstance(value, int) or math.isfinite(value)  # an int may be beyond all floats
        if not (low <= value <= high and finite):
            allowed = f"at least {low}" if high == float("inf") else f"{low} to {high}"
            if low == -high:
                allowed = "a finite number"
            elif not finite:
                allowed = f"a finite number, {allowed}"
            raise UsageError(f"{name}={said(value)}: {allowed}")


def settle(options: object, usual: Mapping[str, Any]) -> None:
    """Gives the options of a frozen record that were left open, None, the values that it works by.

    So what is kept of a training, in a folder or on a card, is what it was done with.
    """
    for name, value in usual.items():
        if getattr(options, name) is None:
            object.__setattr__(options, name, value)


def _options(record: ast.ClassDef) -> list[Option]:
    described = _described(ast.get_docstring(record) or "")
    return [
        Option(
            node.target.id,
            ast.unparse(node.annotation),
            ast.literal_eval(node.value) if node.value is not None else None,
            node.value is None,
            described.get(node.target.id, ""),
        )
        for node in record.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def _described(docstring: str) -> dict[str, str]:
    """Attribute -> its description, from a docstring's last section."""
    section = inspect.cleandoc(docstring).partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _unknown(what: str, name: str, known: Mapping[str, Any], listed: str) -> str:
    near = difflib.get_close_matches(name, known, 1)
    meant = f" (the nearest is {near[0]!r})" if near else ""
    return f"{what} {name!r}{meant}; {listed} {', '.join(known)}"
