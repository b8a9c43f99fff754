"""`Collection.import_all`: what `export_all` wrote becomes the same documents, passages, vectors and spaces again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omnivec.collection import whole_formats as layouts
from omnivec.collection import whole_manifest as manifest
from omnivec.collection.whole_out import checked_layout
from omnivec.errors import CollectionError, IdentityError, UsageError
from omnivec.progress import Bar
from omnivec.store.records import SpaceRecord, Transferred
from omnivec.store.sqlite import Catalogue
from omnivec.store.wholes import Whole
from omnivec.validation.arguments import quoted
from omnivec.validation.reasons import of_system

_AT_ONCE, _PASSAGES = 500, 2_000


@dataclass
class ImportedAll:
    """The result of `Collection.import_all`.

    Attributes:
        documents: number of documents of the export.
        new: number of documents that the collection did not have.
        changed: number of documents that replaced others with their ids.
        unchanged: number of documents that the collection had, equal in all.
        passages: number of passages written.
        spaces: names of the spaces that were added.
    """

    documents: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    passages: int = 0
    spaces: list[str] = field(default_factory=list)


class Import:
    """One call of `Collection.import_all`; everything that can be checked is checked before anything is written.

    Args:
        catalogue: of the collection.
        folder: of the export.

    Raises:
        CollectionError: the folder is no export, or a file is missing or was changed.
        UsageError: a space of the collection has the name of another one.
        IdentityError: a space of the collection was made by another model.
    """

    def __init__(self, catalogue: Catalogue, folder: Path) -> None:
        self._catalogue, self._folder = catalogue, folder
        self.facts = manifest.read(folder)
        checked_layout(self.facts.layout)
        manifest.check_files(folder, self.facts, layouts.files_of(self.facts.layout, self.facts.spaces))
        existing = catalogue.spaces()
        for space in self.facts.spaces:
            if space.name in existing:
                self._refuse_other(existing[space.name], space)
        self.report = ImportedAll()
        self._checksum = 0

    def _refuse_other(self, there: SpaceRecord, space: SpaceRecord) -> None:
        name = f"the space {space.name!r} of {self._catalogue.folder}"
        for what in ("dim", "metric", "kind", "dtype"):
            ours, theirs = getattr(there, what), getattr(space, what)
            if ours != theirs:
                raise UsageError(
                    f"{name} has {what} {ours}, that of {self._folder} {theirs}: import into a collection of its own"
                )
        if dict(there.identity) != dict(space.identity):
            raise IdentityError(
                f"{name} was made by {there.model or 'no model'}, that of {self._folder} by "
                f"{space.model or 'no model'}, which is another one: import into a collection of its own"
            )

    def run(self, shown: Bar) -> ImportedAll:
        """Writes spaces, roots and documents; each window of documents is committed."""
        there = self._catalogue.spaces()
        for space in self.facts.spaces:
            if space.name not in there:
                self._catalogue.put_space(space)
                self.report.spaces.append(space.name)
        spaces = {one.name: one for one in self.facts.spaces}
        window: list[Transferred] = []
        held = 0
        try:
            for whole in layouts.documents(self.facts.layout, self._folder, self.facts.spaces):
                window.append(self._checked(whole, spaces))
                held += len(whole.passages)
                if len(window) >= _AT_ONCE or held >= _PASSAGES:
                    self._write(window)
                    shown.advance(len(window))
                    window, held = [], 0
            self._write(window)
        except OSError as error:
            raise CollectionError(f"{self._folder} cannot be read: {of_system(error)}") from error
        self._check_whole()
        for root in self.facts.roots:
            if root not in self._catalogue.roots():
                self._catalogue.add_root(root)
        return self.report

    def _checked(self, whole: Whole, spaces: dict[str, SpaceRecord]) -> Transferred:
        """The record of a document, which is what was exported."""
        try:
            document = whole.document(spaces)
            checksum = whole.checksum()
            if checksum != whole.head[-1]:
                raise ValueError("its checksum differs")
        except (ValueError, TypeError) as error:
            raise CollectionError(
                f"{self._folder}: document {quoted(whole.id)} is not what was exported: {error}"
            ) from error
        return Transferred(document, whole.head[11], checksum)

    def _write(self, window: Sequence[Transferred]) -> None:
        known = self._catalogue.checksums([one.document.id for one in window])
        fresh = [one for one in window if known.get(one.document.id) != one.checksum]
        self._catalogue.transfer(fresh)
        report = self.report
        report.documents += len(window)
        report.unchanged += len(window) - len(fresh)
        changed = sum(one.document.id in known for one in fresh)
        report.changed += changed
        report.new += len(fresh) - changed
        for one in fresh:
            report.passages += len(one.document.passages)
        for one in window:
            self._checksum ^= one.checksum

    def _check_whole(self) -> None:
        if (self.report.documents, self._checksum) != (self.facts.documents, self.facts.checksum):
            raise CollectionError(
                f"{self._folder} holds {self.report.documents:,} documents, and {self.facts.documents:,} were "
                "exported, or others: export again"
            )


def is_export(path: Path) -> bool:
    """Whether a path is the folder of an export of a whole collection."""
    try:
        return path.is_dir() and (path / manifest.NAME).is_file()
    except (OSError, ValueError):
        return False
