"""A text as numbers: its words by falling count, and every sentence as rows of that list. Read once."""

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
"""Words in a sentence, as in word2vec's programs; a longer one is cut there, so that no window crosses the cut."""
IN_MEMORY = 2**30
"""Bytes of numbers that are held in memory; what is beyond lies in a temporary file."""
BLOCK = 2**22
"""Bytes that are scanned at a time, by one thread."""

SENTENCES = (list, tuple, np.ndarray)
"""What holds the words of a sentence."""
WORD_END, SENTENCE_END = b"\xfe", b"\xff"  # bytes that UTF-8 never has
PARTS = np.isin(np.arange(256), np.frombuffer(BLANK_BYTES, np.uint8))
"""(256,) bool, the bytes that part words in a file."""

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int32]
Places = NDArray[np.int64]
Piece = tuple[Bytes, int, int]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text in numbers.

    Attributes:
        words: by falling count, equally frequent ones by their first occurrence.
        counts: (v,) occurrences of each.
        ids: (kept,) the text as indices of words, sentence after sentence; rarer words are left out.
        starts: (sentences + 1,) where in `ids` each sentence begins; sentences without words are left out, and those
            of more than MOST words are cut.
        total: words read, rarer ones included.
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
        data: the path of a UTF-8 text (.gz and .bz2 too), a sentence on each line, or several as `pathlib.Path`s; or
            an iterable of sentences, each a str or a list of words, read once. Words of a text or str are parted as
            `omnivec.inputs.text.whitespace` has it, and taken as they are.
        min_count: rarer words are left out.
        max_vocab: only so many words, the most frequent, are kept.
        threads: that scan; by default as many as there are CPUs.
        in_memory: bytes of numbers that are held in memory, those beyond in a temporary file.
        show_progress_bar: progress on stderr; None in a terminal or a notebook.
        meanwhile: called in a thread of its own once the first words are read; see `aside`.

    Raises:
        UsageError: nothing to read, no text, or no word that is frequent enough.
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
    """A corpus without its rarer words; see `read_corpus`."""
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
    """(sentences + 1,) starts from the sentences' ends in a text of `count` words: no empty ones, none above MOST."""
    bounds = np.unique(np.concatenate([[0], ends, [count]]))
    pieces = -(-np.diff(bounds) // MOST)
    before = np.repeat(np.cumsum(pieces) - pieces, pieces)
    inside = (np.arange(len(before)) - before) * MOST
    return np.append(np.repeat(bounds[:-1], pieces) + inside, count).astype(np.int64)


@dataclass(frozen=True, eq=False)
class _TextSource:
    """Something to read, block by block.

    Attributes:
        name: for messages.
        blocks: (bytes with padding behind, how many of them are text, place of the first), cut between two words.
        spaces: whether white space parts words.
        line_end: the byte that ends a sentence.
        size: bytes in all, None where not known.
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
    """Where the last white space of a block ends."""
    for tail in (4096, length):
        text = block[max(length - tail, 0) : length]
        blank = np.flatnonzero(PARTS[text])
        if len(blank):
            return max(length - tail, 0) + int(blank[-1]) + 1
    if length > BLOCK:
        raise UsageError(f"{path} holds {length:,} bytes without white space: is it a text of words?")
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
    """A sentence's bytes, its words parted."""
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
    """The words that one thread has met."""

    def __init__(self, source: _TextSource) -> None:
        from omnivec.tables.kernels import vocabulary

        self._kernels, self._source = vocabulary, source
        self.table = vocabulary.table(2**16, 2**20)

    def scan(self, block: Bytes, length: int, place: int) -> tuple[Numbers, Places]:
        """Numbers of a block's words, and how many words stand before each sentence's end."""
        ids, ends = np.empty(length // 2 + 1, np.int32), np.empty(length, np.int64)
        settings = self._source.line_end, self._source.spaces
        state = np.array([0, length, place, 0, 0, *settings], np.int64)
        while not self._kernels.scan(block, state, self.table, ids, ends):
            self.table = self._kernels.grown(self.table, length)
        return ids[: state[3]].copy(), ends[: state[4]].copy()

    def merge(self, other: _Scanner) -> Numbers:
        """Adds another's words; returns the number here of each."""
        tallies = self._kernels.counts(other.table)
        numbers = np.full(len(tallies), -1, np.int32)
        while self._kernels.merge(self.table, other.table, tallies, numbers) < len(tallies):
            self.table = self._kernels.grown(self.table, len(other.table.spelled))
        return numbers

    def counts(self) -> Places:
        """(words,) occurrences of each."""
        return self._kernels.counts(self.table)

    def first(self) -> Places:
        """(words,) the byte where each first occurs."""
        return self.table.first[: self.table.size[0]]

    def word(self, number: int) -> str:
        """How a word is spelled."""
        return (
            self.table.spelled[self.table.starts[number] : self.table.starts[number + 1]].tobytes().decode()
        )


class _Pile:
    """Arrays of numbers, one behind the other: in memory up to a limit, beyond it in a temporary file."""

    def __init__(self, limit: int) -> None:
        self._room = limit
        self._held: list[Numbers] = []
        self._sizes: list[int] = []
        self._file: IO[bytes] | None = None

    def add(self, numbers: Numbers) -> None:
        """Puts an array behind the others."""
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
                f"{tempfile.gettempdir()} cannot take the numbers of a text larger than memory ({of_system(error)}): "
                "set TMPDIR to a folder with more room"
            ) from error
        self._held.clear()

    def __iter__(self) -> Iterator[Numbers]:
        """The arrays, once."""
        if self._file is None:
            while self._held:
                yield self._held.pop(0)
            return
        with self._file:
            self._file.seek(0)
            yield from (np.fromfile(self._file, np.int32, size) for size in self._sizes)

    def whole(self) -> Numbers:
        """All of them as one array."""
        if self._file is None or not sum(self._sizes):
            whole, end = np.empty(sum(map(len, self._held)), np.int32), 0
            while self._held:  # each is let go once it is copied: at no time is the text in memory twice
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
    wanted: bool | None,
    meanwhile: Callable[[], object] | None,
) -> tuple[_Scanner, _Pile, list[tuple[int, Places]], list[Numbers]]:
    """The words; the text by each scanner's numbers; for each block its scanner and sentences' ends; numbers here."""
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
    with progress.bar("reading", source.size, "bytes", wanted) as bar:
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
    """The text by the words' final numbers (by scanner: its number -> the final one), and its sentences' starts."""
    from omnivec.tables.kernels.vocabulary import renumber

    ids, ends, count = _Pile(in_memory), [], 0
    for numbers, (i, inside) in zip(pile, blocks, strict=True):
        length = renumber(numbers, inside, ranks[i], numbers)
        ids.add(numbers[:length])
        ends.append(inside + count)
        count += length
    return ids.whole(), cut(np.concatenate(ends), count)


def _nothing(name: str, scanner: _Scanner, order: Places, min_count: int) -> str:
    """Why no word is left."""
    if not len(order):
        return f"{name} holds no words"
    counts, most = scanner.counts(), int(order[0])
    return (
        f"{name}: no word occurs {min_count} times or more in {int(counts.sum()):,} words ({len(counts):,} different; "
        f"the most frequent, {scanner.word(most)[:40]!r}, {int(counts[most]):,} times): "
        "lower min_count, or give more text"
    )


def aside(work: Callable[[], object] | None) -> None:
    """Starts work in a thread of its own; what fails in it will fail again where it counts, and is said there."""

    def quietly(work: Callable[[], object]) -> None:
        with contextlib.suppress(Exception):
            work()

    if work is not None:
        threading.Thread(target=quietly, args=(work,)).start()


def check_numba() -> None:
    """Raises MissingExtra where the kernels cannot be compiled."""
    if importlib.util.find_spec("numba") is None:
        raise MissingExtra("training on words needs numba: pip install 'omnivec[words]'")
