"""Recipes by name: each file in recipes/ with a class `Options` and a function `run` is a recipe, named after the file.

A recipe's summary, its data and its options are read from the source without importing it, so that help and errors in
options do not load torch. A recipe defines:

- the first line of its docstring, the summary;
- `DATA`, a string literal that describes the files it takes in a few words;
- `OUTPUT = "file"` if it saves a single file and not a model's folder;
- `Options`, a frozen dataclass whose defaults are literals and whose fields are described under "Attributes"; it may
  inherit from one in another module;
- `run(data, options)`, which returns the trained embedder.
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
from typing import TYPE_CHECKING, Any, Literal, overload

from omnivec.errors import MissingExtra, UsageError
from omnivec.training.provenance import observed, training
from omnivec.validation.arguments import plain, said

if TYPE_CHECKING:
    from omnivec.models.embedder import Embedder
    from omnivec.models.joint import JointEmbedder
    from omnivec.models.keyed import KeyedEmbedder

# Modules that recipes import and the base install lacks, and the extras that install them.
EXTRAS = {"torch": "train", "numba": "words"}


@dataclass(frozen=True)
class Option:
    """An option of a recipe.

    Attributes:
        name: name of the keyword argument of `train`.
        type: the annotation: "int", "float | None", ...
        default: the default; None if the option is required.
        required: whether the option must be given.
        help: its description.
    """

    name: str
    type: str
    default: Any
    required: bool
    help: str

    @property
    def is_callable(self) -> bool:
        """Whether the option is a function, which cannot be given on the command line."""
        return "Callable" in self.type

    def accepts(self, value: Any) -> bool:
        """Whether a value is of the annotated type; an int is accepted as a float, a bool as neither."""
        kinds = {name.strip().partition("[")[0] for name in re.split(r"\|(?![^\[]*\])", self.type)}
        if value is None or isinstance(value, bool):
            return str(value) in kinds or type(value).__name__ in kinds
        names = {base.__name__ for base in type(value).__mro__} | ({"float"} if type(value) is int else set())
        return bool(kinds & names) or ("Callable" in kinds and callable(value))


@dataclass(frozen=True)
class Recipe:
    """The description of a recipe, read without importing it.

    Attributes:
        name: name of its file.
        summary: first line of its docstring.
        options: its options, in order.
        data: its DATA, the files that it takes; "" if not stated.
        output: its OUTPUT: "file" if `save` writes a single file; "" for a model's folder.
    """

    name: str
    summary: str
    options: tuple[Option, ...]
    data: str = ""
    output: str = ""

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises UsageError for an option that does not exist, has the wrong type, or is required and missing."""
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


@overload
def train(
    recipe: Literal["doc2vec", "distill", "fasttext", "fasttext_supervised", "glove", "word2vec"],
    data: Any,
    **options: Any,
) -> KeyedEmbedder: ...


@overload
def train(recipe: Literal["align"], data: Any, **options: Any) -> JointEmbedder: ...


@overload
def train(recipe: Literal["phrases"], data: Any, **options: Any) -> Any: ...  # Phrases, which is no embedder


@overload
def train(recipe: str, data: Any, **options: Any) -> Embedder: ...


# This function takes any keyword argument because each recipe has its own options; they are checked against the
# recipe's description before anything else happens.
def train(recipe: str, data: Any, **options: Any) -> Embedder:
    """Trains a model.

    Args:
        recipe: name of the recipe, one of `recipes()`: "contrastive", for example.
        data: the training data; each recipe documents what it takes.
        **options: options of the recipe, see its `Options`.

    Returns:
        The trained model, ready to use and to `save`.

    Raises:
        UsageError: the recipe or an option does not exist, or the data cannot be used.
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
    """The recipe in a file, read without importing it; None if the file has no class `Options`."""
    tree = _parsed(path)
    records = _lineage(path, tree, "Options")
    if not records:
        return None
    options: dict[str, Option] = {}
    for option in (each for record in records for each in _options(record)):
        # A redefined field keeps its position, as in the dataclass, and its description unless it has a new one.
        before = options.get(option.name)
        options[option.name] = option if option.help or not before else replace(option, help=before.help)
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    return Recipe(
        path.stem, summary, tuple(options.values()), _literal(tree, "DATA"), _literal(tree, "OUTPUT")
    )


def _literal(tree: ast.Module, name: str) -> str:
    """The literal that a module assigns to a name, as a string; "" if it does not."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            return str(ast.literal_eval(node.value))
    return ""


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _lineage(path: Path, tree: ast.Module, name: str) -> list[ast.ClassDef]:
    """The definitions of a class and its base classes, bases first, in this module or in those it imports them from."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            bases = [_lineage(path, tree, ast.unparse(base)) for base in node.bases]
            return [*(each for lineage in bases for each in lineage), node]
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            parts = (node.module or "").split(".")
            source = Path(__file__).parents[2].joinpath(*parts).with_suffix(".py")
            if not source.is_file():  # not in omnivec: look for a file beside this one
                source = path.with_name(f"{parts[-1]}.py")
            return _lineage(source, _parsed(source), name) if source.is_file() else []
    return []


def check_limits(options: object, limits: Mapping[str, tuple[float, float]]) -> None:
    """Raises UsageError for an option that is not finite or not within its limits, which are inclusive.

    Options that are None are not checked.
    """
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
    """Sets the options of a frozen dataclass that are None to the values actually used.

    A folder or card of the trained model then records those values.
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
    """The description of each attribute, from the "Attributes" section of a docstring."""
    section = inspect.cleandoc(docstring).partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _unknown(what: str, name: str, known: Mapping[str, Any], listed: str) -> str:
    near = difflib.get_close_matches(name, known, 1)
    meant = f" (the nearest is {near[0]!r})" if near else ""
    return f"{what} {name!r}{meant}; {listed} {', '.join(known)}"
