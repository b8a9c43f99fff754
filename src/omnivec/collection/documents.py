"""The part of `Collection` that reads, lists and removes documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omnivec.collection.opened import Opened
from omnivec.errors import UnknownKey
from omnivec.inputs.items import texts
from omnivec.store.records import DocumentEntry
from omnivec.validation import arguments


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

    def get(self, ids: str | Sequence[str]) -> list[DocumentEntry]:
        """Returns the documents with some ids, one or several, in their order.

        Raises:
            UnknownKey: there is no document with one of the ids.
        """
        named = texts(ids, "ids")
        entries = {entry.id: entry for entry in self._catalogue.documents(ids=list(dict.fromkeys(named)))}
        if missing := [name for name in named if name not in entries]:
            raise UnknownKey(f"no document {missing[0]!r} in {self.folder}")
        return [entries[name] for name in named]

    def documents(self, where: Mapping[str, Any] | None = None) -> list[DocumentEntry]:
        """Returns the documents that pass a filter, or all, sorted by id."""
        return self._catalogue.documents(where)

    def unmatched(self, where: Mapping[str, Any]) -> tuple[str, ...]:
        """Explains why a filter passes nothing: a line for each field that no document has, or has with other types."""
        return self._catalogue.unmatched(where)

    def delete(self, ids: str | Sequence[str]) -> int:
        """Removes documents by their ids; returns how many of them existed."""
        return self._catalogue.delete(texts(ids, "ids"))

    def path_of(self, document: str) -> Path:
        """Returns the file of a document that came from a file."""
        return self._names.path(arguments.text("document", document))
