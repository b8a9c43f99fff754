"""Models of several modalities, with an encoder for each, whose vectors share a space (CLIP, SigLIP, joint models)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.inputs.modality import of, plural
from omnivec.inputs.preparer import ReadOptions
from omnivec.models import batching
from omnivec.models.batching import BatchOptions
from omnivec.models.encoder import Encoder
from omnivec.models.facts import Card
from omnivec.models.network import Network
from omnivec.types import Encoded, ModalityName, Space
from omnivec.validation.reasons import of_item
from omnivec.weights.card import Training

if TYPE_CHECKING:
    from omnivec.vectors.alignment import Projection

Sides = Mapping[str, Encoder]


@dataclass(frozen=True, eq=False)
class Together:
    """How towers behave as a whole, which differs between published families and joint models.

    Attributes:
        card: properties of the whole model.
        identity: see `Encoder`.
        facts: see `Encoder`.
        write: see `Encoder`.
    """

    card: Card
    identity: Callable[[Towers], dict[str, Any]]
    facts: Callable[[Towers], dict[str, Any]]
    write: Callable[[Towers, Path, Training | None], None]


class Towers:
    """An encoder that consists of encoders for several modalities in one space.

    Attributes:
        sides: the encoders by name; each reads one or more modalities.
        card: properties of the whole model.
        parts: the encoder of each modality, texts first.
        shared: modalities that two sides read, for which an item does not determine the side.
    """

    def __init__(self, sides: Sides, together: Together) -> None:
        self.sides, self._together, self.card = sides, together, together.card
        listed = [(modality, side) for side in sides.values() for modality in side.card.space.modalities]
        parts = {modality: part for modality, side in listed if (part := side.part(modality)) is not None}
        self.parts = {modality: parts[modality] for modality in together.card.space.modalities}
        self.shared = frozenset(
            modality for i, (modality, _) in enumerate(listed) if modality in dict(listed[:i])
        )

    @classmethod
    def of(cls, networks: Mapping[str, Network]) -> Towers:
        """Makes towers of the networks of one published model, which share its weights."""
        first = next(iter(networks.values()))
        model, space = first.model, first.card.space
        modalities = tuple(
            modality for network in networks.values() for modality in network.card.space.modalities
        )
        card = replace(first.card, space=Space(space.dim, space.metric, modalities), logits=model.logits)
        return cls(networks, Together(card, _identity, _facts, _write))

    @property
    def networks(self) -> Sequence[Network]:
        """The networks of all sides; tables have none."""
        return [network for side in self.sides.values() for network in side.networks]

    @property
    def projection(self) -> Projection | None:
        """The learned head of the first modality; None if it has none."""
        return self.first.projection

    @property
    def first(self) -> Encoder:
        """The encoder of the first modality."""
        return next(iter(self.parts.values()))

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Everything that determines its vectors."""
        return self._together.identity(self)

    def part(self, modality: ModalityName) -> Encoder | None:
        """Returns the encoder of one modality; None if it does not read this modality."""
        return self.parts.get(modality)

    def spans(self, text: str) -> NDArray[np.int64]:
        """Returns the start and end offsets (n, 2) of each token of a text in characters, end exclusive."""
        return self.first.spans(text)

    def reserved_tokens(self, prompt: str) -> int:
        """Returns how many tokens of the limit a prompt and the special tokens use."""
        return self.first.reserved_tokens(prompt)

    def run(
        self,
        items: Sequence[Any],
        reading: ReadOptions,
        plan: BatchOptions,
        projection: Projection | None = None,
    ) -> Encoded:
        """Embeds each item with the encoder of its modality; see `Encoder.run`.

        Raises:
            UsageError: two sides read the modality of an item.
        """
        failures: dict[int, str] = {}
        meant: list[ModalityName | None] = []
        known = " and ".join(self.parts)
        for i, item in enumerate(items):
            modality = None
            try:
                modality = of(item)
            except BaseException as error:
                failures[i] = of_item(error)
            if modality is not None and modality not in self.parts:
                failures[i] = f"this model reads {known}, but the item is of the modality {modality}"
            meant.append(modality)
        if unclear := self.shared & set(meant):
            raise UsageError(
                f"both sides of the joint model read {plural([min(unclear)])}, so the side must be named: use .left or "
                ".right, whose vectors share one space"
            )
        runs = {
            modality: partial(part.run, reading=reading, plan=plan, projection=projection)
            for modality, part in self.parts.items()
        }
        dim = self.card.space.dim if projection is None else projection.dims[1]
        amount = batching.amount_type(network.preparer for network in self.networks)
        return batching.scatter(items, meant, failures, runs, dim, amount)

    def write(self, folder: Path, training: Training | None) -> None:
        """Writes its files into an empty folder, or a new one."""
        self._together.write(self, folder, training)

    def facts(self) -> dict[str, Any]:
        """Returns how each side runs on this machine."""
        return self._together.facts(self)

    def provenance(self) -> dict[str, str]:
        """Returns engine, precision and versions, for each modality where they differ."""
        values: dict[str, dict[str, str]] = {}
        for modality, part in self.parts.items():
            for name, value in part.provenance().items():
                values.setdefault(name, {})[modality] = value
        return {
            name: next(iter(of.values()))
            if len(set(of.values())) == 1
            else ", ".join(f"{modality} {value}" for modality, value in of.items())
            for name, of in values.items()
        }


def _identity(towers: Towers) -> dict[str, Any]:
    first, *others = towers.sides
    more = {name: network.preparer.identity for name in others for network in towers.sides[name].networks}
    return {**towers.sides[first].identity, "towers": more}


def _facts(towers: Towers) -> dict[str, Any]:
    parts = {name: side.facts() for name, side in towers.sides.items()}
    scale, bias = towers.card.logits or (None, None)
    return {**next(iter(parts.values())), "scale": scale, "bias": bias, "towers": parts}


def _write(towers: Towers, folder: Path, training: Training | None) -> None:
    next(iter(towers.sides.values())).write(folder, training)
