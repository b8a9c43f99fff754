"""Full-text search: any query a user can type becomes a legal FTS5 expression, ranked by BM25.

Query and passages are compared in the form that `text.searchable` gives them. Words are looked up in `passages_words`.
Scripts written without spaces have no words that a tokenizer could find, so their runs are looked up as trigrams in
`passages_trigrams`, and runs shorter than that by scanning its passages. An identifier such as C++ or os.path, whose
signs are lost in its words, adds its own rarity to the passages that hold it as it stands. All scores are added.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from omnivec.errors import UsageError
from omnivec.store.strings import UNSPACED, searchable, storable

# What stands around a word in ordinary writing, and is not part of what is meant.
_OPENING = "\"'([{)]}<«‹„“‘¿¡*_,;:!?"
_CLOSING = "\"')]}[{>»›“”‘’.,;:!?…*_、。，！？"

# Signs inside ordinary words (isn't, state-of-the-art, and/or); any other makes an identifier of them, as does a digit.
_ORDINARY = re.compile(r"['’.‐‑–—/,:;&!?()\"“”‘…-]")
_IDENTIFIER = re.compile(
    r"""
      \d
    | ^ [./] \w                  # .NET, /etc/hosts
    | [^\W_]{2} \. [^\W_]{2}    # os.path, report.txt; not U.S., e.g.
    | \w :: \w | \w/\w+/\w      # std::vector, a/b/c
    | \w \( $                   # a call: strip()
    """,
    re.VERBOSE,
)

# Terms in one expression of FTS5, and SELECTs in one statement: SQLite takes 500.
MOST_TERMS = 256
MOST_SOURCES = 100

RARITY_OF_IDENTIFIERS = 2.0
"""Weight of an identifier's rarity beside BM25, so that it comes first in questions of ordinary length as well."""

# English words that say nothing about a passage; a query of nothing else is looked up as it stands.
STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "for",
        "if",
        "in",
        "into",
        "is",
        "it",
        "no",
        "not",
        "of",
        "on",
        "or",
        "such",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "will",
        "with",
    ]
)


@dataclass(frozen=True)
class Plan:
    """What a query asks of the tables.

    Attributes:
        words: as unicode61 would cut them; one that is said twice counts twice, as in BM25's own definition.
        trigrams: of the runs of scripts without spaces.
        short: runs of one or two such characters.
        literals: case-folded identifiers (C++, os.path); the passages that hold them rank higher, the more the rarer
            they are. If no word is asked for, all pieces of the query, which are then all that is looked for.
    """

    words: tuple[str, ...]
    trigrams: tuple[str, ...]
    short: tuple[str, ...]
    literals: tuple[str, ...]


def plan(query: str) -> Plan:
    """Takes a query apart; every query has a plan, the empty one included."""
    query = searchable(storable(query))
    runs = [word for run in UNSPACED.findall(query) for word in _words(run)]
    words: list[str] = []
    literals: dict[str, None] = {}
    for chunk in query.split():
        cut = _words(chunk)
        words += cut
        literal = _literal(chunk, cut)
        if literal is not None:
            literals[literal] = None
    if not words and not literals:
        literals = dict.fromkeys(chunk.casefold() for chunk in query.split())
    telling = [word for word in words if word.casefold() not in STOP_WORDS]
    return Plan(
        tuple(telling or words),
        tuple(dict.fromkeys(run[i : i + 3] for run in runs for i in range(len(run) - 2))),
        tuple(dict.fromkeys(run for run in runs if len(run) < 3)),
        tuple(literals),
    )


def _literal(chunk: str, words: list[str]) -> str | None:
    """The identifier in a piece of a query between blanks; None where its words say all of it."""
    start, end = 0, len(chunk)
    while start < end and (chunk[start] in _OPENING or _is_foreign_sign(chunk[start])):
        start += 1
    while start < end and (chunk[end - 1] in _CLOSING or _is_foreign_sign(chunk[end - 1])):
        end -= 1
    bare = chunk[start:end]
    dunder = f"__{bare}__"  # underscores around a word are markup mostly, and so are no part of it
    if dunder in chunk:
        return dunder.casefold()
    if not bare or words == [bare] or (not words and len(bare) == 1 and bare.isascii()):
        return None  # also a sign by itself: R & D, a + b
    plain = all(map(_is_ordinary, bare))
    return None if plain and not _IDENTIFIER.search(bare) else bare.casefold()


def _is_ordinary(character: str) -> bool:
    known = _in_word(character) or _is_mark(character) or _is_foreign_sign(character)
    return known or _ORDINARY.match(character) is not None


def _is_foreign_sign(character: str) -> bool:
    """Punctuation and invisible characters outside ASCII: no identifier is made of them."""
    return not character.isascii() and unicodedata.category(character)[0] in "PZC" and not _in_word(character)


def _words(chunk: str) -> list[str]:
    """Cuts as unicode61 does: letters, numbers and private use, with the marks on them."""
    cut = "".join(c if _in_word(c) or _is_mark(c) else " " for c in chunk).split()
    return [word for word in cut if any(map(_in_word, word))]


