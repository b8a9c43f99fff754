"""Reads a text into a `Corpus`: its vocabulary, most frequent words first, and every sentence as indices of it.

Example, with min_count=2:

    read_corpus(["the cat sat", "a cat", "the the"], min_count=2)

    words       ["the", "cat"]          "sat" and "a" occur once and are left out
    counts      [3, 2]
    ids         [0, 1,   1,   0, 0]     the three sentences, concatenated
    starts      [0,      2,   3,  5]
    total       7                       words read, with those left out

Blocks of the text are scanned by several threads, each with a vocabulary of its own. Afterwards the vocabularies are
merged, sorted by count, and the blocks renumbered.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from omnivec import progress
from omnivec.errors import MissingExtra, UsageError
from omnivec.inputs.files.rows import OPENERS, check, opened
from omnivec.inputs.text.whitespace import BLANK_BYTES
from omnivec.models.runtime import open_cpus
from omnivec.training import texts
from omnivec.validation.reasons import of_system

MOST = 10_000
"""Most words of a sentence, as in the word2vec program; longer ones are split, and no window crosses the split."""
IN_MEMORY = 2**30
"""Bytes of word numbers held in memory; further ones go to a temporary file."""
BLOCK = 2**22
"""Bytes that a thread scans at a time."""

SENTENCES = (list, tuple, np.ndarray)
"""Types of a sentence given as a list of words."""
WORD_END, SENTENCE_END = b"\xfe", b"\xff"  # bytes that do not occur in UTF-8
PARTS = np.isin(np.arange(256), np.frombuffer(BLANK_BYTES, np.uint8))
"""(256,) bool, the bytes that separate words in a file."""

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int32]
Places = NDArray[np.int64]
Piece = tuple[Bytes, int, int]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as word numbers.

    Attributes:
        words: the vocabulary, most frequent first; words of equal count by first occurrence.
        counts: (v,) occurrences of each word.
        ids: (n,) int32, the words of all sentences as indices of `words`, without words left out of the vocabulary.
        starts: (sentences + 1,) the offset of each sentence in `ids`, and the end of the last. Sentences without words
            are left out, and those of more than MOST words are split.
        total: number of words read, with those left out.
    """

    words: list[str]
    counts: NDArray[np.int64]
    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    total: int


