"""Checks of the contracts that families, embedders, modalities and vector indexes fulfil, for use in tests.

They apply to the implementations of omnivec and to those of other packages. Each check raises an AssertionError with
the numbers. `check_family` takes the folder of a model, so that the test of a new family needs one line for it;
`check_embedder` takes any model and items that it reads; `check_modality` takes a model, items and files of one
modality; `check_index` takes a function that makes an empty index.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from omnivec.store.indexes.base import ApproximateIndex, VectorIndex
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
    """Loads a model from a folder, without the hub.

    Args:
        folder: folder of the model.
        engine: "openvino" or "torch".
        precision: precision of the computation, such as "float32".
        deterministic: whether the vector of an item must not depend on the other items of its batch.
    """
    choice = Choice(engine=engine, precision=precision, deterministic=deterministic)
    return Embedder(
        Network.of(read_model(folder), choice, Path(tempfile.gettempdir()) / "trials.json"),
        str(folder),
        "path",
    )


def difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest absolute difference of two arrays, divided by the largest absolute value of b."""
    return float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-12))


def check_close(a: NDArray[Any], b: NDArray[Any], what: str, limit: float = CLOSE) -> None:
    """Checks that two arrays have one shape, and that their `difference` is at most `limit`.

    Args:
        a: the result; all its values must be finite.
        b: the reference.
        what: name of the result, for the message.
        limit: largest relative difference.

    Raises:
        AssertionError: the arrays differ; the message has both shapes or the difference.
    """
    if a.shape != b.shape:
        raise AssertionError(f"{what}: shape {a.shape}, expected {b.shape}")
    if not np.isfinite(a).all():
        raise AssertionError(f"{what}: {int((~np.isfinite(a)).sum())} of {a.size} values are not finite")
    if a.size and difference(a, b) > limit:
        raise AssertionError(f"{what}: relative difference {difference(a, b):.2e}, allowed {limit:.0e}")


