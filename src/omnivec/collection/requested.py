"""The models that the caller of a collection requests, and the names of spaces that the caller chooses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnivec.errors import UsageError
from omnivec.inputs.items import shown
from omnivec.inputs.modality import modalities as known_modalities
from omnivec.inputs.modality import readable
from omnivec.models.embedder import Embedder
from omnivec.models.loading import name_or_folder
from omnivec.types import ModalityName
from omnivec.validation.arguments import said

ModelSource = str | Path | Embedder
"""A model: its name, its folder, or a loaded embedder."""

_NAME = re.compile("[a-z][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class RequestedModels:
    """The models that the caller requests.

    Attributes:
        default: the model for all modalities that it reads.
        by_modality: maps a modality to its model; empty if `default` is set.
        named: maps the name that the caller chose for a space to its model; empty if `default` is set.
        transcriber: the model that writes down speech; None for the recorded one, "" for none.
    """

    default: ModelSource | None = None
    by_modality: Mapping[ModalityName, ModelSource] = field(default_factory=dict)
    named: Mapping[str, ModelSource] = field(default_factory=dict)
    transcriber: ModelSource | None = None

    @classmethod
    def of(
        cls,
        model: ModelSource | None,
        models: Mapping[str, ModelSource] | None,
        transcriber: ModelSource | None = None,
    ) -> RequestedModels:
        """Checks the arguments `model`, `models` and `transcriber` of a collection."""
        if transcriber is not None and not isinstance(transcriber, Embedder):
            transcriber = name_or_folder(transcriber)
        if models is None:
            checked = model if model is None or isinstance(model, Embedder) else name_or_folder(model)
            return cls(checked, transcriber=transcriber)
        if model is not None or not isinstance(models, Mapping) or not models:
            listed = list(models) if isinstance(models, Mapping) else models
            raise UsageError(
                f"models={said(listed)}: give either model=, or models= with a model for "
                f"{' or '.join(map(repr, readable()))}, or for {'both' if len(readable()) == 2 else 'several'}"
            )
        by_modality = {name: one for name, one in models.items() if name in readable()}
        named = {checked_name(name): one for name, one in models.items() if name not in readable()}
        for name, one in models.items():
            if not isinstance(one, str | Path | Embedder) and (one is not None or name in named):
                raise UsageError(
                    f"the model of {name!r} is {shown(one)}: give a name, a folder or a loaded model"
                )
        return cls(None, by_modality, named, transcriber)

    def holds(self, model: Embedder) -> bool:
        """Whether the caller has passed this loaded embedder."""
        return any(
            model is source for source in (self.default, *self.by_modality.values(), *self.named.values())
        )


def checked_name(name: Any, given: str = "models={{{!r}: ...}}") -> str:
    """Returns the name of a space that a caller has chosen; UsageError if it cannot be one.

    Args:
        name: the name.
        given: how the name was given, for messages.
    """
    written = given.format(name)
    if name in readable():
        raise UsageError(
            f"{written} is a modality, whose space holds what its model makes: choose another name"
        )
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in known_modalities():
        raise UsageError(
            f"{written} is neither a modality, {' or '.join(map(repr, readable()))}, nor the name of a space, which "
            "consists of lower-case letters, digits, _ and -, begins with a letter, and is no modality"
        )
    import difflib  # only where a space is named, so that other searches do not wait for it

    words = {
        word: one
        for one in readable()
        for word in (one, known_modalities()[one].plural, known_modalities()[one].one.split()[-1])
    }
    close = difflib.get_close_matches(name, words, 1, 0.8)
    if close:
        raise UsageError(
            f"{written} names no modality; {words[close[0]]!r} is one. Choose a less similar name for a space"
        )
    return name
