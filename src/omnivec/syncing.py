"""A folder and a collection brought together: new and changed files in, and out only what is provably gone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from omnivec.documents.read import read
from omnivec.documents.walk import Entry, Walk, walk
from omnivec.embedder import Embedder
from omnivec.errors import ItemError
from omnivec.indexing import Draft, Indexer, Written
from omnivec.passages import Cutting, cuts_of
from omnivec.store.records import Entry as Listed
from omnivec.store.records import Signature
from omnivec.store.sqlite import Catalogue

# A file changed again within the clock's grain of its indexing looks unchanged by its time: read it again.
_GRAIN_NS = 2_000_000_000

Status = Literal["new", "changed", "unchanged", "removed", "failed"]


@dataclass(frozen=True)
class Event:
    """What happened to one document, told after it is committed.

    Attributes:
        document: its id; for a file that could not be read, its path.
        status: new, changed, unchanged, removed or failed.
        passages: how many it has now.
        lost: tokens that the model's limit cut off.
        why: of a failure.
    """

    document: str
    status: Status
    passages: int = 0
    lost: int = 0
    why: str | None = None


@dataclass
class SyncReport:
    """What a sync did.

    Attributes:
        new: documents that were not there before.
        changed: documents whose content was replaced.
        unchanged: documents that were as they are.
        removed: documents whose files are provably gone.
        failed: path -> why it could not be read; an earlier version of it stays.
        kept: document whose file was not seen -> why it is not known to be gone.
        skipped: lower-case suffix -> files left out because they promise no text.
        passages: passages written.
        lost: tokens that the model's limit cut off.
        dry_run: whether this is only what would be done.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    passages: int = 0
    lost: int = 0
    dry_run: bool = False


@dataclass(frozen=True)
class Options:
    """How a sync reads.

    Attributes:
        hidden: whether files and folders whose name begins with a dot are taken.
        encoding: of all files; None finds it out.
        max_bytes: largest file.
        dry_run: only say what would be done.
    """

    hidden: bool = False
    encoding: str | None = None
    max_bytes: int = 64 * 2**20
    dry_run: bool = False


class Names(Protocol):
    """Ids of files in a collection, and back."""

    def of(self, path: Path) -> str:
        """The id of a file: relative to the folder that holds the collection where it lies below it."""

    def path(self, name: str) -> Path:
        """The file of an id."""


