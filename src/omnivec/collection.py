"""The collection: documents, passages, metadata and vectors in one directory; where models and stores meet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Literal, get_args

import numpy as np

from omnivec import hub, identity
from omnivec.adding import Added, Adding, items_of
from omnivec.embedder import DEFAULT_MODEL, Embedder
from omnivec.errors import CollectionError, ItemErrors, OmnivecError, UsageError
from omnivec.loading import load
from omnivec.media import text
from omnivec.passages import Cutting
from omnivec.store import matrix
from omnivec.store.exact import ExactIndex
from omnivec.store.lock import writer_lock
from omnivec.store.records import Counts, Entry, Found, SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.syncing import Event, FileNames, Options, Sync, SyncReport
from omnivec.types import Floats, Hit, Keys

SPACE = "text"
Mode = Literal["vector", "text", "hybrid"]

RRF = 60
"""The constant of reciprocal rank fusion: Cormack, Clarke, Buettcher 2009."""

_DEEP = 50


class Collection:
    """Documents and their vectors in one directory; safe for several threads, and for several processes.

    Args:
        folder: the directory; made where there is none, unless `create` is False.
        model: what embeds: a name as in `load`, a folder, or an Embedder. None takes the model that made the
            collection, or for a new one the default.
        models: the same by space, in place of `model`; this version has the space "text".
        create: whether a collection that is not there is made.
        readonly: refuse every change; needs no right to write.

    Raises:
        CollectionError: there is none, or it cannot be opened.
        IdentityError: `model` is not the one that made the vectors.
    """

    def __init__(
        self,
        folder: str | Path,
        model: str | Path | Embedder | None = None,
        *,
        models: Mapping[str, str | Path | Embedder] | None = None,
        create: bool = True,
        readonly: bool = False,
    ) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._given = _one_model(model, models)
        self._names = FileNames(self.folder.parent)
        self._catalogue = Catalogue.open(self.folder, create=create and not readonly, readonly=readonly)
        self._lock = threading.RLock()
        self._model: Embedder | None = None
        self._matched = False
        self._checked = False
        self._index: tuple[tuple[int, int], ExactIndex] | None = None
        recorded = self._space()
        try:
            if recorded is not None and self._given is not None and str(self._given) != recorded.model:
                self.model  # noqa: B018  another model than the recorded one is refused at once
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

    # The model, and whether it is the right one.

    @property
    def model(self) -> Embedder:
        """What embeds, loaded when first asked for and known to be the one that made the vectors."""
        with self._lock:
            recorded = self._space() if self._model is None or not self._matched else None
            model = self._model or self._load(recorded)
            if recorded is not None:  # Also where another process recorded it after the model was loaded.
                identity.check_same(recorded.identity, self._identity(model), SPACE)
                self._matched = True
            self._model = model
            return model

    def _identity(self, model: Embedder) -> dict[str, Any]:
        """The model's identity; of one that was handed in, the files may have changed since it was loaded."""
        if isinstance(self._given, Embedder):
            return identity.json_of(model.identity)
        return identity.identity_of(model, hub.cache_folder() / "identities.json")

    def _load(self, recorded: SpaceRecord | None) -> Embedder:
        if isinstance(self._given, Embedder):
            return self._given
        name = self._given or (recorded.model if recorded is not None else DEFAULT_MODEL)
        try:
            return load(name)
        except OmnivecError as error:
            if self._given is None and recorded is not None:
                raise CollectionError(
                    f"{self.folder} was made by {name!r}, which cannot be loaded: {error}"
                ) from error
            raise

    def _space(self) -> SpaceRecord | None:
        return self._catalogue.spaces().get(SPACE)

    def _writer(self) -> Embedder:
        """The model, with its space recorded and its canaries checked: what every write of vectors needs."""
        with self._lock:
            model, recorded = self.model, self._space()
            if self._checked:
                return model
            if recorded is None:
                recorded = self._claim(model)
            identity.check_canaries(recorded.canaries, model, SPACE)
            self._checked = True
            return model

    def _claim(self, model: Embedder) -> SpaceRecord:
        """The space, recorded as made by this model; IdentityError where another process was first with another."""
        own = SpaceRecord(
            SPACE,
            model.name,
            model.dim,
            model.metric,
            self._identity(model),
            dict(model.provenance),
            identity.canaries_of(model),
        )
        recorded = self._catalogue.claim_space(own)
        identity.check_same(recorded.identity, own.identity, SPACE)
        return recorded

    def _cutting(self) -> Cutting:
        recorded = self._space()
        if recorded is not None:
            return Cutting(int(recorded.identity["preprocessing"]["limit"]))
        return Cutting(self._writer().max_length)

    # Writing.

    def add(
        self,
        items: Any,
        ids: Sequence[str] | str | None = None,
        metadata: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    ) -> Added:
        """Adds items, or replaces those whose id is there; equal content is not embedded again.

        Args:
            items: one item or several: a str is a text, a pathlib.Path a text file.
            ids: one for each; None names a text by the hash of its content and a file by its path.
            metadata: one for each, or one for all; JSON's types.

        Returns:
            What was done. When `add` returns, it is on disk.

        Raises:
            ItemErrors: some items failed; the others are in, .partial says which.
        """
        listed = items_of(items, ids, metadata)
        added = Adding(self._catalogue, self._names, self._writer, SPACE, self._cutting()).run(listed)
        if added.failures:
            raise ItemErrors(added.failures, added)
        return added

    def sync(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        hidden: bool = False,
        encoding: str | None = None,
        max_bytes: int = 64 * 2**20,
        dry_run: bool = False,
        on_event: Callable[[Event], None] | None = None,
        say: Callable[[str], None] | None = None,
        wait: float | None = 60.0,
    ) -> SyncReport:
        """Brings folders and files in: what is new or changed is embedded, what is provably gone is removed.

        Args:
            paths: folders and files.
            hidden: whether files and folders whose name begins with a dot are taken.
            encoding: of all files; None finds it out.
            max_bytes: largest file.
            dry_run: only say what would be done.
            on_event: called for each document after the commit that holds it.
            say: is told, in one line, when another process has to be waited for.
            wait: seconds to wait for another sync of this collection; None for as long as it takes.

        Raises:
            CollectionBusy: another sync took longer than `wait`.
        """
        named = [paths] if isinstance(paths, str | Path) else list(paths)
        if "" in named:
            raise UsageError("an empty path names no folder; the current one is '.'")
        roots = [Path(path).expanduser() for path in named]
        options, tell = Options(hidden, encoding, max_bytes, dry_run), on_event or _ignore
        if dry_run:  # Changes nothing: it waits for nobody, and needs no model.
            cutting = Cutting(0) if self._space() is None else self._cutting()
            return Sync(self._catalogue, self._names, self._writer, SPACE, cutting, options, tell).run(roots)
        with writer_lock(self.folder, wait, say):
            cutting = self._cutting()
            run = Sync(self._catalogue, self._names, self._writer, SPACE, cutting, options, tell)
            report = run.run(roots)
        if report.passages or report.removed:
            # Commands that search open the collection to read: they use the matrix file, and do not write it.
            matrix.load(self._catalogue, self.folder, SPACE)
        return report

    def delete(self, ids: str | Sequence[str]) -> int:
        """Removes documents; returns how many there were."""
        return self._catalogue.delete([ids] if isinstance(ids, str) else list(ids))

    # Reading.

    def search(
        self,
        query: str | Path,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        mode: Mode = "vector",
    ) -> list[Hit]:
        """The k passages that answer a query best.

        Args:
            query: a str is a text, a pathlib.Path a file whose content is sought.
            k: how many.
            where: a filter on metadata: {"year": {"$gte": 2024}}; see docs/collection.md.
            mode: "vector" by meaning, "text" by words (BM25), "hybrid" by both (reciprocal rank fusion).

        Raises:
            ItemError: the query cannot be read.
            FilterError: `where` cannot be read.
        """
        if mode not in get_args(Mode):
            raise UsageError(f"mode={mode!r} is none of {', '.join(get_args(Mode))}")
        if k < 1:
            raise UsageError(f"k={k}: at least 1")
        question = text.decode(query)
        vector = self._query_vector(question) if mode != "text" else None
        with self._catalogue.snapshot():
            allowed = None if where is None else self._catalogue.passage_keys(where)
            deep = k if mode != "hybrid" else max(_DEEP, 4 * k)
            by_vector = [] if vector is None else self._nearest(vector, deep, allowed)
            by_text = [] if mode == "vector" else self._catalogue.text_search(question, deep, allowed)
            ranked = by_vector or by_text if mode != "hybrid" else _fused(by_vector, by_text)
            return self._hits(ranked[:k], "text search" if mode == "text" else SPACE)

    def recommend(
        self,
        like: str | Sequence[str],
        unlike: str | Sequence[str] = (),
        k: int = 10,
        where: Mapping[str, Any] | None = None,
    ) -> list[Hit]:
        """Passages near the documents one likes and far from those one does not, none of them among the hits.

        The target is mean(like) + (mean(like) - mean(unlike)).

        Raises:
            UsageError: an id is not in the collection, or `like` is empty.
        """
        if k < 1:
            raise UsageError(f"k={k}: at least 1")
        wanted, unwanted = ([names] if isinstance(names, str) else list(names) for names in (like, unlike))
        if not wanted:
            raise UsageError("recommend needs at least one id in `like`")
        with self._catalogue.snapshot():
            target = self._mean(wanted)
            if unwanted:
                target = 2 * target - self._mean(unwanted)
            shown = self._catalogue.keys_of([*wanted, *unwanted])
            allowed = None if where is None else self._catalogue.passage_keys(where)
            ranked = self._nearest(target, k + len(shown), allowed)
            return self._hits([hit for hit in ranked if hit[0] not in set(shown.tolist())][:k], SPACE)

    def _mean(self, names: Sequence[str]) -> Floats:
        missing = [name for name in names if not len(self._catalogue.keys_of([name]))]
        if missing:
            raise UsageError(f"no document {missing[0]!r} in {self.folder}")
        vectors: Floats = self._catalogue.vectors(SPACE, self._catalogue.keys_of(names))[1]
        return np.asarray(vectors.mean(axis=0), np.float32)

    def _query_vector(self, question: str) -> Floats | None:
        if self._space() is None:  # Nothing was ever added: nothing can be near.
            return None
        return self.model.encode_query(question)

    def _nearest(self, vector: Floats, k: int, allowed: Keys | None) -> list[tuple[int, float]]:
        index = self._exact()
        keys, scores = index.search(vector[None], max(1, min(k, len(index))), allowed)
        return [
            (key, score) for key, score in zip(keys[0].tolist(), scores[0].tolist(), strict=True) if key >= 0
        ]

    def _exact(self) -> ExactIndex:
        """The index of this state of the catalogue; made again after a write."""
        with self._lock:
            state, space = self._catalogue.changes(), self._space()
            if space is None:
                raise CollectionError(f"{self.folder} is empty: add something first")
            if self._index is None or self._index[0] != state:
                keys, vectors = matrix.load(self._catalogue, self.folder, SPACE)
                self._index = (state, ExactIndex(space.dim, space.metric, keys, vectors))
            return self._index[1]

    def _hits(self, ranked: Sequence[tuple[int, float]], space: str) -> list[Hit]:
        found = self._catalogue.passages(np.array([key for key, _ in ranked], np.int64))
        return [_hit(found[key], score, space) for key, score in ranked if key in found]

    def documents(self, where: Mapping[str, Any] | None = None) -> list[Entry]:
        """The documents, by id; those that pass a filter."""
        return self._catalogue.documents(where)

    def counts(self) -> Counts:
        """How much there is: documents, passages, vectors, bytes, tokens cut off."""
        return self._catalogue.counts()

    def roots(self) -> tuple[str, ...]:
        """The folders and files that were synced."""
        return self._catalogue.roots()

    def space(self) -> SpaceRecord | None:
        """The vector space and its maker; None while nothing was added."""
        return self._space()

    def check(self) -> list[str]:
        """Problems of the files, one line each; empty where all is well."""
        return self._catalogue.check()

    def path_of(self, document: str) -> Path:
        """The file of a document that came from one."""
        return self._names.path(document)


