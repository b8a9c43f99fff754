"""What the library of tokenizers takes from a file and then fails on at the first text, found before the first text.

The library ends such a call by a panic: pages on stderr, and an exception that is no Exception. What can be told from
the parts of a tokenizer.json is refused here; what cannot is caught by the callers of the library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omnivec.errors import ItemError, ModelError
from omnivec.validation.reasons import PASSING, of_item, one_line

if TYPE_CHECKING:
    import tokenizers

MOST_ID = 2**31 - 1
"""Ids are int32 where they are computed with."""


def refuse_unusable(backend: tokenizers.Tokenizer, where: str) -> None:
    """Raises ModelError for a tokenizer whose template or pre-tokenizer fails on every text.

    Args:
        backend: as it was read.
        where: what it was read from, for the message.
    """
    try:
        _check(backend)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None


def _check(backend: tokenizers.Tokenizer) -> None:
    processors = list(_parts(_state(backend.post_processor), "processors"))
    for part in processors:
        if part.get("type") == "TemplateProcessing":
            _check_template(part)
    if sum(part.get("type") == "TemplateProcessing" for part in processors) > 1:
        raise ModelError("its post_processor holds two templates: the library reads one")
    for part in _parts(_state(backend.pre_tokenizer), "pretokenizers"):
        if part.get("type") == "FixedLength" and not part.get("length"):
            raise ModelError("its pre_tokenizer cuts into pieces of length 0")
    for index, token in backend.get_added_tokens_decoder().items():
        if index > MOST_ID:
            raise ModelError(
                f"its added token {token.content!r} has the id {index:,}: the most is {MOST_ID:,}"
            )


def beyond(backend: tokenizers.Tokenizer, rows: int) -> dict[str, int]:
    """The added tokens whose ids are beyond a table of so many rows, and one of the vocabulary if it is larger."""
    added = backend.get_added_tokens_decoder().items()
    tokens = {token.content: index for index, token in added if index >= rows}
    size = backend.get_vocab_size(with_added_tokens=False)
    last = backend.id_to_token(size - 1) if size > rows else None
    return tokens if last is None else {**tokens, last: size - 1}


def why_not(texts: Sequence[str], error: BaseException) -> BaseException:
    """The error for texts that were refused: the first that is no Unicode text, else the tokenizer itself.

    Args:
        texts: that were given to the library.
        error: what it raised; its panics are no Exceptions.
    """
    why = one_line(error) if not isinstance(error, (MemoryError, *PASSING)) else of_item(error)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            return ItemError(f"text {i} is a {type(text).__name__}: give a str.")
        if any("\ud800" <= character <= "\udfff" for character in text):
            return ItemError(f"text {i} holds half of a surrogate pair and is no Unicode: decode it again.")
    return ModelError(f"the tokenizer cannot encode {len(texts)} texts: {why}.")


def _check_template(part: Mapping[str, Any]) -> None:
    """Refuses a template that names a token it does not describe, or a second text where there is one."""
    known = part.get("special_tokens") or {}
    for name, sequences in (("single", ("A",)), ("pair", ("A", "B"))):
        for piece in part.get(name) or ():
            token = piece.get("SpecialToken", {}).get("id")
            if token is not None and token not in known:
                described = ", ".join(map(repr, known)) or "none"
                raise ModelError(
                    f"its post_processor's template for {'one text' if name == 'single' else 'two texts'} names "
                    f"{token!r}, which its special_tokens do not describe ({described})"
                )
            sequence = piece.get("Sequence", {}).get("id")
            if sequence is not None and sequence not in sequences:
                raise ModelError(f"its post_processor's template for one text names the text {sequence!r}")
    for token, entry in known.items():
        if any(index > MOST_ID for index in entry.get("ids", ())):
            raise ModelError(
                f"its post_processor gives {token!r} the ids {entry['ids']}: the most is {MOST_ID:,}"
            )


def _state(part: Any) -> Any:
    """A part of a tokenizer as its JSON; None where there is none."""
    return None if part is None else json.loads(part.__getstate__())


def _parts(state: Any, several: str) -> Iterator[Mapping[str, Any]]:
    """A part, and those that it is a sequence of."""
    if not isinstance(state, Mapping):
        return
    yield state
    for inner in state.get(several) or ():
        yield from _parts(inner, several)
