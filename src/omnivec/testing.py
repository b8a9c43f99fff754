"""The contract suite: what every family, index and collection must do, for ours and for those of others.

Each check raises AssertionError with the numbers. `check_family` takes a model's folder, so a new family is held to
the contract by one line in its test; `check_embedder` takes a model of any kind, and items that it reads;
`check_modality` a model, items and files of one modality.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from omnivec.collection.collection import Collection
from omnivec.collection.identity import canaries_of, check_canaries, json_of
from omnivec.errors import IdentityError, ItemErrors, ModelError
from omnivec.families._hooks import check_hooks
from omnivec.inputs import modality
from omnivec.inputs.modality import Modality
from omnivec.inputs.reading import content_of
from omnivec.models import registry
from omnivec.models.embedder import Embedder
from omnivec.models.loading import load
from omnivec.models.model import read_model
from omnivec.models.network import Choice, Network
from omnivec.models.table import is_table
from omnivec.store.indexes.base import VectorIndex
from omnivec.types import Floats, Keys, Metric

CLOSE = 1e-5
"""Largest difference in float32, relative to the largest value, between a family and its reference."""

TEXTS = (
    "A graph is built straight from the weights.",
    "",
    "naïve café, 北京, 1234567890 – and “quotes”!",
    "one",
    "The quick brown fox jumps over the lazy dog, again and again, " * 8,
    "the engine compiles it once",
    "   leading and trailing blanks   ",
)


def open_model(
    folder: Path, engine: str = "openvino", precision: str = "float32", deterministic: bool = False
) -> Embedder:
    """A model from a folder, on an engine, without the hub."""
    choice = Choice(engine=engine, precision=precision, deterministic=deterministic)
    return Embedder(
        Network.of(read_model(folder), choice, Path(tempfile.gettempdir()) / "trials.json"),
        str(folder),
        "path",
    )


def difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The largest difference, relative to the largest value of b."""
    return float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-12))


def check_close(a: NDArray[Any], b: NDArray[Any], what: str, limit: float = CLOSE) -> None:
    """Raises unless both are of one shape and differ by at most `limit`, relative to the largest value."""
    if a.shape != b.shape:
        raise AssertionError(f"{what}: shape {a.shape}, expected {b.shape}")
    if not np.isfinite(a).all():
        raise AssertionError(f"{what}: {int((~np.isfinite(a)).sum())} of {a.size} values are not finite")
    if a.size and difference(a, b) > limit:
        raise AssertionError(f"{what}: relative difference {difference(a, b):.2e}, allowed {limit:.0e}")


def check_family(folder: Path, items: Sequence[Any] = TEXTS) -> None:
    """Holds a model to the contract of every family, whatever it reads.

    Its family defines all that it needs and nothing misspelt; it is an embedder as `check_embedder` wants it; both
    engines agree; where it is deterministic a vector depends on its item alone.

    Args:
        folder: of the model; of a table a file or folder.
        items: what it reads, each of which has a vector; by default texts.

    Raises:
        AssertionError: what does not hold, with the numbers.
        ModelError: a hook of the family is misspelt or missing.
    """
    listed, is_network = list(items), not is_table(folder)
    model = load(folder, precision="float32") if is_network else load(folder)
    check_hooks(registry.families()[model.card["family"]].load())
    check_embedder(model, listed)
    if is_network:
        torch = load(folder, engine="torch", precision="float32")
        check_close(torch.encode(listed), model.encode(listed), "engine torch against openvino")
    exact = load(folder, deterministic=True) if is_network else model
    alone = np.stack([exact.encode(item) for item in listed])
    if not np.array_equal(exact.encode(listed[::-1])[::-1], alone):
        raise AssertionError("deterministic: a vector depends on its batch")


def check_embedder(model: Embedder, items: Sequence[Any]) -> None:
    """Holds an embedder to the contract of every kind of model.

    A vector does not depend on its batch, its neighbours, the order or other threads; no input is too few; a bad item
    is named and costs only itself; `run` and `stream` give what `encode` gives; what is saved and loaded again has the
    same identity and makes the same vectors, of items and of canaries. One side of a joint model refuses to be saved.

    Args:
        model: any.
        items: at least two different ones that it has a vector of.
    """
    listed = list(items)
    whole = model.encode(listed)
    if whole.shape != (len(listed), model.dim) or whole.dtype != np.float32:
        raise AssertionError(
            f"encode gave {whole.dtype} {whole.shape}, expected float32 {(len(listed), model.dim)}"
        )
    _check_batches(model, listed, whole)
    _check_records(model, listed, whole)
    _check_bad_item(model, listed, whole)
    with tempfile.TemporaryDirectory() as place:
        _check_saved(model, listed, whole, Path(place) / "saved")


