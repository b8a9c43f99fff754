"""Text, in characters and tokens: a `str`, or the `Path` of a text file.

Its cost is its length in tokens, rounded up: few shapes keep the engine fast and its memory flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemError, ModelError
from omnivec.media.tokenizer import Tokenizer
from omnivec.ops.base import Input
from omnivec.types import Prepared

UNIT = "tokens"

INPUTS = (Input("ids", np.int32, (None, None)), Input("mask", np.int32, (None, None)))
COUNTED = Input("counted", np.int32, (None, None))


def decode(item: Any) -> str:
    """The text of an item; ItemError where it has none."""
    if isinstance(item, Path):
        from omnivec.documents.read import read  # A search reads no file.

        return read(item).text
    if not isinstance(item, str):
        raise ItemError(f"{type(item).__name__} is no text: give a str, or a pathlib.Path of a text file")
    try:
        item.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ItemError(
            f"character {error.start} is half of a surrogate pair: the text was decoded wrongly"
        ) from error
    return item


def size(text: str) -> int:
    """A rough cost, before tokenising: longer texts have more tokens."""
    return len(text)


def rounded(length: int) -> int:
    """A length in tokens, rounded up: to 8 where texts are short and padding costs most, else to 16."""
    step = 8 if length <= 64 else 16
    return -(-length // step) * step


@dataclass(frozen=True, eq=False)
class TextPreparer:
    """Text to token ids, as a model wants them.

    Attributes:
        tokenizer: the model's.
        limit: longest text in tokens, special tokens included.
        vocab_size: rows of the model's table; ids are checked against it, since engines do not.
        lower: whether texts are lower-cased first.
    """

    tokenizer: Tokenizer
    limit: int
    vocab_size: int
    lower: bool = False

    def prepare(self, texts: Sequence[str], prompt: str = "", pool_prompt: bool = True) -> list[Prepared]:
        """Token ids of each text behind its prompt, cut to the limit; what was cut is counted.

        Raises:
            ItemError: a text without tokens, for a model that puts none of its own around it.
        """
        shown = [prompt + text for text in texts] if prompt else texts
        if self.lower:
            shown = [text.lower() for text in shown]
        behind = len(self.tokenizer.special_ids()[1])
        skip = 0 if pool_prompt or not prompt else len(self.tokenizer.ids([prompt])[0]) - behind
        return [self._row(ids, skip) for ids in self.tokenizer.ids(shown)]

    def _row(self, ids: NDArray[np.int32], skip: int) -> Prepared:
        total = len(ids)
        if not total:
            raise ItemError("this text has no tokens: there is nothing to embed")
        if total > self.limit:
            ids = self.tokenizer.truncate(ids, self.limit)
        if int(ids.max()) >= self.vocab_size:
            raise ModelError(
                f"token id {ids.max()} is beyond the model's {self.vocab_size} rows: tokenizer and weights do not "
                "belong together"
            )
        kept = len(ids)
        seen = max(kept - self.tokenizer.special_count, 0)
        return Prepared({"ids": ids}, min(rounded(kept), self.limit), seen, total - kept, skip)

    def collate(self, rows: Sequence[Prepared], pool_prompt: bool = True) -> dict[str, NDArray[Any]]:
        """Rows padded to one length: ids and mask (n, t) int32, and `counted` where a prompt is not pooled."""
        length = max(row.cost for row in rows) or 1
        ids = np.full((len(rows), length), self.tokenizer.pad_id, np.int32)
        mask = np.zeros((len(rows), length), np.int32)
        for i, row in enumerate(rows):
            own = row.arrays["ids"]
            ids[i, : len(own)] = own
            mask[i, : len(own)] = 1
        if pool_prompt:
            return {"ids": ids, "mask": mask}
        counted = mask.copy()
        for i, row in enumerate(rows):
            counted[i, : row.skip] = 0
        return {"ids": ids, "mask": mask, "counted": counted}
