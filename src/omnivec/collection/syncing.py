"""A folder and a collection brought together: new and changed files in, and out only what is provably gone."""

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

from omnivec.collection.indexing import Draft, Indexing, Written
from omnivec.collection.spaces import Spaces
from omnivec.errors import ItemError
from omnivec.inputs import modality
from omnivec.inputs.content import MAX_BYTES, Content, Cutting
from omnivec.inputs.files.walk import UNPROVEN, FileEntry, Walk, walk
from omnivec.inputs.reading import is_readable, read
from omnivec.progress import Counter as Progress
from omnivec.progress import bar
from omnivec.store.records import DocumentEntry, Signature
from omnivec.store.sqlite import Catalogue
from omnivec.types import ModalityName
from omnivec.validation.reasons import LeftOut, escaped, named

# A file changed again within the clock's grain of its reading keeps its time: that time proves nothing.
_GRAIN_NS = 2_000_000_000
_LONG_AGO_NS = 2**62  # 146 years: what is further off need not fit into the catalogue's 64 bits.
_UNSETTLED = -1
# Kinds of what is left out that hold provably nothing.
_NOTHING = ("empty", "without text")

# Behind how a text was cut: the encoding it was read with, where the file itself did not tell. Before version 3 of the
# schema it was that of the whole run, which says nothing about a single file.
READ_AS = " read as "
_OF_THE_RUN = " encoding="

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
        note: what else of it is not in, such as the frames of an animation behind the first.
    """

    document: str
    status: Status
    passages: int = 0
    lost: int = 0
    why: str | None = None
    note: str | None = None


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
        notes: path -> what of it was left out, though the rest is in.
        warnings: what whoever searches the collection should know, one line each.
        left_out: path of what a folder holds and has nothing to embed -> its kind: "empty", "binary", "FIFO", ...
        skipped: lower-case suffix -> files left out because they promise nothing that can be read.
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
    """How a sync reads.

    Attributes:
        hidden: whether files and folders whose name begins with a dot are taken.
        encoding: of files that are not UTF-8 and do not name their own, one or several: the first that can read it.
            A document is read with the same one again where none is given.
        max_bytes: largest file.
        dry_run: only say what would be done.
        show_progress_bar: progress on stderr; None as `progress` says.
        named: whether the roots were named for this run: then one that holds nothing is a failure.
    """

    hidden: bool = False
    encoding: tuple[str, ...] = ()
    max_bytes: int = MAX_BYTES
    dry_run: bool = False
    show_progress_bar: bool | None = None
    named: bool = True


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
        spaces: Spaces,
        options: Options,
        on_event: Callable[[Event], None],
    ) -> None:
        from omnivec.collection.languages import Tally  # a search looks at no language

        self._catalogue, self._names = catalogue, names
        self._options, self._on_event = options, on_event
        self._indexing = Indexing(catalogue, spaces.writer, self._cutting, self._done)
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
        """Looks through the roots, brings in what they hold, then removes what is gone from under them."""
        self._before = self._catalogue.signatures()
        walks = [listing for path in roots if (listing := self._walk(path)) is not None]
        files = self._found(walks)
        wanted = self._options.show_progress_bar
        with bar("indexing", len(files), "documents", wanted) as self._shown:
            for entry, root in files.values():
                self._take(entry, root)
            self._flush()
        self._prune(walks)
        self._warn()
        return self.report

    def _warn(self) -> None:
        """Notes where the texts that came in are in other languages than their model is for."""
        from omnivec.collection.languages import warning

        if self._languages and self.report.passages:  # A run over images alone needs no model of texts.
            model = self._spaces.model(modality.written())
            line = warning(self._languages, model.name, model.folder)
            self.report.warnings += [line] if line else []

    def _cutting(self, name: ModalityName) -> Cutting:
        """How documents of a modality are cut."""
        # What changes nothing needs no model: where none is in yet, none is to be compared.
        untold = self._options.dry_run and self._spaces.recorded(name) is None
        return Cutting(0) if untold else self._spaces.cutting(name)

    def _walk(self, root: Path) -> Walk | None:
        """The walk through a root; None where its name cannot be kept."""
        if escaped(root) != str(root):
            self._fail(escaped(root), f"{escaped(root)}: its name is not valid UTF-8; rename it")
            return None
        options = self._options
        return walk(root, hidden=options.hidden, max_bytes=options.max_bytes, wanted=is_readable)

    def _found(self, walks: Sequence[Walk]) -> dict[str, tuple[FileEntry, str]]:
        """Id of each file under the roots -> the file, and the first root that it was found under."""
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
        """Hands a file that is new or changed to the indexer."""
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
            )
        )

    def _encodings(self, before: Signature | None) -> tuple[str, ...]:
        """The encodings to read a file with: those of this run, else the one that it was read with before."""
        remembered = _parsed_pipeline(before.pipeline)[1] if before is not None else None
        return self._options.encoding or ((remembered,) if remembered else ())

    def _pipeline(self, content: Content) -> str:
        pipeline = self._indexing.pipeline(content.modality)
        return pipeline if content.encoding is None else pipeline + READ_AS + content.encoding

    def _looks_unchanged(self, before: Signature, entry: FileEntry) -> bool:
        same = (before.size, before.mtime_ns, before.device) == (entry.size, entry.mtime_ns, entry.device)
        return same and self._is_current(before.pipeline)

    def _is_current(self, recorded: str) -> bool:
        """Whether a file that has not changed would become the same document again, as far as that shows unread."""
        pipeline, encoding, certain = _parsed_pipeline(recorded)
        encodings, modality = self._options.encoding, _made_by(pipeline)
        same = certain and (not encodings or encoding is None or encoding in encodings)
        return same and modality is not None and pipeline == self._indexing.pipeline(modality)

    def _is_made_so(self, recorded: str, content: Content) -> bool:
        """Whether a document was made of this content as this run would make it."""
        pipeline, encoding, _ = _parsed_pipeline(recorded)
        return pipeline == self._indexing.pipeline(content.modality) and encoding == content.encoding

    def _flush(self) -> None:
        self._indexing.flush()
        if not self._options.dry_run:
            self._catalogue.touch(self._touched)

    def _advance(self) -> None:
        """One document more is done."""
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
        """A file that cannot be taken: a failure where it was named itself, or could not be read.

        What was read and holds nothing is left out, and its earlier version with it: that is provably gone. Other
        kinds of what is left out, such as a binary file, prove nothing.
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
        if path in self.report.failed:  # Two roots may hold it.
            return
        known = self._names.of(Path(path)) in self._before
        why = f"{why} (its earlier version stays)" if known else why
        self.report.failed[path] = why
        self._on_event(Event(path, "failed", why=why))

    def _prune(self, walks: Sequence[Walk]) -> None:
        """Removes documents whose files lay under these roots and are provably gone, whichever root is asked."""
        listings = {listing.root: listing for listing in walks}
        seen = {root for name in self._seen for root in _roots_of(self._names.path(name), listings)}
        empty = {root for root in listings if root not in seen and _holds_no_file(root)}
        gone = list(self._emptied)
        for document in self._catalogue.documents():
            if document.path is None or document.id in self._seen:
                continue
            path = self._names.path(document.id)
            # What was named itself, and not found in a folder, is not the folder's to remove while it is there.
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
        """Why a document that was not seen may still exist; None where it is provably gone."""
        path = self._names.path(document.id)
        if (category := listing.left_out.get(escaped(path))) in UNPROVEN:
            return f"its file is now left out: {category}"
        if empty:
            return f"{listing.root} holds no file now: a disk that is not mounted looks the same"
        # Devices get new numbers when a system starts: files that were seen again show old and new.
        device = self._devices.get(document.device, document.device)
        if not listing.covers(path, device):
            return f"{path.parent} could not be listed, or its disk is not mounted"
        return None


