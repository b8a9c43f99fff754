"""Every error that omnivec raises on purpose.

OmnivecError
├── UsageError (ValueError)          an argument that cannot be meant
│   ├── FilterError                  a `where` that cannot be read
│   └── UnknownKey (KeyError)        a key that a table does not have
├── MissingExtra (ImportError)       a part of omnivec that is not installed; the message holds the pip line
├── ItemError                        one item that cannot be embedded or read: a file, a text, an image
├── ItemErrors                       some items of a call failed; .failures and .partial hold what and what not
├── ModelError                       a model that cannot be loaded, run or saved
│   ├── ModelNotFound                no source has it
│   ├── UnsupportedModel             a published form that no family here covers
│   └── WeightsError                 a weight file that is damaged, incomplete or unsafe
├── DownloadError                    a source that failed: network, disk, checksum
└── CollectionError                  a collection that cannot be opened, read or written
    ├── SchemaError                  made by another version of omnivec, or no collection at all
    ├── IdentityError                another model than the one that made its vectors
    ├── CollectionBusy               another process is writing
    └── CollectionDamaged            the catalogue's file is not whole
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class OmnivecError(Exception):
    """The root: `except OmnivecError` catches everything that omnivec raises on purpose."""


class UsageError(OmnivecError, ValueError):
    """An argument that cannot be meant; the message names it, what was given and what is allowed."""


class FilterError(UsageError):
    """A `where` that cannot be read; the message shows the part and the operators there are."""


class UnknownKey(UsageError, KeyError):
    """A key that a table does not have; the message, made when it is first shown, names the nearest spellings."""

    def __init__(self, message: str | Callable[[], str]) -> None:
        super().__init__()
        self._message = message

    def __str__(self) -> str:
        if not isinstance(self._message, str):
            self._message = self._message()
        return self._message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[type[UnknownKey], tuple[str]]:
        return UnknownKey, (str(self),)


class MissingExtra(OmnivecError, ImportError):
    """A part of omnivec that is not installed; the message holds the pip line that installs it."""


class ItemError(OmnivecError):
    """One item that cannot be read or embedded; it never costs its neighbours."""


class ItemErrors(OmnivecError):
    """Some items of a call failed.

    Attributes:
        failures: index of the item in the call -> why it failed, one line.
        partial: the `types.Encoded` of the items that did not fail; of `Collection.add` the `Added`.
        summary: how many failed and why the first few did, without where the others are.
    """

    def __init__(
        self,
        failures: Mapping[int, str],
        partial: Any,
        others: str = "The others are in .partial; model.run(items) returns both without raising.",
    ) -> None:
        self.failures = dict(failures)
        self.partial = partial
        shown = "; ".join(f"item {i}: {why}" for i, why in sorted(self.failures.items())[:3])
        more = len(self.failures) - 3
        tail = f"; and {more} more" if more > 0 else ""
        kept = len(partial.kept)
        self.summary = f"{len(self.failures)} of {len(self.failures) + kept} items failed ({shown}{tail})"
        super().__init__(f"{self.summary}. {others}" if kept else self.summary)


class ModelError(OmnivecError):
    """A model that cannot be loaded, run or saved."""


class ModelNotFound(ModelError):
    """No source has the model; the message lists each source that was tried and what it said."""


class UnsupportedModel(ModelError):
    """A published form that no family here covers; the message names it and what is covered."""


class WeightsError(ModelError):
    """A weight file that is damaged, incomplete or unsafe to read."""


class DownloadError(OmnivecError):
    """A source that failed on the way: network, disk or checksum. Nothing half-written stays behind."""


class CollectionError(OmnivecError):
    """A collection that cannot be opened, read or written."""


class SchemaError(CollectionError):
    """A collection made by another version of omnivec, or a file that is no collection at all."""


class IdentityError(CollectionError):
    """Another model than the one that made the collection's vectors; the message shows both identities."""


class CollectionBusy(CollectionError):
    """Another process is writing and did not finish within the time allowed."""


class CollectionDamaged(CollectionError):
    """The catalogue's file is not whole; the message says what is left and how to restore."""
