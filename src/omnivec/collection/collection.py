"""`Collection`: documents, passages, metadata and vectors in one directory, with the models that embed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any

from omnivec.collection.documents import Documents
from omnivec.collection.file_names import FileNames
from omnivec.collection.model_changes import ModelChanges
from omnivec.collection.nearest import Neighbours
from omnivec.collection.ranking import Ranking
from omnivec.collection.requested import ModelSource, RequestedModels
from omnivec.collection.spaces import Spaces
from omnivec.collection.tabular import Tabular
from omnivec.collection.upkeep import Upkeep
from omnivec.errors import ItemErrors, OmnivecError, UsageError
from omnivec.inputs import modality as modalities
from omnivec.inputs.content import MAX_BYTES
from omnivec.inputs.items import paths as checked_paths
from omnivec.models.embedder import Embedder
from omnivec.progress import bar
from omnivec.store import matrix
from omnivec.store.index_registry import AUTOMATIC, index_class
from omnivec.store.lock import writer_lock
from omnivec.store.records import ACTIVE
from omnivec.store.sqlite import Catalogue
from omnivec.types import SPARSE, Metric
from omnivec.validation import arguments

if TYPE_CHECKING:  # imported when needed, so that a search does not wait for modules that write
    from omnivec.collection.adding import Added
    from omnivec.collection.syncing import Event, Options, SyncReport


class Collection(Documents, Neighbours, Tabular, ModelChanges, Upkeep):
    """Documents and their vectors in one directory; may be used by several threads and processes.

    Args:
        folder: the directory; created if it does not exist, unless `create` is False.
        model: embeds everything that it reads, texts or images or both: a name as for `load`, a folder, or an
            `Embedder`. None uses the models that made the collection, and the default models for new modalities.
        models: the same for each modality, instead of `model`: {"text": ..., "image": ...}, or only one of them. A key
            that is no modality, such as "large", names a further space: what its model reads is embedded into it too.
        transcriber: writes down the speech in sounds, so that words find it; None uses the recorded one, "" none.
        create: whether to create a collection that does not exist.
        readonly: whether to refuse every change; needs no permission to write.
        index: name of the vector index: "exact" compares all vectors; None does so in spaces of up to 50,000 vectors,
            and asks "faiss" for candidates in larger ones; other packages may add more. It applies to this object only
            and is not stored.

    Raises:
        CollectionError: the collection does not exist, or cannot be opened.
        IdentityError: a model is not the one that made the vectors.
        UsageError: there is no such index.

    Examples:
        >>> notes = omnivec.Collection("notes.omni", model="all-MiniLM-L6-v2")
        >>> notes.add(["budget for next year", "a cat on a windowsill"], ids=["budget", "cat"]).new
        2
        >>> notes.search("a kitten", k=1)[0].document
        'cat'
    """

    def __init__(
        self,
        folder: str | Path,
        model: ModelSource | None = None,
        *,
        models: Mapping[str, ModelSource] | None = None,
        transcriber: ModelSource | None = None,
        create: bool = True,
        readonly: bool = False,
        index: str | None = None,
    ) -> None:
        self.folder = arguments.path("folder", folder).absolute()
        create, readonly = arguments.flag("create", create), arguments.flag("readonly", readonly)
        requested = RequestedModels.of(model, models, transcriber)
        self._names = FileNames(self.folder.parent)
        name = None if index is None else arguments.text("index", index)
        finder = None if name is None else index_class(name)  # before a folder is made
        self._catalogue = Catalogue.open(self.folder, create=create and not readonly, readonly=readonly)
        self._ranking = Ranking(self._catalogue, self.folder, finder, name or AUTOMATIC)
        try:
            self._spaces = Spaces(self._catalogue, requested)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the files, and stops a build of an index in the background; may be called more than once."""
        self._ranking.close()
        self._catalogue.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        place = f"<Collection {str(self.folder)!r}"
        try:
            counts, spaces = self.counts(), self.spaces()
        except OmnivecError as error:
            return f"{place}: {error}>"
        made = "".join(
            f"; {name} by {one.model!r}" if one.model else f"; {name} given as vectors"
            for name, one in spaces.items()
        )
        return f"{place}: {counts.documents:,} documents, {counts.passages:,} passages{made}>"

    # Models.

    @property
    def model(self) -> Embedder:
        """The model of texts; loaded on first use, and checked to be the one that made their vectors."""
        return self._spaces.model(modalities.written())

    @property
    def models(self) -> Mapping[str, Embedder]:
        """Maps the name of each space to its model, which is loaded when it is looked up."""
        return self._spaces

    # Writing.

    def add(
        self,
        items: Any = None,
        ids: Sequence[str] | str | None = None,
        metadata: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
        *,
        vectors: Any = None,
        space: str | None = None,
        metric: Metric | None = None,
        show_progress_bar: bool | None = None,
    ) -> Added:
        """Adds items, and replaces documents that have the same ids; unchanged content is not embedded again.

        Args:
            items: one item or an iterable: a str is a text, a pathlib.Path a text or image file, a PIL image or a uint8
                array (h, w, 3) an image. None if only vectors are added.
            ids: an id for each item; by default, the path of a file, and the hash of the content of other items.
            metadata: a dict of JSON types for each item, or one for all.
            vectors: (n, dim) numbers, a vector of your own for each item, which no model embeds then.
            space: name of the space for `vectors`; None is "vectors". No model may have made its vectors.
            metric: by which `vectors` are compared: "cosine", the default, "dot" or "euclidean".
            show_progress_bar: whether to show progress on stderr; None shows it in a terminal or a notebook if the
                work takes long.

        Returns:
            What was added, changed and unchanged. When `add` returns, it is committed to disk.

        Raises:
            ItemErrors: some items failed; the others are in the collection, see .partial.
            UsageError: the numbers of ids, metadata, vectors and items differ, an id is invalid or given twice, or the
                space holds other vectors than these.

        Examples:
            >>> notes.add(["budget for 2026"], ids=["budget 2026"], metadata={"year": 2026})
            <Added: 1 new, 0 changed, 0 unchanged, 0 failed; 1 passages, 0 tokens cut off>
        """
        from omnivec.collection.adding import Adding, items_of

        if vectors is not None:
            return self._add_vectors(items, ids, metadata, vectors, space, metric, show_progress_bar)
        if space is not None or metric is not None:
            raise UsageError("space= and metric= are those of vectors=, which is missing")
        listed = items_of(items, ids, metadata)
        with bar("adding", len(listed), "items", show_progress_bar) as shown:
            added = Adding(self._catalogue, self._names, self._spaces, shown).run(listed)
        if added.failures:
            raise ItemErrors(added.failures, added, "The others are in the collection; .partial says which.")
        return added

    def _add_vectors(
        self,
        items: Any,
        ids: Any,
        metadata: Any,
        vectors: Any,
        space: str | None,
        metric: str | None,
        show_progress_bar: bool | None,
    ) -> Added:
        """Implements `add` with vectors."""
        from omnivec.collection.own_vectors import AddingVectors, items_with, matrix, own_space

        rows = matrix(vectors)
        listed = items_with(rows, items, ids, metadata)
        record = own_space(self._catalogue, space, rows.shape[1], metric)
        with bar("adding", len(listed), "items", show_progress_bar) as shown:
            common = (self._catalogue, self._names, self._spaces, shown)
            added = AddingVectors(*common, space=record, vectors=rows).run(listed)
        if added.failures:
            raise ItemErrors(added.failures, added, "The others are in the collection; .partial says which.")
        return added

    def sync(
        self,
        paths: str | Path | Sequence[str | Path] | None = None,
        *,
        hidden: bool = False,
        encoding: str | Sequence[str] | None = None,
        max_bytes: int = MAX_BYTES,
        dry_run: bool = False,
        on_event: Callable[[Event], None] | None = None,
        say: Callable[[str], None] | None = None,
        wait: float | None = 60.0,
        show_progress_bar: bool | None = None,
    ) -> SyncReport:
        """Updates the collection from files: embeds new and changed ones, removes documents whose files are gone.

        Args:
            paths: folders and files; None uses those of earlier calls.
            hidden: whether to include files and folders whose names begin with a dot.
            encoding: one or more encodings for text files that are not UTF-8 and do not name theirs; see docs/cli.md.
            max_bytes: largest size of a file.
            dry_run: whether to only report what would be done.
            on_event: called for each document, after the commit that contains it.
            say: called with one line if another process has to be waited for.
            wait: seconds to wait for another sync of this collection; None waits without limit.
            show_progress_bar: as for `add`.

        Returns:
            The report, such as of `report = notes.sync("docs/")`: report.new, report.removed, report.failed.

        Raises:
            CollectionBusy: another sync took longer than `wait`.
            UsageError: there are no paths, now or from earlier calls, or an option is invalid.
        """
        named = paths is not None
        if paths is None:
            paths = [self.path_of(root) for root in self.roots()]
            if not paths:
                raise UsageError(f"no files were added to {self.folder} yet: name files or folders")
        roots = list(checked_paths(paths))
        dry_run, hidden = arguments.flag("dry_run", dry_run), arguments.flag("hidden", hidden)
        max_bytes = arguments.whole("max_bytes", max_bytes)
        from omnivec.collection.syncing import Options
        from omnivec.inputs.files.read import checked_encodings

        options = Options(hidden, checked_encodings(encoding), max_bytes, dry_run, show_progress_bar, named)
        if dry_run:  # it changes nothing, so it needs neither the lock nor a model
            return self._sync(roots, options, on_event)
        with writer_lock(self.folder, None if wait is None else arguments.real("wait", wait, 0), say):
            before = set(self._spaces.records())
            report = self._sync(roots, options, on_event)
        now = set(self._spaces.records())
        if now != before and len(now) > 1:  # reported once; `omnivec collection status` repeats it
            stored = filter(self._spaces.recorded, modalities.readable())
            report.warnings += dict.fromkeys(line for one in stored for line in self.unreached(one))
        if report.passages or report.removed:
            self._write_matrices()
        return report

    def _write_matrices(self) -> None:
        """Writes the matrix files now, as searches that use them may open the collection read-only."""
        for name, record in self._spaces.records().items():
            if record.kind != SPARSE and record.state == ACTIVE:
                matrix.open_rows(self._catalogue, self.folder, name)

    def _sync(
        self, roots: Sequence[Path], options: Options, on_event: Callable[[Event], None] | None
    ) -> SyncReport:
        from omnivec.collection.syncing import Sync

        return Sync(self._catalogue, self._names, self._spaces, options, on_event or _ignore).run(roots)


def preview(
    folder: str | Path,
    paths: Sequence[str | Path],
    *,
    hidden: bool = False,
    encoding: str | Sequence[str] | None = None,
    max_bytes: int = MAX_BYTES,
    on_event: Callable[[Event], None] | None = None,
    show_progress_bar: bool | None = None,
) -> SyncReport:
    """Reports what `Collection.sync` would do to a collection that does not exist yet, without creating it."""
    from omnivec.collection.syncing import Options, Sync
    from omnivec.inputs.files.read import checked_encodings

    options = Options(hidden, checked_encodings(encoding), max_bytes, True, show_progress_bar)
    names, handler = FileNames(arguments.path("folder", folder).absolute().parent), on_event or _ignore
    with TemporaryDirectory() as scratch, Catalogue.open(Path(scratch), create=True) as empty:
        sync = Sync(empty, names, Spaces(empty, RequestedModels()), options, handler)
        return sync.run(list(checked_paths(paths)))


def _ignore(event: Event) -> None:
    pass
