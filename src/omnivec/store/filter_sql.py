"""Conditions on one field of the JSON in `documents.metadata`, as SQL.

A test of a value has cases by the value's type in JSON, each with SQL in which @ is the value: `@ >= ?` for numbers.
`found` asks whether the field's value passes, or an element of it if it is a list. For a field `year` that is, with a
parameter for each question mark,

    (CASE json_type(documents.metadata, '$."year"')
        WHEN 'integer' THEN json_extract(documents.metadata, '$."year"') >= ?
        WHEN 'real' THEN json_extract(documents.metadata, '$."year"') >= ?
        WHEN 'array' THEN EXISTS (SELECT 1 FROM json_each(documents.metadata, '$."year"') AS x
            WHERE x.type IN ('integer', 'real') AND x.value >= ?) END) IS TRUE

The CASE is NULL, and so not true, if the field is missing. SQLite parses a document's JSON once for all of these calls.
A path is part of the SQL if it is made of ASCII letters, digits, "_", "-" and spaces only: in others, SQLite would
compare the key as it is escaped in the JSON. Another field is looked for among all keys, and one with several dots by a
walk:

    EXISTS (SELECT 1 FROM json_each(documents.metadata) AS m WHERE m.key = ? AND (<test of m>
        OR m.type = 'array' AND EXISTS (SELECT 1 FROM json_each(<m.value, or [] if it is no list>) AS x
            WHERE <test of x>)))
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omnivec.errors import FilterError
from omnivec.store.strings import storable
from omnivec.validation.arguments import quoted

MAX_STEPS = 16

_TOGETHER = 32

_METADATA = "documents.metadata"

_PLAIN_KEY = re.compile("[A-Za-z0-9_ -]{1,100}")

# Texts that JSON holds as they are, between quotes. Writers of JSON may escape others.
_VERBATIM = re.compile(r"[ !#-\[\]-~]+")

# json_each fails on a value that is neither list nor dict, so it is given an empty one instead.
_ELEMENTS = "json_each(CASE {0}.type WHEN 'array' THEN {0}.value ELSE '[]' END)"
_SELF_OR_ELEMENTS = (
    "json_each(CASE {0}.type WHEN 'array' THEN {0}.value"
    " WHEN 'object' THEN '[' || {0}.value || ']' ELSE '[]' END)"
)
_MEMBERS = "json_each(CASE {0}.type WHEN 'object' THEN {0}.value ELSE '{{}}' END)"


@dataclass(frozen=True)
class Clause:
    """An SQL condition and its parameters.

    Attributes:
        sql: an expression that can stand beside AND without parentheses.
        parameters: for its question marks, in order.
        stack: how many entries of SQLite's parser stack, which has 100, its nesting takes.
    """

    sql: str
    parameters: list[Any] = field(default_factory=list)
    stack: int = 0


@dataclass(frozen=True)
class Case:
    """A test of values of some types.

    Attributes:
        types: as json_type names them.
        sql: in which @ is the value; AND binds stronger than the OR between two cases, nothing weaker is allowed.
        parameters: for its question marks, in order.
    """

    types: tuple[str, ...]
    sql: str = "1"
    parameters: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Test:
    """A test of a value.

    Attributes:
        cases: a value passes if it does in any case of its type.
        needs: a text that stands in the JSON of each document with a value that passes; "" if none is known. Texts are
            searched several times as fast as JSON is parsed.
    """

    cases: Sequence[Case]
    needs: str = ""

    def of_row(self, alias: str) -> Clause:
        """The test of a row of json_each."""
        tests = []
        for case in self.cases:
            types = ", ".join(f"'{name}'" for name in case.types)
            tests.append(f"{alias}.type IN ({types}) AND {case.sql.replace('@', f'{alias}.value')}")
        return Clause(" OR ".join(tests) or "0", [value for case in self.cases for value in case.parameters])

    def of_path(self, path: str) -> Clause:
        """The test of the value at a path, or of the elements of a list there; NULL if there is none."""
        value, parts, parameters = f"json_extract({_METADATA}, {path})", [], []
        for name in dict.fromkeys(name for case in self.cases for name in case.types):
            cases = [case for case in self.cases if name in case.types]
            parts.append(f"WHEN '{name}' THEN {' OR '.join(case.sql for case in cases).replace('@', value)}")
            parameters += [parameter for case in cases for parameter in case.parameters]
        element = self.of_row("x")
        elements = f"EXISTS (SELECT 1 FROM json_each({_METADATA}, {path}) AS x WHERE {element.sql})"
        parts.append(f"WHEN 'array' THEN {elements}")
        sql = f"CASE json_type({_METADATA}, {path}) {' '.join(parts)} END"
        return Clause(sql, [*parameters, *element.parameters])


def joined(conditions: Sequence[Clause], *, all_of: bool) -> Clause:
    """Joins conditions by AND or OR, the most nested one first.

    SQLite's parser keeps every open parenthesis on its stack, with the expression before it, but nothing of what is
    complete: `(deep AND flat)` takes one entry more than `deep`, and `(flat AND deep)` three. A chain of conditions is
    a tree as deep as it is long, and SQLite's trees have at most 1,000 levels, so many are joined in groups.
    """
    if not conditions:
        return Clause("1" if all_of else "0")
    if len(conditions) == 1:
        return conditions[0]
    ordered = sorted(conditions, key=lambda one: -one.stack)
    if len(ordered) > _TOGETHER:
        groups = [ordered[start : start + _TOGETHER] for start in range(0, len(ordered), _TOGETHER)]
        return joined([joined(group, all_of=all_of) for group in groups], all_of=all_of)
    stack = 1 + max(ordered[0].stack, *(one.stack + 2 for one in ordered[1:]))
    sql = (" AND " if all_of else " OR ").join(one.sql for one in ordered)
    return Clause(f"({sql})", [value for one in ordered for value in one.parameters], stack)


def verbatim(text: str) -> str:
    """The text, if JSON holds it as it is; else ""."""
    return text if _VERBATIM.fullmatch(text) else ""


def found(name: str, test: Test | None, *, negated: bool) -> Clause:
    """Whether a document has a field and, with a test, whether the field's value or an element of it passes.

    Raises:
        FilterError: the name has more than 16 steps.
    """
    name = storable(name)
    steps = name.split(".")
    if len(steps) > MAX_STEPS:
        raise FilterError(f"{quoted(name, 80)} has {len(steps)} steps, at most {MAX_STEPS} are possible")
    plain = all(map(_PLAIN_KEY.fullmatch, steps))
    if plain and len(steps) == 1:
        held = _of_path(_path(name), test)
    elif plain and len(steps) == 2:
        held = _of_two_steps(steps[0], steps[1], test)
    else:
        held = _anywhere(name, steps, test)
    first = verbatim(steps[0]) if len(steps) > 1 else ""
    needs = [text for text in (test.needs if test else "", f'"{first}' if first else "") if text]
    sql = " AND ".join([*[f"instr({_METADATA}, ?)"] * len(needs), held.sql])
    return Clause(f"({sql}) IS {'NOT ' * negated}TRUE", [*needs, *held.parameters])


def _path(*steps: str) -> str:
    return "'$" + "".join(f'."{step}"' for step in steps) + "'"


def _of_path(path: str, test: Test | None) -> Clause:
    return test.of_path(path) if test else Clause(f"json_type({_METADATA}, {path}) IS NOT NULL")


def _of_two_steps(first: str, second: str, test: Test | None) -> Clause:
    """The value of the whole name; or else that of the second key in the dicts of a list, or in a dict."""
    whole, member = _of_path(_path(f"{first}.{second}"), test), _of_path(_path(first, second), test)
    inside = _passing("w", test)
    sql = (
        f"CASE WHEN json_type({_METADATA}, {_path(f'{first}.{second}')}) IS NOT NULL THEN {whole.sql}"
        f" WHEN json_type({_METADATA}, {_path(first)}) = 'array' THEN EXISTS"
        f" (SELECT 1 FROM json_each({_METADATA}, {_path(first)}) AS e, {_MEMBERS.format('e')} AS w"
        f" WHERE w.key = ?{inside.sql}) ELSE {member.sql} END"
    )
    return Clause(sql, [*whole.parameters, second, *inside.parameters, *member.parameters])


def _anywhere(key: str, steps: Sequence[str], test: Test | None) -> Clause:
    """Whether there is a value of any name, and whether it or an element of it passes."""
    whole = _passing("m", test)
    select, parameters = f"SELECT 1 FROM json_each({_METADATA}) AS m WHERE m.key = ?{whole.sql}", [key]
    parameters += whole.parameters
    if len(steps) > 1:
        inside = _walk(key, test)
        select += (
            f" UNION ALL {inside.sql} AND NOT EXISTS"
            f" (SELECT 1 FROM json_each({_METADATA}) AS l WHERE l.key = ?)"
        )
        parameters += [*inside.parameters, key]
    return Clause(f"EXISTS ({select})", parameters)


# All values that a name with dots can lead to, as rows (type, value, rest): `rest` is what of the name is still to be
# followed, NULL at its end. Each step goes to a member whose key is the rest, or is its beginning up to a dot; of a
# list, to such a member of any element. The walk of 'a.b.c' over {"a": [{"b.c": 1}, {"b": {"c": 2}}, {"b": 3}]}:
#
#     object  {"a": ...}       a.b.c
#     array   [{"b.c": 1}...   b.c
#     integer 1                NULL     (by the key "b.c" of the first element)
#     object  {"c": 2}         c        (by the key "b" of the second)
#     integer 3                c        (by the key "b" of the third; it has no members, so it leads no further)
#     integer 2                NULL
WALK = (
    f"WITH RECURSIVE walk (type, value, rest) AS (SELECT 'object', {_METADATA}, ? UNION ALL"
    " SELECT m.type, m.value, CASE WHEN walk.rest = m.key THEN NULL"
    " ELSE substr(walk.rest, length(m.key) + 2) END FROM walk,"
    f" {_SELF_OR_ELEMENTS.format('walk')} AS e, {_MEMBERS.format('e')} AS m"
    " WHERE walk.rest = m.key OR substr(walk.rest, 1, length(m.key) + 1) = m.key || '.')"
    " SELECT type, value, rest FROM walk"
)


def _walk(key: str, test: Test | None) -> Clause:
    """Selects a row for each value that a name with dots leads to and that passes."""
    passing = _passing("w", test)
    return Clause(
        f"SELECT 1 FROM ({WALK}) AS w WHERE w.rest IS NULL{passing.sql}", [key, *passing.parameters]
    )


def _passing(alias: str, test: Test | None) -> Clause:
    """The end of a WHERE, "AND ...": that the value of a row, or an element of it, passes a test."""
    if test is None:
        return Clause("")
    value, element = test.of_row(alias), test.of_row("x")
    elements = f"EXISTS (SELECT 1 FROM {_ELEMENTS.format(alias)} AS x WHERE {element.sql})"
    return Clause(
        f" AND ({value.sql} OR {alias}.type = 'array' AND {elements})",
        [*value.parameters, *element.parameters],
    )