def read_corpus(
    data: Any,
    *,
    min_count: int = 5,
    max_vocab: int | None = None,
    threads: int | None = None,
    in_memory: int = IN_MEMORY,
    show_progress_bar: bool | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> Corpus:
    """Reads a text.

    Args:
        data: the path of a UTF-8 text (.gz and .bz2 too) with one sentence per line, or several such paths as
            `pathlib.Path`s; or an iterable of sentences, each a str or a list of words, which is read once. Texts are
            split into words as `omnivec.inputs.text.whitespace` describes, without changing case.
        min_count: words that occur less often are left out.
        max_vocab: most words of the vocabulary, the most frequent first; None for no limit.
        threads: number of threads that scan; by default as many as there are CPUs.
        in_memory: bytes of word numbers held in memory; further ones go to a temporary file.
        show_progress_bar: whether to show progress on stderr; None: on a terminal or in a notebook.
        meanwhile: called in a thread of its own once the first words are read; see `aside`.

    Raises:
        UsageError: there is nothing to read, an item is not text, or no word is frequent enough.
        MissingExtra: numba is not installed.
    """
    check_numba()
    source = _source(data)
    scanner, pile, blocks, numbers = _scanned(
        source, threads or open_cpus(), in_memory, show_progress_bar, meanwhile
    )
    counts = scanner.counts()
    order = np.lexsort((scanner.first(), -counts))
    frequent = order[: int((counts >= min_count).sum())][:max_vocab]
    if not len(frequent):
        raise UsageError(_nothing(source.name, scanner, order, min_count))
    words = [scanner.word(number) for number in frequent.tolist()]
    ranks = np.full(len(order), -1, np.int32)
    ranks[frequent] = np.arange(len(frequent))
    ids, starts = _renumbered(pile, blocks, [ranks[each] for each in numbers], in_memory)
    return Corpus(words, counts[frequent], ids, starts, int(counts.sum()))


def kept(corpus: Corpus, min_count: int, max_vocab: int | None = None) -> Corpus:
    """A corpus without its rarer words; `min_count` and `max_vocab` are those of `read_corpus`."""
    from omnivec.tables.kernels.vocabulary import renumber

    size = int((corpus.counts >= min_count).sum())
    size = size if max_vocab is None else min(size, max_vocab)
    if not size:
        raise UsageError(
            f"no word occurs {min_count} times or more in {corpus.total:,} words: lower min_count, or give more text"
        )
    numbers = np.where(np.arange(len(corpus.words)) < size, np.arange(len(corpus.words)), -1).astype(np.int32)
    ids, ends = np.array(corpus.ids), corpus.starts[1:].copy()
    count = int(renumber(ids, ends, numbers, ids))
    return Corpus(corpus.words[:size], corpus.counts[:size], ids[:count], cut(ends, count), corpus.total)


def cut(ends: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Starts (sentences + 1,) from the ends of sentences in a text of `count` words.

    Empty sentences are left out, and those of more than MOST (10,000) words are split: ends [3, 3, 12003] and count
    12005 give starts [0, 3, 10003, 12003, 12005].
    """
    bounds = np.unique(np.concatenate([[0], ends, [count]]))
    pieces = -(-np.diff(bounds) // MOST)
    before = np.repeat(np.cumsum(pieces) - pieces, pieces)
    inside = (np.arange(len(before)) - before) * MOST
    return np.append(np.repeat(bounds[:-1], pieces) + inside, count).astype(np.int64)


@dataclass(frozen=True, eq=False)
class _TextSource:
    """A text as blocks of bytes.

    Attributes:
        name: name of the data in messages.
        blocks: (bytes followed by padding, number of bytes of text, offset in the whole text); blocks end between
            words.
        spaces: whether whitespace separates words.
        line_end: the byte that ends a sentence.
        size: number of bytes in all; None if not known.
    """

    name: str
    blocks: Iterator[Piece]
    spaces: bool
    line_end: int
    size: int | None


def _source(data: Any) -> _TextSource:
    if isinstance(data, str | Path):
        data = [Path(data)]
    items = iter(texts.several(data, "the path of a text, or sentences, each a str or a list of words"))
    if not (start := list(itertools.islice(items, 1))):
        raise UsageError("data holds no sentence")
    [first] = start
    items = itertools.chain(start, items)
    if not isinstance(first, Path):
        return _TextSource("data", _of_sentences(items, first), isinstance(first, str), SENTENCE_END[0], None)
    paths = []
    for number, path in enumerate(items):
        if not isinstance(path, Path):
            raise texts.wrong(f"data, item {number}", path, "a pathlib.Path, as the first is")
        paths.append(texts.path(path))
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    sizes = [_size(path) for path in paths]
    plain = not any(path.suffix in OPENERS for path in paths)
    return _TextSource(name, _of_files(paths), True, ord("\n"), sum(sizes) if plain else None)


def _size(path: Path) -> int:
    with opened(path):
        return path.stat().st_size


def _of_files(paths: list[Path]) -> Iterator[Piece]:
    from omnivec.tables.kernels.vocabulary import PADDING

    place = 0
    for path in paths:
        with opened(path) as (file, at):
            rest = b""
            while True:
                block = np.empty(len(rest) + BLOCK + PADDING, np.uint8)
                block[: len(rest)] = np.frombuffer(rest, np.uint8)
                length = len(rest) + _fill(file, block.data[len(rest) : len(rest) + BLOCK])
                if length == len(rest):
                    break
                end = _last_blank(block, length, path)
                rest = block[end:length].tobytes()
                check(path, block[:end].tobytes(), at)
                yield block, end, place
                place += end
                at += end
        check(path, rest, at)
        yield np.frombuffer(bytearray(rest + b"\n" + bytes(PADDING)), np.uint8), len(rest) + 1, place
        place += len(rest)


def _fill(file: IO[bytes], into: memoryview) -> int:
    """Reads until the buffer is full or the file ends."""
    done = 0
    while done < len(into) and (got := file.readinto(into[done:])):  # type: ignore[attr-defined]
        done += got
    return done


def _last_blank(block: Bytes, length: int, path: Path) -> int:
    """The end of the last whitespace of a block; 0 if there is none yet in a short block."""
    for tail in (4096, length):
        text = block[max(length - tail, 0) : length]
        blank = np.flatnonzero(PARTS[text])
        if len(blank):
            return max(length - tail, 0) + int(blank[-1]) + 1
    if length > BLOCK:
        raise UsageError(f"{path} holds {length:,} bytes without whitespace: is it a text of words?")
    return 0


def _of_sentences(items: Iterable[Any], first: Any) -> Iterator[Piece]:
    from omnivec.tables.kernels.vocabulary import PADDING

    text, place = bytearray(), 0
    for number, item in enumerate(items):
        text += _encoded(item, first, number)
        text += SENTENCE_END
        if (length := len(text)) >= BLOCK:
            yield np.frombuffer(text + bytes(PADDING), np.uint8), length, place
            text, place = bytearray(), place + length
    yield np.frombuffer(text + bytes(PADDING), np.uint8), len(text), place


def _encoded(item: Any, first: Any, number: int) -> bytes:
    """A sentence as bytes: a str as it is, a list of words joined by WORD_END.

    `first` is the first sentence, whose type all others must have; `number` is for the error.
    """
    try:
        if isinstance(item, str) and isinstance(first, str):
            return item.encode()
        if isinstance(item, SENTENCES) and isinstance(first, SENTENCES):
            return WORD_END.join(map(str.encode, item))
    except UnicodeEncodeError as error:
        raise UsageError(
            f"data, item {number} has a lone surrogate: {error.object[error.start]!r}"
        ) from error
    except TypeError as error:
        at, word = next((i, word) for i, word in enumerate(item) if not isinstance(word, str))
        raise texts.wrong(f"data, item {number}: word {at}", word, "a str") from error
    if not number:
        raise texts.wrong("data, item 0", item, "a str or a list of words")
    raise texts.wrong(
        f"data, item {number}",
        item,
        f"a {'str' if isinstance(first, str) else 'list of words'}, as the first is",
    )


class _Scanner:
    """The vocabulary of one thread."""

    def __init__(self, source: _TextSource) -> None:
        from omnivec.tables.kernels import vocabulary

        self._kernels, self._source = vocabulary, source
        self.table = vocabulary.table(2**16, 2**20)

    def scan(self, block: Bytes, length: int, place: int) -> tuple[Numbers, Places]:
        """The numbers of a block's words, and the number of words before each sentence's end."""
        ids, ends = np.empty(length // 2 + 1, np.int32), np.empty(length, np.int64)
        settings = self._source.line_end, self._source.spaces
        state = np.array([0, length, place, 0, 0, *settings], np.int64)
        while not self._kernels.scan(block, state, self.table, ids, ends):
            self.table = self._kernels.grown(self.table, length)
        return ids[: state[3]].copy(), ends[: state[4]].copy()

    def merge(self, other: _Scanner) -> Numbers:
        """Adds the words of another scanner; returns the number of each in this one."""
        tallies = self._kernels.counts(other.table)
        numbers = np.full(len(tallies), -1, np.int32)
        while self._kernels.merge(self.table, other.table, tallies, numbers) < len(tallies):
            self.table = self._kernels.grown(self.table, len(other.table.spelled))
        return numbers

    def counts(self) -> Places:
        """The number of occurrences (words,) of each word."""
        return self._kernels.counts(self.table)

    def first(self) -> Places:
        """The byte offset (words,) of each word's first occurrence."""
        return self.table.first[: self.table.size[0]]

    def word(self, number: int) -> str:
        """The word with this number."""
        return (
            self.table.spelled[self.table.starts[number] : self.table.starts[number + 1]].tobytes().decode()
        )


class _Pile:
    """A list of arrays of word numbers, in memory up to a limit of bytes, beyond it in a temporary file."""

    def __init__(self, limit: int) -> None:
        self._room = limit
        self._held: list[Numbers] = []
        self._sizes: list[int] = []
        self._file: IO[bytes] | None = None

    def add(self, numbers: Numbers) -> None:
        """Appends an array."""
        self._held.append(numbers)
        self._room -= numbers.nbytes
        if self._room >= 0:
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115, closed where it is read
            for each in self._held:
                each.tofile(self._file)
                self._sizes.append(len(each))
        except OSError as error:
            raise UsageError(
                f"{tempfile.gettempdir()} has no room for a text that does not fit in memory ({of_system(error)}): "
                "set TMPDIR to a folder with more room"
            ) from error
        self._held.clear()

    def __iter__(self) -> Iterator[Numbers]:
        """Yields the arrays, and forgets them."""
        if self._file is None:
            while self._held:
                yield self._held.pop(0)
            return
        with self._file:
            self._file.seek(0)
            yield from (np.fromfile(self._file, np.int32, size) for size in self._sizes)

    def whole(self) -> Numbers:
        """All arrays concatenated, in memory or as a memory map of the temporary file."""
        if self._file is None or not sum(self._sizes):
            whole, end = np.empty(sum(map(len, self._held)), np.int32), 0
            while (
                self._held
            ):  # each array is released once it is copied, so the text is never in memory twice
                piece = self._held.pop(0)
                whole[end : end + len(piece)] = piece
                end += len(piece)
            return whole
        with self._file:  # the mapping keeps what it maps
            self._file.flush()
            return np.memmap(self._file, np.int32, "r+", shape=(sum(self._sizes),))


def _scanned(
    source: _TextSource,
    threads: int,
    in_memory: int,
    show_progress_bar: bool | None,
    meanwhile: Callable[[], object] | None,
) -> tuple[_Scanner, _Pile, list[tuple[int, Places]], list[Numbers]]:
    """Scans all blocks.

    Returns:
        a scanner with all words; the blocks, numbered by the scanners that read them; the scanner and the sentences'
        ends of each block; and for each scanner the numbers of its words in the first one.
    """
    from omnivec.tables.kernels.parallel import in_order

    scanners = [_Scanner(source) for _ in range(threads)]
    idle = SimpleQueue[int]()
    for i in range(threads):
        idle.put(i)

    def scan(piece: tuple[Bytes, int, int]) -> tuple[int, int, Numbers, Places]:
        i = idle.get()
        try:
            return i, piece[1], *scanners[i].scan(*piece)
        finally:
            idle.put(i)

    pile = _Pile(in_memory)
    blocks: list[tuple[int, Places]] = []
    with progress.bar("reading", source.size, "bytes", show_progress_bar) as bar:
        for i, length, ids, ends in in_order(scan, source.blocks, threads):
            if not blocks:
                aside(meanwhile)
            pile.add(ids)
            blocks.append((i, ends))
            bar.advance(length)
    merged = [scanners[0].merge(other) for other in scanners[1:]]
    return scanners[0], pile, blocks, [np.arange(len(scanners[0].first()), dtype=np.int32), *merged]


def _renumbered(
    pile: _Pile, blocks: list[tuple[int, Places]], ranks: list[Numbers], in_memory: int
) -> tuple[Numbers, Places]:
    """The text by final word numbers, and the starts of its sentences.

    `ranks` maps, for each scanner, its numbers to the final ones; -1 leaves a word out.
    """
    from omnivec.tables.kernels.vocabulary import renumber

    ids, ends, count = _Pile(in_memory), [], 0
    for numbers, (i, inside) in zip(pile, blocks, strict=True):
        length = renumber(numbers, inside, ranks[i], numbers)
        ids.add(numbers[:length])
        ends.append(inside + count)
        count += length
    return ids.whole(), cut(np.concatenate(ends), count)


def _nothing(name: str, scanner: _Scanner, order: Places, min_count: int) -> str:
    """The message of the error that no word is frequent enough."""
    if not len(order):
        return f"{name} holds no words"
    counts, most = scanner.counts(), int(order[0])
    return (
        f"{name}: no word occurs {min_count} times or more in {int(counts.sum()):,} words ({len(counts):,} different; "
        f"the most frequent, {scanner.word(most)[:40]!r}, {int(counts[most]):,} times): "
        "lower min_count, or give more text"
    )


def aside(work: Callable[[], object] | None) -> None:
    """Starts work in a thread of its own; its errors are ignored, since the same work done later will report them."""

    def quietly(work: Callable[[], object]) -> None:
        with contextlib.suppress(Exception):
            work()

    if work is not None:
        threading.Thread(target=quietly, args=(work,)).start()


def check_numba() -> None:
    """Raises MissingExtra if numba is not installed."""
    if importlib.util.find_spec("numba") is None:
        raise MissingExtra("training on words needs numba: pip install 'omnivec[words]'")
