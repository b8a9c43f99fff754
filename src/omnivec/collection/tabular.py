"""The part of `Collection` that adds rows of tables, writes documents as rows, and exports and imports all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omnivec.collection.opened import Opened
from omnivec.inputs.items import texts
from omnivec.validation import arguments

if TYPE_CHECKING:  # imported when needed, as by `add`
    from omnivec.collection.rows_in import Adds, Imported
    from omnivec.collection.rows_out import Exported
    from omnivec.collection.whole_in import ImportedAll
    from omnivec.collection.whole_out import ExportedAll


class Tabular(Opened):
    """Rows of tables as documents, and documents as rows."""

    def add_rows(
        self,
        source: Any,
        id: str | None = None,
        text: str | None = None,
        metadata: str | Sequence[str] | None = None,
        vector: str | None = None,
        *,
        space: str | None = None,
        show_progress_bar: bool | None = None,
    ) -> Imported:
        """Adds rows as documents: of CSV, TSV, JSON lines and Parquet files, or dicts; any number in the same memory.

        The rows are read and committed in windows. Rows that are in the collection unchanged are skipped, so an import
        that was stopped can be repeated. A row that cannot be used costs only itself.

        Args:
            source: the path of a file, or several paths; or an iterable of dicts.
            id: column of the ids, texts or whole numbers; None for `id`. If there is no such column, documents are
                named by the hash of their text.
            text: column of the texts; None for the first of `text`, `content`, `document`, `body`.
            metadata: columns of the metadata; None for all others. docs/collection.md says how cells are read.
            vector: column of vectors of your own, lists of numbers (JSON in a cell of CSV), which no model embeds then;
                texts are optional.
            space: name of the space for the vectors; None is "vectors", or SPACE for a column `_vector.SPACE`.
            show_progress_bar: as for `add`.

        Returns:
            What was added, changed and unchanged, and why rows failed: report.failures, by their places.

        Raises:
            ItemError: a file cannot be read; nothing was added.
            UsageError: a column does not exist, or the column of the texts cannot be guessed; nothing was added.

        Examples:
            >>> notes.add_rows("articles.csv", id="doi", text="abstract", metadata=["title", "year"])
            <Imported: 3 rows: 3 new, 0 changed, 0 unchanged, 0 failed; 3 passages>
        """
        from omnivec.collection.cells import TEXT
        from omnivec.collection.row_sources import Columns
        from omnivec.collection.rows_in import Import, opened, total_of
        from omnivec.progress import bar, is_visible

        columns = Columns(
            id=None if id is None else arguments.text("id", id),
            text=None if text is None else arguments.text(TEXT, text),
            vector=None if vector is None else arguments.text("vector", vector),
            metadata=None if metadata is None else texts(metadata, "metadata"),
        )
        sources = opened(source, columns)
        total = total_of(sources) if is_visible(show_progress_bar) else None
        work = Import(cast("Adds", self), sources, space)
        done = 0
        with bar("importing", total, "rows", show_progress_bar) as shown:
            for _ in work:
                shown.advance(work.report.rows - done)
                done = work.report.rows
        return work.report

    def export(
        self,
        path: str | Path,
        where: Mapping[str, Any] | None = None,
        *,
        vectors: bool = False,
        passages: bool = False,
        force: bool = False,
        show_progress_bar: bool | None = None,
    ) -> Exported:
        """Writes documents as rows of a CSV, TSV, JSON lines or Parquet file, which `add_rows` reads again.

        Args:
            path: the file; its suffix selects the format. It appears under its name when it is complete, and all of it
                is of one state of the collection.
            where: a filter on metadata, as for `search`; None for all documents.
            vectors: whether to write vectors, a column `_vector.SPACE` for each space. A row has none in a space where
                its passages have several; the result counts these documents.
            passages: whether each passage has a row of its own, with its text, number and span. `add_rows` does not
                read such files.
            force: whether to replace an existing file.
            show_progress_bar: as for `add`.

        Returns:
            The numbers of documents and rows written.

        Raises:
            FilterError: `where` cannot be parsed.
            UsageError: the suffix is not that of a format, or the file exists.
            MissingExtra: Parquet without pyarrow.

        Examples:
            >>> notes.export("notes.csv", {"year": {"$gte": 2024}}).documents
            3
        """
        from omnivec.collection.rows_out import Export, checked_target
        from omnivec.progress import bar

        target = checked_target(arguments.path("path", path), force=arguments.flag("force", force))
        with_vectors, by_passage = arguments.flag("vectors", vectors), arguments.flag("passages", passages)
        export = Export(self._catalogue, target, where, vectors=with_vectors, passages=by_passage)
        total = None if where is not None else self._catalogue.counts().documents
        with bar("exporting", total, "documents", show_progress_bar) as shown:
            return export.run(shown)

    def export_all(
        self, folder: str | Path, format: str = "jsonl", *, show_progress_bar: bool | None = None
    ) -> ExportedAll:
        """Writes the whole collection into files for other programs, which `import_all` reads without loss.

        Documents with their metadata, passages with their spans, vectors bit for bit, and the spaces with the
        identities and canaries of their models are written, all of one state of the collection. The memory needed does
        not depend on the size, except with "faiss".

        Args:
            folder: new folder; it appears under its name when it is complete.
            format: "jsonl" for JSON lines, "parquet", "numpy" for JSON lines with vectors as .npy files, or "faiss" for
                JSON lines with vectors as flat indexes. docs/keeping.md describes the files.
            show_progress_bar: as for `add`.

        Returns:
            The numbers of documents, passages and vectors, and the files.

        Raises:
            UsageError: the folder exists, or there is no such format.
            CollectionDamaged: a document is not what was written.
            MissingExtra: Parquet without pyarrow.

        Examples:
            >>> notes.export_all("notes.export", "numpy").documents
            3
        """
        from omnivec.collection.whole_out import export_all
        from omnivec.progress import bar

        target, layout = arguments.path("folder", folder), arguments.text("format", format)
        with bar("exporting", self._catalogue.counts().documents, "documents", show_progress_bar) as shown:
            return export_all(self._catalogue, target, layout, shown)

    def import_all(self, folder: str | Path, *, show_progress_bar: bool | None = None) -> ImportedAll:
        """Adds what `export_all` wrote: the same documents, passages, vectors and spaces; nothing is embedded.

        Documents that the collection has unchanged are skipped, so that an import that was stopped can be repeated; one
        that has the id of another document replaces it. All files are compared with their digests before anything is
        written, and each document with its checksum.

        Args:
            folder: of the export.
            show_progress_bar: as for `add`.

        Returns:
            The numbers of new, changed and unchanged documents.

        Raises:
            CollectionError: the folder is no export, or a file is missing or is not what was written.
            IdentityError: a space of this collection has the name of another one, which another model made.
            UsageError: a space of this collection has the name of another one with another dim, metric or kind.

        Examples:
            >>> omnivec.Collection("copy.omni").import_all("notes.export").new
            3
        """
        from omnivec.collection.whole_in import Import
        from omnivec.progress import bar

        work = Import(self._catalogue, arguments.path("folder", folder))
        with bar("importing", work.facts.documents, "documents", show_progress_bar) as shown:
            return work.run(shown)
