"""The part of `Collection` that reads, lists and removes documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

from omnivec.collection.opened import Opened
from omnivec.errors import UnknownKey, UsageError
from omnivec.inputs.items import texts
from omnivec.store.records import DocumentEntry, Record
from omnivec.validation import arguments
from omnivec.validation.arguments import quoted

_PAGE = 1_000
"""Number of documents that an iteration reads together."""

_NAMED = 3
"""Number of unknown ids that a message names."""

_MOST = 2**62
"""Largest number that SQLite takes with some to spare."""


class Documents(Opened):
    """The documents of a collection."""

    def __len__(self) -> int:
        """Number of documents."""
        return self._catalogue.counts().documents

    def __contains__(self, document: object) -> bool:
        """Whether there is a document with this id, or from this file if it is a pathlib.Path."""
        if isinstance(document, Path):
            document = self._names.of(arguments.expanded(document))
        return isinstance(document, str) and bool(self._catalogue.documents(ids=[document]))

    def __iter__(self) -> Iterator[DocumentEntry]:
        """Yields the documents in the order of their ids, without holding all of them in memory.

        They are read in pages of 1,000, each as it is when it is read: a document that is added or removed meanwhile
        is yielded or not, but none is yielded twice, and no other is left out.
        """
        after: str | None = None
        while page := self._catalogue.documents(after=after, limit=_PAGE):
            yield from page
            after = page[-1].id

    def get(self, ids: str | Sequence[str], *, vectors: bool = False) -> list[Record]:
        """Returns the documents with some ids, one or several, in their order.

        Args:
            ids: of the documents; one may occur several times.
            vectors: whether to read their vectors too.

        Returns:
            A `Record` for each id: what `documents` returns, with `text`, passages as `pieces`, and `vectors`, which is
            name of a space -> (parts of all passages, dim) float32.

        Raises:
            UnknownKey: some of the ids are those of no document; the message counts them.

        Examples:
            >>> notes.add("budget for next year", ids="budget", metadata={"year": 2026}).new
            1
            >>> [budget] = notes.get("budget", vectors=True)
            >>> budget.text, budget.metadata["year"], budget.vectors["text"].shape
            ('budget for next year', 2026, (1, 384))
        """
        named = texts(ids, "ids")
        found = self._catalogue.records(
            list(dict.fromkeys(named)), vectors=arguments.flag("vectors", vectors)
        )
        self._refuse_missing([name for name in named if name not in found])
        return [found[name] for name in named]

    def _refuse_missing(self, names: Sequence[str]) -> None:
        """Raises UnknownKey if there are any names."""
        missing = list(dict.fromkeys(names))
        if missing:
            more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
            raise UnknownKey(f"no document {', '.join(map(quoted, missing[:_NAMED]))}{more} in {self.folder}")

    def documents(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        order_by: str | Sequence[str] | None = None,
        offset: SupportsIndex = 0,
        limit: SupportsIndex | None = None,
    ) -> list[DocumentEntry]:
        """Returns the documents that pass a filter, or all.

        Args:
            where: a filter on metadata, as for `search`.
            order_by: a field of metadata to sort by, or several, the most important first; "-year" sorts from the
                greatest to the smallest. Numbers come before texts, texts before other values, and documents without
                the field last. "$id", "$indexed" (when it was written), "$passages" and "$size" are facts of the
                document itself. Documents that are equal, and all without `order_by`, are sorted by id.
            offset: how many to leave out at the beginning.
            limit: the largest number of documents; None returns all.

        Raises:
            FilterError: `where` cannot be parsed.
            UsageError: `order_by`, `offset` or `limit` is invalid.

        Examples:
            >>> [entry.id for entry in notes.documents({"year": {"$gte": 2024}}, order_by="-year", limit=1)]
            ['budget 2026']
        """
        return self._catalogue.documents(
            where,
            order_by=() if order_by is None else texts(order_by, "order_by"),
            offset=min(arguments.whole("offset", offset, 0), _MOST),
            limit=None if limit is None else min(arguments.whole("limit", limit, 0), _MOST),
        )

    def unmatched(self, where: Mapping[str, Any]) -> tuple[str, ...]:
        """Explains why a filter passes nothing: a line for each field that no document has, or has with other types."""
        return self._catalogue.unmatched(where)

    def update(
        self,
        ids: str | Sequence[str],
        metadata: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        replace: bool = False,
        remove: str | Sequence[str] = (),
    ) -> int:
        """Changes the metadata of documents; nothing is embedded, and their text and vectors stay as they are.

        Args:
            ids: of the documents.
            metadata: a dict of keys to set for each document, or one for all. Other keys of a document are kept, and
                values that are dicts are replaced as a whole.
            replace: whether to remove the other keys.
            remove: keys to remove; one that a document lacks is no error.

        Returns:
            How many documents have other metadata than before. When `update` returns, it is committed to disk.

        Raises:
            UnknownKey: some of the ids are those of no document; nothing is changed.
            UsageError: the number of dicts is not that of the ids, an id is given twice, or a value is not one of JSON;
                nothing is changed.

        Examples:
            >>> notes.update("budget 2026", {"year": 2027})
            1
        """
        from omnivec.collection.adding import items_of

        if metadata is None:
            raise UsageError("metadata is None: give a dict for each document, or one for all")
        named = texts(ids, "ids")
        given = {
            name: item.metadata for name, item in zip(named, items_of(named, named, metadata), strict=True)
        }
        changed, missing = self._catalogue.update(
            given, replace=arguments.flag("replace", replace), remove=texts(remove, "remove")
        )
        self._refuse_missing(missing)
        return changed

    def delete(
        self, ids: str | Sequence[str] | None = None, *, where: Mapping[str, Any] | None = None
    ) -> int:
        """Removes documents by their ids, or those that pass a filter, or those among some ids that pass it.

        Args:
            ids: of the documents; one that does not exist is no error.
            where: a filter on metadata, as for `search`.

        Returns:
            How many were removed.

        Raises:
            FilterError: `where` cannot be parsed.
            UsageError: neither is given, or `where` is empty and would pass all documents.

        Examples:
            >>> notes.delete(where={"year": {"$lt": 2020}})
            0
        """
        if ids is None and where is None:
            raise UsageError(
                "delete needs ids or where=, such as delete(['a', 'b']) or delete(where={'year': 2020})"
            )
        if where is not None and isinstance(where, Mapping) and not where:
            raise UsageError(
                f"where={{}} would delete all {len(self):,} documents of {self.folder}: give a condition, or ids"
            )
        return self._catalogue.delete(None if ids is None else texts(ids, "ids"), where)

    def path_of(self, document: str) -> Path:
        """Returns the file of a document that came from a file."""
        return self._names.path(arguments.text("document", document))
