"""An encoder followed by a learned head: one side of a joint model."""

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
    """An encoder whose vectors are mapped by a learned head into a space that it shares with other encoders.

    Attributes:
        inner: the encoder that computes the vectors.
        projection: the head, which takes these vectors or their leading components.
        card: properties of the encoder with the head.
    """

    def __init__(self, inner: Encoder, projection: Projection, side_of: str) -> None:
        """Adds a head to an encoder.

        Args:
            inner: the encoder that computes the vectors.
            projection: the head.
            side_of: the model that it is one side of, such as "joint model".
        """
        self.inner, self.projection = inner, projection
        read = tuple(modality for modality in inner.card.space.modalities if inner.part(modality) is not None)
        space = Space(projection.dims[1], "cosine", read)
        self.card = replace(inner.card, space=space, normalizes=True, side_of=side_of)
        # A head changes the vectors, but not how they are computed.
        self.networks = inner.networks
        self.spans, self.reserved_tokens = inner.spans, inner.reserved_tokens
        self.facts, self.provenance, self.write = inner.facts, inner.provenance, inner.write

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Everything that determines its vectors."""
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
        """Embeds items; see `Encoder.run`."""
        return self.inner.run(items, reading, plan, self.projection)

    def part(self, modality: ModalityName) -> Encoder | None:
        """Returns the encoder of one modality; None if it does not read this modality."""
        inner = self.inner.part(modality)
        return None if inner is None else Projected(inner, self.projection, self.card.side_of)
