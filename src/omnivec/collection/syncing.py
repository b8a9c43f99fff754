"""`Collection.sync`: adds new and changed files, and removes documents whose files are provably gone."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from omnivec.collection import own_vectors
from omnivec.collection.indexing import Draft, Indexing, Written
from omnivec.collection.spaces import Spaces
from omnivec.errors import ItemError
from omnivec.inputs import modality
from omnivec.inputs.content import MAX_BYTES, Content, Cutting
from omnivec.inputs.files.walk import UNPROVEN, FileEntry, Walk, walk
from omnivec.inputs.reading import is_read_in_blocks, is_readable, read
from omnivec.progress import Counter as Progress
from omnivec.progress import bar
from omnivec.store.records import DocumentEntry, Signature
from omnivec.store.sqlite import Catalogue
from omnivec.types import ModalityName
from omnivec.validation.reasons import LeftOut, escaped, named

# A file that is changed twice within the resolution of the clock keeps its time, so a recent time proves nothing.
_GRAIN_NS = 2_000_000_000
_LONG_AGO_NS = 2**62  # 146 years; the difference to an even older time may not fit into 64 bits
_UNSETTLED = -1
# Reasons for leaving a file out that prove that it contains nothing.
_NOTHING = ("empty", "without text")

# In a recorded pipeline, these precede the encoding that a text was read with, if the file itself does not name it.
# Before version 3 of the schema it was the encoding of the whole run, which may not be that of the file.
READ_AS = " read as "
_OF_THE_RUN = " encoding="

Status = Literal["new", "changed", "unchanged", "removed", "failed"]


@dataclass(frozen=True)
class Event:
    """What happened to one document, reported after it is committed.

    Attributes:
        document: id of the document; for a file that could not be read, its path.
        status: "new", "changed", "unchanged", "removed" or "failed".
        passages: number of its passages.
        lost: number of tokens that the model's limit cut off.
        why: reason of a failure.
        note: what was left out of it, such as later frames of an animation.
    """

    document: str
    status: Status
    passages: int = 0
    lost: int = 0
    why: str | None = None
    note: str | None = None


@dataclass
class SyncReport:
    """The result of `Collection.sync`.

    Attributes:
        new: number of new documents.
        changed: number of documents whose content was replaced.
        unchanged: number of unchanged documents.
        removed: number of documents that were removed because their files are provably gone.
        failed: maps the path of each file that could not be read to the reason; an earlier version of it stays.
        kept: maps each document that was kept to the reason: why its file may still exist, or is not embedded again.
        notes: maps paths to what was left out of the file, such as later frames of an animation.
        warnings: what users who search the collection should know, one line each.
        left_out: maps the path of each file without anything to embed to the reason: "empty", "binary", "FIFO", ...
        skipped: counts the files that no model reads, by lower-case suffix.
        passages: number of passages written.
        lost: number of tokens that the model's limit cut off.
        dry_run: whether this is only what would be done.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    passages: int = 0
    lost: int = 0
    dry_run: bool = False

    def __repr__(self) -> str:
        left_out = sum(self.skipped.values())
        return (
            f"<SyncReport{', nothing done' if self.dry_run else ''}: {self.new:,} new, {self.changed:,} changed, "
            f"{self.unchanged:,} unchanged, {self.removed:,} removed, {len(self.failed):,} failed, {left_out:,} left "
            f"out; {self.passages:,} passages, {self.lost:,} tokens cut off>"
        )


@dataclass(frozen=True)
class Options:
    """Options of a sync.

    Attributes:
        hidden: whether to include files and folders whose names begin with a dot.
        encoding: encodings for files that are not UTF-8 and do not name their encoding; the first that can decode a
            file is used. If empty, a document is read again with the encoding of its last reading.
        max_bytes: largest size of a file.
        dry_run: whether to only report what would be done.
        show_progress_bar: whether to show progress on stderr; None for the default, see `progress`.
        named: whether the caller has named the roots; a root without anything to embed is then a failure.
    """

    hidden: bool = False
    encoding: tuple[str, ...] = ()
    max_bytes: int = MAX_BYTES
    dry_run: bool = False
    show_progress_bar: bool | None = None
    named: bool = True


class Names(Protocol):
    """Converts between files and their ids in a collection; see `file_names.FileNames`."""

    def of(self, path: Path) -> str:
        """Returns the id of a file."""

    def path(self, name: str) -> Path:
        """Returns the file of an id."""


