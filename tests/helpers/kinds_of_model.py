"""Toy models of the kinds "multi" and "sparse": a vector for each word of a text, and weights of its words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.preparer import ReadOptions
from omnivec.models.batching import BatchOptions
from omnivec.models.embedder import Embedder
from omnivec.models.encoder import Encoder
from omnivec.models.facts import Card
from omnivec.models.network import Network
from omnivec.types import Encoded, Floats, Ints, Kind, Metric, Space, SparseRow
from omnivec.vectors.alignment import Projection
from omnivec.weights.card import Training

DIM = 16
TERMS = 1000


def word_vector(word: str) -> Floats:
    """The vector (16,) of a word, of length 1."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(DIM)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def words_of(text: str) -> list[str]:
    return text.lower().split()


def parts_of(text: str) -> Floats:
    """(words, 16) float32: what the toy of kind "multi" gives for a text."""
    return np.stack([word_vector(word) for word in words_of(text)])


def weights_of(text: str) -> SparseRow:
    """What the toy of kind "sparse" gives for a text: the logarithm of 1 + how often it has each term."""
    terms = [
        int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % TERMS for word in words_of(text)
    ]
    indices, counts = np.unique(np.array(terms, np.int64), return_counts=True)
    return SparseRow(indices, np.log1p(counts).astype(np.float32))


class Toy:
    """An encoder of texts without weights; `salt` makes it another model."""

    networks: Sequence[Network] = ()
    projection: Projection | None = None

    def __init__(self, kind: Kind, metric: Metric, salt: str = "") -> None:
        space = Space(TERMS if kind == "sparse" else DIM, metric, ("text",), kind)
        self.card = Card(Path(), f"toy {kind}", space, 1000, {}, None, False, 0, stored=False)
        self.identity: Mapping[str, Any] = {
            "family": f"toy {kind}",
            "dim": space.dim,
            "metric": metric,
            "weights": {"float32": f"{kind}{salt}"},
        }

    def run(
        self,
        items: Sequence[Any],
        reading: ReadOptions,
        plan: BatchOptions,
        projection: Projection | None = None,
    ) -> Encoded:
        kept = [i for i, text in enumerate(items) if words_of(text)]
        failures = {i: "it has no words" for i in range(len(items)) if i not in kept}
        seen = np.array([len(words_of(items[i])) for i in kept], np.int64)
        common: dict[str, Any] = {"kept": np.array(kept, np.int64), "failures": failures, "seen": seen}
        common["lost"] = np.zeros(len(kept), np.int64)
        kind = self.card.space.kind
        if kind == "sparse":
            rows = [weights_of(items[i]) for i in kept]
            return Encoded(
                np.concatenate([row.weights for row in rows] or [np.zeros(0, np.float32)]),
                kind=kind,
                offsets=_offsets([len(row.indices) for row in rows]),
                indices=np.concatenate([row.indices for row in rows] or [np.zeros(0, np.int64)]),
                **common,
            )
        parts = [parts_of(items[i]) for i in kept]
        whole = np.concatenate(parts or [np.zeros((0, DIM), np.float32)])
        return Encoded(whole, kind=kind, offsets=_offsets([len(one) for one in parts]), **common)

    def part(self, modality: str) -> Encoder | None:
        return self if modality == "text" else None

    def spans(self, text: str) -> NDArray[np.int64]:
        ends = np.cumsum([len(word) + 1 for word in text.split(" ")]) - 1
        starts = np.concatenate([[0], ends[:-1] + 1])
        return np.stack([starts, ends], axis=1).astype(np.int64)

    def reserved_tokens(self, prompt: str) -> int:
        return 0

    def facts(self) -> dict[str, Any]:
        return {}

    def provenance(self) -> dict[str, str]:
        return {"engine": "toy"}

    def write(self, folder: Path, training: Training | None) -> None:
        raise NotImplementedError


def _offsets(counts: Sequence[int]) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def toy(kind: Kind, metric: Metric = "dot", salt: str = "") -> Embedder:
    """An embedder of kind "multi" or "sparse"."""
    return Embedder(Toy(kind, metric, salt), f"toy-{kind}{salt}", "made here")
