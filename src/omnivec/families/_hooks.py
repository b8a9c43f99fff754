"""What the file of a family may define: its hooks, with their types and what holds where one is not defined.

A family is a module. It is one of three kinds: a network (`NetworkHooks`), a network with a tower for each modality
(`TowerHooks`), or a table of keys (`TableHooks`). An attribute without a value here is required; all others have a
default. `check_hooks` holds a module to this, and `hooks_of` is how the rest of omnivec reads it.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ModelError
from omnivec.inputs import modality
from omnivec.inputs.text.tokenizer import Tokenizer
from omnivec.ops.base import Ops, Params, Value
from omnivec.tables.record import Table
from omnivec.types import Floats, Ints, ModalityName
from omnivec.weights.layouts import Row
from omnivec.weights.tensor import Tensor, Weights

ConfigJson = Mapping[str, Any]
"""config.json as published, or those keys of it that the family reads."""
Tensors = Mapping[str, Tensor]
Program = Callable[[Ops, Params, Any, Any], Value]
"""(ops, weights, config, batch) -> what is pooled: (n, t, dim) float32."""


class Encoder(Protocol):
    """What a family makes of a table."""

    @property
    def unit(self) -> str:
        """What `seen` counts: "words", "tokens"."""

    @property
    def nothing(self) -> str:
        """Why a text of which nothing was seen has no vector."""

    def vectors(self, texts: Sequence[str], threads: int = 1) -> tuple[Floats, Ints]:
        """Vectors (n, dim) of texts, and how many words of each they are made of; those of none are not looked at."""

    def spans(self, text: str) -> NDArray[np.int64]:
        """Start and end offsets (n, 2), end exclusive, in characters, of each word that the table sees."""

    def words(self, text: str) -> list[str]:
        """The words of a text that the table sees, as it spells them."""

    def rows(self) -> Floats:
        """The vector of each key (n, dim)."""

    def row(self, key: str) -> Floats | None:
        """The vector (dim,) of a key, or of a word that has one all the same."""


@runtime_checkable
class Labels(Protocol):
    """What an encoder whose table was trained on labels has besides."""

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Of each label for each text: (n, labels) float32."""


class Hooks:
    """The hooks of every family."""

    CLAIMS: Mapping[str, Any]
    """A literal, read without importing: which models the family answers for; see docs/families.md."""

    KNOWN: Mapping[str, Mapping[str, Any]] = {}
    """A literal, read without importing: short name of a model -> sources, sha256, licence, dim, length, example."""


class ComputedHooks(Hooks):
    """The hooks of a family whose vectors are computed from tensors: configuration, weights, and what they need."""

    Config: type[Any]
    """A frozen dataclass of what the forward needs of config.json. It has `dim`, the width of what is pooled; of texts
    `max_length`, the longest in tokens, and `vocab_size`; and where they differ from these `usual_length`, the limit of
    a folder that states none, and `prefix`, how many states at the front are no tokens of the item."""

    Published: type[Any] | None = None
    """A dataclass of further keys that `canonical`, `check_supported` and `load_original` read; `dict` for a family
    that reads and checks the whole file."""

    ALIASES: Mapping[str, str] = {}
    """Published key -> the field of `Config` that it is another spelling of."""

    SHAPES: Mapping[str, tuple[str, ...]] | None = None
    """Name of a tensor -> for each of its axes the field of `Config` that it has to equal, a product "a * b", or "" for
    any length. None where the family holds its weights against the config itself."""

    OWN_CODE: bool = False
    """Whether models with an `auto_map` are read: the family computes what that code does, which is never run."""

    IN_OUT: Sequence[str] = ()
    """The model types whose linear maps are stored as (in, out)."""

    FLOAT32_REASON: str = ""
    """Why bfloat16 is not taken by itself: one line, shown as the reason for float32."""

    USUAL_LENGTH: int | None = None
    """The limit in tokens of a folder that states none; None for `Config.max_length`."""

    POOLING: str = "mean"
    """How tokens are pooled where the folder does not say."""

    PREPROCESSING: Mapping[str, Any] | None = None
    """Of images, in timm's words, for folders that do not say."""

    PREFIXES: Sequence[str] = ()
    """Prefixes of published names that are stripped."""

    LAYOUTS: Sequence[Row] = ()
    """Other published namings, as rows of `weights.rename`: a pattern, and the names that replace it."""

    def check_supported(self, published: ConfigJson) -> None:
        """Raises `UnsupportedModel` for variants that annotations cannot tell; the file is named by the caller."""

    def canonical(self, published: ConfigJson) -> ConfigJson:
        """The published config in one spelling, where values change too."""
        return published

    def load_original(
        self, folder: Path, published: ConfigJson
    ) -> tuple[ConfigJson, Weights, Tokenizer | None] | None:
        """Config, weights and tokenizer of a folder in its makers' own layout; None where it is in the usual one."""
        return None

    def adapt_weights(self, tensors: dict[str, Tensor], config: Any) -> tuple[dict[str, Tensor], Any]:
        """Weights and config where both follow from one another."""
        return tensors, config

    def torch_only_reason(self, tensors: Tensors, config: Any) -> str | None:
        """Why OpenVINO cannot run a model; None where it can."""
        return None


class NetworkHooks(ComputedHooks):
    """The hooks of a family with one program."""

    forward: Program
    """The model, in the order its paper tells it. Of texts `batch` has `ids` and `mask` (n, t) integers and `limit`,
    the most that t may be; of images `pixels` (n, 3, h, w) float32."""

    def pooling(self, config: Any) -> str:
        """How tokens are pooled where the folder does not say and it depends on the config; by default `POOLING`."""
        return self.POOLING


