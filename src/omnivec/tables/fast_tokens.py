"""Token ids of many texts in one flat array: the tokenizer's exact ids, by a compiled kernel if possible.

`Tokenizer.ids` takes over a microsecond per token, which is most of a static model's time. Here a compiled kernel
splits texts at whitespace and splits ASCII words into word pieces; any other chunk is given to the tokenizer once, and
its ids are cached. This is exact only if no component of the tokenizer looks across whitespace: `fast_rules`
inspects the components and chooses one of three modes.

Example, with BERT's rules and the vocabulary [UNK] 0, [CLS] 1, [SEP] 2, un 3, ##able 4, hello 5, "," 6, caf 7, ##e 8,
cafe 9:

    texts           "Hello, unable"     "Café hello"        "x [SEP]"
    scan            5 6 3 4             -1 5                -131073         negative numbers are placeholders:
                                                                            -1 is entry 0 of the cache, "Café";
                                                                            -1 - 131072 (ENTRIES) is span 0 of `left`
    tokenizer                           "Café" -> 9         whole -> 0 2    an added token: the text is heavy
    with [CLS] [SEP]
        ids         1 5 6 3 4 2         1 9 5 2             1 0 2 2
        offsets     0                   6                   10              and 14 at the end
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.inputs.text.tokenizer import Ids, Tokenizer
from omnivec.tables.fast_rules import Cutter, cutter_for

if TYPE_CHECKING:
    from omnivec.tables.kernels.wordpiece import Remembered

SLICE = 1 << 19
"""Bytes of text per kernel call, few enough for its ids to stay in the CPU's cache."""
ENTRIES = 1 << 17
"""Most chunks in the cache of a thread, which is emptied between calls when it is half full."""
LETTERS = 1 << 21
"""Most bytes of all cached chunks together; the cache is also emptied when half of them are used."""
LONGEST = 64
"""Bytes of the longest chunk that is cached."""


@dataclass(frozen=True)
class FlatIds:
    """Token ids of n texts.

    Attributes:
        ids: (total,) int32, the ids of all texts, concatenated.
        offsets: (n + 1,) int64, the offset of each text in `ids`, and the end of the last.
        lost: (n,) int64, the number of ids of each text that were cut off by the limit.
    """

    ids: Ids
    offsets: NDArray[np.int64]
    lost: NDArray[np.int64]


