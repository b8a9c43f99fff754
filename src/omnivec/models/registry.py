"""Families by name: the file name in families/ is the family's name; entry points add others.

What a family claims and knows is read from its file as literals, without importing it.
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

# A literal of a file as ruff formats it: up to the next line that begins with neither a space nor a closing bracket.
_LITERAL = re.compile(rf"^(?:{'|'.join(LITERALS)}) = .*?(?=^[^\s)\]}}#]|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Family:
    """What is known of a family before it is imported.

    Attributes:
        name: its file's name.
        module: what to import.
        summary: first line of its docstring.
        claims: model types it answers for ("model_type"), more of them "where" more is said, "files" that stand
            for a config, and its "modality".
        known: short name of a model -> its facts.
    """

    name: str
    module: str
    summary: str
    claims: Mapping[str, Any]
    known: Mapping[str, Mapping[str, Any]]

    @property
    def patterns(self) -> tuple[Mapping[str, Sequence[Any]], ...]:
        """Configs that it answers for: of each key the values that it may have.

        Beside its "model_type"s, a family may claim "where", a part of another's: the same model types with more said.
        """
        plain = {"model_type": self.claims.get("model_type", ())}
        return (plain, self.claims["where"]) if "where" in self.claims else (plain,)

    def load(self) -> ModuleType:
        """Imports the family, and checks its hooks.

        Raises:
            ModelError: a hook is misspelt or missing; see `families._hooks`.
        """
        from omnivec.families._hooks import check_hooks  # Listing families imports none.

        module = importlib.import_module(self.module)
        check_hooks(module)
        return module


@dataclass(frozen=True)
class _Claimed:
    """What of a config.json tells its family, beside what families claim."""

    model_type: str | None = None
    architecture: str | None = None


@functools.cache
def families() -> Mapping[str, Family]:
    """All families, by name."""
    by_name = {}
    for path in sorted(Path(__file__).parents[1].joinpath("families").glob("[a-z]*.py")):
        # Parsing all of every file would be a tenth of what a search from a shell computes.
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
    """The literals CLAIMS and KNOWN and the docstring of a family's file, or of `source`, the part that holds them."""
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
    """Short name of each known model -> its facts, with its family's name under "family"."""
    return {name: {**facts, "family": f.name} for f in families().values() for name, facts in f.known.items()}


def config_of_files(folder: Path) -> Mapping[str, Any]:
    """The config of a folder without config.json, as one of its files tells: families claim them under "files"."""
    for family in families().values():
        for name, config in family.claims.get("files", {}).items():
            if (folder / name).is_file():
                return dict(config)
    raise ModelError(f"{folder}/config.json is missing: the model's folder is incomplete")


def family_of_config(config: Mapping[str, Any], folder: Path) -> Family:
    """The family that answers for a published config.json; of several the one whose claim says most."""
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