def preview(
    folder: str | Path,
    paths: Sequence[str | Path],
    *,
    hidden: bool = False,
    encoding: str | None = None,
    max_bytes: int = 64 * 2**20,
    on_event: Callable[[Event], None] | None = None,
) -> SyncReport:
    """What `sync` would do to a collection that is not there yet; makes none. See `Collection.sync`."""
    options = Options(hidden, encoding, max_bytes, dry_run=True)
    names, tell = FileNames(Path(folder).expanduser().absolute().parent), on_event or _ignore
    with TemporaryDirectory() as scratch, Catalogue.open(Path(scratch), create=True) as empty:
        sync = Sync(empty, names, load, SPACE, Cutting(0), options, tell)
        return sync.run([Path(path).expanduser() for path in paths])


def _one_model(
    model: str | Path | Embedder | None, models: Mapping[str, str | Path | Embedder] | None
) -> str | Path | Embedder | None:
    if models is None:
        return model
    if model is not None or set(models) != {SPACE}:
        raise UsageError(
            f"models={sorted(models)}: give either model=, or models= with the one space {SPACE!r}"
        )
    return models[SPACE]


def _ignore(event: Event) -> None:
    pass


def _fused(*lists: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Reciprocal rank fusion: the sum of 1 / (60 + rank) over the lists; ties to the smaller key."""
    scores: dict[int, float] = {}
    for ranked in lists:
        for rank, (key, _) in enumerate(ranked, 1):
            scores[key] = scores.get(key, 0.0) + 1 / (RRF + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def _hit(found: Found, score: float, space: str) -> Hit:
    return Hit(
        id=f"{found.document}#{found.ordinal}",
        document=found.document,
        span=(found.start, found.end),
        line=found.line,
        modality=found.modality,
        space=space,
        score=score,
        text=found.text,
        metadata=found.metadata,
    )
