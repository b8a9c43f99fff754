"""Documents that may pass a filter, looked up in the table `facts` before the filter's condition is computed for them.

A `Lookup` selects documents by a field's values; all that pass its part of the filter are among them, and perhaps
others. $and needs any one of its parts, so the one with the fewest documents is taken; $or needs one for each part.
Parts without a lookup are $ne, $nin, $not, $exists, $contains, $glob, null, dates, which are compared by instant, and
names with dots, which may lead into dicts. For `{"year": {"$gte": 2020, "$lt": 2022}, "tags": ["a", "b"]}` the lookups
are

    SELECT document FROM facts WHERE name = 'year' AND value BETWEEN 2020 AND 2022     (widened by 2 ** -50)
    SELECT document FROM facts WHERE name = 'year' AND value IN (x'01', x'02')         (lists: see `schema.LISTED`)

and for "tags" two by equality. The condition of the whole filter is computed for the documents that they select, so
the answer is the same as without. A lookup that selects a large share of all documents would take longer than it saves,
and is not used. Where the filter is one equality with short texts or integers, or several joined by $or, the lookup
selects just the documents that pass, so that `passages` need not read them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from sqlite3 import Connection
from typing import Any

from omnivec.store import dates, schema
from omnivec.store.filters import compile_where, listed_values, usable_number
from omnivec.store.strings import storable
from omnivec.validation.arguments import is_missing, plain

_SHARE = 4
"""A lookup is used if it selects at most one of so many documents."""
_FEW = 256
"""With fewer documents, no lookup is worth its time."""
_LISTED = 2
"""An exact lookup is used if it has at most so many facts for each document: more are elements of lists."""
_MAX_SOURCES = 200
"""SQLite joins at most 500 SELECTs by UNION ALL."""

_FACT = "facts WHERE name = ? AND facts.value"
_EACH = f"json_each(?) AS wanted CROSS JOIN {_FACT}"
_CUT = f"substr({{}}, 1, {schema.CUT})"
_BOUNDS = {"$gt": 0, "$gte": 0, "$lt": 1, "$lte": 1}

# Whether a fact tells the value: not of a list, nor of a float, whose last digit depends on the version of SQLite that
# read it.
_TELLS = "typeof(value) IN ('text', 'integer')"
_EXACT_INTEGER = 2**49
"""Integers below are farther apart than `_widened` reaches."""

# Texts are greater than numbers, and blobs greater than texts. No UTF-8 has the byte 0xFF.
_FROM = {"number": ">= ? AND value < ''", "text": f">= {_CUT.format('?')} AND value < x''"}
_UNTIL = {"number": "<= ?", "text": f"BETWEEN '' AND {_CUT.format('?')}"}
_BETWEEN = {"number": "BETWEEN ? AND ?", "text": f"BETWEEN {_CUT.format('?')} AND {_CUT.format('?')}"}


@dataclass(frozen=True)
class Lookup:
    """Sources of facts, of which each may have documents that others have.

    Attributes:
        sources: what stands after FROM in a SELECT.
        parameters: for their question marks, in order.
        exact: whether all documents of these facts pass, where `_TELLS` holds for each fact.
    """

    sources: tuple[str, ...]
    parameters: tuple[Any, ...]
    exact: bool = False

    def select(self, *columns: str) -> str:
        """A SELECT from all sources."""
        return " UNION ALL ".join(f"SELECT {', '.join(columns)} FROM {source}" for source in self.sources)


@dataclass(frozen=True)
class AnyOne:
    """Parts of which each is enough; there is at least one.

    Attributes:
        parts: the plans.
        whole: whether nothing else than the one part has to hold.
    """

    parts: Sequence[Plan]
    whole: bool


@dataclass(frozen=True)
class Each:
    """Parts that are all needed."""

    parts: Sequence[Plan]


Plan = Lookup | AnyOne | Each


def narrowed(
    connection: Connection, where: Mapping[str, Any], wanted: int | None = None
) -> tuple[str, list[Any]]:
    """Compiles a filter like `filters.compile_where`, with a lookup of the documents that may pass, if that is faster.

    Args:
        connection: that will run the condition.
        where: the filter.
        wanted: how many documents are read, by ascending id, from those that pass; None for all, or for another order.

    Raises:
        FilterError: `where` is not a valid filter.
    """
    condition, parameters = compile_where(where)
    chosen = _chosen(connection, where, wanted)
    if chosen is None:
        return condition, parameters
    return (
        f"{condition} AND documents.key IN ({chosen.select('document')})",
        [*parameters, *chosen.parameters],
    )


def passing(connection: Connection, where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Compiles a filter to a SELECT of the keys of the documents that pass; see `narrowed`."""
    condition, parameters = compile_where(where)
    chosen = _chosen(connection, where, None, keys=True)
    if chosen is None:
        return f"SELECT key FROM documents WHERE {condition}", parameters
    if chosen.exact:
        return chosen.select("document"), list(chosen.parameters)
    return (
        f"SELECT key FROM documents WHERE {condition} AND key IN ({chosen.select('document')})",
        [*parameters, *chosen.parameters],
    )


