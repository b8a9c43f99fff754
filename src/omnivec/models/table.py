"""A model that is a table: nothing is computed but which rows an item means, and their mean.

Families of this kind are a file of families/ too, with a function `encoder` in place of `forward`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec import weights
from omnivec.errors import UnsupportedModel
from omnivec.families._hooks import Encoder
from omnivec.inputs.modality import of, written
from omnivec.inputs.preparer import Reading
from omnivec.inputs.text import text
from omnivec.models import batching, registry
from omnivec.models.batching import Plan
from omnivec.models.facts import Card
from omnivec.models.network import Network
from omnivec.models.runtime import open_cpus
from omnivec.tables.formats.own import write_own
from omnivec.tables.record import MODEL_TYPES, Table
from omnivec.types import Encoded, Floats, Key, Keys, Modality, Space
from omnivec.validation.json_files import read_json
from omnivec.vectors.alignment import Head
from omnivec.vectors.unit import unit
from omnivec.version import VERSION
from omnivec.weights.card import CARD, Training, card_of
from omnivec.weights.sentence_files import modules
from omnivec.weights.tensor import from_array

ENGINE = "table"
UNLIMITED = 2**31 - 1
"""The limit of what has none."""


class TableModel:
    """A table as an encoder: nothing is computed but which rows an item means, and their mean.

    Attributes:
        table: keys, vectors and what belongs to them.
        lookup: texts and keys to vectors, by its family.
        threads: that cut and pool texts.
        card: the facts about it.
        dim: length of a vector.
        projection: None; see `models.encoder.Encoder`.
    """

    projection: Head | None = None

    def __init__(
        self, folder: Path, name: str, table: Table, lookup: Encoder, stored: bool = True, threads: int = 1
    ) -> None:
        """A table that was read, or made.

        Args:
            folder: where it was read; a file, or a folder.
            name: of its family.
            table: keys, vectors and what belongs to them.
            lookup: texts and keys to vectors, by its family.
            stored: whether it is as the folder has it.
            threads: that cut and pool texts.
        """
        self.table, self.lookup, self.threads, self.dim = table, lookup, threads, table.dim
        settings = table.settings
        default = settings.get("default_prompt_name")
        self.card = Card(
            folder=folder,
            family=name,
            space=Space(table.dim, settings.get("similarity_fn_name") or "cosine", (written(), of(Key("")))),
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
        """None: nothing is computed."""
        return ()

    @property
    def unit(self) -> str:
        """What `seen` counts."""
        return self.lookup.unit

    @property
    def nothing(self) -> str:
        """Why a text of which nothing was seen has no vector."""
        return self.lookup.nothing

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """What makes its vectors what they are; equal for the same table in another folder or file."""
        table, card = self.table, self.card
        keys = json.dumps([list(table.keys), list(table.words.keys) if table.words else []])
        own = table.subwords
        grams = [own.min_n, own.max_n, own.hashed_to] if own else []
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
        self, items: Sequence[Any], reading: Reading, plan: Plan, projection: Head | None = None
    ) -> Encoded:
        """Vectors of items, in their order, and why the others have none."""
        return batching.run_whole(items, self, reading, plan, projection)

    def part(self, modality: Modality) -> TableModel | None:
        """The encoder of one modality; None where it does not read that."""
        # Keys are looked up by their names, and not read.
        return self if modality == self.card.space.modalities[0] else None

    def decode(self, item: Any) -> str:
        """The text of an item; ItemError where it has none."""
        return text.decode(item)

    def vectors(self, decoded: Sequence[str], reading: Reading) -> tuple[Floats, Keys]:
        """Vectors (n, dim) of texts, and how many words of each they are made of (n,)."""
        prompt = reading.prompt
        shown = [prompt + each for each in decoded] if prompt else decoded
        vectors, seen = self.lookup.vectors(shown, self.threads)
        if self.card.normalizes:
            vectors = unit(vectors)
        return vectors, seen

    def spans(self, text: str) -> NDArray[np.int64]:
        """Start and end offsets (n, 2) in characters, end exclusive, of each word that the table sees."""
        return self.lookup.spans(text)

    def reserved_tokens(self, prompt: str) -> int:
        """Words of the limit that a prompt takes."""
        return len(self.lookup.spans(prompt)) if prompt else 0

    def write(self, folder: Path, training: Training | None) -> None:
        """Writes its files into an empty folder, or one that is not there."""
        write_own(folder, self.table)
        (folder / CARD).write_bytes(card_of(self.card.folder, self.card.stored, training))

    def facts(self) -> dict[str, Any]:
        """How it pools, and how it runs here."""
        return {
            "pooling": ["mean"],
            "keys": len(self.table),
            "subwords": self.table.subwords is not None,
            "weighted": self.table.weights is not None,
            "steps": ["Normalize"] if self.card.normalizes else [],
            **{name: value for name, value in self.provenance().items() if name != "omnivec"},
        }

    def provenance(self) -> dict[str, str]:
        """How exactly it computes."""
        return {"omnivec": VERSION, "engine": ENGINE, "precision": "float32", "device": "cpu"}

    def _arrays(self) -> dict[str, Any]:
        """Its matrices by name."""
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
    """Whether a model's file or folder is a table; a folder is judged by config.json and modules.json alone."""
    if not place.is_dir():
        return True
    config = read_json(place / "config.json", {}, dict)
    listed = modules(place)
    first = listed[0].type if listed else ""
    return config.get("model_type") in (*MODEL_TYPES, "model2vec") or first.endswith("StaticEmbedding")


@dataclass(frozen=True)
class Rows:
    """Which rows of a table are read, and how.

    Attributes:
        limit: the first so many; None for all.
        errors: of keys that are no UTF-8: "strict", "replace" or "ignore".
    """

    limit: int | None = None
    errors: str = "replace"


def read_table_model(place: Path, threads: int | None = None, rows: Rows | None = None) -> TableModel:
    """A table from a file or folder in one of `tables.io.FORMATS`."""
    from omnivec.tables.io import read_table, sniff  # A network is no file of a table's forms.

    rows = rows or Rows()
    try:
        form = sniff(place)
    except UnsupportedModel as error:
        raise UnsupportedModel(
            f"{error}. Of a model that is no table give the folder that holds it"
        ) from error
    table = read_table(place, rows.limit or 0, form, errors=rows.errors)
    # What some rows are is not what the file is: its identity is not kept as that of the file.
    return table_model(table, place, rows == Rows(), threads)


def table_model(table: Table, place: Path, stored: bool, threads: int | None = None) -> TableModel:
    """A table as a model, by the family that it is of; `threads` by default as many as there are CPUs."""
    name = table.kind
    return TableModel(place, name, table, _family(name).encoder(table), stored, threads or open_cpus())


def _family(name: str) -> ModuleType:
    family = registry.families().get(name)
    if family is None:
        raise UnsupportedModel(f"no family {name!r} is there to read a table of its kind")
    return family.load()