class TowerHooks(ComputedHooks):
    """The hooks of a family with a tower for each modality.

    `forward_text`, `forward_image` and so on: a `Program` for each modality that `towers` names. What it returns is
    (n, 1, dim), in the space of all towers.
    """

    towers: Callable[[ConfigJson], tuple[ModalityName, ...]]
    """The modalities that a model reads, texts first."""

    def with_tokenizer(self, config: Any, tokenizer: Tokenizer) -> Any:
        """The config with what only the model's tokenizer knows, such as its padding."""
        return config

    def logits(self, config: Any, tensors: Tensors) -> tuple[float, float | None] | None:
        """Learned scale and bias of cosines of two modalities; None where nothing was learned."""
        return None


class TableHooks(Hooks):
    """The hooks of a family of tables: nothing is computed but which rows an item means."""

    encoder: Callable[[Table], Encoder]
    """What makes vectors of texts and knows those of keys."""


KINDS: Mapping[type[Hooks], str] = {
    NetworkHooks: "a family of networks",
    TowerHooks: "a family with towers",
    TableHooks: "a family of tables",
}


FORMER_NAMES: Mapping[str, str] = {
    "EXACT": "FLOAT32_REASON",
    "fitted": "adapt_weights",
    "obstacle": "torch_only_reason",
    "original": "load_original",
    "refuse": "check_supported",
    "tokenized": "with_tokenizer",
}
"""Former name of a hook -> its name: families of other packages may define it under either."""


@functools.cache
def forwards() -> tuple[str, ...]:
    """The hooks that are programs of towers, one for each modality, texts first."""
    return tuple(f"forward_{name}" for name in modality.names())


def hooks_of(module: Any) -> NetworkHooks | TowerHooks | TableHooks:
    """The hooks of a family: what its module defines, former names included, and the defaults of the rest."""
    kind = _kind(module)
    hooks, names = kind(), _names(kind)
    former = {
        new: getattr(module, old)
        for old, new in FORMER_NAMES.items()
        if new in names and hasattr(module, old)
    }
    vars(hooks).update(former)
    vars(hooks).update({name: getattr(module, name) for name in names if hasattr(module, name)})
    return hooks


def computed_hooks(module: Any) -> NetworkHooks | TowerHooks:
    """The hooks of a family whose vectors are computed; ModelError of a family of tables."""
    hooks = hooks_of(module)
    if isinstance(hooks, TableHooks):
        raise ModelError(f"{module.__name__} is a family of tables, and computes nothing from config.json")
    return hooks


def program(hooks: NetworkHooks | TowerHooks, tower: str = "") -> Program:
    """The program of a family, or that of one of its towers."""
    forward: Program = getattr(hooks, f"forward_{tower}" if tower else "forward")
    return forward


@functools.cache
def check_hooks(module: ModuleType) -> type[NetworkHooks | TowerHooks | TableHooks]:
    """Which kind of family a module is.

    Every public function that the module itself defines, and every public constant in capitals, has to be a hook of
    its kind: a misspelt one would otherwise be passed over. Helpers are private (`_layer`) or imported. Classes and
    type aliases may have any name that is not mistaken for a hook.

    Raises:
        ModelError: a required hook is missing, or a name is no hook; with the line and the nearest hook.
    """
    kind, defined = _kind(module), _defined(module)
    known, where = _names(kind), Path(module.__file__ or module.__name__).name
    every = {name for each in KINDS for name in _names(each)}
    for name, line in defined.items():
        rivals = [hook for hook in every if hook != name and _is_class(hook) == _is_class(name)]
        near = difflib.get_close_matches(name, rivals, 1, 0.75)
        if FORMER_NAMES.get(name, name) in known or name.startswith("_") or (_is_class(name) and not near):
            continue
        meant = f"did you mean {near[0]}?" if near else "a helper's name begins with an underscore"
        raise ModelError(f"{where}:{line}: {name} is no hook of {KINDS[kind]}; {meant}")
    missing = [name for name in _required(kind) if not hasattr(module, name)]
    if kind is TowerHooks and not any(hasattr(module, name) for name in forwards()):
        missing.append(" or ".join(forwards()[:2]))
    if missing:
        raise ModelError(f"{where}: {missing[0]} is missing, which {KINDS[kind]} defines")
    return kind


def _is_class(name: str) -> bool:
    """Whether a name is written as those of classes are, and neither as a constant's nor as a function's."""
    return not (name.isupper() or name.islower())


def _kind(module: Any) -> type[NetworkHooks | TowerHooks | TableHooks]:
    if hasattr(module, "encoder"):
        return TableHooks
    return TowerHooks if any(hasattr(module, name) for name in ("towers", *forwards())) else NetworkHooks


def _names(kind: type[Hooks]) -> list[str]:
    """All hooks of a kind."""
    listed = {
        name: None
        for base in kind.__mro__[:-1]
        for name in (*base.__annotations__, *vars(base))
        if not name.startswith("_")
    }
    return [*listed, *(forwards() if kind is TowerHooks else ())]


def _required(kind: type[Hooks]) -> list[str]:
    return [name for name in _names(kind) if not hasattr(kind, name) and name not in forwards()]


def _defined(module: ModuleType) -> dict[str, int]:
    """Name -> line of what a module defines itself, at its top level; what it imports is not among it."""
    return dict(_bound(ast.parse(inspect.getsource(module)).body))


def _bound(body: Sequence[ast.stmt]) -> Iterator[tuple[str, int]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = (one for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))
            yield from ((one.id, one.lineno) for one in names if isinstance(one.ctx, ast.Store))
        elif isinstance(node, ast.If | ast.Try):
            yield from _bound([*node.body, *node.orelse])