def _check_records(model: Embedder, listed: list[Any], whole: NDArray[np.float32]) -> None:
    """`run` and `stream`, whose records say which items they are of."""
    run, streamed = model.run(listed), list(model.stream(iter(listed)))
    for what, encoded in (("run", run), *(("stream", one) for one in streamed)):
        if encoded.kept.tolist() != list(range(len(listed))) or encoded.failures:
            raise AssertionError(f"{what} kept {encoded.kept.tolist()}, and failures are {encoded.failures}")
        if not len(encoded.seen) == len(encoded.lost) == len(listed) or (encoded.seen < 0).any():
            raise AssertionError(
                f"{what}: seen {encoded.seen.tolist()} and lost {encoded.lost.tolist()}, expected one for each item"
            )
        check_close(encoded.vectors, whole, what)
    if len(streamed) != 1 or streamed[0].unit != run.unit:
        raise AssertionError(f"stream gave {len(streamed)} windows of few items, expected 1 in {run.unit}")


def _check_saved(model: Embedder, listed: list[Any], whole: NDArray[np.float32], folder: Path) -> None:
    if model.encoder.card.side_of:
        try:
            model.save(folder)
        except ModelError:
            return
        raise AssertionError(f"one side of a {model.encoder.card.side_of} was saved by itself")
    networks = model.encoder.networks
    again = load(model.save(folder), precision=networks[0].runtime.precision if networks else None)
    if type(again) is not type(model):
        raise AssertionError(f"saved a {type(model).__name__}, loaded a {type(again).__name__}")
    check_close(again.encode(listed), whole, "saved and loaded", 1e-6)
    if json_of(again.identity) != json_of(model.identity):
        raise AssertionError(f"saved {model.identity}, loaded {again.identity}")
    check_canaries(canaries_of(model), again, "saved and loaded")


def _check_batches(model: Embedder, listed: list[Any], whole: NDArray[np.float32]) -> None:
    if model.encode([]).shape != (0, model.dim):
        raise AssertionError(f"encode([]) gave {model.encode([]).shape}, expected {(0, model.dim)}")
    for i, item in enumerate(listed):
        check_close(model.encode(item), whole[i], f"item {i} by itself")
    check_close(model.encode(listed[::-1])[::-1], whole, "in reverse order")
    for size in (1, 2, 3):
        check_close(model.encode(listed, batch_size=size), whole, f"batches of {size}")
    many = listed * 40
    check_close(model.encode(many), np.tile(whole, (40, 1)), "many batches")
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(model.encode, [listed] * 8):
            check_close(got, whole, "from four threads")


def _check_bad_item(model: Embedder, listed: list[Any], whole: NDArray[np.float32]) -> None:
    mixed: list[Any] = [*listed, object()]
    try:
        model.encode(mixed)
    except ItemErrors as error:
        if list(error.failures) != [len(listed)]:
            raise AssertionError(
                f"failures named items {list(error.failures)}, expected [{len(listed)}]"
            ) from None
        check_close(error.partial.vectors, whole, "beside a bad item")
    else:
        raise AssertionError("an object() was embedded as if it were an item")


def check_rejected(
    got: NDArray[Any], reference: NDArray[Any], variant: str, limit: float = 10 * CLOSE
) -> None:
    """Raises if a wrong variant of a formula is as near to the reference as the right one: the test is blind."""
    if difference(got, reference) <= limit:
        raise AssertionError(
            f"the wrong variant {variant!r} differs by {difference(got, reference):.1e} only: it would pass"
        )


