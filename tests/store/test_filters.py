"""Filters against a plain-Python model of their language, and the one line said about wrong ones."""

from __future__ import annotations

import itertools
import json
import sqlite3
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from uuid import UUID

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filter_model import PASSING
from filter_model import matching as model_matching
from omnivec.errors import FilterError
from omnivec.store.dates import instant
from omnivec.store.filters import MAX_CONDITIONS, MAX_VALUES, compile_where
from store_samples import document


@pytest.fixture(scope="module")
def database():
    connection = sqlite3.connect(":memory:")
    connection.create_function("instant", 1, instant, deterministic=True)
    connection.execute("CREATE TABLE documents (key INTEGER PRIMARY KEY, metadata TEXT)")
    yield connection
    connection.close()


def matching(database, where, documents):
    condition, parameters = compile_where(where)
    database.execute("DELETE FROM documents")
    database.executemany("INSERT INTO documents VALUES (?, ?)", enumerate(map(json.dumps, documents)))
    sql = f"SELECT key FROM documents WHERE key >= 0 AND {condition} AND 1 ORDER BY key"
    keys = [row[0] for row in database.execute(sql, parameters)]
    within = f"SELECT key FROM documents WHERE 1 AND key IN ({sql.partition(' ORDER')[0]}) ORDER BY key"
    assert [row[0] for row in database.execute(within, parameters)] == keys
    return keys


