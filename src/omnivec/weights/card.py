"""The model card, README.md, of a saved model.

It states from what and how the model was made. It has no samples of the data and no paths of this machine.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from omnivec.version import VERSION

CARD = "README.md"


@dataclass(frozen=True)
class Training:
    """How a model was made.

    Attributes:
        recipe: name of the recipe.
        bases: names of the models from which training started.
        options: options of the recipe.
        data: facts about the data: sha256, size.
        results: measurements on held-out data.
    """

    recipe: str
    bases: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)


def name_of(model: str | PurePath) -> str:
    """A model's name, without the path of its folder on this machine."""
    text = str(model)
    if isinstance(model, PurePath) or PurePath(text).is_absolute() or text[:1] in "~." or Path(text).exists():
        return PurePath(text).name or "a local model"
    return text


def card(training: Training | None, licence: str | None = None) -> str:
    """The model card of a model that was changed since it was published.

    Args:
        training: how it was made; None if that is not known.
        licence: of the model from which training started.
    """
    published = [name for name in training.bases if name.count("/") == 1] if training else []
    head = {
        "library_name": "omnivec",
        "base_model": published,
        "license": licence,
        "tags": ["omnivec", *([training.recipe] if training else [])],
    }
    lines = ["---", *(f"{name}: {json.dumps(value)}" for name, value in head.items() if value), "---", ""]
    if training is None:
        return "\n".join(
            [
                *lines,
                "# A model saved by omnivec",
                "",
                f"Written by omnivec {VERSION}; how it was made is not known.",
                "",
            ]
        )
    named = " and ".join(f"`{name}`" for name in training.bases)
    lines += [
        f"# {training.recipe}" + (f" of {named}" if named else ""),
        "",
        f"Trained by omnivec {VERSION} with the recipe `{training.recipe}`"
        + (f", from {named}." if named else "."),
        "The training data and scores stated in the card of such a model do not apply to this one."
        if named
        else "",
        "",
        "## Options",
        "",
        *_table(training.options),
        "## Data",
        "",
        *_table(training.data),
        "## Evaluation",
        "",
        *(_table(training.results) if training.results else ["The model was not evaluated.", ""]),
    ]
    return "\n".join(lines)


def _table(facts: Mapping[str, Any]) -> list[str]:
    rows = [f"| {name} | {_cell(value)} |" for name, value in facts.items()]
    return ["| | |", "|---|---|", *rows, ""]


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return " ".join(text.replace("|", "\\|").split())


def card_of(folder: Path, stored: bool, training: Training | None) -> bytes:
    """The model card for saving a model: the published one if the model is unchanged.

    Args:
        folder: from which the model was read.
        stored: whether the model is unchanged since then.
        training: how it was trained; None if it was not trained here.
    """
    if training is None and stored and folder.is_dir():
        with contextlib.suppress(OSError):
            return (folder / CARD).read_bytes()
    return card(training).encode()