def _chosen(
    connection: Connection, where: Mapping[str, Any], wanted: int | None, *, keys: bool = False
) -> Lookup | None:
    """The lookup to use; `keys` says that an exact one saves reading the documents, and may select all of them."""
    plan = planned(where)
    if plan is None or connection.execute("PRAGMA user_version").fetchone()[0] < schema.FACTS:
        return None
    documents = connection.execute("SELECT max(key) FROM documents").fetchone()[0]
    if type(documents) is not int or documents < _FEW:
        return None
    limit = documents // _SHARE
    if wanted is not None:
        # Of n documents m pass: the first w of them are found in about w n / m, and a lookup reads m.
        limit = min(limit, math.isqrt(wanted * documents))
    exact = keys and _may_be_exact(plan)
    found = _fewest(connection, plan, _LISTED * documents if exact else limit)
    return found[1] if found is not None and (found[0] <= limit or found[1].exact) else None


def _may_be_exact(plan: Plan) -> bool:
    if isinstance(plan, Lookup):
        return plan.exact
    return (isinstance(plan, Each) or plan.whole) and all(map(_may_be_exact, plan.parts))


def _fewest(connection: Connection, plan: Plan, limit: int) -> tuple[int, Lookup] | None:
    """The lookup that selects the fewest documents, and how many; None if all select more than the limit."""
    if isinstance(plan, Lookup):
        return _counted(connection, plan, limit)
    if isinstance(plan, AnyOne):
        best: tuple[int, Lookup] | None = None
        for part in plan.parts:
            found = _fewest(connection, part, limit)
            if found is not None:
                best, limit = found, found[0] - 1
            if limit < 0:
                break
        if best is None or plan.whole:
            return best
        return best[0], replace(best[1], exact=False)
    total, chosen = 0, list[Lookup]()
    for part in plan.parts:
        found = _fewest(connection, part, limit - total)
        if found is None:
            return None
        total += found[0]
        chosen.append(found[1])
    joined = Lookup(
        tuple(one for lookup in chosen for one in lookup.sources),
        tuple(one for lookup in chosen for one in lookup.parameters),
        all(lookup.exact for lookup in chosen),
    )
    return None if len(joined.sources) > _MAX_SOURCES else (total, joined)


def _counted(connection: Connection, lookup: Lookup, limit: int) -> tuple[int, Lookup] | None:
    """How many documents a lookup selects, and the lookup, which is exact if each fact tells the value."""
    tells = _TELLS if lookup.exact else "0"
    count, telling = connection.execute(
        f"SELECT count(*), total({tells}) FROM ({lookup.select('facts.value AS value')} LIMIT ?)",
        (*lookup.parameters, limit + 1),
    ).fetchone()
    return None if count > limit else (count, replace(lookup, exact=lookup.exact and telling == count))


def planned(where: Mapping[str, Any]) -> Plan | None:
    """How documents that may pass a valid filter are looked up; None if they cannot be."""
    parts = [part for name, wanted in where.items() for part in _entry(name, wanted)]
    return AnyOne(parts, whole=len(where) == len(parts) == 1) if parts else None


def _entry(name: str, wanted: Any) -> Iterator[Plan]:
    """The lookups of one entry of a filter, of which each is enough."""
    if name == "$and":
        parts = [part for part in map(planned, wanted) if part is not None]
        if parts:
            yield AnyOne(parts, whole=len(parts) == len(wanted) == 1)
    elif name == "$or":
        branches = [planned(inner) for inner in wanted]
        if None not in branches:
            yield Each([branch for branch in branches if branch is not None])
    elif not name.startswith("$") and "." not in name:
        if isinstance(wanted, Mapping) and not dates.is_date(wanted):
            yield from _operators(storable(name), wanted)
        else:
            yield from _equal(storable(name), [wanted])


def _operators(name: str, wanted: Mapping[str, Any]) -> Iterator[Plan]:
    ranges: dict[str, _Range] = {}
    for operator, value in wanted.items():
        if isinstance(value, Iterator):  # its values are gone: the condition has read them
            continue
        if operator in ("$eq", "$in"):
            equal = _equal(name, [value] if operator == "$eq" else listed_values(value) or [])
            yield from (replace(one, exact=one.exact and len(wanted) == 1) for one in equal)
        elif operator in _BOUNDS and not dates.is_date(value):
            value = plain(value)
            kind = "text" if isinstance(value, str) else "number"
            ranges.setdefault(kind, _Range(kind)).add(operator, value, name)
        elif operator == "$prefix":
            prefix = storable(plain(value))
            if prefix:
                yield _prefix(name, prefix, exact=len(wanted) == 1 and len(prefix) < schema.CUT)
    for one in ranges.values():
        yield one.lookup(name, alone=len(one.low) + len(one.high) == len(wanted))


