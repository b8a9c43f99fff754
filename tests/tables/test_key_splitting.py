"""Words of a text as a table of words knows them."""

from __future__ import annotations

import pytest

from omnivec.tables.keys import KeyCutter

TABLE = ["paris", "well", "-", "made", "well-known", ",", "London", "us", "US"]
LOWER = [key.lower() for key in TABLE[:6]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Paris, well-made", ["paris", ",", "well", "-", "made"]),
        ("well-known London US us", ["well-known", "London", "US", "us"]),
        ("london", []),
        ("Madrid", []),
    ],
)
def test_words_as_they_stand_then_in_parts(text: str, words: list[str]) -> None:
    assert KeyCutter(TABLE).words(text) == words


@pytest.mark.parametrize(
    ("keys", "text", "words"),
    [
        (TABLE, "paris, well-made paris well-known", ["paris", "well-known"]),
        (TABLE, "Paris US Us", ["US"]),
        (LOWER, "Paris Well-Known Well-made", ["paris", "well-known"]),
    ],
)
def test_whole_words_are_never_looked_for_in_parts(keys: list[str], text: str, words: list[str]) -> None:
    """Case is only folded where the whole table is of lower case."""
    assert KeyCutter(keys, whole=True).words(text) == words
