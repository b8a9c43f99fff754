"""The properties of a model that an embedder needs, the same for every encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnivec.types import Space

Logits = tuple[float, float | None]
"""Scale and bias that turn a cosine into a logit; see `vectors.labels.zero_shot`."""


@dataclass(frozen=True, eq=False)
class Card:
    """Properties of an encoder that do not depend on where it runs.

    Attributes:
        folder: folder that it was read from.
        family: name of its family.
        space: its vector space, with all components.
        limit: length limit of an item, in the unit of its first modality.
        prompts: maps the names of its prompts to their texts, as published.
        default_prompt: name of the prompt that `encode` uses by default; None if there is none.
        normalizes: whether its vectors have length 1.
        parameters: number of parameters.
        stored: whether the weights are those in the folder.
        logits: learned scale and bias that turn a cosine of two modalities into a logit; None if it has none.
        undecoded: number of keys of a table that are not UTF-8, such as "3 of 12"; "" if all are.
        side_of: the model that this encoder is one side of, and can only be saved with; "" for a complete model.
    """

    folder: Path
    family: str
    space: Space
    limit: float
    prompts: Mapping[str, str]
    default_prompt: str | None
    normalizes: bool
    parameters: int
    stored: bool = True
    logits: Logits | None = None
    undecoded: str = ""
    side_of: str = ""
