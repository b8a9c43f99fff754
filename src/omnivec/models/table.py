"""Models that are tables of vectors: the vector of an item is the mean of the rows that it selects.

The families of tables are files in families/ too, with a function `encoder` instead of `forward`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnivec import weights
from omnivec.errors import ItemError, UnsupportedModel
from omnivec.families._hooks import Encoder
from omnivec.inputs.items import shown
from omnivec.inputs.modality import get, misread, of, written
from omnivec.inputs.preparer import ReadOptions
from omnivec.inputs.text import text
from omnivec.models import batching, registry
from omnivec.models.batching import BatchOptions
from omnivec.models.facts import Card
from omnivec.models.network import Network
from omnivec.models.runtime import open_cpus
from omnivec.tables.record import MODEL_TYPES, Table
from omnivec.types import Encoded, Floats, Ints, Key, ModalityName, Space
from omnivec.validation.json_files import read_json
from omnivec.vectors.unit import unit
from omnivec.version import VERSION
from omnivec.weights.card import CARD, Training, card_of
from omnivec.weights.sentence_files import modules
from omnivec.weights.tensor import from_array

if TYPE_CHECKING:
    from omnivec.vectors.alignment import Projection

ENGINE = "table"
UNLIMITED = 2**31 - 1
"""The length limit of models that have none."""


class TableModel:
    """A table as an encoder: the vector of an item is the mean of the rows that it selects.

    Attributes:
        table: keys, vectors, subwords and settings.
        lookup: maps texts and keys to vectors; made by the family.
        threads: number of threads that tokenize and pool texts.
        card: properties of the model.
        dim: length of a vector.
        projection: always None; see `models.encoder.Encoder`.
    """

    projection: Projection | None = None

    def __init__(
        self,
        folder: Path,
        name: str,
        table: Table,
        lookup: Encoder,
        stored: bool = True,
        threads: int = 1,
        reads: ModalityName | None = None,
    ) -> None:
        """Makes an encoder of a table.

        Args:
            folder: file or folder that the table was read from.
            name: name of its family.
            table: keys, vectors, subwords and settings.
            lookup: maps texts and keys to vectors; made by the family.
            stored: whether the table is the same as in the folder.
            threads: number of threads that tokenize and pool texts.
            reads: the modality that it embeds besides keys; None for texts, "key" for none.
        """
        self.table, self.lookup, self.threads, self.dim = table, lookup, threads, table.dim
        settings = table.settings
        default = settings.get("default_prompt_name")
        modalities = dict.fromkeys((reads or written(), of(Key(""))))
        self.card = Card(
            folder=folder,
            family=name,
            space=Space(table.dim, settings.get("similarity_fn_name") or "cosine", tuple(modalities)),
            limit=UNLIMITED,
            prompts=dict(settings.get("prompts") or {}),
            default_prompt=str(default) if default else None,
            normalizes=bool(settings.get("normalize", False)),
            parameters=sum(int(np.prod(array.shape)) for array in self._arrays().values()),
            stored=stored,
            undecoded=f"{table.undecoded:,} of {len(table):,}" if table.undecoded else "",
        )

    @property
    def networks(self) -> Sequence[Network]:
        """Empty: a table has no network."""
        return ()

    @property
    def unit(self) -> str:
        """Unit of `seen`."""
        return self.lookup.unit

    @property
    def nothing(self) -> str:
        """Reason why a text has no vector if none of its words has one."""
        return self.lookup.nothing

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Everything that determines its vectors; equal for the same table in another folder or file format."""
        table, card = self.table, self.card
        keys = json.dumps([list(table.keys), list(table.words.keys) if table.words else []])
        subwords = table.subwords
        grams = [subwords.min_n, subwords.max_n, subwords.hashed_to] if subwords else []
        spelling = hashlib.sha256(keys.encode() + (table.tokenizer or b"")).hexdigest()
        tensors = {name: from_array(name, np.asarray(array)) for name, array in self._arrays().items()}
        return {
            "family": card.family,
            "weights": weights.content_hashes(tensors),
            "tokenizer": spelling,
            "subwords": grams,
            "normalize": card.normalizes,
            "prompts": {name: prompt for name, prompt in card.prompts.items() if prompt},
            "dim": table.dim,
            "metric": card.space.metric,
        }

    def run(
        self,
        items: Sequence[Any],
        reading: ReadOptions,
        plan: BatchOptions,
        projection: Projection | None = None,
    ) -> Encoded:
        """Embeds items; see `Encoder.run`."""
        return batching.run_whole(items, self, reading, plan, projection)

    def part(self, modality: ModalityName) -> TableModel | None:
        """Returns the encoder of one modality; None if it does not read this modality."""
        # Keys of a word table are looked up by their names; they are not a modality that is read.
        return self if modality == self.card.space.modalities[0] else None

    def decode(self, item: Any) -> str | Key:
        """Returns the text of an item, or the key itself; ItemError if it is neither, or the table lacks the key."""
        if isinstance(item, Key):
            if not isinstance(item.name, str) or self.lookup.row(item.name) is None:
                raise ItemError(f"{shown(item.name)}: not among the table's {len(self.table):,} keys")
            return item
        reads = self.card.space.modalities
        if written() in reads:
            return text.decode(item)
        if isinstance(item, str):
            name = shown(item)
            raise ItemError(
                f"{name} is a text, but this table has only {get(reads[0]).plural}: give Key({name}), or call "
                f"vector({name})"
            )
        raise misread(item, reads) or ItemError(f"{shown(item)} is not a key: give {get(reads[0]).given}")

    def vectors(self, decoded: Sequence[str | Key], reading: ReadOptions) -> tuple[Floats, Ints]:
        """Returns the vectors (n, dim) of texts and keys, and the number of words that each is made of (n,)."""
        texts = [reading.prompt + one for one in decoded if not isinstance(one, Key)]
        if len(texts) == len(decoded):
            vectors, seen = self.lookup.vectors(texts, self.threads)
        else:
            rows = [self.lookup.row(one.name) if isinstance(one, Key) else None for one in decoded]
            by_name = np.array([row is not None for row in rows])
            vectors, seen = np.empty((len(decoded), self.dim), np.float32), np.ones(len(decoded), np.int64)
            vectors[by_name] = [row for row in rows if row is not None]
            if texts:
                vectors[~by_name], seen[~by_name] = self.lookup.vectors(texts, self.threads)
        if self.card.normalizes:
            vectors = unit(vectors)
        return vectors, seen

    def spans(self, text: str) -> NDArray[np.int64]:
        """Returns the start and end offsets (n, 2) of each word of a text in characters, end exclusive."""
        return self.lookup.spans(text)

    def reserved_tokens(self, prompt: str) -> int:
        """Returns the number of words of a prompt."""
        return len(self.lookup.spans(prompt)) if prompt else 0

    def write(self, folder: Path, training: Training | None) -> None:
        """Writes its files into an empty folder, or a new one."""
        from omnivec.tables.formats.own import write_own  # imported here, since a search does not need it

        write_own(folder, self.table)
        (folder / CARD).write_bytes(card_of(self.card.folder, self.card.stored, training))

    def facts(self) -> dict[str, Any]:
        """Returns how it pools and how it runs on this machine."""
        return {
            "pooling": ["mean"],
            "keys": len(self.table),
            "subwords": self.table.subwords is not None,
            "weighted": self.table.weights is not None,
            "steps": ["Normalize"] if self.card.normalizes else [],
            **{name: value for name, value in self.provenance().items() if name != "omnivec"},
        }

    def provenance(self) -> dict[str, str]:
        """Returns engine, precision and versions."""
        return {"omnivec": VERSION, "engine": ENGINE, "precision": "float32", "device": "cpu"}

    def _arrays(self) -> dict[str, Any]:
        """Returns the arrays of the table by name."""
        parts = {"": self.table} | ({} if self.table.words is None else {"words.": self.table.words})
        return {
            prefix + name: array
            for prefix, part in parts.items()
            for name, array in (
                ("vectors", part.vectors),
                ("weights", part.weights),
                ("subwords", None if part.subwords is None else part.subwords.vectors),
                ("buckets", None if part.subwords is None else part.subwords.buckets),
                ("output", part.output),
            )
            if array is not None
        }


