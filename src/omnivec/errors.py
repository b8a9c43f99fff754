"""The exceptions that omnivec raises.

OmnivecError
├── UsageError (ValueError)          an invalid argument
│   ├── FilterError                  a `where` filter that cannot be parsed
│   └── UnknownKey (KeyError)        a key that a table does not have
├── MissingExtra (ImportError)       an optional dependency is not installed; the message has the pip command
├── ItemError                        one item (a file, a text, an image) cannot be read or embedded
├── ItemErrors                       some items of a call failed; see .failures and .partial
├── ModelError                       a model cannot be loaded, run or saved
│   ├── ModelNotFound                no source has the model
│   ├── UnsupportedModel             no family supports this architecture or format
│   └── WeightsError                 a weight file is damaged, incomplete or unsafe to read
├── DownloadError                    a download failed: network, disk or checksum
└── CollectionError                  a collection cannot be opened, read or written
    ├── SchemaError                  made by another version of omnivec, or not a collection
    ├── IdentityError                the model is not the one that made the collection's vectors
    ├── CollectionBusy               another process is writing
    └── CollectionDamaged            the database file is corrupt
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class OmnivecError(Exception):
    """Base class of all exceptions that omnivec raises."""


class UsageError(OmnivecError, ValueError):
    """An argument is invalid; the message has its name, its value and the allowed values."""


class FilterError(UsageError):
    """A `where` filter cannot be parsed; the message quotes the invalid part and lists the operators."""


class UnknownKey(UsageError, KeyError):
    """A key is not in a table; the message lists the keys with the most similar spelling.

    Finding these takes time, so `message` may be a function: it is called when the message is first needed.
    """

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
    """An optional dependency is not installed; the message has the pip command that installs it."""


class ItemError(OmnivecError):
    """An item cannot be read or embedded; the other items of the call are not affected."""


class ItemErrors(OmnivecError):
    """Some items of a call failed; the results of the others are in `partial`.

    Attributes:
        failures: maps the index of each failed item to the reason, one line.
        partial: the result for the items that did not fail: an `Encoded`, from `Collection.add` an `Added`, from
            `Classifier.predict_proba` a `Classified`.
        summary: how many items failed, and the reasons of the first three.
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
    """A model cannot be loaded, run or saved."""


class ModelNotFound(ModelError):
    """No source has the model; the message lists each source that was tried and its answer."""


class UnsupportedModel(ModelError):
    """No family supports the architecture or format of a model; the message lists those that are supported."""


class WeightsError(ModelError):
    """A weight file is damaged, incomplete or unsafe to read."""


class DownloadError(OmnivecError):
    """A download failed because of the network, the disk or a wrong checksum; no incomplete file is left behind."""


class CollectionError(OmnivecError):
    """A collection cannot be opened, read or written."""


class SchemaError(CollectionError):
    """A collection was made by another version of omnivec, or the file is not a collection."""


class IdentityError(CollectionError):
    """The model is not the one that made the collection's vectors; the message shows both identities."""


class CollectionBusy(CollectionError):
    """Another process was still writing to the collection when the time to wait had passed."""


class CollectionDamaged(CollectionError):
    """The database file of a collection is corrupt; the message says what is left and how to restore it."""
