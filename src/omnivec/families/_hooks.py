"""The hooks that the file of a family may define, with their types and defaults.

A family is a module of one of three kinds: a network (`NetworkHooks`), a network with a tower for each modality
(`TowerHooks`), or a table of keys (`TableHooks`). A hook without a value here is required; all others have a default.
`check_hooks` checks a module, and the rest of omnivec reads it by `hooks_of`.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ModelError
from omnivec.inputs import modality
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.inputs.text.tokenizer import Tokenizer
from omnivec.ops.base import Executable, Input, Ops, Params, Value
from omnivec.ops.base import Program as EngineProgram
from omnivec.tables.record import Table
from omnivec.types import Floats, Ints, ModalityName, Transcript
from omnivec.vectors.class_scores import LinearClassifier
from omnivec.weights.layouts import Row
from omnivec.weights.tensor import Tensor, Weights

ConfigJson = Mapping[str, Any]
"""config.json as published, or those keys of it that the family reads."""
Tensors = Mapping[str, Tensor]
Program = Callable[[Ops, Params, Any, Any], Value]
"""(ops, weights, config, batch) -> the vectors that are pooled: (n, t, dim) float32."""


class Encoder(Protocol):
    """Computes vectors of texts from a table of keys."""

    @property
    def unit(self) -> str:
        """The unit that `seen` counts: "words", "tokens"."""

    @property
    def nothing(self) -> str:
        """Why a text without any known word has no vector, for messages."""

    def vectors(self, texts: Sequence[str], threads: int = 1) -> tuple[Floats, Ints]:
        """Vectors (n, dim) of texts, and the number of words (n,) in each; the vector of a text with 0 is not used."""

    def spans(self, text: str) -> NDArray[np.int64]:
        """Start and end offsets (n, 2), end exclusive, in characters, of each word that the vector depends on."""

    def words(self, text: str) -> list[str]:
        """The words of a text that its vector depends on, as the table spells them."""

    def rows(self) -> Floats:
        """The vector of each key (n, dim)."""

    def row(self, key: str) -> Floats | None:
        """The vector (dim,) of a key, or of another word for which the family has one; None for neither."""


@runtime_checkable
class Labels(Protocol):
    """The further method of an encoder whose table was trained on labels."""

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """The probability of each label for each text: (n, labels) float32."""


@dataclass(frozen=True, eq=False)
class TranscriberSource:
    """What a transcriber is made from.

    Attributes:
        folder: the model's folder, with its tokenizer.
        published: config.json.
        config: the family's `Config`.
        tensors: the weights, by the family's names.
        compile: puts a program with these weights on the model's engine: (program, inputs) -> what runs batches.
    """

    folder: Path
    published: ConfigJson
    config: Any
    tensors: Tensors
    compile: Callable[[EngineProgram, Sequence[Input]], Executable]


class Transcriber(Protocol):
    """Writes down the speech in sounds; made once for a model, and may be called from several threads."""

    @property
    def languages(self) -> Sequence[str]:
        """Codes of the languages that it can be told, such as "en"; empty if it cannot be told one."""

    @property
    def rows(self) -> int:
        """Number of sounds to transcribe at a time."""

    def transcribe(
        self, sounds: Sequence[Floats], language: str | None, timestamps: bool
    ) -> Sequence[Transcript]:
        """Writes down some sounds.

        Args:
            sounds: samples (n,) float32 of each at the model's rate, at most `SoundProcessing.seconds` of them.
            language: one of `languages`; None to recognise the language of each sound.
            timestamps: whether segments have their own times; else there is one for each sound that has speech.

        Returns:
            A transcript of each sound, whose times count from the start of the sound.
        """


class Hooks:
    """The hooks of every family."""

    CLAIMS: Mapping[str, Any]
    """A literal, read without importing: the models that belong to the family; see docs/families.md."""

    KNOWN: Mapping[str, Mapping[str, Any]] = {}
    """A literal, read without importing: short name of a model -> sources, sha256, licence, dim, length, example."""


class ComputedHooks(Hooks):
    """The hooks of a family whose vectors are computed from tensors: config.json and weights."""

    Config: type[Any]
    """A frozen dataclass of the keys of config.json that the forward pass needs. It has `dim`, the width of the vectors
    that are pooled; for texts `max_length`, the longest in tokens, and `vocab_size`. It may have `usual_length`, the
    limit for a folder that states none, and `prefix`, the number of leading states that are not of the item itself."""

    Published: type[Any] | None = None
    """A dataclass of further keys that `canonical`, `check_supported` and `load_original` read; `dict` for a family
    that reads and checks the whole file."""

    ALIASES: Mapping[str, str] = {}
    """A published key -> the field of `Config` for which it is another name."""

    SHAPES: Mapping[str, tuple[str, ...]] | None = None
    """Name of a tensor -> for each of its axes the field of `Config` that it has to equal, a product "a * b", or "" for
    any length. None if the family compares weights and config itself."""

    OWN_CODE: bool = False
    """Whether models with an `auto_map` are accepted: the family computes what that code does; it is never run."""

    IN_OUT: Sequence[str] = ()
    """The model types whose linear maps are stored as (in, out)."""

    FLOAT32_REASON: str = ""
    """Why bfloat16 is not chosen automatically: one line, shown as the reason for float32."""

    USUAL_LENGTH: int | None = None
    """The limit in tokens for a folder that states none; None for `Config.max_length`."""

    POOLING: str = "mean"
    """How tokens are pooled if the folder does not specify it."""

    PREPROCESSING: Mapping[str, Any] | None = None
    """Preprocessing of images, as timm's config states it, for folders that do not specify it."""

    PREFIXES: Sequence[str] = ()
    """Prefixes that are stripped from published names."""

    LAYOUTS: Sequence[Row] = ()
    """Other published namings, as rows of `weights.rename`: a pattern, and the names that replace it."""

    def check_supported(self, published: ConfigJson) -> None:
        """Raises `UnsupportedModel` for variants that types cannot rule out; the caller adds the file's name."""

    def canonical(self, published: ConfigJson) -> ConfigJson:
        """The published config with the keys and values of `Config`, where renaming by `ALIASES` is not enough."""
        return published

    def load_original(
        self, folder: Path, published: ConfigJson
    ) -> tuple[ConfigJson, Weights, Tokenizer | None] | None:
        """Config, weights and tokenizer of a folder in its publisher's own layout; None if it has the usual one."""
        return None

    def adapt_weights(self, tensors: dict[str, Tensor], config: Any) -> tuple[dict[str, Tensor], Any]:
        """Weights and config, changed where one depends on the other."""
        return tensors, config

    def torch_only_reason(self, tensors: Tensors, config: Any) -> str | None:
        """Why OpenVINO cannot run a model; None if it can."""
        return None

    def labels(self, published: ConfigJson, tensors: Tensors) -> LinearClassifier | None:
        """The classes that the model was published with and the linear classifier of its vectors; None without one."""
        return None

    def sound(self, config: Any, settings: ConfigJson) -> SoundProcessing:
        """What the model reads of a sound; `settings` is preprocessor_config.json, empty if there is none."""
        raise ModelError("the family does not say what it reads of a sound: it has no hook `sound`")

    def transcriber(self, source: TranscriberSource) -> Transcriber | None:
        """What writes down speech; None if the model cannot, for example because its weights have no decoder."""
        return None


