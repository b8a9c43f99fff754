"""What makes a model's arrays of items: the protocol, and what a modality makes one from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, get_args

from numpy.typing import NDArray

from omnivec.errors import ItemError
from omnivec.ops.base import Input, Ops, Value
from omnivec.ops.process import MemoryReservation
from omnivec.types import Chunk, Decode, ModalityName, Prepared, Truncate
from omnivec.validation.arguments import choice

if TYPE_CHECKING:
    from omnivec.inputs.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class ReadOptions:
    """How items are read, by the options of one call; a modality obeys those that it names in `encode_options`.

    Attributes:
        prompt: what stands before each.
        pool_prompt: whether the prompt's tokens are pooled too.
        truncate: what an item beyond the limit loses: its "tail" or "head"; "error" refuses it; None as the model's
            folder has it.
        chunk: "pool" reads such an item whole, in parts whose vectors are averaged; None truncates.
    """

    prompt: str = ""
    pool_prompt: bool = True
    truncate: Truncate | None = None
    chunk: Chunk | None = None

    def __post_init__(self) -> None:
        if self.truncate is not None:
            choice("truncate", self.truncate, get_args(Truncate))
        if self.chunk is not None:
            choice("chunk", self.chunk, get_args(Chunk))


PLAIN = ReadOptions()
"""Without a prompt, cut as the model's folder has it."""


class Preparer(Protocol):
    """Items of one modality to the arrays of one model; safe to call from several threads."""

    @property
    def modality(self) -> ModalityName:
        """Its name."""

    @property
    def unit(self) -> str:
        """What `limit`, `cost`, `seen` and `lost` count: "tokens", "pixels"."""

    @property
    def limit(self) -> int:
        """Longest item that is not cut, in `unit`."""

    @property
    def budget(self) -> int:
        """Cost that one batch may hold."""

    @property
    def chunk(self) -> int:
        """Items to prepare at a time."""

    @property
    def room(self) -> MemoryReservation:
        """Memory for reading large items."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The arrays that `collate` makes."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes its arrays what they are, in JSON's types; part of the model's identity."""

    @property
    def provenance(self) -> Mapping[str, str]:
        """What may change a vector's last digits, and not its meaning."""

    def batch(self, ops: Ops, get: Callable[[str], Value]) -> SimpleNamespace:
        """What a family's forward takes, of the arrays by name; with `mask`, None where all places count."""

    def decode(self, item: Any) -> Any:
        """What an item holds; ItemError where it is none of this modality or cannot be read."""

    def size(self, decoded: Any) -> int:
        """A rough cost, to sort by."""

    def key(self, decoded: Any) -> Hashable:
        """Equal for items that have one vector; None where that cannot be told."""

    def prepare(
        self, decoded: Sequence[Any], reading: ReadOptions = PLAIN
    ) -> Sequence[tuple[Prepared, ...] | ItemError]:
        """Arrays of items, each in one part or several; in place of one that cannot be prepared stands why."""

    def sample(self) -> dict[str, NDArray[Any]]:
        """A batch of usual size, to measure with."""

    def collate(self, rows: Sequence[Prepared], pool_prompt: bool = True) -> dict[str, NDArray[Any]]:
        """Rows as arrays of one batch, by name."""


@dataclass(frozen=True, eq=False)
class PreparerSource:
    """What a preparer is made from.

    Attributes:
        family: the module of the model's family.
        config: the family's record of config.json.
        published: config.json.
        root: the folder that holds the model's own files.
        tokenizer: the folder's; None of a model that has none.
        tokenizer_settings: tokenizer_config.json.
        sentence: sentence_bert_config.json, or what stands in its place.
        lower: whether texts are lower-cased because the folder's module says so.
        threads: items to decode at a time.
        decode: of formats that can be decoded at a smaller size: "reduced" does so, "exact" never.
    """

    family: ModuleType
    config: Any
    published: Mapping[str, Any]
    root: Path
    tokenizer: Tokenizer | None = None
    tokenizer_settings: Mapping[str, Any] = field(default_factory=dict)
    sentence: Mapping[str, Any] = field(default_factory=dict)
    lower: bool = False
    threads: int = 1
    decode: Decode = "reduced"