def _either(
    name: str, sources: Sequence[str], parameters: Sequence[Any], *, listed: bool = False, exact: bool = False
) -> Lookup:
    """A lookup in sources, and of the documents in which a field is a list whose elements are no facts, or any list."""
    lists = f"{_FACT} IN ({schema.LISTED}, {schema.UNLISTED})" if listed else f"{_FACT} = {schema.UNLISTED}"
    return Lookup((*sources, lists), (*parameters, name), exact)


def _equal(name: str, values: Sequence[Any]) -> Iterator[Lookup]:
    """A lookup by equality with one of the values."""
    texts: list[str] = []
    ranges: list[tuple[float, float]] = []
    exact = True
    for given in values:
        value = plain(given)
        if is_missing(given) or dates.is_date(given):
            return
        if isinstance(value, str):
            texts.append(storable(value))
            exact = exact and len(texts[-1]) < schema.CUT  # others may have been cut
        elif isinstance(value, bool):
            ranges.append((int(value), int(value)))
            exact = False
        else:
            # False and true are 0 and 1 in the table.
            exact = exact and _tells_integer(value) and value not in (0, 1)
            ranges.append(_widened(usable_number(value, name)))
    sources, parameters = list[str](), list[Any]()
    if len(texts) == 1:
        sources, parameters = [f"{_FACT} = {_CUT.format('?')}"], [name, texts[0]]
    elif texts:
        sources = [f"{_EACH} = {_CUT.format('wanted.value')}"]
        parameters = [json.dumps(texts, ensure_ascii=False), name]
    if len(ranges) == 1:
        sources, parameters = [*sources, f"{_FACT} BETWEEN ? AND ?"], [*parameters, name, *ranges[0]]
    elif ranges:
        low, high = (f"json_extract(wanted.value, '$[{end}]')" for end in (0, 1))
        sources = [*sources, f"{_EACH} BETWEEN {low} AND {high}"]
        parameters = [*parameters, json.dumps([_finite(pair) for pair in ranges]), name]
    yield _either(name, sources, parameters, exact=exact)


def _tells_integer(value: int | float) -> bool:
    return abs(value) < _EXACT_INTEGER and value == int(value)


def _widened(number: int | float) -> tuple[float, float]:
    """Bounds around a number.

    The last digits of a number depend on the version of SQLite that reads it, and that of the table may have been
    another one than that of the condition.
    """
    slack = abs(float(number)) * 2.0**-50 + 1e-322
    return float(number) - slack, float(number) + slack


def _finite(pair: tuple[float, float]) -> tuple[float, float]:
    """Bounds as JSON can have them."""
    return max(pair[0], -1.7976931348623157e308), min(pair[1], 1.7976931348623157e308)


def _prefix(name: str, prefix: str, *, exact: bool) -> Lookup:
    begins = prefix[: schema.CUT]
    source = f"{_FACT} >= ? AND facts.value < CAST(? AS TEXT)"
    return _either(name, [source], [name, begins, begins.encode() + b"\xff"], exact=exact)


@dataclass
class _Range:
    """The values of a kind that all of $gt, $gte, $lt and $lte on one field allow."""

    kind: str
    low: list[Any] = field(default_factory=list)
    high: list[Any] = field(default_factory=list)
    exact: bool = True

    def add(self, operator: str, value: Any, name: str) -> None:
        """Adds a bound."""
        side = _BOUNDS[operator]
        bounds, tells = (self.low, self.high)[side], False
        if self.kind == "text":
            bounds.append(storable(value))
            tells = len(bounds[-1]) < schema.CUT
        else:
            bounds.append(_widened(usable_number(value, name))[side])
            tells = _tells_integer(value)
        self.exact = self.exact and tells and operator in ("$gte", "$lte")

    def lookup(self, name: str, *, alone: bool) -> Lookup:
        """The lookup; `alone` says that the bounds are all that the field is asked for.

        Of a list, one element may pass one bound and another the other: with both, all lists are looked at. False and
        true are 0 and 1 in the table, so a range over these is not exact.
        """
        bounds = [*([max(self.low)] if self.low else []), *([min(self.high)] if self.high else [])]
        form = (_BETWEEN if self.high else _FROM) if self.low else _UNTIL
        binary = self.kind == "number" and not (
            (self.low and bounds[0] > 1) or (self.high and bounds[-1] < 0)
        )
        return _either(
            name,
            [f"{_FACT} {form[self.kind]}"],
            [name, *bounds],
            listed=len(bounds) == 2,
            exact=alone and self.exact and not binary,
        )
