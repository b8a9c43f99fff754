"""Filters with documents looked up in the table of facts answer as filters without."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnivec.store import filter_facts
from omnivec.store.filter_facts import narrowed, passing, planned
from omnivec.store.filters import compile_where
from omnivec.store.sqlite import Catalogue
from store_samples import catalogue_of_version, document, space

NAMES = ["a", "b", "a.b", "", 'odd "name"', "ü", "x y"]
LONG = "é" * 99
TEXTS = [
    *("", "a", "ab", "b", "A", "\x7f", "\0", "a\0b", "a\udc80", "'\"\\\n", "2024-01-01", "1", "true"),
    *(LONG, LONG + "x", LONG + "xy", LONG + "xz", LONG * 2, "\U0010ffff", "\U0010ffff\U0010ffff", "\uffff"),
]
NUMBERS = [
    *(0, 1, 2, -1, 0.0, -0.0, 1.0, 0.1, 0.30000000000000004, 2.5, 2**49, 2**53 + 1, 2**63 - 1, -(2**63)),
    *(2**64, 10**30, 1e308, -1.7976931348623157e308, 5e-324, 1e-300, 2.9999999999999996, 3, 3.0),
]
scalars = st.one_of(
    st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.booleans(), st.none(), st.floats(-4, 4)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
    max_leaves=5,
)
lists = st.integers(99, 103).map(lambda n: [*range(3, n + 3)])
metadata = st.dictionaries(st.sampled_from(NAMES), values | lists, max_size=5)

comparable = st.sampled_from(TEXTS) | st.sampled_from(NUMBERS)
asked = scalars | st.just(date(2024, 1, 1))
operators = st.fixed_dictionaries(
    {},
    optional={
        "$eq": asked,
        "$ne": asked,
        "$in": st.lists(asked, max_size=4),
        "$nin": st.lists(scalars, max_size=2),
        **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), comparable),
        "$prefix": st.sampled_from(TEXTS),
        "$contains": st.sampled_from(TEXTS),
        "$exists": st.booleans(),
        "$not": st.fixed_dictionaries({"$eq": scalars}),
    },
).filter(bool)
fields = st.dictionaries(st.sampled_from(NAMES), asked | operators, max_size=3)
filters = st.recursive(
    fields,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "$and": st.lists(inner, min_size=1, max_size=3),
            "$or": st.lists(inner, min_size=1, max_size=3),
            "$not": inner,
            "a": asked | operators,
        },
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    with Catalogue.open(tmp_path_factory.mktemp("facts") / "notes", create=True) as catalogue:
        catalogue.put_space(space())
        yield catalogue


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lookups are used for all collections, however many documents they select."""
    monkeypatch.setattr(filter_facts, "_FEW", 0)
    monkeypatch.setattr(filter_facts, "_SHARE", 0.01)


def without(catalogue: Catalogue, where: Any) -> list[Any]:
    condition, parameters = compile_where(where)
    return [
        row[0]
        for row in catalogue._rows(f"SELECT key FROM documents WHERE {condition} ORDER BY key", parameters)
    ]


def test_facts_change_no_answer(filled: Catalogue, always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    used, exact = 0, 0

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(metadata, min_size=1, max_size=6),
        st.lists(metadata, max_size=2),
        st.lists(filters, min_size=4, max_size=12),
    )
    def holds(added: list[Any], updated: list[Any], wheres: list[Any]) -> None:
        nonlocal used, exact
        filled.write([document(f"d{i}", metadata=one) for i, one in enumerate(added)])
        filled.update({f"d{i}": one for i, one in enumerate(updated[: len(added)])}, replace=len(updated) > 1)
        if len(added) > 4:
            filled.delete([f"d{len(added) - 1}"])
        own = [
            {name: value}
            for one in added
            for name, value in one.items()
            if not isinstance(value, dict | list)
        ]
        for where in [*wheres, *own]:
            expected = without(filled, where)
            with filled.connection() as connection:
                condition, parameters = narrowed(connection, where)
                sql, more = passing(connection, where)
                used += "facts" in condition
                exact += not sql.startswith("SELECT key FROM documents")
                rows = connection.execute(
                    f"SELECT key FROM documents WHERE {condition} ORDER BY key", parameters
                )
                assert [row[0] for row in rows] == expected, where
                assert sorted({row[0] for row in connection.execute(sql, more)}) == expected, where
        filled.delete(None, {})
        assert filled._rows("SELECT * FROM facts") == []

    holds()
    assert used > 50 and exact > 5, (used, exact)


def numbered(i: int) -> dict[str, Any]:
    return {"n": i, "rare": f"r{i % 100}", "most": i % 10 > 0, "tags": [f"t{i % 50}"]}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    with Catalogue.open(tmp_path_factory.mktemp("many") / "notes", create=True) as catalogue:
        catalogue.put_space(space())
        catalogue.write(
            [
                document(
                    f"d{i:04}",
                    metadata={"n": i, "rare": f"r{i % 100}", "most": i % 10 > 0, "tags": [f"t{i % 50}"]},
                )
                for i in range(1000)
            ]
        )
        yield catalogue


