"""The positions of a query's words in the passages that match it."""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections.abc import Sequence

from omnivec.store.fulltext import Plan, expression, plan
from omnivec.store.strings import words_in

Spans = tuple[tuple[int, int], ...]

_PASSED_OVER = 5_000
_MARKED = re.compile("\x02([^\x02\x03]+)\x03")


def matches(connection: sqlite3.Connection, query: str, keys: Sequence[int]) -> dict[int, Spans]:
    """The spans of passages that match words of a query, compared by their stems as in the search.

    Args:
        connection: for reading.
        query: any text.
        keys: of the passages.

    Returns:
        Key of each existing passage -> (start, end) of each match in its text, end exclusive, ascending, without
        overlaps.
    """
    planned, listed = plan(query), json.dumps(list(keys))
    words: dict[int, set[str]] = {}
    if planned.words:
        # FTS5 compares stems; what it marks are the words as they are written in the text.
        # To look up a passage takes as long as to pass over some thousands of those that match.
        most = connection.execute("SELECT coalesce(max(key), 0) FROM passages").fetchone()[0]
        rowid = "rowid" if _PASSED_OVER * len(keys) < most else "+rowid"
        rows = connection.execute(
            "SELECT rowid, highlight(passages_words, 0, char(2), char(3)) FROM passages_words"
            f" WHERE passages_words MATCH ? AND {rowid} IN (SELECT value FROM json_each(?))",
            (expression(planned.words), listed),
        )
        words = {key: {_folded(word) for word in _MARKED.findall(marked)} for key, marked in rows}
    texts = connection.execute(
        "SELECT key, text FROM passages WHERE key IN (SELECT value FROM json_each(?))", (listed,)
    )
    return {key: _spans(text, words.get(key, set()), planned) for key, text in texts}


def _folded(word: str) -> str:
    return unicodedata.normalize("NFKC", word).casefold()


def _spans(text: str, words: set[str], planned: Plan) -> Spans:
    spans = [word.span() for word in words_in(text) if _folded(word[0]) in words]
    folded = text.casefold()
    if len(folded) == len(text):  # else offsets in the folded text are not offsets in the text
        for literal in (*planned.trigrams, *planned.short, *planned.literals):
            start = folded.find(literal.casefold())
            while start >= 0:
                spans.append((start, start + len(literal)))
                start = folded.find(literal.casefold(), start + 1)
    return tuple(_merged(sorted(spans)))


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ascending spans, with those that overlap or touch merged into one."""
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
