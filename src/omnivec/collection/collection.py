"""`Collection`: documents, passages, metadata and vectors in one directory, with the models that embed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, SupportsIndex, get_args

import numpy as np

from omnivec.collection.file_names import FileNames
from omnivec.collection.ranking import Ranking, target
from omnivec.collection.searching import BY_MEANING, HYBRID, WORDS, Mode, Question, answer, hits
from omnivec.collection.spaces import ModelSource, RequestedModels, Spaces
from omnivec.errors import ItemErrors, OmnivecError, UnknownKey, UsageError
from omnivec.inputs import modality as modalities
from omnivec.inputs.content import MAX_BYTES, Content
from omnivec.inputs.items import paths as checked_paths
from omnivec.inputs.items import texts
from omnivec.inputs.reading import content_of
from omnivec.models.embedder import Embedder
from omnivec.progress import bar
from omnivec.store import copies, matrix
from omnivec.store.index_registry import index_class
from omnivec.store.lock import writer_lock
from omnivec.store.records import Counts, DocumentEntry, SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.types import Floats, Hit, Keys, ModalityName
from omnivec.validation import arguments

if TYPE_CHECKING:  # imported when needed, so that a search does not wait for modules that write
    from omnivec.collection.adding import Added
    from omnivec.collection.syncing import Event, Options, SyncReport

_MOST = 2**40
"""Largest k; more passages than a collection can have, and a number that SQLite can hold."""


class Collection:
    """Documents and their vectors in one directory; may be used by several threads and processes.

    Args:
        folder: the directory; created if it does not exist, unless `create` is False.
        model: embeds everything that it reads, texts or images or both: a name as for `load`, a folder, or an
            `Embedder`. None uses the models that made the collection, and the default models for new modalities.
        models: the same for each modality, instead of `model`: {"text": ..., "image": ...}, or only one of them.
        transcriber: writes down the speech in sounds, so that words find it; None uses the recorded one, "" none.
        create: whether to create a collection that does not exist.
        readonly: whether to refuse every change; needs no permission to write.
        index: name of the vector index: "exact" compares all vectors; other packages may add approximate ones. It
            applies to this object only and is not stored.

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
        index: str = "exact",
    ) -> None:
        self.folder = arguments.path("folder", folder).absolute()
        create, readonly = arguments.flag("create", create), arguments.flag("readonly", readonly)
        requested = RequestedModels.of(model, models, transcriber)
        self._names = FileNames(self.folder.parent)
        finder = index_class(arguments.text("index", index))  # before a folder is made
        self._catalogue = Catalogue.open(self.folder, create=create and not readonly, readonly=readonly)
        self._ranking = Ranking(self._catalogue, self.folder, finder)
        try:
            self._spaces = Spaces(self._catalogue, requested)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the files; may be called more than once."""
        self._catalogue.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of documents."""
        return self.counts().documents

    def __contains__(self, document: object) -> bool:
        """Whether there is a document with this id, or from this file if it is a pathlib.Path."""
        if isinstance(document, Path):
            document = self._names.of(arguments.expanded(document))
        return isinstance(document, str) and bool(self._catalogue.documents(ids=[document]))

    def __repr__(self) -> str:
        place = f"<Collection {str(self.folder)!r}"
        try:
            counts, spaces = self.counts(), self.spaces()
        except OmnivecError as error:
            return f"{place}: {error}>"
        made = "".join(f"; {name} by {one.model!r}" for name, one in spaces.items())
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
        items: Any,
        ids: Sequence[str] | str | None = None,
        metadata: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
        *,
        show_progress_bar: bool | None = None,
    ) -> Added:
        """Adds items, and replaces documents that have the same ids; unchanged content is not embedded again.

        Args:
            items: one item or an iterable: a str is a text, a pathlib.Path a text or image file, a PIL image or a uint8
                array (h, w, 3) an image.
            ids: an id for each item; by default, the path of a file, and the hash of the content of other items.
            metadata: a dict of JSON types for each item, or one for all.
            show_progress_bar: whether to show progress on stderr; None shows it in a terminal or a notebook if the
                work takes long.

        Returns:
            What was added, changed and unchanged. When `add` returns, it is committed to disk.

        Raises:
            ItemErrors: some items failed; the others are in the collection, see .partial.
            UsageError: the number of ids or metadata is not that of the items, or an id is invalid or given twice.

        Examples:
            >>> notes.add(["budget for 2026"], ids=["budget 2026"], metadata={"year": 2026})
            <Added: 1 new, 0 changed, 0 unchanged, 0 failed; 1 passages, 0 tokens cut off>
        """
        from omnivec.collection.adding import Adding, items_of

        listed = items_of(items, ids, metadata)
        with bar("adding", len(listed), "items", show_progress_bar) as shown:
            added = Adding(self._catalogue, self._names, self._spaces, shown).run(listed)
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
            # Searches may open the collection read-only, so the matrix files that they use are written now.
            for space in self._spaces.records():
                matrix.load(self._catalogue, self.folder, space)
        return report

    def _sync(
        self, roots: Sequence[Path], options: Options, on_event: Callable[[Event], None] | None
    ) -> SyncReport:
        from omnivec.collection.syncing import Sync

        return Sync(self._catalogue, self._names, self._spaces, options, on_event or _ignore).run(roots)

    def delete(self, ids: str | Sequence[str]) -> int:
        """Removes documents by their ids; returns how many of them existed."""
        return self._catalogue.delete(texts(ids, "ids"))

    # Reading.

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

    def search(
        self,
        query: Any,
        k: SupportsIndex = 10,
        where: Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        *,
        under: str | Path | None = None,
        per_document: bool = False,
    ) -> list[Hit]:
        """Finds the passages that match a query best, in all spaces whose model reads it.

        Args:
            query: a str is a text, a pathlib.Path a file, a PIL image or a uint8 array (h, w, 3) an image.
            k: largest number of results.
            where: a filter on metadata, such as {"year": {"$gte": 2024}}; see docs/collection.md.
            mode: "vector" searches by meaning, "text" by words (BM25), "hybrid" by both (reciprocal rank fusion); None
                is "hybrid" for a text, "text" for one that no model reads, and otherwise "vector".
            under: only documents from this file, or from files in this folder.
            per_document: whether to return only the best passage of each document.

        Returns:
            At most k hits, best first.

        Raises:
            ItemError: the query cannot be read.
            FilterError: `where` cannot be parsed.
            UsageError: no space has a model that reads the query, or an image is searched for by words.

        Examples:
            >>> [hit.document for hit in notes.search("plans for money", k=3, where={"year": {"$gte": 2025}})]
            ['budget 2026']
        """
        if mode is not None:
            mode = arguments.choice("mode", mode, get_args(Mode))
        k = min(arguments.whole("k", k), _MOST)
        asked = content_of(query)
        in_words = asked.modality == modalities.written()
        if mode is None:
            mode = self._usual_mode(asked.modality) if in_words else BY_MEANING
        if not in_words and mode != BY_MEANING:
            one = modalities.get(asked.modality).one
            raise UsageError(f"mode={mode!r} searches by words, but the query is {one}: use mode='vector'")
        vectors = self._query_vectors(asked, mode) if mode != WORDS else {}
        with self._catalogue.snapshot():
            recorded = self._spaces.recorded(modalities.written())
            question = Question(
                asked.text,
                vectors,
                mode,
                k,
                self._allowed(where, under),
                arguments.flag("per_document", per_document),
                recorded.name if recorded else modalities.written(),
            )
            ranked = answer(self._catalogue, self._ranking, question)
            return hits(self._catalogue, ranked, None if mode == BY_MEANING else asked.text)

    def _usual_mode(self, modality: ModalityName) -> Mode:
        """Returns the mode for queries of words: by words alone if no model reads them, as for sounds."""
        if not self._catalogue.has_words():
            return BY_MEANING
        return HYBRID if self._spaces.spaces_for_query(modality) else WORDS

    def _allowed(self, where: Mapping[str, Any] | None, under: str | Path | None) -> Keys | None:
        """Returns the keys of the passages that may be found; None for all."""
        allowed = None if where is None else self._catalogue.passage_keys(where)
        if under is None:
            return allowed
        below = self._catalogue.keys_under(self._names.of(arguments.path("under", under)))
        if not len(below):
            raise UsageError(
                f"no document of {self.folder} is a file in {under}; indexed paths: {', '.join(self.roots()) or 'none'}"
            )
        return below if allowed is None else np.intersect1d(allowed, below, assume_unique=True)

    def unreached(self, modality: ModalityName) -> tuple[str, ...]:
        """Describes the spaces that queries of a modality cannot search, because their model does not read it."""
        return self._spaces.unsearchable_spaces(arguments.choice("modality", modality, modalities.names()))

    def recommend(
        self,
        like: str | Sequence[str],
        unlike: str | Sequence[str] = (),
        k: SupportsIndex = 10,
        where: Mapping[str, Any] | None = None,
    ) -> list[Hit]:
        """Finds passages that are similar to some documents and dissimilar to others, which are not among the results.

        In each space that contains a liked document, the query is mean(like) + (mean(like) - mean(unlike)).

        Args:
            like: ids of documents to be similar to, at least one.
            unlike: ids of documents to be dissimilar to.
            k: largest number of results.
            where: a filter on metadata, as for `search`.

        Returns:
            At most k hits, best first.

        Raises:
            UsageError: an id is not in the collection, or `like` is empty.
        """
        k = min(arguments.whole("k", k), _MOST)
        wanted, unwanted = texts(like, "like"), texts(unlike, "unlike")
        if not wanted:
            raise UsageError("recommend needs at least one id in `like`")
        with self._catalogue.snapshot():
            liked, disliked = self._keys_of(wanted), self._keys_of(unwanted)
            targets = {}
            for space in self._catalogue.spaces():
                near, far = (self._catalogue.vectors(space, keys)[1] for keys in (liked, disliked))
                if len(near):
                    targets[space] = target(near, far)
            shown = {*liked.tolist(), *disliked.tolist()}
            allowed = None if where is None else self._catalogue.passage_keys(where)
            ranked = self._ranking.nearest(targets, k + len(shown), allowed)
            return hits(self._catalogue, [one for one in ranked if one.key not in shown][:k])

    def _keys_of(self, names: Sequence[str]) -> Keys:
        missing = [name for name in names if not len(self._catalogue.keys_of([name]))]
        if missing:
            raise UsageError(f"no document {missing[0]!r} in {self.folder}")
        return self._catalogue.keys_of(names)

    def _query_vectors(self, asked: Content, mode: Mode) -> dict[str, Floats]:
        """Maps the name of each space whose model reads the query to the vector (dim,) of the query in it."""
        spaces = self._spaces.spaces_for_query(asked.modality)
        by_words = mode != BY_MEANING
        closed = () if spaces else self._spaces.unsearchable_spaces(asked.modality, by_words=by_words)
        if closed:
            raise UsageError(f"{self.folder}: {'; '.join(closed)}")
        return {name: self._spaces[name].encode_query(asked.item) for name in spaces}

    def documents(self, where: Mapping[str, Any] | None = None) -> list[DocumentEntry]:
        """Returns the documents that pass a filter, or all, sorted by id."""
        return self._catalogue.documents(where)

    def unmatched(self, where: Mapping[str, Any]) -> tuple[str, ...]:
        """Explains why a filter passes nothing: a line for each field that no document has, or has with other types."""
        return self._catalogue.unmatched(where)

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

    def check(self) -> list[str]:
        """Checks the files; returns the problems, one line each."""
        return self._catalogue.check() + matrix.problems(self._catalogue, self.folder)

    def unverified(self) -> list[str]:
        """Returns what `check` cannot verify, one line each: content without a checksum, from earlier versions."""
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

    def vacuum(self) -> int:
        """Shrinks the files after documents were removed; returns the number of bytes freed.

        After a large removal, each write also frees some of the space.
        """
        return self._catalogue.vacuum()

    def path_of(self, document: str) -> Path:
        """Returns the file of a document that came from a file."""
        return self._names.path(arguments.text("document", document))


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
