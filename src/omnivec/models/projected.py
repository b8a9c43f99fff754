"""An encoder with a learned head behind it: one side of a joint model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from omnivec.inputs.preparer import ReadOptions
from omnivec.models.batching import BatchOptions
from omnivec.models.encoder import Encoder
from omnivec.types import Encoded, ModalityName, Space

if TYPE_CHECKING:
    from omnivec.vectors.alignment import Projection


class Projected:
    """An encoder whose vectors go through a learned head, into a space that it shares with others.

    Attributes:
        inner: what makes the vectors.
        projection: the head, from these or their first components.
        card: the facts about it.
    """

    def __init__(self, inner: Encoder, projection: Projection, side_of: str) -> None:
        """Puts a head behind an encoder.

        Args:
            inner: what makes the vectors.
            projection: the head.
            side_of: the kind of model that it is one side of.
        """
        self.inner, self.projection = inner, projection
        read = tuple(modality for modality in inner.card.space.modalities if inner.part(modality) is not None)
        space = Space(projection.dims[1], "cosine", read)
        self.card = replace(inner.card, space=space, normalizes=True, side_of=side_of)
        # A head changes vectors, not how they are made.
        self.networks = inner.networks
        self.spans, self.reserved_tokens = inner.spans, inner.reserved_tokens
        self.facts, self.provenance, self.write = inner.facts, inner.provenance, inner.write

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """What makes its vectors what they are."""
        digest = hashlib.sha256()
        for weight, bias in self.projection.layers:
            digest.update(json.dumps(weight.shape).encode() + weight.tobytes() + bias.tobytes())
        head = {"head": digest.hexdigest(), "dim": self.card.space.dim, "metric": "cosine"}
        identity = self.inner.identity
        return {**identity, **head} | ({"normalize": True} if "normalize" in identity else {})

    def run(
        self,
        items: Sequence[Any],
        reading: ReadOptions,
        plan: BatchOptions,
        projection: Projection | None = None,
    ) -> Encoded:
        """Vectors of items, in their order, and why the others have none."""
        return self.inner.run(items, reading, plan, self.projection)

    def part(self, modality: ModalityName) -> Encoder | None:
        """The encoder of one modality; None where it does not read that."""
        inner = self.inner.part(modality)
        return None if inner is None else Projected(inner, self.projection, self.card.side_of)