NAMES = st.sampled_from(
    ["a", "a", "b", "b", "c", "q\"uo'te", "a b", "$.x", "0", "ключ", "[0]", "%", "\\", "", "a.b", "b.", "."]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 1.0, 0.5, -0.0, 1e300, 2**53, 2**53 + 1, 2**62, float(2**62)]),
    st.sampled_from(
        [
            "",
            "1",
            "a",
            "b",
            "B",
            "é",
            "\U0001f642",
            "\uffff",
            "true",
            "null",
            "it's",
            '"',
            "a'b--",
            "a/b",
            "\\",
        ]
    ),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
)
# Around the borders of a day, a month and a year, in all forms; and what only looks like a date.
WRITTEN = st.sampled_from(
    [
        *("2023-12-31", "2024-01-01", "2024-01-02", "2024", "2024-01", "2023-12", "2024-02-29", "2024-03-01"),
        *("2024-01-01T00:00:00", "2024-01-01 00:00:00", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00+00:00"),
        *("2024-01-01T00:00:00.000000001", "2024-01-01T00:00:00.500", "2023-12-31T23:59:59.999999999"),
        *(
            "2024-01-01T00:00:00+02:00",
            "2024-01-01T00:00:00.5-05:30",
            "2023-12-31T22:00-02:00",
            "2024-01-01T02",
        ),
        *("2024-01-02T14:00:00+14:00", "2023-12-31T10:00:00-23:59", "0001-01-01", "9998-12-31T23:59:59"),
        *("2024-02-30", "2023-02-29", "2024-13-01", "0000-01-01", "2024-01-01 notes", "2024-01-01T24:00:00"),
        *("2024-01-01T", "2024-01-01T00:00:00 +02:00", " 2024-01-01", "20240101", "12024-01-01", "now"),
    ]
)
DATES = st.one_of(
    st.dates(date(2023, 12, 30), date(2024, 3, 2)),
    st.datetimes(datetime(2023, 12, 31), datetime(2024, 1, 2), timezones=st.sampled_from([None, UTC])),
    st.sampled_from(["2024", "2024-01", "2023-12", "2024-01-01T00:00:00Z"]).map(lambda text: {"$date": text}),
    st.sampled_from(["2024", "2024-01", "2024-01-01", "2024-01-01T00", "2024-01-01T00:00:00.000000001"]).map(
        lambda text: np.datetime64(text)
    ),
    st.sampled_from(
        [
            datetime(2024, 1, 1),
            datetime(2024, 1, 1, 0, 0, 0, 500_000),
            datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
            datetime(2023, 12, 31, 18, 30, 0, 500_000, tzinfo=timezone(-timedelta(hours=5, minutes=30))),
        ]
    ),
)
METADATA = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS | WRITTEN,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
ORDERED = SCALARS.filter(lambda value: value is not None and not isinstance(value, bool)) | WRITTEN | DATES
VALUES = SCALARS | WRITTEN | DATES
PATTERNS = st.lists(
    st.sampled_from(
        ["*", "?", "a", "b", "é", "2024", "-", "[ab]", "[!a]", "[^-b]", "[a-c2-]", "[]]", "[!]x]", "[[]"]
    ),
    max_size=5,
).map("".join)
OPERATORS = st.one_of(
    st.dictionaries(st.sampled_from(["$eq", "$ne"]), VALUES, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(VALUES, max_size=4), min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(sorted({*PASSING} - {"$eq"})), ORDERED, min_size=1, max_size=2),
    st.dictionaries(
        st.sampled_from(["$prefix", "$contains"]), st.text("abé2", max_size=2), min_size=1, max_size=2
    ),
    st.fixed_dictionaries({"$glob": PATTERNS}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
)
FIELD_WANTS = st.one_of(VALUES, OPERATORS, OPERATORS.map(lambda inner: {"$not": inner}))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(".".join).filter(lambda name: not name.startswith("$"))
WHERES = st.recursive(
    st.dictionaries(PATHS, FIELD_WANTS, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$not": inner}),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(where=WHERES, documents=st.lists(METADATA, max_size=5))
def test_random_filters_on_random_metadata(database, where, documents):
    assert matching(database, where, documents) == model_matching(where, documents)


EXAMPLES: list[dict[str, object]] = [
    {},
    {"year": 2024},
    {"year": 2024.0},
    {"year": "2024"},
    {"year": True},
    {"year": 1},
    {"year": None},
    {"year": [2023, 2024]},
    {"tags": ["x", 5, None, True]},
    {"author": {"name": "Ann", "born": 1970}},
    {"author": [{"name": "Bob"}, {"name": "Ann"}, "Cid"]},
    {"author": {"name": ["Ann", "Bea"]}},
    {"author": [[{"name": "Ann"}]]},
    {"author.name": "Ann"},
]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, list(range(14))),
        ({"year": 2024}, [1, 2, 7]),
        ({"year": {"$eq": "2024"}}, [3]),
        ({"year": True}, [4]),
        ({"year": 1}, [5]),
        ({"year": None}, [0, 6, 8, 9, 10, 11, 12, 13]),  # null, or missing, as in MongoDB
        ({"year": {"$ne": None}}, [1, 2, 3, 4, 5, 7]),
        ({"year": {"$eq": None, "$exists": True}}, [6]),
        ({"author.name": None}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 12]),
        ({"year": {"$ne": 2024}}, [0, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13]),
        ({"year": {"$exists": True}}, [1, 2, 3, 4, 5, 6, 7]),
        ({"year": {"$exists": False}}, [0, 8, 9, 10, 11, 12, 13]),
        ({"year": {"$gt": 2023, "$lt": 2025}}, [1, 2, 7]),
        ({"year": {"$gt": 2023, "$lt": 2024}}, [7]),  # as in MongoDB: each by another element
        ({"year": {"$lte": 1}}, [5]),
        ({"year": {"$gte": "2"}}, [3]),
        ({"year": {"$not": {"$gte": 1}}}, [0, 3, 4, 6, 8, 9, 10, 11, 12, 13]),
        ({"year": {"$not": {"$eq": 2024}}}, [0, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13]),
        ({"$not": {"year": 2024}}, [0, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13]),
        ({"$not": {"year": {"$ne": 2024}}}, [1, 2, 7]),
        ({"$not": {"year": {"$nin": [2024, None]}}}, [0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13]),
        ({"year": {"$nin": [2024, None]}}, [3, 4, 5]),
        ({"$not": {"year": {"$not": {"$gt": 2023}}}}, [1, 2, 7]),
        ({"$not": {"year": {"$exists": False}}}, [1, 2, 3, 4, 5, 6, 7]),
        ({"tags": "x"}, [8]),
        ({"tags": {"$in": [None, "nothing"]}}, list(range(14))),
        ({"tags": {"$in": [None, "nothing"], "$exists": True}}, [8]),
        ({"tags": {"$in": []}}, []),
        ({"tags": {"$nin": []}}, list(range(14))),
        ({"tags": {"$in": ["5", False]}}, []),
        ({"author.name": "Ann"}, [9, 10, 11, 13]),
        ({"author.born": {"$lt": 2000}}, [9]),
        ({"author": "Cid"}, [10]),
        ({"$or": [{"year": 1}, {"tags": 5}]}, [5, 8]),
        ({"$and": [{"year": {"$gt": 1}}, {"year": {"$lt": 2024}}]}, [7]),
        ({"$not": {"$or": [{"year": {"$exists": True}}, {"author": {"$exists": True}}]}}, [0, 8, 13]),
        ({"year": 1, "tags": 5}, []),
    ],
)
def test_the_rules_one_by_one(database, where, expected):
    assert matching(database, where, EXAMPLES) == expected
    assert model_matching(where, EXAMPLES) == expected


class Column:
    """A column as pandas and polars have it."""

    def __init__(self, *values):
        self.values = values

    def __iter__(self):
        return iter(self.values)


