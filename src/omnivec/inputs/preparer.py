"""The protocol of preparers, which make a model's input arrays of items, and what they are made from."""

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
    """Options of one call for reading items; those in `encode_options` of a modality apply to it.

    Attributes:
        prompt: text that is put before each item.
        pool_prompt: whether the tokens of the prompt are pooled too.
        truncate: which end of an item beyond the limit is cut off, "tail" or "head"; "error" makes it fail; None is
            what the model's folder specifies.
        chunk: "pool" embeds such an item whole, in parts whose vectors are averaged; None truncates.
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
"""The default: no prompt, and truncation as the model's folder specifies."""


class Preparer(Protocol):
    """Makes the input arrays of one model from items of one modality; may be called from several threads.

    Two attributes are optional: `is_counted`, False if `seen` and `lost` are measured, as seconds are, and not counted
    as tokens are; and `largest`, the largest cost of an item, if it is not `limit`, because that is in another unit.
    """

    @property
    def modality(self) -> ModalityName:
        """Name of the modality."""

    @property
    def unit(self) -> str:
        """Unit of `limit`, `cost`, `seen` and `lost`, such as "tokens" or "pixels"."""

    @property
    def limit(self) -> float:
        """Length limit of an item, in `unit`."""

    @property
    def budget(self) -> int:
        """Largest cost of a batch."""

    @property
    def chunk(self) -> int:
        """Number of items to prepare together."""

    @property
    def room(self) -> MemoryReservation:
        """Memory reservation for reading large items."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The arrays that `collate` makes."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that determines its arrays, in JSON types; included in the model's identity."""

    @property
    def provenance(self) -> Mapping[str, str]:
        """Settings that may change the last digits of a vector."""

    def batch(self, ops: Ops, get: Callable[[str], Value]) -> SimpleNamespace:
        """Makes the input of a family's forward function from named arrays; its `mask` is None without padding."""

    def decode(self, item: Any) -> Any:
        """Decodes an item; ItemError if it is of another modality or cannot be read."""

    def size(self, decoded: Any) -> int:
        """Estimates the cost of an item, for sorting."""

    def key(self, decoded: Any) -> Hashable:
        """Returns a key that is equal for items with the same vector; None if this is not known."""

    def prepare(
        self, decoded: Sequence[Any], reading: ReadOptions = PLAIN
    ) -> Sequence[tuple[Prepared, ...] | ItemError]:
        """Prepares items, each in one or more parts; returns an ItemError in place of one that cannot be prepared."""

    def sample(self) -> dict[str, NDArray[Any]]:
        """Makes a batch of typical size, for measurements."""

    def collate(self, rows: Sequence[Prepared], pool_prompt: bool = True) -> dict[str, NDArray[Any]]:
        """Stacks rows to the arrays of one batch, by name."""


@dataclass(frozen=True, eq=False)
class PreparerSource:
    """The facts about a model that a preparer is made from.

    Attributes:
        family: module of the model's family.
        config: the family's `Config`, made from config.json.
        published: config.json.
        root: folder with the settings of the model.
        tokenizer: tokenizer in the folder; None for a model without one.
        tokenizer_settings: tokenizer_config.json.
        sentence: sentence_bert_config.json, or the file that replaces it.
        lower: whether the settings of the folder convert texts to lower case.
        threads: number of items to decode at the same time.
        decode: for formats that can be decoded at a smaller size, "reduced" does so and "exact" does not.
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