def check_modality(model: Embedder, items: Sequence[Any], files: Mapping[str, bytes] | None = None) -> None:
    """Holds a modality to its contract, by a model that reads it.

    Items and files are told from those of all other modalities; what is read twice has one hash; seen and lost are in
    the modality's unit; passages lie in their document and have vectors; canaries are items of the modality and show
    whether a model is the same; a collection takes items and files, and each is found by itself.

    Args:
        model: that reads it, and whose vectors tell the items apart.
        items: in memory, at least two different ones.
        files: name -> bytes of files of the modality, each with a vector; None for a modality without files.

    Raises:
        AssertionError: what does not hold.
    """
    name, named = modality.of(items[0]), dict(files or {})
    record = modality.get(name)
    for item in items:
        takes = [own.name for own in modality.modalities().values() if own.accepts(item)]
        if takes != [name]:
            raise AssertionError(f"{item!r} is taken for {takes}, expected {[name]}")
    if (unit := model.run(list(items)).unit) != record.unit:
        raise AssertionError(f"run counts {unit}, and the modality {record.unit}")
    _check_contents(record, items, named)
    _check_canaries(model, record)
    with tempfile.TemporaryDirectory() as place:
        _check_found_again(model, record, items, named, Path(place))


def _check_contents(record: Modality, items: Sequence[Any], files: Mapping[str, bytes]) -> None:
    """Items and files as they are read, without a model."""
    once, again = ([content_of(item) for item in items] for _ in range(2))
    digests = [one.digest for one in once]
    if digests != [one.digest for one in again] or len(set(digests)) != len(items):
        raise AssertionError(f"{record.name}: a hash is not that of its item alone")
    if wrong := [one.modality for one in once if one.modality != record.name]:
        raise AssertionError(f"an item of {record.name} has the content of {wrong[0]}")
    for one in once:
        json.dumps(dict(one.facts), allow_nan=False)
    for file, data in files.items():
        told = (modality.of_name(Path(file)), modality.of_file(Path("no name that says it"), data))
        if told[0] != record.name or told[1] not in (record.name, modality.written()):
            raise AssertionError(
                f"{file} is told to be {told}, by name and by first bytes: {record.name} is due"
            )


def _check_canaries(model: Embedder, record: Modality) -> None:
    own = record.canaries
    made = [own.make(one) for one in own.names]
    kinds = {modality.of(item) for item in made}
    if not made or kinds != {record.name} or not all(one.startswith(own.prefix) for one in own.names):
        raise AssertionError(f"canaries {own.names} are {sorted(kinds)}, and begin with {own.prefix!r}")
    recorded = canaries_of(model)
    if not set(own.names) <= {one for one, _ in recorded}:
        raise AssertionError(
            f"{model.name} makes no vectors of {set(own.names) - {one for one, _ in recorded}}"
        )
    check_canaries(recorded, model, record.name)
    try:
        check_canaries(tuple((one, -vector) for one, vector in recorded), model, record.name)
    except IdentityError:
        return
    raise AssertionError("canaries with the opposite vectors were believed")


def _check_found_again(
    model: Embedder, record: Modality, items: Sequence[Any], files: Mapping[str, bytes], place: Path
) -> None:
    """A collection takes items and files, and finds each by itself."""
    folder = place / "files"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / f"empty{min(record.suffixes, default='')}").write_bytes(b"")
    with Collection(place / "one.omni", models={record.name: model}) as notes:
        ids = [f"item {i}" for i in range(len(items))]
        notes.add(list(items), ids=ids)
        report = notes.sync(folder)
        if report.new != len(files) or notes.sync(folder).unchanged != len(files):
            raise AssertionError(f"of {len(files)} files {report.new} are new: {report.failed}")
        for item, own in [
            *zip(items, ids, strict=True),
            *((folder / name, f"files/{name}") for name in files),
        ]:
            _check_hit(notes, record, item, own)
        if notes.add(list(items), ids=ids).unchanged != len(items) or notes.check():
            raise AssertionError(
                f"what was added again is changed, or the collection is not sound: {notes.check()}"
            )


def _check_hit(notes: Collection, record: Modality, item: Any, document: str) -> None:
    hits = [hit for hit in notes.search(item, 100, mode="vector") if hit.document == document]
    if not hits:
        raise AssertionError(f"{document} is not found by itself")
    for hit in hits:
        if (hit.modality, hit.span_unit) != (record.name, record.span_unit) or hit.span[0] > hit.span[1]:
            raise AssertionError(f"{hit!r} has the span {hit.span} in {hit.span_unit!r} of {hit.modality}")