class Sync:
    """One run over some roots."""

    def __init__(
        self,
        catalogue: Catalogue,
        names: Names,
        model: Callable[[], Embedder],
        space: str,
        cutting: Cutting,
        options: Options,
        tell: Callable[[Event], None],
    ) -> None:
        self._catalogue, self._names, self._model, self._space = catalogue, names, model, space
        self._cutting, self._options, self._tell = cutting, options, tell
        self._before: Mapping[str, Signature] = {}
        self._indexer: Indexer | None = None
        self._touched: dict[str, tuple[int, int, int]] = {}
        self._devices: dict[int, int] = {}
        self._seen: set[str] = set()
        self.report = SyncReport(dry_run=options.dry_run)

    def run(self, roots: Sequence[Path]) -> SyncReport:
        """Brings the roots in, one after the other, then removes what is gone from under them."""
        self._before = self._catalogue.signatures()
        walks = [walk(root, hidden=self._options.hidden, max_bytes=self._options.max_bytes) for root in roots]
        for listing in walks:
            root = self._names.of(listing.root)
            if not self._options.dry_run and listing.root.exists():
                self._catalogue.add_root(root)
            for entry in listing:
                self._take(entry, root)
            for path, why in listing.failures.items():
                self._fail(path, why)
            self.report.skipped.update(listing.skipped)
        self._flush()
        self._prune(walks)
        return self.report

    def _take(self, entry: Entry, root: str) -> None:
        name = self._names.of(entry.path)
        if name in self._seen:
            return
        self._seen.add(name)
        before = self._before.get(name)
        if before is not None:
            self._devices[before.device] = entry.device
        if before is not None and self._looks_unchanged(before, entry):
            self._unchanged(name)
            return
        try:
            text = read(entry.path, encoding=self._options.encoding, max_bytes=self._options.max_bytes)
        except ItemError as error:
            self._fail(str(entry.path), str(error))
            return
        digest = bytes.fromhex(text.digest)
        if before is not None and before.digest == digest and before.how == self._cutting.how:
            self._touched[name] = (entry.mtime_ns, entry.size, entry.device)
            self._unchanged(name)
            return
        if self._options.dry_run:
            self._done(Written(name, 0, 0))
            return
        model = self._model()
        cuts = cuts_of(text.text, model, self._cutting, text.line)
        facts = metadata_of(entry, name)
        self._index(model).put(
            Draft(
                name,
                digest,
                self._cutting.how,
                cuts,
                facts,
                root,
                name,
                entry.size,
                entry.mtime_ns,
                entry.device,
            )
        )

    def _looks_unchanged(self, before: Signature, entry: Entry) -> bool:
        same = (before.size, before.mtime_ns, before.device) == (entry.size, entry.mtime_ns, entry.device)
        return same and before.how == self._cutting.how and before.indexed_ns - before.mtime_ns > _GRAIN_NS

    def _index(self, model: Embedder) -> Indexer:
        if self._indexer is None:
            self._indexer = Indexer(self._catalogue, model, self._space, self._done)
        return self._indexer

    def _flush(self) -> None:
        if self._indexer is not None:
            self._indexer.flush()
        if not self._options.dry_run:
            self._catalogue.touch(self._touched)

    def _unchanged(self, name: str) -> None:
        self.report.unchanged += 1
        self._tell(Event(name, "unchanged"))

    def _done(self, written: Written) -> None:
        if written.failure is not None:
            self._fail(str(self._names.path(written.id)), written.failure)
            return
        status: Status = "changed" if written.id in self._before else "new"
        if status == "new":
            self.report.new += 1
        else:
            self.report.changed += 1
        self.report.passages += written.passages
        self.report.lost += written.lost
        self._tell(Event(written.id, status, written.passages, written.lost))

    def _fail(self, path: str, why: str) -> None:
        known = self._names.of(Path(path)) in self._before
        why = f"{why} (its earlier version stays)" if known else why
        self.report.failed[path] = why
        self._tell(Event(path, "failed", why=why))

    def _prune(self, walks: Sequence[Walk]) -> None:
        """Removes documents whose files lay under these roots and are provably gone."""
        gone = []
        for listing in walks:
            empty = not any(self._names.path(name).is_relative_to(listing.root) for name in self._seen)
            for document in self._under(listing.root):
                why = self._not_gone(listing, document, empty)
                if why is None:
                    gone.append(document.id)
                elif str(self._names.path(document.id)) not in self.report.failed:
                    self.report.kept[document.id] = why
        if not self._options.dry_run:
            self._catalogue.delete(gone)
        for name in gone:
            self.report.removed += 1
            self._tell(Event(name, "removed"))

    def _under(self, root: Path) -> Iterator[Listed]:
        for document in self._catalogue.documents():
            if document.path is None or document.id in self._seen:
                continue
            path = self._names.path(document.id)
            # A file that was named itself is not the folder's to remove while it is there.
            named = document.root == document.id and path.exists()
            if path.is_relative_to(root) and not named:
                yield document

    def _not_gone(self, listing: Walk, document: Listed, empty: bool) -> str | None:
        """Why a document that was not seen may still exist; None where it is provably gone."""
        path = self._names.path(document.id)
        if empty and listing.root.is_dir():
            return f"{listing.root} holds no file now: a disk that is not mounted looks the same"
        # Devices get new numbers when a system starts: files that were seen again show old and new.
        device = self._devices.get(document.device, document.device)
        if not listing.covers(path, device):
            return f"{path.parent} could not be listed, or its disk is not mounted"
        return None


def metadata_of(entry: Entry, name: str) -> dict[str, Any]:
    """What a file says about itself, for filters: path, name, suffix, size in bytes, and when it was changed."""
    changed = datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC)
    return {
        "path": name,
        "name": entry.path.name,
        "suffix": entry.path.suffix.lower(),
        "size": entry.size,
        "modified": changed.isoformat(timespec="seconds"),
    }


@dataclass(frozen=True)
class FileNames:
    """Ids of files: POSIX paths relative to a base where they lie below it, else absolute."""

    base: Path

    def of(self, path: Path) -> str:
        """The id of a file."""
        whole = Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow links: the id is the name as given
        return (whole.relative_to(self.base) if whole.is_relative_to(self.base) else whole).as_posix()

    def path(self, name: str) -> Path:
        """The file of an id."""
        return self.base / name
