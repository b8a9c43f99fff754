"""The protocol of encoders: a network, a table, towers of several modalities, or one of these with a learned head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.preparer import ReadOptions
from omnivec.models.batching import BatchOptions
from omnivec.models.facts import Card
from omnivec.models.network import Network
from omnivec.types import Encoded, ModalityName
from omnivec.weights.card import Training

if TYPE_CHECKING:
    from omnivec.vectors.alignment import Projection


class Encoder(Protocol):
    """A model that computes vectors of items; an `Embedder` is a front end to one.

    `Network`, `TableModel` and `Towers` are encoders; `Projected` wraps another one. `models.loading` makes them from
    folders.
    """

    @property
    def card(self) -> Card:
        """Properties of the model that do not depend on where it runs."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that determines its vectors; equal for one model in any folder, file format and precision."""

    @property
    def networks(self) -> Sequence[Network]:
        """The networks that compute, and need memory for batches; empty for a table."""

    @property
    def projection(self) -> Projection | None:
        """The learned head that is applied to the vectors of the first modality; None if there is none."""

    def run(
        self,
        items: Sequence[Any],
        reading: ReadOptions,
        plan: BatchOptions,
        projection: Projection | None = None,
    ) -> Encoded:
        """Embeds items.

        Args:
            items: items of its modalities.
            reading: options for the preparer.
            plan: options of the batching loop.
            projection: a learned head that is applied to each batch of vectors.

        Returns:
            The vectors of the items that succeeded, in their order, and the reasons of those that failed.
        """

    def part(self, modality: ModalityName) -> Encoder | None:
        """Returns the encoder of one modality; None if it does not read this modality."""

    def spans(self, text: str) -> NDArray[np.int64]:
        """Returns the start and end offsets (n, 2) of each token of a text in characters, end exclusive."""

    def reserved_tokens(self, prompt: str) -> int:
        """Returns how many tokens of the limit a prompt and the special tokens use."""

    def facts(self) -> dict[str, Any]:
        """Returns how it pools and how it runs on this machine, with the reason for each choice."""

    def provenance(self) -> dict[str, str]:
        """Returns engine, precision and versions: what may change the last digits of a vector."""

    def write(self, folder: Path, training: Training | None) -> None:
        """Writes its files into an empty folder, or a new one.

        Args:
            folder: the folder.
            training: how it was trained, for its card; None for a model that is as it was published.
        """
