"""The collection: documents, passages, metadata and vectors in one directory; where models and stores meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from omnivec.collection.file_names import FileNames
from omnivec.collection.ranking import Ranking, target
from omnivec.collection.searching import BY_MEANING, HYBRID, WORDS, Mode, Question, answer, hits
from omnivec.collection.spaces import ModelSource, RequestedModels, Spaces
from omnivec.errors import ItemErrors, OmnivecError, UnknownKey, UsageError
from omnivec.inputs import modality as modalities
from omnivec.inputs.content import MAX_BYTES, Content
from omnivec.inputs.items import paths as given_paths
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

if TYPE_CHECKING:  # A search writes nothing and reads no file: it does not wait for what does.
    from omnivec.collection.adding import Added
    from omnivec.collection.syncing import Event, Options, SyncReport

_MOST = 2**40
"""More passages than there can be: who asks for more gets all, and SQLite a number that it can hold."""


class Collection:
    """Documents and their vectors in one directory; safe for several threads, and for several processes.

    Args:
        folder: the directory; made where there is none, unless `create` is False.
        model: what embeds all that it takes, texts or images or both: a name as in `load`, a folder, or an
            Embedder. None takes the models that made the collection, and the defaults for what is new in it.
        models: the same by modality, in place of `model`: {"text": ..., "image": ...}, or one of them.
        create: whether a collection that is not there is made.
        readonly: refuse every change; needs no right to write.
        index: what finds the nearest vectors: "exact" compares all; a name that another package announces may be of
            one that proposes candidates. Of this handle alone; nothing of it is stored.

    Raises:
        CollectionError: there is none, or it cannot be opened.
        IdentityError: a model is not the one that made the vectors.
        UsageError: there is no such index.
    """

    def __init__(
        self,
        folder: str | Path,
        model: ModelSource | None = None,
        *,
        models: Mapping[str, ModelSource] | None = None,
        create: bool = True,
        readonly: bool = False,
        index: str = "exact",
    ) -> None:
        self.folder = arguments.path("folder", folder).absolute()
        create, readonly = arguments.flag("create", create), arguments.flag("readonly", readonly)
        requested = RequestedModels.of(model, models)
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
        """Closes the files; safe to call twice."""
        self._catalogue.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """How many documents there are."""
        return self.counts().documents

    def __contains__(self, document: object) -> bool:
        """Whether there is a document of this id, or of this file where a pathlib.Path is given."""
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

    # The models.

    @property
    def model(self) -> Embedder:
        """What embeds texts, loaded when first asked for and known to be the one that made their vectors."""
        return self._spaces.model(modalities.written())

    @property
    def models(self) -> Mapping[str, Embedder]:
        """Name of each recorded space -> its model, loaded when it is looked up."""
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
        """Adds items, or replaces those whose id is there; equal content is not embedded again.

        Args:
            items: one item or several: a str is a text, a pathlib.Path a file of text or an image, a PIL image or
                uint8 (h, w, 3) an image.
            ids: one for each; None names texts and images in memory by the hash of their content, files by their path.
            metadata: one for each, or one for all; JSON's types.
            show_progress_bar: progress on stderr; None in a terminal or a notebook, once it lasts.

        Returns:
            What was done. When `add` returns, it is on disk.

        Raises:
            ItemErrors: some items failed; the others are in, .partial says which.
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
        """Brings folders and files in: what is new or changed is embedded, what is provably gone is removed.

        Args:
            paths: folders and files; None for those that were synced before.
            hidden: whether files and folders whose name begins with a dot are taken.
            encoding: of files of text that are not UTF-8 and do not name their own, one or several: the first that can
                read the file. Each document keeps its encoding for later runs.
            max_bytes: largest file.
            dry_run: only say what would be done.
            on_event: called for each document after the commit that holds it.
            say: is told, in one line, when another process has to be waited for.
            wait: seconds to wait for another sync of this collection; None for as long as it takes.
            show_progress_bar: progress on stderr; None in a terminal or a notebook, once it lasts.

        Raises:
            CollectionBusy: another sync took longer than `wait`.
        """
        named = paths is not None
        if paths is None:
            paths = [self.path_of(root) for root in self.roots()]
            if not paths:
                raise UsageError(f"nothing was brought into {self.folder} yet: name files or folders")
        roots = list(given_paths(paths))
        dry_run, hidden = arguments.flag("dry_run", dry_run), arguments.flag("hidden", hidden)
        max_bytes = arguments.whole("max_bytes", max_bytes)
        from omnivec.collection.syncing import Options
        from omnivec.inputs.files.read import checked_encodings

        options = Options(hidden, checked_encodings(encoding), max_bytes, dry_run, show_progress_bar, named)
        if dry_run:  # Changes nothing: it waits for nobody, and needs no model.
            return self._sync(roots, options, on_event)
        with writer_lock(self.folder, None if wait is None else arguments.real("wait", wait, 0), say):
            before = set(self._spaces.records())
            report = self._sync(roots, options, on_event)
        now = set(self._spaces.records())
        if now != before and len(now) > 1:  # Said once; `collection status` says it again.
            closed = (line for one in modalities.readable() for line in self.unreached(one))
            report.warnings += dict.fromkeys(closed)
        if report.passages or report.removed:
            # Commands that search open the collection to read: they use the matrix files, and do not write them.
            for space in self._spaces.records():
                matrix.load(self._catalogue, self.folder, space)
        return report

    def _sync(
        self, roots: Sequence[Path], options: Options, on_event: Callable[[Event], None] | None
    ) -> SyncReport:
        from omnivec.collection.syncing import Sync

        return Sync(self._catalogue, self._names, self._spaces, options, on_event or _ignore).run(roots)

    def delete(self, ids: str | Sequence[str]) -> int:
        """Removes documents; returns how many there were."""
        return self._catalogue.delete(texts(ids, "ids"))

    # Reading.

    def get(self, ids: str | Sequence[str]) -> list[DocumentEntry]:
        """The documents of some ids, one or several, in their order.

        Raises:
            UnknownKey: there is none of an id.
        """
        named = texts(ids, "ids")
        entries = {entry.id: entry for entry in self._catalogue.documents(ids=list(dict.fromkeys(named)))}
        if missing := [name for name in named if name not in entries]:
            raise UnknownKey(f"no document {missing[0]!r} in {self.folder}")
        return [entries[name] for name in named]

    def search(
        self,
        query: Any,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        *,
        under: str | Path | None = None,
        per_document: bool = False,
    ) -> list[Hit]:
        """The k passages that answer a query best, of all spaces whose model reads it.

        Args:
            query: a str is a text, a pathlib.Path a file whose content is sought, a PIL image or uint8 (h, w, 3) an
                image.
            k: how many.
            where: a filter on metadata: {"year": {"$gte": 2024}}; see docs/collection.md.
            mode: "vector" by meaning, "text" by words (BM25), "hybrid" by both (reciprocal rank fusion); None is
                "hybrid" for a text, and "vector" for an image or where no passage has words.
            under: a folder, or a file, that the documents found must be files of.
            per_document: show each document by its best passage alone, so that one long file does not fill all places.

        Raises:
            ItemError: the query cannot be read.
            FilterError: `where` cannot be read.
            UsageError: no space has a model that reads such a query, or an image is to be found by its words.
        """
        if mode is not None:
            mode = arguments.choice("mode", mode, get_args(Mode))
        k = min(arguments.whole("k", k), _MOST)
        asked = content_of(query)
        in_words = asked.modality == modalities.written()
        if mode is None:
            mode = HYBRID if in_words and self._catalogue.has_words() else BY_MEANING
        if not in_words and mode != BY_MEANING:
            one = modalities.get(asked.modality).one
            raise UsageError(
                f"mode={mode!r} looks for words, and the query is {one}: mode='vector' finds by it"
            )
        vectors = self._query_vectors(asked) if mode != WORDS else {}
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

    def _allowed(self, where: Mapping[str, Any] | None, under: str | Path | None) -> Keys | None:
        """Keys of the only passages that may be found; None for all."""
        allowed = None if where is None else self._catalogue.passage_keys(where)
        if under is None:
            return allowed
        below = self._catalogue.keys_under(self._names.of(arguments.path("under", under)))
        if not len(below):
            raise UsageError(
                f"no document of {self.folder} is a file in {under}; roots are: {', '.join(self.roots()) or 'none'}"
            )
        return below if allowed is None else np.intersect1d(allowed, below, assume_unique=True)

    def unreached(self, modality: ModalityName) -> tuple[str, ...]:
        """What a query of a modality cannot find, because no model there reads it: one line for each such space."""
        return self._spaces.unsearchable_spaces(arguments.choice("modality", modality, modalities.names()))

    def recommend(
        self,
        like: str | Sequence[str],
        unlike: str | Sequence[str] = (),
        k: int = 10,
        where: Mapping[str, Any] | None = None,
    ) -> list[Hit]:
        """Passages near the documents one likes and far from those one does not, none of them among the hits.

        In each space that holds something liked, the target is mean(like) + (mean(like) - mean(unlike)).

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

    def _query_vectors(self, asked: Content) -> dict[str, Floats]:
        """Name of each space whose model reads such a query -> the query's vector (dim,) there."""
        spaces = self._spaces.spaces_for_query(asked.modality)
        closed = () if spaces else self._spaces.unsearchable_spaces(asked.modality)
        if closed:
            raise UsageError(f"{self.folder}: {'; '.join(closed)}")
        return {name: self._spaces[name].encode_query(asked.item) for name in spaces}

    def documents(self, where: Mapping[str, Any] | None = None) -> list[DocumentEntry]:
        """The documents, by id; those that pass a filter."""
        return self._catalogue.documents(where)

    def unmatched(self, where: Mapping[str, Any]) -> tuple[str, ...]:
        """Why a filter passes nothing: one line for each field that no document has, or has with another type only."""
        return self._catalogue.unmatched(where)

    def counts(self) -> Counts:
        """How much there is: documents, passages, vectors, bytes, tokens cut off."""
        return self._catalogue.counts()

    def roots(self) -> tuple[str, ...]:
        """The folders and files that were synced."""
        return self._catalogue.roots()

    def space(self) -> SpaceRecord | None:
        """The vector space of texts and its maker, or the only one; None while nothing was added."""
        return self._spaces.recorded(modalities.written()) or next(iter(self.spaces().values()), None)

    def spaces(self) -> dict[str, SpaceRecord]:
        """All vector spaces with their makers, by name: "text", "image", or "text+image" where one model takes both."""
        return self._spaces.records()

    def check(self) -> list[str]:
        """Problems of the files, one line each; empty where all is well."""
        return self._catalogue.check() + matrix.problems(self._catalogue, self.folder)

    def unverified(self) -> list[str]:
        """What `check` could not verify, one line each: an earlier version wrote no checksum, the next write does."""
        return self._catalogue.unverified()

    def backup(self, folder: str | Path) -> None:
        """Copies the collection, as it is now, to a folder that is not there yet; it may be read and written meanwhile.

        The copy is checked, and takes its name when it is whole. Copying the files by other means is safe only while
        nobody has the collection open.

        Raises:
            CollectionError: the folder is there or cannot be written; CollectionDamaged: this collection is not sound.
        """
        copies.back_up(self._catalogue, arguments.path("folder", folder))

    @staticmethod
    def restore(source: str | Path, folder: str | Path, *, aside: bool = False) -> Path | None:
        """Puts a copy of a backup in the place of a collection.

        Args:
            source: the backup's folder.
            folder: the collection's; what handles have open there, they will report as replaced.
            aside: a collection that is there is renamed; else it is refused.

        Returns:
            What the collection that was there is called now; None where there was none.

        Raises:
            CollectionError: something is there, or cannot be written; CollectionDamaged: the backup is not sound.
        """
        return copies.restore(
            arguments.path("source", source),
            arguments.path("folder", folder),
            aside=arguments.flag("aside", aside),
        )

    def vacuum(self) -> int:
        """Makes the files as small as what they hold; returns how many bytes were given back.

        After a large removal some of it happens by itself with each write.
        """
        return self._catalogue.vacuum()

    def path_of(self, document: str) -> Path:
        """The file of a document that came from one."""
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
    """What `sync` would do to a collection that is not there yet; makes none. See `Collection.sync`."""
    from omnivec.collection.syncing import Options, Sync
    from omnivec.inputs.files.read import checked_encodings

    options = Options(hidden, checked_encodings(encoding), max_bytes, True, show_progress_bar)
    names, handler = FileNames(arguments.path("folder", folder).absolute().parent), on_event or _ignore
    with TemporaryDirectory() as scratch, Catalogue.open(Path(scratch), create=True) as empty:
        sync = Sync(empty, names, Spaces(empty, RequestedModels()), options, handler)
        return sync.run(list(given_paths(paths)))


def _ignore(event: Event) -> None:
    pass
