"""Filters against a plain-Python reading of their rules, and the one line said about wrong ones."""

from __future__ import annotations

import itertools
import json
import sqlite3

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnivec.errors import FilterError
from omnivec.store.filters import MAX_CONDITIONS, MAX_VALUES, compile_where, parse_where


def values_at(metadata, name):
    """The value under the name itself; else all that it reaches through dicts, and through the dicts of a list."""
    return [metadata[name]] if name in metadata else list(reached(metadata, name))


def reached(node, rest):
    for place in node if isinstance(node, list) else [node]:
        for key, value in place.items() if isinstance(place, dict) else ():
            if key == rest:
                yield value
            elif rest.startswith(f"{key}."):
                yield from reached(value, rest[len(key) + 1 :])


TEXTS = {"$prefix": str.startswith, "$contains": str.__contains__}


def kind(value):
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def equal(value, wanted):
    return kind(value) == kind(wanted) and value == wanted


ORDER = {
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
}


def operator_holds(name, operator, wanted, metadata):
    places = values_at(metadata, name)
    each = [*places, *(element for place in places if isinstance(place, list) for element in place)]
    if operator == "$exists":
        return bool(places) == wanted
    if operator == "$not":
        return not field_holds(name, wanted, metadata)
    if operator in ("$eq", "$ne"):
        return any(equal(value, wanted) for value in each) == (operator == "$eq")
    if operator in TEXTS:
        return any(isinstance(value, str) and TEXTS[operator](value, wanted) for value in each)
    if operator in ("$in", "$nin"):
        return any(equal(value, one) for value in each for one in wanted) == (operator == "$in")
    return any(kind(value) == kind(wanted) and ORDER[operator](value, wanted) for value in each)


def field_holds(name, wanted, metadata):
    if not isinstance(wanted, dict):
        return operator_holds(name, "$eq", wanted, metadata)
    return all(operator_holds(name, operator, value, metadata) for operator, value in wanted.items())


def holds(where, metadata):
    def one(name, wanted):
        if name == "$and":
            return all(holds(part, metadata) for part in wanted)
        if name == "$or":
            return any(holds(part, metadata) for part in wanted)
        if name == "$not":
            return not holds(wanted, metadata)
        return field_holds(name, wanted, metadata)

    return all(one(name, wanted) for name, wanted in where.items())


@pytest.fixture(scope="module")
def database():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE documents (key INTEGER PRIMARY KEY, metadata TEXT)")
    yield connection
    connection.close()


def matching(database, where, documents):
    condition, parameters = compile_where(where)
    database.execute("DELETE FROM documents")
    database.executemany("INSERT INTO documents VALUES (?, ?)", enumerate(map(json.dumps, documents)))
    sql = f"SELECT key FROM documents WHERE key >= 0 AND {condition} AND 1 ORDER BY key"
    return [row[0] for row in database.execute(sql, parameters)]


NAMES = st.sampled_from(
    ["a", "b", "c", "q\"uo'te", "a b", "$.x", "0", "ключ", "[0]", "%", "\\", "", "a.b", "b.", "."]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 1.0, 0.5, -0.0, 1e300, 2**53, 2**53 + 1, 2**62, float(2**62)]),
    st.sampled_from(
        ["", "1", "a", "b", "B", "é", "\U0001f642", "\uffff", "true", "null", "it's", '"', "a'b--"]
    ),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
)
METADATA = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
ORDERED = SCALARS.filter(lambda value: value is not None and not isinstance(value, bool))
OPERATORS = st.one_of(
    st.dictionaries(st.sampled_from(["$eq", "$ne"]), SCALARS, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(SCALARS, max_size=4), min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(sorted(ORDER)), ORDERED, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(sorted(TEXTS)), st.text("abé", max_size=2), min_size=1, max_size=2),
    st.fixed_dictionaries({"$exists": st.booleans()}),
)
FIELD_WANTS = st.one_of(SCALARS, OPERATORS, OPERATORS.map(lambda inner: {"$not": inner}))
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
    assert matching(database, where, documents) == [i for i, one in enumerate(documents) if holds(where, one)]


EXAMPLES = [
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
        ({"year": None}, [6]),
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
        ({"$not": {"year": {"$nin": [2024, None]}}}, [1, 2, 6, 7]),
        ({"$not": {"year": {"$not": {"$gt": 2023}}}}, [1, 2, 7]),
        ({"$not": {"year": {"$exists": False}}}, [1, 2, 3, 4, 5, 6, 7]),
        ({"tags": "x"}, [8]),
        ({"tags": {"$in": [None, "nothing"]}}, [8]),
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
    assert [i for i, one in enumerate(EXAMPLES) if holds(where, one)] == expected


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
        ({"year": {"$between": [1, 2]}}, r"'year'.*'\$between'.*\$eq, \$ne, \$gt"),
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
        ({"a": {"$gt": True}}, "takes a number or a string, not True"),
        ({"a": {"$lt": None}}, "takes a number or a string, not None"),
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
        with pytest.raises(FilterError, match="nested more than 50 deep"):
            compile_where(nested(5000, wrap))
    with pytest.raises(FilterError, match="nested more than 50 deep"):
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
    documents = [{"a": 1, "b": 2}, {"a": 2}, {"b": 2, "x": {"y": "a"}}, {}]
    assert depth >= 24  # wraps of two levels come half as far
    assert matching(database, where, documents) == [i for i, one in enumerate(documents) if holds(where, one)]


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
    documents = [{"a": 3}, {"a": {"b": 1}}, {}]
    assert matching(database, where, documents) == [i for i, one in enumerate(documents) if holds(where, one)]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"year": {"$gte": 2024}}', {"year": {"$gte": 2024}}),
        ("year=2024", {"year": {"$eq": 2024}}),
        ("year!=2024", {"year": {"$ne": 2024}}),
        (" year >= 2.5 ", {"year": {"$gte": 2.5}}),
        ("year>-1e3", {"year": {"$gt": -1000.0}}),
        ("year<=7", {"year": {"$lte": 7}}),
        ("year<7", {"year": {"$lt": 7}}),
        ('year="2024"', {"year": {"$eq": "2024"}}),
        ('name="a\\nb"', {"name": {"$eq": "a\nb"}}),
        ('name="C:\\x"', {"name": {"$eq": "C:\\x"}}),
        ("a.b=true", {"a.b": {"$eq": True}}),
        ("a=null", {"a": {"$eq": None}}),
        ("a=NaN", {"a": {"$eq": "NaN"}}),
        ("a=1e999", {"a": {"$eq": "1e999"}}),
        ("suffix==.md", {"suffix": {"$eq": ".md"}}),
        ("dc.title^=On ", {"dc.title": {"$prefix": "On"}}),
        ("name*=2024", {"name": {"$contains": "2024"}}),
        ("a=", {"a": {"$eq": ""}}),
        ("a=b=c", {"a": {"$eq": "b=c"}}),
        ("a=[1]", {"a": {"$eq": "[1]"}}),
        ("title=two words", {"title": {"$eq": "two words"}}),
    ],
)
def test_filters_on_the_command_line(text, where):
    assert parse_where(text) == where
    assert repr(parse_where(text)) == repr(where)
    compile_where(where)


@pytest.mark.parametrize(
    "text", ["", "year", "=3", "{year: 3}", '{"a": 1', "<5", "{" * 5000, "a=>3", "a<>3", "a=~b", "a===b"]
)
def test_what_is_no_filter_on_the_command_line(text):
    with pytest.raises(FilterError) as caught:
        parse_where(text)
    assert "\n" not in str(caught.value)