def check_index(make: Callable[[int, Metric], VectorIndex], seed: int = 0, recall: float = 0.9) -> None:
    """Holds a vector index to the protocol.

    Keys are kept, removed and replaced, only what is allowed is found, and there are no answers beyond the last vector.
    An index that says it is exact finds the best with their scores; another finds candidates, none of them twice.

    Args:
        make: (dim, metric) -> an empty index.
        seed: of the random vectors.
        recall: of an index that is not exact, the least share of the 10 best that have to be among 40 candidates, on
            average over queries.

    Raises:
        AssertionError: what does not hold, with the numbers.
    """
    rng = np.random.default_rng(seed)
    for metric in get_args(Metric):
        index = make(16, metric)
        if (index.dim, index.metric) != (16, metric):
            raise AssertionError(f"made for 16 and {metric!r}, it says {index.dim} and {index.metric!r}")
        vectors = rng.standard_normal((200, 16)).astype(np.float32)
        keys = rng.permutation(1000)[:200].astype(np.int64)
        index.add(keys[:120], rng.standard_normal((120, 16)).astype(np.float32))  # replaced by the next
        index.add(keys[:120], vectors[:120])
        index.add(keys[120:], vectors[120:])
        queries = rng.standard_normal((20, 16)).astype(np.float32)
        check = _check_found if index.exact else partial(_check_candidates, recall=recall)
        check(index, keys, vectors, queries, None)
        check(index, keys, vectors, queries, np.sort(keys[::3]))
        index.remove(keys[:50])
        check(index, keys[50:], vectors[50:], queries, None)
        if len(index) != 150:
            raise AssertionError(f"{metric}: {len(index)} vectors after removal, expected 150")
        found, scores = index.search(queries, 500)
        if (found[:, 150:] != -1).any() or np.isfinite(scores[:, 150:]).any():
            raise AssertionError(f"{metric}: places behind the last vector are not (-1, -inf)")


def _scores(
    metric: Metric, keys: Keys, vectors: Floats, queries: Floats, allowed: Keys | None
) -> NDArray[np.float64]:
    """(queries, vectors) in float64; -inf for what is not allowed."""
    exact, wide = vectors.astype(np.float64), queries.astype(np.float64)
    scores: NDArray[np.float64] = wide @ exact.T
    if metric == "cosine":
        scores /= np.linalg.norm(wide, axis=1)[:, None] * np.linalg.norm(exact, axis=1)
    elif metric == "euclidean":
        scores = -np.linalg.norm(wide[:, None] - exact, axis=2)
    if allowed is not None:
        scores[:, ~np.isin(keys, allowed)] = -np.inf
    return scores


def _check_found(
    index: VectorIndex, keys: Keys, vectors: Floats, queries: Floats, allowed: Keys | None
) -> None:
    scores = _scores(index.metric, keys, vectors, queries, allowed)
    best = np.argsort(-scores, axis=1)[:, :10]
    found, got = index.search(queries, 10, allowed)
    if not np.array_equal(found, keys[best]):
        raise AssertionError(f"{index.metric}: found {found[0].tolist()}, expected {keys[best][0].tolist()}")
    check_close(got.astype(np.float64), np.take_along_axis(scores, best, 1), f"{index.metric} scores")


def _check_candidates(
    index: VectorIndex, keys: Keys, vectors: Floats, queries: Floats, allowed: Keys | None, recall: float
) -> None:
    best = keys[np.argsort(-_scores(index.metric, keys, vectors, queries, allowed), axis=1)[:, :10]]
    found, _ = index.search(queries, 40, allowed)
    there = keys if allowed is None else allowed
    for row in found:
        own = row[row >= 0]
        if not np.isin(own, there).all() or len(np.unique(own)) < len(own):
            raise AssertionError(
                f"{index.metric}: found {own.tolist()}, with keys twice or that may not be found"
            )
    share = float(np.mean([np.isin(right, row).mean() for right, row in zip(best, found, strict=True)]))
    # Of what a filter leaves an index may find too little: a collection then compares all of it.
    if allowed is None and share < recall:
        raise AssertionError(
            f"{index.metric}: {share:.2f} of the 10 best are among 40 candidates, expected {recall:.2f}"
        )
