"""Full-text search: any query a user can type becomes a legal FTS5 expression, ranked by BM25.

Words are looked up in `passages_words`. Scripts written without spaces have no words that a tokenizer could
find, so their runs are looked up as trigrams in `passages_trigrams`, and runs shorter than that by scanning
its passages. The scores of both are added.
"""

from __future__ import annotations

import json
import math
import sqlite3
import unicodedata
from dataclasses import dataclass

from omnivec.errors import UsageError
from omnivec.store.text import UNSPACED, storable

# What stands around a word in ordinary writing, and is not part of what is meant.
_OPENING = "\"'([{<«‹„“‘¿¡*_,;:!?"
_CLOSING = "\"')]}>»›“”‘’.,;:!?…*_、。，！？"
_DASHES = frozenset("-–—&/|")

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
        literals: case-folded pieces that lose characters as words (C++, what's); passages that hold them
            come first. If nothing else is asked for, they are all that is looked for.
    """

    words: tuple[str, ...]
    trigrams: tuple[str, ...]
    short: tuple[str, ...]
    literals: tuple[str, ...]


def plan(query: str) -> Plan:
    """Takes a query apart; every query has a plan, the empty one included."""
    query = storable(query)
    runs: list[str] = UNSPACED.findall(query)
    words: list[str] = []
    literals: dict[str, None] = {}
    for chunk in query.split():
        cut = _words(chunk)
        words += cut
        bare = chunk.lstrip(_OPENING).rstrip(_CLOSING)
        if bare and cut != [bare] and bare not in _DASHES:
            literals[bare.casefold()] = None
    if not words and not literals:
        literals = dict.fromkeys(chunk.casefold() for chunk in query.split())
    telling = [word for word in words if word.casefold() not in STOP_WORDS]
    return Plan(
        tuple(telling or words),
        tuple(dict.fromkeys(run[i : i + 3] for run in runs for i in range(len(run) - 2))),
        tuple(dict.fromkeys(run for run in runs if len(run) < 3)),
        tuple(literals),
    )


def _words(chunk: str) -> list[str]:
    """Cuts as unicode61 does: letters, numbers and private use, with the marks on them."""
    cut = "".join(c if _in_word(c) or unicodedata.category(c)[0] == "M" else " " for c in chunk).split()
    return [word for word in cut if any(map(_in_word, word))]


def _in_word(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "Co"


def _expression(terms: tuple[str, ...]) -> str:
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
    scores: dict[int, float] = {}
    for table, terms in (("passages_words", asked.words), ("passages_trigrams", asked.trigrams)):
        if terms:
            _add(scores, _ranked(connection, table, terms, allowed))
    for run in asked.short:
        _add(scores, _scanned(connection, "unspaced AND instr(text, ?)", run, allowed))
    if asked.words:
        _prefer(connection, scores, asked.literals)
    else:
        for literal in asked.literals:
            _add(scores, _scanned(connection, "mentions(text, ?)", literal, allowed))
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:k]


def _add(scores: dict[int, float], more: list[tuple[int, float]]) -> None:
    for key, score in more:
        scores[key] = scores.get(key, 0.0) + score


def _ranked(
    connection: sqlite3.Connection, table: str, terms: tuple[str, ...], allowed: str | None
) -> list[tuple[int, float]]:
    """All passages with any of the terms, and their BM25, which SQLite gives as a negative number."""
    sql = f"SELECT rowid, -bm25({table}) FROM {table} WHERE {table} MATCH ?"
    if allowed is None:
        return connection.execute(sql, (_expression(terms),)).fetchall()
    # The plus keeps SQLite from running the MATCH anew for each allowed key.
    sql += " AND +rowid IN (SELECT value FROM json_each(?))"
    return connection.execute(sql, (_expression(terms), allowed)).fetchall()


def _scanned(
    connection: sqlite3.Connection, condition: str, literal: str, allowed: str | None
) -> list[tuple[int, float]]:
    """All passages that hold a literal, each with the literal's inverse document frequency as BM25 has it."""
    total = connection.execute("SELECT count(*) FROM passages").fetchone()[0]
    rows = connection.execute(f"SELECT key FROM passages WHERE {condition}", (literal,)).fetchall()
    rarity = math.log1p((total - len(rows) + 0.5) / (len(rows) + 0.5))
    if allowed is None:
        return [(key, rarity) for (key,) in rows]
    permitted = set(json.loads(allowed))
    return [(key, rarity) for (key,) in rows if key in permitted]


def _prefer(connection: sqlite3.Connection, scores: dict[int, float], literals: tuple[str, ...]) -> None:
    """Lifts the passages that hold a literal above all that do not, and more of them above fewer."""
    lift = 1.0 + max(scores.values(), default=0.0)
    placed = ",".join(map(str, scores))
    for literal in literals:
        rows = connection.execute(
            "SELECT key FROM passages WHERE key IN (SELECT value FROM json_each(?)) AND mentions(text, ?)",
            (f"[{placed}]", literal),
        )
        for (key,) in rows.fetchall():
            scores[key] += lift
