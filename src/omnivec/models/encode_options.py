"""The options of a call of `Embedder.encode`: checked before any item is read, refused if they do not apply."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np

from omnivec.errors import UsageError
from omnivec.inputs.modality import get, modalities, of, plural
from omnivec.inputs.preparer import PLAIN, ReadOptions
from omnivec.models.facts import Card
from omnivec.types import Chunk, Floats, ModalityName, Truncate
from omnivec.validation import arguments
from omnivec.validation.arguments import said
from omnivec.vectors.unit import unit

_SPECIFIC = ("prompt_name", "prompt", "truncate", "chunk")
"""Options that apply to some modalities only: those whose `encode_options` has them."""


@dataclass(frozen=True)
class EncodeOptions:
    """The options as the caller gave them, None by default; see `Embedder.encode`."""

    batch_size: SupportsIndex | None = None
    prompt_name: str | None = None
    prompt: str | None = None
    normalize_embeddings: bool | None = None
    dim: SupportsIndex | None = None
    truncate: Truncate | None = None
    chunk: Chunk | None = None

    def specific(self) -> list[str]:
        """Returns the names of the given options that apply to some modalities only; "" counts as not given."""
        return [
            name
            for name in _SPECIFIC
            if (value := getattr(self, name)) is not None and not (type(value) is str and not value)
        ]

    def rows(self) -> int:
        """Returns the largest number of rows in a batch; 0 for as many as the budget allows."""
        return 0 if self.batch_size is None else arguments.whole("batch_size", self.batch_size)

    def reading(self, card: Card, default_prompt: str | None = None) -> ReadOptions:
        """Returns the options for the preparer.

        Args:
            card: card of the model.
            default_prompt: the prompt to use if the options name none; None for the default of the model.

        Raises:
            UsageError: an option is invalid, or applies to no modality of the model.
        """
        reads = card.space.modalities
        for name in self.specific():
            if not any(name in get(modality).encode_options for modality in reads):
                raise UsageError(f"{self._of(name)}, but this model reads only {plural(reads)}: leave it out")
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise UsageError(f"prompt={said(self.prompt)}: must be a str, which is put before each text")
        if self.prompt is not None and self.prompt_name is not None:
            raise UsageError(
                f"prompt={said(self.prompt)} and prompt_name={said(self.prompt_name)} are two prompts: give one of them"
            )
        if self.prompt is None and self.prompt_name is None and default_prompt is not None:
            prompt = default_prompt
        else:
            prompt = self.prompt if self.prompt is not None else named_prompt(card, self.prompt_name)
        if not prompt and self.truncate is None and self.chunk is None:
            return PLAIN
        return ReadOptions(prompt, True, self.truncate, self.chunk)

    def refuse_unread(self, card: Card, items: Iterable[Any]) -> None:
        """Raises UsageError if the model has several modalities and an option applies to none of the items."""
        if len(card.space.modalities) < 2 or not (specified := self.specific()):
            return
        present: set[ModalityName] = set()
        for item in items:
            with suppress(Exception):  # an item of unknown modality fails later, with its index
                present.add(of(item))
        for name in specified if present & set(card.space.modalities) else ():
            if not any(name in get(modality).encode_options for modality in present):
                one = next(record.one for record in modalities().values() if name in record.encode_options)
                raise UsageError(f"{self._of(name)}, but no item is {one}: leave it out")

    def _of(self, name: str) -> str:
        """Describes an option for a message: "truncate='head' is an option of texts"."""
        owner = next(record for record in modalities().values() if name in record.encode_options)
        return f"{name}={said(getattr(self, name))} is an option of {owner.plural}"

    def finish(self, card: Card, model_dim: int) -> Callable[[Floats], Floats]:
        """Returns the function that truncates and normalises the model's vectors (n, dim).

        Args:
            card: card of the model.
            model_dim: number of components to keep if the options name none.
        """
        normalize, whole = self.normalize_embeddings, card.space.dim
        if normalize is not None:
            normalize = arguments.flag("normalize_embeddings", normalize)
        width = model_dim if self.dim is None else checked_dim(self.dim, whole)
        cut = width < whole
        shortened = cut or self.chunk is not None  # the mean of vectors of length 1 is shorter than 1
        normalized = bool(normalize) or (shortened and normalize is None and card.normalizes)

        def finish(vectors: Floats) -> Floats:
            out = np.ascontiguousarray(vectors[:, :width]) if cut else vectors
            return unit(out) if normalized else out

        return finish


def named_prompt(card: Card, name: str | None) -> str:
    """Returns a prompt by its name; None is the default of the model, "" if it has none."""
    chosen = name if name is not None else card.default_prompt
    if chosen is None:
        return ""
    if not isinstance(chosen, str) or chosen not in card.prompts:
        known = ", ".join(card.prompts) or "none"
        raise UsageError(f"prompt_name={said(chosen)} is not a prompt of this model, which has: {known}")
    return str(card.prompts[chosen])


def checked_dim(dim: SupportsIndex, whole: int) -> int:
    """Returns a number of components; UsageError if the model's vectors have fewer."""
    try:
        return arguments.whole("dim", dim, 1, whole)
    except UsageError as error:
        raise UsageError(f"{error}; this model's vectors have {whole} components") from None


def refuse_tensors(convert_to_numpy: bool, convert_to_tensor: bool) -> None:
    """Raises UsageError if the caller asks for anything other than NumPy arrays."""
    if arguments.flag("convert_to_tensor", convert_to_tensor) or not arguments.flag(
        "convert_to_numpy", convert_to_numpy
    ):
        raise UsageError(
            "vectors are NumPy arrays: torch.from_numpy(model.encode(items)) makes a tensor without a copy"
        )