@pytest.mark.parametrize(
    "several",
    [
        lambda *values: Column(*values),
        lambda *values: pyarrow.array(values),
        lambda *values: np.array(values),
        lambda *values: set(values),
        lambda *values: iter(values),
        lambda *values: dict.fromkeys(values).keys(),
    ],
)
def test_values_are_listed_in_anything_that_lists_them(database, several):
    years = [2024, 1]
    expected = matching(database, {"year": {"$in": years}}, EXAMPLES)
    assert expected and matching(database, {"year": {"$in": several(*years)}}, EXAMPLES) == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("year", "'year' is not a filter"),
        ({"$year": 1}, r"'\$year'.*\$and, \$or, \$not"),
        ({"year": {"$between": [1, 2]}}, r"'year'.*'\$between': \$gte and \$lte.*\$eq, \$ne, \$gt"),
        ({"name": {"$regex": "^a"}}, r"'\$regex': there are no regular expressions; \$glob takes"),
        ({"$nor": [{"a": 1}]}, r"'\$nor' in place of a field: {'\$not': {'\$or'"),
        ({"name": {"$glob": 3}}, r"\$glob takes a string, not 3"),
        ({"name": {"$glob": "a[b"}}, r"in the \$glob 'a\[b' the \[ at 1 has no \]; write \[\[\]"),
        ({"name": {"$glob": "[]"}}, r"the \[ at 0 has no \]"),
        ({"name": {"$glob": "*" * 1001}}, "1,001 characters, at most 1,000"),
        ({"day": {"$date": "2024-02-30"}}, "'day': '2024-02-30' is not a date in ISO 8601"),
        ({"day": {"$gte": {"$date": "yesterday"}}}, "'yesterday' is not a date"),
        ({"day": {"$in": [{"$date": 1704412800000}]}}, "1704412800000 is not a date"),
        ({"day": {"$date": {"$date": {"$date": "2024"}}}}, "is not a date"),
        ({"day": {"$gt": np.datetime64("12024-01-01")}}, "'12024-01-01' is not a date.* from year 1 to 9999"),
        ({"day": {"$gt": np.datetime64("NaT")}}, "takes a number, a string or a date, not"),
        ({"day": {"$gt": timedelta(1)}}, "takes a number, a string or a date, not"),
        ({"$and": []}, r"\$and takes a list of at least one"),
        ({"$or": {"a": 1}}, r"\$or takes a list"),
        ({"$and": [1]}, "1 is not a filter"),
        ({"$not": 3}, "3 is not a filter"),
        ({"a": {}}, "holds no operators"),
        ({"a": {"b": 1}}, "join the names by dots"),
        ({"a": {"$gt": 1, "b": 1}}, "holds no operators"),
        ({"a": [1, 2]}, r"is a list.*\$in"),
        ({"a": {"$eq": {"b": 1}}}, "is a dict"),
        ({"a": {"$in": "abc"}}, r"\$in takes a list"),
        ({"a": {"$in": {1: 2}}}, r"\$in takes a list"),
        ({"a": {"$in": 3}}, r"\$in takes a list"),
        ({"a": {"$in": b"abc"}}, r"\$in takes a list"),
        ({"a": {"$in": itertools.count()}}, "10001 or more values, at most 10000"),
        ({"a": {"$nin": [[1]]}}, "is a list"),
        ({"a": {"$gt": True}}, "takes a number, a string or a date, not True"),
        ({"a": {"$lt": None}}, "takes a number, a string or a date, not None"),
        ({"a": {"$exists": 1}}, "takes true or false, not 1"),
        ({"a": {"$not": 5}}, r"\$not takes operators"),
        ({"a": {"$gt": float("nan")}}, "nan is NaN"),
        ({"a": {"$gt": float("inf")}}, "inf is an infinity"),
        ({"a": 10**400}, "beyond 1.8e308"),
        ({"a": b"x"}, "is a bytes"),
        ({1: 2}, "field 1 is a int"),
        ({"a": {"$in": list(range(MAX_VALUES + 1))}}, "10001 values, at most 10000"),
        ({"$or": [{"a": i} for i in range(MAX_CONDITIONS + 1)]}, "501 conditions, at most 500"),
        ({".".join("a" * 17): 1}, "17 steps, at most 16"),
    ],
)
def test_wrong_filters_are_refused_in_one_line(where, message):
    with pytest.raises(FilterError, match=message) as caught:
        compile_where(where)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("where", [[], (), "", 0, False])
def test_what_is_empty_and_no_dict_lists_no_documents(catalogue, where):
    with pytest.raises(FilterError, match="is not a filter: a filter is a dict"):
        catalogue.documents(where)
    assert catalogue.documents({}) == catalogue.documents(None) == []


def nested(depth, wrap):
    where = {"a": 1}
    for level in range(depth):
        where = wrap(where, level)
    return where


