"""Full-text search: any query becomes a valid FTS5 expression, and passages are ranked by BM25.

Query and passages are compared in the form that `strings.searchable` gives them. Words are looked up in
`passages_words`. Scripts written without spaces have no words that a tokenizer could find, so runs of their characters
are looked up as trigrams in `passages_trigrams`, and runs of one or two characters by scanning the passages in such
scripts. An identifier such as C++ or os.path, whose punctuation the tokenizer drops, raises the score of the passages
that contain it literally, by its inverse document frequency. A passage's score is the sum of all of these.

Worked examples of `plan`:

    What is the C++ map, and os.path?   words     What C map os path      (is, the, and: stop words)
                                        literals  c++ os.path
    東京タワー 駅 の本                  words     東京タワー 駅 の本
                                        trigrams  東京タ 京タワ タワー
                                        short     駅 の本
    the and                             words     the and                 (no other words: stop words count)

The words of the first query become `"What" OR "C" OR "map" OR "os" OR "path"`; FTS5 stems them as it did the passages.
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

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.store.strings import UNSPACED, searchable, storable

# Punctuation around a word in ordinary writing, which is not part of an identifier.
_OPENING = "\"'([{)]}<«‹„“‘¿¡*_,;:!?"
_CLOSING = "\"')]}[{>»›“”‘’.,;:!?…*_、。，！？"

# Punctuation inside ordinary words (isn't, state-of-the-art, and/or); one with any other, or a digit, is an identifier.
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

# Most terms in one FTS5 expression, and most SELECTs in one statement, of which SQLite allows 500.
MOST_TERMS = 256
MOST_SOURCES = 100

MOST_RANKED = 20_000
"""Most passages whose BM25 is computed for a query, unless more are wanted: 50 ms."""

RARITY_OF_IDENTIFIERS = 2.0
"""Weight of an identifier's inverse document frequency beside BM25, so that it also decides in long questions."""

# English words that are left out of a query, unless it has no others.
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
    """The words and other pieces of text that are looked up for a query.

    Attributes:
        words: as unicode61 splits them; a word that occurs twice counts twice, as in the definition of BM25.
        trigrams: of the runs of characters in scripts without spaces.
        short: runs of one or two such characters.
        literals: case-folded identifiers (C++, os.path); passages that contain them rank higher, the rarer the more. If
            the query has neither words nor identifiers, all of its pieces between blanks.
    """

    words: tuple[str, ...]
    trigrams: tuple[str, ...]
    short: tuple[str, ...]
    literals: tuple[str, ...]


def plan(query: str) -> Plan:
    """Analyses a query; every query has a plan, the empty one included."""
    query = searchable(storable(query))
    runs = [word for run in UNSPACED.findall(query) for word in _words(run)]
    words: list[str] = []
    literals: dict[str, None] = {}
    for chunk in query.split():
        chunk_words = _words(chunk)
        words += chunk_words
        literal = _literal(chunk, chunk_words)
        if literal is not None:
            literals[literal] = None
    if not words and not literals:
        literals = dict.fromkeys(chunk.casefold() for chunk in query.split())
    content_words = [word for word in words if word.casefold() not in STOP_WORDS]
    return Plan(
        tuple(content_words or words),
        tuple(dict.fromkeys(run[i : i + 3] for run in runs for i in range(len(run) - 2))),
        tuple(dict.fromkeys(run for run in runs if len(run) < 3)),
        tuple(literals),
    )


def _literal(chunk: str, words: list[str]) -> str | None:
    """The identifier in a piece of a query between blanks; None if the piece is an ordinary word."""
    start, end = 0, len(chunk)
    while start < end and (chunk[start] in _OPENING or _is_foreign_sign(chunk[start])):
        start += 1
    while start < end and (chunk[end - 1] in _CLOSING or _is_foreign_sign(chunk[end - 1])):
        end -= 1
    bare = chunk[start:end]
    dunder = (
        f"__{bare}__"  # other underscores around a word are mostly markup, and were removed like punctuation
    )
    if dunder in chunk:
        return dunder.casefold()
    if not bare or words == [bare] or (not words and len(bare) == 1 and bare.isascii()):
        return None  # a word, or a single character of punctuation: R & D, a + b
    plain = all(map(_is_ordinary, bare))
    return None if plain and not _IDENTIFIER.search(bare) else bare.casefold()