class NetworkHooks(ComputedHooks):
    """The hooks of a family with one program."""

    forward: Program
    """The model, in the order of its paper. For texts, `batch` has `ids` and `mask` (n, t), integers, and `limit`, the
    most that t may be; for images, `pixels` (n, 3, h, w) float32; for sounds, `sound` (n, t, *rows) float32, padded
    with zeros, `lengths` (n,) int32, the real rows of each, and `mask` (n, s) over the states, None for one vector."""

    def pooling(self, config: Any) -> str:
        """How tokens are pooled if the folder does not specify it and it depends on the config; else `POOLING`."""
        return self.POOLING


class TowerHooks(ComputedHooks):
    """The hooks of a family with a tower for each modality.

    `forward_text`, `forward_image` and so on: a `Program` for each modality that `towers` names. What it returns is
    (n, 1, dim), in the space of all towers.
    """

    towers: Callable[[ConfigJson], tuple[ModalityName, ...]]
    """The modalities that a model reads, texts first."""

    def with_tokenizer(self, config: Any, tokenizer: Tokenizer) -> Any:
        """The config, completed with facts of the model's tokenizer, such as the padding token."""
        return config

    def logits(self, config: Any, tensors: Tensors) -> tuple[float, float | None] | None:
        """Learned scale and bias for cosines between two modalities; None if none were learned."""
        return None


class TableHooks(Hooks):
    """The hooks of a family of tables, whose vectors are combined from rows instead of computed by a network."""

    encoder: Callable[[Table], Encoder]
    """Makes the encoder of a table."""


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
    """The hooks of a family: those that its module defines, by former names too, and defaults for the rest."""
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
    """The hooks of a family whose vectors are computed; ModelError for a family of tables."""
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
    """Checks the hooks of a module and returns which kind of family it is.

    Every public function that the module itself defines, and every public constant in capitals, has to be a hook of
    its kind: a misspelt hook would otherwise be ignored. Helpers must be private (`_layer`) or imported. Classes and
    type aliases may have any name that does not resemble a hook.

    Raises:
        ModelError: a required hook is missing, or a name is not a hook; with the line and the closest hook.
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
        raise ModelError(f"{where}:{line}: {name} is not a hook of {KINDS[kind]}; {meant}")
    missing = [name for name in _required(kind) if not hasattr(module, name)]
    if kind is TowerHooks and not any(hasattr(module, name) for name in forwards()):
        missing.append(" or ".join(forwards()[:2]))
    if missing:
        raise ModelError(f"{where}: {missing[0]} is missing, which {KINDS[kind]} defines")
    if kind is not TableHooks:
        _check_config(module, where)
    return kind


def _check_config(module: Any, where: str) -> None:
    """Raises ModelError unless `Config` is a dataclass with what every model of its modality is asked for."""
    config = module.Config
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise ModelError(f"{where}: Config is not a dataclass: write @dataclass(frozen=True) above it")
    reads_text = getattr(module, "CLAIMS", {}).get("modality") == modality.written()
    for name in ("dim", *(("max_length",) if reads_text else ())):
        if not hasattr(config, name) and name not in config.__dataclass_fields__:
            raise ModelError(f"{where}: Config has no {name}: add a field or a property of this name")


def _is_class(name: str) -> bool:
    """Whether a name is written like a class's, neither like a constant's nor like a function's."""
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
    """Name -> line of everything that a module defines at its top level, imports excepted."""
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