def test_endless_nesting_is_refused():
    for wrap in (lambda where, _: {"$not": where}, lambda where, _: {"$and": [where]}):
        with pytest.raises(FilterError, match="nested more than 25 deep"):
            compile_where(nested(5000, wrap))
    with pytest.raises(FilterError, match="nested more than 25 deep"):
        compile_where({"a": nested(60, lambda where, _: {"$not": where})})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda where, _: {"$not": where},
        lambda where, level: {"$or" if level % 2 else "$and": [{"b": 2}, where]},
        lambda where, level: {"$or" if level % 2 else "$and": [where, {"x.y": {"$in": [1, "a", None]}}]},
        lambda where, level: (
            {"$not": {"a.b.c": 1, "$or": [{"c": {"$gt": 1}}, where]}} if level % 2 else where
        ),
        lambda where, level: {"$or": [{"$and": [{"a": 2}, {"b": {"$ne": 5}}]}, where, {"c": 3}]},
    ],
)
def test_the_deepest_filters_allowed_do_run(database, wrap):
    depth = next(depth for depth in range(60, 0, -1) if compiles(nested(depth, wrap)))
    where = nested(depth, wrap)
    documents: list[dict[str, object]] = [{"a": 1, "b": 2}, {"a": 2}, {"b": 2, "x": {"y": "a"}}, {}]
    assert depth >= 12  # wraps of two levels come half as far
    assert matching(database, where, documents) == model_matching(where, documents)


def compiles(where):
    try:
        compile_where(where)
    except FilterError:
        return False
    return True


def bushy(conditions, flip=True):
    """A filter that halves down to single conditions: as many deep parts side by side as can be."""
    if conditions == 1:
        return {"a.b": {"$nin": [1, "x", True]}}
    half = [bushy(conditions // 2, not flip), bushy(conditions - conditions // 2, not flip)]
    return {"$not": {"$and" if flip else "$or": half}}


@pytest.mark.parametrize(
    "where",
    [
        {"$or": [{"a": i} for i in range(MAX_CONDITIONS)]},
        {"$and": [{"a.b.c": {"$ne": i}} for i in range(MAX_CONDITIONS)]},
        {f"f{i}": i for i in range(MAX_CONDITIONS)},
        {"a": {"$in": [*range(MAX_VALUES // 2), *map(str, range(MAX_VALUES // 2))]}},
        bushy(MAX_CONDITIONS),
    ],
)
def test_the_widest_filters_allowed_do_run(database, where):
    documents: list[dict[str, object]] = [{"a": 3}, {"a": {"b": 1}}, {}]
    assert matching(database, where, documents) == model_matching(where, documents)


class Color(Enum):
    RED = "red"
    AT = datetime(2024, 1, 5)
    TWO = np.int64(2)


class NAType:
    """As pandas.NA: neither equal to anything nor true or false."""

    def __eq__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (np.int64(5), 5),
        (np.uint8(5), 5.0),
        (np.float32(0.5), 0.5),
        (np.float64(5), 5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array(5), 5),
        (np.array("2024-01-05", "M8[ns]"), date(2024, 1, 5)),
        (Decimal("0.5"), 0.5),
        (Decimal(5), 5),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        (time(10, 30), "10:30:00"),
        (Color.RED, "red"),
        (Color.TWO, 2),
        (Color.AT, {"$date": "2024-01-05T00:00:00Z"}),
        (float("nan"), None),
        (np.float32("nan"), None),
        (np.datetime64("NaT"), None),
        (np.array("NaT", "M8[s]"), None),
        (Decimal("nan"), None),
        (NAType(), None),
    ],
)
def test_values_of_other_types_are_the_same_in_metadata_and_in_filters(catalogue, value, same):
    catalogue.write(
        [document("a", metadata={"x": value, "listed": [0, value]}), document("b", metadata={"x": "-"})]
    )
    for wanted in (value, same):
        for where in (
            {"x": wanted},
            {"listed": wanted},
            {"x": {"$in": [wanted]}},
            {"x": {"$not": {"$ne": wanted}}},
        ):
            ids = [entry.id for entry in catalogue.documents(where)]
            assert ids == (["a", "b"] if same is None and "listed" in where else ["a"])
    if same is None:
        with pytest.raises(FilterError, match=r"\$gte takes a number, a string or a date|is NaN"):
            catalogue.documents({"x": {"$gte": value}})
    elif same is not True:
        for operator in ("$gte", "$lte"):
            assert [entry.id for entry in catalogue.documents({"x": {operator: value}, "listed": value})] == [
                "a"
            ]


def test_a_pattern_with_many_stars_takes_no_longer_than_pattern_times_text(catalogue):
    """One that tries each star at each place would take years."""
    catalogue.write([document("a", metadata={"x": "a" * 20_000})])
    assert catalogue.documents({"x": {"$glob": "*a" * 499 + "*b"}}) == []
    assert catalogue.documents({"x": {"$glob": "*" + "[ab]?" * 100 + "*b"}}) == []
    assert len(catalogue.documents({"x": {"$glob": "*a" * 499}})) == 1
