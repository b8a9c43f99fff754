"""Values of metadata as cells: one rule of reading, and a writing that the rule reads back."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnivec.collection.cells import METADATA, MISSING, cell_of, column_of, is_reserved, key_of, value_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("2024", 2024),
        ("-0.5", -0.5),
        ("1e3", 1000.0),
        ("true", True),
        ("false", False),
        ("null", None),
        ("NaN", None),
        ('["a", 1]', ["a", 1]),
        ('{"a": 1}', {"a": 1}),
        ('"2024"', "2024"),
        ("007", "007"),
        ("1,5", "1,5"),
        ("1_000", "1_000"),
        ("True", "True"),
        ("nan", "nan"),
        ("Infinity", "Infinity"),
        ("1e999", "1e999"),
        ("2024-01-05", "2024-01-05"),
        ("+49 30 901820", "+49 30 901820"),
        ('"quoted" is not all', '"quoted" is not all'),
        ("[sic]", "[sic]"),
        ("{", "{"),
        (" ", " "),
        ("top up", "top up"),
    ],
)
def test_a_cell_is_read_by_the_rule(cell: str, value: Any) -> None:
    found = value_of(cell)
    assert (found, type(found)) == (value, type(value))


def test_an_empty_cell_is_no_value() -> None:
    assert value_of("") is MISSING
    assert cell_of(MISSING) == ""


def test_deep_brackets_are_a_text() -> None:
    assert value_of("[" * 100_000) == "[" * 100_000


at_any_pace = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)


@at_any_pace
@given(JSON)
def test_what_is_written_is_read_back(value: Any) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerow([cell_of(value)])
    [[cell]] = csv.reader(io.StringIO(file.getvalue(), newline=""), strict=True)
    assert same(value_of(cell), value)


@at_any_pace
@given(st.lists(st.text(), unique=True))
def test_columns_of_keys_are_distinct_and_read_back(keys: list[str]) -> None:
    columns = [column_of(key, ("id", "text")) for key in keys]
    assert [key_of(column) for column in columns] == keys
    assert len({*columns, "id", "text"}) == len(keys) + 2
    assert not any(is_reserved(column) for column in columns)


def test_a_key_like_a_column_has_another_column() -> None:
    taken = [
        column_of(key, ("id", "text")) for key in ("id", "_path", "_vector.text", "_metadata.a", "", "year")
    ]
    assert taken == [METADATA + key for key in ("id", "_path", "_vector.text", "_metadata.a", "")] + ["year"]