def check_family(folder: Path, items: Sequence[Any] = TEXTS, *, texts: Sequence[str] | None = None) -> None:
    """Checks that a model and its family fulfil the contract of families, for any modality.

    The family must define all hooks that it needs and no unknown ones; the model must pass `check_embedder`; both
    engines must give the same vectors; with `deterministic`, a vector must depend on its item alone.

    Args:
        folder: folder of the model; for a table, its file or folder.
        items: items that the model can embed; texts by default.
        texts: former name of `items`.

    Raises:
        AssertionError: the contract is broken; the message has the numbers.
        ModelError: a hook of the family is missing or unknown.
    """
    listed, is_network = list(items if texts is None else texts), not is_table(folder)
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
    """Checks that an embedder fulfils the contract of embedders.

    A vector must not depend on the batch, the order of the items or other threads; an empty list must be accepted; an
    invalid item must be named without affecting the others; `run` and `stream` must give the vectors of `encode`; a
    model that is saved and loaded must have the same identity and give the same vectors, for the items and for the
    canaries. Saving one side of a joint model must be refused.

    Args:
        model: any embedder.
        items: at least two different items that the model can embed.

    Raises:
        AssertionError: the contract is broken; the message has the numbers.
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
    """Checks `run` and `stream`: their vectors, and the counts and indices that come with these."""
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
    """Checks that a comparison with a reference can fail: that a wrong variant of a formula does not pass it.

    Args:
        got: result of the wrong variant.
        reference: what the right formula gives.
        variant: description of the variant, for the message.
        limit: the relative difference that the variant must exceed.

    Raises:
        AssertionError: the variant is within `limit` of the reference.
    """
    if difference(got, reference) <= limit:
        raise AssertionError(
            f"the wrong variant {variant!r} differs by {difference(got, reference):.1e} only: it would pass"
        )


def check_modality(model: Embedder, items: Sequence[Any], files: Mapping[str, bytes] | None = None) -> None:
    """Checks that a modality fulfils its contract, by means of a model that reads it.

    Items and files must be distinguished from those of all other modalities; reading an item twice must give one hash;
    `seen` and `lost` must be in the modality's unit; passages must lie in their document and have vectors; canaries
    must be items of the modality and must detect a different model; a collection must accept items and files, and find
    each when it is the query.

    Args:
        model: a model that reads the modality and gives the items different vectors.
        items: at least two different items in memory.
        files: maps names to the bytes of files of the modality that can be embedded; None for a modality without files.

    Raises:
        AssertionError: the contract is broken.
    """
    name, named = modality.of(items[0]), dict(files or {})
    record = modality.get(name)
    for item in items:
        accepting = [other.name for other in modality.modalities().values() if other.accepts(item)]
        if accepting != [name]:
            raise AssertionError(f"{item!r} is accepted by {accepting}, expected {[name]}")
    if (unit := model.run(list(items)).unit) != record.unit:
        raise AssertionError(f"run counts {unit}, and the modality {record.unit}")
    _check_contents(record, items, named)
    _check_canaries(model, record)
    with tempfile.TemporaryDirectory() as place:
        _check_found_again(model, record, items, named, Path(place))


def _check_contents(record: Modality, items: Sequence[Any], files: Mapping[str, bytes]) -> None:
    """Checks how items and files are read, without a model."""
    once, again = ([content_of(item) for item in items] for _ in range(2))
    digests = [one.digest for one in once]
    if digests != [one.digest for one in again] or len(set(digests)) != len(items):
        raise AssertionError(
            f"{record.name}: reading items twice gave other hashes, or two items have one hash"
        )
    if wrong := [one.modality for one in once if one.modality != record.name]:
        raise AssertionError(f"an item of {record.name} has the content of {wrong[0]}")
    for one in once:
        json.dumps(dict(one.facts), allow_nan=False)
    for file, data in files.items():
        by_name, by_bytes = modality.of_name(Path(file)), modality.of_file(Path("without suffix"), data)
        if by_name != record.name or by_bytes not in (record.name, modality.written()):
            raise AssertionError(
                f"{file} is {by_name} by its name and {by_bytes} by its first bytes, expected {record.name}"
            )


def _check_canaries(model: Embedder, record: Modality) -> None:
    canaries = record.canaries
    items = [canaries.make(name) for name in canaries.names]
    found = {modality.of(item) for item in items}
    if not items or found != {record.name} or not all(n.startswith(canaries.prefix) for n in canaries.names):
        raise AssertionError(
            f"canaries {canaries.names} are {sorted(found)}, expected {[record.name]} and names that begin with "
            f"{canaries.prefix!r}"
        )
    recorded = canaries_of(model)
    if missing := set(canaries.names) - {name for name, _ in recorded}:
        raise AssertionError(f"{model.name} gives no vectors of the canaries {missing}")
    check_canaries(recorded, model, record.name)
    try:
        check_canaries(tuple((name, -vector) for name, vector in recorded), model, record.name)
    except IdentityError:
        return
    raise AssertionError("canaries whose vectors have the opposite sign were accepted")


def _check_found_again(
    model: Embedder, record: Modality, items: Sequence[Any], files: Mapping[str, bytes], place: Path
) -> None:
    """Checks that a collection accepts items and files, and finds each when it is the query."""
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
            raise AssertionError(f"{report.new} of {len(files)} files were added: {report.failed}")
        for item, document in [
            *zip(items, ids, strict=True),
            *((folder / name, f"files/{name}") for name in files),
        ]:
            _check_hit(notes, record, item, document)
        if notes.add(list(items), ids=ids).unchanged != len(items) or notes.check(deep=True):
            raise AssertionError(
                f"adding the same items again changed them, or the collection has problems: {notes.check(deep=True)}"
            )


def _check_hit(notes: Collection, record: Modality, item: Any, document: str) -> None:
    hits = [hit for hit in notes.search(item, 100, mode="vector") if hit.document == document]
    if not hits:
        raise AssertionError(f"a search with {document} as the query does not find it")
    for hit in hits:
        if (hit.modality, hit.span_unit) != (record.name, record.span_unit) or hit.span[0] > hit.span[1]:
            raise AssertionError(f"{hit!r} has the span {hit.span} in {hit.span_unit!r} of {hit.modality}")


def check_index(make: Callable[[int, Metric], VectorIndex], seed: int = 0, recall: float = 0.9) -> None:
    """Checks that a vector index fulfils the protocol `store.indexes.base.VectorIndex`.

    Adding, replacing and removing keys must work; a search must find allowed keys only, and fill the places after the
    last vector with key -1 and score -inf. An exact index must find the nearest keys with their scores, an approximate
    one must return candidates without duplicates. If `make` is an `ApproximateIndex`, it must be built from blocks, be
    the same after it was saved and loaded, take vectors after that, and state its recall.

    Args:
        make: the class of the index, which is called with (dim, metric, keys, vectors) too, as a collection does; or a
            function of (dim, metric) that returns an empty index.
        seed: seed of the random vectors.
        recall: for an approximate index, the least share of the 10 nearest keys that must be among 40 candidates, on
            average over the queries.

    Raises:
        AssertionError: the protocol is broken; the message has the numbers.
    """
    rng = np.random.default_rng(seed)
    for metric in get_args(Metric):
        index = make(16, metric)
        if (index.dim, index.metric) != (16, metric):
            raise AssertionError(
                f"made with 16 and {metric!r}, the index has {index.dim} and {index.metric!r}"
            )
        vectors = rng.standard_normal((200, 16)).astype(np.float32)
        keys = rng.permutation(1000)[:200].astype(np.int64)
        index.add(keys[:120], rng.standard_normal((120, 16)).astype(np.float32))  # replaced by the next
        index.add(keys[:120], vectors[:120])
        index.add(keys[120:], vectors[120:])
        queries = rng.standard_normal((20, 16)).astype(np.float32)
        # An index of the first protocol, which had no `exact` and which no collection called, is exact.
        exact = getattr(index, "exact", None)
        check = partial(_check_candidates, recall=recall) if exact is False else _check_found
        check(index, keys, vectors, queries, None)
        check(index, keys, vectors, queries, np.sort(keys[::3]))
        if isinstance(make, type) and exact is not None:
            _check_built(make, metric, check, keys, vectors, queries)
            if isinstance(index, ApproximateIndex):
                _check_stored(make, metric, check, keys, vectors, queries)
        index.remove(keys[:50])
        check(index, keys[50:], vectors[50:], queries, None)
        if len(index) != 150:
            raise AssertionError(f"{metric}: {len(index)} vectors after removal, expected 150")
        found, scores = index.search(queries, 500)
        if (found[:, 150:] != -1).any() or np.isfinite(scores[:, 150:]).any():
            raise AssertionError(f"{metric}: places after the last vector are not (-1, -inf)")


def _scores(
    metric: Metric, keys: Keys, vectors: Floats, queries: Floats, allowed: Keys | None
) -> NDArray[np.float64]:
    """Scores (queries, vectors) in float64; -inf for keys that are not allowed."""
    exact, wide = vectors.astype(np.float64), queries.astype(np.float64)
    scores: NDArray[np.float64] = wide @ exact.T
    if metric == "cosine":
        scores /= np.linalg.norm(wide, axis=1)[:, None] * np.linalg.norm(exact, axis=1)
    elif metric == "euclidean":
        scores = -np.linalg.norm(wide[:, None] - exact, axis=2)
    if allowed is not None:
        scores[:, ~np.isin(keys, allowed)] = -np.inf
    return scores


def _check_built(
    make: type, metric: Metric, check: Callable[..., None], keys: Keys, vectors: Floats, queries: Floats
) -> None:
    """Checks an index that is made with its vectors, as a collection makes it: keys ascending, arrays read-only."""
    order = np.argsort(keys)
    given = keys[order], vectors[order]
    for array in given:
        array.setflags(write=False)
    try:
        built = make(16, metric, *given)
    except TypeError as error:
        raise AssertionError(
            f"{make.__name__}(dim, metric, keys, vectors), as a collection calls it: {error}"
        ) from error
    check(built, keys, vectors, queries, None)


def _check_stored(
    make: Any, metric: Metric, check: Callable[..., None], keys: Keys, vectors: Floats, queries: Floats
) -> None:
    """Checks building from blocks, saving, loading, and adding to what was loaded."""
    order = np.argsort(keys)
    keys, vectors = keys[order], vectors[order]
    most = len(keys) - 50

    def blocks() -> Iterator[tuple[Keys, Floats]]:
        for start in range(0, most, 60):
            yield keys[start : min(start + 60, most)], vectors[start : min(start + 60, most)]

    empty = make.build(16, metric, 0, lambda: iter(()))
    built = make.build(16, metric, most, blocks)
    if (len(empty), len(built)) != (0, most):
        raise AssertionError(f"{metric}: built of 0 and {most} vectors, they hold {len(empty)}, {len(built)}")
    stated = built.facts.get("recall")
    if not isinstance(stated, float) or not 0 <= stated <= 1 or built.candidates(10) < 10:
        raise AssertionError(
            f"{metric}: the recall stated in `facts` is {stated!r}, which is no number from 0 to 1, or "
            f"{built.candidates(10)} candidates are proposed for 10"
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, index in ("empty", empty), ("built", built):
            index.save(Path(folder, name))
            with Path(folder, name).open("ab") as stream:
                stream.write(b"what follows the index")
        empty, loaded = (make.load(Path(folder, name), 16, metric) for name in ("empty", "built"))
    json.dumps(dict(built.facts))
    same = [
        np.array_equal(*pair)
        for pair in zip(built.search(queries, 40), loaded.search(queries, 40), strict=True)
    ]
    if not all(same) or dict(loaded.facts) != dict(built.facts) or len(empty):
        raise AssertionError(f"{metric}: an index that was saved and loaded does not answer as before")
    loaded.add(keys[most:], vectors[most:])
    empty.add(keys, vectors)
    check(loaded, keys, vectors, queries, None)
    check(empty, keys, vectors, queries, None)


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
    searched = keys if allowed is None else allowed
    for row in found:
        candidates = row[row >= 0]
        if not np.isin(candidates, searched).all() or len(np.unique(candidates)) < len(candidates):
            raise AssertionError(
                f"{index.metric}: found {candidates.tolist()}, with duplicates or keys that are not allowed"
            )
    share = float(np.mean([np.isin(right, row).mean() for right, row in zip(best, found, strict=True)]))
    # With a filter an index may find too few candidates: a collection then compares all allowed vectors.
    if allowed is None and share < recall:
        raise AssertionError(
            f"{index.metric}: {share:.2f} of the 10 best are among 40 candidates, expected {recall:.2f}"
        )
