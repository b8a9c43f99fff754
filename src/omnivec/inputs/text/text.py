"""The preparer of texts: a `str`, or the `Path` of a text file.

The cost of a text is its number of tokens, rounded up, so that the engine sees few different shapes of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemError
from omnivec.inputs.items import shown
from omnivec.inputs.modality import misread
from omnivec.inputs.preparer import PLAIN, ReadOptions
from omnivec.inputs.text.tokenizer import Tokenizer
from omnivec.inputs.text.tokenizer_checks import beyond
from omnivec.ops.base import Input, Ops, Value
from omnivec.ops.process import MemoryReservation, spare
from omnivec.types import ModalityName, Prepared

UNIT = "tokens"
LONG = 2**20
"""Largest number of characters that are tokenised together; a longer text is tokenised alone."""

EACH = 300
"""Bytes of memory for tokenising a character: 125 for English, more for scripts without spaces."""

LEAST = 16 * 10**6
"""Bytes of memory for a few texts and the tokenizer's threads; without them the library aborts the process."""

BUDGET = 1024
"""Tokens in a batch: enough to use the engine well, few enough for several batches per stream and little memory."""

INPUTS = (Input("ids", np.int32, (None, None)), Input("mask", np.int32, (None, None)))
COUNTED = Input("counted", np.int32, (None, None))


def decode(item: Any) -> str:
    """Returns the text of an item; ItemError if it is not a text or a text file."""
    if isinstance(item, Path):
        from omnivec.inputs.files.read import read  # imported here, since a search does not need it

        try:
            return read(item).text
        except ItemError as error:
            if (why := misread(item, ("text",))) is None or not item.is_file():
                raise
            raise why from error
    if isinstance(item, str) and type(item) is not str:
        item = str.__str__(item)  # a subclass may override __str__
    if not isinstance(item, str):
        raise misread(item, ("text",)) or ItemError(
            f"{shown(item)} is not a text: give a str, or a pathlib.Path of a text file"
        )
    try:
        item.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ItemError(
            f"character {error.start} is half of a surrogate pair: the text was decoded wrongly"
        ) from error
    return item


