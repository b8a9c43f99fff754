"""A model of several modalities: a tower for each, whose vectors lie in one space (CLIP, SigLIP, joint models)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.inputs.modality import of
from omnivec.inputs.text.text import Reading
from omnivec.models.batching import Plan
from omnivec.models.model import Model
from omnivec.models.network import Choice, Compiled
from omnivec.models.table import TableModel
from omnivec.types import Encoded, Metric, Modality, Space
from omnivec.validation.reasons import of_item

Tower = Compiled | TableModel
Logits = tuple[float, float | None]
"""Scale and bias of cosines; see `tasks.zero_shot`."""


@dataclass(frozen=True, eq=False)
class Towers:
    """The programs of each modality; the counterpart of `compiled.Compiled`.

    Attributes:
        parts: of each modality its own, texts first.
    """

    parts: Mapping[Modality, Tower]

    @classmethod
    def of(cls, models: Mapping[Modality, Model], choice: Choice, trials: Path) -> Towers:
        """Each model on its engine."""
        return cls({modality: Compiled(model, choice, trials) for modality, model in models.items()})

    @property
    def model(self) -> Towers:
        """Itself: what is said of the model is said of both towers."""
        return self

    @property
    def texts(self) -> Compiled:
        """The network of texts; UsageError where there is none."""
        found = self.parts.get("text")
        if not isinstance(found, Compiled):
            raise UsageError(
                f"{self.folder}: no network reads texts here, so there are no states of their tokens"
            )
        return found

    @property
    def networks(self) -> list[Compiled]:
        """What computes, tables left out."""
        return [part for part in self.parts.values() if isinstance(part, Compiled)]

    @property
    def _first(self) -> Model | TableModel:
        return next(iter(self.parts.values())).model

    @property
    def folder(self) -> Path:
        """Where it was read."""
        return self._first.folder

    @property
    def name(self) -> str:
        """Of its family."""
        return self._first.name

    @property
    def stored(self) -> bool:
        """Whether the weights are those in the folder."""
        return self._first.stored

    @property
    def space(self) -> Space:
        """Its vector space."""
        own = self._first.space
        return Space(own.dim, own.metric, tuple(self.parts))

    @property
    def metric(self) -> Metric:
        """Of its space."""
        return self._first.metric

    @property
    def limit(self) -> int:
        """Longest text in tokens."""
        return self._first.limit

    @property
    def normalizes(self) -> bool:
        """Whether vectors have length 1."""
        return self._first.normalizes

    @property
    def logits(self) -> Logits | None:
        """What turns a cosine of two modalities into a logit, as it was learned; None where nothing was."""
        first = self._first
        if isinstance(first, Model) and hasattr(first.family, "logits"):
            scale, bias = first.family.logits(first.config, first.tensors)
            return scale, bias
        return None

    @property
    def prompts(self) -> Mapping[str, str]:
        """By name, as published."""
        return self._first.prompts

    @property
    def default_prompt(self) -> str | None:
        """The prompt that is used when none is asked for."""
        return self._first.default_prompt

    @property
    def parameters(self) -> int:
        """Numbers in the weights of all towers."""
        return self._first.parameters

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes its vectors what they are."""
        others = {
            modality: part.model.preparer.identity
            for modality, part in self.parts.items()
            if modality != "text" and isinstance(part, Compiled)
        }
        return {**self._first.identity, "towers": others}

    def spans(self, text: str) -> NDArray[np.int64]:
        """First and behind-last character (n, 2) of each token of a text."""
        return self._first.spans(text)

    def taken(self, prompt: str) -> int:
        """Tokens of the limit that a prompt and the special tokens take."""
        return self._first.taken(prompt)

    def run(self, items: Sequence[Any], reading: Reading, plan: Plan) -> Encoded:
        """Vectors of items, each through the tower of its modality, in their order; why the others have none."""
        failures: dict[int, str] = {}
        meant = [self._meant(i, item, failures) for i, item in enumerate(items)]
        dim, units = self.space.dim, []
        vectors, seen, lost = np.zeros((len(items), dim), np.float32), *np.zeros((2, len(items)), np.int64)
        kept = np.zeros(len(items), bool)
        known = " and ".join(self.parts)
        failures |= {
            i: f"this model reads {known}, and this is of the modality {own}"
            for i, own in enumerate(meant)
            if own is not None and own not in self.parts
        }
        for modality, part in self.parts.items():
            places = np.array([i for i, own in enumerate(meant) if own == modality], np.int64)
            if not len(places):
                continue
            encoded = part.run([items[i] for i in places], reading, plan)
            units.append(encoded.unit)
            rows = places[encoded.kept]
            vectors[rows], seen[rows], lost[rows], kept[rows] = (
                encoded.vectors,
                encoded.seen,
                encoded.lost,
                True,
            )
            failures |= {int(places[i]): why for i, why in encoded.failures.items()}
        return Encoded(
            vectors[kept],
            np.flatnonzero(kept),
            dict(sorted(failures.items())),
            seen[kept],
            lost[kept],
            " and ".join(units) or "tokens",
        )

    def _meant(self, i: int, item: Any, failures: dict[int, str]) -> Modality | None:
        """What an item is; None where it cannot say so, and why in `failures`."""
        try:
            return modality_of(item)
        except BaseException as error:
            failures[i] = of_item(error)
            return None

    def facts(self) -> dict[str, Any]:
        """How it runs here, of each modality."""
        parts = {modality: part.facts() for modality, part in self.parts.items()}
        scale, bias = self.logits or (None, None)
        return {**next(iter(parts.values())), "scale": scale, "bias": bias, "towers": parts}

    def provenance(self) -> dict[str, str]:
        """How exactly it computes; of each tower where they differ."""
        said: dict[str, dict[str, str]] = {}
        for modality, part in self.parts.items():
            for name, value in part.provenance().items():
                said.setdefault(name, {})[modality] = value
        return {
            name: next(iter(of.values()))
            if len(set(of.values())) == 1
            else ", ".join(f"{modality} {value}" for modality, value in of.items())
            for name, of in said.items()
        }


def modality_of(item: Any) -> Modality:
    """What an item is: a str is a text, always; a file by its name; bytes, arrays and pictures are images.

    Raises:
        ItemError: none of these.
    """
    return of(item)


Program = Tower | Towers
"""What a model is loaded to."""