def sql_of(catalogue: Catalogue, where: Any, wanted: int | None = None) -> str:
    with catalogue.connection() as connection:
        return narrowed(connection, where, wanted)[0]


@pytest.mark.parametrize(
    "where",
    [
        {"rare": "r5"},
        {"rare": {"$in": ["r5", "r6"]}},
        {"n": {"$gte": 17, "$lt": 30}},
        {"n": {"$lt": 30}},
        {"rare": {"$prefix": "r5"}},
        {"most": True, "tags": "t3"},
        {"$and": [{"most": True}, {"$or": [{"rare": "r5"}, {"n": 17}]}], "tags": {"$ne": "t1"}},
    ],
)
def test_rare_values_are_looked_up(many: Catalogue, where: Any) -> None:
    assert "facts" in sql_of(many, where)
    expected = without(many, where)
    assert expected and many.passage_keys(where).tolist() == expected
    assert [int(entry.id[1:]) + 1 for entry in many.documents(where)] == expected
    with many.connection() as connection:
        condition, parameters = narrowed(connection, where)
        sql, more = passing(connection, where)
        plans = [
            connection.execute(
                f"EXPLAIN QUERY PLAN SELECT id FROM documents WHERE {condition} ORDER BY id", parameters
            ),
            connection.execute(
                f"EXPLAIN QUERY PLAN SELECT key FROM passages WHERE document IN ({sql})", more
            ),
        ]
        for plan in plans:
            steps = " ".join(row[3] for row in plan)
            assert "SEARCH facts USING PRIMARY KEY (name=? AND value" in steps
            assert "SCAN documents" not in steps and "SCAN passages" not in steps


@pytest.mark.parametrize(
    "where",
    [
        {"most": True},
        {"rare": {"$ne": "r5"}},
        {"rare": {"$nin": ["r5"]}},
        {"rare": {"$not": {"$eq": "r5"}}},
        {"rare": None},
        {"rare": {"$in": ["r5", None]}},
        {"rare": date(2024, 1, 1)},
        {"rare": {"$contains": "5"}},
        {"rare.deep": "r5"},
        {"$or": [{"rare": "r5"}, {"rare": {"$contains": "6"}}]},
        {"$not": {"rare": "r5"}},
        {},
    ],
)
def test_what_cannot_or_need_not_be_looked_up_is_not(many: Catalogue, where: Any) -> None:
    assert "facts" not in sql_of(many, where)


def test_few_documents_in_their_order_are_found_without_a_lookup_of_many(many: Catalogue) -> None:
    where = {"n": {"$lt": 200}}
    assert "facts" in sql_of(many, where) and "facts" in sql_of(many, {"rare": "r5"}, 1)
    assert "facts" not in sql_of(many, where, 10)
    assert [entry.id for entry in many.documents(where, limit=3)] == ["d0000", "d0001", "d0002"]


def test_values_that_can_be_read_once_only_are_read_once(many: Catalogue) -> None:
    keys = many.passage_keys({"rare": {"$in": iter(["r5", "r6"])}})
    assert keys.tolist() == without(many, {"rare": {"$in": ["r5", "r6"]}})


def test_many_values_and_many_branches_are_possible(many: Catalogue) -> None:
    texts = [f"r{i}" for i in range(2, 10_000, 50)]
    assert len(many.passage_keys({"rare": {"$in": [*texts, *range(9_000)]}})) == 20
    branches = {"$or": [{"rare": f"none {i}"} for i in range(499)] + [{"n": 7}]}
    assert many.passage_keys(branches).tolist() == [8]


def test_documents_are_deleted_and_found_by_looked_up_values(tmp_path: Path, always: None) -> None:
    with Catalogue.open(tmp_path / "notes", create=True) as catalogue:
        catalogue.put_space(space())
        catalogue.write([document(f"d{i}", metadata={"n": i % 3}) for i in range(9)])
        assert catalogue.delete(None, {"n": 2}) == 3
        catalogue.update({"d0": {"n": 1}})
        assert [entry.id for entry in catalogue.documents({"n": 1})] == ["d0", "d1", "d4", "d7"]


def test_a_collection_of_an_older_schema_is_filtered_without(tmp_path: Path, always: None) -> None:
    catalogue_of_version(tmp_path / "old", 6, ["one", "two"])
    with Catalogue.open(tmp_path / "old", create=False, readonly=True) as catalogue:
        assert planned({"a": 1}) is not None
        assert "facts" not in sql_of(catalogue, {"a": 1})
        assert catalogue.passage_keys({"a": 1}).tolist() == []


def test_facts_that_do_not_tell_the_value_are_compared_with_the_metadata(
    tmp_path: Path, always: None
) -> None:
    values = [LONG + "x", LONG + "xy", True, 1, [1, 9], 6]
    with Catalogue.open(tmp_path / "notes", create=True) as catalogue:
        catalogue.put_space(space())
        catalogue.write([document(f"d{i}", metadata={"a": value}) for i, value in enumerate(values)])
        wheres: list[Any] = [{"a": LONG + "x"}, {"a": 1}, {"a": {"$gte": 4, "$lte": 5}}]
        assert [catalogue.passage_keys(where).tolist() for where in wheres] == [[1], [4, 5], [5]]
