"""`omnivec analogy`: the words nearest to a sum and difference of words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from omnivec.cli.common import json_option, print_json, print_table
from omnivec.errors import UsageError
from omnivec.progress import say
from omnivec.validation.arguments import expanded

if TYPE_CHECKING:
    from omnivec.models.keyed import KeyedEmbedder

SIGNS = ("+", "-")


@click.command(
    "analogy",
    short_help="Add and subtract words: king - man + woman.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("words", nargs=-1, required=True, metavar="WORD [+|- WORD]...")
@click.option("--model", "-m", required=True, help="A word table: a folder, or a file in a published format.")
@click.option("-k", type=click.IntRange(min=1), default=10, help="Number of answers.  [default: 10]")
@click.option(
    "--method",
    type=click.Choice(["add", "mul"]),
    default="add",
    help="Objective: add for 3CosAdd, mul for 3CosMul.  [default: add]",
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Read only the first N rows of the table."
)
@json_option
def command(
    words: tuple[str, ...], model: str, k: int, method: str, limit: int | None, as_json: bool
) -> None:
    """Print the words nearest to a sum: `omnivec analogy -m words/ king - man + woman`.

    A single WORD prints its nearest neighbours.
    """
    from omnivec.models.keyed import keyed
    from omnivec.models.loading import load

    positive, negative = terms(words)
    loaded = load(Path(model) if expanded(Path(model)).exists() else model, limit=limit)
    table = keyed(loaded, f"{model} is not a word table: it embeds whole texts")
    positive, negative = (_spelled(table, words) for words in (positive, negative))
    answers = table.most_similar(positive, negative, k, "mul" if method == "mul" else "add")
    if as_json:
        print_json({"key": key, "score": round(score, 6)} for key, score in answers)
    else:
        print_table(("word", "score"), [(key, f"{score:.4f}") for key, score in answers])


def _spelled(table: KeyedEmbedder, words: list[str]) -> list[str]:
    """Returns the words as the table spells them; reports those that differ from their key in capitalisation."""
    keys = [table.spelled(word) for word in words]
    for word, key in zip(words, keys, strict=True):
        if word != key:
            say(f"{word!r} is not in the table: using {key!r}")
    return keys


def terms(words: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Splits the arguments into words to add and words to subtract.

    Raises:
        UsageError: a sign is not followed by a word, or a word is not followed by a sign.
    """
    parts: dict[str, list[str]] = {sign: [] for sign in SIGNS}
    sign: str | None = "+"
    for word in words:
        if word in SIGNS and sign is None:
            sign = word
        elif word not in SIGNS and sign is not None:
            parts[sign].append(word)
            sign = None
        else:
            raise UsageError(f"{' '.join(words)!r}: words and signs must alternate, as in king - man + woman")
    if sign is not None:
        raise UsageError(f"{' '.join(words)!r} ends with {sign}: a word is missing")
    return parts["+"], parts["-"]
