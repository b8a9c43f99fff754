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
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from omnivec import progress
from omnivec.errors import ModelError, OmnivecError, UnsupportedModel, UsageError
from omnivec.validation import typed
from omnivec.validation.plugins import only, plugins
from omnivec.validation.reasons import one_line, with_class

GROUP = "omnivec.families"
OWN = "omnivec.families."
CLAIM_KEYS = ("model_type", "modality", "where", "keys", "files", "contents", "otherwise")
KNOWN_KEYS = ("sources", "sha256", "licence", "dim", "length")
_BEGINNING = 1 << 16  # bytes of a file that are searched for what a family claims
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
        claims: the model types that it supports ("model_type"), those that depend on other keys too ("where"), keys
            that its configs have instead of a model type ("keys"), files that replace config.json ("files"), what
            these must contain ("contents"), and its "modality".
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
            ModelError: a hook is missing or unknown, see `families._hooks`; or the module, which is another package's,
                cannot be imported.
        """
        from omnivec.families._hooks import check_hooks  # Listing families imports none.

        try:
            module = importlib.import_module(self.module)
        except OmnivecError:
            raise
        except Exception as error:
            if self.module.startswith(OWN):
                raise
            raise ModelError(
                f"family {self.name!r} of another package: its module {self.module} cannot be imported "
                f"({with_class(error)}): fix that package, or uninstall it"
            ) from error
        check_hooks(module)
        return module


@dataclass(frozen=True)
class _Claimed:
    """The keys of config.json that select a family, besides those that families claim."""

    model_type: str | None = None
    architecture: str | None = None


@functools.cache
def families() -> Mapping[str, Family]:
    """Returns all families by name.

    A family of another package that cannot be read is left out, with a line on stderr that says why.
    """
    by_name = {}
    for path in sorted(Path(__file__).parents[1].joinpath("families").glob("[a-z]*.py")):
        # Only the docstring and the literals are parsed: whole files would take a tenth of the time of a search.
        source = path.read_text(encoding="utf-8")
        docstring, _, rest = source.partition("\n")
        short = "\n".join([docstring + '\n"""', *_LITERAL.findall(rest)])
        by_name[path.stem] = read_family(path, f"omnivec.families.{path.stem}", short)
    for name, modules in plugins(GROUP).items():
        try:
            if name in by_name:
                raise UsageError("omnivec has a family of this name")
            by_name[name] = _of_plugin(name, only("family", name, modules))
        except Exception as error:
            reason = one_line(error) if isinstance(error, OmnivecError) else with_class(error)
            progress.say(f"the family {name!r} of another package is left out: {reason}")
    return by_name


def _of_plugin(name: str, module: str) -> Family:
    """The family of another package, read from its module's file; an error, of any kind, if it cannot be used."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        spec = None
    if spec is None or spec.origin is None:
        raise ModelError(f"there is no module {module}")
    family = replace(read_family(Path(spec.origin), module), name=name)
    for what, entries, known_keys in (
        ("CLAIMS", family.claims, CLAIM_KEYS),
        *((f"KNOWN[{model!r}]", facts, None) for model, facts in family.known.items()),
    ):
        if not isinstance(entries, Mapping):
            raise ModelError(f"{module}: {what} must be a dict")
        if known_keys and (unknown := set(entries) - set(known_keys)):
            raise ModelError(
                f"{module}: {what} has {min(unknown)!r}, which is none of {', '.join(known_keys)}"
            )
        if known_keys is None and (missing := [key for key in KNOWN_KEYS if key not in entries]):
            raise ModelError(f"{module}: {what} has no {missing[0]!r}")
    if not family.claims:
        progress.say(
            f"{module} has no CLAIMS, a literal dict that names its model types: no model is of this family"
        )
    if not isinstance(family.claims.get("model_type", ()), list | tuple):
        raise ModelError(f"{module}: model_type in CLAIMS must be a list of strings")
    return family


def read_family(path: Path, module: str, source: str | None = None) -> Family:
    """Reads the literals CLAIMS and KNOWN and the docstring of a family's file, or of `source`, an excerpt of it."""
    tree = ast.parse(path.read_text(encoding="utf-8") if source is None else source, str(path))
    literals: dict[str, Any] = {name: {} for name in LITERALS}
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and target.id in literals:
            try:
                literals[target.id] = ast.literal_eval(node.value)
            except ValueError as error:
                raise ModelError(
                    f"{path.name}:{node.lineno}: {target.id} must be a literal, since it is read without importing the "
                    "module"
                ) from error
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    return Family(path.stem, module, summary, literals["CLAIMS"], literals["KNOWN"])


def known() -> dict[str, Mapping[str, Any]]:
    """Maps the short name of each known model to its properties, with the name of its family under "family"."""
    models: dict[str, Mapping[str, Any]] = {}
    # Families of other packages come last, and cannot take the name of a model that omnivec knows.
    for family in families().values():
        for name, facts in family.known.items():
            models.setdefault(name, {**facts, "family": family.name})
    return models


def config_of_files(folder: Path) -> Mapping[str, Any]:
    """Returns the config of a folder without config.json, from a file that a family claims under "files".

    Several families may claim one name. Such a file is a text, in which the regular expression that a family has for it
    under "contents" must be found.
    """
    for family in families().values():
        for name, config in family.claims.get("files", {}).items():
            contents = family.claims.get("contents", {}).get(name)
            if (folder / name).is_file() and (contents is None or _has_text(folder / name, contents)):
                return dict(config)
    raise ModelError(f"{folder}/config.json is missing: the model's folder is incomplete")


def _has_text(file: Path, pattern: str) -> bool:
    """Whether the beginning of a file matches a regular expression somewhere."""
    with file.open("rb") as stream:
        return re.search(pattern, stream.read(_BEGINNING).decode("utf-8", "replace")) is not None


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
        keys = family.claims.get("keys")
        if keys and "model_type" not in config and all(key in config for key in keys):
            return family
    for family in families().values():
        if family.claims.get("otherwise") and config.get("model_type"):
            return family
    covered = sorted(model_type for f in families().values() for model_type in f.claims.get("model_type", ()))
    raise UnsupportedModel(
        f"{folder / 'config.json'}: model_type {config.get('model_type')!r} is covered by no family; covered are "
        f"{', '.join(covered)}"
    )