class Sync:
    """One call of `Collection.sync`."""

    def __init__(
        self,
        catalogue: Catalogue,
        names: Names,
        spaces: Spaces,
        options: Options,
        on_event: Callable[[Event], None],
    ) -> None:
        from omnivec.collection.languages import Tally  # imported here, since a search does not need it

        self._catalogue, self._names = catalogue, names
        self._options, self._on_event = options, on_event
        self._indexing = Indexing(catalogue, spaces.writers, self._further, self._cutting, self._done)
        self._before: Mapping[str, Signature] = {}
        self._notes: dict[str, str] = {}
        self._touched: dict[str, tuple[int, int, int]] = {}
        self._devices: dict[int, int] = {}
        self._seen: set[str] = set()
        self._emptied: list[str] = []
        self._shown: Progress | None = None
        self._languages = Tally()
        self._spaces = spaces
        self._named: set[Path] = set()
        self.report = SyncReport(dry_run=options.dry_run)

    def run(self, roots: Sequence[Path]) -> SyncReport:
        """Scans the roots, adds new and changed files, then removes documents whose files are gone."""
        self._before = self._catalogue.signatures()
        walks = [listing for path in roots if (listing := self._walk(path)) is not None]
        files = self._files(walks)
        wanted = self._options.show_progress_bar
        with bar("indexing", len(files), "documents", wanted) as self._shown:
            for entry, root in files.values():
                self._take(entry, root)
            self._flush()
        self._prune(walks)
        self._warn()
        return self.report

    def _warn(self) -> None:
        """Adds a warning to the report if many of the added texts are in languages that their model is not made for."""
        from omnivec.collection.languages import warning

        if self._languages and self.report.passages:  # images alone need no model of texts
            model = self._spaces.model(modality.written())
            line = warning(self._languages, model.name, model.folder)
            self.report.warnings += [line] if line else []

    def _cutting(self, name: ModalityName) -> Cutting:
        """Returns how documents of a modality are split into passages."""
        return Cutting(0) if self._unneeded(name) else self._spaces.cutting(name)

    def _further(self, name: ModalityName) -> list[str]:
        """Returns the names of the spaces of a modality beside the main one."""
        return [] if self._unneeded(name) else self._spaces.further(name)

    def _unneeded(self, name: ModalityName) -> bool:
        """Whether no model is to be loaded: a dry run without a recorded space has no documents to compare with."""
        return self._options.dry_run and self._spaces.recorded(name) is None

    def _walk(self, root: Path) -> Walk | None:
        """Returns the walk through a root; None if its name cannot be stored."""
        if escaped(root) != str(root):
            self._fail(escaped(root), f"{escaped(root)}: its name is not valid UTF-8; rename it")
            return None
        options = self._options
        return walk(
            root,
            hidden=options.hidden,
            max_bytes=options.max_bytes,
            wanted=is_readable,
            large=is_read_in_blocks,
        )

    def _files(self, walks: Sequence[Walk]) -> dict[str, tuple[FileEntry, str]]:
        """Maps the id of each file under the roots to the file and the first root that it was found under."""
        known = set(self._catalogue.roots())
        files: dict[str, tuple[FileEntry, str]] = {}
        with bar("looking for files", None, "files", self._options.show_progress_bar) as shown:
            for listing in walks:
                if self._options.named:
                    self._named.add(listing.root)
                root = self._names.of(listing.root)
                if not self._options.dry_run and root not in known and os.path.exists(listing.root):  # noqa: PTH110
                    self._catalogue.add_root(root)
                for entry in listing:
                    files.setdefault(self._names.of(entry.path), (entry, root))
                    shown.advance(1)
                for path, why in listing.failures.items():
                    self._fail(path, why)
                self.report.left_out.update(listing.left_out)
                self.report.skipped.update(listing.skipped)
        return files

    def _take(self, entry: FileEntry, root: str) -> None:
        name = self._names.of(entry.path)
        self._seen.add(name)
        before = self._before.get(name)
        if before is not None:
            self._devices[before.device] = entry.device
        if before is not None and before.pipeline.startswith(own_vectors.PIPELINE):
            self.report.kept[name] = (
                "it has a vector that was given with vectors=; delete it to have it embedded"
            )
            self._advance()
            return
        if before is not None and self._looks_unchanged(before, entry):
            self._unchanged(name)
            return
        now = time.time_ns()
        try:
            content = read(entry.path, encoding=self._encodings(before), max_bytes=self._options.max_bytes)
        except ItemError as error:
            self._refuse(entry, error)
            return
        mtime = entry.mtime_ns if _GRAIN_NS < now - entry.mtime_ns < _LONG_AGO_NS else _UNSETTLED
        if (
            before is not None
            and before.digest == content.digest
            and self._is_made_so(before.pipeline, content)
        ):
            if (mtime, entry.size, entry.device) != (before.mtime_ns, before.size, before.device):
                self._touched[name] = (mtime, entry.size, entry.device)
            self._unchanged(name)
            return
        if content.note is not None:
            self._notes[name] = content.note
        if self._options.dry_run:
            self._done(Written(name, 0, 0))
            return
        self._put(entry, root, content, mtime)

    def _put(self, entry: FileEntry, root: str, content: Content, mtime_ns: int) -> None:
        """Passes a new or changed file to the indexer."""
        name = self._names.of(entry.path)
        if content.modality == modality.written():
            self._languages.add(content.text)
        try:
            pieces = self._indexing.pieces(content)
        except ItemError as error:
            self._refuse(entry, named(error, escaped(entry.path)))
            return
        self._indexing.put(
            Draft(
                id=name,
                content=content,
                pipeline=self._pipeline(content),
                pieces=pieces,
                metadata={**metadata_of(entry, name), **content.facts},
                root=root,
                path=name,
                size=entry.size,
                mtime_ns=mtime_ns,
                device=entry.device,
                derived=FILE_FACTS | content.facts.keys(),
            )
        )

    def _encodings(self, before: Signature | None) -> tuple[str, ...]:
        """Returns the encodings to try for a file: those of this run, or else the one of its last reading."""
        remembered = _parsed_pipeline(before.pipeline)[1] if before is not None else None
        return self._options.encoding or ((remembered,) if remembered else ())

    def _pipeline(self, content: Content) -> str:
        pipeline = self._indexing.pipeline(content.modality)
        return pipeline if content.encoding is None else pipeline + READ_AS + content.encoding

    def _looks_unchanged(self, before: Signature, entry: FileEntry) -> bool:
        same = (before.size, before.mtime_ns, before.device) == (entry.size, entry.mtime_ns, entry.device)
        return same and self._is_current(before.pipeline)

    def _is_current(self, recorded: str) -> bool:
        """Whether an unchanged file would give the same document again, as far as is known without reading it."""
        pipeline, encoding, certain = _parsed_pipeline(recorded)
        encodings, modality = self._options.encoding, _made_by(pipeline)
        same = certain and (not encodings or encoding is None or encoding in encodings)
        return same and modality is not None and pipeline == self._indexing.pipeline(modality)

    def _is_made_so(self, recorded: str, content: Content) -> bool:
        """Whether a document was made from this content with the same settings as in this run."""
        pipeline, encoding, _ = _parsed_pipeline(recorded)
        return pipeline == self._indexing.pipeline(content.modality) and encoding == content.encoding

    def _flush(self) -> None:
        self._indexing.flush()
        if not self._options.dry_run:
            self._catalogue.touch(self._touched)

    def _advance(self) -> None:
        """Advances the progress bar by one document."""
        if self._shown is not None:
            self._shown.advance(1)

    def _unchanged(self, name: str) -> None:
        self._advance()
        self.report.unchanged += 1
        self._on_event(Event(name, "unchanged"))

    def _done(self, written: Written) -> None:
        self._advance()
        if written.failure is not None:
            path, why = str(self._names.path(written.id)), written.failure
            self._fail(path, why if why.startswith(path) else f"{path}: {why}")
            return
        status: Status = "changed" if written.id in self._before else "new"
        if status == "new":
            self.report.new += 1
        else:
            self.report.changed += 1
        self.report.passages += written.passages
        self.report.lost += written.lost
        note = self._notes.get(written.id)
        if note is not None:
            self.report.notes[str(self._names.path(written.id))] = note
        self._on_event(Event(written.id, status, written.passages, written.lost, note=note))

    def _refuse(self, entry: FileEntry, error: ItemError) -> None:
        """Reports a file that cannot be added; it is a failure if the user has named it, or if it cannot be read.

        A file in a folder that was read and has no content is left out, and its earlier version is removed, because its
        content is provably gone. Other reasons for leaving a file out, such as binary content, do not prove this.
        """
        self._advance()
        if entry.path in self._named or not isinstance(error, LeftOut):
            self._fail(str(entry.path), str(error))
            return
        self.report.left_out[str(entry.path)] = error.kind
        name = self._names.of(entry.path)
        if name not in self._before:
            return
        if error.kind not in _NOTHING:
            self.report.kept[name] = f"its file is now left out: {error.kind}"
        else:
            self.report.notes[str(entry.path)] = f"{error}; its earlier version is removed"
            self._emptied.append(name)

    def _fail(self, path: str, why: str) -> None:
        if path in self.report.failed:  # it may be under two roots
            return
        known = self._names.of(Path(path)) in self._before
        why = f"{why} (its earlier version stays)" if known else why
        self.report.failed[path] = why
        self._on_event(Event(path, "failed", why=why))

    def _prune(self, walks: Sequence[Walk]) -> None:
        """Removes documents whose files were under these roots and are provably gone according to each of them."""
        listings = {listing.root: listing for listing in walks}
        seen = {root for name in self._seen for root in _roots_of(self._names.path(name), listings)}
        empty = {root for root in listings if root not in seen and _holds_no_file(root)}
        gone = list(self._emptied)
        for document in self._catalogue.documents():
            if document.path is None or document.id in self._seen:
                continue
            path = self._names.path(document.id)
            # A file that the user has named, and that still exists, is kept even if its folder is walked without it.
            if document.root in (None, document.id) and os.path.exists(path):  # noqa: PTH110
                continue
            doubts = [self._not_gone(listings[r], document, r in empty) for r in _roots_of(path, listings)]
            why = next((doubt for doubt in doubts if doubt is not None), None)
            if doubts and why is None:
                gone.append(document.id)
            elif why is not None and str(path) not in self.report.failed:
                self.report.kept[document.id] = why
        if not self._options.dry_run:
            self._catalogue.delete(gone)
        for name in gone:
            self.report.removed += 1
            self._on_event(Event(name, "removed"))

    def _not_gone(self, listing: Walk, document: DocumentEntry, empty: bool) -> str | None:
        """Explains why a file that was not seen may still exist; None if it is provably gone."""
        path = self._names.path(document.id)
        if (category := listing.left_out.get(escaped(path))) in UNPROVEN:
            return f"its file is now left out: {category}"
        if empty:
            return f"{listing.root} contains no files now: a disk that is not mounted looks the same"
        # Device numbers change when a system restarts; files that were seen again give the new number of a device.
        device = self._devices.get(document.device, document.device)
        if not listing.covers(path, device):
            return f"{path.parent} could not be listed, or its disk is not mounted"
        return None


