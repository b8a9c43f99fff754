"""The facts about a model that an embedder asks for, the same for every kind of encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnivec.types import Space

Logits = tuple[float, float | None]
"""Scale and bias of cosines; see `vectors.labels.zero_shot`."""


@dataclass(frozen=True, eq=False)
class Card:
    """The facts about an encoder that do not depend on where it runs.

    Attributes:
        folder: where it was read.
        family: name of its family.
        space: its vector space, all components.
        limit: longest item, in the unit of its first modality.
        prompts: by name, as published.
        default_prompt: name of the prompt that is used when none is asked for.
        normalizes: whether its vectors have length 1.
        parameters: numbers in its weights.
        stored: whether the weights are those in the folder.
        logits: what turns a cosine of two modalities into a logit, as it was learned; None where nothing was.
        undecoded: how many keys of a table are no UTF-8, and of how many: "3 of 12"; "" where all are.
        side_of: the kind of model that it is one side of, and is saved with; "" for a model by itself.
    """

    folder: Path
    family: str
    space: Space
    limit: int
    prompts: Mapping[str, str]
    default_prompt: str | None
    normalizes: bool
    parameters: int
    stored: bool = True
    logits: Logits | None = None
    undecoded: str = ""
    side_of: str = ""
