"""The tokens of a distilled table: which of the teacher's tokens it has, their spelling, and the teacher's vectors."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.inputs.text.tokenizer import Tokenizer, tokenizer_of
from omnivec.models.network import Network
from omnivec.types import Floats, Prepared

ROWS = 256
"""Tokens in a batch."""
PRUNABLE = ("WordPiece", "Unigram")
"""Models of tokenizers from which tokens can be removed; in byte-pair encoding a token is made from others."""
PROBE = "a"
"""A word put before another to see how that is tokenised inside a text."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens that a table has rows for.

    Attributes:
        tokens: the tokens, in the order of their new ids.
        ids: (n,) int32, the teacher's id of each.
        words: the spelling of those that are whole words.
        content: tokenizer.json with these tokens, without special tokens around a text.
        unknown: new id of the unknown token; None if there is none.
    """

    tokens: list[str]
    ids: NDArray[np.int32]
    words: list[str]
    content: bytes
    unknown: int | None

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer from text to the new ids."""
        return tokenizer_of(self.content)


def published(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of the teacher's tokenizer.json, without truncation, padding and post-processor."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        tokenizer_json: dict[str, Any] = json.loads(
            (Path(folder) / "tokenizer.json").read_text(encoding="utf-8")
        )
    return tokenizer_json | {"truncation": None, "padding": None, "post_processor": None}


def choose(tokenizer_json: Mapping[str, Any], counts: NDArray[np.int64], most: int | None) -> Vocabulary:
    """Chooses the tokens to keep, and makes a tokenizer of them.

    The unknown token and ASCII characters are always kept, so that words can still be spelled; then the tokens that
    occur in texts, the most frequent first; then other tokens that are words, in the teacher's order.

    Args:
        tokenizer_json: as `published` returns it.
        counts: (v,) how often each of the teacher's tokens occurs in the texts.
        most: how many tokens to keep; None for all. A tokenizer whose model is not in PRUNABLE keeps all.

    Raises:
        UsageError: `most` is too small for the single characters.
    """
    model = tokenizer_json["model"]
    unigram = isinstance(model["vocab"], list)
    numbers = {pair[0]: i for i, pair in enumerate(model["vocab"])} if unigram else dict(model["vocab"])
    place = model.get("unk_id")
    unknown = model["vocab"][place][0] if unigram and place is not None else model.get("unk_token")
    added = {each["content"]: each["id"] for each in tokenizer_json.get("added_tokens") or ()}
    if most is None or most >= len(numbers.keys() | added.keys()) or model["type"] not in PRUNABLE:
        return _whole(tokenizer_json, numbers | added, unknown, counts)
    prefix = str(model.get("continuing_subword_prefix") or "▁")
    usable = {token: number for token, number in numbers.items() if token == unknown or token not in added}
    base = {token for token in usable if token == unknown or _letter(token, prefix)}
    if len(base) > most:
        raise UsageError(
            f"max_vocab={most}: the {len(base)} single characters of the tokenizer are always kept, so give at least "
            f"{len(base)}"
        )
    words = dict(zip(usable, spelled(list(usable), list(usable.values()), tokenizer_json), strict=True))
    seen = {token: int(counts[number]) if number < len(counts) else 0 for token, number in usable.items()}
    candidates = [token for token in usable if token not in base and (seen[token] or words[token])]
    candidates.sort(key=lambda token: (-seen[token], usable[token]))
    tokens = sorted(base | set(candidates[: most - len(base)]), key=usable.__getitem__)
    pairs = [pair for pair in model["vocab"] if pair[0] in set(tokens)] if unigram else None
    content = {
        **tokenizer_json,
        "added_tokens": [],
        "model": {**model, "vocab": pairs or {token: i for i, token in enumerate(tokens)}},
    }
    unknown_id = tokens.index(unknown) if unknown in usable else None
    if unigram:
        content["model"]["unk_id"] = unknown_id
    ids = np.array([usable[token] for token in tokens], np.int32)
    return Vocabulary(tokens, ids, [w for t in tokens if (w := words[t])], _bytes(content), unknown_id)


def _whole(
    tokenizer_json: Mapping[str, Any],
    numbers: Mapping[str, int],
    unknown: str | None,
    counts: NDArray[np.int64],
) -> Vocabulary:
    named = {number: token for token, number in numbers.items()}
    size = max([*named, len(counts) - 1]) + 1
    tokens = [named.get(number, f"[row {number}]") for number in range(size)]
    words = [word for word in spelled(list(numbers), list(numbers.values()), tokenizer_json) if word]
    unknown_id = None if unknown is None else numbers.get(unknown)
    return Vocabulary(tokens, np.arange(size, dtype=np.int32), words, _bytes(tokenizer_json), unknown_id)


def _letter(token: str, prefix: str) -> bool:
    character = token.removeprefix(prefix)
    return token == prefix or (len(character) == 1 and character.isascii())


def spelled(tokens: Sequence[str], ids: Sequence[int], tokenizer_json: Mapping[str, Any]) -> list[str]:
    """The spelling of each token that is a whole word; "" for word pieces, special tokens and unreachable tokens."""
    special = {each["content"] for each in tokenizer_json.get("added_tokens") or ()}
    tokenizer = tokenizer_of(_bytes(tokenizer_json))
    begin = len(tokenizer.ids([PROBE], special=False)[0])
    written = [token.replace("▁", " ").replace("Ġ", " ").strip() for token in tokens]
    encoded = tokenizer.ids([f"{PROBE} {word}" for word in written], special=False)
    return [
        word if len(row) == begin + 1 and row[-1] == number and token not in special else ""
        for token, word, row, number in zip(tokens, written, encoded, ids, strict=True)
    ]


def token_vectors(teacher: Network, ids: NDArray[np.int32]) -> Floats:
    """The teacher's vector (n, width) of each token as a text of its own, with special tokens around it."""
    before, behind = teacher.model.texts.tokenizer.special_ids()
    rows = [np.concatenate([before, [number], behind]).astype(np.int32) for number in ids.tolist()]
    prepared = [Prepared({"ids": row}, len(row), 1, 0) for row in rows]
    parts = [
        teacher.compute(prepared[first : first + ROWS], alone=True) for first in range(0, len(prepared), ROWS)
    ]
    return np.concatenate(parts)


def _bytes(tokenizer_json: Mapping[str, Any]) -> bytes:
    return json.dumps(tokenizer_json, ensure_ascii=False, separators=(",", ":")).encode()
