"""The order of documents by their metadata, compiled to SQL.

A name is that of a field of metadata, with dots as in filters; `$id`, `$indexed`, `$passages` and `$size` are facts of
the document itself. In both directions numbers come first, then texts, then booleans, lists and dicts, and at last
documents in which the field is missing or null. Documents that are equal are ordered by their ids.

For example, `-year` becomes, with the parameters ["year", "year"],

    (SELECT <0 for a number, 1 for a text, 2 for others> FROM json_each(...) ...) NULLS LAST,
    (SELECT <the value of a number or a text> FROM json_each(...) ...) DESC
"""

from __future__ import annotations

from collections.abc import Sequence

from omnivec.errors import UsageError
from omnivec.store.filter_sql import MAX_STEPS, WALK
from omnivec.store.strings import storable
from omnivec.validation.arguments import quoted

MAX_FIELDS = 16

OF_DOCUMENTS = {
    "$id": "id",
    "$indexed": "indexed_ns",
    "$passages": "(SELECT count(*) FROM passages WHERE document = documents.key)",
    "$size": "size",
}
"""Names of facts of a document itself -> SQL. No field of metadata begins with "$"."""

_CLASS = (
    "CASE type WHEN 'integer' THEN 0 WHEN 'real' THEN 0 WHEN 'text' THEN 1 WHEN 'null' THEN NULL ELSE 2 END"
)
_VALUE = "CASE WHEN type IN ('integer', 'real', 'text') THEN value END"
_FIELD = "SELECT type, value FROM json_each(documents.metadata) WHERE key = ?"
# A key that is the whole name comes before all that its steps lead to.
_DOTTED = (
    "SELECT type, value FROM (SELECT type, value, 0 AS place FROM json_each(documents.metadata) WHERE key = ?"
    f" UNION ALL SELECT type, value, 1 FROM ({WALK}) WHERE rest IS NULL) ORDER BY place LIMIT 1"
)


def compile_order(fields: Sequence[str]) -> tuple[str, list[str]]:
    """Compiles an order to the terms of an ORDER BY on the table `documents`, and their parameters.

    Args:
        fields: names, the most important first; one that begins with "-" orders from the greatest to the smallest, and
            a "+" before a name means nothing.

    Raises:
        UsageError: a name is empty, unknown or too long, or there are too many.
    """
    if len(fields) > MAX_FIELDS:
        raise UsageError(f"order_by has {len(fields)} fields, at most {MAX_FIELDS} are possible")
    terms: list[str] = []
    parameters: list[str] = []
    for named in fields:
        direction = " DESC" if named.startswith("-") else ""
        name = storable(named[1:] if named.startswith(("-", "+")) else named)
        if not name or name.count(".") >= MAX_STEPS:
            what = "is empty" if not name else f"has more than {MAX_STEPS} steps"
            raise UsageError(
                f"order_by: {quoted(named)} {what}; give the name of a field, as in 'year' or '-year'"
            )
        if name.startswith("$"):
            if name not in OF_DOCUMENTS:
                raise UsageError(f"order_by: there is no {quoted(name)}; there are {', '.join(OF_DOCUMENTS)}")
            terms.append(f"{OF_DOCUMENTS[name]}{direction}")
            continue
        source, names = (_DOTTED, [name] * 2) if "." in name else (_FIELD, [name])
        terms += [
            f"(SELECT {_CLASS} FROM ({source})) NULLS LAST",
            f"(SELECT {_VALUE} FROM ({source})){direction}",
        ]
        parameters += names * 2
    return ", ".join([*terms, "id"]), parameters