FILE_FACTS = frozenset(("path", "name", "suffix", "size", "modified"))
"""The names of what `metadata_of` returns; when a file changes, metadata under other names are kept."""


def metadata_of(entry: FileEntry, name: str) -> dict[str, Any]:
    """Returns the metadata of a file for filters: path, name, suffix, size in bytes, and time of modification."""
    facts = {
        "path": name,
        "name": entry.path.name,
        "suffix": entry.path.suffix.lower(),
        "size": entry.size,
    }
    with suppress(ValueError, OverflowError, OSError):  # a time out of the range of datetime is left out
        changed = datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC)
        facts["modified"] = changed.isoformat(timespec="seconds")
    return facts


def _parsed_pipeline(recorded: str) -> tuple[str, str | None, bool]:
    """Splits a recorded pipeline into the settings, the encoding, and whether the encoding is certain."""
    for mark in (READ_AS, _OF_THE_RUN):
        cutting, marked, encoding = recorded.partition(mark)
        if marked:
            return cutting, encoding, mark == READ_AS
    return recorded, None, True


def _made_by(pipeline: str) -> ModalityName | None:
    """Returns the modality of a recorded pipeline; None if its name and version are unknown."""
    made = pipeline.partition(" ")[0]
    return next((name for name in modality.readable() if modality.get(name).pipeline == made), None)


def _roots_of(path: Path, listings: Mapping[Path, Walk]) -> list[Path]:
    """Returns the roots that a file is under, including the file itself."""
    return [folder for folder in (path, *path.parents) if folder in listings]


def _holds_no_file(folder: Path) -> bool:
    """Whether a folder exists without any file in it, which is also the case if a disk is not mounted."""
    return os.path.isdir(folder) and not any(files for _, _, files in os.walk(folder))  # noqa: PTH112