def _in_word(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "Co"


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def expression(terms: tuple[str, ...]) -> str:
    """An FTS5 expression for any of the terms; a quoted term has no operators in it."""
    return " OR ".join(f'"{term}"' for term in terms)


def search(
    connection: sqlite3.Connection, query: str, k: int, allowed: str | None
) -> list[tuple[int, float]]:
    """Finds the k passages whose text fits a query best.

    Args:
        connection: for reading.
        query: anything.
        k: how many, at least 1.
        allowed: JSON list of the only passage keys that may be found; None means all.

    Returns:
        (key, score) pairs, best first; ties go to the smaller key.
    """
    if k < 1:
        raise UsageError(f"k is {k}; it must be at least 1")
    asked = plan(query)
    sources = [
        _ScoredQuery(
            f"SELECT rowid AS key, {times} * -bm25({table}) AS score FROM {table} WHERE {table} MATCH ?",
            (expression(terms),),
        )
        for table, asked_for in (("passages_words", asked.words), ("passages_trigrams", asked.trigrams))
        for times, terms in _portions(asked_for)
    ]
    counted = _Rarity(connection)
    for run in asked.short:
        counted.add("SELECT key FROM unspaced WHERE instr(text, ?)", run)
    for literal in asked.literals:
        counted.add_literal(literal, bool(asked.words))
    # SQLite unites so many SELECTs and no more; a question may be a whole file.
    for source in sources[MOST_SOURCES:]:
        counted.take(connection.execute(source.sql, source.parameters))
    return _best(connection, [*sources[:MOST_SOURCES], *counted.sources()], k, allowed)


class _ScoredQuery(NamedTuple):
    """A SELECT of (key, score) pairs, with its parameters."""

    sql: str
    parameters: tuple[Any, ...]


def _portions(terms: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Terms with how often each is asked for, some at a time.

    BM25 is a sum over them, and FTS5's parser takes time in proportion to the square of their number.
    """
    by_times: dict[int, list[str]] = {}
    for term, times in Counter(terms).items():
        by_times.setdefault(times, []).append(term)
    for times, group in by_times.items():
        for start in range(0, len(group), MOST_TERMS):
            yield times, tuple(group[start : start + MOST_TERMS])


class _Rarity:
    """Scores of passages by what FTS5 does not count: each thing found adds its inverse document frequency."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._scores: dict[int, float] = {}

    @cached_property
    def _total(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM passages").fetchone()[0])

    def add(self, sql: str, *parameters: str, weight: float = 1.0) -> None:
        """The passages that a statement finds, each with the frequency, as BM25 has it, of being found."""
        keys = [row[0] for row in self._connection.execute(sql, parameters)]
        score = weight * math.log1p((self._total - len(keys) + 0.5) / (len(keys) + 0.5))
        self.take((key, score) for key in keys)

    def add_literal(self, literal: str, beside_words: bool) -> None:
        """The passages that hold a literal as it stands: beside words its own words find those that may."""
        words = _words(literal) if beside_words else []
        if not words:
            self.add("SELECT key FROM passages WHERE mentions(text, ?)", literal)
            return
        sql = """
            SELECT key FROM passages WHERE mentions(text, ?)
            AND key IN (SELECT rowid FROM passages_words WHERE passages_words MATCH ?)
        """
        self.add(sql, literal, " AND ".join(f'"{word}"' for word in words), weight=RARITY_OF_IDENTIFIERS)

    def take(self, scored: Iterable[tuple[int, float]]) -> None:
        """More (key, score) pairs."""
        for key, score in scored:
            self._scores[key] = self._scores.get(key, 0.0) + score

    def sources(self) -> list[_ScoredQuery]:
        """All of them as one source; none where nothing was found."""
        if not self._scores:
            return []
        sql = "SELECT json_extract(value, '$[0]') AS key, json_extract(value, '$[1]') AS score FROM json_each(?)"
        return [_ScoredQuery(sql, (json.dumps(list(self._scores.items())),))]


def _best(
    connection: sqlite3.Connection, sources: list[_ScoredQuery], k: int, allowed: str | None
) -> list[tuple[int, float]]:
    """The k best sums of scores: sorted by SQLite, which keeps no more than k rows."""
    if not sources:
        return []
    parameters = [value for source in sources for value in source.parameters]
    chosen = ""
    if allowed is not None:
        chosen = "WHERE key IN (SELECT value FROM json_each(?))"
        parameters.append(allowed)
    union = " UNION ALL ".join(source.sql for source in sources)
    total = "score" if len(sources) == 1 else "sum(score)"
    grouped = "" if len(sources) == 1 else "GROUP BY key"
    return connection.execute(
        f"WITH found AS MATERIALIZED ({union})"
        f" SELECT key, {total} AS total FROM found {chosen} {grouped} ORDER BY total DESC, key LIMIT ?",
        [*parameters, k],
    ).fetchall()