def _is_ordinary(character: str) -> bool:
    known = _in_word(character) or _is_mark(character) or _is_foreign_sign(character)
    return known or _ORDINARY.match(character) is not None


def _is_foreign_sign(character: str) -> bool:
    """Whether a character is punctuation or invisible, and outside ASCII: identifiers have no such characters."""
    return not character.isascii() and unicodedata.category(character)[0] in "PZC" and not _in_word(character)


def _words(chunk: str) -> list[str]:
    """Splits as unicode61 does: a word is a run of letters, numbers and private-use characters, with their marks."""
    words = "".join(c if _in_word(c) or _is_mark(c) else " " for c in chunk).split()
    return [word for word in words if any(map(_in_word, word))]


def _in_word(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "Co"


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def expression(terms: tuple[str, ...]) -> str:
    """An FTS5 expression that matches any of the terms; they are quoted, so that none is read as an operator."""
    return " OR ".join(f'"{term}"' for term in terms)


def search(
    connection: sqlite3.Connection, query: str, k: int, allowed: str | None
) -> list[tuple[int, float]]:
    """Finds the k passages that match a query best.

    Args:
        connection: for reading.
        query: any text.
        k: how many, at least 1.
        allowed: a JSON list of the passage keys that may be found; None for all.

    Returns:
        (key, score) pairs, best first; ties go to the smaller key.
    """
    if k < 1:
        raise UsageError(f"k is {k}; it must be at least 1")
    planned = plan(query)
    sources = [
        source
        for table, terms in (("passages_words", planned.words), ("passages_trigrams", planned.trigrams))
        if terms
        for source in _ranked(connection, table, terms, allowed, narrow=k <= MOST_RANKED)
    ]
    scored = _Rarity(connection)
    for run in planned.short:
        scored.add("SELECT key FROM unspaced WHERE instr(text, ?)", run)
    for literal in planned.literals:
        scored.add_literal(literal, bool(planned.words))
    # SQLite limits the number of SELECTs in a UNION, and a query may be a whole file.
    for source in sources[MOST_SOURCES:]:
        scored.take(connection.execute(source.sql, source.parameters))
    return _best(connection, [*sources[:MOST_SOURCES], *scored.sources()], k, allowed)


def _ranked(
    connection: sqlite3.Connection, table: str, terms: tuple[str, ...], allowed: str | None, *, narrow: bool
) -> list[_ScoredQuery]:
    """The BM25 of the passages that contain some of the terms; if `narrow` is set, of the `_candidates` among them."""
    # Each comma is followed by a key: a list of few keys is choice enough.
    if narrow and (allowed is None or allowed.count(",") >= MOST_RANKED):
        terms, allowed = _candidates(connection, table, terms, allowed)
    # The + keeps SQLite from looking up one row after the other. What is left out here is not scored.
    chosen = "" if allowed is None else " AND +rowid IN (SELECT value FROM json_each(?))"
    parameters = [] if allowed is None else [allowed]
    return [
        _ScoredQuery(
            f"SELECT rowid AS key, {times} * -bm25({table}) AS score FROM {table} WHERE {table} MATCH ?{chosen}",
            (expression(some), *parameters),
        )
        for times, some in _portions(terms)
    ]


def _candidates(
    connection: sqlite3.Connection, table: str, terms: tuple[str, ...], allowed: str | None
) -> tuple[tuple[str, ...], str | None]:
    """Which passages are ranked, if more than `MOST_RANKED` contain some of the terms.

    A BM25 takes 2 to 3 µs, and to find that a passage contains a term a tenth of that. Therefore those passages are
    ranked whose terms have the largest sum of inverse document frequencies: what BM25 would be if each term occurred
    once, in passages of one length. Terms that more than half of the passages contain have no weight in BM25, and are
    left out beside others.

    Returns:
        The terms that count, and the keys of the passages as a JSON list; None for all that contain a term.
    """
    most = connection.execute("SELECT coalesce(max(key), 0) FROM passages").fetchone()[0]
    if most <= MOST_RANKED:  # an upper bound of the number of passages
        return terms, allowed
    counts = {
        term: int(
            connection.execute(
                f"SELECT count(*) FROM {table} WHERE {table} MATCH ?", (expression((term,)),)
            ).fetchone()[0]
        )
        for term in dict.fromkeys(terms)
    }
    if sum(counts.values()) <= MOST_RANKED:
        return terms, allowed
    useful = {term: found for term, found in counts.items() if 0 < 2 * found <= most} or counts
    terms = tuple(term for term in terms if term in useful)
    weights = np.zeros(most + 1, np.float32)
    for term, times in Counter(terms).items():
        listed = connection.execute(
            f"SELECT group_concat(rowid) FROM {table} WHERE {table} MATCH ?", (expression((term,)),)
        ).fetchone()[0]
        rarity = math.log1p((most - useful[term] + 0.5) / (useful[term] + 0.5))
        weights[np.fromstring(listed or "", np.int64, sep=",")] += times * rarity
    if allowed is not None:
        passing = np.zeros(most + 1, np.bool_)
        passing[[key for key in json.loads(allowed) if key <= most]] = True
        weights[~passing] = 0
    return terms, str(_heaviest(weights, MOST_RANKED).tolist())


def _heaviest(weights: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The places of the `count` largest weights above 0, ascending; of equal ones, those that come first."""
    places = np.flatnonzero(weights)
    if len(places) <= count:
        return places
    own = weights[places]
    least = np.partition(own, len(own) - count)[len(own) - count]
    above = own > least
    level = np.flatnonzero(own == least)[: count - int(above.sum())]
    above[level] = True
    heaviest: NDArray[np.int64] = places[above]
    return heaviest


class _ScoredQuery(NamedTuple):
    """A SELECT of (key, score) pairs, with its parameters."""

    sql: str
    parameters: tuple[Any, ...]


def _portions(terms: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Groups of at most `MOST_TERMS` terms that occur equally often, each with this number.

    BM25 is a sum over the terms, so they can be split; FTS5's parser takes time quadratic in their number.
    """
    by_times: dict[int, list[str]] = {}
    for term, times in Counter(terms).items():
        by_times.setdefault(times, []).append(term)
    for times, group in by_times.items():
        for start in range(0, len(group), MOST_TERMS):
            yield times, tuple(group[start : start + MOST_TERMS])


class _Rarity:
    """Scores of what FTS5 cannot look up: each run or identifier adds its inverse document frequency to passages."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._scores: dict[int, float] = {}

    @cached_property
    def _total(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM passages").fetchone()[0])

    def add(self, sql: str, *parameters: str, weight: float = 1.0) -> None:
        """Adds the inverse document frequency, as BM25 defines it, to the passages that a statement selects."""
        keys = [row[0] for row in self._connection.execute(sql, parameters)]
        score = weight * math.log1p((self._total - len(keys) + 0.5) / (len(keys) + 0.5))
        self.take((key, score) for key in keys)

    def add_literal(self, literal: str, beside_words: bool) -> None:
        """Scores the passages that contain a literal.

        If the query has words, so has the literal, mostly, and the index of words narrows down which are scanned.
        """
        words = _words(literal) if beside_words else []
        if not words:
            self.add("SELECT key FROM passages WHERE mentions(text, ?)", literal)
            return
        sql = """
            SELECT key FROM passages WHERE mentions(text, ?)
            AND key IN (SELECT rowid FROM passages_words WHERE passages_words MATCH ?)
        """
        self.add(sql, literal, " AND ".join(f'"{word}"' for word in words), weight=RARITY_OF_IDENTIFIERS)

    def take(self, pairs: Iterable[tuple[int, float]]) -> None:
        """Adds (key, score) pairs."""
        for key, score in pairs:
            self._scores[key] = self._scores.get(key, 0.0) + score

    def sources(self) -> list[_ScoredQuery]:
        """All scores as one source; an empty list if there are none."""
        if not self._scores:
            return []
        sql = "SELECT json_extract(value, '$[0]') AS key, json_extract(value, '$[1]') AS score FROM json_each(?)"
        return [_ScoredQuery(sql, (json.dumps(list(self._scores.items())),))]


def _best(
    connection: sqlite3.Connection, sources: list[_ScoredQuery], k: int, allowed: str | None
) -> list[tuple[int, float]]:
    """The k passages with the best sum of scores; sorted by SQLite, which needs memory for k rows only."""
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