class FastTokenizer:
    """Computes flat token ids, equal to those of a tokenizer; safe to call from several threads.

    Attributes:
        tokenizer: the tokenizer whose ids are computed.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._memories: deque[_Memory] = deque()

    @property
    def is_compiled(self) -> bool:
        """Whether the kernel is used: numba is installed, and no component of the tokenizer looks across whitespace."""
        return self._cutter is not None

    def flat_ids(
        self, texts: Sequence[str], *, special: bool = True, limit: int | None = None, threads: int = 1
    ) -> FlatIds:
        """Token ids of all texts.

        Args:
            texts: any strings.
            special: whether to put the model's special tokens around each text.
            limit: most ids of one text, special tokens included; content is cut off at its end.
            threads: number of threads.

        Raises:
            ItemError: a text contains a lone surrogate, or is not a str.
            UsageError: the special tokens alone exceed `limit`.
        """
        texts = list(texts)
        before, behind = self.tokenizer.special_ids() if special else (_NONE, _NONE)
        room = None if limit is None else limit - len(before) - len(behind)
        if room is not None and room < 0:
            raise UsageError(
                f"a limit of {limit} tokens has no room for {len(before) + len(behind)} special tokens."
            )
        around = (before, behind)
        cutter, encoded = self._cutter, _encoded(texts)
        if cutter is None or encoded is None:
            return self._plain(texts, room, around)
        slices = list(_slices(encoded))
        if threads < 2 or len(slices) < 2:
            return _joined([self._cut(cutter, part, room, around) for part in slices])
        with ThreadPoolExecutor(threads) as pool:
            return _joined(list(pool.map(lambda part: self._cut(cutter, part, room, around), slices)))

    @cached_property
    def _cutter(self) -> Cutter | None:
        cutter = cutter_for(self.tokenizer)
        if cutter is None:
            return None
        # Detects a release of the tokenizers library that behaves differently from the kernel.
        texts = _probes(cutter.rules.longest_word)
        encoded = [text.encode() for text in texts]
        kernel_ids = self._cut(cutter, encoded, None, self.tokenizer.special_ids())
        return cutter if _equal(kernel_ids, self._plain(texts, None, self.tokenizer.special_ids())) else None

    def _plain(self, texts: Sequence[str], room: int | None, around: tuple[Ids, Ids]) -> FlatIds:
        """The ids of texts by the tokenizer alone: at most `room` of content, between the special ids `around`."""
        rows = self.tokenizer.ids(texts, special=False)
        ids = [np.concatenate([around[0], row[:room], around[1]]) for row in rows]
        lost = [max(len(row) - room, 0) if room is not None else 0 for row in rows]
        return FlatIds(np.concatenate([_NONE, *ids]), _offsets(list(map(len, ids))), np.array(lost, np.int64))

    def _cut(
        self, cutter: Cutter, texts: Sequence[bytes], room: int | None, around: tuple[Ids, Ids]
    ) -> FlatIds:
        """The ids of texts in UTF-8 by the kernel; `room` and `around` as in `_plain`."""
        from omnivec.tables.kernels import wordpiece

        try:
            memory = self._memories.pop()  # a cache that no other thread is using
        except IndexError:
            memory = _Memory()
        memory.make_room()
        text = np.frombuffer(b"".join(texts), np.uint8)
        offsets = _offsets(list(map(len, texts)))
        out = wordpiece.output(len(text), len(texts), cutter.rules, memory.table)
        count = wordpiece.scan(text, offsets, cutter.rules, cutter.vocabulary, memory.table, out)
        known = memory.complete(self.tokenizer)
        rest = _looked_up(self.tokenizer, text, out.left[:count])
        totals = np.empty(len(texts), np.int64)
        wordpiece.lengths(out.ids, out.ends, known, rest, totals)
        shortened = totals if room is None else np.minimum(totals, room)
        starts = _offsets(shortened + len(around[0]) + len(around[1]))
        ids = np.empty(starts[-1], np.int32)
        wordpiece.expand(out.ids, out.ends, known, rest, *around, starts, ids)
        self._memories.append(memory)
        return FlatIds(ids, starts, totals - shortened)


class _Memory:
    """A cache, used by one thread at a time, of the ids of chunks that the tokenizer was run on."""

    def __init__(self) -> None:
        from omnivec.tables.kernels import spellings

        self.table = spellings.empty(ENTRIES, LETTERS, LONGEST)
        self._spans = np.zeros((ENTRIES, 2), np.int64)
        self._ids = np.empty(1 << 12, np.int32)
        self._known = 0

    def make_room(self) -> None:
        """Empties the cache when it is half full."""
        size = self.table.size[0]
        if size > ENTRIES // 2 or self.table.starts[size] > LETTERS // 2:
            self.table.slots[:] = -1
            self.table.size[0] = self._known = 0

    def complete(self, tokenizer: Tokenizer) -> Remembered:
        """Runs the tokenizer on chunks that are new in the cache; returns the ids of all its entries."""
        from omnivec.tables.kernels.wordpiece import Remembered

        size, starts = int(self.table.size[0]), self.table.starts
        if size > self._known:
            spans = np.stack([starts[self._known : size], starts[self._known + 1 : size + 1]], axis=1)
            new = _looked_up(tokenizer, self.table.letters, spans)
            begin = self._spans[self._known - 1, 1] if self._known else 0
            self._spans[self._known : size] = new.spans + begin
            if begin + len(new.ids) > len(self._ids):
                self._ids = np.concatenate([self._ids, np.empty(len(self._ids) + len(new.ids), np.int32)])
            self._ids[begin : begin + len(new.ids)] = new.ids
            self._known = size
        return Remembered(self._spans, self._ids)


_NONE: Ids = np.zeros(0, np.int32)


def _looked_up(tokenizer: Tokenizer, text: NDArray[np.uint8], spans: NDArray[np.int64]) -> Remembered:
    """The tokenizer's ids of the pieces of `text` (UTF-8 bytes) with these start and end offsets (m, 2)."""
    from omnivec.tables.kernels.wordpiece import Remembered

    chunks = [text[begin:end].tobytes().decode() for begin, end in spans.tolist()]
    rows = tokenizer.ids(chunks, special=False) if chunks else []
    offsets = _offsets(list(map(len, rows)))
    return Remembered(np.stack([offsets[:-1], offsets[1:]], axis=1), np.concatenate([_NONE, *rows]))


def _encoded(texts: Sequence[str]) -> list[bytes] | None:
    """The texts in UTF-8; None if one of them cannot be encoded."""
    try:
        return [text.encode() for text in texts]
    except (AttributeError, UnicodeEncodeError):
        return None  # the tokenizer then raises the error that names the text


def _offsets(counts: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _slices(texts: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The texts in runs of about SLICE bytes; a longer text is a run by itself."""
    first, size = 0, 0
    for i, text in enumerate(texts):
        if size and size + len(text) > SLICE:
            yield texts[first:i]
            first, size = i, 0
        size += len(text) + 1
    if first < len(texts):
        yield texts[first:]


def _joined(parts: Sequence[FlatIds]) -> FlatIds:
    """The ids of several runs of texts as one."""
    if len(parts) == 1:
        return parts[0]
    counts = [np.diff(part.offsets) for part in parts]
    return FlatIds(
        np.concatenate([_NONE, *(part.ids for part in parts)]),
        _offsets(np.concatenate([np.zeros(0, np.int64), *counts])),
        np.concatenate([np.zeros(0, np.int64), *(part.lost for part in parts)]),
    )


def _equal(one: FlatIds, other: FlatIds) -> bool:
    return np.array_equal(one.ids, other.ids) and np.array_equal(one.offsets, other.offsets)


def _probes(longest: int) -> list[str]:
    """Texts on which the kernel is compared with the tokenizer; `longest` is the longest word, in characters."""
    characters = [chr(i) for i in range(128)]
    words = [
        "unbelievable tokenization",
        "THE Cafés, don't 3.14!",
        "\u00e9 a\u0301 \u5317\u4eac x",
        "a  b\n",
        " a ",
        "",
    ]
    lengths = [length for length in range(longest - 2, longest + 3) if 0 < length < 1000]
    return [
        *words,
        *(f"a{one}b" for one in characters),
        *(f" {one} x{one}{one}" for one in characters),
        *("a" * length for length in lengths),
    ]
