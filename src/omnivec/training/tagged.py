"""Reads documents into word numbers, each document with the tag of its vector."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.inputs.files.rows import lines
from omnivec.inputs.text.whitespace import split_words
from omnivec.training import texts
from omnivec.training.corpus import Corpus
from omnivec.validation.arguments import plain

BLOCK = 2**20
"""Words that are counted at a time, to bound memory."""


class Documents(NamedTuple):
    """Documents as word numbers.

    Attributes:
        tags: distinct tags, in order of first occurrence; each has a vector.
        rows: (documents,) int32, the index of each document's tag in `tags`.
        corpus: the documents, as sentences; unlike in other corpora, none is left out or split.
    """

    tags: list[str]
    rows: NDArray[np.int32]
    corpus: Corpus


def read_documents(data: Any, min_count: int = 5, max_vocab: int | None = None) -> Documents:
    """Reads documents.

    Args:
        data: the path of a UTF-8 text (.gz and .bz2 too) with one document per line; or an iterable of documents, each
            a str, a list of words, or a pair of a tag, a str or an int, and one of these. A str is split into words as
            `omnivec.inputs.text.whitespace` describes, without changing case. Documents without a tag get their
            number, from "0". Documents with the same tag share a vector.
        min_count: words that occur less often are left out.
        max_vocab: most words of the vocabulary, the most frequent first; None for no limit.

    Raises:
        UsageError: there is nothing to read, an item is not a document, or no word is frequent enough.
    """
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    tags: defaultdict[str, int] = defaultdict()
    tags.default_factory = tags.__len__
    rows, parts = [], []
    for i, (tag, words) in enumerate(_documents(data)):
        rows.append(tags[tag if tag is not None else str(i)])
        parts.append(np.fromiter((numbers[word] for word in words), np.int32))
    if not parts:
        raise UsageError("data holds no document")
    bounds = np.append(0, np.cumsum([len(part) for part in parts], dtype=np.int64))
    flat = np.concatenate(parts)
    parts.clear()
    counts = np.zeros(len(numbers), np.int64)
    for first in range(0, len(flat), BLOCK):  # np.bincount makes an int64 copy of its input
        counts += np.bincount(flat[first : first + BLOCK], minlength=len(numbers))
    order = np.argsort(-counts, kind="stable")
    frequent = order[counts[order] >= min_count][:max_vocab]
    if not len(frequent):
        raise UsageError(
            f"no word occurs {min_count} times or more in {len(flat):,} words of {len(rows):,} documents: "
            "lower min_count, or give more text"
        )
    ranks = np.full(len(counts), -1, np.int32)
    ranks[frequent] = np.arange(len(frequent))
    spelled = list(numbers)
    ids = ranks[flat]
    known = ids >= 0
    lengths = [np.count_nonzero(known[begin:end]) for begin, end in pairwise(bounds.tolist())]
    starts = np.append(0, np.cumsum(lengths, dtype=np.int64))
    corpus = Corpus([spelled[i] for i in frequent], counts[frequent], ids[known], starts, len(flat))
    return Documents(list(tags), np.array(rows, np.int32), corpus)


def _documents(data: Any) -> Iterator[tuple[str | None, Sequence[str]]]:
    if isinstance(data, str | Path):
        yield from ((None, split_words(line)) for line in lines(texts.path(data)))
        return
    documents = texts.several(
        data, "the path of a text, or documents, each a str, a list of words, or (tag, either)"
    )
    for i, item in enumerate(documents):
        tag, words = item if isinstance(item, tuple) and len(item) == 2 else (None, item)
        tag, words = plain(tag), words.tolist() if isinstance(words, np.ndarray) else words
        if isinstance(tag, int) and not isinstance(tag, bool):
            tag = str(tag)
        if not isinstance(tag, str | None):
            raise texts.wrong(f"data, item {i}: its tag", tag, "a str or an int")
        if isinstance(words, str):
            words = split_words(words)
        if not isinstance(words, list | tuple):
            raise texts.wrong(f"data, item {i}", words, "a str, a list of words, or (tag, either of them)")
        for at, word in enumerate(words):
            if not isinstance(word, str):
                raise texts.wrong(f"data, item {i}: word {at}", word, "a str")
        yield tag, words