def is_table(place: Path) -> bool:
    """Whether a model is a table; every file is, and a folder is judged by its config.json and modules.json."""
    if not place.is_dir():
        return True
    config = read_json(place / "config.json", {}, dict)
    listed = modules(place)
    first = listed[0].type if listed else ""
    return config.get("model_type") in (*MODEL_TYPES, "model2vec") or first.endswith("StaticEmbedding")


@dataclass(frozen=True)
class RowSelection:
    """Options for reading a table.

    Attributes:
        limit: number of leading rows to read; None for all.
        errors: how to decode keys that are not UTF-8: "strict", "replace" or "ignore".
    """

    limit: int | None = None
    errors: str = "replace"


def read_table_model(place: Path, threads: int | None = None, rows: RowSelection | None = None) -> TableModel:
    """Reads a table from a file or folder in one of `tables.io.FORMATS`."""
    from omnivec.tables.io import read_table, sniff  # imported here, since networks do not need it

    rows = rows or RowSelection()
    try:
        form = sniff(place)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{error}. If the model is not a table, give its folder") from error
    table = read_table(place, rows.limit or 0, form, errors=rows.errors)
    # If only some rows are read, the table is not that of the file, and its hash must not be stored as the file's.
    return table_model(table, place, rows == RowSelection(), threads)


def table_model(table: Table, place: Path, stored: bool, threads: int | None = None) -> TableModel:
    """Makes an encoder of a table with the family for its kind; uses all CPUs unless `threads` is given."""
    family = registry.families().get(table.kind)
    if family is None:
        raise UnsupportedModel(f"there is no family {table.kind!r}, which this table needs")
    reads = family.claims.get("modality")
    encoder: Encoder = family.load().encoder(table)
    return TableModel(place, table.kind, table, encoder, stored, threads or open_cpus(), reads)
