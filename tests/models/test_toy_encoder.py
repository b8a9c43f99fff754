"""An embedder drives whatever is an `Encoder`: one of a few lines, that counts letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from omnivec.errors import ItemErrors, ModelError, UsageError
from omnivec.inputs.preparer import ReadOptions
from omnivec.models import batching
from omnivec.models.batching import BatchOptions
from omnivec.models.embedder import Embedder
from omnivec.models.encoder import Encoder
from omnivec.models.facts import Card
from omnivec.models.network import Network
from omnivec.testing import check_embedder
from omnivec.types import Encoded, Floats, Ints, Space
from omnivec.vectors.alignment import Projection
from omnivec.weights.card import Training

LETTERS = "abcdef"


class Counting:
    """How often a text has each of six letters; one half of a cipher, which is saved with the other."""

    card = Card(Path(), "letters", Space(6, "dot", ("text",)), 100, {}, None, False, 0, side_of="cipher")
    identity: Mapping[str, Any] = {"family": "letters", "weights": {}}
    networks: Sequence[Network] = ()
    projection: Projection | None = None
    dim, unit, nothing = 6, "letters", "it has none of the letters"

    def run(
        self,
        items: Sequence[Any],
        reading: ReadOptions,
        plan: BatchOptions,
        projection: Projection | None = None,
    ) -> Encoded:
        return batching.run_whole(items, self, reading, plan, projection)

    def decode(self, item: Any) -> str:
        return str.__str__(item)

    def vectors(self, decoded: Sequence[str], reading: ReadOptions) -> tuple[Floats, Ints]:
        found = np.array(
            [[(reading.prompt + text).count(a) for a in LETTERS] for text in decoded], np.float32
        )
        return found, found.sum(axis=1).astype(np.int64)

    def part(self, modality: str) -> Encoder | None:
        return self if modality == "text" else None

    def spans(self, text: str) -> NDArray[np.int64]:
        return np.array([(i, i + 1) for i, letter in enumerate(text) if letter in LETTERS], np.int64)

    def reserved_tokens(self, prompt: str) -> int:
        return len(self.spans(prompt))

    def facts(self) -> dict[str, Any]:
        return {}

    def provenance(self) -> dict[str, str]:
        return {"engine": "counting"}

    def write(self, folder: Path, training: Training | None) -> None:
        raise NotImplementedError


def test_an_encoder_of_ones_own_keeps_the_contract() -> None:
    model = Embedder(Counting(), "letters", "made here")
    check_embedder(model, ["abc", "a bad face", "deaf"])
    assert model.encode("abba").tolist() == [2, 2, 0, 0, 0, 0]
    assert model.encode("abba", prompt="c", dim=3).tolist() == [2, 2, 1]
    assert model.encode("ab", normalize_embeddings=True) == pytest.approx([0.5**0.5] * 2 + [0.0] * 4)
    with pytest.raises(ItemErrors, match="it has none of the letters"):
        model.encode(["abc", "xyz"])
    with pytest.raises(ModelError, match="one side of a cipher"):
        model.save("anywhere")
    with pytest.raises(UsageError, match="tokens: letters is a table"):
        model.tokens("abc")
    assert repr(model) == "<Embedder 'letters': text, 6 components, dot>"
