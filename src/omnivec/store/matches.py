"""Where the words of a query stand in the passages that they found."""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections.abc import Sequence

from omnivec.store.fulltext import Plan, expression, plan
from omnivec.store.strings import words_in

Spans = tuple[tuple[int, int], ...]

_MARKED = re.compile("\x02([^\x02\x03]+)\x03")


def matches(connection: sqlite3.Connection, query: str, keys: Sequence[int]) -> dict[int, Spans]:
    """The characters of passages that the words of a query match, by their stems as the search matched them.

    Args:
        connection: for reading.
        query: anything.
        keys: of the passages.

    Returns:
        Key of each passage that there is -> (start, end) of each match in its text, end exclusive, ascending, none
        overlapping.
    """
    asked, listed = plan(query), json.dumps(list(keys))
    words: dict[int, set[str]] = {}
    if asked.words:
        # SQLite knows the stems; what it marks is the word as the text has it.
        rows = connection.execute(
            "SELECT rowid, highlight(passages_words, 0, char(2), char(3)) FROM passages_words"
            " WHERE passages_words MATCH ? AND +rowid IN (SELECT value FROM json_each(?))",
            (expression(asked.words), listed),
        )
        words = {key: {_folded(word) for word in _MARKED.findall(marked)} for key, marked in rows}
    texts = connection.execute(
        "SELECT key, text FROM passages WHERE key IN (SELECT value FROM json_each(?))", (listed,)
    )
    return {key: _spans(text, words.get(key, set()), asked) for key, text in texts}


def _folded(word: str) -> str:
    return unicodedata.normalize("NFKC", word).casefold()


def _spans(text: str, words: set[str], asked: Plan) -> Spans:
    spans = [piece.span() for piece in words_in(text) if _folded(piece[0]) in words]
    folded = text.casefold()
    if len(folded) == len(text):  # else places in the one are not places in the other
        for literal in (*asked.trigrams, *asked.short, *asked.literals):
            place = folded.find(literal.casefold())
            while place >= 0:
                spans.append((place, place + len(literal)))
                place = folded.find(literal.casefold(), place + 1)
    return tuple(_merged(sorted(spans)))


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in ascending order, those that overlap or touch as one."""
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
