"""What an embedder drives: a network, a table, towers of several modalities, or one of these behind a learned head."""

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
    """A model that makes vectors of items.

    `Network`, `TableModel` and `Towers` are encoders; `Projected` is one around another. `models.loading` makes them
    of folders.
    """

    @property
    def card(self) -> Card:
        """The facts about it."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes its vectors what they are; equal for the same model in another folder, file or precision."""

    @property
    def networks(self) -> Sequence[Network]:
        """What computes, and takes memory for batches; none of a table."""

    @property
    def projection(self) -> Projection | None:
        """The learned head that vectors of its first modality go through; None where there is none."""

    def run(
        self,
        items: Sequence[Any],
        reading: ReadOptions,
        plan: BatchOptions,
        projection: Projection | None = None,
    ) -> Encoded:
        """Vectors of items, in their order, and why the others have none.

        Args:
            items: of its modalities.
            reading: the options of the call.
            plan: how to batch.
            projection: a head for each batch of vectors to go through.
        """

    def part(self, modality: ModalityName) -> Encoder | None:
        """The encoder of one modality; None where it does not read that."""

    def spans(self, text: str) -> NDArray[np.int64]:
        """Start and end offsets (n, 2) in characters, end exclusive, of each token of a text."""

    def reserved_tokens(self, prompt: str) -> int:
        """Tokens of the limit that a prompt and the special tokens take."""

    def facts(self) -> dict[str, Any]:
        """How it pools, and how it runs here, each choice with its reason."""

    def provenance(self) -> dict[str, str]:
        """How exactly it computes: what may change a vector's last digits, not its meaning."""

    def write(self, folder: Path, training: Training | None) -> None:
        """Writes its files into an empty folder, or one that is not there.

        Args:
            folder: where to.
            training: how it was made, for its card; None for a model that is as it was published.
        """
