"""The part of `Collection` that reports its state, checks it and copies it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omnivec.collection.opened import Opened
from omnivec.inputs import modality as modalities
from omnivec.store import copies, matrix
from omnivec.store.index_registry import AUTOMATIC
from omnivec.store.records import Counts, SpaceRecord
from omnivec.validation import arguments

if TYPE_CHECKING:  # imported when needed
    from omnivec.store.index_builder import Built
    from omnivec.store.salvage import Salvaged


class Upkeep(Opened):
    """Counts, roots, spaces, checks and backups of a collection."""

    def counts(self) -> Counts:
        """Returns the numbers of documents, passages, vectors, bytes and tokens cut off."""
        return self._catalogue.counts()

    def roots(self) -> tuple[str, ...]:
        """Returns the folders and files that were synced."""
        return self._catalogue.roots()

    def space(self) -> SpaceRecord | None:
        """Returns the vector space of texts and its model, or else the first space; None if there is none."""
        return self._spaces.recorded(modalities.written()) or next(iter(self.spaces().values()), None)

    def spaces(self) -> dict[str, SpaceRecord]:
        """Returns all vector spaces by name: "text", "image", or "text+image" if one model embeds both."""
        return self._spaces.records()

    def check(self, *, deep: bool = False) -> list[str]:
        """Checks the files; returns the problems, one line each.

        It finds pages that SQLite cannot read, rows and documents that are missing, wrong relations between rows, and
        whatever was changed in the records of spaces, canaries and roots, in the history and in the files beside the
        catalogue.

        Args:
            deep: whether to compare every document, its passages and its vectors with their checksum, and the text
                indexes with the texts, which finds a changed letter or number but takes much longer.
        """
        from omnivec.store import index_files

        problems = self._catalogue.check(deep=arguments.flag("deep", deep))
        for files in (matrix, index_files):
            problems += files.problems(self._catalogue, self.folder)
        return problems

    def build_index(
        self, space: str | None = None, *, index: str = AUTOMATIC, show_progress_bar: bool | None = None
    ) -> list[Built]:
        """Builds the indexes of large spaces, or extends them by the vectors that were added, and waits for them.

        A space of more than 50,000 vectors is searched with an index, which is a file beside the catalogue. It is built
        in a process of its own; searches go on meanwhile. It can be deleted and built again at any time.

        Args:
            space: name of the space, which may be smaller; None for all spaces of more than 50,000 vectors.
            index: name of the index, one that has files.
            show_progress_bar: whether to show progress on stderr; None shows it in a terminal or a notebook if the
                work takes long.

        Returns:
            For each space the number of vectors, the recall that was measured, seconds and bytes.

        Raises:
            UsageError: the collection is open for reading only, or there is no such space or index.
            CollectionError: the file cannot be written, or the process that builds the index ended.
        """
        from omnivec.collection import space_indexes

        name = arguments.text("index", index)
        wanted = space_indexes.large(self._catalogue) if space is None else [arguments.text("space", space)]
        return [
            space_indexes.build(self._catalogue, self.folder, one, name, show_progress_bar) for one in wanted
        ]

    def unverified(self) -> list[str]:
        """Returns what `check(deep=True)` cannot verify, one line each, since an earlier version wrote it."""
        return self._catalogue.unverified()

    def backup(self, folder: str | Path) -> None:
        """Copies the present state of the collection to a new folder; others may read and write it meanwhile.

        The copy is checked before it appears under its name. Copying the files by other means is safe only while no
        process has the collection open.

        Raises:
            CollectionError: the folder exists, or cannot be written.
            CollectionDamaged: this collection is damaged.
        """
        copies.back_up(self._catalogue, arguments.path("folder", folder))

    @staticmethod
    def restore(source: str | Path, folder: str | Path, *, aside: bool = False) -> Path | None:
        """Restores a collection from a backup, which is copied.

        Args:
            source: folder of the backup.
            folder: folder of the collection; objects that have it open will report that it was replaced.
            aside: whether to rename an existing collection; otherwise it is refused.

        Returns:
            The new path of an existing collection; None if there was none.

        Raises:
            CollectionError: something exists at `folder`, or it cannot be written.
            CollectionDamaged: the backup is damaged.
        """
        return copies.restore(
            arguments.path("source", source),
            arguments.path("folder", folder),
            aside=arguments.flag("aside", aside),
        )

    @staticmethod
    def salvage(source: str | Path, folder: str | Path) -> Salvaged:
        """Makes a new collection of what can still be read of a damaged one, which is only read.

        A document whose checksum fits is taken as a whole, equal to what was written; so are the spaces with their
        canaries, and the synced folders. Any other document is left out and named. What can be read of its text and
        metadata goes, unverified, into the file FOLDER.unverified.jsonl, which `add_rows` reads, and embeds again.

        Args:
            source: folder of the damaged collection; no program may have it open.
            folder: folder of the new collection, which must not exist.

        Returns:
            What was taken, what is damaged, and what is lost as far as can be known.

        Raises:
            CollectionError: the source cannot be read, or the new folder not be written.
            SchemaError: the source is no collection, or nothing of it can be recognised.
        """
        from omnivec.collection.salvaging import salvaged

        return salvaged(arguments.path("source", source), arguments.path("folder", folder))

    def vacuum(self) -> int:
        """Shrinks the files after documents were removed; returns the number of bytes freed.

        After a large removal, each write also frees some of the space.
        """
        return self._catalogue.vacuum()