def rounded(length: int) -> int:
    """Rounds a length in tokens up: to a multiple of 4 up to 64, where padding costs most, else of 16."""
    step = 4 if length <= 64 else 16
    return -(-length // step) * step


@dataclass(frozen=True, eq=False)
class TextPreparer:
    """Makes the token ids for one model from texts.

    Attributes:
        tokenizer: tokenizer of the model.
        limit: length limit of a text in tokens, special tokens included.
        vocab_size: number of rows of the model's embeddings; larger ids are refused here, since engines do not.
        lower: whether the settings of the folder convert texts to lower case.
        room: memory reservation for long texts.
    """

    tokenizer: Tokenizer
    limit: int
    vocab_size: int
    lower: bool = False
    room: MemoryReservation = field(default_factory=MemoryReservation, repr=False)

    unit = UNIT
    modality: ModalityName = "text"
    inputs = INPUTS
    budget = BUDGET
    chunk = 1024

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines its ids."""
        return {
            "tokenizer": self.tokenizer.digest(),
            "preprocessing": {"limit": self.limit, "lower": self.lower},
        }

    @property
    def provenance(self) -> dict[str, str]:
        """Empty: all settings that may change a vector are in the identity."""
        return {}

    def batch(self, ops: Ops, get: Callable[[str], Value]) -> SimpleNamespace:
        """Makes the input of a forward function: ids and mask (n, t), and `limit`, the largest t."""
        return SimpleNamespace(limit=self.limit, ids=get("ids"), mask=get("mask"))

    def decode(self, item: Any) -> str:
        """Returns the text of an item; ItemError if it is not a text or a text file."""
        return decode(item)

    def size(self, decoded: str) -> int:
        """Estimates the number of tokens, for sorting."""
        return len(decoded)

    def key(self, decoded: str) -> Hashable:
        """Returns the text: equal texts have equal vectors."""
        return decoded

    def prepare(
        self, texts: Sequence[str], reading: ReadOptions = PLAIN
    ) -> list[tuple[Prepared, ...] | ItemError]:
        """Makes the token ids of each text after its prompt, truncated to the limit; cut off tokens are counted.

        Returns:
            The parts of each text: one, or several for a long text with `chunk`. An ItemError for a text without tokens
            or special tokens, for one with a token that is not in the model's embeddings, and with truncate="error"
            for one beyond the limit.
        """
        prompt = reading.prompt
        shown = [prompt + text for text in texts] if prompt else texts
        before, behind = self.tokenizer.special_ids()
        keep = len(self.tokenizer.ids([prompt])[0]) - len(behind) if prompt else len(before)
        skip = keep if prompt and not reading.pool_prompt else 0
        special = len(before) + len(behind)
        prepared: list[tuple[Prepared, ...] | ItemError] = []
        for ids in self._ids(shown):
            if isinstance(ids, ItemError):
                prepared.append(ids)
            elif (
                0 < len(ids) <= self.limit and ids.max() < self.vocab_size
            ):  # the usual case: one part, not truncated
                seen = max(len(ids) - special, 0)
                prepared.append((Prepared({"ids": ids}, self.cost(len(ids)), seen, 0, skip),))
            else:
                prepared.append(self._parts(ids, keep, skip, reading))
        return prepared

    def _ids(self, texts: Sequence[str]) -> Iterator[NDArray[np.int32] | ItemError]:
        """Yields the token ids of each text; ItemError for one that is too long for the available memory."""
        start = 0
        while start < len(texts):
            end, size = start + 1, len(texts[start])
            while end < len(texts) and size + len(texts[end]) <= LONG:
                size += len(texts[end])
                end += 1
            try:
                if size <= LONG and spare() is None:
                    yield from self.tokenizer.ids(texts[start:end])
                else:
                    with self.room.entry() as take:
                        take(EACH * size + LEAST)
                        yield from self.tokenizer.ids(texts[start:end])
            except ItemError as error:
                if end - start > 1:
                    raise
                yield error
            start = end

    @property
    def beyond(self) -> dict[str, int]:
        """Tokens of the tokenizer that are not in the model's embeddings, with their ids."""
        tokens = beyond(self.tokenizer.backend, self.vocab_size)
        dropped = self.tokenizer.unknown_id if self.tokenizer.drops_unknown else None
        return {token: index for token, index in tokens.items() if index != dropped}

    def refused(self, ids: NDArray[np.int32]) -> ItemError | None:
        """Returns the error for ids that are beyond the model's embeddings; None if there are none."""
        highest = int(ids.max(initial=0))
        if highest < self.vocab_size:
            return None
        token = self.tokenizer.backend.id_to_token(highest)
        named = f"its token {token!r}" if token is not None else "a special token around it"
        return ItemError(
            f"{named} has the id {highest:,}, beyond the {self.vocab_size:,} rows of the model's embeddings: "
            "the tokenizer has it, but the weights do not; remove it from the text"
        )

    def _parts(
        self, ids: NDArray[np.int32], keep: int, skip: int, reading: ReadOptions
    ) -> tuple[Prepared, ...] | ItemError:
        """Makes the parts of a text from its ids, of which `keep` precede the text and `skip` are not pooled."""
        total, special = len(ids), self.tokenizer.special_count
        if not total:
            return ItemError("this text has no tokens: there is nothing to embed")
        if total > self.limit and reading.truncate == "error" and reading.chunk is None:
            return ItemError(
                f"{total:,} tokens, but the model reads {self.limit:,}: use truncate='tail' or 'head' to cut it, or "
                "chunk='pool' to embed it in parts"
            )
        if reading.chunk is not None:
            windows = self.tokenizer.windows(ids, self.limit, keep)
        else:
            side: Literal["tail", "head"] = self.tokenizer.side
            if reading.truncate is not None:
                side = "head" if reading.truncate == "head" else "tail"
            windows = [self.tokenizer.truncate(ids, self.limit, side, keep)]
        for window in windows:
            if (why := self.refused(window)) is not None:
                return why
        # Special tokens and the prompt are repeated in each part, but are not counted again.
        repeated = [special] + [keep + special - len(self.tokenizer.special_ids()[0])] * (len(windows) - 1)
        seen = [max(len(window) - again, 0) for window, again in zip(windows, repeated, strict=True)]
        lost = max(total - special, 0) - sum(seen)
        return tuple(
            Prepared({"ids": window}, self.cost(len(window)), n, 0 if i else lost, skip)
            for i, (window, n) in enumerate(zip(windows, seen, strict=True))
        )

    def cost(self, length: int) -> int:
        """Returns the cost of a number of tokens in a batch."""
        return min(rounded(length), self.limit)

    def rows(self, texts: Sequence[str], reading: ReadOptions = PLAIN) -> list[Prepared]:
        """Returns the first part of each text; ItemError, with the beginning of the text, if one failed."""
        rows = []
        for item, parts in zip(texts, self.prepare(texts, reading), strict=True):
            if isinstance(parts, ItemError):
                raise ItemError(f"{item[:40]!r}: {parts}") from parts
            rows.append(parts[0])
        return rows

    def sample(self) -> dict[str, NDArray[Any]]:
        """Makes a batch of typical size, for measurements."""
        ids = np.full((16, min(64, self.limit)), self.tokenizer.pad_id, np.int32)
        return {"ids": ids, "mask": np.ones_like(ids), "counted": np.ones_like(ids)}

    def collate(self, rows: Sequence[Prepared], pool_prompt: bool = True) -> dict[str, NDArray[Any]]:
        """Pads rows to one length: ids and mask (n, t) int32, and `counted` if a prompt is not pooled."""
        length = max(row.cost for row in rows) or 1
        ids = np.full((len(rows), length), self.tokenizer.pad_id, np.int32)
        mask = np.zeros((len(rows), length), np.int32)
        for i, row in enumerate(rows):
            row_ids = row.arrays["ids"]
            ids[i, : len(row_ids)] = row_ids
            mask[i, : len(row_ids)] = 1
        if pool_prompt:
            return {"ids": ids, "mask": mask}
        counted = mask.copy()
        for i, row in enumerate(rows):
            counted[i, : row.skip] = 0
        return {"ids": ids, "mask": mask, "counted": counted}
