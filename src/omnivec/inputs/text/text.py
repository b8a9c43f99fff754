"""Text, in characters and tokens: a `str`, or the `Path` of a text file.

Its cost is its length in tokens, rounded up: few shapes keep the engine fast and its memory flat.
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
"""Characters that are tokenised together, or one text that has more."""

EACH = 300
"""Bytes that tokenising takes for a character: 125 of English words, more of scripts without spaces."""

LEAST = 16 * 10**6
"""Bytes that a few texts take at most, with what the tokenizer's threads need: where there is none, it aborts."""

BUDGET = 1024
"""Tokens in a batch: enough to fill the engine, few enough for several batches a stream and flat memory."""

INPUTS = (Input("ids", np.int32, (None, None)), Input("mask", np.int32, (None, None)))
COUNTED = Input("counted", np.int32, (None, None))


def decode(item: Any) -> str:
    """The text of an item; ItemError where it has none."""
    if isinstance(item, Path):
        from omnivec.inputs.files.read import read  # A search reads no file.

        try:
            return read(item).text
        except ItemError as error:
            if (why := misread(item, ("text",))) is None or not item.is_file():
                raise
            raise why from error
    if isinstance(item, str) and type(item) is not str:
        item = str.__str__(item)  # A subclass may answer otherwise than by its characters.
    if not isinstance(item, str):
        raise misread(item, ("text",)) or ItemError(
            f"{shown(item)} is no text: give a str, or a pathlib.Path of a text file"
        )
    try:
        item.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ItemError(
            f"character {error.start} is half of a surrogate pair: the text was decoded wrongly"
        ) from error
    return item


def rounded(length: int) -> int:
    """A length in tokens, rounded up: to 4 where texts are short and padding costs most, else to 16."""
    step = 4 if length <= 64 else 16
    return -(-length // step) * step


@dataclass(frozen=True, eq=False)
class TextPreparer:
    """Text to token ids, as a model wants them.

    Attributes:
        tokenizer: the model's.
        limit: longest text in tokens, special tokens included.
        vocab_size: rows of the model's table; ids are checked against it, since engines do not.
        lower: whether its tokenizer lower-cases texts because the module says so that it lies in.
        room: memory for long texts.
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
        """What makes its ids what they are."""
        return {
            "tokenizer": self.tokenizer.digest(),
            "preprocessing": {"limit": self.limit, "lower": self.lower},
        }

    @property
    def provenance(self) -> dict[str, str]:
        """How exactly it reads: all that may change a vector is in its identity."""
        return {}

    def batch(self, ops: Ops, get: Callable[[str], Value]) -> SimpleNamespace:
        """What a forward takes: ids and mask (n, t), and `limit`, an int: t is never more."""
        return SimpleNamespace(limit=self.limit, ids=get("ids"), mask=get("mask"))

    def decode(self, item: Any) -> str:
        """The text of an item; ItemError where it has none."""
        return decode(item)

    def size(self, decoded: str) -> int:
        """A rough cost, before tokenising: longer texts have more tokens."""
        return len(decoded)

    def key(self, decoded: str) -> Hashable:
        """The text itself: equal texts have equal vectors."""
        return decoded

    def prepare(
        self, texts: Sequence[str], reading: ReadOptions = PLAIN
    ) -> list[tuple[Prepared, ...] | ItemError]:
        """Token ids of each text behind its prompt, cut to the limit; what was cut is counted.

        Returns:
            The parts of each text: one, or several of a long text with `chunk`. An ItemError stands for a text without
            tokens, of a model that puts none of its own around it, for one with a token that the model has no row for,
            and for one beyond the limit where `truncate` is "error".
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
            ):  # most texts are one part, and whole
                seen = max(len(ids) - special, 0)
                prepared.append((Prepared({"ids": ids}, self.cost(len(ids)), seen, 0, skip),))
            else:
                prepared.append(self._parts(ids, keep, skip, reading))
        return prepared

    def _ids(self, texts: Sequence[str]) -> Iterator[NDArray[np.int32] | ItemError]:
        """Token ids of each text; ItemError of one that is too long for the memory there is."""
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
        """Tokens that the tokenizer can make and of which the model has no row, with their ids; see `_parts`."""
        tokens = beyond(self.tokenizer.backend, self.vocab_size)
        dropped = self.tokenizer.unknown_id if self.tokenizer.drops_unknown else None
        return {token: index for token, index in tokens.items() if index != dropped}

    def refused(self, ids: NDArray[np.int32]) -> ItemError | None:
        """Why a text of these ids cannot be embedded: one is beyond the model's table; None where it can."""
        highest = int(ids.max(initial=0))
        if highest < self.vocab_size:
            return None
        token = self.tokenizer.backend.id_to_token(highest)
        named = f"its token {token!r}" if token is not None else "a token that is put around it"
        return ItemError(
            f"{named} has the id {highest:,}, beyond the {self.vocab_size:,} rows of the model's table: "
            "the tokenizer knows it and the weights do not; leave it out of the text"
        )

    def _parts(
        self, ids: NDArray[np.int32], keep: int, skip: int, reading: ReadOptions
    ) -> tuple[Prepared, ...] | ItemError:
        """The parts of a text by its ids, of which `keep` stand before the text and `skip` are not pooled."""
        total, special = len(ids), self.tokenizer.special_count
        if not total:
            return ItemError("this text has no tokens: there is nothing to embed")
        if total > self.limit and reading.truncate == "error" and reading.chunk is None:
            return ItemError(
                f"{total:,} tokens, and the model reads {self.limit:,}: truncate='tail' or 'head' cuts, "
                "chunk='pool' reads it in parts"
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
        # What each part repeats, the special tokens and the prompt, was seen once.
        repeated = [special] + [keep + special - len(self.tokenizer.special_ids()[0])] * (len(windows) - 1)
        seen = [max(len(window) - again, 0) for window, again in zip(windows, repeated, strict=True)]
        lost = max(total - special, 0) - sum(seen)
        return tuple(
            Prepared({"ids": window}, self.cost(len(window)), n, 0 if i else lost, skip)
            for i, (window, n) in enumerate(zip(windows, seen, strict=True))
        )

    def cost(self, length: int) -> int:
        """Places that so many tokens take of a batch."""
        return min(rounded(length), self.limit)

    def rows(self, texts: Sequence[str], reading: ReadOptions = PLAIN) -> list[Prepared]:
        """The first part of each text; ItemError where one has none, with its beginning."""
        rows = []
        for item, parts in zip(texts, self.prepare(texts, reading), strict=True):
            if isinstance(parts, ItemError):
                raise ItemError(f"{item[:40]!r}: {parts}") from parts
            rows.append(parts[0])
        return rows

    def sample(self) -> dict[str, NDArray[Any]]:
        """A batch of usual size, to measure with."""
        ids = np.full((16, min(64, self.limit)), self.tokenizer.pad_id, np.int32)
        return {"ids": ids, "mask": np.ones_like(ids), "counted": np.ones_like(ids)}

    def collate(self, rows: Sequence[Prepared], pool_prompt: bool = True) -> dict[str, NDArray[Any]]:
        """Rows padded to one length: ids and mask (n, t) int32, and `counted` where a prompt is not pooled."""
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
