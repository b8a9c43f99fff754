"""Checks for tokenizers that the library tokenizers can read from a file, but fails to use for any text.

The library then panics: it writes pages to stderr and raises an exception that is not an `Exception`. What can be
detected in the parts of a tokenizer.json is refused here; the rest is caught where the library is called.
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
"""Largest id: ids are int32 in computations."""


def refuse_unusable(backend: tokenizers.Tokenizer, where: str) -> None:
    """Raises ModelError for a tokenizer whose template or pre-tokenizer fails for every text.

    Args:
        backend: the tokenizer.
        where: file or folder that it was read from, for the message.
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
        raise ModelError("its post_processor has two templates, but the library uses only one")
    for part in _parts(_state(backend.pre_tokenizer), "pretokenizers"):
        if part.get("type") == "FixedLength" and not part.get("length"):
            raise ModelError("its pre_tokenizer cuts into pieces of length 0")
    for index, token in backend.get_added_tokens_decoder().items():
        if index > MOST_ID:
            raise ModelError(
                f"its added token {token.content!r} has the id {index:,}: the largest is {MOST_ID:,}"
            )


def beyond(backend: tokenizers.Tokenizer, rows: int) -> dict[str, int]:
    """Returns the added tokens with ids beyond a table of `rows` rows, and the last token of a larger vocabulary."""
    added = backend.get_added_tokens_decoder().items()
    tokens = {token.content: index for index, token in added if index >= rows}
    size = backend.get_vocab_size(with_added_tokens=False)
    last = backend.id_to_token(size - 1) if size > rows else None
    return tokens if last is None else {**tokens, last: size - 1}


def why_not(texts: Sequence[str], error: BaseException) -> BaseException:
    """Returns the error for texts that the library could not encode.

    Args:
        texts: the texts.
        error: the exception or panic of the library.

    Returns:
        An ItemError for the first item that is not a valid text; else a ModelError.
    """
    why = one_line(error) if not isinstance(error, (MemoryError, *PASSING)) else of_item(error)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            return ItemError(f"text {i} is a {type(text).__name__}: give a str.")
        if any("\ud800" <= character <= "\udfff" for character in text):
            return ItemError(
                f"text {i} contains half of a surrogate pair and is not valid Unicode: decode it again."
            )
    return ModelError(f"the tokenizer cannot encode {len(texts)} texts: {why}.")


def _check_template(part: Mapping[str, Any]) -> None:
    """Refuses a template that names an undefined token, or a second text in the template for one text."""
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
                f"its post_processor gives {token!r} the ids {entry['ids']}: the largest is {MOST_ID:,}"
            )


def _state(part: Any) -> Any:
    """Returns a part of a tokenizer as JSON; None if there is none."""
    return None if part is None else json.loads(part.__getstate__())


def _parts(state: Any, several: str) -> Iterator[Mapping[str, Any]]:
    """Yields a part and, if it is a sequence, the parts in it."""
    if not isinstance(state, Mapping):
        return
    yield state
    for inner in state.get(several) or ():
        yield from _parts(inner, several)
