"""The registry of families: one for each file in families/, named as the file, and those of entry points.

The models that a family claims and knows are read from its file as literals, without importing it.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from omnivec.errors import ModelError, UnsupportedModel
from omnivec.validation import typed
from omnivec.validation.plugins import plugins

GROUP = "omnivec.families"
LITERALS = ("CLAIMS", "KNOWN")

# A literal as ruff formats it: it ends before the next line that begins with neither a space nor a closing bracket.
_LITERAL = re.compile(rf"^(?:{'|'.join(LITERALS)}) = .*?(?=^[^\s)\]}}#]|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Family:
    """The properties of a family that are known before it is imported.

    Attributes:
        name: name of its file.
        module: name of its module.
        summary: first line of its docstring.
        claims: the model types that it supports ("model_type"), those that depend on other keys too ("where"), files
            that replace config.json ("files"), and its "modality".
        known: maps the short names of models to their properties.
    """

    name: str
    module: str
    summary: str
    claims: Mapping[str, Any]
    known: Mapping[str, Mapping[str, Any]]

    @property
    def patterns(self) -> tuple[Mapping[str, Sequence[Any]], ...]:
        """The configs that it supports, as patterns that map keys to their possible values.

        Besides its "model_type", a family may claim some configs of another family: the pattern "where" has the model
        types of the latter, and further keys.
        """
        plain = {"model_type": self.claims.get("model_type", ())}
        return (plain, self.claims["where"]) if "where" in self.claims else (plain,)

    def load(self) -> ModuleType:
        """Imports the family and checks its hooks.

        Raises:
            ModelError: a hook is missing or unknown; see `families._hooks`.
        """
        from omnivec.families._hooks import (
            check_hooks,
        )  # imported here, so that listing families imports none

        module = importlib.import_module(self.module)
        check_hooks(module)
        return module


@dataclass(frozen=True)
class _Claimed:
    """The keys of config.json that select a family, besides those that families claim."""

    model_type: str | None = None
    architecture: str | None = None


@functools.cache
def families() -> Mapping[str, Family]:
    """Returns all families by name."""
    by_name = {}
    for path in sorted(Path(__file__).parents[1].joinpath("families").glob("[a-z]*.py")):
        # Only the docstring and the literals are parsed: whole files would take a tenth of the time of a search.
        source = path.read_text(encoding="utf-8")
        docstring, _, rest = source.partition("\n")
        short = "\n".join([docstring + '\n"""', *_LITERAL.findall(rest)])
        by_name[path.stem] = read_family(path, f"omnivec.families.{path.stem}", short)
    for name, module in plugins(GROUP).items():
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            by_name[name] = read_family(Path(spec.origin), module)
    return by_name


def read_family(path: Path, module: str, source: str | None = None) -> Family:
    """Reads the literals CLAIMS and KNOWN and the docstring of a family's file, or of `source`, an excerpt of it."""
    tree = ast.parse(path.read_text(encoding="utf-8") if source is None else source, str(path))
    literals: dict[str, Any] = {name: {} for name in LITERALS}
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id in literals
        ):
            literals[node.targets[0].id] = ast.literal_eval(node.value)
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    return Family(path.stem, module, summary, literals["CLAIMS"], literals["KNOWN"])


def known() -> dict[str, Mapping[str, Any]]:
    """Maps the short name of each known model to its properties, with the name of its family under "family"."""
    return {name: {**facts, "family": f.name} for f in families().values() for name, facts in f.known.items()}


def config_of_files(folder: Path) -> Mapping[str, Any]:
    """Returns the config of a folder without config.json, from a file that a family claims under "files"."""
    for family in families().values():
        for name, config in family.claims.get("files", {}).items():
            if (folder / name).is_file():
                return dict(config)
    raise ModelError(f"{folder}/config.json is missing: the model's folder is incomplete")


def family_of_config(config: Mapping[str, Any], folder: Path) -> Family:
    """Returns the family that supports a published config.json; of several, the one whose pattern has the most keys."""
    typed.checked([_Claimed], config, folder / "config.json")
    claims = [
        (len(pattern), family)
        for family in families().values()
        for pattern in family.patterns
        if all(config.get(key) in values for key, values in pattern.items())
    ]
    if claims:
        return max(claims, key=lambda claim: claim[0])[1]
    for family in families().values():
        if family.claims.get("otherwise") and config.get("model_type"):
            return family
    covered = sorted(model_type for f in families().values() for model_type in f.claims.get("model_type", ()))
    raise UnsupportedModel(
        f"{folder / 'config.json'}: model_type {config.get('model_type')!r} is covered by no family; covered are "
        f"{', '.join(covered)}"
    )