def metadata_of(entry: FileEntry, name: str) -> dict[str, Any]:
    """What a file says about itself, for filters: path, name, suffix, size in bytes, and when it was changed."""
    facts = {
        "path": name,
        "name": entry.path.name,
        "suffix": entry.path.suffix.lower(),
        "size": entry.size,
    }
    with suppress(ValueError, OverflowError, OSError):  # A time that no calendar holds is left out.
        changed = datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC)
        facts["modified"] = changed.isoformat(timespec="seconds")
    return facts


def _parsed_pipeline(recorded: str) -> tuple[str, str | None, bool]:
    """How a text was cut, the encoding it was read with, and whether it is certain that it was read with that."""
    for mark in (READ_AS, _OF_THE_RUN):
        cutting, marked, encoding = recorded.partition(mark)
        if marked:
            return cutting, encoding, mark == READ_AS
    return recorded, None, True


def _made_by(pipeline: str) -> ModalityName | None:
    """The modality of a document that was made this way; None where its name and version are not known here."""
    made = pipeline.partition(" ")[0]
    return next((name for name in modality.readable() if modality.get(name).pipeline == made), None)


def _roots_of(path: Path, listings: Mapping[Path, Walk]) -> list[Path]:
    """The roots that a file lies under, itself among them."""
    return [folder for folder in (path, *path.parents) if folder in listings]


def _holds_no_file(folder: Path) -> bool:
    """Whether a folder is there without any file in it: a disk that is not mounted looks the same."""
    return os.path.isdir(folder) and not any(files for _, _, files in os.walk(folder))  # noqa: PTH112
